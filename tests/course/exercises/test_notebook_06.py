"""The answers of notebook 06 against diffusers' schedulers, SciPy's slerp, and what must hold for every step."""

import pytest
import torch
from diffusers import DDIMScheduler, RePaintScheduler
from scipy.spatial import geometric_slerp

from ddpm_core import NoiseSchedule, cosine_betas
from ddpm_core.course.exercises.notebook_06 import my_sdedit_start, my_slerp
from ddpm_core.course.exercises.steps_04 import my_ddim_step, my_ddpm_step
from ddpm_core.course.exercises.steps_06 import my_ddim_eta_step, my_inpaint_step

SCHEDULE = NoiseSchedule(cosine_betas(50))


def noise(seed: int) -> torch.Tensor:
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def peer(kind: type, **settings: object):
    """A scheduler of diffusers with 50 steps of the cosine schedule, 10 of which are visited: 45, 40, ..., 0."""
    peer = kind(50, beta_schedule="squaredcos_cap_v2", clip_sample=False, **settings)
    peer.set_timesteps(10)
    return peer


def visits() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(t, t_before) from the first step to the last, which ends at the clean picture."""
    steps = [torch.full((3,), t) for t in range(45, -1, -5)]
    return [(t, (t - 5).clamp(min=-1)) for t in steps]


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_step_is_that_of_diffusers_ddim_at_each_eta(eta):
    scheduler, x_t = peer(DDIMScheduler), noise(0)
    assert scheduler.timesteps.tolist() == [int(t[0]) for t, _ in visits()]
    for i, (t, t_before) in enumerate(visits()):
        eps_hat, z = noise(2 * i + 1), noise(2 * i + 2)
        ours = my_ddim_eta_step(SCHEDULE, x_t, t, eps_hat, t_before, eta, z)
        theirs = scheduler.step(eps_hat, int(t[0]), x_t, eta=eta, variance_noise=z).prev_sample
        assert_close(ours, theirs)
        x_t = theirs


def test_eta_0_is_the_step_of_04_and_eta_1_over_neighbours_is_ddpm():
    x_t, eps_hat, z, t = noise(0), noise(1), noise(2), torch.tensor([0, 20, 49])
    for t_before in (t - 1, torch.tensor([-1, 3, 30])):
        assert_close(
            my_ddim_eta_step(SCHEDULE, x_t, t, eps_hat, t_before, 0.0, z),
            my_ddim_step(SCHEDULE, x_t, t, eps_hat, t_before),
        )
    t = torch.tensor([0, 20, 40])  # at 49 the clean picture is divided by nearly 0
    assert_close(my_ddim_eta_step(SCHEDULE, x_t, t, eps_hat, t - 1, 1.0, z), my_ddpm_step(SCHEDULE, x_t, t, eps_hat, z))


def test_every_step_is_that_of_diffusers_repaint():
    """diffusers' mask is the paper's, 1 where the picture is known; with eta = 0 only the known part is noised anew."""
    scheduler, x_t, x_0 = peer(RePaintScheduler, eta=0.0), noise(0), noise(1).tanh()
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, 1:] = True
    for i, (t, t_before) in enumerate(visits()):
        eps_hat, eps = noise(i + 2), noise(100 + i)
        ours = my_inpaint_step(SCHEDULE, x_t, t, eps_hat, t_before, x_0, mask, eps)
        same_noise = torch.Generator().manual_seed(100 + i)
        theirs = scheduler.step(eps_hat, int(t[0]), x_t, x_0, (~mask).float(), same_noise).prev_sample
        assert_close(ours, theirs)
        x_t = theirs
    assert torch.equal(x_t[..., ~mask], x_0[..., ~mask])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_on_the_unit_sphere_it_is_scipys_slerp(share):
    a, b = (torch.nn.functional.normalize(noise(seed).double().flatten(1), dim=1) for seed in (0, 1))
    b[1] = torch.nn.functional.normalize(b[1] - 3 * a[1], dim=0)  # at more than a right angle
    theirs = [torch.from_numpy(geometric_slerp(*ends, [share])[0]) for ends in zip(a.numpy(), b.numpy(), strict=True)]
    ours = my_slerp(a.reshape(3, 1, 4, 4), b.reshape(3, 1, 4, 4), share)
    assert_close(ours.flatten(1), torch.stack(theirs))


def test_on_the_arc_lengths_stay_and_on_the_straight_line_they_shrink():
    a, b = noise(0), noise(1)
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).reshape(-1, 1, 1, 1)
    lengths = a.flatten(1).norm(dim=1)
    assert_close(my_slerp(a, b, 0.5).flatten(1).norm(dim=1), lengths)
    assert (torch.lerp(a, b, 0.5).flatten(1).norm(dim=1) < 0.9 * lengths).all()
    assert torch.equal(my_slerp(a, 2 * a, 0.25), 1.25 * a)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_it_starts_where_diffusers_would_and_with_the_same_picture(strength):
    """In picture-to-picture there, the last strength * T of all timesteps are left, and the first of them counts."""
    scheduler = peer(DDIMScheduler)
    scheduler.set_timesteps(50)
    x_0, eps = noise(0).tanh(), noise(1)
    t, x_t = my_sdedit_start(SCHEDULE, x_0, strength, eps)
    left = scheduler.timesteps[50 - int(50 * strength) :]
    assert t.tolist() == 3 * [int(left[0])] and len(left) == 50 * strength
    assert_close(x_t, scheduler.add_noise(x_0, eps, left[:1]))
