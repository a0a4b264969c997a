"""A watched run that is kept in a file: a kernel that ends loses little, and nothing else depends on the file."""

import itertools
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from IPython.utils.capture import capture_output
from jupyter_client.manager import start_new_kernel

from ddpm_core import (
    NoiseSchedule,
    TrainingState,
    UNet,
    cosine_betas,
    fit,
    linear_betas,
    load_checkpoint,
    save_checkpoint,
    train,
)
from ddpm_core.course import kept_run
from ddpm_core.course.display import watch

pytestmark = pytest.mark.usefixtures("shell", "progress_file")
PICTURES = torch.linspace(-1, 1, 8 * 64).reshape(8, 1, 8, 8)
SCHEDULE = NoiseSchedule(cosine_betas(10))


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A path for the run; a save is due after each iteration, and nothing was written in this kernel."""
    monkeypatch.setattr(kept_run, "SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(kept_run, "_written_here", set())
    monkeypatch.setattr("ddpm_core.course.display.live._training_figure", lambda *_: None)  # it takes half a second
    return tmp_path / "build" / "run.safetensors"


def as_after_a_restart() -> None:
    kept_run._written_here.clear()


def new_state(channels: tuple[int, ...] = (8,), seed: int = 0) -> TrainingState:
    torch.manual_seed(0)
    return TrainingState(UNet(1, channels), seed)


def watched(
    state: TrainingState,
    keep: Path | None,
    stop_at: int | None = None,
    schedule: NoiseSchedule = SCHEDULE,
    pictures: torch.Tensor = PICTURES,
    num_iterations: int = 6,
    learning_rate: float = 3e-3,
) -> str:
    """Watches a run to its end, or until the stop button is pressed; what is printed."""

    def preview(state: TrainingState) -> torch.Tensor:
        if state.iteration == stop_at:
            raise KeyboardInterrupt
        return torch.zeros(1, 1, 8, 8)

    with capture_output() as captured:
        watch(train(state, schedule, pictures, num_iterations, 4, learning_rate), state, num_iterations, preview, keep)
    return captured.stdout


def same_weights(a: TrainingState, b: TrainingState) -> bool:
    return all(map(torch.equal, a.ema_model.parameters(), b.ema_model.parameters()))


def test_the_file_is_there_while_the_run_lasts_and_gone_when_it_is_over(file):
    state, there = new_state(), []
    run = train(state, SCHEDULE, PICTURES, 6, 4)
    watch(run, state, 6, lambda state: there.append(file.exists()) or torch.zeros(1, 1, 8, 8), file)
    assert there == [False, True, True, True] and list(file.parent.iterdir()) == []  # at 1, 2, 3 and 6


def test_a_run_that_comes_back_ends_as_if_nothing_had_happened(file):
    undisturbed, lost, back = new_state(), new_state(), new_state()
    watched(undisturbed, None)
    assert "Stopped at iteration 3" in watched(lost, file, stop_at=3)
    as_after_a_restart()
    said = watched(back, file)
    assert "goes on from iteration 3" in said and str(file) in said
    assert back.losses == undisturbed.losses and same_weights(back, undisturbed)
    assert not file.exists()


def test_it_comes_back_also_where_some_iterations_were_done_before_it_was_watched(file):
    """As in notebook 04, which stops a first loop after 20 iterations."""
    states = new_state(), new_state(), new_state()
    for state in states:
        for _ in itertools.islice(train(state, SCHEDULE, PICTURES, 6, 4), 2):
            pass
    watched(states[0], None)
    watched(states[1], file, stop_at=3)
    as_after_a_restart()
    assert "goes on from iteration 3" in watched(states[2], file)
    assert same_weights(states[2], states[0])


@pytest.mark.parametrize(
    "other, words",
    [
        (dict(learning_rate=1e-3), "learning_rate was 0.003 and is 0.001"),
        (dict(num_iterations=12), "num_iterations was 6 and is 12"),
        (dict(schedule=NoiseSchedule(linear_betas(100))), "other schedule"),
        (dict(pictures=-PICTURES), "other pictures"),
        (dict(seed=1), "seed was 0 and is 1"),
        (dict(channels=(16,)), "architecture"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_begins_anew_and_says_why(other, words, file):
    watched(new_state(), file, stop_at=3)
    as_after_a_restart()
    of_state = {name: other.pop(name) for name in ("seed", "channels") if name in other}
    anew, undisturbed = new_state(**of_state), new_state(**of_state)
    said = watched(anew, file, **other)
    assert words in said and "begins anew" in said and "goes on" not in said
    watched(undisturbed, None, **other)
    assert same_weights(anew, undisturbed)


def test_a_new_state_in_the_same_kernel_begins_anew(file):
    watched(new_state(), file, stop_at=3)
    assert watched(new_state(), file) == ""


def test_a_file_that_is_behind_is_left_alone(file):
    watched(new_state(), file, stop_at=2)
    as_after_a_restart()
    state = new_state()
    for _ in itertools.islice(train(state, SCHEDULE, PICTURES, 6, 4), 4):
        pass
    assert watched(state, file) == ""


def test_where_nothing_is_to_be_kept_no_file_is_written_and_none_read(file, monkeypatch):
    watched(new_state(), file, stop_at=3)
    as_after_a_restart()
    monkeypatch.setenv("DDPM_PROGRESS", "")  # as the tests of the notebooks do
    before = file.read_bytes()
    assert watched(new_state(), file) == "" and file.read_bytes() == before


def test_a_damaged_file_is_named_and_replaced(file):
    file.parent.mkdir()
    file.write_bytes(b"\x00" * 100)
    state = new_state()
    assert "damaged" in watched(state, file, stop_at=3)
    assert len(load_checkpoint(file).training["losses"]) == 3


def test_another_models_file_is_not_overwritten(file):
    save_checkpoint(file, new_state(), SCHEDULE, with_training=True)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="no kept run"):
        watched(new_state(), file)
    assert file.read_bytes() == before


def test_what_cannot_be_kept_is_refused_at_once(file):
    state = new_state()
    begun = train(state, SCHEDULE, PICTURES, 6, 4)
    next(begun)
    without_schedule = fit(state, lambda batch: None, iter([]), 6)
    for run in (begun, without_schedule, [state]):
        with pytest.raises(TypeError, match="keep needs a run"):
            watch(run, state, 6, keep=file)
    with pytest.raises(ValueError, match=r"ends in \.safetensors; got 'run'"):
        watch(train(state, SCHEDULE, PICTURES, 6, 4), state, 6, keep="run")


def test_where_the_file_cannot_be_written_the_training_goes_on(file):
    file.parent.write_text("a file where a folder should be")
    state = new_state()
    said = watched(state, file)
    assert state.iteration == 6 and said.count("could not be written") == 1


def test_weights_that_are_no_numbers_are_not_kept(file):
    state = new_state()
    kept = kept_run.KeptRun(file, train(state, SCHEDULE, PICTURES, 6, 4), state)
    state.add_loss(torch.tensor(1.0))
    torch.nn.init.constant_(next(state.model.parameters()), torch.nan)
    kept.save()
    assert not file.exists()


CELL = """
import torch
from ddpm_core import NoiseSchedule, TrainingState, UNet, cosine_betas, train
from ddpm_core.course import kept_run
from ddpm_core.course.display import watch

kept_run.SECONDS_BETWEEN_SAVES = 0.2
torch.manual_seed(0)
state = TrainingState(UNet(1, (8,)))
pictures = torch.linspace(-1, 1, 8 * 64).reshape(8, 1, 8, 8)
run = train(state, NoiseSchedule(cosine_betas(10)), pictures, 400, 4)
watch(run, state, 400, keep={keep!r})
print("weights", sum(w.double().abs().sum().item() for w in state.ema_model.parameters()))
"""


class Kernel:
    """A real kernel, in a process of its own."""

    def __enter__(self) -> "Kernel":
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def printed_by(self, cell: str) -> str:
        printed = []

        def note(message: dict) -> None:
            content = message["content"]
            printed.append(content.get("text", "") if "text" in content else "\n".join(content.get("traceback", [])))

        self.client.execute_interactive(cell, timeout=120, output_hook=note)
        return "".join(printed)


@pytest.mark.slow
def test_a_kernel_that_is_killed_in_the_middle_of_training_loses_little(tmp_path):
    file = tmp_path / "build" / "run.safetensors"
    with Kernel() as kernel:
        undisturbed = kernel.printed_by(CELL.format(keep=None))
    with Kernel() as kernel:
        kernel.client.execute(CELL.format(keep=str(file)))
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        kernel.manager.provisioner.process.send_signal(signal.SIGKILL)
        kernel.manager.provisioner.process.wait()
    kept = len(load_checkpoint(file).training["losses"])
    assert 0 < kept < 400
    with Kernel() as kernel:
        said = kernel.printed_by(CELL.format(keep=str(file)))
    assert f"goes on from iteration {kept}," in said
    assert re.search(r"weights .*", said)[0] == re.search(r"weights .*", undisturbed)[0]
    assert not file.exists()
