"""Pictures from a checkpoint, with prompts or without."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_core.checkpoint import load_checkpoint
from ddpm_core.sampling import sample
from ddpm_core.scale.settings import DEFAULTS
from ddpm_core.scale.speed import autocast, speed_up
from ddpm_core.support.notices import collect_notices
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.text_to_image import NUM_STEPS, TextToImage, generate

PICTURES = 16  # where no prompt says how many


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
    precision: str | None,  # None: float32, with TF32 on a GPU
    compile: str | None,
) -> Tensor:
    """The pictures that a checkpoint's model draws, (B, C, H, W). None: the command line's default."""
    loaded = load_checkpoint(path, device)
    model, schedule, notes = loaded.model, loaded.schedule, loaded.notes
    if "picture_size" not in notes:
        raise CheckpointError(f"{path} does not say how large its pictures are (picture_size in its notes)")
    size = tuple(notes["picture_size"])
    speed_up(model, precision, compile, say)
    if isinstance(model, TextToImage):
        prompts = [prompt for prompt in prompts for _ in range(count or 1)] or [""] * (count or PICTURES)
        num_steps = min(NUM_STEPS, len(schedule)) if num_steps is None else num_steps
        if guidance_scale is None:
            guidance_scale = notes.get("guidance_scale", DEFAULTS["guidance_scale"])
        with collect_notices() as notices:
            steps = generate(model, schedule, prompts, size, guidance_scale, negative_prompt, num_steps, seed)
        for notice in notices:
            say(f"Note: {notice}")
    elif prompts or negative_prompt or guidance_scale is not None:
        raise ValueError(f"{path} reads no text: it was trained without captions, so leave prompts out")
    else:
        generator = torch.Generator(device).manual_seed(seed)
        x_T = torch.randn(count or PICTURES, *size, generator=generator, device=device)
        steps = sample(model, schedule, x_T, num_steps, generator=generator)
    with autocast(device, precision or "float32"):
        return deque(tqdm(steps, total=num_steps or len(schedule), unit="step", ncols=90), maxlen=1).pop()
