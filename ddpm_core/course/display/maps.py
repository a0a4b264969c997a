"""Many pictures as a map: near to each other where two numbers of each are."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_core.course.display.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    figure_to_pixels,
)
from ddpm_core.support import guards
from ddpm_core.support.pixels import to_pixels

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)  # of the groups, in the order in which they come
WIDTH, HEIGHT, MARGIN = 860, 600, 12  # of the map to point at, in pixels on the screen
MOST_TO_POINT_AT = 2000  # dots, as their pictures go into the notebook
THUMBNAIL, THUMBNAILS_IN_A_ROW = 24, 50
ATLAS_WIDTH, ATLAS_HEIGHT, SMALLEST_CELL, LARGEST_CELL = 1152, 896, 32, 96  # pixels
SCRIPT = Path(__file__).with_name("maps.js")


def picture_map(
    points: Tensor | np.ndarray,
    pictures: Tensor,
    labels: Sequence[str],
    groups: Sequence[str] | dict[str, Sequence[str]],
) -> None:
    """Shows a map of pictures in three ways: as dots in the colours of groups, the same to point at, and as an atlas.

    points:   (N, 2), a place for each picture; both axes are stretched to fill the figure
    pictures: (N, C, H, W) floats in [-1, 1] or uint8, C = 1 or 3, best square
    labels:   what each picture shows: appears where one points at its dot
    groups:   the name of each picture's group, at most 8 different ones. Or several such lists, {"style": [...],
              "kind": [...]}: each has its figure of dots, and the map to point at has a menu of them

    The map to point at works without the kernel and without a network. Of more than 2,000 pictures it holds 2,000,
    drawn at random. Raises ValueError or TypeError where the arguments do not fit together.
    """
    guards.pictures(pictures, bytes_too=True)
    guards.points(points, len(pictures))
    guards.one_each("labels", labels, len(pictures))
    guards.groups(groups, len(pictures), most=len(COLOURS))
    colourings = groups if isinstance(groups, dict) else {"group": groups}
    pixels, places = to_pixels(pictures), _unit_square(points)
    by = ", ".join(colourings)
    dots = figure_to_pixels(dots_figure(places, colourings))
    _show(dots, alt=f"{len(pixels):,} pictures as dots on a map, coloured by {by}")
    display(HTML(_map_to_point_at(places, pixels, labels, colourings)))
    _show(atlas(places, pixels), alt=f"An atlas of {len(pixels):,} pictures: those that are alike lie together")


def _show(pixels: np.ndarray, alt: str) -> None:
    """Displays (H, W, 3) uint8 in 256 colours, which takes a third of the bytes."""
    picture = PIL.Image.fromarray(pixels).quantize(256, PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    display(Image(file.getvalue(), format="png", alt=alt))


def _unit_square(points: Tensor | np.ndarray) -> np.ndarray:
    """Points (N, 2) -> places (N, 2) from 0 to 1, in which the outermost ones lie on the edges; y goes down."""
    points = np.asarray(points, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / np.where(high > low, high - low, 1)
    return places * [1, -1] + [0, 1]


def dots_figure(places: np.ndarray, colourings: dict[str, Sequence[str]]) -> Figure:
    """Dots at places (N, 2) from 0 to 1, in the colours of their groups: as many panels as colourings."""
    columns = len(colourings)
    figure, axes = plt.subplots(1, columns, figsize=(9.2, 5.2 if columns > 1 else 6.6), squeeze=False)
    order = np.random.default_rng(0).permutation(len(places))  # or else the last group would cover the others
    size = min(30, 30_000 / len(places) / columns)
    for axis, (name, members) in zip(axes[0], colourings.items(), strict=True):
        names, ids = _numbered(members)
        axis.scatter(*places[order].T, s=size, c=[COLOURS[i] for i in ids[order]], linewidths=0)
        axis.set(xlim=(-0.02, 1.02), ylim=(1.02, -0.02))
        axis.set_axis_off()
        for group, colour in zip(names, COLOURS, strict=False):
            axis.scatter([], [], s=30, color=colour, label=group)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, columnspacing=1, handletextpad=0.2)
        if columns > 1:
            axis.set_title(name)
    return figure


def _numbered(members: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different names, in the order in which they come, and for each of members its name's number."""
    names = list(dict.fromkeys(members))
    return names, np.array([names.index(name) for name in members])


def atlas(places: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Pictures on a grid, in each cell the one of those inside whose place is nearest to its centre; others are white.

    places: (N, 2) from 0 to 1; pixels: (N, H, W, 3) uint8. Returns (H', W', 3) uint8.
    """
    across = math.ceil(math.sqrt(len(places) * ATLAS_WIDTH / ATLAS_HEIGHT))  # about as many cells as pictures
    side = min(max(ATLAS_WIDTH // across, SMALLEST_CELL), LARGEST_CELL)
    counts = np.array([ATLAS_WIDTH // side, ATLAS_HEIGHT // side])
    cells = np.minimum(places * counts, counts - 1).astype(int)  # (N, 2), column and row
    distances = ((places * counts - cells - 0.5) ** 2).sum(axis=1)
    nearest: dict[tuple[int, int], int] = {}
    for i in np.argsort(-distances):  # the nearest is written last
        nearest[tuple(cells[i].tolist())] = i
    columns, rows = counts.tolist()
    sheet = np.full((rows, side, columns, side, 3), 255, dtype=np.uint8)
    for (column, row), picture in zip(nearest, _resized(pixels[list(nearest.values())], side), strict=True):
        sheet[row, :, column] = picture
    return sheet.reshape(rows * side, columns * side, 3)


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, side, side, 3) uint8, averages over areas."""
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return F.interpolate(pictures, (side, side), mode="area").round().byte().permute(0, 2, 3, 1).numpy()


def _map_to_point_at(
    places: np.ndarray, pixels: np.ndarray, labels: Sequence[str], colourings: dict[str, Sequence[str]]
) -> str:
    """HTML with all that it needs: the script, the dots and, in one sheet, their pictures."""
    N = len(places)
    rows = np.sort(np.random.default_rng(0).permutation(N)[:MOST_TO_POINT_AT])
    x, y = (MARGIN + places[rows] * [WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN]).round().astype(int).T.tolist()
    groups = {}
    for name, members in colourings.items():
        names, ids = _numbered(members)
        groups[name] = {"names": names, "ids": "".join(map(str, ids[rows]))}  # one digit each
    some = "" if len(rows) == N else f" Of the {N:,} pictures, {len(rows):,} are here."
    url = f"data:image/webp;base64,{base64.b64encode(_thumbnails(pixels[rows])).decode()}"
    data = dict(
        width=WIDTH,
        height=HEIGHT,
        x=x,
        y=y,
        labels=[labels[row] for row in rows],
        groups=groups,
        colours=COLOURS,
        hint=f"Point at a dot to see what it is.{some}",
        thumbnails={"url": url, "columns": THUMBNAILS_IN_A_ROW},
    )
    # A label may hold anything, also what would end the script.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    no_map = "No map to point at below? Run this cell to bring it back: a saved notebook does not show it everywhere."
    script = SCRIPT.read_text(encoding="utf-8")
    run = f"for (const box of document.querySelectorAll('[data-map=\"{name}\"]')) ({script})(box, {text})"
    return f'<div data-map="{name}"><small>{no_map}</small></div><script>{run}</script>'


def _thumbnails(pixels: np.ndarray) -> bytes:
    """Pictures (N, H, W, 3) uint8, small and in one sheet, left to right and top to bottom: a WebP file."""
    N, columns, side = len(pixels), THUMBNAILS_IN_A_ROW, THUMBNAIL
    rows = math.ceil(N / columns)
    sheet = np.full((rows * columns, side, side, 3), 255, dtype=np.uint8)
    sheet[:N] = _resized(pixels, side)
    sheet = sheet.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    file = io.BytesIO()
    PIL.Image.fromarray(sheet).save(file, "WEBP", quality=30)
    return file.getvalue()
