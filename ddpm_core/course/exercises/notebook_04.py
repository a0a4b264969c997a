"""The exercises of notebook 04: diffusion_loss, ddpm_step, clinic, luck."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import (
    ONLY_FIRST,
    SCHEDULE,
    Answer,
    Compare,
    Exercise,
    NotYet,
    T,
    noise,
    picture_cases,
)
from ddpm_core.process import add_noise, posterior, predict_x_0
from ddpm_core.support.guards import describe

# ---- diffusion_loss: Algorithm 1 -------------------------------------------------------------------------------------


def my_diffusion_loss(eps_model, schedule, x_0, generator):
    t = torch.randint(len(schedule), (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    x_t = add_noise(schedule, x_0, t, eps)
    return (eps_model(x_t, t) - eps).square().mean()


class _Witness(torch.nn.Module):
    """A noise predictor that always answers the same number, and remembers what it was asked."""

    def __init__(self, answer: float):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(answer))
        self.x_t = self.t = None

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.x_t, self.t = x_t.detach(), t
        return torch.zeros_like(x_t) + self.number


def _knowing(x_0: Tensor) -> Callable:
    """The best noise predictor for pictures that it knows: what of x_t is not picture is noise."""

    def eps_model(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = SCHEDULE.at(SCHEDULE.alpha_bars, t, x_t)
        return (x_t - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()

    return eps_model


def _examine_diffusion_loss(answer: Answer) -> None:
    x_0 = torch.full((4000, 1, 4, 4), 0.5)

    def loss_of(model: Callable, seed: int = 0) -> Tensor:
        return answer(model, SCHEDULE, x_0, torch.Generator().manual_seed(seed))

    silent = _Witness(0.0)
    loss = loss_of(silent)
    if isinstance(loss, float):
        raise NotYet("it returns a plain number, from which nothing can be learnt: leave out .item().")
    if not isinstance(loss, Tensor):
        raise NotYet(f"it should return a tensor with one number, the loss; it returns {describe(loss)}.")
    if loss.ndim:
        raise NotYet(f"the loss should be one number; this has the shape {tuple(loss.shape)}: take the mean of it.")
    if silent.t is None:
        raise NotYet("eps_model is never asked: eps_hat = eps_model(x_t, t).")
    if not loss.requires_grad:
        raise NotYet("no gradient flows from the loss to the model: is there a .detach() or no_grad() too many?")
    _check_draws_of_t(silent.t, len(x_0))
    if silent.x_t.shape != x_0.shape:
        raise NotYet(f"eps_model is given x_t of shape {tuple(silent.x_t.shape)}; it should be {tuple(x_0.shape)}.")
    _check_mixing(silent.x_t, silent.t, x_0)
    _check_compared(loss.item(), loss_of(_Witness(2.0)).item(), x_0)
    knows = loss_of(_knowing(x_0)).item()
    if knows > 1e-3:
        raise NotYet(
            f"a model that names the noise exactly should get a loss of 0, and gets {knows:.3g}. Compare eps_hat "
            "with the very eps that was mixed in."
        )
    again, other = _Witness(0.0), _Witness(0.0)
    loss_of(again), loss_of(other, seed=1)
    same = torch.equal(again.t, silent.t) and torch.equal(again.x_t, silent.x_t)
    if not same or torch.equal(other.t, silent.t) or torch.equal(other.x_t, silent.x_t):
        raise NotYet(
            "the same generator, seeded the same, gives another loss: hand it on, generator=generator, to both draws."
        )


def _check_draws_of_t(t: Tensor, count: int) -> None:
    if not isinstance(t, Tensor) or t.shape != (count,) or t.dtype != torch.long:
        raise NotYet(f"eps_model needs t as a long tensor (B,), one step per picture; it got {describe(t)}.")
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
    if _knowing(x_0)(x_t, t).std(dim=0).max() < 0.1:
        raise NotYet("all pictures of the batch get the same noise: draw it in the shape of the batch, x_0.shape.")
    alpha_bars = SCHEDULE.alpha_bars
    means = torch.stack([x_t[t == step].mean() for step in range(T)])
    variances = torch.stack([x_t[t == step].var() for step in range(T)])

    def variance_is(expected: Tensor | int, within: float = 0.12) -> bool:
        """0.12: five deviations of a variance measured on 3,200 numbers."""
        return bool((variances - expected).abs().max() <= within)

    if variance_is(1, within=0.15) and means.abs().max() < 0.15:
        raise NotYet("eps_model is given pure noise; it should be x_t, the picture with noise mixed in.")
    if not variance_is(1 - alpha_bars):
        if variance_is((1 - alpha_bars) / 12, within=0.02):
            raise NotYet("the noise is not Gaussian: torch.randn, not torch.rand.")
        if variance_is((1 - alpha_bars) ** 2):
            raise NotYet("the variance of x_t is (1 - alpha_bar)^2: a square root is missing. Use add_noise.")
        if variance_is(1):
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
        raise NotYet("it returns the sum; take the mean, or the loss grows with the size of batch and pictures.")
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


DIFFUSION_LOSS = Exercise(
    answer=my_diffusion_loss,
    general="diffusion_loss",
    examine=_examine_diffusion_loss,
    hint="Draw t, draw eps, mix, ask, compare. Draw a t for each picture.",
    sketch=(
        "t = torch.randint(..., (...,), generator=generator)\neps = torch.randn(..., generator=generator)\n"
        "x_t = add_noise(...)\nreturn (eps_model(..., ...) - ...).square().mean()"
    ),
)

# ---- ddpm_step: one step of Algorithm 2 ------------------------------------------------------------------------------


def my_ddpm_step(schedule, x_t, t, eps_hat, z):
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    mean, variance = posterior(schedule, x_0_hat, x_t, t)
    return mean + variance.sqrt() * z


def _step_spelled_out(schedule, x_t, t, eps_hat, z):
    previous = torch.cat([torch.ones(1), schedule.alpha_bars[:-1]])
    parts = previous, schedule.alpha_bars, schedule.alphas, schedule.betas
    alpha_bar_prev, alpha_bar, alpha, beta = (part[t].reshape(-1, 1, 1, 1) for part in parts)
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta
    return mean + variance.sqrt() * z


def _clipped_step(schedule, x_t, t, eps_hat, z):
    mean, variance = posterior(schedule, predict_x_0(schedule, x_t, t, eps_hat).clamp(-1, 1), x_t, t)
    return mean + variance.sqrt() * z


DDPM_STEP = Exercise(
    answer=my_ddpm_step,
    general="ddpm_step",
    hint="predict_x_0, then posterior, then its mean plus a deviation times z.",
    sketch="x_0_hat = predict_x_0(...)\nmean, variance = posterior(...)\nreturn mean + ... * z",
    examine=Compare(
        _step_spelled_out,
        cases=[(SCHEDULE, x_t, t, eps_hat, noise(*x_t.shape, seed=7)) for x_t, eps_hat, t in picture_cases()],
        t_per_picture=True,
        bugs={
            (" + variance.sqrt() * z", ""): "no fresh noise comes in: add sqrt(variance) * z.",
            ("variance.sqrt()", "variance"): "z is multiplied with the variance; it should be its root, the deviation.",
            ("variance.sqrt() * z", "z"): "z comes in at full strength: it gets the factor sqrt(variance).",
            ("variance.sqrt()", "beta.sqrt()"): (
                "noise is added at the last step, t = 0, too: the fresh noise has variance beta there. The paper "
                "allows beta as the variance, but then z must be left out at t = 0; we use the posterior's variance, "
                "which is 0 there by itself."
            ),
            ("variance.sqrt()", "beta.sqrt() * (alpha_bar_prev < 1)"): (
                "the variance of the fresh noise is beta. The paper allows that; here take the posterior's variance, "
                "beta * (1 - alpha_bar_prev) / (1 - alpha_bar)."
            ),
            ("torch.ones(1)", "schedule.alpha_bars[-1:]"): (
                "at t = 0 this reads alpha_bars[-1], the last of the schedule, and adds noise at the last step. Before "
                "step 0 alpha_bar_prev is 1."
            ),
            ("torch.ones(1)", "schedule.alpha_bars[:1]"): (
                "noise is added at the last step, t = 0: there alpha_bar_prev is 1, not alpha_bars[0]."
            ),
            (" / alpha.sqrt()", ""): "the division by sqrt(alpha) is missing in the mean.",
            ("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"): "the root is missing in beta / sqrt(1 - alpha_bar).",
            ("alpha.sqrt()", "alpha"): "the root is missing over alpha: the mean is divided by sqrt(alpha).",
            ("x_t - beta", "x_t + beta"): "the predicted noise is added where it should be taken away.",
            _clipped_step: "the guess x_0_hat is clipped to [-1, 1]. The sampler may do that; this step should not.",
            ("beta / (1 - alpha_bar)", "(1 - alpha_bar)", "alpha.sqrt()", "alpha_bar.sqrt()"): (
                "the mean is x_0_hat, the leap to the clean picture. One step back is the posterior's mean."
            ),
            ("[t].reshape(-1, 1, 1, 1)", "[t[0]]"): ONLY_FIRST,
        },
    ),
)

# ---- clinic: which bug has which patient -----------------------------------------------------------------------------


def clinic():
    """A hears the same step number always; B adds no fresh noise; C forgot a root; D has the raw weights; E read the
    far end of the schedule at its last step; F learnt from pictures in [0, 1].
    """
    return {"A": 6, "B": 3, "C": 1, "D": 5, "E": 2, "F": 4}


CLINIC = clinic()  # the patients, and the numbers of their bugs in the notebook's list
_SYMPTOMS = {
    1: "grains all over the picture, as if some of the noise had stayed.",
    2: "everything black or white, with numbers far beyond -1 and 1.",
    3: "sharp, but all the same.",
    4: "digits on grey; nothing is black.",
    5: "digits, hardly worse than the healthy ones.",
    6: "a faint veil over the black of some digits, and many that cannot be read.",
}


def _examine_clinic(value: object) -> None:
    if isinstance(value, dict) and set(value) <= set(CLINIC):
        missing = [letter for letter in CLINIC if value.get(letter, ...) is ...]
        if missing:
            raise NotYet(f"still without a diagnosis: {', '.join(missing)}.")
    if not isinstance(value, dict) or set(value) != set(CLINIC):
        raise NotYet(f'a dict is wanted, from letters to numbers, {{"A": 1, ..., "F": 6}}; this is {describe(value)}.')
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
            f"{_SYMPTOMS[claimed]}"
        )


CLINIC_EXERCISE = Exercise(
    answer=clinic,
    value="my_diagnosis",
    examine=_examine_clinic,
    hint="Begin with the plain cases: which pictures are all alike, which stand on grey, which are black or white?",
    sketch='my_diagnosis = {"A": ..., "B": 3, "C": ..., "D": ..., "E": 2, "F": ...}',
)

# ---- luck: could it be chance? ---------------------------------------------------------------------------------------


def my_luck(share_a, share_b, count):
    variance_a, variance_b = share_a * (1 - share_a) / count, share_b * (1 - share_b) / count
    return (share_b - share_a) / (variance_a + variance_b) ** 0.5


_shares = torch.tensor([[0.80, 0.86, 500.0], [0.86, 0.80, 500.0], [0.55, 0.60, 100.0], [0.92, 0.93, 2000.0]]).double()

LUCK = Exercise(
    answer=my_luck,
    hint="A share p of count samples has the variance p * (1 - p) / count; that of a difference is the sum of two.",
    sketch="variance_a, variance_b = share_a * (...) / count, ...\nreturn (...) / (variance_a + ...) ** 0.5",
    examine=Compare(
        my_luck,
        cases=[tuple(row) for row in _shares],
        rtol=0.01,  # many a textbook takes both variances at the mean of the shares
        bugs={
            (" ** 0.5", ""): "the root is missing: standard errors are roots of variances.",
            ("variance_a + variance_b", "variance_b"): (
                "only the second share is taken to be uncertain; both are measured, so both count."
            ),
            ("variance_a + variance_b", "variance_a"): (
                "only the first share is taken to be uncertain; both are measured, so both count."
            ),
            ("(variance_a + variance_b) ** 0.5", "(variance_a**0.5 + variance_b**0.5)"): (
                "the two standard errors are added; variances add up, and the root comes last."
            ),
            ("share_b - share_a", "share_a - share_b"): (
                "the sign is wrong: where the second share is the larger one, the number should be above 0."
            ),
            ("(share_b - share_a)", "abs(share_b - share_a)"): (
                "the sign is lost: where the second share is the smaller one, the number should be below 0."
            ),
            (" / count", ""): "the variances are not divided by count: more samples make a share more certain.",
            (" * (1 - share_a)", "", " * (1 - share_b)", ""): (
                "the variance of a share is p * (1 - p) / count, not p / count."
            ),
            ("(variance_a + variance_b)", "((variance_a + variance_b) / 2)"): (
                "the two variances are averaged; the variance of a difference is their sum."
            ),
            ("(share_b - share_a) / ", ""): (
                "that is the standard error of the difference; divide the difference by it."
            ),
            (" / (variance_a + variance_b) ** 0.5", ""): (
                "that is the difference itself; divide it by its standard error."
            ),
        },
    ),
)

EXERCISES = DIFFUSION_LOSS, DDPM_STEP, CLINIC_EXERCISE, LUCK
