"""The kit for a room without a network: packed, installed and damaged, with a tiny course of one tiny package."""

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CI = ("offline.py", "offline_install.py", "setup.py")
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
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
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


def make_wheel(folder: Path, name: str, module: str) -> None:
    module_name, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module_name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module_name}.py", module)
        wheel.writestr(f"{info}/METADATA", METADATA.format(name=name))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def make_course(folder: Path) -> Path:
    """A course of three files, as small as a course can be."""
    (folder / "tools").mkdir(parents=True)
    for name in CI:
        shutil.copy(ROOT / "tools" / name, folder / "tools")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "constraints.txt").write_text("")
    (folder / "tiny_course.py").write_text("import tiny_dependency\nprint(tiny_dependency.WORD)\n")
    for name in (".venv/big", "build/old", "__pycache__/x.pyc"):  # what must stay at home
        (folder / name).parent.mkdir()
        (folder / name).write_text("made on the spot")
    return folder


def pack(course: Path, shelf: Path) -> subprocess.CompletedProcess:
    """Runs make offline's script where pip's only source is a shelf of wheels."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= dict(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(shelf), PIP_CONFIG_FILE=os.devnull)
    command = [sys.executable, course / "tools" / "offline.py"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def install(kit: Path, folder: Path) -> subprocess.CompletedProcess:
    # An address that answers nobody: the kit must not listen to this machine's pip.
    environment = os.environ | dict(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    command = [sys.executable, kit / "install.py", folder]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def reason_of_stopping(result: subprocess.CompletedProcess, word: str) -> str:
    assert result.returncode == 1 and "Traceback" not in result.stderr
    match = re.search(rf"^{word} stopped: (.*)\Z", result.stderr.rstrip(), re.MULTILINE)
    assert match, result.stderr
    return match[1]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for name, module in {
        "tiny-dependency": "WORD = 'noise'\n",
        "tiny-lab": "",
        "tiny-backend": BACKEND,
        "editables": "",
        "unwanted": "",
    }.items():
        make_wheel(folder, name, module)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory, shelf) -> tuple[Path, str]:
    """The kit, and what packing it printed. Tests leave it as it is."""
    course = make_course(tmp_path_factory.mktemp("packing") / "course")
    result = pack(course, shelf)
    assert result.returncode == 0, result.stdout + result.stderr
    return course / "build" / "offline", result.stdout


@pytest.fixture
def kit(packed, tmp_path) -> Path:
    """A copy of the kit, to damage."""
    return Path(shutil.copytree(packed[0], tmp_path / "stick"))


def edit(kit: Path, **entries) -> None:
    path = kit / "kit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_the_kit_holds_the_course_its_packages_and_nothing_else(packed):
    files = {path.relative_to(packed[0]).as_posix() for path in packed[0].rglob("*") if path.is_file()}
    course = {f"course/tools/{name}" for name in CI}
    course |= {f"course/{name}" for name in ("pyproject.toml", "constraints.txt", "tiny_course.py")}
    names = ("tiny_dependency", "tiny_lab", "tiny_backend", "editables")
    wheels = {f"wheels/{name}-1.0-py3-none-any.whl" for name in names}
    assert files == course | wheels | {"install.py", "kit.json"}


def test_packing_says_sizes_the_machine_and_what_to_do(packed):
    text = packed[1]
    assert "course: 6 files" in text and "wheels: 4 files" in text
    assert f"{platform.system()} on {platform.machine()}" in text and "python3 install.py" in text


def test_the_kit_installs_without_a_network_and_is_then_left_alone(packed, tmp_path):
    folder = tmp_path / "my course"
    result = install(packed[0], folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"cd {folder}" in result.stdout and "jupyter lab notebooks" in result.stdout
    python = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run = subprocess.run([python, "-c", "import tiny_course, tiny_lab"], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "noise\n"), run.stderr
    # Now make finds all in place: set-up ends at once and says nothing.
    setup = subprocess.run([sys.executable, folder / "tools" / "setup.py"], capture_output=True, text=True)
    assert (setup.returncode, setup.stdout, setup.stderr) == (0, "", "")
    # And a second installation keeps what was written in the meantime.
    (folder / "tiny_course.py").write_text("print('mine')\n")
    again = install(packed[0], folder)
    assert again.returncode == 0 and "6 files that were there" in again.stdout
    assert (folder / "tiny_course.py").read_text() == "print('mine')\n"


def test_another_python_is_told_which_one_is_needed(kit, tmp_path):
    edit(kit, python="3.99")
    assert "is for Python 3.99" in reason_of_stopping(install(kit, tmp_path / "new"), "Installation")


def test_an_old_python_can_read_the_installer_well_enough_to_refuse():
    ast.parse((ROOT / "tools" / "offline_install.py").read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("entry", ["system", "machine"])
def test_another_kind_of_machine_is_told_that_it_needs_another_kit(entry, kit, tmp_path):
    edit(kit, **{entry: "Amiga"})
    reason = reason_of_stopping(install(kit, tmp_path / "new"), "Installation")
    assert "Amiga" in reason and f"{platform.system()} on {platform.machine()}" in reason


@pytest.mark.parametrize(
    "name, damage",
    [
        ("wheels/tiny_dependency-1.0-py3-none-any.whl", "changed"),
        ("wheels/tiny_dependency-1.0-py3-none-any.whl", "missing"),
        ("course/tiny_course.py", "changed"),
        ("course/tiny_course.py", "missing"),
        ("install.py", "changed"),
    ],
)
def test_a_damaged_kit_is_found_out_before_anything_is_made(name, damage, kit, tmp_path):
    path = kit / name
    if damage == "changed":
        path.write_bytes(path.read_bytes() + b"\n")
    else:
        path.unlink()
    reason = reason_of_stopping(install(kit, tmp_path / "new"), "Installation")
    assert reason.startswith(name) and "copy the kit again" in reason
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [None, '{"python": '])
def test_a_kit_that_was_copied_in_part_is_no_kit(content, kit, tmp_path):
    (kit / "kit.json").unlink()
    if content:
        (kit / "kit.json").write_text(content)
    assert "not a whole kit" in reason_of_stopping(install(kit, tmp_path / "new"), "Installation")


def test_a_folder_of_something_else_is_left_alone(kit, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    assert "something else" in reason_of_stopping(install(kit, tmp_path / "thesis"), "Installation")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


@pytest.mark.parametrize("place", ["stick/course", "stick", "stick/kit.json", "file"])
def test_a_place_that_cannot_be_is_refused(place, kit, tmp_path):
    (tmp_path / "file").touch()
    assert "python3 install.py FOLDER" in reason_of_stopping(install(kit, tmp_path / place), "Installation")


def test_a_package_that_cannot_be_had_stops_the_packing(tmp_path, shelf):
    poor = Path(shutil.copytree(shelf, tmp_path / "shelf"))
    (poor / "tiny_lab-1.0-py3-none-any.whl").unlink()
    course = make_course(tmp_path / "course")
    assert "pip could not get all packages" in reason_of_stopping(pack(course, poor), "Packing")
    assert not (course / "build" / "offline" / "kit.json").exists()


def test_a_kit_in_which_something_is_missing_is_not_finished(tmp_path, shelf):
    course = make_course(tmp_path / "course")
    (course / "pyproject.toml").write_text(PYPROJECT.replace('["tiny-dependency>=1"]', "[]"))  # the backend wants it
    assert "a package is missing in the kit" in reason_of_stopping(pack(course, shelf), "Packing")
    assert not (course / "build" / "offline" / "kit.json").exists()


@pytest.fixture
def offline(monkeypatch):
    """The module that packs, in this process."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import offline

    return offline


def test_a_disk_that_is_too_small_stops_before_the_download(offline, monkeypatch):
    usage = namedtuple("Usage", "free")(0.5e9)
    monkeypatch.setattr(offline.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(offline, "pip", lambda *arguments, **options: pytest.fail("nothing may be downloaded"))
    with pytest.raises(SystemExit, match=r"Packing stopped: the kit may take \d GB and this disk has 0\.5 GB free"):
        offline.main()


def test_in_a_clone_what_git_tracks_is_packed(offline, monkeypatch, tmp_path):
    (tmp_path / "notes.txt").write_text("my own")
    for name in ("a.py", "b c.py", "gone.py"):
        (tmp_path / name).touch()
    for words in (["init", "--quiet"], ["add", "a.py", "b c.py", "gone.py"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "gone.py").unlink()
    monkeypatch.setattr(offline, "ROOT", tmp_path)
    assert offline.course_files() == ["a.py", "b c.py"]
