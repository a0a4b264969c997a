"""Checks that several modules share, and the wording of their messages."""

import reprlib

import torch
from torch import Tensor


def describe(value: object) -> str:
    """What an argument looks like: 'float32 tensor of shape (3, 4)' or '0.5 (float)'."""
    kind = "tensor" if isinstance(value, Tensor) else type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):  # NumPy's arrays too
        return f"{str(value.dtype).removeprefix('torch.')} {kind} of shape {tuple(value.shape)}"
    text = reprlib.repr(value)  # which cuts long lists, but not lists of lists
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kind})"


def check_eps_hat(eps_hat: object, shape: torch.Size) -> None:
    """Raises unless what an eps_model returned is a tensor of its input's shape."""
    if not isinstance(eps_hat, Tensor) or eps_hat.shape != shape:
        raise ValueError(f"eps_model must return a tensor of x_t's shape {tuple(shape)}; got {describe(eps_hat)}")


def check_pictures(pictures: object, name: str = "pictures", bytes_too: bool = False) -> None:
    """Raises unless pictures is a float tensor (N, C, H, W) with values in [-1, 1]; bytes_too allows uint8."""
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(f"{name} must be a tensor of pictures, (N, C, H, W); got {describe(pictures)}")
    if bytes_too and pictures.dtype == torch.uint8:
        return
    if not pictures.is_floating_point():
        raise TypeError(
            f"{name} must be floats in [-1, 1]; got {describe(pictures)}. For values 0..255: {name}.float() / 127.5 - 1"
        )
    low, high = pictures.min().item(), pictures.max().item()
    if not (low >= -1 and high <= 1):  # written so that NaN fails too
        hint = f" For values 0..255: {name} / 127.5 - 1" if low >= 0 and high > 2 else ""
        raise ValueError(f"{name} must lie in [-1, 1]; these go from {low:.4g} to {high:.4g}.{hint}")
