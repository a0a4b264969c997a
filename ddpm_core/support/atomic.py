"""Files that appear whole or not at all, whatever ends their writer. Nothing here is about diffusion."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path, before_replacing: Callable[[], None] = lambda: None) -> Iterator[BinaryIO]:
    """A file to write bytes to. It takes the name path, and the place of what was there, when the with block ends well.

    Where the block raises (OSError where the disk is full or the folder read-only), what was at path is untouched.
    before_replacing: called when the new file is on the disk and the old one still there
    """
    unfinished = unfinished_name(path)
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # on the disk before it takes the old one's place, should the power fail
        before_replacing()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path) -> Path:
    """A name beside path for what is not finished, which no other writer has, on whatever machine."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")


def remove_unfinished(*paths: Path) -> None:
    """Removes what processes have left that were killed while they wrote to one of the paths."""
    for path in paths:
        for unfinished in path.parent.glob(f"{escape(path.name)}.*.tmp"):
            unfinished.unlink()
