"""A cat, 256x256."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_core.support.files import shipped_file


def load_cat(size: int = 256) -> Tensor:
    """The cat as one picture (1, 3, size, size) in [-1, 1]. size is a divisor of 256, and averages pixels."""
    import numpy as np
    from PIL import Image

    if size not in (256, 128, 64, 32, 16, 8):
        raise ValueError(f"size must be 256, 128, 64, 32, 16 or 8; got {size!r}")
    with Image.open(shipped_file("cat.png")) as picture:
        pixels = torch.tensor(np.asarray(picture.convert("RGB")), dtype=torch.float32)  # (256, 256, 3), 0..255
    cat = pixels.permute(2, 0, 1)[None] / 127.5 - 1
    return F.avg_pool2d(cat, 256 // size)
