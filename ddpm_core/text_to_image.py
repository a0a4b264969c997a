"""Text and pictures joined: a noise predictor that reads captions, and sampling from prompts."""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor, nn

from ddpm_core.guidance import guided
from ddpm_core.prediction import noise_predictor
from ddpm_core.sampling import Clipping, sampler_named, seeded_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.notices import notice_on_words, warn_of_prompts
from ddpm_core.support.registry import register
from ddpm_core.text import TextEncoder, Tokenizer, padding_mask, split_words
from ddpm_core.unet import UNet

NUM_STEPS = 50  # of sampling from prompts, where nobody says how many


@register
class TextToImage(nn.Module):
    """eps_hat = model(x_t, t, tokens): a U-Net and the text encoder that reads for it, trained together.

    unet:         made with context_dim=text_encoder.dim
    text_encoder: made for the tokenizer's vocabulary
    tokenizer:    kept beside the weights, because without it the model could not be asked for anything

    forward: x_t (B, C, H, W), t long (B,), tokens long (B, L) from the tokenizer -> (B, C, H, W).
    """

    def __init__(self, unet: UNet, text_encoder: TextEncoder, tokenizer: Tokenizer):
        super().__init__()
        guards.reading(unet.config, text_encoder.config, (len(tokenizer), tokenizer.max_length))
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer

    @property
    def predicts(self) -> str:
        """ "eps" or "x_0", as the U-Net does."""
        return self.unet.predicts

    @property
    def null_cond(self) -> Tensor:
        """The tokens of the empty caption, (L,): no condition."""
        return self.tokenizer([""])[0].to(next(self.parameters()).device)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x_t, t, self.text_encoder(tokens), padding_mask(tokens))


def generate(
    model: TextToImage,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float = 3.0,
    negative_prompt: str = "",
    num_steps: int | None = None,
    seed: int = 0,
    sampler: str = "ddpm",
    clip_x_0: Clipping = True,
) -> Iterator[Tensor]:
    """The steps from noise to one picture per prompt: yields (B, C, H, W) after each; the last are the pictures.

    prompts:         captions in the words that the model learnt; "" asks for no condition
    shape:           (C, H, W) of the pictures, or latents, that the model was trained on
    guidance_scale:  0 ignores the prompts, 1 follows them as learnt, more exaggerates them
    negative_prompt: what the pictures should keep away from, where guidance_scale is above 1
    num_steps:       how many of the schedule's timesteps to visit (None: 50, or all where there are fewer); fewer
                     draw with less variety, see reverse_process
    sampler:         "ddpm", "ddim" or "dpm-solver", which needs the fewest steps
    seed:            picture i has noise of its own, of seed + i, whatever else is drawn beside it: to draw the third of
                     four alone again, give its prompt and seed + 2
    clip_x_0:        keep the x_0-prediction in [-1, 1]; say False for latents, or give a function, see reverse_process

    Words that the model cannot use are named in a PromptWarning; the pictures are drawn all the same. Raises ValueError
    where a prompt is too long or shape is another model's, and TypeError for a model that reads no text.
    """
    guards.instance("model", model, TextToImage)
    guards.instance("schedule", schedule, NoiseSchedule)
    guards.prompts(prompts, shape, guidance_scale, model.unet.config["in_channels"])
    notice_on = partial(prompt_notice, model.tokenizer)
    negative_prompt = warn_of_prompts(notice_on, prompts, negative_prompt, guidance_scale)
    device = next(model.parameters()).device
    cond = model.tokenizer(prompts).to(device)
    null_cond = model.tokenizer([negative_prompt], "negative_prompt")[0].to(device)
    x_T, generators = seeded_noise(seed, (len(prompts), *shape), device)
    num_steps = min(NUM_STEPS, len(schedule)) if num_steps is None else num_steps
    eps_model = noise_predictor(model, schedule.to(device).trusting())
    draw = sampler_named(sampler, generators)
    return draw(guided(eps_model, cond, null_cond, guidance_scale), schedule, x_T, num_steps, clip_x_0=clip_x_0)


def prompt_notice(tokenizer: Tokenizer, prompt: str, is_negative: bool = False) -> str | None:
    """One sentence on what of a prompt the model cannot use, or None where it knows every word.

    is_negative: whether it says what pictures should keep away from
    """
    guards.text("a prompt", prompt)
    return notice_on_words(prompt, split_words(prompt), tokenizer.unknown_words(prompt), is_negative)
