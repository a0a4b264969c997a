"""Installs the course from this folder, without a network: python3 install.py [FOLDER]

FOLDER is where the course should be; without it that is ddpm-course in your home folder. What is in there already stays
as it is, so an interrupted installation can be run again.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parent
WHEELS = KIT / "wheels"


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "~/ddpm-course").expanduser().resolve()
    kit = read_kit()
    check_machine(kit)
    check_folder(kit, folder)
    check_files(kit)
    kept = copy_course(kit, folder)
    stayed = f" ({kept} files that were there are as they were)" if kept else ""
    print(f"The course is in {folder}{stayed}.", flush=True)
    install(folder)
    windows, others = r".venv\Scripts\jupyter lab notebooks", "make lab   (or: .venv/bin/jupyter lab notebooks)"
    start, quoted = (windows, f'"{folder}"') if os.name == "nt" else (others, shlex.quote(str(folder)))
    print(f"\nReady. To start:\n  cd {quoted}\n  {start}")


def stop(reason):
    sys.exit(f"\nInstallation stopped: {reason}")


def read_kit():
    try:
        return json.loads((KIT / "kit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stop(f"{KIT} is not a whole kit (kit.json is missing or damaged): copy the folder again, all of it.")


def check_machine(kit):
    mine = "{}.{}".format(*sys.version_info)
    if mine != kit["python"]:
        stop(f"this kit is for Python {kit['python']} and this is {mine}: python{kit['python']} install.py")
    theirs, mine = f"{kit['system']} on {kit['machine']}", f"{platform.system()} on {platform.machine()}"
    if mine != theirs:
        stop(f"this kit is for {theirs} and this machine is {mine}: it needs a kit packed on a machine of its kind.")


def course_files(kit):
    """In the order in which they are copied."""
    return [name[len("course/") :] for name in kit["sha256"] if name.startswith("course/")]


def part_of(target):
    """Where a file is while it is copied: half a file must not pass for a whole one."""
    return target.with_name(target.name + ".part")


def check_folder(kit, folder):
    if folder == KIT or KIT in folder.parents:
        stop("the course cannot be inside the kit: python3 install.py FOLDER, with a folder of your own.")
    if folder.exists() and not folder.is_dir():
        stop(f"{folder} is a file: python3 install.py FOLDER, with another name.")
    first = folder / course_files(kit)[0]
    begun = first.exists() or part_of(first).exists()  # by an installation that was interrupted, perhaps
    if folder.is_dir() and any(folder.iterdir()) and not begun:
        stop(f"{folder} holds something else: python3 install.py FOLDER, with another name.")


def check_files(kit):
    """Sticks and hurried copies lose files; it is better to know before than in the middle."""
    total = sum((KIT / name).stat().st_size for name in kit["sha256"] if (KIT / name).is_file())
    print(f"Checking {len(kit['sha256'])} files, {total / 1e6:,.0f} MB.", flush=True)
    for name, expected in kit["sha256"].items():
        try:
            with (KIT / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            stop(f"{name} cannot be read ({error.strerror}): copy the kit again.")
        if found != expected:
            stop(f"{name} is damaged: copy the kit again.")


def copy_course(kit, folder):
    """Returns how many files were there already and stay."""
    kept = 0
    for name in course_files(kit):
        target = folder / name
        if target.exists():
            kept += 1
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(KIT / "course" / name, part_of(target))
            part_of(target).replace(target)
        except OSError as error:
            stop(f"{target} cannot be written ({error.strerror}): python3 install.py FOLDER, with another name.")
    return kept


def install(folder):
    """As make setup does it, but from the kit's wheels; the stamp then tells make that all is there."""
    spec = importlib.util.spec_from_file_location("course_setup", folder / "tools" / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    setup.stop = stop
    if not list(setup.VENV.glob("**/site-packages/pip")):
        setup.check_disk()
        print("Making .venv and installing (a few minutes).", flush=True)
        setup.make_venv()
    # No configuration of this machine: it could send pip to a network that is not there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    where = ["--no-index", "--find-links", str(WHEELS)]
    if setup.pip("install", *where, "--editable", ".[lab,test]", env=environment).returncode:
        stop("pip could not install from this kit (its message is above).")
    setup.check_installed()
    setup.finish()


if __name__ == "__main__":
    main()
