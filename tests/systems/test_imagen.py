import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm_core import (
    Checkpoint,
    CheckpointError,
    EmojiDataset,
    NoiseSchedule,
    TrainingState,
    UNet,
    dynamic_threshold,
    linear_betas,
    load_checkpoint,
    sample,
    save_checkpoint,
    shipped_checkpoint,
    super_resolve,
    super_resolved,
    super_resolver_of,
    train,
    train_super_resolver,
)
from ddpm_core.support import memory
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems import augmented, imagen, shrunk
from ddpm_core.systems.imagen import SuperResolver


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed)) * 2 - 1


def new_model(**options: object) -> SuperResolver:
    """4x4 to 8x8; untrained, its U-Net says 0 everywhere."""
    torch.manual_seed(0)
    return SuperResolver(UNet(3, (8,), patch_size=2, predicts="x_0", out_channels=1), low_size=4, **options)


@pytest.fixture
def model() -> SuperResolver:
    """One that says something."""
    model = new_model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.1)
    return model


# ---- dynamic thresholding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("shape", [(3, 1, 5, 7), (2, 3, 8, 8), (4, 1, 1, 6)])
def test_dynamic_thresholding_is_that_of_diffusers(share, shape):
    x_0_hat = 1.5 * torch.randn(shape, generator=generator())
    x_0_hat[0] *= 0.1  # of which nothing exceeds 1
    options = dict(thresholding=True, dynamic_thresholding_ratio=share, sample_max_value=1e6)
    theirs = DDPMScheduler(**options)._threshold_sample(x_0_hat)
    torch.testing.assert_close(dynamic_threshold(share)(x_0_hat), theirs, rtol=0, atol=1e-6)


def test_a_picture_without_large_values_stays_as_it_is_beside_one_with_them():
    x_0_hat = uniform(2, 3, 4, 4)
    x_0_hat[1] *= 5
    kept = dynamic_threshold()(x_0_hat)
    assert torch.equal(kept[0], x_0_hat[0]) and kept[1].abs().max() == 1
    torch.testing.assert_close(kept[1], dynamic_threshold()(x_0_hat[1:])[0])  # whatever else is in the batch


def test_what_is_far_too_large_everywhere_keeps_its_proportions_where_clipping_flattens_it(schedule):
    x_0 = 6 * uniform(1, 1, 8, 8)
    eps_model = lambda x_t, t: (x_t - schedule.alpha_bars[t[0]].sqrt() * x_0) / (1 - schedule.alpha_bars[t[0]]).sqrt()  # noqa: E731
    *_, scaled_back = sample(eps_model, schedule, torch.randn(1, 1, 8, 8), 10, clip_x_0=dynamic_threshold(1.0))
    *_, clipped = sample(eps_model, schedule, torch.randn(1, 1, 8, 8), 10)
    torch.testing.assert_close(scaled_back, x_0 / x_0.abs().max(), rtol=0, atol=1e-4)
    assert (clipped.abs() > 0.99).float().mean() > 0.7 > 0.1 > (scaled_back.abs() > 0.99).float().mean()


# ---- small pictures --------------------------------------------------------------------------------------------------


def test_a_small_picture_holds_the_means():
    pictures = uniform(2, 3, 12, 12)
    by_hand = pictures.numpy().reshape(2, 3, 4, 3, 4, 3).mean(axis=(3, 5))
    torch.testing.assert_close(shrunk(pictures, 4), torch.from_numpy(by_hand))
    assert torch.equal(shrunk(pictures, 12), pictures)


@pytest.mark.parametrize("level", [0.1, 0.4, 1.0])
def test_augmentation_keeps_the_variance_and_adds_noise_of_its_level(level):
    low = torch.randn(4, 1, 200, 200, generator=generator(1))
    noisy = augmented(low, torch.full((4,), level), generator())
    assert noisy.var().item() == pytest.approx(low.var().item(), abs=0.02)
    added = noisy - math.sqrt(1 - level**2) * low
    assert added.std().item() == pytest.approx(level, rel=0.02) and abs((added * low).mean()) < 0.01
    assert torch.equal(augmented(low, torch.zeros(4), generator()), low)


def test_each_picture_is_augmented_at_its_own_level_with_its_own_generator():
    low, level = uniform(3, 1, 4, 4), torch.tensor([0.0, 0.2, 0.4])
    together = augmented(low, level, [generator(seed) for seed in (5, 6, 7)])
    for i in range(3):
        assert torch.equal(augmented(low[i : i + 1], level[i : i + 1], [generator(5 + i)])[0], together[i])


def test_a_number_is_the_level_of_all(model, schedule):
    low, each, x_t, t = uniform(3, 1, 4, 4), torch.full((3,), 0.2), uniform(3, 1, 8, 8), torch.tensor([5, 50, 90])
    assert torch.equal(augmented(low, 0.2, generator()), augmented(low, each, generator()))
    assert torch.equal(model(x_t, t, low, 0.2), model(x_t, t, low, each))
    assert torch.equal(model.eps_model(schedule, low, 0.2)(x_t, t), model.eps_model(schedule, low, each)(x_t, t))


@pytest.mark.parametrize("level", [-0.1, 1.5, math.nan, "0.1", torch.zeros(2), torch.tensor([0.1, 1.5, 0.1])])
def test_what_is_no_level_is_named(level, model, schedule):
    low = uniform(3, 1, 4, 4)
    for use in (
        lambda: augmented(low, level),
        lambda: model.eps_model(schedule, low, level),
        lambda: model(uniform(3, 1, 8, 8), torch.tensor([5, 50, 90]), low, level),
    ):
        with pytest.raises(ValueError, match="level must "):
            use()


@pytest.mark.parametrize(
    "pictures, size, words",
    [
        *((uniform(1, 3, 8, 8), size, r"size must be a whole number from 1 to 8, .*; got") for size in (0, 2.5, 9)),
        (uniform(1, 3, 8, 6), 8, "size must be a whole number from 1 to 6"),
        (uniform(3, 8, 8), 4, r"pictures must be .*\(3, 8, 8\): pictures\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 4, r"pictures must be floats .*pictures\.float\(\) / 127\.5 - 1"),
    ],
)
def test_what_cannot_be_shrunk_is_named(pictures, size, words):
    with pytest.raises((TypeError, ValueError), match=words):
        shrunk(pictures, size)


# ---- the network -----------------------------------------------------------------------------------------------------


def test_an_untrained_one_enlarges_as_torch_does_and_its_drawing_is_that_clipped():
    low = uniform(2, 1, 4, 4)
    enlarged = F.interpolate(low, scale_factor=2, mode="bicubic")
    said = new_model()(torch.randn(2, 1, 8, 8), torch.tensor([3, 90]), low, torch.zeros(2))
    torch.testing.assert_close(said, enlarged)
    *_, drawn = super_resolve(new_model(), NoiseSchedule(linear_betas()), low, size=8, level=0.0)
    torch.testing.assert_close(drawn, enlarged.clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changed", ["x_t", "t", "low", "level"])
def test_what_it_says_depends_on_all_that_it_is_told(changed, model):
    inputs = dict(x_t=uniform(1, 1, 8, 8), t=torch.tensor([5]), low=uniform(1, 1, 4, 4), level=torch.tensor([0.1]))
    others = dict(x_t=uniform(1, 1, 8, 8, seed=1), t=torch.tensor([90]), low=-inputs["low"], level=torch.tensor([0.3]))
    before = model(**inputs) - F.interpolate(inputs["low"], scale_factor=2, mode="bicubic")
    inputs[changed] = others[changed]
    after = model(**inputs) - F.interpolate(inputs["low"], scale_factor=2, mode="bicubic")
    assert (after - before).abs().max() > 1e-3


def test_it_comes_back_from_a_file(model, tmp_path):
    schedule = NoiseSchedule(linear_betas(10))
    with pytest.raises(TypeError, match="schedule must be a NoiseSchedule"):
        save_checkpoint(tmp_path / "a.safetensors", TrainingState(model))
    save_checkpoint(tmp_path / "a.safetensors", TrainingState(model), schedule)
    loaded = load_checkpoint(tmp_path / "a.safetensors").model
    inputs = uniform(2, 1, 8, 8), torch.tensor([1, 2]), uniform(2, 1, 4, 4), torch.tensor([0.1, 0.2])
    assert loaded.config == model.config and torch.equal(loaded(*inputs), model(*inputs))


# ---- training --------------------------------------------------------------------------------------------------------


def striped(count: int, seed: int) -> Tensor:
    """Of one mean grey, under a checkerboard as strong as that is bright, which bicubic enlarging cannot know."""
    grey = torch.rand(count, 1, 1, 1, generator=generator(seed)) - 0.5
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    return grey + grey.abs() * (1 - 2 * ((rows + columns) % 2))


def test_it_learns_to_bring_back_what_enlarging_cannot_and_every_weight_has_a_part_in_it():
    state, schedule = TrainingState(new_model(most_level=0.1)), NoiseSchedule(linear_betas(100))
    first = {name: weight.clone() for name, weight in state.model.named_parameters()}
    pictures = ((striped(200, seed=0) + 1) * 127.5).round().byte()
    options = dict(batch_size=32, learning_rate=1e-2, warmup_iterations=10, ema_decay=0.9)
    losses = [state.losses[-1] for state in train_super_resolver(state, schedule, pictures, 150, **options)]
    assert all(not torch.equal(weight, first[name]) for name, weight in state.model.named_parameters())
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    real = striped(50, seed=1)
    low = shrunk(real, 4)
    *_, drawn = super_resolve(state.ema_model, schedule, low, size=8, level=0.02)
    bicubic = F.interpolate(low, scale_factor=2, mode="bicubic")
    assert (drawn - real).square().mean() < 0.3 * (bicubic - real).square().mean()


def test_it_is_taught_with_all_levels_up_to_the_strongest(monkeypatch):
    given, augment = [], imagen.augmented
    monkeypatch.setattr(
        imagen, "augmented", lambda low, level, *rest: given.append(level) or augment(low, level, *rest)
    )
    state, schedule = TrainingState(new_model(most_level=0.3)), NoiseSchedule(linear_betas(10))
    list(train_super_resolver(state, schedule, uniform(8, 1, 8, 8), 5, 64, min_snr_gamma=None))
    levels = torch.cat(given)
    assert levels.shape == (320,) and 0 <= levels.min() < 0.01 and 0.29 < levels.max() <= 0.3
    assert levels.mean().item() == pytest.approx(0.15, abs=0.02)


# ---- drawing ---------------------------------------------------------------------------------------------------------


class Knows(SuperResolver):
    """Says the true picture, whatever it is shown."""

    def __init__(self, x_0: Tensor):
        super().__init__(UNet(3, (8,), patch_size=2, predicts="x_0", out_channels=1), low_size=4)
        self.x_0, self.levels = x_0, []

    def forward(self, x_t: Tensor, t: Tensor, low: Tensor, level: Tensor) -> Tensor:
        self.levels.append(level)
        return self.x_0


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_one_that_knows_the_picture_draws_it_and_is_told_the_level(sampler, schedule):
    x_0 = uniform(2, 1, 8, 8)
    knows, options = Knows(x_0), dict(size=8, level=0.2, num_steps=5, sampler=sampler)
    steps = list(super_resolve(knows, schedule, shrunk(x_0, 4), **options))
    assert len(steps) == 5 and (steps[0] - x_0).abs().max() > 0.1
    torch.testing.assert_close(steps[-1], x_0, rtol=0, atol=1e-4)
    assert all(torch.equal(level, torch.tensor([0.2, 0.2])) for level in knows.levels)


@pytest.mark.parametrize("sampler", ["ddpm", "dpm-solver"])
def test_a_picture_is_the_same_in_any_batch(sampler, model, schedule):
    low, options = uniform(3, 1, 4, 4), dict(size=8, level=0.3, num_steps=4, sampler=sampler)
    *_, together = super_resolve(model, schedule, low, seed=7, **options)
    *_, alone = super_resolve(model, schedule, low[2:], seed=9, **options)
    torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5)
    *_, other = super_resolve(model, schedule, low[2:], seed=10, **options)
    assert (other - alone).abs().max() > 1e-3


def test_many_are_drawn_in_parts_and_are_the_same_ones(model, schedule, monkeypatch):
    low, checkpoint = uniform(5, 1, 4, 4), Checkpoint(model, schedule, dict(picture_size=[1, 8, 8]))
    *_, expected = super_resolve(model, schedule, low, size=8, level=0.2, seed=3)
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 2 * 8 * 8)
    drawn = super_resolved(checkpoint, low, seed=3, level=0.2)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"super_resolver\.notes must say .*picture_size"):
        super_resolved(Checkpoint(model, schedule), low)
    for given, words in [(None, "super_resolver must be a Checkpoint"), (model, "super_resolver must be a Checkpoint")]:
        with pytest.raises(TypeError, match=words):
            super_resolved(given, low)
    with pytest.raises(TypeError, match=r"super_resolver\.model must be a SuperResolver; got UNet"):
        super_resolved(Checkpoint(UNet(1, (8,)), schedule), low)
    with pytest.raises(ValueError, match="low must be a tensor of pictures"):
        super_resolved(checkpoint, None)


# ---- with the checkpoint that it draws for ---------------------------------------------------------------------------


def loaded(folder: Path, name: str) -> Checkpoint:
    return load_checkpoint(folder / f"{name}.safetensors")


def test_a_checkpoint_finds_its_super_resolver_and_a_model_that_draws_in_full_has_none(cascades):
    for name in ("imagen", "dalle2"):
        low, found = uniform(2, 3, 4, 4), super_resolver_of(loaded(cascades, name))
        drawn = super_resolved(loaded(cascades, "super-resolver"), low)
        assert drawn.shape == (2, 3, 16, 16) and torch.equal(super_resolved(found, low), drawn)
    assert super_resolver_of(loaded(cascades, "stable-diffusion")) is None
    (cascades / "super-resolver.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"git checkout -- data/super-resolver\.safetensors"):
        super_resolver_of(loaded(cascades, "imagen"))


def test_a_super_resolver_for_pictures_of_another_size_is_refused(cascades):
    checkpoint = loaded(cascades, "imagen")
    checkpoint.notes["picture_size"] = [3, 8, 8]
    with pytest.raises(CheckpointError, match=r"enlarges pictures of 4x4, but this model draws 8x8; .*git checkout"):
        super_resolver_of(checkpoint)
    del checkpoint.notes["picture_size"]
    with pytest.raises(ValueError, match=r"checkpoint\.notes must say .*picture_size"):
        super_resolver_of(checkpoint)


def test_another_network_in_the_place_of_a_super_resolver_is_named(cascades):
    (cascades / "super-resolver.safetensors").write_bytes((cascades / "dalle2.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"super-resolver\.safetensors enlarges no pictures, but .*git checkout"):
        super_resolver_of(loaded(cascades, "imagen"))


# ---- slips -----------------------------------------------------------------------------------------------------------


def unet(in_channels: int = 7, predicts: str = "x_0", out_channels: int | None = 3, **options: object) -> UNet:
    return UNet(in_channels, (8,), predicts=predicts, out_channels=out_channels, **options)


@pytest.mark.parametrize(
    "slip, error, words",
    [
        (lambda: SuperResolver(unet(6)), ValueError, "in_channels = 2 [*] out_channels [+] 1, .*; got 6 and 3"),
        (lambda: SuperResolver(unet(7, out_channels=None)), ValueError, "got 7 and 7"),
        (lambda: SuperResolver(unet(predicts="eps")), ValueError, 'predicts="x_0"; this one predicts eps'),
        (lambda: SuperResolver(unet(context_dim=8)), ValueError, "reads no text"),
        (lambda: SuperResolver(unet(), low_size=0), ValueError, "low_size must be a whole number"),
        *(
            (
                lambda level=level: SuperResolver(unet(), most_level=level),
                ValueError,
                "most_level must be a number above 0",
            )
            for level in (0, -0.1, 1.1, math.nan, "0.4")
        ),
        *((lambda share=share: dynamic_threshold(share), ValueError, "share must be") for share in (-0.1, 99.5, None)),
        (lambda: dynamic_threshold(uniform(1, 3, 4, 4)), TypeError, r"with brackets: clip_x_0=dynamic_threshold\(\)"),
    ],
)
def test_what_no_super_resolver_is_made_of_is_named(slip, error, words):
    with pytest.raises(error, match=words):
        slip()


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(model=UNet(1, (8,))), TypeError, "model must be a SuperResolver; got UNet"),
        (dict(schedule=linear_betas(9)), TypeError, "schedule must be a NoiseSchedule"),
        (dict(low=uniform(2, 1, 8, 8)), ValueError, r"low must be pictures of 4x4.*\(2, 1, 8, 8\): shrunk\(low, 4\)"),
        (dict(low=uniform(2, 1, 3, 3)), ValueError, r"low must be pictures of 4x4, \(B, 1, 4, 4\); got .*3, 3\)$"),
        (dict(low=uniform(2, 1, 4, 8)), ValueError, "low must be pictures of 4x4"),
        (dict(low=uniform(2, 3, 4, 4)), ValueError, r"\(B, 1, 4, 4\); got .*\(2, 3, 4, 4\)$"),
        (dict(low=uniform(1, 4, 4)), ValueError, "low must be a tensor of pictures"),
        (dict(low=uniform(0, 1, 4, 4)), ValueError, "low must be a tensor of pictures"),
        (dict(low=torch.full((1, 1, 4, 4), 200.0)), ValueError, "low must lie in .* low / 127.5 - 1"),
        (dict(low=torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), TypeError, "low must be floats"),
        (dict(low=torch.full((1, 1, 4, 4), math.nan)), ValueError, "low must lie in"),
        *(
            (dict(level=level), ValueError, f"level must be a number between 0 and 0.4; got {level}")
            for level in (-0.1, 0.5, 1, math.nan)
        ),
        (dict(level=torch.tensor([0.1, 0.2])), ValueError, "level must be a number"),
        (dict(size=0), ValueError, "size must be a whole number"),
        (dict(size=7), ValueError, "7x7"),
        (dict(num_steps=0), ValueError, "num_steps must be"),
        (dict(seed=0.5), ValueError, "seed must be a whole number"),
        (dict(sampler="euler"), ValueError, "sampler must be"),
    ],
)
def test_a_slip_is_named(change, error, words, model, schedule):
    given = dict(model=model, schedule=schedule, low=uniform(2, 1, 4, 4), size=8)
    with pytest.raises(error, match=words):
        list(super_resolve(**given | change))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(state=new_model()), TypeError, "state must be a TrainingState"),
        (dict(state=TrainingState(UNet(1, (8,)))), TypeError, "state.model must be a SuperResolver; got UNet"),
        (dict(schedule=None), TypeError, "schedule must be a NoiseSchedule"),
        (dict(pictures=uniform(4, 1, 8, 8) * 3), ValueError, "pictures must lie in"),
        (
            dict(pictures=uniform(4, 1, 8, 6)),
            ValueError,
            r"square .*\(N, 1, H, H\) with H above 4; got .*\(4, 1, 8, 6\)",
        ),
        (dict(pictures=uniform(4, 1, 4, 4)), ValueError, "larger than the model's low_size"),
        (dict(pictures=uniform(4, 3, 8, 8)), ValueError, r"\(N, 1, H, H\)"),
        (dict(pictures=uniform(4, 1, 8, 8).requires_grad_()), ValueError, "pictures must not require a gradient"),
        (dict(batch_size=0), ValueError, "batch_size must be"),
        (dict(num_iterations=0), ValueError, "num_iterations must be"),
    ],
)
def test_a_slip_in_training_is_named(change, error, words, schedule):
    given = dict(state=TrainingState(new_model()), schedule=schedule, pictures=uniform(4, 1, 8, 8), num_iterations=1)
    with pytest.raises(error, match=words):
        next(train_super_resolver(**given | change))


def test_a_super_resolver_is_not_mistaken_for_a_noise_predictor(model, schedule):
    with pytest.raises(ValueError, match="got SuperResolver, which train_super_resolver teaches"):
        next(train(TrainingState(model), schedule, uniform(4, 1, 8, 8), 1))


# ---- the shipped one -------------------------------------------------------------------------------------------------


def decibels(pictures: Tensor, real: Tensor) -> float:
    """Peak signal-to-noise ratio, the mean over pictures."""
    return (10 * torch.log10(4 / (pictures - real).square().mean(dim=(1, 2, 3)))).mean().item()


def test_the_shipped_one_beats_enlarging_on_withheld_pictures_and_says_how_it_was_made():
    path = shipped_checkpoint("super-resolver")
    checkpoint, real = load_checkpoint(path), from_bytes(EmojiDataset(split="withheld").pictures[::8])
    assert path.stat().st_size < 10e6 and checkpoint.notes["picture_size"] == [3, 64, 64]
    assert {"command", "iterations", "seconds", "machine", "scores"} <= set(checkpoint.notes)
    low = shrunk(real, 16)
    bicubic = F.interpolate(low, (64, 64), mode="bicubic").clamp(-1, 1)
    found = decibels(super_resolved(checkpoint, low, level=0.0), real)
    assert found > decibels(bicubic, real) + 1.5
    assert found == pytest.approx(checkpoint.notes["scores"]["decibels, withheld"], abs=0.5)  # of eight times as many
