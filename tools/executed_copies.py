"""A plugin of pytest: --executed FOLDER keeps a copy, with its outputs, of every notebook that nbval runs."""

from pathlib import Path

import nbformat


def pytest_addoption(parser) -> None:
    parser.addoption("--executed", type=Path, help="folder of the executed copies")


def pytest_runtest_teardown(item) -> None:
    outputs, folder = getattr(item, "test_outputs", None), item.config.option.executed
    if outputs is None or folder is None:
        return
    item.cell.outputs = outputs
    folder.mkdir(parents=True, exist_ok=True)
    # After every cell, so that a run that is stopped leaves what it has.
    nbformat.write(item.parent.nb, folder / item.parent.path.name)
