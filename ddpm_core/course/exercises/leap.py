"""The step from t to t_before, however far away that is: what goes wrong on the way, in every exercise that makes it.

The bugs are edits of a spelled-out answer, whose lines for the step are these:

    alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
    alpha_bar, before = (alpha_bars[step + 1].reshape(-1, 1, 1, 1) for step in (t, t_before))
    x_0_hat = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    before.sqrt() * x_0_hat + ...
"""

import torch

from ddpm_core.course.exercises.compare import ONLY_FIRST

T_BEFORE = torch.tensor([-1, 4, -1, 9]), torch.tensor([0, -1, 4]), torch.tensor([0, 14, 3])  # in picture_cases()
PICTURE = "before.sqrt() * x_0_hat"
_leap = "for step in (t, t_before)"  # a step of -1 finds the 1 in front of alpha_bars
_x_0_hat = "(x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()"
_ONE_BEFORE = (
    "the step is off by one: this mixes for t_before - 1, as alpha_bars_prev[t_before] does; it is the alpha_bar of "
    "t_before."
)

LEAP_BUGS = {
    (PICTURE, "alpha_bar.sqrt() * x_0_hat"): (
        "the factor of x_0_hat comes from t; it is the root of the alpha_bar of t_before."
    ),
    (PICTURE, "before * x_0_hat"): "a root is missing: x_0_hat gets the factor sqrt(alpha_bar of t_before).",
    (PICTURE, "x_0_hat"): "x_0_hat is not shrunk: its factor is sqrt(alpha_bar of t_before).",
    ("(t, t_before)", "(t, t - 1)"): (
        "t_before is left out: this goes from t to t - 1, and should go to t_before, which may be further away."
    ),
    (_leap, "for step in (t, t_before - 1)"): _ONE_BEFORE,
    ("(t, t_before)", "(t, t_before + 1)"): (
        "the step is off by one: this mixes for t_before + 1; it is the alpha_bar of t_before."
    ),
    (
        "alpha_bars[step + 1]",
        "step",
        _leap,
        "for step in (schedule.alpha_bars[t], schedule.alpha_bars_prev[t_before])",
    ): _ONE_BEFORE,
    (_leap, "for step in (t, t_before - 1 * (t_before >= 0))"): (
        "the step is off by one: this mixes for t_before - 1, except at the end; it is the alpha_bar of t_before."
    ),
    (_leap, "for step in (t, t_before + 1 * (t_before >= 0))"): (
        "the step is off by one: this mixes for t_before + 1, except at the end; it is the alpha_bar of t_before."
    ),
    (_leap, "for step in (t, torch.where(t_before <= 0, -1, t_before))"): (
        "t_before = 0 is treated as the end. At 0 one step of noise is still there; the clean picture is -1."
    ),
    (_leap, "for step in (t, -torch.ones_like(t) if (t_before < 0).any() else t_before)"): (
        "alpha_bar is set to 1 for the whole batch as soon as one t_before is -1; each picture has its own: "
        "torch.where."
    ),
    (_leap, "for step in (t, -torch.ones_like(t) if t_before[0] < 0 else t_before % len(schedule))"): (
        "whether the end is reached is asked of the first picture alone; each has a t_before of its own: torch.where."
    ),
    ("(1 - alpha_bar).sqrt() * eps_hat)", "(1 - alpha_bar) * eps_hat)"): (
        "in x_0_hat a root is missing: take away sqrt(1 - alpha_bar) * eps_hat, as predict_x_0 does."
    ),
    (" / alpha_bar.sqrt()", " / alpha_bar"): (
        "in x_0_hat a root is missing: it is divided by sqrt(alpha_bar), as in predict_x_0."
    ),
    (" / alpha_bar.sqrt()", ""): (
        "x_0_hat is not divided by sqrt(alpha_bar): the picture in x_t has been shrunk by that. predict_x_0 knows it."
    ),
    (_x_0_hat, "x_t"): "x_t is mixed with noise once more; first make x_0_hat of it, with predict_x_0.",
    (_x_0_hat, "x_t - eps_hat"): "x_0_hat is x_t - eps_hat, without the factors; predict_x_0 knows them.",
    ("x_t - (1", "x_t + (1"): "in x_0_hat the noise is added where it should be taken away: use predict_x_0.",
    (_x_0_hat, f"({_x_0_hat}).clamp(-1, 1)"): (
        "the guess x_0_hat is clipped to [-1, 1]. The sampler may do that; this step should not."
    ),
    (_x_0_hat, "(eps_hat - (1 - alpha_bar).sqrt() * x_t) / alpha_bar.sqrt()"): (
        "x_t and eps_hat have changed places: predict_x_0(schedule, x_t, t, eps_hat)."
    ),
    ("ones(1), schedule.alpha_bars", "ones(1), schedule.alphas"): (
        "the numbers are read from alphas, which belong to single steps; take alpha_bars."
    ),
    ("[step + 1].reshape(-1, 1, 1, 1)", "[step[0] + 1]"): ONLY_FIRST,
}

# For eta > 0 this is all NaN, and has no numbers to be told by.
CHANGED_PLACES = {
    (_leap, "for step in (t_before, t)"): (
        "t and t_before have changed places: leap with the alpha_bar of t, mix with that of t_before."
    ),
}
