"""The exercise of notebook 09 on what the second network of a cascade reads: super_resolver_input."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.course.exercises.compare import Answer, Compare, Exercise, NotYet, noise

# ---- super_resolver_input: the small picture, less certain, and how uncertain it is ----------------------------------


def my_super_resolver_input(x_t, low, level, noise):
    level = level.reshape(-1, 1, 1, 1)
    low = (1 - level**2).sqrt() * low + level * noise
    enlarged = torch.nn.functional.interpolate(low, x_t.shape[2:], mode="bicubic")
    return torch.cat([x_t, enlarged, level.expand_as(x_t[:, :1])], dim=1)


def _input_spelled_out(x_t, low, level, noise):
    told = level.reshape(-1, 1, 1, 1)
    less_sure = (1 - told**2).sqrt() * low + told * noise
    enlarged = F.interpolate(less_sure, x_t.shape[2:], mode="bicubic")
    plane = told.expand_as(x_t[:, :1])
    return torch.cat([x_t, enlarged, plane], dim=1)


def _case(B: int, C: int, low_size: tuple[int, int], factor: int, level: Tensor, seed: int) -> tuple[Tensor, ...]:
    h, w = low_size
    low = noise(B, C, h, w, seed=seed).tanh()
    return noise(B, C, factor * h, factor * w, seed=seed + 1), low, level, noise(B, C, h, w, seed=seed + 2)


_cases = [
    _case(3, 3, (4, 6), 3, torch.tensor([0.7, 0.25, 0.5]), seed=4),
    _case(4, 1, (5, 4), 2, torch.tensor([0.4, 0.0, 0.9, 0.15]), seed=1),
    _case(2, 2, (3, 3), 4, torch.tensor([0.1, 1.0]), seed=7),
]


def _input(output: object, x_t: Tensor, low: Tensor, level: Tensor, noise: Tensor) -> object:
    if isinstance(output, (tuple, list)):
        raise NotYet("it returns several things; join them along the channels: torch.cat([...], dim=1).")
    if not isinstance(output, Tensor) or output.ndim != 4:
        return output  # what is compared says so
    (B, C, H, W), (b, channels) = x_t.shape, output.shape[:2]
    if b > B:
        raise NotYet(
            "the parts are joined along the batch; the network reads them as channels: torch.cat([...], dim=1)."
        )
    if tuple(output.shape) == tuple(low.shape):
        raise NotYet("it returns only the small picture; x_t, that one enlarged, and level's plane are joined.")
    if output.shape[2:] != (H, W) or channels == 2 * C + 1:
        return output
    if channels == C:
        raise NotYet(
            f"it returns {C} channels, as many as x_t has; the parts stand side by side, for the network to make of "
            "them what it likes: torch.cat([x_t, ..., ...], dim=1)."
        )
    if channels == 2 * C:
        raise NotYet(
            f"it returns {channels} channels, twice as many as x_t has: the plane with level is missing. Without it "
            "the network cannot know how much of the small picture to believe."
        )
    if channels == C + 1:
        raise NotYet(
            f"it returns {channels} channels, one more than x_t has: a picture is missing, x_t or the enlarged."
        )
    if channels == 3 * C:
        raise NotYet(
            f"it returns {channels} channels: level takes a single one, and not one per channel of the picture."
        )
    return output


def _check_parts(answer: Answer) -> None:
    """Where no bug fits: which of the parts is wrong, where it is not all of them."""
    case = _cases[0]
    given, expected = answer(*case), _input_spelled_out(*case)
    C = case[0].shape[1]
    names = "x_t", "the small picture with its noise, enlarged,", "level's plane"
    pieces = [C, C, 1]
    pairs = zip(names, given.split(pieces, dim=1), expected.split(pieces, dim=1), strict=True)
    wrong = [name for name, mine, right in pairs if not torch.allclose(mine.float(), right, 1e-3, 1e-4)]
    if len(wrong) == 1:
        raise NotYet(f"the shape is right, and so are two of the three parts; {wrong[0]} is not.")


_signal, _augmented = "(1 - told**2).sqrt() * low", "(1 - told**2).sqrt() * low + told * noise"
_enlarge, _joined = 'F.interpolate(less_sure, x_t.shape[2:], mode="bicubic")', "[x_t, enlarged, plane]"
_KEPT = "The factors are sqrt(1 - level**2) and level: their squares add up to 1, which keeps the variance"
_ORDER = "first x_t, then the enlarged picture, then level's plane. A network knows its channels by their places."

SUPER_RESOLVER_INPUT = Exercise(
    answer=my_super_resolver_input,
    general="SuperResolver",
    general_is="does the second half in its forward, and augmented does the first",
    on_shapes=(
        "level, (B,), goes with pictures as (B, 1, 1, 1). The noise belongs to the small picture, before it is "
        "enlarged to the size of x_t, x_t.shape[2:]; and level's plane is as large as x_t, with one channel."
    ),
    hint=(
        "level becomes (B, 1, 1, 1). The small picture and noise are mixed by factors whose squares add up to 1, as in "
        "add_noise, only that level is the factor of the noise itself. interpolate enlarges to x_t.shape[2:]; "
        "expand_as(x_t[:, :1]) makes a plane of level; torch.cat joins along dim=1."
    ),
    sketch=(
        "level = level.reshape(...)\n"
        "low = (...).sqrt() * low + ... * noise\n"
        'enlarged = torch.nn.functional.interpolate(low, ..., mode="bicubic")\n'
        "return torch.cat([..., ..., level.expand_as(x_t[:, :1])], dim=...)"
    ),
    examine=Compare(
        _input_spelled_out,
        cases=_cases,
        to_tensor=_input,
        last=_check_parts,
        on_nan="is there a root of a negative number? level goes from 0 to 1, and 1 - level**2 is never below 0.",
        bugs={
            (_augmented, "(1 - told) * low + told * noise"): (
                f"low and noise are mixed as 1 - level and level, so that the picture loses contrast. {_KEPT}."
            ),
            (_augmented, "low + told * noise"): (
                f"the noise comes on top of the small picture, whose variance grows with level. {_KEPT}."
            ),
            (_augmented, "(1 - told).sqrt() * low + told.sqrt() * noise"): (
                "level is taken for a variance; it is a deviation, the factor of noise itself. The factors are sqrt(1 "
                "- level**2) and level."
            ),
            (_augmented, "(1 - told).sqrt() * low + told * noise"): (
                f"a square is missing under the root, sqrt(1 - level). {_KEPT}."
            ),
            (_augmented, "(1 - told**2) * low + told * noise"): f"low's factor lacks its root. {_KEPT}.",
            (_augmented, "(1 - told**2) * low + told**2 * noise"): (
                f"both factors are variances: their roots are missing. {_KEPT}."
            ),
            (_augmented, f"{_signal} + told**2 * noise"): (
                f"level is squared in front of noise; only under the root does its square stand. {_KEPT}."
            ),
            (_augmented, "(1 - told**4).sqrt() * low + told**2 * noise"): (
                f"level is squared once too often, in both places. {_KEPT}."
            ),
            (_augmented, f"{_signal} + told.sqrt() * noise"): f"noise gets the root of level. {_KEPT}.",
            (_augmented, "(1 + told**2).sqrt() * low + told * noise"): f"level**2 is added under the root. {_KEPT}.",
            (_augmented, f"{_signal} - told * noise"): "noise is subtracted; with the noise that is given, add it.",
            (_augmented, f"{_signal} + noise"): f"noise comes in at full strength, whatever level is. {_KEPT}.",
            (_augmented, _signal): "the small picture is shrunk, and no noise comes in its place: + level * noise.",
            (_augmented, "told * low + (1 - told**2).sqrt() * noise"): (
                "the two factors have changed places: level 0 should leave the small picture as it is."
            ),
            (_augmented, "(low + told * noise) / (1 + told**2).sqrt()"): (
                "this keeps the variance, but half of it is still picture at level 1, where nothing should be left: "
                "the factors are sqrt(1 - level**2) and level."
            ),
            (_augmented, "low"): (
                "no noise is added to the small picture, while level says that there is some: the network would learn "
                "to believe every pixel of it, and at drawing time every flaw of the first network."
            ),
            (_augmented, "noise"): "noise stands in the place of the small picture; mix the two.",
            (_augmented, "told * low"): (
                "the small picture is multiplied with level; it is noise that has this factor, and low sqrt(1 - "
                "level**2)."
            ),
            (_augmented, f"({_augmented}).clamp(-1, 1)"): (
                "the small picture is clipped after the noise is added. The network should see noise as noise is."
            ),
            ("told = level", "told = level[:1].expand_as(level)"): (
                "the level of the first picture is used for all; each has its own."
            ),
            ("told = level", "told = level.mean().expand_as(level)"): (
                "the mean level of the batch is used for all; each picture has its own."
            ),
            (_augmented, _augmented.replace("told", "level[0]")): (
                "the small pictures all get noise of the first one's level; each has its own."
            ),
            (_augmented, _augmented.replace("told", "level.mean()")): (
                "the small pictures all get noise of the mean level; each has its own."
            ),
            ("plane = told", "plane = (0 * told)"): (
                "the plane says level 0, a clean picture, whatever noise there is; the network must be told the level."
            ),
            (
                "plane = told",
                "plane = (1 + 0 * told)",
            ): "the plane is 1 everywhere; the network must be told the level.",
            ("plane = told", "plane = (told**2)"): "the plane has the square of level; tell level itself.",
            ("plane = told", "plane = told.sqrt()"): "the plane has the root of level; tell level itself.",
            ("plane = told", "plane = (1 - told)"): "the plane says 1 - level; tell level itself.",
            ("plane = told", "plane = (1 - told**2).sqrt()"): (
                "the plane has the factor of the picture, sqrt(1 - level**2); tell level itself, the factor of noise."
            ),
            ("plane = told", "plane = level[0]"): "the plane says the first picture's level in all of them.",
            (
                "plane = told",
                "plane = level.mean().reshape(1, 1, 1, 1)",
            ): "the plane says the mean level in all of them; each has its own.",
            (_enlarge, 'F.interpolate(less_sure, x_t.shape[2:], mode="nearest")'): (
                'the small picture is enlarged in squares of one colour, mode="nearest", which is what interpolate '
                'does unless told otherwise. mode="bicubic" is asked for here.'
            ),
            (_enlarge, 'F.interpolate(less_sure, x_t.shape[2:], mode="bilinear")'): (
                'the small picture is enlarged with mode="bilinear"; mode="bicubic" is asked for, which is sharper.'
            ),
            (_enlarge, 'F.interpolate(less_sure, x_t.shape[2:], mode="bicubic", align_corners=True)'): (
                "align_corners=True stretches the picture so that its corner pixels lie on the corners. Leave it out: "
                "a small pixel lies in the middle of those that it becomes."
            ),
            (_enlarge, 'F.interpolate(less_sure, x_t.shape[2:], mode="bicubic", antialias=True)'): (
                "antialias=True takes another curve for the weights; it is made for shrinking. Leave it out."
            ),
            (_enlarge, f"{_enlarge}.clamp(-1, 1)"): (
                "the enlarged picture is clipped, and with it the noise. Hand it over as it is."
            ),
            (_joined, "[enlarged, x_t, plane]"): f"the order is another one: {_ORDER}",
            (_joined, "[x_t, plane, enlarged]"): f"the order is another one: {_ORDER}",
            (_joined, "[plane, x_t, enlarged]"): f"the order is another one: {_ORDER}",
            (_joined, "[plane, enlarged, x_t]"): f"the order is another one: {_ORDER}",
            (_joined, "[enlarged, plane, x_t]"): f"the order is another one: {_ORDER}",
            (_joined, "[x_t - enlarged, enlarged, plane]"): (
                "the enlarged picture is subtracted from x_t; give x_t as it is. (It is what the network returns that "
                "is added to the enlarged picture.)"
            ),
            (_joined, "[x_t + enlarged, enlarged, plane]"): (
                "the enlarged picture is added to x_t; give x_t as it is. (It is what the network returns that is "
                "added to the enlarged picture.)"
            ),
            (_joined, "[x_t, x_t, plane]"): "x_t stands twice, and the enlarged picture is left out.",
            (_joined, "[enlarged, enlarged, plane]"): "the enlarged picture stands twice, and x_t is left out.",
        },
    ),
)
