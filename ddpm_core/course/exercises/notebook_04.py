"""The exercises of notebook 04: diffusion_loss, clinic, luck; the others are in steps_04.py and repairs_04.py."""

import torch

from ddpm_core.course.exercises import repairs_04, steps_04
from ddpm_core.course.exercises.compare import Compare, Exercise, NotYet, edited
from ddpm_core.course.exercises.draws import examine_diffusion_loss
from ddpm_core.process import add_noise
from ddpm_core.support.guards import describe

# ---- diffusion_loss: Algorithm 1 -------------------------------------------------------------------------------------


def my_diffusion_loss(eps_model, schedule, x_0, generator):
    t = torch.randint(len(schedule), (len(x_0),), generator=generator, device=x_0.device)
    eps = torch.randn(x_0.shape, generator=generator, device=x_0.device)
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

# ---- clinic: which bug has which patient -----------------------------------------------------------------------------


def clinic():
    """A hears the same timestep always; B adds no fresh noise; C forgot a root; D has the raw weights; E read the
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
    6: "much like the healthy short run: only a longer look inside tells them apart.",
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
_shares = (0.80, 0.86, 1e3), (0.86, 0.82, 3e3), (0.15, 0.25, 1e3), (0.94, 0.97, 2e3)

LUCK = Exercise(
    answer=my_luck,
    hint="A share p of count samples has the variance p * (1 - p) / count; that of a difference is the sum of two.",
    sketch="variance_a, variance_b = share_a * (...) / count, ...\nreturn (...) / (variance_a + ...) ** 0.5",
    examine=Compare(
        my_luck,
        cases=_shares,  # plain numbers, as a call in the notebook has them
        to_tensor=lambda z, *_: float("nan") if isinstance(z, complex) else z,  # Python's root of a negative number
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

EXERCISES = DIFFUSION_LOSS, *steps_04.EXERCISES, *repairs_04.EXERCISES, CLINIC_EXERCISE, LUCK
