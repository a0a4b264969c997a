from pathlib import Path

import pytest
import torch

from ddpm_core import (
    CLIP,
    Autoencoder,
    Checkpoint,
    NoiseSchedule,
    SuperResolver,
    UNet,
    companions_of,
    linear_betas,
    load_checkpoint,
    super_resolved,
)
from ddpm_core.systems.second_stage import second_stage, second_stage_of


def loaded(folder: Path, name: str) -> Checkpoint:
    return load_checkpoint(folder / f"{name}.safetensors")


def test_pictures_need_no_second_stage():
    stage, x_0 = second_stage(), torch.randn(2, 3, 8, 8)
    assert stage.shape((3, 8, 8)) == (3, 8, 8) and stage.clip_x_0 is True
    assert torch.equal(stage.finish(x_0, 5), x_0)


def test_latents_are_decoded_and_not_clipped(latent_pair):
    stage, autoencoder = (
        second_stage_of(loaded(latent_pair, "stable-diffusion")),
        loaded(latent_pair, "autoencoder").model,
    )
    assert stage.shape((3, 16, 16)) == (4, 4, 4) and stage.clip_x_0 is False
    z_0 = 3 * torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(stage.finish(z_0.half(), 0), autoencoder.decode(z_0.half().float()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["imagen", "dalle2"])
def test_small_pictures_are_enlarged_each_with_its_own_seed(name, cascades):
    stage, low = second_stage_of(loaded(cascades, name)), torch.rand(3, 3, 4, 4) * 2 - 1
    for wanted in ((3, 16, 16), (3, 4, 4)):  # the size of the pictures, or of what the model draws
        assert stage.shape(wanted) == (3, 4, 4)
    assert stage.clip_x_0 is True
    drawn = stage.finish(low, 5)
    assert torch.equal(drawn, super_resolved(loaded(cascades, "super-resolver"), low, seed=5))
    torch.testing.assert_close(stage.finish(low[2:], 7)[0], drawn[2], rtol=0, atol=1e-4)
    assert (stage.finish(low[2:], 8)[0] - drawn[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("stable-diffusion", dict(autoencoder=Autoencoder)),
        ("imagen", dict(super_resolver=SuperResolver)),
        ("dalle2", dict(super_resolver=SuperResolver, clip=CLIP)),
        ("super-resolver", {}),
    ],
)
def test_the_companions_of_a_model_are_the_networks_with_which_it_is_a_system(name, kinds, cascades):
    companions = companions_of(loaded(cascades, name))
    assert companions.keys() == {"clip", "autoencoder", "super_resolver"}
    found = {key: getattr(value, "model", value) for key, value in companions.items() if value is not None}
    assert {key: type(network) for key, network in found.items()} == kinds


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(autoencoder=UNet(1, (8,))), "autoencoder must be an Autoencoder; got UNet"),
        (dict(super_resolver=UNet(1, (8,))), "super_resolver must be a Checkpoint, such as load_checkpoint"),
        (
            dict(super_resolver=Checkpoint(UNet(1, (8,)), NoiseSchedule(linear_betas(9)))),
            "super_resolver.model must be a SuperResolver; got UNet",
        ),
    ],
)
def test_what_is_none_is_named(wrong, words):
    with pytest.raises(TypeError, match=words):
        second_stage(**wrong)
