"""The bilingual glossary, and the folded lines of new words that tools/glossary.py puts into the notebooks from it."""

import re
import sys
from pathlib import Path

import glossary
import nbformat
import pytest
from nbconvert.filters import markdown2html

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)  # a name in code is no use of the word
LINK_TO_NOTEBOOK = re.compile(r"\[[^\]]*\]\([^)]*\.ipynb\)")  # nor is another notebook's title
# Words that an earlier notebook uses, too, and why that is not where they are first met.
USED_EARLIER = {
    ("value", "01"): "in its everyday sense: how often each value came",
    ("value", "02"): "the same",
    ("label", "02"): "as a verb: nobody has to label anything",
    ("Transformer", "03"): "only as the source of the sinusoids",
    ("condition", "03"): "in its everyday sense: on one condition",
    ("temperature", "04"): "in its everyday sense: that of a patient",
    ("precision", "02"): "of a Gaussian, one divided by its variance, and explained there",
    ("recall", "04"): "as a verb",
    ("latent", "05"): "only in the title of a paper",
    ("variation", "02"): "in another word: total variation distance",
}


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


def test_the_notebooks_agree_with_the_glossary():
    assert glossary.run(NOTEBOOKS, write=False) == [], "to mend it: python tools/glossary.py add"


def test_a_word_comes_up_in_the_section_that_it_names():
    sections = {entry.place: section(CONTENTS[entry.notebook], entry.heading) for entry in ENTRIES}
    missing = [
        (word, entry.place) for entry in ENTRIES for word in words_of(entry) if not occurs(word, sections[entry.place])
    ]
    assert missing == []


def test_no_earlier_notebook_uses_the_word_and_every_exception_is_needed():
    texts = {number: prose(notebook) for number, notebook in CONTENTS.items()}
    used = {
        (word, number)
        for entry in ENTRIES
        for word in words_of(entry)
        for number, text in texts.items()
        if number < entry.notebook and occurs(word, text)
    }
    assert used == set(USED_EARLIER)


def test_a_row_is_one_sentence_with_a_chinese_name():
    assert [entry.term for entry in ENTRIES if not re.search(r"[\u4e00-\u9fff]", entry.chinese)] == []
    meanings = [re.sub(r"`[^`]*`", "", entry.meaning) for entry in ENTRIES]
    assert [meaning for meaning in meanings if not re.fullmatch(r"[^.]*\.", meaning)] == []


@pytest.mark.parametrize("column", ["term", "chinese", "meaning"])
def test_nothing_stands_there_twice(column):
    cells = [getattr(entry, column).casefold() for entry in ENTRIES]
    assert [cell for cell in cells if cells.count(cell) > 1] == []


def test_the_words_stand_in_the_order_of_the_course():
    order = [
        f"{number} · {heading}"
        for number, notebook in CONTENTS.items()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for heading, _ in glossary.headings(cell.source)
    ]
    places = [order.index(entry.place) for entry in ENTRIES]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "word, text, expected",
    [
        ("noise schedule", "a `NoiseSchedule` says", True),
        ("batch", "in batches", True),
        ("alpha bar", "alpha_bars[t]", True),
        ("beta", r"$\beta_t$", True),
        ("held out", "held-out digits", True),
        ("EMA", "a schema", False),
        ("key", "a keyboard", False),
        ("head", "ahead", False),
    ],
)
def test_a_word_is_recognised_in_its_forms_and_not_in_other_words(word, text, expected):
    assert occurs(word, text) == expected


TABLE = """Before the table.

| term | 中文 | in plain words | explained in |
|---|---|---|---|
| noise | 噪声 | Random numbers. | 01 · Noise |
| seed | 随机种子 | A start. | 01 · Noise |
| step | 步骤 | One of many. | 01 · Steps |
"""


@pytest.fixture
def course(tmp_path) -> Path:
    """A folder with a glossary of three words and a notebook of one text cell and one code cell."""
    text = "# 01 · All\n\n## 1 · Noise\n\n```\n## 2 · Steps\n```\n\n## 2 · Steps\nOne, two.\n\n"
    text += "<details><summary>Why?</summary>\nSo.\n</details>"
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("## 2 · Steps")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_all.ipynb")
    (tmp_path / "GLOSSARY.md").write_text(TABLE, encoding="utf-8")
    return tmp_path


def source_of(course: Path) -> str:
    [text, code] = nbformat.read(course / "01_all.ipynb", as_version=4).cells
    assert code.source == "## 2 · Steps"
    return text.source


def change(course: Path, old: str, new: str) -> None:
    assert old in TABLE
    (course / "GLOSSARY.md").write_text(TABLE.replace(old, new), encoding="utf-8")


def test_blocks_go_directly_under_their_headings(course):
    glossary.run(course, write=True)
    lines = source_of(course).split("\n")
    assert lines[2:5] == ["## 1 · Noise", "", "<details><summary>New words: noise 噪声, seed 随机种子</summary>"]
    assert lines[5:8] == ["", "- **noise** 噪声: Random numbers.", "- **seed** 随机种子: A start."]
    steps = max(number for number, line in enumerate(lines) if line == "## 2 · Steps")
    assert lines[steps + 1 : steps + 3] == ["", "<details><summary>New words: step 步骤</summary>"]
    assert "```\n## 2 · Steps\n```" in source_of(course)
    assert source_of(course).endswith("<details><summary>Why?</summary>\nSo.\n</details>")


def test_checking_writes_nothing_and_a_second_time_changes_nothing(course):
    path = course / "01_all.ipynb"
    before = path.read_bytes()
    assert glossary.run(course, write=False) == ["01_all.ipynb"] and path.read_bytes() == before
    assert glossary.run(course, write=True) == ["01_all.ipynb"]
    once = path.read_bytes()
    assert glossary.run(course, write=True) == [] and path.read_bytes() == once


def test_a_changed_meaning_replaces_the_block_and_a_lost_row_removes_it(course):
    original = source_of(course)
    glossary.run(course, write=True)
    change(course, "One of many.", "A small change.")
    glossary.run(course, write=True)
    assert "A small change." in source_of(course) and "One of many." not in source_of(course)
    change(course, TABLE[TABLE.index("| noise") :], "")
    glossary.run(course, write=True)
    assert source_of(course) == original


def test_the_words_are_a_list_when_they_are_rendered():
    page = markdown2html(f"## A\n\n{glossary.block(ENTRIES[:3])}\n\nText.")
    assert page.count("<li>") == page.count("<strong>") == 3
    assert "</details>" in page and "<p>Text.</p>" in page


def command(course: Path, name: str) -> str:
    """The command in this process. Returns the sentence with which it stops, or nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["glossary.py", name, "--folder", str(course)])
        try:
            glossary.main()
        except SystemExit as stopped:
            return stopped.code
    return ""


def test_the_command_says_what_is_out_of_step_and_mends_it(course):
    told = command(course, "check")
    assert "01_all.ipynb" in told and "glossary.py add" in told
    assert command(course, "add") == command(course, "check") == ""


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("01 · Steps", "02 · Steps", "no such notebook"),
        ("01 · Steps", "01 · Stops", "the nearest is 'Steps'"),
        ("01 · Steps", "Steps", "write it like"),
        ("| A start. ", "", "must have 4 cells"),
        ("随机种子", "", "none of them empty"),
        ("| term |", "| word |", "must begin with the columns"),
        (
            "| noise | 噪声 | Random numbers. | 01 · Noise |\n",
            "| a | 一 | A. | 01 · Noise |\n" * 6,
            "7 words are first in",
        ),
    ],
)
def test_a_glossary_that_does_not_fit_changes_nothing(course, old, new, told):
    change(course, old, new)
    before = (course / "01_all.ipynb").read_bytes()
    with pytest.raises(glossary.GlossaryError, match=told):
        glossary.run(course, write=True)
    assert (course / "01_all.ipynb").read_bytes() == before


def test_the_command_says_what_does_not_fit_in_one_sentence(course):
    change(course, "01 · Steps", "01 · Stops")
    assert command(course, "add") == (
        "GLOSSARY.md: 'step' is first in '01 · Stops', but notebook 01 has no such heading; the nearest is 'Steps'"
    )


def test_a_heading_that_stands_there_twice_is_told(course):
    notebook = nbformat.read(course / "01_all.ipynb", as_version=4)
    notebook.cells[0].source += "\n\n### Steps"
    with pytest.raises(glossary.GlossaryError, match="more than once"):
        glossary.put_into(notebook, glossary.read_glossary(TABLE))
