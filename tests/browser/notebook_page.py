"""A notebook open in JupyterLab in a browser: what a learner does there, and what is seen."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest
from PIL import Image

if TYPE_CHECKING:  # Playwright may be missing; then the tests that use this module are skipped
    from playwright.sync_api import Locator, Page

T = TypeVar("T")
SCRIPT = Path(__file__).with_suffix(".js")
FIGURES = ".jp-OutputArea-output img"
NOTEBOOK = ".jp-NotebookPanel .jp-WindowedPanel-outer"
KERNEL_IS_IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.kernelDisplayStatus === 'idle'"
# A picture that is still on its way has no pixels.
PIXELS = """image => {
    if (!image.complete || !image.naturalWidth) return "";
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""
SCROLL = "(panel, top) => { panel.scrollTop = top; return panel.scrollTop; }"
PROGRESS = re.compile(r"iteration ([\d,]+) of ([\d,]+)")
STOPPED = re.compile(r"Stopped at iteration (\d+)\.")
HANDED_ON = re.compile(r"/lab/api/(news|update)\b")  # what JupyterLab's server would ask the network for
SECONDS_TO_OPEN = 120
SECONDS_TO_REACT = 60  # of a widget; the prompt box draws with the model meanwhile
SECONDS_WITHOUT_PROGRESS = 300  # as nbval's limit for a cell


class Cell(NamedTuple):
    number: int  # among all cells of the notebook
    source: str
    state: str  # "running" also while it waits for its turn
    count: int | None  # None until it has run

    def __str__(self) -> str:
        return f"cell {self.number}, which begins {self.source.splitlines()[0]!r}"


class Interruption(NamedTuple):
    text: str  # the training cell's output after the stop button
    stopped_at: int
    went_on_at: int  # the first iteration that the progress bar showed when the cell was run again
    text_at_end: str
    num_iterations: int


class Look(NamedTuple):
    """What is seen of a widget with a picture."""

    picture: str
    words: str


class NotebookPage:
    """Opens a notebook and, with run, runs all of it."""

    def __init__(self, page: "Page", address: str, began: float | None = None):
        self.page = page
        self.browser_errors: list[str] = []
        self.outside_requests: list[str] = []
        self.interruption: Interruption | None = None
        self._began = time.monotonic() if began is None else began  # what the seconds below are counted from
        self.seconds: dict[str, float] = {}
        page.on("console", lambda message: message.type == "error" and self.browser_errors.append(message.text))
        page.on("pageerror", lambda error: self.browser_errors.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))
        page.goto(address)
        self.wait_for("JupyterLab with an idle kernel", lambda: page.evaluate(KERNEL_IS_IDLE), SECONDS_TO_OPEN)
        page.evaluate(SCRIPT.read_text(encoding="utf-8"))
        self._note_time("open")

    def _note_request(self, url: str) -> None:
        if not re.match(r"(http://127\.0\.0\.1:|data:|blob:)", url) or HANDED_ON.search(url):
            self.outside_requests.append(url)

    def _note_time(self, what: str) -> None:
        self.seconds.setdefault(what, time.monotonic() - self._began)

    def wait_for(self, what: str, look: Callable[[], T], seconds: float = SECONDS_TO_REACT) -> T:
        """Returns what look returns as soon as that is true."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            self._check(time.monotonic() < deadline, f"waited {seconds:g} s for {what}")
            self.page.wait_for_timeout(100)
        return seen

    def _check(self, condition: object, otherwise: str) -> None:
        """Fails with one sentence and what the kernel said; a traceback through this file would not help anybody."""
        if not condition:
            pytest.fail("\n".join([otherwise, *self.kernel_errors()]), pytrace=False)

    def kernel_errors(self) -> list[str]:
        return [] if "open" not in self.seconds else self.page.evaluate("course.errors")

    def code_cells(self) -> list[Cell]:
        return [Cell(**cell) for cell in self.page.evaluate("course.codeCells()")]

    def output_text(self, cell: Cell) -> str:
        return self.page.evaluate("number => course.outputText(number)", cell.number)

    def run(self) -> None:
        """Runs all cells. Training is stopped once on the way, and its cell run again."""
        # Stored figures are not to be taken for new ones.
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.wait_for("the stored figures to go", lambda: not self.page.locator(FIGURES).count())
        code = self.code_cells()
        first, last = code[0].number, code[-1].number
        training = next((cell for cell in code if "watch(" in cell.source), None)
        if training:
            self._start(first, training.number)
            self._interrupt(training)
            first = training.number + 1
        self._start(first, last)
        self._finish()
        self._note_time("run")

    def run_cell(self, cell: Cell) -> None:
        """Runs one cell, once more, to its end."""
        self.start_cell(cell)
        self._finish()

    def start_cell(self, cell: Cell) -> None:
        self._start(cell.number, cell.number)

    def _start(self, first: int, last: int) -> None:
        """Starts the code cells of these numbers and those between them."""
        self.page.evaluate("([first, last]) => void course.runCells(first, last)", [first, last])

    def _finish(self, until: Callable[[], T] = lambda: None) -> T | None:
        """Waits until the cells that were started have run, or for what `until` returns as soon as that is true."""
        before, deadline = (), 0.0
        while not (seen := until()) and not self.page.evaluate("course.isIdle()"):
            running = [cell for cell in self.code_cells() if cell.state == "running"]
            now = (running[0].number, self.output_text(running[0])) if running else None
            if now != before:
                before, deadline = now, time.monotonic() + SECONDS_WITHOUT_PROGRESS
            where = running[0] if running else "no cell, but the kernel is not idle"
            self._check(time.monotonic() < deadline, f"{SECONDS_WITHOUT_PROGRESS} s without progress in {where}")
            if self.page.locator(FIGURES).count():
                self._note_time("first figure")
            self.page.wait_for_timeout(100)
        return seen

    def _interrupt(self, training: Cell) -> None:
        def progress() -> tuple[int, int] | None:
            text = self.output_text(training)
            if STOPPED.search(text) or not (match := PROGRESS.search(text)):
                return None
            return int(match[1].replace(",", "")), int(match[2].replace(",", ""))

        def is_well_on_its_way() -> bool:
            seen = progress()
            return seen is not None and seen[0] >= seen[1] / 10

        self._check(self._finish(until=is_well_on_its_way), f"training did not begin in {training}")
        self.page.locator('.jp-NotebookPanel-toolbar [data-command="notebook:interrupt-kernel"]').click()
        self._finish()
        text = self.output_text(training)
        stopped = STOPPED.search(text)
        self._check(stopped, f"the stop button had no effect on {training}; it shows {text!r}")
        self.start_cell(training)
        went_on = self._finish(until=progress)
        self._check(went_on, f"training did not go on in {training}; it shows {self.output_text(training)!r}")
        self._finish()
        self.interruption = Interruption(text, int(stopped[1]), went_on[0], self.output_text(training), went_on[1])

    def not_drawn(self) -> list[str]:
        """Complaints about pictures and widgets that do not appear, also when given time."""
        deadline = time.monotonic() + SECONDS_TO_REACT
        while (complaints := self.page.evaluate("course.notDrawn()")) and time.monotonic() < deadline:
            self.page.wait_for_timeout(500)
        return complaints

    def boxes_with(self, selector: str) -> "list[Locator]":
        """The widgets that hold such a part."""
        return self.page.locator(".jp-OutputArea-output > .widget-vbox", has=self.page.locator(selector)).all()

    def look_at(self, box: "Locator") -> Look:
        return Look(box.locator("img").evaluate(PIXELS), " ".join(box.locator("div.widget-label").all_inner_texts()))

    def look_at_rest(self, box: "Locator") -> Look:
        """What is seen once nothing changes any more: a new picture and its words do not arrive together."""

        def rests() -> Look | None:
            before = self.look_at(box)
            self.page.wait_for_timeout(300)
            return before if before == self.look_at(box) and "drawing ..." not in before.words else None

        return self.wait_for("a widget to come to rest", rests)

    def look_when_changed(self, box: "Locator", before: Look) -> Look:
        """What is seen once another picture has come."""
        self.wait_for(
            f"a picture after {before.words!r}", lambda: self.look_at(box).picture not in ("", before.picture)
        )
        return self.look_at_rest(box)

    def take_picture(self, path: Path) -> None:
        """All of the notebook as one PNG."""
        page = self.page
        page.set_viewport_size({"width": 1300, "height": 2000})
        clip = page.locator(NOTEBOOK).bounding_box()
        height = page.locator(NOTEBOOK).evaluate("panel => panel.scrollHeight")
        sheet = Image.new("RGB", (round(clip["width"]), height), "white")
        for top in range(0, height, round(clip["height"])):
            scrolled = page.locator(NOTEBOOK).evaluate(SCROLL, top)
            sheet.paste(Image.open(io.BytesIO(page.screenshot(clip=clip))), (0, round(scrolled)))
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)

    def close(self) -> None:
        self.page.evaluate("course.shutDown()")
        self.page.close()
