"""How the figures of the course look and how they are shown, with a text for readers who cannot see them."""

import dataclasses
from collections.abc import Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import LogLocator

from ddpm_core.support.files import shipped_file

# Colours that colour-blind readers can tell apart (Okabe & Ito 2008), in the order the figures use them.
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#767676"
VERMILION, BLACK = "#D55E00", "#000000"  # two more of theirs, where six are not enough
# How widgets lie on each other, such as buttons on a picture: all in the one cell of a GridBox.
ONE_CELL = dict(grid_template_rows="100%", grid_template_columns="100%")
LAYER = dict(grid_area="1 / 1 / 2 / 2", width="100%", height="100%", margin="0")
CHINESE_FONT = "Noto Sans SC Subset"  # what NotoSansSC-subset.otf calls itself; matplotlib's own has no Chinese


def use_course_style() -> None:
    """Sets matplotlib's look for the notebooks: colours, sizes, light grid, and a font for Chinese captions."""
    plt.rc("axes", prop_cycle=plt.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, SKY, GREY]), grid=True, axisbelow=True)
    plt.rc("axes", titlesize=11, titleweight="bold", labelsize=10)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("grid", color="#e6e6e6", linewidth=0.8)
    plt.rc("lines", linewidth=2)
    plt.rc("legend", frameon=False)
    plt.rc("figure", dpi=100)
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("font", family=["DejaVu Sans", *_chinese_fonts()], size=10)  # the second draws what the first does not have


def _chinese_fonts() -> list[str]:
    """CHINESE_FONT, made known to matplotlib; empty where its file is missing or damaged: Chinese becomes boxes."""
    if CHINESE_FONT not in fontManager.get_font_names():
        try:
            fontManager.addfont(shipped_file("NotoSansSC-subset.otf"))
        except (OSError, RuntimeError):
            return []
        # Titles are bold. The font is not, and matplotlib would say so under every figure, unless it passes for bold.
        regular = next(entry for entry in fontManager.ttflist if entry.name == CHINESE_FONT)
        fontManager.ttflist.append(dataclasses.replace(regular, weight=700))
    return [CHINESE_FONT]


def write_out_numbers(*axes: Axis) -> None:
    """On logarithmic axes of a plot: 200 instead of 2 x 10^2."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def label_columns(axes: Sequence[Axes], texts: Sequence[str]) -> None:
    """A text above each picture, as far as there are texts."""
    for axis, text in zip(axes, texts, strict=False):
        axis.set_title(text, fontsize=9, fontweight="normal")


def label_rows(axes: Sequence[Axes], texts: Sequence[str], gap: float = 0.12) -> None:
    """A text to the left of each picture, as far as there are texts; the gap is a share of the picture's width."""
    for axis, text in zip(axes, texts, strict=False):
        axis.text(-gap, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=9)


def show_figure(figure: Figure, alt: str) -> None:
    """Displays a matplotlib figure with a text for readers who cannot see it."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def show_widget(widget: ipywidgets.Widget, name: str) -> None:
    """Displays a widget, and above it how to get it back: a saved notebook shows an error in its place.

    name: what it is to the reader, such as "slider"
    """
    display(HTML(f"<small>No {name} below? Run this cell to bring it back: a saved notebook does not keep it.</small>"))
    display(widget)


def figure_to_pixels(figure: Figure) -> np.ndarray:
    """Draws and closes a matplotlib figure: (H, W, 3) uint8."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return pixels
