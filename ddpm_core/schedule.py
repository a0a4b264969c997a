"""Noise schedules: how much noise each of the steps adds.

Steps are counted from 0 in code: t = 0 here is t = 1 in the DDPM paper (Ho et al. 2020).
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.support import guards


def linear_betas(num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Variances of the noise added at each step, (T,) float32, evenly spaced (Ho et al. 2020, section 4)."""
    guards.whole_number("num_timesteps", num_timesteps)
    return torch.linspace(beta_start, beta_end, num_timesteps)


def cosine_betas(num_timesteps: int = 1000) -> Tensor:
    """Betas whose alpha_bars follow a squared cosine, (T,) float32 (Nichol & Dhariwal 2021, eq. 17; max beta 0.999)."""
    guards.whole_number("num_timesteps", num_timesteps)
    offset = 0.008  # keeps the first betas from vanishing
    progress = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
    alpha_bars = torch.cos((progress + offset) / (1 + offset) * math.pi / 2) ** 2
    betas = 1 - alpha_bars[1:] / alpha_bars[:-1]
    return betas.clamp(max=0.999).float()


class NoiseSchedule:
    """Four tensors of shape (T,), from which everything else about the noise is computed.

    betas:      variance of the noise that step t adds, each in (0, 1)
    alphas:     1 - betas, the share of the variance that step t keeps
    alpha_bars: cumulative product of the alphas, the share of the picture's variance left after step t
    beta_bars:  1 - alpha_bars, the variance of all the noise after step t. Where alpha_bar is nearly 1, at the first
                steps, the difference has lost most of its digits to float32; these are computed in float64

    Raises ValueError where betas is not a 1-D floating-point tensor with values in (0, 1).
    """

    def __init__(self, betas: Tensor):
        guards.betas(betas)
        self.betas = betas
        self.alphas = 1 - betas
        exact = betas.cpu().double()
        self._exact_alpha_bars = torch.cumprod(1 - exact, dim=0)
        self.alpha_bars = self._exact_alpha_bars.to(betas)
        # The sum of what each step takes from the picture. Its first value is betas[0] to the last bit.
        self.beta_bars = torch.cumsum(exact * _one_step_earlier(self._exact_alpha_bars, 1), dim=0).to(betas)
        guards.alpha_bars(self.alpha_bars)
        self._checks_t = True

    @property
    def alpha_bars_prev(self) -> Tensor:
        """alpha_bars one step earlier, (T,). Before step 0 nothing has been added, so the first value is 1."""
        return _one_step_earlier(self.alpha_bars, 1)

    @property
    def beta_bars_prev(self) -> Tensor:
        """beta_bars one step earlier, (T,). The first value is 0."""
        return _one_step_earlier(self.beta_bars, 0)

    def __len__(self) -> int:
        return len(self.betas)

    def __repr__(self) -> str:
        first, last = self.alpha_bars[0].item(), self.alpha_bars[-1].item()
        return f"NoiseSchedule({len(self)} timesteps, alpha_bar {first:.4g} to {last:.3g})"

    def to(self, device) -> "NoiseSchedule":
        """The same schedule on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("betas", "alphas", "alpha_bars", "beta_bars")}
        return self._with(**tensors)

    def trusting(self) -> "NoiseSchedule":
        """The same schedule for a loop that makes every t itself: at() does not check whether it is in range.

        To check values on a GPU is to wait for it. A t out of range is then not named: on a GPU it ends the program.
        """
        return self._with(_checks_t=False)

    def at(self, values: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """values[t] shaped (B, 1, 1, ...) to multiply x, which is (B, ...).

        values is one of this schedule's (T,) tensors; t is long, (B,), from 0 to T - 1.
        Raises TypeError or ValueError where t is not that.
        """
        guards.timesteps(t, x, len(self), look=self._checks_t)
        guards.same_device(values, x)
        return values[t].reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)

    def respaced(self, num_steps: int) -> tuple["NoiseSchedule", Tensor]:
        """A shorter schedule that visits num_steps of the timesteps, and which ones they are.

        Returns (schedule, timesteps): timesteps is long, (num_steps,), rising, and always ends at T - 1, so that
        sampling starts from pure noise. Between two visited timesteps the noise of all steps in between is added
        at once (Nichol & Dhariwal 2021, section 4). Raises ValueError unless 1 <= num_steps <= T.
        """
        guards.whole_number("num_steps", num_steps, most=len(self), why=", the schedule's length")
        timesteps = torch.arange(len(self), 0, -len(self) / num_steps, dtype=torch.float64)[:num_steps]
        timesteps = (timesteps.round().long() - 1).flip(0)
        if num_steps == len(self):
            return self, timesteps.to(self.betas.device)
        alpha_bars = self._exact_alpha_bars[timesteps]
        alphas = alpha_bars / _one_step_earlier(alpha_bars, 1)
        exact = dict(betas=1 - alphas, alphas=alphas, alpha_bars=alpha_bars, beta_bars=1 - alpha_bars)
        tensors = {name: values.to(self.betas) for name, values in exact.items()}
        return self._with(_exact_alpha_bars=alpha_bars, **tensors), timesteps.to(self.betas.device)

    def first(self, num_steps: int) -> "NoiseSchedule":
        """The same schedule cut short: its first num_steps timesteps, in which there is the least noise.

        A way back along it begins in the middle of that along the whole. Raises ValueError unless 1 <= num_steps <= T.
        """
        guards.whole_number("num_steps", num_steps, most=len(self), why=", the schedule's length")
        names = "betas", "alphas", "alpha_bars", "beta_bars", "_exact_alpha_bars"
        return self._with(**{name: getattr(self, name)[:num_steps] for name in names})

    def _with(self, **changes: object) -> "NoiseSchedule":
        schedule = copy.copy(self)
        vars(schedule).update(changes)
        return schedule


def _one_step_earlier(values: Tensor, before_the_first: float) -> Tensor:
    return F.pad(values[:-1], (1, 0), value=before_the_first)
