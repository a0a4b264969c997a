"""Rules for super-resolution, and for drawing by way of CLIP's vectors."""

from collections.abc import Sequence

from torch import Tensor

from ddpm_core.support.guards.networks import unit_vectors
from ddpm_core.support.guards.tensors import finite, not_far_off, pictures
from ddpm_core.support.guards.values import describe, number


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


def worth_shrinking(pictures: Tensor, config: dict) -> None:
    """Pictures (N, C, H, W), large ones. config: what a SuperResolver was made with."""
    size, C = config["low_size"], config["unet"]["config"]["out_channels"]
    if pictures.shape[1] != C or pictures.shape[2] != pictures.shape[3] or pictures.shape[3] <= size:
        wanted = f"square and larger than the model's low_size, (N, {C}, H, H) with H above {size}"
        raise ValueError(f"pictures must be {wanted}; got {describe(pictures)}")


def noise_level(level: object, num_pictures: int) -> None:
    """A number for all of so many pictures, or a tensor with one for each. A GPU is spared the look at its values."""
    if not isinstance(level, Tensor):
        number("level", level, least=0, most=1)
        return
    if level.numel() not in (1, num_pictures) or not level.is_floating_point():
        wanted = f"a number, or a tensor of floats ({num_pictures},), one for each picture"
        raise ValueError(f"level must be {wanted}; got {describe(level)}")
    if level.device.type == "cpu" and not ((level >= 0) & (level <= 1)).all():  # written so that NaN fails too
        low, high = level.min().item(), level.max().item()
        raise ValueError(f"level must lie between 0 and 1; these go from {low:.4g} to {high:.4g}")


def share_kept(share: object) -> None:
    """Of dynamic_threshold, which is easily taken for what it returns."""
    if isinstance(share, Tensor):
        hint = "dynamic_threshold() returns the function that takes x_0_hat, so with brackets: clip_x_0="
        raise TypeError(f"share must be a number; got {describe(share)}. {hint}dynamic_threshold()")
    number("share", share, least=0, most=1)


def vectors(name: str, vectors: object, dim: int | None = None, look: bool = True) -> None:
    """CLIP's vectors, (B, dim), of length 1. dim=None: of any CLIP; look=False: of any length."""
    is_fine = isinstance(vectors, Tensor) and vectors.ndim == 2 and vectors.is_floating_point() and len(vectors) > 0
    if not is_fine or (dim is not None and vectors.shape[1] != dim):
        given = f"{describe(vectors)}{_remedy(name, vectors)}"
        raise ValueError(f"{name} must be vectors of CLIP, floats (B, {dim or 'D'}); got {given}")
    if look:
        finite(name, vectors)
        unit_vectors(name, vectors)


def _remedy(name: str, value: object) -> str:
    """How texts, pictures and one vector become vectors."""
    if isinstance(value, str) or (isinstance(value, Sequence) and value and isinstance(value[0], str)):
        return ": text_vectors(clip, prompts) of ddpm_core.systems makes them of a list of texts"
    if not isinstance(value, Tensor):
        return ""
    hints = {1: f": {name}[None] is a batch of one", 4: ": clip.encode_pictures(pictures) makes them"}
    return hints.get(value.ndim, "")


def comparable(look: bool, **several: object) -> None:
    """Vectors of one CLIP, (B, D) or (1, D) each; their keywords are their names. look=False: of any length."""
    for name, value in several.items():
        vectors(name, value, look=look)
    shapes = [tuple(value.shape) for value in several.values()]
    if len({D for _, D in shapes}) > 1 or len({B for B, _ in shapes} - {1}) > 1:
        *names, last = several
        given = ", ".join(map(str, shapes))
        raise ValueError(f"{', '.join(names)} and {last} must be (B, D) or (1, D), of one B and D; got {given}")


def not_opposite(a: Tensor, b: Tensor) -> None:
    """Vectors of length 1; b may be 0."""
    if not a.is_meta and ((a + b).norm(dim=1) < 1e-3).any():
        raise ValueError("there is no one way between opposite vectors: b must not be -a")
