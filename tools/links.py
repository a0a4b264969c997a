"""Writes the course's address on GitHub wherever it belongs, and takes it out again.

make links REPO=owner/name    the address goes into pyproject.toml; notebooks and READMEs get an "Open in Colab" badge
make links REPO=              the address and all badges go
make links                    brings notebooks and READMEs in line with the address in pyproject.toml
"""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import nbformat

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")
BRANCH = "main"  # the one that the badges open
# The badge is our own picture: it shows without a network, and no page calls on another server.
PICTURE = "pictures/colab.svg"

# Folded in every notebook. Where the course is not installed, it fetches it, and with it only what a hosted Jupyter may
# lack: --no-deps, so that the torch and numpy that are there stay as they are. Colab shows no pictures from the
# notebook's own folder in text, so there the title's picture is the cell's output.
SETUP = """\
# @title Set-up: run this first
import os
import sys
from importlib.util import find_spec
from IPython.display import Image

COURSE = "{repository}"  # the course's address on GitHub, for Colab
if not find_spec("ddpm_core"):
    if not COURSE:
        raise ModuleNotFoundError("No course here. Start with: make lab. In Colab: see README.md")
    ![ -d course ] || GIT_TERMINAL_PROMPT=0 git clone --depth 1 https://github.com/{{COURSE}} course
    if not os.path.isdir("course"):
        raise ModuleNotFoundError("git could not get the course. With a network, run this again.")
    %pip install -q --no-deps click ipywidgets matplotlib pygments safetensors scikit-learn tqdm
    sys.path.insert(0, os.path.abspath("course"))
    os.chdir("course/notebooks")
    display(Image("pictures/{number}.png"))
print("The course is ready.")"""
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # in Colab and in JupyterLab


def main() -> None:
    repository = checked(sys.argv[1]) if len(sys.argv) > 1 else stored()
    changed = stamp(repository)
    where = f"github.com/{repository}" if repository else "no address, so no badges"
    print(f"{where}: {', '.join(path.name for path in changed) or 'nothing'} changed.")


def checked(text: str) -> str:
    """owner/name, from that or from the full address; empty stays empty."""
    short = text.strip().removeprefix("https://github.com/").removesuffix("/").removesuffix(".git")
    if short and not re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*/[\w.-]*\w[\w.-]*", short, re.ASCII):
        sys.exit(f"REPO must be owner/name or https://github.com/owner/name, or empty for none; got {text!r}.")
    return short


def stored() -> str:
    """The address in pyproject.toml, which is the one that counts."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return checked(tomllib.loads(text)["tool"]["ddpm-course"]["repository"])


def stamp(repository: str) -> list[Path]:
    """Writes the address everywhere, or nowhere where a file is not as expected. Returns the files that changed."""
    texts = {ROOT / "pyproject.toml": described}
    texts |= {ROOT / name: with_readme_badge for name in READMES if (ROOT / name).is_file()}
    texts |= dict.fromkeys(sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")), with_setup)
    new = {path: write(path, repository) for path, write in texts.items()}
    changed = [path for path, text in new.items() if text != path.read_text(encoding="utf-8")]
    setup = load_setup()
    was_ready = setup.STAMP.is_file() and setup.STAMP.read_text() == setup.fingerprint()
    for path in changed:
        path.write_text(new[path], encoding="utf-8", newline="\n")
    if was_ready:  # pyproject.toml changed, but nothing in it that .venv is made from: no need to set up again
        setup.STAMP.write_text(setup.fingerprint())
    return changed


def described(path: Path, repository: str) -> str:
    """pyproject.toml with the address in it."""
    line = r'(\[tool\.ddpm-course\]\n(?:#[^\n]*\n)*repository = )"[^"\n]*"'
    text, count = re.subn(line, rf'\1"{repository}"', path.read_text(encoding="utf-8"))
    if count != 1:
        sys.exit('pyproject.toml needs these two lines, together: [tool.ddpm-course] and repository = "".')
    return text


def with_readme_badge(path: Path, repository: str) -> str:
    """A README with the badge of the first notebook under its title."""
    first = min((ROOT / "notebooks").glob("[0-9]*.ipynb")).name
    return with_badge(path.read_text(encoding="utf-8"), badge(repository, first, f"notebooks/{PICTURE}"))


def with_setup(path: Path, repository: str) -> str:
    """A notebook with its badge and the set-up cell; all else, outputs too, as it was."""
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source = with_badge(notebook.cells[0].source, badge(repository, path.name, PICTURE))
    number = next((number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"), 0)
    if not notebook.cells[number - 1].source.startswith("## Set-up"):
        sys.exit(f"{path.name} must have its first code cell directly under the heading ## Set-up.")
    notebook.cells[number].source = setup_cell(repository, path.name[:2])
    notebook.cells[number].metadata.update(FOLDED)
    return nbformat.writes(notebook) + "\n"


def setup_cell(repository: str, number: str) -> str:
    """The set-up cell of notebook number, such as "01"."""
    return SETUP.format(repository=repository, number=number)


def badge(repository: str, notebook: str, picture: str) -> str:
    """The badge in Markdown, or nothing where there is no address."""
    address = f"https://colab.research.google.com/github/{repository}/blob/{BRANCH}/notebooks/{notebook}"
    return f"[![Open in Colab]({picture})]({address})" if repository else ""


def with_badge(text: str, badge: str) -> str:
    """Markdown with this badge, and no other, between the title and the rest."""
    text = re.sub(r"\n\n\[!\[Open in Colab\].*", "", text)
    if not badge:
        return text
    return re.sub(r"^# .*", lambda title: f"{title[0]}\n\n{badge}", text, count=1, flags=re.MULTILINE)


def load_setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_setup", Path(__file__).with_name("setup.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
