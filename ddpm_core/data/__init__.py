"""Pictures to learn from: float32 tensors (N, C, H, W) with values in [-1, 1]. Only torchvision's need a network."""

from torch import Tensor

from ddpm_core.data.captioned_folder import CaptionedPictures, load_captioned_folder
from ddpm_core.data.cat import load_cat
from ddpm_core.data.digit_scenes import (
    DigitScenes,
    all_scenes,
    caption_of,
    draw_scenes,
    is_withheld,
    load_digit_scenes,
)
from ddpm_core.data.digits import load_digits
from ddpm_core.data.emoji import EmojiDataset
from ddpm_core.data.shards import PictureTextShards, write_shards
from ddpm_core.data.torchvision_sets import load_torchvision
from ddpm_core.support.files import DataUnavailable

OFFLINE_DATA_SETS = ("digits",)
DOWNLOADED_DATA_SETS = ("MNIST", "FashionMNIST", "CIFAR10")
DATA_SETS = {name.lower(): name for name in OFFLINE_DATA_SETS + DOWNLOADED_DATA_SETS}

__all__ = [
    "DATA_SETS",
    "DOWNLOADED_DATA_SETS",
    "OFFLINE_DATA_SETS",
    "CaptionedPictures",
    "DataUnavailable",
    "DigitScenes",
    "EmojiDataset",
    "PictureTextShards",
    "all_scenes",
    "caption_of",
    "draw_scenes",
    "is_withheld",
    "load_captioned_folder",
    "load_cat",
    "load_digit_scenes",
    "load_digits",
    "load_pictures",
    "load_torchvision",
    "write_shards",
]


def load_pictures(name: str) -> tuple[Tensor, Tensor]:
    """The training pictures (N, C, H, W) and labels (N,) of a data set, by name (upper or lower case).

    Raises ValueError for an unknown name and DataUnavailable where a download fails.
    """
    known_name = DATA_SETS.get(str(name).lower())
    if known_name is None:
        raise ValueError(
            f"there is no data set called {name!r}; "
            f"offline: {', '.join(OFFLINE_DATA_SETS)}; downloaded once: {', '.join(DOWNLOADED_DATA_SETS)}"
        )
    return load_digits() if known_name == "digits" else load_torchvision(known_name)
