"""Judging drawn digits: a reader trained on real ones, and a verdict on a batch of samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_core.data import load_digits
from ddpm_core.judging.copies import NEAR_COPY, copy_ratios
from ddpm_core.support import guards


class DigitReader:
    """A classifier trained on 1,297 real digits: five small networks that vote, from scikit-learn (1-2 s to train).

    accuracy:  share of the 500 held-out real digits that it reads rightly
    sure_rate: share of them that it is sure of
    """

    SURE = 0.9  # "sure" means a probability of at least this

    def __init__(self):
        from sklearn.ensemble import VotingClassifier
        from sklearn.neural_network import MLPClassifier

        pictures, labels = load_digits("train")
        networks = [(f"seed {seed}", MLPClassifier((128,), max_iter=300, random_state=seed)) for seed in range(5)]
        self.classifier = VotingClassifier(networks, voting="soft").fit(pictures.flatten(1).numpy(), labels.numpy())
        pictures, labels = load_digits("held_out")
        probabilities = self.probabilities(pictures)
        self.accuracy = _share(probabilities.argmax(1) == labels)
        self.sure_rate = _share(probabilities.amax(1) >= self.SURE)

    def probabilities(self, pictures: Tensor) -> Tensor:
        """How likely each picture is to be each digit: (N, 1, 8, 8) in [-1, 1] -> (N, 10)."""
        guards.pictures(pictures)
        if pictures.shape[1:] != (1, 8, 8):
            raise ValueError(f"the digit reader reads pictures of shape (N, 1, 8, 8); got {tuple(pictures.shape)}")
        return torch.as_tensor(self.classifier.predict_proba(pictures.detach().cpu().flatten(1).numpy()))


@dataclass
class Verdict:
    """What the digit reader and the search for copies say of a batch of samples. Every number is a share, 0 to 1."""

    sure: float  # samples that the reader is sure of
    sure_of_real: float  # the same for real digits that nobody trained on: the yardstick
    shares: list[float]  # samples read as 0, 1, ... 9
    closer: float  # samples with a copy ratio below 1
    closer_of_real: float  # the same for those real digits
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
    """Judges samples (N, 1, 8, 8) in [-1, 1] of a model that was trained on training_pictures."""
    probabilities = reader.probabilities(samples)
    counts = torch.bincount(probabilities.argmax(1), minlength=10)
    ratios = copy_ratios(samples.cpu(), training_pictures.cpu())
    real_ratios = copy_ratios(load_digits("held_out")[0], training_pictures.cpu())
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
