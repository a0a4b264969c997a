"""A long training that can be stopped and gone on with: what the scripts that make checkpoints have in common."""

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from ddpm_core import NoiseSchedule, TrainingState, load_checkpoint, resume_training, save_checkpoint

HERE = Path(__file__).parent


def seeded(make: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """An untrained network; the same each time, whatever torch's global generator has done before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*arguments)


def run(
    name: str,
    model: nn.Module,
    num_iterations: int,
    train: Callable[[TrainingState], Iterator[TrainingState]],
    schedule: NoiseSchedule | None = None,
    look: Callable[[nn.Module], str] | None = None,
) -> tuple[TrainingState, float]:
    """Trains to the end: the state, and how many seconds it took. Ctrl-C loses little, the same command goes on.

    num_iterations: of train
    look:           what to print of the averaged model, every 1,000 iterations
    """
    unfinished = _unfinished(name)
    state, seconds = TrainingState(model), 0.0
    if unfinished.exists():
        saved = load_checkpoint(unfinished)
        resume_training(state, saved)
        seconds = saved.notes["seconds"]
    began = time.perf_counter() - seconds
    for _ in train(state):
        if state.iteration % 250 == 0:
            seconds = round(time.perf_counter() - began)
            save_checkpoint(unfinished, state, schedule, dict(seconds=seconds), with_training=True)
            loss = sum(state.losses[-250:]) / 250
            print(f"{state.iteration} of {num_iterations}, {seconds} s: loss {loss:.4g}", flush=True)
            if look and state.iteration % 1000 == 0:
                print(f"  {look(state.ema_model)}", flush=True)
    return state, seconds


def publish(name: str, state: TrainingState, schedule: NoiseSchedule | None = None, **notes: object) -> None:
    """Writes NAME.safetensors, beside this script, in half precision."""
    path = HERE / f"{name}.safetensors"
    notes["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    state.ema_model.half()  # half the bytes
    save_checkpoint(path, state, schedule, notes)
    for unfinished in HERE.glob(_unfinished(f"{name}*").name):  # of the parts of a system, too, as dalle2-prior
        unfinished.unlink()
    for what, value in notes["scores"].items():
        print(f"{what}: {value:.4g}")
    print(f"{path.stat().st_size:,} bytes. The doctor compares: ddpm_core/course/doctor.py, CHECKSUMS.")


def _unfinished(name: str) -> Path:
    return HERE / f"{name}-unfinished.safetensors"  # with all that training needs to go on
