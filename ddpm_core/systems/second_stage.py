"""What makes pictures of what a text-to-image model draws: a decoder of latents, a super-resolver, or nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ddpm_core.checkpoint import Checkpoint
from ddpm_core.support import guards
from ddpm_core.systems.dalle2 import DALLE2, clip_of
from ddpm_core.systems.imagen import SuperResolver, super_resolved, super_resolver_of
from ddpm_core.systems.stable_diffusion import Autoencoder, autoencoder_of, decoded

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class SecondStage:
    """The way from what a model draws to pictures."""

    shape: Callable[[Shape], Shape] = tuple  # that of pictures (C, H, W) -> that of what the model draws for them
    clip_x_0: bool = True  # False where that need not lie in [-1, 1]
    finish: Callable[[Tensor, int], Tensor] = lambda x_0, seed: x_0.cpu()  # what it drew -> pictures, on the CPU


def second_stage(autoencoder: Autoencoder | None = None, super_resolver: Checkpoint | None = None) -> SecondStage:
    """That of a model that draws in an autoencoder's latents, or small pictures for a super-resolver; or in full."""
    if autoencoder is not None:
        guards.instance("autoencoder", autoencoder, Autoencoder)
        return SecondStage(autoencoder.latent_shape, False, lambda z_0, seed: decoded(autoencoder, z_0.float()))
    if super_resolver is not None:
        guards.instance("super_resolver", super_resolver, Checkpoint, "load_checkpoint(path)")
        guards.instance("super_resolver.model", super_resolver.model, SuperResolver)
        low_size = super_resolver.model.config["low_size"]
        finish = lambda low, seed: super_resolved(super_resolver, low.float(), seed)  # noqa: E731
        return SecondStage(lambda shape: (shape[0], low_size, low_size), True, finish)
    return SecondStage()


def second_stage_of(checkpoint: Checkpoint) -> SecondStage:
    """That of a checkpoint's model. Raises what autoencoder_of and super_resolver_of do."""
    return second_stage(autoencoder_of(checkpoint), super_resolver_of(checkpoint))


def companions_of(checkpoint: Checkpoint) -> dict:
    """What draw_all takes beside a checkpoint's model: the networks with which that one is a system."""
    clip = clip_of(checkpoint) if isinstance(checkpoint.model, DALLE2) else None
    return dict(clip=clip, autoencoder=autoencoder_of(checkpoint), super_resolver=super_resolver_of(checkpoint))
