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
    repeat(unet, schedule)  # the first calls are slower
    bare, sampled = zip(*(repeat(unet, schedule) for _ in range(REPEATS)), strict=True)
    ratio = statistics.median(b / a for a, b in zip(bare, sampled, strict=True))
    print(f"8x8 pictures, batch {BATCH}, {NUM_STEPS} steps, {torch.get_num_threads()} threads, median of {REPEATS}")
    print(f"  bare network calls  {statistics.median(bare):.3f} s")
    print(f"  sample              {statistics.median(sampled):.3f} s")
    print(f"  ratio               {ratio:.3f}    (target: below {TARGET})")


@torch.no_grad()
def repeat(unet: UNet, schedule: NoiseSchedule) -> tuple[float, float]:
    """Seconds of all the bare calls and of all of sample's steps, in turns, as the machine's speed drifts."""
    x_T = torch.randn(BATCH, 1, 8, 8)
    steps = sample(unet, schedule, x_T)
    bare = sampled = 0.0
    for step in reversed(range(NUM_STEPS)):
        t = torch.full((BATCH,), step)
        bare += seconds(lambda t=t: unet(x_T, t))
        sampled += seconds(lambda: next(steps))
    return bare, sampled


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
