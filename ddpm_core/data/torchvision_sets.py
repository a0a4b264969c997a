"""torchvision's data sets by name. They are downloaded once, so they need a network the first time."""

from pathlib import Path

import torch
from torch import Tensor

from ddpm_core.support.files import DataUnavailable, data_folder
from ddpm_core.support.pixels import from_bytes


def load_torchvision(
    name: str, folder: Path | str | None = None, train: bool = True, download: bool = True
) -> tuple[Tensor, Tensor]:
    """Pictures (N, C, H, W) float32 in [-1, 1] and labels (N,) long of MNIST, FashionMNIST or CIFAR10.

    folder: where the files are or go (None: data/downloads). Raises ValueError for another name, DataUnavailable where
    the files are neither there nor can be fetched.
    """
    from torchvision import datasets  # here, because importing it takes a second

    names = {"mnist": datasets.MNIST, "fashionmnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}
    data_set_class = names.get(str(name).lower())
    if data_set_class is None:
        raise ValueError(f"name must be MNIST, FashionMNIST or CIFAR10; got {name!r}")
    folder = Path(folder) if folder is not None else data_folder() / "downloads"
    try:
        data_set = data_set_class(str(folder), train=train, download=download)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:  # all that torchvision is known to raise here
        why = "is there a network, or a damaged file in the way?" if download else "download=False forbids it."
        reason = " ".join(str(error).split()) or type(error).__name__  # torchvision's own spans several lines
        raise DataUnavailable(
            f"{name} is missing or damaged in {folder} and was not downloaded: {why} load_mnist() and load_digits() "
            f"work offline. ({reason})"
        ) from error
    pixels = torch.as_tensor(data_set.data)  # uint8, (N, H, W) or (N, H, W, C)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return from_bytes(pixels), torch.as_tensor(data_set.targets)
