"""Packs the course for a room without a network: make offline

build/offline/ then holds the course, all packages that it needs, and install.py: copy the folder to a stick. The
packages are those of this machine's .venv, so a stick serves one kind of machine (such as Windows, or a Mac with an M
chip) with one version of Python. For another kind, run this on a machine of that kind.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
KIT = ROOT / "build" / "offline"
# torch for Linux on x86 brings NVIDIA's libraries. pip keeps a copy of what it downloads, beside ours.
GIGABYTES_NEEDED = 8 if sys.platform == "linux" and platform.machine() == "x86_64" else 2
NOT_TRACKED = {".git", ".venv", "build", "runs", "__pycache__", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
# hatchling asks for this one when pip installs a folder as editable; no file of ours names it.
FOR_EDITABLE = "editables"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    check_disk()
    shutil.rmtree(KIT, ignore_errors=True)  # versions of an earlier day would mix with today's
    print("1 of 3: the course", flush=True)
    copy_course()
    print("2 of 3: the packages (the first time this downloads some GB)", flush=True)
    collect_wheels(project)
    print("3 of 3: a trial of the installation, and checksums (a minute or two)", flush=True)
    try_installation()
    shutil.copy(ROOT / "tools" / "offline_install.py", KIT / "install.py")
    describe()
    for name in ("course", "wheels"):
        files = [path for path in (KIT / name).rglob("*") if path.is_file()]
        print(f"{name}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:,.0f} MB")
    print(
        f"\nPacked for {platform.system()} on {platform.machine()} with Python {python_version()}. Copy the folder "
        f"{KIT.relative_to(ROOT)} to a stick; on the other machine: python3 install.py"
    )


def stop(reason: str) -> None:
    sys.exit(f"\nPacking stopped: {reason}")


def python_version() -> str:
    return "{}.{}".format(*sys.version_info)


def check_disk() -> None:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES_NEEDED:
        stop(f"the kit may take {GIGABYTES_NEEDED} GB and this disk has {free:.1f} GB free: make room.")


def copy_course() -> None:
    for name in course_files():
        (KIT / "course" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, KIT / "course" / name)


def course_files() -> list[str]:
    """What git tracks; in a copy of the course without git, everything that is not made on the spot."""
    try:
        git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
        names = git.stdout.split("\0")[:-1]
    except FileNotFoundError:
        names = []
    if not names:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [path.as_posix() for path in paths if not NOT_TRACKED & set(path.parts)]
    return sorted(name for name in names if (ROOT / name).is_file())


def collect_wheels(project: dict) -> None:
    """All packages, as wheels, in the versions that work on this machine."""
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["lab"], *extras["test"]]
    wanted += [*project["build-system"]["requires"], FOR_EDITABLE]
    installed = {item.name: item.version for item in importlib.metadata.distributions()}
    installed.pop(project["project"]["name"], None)  # the course itself comes as a folder
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "installed.txt"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in installed.items()))
        if pip("wheel", "--wheel-dir", str(KIT / "wheels"), "--constraint", str(pins), *wanted):
            stop("pip could not get all packages (its message is above); with a network, run make offline again.")


def try_installation() -> None:
    """Asks pip whether it would find everything in the kit, on a machine that has nothing."""
    where = ["--no-index", "--find-links", str(KIT / "wheels")]
    what = ["--editable", f"{KIT / 'course'}[lab,test]"]
    # No configuration of this machine: it could lead pip to packages that are not in the kit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    options = ["--quiet", "--dry-run", "--ignore-installed"]
    if pip("install", *options, *where, *what, env=environment):
        stop("a package is missing in the kit (pip's message is above).")


def pip(*arguments: str, **options) -> int:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, **options).returncode


def describe() -> None:
    """kit.json, written last: a kit without it is not whole."""
    paths = sorted(path for path in KIT.rglob("*") if path.is_file())
    kit = dict(
        python=python_version(),
        system=platform.system(),
        machine=platform.machine(),
        sha256={path.relative_to(KIT).as_posix(): checksum(path) for path in paths},
    )
    (KIT / "kit.json").write_text(json.dumps(kit, indent=1), encoding="utf-8")


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
