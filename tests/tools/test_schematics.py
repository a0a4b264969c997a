"""The schematics in notebooks/pictures/: the files are what tools/schematics.py draws, and what they show is true.

Text is measured here with matplotlib's DejaVu Sans, the widest font that a reader is likely to have, and with full
squares for Chinese; tests/browser measures it in a browser.
"""

import re
import xml.etree.ElementTree as ET
from functools import cache
from inspect import signature
from itertools import combinations
from pathlib import Path

import matplotlib
import nbformat
import pytest
import schematics
import torch
from PIL import ImageFont

from ddpm_core import NoiseSchedule, UNet, linear_betas, load_checkpoint, load_mnist, shipped_checkpoint
from ddpm_core.systems.stable_diffusion import Autoencoder, autoencoder_loss

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "notebooks" / "pictures"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SVG = "{http://www.w3.org/2000/svg}"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
EXPECTED = ["autoencoder", "clip", "course-map", "dalle-2", "denoiser", "guidance", "imagen", "picture-search"]
EXPECTED += ["stable-diffusion", "text-denoiser", "training-pair", "training-step", "training-with-text", "unet"]
every_drawing = pytest.mark.parametrize("name", EXPECTED)


def read(name: str) -> str:
    return (PICTURES / f"{name}.svg").read_text(encoding="utf-8")


@cache
def parse(name: str) -> ET.Element:
    return ET.fromstring(read(name))


def words_of(name: str) -> list[str]:
    return ["".join(text.itertext()) for text in parse(name).iter(f"{SVG}text")]


def has_class(element: ET.Element, *names: str) -> bool:
    return set(names) <= set(element.get("class", "").split())


@cache
def font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS / file, size)


def width_of(text: ET.Element) -> float:
    size, weight = schematics.SIZES[text.get("class")]
    plain = font("DejaVuSans-Bold.ttf" if weight == 700 else "DejaVuSans.ttf", size)
    pieces = [(plain, size, text.text or "")]
    for span in text:
        pieces += [(font("DejaVuSansMono-Bold.ttf", 14), 14, span.text), (plain, size, span.tail or "")]
    return sum(len(CHINESE.findall(part)) * em + each.getlength(CHINESE.sub("", part)) for each, em, part in pieces)


def rectangle_of(text: ET.Element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a line of text, nearly."""
    x, y, width = float(text.get("x")), float(text.get("y")), width_of(text)
    left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
    size = schematics.SIZES[text.get("class")][0]
    return left, y - 0.8 * size, left + width, y + 0.25 * size


@cache
def rectangles(name: str) -> dict[str, tuple[float, float, float, float]]:
    texts = parse(name).iter(f"{SVG}text")
    return {f"{number}: {''.join(text.itertext())}": rectangle_of(text) for number, text in enumerate(texts)}


def overlap(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_the_script_draws_what_is_expected():
    assert sorted(schematics.DRAWINGS) == EXPECTED


@every_drawing
def test_the_file_is_what_the_script_draws(name):
    assert read(name) == schematics.DRAWINGS[name]().svg(), "python tools/schematics.py writes it again"


@every_drawing
def test_a_drawing_fits_a_slide_and_a_notebook(name):
    root = parse(name)
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
    assert width <= 900 and width / height >= 1.3  # no taller than a slide of 4:3
    assert len(read(name).encode()) <= 40_000


@every_drawing
def test_a_drawing_speaks_both_languages_and_to_screen_readers(name):
    root, words = parse(name), words_of(name)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img" and root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text in words and len(description.text.split()) > 30
    for text in root.iter(f"{SVG}text"):
        is_chinese = CHINESE.search("".join(text.itertext())) is not None
        assert is_chinese <= ("zh" in text.get("{http://www.w3.org/XML/1998/namespace}lang", ""))
    assert sum(CHINESE.search(line) is not None for line in words) >= len(words) / 4


@every_drawing
def test_a_drawing_needs_nothing_from_elsewhere(name):
    text = read(name).replace('xmlns="http://www.w3.org/2000/svg"', "", 1)
    assert not re.search(r"https?:|data:|url\(|@import|@font-face|<image|<script|<foreignObject", text)
    assert "href" not in text  # nor from another place of the same file: pages take ids away


def test_drawings_on_one_page_do_not_clash():
    ids = [element.get("id") for name in EXPECTED for element in parse(name).iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for name in EXPECTED:
        sheet = parse(name).find(f"{SVG}style").text
        selectors = re.findall(r"([^{}]+)\{[^{}]*\}", sheet.replace("@media (prefers-color-scheme:dark){", ""))
        roots = {selector.split()[0] for group in selectors for selector in group.split(",")}
        assert roots == {f"#{parse(name).get('id')}"}


@every_drawing
def test_nothing_is_smaller_than_13_pixels(name):
    sizes = re.findall(r'font-size="([\d.]+)"', read(name))
    assert sizes and min(map(float, sizes)) >= 13
    assert {text.get("class") for text in parse(name).iter(f"{SVG}text")} <= set(schematics.SIZES)


@every_drawing
def test_text_stays_on_the_card_and_apart(name):
    height = float(parse(name).get("height"))
    for words, (left, top, right, bottom) in rectangles(name).items():
        assert left >= 10 and right <= 890 and top >= 10 and bottom <= height - 6, words
    pairs = combinations(rectangles(name).items(), 2)
    assert [(one, other) for (one, a), (other, b) in pairs if overlap(a, b)] == []


@every_drawing
def test_text_in_a_box_stays_in_it_and_off_pictures(name):
    circles = [circle for circle in parse(name).iter(f"{SVG}circle") if has_class(circle, "badge")]
    badges = {float(circle.get("cx")) for circle in circles}  # these lie on corners, on a ground of their own
    for frame in parse(name).iter(f"{SVG}rect"):
        x, y, width, height = (float(frame.get(key)) for key in ("x", "y", "width", "height"))
        for words, (left, top, right, bottom) in rectangles(name).items():
            inside = x + 3 <= left and right <= x + width - 3 and y <= top and bottom <= y + height
            apart = right <= x or left >= x + width or bottom <= y or top >= y + height
            assert apart or (left + right) / 2 in badges or (inside and not has_class(frame, "edge")), words


@every_drawing
def test_no_arrow_goes_through_text(name):
    lines = [path.get("d") for path in parse(name).iter(f"{SVG}path") if has_class(path, "line")]
    straight = [line for line in lines if not re.search("[a-zA]", line)]  # the curves are left to the browser
    assert straight
    corners = [torch.tensor([float(number) for number in re.findall(r"-?[\d.]+", line)]) for line in straight]
    shares = torch.linspace(0, 1, 100)[:, None, None]
    ends = [points.reshape(-1, 2).unfold(0, 2, 1) for points in corners]  # (segments, x or y, from or to)
    x, y = torch.cat([torch.lerp(each[..., 0], each[..., 1], shares).reshape(-1, 2) for each in ends]).T
    for words, (left, top, right, bottom) in rectangles(name).items():
        assert not ((x > left) & (x < right) & (y > top) & (y < bottom)).any(), words


def contrast(one: str, other: str) -> float:
    """WCAG 2.1: from 1 to 21; text needs 4.5, lines need 3."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_in_both_themes(theme):
    colours = schematics.COLOURS[theme]
    grounds = [colours["card"], colours["group"], *(colours[kind][0] for kind in schematics.KINDS)]
    assert min(contrast(colours[ink], ground) for ink in ("ink", "muted") for ground in grounds) >= 4.5
    strokes = [colours[kind][1] for kind in schematics.KINDS]
    assert min(contrast(stroke, colours[ground]) for stroke in strokes for ground in ("card", "group")) >= 3


def decoded(picture: ET.Element) -> torch.Tensor:
    """The pixels of a drawn picture, (3, H, W), from 0 to 255: each path's dashes are filled."""

    def colour(text: str) -> torch.Tensor:
        return torch.tensor([int(text[i : i + 2], 16) for i in (1, 3, 5)])

    ground, *paths = picture.iter(f"{SVG}path")
    width, height = map(int, re.match(r"M0 0h(\d+)v(\d+)", ground.get("d")).groups())
    pixels = colour(ground.get("fill")).reshape(3, 1, 1).repeat(1, height, width)
    for path in paths:
        x = y = 0
        for command, dx, dy, length in re.findall(r"([Mm])(-?\d+) (-?\d+)(?:\.5)?h(\d+)", path.get("d")):
            x, y = (int(dx), int(dy)) if command == "M" else (x + int(dx), y + int(dy))
            pixels[:, y, x : x + int(length)] = colour(path.get("stroke"))[:, None]
            x += int(length)
    return pixels


def pictures_in(name: str) -> list[torch.Tensor]:
    return [decoded(group) for group in parse(name).iter(f"{SVG}g") if has_class(group, "pixels")]


@pytest.mark.parametrize("channels, levels", [(1, 16), (1, 6), (3, 4)])
def test_pixels_come_back_out_of_their_paths(channels, levels):
    picture = torch.randn(channels, 28, 28, generator=torch.Generator().manual_seed(0))
    group = ET.fromstring(f'<g xmlns="{SVG[1:-1]}">{schematics.paths_of_pixels(picture, levels)}</g>')
    wanted = (picture.clamp(-1, 1) + 1) * 127.5
    assert (decoded(group) - wanted).abs().max() <= 127.5 / (levels - 1) + 0.5  # half a level, and rounding


def test_the_digit_is_one_of_mnist_and_the_noise_is_noise():
    x_0, eps, x_t, target = pictures_in("training-pair")
    assert torch.equal(eps, target)
    digits = (load_mnist("held_out")[0] + 1) * 127.5
    differences = (digits - x_0[:1]).abs().flatten(1)
    assert differences.amax(dim=1).min() <= 9 and differences.mean(dim=1).sort().values[1] > 9
    # As a screen shows a Gaussian: 32 % lie beyond black and white, or 39 % to the nearest of 6 to 8 levels.
    assert ((eps == 0) | (eps == 255)).float().mean().item() == pytest.approx(0.39, abs=0.05)
    assert torch.corrcoef(torch.stack([eps[0, :, :-1].flatten(), eps[0, :, 1:].flatten()]).float())[0, 1].abs() < 0.1
    # The step's alpha_bar, 0.447, is nearly the one with which the two best make x_t, where a screen shows eps whole.
    whole = (eps[0] > 0) & (eps[0] < 255)
    clean, noise, mixed = ((pixels[0] / 127.5 - 1)[whole] for pixels in (x_0, eps, x_t))
    alpha_bars = torch.linspace(0.01, 0.99, 99)[:, None]
    by_hand = (alpha_bars.sqrt() * clean + (1 - alpha_bars).sqrt() * noise).clamp(-1, 1)
    errors = (by_hand - mixed).abs().mean(dim=1)
    assert errors.min() < 0.1  # the levels of what is drawn are 0.29 apart
    assert alpha_bars[errors.argmin()].item() == pytest.approx(0.447, abs=0.1)


def emoji_in(name: str) -> list[int]:
    """Which of all emoji each drawn picture is: the nearest, and as near as its few levels allow."""
    known = schematics.emoji().pictures.flatten(1).float()
    drawn = torch.stack(pictures_in(name)).flatten(1).float()
    differences = torch.cdist(drawn, known, p=1) / known.shape[1]
    assert differences.amin(dim=1).max() <= 16  # a quarter of the step between 5 levels
    return differences.argmin(dim=1).tolist()


def test_each_caption_of_clip_is_that_of_its_picture():
    data, shown = schematics.emoji(), emoji_in("clip")
    chips = [text for text in parse("clip").iter(f"{SVG}text") if text.get("y") == "127"]
    chips.sort(key=lambda text: float(text.get("x")))  # columns from left to right, as rows go downwards
    assert len(chips) == len(shown) == len(set(data.name_ids[shown].tolist()))  # no two show the same
    for i, chip in zip(shown, chips, strict=True):
        assert chip.text in [data.caption(i, language, style) for language in ("en", "zh") for style in (True, False)]


def test_whoever_drew_the_emoji_is_named():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    named = re.findall("`(\\w+)`", readme.partition("**In the schematics:**")[2].partition("\n- ")[0])
    shown = schematics.emoji().style_ids[emoji_in("clip") + emoji_in("picture-search")].tolist()
    large = schematics.emoji(64)
    shown += large.style_ids[[rocket_in("autoencoder", 0), rocket_in("stable-diffusion", 0)]].tolist()
    shown += large.style_ids[[rocket_in("autoencoder", 5), rocket_in("stable-diffusion", 7)]].tolist()
    shown += large.style_ids[list(large_emoji_in("imagen").values())].tolist()
    shown += large.style_ids[list(large_emoji_in("dalle-2").values())].tolist()
    assert {large.styles[style] for style in shown} == set(named)


def test_the_ticks_of_clip_are_on_the_diagonal():
    ticks = [path.get("d") for path in parse("clip").iter(f"{SVG}path") if path.get("d").endswith("l6 7l11 -14")]
    places = [tuple(map(float, re.match(r"M([\d.]+) ([\d.]+)", tick).groups())) for tick in ticks]
    *diagonal, _ = places  # the last one stands in the legend
    across, down = zip(*diagonal, strict=True)
    assert len(diagonal) == 4 and list(across) == sorted(set(across)) and list(down) == sorted(set(down))


def test_the_search_counts_all_emoji_and_finds_rockets():
    data = schematics.emoji()
    assert f"all {len(data.pictures):,} emoji" in words_of("picture-search")
    *_, query, first, second, third, fourth = emoji_in("picture-search")
    found = [first, second, third, fourth]
    assert {data.names["en"][name] for name in data.name_ids[found]} == {"rocket"}
    assert len(set(found)) == 4 and query == first  # nothing is nearer to a picture of the index than itself


def test_the_best_prediction_is_the_closed_form_for_two_points():
    schedule = NoiseSchedule(linear_betas(20, 0.01, 0.3))
    x_t, t = torch.linspace(-2, 2, 9).reshape(9, 1, 1, 1), torch.full((9,), 7)
    alpha_bar = schedule.alpha_bars[7]
    pictures = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    exact = torch.tanh(alpha_bar.sqrt() * x_t / (1 - alpha_bar))
    torch.testing.assert_close(schematics.best_x_0_hat(pictures, schedule, x_t, t), exact)


def test_the_formula_under_the_denoiser_is_what_the_pictures_followed():
    chain, betas = schematics.reverse_chain(), linear_betas(24, 0.004, 0.5).double()
    alpha_bars, t = torch.cumprod(1 - betas, dim=0), 24 - 17
    scaled = betas[t] / (1 - alpha_bars[t]).sqrt() * chain["eps_hat"]
    sigma = (betas[t] * (1 - alpha_bars[t - 1]) / (1 - alpha_bars[t])).sqrt()
    by_hand = (chain["x_t"] - scaled) / (1 - betas[t]).sqrt() + sigma * chain["z"]
    torch.testing.assert_close(chain["x_{t-1}"], by_hand)


@cache
def shipped_autoencoder() -> Autoencoder:
    return load_checkpoint(shipped_checkpoint("autoencoder")).model.requires_grad_(False)


def rocket_in(name: str, place: int) -> int:
    """Which emoji of those at 64x64 is the picture at this place of a drawing; it has to be a rocket."""
    return emoji_like(pictures_in(name)[place], "rocket")


def emoji_like(picture: torch.Tensor, called: str) -> int:
    data = schematics.emoji(64)
    differences = (data.pictures.float() - picture.float()).abs().mean(dim=(1, 2, 3))
    nearest = int(differences.argmin())
    assert differences[nearest] <= 16 and data.names["en"][data.name_ids[nearest]] == called
    return nearest


def large_emoji_in(name: str) -> dict[int, int]:
    """At which places of a drawing of 09 an emoji of 64x64 without noise is, and which."""
    called = {"imagen": "sailboat", "dalle-2": "whale"}[name]
    places = [place for place, picture in enumerate(pictures_in(name)) if picture.shape[-1] == 64]
    if name == "imagen":
        places.remove(7)  # x_t
    return {place: emoji_like(pictures_in(name)[place], called) for place in places}


def in_blocks(picture: torch.Tensor) -> torch.Tensor:
    """(3, 64, 64) -> (3, 16, 16): the mean of each 4 x 4 pixels."""
    return picture.float().reshape(3, 16, 4, 16, 4).mean(dim=(2, 4))


def test_the_small_pictures_of_the_cascade_belong_to_the_large_ones():
    data, pictures, large = schematics.emoji(64), pictures_in("imagen"), large_emoji_in("imagen")
    assert sorted(large) == [3, 4] and large[3] != large[4]
    for place, small, noisy in ((3, 1, 2), (4, 5, 6)):
        exact = in_blocks(data.pictures[large[place]])
        assert (pictures[small] - exact).abs().max() <= 27  # half a step between 6 levels, and rounding
        # Level 0.3, cut off where a picture is white: so it is measured where there is colour, in one direction.
        coloured = (exact > 80) & (exact < 175)
        assert (pictures[noisy] - exact)[coloured].square().mean().sqrt() / 127.5 == pytest.approx(0.3, abs=0.1)
    assert 0.8 < correlation(pictures[7].float(), data.pictures[large[4]].float()) < 0.99


def test_variations_are_other_pictures_of_the_same_name():
    data, pictures, large = schematics.emoji(64), pictures_in("dalle-2"), large_emoji_in("dalle-2")
    given, again, first, second, third = (large[place] for place in sorted(large))
    assert given == again and len({given, first, second, third}) == 4
    [small] = [picture for picture in pictures if picture.shape[-1] == 16]
    assert (small - in_blocks(data.pictures[first])).abs().max() <= 19  # half a step between 8 levels, and rounding


def channels_of(picture: torch.Tensor) -> torch.Tensor:
    """The four squares of a drawn latent, (4, 16, 16), where black and white are two deviations."""
    (first, second), (third, fourth) = ((picture[0] / 127.5 - 1) * 2).reshape(2, 16, 2, 16).transpose(1, 2)
    return torch.stack([first, second, third, fourth])


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def test_the_latents_drawn_are_those_of_the_picture_beside_them():
    model, data = shipped_autoencoder(), schematics.emoji(64)
    for name, where in (("autoencoder", 6), ("stable-diffusion", 1)):
        picture = data.pictures[rocket_in(name, 0)][None] / 127.5 - 1
        drawn, exact = channels_of(pictures_in(name)[where]), model.encode(picture)[0].clamp(-2, 2)
        assert (drawn - exact).abs().max() <= 0.51  # half a step between 5 levels, and rounding
    assert data.is_withheld[rocket_in("autoencoder", 0)] and not data.is_withheld[rocket_in("stable-diffusion", 0)]
    assert rocket_in("autoencoder", 5) == rocket_in("autoencoder", 0)  # it comes back


def test_what_the_encoder_says_becomes_the_latent_and_the_picture():
    model, data = shipped_autoencoder(), schematics.emoji(64)
    gaussian = model.posterior(data.pictures[rocket_in("autoencoder", 0)][None] / 127.5 - 1)
    _, mean, log_variance, noise, z, back, _ = pictures_in("autoencoder")
    assert correlation(channels_of(mean), gaussian.mean[0].clamp(-2, 2)) > 0.9
    assert correlation(channels_of(log_variance), gaussian.log_variance[0]) > 0.9
    by_hand = gaussian.mean[0] + (gaussian.log_variance[0] / 2).exp() * channels_of(noise)
    assert correlation(channels_of(z), by_hand.clamp(-2, 2)) > 0.9
    decoded_again = (model.decoder(gaussian.mean).clamp(-1, 1)[0] + 1) * 127.5
    assert (back - decoded_again).abs().mean() < 16


def test_sampling_goes_from_noise_to_the_latent_of_the_picture_that_is_decoded():
    model, data = shipped_autoencoder(), schematics.emoji(64)
    z_T, between, drawn = (channels_of(picture) for picture in pictures_in("stable-diffusion")[4:7])
    last = rocket_in("stable-diffusion", 7)
    z_0 = model.encode(data.pictures[last][None] / 127.5 - 1)
    picture = (model.decode(z_0)[0] + 1) * 127.5
    assert (pictures_in("stable-diffusion")[7] - picture).abs().mean() < 8  # it is off by 15 if z_0 stays standardised
    exact = z_0[0].clamp(-2, 2)
    assert (z_T.abs() == 2).float().mean().item() == pytest.approx(0.32, abs=0.05)  # Gaussian: beyond 1 deviation
    assert abs(correlation(z_T, exact)) < 0.1 < 0.3 < correlation(between, exact) < 0.9 < correlation(drawn, exact)
    assert last != rocket_in("stable-diffusion", 0)


def test_the_autoencoder_has_the_sizes_and_the_weight_that_are_written():
    words = " ".join(words_of("autoencoder"))
    assert f"64 × 64 × 3 = {64 * 64 * 3:,} numbers" in words
    channels, height, width = shipped_autoencoder().latent_shape((3, 64, 64))
    assert f"{height} × {width} × {channels} = {height * width * channels:,} numbers" in words
    assert f"kl_weight, {signature(autoencoder_loss).parameters['kl_weight'].default}" in words


def test_a_local_prediction_is_the_closed_form_and_local():
    schedule, t = NoiseSchedule(linear_betas(20, 0.01, 0.3)), torch.tensor([7])
    alpha_bar = schedule.alpha_bars[7]
    latents = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    z_t = torch.tensor([[[[0.3]]]])
    exact = torch.tanh(alpha_bar.sqrt() * z_t / (1 - alpha_bar))
    torch.testing.assert_close(schematics.best_local_z_0_hat(latents, schedule, z_t, t), exact)
    generator = torch.Generator().manual_seed(0)
    latents, z_t = torch.randn(5, 4, 6, 6, generator=generator), torch.randn(1, 4, 6, 6, generator=generator)
    changed = z_t.clone()
    changed[..., 0, 0] += 1
    before, after = (schematics.best_local_z_0_hat(latents, schedule, z, t) for z in (z_t, changed))
    is_same = (before == after).all(dim=1)[0]
    assert is_same[2:].all() and is_same[:, 2:].all() and not is_same[:2, :2].any()


@pytest.mark.parametrize(
    "name, frozen, learning",
    [
        ("stable-diffusion", ["decoder", "encoder", "tokenizer, text encoder"], ["U-Net"] * 3),
        ("imagen", ["text encoder"], ["base U-Net", "super-resolver", "super-resolver"]),
        ("dalle-2", ["image encoder", "text encoder"] * 2, ["decoder", "prior"] * 2 + ["super-resolver"]),
    ],
)
def test_what_is_frozen_has_a_snowflake_and_what_learns_has_none(name, frozen, learning):
    marked = {True: [], False: []}
    badges = [badge for badge in parse(name).iter(f"{SVG}circle") if has_class(badge, "badge")]
    corners = {(float(badge.get("cx")), float(badge.get("cy"))) for badge in badges}
    for box in parse(name).iter(f"{SVG}rect"):
        if has_class(box, "box", "network"):
            x, y, width, height = (float(box.get(key)) for key in ("x", "y", "width", "height"))
            starts = [(words, left, top) for words, (left, top, *_) in rectangles(name).items()]
            inside = [words for words, left, top in starts if x < left < x + width and y < top < y + height]
            marked[(x + width, y) in corners].append(inside[0].partition(": ")[2])
    assert sorted(marked[True]) == sorted(frozen) and sorted(marked[False]) == sorted(learning)


def test_the_unet_has_the_sizes_that_the_network_has():
    network = UNet(in_channels=1, channels=(32, 64), patch_size=2)
    shapes = []
    parts = [network.stem, *network.down, network.middle, *network.up, network.to_pixels]
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    network(torch.randn(1, 1, 28, 28), torch.tensor([3]))
    sizes = [" × ".join(map(str, shape)) for shape in [(1, 28, 28), *shapes, (1, 28, 28)]]
    drawn = [words for words in words_of("unet") if re.fullmatch(r"\d+ × \d+ × \d+", words)]
    assert sorted(drawn) == sorted(sizes)
    assert f"{network.time_embedding(torch.tensor([3])).shape[1]} numbers" in words_of("unet")


def test_the_map_shows_every_notebook():
    words = [re.sub(r"\s+", " ", line) for line in words_of("course-map")]
    titles = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        heading = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        titles.append(heading.removeprefix("# ").replace(" ·", "").partition(":")[0])
    numbered = [line for line in words if re.match(r"\d\d ", line)]
    assert numbered == [title.removesuffix(" in miniature") for title in titles]
