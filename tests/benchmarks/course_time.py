"""How long the course takes before and while it is worked through.

notebooks: the seconds that stand in each notebook, of the machine that ran it last (make notebooks), and what they
           would be here, estimated from how fast both machines train, as doctor does
import:    `import ddpm_core` beside the `import torch` in it, each in a fresh interpreter, taking turns
set-up:    `make setup` where all is ready. With --setup also the whole of it, in a clone in a temporary folder: this
           downloads some gigabytes
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, interleaved, parser, report, seconds, target

from ddpm_core.course.doctor import training_rate

IMPORT = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main(argv: list[str] | None = None) -> None:
    options_parser = parser(__doc__)
    options_parser.add_argument("--setup", action="store_true", help="measures the whole set-up, too: it downloads")
    options = options_parser.parse_args(argv)
    notebooks = notebook_rows(training_rate())
    imports, added = import_rows(1 if options.quick else 7)
    set_up = set_up_rows(ROOT, 1 if options.quick else 3)
    if options.setup:
        set_up.append(whole_set_up_row())
    minutes = sum(row["seconds, where it ran"] for row in notebooks) / 60
    ready = next((row["seconds"] for row in set_up if "ready" in row["what"]), None)
    targets = [
        target("import ddpm_core, seconds beyond import torch", added, at_most=0.5),
        target("make setup when ready, seconds", ready, at_most=1),
        target("all notebooks, minutes where they ran", minutes, at_most=20),
    ]
    title = "The course: seconds of notebooks, import and set-up"
    report("course_time", title, [*notebooks, *imports, *set_up], [] if options.quick else targets, options=options)


def notebook_rows(rate: float) -> list[dict]:
    """The stored time of each notebook. rate: how many digits a second this machine trains on."""
    rows = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        measured = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("course", {})
        if measured:
            here = measured["seconds"] * measured["images_per_second"] / rate
            rows.append(
                {"what": path.stem, "seconds, where it ran": measured["seconds"], "seconds, estimated here": here}
            )
    return rows


def import_rows(repeats: int) -> tuple[list[dict], float]:
    """Fresh interpreters, and the median of what the course adds to torch."""
    inside: dict[str, list[float]] = {"torch": [], "ddpm_core": []}

    def import_it(module: str) -> None:
        command = [sys.executable, "-c", IMPORT.format(module)]
        inside[module].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    interleaved({module: lambda module=module: import_it(module) for module in inside}, repeats)
    inside = {module: row[1:] for module, row in inside.items()}  # the first round reads from the disk
    added = statistics.median(
        course - torch for course, torch in zip(inside["ddpm_core"], inside["torch"], strict=True)
    )
    return [{"what": f"import {module}", "seconds": statistics.median(row)} for module, row in inside.items()], added


def set_up_rows(folder: Path, repeats: int) -> list[dict]:
    """make setup where the stamp says that nothing is to do; nothing is measured where it would begin to install."""
    sys.path.insert(0, str(folder / "tools"))
    import setup

    sys.path.pop(0)
    if not shutil.which("make"):
        return []
    if not setup.STAMP.is_file() or setup.STAMP.read_text() != setup.fingerprint():
        print("make setup is left out: .venv is not as it would leave it")
        return []
    command = ["make", "--silent", "setup"]
    times = [seconds(lambda: subprocess.run(command, cwd=folder, check=True)) for _ in range(repeats)]
    return [{"what": "make setup, ready", "seconds": statistics.median(times)}]


def whole_set_up_row() -> dict:
    """make setup in a fresh clone."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "course"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        taken = seconds(lambda: subprocess.run(["make", "setup"], cwd=clone, check=True))
    return {"what": "make setup, from nothing", "seconds": taken}


if __name__ == "__main__":
    main()
