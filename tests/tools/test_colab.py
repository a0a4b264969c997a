"""The notebooks' set-up cell where the course is not installed.

The stand-in for Colab is a Python that has all packages but ours, an empty folder, and GitHub's address redirected to a
repository on this disk.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import torch
from links import setup_cell
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
# What its image of August 2026 has; the set-up cell leaves these alone.
COLABS_OWN = {"filelock", "torch", "torchvision", "numpy", "pillow", "ipython"}

# Runs the cells that it reads, as Jupyter would, and prints one line of JSON. Python's -S leaves all packages
# out; those that Colab should have are in the folder that is its argument.
KERNEL = """
import json, os, sys
sys.path.append(sys.argv[1])
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
error = None
for cell in json.load(sys.stdin):
    result = shell.run_cell(cell)
    error = result.error_before_exec or result.error_in_exec
    if error:
        break
answer = shell.user_ns.get("answer")
shown = [output["data"].get("image/png") for output in shell.display_pub.outputs]
print("\\n" + json.dumps([f"{type(error).__name__}: {error}" if error else "", os.getcwd(), answer, shown]))
"""
LOOK = """
from importlib.util import find_spec
answer = find_spec("ddpm_core").origin
"""
USE = """
import torch
import ddpm_core
pictures, labels = ddpm_core.load_digits()
emoji = ddpm_core.EmojiDataset()
answer = [ddpm_core.__file__, torch.__version__, len(pictures), len(emoji.pictures), os.path.isfile("pictures/01.png")]
"""


@pytest.fixture(scope="module")
def github(tmp_path_factory) -> Path:
    """A repository made from the working tree."""
    folder = tmp_path_factory.mktemp("github") / "course"
    for name in ("ddpm_core", "data", "notebooks/pictures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "downloads"))
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "The course"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """All that is installed here, without the course."""
    folder = tmp_path_factory.mktemp("packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("ddpm_core"):
            (folder / path.name).symlink_to(path)
    return folder


class Colab:
    """A machine with nothing of ours on it, whose GitHub is a folder."""

    def __init__(self, folder: Path, packages: Path, github: Path):
        self.folder, self.packages = folder, packages
        self.content = folder / "content"  # Colab's working folder has this name
        self.content.mkdir()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))
        }
        self.environment |= dict(IPYTHONDIR=str(folder), HOME=str(folder), PIP_NO_INDEX="1")
        self.environment |= dict(GIT_CONFIG_COUNT="1", GIT_CONFIG_VALUE_0="https://github.com/ada/diffusion")
        self.environment["GIT_CONFIG_KEY_0"] = f"url.{github.as_uri()}.insteadOf"

    def lose_the_network(self) -> None:
        self.environment["GIT_CONFIG_KEY_0"] = f"url.{(self.folder / 'nowhere').as_uri()}.insteadOf"

    def run(self, *cells: str) -> tuple[str, Path, object, str]:
        """Runs cells in a fresh kernel: the error, the working folder, the answer, and all that was printed.

        The pictures that they showed, as PNGs, are in self.shown.
        """
        process = subprocess.run(
            [sys.executable, "-S", "-c", KERNEL, self.packages],
            cwd=self.content,
            env=self.environment,
            input=json.dumps(cells),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        printed, _, last = process.stdout.rstrip().rpartition("\n")
        error, folder, answer, shown = json.loads(last)
        self.shown = [base64.b64decode(picture) for picture in shown]
        return error, Path(folder), answer, printed


@pytest.fixture
def away(tmp_path, packages) -> Colab:
    """One that reaches no GitHub."""
    return Colab(tmp_path, packages, tmp_path / "nowhere")


@pytest.mark.slow
def test_the_course_is_fetched_and_used_from_where_it_is_and_later_without_a_network(tmp_path, packages, github):
    colab = Colab(tmp_path, packages, github)
    cell, folder = setup_cell("ada/diffusion", "02"), colab.content / "course" / "notebooks"
    package = str(folder.parent / "ddpm_core" / "__init__.py")
    error, where, answer, printed = colab.run(cell, USE)
    assert (error, where) == ("", folder), printed
    assert answer == [package, torch.__version__, 1797, 8555, True]
    assert colab.shown == [(ROOT / "notebooks" / "pictures" / "02.png").read_bytes()]
    colab.lose_the_network()
    error, where, answer, _ = colab.run(cell, cell, LOOK)  # in a new kernel, and once more in the same
    assert (error, where, answer) == ("", folder, package)


def test_a_clone_that_fails_is_one_sentence_and_leaves_nothing_behind(away):
    error, folder, _, printed = away.run(setup_cell("ada/diffusion", "01"))
    assert error == "ModuleNotFoundError: git could not get the course. With a network, run this again."
    assert "fatal: " in printed  # git's own reason
    assert folder == away.content and list(away.content.iterdir()) == []


def test_without_an_address_the_cell_says_what_to_do(away):
    error, folder, _, printed = away.run(setup_cell("", "01"))
    assert error == "ModuleNotFoundError: No course here. Start with: make lab. In Colab: see README.md"
    assert "fatal" not in printed and folder == away.content and list(away.content.iterdir()) == []


def test_where_the_course_is_installed_the_cell_only_says_so(away):
    beside = f"import sys\nsys.path.insert(0, {str(ROOT)!r})"
    error, folder, answer, printed = away.run(beside, setup_cell("ada/diffusion", "01"), LOOK)
    assert (error, folder, printed.strip(), away.shown) == ("", away.content, "The course is ready.", [])
    assert Path(answer).parent.parent == ROOT


def test_pip_may_add_what_is_missing_and_nothing_else():
    [line] = [line for line in setup_cell("", "01").splitlines() if "%pip" in line]
    words = line.split()
    added = {word for word in words[2:] if not word.startswith("-")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert added | COLABS_OWN == {Requirement(text).name for text in project["dependencies"]}
    assert not added & COLABS_OWN and "--no-deps" in words
    assert not {"-U", "--upgrade", "--force-reinstall"} & set(words)


def test_the_badges_picture_is_our_own_and_calls_on_nobody():
    text = (ROOT / "notebooks" / "pictures" / "colab.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "<title>Open in Colab</title>" in text
