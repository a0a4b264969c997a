"""The reverse process: from noise to a picture, one step at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ddpm_core.process import posterior, predict_x_0
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import check_eps_hat, describe


def sample(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    clip_x_0: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yields the picture after each step back; the last one is x_0 (DDPM algorithm 2, with eq. 7's variance).

    eps_model: any callable (x_t, t) -> eps_hat, with t long, (B,)
    x_T:       (B, ...) floats, drawn from a standard Gaussian
    num_steps: how many of the schedule's timesteps to visit, evenly spaced (None: all of them)
    clip_x_0:  keep the estimated clean picture in [-1, 1]; say False for data that are not pictures
    generator: source of the fresh noise, on x_T's device (None: torch's global one)

    Raises TypeError and ValueError, at the call, where an argument does not fit, such as a num_steps longer than the
    schedule; and on the way where eps_model returns another shape.
    """
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point() or x_T.ndim < 2:
        raise ValueError("x_T must be a batch of noise, such as torch.randn(16, 1, 8, 8): a tensor of floats (B, ...)")
    if not callable(eps_model):
        inside = next((name for name in ("ema_model", "model") if hasattr(eps_model, name)), None)
        hint = f": pass its {inside}" if inside else ""
        raise TypeError(f"eps_model must be callable, eps_model(x_t, t); got a {type(eps_model).__name__}{hint}")
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be a NoiseSchedule, such as NoiseSchedule(betas); got {describe(schedule)}")
    schedule = schedule.to(x_T.device).trusting()  # every t is made here
    short_schedule, timesteps = schedule.respaced(len(schedule) if num_steps is None else num_steps)

    @torch.no_grad()
    def steps() -> Iterator[Tensor]:
        x_t = x_T
        for step in reversed(range(len(timesteps))):
            t = timesteps[step].expand(len(x_t))  # what the network was trained with
            i = torch.full_like(t, step)  # the same moment, counted in the shorter schedule
            eps_hat = eps_model(x_t, t)
            check_eps_hat(eps_hat, x_t.shape)
            x_0_hat = predict_x_0(short_schedule, x_t, i, eps_hat)
            if clip_x_0:
                x_0_hat = x_0_hat.clamp(-1, 1)
            mean, variance = posterior(short_schedule, x_0_hat, x_t, i)
            fresh_noise = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
            x_t = mean + variance.sqrt() * fresh_noise
            yield x_t

    return steps()
