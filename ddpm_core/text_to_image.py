"""Text and pictures joined: a noise predictor that reads captions, and sampling from prompts."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddpm_core.guidance import guided
from ddpm_core.sampling import sample
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import describe
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


@contextmanager
def collect_notices() -> Iterator[list[str]]:
    """A list that holds, after the with block, what PromptWarnings said inside it, instead of showing them."""
    notices: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PromptWarning)
        yield notices
    for warning in caught:
        if issubclass(warning.category, PromptWarning):
            notices.append(str(warning.message))
        else:  # none of ours: on to where it would have gone
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def generate(
    model: TextToImage,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float = 3.0,
    negative_prompt: str = "",
    num_steps: int | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """The steps from noise to one picture a prompt: yields a tensor (B, C, H, W) after each; the last are the pictures.

    prompts:         captions in the words that the model learnt; "" asks for no condition
    shape:           (C, H, W) of the pictures that the model was trained on
    guidance_scale:  0 ignores the prompts, 1 follows them as learnt, more exaggerates them
    negative_prompt: what the pictures shall keep away from, where guidance_scale is above 1
    num_steps:       how many of the schedule's timesteps to visit (None: 50, or all where there are fewer)

    The same seed and the same number of prompts give the same noise. Words that the model never saw, empty prompts,
    and a negative prompt without the guidance that it needs are named in a PromptWarning and sampled all the same.
    Raises ValueError where a prompt is too long, and TypeError for a model that reads no text.
    """
    if not isinstance(model, TextToImage):
        raise TypeError(f"model must be a TextToImage, which reads prompts; got {type(model).__name__}")
    if isinstance(prompts, str):
        raise TypeError(f"prompts must be a list of prompts, such as [{prompts!r}]; got a single string")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be a NoiseSchedule; got {describe(schedule)}")
    if len(shape) != 3:
        raise ValueError(f"shape must be that of one picture, (C, H, W); got {shape!r}")
    notices = [prompt_notice(model.tokenizer, prompt) for prompt in dict.fromkeys(prompts)]
    if negative_prompt:
        notices.append(prompt_notice(model.tokenizer, negative_prompt))
        if 0 <= guidance_scale <= 1:
            notices.append(
                f"a negative prompt counts only where guidance_scale is above 1; at {guidance_scale:g} it is left out"
            )
            negative_prompt = ""
    for notice in filter(None, notices):
        warnings.warn(notice, PromptWarning, stacklevel=2)
    if num_steps is None:
        num_steps = min(50, len(schedule))
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
