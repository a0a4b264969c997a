"""Drawing what is to be judged."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.memory import in_parts
from ddpm_core.systems.clip import CLIP
from ddpm_core.systems.dalle2 import DALLE2, unclip
from ddpm_core.systems.second_stage import second_stage
from ddpm_core.text_to_image import TextToImage, generate


def draw_all(
    model: TextToImage | DALLE2,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float,
    num_steps: int | None = None,
    seed: int = 0,
    clip: CLIP | None = None,
    **second: object,
) -> Tensor:
    """The last pictures of generate, (N, C, H, W) on the CPU, for more prompts than memory holds at once.

    model:  a TextToImage; or a DALLE2, together with its clip
    shape:  (C, H, W) of the pictures
    second: the autoencoder of a model that draws in its latents, or the super_resolver, a Checkpoint, of one that draws
            small pictures for it. **companions_of(checkpoint) gives all that a checkpoint's model needs
    """
    steps = partial(unclip, model, clip) if isinstance(model, DALLE2) else partial(generate, model)
    stage, drawn = second_stage(**second), []
    shape = stage.shape(shape)
    for part in in_parts(len(prompts), shape):
        options = dict(num_steps=num_steps, seed=seed + part.start, clip_x_0=stage.clip_x_0)
        some = prompts[part.start : part.stop]
        for x_t in steps(schedule, some, shape, guidance_scale, **options):  # noqa: B007
            pass
        drawn.append(stage.finish(x_t, seed + part.start))
    return torch.cat(drawn)
