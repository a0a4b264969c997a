"""Real handwritten digits in colours, with captions in English and Chinese: small enough to learn text on, live.

Level 1, coloured digits: one digit of MNIST, 28x28, "a red seven", "红色的七".
Level 2, digit scenes: two side by side, 28x56, "a red three left of a blue seven", "红色的三在蓝色的七左边".

Some scenes are withheld: no training picture shows them, so they test whether a model composes what it knows. And one
colour has no Chinese caption, so it tests what a model knows in a language that it was never told in.
"""

import random
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ddpm_core.data.mnist import SIZE, mnist_bytes
from ddpm_core.support import guards
from ddpm_core.support.pixels import from_bytes

Scene = tuple[tuple[int, str], ...]  # (digit, colour) from left to right: ((7, "red"),) or ((3, "red"), (7, "blue"))

COLOURS: dict[str, tuple[float, float, float]] = {  # of full ink: red, green, blue, 0 to 1
    "red": (1.0, 0.15, 0.15),
    "green": (0.1, 0.8, 0.2),
    "blue": (0.2, 0.35, 1.0),
    "yellow": (1.0, 0.9, 0.1),
    "purple": (0.7, 0.2, 0.9),
    "white": (1.0, 1.0, 1.0),
}
COLOURS_ZH = {"red": "红", "green": "绿", "blue": "蓝", "yellow": "黄", "purple": "紫", "white": "白"}
ENGLISH_ONLY = "purple"  # no training caption says it in Chinese
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS_ZH = "零一二三四五六七八九"

WORDINGS: dict[tuple[str, int], tuple[str, ...]] = {  # by language and number of digits
    ("en", 1): ("a {c0} {d0}", "{c0} {d0}", "the digit {d0} in {c0}", "a {d0}, {c0}"),
    ("zh", 1): ("{c0}色的{d0}", "{c0}色{d0}", "一个{c0}色的{d0}", "数字{d0}是{c0}色的"),
    ("en", 2): (
        "a {c0} {d0} left of a {c1} {d1}",
        "a {c1} {d1} right of a {c0} {d0}",
        "{c0} {d0} on the left, {c1} {d1} on the right",
        "a {c0} {d0} and then a {c1} {d1}",
    ),
    ("zh", 2): (
        "{c0}色的{d0}在{c1}色的{d1}左边",
        "{c1}色的{d1}在{c0}色的{d0}右边",
        "左边是{c0}色的{d0}，右边是{c1}色的{d1}",
        "先{c0}色的{d0}，后{c1}色的{d1}",
    ),
}
NUMERALS = 0.25  # share of captions that write 7 for "seven"

# Each digit is withheld in one colour; it is seen in all others, and each colour on most digits.
WITHHELD = frozenset(
    {(7, "red"), (2, "red"), (1, "green"), (8, "green"), (0, "blue")}
    | {(5, "blue"), (3, "yellow"), (6, "yellow"), (4, "white"), (9, "white")}
)
# In digit scenes: these on one side only (0 left, 1 right), and these pairs of digits, in this order, in any colours.
WITHHELD_SIDES = frozenset(
    {(0, 3, "red"), (0, 1, "green"), (0, 6, "blue"), (0, 8, "yellow"), (0, 5, "white")}
    | {(1, 7, "red"), (1, 0, "green"), (1, 4, "blue"), (1, 2, "yellow"), (1, 9, "white")}
)
WITHHELD_PAIRS = frozenset({(0, 7), (1, 4), (2, 5), (3, 8), (4, 9), (5, 2), (6, 1), (7, 3), (8, 6), (9, 0)})


@dataclass
class DigitScenes:
    """Pictures with what is on them.

    pictures: (N, 3, 28, 28 * digits in a scene) in [-1, 1], or uint8; captions: N strings; scenes: N tuples of
    (digit, colour)
    """

    pictures: Tensor
    captions: list[str]
    scenes: list[Scene]


def all_scenes(num_digits: int, withheld: bool, language: str = "en") -> list[Scene]:
    """Every scene with captions in the language: those that are withheld from training, or those that are not."""
    guards.one_of("language", language, ("en", "zh"))
    guards.one_of("num_digits", num_digits, (1, 2))
    colours = [colour for colour in COLOURS if language == "en" or colour != ENGLISH_ONLY]
    scenes = product(product(range(10), colours), repeat=num_digits)
    return [scene for scene in scenes if is_withheld(scene) == withheld]


def draw_scenes(
    num_digits: int, count: int, withheld: bool = False, language: str = "en", seed: int = 0
) -> list[Scene]:
    """count scenes to ask for, in an order drawn with the seed: all of all_scenes before any comes again."""
    known, rng, drawn = all_scenes(num_digits, withheld, language), random.Random(seed), []
    while len(drawn) < count:
        drawn += rng.sample(known, len(known))
    return drawn[:count]


def is_withheld(scene: Scene) -> bool:
    """Whether no training picture shows this scene."""
    if len(scene) == 1:
        return scene[0] in WITHHELD
    digits = tuple(digit for digit, _ in scene)
    return digits in WITHHELD_PAIRS or any((side, *thing) in WITHHELD_SIDES for side, thing in enumerate(scene))


def caption_of(scene: Scene, language: str = "en", wording: int = 0, numerals: bool = False) -> str:
    """A scene in words. language: "en" or "zh"; wording: 0 to 3; numerals: 7 for "seven"."""
    guards.one_of("language", language, ("en", "zh"))
    guards.one_of("wording", wording, range(4))
    colour_words, digit_words = ({}, DIGITS) if language == "en" else (COLOURS_ZH, DIGITS_ZH)
    words = {}
    for place, (digit, colour) in enumerate(scene):
        words[f"c{place}"] = colour_words.get(colour, colour)
        words[f"d{place}"] = str(digit) if numerals else digit_words[digit]
    return WORDINGS[language, len(scene)][wording].format(**words)


def load_digit_scenes(
    num_digits: int = 1, count: int = 8000, split: str = "train", seed: int = 0, as_bytes: bool = False
) -> DigitScenes:
    """Scenes of 1 or 2 real digits, drawn with the seed; those withheld are never among them.

    split: "train" or "held_out", as in load_mnist: which real digits are painted. Half of the captions are Chinese, but
    for scenes that have no Chinese words. as_bytes: the pictures as uint8, which train takes, too: 60,000 scenes of two
    digits are 0.3 GB instead of 1.1. Raises ValueError for arguments that there are not, and what load_mnist raises.
    """
    known = all_scenes(num_digits, withheld=False)
    guards.whole_number("count", count)
    grey, labels = mnist_bytes(split)
    generator = torch.Generator().manual_seed(seed)

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    rows_of = [torch.nonzero(labels == digit)[:, 0].tolist() for digit in range(10)]
    scenes, captions, rows = [], [], []
    for _ in range(count):
        scene = known[below(len(known))]
        in_chinese = below(2) and all(colour != ENGLISH_ONLY for _, colour in scene)
        numerals = torch.rand((), generator=generator).item() < NUMERALS
        scenes.append(scene)
        captions.append(caption_of(scene, "zh" if in_chinese else "en", below(4), numerals))
        rows.append([rows_of[digit][below(len(rows_of[digit]))] for digit, _ in scene])
    pixels = _painted(grey, torch.tensor(rows), scenes)
    return DigitScenes(pixels if as_bytes else from_bytes(pixels), captions, scenes)


def _painted(grey: Tensor, rows: Tensor, scenes: list[Scene]) -> Tensor:
    """The digits in these rows (N, digits in a scene) of grey in the scenes' colours, side by side; all in uint8."""
    N, num_digits = rows.shape
    pixels = torch.empty(N, 3, SIZE, num_digits * SIZE, dtype=torch.uint8)
    for side, half in enumerate(pixels.split(SIZE, dim=3)):
        for colour, rgb in COLOURS.items():
            here = torch.tensor([scene[side][1] == colour for scene in scenes])
            ink = grey[rows[here, side]]  # (n, 1, 28, 28)
            half[here] = (ink * torch.tensor(rgb)[:, None, None]).round().to(torch.uint8)
    return pixels
