from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from test_blocks import randn, randomised, text
from torch import Tensor

from ddpm_core import AttentionBlock, CrossAttentionBlock, UNet

STEPS = torch.tensor([0, 999])

CONFIGS = [
    dict(),
    dict(channels=(8,)),
    dict(in_channels=3, channels=(8, 16, 24)),
    dict(channels=(16, 8), blocks_per_level=2, attention_levels=(0, 1)),
    dict(channels=(8, 16), context_dim=12),
    dict(in_channels=3, channels=(8, 16), context_dim=12, cross_attention_levels=(0, 1), patch_size=2),
    dict(channels=(8,), attention_levels=(0,), patch_size=4),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)


def predict(unet: UNet, x_t: Tensor, t: Tensor) -> Tensor:
    """The U-Net's answer, with a text to read where it reads one."""
    context_dim = unet.config["context_dim"]
    return unet(x_t, t) if context_dim is None else unet(x_t, t, *text(len(x_t), context_dim))


@every_config
@pytest.mark.parametrize("height, width", [(8, 8), (4, 12)])
def test_the_noise_has_the_shape_of_the_picture(config, height, width):
    unet = UNet(**config)
    x_t = randn(2, config.get("in_channels", 1), height, width)
    assert predict(unet, x_t, torch.tensor([0, 999])).shape == x_t.shape


@every_config
def test_a_new_network_predicts_no_noise(config):
    x_t = randn(2, config.get("in_channels", 1), 8, 8)
    assert torch.equal(predict(UNet(**config), x_t, torch.tensor([0, 999])), torch.zeros_like(x_t))


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
    predict(unet, x_t, torch.tensor([1, 10, 100, 999])).square().sum().backward()
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


def number_of_weights(
    in_channels,
    channels,
    blocks_per_level,
    attention_levels,
    context_dim,
    cross_attention_levels,
    patch_size,
    predicts,
    out_channels,
):
    """Counted from the plan, layer by layer: a weight for each pair of what goes in and out, and the biases."""
    D = 4 * channels[0]

    def conv(a, b, size):
        return a * b * size * size + b

    def residual(a, b):
        shortcut = conv(a, b, 1) if a != b else 0
        return 2 * a + conv(a, b, 3) + conv(D, 2 * b, 1) + 2 * b + conv(b, b, 3) + shortcut

    def attention(c):
        return 2 * c + conv(c, 3 * c, 1) + conv(c, c, 1)

    def cross_attention(c):
        return 2 * c + conv(c, c, 1) + conv(context_dim, 2 * c, 1) + conv(c, c, 1)

    def level(a, b, number, attends, reads):
        blocks = residual(a, b) + (number - 1) * residual(b, b)
        return blocks + (attention(b) if attends else 0) + (cross_attention(b) if reads else 0)

    has_text = context_dim is not None
    patch = in_channels * patch_size * patch_size
    patch_out = (out_channels or in_channels) * patch_size * patch_size
    total = conv(channels[0], D, 1) + conv(D, D, 1)  # time
    total += conv(context_dim, D, 1) if has_text else 0  # gist
    total += conv(patch, channels[0], 3) + 2 * channels[0] + conv(channels[0], patch_out, 3)  # stem and head
    total += level(channels[-1], channels[-1], 1, True, has_text)  # middle
    before = [channels[0], *channels]
    below = [*channels[1:], channels[-1]]
    for number, width in enumerate(channels):
        attends, reads = number in attention_levels, number in cross_attention_levels
        total += level(before[number], width, blocks_per_level, attends, reads)
        total += level(width + below[number], width, blocks_per_level, attends, reads)
    for width, next_width in pairwise(channels):
        total += conv(width, width, 3) + conv(next_width, next_width, 3)  # halving and doubling
    return total


@pytest.mark.parametrize("config", [*CONFIGS, dict(in_channels=7, out_channels=3, patch_size=2)], ids=str)
def test_the_network_is_as_large_as_its_config_says(config):
    unet = UNet(**config)
    assert sum(weight.numel() for weight in unet.parameters()) == number_of_weights(**unet.config)


@every_config
def test_config_and_weights_rebuild_the_network(config):
    unet = randomised(UNet(**config))
    twin = UNet(**unet.config)
    twin.load_state_dict(unet.state_dict())
    x_t, t = randn(2, config.get("in_channels", 1), 8, 8), torch.tensor([0, 999])
    assert torch.equal(predict(twin, x_t, t), predict(unet, x_t, t))


@pytest.mark.parametrize("elsewhere", [lambda context: context * 0, lambda context: context * -1000])
def test_what_stands_at_padding_has_no_influence(elsewhere):
    unet, x_t, t = (
        UNet(1, (8, 16), context_dim=12, cross_attention_levels=(0, 1)),
        randn(2, 1, 8, 8),
        torch.tensor([0, 9]),
    )
    context, padding = text(2)
    other = torch.where(padding[:, :, None], elsewhere(context), context)
    randomised(unet.head)
    for block in unet.modules():
        if isinstance(block, CrossAttentionBlock):
            randomised(block.to_out)
    answer = unet(x_t, t, context, padding)
    torch.testing.assert_close(unet(x_t, t, other, padding), answer, rtol=0, atol=1e-6)
    torch.testing.assert_close(unet(x_t[:1], t[:1], context[:1, :3], padding[:1, :3]), answer[:1], rtol=0, atol=1e-5)
    assert (unet(x_t, t, elsewhere(context), padding) - answer).abs().max() > 1e-2  # while the tokens do count


@every_config
def test_the_network_looks_at_the_text_where_it_was_asked_to_and_in_the_middle(config):
    unet = UNet(**config)
    asked_for = config.get("cross_attention_levels", ())
    assert isinstance(unet.middle.cross_attention, CrossAttentionBlock) == ("context_dim" in config)
    down = [isinstance(level.cross_attention, CrossAttentionBlock) for level in unet.down]
    up = [isinstance(level.cross_attention, CrossAttentionBlock) for level in unet.up]
    assert down == up[::-1] == [level in asked_for for level in range(len(unet.down))]


def test_the_text_reaches_the_residual_blocks_through_the_mean_of_its_tokens():
    unet, x_t, t = randomised(UNet(1, (8,), context_dim=12)), randn(2, 1, 8, 8), torch.tensor([3, 99])
    embeddings = []
    unet.down[0].blocks[0].register_forward_hook(lambda block, inputs, output: embeddings.append(inputs[1]))
    context, padding = text(2)
    unet(x_t, t, context, padding)
    gists = torch.stack([context[row, : 3 + row].mean(dim=0) for row in range(2)])
    torch.testing.assert_close(embeddings[0], unet.time_embedding(t) + unet.gist(gists), rtol=1e-4, atol=1e-5)


def test_each_picture_is_treated_with_its_own_text():
    unet, x_t, t = (
        UNet(1, (8, 16), context_dim=12, cross_attention_levels=(1,)),
        randn(3, 1, 8, 8),
        torch.tensor([3, 50, 99]),
    )
    randomised(unet.head)
    context, padding = text(3)
    together = unet(x_t, t, context, padding)
    for row in range(3):
        only = slice(row, row + 1)
        torch.testing.assert_close(unet(x_t[only], t[only], context[only], padding[only]), together[only])


def test_a_patch_is_one_position_of_the_network():
    sizes, unet = [], UNet(3, (8, 16), patch_size=2)
    for part in (unet.stem, unet.middle, unet.head):
        part.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    unet(randn(1, 3, 8, 16), torch.tensor([0]))
    assert sizes == [(8, 4, 8), (16, 2, 4), (12, 4, 8)]


@pytest.mark.parametrize("patch_size", [1, 2])
def test_it_answers_in_as_many_channels_as_it_was_asked_for_and_looks_at_all_that_it_is_shown(patch_size):
    torch.manual_seed(0)
    unet, x_t, t = UNet(7, (8,), patch_size=patch_size, out_channels=3), randn(1, 7, 8, 8), torch.tensor([5])
    assert torch.equal(unet(x_t, t), torch.zeros(1, 3, 8, 8))
    torch.nn.init.normal_(unet.head[-1].weight)
    for channel in range(7):
        other = x_t.clone()
        other[:, channel] += 1
        assert (unet(other, t) - unet(x_t, t)).abs().max() > 1e-4
    as_many = UNet(3, (8,)), UNet(3, (8,), out_channels=3)
    assert [unet(randn(2, 3, 8, 8), STEPS).shape[1] for unet in as_many] == [3, 3]


def test_pixels_go_into_patches_and_come_back_to_their_places():
    unet, x_t = UNet(3, (8,), patch_size=2), randn(2, 3, 4, 6)
    patches = unet.to_patches(x_t)
    for row, column in [(0, 0), (1, 2)]:
        square = x_t[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(patches[:, :, row, column], square.flatten(1))
    assert torch.equal(unet.to_pixels(patches), x_t)


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda: UNet(1, 32), "channels must be multiples of 8"),
        (lambda: UNet(1, (8, 8), attention_levels=(2,)), "attention_levels must lie between 0 and 1"),
        (lambda: UNet(1, (8, 8), cross_attention_levels=(1,)), "cross_attention_levels need a context_dim"),
        (lambda: UNet(1, (8,), patch_size=0), "patch_size must be a whole number, 1 or more; got 0"),
        (lambda: UNet(7, (8,), out_channels=0), "out_channels must be a whole number, 1 or more; got 0"),
        (lambda: UNet(7, (8,), out_channels=2.5), "out_channels must be a whole number, 1 or more; got 2.5"),
        (lambda: UNet(1, (8, 8, 8))(randn(2, 1, 8, 6), STEPS), "8x6 cannot be halved twice"),
        (lambda: UNet(1, (8,))(randn(2, 1, 8, 8), 3), "t must be a long tensor"),
        (lambda: UNet(1, (8,))(randn(2, 1, 8, 8), STEPS, *text(2)), "this U-Net reads no text"),
        (lambda: UNet(1, (8,), context_dim=12)(randn(2, 1, 8, 8), STEPS), r"context must be of shape \(2, L, 12\)"),
    ],
)
def test_a_slip_is_named(slip, words):
    with pytest.raises(ValueError, match=words):
        slip()
