import math

import pytest
import torch
from diffusers import DDPMScheduler, RePaintScheduler
from diffusers.schedulers import scheduling_repaint
from torch import Tensor

from ddpm_core import (
    NoiseSchedule,
    TrainingState,
    UNet,
    cosine_betas,
    inpaint,
    linear_betas,
    picture_to_picture,
    sample,
)

RIGHT = torch.tensor([[False, True]])  # of a picture of two pixels


class PairPredictor:
    """The best possible noise predictor of pictures (B, 1, 1, 2): two correlated Gaussian pixels, variance 1."""

    def __init__(self, alpha_bars: Tensor, correlation: float):
        self.alpha_bars, self.correlation = alpha_bars, correlation

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.alpha_bars[t].reshape(-1, 1, 1, 1)
        c = alpha_bar * self.correlation  # x_t has the covariance [[1, c], [c, 1]]: eps_hat is sd x_t times its inverse
        return (1 - alpha_bar).sqrt() * (x_t - c * x_t.flip(dims=(3,))) / (1 - c**2)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def last(steps) -> Tensor:
    *_, x_0 = steps
    return x_0


# ---- picture_to_picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_x_0", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("strength, num_steps", [(0.3, 50), (0.75, 20), (1.0, 10), (0.1, 1000)])
@pytest.mark.parametrize("make_betas, name", [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")])
def test_every_step_is_that_of_diffusers(make_betas, name, strength, num_steps, clip_x_0, in_float64):
    peer = DDPMScheduler(1000, beta_schedule=name, clip_sample=clip_x_0, timestep_spacing="trailing")
    peer.set_timesteps(num_steps)
    peer = in_float64(peer)
    eps_model, x_0 = PairPredictor(peer.alphas_cumprod.float(), 0.7), noise(3, 1, 1, 2).tanh()

    fresh, theirs = seeded(1), []
    timesteps = peer.timesteps[num_steps - int(num_steps * strength) :]  # get_timesteps of its img2img pipelines
    x_t = peer.add_noise(x_0, torch.randn(x_0.shape, generator=fresh), timesteps[:1])
    for t in timesteps:
        x_t = peer.step(eps_model(x_t, t.expand(3)), t, x_t, generator=fresh).prev_sample
        theirs.append(x_t)
    schedule = NoiseSchedule(make_betas(1000))
    ours = list(picture_to_picture(eps_model, schedule, x_0, strength, num_steps, clip_x_0, seeded(1)))
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("num_steps", [None, 10])
@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_of_a_gaussian_the_mean_is_that_of_all_pictures_with_these_noisy_ones(schedule, strength, num_steps):
    """E[x_0 | x_t] is linear in x_t, and each step back keeps it: so the mean over the noise has a closed form."""
    start = 100 - round((1 - strength) * 100) - 1
    alpha_bar = schedule.alpha_bars[start].item()
    given, number = 1.5, 40_000
    x_0 = torch.full((number, 1, 1, 2), given)
    eps_model = PairPredictor(schedule.alpha_bars, 0.0)
    drawn = last(picture_to_picture(eps_model, schedule, x_0, strength, num_steps, False, seeded()))
    standard_error = 1 / math.sqrt(2 * number)
    assert drawn.mean().item() == pytest.approx(alpha_bar * given, abs=4 * standard_error)


def test_with_strength_1_it_is_sampling_from_the_noisiest_timestep(schedule):
    eps_model, x_0 = PairPredictor(schedule.alpha_bars, 0.7), noise(3, 1, 1, 2).tanh()
    alpha_bar, generator = schedule.alpha_bars[-1], seeded(1)
    x_T = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * torch.randn(x_0.shape, generator=generator)
    theirs = list(sample(eps_model, schedule, x_T, 20, generator=generator))
    ours = list(picture_to_picture(eps_model, schedule, x_0, 1, 20, generator=seeded(1)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "strength, num_steps, heard",
    [(0.3, 10, [29, 19, 9]), (0.29, 100, list(reversed(range(29)))), (0.001, 10, [9]), (0.02, None, [1, 0])],
)
def test_the_network_hears_only_the_last_of_the_timesteps(schedule, strength, num_steps, heard):
    told = []

    def eps_model(x_t, t):
        assert (t.dtype, t.shape) == (torch.long, (2,))
        told.append(t.unique().item())
        return x_t * 0.1

    assert len(list(picture_to_picture(eps_model, schedule, noise(2, 1, 4, 4).tanh(), strength, num_steps))) == len(
        heard
    )
    assert told == heard


# ---- inpaint ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_rounds", [1, 3])
@pytest.mark.parametrize("make_betas, name", [(linear_betas, "linear"), (cosine_betas, "squaredcos_cap_v2")])
def test_every_step_is_that_of_the_repaint_of_diffusers(make_betas, name, num_rounds, in_float64, monkeypatch):
    """Its two rules, step and undo_step, in the order of the paper's algorithm 1 with jumps of one step."""
    peer = RePaintScheduler(20, beta_schedule=name, eta=1.0, clip_sample=False)
    peer.set_timesteps(20)
    peer = in_float64(peer)
    eps_model, x_0 = PairPredictor(peer.alphas_cumprod.float(), 0.7), noise(3, 1, 1, 2, seed=2)
    known = (~RIGHT).float()

    # Its step draws the noise of both parts at once, ours one after the other.
    fresh = seeded(1)
    draw = lambda: torch.randn(x_0.shape, generator=fresh)  # noqa: E731
    monkeypatch.setattr(scheduling_repaint, "randn_tensor", lambda shape, generator, **_: generator())
    x_t, theirs = draw(), []
    for t in range(19, -1, -1):
        for round_number in range(1, (num_rounds if t > 0 else 1) + 1):
            eps_hat = eps_model(x_t, torch.full((3,), t))
            both_parts = lambda: torch.where(RIGHT, draw(), draw())  # noqa: E731
            x_t = peer.step(eps_hat, t, x_t, x_0, known, generator=both_parts).prev_sample
            if round_number < num_rounds and t > 0:
                x_t = peer.undo_step(x_t, t, generator=draw)
        theirs.append(x_t)
    schedule = NoiseSchedule(make_betas(20))
    ours = list(inpaint(eps_model, schedule, x_0, RIGHT, 20, num_rounds, clip_x_0=False, generator=seeded(1)))
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-5, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("num_steps, num_rounds", [(None, 1), (10, 1), (10, 3), (1, 4)])
def test_what_is_known_stays_to_the_last_bit(schedule, num_steps, num_rounds):
    x_0, mask = noise(2, 3, 4, 6).tanh(), torch.rand(4, 6, generator=seeded(1)) < 0.5
    drawn = last(inpaint(lambda x_t, t: x_t * 0.1, schedule, x_0, mask, num_steps, num_rounds, generator=seeded()))
    assert torch.equal(drawn[..., ~mask], x_0[..., ~mask])
    assert (drawn[..., mask] - x_0[..., mask]).abs().min() > 0


@pytest.mark.parametrize("num_rounds", [1, 3])
def test_the_network_hears_each_timestep_so_many_times_and_the_last_one_once(schedule, num_rounds):
    told = []

    def eps_model(x_t, t):
        assert (t.dtype, t.shape) == (torch.long, (2,))
        told.append(t.unique().item())
        return x_t * 0.1

    mask = torch.ones(4, 4, dtype=torch.bool)
    assert len(list(inpaint(eps_model, schedule, noise(2, 1, 4, 4).tanh(), mask, 4, num_rounds))) == 4
    assert told == [99] * num_rounds + [74] * num_rounds + [49] * num_rounds + [24]


def test_with_rounds_the_unknown_pixel_is_what_the_known_one_asks_for(schedule):
    """It is 0.8 times the known one on average. Pasting alone falls short of that, rounds find it."""
    eps_model, x_0 = PairPredictor(schedule.alpha_bars, 0.8), torch.tensor([[[[1.0, 0.0]]]]).expand(4000, 1, 1, 2)

    def mean(num_rounds):
        drawn = last(inpaint(eps_model, schedule, x_0, RIGHT, 25, num_rounds, clip_x_0=False, generator=seeded()))
        return drawn[..., 1].mean().item()

    assert mean(1) < 0.5
    assert mean(20) == pytest.approx(0.8, abs=0.06)  # four standard errors are 0.03


# ---- both ------------------------------------------------------------------------------------------------------------

REDRAWN = torch.tensor([[True, False, True, True]] * 4)


def both(**changes) -> list:
    """A call of each, on two pictures."""
    usual = dict(eps_model=lambda x_t, t: x_t * 0.1, schedule=NoiseSchedule(linear_betas(100)), num_steps=10)
    usual |= dict(x_0=noise(2, 1, 4, 4).tanh()) | changes
    return [lambda: picture_to_picture(**usual, strength=0.5), lambda: inpaint(**usual, mask=REDRAWN, num_rounds=2)]


@pytest.mark.parametrize("which", [0, 1], ids=["picture_to_picture", "inpaint"])
class TestBoth:
    def test_one_seed_gives_one_picture(self, which):
        one, again, other = (last(both(generator=seeded(seed))[which]()) for seed in (0, 0, 1))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)

    def test_a_list_of_generators_draws_each_picture_with_its_own(self, which):
        x_0 = noise(3, 1, 4, 4).tanh()
        together = last(both(x_0=x_0, generator=[seeded(seed) for seed in (5, 6, 7)])[which]())
        for i in range(3):
            alone = last(both(x_0=x_0[i : i + 1], generator=seeded(5 + i))[which]())
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)

    def test_what_was_given_and_the_global_randomness_are_left_alone(self, which):
        x_0 = noise(2, 1, 4, 4).tanh()
        before, state = x_0.clone(), torch.get_rng_state()
        last(both(x_0=x_0, generator=seeded())[which]())
        assert torch.equal(x_0, before)
        assert torch.equal(torch.get_rng_state(), state)

    def test_no_gradients_are_kept_and_those_of_the_caller_stay_on(self, which):
        encoded = noise(2, 1, 4, 4).tanh().requires_grad_()
        for x_t in both(eps_model=UNet(1, (8,)), x_0=encoded)[which]():
            assert not x_t.requires_grad
            assert torch.is_grad_enabled()

    def test_clipping_keeps_pictures_between_minus_1_and_1(self, which):
        def shouts(x_t, t):
            return -3 * x_t

        clipped, free = (last(both(eps_model=shouts, clip_x_0=clip_x_0)[which]()) for clip_x_0 in (True, False))
        assert clipped.abs().max() == 1
        assert free.abs().max() > 1.5

    def test_latents_may_hold_any_values_but_only_where_nothing_is_clipped(self, which):
        latents = 3 * noise(2, 4, 4, 4)
        assert last(both(x_0=latents, clip_x_0=False)[which]()).shape == latents.shape
        with pytest.raises(ValueError, match=r"x_0 must lie in \[-1, 1\].*For latents: clip_x_0=False"):
            both(x_0=latents)[which]()

    @pytest.mark.parametrize(
        "change, words",
        [
            (dict(x_0=torch.zeros(4)), r"x_0 must be a tensor of pictures, \(N, C, H, W\)"),
            (dict(x_0=torch.zeros(2, 1, 4, 4, dtype=torch.uint8)), "x_0 must be floats in .*For values 0..255"),
            (dict(num_steps=101), "num_steps must be a whole number from 1 to 100"),
            (dict(schedule=torch.zeros(3)), "schedule must be a NoiseSchedule, such as"),
            (dict(generator=0), "generator must be a torch.Generator, such as .* got 0"),
            (dict(generator=[torch.Generator()]), "there are 1 generators for 2 pictures"),
            (dict(eps_model=TrainingState(UNet(1, (8,)))), "got a TrainingState: pass its ema_model"),
            (dict(eps_model=UNet(1, (8,), predicts="x_0")), "this model predicts x_0; noise_predictor"),
        ],
    )
    def test_a_slip_is_named_at_the_call(self, which, change, words):
        with pytest.raises((TypeError, ValueError), match=words):
            both(**change)[which]()

    def test_a_predictor_that_returns_another_shape_is_named_at_its_step(self, which):
        with pytest.raises(ValueError, match="what eps_model returns must be"):
            next(both(eps_model=lambda x_t, t: x_t[:1])[which]())


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, math.nan, True, "0.5", None], ids=str)
def test_a_strength_is_above_0_and_at_most_1(schedule, strength):
    with pytest.raises(ValueError, match="strength must be a number above 0 and at most 1; got"):
        picture_to_picture(lambda x_t, t: x_t, schedule, noise(2, 1, 4, 4).tanh(), strength)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(mask=REDRAWN.float()), r"mask must be bool, \(4, 4\), as x_0 is; got float32 tensor"),
        (
            dict(mask=REDRAWN.repeat(4, 4)),
            r"mask must be bool, \(4, 4\), as x_0 is; got bool tensor of shape \(16, 16\)",
        ),
        (dict(mask=REDRAWN.numpy()), r"mask must be bool, .*torch.from_numpy"),
        (dict(mask=~REDRAWN & REDRAWN), "mask is False everywhere, so there is nothing to redraw"),
        (dict(num_rounds=0), "num_rounds must be a whole number, 1 or more; got 0"),
        (dict(num_rounds=True), "num_rounds must be a whole number, 1 or more; got True"),
    ],
)
def test_a_slip_in_what_only_inpaint_has_is_named_at_the_call(schedule, change, words):
    with pytest.raises(ValueError, match=words):
        inpaint(
            **dict(eps_model=lambda x_t, t: x_t, schedule=schedule, x_0=noise(2, 1, 4, 4).tanh(), mask=REDRAWN) | change
        )
