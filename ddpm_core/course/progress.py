"""What is done so far: in a small file beside the notebooks, which outlives the kernel."""

import json
import os
from contextlib import suppress
from pathlib import Path

from ddpm_core.support.atomic import atomic_write

in_this_kernel: set[str] = set()  # what counts although no file could be written


def done() -> set[str]:
    """The names of the exercises and gates that are done."""
    kept: set[str] = set()
    if file := _file():
        with suppress(OSError, ValueError, TypeError):  # none yet, or damaged: what this kernel has seen still counts
            kept = set(json.loads(file.read_text(encoding="utf-8")))
    return kept | in_this_kernel


def record(name: str) -> None:
    in_this_kernel.add(name)
    if file := _file():
        with suppress(OSError), atomic_write(file) as new:  # a folder that cannot be written: the kernel remembers it
            new.write(json.dumps(sorted(done())).encode())


def is_kept() -> bool:
    """Whether what is done here should outlive the kernel: not in a test, say, which gives no file for it."""
    return _file() is not None


def _file() -> Path | None:
    """In the folder that the notebook runs in, unless DDPM_PROGRESS names another file, or none: an empty name."""
    name = os.environ.get("DDPM_PROGRESS", ".progress.json")
    return Path(name) if name else None
