import csv
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch

from ddpm_core import CheckpointError, TrainingState, UNet, load_checkpoint, save_checkpoint, train
from ddpm_core.scale.run_files import RunFiles, newest_checkpoint, only_training, stop_between_iterations


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "digits.safetensors"


@pytest.fixture
def run(digits, schedule):
    """A run of 20 iterations, of which none is done: (state, iterator)."""
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8,)))
    return state, train(state, schedule, digits, 20, batch_size=8)


def files_of(path: Path, **options) -> RunFiles:
    return RunFiles(path, lambda iteration: iteration / 10, **options)


def sound(path: Path, iterations: int, schedule) -> None:
    save_checkpoint(path, TrainingState(UNet(1, (8,))), schedule, dict(iterations=iterations))


def rows_in(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def save_at(run, files: RunFiles, schedule, *iterations: int) -> TrainingState:
    state, steps = run
    for iteration in iterations:
        list(islice(steps, iteration - state.iteration))
        files.save(state, schedule, dict(iterations=state.iteration))
    return state


def iterations_in(path: Path) -> int:
    return load_checkpoint(path).notes["iterations"]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_as_many_older_checkpoints_are_kept_as_asked(run, path, schedule, keep):
    save_at(run, files_of(path, keep=keep), schedule, 1, 2, 3, 4, 5)
    kept = [path, *(path.with_suffix(f".older{number}.safetensors") for number in range(1, keep + 1))]
    assert [iterations_in(file) for file in kept] == [5, 4, 3, 2, 1][: keep + 1]
    assert set(path.parent.iterdir()) == {*kept, path.with_suffix(".csv")}


def test_a_file_system_without_second_names_gets_copies(run, path, schedule, monkeypatch):
    def refuse(*paths):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    save_at(run, files_of(path), schedule, 1, 2)
    assert [iterations_in(file) for file in (path, path.with_suffix(".older1.safetensors"))] == [2, 1]


def test_a_process_that_ends_between_keeping_and_writing_does_not_cost_an_older_checkpoint(
    run, path, schedule, monkeypatch
):
    files, replace = files_of(path, keep=2), os.replace
    save_at(run, files, schedule, 1, 2, 3)

    def dies(new: Path, old: Path) -> None:
        if old == path:
            raise KeyboardInterrupt
        replace(new, old)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                save_at(run, files, schedule, 4)
    save_at(run, files, schedule, 4)
    kept = [path, path.with_suffix(".older1.safetensors"), path.with_suffix(".older2.safetensors")]
    assert [iterations_in(file) for file in kept] == [4, 3, 2]


def test_the_history_has_a_row_for_each_iteration_as_far_as_the_checkpoint(run, path, schedule):
    state = save_at(run, files_of(path), schedule, 3, 5)
    title, *rows = rows_in(path.with_suffix(".csv"))
    assert title == ["iteration", "loss", "learning_rate"]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row[1]) for row in rows] == state.losses  # every digit
    assert [float(row[2]) for row in rows] == [0, 0.1, 0.2, 0.3, 0.4]


def test_a_run_that_goes_on_leaves_out_of_the_history_what_it_does_again(run, path, schedule):
    save_at(run, files_of(path), schedule, 3)
    history = path.with_suffix(".csv")
    with history.open("a") as file:  # a process that was killed in the middle of a row, after its checkpoint
        file.write("4,0.5,0.3\n5,0.")
    save_at(run, files_of(path), schedule, 4, 6)
    assert [int(row[0]) for row in rows_in(history)[1:]] == [1, 2, 3, 4, 5, 6]


def assert_tensorboard_shows(path: Path, losses: list[float]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(path.with_suffix(".tensorboard")))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, len(losses) + 1))
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
    assert [event.value for event in events.Scalars("learning_rate")] == pytest.approx([i / 10 for i in range(5)])


def test_tensorboard_reads_the_history(run, path, schedule):
    save_at(run, files_of(path, tensorboard=True), schedule, 3)
    state = save_at(run, files_of(path, tensorboard=True, begun_at=3), schedule, 4, 5)  # another process goes on
    assert_tensorboard_shows(path, state.losses)


def test_tensorboard_forgets_what_a_run_does_again(run, path, digits, schedule):
    files = files_of(path, tensorboard=True)
    save_at(run, files, schedule, 5)
    files.take_back()  # spoilt: the same process begins again
    again = TrainingState(UNet(1, (8,)), seed=1)
    state = save_at((again, train(again, schedule, digits, 20, batch_size=8)), files, schedule, 2, 5)
    assert_tensorboard_shows(path, state.losses)


def test_without_tensorboard_the_option_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        files_of(path, tensorboard=True)


def test_a_spoilt_checkpoint_gives_way_to_the_one_before_it(run, path, schedule):
    save_at(run, files_of(path, keep=2), schedule, 1, 2, 3)
    checkpoint, notice = newest_checkpoint(path)
    assert (checkpoint.notes["iterations"], notice) == (3, None)
    path.write_bytes(path.read_bytes()[:-9])
    checkpoint, notice = newest_checkpoint(path)
    assert checkpoint.notes["iterations"] == 2
    assert "truncated, damaged" in notice and "Going on from an older one, " in notice
    path.with_suffix(".older1.safetensors").write_bytes(b"")
    path.unlink()
    assert newest_checkpoint(path)[0].notes["iterations"] == 1


def test_the_newest_of_many_older_ones_is_taken(path, schedule):
    for number in (2, 10):
        sound(path.with_suffix(f".older{number}.safetensors"), 100 - number, schedule)
    assert newest_checkpoint(path)[0].notes["iterations"] == 98


@pytest.mark.parametrize("where", ["fsync", "link", "replace"])
def test_a_save_that_fails_leaves_the_older_ones_as_they_were(run, path, schedule, monkeypatch, where):
    def refuse(*files):
        raise OSError("no space left on device")

    def half_a_copy(source, copy):
        copy.write_bytes(source.read_bytes()[:100])
        refuse()

    files = files_of(path, keep=2)
    save_at(run, files, schedule, 1, 2, 3)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    monkeypatch.setattr(os, where, refuse)
    if where == "link":  # a file system without second names, where a copy is made
        monkeypatch.setattr(shutil, "copyfile", half_a_copy)
    for _ in range(3):
        with pytest.raises(OSError, match="could not be written, and what was there is untouched"):
            save_at(run, files, schedule, 4)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("spoilt", [b"\xff\xfe\x00", b'1,"2', b"a,b\x00c\r\n"])
def test_a_history_that_is_spoilt_is_written_anew(run, path, schedule, spoilt):
    path.with_suffix(".csv").write_bytes(spoilt)
    save_at(run, files_of(path, begun_at=1), schedule, 3)
    assert [int(row[0]) for row in rows_in(path.with_suffix(".csv"))[1:]] == [1, 2, 3]


def test_where_no_checkpoint_is_sound_the_newest_is_named(run, path, schedule):
    save_at(run, files_of(path), schedule, 1, 2)
    for file in path.parent.glob("*.safetensors"):
        file.write_bytes(b"spoilt")
    with pytest.raises(CheckpointError, match=r"digits\.safetensors is truncated"):
        newest_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        newest_checkpoint(path.parent / "other.safetensors")


HOLD = """
import sys, time
from pathlib import Path
from ddpm_core.scale.run_files import only_training
with only_training(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_training_is_refused_until_the_first_has_ended_in_whatever_way(path):
    unfinished = path.with_name("digits.safetensors.1234.tmp")
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            unfinished.write_bytes(b"half")  # as a process leaves it that is killed while it writes
            refused = pytest.raises(ValueError, match=r"another training is at work on .*digits\.safetensors: wait")
            with refused, only_training(path):
                pass
            with only_training(path.with_name("other.safetensors")):
                pass
            assert unfinished.exists()
        finally:
            process.kill()
    with only_training(path):
        assert not unfinished.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_an_iteration_and_a_second_one_does_not(number):
    before = signal.getsignal(number)
    with stop_between_iterations() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
