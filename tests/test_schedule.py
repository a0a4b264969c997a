import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_core import NoiseSchedule, cosine_betas, linear_betas

DIFFUSERS_NAMES = {linear_betas: "linear", cosine_betas: "squaredcos_cap_v2"}


def test_linear_betas_are_evenly_spaced():
    betas = linear_betas(11, beta_start=0.1, beta_end=0.2)
    assert betas.dtype == torch.float32
    torch.testing.assert_close(betas, torch.tensor([0.1 + 0.01 * t for t in range(11)]))


@pytest.mark.parametrize("num_timesteps", [1, 10, 1000])
def test_cosine_betas_follow_the_formula(num_timesteps):
    alpha_bars = [
        math.cos((t / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        for t in range(num_timesteps + 1)
    ]
    expected = [min(1 - after / before, 0.999) for before, after in pairwise(alpha_bars)]
    betas = cosine_betas(num_timesteps)
    assert betas.dtype == torch.float32
    torch.testing.assert_close(betas.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)
    assert betas[-1] == torch.tensor(0.999)


@pytest.mark.parametrize("make_betas", DIFFUSERS_NAMES)
@pytest.mark.parametrize("num_timesteps", [1, 10, 1000])
def test_the_tensors_are_those_of_diffusers(make_betas, num_timesteps):
    theirs = DDPMScheduler(num_timesteps, beta_schedule=DIFFUSERS_NAMES[make_betas])
    ours = NoiseSchedule(make_betas(num_timesteps))
    assert len(ours) == num_timesteps
    torch.testing.assert_close(ours.betas, theirs.betas, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(ours.alphas, theirs.alphas, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(ours.alpha_bars, theirs.alphas_cumprod, rtol=1e-5, atol=1e-12)


def test_alpha_bars_multiply_what_each_step_keeps():
    schedule = NoiseSchedule(torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64))
    assert schedule.alphas.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert schedule.alpha_bars.tolist() == pytest.approx([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.5])
    assert schedule.alpha_bars_prev.tolist() == pytest.approx([1, 0.9, 0.9 * 0.8])
    assert schedule.beta_bars.tolist() == pytest.approx([0.1, 1 - 0.9 * 0.8, 1 - 0.9 * 0.8 * 0.5])
    assert schedule.beta_bars_prev.tolist() == pytest.approx([0, 0.1, 1 - 0.9 * 0.8])


def test_at_gives_each_picture_the_value_of_its_own_step(schedule):
    x = torch.zeros(3, 1, 8, 8, dtype=torch.float64)
    values = schedule.at(schedule.betas, torch.tensor([99, 0, 5]), x)
    assert values.shape == (3, 1, 1, 1)
    assert values.dtype == x.dtype
    assert values.flatten().tolist() == [schedule.betas[t].item() for t in (99, 0, 5)]


def test_a_schedule_moves_whole(schedule):
    moved = schedule.to("meta")
    tensors = moved.betas, moved.alphas, moved.alpha_bars, moved.beta_bars
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert schedule.betas.device.type == "cpu"


def test_a_schedule_says_what_it_is():
    assert repr(NoiseSchedule(torch.tensor([0.1, 0.5]))) == "NoiseSchedule(2 timesteps, alpha_bar 0.9 to 0.45)"


@pytest.mark.parametrize("num_steps", range(1, 61))
def test_fewer_steps_are_spread_evenly_and_end_at_the_last_timestep(num_steps):
    _, timesteps = NoiseSchedule(linear_betas(60)).respaced(num_steps)
    assert timesteps.dtype == torch.long
    assert timesteps[-1] == 59
    even = [Fraction(60 * k, num_steps) - 1 for k in range(1, num_steps + 1)]
    assert len(timesteps) == num_steps
    assert all(abs(t - position) <= Fraction(1, 2) for t, position in zip(timesteps.tolist(), even, strict=True))


@pytest.mark.parametrize("num_steps", [1, 3, 10, 50, 99, 100])
@pytest.mark.parametrize("make_betas", DIFFUSERS_NAMES)
def test_a_long_stride_adds_the_noise_of_all_the_steps_it_passes(make_betas, num_steps):
    full = NoiseSchedule(make_betas(100))
    short, timesteps = full.respaced(num_steps)
    ends = [-1, *timesteps.tolist()]
    kept = [math.prod(1 - beta for beta in full.betas.double().tolist()[a + 1 : b + 1]) for a, b in pairwise(ends)]
    kept = torch.tensor(kept, dtype=torch.float64)
    left = kept.cumprod(0)
    assert len(short) == num_steps
    expected = dict(alphas=kept, betas=1 - kept, alpha_bars=left, beta_bars=1 - left)
    for name, values in expected.items():
        torch.testing.assert_close(getattr(short, name).double(), values, rtol=2e-7, atol=0)


@pytest.mark.parametrize("make_betas", DIFFUSERS_NAMES)
def test_no_digit_is_lost_where_the_difference_from_1_is_small(make_betas):
    schedule = NoiseSchedule(make_betas(1000))
    beta_bars = 1 - torch.cumprod(1 - make_betas(1000).double(), dim=0)
    torch.testing.assert_close(schedule.beta_bars.double(), beta_bars, rtol=2e-7, atol=0)
    twice, _ = schedule.respaced(500)[0].respaced(250)
    torch.testing.assert_close(twice.betas, schedule.respaced(250)[0].betas, rtol=0, atol=0)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 30, 99, 100])
def test_fewer_steps_are_the_trailing_timesteps_of_diffusers(schedule, num_steps):
    theirs = DDPMScheduler(100, timestep_spacing="trailing")
    theirs.set_timesteps(num_steps)
    assert schedule.respaced(num_steps)[1].flip(0).tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("num_steps", [1, 7, 20])
def test_the_first_timesteps_are_a_schedule_as_good_as_any(num_steps):
    """A schedule is made by its betas alone; this one also keeps the digits that float32 has no room for."""
    first, made = NoiseSchedule(linear_betas(20)).first(num_steps), NoiseSchedule(linear_betas(20)[:num_steps])
    assert len(first) == num_steps
    for name in ("betas", "alphas", "alpha_bars", "beta_bars", "alpha_bars_prev", "beta_bars_prev"):
        torch.testing.assert_close(getattr(first, name), getattr(made, name), rtol=1e-6, atol=0)
    for one, other in zip(first.respaced(1), made.respaced(1), strict=True):
        torch.testing.assert_close(getattr(one, "betas", one), getattr(other, "betas", other), rtol=1e-6, atol=0)


def test_a_trusting_schedule_does_not_look_at_t_and_the_other_still_does(schedule):
    beyond, x = torch.tensor([0, 100]), torch.zeros(2, 1)
    with pytest.raises(IndexError):  # torch's own, from the look-up
        schedule.trusting().at(schedule.betas, beyond, x)
    with pytest.raises(ValueError, match="t must lie between 0 and 99"):
        schedule.at(schedule.betas, beyond, x)


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda schedule: linear_betas(0), "num_timesteps must be a whole number"),
        (lambda schedule: cosine_betas(10.0), "num_timesteps must be a whole number"),
        (lambda schedule: NoiseSchedule([0.1, 0.2]), "betas must be a 1-D tensor"),
        (lambda schedule: NoiseSchedule(torch.full((900,), 0.2)), "leave nothing of the picture"),
        (
            lambda schedule: schedule.first(0),
            "num_steps must be a whole number from 1 to 100, the schedule's length; got 0",
        ),
        (
            lambda schedule: schedule.respaced(101),
            "num_steps must be a whole number from 1 to 100, the schedule's length",
        ),
        (lambda schedule: schedule.to("meta").at(schedule.betas.to("meta"), torch.tensor([0]), torch.zeros(1)), "meta"),
    ],
)
def test_a_slip_is_named(schedule, slip, words):
    with pytest.raises(ValueError, match=words):
        slip(schedule)
