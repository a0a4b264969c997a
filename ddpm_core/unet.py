"""The noise predictor: a U-Net that also hears how noisy its input is.

After Ho et al. 2020 (appendix B), with the time embedding applied as scale and shift (Nichol & Dhariwal 2021, 3.4).
Shapes in comments: B pictures, C channels, H x W pixels, D numbers in the time embedding.
"""

import math
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
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(B, 3, self.num_heads, C // self.num_heads, H * W)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, H*W, C/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(h.transpose(-1, -2).reshape(B, C, H, W))


class UNet(nn.Module):
    """eps_hat = unet(x_t, t): a picture in, a picture of its noise out.

    in_channels:      channels of the pictures (1 grey, 3 colour)
    channels:         width of each level, finest first; each level works at half the size of the one before
    blocks_per_level: residual blocks on the way down, and again on the way up
    attention_levels: levels with self-attention (0 is the finest); the middle always has it

    forward: x_t (B, in_channels, H, W) floats, t long (B,) -> (B, in_channels, H, W).
    Raises ValueError where H or W is not divisible by 2 ** (levels - 1), or the channels or t do not fit.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (32, 32),
        blocks_per_level: int = 1,
        attention_levels: tuple[int, ...] = (),
    ):
        super().__init__()
        _check_widths(channels, attention_levels)
        self.config = dict(
            in_channels=in_channels,
            channels=tuple(channels),
            blocks_per_level=blocks_per_level,
            attention_levels=tuple(attention_levels),
        )
        D = 4 * channels[0]
        self.time_embedding = TimeEmbedding(channels[0], D)
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        width = channels[0]
        for level, level_width in enumerate(channels):
            attention = level in attention_levels
            self.down.append(_Level(width, level_width, D, blocks_per_level, attention))
            # The way up mirrors the way down: its input is the skip beside what comes from below.
            below = channels[min(level + 1, len(channels) - 1)]
            self.up.insert(0, _Level(below + level_width, level_width, D, blocks_per_level, attention))
            width = level_width
        self.downsample = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.upsample = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in reversed(channels[1:]))
        self.middle = _Level(width, width, D, num_blocks=1, attention=True)
        self.head = nn.Sequential(
            group_norm(channels[0]), nn.SiLU(), zero_init(nn.Conv2d(channels[0], in_channels, 3, padding=1))
        )

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._check_input(x_t, t)
        embedding = self.time_embedding(t)  # (B, D)
        h = self.stem(x_t)
        skips = []
        for level, blocks in enumerate(self.down):
            h = blocks(h, embedding)
            skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
        h = self.middle(h, embedding)
        for level, blocks in enumerate(self.up):
            if level > 0:
                h = self.upsample[level - 1](F.interpolate(h, scale_factor=2, mode="nearest"))
            h = blocks(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.head(h)

    def _check_input(self, x_t: Tensor, t: Tensor) -> None:
        in_channels, levels = self.config["in_channels"], len(self.config["channels"])
        if not isinstance(x_t, Tensor) or x_t.ndim != 4 or not x_t.is_floating_point():
            raise ValueError(f"x_t must be pictures, a tensor of floats (B, {in_channels}, H, W); got {describe(x_t)}")
        if x_t.shape[1] != in_channels:
            raise ValueError(f"x_t has {x_t.shape[1]} channels, but this U-Net was made for in_channels={in_channels}")
        multiple = 2 ** (levels - 1)
        if x_t.shape[2] % multiple or x_t.shape[3] % multiple:
            times = {1: "once", 2: "twice"}.get(levels - 1, f"{levels - 1} times")
            raise ValueError(
                f"pictures of {x_t.shape[2]}x{x_t.shape[3]} cannot be halved {times}: with {levels} levels "
                f"height and width must be multiples of {multiple}"
            )
        if not isinstance(t, Tensor) or t.dtype != torch.long or t.shape != x_t.shape[:1]:
            raise ValueError(f"t must be a long tensor of shape ({len(x_t)},), one step a picture; got {describe(t)}")


class _Level(nn.Module):
    """The blocks that work at one picture size: residual blocks, then attention where it is wanted."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int, num_blocks: int, attention: bool):
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding_dim) for a, b in pairwise(widths))
        self.attention = AttentionBlock(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return self.attention(x)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm in 8 groups."""
    return nn.GroupNorm(8, channels)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """Weights and bias set to 0, so that a block starts as its shortcut and learns what to add."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _check_widths(channels: tuple[int, ...], attention_levels: tuple[int, ...]) -> None:
    if (
        not isinstance(channels, (tuple, list))
        or not channels
        or any(not isinstance(c, int) or c < 8 or c % 8 for c in channels)
    ):
        raise ValueError(f"channels must be multiples of 8, one a level, such as (32, 64); got {channels!r}")
    unknown = [level for level in attention_levels if not 0 <= level < len(channels)]
    if unknown:
        raise ValueError(f"attention_levels must lie between 0 and {len(channels) - 1}; got {attention_levels!r}")
