import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core import AttentionBlock, CrossAttentionBlock, ResidualBlock, TimeEmbedding
from ddpm_core.blocks import group_norm, mean_of_tokens


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(module: nn.Module) -> nn.Module:
    """The same module with nothing at zero, as after some training."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


def text(batch_size: int, context_dim: int = 12, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A context of up to 5 tokens, 3 of them for the first picture, 4 for the second, ...; and its padding."""
    lengths = torch.arange(3, 3 + batch_size)
    return randn(batch_size, 5, context_dim, seed=seed), torch.arange(5) >= lengths[:, None]


def test_the_sinusoids_are_those_of_the_formula():
    t = torch.tensor([0, 1, 7, 500, 999])
    expected = torch.empty(5, 12)
    for row, position in enumerate(t.tolist()):
        for i in range(6):
            angle = position / 10_000 ** (2 * i / 12)
            expected[row, i], expected[row, 6 + i] = math.sin(angle), math.cos(angle)
    torch.testing.assert_close(TimeEmbedding(12, 32).sinusoids(t), expected, rtol=0, atol=1e-4)


def test_the_time_embedding_tells_all_steps_apart():
    embeddings = TimeEmbedding(32, 128)(torch.arange(1000))
    assert embeddings.shape == (1000, 128)
    assert torch.pdist(embeddings).min() > 0.01


def test_group_norm_gives_each_of_eight_groups_mean_0_and_deviation_1():
    groups = group_norm(16)(3 + 5 * randn(2, 16, 6, 6)).reshape(2, 8, -1)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(2, 8), rtol=0, atol=1e-5)
    torch.testing.assert_close(groups.std(-1, correction=0), torch.ones(2, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("out_channels", [8, 16])
def test_a_new_residual_block_is_its_shortcut(out_channels):
    block, x = ResidualBlock(8, out_channels, 32), randn(2, 8, 4, 4)
    assert torch.equal(block(x, randn(2, 32)), block.shortcut(x))


def test_the_time_scales_and_shifts_what_flows_through_a_residual_block():
    block, x, embedding = randomised(ResidualBlock(8, 8, 32)), randn(2, 8, 4, 4), randn(2, 32)
    with torch.no_grad():
        scale, shift = block.scale_shift(F.silu(embedding)).chunk(2, dim=1)
        normalised = block.norm_2(block.conv_1(F.silu(block.norm_1(x))))
        for picture in range(2):
            for channel in range(8):
                normalised[picture, channel] *= 1 + scale[picture, channel]
                normalised[picture, channel] += shift[picture, channel]
        torch.testing.assert_close(block(x, embedding), x + block.conv_2(F.silu(normalised)))


def test_a_residual_block_without_timesteps_is_one_whose_scale_and_shift_are_0():
    block, x = randomised(ResidualBlock(8, 16, None)), randn(2, 8, 4, 4)
    timed = randomised(ResidualBlock(8, 16, 32))
    timed.load_state_dict(block.state_dict(), strict=False)
    nn.init.zeros_(timed.scale_shift.weight)
    nn.init.zeros_(timed.scale_shift.bias)
    torch.testing.assert_close(block(x), timed(x, randn(2, 32)))
    assert sum(map(torch.numel, block.parameters())) < sum(map(torch.numel, timed.parameters()))


def test_the_gist_of_a_text_is_the_mean_of_its_own_tokens():
    context, padding = text(2)
    expected = torch.stack([context[0, :3].mean(dim=0), context[1, :4].mean(dim=0)])
    torch.testing.assert_close(mean_of_tokens(context, padding), expected)


def test_a_new_attention_block_changes_nothing():
    x = randn(2, 8, 4, 4)
    assert torch.equal(AttentionBlock(8)(x), x)


def test_attention_is_that_of_torch():
    block, x = randomised(AttentionBlock(16, num_heads=4)), randn(2, 16, 3, 5)
    peer = nn.MultiheadAttention(16, num_heads=4, batch_first=True)
    peer.in_proj_weight, peer.in_proj_bias = block.to_qkv.weight, block.to_qkv.bias
    peer.out_proj = block.to_out
    pixels = block.norm(x).flatten(2).transpose(1, 2)  # (B, H*W, C)
    attended, _ = peer(pixels, pixels, pixels)
    expected = x + attended.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_attention_lets_every_pixel_see_every_other():
    block, x = randomised(AttentionBlock(8)), randn(1, 8, 4, 4).requires_grad_()
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


@pytest.fixture
def block() -> CrossAttentionBlock:
    return randomised(CrossAttentionBlock(16, 12, num_heads=4))


def test_a_new_cross_attention_block_changes_nothing():
    x = randn(2, 8, 4, 4)
    assert torch.equal(CrossAttentionBlock(8, 12)(x, *text(2)), x)


def test_cross_attention_and_its_weights_are_those_of_torch(block):
    x, (context, padding) = randn(2, 16, 3, 5), text(2)
    peer = nn.MultiheadAttention(16, num_heads=4, kdim=12, vdim=12, batch_first=True)
    peer.q_proj_weight.data = block.to_q.weight.data
    peer.k_proj_weight.data, peer.v_proj_weight.data = block.to_kv.weight.data.chunk(2)
    peer.in_proj_bias.data = torch.cat([block.to_q.bias.data, block.to_kv.bias.data])
    peer.out_proj = block.to_out
    pixels = block.norm(x).flatten(2).transpose(1, 2)  # (B, H*W, C)
    attended, weights = peer(pixels, context, context, key_padding_mask=padding, average_attn_weights=False)
    expected = x + attended.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x, context, padding), expected, rtol=1e-4, atol=1e-5)
    expected = weights.transpose(-1, -2).reshape(2, 4, 5, 3, 5)  # (B, heads, L, H, W)
    torch.testing.assert_close(block.attention_weights(x, context, padding), expected, rtol=1e-4, atol=1e-6)


def test_attention_weights_add_up_to_1_over_the_tokens_and_are_0_at_padding(block):
    context, padding = text(2)
    weights = block.attention_weights(randn(2, 16, 3, 5), context, padding)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 4, 3, 5))
    assert (weights.movedim(2, 1)[padding] == 0).all()
    assert (weights.movedim(2, 1)[~padding] > 0).all()


def test_attention_weights_times_values_are_what_the_block_adds(block):
    x, (context, padding) = randn(2, 16, 3, 5), text(2)
    _, _, values = block.queries_keys_values(x, context)  # (B, heads, L, C/heads)
    heads = torch.einsum("bnlhw,bnlc->bhwnc", block.attention_weights(x, context, padding), values)
    added = block.to_out(heads.flatten(3)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x, context, padding), x + added, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TimeEmbedding(33, 64), "num_sinusoids must be a multiple of 2 .*; got 33"),
        (lambda: ResidualBlock(12, 16, 64), "channels must be a multiple of 8 .*; got 12"),
        (lambda: AttentionBlock(32, num_heads=5), "channels must be a multiple of 5 .*; got 32"),
        (lambda: CrossAttentionBlock(32, 8, num_heads=0), "num_heads must be a whole number, 1 or more; got 0"),
    ],
)
def test_a_width_that_cannot_be_shared_out_is_named_when_the_block_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()
