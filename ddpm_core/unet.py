"""The noise predictor: a U-Net that also hears how noisy its input is, and can look at a text.

After Ho et al. 2020 (appendix B), with the time embedding applied as scale and shift (Nichol & Dhariwal 2021,
appendix A) and the text through cross-attention (Rombach et al. 2022, 3.3). What the text is made of is no matter
here: it arrives as vectors, the context. Shapes in comments are those of blocks.py.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.blocks import (
    AttentionBlock,
    CrossAttentionBlock,
    ResidualBlock,
    TimeEmbedding,
    group_norm,
    mean_of_tokens,
    zero_init,
)
from ddpm_core.support import guards
from ddpm_core.support.registry import register


@register
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
    predicts:               "eps", the noise in x_t, "x_0", the picture without it (even areas then stay even), or "v",
                            a mixture of both. train and generate follow it; for sample, noise_predictor makes an
                            eps_model out of the network
    out_channels:           None: as many as in_channels. Fewer for pictures that come with more beside them

    forward: x_t (B, in_channels, H, W) floats, t long (B,) -> (B, out_channels, H, W). With a context_dim also
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
        predicts: str = "eps",
        out_channels: int | None = None,
    ):
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        counts = dict(in_channels=in_channels, out_channels=out_channels)
        counts |= dict(blocks_per_level=blocks_per_level, patch_size=patch_size)
        guards.one_of("predicts", predicts, ("eps", "x_0", "v"))
        guards.unet_plan(channels, attention_levels, cross_attention_levels, context_dim, **counts)
        self.predicts = predicts
        D = 4 * channels[0]
        self.time_embedding = TimeEmbedding(channels[0], D)
        # The gist of the text, the mean of its vectors, reaches every residual block together with the timestep.
        self.gist = None if context_dim is None else nn.Linear(context_dim, D)
        self.to_patches, self.to_pixels = nn.PixelUnshuffle(patch_size), nn.PixelShuffle(patch_size)
        self.stem = nn.Conv2d(in_channels * patch_size**2, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        above, below = [channels[0], *channels], [*channels[1:], channels[-1]]
        for level, width in enumerate(channels):
            context = context_dim if level in cross_attention_levels else None
            plan = (width, D, blocks_per_level, level in attention_levels, context)
            self.down.append(Level(above[level], *plan))
            self.up.insert(0, Level(below[level] + width, *plan))  # what comes from below, and the skip beside it
        self.downsample = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.upsample = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in reversed(channels[1:]))
        self.middle = Level(channels[-1], channels[-1], D, num_blocks=1, attention=True, context_dim=context_dim)
        last = zero_init(nn.Conv2d(channels[0], out_channels * patch_size**2, 3, padding=1))
        self.head = nn.Sequential(group_norm(channels[0]), nn.SiLU(), last)
        # The channels of a pixel side by side in memory makes convolutions faster, and attention needs this layout.
        self.to(memory_format=torch.channels_last)

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        guards.unet_input(x_t, t, context, padding, self.config, self.stem.weight.dtype)
        embedding = self.time_embedding(t)  # (B, D)
        if context is not None:
            embedding = embedding + self.gist(mean_of_tokens(context, padding))
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
        return self.to_pixels(self.head(h))


class Level(nn.Module):
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
