"""A training run that outlives its kernel: now and then its state goes to a file, and it comes back from there."""

import inspect
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from ddpm_core.checkpoint import load_checkpoint, resume_training, save_checkpoint
from ddpm_core.course import progress
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.atomic import remove_unfinished
from ddpm_core.support.guards import describe
from ddpm_core.support.tensor_file import CheckpointError, checksum
from ddpm_core.training_state import TrainingState

SECONDS_BETWEEN_SAVES = 25.0
_written_here: set[Path] = set()  # what this kernel has written it has not lost


class KeptRun:
    """A run and its file, which is there from the first save until the run has come to its end.

    path: None keeps nothing, nor does a kernel in which nobody learns (see progress.is_kept)
    run:  what train(state, ...) returns, and nobody has begun

    Raises TypeError for another run, and ValueError for a path that is no safetensors file's.
    """

    def __init__(self, path: Path | str | None, run: Iterable[TrainingState], state: TrainingState):
        self.path, self.state = None if path is None or not progress.is_kept() else Path(path), state
        if self.path is None:
            return
        if self.path.suffix != ".safetensors":
            raise ValueError(f"keep must be a file whose name ends in .safetensors; got {str(path)!r}")
        if not inspect.isgenerator(run) or inspect.getgeneratorstate(run) != inspect.GEN_CREATED:
            raise TypeError(f"keep needs a run that has not begun, such as train(state, ...); got {describe(run)}")
        arguments = dict(inspect.getgeneratorlocals(run))  # before it begins, these are what it was called with
        if not isinstance(arguments.get("schedule"), NoiseSchedule):
            raise TypeError("keep needs a run of train, which has a schedule to keep with the weights")
        self.schedule = arguments["schedule"]
        self.settings = {name: _in_short(value) for name, value in arguments.items()}
        self.settings["seed"] = state.generator.initial_seed()
        self.saved_at, self.saved = state.iteration, time.perf_counter()

    def come_back(self) -> None:
        """Takes the state to where a kernel that ended had brought it, and says so; or says why not.

        Raises ValueError where something else lies at path, which the next save would overwrite.
        """
        if self.path is None or not self.path.exists() or self.path.resolve() in _written_here:
            return
        try:
            checkpoint = load_checkpoint(self.path)
            if checkpoint.training is None or "settings" not in checkpoint.notes:
                raise ValueError(f"{self.path} holds a model that is no kept run; give keep a file of its own")
            if others := _differences(checkpoint.notes["settings"], self.settings):
                raise CheckpointError(f"it was begun with other settings: {others}")
            if len(checkpoint.training["losses"]) <= self.state.iteration:
                return
            resume_training(self.state, checkpoint)
        except CheckpointError as error:
            print(f"{self.path} keeps an unfinished run, but {error}. So this one begins anew and takes its place.")
            return
        self.saved_at = self.state.iteration
        print(
            f"The kernel ended during this run. It goes on from iteration {self.saved_at:,}, which {self.path} kept. "
            "(To begin anew: stop, delete that file, and run the cells above again.)"
        )

    def save_if_due(self) -> None:
        if self.path and time.perf_counter() - self.saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Writes the file where something new and sound was learnt. The run goes on even if that cannot be done."""
        if self.path is None or self.state.iteration == self.saved_at:
            return
        self.saved = time.perf_counter()
        if not all(weights.isfinite().all() for weights in self.state.model.parameters()):
            return  # fit goes back to good ones as soon as it sees the loss
        try:
            save_checkpoint(self.path, self.state, self.schedule, dict(settings=self.settings), with_training=True)
        except OSError as error:
            print(f"{error}. The training goes on, but would be lost with the kernel.")
            self.path = None
        else:
            self.saved_at = self.state.iteration
            _written_here.add(self.path.resolve())

    def remove(self) -> None:
        """The run is over: it is done anew when its cells are run again."""
        if self.path:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                remove_unfinished(self.path)


def _in_short(value: object) -> object:
    """As json holds it: numbers as they are, of tensors a checksum, of all else the type."""
    if isinstance(value, NoiseSchedule):
        value = value.betas
    if isinstance(value, Tensor):
        return checksum({"": value.detach().cpu()}, {})
    return value if isinstance(value, int | float | str | None) else type(value).__name__


def _differences(before: dict, now: dict) -> str:
    """Which settings differ, and numbers with both values."""
    differences = []
    for name in sorted({**before, **now}):
        then, new = before.get(name), now.get(name)
        if then != new:
            in_words = isinstance(then, str) or isinstance(new, str)
            differences.append(f"other {name}" if in_words else f"{name} was {then} and is {new}")
    return ", ".join(differences)
