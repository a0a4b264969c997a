"""What sample() costs beside the network calls that it makes.

Its own work is measured with a network that takes no time. The ratio of the whole, with a real network, comes out a
little higher: after each step of small work on one thread, the network's threads have to be woken.
"""

import statistics
import time
from collections.abc import Callable

import torch

from ddpm_core import NoiseSchedule, UNet, cosine_betas, sample

BATCH, NUM_STEPS, REPEATS, TARGET = 64, 200, 7, 0.05


def main() -> None:
    torch.manual_seed(0)
    unet = UNet(1, (32, 32)).eval()
    schedule = NoiseSchedule(cosine_betas(NUM_STEPS))
    repeat(unet, schedule)  # the first calls are slower
    bare, sampled, own = zip(*(repeat(unet, schedule) for _ in range(REPEATS)), strict=True)
    share = statistics.median(b / a for a, b in zip(bare, own, strict=True))
    ratio = statistics.median(b / a for a, b in zip(bare, sampled, strict=True))
    print(f"8x8 pictures, batch {BATCH}, {NUM_STEPS} steps, {torch.get_num_threads()} threads, median of {REPEATS}")
    print(f"  bare network calls  {statistics.median(bare):.3f} s")
    print(f"  sample              {statistics.median(sampled):.3f} s")
    print(f"  ratio               {ratio:.3f}")
    print(
        f"  sample's own work   {statistics.median(own):.3f} s, {share:.1%} of the calls (target: below {TARGET:.0%})"
    )


@torch.no_grad()
def repeat(unet: UNet, schedule: NoiseSchedule) -> tuple[float, float, float]:
    """Seconds of all the bare calls, of all of sample's steps and of those steps without a network.

    They take turns, as the machine's speed drifts.
    """
    x_T = torch.randn(BATCH, 1, 8, 8)
    eps_hat = torch.randn_like(x_T)
    steps, own_steps = sample(unet, schedule, x_T), sample(lambda x_t, t: eps_hat, schedule, x_T)
    bare = sampled = own = 0.0
    for step in reversed(range(NUM_STEPS)):
        t = torch.full((BATCH,), step)
        bare += seconds(lambda t=t: unet(x_T, t))
        sampled += seconds(lambda: next(steps))
        own += seconds(lambda: next(own_steps))
    return bare, sampled, own


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
