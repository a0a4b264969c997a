import json
import os
import pickle
import random
import struct
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddpm_core import (
    CheckpointError,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    load_checkpoint,
    resume_training,
    save_checkpoint,
    train,
)
from ddpm_core.checkpoint import load_shipped, model_checksum, shipped_model
from ddpm_core.support.tensor_file import read_tensors, write_tensors

FORMATS = ("ddpm_core 2", "ddpm_core 3")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "new folder" / "digits.safetensors"


@pytest.fixture(scope="module")
def training(digits, schedule):
    """Makes the iterations of a run of 20 that still lie before a state."""
    return lambda state: train(state, schedule, digits, 20, batch_size=8, warmup_iterations=3)


@pytest.fixture(scope="module")
def after_8_iterations(training) -> TrainingState:
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8, 16), blocks_per_level=2, attention_levels=(1,)))
    list(islice(training(state), 8))
    return state


@pytest.fixture
def state(after_8_iterations) -> TrainingState:
    """A run after 8 of 20 iterations, which a test may change."""
    state = TrainingState(UNet(**after_8_iterations.model.config))
    state.load_state_dict(after_8_iterations.state_dict())
    return state


def header_length(path: Path) -> int:
    """The number that every safetensors file starts with."""
    return struct.unpack("<Q", path.read_bytes()[:8])[0]


@pytest.mark.parametrize("with_training", [True, False])
def test_what_was_saved_comes_back(state, schedule, path, with_training):
    notes = {"command": "train", "seconds": 41.5, "wording": "红色的七"}
    save_checkpoint(path, state, schedule, notes, with_training)
    checkpoint = load_checkpoint(path)
    x_t, t = torch.randn(2, 1, 8, 8), torch.tensor([0, 99])
    assert torch.equal(checkpoint.model(x_t, t), state.ema_model(x_t, t))
    assert checkpoint.model.config == state.model.config
    assert not checkpoint.model.training
    assert not any(weight.requires_grad for weight in checkpoint.model.parameters())
    assert torch.equal(checkpoint.schedule.betas, schedule.betas)
    assert checkpoint.notes == notes
    assert (checkpoint.training is not None) == with_training
    assert os.listdir(path.parent) == [path.name]


def test_a_run_from_a_file_ends_where_the_uninterrupted_one_does(state, training, schedule, path):
    save_checkpoint(path, state, schedule, with_training=True)
    list(training(state))
    checkpoint = load_checkpoint(path)
    for _ in range(2):  # a checkpoint can be used twice
        resumed = TrainingState(UNet(**state.model.config), seed=7)
        resume_training(resumed, checkpoint)
        assert resumed.iteration == 8
        list(training(resumed))
        assert resumed.losses == state.losses
        for ours, expected in [(resumed.model, state.model), (resumed.ema_model, state.ema_model)]:
            assert all(map(torch.equal, ours.state_dict().values(), expected.state_dict().values()))


def test_a_run_that_has_not_begun_can_be_saved_and_resumed(training, schedule, path):
    fresh = TrainingState(UNet(1, (8,)))
    save_checkpoint(path, fresh, schedule, with_training=True)
    resumed = TrainingState(UNet(1, (8,)), seed=7)
    resume_training(resumed, load_checkpoint(path))
    list(training(fresh))
    list(training(resumed))
    assert resumed.losses == fresh.losses


def test_a_model_without_its_training_cannot_go_on(state, schedule, path):
    save_checkpoint(path, state, schedule)
    with pytest.raises(CheckpointError, match="holds a model to sample from, without its training; it cannot go on"):
        resume_training(state, load_checkpoint(path))


def test_another_architecture_is_refused_by_naming_both(state, schedule, path):
    save_checkpoint(path, state, schedule, with_training=True)
    other = TrainingState(UNet(3, (8, 16)))
    message = r"another architecture: it has .*'in_channels': 1.*, this model has .*'in_channels': 3"
    with pytest.raises(CheckpointError, match=message):
        resume_training(other, load_checkpoint(path))


def test_only_the_courses_own_network_can_be_saved(schedule, path):
    somebody_elses = type("UNet", (nn.Linear,), {})
    for network, name in [(nn.Linear(2, 2), "Linear"), (somebody_elses(2, 2), "UNet")]:
        with pytest.raises(TypeError, match=rf"only a network of ddpm_core can be saved, .* got {name}"):
            save_checkpoint(path, TrainingState(network), schedule)
    assert not path.exists()


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint at .*digits\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.05, 0.5, 0.999])
def test_a_truncated_file_is_refused(state, schedule, path, share):
    save_checkpoint(path, state, schedule)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"digits\.safetensors is truncated, damaged or not a safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(tmp_path, seed):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(torch.randint(256, (5000,), generator=torch.Generator().manual_seed(seed)).byte().numpy())
    with pytest.raises(CheckpointError, match=r"noise\.safetensors is truncated, damaged or not a safetensors file"):
        load_checkpoint(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "save, open_it",
    [
        (torch.save, lambda path: torch.load(path, weights_only=False)),
        (lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), lambda path: pickle.loads(path.read_bytes())),
    ],
    ids=["torch.save", "pickle"],
)
def test_a_pickle_is_refused_unopened(tmp_path, save, open_it):
    path, trace = tmp_path / "model.pt", tmp_path / "the bomb went off"
    save({"model": Bomb(trace)}, path)
    with pytest.raises(CheckpointError, match=r"model\.pt is a pickle, as torch\.save writes them.*so it is refused"):
        load_checkpoint(path)
    assert not trace.exists()
    open_it(path)
    assert trace.exists()  # so the bomb was a real one


def test_a_sound_file_that_starts_like_a_pickle_is_read(state, schedule, path):
    save_checkpoint(path, state, schedule, {"padding": ""})
    like_a_zip = int.from_bytes(b"PK", "little")
    padding = (like_a_zip - header_length(path)) % 2**16
    save_checkpoint(path, state, schedule, {"padding": "x" * padding})
    assert path.read_bytes()[:2] == b"PK"
    assert load_checkpoint(path).notes == {"padding": "x" * padding}


@pytest.mark.parametrize(
    "metadata, words",
    [
        (None, "is a safetensors file, but no checkpoint of"),
        ({"format": "pt"}, "is a safetensors file, but no checkpoint of"),
        ({"format": "ddpm_core 1"}, "has a format of another version of the course, 1"),
        ({"format": "ddpm_core 999"}, "has a format of another version of the course, 999"),
    ],
    ids=str,
)
def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path, metadata, words):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(CheckpointError, match=rf"other\.safetensors {words}"):
        load_checkpoint(path)


def refuse(*files):
    raise OSError("no space left on device")


@pytest.mark.parametrize("where", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("exists", [True, False], ids=["over an old file", "anew"])
def test_a_write_that_fails_leaves_what_was_there(state, training, schedule, path, monkeypatch, where, exists):
    path.parent.mkdir()
    if exists:
        save_checkpoint(path, state, schedule)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    list(training(state))
    monkeypatch.setattr(where, refuse)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, state, schedule)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_notes_that_json_cannot_hold_are_refused_before_anything_is_written(state, schedule, path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(path, state, schedule, {"schedule": schedule})
    assert not path.parent.exists()


@pytest.mark.parametrize("device", ["cuda:99", "gpu", 3.5])
def test_a_device_that_is_not_there_is_named_and_the_file_is_not_called_damaged(state, schedule, path, device):
    save_checkpoint(path, state, schedule)
    with pytest.raises(ValueError, match=f"^device must be .*got .?{device}"):
        load_checkpoint(path, device)


@pytest.mark.device
def test_a_checkpoint_loads_on_the_device_that_is_asked_for(state, training, schedule, path, device):
    save_checkpoint(path, state, schedule, with_training=True)
    checkpoint = load_checkpoint(path, device)
    assert checkpoint.schedule.betas.device.type == device.type
    assert next(checkpoint.model.parameters()).device.type == device.type


CAPTIONS = ["a red seven", "红色的七", "the digit seven in blue"]


def new_reader(captions: list[str] = CAPTIONS) -> TextToImage:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(captions)
    unet = UNet(1, (8, 16), context_dim=8, cross_attention_levels=(1,), patch_size=2)
    return TextToImage(unet, TextEncoder(len(tokenizer), tokenizer.max_length, 8, num_layers=1), tokenizer)


def train_reader(state: TrainingState, digits, schedule):
    """The iterations of a run of 12 that still lie before a state."""
    cond = state.model.tokenizer(CAPTIONS).repeat(20, 1)
    options = dict(batch_size=8, warmup_iterations=3, cond=cond, null_cond=state.model.null_cond, drop_probability=0.3)
    return train(state, schedule, digits[:60], 12, **options)


@pytest.fixture(scope="module")
def reader_after_5_iterations(digits, schedule) -> TrainingState:
    state = TrainingState(new_reader())
    list(islice(train_reader(state, digits, schedule), 5))
    return state


@pytest.fixture
def reader_state(reader_after_5_iterations) -> TrainingState:
    """A run with captions after 5 of 12 iterations, which a test may change."""
    state = TrainingState(new_reader())
    state.load_state_dict(reader_after_5_iterations.state_dict())
    return state


@pytest.mark.parametrize("with_training", [True, False])
def test_a_model_that_reads_comes_back_with_its_words(reader_state, schedule, path, with_training):
    save_checkpoint(path, reader_state, schedule, {"prompt": "红色的七"}, with_training)
    checkpoint = load_checkpoint(path)
    model, expected = checkpoint.model, reader_state.ema_model
    assert isinstance(model, TextToImage)
    assert model.tokenizer.words == expected.tokenizer.words and "红" in model.tokenizer.words
    assert model.tokenizer.max_length == expected.tokenizer.max_length
    assert model.config == expected.config
    tokens = expected.tokenizer(CAPTIONS)
    assert torch.equal(model.tokenizer(CAPTIONS), tokens)
    x_t, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 50, 99])
    assert torch.equal(model(x_t, t, tokens), expected(x_t, t, tokens))
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    assert all(map(torch.equal, model.state_dict().values(), expected.state_dict().values()))
    assert checkpoint.notes == {"prompt": "红色的七"}
    assert (checkpoint.training is not None) == with_training


def test_a_run_with_captions_from_a_file_ends_where_the_uninterrupted_one_does(reader_state, digits, schedule, path):
    save_checkpoint(path, reader_state, schedule, with_training=True)
    list(train_reader(reader_state, digits, schedule))
    resumed = TrainingState(new_reader(), seed=7)
    resume_training(resumed, load_checkpoint(path))
    assert resumed.iteration == 5
    list(train_reader(resumed, digits, schedule))
    assert resumed.losses == reader_state.losses
    for ours, expected in [(resumed.model, reader_state.model), (resumed.ema_model, reader_state.ema_model)]:
        assert all(map(torch.equal, ours.state_dict().values(), expected.state_dict().values()))


@pytest.mark.parametrize(
    "captions, ours, theirs",
    [
        (["a red nine", "红色的七", "the digit seven in blue"], "nine", None),  # one word more
        (["a red seven", "绿色的七", "the digit seven in blue"], "绿", "红"),  # as many words, but others
    ],
)
def test_another_vocabulary_is_refused_by_naming_the_words(reader_state, schedule, path, captions, ours, theirs):
    save_checkpoint(path, reader_state, schedule, with_training=True)
    with pytest.raises(CheckpointError, match="the checkpoint is of another architecture") as error:
        resume_training(TrainingState(new_reader(captions)), load_checkpoint(path))
    its_words, our_words = str(error.value).split(", this model has ")
    assert f"'{ours}'" in our_words and f"'{ours}'" not in its_words
    assert theirs is None or (f"'{theirs}'" in its_words and f"'{theirs}'" not in our_words)


def test_a_network_with_text_and_one_without_do_not_resume_each_other(reader_state, state, schedule, path):
    for saved, other in [(reader_state, state), (state, reader_state)]:
        save_checkpoint(path, saved, schedule, with_training=True)
        with pytest.raises(CheckpointError, match="another architecture"):
            resume_training(other, load_checkpoint(path))


def test_the_checksum_of_a_model_tells_any_other_one(reader_state, schedule, path):
    save_checkpoint(path, reader_state, schedule)
    model = load_checkpoint(path).model
    original = model_checksum(reader_state.ema_model)
    assert len(original) == 64 and model_checksum(model) == original
    assert model_checksum(model.to(memory_format=torch.channels_last)) == original  # laid out otherwise
    model.text_encoder.state_dict()["token_embedding.weight"][3, 4] += 1e-6
    words = new_reader(["a red seven", "绿色的七", "the digit seven in blue"])  # the same weights, under other words
    words.load_state_dict(reader_state.ema_model.state_dict())
    assert len({original, model_checksum(model), model_checksum(words), model_checksum(model.unet)}) == 4


@pytest.mark.slow
def test_ten_thousand_files_with_a_byte_changed_are_refused_or_hold_what_was_saved(schedule, tmp_path):
    path, changed = tmp_path / "sound.safetensors", tmp_path / "changed.safetensors"
    save_checkpoint(path, TrainingState(UNet(1, (8,))), schedule, dict(command="train"))
    sound, random_numbers, refused = path.read_bytes(), random.Random(0), 0
    saved = load_checkpoint(path)
    for number in range(10_000):
        # Half of the changes in the header, which is the smaller part of the file and the one with more in it to break.
        place = random_numbers.randrange(8 + header_length(path) if number % 2 else len(sound))
        spoilt = bytearray(sound)
        spoilt[place] ^= random_numbers.randrange(1, 256)
        changed.write_bytes(spoilt)
        try:
            loaded = load_checkpoint(changed)
        except CheckpointError as error:
            assert str(error).startswith(f"{changed} ")  # which is damaged, or says to be of another version
            refused += 1
        else:  # white space, say
            assert loaded.notes == saved.notes and loaded.model.config == saved.model.config
            assert all(map(torch.equal, loaded.model.state_dict().values(), saved.model.state_dict().values()))
    assert refused > 9_000


def test_a_run_of_another_kind_of_device_is_refused(state, training, schedule, path):
    save_checkpoint(path, state, schedule, with_training=True)
    checkpoint = load_checkpoint(path)
    checkpoint.training["generator"] = checkpoint.training["generator"][:16]  # as long as a GPU's
    with pytest.raises(CheckpointError, match=r"begun on another kind of device .* this one is cpu"):
        resume_training(state, checkpoint)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights in another way")
def test_others_may_read_a_checkpoint_as_they_may_read_any_new_file(state, schedule, path):
    save_checkpoint(path, state, schedule)
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_an_address_instead_of_a_checkpoint_is_named():
    with pytest.raises(TypeError, match=r"checkpoint must be a Checkpoint, .*load_checkpoint.* got 'digits"):
        resume_training(TrainingState(UNet(1, (8,))), "digits.safetensors")


def test_a_file_of_the_course_that_holds_another_network_is_named_with_the_fix(state, schedule, path, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: path.parent)
    save_checkpoint(path.with_name("clip.safetensors"), state, schedule)
    assert isinstance(shipped_model("clip", UNet), UNet)
    with pytest.raises(CheckpointError, match=r"clip\.safetensors holds the network UNet.*git checkout -- data/clip\."):
        shipped_model("clip", TextToImage)


def test_a_file_of_the_course_that_is_cut_is_named_with_the_fix(state, schedule, path, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: path.parent)
    file = path.with_name("clip.safetensors")
    save_checkpoint(file, state, schedule)
    assert len(load_shipped("clip", UNet).schedule) == len(schedule)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"clip\.safetensors is truncated.*git checkout -- data/clip\."):
        load_shipped("clip", UNet)


def rewrite(path: Path, change) -> None:
    """Changes a checkpoint as a program would that knows its format: change(network's config, metadata, tensors)."""
    tensors, metadata = read_tensors(path, FORMATS)
    network = json.loads(metadata["network"])
    metadata |= dict(network=change(network["config"], metadata, tensors) or json.dumps(network))
    write_tensors(path, tensors, metadata, lambda: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda config, metadata, tensors: config.update(in_channels=3),
        lambda config, metadata, tensors: config.update(channels=[12]),
        lambda config, metadata, tensors: config.update(depth=3),
        *(lambda config, metadata, tensors, text=text: text for text in ("not json", "[]", '{"name": "UNet"}', "{}")),
        lambda config, metadata, tensors: '{"name": "Linear", "config": {}}',
        lambda config, metadata, tensors: '{"name": "UNet", "config": 3}',
        lambda config, metadata, tensors: metadata.__delitem__("notes"),
        lambda config, metadata, tensors: tensors.__delitem__("betas"),
        lambda config, metadata, tensors: tensors.update(betas=torch.tensor([0.1, 2.0])),
        lambda config, metadata, tensors: tensors.__delitem__("ema_model.stem.bias"),
        lambda config, metadata, tensors: tensors.update({"ema_model.stem.bias": torch.zeros(99)}),
        lambda config, metadata, tensors: tensors.update({"ema_model.surplus": torch.zeros(1)}),
    ],
)
def test_weights_and_description_that_do_not_fit_are_refused(state, schedule, path, change):
    save_checkpoint(path, state, schedule)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=r"digits\.safetensors is damaged, or older than this version"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "part, change",
    [
        *(("tokenizer", dict(words=words)) for words in (None, [], ["a", "a"], ["a", "red"], list(range(11)))),
        *(("text_encoder", {name: value}) for name, value in dict(max_length=7, vocabulary_size=14, dim=16).items()),
        *(("text_encoder", {name: value}) for name, value in dict(num_layers=2, depth=2, num_heads=0).items()),
        ("text_encoder", dict(num_heads=3)),
        ("unet", dict(context_dim=None)),
        ("unet", dict(cross_attention_levels=[])),
        ("unet", dict(cross_attention_levels=[5])),
    ],
    ids=str,
)
def test_weights_and_words_that_do_not_fit_are_refused(reader_state, schedule, path, part, change):
    save_checkpoint(path, reader_state, schedule)
    rewrite(path, lambda config, metadata, tensors: config[part]["config"].update(change))
    with pytest.raises(CheckpointError, match=r"digits\.safetensors is damaged, or older than this version"):
        load_checkpoint(path)


@pytest.mark.parametrize("has_text", [False, True])
def test_a_run_saved_in_the_older_format_goes_on(reader_state, state, training, digits, schedule, path, has_text):
    saved = reader_state if has_text else state
    save_checkpoint(path, saved, schedule, dict(command="train"), with_training=True)
    tensors, metadata = read_tensors(path, FORMATS)
    config = json.loads(metadata.pop("network"))["config"]
    metadata |= dict(format="ddpm_core 2", unet=json.dumps(config["unet"]["config"] if has_text else config))
    if has_text:
        words = json.dumps(config["tokenizer"]["config"]["words"])
        metadata |= dict(text_encoder=json.dumps(config["text_encoder"]["config"]), words=words)
    write_tensors(path, tensors, metadata, lambda: None)
    checkpoint = load_checkpoint(path)
    assert checkpoint.notes == dict(command="train")
    resumed = TrainingState(checkpoint.model.requires_grad_(True), seed=7)
    resume_training(resumed, checkpoint)
    for each in (saved, resumed):
        next(train_reader(each, digits, schedule) if has_text else training(each))
    assert resumed.losses == saved.losses
    for ours, expected in [(resumed.model, saved.model), (resumed.ema_model, saved.ema_model)]:
        assert all(map(torch.equal, ours.state_dict().values(), expected.state_dict().values()))
