"""The exercises of notebook 06: slerp, sdedit_start; those on a single step are in steps_06.py."""

import torch
from torch import Tensor

from ddpm_core.course.exercises import steps_06
from ddpm_core.course.exercises.compare import OBLONG, SCHEDULE, SQUARE, Compare, Exercise, NotYet, check_output, noise
from ddpm_core.process import add_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import describe

# ---- slerp: from one picture of noise to another, on the sphere ------------------------------------------------------


def my_slerp(a, b, share):
    cosine = torch.cosine_similarity(a.flatten(1), b.flatten(1)).reshape(-1, 1, 1, 1)
    angle = cosine.clamp(-1, 1).acos()
    arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() < 1e-3, torch.lerp(a, b, share), arc)  # no angle, no arc: the straight line


def _slerp_spelled_out(a, b, share):
    dot = (a * b).sum(dim=(1, 2, 3), keepdim=True)
    length_a = a.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    length_b = b.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    angle = (dot / (length_a * length_b)).clamp(-1, 1).acos()
    whole = angle.sin()
    of_a, of_b = ((1 - share) * angle).sin(), (share * angle).sin()
    arc = (of_a * a + of_b * b) / whole
    return torch.where(whole < 1e-3, (1 - share) * a + share * b, arc)


def _slerp_cases() -> list[tuple[Tensor, Tensor, float]]:
    """Pictures at all angles, two of them parallel, in exact numbers. share is never 1/2.

    All are short, so that a dot product that was not divided by their lengths is the cosine of some angle, too.
    """
    a, b = 0.1 * noise(4, 4, 4, 4, seed=1), 0.1 * noise(4, 4, 4, 4, seed=2)
    a[1:3] = a[1:3].sign() / 16
    b[1], b[2], b[3] = a[1], 2 * a[2], b[3] / 2 - a[3]  # the last are far apart
    c, d = 0.1 * noise(3, 3, 5, 4, seed=3), 0.05 * noise(3, 3, 5, 4, seed=4)
    d[0] += c[0] / 3
    return [(a, b, 0.25), (c, d, 0.7), (c.flip(0), 2 * d, 0.4)]


_straight = "(1 - share) * a + share * b"
_arc = "(of_a * a + of_b * b) / whole"
_joined = f"torch.where(whole < 1e-3, {_straight}, arc)"
_length = f"({_straight}).square().sum(dim=(1, 2, 3), keepdim=True).sqrt()"
_DEGREES = "the angle is in degrees; sin takes it as acos gives it, in radians."

SLERP = Exercise(
    answer=my_slerp,
    on_shapes="The angle is one number per picture: it multiplies pictures as (B, 1, 1, 1).",
    hint=(
        "The cosine of the angle is the dot product of two pictures, divided by both lengths; torch.cosine_similarity "
        "does that for rows, and a.flatten(1) has a picture in each row. Where the angle is 0, torch.where takes the "
        "straight line."
    ),
    sketch=(
        "cosine = torch.cosine_similarity(..., ...).reshape(-1, ...)\n"
        "angle = cosine.clamp(-1, 1).acos()\n"
        "arc = ((...).sin() * a + (...).sin() * b) / ...\n"
        "return torch.where(angle.sin() < 1e-3, ..., arc)"
    ),
    examine=Compare(
        _slerp_spelled_out,
        cases=_slerp_cases(),
        on_nan=(
            "acos of a number beyond 1 is NaN, so the dot product must be divided by both lengths first; and where two "
            "pictures are parallel, the angle is 0, and 0 / 0 is NaN."
        ),
        bugs={
            (_joined, _straight): (
                "that is the straight line. It cuts through the sphere, so that the picture in the middle is shorter: "
                "its noise is too weak for the network."
            ),
            (_joined, "arc"): (
                "where two pictures are parallel, the angle is 0, and 0 / 0 is NaN. The arc is a straight line there: "
                "(1 - share) * a + share * b."
            ),
            (_joined, f"({_arc.replace('whole', '(whole + 1e-6)')})"): (
                "where two pictures are parallel, it returns 0. A small number added below the fraction, or one put in "
                "the place of NaN, only hides that this is 0 / 0. The arc is a straight line there: (1 - share) * a + "
                "share * b."
            ),
            (f"1e-3, {_straight}", "1e-3, a"): (
                "where two pictures are parallel it returns a, whatever share is. One may be longer than the other: "
                "take the straight line, (1 - share) * a + share * b."
            ),
            (f"1e-3, {_straight}", "1e-3, b"): (
                "where two pictures are parallel it returns b, whatever share is. One may be longer than the other: "
                "take the straight line, (1 - share) * a + share * b."
            ),
            ("(dot / (length_a * length_b))", "dot"): (
                "the angle comes from vectors that are not normalised: divide the dot product by both lengths before "
                "acos."
            ),
            ("/ (length_a * length_b)", "/ length_a**2"): (
                "the dot product is divided by the square of a's length; divide it by both lengths, a's and b's."
            ),
            ("/ (length_a * length_b)", "/ length_b**2"): (
                "the dot product is divided by the square of b's length; divide it by both lengths, a's and b's."
            ),
            ("/ (length_a * length_b)", "/ a[:1].numel()"): (
                "the dot product is divided by the number of pixels, as if every picture were standard noise; divide "
                "it by both lengths."
            ),
            ("dim=(1, 2, 3), keepdim=True", ""): (
                "one angle is taken for the whole batch; every pair of pictures has an angle of its own. Sum over all "
                "axes but the first."
            ),
            ("dim=(1, 2, 3)", "dim=1"): (
                "every pixel gets an angle of its own: the sum goes over the channels alone. A picture is one vector: "
                "sum over all axes but the first."
            ),
            ("dim=(1, 2, 3)", "dim=(2, 3)"): (
                "every channel gets an angle of its own. A picture is one vector: sum over all axes but the first."
            ),
            ("dim=(1, 2, 3)", "dim=3"): (
                "each row of pixels gets an angle of its own. A picture is one vector: sum over all axes but the first."
            ),
            (".acos()\n", ".acos().rad2deg()\n"): _DEGREES,
            (".acos()\n", ".acos().rad2deg()\n", "whole < 1e-3", "angle < 1e-3"): _DEGREES,
            (".acos()\n", "\n"): "acos is missing: that is the angle's cosine, not the angle.",
            (".acos()", ".asin()"): "asin stands where acos belongs: lengths and dot product give the cosine.",
            ("of_a, of_b =", "of_b, of_a =", f"1e-3, {_straight}", "1e-3, share * a + (1 - share) * b"): (
                "share is counted from the wrong end: with share = 0 it should return a, and with share = 1, b."
            ),
            ("of_a, of_b =", "of_b, of_a ="): (
                "on the arc share is counted from the wrong end: with share = 0 it should return a, and with 1, b."
            ),
            (" / whole", ""): "the division by the sine of the whole angle is missing.",
            (
                "((1 - share) * angle).sin(), (share * angle).sin()",
                "torch.tensor(1 - share).sin() * angle, torch.tensor(share).sin() * angle",
            ): ("the sine is taken of share alone; it is sin(share * angle)."),
            (_arc, "(share * angle).cos() * a + (share * angle).sin() * b"): (
                "cos(share * angle) and sin(share * angle) fit only where a and b are at a right angle, and equally "
                "long. The factors are sin((1 - share) * angle) / sin(angle) and sin(share * angle) / sin(angle)."
            ),
            (_joined, "(1 - share) ** 0.5 * a + share ** 0.5 * b"): (
                "roots of the shares keep the length only where a and b are at a right angle. Use the angle of each "
                "pair."
            ),
            (_joined, "((1 - share) * a + share * b) / ((1 - share) ** 2 + share ** 2) ** 0.5"): (
                "the straight line is stretched by one number for all; this keeps the length only where a and b are at "
                "a right angle. Use the angle of each pair."
            ),
            (_joined, f"({_straight}) / {_length} * ((1 - share) * length_a + share * length_b)"): (
                "the straight line is stretched back to the sphere. The way is right, and the pace is not: near the "
                "middle it goes faster. On the arc equal shares are equal angles."
            ),
            (_arc, "(of_a * a / length_a + of_b * b / length_b) / whole", _straight, "a / length_a"): (
                "the lengths of a and b are lost: the directions are mixed, a / |a| and b / |b|. Mix a and b; only the "
                "angle needs their directions."
            ),
            (
                "dot = (a * b)",
                "b = torch.where((a * b).sum(dim=(1, 2, 3), keepdim=True) < 0, -b, b)\n    dot = (a * b)",
            ): (
                "where the angle is larger than a right one, it goes to -b instead of b, as one does for rotations "
                "(quaternions). Here -b is another picture."
            ),
            (
                "dot = (a * b).sum(dim=(1, 2, 3), keepdim=True)",
                "dot = (a * b).sum(dim=(1, 2, 3), keepdim=True).abs()",
            ): ("the sign of the dot product is lost, so that no angle is larger than a right one."),
        },
    ),
)

# ---- sdedit_start: where picture-to-picture begins -------------------------------------------------------------------


def my_sdedit_start(schedule, x_0, strength, eps):
    num_steps = round(strength * len(schedule))  # how many steps to go back
    t = torch.full((len(x_0),), num_steps - 1, device=x_0.device)
    return t, add_noise(schedule, x_0, t, eps)


def _start_spelled_out(schedule, x_0, strength, eps):
    num_steps = round(strength * len(schedule))
    t = torch.full((len(x_0),), num_steps - 1)
    alpha_bar = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)
    return t, alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps


def _t_and_x_t(output: object, schedule: NoiseSchedule, x_0: Tensor, *others: object) -> Tensor:
    """Both as one tensor, so that they are compared together. Raises NotYet where they are not a pair."""
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        raise NotYet(f"it should return two things, t and x_t; it returns {describe(output)}.")
    t, x_t = output
    if isinstance(t, Tensor) and t.shape == x_0.shape and isinstance(x_t, Tensor) and x_t.shape == x_0.shape[:1]:
        raise NotYet("t and x_t have changed places: return t, x_t.")
    if not isinstance(t, Tensor) or t.shape != (len(x_0),) or t.dtype != torch.long:
        raise NotYet(f"t should be a long tensor of shape (B,), as eps_model takes it; it is {describe(t)}.")
    x_t = check_output(x_t, x_0, what="x_t:")
    return torch.stack([t.to(x_t.dtype).reshape(-1, 1, 1, 1).expand_as(x_t), x_t])


_x_t = "alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps"
_ADD_NOISE = "how much noise belongs to t the schedule says: add_noise"

SDEDIT_START = Exercise(
    answer=my_sdedit_start,
    hint=(
        "strength * len(schedule) is the number of steps to go back. The last of them starts at t = 0: so at which t "
        "does the first one start? Then add_noise, with that t for each picture."
    ),
    sketch="t = torch.full((len(x_0),), ..., device=x_0.device)\nreturn t, add_noise(schedule, ..., t, ...)",
    examine=Compare(
        _start_spelled_out,
        cases=[
            (SCHEDULE, noise(*shape, seed=1).tanh(), strength, noise(*shape, seed=2))
            for shape, strength in ((SQUARE, 0.25), (OBLONG, 0.6), (OBLONG, 0.75))
        ],
        to_tensor=_t_and_x_t,
        parts=("t", "x_t"),
        may_ignore=("strength",),  # with a larger one there is no right answer; named below
        bugs={
            ("strength * len", "(1 - strength) * len"): (
                "strength is upside down: 1 is the strongest change, all steps from the noisiest one; small numbers "
                "change little."
            ),
            ("num_steps - 1)", "num_steps)"): ("t is one too high: k steps back are those from k - 1 to 0."),
            ("num_steps - 1)", "num_steps - 2)"): "t is one too low: k steps back are those from k - 1 to 0.",
            ("round(strength * len(schedule))", "round(strength * (len(schedule) - 1)) + 1"): (
                "t is round(strength * (T - 1)). strength is a share of the T steps: of k = strength * T steps the "
                "first one starts at k - 1."
            ),
            ("strength * len", "strength**2 * len"): "strength is squared; the number of steps is strength * T.",
            (
                "strength * len",
                "strength**0.5 * len",
            ): "the root of strength is taken; the number of steps is strength * T.",
            ("num_steps - 1)", "len(schedule) - num_steps)"): (
                "t is counted from the noisy end: for k steps back it is k - 1, as t = 0 is the least noisy one."
            ),
            ("num_steps - 1)", "len(schedule) - 1)"): "it begins at T - 1 whatever strength is.",
            ("(1 - alpha_bar).sqrt() * eps", "(1 - alpha_bar) * eps"): (
                "a root is missing in x_t: eps gets the factor sqrt(1 - alpha_bar). add_noise knows it."
            ),
            ("alpha_bar.sqrt() * x_0", "alpha_bar * x_0"): (
                "a root is missing in x_t: x_0 gets the factor sqrt(alpha_bar). add_noise knows it."
            ),
            (".sqrt()", ""): "both roots are missing in x_t; add_noise knows them.",
            (_x_t, "x_0 + strength * eps"): f"x_t is x_0 + strength * eps; {_ADD_NOISE}.",
            (_x_t, "(1 - strength) * x_0 + strength * eps"): f"x_0 and eps are mixed by strength; {_ADD_NOISE}.",
            (_x_t, "(1 - strength) ** 0.5 * x_0 + strength**0.5 * eps"): (
                f"x_0 and eps are mixed by the roots of strength and 1 - strength; {_ADD_NOISE}."
            ),
            (_x_t, "x_0"): "x_t is the clean picture: the network at t expects the noise that belongs to t.",
            (_x_t, "eps"): "x_t is noise alone: nothing of the picture is left to begin with.",
            ("alpha_bar.sqrt() * x_0", "x_0"): "x_0 is not shrunk in x_t: its factor is sqrt(alpha_bar).",
            (
                "(1 - alpha_bar).sqrt() * eps",
                "eps",
            ): "eps comes in at full strength; its factor is sqrt(1 - alpha_bar).",
            ("alpha_bars[t]", "alphas[t]"): "x_t is read from alphas, which belong to single steps; take alpha_bars.",
            ("alpha_bars[t]", "alpha_bars_prev[t]"): (
                "x_t has the noise of the step before t; t and x_t must fit together, or the network is misled."
            ),
        },
    ),
)

EXERCISES = steps_06.DDIM_ETA_STEP, SLERP, SDEDIT_START, steps_06.INPAINT_STEP
