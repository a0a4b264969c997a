"""What reading captions costs in training, against the same U-Net without text."""

import statistics
import time
from collections.abc import Iterator
from itertools import islice

import torch

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

REPEATS, ITERATIONS, TARGET = 9, 10, 0.25
# what, digits in a picture, U-Net, what text adds to it, text_dim: the networks of notebook 05 and of digit-scenes
CASES = [
    ("coloured digits, 8x8", 1, dict(channels=(32, 32)), {}, 64),
    ("digit scenes, 8x16", 2, dict(channels=(32, 64)), {}, 64),
]


def main() -> None:
    print(
        f"training, batch 64, {torch.get_num_threads()} threads, median of {REPEATS} turns of {ITERATIONS} iterations"
    )
    for what, num_digits, unet, text, text_dim in CASES:
        without, with_text = runs(num_digits, unet, text, text_dim)
        pairs = [(turn(without), turn(with_text)) for _ in range(REPEATS + 1)][1:]  # the first turns are slower
        speeds = [64 * ITERATIONS / statistics.median(seconds) for seconds in zip(*pairs, strict=True)]
        cost = 1 - statistics.median(a / b for a, b in pairs)
        print(
            f"  {what:22} {speeds[0]:6.0f} pictures/s without text, {speeds[1]:6.0f} with it: "
            f"costs {cost:.1%} of the throughput (target: below {TARGET:.0%})"
        )


def runs(num_digits: int, unet: dict, text: dict, text_dim: int) -> tuple[Iterator, Iterator]:
    """Two training runs on the same pictures: without text, and with it."""
    torch.manual_seed(0)
    data, schedule = load_digit_scenes(num_digits, 2000), NoiseSchedule(cosine_betas(200))
    tokenizer = Tokenizer.from_captions(data.captions)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, text_dim)
    model = TextToImage(UNet(3, context_dim=text_dim, **unet, **text), text_encoder, tokenizer)
    options = dict(num_iterations=10_000, batch_size=64, min_snr_gamma=1.0)
    return (
        train(TrainingState(UNet(3, **unet)), schedule, data.pictures, **options),
        train(
            TrainingState(model),
            schedule,
            data.pictures,
            cond=tokenizer(data.captions),
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
