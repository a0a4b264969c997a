"""The files of a training run: a checkpoint to go on from, the ones before it, and the history of the loss.

Whatever ends a run, at whatever moment, a whole checkpoint is there: each is written under another name first, and
older ones are kept in case the disk spoils the newest.
"""

import csv
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ddpm_core.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.training import TrainingState


class RunFiles:
    """What belongs to the run that writes a checkpoint, here digits.safetensors, in the same folder.

    digits.older1.safetensors: the checkpoint before it; older2 the one before that, and so on, as many as keep says
    digits.csv:                iteration, loss, learning rate, as far as the checkpoint
    digits.tensorboard/:       the same for TensorBoard, where it is asked for
    """

    def __init__(
        self,
        checkpoint: Path,
        learning_rate: Callable[[int], float],  # of an iteration
        keep: int = 1,
        tensorboard: bool = False,
    ):
        self.checkpoint, self.learning_rate = checkpoint, learning_rate
        self.older = [checkpoint.with_suffix(f".older{number}{checkpoint.suffix}") for number in range(1, keep + 1)]
        self.history = checkpoint.with_suffix(".csv")
        self._tensorboard = _tensorboard_writer(checkpoint.with_suffix(".tensorboard")) if tensorboard else None
        self._rows_written: int | None = None  # None: nothing yet, by this process

    def save(self, state: TrainingState, schedule: NoiseSchedule, notes: dict) -> None:
        """Writes the checkpoint with its training, and the history. Raises OSError where there is no room."""
        self._rotate()
        save_checkpoint(self.checkpoint, state, schedule, notes, with_training=True)
        self._write_history(state.losses)

    def _rotate(self) -> None:
        if not self.older or not self.checkpoint.exists():
            return
        if self.older[0].exists() and self.older[0].samefile(self.checkpoint):
            return  # a process that was killed has done this, and then written nothing
        for newer, older in reversed(list(zip(self.older, self.older[1:], strict=False))):
            if newer.exists():
                os.replace(newer, older)
        # A second name for the checkpoint, which so is never missing; a copy where the file system has no such thing.
        second = self.checkpoint.with_name(f"{self.older[0].name}.{os.getpid()}.tmp")
        try:
            os.link(self.checkpoint, second)
        except OSError:
            shutil.copyfile(self.checkpoint, second)
        os.replace(second, self.older[0])

    def _write_history(self, losses: list[float]) -> None:
        first = 0 if self._rows_written is None else self._rows_written
        rows = [(number + 1, losses[number], self.learning_rate(number)) for number in range(first, len(losses))]
        if self._rows_written is None:  # anew, without what an earlier process noted after its last checkpoint
            unfinished = self.history.with_name(f"{self.history.name}.{os.getpid()}.tmp")
            with unfinished.open("w", newline="") as file:
                csv.writer(file).writerows([("iteration", "loss", "learning_rate"), *rows])
            os.replace(unfinished, self.history)
        else:
            with self.history.open("a", newline="") as file:
                csv.writer(file).writerows(rows)
        self._rows_written = len(losses)
        if self._tensorboard:
            for iteration, loss, learning_rate in rows:
                self._tensorboard.add_scalar("loss", loss, iteration)
                self._tensorboard.add_scalar("learning_rate", learning_rate, iteration)
            self._tensorboard.flush()


def newest_checkpoint(path: Path) -> tuple[Checkpoint, str | None]:
    """The newest sound checkpoint of a run, and a sentence where that is not the file at path itself.

    Raises FileNotFoundError or CheckpointError, as load_checkpoint does for path, where no other one is there.
    """
    try:
        return load_checkpoint(path), None
    except (FileNotFoundError, CheckpointError) as error:
        for older in sorted(path.parent.glob(f"{path.stem}.older*{path.suffix}")):
            try:
                return load_checkpoint(older), f"{error}. Going on from the one before it, {older}."
            except CheckpointError:
                continue
        raise


@contextmanager
def only_training(checkpoint: Path) -> Iterator[None]:
    """Keeps other trainings away from a checkpoint. Raises ValueError where another process is at it.

    The operating system lets go of the lock when the process ends, in whatever way.
    """
    from filelock import FileLock, Timeout

    lock_file = checkpoint.with_name(f".{checkpoint.name}.lock")
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another training is at work on {checkpoint}: wait for it, stop it, or give another name"
        ) from None
    except OSError as error:
        raise ValueError(f"{checkpoint} cannot be written: {error.strerror} ({checkpoint.parent.resolve()})") from None
    try:
        for name in (checkpoint.name, f"{checkpoint.stem}.older*", f"{checkpoint.stem}.csv"):
            for unfinished in checkpoint.parent.glob(f"{name}.*.tmp"):
                unfinished.unlink()  # of a process that was killed while it wrote
        yield
    finally:
        if not checkpoint.exists():  # the run failed at once: it leaves nothing behind
            lock_file.unlink(missing_ok=True)
        lock.release()


class stop_between_iterations:
    """Lets Ctrl-C, and the signal by which clusters end a job, wait for the end of an iteration; twice, it is at once.

    Only there is a run at a point from which it goes on as if it had never stopped.
    """

    asked = False

    def __enter__(self) -> "stop_between_iterations":
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _tensorboard_writer(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter(str(folder), purge_step=1)  # all is written again from the first iteration on
