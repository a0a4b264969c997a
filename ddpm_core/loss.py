"""What a noise predictor is taught to make small."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.process import add_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import check_eps_hat, check_pictures, describe


def diffusion_loss(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    generator: torch.Generator | None = None,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """Mean squared error between the noise that was added and the noise predicted, a scalar (DDPM eq. 14).

    x_0:           (B, ...) clean data. Each one gets a random timestep and random noise, drawn on x_0's device
    min_snr_gamma: None weighs all timesteps alike. A number gives timesteps with a signal-to-noise ratio above it the
                   weight gamma / ratio, so that more of the learning goes to what is in the picture, which is decided
                   where noise is strong, and less to its last grain (Hang et al. 2023, section 3.4)
    """
    if min_snr_gamma is not None and not min_snr_gamma > 0:
        raise ValueError(f"min_snr_gamma must be above 0; got {describe(min_snr_gamma)}")
    t = torch.randint(len(schedule), (len(x_0),), generator=generator, device=x_0.device)
    eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    eps_hat = eps_model(add_noise(schedule, x_0, t, eps), t)
    check_eps_hat(eps_hat, eps.shape)
    if min_snr_gamma is None:
        return F.mse_loss(eps_hat, eps)
    alpha_bar = schedule.alpha_bars[t]
    snr = alpha_bar / (1 - alpha_bar)
    squared_errors = (eps_hat - eps).square().flatten(1).mean(dim=1)  # (B,)
    return ((min_snr_gamma / snr).clamp(max=1) * squared_errors).mean()


@torch.no_grad()
def loss_by_timestep(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    pictures: Tensor,
    num_points: int = 10,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Mean squared error of the predicted noise at num_points evenly spread steps: (steps, losses), both (n,).

    pictures: (N, C, H, W) in [-1, 1], on the network's device. The same seed gives every network the same noise.
    """
    check_pictures(pictures)
    generator = torch.Generator(pictures.device).manual_seed(seed)
    steps = torch.linspace(0, len(schedule) - 1, num_points).round().long()
    losses = []
    for step in steps.tolist():
        t = torch.full((len(pictures),), step, device=pictures.device)
        eps = torch.randn(pictures.shape, generator=generator, device=pictures.device)
        losses.append(F.mse_loss(eps_model(add_noise(schedule, pictures, t, eps), t), eps))
    return steps, torch.stack(losses).cpu()
