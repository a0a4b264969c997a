"""Makes autoencoder.safetensors, beside this script: the autoencoder of the small Stable Diffusion.

    python data/build_autoencoder.py    # about 70 minutes on one core; Ctrl-C loses little, the same command goes on

It learns from the training pictures of EmojiDataset, and is scored on those of the withheld pairs.
"""

import torch
from resumable import publish, run, seeded

from ddpm_core import EmojiDataset
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.stable_diffusion import Autoencoder, decoded, encoded, train_autoencoder

NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE = 7_000, 32, 2e-3


def new_autoencoder() -> Autoencoder:
    return Autoencoder(3, (48, 96), blocks_per_level=2)


def decibels(autoencoder: Autoencoder) -> float:
    """Peak signal-to-noise ratio of the decoded pictures of withheld pairs, the mean over pictures."""
    pictures = EmojiDataset(split="withheld").pictures
    errors = decoded(autoencoder, encoded(autoencoder, pictures)) - from_bytes(pictures)
    return (10 * torch.log10(4 / errors.square().mean(dim=(1, 2, 3)))).mean().item()


def main() -> None:
    pictures = EmojiDataset().pictures
    state, seconds = run(
        "autoencoder",
        seeded(new_autoencoder),
        NUM_ITERATIONS,
        lambda state: train_autoencoder(state, pictures, NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE),
        look=lambda model: f"{decibels(model):.2f} dB",
    )
    state.ema_model.standardise(pictures)
    state.ema_model.half().float()  # as it will be read
    scores = {"decibels, withheld": decibels(state.ema_model)}
    command = "python data/build_autoencoder.py"
    publish("autoencoder", state, command=command, iterations=NUM_ITERATIONS, seconds=seconds, scores=scores)


if __name__ == "__main__":
    main()
