"""Is the model any good? Its loss at each step, a reader of digits and colours, a search for copies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.data import EmojiDataset, caption_of, load_digits
from ddpm_core.data.digit_scenes import COLOURS, Scene
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import check_pictures
from ddpm_core.text_to_image import TextToImage, generate


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
        self.accuracy = (probabilities.argmax(1) == labels).float().mean().item()
        self.sure_rate = (probabilities.amax(1) >= self.SURE).float().mean().item()

    def probabilities(self, pictures: Tensor) -> Tensor:
        """How likely each picture is to be each digit: (N, 1, 8, 8) in [-1, 1] -> (N, 10)."""
        check_pictures(pictures)
        if pictures.shape[1:] != (1, 8, 8):
            raise ValueError(f"the digit reader reads pictures of shape (N, 1, 8, 8); got {tuple(pictures.shape)}")
        return torch.as_tensor(self.classifier.predict_proba(pictures.detach().cpu().flatten(1).numpy()))


NEAR_COPY = 0.5  # a sample with a smaller copy ratio counts as a near-copy


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
        sure=(probabilities.amax(1) >= reader.SURE).float().mean().item(),
        sure_of_real=reader.sure_rate,
        shares=(counts / len(samples)).tolist(),
        closer=(ratios < 1).float().mean().item(),
        closer_of_real=(real_ratios < 1).float().mean().item(),
        near_copies=(ratios < NEAR_COPY).float().mean().item(),
    )


def judge_scenes(pictures: Tensor, scenes: Sequence[Scene], reader: DigitReader) -> tuple[Tensor, Tensor]:
    """Does each picture (N, 3, 8, 8 or 16) in [-1, 1] show its scene? Digits right, colours right: bool, (N,) each.

    Each half is judged by itself: its digit by the reader, from the brightest channel; its colour by the mean colour
    of the ink, whose proportions of red, green and blue must be nearest to those of the colour asked for. All of a
    picture's digits must be right.
    """
    check_pictures(pictures)
    num_digits = pictures.shape[3] // 8
    fits = len(scenes) == len(pictures) and all(len(scene) == num_digits for scene in scenes)
    if pictures.shape[1:] not in ((3, 8, 8), (3, 8, 16)) or not fits:
        raise ValueError(
            f"pictures must be (N, 3, 8, 8) or (N, 3, 8, 16), one for each of the {len(scenes)} scenes and as wide as "
            f"its digits; got {tuple(pictures.shape)}"
        )
    digits_right = torch.ones(len(pictures), dtype=torch.bool)
    for side, half in enumerate(((pictures.cpu() + 1) / 2).split(8, dim=3)):
        ink = half.amax(dim=1, keepdim=True)
        ink = ink / ink.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)  # a digit in a dark colour is no fainter
        digits = torch.tensor([scene[side][0] for scene in scenes])
        digits_right &= reader.probabilities(ink * 2 - 1).argmax(dim=1) == digits
    asked = [tuple(colour for _, colour in scene) for scene in scenes]
    colours_right = torch.tensor([seen == colours for seen, colours in zip(ink_colours(pictures), asked, strict=True)])
    return digits_right, colours_right


def ink_colours(pictures: Tensor) -> list[tuple[str, ...]]:
    """The colour of each digit in each picture (N, 3, 8, 8 or 16): the one whose proportions the mean is nearest to."""
    names = list(COLOURS)
    proportions = F.normalize(torch.tensor([COLOURS[name] for name in names]), dim=1)
    means = [half.mean(dim=(2, 3)) for half in ((pictures.cpu() + 1) / 2).split(8, dim=3)]
    nearest = [torch.cdist(F.normalize(mean, dim=1), proportions).argmin(dim=1).tolist() for mean in means]
    return [tuple(names[i] for i in sides) for sides in zip(*nearest, strict=True)]


def scene_agreement(
    model: TextToImage,
    schedule: NoiseSchedule,
    scenes: Sequence[Scene],
    language: str,
    reader: DigitReader,
    guidance_scale: float = 3.0,
    num_steps: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Asks a model for scenes in a language, the wordings in turn: does each picture show its scene? bool, (N,)."""
    prompts = [caption_of(scene, language, wording=i % 4) for i, scene in enumerate(scenes)]
    shape = (3, 8, 8 * len(scenes[0]))
    for x_t in generate(model, schedule, prompts, shape, guidance_scale, num_steps=num_steps, seed=seed):  # noqa: B007
        pass
    digits_right, colours_right = judge_scenes(x_t, scenes, reader)
    return digits_right & colours_right


def emoji_agreement(
    model: TextToImage,
    schedule: NoiseSchedule,
    data: EmojiDataset,
    rows: Tensor,
    language: str,
    guidance_scale: float = 3.0,
    num_steps: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Asks a model for the emoji in these rows: is each picture nearer to its own emoji than to all others? (N,).

    Nearest by the root of summed squared differences of the pixels, as in nearest_pictures.
    """
    prompts = [data.captions[language][row] for row in rows.tolist()]
    shape = tuple(data.pictures.shape[1:])
    for x_t in generate(model, schedule, prompts, shape, guidance_scale, num_steps=num_steps, seed=seed):  # noqa: B007
        pass
    return nearest_pictures(x_t.cpu(), data.pictures)[1] == rows


def nearest_pictures(samples: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample the distance to the nearest of pictures (root of summed squares), and its row: (N,), (N,)."""
    if samples.shape[1:] != pictures.shape[1:]:
        raise ValueError(
            f"samples and pictures must be of one shape; got {tuple(samples.shape)} and {tuple(pictures.shape)}"
        )
    return torch.cdist(samples.flatten(1), pictures.flatten(1)).min(dim=1)


def copy_ratios(samples: Tensor, training_pictures: Tensor) -> Tensor:
    """How suspiciously near each sample is to a training picture, (N,): 0 is an exact copy.

    The distance to the nearest training picture, divided by the distance from that one to its own nearest neighbour
    among the other training pictures. New real digits lie around 1: four in ten of them below it.
    """
    distances, rows = nearest_pictures(samples, training_pictures)
    between = torch.cdist(training_pictures[rows].flatten(1), training_pictures.flatten(1))
    between[torch.arange(len(rows)), rows] = float("inf")  # not its own neighbour
    return distances / between.amin(dim=1)
