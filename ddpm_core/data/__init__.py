"""Pictures to learn from, (N, C, H, W): float32 in [-1, 1], or uint8 where it says so. Torchvision's need a network."""

from torch import Tensor

from ddpm_core.data.captioned_folder import CaptionedPictures, load_captioned_folder
from ddpm_core.data.cat import load_cat
from ddpm_core.data.digit_scenes import DigitScenes, all_scenes, caption_of, draw_scenes, is_withheld, load_digit_scenes
from ddpm_core.data.digits import load_digits
from ddpm_core.data.emoji import EmojiDataset
from ddpm_core.data.mnist import load_mnist
from ddpm_core.data.shard_files import write_shards
from ddpm_core.data.shards import PictureTextShards
from ddpm_core.data.torchvision_sets import load_torchvision
from ddpm_core.support.files import DataUnavailable

DATA_SETS = {"digits": "digits", "mnist": "MNIST", "fashionmnist": "FashionMNIST", "cifar10": "CIFAR10"}


def load_pictures(name: str) -> tuple[Tensor, Tensor]:
    """The training pictures (N, C, H, W) and labels (N,) of one of DATA_SETS, by name (upper or lower case).

    Raises ValueError for an unknown name and DataUnavailable where a download fails.
    """
    known_name = DATA_SETS.get(str(name).lower())
    if known_name is None:
        offline, *downloaded = DATA_SETS.values()
        raise ValueError(
            f"there is no data set called {name!r}; offline: {offline}; downloaded once: {', '.join(downloaded)}"
        )
    return load_digits() if known_name == "digits" else load_torchvision(known_name)
