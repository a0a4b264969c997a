"""The forward process and its inverse, in closed form. beta_bar is 1 - alpha_bar, with all its digits."""

from torch import Tensor

from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards


def add_noise(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """A draw from q(x_t | x_0): t + 1 noising steps in one jump (DDPM eq. 4).

    x_0: (B, ...) floats; eps: the same, drawn from a standard Gaussian; t: long, (B,), from 0 to T - 1.
    Returns x_t, (B, ...).
    """
    guards.floats(x_0=x_0, eps=eps)
    alpha_bar, beta_bar = schedule.at(schedule.alpha_bars, t, x_0), schedule.at(schedule.beta_bars, t, x_0)
    return alpha_bar.sqrt() * x_0 + beta_bar.sqrt() * eps


def predict_x_0(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, eps_hat: Tensor) -> Tensor:
    """The clean picture that x_t came from if eps_hat is the noise in it: the inverse of add_noise (DDPM eq. 15)."""
    guards.floats(x_t=x_t, eps_hat=eps_hat)
    alpha_bar, beta_bar = schedule.at(schedule.alpha_bars, t, x_t), schedule.at(schedule.beta_bars, t, x_t)
    return (x_t - beta_bar.sqrt() * eps_hat) / alpha_bar.sqrt()


def predict_eps(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, x_0_hat: Tensor) -> Tensor:
    """The noise in x_t if x_0_hat is the clean picture that it came from: eq. 4 again, solved for eps."""
    guards.floats(x_t=x_t, x_0_hat=x_0_hat)
    alpha_bar, beta_bar = schedule.at(schedule.alpha_bars, t, x_t), schedule.at(schedule.beta_bars, t, x_t)
    return (x_t - alpha_bar.sqrt() * x_0_hat) / beta_bar.sqrt()


def v_to_eps(schedule: NoiseSchedule, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """The noise in x_t if v is sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, appendix D)."""
    guards.floats(x_t=x_t, v=v)
    alpha_bar, beta_bar = schedule.at(schedule.alpha_bars, t, x_t), schedule.at(schedule.beta_bars, t, x_t)
    return alpha_bar.sqrt() * v + beta_bar.sqrt() * x_t


def posterior(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_{t-1} | x_t, x_0): where one step back leads if x_0 is known (DDPM eq. 6 and 7).

    x_0, x_t: (B, ...) floats; t: long, (B,). Returns mean, (B, ...), and variance, (B, 1, ...), which is 0 at t = 0.
    """
    guards.floats(x_0=x_0, x_t=x_t)
    alpha, beta = schedule.at(schedule.alphas, t, x_t), schedule.at(schedule.betas, t, x_t)
    alpha_bar_prev = schedule.at(schedule.alpha_bars_prev, t, x_t)
    # At t = 0 beta_bar is beta and the one before it is 0, to the last bit: there the mean is x_0.
    beta_bar, beta_bar_prev = schedule.at(schedule.beta_bars, t, x_t), schedule.at(schedule.beta_bars_prev, t, x_t)
    mean = alpha_bar_prev.sqrt() * beta / beta_bar * x_0 + alpha.sqrt() * beta_bar_prev / beta_bar * x_t
    variance = beta_bar_prev / beta_bar * beta
    return mean, variance
