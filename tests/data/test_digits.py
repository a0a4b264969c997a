import pytest
import torch
from sklearn import datasets

from ddpm_core import load_digits, load_pictures


def rows(pictures: torch.Tensor) -> set[bytes]:
    return {picture.numpy().tobytes() for picture in pictures}


def test_digits_are_scikit_learns_own_with_0_to_16_stretched_to_minus_1_to_1():
    original = datasets.load_digits()
    pictures, labels = load_digits()
    assert pictures.shape == (1797, 1, 8, 8) and pictures.dtype == torch.float32
    assert labels.dtype == torch.long and labels.tolist() == original.target.tolist()
    assert torch.equal((pictures[:, 0] + 1) * 8, torch.tensor(original.images, dtype=torch.float32))
    assert pictures.min() == -1 and pictures.max() == 1


def test_the_two_splits_share_no_picture_and_together_are_all_of_them():
    # No digit occurs twice in the data set, so the bytes of a picture identify it.
    train, held_out, everything = (rows(load_digits(split)[0]) for split in ("train", "held_out", "all"))
    assert len(train) == 1297 and len(held_out) == 500 and len(everything) == 1797
    assert train | held_out == everything


def test_labels_stay_with_their_pictures_in_a_split():
    label_of = {picture.numpy().tobytes(): label for picture, label in zip(*load_digits(), strict=True)}
    pictures, labels = load_digits("held_out")
    assert [label_of[picture.numpy().tobytes()] for picture in pictures] == labels.tolist()


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_split_is_the_same_each_time_and_does_not_move_torchs_randomness(split):
    torch.manual_seed(0)
    first, expected = load_digits(split), torch.rand(1)
    torch.manual_seed(1)
    second = load_digits(split)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_each_split_has_every_digit_in_its_share(split):
    everything, some = load_digits()[1], load_digits(split)[1]
    expected = torch.bincount(everything).float() * len(some) / len(everything)
    assert (torch.bincount(some) - expected).abs().max() <= 1


@pytest.mark.parametrize("split", ["test", None, "Train"])
def test_an_unknown_split_is_refused_with_the_three_that_exist(split):
    with pytest.raises(ValueError, match=r'"all", "train" or "held_out"'):
        load_digits(split)


@pytest.mark.parametrize("name", ["digits", "DIGITS"])
def test_load_pictures_finds_the_digits_in_any_case(name):
    pictures, labels = load_pictures(name)
    assert torch.equal(pictures, load_digits()[0]) and torch.equal(labels, load_digits()[1])


@pytest.mark.parametrize("name", ["letters", None])
def test_load_pictures_names_the_data_sets_that_exist(name):
    with pytest.raises(ValueError) as error:
        load_pictures(name)
    assert all(known in str(error.value) for known in ("digits", "MNIST", "FashionMNIST", "CIFAR10", repr(name)))
