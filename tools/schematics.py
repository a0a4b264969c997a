"""Draws the schematics of notebooks/pictures/: what goes into what, as SVG, all in one visual grammar.

python tools/schematics.py

Rounded boxes compute something: blue ones are networks, grey ones are formulas. Small pictures are tensors, and real:
digits of MNIST, emoji, latents of the autoencoder that comes along, a square for each channel, noise mixed in by
add_noise, and, where a U-Net would make a prediction, the best one that a formula can make. Arrows are what flows: grey
for pictures, green for text, purple for the timestep and other levels of noise, orange for learning. A snowflake marks
a network that is frozen.

GitHub shows no PNG inside an SVG, so pixels are paths. And it takes style sheets and ids out of a notebook's outputs:
the light theme is written in attributes, and nothing is drawn by reference. The dark theme is a style sheet.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from html import escape
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core import (
    EmojiDataset,
    NoiseSchedule,
    Tokenizer,
    add_noise,
    ddpm_step,
    linear_betas,
    load_checkpoint,
    load_digit_scenes,
    load_mnist,
    posterior,
    predict_eps,
    predict_x_0,
    shipped_checkpoint,
)
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.imagen import shrunk
from ddpm_core.systems.stable_diffusion import Autoencoder

FOLDER = Path(__file__).parent.parent / "notebooks" / "pictures"
WIDTH = 900
SANS = "system-ui, Segoe UI, Roboto, Helvetica Neue, Arial, PingFang SC, Hiragino Sans GB, Microsoft YaHei, "
SANS += "Noto Sans CJK SC, Noto Sans SC, WenQuanYi Micro Hei, DejaVu Sans, sans-serif"
MONO = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
# Pixels and weight of each kind of text. Nothing is smaller than 13, so that it can be read at 900 pixels.
SIZES = {"title": (21, 700), "subtitle": (15, 400), "en": (15, 700), "zh": (13, 400), "note": (13, 400)}
KINDS = ("plain", "network", "text", "time", "learn")
COLOURS = {
    "light": dict(
        card="#ffffff", frame="#d3dae3", ink="#18212b", muted="#525f6e", group="#f7f9fb", pixel="#98a3b0",
        plain=("#eef1f5", "#5b6877"), network=("#dfeefa", "#0072b2"), text=("#dcf2ea", "#00805d"),
        time=("#f6e4ef", "#a9487f"), learn=("#fdeccb", "#a86400"),
    ),
    "dark": dict(
        card="#161b22", frame="#3a4450", ink="#edf1f5", muted="#b0bac6", group="#1d242d", pixel="#6d7987",
        plain=("#2a323d", "#a4b0be"), network=("#123651", "#56b4e9"), text=("#0e3c30", "#45c9a2"),
        time=("#44253a", "#e29ac4"), learn=("#463110", "#f0b03c"),
    ),
}  # fmt: skip
FORMS = {
    style: f' font-size="{size}"' + (f' font-weight="{weight}"' if weight != 400 else "")
    for style, (size, weight) in SIZES.items()
} | {
    "code": f' font-family="{MONO}" font-size="14" font-weight="700"',
    "box": ' stroke-width="1.5"',
    "group": ' stroke-width="1.5" stroke-dasharray="2 5" stroke-linecap="round"',
    "line": ' fill="none" stroke-width="2"',
    "edge": ' fill="none"',
    "dots": ' stroke-width="5" stroke-linecap="round"',
    "pixels": ' fill="none" stroke-width="1.06"',
}


class Box(NamedTuple):
    """A rectangle on the drawing, and where arrows leave it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self):
        return self.x, self.y + self.height / 2

    @property
    def right(self):
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self):
        return self.x + self.width / 2, self.y

    @property
    def bottom(self):
        return self.x + self.width / 2, self.y + self.height


class Drawing:
    """One SVG. Coordinates are pixels at a width of 900; text is English in bold with Chinese below it.

    In English text, `names` between backticks are set as code.
    """

    def __init__(self, name: str, height: int, title: str, chinese: str, description: str):
        self.name, self.height, self.title, self.description = name, height, title, description
        self.parts: list[str] = []
        self.shape("rect", "card", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=14)
        self.text(28, 42, title, "title", "start")
        self.text(28, 65, chinese, "subtitle", "start")

    def add(self, part: str) -> None:
        self.parts.append(part)

    def shape(self, tag: str, classes: str, dashed: bool = False, **attributes: float | str) -> None:
        written = (f' {name}="{x if isinstance(x, str) else f"{x:g}"}"' for name, x in attributes.items())
        self.add(f"<{tag} {marked(classes, dashed)}{''.join(written)}/>")

    def text(self, x: float, y: float, words: str, style: str = "en", anchor: str = "middle") -> None:
        """One line, with its baseline at y."""
        spans = escape(words, quote=False).split("`")
        code = marked("code")
        spans[1::2] = [f"<tspan {code}>{span}</tspan>" for span in spans[1::2]]
        language = ' xml:lang="zh-Hans"' if re.search("[\u4e00-\u9fff]", words) else ""
        start = f'<text {marked(style)} x="{x:g}" y="{y:g}" text-anchor="{anchor}"{language}>'
        self.add(start + "".join(spans) + "</text>")

    def label(self, x: float, y: float, *words: str, anchor: str = "middle") -> None:
        """English, then Chinese below it, then perhaps a note in smaller English."""
        for line, (part, style) in enumerate(zip(words, ("en", "zh", "note"), strict=False)):
            self.text(x, y + 19 * line, part, style, anchor)

    def box(
        self, x: float, y: float, width: float, height: float, *words: str, kind: str = "plain", dashed: bool = False
    ) -> Box:
        """An operation, or with kind="network" a network. Dashed: it is still to come."""
        rx = min(12, width / 2, height / 2)
        self.shape("rect", f"box {kind}", dashed, x=x, y=y, width=width, height=height, rx=rx)
        self.label(x + width / 2, y + height / 2 + 14.5 - 9.5 * len(words), *words)
        return Box(x, y, width, height)

    def group(self, x: float, y: float, width: float, height: float) -> Box:
        """What belongs together."""
        self.shape("rect", "group", x=x, y=y, width=width, height=height, rx=14)
        return Box(x, y, width, height)

    def chip(self, x: float, y: float, words: str, kind: str = "time", width: float = 44) -> Box:
        """A value that is no picture: a timestep, a caption. x, y is its centre."""
        box = Box(x - width / 2, y - 15, width, 30)
        self.shape("rect", f"box {kind}", x=box.x, y=box.y, width=width, height=30, rx=15)
        self.text(x, y + 5, words)
        return box

    def sign(self, x: float, y: float, sign: str) -> Box:
        """A circle with +, - or ×."""
        minus, times = f"M{x - 7:g} {y:g}h14", f"M{x - 5:g} {y - 5:g}l10 10m0 -10l-10 10"
        self.shape("circle", "box plain", cx=x, cy=y, r=17)
        strokes = {"-": minus, "+": f"{minus}M{x:g} {y - 7:g}v14", "×": times}
        self.shape("path", "line plain", d=strokes[sign])
        return Box(x - 17, y - 17, 34, 34)

    def badge(self, x: float, y: float, number: str) -> None:
        """A number in a circle, such as the line of an algorithm."""
        self.shape("circle", "badge", cx=x, cy=y, r=11)
        self.text(x, y + 4.5, number, "note")

    def dots(self, x: float, y: float) -> None:
        self.shape("path", "dots", d=f"M{x - 9:g} {y:g}h0M{x:g} {y:g}h0M{x + 9:g} {y:g}h0")

    def tick(self, x: float, y: float) -> None:
        self.shape("path", "line text", d=f"M{x - 8:g} {y:g}l6 7l11 -14")

    def around(self, x: float, y: float, kind: str = "learn") -> None:
        """A circle that closes in an arrow: all of this again."""
        self.shape("path", f"line {kind}", d=f"M{x + 8:g} {y - 12:g}A14.5 14.5 0 1 0 {x + 14.5:g} {y:g}")
        self.shape("path", f"head {kind}", d=f"M{x + 14.5:g} {y - 8:g}l5.5 10h-11z")

    def arrow(self, *points: tuple[float, float], kind: str = "plain", head: bool = True, dashed: bool = False) -> None:
        """From the first point to the last, along straight lines with rounded corners."""
        (x, y), tip = points[0], points[-1]
        path = f"M{x:g} {y:g}"
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            (ax, ay), (bx, by) = towards(corner, before, 10), towards(corner, after, 10)
            path += f"L{ax:g} {ay:g}Q{corner[0]:g} {corner[1]:g} {bx:g} {by:g}"
        end = towards(tip, points[-2], 7 if head else 0)
        self.shape("path", f"line {kind}", dashed, d=f"{path}L{end[0]:g} {end[1]:g}")
        if head:
            (x, y), (bx, by) = tip, towards(tip, points[-2], 11)
            dx, dy = (by - y) / 11 * 5, (x - bx) / 11 * 5  # across the arrow
            corners = f"M{x:g} {y:g}L{bx + dx:.5g} {by + dy:.5g}L{bx - dx:.5g} {by - dy:.5g}z"
            self.shape("path", f"head {kind}", d=corners)

    def branch(self, x: float, y: float, kind: str = "plain") -> None:
        """A dot where a line divides: both parts carry the same."""
        self.shape("circle", f"head {kind}", cx=x, cy=y, r=4)

    def picture(self, x: float, y: float, side: float, picture: Tensor, *words: str, **limits) -> Box:
        """A real picture, (C, H, W) in [-1, 1], with words below it. For limits see pixels."""
        place = f"translate({x:g} {y:g}) scale({side / picture.shape[-1]:g})"
        self.add(f'<g {marked("pixels")} transform="{place}">{pixels(picture, **limits)}</g>')
        self.shape("rect", "edge", x=x, y=y, width=side, height=side, rx=2)
        self.label(x + side / 2, y + side + 20, *words)
        return Box(x, y, side, side)

    def latent(self, x: float, y: float, side: float, z: Tensor, *words: str) -> Box:
        """A real latent, (4, h, w) of about mean 0 and deviation 1: its channels as four squares, with words below."""
        squares = torch.cat([torch.cat([z[0], z[1]], dim=1), torch.cat([z[2], z[3]], dim=1)])[None]
        # Two deviations are black or white. One of the levels is 0, so that plain parts of a picture stay plain.
        box = self.picture(x, y, side, squares / 2, *words, most_bytes=2750, levels=(5, 3))
        cross = f"M{x + side / 2:g} {y:g}v{side:g}M{x:g} {y + side / 2:g}h{side:g}"
        self.shape("path", "edge", d=cross, **{"stroke-width": 3})
        return box

    def frozen(self, x: float, y: float) -> None:
        """A snowflake: the weights of this network stay as they are. x, y is its centre."""
        self.shape("circle", "badge", cx=x, cy=y, r=12)
        arms = [f"M{x:g} {y:g}m{dx:g} {dy:g}l{-2 * dx:g} {-2 * dy:g}" for dx, dy in ((0, 8), (7, 4), (7, -4))]
        self.shape("path", "line network", d="".join(arms))

    def svg(self) -> str:
        root = f"schematic-{self.name}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" id="{root}" role="img" width="{WIDTH}" '
                f'height="{self.height}" viewBox="0 0 {WIDTH} {self.height}" font-family="{SANS}" '
                f'aria-labelledby="{root}-title {root}-desc" style="max-width:100%;height:auto">',
                f'<title id="{root}-title">{escape(self.title, quote=False)}</title>',
                f'<desc id="{root}-desc">{escape(self.description, quote=False)}</desc>',
                f"<style>{style_sheet(f'#{root}')}</style>",
                *self.parts,
                "</svg>\n",
            ]
        )


def towards(point: tuple[float, float], other: tuple[float, float], distance: float) -> tuple[float, float]:
    """Where one is after so many pixels on the way from point to other."""
    (x, y), (to_x, to_y) = point, other
    share = distance / ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
    return round(x + share * (to_x - x), 2), round(y + share * (to_y - y), 2)


def looks(colours: dict) -> dict[str, dict[str, str]]:
    """The colours of everything that may be drawn, by its classes."""
    found = {
        "card": dict(fill=colours["card"], stroke=colours["frame"]),
        "group": dict(fill=colours["group"], stroke=colours["pixel"]),
        "badge": dict(fill=colours["card"], stroke=colours["pixel"]),
        "edge": dict(stroke=colours["pixel"]),
        "dots": dict(stroke=colours["muted"]),
    }
    found |= {style: dict(fill=colours["ink" if style in ("title", "en") else "muted"]) for style in SIZES}
    for kind in KINDS:
        fill, stroke = colours[kind]
        found |= {f"box {kind}": dict(fill=fill, stroke=stroke), f"line {kind}": dict(stroke=stroke)}
        found |= {f"head {kind}": dict(fill=stroke)}
    return found


@cache
def marked(classes: str, dashed: bool = False) -> str:
    """The attributes of an element: its classes, for the dark theme, and how it looks in the light one."""
    light = looks(COLOURS["light"]).get(classes, {})
    form = FORMS.get(classes.split()[0], "") + (' stroke-dasharray="6 5"' if dashed else "")
    colours = "".join(f' {name}="{value}"' for name, value in light.items())
    return f'class="{classes}{" dashed" if dashed else ""}"{colours}{form}'


def style_sheet(root: str) -> str:
    """The dark theme of one drawing alone, as several may stand on one page. The card has a colour of its own, so that
    text can be read on any page."""
    rules = []
    for classes, colours in looks(COLOURS["dark"]).items():
        selector = ".".join(["", *classes.split()])
        rules.append(f"{root} {selector}{{" + ";".join(f"{name}:{value}" for name, value in colours.items()) + "}")
    return f"@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


def pixels(picture: Tensor, most_bytes: int = 3800, levels: tuple[int, ...] = (16, 8, 6, 5, 4)) -> str:
    """(C, H, W) in [-1, 1] as SVG, one unit per pixel, each channel rounded to as many levels as most_bytes allow.

    At the least to the last number of levels, which is not seen in noise, the only kind of picture that needs it.
    """
    drawn = (paths_of_pixels(picture, count) for count in levels)
    return next((paths for paths in drawn if len(paths) <= most_bytes), paths_of_pixels(picture, levels[-1]))


def paths_of_pixels(picture: Tensor, levels: int) -> str:
    """For each colour one path, with a dash for each run of pixels; the commonest colour is the ground."""
    values = ((picture.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() * (255 / (levels - 1))
    _, H, W = values.shape
    channels = values.round().int().expand(3, H, W).permute(1, 2, 0).tolist()
    rows = [["#" + "".join(f"{channel:02x}" for channel in pixel) for pixel in row] for row in channels]
    counts = Counter(colour for row in rows for colour in row)
    ground = max(sorted(counts), key=counts.get)
    paths: dict[str, str] = {}
    pens: dict[str, tuple[int, int]] = {}  # where each path has arrived
    for y, row in enumerate(rows):
        x = 0
        for colour, run in groupby(row):
            length = len(list(run))
            if colour != ground:
                pen_x, pen_y = pens.get(colour, (0, 0))
                move = f"m{x - pen_x} {y - pen_y}" if colour in paths else f"M{x} {y}.5"
                paths[colour] = paths.get(colour, "") + f"{move}h{length}"
                pens[colour] = x + length, y
            x += length
    drawn = "".join(f'<path stroke="{colour}" d="{paths[colour]}"/>' for colour in sorted(paths))
    return f'<path fill="{ground}" d="M0 0h{W}v{H}h-{W}z"/>{drawn}'


# What the pictures show. All in float64, so that the last bit of a machine's arithmetic moves no pixel.


class Example(NamedTuple):
    """A clean picture with noise in it, and what the best predictor makes of the two together; each (C, 28, 28)."""

    x_0: Tensor
    eps: Tensor
    x_t: Tensor
    eps_hat: Tensor


def best_x_0_hat(pictures: Tensor, schedule: NoiseSchedule, x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t], (B, C, H, W), in a world that holds only pictures, (N, C, H, W): what a network learns to say."""
    alpha_bar, beta_bar = schedule.alpha_bars[t][:, None], schedule.beta_bars[t][:, None]
    x, known = x_t.flatten(1), pictures.flatten(1)
    distances = alpha_bar * known.square().sum(dim=1) - 2 * alpha_bar.sqrt() * (x @ known.T)  # up to x's own square
    return ((-distances / (2 * beta_bar)).softmax(dim=1) @ known).reshape(x_t.shape)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """2,000 digits to know, and one that is not among them, (1, 1, 28, 28)."""
    held_out, labels = load_mnist("held_out")
    return load_mnist("train")[0][:2000].double(), held_out[labels == 2][14:15].double()


@cache
def grey_example() -> Example:
    """A handwritten two, at a step where alpha_bar is a little below one half."""
    pictures, x_0 = digits()
    schedule = NoiseSchedule(linear_betas(200, 5e-4, 0.1).double())
    return noisy_example(pictures, schedule, x_0, step=55, seed=0)


def noisy_example(pictures: Tensor, schedule: NoiseSchedule, x_0: Tensor, step: int, seed: int) -> Example:
    t = torch.tensor([step])
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x_t = add_noise(schedule, x_0, t, eps)
    eps_hat = predict_eps(schedule, x_t, t, best_x_0_hat(pictures, schedule, x_t, t))
    return Example(x_0[0], eps[0], x_t[0], eps_hat[0])


@cache
def reverse_chain(num_steps: int = 24, shown: int = 17, seed: int = 5) -> dict[str, Tensor]:
    """Noise turned into a digit in few steps: x_T, x_0, and one step with all that is in it (after `shown` steps)."""
    pictures, _ = digits()
    schedule = NoiseSchedule(linear_betas(num_steps, 0.004, 0.5).double())
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(1, 1, 28, 28, generator=generator, dtype=torch.float64)
    found = {"x_T": x_t[0]}
    for number in reversed(range(num_steps)):
        t = torch.tensor([number])
        x_0_hat = best_x_0_hat(pictures, schedule, x_t, t)
        x_before = ddpm_step(schedule, x_0_hat, x_t, t, generator)
        if number == num_steps - shown:
            mean, variance = posterior(schedule, x_0_hat, x_t, t)
            z = (x_before - mean) / variance.sqrt()
            eps_hat = predict_eps(schedule, x_t, t, x_0_hat)
            found |= {"x_t": x_t[0], "eps_hat": eps_hat[0], "z": z[0], "x_{t-1}": x_before[0]}
        x_t = x_before
    return found | {"x_0": x_t[0]}


@cache
def captioned() -> dict:
    """A coloured digit with its caption and tokens, noise in it, and predictions with and without the caption."""
    data = load_digit_scenes(num_digits=1, count=4000, seed=0)
    chosen = data.captions.index("a blue three")
    tokens = Tokenizer.from_captions(data.captions)([data.captions[chosen]])[0].tolist()
    schedule = NoiseSchedule(linear_betas(200, 5e-4, 0.1).double())
    pictures = data.pictures.double()
    others = torch.arange(len(pictures)) != chosen
    alike = torch.tensor([scene == data.scenes[chosen] for scene in data.scenes])
    with_caption, without = pictures[others & alike], pictures[others]
    x_0 = pictures[chosen : chosen + 1]
    example = noisy_example(with_caption, schedule, x_0, step=45, seed=1)
    t = torch.tensor([140])
    x_t = add_noise(schedule, x_0, t, example.eps[None])
    eps_cond, eps_uncond = (
        predict_eps(schedule, x_t, t, best_x_0_hat(known, schedule, x_t, t)) for known in (with_caption, without)
    )
    guided = {
        scale: predict_x_0(schedule, x_t, t, eps_uncond + scale * (eps_cond - eps_uncond))[0] for scale in (0, 1, 2, 3)
    }
    return dict(example=example, caption=data.captions[chosen], tokens=tokens, heavy=x_t[0], guided=guided)


@cache
def emoji(size: int = 32) -> EmojiDataset:
    """All emoji, large enough to be recognised; at 64x64 as they are, the size that the autoencoder takes."""
    return EmojiDataset(size=size, split="all")


def emoji_picture(style: str, name: str) -> Tensor:
    """(3, 32, 32) in [-1, 1]."""
    return from_bytes(emoji().pictures[emoji().row(style, name)]).double()


@cache
def autoencoder_that_comes_along() -> Autoencoder:
    return load_checkpoint(shipped_checkpoint("autoencoder")).model.double().requires_grad_(False)


@cache
def encoded_and_back() -> dict[str, Tensor]:
    """A picture of a withheld pair, and all that the autoencoder makes of it."""
    autoencoder, data = autoencoder_that_comes_along(), emoji(64)
    picture = from_bytes(data.pictures[data.row("emojione", "rocket")])[None].double()
    gaussian = autoencoder.posterior(picture)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(gaussian.mean.shape, generator=generator, dtype=torch.float64)
    z = gaussian.mean + (gaussian.log_variance / 2).exp() * noise
    back = autoencoder.decoder(z)
    found = dict(picture=picture, noise=noise, z=z, back=back, z_0=autoencoder.encode(picture))
    return {name: x[0] for name, x in (found | gaussian._asdict()).items()}


def best_local_z_0_hat(latents: Tensor, schedule: NoiseSchedule, z_t: Tensor, t: Tensor) -> Tensor:
    """Like best_x_0_hat, but each place of z_t (1, c, h, w) is guessed from the 3 x 3 around it, as by convolutions."""
    c, h, w = z_t.shape[1:]
    around, known = (F.unfold(z, 3, padding=1).mT.reshape(-1, 9 * c, 1, 1) for z in (z_t, latents))
    middles = best_x_0_hat(known, schedule, around, t.expand(h * w))[:, 4::9, 0, 0]
    return middles.T.reshape(1, c, h, w)


@cache
def latents_of_rockets() -> dict[str, Tensor]:
    """A training pair in latents, with a guess from the other rockets; and sampling, where all of them are known."""
    autoencoder, data = autoencoder_that_comes_along(), emoji(64)
    rows = [data.row(style, "rocket") for style in ("flat", "twemoji", "noto", "blob")]
    pictures = from_bytes(data.pictures[rows]).double()
    latents = autoencoder.encode(pictures)
    schedule = NoiseSchedule(linear_betas(40, 0.003, 0.35).double())
    generator = torch.Generator().manual_seed(8)
    z_0, t = latents[:1], torch.tensor([10])
    z_t = add_noise(schedule, z_0, t, torch.randn(z_0.shape, generator=generator, dtype=torch.float64))
    found = dict(picture=pictures, z_0=z_0, z_t=z_t, z_0_hat=best_local_z_0_hat(latents[1:], schedule, z_t, t))
    z = found["z_T"] = torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
    for number in reversed(range(len(schedule))):
        t = torch.tensor([number])
        z = ddpm_step(schedule, best_x_0_hat(latents, schedule, z, t), z, t, generator)
        if number == 9:
            found["between"] = z
    found |= dict(drawn=z, drawn_picture=autoencoder.decode(z))
    return {name: x[0] for name, x in found.items()}


def known_pictures(name: str, styles: tuple[str, ...]) -> Tensor:
    """Pictures of one name in several styles, (N, 3, 64, 64) in [-1, 1]."""
    data = emoji(64)
    return from_bytes(data.pictures[[data.row(style, name) for style in styles]]).double()


def reverse(known: Tensor, x_T: Tensor, generator: torch.Generator) -> Tensor:
    """From noise to one of the known pictures, with the best predictor of a world that holds no others."""
    schedule, x_t = NoiseSchedule(linear_betas(40, 0.003, 0.35).double()), x_T
    for number in reversed(range(len(schedule))):
        t = torch.full((len(x_t),), number)
        x_t = ddpm_step(schedule, best_x_0_hat(known, schedule, x_t, t), x_t, t, generator)
    return x_t


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def drawn_small_then_large(known: Tensor, x_T: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """16 x 16 pixels drawn out of noise, in a world of known pictures at 64 x 64, and the large ones that they become:
    each time the only one that looks so when it is small."""
    small = shrunk(known, 16)
    low = reverse(small, x_T, generator)
    return low, known[torch.cdist(low.flatten(1), small.flatten(1)).argmin(dim=1)]


@cache
def cascade(name: str = "sailboat", level: float = 0.3) -> dict[str, Tensor]:
    """A small picture drawn out of noise and the large one that it becomes; and a training pair of a super-resolver."""
    known, generator = known_pictures(name, ("flat", "blob", "twemoji")), torch.Generator().manual_seed(0)

    def noisy(low: Tensor) -> Tensor:
        return (1 - level**2) ** 0.5 * low + level * normal(*low.shape, generator=generator)  # augmented, in float64

    x_T = normal(1, 3, 16, 16, generator=generator)
    low, large = drawn_small_then_large(known, x_T, generator)
    found = dict(x_T=x_T, low=low, low_noisy=noisy(low), large=large)
    x_0, alpha_bar = known[:1], 0.98
    x_t = alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * normal(*x_0.shape, generator=generator)
    found |= dict(x_0=x_0, x_0_low=shrunk(x_0, 16), x_0_low_noisy=noisy(shrunk(x_0, 16)), x_t=x_t)
    return {key: x[0] for key, x in found.items()}


@cache
def variations(name: str = "whale") -> tuple[Tensor, Tensor, Tensor]:
    """A picture, and three that are drawn instead of it, small and large, in a world that holds only others."""
    picture, *others = known_pictures(name, ("flat", "twemoji", "blob", "noto"))
    generator = torch.Generator().manual_seed(3)
    x_T = normal(3, 3, 16, 16, generator=generator)
    return picture, *drawn_small_then_large(torch.stack(others), x_T, generator)


DRAWINGS: dict[str, Callable[[], Drawing]] = {}


def drawing(name: str, height: int, title: str, chinese: str) -> Callable:
    """Registers a function that fills a Drawing; its docstring is what a screen reader says."""

    def register(fill: Callable[[Drawing], None]) -> Callable:
        description = " ".join(fill.__doc__.split())

        def draw() -> Drawing:
            canvas = Drawing(name, height, title, chinese, description)
            fill(canvas)
            return canvas

        DRAWINGS[name] = draw
        return draw

    return register


@drawing("denoiser", 560, "One denoiser, used over and over", "同一个去噪器，反复使用")
def denoiser(d: Drawing) -> None:
    """The reverse process from pure noise x_T to a picture x_0: the same denoiser is used again and again, numbered
    from T down to 1. One of its steps from inside: the noise predictor gets x_t and the timestep t and returns
    eps_hat. It is scaled and subtracted from x_t; fresh noise z is added, except at the last step; the result is
    x_{t-1}."""
    chain = reverse_chain()
    start = d.picture(28, 88, 84, chain["x_T"], "`x_T`", "纯噪声")
    here = d.picture(302, 88, 84, chain["x_t"], "`x_t`", "含噪的图片")
    next_one = d.picture(514, 88, 84, chain["x_{t-1}"], "`x_{t-1}`", "噪声少了一点")
    end = d.picture(788, 88, 84, chain["x_0"], "`x_0`", "图片")
    steps = [d.box(x, 106, 52, 48, f"`{step}`", kind="network") for x, step in ((150, "T"), (424, "t"), (698, "1"))]
    dots = [Box(x, 118, 24, 24) for x in (240, 636)]
    for before, after in pairwise([start, steps[0], dots[0], here, steps[1], next_one, dots[1], steps[2], end]):
        d.arrow((before.right[0] + 4, 130), (after.left[0] - 4, 130))
    for box in dots:
        d.dots(box.x + 12, 130)

    inside = d.group(28, 238, 844, 300)
    d.arrow(steps[1].bottom, inside.top, head=False, dashed=True)
    d.label(48, 266, "One step, from inside", "一步的内部", anchor="start")
    x_t = d.picture(52, 340, 84, chain["x_t"], "`x_t`", "含噪的图片")
    predictor = d.box(172, 346, 160, 72, "noise predictor", "噪声预测器", kind="network")
    t = d.chip(252, 452, "`t`")
    d.label(284, 450, "timestep", "时间步", anchor="start")
    eps_hat = d.picture(412, 340, 84, chain["eps_hat"], "`eps_hat`", "预测的噪声")
    minus, plus = d.sign(588, 382, "-"), d.sign(688, 382, "+")
    d.label(588, 424, "subtract, scaled", "按比例减去")
    z = d.picture(660, 258, 56, chain["z"])
    d.label(730, 274, "fresh noise `z`", "新加的噪声，末步不加", "not at the last step", anchor="start")
    x_before = d.picture(768, 340, 84, chain["x_{t-1}"], "`x_{t-1}`", "噪声少了一点")
    d.arrow(x_t.right, predictor.left)
    d.arrow(x_t.top, (94, 316), (588, 316), minus.top)
    d.arrow(t.top, predictor.bottom, kind="time")
    d.arrow(predictor.right, eps_hat.left)
    d.arrow(eps_hat.right, minus.left)
    d.arrow(minus.right, plus.left)
    d.arrow(z.bottom, plus.top)
    d.arrow(plus.right, x_before.left)
    d.text(450, 514, "`x_{t-1} = (x_t − β_t / √(1 − ᾱ_t) · eps_hat) / √α_t + σ_t z`")


@drawing("training-pair", 506, "A training pair, made by hand", "手工制造一对训练数据")
def training_pair(d: Drawing) -> None:
    """From a clean picture x_0, a random timestep t and random noise eps, add_noise makes the noisy picture
    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps. The input of the noise predictor is (x_t, t), its target is
    eps, which is known because we put it there."""
    example = grey_example()
    x_0 = d.picture(48, 128, 112, example.x_0, "`x_0` clean picture", "干净的图片，来自数据集")
    eps = d.picture(48, 328, 112, example.eps, "`eps` noise", "噪声，从高斯分布采样")
    t = d.chip(390, 94, "`t`")
    d.label(356, 92, "timestep, at random", "随机抽取的时间步", anchor="end")
    mix = d.box(262, 140, 256, 88, "`add_noise`", "加噪", "`√ᾱ_t x_0 + √(1 − ᾱ_t) eps`")
    d.group(612, 60, 260, 202)
    t_again = d.chip(692, 94, "`t`")
    x_t = d.picture(636, 128, 112, example.x_t)
    d.label(768, 170, "input", "输入", "`(x_t, t)`", anchor="start")
    d.group(612, 308, 260, 152)
    target = d.picture(636, 328, 112, example.eps)
    d.label(768, 366, "target", "标准答案", "`eps`", anchor="start")
    d.arrow(x_0.right, mix.left)
    d.arrow(t.bottom, mix.top, kind="time")
    d.arrow(t.right, t_again.left, kind="time")
    d.arrow(mix.right, x_t.left)
    d.arrow(eps.right, target.left)
    d.branch(390, 384)
    d.arrow((390, 384), mix.bottom)


@drawing("training-step", 560, "One training step, and around again", "训练的一步，周而复始")
def training_step(d: Drawing) -> None:
    """Algorithm 1 of DDPM as a loop. Draw a clean picture x_0 from the data (line 2), a random timestep t (line 3)
    and noise eps (line 4); add_noise makes x_t. The U-Net gets x_t and t and returns eps_hat. The squared error between
    eps and eps_hat gives a gradient, the optimizer corrects the weights of the U-Net (line 5), and all begins again."""
    example = grey_example()
    x_0 = d.picture(48, 140, 84, example.x_0, "`x_0` picture", "数据集里的图片")
    eps = d.picture(48, 412, 84, example.eps, "`eps` noise", "采样得到的噪声")
    t = d.chip(252, 102, "`t`")
    d.label(206, 99, "timestep", "随机时间步", anchor="end")
    mix = d.box(192, 152, 120, 60, "`add_noise`", "加噪")
    x_t = d.picture(364, 140, 84, example.x_t, "`x_t`", "含噪的图片")
    unet = d.box(504, 140, 140, 84, "U-Net", "噪声预测器", kind="network")
    eps_hat = d.picture(708, 140, 84, example.eps_hat)
    d.label(804, 178, "`eps_hat`", "预测的噪声", anchor="start")
    loss = d.box(652, 412, 196, 84, "squared error", "平方误差", "`‖eps − eps_hat‖²`", kind="learn")
    step = d.box(494, 296, 160, 60, "optimizer step", "更新权重", kind="learn")
    d.arrow(x_0.right, mix.left)
    d.arrow(t.bottom, mix.top, kind="time")
    d.arrow(eps.right, loss.left)
    d.arrow((252, 454), mix.bottom)
    d.branch(252, 454)
    d.arrow(mix.right, x_t.left)
    d.arrow(x_t.right, unet.left)
    d.arrow(t.right, (574, 102), unet.top, kind="time")
    d.arrow(unet.right, eps_hat.left)
    d.arrow((776, 224), (776, 412))
    d.arrow((716, 412), (716, 326), step.right, kind="learn")
    d.arrow(step.top, unet.bottom, kind="learn")
    d.label(702, 386, "gradient", "梯度", anchor="end")
    d.around(292, 326)
    d.label(318, 322, "and around again", "再来一轮", anchor="start")
    for number, (x, y) in {"2": (48, 140), "3": (230, 90), "4": (48, 412), "5": (494, 296)}.items():
        d.badge(x, y, number)
    d.text(872, 42, "Numbers: lines of Algorithm 1 (DDPM)", "note", "end")
    d.text(872, 65, "圆圈里的数字：DDPM 算法 1 的行号", "zh", "end")


@drawing("unet", 650, "The U-Net that predicts the noise", "预测噪声的 U-Net")
def unet(d: Drawing) -> None:
    """The U-Net of notebook 03. The picture x_t, 1 x 28 x 28, is cut into patches of 2 x 2 pixels and goes down by
    levels, 32 x 14 x 14 and 64 x 7 x 7, through the middle with self-attention, and up again; skip connections lay what
    was there on the way down beside what comes up. The timestep t becomes a time embedding of 128 numbers that
    reaches every residual block. eps_hat comes out, as large as x_t."""
    example = grey_example()
    x_t = d.picture(258, 84, 84, example.x_t)
    d.label(358, 108, "`x_t`", "含噪的图片", "1 × 28 × 28", anchor="start")
    eps_hat = d.picture(558, 84, 84, example.eps_hat)
    d.label(542, 108, "`eps_hat`", "预测的噪声", "1 × 28 × 28", anchor="end")
    stem = d.box(205, 194, 190, 72, "patches, convolution", "2 × 2 像素分块，卷积", "32 × 14 × 14", kind="network")
    head = d.box(505, 194, 190, 72, "convolution, pixels", "卷积，还原成像素", "1 × 28 × 28", kind="network")
    block = ("residual block", "残差块")
    down_0, up_0 = (d.box(x, 296, 190, 72, *block, "32 × 14 × 14", kind="network") for x in (205, 505))
    down_1, up_1 = (d.box(x, 422, 190, 72, *block, "64 × 7 × 7", kind="network") for x in (205, 505))
    middle = d.box(340, 528, 220, 72, "residual, self-attention", "残差块，自注意力", "64 × 7 × 7", kind="network")
    for before, after in [(x_t, stem), (stem, down_0), (down_0, down_1)]:
        d.arrow(before.bottom, after.top)
    for before, after in [(up_1, up_0), (up_0, head), (head, eps_hat)]:
        d.arrow(before.top, after.bottom)
    d.arrow(down_1.bottom, (300, 564), middle.left)
    d.arrow(middle.right, (600, 564), up_1.bottom)
    for left, right in [(down_0, up_0), (down_1, up_1)]:
        d.arrow(left.right, right.left, dashed=True)
        d.text(450, left.right[1] - 10, "skip")
        d.text(450, left.right[1] + 22, "跳跃连接", "zh")
    d.label(286, 391, "halve", "减半", anchor="end")
    d.label(614, 391, "double", "加倍", anchor="start")

    t = d.chip(103, 126, "`t`")
    embedding = d.box(28, 194, 150, 72, "time embedding", "时间嵌入", "128 numbers", kind="time")
    d.arrow(t.bottom, embedding.top, kind="time")
    d.arrow(embedding.bottom, (103, 626), (797, 626), (797, 332), up_0.right, kind="time")
    branches = [((103, 332), down_0.left), ((103, 458), down_1.left), ((450, 626), middle.bottom)]
    for start, end in [*branches, ((797, 458), up_1.right)]:
        d.branch(*start, kind="time")
        d.arrow(start, end, kind="time")
    d.label(797, 288, "into every block", "送入每个残差块")


@drawing("text-denoiser", 506, "A denoiser that reads", "会读文字的去噪器")
def text_denoiser(d: Drawing) -> None:
    """A caption becomes tokens, the text encoder turns them into one vector per token. In the U-Net each place of the
    picture makes a query; the token vectors give keys and values for cross-attention. Their mean, the gist, is added to
    the time embedding. Inputs are x_t, t and the caption; the output is eps_hat."""
    made = captioned()
    example = made["example"]
    caption = d.chip(100, 142, f'"{made["caption"]}"', kind="text", width=144)
    d.label(100, 96, "caption", "文字描述")
    row = d.box(228, 124, 8 * 26, 36, kind="text")
    for place, token in enumerate(made["tokens"]):
        d.text(241 + 26 * place, 147, f"{token}", "note")
        if place:
            d.shape("path", "line text", d=f"M{228 + 26 * place} 124v36")
    d.label(332, 94, "tokens", "词元")
    encoder = d.box(490, 110, 150, 64, "text encoder", "文本编码器", kind="network")
    vectors = d.group(700, 104, 172, 76)
    for place in range(sum(token != 0 for token in made["tokens"])):
        d.box(714, 113.5 + 15 * place, 144, 9, kind="text")
    d.label(786, 72, "token vectors", "词元向量")
    d.arrow(caption.right, row.left, kind="text")
    d.arrow(row.right, encoder.left, kind="text")
    d.arrow(encoder.right, vectors.left, kind="text")
    d.group(206, 262, 488, 204)
    d.text(222, 453, "U-Net, one of its levels", anchor="start")
    d.text(678, 453, "U-Net 的其中一级", "zh", "end")
    x_t = d.picture(48, 358, 84, example.x_t, "`x_t`", "含噪的图片")
    t = d.chip(90, 305, "`t`")
    embedding = d.box(240, 276, 150, 58, "time embedding", "时间嵌入", kind="time")
    residual = d.box(240, 370, 150, 60, "residual block", "残差块", kind="network")
    cross = d.box(494, 370, 170, 60, "cross-attention", "交叉注意力", kind="network")
    eps_hat = d.picture(768, 358, 84, example.eps_hat, "`eps_hat`", "预测的噪声")
    d.arrow(t.right, embedding.left, kind="time")
    d.arrow(embedding.bottom, residual.top, kind="time")
    d.arrow(x_t.right, residual.left)
    d.arrow(residual.right, cross.left)
    d.label(440, 388, "queries")
    d.text(440, 420, "查询", "zh")
    d.arrow(cross.right, eps_hat.left)
    d.arrow((750, 180), (750, 204), (315, 204), embedding.top, kind="text")
    d.arrow((822, 180), (822, 234), (579, 234), cross.top, kind="text")
    d.label(330, 225, "their mean, the gist", "它们的均值，即大意", anchor="start")
    d.label(567, 300, "keys, values", "键、值", anchor="end")


@drawing("training-with-text", 520, "Training with text", "带文字的训练")
def training_with_text(d: Drawing) -> None:
    """A training example is a pair: a picture x_0 and its caption. Noise is added to the picture as before. The caption
    becomes the condition cond; one caption in ten is replaced by null_cond, the empty one. The noise predictor gets
    x_t, t and the condition and returns eps_hat. The gradient of its squared error corrects U-Net and text encoder."""
    made = captioned()
    example = made["example"]
    d.group(28, 196, 152, 300)
    d.label(104, 220, "one pair", "一对数据")
    x_0 = d.picture(62, 252, 84, example.x_0, "`x_0` picture", "图片")
    caption = d.chip(104, 424, f'"{made["caption"]}"', kind="text", width=136)
    d.label(104, 462, "caption", "文字描述")
    eps = d.picture(204, 88, 84, example.eps)
    d.label(192, 124, "`eps` noise", "噪声", anchor="end")
    mix = d.box(222, 264, 120, 60, "`add_noise`", "加噪")
    x_t = d.picture(382, 252, 84, example.x_t, "`x_t`", "含噪的图片")
    t = d.chip(424, 202, "`t`")
    predictor = d.box(512, 246, 168, 96, "noise predictor", "噪声预测器", "U-Net, text encoder", kind="network")
    eps_hat = d.picture(736, 252, 84, example.eps_hat, "`eps_hat`", "预测的噪声")
    loss = d.box(680, 88, 192, 84, "squared error", "平方误差", "`‖eps − eps_hat‖²`", kind="learn")
    drop = d.box(222, 394, 166, 60, "`drop_condition`", "随机丢弃文字描述")
    either = d.group(486, 376, 220, 96)
    cond = d.chip(596, 402, f'`cond` "{made["caption"]}"', kind="text", width=196)
    null_cond = d.chip(596, 446, '`null_cond` ""', kind="text", width=196)
    for y, share, chinese in [(407, "9 in 10", "十分之九"), (451, "1 in 10", "十分之一")]:
        d.text(724, y, share, anchor="start")
        d.text(798, y, chinese, "zh", "start")
    d.arrow(x_0.right, mix.left)
    d.arrow((246, 172), (246, 264))
    d.arrow(eps.right, loss.left)
    d.arrow(t.left, (312, 202), (312, 264), kind="time")
    d.arrow(t.right, (566, 202), (566, 246), kind="time")
    d.arrow(mix.right, x_t.left)
    d.arrow(x_t.right, predictor.left)
    d.arrow(predictor.right, eps_hat.left)
    d.arrow(eps_hat.top, (778, 172))
    d.arrow((714, 172), (714, 218), (630, 218), (630, 246), kind="learn")
    d.label(704, 190, "gradient", "梯度", anchor="end")
    d.arrow(caption.right, drop.left, kind="text")
    d.arrow((388, 414), (424, 414), (440, 402), cond.left, kind="text")
    d.arrow((388, 434), (424, 434), (440, 446), null_cond.left, kind="text")
    d.arrow(either.top, predictor.bottom, kind="text")


@drawing("guidance", 650, "Classifier-free guidance", "无分类器引导")
def guidance(d: Drawing) -> None:
    """The same network answers twice for the same x_t and t: with the caption, cond, and without, null_cond. The two
    predictions, drawn as vectors, differ by what the caption changes. Guidance goes on in that direction:
    eps_hat = eps_uncond + guidance_scale (eps_cond - eps_uncond), drawn with a scale of 3. Below is the x_0_hat that
    follows at each scale: at 0 a blur of many digits and colours, at 1 a blue three, at 2 and 3 a stronger one."""
    made = captioned()
    d.label(106, 94, "`cond`", "条件：文字描述")
    cond = d.chip(106, 138, f'"{made["caption"]}"', kind="text", width=140)
    with_caption = d.box(236, 116, 160, 76, "noise predictor", "噪声预测器", kind="network")
    x_t = d.picture(64, 208, 84, made["heavy"], "`x_t` and `t`", "含噪的图片和时间步")
    null_cond = d.chip(106, 388, '""', kind="text", width=140)
    d.label(106, 424, "`null_cond`", "空条件")
    without = d.box(236, 334, 160, 76, "noise predictor", "噪声预测器", kind="network")
    d.arrow(cond.right, (236, 138), kind="text")
    d.arrow(null_cond.right, (236, 388), kind="text")
    d.arrow(x_t.right, (194, 250), (194, 170), (236, 170))
    d.arrow((194, 250), (194, 356), (236, 356))
    d.branch(194, 250)
    d.label(316, 258, "one network, two answers", "同一个网络，两个回答")

    plane = d.group(452, 92, 420, 344)
    d.arrow(with_caption.right, (plane.x, 154))
    d.arrow(without.right, (plane.x, 372))
    origin, tips = (570, 406), [(590 + 76 * scale, 196 + 14 * scale) for scale in range(4)]
    d.arrow(origin, tips[0])
    d.arrow(origin, tips[1], kind="network")
    d.arrow(tips[0], tips[1], kind="text")
    d.arrow(tips[1], tips[2], kind="text", dashed=True)
    d.arrow(tips[2], tips[3], kind="text", dashed=True)
    d.arrow(origin, tips[3], kind="learn")
    for scale, (x, y) in enumerate(tips):
        d.text(x + 4, y - 12, f"{scale}")
    d.label(704, 128, "`guidance_scale`", "引导强度")
    d.label(562, 286, "`eps_uncond`", "不看文字描述", anchor="end")
    d.label(652, 262, "`eps_cond`", "看文字描述", anchor="start")
    d.label(724, 336, "`eps_hat`", "引导之后", anchor="start")
    d.text(450, 478, "`eps_hat = eps_uncond + guidance_scale · (eps_cond − eps_uncond)`")
    d.label(48, 542, "`x_0_hat` at each scale", "每种强度下预测的图片", anchor="start")
    meanings = ["忽略文字描述", "按学到的", "加强", "再加强"]
    for (scale, x_0_hat), meaning in zip(made["guided"].items(), meanings, strict=True):
        d.picture(300 + 146 * scale, 504, 84, x_0_hat, f"scale {scale}", meaning)


@drawing("clip", 640, "CLIP: which picture, which caption?", "CLIP：哪张图片，配哪句文字？")
def clip(d: Drawing) -> None:
    """How CLIP learns, on a batch of B pairs of a picture and a caption. The image encoder turns each picture into a
    vector of length 1, tokenizer and text encoder do so with each caption. A matrix, B x B, holds the cosine of every
    picture with every caption, divided by a learnt temperature; the right answers lie on its diagonal. A softmax along
    each row asks which caption belongs to a picture, a softmax down each column which picture belongs to a caption. The
    loss is the mean of both cross-entropies."""
    pairs = [("flat", "rocket", "火箭"), ("noto", "cat", "noto cat")]
    pairs += [("twemoji", "hot dog", "hot dog"), ("blob", "penguin", "blob 企鹅")]
    x, y, width, height = 312, 278, 104, 56  # of the matrix, and of one of its cells
    columns = [Box(x + width * i, y, width, 4 * height) for i in range(4)]
    rows = [Box(x, y + height * i, 4 * width, height) for i in range(4)]
    d.label(28, 110, "a batch of `B` pairs", "一批 B 对图片和文字", "here `B` is 4", anchor="start")
    d.label(300, 118, "captions", "文字描述", anchor="end")
    d.label(300, 244, "vectors of length 1", "长度为 1 的向量", anchor="end")
    d.label(28, 244, "pictures", "图片", anchor="start")
    text_encoder = d.box(x + 3, 160, 4 * width - 6, 48, "tokenizer, text encoder", "分词器、文本编码器", kind="network")
    image_encoder = d.box(100, y + 3, 140, 4 * height - 6, "image encoder", "图像编码器", kind="network")
    for (style, name, caption), column, row in zip(pairs, columns, rows, strict=True):
        (across, _), (_, down) = column.top, row.left
        chip = d.chip(across, 122, caption, kind="text", width=width - 6)
        d.arrow(chip.bottom, (across, text_encoder.y), kind="text")
        d.box(across - 5, 232, 10, 40, kind="text")
        d.arrow((across, 208), (across, 232), kind="text")
        picture = d.picture(28, down - 24, 48, emoji_picture(style, name), most_bytes=3000)
        d.arrow(picture.right, (image_encoder.x, down))
        d.box(264, down - 5, 40, 10)
        d.arrow((240, down), (264, down))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            d.box(column.x + 3, row.y + 3, width - 6, height - 6, kind="text" if i == j else "plain")
            if i == j:
                d.tick(column.x + width / 2, row.left[1])
    d.shape("rect", "line learn", x=x - 1, y=rows[1].y - 1, width=4 * width + 2, height=height + 2, rx=14)
    d.shape("rect", "line learn", x=columns[2].x - 1, y=y - 1, width=width + 2, height=4 * height + 2, rx=14)

    (_, down), (across, bottom) = rows[1].right, columns[2].bottom
    caption = d.box(754, down - 36, 118, 72, "softmax", "沿每一行", "which caption?")
    picture = d.box(across - 132, bottom + 34, 264, 72, "softmax", "沿每一列", "which picture?")
    d.arrow((x + 4 * width + 2, down), caption.left)
    d.arrow((across, bottom + 2), picture.top)
    loss = d.box(754, picture.y, 118, 72, "loss", "损失", "mean of both", kind="learn")
    d.arrow(caption.bottom, loss.top)
    d.arrow(picture.right, loss.left)
    temperature = d.chip(94, bottom + 52, "`temperature`", kind="learn", width=132)
    corner = (columns[0].bottom[0], bottom + 52)
    d.arrow(temperature.right, corner, columns[0].bottom, kind="learn")
    d.label(28, bottom + 88, "each cell: cosine / temperature", "每格：余弦值 ÷ 温度", anchor="start")
    d.box(754, 107, 44, 30, kind="text")
    d.tick(775, 122)
    d.label(810, 118, "a pair", "配成一对", anchor="start")


@drawing("picture-search", 590, "A search engine for pictures", "图片搜索引擎")
def picture_search(d: Drawing) -> None:
    """Once, the image encoder turns all pictures into vectors of length 1: the index. Then a query, which is a picture
    or words in English or Chinese, becomes one vector by the encoder of its kind. Its products with all vectors of the
    index are cosines, and the k pictures with the largest are what is found: for a rocket, rockets in four styles."""
    d.group(28, 84, 844, 214)
    d.label(48, 112, "once, for all pictures", "事先，对所有图片做一次", anchor="start")
    some = [("blob", "key"), ("noto", "banana"), ("flat", "rocket")]
    some += [("flat", "mushroom"), ("flat", "moai"), ("emojione", "anchor")]
    for i, (style, name) in enumerate(some):
        d.picture(52 + 54 * (i % 3), 146 + 54 * (i // 3), 48, emoji_picture(style, name), most_bytes=3000)
    count = f"{len(emoji().pictures):,}"
    d.text(130, 269, f"all {count} emoji")
    d.text(130, 287, f"全部 {count} 张", "zh")
    encoder = d.box(266, 167, 140, 60, "image encoder", "图像编码器", kind="network")
    index = d.group(560, 126, 172, 142)
    for i in range(7):
        d.box(574, 140 + 17.5 * i, 144, 9)
    d.label(748, 186, "index", "向量索引", "one vector each", anchor="start")
    d.arrow((212, 197), encoder.left)
    d.arrow(encoder.right, index.left)

    d.group(28, 322, 844, 250)
    d.label(48, 348, "for each query", "每次查询", anchor="start")
    query = d.picture(102, 382, 56, emoji_picture("blob", "rocket"))
    same = d.box(266, 380, 140, 60, "image encoder", "图像编码器", kind="network")
    words = d.box(266, 487, 140, 60, "text encoder", "文本编码器", kind="network")
    d.label(130, 458, "or", "或")
    for y, text in ((499, "rocket"), (536, "火箭")):
        chip = d.chip(130, y, text, kind="text", width=92)
        d.arrow(chip.right, (266, y), kind="text")
    vector = d.box(466, 458, 80, 10)
    d.label(506, 492, "query vector", "查询向量")
    products = d.box(576, 427, 140, 72, "products", "点积，即余弦", "`vectors @ query`")
    d.arrow(encoder.bottom, same.top, head=False, dashed=True)
    d.label(348, 350, "the same network", "同一个网络", anchor="start")
    d.arrow(query.right, same.left)
    d.arrow(same.right, (432, 410), (432, 463), vector.left)
    d.arrow(words.right, (432, 517), (432, 463), vector.left, kind="text")
    d.arrow(vector.right, products.left)
    d.arrow(index.bottom, products.top)
    d.label(658, 350, "all vectors", "所有向量", anchor="start")
    for i, style in enumerate(("blob", "flat", "twemoji", "emojione")):
        d.picture(754 + 54 * (i % 2), 412 + 54 * (i // 2), 48, emoji_picture(style, "rocket"), most_bytes=3400)
    d.arrow(products.right, (748, 463))
    d.label(805, 536, "`k` best", "最相近的 k 张")


@drawing("autoencoder", 676, "An autoencoder: a picture in few numbers", "自编码器：用很少的数字表示一张图片")
def autoencoder(d: Drawing) -> None:
    """A picture of 64 x 64 pixels in 3 colours, 12,288 numbers, goes through the encoder, which returns a mean and a
    log variance for each of the 16 x 16 x 4 numbers of a latent. For training a latent z is drawn: the mean, and noise
    times the deviation. From these 1,024 numbers the decoder makes a picture again. The loss, which teaches encoder and
    decoder, has three parts: how far the pixels are off; how far the differences between neighbouring pixels are off,
    the edges; and, with a small weight, the KL divergence of mean and variance from N(0, I). After training, and
    dashed: the mean, standardised in each channel, is the latent z_0 that diffusion works on."""
    made = encoded_and_back()
    picture = d.picture(28, 244, 112, made["picture"], most_bytes=6500)
    d.label(28, 190, "picture", "图片", "64 × 64 × 3 = 12,288 numbers", anchor="start")
    encoder = d.box(172, 252, 104, 242, "encoder", "编码器", kind="network")
    gaussian = d.group(300, 236, 120, 310)
    mean = d.latent(312, 252, 96, made["mean"], "`mean`", "均值")
    certainty = (made["log_variance"] - made["log_variance"].mean()) / made["log_variance"].std()
    log_variance = d.latent(312, 398, 96, certainty, "`log_variance`", "对数方差")
    plus, times = d.sign(472, 300, "+"), d.sign(472, 446, "×")
    noise = d.latent(516, 410, 72, made["noise"], "noise", "标准正态噪声")
    z = d.latent(524, 252, 96, made["z"])
    d.label(572, 190, "`z` drawn latent", "采样得到的潜变量", "16 × 16 × 4 = 1,024 numbers")
    decoder = d.box(648, 258, 84, 84, "decoder", "解码器", kind="network")
    back = d.picture(760, 244, 112, made["back"], most_bytes=7500)
    d.label(816, 209, "decoded", "解码得到的图片")
    d.arrow(picture.right, (encoder.x, 300))
    d.arrow((276, 300), mean.left)
    d.arrow((276, 446), log_variance.left)
    d.arrow(mean.right, plus.left)
    d.arrow(log_variance.right, times.left)
    d.arrow(noise.left, times.right)
    d.arrow(times.top, plus.bottom)
    d.arrow(plus.right, z.left)
    d.arrow(z.right, decoder.left)
    d.arrow(decoder.right, back.left)

    standardise = d.box(412, 88, 176, 60, "standardise", "逐通道标准化", dashed=True)
    z_0 = d.latent(636, 82, 72, made["z_0"])
    d.label(724, 104, "`z_0`", "供扩散模型使用", "mean 0, deviation 1", anchor="start")
    d.arrow(mean.top, (360, 118), standardise.left, dashed=True)
    d.arrow(standardise.right, z_0.left, dashed=True)
    d.label(348, 108, "after training", "训练结束之后", anchor="end")

    divergence = d.box(260, 568, 200, 72, "KL to N(0, I)", "与标准正态的 KL 散度", "× `kl_weight`, 0.001", kind="learn")
    pixel_loss = d.box(500, 568, 172, 72, "pixels", "逐像素的差", kind="learn")
    edge_loss = d.box(700, 568, 172, 72, "edges", "相邻像素之差", kind="learn")
    d.label(56, 530, "the loss", "损失函数", "teaches both networks", anchor="start")
    d.arrow(gaussian.bottom, divergence.top)
    d.arrow((786, 356), edge_loss.top)
    d.arrow((786, 540), (586, 540), pixel_loss.top)
    d.branch(786, 540)
    d.arrow((36, 356), (36, 658), (786, 658), edge_loss.bottom)
    d.arrow((586, 658), pixel_loss.bottom)
    d.branch(586, 658)


@drawing("stable-diffusion", 676, "Stable Diffusion: diffusion in latents", "Stable Diffusion：在潜空间里扩散")
def stable_diffusion(d: Drawing) -> None:
    """Training: the encoder of the autoencoder turns a picture into the latent z_0; add_noise makes z_t of it. The
    U-Net gets z_t and t, and by cross-attention the vectors that the text encoder of the CLIP of notebook 07 makes of
    the caption; it returns z_0_hat. The gradient of the squared error corrects the U-Net alone: encoder, text encoder
    and decoder are frozen. Sampling: the same U-Net, used step after step with a prompt, leads from pure noise z_T to a
    latent z_0, and the decoder, used once, makes a picture of it."""
    made = latents_of_rockets()
    d.frozen(700, 40)
    d.label(722, 37, "frozen", "冻结，权重不变", anchor="start")
    d.group(28, 80, 844, 226)
    d.label(48, 108, "training", "训练", anchor="start")
    picture = d.picture(48, 174, 72, made["picture"], "picture", "图片", most_bytes=4600)
    encoder = d.box(148, 180, 96, 60, "encoder", "编码器", kind="network")
    d.frozen(244, 180)
    z_0 = d.latent(276, 174, 72, made["z_0"], "`z_0`", "潜变量")
    mix = d.box(376, 180, 104, 60, "`add_noise`", "加噪")
    t = d.chip(428, 136, "`t`")
    z_t = d.latent(508, 174, 72, made["z_t"], "`z_t`", "含噪的潜变量")
    unet = d.box(612, 168, 100, 84, "U-Net", "只有它在学习", "it learns", kind="network")
    z_0_hat = d.latent(744, 174, 72, made["z_0_hat"], "`z_0_hat`", "预测的潜变量")
    d.box(700, 92, 160, 60, "squared error", "平方误差", kind="learn")
    d.arrow(picture.right, encoder.left)
    d.arrow(encoder.right, z_0.left)
    d.arrow(z_0.right, mix.left)
    d.arrow(t.bottom, mix.top, kind="time")
    d.arrow(t.right, (636, 136), (636, 168), kind="time")
    d.arrow(mix.right, z_t.left)
    d.arrow(z_t.right, unet.left)
    d.arrow(unet.right, z_0_hat.left)
    d.arrow(z_0.top, (312, 106), (700, 106))
    d.arrow(z_0_hat.top, (780, 152))
    d.arrow((700, 136), (680, 136), (680, 168), kind="learn")

    reads = ("tokenizer, text encoder", "分词器、文本编码器", "of the CLIP of 07")
    text_encoder = d.box(216, 322, 240, 72, *reads, kind="network")
    d.frozen(456, 322)
    for y, words in ((340, "rocket"), (376, "火箭")):
        chip = d.chip(108, y, words, kind="text", width=120)
        d.arrow(chip.right, (216, y), kind="text")
    d.arrow(text_encoder.right, (662, 358), unet.bottom, kind="text")
    d.text(566, 348, "cross-attention")
    d.text(566, 380, "交叉注意力", "zh")

    d.group(28, 410, 844, 250)
    d.label(48, 438, "sampling", "采样", anchor="start")
    z_T = d.latent(48, 484, 72, made["z_T"], "`z_T`", "纯噪声")
    first, last = (d.box(x, 484, 76, 72, "U-Net", "去噪网络", kind="network") for x in (148, 396))
    between = d.latent(252, 484, 72, made["between"], "`z_t`", "噪声少了一些")
    drawn = d.latent(500, 484, 72, made["drawn"], "`z_0`", "潜变量")
    decoder = d.box(604, 490, 96, 60, "decoder", "解码器", kind="network")
    d.frozen(700, 490)
    result = d.picture(740, 464, 112, made["drawn_picture"], "picture", "图片", most_bytes=4600)
    d.dots(360, 520)
    for before, after in [(z_T, first), (first, between), (last, drawn), (drawn, decoder), (decoder, result)]:
        d.arrow(before.right, after.left)
    d.arrow(text_encoder.bottom, (336, 446), (186, 446), first.top, kind="text")
    d.arrow((336, 446), (434, 446), last.top, kind="text")
    d.branch(336, 446, kind="text")
    d.label(310, 624, "step after step, the same U-Net", "同一个 U-Net，一步又一步")
    d.label(652, 590, "once, at the end", "最后解码一次")


@drawing("imagen", 690, "Imagen: a small picture, then a large one", "Imagen：先画小图，再放大")
def imagen(d: Drawing) -> None:
    """Sampling: a frozen text encoder reads the prompt. The base U-Net looks at it by cross-attention and draws, step
    after step, a picture of 16 x 16 pixels out of noise. Noise of a chosen level is laid over this picture. The
    super-resolver gets it, is told the level, and draws a picture of 64 x 64 pixels out of noise; it reads no text.
    Training of the super-resolver: a picture of the data is shrunk, noise of a random level is laid over the small
    one, and this stands beside x_t, the large picture with noise, as the input of the super-resolver, with t and the
    level. It returns x_0_hat, and learns from the squared error with the large picture. Imagen itself draws 64 x 64
    pixels and enlarges them twice, to 256 x 256 and to 1024 x 1024."""
    made = cascade()
    few = dict(most_bytes=2400, levels=(6, 5, 4, 3))
    d.text(872, 42, "Imagen itself: 64 → 256 → 1024 pixels", "note", "end")
    d.text(872, 65, "真正的 Imagen：64 → 256 → 1024 像素", "zh", "end")
    d.group(28, 80, 844, 298)
    d.label(48, 108, "sampling", "采样", anchor="start")
    d.frozen(742, 110)
    d.label(764, 107, "frozen", "冻结，权重不变", anchor="start")
    for x, words in ((178, "sailboat"), (270, "帆船")):
        chip = d.chip(x, 111, words, kind="text", width=84)
        d.arrow(chip.bottom, (x, 146), kind="text")
    encoder = d.box(136, 146, 176, 52, "text encoder", "文本编码器", kind="network")
    d.frozen(312, 146)
    x_T = d.picture(44, 246, 60, made["x_T"], "`x_T`", "纯噪声", **few)
    base = d.box(136, 240, 176, 72, "base U-Net", "基础 U-Net", "step after step", kind="network")
    low = d.picture(336, 246, 60, made["low"], "16 × 16", "小图", **few)
    add = d.box(418, 246, 96, 60, "`augmented`", "加噪")
    noisy = d.picture(536, 246, 60, made["low_noisy"], **few)
    enlarge = d.box(618, 240, 134, 72, "super-resolver", "超分辨率模型", "step after step", kind="network")
    level = d.chip(466, 172, "`level`", width=72)
    start = d.chip(685, 348, "`x_T`", kind="plain")
    large = d.picture(772, 232, 88, made["large"], "64 × 64", "大图", most_bytes=2900)
    d.arrow(encoder.bottom, base.top, kind="text")
    d.text(236, 216, "cross-attention", anchor="start")
    d.text(236, 233, "交叉注意力", "zh", "start")
    d.arrow(level.bottom, add.top, kind="time")
    d.arrow(level.right, (685, 172), enlarge.top, kind="time")
    d.label(520, 142, "how much noise", "加了多少噪声", anchor="start")
    d.label(646, 351, "noise, 64 × 64", "大尺寸的纯噪声", anchor="end")
    d.arrow(start.top, enlarge.bottom)
    for before, after in pairwise([x_T, base, low, add, noisy, enlarge, large]):
        d.arrow((before.right[0], 276), (after.left[0], 276))

    d.group(28, 394, 844, 282)
    d.label(48, 422, "training of the super-resolver", "超分辨率模型的训练", anchor="start")
    x_0 = d.picture(44, 456, 88, made["x_0"], "`x_0`", "大图", most_bytes=2900)
    shrink = d.box(178, 446, 90, 52, "`shrunk`", "缩小")
    small = d.picture(292, 444, 56, made["x_0_low"], **few)
    add = d.box(372, 446, 100, 52, "`augmented`", "加噪")
    noisy = d.picture(496, 444, 56, made["x_0_low_noisy"], **few)
    learner = d.box(618, 446, 134, 144, "super-resolver", "超分辨率模型", "it learns", kind="network")
    level = d.chip(422, 416, "`level`", width=72)
    mix = d.box(178, 538, 90, 52, "`add_noise`", "加噪")
    x_t = d.picture(390, 522, 84, made["x_t"], most_bytes=5000, levels=(5, 4))
    t = d.chip(223, 624, "`t`")
    d.box(730, 606, 130, 56, "squared error", "平方误差", kind="learn")
    d.arrow(level.bottom, add.top, kind="time")
    d.arrow(level.right, (685, 416), learner.top, kind="time")
    for before, after in pairwise([x_0, shrink, small, add, noisy, learner]):
        d.arrow((before.right[0], 472), (after.left[0], 472))
    d.arrow((132, 524), (155, 524), (155, 564), mix.left)
    d.arrow(mix.right, x_t.left)
    d.label(329, 554, "`x_t`")
    d.text(329, 584, "含噪的大图", "zh")
    d.arrow(x_t.right, (618, 564))
    d.label(550, 530, "side by side", "沿通道拼在一起")
    d.arrow(t.top, mix.bottom, kind="time")
    d.arrow(t.right, (650, 624), (650, 590), kind="time")
    d.arrow(learner.right, (790, 518), (790, 606))
    d.label(800, 548, "`x_0_hat`", "预测", anchor="start")
    d.arrow((56, 544), (56, 652), (730, 652))
    d.arrow((730, 624), (702, 624), (702, 590), kind="learn")


@drawing("dalle-2", 690, "DALL·E 2: text, vector, picture", "DALL·E 2：文字、向量、图片")
def dalle_2(d: Drawing) -> None:
    """Training: CLIP, which is frozen, turns a picture and its caption into a picture vector and a text vector; the two
    are alike, but not the same. The prior learns to draw the picture vector when it is told the text vector: it gets
    the vector with noise, v_t, and t. The decoder learns to draw the picture, at 16 x 16 pixels, when it is told the
    picture vector: it gets x_t and t. Sampling, two ways to a picture vector. From words: the text encoder makes a text
    vector, and the prior draws a picture vector, step after step. From a picture: the image encoder makes it. The
    decoder draws 16 x 16 pixels from the vector, step after step, and the super-resolver enlarges them to 64 x 64. With
    other noise it becomes another picture: of one picture these are variations."""
    picture, small, large = variations()
    few = dict(most_bytes=3300)
    d.frozen(700, 40)
    d.label(722, 37, "frozen", "冻结，权重不变", anchor="start")
    d.group(28, 80, 844, 312)
    d.label(48, 108, "training", "训练", anchor="start")
    whale = d.picture(48, 156, 80, picture, **few)
    caption = d.chip(92, 326, "whale 鲸鱼", kind="text", width=100)
    d.label(92, 266, "a pair", "一对数据")
    shrink = d.box(196, 94, 96, 46, "`shrunk`", "缩小")
    image_encoder = d.box(168, 166, 136, 60, "image encoder", "图像编码器", kind="network")
    text_encoder = d.box(168, 296, 136, 60, "text encoder", "文本编码器", kind="network")
    d.frozen(304, 166)
    d.frozen(304, 296)
    picture_vector, text_vector = d.box(348, 191, 80, 10), d.box(348, 321, 80, 10, kind="text")
    d.label(388, 160, "picture vector", "图片向量")
    d.label(388, 354, "text vector", "文本向量")
    d.label(388, 250, "alike, not the same", "相近，但不相同")
    decoder = d.box(532, 160, 136, 72, "decoder", "解码器", "it learns", kind="network")
    prior = d.box(532, 290, 136, 72, "prior", "先验网络", "it learns", kind="network")
    x_t, v_t = (d.chip(600, y, words, kind="plain", width=84) for y, words in ((124, "`x_t, t`"), (262, "`v_t, t`")))
    errors = [d.box(732, y, 128, 60, "squared error", "平方误差", kind="learn") for y in (166, 296)]
    d.arrow(whale.right, image_encoder.left)
    d.arrow(caption.right, text_encoder.left, kind="text")
    d.arrow(image_encoder.right, picture_vector.left)
    d.arrow(text_encoder.right, text_vector.left, kind="text")
    d.arrow(picture_vector.right, decoder.left)
    d.arrow(text_vector.right, prior.left, kind="text")
    d.arrow(x_t.bottom, decoder.top)
    d.arrow(v_t.bottom, prior.top)
    d.arrow(decoder.right, errors[0].left)
    d.arrow(prior.right, errors[1].left)
    d.branch(146, 196)
    d.arrow((146, 196), (146, 117), shrink.left)
    d.arrow(shrink.right, (500, 117), (500, 96), (796, 96), errors[0].top)
    d.branch(480, 196)
    d.arrow((480, 196), (480, 239), (796, 239), errors[1].top)

    d.group(28, 408, 844, 268)
    d.label(48, 436, "sampling: two ways to a picture vector", "采样：得到图片向量的两条路", anchor="start")
    prompt = d.chip(92, 506, "whale 鲸鱼", kind="text", width=100)
    whale = d.picture(60, 586, 64, picture, **few)
    text_encoder = d.box(168, 480, 124, 52, "text encoder", "文本编码器", kind="network")
    image_encoder = d.box(168, 592, 136, 52, "image encoder", "图像编码器", kind="network")
    d.frozen(292, 480)
    d.frozen(304, 592)
    prior = d.box(320, 470, 108, 72, "prior", "先验网络", "step after step", kind="network")
    vector = d.box(446, 557, 66, 10)
    d.label(434, 562, "picture vector", "图片向量", anchor="end")
    decoder = d.box(536, 526, 104, 72, "decoder", "解码器", "step after step", kind="network")
    low = d.picture(660, 538, 48, small[0], **few)
    enlarge = d.box(726, 536, 134, 52, "super-resolver", "超分辨率模型", kind="network")
    for x, result in zip((652, 724, 796), large, strict=True):
        d.picture(x, 440, 64, result, **few)
    d.arrow(prompt.right, text_encoder.left, kind="text")
    d.arrow(text_encoder.right, prior.left, kind="text")
    d.arrow(whale.right, image_encoder.left)
    d.arrow(prior.right, (479, 506), vector.top)
    d.arrow(image_encoder.right, (479, 618), vector.bottom)
    for before, after in pairwise([vector, decoder, low, enlarge]):
        d.arrow((before.right[0], 562), (after.left[0], 562))
    d.text(684, 606, "16 × 16")
    d.arrow((793, 536), (793, 504))
    d.label(640, 452, "64 × 64", "大图", anchor="end")
    another = ("other noise, another picture", "换一份噪声，就是另一张图", "given a picture: its variations")
    d.label(860, 630, *another, anchor="end")


@drawing("course-map", 690, "The course on one page", "一页看懂整门课程")
def course_map(d: Drawing) -> None:
    """Notebooks 01, 02 and 03 make the three parts: the sampling loop, training pairs and the U-Net. With them notebook
    04 trains a model that draws digits; 05 adds captions and guidance; 06 draws faster with the models of both, and
    edits pictures; 07 learns which caption belongs to which picture, with a small CLIP, and searches by words; 08 is a
    small Stable Diffusion, which draws in latents, with the guidance of 05 and the text encoder of 07; 09 has small
    versions of Imagen and DALL-E 2, with the guidance of 05 and the text encoder and the vectors of 07."""
    grey, coloured, chain = grey_example(), captioned()["example"], reverse_chain()

    def done(x: float, y: float, number: str, picture: Tensor, title: str, *words: str) -> Box:
        box = d.box(x, y, 264, 112, kind="network")
        d.text(x + 14, y + 27, f"`{number}` {title}", anchor="start")
        d.picture(x + 16, y + 41, 56, picture)
        for line, (part, style) in enumerate(zip(words, ("zh", "note", "zh"), strict=True)):
            d.text(x + 86, y + 56 + 19 * line, part, style, "start")
        return box

    towns = ("从高斯分布采样", "towns, digits, a cat", "城镇、数字和一只猫")
    sampling = done(28, 86, "01", chain["x_T"], "Sampling from a Gaussian", *towns)
    jump = ("前向过程", "noise in one jump", "一步加噪，噪声调度")
    forward = done(318, 86, "02", grey.x_t, "The forward process", *jump)
    hears = ("噪声预测器", "a U-Net that hears `t`", "知道时间步的 U-Net")
    network = done(608, 86, "03", grey.eps_hat, "The noise predictor", *hears)
    drawn = ("训练", "digits you trained", "亲手训练，画出数字")
    training = done(318, 284, "04", chain["x_0"], "Training", *drawn)
    asked = ("从文字到图片", "digits, emoji as asked", "要什么，画什么")
    words = done(608, 284, "05", coloured.x_0, "Text to picture", *asked)
    half_lost = chain["x_0"].clone()
    half_lost[..., 14:, :] = 0
    edits = ("更快、更自由的采样", "few steps, and edits", "步数更少，还能修图")
    fast = done(28, 284, "06", half_lost, "Sampling, faster and freer", *edits)
    searched = ("图片与文字", "CLIP: search by words", "小型 CLIP，用文字搜图片")
    clip = done(28, 492, "07", emoji_picture("twemoji", "rocket"), "Pictures and words", *searched)
    small = ("微型 Stable Diffusion", "in miniature: latents", "在潜空间里扩散")
    latent = done(318, 492, "08", latents_of_rockets()["drawn_picture"], "Stable Diffusion", *small)
    both = ("微型 Imagen、DALL·E 2", "a cascade, and vectors", "级联放大，向量作画")
    systems = done(608, 492, "09", cascade()["large"], "Imagen and DALL-E 2", *both)
    d.arrow(sampling.bottom, (160, 252), (390, 252), (390, 284))
    d.label(172, 220, "sampling loop", "采样循环", anchor="start")
    d.arrow(forward.bottom, training.top)
    d.label(462, 220, "training pairs", "训练数据", anchor="start")
    d.arrow(network.bottom, (740, 252), (510, 252), (510, 284))
    d.label(752, 220, "network", "网络", anchor="start")
    d.arrow(training.right, words.left)
    d.arrow((680, 396), (680, 424), (160, 424), fast.bottom)
    d.arrow(training.bottom, (450, 424), head=False)
    d.branch(450, 424)
    d.text(172, 415, "trained models", anchor="start")
    d.text(312, 415, "训练好的模型", "zh", "start")
    d.arrow((740, 396), (740, 440), (160, 440), clip.top)
    d.branch(740, 440)
    d.arrow((740, 440), systems.top)
    d.branch(450, 440)
    d.arrow((450, 440), latent.top)
    d.label(172, 462, "captions", "文字描述", anchor="start")
    d.label(462, 462, "guidance", "引导", anchor="start")
    d.arrow(clip.bottom, (160, 630), (450, 630), latent.bottom)
    d.branch(430, 630)
    d.arrow((430, 630), (740, 630), systems.bottom)
    d.label(305, 652, "text encoder", "文本编码器")
    d.label(595, 652, "CLIP vectors", "CLIP 向量")


def main() -> None:
    for name, draw in DRAWINGS.items():
        text = draw().svg()
        (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8")
        print(f"{name}.svg: {len(text.encode()) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
