"""Puts the words of notebooks/GLOSSARY.md into the notebooks, folded, under the headings where they first come up.

python tools/glossary.py check    says which notebooks do not agree with the glossary
python tools/glossary.py add      makes them agree

The glossary is the only source: its last column says which notebook and which section a word belongs to.
"""

import argparse
import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
GLOSSARY = "GLOSSARY.md"
COLUMNS = ["term", "中文", "in plain words", "explained in"]
MOST_TERMS_IN_A_BLOCK = 6
# A block is found again by its first words, so that a changed glossary replaces it.
BLOCK = re.compile(r"\n\n<details><summary>New words: .*?\n</details>(?=\n|$)", re.DOTALL)
HEADING = re.compile(r"#{1,6} (?:\d+ · )?(?P<heading>.+)")
FENCE = re.compile(r" {0,3}(```|~~~)")


@dataclass(frozen=True)
class Entry:
    """One row of the table. notebook is a number such as "02", heading a section's heading without its number."""

    term: str
    chinese: str
    meaning: str
    notebook: str
    heading: str

    @property
    def place(self) -> str:
        return f"{self.notebook} · {self.heading}"


class GlossaryError(ValueError):
    """The glossary cannot be read, or does not fit the notebooks. The message is one sentence for the reader."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["add", "check"])
    parser.add_argument("--folder", type=Path, default=NOTEBOOKS, help="another folder with notebooks and glossary")
    arguments = parser.parse_args()
    try:
        changed = run(arguments.folder, write=arguments.command == "add")
    except (GlossaryError, OSError) as error:
        sys.exit(str(error))
    if arguments.command == "add":
        print("\n".join(f"{name}: renewed" for name in changed) or f"The notebooks agree with {GLOSSARY} already.")
    elif changed:
        sys.exit(f"not as {GLOSSARY} says: {', '.join(changed)}. To mend it: python tools/glossary.py add")


def run(folder: Path, write: bool) -> list[str]:
    """The names of the notebooks that do not agree with the glossary; with write they do afterwards."""
    entries = read_glossary((folder / GLOSSARY).read_text(encoding="utf-8"))
    paths = {path.name[:2]: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    for entry in entries:
        if entry.notebook not in paths:
            raise GlossaryError(f"{GLOSSARY}: {entry.term!r} is first in {entry.place!r}: there is no such notebook")
    stale = []
    for number, path in paths.items():
        notebook = nbformat.read(path, as_version=4)
        before = [cell.source for cell in notebook.cells]
        put_into(notebook, [entry for entry in entries if entry.notebook == number])
        if before != [cell.source for cell in notebook.cells]:
            stale.append((path, notebook))
    if write:  # only now that the glossary fits all of them
        for path, notebook in stale:
            nbformat.write(notebook, path)
    return [path.name for path, _ in stale]


def read_glossary(text: str) -> list[Entry]:
    """The rows of the table, in their order."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    if rows[:1] != [COLUMNS]:
        raise GlossaryError(f"{GLOSSARY}: the table must begin with the columns {' | '.join(COLUMNS)}")
    entries = []
    for row in rows[2:]:  # the second row is the line under the column names
        if len(row) != len(COLUMNS) or not all(row):
            raise GlossaryError(f"{GLOSSARY}: the row of {row[0]!r} must have {len(COLUMNS)} cells, none of them empty")
        notebook, separator, heading = row[3].partition(" · ")
        if not separator:
            raise GlossaryError(f"{GLOSSARY}: {row[0]!r} is first in {row[3]!r}; write it like '02 · Schedules'")
        entries.append(Entry(*row[:3], notebook, heading))
    return entries


def put_into(notebook: nbformat.NotebookNode, entries: list[Entry]) -> None:
    """Replaces the notebook's blocks by those of entries, which are all its own."""
    markdown = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in markdown:
        cell.source = without_blocks(cell.source)
    known = [heading for cell in markdown for heading, _ in headings(cell.source)]
    sections: dict[str, list[Entry]] = {}
    for entry in entries:
        sections.setdefault(entry.heading, []).append(entry)
    for heading, here in sections.items():
        if known.count(heading) != 1:
            raise GlossaryError(_not_found_once(here[0], known))
        if len(here) > MOST_TERMS_IN_A_BLOCK:
            raise GlossaryError(
                f"{GLOSSARY}: {len(here)} words are first in {here[0].place!r}; "
                f"more than {MOST_TERMS_IN_A_BLOCK} at once are too many"
            )
    for cell in markdown:
        lines = cell.source.split("\n")
        for heading, number in reversed(headings(cell.source)):  # from below, as the lines above keep their numbers
            if heading in sections:
                lines[number + 1 : number + 1] = ["", block(sections[heading])]
        cell.source = "\n".join(lines)


def without_blocks(source: str) -> str:
    return BLOCK.sub("", source)


def block(entries: list[Entry]) -> str:
    names = ", ".join(f"{entry.term} {entry.chinese}" for entry in entries)
    rows = [f"- **{entry.term}** {entry.chinese}: {entry.meaning}" for entry in entries]
    # Markdown inside HTML is rendered only after an empty line.
    opening, link = f"<details><summary>New words: {names}</summary>", f"[All words]({GLOSSARY})"
    return "\n".join([opening, "", *rows, "", link, "", "</details>"])


def headings(source: str) -> list[tuple[str, int]]:
    """Each heading of a Markdown text, without its number, and the line that it stands in."""
    found, in_code = [], False
    for number, line in enumerate(source.split("\n")):
        if FENCE.match(line):
            in_code = not in_code
        elif not in_code and (match := HEADING.fullmatch(line)):
            found.append((match["heading"].strip(), number))
    return found


def _not_found_once(entry: Entry, known: list[str]) -> str:
    told = f"{GLOSSARY}: {entry.term!r} is first in {entry.place!r}, but notebook {entry.notebook} has "
    if entry.heading in known:
        return told + "that heading more than once"
    near = difflib.get_close_matches(entry.heading, known, n=1)
    return told + "no such heading" + (f"; the nearest is {near[0]!r}" if near else "")


if __name__ == "__main__":
    main()
