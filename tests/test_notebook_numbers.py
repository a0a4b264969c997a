"""Numbers in the notebooks' prose that have drifted from what the cells print.

Percentages and decimals must stand, rounded alike, in the code, the outputs, a code span or a formula of their section;
whole numbers from 20 on somewhere in the notebook. A number may instead come from a source that its sentence links to.
"""

import re
from pathlib import Path

import glossary
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

PATHS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))
SPAN = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)  # arithmetic belongs in one
# Sizes such as 28 x 28, years, t = 300, and what is counted by a name: notebook 01, sections 2 and 3, eq. 12.
NAME = r"(?:arXiv|notebooks?|sections?|eqs?\.|equations?|exercises?|algorithms?|chapters?|t =)"
OTHER = re.compile(
    rf"{NAME} *\(?\d[\d.]*(?:(?:, | and | to )\d+)*|\d+(?: x \d+)+|\b(?:19|20)\d\d\b|<[^>]*>|\]\(.*?\)", re.I
)
# "About" allows 5 % more or less.
NUMBER = re.compile(r"(\b(?:about|nearly|roughly) )?(?<![\w.,])(\d+(?:,\d+)*(?:\.\d+)?)(?!\w|\.\d)( ?%)?", re.I)
# What none of this holds for, by notebook, and why.
ALLOWED = {
    "01": {
        "1,000": "steps are usual",
        "6.4": "64 / 10",
        "0.9796": "the answer of an exercise, which the examiner knows",
        "786,432": "3 * 512 * 512, in the quiz",
        "887": "the root of that",
        **dict.fromkeys(("0.18", "20", "56", "0.28", "0.36", "0.25", "0.24"), "see exercises/test_notebook_01"),
    },
    "02": dict.fromkeys(("0.25", "0.5", "0.75", "0.87"), "arithmetic, in the quiz")
    | {"0.999": "the bound of the cosine schedule's betas, in an exercise"},
    "04": dict.fromkeys(("0.82", "0.87", "1.70"), "an exercise's example, which the examiner knows")
    | {"86": "made up, in the quiz"},
    "08": {
        "679": "counted once, with diffusers' U-Net of that size",
        "260": "a setting of the benchmark that it names",
    },
    "09": {
        "34": "measured for notebook 08, which shows it",
        **dict.fromkeys(("0.1", "1.5"), "defaults of the package and notes of the checkpoints"),
        **dict.fromkeys(("17.2", "16.55", "7.99", "4.6", "1,024", "1024", "3.5", "650", "250"), "from the papers"),
        **dict.fromkeys(("2.5", "2,048", "800,000", "600,000", "4,096", "27", "95", "5"), "from the papers, too"),
        **dict.fromkeys(
            ("0.47", "1.8", "1.1", "99,000", "38,500", "2,311"), "in the checkpoints and how they were made"
        ),
        "111": "of the 399 withheld pairs, those of everyday names",
        **dict.fromkeys(("0.995", "0.9"), "examples of a share, in exercise and quiz"),
    },
}


def shown(cells) -> set[float]:
    """The numbers that the cells show in code and outputs, or, in text, in formulas and code spans."""
    texts = []
    for cell in cells:
        texts += SPAN.findall(cell.source) if cell.cell_type == "markdown" else [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), str(output.get("metadata", ""))]  # an alt text tells a figure's title
            texts += [text for mime, text in output.get("data", {}).items() if mime.startswith("text/")]
    texts = [text for text in texts if "<progress" not in text]  # its seconds are others in every run
    return {float(re.sub("[,_]", "", word)) for word in re.findall(r"\d[\d,_]*(?:\.\d+)?(?:e-?\d+)?", " ".join(texts))}


def unexplained(cells) -> list[tuple[str, str]]:
    """(number, sentence) of all that the prose states and nothing shows."""
    starts = [i for i, cell in enumerate(cells) if re.match("##? ", cell.source) and cell.cell_type == "markdown"]
    anywhere, found = shown(cells), []
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        section = shown(cells[start:end])
        prose = [glossary.without_blocks(cell.source) for cell in cells[start:end] if cell.cell_type == "markdown"]
        for sentence in re.split(r"(?<=[.?!])\s+|\n", SPAN.sub(" ", "\n".join(prose))):
            for about, number, percent in NUMBER.findall("" if "](http" in sentence else OTHER.sub(" ", sentence)):
                value, is_whole = float(number.replace(",", "")), "." not in number and not percent
                half = max(0.501 * 10.0 ** -len(number.partition(".")[2]), 0.05 * value if about else 0)
                candidates = (
                    anywhere if is_whole and not about else section | {100 * share for share in section if percent}
                )
                if not (is_whole and value < 20) and all(abs(value - other) > half for other in candidates):
                    found.append((number, sentence.strip()))
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_numbers_in_the_text_are_those_that_the_cells_show(path):
    found = unexplained(nbformat.read(path, as_version=4).cells)
    allowed = ALLOWED.get(path.name[:2], {})
    assert [(number, sentence) for number, sentence in found if number not in allowed] == []
    assert allowed.keys() <= {number for number, _ in found}, "allowed, and no longer needed"


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("It is 0.24, or 24 %, of 5,000.", []),
        ("It is 0.25, or 23 %, of 5,001.", ["0.25", "23", "5,001"]),  # drifted
        ("It is about 0.25, not about 0.26.", ["0.26"]),
        ("With $0.5 + 0.25 = 0.75$ it is 0.75, not 0.85.", ["0.85"]),
        ("In 2020 [they](https://arxiv.org/abs/1) had 0.99. We have 0.98.", ["0.98"]),
        ("Of 28 x 28 pixels, notebook 01 and section 2.1, at t = 300, 12 of them.", []),
        ("## Next\n\nIt is 0.24 of 5,000.", ["0.24"]),  # of another section
    ],
)
def test_a_number_that_has_drifted_is_found(text, numbers):
    code = new_code_cell("count = 5_000", outputs=[new_output("stream", text="a share of 0.241\n")])
    cells = [new_markdown_cell("# Title"), code, new_markdown_cell(text)]
    assert [number for number, _ in unexplained(cells)] == numbers
