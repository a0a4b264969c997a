"""The exercises of notebook 09: dynamic_threshold; the others are in cascade_09, prior_09 and vectors_09.py."""

import torch
from torch import Tensor

from ddpm_core.course.exercises import cascade_09, prior_09, vectors_09
from ddpm_core.course.exercises.compare import OBLONG, SQUARE, Compare, Exercise, NotYet, edited, noise

# ---- dynamic_threshold: colours that large guidance does not burn ----------------------------------------------------


def my_dynamic_threshold(x_0_hat, share):
    s = x_0_hat.abs().flatten(1).quantile(share, dim=1)
    s = s.clamp(min=1).reshape(-1, 1, 1, 1)
    return x_0_hat.clamp(-s, s) / s


def _threshold_spelled_out(x_0_hat, share):
    rows = x_0_hat.abs().flatten(1)
    s = rows.quantile(share, dim=1).reshape(-1, 1, 1, 1)
    s = s.clamp(min=1)
    return x_0_hat.clamp(-s, s) / s


def _threshold_cases() -> list[tuple[Tensor, float]]:
    """Pictures of all contrasts: in each batch one is mostly beyond 1, and one is pale but for a few numbers."""
    pictures = [noise(*shape, seed=seed) for seed, shape in enumerate((SQUARE, OBLONG, (4, 3, 4, 6)), start=1)]
    for each, off in zip(pictures, (-0.6, 0.5, -0.3), strict=True):
        each[0] = 4 * each[0] + 3 * off
        each[1] *= 0.3
        each[1, 0, 0, 0], each[1, 0, 1, 2] = 1.7, -1.4
        each[2:] = 1.8 * each[2:] + off
    pictures[1] = pictures[1].flip(0)
    return list(zip(pictures, (0.83, 0.63, 0.92), strict=True))


def _thresholded(output: object, x_0_hat: Tensor, share: float) -> object:
    if isinstance(output, Tensor) and output.shape in ((len(x_0_hat),), (len(x_0_hat), 1, 1, 1)):
        raise NotYet(
            "it returns one number per picture, such as s; return the pictures, cut off at s and divided by it."
        )
    if callable(output):
        raise NotYet("it returns a function, as the package's own does; return the pictures.")
    return output


def _kept_where_small(x_0_hat, share):
    s = x_0_hat.abs().flatten(1).quantile(share, dim=1).reshape(-1, 1, 1, 1)
    return torch.where(s > 1, x_0_hat.clamp(-s, s) / s, x_0_hat)


def _of_both_tails(x_0_hat, share):
    rows = x_0_hat.flatten(1)
    s = torch.maximum(rows.quantile(share, dim=1), -rows.quantile(1 - share, dim=1)).clamp(min=1).reshape(-1, 1, 1, 1)
    return x_0_hat.clamp(-s, s) / s


_cut, _s = "x_0_hat.clamp(-s, s) / s", "rows.quantile(share, dim=1).reshape(-1, 1, 1, 1)"
_least = "s = s.clamp(min=1)"
_A_PICTURE_HAS_ONE = "Each picture has one s, for all its channels and pixels: flatten(1), then dim=1."

DYNAMIC_THRESHOLD = Exercise(
    answer=my_dynamic_threshold,
    general="dynamic_threshold",
    general_is="takes share alone, and returns the function that samplers want as clip_x_0",
    on_shapes="s is one number per picture, (B,), and goes with pictures (B, C, H, W) as (B, 1, 1, 1): reshape it.",
    hint=(
        "x_0_hat.abs().flatten(1) has a picture in each row, and quantile(share, dim=1) finds the number that this "
        "share of a row does not exceed. Nothing below 1: clamp(min=1). As (B, 1, 1, 1), s is the bound of a clamp on "
        "both sides, and then the divisor."
    ),
    sketch=(
        "s = x_0_hat.abs().flatten(...).quantile(..., dim=...)\n"
        "s = s.clamp(min=...).reshape(-1, 1, 1, 1)\n"
        "return x_0_hat.clamp(..., ...) / ..."
    ),
    examine=Compare(
        _threshold_spelled_out,
        cases=_threshold_cases(),
        to_tensor=_thresholded,
        # What lies between two of the numbers may be taken for the quantile, or either of the two.
        alternatives=[
            edited(_threshold_spelled_out, "dim=1)", f'dim=1, interpolation="{name}")')
            for name in ("lower", "higher", "nearest", "midpoint")
        ],
        on_nan="is there 0 / 0, or a root of a negative number? s is at least 1, and may divide everything.",
        bugs={
            (_cut, "x_0_hat.clamp(-1, 1)"): (
                "that is static clipping: everything beyond 1 becomes 1, so that with a large guidance scale whole "
                "areas turn into one flat colour. Cut off at s, where s is above 1, and divide by s. (Numbers that "
                "were clipped before s is looked for also give this.)"
            ),
            (_cut, "x_0_hat.clamp(-1, 1) / s"): (
                "x_0_hat is cut off at 1 before it is divided, so that the flat areas of static clipping are there, "
                "and darker. Cut off at s: clamp(-s, s) / s."
            ),
            (_cut, "x_0_hat / s"): (
                "nothing is cut off: the numbers beyond s are beyond 1 after the division, too: clamp(-s, s) / s."
            ),
            (_cut, "x_0_hat / s", f"    {_least}\n", ""): (
                "there are two slips: nothing is cut off at s, and s may be below 1, which blows up pale pictures."
            ),
            (_cut, "x_0_hat.clamp(-s, s)"): (
                "the division is forgotten: the numbers end at -s and s. Dividing by s brings them back to 1, with all "
                "that lies between."
            ),
            (_cut, "(x_0_hat / s).clamp(-s, s)"): (
                "the order is wrong: after the division the bounds are -1 and 1. Either clamp(-s, s) / s, or first / s "
                "and then clamp(-1, 1)."
            ),
            (_cut, "x_0_hat.clamp(-s, s) / s / s"): "it is divided by s twice.",
            (_cut, "x_0_hat.clamp(-s, s) * s"): "it is multiplied with s; divide by it.",
            (_cut, "x_0_hat.clamp(max=s) / s"): (
                "only what is above s is cut off; below -s the numbers are out of range just as well: clamp(-s, s)."
            ),
            (_cut, "x_0_hat.clamp(min=-s) / s"): "only what is below -s is cut off; above s, too: clamp(-s, s).",
            (_cut, "x_0_hat.clamp(torch.zeros_like(s), s) / s"): (
                "everything below 0 is cut off, and that is all that is darker than grey: clamp(-s, s)."
            ),
            (_cut, "x_0_hat.abs().clamp(max=s) / s"): (
                "the signs are lost: abs() is for the search for s alone, and black would become white."
            ),
            (f"    {_least}\n", ""): (
                "s may be below 1: a pale picture, whose numbers are all near 0, is blown up to full contrast. s is at "
                "least 1."
            ),
            ("clamp(min=1)", "clamp(max=1)"): (
                "s is at most 1, and should be at least 1: clamp(min=1). This blows up pale pictures, and cuts off "
                "strong ones as static clipping does."
            ),
            (_least, "s = s + 1"): "1 is added to s; s is the larger of the two: clamp(min=1).",
            _kept_where_small: (
                "a picture whose s is below 1 comes back as it is, with the few numbers that are beyond 1. For it, s "
                "is 1, and they are cut off: s.clamp(min=1)."
            ),
            (_s, _s.replace("rows", "x_0_hat.flatten(1)")): (
                "s comes from the numbers with their signs, so that -5 counts as small, and dark areas stay burnt: "
                "abs() first."
            ),
            _of_both_tails: (
                "the quantile is looked for above and below, each with this share. It is one, of the absolute values: "
                "abs() first."
            ),
            ("rows.quantile(share", "rows.square().quantile(share"): (
                "s is the quantile of squares; take it of the absolute values."
            ),
            ("quantile(share", "quantile(1 - share"): (
                "1 - share stands where share belongs: s would be a number that nearly all exceed."
            ),
            (_s, "rows.quantile(share)"): (
                "there is one s for the whole batch, so that a picture's colours depend on which others are drawn "
                f"beside it. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, f"{_s}.max()"): (
                "the largest s of the batch is used for all, so that a picture's colours depend on which others are "
                f"drawn beside it. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, f"{_s}.mean()"): f"the mean s of the batch is used for all. {_A_PICTURE_HAS_ONE}",
            (_s, f"{_s}[:1]"): f"the s of the first picture is used for all. {_A_PICTURE_HAS_ONE}",
            (_s, "x_0_hat.abs().quantile(share, dim=1, keepdim=True)"): (
                f"every pixel has an s of its own, over its channels. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, "x_0_hat.abs().flatten(2).quantile(share, dim=2)[..., None, None]"): (
                "every channel has an s of its own, so that the colours shift: a red picture would lose its red. "
                f"{_A_PICTURE_HAS_ONE}"
            ),
            (_s, "x_0_hat.abs().quantile(share, dim=2, keepdim=True)"): (
                f"every column of pixels has an s of its own. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, "x_0_hat.abs().quantile(share, dim=3, keepdim=True)"): (
                f"every row of pixels has an s of its own. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, "x_0_hat.abs().quantile(share, dim=0, keepdim=True)"): (
                f"every place has an s of its own, over the pictures of the batch. {_A_PICTURE_HAS_ONE}"
            ),
            (_s, "rows.amax(dim=1).reshape(-1, 1, 1, 1)"): (
                "s is the largest number, so that one wild pixel makes the whole picture pale; take the quantile, "
                "which leaves a few numbers out."
            ),
            (_s, "share * rows.amax(dim=1).reshape(-1, 1, 1, 1)"): (
                "s is this share of the largest number; it should be the number that this share of all does not "
                "exceed: quantile(share, dim=1)."
            ),
            (_s, "rows.mean(dim=1).reshape(-1, 1, 1, 1)"): "s is the mean; take the quantile.",
            (_s, "torch.full_like(rows[:, :1, None, None], share)", f"    {_least}\n", ""): (
                "share itself stands where s belongs: s is the number that this share of a picture's does not exceed, "
                "quantile(share, dim=1)."
            ),
        },
    ),
)

EXERCISES = (
    DYNAMIC_THRESHOLD,
    cascade_09.SUPER_RESOLVER_INPUT,
    prior_09.BEST_CANDIDATE,
    vectors_09.TEXT_DIFFERENCE,
)
