"""What the networks are built of: time embedding, residual block, attention to itself and to a text.

Shapes in comments: B pictures, C channels, H x W pixels, D numbers in the time embedding, L tokens.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.support import guards


class TimeEmbedding(nn.Module):
    """Turns timesteps into vectors: sines and cosines of many wavelengths, then a small network.

    t: long, (B,) -> (B, D). The sinusoids are those of Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, num_sinusoids: int, embedding_dim: int):
        super().__init__()
        guards.multiple("num_sinusoids", num_sinusoids, 2, "sines and cosines")
        self.num_sinusoids = num_sinusoids
        self.network = nn.Sequential(
            nn.Linear(num_sinusoids, embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim)
        )

    def sinusoids(self, t: Tensor) -> Tensor:
        """(B,) -> (B, num_sinusoids): half sines, half cosines, wavelengths 2 pi to 2 pi * 10,000^(1 - 1 / half)."""
        half = self.num_sinusoids // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
        angles = t[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def forward(self, t: Tensor) -> Tensor:
        return self.network(self.sinusoids(t))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the time embedding scales and shifts what flows between them.

    x: (B, C_in, H, W), embedding: (B, D) -> (B, C_out, H, W). With an embedding_dim of None: block(x)
    """

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int | None):
        super().__init__()
        self.norm_1 = group_norm(in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_2 = group_norm(out_channels)
        self.conv_2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
        if self.scale_shift is not None:
            scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)  # (B, C_out, 1, 1)
            h = h * (1 + scale) + shift
        h = self.conv_2(F.silu(h))
        return self.shortcut(x) + h


class AttentionBlock(nn.Module):
    """Self-attention: every pixel looks at every other. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, num_heads: int = 4):
        super().__init__()
        guards.heads("channels", channels, num_heads)
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
        guards.heads("channels", channels, num_heads)
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
        """Queries of the pixels, (B, heads, H*W, C/heads); keys and values of the tokens, (B, heads, L, C/heads)."""
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


def mean_of_tokens(context: Tensor, padding: Tensor) -> Tensor:
    """The gist of a text: (B, L, C), padding bool (B, L), True where no token stands -> (B, C)."""
    is_token = ~padding[:, :, None]
    return (context * is_token).sum(dim=1) / is_token.sum(dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm in 8 groups. Raises ValueError unless channels is a multiple of 8."""
    guards.multiple("channels", channels, 8, "the groups")
    return nn.GroupNorm(8, channels)


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Weights and bias set to 0, so that a block starts as its shortcut and learns what to add."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
