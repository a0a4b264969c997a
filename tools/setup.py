"""Makes .venv ready for the course: python3 tools/setup.py

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
PIP_FAILED = "pip could not get what the course needs (its message is above); with a network, run make setup again."
# The course is offline: JupyterLab asks no question about news, and looks for no newer version of itself.
LAB_SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
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
    pins = plan_versions()
    if pip("install", "--editable", ".[lab,test]", *pins).returncode:
        stop(PIP_FAILED)
    check_installed()
    finish()
    print(f"Ready after {time.monotonic() - began:.0f} seconds. To start: make lab", flush=True)


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


def plan_versions() -> list[str]:
    """Asks pip which torch it would install, which takes seconds, and returns the options that choose the versions.

    These are the tested versions, or, where they cannot be had, the newest that pyproject.toml allows. Stops if torch
    and torchvision would be of two builds.
    """
    pins = ["--constraint", "constraints.txt"]
    request = ["install", "--dry-run", "--quiet", "--report", "-", "--no-deps", "torch", "torchvision"]
    answer = pip(*request, *pins, stdout=subprocess.PIPE)
    if answer.returncode:
        print("The versions that were tested are not to be had here. Trying the newest ones.", flush=True)
        pins = []
        answer = pip(*request, stdout=subprocess.PIPE)
    if answer.returncode:
        stop(PIP_FAILED)
    plan = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(answer.stdout)["install"]}
    builds = {plan[name].partition("+")[2] for name in ("torch", "torchvision") if name in plan}
    if len(builds) > 1:
        stop(
            f"pip would install torch {plan['torch']} with torchvision {plan['torchvision']}, two builds that do not "
            "work together: take the odd one out of pip's find-links or extra index (pip config list shows them)."
        )
    return pins


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


def finish() -> None:
    """Settles what JupyterLab does where its user has not said otherwise, and notes that all is done."""
    settings = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(LAB_SETTINGS, indent=2) + "\n")
    STAMP.write_text(fingerprint())


def pip(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, **options)


if __name__ == "__main__":
    main()
