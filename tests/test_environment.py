"""The files that describe the environment and the commands agree. conda's own solve is not tested here."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ddpm_core.course.doctor import CHECKSUMS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
PIP = next(item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict))
PINS = {
    canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2])
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}
EXTRAS = PROJECT["optional-dependencies"]
ALL = [Requirement(text) for text in sum(EXTRAS.values(), PROJECT["dependencies"])]
REQUIREMENTS = [requirement for requirement in ALL if requirement.name != PROJECT["name"]]  # an extra names another
OPTIONAL = EXTRAS["bench"] + EXTRAS["search"]
INSTALLED = [each for each in REQUIREMENTS if str(each) not in OPTIONAL and (not each.marker or each.marker.evaluate())]
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
# What tests/test_*.py is about besides.
NOT_THE_HEART = {"benchmarks", "environment", "main", "notebook_numbers", "notebooks", "readme"}
PYTHONS = [Version(f"3.{minor}") for minor in range(8, 30)]


def test_conda_takes_python_and_pip_from_conda_forge_alone_and_pip_the_rest():
    assert ENVIRONMENT["channels"] == ["conda-forge"] and set(ENVIRONMENT) == {"name", "channels", "dependencies"}
    requirements = [Requirement(spec) for spec in CONDA]  # conda and pip agree on names and on >=, <, == with commas
    assert [requirement.name for requirement in requirements] == ["python", "pip"]
    assert not any(each.url or each.extras or each.marker for each in requirements)
    assert {specifier.operator for each in requirements for specifier in each.specifier} <= {">=", "<=", ">", "<", "=="}
    allowed = [version for version in PYTHONS if version in SpecifierSet(PROJECT["requires-python"])]
    given = [version for version in PYTHONS if version in requirements[0].specifier]
    assert len(given) >= 3 and given == allowed[: len(given)]  # from the oldest on


def test_pip_installs_the_course_itself_in_its_tested_versions():
    words = [word for line in PIP for word in line.split()]
    assert len(PIP) == 2
    assert words.count("--constraint") == 1 and words[words.index("--constraint") + 1] == "constraints.txt"
    editable = words[words.index("--editable") + 1]
    assert editable.startswith(".[") and set(re.findall(r"\w+", editable)) == {"lab", "test"}
    assert set(EXTRAS) == {"lab", "test", "train", "search", "bench"} and "ddpm-core[train]" in EXTRAS["test"]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_dependency_has_a_lower_bound_and_a_pin_in_its_range(requirement):
    assert any(specifier.operator == ">=" for specifier in requirement.specifier)
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("requirement", INSTALLED, ids=str)
def test_what_is_installed_is_in_the_range(requirement):
    assert Version(importlib.metadata.version(requirement.name)) in requirement.specifier


def test_every_line_of_the_constraints_is_one_pin_and_they_are_in_order():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines[1:])
    names = [canonicalize_name(line.partition("==")[0]) for line in lines[1:]]
    assert len(names) == len(set(names)) and names == sorted(names)


def test_torch_and_torchvision_are_of_one_release_in_the_pins_and_in_the_oldest_allowed():
    # They are released together, torch 2.N with torchvision 0.(N + 15).
    oldest = {
        requirement.name: Version(next(iter(requirement.specifier)).version)
        for requirement in REQUIREMENTS
        if requirement.name in ("torch", "torchvision")
    }
    for versions in (PINS, oldest):
        assert (versions["torch"].major, versions["torchvision"].major) == (2, 0)
        assert versions["torchvision"].minor == versions["torch"].minor + 15


def test_the_pins_agree_with_what_the_pinned_packages_want_of_each_other():
    clashes = []
    for name, pin in PINS.items():
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # pinned for another operating system
        if Version(Version(distribution.version).public) != pin:
            continue
        for requirement in map(Requirement, distribution.requires or []):
            wanted = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and wanted in PINS and not requirement.specifier.contains(PINS[wanted], prereleases=True):
                clashes.append(f"{name} {pin} wants {requirement}, pinned is {PINS[wanted]}")
    assert clashes == []


@pytest.mark.parametrize("file", ["environment.yml", "constraints.txt", "pyproject.toml"])
def test_nothing_points_to_one_machine_or_to_one_registry(file):
    unwanted = r"https?://|file:|index-url|find-links|trusted-host|(?<![\w.*])/\w+/|[A-Z]:\\|~/"
    assert not re.search(unwanted, (ROOT / file).read_text(encoding="utf-8"))


def test_the_wheel_carries_every_file_that_the_doctor_looks_for():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    carried = tool["targets"]["wheel"]["force-include"]
    assert all(place == path.replace("data/", "ddpm_core/_data/") for path, place in carried.items())
    files = [ROOT / path for path in carried]
    assert all(file.exists() for file in files)
    for name in CHECKSUMS:
        assert {ROOT / "data" / name, (ROOT / "data" / name).parent} & set(files), name


# The container for Codespaces and VS Code. That it starts is not tested here: it needs Docker and a network.


def test_the_containers_image_is_a_python_that_the_course_allows():
    image, _, tag = CONTAINER["image"].partition(":")
    assert image == "python" and tag in SpecifierSet(PROJECT["requires-python"])


def test_the_containers_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [words.split() for name, words in CONTAINER.items() if name.endswith("Command")]
    assert commands and all(words[0] == "make" and set(words[1:]) <= targets for words in commands)


def test_the_containers_interpreter_is_the_one_that_set_up_makes():
    python = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == "${containerWorkspaceFolder}/.venv/bin/python"


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
def test_make_quick_runs_every_test_file_of_the_heart_and_make_test_all_there_are():
    def commands(target: str) -> str:
        words = ["make", "--dry-run", "PYTHON=true", target]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/test_*.py")}
    assert set(re.findall(r"(?<= )tests/\S+", commands("quick"))) == files - {
        f"tests/test_{name}.py" for name in NOT_THE_HEART
    }
    assert all(words in commands("test") for words in ('-m "not slow"', "-m slow", "--nbval", "tests/browser"))
