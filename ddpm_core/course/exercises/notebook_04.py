"""The exercises of notebook 04: diffusion_loss, ddpm_step, clinic, luck."""

import torch

from ddpm_core.course.exercises.compare import (
    ONLY_FIRST,
    SCHEDULE,
    Compare,
    Exercise,
    NotYet,
    edited,
    noise,
    picture_cases,
)
from ddpm_core.course.exercises.draws import examine_diffusion_loss
from ddpm_core.process import add_noise, posterior, predict_x_0
from ddpm_core.support.guards import describe

# ---- diffusion_loss: Algorithm 1 -------------------------------------------------------------------------------------


def my_diffusion_loss(eps_model, schedule, x_0, generator):
    t = torch.randint(len(schedule), (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    x_t = add_noise(schedule, x_0, t, eps)
    return (eps_model(x_t, t) - eps).square().mean()


DIFFUSION_LOSS = Exercise(
    answer=my_diffusion_loss,
    general="diffusion_loss",
    examine=examine_diffusion_loss,
    on_shapes="Numbers looked up with t multiply pictures as (B, 1, 1, 1), and eps has the shape of x_0.",
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


_WHOLE_BATCH = (
    "z is left out for the whole batch as soon as one picture is at t = 0. Each picture has a t of its own; the "
    "posterior's variance is 0 at t = 0 by itself."
)

DDPM_STEP = Exercise(
    answer=my_ddpm_step,
    general="ddpm_step",
    hint="predict_x_0, then posterior, then its mean plus a deviation times z.",
    sketch="x_0_hat = predict_x_0(...)\nmean, variance = posterior(...)\nreturn mean + ... * z",
    examine=Compare(
        _step_spelled_out,
        cases=[(SCHEDULE, x_t, t, eps_hat, noise(*x_t.shape, seed=7)) for x_t, eps_hat, t in picture_cases()],
        t_per_picture=True,
        on_nan="is there a root of a negative number, or 0 / 0? posterior returns mean, variance, in this order.",
        bugs={
            (" + variance.sqrt() * z", ""): "no fresh noise comes in: add sqrt(variance) * z.",
            ("variance.sqrt()", "variance"): "z is multiplied with the variance; it should be its root, the deviation.",
            ("variance.sqrt() * z", "z"): "z comes in at full strength: it gets the factor sqrt(variance).",
            ("variance.sqrt() * z", "variance.sqrt()"): "z is left out: the deviation multiplies z.",
            ("mean + variance", "mean - variance"): "z is subtracted; with the z that is given, add it.",
            ("variance.sqrt() * z", "variance.sqrt() * z * bool((t > 0).all())"): _WHOLE_BATCH,
            ("variance.sqrt() * z", "beta.sqrt() * z * bool((t > 0).all())"): _WHOLE_BATCH,
            ("= (1 - alpha_bar_prev) / (1 - alpha_bar)", "= (1 - alpha_bar) / (1 - alpha_bar_prev)"): (
                "in the variance the fraction stands on its head: (1 - alpha_bar_prev) / (1 - alpha_bar) * beta."
            ),
            ("(1 - alpha_bar) * beta", "(1 - alpha_bar)"): "the factor beta is missing in the variance.",
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
            edited(my_ddpm_step, "(schedule, x_0_hat, x_t", "(schedule, x_t, x_0_hat"): (
                "x_0_hat and x_t have changed places: posterior(schedule, x_0_hat, x_t, t)."
            ),
            edited(my_ddpm_step, "posterior(schedule, x_0_hat", "posterior(schedule, eps_hat"): (
                "posterior is given eps_hat where x_0_hat belongs: predict_x_0 makes one of the other."
            ),
            edited(my_ddpm_step, "x_t, t, eps_hat)\n", "eps_hat, t, x_t)\n"): (
                "x_t and eps_hat have changed places: predict_x_0(schedule, x_t, t, eps_hat)."
            ),
            edited(my_ddpm_step, "predict_x_0(schedule, x_t, t, eps_hat)", "x_t - eps_hat"): (
                "x_0_hat is x_t - eps_hat, without the factors; predict_x_0 knows them."
            ),
            edited(my_ddpm_step, "mean + variance.sqrt() * z", "x_0_hat"): (
                "it returns x_0_hat, the leap to the clean picture. One step back starts from the posterior's mean."
            ),
            ("return ", "return (", "* z\n", "* z).clamp(-1, 1)\n"): (
                "what it returns is clipped to [-1, 1]. Before the last step there is noise in it, which goes beyond."
            ),
            ("(x_t - beta", "x_t - beta", "eps_hat) /", "eps_hat /"): (
                "only the noise is divided by sqrt(alpha): the brackets around x_t - ... * eps_hat are missing."
            ),
            (" / alpha.sqrt()\n", "\n", "mean + variance.sqrt() * z", "(mean + variance.sqrt() * z) / alpha.sqrt()"): (
                "z is divided by sqrt(alpha), too; only the mean is."
            ),
            (" / (1 - alpha_bar).sqrt()", ""): "beta * eps_hat is not divided by sqrt(1 - alpha_bar).",
            ("beta / (1 - alpha_bar).sqrt() * ", ""): (
                "all of eps_hat is taken away; one step takes away only the share beta / sqrt(1 - alpha_bar)."
            ),
            ("beta / (1 - alpha_bar).sqrt()", "beta.sqrt()"): (
                "the share of eps_hat comes out as sqrt(beta); it should be beta / sqrt(1 - alpha_bar), as the noise "
                "in x_t has gathered over all steps so far."
            ),
            ("/ alpha.sqrt()", "/ alpha_bar.sqrt()"): (
                "the mean is divided by sqrt(alpha_bar); it should be sqrt(alpha), of this one step."
            ),
            ("/ alpha.sqrt()", "* alpha.sqrt()"): "the mean is multiplied with sqrt(alpha); it is divided by it.",
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
        diagnosis = {letter: float(bug) for letter, bug in value.items()}
    except (TypeError, ValueError, OverflowError, RuntimeError):
        diagnosis = {}
    if sorted(diagnosis.values()) != sorted(CLINIC.values()):
        raise NotYet("each of the numbers 1 to 6 belongs to one patient.")
    wrong = [letter for letter, bug in CLINIC.items() if diagnosis[letter] != bug]
    if wrong:
        claimed = int(diagnosis[wrong[0]])
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


def _at_the_mean(share_a, share_b, count):
    """As textbooks do: with both variances at the mean of the shares, which is right where nothing has changed."""
    share = (share_a + share_b) / 2
    return (share_b - share_a) / (2 * share * (1 - share) / count) ** 0.5


# So many samples that count - 1, which makes a variance unbiased, is as right as count.
_shares = torch.tensor([[0.80, 0.86, 1e3], [0.86, 0.82, 3e3], [0.15, 0.25, 1e3], [0.94, 0.97, 2e3]]).double()

LUCK = Exercise(
    answer=my_luck,
    hint="A share p of count samples has the variance p * (1 - p) / count; that of a difference is the sum of two.",
    sketch="variance_a, variance_b = share_a * (...) / count, ...\nreturn (...) / (variance_a + ...) ** 0.5",
    examine=Compare(
        my_luck,
        cases=[tuple(row) for row in _shares],
        alternatives=(_at_the_mean,),
        atol=0.006,  # a number rounded to two places, as the notebook shows one
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
            ("variance_a + variance_b", "variance_a - variance_b"): (
                "one variance is subtracted; the variance of a difference is the sum of both."
            ),
            ("(variance_a + variance_b)", "(variance_a**2 + variance_b**2)"): (
                "the variances are squared; they are squares already, so add them as they are."
            ),
            (
                "share_a * (1 - share_a)",
                "share_a * (1 - share_b)",
                "share_b * (1 - share_b)",
                "share_b * (1 - share_a)",
            ): ("the shares are mixed up in the variances: share_a * (1 - share_a), and the same with share_b."),
            ("(share_b - share_a) /", "share_b - share_a /"): (
                "only share_a is divided: the brackets around share_b - share_a are missing."
            ),
            (
                "(share_b - share_a) / (variance_a + variance_b) ** 0.5",
                "(variance_a + variance_b) ** 0.5",
                "** 0.5\n",
                "** 0.5 / (share_b - share_a)\n",
            ): ("the fraction stands on its head: the difference is divided by its standard error."),
            edited(_at_the_mean, "2 * ", ""): (
                "this is the variance of one share, at the mean of both; the variance of a difference is twice that."
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
                "the two variances are averaged, or halved; the variance of a difference is their sum."
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
