"""Imagen in miniature (Saharia et al. 2022): a small picture drawn from text, then a larger one drawn from the small.

The first network is a TextToImage whose text encoder is frozen. Here are the second one, which makes four times the
size of its picture, and the clipping that lets large guidance scales follow a prompt without burning the colours.
Shapes in comments: B pictures, C channels, h x w pixels that become H x W.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.checkpoint import Checkpoint, load_shipped, shipped_checkpoint
from ddpm_core.loss import diffusion_loss
from ddpm_core.prediction import noise_predictor
from ddpm_core.sampling import EpsModel, Randomness, randn, sampler_named, seeded_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.memory import explain_out_of_memory, in_parts
from ddpm_core.support.registry import register
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.training import draw_batches, fit
from ddpm_core.training_state import TrainingState
from ddpm_core.unet import UNet

LEVEL = 0.1  # of the noise in the small pictures, where nobody says how much


@register
class SuperResolver(nn.Module):
    """x_0_hat = model(x_t, t, low, level): draws a large picture of which a small one is known (Ho et al. 2021).

    unet:       predicts x_0; its out_channels are those of a picture, its in_channels twice as many and one more
    low_size:   side of the small pictures
    most_level: the strongest noise in the small pictures that it is taught with, see augmented

    forward: x_t (B, C, H, W), t long (B,), low (B, C, low_size, low_size) with noise in it, and level, how much: (B,),
    or a number for all -> (B, C, H, W). The U-Net predicts what the small picture, enlarged, lacks.
    """

    predicts = "x_0"

    def __init__(self, unet: UNet, low_size: int = 16, most_level: float = 0.4):
        super().__init__()
        guards.super_resolving(unet.config)
        guards.whole_number("low_size", low_size)
        guards.number("most_level", most_level, above=0, most=1)
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, low: Tensor, level: Tensor | float) -> Tensor:
        level = _levels(level, low)
        enlarged = F.interpolate(low, x_t.shape[2:], mode="bicubic")
        plane = level.reshape(-1, 1, 1, 1).expand_as(x_t[:, :1])
        return enlarged + self.unet(torch.cat([x_t, enlarged, plane], dim=1), t)

    def eps_model(self, schedule: NoiseSchedule, low: Tensor, level: Tensor | float) -> EpsModel:
        """eps_model(x_t, t) for these small pictures (B, C, h, w), with noise of this level in them, as of forward."""
        eps_model, level = noise_predictor(self, schedule), _levels(level, low)
        return lambda x_t, t: eps_model(x_t, t, low, level)


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """(B, C, H, W) floats -> (B, C, size, size): each pixel the mean of those that it replaces."""
    guards.pictures(pictures, look=False)
    guards.whole_number("size", size, most=min(pictures.shape[2:]), why=", no larger than the pictures are")
    return F.interpolate(pictures, (size, size), mode="area")


def augmented(low: Tensor, level: Tensor | float, generator: Randomness = None) -> Tensor:
    """Noise conditioning augmentation (Ho et al. 2021, section 3): sqrt(1 - level^2) low + level * noise.

    low: (B, C, h, w); level: (B,), from 0, which leaves it as it is, to 1, which leaves nothing of it; or one number
    """
    level = _levels(level, low).reshape(-1, 1, 1, 1)
    return (1 - level**2).sqrt() * low + level * randn(low.shape, generator, device=low.device)


def _levels(level: Tensor | float, low: Tensor) -> Tensor:
    """The levels of noise in small pictures, where one number may stand for all."""
    guards.noise_level(level, len(low))
    return level if isinstance(level, Tensor) else torch.full((len(low),), float(level), device=low.device)


def train_super_resolver(
    state: TrainingState,
    schedule: NoiseSchedule,
    pictures: Tensor,
    num_iterations: int,
    batch_size: int = 32,
    learning_rate: float = 1.5e-3,
    warmup_iterations: int = 200,
    max_grad_norm: float = 1.0,
    ema_decay: float = 0.999,
    min_snr_gamma: float | None = 0.02,
) -> Iterator[TrainingState]:
    """Teaches state.model, a SuperResolver, to bring back pictures that were shrunk, with fit. Raises what fit raises.

    pictures: (N, C, H, H) floats in [-1, 1] or uint8, in the size that it is to draw. Each time their small versions
              get noise of another level, between 0 and the model's most_level
    """
    guards.instance("state", state, TrainingState, "TrainingState(model)")
    guards.instance("state.model", state.model, SuperResolver)
    guards.instance("schedule", schedule, NoiseSchedule, "NoiseSchedule(betas)")
    guards.pictures_to_learn(pictures)
    guards.worth_shrinking(pictures, state.model.config)
    guards.whole_number("batch_size", batch_size)
    schedule, config = schedule.to(state.device).trusting(), state.model.config

    def batch_loss(batch: tuple[Tensor, None]) -> Tensor:
        x_0, _ = batch
        level = config["most_level"] * torch.rand(len(x_0), generator=state.generator, device=x_0.device)
        low = augmented(shrunk(x_0, config["low_size"]), level, state.generator)
        eps_model = state.model.eps_model(schedule, low, level)
        return diffusion_loss(eps_model, schedule, x_0, state.generator, min_snr_gamma)

    batches = draw_batches(pictures, None, batch_size, state.generator)
    with explain_out_of_memory(batch_size):
        yield from fit(
            state, batch_loss, batches, num_iterations, learning_rate, warmup_iterations, max_grad_norm, ema_decay
        )


def super_resolve(
    model: SuperResolver,
    schedule: NoiseSchedule,
    low: Tensor,
    size: int = 64,
    level: float = LEVEL,
    num_steps: int = 8,
    seed: int = 0,
    sampler: str = "dpm-solver",
) -> Iterator[Tensor]:
    """The steps from noise to large pictures of which small ones are given: yields (B, C, size, size) after each.

    low:   (B, C, low_size, low_size) floats in [-1, 1], the model's low_size
    size:  side of the large pictures, the one that the model was trained on
    level: how much noise is laid over low, from 0 to the model's most_level: with more of it less is believed of what
           low shows, and more is made up
    seed:  as of generate

    Raises ValueError where low is of another size or level out of range.
    """
    guards.instance("model", model, SuperResolver)
    guards.instance("schedule", schedule, NoiseSchedule)
    guards.low_pictures(low, model.config)
    guards.number("level", level, least=0, most=model.config["most_level"])
    guards.whole_number("size", size)
    x_T, generators = seeded_noise(seed, (*low.shape[:2], size, size), low.device)
    eps_model = model.eps_model(schedule.to(low.device).trusting(), augmented(low, level, generators), level)
    return sampler_named(sampler, generators)(eps_model, schedule, x_T, num_steps)


def super_resolved(super_resolver: Checkpoint, low: Tensor, seed: int = 0, level: float = LEVEL) -> Tensor:
    """The last pictures of super_resolve, for many small ones (N, C, h, w), drawn a part at a time, on the CPU."""
    guards.instance("super_resolver", super_resolver, Checkpoint, "load_checkpoint(path)")
    guards.instance("super_resolver.model", super_resolver.model, SuperResolver)
    guards.says_picture_size("super_resolver", super_resolver.notes)
    guards.low_pictures(low, super_resolver.model.config)
    drawn, size = [], super_resolver.notes["picture_size"][1]
    device = next(super_resolver.model.parameters()).device
    for part in in_parts(len(low), (len(low[0]), size, size)):
        some, options = low[part.start : part.stop].to(device), dict(size=size, level=level, seed=seed + part.start)
        *_, pictures = super_resolve(super_resolver.model, super_resolver.schedule, some, **options)
        drawn.append(pictures.cpu())
    return torch.cat(drawn)


def super_resolver_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The course's super-resolver, on the model's device, where a checkpoint's model draws for it; otherwise None.

    Raises FileNotFoundError where its file is missing, and CheckpointError where it is not made for such pictures.
    """
    guards.instance("checkpoint", checkpoint, Checkpoint, "load_checkpoint(path)")
    if "super_resolver" not in checkpoint.notes:
        return None
    guards.says_picture_size("checkpoint", checkpoint.notes)
    path = shipped_checkpoint(checkpoint.notes["super_resolver"])
    loaded = load_shipped(checkpoint.notes["super_resolver"], nn.Module, next(checkpoint.model.parameters()).device)
    low_size, drawn_size = getattr(loaded.model, "config", {}).get("low_size"), checkpoint.notes["picture_size"][1]
    if not isinstance(loaded.model, SuperResolver) or low_size != drawn_size:
        takes = f"enlarges pictures of {low_size}x{low_size}" if low_size else "enlarges no pictures"
        raise CheckpointError(
            f"{path} {takes}, but this model draws {drawn_size}x{drawn_size}; get the right one back with: "
            f"git checkout -- data/{path.name}"
        )
    return loaded


def dynamic_threshold(share: float = 0.995) -> Callable[[Tensor], Tensor]:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3), for samplers to take as clip_x_0.

    Instead of cutting an x_0-prediction off at -1 and 1, each picture is scaled back as a whole: s is the value that
    this share of its numbers do not exceed, in absolute value; where s is above 1, what exceeds it is cut off at s, and
    all is divided by s. share: from 0 to 1
    """
    guards.share_kept(share)

    def threshold(x_0_hat: Tensor) -> Tensor:
        s = x_0_hat.abs().flatten(1).quantile(share, dim=1).clamp(min=1)
        s = s.reshape(-1, *[1] * (x_0_hat.ndim - 1))
        return x_0_hat.clamp(-s, s) / s

    return threshold
