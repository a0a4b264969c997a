"""The files of a training run: a checkpoint to go on from, the ones before it, and the history of the loss.

Whatever ends a run, at whatever moment, a whole checkpoint is there: each is written under another name first, and
older ones are kept in case the disk spoils the newest.
"""

import csv
import io
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path

from ddpm_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.atomic import atomic_write, remove_unfinished, unfinished_name
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.training_state import TrainingState

Row = Sequence[object]
TITLE = ("iteration", "loss", "learning_rate")


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
        begun_at: int = 0,  # the iteration from which the run goes on: what the history says before it stays
        keep: int = 1,
        tensorboard: bool = False,
    ):
        self.checkpoint, self.learning_rate = checkpoint, learning_rate
        self.older = [checkpoint.with_suffix(f".older{number}{checkpoint.suffix}") for number in range(1, keep + 1)]
        self.history = checkpoint.with_suffix(".csv")
        self.open_tensorboard = _tensorboard_writer(checkpoint.with_suffix(".tensorboard")) if tensorboard else None
        self.tensorboard, self.shown = None, 0
        before = _read_rows(self.history)[:begun_at]
        is_whole = [row[:1] for row in before] == [[str(number + 1)] for number in range(begun_at)]
        self.before = before if is_whole else []

    def save(self, state: TrainingState, schedule: NoiseSchedule, notes: dict) -> None:
        """Writes the checkpoint with its training, and the history. Raises OSError where there is no room."""
        save_checkpoint(self.checkpoint, state, schedule, notes, with_training=True, before_replacing=self._keep_older)
        self._write_history(state.losses)

    def take_back(self) -> int:
        """Gives up the checkpoint, whose weights turned out to be spoilt, for the one before it, if there is one.

        Returns the iteration of that one, or -1.
        """
        if self.tensorboard:
            self.tensorboard.close()
            self.tensorboard = None
        if self.older and self.older[0].exists():
            os.replace(self.older[0], self.checkpoint)
            losses = load_checkpoint(self.checkpoint).training["losses"]
            self._write_history(losses)
            return len(losses)
        self.checkpoint.unlink(missing_ok=True)
        self.history.unlink(missing_ok=True)
        return -1

    def _write_history(self, losses: list[float]) -> None:
        """Writes it whole: what a process that was killed has noted beyond its checkpoint is gone then."""
        first = len(self.before)
        rows = [(number + 1, losses[number], self.learning_rate(number)) for number in range(first, len(losses))]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([TITLE, *self.before, *rows])
        with atomic_write(self.history) as file:
            file.write(text.getvalue().encode())
        if self.open_tensorboard and self.tensorboard is None:
            self.tensorboard, self.shown = self.open_tensorboard(purge_step=first + 1), first
        if self.tensorboard:
            for iteration, loss, learning_rate in rows[self.shown - first :]:
                self.tensorboard.add_scalar("loss", loss, iteration)
                self.tensorboard.add_scalar("learning_rate", learning_rate, iteration)
            self.tensorboard.flush()
            self.shown = len(losses)

    def _keep_older(self) -> None:
        """Makes the checkpoint the first of the older ones, just before a new one takes its place."""
        if not self.older or not self.checkpoint.exists():
            return
        if self.older[0].exists() and self.older[0].samefile(self.checkpoint):
            return  # a process that was killed has done this, and no more
        # A hard link, so that the checkpoint is never missing; a copy where the file system has no hard links.
        second = unfinished_name(self.checkpoint)
        try:
            try:
                os.link(self.checkpoint, second)
            except OSError:
                shutil.copyfile(self.checkpoint, second)
            for newer, older in reversed(list(zip(self.older, self.older[1:], strict=False))):
                if newer.exists():
                    os.replace(newer, older)
            os.replace(second, self.older[0])
        finally:
            second.unlink(missing_ok=True)


def _read_rows(history: Path) -> list[Row]:
    try:
        with history.open(newline="") as file:
            return list(csv.reader(file))[1:]
    except (OSError, ValueError, csv.Error):  # none, or a disk has spoilt it
        return []


def _tensorboard_writer(folder: Path) -> Callable:
    """What opens the folder for TensorBoard, where purge_step=N makes it forget the rows from N on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return partial(SummaryWriter, str(folder))


def newest_checkpoint(path: Path) -> tuple[Checkpoint, str | None]:
    """The newest sound checkpoint of a run, and a sentence where that is not the file at path itself.

    Raises FileNotFoundError or CheckpointError, as load_checkpoint does for path, where no other one is there.
    """
    try:
        return load_checkpoint(path), None
    except (FileNotFoundError, CheckpointError) as error:
        files = path.parent.glob(f"{escape(path.stem)}.older*{path.suffix}")
        for older in sorted(files, key=lambda file: (len(file.name), file.name)):  # older2 before older10
            try:
                return load_checkpoint(older), f"{error}. Going on from an older one, {older}."
            except CheckpointError:
                continue
        raise


@contextmanager
def only_training(checkpoint: Path) -> Iterator[None]:
    """Keeps other trainings away from a checkpoint. Raises ValueError where another process is at it.

    Where the operating system has locks, it lets go of this one when the process ends, in whatever way.
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
        remove_unfinished(checkpoint, checkpoint.with_suffix(".csv"))
        yield
    finally:
        if not checkpoint.exists():  # the run failed at once: it leaves nothing behind
            with suppress(OSError):  # Windows keeps a file that is open
                lock_file.unlink(missing_ok=True)
        lock.release()


class stop_between_iterations:
    """Lets Ctrl-C, and the signal by which clusters end a job, wait for the end of an iteration; a second one does not.

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
