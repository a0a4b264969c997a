"""The container for Codespaces and VS Code. That it starts is not tested here: it needs Docker and a network."""

import json
import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def test_its_image_is_a_python_that_the_course_allows():
    image, _, tag = CONTAINER["image"].partition(":")
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert image == "python" and tag in SpecifierSet(allowed)


def test_its_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [words.split() for name, words in CONTAINER.items() if name.endswith("Command")]
    assert commands and all(words[0] == "make" and set(words[1:]) <= targets for words in commands)


def test_its_interpreter_is_the_one_that_set_up_makes():
    python = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == "${containerWorkspaceFolder}/.venv/bin/python"
