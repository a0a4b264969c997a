"""Judging emoji: is a picture nearer to the emoji that was asked for than to all others?"""

import torch
from torch import Tensor

from ddpm_core.data import EmojiDataset
from ddpm_core.judging.copies import distances
from ddpm_core.judging.drawing import draw_all
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.text_to_image import TextToImage


def emoji_agreement(
    model: TextToImage,
    schedule: NoiseSchedule,
    data: EmojiDataset,
    rows: Tensor,
    language: str,
    guidance_scale: float = 3.0,
    **options: int,
) -> Tensor:
    """Asks a model for the emoji in these rows: is no other emoji nearer to each picture than its own? bool, (N,).

    options: num_steps and seed, as of generate
    """
    prompts = [data.captions[language][row] for row in rows.tolist()]
    shape = tuple(data.pictures.shape[1:])
    to_each = distances(draw_all(model, schedule, prompts, shape, guidance_scale, **options), data.pictures)
    return to_each[torch.arange(len(rows)), rows] == to_each.amin(dim=1)
