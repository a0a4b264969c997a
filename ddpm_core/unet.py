"""The noise predictor: a U-Net that also hears how noisy its input is, and can look at a text.

After Ho et al. 2020 (appendix B), with the time embedding applied as scale and shift (Nichol & Dhariwal 2021,
appendix A) and the text through cross-attention (Rombach et al. 2022, 3.3). What the text is made of is no matter
here: it arrives as vectors, the context. Shapes in comments: B pictures, C channels, H x W pixels, D numbers in the
time embedding, L tokens.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.errors import describe


class TimeEmbedding(nn.Module):
    """Turns step numbers into vectors: sines and cosines of many wavelengths, then a small network.

    t: long, (B,) -> (B, D). The sinusoids are those of Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, num_sinusoids: int, embedding_dim: int):
        super().__init__()
        self.num_sinusoids = num_sinusoids
        self.network = nn.Sequential(
            nn.Linear(num_sinusoids, embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim)
        )

    def sinusoids(self, t: Tensor) -> Tensor:
        """(B,) -> (B, num_sinusoids): the first half sines, the second half cosines, wavelengths 2 pi to 20,000 pi."""
        half = self.num_sinusoids // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
        angles = t[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def forward(self, t: Tensor) -> Tensor:
        return self.network(self.sinusoids(t))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the time embedding scales and shifts what flows between them.

    x: (B, C_in, H, W), embedding: (B, D) -> (B, C_out, H, W)
    """

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.norm_1 = group_norm(in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_2 = group_norm(out_channels)
        self.conv_2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)  # (B, C_out, 1, 1) each
        h = self.norm_2(h) * (1 + scale) + shift
        h = self.conv_2(F.silu(h))
        return self.shortcut(x) + h


class AttentionBlock(nn.Module):
    """Self-attention: every pixel looks at every other. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, num_heads: int = 4):
        super().__init__()
        self.num_heads = num_heads
        self.norm = group_norm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(as_sequence(self.norm(x)))  # (B, H*W, 3*C)
        q, k, v = split_heads(qkv, 3 * self.num_heads).chunk(3, dim=1)  # each (B, heads, H*W, C/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + as_picture(self.to_out(join_heads(h)), x.shape)


class CrossAttentionBlock(nn.Module):
    """Every pixel looks at every token of a text, and takes from those that concern it.

    x: (B, C, H, W), context: (B, L, context_dim), padding: bool (B, L), True where no token stands -> (B, C, H, W)
    """

    def __init__(self, channels: int, context_dim: int, num_heads: int = 4):
        super().__init__()
        self.num_heads = num_heads
        self.norm = group_norm(channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(context_dim, 2 * channels)
        self.to_out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, padding: Tensor) -> Tensor:
        q, k, v = self.queries_keys_values(x, context)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, None, :])
        return x + as_picture(self.to_out(join_heads(h)), x.shape)

    def queries_keys_values(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels ask (B, heads, H*W, C/heads), tokens answer (B, heads, L, C/heads) twice."""
        q = split_heads(self.to_q(as_sequence(self.norm(x))), self.num_heads)
        k, v = split_heads(self.to_kv(context), 2 * self.num_heads).chunk(2, dim=1)
        return q, k, v

    def attention_weights(self, x: Tensor, context: Tensor, padding: Tensor) -> Tensor:
        """How much each pixel looks at each token, (B, heads, L, H, W): over the tokens they sum to 1. For display."""
        q, k, _ = self.queries_keys_values(x, context)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, heads, H*W, L)
        weights = scores.masked_fill(padding[:, None, None, :], -math.inf).softmax(dim=-1)
        return weights.transpose(-1, -2).unflatten(-1, x.shape[2:])


def as_sequence(x: Tensor) -> Tensor:
    """A picture as a row of pixels: (B, C, H, W) -> (B, H*W, C)."""
    return x.flatten(2).transpose(1, 2)


def as_picture(h: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Back again: (B, H*W, C) -> shape (B, C, H, W)."""
    return h.transpose(1, 2).reshape(shape)


def split_heads(h: Tensor, num_heads: int) -> Tensor:
    """Each head takes its share of the channels: (B, L, C) -> (B, heads, L, C/heads)."""
    return h.unflatten(2, (num_heads, -1)).transpose(1, 2)


def join_heads(h: Tensor) -> Tensor:
    """Back again: (B, heads, L, C/heads) -> (B, L, C)."""
    return h.transpose(1, 2).flatten(2)


class UNet(nn.Module):
    """eps_hat = unet(x_t, t): a picture in, a picture of its noise out.

    in_channels:            channels of the pictures (1 grey, 3 colour)
    channels:               width of each level, finest first; each level works at half the size of the one before
    blocks_per_level:       residual blocks on the way down, and again on the way up
    attention_levels:       levels with self-attention (0 is the finest); the middle always has it
    context_dim:            numbers in each vector of the context (None: a U-Net that reads no text)
    cross_attention_levels: levels that look at the context; the middle always does, where there is one
    patch_size:             side of the squares of pixels that the network takes for one position: 2 makes it nearly
                            four times as fast, for pictures whose finest detail matters less
    input_skip:             x_t itself is added to the output. In heavy noise x_t is nearly all noise, and what is left
                            to predict, a faint picture, is not lost in the error of passing x_t on: for larger pictures

    forward: x_t (B, in_channels, H, W) floats, t long (B,) -> (B, in_channels, H, W). With a context_dim also
    context (B, L, context_dim) and padding, bool (B, L), True where no token stands (a row has at least one token).
    Raises ValueError where H or W is not divisible by patch_size * 2 ** (levels - 1), or the inputs do not fit.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (32, 32),
        blocks_per_level: int = 1,
        attention_levels: tuple[int, ...] = (),
        context_dim: int | None = None,
        cross_attention_levels: tuple[int, ...] = (),
        patch_size: int = 1,
        input_skip: bool = False,
    ):
        super().__init__()
        _check_widths(channels, attention_levels, cross_attention_levels, context_dim)
        for name, number in dict(patch_size=patch_size, blocks_per_level=blocks_per_level).items():
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be a whole number, 1 or more; got {number!r}")
        self.config = dict(
            in_channels=in_channels,
            channels=tuple(channels),
            blocks_per_level=blocks_per_level,
            attention_levels=tuple(attention_levels),
            context_dim=context_dim,
            cross_attention_levels=tuple(cross_attention_levels),
            patch_size=patch_size,
            input_skip=input_skip,
        )
        D = 4 * channels[0]
        patch_channels = in_channels * patch_size**2
        self.time_embedding = TimeEmbedding(channels[0], D)
        # The gist of the text, the mean of its vectors, reaches every residual block together with the step number.
        self.gist = None if context_dim is None else nn.Linear(context_dim, D)
        self.to_patches = nn.PixelUnshuffle(patch_size)
        self.stem = nn.Conv2d(patch_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        width = channels[0]
        for level, level_width in enumerate(channels):
            attention = level in attention_levels
            context = context_dim if level in cross_attention_levels else None
            self.down.append(_Level(width, level_width, D, blocks_per_level, attention, context))
            # The way up mirrors the way down: its input is the skip beside what comes from below.
            below = channels[min(level + 1, len(channels) - 1)]
            self.up.insert(0, _Level(below + level_width, level_width, D, blocks_per_level, attention, context))
            width = level_width
        self.downsample = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.upsample = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in reversed(channels[1:]))
        self.middle = _Level(width, width, D, 1, True, context_dim)
        self.head = nn.Sequential(
            group_norm(channels[0]), nn.SiLU(), zero_init(nn.Conv2d(channels[0], patch_channels, 3, padding=1))
        )
        self.to_pixels = nn.PixelShuffle(patch_size)
        # The channels of a pixel side by side in memory: convolutions are faster so, and attention needs them so.
        self.to(memory_format=torch.channels_last)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        self._check_input(x_t, t)
        self._check_context(x_t, context, padding)
        embedding = self.time_embedding(t)  # (B, D)
        if context is not None:
            is_token = ~padding[:, :, None]
            embedding = embedding + self.gist((context * is_token).sum(dim=1) / is_token.sum(dim=1))
        h = self.stem(self.to_patches(x_t))
        skips = []
        for level, blocks in enumerate(self.down):
            h = blocks(h, embedding, context, padding)
            skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
        h = self.middle(h, embedding, context, padding)
        for level, blocks in enumerate(self.up):
            if level > 0:
                h = self.upsample[level - 1](F.interpolate(h, scale_factor=2, mode="nearest"))
            h = blocks(torch.cat([h, skips.pop()], dim=1), embedding, context, padding)
        h = self.to_pixels(self.head(h))
        return x_t + h if self.config["input_skip"] else h

    def _check_context(self, x_t: Tensor, context: Tensor | None, padding: Tensor | None) -> None:
        context_dim = self.config["context_dim"]
        if context_dim is None:
            if context is not None:
                raise ValueError("this U-Net reads no text: it was made without context_dim, and was given a context")
            return
        shape = f"({len(x_t)}, L, {context_dim})"
        if not isinstance(context, Tensor) or context.ndim != 3 or context.shape[::2] != (len(x_t), context_dim):
            raise ValueError(f"this U-Net reads a text: context must be of shape {shape}; got {describe(context)}")
        if not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != context.shape[:2]:
            raise ValueError(f"padding must be bool, {tuple(context.shape[:2])}; got {describe(padding)}")

    def _check_input(self, x_t: Tensor, t: Tensor) -> None:
        in_channels, levels = self.config["in_channels"], len(self.config["channels"])
        if not isinstance(x_t, Tensor) or x_t.ndim != 4 or not x_t.is_floating_point():
            raise ValueError(f"x_t must be pictures, a tensor of floats (B, {in_channels}, H, W); got {describe(x_t)}")
        if x_t.shape[1] != in_channels:
            raise ValueError(f"x_t has {x_t.shape[1]} channels, but this U-Net was made for in_channels={in_channels}")
        patch_size = self.config["patch_size"]
        multiple = patch_size * 2 ** (levels - 1)
        if x_t.shape[2] % multiple or x_t.shape[3] % multiple:
            times = {1: "once", 2: "twice"}.get(levels - 1, f"{levels - 1} times")
            patches = f" and patches of {patch_size}x{patch_size}" if patch_size > 1 else ""
            raise ValueError(
                f"pictures of {x_t.shape[2]}x{x_t.shape[3]} cannot be halved {times}: with {levels} levels{patches} "
                f"height and width must be multiples of {multiple}"
            )
        if not isinstance(t, Tensor) or t.dtype != torch.long or t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be a long tensor of shape ({len(x_t)},), one step a picture; got {describe(t)}")


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that grows, inside the with block, whenever one of model's cross-attention blocks runs.

    Each entry: how much each pixel looks at each token, the mean over the heads, (B, L, H, W) at the block's own size.
    Outside the with block nothing is recorded and nothing is slower.
    """
    maps: list[Tensor] = []

    def record(block: CrossAttentionBlock, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        with torch.no_grad():
            maps.append(block.attention_weights(*inputs).mean(dim=1))

    blocks = [module for module in model.modules() if isinstance(module, CrossAttentionBlock)]
    hooks = [block.register_forward_hook(record) for block in blocks]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


class _Level(nn.Module):
    """The blocks that work at one picture size: residual blocks, then attention to itself and to the text."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        num_blocks: int,
        attention: bool,
        context_dim: int | None,
    ):
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding_dim) for a, b in pairwise(widths))
        self.attention = AttentionBlock(out_channels) if attention else nn.Identity()
        self.cross_attention = None if context_dim is None else CrossAttentionBlock(out_channels, context_dim)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None, padding: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        x = self.attention(x)
        return x if self.cross_attention is None else self.cross_attention(x, context, padding)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm in 8 groups."""
    return nn.GroupNorm(8, channels)


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Weights and bias set to 0, so that a block starts as its shortcut and learns what to add."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _check_widths(
    channels: tuple[int, ...],
    attention_levels: tuple[int, ...],
    cross_attention_levels: tuple[int, ...],
    context_dim: int | None,
) -> None:
    if (
        not isinstance(channels, (tuple, list))
        or not channels
        or any(not isinstance(c, int) or c < 8 or c % 8 for c in channels)
    ):
        raise ValueError(f"channels must be multiples of 8, one a level, such as (32, 64); got {channels!r}")
    for name, levels in dict(attention=attention_levels, cross_attention=cross_attention_levels).items():
        if any(not 0 <= level < len(channels) for level in levels):
            raise ValueError(f"{name}_levels must lie between 0 and {len(channels) - 1}; got {levels!r}")
    if cross_attention_levels and context_dim is None:
        raise ValueError("cross_attention_levels need a context_dim: how many numbers each vector of the text has")
