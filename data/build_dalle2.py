"""Makes dalle2.safetensors, beside this script: prior and decoder of the small DALL-E 2.

    python data/build_dalle2.py    # about three hours on one core; Ctrl-C loses little, the same command goes on

Both learn from the training pairs of EmojiDataset and the vectors of clip.safetensors; the decoder draws 16x16.
"""

import torch
import torch.nn.functional as F
from resumable import publish, run, seeded
from torch import Tensor

from ddpm_core import CLIP, EmojiDataset, NoiseSchedule, TrainingState, UNet, encode_in_batches, linear_betas, train
from ddpm_core.checkpoint import model_checksum, shipped_model
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.dalle2 import DALLE2, Decoder, Prior, draw_vectors, scaled

SCHEDULE = NoiseSchedule(linear_betas())
PRIOR_ITERATIONS, DECODER_ITERATIONS = 99_000, 38_500
VECTOR_NOISE = 0.3  # the length of what is added to the decoder's vectors: the prior's are a little off, too
OF_PRIOR = dict(batch_size=128, learning_rate=1.5e-3, warmup_iterations=200, ema_decay=0.998, min_snr_gamma=0.02)
OF_DECODER = dict(batch_size=64, learning_rate=1.5e-3, warmup_iterations=200, ema_decay=0.999, min_snr_gamma=0.02)


def new_decoder() -> Decoder:
    return Decoder(UNet(3, (64, 128), patch_size=2, context_dim=128, predicts="x_0"))


def new_prior() -> Prior:
    return Prior()


def vectors_of_captions(clip: CLIP, data: EmojiDataset) -> Tensor:
    """Six for each picture: all the first ones, then all the second ones, and so on; two in three name the style."""
    kinds = [(language, with_style) for with_style in (True, True, False) for language in data.languages]
    captions = [caption for kind in kinds for caption in data.captions(*kind)]
    place = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    vectors = encode_in_batches(clip, list(place))  # each only once
    return vectors[torch.tensor([place[caption] for caption in captions])]


def cosines(prior: Prior, clip: CLIP, split: str) -> dict[str, float]:
    """Between the real vector and that which is drawn from the text, and that of the text itself: the mean."""
    data = EmojiDataset(split=split)
    rows = torch.randperm(len(data.pictures), generator=torch.Generator().manual_seed(0))[:300]
    real = encode_in_batches(clip, data.pictures[rows])
    texts = encode_in_batches(clip, [data.caption(row) for row in rows.tolist()])
    drawn = draw_vectors(prior, SCHEDULE, texts)
    means = {"drawn": (drawn * real).sum(dim=1).mean().item(), "text": (texts * real).sum(dim=1).mean().item()}
    return {f"cosine of {what} and real vector, {split}": value for what, value in means.items()}


def main() -> None:
    clip, data = shipped_model("clip", CLIP), EmojiDataset()
    vectors = encode_in_batches(clip, data.pictures)

    def train_prior(state: TrainingState):
        cond, pictures = vectors_of_captions(clip, data), scaled(vectors).repeat(6, 1)
        often = data.is_everyday.repeat(6)  # the names that the other systems know, five times as often as the others
        cond, pictures = (torch.cat([rows, rows[often].repeat(4, 1)]) for rows in (cond, pictures))
        options = dict(cond=cond, null_cond=state.model.null_cond, bounded=False, **OF_PRIOR)
        return train(state, SCHEDULE, pictures, PRIOR_ITERATIONS, **options)

    def train_decoder(state: TrainingState):
        pictures, null_cond = EmojiDataset(16).pictures, state.model.null_cond

        def batches(iteration: int):
            while True:
                generator = torch.Generator().manual_seed(iteration)  # so that a run goes on as if it had not stopped
                rows = torch.randint(len(pictures), (OF_DECODER["batch_size"],), generator=generator)
                noise = F.normalize(torch.randn(len(rows), vectors.shape[1], generator=generator), dim=1)
                yield from_bytes(pictures[rows]), F.normalize(vectors[rows] + VECTOR_NOISE * noise, dim=1)
                iteration += 1

        return train(state, SCHEDULE, batches, DECODER_ITERATIONS, null_cond=null_cond, **OF_DECODER)

    def look(prior: Prior) -> str:
        return str(cosines(prior, clip, "train") | cosines(prior, clip, "withheld"))

    prior, seconds_of_prior = run("dalle2-prior", seeded(new_prior), PRIOR_ITERATIONS, train_prior, SCHEDULE, look)
    decoder, seconds_of_decoder = run(
        "dalle2-decoder", seeded(new_decoder), DECODER_ITERATIONS, train_decoder, SCHEDULE
    )
    state = TrainingState(DALLE2(prior.ema_model, decoder.ema_model))
    state.ema_model.half().float()  # as it will be read
    notes = dict(
        command="python data/build_dalle2.py",
        iterations=dict(prior=PRIOR_ITERATIONS, decoder=DECODER_ITERATIONS),
        seconds=dict(prior=seconds_of_prior, decoder=seconds_of_decoder),
        clip=model_checksum(clip),
        super_resolver="super-resolver",
        picture_size=[3, 16, 16],
        guidance_scale=1.5,
        scores=cosines(state.ema_model.prior, clip, "train") | cosines(state.ema_model.prior, clip, "withheld"),
    )
    publish("dalle2", state, SCHEDULE, **notes)


if __name__ == "__main__":
    main()
