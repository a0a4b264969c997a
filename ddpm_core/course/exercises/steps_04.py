"""The exercises of notebook 04 on a single step: ddpm_step, ddim_step, v_to_eps."""

import torch

from ddpm_core.course.exercises.compare import (
    COUNTED_FROM_1,
    ONLY_FIRST,
    SCHEDULE,
    Compare,
    Exercise,
    edited,
    noise,
    picture_cases,
)
from ddpm_core.course.exercises.leap import CHANGED_PLACES, LEAP_BUGS, PICTURE, T_BEFORE
from ddpm_core.process import posterior, predict_x_0

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
_LEFT_OUT = {
    "(t > 1).reshape(-1, 1, 1, 1)": COUNTED_FROM_1,
    "bool((t > 1).all())": f"{COUNTED_FROM_1} And each picture has a t of its own.",
    "bool((t > 0).all())": _WHOLE_BATCH,
    "bool(t[0] > 0)": ONLY_FIRST,
    "bool(t[0] > 1)": ONLY_FIRST,
}
# No picture of the last case is at t = 0 or 1.
_step_cases = [*picture_cases(), (noise(2, 1, 3, 3, seed=1), noise(2, 1, 3, 3, seed=2), torch.tensor([2, 8]))]

DDPM_STEP = Exercise(
    answer=my_ddpm_step,
    general="ddpm_step",
    hint="predict_x_0, then posterior, then its mean plus a deviation times z.",
    sketch="x_0_hat = predict_x_0(...)\nmean, variance = posterior(...)\nreturn mean + ... * z",
    examine=Compare(
        _step_spelled_out,
        cases=[(SCHEDULE, x_t, t, eps_hat, noise(*x_t.shape, seed=7)) for x_t, eps_hat, t in _step_cases],
        t_per_picture=True,
        on_nan="is there a root of a negative number, or 0 / 0? posterior returns mean, variance, in this order.",
        bugs={
            ("variance.sqrt() * z", f"{variance}.sqrt() * z * {where}"): words
            for variance in ("variance", "beta")
            for where, words in _LEFT_OUT.items()
        }
        | {
            (" + variance.sqrt() * z", ""): "no fresh noise comes in: add sqrt(variance) * z.",
            ("variance.sqrt()", "variance"): "z is multiplied with the variance; it should be its root, the deviation.",
            ("variance.sqrt() * z", "z"): "z comes in at full strength: it gets the factor sqrt(variance).",
            ("variance.sqrt() * z", "variance.sqrt()"): "z is left out: the deviation multiplies z.",
            ("mean + variance", "mean - variance"): "z is subtracted; with the z that is given, add it.",
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

# ---- ddim_step: a step of any length, without fresh noise ------------------------------------------------------------


def my_ddim_step(schedule, x_t, t, eps_hat, t_before):
    alpha_bar_before = schedule.alpha_bars_prev[t_before + 1].reshape(-1, 1, 1, 1)  # 1 where t_before is -1
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    return alpha_bar_before.sqrt() * x_0_hat + (1 - alpha_bar_before).sqrt() * eps_hat


def _ddim_spelled_out(schedule, x_t, t, eps_hat, t_before):
    alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
    alpha_bar, before = (alpha_bars[step + 1].reshape(-1, 1, 1, 1) for step in (t, t_before))
    x_0_hat = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    return before.sqrt() * x_0_hat + (1 - before).sqrt() * eps_hat


def _posterior_mean(schedule, x_t, t, eps_hat, t_before):
    mean, _ = posterior(schedule, predict_x_0(schedule, x_t, t, eps_hat), x_t, t)
    return mean


_noise = "(1 - before).sqrt() * eps_hat\n"

DDIM_STEP = Exercise(
    answer=my_ddim_step,
    general="ddim_step",
    general_is="goes to the step before, in a respaced schedule",
    hint=(
        "First leap, with predict_x_0(schedule, x_t, t, eps_hat); then mix that picture with the same eps_hat once "
        "more, for t_before. Where t_before is -1, alpha_bar is 1: alpha_bars_prev has that 1 in front, and "
        "t_before + 1 finds it."
    ),
    sketch=(
        "alpha_bar_before = schedule.alpha_bars_prev[...].reshape(-1, 1, 1, 1)\n"
        "x_0_hat = predict_x_0(...)\n"
        "return ... * x_0_hat + ... * eps_hat"
    ),
    examine=Compare(
        _ddim_spelled_out,
        cases=[
            (SCHEDULE, x_t, t, eps_hat, before)
            for (x_t, eps_hat, t), before in zip(picture_cases(), T_BEFORE, strict=True)
        ],
        t_per_picture=True,
        bugs={
            (PICTURE, "alpha_bar.sqrt() * x_0_hat", _noise, "(1 - alpha_bar).sqrt() * eps_hat\n"): (
                "it returns x_t itself. That comes out where x_0_hat and eps_hat are mixed with the alpha_bar of t; "
                "mix them with that of t_before."
            ),
            (_noise, "(1 - alpha_bar).sqrt() * eps_hat\n"): (
                "the factor of eps_hat comes from t; it is sqrt(1 - alpha_bar), with the alpha_bar of t_before."
            ),
            ("torch.ones(1)", "schedule.alpha_bars[-1:]"): (
                "where t_before is -1, this reads alpha_bars[-1], the last of the schedule. Before step 0 alpha_bar is "
                "1, and the step returns x_0_hat."
            ),
            ("torch.ones(1)", "schedule.alpha_bars[:1]"): (
                "where t_before is -1, this takes alpha_bars[0]. Before step 0 alpha_bar is 1, and the step returns "
                "x_0_hat."
            ),
            ("torch.ones(1)", "torch.zeros(1)"): (
                "where t_before is -1, alpha_bar is taken to be 0: all noise. Before step 0 it is 1: no noise at all."
            ),
            (PICTURE, "before * x_0_hat", _noise, "(1 - before) * eps_hat\n"): (
                "both square roots are missing where x_0_hat and eps_hat are mixed: factors are roots of variances."
            ),
            (_noise, "(1 - before) * eps_hat\n"): (
                "a root is missing: eps_hat gets the factor sqrt(1 - alpha_bar of t_before)."
            ),
            (f"{PICTURE} + {_noise.strip()}", "x_0_hat"): (
                "it returns x_0_hat, the leap to the clean picture. At t_before there is still noise in it: add "
                "sqrt(1 - alpha_bar of t_before) * eps_hat."
            ),
            (f" + {_noise.strip()}", ""): (
                "no noise is left in what it returns: add sqrt(1 - alpha_bar of t_before) * eps_hat."
            ),
            (
                _noise,
                "eps_hat\n",
            ): "eps_hat comes back at full strength; its factor is sqrt(1 - alpha_bar of t_before).",
            (f"+ {_noise}", f"- {_noise}"): "eps_hat is subtracted in the mixture; it is added, as in add_noise.",
            (_noise, "(1 - before).sqrt() * x_t\n"): "x_t stands in the mixture where eps_hat belongs.",
            (PICTURE, "(1 - before).sqrt() * x_0_hat", _noise, "before.sqrt() * eps_hat\n"): (
                "the two factors have changed places: sqrt(alpha_bar of t_before) belongs to x_0_hat."
            ),
            _posterior_mean: (
                "that is the mean of the posterior, a step of DDPM without its noise. A step of DDIM mixes x_0_hat and "
                "eps_hat for t_before."
            ),
        }
        | LEAP_BUGS
        | CHANGED_PLACES,
    ),
)

# ---- v_to_eps: what a network that predicts v says about the noise ---------------------------------------------------


def my_v_to_eps(schedule, x_t, t, v):
    alpha_bar = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * x_t


_v_to_x_0 = "(alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * v)"
_sum = "alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * x_t"

V_TO_EPS = Exercise(
    answer=my_v_to_eps,
    general="noise_predictor",
    hint=(
        "Write down x_t and v, both mixtures of x_0 and eps. Multiply v by sqrt(alpha_bar) and x_t by "
        "sqrt(1 - alpha_bar): in the sum one of the two unknowns cancels, and the other has the factor 1."
    ),
    sketch="alpha_bar = schedule.alpha_bars[t].reshape(-1, ...)\nreturn ... * v + ... * x_t",
    examine=Compare(
        my_v_to_eps,
        cases=[(SCHEDULE, x_t, t, v) for x_t, v, t in picture_cases()],
        t_per_picture=True,
        bugs={
            (_sum, "alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * v"): (
                "that is x_0_hat, the picture that v stands for; what is asked for is the noise."
            ),
            (_sum, "alpha_bar.sqrt() * v - (1 - alpha_bar).sqrt() * x_t"): (
                "the sign of x_t is wrong. Put the two mixtures in: only in the sum does x_0 cancel."
            ),
            (_sum, "(1 - alpha_bar).sqrt() * x_t - alpha_bar.sqrt() * v"): (
                "the sign of v is wrong: it has +sqrt(alpha_bar) * eps in it."
            ),
            (".sqrt()", ""): (
                "both square roots are missing: the factors are sqrt(alpha_bar) and sqrt(1 - alpha_bar)."
            ),
            ("alpha_bar.sqrt() * v", "alpha_bar * v"): "a root is missing: v gets the factor sqrt(alpha_bar).",
            ("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"): (
                "a root is missing: x_t gets the factor sqrt(1 - alpha_bar)."
            ),
            ("(1 - alpha_bar).sqrt()", "(1 - alpha_bar.sqrt())"): (
                "x_t gets the factor 1 - sqrt(alpha_bar), and should get sqrt(1 - alpha_bar): first subtract, then "
                "take the root."
            ),
            (_sum, "(1 - alpha_bar).sqrt() * v + alpha_bar.sqrt() * x_t"): (
                "the two factors have changed places: sqrt(alpha_bar) belongs to v."
            ),
            (_sum, "(v + (1 - alpha_bar).sqrt() * x_t) / alpha_bar.sqrt()"): (
                "this solves the definition of v for eps, with x_t in the place of x_0. x_0 is not known here: use "
                "both mixtures, x_t and v."
            ),
            (_sum, f"(v - (1 - alpha_bar).sqrt() * {_v_to_x_0}) / alpha_bar.sqrt()"): (
                "from v's definition, eps = (v + sqrt(1 - alpha_bar) * x_0) / sqrt(alpha_bar): mind the sign."
            ),
            (_sum, "(x_t - alpha_bar.sqrt() * v) / (1 - alpha_bar).sqrt()"): (
                "v is taken for a clean picture: this is how x_0_hat is turned into noise."
            ),
            (_sum, "(x_t - (1 - alpha_bar).sqrt() * v) / alpha_bar.sqrt()"): (
                "v is taken for the noise, and this is the picture that would be left, predict_x_0."
            ),
            ("alpha_bar.sqrt() * v", "v"): "v comes in at full strength; its factor is sqrt(alpha_bar).",
            (
                "(1 - alpha_bar).sqrt() * x_t",
                "x_t",
            ): "x_t comes in at full strength; its factor is sqrt(1 - alpha_bar).",
            ("alpha_bar.sqrt() * v + ", ""): "v is left out: it gets the factor sqrt(alpha_bar).",
            (" + (1 - alpha_bar).sqrt() * x_t", ""): "x_t is left out: it gets the factor sqrt(1 - alpha_bar).",
            ("alpha_bars[t]", "alphas[t]"): "alphas[t] stands where alpha_bars[t] belongs.",
            ("alpha_bars[t]", "betas[t]"): "betas[t] stands where alpha_bars[t] belongs.",
            ("[t]", "[t - 1]"): "the step is off by one: this uses alpha_bars[t - 1]; it is alpha_bars[t].",
            ("alpha_bars[t]", "alpha_bars_prev[t]"): (
                "the step is off by one: this uses the alpha_bar before t; it is alpha_bars[t]."
            ),
            ("[t].reshape(-1, 1, 1, 1)", "[t[0]]"): ONLY_FIRST,
        },
    ),
)

EXERCISES = DDPM_STEP, DDIM_STEP, V_TO_EPS
