"""Between pictures in [-1, 1], bytes and files. Nothing here is about diffusion."""

import torch
from torch import Tensor


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8, 0 to 255 -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes(pictures: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8. Values outside are cut off, as a screen has no more."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
