"""Makes super-resolver.safetensors, beside this script: the second half of the small Imagen, 16x16 to 64x64.

    python data/build_super_resolver.py    # about 70 minutes on one core; Ctrl-C loses little, the same command goes on

It learns from the training pictures of EmojiDataset, and is scored on those of the withheld pairs.
"""

import torch
import torch.nn.functional as F
from resumable import publish, run, seeded
from torch import Tensor

from ddpm_core import EmojiDataset, NoiseSchedule, UNet, linear_betas
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.imagen import SuperResolver, super_resolve, train_super_resolver

NUM_ITERATIONS = 18_000
SCHEDULE = NoiseSchedule(linear_betas())


def new_super_resolver() -> SuperResolver:
    return SuperResolver(UNet(7, (48, 96), patch_size=4, predicts="x_0", out_channels=3))


def decibels(pictures: Tensor, real: Tensor) -> float:
    """Peak signal-to-noise ratio, the mean over pictures."""
    return (10 * torch.log10(4 / (pictures - real).square().mean(dim=(1, 2, 3)))).mean().item()


def scores(model: SuperResolver) -> dict[str, float]:
    real = from_bytes(EmojiDataset(split="withheld").pictures)
    low = F.interpolate(real, (16, 16), mode="area")
    bicubic = F.interpolate(low, (64, 64), mode="bicubic").clamp(-1, 1)
    *_, drawn = super_resolve(model, SCHEDULE, low, level=0.0, num_steps=8)
    return {"decibels, withheld": decibels(drawn, real), "decibels of bicubic, withheld": decibels(bicubic, real)}


def main() -> None:
    pictures = EmojiDataset().pictures
    options = dict(batch_size=32, learning_rate=1.5e-3, warmup_iterations=200, ema_decay=0.999, min_snr_gamma=0.02)
    state, seconds = run(
        "super-resolver",
        seeded(new_super_resolver),
        NUM_ITERATIONS,
        lambda state: train_super_resolver(state, SCHEDULE, pictures, NUM_ITERATIONS, **options),
        SCHEDULE,
        lambda model: str(scores(model)),
    )
    state.ema_model.half().float()  # as it will be read
    command = "python data/build_super_resolver.py"
    notes = dict(command=command, iterations=NUM_ITERATIONS, seconds=seconds, picture_size=list(pictures.shape[1:]))
    publish("super-resolver", state, SCHEDULE, **notes, scores=scores(state.ema_model))


if __name__ == "__main__":
    main()
