"""The exercises of notebook 06 on a single step from t to t_before: ddim_eta_step, inpaint_step."""

import torch

from ddpm_core.course.exercises.compare import COUNTED_FROM_1, SCHEDULE, Compare, Exercise, noise, picture_cases
from ddpm_core.course.exercises.leap import CHANGED_PLACES, LEAP_BUGS, T_BEFORE
from ddpm_core.process import predict_x_0

_cases = [(x_t, t, eps_hat, before) for (x_t, eps_hat, t), before in zip(picture_cases(), T_BEFORE, strict=True)]

# ---- ddim_eta_step: a part of the noise is fresh ---------------------------------------------------------------------


def my_ddim_eta_step(schedule, x_t, t, eps_hat, t_before, eta, z):
    alpha_bar = schedule.alpha_bars[t].reshape(-1, 1, 1, 1)
    alpha_bar_before = schedule.alpha_bars_prev[t_before + 1].reshape(-1, 1, 1, 1)  # 1 where t_before is -1
    sigma = eta * ((1 - alpha_bar_before) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_before)).sqrt()
    kept = (1 - alpha_bar_before - sigma**2).sqrt()
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    return alpha_bar_before.sqrt() * x_0_hat + kept * eps_hat + sigma * z


def _eta_spelled_out(schedule, x_t, t, eps_hat, t_before, eta, z):
    alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
    alpha_bar, before = (alpha_bars[step + 1].reshape(-1, 1, 1, 1) for step in (t, t_before))
    x_0_hat = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    sigma = eta * ((1 - before) / (1 - alpha_bar)).sqrt() * (1 - alpha_bar / before).sqrt()
    kept = (1 - before - sigma**2).sqrt()
    return before.sqrt() * x_0_hat + kept * eps_hat + sigma * z


_mixture = "before.sqrt() * x_0_hat + kept * eps_hat + sigma * z"
_sigma = "((1 - before) / (1 - alpha_bar)).sqrt() * (1 - alpha_bar / before).sqrt()"
_sigma_squared = "(1 - before) / (1 - alpha_bar) * (1 - alpha_bar / before)"
_beta = "schedule.betas[t].reshape(-1, 1, 1, 1)"
_AT_THE_END = "Before step 0 alpha_bar is 1: sigma comes out as 0, and the step returns x_0_hat."

DDIM_ETA_STEP = Exercise(
    answer=my_ddim_eta_step,
    hint=(
        "Begin with my_ddim_step of notebook 04. Work out sigma, and give z the factor sigma. The variance of all the "
        "noise must stay 1 - alpha_bar of t_before: what sigma**2 has taken of it, eps_hat has to give up."
    ),
    sketch=(
        "alpha_bar = schedule.alpha_bars[...].reshape(-1, 1, 1, 1)\n"
        "alpha_bar_before = schedule.alpha_bars_prev[...].reshape(-1, 1, 1, 1)\n"
        "sigma = eta * (... * ...).sqrt()\n"
        "kept = (... - sigma**2).sqrt()\n"
        "x_0_hat = predict_x_0(...)\n"
        "return ... * x_0_hat + kept * ... + sigma * ..."
    ),
    examine=Compare(
        _eta_spelled_out,
        cases=[
            (SCHEDULE, *case, eta, noise(*case[0].shape, seed=7))
            for case, eta in zip(_cases, (0.6, 1.0, 0.1), strict=True)
        ],
        t_per_picture=True,
        on_nan=(
            "is there a root of a negative number, or 0 / 0? eps_hat gets the root of 1 - alpha_bar of t_before minus "
            "sigma**2, and in sigma the alpha_bar of t, the smaller one, is divided by that of t_before."
        ),
        bugs={
            ("eta *", "eta**2 *"): "eta is squared in sigma. Only in the variance, sigma**2, does eta**2 stand.",
            ("eta *", "eta**0.5 *"): (
                "eta is not squared in the variance: sigma, a deviation, has the factor eta, and sigma**2 has eta**2."
            ),
            ("eta * ", ""): "eta is left out: this is the step for eta = 1, a step of DDPM. Multiply sigma by eta.",
            (_mixture, "before.sqrt() * x_0_hat + (1 - before).sqrt() * eps_hat"): (
                "no fresh noise comes in: this is the step for eta = 0. Add sigma * z, and let eps_hat give up as much."
            ),
            (" + sigma * z", ""): "z is left out: eps_hat has given up a part of the noise, and sigma * z replaces it.",
            ("kept * eps_hat + sigma * z", "sigma * eps_hat + kept * z"): (
                "the two noises have changed places: z, the fresh one, gets the factor sigma, and eps_hat what is left."
            ),
            ("kept * eps_hat", "sigma * eps_hat"): (
                "eps_hat gets the factor sigma, too; it gets what is left of the noise, sqrt(1 - alpha_bar of t_before "
                "- sigma**2)."
            ),
            (" - sigma**2", ""): (
                "the fresh noise comes on top of the old one, so that there is more of it than belongs to t_before. "
                "Subtract sigma**2 under the root of eps_hat's factor."
            ),
            (" - sigma**2", " - sigma"): (
                "sigma is not squared in eps_hat's factor: variances are subtracted, sqrt(1 - alpha_bar of t_before - "
                "sigma**2)."
            ),
            ("(1 - before - sigma**2).sqrt()", "(1 - before).sqrt() - sigma"): (
                "in eps_hat's factor deviations are subtracted; subtract variances, and take the root at the end."
            ),
            (" - sigma**2", " + sigma**2"): "in eps_hat's factor sigma**2 is added; it is subtracted.",
            ("(1 - before - sigma**2).sqrt()", "(1 - before - sigma**2)"): (
                "a root is missing: eps_hat gets the factor sqrt(1 - alpha_bar of t_before - sigma**2)."
            ),
            ("(1 - before - sigma**2)", "(1 - alpha_bar - sigma**2)"): (
                "the factor of eps_hat comes from t; it is sqrt(1 - alpha_bar - sigma**2), with the alpha_bar of "
                "t_before."
            ),
            ("kept * eps_hat", "eps_hat"): (
                "eps_hat comes back at full strength; its factor is sqrt(1 - alpha_bar of t_before - sigma**2)."
            ),
            ("kept * eps_hat + ", ""): "eps_hat is left out of the mixture: only a part of the noise is fresh.",
            ("kept * eps_hat", "kept * x_t"): "x_t stands in the mixture where eps_hat belongs.",
            ("sigma * z", "sigma**2 * z"): "z is multiplied with the variance; it should be its root, sigma.",
            ("+ sigma * z", "- sigma * z"): "z is subtracted; with the z that is given, add it.",
            ("sigma * z", "sigma"): "z is left out: sigma multiplies z.",
            ("sigma * z", "sigma * z * (t > 1).reshape(-1, 1, 1, 1)"): COUNTED_FROM_1,
            ("sigma * z", "sigma * z * (t_before > 0).reshape(-1, 1, 1, 1)"): (
                "z is left out at t_before = 0. Only the step to the clean picture, -1, has no fresh noise, and there "
                "sigma is 0 by itself."
            ),
            ("sigma * z", "z"): "z comes in at full strength: it gets the factor sigma.",
            ("sigma * z", "eta * z"): "z gets the factor eta; it gets sigma.",
            (_sigma, "(1 - before).sqrt()"): (
                "sigma is eta * sqrt(1 - alpha_bar of t_before). With eta = 1 all noise would be fresh; in a step of "
                "DDPM most of it is old, as the two further roots in sigma say."
            ),
            (_sigma, "(1 - before).sqrt()", "(1 - before - sigma**2).sqrt()", "(1 - eta) * (1 - before).sqrt()"): (
                "the noise is shared out as eta and 1 - eta. It is the variance that is shared, and eta multiplies "
                "sigma as the paper defines it."
            ),
            (" * (1 - alpha_bar / before).sqrt()", ""): (
                "in sigma the second factor is missing: sqrt(1 - alpha_bar of t / alpha_bar of t_before)."
            ),
            (_sigma, "(1 - alpha_bar / before).sqrt()", "sigma**2)", "sigma**2).clamp(min=0)"): (
                "noise is added at the last step, too: in sigma the first factor is missing, which is 0 there, "
                "sqrt((1 - alpha_bar of t_before) / (1 - alpha_bar of t))."
            ),
            (_sigma, "(1 - alpha_bar / before).sqrt()"): (
                "noise is added at the last step, too, and eps_hat gets the root of a negative number: in sigma the "
                "first factor is missing, sqrt((1 - alpha_bar of t_before) / (1 - alpha_bar of t))."
            ),
            ("(1 - before) / (1 - alpha_bar)", "(1 - alpha_bar) / (1 - before)"): (
                "in sigma the first fraction stands on its head: 1 - alpha_bar of t_before, the smaller one, is above."
            ),
            (_sigma, _sigma_squared): "the root is missing in sigma: eta multiplies a deviation.",
            (f"eta * {_sigma}", f"eta**2 * {_sigma_squared}"): (
                "sigma is the variance here; it should be its root, and only its square is subtracted."
            ),
            ("((1 - before) / (1 - alpha_bar)).sqrt()", "((1 - before) / (1 - alpha_bar))"): (
                "in sigma the root of the first factor is missing."
            ),
            ("(1 - alpha_bar / before).sqrt()", "(1 - alpha_bar / before)"): (
                "in sigma the root of the second factor is missing."
            ),
            ("(1 - alpha_bar / before)", _beta): (
                "in sigma stands beta, which belongs to a step from t to t - 1. For a step of any length it is 1 - "
                "alpha_bar of t / alpha_bar of t_before."
            ),
            (_sigma, f"{_beta}.sqrt()", "sigma**2)", "sigma**2).clamp(min=0)"): (
                "noise is added at the last step, too: sigma is made of beta alone. The paper's sigma is 0 where "
                "t_before is -1."
            ),
            (_sigma, _sigma.replace("before", "alpha_bars[t].reshape(-1, 1, 1, 1)")): (
                "sigma is that of a step from t to t - 1. The step goes to t_before: use its alpha_bar in sigma, too."
            ),
            (_mixture, "x_0_hat"): (
                "it returns x_0_hat, the leap to the clean picture. At t_before there is still noise in it, old and "
                "fresh."
            ),
            ("torch.ones(1)", "schedule.alpha_bars[-1:]"): (
                f"where t_before is -1, this reads alpha_bars[-1], the last of the schedule. {_AT_THE_END}"
            ),
            ("torch.ones(1)", "schedule.alpha_bars[:1]"): (
                f"noise is left at the last step: where t_before is -1, this takes alpha_bars[0]. {_AT_THE_END}"
            ),
        }
        | LEAP_BUGS,
    ),
)

# ---- inpaint_step: what is known comes from the picture, the rest from the sampler -----------------------------------


def my_inpaint_step(schedule, x_t, t, eps_hat, t_before, x_0, mask, eps):
    alpha_bar_before = schedule.alpha_bars_prev[t_before + 1].reshape(-1, 1, 1, 1)  # 1 where t_before is -1
    x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
    drawn = alpha_bar_before.sqrt() * x_0_hat + (1 - alpha_bar_before).sqrt() * eps_hat
    known = alpha_bar_before.sqrt() * x_0 + (1 - alpha_bar_before).sqrt() * eps
    return torch.where(mask, drawn, known)


def _inpaint_spelled_out(schedule, x_t, t, eps_hat, t_before, x_0, mask, eps):
    alpha_bars = torch.cat([torch.ones(1), schedule.alpha_bars])
    alpha_bar, before = (alpha_bars[step + 1].reshape(-1, 1, 1, 1) for step in (t, t_before))
    x_0_hat = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
    drawn = before.sqrt() * x_0_hat + (1 - before).sqrt() * eps_hat
    known = before.sqrt() * x_0 + (1 - before).sqrt() * eps
    return torch.where(mask, drawn, known)


def _mask(H: int, W: int) -> torch.Tensor:
    """A corner of the picture, of other size in height and width."""
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[: H // 2, 1:] = True
    return mask


_joined, _known = "torch.where(mask, drawn, known)", "before.sqrt() * x_0 + (1 - before).sqrt() * eps\n"
_NOT_RESTORED = "At the last step no noise is left: the known part is the picture itself, as alpha_bar is 1 there."

INPAINT_STEP = Exercise(
    answer=my_inpaint_step,
    on_shapes=(
        "Numbers looked up with t or t_before multiply pictures as (B, 1, 1, 1); the mask, (H, W), fits pictures as it "
        "is."
    ),
    hint=(
        "Two pictures of the moment t_before: one drawn, by my_ddim_step, and one known, x_0 with as much of eps as "
        "belongs to t_before. Then torch.where(mask, ..., ...)."
    ),
    sketch=(
        "alpha_bar_before = schedule.alpha_bars_prev[...].reshape(-1, 1, 1, 1)\n"
        "x_0_hat = predict_x_0(...)\n"
        "drawn = ... * x_0_hat + ... * eps_hat\n"
        "known = ... * x_0 + ... * eps\n"
        "return torch.where(mask, ..., ...)"
    ),
    examine=Compare(
        _inpaint_spelled_out,
        cases=[
            (SCHEDULE, *case, noise(*shape, seed=5).tanh(), _mask(*shape[2:]), noise(*shape, seed=7))
            for case in _cases
            for shape in [case[0].shape]
        ],
        t_per_picture=True,
        bugs={
            ("mask, drawn, known", "mask, known, drawn"): (
                "the mask is upside down: it is True where the picture is to be drawn, and False where it is known. "
                "(The paper's mask is 1 where it is known.)"
            ),
            ("mask, drawn, known", "mask, drawn, x_0"): (
                "the known part is pasted clean. At t_before the rest is noisy, and the network must see all of it at "
                "the same level: mix x_0 with eps."
            ),
            (_known, "alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps\n"): (
                "the known part is noised to the level of t. The step has gone on to t_before: take that alpha_bar."
            ),
            ("known = ", "before = alpha_bars[t].reshape(-1, 1, 1, 1)\n    known = "): (
                "the known part is noised to the level of t - 1. The step goes to t_before, which may be further away."
            ),
            ("known = ", "before = alpha_bars[t_before + 2].reshape(-1, 1, 1, 1)\n    known = "): (
                "the known part is off by one: it is noised for t_before + 1, and the rest is at t_before."
            ),
            (_joined, "drawn"): "the known part is left out: where the mask is False, return the picture, noised.",
            (_joined, "known"): "the drawn part is left out: where the mask is True, return what the sampler says.",
            (_known, _known.replace("eps", "eps_hat")): (
                "the known part is mixed with eps_hat, what the network takes for the noise; mix it with eps."
            ),
            ("eps_hat\n", "eps\n"): "the drawn part is mixed with eps; there it is eps_hat, the noise found in x_t.",
            ("* eps_hat\n", "* eps\n", "* eps\n    return", "* eps_hat\n    return"): (
                "the two noises have changed places: eps_hat belongs to x_0_hat, and eps to x_0."
            ),
            (
                "    x_0_hat = ",
                f"    x_t = torch.where(mask, x_t, {_known.strip().replace('before', 'alpha_bar')})\n    x_0_hat = ",
                _joined,
                "drawn",
            ): (
                "the known part is set in before the step, and comes out of it as the network sees it, even at the "
                "end. First make the step, then set it in, noised for t_before."
            ),
            ("mask, drawn, known", "mask | (t_before == -1).reshape(-1, 1, 1, 1), drawn, known"): (
                f"the known part is not restored at the end, where t_before is -1. {_NOT_RESTORED}"
            ),
            ("known = ", "before = schedule.alpha_bars[t_before.clamp(min=0)].reshape(-1, 1, 1, 1)\n    known = "): (
                "the known part is still noisy at the end: where t_before is -1, it takes alpha_bars[0]. "
                f"{_NOT_RESTORED}"
            ),
            ("torch.ones(1)", "schedule.alpha_bars[:1]"): (
                f"noise is left at the end: where t_before is -1, this takes alpha_bars[0]. {_NOT_RESTORED}"
            ),
            ("known = ", "before = schedule.alpha_bars[t_before].reshape(-1, 1, 1, 1)\n    known = "): (
                "the known part is nearly all noise at the end: where t_before is -1, it reads alpha_bars[-1], the "
                f"last of the schedule. {_NOT_RESTORED}"
            ),
            ("torch.ones(1)", "schedule.alpha_bars[-1:]"): (
                "where t_before is -1, this reads alpha_bars[-1], the last of the schedule. Before step 0 alpha_bar is "
                "1: no noise at all."
            ),
            ("mask, drawn", "mask, x_t"): "where it is to be drawn it returns x_t itself: make the step to t_before.",
            ("mask, drawn", "mask, x_0_hat"): (
                "where it is to be drawn it returns x_0_hat; mix that with eps_hat for t_before, as my_ddim_step does."
            ),
            (_joined, "mask * drawn + known"): (
                "drawn and known are added up where the mask is True; there the known part must go: torch.where."
            ),
            (_joined, "drawn + ~mask * known"): (
                "drawn and known are added up where the mask is False; there the drawn part must go: torch.where."
            ),
            (_joined, "drawn + known"): "drawn and known are added up everywhere; choose one for each pixel.",
            (_joined, "(drawn + known) / 2"): "it averages drawn and known everywhere; choose one for each pixel.",
            ("* x_0 +", "* x_0_hat +"): "the known part is made of x_0_hat; it is made of x_0, the picture.",
            (_known, "before * x_0 + (1 - before) * eps\n"): (
                "in the known part both roots are missing: the factors are those of add_noise."
            ),
            ("before.sqrt() * x_0 +", "before * x_0 +"): (
                "in the known part a root is missing: x_0 gets the factor sqrt(alpha_bar of t_before)."
            ),
            ("(1 - before).sqrt() * eps\n", "(1 - before) * eps\n"): (
                "in the known part a root is missing: eps gets the factor sqrt(1 - alpha_bar of t_before). (The "
                "paper's algorithm 1 has this slip, too; its equation 8a has it right.)"
            ),
            ("before.sqrt() * x_0 +", "x_0 +"): "x_0 is not shrunk: its factor is sqrt(alpha_bar of t_before).",
            ("(1 - before).sqrt() * eps\n", "eps\n"): (
                "eps comes in at full strength; its factor is sqrt(1 - alpha_bar of t_before)."
            ),
            ("before.sqrt() * x_0 + ", ""): "the known part is noise alone: x_0 is missing in it.",
            ("(1 - before).sqrt() * eps_hat\n", "(1 - alpha_bar).sqrt() * eps_hat\n"): (
                "in the drawn part the factor of eps_hat comes from t; take the alpha_bar of t_before."
            ),
            ("(1 - before).sqrt() * eps_hat\n", "(1 - before) * eps_hat\n"): (
                "in the drawn part a root is missing: eps_hat gets the factor sqrt(1 - alpha_bar of t_before)."
            ),
        }
        | LEAP_BUGS
        | CHANGED_PLACES,
    ),
)
