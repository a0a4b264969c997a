"""Real handwritten digits, 8x8, from 13 people (Alpaydin & Kaynak 1998), as scikit-learn ships them."""

import torch
from torch import Tensor

from ddpm_core.support import guards


def load_digits(split: str = "all") -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, 8, 8) in [-1, 1], ink is 1, and labels (N,) long.

    split: "all" (1,797), "train" (1,297) or "held_out" (500, for judging); fixed, and balanced over the ten digits.
    """
    from sklearn import datasets, model_selection  # here, because importing it takes a second

    guards.one_of("split", split, ("all", "train", "held_out"))
    digits = datasets.load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # 0..16 -> -1..1
    labels = torch.tensor(digits.target, dtype=torch.long)
    train, held_out = model_selection.train_test_split(
        range(len(labels)), test_size=500, random_state=0, stratify=digits.target
    )
    rows = dict(all=slice(None), train=train, held_out=held_out)[split]
    return pictures[rows], labels[rows]
