"""The command line: most of it in this process, which is fast, and Ctrl-C in a real one."""

import dataclasses
import math
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file

from ddpm_core import (
    CLIP,
    EmojiDataset,
    ImageEncoder,
    NoiseSchedule,
    TextEncoder,
    Tokenizer,
    TrainingState,
    UNet,
    clip_of,
    cosine_betas,
    draw_from_vectors,
    generate,
    index_pictures,
    load_checkpoint,
    load_digit_scenes,
    save_checkpoint,
    shipped_checkpoint,
    super_resolved,
    super_resolver_of,
    training,
    unclip,
    write_shards,
)
from ddpm_core import __main__ as command_line
from ddpm_core.__main__ import main
from ddpm_core.checkpoint import model_checksum
from ddpm_core.course import doctor
from ddpm_core.scale import draw as drawing
from ddpm_core.scale import picture_search
from ddpm_core.scale import run as runs
from ddpm_core.scale import settings as jobs
from ddpm_core.scale.recipes import PRESETS, Preset, data_checksum
from ddpm_core.support import memory
from ddpm_core.support.pixels import from_bytes, read_square, write_pictures

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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> bytes:
    """A checkpoint that the command line made, with 5 iterations done."""
    path = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    succeed("train", path, *TINY)
    return path.read_bytes()


@pytest.fixture
def checkpoint(trained) -> Path:
    """That checkpoint in the folder of the test."""
    path = Path("tiny.safetensors")
    path.write_bytes(trained)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def fail(*arguments: object) -> str:
    """The line, always the last, that says what is wrong."""
    result = run(*arguments)
    # Where click runs for real, any other exception than SystemExit is a traceback.
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), repr(result.exception)
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def content(path: Path | str) -> dict:
    """All that a checkpoint holds. (Not its bytes: safetensors writes the entries of its header in any order.)"""
    with safe_open(path, framework="np") as file:
        return file.metadata() | {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


def iterations_in(path: Path | str) -> int:
    return len(load_checkpoint(path).training["losses"])


# train


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


@pytest.mark.parametrize("path", ["a/b/new.safetensors", "my runs/it's $HOME & (new).safetensors"])
def test_training_tells_the_next_command_and_that_one_works(path):
    text = succeed("train", path, *TINY, "--tensorboard")  # folders are made
    assert "new" in text and "holds iteration 5." in text
    look, history = (line for line in text.splitlines() if "python -m ddpm_core" in line or "--logdir" in line)
    if os.name == "posix":
        assert "16 pictures in samples.png" in succeed(*shlex.split(look.split("python -m ddpm_core ")[1]))
        assert shlex.split(history)[-2:] == ["--logdir", str(Path(path).parent)]


def test_a_run_that_goes_on_keeps_what_it_was_started_with_however_that_is_written():
    succeed("train", "new.safetensors", *TINY)
    before, history = load_checkpoint("new.safetensors"), Path("new.csv").read_text()
    same = ["--timesteps", 10, "--channels", " 8", "--seed", 0, "--data", "Digits"]
    assert "holds iteration 7." in succeed("train", "new.safetensors", "--resume", "--iterations", 7, *same)
    after = load_checkpoint("new.safetensors")
    assert after.model.config == before.model.config and len(after.schedule) == 10
    assert after.notes == before.notes | {"iterations": 7, "num_iterations": 7}
    assert Path("new.csv").read_text().startswith(history)  # with the learning rates that were used


@pytest.fixture
def interrupt(monkeypatch):
    """Makes every training run meet Ctrl-C after so many iterations."""
    train = runs.train

    def at(iteration: int, times: int = 1) -> None:
        def interrupted(*arguments, **options):
            for state in train(*arguments, **options):
                for _ in range(times if state.iteration == iteration else 0):
                    signal.raise_signal(signal.SIGINT)
                yield state

        monkeypatch.setattr(runs, "train", interrupted)

    return at


def test_a_stopped_and_resumed_run_ends_as_an_uninterrupted_one_does(checkpoint, interrupt):
    interrupt(3)
    assert "Stopped at iteration 3." in succeed("train", "parts.safetensors", *TINY)
    assert iterations_in("parts.safetensors") == 3
    succeed("train", "parts.safetensors", "--resume")
    assert content("parts.safetensors") == content(checkpoint)


def test_a_second_ctrl_c_leaves_the_last_save(interrupt):
    interrupt(3, times=2)
    assert "stopped at once" in fail("train", "new.safetensors", *TINY, "--save-every", 2)
    assert iterations_in("new.safetensors") == 2


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
def test_a_run_does_not_go_on_with_other_settings(checkpoint, trained, options, was, is_now):
    message = fail("train", checkpoint, "--resume", "--iterations", 9, *options)
    assert f"begun with {was}, and cannot go on with {is_now}" in message
    assert checkpoint.read_bytes() == trained


def test_a_run_goes_on_with_the_data_that_its_checkpoint_names(monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "load_pictures", lambda name: asked.append(name) or (-torch.ones(10, 1, 8, 8), None))
    succeed("train", "mnist.safetensors", *TINY, "--data", "MNIST")
    succeed("train", "mnist.safetensors", "--resume", "--iterations", 6)
    assert asked == ["MNIST", "MNIST"]


def test_checkpoints_are_saved_on_the_way_and_the_last_iteration_once(monkeypatch):
    seen, train = [], runs.train

    def spied(*arguments, **options):
        for state in train(*arguments, **options):
            yield state
            seen.append(iterations_in("new.safetensors") if Path("new.safetensors").exists() else 0)

    monkeypatch.setattr(runs, "train", spied)
    succeed("train", "new.safetensors", *TINY, "--iterations", 6, "--save-every", 2)
    assert seen == [0, 2, 2, 4, 4, 6]
    assert iterations_in("new.older1.safetensors") == 4


@pytest.mark.parametrize("name", ["thesis.safetensors", "thesis.csv"])
def test_what_is_there_already_is_left_as_it_was(name, folder):
    Path(name).write_text("my thesis")
    assert f"{name} exists already" in fail("train", "thesis.safetensors", *TINY)
    assert Path(name).read_text() == "my thesis" and list(folder.iterdir()) == [folder / name]


NEW = ["train", "new.safetensors", *TINY]


@pytest.mark.parametrize(
    "command, words",
    [
        ([*NEW, "--data", "letters"], ["'letters'", "it can be digits, MNIST"]),
        ([*NEW, "--data", "~nobody-here/letters"], ["'~nobody-here/letters'", "it can be digits, MNIST"]),
        ([*NEW, "--data", "letters/*"], ["no shard matches * in letters"]),
        ([*NEW, "--channels", "8,x"], ["--channels must be", "'8,x'"]),
        ([*NEW, "--channels", "12"], ["--channels must be multiples of 8"]),
        ([*NEW, "--channels", "8,8,8,8,8"], ["8x8", "4 times"]),
        ([*NEW, "--channels", "8000000"], ["not enough memory", "--batch-size"]),
        ([*NEW, "--seed", 2**70], ["--seed"]),
        ([*NEW, "--workers", 2], ["--workers is for tar files"]),
        ([*NEW, "--picture-size", 16], ["--picture-size is for pictures with captions"]),
        ([*NEW, "--speed", 9], ["--speed"]),
        ([*NEW, "--compile", "graphs"], ["--compile graphs is for GPUs"]),
        (["train"], ["--preset"]),
        (["train", "none.safetensors", "--resume"], ["no checkpoint at none.safetensors", "--resume"]),
        (["train", "digits", *TINY], [".safetensors", "got digits"]),
        (["train", "digits.csv", *TINY], [".safetensors", "got digits.csv"]),
        (["train", ".", *TINY], ["directory"]),
    ],
)
def test_a_training_that_cannot_be_is_one_sentence_and_leaves_no_file_behind(command, words, folder):
    message = fail(*command)
    assert all(word in message for word in words), message
    assert list(folder.iterdir()) == []


NUMBERS = {
    "train": ["iterations", "batch-size", "learning-rate", "timesteps", "picture-size", "min-snr-gamma", "save-every"],
    "sample": ["count", "num-steps", "guidance-scale"],
}


@pytest.mark.parametrize("value", ["0", "-1", "nan", "many"])
@pytest.mark.parametrize("command, option", [(name, option) for name in NUMBERS for option in NUMBERS[name]])
def test_a_number_that_is_none_is_told_by_the_name_of_its_option(command, option, value, text_checkpoint):
    if (option, value) == ("guidance-scale", "0"):
        return  # which ignores the prompt
    rest = ["new.safetensors", *TINY] if command == "train" else [text_checkpoint, "a red seven"]
    message = fail(command, *rest, f"--{option}", value)
    assert f"--{option}" in message and option.replace("-", "_") not in message.replace(f"--{option}", "")
    assert value in message


@pytest.mark.parametrize("option", ["workers", "keep", "seed"])
def test_a_number_that_may_be_0_may_not_be_less(option):
    assert f"--{option}" in fail(*NEW, f"--{option}", -1)


@pytest.mark.parametrize("save_every", [1, 500])
def test_a_run_that_diverges_at_once_says_why_and_leaves_no_checkpoint_behind(save_every, folder):
    diverging = ["--iterations", 200, "--learning-rate", "1e30", "--save-every", save_every]
    message = fail(*NEW, *diverging)
    assert "loss" in message and "--learning-rate" not in message and "1e+30" in message
    assert list(folder.glob("*.safetensors")) == []


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
@pytest.mark.parametrize(
    "iterations, save_every, newest, older", [(150, 5, 55, 55), (150, 9, 54, 45), (150, 40, 50, 40), (63, 5, 55, 55)]
)
def test_a_divergence_that_is_seen_late_leaves_sound_checkpoints_only(iterations, save_every, newest, older):
    message = fail(*NEW, "--iterations", iterations, "--save-every", save_every)
    assert "iteration 60" in message and "iteration 50" in message
    assert_sound(newest, older)


@pytest.mark.usefixtures("no_number_from_the_61st_loss_on")
def test_stopping_before_a_divergence_is_seen_leaves_sound_checkpoints_only(interrupt):
    interrupt(62)
    assert "holds iteration 55." in succeed(*NEW, "--iterations", 150, "--save-every", 5)
    assert_sound(55)


def test_a_spoilt_checkpoint_is_put_aside_and_the_older_one_stays():
    succeed(*NEW, "--save-every", 2)
    Path("new.safetensors").write_bytes(b"spoilt")
    assert "new.older1.safetensors" in succeed("train", "new.safetensors", "--resume", "--save-every", 3)
    assert iterations_in("new.safetensors") == 5 and iterations_in("new.older1.safetensors") == 4
    assert Path("new.safetensors.damaged").read_bytes() == b"spoilt"


def test_a_run_that_is_done_is_not_saved_again_and_not_undone(checkpoint, trained):
    said = succeed("train", checkpoint, "--resume")
    assert "holds iteration 5." in said and "5 iterations were done before" in said and "--iterations" in said
    assert "--iterations 3 is less than the 5" in fail("train", checkpoint, "--resume", "--iterations", 3)
    assert checkpoint.read_bytes() == trained and not list(Path().glob("*.older*"))


def test_a_checkpoint_without_notes_goes_on():
    state, schedule = TrainingState(UNet(1, (8,))), NoiseSchedule(cosine_betas(10))
    save_checkpoint("mine.safetensors", state, schedule, with_training=True)
    assert "holds iteration 3." in succeed("train", "mine.safetensors", "--resume", "--iterations", 3)


def test_a_network_that_does_not_fit_the_data_leaves_the_checkpoint_as_it_was(checkpoint, trained, monkeypatch):
    monkeypatch.setattr(jobs, "load_pictures", lambda name: (-torch.ones(10, 3, 32, 32), None))
    assert "3 channels" in fail("train", checkpoint, "--resume", "--iterations", 9)
    assert checkpoint.read_bytes() == trained


# train on tar files


@pytest.fixture
def shards() -> list:
    data = EmojiDataset(32, ["noto"])
    write_shards("shards", data.pictures[:40], data.captions("en")[:40], 10)
    return ["--data", "shards/*.tar", "--picture-size", 8, "--iterations", 6, "--batch-size", 4, "--channels", "8"]


def test_captioned_pictures_from_tar_files_are_learnt_and_drawn(shards, interrupt):
    succeed("train", "whole.safetensors", *shards)
    interrupt(3)
    succeed("train", "parts.safetensors", *shards)
    Path("shards").rename("elsewhere")  # between two parts of a run
    succeed("train", "parts.safetensors", "--resume", "--data", "elsewhere")
    assert iterations_in("parts.safetensors") == 6
    assert content("parts.safetensors")["losses"] == content("whole.safetensors")["losses"]
    assert "2 pictures" in succeed("sample", "whole.safetensors", "grinning face", "red apple", "--num-steps", 3)


def test_a_folder_of_pictures_with_captions_is_learnt_and_drawn(interrupt):
    emoji = EmojiDataset(32, ["noto"])
    folder = Path("photos")
    folder.mkdir()
    for i in range(12):
        write_pictures(emoji.pictures[i : i + 1], folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(emoji.caption(i))
    (folder / "phone.heic").write_bytes(b"")
    (folder / "phone.txt").write_text("a phone")
    command = ["--data", "photos", "--picture-size", 8, "--iterations", 6, "--batch-size", 4, "--channels", "8"]
    output = succeed("train", "whole.safetensors", *command)
    assert "photos: 12 pictures with 12 captions; 1 skipped: phone.heic" in output
    interrupt(3)
    succeed("train", "parts.safetensors", *command)
    succeed("train", "parts.safetensors", "--resume")
    assert content("parts.safetensors")["losses"] == content("whole.safetensors")["losses"]
    assert "2 pictures" in succeed("sample", "whole.safetensors", emoji.caption(3), "apple", "--num-steps", 3)
    (folder / "03.txt").write_text("something else")
    assert "the data are not those" in fail("train", "parts.safetensors", "--resume", "--iterations", 9)


def test_captions_are_learnt_with_the_weighting_that_the_course_recommends(shards, checkpoint):
    succeed("train", "weighted.safetensors", *shards)
    succeed("train", "alike.safetensors", *shards, "--min-snr-gamma", 1e9)
    assert load_checkpoint("weighted.safetensors").notes["min_snr_gamma"] == 1
    assert content("weighted.safetensors")["losses"][0] < 0.9 * content("alike.safetensors")["losses"][0]
    assert "min_snr_gamma" not in load_checkpoint(checkpoint).notes


def test_tar_files_that_are_others_than_before_are_refused(shards):
    succeed("train", "new.safetensors", *shards)
    Path("shards/00003.tar").rename("shards/00004.tar")
    assert "the data are not those" in fail("train", "new.safetensors", "--resume", "--iterations", 9)
    message = fail("train", "new.safetensors", "--resume", "--iterations", 9, "--picture-size", 16)
    assert "begun with --picture-size 8, and cannot go on with --picture-size 16" in message


@pytest.mark.parametrize(
    "options, words",
    [
        (["--data", "shards/x*.tar"], "no shard matches x*.tar in shards"),
        (["--data", "shards/{00000..00009}.tar"], "there is no shard shards/00004.tar"),
        (["--data", "empty"], "empty has no pictures; they end in"),
        (["--data", "empty.tar"], "empty.tar has no captions, or is not a tar file"),
        (["--data", "shards/00000.tar", "shards/00001.tar"], "in quotes: --data 'shards/*.tar'"),
    ],
)
def test_tar_files_that_are_none_are_named(options, words, shards):
    Path("empty").mkdir()
    tarfile.open("empty.tar", "w").close()
    assert words in fail("train", "new.safetensors", *shards, *options)
    assert not Path("new.safetensors").exists()


def test_a_caption_as_long_as_a_page_is_cut(monkeypatch, shards):
    monkeypatch.setattr(jobs, "WORDS_AT_MOST", 5)
    write_shards("long", -torch.ones(4, 3, 8, 8), ["one two three four five six seven"] * 4)
    succeed("train", "new.safetensors", *shards, "--data", "long")
    assert load_checkpoint("new.safetensors").model.tokenizer.max_length == 6


# train by a preset


@pytest.fixture(scope="module")
def tiny_preset() -> Preset:
    """A preset of the real kind that is done within a second."""

    def load():
        data = load_digit_scenes(1, 40, as_bytes=True)
        return data.pictures, data.captions

    preset = dataclasses.replace(
        PRESETS["digit-scenes"],
        load=load,
        unet=dict(channels=(8,)),
        text_dim=8,
        num_iterations=4,
        options=PRESETS["digit-scenes"].options | dict(batch_size=4),
        schedule=NoiseSchedule(cosine_betas(60)),
        prompts=("a red seven", "红色的七"),
        score=lambda model, schedule, guidance_scale: {"asked at guidance": guidance_scale},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "digit-scenes", preset)
        yield preset


@pytest.fixture(scope="module")
def published(tiny_preset, tmp_path_factory) -> Path:
    """The folder in which the preset was made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("published"))
        succeed("train", "--preset", "digit-scenes")
        return Path.cwd()


@pytest.fixture
def text_checkpoint(published) -> Path:
    path = Path("text.safetensors")
    path.write_bytes((published / "digit-scenes.safetensors").read_bytes())
    return path


def test_a_preset_leaves_a_scored_model_that_says_how_it_was_made_and_pictures_on_the_way(published, tiny_preset):
    finished = load_checkpoint(published / "digit-scenes.safetensors")
    assert finished.training is None and finished.model.tokenizer.unknown_words("a red 红色的七") == []
    assert finished.notes["scores"] == {"asked at guidance": 3.0}
    assert finished.notes["command"] == "python -m ddpm_core train --preset digit-scenes"
    assert finished.notes["data_checksum"] == data_checksum(*tiny_preset.load())
    assert finished.notes["iterations"] == 4 and finished.notes["seconds"] >= 0 and "torch" in finished.notes["machine"]
    assert finished.notes["picture_size"] == [3, 28, 28]
    assert iterations_in(published / "runs/digit-scenes.safetensors") == 4
    assert PIL.Image.open(published / "runs/digit-scenes.png").width > 100


def test_a_stopped_preset_goes_on_and_ends_as_an_uninterrupted_one_does(published, interrupt):
    interrupt(2)
    assert "Stopped at iteration 2." in succeed("train", "parts.safetensors", "--preset", "digit-scenes")
    assert not Path("digit-scenes.safetensors").exists()
    assert "holds the finished model" in succeed("train", "parts.safetensors", "--resume")
    finished, resumed = (load_checkpoint(folder / "digit-scenes.safetensors").model for folder in (published, Path()))
    for weight, expected in zip(resumed.parameters(), finished.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_the_command_that_is_noted_is_the_one_that_was_given(tiny_preset):
    succeed("train", "--preset", "digit-scenes", "--iterations", 3, "--seed", 5)
    notes = load_checkpoint("digit-scenes.safetensors").notes
    assert notes["command"] == "python -m ddpm_core train --preset digit-scenes --iterations 3 --seed 5"


def test_a_finished_model_is_overwritten_by_the_run_alone_that_made_it(tiny_preset):
    command, finished = ["train", "--preset", "digit-scenes"], Path("digit-scenes.safetensors")
    finished.write_text("my thesis")
    assert "digit-scenes.safetensors exists already" in fail(*command)
    assert finished.read_text() == "my thesis" and not Path("runs/digit-scenes.safetensors").exists()
    finished.unlink()
    succeed(*command)
    assert "digit-scenes.safetensors exists already" in fail("train", "again.safetensors", *command[1:])
    assert load_checkpoint(finished).notes["iterations"] == 4 and not Path("again.safetensors").exists()
    succeed(*command, "--resume", "--iterations", 5)
    assert load_checkpoint(finished).notes["iterations"] == 5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--batch-size", 4, "--channels", 8], "leave out --batch-size, --channels"),
        (["--timesteps", 9, "--workers", 0], "leave out --timesteps, --workers"),
        (["digit-scenes.safetensors"], "digit-scenes.safetensors is where the finished model goes"),
        (["tiny.safetensors", "--resume"], "made by no preset"),
    ],
)
def test_a_preset_decides_for_itself(arguments, words, checkpoint, tiny_preset):
    assert words in fail("train", "--preset", "digit-scenes", *arguments)


# sample


def pixels(*arguments: object) -> np.ndarray:
    """What sample draws into a file in a folder that it has to make."""
    succeed("sample", *arguments, "--out", "a/b/drawn.png")
    return np.asarray(PIL.Image.open("a/b/drawn.png"))


def test_samples_are_pictures_in_one_file_and_the_seed_decides_them(checkpoint):
    a, b, c = (pixels(checkpoint, "--count", 3, "--seed", seed) for seed in (0, 0, 1))
    assert a.ndim == 3 and a.shape[1] > 2 * a.shape[0]  # three in a row
    assert (a == b).all() and (a != c).any()


def test_prompts_become_pictures_and_the_seed_decides_them(text_checkpoint):
    a, b, c = (pixels(text_checkpoint, "a red seven", "红色的七", "--seed", seed) for seed in (0, 0, 1))
    assert (a == b).all() and (a != c).any()
    assert "6 pictures" in succeed("sample", text_checkpoint, "a red seven", "红色的七", "--count", 3)  # of each


@pytest.fixture
def drawn(monkeypatch):
    """What sample would write into the file, (B, C, H, W), in parts of so many pictures."""

    def drawn(*arguments: object, at_once: int = 99, side: int = 28) -> torch.Tensor:
        kept = []
        monkeypatch.setattr(command_line, "write_pictures", lambda pictures, out: kept.append(pictures))
        monkeypatch.setattr(memory, "PIXELS_AT_ONCE", at_once * side**2)
        succeed("sample", *arguments, "--num-steps", 5)
        return kept[0]

    return drawn


@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_many_pictures_are_drawn_in_parts_and_are_the_same_ones(
    drawn, at_once, checkpoint, text_checkpoint, monkeypatch
):
    sizes, forward = [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x_t, *rest: sizes.append(len(x_t)) or forward(self, x_t, *rest))
    with_text = [text_checkpoint, "a red seven", "--guidance-scale", 1]
    for command, side in (([checkpoint], 8), (with_text, 28)):
        command = [*command, "--count", 5, "--seed", 3]
        together = drawn(*command)
        sizes.clear()
        torch.testing.assert_close(drawn(*command, at_once=at_once, side=side), together, rtol=0, atol=1e-4)
        assert max(sizes) == at_once and sum(sizes) == 5 * 5


def test_a_network_that_predicts_x_0_is_asked_for_that(drawn):
    unet = UNet(1, (8,), predicts="x_0")  # untrained, it says 0 everywhere, and so every picture is grey
    save_checkpoint(
        "x_0.safetensors", TrainingState(unet), NoiseSchedule(cosine_betas(10)), dict(picture_size=[1, 8, 8])
    )
    torch.testing.assert_close(drawn("x_0.safetensors", "--count", 2), torch.zeros(2, 1, 8, 8), rtol=0, atol=1e-6)


def test_the_third_of_four_is_drawn_again_alone_with_the_seed_that_is_told(drawn, checkpoint, text_checkpoint):
    assert "4 pictures in samples.png, with the seeds 3 to 6" in succeed(
        "sample", checkpoint, "--count", 4, "--seed", 3
    )
    four = drawn(checkpoint, "--count", 4, "--seed", 3)
    torch.testing.assert_close(drawn(checkpoint, "--count", 1, "--seed", 5)[0], four[2], rtol=0, atol=1e-4)
    prompts = ["a red seven", "红色的七", "a blue three", "green 4"]
    four = drawn(text_checkpoint, *prompts, "--seed", 3)
    torch.testing.assert_close(drawn(text_checkpoint, prompts[2], "--seed", 5)[0], four[2], rtol=0, atol=1e-4)
    assert (four[1] - four[2]).abs().max() > 0.1


def test_a_note_on_a_prompt_that_is_drawn_in_parts_is_told_once(text_checkpoint, monkeypatch):
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 28 * 28)
    assert succeed("sample", text_checkpoint, "zebra", "--count", 3, "--num-steps", 2).count("Note") == 1


def test_fewer_steps_are_taken_when_asked(checkpoint, monkeypatch):
    calls, forward = [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x_t, t: calls.append(t[0].item()) or forward(self, x_t, t))
    succeed("sample", checkpoint, "--count", 1, "--num-steps", 3)
    assert len(calls) == 3 and calls[0] == 9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sampling_computes_in_the_precision_that_is_asked_for(precision, checkpoint, monkeypatch):
    seen, forward = set(), UNet.forward

    def spied(self, x_t, t):
        seen.add(self.stem(x_t).dtype)
        return forward(self, x_t, t)

    monkeypatch.setattr(UNet, "forward", spied)
    succeed("sample", checkpoint, "--precision", precision)
    assert seen == {getattr(torch, precision)}


@pytest.mark.parametrize("command", [NEW, ["sample", "tiny.safetensors"]])
def test_a_compiler_that_fails_is_told_and_the_work_is_done_without_it(command, checkpoint, monkeypatch):
    def fail(model, **options):
        raise RuntimeError("not on this system")

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    assert "torch.compile does not work here (not on this system)" in succeed(*command, "--compile", "fuse")


@pytest.mark.parametrize(
    "arguments, note",
    [
        (["a red seven"], None),
        (["a red zebra"], "'a red zebra': no training caption had \"zebra\""),
        (["zebra"], "no word of 'zebra'"),
        ([""], "empty prompt"),
        (["a red seven", "--negative", "blue", "--guidance-scale", 1], "only where --guidance-scale is above 1"),
    ],
)
def test_what_a_model_cannot_use_of_a_prompt_is_said_and_the_rest_is_drawn(arguments, note, text_checkpoint):
    text = succeed("sample", text_checkpoint, *arguments, "--num-steps", 2)
    assert text.count("Note") == (note is not None) and (note or "") in text and "1 picture " in text


def test_guidance_and_the_negative_prompt_reach_the_sampler(text_checkpoint, monkeypatch):
    asked, generate = [], drawing.generate

    def noted(model, schedule, prompts, shape, guidance_scale, **options):
        asked.append((prompts, shape, guidance_scale, options))
        return generate(model, schedule, prompts, shape, guidance_scale, **options)

    monkeypatch.setattr(drawing, "generate", noted)
    succeed("sample", text_checkpoint, "red 7", "--guidance-scale", 0, "--negative", "blue", "--num-steps", 5)
    succeed("sample", text_checkpoint, "--sampler", "ddim")
    by_default = dict(negative_prompt="", num_steps=50, seed=0, sampler="ddim", clip_x_0=True)
    as_told = by_default | dict(negative_prompt="blue", num_steps=5, sampler="ddpm")
    assert asked == [(["red 7"], (3, 28, 28), 0.0, as_told), ([""] * 16, (3, 28, 28), 3.0, by_default)]


def test_each_sampler_draws_its_own_way_with_prompts_and_without(drawn, checkpoint, text_checkpoint):
    for arguments in ([checkpoint], [text_checkpoint, "red 7"]):
        ddpm, ddim, again, solver = (
            drawn(*arguments, "--sampler", name) for name in ("ddpm", "ddim", "ddim", "dpm-solver")
        )
        assert torch.equal(ddim, again)
        assert not torch.equal(ddpm, ddim) and not torch.equal(ddim, solver)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["text.safetensors", "a " * 30], "30 words"),
        (["text.safetensors", "a " * 300], "300 words"),
        (["text.safetensors", "7", "--negative", "red " * 30], "--negative 'red red red"),
        (["text.safetensors", "7", "--guidance-scale", "1e39"], "is no number, and so no picture: lower --guidance"),
        (["text.safetensors", "--model", "emoji"], "not both"),
        (["text.safetensors", "--num-steps", 61], "--num-steps must be a whole number from 1 to 60"),
        (["text.safetensors", "--seed", 2**70], "--seed"),
        (["text.safetensors", "--sampler", "euler"], "ddpm"),
        (["text.safetensors", "--compile", "graphs"], "--compile graphs is for GPUs"),
        (["tiny.safetensors", "a red seven"], "reads no text"),
        (["tiny.safetensors", "--negative", "red"], "reads no text"),
        (["tiny.safetensors", "--guidance-scale", 2], "reads no text"),
        (["tiny.safetensors", "--num-steps", 11], "--num-steps must be a whole number from 1 to 10"),
        (["tiny.safetensors", "--out", "a.txt"], "--out must"),
        (["tiny.safetensors", "--out", "a"], "--out must"),
        (["tiny.safetensors", "--out", "a.psd"], "--out must"),  # which Pillow can read only
        (["tiny.safetensors", "--out", "a.xbm"], "--out must"),  # which has no colours
        (["tiny.safetensors", "--out", "tiny.safetensors/a.png"], "no folder tiny.safetensors"),
        (["tiny"], "say tiny.safetensors"),  # a file is not taken for a prompt
        (["notes.txt"], "no checkpoint"),
        (["my cat.png"], "my cat.png is a picture, no prompt: variations of it are drawn by vary 'my cat.png'"),
        (["emoji", "rocket"], "say --model emoji"),  # nor the name of a model
        (["stable-diffusion"], "say --model stable-diffusion"),
        (["dalle2"], "say --model dalle2"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(arguments, words, checkpoint, text_checkpoint):
    Path("notes.txt").touch()
    Path("my cat.png").touch()
    assert words in fail("sample", *arguments)
    assert list(Path().glob("*.png")) == [Path("my cat.png")]


def test_after_a_checkpoint_or_a_model_its_name_is_a_prompt_like_any_other(text_checkpoint):
    assert "2 pictures" in succeed("sample", text_checkpoint, "emoji", "rocket", "--num-steps", 2)


def test_a_file_that_cannot_be_written_shows_before_the_work_and_what_is_there_stays(checkpoint, monkeypatch):
    monkeypatch.setattr(command_line, "draw", lambda *_, **__: pytest.fail("the work has begun"))
    assert "cannot be written" in fail("sample", checkpoint, "--out", "a" * 300 + ".png")
    monkeypatch.setattr(command_line, "draw", lambda *_, **__: torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr(command_line, "write_pictures", lambda pictures, out: None)
    succeed("sample", checkpoint, "--out", "new.png")
    assert not Path("new.png").exists()
    Path("old.png").write_text("my holidays")
    succeed("sample", checkpoint, "--out", "old.png")
    assert Path("old.png").read_text() == "my holidays"


def test_a_network_that_draws_nothing_is_named():
    save_checkpoint("reader.safetensors", TrainingState(ImageEncoder(3, (8,))), None, with_training=True)
    assert "holds the network ImageEncoder, which draws no pictures" in fail("sample", "reader.safetensors")
    assert "holds the network ImageEncoder" in fail("train", "reader.safetensors", "--resume")


# train and sample in the latents of an autoencoder


@pytest.fixture
def latent_preset(latent_pair, monkeypatch) -> Preset:
    """A preset of that kind, with two captions for each picture, that is done within a second."""
    pictures = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    captions = ["noto cat", "noto rocket", "cat", "火 noto", "火 箭", "火"]
    preset = dataclasses.replace(
        PRESETS["stable-diffusion"],
        load=lambda: (pictures, captions),
        unet=dict(channels=(8,), predicts="x_0"),
        text_dim=8,
        num_iterations=4,
        options=PRESETS["stable-diffusion"].options | dict(batch_size=4),
        schedule=NoiseSchedule(cosine_betas(60)),
        prompts=("noto cat", "火 箭"),
        score=lambda model, schedule, guidance_scale, autoencoder: {"channels": autoencoder.config["in_channels"]},
    )
    monkeypatch.setitem(PRESETS, "stable-diffusion", preset)
    return preset


def weights(part: torch.nn.Module) -> list[torch.Tensor]:
    return list(part.state_dict().values())


def test_a_latent_model_is_trained_beside_a_frozen_text_encoder_and_goes_on_as_if_never_stopped(
    latent_preset, latent_pair, interrupt, monkeypatch
):
    given, train = [], runs.train
    monkeypatch.setattr(runs, "train", lambda *rest, **options: given.append(rest[2]) or train(*rest, **options))
    succeed("train", "whole.safetensors", "--preset", "stable-diffusion")
    whole = load_checkpoint("stable-diffusion.safetensors")
    autoencoder = load_checkpoint(latent_pair / "autoencoder.safetensors").model
    pictures, captions = latent_preset.load()
    assert torch.equal(given[0], autoencoder.encode(pictures / 127.5 - 1).repeat(2, 1, 1, 1))
    assert whole.notes["autoencoder"] == model_checksum(autoencoder) and whole.notes["scores"] == {"channels": 3}
    assert whole.notes["picture_size"] == [3, 16, 16] and PIL.Image.open("whole.png").width > 100
    interrupt(2)
    Path("stable-diffusion.safetensors").unlink()
    assert "Stopped at iteration 2." in succeed("train", "parts.safetensors", "--preset", "stable-diffusion")
    succeed("train", "parts.safetensors", "--resume")
    assert content("parts.safetensors")["losses"] == content("whole.safetensors")["losses"]
    resumed, clip = load_checkpoint("stable-diffusion.safetensors"), load_checkpoint(latent_pair / "clip.safetensors")
    assert all(map(torch.equal, weights(resumed.model), weights(whole.model)))
    unrounded = load_checkpoint("whole.safetensors").model
    assert all(map(torch.equal, weights(unrounded.text_encoder), weights(clip.model.text_encoder)))
    rounded = [weight.half().float() for weight in weights(unrounded)]
    assert all(map(torch.equal, weights(whole.model), rounded))
    kinds = {weight.dtype for name, weight in load_file("stable-diffusion.safetensors").items() if name != "betas"}
    assert kinds == {torch.float16}
    torch.manual_seed(0)
    untrained = latent_preset.new_model(4, captions).unet
    assert not all(map(torch.equal, weights(whole.model.unet), weights(untrained)))
    assert "1 picture" in succeed("sample", "stable-diffusion.safetensors", "noto cat", "--num-steps", 2)


@pytest.mark.parametrize("missing", ["autoencoder", "clip"])
def test_a_latent_model_is_not_trained_without_what_belongs_to_it(missing, latent_preset, latent_pair):
    (latent_pair / f"{missing}.safetensors").unlink()
    assert f"git checkout -- data/{missing}.safetensors" in fail("train", "--preset", "stable-diffusion")
    assert not Path("runs/stable-diffusion.safetensors").exists()


def spoil(autoencoder: Path) -> None:
    """Puts another autoencoder in its place."""
    other = load_checkpoint(autoencoder).model
    other.latent_mean += 1
    save_checkpoint(autoencoder, TrainingState(other))


def test_a_latent_model_does_not_go_on_in_the_latents_of_another_autoencoder(latent_preset, latent_pair, interrupt):
    interrupt(2)
    succeed("train", "new.safetensors", "--preset", "stable-diffusion")
    before = Path("new.safetensors").read_bytes()
    spoil(latent_pair / "autoencoder.safetensors")
    message = fail("train", "new.safetensors", "--resume")
    assert "in the latents of another autoencoder" in message and "git checkout -- data/autoencoder" in message
    assert Path("new.safetensors").read_bytes() == before


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_is_drawn_in_latents_is_decoded(at_once, drawn, latent_pair):
    loaded = load_checkpoint(latent_pair / "stable-diffusion.safetensors")
    autoencoder = load_checkpoint(latent_pair / "autoencoder.safetensors").model
    prompts = ["noto cat", "rocket", "火 箭"]
    *_, z_0 = generate(loaded.model, loaded.schedule, prompts, (4, 4, 4), 1.5, num_steps=5, seed=3, clip_x_0=False)
    assert z_0.abs().max() > 1.1  # clipped it would be another one
    for command in ([latent_pair / "stable-diffusion.safetensors"], ["--model", "stable-diffusion"]):
        pictures = drawn(*command, *prompts, "--seed", 3, at_once=at_once, side=4)
        torch.testing.assert_close(pictures, autoencoder.decode(z_0), rtol=0, atol=1e-4)
    half = drawn(*command, *prompts, "--seed", 3, "--precision", "bfloat16")
    assert 0 < (half.float() - autoencoder.decode(z_0)).abs().mean() < 0.1


def test_a_style_that_no_caption_had_is_named(latent_pair):
    text = succeed("sample", "--model", "stable-diffusion", "pixel cat", "noto cat", "--num-steps", 2)
    assert "'pixel cat': no training caption had \"pixel\"" in text and text.count("Note") == 1


@pytest.mark.parametrize("missing", ["autoencoder", "stable-diffusion"])
def test_half_of_a_pair_draws_nothing(missing, latent_pair):
    (latent_pair / f"{missing}.safetensors").unlink()
    assert f"git checkout -- data/{missing}.safetensors" in fail("sample", "--model", "stable-diffusion", "noto cat")
    assert not Path("samples.png").exists()


def test_latents_are_not_decoded_by_another_autoencoder(latent_pair):
    spoil(latent_pair / "autoencoder.safetensors")
    message = fail("sample", "--model", "stable-diffusion", "noto cat")
    assert "another autoencoder than the course's" in message and not Path("samples.png").exists()
    assert "git checkout -- data/autoencoder.safetensors" in message


def test_a_file_of_the_course_under_the_name_of_another_is_named(latent_pair, latent_preset):
    autoencoder, clip = latent_pair / "autoencoder.safetensors", latent_pair / "clip.safetensors"
    clip.write_bytes(autoencoder.read_bytes())
    command = ["train", "--preset", "stable-diffusion"]
    assert f"{clip} holds the network Autoencoder where CLIP belongs" in fail(*command)
    autoencoder.write_bytes((latent_pair / "stable-diffusion.safetensors").read_bytes())
    for each in (command, ["sample", "--model", "stable-diffusion", "noto cat"]):
        assert f"{autoencoder} holds the network TextToImage where Autoencoder belongs" in fail(*each)


def test_an_autoencoder_alone_draws_nothing_and_is_trained_elsewhere(latent_pair):
    path = latent_pair / "autoencoder.safetensors"
    assert "holds the network Autoencoder, which draws no pictures" in fail("sample", path)
    assert "holds the network Autoencoder" in fail("train", path, "--resume")
    for checkpoint, words in {path: "which draws no pictures", "stable-diffusion": "cannot be exported"}.items():
        assert words in fail("export", checkpoint, "made") and not Path("made").exists()


# train, sample and vary with a super-resolver, and with a prior and a decoder


@pytest.fixture
def small_preset(cascades, latent_preset, monkeypatch) -> Preset:
    """The preset of Imagen for 4x4 pictures, done within a second."""
    pictures, captions = latent_preset.load()
    preset = dataclasses.replace(
        PRESETS["imagen"],
        load=lambda: (pictures[:, :, :4, :4], captions),
        unet=latent_preset.unet,
        text_dim=8,
        num_iterations=4,
        options=PRESETS["imagen"].options | dict(batch_size=4),
        schedule=latent_preset.schedule,
        prompts=latent_preset.prompts,
        score=lambda *_, super_resolver: {"low size": super_resolver.model.config["low_size"]},
    )
    monkeypatch.setitem(PRESETS, "imagen", preset)
    return preset


def test_a_cascade_is_trained_for_its_super_resolver_and_goes_on_as_if_never_stopped(small_preset, cascades, interrupt):
    succeed("train", "whole.safetensors", "--preset", "imagen")
    whole = load_checkpoint("imagen.safetensors")
    assert whole.notes["super_resolver"] == "super-resolver" and whole.notes["scores"] == {"low size": 4}
    assert whole.notes["picture_size"] == [3, 4, 4]
    interrupt(2)
    Path("imagen.safetensors").unlink()
    assert "Stopped at iteration 2." in succeed("train", "parts.safetensors", "--preset", "imagen")
    succeed("train", "parts.safetensors", "--resume")
    resumed, clip = load_checkpoint("imagen.safetensors"), load_checkpoint(cascades / "clip.safetensors").model
    assert all(map(torch.equal, weights(resumed.model), weights(whole.model)))
    unrounded = load_checkpoint("whole.safetensors").model
    assert all(map(torch.equal, weights(unrounded.text_encoder), weights(clip.text_encoder)))
    succeed("sample", "imagen.safetensors", "noto cat", "--num-steps", 2)
    assert PIL.Image.open("samples.png").width % 16 == 0


def test_pictures_on_the_way_are_enlarged(small_preset, monkeypatch):
    drawn = []
    monkeypatch.setattr(runs, "write_pictures", lambda pictures, out: drawn.append(pictures.shape))
    succeed("train", "new.safetensors", "--preset", "imagen")
    assert drawn and all(shape == (8, 3, 16, 16) for shape in drawn)


def test_a_cascade_is_not_trained_without_its_super_resolver(small_preset, cascades):
    (cascades / "super-resolver.safetensors").unlink()
    assert "git checkout -- data/super-resolver.safetensors" in fail("train", "--preset", "imagen")
    assert not Path("runs/imagen.safetensors").exists()


@pytest.mark.parametrize("name", ["imagen", "dalle2"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_what_is_drawn_small_is_enlarged(at_once, name, drawn, cascades):
    loaded = load_checkpoint(cascades / f"{name}.safetensors")
    prompts, options = ["noto cat", "rocket", "火 箭"], dict(num_steps=5, seed=3)
    steps = generate if name == "imagen" else partial(unclip, clip=clip_of(loaded))
    *_, low = steps(
        loaded.model, schedule=loaded.schedule, prompts=prompts, shape=(3, 4, 4), guidance_scale=1.5, **options
    )
    expected = super_resolved(super_resolver_of(loaded), low, seed=3)
    for command in ([cascades / f"{name}.safetensors"], ["--model", name]):
        pictures = drawn(*command, *prompts, "--seed", 3, at_once=at_once, side=4)
        torch.testing.assert_close(pictures, expected, rtol=0, atol=1e-4)
    half = drawn(*command, *prompts, "--seed", 3, "--precision", "bfloat16")
    assert 0 < (half.float() - expected).abs().mean() < 0.3


def test_the_sampler_and_the_guidance_reach_a_decoder(drawn, cascades):
    plain = drawn("--model", "dalle2", "noto cat")
    for options in (["--sampler", "ddim"], ["--guidance-scale", 4], ["--seed", 1]):
        assert (drawn("--model", "dalle2", "noto cat", *options) - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--negative", "火"], "--negative is not for this model"),
        (["--num-steps", 61], "--num-steps must be a whole number from 1 to 60"),
        (["--seed", 2**63], "--seed"),
    ],
)
def test_what_a_decoder_cannot_draw_is_one_sentence(arguments, words, cascades):
    assert words in fail("sample", "--model", "dalle2", "noto cat", *arguments)
    assert not Path("samples.png").exists()


@pytest.mark.parametrize("command", [["sample", "--model", "dalle2", "cat"], ["vary", "square.png"]])
@pytest.mark.parametrize(
    "scale, words", [(1, r"the weights in .*dalle2\.safetensors are spoilt"), (2, "lower --guidance-scale")]
)
def test_what_is_no_number_is_not_enlarged_but_named(scale, words, command, cascades, square):
    checkpoint = load_checkpoint(cascades / "dalle2.safetensors")
    model = checkpoint.model.requires_grad_(False)
    model.decoder.unet.stem.bias[0] = math.inf
    save_checkpoint(cascades / "dalle2.safetensors", TrainingState(model), checkpoint.schedule, checkpoint.notes)
    message = fail(*command, "--guidance-scale", scale, "--num-steps", 2)
    assert "what was drawn is no number, and so no picture: " in message and re.search(words, message)
    assert list(Path().glob("*.png")) == [square]


@pytest.mark.parametrize("command", [["sample", "--model", "dalle2", "cat"], ["vary", "square.png"]])
@pytest.mark.parametrize("missing", ["dalle2", "clip", "super-resolver"])
def test_a_system_without_one_of_its_parts_draws_nothing(missing, command, cascades, square):
    (cascades / f"{missing}.safetensors").unlink()
    assert f"git checkout -- data/{missing}.safetensors" in fail(*command, "--num-steps", 2)
    assert list(Path().glob("*.png")) == [square]


@pytest.mark.parametrize("command", [["sample", "--model", "dalle2", "cat"], ["vary", "square.png"]])
def test_parts_that_do_not_belong_together_draw_nothing(command, cascades, square):
    before = {name: (cascades / f"{name}.safetensors").read_bytes() for name in ("clip", "super-resolver")}
    other = load_checkpoint(cascades / "clip.safetensors").model
    with torch.no_grad():
        other.text_head.weight += 1
    save_checkpoint(cascades / "clip.safetensors", TrainingState(other))
    assert "another CLIP than the course's" in fail(*command)
    (cascades / "clip.safetensors").write_bytes(before["clip"])
    for name, words in {"imagen": "enlarges no pictures", "autoencoder": "enlarges no pictures"}.items():
        (cascades / "super-resolver.safetensors").write_bytes((cascades / f"{name}.safetensors").read_bytes())
        assert words in fail(*command)
    assert list(Path().glob("*.png")) == [square]


def test_a_super_resolver_or_a_dalle_2_is_trained_elsewhere(cascades):
    path = cascades / "super-resolver.safetensors"
    for command in (["sample", path], ["export", path, "made"]):
        assert "holds the network SuperResolver, which draws no pictures" in fail(*command)
        assert "those that --model imagen and --model dalle2 draw" in fail(*command)
    dalle2 = cascades / "dalle2.safetensors"
    assert fail("train", dalle2, "--resume").endswith("holds the network DALLE2")
    checkpoint = load_checkpoint(dalle2)
    checkpoint.notes["command"] = "python data/build_dalle2.py"
    save_checkpoint(dalle2, TrainingState(checkpoint.model.requires_grad_(True)), checkpoint.schedule, checkpoint.notes)
    assert "DALLE2, which is made by python data/build_dalle2.py" in fail("train", dalle2, "--resume")


@pytest.mark.parametrize("command", [["sample", "--model", "dalle2", "cat"], ["vary", "square.png"]])
def test_a_system_in_whose_file_is_another_network_draws_nothing(command, cascades, square):
    path = cascades / "dalle2.safetensors"
    path.write_bytes((cascades / "imagen.safetensors").read_bytes())
    message = fail(*command)
    assert f"{path} holds the network TextToImage where DALLE2 belongs" in message
    assert "git checkout -- data/dalle2.safetensors" in message and list(Path().glob("*.png")) == [square]


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "--model", "dalle2", "cat"],
        ["sample", "--model", "imagen"],
        ["vary", "square.png"],
        ["search", "cat"],
    ],
)
def test_a_file_of_the_course_that_is_cut_is_told_with_the_fix(command, cascades, square):
    needed = {"sample": "super-resolver", "vary": "dalle2", "search": "clip"}[command[0]]
    path = cascades / f"{needed}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = fail(*command)
    assert "is truncated" in message and f"git checkout -- data/{needed}.safetensors" in message


@pytest.mark.parametrize("option", [["--guidance-scale", -1], ["--num-steps", 61]])
@pytest.mark.parametrize("command", [["sample", "--model", "dalle2", "cat"], ["vary", "square.png"]])
def test_a_number_that_does_not_fit_shows_before_the_bar(command, option, cascades, square):
    assert "step" in run(*command, "--num-steps", 2, "--out", "out.png").output  # the unit of the bar
    assert "/s" not in (output := run(*command, *option).output) and output.startswith("Error: --")


# vary


@pytest.fixture
def square() -> Path:
    """A square picture to vary."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save("square.png")
    return Path("square.png")


def varied(monkeypatch, *arguments: object) -> torch.Tensor:
    """What vary would write into the file."""
    kept = []
    monkeypatch.setattr(command_line, "write_pictures", lambda pictures, out: kept.append(pictures))
    succeed("vary", *arguments, "--num-steps", 5)
    return kept[0]


def test_a_picture_stands_before_its_variations_which_have_its_vector(cascades, square, monkeypatch):
    pictures = varied(monkeypatch, square, "--count", 3, "--seed", 4, "--guidance-scale", 2)
    original = from_bytes(read_square(square, 16))[None]
    assert torch.equal(pictures[:1], original)
    loaded = load_checkpoint(cascades / "dalle2.safetensors")
    vectors, options = clip_of(loaded).encode_pictures(original).expand(3, -1), dict(num_steps=5, seed=4)
    *_, low = draw_from_vectors(loaded.model.decoder, loaded.schedule, vectors, (3, 4, 4), 2.0, **options)
    expected = super_resolved(super_resolver_of(loaded), low, seed=4)
    torch.testing.assert_close(pictures[1:], expected, rtol=0, atol=1e-3)
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 2 * 4 * 4)
    in_parts = varied(monkeypatch, square, "--count", 3, "--seed", 4, "--guidance-scale", 2)
    torch.testing.assert_close(in_parts, pictures, rtol=0, atol=1e-3)
    again = varied(monkeypatch, square, "--count", 1, "--seed", 6, "--guidance-scale", 2)
    torch.testing.assert_close(again[1], pictures[3], rtol=0, atol=1e-3)


def test_variations_go_into_one_file(cascades, square):
    said = succeed("vary", square, "--num-steps", 2)
    assert "square.png and 7 variations of it in variations.png" in said
    assert PIL.Image.open("variations.png").width > 100
    assert "and 1 variation of it in a/b.png" in succeed(
        "vary", square, "--num-steps", 2, "--count", 1, "--out", "a/b.png"
    )


def test_a_square_photo_of_a_camera_that_was_turned_is_varied_upright(cascades, monkeypatch):
    photo, exif = PIL.Image.new("RGB", (16, 16), "red"), PIL.Image.Exif()
    photo.paste("blue", (8, 0, 16, 16))
    exif[0x0112] = 6  # EXIF: the first stored column is the top of the scene
    photo.save("photo.jpg", exif=exif, quality=100)
    red, _, blue = varied(monkeypatch, "photo.jpg", "--count", 1)[0]
    assert red[:6].min() > 0.5 > -0.5 > red[10:].max() and blue[10:].min() > 0.5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["wide.png"], "wide.png is 20x10; variations are drawn of square pictures: cut it first"),
        (["wide.jpg"], "wide.jpg is 20x10"),
        (["missing.png"], "there is no picture missing.png"),
        (
            ["openmoji rocket"],
            "no picture openmoji rocket; to draw from a prompt: sample --model dalle2 'openmoji rocket'",
        ),
        ([""], "PICTURE must be the name of a picture"),
        (["folder"], "folder is a folder, not a picture"),
        (["notes.txt"], "notes.txt cannot be read: not one of PNG"),
        (["cut.png"], "cut.png cannot be read"),
        (["square.png", "--out", "a.txt"], "--out must end as picture files do"),
        (["square.png", "--out", "./square.png"], "--out must not be square.png, which would be overwritten"),
        (["square.png", "--num-steps", 61], "--num-steps must be a whole number from 1 to 60"),
        (["square.png", "--count", 0], "--count"),
        (["square.png", "--guidance-scale", -1], "--guidance-scale must be 0 or more"),
        (["square.png", "other.png"], "other.png"),
        ([], "PICTURE"),
    ],
)
def test_what_cannot_be_varied_is_one_sentence(arguments, words, cascades, square):
    Path("folder").mkdir()
    Path("notes.txt").write_text("hello")
    Path("cut.png").write_bytes(square.read_bytes()[:600])
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for name in ("wide.png", "wide.jpg"):
        PIL.Image.new("RGB", (20, 10)).save(name, exif=exif)
    before = square.read_bytes()
    assert words in fail("vary", *arguments)
    assert square.read_bytes() == before and not Path("variations.png").exists()


@pytest.mark.parametrize(
    "name, value, words", [("WORLD_SIZE", "2", "torchrun"), ("DDPM_PROFILE", "tpu", "DDPM_PROFILE")]
)
def test_an_environment_in_which_nothing_can_be_drawn_is_one_sentence(name, value, words, checkpoint, monkeypatch):
    monkeypatch.setenv(name, value)
    assert words in fail("sample", checkpoint)


# Both


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("command", [["sample"], ["train", "--resume"]])
@pytest.mark.parametrize("cut, word", [(slice(300), "truncated"), (slice(0), "truncated"), (None, "is a pickle")])
def test_what_is_no_checkpoint_is_refused_and_left_as_it_was(command, cut, word, trained):
    before = pickle.dumps(Trap()) if cut is None else trained[cut]
    path = Path("bad.safetensors")
    path.write_bytes(before)
    message = fail(*command, path)
    assert "bad.safetensors" in message and word in message
    assert path.read_bytes() == before and not Path("sprung").exists()


def test_a_place_that_cannot_be_written_to_shows_before_the_work(checkpoint, monkeypatch):
    monkeypatch.setattr(runs, "job_of", lambda *_: pytest.fail("the work has begun"))
    assert "no folder tiny.safetensors" in fail("train", f"{checkpoint}/new.safetensors", *TINY)


@pytest.mark.slow
@pytest.mark.device
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


# search


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory) -> Path:
    """A CLIP that knows the words of noto's emoji. It is untrained: what it finds by words can be anything."""
    data, path = EmojiDataset(64, ["noto"]), tmp_path_factory.mktemp("clip") / "small.safetensors"
    save_checkpoint(path, TrainingState(new_clip(data.captions("en") + data.captions("zh"))), None)
    return path


def new_clip(captions: list[str]) -> CLIP:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(captions)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, dim=8)
    return CLIP(ImageEncoder(3, (8,), patch_size=4, dim=8, picture_size=(16, 16)), text_encoder, tokenizer)


@pytest.fixture
def photos() -> Path:
    """Four pictures, two of them in a folder within, and other files among them."""
    emoji, folder = EmojiDataset(64, ["noto"]), Path("photos")
    (folder / "deeper").mkdir(parents=True)
    for i, name in enumerate(["0.png", "1 火箭.webp", "deeper/2.png", "deeper/3.png"]):
        write_pictures(emoji.pictures[300 * i : 300 * i + 1], folder / name)
    (folder / "0.txt").write_text("grinning face")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def hits(output: str) -> list[str]:
    """The labels in the list of what was found; their ranks count up from 1 and their scores do not rise."""
    lines = re.findall(r" (\d+)  +(-?\d\.\d{3})  (.+)$", output, re.MULTILINE)  # the first may stand after the bar
    ranks, scores, labels = zip(*lines, strict=True)
    assert [int(rank) for rank in ranks] == list(range(1, len(lines) + 1))
    assert list(scores) == sorted(scores, key=float, reverse=True)
    return list(labels)


def test_emoji_are_found_by_words_in_both_languages_and_shown_on_a_sheet(small_clip, monkeypatch):
    emoji = EmojiDataset(64, ["noto"], split="all")
    monkeypatch.setattr(picture_search, "EmojiDataset", lambda split: emoji)
    clip = load_checkpoint(small_clip).model
    index = index_pictures(clip, emoji.pictures, emoji.captions("en"), progress=False)
    for query in ("red apple", "红苹果"):
        output = succeed("search", *query.split(), "--model", small_clip, "--k", 5, "--out", "a/found.png")
        rows = index.search(query, 5).rows.tolist()
        assert hits(output) == [f"{emoji.caption(i)} {emoji.caption(i, 'zh', with_style=False)}" for i in rows]
        assert "5 pictures in a/found.png" in output
        sheet = np.asarray(PIL.Image.open("a/found.png"))
        assert (sheet[6:134:2, 6:134:2] == emoji.pictures[rows[0]].permute(1, 2, 0).numpy()).all()


def test_a_picture_finds_itself_in_a_folder_and_what_cannot_be_read_is_named(small_clip, photos):
    output = succeed("search", "photos/deeper/3.png", "--in", "photos", "--model", small_clip, "--k", 4)
    assert hits(output)[0] == "deeper/3.png"
    assert sorted(hits(output)) == ["0.png", "1 火箭.webp", "deeper/2.png", "deeper/3.png"]
    assert "4 pictures; 1 skipped: broken.jpg cannot be read" in output
    assert PIL.Image.open("search.png").width > 4 * 128


def test_an_index_is_kept_until_the_pictures_or_the_model_are_others(small_clip, photos, monkeypatch):
    command = ["search", "photos/0.png", "--in", "photos", "--k", 1, "--model"]
    encoded, encode = [], CLIP.encode_pictures
    monkeypatch.setattr(CLIP, "encode_pictures", lambda self, x: encoded.append(len(x)) or encode(self, x))

    def said(model: Path, *options: object) -> tuple[str, int]:
        encoded.clear()
        output = succeed(*command, model, *options)
        assert hits(output) == ["0.png"]
        return output, sum(encoded) - 1  # without the query

    assert said(small_clip)[1] == 4
    before = sorted(Path(".cache").rglob("*"))
    output, pictures = said(small_clip)
    assert pictures == 0 and "anew" not in output
    write_pictures(EmojiDataset(64, ["noto"]).pictures[7:8], photos / "new.png")
    output, pictures = said(small_clip)
    assert pictures == 5 and "pictures are not those" in output
    [file] = Path(".cache/ddpm_core").iterdir()
    file.write_bytes(b"spoilt")
    output, pictures = said(small_clip)
    assert pictures == 5 and "truncated, damaged" in output
    assert sorted(Path(".cache").rglob("*")) == before
    save_checkpoint("other.safetensors", TrainingState(new_clip(["a", "grinning"])), None)
    assert said(Path("other.safetensors"))[1] == 5
    assert said(small_clip)[1] == said(Path("other.safetensors"))[1] == 0  # each model has an index of its own
    assert not list(photos.rglob("*.safetensors"))


def test_the_sheet_is_none_of_the_pictures_that_are_searched(small_clip, photos):
    command = ["search", "photos/0.png", "--in", "photos", "--model", small_clip, "--out", "photos/found.png"]
    for _ in range(2):
        output = succeed(*command)
        assert len(hits(output)) == 4 and "photos/found.png" not in hits(output) and "anew" not in output


def test_the_sheet_does_not_overwrite_the_picture_that_is_looked_for(small_clip, photos):
    before = Path("photos/0.png").read_bytes()
    command = ["search", "photos/0.png", "--in", "photos", "--model", small_clip, "--out", "./photos/0.png"]
    assert "--out must not be photos/0.png, which would be overwritten" in fail(*command)
    assert Path("photos/0.png").read_bytes() == before


def test_where_there_are_few_pictures_all_of_them_are_shown(small_clip, photos):
    assert len(hits(succeed("search", "face", "--in", "photos", "--model", small_clip))) == 4
    for name in ("0.png", "1 火箭.webp", "deeper/2.png"):
        (photos / name).unlink()
    output = succeed("search", "face", "--in", "photos", "--model", small_clip)
    assert "\n1 picture; 1 skipped" in output and "\n1 picture in search.png" in output


def test_an_index_is_kept_where_one_says_and_nothing_else_is_overwritten(small_clip, photos):
    command = ["search", "face", "--model", small_clip, "--k", 2, "--in"]
    first = succeed(*command, photos, "--index", "a/photos.safetensors")
    assert hits(succeed(*command, photos, "--index", "a/photos.safetensors")) == hits(first)
    assert Path("a/photos.safetensors").is_file() and not Path(".cache").exists()
    model = Path("model.safetensors")
    model.write_bytes(small_clip.read_bytes())
    assert "no index of this course" in fail(*command, photos, "--index", model)
    assert model.read_bytes() == small_clip.read_bytes()
    assert "an index of other pictures" in fail(*command, photos / "deeper", "--index", "a/photos.safetensors")
    kept = Path("a/photos.safetensors").read_bytes()
    save_checkpoint("other.safetensors", TrainingState(new_clip(["a", "grinning"])), None)
    command = ["search", "a", "--model", "other.safetensors", "--k", 2, "--index", "a/photos.safetensors", "--in"]
    assert "an index of other pictures" in fail(*command, photos / "deeper")
    assert Path("a/photos.safetensors").read_bytes() == kept
    assert "made by another model" in succeed(*command, photos) and "anew" not in succeed(*command, photos)
    command = ["search", "face", "--model", small_clip, "--in"]
    assert "no folder model.safetensors" in fail(*command, photos, "--index", "model.safetensors/x.safetensors")


def test_where_an_index_cannot_be_kept_the_search_works_all_the_same(small_clip, photos, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "file")
    for _ in range(2):
        output = succeed("search", "photos/0.png", "--in", "photos", "--k", 1, "--model", small_clip)
        assert hits(output) == ["0.png"] and "The index is not kept" in output


def test_pictures_in_tar_files_are_found_under_their_captions(small_clip):
    emoji = EmojiDataset(64, ["noto"])
    write_shards("shards", emoji.pictures[:25], emoji.captions("zh")[:25], 10)
    with tarfile.open("shards/00001.tar") as tar:
        names = {name.partition(".")[0] for name in tar.getnames()}
        tar.extractall("unpacked", filter="data")
    Path(f"unpacked/{min(names)}.png").write_bytes(b"spoilt")
    with tarfile.open("shards/00001.tar", "w") as tar:
        for path in sorted(Path("unpacked").iterdir()):
            tar.add(path, path.name)
    write_pictures(emoji.pictures[17:18], Path("query.png"))
    for where in ("shards", "shards/*.tar"):
        output = succeed("search", "query.png", "--in", where, "--k", 3, "--model", small_clip)
        assert hits(output)[0] == emoji.captions("zh")[17]
    sheet = np.asarray(PIL.Image.open("search.png"))[6:134, 6:134]
    shown = emoji.pictures[17].permute(1, 2, 0).numpy()
    assert np.abs(sheet[::2, ::2].astype(int) - shown).mean() < 8  # enlarged
    assert "24 pictures; 1 skipped: undecodable picture" in succeed(
        "search", "query.png", "--in", "shards", "--index", "new.safetensors", "--model", small_clip
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a red zebrra"], 'no training caption had "zebrra"; known words like that: zebra'),
        (["0.png"], None),
    ],
)
def test_a_search_says_what_of_a_query_it_cannot_use(arguments, words, small_clip, photos):
    Path("0.png").write_bytes((photos / "0.png").read_bytes())
    output = succeed("search", *arguments, "--in", "photos", "--k", 2, "--model", small_clip)
    assert output.count("Note") == (words is not None) and (words or "") in output


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([""], "query is empty"),
        (["xyzzy"], "query must have a word that the model knows: no word of 'xyzzy' was in any training caption"),
        (["none.png"], "there is no picture none.png"),
        (["photos/broken.jpg"], "photos/broken.jpg cannot be read: not one of PNG"),
        (["./photos"], "./photos is a folder: to search in it, --in ./photos"),
        (["photos"], "to search in the folder photos: --in photos"),
        (["🚀"], "🚀 holds no word: type the name"),
        (["photos/0.png", "face"], "one picture, or words: photos/0.png"),
        (["none.png face"], "one picture, or words: none.png"),
        (["shards/1.tar", "face", "--in", "shards/0.tar"], "put the pattern in quotes: --in 'shards/*.tar'"),
        (["shards/1.tar"], "to search in it, --in shards/1.tar"),
        (["face", "--in", "photos/*.png"], "patterns are for tar files: give the folder, --in photos"),
        (["face", "photos/1 火箭.webp", "--in", "photos/0.png"], "give the folder, --in photos"),
        (["face", "--k", 5], "--k must be a whole number from 1 to 4, as there are 4 pictures; got 5"),
        (["face", "--k", 0], "--k"),
        (["face", "--in", "nowhere"], "nowhere does not exist"),
        (["face", "--in", "~nobody-here/photos"], "~nobody-here/photos does not exist"),
        (["face", "--in", "empty"], "empty has no pictures; they end in .png"),
        (["face", "--in", "spoilt"], "no picture that can be used; skipped: a.png cannot be read"),
        (["face", "--in", "shards/*.tar"], "no shard matches *.tar in shards"),
        (["face", "--out", "a.txt"], "--out must end as picture files do"),
        (["face", "--model", "emoji"], "emoji is no CLIP, and the search needs one: --model clip"),
        (["face", "--model", "dalle2"], "dalle2 is no CLIP"),
        (["face", "--model", "autoencoder"], "autoencoder is no CLIP"),
        (["face", "--model", "none.safetensors"], "no checkpoint at none.safetensors"),
        (["face", "--model", "tiny.safetensors"], "holds the network UNet, and a search needs a CLIP"),
        ([], "QUERY"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(arguments, words, small_clip, photos, checkpoint):
    for name in ("empty", "spoilt"):
        Path(name).mkdir()
    Path("spoilt/a.png").touch()
    options = {"--in": "photos", "--model": small_clip, "--k": 2}
    rest = [word for option in options.items() if option[0] not in arguments for word in option]
    assert words in fail("search", *arguments, *rest)
    assert not Path("search.png").exists()


# export


@pytest.mark.parametrize("name", ["digit-scenes", "tiny.safetensors"])
def test_a_checkpoint_is_exported_by_its_path_or_by_its_name(name, checkpoint):
    assert "made/README.md" in succeed("export", name, "made")
    weights = load_file("made/unet/diffusion_pytorch_model.safetensors")
    loaded = load_checkpoint(shipped_checkpoint(name) if name == "digit-scenes" else checkpoint)
    assert {name.removeprefix("network.") for name in weights} == set(loaded.model.state_dict())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.safetensors", "made"], "no file 'missing.safetensors'"),
        (["emojis", "made"], "models to export: digit-scenes and emoji"),
        (["", "made"], "no file ''"),
        (["dalle2", "made"], "cannot be exported"),
        (["clip", "made"], "holds the network CLIP, which draws no pictures"),
        (["tiny.safetensors", "full"], "full must be empty"),
        (["tiny.safetensors", "tiny.safetensors"], "no folder tiny.safetensors"),
        (["tiny.safetensors"], "FOLDER"),
    ],
)
def test_what_cannot_be_exported_is_named(arguments, words, checkpoint):
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    assert words in fail("export", *arguments)
    assert not Path("made").exists() and [path.name for path in Path("full").iterdir()] == ["notes.txt"]


# doctor


@pytest.fixture
def found(monkeypatch):
    """Makes the doctor find something in this machine, and something in the rehearsal before a class."""

    def pretend(examined: doctor.Finding, *rehearsed: doctor.Finding) -> None:
        monkeypatch.setattr(doctor, "examine", lambda: iter([examined]))
        monkeypatch.setattr(doctor, "rehearse", lambda: iter(rehearsed) if rehearsed else pytest.fail("nobody asked"))

    return pretend


def test_the_doctor_is_content_when_there_is_nothing_to_fix(found):
    found(doctor.Finding("torch", "2.9"))
    assert succeed("doctor").split() == ["torch", "2.9", "All", "is", "well."]


def test_the_doctor_ends_with_an_error_code_when_there_is_something_to_fix(found):
    found(doctor.Finding("disk", "full", "make room"))
    result = run("doctor")
    assert result.exit_code == 1
    assert "-> make room" in result.output and "1 to fix" in result.output and "READY" not in result.output


@pytest.mark.parametrize("fix, exit_code, begins", [("", 0, "READY  "), ("make setup", 1, "NOT READY  kernel: ")])
def test_before_a_class_the_doctor_rehearses_and_ends_with_a_line_for_the_teacher(fix, exit_code, begins, found):
    found(doctor.Finding("torch", "2.9"), doctor.Finding("kernel", "starts or does not", *filter(None, [fix])))
    result = run("doctor", "--room")
    lines = result.output.splitlines()
    assert result.exit_code == exit_code and isinstance(result.exception, SystemExit | None)
    assert any(line.startswith("kernel ") for line in lines)
    assert lines[-1].startswith(begins) and lines[-1].endswith(f"code {doctor.course_code()}")
