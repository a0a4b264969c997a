"""Pictures one after the other: a slider over all of them with a strip of a few, and a film that plays by itself."""

import io
from collections.abc import Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from IPython.display import Image, display

from ddpm_core.course.display.style import label_columns, label_rows, show_figure, show_widget
from ddpm_core.support.pixels import encode


def show_frames(
    frames: Sequence[np.ndarray] | dict[str, Sequence[np.ndarray]],
    captions: Sequence[str],
    title: str = "",
    num_static: int = 6,
    size: float = 1.7,  # inches, the width of a picture of the strip
) -> ipywidgets.Widget:
    """Shows frames twice: a strip of a few of them, and a slider over all with play and pause. Returns the widget.

    frames:     each (H, W, 3) uint8, ready-made, so that the slider answers at once. A dict of such sequences gets a
                menu to pick from, and a strip for each
    captions:   one per frame, the same for all sequences
    num_static: frames in a strip; 0 shows none, where another figure is the static twin
    """
    choices = frames if isinstance(frames, dict) else {"": frames}
    for name, sequence in choices.items():
        if len(sequence) != len(captions):
            of = f" of {name!r}" if name else ""
            raise ValueError(f"each frame needs a caption; got {len(captions)} for {len(sequence)} frames{of}")
    if num_static:
        _show_strips(choices, captions, title, num_static, size)
    pngs = {name: [encode(frame) for frame in sequence] for name, sequence in choices.items()}
    menu = ipywidgets.Dropdown(options=list(choices), layout={"width": "max-content"})
    image = ipywidgets.Image(format="png", layout={"max_width": "100%", "width": "max-content"})
    caption = ipywidgets.Label()
    slider = ipywidgets.IntSlider(max=len(captions) - 1, description="step", readout=False)
    play = ipywidgets.Play(max=len(captions) - 1, interval=120)
    ipywidgets.jslink((play, "value"), (slider, "value"))

    def move(_: dict | None = None) -> None:
        image.value, caption.value = pngs[menu.value][slider.value], captions[slider.value]

    move()
    slider.observe(move, names="value")
    menu.observe(move, names="value")
    controls = [play, slider, caption] if len(choices) == 1 else [menu, play, slider, caption]
    widget = ipywidgets.VBox([ipywidgets.HBox(controls), image])
    show_widget(widget, "slider")
    return widget


def _show_strips(
    choices: dict[str, Sequence[np.ndarray]], captions: Sequence[str], title: str, num_static: int, size: float
) -> None:
    shown = np.unique(np.linspace(0, len(captions) - 1, num_static).round().astype(int))
    height, width, _ = next(iter(choices.values()))[0].shape
    rows, columns = len(choices), len(shown)
    figsize = (size * columns, size * height / width * rows + (0.65 if title else 0.3))
    figure, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False)
    for row, sequence in zip(axes, choices.values(), strict=True):
        for axis, i in zip(row, shown, strict=True):
            axis.imshow(sequence[i], interpolation="nearest" if width < 100 else "antialiased")
            axis.set_axis_off()
    label_rows(axes[:, 0], list(choices), gap=0.08)
    label_columns(axes[0], [captions[i] for i in shown])
    figure.suptitle(title, fontsize=11, fontweight="bold")
    names = f"{', '.join(choices)}; " if rows > 1 else ""
    show_figure(figure, alt=f"{title}: {names}{', '.join(captions[i] for i in shown)}")


def animate(frames: Sequence[np.ndarray], alt: str) -> None:
    """Plays frames (each (H, W, 3) uint8) over and over, in four seconds and a rest on the last one.

    Viewers without animation show the last one.
    """
    images = [PIL.Image.fromarray(frame).quantize(64, dither=PIL.Image.Dither.NONE) for frame in frames]
    milliseconds = [round(4000 / len(frames))] * (len(frames) - 1) + [1500]
    file = io.BytesIO()
    options = dict(save_all=True, append_images=images, default_image=True, duration=milliseconds, loop=0)
    images[-1].save(file, "PNG", **options)
    display(Image(file.getvalue(), format="png", alt=alt))
