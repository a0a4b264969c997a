"""What the answers to notebook 01's exercises say, measured on many more points than the notebook draws."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ddpm_core import NoiseSchedule, cosine_betas, sample

SCHEDULE = NoiseSchedule(cosine_betas(200))
CENTRES = torch.tensor([[-2.0, -1.2], [2.0, -1.2], [0.0, 2.0]])
WEIGHTS, SPREAD, COUNT = torch.tensor([0.5, 0.3, 0.2]), 0.25, 10_000


def town_model(x_t, t):
    """The noise as the score of the density of x_t, which autograd takes: no formula of the notebook's is used."""
    alpha_bar = SCHEDULE.alpha_bars[t[0]]
    deviation = (alpha_bar * SPREAD**2 + 1 - alpha_bar).sqrt()
    towns = Independent(Normal(alpha_bar.sqrt() * CENTRES, deviation), 1)
    with torch.enable_grad():
        place = x_t.clone().requires_grad_()
        density = MixtureSameFamily(Categorical(WEIGHTS), towns).log_prob(place).sum()
        [score] = torch.autograd.grad(density, place)
    return -(1 - alpha_bar).sqrt() * score


def census(**options) -> tuple[list[float], list[float]]:
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(COUNT, 2, generator=generator)
    *_, x_0 = sample(town_model, SCHEDULE, x_T, clip_x_0=False, generator=generator, **options)
    nearest = torch.cdist(x_0, CENTRES).argmin(dim=1)
    arrived = [x_0[nearest == town] for town in range(3)]
    return [len(points) / COUNT for points in arrived], [points.std(dim=0).mean().item() for points in arrived]


def test_ten_steps_narrow_the_towns_and_keep_their_shares():
    shares, deviations = census(num_steps=10)
    assert deviations == pytest.approx([0.18] * 3, abs=0.01)
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_three_steps_spoil_the_shares_and_scatter_the_towns():
    shares, deviations = census(num_steps=3)
    assert shares[0] == pytest.approx(0.56, abs=0.02)
    assert 0.27 < min(deviations) < max(deviations) < 0.37


def test_the_two_choices_of_the_variance_lie_on_either_side_of_the_truth():
    _, narrow = census()
    _, wide = census(variance="beta")
    assert narrow == pytest.approx([0.24] * 3, abs=0.005)
    assert all(0.245 < deviation < 0.26 for deviation in wide)
