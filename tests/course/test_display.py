import importlib.util
import json
import warnings
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from displayed import WIDGET, alts, figures, opened, shown, way_back
from fontTools.ttLib import TTFont
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt
from matplotlib.font_manager import fontManager
from torch import nn

from ddpm_core import NoiseSchedule, PromptWarning, TrainingState, UNet, cosine_betas, train
from ddpm_core.course import display
from ddpm_core.course.display.style import CHINESE_FONT
from ddpm_core.data import EmojiDataset, all_scenes, caption_of
from ddpm_core.support.files import data_folder, shipped_file

pytestmark = pytest.mark.usefixtures("shell", "no_figure_stays_open")


def grey_frames(count: int, height: int = 4, width: int = 6) -> list[np.ndarray]:
    return [np.full((height, width, 3), 20 * i, dtype=np.uint8) for i in range(count)]


# Pictures and frames


@pytest.mark.parametrize("count, columns", [(1, 8), (5, 3)])
@pytest.mark.parametrize("labels", [{}, {"titles": ["a", "b"], "row_titles": ["one"], "title": "Digits"}])
def test_pictures_are_shown_as_one_figure_with_an_alt_text(count, columns, labels):
    outputs, _ = shown(display.show_pictures, torch.rand(count, 1, 8, 8), columns=columns, **labels)
    assert len(outputs) == 1 and alts(outputs) == [labels.get("title") or f"{count} pictures"]


def test_each_picture_stands_at_its_place_in_the_figure(monkeypatch):
    drawn = []
    monkeypatch.setattr("ddpm_core.course.display.pictures.show_figure", lambda figure, alt: drawn.append(figure))
    pictures = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 2, 2)
    display.show_pictures(pictures, titles=list("abcde"), columns=3)
    axes = [axis for axis in drawn[0].axes if axis.images]
    assert [axis.get_title() for axis in axes] == list("abcde")
    assert [axis.images[0].get_array()[0, 0, 0] for axis in axes] == [0, 64, 128, 191, 255]
    plt.close(drawn[0])


def test_lines_of_a_picture_larger_than_its_place_are_mixed_and_not_left_out(monkeypatch):
    drawn = []
    monkeypatch.setattr("ddpm_core.course.display.pictures.show_figure", lambda figure, alt: drawn.append(figure))
    black_and_white = torch.tensor([-1.0, 1.0]).repeat(150).expand(1, 1, 300, 300)
    display.show_pictures(black_and_white, size=1.0)
    place = drawn[0].axes[0].get_window_extent()
    pixels = display.figure_to_pixels(drawn[0])
    row, column = len(pixels) // 2, int(place.x0 + place.width / 2)
    assert place.width < 150 and (abs(pixels[row, column - 20 : column + 20] - 127.5) < 60).all()


def test_titles_of_several_lines_leave_the_pictures_their_size(monkeypatch):
    drawn, sides = [], []
    monkeypatch.setattr("ddpm_core.course.display.pictures.show_figure", lambda figure, alt: drawn.append(figure))
    with plt.rc_context():
        display.use_course_style()
        for title in ("one line", "one\nand\ntwo\nmore"):
            display.show_pictures(torch.zeros(4, 1, 8, 8), titles=[title] * 4, columns=2, title="Digits")
            places = [axis.get_window_extent for axis in drawn[-1].axes]
            display.figure_to_pixels(drawn[-1])
            sides.append(min(place().width for place in places))
    assert sides[1] > 0.95 * sides[0]


def test_a_figure_becomes_its_pixels():
    figure = plt.figure(figsize=(2, 1), dpi=50, facecolor="red")
    pixels = display.figure_to_pixels(figure)
    assert pixels.shape == (50, 100, 3) and (pixels == [255, 0, 0]).all()


@pytest.mark.parametrize("num_static", [0, 3])
def test_frames_are_shown_as_a_strip_and_as_a_widget_or_as_a_widget_alone(num_static):
    outputs, _ = shown(display.show_frames, grey_frames(5), list("abcde"), num_static=num_static, title="Noise")
    assert alts(outputs) == ["Noise: a, c, e"] * (num_static > 0)
    assert [WIDGET in output.data for output in outputs] == [False] * (num_static > 0) + [False, True]
    assert "slider" in way_back(outputs)


def test_moving_the_slider_changes_the_picture_and_its_caption(monkeypatch):
    links, frames, captions = [], grey_frames(5), [f"step {i}" for i in range(5)]
    monkeypatch.setattr("ipywidgets.jslink", lambda source, target: links.append((source, target)))
    _, widget = shown(display.show_frames, frames, captions)
    (play, slider, caption), image = widget.children[0].children, widget.children[1]
    for control in (play, slider):
        assert (control.min, control.max, control.value) == (0, 4, 0)
    assert links == [((play, "value"), (slider, "value"))]  # in the browser, play moves the slider
    for i in (1, 3, 0, 4):
        slider.value = i
        assert caption.value == f"step {i}"
        assert (np.asarray(opened(image.value)) == frames[i]).all()


def test_a_menu_picks_between_sets_of_frames_and_each_has_its_strip():
    sets, captions = {"linear": grey_frames(3), "cosine": [255 - frame for frame in grey_frames(3)]}, list("abc")
    outputs, widget = shown(display.show_frames, sets, captions, title="Two schedules", num_static=2)
    assert alts(outputs) == ["Two schedules: linear, cosine; a, c"]
    (menu, _, slider, caption), image = widget.children[0].children, widget.children[1]
    assert menu.options == ("linear", "cosine")
    for name, i in (("linear", 1), ("cosine", 1), ("cosine", 2), ("linear", 2)):
        menu.value, slider.value = name, i
        assert (np.asarray(opened(image.value)) == sets[name][i]).all() and caption.value == captions[i]


@pytest.mark.parametrize(
    "frames, captions, numbers",
    [
        (grey_frames(3), "", "0 for 3 frames"),
        (grey_frames(3), "abcd", "4 for 3 frames"),
        ({"long": grey_frames(3), "short": grey_frames(2)}, "abc", "3 for 2 frames of 'short'"),
    ],
)
def test_frames_need_as_many_captions(frames, captions, numbers):
    with pytest.raises(ValueError, match=numbers):
        display.show_frames(frames, list(captions))


def test_an_animation_is_a_png_that_moves_and_rests_on_its_last_frame():
    frames = [np.full((8, 8, 3), colour, np.uint8) for colour in ([255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9])]
    outputs, _ = shown(display.animate, frames, alt="Four colours")
    assert len(outputs) == 1 and alts(outputs) == ["Four colours"]
    image = opened(outputs[0].data["image/png"])
    assert image.format == "PNG" and image.is_animated and image.default_image and image.info["loop"] == 0
    # A viewer without animation shows the default image, which comes before the frames and is no frame itself.
    assert image.n_frames == 1 + len(frames) and (np.asarray(image.convert("RGB")) == frames[-1]).all()
    durations = []
    for i, frame in enumerate(frames):
        image.seek(1 + i)
        durations.append(image.info["duration"])
        assert (np.asarray(image.convert("RGB")) == frame).all()
    assert durations[:-1] == [1000, 1000, 1000] and durations[-1] > 1000


def test_the_source_of_a_class_is_shown_highlighted():
    outputs, _ = shown(display.show_source, UNet)
    page = outputs[0].data["text/html"]
    assert 'class="highlight"' in page and ">UNet<" in page and "x_t (B, in_channels, H, W) floats" in page


# Networks


def test_attention_is_shown_word_by_word_beside_its_picture():
    pictures, maps, words = torch.zeros(2, 3, 8, 16), torch.rand(2, 3, 2, 4), ["start", "red", "七"]
    figure = display.attention_figure(pictures, maps, words, row_titles=["a", "b"])
    axes = figure.axes
    assert [axis.get_title() for axis in axes[:4]] == ["picture", *words]
    for row in range(2):
        for word in range(3):
            image = axes[4 * row + 1 + word].images[0]
            assert np.allclose(image.get_array(), maps[row, word]) and image.get_clim() == (0, maps[row].max().item())
        assert axes[4 * row + 3].texts[-1].get_text() == f"0 to\n{maps[row].max():.2f}"
    plt.close(figure)
    outputs, _ = shown(display.show_attention, pictures, maps, ["start", "red", "seven"])
    assert len(outputs) == 1 and alts(outputs)[0].endswith("start, red, seven")


@pytest.mark.parametrize("pictures, words", [(1, 3), (2, 2)])
def test_attention_needs_a_picture_for_each_row_and_a_word_for_each_map(pictures, words):
    with pytest.raises(ValueError, match=f"2 pictures and 3 words; got {pictures} and {words}"):
        display.show_attention(torch.zeros(pictures, 3, 8, 8), torch.rand(2, 3, 2, 2), ["word"] * words)


@pytest.fixture
def reading_unet() -> UNet:
    torch.manual_seed(0)
    unet = UNet(1, (8, 16), context_dim=12, cross_attention_levels=(0, 1))
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.2)  # as after some training: nothing is at zero
    return unet


def read(unet: UNet, height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x_t, context = torch.randn(2, 1, height, width, generator=generator), torch.randn(2, 5, 12, generator=generator)
    return unet(x_t, torch.tensor([3, 99]), context, torch.arange(5) >= torch.tensor([[3], [4]]))


def test_recorded_maps_are_the_mean_over_the_heads_of_every_block_in_the_order_of_the_network(reading_unet):
    blocks = [level.cross_attention for level in (*reading_unet.down, reading_unet.middle, *reading_unet.up)]
    inputs_of = {}
    for block in blocks:
        block.register_forward_hook(lambda block, inputs, output: inputs_of.update({block: inputs}))
    with display.record_attention(reading_unet) as maps:
        read(reading_unet, 8, 12)
    assert [tuple(each.shape) for each in maps] == [(2, 5, *size) for size in [(8, 12)] + [(4, 6)] * 3 + [(8, 12)]]
    for block, recorded in zip(blocks, maps, strict=True):
        assert torch.equal(recorded, block.attention_weights(*inputs_of[block]).mean(dim=1))
        assert not recorded.requires_grad


def test_recording_changes_no_output_and_ends_with_the_block_or_an_error(reading_unet):
    before = read(reading_unet)
    with pytest.raises(KeyboardInterrupt), display.record_attention(reading_unet) as maps:
        for count in (5, 10):
            assert torch.equal(read(reading_unet), before) and len(maps) == count
        raise KeyboardInterrupt
    assert torch.equal(read(reading_unet), before) and len(maps) == 10


def test_nothing_is_recorded_of_a_network_without_text():
    unet = UNet(1, (8,))
    with display.record_attention(unet) as maps:
        unet(torch.zeros(1, 1, 8, 8), torch.tensor([0]))
    assert maps == []


# The prompt box


@pytest.fixture
def box():
    """A prompt box whose pictures are as bright as the guidance scale says, and what it was asked for."""
    asked = []

    def draw(prompt, guidance_scale):
        asked.append((prompt, guidance_scale))
        if prompt == "too long":
            raise ValueError("the caption 'too long' has 99 words")
        if prompt == "zebra":
            warnings.warn("no training caption had zebra", PromptWarning, stacklevel=2)
        return torch.full((2, 3, 8, 8), guidance_scale / 4 - 1)

    outputs, widget = shown(display.prompt_box, draw, "a blue three", 3.0)
    return outputs, widget, asked


def test_a_prompt_box_stands_beside_its_static_twin(box):
    outputs, _, asked = box
    assert asked == [("a blue three", 3.0)]
    assert alts(outputs) == ["a blue three  (guidance scale 3)"]
    assert [WIDGET in output.data for output in outputs] == [False, False, True]
    assert "prompt box" in way_back(outputs)


def test_the_pictures_in_the_box_are_large_enough_to_enjoy():
    _, widget = shown(display.prompt_box, lambda *_: torch.zeros(6, 3, 28, 28), "a blue three")
    width, height = opened(widget.children[1].value).size
    assert 6 * 100 <= width <= 900 and height >= 100


def test_typing_or_moving_the_slider_draws_anew(box):
    _, widget, asked = box
    (text, slider), image, note = widget.children[0].children, *widget.children[1:]
    text.value = "a red seven"
    slider.value = 8
    assert asked[1:] == [("a red seven", 3.0), ("a red seven", 8.0)]
    assert np.asarray(opened(image.value)).max() == 255 and note.value == ""
    assert not text.continuous_update and not slider.continuous_update  # draws at Enter, not at every letter


def test_what_a_prompt_lacks_is_said_in_the_box_and_the_picture_stays(box):
    _, widget, _ = box
    (text, _), image, note = widget.children[0].children, *widget.children[1:]
    before = image.value
    text.value = "too long"
    assert note.value == "the caption 'too long' has 99 words" and image.value == before
    text.value = "zebra"
    assert note.value == "no training caption had zebra"
    text.value = "a blue three"
    assert note.value == ""


# The box to draw a mask in


class Hands:
    """What a learner does with a mask box, whose changes are noted."""

    def __init__(self, picture: torch.Tensor, mask: torch.Tensor | None = None):
        self.changes: list[torch.Tensor] = []
        self.outputs, self.box = shown(display.mask_box, picture, mask, self.changes.append)
        (self.canvas, panel) = self.box.children[0].children
        self.image, self.squares = self.canvas.children
        self.brush, self.hint, actions, self.note = panel.children
        self.actions = {button.description: button for button in actions.children}

    def click(self, *squares: tuple[int, int]) -> None:
        for row, column in squares:
            [button] = [each for each in self.squares.children if each.tooltip == f"row {row}, column {column}"]
            button.click()

    def draw(self, brush: str, *squares: tuple[int, int]) -> None:
        self.brush.value = brush
        self.click(*squares)

    def press(self, action: str) -> None:
        self.actions[action].click()


def rows_and_columns(mask: torch.Tensor) -> tuple[list[int], list[int]]:
    """Those with a pixel that should be redrawn."""
    return mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()


def test_a_mask_box_stands_beside_its_static_twin_and_its_mask_can_be_used_at_once():
    hands = Hands(torch.zeros(3, 32, 32))
    assert len(alts(hands.outputs)) == 1 and all(alts(hands.outputs))
    assert [WIDGET in output.data for output in hands.outputs] == [False, False, True]
    assert "picture to click on" in way_back(hands.outputs)
    mask = hands.box.mask
    assert mask.dtype == torch.bool and mask.shape == (32, 32)
    assert rows_and_columns(mask) == (list(range(8, 24)), list(range(8, 24))) and mask.sum() == 16**2
    assert hands.changes == [] and hands.note.value.startswith("25%")


def test_a_click_marks_a_square_and_the_next_one_clears_it():
    hands = Hands(torch.zeros(1, 32, 32), torch.zeros(32, 32, dtype=torch.bool))
    for square in ((1, 1), (8, 3), (1, 1)):
        hands.click(square)
    assert [rows_and_columns(mask) for mask in hands.changes] == [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 28, 29, 30, 31], [0, 1, 2, 3, 8, 9, 10, 11]),
        ([28, 29, 30, 31], [8, 9, 10, 11]),
    ]
    assert hands.changes[-1].equal(hands.box.mask)


@pytest.mark.parametrize("corners", [[(2, 3), (4, 7)], [(4, 7), (2, 3)], [(2, 7), (4, 3)], [(4, 3), (2, 7)]], ids=str)
def test_two_corners_make_a_rectangle_whichever_comes_first(corners):
    hands = Hands(torch.zeros(1, 32, 32))
    hands.press("nothing")
    hands.draw("rectangle", corners[0])
    assert not hands.box.mask.any() and "mark" in hands.hint.value
    hands.click(corners[1])
    assert rows_and_columns(hands.box.mask) == (list(range(4, 16)), list(range(8, 28)))
    assert hands.box.mask.sum() == 12 * 20 and len(hands.changes) == 2


def test_what_begins_on_a_marked_square_clears():
    hands = Hands(torch.zeros(1, 32, 32), torch.ones(32, 32, dtype=torch.bool))
    hands.draw("rectangle", (1, 1))
    assert "clear" in hands.hint.value
    hands.click((8, 4))
    assert not hands.box.mask[:, :16].any() and hands.box.mask[:, 16:].all()
    hands.click((8, 8), (8, 1))  # over marked and cleared ones
    assert not hands.box.mask[28:].any() and hands.box.mask[:28, 16:].all()


def test_an_ellipse_is_round_touches_its_four_sides_and_leaves_the_corners():
    hands = Hands(torch.zeros(1, 64, 32))
    hands.press("nothing")
    hands.draw("ellipse", (1, 1), (16, 8))
    mask = hands.box.mask
    assert rows_and_columns(mask) == (list(range(64)), list(range(32)))
    assert mask.equal(mask.flip(0)) and mask.equal(mask.flip(1)) and not mask[0, 0]
    assert mask.sum().item() == pytest.approx(np.pi * 32 * 16, rel=0.01)
    hands.draw("square", (1, 1))  # in part inside of the ellipse: a click fills it, and only another one clears it
    assert hands.box.mask[:4, :4].all()
    hands.click((1, 1))
    assert not hands.box.mask[:4, :4].any()


def test_everything_nothing_and_the_inverse():
    hands = Hands(torch.zeros(1, 32, 32))
    first = hands.box.mask
    for action, mask in (
        ("inverse", ~first),
        ("everything", torch.ones_like(first)),
        ("inverse", torch.zeros_like(first)),
        ("nothing", None),  # is so already: no change, and nobody is told of one
    ):
        told = len(hands.changes)
        hands.press(action)
        assert len(hands.changes) == told + (mask is not None)
        assert mask is None or (hands.changes[-1].equal(mask) and hands.box.mask.equal(mask))


def test_another_brush_or_action_forgets_the_first_corner():
    for forget in (lambda hands: hands.draw("ellipse"), lambda hands: hands.press("nothing")):
        hands = Hands(torch.zeros(1, 32, 32), torch.zeros(32, 32, dtype=torch.bool))
        hands.draw("rectangle", (1, 1))
        forget(hands)
        hands.draw("rectangle", (8, 8))
        assert not hands.box.mask.any()
        hands.click((8, 8))
        assert hands.box.mask.sum() == 16


def test_the_picture_shows_through_the_mask_and_is_as_it_was_elsewhere():
    picture = torch.full((1, 64, 64), -1.0)
    picture[:, 32:] = 1.0
    hands = Hands(picture, torch.zeros(64, 64, dtype=torch.bool))
    inside = (slice(90, 110), slice(90, 110))  # of a square of 40 pixels on the screen, (3, 3), off its lines
    before = np.asarray(opened(hands.image.value))
    assert before.shape == (320, 320, 3) and (before[inside] == 0).all()
    hands.click((3, 3))
    after = np.asarray(opened(hands.image.value))
    assert 0.3 < (after[inside] != before[inside]).any(-1).mean() < 0.7  # stripes
    assert (after[:80] == before[:80]).all() and (after[120:] == before[120:]).all()
    hands.draw("rectangle", (8, 8))
    framed = np.asarray(opened(hands.image.value)) != after
    assert framed[280:, 280:].any() and not framed[:280].any() and not framed[:, :280].any()
    hands.click((8, 7))
    dark, bright = after[inside], np.asarray(opened(hands.image.value))[290:310, 290:310]
    assert bright.mean() > dark.mean() + 50


@pytest.mark.parametrize(
    "size, squares",
    [
        ((8, 8), (8, 8)),
        ((28, 28), (7, 7)),
        ((28, 56), (7, 14)),
        ((33, 50), (8, 12)),
        ((1, 1), (1, 1)),
        ((2, 300), (2, 16)),
        ((70, 50), (12, 8)),
    ],
    ids=str,
)
def test_squares_cover_every_size_once(size, squares):
    hands = Hands(torch.zeros(1, *size), torch.zeros(size, dtype=torch.bool))
    rows, columns = squares
    assert len(hands.squares.children) == rows * columns
    layout = hands.squares.layout  # sizes of the squares on the screen are in proportion to those in the picture
    for track, side, count in zip(
        (layout.grid_template_rows, layout.grid_template_columns), size, squares, strict=True
    ):
        sizes = [int(each.removesuffix("fr")) for each in track.split()]
        assert len(sizes) == count and sum(sizes) == side and max(sizes) - min(sizes) <= 1
    width, height = (int(side.removesuffix("px")) for side in (hands.canvas.layout.width, hands.canvas.layout.height))
    assert max(width, height) <= 480 and width / height == pytest.approx(size[1] / size[0], rel=0.01)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            before = hands.box.mask
            hands.click((row, column))
            assert (hands.box.mask & before).equal(before) and hands.box.mask.sum() > before.sum()
    assert hands.box.mask.all()


def test_a_large_picture_is_made_small_enough_for_a_screen():
    hands = Hands(torch.zeros(1, 700, 1000))
    assert (hands.canvas.layout.width, hands.canvas.layout.height) == ("457px", "320px")
    assert hands.box.mask.shape == (700, 1000)


def test_a_mask_once_taken_and_the_one_given_are_not_changed_by_later_clicks():
    given = torch.zeros(32, 32, dtype=torch.bool)
    hands = Hands(torch.zeros(1, 32, 32), given)
    hands.click((1, 1))
    taken = hands.box.mask
    hands.press("everything")
    hands.box.mask[:] = False
    hands.changes[-1][:] = False
    assert not given.any() and taken.sum() == 16 and hands.box.mask.all()


def test_what_on_change_refuses_is_said_in_the_box():
    def refuse(mask):
        raise ValueError("nothing is left of the picture")

    _, box = shown(display.mask_box, torch.zeros(1, 8, 8), on_change=refuse)
    panel = box.children[0].children[1].children
    panel[2].children[0].click()
    assert panel[3].value == "nothing is left of the picture" and box.mask.all()
    panel[2].children[1].click()
    assert not box.mask.any()


@pytest.mark.parametrize(
    "arguments, error, name",
    [
        ((torch.zeros(4, 1, 8, 8),), ValueError, "picture"),
        ((torch.full((1, 8, 8), 2.0),), ValueError, "picture"),
        ((torch.zeros(1, 8, 8), torch.ones(8, 7) > 0), ValueError, "mask"),
        ((torch.zeros(1, 8, 8), None, "draw"), TypeError, "on_change"),
    ],
)
def test_a_mask_box_refuses_what_it_cannot_use_before_it_shows_anything(arguments, error, name):
    with capture_output() as captured, pytest.raises(error, match=f"^{name} must"):
        display.mask_box(*arguments)
    assert captured.outputs == []


# Watching a run


def watch(run, state, num_iterations: int, preview=None) -> tuple[list, str]:
    """What watching displays, and what it prints."""
    with capture_output() as captured:
        try:
            display.watch(run, state, num_iterations, preview)
        except KeyboardInterrupt:  # or it would stop pytest itself
            pytest.fail("the stop button was not handled")
    return captured.outputs, captured.stdout + captured.stderr


class Run:
    """A small training run to be watched, and the iterations that a preview was asked for."""

    def __init__(self, num_iterations: int = 4, stop_at: int | None = None):
        self.state, self.num_iterations, self.stop_at = TrainingState(UNet(1, (8,))), num_iterations, stop_at
        self.previewed: list[int] = []

    def preview(self, state: TrainingState) -> torch.Tensor:
        if state.iteration == self.stop_at:
            self.stop_at = None
            raise KeyboardInterrupt
        self.previewed.append(state.iteration)
        return torch.zeros(3, 1, 8, 8)

    def watch(self, with_previews: bool = True) -> tuple[list, str]:
        """Watches the run to its end, from where it is."""
        run = train(self.state, NoiseSchedule(cosine_betas(10)), -torch.ones(8, 1, 8, 8), self.num_iterations, 4)
        return watch(run, self.state, self.num_iterations, self.preview if with_previews else None)


def bars(outputs) -> list[str]:
    return [output.data["text/html"] for output in outputs if "<progress" in output.data.get("text/html", "")]


def test_watching_trains_to_the_end_in_two_places_that_it_updates_and_prints_nothing():
    run = Run()
    outputs, text = run.watch()
    assert run.state.iteration == 4 and text == ""
    assert "value='4' max='4'" in bars(outputs)[-1] and f"loss {run.state.losses[-1]:.2g}" in bars(outputs)[-1]
    assert [output.update for output in outputs] == [False, False] + [True] * (len(outputs) - 2)
    assert len(alts(outputs)) == 3 and all(alts(outputs))
    assert json.dumps([[output.data, output.metadata] for output in outputs])  # it can be stored in a notebook


def test_previews_come_at_the_end_halfway_a_quarter_of_the_way_and_so_on():
    run = Run(num_iterations=128)
    outputs, _ = run.watch()
    assert run.previewed == [4, 8, 16, 32, 64, 128] and len(figures(outputs)) == 6


def test_between_previews_the_curve_is_drawn_at_most_every_ten_seconds_and_the_bar_moves_all_the_time(monkeypatch):
    seconds, run = 0, Run()

    def one_iteration_a_second():
        nonlocal seconds
        while seconds < 40:
            seconds += 1
            run.state.losses.append(1.0)
            yield run.state

    monkeypatch.setattr("ddpm_core.course.display.live.time", SimpleNamespace(perf_counter=lambda: seconds))
    outputs, _ = watch(one_iteration_a_second(), run.state, 40, run.preview)
    drawn_at = [len(bars(outputs[:i])) for i, output in enumerate(outputs) if "image/png" in output.data]
    assert drawn_at == [1, 2, 5, 10, 20, 31, 40]  # all but 31 are the previews
    assert len(bars(outputs)) == 40


def test_stopping_keeps_the_state_says_where_it_is_and_the_next_call_goes_on():
    run = Run(stop_at=2)
    _, text = run.watch()
    assert run.state.iteration == 2 and len(run.state.losses) == 2
    assert "iteration 2" in text and "run this cell again" in text
    _, text = run.watch()
    assert run.state.iteration == 4 and text == ""
    assert run.previewed == [1, 3, 4]  # the one that was interrupted is made up for at once


def test_a_run_that_goes_on_shows_the_pictures_from_before_it_stopped():
    run = Run(stop_at=4)
    run.watch()
    outputs, _ = run.watch()
    assert run.previewed == [1, 2]  # nothing was left to do after iteration 4
    without_pictures, _ = Run().watch(with_previews=False)
    widths = [opened(figures(each)[0].data["image/png"]).width for each in (outputs, without_pictures)]
    assert widths[0] > 1.5 * widths[1]


def test_stopping_before_the_first_iteration_is_peaceful_too():
    def interrupted():
        raise KeyboardInterrupt
        yield

    _, text = watch(interrupted(), Run().state, 5)
    assert "iteration 0" in text


def test_watching_a_finished_run_says_that_it_is_done_and_draws_the_figure_again():
    run = Run()
    run.watch()
    outputs, text = run.watch()
    assert "has done its 4 iterations" in text and run.previewed == [1, 2, 4] and len(figures(outputs)) == 1


def test_another_error_in_a_watched_run_is_not_swallowed():
    def broken():
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        watch(broken(), Run().state, 4)


# Style and font


def test_the_course_style_uses_the_colours_that_colour_blind_readers_can_tell_apart():
    with matplotlib.rc_context():
        display.use_course_style()
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"][:2] == [display.BLUE, display.ORANGE]


FONT_FILE = "NotoSansSC-subset.otf"
OF_ITS_LENGTH = ("红色的七", "蓝色的八")  # captions that nobody could tell apart if they were boxes


@pytest.fixture
def without_font(monkeypatch):
    """matplotlib as it starts, not knowing the course's font; its look comes back afterwards."""
    monkeypatch.setattr(fontManager, "ttflist", [e for e in fontManager.ttflist if e.name != CHINESE_FONT])
    with matplotlib.rc_context():
        yield


@pytest.fixture(scope="module")
def font():
    with TTFont(shipped_file(FONT_FILE)) as font:
        yield font


def title_pixels(text: str) -> np.ndarray:
    figure, axis = plt.subplots(figsize=(3, 1))
    axis.set_axis_off()
    axis.set_title(text)
    return display.figure_to_pixels(figure)


@pytest.mark.parametrize("around", ["{}", "a red seven: {}", "{}\na red seven"])
def test_chinese_titles_are_drawn_without_a_warning(around, without_font, caplog):
    display.use_course_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (title_pixels(around.format(text)) for text in OF_ITS_LENGTH)
    assert (one != other).any()
    assert caplog.messages == []  # such as that the font is not bold: it would stand under every figure


@pytest.mark.parametrize("content", [None, b"", b"version https://git-lfs"], ids=["missing", "empty", "damaged"])
def test_without_the_font_figures_are_drawn_and_chinese_becomes_boxes(content, without_font, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    if content is not None:
        (tmp_path / FONT_FILE).write_bytes(content)
    display.use_course_style()
    assert plt.rcParams["font.family"] == ["DejaVu Sans"]
    with pytest.warns(UserWarning, match="missing from"):
        one, other = map(title_pixels, OF_ITS_LENGTH)
    assert (one == other).all()
    assert (title_pixels("seven") != title_pixels("eight")).any()


def test_the_font_does_not_change_english_titles(without_font):
    display.use_course_style()
    ours = title_pixels("A red seven, 7")
    plt.rcParams["font.family"] = "DejaVu Sans"
    assert (title_pixels("A red seven, 7") == ours).all()


def test_the_font_is_made_known_once(without_font):
    for _ in range(3):
        display.use_course_style()
    weights = [entry.weight for entry in fontManager.ttflist if entry.name == CHINESE_FONT]
    assert weights == [400, 700]


def test_the_font_has_every_character_of_the_chinese_captions(font):
    captions = EmojiDataset(1, ["noto"], ["zh"]).names["zh"] + ["，。、：；！？（）《》“”"]
    for scene in all_scenes(1, withheld=False, language="zh") + all_scenes(1, withheld=True, language="zh"):
        captions += [caption_of(scene, "zh", wording) for wording in range(4)]
        captions += [caption_of(scene * 2, "zh", wording) for wording in range(4)]
    wanted = {ord(character) for character in "".join(captions) if not character.isascii()}
    assert wanted == set(font.getBestCmap())


def test_the_font_is_small_and_comes_with_its_licence(font):
    assert shipped_file(FONT_FILE).stat().st_size < 350_000
    assert font["name"].getDebugName(1) == CHINESE_FONT
    licence = shipped_file("OFL.txt").read_text(encoding="utf-8")
    assert licence.startswith(f"Copyright {font['name'].getDebugName(0)}\n")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence and "Reserved Font Name" in licence


def test_the_builder_makes_the_same_font_again():
    spec = importlib.util.spec_from_file_location("build_font", data_folder() / "build_font.py")
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    if why := builder.difference():
        pytest.skip(why)
    assert builder.build(builder.ImageFont.truetype(builder.FONTS).path) == shipped_file(FONT_FILE).read_bytes()
