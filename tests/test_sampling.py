import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from ddpm_core import (
    Checkpoint,
    NoiseSchedule,
    TrainingState,
    UNet,
    cosine_betas,
    ddim,
    ddim_inversion,
    dpm_solver,
    dynamic_threshold,
    linear_betas,
    sample,
)


class GaussianPredictor:
    """The best possible noise predictor where every value of the data is drawn from N(mean, deviation^2)."""

    def __init__(self, alpha_bars: Tensor, mean: float, deviation: float):
        self.alpha_bars, self.mean, self.deviation = alpha_bars, mean, deviation

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.alpha_bars[t].reshape(-1, *[1] * (x_t.ndim - 1))
        variance = alpha_bar * self.deviation**2 + 1 - alpha_bar
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * self.mean) / variance


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps_of(peer, eps_model, x_T: Tensor, **options) -> Tensor:
    """x_t after each step of a scheduler of diffusers, (steps, B, ...)."""
    steps, x_t = [], x_T
    for t in peer.timesteps:
        x_t = peer.step(eps_model(x_t, t.expand(len(x_t))), t, x_t, **options).prev_sample
        steps.append(x_t)
    return torch.stack(steps)


BOTH_SCHEDULES = pytest.mark.parametrize(
    "make_betas, name", [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")], ids=["linear", "cosine"]
)


@pytest.mark.parametrize("clip_x_0", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize(
    "num_timesteps, num_steps", [(10, None), (1000, None), (100, 7), (100, 50), (1000, 25), (9, 1)]
)
@BOTH_SCHEDULES
@pytest.mark.parametrize("promoted", [True, False], ids=["its float64", "its float32"])
def test_every_step_is_that_of_diffusers(make_betas, name, num_timesteps, num_steps, clip_x_0, promoted, in_float64):
    peer = DDPMScheduler(num_timesteps, beta_schedule=name, clip_sample=clip_x_0, timestep_spacing="trailing")
    peer.set_timesteps(num_steps or num_timesteps)
    eps_model = GaussianPredictor(peer.alphas_cumprod, mean=0.9, deviation=0.6)  # near 1, so that clipping matters
    peer = in_float64(peer) if promoted else peer
    x_T = noise(2, 1, 4, 4)

    theirs = steps_of(peer, eps_model, x_T, generator=torch.Generator().manual_seed(1))
    schedule, generator = NoiseSchedule(make_betas(num_timesteps)), torch.Generator().manual_seed(1)
    ours = list(sample(eps_model, schedule, x_T, num_steps, clip_x_0, generator))
    # In float32 its posterior cancels at the first of a thousand timesteps.
    atol = 2e-3 if num_timesteps == 1000 and num_steps is None and not promoted else 1e-5
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-5, atol=atol)


# Its schedulers visit timesteps at equal distances only.
LENGTHS = pytest.mark.parametrize("num_timesteps, num_steps", [(10, 10), (1000, 1000), (100, 20), (1000, 25), (9, 1)])


@pytest.mark.parametrize("clip_x_0", [True, False], ids=["clipped", "unclipped"])
@LENGTHS
@BOTH_SCHEDULES
def test_with_variance_beta_every_step_is_that_of_diffusers(
    make_betas, name, num_timesteps, num_steps, clip_x_0, in_float64
):
    options = dict(beta_schedule=name, clip_sample=clip_x_0, timestep_spacing="trailing")
    peer = DDPMScheduler(num_timesteps, variance_type="fixed_large", **options)
    peer.set_timesteps(num_steps)
    eps_model = GaussianPredictor(peer.alphas_cumprod, mean=0.9, deviation=0.6)
    peer, x_T = in_float64(peer), noise(2, 1, 4, 4)

    theirs = steps_of(peer, eps_model, x_T, generator=torch.Generator().manual_seed(1))
    schedule, generator = NoiseSchedule(make_betas(num_timesteps)), torch.Generator().manual_seed(1)
    ours = torch.stack(list(sample(eps_model, schedule, x_T, num_steps, clip_x_0, generator, variance="beta")))
    if num_steps < num_timesteps:  # its last step is not t = 0, and so it adds noise where nothing takes it away again
        ours, theirs = ours[:-1], theirs[:-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clip_x_0", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@LENGTHS
@BOTH_SCHEDULES
def test_every_step_of_ddim_is_that_of_diffusers(make_betas, name, num_timesteps, num_steps, eta, clip_x_0, in_float64):
    options = dict(beta_schedule=name, clip_sample=clip_x_0, timestep_spacing="trailing", set_alpha_to_one=True)
    peer = DDIMScheduler(num_timesteps, **options)
    peer.set_timesteps(num_steps)
    eps_model = GaussianPredictor(peer.alphas_cumprod, mean=0.9, deviation=0.6)
    peer, x_T = in_float64(peer), noise(2, 1, 4, 4)
    peer.final_alpha_cumprod = peer.one

    options = dict(eta=eta, use_clipped_model_output=clip_x_0, generator=torch.Generator().manual_seed(1))
    theirs = steps_of(peer, eps_model, x_T, **options)
    schedule, generator = NoiseSchedule(make_betas(num_timesteps)), torch.Generator().manual_seed(1)
    ours = list(ddim(eps_model, schedule, x_T, num_steps, eta, clip_x_0, generator))
    atol = 1e-5 if num_steps < 1000 else 3e-5  # a thousand roundings
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("num_steps", [None, 10])
def test_ddim_with_eta_1_is_ddpm(schedule, num_steps):
    def drawn(sampler, **options):
        generator = torch.Generator().manual_seed(1)
        eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.9, deviation=0.6)
        return torch.stack(
            list(sampler(eps_model, schedule, noise(2, 1, 4, 4), num_steps, generator=generator, **options))
        )

    torch.testing.assert_close(drawn(ddim, eta=1.0), drawn(sample), rtol=0, atol=1e-5)


@LENGTHS
@BOTH_SCHEDULES
def test_every_step_of_dpm_solver_is_that_of_diffusers(make_betas, name, num_timesteps, num_steps, in_float64):
    options = dict(beta_schedule=name, timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2)
    peer = DPMSolverMultistepScheduler(num_timesteps, final_sigmas_type="zero", lower_order_final=False, **options)
    eps_model = GaussianPredictor(peer.alphas_cumprod, mean=0.9, deviation=0.6)
    peer = in_float64(peer)
    peer.set_timesteps(num_steps)
    peer.sigmas = torch.cat([((1 - peer.alphas_cumprod) / peer.alphas_cumprod).sqrt()[peer.timesteps], torch.zeros(1)])

    x_T = noise(2, 1, 4, 4)
    theirs = steps_of(peer, eps_model, x_T)
    ours = list(dpm_solver(eps_model, NoiseSchedule(make_betas(num_timesteps)), x_T, num_steps, clip_x_0=False))
    torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_timesteps, num_steps", [(10, 10), (100, 20)])
@BOTH_SCHEDULES
def test_every_step_with_dynamic_thresholding_is_that_of_diffusers(
    make_betas, name, num_timesteps, num_steps, in_float64
):
    options = dict(beta_schedule=name, timestep_spacing="trailing", thresholding=True)
    options |= dict(dynamic_thresholding_ratio=0.9, sample_max_value=1e6)
    peers = {
        sample: DDPMScheduler(num_timesteps, clip_sample=False, **options),
        ddim: DDIMScheduler(num_timesteps, clip_sample=False, set_alpha_to_one=True, **options),
    }
    schedule, x_T = NoiseSchedule(make_betas(num_timesteps)), noise(2, 1, 4, 4)
    for sampler, peer in peers.items():
        peer.set_timesteps(num_steps)
        eps_model, peer = GaussianPredictor(peer.alphas_cumprod, mean=1.5, deviation=0.6), in_float64(peer)
        peer.final_alpha_cumprod = peer.one
        its_own = dict(use_clipped_model_output=True) if sampler is ddim else {}
        theirs = steps_of(peer, eps_model, x_T, generator=torch.Generator().manual_seed(1), **its_own)
        given = dict(clip_x_0=dynamic_threshold(0.9), generator=torch.Generator().manual_seed(1))
        ours = list(sampler(eps_model, schedule, x_T, num_steps, **given))
        torch.testing.assert_close(torch.stack(ours), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", [sample, ddim, dpm_solver])
def test_a_function_gets_each_estimate_and_what_it_keeps_is_gone_on_with(sampler, schedule):
    given, x_T = [], noise(2, 1, 4, 4)
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=1.5, deviation=0.6)
    *_, expected = sampler(eps_model, schedule, x_T, 5, clip_x_0=True, **same_noise(sampler))
    keep = lambda x_0_hat: given.append(x_0_hat) or x_0_hat.clamp(-1, 1)  # noqa: E731
    *_, drawn = sampler(eps_model, schedule, x_T, 5, clip_x_0=keep, **same_noise(sampler))
    assert len(given) == 5 and given[-1].max() > 1 and torch.equal(drawn, expected)
    *_, unclipped = sampler(eps_model, schedule, x_T, 5, clip_x_0=lambda x_0_hat: x_0_hat, **same_noise(sampler))
    *_, expected = sampler(eps_model, schedule, x_T, 5, clip_x_0=False, **same_noise(sampler))
    assert torch.equal(unclipped, expected)


def same_noise(sampler) -> dict:
    return {} if sampler is dpm_solver else dict(generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("clip_x_0", [None, 1, 0.995, "dynamic", torch.tensor(True)])
@pytest.mark.parametrize("sampler", [sample, ddim, dpm_solver])
def test_what_clips_nothing_is_named_at_the_call(sampler, clip_x_0, schedule):
    with pytest.raises(TypeError, match="clip_x_0 must be True, False or a function such as dynamic_threshold"):
        sampler(lambda x_t, t: x_t, schedule, noise(2, 1, 4, 4), clip_x_0=clip_x_0)


@pytest.mark.parametrize("make_betas, accuracy", [(linear_betas, 0.05), (cosine_betas, 0.01)])
def test_20_steps_of_dpm_solver_leave_a_gaussian_as_wide_as_it_is(make_betas, accuracy):
    """What an ordinary differential equation makes of x_T is x_T times a number here: no statistics are needed."""
    schedule = NoiseSchedule(make_betas(1000))
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.0, deviation=0.5)
    *_, x_0 = dpm_solver(eps_model, schedule, torch.ones(1, 1), num_steps=20, clip_x_0=False)
    assert x_0.item() == pytest.approx(0.5, rel=accuracy)
    *_, by_ddim = ddim(eps_model, schedule, torch.ones(1, 1), num_steps=20, clip_x_0=False)
    assert abs(by_ddim.item() - 0.5) > 3 * abs(x_0.item() - 0.5)


def test_two_ways_back_of_dpm_solver_know_nothing_of_each_other(schedule):
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.3, deviation=0.5)
    one, other = (dpm_solver(eps_model, schedule, noise(2, 1, seed=seed), 10) for seed in (0, 1))
    together = [next(one) if i % 2 == 0 else next(other) for i in range(20)]
    alone = list(dpm_solver(eps_model, schedule, noise(2, 1, seed=0), 10))
    assert torch.equal(torch.stack(together[::2]), torch.stack(alone))


@pytest.mark.parametrize("num_steps, num_tries, atol", [(1000, 1, 0.005), (20, 1, 0.25), (20, 5, 1e-3)])
def test_inversion_finds_the_noise_from_which_ddim_comes_back(num_steps, num_tries, atol):
    schedule = NoiseSchedule(linear_betas(1000))
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.3, deviation=0.5)
    x_0 = 0.3 + 0.5 * noise(100, 1)
    *_, x_T = ddim_inversion(eps_model, schedule, x_0, num_steps, num_tries)
    *_, back = ddim(eps_model, schedule, x_T, num_steps, clip_x_0=False)
    torch.testing.assert_close(back, x_0, rtol=0, atol=atol)


def test_the_noise_that_inversion_finds_is_that_of_the_equation():
    """For a Gaussian the probability-flow equation keeps how many deviations a value lies from the mean."""
    schedule = NoiseSchedule(linear_betas(1000))
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.3, deviation=0.5)
    how_far = noise(100, 1)
    *_, x_T = ddim_inversion(eps_model, schedule, 0.3 + 0.5 * how_far)
    torch.testing.assert_close(x_T, how_far, rtol=0, atol=0.03)


@pytest.mark.parametrize("make_betas", [linear_betas, cosine_betas])
def test_the_best_predictor_of_a_gaussian_gives_that_gaussian_back(make_betas):
    schedule, number = NoiseSchedule(make_betas(1000)), 4000
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.3, deviation=0.5)
    generator = torch.Generator().manual_seed(0)
    *_, x_0 = sample(eps_model, schedule, noise(number, 1), clip_x_0=False, generator=generator)
    # Four standard errors of a mean and of a deviation.
    assert x_0.mean().item() == pytest.approx(0.3, abs=4 * 0.5 / math.sqrt(number))
    assert x_0.std().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2 * number))


@pytest.mark.parametrize("num_steps, deviation", [(5, 0.33), (50, 0.47), (200, 0.49)])
def test_few_steps_narrow_what_is_drawn_as_much_as_the_docstring_says(num_steps, deviation):
    schedule = NoiseSchedule(cosine_betas(200))
    eps_model = GaussianPredictor(schedule.alpha_bars, mean=0.0, deviation=0.5)
    generator = torch.Generator().manual_seed(0)
    *_, x_0 = sample(eps_model, schedule, noise(20_000, 1), num_steps, clip_x_0=False, generator=generator)
    assert x_0.std().item() == pytest.approx(deviation, abs=0.01)


@pytest.mark.parametrize("num_steps", [None, 1, 7])
def test_a_predictor_that_knows_the_picture_leads_to_it(schedule, num_steps):
    picture = noise(2, 1, 4, 4, seed=1).clamp(-1, 1)

    def eps_model(x_t, t):
        alpha_bar = schedule.alpha_bars[t][:, None, None, None]
        return (x_t - alpha_bar.sqrt() * picture) / (1 - alpha_bar).sqrt()

    *_, x_0 = sample(eps_model, schedule, noise(2, 1, 4, 4), num_steps)
    torch.testing.assert_close(x_0, picture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_steps, number", [(None, 100), (100, 100), (7, 7), (1, 1)])
def test_the_network_hears_the_timesteps_it_was_trained_with_from_last_to_first(schedule, num_steps, number):
    heard = []

    def eps_model(x_t, t):
        assert (t.dtype, t.shape) == (torch.long, (3,))
        assert (t == t[0]).all()
        heard.append(t[0].item())
        return torch.zeros_like(x_t)

    assert len(list(sample(eps_model, schedule, noise(3, 1, 2, 2), num_steps))) == number
    assert heard == schedule.respaced(number)[1].flip(0).tolist()


def test_clipping_keeps_the_picture_between_minus_1_and_1(schedule):
    def predicts_no_noise(x_t, t):
        return torch.zeros_like(x_t)

    x_T = noise(4, 1, 8, 8)
    *_, clipped = sample(predicts_no_noise, schedule, x_T)
    *_, free = sample(predicts_no_noise, schedule, x_T, clip_x_0=False)
    assert clipped.abs().max() == 1
    assert free.abs().max() > 1.5


def test_one_seed_gives_one_picture(schedule):
    def pictures(seed):
        generator = torch.Generator().manual_seed(seed)
        *_, x_0 = sample(lambda x_t, t: x_t * 0.1, schedule, noise(2, 1, 4, 4), generator=generator)
        return x_0

    assert torch.equal(pictures(0), pictures(0))
    assert not torch.equal(pictures(0), pictures(1))


def test_a_list_of_generators_draws_each_picture_with_its_own(schedule):
    def pictures(x_T, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack(list(sample(lambda x_t, t: x_t * 0.1, schedule, x_T, generator=generators)), dim=1)

    x_T = noise(3, 1, 4, 4)
    together = pictures(x_T, [5, 6, 7])
    for i in range(3):
        one_generator = torch.Generator().manual_seed(5 + i)
        alone = torch.cat(list(sample(lambda x_t, t: x_t * 0.1, schedule, x_T[i : i + 1], generator=one_generator)))
        torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-6)


def test_sampling_leaves_the_noise_it_was_given_and_the_global_randomness_alone(schedule):
    x_T = noise(2, 1, 4, 4)
    before, state = x_T.clone(), torch.get_rng_state()
    list(sample(lambda x_t, t: x_t * 0.1, schedule, x_T, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(x_T, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_sampling_keeps_no_gradients_and_does_not_turn_off_those_of_its_caller(schedule):
    for x_t in sample(UNet(1, (8,)), schedule, noise(2, 1, 4, 4), num_steps=2):
        assert not x_t.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.device
def test_a_schedule_on_another_device_follows_the_noise(schedule, device):
    *_, x_0 = sample(lambda x_t, t: x_t * 0.1, schedule, noise(2, 1, 4, 4).to(device), num_steps=5)
    assert x_0.device.type == device.type


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(num_steps=101), "num_steps must be a whole number from 1 to 100"),
        (dict(x_T=torch.zeros(4)), "x_T must be a batch of noise"),
        (dict(schedule=torch.zeros(3)), "schedule must be a NoiseSchedule, such as"),
        (dict(generator=0), "generator must be a torch.Generator, such as .* got 0"),
        (dict(generator=[0, 1]), "generator must be a torch.Generator, .* or a list with one for each"),
        (dict(generator=[torch.Generator()]), "there are 1 generators for 2 pictures"),
        (dict(eps_model=TrainingState(UNet(1, (8,)))), "got a TrainingState: pass its ema_model"),
        (dict(eps_model=Checkpoint(UNet(1, (8,)), None)), "got a Checkpoint: pass its model"),
    ],
)
def test_a_slip_is_named_at_the_call_and_not_at_the_first_step(schedule, change, words):
    with pytest.raises((TypeError, ValueError), match=words):
        sample(**dict(eps_model=lambda x_t, t: x_t, schedule=schedule, x_T=noise(2, 1, 4, 4)) | change)


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda **given: ddim(**given, eta=1.5), "eta must be a number between 0 and 1; got 1.5"),
        (lambda **given: ddim(**given, eta=None), "eta must be a number between 0 and 1; got None"),
        (lambda **given: sample(**given, variance="large"), 'variance must be "posterior" or "beta"; got .large'),
        (lambda **given: dpm_solver(**given, num_steps=0), "num_steps must be a whole number from 1 to 100"),
        (lambda eps_model, schedule, x_T: ddim_inversion(eps_model, schedule, x_T, num_tries=0), "num_tries must be"),
        (
            lambda eps_model, schedule, x_T: ddim_inversion(eps_model, schedule, "cat"),
            "x_0 must be a batch of pictures",
        ),
    ],
)
def test_a_slip_in_what_only_one_sampler_has_is_named_at_the_call(schedule, slip, words):
    with pytest.raises((TypeError, ValueError), match=words):
        slip(eps_model=lambda x_t, t: x_t, schedule=schedule, x_T=noise(2, 1, 4, 4))


def test_a_predictor_that_returns_another_shape_is_named_at_its_step(schedule):
    with pytest.raises(ValueError, match=r"what eps_model returns must be .* \(2, 1, 4, 4\); got .*\(1, 1, 4, 4\)"):
        next(sample(lambda x_t, t: x_t[:1], schedule, noise(2, 1, 4, 4)))
