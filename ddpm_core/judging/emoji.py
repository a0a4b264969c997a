"""Judging emoji: is a picture nearer to the emoji that was asked for than to all others?"""

from torch import Tensor

from ddpm_core.data import EmojiDataset
from ddpm_core.judging.copies import nearest_pictures
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.text_to_image import TextToImage, generate


def emoji_agreement(
    model: TextToImage,
    schedule: NoiseSchedule,
    data: EmojiDataset,
    rows: Tensor,
    language: str,
    guidance_scale: float = 3.0,
    **options: int,
) -> Tensor:
    """Asks a model for the emoji in these rows: is each picture nearer to its own emoji than to all others? (N,).

    Nearest as in nearest_pictures. options: num_steps and seed, as of generate
    """
    prompts = [data.captions[language][row] for row in rows.tolist()]
    shape = tuple(data.pictures.shape[1:])
    for x_t in generate(model, schedule, prompts, shape, guidance_scale, **options):  # noqa: B007
        pass
    return nearest_pictures(x_t.cpu(), data.pictures)[1] == rows
