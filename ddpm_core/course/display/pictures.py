"""Pictures in rows, and the source of a function: what stands still."""

import inspect
import math
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from IPython.display import display
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from torch import Tensor

from ddpm_core.course.display.style import label_columns, label_rows, show_figure
from ddpm_core.support.pixels import to_pixels


def show_pictures(
    pictures: Tensor,
    titles: Sequence[str] = (),  # one per picture, or one per column with row_titles
    row_titles: Sequence[str] = (),
    columns: int = 8,
    title: str = "",
    size: float = 1.1,  # inches, the width of a picture
) -> None:
    """Shows pictures (N, C, H, W) in [-1, 1] in rows, the first row first."""
    pixels = to_pixels(pictures)
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    has_line = len(titles) > columns or (titles and rows == 1)  # a title over each picture needs room
    more_lines = max((text.count("\n") for text in titles), default=0)
    aspect = pixels.shape[1] / pixels.shape[2]
    height = size * rows * (aspect + (0.3 if has_line else 0))
    height += (0.35 if titles and not has_line else 0) + (0.4 if title else 0)
    height += 0.15 * more_lines * (rows if has_line else 1)
    label_width = 0.09 * max((len(text) for text in row_titles), default=0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns + label_width, height), squeeze=False, gridspec_kw={"wspace": 0.06}
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture in zip(axes.flat, pixels, strict=False):
        axis.imshow(picture, interpolation="nearest" if pixels.shape[2] < 100 else "antialiased")
    label_columns(axes.flat, titles)
    label_rows(axes[:, 0], row_titles)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    show_figure(figure, alt=title or f"{len(pixels)} pictures")


def show_source(thing: Callable) -> None:
    """Shows the source of one of the package's functions or classes, highlighted."""
    source = inspect.getsource(thing)
    look = "background: #f8f8f8; padding: 0.6em; font-family: monospace; font-size: 90%; line-height: 130%"
    page = highlight(source, PythonLexer(), HtmlFormatter(noclasses=True, prestyles=look))
    display({"text/plain": source, "text/html": page}, raw=True)
