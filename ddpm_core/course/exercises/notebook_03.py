"""The exercises of notebook 03: time_embedding, residual_block, middle_shape."""

import torch
import torch.nn.functional as F

from ddpm_core.blocks import ResidualBlock
from ddpm_core.course.exercises.compare import Answer, Compare, Exercise, NotYet, check_output, edited, noise
from ddpm_core.support.guards import describe

# ---- time_embedding: sines and cosines of t --------------------------------------------------------------------------


def my_time_embedding(t, num_sinusoids):
    half = num_sinusoids // 2
    i = torch.arange(half, device=t.device)
    angles = t[:, None] * 10_000 ** (-i / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


_EACH_FREQUENCY = "sines and cosines are of different frequencies: each of the half frequencies needs both."


def _check_sign(answer: Answer) -> None:
    """At the first steps, as float32 rounds angles that rise to a million in a way of its own."""
    case = torch.tensor([0, 1]), 16
    rising = edited(my_time_embedding, "-i", "i")(*case)
    if torch.allclose(check_output(answer(*case), rising, case).float(), rising, 1e-2, 1e-3):
        raise NotYet(
            "the frequencies rise from 1 towards 10,000, so that a step more turns most angles all the way round. They "
            "should fall towards 1 / 10,000: mind the sign of the exponent."
        )


TIME_EMBEDDING = Exercise(
    answer=my_time_embedding,
    general="TimeEmbedding",
    hint="A column of steps (B, 1) times a row of frequencies (half,) is a table of angles (B, half).",
    sketch=(
        "half = num_sinusoids // 2\ni = torch.arange(..., device=t.device)\n"
        "angles = t[:, None] * 10_000 ** (...)\nreturn torch.cat([..., ...], dim=1)"
    ),
    examine=Compare(
        my_time_embedding,
        cases=[(torch.tensor([0, 1, 7, 150, 999]), 16), (torch.tensor([3, 42]), 8)],
        rtol=1e-2,  # of an angle of 999 float32 keeps four digits after the point
        atol=1e-3,
        first=_check_sign,
        bugs={
            ("angles.sin(), angles.cos()", "angles.cos(), angles.sin()"): (
                "cosines and sines have changed places: the first half are the sines."
            ),
            ("cat", "stack", "dim=1)", "dim=2).flatten(1)"): (
                "sines and cosines alternate. That works as well as ours, but here the first half are the sines and "
                "the second half the cosines: torch.cat([angles.sin(), angles.cos()], dim=1)."
            ),
            ("/ half", "/ num_sinusoids"): (
                "the exponent runs over all num_sinusoids, but there are only half as many frequencies: divide i by "
                "half."
            ),
            ("/ half", "/ (half - 1)"): (
                "the last exponent is -1, from dividing by half - 1; here i is divided by half."
            ),
            ("angles.", "(2 * torch.pi * angles)."): (
                "the angles carry a factor of 2 pi, which is not in this formula."
            ),
            ("-i / half", "-2 * i / half"): (
                "the exponent is -2 i / half, and falls twice as fast as it should: -i / half, which is -2 i / "
                "num_sinusoids."
            ),
            ("arange(half", "arange(1, half + 1"): (
                "i goes from 1 to half; it should go from 0 to half - 1, so that the first frequency is 1."
            ),
            (
                "arange(half",
                "arange(num_sinusoids",
                "/ half",
                "/ num_sinusoids",
                "s.sin",
                "s[:, ::2].sin",
                "s.cos",
                "s[:, 1::2].cos",
            ): _EACH_FREQUENCY,
            (
                "arange(half",
                "arange(num_sinusoids",
                "/ half",
                "/ num_sinusoids",
                "s.sin",
                "s[:, :half].sin",
                "s.cos",
                "s[:, half:].cos",
            ): _EACH_FREQUENCY,
            ("t[:, None]", "(t[:, None] + 1)"): "the angles belong to t + 1; steps are counted from 0, as t is.",
            ("10_000", "torch.e"): "the base is e; it should be 10,000, and exp(-log(10_000) * i / half) is the same.",
            ("10_000", "1_000"): "the base is 1,000; it should be 10,000.",
            (".sin", ".cos"): "both halves are cosines; the first half should be sines.",
            ("cos", "sin"): "both halves are sines; the second half should be cosines.",
            (".sin()", "", ".cos()", ""): "these are the angles; their sines and cosines are wanted.",
        },
    ),
)

# ---- residual_block: norm, silu, convolution, twice ------------------------------------------------------------------


def my_residual_block(block, x, embedding):
    h = block.conv_1(F.silu(block.norm_1(x)))
    scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
    h = block.norm_2(h) * (1 + scale) + shift
    h = block.conv_2(F.silu(h))
    return block.shortcut(x) + h


def _new_block(in_channels: int, out_channels: int) -> ResidualBlock:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = ResidualBlock(in_channels, out_channels, embedding_dim=12)
        for weight in block.parameters():  # none at 0 or 1, so that every part of it counts
            torch.nn.init.normal_(weight, std=0.3)
    return block.requires_grad_(False)


_NARROW, _WIDE = 8, 16


def _help_on_channels(message: str) -> str:
    if f"({_NARROW})" in message and f"({_WIDE})" in message:
        return "x and h have different numbers of channels here: that is what block.shortcut(x) is for."
    return "scale and shift need the shape (B, C, 1, 1): [:, :, None, None], then .chunk(2, dim=1)."


RESIDUAL_BLOCK = Exercise(
    answer=my_residual_block,
    general="ResidualBlock",
    on_shapes=_help_on_channels,
    hint="Twice norm, silu, convolution; scale and shift come right after the second norm; the shortcut last.",
    sketch=(
        "h = block.conv_1(F.silu(...))\nscale, shift = block.scale_shift(...)[:, :, None, None].chunk(2, dim=1)\n"
        "h = block.norm_2(h) * (...) + ...\nh = block.conv_2(...)\nreturn ... + h"
    ),
    examine=Compare(
        my_residual_block,
        cases=[
            (_new_block(_NARROW, _WIDE), noise(3, _NARROW, 4, 6, seed=3), noise(3, 12, seed=4)),
            (_new_block(_NARROW, _NARROW), noise(4, _NARROW, 4, 4, seed=5), noise(4, 12, seed=6)),
        ],
        bugs={
            ("block.shortcut(x) + ", ""): "the shortcut is missing: at the end, add block.shortcut(x).",
            ("(1 + scale)", "scale"): (
                "h is multiplied with scale; it should be 1 + scale, so that a scale of 0 changes nothing."
            ),
            ("scale, shift =", "shift, scale ="): (
                "scale and shift have changed places: the first half of block.scale_shift is the scale."
            ),
            (" * (1 + scale) + shift", ""): "the time embedding is not heard: scale and shift must change h.",
            (" + shift", ""): "the shift is missing: h * (1 + scale) + shift.",
            (" * (1 + scale)", ""): "the scale is missing: h * (1 + scale) + shift.",
            ("F.silu(embedding)", "embedding"): "the embedding goes through F.silu before block.scale_shift.",
            ("F.silu(block", "(block"): "the F.silu before conv_1 is missing: norm, silu, convolution.",
            ("F.silu(h)", "h"): "the F.silu before conv_2 is missing.",
            ("F.silu(block", "(block", "F.silu(h)", "h"): (
                "both activations are missing on the way of the picture: norm, silu, convolution, twice."
            ),
            ("F.silu", "F.relu"): "the activation is relu; here it is silu.",
            ("F.silu", "F.gelu"): "the activation is gelu; here it is silu.",
            ("F.silu(block.norm_1(x))", "block.norm_1(F.silu(x))"): (
                "F.silu comes before norm_1: norm, silu, convolution."
            ),
            ("norm_2(h)", "norm_2(F.silu(h))", "conv_2(F.silu(h))", "conv_2(h)"): (
                "F.silu comes before norm_2: norm, scale and shift, silu, convolution."
            ),
            ("block.norm_2(h) *", "F.silu(block.norm_2(h)) *", "conv_2(F.silu(h))", "conv_2(h)"): (
                "F.silu comes before scale and shift: norm, scale and shift, silu, convolution."
            ),
            ("block.conv_2(F.silu(h))", "F.silu(h)"): "conv_2 is missing at the end.",
            ("block.shortcut(x) + h", "F.silu(block.shortcut(x) + h)"): (
                "an activation comes after the sum; the block ends with the sum."
            ),
            ("block.shortcut(x)", "block.shortcut(block.norm_1(x))"): (
                "the shortcut takes what norm_1 returns; it takes x itself."
            ),
            ("block.scale_shift(F.silu(embedding))", "F.silu(block.scale_shift(embedding))"): (
                "F.silu comes after block.scale_shift; it comes before."
            ),
            (
                " * (1 + scale) + shift",
                " + scale + shift",
            ): "the scale is added; it multiplies: h * (1 + scale) + shift.",
            (" * (1 + scale) + shift", " * (1 + scale + shift)"): (
                "the shift multiplies, too; it is added: h * (1 + scale) + shift."
            ),
            (
                "block.norm_2(h) * (1 + scale) + shift",
                "F.silu(block.norm_2(h))",
                "block.conv_2(F.silu(h))",
                "block.conv_2(h) * (1 + scale) + shift",
            ): ("scale and shift come after conv_2; they come right after norm_2."),
            ("block.norm_1(x)", "x", "block.norm_2(h)", "h"): "both norms are missing: norm, silu, convolution, twice.",
            ("block.norm_1(x)", "x"): "norm_1 is missing: norm, silu, convolution.",
            ("block.norm_2(h)", "h"): "norm_2 is missing: it comes before scale and shift.",
            ("block.norm_2(h) * (1 + scale) + shift", "block.norm_2(h * (1 + scale) + shift)"): (
                "scale and shift come before norm_2, which takes them out again: first the norm, then scale and shift."
            ),
        },
    ),
)

# ---- middle_shape: what the middle of the U sees ---------------------------------------------------------------------


def middle_shape():
    channels, size = (32, 64, 128, 256), 96
    size = size // 2 ** (len(channels) - 1)  # halved between levels, so once less than there are levels
    return channels[-1], size, size


def _examine_middle_shape(value: object) -> None:
    try:
        numbers = [float(number) for number in value]
        shape = tuple(int(number) for number in numbers)
        if any(number != whole for number, whole in zip(numbers, shape, strict=True)):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise NotYet(f"three whole numbers are wanted, (C, H, W); this is {describe(value)}.") from None
    if len(shape) == 4 and shape[0] == 1:
        raise NotYet("one picture's shape is wanted, (C, H, W): leave out the batch.")
    if len(shape) != 3:
        raise NotYet(f"three numbers are wanted, (C, H, W); these are {len(shape)}.")
    _, H, _ = right = middle_shape()
    if shape == right:
        return
    if sorted(shape) == sorted(right) or shape[0] == shape[1] != shape[2]:
        raise NotYet("PyTorch's order is channels first: (C, H, W).")
    if shape[1] != shape[2]:
        raise NotYet("a square picture stays square all the way down: H and W are the same.")
    if shape[1] == 96:
        raise NotYet("the picture is not halved at all; between two levels it is halved, height and width.")
    halved = [96 // 2**times for times in range(7)]
    if shape[1] != H and shape[1] in halved:
        halvings = "1 halving" if shape[1] == halved[1] else f"{halved.index(shape[1])} halvings"
        in_patches = (
            " (It would be 6 with patches of 2 x 2; here pixels are taken as they are.)" if shape[1] == 6 else ""
        )
        raise NotYet(f"{shape[1]} is 96 after {halvings}; four levels have three steps down between them.{in_patches}")
    if shape[1] == H:
        raise NotYet(
            f"height and width are right, but not the {shape[0]} channels: the middle is as wide as the last level."
        )
    raise NotYet("halve 96 once between two levels, and take the channels of the last level.")


MIDDLE_SHAPE = Exercise(
    answer=middle_shape,
    value="my_middle",
    examine=_examine_middle_shape,
    hint="How often is a picture halved on its way down through four levels?",
    sketch="my_middle = (channels of the last level, 96 / 2 / ..., 96 / 2 / ...)",
)

EXERCISES = TIME_EMBEDDING, RESIDUAL_BLOCK, MIDDLE_SHAPE
