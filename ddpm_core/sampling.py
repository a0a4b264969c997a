"""The reverse process: from noise to a picture, one step at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ddpm_core.process import posterior, predict_x_0
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards

EpsModel = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> eps_hat, with t long, (B,)
Randomness = torch.Generator | Sequence[torch.Generator] | None


def sample(
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    clip_x_0: bool = True,
    generator: Randomness = None,
) -> Iterator[Tensor]:
    """Yields the picture after each step back; the last one is x_0 (DDPM algorithm 2, with eq. 7's variance).

    generator: source of the fresh noise, on x_T's device (None: torch's global one); a list has one for each picture,
    whose noise then depends on no other of the batch. The other arguments, and the errors, are those of
    reverse_process.
    """
    guards.noise(x_T, generator)
    return reverse_process(partial(ddpm_step, generator=generator), eps_model, schedule, x_T, num_steps, clip_x_0)


def ddpm_step(schedule: NoiseSchedule, x_0_hat: Tensor, x_t: Tensor, t: Tensor, generator: Randomness = None) -> Tensor:
    """One step back, a draw from q(x_{t-1} | x_t, x_0_hat): ancestral sampling. At t = 0 its variance is 0."""
    mean, variance = posterior(schedule, x_0_hat, x_t, t)
    fresh_noise = randn(x_t.shape, generator, device=x_t.device, dtype=x_t.dtype)
    return mean + variance.sqrt() * fresh_noise


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
    step: Callable[[NoiseSchedule, Tensor, Tensor, Tensor], Tensor],
    eps_model: EpsModel,
    schedule: NoiseSchedule,
    x_T: Tensor,
    num_steps: int | None = None,
    clip_x_0: bool = True,
) -> Iterator[Tensor]:
    """Yields x_t after each step back from x_T, (B, ...) floats from a standard Gaussian; the last one is x_0.

    step:      (schedule, x_0_hat, x_t, t) -> the picture one step earlier, the rule by which samplers differ. schedule
               is that of the visited timesteps, and t, (B,), counts in it
    num_steps: how many of the schedule's timesteps to visit, evenly spaced (None: all of them). Fewer are faster, and
               with eq. 7's variance they also narrow what is drawn: of a Gaussian of deviation 0.5, 50 of 200 cosine
               steps leave 0.47 and 5 leave 0.33; with the variance beta 0.51 and 0.50, with DDIM 0.48 and 0.36
    clip_x_0:  keep the estimated clean picture in [-1, 1]; say False for data that are not pictures, with a schedule
               such as linear_betas. cosine_betas ends at 0.999: there x_t is divided by nearly 0, and nothing but
               clipping keeps the errors of a network small

    Raises TypeError and ValueError, at the call, where an argument does not fit, such as a num_steps longer than the
    schedule; and on the way where eps_model returns another shape.
    """
    guards.noise(x_T)
    guards.eps_model(eps_model)
    guards.instance("schedule", schedule, NoiseSchedule, "NoiseSchedule(betas)")
    schedule = schedule.to(x_T.device).trusting()  # every t is made here
    short_schedule, timesteps = schedule.respaced(len(schedule) if num_steps is None else num_steps)

    @torch.no_grad()
    def steps() -> Iterator[Tensor]:
        x_t = x_T
        for number in reversed(range(len(timesteps))):
            t = timesteps[number].expand(len(x_t))  # what the network was trained with
            i = torch.full_like(t, number)  # the same moment, counted in the shorter schedule
            eps_hat = eps_model(x_t, t)
            guards.shape("what eps_model returns", eps_hat, x_t.shape, "x_t's")
            x_0_hat = predict_x_0(short_schedule, x_t, i, eps_hat)
            x_t = step(short_schedule, x_0_hat.clamp(-1, 1) if clip_x_0 else x_0_hat, x_t, i)
            yield x_t

    return steps()
