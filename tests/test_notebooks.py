"""How the notebooks are written and stored. That they run is tested by nbval, and that their facts hold."""

import ast
import base64
import copy
import inspect
import io
import re
import statistics
from pathlib import Path

import nbformat
import PIL.Image
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import ddpm_core
import notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("[0-9]*.ipynb"))
EXPORTED = {name for name, thing in vars(ddpm_core).items() if name[0] != "_" and not inspect.ismodule(thing)}
MACHINE_PATH = re.compile(r"(?<![\w.:/<-])/(home|root|tmp|work|Users)\b|\b[A-Z]:\\Users")
MARKDOWN_PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)")
HTML_PICTURE = re.compile(r"<img\b[^>]*>")
HTML_TARGET = re.compile(r"""<img\b[^>]*?\bsrc=["'](?P<target>[^"']+)""")
MARKDOWN_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")


class Notebook:
    def __init__(self, path: Path):
        self.path = path
        self.content = nbformat.read(path, as_version=4)
        self.cells = self.content.cells
        self.code = [cell for cell in self.cells if cell.cell_type == "code"]
        self.markdown = [cell for cell in self.cells if cell.cell_type == "markdown"]
        self.outputs = [output for cell in self.code for output in cell.outputs]

    @property
    def pngs(self) -> list[tuple[bytes, dict]]:
        """Every stored PNG and its metadata."""
        return [
            (base64.b64decode(output.data["image/png"]), output.metadata.get("image/png", {}))
            for output in self.outputs
            if "image/png" in output.get("data", {})
        ]

    @property
    def output_texts(self) -> list[str]:
        """All text in the outputs; pictures are left out, as their letters mean nothing."""
        texts = [output.text for output in self.outputs if output.output_type == "stream"]
        for output in self.outputs:
            texts += [str(data) for mime, data in output.get("data", {}).items() if not mime.startswith("image/")]
        return [re.sub(r"base64,[\w+/=\s]+", "base64,", text) for text in texts]

    def targets(self, pattern: re.Pattern) -> list[str]:
        return [match["target"] for cell in self.markdown for match in pattern.finditer(cell.source)]


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def notebook(request) -> Notebook:
    return Notebook(request.param)


def defined_names(source: str) -> set[str]:
    """The names that a cell gives a meaning to in the notebook: not those inside functions, classes, comprehensions."""
    names = set()
    waiting: list[ast.AST] = [ast.parse(TransformerManager().transform_cell(source))]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
            case ast.Name(id=name, ctx=ast.Store()) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                names.add(name)
            case ast.Import(names=aliases):
                names |= {alias.asname or alias.name for alias in aliases}
            case ast.ImportFrom(module=module, names=aliases) if not module.startswith("ddpm_core"):
                names |= {alias.asname or alias.name for alias in aliases}
        waiting += ast.iter_child_nodes(node)
    return names


def test_names_are_found_where_a_cell_defines_them():
    for source, names in [
        ("a = b.c = 1; d[0] = a; e: int = 2; f += 1", {"a", "e", "f"}),
        ("def a(b):\n    c = b\nclass D:\n    e = 1", {"a", "D"}),
        ("for a, *b in c:\n    with d as e:\n        f = 1", {"a", "b", "e", "f"}),
        ("try:\n    pass\nexcept OSError as a:\n    pass", {"a"}),
        ("if (a := 1):\n    import b as c\n    from d import e", {"a", "c", "e"}),
        ("match a:\n    case [b, 1]:\n        pass", {"b"}),
        ("from ddpm_core import sample\nfrom ddpm_core.unet import UNet", set()),
        ("[a for a in b]; {a: c for a, c in b}; f = lambda d: d", {"f"}),
        ("%matplotlib inline\n!ls\na = 1\n?print", {"a"}),
    ]:
        assert defined_names(source) == names, source


def test_the_course_has_these_notebooks():
    names = "01_sampling_from_a_gaussian 02_the_forward_process 03_the_noise_predictor 04_training"
    names += " 05_text_conditioning 06_sampling_faster_and_freer 07_pictures_and_words 08_stable_diffusion"
    names += " 09_imagen_and_dalle_2"
    assert set(names.split()) <= {path.stem for path in PATHS}


def test_no_name_of_the_package_is_defined_again(notebook):
    again = {f"{cell.id}: {name}" for cell in notebook.code for name in defined_names(cell.source) & EXPORTED}
    assert again == set()


def test_code_cells_are_short(notebook):
    lengths = sorted(len(cell.source.splitlines()) for cell in notebook.code)
    assert statistics.median(lengths) <= 8
    assert sum(length <= 20 for length in lengths) >= 0.9 * len(lengths)
    assert max(lengths) <= 35


def test_there_is_more_text_than_code_but_not_too_much(notebook):
    assert all(cell.source.strip() for cell in notebook.cells)
    assert 1.2 <= len(notebook.markdown) / len(notebook.code) <= 2


def test_it_begins_with_its_title_and_ends_with_text(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert notebook.cells[-1].cell_type == "markdown"
    assert sum(line.startswith("# ") for line in notebook.cells[0].source.splitlines()) == 1


def test_it_is_stored_as_it_was_run_from_top_to_bottom(notebook):
    assert [cell.execution_count for cell in notebook.code] == list(range(1, len(notebook.code) + 1))


def test_it_is_stored_as_make_notebooks_stores_it(notebook, tmp_path, monkeypatch):
    # Whether a picture becomes smaller yet depends on Pillow's compressor.
    monkeypatch.setattr(notebooks, "smaller", lambda png: png)
    assert notebooks.normalised(copy.deepcopy(notebook.content)) == notebook.content
    monkeypatch.setattr(notebooks, "TITLE_PICTURES", tmp_path)
    notebooks.write_title_picture(notebook.content, notebook.path)
    [picture] = tmp_path.iterdir()
    assert picture.read_bytes() == (FOLDER / "pictures" / picture.name).read_bytes()


def test_no_error_is_stored(notebook):
    assert [output for output in notebook.outputs if output.output_type == "error"] == []
    # Warnings and tracebacks that a cell caught or a library printed.
    assert [output.text for output in notebook.outputs if output.get("name") == "stderr"] == []


def test_no_dead_widget_is_stored(notebook):
    assert "widgets" not in notebook.content.metadata
    assert not [output for output in notebook.outputs if any("widget" in mime for mime in output.get("data", {}))]


def test_it_shows_pictures_and_stays_small_all_the_same(notebook):
    assert notebook.pngs
    assert notebook.path.stat().st_size < 1_500_000


def test_every_stored_picture_is_whole_and_has_an_alt_text(notebook):
    for png, metadata in notebook.pngs:
        PIL.Image.open(io.BytesIO(png)).verify()
        assert metadata.get("alt", "").strip()


def test_pictures_in_the_text_have_an_alt_text_and_exist(notebook):
    for cell in notebook.markdown:
        pictures = list(MARKDOWN_PICTURE.finditer(cell.source))
        assert all(match["alt"].strip() for match in pictures)
        assert all(re.search(r"""\balt=["'][^"']""", tag) for tag in HTML_PICTURE.findall(cell.source))
    targets = notebook.targets(MARKDOWN_PICTURE) + notebook.targets(HTML_TARGET)
    assert targets and [target for target in targets if not (FOLDER / target).is_file()] == []


def test_links_to_other_files_of_the_course_lead_somewhere(notebook):
    local = [target.partition("#")[0] for target in notebook.targets(MARKDOWN_LINK) if "://" not in target]
    assert [target for target in local if target and not (FOLDER / target).exists()] == []


def test_nothing_tells_on_which_machine_it_was_made(notebook):
    for text in [cell.source for cell in notebook.cells] + notebook.output_texts:
        assert not MACHINE_PATH.search(text)


def test_machine_paths_are_recognised_and_other_slashes_are_not():
    paths = ['open("/tmp/a")', "in /home/me:", "/root", "File C:\\Users\\me", "at (/work/x.py)"]
    others = ["https://a.org/home/b", "my/work", "</root>", "a/tmp", "$T:\\tau$", "x /workday"]
    assert [text for text in paths + others if MACHINE_PATH.search(text)] == paths


def test_no_placeholder_was_forgotten(notebook):
    assert [
        cell.id for cell in notebook.markdown if re.search(r"(?<![\\{$\w^_])\{[A-Z_]{3,}\}|TODO", cell.source)
    ] == []


def test_jupyter_and_colab_both_know_what_to_run_it_with(notebook):
    metadata = notebook.content.metadata
    assert metadata.kernelspec.name == "python3"
    assert metadata.accelerator == "GPU" and metadata.colab.gpuType == "T4"


def test_its_time_is_stored_as_the_doctor_reads_it(notebook):
    course = notebook.content.metadata.course
    assert course["profile"] == "cpu" and course["seconds"] > 0 and course["images_per_second"] > 0


def test_facts_are_compared_on_each_run(notebook):
    compared = [cell for cell in notebook.code if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert len(compared) >= 3
    # nbval passes a cell that has nothing stored to compare with.
    assert all(cell.outputs for cell in compared)


def test_cell_ids_are_unique_and_the_format_is_valid(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    nbformat.validate(notebook.content)


def test_the_minutes_in_the_readme_are_those_measured(notebook):
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    [row] = [line for line in readme.splitlines() if line.startswith("|") and notebook.path.name in line]
    minutes = float(re.search(r"\| ([\d.]+)[^|]*\|$", row)[1])
    assert minutes == pytest.approx(notebook.content.metadata["course"]["seconds"] / 60, abs=0.2)
