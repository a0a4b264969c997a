"""MNIST, handwritten digits of 28x28 pixels (LeCun, Cortes & Burges 1998): 20,000 to train with, 5,000 held out."""

import torch
from torch import Tensor

from ddpm_core.support import guards
from ddpm_core.support.files import reading
from ddpm_core.support.pixels import from_bytes, read_grey

SIZE = 28  # of a cell of a sheet


def load_mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, 28, 28) in [-1, 1], ink is 1, and labels (N,) long.

    split: "train" (20,000, the first of MNIST's training file) or "held_out" (5,000, every other one of its test file,
    by other writers). Raises ValueError for another split, and DataUnavailable where a file is missing or damaged.
    """
    pixels, labels = mnist_bytes(split)
    return from_bytes(pixels), labels


def mnist_bytes(split: str) -> tuple[Tensor, Tensor]:
    """The same in a quarter of the memory: pictures are uint8, 0 to 255."""
    guards.one_of("split", split, ("train", "held_out"))
    name = f"mnist-{split.replace('_', '-')}"
    with reading(f"{name}.png", f"{name}.txt") as (sheet, text):
        labels = torch.tensor([[int(digit) for digit in line] for line in text.read_text("ascii").splitlines()])
        cells = read_grey(sheet).unflatten(1, (-1, SIZE)).unflatten(0, (-1, SIZE))  # (row, y, column, x)
        cells = cells.transpose(1, 2)  # (row, column, y, x)
        if labels.shape != cells.shape[:2]:
            raise ValueError(f"{tuple(cells.shape[:2])} pictures and {tuple(labels.shape)} labels")
    return cells.reshape(-1, 1, SIZE, SIZE), labels.flatten()
