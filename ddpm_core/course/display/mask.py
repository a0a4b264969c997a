"""A box to draw a mask in: which part of a picture should be redrawn."""

from collections.abc import Callable
from functools import partial

import ipywidgets
import torch
from matplotlib.colors import to_rgb
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from ddpm_core.course.display.pictures import show_pictures
from ddpm_core.course.display.style import BLUE, GREY, LAYER, ONE_CELL, ORANGE, show_widget
from ddpm_core.support import guards
from ddpm_core.support.pixels import encode, to_pixels

SQUARES = 8  # along the shorter side of the picture
MOST_SQUARES = 16  # along the longer one; each square is a button
LONGER_SIDE, SHORTER_SIDE = 480, 320  # pixels on the screen, at most
BRUSHES = {
    "square": "Click a square of the picture to mark or clear it.",
    "rectangle": "Click two opposite corners of a rectangle.",
    "ellipse": "Click two opposite corners around an ellipse.",
}
CHANGES = {"everything": torch.ones_like, "nothing": torch.zeros_like, "inverse": torch.logical_not}


def mask_box(
    picture: Tensor, mask: Tensor | None = None, on_change: Callable[[Tensor], object] | None = None
) -> "MaskBox":
    """A picture on which one draws a mask with clicks; above it, as its static twin, the picture with the first mask.

    picture:   (C, H, W) in [-1, 1], C = 1 or 3
    mask:      the first mask, bool (H, W), True where the picture should be redrawn; None is a rectangle in the middle
    on_change: called with the new mask after each change. A ValueError of it is shown in the box

    Returns the widget. Its mask is what is drawn at that moment: bool (H, W), on the picture's device.
    """
    box = MaskBox(picture, mask, on_change)
    both = torch.stack([box.shaded(torch.zeros_like(box.mask)), box.shaded(box.mask)])
    show_pictures(both, title="A picture, and a mask on it: the striped part will be redrawn", size=2.6)
    show_widget(box, "picture to click on")
    return box


class MaskBox(ipywidgets.VBox):
    """The widget of mask_box: a picture, a transparent button over each of its squares, and brushes beside it."""

    def __init__(self, picture: Tensor, mask: Tensor | None = None, on_change: Callable | None = None):
        guards.one_picture(picture)
        H, W = picture.shape[1:]
        if mask is not None:
            guards.mask(mask, H, W)
        guards.function_or_none("on_change", on_change, "on_change(mask)")
        self._picture, self._device, self._on_change = picture.detach().float().cpu(), picture.device, on_change
        scale = min(LONGER_SIDE / max(H, W), SHORTER_SIDE / min(H, W))
        # Pixels on the screen for one of the picture; whole ones are sharp.
        self._scale = int(scale) if scale > 1 else scale
        self._edges = _edges(H, W), _edges(W, H)  # of the squares, in rows and columns of the picture
        self._mask = self._middle() if mask is None else mask.cpu().clone()
        self._corner: tuple[int, int] | None = None  # the square clicked first, where a brush needs two
        self._image = ipywidgets.Image(format="png", layout=LAYER)
        self._brush = ipywidgets.ToggleButtons(options=list(BRUSHES), style={"button_width": "7em"})
        self._brush.observe(self._take_brush, names="value")
        self._hint, self._note = ipywidgets.Label(), ipywidgets.Label()
        buttons = [ipywidgets.Button(description=name, layout={"width": "7.6em"}) for name in CHANGES]
        for button in buttons:
            button.on_click(lambda button: self._set(CHANGES[button.description](self._mask)))
        panel = ipywidgets.VBox([self._brush, self._hint, ipywidgets.HBox(buttons), self._note])
        super().__init__([ipywidgets.HBox([self._canvas(), panel], layout={"flex_flow": "row wrap"})])
        self._show()

    @property
    def mask(self) -> Tensor:
        """Bool (H, W), True where the picture should be redrawn. A copy: later clicks leave it alone."""
        return self._mask.to(self._device, copy=True)

    def _canvas(self) -> ipywidgets.GridBox:
        # All buttons share one look, so that a hundred of them are quickly there.
        rows, columns = (len(edges) - 1 for edges in self._edges)
        layout = ipywidgets.Layout(width="100%", height="100%", margin="0", padding="0", min_width="0")
        style = ipywidgets.ButtonStyle(button_color="transparent")
        buttons = []
        for row in range(rows):
            for column in range(columns):
                name = f"row {row + 1}, column {column + 1}"
                buttons.append(ipywidgets.Button(tooltip=name, layout=layout, style=style))
                buttons[-1].on_click(partial(self._click, row, column))
        tracks = [" ".join(f"{size}fr" for size in edges.diff().tolist()) for edges in self._edges]
        tracks = dict(grid_template_rows=tracks[0], grid_template_columns=tracks[1])
        squares = ipywidgets.GridBox(buttons, layout=LAYER | tracks)
        height, width = (f"{side * self._scale:.0f}px" for side in self._mask.shape)
        size = dict(width=width, height=height, margin="2px 1em 2px 2px")
        return ipywidgets.GridBox([self._image, squares], layout=size | ONE_CELL)

    def _take_brush(self, _: dict) -> None:
        self._corner = None
        self._show()

    def _click(self, row: int, column: int, _: ipywidgets.Button) -> None:
        here = row, column
        if self._corner is None and self._brush.value != "square":
            self._corner = here
            self._show()
            return
        first = self._corner or here
        region = self._between(first, here)
        if self._brush.value == "ellipse":
            region = _ellipse_in(region)
        self._set(self._mask & ~region if self._is_marked(first) else self._mask | region)

    def _is_marked(self, square: tuple[int, int]) -> bool:
        """Whether all of a square is; then a brush that begins there clears, and else it marks."""
        return bool(self._mask[self._between(square, square)].all())

    def _between(self, one: tuple[int, int], other: tuple[int, int]) -> Tensor:
        """The rectangle whose opposite corners are two squares, each (row, column): bool (H, W)."""
        region = torch.zeros(self._picture.shape[1:], dtype=torch.bool)
        (top, bottom), (left, right) = (sorted(pair) for pair in zip(one, other, strict=True))
        rows, columns = self._edges
        region[rows[top] : rows[bottom + 1], columns[left] : columns[right + 1]] = True
        return region

    def _middle(self) -> Tensor:
        counts = [len(edges) - 1 for edges in self._edges]
        return self._between(tuple(n // 3 for n in counts), tuple(n - 1 - n // 3 for n in counts))

    def _set(self, mask: Tensor) -> None:
        changed, self._mask, self._corner = not mask.equal(self._mask), mask, None
        self._show()
        if changed and self._on_change:
            try:
                self._on_change(self.mask)
            except ValueError as error:
                self._note.value = str(error)

    def _show(self) -> None:
        self._hint.value, corner = BRUSHES[self._brush.value], None
        if self._corner:
            action = "clear" if self._is_marked(self._corner) else "mark"
            self._hint.value = f"Now the opposite corner of what to {action}."
            corner = self._between(self._corner, self._corner)
        self._note.value = f"{self._mask.float().mean():.0%} of the picture will be redrawn."
        self._image.value = encode(to_pixels(self.shaded(self._mask, corner)[None])[0])

    def shaded(self, mask: Tensor, corner: Tensor | None = None) -> Tensor:
        """The picture, enlarged, with its squares, stripes over the mask, and a frame around a corner: (3, H', W')."""
        scale = max(1, int(self._scale))
        picture = _enlarged(self._picture, scale).expand(3, -1, -1)
        mask = _enlarged(mask.cpu(), scale)
        lines = torch.zeros_like(mask)
        lines[self._edges[0][1:-1] * scale], lines[:, self._edges[1][1:-1] * scale] = True, True
        picture = _painted(picture, GREY, 0.5 * lines)
        # A dark stripe beside each orange one: together they can be seen on every colour.
        is_dark = sum(torch.meshgrid(*map(torch.arange, mask.shape), indexing="ij")) // 6 % 2 == 0
        picture = _painted(picture, "black", 0.5 * (mask & is_dark))
        picture = _painted(picture, ORANGE, 0.65 * (mask & ~is_dark))
        picture = _painted(picture, ORANGE, _frame(mask).float())
        return picture if corner is None else _painted(picture, BLUE, _frame(_enlarged(corner, scale)).float())


def _edges(side: int, other_side: int) -> Tensor:
    """Where the squares along a side begin, and the side's end: about square, also where nothing divides evenly."""
    square = max(1, round(min(side, other_side) / SQUARES))
    return torch.linspace(0, side, min(round(side / square), MOST_SQUARES) + 1).round().long()


def _ellipse_in(rectangle: Tensor) -> Tensor:
    """The pixels of a filled rectangle, bool (H, W), whose centres lie in the ellipse that touches its four sides."""
    ellipse = torch.zeros_like(rectangle)
    rows, columns = rectangle.any(dim=1), rectangle.any(dim=0)
    y, x = (torch.linspace(-1, 1, 2 * int(inside.sum()) + 1)[1::2] for inside in (rows, columns))
    ellipse[rectangle] = (y[:, None] ** 2 + x**2 <= 1).flatten()
    return ellipse


def _enlarged(pixels: Tensor, scale: int) -> Tensor:
    return pixels.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)


def _frame(region: Tensor, width: int = 3) -> Tensor:
    """The pixels of a region, bool (H, W), that are near one outside of it."""
    outside = pad((~region).float()[None], (width,) * 4, value=1)
    return region & (max_pool2d(outside, 2 * width + 1, stride=1)[0] > 0)


def _painted(picture: Tensor, colour: str, opacity: Tensor) -> Tensor:
    """A picture (3, H, W) in [-1, 1] under a colour of opacity (H, W)."""
    return picture.lerp(2 * torch.tensor(to_rgb(colour))[:, None, None] - 1, opacity)
