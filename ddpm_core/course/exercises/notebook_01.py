"""The exercises of notebook 01: x_T, reverse_step, census."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, check_output, noise
from ddpm_core.support.guards import describe

# ---- x_T: the first noise --------------------------------------------------------------------------------------------


def x_T():
    generator = torch.Generator().manual_seed(7)
    return torch.randn(16, 3, 32, 32, generator=generator)


def _examine_x_T(value: object) -> None:
    right = x_T()
    if not isinstance(value, Tensor):
        raise NotYet(f"a tensor is wanted, from torch.randn; this is {describe(value)}.")
    value = value.detach().cpu()
    if sorted(value.shape) == sorted(right.shape) and value.shape != right.shape:
        raise NotYet(
            f"the shape is {tuple(value.shape)}. The order is batch, channels, height, width: {tuple(right.shape)}."
        )
    if value.shape != right.shape:
        raise NotYet(
            f"16 colour pictures of 32 x 32 have the shape {tuple(right.shape)}; this has {tuple(value.shape)}."
        )
    if not value.is_floating_point():
        raise NotYet(f"noise is made of floats; this is {describe(value)}.")
    value = value.double()
    if not value.isfinite().all():
        raise NotYet("some of the numbers are NaN or infinite.")
    if (value == value[0, 0, 0, 0]).all():
        raise NotYet(f"every number is {value[0, 0, 0, 0]:.4g}: draw them with torch.randn.")
    if len(value.flatten(1).unique(dim=0)) < 16:
        raise NotYet("some of the 16 pictures are the same noise: draw 16 pictures, and repeat none.")
    if torch.equal(value[:, 0], value[:, 1]) or torch.equal(value[:, 1], value[:, 2]):
        raise NotYet("the channels of a picture are the same noise, so that it is grey: draw all three of them.")
    mean, deviation = round(value.mean().item(), 2) + 0.0, value.std().item()  # + 0.0: never "-0.00"
    if value.min() >= 0 and value.max() <= 1:
        raise NotYet(
            "no number is below 0 or above 1: torch.rand draws evenly from 0 to 1, torch.randn from a Gaussian."
        )
    if value.abs().max() <= 1:
        raise NotYet("no number is beyond -1 and 1, so this is no Gaussian: use torch.randn, and no clamp.")
    as_it_comes = "torch.randn is right as it comes: add nothing and multiply with nothing."
    if abs(mean) > 0.03 or abs(deviation - 1) > 0.03:
        raise NotYet(
            f"a standard Gaussian has mean 0 and deviation 1; here they are {mean:.2f} and {deviation:.2f}. "
            f"{as_it_comes}"
        )
    right = right.double()
    if torch.allclose(value, right, atol=1e-5):
        return
    if torch.corrcoef(torch.stack([value.flatten(), right.flatten()]))[0, 1].abs() > 0.99:
        raise NotYet(f"this is the noise of seed 7, but changed afterwards. {as_it_comes}")
    if torch.allclose(value.flatten().sort().values, right.flatten().sort().values, atol=1e-5):
        raise NotYet(
            f"these are the numbers of seed 7, but in another order: draw them in the shape {tuple(right.shape)}, and "
            "leave them where they are."
        )
    if not torch.cuda.is_available():  # drawn on a GPU, seed 7 gives other numbers
        raise NotYet(
            "mean and deviation are right, but the numbers are not what seed 7 gives. Make generator = "
            "torch.Generator().manual_seed(7) and hand it on: torch.randn(..., generator=generator), one draw of all "
            "numbers, in float32."
        )


X_T = Exercise(
    answer=x_T,
    value="my_x_T",
    examine=_examine_x_T,
    hint="torch.randn takes the shape, batch first, and a generator that you have seeded.",
    sketch="generator = torch.Generator().manual_seed(...)\nmy_x_T = torch.randn(..., generator=generator)",
)

# ---- reverse_step: one step back -------------------------------------------------------------------------------------


def my_reverse_step(x_t, eps_hat, alpha, alpha_bar, beta):
    return (x_t - beta / (1 - alpha_bar) ** 0.5 * eps_hat) / alpha**0.5


_numbers = (1.0, 0.5, 0.9, 0.5, 0.1), (-0.3, 1.2, 0.98, 0.9, 0.02), (0.7, -0.4, 0.7, 0.2, 0.3)

REVERSE_STEP = Exercise(
    answer=my_reverse_step,
    general="ddpm_step",
    hint="Take a share of the predicted noise away, then undo the shrinking of this one step: see naive_sample.",
    sketch="share = beta / (...) ** 0.5\nreturn (x_t - share * ...) / ... ** 0.5",
    examine=Compare(
        my_reverse_step,
        cases=_numbers,  # plain numbers, as a call in the notebook has them
        may_ignore=("alpha", "beta"),  # each is 1 minus the other
        bugs={
            ("beta / (1 - alpha_bar) ** 0.5 * ", "", " / alpha**0.5", ""): (
                "x_t - eps_hat takes away all the noise at once, and unscaled. One step takes away only the share "
                "beta / sqrt(1 - alpha_bar) of it."
            ),
            ("beta / (1 - alpha_bar) ** 0.5 * ", ""): (
                "x_t - eps_hat takes away too much: one step takes away only the share beta / sqrt(1 - alpha_bar)."
            ),
            (" / (1 - alpha_bar) ** 0.5", ""): (
                "eps_hat is multiplied with beta alone; its share is beta / sqrt(1 - alpha_bar)."
            ),
            ("beta /", "1 /"): "beta is missing: the share of eps_hat is beta / sqrt(1 - alpha_bar).",
            ("beta / (1 - alpha_bar) ** 0.5", "(1 - alpha_bar) ** 0.5 / beta"): (
                "the share of eps_hat stands on its head: beta / sqrt(1 - alpha_bar)."
            ),
            ("beta / (1 - alpha_bar)", "(1 - alpha_bar)"): (
                "sqrt(1 - alpha_bar) * eps_hat is all the noise that has gathered; one step takes away only the share "
                "beta / sqrt(1 - alpha_bar) of eps_hat."
            ),
            ("(x_t -", "x_t -", "eps_hat)", "eps_hat"): (
                "only the noise is divided by sqrt(alpha): the brackets around x_t - ... * eps_hat are missing."
            ),
            ("(x_t - beta / (1 - alpha_bar) ** 0.5 * eps_hat) /", "beta**0.5 * eps_hat + x_t *"): (
                "this is a step of noising, from x_{t-1} to x_t. The way back takes noise away and divides."
            ),
            (" / alpha**0.5", ""): (
                "the division by sqrt(alpha) is missing: each forward step shrank the picture, and the way back must "
                "let it grow again."
            ),
            ("alpha**0.5", "alpha"): "the root is missing over alpha: the step divides by sqrt(alpha).",
            ("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)"): (
                "the root is missing in beta / sqrt(1 - alpha_bar): 1 - alpha_bar is a variance, and eps_hat is "
                "measured in deviations."
            ),
            ("/ alpha", "* alpha"): "this multiplies by sqrt(alpha), as the forward step does; the way back divides.",
            ("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)", "alpha**0.5", "alpha"): "both square roots are missing.",
            ("(1 - alpha_bar)", "alpha_bar"): "sqrt(alpha_bar) stands where sqrt(1 - alpha_bar) belongs.",
            ("x_t -", "x_t +"): "the noise is added where it should be taken away: mind the sign of eps_hat.",
            ("beta / (1 - alpha_bar)", "(1 - alpha_bar)", "alpha**0.5", "alpha_bar**0.5"): (
                "that is x_0_hat, the leap to the clean picture. One step back goes only a little of the way."
            ),
            ("1 - alpha_bar", "1 - alpha"): (
                "the share of eps_hat comes out as sqrt(beta), which is beta / sqrt(1 - alpha). It should be beta / "
                "sqrt(1 - alpha_bar): the noise in x_t has gathered over all steps so far, with variance 1 - alpha_bar."
            ),
            ("1 - alpha_bar", "1 - alpha", "alpha**0.5", "alpha_bar**0.5"): (
                "alpha and alpha_bar have changed places: 1 - alpha_bar is the variance of the noise that has "
                "gathered, and sqrt(alpha) what this one step shrank the picture by."
            ),
            ("alpha**0.5", "alpha_bar**0.5"): (
                "alpha_bar stands where alpha belongs: undo the shrinking of this one step, sqrt(alpha)."
            ),
            ("beta /", "beta**0.5 /"): "the root goes over beta, too; it goes over 1 - alpha_bar alone.",
        },
    ),
)

# ---- census: how many samples went to each town ----------------------------------------------------------------------


def my_census(points, centres):
    nearest = torch.cdist(points, centres).argmin(dim=1)
    towns = [points[nearest == k] for k in range(len(centres))]
    shares = torch.tensor([len(town) / len(points) for town in towns])
    deviations = torch.stack([town.std(dim=0).mean() for town in towns])
    return shares, deviations


def _towns(centres: Sequence, counts: Sequence[int], deviation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points around centres (K, 2), so many around each, in mixed order; and the centres."""
    centres = torch.tensor(centres)
    points = centres.repeat_interleave(torch.tensor(counts), dim=0)
    points = points + deviation * noise(*points.shape, seed=seed)
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))], centres


def _joined(output: object, points: Tensor, centres: Tensor) -> Tensor:
    """Shares and deviations as two rows, so that they are compared together. Raises NotYet where they are no pair."""
    two_rows = isinstance(output, Tensor) and output.ndim == 2  # they unpack as two things do
    if not (two_rows or isinstance(output, (tuple, list))) or len(output) != 2:
        raise NotYet(f"it should return two things, shares and deviations; it returns {describe(output)}.")
    parts = zip(output, ("the shares: it", "the deviations: it"), strict=True)
    return torch.stack(
        [check_output(_as_row(part), centres[:, 0], (points, centres), what).double() for part, what in parts]
    )


def _as_row(numbers: object) -> object:
    """Numbers as floats of one tensor, if they are any, in a list, an array or a tensor."""
    if isinstance(numbers, (list, tuple, np.ndarray)):
        try:
            return torch.tensor([float(number) for number in numbers])
        except (TypeError, ValueError):
            return numbers
    return numbers.double() if isinstance(numbers, Tensor) else numbers


CENSUS = Exercise(
    answer=my_census,
    hint="torch.cdist is the table of all distances; its argmin along the towns says where each point belongs.",
    sketch=(
        "nearest = torch.cdist(points, centres).argmin(dim=...)\n"
        "towns = [points[nearest == k] for k in range(...)]\n"
        "shares = torch.tensor([len(town) / ... for town in towns])\n"
        "deviations = torch.stack([town.std(dim=...).mean() for town in towns])\nreturn shares, deviations"
    ),
    examine=Compare(
        my_census,
        cases=[
            _towns([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]], (600, 300, 100), deviation=0.3, seed=1),
            _towns([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -2.5]], (200, 400, 250, 350), deviation=0.4, seed=2),
        ],
        to_tensor=_joined,
        parts=("the shares", "the deviations"),
        may_ignore=("points", "centres"),  # moved a little, they leave the shares as they are
        on_nan="of no points, or of one, there is no deviation. Does each point go to the town that it is nearest to, "
        "and are the towns counted from 0?",
        rtol=0.02,  # around the centre or the mean, divided by n or n - 1, the two directions averaged this or that way
        bugs={
            ("argmin", "argmax"): "each point was given to the town that is farthest away: argmin, not argmax.",
            (" / len(points)", ""): "these are counts; a share is a count divided by the number of points.",
            ("[len(town)", "[100 * len(town)"): "the shares are in percent; here 1 is all of them.",
            ("std", "var"): "the deviations are variances: the root is missing.",
            (
                "town.std(dim=0).mean() for town in towns",
                "(town - centre).square().mean() for town, centre in zip(towns, centres)",
            ): "the deviations are mean squares: the root is missing.",
            (" / len(points)", " / len(centres)"): (
                "the counts are divided by the number of towns; a share is a count divided by the number of points."
            ),
            ("len(points)", "points.numel()"): (
                "the counts are divided by all the coordinates, two per point; a share is a count divided by the "
                "number of points, len(points)."
            ),
            ("std(dim=0).mean()", "std(dim=1).mean()"): (
                "the deviation is that of x from y, and not that of the points from one another: std(dim=0) goes over "
                "the points, and then comes the mean of the two."
            ),
            ("town.std(dim=0).mean()", "town.std(dim=0)[0]"): (
                "only the first axis counts in the deviation; it is the mean of the two."
            ),
            ("town.std(dim=0).mean()", "town.std(dim=0)[1]"): (
                "only the second axis counts in the deviation; it is the mean of the two."
            ),
            ("std(dim=0).mean() for", "std(dim=0).mean() / len(town) ** 0.5 for"): (
                "the deviation is divided by the root of the count: that is the standard error of the town's mean."
            ),
            ("std(dim=0).mean()", "std()"): (
                "the deviation mixes the two directions, so that it also counts how far x lies from y: .std(dim=0), "
                "and then the mean of the two."
            ),
            (
                "town.std(dim=0).mean() for town in towns",
                "(town - centre).norm(dim=1).mean() for town, centre in zip(towns, centres)",
            ): (
                "the deviation is the mean distance from the centre, in both directions at once; the deviation in each "
                "direction is smaller."
            ),
            ("mean()", "sum()"): "the deviation adds up both directions; it is the mean of the two.",
            (
                "town.std(dim=0).mean() for town in towns",
                "(town - centre).square().sum(dim=1).mean().sqrt() for town, centre in zip(towns, centres)",
            ): (
                "the deviation is the root of the mean squared distance from the centre, in both directions at once; "
                "that in each direction is smaller."
            ),
            ("return shares, deviations", "return deviations, shares"): (
                "shares and deviations have changed places: return shares, deviations."
            ),
            ("town.std", "points.std"): (
                "all points count in every town's deviation; take those that are nearest to it."
            ),
        },
    ),
)

EXERCISES = X_T, REVERSE_STEP, CENSUS
