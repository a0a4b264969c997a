"""What sample() costs beside the network: its time over that of the bare network calls it makes."""

import statistics
import time
from collections.abc import Callable

import torch

from ddpm_core import NoiseSchedule, UNet, cosine_betas, sample

BATCH, NUM_STEPS, REPEATS, TARGET = 64, 200, 7, 1.05


def main() -> None:
    torch.manual_seed(0)
    unet = UNet(1, (32, 32)).eval()
    schedule = NoiseSchedule(cosine_betas(NUM_STEPS))
    x_T = torch.randn(BATCH, 1, 8, 8)
    timesteps = [torch.full((BATCH,), t) for t in reversed(range(NUM_STEPS))]

    @torch.no_grad()
    def bare() -> None:
        for t in timesteps:
            unet(x_T, t)

    def sampled() -> None:
        for _ in sample(unet, schedule, x_T):
            pass

    bare(), sampled()  # the first calls are slower
    pairs = [(seconds(bare), seconds(sampled)) for _ in range(REPEATS)]  # side by side, as the machine's speed drifts
    bare_seconds, sample_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"8x8 pictures, batch {BATCH}, {NUM_STEPS} steps, {torch.get_num_threads()} threads, median of {REPEATS}")
    print(f"  bare network calls  {bare_seconds:.3f} s")
    print(f"  sample              {sample_seconds:.3f} s")
    print(f"  ratio               {sample_seconds / bare_seconds:.3f}    (target: below {TARGET})")


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
