"""Many prompts, in pixels and in latents, drawn by a model that knows what it is asked for."""

import pytest
import torch
from torch import Tensor

from ddpm_core import (
    Autoencoder,
    EmojiDataset,
    TextEncoder,
    TextToImage,
    Tokenizer,
    UNet,
    companions_of,
    draw_emoji,
    draw_from_vectors,
    draw_vectors,
    load_checkpoint,
    super_resolved,
)
from ddpm_core.judging.drawing import draw_all
from ddpm_core.support import memory

PROMPTS = ["a cat", "a rocket", "noto", "fire", "a cat on fire", "noto rocket", "noto fire"]


class Knows(TextToImage):
    """Predicts, for each caption that it was told of, the x_0 of that caption, whatever it is shown."""

    def __init__(self, captions: list[str], x_0: Tensor):
        tokenizer = Tokenizer.from_captions(captions)
        encoder = TextEncoder(len(tokenizer), tokenizer.max_length, dim=8)
        super().__init__(UNet(x_0.shape[1], (8,), context_dim=8, predicts="x_0"), encoder, tokenizer)
        self.known = dict(zip(map(tuple, tokenizer(captions).tolist()), x_0, strict=True))

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return torch.stack([self.known[tuple(row)] for row in tokens.tolist()])


@pytest.fixture
def autoencoder(latent_pair) -> Autoencoder:
    return load_checkpoint(latent_pair / "autoencoder.safetensors").model


@pytest.fixture
def z_0() -> Tensor:
    """A latent for each prompt, far outside [-1, 1]."""
    return 3 * torch.randn(len(PROMPTS), 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_what_is_drawn_in_latents_is_decoded_and_not_clipped_before(at_once, autoencoder, z_0, schedule, monkeypatch):
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", at_once * 4 * 4)
    drawn = draw_all(Knows(PROMPTS, z_0), schedule, PROMPTS, (3, 16, 16), 1.0, num_steps=5, autoencoder=autoencoder)
    torch.testing.assert_close(drawn, autoencoder.decode(z_0), rtol=0, atol=1e-3)
    assert (drawn - autoencoder.decode(z_0.clamp(-1, 1))).abs().max() > 0.1  # so it would show


def test_what_is_drawn_in_pixels_is_clipped(z_0, schedule):
    drawn = draw_all(Knows(PROMPTS, z_0), schedule, PROMPTS, (4, 4, 4), 1.0, num_steps=5)
    torch.testing.assert_close(drawn, z_0.clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def emoji() -> EmojiDataset:
    return EmojiDataset(16, ["noto"])


def test_emoji_are_drawn_in_latents_where_an_autoencoder_is_given(emoji, autoencoder, schedule):
    rows = torch.tensor([3, 50, 7])
    captions = [emoji.caption(row, "zh") for row in rows.tolist()]
    z_0 = 3 * torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    options = dict(num_steps=5, autoencoder=autoencoder)
    drawn = draw_emoji(Knows(captions, z_0), schedule, emoji, rows, "zh", 1.0, **options)
    torch.testing.assert_close(drawn, autoencoder.decode(z_0), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "shape, words",
    [((3, 18, 16), "18x16 cannot be halved once"), ((4, 4, 4), r"must be that of one picture, \(3, H, W\)")],
)
def test_a_shape_that_the_autoencoder_cannot_halve_is_named(shape, words, autoencoder, z_0, schedule):
    with pytest.raises(ValueError, match=words):
        draw_all(Knows(PROMPTS, z_0), schedule, PROMPTS, shape, 1.0, autoencoder=autoencoder)


def test_what_is_drawn_small_is_clipped_and_enlarged(cascades, schedule, monkeypatch):
    low, super_resolver = (
        3 * torch.randn(len(PROMPTS), 3, 4, 4),
        load_checkpoint(cascades / "super-resolver.safetensors"),
    )
    expected = super_resolved(super_resolver, low.clamp(-1, 1), seed=5)
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 3 * 4 * 4)
    options = dict(num_steps=5, seed=5, super_resolver=super_resolver)
    drawn = draw_all(Knows(PROMPTS, low), schedule, PROMPTS, (3, 16, 16), 1.0, **options)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-3)


def test_a_dalle_2_draws_by_way_of_its_clip(cascades, emoji, monkeypatch):
    checkpoint = load_checkpoint(cascades / "dalle2.safetensors")
    model, schedule, companions = checkpoint.model, checkpoint.schedule, companions_of(checkpoint)
    prompts, options = ["noto cat", "rocket", "火"], dict(num_steps=4, seed=5)
    texts = companions["clip"].encode_captions(prompts).detach()
    vectors = draw_vectors(model.prior, schedule, texts, seed=5)
    *_, low = draw_from_vectors(model.decoder, schedule, vectors, (3, 4, 4), 1.5, **options)
    expected = super_resolved(companions["super_resolver"], low, seed=5)
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 2 * 4 * 4)
    drawn = draw_all(model, schedule, prompts, (3, 16, 16), 1.5, **options, **companions)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-3)
    monkeypatch.setattr(emoji, "caption", lambda row, language: prompts[row])
    emoji_drawn = draw_emoji(model, schedule, emoji, torch.arange(3), "en", 1.5, **options, **companions)
    torch.testing.assert_close(emoji_drawn, drawn)
    with pytest.raises(TypeError, match="clip must be a CLIP; got None"):
        draw_all(model, schedule, prompts, (3, 16, 16), 1.5, **companions | dict(clip=None))


def test_a_checkpoint_is_no_autoencoder(latent_pair, z_0, schedule):
    checkpoint = load_checkpoint(latent_pair / "autoencoder.safetensors")
    with pytest.raises(TypeError, match=r"autoencoder must be an Autoencoder; .*: pass its model"):
        draw_all(Knows(PROMPTS, z_0), schedule, PROMPTS, (3, 16, 16), 1.0, autoencoder=checkpoint)
