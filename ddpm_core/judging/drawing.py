"""Drawing what is to be judged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.memory import in_parts
from ddpm_core.systems.stable_diffusion import Autoencoder, decoded
from ddpm_core.text_to_image import TextToImage, generate


def draw_all(
    model: TextToImage,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float,
    num_steps: int | None = None,
    seed: int = 0,
    autoencoder: Autoencoder | None = None,
) -> Tensor:
    """The last pictures of generate, (N, C, H, W) on the CPU, for more prompts than memory holds at once.

    autoencoder: of a model that draws in its latents
    """
    if autoencoder is not None:
        guards.instance("autoencoder", autoencoder, Autoencoder)
        shape = autoencoder.latent_shape(shape)
    drawn = []
    for part in in_parts(len(prompts), shape):
        options = dict(num_steps=num_steps, seed=seed + part.start, clip_x_0=autoencoder is None)
        some = prompts[part.start : part.stop]
        for x_t in generate(model, schedule, some, shape, guidance_scale, **options):  # noqa: B007
            pass
        drawn.append(x_t.cpu() if autoencoder is None else decoded(autoencoder, x_t))
    return torch.cat(drawn)
