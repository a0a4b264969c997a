"""Makes clip.safetensors, beside this script: the small CLIP of notebook 07.

    python data/build_clip.py    # 47 minutes on one core; Ctrl-C loses little, the same command goes on

It learns from the training pairs of EmojiDataset, with captions in both languages, with the style and without. On
another machine the weights differ in the last digits and in the end altogether, though hardly the scores.
"""

import platform
import time
from pathlib import Path

import torch

from ddpm_core import (
    CLIP,
    EmojiDataset,
    ImageEncoder,
    TextEncoder,
    Tokenizer,
    TrainingState,
    load_checkpoint,
    resume_training,
    retrieval_agreement,
    save_checkpoint,
    train_clip,
)

PATH = Path(__file__).parent / "clip.safetensors"
UNFINISHED = PATH.with_name("clip-unfinished.safetensors")  # with all that training needs to go on
NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE, EMA_DECAY = 10_000, 256, 4e-3, 0.998


def new_clip(captions: list[list[str]]) -> CLIP:
    """The networks, untrained; the same each time, whatever torch's global generator has done before."""
    tokenizer = Tokenizer.from_captions(caption for some in captions for caption in some)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image_encoder = ImageEncoder(3, (32, 64, 128), patch_size=4, picture_size=(64, 64))
        return CLIP(image_encoder, TextEncoder(len(tokenizer), tokenizer.max_length, 128), tokenizer)


def scores(clip: CLIP) -> dict[str, float]:
    """How often the right one of all 1,377 names is first, and among the first ten, for pictures of withheld pairs."""
    withheld, found = EmojiDataset(split="withheld"), {}
    for language, names in withheld.names.items():
        own = withheld.captions(language, with_style=False)
        for k in (1, 10):
            right = retrieval_agreement(clip, withheld.pictures, own, names, k)
            found[f"name among the first {k}, {language}"] = right.float().mean().item()
    return found


def main() -> None:
    data = EmojiDataset()
    captions = [data.captions(language, with_style) for language in data.languages for with_style in (True, False)]
    state, seconds = TrainingState(new_clip(captions)), 0.0
    if UNFINISHED.exists():
        saved = load_checkpoint(UNFINISHED)
        resume_training(state, saved)
        seconds = saved.notes["seconds"]
    began = time.perf_counter() - seconds
    steps = train_clip(state, data.pictures, captions, NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE, ema_decay=EMA_DECAY)
    for _ in steps:
        if state.iteration % 250 == 0:
            seconds = round(time.perf_counter() - began)
            save_checkpoint(UNFINISHED, state, None, dict(seconds=seconds), with_training=True)
            loss = sum(state.losses[-250:]) / 250
            print(f"{state.iteration} of {NUM_ITERATIONS}, {seconds} s: loss {loss:.3f}", flush=True)
    notes = dict(
        command="python data/build_clip.py",
        iterations=NUM_ITERATIONS,
        seconds=seconds,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        scores=scores(state.ema_model),
    )
    state.ema_model.half()  # half the bytes
    save_checkpoint(PATH, state, None, notes)
    UNFINISHED.unlink()
    for what, share in notes["scores"].items():
        print(f"{what}: {share:.1%}")
    print(f"{PATH.stat().st_size:,} bytes. The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


if __name__ == "__main__":
    main()
