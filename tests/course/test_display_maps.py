import json
import re

import matplotlib.colors
import numpy as np
import pytest
import torch
from displayed import alts, figures, opened, shown
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt

from ddpm_core import EmojiDataset
from ddpm_core.course import display
from ddpm_core.course.display.maps import COLOURS, atlas, dots_figure

pytestmark = pytest.mark.usefixtures("shell", "no_figure_stays_open")


def a_map(count: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return dict(
        points=torch.randn(count, 2, generator=generator),
        pictures=torch.randint(256, (count, 3, 8, 8), generator=generator).to(torch.uint8),
        labels=[f"picture {i}" for i in range(count)],
        groups=["even" if i % 2 == 0 else "odd" for i in range(count)],
    )


def pointed_at(outputs) -> dict:
    """What the script of the map to point at is given."""
    [page] = [output.data["text/html"] for output in outputs if "text/html" in output.data]
    return json.loads(re.search(r"\(box, (\{.*\})\)</script>$", page, re.DOTALL)[1])


def test_a_map_has_dots_a_part_to_point_at_and_an_atlas():
    outputs, _ = shown(display.picture_map, **a_map(50))
    assert ["text/html" in output.data for output in outputs] == [False, True, False]
    assert len(alts(outputs)) == 2 and all("50 pictures" in alt for alt in alts(outputs))


def test_the_dots_are_at_their_places_in_the_colours_of_their_groups():
    points = torch.tensor([[0.0, 10.0], [4.0, 20.0], [2.0, 15.0], [1.0, 20.0]])
    places = display.maps._unit_square(points)
    assert places.tolist() == [[0, 1], [1, 0], [0.5, 0.5], [0.25, 0]]  # y goes down
    kinds = {"style": ["b", "a", "b", "c"], "kind": ["x", "x", "y", "y"]}
    figure = dots_figure(places, kinds)
    for axis, members in zip(figure.axes, kinds.values(), strict=True):
        dots = axis.collections[0]
        offsets, colours = dots.get_offsets().tolist(), map(tuple, dots.get_facecolors())
        colour_of = dict(zip(map(tuple, offsets), colours, strict=True))
        legend = {text.get_text(): handle for text, handle in zip(*legend_of(axis), strict=True)}
        assert list(legend) == list(dict.fromkeys(members))
        for place, member in zip(places.tolist(), members, strict=True):
            assert colour_of[tuple(place)] == tuple(legend[member].get_facecolor()[0])
    plt.close(figure)


def legend_of(axis) -> tuple:
    legend = axis.get_legend()
    return legend.get_texts(), legend.legend_handles


def test_no_group_covers_the_others():
    places = np.zeros((200, 2))  # all in one place: the dot on top is the last one drawn
    figure = dots_figure(places, {"group": ["first"] * 100 + ["second"] * 100})
    colours = figure.axes[0].collections[0].get_facecolors()
    firsts = (colours == matplotlib.colors.to_rgba(COLOURS[0])).all(axis=1)
    assert 30 < firsts[:100].sum() < 70
    plt.close(figure)


# How colours look without one of the three kinds of cones, in linear RGB (Machado, Oliveira & Fernandes 2009, table 1).
VISION = {
    "all cones": np.eye(3),
    "no long ones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no medium ones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def least_difference(colours, vision) -> float:
    """Of any two colours, in CIE L*a*b*, where 2.3 is only just seen."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(vision).T
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear.clip(0, 1) @ to_xyz.T / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    return np.linalg.norm(lab[:, None] - lab, axis=2)[~np.eye(len(lab), dtype=bool)].min()


@pytest.mark.parametrize("vision", VISION.values(), ids=VISION)
def test_eight_colours_can_be_told_apart_also_by_colour_blind_readers(vision):
    assert len(COLOURS) == 8 and least_difference(COLOURS, vision) > 10
    paper = [least_difference(["white", colour], vision) for colour in COLOURS]
    assert min(paper) > 25


def test_matplotlibs_own_colours_could_not():
    assert least_difference(matplotlib.color_sequences["tab10"][:8], VISION["no long ones"]) < 5


# The part to point at


def test_each_dot_to_point_at_has_its_label_its_groups_and_its_picture():
    given = a_map(60) | {"groups": {"parity": a_map(60)["groups"], "third": [f"{i % 3}" for i in range(60)]}}
    given["pictures"] = torch.randint(256, (60, 3, 1, 1), generator=torch.Generator().manual_seed(1))
    given["pictures"] = given["pictures"].to(torch.uint8).expand(-1, -1, 24, 24)
    outputs, _ = shown(display.picture_map, **given)
    data = pointed_at(outputs)
    assert data["labels"] == given["labels"] and data["colours"] == list(COLOURS)
    for name, members in given["groups"].items():
        group = data["groups"][name]
        assert [group["names"][int(digit)] for digit in group["ids"]] == members
    x, y = given["points"].T
    assert np.corrcoef(data["x"], x)[0, 1] > 0.999 and np.corrcoef(data["y"], y)[0, 1] < -0.999
    assert min(data["x"]) >= 0 and max(data["x"]) <= data["width"]
    assert min(data["y"]) >= 0 and max(data["y"]) <= data["height"]
    sheet = np.asarray(opened(data["thumbnails"]["url"].partition(",")[2]).convert("RGB")).astype(int)
    columns = data["thumbnails"]["columns"]
    side = sheet.shape[1] // columns
    for i, picture in enumerate(given["pictures"]):
        top, left = i // columns * side, i % columns * side
        middle = sheet[top + side // 4 : top + side * 3 // 4, left + side // 4 : left + side * 3 // 4].mean(axis=(0, 1))
        assert np.abs(middle - picture[:, 0, 0].numpy()).max() < 48  # the format loses some


def test_of_many_pictures_the_notebook_holds_some_and_says_so():
    given = a_map(2300)
    outputs, _ = shown(display.picture_map, **given)
    data = pointed_at(outputs)
    rows = [given["labels"].index(label) for label in data["labels"]]
    assert len(set(rows)) == len(rows) == 2000 and max(rows) > 2200 and min(rows) < 100
    assert [("even", "odd")[int(digit)] for digit in data["groups"]["group"]["ids"]] == [
        given["groups"][row] for row in rows
    ]
    assert "2,000" in data["hint"] and "2,300" in data["hint"]
    assert "Of the" not in pointed_at(shown(display.picture_map, **a_map(5))[0])["hint"]


def test_labels_may_hold_any_signs_and_end_no_script():
    labels = ["</script><b>", "火箭 \u2028 \\ \"'", "<!--"]
    outputs, _ = shown(display.picture_map, **a_map(3) | {"labels": labels})
    page = outputs[1].data["text/html"]
    assert pointed_at(outputs)["labels"] == labels and page.count("</script>") == 1 and "<!--" not in page


def test_the_same_map_is_stored_as_the_same_text():
    texts = [shown(display.picture_map, **a_map(30, seed))[0][1].data["text/html"] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_a_map_takes_little_room_in_a_notebook():
    emoji = EmojiDataset(styles=["noto", "fluent"], split="all")
    pictures, points = emoji.pictures[:2500], torch.rand(2500, 2, generator=torch.Generator().manual_seed(0))
    styles = [emoji.styles[i] for i in emoji.style_ids[:2500]]
    colourings = {"style": styles, "group": [f"group {i % 8}" for i in range(2500)]}
    outputs, _ = shown(display.picture_map, points, pictures, emoji.captions()[:2500], colourings)
    # Spread evenly, they fill the atlas. A notebook stores a picture in four thirds of its bytes.
    dots, full_atlas = (len(output.data["image/png"]) * 3 / 4 for output in figures(outputs))
    assert dots < 200_000 and full_atlas < 300_000 and len(outputs[1].data["text/html"].encode()) < 400_000


# The atlas


def test_each_cell_of_the_atlas_has_the_picture_nearest_to_its_centre():
    generator = np.random.default_rng(0)
    places = generator.random((3000, 2))
    pixels = generator.integers(0, 200, (3000, 1, 1, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    sheet = atlas(places, pixels)
    side = 32
    assert sheet.shape == (896, 1152, 3)
    for row, column in [(0, 0), (5, 7), (27, 35), (13, 20)]:
        centre = np.array([(column + 0.5) / 36, (row + 0.5) / 28])
        offsets = (places - centre) * [36, 28]
        inside = np.flatnonzero((np.abs(offsets) < 0.5).all(axis=1))
        cell = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        if len(inside):
            nearest = inside[np.argmin((offsets[inside] ** 2).sum(axis=1))]
            assert (cell == pixels[nearest, 0, 0]).all()
        else:
            assert (cell == 255).all()


def test_fewer_pictures_are_larger_and_an_empty_cell_is_white():
    places = np.array([[0.0, 0.0], [1.0, 1.0]])
    sheet = atlas(places, np.zeros((2, 64, 64, 3), dtype=np.uint8))
    assert (
        (sheet[:96, :96] == 0).all() and (sheet[-96:, -96:] == 0).all() and (sheet == 0).all(axis=2).sum() == 2 * 96**2
    )
    assert (sheet[200:500, 300:700] == 255).all()


def test_an_atlas_is_shown_nearly_in_its_own_colours():
    given = a_map(30) | {
        "pictures": torch.tensor([230, 159, 0]).to(torch.uint8)[None, :, None, None].expand(30, -1, 8, 8)
    }
    outputs, _ = shown(display.picture_map, **given)
    pixels = np.asarray(opened(figures(outputs)[1].data["image/png"]).convert("RGB")).astype(int)
    is_paper = pixels.min(axis=2) > 250
    assert is_paper.any() and not is_paper.all() and np.abs(pixels[~is_paper] - [230, 159, 0]).max() < 8


@pytest.mark.parametrize("points", [torch.zeros(4, 2), torch.tensor([[0.0, 1.0]] * 2 + [[2.0, 1.0]] * 2)])
def test_points_in_one_place_or_on_one_line_have_a_map_too(points):
    outputs, _ = shown(display.picture_map, **a_map(4) | {"points": points})
    assert len(figures(outputs)) == 2


def test_points_may_be_an_array_and_pictures_floats_or_grey():
    given = a_map(6)
    given |= {"points": given["points"].numpy(), "pictures": torch.zeros(6, 1, 28, 28)}
    outputs, _ = shown(display.picture_map, **given)
    assert len(figures(outputs)) == 2


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"points": torch.zeros(5, 3)}, ValueError, ["points", "(5, 3)"]),
        ({"points": torch.zeros(4, 2)}, ValueError, ["points", "(4, 2)"]),
        ({"points": [[0.0, 1.0]] * 5}, ValueError, ["points", "list"]),
        ({"points": torch.full((5, 2), torch.nan)}, ValueError, ["points", "nan"]),
        ({"pictures": torch.zeros(5, 2, 8, 8)}, ValueError, ["pictures", "(5, 2, 8, 8)"]),
        ({"labels": ["a"] * 4}, ValueError, ["labels", "4"]),
        ({"labels": [1] * 5}, ValueError, ["labels", "1"]),
        ({"groups": "abcde"}, TypeError, ["groups", "abcde"]),
        ({"groups": torch.zeros(5)}, ValueError, ["groups", "tensor"]),
        ({"groups": {"kind": ["a"]}}, ValueError, ["groups['kind']", "1"]),
        ({"groups": {}}, ValueError, ["groups"]),
    ],
)
def test_a_map_refuses_what_does_not_fit_before_it_shows_anything(change, error, words):
    with capture_output() as captured, pytest.raises(error) as raised:
        display.picture_map(**a_map(5) | change)
    assert captured.outputs == [] and all(word in str(raised.value) for word in words)


def test_there_are_no_more_groups_than_colours():
    with pytest.raises(ValueError) as raised:
        display.picture_map(**a_map(20) | {"groups": [str(i % 9) for i in range(20)]})
    assert all(word in str(raised.value) for word in ("groups", "9", "8"))
    outputs, _ = shown(display.picture_map, **a_map(20) | {"groups": [str(i % 8) for i in range(20)]})
    assert len(pointed_at(outputs)["groups"]["group"]["names"]) == 8
