"""A search engine's page: words in, pictures out, and a click on a picture asks for more like it."""

import base64
import html
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
from torch import Tensor

from ddpm_core.course.display.pictures import show_pictures
from ddpm_core.course.display.style import LAYER, ONE_CELL, show_widget
from ddpm_core.support import guards
from ddpm_core.support.notices import collect_notices
from ddpm_core.support.pixels import encode, to_pixels

if TYPE_CHECKING:
    from ddpm_core.systems.search import PictureIndex

COLUMNS = 6
SIDE, GAP, LINE = 112, 8, 16  # pixels on the screen: of a picture, between two of them, and of a line of text
LETTERS = 18  # in a line of a title in the static twin
LINES = 3  # under a picture; a longer label is cut off
SMALL = 48  # pictures up to this size are shown as the squares they are, larger ones smoothly
BUTTON = dict(width=f"{SIDE}px", height=f"{SIDE}px", margin="0", padding="0")
STYLE = f"""<style>
.search-page {{ display: grid; grid: auto-flow {SIDE + LINES * LINE}px / repeat({COLUMNS}, {SIDE}px); gap: {GAP}px }}
.search-page figure {{ margin: 0; font-size: 12px; line-height: {LINE}px; text-align: center; overflow-wrap: anywhere }}
.search-page img {{ width: {SIDE}px; height: {SIDE}px; object-fit: contain; display: block }}
.search-page figcaption {{ display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: {LINES};
  overflow: hidden; white-space: normal }}
</style>"""


def search_box(
    index: "PictureIndex", pictures: Tensor, query: str = "rocket", k: int = 12, examples: Sequence[str] = ()
) -> "SearchBox":
    """A box to search pictures with, page by page; above it, as its static twin, the first page for the first query.

    index:    as index_pictures makes it
    pictures: those that were indexed, in the same order and perhaps in a better resolution: (N, 3, H, W) floats in
              [-1, 1] or uint8
    query:    words in any language that the index's model knows
    k:        pictures on a page
    examples: queries that have a button of their own

    A click on a picture searches for more like it. Returns the widget. Raises what index.search raises for the first
    query; what later ones lack is said in the box.
    """
    box = SearchBox(index, pictures, query, k, examples)
    rows, scores = box.page
    labels = [textwrap.fill(index.labels[row], LETTERS, max_lines=3, placeholder=" ...") for row in rows]
    titles = [f"{score:.2f}\n{label}" for score, label in zip(scores, labels, strict=True)]
    title = f"{query}: the first {len(rows)} of {len(pictures):,} pictures"
    show_pictures(pictures[rows], titles=titles, columns=COLUMNS, title=title, size=1.4)
    show_widget(box, "search box")
    return box


class SearchBox(ipywidgets.VBox):
    """The widget of search_box: a text field, a page of hits with a transparent button over each, and a way on."""

    def __init__(self, index: "PictureIndex", pictures: Tensor, query: str, k: int = 12, examples: Sequence[str] = ()):
        guards.pictures(pictures, bytes_too=True)
        guards.one_each("index.labels", index.labels, len(pictures))
        guards.text("query", query)
        guards.whole_number("k", k)
        guards.several("examples", examples, "queries")
        self._index, self._pictures, self._k = index, pictures, int(k)
        self._query: str | int = query  # words, or the row of a picture
        self._hits = index.search(query, k=len(pictures))
        self._first = 0  # of the hits that are shown
        self._text = ipywidgets.Text(query, placeholder="words to search for", continuous_update=False)
        self._text.observe(self._read, names="value")
        search = ipywidgets.Button(description="Search", icon="search", layout={"width": "auto"})
        search.on_click(lambda _: self._search(self._text.value))
        self._back, self._next = (
            ipywidgets.Button(description=name, layout={"width": "auto"}) for name in ("◀ back", "next ▶")
        )
        self._back.on_click(lambda _: self._turn(-self._k))
        self._next.on_click(lambda _: self._turn(self._k))
        self._where, self._note = ipywidgets.Label(), ipywidgets.HTML()  # a Label cuts off what needs a second line
        self._sheet = ipywidgets.HTML(layout=LAYER)
        # Two sets of buttons take turns, so that a click on a page that is about to be replaced means what was there.
        self._covers = [[self._cover(i) for i in range(min(self._k, len(pictures)))] for _ in range(2)]
        tracks = dict(grid_template_columns=f"repeat({COLUMNS}, {SIDE}px)", grid_auto_rows=f"{SIDE + LINES * LINE}px")
        self._over = ipywidgets.GridBox(layout=LAYER | tracks | {"grid_gap": f"{GAP}px"})
        self._both = ipywidgets.GridBox([self._sheet, self._over], layout=ONE_CELL)
        super().__init__(
            [
                ipywidgets.HBox([self._text, search, *map(self._example, examples)], layout={"flex_flow": "row wrap"}),
                self._note,
                self._both,
                ipywidgets.HBox([self._back, self._next, self._where]),
            ]
        )
        self._show()

    @property
    def page(self) -> tuple[list[int], list[float]]:
        """What is shown at the moment, best first: the rows of the pictures, and their scores."""
        shown = slice(self._first, self._first + self._k)
        return self._hits.rows[shown].tolist(), self._hits.scores[shown].tolist()

    def _cover(self, position: int) -> ipywidgets.Button:
        tooltip = f"more like number {position + 1}"
        button = ipywidgets.Button(tooltip=tooltip, layout=BUTTON, style={"button_color": "transparent"})
        button.on_click(lambda button: self._more_like(button.row))
        return button

    def _example(self, query: str) -> ipywidgets.Button:
        button = ipywidgets.Button(description=query, layout={"width": "auto"})
        button.on_click(lambda _: self._take(query))
        return button

    def _take(self, query: str) -> None:
        if self._text.value == query:  # and so nothing changes that would be observed
            self._search(query)
        self._text.value = query

    def _read(self, _: dict) -> None:
        # A click on a picture empties the field, which is no search for nothing.
        if self._text.value or isinstance(self._query, str):
            self._search(self._text.value)

    def _more_like(self, row: int) -> None:
        self._search(row)
        self._text.value = ""

    def _search(self, query: str | int) -> None:
        try:
            with collect_notices() as notices:
                sought = query if isinstance(query, str) else self._pictures[query]
                self._hits = self._index.search(sought, k=len(self._pictures))
        except ValueError as error:
            self._note.value = _note(str(error))
            return
        self._query, self._first, self._note.value = query, 0, _note("; ".join(notices))
        self._show()

    def _turn(self, by: int) -> None:
        last_page = (len(self._pictures) - 1) // self._k * self._k
        self._first = min(max(0, self._first + by), last_page)  # as clicks may come faster than the buttons go grey
        self._show()

    def _show(self) -> None:
        rows, scores = self.page
        pixels = to_pixels(self._pictures[rows])
        figures = map(_figure, pixels, [self._index.labels[row] for row in rows], scores)
        self._sheet.value = f'{STYLE}<div class="search-page">{"".join(figures)}</div>'
        self._covers.reverse()
        self._over.children = self._covers[0][: len(rows)]
        for button, row in zip(self._over.children, rows, strict=True):
            button.row = row
        down, across = math.ceil(len(rows) / COLUMNS), COLUMNS
        self._both.layout.height = f"{down * (SIDE + LINES * LINE + GAP)}px"
        self._both.layout.width = f"{across * (SIDE + GAP)}px"
        last, N = self._first + len(rows), len(self._pictures)
        self._back.disabled, self._next.disabled = self._first == 0, last == N
        sought = self._query if isinstance(self._query, str) else f"pictures like {self._index.labels[self._query]}"
        self._where.value = f"{self._first + 1:,} to {last:,} of {N:,}, best first: {sought}"


def _note(text: str) -> str:
    return f'<div style="line-height: {LINE}px">{html.escape(text)}</div>' if text else ""


def _figure(pixels: np.ndarray, label: str, score: float) -> str:
    """A picture (H, W, 3) with its score and its label under it."""
    data, label = base64.b64encode(encode(pixels)).decode(), html.escape(label)
    look = ' style="image-rendering: pixelated"' if max(pixels.shape) <= SMALL else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{label}"{look}>'
    return f'<figure>{image}<figcaption title="{label}"><b>{score:.2f}</b> {label}</figcaption></figure>'
