"""Text and pictures joined: a noise predictor that reads captions, and sampling from prompts."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ddpm_core.errors import describe
from ddpm_core.guidance import guided
from ddpm_core.sampling import sample
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.text import TextEncoder, Tokenizer, padding_mask, split_words
from ddpm_core.unet import UNet


class TextToImage(nn.Module):
    """eps_hat = model(x_t, t, tokens): a U-Net and the text encoder that reads for it, trained together.

    unet:         made with context_dim=text_encoder.dim
    text_encoder: made for the tokenizer's vocabulary
    tokenizer:    kept beside the weights, because without it the model could not be asked for anything

    forward: x_t (B, C, H, W), t long (B,), tokens long (B, L) from the tokenizer -> (B, C, H, W).
    """

    def __init__(self, unet: UNet, text_encoder: TextEncoder, tokenizer: Tokenizer):
        super().__init__()
        unet_dim, text_dim = unet.config["context_dim"], text_encoder.config["dim"]
        if unet_dim != text_dim:
            raise ValueError(f"the U-Net reads a context_dim of {unet_dim}, but the text encoder writes {text_dim}")
        sizes = text_encoder.config["vocabulary_size"], text_encoder.config["max_length"]
        if sizes != (len(tokenizer), tokenizer.max_length):
            raise ValueError(
                f"the text encoder was made for a vocabulary_size and max_length of {sizes}, "
                f"but the tokenizer has {(len(tokenizer), tokenizer.max_length)}"
            )
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer

    @property
    def config(self) -> dict:
        """What the two networks were made with, and the words."""
        return dict(unet=self.unet.config, text_encoder=self.text_encoder.config, words=self.tokenizer.words)

    @property
    def null_cond(self) -> Tensor:
        """The tokens of the empty caption, (L,): no condition."""
        return self.tokenizer([""])[0].to(next(self.parameters()).device)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x_t, t, self.text_encoder(tokens), padding_mask(tokens))


class PromptWarning(UserWarning):
    """Something in a prompt that the model cannot use."""


def generate(
    model: TextToImage,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float = 3.0,
    negative_prompt: str = "",
    num_steps: int | None = 50,
    seed: int = 0,
) -> Iterator[Tensor]:
    """The steps from noise to one picture a prompt: yields num_steps tensors (B, C, H, W); the last are the pictures.

    prompts:         captions in the words that the model learnt; "" asks for no condition
    shape:           (C, H, W) of the pictures that the model was trained on
    negative_prompt: what the pictures shall keep away from, where guidance_scale is above 1

    The same seed and the same number of prompts give the same noise. Words that the model never saw, and empty
    prompts, are named in a PromptWarning and sampled all the same. Raises ValueError where a prompt is too long, and
    TypeError for a model that reads no text.
    """
    if not isinstance(model, TextToImage):
        raise TypeError(f"model must be a TextToImage, which reads prompts; got {type(model).__name__}")
    if isinstance(prompts, str):
        raise TypeError(f"prompts must be a list of prompts, such as [{prompts!r}]; got a single string")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be a NoiseSchedule; got {describe(schedule)}")
    if num_steps is not None and (not isinstance(num_steps, int) or not 1 <= num_steps <= len(schedule)):
        raise ValueError(f"num_steps must be a whole number from 1 to {len(schedule)}; got {num_steps!r}")
    if len(shape) != 3:
        raise ValueError(f"shape must be that of one picture, (C, H, W); got {shape!r}")
    for notice in filter(None, [prompt_notice(model.tokenizer, prompt) for prompt in dict.fromkeys(prompts)]):
        warnings.warn(notice, PromptWarning, stacklevel=2)
    if negative_prompt and (notice := prompt_notice(model.tokenizer, negative_prompt)):
        warnings.warn(notice, PromptWarning, stacklevel=2)
    device = next(model.parameters()).device
    cond = model.tokenizer(prompts).to(device)
    null_cond = model.tokenizer([negative_prompt])[0].to(device)
    generator = torch.Generator(device).manual_seed(seed)
    x_T = torch.randn(len(prompts), *shape, generator=generator, device=device)
    eps_model = guided(model, cond, null_cond, guidance_scale)
    return sample(eps_model, schedule.to(device), x_T, num_steps, generator=generator)


def prompt_notice(tokenizer: Tokenizer, prompt: str) -> str | None:
    """One sentence on what of a prompt the model cannot use, or None where it knows every word."""
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt must be a string; got {describe(prompt)}")
    words, unknown = split_words(prompt), tokenizer.unknown_words(prompt)
    if not words:
        return "an empty prompt sets no condition: the picture can be of anything"
    if not unknown:
        return None
    names = ", ".join(f'"{word}"' for word in unknown)
    if all(word in unknown for word in words):
        return f"no word of {prompt!r} was in any training caption ({names}): the picture can be of anything"
    return f"{prompt!r}: no training caption had {names}; the picture is made from the other words"
