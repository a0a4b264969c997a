"""Makes .venv ready for the course: python3 .ci/setup.py

Uses the standard library only. Does nothing where everything is already there, and checks what could go wrong before
the long download rather than after it.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
STAMP = VENV / "course-stamp"
# torch for Linux on x86 brings NVIDIA's libraries: 6 GB installed, 3 GB of downloads beside them for a while.
GIGABYTES_NEEDED = 10 if sys.platform == "linux" and platform.machine() == "x86_64" else 4
MATCHING = "import torch, torchvision; print(torch.__version__, torchvision.__version__)"


def main() -> None:
    if sys.version_info < (3, 11):
        stop(
            f"the course needs Python 3.11 or newer; this is {platform.python_version()}: make PYTHON=python3.12 setup"
        )
    if STAMP.is_file() and STAMP.read_text() == fingerprint():
        return
    fresh = not list(VENV.glob("**/site-packages/pip"))  # an interrupted set-up can leave a Python without pip
    if fresh:
        check_disk()
    print(f"Setting up {VENV.name}/ (a few minutes, once).", flush=True)
    began = time.monotonic()
    if fresh:
        make_venv()
    else:
        check_installed()
    check_plan()
    pip("install", "--editable", ".[lab,test]", "--constraint", "constraints.txt")
    check_installed()
    STAMP.write_text(fingerprint())
    print(f"Ready after {time.monotonic() - began:.0f} seconds.", flush=True)


def stop(reason: str) -> None:
    sys.exit(f"\nSet-up stopped: {reason}")


def fingerprint() -> str:
    """Changes whenever the environment has to be made anew; a moved folder counts, as .venv holds its own address."""
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + str(ROOT).encode()).hexdigest()


def check_disk() -> None:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES_NEEDED:
        stop(
            f"torch and the rest need about {GIGABYTES_NEEDED} GB and this disk has {free:.1f} GB free: "
            "make room, or move the course to a larger disk."
        )


def make_venv() -> None:
    try:
        venv.create(VENV, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        stop(f"this Python could not make .venv ({error}); on Debian and Ubuntu, first: sudo apt install python3-venv")


def check_plan() -> None:
    """Asks pip what it would install, which takes seconds, and stops if torch and torchvision are of two builds."""
    request = ["--no-deps", "torch", "torchvision", "--constraint", "constraints.txt"]
    result = pip("install", "--dry-run", "--quiet", "--report", "-", *request, capture=True)
    plan = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(result)["install"]}
    if "torch" not in plan or "torchvision" not in plan:
        return  # one of them is installed already, and check_installed has the last word
    builds = {plan[name].partition("+")[2] for name in ("torch", "torchvision")}
    if len(builds) > 1:
        stop(
            f"pip would install torch {plan['torch']} with torchvision {plan['torchvision']}, two builds that do not "
            "work together: take the odd one out of pip's find-links or extra index (pip config list shows them)."
        )


def check_installed() -> None:
    """Stops if torch and torchvision are both there but cannot be imported together."""
    if not all(list(VENV.glob(f"**/site-packages/{name}-*.dist-info")) for name in ("torch", "torchvision")):
        return
    result = subprocess.run([PYTHON, "-c", MATCHING], capture_output=True, text=True)
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1]
        stop(
            f"torch and torchvision in .venv do not match ({reason}): delete the folder .venv and run make setup again."
        )


def pip(*arguments: str, capture: bool = False) -> str:
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE if capture else None)
    if result.returncode:
        stop("pip could not get what the course needs (its message is above); with a network, run make setup again.")
    return result.stdout


if __name__ == "__main__":
    main()
