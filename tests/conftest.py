import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers.utils import dynamic_modules_utils
from torch import Tensor

from ddpm_core import (
    CLIP,
    DALLE2,
    Autoencoder,
    Decoder,
    DigitReader,
    ImageEncoder,
    NoiseSchedule,
    Prior,
    SuperResolver,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    linear_betas,
    load_checkpoint,
    load_digits,
    save_checkpoint,
)
from ddpm_core.checkpoint import model_checksum
from ddpm_core.course.profile import choose_profile
from ddpm_core.training_state import LastGood


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """The real digits to train with, (1297, 1, 8, 8) in [-1, 1]."""
    return load_digits("train")[0]


@pytest.fixture(scope="session")
def reader() -> DigitReader:
    """The judge of drawn digits."""
    return DigitReader()


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The machine's graphics card where it has one; for tests marked device, which tools/gpu.py runs there."""
    return choose_profile().device


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(linear_betas(100))


@pytest.fixture(scope="session")
def in_float64() -> Callable:
    """Makes a scheduler of diffusers compute in float64 from its own betas; in float32 its 1 - alpha_bar cancels."""

    def promoted(scheduler):
        scheduler.betas = scheduler.betas.double()
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, dim=0)
        scheduler.one = torch.ones((), dtype=torch.float64)  # the alpha_bar before the first step
        return scheduler

    return promoted


@pytest.fixture
def own_modules(tmp_path, monkeypatch) -> Iterator[None]:
    """diffusers copies code that it loads to a folder of the test, and not to the user's."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.startswith("diffusers_modules")]:
        del sys.modules[name]


@pytest.fixture
def a_look_every_50_iterations(monkeypatch):
    """As on a GPU, where looking at a loss means waiting for it."""
    begin = LastGood.__init__

    def seldom(self, *arguments):
        begin(self, *arguments)
        self.check_every = 50

    monkeypatch.setattr(LastGood, "__init__", seldom)


@pytest.fixture
def latent_pair(tmp_path, monkeypatch) -> Path:
    """In place of data/: an untrained Stable Diffusion of 16x16 pictures, and the CLIP that lent it a text encoder."""
    torch.manual_seed(0)
    autoencoder, tokenizer = Autoencoder(3, (8, 8)), Tokenizer(["cat", "noto", "rocket", "火", "箭"], max_length=4)
    image_encoder = ImageEncoder(3, (8,), patch_size=4, dim=8, picture_size=(16, 16))
    clip = CLIP(image_encoder, TextEncoder(len(tokenizer), 4, dim=8, num_layers=1), tokenizer)
    model = TextToImage(UNet(4, (8,), context_dim=8, predicts="x_0"), clip.text_encoder, tokenizer)
    for weight in [*autoencoder.parameters(), *model.parameters()]:
        if not weight.any():  # as after some training
            torch.nn.init.normal_(weight, std=0.2)
    autoencoder.standardise(torch.rand(8, 3, 16, 16) * 2 - 1)
    notes = dict(picture_size=[3, 16, 16], guidance_scale=1.5, autoencoder=model_checksum(autoencoder))
    folder, schedule = tmp_path / "data", NoiseSchedule(linear_betas(60))
    save_checkpoint(folder / "clip.safetensors", TrainingState(clip))
    save_checkpoint(folder / "autoencoder.safetensors", TrainingState(autoencoder))
    save_checkpoint(folder / "stable-diffusion.safetensors", TrainingState(model), schedule, notes)
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: folder)
    return folder


@pytest.fixture
def cascades(latent_pair) -> Path:
    """Beside them, untrained: a super-resolver, 4x4 to 16x16, an Imagen and a DALL-E 2 that draw for it."""
    torch.manual_seed(1)
    clip = load_checkpoint(latent_pair / "clip.safetensors").model
    unet = dict(channels=(8,), context_dim=8, predicts="x_0")
    networks = {
        "super-resolver": SuperResolver(UNet(7, (8,), patch_size=4, predicts="x_0", out_channels=3), low_size=4),
        "imagen": TextToImage(UNet(3, **unet), clip.text_encoder, clip.tokenizer),
        "dalle2": DALLE2(Prior(8, width=16, num_blocks=1), Decoder(UNet(3, **unet), vector_dim=8, num_tokens=2)),
    }
    notes = dict(picture_size=[3, 4, 4], guidance_scale=1.5, super_resolver="super-resolver")
    all_notes = {name: notes | dict(clip=model_checksum(clip)) for name in ("imagen", "dalle2")}
    all_notes["super-resolver"] = dict(picture_size=[3, 16, 16])
    for name, model in networks.items():
        for weight in model.parameters():
            if not weight.any():  # as after some training
                torch.nn.init.normal_(weight, std=0.2)
        path, schedule = latent_pair / f"{name}.safetensors", NoiseSchedule(linear_betas(60))
        save_checkpoint(path, TrainingState(model), schedule, all_notes[name])
    return latent_pair
