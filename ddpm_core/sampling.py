"""The reverse process: from noise to a picture, one step at a time.

Three samplers share one loop, reverse_process, and differ in the rule of a step: DDPM draws each earlier picture at
random, DDIM computes it, and DPM-Solver++ computes it from two x_0-predictions instead of one.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ddpm_core.process import add_noise, posterior, predict_eps, predict_x_0
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards

EpsModel = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> eps_hat, with t long, (B,)
Step = Callable[[NoiseSchedule, Tensor, Tensor, Tensor], Tensor]  # (schedule, x_0_hat, x_t, t) -> one step earlier
Clipping = bool | Callable[[Tensor], Tensor]
Randomness = torch.Generator | Sequence[torch.Generator] | None
SAMPLERS = ("ddpm", "ddim", "dpm-solver")


def sample(
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    clip_x_0: Clipping = True,
    generator: Randomness = None,
    variance: str = "posterior",
) -> Iterator[Tensor]:
    """DDPM: yields the picture after each step back; the last one is x_0 (Ho et al. 2020, algorithm 2).

    generator: source of the fresh noise, on x_T's device (None: torch's global one); a list has one for each picture,
               whose noise then depends on no other of the batch
    variance:  of the fresh noise: "posterior", eq. 7's, or "beta", which is larger. Exact are the first where there is
               but one picture, and the second where data are Gaussian noise themselves (section 3.2)

    The other arguments, and the errors, are those of reverse_process.
    """
    guards.noise(x_T, generator)
    guards.one_of("variance", variance, ("posterior", "beta"))
    step = partial(ddpm_step, generator=generator, variance=variance)
    return reverse_process(step, eps_model, schedule, x_T, num_steps, clip_x_0)


def ddpm_step(
    schedule: NoiseSchedule,
    x_0_hat: Tensor,
    x_t: Tensor,
    t: Tensor,
    generator: Randomness = None,
    variance: str = "posterior",
) -> Tensor:
    """One step back, a draw from q(x_{t-1} | x_t, x_0_hat): ancestral sampling. At t = 0 its variance is 0."""
    mean, square = posterior(schedule, x_0_hat, x_t, t)
    if variance == "beta":
        square = torch.where(square > 0, schedule.at(schedule.betas, t, x_t), 0)
    fresh_noise = randn(x_t.shape, generator, device=x_t.device, dtype=x_t.dtype)
    return mean + square.sqrt() * fresh_noise


def ddim(
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    eta: float = 0.0,
    clip_x_0: Clipping = True,
    generator: Randomness = None,
) -> Iterator[Tensor]:
    """DDIM (Song et al. 2021a): like sample, with eta times the deviation of its fresh noise.

    eta: from 0, where x_T alone decides what is drawn, to 1, which is DDPM
    """
    guards.noise(x_T, generator)
    guards.number("eta", eta, least=0, most=1)
    step = partial(ddim_step, eta=eta, generator=generator)
    return reverse_process(step, eps_model, schedule, x_T, num_steps, clip_x_0)


def ddim_step(
    schedule: NoiseSchedule,
    x_0_hat: Tensor,
    x_t: Tensor,
    t: Tensor,
    eta: float = 0.0,
    generator: Randomness = None,
) -> Tensor:
    """One step back: x_0_hat, noised again to the level before with the noise that is in x_t (DDIM eq. 12).

    With eta > 0 a part of that noise is fresh (eq. 16); how much noise there is stays the same.
    """
    alpha_bar_prev = schedule.at(schedule.alpha_bars_prev, t, x_t)
    beta_bar_prev = schedule.at(schedule.beta_bars_prev, t, x_t)
    eps_hat = predict_eps(schedule, x_t, t, x_0_hat)
    if eta == 0:
        return alpha_bar_prev.sqrt() * x_0_hat + beta_bar_prev.sqrt() * eps_hat
    alpha, beta_bar = schedule.at(schedule.alphas, t, x_t), schedule.at(schedule.beta_bars, t, x_t)
    fresh = eta**2 * (1 - alpha) * beta_bar_prev / beta_bar
    # beta_bar_prev - fresh, without a difference of nearly equal numbers
    kept = beta_bar_prev * (1 - eta**2 + eta**2 * alpha * beta_bar_prev / beta_bar)
    fresh_noise = randn(x_t.shape, generator, device=x_t.device, dtype=x_t.dtype)
    return alpha_bar_prev.sqrt() * x_0_hat + kept.sqrt() * eps_hat + fresh.sqrt() * fresh_noise


def dpm_solver(
    eps_model: EpsModel, schedule: NoiseSchedule, x_T: Tensor, num_steps: int | None = 20, clip_x_0: Clipping = True
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): like ddim, exact to second order, so that few steps do."""
    return reverse_process(dpm_solver_step(), eps_model, schedule, x_T, num_steps, clip_x_0)


def dpm_solver_step() -> Step:
    """The rule of a step, for one way back, as it remembers the x_0-prediction of the step before.

    DDIM takes x_0_hat as constant over a step. This takes its value in the middle, supposing that it goes on changing
    as between the last two steps; its clock is lambda, half the logarithm of signal to noise. The first step has
    nothing to go by, and on the last one lambda becomes infinite: these two are DDIM's.
    """
    before = None  # (lambda, x_0_hat) of the step before

    def step(schedule: NoiseSchedule, x_0_hat: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        nonlocal before
        lambdas = (schedule.alpha_bars / schedule.beta_bars).log() / 2
        lambdas_prev = (schedule.alpha_bars_prev / schedule.beta_bars_prev).log() / 2
        lambda_t, lambda_prev = schedule.at(lambdas, t, x_t), schedule.at(lambdas_prev, t, x_t)
        middle = x_0_hat
        if before is not None:
            lambda_before, x_0_before = before
            half_a_step = (lambda_prev - lambda_t) / (lambda_t - lambda_before) / 2
            middle = x_0_hat + half_a_step.nan_to_num(posinf=0) * (x_0_hat - x_0_before)
        before = lambda_t, x_0_hat
        return ddim_step(schedule, middle, x_t, t)

    return step


def ddim_inversion(
    eps_model: EpsModel, schedule: NoiseSchedule, x_0: Tensor, num_steps: int | None = None, num_tries: int = 1
) -> Iterator[Tensor]:
    """The other way: yields x_t after each step from x_0 to the x_T from which ddim, with eta 0, comes back to x_0.

    A step of ddim uses the noise predicted in the picture that it starts from, which here is what we look for. So it is
    guessed, first as the picture we have, and then num_tries times as what the guess before leads to (1: Song et al.
    2021a, section 4.3; more are closer, and each costs one call of eps_model). Nothing is clipped.
    """
    guards.whole_number("num_tries", num_tries)
    guards.noise(x_0, name="x_0")
    short_schedule, timesteps = _visits(eps_model, schedule, x_0, num_steps)

    @torch.no_grad()
    def steps() -> Iterator[Tensor]:
        x_t = x_0
        for number, timestep in enumerate(timesteps):
            t = timestep.expand(len(x_t))
            i, x_prev = torch.full_like(t, number), x_t
            alpha_bar = short_schedule.at(short_schedule.alpha_bars_prev, i, x_t)
            beta_bar = short_schedule.at(short_schedule.beta_bars_prev, i, x_t)
            for _ in range(num_tries):
                eps_hat = _eps_hat(eps_model, x_t, t)
                x_0_hat = (x_prev - beta_bar.sqrt() * eps_hat) / alpha_bar.sqrt()
                x_t = add_noise(short_schedule, x_0_hat, i, eps_hat)
            yield x_t

    return steps()


def sampler_named(name: str, generator: Randomness = None) -> Callable[..., Iterator[Tensor]]:
    """sample, ddim or dpm_solver. Only the first of them draws on the generator."""
    guards.one_of("sampler", name, SAMPLERS)
    return {"ddpm": partial(sample, generator=generator), "ddim": ddim, "dpm-solver": dpm_solver}[name]


def randn(shape: Sequence[int], generator: Randomness, **kind: object) -> Tensor:
    """torch.randn, for which a list of generators draws the pictures one by one, each with its own."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randn(shape, generator=generator, **kind)
    return torch.stack([torch.randn(shape[1:], generator=each, **kind) for each in generator])


def seeded_noise(seed: int, shape: Sequence[int], device: torch.device) -> tuple[Tensor, list[torch.Generator]]:
    """x_T of this shape, (B, ...), and the B generators to sample it with: that of picture i has the seed seed + i.

    So a picture is the same in any batch, and picture i of a seed is picture 0 of seed + i.
    """
    guards.seed(seed, how_many=shape[0])
    generators = [torch.Generator(device).manual_seed(int(seed) + i) for i in range(shape[0])]
    return randn(shape, generators, device=device), generators


def reverse_process(
    step: Step,
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    clip_x_0: Clipping = True,
) -> Iterator[Tensor]:
    """Yields x_t after each step back from x_T, (B, ...) floats from a standard Gaussian; the last one is x_0.

    step:      (schedule, x_0_hat, x_t, t) -> the picture one step earlier, the rule by which samplers differ. schedule
               is that of the visited timesteps, and t, (B,), counts in it
    num_steps: how many of the schedule's timesteps to visit, evenly spaced (None: all of them). Fewer are faster, and
               with eq. 7's variance they also narrow what is drawn: of a Gaussian of deviation 0.5, 50 of 200 cosine
               steps leave 0.47 and 5 leave 0.33; with the variance beta 0.51 and 0.50, with DDIM 0.48 and 0.36
    clip_x_0:  keep the estimated clean picture in [-1, 1]. Or a function from the estimate (B, ...) to what is kept of
               it, such as dynamic_threshold(). Say False for data that are not pictures, with a schedule such as
               linear_betas. cosine_betas ends at 0.999: there x_t is divided by nearly 0, and nothing but
               clipping keeps the errors of a network small

    Raises TypeError and ValueError, at the call, where an argument does not fit, such as a num_steps longer than the
    schedule; and on the way where eps_model returns another shape.
    """
    short_schedule, timesteps = _visits(eps_model, schedule, x_T, num_steps)
    clip = _clipping(clip_x_0)

    @torch.no_grad()
    def steps() -> Iterator[Tensor]:
        x_t = x_T
        for number in reversed(range(len(timesteps))):
            t = timesteps[number].expand(len(x_t))  # what the network was trained with
            i = torch.full_like(t, number)  # the same moment, counted in the shorter schedule
            x_0_hat = predict_x_0(short_schedule, x_t, i, _eps_hat(eps_model, x_t, t))
            x_t = step(short_schedule, clip(x_0_hat), x_t, i)
            yield x_t

    return steps()


def _clipping(clip_x_0: Clipping) -> Callable[[Tensor], Tensor]:
    guards.clipping(clip_x_0)
    if callable(clip_x_0):
        return clip_x_0
    return (lambda x_0_hat: x_0_hat.clamp(-1, 1)) if clip_x_0 else (lambda x_0_hat: x_0_hat)


def _visits(
    eps_model: EpsModel, schedule: NoiseSchedule, x: Tensor, num_steps: int | None
) -> tuple[NoiseSchedule, Tensor]:
    """The schedule of the timesteps to visit, on x's device, and which ones they are."""
    guards.noise(x)
    guards.eps_model(eps_model)
    guards.instance("schedule", schedule, NoiseSchedule, "NoiseSchedule(betas)")
    schedule = schedule.to(x.device).trusting()  # every t is made here
    return schedule.respaced(len(schedule) if num_steps is None else num_steps)


def _eps_hat(eps_model: EpsModel, x_t: Tensor, t: Tensor) -> Tensor:
    eps_hat = eps_model(x_t, t)
    guards.shape("what eps_model returns", eps_hat, x_t.shape, "x_t's")
    return eps_hat
