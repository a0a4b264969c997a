"""Showing pictures, chains and training in a notebook. Every widget has a static twin. Nothing here is diffusion."""

import dataclasses
import inspect
import io
import math
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import torch
from IPython.display import HTML, Image, display
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import LogLocator
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from torch import Tensor

from ddpm_core.support.files import shipped_file
from ddpm_core.text_to_image import collect_notices
from ddpm_core.training import TrainingState

# Colours that colour-blind readers can tell apart (Okabe & Ito 2008), in the order the figures use them.
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#767676"
CHINESE_FONT = "Noto Sans SC Subset"  # what NotoSansSC-subset.otf calls itself; matplotlib's own has no Chinese


def use_course_style() -> None:
    """Sets matplotlib's look for the notebooks: colours, sizes, light grid, and a font for Chinese captions."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, SKY, GREY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.labelsize": 10,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.family": ["DejaVu Sans", *_chinese_fonts()],  # the second draws what the first does not have
            "font.size": 10,
            "lines.linewidth": 2,
        }
    )


def write_out_numbers(*axes: Axis) -> None:
    """On logarithmic axes of a plot: 200 instead of 2 x 10^2."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


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


def to_pixels(pictures: Tensor) -> np.ndarray:
    """(N, 1 or 3, H, W) in [-1, 1] -> (N, H, W, 3) uint8. Values outside are cut off, as a screen has no more."""
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be (N, 1, H, W) or (N, 3, H, W); got shape {tuple(pictures.shape)}")
    pixels = ((pictures.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def show_pictures(
    pictures: Tensor,
    titles: Sequence[str] = (),  # one a picture, or one a column with row_titles
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
    aspect = pixels.shape[1] / pixels.shape[2]
    height = size * rows * (aspect + (0.3 if has_line else 0))
    height += (0.35 if titles and not has_line else 0) + (0.4 if title else 0)
    label_width = 0.09 * max((len(text) for text in row_titles), default=0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns + label_width, height), squeeze=False, gridspec_kw={"wspace": 0.06}
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, text in zip_longest(axes.flat, pixels, titles):
        if picture is not None:
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(text or "", fontsize=9, fontweight="normal")
    for axis, text in zip(axes[:, 0], row_titles, strict=False):
        axis.text(-0.12, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    show_figure(figure, alt=title or f"{len(pixels)} pictures")


def show_figure(figure: Figure, alt: str) -> None:
    """Displays a matplotlib figure with a text for readers who cannot see it."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def figure_to_pixels(figure: Figure) -> np.ndarray:
    """Draws and closes a matplotlib figure: (H, W, 3) uint8."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return pixels


def tile(pictures: Tensor, columns: int = 8, width: int = 400, gap: int = 2) -> np.ndarray:
    """One sheet of pictures (N, C, H, W) in [-1, 1], enlarged to about width pixels: (H', W', 3) uint8."""
    pixels = to_pixels(pictures)
    N, H, W, _ = pixels.shape
    columns = min(columns, N)
    rows = math.ceil(N / columns)
    scale = max(1, width // (columns * W))
    H, W = H * scale, W * scale
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pixels.repeat(scale, 1).repeat(scale, 2)):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def show_frames(
    frames: Sequence[np.ndarray] | dict[str, Sequence[np.ndarray]],
    captions: Sequence[str],
    title: str = "",
    num_static: int = 6,
    size: float = 1.7,  # inches a picture of the static twin
    start: int = 0,
) -> ipywidgets.Widget:
    """Shows frames twice: a strip of a few of them, and a slider over all with play and pause. Returns the widget.

    frames:     each (H, W, 3) uint8, ready-made, so that the slider answers at once. A dict of such sequences gets a
                menu to pick from, and a strip for each
    captions:   one a frame, the same for all sequences
    num_static: frames in a strip; 0 shows none, where another figure is the static twin
    """
    choices = frames if isinstance(frames, dict) else {"": frames}
    for name, sequence in choices.items():
        if len(sequence) != len(captions):
            of = f" of {name!r}" if name else ""
            raise ValueError(
                f"there must be a caption for each frame; got {len(captions)} for {len(sequence)} frames{of}"
            )
    if num_static:
        _show_strips(choices, captions, title, num_static, size)
    pngs = {name: [_png(frame) for frame in sequence] for name, sequence in choices.items()}
    menu = ipywidgets.Dropdown(options=list(choices), layout={"width": "max-content"})
    image = ipywidgets.Image(
        value=pngs[menu.value][start], format="png", layout={"max_width": "100%", "width": "max-content"}
    )
    caption = ipywidgets.Label(captions[start])
    slider = ipywidgets.IntSlider(start, 0, len(captions) - 1, description="step", readout=False)
    play = ipywidgets.Play(value=start, min=0, max=len(captions) - 1, interval=120)
    ipywidgets.jslink((play, "value"), (slider, "value"))

    def move(_: dict) -> None:
        image.value, caption.value = pngs[menu.value][slider.value], captions[slider.value]

    slider.observe(move, names="value")
    menu.observe(move, names="value")
    controls = [play, slider, caption] if len(choices) == 1 else [menu, play, slider, caption]
    widget = ipywidgets.VBox([ipywidgets.HBox(controls), image])
    display(widget)
    return widget


def _show_strips(
    choices: dict[str, Sequence[np.ndarray]], captions: Sequence[str], title: str, num_static: int, size: float
) -> None:
    shown = np.unique(np.linspace(0, len(captions) - 1, num_static).round().astype(int))
    height, width, _ = next(iter(choices.values()))[0].shape
    figure, axes = plt.subplots(
        len(choices),
        len(shown),
        figsize=(size * len(shown), size * height / width * len(choices) + (0.65 if title else 0.3)),
        squeeze=False,
    )
    for row, (name, sequence) in zip(axes, choices.items(), strict=True):
        for axis, i in zip(row, shown, strict=True):
            axis.imshow(sequence[i], interpolation="nearest" if width < 100 else "antialiased")
            axis.set_axis_off()
        row[0].text(-0.08, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    for axis, i in zip(axes[0], shown, strict=True):
        axis.set_title(captions[i], fontsize=9, fontweight="normal")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    names = f"{', '.join(choices)}; " if len(choices) > 1 else ""
    show_figure(figure, alt=f"{title}: {names}{', '.join(captions[i] for i in shown)}")


def animate(frames: Sequence[np.ndarray], alt: str, seconds: float = 4.0) -> None:
    """Plays frames (each (H, W, 3) uint8) over and over, resting on the last, which viewers without animation show."""
    images = [PIL.Image.fromarray(frame).quantize(64, dither=PIL.Image.Dither.NONE) for frame in frames]
    milliseconds = [round(1000 * seconds / len(frames))] * (len(frames) - 1) + [1500]
    file = io.BytesIO()
    options = dict(save_all=True, append_images=images, default_image=True, duration=milliseconds, loop=0)
    images[-1].save(file, "PNG", **options)
    display(Image(file.getvalue(), format="png", alt=alt))


def show_source(thing: Callable) -> None:
    """Shows the source of one of the package's functions or classes, highlighted."""
    source = inspect.getsource(thing)
    look = "background: #f8f8f8; padding: 0.6em; font-family: monospace; font-size: 90%; line-height: 130%"
    page = highlight(source, PythonLexer(), HtmlFormatter(noclasses=True, prestyles=look))
    display({"text/plain": source, "text/html": page}, raw=True)


def show_attention(
    pictures: Tensor,
    maps: Tensor,
    words: Sequence[str],
    row_titles: Sequence[str] = (),
    size: float = 1.15,  # inches a picture
) -> None:
    """Shows rows of a picture and, beside it, how much each place looks at each word: bright is much.

    pictures: (N, C, H, W) in [-1, 1]; maps: (N, L, h, w), as record_attention's, L words. Each row has its own scale,
    from 0 to the number at its end.
    """
    figure = attention_figure(pictures, maps, words, row_titles, size)
    show_figure(figure, alt=f"How much each place of the picture looks at the words {', '.join(words)}")


def attention_figure(
    pictures: Tensor, maps: Tensor, words: Sequence[str], row_titles: Sequence[str] = (), size: float = 1.15
) -> Figure:
    """What show_attention shows, not shown yet: for the frames of a film."""
    N, L, h, w = maps.shape
    if len(pictures) != N or len(words) != L:
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} need {N} pictures and {L} words; got {len(pictures)} and {len(words)}"
        )
    width = size * pictures.shape[3] / pictures.shape[2] / 2 + 0.4
    figure, axes = plt.subplots(N, L + 1, figsize=(width * (L + 1) + 0.4, width * h / w * N + 0.5), squeeze=False)
    for row, (picture, row_maps) in enumerate(zip(to_pixels(pictures), maps, strict=True)):
        most = row_maps.max().item()
        axes[row, 0].imshow(picture, interpolation="nearest")
        for axis, word_map in zip(axes[row, 1:], row_maps, strict=True):
            axis.imshow(word_map, cmap="viridis", vmin=0, vmax=most, interpolation="nearest")
        axes[row, -1].text(1.06, 0.5, f"0 to\n{most:.2f}", transform=axes[row, -1].transAxes, va="center", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, word in zip(axes[0], ["picture", *words], strict=True):
        axis.set_title(word, fontsize=9, fontweight="normal")
    for axis, text in zip(axes[:, 0], row_titles, strict=False):
        axis.text(-0.12, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    return figure


def prompt_box(draw: Callable[[str, float], Tensor], prompt: str, guidance_scale: float = 3.0) -> ipywidgets.Widget:
    """A box to type prompts into, with a guidance slider; above it, as its static twin, what the first prompt gives.

    draw: (prompt, guidance_scale) -> pictures (N, C, H, W) in [-1, 1]. PromptWarnings and ValueErrors of it are shown
    in the box. Returns the widget.
    """
    pictures = draw(prompt, guidance_scale)
    show_pictures(pictures, columns=len(pictures), title=f"{prompt}  (guidance scale {guidance_scale:g})")
    text = ipywidgets.Text(prompt, description="prompt", continuous_update=False)
    slider = ipywidgets.FloatSlider(
        guidance_scale, min=0, max=8, step=0.5, description="guidance", continuous_update=False
    )
    image = ipywidgets.Image(value=_png(tile(pictures)), format="png")
    note = ipywidgets.Label()

    def redraw(_: dict) -> None:
        note.value = "drawing ..."
        try:
            with collect_notices() as notices:
                image.value = _png(tile(draw(text.value, slider.value)))
            note.value = "; ".join(notices)
        except ValueError as error:
            note.value = str(error)

    text.observe(redraw, names="value")
    slider.observe(redraw, names="value")
    widget = ipywidgets.VBox([ipywidgets.HBox([text, slider]), image, note])
    display(widget)
    return widget


def draw_unet(shapes: dict[str, tuple[int, int, int]]) -> None:
    """Draws what the parts of a U-Net return: boxes as tall as the picture and as wide as its channels.

    shapes: "down 0", "down 1", ..., "middle", ..., "up 1", "up 0" -> (C, H, W), in the order of the work.
    Grey arrows are the way through the network, dashed ones the skip connections.
    """
    levels = [int(name.split()[-1]) if name != "middle" else len(shapes) // 2 for name in shapes]
    most_channels, tallest = (max(shape[axis] for shape in shapes.values()) for axis in (0, 1))
    figure, axis = plt.subplots(figsize=(1.3 * len(shapes), 1.1 * (len(shapes) // 2 + 1)))
    right_edges: dict[int, float] = {}  # of the boxes drawn so far, by level
    before = None  # where the way through the network has come to
    for x, ((name, (C, H, W)), level) in enumerate(zip(shapes.items(), levels, strict=True)):
        width, height = 0.15 + 0.5 * C / most_channels, 0.12 + 0.6 * H / tallest
        axis.add_patch(plt.Rectangle((x - width / 2, -level - height / 2), width, height, color=SKY, ec=BLUE))
        axis.text(x, -level - height / 2 - 0.06, f"{name}\n{C} x {H} x {W}", ha="center", va="top", fontsize=8)
        here = (x - width / 2, -level)
        if level in right_edges:
            skip = dict(arrowstyle="->", color=ORANGE, linestyle="--", linewidth=1.5)
            axis.annotate("", xy=here, xytext=(right_edges[level], -level), arrowprops=skip)
        if before is not None:
            axis.annotate("", xy=here, xytext=before, arrowprops=dict(arrowstyle="->", color=GREY))
        right_edges[level] = x + width / 2
        before = (right_edges[level], -level)
    axis.set(xlim=(-0.7, len(shapes) - 0.3), ylim=(-max(levels) - 0.8, 0.6), title="The U: channels x height x width")
    axis.set_axis_off()
    show_figure(figure, alt=f"U-Net: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}")


SECONDS_BETWEEN_FIGURES = 10.0  # while a training run is watched; a figure takes the time of many iterations
_previews: "weakref.WeakKeyDictionary[TrainingState, dict[int, Tensor]]" = weakref.WeakKeyDictionary()


def watch(
    run: Iterable[TrainingState],
    state: TrainingState,
    num_iterations: int,
    preview: Callable[[TrainingState], Tensor] | None = None,
    num_previews: int = 6,
) -> None:
    """Iterates a training run to its end with a progress bar, a live loss curve and samples on the way.

    run:     what train(state, ...) returns
    preview: state -> pictures (N, C, H, W) in [-1, 1], called num_previews times: at the end, halfway, a quarter of the
             way and so on, as most is learnt early

    The bar moves twice a second; the curve, which takes longer to draw, with each preview, and else every ten seconds.
    The stop button (or Ctrl-C) ends the cell in peace: the state keeps all that was learnt, and the same cell goes on.
    """
    bar, figure_handle = display(HTML(""), display_id=True), display(HTML(""), display_id=True)
    preview_at = {max(1, round(num_iterations / 2**i)) for i in range(num_previews)}
    rows = _previews.setdefault(state, {})  # kept with the state, so that a run that goes on shows its beginning, too
    first_iteration, drawn_iteration = state.iteration, None
    began = bar_drawn = figure_drawn = time.perf_counter()

    def draw_figure() -> None:
        nonlocal figure_drawn, drawn_iteration
        figure = _training_figure(state.losses, num_iterations, sorted(rows.items()))
        figure_handle.update(figure, metadata={"image/png": {"alt": "The loss, and samples on the way"}})
        figure_drawn, drawn_iteration = time.perf_counter(), state.iteration

    try:
        for _ in run:
            now = time.perf_counter()
            if now - bar_drawn > 0.5 or state.iteration == num_iterations:
                bar_drawn = now
                bar.update(HTML(_bar(state, num_iterations, now - began, state.iteration - first_iteration)))
            is_due = any(max(rows, default=0) < iteration <= state.iteration for iteration in preview_at)
            if preview is not None and is_due:
                rows[state.iteration] = preview(state)
                draw_figure()
            elif now - figure_drawn > SECONDS_BETWEEN_FIGURES:
                draw_figure()
    except KeyboardInterrupt:
        print(f"Stopped at iteration {state.iteration}. Nothing is lost: run this cell again and it goes on.")
    else:
        if state.iteration == first_iteration:
            print(f"This run has done its {num_iterations:,} iterations: for another one, make a new TrainingState.")
    if state.losses and drawn_iteration != state.iteration:
        draw_figure()


def _bar(state: TrainingState, num_iterations: int, seconds: float, done: int) -> str:
    left = seconds / done * (num_iterations - state.iteration)
    return (
        f"<progress value='{state.iteration}' max='{num_iterations}' style='width:20em'></progress> "
        f"iteration {state.iteration:,} of {num_iterations:,} &nbsp; loss {state.losses[-1]:.3f} &nbsp; "
        f"{seconds:.0f} s, {left:.0f} s left"
    )


def _training_figure(losses: Sequence[float], num_iterations: int, rows: Sequence[tuple[int, Tensor]]) -> Figure:
    columns = 2 if rows else 1
    figure, axes = plt.subplots(1, columns, figsize=(4.6 * columns, 3.0), squeeze=False)
    axis = axes[0, 0]
    window = max(1, num_iterations // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axis.plot(np.arange(len(losses)) + 1, losses, color=SKY, linewidth=0.6, alpha=0.6)
    axis.plot(np.arange(len(smooth)) + window, smooth, color=BLUE)
    axis.set(xlabel="iteration", ylabel="loss", yscale="log", xlim=(0, num_iterations), title="Loss")
    write_out_numbers(axis.yaxis)
    if rows:
        sheet = tile(torch.cat([pictures for _, pictures in rows]), columns=len(rows[0][1]))
        axis = axes[0, 1]
        axis.imshow(sheet, interpolation="nearest", aspect="equal")
        height = sheet.shape[0] / len(rows)
        axis.set_yticks([height * (i + 0.5) for i in range(len(rows))], [f"{iteration:,}" for iteration, _ in rows])
        axis.set(xticks=[], title="Samples on the way", ylabel="iteration")
        axis.grid(False)
        axis.spines[:].set_visible(False)
    plt.close(figure)
    return figure


def _png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()
