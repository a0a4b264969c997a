"""Rules for pictures, noise, timesteps and schedules."""

import warnings

import torch
from torch import Size, Tensor

from ddpm_core.support.guards.values import describe


def shape(name: str, value: object, wanted: Size, whose: str) -> None:
    """whose: what has the wanted shape."""
    if not isinstance(value, Tensor) or value.shape != wanted:
        raise ValueError(f"{name} must be a tensor of {whose} shape {tuple(wanted)}; got {describe(value)}")


def unit_vector(name: str, vector: object, wanted: Size, whose: str) -> None:
    """One vector of length 1. whose: what has the wanted shape."""
    shape(name, vector, wanted, whose)
    length = vector.float().norm().item()
    if not abs(length - 1) <= 0.01:  # written so that NaN fails too
        raise ValueError(f"{name} must have length 1, as after F.normalize({name}, dim=0); its length is {length:.4g}")


def finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite; some of these numbers are NaN or infinite")


def floats(**two: object) -> None:
    """Both tensors are floating point and of one shape; their keywords are their names in the message."""
    for name, value in two.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            is_whole = isinstance(value, Tensor) and value.ndim > 1
            hint = " (turn 0..255 into -1..1 first: x.float() / 127.5 - 1)" if is_whole else ""
            raise TypeError(f"{name} must be a tensor of floats; got {describe(value)}{hint}")
    (name_a, a), (name_b, b) = two.items()
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have one shape; got {tuple(a.shape)} and {tuple(b.shape)}")


def pictures(
    pictures: object, name: str = "pictures", bytes_too: bool = False, look: bool = True, hint: str = ""
) -> None:
    """A float tensor (N, C, H, W) with values in [-1, 1]; bytes_too allows uint8, look=False any values.

    hint: what to say of other values, where they do not look like bytes
    """
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) == 0:
        one = f": {name}[None] is a batch of one" if isinstance(pictures, Tensor) and pictures.ndim == 3 else ""
        raise ValueError(f"{name} must be a tensor of pictures, (N, C, H, W); got {describe(pictures)}{one}")
    if bytes_too and pictures.dtype == torch.uint8:
        return
    if not pictures.is_floating_point():
        raise TypeError(
            f"{name} must be floats in [-1, 1]; got {describe(pictures)}. For values 0..255: {name}.float() / 127.5 - 1"
        )
    low, high = (pictures.min().item(), pictures.max().item()) if look else (-1, 1)
    if not (low >= -1 and high <= 1):  # written so that NaN fails too
        hint = f" For values 0..255: {name} / 127.5 - 1" if low >= 0 and high > 2 else hint
        raise ValueError(f"{name} must lie in [-1, 1]; these go from {low:.4g} to {high:.4g}.{hint}")


def pictures_to_learn(data: object, bounded: bool = True, hint: str = "", stacklevel: int = 3) -> None:
    """Pictures, all of them, and no way back to where they were made; warns of [0, 1]. See pictures for the hint."""
    pictures(data, bytes_too=bounded, look=bounded, hint=hint)
    no_gradient("pictures", data)
    if bounded and data.is_floating_point() and data.min() >= 0:
        warnings.warn("no value of pictures is below 0; if they are in [0, 1]: pictures * 2 - 1", stacklevel=stacklevel)


def no_gradient(name: str, data: Tensor) -> None:
    """What is learnt from: its gradient would lead back, in every iteration, to where it was made."""
    if data.requires_grad:
        hint = "; encoded(autoencoder, pictures) makes latents without one" if name == "pictures" else ""
        raise ValueError(f"{name} must not require a gradient: {name}.detach(){hint}")


def not_far_off(name: str, pictures: Tensor) -> None:
    """Values in [-1, 1], or a little outside, as what was computed may be."""
    low, high = (bound.item() for bound in pictures.detach().aminmax())
    if not (low >= -2 and high <= 2):  # written so that NaN fails too
        hint = f" For values 0..255: {name} / 127.5 - 1" if low >= 0 else ""
        raise ValueError(f"{name} must lie in [-1, 1]; these go from {low:.4g} to {high:.4g}.{hint}")


def two_samples(least: int, **two: object) -> None:
    """Features of two sets of pictures, (N, D) and (M, D), N and M at least least; their keywords are their names."""
    for name, features in two.items():
        if not isinstance(features, Tensor) or not features.is_floating_point() or features.ndim != 2:
            raise ValueError(f"{name} must be a tensor of floats (N, D), one row a picture; got {describe(features)}")
        if len(features) < least:
            raise ValueError(f"{name} must have {least} rows or more, to know their spread; got {len(features)}")
        if not features.isfinite().all():
            bad = int((~features.isfinite().all(dim=1)).sum())
            raise ValueError(f"{name} must be finite; {bad} of its {len(features)} rows hold NaN or infinity")
    (name_a, a), (name_b, b) = two.items()
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{name_a} and {name_b} must come from one network, as many numbers in a row; got {a.shape[1]} and "
            f"{b.shape[1]}"
        )


def one_picture(picture: object, name: str = "picture", bytes_too: bool = False) -> None:
    """A float tensor (C, H, W) with values in [-1, 1], C = 1 or 3, as a screen shows it; bytes_too allows uint8."""
    if not isinstance(picture, Tensor) or picture.ndim != 3 or len(picture) not in (1, 3) or picture.numel() == 0:
        likely = {2: f": {name}[None] adds the channel", 4: f": {name}[0] is the first of a batch"}
        hint = likely.get(picture.ndim, "") if isinstance(picture, Tensor) else ""
        raise ValueError(f"{name} must be one picture, (1, H, W) or (3, H, W); got {describe(picture)}{hint}")
    pictures(picture[None], name, bytes_too)


def mask(mask: object, height: int, width: int, of: str = "the picture", may_be_empty: bool = True) -> None:
    """Bool (height, width), True where something is to be redrawn. of: what has that size."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (height, width):
        times = mask.shape[0] // height if isinstance(mask, Tensor) and mask.ndim == 2 else 0
        is_larger = times > 1 and mask.dtype == torch.bool and mask.shape == (times * height, times * width)
        hint = f". For latents: F.max_pool2d(mask[None].float(), {times})[0].bool()" if is_larger else ""
        raise ValueError(f"mask must be bool, ({height}, {width}), as {of} is; got {describe(mask)}{hint}")
    if not may_be_empty and not mask.any():
        raise ValueError("mask is False everywhere, so there is nothing to redraw")


def rows(rows: object, num_pictures: int) -> None:
    """Long, (N,): which of so many pictures."""
    is_row = isinstance(rows, Tensor) and rows.dtype == torch.long and rows.ndim == 1
    if not is_row or ((rows < 0) | (rows >= num_pictures)).any():
        wanted = f"a long tensor (N,), numbers from 0 to {num_pictures - 1}"
        raise ValueError(f"rows must be {wanted}, such as torch.tensor([0, 7]); got {describe(rows)}")


def points(points: object, num_pictures: int) -> None:
    """Where each picture stands on a map: finite numbers (N, 2), a tensor or an array."""
    is_table = getattr(points, "shape", ()) == (num_pictures, 2) and hasattr(points, "dtype")
    if not is_table:
        raise ValueError(f"points must be (N, 2), a place for each of {num_pictures} pictures; got {describe(points)}")
    if not torch.as_tensor(points).isfinite().all():
        raise ValueError("points must be finite; some of these are nan or infinite")


def betas(betas: object) -> None:
    if not isinstance(betas, Tensor) or betas.ndim != 1 or len(betas) == 0 or not betas.is_floating_point():
        raise ValueError(f"betas must be a 1-D tensor of floats, such as linear_betas(1000); got {describe(betas)}")
    if not ((betas > 0) & (betas < 1)).all():
        low, high = betas.min().item(), betas.max().item()
        raise ValueError(f"betas must lie strictly between 0 and 1; these go from {low:.4g} to {high:.4g}")


def alpha_bars(alpha_bars: Tensor) -> None:
    """None rounded to 0 or 1: the inverse and the posterior divide by alpha_bar and by 1 - alpha_bar."""
    first, last = alpha_bars[0].item(), alpha_bars[-1].item()
    if first == 1 or last == 0:
        why = "the first beta is too small" if first == 1 else "the betas together leave nothing of the picture"
        raise ValueError(
            f"alpha_bars must lie strictly between 0 and 1; rounded, these go from {first:.4g} to {last:.4g}: {why}"
        )


def timesteps(t: object, x: Tensor, num_timesteps: int, look: bool = True) -> None:
    """Long, (B,), with values from 0 to num_timesteps - 1. look=False spares a GPU the look at the values."""
    B = len(x)
    if not isinstance(t, Tensor) or t.dtype != torch.long:
        raise TypeError(
            f"t must be a tensor of whole numbers (dtype torch.long), such as torch.full(({B},), 5); got {describe(t)}"
        )
    if t.shape != (B,):
        raise ValueError(
            f"t must hold one timestep for each of the {B} pictures, shape ({B},); got shape {tuple(t.shape)}"
        )
    lowest, highest = (bound.item() for bound in t.aminmax()) if B and look else (0, 0)
    if lowest < 0 or highest >= num_timesteps:
        raise ValueError(
            f"t must lie between 0 and {num_timesteps - 1} (this schedule has {num_timesteps} timesteps, counted from "
            f"0); got {lowest} to {highest}"
        )


def usable_device(device: object) -> None:
    """A device of torch's that this machine has."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".:")  # what follows is about debugging torch
        raise ValueError(
            f'device must be one that this machine has, such as "cpu"; got {describe(device)} ({reason})'
        ) from error


def same_device(schedule: Tensor, pictures: Tensor) -> None:
    if schedule.device != pictures.device:
        raise ValueError(
            f"the schedule is on {schedule.device} but the pictures are on {pictures.device}: "
            f'move it with schedule = schedule.to("{pictures.device}")'
        )
