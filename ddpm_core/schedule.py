"""Noise schedules: how much noise each of the steps adds.

Steps are counted from 0 in code: t = 0 here is t = 1 in the DDPM paper (Ho et al. 2020).
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.support.guards import describe


def linear_betas(num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Variances of the noise added at each step, (T,) float32, evenly spaced (Ho et al. 2020, section 4)."""
    _check_num_timesteps(num_timesteps)
    return torch.linspace(beta_start, beta_end, num_timesteps)


def cosine_betas(num_timesteps: int = 1000) -> Tensor:
    """Betas whose alpha_bars follow a squared cosine, (T,) float32 (Nichol & Dhariwal 2021, eq. 17; max beta 0.999)."""
    _check_num_timesteps(num_timesteps)
    offset = 0.008  # keeps the first betas from vanishing
    progress = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
    alpha_bars = torch.cos((progress + offset) / (1 + offset) * math.pi / 2) ** 2
    betas = 1 - alpha_bars[1:] / alpha_bars[:-1]
    return betas.clamp(max=0.999).float()


class NoiseSchedule:
    """Three tensors of shape (T,), from which everything else about the noise is computed.

    betas:      variance of the noise that step t adds, each in (0, 1)
    alphas:     1 - betas, the share of the variance that step t keeps
    alpha_bars: cumulative product of the alphas, the share of the picture's variance left after step t

    Raises ValueError where betas is not a 1-D floating-point tensor with values in (0, 1).
    """

    def __init__(self, betas: Tensor):
        if not isinstance(betas, Tensor) or betas.ndim != 1 or len(betas) == 0 or not betas.is_floating_point():
            raise ValueError(f"betas must be a 1-D tensor of floats, such as linear_betas(1000); got {describe(betas)}")
        if not ((betas > 0) & (betas < 1)).all():
            low, high = betas.min().item(), betas.max().item()
            raise ValueError(f"betas must lie strictly between 0 and 1; these go from {low:.4g} to {high:.4g}")
        self.betas = betas
        self.alphas = 1 - betas
        self.alpha_bars = torch.cumprod(self.alphas, dim=0)
        self._looks_at_t = True
        first, last = self.alpha_bars[0].item(), self.alpha_bars[-1].item()
        if first == 1 or last == 0:  # the inverse and the posterior divide by 1 - alpha_bar and by alpha_bar
            raise ValueError(
                f"alpha_bars must lie strictly between 0 and 1; rounded, these go from {first:.4g} to {last:.4g}: "
                + ("the first beta is too small" if first == 1 else "the betas together leave nothing of the picture")
            )

    @property
    def alpha_bars_prev(self) -> Tensor:
        """alpha_bars one step earlier, (T,). Before step 0 nothing has been added, so the first value is 1."""
        return F.pad(self.alpha_bars[:-1], (1, 0), value=1.0)

    def __len__(self) -> int:
        return len(self.betas)

    def __repr__(self) -> str:
        first, last = self.alpha_bars[0].item(), self.alpha_bars[-1].item()
        return f"NoiseSchedule({len(self)} timesteps, alpha_bar {first:.4g} to {last:.3g})"

    def to(self, device) -> "NoiseSchedule":
        """The same schedule on another device."""
        return self._with_tensors(self.betas.to(device), self.alphas.to(device), self.alpha_bars.to(device))

    def trusting(self) -> "NoiseSchedule":
        """The same schedule for a loop that makes every t itself: at() does not look whether it is in range.

        On a GPU, to look at t is to wait until all before it is done; not to look at a wrong one ends the program.
        """
        schedule = copy.copy(self)
        schedule._looks_at_t = False
        return schedule

    def at(self, values: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """values[t] shaped (B, 1, 1, ...) to multiply x, which is (B, ...).

        values is one of this schedule's (T,) tensors; t is long, (B,), from 0 to T - 1.
        Raises TypeError or ValueError where t is not that.
        """
        if not isinstance(t, Tensor) or t.dtype != torch.long:
            raise TypeError(
                f"t must be a tensor of whole numbers (dtype torch.long), such as torch.full(({len(x)},), 5); "
                f"got {describe(t)}"
            )
        if t.ndim != 1 or len(t) != len(x):
            raise ValueError(
                f"t must hold one step number for each of the {len(x)} pictures, shape ({len(x)},); "
                f"got shape {tuple(t.shape)}"
            )
        lowest, highest = (bound.item() for bound in t.aminmax()) if len(t) and self._looks_at_t else (0, 0)
        if lowest < 0 or highest >= len(self):
            raise ValueError(
                f"t must lie between 0 and {len(self) - 1} (this schedule has {len(self)} timesteps, counted from 0); "
                f"got {lowest} to {highest}"
            )
        if values.device != x.device:
            raise ValueError(
                f"the schedule is on {values.device} but the pictures are on {x.device}: "
                f'move it with schedule = schedule.to("{x.device}")'
            )
        return values[t].reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)

    def respaced(self, num_steps: int) -> tuple["NoiseSchedule", Tensor]:
        """A shorter schedule that visits num_steps of the timesteps, and which ones they are.

        Returns (schedule, timesteps): timesteps is long, (num_steps,), rising, and always ends at T - 1, so that
        sampling starts from pure noise. Between two visited timesteps the noise of all steps in between is added
        at once (Nichol & Dhariwal 2021, section 4). Raises ValueError unless 1 <= num_steps <= T.
        """
        if not isinstance(num_steps, int) or isinstance(num_steps, bool) or not 1 <= num_steps <= len(self):
            raise ValueError(
                f"num_steps must be a whole number from 1 to {len(self)}, the schedule's length; got {num_steps!r}"
            )
        timesteps = torch.arange(len(self), 0, -len(self) / num_steps, dtype=torch.float64)[:num_steps]
        timesteps = (timesteps.round().long() - 1).flip(0).to(self.betas.device)
        if num_steps == len(self):
            return self, timesteps
        alpha_bars = self.alpha_bars[timesteps]
        alphas = alpha_bars / torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])
        return self._with_tensors(1 - alphas, alphas, alpha_bars), timesteps

    def _with_tensors(self, betas: Tensor, alphas: Tensor, alpha_bars: Tensor) -> "NoiseSchedule":
        schedule = copy.copy(self)
        schedule.betas, schedule.alphas, schedule.alpha_bars = betas, alphas, alpha_bars
        return schedule


def _check_num_timesteps(num_timesteps: int) -> None:
    if not isinstance(num_timesteps, int) or isinstance(num_timesteps, bool) or num_timesteps < 1:
        raise ValueError(f"num_timesteps must be a whole number, 1 or more; got {num_timesteps!r}")
