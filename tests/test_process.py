import math

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_core import NoiseSchedule, add_noise, cosine_betas, linear_betas, posterior, predict_eps, predict_x_0

both_schedules = pytest.mark.parametrize(
    "make_betas, name", [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")], ids=["linear", "cosine"]
)
both_lengths = pytest.mark.parametrize("num_timesteps", [10, 1000])


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@both_schedules
@both_lengths
def test_add_noise_is_that_of_diffusers_at_every_step(make_betas, name, num_timesteps):
    schedule = NoiseSchedule(make_betas(num_timesteps))
    t = torch.arange(num_timesteps)
    x_0, eps = randn(num_timesteps, 1, 2, 2, seed=0), randn(num_timesteps, 1, 2, 2, seed=1)
    theirs = DDPMScheduler(num_timesteps, beta_schedule=name).add_noise(x_0, eps, t)
    torch.testing.assert_close(add_noise(schedule, x_0, t, eps), theirs, rtol=1e-5, atol=1e-5)


@both_schedules
@both_lengths
def test_predict_x_0_is_that_of_diffusers_at_every_step(make_betas, name, num_timesteps):
    schedule = NoiseSchedule(make_betas(num_timesteps))
    peer = DDPMScheduler(num_timesteps, beta_schedule=name, clip_sample=False)
    x_t, eps_hat = randn(num_timesteps, 1, 2, 2, seed=0), randn(num_timesteps, 1, 2, 2, seed=1)
    theirs = torch.stack(
        [peer.step(eps_hat[t], t, x_t[t]).pred_original_sample for t in range(num_timesteps)],
    )
    ours = predict_x_0(schedule, x_t, torch.arange(num_timesteps), eps_hat)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@both_schedules
@both_lengths
def test_posterior_is_that_of_diffusers_at_every_step(make_betas, name, num_timesteps, in_float64):
    schedule = NoiseSchedule(make_betas(num_timesteps))
    x_0, x_t = randn(num_timesteps, 1, 2, 2, seed=0), randn(num_timesteps, 1, 2, 2, seed=1)

    def theirs(change=lambda peer: peer):
        peer = change(DDPMScheduler(num_timesteps, beta_schedule=name, prediction_type="sample", clip_sample=False))
        draws = [peer.step(x_0[t], t, x_t[t], torch.Generator().manual_seed(t)) for t in range(num_timesteps)]
        return torch.stack([draw.prev_sample for draw in draws])

    mean, variance = posterior(schedule, x_0, x_t, torch.arange(num_timesteps))
    assert mean.dtype == variance.dtype == torch.float32
    ours = mean + variance.sqrt() * torch.stack([randn(1, 2, 2, seed=t) for t in range(num_timesteps)])
    torch.testing.assert_close(ours, theirs(in_float64), rtol=0, atol=2e-6)
    # As diffusers is by itself, its float32 has fewer digits the nearer alpha_bar is to 1.
    torch.testing.assert_close(ours, theirs(), rtol=0, atol=2e-3)
    noisy = schedule.alpha_bars < 0.95
    torch.testing.assert_close(ours[noisy], theirs()[noisy], rtol=1e-5, atol=1e-5)


@both_schedules
def test_one_jump_is_as_good_as_all_the_small_steps(make_betas, name):
    schedule = NoiseSchedule(make_betas(50).double())
    everywhere, ones, zeros = torch.arange(50), torch.ones(50, 1).double(), torch.zeros(50, 1).double()
    jump_mean = add_noise(schedule, ones, everywhere, eps=zeros)
    jump_deviation = add_noise(schedule, zeros, everywhere, eps=ones)
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(schedule.betas.tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        assert jump_mean[t].item() == pytest.approx(mean, rel=1e-9)
        assert jump_deviation[t].item() ** 2 == pytest.approx(variance, rel=1e-9)


@both_schedules
def test_predict_x_0_undoes_add_noise(make_betas, name):
    schedule = NoiseSchedule(make_betas(1000))
    t = torch.arange(1000)
    x_0 = randn(1000, 3, 2, 2, seed=0, dtype=torch.float64)
    eps = randn(1000, 3, 2, 2, seed=1, dtype=torch.float64)
    x_t = add_noise(schedule, x_0, t, eps)
    torch.testing.assert_close(predict_x_0(schedule, x_t, t, eps), x_0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [1, 7, 19])
def test_posterior_is_bayes_rule_on_a_grid(t):
    betas = linear_betas(20, beta_start=0.01, beta_end=0.3).double()
    alpha_bar_prev = math.prod(1 - beta for beta in betas[:t].tolist())
    x_0, x_t = 0.8, -0.4
    x_before = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    prior = torch.exp(-((x_before - math.sqrt(alpha_bar_prev) * x_0) ** 2) / (2 * (1 - alpha_bar_prev)))
    likelihood = torch.exp(-((x_t - (1 - betas[t]).sqrt() * x_before) ** 2) / (2 * betas[t]))
    weights = prior * likelihood / (prior * likelihood).sum()
    grid_mean = (weights * x_before).sum()
    grid_variance = (weights * (x_before - grid_mean) ** 2).sum()

    as_picture = torch.tensor([[x_0]]).double(), torch.tensor([[x_t]]).double()
    mean, variance = posterior(NoiseSchedule(betas), *as_picture, torch.tensor([t]))
    assert mean.item() == pytest.approx(grid_mean.item(), rel=1e-7)
    assert variance.item() == pytest.approx(grid_variance.item(), rel=1e-7)


@both_schedules
@pytest.mark.parametrize("num_steps", [100, 40, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_step_back_leads_to_x_0_and_nowhere_else(make_betas, name, num_steps, dtype):
    x_0, x_t = randn(4, 1, 8, 8, seed=0, dtype=dtype), randn(4, 1, 8, 8, seed=1, dtype=dtype)
    schedule, _ = NoiseSchedule(make_betas(100).to(dtype)).respaced(num_steps)
    mean, variance = posterior(schedule, x_0, x_t, torch.zeros(4, dtype=torch.long))
    assert torch.equal(mean, x_0)
    assert torch.equal(variance, torch.zeros(4, 1, 1, 1, dtype=dtype))


@both_schedules
@pytest.mark.parametrize("num_steps", [1000, 500, 50])
def test_formulas_in_float32_are_those_in_float64_at_every_step(make_betas, name, num_steps):
    short, timesteps = NoiseSchedule(make_betas(1000)).respaced(num_steps)
    x_0, other = randn(num_steps, 1, 4, 4, seed=0).clamp(-1, 1), randn(num_steps, 1, 4, 4, seed=1)
    alpha_bar = torch.cumprod(1 - make_betas(1000).double(), dim=0)[timesteps].reshape(-1, 1, 1, 1)
    alpha_bar_prev = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    alpha = alpha_bar / alpha_bar_prev
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha)
    mean = alpha_bar_prev.sqrt() * (1 - alpha) * x_0 + alpha.sqrt() * (1 - alpha_bar_prev) * other
    noisy = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * other

    t = torch.arange(num_steps)
    our_mean, our_variance = posterior(short, x_0, other, t)
    torch.testing.assert_close(our_mean.double(), mean / (1 - alpha_bar), rtol=0, atol=2e-6)
    torch.testing.assert_close(our_variance.double(), variance, rtol=1e-6, atol=0)
    torch.testing.assert_close(add_noise(short, x_0, t, other).double(), noisy, rtol=0, atol=1e-6)
    found = predict_eps(short, noisy.float(), t, x_0)
    torch.testing.assert_close(found.double(), other.double(), rtol=0, atol=5e-5)  # noisy itself was rounded


@pytest.mark.parametrize("shape", [(3, 2), (3, 1, 8, 8), (3, 3, 4, 6)])
def test_any_shape_of_data_will_do_and_each_row_has_its_own_step(schedule, shape):
    x, eps, t = randn(*shape, seed=0), randn(*shape, seed=1), torch.tensor([0, 50, 99])
    together = [add_noise(schedule, x, t, eps), predict_x_0(schedule, x, t, eps), *posterior(schedule, x, eps, t)]
    for row in range(3):
        one, its_eps, its_t = x[row : row + 1], eps[row : row + 1], t[row : row + 1]
        alone = [
            add_noise(schedule, one, its_t, its_eps),
            predict_x_0(schedule, one, its_t, its_eps),
            *posterior(schedule, one, its_eps, its_t),
        ]
        for ours, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[row : row + 1], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "formula, names",
    [
        (lambda schedule, a, b, t: add_noise(schedule, a, t, b), ("x_0", "eps")),
        (lambda schedule, a, b, t: predict_x_0(schedule, a, t, b), ("x_t", "eps_hat")),
        (lambda schedule, a, b, t: posterior(schedule, a, b, t), ("x_0", "x_t")),
    ],
    ids=["add_noise", "predict_x_0", "posterior"],
)
def test_a_slip_is_named(schedule, formula, names):
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    with pytest.raises(TypeError, match=f"{names[0]} must be a tensor of floats; got uint8"):
        formula(schedule, x.byte(), x, t)
    with pytest.raises(ValueError, match=f"{names[0]} and {names[1]} must have one shape"):
        formula(schedule, x, x[:1], t)
    with pytest.raises(ValueError, match="t must lie between 0 and 99"):
        formula(schedule, x, x, torch.tensor([0, 100]))
