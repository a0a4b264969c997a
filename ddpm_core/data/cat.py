"""A cat, 256x256."""

import torch.nn.functional as F
from torch import Tensor

from ddpm_core.support import guards
from ddpm_core.support.files import reading
from ddpm_core.support.pixels import from_bytes, read_rgb


def load_cat(size: int = 256) -> Tensor:
    """The cat as one picture (1, 3, size, size) in [-1, 1]. size is a divisor of 256, and averages pixels.

    Raises ValueError for another size, and DataUnavailable where the file is missing or damaged.
    """
    guards.one_of("size", size, (256, 128, 64, 32, 16, 8))
    with reading("cat.png") as (path,):
        pixels = read_rgb(path)
    return F.avg_pool2d(from_bytes(pixels)[None], 256 // size)
