"""What reading captions costs in training, against the same U-Net without text."""

import statistics
from collections.abc import Iterator

import torch
from common import DEVICE, exhaust, interleaved, parse, report, target
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
from ddpm_core.scale.recipes import PRESETS, Preset, one_each

BATCH_SIZE, REPEATS, ITERATIONS, TARGET = 64, 7, 10, 0.25


def load_scenes(num_digits: int) -> tuple[Tensor, list[str]]:
    data = load_digit_scenes(num_digits, 2000)
    return data.pictures, data.captions


def load_emoji() -> tuple[Tensor, list[str]]:
    pictures, captions = PRESETS["emoji"].load()
    return one_each(pictures, captions), captions


def split(preset: Preset) -> tuple[dict, dict, int]:
    """The U-Net of a preset without text, and what text adds to it."""
    text = {name: value for name, value in preset.unet.items() if name == "cross_attention_levels"}
    return {name: value for name, value in preset.unet.items() if name not in text}, text, preset.text_dim


DIGITS = dict(channels=(32, 32))
# what, pictures and captions, U-Net, what text adds to it, text_dim: notebook 05's live network and the two presets
CASES = [
    ("coloured digits, 28x28", lambda: load_scenes(1), DIGITS, {}, 64),
    ("digit scenes, 28x56", lambda: load_scenes(2), *split(PRESETS["digit-scenes"])),
    ("emoji, 32x32", load_emoji, *split(PRESETS["emoji"])),
]


def main(argv: list[str] | None = None) -> None:
    options = parse(__doc__, argv)
    repeats, iterations = (1, 1) if options.quick else (REPEATS, ITERATIONS)
    rows = []
    for what, load, unet, text, text_dim in CASES[:1] if options.quick else CASES:
        without, with_text = runs(*load(), unet, text, text_dim)
        works = {
            "without": lambda run=without: exhaust(run, iterations),
            "with": lambda run=with_text: exhaust(run, iterations),
        }
        seconds = interleaved(works, repeats)
        cost = 1 - statistics.median(a / b for a, b in zip(seconds["without"], seconds["with"], strict=True))
        speeds = {name: BATCH_SIZE * iterations / statistics.median(row) for name, row in seconds.items()}
        rows.append(
            {
                "pictures": what,
                "pictures/s without text": speeds["without"],
                "pictures/s with text": speeds["with"],
                "share of the throughput that text costs": cost,
            }
        )
    column = "share of the throughput that text costs"
    targets = [target(f"{row['pictures']}: {column}", row[column], at_most=TARGET) for row in rows]
    title = f"Training with captions and without them, batch {BATCH_SIZE}"
    report("text_overhead", title, rows, [] if options.quick else targets, options=options)


def runs(pictures: Tensor, captions: list[str], unet: dict, text: dict, text_dim: int) -> tuple[Iterator, Iterator]:
    """Two training runs on the same pictures: without text, and with it."""
    torch.manual_seed(0)
    schedule, tokenizer = NoiseSchedule(cosine_betas(200)), Tokenizer.from_captions(captions)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, text_dim)
    model = TextToImage(UNet(3, context_dim=text_dim, **unet, **text), text_encoder, tokenizer)
    options = dict(num_iterations=10_000, batch_size=BATCH_SIZE, min_snr_gamma=1.0)
    return (
        train(TrainingState(UNet(3, **unet).to(DEVICE)), schedule, pictures, **options),
        train(
            TrainingState(model.to(DEVICE)),
            schedule,
            pictures,
            cond=tokenizer(captions),
            null_cond=model.null_cond,
            **options,
        ),
    )


if __name__ == "__main__":
    main()
