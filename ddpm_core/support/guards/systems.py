"""Rules for super-resolution, and for drawing by way of CLIP's vectors."""

from torch import Tensor

from ddpm_core.support.guards.networks import unit_vectors
from ddpm_core.support.guards.tensors import finite, not_far_off, pictures
from ddpm_core.support.guards.values import describe


def super_resolving(unet: dict) -> None:
    """The config of a U-Net that sees, beside x_t, a small picture and one channel for how noisy that is."""
    C, wanted = unet["out_channels"] or unet["in_channels"], "a U-Net that predicts x_0 for a SuperResolver"
    if unet["in_channels"] != 2 * C + 1:
        given = f"{unet['in_channels']} and {C}"
        raise ValueError(f"{wanted} has in_channels = 2 * out_channels + 1, such as 7 and 3; got {given}")
    if unet["predicts"] != "x_0":
        raise ValueError(f'{wanted} is made with predicts="x_0"; this one predicts {unet["predicts"]}')
    if unet["context_dim"] is not None:
        raise ValueError("a SuperResolver reads no text: its U-Net is made without a context_dim")


def says_picture_size(name: str, notes: dict) -> None:
    """name: of the checkpoint with these notes."""
    if "picture_size" not in notes:
        raise ValueError(f"{name}.notes must say how large its pictures are: picture_size, such as [3, 64, 64]")


def has_context(unet: dict) -> None:
    """The config of a U-Net that looks at something beside x_t."""
    if unet["context_dim"] is None:
        raise ValueError("the U-Net must be made with a context_dim: how many numbers each vector that it looks at has")


def same_vectors(prior: dict, decoder: dict) -> None:
    if prior["vector_dim"] != decoder["vector_dim"]:
        raise ValueError(
            f"the prior draws vectors of {prior['vector_dim']} numbers, but the decoder reads {decoder['vector_dim']}: "
            "they belong to different CLIPs"
        )


def low_pictures(low: object, config: dict) -> None:
    """config: what a SuperResolver was made with."""
    size, C = config["low_size"], config["unet"]["config"]["out_channels"]
    pictures(low, "low", look=False)
    if tuple(low.shape[1:]) != (C, size, size):
        hint = f": shrunk(low, {size})" if low.shape[1] == C and low.shape[2] == low.shape[3] > size else ""
        raise ValueError(f"low must be pictures of {size}x{size}, (B, {C}, {size}, {size}); got {describe(low)}{hint}")
    not_far_off("low", low)


def vectors(name: str, vectors: object, dim: int) -> None:
    """CLIP's vectors, (B, dim), of length 1."""
    is_fine = isinstance(vectors, Tensor) and vectors.ndim == 2 and vectors.is_floating_point() and len(vectors) > 0
    if not is_fine or vectors.shape[1] != dim:
        raise ValueError(f"{name} must be vectors of CLIP, floats (B, {dim}); got {describe(vectors)}")
    finite(name, vectors)
    unit_vectors(name, vectors)
