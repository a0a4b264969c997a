"""The loss: what a noise predictor learns to make small."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.process import add_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards


def diffusion_loss(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    generator: torch.Generator | None = None,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """Mean squared error between the noise that was added and the noise predicted, a scalar (DDPM eq. 14).

    x_0:           (B, ...) clean data. Each one gets a random timestep and random noise, drawn on x_0's device
    min_snr_gamma: None weighs all timesteps alike; a number, as min_snr_weights does
    """
    guards.eps_model(eps_model)
    guards.randomness(generator)
    t = torch.randint(len(schedule), (len(x_0),), generator=generator, device=x_0.device)
    eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    eps_hat = eps_model(add_noise(schedule, x_0, t, eps), t)
    guards.shape("what eps_model returns", eps_hat, eps.shape, "x_t's")
    if min_snr_gamma is None:
        return F.mse_loss(eps_hat, eps)
    squared_errors = (eps_hat - eps).square().flatten(1).mean(dim=1)  # (B,)
    return (min_snr_weights(schedule, t, min_snr_gamma) * squared_errors).mean()


def min_snr_weights(schedule: NoiseSchedule, t: Tensor, gamma: float) -> Tensor:
    """Weights (B,) of the squared errors at t, (B,): min(1, gamma / signal-to-noise ratio).

    So more of the learning goes to what is in the picture, which is decided where noise is strong, and less to its
    finest details (Hang et al. 2023, section 3.4).
    """
    guards.number("min_snr_gamma", gamma, above=0)
    snr = schedule.alpha_bars[t] / schedule.beta_bars[t]
    return (gamma / snr).clamp(max=1)


@torch.no_grad()
def loss_by_timestep(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    pictures: Tensor,
    num_points: int = 10,
    seed: int = 0,
    bounded: bool = True,
) -> tuple[Tensor, Tensor]:
    """Mean squared error of the predicted noise at num_points evenly spaced timesteps: (steps, losses), both (n,).

    pictures: (N, C, H, W) in [-1, 1], on the network's device. The same seed gives every network the same noise
    bounded:  False for latents, as in train
    """
    guards.eps_model(eps_model)
    guards.pictures(pictures, look=bounded, hint=guards.FOR_LATENTS)
    generator = torch.Generator(pictures.device).manual_seed(seed)
    steps = torch.linspace(0, len(schedule) - 1, num_points).round().long()
    losses = []
    for step in steps.tolist():
        t = torch.full((len(pictures),), step, device=pictures.device)
        eps = torch.randn(pictures.shape, generator=generator, device=pictures.device)
        losses.append(F.mse_loss(eps_model(add_noise(schedule, pictures, t, eps), t), eps))
    return steps, torch.stack(losses).cpu()
