"""The answers of notebook 08 against diffusers, torch's distributions, NumPy, scikit-learn, and a real autoencoder."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from sklearn.preprocessing import StandardScaler
from torch.distributions import Normal, kl_divergence

from ddpm_core import Autoencoder, NoiseSchedule, Posterior, autoencoder_loss, linear_betas
from ddpm_core.course.exercises.drawing_08 import my_draw_in_latents
from ddpm_core.course.exercises.notebook_08 import my_autoencoder_loss
from ddpm_core.course.exercises.posterior_08 import my_encode, my_kl


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def autoencoder():
    torch.manual_seed(1)
    autoencoder = Autoencoder(3, (8, 16))
    autoencoder.standardise(noise(30, 3, 16, 16).tanh())
    return autoencoder.requires_grad_(False)


def test_kl_is_that_of_torchs_normals_and_of_diffusers():
    mean, log_variance = 2 * noise(5, 4, 3, 2), noise(5, 4, 3, 2, seed=1) - 1
    nats = my_kl(mean, log_variance)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(nats, expected.mean(dim=(1, 2, 3)))
    theirs = DiagonalGaussianDistribution(torch.cat([mean, log_variance], dim=1)).kl()  # over the numbers, the sum
    torch.testing.assert_close(nats, theirs / mean[0].numel())
    torch.testing.assert_close(nats, Posterior(mean, log_variance).kl())


def test_kl_is_nothing_for_the_standard_normal_and_more_for_all_others():
    zero = torch.zeros(1, 2, 2, 2)
    assert my_kl(zero, zero).item() == 0
    for mean, log_variance in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert my_kl(zero + mean, zero + log_variance).item() > 1e-3


def test_the_loss_is_numpys_and_the_packages():
    pictures, decoded = (noise(4, 3, 6, 8, seed=seed).tanh() for seed in (0, 1))
    mean, log_variance = noise(4, 2, 2, 2, seed=2), noise(4, 2, 2, 2, seed=3)
    loss = my_autoencoder_loss(pictures, decoded, my_kl(mean, log_variance), 0.7, 0.2).item()
    wrong = (decoded - pictures).numpy()
    edges = sum(np.abs(np.diff(wrong, axis=axis)).mean() for axis in (2, 3))
    nats = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean().item()
    assert loss == pytest.approx(np.abs(wrong).mean() + 0.7 * edges + 0.2 * nats, rel=1e-5)
    theirs = autoencoder_loss(pictures, decoded, Posterior(mean, log_variance), 0.7, 0.2)
    assert loss == pytest.approx(theirs.item(), rel=1e-5)


def test_of_two_pictures_equally_far_off_in_their_pixels_the_blurred_one_costs_more():
    edge = torch.ones(1, 1, 8, 8)
    edge[..., 4:] = -1
    blurred = edge.clone()
    blurred[..., 3:5] = 0
    brighter = edge + 0.25
    costs = [my_autoencoder_loss(edge, other, torch.zeros(1), 1.0, 0.0).item() for other in (blurred, brighter)]
    assert (blurred - edge).abs().mean() == (brighter - edge).abs().mean() == costs[1] and costs[0] > 1.5 * costs[1]


def test_encode_is_scikit_learns_standardisation_of_the_means(autoencoder):
    pictures = noise(30, 3, 16, 16).tanh()
    mean = autoencoder.encoder(pictures)[:, :4]
    rows = mean.permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    scaler = StandardScaler().fit(rows)
    latent_mean, latent_std = (
        torch.tensor(values).float().reshape(1, 4, 1, 1) for values in (scaler.mean_, scaler.scale_)
    )
    z_0 = my_encode(autoencoder.encoder, pictures, latent_mean, latent_std)
    expected = torch.tensor(scaler.transform(rows)).float().reshape(30, 4, 4, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(z_0, expected, rtol=1e-4, atol=1e-4)


def test_encode_is_that_of_the_autoencoder(autoencoder):
    pictures = noise(3, 3, 20, 12, seed=5).tanh()
    z_0 = my_encode(autoencoder.encoder, pictures, autoencoder.latent_mean, autoencoder.latent_std)
    torch.testing.assert_close(z_0, autoencoder.encode(pictures))


def test_what_is_drawn_is_what_diffusers_draws_in_the_latents_and_the_autoencoder_decodes(autoencoder):
    schedule, z_T = NoiseSchedule(linear_betas(100)), 2 * noise(2, 4, 4, 4, seed=7)

    def eps_model(z_t, t):
        return torch.sin(z_t + t.reshape(-1, 1, 1, 1))

    theirs = DDIMScheduler(100, trained_betas=schedule.betas.numpy(), clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(5)
    z_t = z_T
    for t in theirs.timesteps:
        z_t = theirs.step(eps_model(z_t, t.expand(2)), t, z_t).prev_sample
    assert z_t.abs().max() > 1.5  # clipping would have changed it
    pictures = my_draw_in_latents(
        eps_model, schedule, z_T, 5, autoencoder.decoder, autoencoder.latent_mean, autoencoder.latent_std
    )
    torch.testing.assert_close(pictures, autoencoder.decode(z_t), rtol=1e-4, atol=1e-4)
