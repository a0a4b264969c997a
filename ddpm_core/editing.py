"""Editing: the way back begins in the middle, or keeps to what is known. No model needs to be trained for it.

Both functions take pictures, or latents with clip_x_0=False, and any eps_model, such as one that guided makes.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ddpm_core.process import add_noise
from ddpm_core.sampling import Clipping, EpsModel, Randomness, ddpm_step, randn, reverse_process
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards


def picture_to_picture(
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_0: Tensor,
    strength: float,
    num_steps: int | None = 50,
    clip_x_0: Clipping = True,
    generator: Randomness = None,
) -> Iterator[Tensor]:
    """SDEdit (Meng et al. 2022): noises x_0 up to a middling timestep and yields x_t after each DDPM step back.

    x_0:       (B, C, H, W) floats, pictures in [-1, 1]; or latents, with clip_x_0=False
    strength:  the share of the num_steps steps that is gone back, above 0, which changes little, to 1, which keeps next
               to nothing; one step at least
    num_steps: of the whole way, of which only this share is gone (None: all timesteps)
    generator: of all the noise, see sample

    Raises TypeError and ValueError, at the call, where an argument does not fit.
    """
    guards.edited(x_0, generator, clip_x_0)
    guards.number("strength", strength, above=0, most=1)
    eps_model, schedule = _shortened(eps_model, schedule, x_0, num_steps)
    schedule = schedule.first(max(1, round(strength * len(schedule))))
    x_t = _noised(schedule, x_0, len(schedule) - 1, generator)
    return reverse_process(partial(ddpm_step, generator=generator), eps_model, schedule, x_t, clip_x_0=clip_x_0)


def inpaint(
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_0: Tensor,
    mask: Tensor,
    num_steps: int | None = 50,
    num_rounds: int = 1,
    clip_x_0: Clipping = True,
    generator: Randomness = None,
) -> Iterator[Tensor]:
    """RePaint (Lugmayr et al. 2022, algorithm 1): redraws a part of x_0; yields x_t after each of the steps back.

    x_0:        (B, C, H, W) floats, pictures in [-1, 1]; or latents, with clip_x_0=False
    mask:       bool (H, W), True where x_0 is redrawn. Elsewhere the last x_t is x_0
    num_steps:  how many timesteps to visit (None: all)
    num_rounds: how often to take each step but the last, so that what is drawn fits what is known; as many times the
                calls of eps_model. (The paper goes back and forth ten steps at a time, this one step.)
    generator:  of all the noise, see sample

    Raises TypeError and ValueError, at the call, where an argument does not fit.
    """
    guards.edited(x_0, generator, clip_x_0)
    guards.mask(mask, *x_0.shape[2:], of="x_0", may_be_empty=False)
    guards.whole_number("num_rounds", num_rounds)
    eps_model, schedule = _shortened(eps_model, schedule, x_0, num_steps)
    step, mask, x_T = partial(ddpm_step, generator=generator), mask.to(x_0.device), _noise_like(x_0, generator)

    @torch.no_grad()
    def steps() -> Iterator[Tensor]:
        x_t = x_T
        for t in reversed(range(len(schedule))):
            alpha, beta = schedule.alphas[t], schedule.betas[t]
            for rounds_left in reversed(range(num_rounds if t > 0 else 1)):
                unknown = next(reverse_process(step, eps_model, schedule.first(t + 1), x_t, clip_x_0=clip_x_0))
                x_t = torch.where(mask, unknown, _noised(schedule, x_0, t - 1, generator))  # eq. 8
                if rounds_left:  # one step of noise: DDPM eq. 2
                    x_t = alpha.sqrt() * x_t + beta.sqrt() * _noise_like(x_0, generator)
            yield x_t

    return steps()


def _shortened(
    eps_model: EpsModel, schedule: NoiseSchedule, x: Tensor, num_steps: int | None
) -> tuple[EpsModel, NoiseSchedule]:
    """The schedule of the timesteps to visit, on x's device, and eps_model with its t counted in that."""
    guards.eps_model(eps_model)
    guards.instance("schedule", schedule, NoiseSchedule, "NoiseSchedule(betas)")
    schedule = schedule.to(x.device).trusting()  # every t is made here
    short_schedule, timesteps = schedule.respaced(len(schedule) if num_steps is None else num_steps)
    return lambda x_t, t: eps_model(x_t, timesteps[t]), short_schedule


def _noised(schedule: NoiseSchedule, x_0: Tensor, t: int, generator: Randomness) -> Tensor:
    """x_0 with fresh noise, as much as at timestep t. Before the first, at -1, there is none."""
    if t < 0:
        return x_0
    return add_noise(schedule, x_0, torch.full((len(x_0),), t, device=x_0.device), _noise_like(x_0, generator))


def _noise_like(x: Tensor, generator: Randomness) -> Tensor:
    return randn(x.shape, generator, device=x.device, dtype=x.dtype)
