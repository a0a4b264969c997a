"""The command line: most of it in this process, which is fast, and Ctrl-C in a real one."""

import copy
import dataclasses
import math
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open

from ddpm_core import (
    EmojiDataset,
    NoiseSchedule,
    TrainingDiverged,
    TrainingState,
    UNet,
    __main__,
    cosine_betas,
    load_checkpoint,
    load_digit_scenes,
    save_checkpoint,
    training,
    write_shards,
)
from ddpm_core.course import doctor
from ddpm_core.scale import settings as jobs
from ddpm_core.scale.recipes import PRESETS, Preset, data_checksum
from ddpm_core.scale.run_files import stop_between_iterations

TINY = ["--iterations", "5", "--timesteps", "10", "--batch-size", "4", "--channels", "8"]


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu():
    """On a GPU two runs of the same command need not end in the very same numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_PROFILE", "cpu")
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> bytes:
    """A checkpoint that the command line made, with 5 iterations done."""
    path = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    assert CliRunner().invoke(__main__.main, ["train", str(path), *TINY]).exit_code == 0
    return path.read_bytes()


@pytest.fixture
def checkpoint(trained) -> Path:
    """That checkpoint in the folder of the test."""
    path = Path("tiny.safetensors")
    path.write_bytes(trained)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(__main__.main, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    """The line, always the last, that says what is wrong."""
    result = run(*arguments)
    # Where click runs for real, any other exception than SystemExit is a traceback.
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def content(path: Path | str) -> dict:
    """All that a checkpoint holds. (Not its bytes: safetensors writes the entries of its header in any order.)"""
    with safe_open(path, framework="np") as file:
        return file.metadata() | {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


def iterations_in(path: Path | str) -> int:
    return len(load_checkpoint(path).training["losses"])


def test_training_writes_a_checkpoint_that_says_how_it_was_made(checkpoint):
    loaded = load_checkpoint(checkpoint)
    assert loaded.model.config["channels"] == (8,) and len(loaded.schedule) == 10
    assert loaded.notes == dict(
        data="digits",
        picture_size=[1, 8, 8],
        batch_size=4,
        learning_rate=0.003,
        precision="float32",
        seed=0,
        iterations=5,
        num_iterations=5,
    )


def test_training_again_gives_the_same_numbers_unless_the_seed_is_another(checkpoint):
    succeed("train", "again.safetensors", *TINY)
    succeed("train", "other.safetensors", *TINY, "--seed", 1)
    assert content("again.safetensors") == content(checkpoint)
    assert content("other.safetensors")["losses"] != content(checkpoint)["losses"]


def test_training_tells_the_next_command_and_that_one_works(checkpoint):
    text = succeed("train", "new.safetensors", *TINY)
    assert "new.safetensors holds iteration 5." in text
    command = text.split("python -m ddpm_core ")[1].split()
    assert "16 pictures in samples.png" in succeed(*command)


def test_resuming_goes_on_from_where_the_checkpoint_is(checkpoint):
    assert "holds iteration 7." in succeed("train", checkpoint, "--resume", "--iterations", 7)
    assert iterations_in(checkpoint) == 7


@pytest.fixture
def stop_training(monkeypatch):
    """Makes every training run end with an error after so many iterations."""
    train_steps = __main__.train_steps

    def stop(after: int, error: BaseException) -> None:
        def stopped(*arguments, **options):
            for state in train_steps(*arguments, **options):
                if state.iteration == after and isinstance(error, KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
                yield state
                if state.iteration == after:
                    raise error

        monkeypatch.setattr(__main__, "train_steps", stopped)

    return stop


def test_a_stopped_and_resumed_run_ends_as_an_uninterrupted_one_does(checkpoint, stop_training):
    stop_training(3, KeyboardInterrupt())
    assert "Stopped at iteration 3." in succeed("train", "parts.safetensors", *TINY)
    assert iterations_in("parts.safetensors") == 3
    succeed("train", "parts.safetensors", "--resume")
    assert content("parts.safetensors") == content(checkpoint)


def test_resuming_keeps_what_the_run_was_started_with(checkpoint):
    before = load_checkpoint(checkpoint)
    succeed("train", checkpoint, "--resume", "--iterations", 6, "--timesteps", 10, "--channels", "8", "--seed", 0)
    after = load_checkpoint(checkpoint)
    assert after.model.config == before.model.config and len(after.schedule) == 10
    assert after.notes == before.notes | {"iterations": 6, "num_iterations": 6}


@pytest.mark.parametrize(
    "options, was, is_now",
    [
        (["--timesteps", 99, "--channels", "16"], "--timesteps 10, --channels 8", "--timesteps 99, --channels 16"),
        (["--seed", 7], "--seed 0", "--seed 7"),
        (["--batch-size", 8], "--batch-size 4", "--batch-size 8"),
        (["--learning-rate", 0.1], "--learning-rate 0.003", "--learning-rate 0.1"),
        (["--data", "MNIST"], "--data digits", "--data MNIST"),
        (["--precision", "bfloat16"], "--precision float32", "--precision bfloat16"),
    ],
)
def test_resuming_with_other_settings_shows_the_difference_and_leaves_the_run_as_it_was(
    checkpoint, options, was, is_now
):
    before = checkpoint.read_bytes()
    message = fail("train", checkpoint, "--resume", "--iterations", 9, *options)
    assert f"this run was begun with {was}, and cannot go on with {is_now}" in message
    assert checkpoint.read_bytes() == before


def test_resuming_takes_the_data_that_the_checkpoint_names(checkpoint, monkeypatch):
    asked = []

    def load_pictures(name):
        asked.append(name)
        return torch.zeros(10, 1, 8, 8), torch.zeros(10)

    monkeypatch.setattr(jobs, "load_pictures", load_pictures)
    succeed("train", "mnist.safetensors", *TINY, "--data", "MNIST")
    succeed("train", "mnist.safetensors", "--resume", "--iterations", 6)
    assert asked == ["MNIST", "MNIST"]


def test_resuming_without_a_checkpoint_is_refused():
    assert "there is no checkpoint at none.safetensors" in fail("train", "none.safetensors", "--resume")


def test_a_checkpoint_is_saved_on_the_way(monkeypatch):
    seen = []
    train_steps = __main__.train_steps

    def spied(*arguments, **options):
        for state in train_steps(*arguments, **options):
            yield state
            seen.append(iterations_in("new.safetensors") if Path("new.safetensors").exists() else 0)

    monkeypatch.setattr(__main__, "train_steps", spied)
    succeed("train", "new.safetensors", *TINY, "--save-every", 2)
    assert seen == [0, 2, 2, 4, 4]


@pytest.mark.parametrize("content", [b"", b"my thesis"])
def test_an_existing_file_is_refused_and_left_as_it_was(content):
    path = Path("thesis.safetensors")
    path.write_bytes(content)
    assert "exists already: say --resume" in fail("train", path, *TINY)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "options, words",
    [
        (["--data", "letters"], "no data set called 'letters', and no folder: it can be digits, MNIST"),
        (["--data", "letters/*"], "no shard matches * in letters"),
        (["--channels", "8,x"], "channels must be whole numbers"),
        (["--channels", "12"], "channels must be multiples of 8"),
        (["--channels", "8,8,8,8,8"], "pictures of 8x8 cannot be halved 4 times"),
        (["--iterations", "0"], "--iterations"),
        (["--batch-size", "-1"], "--batch-size"),
        (["--learning-rate", "0"], "learning_rate must be a number above 0; got 0.0"),
        (["--learning-rate", "nan"], "learning_rate must be a number above 0; got nan"),
        (["--seed", str(2**70)], "--seed"),
        (["--workers", "2"], "--picture-size and --workers are for tar files"),
        (["--picture-size", "16"], "--picture-size and --workers are for tar files"),
        (["--timesteps", "many"], "--timesteps"),
        (["--speed", "9"], "--speed"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_no_file_behind(options, words, folder):
    assert words in fail("train", "new.safetensors", *TINY, *options)
    assert list(folder.iterdir()) == []


def test_a_run_that_diverges_at_once_says_why_and_leaves_no_file_behind(folder):
    message = fail("train", "new.safetensors", *TINY, "--iterations", 200, "--learning-rate", "1e30")
    assert "the loss became" in message and "a learning rate that is too high" in message
    assert list(folder.iterdir()) == []


def test_weights_that_are_no_numbers_are_never_saved(folder):
    diverging = [*TINY, "--iterations", 200, "--learning-rate", "1e30", "--save-every", 1]
    assert "the loss became" in fail("train", "new.safetensors", *diverging)
    assert [path.name for path in folder.glob("*.safetensors")] == []


@pytest.fixture
def no_number_from_the_61st_loss_on(monkeypatch, a_look_every_50_iterations):
    loss_of, calls = training.diffusion_loss, []

    def diverging(*arguments):
        calls.append(arguments)
        return loss_of(*arguments) * (math.nan if len(calls) > 60 else 1)

    monkeypatch.setattr(training, "diffusion_loss", diverging)


def assert_sound(newest: int, *older: int) -> None:
    """All checkpoints in the folder are of these iterations, and neither losses nor weights in them are spoilt."""
    assert iterations_in("new.safetensors") == newest
    for path in Path().glob("*.safetensors"):
        saved = load_checkpoint(path).training
        assert len(saved["losses"]) in (newest, *older) and all(map(math.isfinite, saved["losses"]))
        assert all(weights.isfinite().all() for weights in saved["model"].values())
    assert len(Path("new.csv").read_text().splitlines()) == 1 + newest


@pytest.mark.usefixtures("no_number_from_the_61st_loss_on")
@pytest.mark.parametrize("save_every, newest, older", [(5, 55, 55), (9, 54, 45), (40, 50, 40)])
@pytest.mark.parametrize("iterations", [150, 63])
def test_a_divergence_that_is_seen_late_leaves_sound_checkpoints_only(iterations, save_every, newest, older):
    options = ["--iterations", iterations, "--save-every", save_every]
    message = fail("train", "new.safetensors", *TINY, *options)
    assert "stopped at iteration 60" in message and "those of iteration 50" in message
    assert_sound(newest, older)


@pytest.mark.usefixtures("no_number_from_the_61st_loss_on")
def test_stopping_before_a_divergence_is_seen_leaves_sound_checkpoints_only(stop_training):
    stop_training(62, KeyboardInterrupt())
    said = succeed("train", "new.safetensors", *TINY, "--iterations", 150, "--save-every", 5)
    assert "new.safetensors holds iteration 55." in said
    assert_sound(55)


def test_a_divergence_does_not_put_an_older_state_over_a_newer_checkpoint(monkeypatch):
    train_steps = __main__.train_steps

    def goes_back(state, *arguments, **options):
        before = None
        for _ in train_steps(state, *arguments, **options):
            yield state
            if state.iteration == 2:
                before = copy.deepcopy(state.state_dict())
            if state.iteration == 4:
                state.load_state_dict(before)
                raise TrainingDiverged("the loss became nan")

    monkeypatch.setattr(__main__, "train_steps", goes_back)
    fail("train", "new.safetensors", *TINY, "--save-every", 3)
    assert iterations_in("new.safetensors") == 3


def test_a_spoilt_checkpoint_is_put_aside_and_the_older_one_stays(folder):
    succeed("train", "new.safetensors", *TINY, "--save-every", 2)
    Path("new.safetensors").write_bytes(b"spoilt")
    text = succeed("train", "new.safetensors", "--resume", "--save-every", 3)
    assert "Going on from an older one, new.older1.safetensors" in text
    assert iterations_in("new.safetensors") == 5 and iterations_in("new.older1.safetensors") == 4
    assert Path("new.safetensors.damaged").read_bytes() == b"spoilt"


def test_a_run_that_is_done_is_not_saved_again(checkpoint):
    before = checkpoint.read_bytes()
    said = succeed("train", checkpoint, "--resume")
    assert "holds iteration 5." in said and "All its 5 iterations were done before" in said
    assert checkpoint.read_bytes() == before and not list(Path().glob("*.older*"))


def test_the_last_iteration_is_saved_once(folder):
    succeed("train", "new.safetensors", *TINY, "--iterations", 4, "--save-every", 2)
    assert (iterations_in("new.safetensors"), iterations_in("new.older1.safetensors")) == (4, 2)


def test_fewer_iterations_than_are_done_are_refused(checkpoint):
    assert "--iterations 3 is less than the 5 that this run has done" in fail(
        "train", checkpoint, "--resume", "--iterations", 3
    )


@pytest.mark.parametrize("name", ["digits", "digits.csv", "digits.pt"])
def test_a_checkpoint_has_the_name_of_one(name, folder):
    assert f"the name of a checkpoint ends in .safetensors; got {name}" in fail("train", name, *TINY)
    assert list(folder.iterdir()) == []


def test_a_file_in_the_place_of_the_history_is_not_overwritten():
    Path("new.csv").write_text("my measurements")
    assert "new.csv exists already" in fail("train", "new.safetensors", *TINY)
    assert Path("new.csv").read_text() == "my measurements"


def test_the_history_keeps_the_learning_rates_that_were_used(checkpoint):
    succeed("train", "new.safetensors", *TINY)
    before = Path("new.csv").read_text()
    succeed("train", "new.safetensors", "--resume", "--iterations", 9)
    assert Path("new.csv").read_text().startswith(before)


def test_a_checkpoint_without_notes_goes_on():
    state, schedule = TrainingState(UNet(1, (8,))), NoiseSchedule(cosine_betas(10))
    save_checkpoint("mine.safetensors", state, schedule, with_training=True)
    assert "holds iteration 3." in succeed("train", "mine.safetensors", "--resume", "--iterations", 3)


def test_data_and_channels_may_be_written_in_other_ways(checkpoint):
    succeed("train", checkpoint, "--resume", "--iterations", 6, "--data", "Digits", "--channels", " 8")


def test_a_second_ctrl_c_leaves_the_last_save(stop_training):
    stop_training(3, KeyboardInterrupt())
    original = stop_between_iterations._ask

    def ask_twice(self, number, frame):
        original(self, number, frame)
        original(self, number, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stop_between_iterations, "_ask", ask_twice)
        assert "stopped at once: new.safetensors is as it was saved last" in fail(
            "train", "new.safetensors", *TINY, "--save-every", 2
        )
    assert iterations_in("new.safetensors") == 2


@pytest.fixture
def shards(folder):
    data = EmojiDataset(["en"])
    write_shards("shards", data.pictures[:40], data.captions["en"][:40], 10)
    return ["--data", "shards/*.tar", "--picture-size", 8, "--iterations", 6, "--batch-size", 4, "--channels", "8"]


def test_captioned_pictures_from_tar_files_are_learnt_and_drawn(shards, stop_training):
    succeed("train", "whole.safetensors", *shards)
    with pytest.MonkeyPatch.context():
        stop_training(3, KeyboardInterrupt())
        succeed("train", "parts.safetensors", *shards)
    succeed("train", "parts.safetensors", "--resume")
    assert iterations_in("parts.safetensors") == 6
    assert content("parts.safetensors")["losses"] == content("whole.safetensors")["losses"]
    assert "2 pictures" in succeed("sample", "whole.safetensors", "grinning face", "red apple", "--num-steps", 3)


def test_tar_files_may_move_between_two_parts_of_a_run(shards):
    succeed("train", "new.safetensors", *shards)
    Path("shards").rename("elsewhere")
    succeed("train", "new.safetensors", "--resume", "--iterations", 7, "--data", "elsewhere")
    assert iterations_in("new.safetensors") == 7


def test_tar_files_without_captions_are_one_sentence(folder):
    with tarfile.open("empty.tar", "w"):
        pass
    message = fail("train", "new.safetensors", "--data", "empty.tar")
    assert "empty.tar has no captions, or is not a tar file: beside each picture" in message


def test_a_pattern_without_quotes_is_told(shards):
    message = fail("train", "new.safetensors", "--data", "shards/00000.tar", "shards/00001.tar")
    assert "shards/00001.tar is too much. A pattern of tar files stands in quotes: --data 'shards/*.tar'." in message


@pytest.mark.parametrize("prompt, words", [("tiny", "say tiny.safetensors"), ("notes.txt", "is no checkpoint")])
def test_a_file_is_not_taken_for_a_prompt(prompt, words, checkpoint):
    Path("notes.txt").touch()
    assert words in fail("sample", prompt)


def test_several_processes_do_not_draw_the_same_pictures(checkpoint, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "leave torchrun out" in fail("sample", checkpoint)


@pytest.mark.parametrize("command", [["train", "new.safetensors", *TINY], ["sample", "tiny.safetensors"]])
def test_graphs_are_for_gpus(command, checkpoint):
    assert "--compile graphs is for GPUs" in fail(*command, "--compile", "graphs")


def test_a_lack_of_memory_is_one_sentence(folder):
    message = fail("train", "new.safetensors", *TINY, "--channels", "8000000")
    assert "there is not enough memory for this: ask for fewer" in message
    assert list(folder.iterdir()) == []


def test_tar_files_that_are_others_than_before_are_refused(shards):
    succeed("train", "new.safetensors", *shards)
    Path("shards/00003.tar").rename("shards/00004.tar")
    message = fail("train", "new.safetensors", "--resume", "--iterations", 9)
    assert "the data are not those that this run was begun with" in message
    message = fail("train", "new.safetensors", "--resume", "--iterations", 9, "--picture-size", 16)
    assert "was begun with --picture-size 8, and cannot go on with --picture-size 16" in message


@pytest.mark.parametrize(
    "options, words",
    [
        (["--data", "shards/x*.tar"], "no shard matches x*.tar in shards"),
        (["--data", "shards/{00000..00009}.tar"], "there is no shard shards/00004.tar"),
        (["--data", "empty"], "the folder empty has no shards"),
    ],
)
def test_tar_files_that_are_not_there_are_named(options, words, shards):
    Path("empty").mkdir()
    assert words in fail("train", "new.safetensors", *shards, *options)
    assert not Path("new.safetensors").exists()


def test_a_caption_as_long_as_a_page_is_cut(folder, monkeypatch):
    monkeypatch.setattr(jobs, "WORDS_AT_MOST", 5)
    data = EmojiDataset(["en"])
    write_shards("shards", data.pictures[:8], ["one two three four five six seven", *data.captions["en"][1:8]], 4)
    succeed("train", "new.safetensors", "--data", "shards", "--picture-size", 8, "--iterations", 4, "--batch-size", 4)
    assert load_checkpoint("new.safetensors").model.tokenizer.max_length == 6


def test_a_run_that_fails_later_keeps_what_was_learnt(stop_training):
    stop_training(3, TrainingDiverged("the loss became nan"))
    assert "the loss became nan" in fail("train", "new.safetensors", *TINY)
    assert iterations_in("new.safetensors") == 3


def test_a_network_that_does_not_fit_the_data_leaves_the_checkpoint_as_it_was(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()
    monkeypatch.setattr(jobs, "load_pictures", lambda name: (torch.zeros(10, 3, 32, 32), torch.zeros(10)))
    assert "3 channels" in fail("train", checkpoint, "--resume", "--iterations", 9)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    "command", [["train", "{}/new.safetensors", *TINY], ["sample", "tiny.safetensors", "--out", "{}/a.png"]]
)
def test_a_place_that_cannot_be_written_to_shows_before_the_work(command, checkpoint, monkeypatch):
    for name in ("train_steps", "sample_steps"):
        monkeypatch.setattr(__main__, name, lambda *arguments, **options: pytest.fail("the work has begun"))
    message = fail(*[word.format(checkpoint) for word in command])
    assert f"cannot be written: there is no folder {checkpoint}" in message


def test_missing_folders_are_made(checkpoint):
    succeed("train", "a/b/new.safetensors", *TINY)
    succeed("sample", checkpoint, "--out", "c/d/new.png")
    assert Path("a/b/new.safetensors").is_file() and Path("c/d/new.png").is_file()


def test_samples_are_pictures_in_one_file_and_the_seed_decides_them(checkpoint):
    for out, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        assert f"3 pictures in {out}" in succeed("sample", checkpoint, "--count", 3, "--out", out, "--seed", seed)
    a, b, c = (np.asarray(PIL.Image.open(out)) for out in ("a.png", "b.png", "c.png"))
    assert a.ndim == 3 and a.shape[1] > 2 * a.shape[0]  # three in a row
    assert (a == b).all() and (a != c).any()


def test_fewer_steps_are_taken_when_asked(checkpoint, monkeypatch):
    calls, forward = [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x_t, t: calls.append(t[0].item()) or forward(self, x_t, t))
    succeed("sample", checkpoint, "--count", 1, "--num-steps", 3)
    assert len(calls) == 3 and calls[0] == 9


@pytest.mark.parametrize("num_steps", [11, 0, -1])
def test_a_number_of_steps_that_the_schedule_does_not_have_is_refused(num_steps, checkpoint):
    assert "num_steps must be a whole number from 1 to 10" in fail("sample", checkpoint, "--num-steps", num_steps)
    assert not Path("samples.png").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sampling_computes_in_the_precision_that_is_asked_for(precision, checkpoint, monkeypatch):
    seen, forward = set(), UNet.forward

    def spied(self, x_t, t):
        seen.add(self.stem(x_t).dtype)
        return forward(self, x_t, t)

    monkeypatch.setattr(UNet, "forward", spied)
    succeed("sample", checkpoint, "--precision", precision)
    assert seen == {__main__.PRECISIONS[precision]}


@pytest.mark.parametrize("command", [["train", "new.safetensors", *TINY], ["sample", "tiny.safetensors"]])
def test_a_compiler_that_fails_is_told_and_the_work_is_done_without_it(command, checkpoint, monkeypatch):
    def broken(model, **options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    assert "torch.compile does not work here (no C++ compiler)" in succeed(*command, "--compile", "fuse")


@pytest.mark.parametrize("out", ["a.txt", "a", "a.safetensors"])
def test_samples_go_into_a_picture_file(out, checkpoint):
    assert "such as in .png" in fail("sample", checkpoint, "--out", out)


COMMANDS = [["sample"], ["train", "--resume"]]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kept", [0, 7, 8, 300, 20_000, -1])
def test_a_truncated_checkpoint_is_refused_and_left_as_it_was(kept, command, trained):
    path = Path("cut.safetensors")
    path.write_bytes(trained[:kept])
    before = path.read_bytes()
    assert "cut.safetensors is truncated, damaged or not a safetensors file" in fail(*command, path)
    assert path.read_bytes() == before


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_pickle_is_refused_unopened(save, command):
    path = Path("trap.safetensors")
    save(Trap(), path)
    assert "is a pickle" in fail(*command, path)
    assert not Path("sprung").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_is_no_checkpoint(command, folder):
    fail(*command, folder)


@pytest.fixture
def tiny_preset(monkeypatch) -> Preset:
    """A preset of the real kind that is done within a second."""

    def load():
        data = load_digit_scenes(1, 40)
        return data.pictures, data.captions

    preset = dataclasses.replace(
        PRESETS["digit-scenes"],
        load=load,
        unet=dict(channels=(8,)),
        text_dim=8,
        num_iterations=4,
        batch_size=4,
        betas=lambda: cosine_betas(60),
        prompts=("a red seven", "红色的七"),
        score=lambda model, schedule, guidance_scale: {"asked at guidance": guidance_scale},
    )
    monkeypatch.setitem(PRESETS, "digit-scenes", preset)
    return preset


@pytest.fixture
def text_checkpoint(tiny_preset) -> Path:
    succeed("train", "--preset", "digit-scenes")
    return Path("digit-scenes.safetensors")


def test_a_preset_leaves_a_scored_model_that_says_how_it_was_made(text_checkpoint, tiny_preset):
    finished = load_checkpoint(text_checkpoint)
    assert finished.training is None and finished.model.tokenizer.unknown_words("a red 红色的七") == []
    assert finished.notes["scores"] == {"asked at guidance": 3.0}
    assert finished.notes["command"] == "python -m ddpm_core train --preset digit-scenes"
    assert finished.notes["data_checksum"] == data_checksum(*tiny_preset.load())
    assert finished.notes["iterations"] == 4 and finished.notes["seconds"] >= 0 and "torch" in finished.notes["machine"]
    assert finished.notes["picture_size"] == [3, 8, 8]


def test_a_preset_shows_pictures_on_the_way(text_checkpoint):
    assert Path("runs/digit-scenes.safetensors").exists()
    assert PIL.Image.open("runs/digit-scenes.png").width > 100


def test_a_stopped_preset_goes_on_and_ends_as_an_uninterrupted_one_does(text_checkpoint, stop_training):
    finished = load_checkpoint(text_checkpoint)
    text_checkpoint.unlink()
    stop_training(2, KeyboardInterrupt())
    assert "Stopped at iteration 2." in succeed("train", "parts.safetensors", "--preset", "digit-scenes")
    assert not text_checkpoint.exists()
    assert "holds the finished model" in succeed("train", "parts.safetensors", "--resume")
    resumed = load_checkpoint(text_checkpoint)
    for weight, expected in zip(resumed.model.parameters(), finished.model.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_a_preset_decides_its_settings_itself(tiny_preset, folder):
    message = fail("train", "--preset", "digit-scenes", "--channels", "8", "--batch-size", "4")
    assert "leave out --channels, --batch-size" in message and list(folder.glob("**/*.safetensors")) == []


def test_the_command_that_is_noted_is_the_one_that_was_given(tiny_preset):
    succeed("train", "--preset", "digit-scenes", "--iterations", 3, "--seed", 5)
    notes = load_checkpoint("digit-scenes.safetensors").notes
    assert notes["command"] == "python -m ddpm_core train --preset digit-scenes --iterations 3 --seed 5"


def test_a_run_cannot_stand_where_its_finished_model_goes(tiny_preset):
    message = fail("train", "digit-scenes.safetensors", "--preset", "digit-scenes")
    assert "digit-scenes.safetensors is where the finished model goes" in message


def test_a_preset_cannot_go_on_with_another_checkpoint(checkpoint, tiny_preset):
    message = fail("train", checkpoint, "--preset", "digit-scenes", "--resume")
    assert "cannot go on with this checkpoint, which was made by no preset" in message


def test_training_without_a_name_or_a_preset_is_refused():
    assert "which --preset to make" in fail("train")


def test_prompts_become_pictures_and_the_seed_decides_them(text_checkpoint):
    for out, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        text = succeed("sample", text_checkpoint, "a red seven", "红色的七", "--out", out, "--seed", seed)
        assert f"2 pictures in {out}" in text and "Note" not in text
    a, b, c = (np.asarray(PIL.Image.open(out)) for out in ("a.png", "b.png", "c.png"))
    assert (a == b).all() and (a != c).any()


def test_the_count_is_for_each_prompt(text_checkpoint):
    assert "6 pictures" in succeed("sample", text_checkpoint, "a red seven", "红色的七", "--count", 3)


@pytest.mark.parametrize(
    "prompt, note",
    [
        ("a red zebra", "Note: 'a red zebra': no training caption had \"zebra\""),
        ("zebra", "Note: no word of 'zebra' was in any training caption"),
        ("", "Note: an empty prompt sets no condition"),
    ],
)
def test_what_a_model_cannot_use_of_a_prompt_is_said_and_the_rest_is_drawn(prompt, note, text_checkpoint):
    text = succeed("sample", text_checkpoint, prompt)
    assert note in text and text.count("Note") == 1 and "1 pictures" in text


@pytest.mark.parametrize(
    "options, words",
    [
        (["a " * 30], "has 30 words, and this model reads"),
        (["a red seven", "--guidance-scale", "-1"], "guidance_scale must be 0 or more"),
        (["a red seven", "--num-steps", "0"], "num_steps must be a whole number from 1 to 60"),
        (["--model", "emoji"], "not both"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(options, words, text_checkpoint):
    assert words in fail("sample", text_checkpoint, *options)


@pytest.mark.parametrize("options", [["a red seven"], ["--negative", "red"], ["--guidance-scale", "2"]])
def test_a_checkpoint_without_text_takes_no_prompts(options, checkpoint):
    assert "reads no text" in fail("sample", checkpoint, *options)


def test_guidance_and_the_negative_prompt_reach_the_sampler(text_checkpoint, monkeypatch):
    asked = []
    generate = __main__.generate

    def spied(model, schedule, prompts, shape, guidance_scale, negative, num_steps, seed):
        asked.append((prompts, shape, guidance_scale, negative, num_steps, seed))
        return generate(model, schedule, prompts, shape, guidance_scale, negative, num_steps, seed)

    monkeypatch.setattr(__main__, "generate", spied)
    succeed("sample", text_checkpoint, "red 7", "--guidance-scale", 0, "--negative", "blue", "--num-steps", 5)
    succeed("sample", text_checkpoint)
    assert asked == [(["red 7"], (3, 8, 8), 0.0, "blue", 5, 0), ([""] * 16, (3, 8, 8), 3.0, "", None, 0)]


def test_a_wrong_profile_is_one_sentence(checkpoint, monkeypatch):
    monkeypatch.setenv("DDPM_PROFILE", "tpu")
    assert "DDPM_PROFILE" in fail("sample", checkpoint)


def test_the_doctor_is_content_when_there_is_nothing_to_fix(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: iter([doctor.Finding("torch", "2.9")]))
    text = succeed("doctor")
    assert text.split() == ["torch", "2.9", "All", "is", "well."]


def test_the_doctor_ends_with_an_error_code_when_there_is_something_to_fix(monkeypatch):
    findings = [doctor.Finding("torch", "2.9"), doctor.Finding("disk", "full", "make room")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    result = run("doctor")
    assert result.exit_code == 1
    assert "-> make room" in result.output and "1 to fix, marked -> above." in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_ctrl_c_saves_and_says_so_and_resume_goes_on():
    path = Path("long.safetensors")
    endless = ["train", path, *TINY, "--iterations", "1000000", "--save-every", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ddpm_core", *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background makes its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        give_up_at = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < give_up_at:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in err
    reached = iterations_in(path)
    assert f"Stopped at iteration {reached}." in out and f"{path} holds iteration {reached}." in out
    assert not list(Path().glob("*.tmp"))  # no unfinished file beside it
    succeed("train", path, "--resume", "--iterations", reached + 2)
    assert iterations_in(path) == reached + 2


def test_a_real_process_ends_with_one_sentence_and_an_error_code():
    command = [sys.executable, "-m", "ddpm_core", "sample", "none.safetensors"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "Error: there is no checkpoint at none.safetensors\n"


READY = doctor.Finding("kernel", "starts and answers")
BROKEN = doctor.Finding("kernel", "does not start", "make setup")


@pytest.mark.parametrize("finding, exit_code, begins", [(READY, 0, "READY  "), (BROKEN, 1, "NOT READY  kernel: ")])
def test_before_a_class_the_doctor_rehearses_and_ends_with_a_line_for_the_teacher(
    finding, exit_code, begins, monkeypatch
):
    monkeypatch.setattr(doctor, "examine", lambda: iter([doctor.Finding("torch", "2.9")]))
    monkeypatch.setattr(doctor, "rehearse", lambda: iter([finding]))
    result = run("doctor", "--room")
    lines = result.output.splitlines()
    assert result.exit_code == exit_code and isinstance(result.exception, SystemExit | None)
    assert any(line.startswith("kernel ") for line in lines)
    assert lines[-1].startswith(begins) and lines[-1].endswith(f"code {doctor.course_code()}")


def test_at_other_times_the_doctor_does_not_rehearse(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: iter([doctor.Finding("torch", "2.9")]))
    monkeypatch.setattr(doctor, "rehearse", lambda: pytest.fail("nobody asked for it"))
    assert "READY" not in succeed("doctor")
