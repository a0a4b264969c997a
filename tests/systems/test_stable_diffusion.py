from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpm_core import (
    AutoencoderMismatch,
    Checkpoint,
    EmojiDataset,
    NoiseSchedule,
    TrainingState,
    UNet,
    linear_betas,
    load_checkpoint,
    save_checkpoint,
    shipped_checkpoint,
    train,
)
from ddpm_core.support.pixels import as_floats
from ddpm_core.systems.stable_diffusion import (
    Autoencoder,
    Posterior,
    autoencoder_loss,
    autoencoder_of,
    decoded,
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
    z_0 = encoded(autoencoder, x)
    torch.testing.assert_close(z_0, autoencoder.encode(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(decoded(autoencoder, z_0), autoencoder.decode(z_0), rtol=0, atol=1e-5)
    as_bytes = (x * 127.5 + 127.5).round().byte()
    torch.testing.assert_close(encoded(autoencoder, as_bytes), encoded(autoencoder, as_floats(as_bytes)))


def test_the_shape_of_latents_is_told_beforehand(autoencoder):
    for picture_shape in ((3, 16, 16), (3, 64, 64), (3, 8, 20)):
        z_0 = autoencoder.encode(torch.zeros(1, *picture_shape))
        assert autoencoder.latent_shape(picture_shape) == tuple(z_0.shape[1:])


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


# ---- a pair of checkpoints -------------------------------------------------------------------------------------------


def pair_in(folder: Path) -> tuple[Checkpoint, Checkpoint]:
    """The latent model, and the autoencoder."""
    return load_checkpoint(folder / "stable-diffusion.safetensors"), load_checkpoint(folder / "autoencoder.safetensors")


def test_a_checkpoint_finds_its_autoencoder_and_a_model_that_draws_pictures_has_none(latent_pair):
    loaded, theirs = pair_in(latent_pair)
    z_0 = torch.randn(2, 4, 4, 4)
    assert torch.equal(autoencoder_of(loaded).decode(z_0), theirs.model.decode(z_0))
    (latent_pair / "autoencoder.safetensors").rename(latent_pair / "mine.safetensors")
    mine = load_checkpoint(latent_pair / "mine.safetensors")
    assert torch.equal(autoencoder_of(loaded, mine).decode(z_0), theirs.model.decode(z_0))
    with pytest.raises(FileNotFoundError, match=r"git checkout -- data/autoencoder\.safetensors"):
        autoencoder_of(loaded)
    del loaded.notes["autoencoder"]
    assert autoencoder_of(loaded) is None
    with pytest.raises(ValueError, match="draws pictures, not latents"):
        autoencoder_of(loaded, mine)


@pytest.mark.parametrize("name", ["decoder.0.bias", "encoder.1.weight", "latent_mean", "latent_std"])
def test_another_autoencoder_than_that_of_the_training_is_refused(name, latent_pair):
    loaded, other = pair_in(latent_pair)
    other.model.state_dict()[name].add_(1e-3)
    with pytest.raises(AutoencoderMismatch, match="another autoencoder than the one given"):
        autoencoder_of(loaded, other)
    save_checkpoint(latent_pair / "autoencoder.safetensors", TrainingState(other.model))
    with pytest.raises(AutoencoderMismatch, match=r"than the course's.*git checkout -- data/autoencoder\.safetensors"):
        autoencoder_of(loaded)


def test_what_is_no_checkpoint_of_an_autoencoder_is_named(latent_pair):
    loaded, right = pair_in(latent_pair)
    for checkpoint, autoencoder, words in [
        (loaded, right.model, "autoencoder must be a Checkpoint, such as load_checkpoint.* got Autoencoder"),
        (loaded, loaded, r"autoencoder.model must be an Autoencoder; got TextToImage"),
        (loaded.model, right, "checkpoint must be a Checkpoint, .* got TextToImage"),
    ]:
        with pytest.raises(TypeError, match=words):
            autoencoder_of(checkpoint, autoencoder)


def test_what_the_course_trains_is_not_mistaken_for_latents_or_a_noise_predictor(autoencoder):
    schedule, x, unet = NoiseSchedule(linear_betas(10)), pictures(4), UNet(4, (8,))
    z_0 = autoencoder.encode(x)
    with pytest.raises(ValueError, match=r"pictures must not require a gradient: .*encoded\(autoencoder, pictures\)"):
        next(train(TrainingState(unet), schedule, z_0, 2, 2, bounded=False))
    next(train(TrainingState(unet), schedule, encoded(autoencoder, x), 2, 2, bounded=False))
    with pytest.raises(ValueError, match="got Autoencoder, which train_autoencoder teaches"):
        next(train(TrainingState(autoencoder), schedule, x, 2, 2))


def test_a_frozen_model_is_thawed_before_it_learns_on(autoencoder):
    state = TrainingState(autoencoder.requires_grad_(False))
    with pytest.raises(ValueError, match=r"model\.requires_grad_\(True\)"):
        next(train_autoencoder(state, pictures(4), 2, 2))
    state.model.requires_grad_(True)
    next(train_autoencoder(state, pictures(4), 2, 2))
    with pytest.raises(ValueError, match="does not depend on the weights"):
        state.backward(torch.tensor(1.0))


def test_the_shipped_one_brings_withheld_pictures_back_and_says_how_it_was_made():
    path = shipped_checkpoint("autoencoder")
    checkpoint, withheld = load_checkpoint(path), EmojiDataset(split="withheld").pictures[::4]
    assert path.stat().st_size < 10e6 and isinstance(checkpoint.model, Autoencoder)
    assert {"command", "iterations", "seconds", "machine", "scores"} <= set(checkpoint.notes)
    z_0 = encoded(checkpoint.model, withheld)
    assert z_0.shape[1:] == (4, 16, 16) and z_0.mean().abs() < 0.1 and abs(z_0.std() - 1) < 0.1
    pixels = ((decoded(checkpoint.model, z_0) + 1) * 127.5).double()
    errors = (pixels - withheld).square().mean(dim=(1, 2, 3))
    decibels = (20 * torch.log10(255 / errors.sqrt())).mean().item()  # peak signal-to-noise ratio
    assert decibels >= 30
    assert decibels == pytest.approx(checkpoint.notes["scores"]["decibels, withheld"], abs=0.5)  # of four times as many


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda a: a.encode(pictures(1, size=18)), ValueError, "18x18 cannot be halved once.* multiples of 4"),
        (lambda a: a.encode(pictures(1)[0]), ValueError, r"pictures must be pictures.*\(3, 16, 16\): pictures\[None\]"),
        (lambda a: a.encode(pictures(1).byte()), ValueError, r"got uint8.*pictures\.float\(\) / 127\.5 - 1"),
        (lambda a: a.encode(pictures(0)), ValueError, r"pictures must be pictures.*\(0, 3, 16, 16\)"),
        (lambda a: a.encode(torch.full((1, 3, 16, 16), 255.0)), ValueError, r"-1, 1\].* pictures / 127\.5 - 1"),
        (lambda a: encoded(a, torch.full((1, 3, 16, 16), 255.0)), ValueError, r"-1, 1\].* pictures / 127\.5 - 1"),
        (lambda a: a.standardise(torch.full((1, 3, 16, 16), 255.0)), ValueError, r"-1, 1\].* pictures / 127\.5 - 1"),
        (lambda a: a.decode(torch.zeros(1, 4, 4, 4).double()), ValueError, "z_0 is float64.* Autoencoder's weights"),
        (lambda a: decoded(a, torch.zeros(1, 4, 4, 4).double()), ValueError, "z_0 is float64.* Autoencoder's weights"),
        (lambda a: decoded(a, torch.zeros(1, 4, 4, 0)), ValueError, r"z_0 must be latents, .*\(1, 4, 4, 0\)"),
        (lambda a: a(pictures(1), 0), TypeError, r"generator must be a torch.Generator, .*; got 0 \(int\)"),
        (lambda a: a.posterior(pictures(1)).sample(0), TypeError, r"generator must be a torch.Generator"),
        (lambda a: autoencoder_loss(pictures(2), pictures(1), Posterior(*2 * [pictures(2)])), ValueError, "one shape"),
        (
            lambda a: autoencoder_loss(*2 * [pictures(1)], a.posterior(pictures(1)), -1),
            ValueError,
            "edge_weight must be",
        ),
        (
            lambda a: autoencoder_loss(*2 * [pictures(1)], a.posterior(pictures(1)), 1, "1"),
            ValueError,
            "kl_weight must",
        ),
        (lambda a: encoded(Checkpoint(a, None), pictures(1)), TypeError, "an Autoencoder; .*: pass its model"),
        (lambda a: a.encode(pictures(1)[:, :1]), ValueError, "1 channels, but this Autoencoder"),
        (
            lambda a: a.decode(torch.zeros(1, 3, 4, 4)),
            ValueError,
            r"z_0 must be latents, .*\(B, 4, h, w\).*\(1, 3, 4, 4\)",
        ),
        (lambda a: a.latent_shape((3, 50, 64)), ValueError, "50x64 cannot be halved once.* multiples of 4"),
        (lambda a: a.latent_shape((4, 16, 16)), ValueError, r"picture_shape must be .*\(3, H, W\); got \(4, 16, 16\)"),
        (lambda a: encoded(a, pictures(1)[0]), ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\)"),
        (lambda a: encoded(pictures(1), a), TypeError, "autoencoder must be an Autoencoder; got float32 tensor"),
        (lambda a: decoded(a, torch.zeros(4, 4, 4)), ValueError, r"z_0 must be latents, .*\(B, 4, h, w\).*\(4, 4, 4\)"),
        (lambda a: decoded(torch.zeros(1, 4, 4, 4), a), TypeError, "autoencoder must be an Autoencoder; got float32"),
        (lambda a: next(train_autoencoder(a, pictures(1), 1)), TypeError, "state must be a TrainingState"),
        (lambda a: next(train_autoencoder(TrainingState(a), pictures(1)[0], 1)), ValueError, "pictures must be"),
        (
            lambda a: next(train_autoencoder(TrainingState(a), pictures(1).requires_grad_(), 1)),
            ValueError,
            "pictures must not require a gradient",
        ),
        (lambda a: next(train_autoencoder(TrainingState(a), pictures(1), 1, 0)), ValueError, "batch_size must be"),
        (lambda a: Autoencoder(latent_channels=0), ValueError, "latent_channels must be a whole number"),
        (lambda a: Autoencoder(in_channels=0), ValueError, "in_channels must be a whole number, 1 or more; got 0"),
        (lambda a: Autoencoder(in_channels="3"), ValueError, "in_channels must be a whole number"),
        (lambda a: Autoencoder(in_channels=2.5), ValueError, "in_channels must be a whole number"),
    ],
)
def test_a_slip_is_named(autoencoder, call, error, words):
    with pytest.raises(error, match=words):
        call(autoencoder)
