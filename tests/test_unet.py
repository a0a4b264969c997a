import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core import AttentionBlock, ResidualBlock, TimeEmbedding, UNet
from ddpm_core.unet import group_norm


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(module: nn.Module) -> nn.Module:
    """The same module with nothing at zero, as after some training."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


CONFIGS = [
    dict(),
    dict(channels=(8,)),
    dict(in_channels=3, channels=(8, 16, 24)),
    dict(channels=(16, 8), blocks_per_level=2, attention_levels=(0, 1)),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)


@every_config
@pytest.mark.parametrize("height, width", [(8, 8), (4, 12)])
def test_the_noise_has_the_shape_of_the_picture(config, height, width):
    unet = UNet(**config)
    x_t = randn(2, config.get("in_channels", 1), height, width)
    assert unet(x_t, torch.tensor([0, 999])).shape == x_t.shape


@every_config
def test_a_new_network_predicts_no_noise(config):
    x_t = randn(2, config.get("in_channels", 1), 8, 8)
    assert torch.equal(UNet(**config)(x_t, torch.tensor([0, 999])), torch.zeros_like(x_t))


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


def test_a_new_attention_block_changes_nothing():
    x = randn(2, 8, 4, 4)
    assert torch.equal(AttentionBlock(8)(x), x)


def test_attention_is_that_of_torch():
    block, x = randomised(AttentionBlock(16, num_heads=4)), randn(2, 16, 3, 5)
    peer = nn.MultiheadAttention(16, num_heads=4, batch_first=True)
    peer.in_proj_weight.data, peer.in_proj_bias.data = block.to_qkv.weight.data[:, :, 0, 0], block.to_qkv.bias.data
    peer.out_proj.weight.data, peer.out_proj.bias.data = block.to_out.weight.data[:, :, 0, 0], block.to_out.bias.data
    pixels = block.norm(x).flatten(2).transpose(1, 2)  # (B, H*W, C)
    attended, _ = peer(pixels, pixels, pixels)
    expected = x + attended.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_attention_lets_every_pixel_see_every_other():
    block, x = randomised(AttentionBlock(8)), randn(1, 8, 4, 4).requires_grad_()
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


@every_config
def test_attention_stands_where_it_was_asked_for_and_in_the_middle(config):
    unet = UNet(**config)
    asked_for = config.get("attention_levels", ())
    assert isinstance(unet.middle.attention, AttentionBlock)
    down = [isinstance(level.attention, AttentionBlock) for level in unet.down]
    up = [isinstance(level.attention, AttentionBlock) for level in unet.up]
    assert down == up[::-1] == [level in asked_for for level in range(len(unet.down))]


@every_config
def test_the_gradient_reaches_every_weight(config):
    unet = randomised(UNet(**config))
    x_t = randn(4, config.get("in_channels", 1), 8, 8)
    unet(x_t, torch.tensor([1, 10, 100, 999])).square().sum().backward()
    assert [name for name, weight in unet.named_parameters() if not weight.grad.any()] == []
    assert [name for name, weight in unet.named_parameters() if weight.ndim > 1 and not weight.grad.all()] == []


def test_after_some_training_the_answer_depends_on_the_step():
    torch.manual_seed(0)
    unet, x_t = UNet(1, (8, 8)), randn(1, 1, 8, 8).expand(2, 1, 8, 8)
    t = torch.tensor([5, 900])
    wanted = torch.stack([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)])  # not 1 and -1: gradients could cancel out
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        F.mse_loss(unet(x_t, t), wanted).backward()
        optimizer.step()
    early, late = unet(x_t, t)
    assert (early - late).mean() > 0.5


def test_each_picture_is_treated_by_itself():
    unet, x_t, t = randomised(UNet(1, (8, 16), attention_levels=(0,))), randn(3, 1, 8, 8), torch.tensor([3, 500, 999])
    together = unet(x_t, t)
    for row in range(3):
        alone = unet(x_t[row : row + 1], t[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-3, atol=1e-3 * together.abs().max().item())


def number_of_weights(in_channels, channels, blocks_per_level, attention_levels):
    """Counted from the plan, layer by layer: a weight for each pair of what goes in and out, and the biases."""
    D = 4 * channels[0]

    def conv(a, b, size):
        return a * b * size * size + b

    def residual(a, b):
        shortcut = conv(a, b, 1) if a != b else 0
        return 2 * a + conv(a, b, 3) + conv(D, 2 * b, 1) + 2 * b + conv(b, b, 3) + shortcut

    def attention(c):
        return 2 * c + conv(c, 3 * c, 1) + conv(c, c, 1)

    def level(a, b, number, attends):
        return residual(a, b) + (number - 1) * residual(b, b) + attends * attention(b)

    total = conv(channels[0], D, 1) + conv(D, D, 1)  # time
    total += conv(in_channels, channels[0], 3) + 2 * channels[0] + conv(channels[0], in_channels, 3)  # stem and head
    total += level(channels[-1], channels[-1], 1, True)  # middle
    before = [channels[0], *channels]
    below = [*channels[1:], channels[-1]]
    for number, width in enumerate(channels):
        attends = number in attention_levels
        total += level(before[number], width, blocks_per_level, attends)
        total += level(width + below[number], width, blocks_per_level, attends)
    for width, next_width in pairwise(channels):
        total += conv(width, width, 3) + conv(next_width, next_width, 3)  # halving and doubling
    return total


@every_config
def test_the_network_is_as_large_as_its_config_says(config):
    unet = UNet(**config)
    assert sum(weight.numel() for weight in unet.parameters()) == number_of_weights(**unet.config)


@every_config
def test_config_and_weights_rebuild_the_network(config):
    unet = randomised(UNet(**config))
    twin = UNet(**unet.config)
    twin.load_state_dict(unet.state_dict())
    x_t, t = randn(2, config.get("in_channels", 1), 8, 8), torch.tensor([0, 999])
    assert torch.equal(twin(x_t, t), unet(x_t, t))


@pytest.mark.parametrize("channels", [(), (12,), (8, 20), (0, 8), (4,), (8.0,), ("8",)], ids=str)
def test_widths_that_eight_groups_do_not_divide_are_refused(channels):
    with pytest.raises(ValueError, match=r"channels must be multiples of 8, one a level, such as .*; got \("):
        UNet(1, channels)


@pytest.mark.parametrize("attention_levels", [(2,), (0, -1)])
def test_attention_on_a_level_that_is_not_there_is_refused(attention_levels):
    with pytest.raises(ValueError, match=r"attention_levels must lie between 0 and 1; got \("):
        UNet(1, (8, 8), attention_levels=attention_levels)


@pytest.mark.parametrize(
    "x_t, message",
    [
        (torch.zeros(2, 1, 8, 6), "pictures of 8x6 cannot be halved twice: with 3 levels .* multiples of 4"),
        (torch.zeros(2, 1, 7, 8), "pictures of 7x8 cannot be halved twice: with 3 levels .* multiples of 4"),
        (torch.zeros(2, 3, 8, 8), "x_t has 3 channels, but this U-Net was made for in_channels=1"),
        (torch.zeros(1, 8, 8), r"x_t must be pictures, a tensor of floats \(B, 1, H, W\); got float32 .*\(1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8).byte(), r"x_t must be pictures, a tensor of floats .*; got uint8"),
        (None, r"x_t must be pictures, a tensor of floats .*; got None \(NoneType\)"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused(x_t, message):
    with pytest.raises(ValueError, match=message):
        UNet(1, (8, 8, 8))(x_t, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("t", [3, torch.tensor(3), torch.tensor([1, 2, 3]), torch.tensor([0.1, 0.2]), None], ids=str)
def test_steps_that_do_not_fit_the_pictures_are_refused(t):
    with pytest.raises(ValueError, match=r"t must be a long tensor of shape \(2,\), one step a picture; got "):
        UNet(1, (8,))(torch.zeros(2, 1, 8, 8), t)


def test_one_number_instead_of_the_widths_is_refused():
    with pytest.raises(ValueError, match=r"channels must be multiples of 8, one a level, such as \(32, 64\); got 32"):
        UNet(1, 32)
