"""Judging drawn digits: a reader of real ones, and a verdict on a batch of samples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_core.data import load_mnist
from ddpm_core.data.mnist import SIZE
from ddpm_core.judging.copies import NEAR_COPY, copy_ratios
from ddpm_core.support import guards
from ddpm_core.support.files import reading
from ddpm_core.support.tensor_file import read_tensors

WEIGHTS, FORMAT = "digit-reader.safetensors", "ddpm_core digit reader 1"
NUM_UNSEEN = 500  # real digits that samples are compared with


def reader_network() -> nn.Sequential:
    """The digit reader's network, untrained: (N, 1, 28, 28) -> (N, 10), logits."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 5, stride=2, padding=2),  # (N, 24, 14, 14)
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 48, 7, 7)
        nn.Conv2d(48, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 64, 3, 3)
        nn.Flatten(),
        nn.Linear(64 * 3 * 3, 10),
    )


class DigitReader:
    """A small convolutional network that reads digits. Its weights come along; data/build_reader.py made them.

    accuracy:  share of the 5,000 held-out real digits that it reads rightly
    sure_rate: share of them that it is sure of

    Both are measured anew. Raises DataUnavailable where a file is missing or damaged.
    """

    SURE = 0.9  # "sure" means a probability of at least this

    def __init__(self):
        with torch.device("meta"):  # weights by name only: random ones would be drawn from torch's global generator
            self.network = reader_network()
        with reading(WEIGHTS) as (path,):
            weights, _ = read_tensors(path, (FORMAT,))
            self.network.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
        self.network.requires_grad_(False)
        pictures, labels = load_mnist("held_out")
        probabilities = self.probabilities(pictures)
        self.accuracy = _share(probabilities.argmax(1) == labels)
        self.sure_rate = _share(probabilities.amax(1) >= self.SURE)

    def probabilities(self, pictures: Tensor) -> Tensor:
        """How likely each picture is to be each digit: (N, 1, 28, 28) in [-1, 1] -> (N, 10)."""
        return self.network[-1](self.features(pictures)).softmax(dim=1)

    def features(self, pictures: Tensor) -> Tensor:
        """What it finds in each picture before it decides: (N, 1, 28, 28) in [-1, 1] -> (N, 576), 0 or more."""
        guards.pictures(pictures)
        if pictures.shape[1:] != (1, SIZE, SIZE):
            raise ValueError(
                f"the digit reader reads pictures of shape (N, 1, {SIZE}, {SIZE}); got {tuple(pictures.shape)}"
            )
        pieces = pictures.detach().cpu().float().split(500)  # which bounds the memory
        return torch.cat([self.network[:-1](piece) for piece in pieces])


@dataclass
class Verdict:
    """What the digit reader and the search for copies say of a batch of samples. Every number is a share, 0 to 1."""

    sure: float  # samples that the reader is sure of
    sure_of_real: float  # the same for real digits that nobody trained on: the yardstick
    shares: list[float]  # samples read as 0, 1, ... 9
    closer: float  # samples with a copy ratio below 1
    closer_of_real: float  # the same for 500 of those real digits
    near_copies: float  # samples with a copy ratio below NEAR_COPY

    def __str__(self) -> str:
        shares = "  ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(self.shares))
        return (
            f"sure of {self.sure:.1%} of the samples and of {self.sure_of_real:.1%} of unseen real digits: "
            f"ratio {self.sure / self.sure_of_real:.2f}\n"
            f"read as  {shares}\n"
            f"copy ratio below 1: {self.closer:.1%} of the samples, {self.closer_of_real:.1%} of unseen real digits\n"
            f"near-copies (copy ratio below {NEAR_COPY}): {self.near_copies:.1%} of the samples"
        )


def judge_digits(samples: Tensor, reader: DigitReader, training_pictures: Tensor) -> Verdict:
    """Judges samples (N, 1, 28, 28) in [-1, 1] of a model that was trained on training_pictures."""
    probabilities = reader.probabilities(samples)
    counts = torch.bincount(probabilities.argmax(1), minlength=10)
    ratios = copy_ratios(samples.cpu(), training_pictures.cpu())
    unseen, _ = load_mnist("held_out")
    real_ratios = copy_ratios(unseen[:: len(unseen) // NUM_UNSEEN], training_pictures.cpu())  # of all hands
    return Verdict(
        sure=_share(probabilities.amax(1) >= reader.SURE),
        sure_of_real=reader.sure_rate,
        shares=(counts / len(samples)).tolist(),
        closer=_share(ratios < 1),
        closer_of_real=_share(real_ratios < 1),
        near_copies=_share(ratios < NEAR_COPY),
    )


def _share(is_so: Tensor) -> float:
    return is_so.float().mean().item()
