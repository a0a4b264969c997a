import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpm_core import TrainingState, load_checkpoint, save_checkpoint
from ddpm_core.systems.stable_diffusion import (
    Autoencoder,
    Posterior,
    autoencoder_loss,
    encoded,
    train_autoencoder,
)


def pictures(count: int, seed: int = 0, size: int = 16) -> Tensor:
    """Smooth ones: coarse random colours, made larger."""
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


@pytest.fixture
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    model = Autoencoder(3, (8, 16), latent_channels=4, patch_size=2)
    with torch.no_grad():  # as if it had learnt: blocks and heads begin at nothing
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.05)
    return model


# ---- the posterior ---------------------------------------------------------------------------------------------------


def test_the_divergence_is_that_of_torch_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 4, 3, 3, generator=generator)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), expected)
    assert Posterior(torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)).kl().tolist() == [0, 0]


def test_draws_from_it_have_its_mean_and_deviation():
    mean, std = torch.tensor([[-1.0], [2.0]]), torch.tensor([[0.1], [3.0]])
    posterior = Posterior(*(value.expand(2, 100_000)[..., None, None] for value in (mean, 2 * std.log())))
    drawn = posterior.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(dim=1).flatten(), mean[:, 0], rtol=0.01, atol=0.001)
    torch.testing.assert_close(drawn.std(dim=1).flatten(), std[:, 0], rtol=0.01, atol=0)
    assert torch.equal(posterior.sample(torch.Generator().manual_seed(0)), drawn)


# ---- the networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels, patch_size, side", [((8,), 1, 16), ((8, 16), 2, 4), ((8, 8, 16), 1, 4)])
def test_a_picture_becomes_a_smaller_latent_and_comes_back(channels, patch_size, side):
    autoencoder = Autoencoder(3, channels, latent_channels=5, blocks_per_level=2, patch_size=patch_size)
    x = pictures(2)
    assert autoencoder.encode(x).shape == (2, 5, side, side)
    assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape


def test_standardised_latents_have_mean_0_and_deviation_1_and_are_the_same_pictures(autoencoder):
    x = pictures(64)
    raw, before = autoencoder.posterior(x).mean, autoencoder.decode(autoencoder.encode(x))
    assert torch.equal(autoencoder.encode(x), raw)
    autoencoder.standardise(((x + 1) * 127.5).round().byte())
    z_0 = autoencoder.encode(x)
    torch.testing.assert_close(z_0.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=0.01)
    torch.testing.assert_close(z_0.std(dim=(0, 2, 3)), torch.ones(4), rtol=0.01, atol=0)
    torch.testing.assert_close(autoencoder.decode(z_0), before, rtol=0, atol=1e-4)
    autoencoder.standardise(x)  # again: measured from what is raw, or the second would undo the first
    torch.testing.assert_close(
        autoencoder.encode(x), (raw - raw.mean((0, 2, 3), True)) / raw.std((0, 2, 3), keepdim=True)
    )


def test_latents_of_many_pictures_are_those_of_each(autoencoder, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.memory.PIXELS_AT_ONCE", 3 * 16 * 16)
    x = pictures(7)
    torch.testing.assert_close(encoded(autoencoder, x), autoencoder.encode(x), rtol=0, atol=1e-5)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_each_part_of_the_loss_in_closed_form():
    x, nothing = torch.zeros(2, 3, 4, 4), Posterior(torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 2, 2))
    brighter = torch.full_like(x, 0.5)
    assert autoencoder_loss(x, brighter, nothing).item() == pytest.approx(0.5)  # no edge, no divergence
    ramp = torch.arange(4).expand(2, 3, 4, 4) * 0.1  # from left to right: an edge of 0.1 everywhere, none downwards
    assert autoencoder_loss(x, ramp, nothing).item() == pytest.approx(0.15 + 0.1)
    assert autoencoder_loss(x, ramp.mT, nothing, edge_weight=2).item() == pytest.approx(0.15 + 2 * 0.1)
    far = Posterior(torch.full((2, 4, 2, 2), 2.0), torch.zeros(2, 4, 2, 2))
    assert autoencoder_loss(x, x, far, kl_weight=0.1).item() == pytest.approx(0.1 * 2)  # mean squared, halved


# ---- training --------------------------------------------------------------------------------------------------------


def test_it_learns_to_bring_pictures_back_and_every_weight_has_a_part_in_it():
    torch.manual_seed(0)
    state, x = TrainingState(Autoencoder(3, (16, 16), patch_size=2)), pictures(64)
    first = {name: weight.clone() for name, weight in state.model.named_parameters()}
    list(
        train_autoencoder(
            state, (x * 127.5 + 127.5).round().byte(), 200, 16, learning_rate=5e-3, warmup_iterations=10, ema_decay=0.9
        )
    )
    assert all(not torch.equal(weight, first[name]) for name, weight in state.model.named_parameters())
    unseen = pictures(16, seed=1)
    back = state.ema_model.decode(state.ema_model.encode(unseen))
    error, spread = (back - unseen).square().mean(), unseen.var()
    assert error < 0.6 * spread  # and that of grey pictures is all of it


def test_without_its_divergence_the_latents_spread():
    spread = {}
    for kl_weight in (0.0, 1.0):
        torch.manual_seed(0)
        state = TrainingState(Autoencoder(3, (8,), patch_size=4))
        options = dict(learning_rate=5e-3, warmup_iterations=10, ema_decay=0.9, kl_weight=kl_weight)
        list(train_autoencoder(state, pictures(64), 150, 16, **options))
        spread[kl_weight] = state.model.posterior(pictures(64)).kl().mean().item()
    assert spread[1.0] < 0.2 * spread[0.0]


def test_it_comes_back_from_a_file_with_the_numbers_of_its_latents(autoencoder, tmp_path):
    autoencoder.standardise(pictures(8))
    save_checkpoint(tmp_path / "a.safetensors", TrainingState(autoencoder), None)
    loaded = load_checkpoint(tmp_path / "a.safetensors").model
    assert torch.equal(loaded.latent_mean, autoencoder.latent_mean) and loaded.latent_mean.abs().max() > 0
    torch.testing.assert_close(loaded.encode(pictures(3)), autoencoder.encode(pictures(3)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda a: a.encode(pictures(1, size=18)), ValueError, "18x18 cannot be halved once.* multiples of 4"),
        (lambda a: a.encode(pictures(1)[0]), ValueError, r"pictures must be pictures.*\(3, 16, 16\)"),
        (lambda a: a.encode(pictures(1)[:, :1]), ValueError, "1 channels, but this Autoencoder"),
        (
            lambda a: a.decode(torch.zeros(1, 3, 4, 4)),
            ValueError,
            r"z_0 must be latents, .*\(B, 4, h, w\).*\(1, 3, 4, 4\)",
        ),
        (lambda a: next(train_autoencoder(a, pictures(1), 1)), TypeError, "state must be a TrainingState"),
        (lambda a: next(train_autoencoder(TrainingState(a), pictures(1)[0], 1)), ValueError, "pictures must be"),
        (lambda a: Autoencoder(latent_channels=0), ValueError, "latent_channels must be a whole number"),
    ],
)
def test_a_slip_is_named(autoencoder, call, error, words):
    with pytest.raises(error, match=words):
        call(autoencoder)
