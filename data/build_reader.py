"""Makes digit-reader.safetensors, beside this script: the weights of the network that reads digits.

    python data/build_reader.py    # some minutes on one core

The network is reader_network in ddpm_core/judging/digits.py. It learns from mnist-train.png alone, each picture turned,
sheared, resized and shifted a little, each time anew. One in 32 pictures is noise, of which it is to say that it might
be any digit: without them it is sure of one in ten pictures of noise. On another machine the weights differ in the last
digits and in the end altogether, though hardly the scores.
"""

import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core import TrainingState, fit, load_mnist
from ddpm_core.judging.digits import FORMAT, WEIGHTS, DigitReader, reader_network
from ddpm_core.support.tensor_file import write_tensors

NUM_ITERATIONS, BATCH_SIZE, NUM_NOISE = 5_000, 128, 4
TURN, SHEAR, RESIZE, SHIFT = math.radians(10), 0.15, 0.1, 2 / 14  # at most; a shift of 2 / 14 is one of two pixels


def batches(pictures: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (B, 1, 28, 28) and how likely each is to be each digit (B, 10), without end."""
    while True:
        rows = torch.randint(len(pictures), (BATCH_SIZE,), generator=generator)
        x, y = moved(pictures[rows], generator), F.one_hot(labels[rows], 10).float()
        x[:NUM_NOISE] = noise(x[:NUM_NOISE].shape, generator)
        y[:NUM_NOISE] = 0.1
        yield x, y


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture turned, sheared, resized and shifted by random amounts."""

    def amount(limit: float) -> Tensor:
        return limit * (2 * torch.rand(len(pictures), generator=generator) - 1)

    turn, size = amount(TURN), 1 + amount(RESIZE)
    first = torch.stack([size * turn.cos(), -size * turn.sin() + amount(SHEAR), amount(SHIFT)], dim=1)
    second = torch.stack([size * turn.sin(), size * turn.cos(), amount(SHIFT)], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures + 1, grid, align_corners=False) - 1  # beyond the edge it is black, which is -1


def noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Pictures of noise, faint and strong, dark and bright."""
    strength, brightness = (torch.rand(shape[0], 1, 1, 1, generator=generator) for _ in range(2))
    return (strength * torch.randn(shape, generator=generator) + 2 * brightness - 1).clamp(-1, 1)


def learn(num_iterations: int) -> TrainingState:
    """Trains the network. The same each time, whatever torch's global generator has done before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = TrainingState(reader_network(), seed=0)

    def batch_loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(state.model(x), y)

    for _ in fit(state, batch_loss, batches(*load_mnist("train"), state.generator), num_iterations):
        if state.iteration % 500 == 0:
            print(f"iteration {state.iteration}: loss {sum(state.losses[-500:]) / 500:.3f}", flush=True)
    return state


def main() -> None:
    start = time.perf_counter()
    state = learn(NUM_ITERATIONS)
    notes = {
        "format": FORMAT,
        "command": "python data/build_reader.py",
        "iterations": str(NUM_ITERATIONS),
        "seconds": f"{time.perf_counter() - start:.0f}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    weights = {name: weight.half() for name, weight in state.ema_model.state_dict().items()}
    path = Path(__file__).parent / WEIGHTS
    write_tensors(path, weights, notes, before_replacing=lambda: None)
    reader = DigitReader()
    print(f"reads {reader.accuracy:.2%} of the held-out digits, is sure of {reader.sure_rate:.2%}")
    print(f"{path.stat().st_size:,} bytes. The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


if __name__ == "__main__":
    main()
