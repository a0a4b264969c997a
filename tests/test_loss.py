import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from ddpm_core import NoiseSchedule, diffusion_loss, linear_betas, loss_by_timestep
from ddpm_core.loss import min_snr_weights


def tenth(x_t: Tensor, t: Tensor) -> Tensor:
    """Answers differently for every picture and step."""
    return x_t * t[:, None, None, None] / 10


@pytest.fixture
def x_0() -> Tensor:
    return torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1


def loss_with(gamma: float | None, schedule: NoiseSchedule, x_0: Tensor) -> Tensor:
    return diffusion_loss(tenth, schedule, x_0, torch.Generator().manual_seed(2), gamma)


def drawn_again(schedule: NoiseSchedule, x_0: Tensor) -> tuple[Tensor, Tensor, Tensor, DDPMScheduler]:
    """What the loss draws and asks with the generator of loss_with, by diffusers: t, eps, eps_hat, and the peer."""
    generator = torch.Generator().manual_seed(2)
    t = torch.randint(len(schedule), (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    peer = DDPMScheduler(len(schedule), trained_betas=schedule.betas.numpy())
    return t, eps, tenth(peer.add_noise(x_0, eps, t), t), peer


def test_the_loss_is_the_mean_squared_error_of_the_noise(schedule, x_0):
    _, eps, eps_hat, _ = drawn_again(schedule, x_0)
    loss = loss_with(None, schedule, x_0)
    assert loss.shape == ()
    torch.testing.assert_close(loss, (eps_hat - eps).square().sum() / (64 * 4 * 4), rtol=1e-5, atol=0)


def test_the_loss_asks_about_every_timestep(schedule):
    asked = []

    def eps_model(x_t, t):
        asked.extend(t.tolist())
        return x_t

    diffusion_loss(eps_model, schedule, torch.zeros(2000, 1), torch.Generator().manual_seed(0))
    assert set(asked) == set(range(100))


def test_the_noise_of_the_loss_is_standard_gaussian_and_the_picture_fades_as_the_schedule_says(schedule):
    seen = {}
    diffusion_loss(lambda x_t, t: seen.update(x_t=x_t, t=t) or x_t, schedule, torch.ones(5000, 1, 4, 4))
    alpha_bar = schedule.alpha_bars[seen["t"]][:, None, None, None]
    eps = (seen["x_t"] - alpha_bar.sqrt()) / (1 - alpha_bar).sqrt()
    assert eps.mean().item() == pytest.approx(0, abs=4 / 80_000**0.5)
    assert eps.var().item() == pytest.approx(1, abs=4 * (2 / 80_000) ** 0.5)


@pytest.mark.parametrize("gamma", [1, 2.5, 5.0])
def test_min_snr_weights_are_those_of_diffusers(gamma, schedule, x_0):
    t, eps, eps_hat, peer = drawn_again(schedule, x_0)
    snr = compute_snr(peer, t)
    weights = torch.stack([snr, torch.full_like(snr, gamma)], dim=1).min(dim=1).values / snr  # for eps prediction
    expected = ((eps_hat - eps).square().mean(dim=(1, 2, 3)) * weights).mean()
    assert snr.min() < gamma < snr.max()
    torch.testing.assert_close(loss_with(gamma, schedule, x_0), expected, rtol=1e-4, atol=0)


def test_min_snr_weights_have_all_their_digits_at_every_timestep():
    alpha_bars = torch.cumprod(1 - linear_betas(1000).double(), dim=0)
    weights = min_snr_weights(NoiseSchedule(linear_betas(1000)), torch.arange(1000), gamma=1.0)
    torch.testing.assert_close(weights.double(), ((1 - alpha_bars) / alpha_bars).clamp(max=1), rtol=1e-6, atol=0)


def test_a_limit_above_all_ratios_weighs_every_timestep_alike(schedule, x_0):
    torch.testing.assert_close(loss_with(1e9, schedule, x_0), loss_with(None, schedule, x_0))


def test_a_timestep_with_no_signal_left_counts_fully():
    schedule = NoiseSchedule(linear_betas(10))
    schedule.alpha_bars[:], schedule.beta_bars[:] = 0, 1
    loss = diffusion_loss(lambda x_t, t: x_t + 2, schedule, torch.ones(8, 1, 4, 4), min_snr_gamma=1.0)
    assert loss.item() == pytest.approx(4)


@pytest.mark.parametrize(
    "eps_model, gamma, words",
    [
        (tenth, 0, "min_snr_gamma must be a number above 0; got 0"),
        (lambda x_t, t: x_t[:1], None, "what eps_model returns must be a tensor of x_t's shape"),
    ],
)
def test_a_slip_is_named(schedule, x_0, eps_model, gamma, words):
    with pytest.raises(ValueError, match=words):
        diffusion_loss(eps_model, schedule, x_0, min_snr_gamma=gamma)


@pytest.mark.parametrize("bounded", [True, False])
def test_loss_by_timestep_is_the_mean_squared_error_at_each_step(bounded, digits, schedule):
    pictures, generator = digits[:5] if bounded else 3 * digits[:5], torch.Generator().manual_seed(3)
    weight = torch.ones(1, requires_grad=True)  # as a network has
    options = dict(num_points=4, seed=3, bounded=bounded)
    steps, losses = loss_by_timestep(lambda x_t, t: tenth(x_t, t) * weight, schedule, pictures, **options)
    assert steps.tolist() == [0, 33, 66, 99] and not losses.requires_grad
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        eps, alpha_bar = torch.randn(5, 1, 8, 8, generator=generator), schedule.alpha_bars[step]
        x_t = alpha_bar.sqrt() * pictures + (1 - alpha_bar).sqrt() * eps
        assert loss == pytest.approx((x_t * step / 10 - eps).square().mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"pictures must lie in \[-1, 1\]"):
        loss_by_timestep(tenth, schedule, 3 * pictures)
