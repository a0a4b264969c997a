"""Rules for what a network is given."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_core.support.guards.values import describe, is_whole


def network_input(name: str, x: object, network: str, config: dict, dtype: torch.dtype) -> None:
    """A batch of pictures for a convolutional network that halves them; config: what it was made with."""
    in_channels = config["in_channels"]
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point() or x.numel() == 0:
        wanted = f"pictures, a tensor of floats (B, {in_channels}, H, W)"
        raise ValueError(f"{name} must be {wanted}; got {describe(x)}{_remedy(name, x)}")
    C = x.shape[1]
    if in_channels != C:
        raise ValueError(f"{name} has {C} channels, but this {network} was made for in_channels={in_channels}")
    _same_precision(name, x, network, dtype)
    divisible(tuple(x.shape[2:]), config)


def _same_precision(name: str, x: Tensor, network: str, dtype: torch.dtype) -> None:
    if x.dtype != dtype and torch.float64 in (x.dtype, dtype):  # halves beside float32 are autocast's affair
        ours, theirs = (str(kind).removeprefix("torch.") for kind in (dtype, x.dtype))
        raise ValueError(f"{name} is {theirs}, but this {network}'s weights are {ours}: {name}.to(torch.{ours})")


def _remedy(name: str, x: object) -> str:
    """What to do with bytes, and with one picture."""
    if not isinstance(x, Tensor):
        return ""
    if x.dtype == torch.uint8:
        return f": {name}.float() / 127.5 - 1 turns 0..255 into -1..1"
    return f": {name}[None] is a batch of one" if x.ndim == 3 else ""


def divisible(size: tuple[int, int], config: dict) -> None:
    """Height and width of pictures for a network that halves them; config: what it was made with."""
    (H, W), patch_size, halvings = size, config["patch_size"], len(config["channels"]) - 1
    multiple = patch_size * 2**halvings
    if H % multiple or W % multiple:
        times = {1: "once", 2: "twice"}.get(halvings, f"{halvings} times")
        patches = f" and patches of {patch_size}x{patch_size}" if patch_size > 1 else ""
        raise ValueError(
            f"pictures of {H}x{W} cannot be halved {times}: with {halvings + 1} levels{patches} height and width must "
            f"be multiples of {multiple}"
        )


def picture_shape(shape: object, in_channels: int, name: str = "picture_shape") -> None:
    """That of one picture, (C, H, W), for a network made for so many channels."""
    is_shape = isinstance(shape, Sequence) and len(shape) == 3 and all(is_whole(side) and side > 0 for side in shape)
    if not is_shape or shape[0] != in_channels:
        hint = f". This model was made for in_channels={in_channels}" if is_shape and name == "shape" else ""
        if hint and in_channels not in (1, 3):
            hint += f"; where these are latents: autoencoder.latent_shape({tuple(shape)})"
        raise ValueError(f"{name} must be that of one picture, ({in_channels}, H, W); got {describe(shape)}{hint}")


def latents(name: str, z: object, latent_channels: int, dtype: torch.dtype) -> None:
    """dtype: of the weights of the autoencoder that made them."""
    is_fine = isinstance(z, Tensor) and z.ndim == 4 and z.is_floating_point() and z.shape[1] == latent_channels
    if not is_fine or z.numel() == 0:
        raise ValueError(f"{name} must be latents, floats (B, {latent_channels}, h, w); got {describe(z)}")
    _same_precision(name, z, "Autoencoder", dtype)


def unet_input(x_t: object, t: object, context: object, padding: object, config: dict, dtype: torch.dtype) -> None:
    """config: what the U-Net was made with; dtype: of its weights."""
    network_input("x_t", x_t, "U-Net", config, dtype)
    B, context_dim = len(x_t), config["context_dim"]
    if not isinstance(t, Tensor) or t.dtype != torch.long or t.shape != (B,):
        raise ValueError(f"t must be a long tensor of shape ({B},), one step per picture; got {describe(t)}")
    if context_dim is None:
        if context is not None:
            raise ValueError("this U-Net reads no text: it was made without context_dim, and was given a context")
    elif not isinstance(context, Tensor) or context.ndim != 3 or context.shape[::2] != (B, context_dim):
        wanted = f"({B}, L, {context_dim})"
        raise ValueError(f"this U-Net reads a text: context must be of shape {wanted}; got {describe(context)}")
    elif not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != context.shape[:2]:
        raise ValueError(f"padding must be bool, {tuple(context.shape[:2])}; got {describe(padding)}")
