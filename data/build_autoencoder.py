"""Makes autoencoder.safetensors, beside this script: the autoencoder of the small Stable Diffusion.

    python data/build_autoencoder.py    # about 70 minutes on one core; Ctrl-C loses little, the same command goes on

It learns from the training pictures of EmojiDataset, and is scored on those of the withheld pairs.
"""

import platform
import time
from pathlib import Path

import torch

from ddpm_core import EmojiDataset, TrainingState, load_checkpoint, resume_training, save_checkpoint
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.stable_diffusion import Autoencoder, decoded, encoded, train_autoencoder

PATH = Path(__file__).parent / "autoencoder.safetensors"
UNFINISHED = PATH.with_name("autoencoder-unfinished.safetensors")  # with all that training needs to go on
NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE = 7_000, 32, 2e-3


def new_autoencoder() -> Autoencoder:
    """The network, untrained; the same each time, whatever torch's global generator has done before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Autoencoder(3, (48, 96), blocks_per_level=2)


def decibels(autoencoder: Autoencoder) -> float:
    """Peak signal-to-noise ratio of the decoded pictures of withheld pairs, the mean over pictures."""
    pictures = EmojiDataset(split="withheld").pictures
    errors = decoded(autoencoder, encoded(autoencoder, pictures)) - from_bytes(pictures)
    return (10 * torch.log10(4 / errors.square().mean(dim=(1, 2, 3)))).mean().item()


def main() -> None:
    pictures = EmojiDataset().pictures
    state, seconds = TrainingState(new_autoencoder()), 0.0
    if UNFINISHED.exists():
        saved = load_checkpoint(UNFINISHED)
        resume_training(state, saved)
        seconds = saved.notes["seconds"]
    began = time.perf_counter() - seconds
    for _ in train_autoencoder(state, pictures, NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE):
        if state.iteration % 250 == 0:
            seconds = round(time.perf_counter() - began)
            save_checkpoint(UNFINISHED, state, None, dict(seconds=seconds), with_training=True)
            loss = sum(state.losses[-250:]) / 250
            print(f"{state.iteration} of {NUM_ITERATIONS}, {seconds} s: loss {loss:.4f}", flush=True)
            if state.iteration % 1000 == 0:
                print(f"  {decibels(state.ema_model):.2f} dB", flush=True)
    state.ema_model.standardise(pictures)
    state.ema_model.half().float()  # as it will be read
    notes = dict(
        command="python data/build_autoencoder.py",
        iterations=NUM_ITERATIONS,
        seconds=seconds,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        scores={"decibels, withheld": decibels(state.ema_model)},
    )
    state.ema_model.half()  # half the bytes
    save_checkpoint(PATH, state, None, notes)
    UNFINISHED.unlink()
    print(f"{notes['scores']}, {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
