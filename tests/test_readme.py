"""The Chinese README says what the English one says, and the teacher's guide agrees with both and with the notebooks.

Where two of them differ in a fact, a test names it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
import torch
from click.testing import CliRunner

from ddpm_core import NoiseSchedule, TrainingState, UNet, cosine_betas, sample, save_checkpoint
from ddpm_core.__main__ import main

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
TEACHING = "notebooks/TEACHING.md"
HEADING = re.compile(r"(?P<level>#{1,6}) (?P<title>.+)")
COMMENT = re.compile(r"(^|\s+)# .*$")
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
CHINESE_LETTER = re.compile(r"[\u4e00-\u9fff]")


@dataclass
class Section:
    """What a section states that is the same in every language, each with its kind, such as ("number", "3.11")."""

    level: int
    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    prose: str = ""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections_of(text: str) -> list[Section]:
    sections = [Section(0, "before the first heading")]
    in_code = False
    for line in text.splitlines():
        here = sections[-1]
        if line.startswith("```"):
            in_code = not in_code
            here.facts += [("code block", line)] if in_code else []
        elif in_code:
            here.facts += [("line of code", code)] if (code := COMMENT.sub("", line)).strip() else []
        elif match := HEADING.fullmatch(line):
            sections.append(Section(len(match["level"]), match["title"]))
        elif line.startswith("|"):
            here.facts += facts_of_row(line)
        else:
            here.facts += facts_of_prose(line)
            here.prose += line
    return sections


def facts_of_row(line: str) -> list[tuple[str, str]]:
    """A row is known by the links or the code in its first cell, and counts with the numbers of its other cells."""
    first, *others = line.strip("|").split("|")
    rest = "|".join(others)
    named = LINK.findall(first) or CODE.findall(first)
    if not named:  # the names of the columns, in words
        return facts_of_prose(line)
    return [("table row", " ".join([*named, *numbers_in(rest)])), *code_and_links_in(rest)]


def facts_of_prose(line: str) -> list[tuple[str, str]]:
    return [*code_and_links_in(line), *(("number", number) for number in numbers_in(line))]


def code_and_links_in(line: str) -> list[tuple[str, str]]:
    targets = [target for target in LINK.findall(line) if target not in (ENGLISH, CHINESE)]
    return [*(("code", code) for code in CODE.findall(line)), *(("link to", target) for target in targets)]


def numbers_in(line: str) -> list[str]:
    return NUMBER.findall(LINK.sub("]", CODE.sub("", line)))


def differences(english: str, chinese: str) -> list[str]:
    """What either README states and the other does not, one sentence each."""
    pairs = sections_of(english), sections_of(chinese)
    levels = [[section.level for section in sections] for sections in pairs]
    if levels[0] != levels[1]:
        titles = [" / ".join(section.title for section in sections[1:]) for sections in pairs]
        return [f"{ENGLISH} has the sections {titles[0]}, but {CHINESE} has {titles[1]}"]
    found = []
    for ours, theirs in zip(*pairs, strict=True):
        wanted, there = Counter(ours.facts), Counter(theirs.facts)
        section = repr(theirs.title)
        found += [f"{CHINESE} lacks in {section} the {kind} {fact}" for kind, fact in wanted - there]
        found += [f"{CHINESE} has in {section} the {kind} {fact}, {ENGLISH} not" for kind, fact in there - wanted]
        code = [[fact for kind, fact in each.facts if kind == "line of code"] for each in (ours, theirs)]
        if wanted == there and code[0] != code[1]:
            found.append(f"{CHINESE} has the lines of code in {section} in another order than {ENGLISH}")
    return found


def test_the_chinese_readme_says_the_same():
    found = differences(read(ENGLISH), read(CHINESE))
    assert not found, "\n" + "\n".join(found)


def test_each_readme_leads_to_the_other():
    assert f"]({CHINESE})" in read(ENGLISH), f"{ENGLISH} lacks a link to {CHINESE}"
    assert f"]({ENGLISH})" in read(CHINESE), f"{CHINESE} lacks a link to {ENGLISH}"


def test_no_section_was_left_in_english():
    left = [section.title for section in sections_of(read(CHINESE)) if not chinese_enough(section)]
    assert left == []


def chinese_enough(section: Section) -> bool:
    heading_is_chinese = section.level == 0 or CHINESE_LETTER.search(section.title)
    return bool(heading_is_chinese and (not section.prose or CHINESE_LETTER.search(section.prose)))


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_a_scheduler_of_diffusers_steps_a_model_of_ours_to_the_same_pictures(name, tmp_path, monkeypatch):
    [code] = [code for code in re.findall(r"```python\n(.*?)```", read(name), re.DOTALL) if "DDPMScheduler" in code]
    torch.manual_seed(0)
    state, schedule = TrainingState(UNet(1, (8,))), NoiseSchedule(cosine_betas(200))
    torch.nn.init.normal_(state.ema_model.head[-1].weight, std=0.1)  # it says something, as after some training
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    save_checkpoint("build/my_digits.safetensors", state, schedule)

    names = dict(torch=torch)
    exec(code.replace("x_t = torch.randn", "torch.manual_seed(1); x_t = torch.randn"), names)
    torch.manual_seed(1)
    *_, x_0 = sample(state.ema_model, schedule, torch.randn(16, 1, 8, 8), num_steps=50)
    assert x_0.std() > 0.1
    torch.testing.assert_close(names["x_t"], x_0, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_an_exported_model_draws_as_the_readme_says(name, tmp_path, monkeypatch, own_modules):
    [command] = re.findall(r"python -m ddpm_core (export .*)", read(name))
    [code] = [code for code in re.findall(r"```python\n(.*?)```", read(name), re.DOTALL) if "DiffusionPipeline" in code]
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    state, notes = TrainingState(UNet(1, (8,))), dict(picture_size=[1, 8, 8])
    save_checkpoint("build/my_digits.safetensors", state, NoiseSchedule(cosine_betas(200)), notes)
    assert CliRunner().invoke(main, command.split()).exit_code == 0
    names = {}
    exec(code, names)
    assert [image.size for image in names["images"]] == [(8, 8)] * 16


@pytest.mark.parametrize("name", [ENGLISH, CHINESE, TEACHING])
def test_every_file_that_is_linked_exists(name):
    targets = [target.partition("#")[0] for target in LINK.findall(read(name)) if "://" not in target]
    assert [target for target in targets if target and not (ROOT / name).parent.joinpath(target).exists()] == []


def rows_under(heading: str) -> list[list[str]]:
    """The rows of the table in a section of the teacher's guide, without the names of the columns."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", read(TEACHING), re.DOTALL | re.MULTILINE)
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


PLANS = ["Three hours", "A full day"]


@pytest.mark.parametrize("plan, minutes", [(PLANS[0], 3 * 60), (PLANS[1], 8 * 60)])
def test_each_block_of_a_plan_begins_when_the_one_before_it_ends(plan, minutes):
    rows = rows_under(plan)
    clock = [int(hour) * 60 + int(minute) for hour, minute in (row[0].split(":") for row in rows)]
    ends = [begin + int(row[1]) for begin, row in zip(clock, rows, strict=True)]
    assert clock[1:] == ends[:-1]
    assert ends[-1] - clock[0] == minutes


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_names_sections_that_its_notebooks_have(plan):
    headings = set()
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        markdown = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        headings |= set(re.findall(r"^#+ (?:\d+ · )?(.+)$", "\n".join(markdown), re.MULTILINE))
    named = {name for row in rows_under(plan) for name in re.findall(r"\*([^*]+)\*", " ".join(row))}
    assert named and named - headings == set()


def test_the_teacher_counts_with_the_minutes_of_the_readme():
    minutes = re.findall(r"\(notebooks/\d\d_\w+\.ipynb\) \|.*\| ([\d.]+)[^|]*\|$", read(ENGLISH), re.MULTILINE)
    [measured] = [row[1:] for row in rows_under("How long it runs") if row[0].startswith("2 CPU cores")]
    assert measured == minutes


def test_the_teacher_has_three_questions_for_each_notebook():
    [questions] = re.findall(r"^## Questions for the room\n(.*?)^## ", read(TEACHING), re.DOTALL | re.MULTILINE)
    parts = questions.split("\n### ")[1:]
    asked = {part[:2]: len(re.findall(r"^- \*", part, re.MULTILINE)) for part in parts}
    assert sorted(asked) == [path.name[:2] for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
    assert min(asked.values()) >= 3


SMALL_ENGLISH = """# Title

See `make lab`, 8 minutes, and [more](more.md).

```bash
make lab   # opens it
make test
```

| what | minutes |
|---|---|
| [one](one.ipynb) | 0.2 |
"""
SMALL_CHINESE = """# 标题

见 `make lab`，8 分钟，以及[更多](more.md)。

```bash
make lab   # 打开
make test
```

| 什么 | 分钟 |
|---|---|
| [一](one.ipynb) | 0.2 |
"""


def test_a_faithful_translation_has_no_differences():
    assert differences(SMALL_ENGLISH, SMALL_CHINESE) == []


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("make test", "make tests", ["lacks in '标题' the line of code make test", "the line of code make tests"]),
        ("8 分钟", "9 分钟", ["lacks in '标题' the number 8", "the number 9, README.md not"]),
        ("`make lab`", "运行", ["lacks in '标题' the code make lab"]),
        ("[更多](more.md)", "更多", ["lacks in '标题' the link to more.md"]),
        ("| [一](one.ipynb) | 0.2 |\n", "", ["lacks in '标题' the table row one.ipynb 0.2"]),
        ("0.2", "0.3", ["lacks in '标题' the table row one.ipynb 0.2", "the table row one.ipynb 0.3, README.md not"]),
        ("```bash", "```", ["lacks in '标题' the code block ```bash", "the code block ```, README.md not"]),
        ("make lab   # 打开\nmake test", "make test\nmake lab", ["in another order"]),
        ("| 什么", "## 表\n\n| 什么", ["has the sections Title, but README.zh-CN.md has 标题 / 表"]),
    ],
)
def test_a_difference_is_named(old, new, told):
    assert old in SMALL_CHINESE
    found = differences(SMALL_ENGLISH, SMALL_CHINESE.replace(old, new))
    assert len(found) == len(told)
    for sentence, part in zip(found, told, strict=True):
        assert part in sentence


def test_a_section_left_in_english_is_found():
    assert all(map(chinese_enough, sections_of(SMALL_CHINESE)))
    assert not all(map(chinese_enough, sections_of(SMALL_ENGLISH)))
