"""Makes clip.safetensors, beside this script: the small CLIP of notebook 07.

    python data/build_clip.py    # 47 minutes on one core; Ctrl-C loses little, the same command goes on

It learns from the training pairs of EmojiDataset, with captions in both languages, with the style and without. On
another machine the weights differ in the last digits and in the end altogether, though hardly the scores.
"""

from resumable import publish, run, seeded

from ddpm_core import CLIP, EmojiDataset, ImageEncoder, TextEncoder, Tokenizer, retrieval_agreement, train_clip

NUM_ITERATIONS, BATCH_SIZE, LEARNING_RATE, EMA_DECAY = 10_000, 256, 4e-3, 0.998


def new_clip(captions: list[list[str]]) -> CLIP:
    """The networks, untrained."""
    tokenizer = Tokenizer.from_captions(caption for some in captions for caption in some)
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
    options = dict(batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, ema_decay=EMA_DECAY)
    state, seconds = run(
        "clip",
        seeded(new_clip, captions),
        NUM_ITERATIONS,
        lambda state: train_clip(state, data.pictures, captions, NUM_ITERATIONS, **options),
    )
    command = "python data/build_clip.py"
    notes = dict(command=command, iterations=NUM_ITERATIONS, seconds=seconds, scores=scores(state.ema_model))
    publish("clip", state, **notes)


if __name__ == "__main__":
    main()
