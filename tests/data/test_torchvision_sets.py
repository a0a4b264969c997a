"""The data sets are read from tiny files in their real formats: idx as Yann LeCun defined it, and CIFAR's pickles."""

import gzip
import hashlib
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from ddpm_core import DataUnavailable, load_mnist, load_pictures, load_torchvision
from ddpm_core.data.mnist import mnist_bytes

GREY_SETS = ["MNIST", "FashionMNIST"]
ALL_SETS = [*GREY_SETS, "CIFAR10"]


def idx(values: np.ndarray) -> bytes:
    """Two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension big-endian, then the values."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx_files(folder: Path, name: str, pictures: np.ndarray, labels: np.ndarray, packed: bool = False) -> None:
    """pictures and labels as the training set; the test set is the same, backwards."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for part, order in (("train", 1), ("t10k", -1)):
        for kind, values in (("images-idx3", pictures), ("labels-idx1", labels)):
            path, content = raw / f"{part}-{kind}-ubyte", idx(values[::order])
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


def write_cifar_files(folder: Path, pictures: np.ndarray, labels: list[int]) -> None:
    """Five batches with a fifth of the pictures each, and the first of them as the test set."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    size = len(labels) // 5
    parts = [(f"data_batch_{i + 1}", slice(i * size, (i + 1) * size)) for i in range(5)] + [("test_batch", slice(size))]
    for name, part in parts:
        batch = {"data": pictures[part].reshape(-1, 3 * 32 * 32), "labels": labels[part]}
        (batches / name).write_bytes(pickle.dumps(batch))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))


@pytest.fixture
def grey() -> tuple[np.ndarray, np.ndarray]:
    """Five 28x28 pictures, among them values of 0 and 255, and their labels."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    pictures[0, 0, :2] = 0, 255
    return pictures, np.array([3, 1, 4, 1, 5], dtype=np.uint8)


@pytest.fixture
def colour(monkeypatch) -> tuple[np.ndarray, list[int]]:
    """Ten 32x32 pictures, channels first as CIFAR stores them, and their labels; torchvision's checksums are off."""
    for table in ("train_list", "test_list"):
        monkeypatch.setattr(datasets.CIFAR10, table, [[name, None] for name, _ in getattr(datasets.CIFAR10, table)])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": None})
    return np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8), [i % 2 for i in range(10)]


@pytest.fixture
def no_network(monkeypatch) -> None:
    """Every download goes to a port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    monkeypatch.setenv("no_proxy", "*")
    for data_set in (datasets.MNIST, datasets.FashionMNIST):
        monkeypatch.setattr(data_set, "mirrors", [closed, closed])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{closed}cifar-10-python.tar.gz")


def as_pictures(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels / 127.5 - 1, dtype=torch.float32)


@pytest.mark.parametrize("name", GREY_SETS)
@pytest.mark.parametrize("train", [True, False])
def test_grey_pictures_are_read_from_idx_files(name, train, grey, tmp_path):
    write_idx_files(tmp_path, name, *grey)
    pictures, labels = load_torchvision(name, tmp_path, train=train, download=False)
    order = 1 if train else -1
    assert pictures.shape == (5, 1, 28, 28) and pictures.dtype == torch.float32
    assert torch.allclose(pictures[:, 0], as_pictures(grey[0][::order]), atol=1e-6)
    assert pictures.min() == -1 and pictures.max() == 1
    assert labels.dtype == torch.long and labels.tolist() == grey[1][::order].tolist()


@pytest.mark.parametrize("name", GREY_SETS)
def test_packed_files_that_are_there_already_need_no_network(name, grey, tmp_path, monkeypatch, no_network):
    write_idx_files(tmp_path, name, *grey, packed=True)
    checksums = [
        (file, hashlib.md5((tmp_path / name / "raw" / file).read_bytes()).hexdigest())
        for file, _ in getattr(datasets, name).resources
    ]
    monkeypatch.setattr(getattr(datasets, name), "resources", checksums)
    pictures, labels = load_torchvision(name, str(tmp_path))
    assert torch.allclose(pictures[:, 0], as_pictures(grey[0]), atol=1e-6) and labels.tolist() == grey[1].tolist()


@pytest.mark.parametrize("train, part", [(True, slice(10)), (False, slice(2))])
def test_colour_pictures_are_read_from_cifars_batches(train, part, colour, tmp_path):
    write_cifar_files(tmp_path, *colour)
    pictures, labels = load_torchvision("CIFAR10", tmp_path, train=train, download=False)
    assert pictures.dtype == torch.float32 and torch.allclose(pictures, as_pictures(colour[0][part]), atol=1e-6)
    assert labels.dtype == torch.long and labels.tolist() == colour[1][part]


@pytest.mark.parametrize("name", ["mnist", "MNist"])
def test_load_pictures_takes_them_by_name_in_any_case_from_the_courses_folder(name, grey, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_core.data.torchvision_sets.data_folder", lambda: tmp_path)
    write_idx_files(tmp_path / "downloads", "MNIST", *grey)
    assert torch.allclose(load_pictures(name)[0][:, 0], as_pictures(grey[0]), atol=1e-6)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_torchvisions_mnist_and_ours_are_equal_pixel_for_pixel(split, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_core.data.torchvision_sets.data_folder", lambda: tmp_path)
    pixels, labels = mnist_bytes(split)
    write_idx_files(tmp_path / "downloads", "MNIST", pixels[:, 0].numpy(), labels.byte().numpy())
    pictures, labels = load_pictures("MNIST")
    assert torch.equal(pictures, load_mnist(split)[0]) and torch.equal(labels, load_mnist(split)[1])


@pytest.mark.parametrize("name", ALL_SETS)
def test_without_a_network_the_message_says_so_and_names_the_offline_data(name, tmp_path, no_network):
    with pytest.raises(DataUnavailable) as error:
        load_torchvision(name, tmp_path)
    message = str(error.value)
    assert all(
        part in message for part in (name, str(tmp_path), "not downloaded", "network", "load_mnist() and load_digits()")
    )
    assert "\n" not in message


@pytest.mark.parametrize("name", ALL_SETS)
def test_files_that_are_not_there_are_not_fetched_against_the_callers_will(name, tmp_path, no_network):
    with pytest.raises(
        DataUnavailable, match=r"download=False forbids it\. load_mnist\(\) and load_digits\(\) work offline"
    ):
        load_torchvision(name, tmp_path, download=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept, download", [(0, True), (3, False), (100, True)])
def test_a_file_that_ends_too_early_is_called_damaged(kept, download, grey, tmp_path, no_network):
    write_idx_files(tmp_path, "MNIST", *grey)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataUnavailable, match="MNIST is missing or damaged in"):
        load_torchvision("MNIST", tmp_path, download=download)


def test_cifar_files_that_torchvisions_checksums_do_not_know_are_not_opened(tmp_path):
    write_cifar_files(tmp_path, np.zeros((10, 3, 32, 32), np.uint8), [0] * 10)
    with pytest.raises(DataUnavailable, match="CIFAR10 is missing or damaged in"):
        load_torchvision("CIFAR10", tmp_path, download=False)


@pytest.mark.parametrize("name", ["digits", None])
def test_another_name_is_refused_with_the_three_that_work(name, tmp_path):
    with pytest.raises(ValueError, match="name must be MNIST, FashionMNIST or CIFAR10"):
        load_torchvision(name, tmp_path)
