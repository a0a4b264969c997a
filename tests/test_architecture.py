"""The arrows of the design, read from the import statements; and the shape of the package and of the repository."""

import ast
import graphlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_core

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ddpm_core"

# What each module of the heart, and each folder, may import of ours. A new one gets its place here.
HEART = {
    "schedule": {"support"},
    "process": {"schedule", "support"},
    "prediction": {"process", "schedule"},
    "loss": {"process", "schedule", "support"},
    "guidance": {"support"},
    "training_state": {"support"},
    "training": {"guidance", "loss", "prediction", "schedule", "support", "training_state"},
    "sampling": {"process", "schedule", "support"},
    "editing": {"process", "sampling", "schedule", "support"},
    "blocks": {"support"},
    "unet": {"blocks", "support"},
    "text": {"support"},
    "text_to_image": {"guidance", "prediction", "sampling", "schedule", "support", "text", "unet"},
    "checkpoint": {"schedule", "support", "training_state"},
}
FOLDERS = {"support": set(), "data": {"support"}}
FOLDERS["systems"] = {*HEART, "support"}
FOLDERS["judging"] = {*FOLDERS["systems"], "systems", "data"}
FOLDERS["scale"] = {*FOLDERS["judging"], "judging"}
FOLDERS["course"] = {*FOLDERS["scale"], "scale"}
MAY_IMPORT = HEART | FOLDERS
TOP_LEVEL = {".ci", ".devcontainer", "data", "ddpm_core", "notebooks", "tests", "tools"}
TOP_LEVEL |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "README.zh-CN.md"}
TOP_LEVEL |= {".gitattributes", ".gitignore", "Makefile", "constraints.txt", "environment.yml", "pyproject.toml"}


def files_of(place: str) -> list[Path]:
    folder = PACKAGE / place
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{place}.py"]


def imports_of(path: Path) -> set[str]:
    """The full names of all that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively, which this test does not read"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(place: str) -> set[str]:
    """Which of the package's places a place imports, besides itself."""
    names = {
        name.split(".")[1] for path in files_of(place) for name in imports_of(path) if name.startswith("ddpm_core.")
    }
    return names - {place}


def third_party(place: str) -> set[str]:
    names = {name.split(".")[0] for path in files_of(place) for name in imports_of(path)}
    return names - set(sys.stdlib_module_names) - {"ddpm_core"}


def public_names() -> dict[str, object]:
    things = vars(ddpm_core).items()
    return {name: thing for name, thing in things if not name.startswith("_") and not inspect.ismodule(thing)}


def test_every_module_has_its_place():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules | {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_the_arrows_are_those_of_the_design(place):
    assert ours(place) <= MAY_IMPORT[place]


def test_there_are_no_circles():
    files = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
    }
    names = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "ddpm_core.__init__"}

    def home(full: str) -> str:
        return max((name for name in names if f"{full}.".startswith(f"{name}.")), key=len, default="")

    imported = {name: {home(full) for full in imports_of(path)} - {name, ""} for name, path in names.items()}
    assert "ddpm_core.schedule" in imported["ddpm_core.process"]
    list(graphlib.TopologicalSorter(imported).static_order())  # raises where there is a circle


@pytest.mark.parametrize("place", HEART)
def test_the_heart_needs_torch_and_nothing_else(place):
    assert third_party(place) <= {"torch"}


def test_only_the_course_draws_figures():
    drawers = {place for place in MAY_IMPORT if third_party(place) & {"matplotlib", "IPython", "ipywidgets"}}
    assert drawers == {"course"}


def test_no_file_is_long():
    files = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    lines = {name: text.count("\n") for name, text in files.items()}
    assert {name: count for name, count in lines.items() if count > 350} == {}
    assert lines["__main__.py"] <= 200
    assert all(ast.get_docstring(ast.parse(text)) for text in files.values())


def test_no_function_of_the_heart_is_long():
    long = {}
    for place in HEART:
        for node in ast.walk(ast.parse(files_of(place)[0].read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 45:
                long[node.name] = node.end_lineno - node.lineno + 1
    assert long == {}


def test_each_public_name_has_one_home():
    homes = {}
    for place in MAY_IMPORT:
        for path in files_of(place):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public_names():
                    homes.setdefault(node.name, []).append(path.name)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
    assert set(homes) == set(public_names())


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_documented(name):
    text = inspect.getdoc(public_names()[name]) or ""
    assert len(text) > 20 and not text.startswith(f"{name}(")  # a dataclass without a docstring gets its signature


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "sklearn", "torchvision", "IPython", "ipywidgets", "PIL", "click", "diffusers", "webdataset"]
    program = f"import json, sys, ddpm_core; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_the_top_level_of_the_repository_holds_only_what_belongs_there():
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode or not result.stdout:
        pytest.skip("this is not a git checkout")
    assert {name.split("/")[0] for name in result.stdout.split("\0") if name} <= TOP_LEVEL
