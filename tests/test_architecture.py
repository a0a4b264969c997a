"""The arrows of the design, read from the import statements; and the shape of the repository."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_core

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ddpm_core"

# What each module may import of ours. A new module gets its line here, which is where its place is decided.
MAY_IMPORT = {
    "errors": set(),
    "runtime": set(),
    "schedule": {"errors"},
    "process": {"errors", "schedule"},
    "distributed": set(),
    "training": {"errors", "schedule", "process", "guidance", "distributed"},
    "sampling": {"errors", "schedule", "process"},
    "unet": {"errors"},
    "text": {"errors"},
    "guidance": {"errors"},
    "data": {"atomic", "errors"},
    "evaluation": {"errors", "schedule", "process", "data", "text_to_image"},
    "text_to_image": {"errors", "schedule", "sampling", "guidance", "text", "unet"},
    "atomic": set(),
    "checkpoint": {"atomic", "errors", "schedule", "training", "unet", "text", "text_to_image"},
    "runs": {"atomic", "checkpoint", "schedule", "training"},
    "jobs": {
        "checkpoint",
        "data",
        "distributed",
        "presets",
        "schedule",
        "text",
        "text_to_image",
        "training",
        "unet",
    },
    "presets": {"data", "evaluation", "schedule", "text", "text_to_image", "unet"},
    "display": {"errors", "training", "data", "text_to_image"},
    "exercises": {"errors", "schedule", "process", "training", "guidance", "unet"},
    "checks": {"atomic", "errors", "exercises", "display", "evaluation", "data", "schedule"},
    "doctor": {
        "errors",
        "runtime",
        "schedule",
        "training",
        "unet",
        "data",
        "checkpoint",
        "display",
        "presets",
        "sampling",
        "text_to_image",
    },
    "__init__": None,  # anything
    "__main__": None,
}
MATHS = ["errors", "schedule", "process", "distributed", "training", "sampling", "unet", "text", "guidance"]
MATHS += ["text_to_image"]
FOLDERS = {".ci", ".devcontainer", "data", "ddpm_core", "notebooks", "tests", "tools"}
PAPERS = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "README.zh-CN.md"}
TOOLS = {".gitattributes", ".gitignore", "Makefile", "constraints.txt", "environment.yml", "pyproject.toml"}


def files_of(module: str) -> list[Path]:
    folder = PACKAGE / module
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]


def imports_of(module: str) -> set[str]:
    """The full names of all that a module imports, also inside functions."""
    names = set()
    for path in files_of(module):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} imports relatively, which this test does not read"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(module: str) -> set[str]:
    """Which of the package's modules a module imports, besides itself; __init__ for the package as a whole."""
    parts = [name.split(".") for name in imports_of(module) if name.split(".")[0] == "ddpm_core"]
    modules = {part[1] if len(part) > 1 and part[1] in MAY_IMPORT else "__init__" for part in parts}
    return modules - {module}


def third_party(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports_of(module)} - set(sys.stdlib_module_names) - {"ddpm_core"}


def public_names() -> dict[str, object]:
    return {
        name: thing
        for name, thing in vars(ddpm_core).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }


def test_every_module_has_its_place():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert modules == set(MAY_IMPORT)


@pytest.mark.parametrize("module", [name for name, allowed in MAY_IMPORT.items() if allowed is not None])
def test_a_module_imports_only_what_the_arrows_allow(module):
    assert ours(module) <= MAY_IMPORT[module]


def test_this_test_reads_imports_rightly():
    assert {"schedule", "process", "errors"} <= ours("training") and "torch" in third_party("training")
    assert {"sklearn", "PIL", "torchvision"} <= third_party("data")  # imported inside functions


@pytest.mark.parametrize("module", MATHS)
def test_the_maths_needs_torch_and_nothing_else(module):
    assert third_party(module) <= {"torch"}


def test_each_public_name_has_one_home():
    homes = {}
    for module in MAY_IMPORT:
        for path in files_of(module) if module != "__main__" else []:  # the commands are called train and sample too
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public_names():
                    homes.setdefault(node.name, []).append(path.name)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
    assert set(homes) == set(public_names())


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_documented(name):
    text = inspect.getdoc(public_names()[name]) or ""
    assert len(text) > 20 and not text.startswith(f"{name}(")  # a dataclass without a docstring gets its signature


def test_the_public_names_are_imported_by_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    written = [alias.asname or alias.name for node in tree.body[1:] for alias in node.names]
    assert all(isinstance(node, ast.ImportFrom) for node in tree.body[1:])
    assert set(written) == set(public_names()) and len(written) == len(set(written))


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_every_module_says_what_it_is(module):
    assert all(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in files_of(module))


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "sklearn", "torchvision", "IPython", "ipywidgets", "PIL", "click", "diffusers", "webdataset"]
    program = f"import json, sys, ddpm_core; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def test_the_top_level_of_the_repository_holds_only_what_belongs_there():
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode or not result.stdout:
        pytest.skip("this is not a git checkout")
    assert {name.split("/")[0] for name in result.stdout.split("\0") if name} <= FOLDERS | PAPERS | TOOLS
