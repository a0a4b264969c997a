"""The recipes of the checkpoints that come with the course and draw from prompts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ddpm_core.checkpoint import shipped_model
from ddpm_core.data import EmojiDataset, load_digit_scenes
from ddpm_core.data.digit_scenes import draw_scenes
from ddpm_core.judging import DigitReader, draw_emoji, judge_emoji, judge_style, retrieval_agreement, scene_agreement
from ddpm_core.schedule import NoiseSchedule, cosine_betas, linear_betas
from ddpm_core.support.pixels import from_bytes, to_bytes
from ddpm_core.systems.clip import CLIP
from ddpm_core.text import TextEncoder, Tokenizer
from ddpm_core.text_to_image import TextToImage
from ddpm_core.unet import UNet


@dataclass(frozen=True)
class Preset:
    """All that decides a run: data, networks, and how train is called."""

    load: Callable[[], tuple[Tensor, list[str]]]  # pictures, and the first caption of each, then the second, ...
    unet: dict  # what UNet is made with, beside in_channels and context_dim
    text_dim: int
    schedule: NoiseSchedule
    num_iterations: int
    options: dict  # of train
    guidance_scale: float  # recommended for sampling
    prompts: tuple[str, ...]  # drawn on the way
    score: Callable[..., dict[str, float]]  # of model, schedule, guidance_scale, and the second stage, as draw_all
    clip: str | None = None  # the checkpoint of a CLIP whose text encoder reads, and learns nothing here
    autoencoder: str | None = None  # the checkpoint of one in whose latents the U-Net works
    super_resolver: str | None = None  # the checkpoint of one that enlarges what the U-Net draws
    half: bool = False  # whether the finished weights are rounded to half precision

    def new_model(self, in_channels: int, captions: list[str]) -> TextToImage:
        """The networks, untrained but for the text encoder of a CLIP; in_channels are those of pictures or latents."""
        unet = UNet(in_channels, context_dim=self.text_dim, **self.unet)
        if self.clip:
            clip = shipped_model(self.clip, CLIP)
            return TextToImage(unet, clip.text_encoder, clip.tokenizer)
        tokenizer = Tokenizer.from_captions(captions)
        return TextToImage(unet, TextEncoder(len(tokenizer), tokenizer.max_length, self.text_dim), tokenizer)

    def made(self, model: object) -> bool:
        """Whether a network is one of this recipe's, of whatever vocabulary."""
        config = model.unet.config if isinstance(model, TextToImage) else {}
        return config | self.unet | dict(context_dim=self.text_dim) == config

    def train_options(self, model: TextToImage, captions: list[str]) -> dict:
        """What train takes beside the state, the schedule, the pictures and the number of iterations."""
        return self.options | dict(cond=model.tokenizer(captions), null_cond=model.null_cond)


def data_checksum(pictures: Tensor, captions: list[str]) -> str:
    """A sha256 of what a model was trained on: each picture as often as it has captions."""
    sha256, pixels = hashlib.sha256(), to_bytes(pictures).numpy().tobytes()
    for _ in range(len(captions) // len(pictures)):
        sha256.update(pixels)
    sha256.update("\n".join(captions).encode())
    return sha256.hexdigest()


def one_each(pictures: Tensor, captions: list[str]) -> Tensor:
    """The pictures again and again, until there is one for each caption."""
    rounds = len(captions) // len(pictures)
    return pictures if rounds == 1 else pictures.repeat(rounds, 1, 1, 1)


def _load_digit_scenes() -> tuple[Tensor, list[str]]:
    data = load_digit_scenes(num_digits=2, count=60_000, as_bytes=True)
    return data.pictures, data.captions


def _load_emoji(size: int) -> tuple[Tensor, list[str]]:
    """The everyday emoji, and six captions each: all the first ones, then all the second ones, and so on."""
    data = EmojiDataset(size)
    rows = torch.nonzero(data.is_everyday)[:, 0]
    kinds = [(language, with_style) for with_style in (True, True, False) for language in data.languages]
    captions = [data.caption(row, *kind) for kind in kinds for row in rows.tolist()]  # two in three name the style
    return data.pictures[rows], captions


def _score_digit_scenes(
    model: TextToImage, schedule: NoiseSchedule, guidance_scale: float, count: int = 1000
) -> dict[str, float]:
    """Share of prompts whose picture shows both digits in both colours: trained and withheld scenes, per language."""
    reader, scores = DigitReader(), {}
    for kind, withheld in (("trained", False), ("withheld", True)):
        for language in ("en", "zh"):
            scenes = draw_scenes(2, count, withheld, language)
            right = scene_agreement(model, schedule, scenes, language, reader, guidance_scale)
            scores[f"{kind}, {language}"] = right.float().mean().item()
    return scores


def _score_emoji(
    model: TextToImage,
    schedule: NoiseSchedule,
    guidance_scale: float,
    judge: CLIP | None = None,
    count: int = 300,
    size: int = 32,
    **second: object,
) -> dict[str, float]:
    """Share of pictures that are nearest to their own emoji of all in their style, and of all drawings of that emoji.

    Of trained and of withheld pairs of style and everyday name, per language. With a judge also the share of withheld
    pairs whose name it finds, in what is drawn and in the real pictures.
    """
    data, generator, scores = EmojiDataset(size, split="all"), torch.Generator().manual_seed(0), {}
    for kind, is_meant in (("trained", ~data.is_withheld), ("withheld", data.is_withheld)):
        rows = torch.nonzero(is_meant & data.is_everyday)[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
        for language in data.languages:
            drawn = draw_emoji(model, schedule, data, rows, language, guidance_scale, **second)
            scores[f"{kind}, {language}"] = judge_emoji(drawn, data, rows).float().mean().item()
            scores[f"style of {kind}, {language}"] = judge_style(drawn, data, rows).float().mean().item()
            if kind == "withheld" and judge is not None:
                pictures = {"": drawn, "real ": from_bytes(data.pictures[rows])}
                scores |= {
                    f"CLIP finds {what}{kind} among {k}, {language}": _found(judge, some, data, rows, language, k)
                    for what, some in pictures.items()
                    for k in (1, 10)
                }
    return scores


def _found(clip: CLIP, pictures: Tensor, data: EmojiDataset, rows: Tensor, language: str, k: int) -> float:
    """Share of pictures whose name is among the k, of all 1,377, that fit best."""
    own = [data.caption(row, language, with_style=False) for row in rows.tolist()]
    return retrieval_agreement(clip, pictures, own, data.names[language], k).float().mean().item()


def _score_with_clip(
    model: TextToImage, schedule: NoiseSchedule, guidance_scale: float, **second: object
) -> dict[str, float]:
    return _score_emoji(model, schedule, guidance_scale, shipped_model("clip", CLIP), size=64, **second)


EMOJI = Preset(
    load=partial(_load_emoji, size=32),
    # A small gamma gives the weight to heavy noise: only there does the caption decide what the picture becomes.
    # To predict x_0 keeps the white around an emoji white.
    unet=dict(channels=(32, 64, 128), cross_attention_levels=(1,), patch_size=2, predicts="x_0"),
    text_dim=128,
    schedule=NoiseSchedule(linear_betas()),
    num_iterations=22_000,
    options=dict(batch_size=64, learning_rate=1.5e-3, warmup_iterations=200, ema_decay=0.999, min_snr_gamma=0.02),
    guidance_scale=1.5,
    prompts=(
        *("rocket", "twemoji rocket", "openmoji 火箭", "noto cat"),
        *("blob 猫", "flat sunflower", "fluent 彩虹", "emojione snowman"),
    ),
    score=_score_emoji,
    half=True,
)
PRESETS = {
    "digit-scenes": Preset(
        load=_load_digit_scenes,
        unet=dict(channels=(32, 64), patch_size=2, predicts="x_0"),
        text_dim=64,
        schedule=NoiseSchedule(cosine_betas(200)),
        num_iterations=6_000,
        options=dict(batch_size=64, learning_rate=3e-3, warmup_iterations=100, ema_decay=0.998, min_snr_gamma=1.0),
        guidance_scale=3.0,
        prompts=("a red three left of a blue seven", "红色的三在蓝色的七左边"),
        score=_score_digit_scenes,
    ),
    "emoji": EMOJI,
    "stable-diffusion": replace(
        EMOJI,
        load=partial(_load_emoji, size=64),
        unet=dict(channels=(96, 192), patch_size=2, predicts="x_0"),
        num_iterations=40_000,
        options=EMOJI.options | dict(bounded=False),
        score=_score_with_clip,
        clip="clip",
        autoencoder="autoencoder",
    ),
    "imagen": replace(
        EMOJI,
        load=partial(_load_emoji, size=16),
        unet=dict(channels=(64, 128), patch_size=2, predicts="x_0"),
        num_iterations=29_000,
        score=_score_with_clip,
        clip="clip",
        super_resolver="super-resolver",
    ),
}
# A pipeline of diffusers would need the second stage, too.
EXPORTABLE = [name for name, preset in PRESETS.items() if not (preset.autoencoder or preset.super_resolver)]
