"""Pictures from a checkpoint, with prompts or without."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_core.checkpoint import Checkpoint, load_checkpoint, load_shipped, shipped_checkpoint
from ddpm_core.data.captioned_folder import ENDINGS
from ddpm_core.prediction import noise_predictor
from ddpm_core.sampling import sampler_named, seeded_noise
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.scale.settings import DEFAULTS
from ddpm_core.scale.speed import autocast, speed_up
from ddpm_core.support import files
from ddpm_core.support.memory import in_parts
from ddpm_core.support.notices import collect_notices
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.systems.dalle2 import DALLE2, clip_of, unclip
from ddpm_core.systems.imagen import SuperResolver
from ddpm_core.systems.second_stage import second_stage_of
from ddpm_core.text_to_image import NUM_STEPS, TextToImage, generate
from ddpm_core.unet import UNet

PICTURES = 16  # where no prompt says how many
DRAWING = (*PRESETS, "dalle2")  # the models of the course that draw


def what_to_draw(words: Sequence[str], model: str | None) -> tuple[Path, Sequence[str]]:
    """The checkpoint to draw from and the prompts, out of the words of a command.

    model: one of DRAWING, where the command names it

    Raises ValueError, with what was likely meant, where the first prompt is a file or a model rather than a prompt.
    """
    given = Path(words[0]) if words and words[0].endswith(".safetensors") else None
    if given and model:
        raise ValueError(f"say either a checkpoint ({given}) or --model {model}, not both")
    prompts = words[1:] if given else words
    first = prompts[0] if prompts else ""
    # os.path answers where Path raises: a prompt may be longer than the name of a file can be.
    if os.path.isfile(f"{first}.safetensors"):
        raise ValueError(f"{first} would be a prompt: for the checkpoint say {first}.safetensors")
    if first in DRAWING and not given and not model:
        raise ValueError(f"{first} would be a prompt: for the model say --model {first}")
    if first.lower().endswith(ENDINGS) and os.path.isfile(first):
        raise ValueError(
            f"{first} is a picture, no prompt: variations of it are drawn by vary {files.quoted(Path(first))}"
        )
    if any(sign in first for sign in (os.sep, ".")) and os.path.exists(first):
        raise ValueError(f"{first} is no checkpoint: their names end in .safetensors")
    return given or shipped_checkpoint(model or "emoji"), prompts


def draw(
    path: Path,
    device: torch.device,
    say: Callable[[str], None],  # is told what of the prompts the model cannot use, and why it is not compiled
    prompts: Sequence[str],
    count: int | None,  # of each prompt
    guidance_scale: float | None,
    negative_prompt: str,
    num_steps: int | None,
    seed: int,
    sampler: str,
    precision: str | None,  # None: float32, with TF32 on a GPU
    compile: str | None,
) -> Tensor:
    """The pictures that a checkpoint's model draws, (B, C, H, W). None: the command line's default.

    Picture i has the seed seed + i, and is the same whatever is drawn beside it.
    """
    loaded = _loaded(path, device)
    model, schedule, notes = loaded.model, loaded.schedule, loaded.notes
    second = second_stage_of(loaded)
    size = second.shape(picture_size(path, loaded))
    speed_up(model, precision, compile, say)
    if isinstance(model, TextToImage | DALLE2):
        prompts = [prompt for prompt in prompts for _ in range(count or 1)] or [""] * (count or PICTURES)
        num_steps = min(NUM_STEPS, len(schedule)) if num_steps is None else num_steps
        if guidance_scale is None:
            guidance_scale = notes.get("guidance_scale", DEFAULTS["guidance_scale"])
        count = len(prompts)
        if isinstance(model, DALLE2):
            if negative_prompt:
                raise ValueError("negative_prompt is not for this model: its decoder reads no text, but a vector")
            steps_for = partial(unclip, model, clip_of(loaded))
        else:
            steps_for = partial(generate, model, negative_prompt=negative_prompt)

        def begin(part: range) -> Iterator[Tensor]:
            some, its_seed = prompts[part.start : part.stop], seed + part.start
            options = dict(num_steps=num_steps, seed=its_seed, sampler=sampler, clip_x_0=second.clip_x_0)
            return steps_for(schedule, some, size, guidance_scale, **options)

    elif prompts or negative_prompt or guidance_scale is not None:
        raise ValueError(f"{path} reads no text: it was trained without captions, so leave prompts out")
    else:
        count = count or PICTURES

        def begin(part: range) -> Iterator[Tensor]:
            x_T, generators = seeded_noise(seed + part.start, (len(part), *size), device)
            return sampler_named(sampler, generators)(noise_predictor(model, schedule), schedule, x_T, num_steps)

    with collect_notices() as notices:
        parts = [(part, begin(part)) for part in in_parts(count, size)]  # drawn only when somebody asks for their steps
    for notice in dict.fromkeys(notices):
        say(f"Note: {notice}")
    drawn, total = [], len(parts) * (num_steps or len(schedule))
    with autocast(device, precision or "float32"), tqdm(total=total, unit="step", ncols=90) as bar:
        for part, steps in parts:
            for x_t in steps:  # noqa: B007
                bar.update()
            check_finite(x_t, path, guidance_scale, precision)
            drawn.append(second.finish(x_t, seed + part.start))
            check_finite(drawn[-1], path, guidance_scale, precision)
    return torch.cat(drawn)


def _loaded(path: Path, device: torch.device) -> Checkpoint:
    """A checkpoint; a file of the course holds what its name says."""
    if path.stem in DRAWING and path == files.data_folder() / path.name:
        return load_shipped(path.stem, DALLE2 if path.stem == "dalle2" else TextToImage, device)
    return load_checkpoint(path, device)


def check_finite(drawn: Tensor, path: Path, guidance_scale: float | None, precision: str | None = None) -> None:
    """Raises ValueError, with what may help, where not all that a checkpoint's model has drawn are numbers."""
    if not drawn.isfinite().all():
        remedies = ["lower guidance_scale"] * ((guidance_scale or 0) > 1)
        remedies += ["say --precision float32"] * (precision == "float16")
        cause = " or ".join(remedies) or f"the weights in {path} are spoilt"
        raise ValueError(f"what was drawn is no number, and so no picture: {cause}")


def picture_size(path: Path, trained: Checkpoint) -> tuple[int, int, int]:
    """(C, H, W) of the pictures that a checkpoint's model draws, from the checkpoint's notes.

    Raises CheckpointError where it draws none, or the notes do not say it.
    """
    if not isinstance(trained.model, UNet | TextToImage | DALLE2):
        what = "which draws no pictures"
        if isinstance(trained.model, SuperResolver):
            what += ", but enlarges those that --model imagen and --model dalle2 draw"
        raise CheckpointError(f"{path} holds the network {type(trained.model).__name__}, {what}")
    if "picture_size" not in trained.notes:
        raise CheckpointError(f"{path} does not say how large its pictures are (picture_size in its notes)")
    return tuple(trained.notes["picture_size"])
