"""The exercises of the course: for each, what a right answer does, and what the likely bugs do instead.

An answer is judged by what it returns, never by how it is written. What it returns is compared with the package's own
function and, where that differs, with a list of functions that have one bug each; the bug that gives the same numbers
has found its name. Answers that draw random numbers are judged by what must hold for the draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.guidance import guided
from ddpm_core.process import add_noise, posterior, predict_x_0
from ddpm_core.schedule import NoiseSchedule, cosine_betas, linear_betas
from ddpm_core.support.guards import describe
from ddpm_core.unet import ResidualBlock, TimeEmbedding


class NotYet(Exception):
    """An answer is not right yet; the message says why, in one or two sentences to the learner."""


Answer = Callable  # the learner's function, made safe to call: it raises NotYet where it cannot be called


@dataclass(frozen=True)
class Exercise:
    notebook: str  # "01" to "05"
    parameters: tuple[str, ...] | None  # what the learner's function takes; None where a value is asked for
    examine: Callable[[Answer], None]  # raises NotYet
    hint: str
    sketch: str
    answer: Callable  # its source is the solution: short, and in the form of the notebook's stub
    general: str = ""  # what does the same in the package, where it does more than the answer


# ---------------------------------------------------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------------------------------------------------


def compare(
    cases: Sequence[tuple],
    right: Callable,
    bugs: dict[str, Callable],
    rtol: float = 1e-3,
    atol: float = 1e-4,
    on_nan: str = "is there a root of a negative number, or 0 / 0?",
) -> Callable[[Answer], None]:
    """An examine that calls the answer with each case's arguments; bugs: what is wrong -> a function that does it.

    on_nan: where NaN may come from in this exercise.
    """

    def examine(answer: Answer) -> None:
        expected = [right(*case) for case in cases]
        given = [check_output(answer(*case), tensor, case) for case, tensor in zip(cases, expected, strict=True)]

        def agree(others: Sequence[Tensor]) -> bool:
            return all(
                torch.allclose(mine.double(), other.double().expand_as(mine), rtol, atol, equal_nan=True)
                for mine, other in zip(given, others, strict=True)
            )

        if agree(expected):
            return
        if all(tensor.isnan().any() for tensor in given):  # where every case has some, they would fit any bug with NaN
            raise NotYet(f"some of the numbers it returns are NaN: {on_nan}")
        for bug, function in bugs.items():
            if agree([_or_infinite(function, case, tensor) for case, tensor in zip(cases, expected, strict=True)]):
                raise NotYet(bug)
        worst = max(range(len(cases)), key=lambda i: (given[i].double() - expected[i].double()).abs().max().item())
        where = (given[worst].double() - expected[worst].double()).abs().argmax()
        raise NotYet(
            f"the shape is right, but not the numbers: one is {given[worst].flatten()[where].item():.4g} and should be "
            f"{expected[worst].flatten()[where].item():.4g}."
        )

    return examine


def _or_infinite(function: Callable, case: tuple, like: Tensor) -> Tensor:
    """What a function with a bug returns; infinity, which equals no answer, where its shapes do not even fit."""
    try:
        tensor = torch.as_tensor(function(*case))
        return tensor.expand_as(like) if tensor.ndim <= like.ndim else torch.full_like(like, math.inf)
    except (RuntimeError, IndexError):
        return torch.full_like(like, math.inf)


def check_output(output: object, expected: Tensor, case: tuple = (), what: str = "it") -> Tensor:
    """The output as a tensor of expected's shape. Raises NotYet where it is no such thing."""
    if isinstance(output, (int, float)) and expected.ndim == 0:
        output = torch.tensor(float(output))
    if expected.ndim == 0 and (not isinstance(output, Tensor) or output.ndim):
        raise NotYet(f"{what} should return one number, but returns {describe(output)}.")
    if not isinstance(output, Tensor):
        raise NotYet(f"{what} should return a tensor of shape {tuple(expected.shape)}, but returns {describe(output)}.")
    if output.device != expected.device:
        raise NotYet(
            f"{what} returns a tensor on {output.device} for inputs on {expected.device}. Make new tensors on the "
            "device of an input: device=x.device."
        )
    if not output.is_floating_point():
        raise NotYet(f"{what} should return floats, but returns a {describe(output)}.")
    if output.shape != expected.shape:
        inputs = ", ".join(str(tuple(given.shape)) for given in case if isinstance(given, Tensor))
        asked = f" for inputs of shapes {inputs}" if inputs else ""
        raise NotYet(f"{what} returns the shape {tuple(output.shape)}{asked}; it should be {tuple(expected.shape)}.")
    return output.detach()


# ---------------------------------------------------------------------------------------------------------------------
# What the exercises are tried on
# ---------------------------------------------------------------------------------------------------------------------

SCHEDULE = NoiseSchedule(linear_betas(20, 0.02, 0.3))
T = len(SCHEDULE)
# As many pictures as a row has pixels: a t of shape (B,) that was not reshaped goes along the rows here, unnoticed.
SQUARE, OBLONG = (4, 1, 4, 4), (3, 2, 5, 4)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _picture_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    """(a, b, t): two batches of pictures and the step of each picture."""
    steps = torch.tensor([0, 7, 3, T - 1]), torch.tensor([12, 0, 5])
    return [
        (_noise(*shape, seed=1), _noise(*shape, seed=2), t) for shape, t in zip((SQUARE, OBLONG), steps, strict=True)
    ]


def _at(values: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """As NoiseSchedule.at, without its checks: some bugs look up steps that it would refuse."""
    return values[t].reshape(-1, *[1] * (x.ndim - 1))


ALONG_A_ROW = (
    "t has shape (B,), and so have numbers looked up with it. Multiplied with pictures (B, C, H, W) as they are, "
    "they go along the pixels of a row and not along the batch: reshape them to (B, 1, 1, 1) first."
)
ONLY_FIRST = "every picture has a t of its own, but the t of the first one is used for all."

# ---------------------------------------------------------------------------------------------------------------------
# 01
# ---------------------------------------------------------------------------------------------------------------------


def draw_x_T() -> Tensor:
    """The answer of x_T."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(16, 3, 32, 32, generator=generator)


def _examine_x_T(value: object) -> None:
    right = draw_x_T()
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
        raise NotYet(f"noise is made of floats; this is a {describe(value)}.")
    value = value.double()
    if not value.isfinite().all():
        raise NotYet("some of the numbers are NaN or infinite.")
    if torch.equal(value[0], value[1]):
        raise NotYet("all 16 pictures are the same noise: draw 16 pictures, not one of them 16 times.")
    mean, deviation = round(value.mean().item(), 2) + 0.0, value.std().item()  # + 0.0: never "-0.00"
    if value.min() >= 0 and value.max() <= 1:
        raise NotYet(
            "no number is below 0 or above 1: torch.rand draws evenly from 0 to 1, torch.randn from a Gaussian."
        )
    if value.abs().max() <= 1:
        raise NotYet("no number is beyond -1 and 1, so this is no Gaussian: use torch.randn, and no clamp.")
    if abs(mean) > 0.03 or abs(deviation - 1) > 0.03:
        raise NotYet(
            f"a standard Gaussian has mean 0 and deviation 1; here they are {mean:.2f} and {deviation:.2f}. "
            "torch.randn is right as it comes: add nothing and multiply with nothing."
        )
    generated_on_cpu = torch.allclose(value, right.double(), atol=1e-5)
    if not generated_on_cpu and not torch.cuda.is_available():
        raise NotYet(
            "Gaussian it is, but not what seed 7 gives. Make generator = torch.Generator().manual_seed(7) and hand it "
            "on: torch.randn(..., generator=generator), one draw of all numbers."
        )


def my_reverse_step(x_t, eps_hat, alpha, alpha_bar, beta):
    return (x_t - beta / (1 - alpha_bar) ** 0.5 * eps_hat) / alpha**0.5


_numbers = torch.tensor([[1.0, 0.5, 0.9, 0.5, 0.1], [-0.3, 1.2, 0.98, 0.9, 0.02], [0.7, -0.4, 0.7, 0.2, 0.3]]).double()

_reverse_step = compare(
    cases=[tuple(row) for row in _numbers],
    right=my_reverse_step,
    bugs={
        "x_t - eps_hat takes away all the noise at once, and unscaled. One step takes away only the share "
        "beta / sqrt(1 - alpha_bar) of it.": lambda x, e, a, ab, b: x - e,
        "the division by sqrt(alpha) is missing: each forward step shrank the picture, and the way back must let it "
        "grow again.": lambda x, e, a, ab, b: x - b / (1 - ab) ** 0.5 * e,
        "the root is missing over alpha: the step divides by sqrt(alpha).": lambda x, e, a, ab, b: (
            (x - b / (1 - ab) ** 0.5 * e) / a
        ),
        "the root is missing in beta / sqrt(1 - alpha_bar): 1 - alpha_bar is a variance, and eps_hat is measured in "
        "deviations.": lambda x, e, a, ab, b: (x - b / (1 - ab) * e) / a**0.5,
        "this multiplies by sqrt(alpha), as the forward step does; the way back divides.": lambda x, e, a, ab, b: (
            (x - b / (1 - ab) ** 0.5 * e) * a**0.5
        ),
        "the noise is added where it should be taken away: mind the sign of eps_hat.": lambda x, e, a, ab, b: (
            (x + b / (1 - ab) ** 0.5 * e) / a**0.5
        ),
        "that is x_0_hat, the leap to the clean picture. One step back goes only a little of the way.": (
            lambda x, e, a, ab, b: (x - (1 - ab) ** 0.5 * e) / ab**0.5
        ),
        "alpha stands where alpha_bar belongs: the noise in x_t has gathered over all steps so far, with variance "
        "1 - alpha_bar.": lambda x, e, a, ab, b: (x - b / (1 - a) ** 0.5 * e) / a**0.5,
        "alpha_bar stands where alpha belongs: undo the shrinking of this one step, sqrt(alpha).": (
            lambda x, e, a, ab, b: (x - b / (1 - ab) ** 0.5 * e) / ab**0.5
        ),
        "the deviation sqrt(beta) stands where the variance beta belongs.": lambda x, e, a, ab, b: (
            (x - b**0.5 / (1 - ab) ** 0.5 * e) / a**0.5
        ),
    },
)


def _towns(centres: Tensor, counts: Sequence[int], deviation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points around centres (K, 2), so many around each, in mixed order; and the centres."""
    at = centres.repeat_interleave(torch.tensor(counts), dim=0)
    points = at + deviation * _noise(*at.shape, seed=seed)
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))], centres


def my_census(points, centres):
    nearest = torch.cdist(points, centres).argmin(dim=1)
    towns = [points[nearest == k] for k in range(len(centres))]
    shares = torch.tensor([len(town) / len(points) for town in towns])
    deviations = torch.stack([town.std(dim=0).mean() for town in towns])
    return shares, deviations


def _counted(
    shares: Callable = lambda town, points: len(town) / len(points),
    deviation: Callable = lambda town, centre: town.std(dim=0).mean(),
    assign: Callable = lambda distances: distances.argmin(dim=1),
) -> Callable:
    """A census with some of its parts changed."""

    def function(points: Tensor, centres: Tensor) -> Tensor:
        nearest = assign(torch.cdist(points, centres))
        towns = [points[nearest == k] for k in range(len(centres))]
        counted = [shares(town, points) for town in towns]
        return torch.stack(
            [
                torch.tensor(counted, dtype=torch.float32),
                torch.stack([deviation(town, centre) for town, centre in zip(towns, centres, strict=True)]),
            ]
        )

    return function


_compare_census = compare(
    cases=[
        _towns(torch.tensor([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]]), (600, 300, 100), deviation=0.3, seed=1),
        _towns(torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -2.5]]), (200, 400, 250, 350), 0.4, seed=2),
    ],
    right=_counted(),
    rtol=0.02,  # around the centre or the mean, divided by n or n - 1, the two directions averaged in this way or that
    bugs={
        "each point was given to the town that is farthest away: argmin, not argmax.": _counted(
            assign=lambda distances: distances.argmax(dim=1)
        ),
        "these are counts; a share is a count divided by the number of points.": _counted(
            shares=lambda town, points: len(town)
        ),
        "the shares are in percent; here 1 is all of them.": _counted(
            shares=lambda town, points: 100 * len(town) / len(points)
        ),
        "the deviations are variances: the root is missing.": _counted(
            deviation=lambda town, centre: town.var(dim=0).mean()
        ),
        "the deviation mixes the two directions, so that it also counts how far x lies from y: .std(dim=0), and then "
        "the mean of the two.": _counted(deviation=lambda town, centre: town.std()),
        "the deviation is the mean distance from the centre, in both directions at once; the deviation in each "
        "direction is smaller.": _counted(deviation=lambda town, centre: (town - centre).norm(dim=1).mean()),
        "the deviation adds up both directions; it is the mean of the two.": _counted(
            deviation=lambda town, centre: town.std(dim=0).sum()
        ),
        "the deviation is the root of the mean squared distance from the centre, in both directions at once; that in "
        "each direction is smaller.": _counted(
            deviation=lambda town, centre: (town - centre).square().sum(dim=1).mean().sqrt()
        ),
        "shares and deviations have changed places: return shares, deviations.": lambda points, centres: _counted()(
            points, centres
        ).flip(0),
        "all points count in every town's deviation; take those that are nearest to it.": lambda points, centres: (
            torch.stack([_counted()(points, centres)[0], points.std(dim=0).mean().expand(len(centres))])
        ),
    },
)


def _examine_census(answer: Answer) -> None:
    def joined(points: Tensor, centres: Tensor) -> Tensor:
        output = answer(points, centres)
        if isinstance(output, Tensor) and output.ndim == 2:  # two rows unpack as two things do
            output = tuple(output)
        if not isinstance(output, (tuple, list)) or len(output) != 2:
            raise NotYet(f"it should return two things, shares and deviations; it returns {describe(output)}.")
        parts = zip(output, ("the shares: it", "the deviations: it"), strict=True)
        return torch.stack(
            [check_output(_as_row(part), centres[:, 0], (points, centres), what).double() for part, what in parts]
        )

    _compare_census(joined)


def _as_row(numbers: object) -> object:
    """Numbers as floats of one tensor, if they are any, in a list or a tensor."""
    if isinstance(numbers, (list, tuple)):
        try:
            return torch.tensor([float(number) for number in numbers])
        except (TypeError, ValueError):
            return numbers
    return numbers.double() if isinstance(numbers, Tensor) else numbers


# ---------------------------------------------------------------------------------------------------------------------
# 02
# ---------------------------------------------------------------------------------------------------------------------


def _noised(signal: Callable, noise: Callable) -> Callable:
    """An add_noise with other factors, each made from alpha_bar."""

    def function(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        alpha_bar = _at(schedule.alpha_bars, t, x_0)
        return signal(alpha_bar) * x_0 + noise(alpha_bar) * eps

    return function


def _add_noise_with(values: Callable) -> Callable:
    """An add_noise that takes other numbers for alpha_bar: values(schedule, x_0, t), already shaped."""

    def function(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        alpha_bar = values(schedule, x_0, t)
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps

    return function


_compare_add_noise = compare(
    cases=[(SCHEDULE, x_0, t, eps) for x_0, eps, t in _picture_cases()],
    right=add_noise,
    bugs={
        "the picture's factor is alpha_bar, and should be sqrt(alpha_bar): a square root is missing. alpha_bar is a "
        "share of the variance.": _noised(lambda ab: ab, lambda ab: (1 - ab).sqrt()),
        "the noise's factor is 1 - alpha_bar, and should be sqrt(1 - alpha_bar): a square root is missing. The "
        "variance of x_t comes out as (1 - alpha_bar)^2.": _noised(lambda ab: ab.sqrt(), lambda ab: 1 - ab),
        "both square roots are missing: alpha_bar and 1 - alpha_bar are shares of the variance, and factors are "
        "deviations.": _noised(lambda ab: ab, lambda ab: 1 - ab),
        "the noise's factor is 1 - sqrt(alpha_bar), and should be sqrt(1 - alpha_bar): first subtract, then take the "
        "root.": _noised(lambda ab: ab.sqrt(), lambda ab: 1 - ab.sqrt()),
        "signal and noise have changed places: sqrt(alpha_bar) belongs to the picture.": _noised(
            lambda ab: (1 - ab).sqrt(), lambda ab: ab.sqrt()
        ),
        "the picture is not shrunk: it gets the factor sqrt(alpha_bar), or the variance grows.": _noised(
            lambda ab: 1, lambda ab: (1 - ab).sqrt()
        ),
        "this is one step of noising, made with alphas. To jump there in one go take their products, the "
        "alpha_bars.": _add_noise_with(lambda s, x, t: _at(s.alphas, t, x)),
        "the step is off by one: this uses alpha_bars[t + 1]; it is alpha_bars[t].": _add_noise_with(
            lambda s, x, t: _at(s.alpha_bars, (t + 1).clamp(max=T - 1), x)
        ),
        "the step is off by one: this uses alpha_bars[t - 1]; it is alpha_bars[t].": _add_noise_with(
            lambda s, x, t: _far_end_prev(s, t, x)
        ),
        "the step is off by one: this uses the alpha_bar before t; it is alpha_bars[t].": (
            _add_noise_with(lambda s, x, t: _at(s.alpha_bars_prev, t, x))
        ),
        ONLY_FIRST: _add_noise_with(lambda s, x, t: s.alpha_bars[t[0]]),
    },
)


def _examine_add_noise(answer: Answer) -> None:
    (x_0, eps, t), *_ = _picture_cases()
    _check_batch(answer, (SCHEDULE, x_0, t, eps), along_a_row=_add_noise_with(lambda s, x, t: s.alpha_bars[t]))
    _compare_add_noise(answer)


def _check_batch(answer: Answer, arguments: tuple, along_a_row: Callable) -> None:
    """The same call must give the same, and pictures as wide as the batch is long must not confuse the two."""
    expected = along_a_row(*arguments)
    first, again = (check_output(answer(*arguments), expected, arguments).float() for _ in range(2))
    if not torch.allclose(first, again, equal_nan=True):
        raise NotYet(
            "the same call gives something else each time: use the noise that is given, draw none of your own."
        )
    if torch.allclose(first, expected, 1e-3, 1e-4):
        raise NotYet(ALONG_A_ROW)


def _betas_of(f: Callable, cap: float = 0.999, first: float | None = None) -> Callable:
    """Betas from a curve f(u) of signal; first: what the first step is divided by, if not f(0)."""

    def function(num_timesteps: int) -> Tensor:
        u = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
        signal = f(u)
        if first is not None:
            signal[0] = first
        return (1 - signal[1:] / signal[:-1]).clamp(max=cap)

    return function


def _cosine(u: Tensor, offset: float = 0.008) -> Tensor:
    return torch.cos((u + offset) / (1 + offset) * math.pi / 2)


def _cosine_alpha_bars(num_timesteps: int) -> Tensor:
    u = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
    return (_cosine(u) ** 2 / _cosine(u[:1]) ** 2)[1:]


_compare_betas = compare(
    cases=[(10,), (200,)],
    right=cosine_betas,
    rtol=2e-4,
    atol=4e-6,  # an answer in float32 has lost some digits in 1 - alpha_bar_t / alpha_bar_{t-1}
    bugs={
        "no beta may be above 0.999, or the last step would leave nothing: .clamp(max=0.999).": _betas_of(
            lambda u: _cosine(u) ** 2, cap=1.0
        ),
        "the square of the cosine is missing.": _betas_of(_cosine),
        "the small offset 0.008 is missing: without it the first betas nearly vanish.": _betas_of(
            lambda u: _cosine(u, offset=0.0) ** 2
        ),
        "the offset must stand in the denominator, too: (u + 0.008) / 1.008.": _betas_of(
            lambda u: torch.cos((u + 0.008) * math.pi / 2) ** 2
        ),
        "these are the alpha_bars. beta_t is 1 - alpha_bar_t / alpha_bar_{t-1}.": _cosine_alpha_bars,
        "these are the alphas, alpha_bar_t / alpha_bar_{t-1}. beta is 1 minus that.": lambda n: 1 - cosine_betas(n),
        "the quotient stands on its head: alpha_bar_t / alpha_bar_{t-1}, the later one above.": lambda n: (
            1 - 1 / (1 - cosine_betas(n).double())
        ).clamp(max=0.999),
        "the first beta is too small or too large: before step 1 alpha_bar is f(0) / f(0) = 1, so divide all of f by "
        "f(0).": _betas_of(lambda u: _cosine(u) ** 2, first=1.0),
        "these are evenly spaced, linear betas.": linear_betas,
        "the angle goes to pi; it should go to pi / 2, where the cosine is 0.": _betas_of(
            lambda u: torch.cos((u + 0.008) / 1.008 * math.pi) ** 2
        ),
    },
)


def _examine_cosine_betas(answer: Answer) -> None:
    betas = answer(10)
    if isinstance(betas, Tensor) and betas.ndim == 1 and len(betas) == 11:
        raise NotYet(
            "for 10 steps it returns 11 numbers. There are 11 alpha_bars, from before the first step to after the "
            "last, but only 10 betas between them."
        )
    if isinstance(betas, Tensor) and betas.shape == (9,):
        raise NotYet("for 10 steps it returns 9 numbers: 10 betas need 11 alpha_bars, u = 0, 1/10, ..., 1.")
    if isinstance(betas, Tensor) and betas.shape == (10,):
        u = torch.arange(10, dtype=torch.float64) / 10
        shifted = 1 - (_cosine(u) ** 2 / _cosine(u - 0.1) ** 2)
        if torch.allclose(betas.double()[1:], shifted[1:].clamp(max=0.999), rtol=4e-3, atol=4e-6):
            raise NotYet("the betas sit one place too late: betas[0] is beta_1, from f(1/T) and f(0).")
    _compare_betas(answer)


def _mean_and_variance(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor, **changes: Callable) -> tuple:
    """A posterior with some of its parts changed: each change takes the parts and returns the part."""
    shaped = changes.pop("shaped", _at)
    part = dict(alpha=shaped(schedule.alphas, t, x_t), beta=shaped(schedule.betas, t, x_t))
    part |= dict(ab=shaped(schedule.alpha_bars, t, x_t), prev=shaped(schedule.alpha_bars_prev, t, x_t))
    for name in ("alpha", "beta", "ab", "prev"):
        if name in changes:
            part[name] = changes.pop(name)(schedule, t, x_t)
    a, b, ab, prev = part["alpha"], part["beta"], part["ab"], part["prev"]
    factors = dict(
        of_x_0=prev.sqrt() * b / (1 - ab),
        of_x_t=a.sqrt() * (1 - prev) / (1 - ab),
        variance=(1 - prev) / (1 - ab) * b,
    )
    for name, change in changes.items():
        factors[name] = change(a, b, ab, prev)
    return factors["of_x_0"] * x_0 + factors["of_x_t"] * x_t, factors["variance"]


def _joined(output: object, x: Tensor) -> Tensor:
    """Mean and variance as one tensor, so that they are compared together. Raises NotYet where they are not a pair."""
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        raise NotYet(f"it should return two things, mean and variance; it returns {describe(output)}.")
    mean, variance = output
    mean = check_output(mean, x, what="the mean:")
    if isinstance(variance, Tensor) and variance.shape == (len(x),):
        variance = variance.reshape(-1, *[1] * (x.ndim - 1))
    if not isinstance(variance, Tensor) or not variance.is_floating_point():
        raise NotYet(f"the variance should be a tensor of floats, one number a picture; it is {describe(variance)}.")
    try:
        variance = variance.detach().expand_as(mean)
    except RuntimeError:
        raise NotYet(
            f"the variance has the shape {tuple(variance.shape)}; it should be one number a picture, (B, 1, 1, 1)."
        ) from None
    return torch.stack([mean, variance.to(mean.dtype)])


def _posterior_with(**changes: Callable) -> Callable:
    def function(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        mean, variance = _mean_and_variance(schedule, x_0, x_t, t, **changes)
        return torch.stack([mean, variance.expand_as(mean)])

    return function


def _of_two_witnesses(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Bayes' rule with the precisions of both, and the wrong alpha_bar before step 0."""
    a, b = _at(schedule.alphas, t, x_t), _at(schedule.betas, t, x_t)
    prev = _far_end_prev(schedule, t, x_t)
    variance = 1 / (a / b + 1 / (1 - prev))
    mean = variance * (a.sqrt() / b * x_t + prev.sqrt() / (1 - prev) * x_0)
    return torch.stack([mean, variance.expand_as(mean)])


def _far_end_prev(schedule: NoiseSchedule, t: Tensor, x: Tensor) -> Tensor:
    """alpha_bars[t - 1], which at t = 0 is the last of them."""
    return _at(schedule.alpha_bars, t - 1, x)


def _clamped_prev(schedule: NoiseSchedule, t: Tensor, x: Tensor) -> Tensor:
    return _at(schedule.alpha_bars, (t - 1).clamp(min=0), x)


_compare_posterior = compare(
    cases=[(SCHEDULE, x_0, x_t, t) for x_0, x_t, t in _picture_cases()],
    right=lambda *arguments: _joined(posterior(*arguments), arguments[1]),
    bugs={
        "at t = 0 this reads alpha_bars[-1], the last of the schedule. Before step 0 nothing has been added: there "
        "alpha_bar_prev is 1.": _posterior_with(prev=_far_end_prev),
        "at t = 0 this takes alpha_bars[0] for the alpha_bar before it. Before step 0 nothing has been added: there "
        "it is 1.": _posterior_with(prev=_clamped_prev),
        "the variance is beta. The posterior knows x_0, too, and is surer: beta * (1 - alpha_bar_prev) / (1 - "
        "alpha_bar).": _posterior_with(variance=lambda a, b, ab, prev: b),
        "that is the deviation; the variance is wanted, without the root.": _posterior_with(
            variance=lambda a, b, ab, prev: ((1 - prev) / (1 - ab) * b).sqrt()
        ),
        "in the variance the fraction stands on its head: (1 - alpha_bar_prev) / (1 - alpha_bar) * beta.": (
            _posterior_with(variance=lambda a, b, ab, prev: (1 - ab) / (1 - prev) * b)
        ),
        "the factors of x_0 and x_t have changed places.": _posterior_with(
            of_x_0=lambda a, b, ab, prev: a.sqrt() * (1 - prev) / (1 - ab),
            of_x_t=lambda a, b, ab, prev: prev.sqrt() * b / (1 - ab),
        ),
        "the root is missing over alpha_bar_prev, in the factor of x_0.": _posterior_with(
            of_x_0=lambda a, b, ab, prev: prev * b / (1 - ab)
        ),
        "the root is missing over alpha, in the factor of x_t.": _posterior_with(
            of_x_t=lambda a, b, ab, prev: a * (1 - prev) / (1 - ab)
        ),
        "at t = 0 this reads alpha_bars[-1], the last of the schedule, for what stood before step 0: there "
        "alpha_bar_prev is 1, and x_0 is known for certain.": _of_two_witnesses,
        "the factor of x_0 has sqrt(alpha_bar); it should be the one before, sqrt(alpha_bar_prev).": _posterior_with(
            of_x_0=lambda a, b, ab, prev: ab.sqrt() * b / (1 - ab)
        ),
        ONLY_FIRST: _posterior_with(shaped=lambda values, t, x: values[t[0]]),
    },
    on_nan="at t = 0 no variance is left before the step, 1 - alpha_bar_prev = 0, and 1 / 0 is infinite. Equations 6 "
    "and 7 divide by 1 - alpha_bar only.",
)


def _examine_posterior(answer: Answer) -> None:
    (x_0, x_t, t), *_ = _picture_cases()
    output = answer(SCHEDULE, x_0, x_t, t)
    if isinstance(output, (tuple, list)) and len(output) == 2:
        mean, _ = posterior(SCHEDULE, x_0, x_t, t)
        first, second = output
        if all(isinstance(thing, Tensor) for thing in output):
            swapped = second.shape == mean.shape and torch.allclose(second.float(), mean, 1e-3, 1e-4)
            if swapped and not torch.allclose(first.float().expand_as(mean), mean, 1e-3, 1e-4):
                raise NotYet("mean and variance have changed places: return mean, variance.")
            along_a_row = _mean_and_variance(SCHEDULE, x_0, x_t, t, shaped=lambda values, t, x: values[t])[0]
            if first.shape == along_a_row.shape and torch.allclose(first.float(), along_a_row, 1e-3, 1e-4):
                raise NotYet(ALONG_A_ROW)
    _compare_posterior(lambda *arguments: _joined(answer(*arguments), arguments[1]))


# ---------------------------------------------------------------------------------------------------------------------
# 03
# ---------------------------------------------------------------------------------------------------------------------


def _sinusoids(t: Tensor, num_sinusoids: int) -> Tensor:
    return TimeEmbedding(num_sinusoids, 4).sinusoids(t)


def _angles(t: Tensor, num_sinusoids: int, base: float = 10_000, power: int = -1) -> Tensor:
    half = num_sinusoids // 2
    return t[:, None] * base ** (power * torch.arange(half) / half)


_time_embedding = compare(
    cases=[(torch.tensor([0, 1, 7, 150, 999]), 16), (torch.tensor([3, 42]), 8)],
    right=_sinusoids,
    rtol=1e-2,  # of an angle of 999 float32 keeps four digits after the point
    atol=1e-3,
    bugs={
        "cosines and sines have changed places: the first half are the sines.": lambda t, n: torch.cat(
            [_angles(t, n).cos(), _angles(t, n).sin()], dim=1
        ),
        "sines and cosines alternate. That works as well as ours, but here the first half are the sines and the second "
        "half the cosines: torch.cat([angles.sin(), angles.cos()], dim=1).": lambda t, n: torch.stack(
            [_angles(t, n).sin(), _angles(t, n).cos()], dim=2
        ).flatten(1),
        "the frequencies rise from 1 to 10,000, so that a step more turns most angles all the way round: the exponent "
        "needs a minus.": lambda t, n: torch.cat([_angles(t, n, power=1).sin(), _angles(t, n, power=1).cos()], dim=1),
        "the exponent runs over all num_sinusoids, but there are only half as many frequencies: divide i by half.": (
            lambda t, n: torch.cat(
                [f(t[:, None] * 10_000.0 ** (-torch.arange(n // 2) / n)) for f in (torch.sin, torch.cos)], dim=1
            )
        ),
        "the last exponent is -1, from dividing by half - 1; here i is divided by half.": lambda t, n: torch.cat(
            [f(t[:, None] * 10_000.0 ** (-torch.arange(n // 2) / (n // 2 - 1))) for f in (torch.sin, torch.cos)], dim=1
        ),
        "the angles carry a factor of 2 pi, which is not in this formula.": lambda t, n: torch.cat(
            [(2 * math.pi * _angles(t, n)).sin(), (2 * math.pi * _angles(t, n)).cos()], dim=1
        ),
        "the base is 1,000; it should be 10,000.": lambda t, n: torch.cat(
            [_angles(t, n, base=1000.0).sin(), _angles(t, n, base=1000.0).cos()], dim=1
        ),
        "both halves are sines; the second half should be cosines.": lambda t, n: _angles(t, n).sin().repeat(1, 2),
        "these are the angles; their sines and cosines are wanted.": lambda t, n: _angles(t, n).repeat(1, 2),
    },
)


def _new_block(in_channels: int, out_channels: int) -> ResidualBlock:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = ResidualBlock(in_channels, out_channels, embedding_dim=12)
        for weight in block.parameters():  # none at 0 or 1, so that every part of it counts
            torch.nn.init.normal_(weight, std=0.3)
    return block.requires_grad_(False)


def _block_with(
    shortcut: Callable = lambda block, x: block.shortcut(x),
    silu_1: Callable = F.silu,
    silu_2: Callable = F.silu,
    norm_1: Callable = lambda block, x: block.norm_1(x),
    norm_2: Callable = lambda block, x: block.norm_2(x),
    listen: Callable = F.silu,
    modulate: Callable = lambda h, scale, shift: h * (1 + scale) + shift,
) -> Callable:
    """The forward of a residual block with some of its parts changed."""

    def function(block: ResidualBlock, x: Tensor, embedding: Tensor) -> Tensor:
        h = block.conv_1(silu_1(norm_1(block, x)))
        scale, shift = block.scale_shift(listen(embedding))[:, :, None, None].chunk(2, dim=1)
        h = modulate(norm_2(block, h), scale, shift)
        return shortcut(block, x) + block.conv_2(silu_2(h))

    return function


def _modulated_before_norm(block: ResidualBlock, x: Tensor, embedding: Tensor) -> Tensor:
    h = block.conv_1(F.silu(block.norm_1(x)))
    scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
    return block.shortcut(x) + block.conv_2(F.silu(block.norm_2(h * (1 + scale) + shift)))


_residual_block = compare(
    cases=[
        (_new_block(8, 16), _noise(3, 8, 4, 6, seed=3), _noise(3, 12, seed=4)),
        (_new_block(8, 8), _noise(4, 8, 4, 4, seed=5), _noise(4, 12, seed=6)),
    ],
    right=lambda block, x, embedding: block(x, embedding),
    bugs={
        "the shortcut is missing: at the end, add block.shortcut(x).": _block_with(shortcut=lambda block, x: 0),
        "h is multiplied with scale; it should be 1 + scale, so that a scale of 0 changes nothing.": _block_with(
            modulate=lambda h, scale, shift: h * scale + shift
        ),
        "scale and shift have changed places: the first half of block.scale_shift is the scale.": _block_with(
            modulate=lambda h, scale, shift: h * (1 + shift) + scale
        ),
        "the time embedding is not heard: scale and shift must change h.": _block_with(
            modulate=lambda h, scale, shift: h
        ),
        "the shift is missing: h * (1 + scale) + shift.": _block_with(modulate=lambda h, scale, shift: h * (1 + scale)),
        "the scale is missing: h * (1 + scale) + shift.": _block_with(modulate=lambda h, scale, shift: h + shift),
        "the embedding goes through F.silu before block.scale_shift.": _block_with(listen=lambda embedding: embedding),
        "the F.silu before conv_1 is missing: norm, silu, convolution.": _block_with(silu_1=lambda x: x),
        "the F.silu before conv_2 is missing.": _block_with(silu_2=lambda x: x),
        "norm_1 is missing: norm, silu, convolution.": _block_with(norm_1=lambda block, x: x),
        "norm_2 is missing: it comes before scale and shift.": _block_with(norm_2=lambda block, x: x),
        "scale and shift come before norm_2, which takes them out again: first the norm, then scale and shift.": (
            _modulated_before_norm
        ),
    },
)


def middle_of_the_u(channels: tuple[int, ...], size: int) -> tuple[int, int, int]:
    """The answer of middle_shape: the picture is halved between levels, so once less than there are levels."""
    size = size // 2 ** (len(channels) - 1)
    return channels[-1], size, size


def _examine_middle_shape(value: object) -> None:
    try:
        shape = tuple(int(number) for number in value)
        if any(float(number) != int(number) for number in value):
            raise ValueError
    except (TypeError, ValueError):
        raise NotYet(f"three whole numbers are wanted, (C, H, W); this is {describe(value)}.") from None
    if len(shape) != 3:
        raise NotYet(f"three numbers are wanted, (C, H, W); these are {len(shape)}.")
    C, H, W = right = middle_of_the_u((32, 64, 128, 256), 96)
    if shape == right:
        return
    if shape == (H, W, C):
        raise NotYet("the numbers are right, but PyTorch's order is channels first: (C, H, W).")
    if shape[1] != shape[2]:
        raise NotYet("a square picture stays square all the way down: H and W are the same.")
    if shape[1] == 96:
        raise NotYet("the picture is not halved at all; between two levels it is halved, height and width.")
    if shape[1] == H // 2:
        raise NotYet("halved once too often: four levels have three steps down between them.")
    if shape[1] == 2 * H:
        raise NotYet("halved once too seldom: four levels have three steps down between them.")
    if shape[1] == H:
        raise NotYet(
            f"height and width are right, but not the {shape[0]} channels: the middle is as wide as the last level."
        )
    raise NotYet("halve 96 once between two levels, and take the channels of the last level.")


# ---------------------------------------------------------------------------------------------------------------------
# 04
# ---------------------------------------------------------------------------------------------------------------------


class _Witness(torch.nn.Module):
    """A noise predictor that always answers the same number, and remembers what it was asked."""

    def __init__(self, answer: float):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(answer))
        self.x_t = self.t = None

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.x_t, self.t = x_t.detach(), t
        return torch.zeros_like(x_t) + self.number


def _loss(answer: Answer, model: Callable, x_0: Tensor, seed: int = 0) -> Tensor:
    return answer(model, SCHEDULE, x_0, torch.Generator().manual_seed(seed))


def _examine_diffusion_loss(answer: Answer) -> None:
    x_0 = torch.full((4000, 1, 4, 4), 0.5)
    silent = _Witness(0.0)
    loss = _loss(answer, silent, x_0)
    if isinstance(loss, float):
        raise NotYet(
            "it returns a plain number, from which nothing can be learnt: leave out .item(), return the tensor."
        )
    if not isinstance(loss, Tensor):
        raise NotYet(f"it should return a tensor with one number, the loss; it returns {describe(loss)}.")
    if loss.ndim:
        raise NotYet(
            f"the loss must be one number, but this has the shape {tuple(loss.shape)}: take the mean of all of it."
        )
    if silent.t is None:
        raise NotYet("eps_model is never asked: eps_hat = eps_model(x_t, t).")
    if not loss.requires_grad:
        raise NotYet(
            "no gradient flows from the loss to the model: is there a .detach(), .item() or no_grad() too many?"
        )
    _check_draws_of_t(silent.t, len(x_0))
    if silent.x_t.shape != x_0.shape:
        raise NotYet(f"eps_model is given x_t of shape {tuple(silent.x_t.shape)}; it should be {tuple(x_0.shape)}.")
    _check_mixing(silent.x_t, silent.t, x_0)
    _check_compared(loss.item(), _loss(answer, _Witness(2.0), x_0).item(), x_0)
    knows = _loss(answer, _knowing(x_0), x_0).item()
    if knows > 1e-3:
        raise NotYet(
            f"a model that names the noise exactly should get a loss of 0, and gets {knows:.3g}. Compare eps_hat "
            "with the very eps that was mixed in."
        )
    again, other = _Witness(0.0), _Witness(0.0)
    _loss(answer, again, x_0), _loss(answer, other, x_0, seed=1)
    same = torch.equal(again.t, silent.t) and torch.equal(again.x_t, silent.x_t)
    if not same or torch.equal(other.t, silent.t) or torch.equal(other.x_t, silent.x_t):
        raise NotYet(
            "the same generator, seeded the same, gives another loss: hand it on, generator=generator, to both draws."
        )


def _check_draws_of_t(t: Tensor, count: int) -> None:
    if not isinstance(t, Tensor) or t.shape != (count,) or t.dtype != torch.long:
        raise NotYet(
            f"eps_model must be given t as a long tensor of shape (B,), one step a picture; it got {describe(t)}."
        )
    if (t == t[0]).all():
        raise NotYet("all pictures of the batch share one t: draw one for each, torch.randint(T, (B,)).")
    counts = torch.bincount(t, minlength=T)
    if counts[0] == 0:
        raise NotYet("t = 0 is never drawn: steps count from 0 here, so draw from 0 to T - 1.")
    if counts[T - 1] == 0:
        raise NotYet("the last step, t = T - 1, is never drawn: torch.randint(T, ...) already leaves out T itself.")
    if (counts - count / T).abs().max() > 6 * (count / T) ** 0.5:
        raise NotYet("some steps are drawn more often than others: all of them should be equally likely.")


def _check_mixing(x_t: Tensor, t: Tensor, x_0: Tensor) -> None:
    """Each step's x_t must have add_noise's mean and variance, for a picture that is 0.5 everywhere."""
    if torch.allclose(x_t, x_0):
        raise NotYet("eps_model is given the clean picture x_0; it should be the noisy x_t.")
    mixed_in = _knowing(x_0)(x_t, t)
    if mixed_in.std(dim=0).max() < 0.1:
        raise NotYet("all pictures of the batch get the same noise: draw it in the shape of the batch, x_0.shape.")
    alpha_bars = SCHEDULE.alpha_bars
    means = torch.stack([x_t[t == step].mean() for step in range(T)])
    variances = torch.stack([x_t[t == step].var() for step in range(T)])
    if (variances - 1).abs().max() < 0.15 and means.abs().max() < 0.15:
        raise NotYet("eps_model is given pure noise; it should be x_t, the picture with noise mixed in.")
    within = 0.12  # five deviations of a variance measured on 3,200 numbers
    if (variances - (1 - alpha_bars)).abs().max() > within:
        if (variances - (1 - alpha_bars) / 12).abs().max() < 0.02:
            raise NotYet("the noise is not Gaussian: torch.randn, not torch.rand.")
        if (variances - (1 - alpha_bars) ** 2).abs().max() < within:
            raise NotYet(
                "the variance of x_t is (1 - alpha_bar)^2: a square root is missing in the mixing. Use add_noise."
            )
        if (variances - 1).abs().max() < within:
            raise NotYet("the noise is added at full strength: mix with add_noise(schedule, x_0, t, eps).")
        raise NotYet(
            f"at t = {T - 1} the variance of x_t is {variances[-1]:.2f} and should be {1 - alpha_bars[-1]:.2f}: mix "
            "with add_noise(schedule, x_0, t, eps), with the same t that eps_model is told."
        )
    if (means - alpha_bars.sqrt() / 2).abs().max() > 0.1:
        raise NotYet("the picture in x_t has the wrong strength: mix with add_noise(schedule, x_0, t, eps).")


def _check_compared(of_zero: float, of_two: float, x_0: Tensor) -> None:
    """The loss of models that always say 0 and 2: for squares of Gaussian noise 1 and 1 + 2^2."""
    if abs(of_zero - 1) < 0.05 and abs(of_two - 5) < 0.2:
        return
    if abs(of_zero / x_0[0].numel() - 1) < 0.05:
        raise NotYet("it sums over the numbers of a picture; take the mean of them, too.")
    if abs(of_zero / x_0.numel() - 1) < 0.05:
        raise NotYet(
            "it returns the sum; take the mean, or the loss grows with the batch and the size of the pictures."
        )
    if abs(of_zero - (2 / math.pi) ** 0.5) < 0.02:
        raise NotYet("it takes the differences' absolute values; the loss of DDPM takes their squares.")
    if abs(of_zero - 1) < 0.02 and abs(of_two - 5**0.5) < 0.1:
        raise NotYet("it returns the root of the mean square; the loss is without the root.")
    if abs(of_zero - 0.25) < 0.02:
        raise NotYet("eps_hat is compared with the picture x_0. The network names the noise: compare with eps.")
    if abs(of_zero) < 1e-6:
        raise NotYet("a model that always says 0 gets a loss of 0: is eps_hat compared with itself?")
    raise NotYet(
        f"a model that always says 0 should get a loss of about 1, the variance of the noise; it gets {of_zero:.3g}. "
        "Compare eps_hat with eps: the mean of the squared differences."
    )


def _knowing(x_0: Tensor) -> Callable:
    """The best noise predictor for pictures that it knows: what of x_t is not picture is noise."""

    def eps_model(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = _at(SCHEDULE.alpha_bars, t, x_t)
        return (x_t - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()

    return eps_model


def my_ddpm_step(schedule, x_t, t, eps_hat, z):
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    mean, variance = posterior(schedule, x_0_hat, x_t, t)
    return mean + variance.sqrt() * z


def _step_with(
    mean: Callable = lambda x, e, a, b, ab: (x - b / (1 - ab).sqrt() * e) / a.sqrt(),
    sigma: Callable = lambda b, ab, prev: ((1 - prev) / (1 - ab) * b).sqrt(),
    shaped: Callable = _at,
    prev_of: Callable | None = None,
) -> Callable:
    def function(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, eps_hat: Tensor, z: Tensor) -> Tensor:
        a, b, ab, prev = (
            shaped(values, t, x_t)
            for values in (schedule.alphas, schedule.betas, schedule.alpha_bars, schedule.alpha_bars_prev)
        )
        if prev_of is not None:
            prev = prev_of(schedule, t, x_t)
        return mean(x_t, eps_hat, a, b, ab) + sigma(b, ab, prev) * z

    return function


def _clipped_step(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, eps_hat: Tensor, z: Tensor) -> Tensor:
    mean, variance = posterior(schedule, predict_x_0(schedule, x_t, t, eps_hat).clamp(-1, 1), x_t, t)
    return mean + variance.sqrt() * z


_compare_ddpm_step = compare(
    cases=[(SCHEDULE, x_t, t, eps_hat, _noise(*x_t.shape, seed=7)) for x_t, eps_hat, t in _picture_cases()],
    right=my_ddpm_step,
    bugs={
        "no fresh noise comes in: add sqrt(variance) * z.": _step_with(sigma=lambda b, ab, prev: 0),
        "z is multiplied with the variance; it should be its root, the deviation.": _step_with(
            sigma=lambda b, ab, prev: (1 - prev) / (1 - ab) * b
        ),
        "z comes in at full strength: it gets the factor sqrt(variance).": _step_with(sigma=lambda b, ab, prev: 1),
        "noise is added at the last step, t = 0, too: the fresh noise has variance beta there. The paper allows beta "
        "as the variance, but then z must be left out at t = 0; we use the posterior's variance, which is 0 there by "
        "itself.": _step_with(sigma=lambda b, ab, prev: b.sqrt()),
        "the variance of the fresh noise is beta. The paper allows that; here take the posterior's variance, beta * "
        "(1 - alpha_bar_prev) / (1 - alpha_bar).": _step_with(sigma=lambda b, ab, prev: b.sqrt() * (prev < 1)),
        "at t = 0 this reads alpha_bars[-1], the last of the schedule, and adds noise at the last step. Before step 0 "
        "alpha_bar_prev is 1.": _step_with(prev_of=_far_end_prev),
        "noise is added at the last step, t = 0: there alpha_bar_prev is 1, not alpha_bars[0].": _step_with(
            prev_of=_clamped_prev
        ),
        "the division by sqrt(alpha) is missing in the mean.": _step_with(
            mean=lambda x, e, a, b, ab: x - b / (1 - ab).sqrt() * e
        ),
        "the root is missing in beta / sqrt(1 - alpha_bar).": _step_with(
            mean=lambda x, e, a, b, ab: (x - b / (1 - ab) * e) / a.sqrt()
        ),
        "the root is missing over alpha: the mean is divided by sqrt(alpha).": _step_with(
            mean=lambda x, e, a, b, ab: (x - b / (1 - ab).sqrt() * e) / a
        ),
        "the predicted noise is added where it should be taken away.": _step_with(
            mean=lambda x, e, a, b, ab: (x + b / (1 - ab).sqrt() * e) / a.sqrt()
        ),
        "the guess x_0_hat is clipped to [-1, 1]. The sampler may do that; this step shall not.": _clipped_step,
        "the mean is x_0_hat, the leap to the clean picture. One step back is the posterior's mean.": _step_with(
            mean=lambda x, e, a, b, ab: (x - (1 - ab).sqrt() * e) / ab.sqrt()
        ),
        ONLY_FIRST: _step_with(shaped=lambda values, t, x: values[t[0]]),
    },
)


def _examine_ddpm_step(answer: Answer) -> None:
    (x_t, eps_hat, t), *_ = _picture_cases()
    arguments = (SCHEDULE, x_t, t, eps_hat, _noise(*x_t.shape, seed=7))
    _check_batch(answer, arguments, along_a_row=_step_with(shaped=lambda values, t, x: values[t]))
    _compare_ddpm_step(answer)


def my_luck(share_a, share_b, count):
    variance_a, variance_b = share_a * (1 - share_a) / count, share_b * (1 - share_b) / count
    return (share_b - share_a) / (variance_a + variance_b) ** 0.5


_shares = torch.tensor([[0.80, 0.86, 500.0], [0.86, 0.80, 500.0], [0.55, 0.60, 100.0], [0.92, 0.93, 2000.0]]).double()

_luck = compare(
    cases=[tuple(row) for row in _shares],
    right=my_luck,
    rtol=0.01,  # many a textbook takes both variances at the mean of the shares
    bugs={
        "the root is missing: standard errors are roots of variances.": lambda a, b, n: (
            (b - a) / ((a * (1 - a) + b * (1 - b)) / n)
        ),
        "only the second share is taken to be uncertain; both are measured, so both count.": lambda a, b, n: (
            (b - a) / (b * (1 - b) / n) ** 0.5
        ),
        "only the first share is taken to be uncertain; both are measured, so both count.": lambda a, b, n: (
            (b - a) / (a * (1 - a) / n) ** 0.5
        ),
        "the two standard errors are added; variances add up, and the root comes last.": lambda a, b, n: (
            (b - a) / ((a * (1 - a) / n) ** 0.5 + (b * (1 - b) / n) ** 0.5)
        ),
        "the sign is wrong: where the second share is the larger one, the number should be above 0.": lambda a, b, n: (
            my_luck(b, a, n)
        ),
        "the sign is lost: where the second share is the smaller one, the number should be below 0.": lambda a, b, n: (
            abs(my_luck(a, b, n))
        ),
        "the variances are not divided by count: more samples make a share more certain.": lambda a, b, n: (
            (b - a) / (a * (1 - a) + b * (1 - b)) ** 0.5
        ),
        "the variance of a share is p * (1 - p) / count, not p / count.": lambda a, b, n: (
            (b - a) / ((a + b) / n) ** 0.5
        ),
        "the two variances are averaged; the variance of a difference is their sum.": lambda a, b, n: (
            my_luck(a, b, n) * 2**0.5
        ),
        "that is the standard error of the difference; divide the difference by it.": lambda a, b, n: (
            (a * (1 - a) / n + b * (1 - b) / n) ** 0.5
        ),
        "that is the difference itself; divide it by its standard error.": lambda a, b, n: b - a,
    },
)

# The clinic's patients and the numbers of their bugs in the notebook's list.
CLINIC = {"A": 6, "B": 3, "C": 1, "D": 5, "E": 2, "F": 4}
SYMPTOMS = {
    1: "grains all over the picture, as if some of the noise had stayed.",
    2: "everything black or white, with numbers far beyond -1 and 1.",
    3: "sharp, but all the same.",
    4: "digits on grey; nothing is black.",
    5: "digits, hardly worse than the healthy ones.",
    6: "a faint veil over the black of some digits, and many that cannot be read.",
}


def clinic() -> dict[str, int]:
    """The answer of clinic. A hears the same step number always; B adds no fresh noise; C forgot a root; D has the raw
    weights; E read the far end of the schedule at its last step; F learnt from pictures in [0, 1].
    """
    return dict(CLINIC)


def _examine_clinic(value: object) -> None:
    if isinstance(value, dict) and set(value) <= set(CLINIC):
        missing = [letter for letter in CLINIC if value.get(letter, ...) is ...]
        if missing:
            raise NotYet(f"still without a diagnosis: {', '.join(missing)}.")
    if not isinstance(value, dict) or set(value) != set(CLINIC):
        raise NotYet(
            f'a dict is wanted, from each letter to a number: {{"A": 1, ..., "F": 6}}; this is {describe(value)}.'
        )
    try:
        diagnosis = {letter: int(bug) for letter, bug in value.items()}
    except (TypeError, ValueError):
        diagnosis = {}
    if sorted(diagnosis.values()) != sorted(CLINIC.values()):
        raise NotYet("each of the numbers 1 to 6 belongs to one patient.")
    wrong = [letter for letter, bug in CLINIC.items() if diagnosis[letter] != bug]
    if wrong:
        claimed = diagnosis[wrong[0]]
        raise NotYet(
            f"{len(CLINIC) - len(wrong)} of 6 are right. Look at {wrong[0]} again: bug {claimed} would look like this: "
            f"{SYMPTOMS[claimed]}"
        )


# ---------------------------------------------------------------------------------------------------------------------
# 05
# ---------------------------------------------------------------------------------------------------------------------


def _attention_with(
    scale: Callable = lambda d: d**-0.5,
    mask: Callable = lambda scores, padding: scores.masked_fill(padding, -math.inf),
    dim: int = -1,
    after: Callable = lambda weights, padding: weights,
    values: Callable = lambda k, v: v,
) -> Callable:
    def function(q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        padding = padding[:, None, :]
        scores = mask(q @ k.transpose(1, 2) * scale(q.shape[-1]), padding)  # (B, pixels, L)
        return after(scores.softmax(dim=dim), padding) @ values(k, v)

    return function


def _padding(*lengths: int, L: int) -> Tensor:
    return torch.arange(L) >= torch.tensor(lengths)[:, None]


_cross_attention = compare(
    cases=[
        (_noise(2, 6, 8, seed=1), _noise(2, 5, 8, seed=2), _noise(2, 5, 8, seed=3), _padding(4, 2, L=5)),
        # As many pixels as tokens: a softmax or a mask along the wrong axis raises nothing here.
        (_noise(3, 4, 16, seed=4), _noise(3, 4, 16, seed=5), _noise(3, 4, 16, seed=6), _padding(1, 3, 2, L=4)),
        (_noise(2, 6, 8, seed=7), _noise(2, 3, 8, seed=8), _noise(2, 3, 8, seed=9), _padding(3, 3, L=3)),  # no padding
    ],
    on_nan="0 times infinity is NaN, and so is a softmax where everything is -inf. Use scores.masked_fill(..., "
    "-math.inf), with a mask that is True at the padding.",
    right=_attention_with(),
    bugs={
        "the scores are not divided by sqrt(d).": _attention_with(scale=lambda d: 1),
        "the scores are divided by d; it should be sqrt(d).": _attention_with(scale=lambda d: 1 / d),
        "the scores are multiplied with sqrt(d); they are divided by it.": _attention_with(scale=lambda d: d**0.5),
        "the padding takes part: set its scores to -inf before the softmax.": _attention_with(mask=lambda s, p: s),
        "scores of padding are set to 0, and e^0 is 1: it still takes part. Set them to -inf.": _attention_with(
            mask=lambda s, p: s.masked_fill(p, 0.0)
        ),
        "the padding's weights are set to 0 after the softmax, so that the others no longer add up to 1: set the "
        "scores to -inf before it.": _attention_with(mask=lambda s, p: s, after=lambda w, p: w.masked_fill(p, 0.0)),
        "the softmax goes over the pixels; a pixel shares its attention among the tokens: dim=-1.": _attention_with(
            dim=1
        ),
        "the weights are multiplied with the keys; pixels take the values, v.": _attention_with(values=lambda k, v: k),
    },
)


def _examine_cross_attention(answer: Answer) -> None:
    arguments = _noise(2, 6, 8), _noise(2, 5, 8), _noise(2, 5, 8, seed=1), _padding(4, 2, L=5)
    output = answer(*arguments)
    if isinstance(output, Tensor) and output.shape == (2, 6, 5):
        raise NotYet("that is the table of weights, (B, pixels, L). Multiply it with the values: weights @ v.")
    upside_down = _attention_with(mask=lambda scores, padding: scores.masked_fill(~padding, -math.inf))(*arguments)
    if torch.allclose(check_output(output, upside_down, arguments).float(), upside_down, 1e-3, 1e-4):
        raise NotYet(
            "the mask is upside down: padding is True where no word stands, and those places must be left out."
        )
    _cross_attention(answer)


def _toy_model(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """Answers differently for every picture, step and condition."""
    shape = (-1, *[1] * (x_t.ndim - 1))
    return (
        x_t * 0.3
        + t.reshape(shape) * 0.1
        + cond.float().flatten(1).mul(torch.tensor([1.0, 0.1, 0.01])).sum(1).reshape(shape)
    )


def _guided_with(formula: Callable) -> Callable:
    def function(model: Callable, cond: Tensor, null_cond: Tensor, scale: float) -> Callable:
        return lambda x_t, t: formula(model(x_t, t, cond), model(x_t, t, null_cond.expand_as(cond)), scale)

    return function


def _predicted(make: Callable) -> Callable:
    """From a maker of closures to what its closure predicts, so that results can be compared."""

    def function(scale: float) -> Tensor:
        cond, null_cond = torch.tensor([[3, 4, 5], [7, 0, 2], [1, 1, 9], [2, 8, 6]]), torch.tensor([1, 0, 0])
        eps_model = make(_toy_model, cond, null_cond, scale)
        if isinstance(eps_model, Tensor):
            raise NotYet("it returns a tensor; it should return a function of x_t and t that predicts with guidance.")
        if not callable(eps_model):
            raise NotYet(f"it should return a function of x_t and t; it returns {describe(eps_model)}.")
        return eps_model(_noise(*SQUARE), torch.tensor([0, 5, 9, 2]))

    return function


_compare_guided = compare(
    cases=[(0.0,), (1.0,), (3.0,), (7.5,)],
    right=_predicted(guided),
    bugs={
        "a scale of 1 already doubles the difference: this is the paper's w, where guidance_scale = 1 + w. Start "
        "from the unconditional prediction: eps_uncond + guidance_scale * (eps_cond - eps_uncond).": _predicted(
            _guided_with(lambda c, u, s: c + s * (c - u))
        ),
        "the two predictions have changed places: a larger scale leads away from the condition.": _predicted(
            _guided_with(lambda c, u, s: c + s * (u - c))
        ),
        "the sign of the difference is wrong: it is eps_cond - eps_uncond, towards the condition.": _predicted(
            _guided_with(lambda c, u, s: u + s * (u - c))
        ),
        "the scale multiplies the whole conditional prediction; it multiplies only the difference.": _predicted(
            _guided_with(lambda c, u, s: s * c)
        ),
        "the unconditional prediction is not added: eps_uncond + guidance_scale * (eps_cond - eps_uncond).": _predicted(
            _guided_with(lambda c, u, s: s * (c - u))
        ),
        "guidance_scale makes no difference: this is the conditional prediction alone.": _predicted(
            _guided_with(lambda c, u, s: c)
        ),
        "guidance_scale makes no difference: this is the unconditional prediction alone.": _predicted(
            _guided_with(lambda c, u, s: u)
        ),
        "the two are averaged with the scale as a sum: eps_uncond + scale * eps_cond. It is the difference that is "
        "scaled.": _predicted(_guided_with(lambda c, u, s: u + s * c)),
    },
)


def _examine_drop_condition(answer: Answer) -> None:
    B, L, p = 4000, 6, 0.3
    cond, null_cond = torch.arange(2, 2 + B * L).reshape(B, L), torch.tensor([1, 0, 0, 0, 0, 0])

    def drop(p: float, seed: int = 0) -> Tensor:
        return answer(cond, null_cond, p, torch.Generator().manual_seed(seed))

    dropped = drop(p)
    if not isinstance(dropped, Tensor) or dropped.shape != cond.shape:
        raise NotYet(
            f"it should return conditions of cond's shape, {tuple(cond.shape)}; it returns {describe(dropped)}."
        )
    if dropped.dtype != cond.dtype:
        raise NotYet(
            f"cond is {cond.dtype}, but what comes back is {dropped.dtype}: token ids must stay what they are."
        )
    is_null, is_kept = (dropped == null_cond).all(dim=1), (dropped == cond).all(dim=1)
    if not (is_null | is_kept).all():
        row = dropped[~(is_null | is_kept)][0]
        if (row == 0).all():
            raise NotYet("dropped conditions become zeros; they should become null_cond, a start and padding.")
        raise NotYet(
            "single tokens are dropped: some captions come back with holes. A caption with a hole is still a "
            "condition. Draw once for each caption, (B,), and keep or replace the whole row."
        )
    share = is_null.float().mean().item()
    if share in (0, 1) and drop(p, seed=1).eq(null_cond).all(1).float().mean().item() in (0, 1):
        raise NotYet("the whole batch is kept or dropped together: draw once for each caption.")
    if abs(share - (1 - p)) < 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped, not {p:.0%}: kept and dropped have changed places.")
    if abs(share - p) > 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped; it should be {p:.0%}.")
    if drop(0.0).ne(cond).any() or drop(1.0).ne(null_cond).any():
        raise NotYet("with p = 0 nothing may be dropped, and with p = 1 everything.")
    if drop(p).ne(dropped).any():
        raise NotYet(
            "the same generator, seeded the same, drops others: hand it on, torch.rand(..., generator=generator)."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Answers that are shorter than the package's own functions: no checks of the input, only what the exercise asks for
# ---------------------------------------------------------------------------------------------------------------------


def my_add_noise(schedule, x_0, t, eps):
    alpha_bar = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps


def my_cosine_betas(num_timesteps):
    u = torch.linspace(0, 1, num_timesteps + 1)
    f = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def my_posterior(schedule, x_0, x_t, t):
    previous = torch.cat([torch.ones(1), schedule.alpha_bars[:-1]])
    parts = previous, schedule.alpha_bars, schedule.alphas, schedule.betas
    alpha_bar_prev, alpha_bar, alpha, beta = (part[t].reshape(-1, 1, 1, 1) for part in parts)
    of_x_0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
    of_x_t = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta
    return of_x_0 * x_0 + of_x_t * x_t, variance


def my_time_embedding(t, num_sinusoids):
    half = num_sinusoids // 2
    frequencies = 10_000 ** (-torch.arange(half) / half)
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def my_residual_block(block, x, embedding):
    h = block.conv_1(F.silu(block.norm_1(x)))
    scale, shift = block.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
    h = block.norm_2(h) * (1 + scale) + shift
    h = block.conv_2(F.silu(h))
    return block.shortcut(x) + h


def my_diffusion_loss(eps_model, schedule, x_0, generator):
    t = torch.randint(len(schedule), (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    x_t = add_noise(schedule, x_0, t, eps)
    return (eps_model(x_t, t) - eps).square().mean()


def my_cross_attention(q, k, v, padding):
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5  # (B, pixels, L)
    scores = scores.masked_fill(padding[:, None, :], -math.inf)
    return scores.softmax(dim=-1) @ v


def my_guided(model, cond, null_cond, guidance_scale):
    def eps_model(x_t, t):
        eps_cond = model(x_t, t, cond)
        eps_uncond = model(x_t, t, null_cond.expand_as(cond))
        return eps_uncond + guidance_scale * (eps_cond - eps_uncond)

    return eps_model


def my_drop_condition(cond, null_cond, p, generator):
    dropped = torch.rand(len(cond), generator=generator) < p  # one draw a caption
    return torch.where(dropped[:, None], null_cond, cond)


# ---------------------------------------------------------------------------------------------------------------------
# The list
# ---------------------------------------------------------------------------------------------------------------------

EXERCISES = {
    "x_T": Exercise(
        notebook="01",
        parameters=None,
        examine=_examine_x_T,
        hint="torch.randn takes the shape, batch first, and a generator that you have seeded.",
        sketch="generator = torch.Generator().manual_seed(...)\nmy_x_T = torch.randn(..., generator=generator)",
        answer=draw_x_T,
    ),
    "reverse_step": Exercise(
        notebook="01",
        parameters=("x_t", "eps_hat", "alpha", "alpha_bar", "beta"),
        examine=_reverse_step,
        hint="Take a share of the predicted noise away, then undo the shrinking of this one step: see naive_sample.",
        sketch="share = beta / (...) ** 0.5\nreturn (x_t - share * ...) / ... ** 0.5",
        answer=my_reverse_step,
        general="sample",
    ),
    "census": Exercise(
        notebook="01",
        parameters=("points", "centres"),
        examine=_examine_census,
        hint="torch.cdist is the table of all distances; its argmin along the towns says where each point belongs.",
        sketch=(
            "nearest = torch.cdist(points, centres).argmin(dim=...)\n"
            "towns = [points[nearest == k] for k in range(...)]\n"
            "shares = torch.tensor([len(town) / ... for town in towns])\n"
            "deviations = torch.stack([town.std(dim=...).mean() for town in towns])\nreturn shares, deviations"
        ),
        answer=my_census,
    ),
    "add_noise": Exercise(
        notebook="02",
        parameters=("schedule", "x_0", "t", "eps"),
        examine=_examine_add_noise,
        hint="Look up one alpha_bar a picture, give it the shape (B, 1, 1, 1), and mix as in naive_add_noise.",
        sketch="alpha_bar = schedule.alpha_bars[t].reshape(-1, ...)\nreturn ....sqrt() * x_0 + (...).sqrt() * eps",
        answer=my_add_noise,
        general="add_noise",
    ),
    "cosine_betas": Exercise(
        notebook="02",
        parameters=("num_timesteps",),
        examine=_examine_cosine_betas,
        hint="First all T + 1 values of f, from u = 0 to u = 1; then each divided by the one before it.",
        sketch=("u = torch.linspace(0, 1, ...)\nf = torch.cos(...) ** 2\nreturn (1 - f[...] / f[...]).clamp(max=...)"),
        answer=my_cosine_betas,
        general="cosine_betas",
    ),
    "posterior": Exercise(
        notebook="02",
        parameters=("schedule", "x_0", "x_t", "t"),
        examine=_examine_posterior,
        hint="alpha_bar_prev is alpha_bars one place earlier, with a 1 in front. The rest is equations 6 and 7.",
        sketch=(
            "previous = torch.cat([torch.ones(1), schedule.alpha_bars[:-1]])\n"
            "alpha_bar_prev, alpha_bar, alpha, beta = ...  # each [t], shaped (B, 1, 1, 1)\n"
            "mean = ... * x_0 + ... * x_t\nvariance = ... * beta\nreturn mean, variance"
        ),
        answer=my_posterior,
        general="posterior",
    ),
    "time_embedding": Exercise(
        notebook="03",
        parameters=("t", "num_sinusoids"),
        examine=_time_embedding,
        hint="A column of steps (B, 1) times a row of frequencies (half,) is a table of angles (B, half).",
        sketch=(
            "half = num_sinusoids // 2\nfrequencies = 10_000 ** (-torch.arange(half) / ...)\n"
            "angles = t[:, None] * ...\nreturn torch.cat([..., ...], dim=1)"
        ),
        answer=my_time_embedding,
        general="TimeEmbedding",
    ),
    "residual_block": Exercise(
        notebook="03",
        parameters=("block", "x", "embedding"),
        examine=_residual_block,
        hint="Twice norm, silu, convolution; scale and shift come right after the second norm; the shortcut last.",
        sketch=(
            "h = block.conv_1(F.silu(...))\nscale, shift = block.scale_shift(...)[:, :, None, None].chunk(2, dim=1)\n"
            "h = block.norm_2(h) * (...) + ...\nh = block.conv_2(...)\nreturn ... + h"
        ),
        answer=my_residual_block,
        general="ResidualBlock",
    ),
    "middle_shape": Exercise(
        notebook="03",
        parameters=None,
        examine=_examine_middle_shape,
        hint="How often is a picture halved on its way down through four levels?",
        sketch="my_middle = (channels of the last level, 96 / 2 / ..., 96 / 2 / ...)",
        answer=middle_of_the_u,
    ),
    "diffusion_loss": Exercise(
        notebook="04",
        parameters=("eps_model", "schedule", "x_0", "generator"),
        examine=_examine_diffusion_loss,
        hint="Draw t, draw eps, mix, ask, compare. Draw a t for each picture.",
        sketch=(
            "t = torch.randint(..., (...,), generator=generator)\neps = torch.randn(..., generator=generator)\n"
            "x_t = add_noise(...)\nreturn (eps_model(..., ...) - ...).square().mean()"
        ),
        answer=my_diffusion_loss,
        general="diffusion_loss",
    ),
    "ddpm_step": Exercise(
        notebook="04",
        parameters=("schedule", "x_t", "t", "eps_hat", "z"),
        examine=_examine_ddpm_step,
        hint="predict_x_0, then posterior, then its mean plus a deviation times z.",
        sketch="x_0_hat = predict_x_0(...)\nmean, variance = posterior(...)\nreturn mean + ... * z",
        answer=my_ddpm_step,
        general="sample",
    ),
    "clinic": Exercise(
        notebook="04",
        parameters=None,
        examine=_examine_clinic,
        hint="Begin with the plain cases: which pictures are all alike, which stand on grey, which are black or white?",
        sketch='my_diagnosis = {"A": ..., "B": 3, "C": ..., "D": ..., "E": 2, "F": ...}',
        answer=clinic,
    ),
    "luck": Exercise(
        notebook="04",
        parameters=("share_a", "share_b", "count"),
        examine=_luck,
        hint="A share p of count samples has the variance p * (1 - p) / count; that of a difference is the sum of two.",
        sketch="variance_a, variance_b = share_a * (...) / count, ...\nreturn (...) / (variance_a + ...) ** 0.5",
        answer=my_luck,
    ),
    "cross_attention": Exercise(
        notebook="05",
        parameters=("q", "k", "v", "padding"),
        examine=_examine_cross_attention,
        hint="A table of scores (B, pixels, L); -inf where padding stands; softmax over the tokens; times the values.",
        sketch=(
            "scores = q @ k.transpose(1, 2) / ...\nscores = scores.masked_fill(padding[:, None, :], ...)\n"
            "return scores.softmax(dim=...) @ ..."
        ),
        answer=my_cross_attention,
        general="CrossAttentionBlock",
    ),
    "guided": Exercise(
        notebook="05",
        parameters=("model", "cond", "null_cond", "guidance_scale"),
        examine=lambda answer: _compare_guided(_predicted(answer)),
        hint="Define a function of x_t and t inside yours that asks the model twice, and return that function.",
        sketch=(
            "def eps_model(x_t, t):\n    eps_cond = model(x_t, t, cond)\n"
            "    eps_uncond = model(x_t, t, null_cond.expand_as(cond))\n    return ... + guidance_scale * (...)\n"
            "return eps_model"
        ),
        answer=my_guided,
        general="guided",
    ),
    "drop_condition": Exercise(
        notebook="05",
        parameters=("cond", "null_cond", "p", "generator"),
        examine=_examine_drop_condition,
        hint="One random number a caption, not one a token. torch.where picks whole rows if its condition is (B, 1).",
        sketch="dropped = torch.rand(..., generator=generator) < ...\nreturn torch.where(dropped[:, None], ..., ...)",
        answer=my_drop_condition,
        general="drop_condition",
    ),
}
