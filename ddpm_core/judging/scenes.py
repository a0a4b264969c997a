"""Judging coloured digits and digit scenes: does a picture show the digits and colours that were asked for?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.data.digit_scenes import COLOURS, Scene, caption_of
from ddpm_core.data.mnist import SIZE
from ddpm_core.judging.digits import DigitReader
from ddpm_core.judging.drawing import draw_all
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.text_to_image import TextToImage


def judge_scenes(pictures: Tensor, scenes: Sequence[Scene], reader: DigitReader) -> tuple[Tensor, Tensor]:
    """Does each picture (N, 3, 28, 28 or 56) in [-1, 1] show its scene? Digits right, colours right: bool, (N,) each.

    Each half is judged by itself: its digit by the reader, from the brightest channel; its colour as by ink_colours.
    All of a picture's digits must be right.
    """
    guards.pictures(pictures)
    wanted = [(3, SIZE, SIZE * len(scene)) for scene in scenes]
    if pictures.shape[3] > 2 * SIZE or [tuple(picture.shape) for picture in pictures] != wanted:
        raise ValueError(
            f"pictures must be (N, 3, {SIZE}, {SIZE}) or (N, 3, {SIZE}, {2 * SIZE}), one for each of the {len(scenes)} "
            f"scenes and as wide as its digits; got {tuple(pictures.shape)}"
        )
    digits_right = torch.ones(len(pictures), dtype=torch.bool)
    for side, half in enumerate(_halves(pictures)):
        ink = half.amax(dim=1, keepdim=True)
        ink = ink / ink.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)  # a digit in a dark colour is no fainter
        digits = torch.tensor([scene[side][0] for scene in scenes])
        digits_right &= reader.probabilities(ink * 2 - 1).argmax(dim=1) == digits
    asked = [tuple(colour for _, colour in scene) for scene in scenes]
    colours_right = torch.tensor([seen == colours for seen, colours in zip(ink_colours(pictures), asked, strict=True)])
    return digits_right, colours_right


def ink_colours(pictures: Tensor) -> list[tuple[str, ...]]:
    """The colour of each digit in each picture (N, 3, 28, 28 or 56).

    It is the one whose proportions of red, green and blue are nearest to those of the mean of all pixels. The mean is
    weighted with the brightness of each pixel, or a background that is not quite black would count as grey ink.
    """
    names = list(COLOURS)
    proportions = F.normalize(torch.tensor([COLOURS[name] for name in names]), dim=1)
    sums = [(half * half.amax(dim=1, keepdim=True)).sum(dim=(2, 3)) for half in _halves(pictures)]
    nearest = [torch.cdist(F.normalize(each, dim=1), proportions).argmin(dim=1).tolist() for each in sums]
    return [tuple(names[i] for i in sides) for sides in zip(*nearest, strict=True)]


def _halves(pictures: Tensor) -> tuple[Tensor, ...]:
    """The ink of each digit from left to right, (N, 3, 28, 28) in [0, 1]."""
    return ((pictures.cpu() + 1) / 2).split(SIZE, dim=3)


def scene_agreement(
    model: TextToImage,
    schedule: NoiseSchedule,
    scenes: Sequence[Scene],
    language: str,
    reader: DigitReader,
    guidance_scale: float = 3.0,
    **options: int,
) -> Tensor:
    """Asks a model for scenes in a language, the wordings in turn: does each picture show its scene? bool, (N,).

    options: num_steps and seed, as of generate
    """
    prompts = [caption_of(scene, language, wording=i % 4) for i, scene in enumerate(scenes)]
    shape = (3, SIZE, SIZE * len(scenes[0]))
    pictures = draw_all(model, schedule, prompts, shape, guidance_scale, **options)
    digits_right, colours_right = judge_scenes(pictures, scenes, reader)
    return digits_right & colours_right
