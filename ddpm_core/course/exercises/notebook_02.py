"""The exercises of notebook 02: add_noise, cosine_betas, posterior."""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import (
    ONLY_FIRST,
    SCHEDULE,
    Answer,
    Compare,
    Exercise,
    NotYet,
    check_output,
    picture_cases,
)
from ddpm_core.schedule import NoiseSchedule, linear_betas
from ddpm_core.support.guards import describe

# ---- add_noise: the jump to step t -----------------------------------------------------------------------------------


def my_add_noise(schedule, x_0, t, eps):
    alpha_bar = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps


ADD_NOISE = Exercise(
    answer=my_add_noise,
    general="add_noise",
    hint="Look up one alpha_bar per picture, give it the shape (B, 1, 1, 1), and mix as in naive_add_noise.",
    sketch="alpha_bar = schedule.alpha_bars[t].reshape(-1, ...)\nreturn ....sqrt() * x_0 + (...).sqrt() * eps",
    examine=Compare(
        my_add_noise,
        cases=[(SCHEDULE, x_0, t, eps) for x_0, eps, t in picture_cases()],
        t_per_picture=True,
        bugs={
            ("alpha_bar.sqrt()", "alpha_bar"): (
                "the picture's factor is alpha_bar, and should be sqrt(alpha_bar): a square root is missing. alpha_bar "
                "is a share of the variance."
            ),
            ("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"): (
                "the noise's factor is 1 - alpha_bar, and should be sqrt(1 - alpha_bar): a square root is missing. The "
                "variance of x_t comes out as (1 - alpha_bar)^2."
            ),
            (".sqrt()", ""): (
                "both square roots are missing: alpha_bar and 1 - alpha_bar are shares of the variance, and factors "
                "are deviations."
            ),
            ("(1 - alpha_bar).sqrt()", "(1 - alpha_bar.sqrt())"): (
                "the noise's factor is 1 - sqrt(alpha_bar), and should be sqrt(1 - alpha_bar): first subtract, then "
                "take the root."
            ),
            ("x_0 +", "eps +", ").sqrt() * eps", ").sqrt() * x_0"): (
                "signal and noise have changed places: sqrt(alpha_bar) belongs to the picture."
            ),
            (".sqrt() * x_0 +", ".sqrt() * (x_0 +", "* eps", "* eps)"): (
                "sqrt(alpha_bar) multiplies the noise, too: the brackets should end before the noise."
            ),
            ("x_0 +", "x_0 -"): "the noise is subtracted; with the eps that is given, add it.",
            ("(1 - alpha_bar).sqrt() * eps", "eps"): (
                "the noise comes in at full strength: it gets the factor sqrt(1 - alpha_bar)."
            ),
            ("(1 - alpha_bar).sqrt()", "schedule.betas[t].reshape(-1, 1, 1, 1).sqrt()"): (
                "the noise's factor is that of one step, sqrt(beta). After all steps up to t it is sqrt(1 - alpha_bar)."
            ),
            ("alpha_bar.sqrt()", "schedule.alphas[t].reshape(-1, 1, 1, 1).sqrt()"): (
                "the picture's factor is that of one step, sqrt(alpha). After all steps up to t it is sqrt(alpha_bar)."
            ),
            ("alpha_bars[t]", "betas[t]"): "betas[t] stands where alpha_bars[t] belongs.",
            ("return ", "return (", "* eps", "* eps).clamp(-1, 1)"): (
                "x_t is clipped to [-1, 1]: noise goes beyond, and should be left as it is."
            ),
            ("alpha_bar.sqrt() * x_0", "x_0"): (
                "the picture is not shrunk: it gets the factor sqrt(alpha_bar), or the variance grows."
            ),
            ("alpha_bars[t]", "alphas[t]"): (
                "this is one step of noising, made with alphas. To jump there in one go take their products, the "
                "alpha_bars."
            ),
            ("[t]", "[(t + 1).clamp(max=len(schedule) - 1)]"): (
                "the step is off by one: this uses alpha_bars[t + 1]; it is alpha_bars[t]."
            ),
            ("[t]", "[len(schedule) - 1 - t]"): "the schedule is read from its far end: it is alpha_bars[t].",
            ("[t]", "[t - 1]"): "the step is off by one: this uses alpha_bars[t - 1]; it is alpha_bars[t].",
            ("alpha_bars[t]", "alpha_bars_prev[t]"): (
                "the step is off by one: this uses the alpha_bar before t; it is alpha_bars[t]."
            ),
            ("[t].reshape(-1, 1, 1, 1)", "[t[0]]"): ONLY_FIRST,
        },
    ),
)

# ---- cosine_betas: a gentler schedule --------------------------------------------------------------------------------


def my_cosine_betas(num_timesteps):
    u = torch.linspace(0, 1, num_timesteps + 1)
    f = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def _check_length(answer: Answer) -> None:
    betas = answer(10)
    if isinstance(betas, Tensor) and betas.ndim == 1 and len(betas) == 11:
        raise NotYet(
            "for 10 steps it returns 11 numbers. There are 11 alpha_bars, from before the first step to after the "
            "last, but only 10 betas between them."
        )
    if isinstance(betas, Tensor) and betas.shape == (9,):
        raise NotYet("for 10 steps it returns 9 numbers: 10 betas need 11 alpha_bars, u = 0, 1/10, ..., 1.")
    given, right = check_output(betas, my_cosine_betas(10)).float(), my_cosine_betas(10)

    def are(given: Tensor, expected: Tensor) -> bool:
        return torch.allclose(given, expected, rtol=4e-3, atol=4e-6)

    if are(given[1:], right[:-1]):
        raise NotYet("the betas sit one place too late: betas[0] is beta_1, from f(1/T) and f(0).")
    if are(given[:-1], right[1:]):
        raise NotYet("the betas sit one place too early: betas[0] is beta_1, from f(1/T) and f(0).")
    if are(given[1:], right[1:]) and not are(given, right):
        raise NotYet(
            f"only the first beta is wrong: {given[0]:.4g}, and it should be {right[0]:.4g}. It is 1 - f(1/T) / f(0), "
            "as before step 1 alpha_bar is f(0) / f(0) = 1."
        )
    alphas = 1 - right[:-1]  # the last alpha is nearly 0: what is divided by it is whatever rounding makes it
    if are(given[:-1], alphas):
        raise NotYet("these are the alphas, alpha_bar_t / alpha_bar_{t-1}. beta is 1 minus that.")
    if are(given[:-1], 1 - 1 / alphas) or are(given[:-1], 1 / alphas):
        raise NotYet("the quotient stands on its head: alpha_bar_t / alpha_bar_{t-1}, the later one above.")


COSINE_BETAS = Exercise(
    answer=my_cosine_betas,
    general="cosine_betas",
    hint="First all T + 1 values of f, from u = 0 to u = 1; then each divided by the one before it.",
    sketch="u = torch.linspace(0, 1, ...)\nf = torch.cos(...) ** 2\nreturn (1 - f[...] / f[...]).clamp(max=...)",
    examine=Compare(
        my_cosine_betas,
        cases=[(10,), (200,)],
        rtol=2e-4,
        atol=4e-6,  # an answer in float32 has lost some digits in 1 - alpha_bar_t / alpha_bar_{t-1}
        first=_check_length,
        bugs={
            (".clamp(max=0.999)", ""): (
                "some beta is above 0.999, so that the last step leaves nothing: .clamp(max=0.999)."
            ),
            (" ** 2", ""): "the square of the cosine is missing.",
            ("(u + 0.008) / 1.008", "u"): (
                "the small offset 0.008 is missing: without it the first betas nearly vanish."
            ),
            (" / 1.008", ""): "the offset must stand in the denominator, too: (u + 0.008) / 1.008.",
            ("(1 - f[1:] / f[:-1]).clamp(max=0.999)", "f[1:] / f[0]"): (
                "these are the alpha_bars. beta_t is 1 - alpha_bar_t / alpha_bar_{t-1}."
            ),
            ("f[1:] / f[:-1]", "f[1:] / f[0]"): (
                "these are 1 - alpha_bar_t. beta_t is 1 - alpha_bar_t / alpha_bar_{t-1}: divide by the one before."
            ),
            ("(1 - f[1:] / f[:-1]).clamp(max=0.999)", "1 - f[1:] / f[0]"): (
                "these are 1 - alpha_bar_t. beta_t is 1 - alpha_bar_t / alpha_bar_{t-1}: divide by the one before."
            ),
            ("(1 - f[1:] / f[:-1])", "(f[:-1] - f[1:])"): (
                "these are the differences of neighbouring alpha_bars; divide each by the earlier one, alpha_bar_{t-1}."
            ),
            ("clamp(max=", "clamp("): (
                "no beta is below 0.999: the first argument of clamp is the lower bound. Write .clamp(max=0.999)."
            ),
            ("(u + 0.008)", "u"): "the small offset 0.008 is missing in the numerator: (u + 0.008) / 1.008.",
            ("num_timesteps + 1)", "num_timesteps + 1) * num_timesteps / 1000"): (
                "u is t / 1000 whatever num_timesteps is; it is t / num_timesteps."
            ),
            ("torch.cos", "torch.sin"): "the sine stands where the cosine belongs.",
            (" * torch.pi / 2", ""): "the angle lacks the factor pi / 2.",
            linear_betas: "these are evenly spaced, linear betas.",
            (" / 2)", ")"): "the angle goes to pi; it should go to pi / 2, where the cosine is 0.",
        },
    ),
)

# ---- posterior: the step back, if x_0 is known -----------------------------------------------------------------------


def my_posterior(schedule, x_0, x_t, t):
    previous = torch.cat([torch.ones_like(schedule.alpha_bars[:1]), schedule.alpha_bars[:-1]])
    parts = previous, schedule.alpha_bars, schedule.alphas, schedule.betas
    alpha_bar_prev, alpha_bar, alpha, beta = (part[t].reshape(-1, 1, 1, 1) for part in parts)
    of_x_0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
    of_x_t = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta
    return of_x_0 * x_0 + of_x_t * x_t, variance


def _joined(output: object, schedule: NoiseSchedule, x_0: Tensor, *others: Tensor) -> Tensor:
    """Mean and variance as one tensor, so that they are compared together. Raises NotYet where they are not a pair."""
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        raise NotYet(f"it should return two things, mean and variance; it returns {describe(output)}.")
    mean, variance = output
    mean = check_output(mean, x_0, what="the mean:")
    if isinstance(variance, Tensor) and variance.shape == (len(x_0),):  # _check_pair says so where the mean is right
        variance = variance.reshape(-1, 1, 1, 1)
    if not isinstance(variance, Tensor) or not variance.is_floating_point():
        raise NotYet(f"the variance should be a tensor of floats, one number per picture; it is {describe(variance)}.")
    try:
        variance = variance.detach().expand_as(mean)
    except RuntimeError:
        raise NotYet(
            f"the variance has the shape {tuple(variance.shape)}; it should be one number per picture, (B, 1, 1, 1)."
        ) from None
    return torch.stack([mean, variance.to(mean.dtype)])


def _from_two_witnesses(schedule, x_0, x_t, t):
    """Bayes' rule with the precisions of both, and the wrong alpha_bar before step 0."""
    parts = schedule.alpha_bars[t - 1], schedule.alphas[t], schedule.betas[t]
    alpha_bar_prev, alpha, beta = (part.reshape(-1, 1, 1, 1) for part in parts)
    variance = 1 / (alpha / beta + 1 / (1 - alpha_bar_prev))
    return variance * (alpha.sqrt() / beta * x_t + alpha_bar_prev.sqrt() / (1 - alpha_bar_prev) * x_0), variance


_IN_FRONT = "torch.ones_like(schedule.alpha_bars[:1])"
_posterior_cases = [(SCHEDULE, x_0, x_t, t) for x_0, x_t, t in picture_cases()]


def _check_pair(answer: Answer) -> None:
    case = _posterior_cases[0]
    output = answer(*case)
    if isinstance(output, (tuple, list)) and len(output) == 2 and all(isinstance(part, Tensor) for part in output):
        mean, _ = my_posterior(*case)
        is_mean = [part.shape == mean.shape and torch.allclose(part.float(), mean, 1e-3, 1e-4) for part in output]
        if is_mean == [False, True]:
            raise NotYet("mean and variance have changed places: return mean, variance.")
        shape = tuple(output[1].shape)
        if is_mean[0] and len(shape) != mean.ndim:
            raise NotYet(
                f"the variance has the shape {shape}. It is to be multiplied with pictures, so that it should have the "
                "shape (B, 1, 1, 1): reshape what you look up with t."
            )


POSTERIOR = Exercise(
    answer=my_posterior,
    general="posterior",
    hint="alpha_bar_prev is alpha_bars one place earlier, with a 1 in front. The rest is equations 6 and 7.",
    sketch=(
        "previous = torch.cat([torch.ones_like(schedule.alpha_bars[:1]), ...])\n"
        "alpha_bar_prev, alpha_bar, alpha, beta = ...  # each [t], shaped (B, 1, 1, 1)\n"
        "mean = ... * x_0 + ... * x_t\nvariance = ... * beta\nreturn mean, variance"
    ),
    examine=Compare(
        my_posterior,
        cases=_posterior_cases,
        t_per_picture=True,
        to_tensor=_joined,
        parts=("the mean", "the variance"),
        first=_check_pair,
        bugs={
            (_IN_FRONT, "schedule.alpha_bars[-1:]"): (
                "at t = 0 this reads alpha_bars[-1], the last of the schedule. Before step 0 nothing has been added: "
                "there alpha_bar_prev is 1."
            ),
            (_IN_FRONT, "torch.zeros(1)"): (
                "at t = 0 alpha_bar_prev is 0; before step 0 nothing has been added, so there it is 1."
            ),
            (f"torch.cat([{_IN_FRONT}, schedule.alpha_bars[:-1]])", "schedule.alpha_bars"): (
                "alpha_bar_prev is the alpha_bar of t itself; it should be the one before, with a 1 in front."
            ),
            ("alpha_bars[:-1]", "alphas[:-1]"): "alpha_bar_prev is read from alphas; read it from alpha_bars.",
            (_IN_FRONT, "schedule.alpha_bars[:1]"): (
                "at t = 0 this takes alpha_bars[0] for the alpha_bar before it. Before step 0 nothing has been added: "
                "there it is 1."
            ),
            ("x_t, variance", "x_t, beta"): (
                "the variance is beta. The posterior knows x_0, too, and is surer: beta * (1 - alpha_bar_prev) / (1 - "
                "alpha_bar)."
            ),
            ("x_t, variance", "x_t, variance.sqrt()"): (
                "that is the deviation; the variance is wanted, without the root."
            ),
            ("x_t, variance", "x_t, variance.log()"): (
                "that is the logarithm of the variance; the variance itself is wanted."
            ),
            ("(1 - alpha_bar) * beta", "(1 - alpha_bar)"): "the factor beta is missing in the variance.",
            ("variance = (1 - alpha_bar_prev) / (1 - alpha_bar)", "variance = (1 - alpha_bar_prev)"): (
                "the variance is not divided by 1 - alpha_bar."
            ),
            ("= (1 - alpha_bar_prev) / (1 - alpha_bar)", "= (1 - alpha_bar) / (1 - alpha_bar_prev)"): (
                "in the variance the fraction stands on its head: (1 - alpha_bar_prev) / (1 - alpha_bar) * beta."
            ),
            ("of_x_0 * x_0 + of_x_t * x_t", "of_x_0 * x_t + of_x_t * x_0"): (
                "the factors of x_0 and x_t have changed places."
            ),
            (
                "beta / (1 - alpha_bar)\n",
                "beta\n",
                "(1 - alpha_bar_prev) / (1 - alpha_bar)\n",
                "(1 - alpha_bar_prev)\n",
            ): ("in the mean, neither factor is divided by 1 - alpha_bar."),
            ("x_0 + of_x_t", "x_0 - of_x_t"): "x_t is subtracted in the mean; both parts are added.",
            ("alpha_bar_prev.sqrt()", "alpha_bar_prev", "alpha.sqrt()", "alpha"): (
                "both square roots are missing in the mean."
            ),
            ("alpha.sqrt()", "alpha_bar.sqrt()"): (
                "the factor of x_t has sqrt(alpha_bar); it should be sqrt(alpha), of this one step."
            ),
            ("alpha_bar_prev.sqrt()", "alpha_bar_prev"): (
                "the root is missing over alpha_bar_prev, in the factor of x_0."
            ),
            ("alpha.sqrt()", "alpha"): "the root is missing over alpha, in the factor of x_t.",
            _from_two_witnesses: (
                "at t = 0 this reads alpha_bars[-1], the last of the schedule, for what stood before step 0: there "
                "alpha_bar_prev is 1, and x_0 is known for certain."
            ),
            ("alpha_bar_prev.sqrt()", "alpha_bar.sqrt()"): (
                "the factor of x_0 has sqrt(alpha_bar); it should be the one before, sqrt(alpha_bar_prev)."
            ),
            ("[t].reshape(-1, 1, 1, 1)", "[t[0]]"): ONLY_FIRST,
        },
        on_nan="at t = 0 no variance is left before the step, 1 - alpha_bar_prev = 0, and 1 / 0 is infinite. Equations "
        "6 and 7 divide by 1 - alpha_bar only.",
    ),
)

EXERCISES = ADD_NOISE, COSINE_BETAS, POSTERIOR
