"""The bilingual glossary, and the folded lines of new words that .ci/glossary.py puts into the notebooks from it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / ".ci" / "glossary.py"
NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)  # a name in code is no use of the word
LINK_TO_NOTEBOOK = re.compile(r"\[[^\]]*\]\([^)]*\.ipynb\)")  # nor is another notebook's title
# Words that an earlier notebook uses as well, in another sense or in passing.
USED_EARLIER = {
    ("key", "01"): "",
}


def load_script():
    spec = importlib.util.spec_from_file_location("course_glossary", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


glossary = load_script()
ENTRIES = glossary.read_glossary((NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8"))
CONTENTS = {path.name[:2]: nbformat.read(path, as_version=4) for path in PATHS}


def words_of(entry) -> list[str]:
    return entry.term.split(" / ")


def occurs(word: str, text: str) -> bool:
    """Whether text has word, in the plural, with a hyphen or as a name in code (NoiseSchedule, alpha_bars), too."""
    pattern = r"[\s_-]?".join(map(re.escape, re.split(r"[\s_-]", word)))
    return re.search(rf"(?<![A-Za-z]){pattern}(?:s|es|d)?(?![A-Za-z])", text, re.IGNORECASE) is not None


def prose(notebook) -> str:
    texts = [glossary.without_blocks(cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    return LINK_TO_NOTEBOOK.sub("", CODE.sub("", "\n\n".join(texts)))


def section(notebook, heading: str) -> str:
    """All text and code from a heading to the next one."""
    lines, inside = [], False
    for cell in notebook.cells:
        is_markdown = cell.cell_type == "markdown"
        source = glossary.without_blocks(cell.source) if is_markdown else cell.source
        starts = {number: name for name, number in glossary.headings(source)} if is_markdown else {}
        for number, line in enumerate(source.split("\n")):
            inside = starts.get(number, heading if inside else None) == heading
            lines += [line] if inside else []
    return "\n".join(lines)


@pytest.fixture
def entry(request):
    return request.param


each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.term, indirect=True)


def test_the_notebooks_agree_with_the_glossary():
    assert glossary.run(NOTEBOOKS, write=False) == [], "to mend it: python .ci/glossary.py add"


@each_entry
def test_a_word_comes_up_in_the_section_that_it_names(entry):
    text = section(CONTENTS[entry.notebook], entry.heading)
    assert [word for word in words_of(entry) if not occurs(word, text)] == []


@each_entry
def test_no_earlier_notebook_uses_the_word(entry):
    for number, notebook in CONTENTS.items():
        if number < entry.notebook:
            used = [word for word in words_of(entry) if occurs(word, prose(notebook))]
            assert [word for word in used if (word, number) not in USED_EARLIER] == [], f"first in {number}"
