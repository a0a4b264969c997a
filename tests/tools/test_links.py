"""The course's address on GitHub: written everywhere by one command, taken out by one command, never half."""

import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path("tools") / "links.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
COPIED = NOTEBOOKS[:2]  # into the copy of the course; two make the point
COLAB = "https://colab.research.google.com/github/ada/diffusion/blob/main/notebooks/"


def load_links(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_links", root / SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def course(tmp_path) -> Path:
    """A copy of the files with an address in them, with none set."""
    for name in ("tools/links.py", "tools/setup.py", "pyproject.toml", "constraints.txt", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    for path in COPIED:
        shutil.copy(path, tmp_path / "notebooks")
    (tmp_path / "README.zh-CN.md").write_text("[English](README.md)\n\n# 扩散模型\n\n内容\n", encoding="utf-8")
    load_links(tmp_path).stamp("")
    return tmp_path


def make_links(course: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command in this process, which saves seconds each time."""
    links, printed, reason = load_links(course), io.StringIO(), ""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["links.py", *arguments])
        try:
            links.main()
        except SystemExit as stopped:
            reason = f"{stopped.code}\n"
    return subprocess.CompletedProcess(arguments, 1 if reason else 0, printed.getvalue(), reason)


def contents(course: Path) -> dict[str, str]:
    return {str(path.relative_to(course)): path.read_text("utf-8") for path in course.rglob("*") if path.is_file()}


def test_notebooks_and_readmes_agree_with_pyproject():
    links = load_links(ROOT)
    expected = {path: links.with_setup(path, links.stored()) for path in NOTEBOOKS}
    expected |= {ROOT / name: links.with_readme_badge(ROOT / name, links.stored()) for name in links.READMES}
    stale = [path.name for path, text in expected.items() if text != path.read_text(encoding="utf-8")]
    assert stale == [], "run: make links"


@pytest.mark.parametrize("repository", ["", "ada/diffusion"])
def test_the_setup_cell_is_short_and_has_a_title_where_colab_folds_it(repository):
    lines = load_links(ROOT).setup_cell(repository, "03").splitlines()
    assert len(lines) <= 18 and max(map(len, lines)) <= 100
    assert lines[0].startswith("# @title ")
    assert f'COURSE = "{repository}"' in "\n".join(lines) and "pictures/03.png" in "\n".join(lines)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_setup_cell_is_folded_and_its_picture_is_the_one_under_the_title(path):
    title, text, cell = nbformat.read(path, 4).cells[:3]
    assert cell.metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert "folded" in text.source and "Colab" in text.source  # what a learner does not see is told
    [picture] = re.findall(r'<img src="([^"]+)"', title.source)
    assert f'Image("{picture}")' in cell.source


def test_an_address_is_written_everywhere_and_taken_out_again(course):
    before = contents(course)
    assert make_links(course, "ada/diffusion").returncode == 0
    after = contents(course)
    changed = {name for name in before if before[name] != after[name]}
    names = [path.name for path in COPIED]
    assert changed == {"pyproject.toml", "README.md", "README.zh-CN.md", *(f"notebooks/{name}" for name in names)}
    assert 'repository = "ada/diffusion"' in after["pyproject.toml"]
    assert f"(notebooks/pictures/colab.svg)]({COLAB}{names[0]})\n" in after["README.md"]
    assert f"# 扩散模型\n\n[![Open in Colab](notebooks/pictures/colab.svg)]({COLAB}" in after["README.zh-CN.md"]
    for name in names:
        cells = json.loads(after[f"notebooks/{name}"])["cells"]
        assert f"[![Open in Colab](pictures/colab.svg)]({COLAB}{name})" in "".join(cells[0]["source"])
    assert make_links(course, "").returncode == 0
    assert contents(course) == before


def test_without_an_address_nothing_links_to_colab_or_to_someone_elses_repository(course):
    for name, text in contents(course).items():
        if not name.startswith("tools"):
            assert "colab.research" not in text and "Open in Colab]" not in text


def test_the_same_address_again_changes_nothing_and_another_replaces_it(course):
    make_links(course, "ada/diffusion")
    before = contents(course)
    assert "nothing changed" in make_links(course, "ada/diffusion").stdout
    assert contents(course) == before
    make_links(course, "bob/course")
    assert not [name for name, text in contents(course).items() if "ada/diffusion" in text]
    assert contents(course)["notebooks/" + NOTEBOOKS[0].name].count("Open in Colab]") == 1


def test_without_a_word_the_address_in_pyproject_counts(course):
    path = course / "pyproject.toml"
    path.write_text(path.read_text("utf-8").replace('repository = ""', 'repository = "ada/diffusion"'), "utf-8")
    assert make_links(course).returncode == 0
    assert COLAB in contents(course)["README.md"]


def test_ids_outputs_and_all_other_cells_stay(course):
    path = course / "notebooks" / NOTEBOOKS[0].name
    before = nbformat.read(path, 4)
    make_links(course, "ada/diffusion")
    after = nbformat.read(path, 4)
    number = next(number for number, cell in enumerate(before.cells) if cell.cell_type == "code")
    for cell in (0, number):
        assert after.cells[cell].source != before.cells[cell].source
        after.cells[cell].source = before.cells[cell].source
    assert after == before


@pytest.mark.parametrize(
    "text",
    ["ada/diffusion", "https://github.com/ada/diffusion", "https://github.com/ada/diffusion.git", " ada/diffusion/ "],
)
def test_an_address_may_be_short_or_full(text):
    assert load_links(ROOT).checked(text) == "ada/diffusion"


@pytest.mark.parametrize(
    "text",
    [
        "foo",
        "/foo",
        "foo/bar/baz",
        "foo/..",
        "-foo/bar",
        'foo/bar"; import os',
        "foo/b{a}r",
        "http://github.com/foo/bar",
        "https://github.com/foo/bar/tree/main",
        "https://github.com.elsewhere.org/foo/bar",
    ],
)
def test_a_wrong_address_is_refused_in_one_sentence(text):
    with pytest.raises(SystemExit) as stopped:
        load_links(ROOT).checked(text)
    assert re.fullmatch(r"REPO must be owner/name .*\.", stopped.value.code) and repr(text) in stopped.value.code


def test_the_command_says_the_sentence_fails_and_changes_nothing(course):
    before = contents(course)
    result = make_links(course, "foo")
    assert result.returncode == 1 and result.stdout == "" and "'foo'" in result.stderr
    assert contents(course) == before


@pytest.mark.parametrize("name", ["pyproject.toml", f"notebooks/{COPIED[-1].name}"])
def test_where_one_file_is_not_as_expected_none_is_changed(name, course):
    path = course / name
    text = path.read_text("utf-8").replace("[tool.ddpm-course]", "[tool.other]").replace("## Set-up", "## Start")
    path.write_text(text, "utf-8")
    before = contents(course)
    result = make_links(course, "ada/diffusion")
    assert result.returncode == 1 and len(result.stderr.strip().splitlines()) == 1 and Path(name).name in result.stderr
    assert contents(course) == before


@pytest.mark.parametrize("was_ready", [True, False])
def test_a_ready_environment_stays_ready_and_only_a_ready_one(was_ready, course):
    setup = load_links(course).load_setup()
    setup.VENV.mkdir()
    setup.STAMP.write_text(setup.fingerprint() if was_ready else "of another pyproject.toml")
    make_links(course, "ada/diffusion")
    assert (setup.STAMP.read_text() == setup.fingerprint()) == was_ready


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    "words, arguments",
    [
        (["REPO=ada/diffusion"], ["ada/diffusion"]),
        (["REPO="], [""]),
        ([], []),
        (["REPO=it's $$HOME"], ["it's $HOME"]),
    ],
)
def test_make_hands_over_what_was_said(words, arguments, tmp_path):
    (tmp_path / "python").write_text(
        f"#!{sys.executable}\nimport json, sys\nif 'links' in sys.argv[1]: print(json.dumps(sys.argv[2:]))\n"
    )
    (tmp_path / "python").chmod(0o755)
    command = ["make", "--silent", "-f", str(ROOT / "Makefile"), f"BIN={tmp_path}", f"PYTHON={tmp_path}/python"]
    result = subprocess.run([*command, "links", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == arguments
