"""Variations of a picture: others that CLIP sees in the same way."""

import os
import shlex
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_core.checkpoint import load_shipped, shipped_checkpoint
from ddpm_core.data.captioned_folder import ENDINGS, read_picture
from ddpm_core.scale.draw import check_finite, picture_size
from ddpm_core.support.memory import in_parts
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.dalle2 import DALLE2, clip_of, draw_from_vectors
from ddpm_core.systems.second_stage import second_stage_of


def vary(
    picture: str, device: torch.device, count: int, guidance_scale: float | None, num_steps: int, seed: int
) -> Tensor:
    """The picture in a file as CLIP gets to see it, and then count variations: (1 + count, 3, H, W), on the CPU.

    Raises FileNotFoundError where there is no such file, and ValueError where it is no picture, or not square.
    """
    _check_is_file(picture)
    _check_square(picture)
    path, loaded = shipped_checkpoint("dalle2"), load_shipped("dalle2", DALLE2, device)
    clip, second = clip_of(loaded), second_stage_of(loaded)
    side = clip.image_encoder.config["picture_size"][0]
    original = from_bytes(read_picture(picture, side))[None]
    vector, shape = clip.encode_pictures(original.to(device)), second.shape(picture_size(path, loaded))
    scale = loaded.notes["guidance_scale"] if guidance_scale is None else guidance_scale

    def begin(part: range) -> Iterator[Tensor]:
        vectors, its_seed = vector.expand(len(part), -1), seed + part.start
        return draw_from_vectors(loaded.model.decoder, loaded.schedule, vectors, shape, scale, num_steps, its_seed)

    # Before the bar, so that what does not fit shows first; drawn only when somebody asks for their steps.
    parts = [(part, begin(part)) for part in in_parts(count, shape)]
    drawn = [original]
    with tqdm(total=len(parts) * num_steps, unit="step", ncols=90) as bar:
        for part, steps in parts:
            for x_t in steps:  # noqa: B007
                bar.update()
            check_finite(x_t, path, scale)
            drawn.append(second.finish(x_t, seed + part.start))
    return torch.cat(drawn)


def _check_is_file(picture: str) -> None:
    """What is no name of a picture is likely a prompt."""
    if not picture:
        raise ValueError("PICTURE must be the name of a picture, such as rocket.png; got ''")
    if not picture.lower().endswith(ENDINGS) and not os.path.exists(os.path.expanduser(picture)):
        fix = f"to draw from a prompt: sample --model dalle2 {shlex.quote(picture)}"
        raise FileNotFoundError(f"there is no picture {picture}; {fix}")


def _check_square(picture: str) -> None:
    """A picture that was cut would not be the one that was meant."""
    from PIL import Image

    try:
        with Image.open(os.path.expanduser(picture)) as opened:
            width, height = opened.size
    except Exception:  # read_picture has the words for it
        return
    if width != height:
        raise ValueError(f"{picture} is {width}x{height}; variations are drawn of square pictures: cut it first")
