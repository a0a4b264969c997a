"""A plugin of pytest: --executed FOLDER keeps a copy, with its outputs, of every notebook that nbval runs."""

from pathlib import Path

import nbformat


def pytest_addoption(parser) -> None:
    parser.addoption("--executed", type=Path, help="folder of the executed copies")


def pytest_sessionfinish(session) -> None:
    """At the end, also of a run that is interrupted: written after every cell, they would count in its seconds."""
    folder, notebooks = session.config.option.executed, {}
    for item in session.items if folder else ():
        if getattr(item, "test_outputs", None) is not None:
            item.cell.outputs = item.test_outputs
            notebooks[item.parent.path.name] = item.parent.nb
    for name, notebook in notebooks.items():
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / name)
