"""One browser and one JupyterLab for all tests; each notebook is run once, and its tests look at that page."""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pytest
from lab_server import ROOT, LabServer
from notebook_page import NotebookPage
from other_settings import change_settings

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
BUILD = ROOT / "build" / "browser"
SECONDS: dict[str, dict[str, float]] = {}  # of each notebook, what took how long


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "notebooks_with(text): only the notebooks with text in the file's name or in a code cell"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    contents = {path: path.name + "".join(code_of(path)) for path in NOTEBOOKS}
    reason = what_is_missing()
    chosen, others = [], []
    for item in items:
        is_meant = True
        if marker := item.get_closest_marker("notebooks_with"):
            [text] = marker.args
            if not any(text in content for content in contents.values()):
                raise pytest.UsageError(f"no notebook has {text!r}, which {item.name} is about")
            is_meant = text in contents[item.callspec.params["notebook"]]
        (chosen if is_meant else others).append(item)
        if reason and "browser" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=others)
    items[:] = chosen


def what_is_missing() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return "there is no Playwright here: make setup installs it"
    if find_chromium() is None:
        return "there is no Chromium here: on Debian, apt install chromium"
    if shutil.which("make") is None:
        return "there is no make here, which knows how JupyterLab is started"
    return None


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def pytest_terminal_summary(terminalreporter) -> None:
    for name, seconds in SECONDS.items():
        times = ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items())
        terminalreporter.write_line(f"{name}: {times}")
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "tests/browser" in report.nodeid]
    for reason in {report.longrepr[2] for report in skipped}:  # once, not for each test as pytest -rs would
        terminalreporter.write_line(f"Not tested in a browser: {reason.removeprefix('Skipped: ')}.")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    from playwright.sync_api import Error, sync_playwright  # here, as the tests are only skipped where it is missing

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--disable-gpu", "--disable-dev-shm-usage"]
            )
        except Error as error:
            pytest.skip(f"{find_chromium()} does not start: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(browser, tmp_path_factory) -> Iterator[LabServer]:
    server = LabServer(tmp_path_factory.mktemp("course"))
    for path in NOTEBOOKS:
        change_settings(server.notebooks / path.name)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request, browser, lab) -> Iterator[NotebookPage]:
    """The notebook in JupyterLab, with other settings, and with all cells run."""
    # The first notebook's times are those of a learner who has just typed `make lab`.
    began = None if SECONDS else lab.started
    page = new_page(browser, lab, request.param.name, began)
    SECONDS[request.param.stem] = page.seconds
    yield from run(page, request.param.stem)


def run_cells(browser, lab: LabServer, name: str, cells: Sequence[str]) -> Iterator[NotebookPage]:
    """For a fixture: a notebook of these cells in JupyterLab, with all of them run."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(notebook, lab.notebooks / f"{name}.ipynb")
    yield from run(new_page(browser, lab, f"{name}.ipynb"), name)


def new_page(browser, lab: LabServer, file: str, began: float | None = None) -> NotebookPage:
    return NotebookPage(browser.new_page(viewport={"width": 1300, "height": 900}), lab.address_of(file), began)


def run(page: NotebookPage, name: str) -> Iterator[NotebookPage]:
    """The page with all cells run, and in the end its picture."""
    try:
        page.run()
        yield page
    finally:
        page.take_picture(BUILD / f"{name}.png")
        page.close()
