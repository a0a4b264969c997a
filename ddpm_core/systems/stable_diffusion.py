"""Stable Diffusion in miniature (Rombach et al. 2022): an autoencoder, and diffusion in the space of its latents.

Shapes in comments: B pictures, C channels, H x W pixels; a latent has c channels and h x w places.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpm_core.blocks import ResidualBlock, group_norm
from ddpm_core.checkpoint import Checkpoint, model_checksum, shipped_model
from ddpm_core.support import guards
from ddpm_core.support.memory import explain_out_of_memory, in_parts
from ddpm_core.support.pixels import as_floats
from ddpm_core.support.registry import register
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.training import draw_batches, fit
from ddpm_core.training_state import TrainingState


class AutoencoderMismatch(CheckpointError):
    """An autoencoder that did not make the latents that a model was trained on."""


class Posterior(NamedTuple):
    """What the encoder makes of pictures: a Gaussian for every number of their latents, q(z | x)."""

    mean: Tensor  # (B, c, h, w)
    log_variance: Tensor  # (B, c, h, w)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A latent drawn from it: the mean and some noise, so that gradients flow to both (Kingma & Welling 2014)."""
        guards.randomness(generator)
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + (self.log_variance / 2).exp() * noise

    def kl(self) -> Tensor:
        """KL(q(z | x) || N(0, I)) in nats per number of the latent, (B,) (Kingma & Welling 2014, appendix B)."""
        nats = (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance) / 2
        return nats.mean(dim=(1, 2, 3))


@register
class Autoencoder(nn.Module):
    """Pictures to latents of fewer numbers, and back (Rombach et al. 2022, section 3.1, KL-regularised).

    in_channels:      channels of the pictures (1 grey, 3 colour)
    channels:         width of each level, finest first; each level works at half the size of the one before
    latent_channels:  numbers at each place of a latent
    blocks_per_level: residual blocks, in the encoder and in the decoder
    patch_size:       side of the squares of pixels that the network takes for one position

    The latents that encode gives and decode takes have mean 0 and deviation 1 in each channel over the pictures that
    standardise was called with: the noise schedules are made for such numbers.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: tuple[int, ...] = (48, 96),
        latent_channels: int = 4,
        blocks_per_level: int = 1,
        patch_size: int = 2,
    ):
        super().__init__()
        counts = dict(in_channels=in_channels, blocks_per_level=blocks_per_level, patch_size=patch_size)
        guards.unet_plan(channels, (), (), None, **counts)
        guards.whole_number("latent_channels", latent_channels)
        patch_channels = in_channels * patch_size**2
        encoder = [nn.PixelUnshuffle(patch_size), nn.Conv2d(patch_channels, channels[0], 3, padding=1)]
        decoder = [nn.PixelShuffle(patch_size), nn.Conv2d(channels[0], patch_channels, 3, padding=1)]
        decoder += [nn.SiLU(), group_norm(channels[0])]  # built from its end, as a mirror of the encoder, then turned
        for level, (above, width) in enumerate(pairwise([channels[0], *channels])):
            if level > 0:
                encoder.append(nn.Conv2d(above, above, 3, stride=2, padding=1))  # half the size
                decoder += [nn.Conv2d(above, above, 3, padding=1), nn.Upsample(scale_factor=2, mode="nearest")]
            widths = [above] + [width] * blocks_per_level
            encoder += [ResidualBlock(a, b, embedding_dim=None) for a, b in pairwise(widths)]
            decoder += [ResidualBlock(b, a, embedding_dim=None) for a, b in pairwise(widths)]
        encoder += [group_norm(channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], 2 * latent_channels, 3, padding=1)]
        decoder += [nn.Conv2d(latent_channels, channels[-1], 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*reversed(decoder))
        # Nearly certain at first, with a deviation of 0.05: from latents that are mostly noise little can be learnt.
        nn.init.constant_(self.encoder[-1].bias[latent_channels:], -6)
        self.register_buffer("latent_mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, latent_channels, 1, 1))
        self.to(memory_format=torch.channels_last)  # faster, as in the U-Net

    def posterior(self, pictures: Tensor) -> Posterior:
        """(B, C, H, W) floats in [-1, 1] -> the Gaussians of their latents, before they are standardised."""
        weight = self.encoder[1].weight
        guards.network_input("pictures", pictures, "Autoencoder", self.config, weight.dtype)
        mean, log_variance = self.encoder(pictures).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-30, 20))

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) floats in [-1, 1] -> their standardised latents z_0, (B, c, h, w): the posterior's mean."""
        mean = self.posterior(pictures).mean
        guards.not_far_off("pictures", pictures)
        return (mean - self.latent_mean) / self.latent_std

    def decode(self, z_0: Tensor) -> Tensor:
        """(B, c, h, w) standardised latents -> pictures (B, C, H, W) in [-1, 1]."""
        guards.latents("z_0", z_0, self.config["latent_channels"], self.latent_mean.dtype)
        return self.decoder(z_0 * self.latent_std + self.latent_mean).clamp(-1, 1)

    def latent_shape(self, picture_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of pictures (C, H, W). Raises ValueError where these cannot be halved as often."""
        guards.picture_shape(picture_shape, self.config["in_channels"])
        _, H, W = picture_shape
        guards.divisible((H, W), self.config)
        shrinks = self.config["patch_size"] * 2 ** (len(self.config["channels"]) - 1)
        return self.config["latent_channels"], H // shrinks, W // shrinks

    def forward(self, pictures: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """For training: the pictures as they come back from a latent drawn from the posterior, and the posterior."""
        posterior = self.posterior(pictures)
        return self.decoder(posterior.sample(generator)), posterior

    @torch.no_grad()
    def standardise(self, pictures: Tensor) -> None:
        """Measures the latents of pictures (N, C, H, W), floats or uint8, and keeps mean and deviation per channel."""
        self.latent_mean.zero_()
        self.latent_std.fill_(1)
        latents = encoded(self, pictures)
        self.latent_mean.copy_(latents.mean(dim=(0, 2, 3), keepdim=True))
        self.latent_std.copy_(latents.std(dim=(0, 2, 3), keepdim=True))


@torch.no_grad()
def encoded(autoencoder: Autoencoder, pictures: Tensor) -> Tensor:
    """The latents of pictures (N, C, H, W), floats in [-1, 1] or uint8, a part at a time: (N, c, h, w) on the CPU."""
    guards.instance("autoencoder", autoencoder, Autoencoder)
    guards.pictures(pictures, bytes_too=True, look=False)
    device, latents = autoencoder.latent_mean.device, []
    for part in in_parts(len(pictures), pictures.shape[1:]):
        some = as_floats(pictures[part.start : part.stop].to(device))
        latents.append(autoencoder.encode(some).cpu())
    return torch.cat(latents)


@torch.no_grad()
def decoded(autoencoder: Autoencoder, z_0: Tensor) -> Tensor:
    """The pictures of standardised latents z_0 (N, c, h, w), decoded a part at a time: (N, C, H, W) on the CPU."""
    guards.instance("autoencoder", autoencoder, Autoencoder)
    guards.latents("z_0", z_0, autoencoder.config["latent_channels"], autoencoder.latent_mean.dtype)
    device = autoencoder.latent_mean.device
    parts = in_parts(len(z_0), (1, 4 * z_0.shape[2], 4 * z_0.shape[3]))  # a picture is about as large
    return torch.cat([autoencoder.decode(z_0[part.start : part.stop].to(device)).cpu() for part in parts])


def autoencoder_of(checkpoint: Checkpoint, autoencoder: Checkpoint | None = None) -> Autoencoder | None:
    """The autoencoder in whose latents a checkpoint's model draws, on its device; None where it draws pictures.

    autoencoder: None, the one that comes with the course; or one of your own

    Raises AutoencoderMismatch where the model learnt in the latents of another one, FileNotFoundError where the file of
    the course is missing, CheckpointError where it holds another network, ValueError for one of your own where none is
    needed, and TypeError for what is no checkpoint of an autoencoder.
    """
    guards.instance("checkpoint", checkpoint, Checkpoint, "load_checkpoint(path)")
    if "autoencoder" not in checkpoint.notes:
        if autoencoder is not None:
            raise ValueError("this model draws pictures, not latents: it has no use for the autoencoder given")
        return None
    if autoencoder is None:
        network, whose = shipped_model("autoencoder", Autoencoder), "the course's"
        fix = "git checkout -- data/autoencoder.safetensors brings that one back; one of your own is given in Python"
    else:
        guards.instance("autoencoder", autoencoder, Checkpoint, "load_checkpoint(path)")
        guards.instance("autoencoder.model", autoencoder.model, Autoencoder)
        network, whose, fix = autoencoder.model, "the one given", "give the one that it was trained with"
    if model_checksum(network) != checkpoint.notes["autoencoder"]:
        raise AutoencoderMismatch(
            f"this model was trained in the latents of another autoencoder than {whose}, which cannot decode what it "
            f"draws: {fix}, autoencoder_of(checkpoint, load_checkpoint(path))"
        )
    return network.to(next(checkpoint.model.parameters()).device)


def autoencoder_loss(
    pictures: Tensor, decoded: Tensor, posterior: Posterior, edge_weight: float = 1.0, kl_weight: float = 1e-3
) -> Tensor:
    """How far decoded pictures are off, and how far the latents are from N(0, I): a scalar.

    edge_weight: of the differences between neighbouring pixels, so that a blur costs more than a wrong shade; the paper
                 has a perceptual and an adversarial loss here, which need networks of their own
    kl_weight:   without it the latents spread as they like, with holes between them

    Raises ValueError where the two are of different shapes, or a weight is below 0.
    """
    guards.floats(pictures=pictures, decoded=decoded)
    guards.number("edge_weight", edge_weight, least=0)
    guards.number("kl_weight", kl_weight, least=0)
    pixels = (decoded - pictures).abs().mean()
    edges = sum((decoded.diff(dim=dim) - pictures.diff(dim=dim)).abs().mean() for dim in (2, 3))
    return pixels + edge_weight * edges + kl_weight * posterior.kl().mean()


def train_autoencoder(
    state: TrainingState,
    pictures: Tensor,
    num_iterations: int,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    warmup_iterations: int = 100,
    max_grad_norm: float = 1.0,
    ema_decay: float = 0.998,
    **weights: float,
) -> Iterator[TrainingState]:
    """Teaches state.model, an Autoencoder, to bring pictures back, with fit. Raises what fit raises.

    pictures: (N, C, H, W) floats in [-1, 1] or uint8
    weights:  edge_weight and kl_weight, see autoencoder_loss

    In the end call standardise of the model that is to be used, state.ema_model.
    """
    guards.instance("state", state, TrainingState, "TrainingState(model)")
    guards.instance("state.model", state.model, Autoencoder)
    guards.pictures_to_learn(pictures)
    guards.whole_number("batch_size", batch_size)

    def batch_loss(batch: tuple[Tensor, None]) -> Tensor:
        x, _ = batch
        return autoencoder_loss(x, *state.model(x, state.generator), **weights)

    batches = draw_batches(pictures, None, batch_size, state.generator)
    with explain_out_of_memory(batch_size):
        yield from fit(
            state, batch_loss, batches, num_iterations, learning_rate, warmup_iterations, max_grad_norm, ema_decay
        )
