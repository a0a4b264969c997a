"""The kit for a room without a network: packed, installed and damaged, with a tiny course of one tiny package."""

import ast
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parent.parent.parent / "tools"
SCRIPTS = ("offline.py", "offline_install.py", "setup.py")
COURSE = {"pyproject.toml", "constraints.txt", "tiny_course.py", *(f"tools/{name}" for name in SCRIPTS)}
PACKAGES = ("tiny-dependency", "tiny-lab", "tiny-backend", "editables")
PYPROJECT = """
[build-system]
requires = ["tiny-backend"]
build-backend = "tiny_backend"
[project]
name = "tiny-course"
version = "1.0"
dependencies = ["tiny-dependency>=1"]
[project.optional-dependencies]
lab = ["tiny-lab"]
test = []
"""
# Builds what pip asks for when it installs a folder as editable: a .pth file that leads to the folder.
BACKEND = """
import os, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    info, name = "tiny_course-1.0.dist-info", "tiny_course-1.0-py3-none-any.whl"
    needs = "Requires-Dist: tiny-dependency>=1\\nProvides-Extra: lab\\nRequires-Dist: tiny-lab; extra == 'lab'\\n"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("tiny_course.pth", os.getcwd())
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tiny-course\\nVersion: 1.0\\n" + needs)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
WHEELS = {f"{name.replace('-', '_')}-1.0-py3-none-any.whl" for name in PACKAGES}
MODULES = {"tiny-dependency": "WORD = 'noise'\n", "tiny-backend": BACKEND}


def make_wheels(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}.py", MODULES.get(name, ""))
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


def make_course(folder: Path) -> Path:
    """A course as small as a course can be, and beside it what must stay at home."""
    (folder / "tools").mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(TOOLS / name, folder / "tools")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "constraints.txt").touch()
    (folder / "tiny_course.py").write_text("import tiny_dependency\nprint(tiny_dependency.WORD)\n")
    for name in (".venv/big", "build/old", "__pycache__/x.pyc"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("made on the spot")
    return folder


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class Pip:
    """Stands in for pip where what it would do is not the point. fails: the command that does not work."""

    def __init__(self, fails: str = ""):
        self.fails, self.commands, self.environment = fails, [], None

    def __call__(self, command: str, *arguments: str, env: dict | None = None) -> int:
        self.commands.append((command, *arguments))
        self.environment = env
        if command == "wheel":
            make_wheels(Path(arguments[arguments.index("--wheel-dir") + 1]), *PACKAGES)
        return command == self.fails


def pack(course: Path, pip: Pip) -> Path:
    offline = load(course / "tools" / "offline.py")
    offline.pip = pip
    offline.main()
    return offline.KIT


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """The kit. Tests leave it as it is."""
    return pack(make_course(tmp_path_factory.mktemp("packing") / "course"), Pip())


@pytest.fixture
def kit(packed, tmp_path) -> Path:
    """A copy of the kit, to damage."""
    return Path(shutil.copytree(packed, tmp_path / "stick"))


def install(kit: Path, folder: Path) -> None:
    """All that the installer does but for pip's part."""
    installer = load(kit / "install.py")
    installer.install = lambda folder: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["install.py", str(folder)])
        installer.main()


def refusal(kit: Path, folder: Path) -> str:
    with pytest.raises(SystemExit, match=r"^\nInstallation stopped: [^\n]*\Z") as stopped:
        install(kit, folder)
    return stopped.value.code.partition(": ")[2]


def test_the_kit_holds_the_course_its_packages_and_nothing_else(tmp_path, capsys, monkeypatch):
    pip = Pip()
    monkeypatch.setenv("PIP_FIND_LINKS", "a shelf of this machine")
    kit = pack(make_course(tmp_path / "course"), pip)
    assert files_in(kit / "course") == COURSE and files_in(kit / "wheels") == WHEELS
    assert {path.name for path in kit.iterdir()} == {"course", "wheels", "install.py", "kit.json"}
    (download, *wanted), (trial, *how) = pip.commands
    assert download == "wheel" and wanted[-4:] == ["tiny-dependency>=1", "tiny-lab", "tiny-backend", "editables"]
    assert trial == "install" and {"--dry-run", "--no-index", "--ignore-installed"} <= set(how)
    assert "PIP_FIND_LINKS" not in pip.environment and pip.environment["PIP_CONFIG_FILE"] == os.devnull
    told = capsys.readouterr().out
    assert "course: 6 files" in told and "wheels: 4 files" in told
    assert f"{platform.system()} on {platform.machine()}" in told and "python3 install.py" in told


@pytest.mark.parametrize("command, reason", [("wheel", "could not get all packages"), ("install", "is missing")])
def test_a_kit_that_lacks_a_package_is_not_finished(command, reason, tmp_path):
    course = make_course(tmp_path / "course")
    with pytest.raises(SystemExit, match=f"Packing stopped: .*{reason}"):
        pack(course, Pip(fails=command))
    assert not (course / "build" / "offline" / "kit.json").exists()


def test_the_course_is_copied_and_what_is_there_already_stays(packed, tmp_path, capsys):
    folder = tmp_path / "my course"
    install(packed, folder)
    assert files_in(folder) == COURSE
    typed = f'"{folder}"' if os.name == "nt" else shlex.quote(str(folder))
    assert f"cd {typed}\n" in (told := capsys.readouterr().out) and "jupyter lab notebooks" in told
    (folder / "tiny_course.py").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    install(packed, folder)
    assert (folder / "tiny_course.py").read_text() == "mine" and "6 files that were there" in capsys.readouterr().out


@pytest.mark.parametrize("number", [0, 1, len(COURSE) - 1])
def test_an_interrupted_installation_is_finished_by_the_next(number, packed, tmp_path, monkeypatch):
    copied, copy = [], shutil.copy

    def interrupted(source, target):
        copied.append(source)
        if len(copied) == number + 1:
            target.write_text("half")
            raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copy", interrupted)
        install(packed, tmp_path / "new")
    install(packed, tmp_path / "new")
    assert files_in(tmp_path / "new") == COURSE
    assert all((tmp_path / "new" / name).read_bytes() == (packed / "course" / name).read_bytes() for name in COURSE)


@pytest.mark.parametrize("entry", ["python", "system", "machine"])
def test_another_python_or_machine_is_told_what_the_kit_is_for(entry, kit, tmp_path):
    content = json.loads((kit / "kit.json").read_text())
    (kit / "kit.json").write_text(json.dumps(content | {entry: "Amiga"}))
    reason, mine = refusal(kit, tmp_path / "new"), f"{platform.system()} on {platform.machine()}"
    assert "this kit is for" in reason and "Amiga" in reason and (entry == "python" or mine in reason)


def test_an_old_python_can_read_the_installer_well_enough_to_refuse():
    ast.parse((TOOLS / "offline_install.py").read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("wheels/tiny_lab-1.0-py3-none-any.whl", b"damaged", "copy the kit again"),
        ("wheels/tiny_lab-1.0-py3-none-any.whl", None, "copy the kit again"),
        ("course/tiny_course.py", None, "copy the kit again"),
        ("kit.json", None, "not a whole kit"),
        ("kit.json", b'{"python": ', "not a whole kit"),
    ],
)
def test_a_damaged_kit_is_found_out_before_anything_is_made(name, content, reason, kit, tmp_path):
    (kit / name).unlink()
    if content:
        (kit / name).write_bytes(content)
    told = refusal(kit, tmp_path / "new")
    assert name in told and reason in told and not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_left_alone(packed, tmp_path):
    (tmp_path / "thesis" / "tools").mkdir(parents=True)
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    assert "something else" in refusal(packed, tmp_path / "thesis")
    assert files_in(tmp_path / "thesis") == {"chapter1.tex"}


@pytest.mark.parametrize("place", ["stick/course", "stick", "stick/kit.json", "file"])
def test_a_place_that_cannot_be_is_refused(place, kit, tmp_path):
    (tmp_path / "file").touch()
    assert "python3 install.py FOLDER" in refusal(kit, tmp_path / place)


def test_a_disk_that_is_too_small_stops_before_the_download(tmp_path, monkeypatch):
    usage, pip = namedtuple("Usage", "free")(0.5e9), Pip()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SystemExit, match=r"Packing stopped: the kit may take \d GB and this disk has 0\.5 GB free"):
        pack(make_course(tmp_path / "course"), pip)
    assert pip.commands == []


def test_in_a_clone_what_git_tracks_is_packed(tmp_path):
    offline = load(TOOLS / "offline.py")
    offline.ROOT = tmp_path
    (tmp_path / "notes.txt").write_text("my own")
    for name in ("a.py", "b c.py", "gone.py"):
        (tmp_path / name).touch()
    for words in (["init", "--quiet"], ["add", "a.py", "b c.py", "gone.py"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "gone.py").unlink()
    assert offline.course_files() == ["a.py", "b c.py"]


# With pip itself


def run(script: Path, *arguments, **environment) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_kit_installs_without_a_network_and_is_then_left_alone(tmp_path):
    course, folder = make_course(tmp_path / "course"), tmp_path / "my course"
    shelf = make_wheels(tmp_path / "shelf", *PACKAGES, "unwanted")  # pip's only source
    only_there = dict(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(shelf), PIP_CONFIG_FILE=os.devnull)
    result = run(course / "tools" / "offline.py", **only_there)
    assert result.returncode == 0, result.stdout + result.stderr
    kit = course / "build" / "offline"
    assert {path.name for path in (kit / "wheels").iterdir()} == WHEELS
    # An address that answers nobody: the kit must not listen to this machine's pip.
    result = run(kit / "install.py", folder, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert result.returncode == 0, result.stdout + result.stderr
    python = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    used = subprocess.run([python, "-c", "import tiny_course, tiny_lab"], cwd=tmp_path, capture_output=True, text=True)
    assert (used.returncode, used.stdout) == (0, "noise\n"), used.stderr
    assert (folder / ".venv/share/jupyter/lab/settings/overrides.json").is_file()  # JupyterLab asks nothing here either
    # Now make finds all in place: set-up ends at once and says nothing.
    setup = run(folder / "tools" / "setup.py")
    assert (setup.returncode, setup.stdout, setup.stderr) == (0, "", "")
