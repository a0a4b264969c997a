import hashlib
import importlib.util
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from ddpm_core import DataUnavailable, load_mnist
from ddpm_core.course.doctor import CHECKSUMS
from ddpm_core.data.mnist import mnist_bytes
from ddpm_core.support.files import data_folder, shipped_file

SPLITS = {"train": ("mnist-train", 20_000, 200), "held_out": ("mnist-held-out", 5_000, 100)}
FILES = [f"{name}.{ending}" for name, _, _ in SPLITS.values() for ending in ("png", "txt")]

each_split = pytest.mark.parametrize("split", SPLITS)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the files, to break."""
    for name in FILES:
        shutil.copy(shipped_file(name), tmp_path)
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_mnist", data_folder() / "build_mnist.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def write_idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Files like the original ones: more pictures than the sheets have, those of the sheets in their places."""
    folder, generator = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    for part, split in (("train", "train"), ("t10k", "held_out")):
        pictures, labels = (values.numpy() for values in mnist_bytes(split))
        if part == "train":
            more = generator.integers(256, size=(7, 28, 28), dtype=np.uint8), generator.integers(10, size=7)
            pictures, labels = np.concatenate([pictures[:, 0], more[0]]), np.concatenate([labels, more[1]])
        else:
            pictures = np.stack([pictures[:, 0], 255 - pictures[:, 0]], axis=1).reshape(-1, 28, 28)
            labels = np.stack([labels, 9 - labels], axis=1).flatten()
        write_idx(folder / f"{part}-images-idx3-ubyte", pictures)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return folder


def test_the_files_are_small_and_the_ones_that_the_doctor_expects():
    contents = {name: shipped_file(name).read_bytes() for name in FILES}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == {
        name: CHECKSUMS[name] for name in FILES
    }
    assert sum(map(len, contents.values())) < 5e6


@each_split
def test_there_are_as_many_as_said_between_minus_1_and_1_with_labels(split):
    _, count, _ = SPLITS[split]
    pictures, labels = load_mnist(split)
    assert pictures.shape == (count, 1, 28, 28) and pictures.dtype == torch.float32 and pictures.is_contiguous()
    assert labels.shape == (count,) and labels.dtype == torch.long
    assert pictures.min() == -1 and pictures.max() == 1
    assert (pictures[:, :, 0] == -1).float().mean() > 0.99  # ink is 1: the background, on the edge, is -1
    shares = torch.bincount(labels) / count
    assert len(shares) == 10 and shares.min() > 0.08 and shares.max() < 0.12


@each_split
@pytest.mark.parametrize("row", [0, 99, 100, 201, 4999])
def test_a_picture_is_a_cell_of_the_sheet_and_its_label_a_digit_of_the_text(split, row):
    name, _, columns = SPLITS[split]
    y, x = divmod(row, columns)
    with PIL.Image.open(shipped_file(f"{name}.png")) as sheet:
        assert sheet.mode == "L" and "CC BY-SA 3.0" in sheet.text["Copyright"]
        cell = np.asarray(sheet.crop((28 * x, 28 * y, 28 * x + 28, 28 * y + 28)))
    pictures, labels = load_mnist(split)
    assert np.array_equal(((pictures[row, 0] + 1) * 127.5).round().byte().numpy(), cell)
    assert shipped_file(f"{name}.txt").read_text().splitlines()[y][x] == str(labels[row].item())


def test_the_first_pictures_are_those_that_everybody_knows():
    """5, 0, 4, 1, 9, as in every introduction to MNIST; of the test file's 7, 2, 1, 0, 4, 1 every other one."""
    assert load_mnist("train")[1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert load_mnist("held_out")[1][:5].tolist() == [7, 1, 4, 4, 5]
    assert mnist_bytes("train")[0][0].sum() == 27525  # the first 5


def test_no_picture_is_there_twice_and_the_splits_share_none():
    train, held_out = ([picture.numpy().tobytes() for picture in mnist_bytes(split)[0]] for split in SPLITS)
    assert len(set(train)) == 20_000 and len(set(held_out)) == 5_000 and not set(train) & set(held_out)


@each_split
def test_labels_are_the_right_ones(split):
    """Most pictures have the label of their nearest neighbour; of labels out of step it would be a tenth."""
    pictures, labels = load_mnist(split)
    distances = torch.cdist(pictures[:300].flatten(1), pictures[300:3300].flatten(1))
    assert (labels[300 + distances.argmin(dim=1)] == labels[:300]).float().mean() > 0.9


def test_loading_takes_less_than_a_second_and_leaves_torchs_randomness_alone():
    before, start = torch.get_rng_state(), time.perf_counter()
    load_mnist("train")
    assert time.perf_counter() - start < 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("split", ["all", "test", "held out", None])
def test_an_unknown_split_is_refused_with_the_two_that_exist(split):
    with pytest.raises(ValueError, match='split must be "train" or "held_out"; got'):
        load_mnist(split)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_command_that_brings_it_back(name, folder):
    (folder / name).unlink()
    with pytest.raises(DataUnavailable, match=rf"{name} is not in .*git checkout -- data/{name}"):
        for split in SPLITS:
            load_mnist(split)


def with_one_bit_changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "name, damage",
    [
        ("mnist-train.png", lambda content: b""),
        ("mnist-train.png", lambda content: content[: len(content) // 2]),
        ("mnist-train.png", with_one_bit_changed),
        ("mnist-train.png", lambda content: shipped_file("cat.png").read_bytes()),
        ("mnist-train.png", lambda content: (data_folder() / "mnist-held-out.png").read_bytes()),
        ("mnist-train.txt", lambda content: content[:-2]),
        ("mnist-train.txt", lambda content: content[:-201]),
        ("mnist-train.txt", lambda content: b"x" + content[1:]),
        ("mnist-train.txt", lambda content: b"\xff" + content[1:]),
        ("mnist-train.txt", lambda content: b""),
    ],
)
def test_damaged_files_are_called_so_in_one_sentence_with_the_command_that_brings_them_back(name, damage, folder):
    shutil.copy(data_folder() / "cat.png", folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(
        DataUnavailable, match=r"is damaged; .*checkout -- data/mnist-train\.png data/mnist-train\.txt"
    ) as e:
        load_mnist("train")
    assert "\n" not in str(e.value)
    assert len(load_mnist("held_out")[0]) == 5_000


def test_the_builder_reads_the_original_format_as_torchvision_does(builder, originals):
    for part in ("train", "t10k"):
        pictures, labels = (originals / f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
        assert np.array_equal(builder.read_idx(pictures), read_image_file(str(pictures)).numpy())
        assert np.array_equal(builder.read_idx(labels), read_label_file(str(labels)).numpy())


def test_the_builder_makes_the_same_files_again(builder, originals):
    made = builder.build(originals)
    assert list(made) == [name for name, _, _ in SPLITS.values()]
    for name, (sheet, lines) in made.items():
        assert lines.encode() == shipped_file(f"{name}.txt").read_bytes()
        with PIL.Image.open(shipped_file(f"{name}.png")) as shipped:
            assert np.array_equal(np.asarray(sheet), np.asarray(shipped))


def test_the_builder_wants_the_original_files_and_no_others(builder, originals, tmp_path):
    assert builder.difference(tmp_path) == f"train-images-idx3-ubyte is missing in {tmp_path}"
    assert "train-images-idx3-ubyte" in builder.difference(originals)  # which has seven pictures too many
