"""What answers while it works: a box to type prompts into, and a training run that is watched."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML, display
from matplotlib.figure import Figure
from torch import Tensor

from ddpm_core.course.display.pictures import show_pictures
from ddpm_core.course.display.style import BLUE, SKY, show_widget, write_out_numbers
from ddpm_core.course.kept_run import KeptRun
from ddpm_core.support.notices import collect_notices
from ddpm_core.support.pixels import encode, tile
from ddpm_core.training_state import TrainingState

SECONDS_BETWEEN_FIGURES = 10.0  # while a training run is watched; a figure takes the time of many iterations
_previews: WeakKeyDictionary[TrainingState, dict[int, Tensor]] = WeakKeyDictionary()


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

    def large(pictures: Tensor) -> bytes:
        return encode(tile(pictures, width=800))

    image = ipywidgets.Image(value=large(pictures), format="png", layout={"max_width": "100%", "width": "max-content"})
    note = ipywidgets.Label()

    def redraw(_: dict) -> None:
        note.value = "drawing ..."
        try:
            with collect_notices() as notices:
                image.value = large(draw(text.value, slider.value))
            note.value = "; ".join(notices)
        except ValueError as error:
            note.value = str(error)

    text.observe(redraw, names="value")
    slider.observe(redraw, names="value")
    widget = ipywidgets.VBox([ipywidgets.HBox([text, slider]), image, note])
    show_widget(widget, "prompt box")
    return widget


def watch(
    run: Iterable[TrainingState],
    state: TrainingState,
    num_iterations: int,
    preview: Callable[[TrainingState], Tensor] | None = None,
    keep: Path | str | None = None,
    title: str = "Samples on the way",
) -> None:
    """Iterates a training run to its end with a progress bar, a live loss curve and samples on the way.

    run:     what train(state, ...) returns
    preview: state -> pictures (N, C, H, W) in [-1, 1], called six times: at the end, halfway, a quarter of the way
             and so on, as most is learnt early
    keep:    a file, such as "../build/my-run.safetensors". Now and then the run is saved there. If the kernel ends
             before the run does, the next watch of the same run goes on from it, and says so
    title:   of the previews

    The bar moves twice a second; the curve, which takes longer to draw, with each preview, and else every ten seconds.
    The stop button (or Ctrl-C) ends the cell in peace: the state keeps all that was learnt, and the same cell goes on.
    """
    bar, figure_handle = display(HTML(""), display_id=True), display(HTML(""), display_id=True)
    preview_at = {max(1, round(num_iterations / 2**i)) for i in range(6)}
    kept = KeptRun(keep, run, state)
    kept.come_back()
    rows = _previews.setdefault(state, {})  # kept with the state, so that a run that goes on shows its beginning, too
    first_iteration, drawn_iteration = state.iteration, None
    began = bar_drawn = figure_drawn = time.perf_counter()

    def draw_figure() -> None:
        nonlocal figure_drawn, drawn_iteration
        figure = _training_figure(state.losses, num_iterations, sorted(rows.items()), title)
        figure_handle.update(figure, metadata={"image/png": {"alt": f"The loss, and {title[0].lower()}{title[1:]}"}})
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
            kept.save_if_due()
    except KeyboardInterrupt:
        kept.save()
        print(f"Stopped at iteration {state.iteration}. Nothing is lost: run this cell again and it goes on.")
    else:
        kept.remove()
        if state.iteration == first_iteration:
            print(f"This run has done its {num_iterations:,} iterations: for another one, make a new TrainingState.")
    if state.losses and drawn_iteration != state.iteration:
        draw_figure()


def _bar(state: TrainingState, num_iterations: int, seconds: float, done: int) -> str:
    left = seconds / done * (num_iterations - state.iteration)
    return (
        f"<progress value='{state.iteration}' max='{num_iterations}' style='width:20em'></progress> "
        f"iteration {state.iteration:,} of {num_iterations:,} &nbsp; loss {state.losses[-1]:.2g} &nbsp; "
        f"{seconds:.0f} s, {left:.0f} s left"
    )


def _training_figure(
    losses: Sequence[float], num_iterations: int, rows: Sequence[tuple[int, Tensor]], title: str
) -> Figure:
    # The samples are what one waits for: they are large, and the curve is small.
    widths = dict(figsize=(9.2, 4.4), width_ratios=(1, 2)) if rows else dict(figsize=(4.6, 3.0))
    figure, axes = plt.subplots(1, 2 if rows else 1, squeeze=False, **widths)
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
        axis.set(xticks=[], title=title, ylabel="iteration")
        axis.grid(False)
        axis.spines[:].set_visible(False)
    plt.close(figure)
    return figure
