"""The noise predictor: a U-Net that also hears how noisy its input is, and can look at a text.

After Ho et al. 2020 (appendix B), with the time embedding applied as scale and shift (Nichol & Dhariwal 2021,
appendix A) and the text through cross-attention (Rombach et al. 2022, 3.3). What the text is made of is no matter
here: it arrives as vectors, the context. Shapes in comments: B pictures, C channels, H x W pixels, D numbers in the
time embedding, L tokens.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.blocks import AttentionBlock, CrossAttentionBlock, ResidualBlock, TimeEmbedding, group_norm, zero_init
from ddpm_core.support.guards import describe


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
