"""Executes the course's notebooks without a browser.

python tools/notebooks.py course    executed copies and an HTML gallery in build/
python tools/notebooks.py renew     the same, then stores the outputs in notebooks/ in their clean form
"""

import argparse
import base64
import html
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from tqdm import tqdm

from ddpm_core.course.doctor import training_rate
from ddpm_core.course.profile import choose_profile

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
TITLE_PICTURES = NOTEBOOKS / "pictures"
BUILD = ROOT / "build"
WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT = ("cellView", "jupyter", "tags")  # of a cell's metadata: folded in Colab, folded in JupyterLab, for nbval
MINUTES_AT_MOST = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["course", "renew", "one"])
    parser.add_argument("notebooks", nargs="*", help="names such as 01; none means all")
    arguments = parser.parse_args()
    if arguments.command == "one":
        execute(Path(arguments.notebooks[0]))
        return
    names = tuple(arguments.notebooks) or ("",)
    paths = [path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if path.name.startswith(names)]
    if not paths:
        sys.exit(f"no notebook in {NOTEBOOKS} is called {' or '.join(names)}")
    BUILD.mkdir(exist_ok=True)
    for path in paths:
        execute_in_a_child(path)
        if arguments.command == "renew":
            notebook = normalised(nbformat.read(BUILD / path.name, 4))
            write_title_picture(notebook, path)
            nbformat.write(notebook, path)
    write_gallery()
    print(f"\nDone: open {(BUILD / 'index.html').relative_to(ROOT)} in a browser.")


def execute_in_a_child(path: Path) -> None:
    # A kernel with widgets sometimes never says that it has finished (nbclient issue 312): then once more.
    command = [sys.executable, __file__, "one", str(path)]
    for attempt in (1, 2):
        try:
            if subprocess.run(command, timeout=60 * MINUTES_AT_MOST).returncode:
                sys.exit(f"{path.name} stopped with the error above.")
            return
        except subprocess.TimeoutExpired:
            print(f"\n{path.name} was not done after {MINUTES_AT_MOST} minutes (attempt {attempt} of 2).")
    sys.exit(1)


def execute(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    os.environ["DDPM_PROGRESS"] = ""  # the kernel inherits it: what is done here is no learner's progress
    with tqdm(total=code_cells, desc=path.stem, unit="cell", ncols=90) as bar:
        client = NotebookClient(
            notebook,
            timeout=60 * MINUTES_AT_MOST,
            kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOKS)}},
            on_cell_complete=lambda **_: bar.update(1),
        )
        began = time.perf_counter()
        client.execute()
        seconds = time.perf_counter() - began
    # How fast this machine trains stands beside its time, so that the doctor can estimate another machine's.
    notebook.metadata["course"] = {
        "profile": choose_profile().name,
        "seconds": round(seconds),
        "images_per_second": round(training_rate()),
    }
    nbformat.write(notebook, BUILD / path.name)
    exporter = HTMLExporter(embed_images=True)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(path.parent)}})
    (BUILD / path.with_suffix(".html").name).write_text(page, encoding="utf-8")


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The form that is stored: nothing in it that changes from run to run but the results."""
    notebook.metadata = nbformat.from_dict(
        {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4", "provenance": []},
            "course": notebook.metadata.get("course", {}),
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in KEPT if cell.metadata.get(key)})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        # A stored widget is dead: the figure beside it, its static twin, stays.
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            output.pop("transient", None)
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def smaller(png: str) -> str:
    """A still picture in 256 colours: noise takes a third of the room, and GitHub refuses large notebooks."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            return png
        file = io.BytesIO()
        picture.convert("RGB").quantize(256).save(file, "PNG", optimize=True)
    return min(png, base64.b64encode(file.getvalue()).decode(), key=len)


def pngs_of(cell: nbformat.NotebookNode) -> list[str]:
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    return ["".join(data["image/png"].split()) for data in outputs if "image/png" in data]


def write_title_picture(notebook: nbformat.NotebookNode, path: Path) -> None:
    """The figure of the cell tagged "picture" is the one under the notebook's title."""
    for cell in notebook.cells:
        if "picture" in cell.metadata.get("tags", []):
            TITLE_PICTURES.mkdir(exist_ok=True)
            (TITLE_PICTURES / f"{path.name[:2]}.png").write_bytes(base64.b64decode(pngs_of(cell)[0]))


def write_gallery() -> None:
    """build/index.html: each notebook with its title, its time and its pictures."""
    sections = []
    for path in sorted(BUILD.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, 4)
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
        pngs = [png for cell in notebook.cells for png in pngs_of(cell)]
        pictures = "".join(f'<img alt="" src="data:image/png;base64,{png}">' for png in pngs)
        sections.append(
            f'<h2><a href="{path.stem}.html">{html.escape(title)}</a></h2>'
            f"<p>{notebook.metadata['course']['seconds']} seconds on this machine</p><div>{pictures}</div>"
        )
    style = "body{font:16px sans-serif;max-width:75em;margin:2em auto}div{display:flex;flex-wrap:wrap;gap:1em}"
    style += "img{height:200px;max-width:100%;object-fit:contain;border:1px solid #ddd}"
    (BUILD / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>The course</title><style>{style}</style>'
        f"<h1>The course, as this machine ran it</h1><p>Formulas in these pages need a network.</p>{''.join(sections)}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
