"""What reading captions costs in training, against the same U-Net without text."""

import statistics
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from ddpm_core import (
    NoiseSchedule,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    cosine_betas,
    load_digit_scenes,
    train,
)
from ddpm_core.presets import PRESETS, Preset

REPEATS, ITERATIONS, TARGET = 9, 10, 0.25


def load_scenes(num_digits: int) -> tuple[Tensor, list[str]]:
    data = load_digit_scenes(num_digits, 2000)
    return data.pictures, data.captions


def split(preset: Preset) -> tuple[dict, dict, int]:
    """The U-Net of a preset without text, and what text adds to it."""
    text = {name: value for name, value in preset.unet.items() if name == "cross_attention_levels"}
    return {name: value for name, value in preset.unet.items() if name not in text}, text, preset.text_dim


DIGITS = dict(channels=(32, 32))
# what, pictures and captions, U-Net, what text adds to it, text_dim: notebook 05's live network and the two presets
CASES = [
    ("coloured digits, 8x8", lambda: load_scenes(1), DIGITS, {}, 64),
    ("digit scenes, 8x16", lambda: load_scenes(2), *split(PRESETS["digit-scenes"])),
    ("emoji, 32x32", PRESETS["emoji"].load, *split(PRESETS["emoji"])),
]


def main() -> None:
    print(
        f"training, batch 64, {torch.get_num_threads()} threads, median of {REPEATS} turns of {ITERATIONS} iterations"
    )
    for what, load, unet, text, text_dim in CASES:
        without, with_text = runs(*load(), unet, text, text_dim)
        pairs = [(turn(without), turn(with_text)) for _ in range(REPEATS + 1)][1:]  # the first turns are slower
        speeds = [64 * ITERATIONS / statistics.median(seconds) for seconds in zip(*pairs, strict=True)]
        cost = 1 - statistics.median(a / b for a, b in pairs)
        print(
            f"  {what:22} {speeds[0]:6.0f} pictures/s without text, {speeds[1]:6.0f} with it: "
            f"costs {cost:.1%} of the throughput (target: below {TARGET:.0%})"
        )


def runs(pictures: Tensor, captions: list[str], unet: dict, text: dict, text_dim: int) -> tuple[Iterator, Iterator]:
    """Two training runs on the same pictures: without text, and with it."""
    torch.manual_seed(0)
    schedule, tokenizer = NoiseSchedule(cosine_betas(200)), Tokenizer.from_captions(captions)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, text_dim)
    model = TextToImage(UNet(3, context_dim=text_dim, **unet, **text), text_encoder, tokenizer)
    options = dict(num_iterations=10_000, batch_size=64, min_snr_gamma=1.0)
    return (
        train(TrainingState(UNet(3, **unet)), schedule, pictures, **options),
        train(
            TrainingState(model),
            schedule,
            pictures,
            cond=tokenizer(captions),
            null_cond=model.null_cond,
            **options,
        ),
    )


def turn(run: Iterator) -> float:
    """Seconds of the next few iterations of a run."""
    began = time.perf_counter()
    for _ in islice(run, ITERATIONS):
        pass
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
