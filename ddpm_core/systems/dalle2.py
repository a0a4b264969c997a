"""DALL-E 2 in miniature (Ramesh et al. 2022): from a text to CLIP's vector of a picture, and from that to a picture.

The prior draws the vector of a picture that may belong to the text, the decoder a picture that may have this vector. So
a picture can be the prompt, too. Shapes in comments: B pictures, D numbers in CLIP's vectors, which have length 1.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.blocks import TimeEmbedding, zero_init
from ddpm_core.checkpoint import Checkpoint, model_checksum, shipped_model
from ddpm_core.guidance import guided
from ddpm_core.prediction import noise_predictor
from ddpm_core.sampling import Clipping, randn, sample, sampler_named, seeded_noise
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.notices import warn_of_prompts
from ddpm_core.support.registry import register
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.systems.clip import CLIP
from ddpm_core.text import padding_mask
from ddpm_core.text_to_image import NUM_STEPS, prompt_notice
from ddpm_core.unet import UNet

PRIOR_STEPS = 25  # where nobody says how many
PRIOR_SEED = 2**40  # added to a picture's seed, so that its vector and its pixels do not begin with the same noise


@register
class Decoder(nn.Module):
    """model(x_t, t, vectors): a U-Net that draws the picture whose CLIP vector it is told.

    unet:       one with a context_dim
    vector_dim: D
    num_tokens: how many vectors of length context_dim it is turned into, for the U-Net to look at (section 2.1)

    forward: x_t (B, C, H, W), t long (B,), vectors (B, D) -> (B, C, H, W). A vector of zeros says nothing: null_cond.
    """

    def __init__(self, unet: UNet, vector_dim: int = 128, num_tokens: int = 4):
        super().__init__()
        guards.whole_number("vector_dim", vector_dim)
        guards.whole_number("num_tokens", num_tokens)
        guards.has_context(unet.config)
        self.unet, self.num_tokens = unet, num_tokens
        self.to_tokens = nn.Linear(vector_dim, num_tokens * unet.config["context_dim"])

    @property
    def predicts(self) -> str:
        """ "eps" or "x_0", as the U-Net does."""
        return self.unet.predicts

    @property
    def null_cond(self) -> Tensor:
        """The vector that says nothing, (D,)."""
        return self.to_tokens.weight.new_zeros(self.config["vector_dim"])

    def forward(self, x_t: Tensor, t: Tensor, vectors: Tensor) -> Tensor:
        tokens = self.to_tokens(scaled(vectors)).unflatten(1, (self.num_tokens, -1))
        return self.unet(x_t, t, tokens, padding=torch.zeros_like(tokens[:, :, 0], dtype=torch.bool))


class PriorBlock(nn.Module):
    """Two linear layers beside a shortcut; the time embedding scales and shifts what flows between them."""

    def __init__(self, width: int, embedding_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, width)
        self.scale_shift = nn.Linear(embedding_dim, 2 * width)
        self.linear_2 = zero_init(nn.Linear(width, width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.scale_shift(F.silu(embedding)).chunk(2, dim=1)
        h = self.linear_1(self.norm(x)) * (1 + scale) + shift
        return x + self.linear_2(F.silu(h))


@register
class Prior(nn.Module):
    """x_0_hat = model(v_t, t, text_vectors): from a caption's vector to that of a picture (section 2.2).

    Its pictures are vectors: v_t (B, D) are those of CLIP times sqrt(D), so that their numbers have a deviation of
    about 1, with noise as in any diffusion. The paper has a Transformer here, for vectors ten times as long.

    vector_dim: D; width, num_blocks: of the network

    train teaches it: pictures=scaled(vectors of pictures), cond=vectors of their captions, null_cond=prior.null_cond,
    bounded=False.

    forward: v_t (B, D) floats, t long (B,), text_vectors (B, D) -> (B, D).
    """

    predicts = "x_0"

    def __init__(self, vector_dim: int = 128, width: int = 384, num_blocks: int = 4):
        super().__init__()
        for name, value in dict(vector_dim=vector_dim, width=width, num_blocks=num_blocks).items():
            guards.whole_number(name, value)
        self.time_embedding = TimeEmbedding(64, vector_dim)
        self.stem = nn.Linear(2 * vector_dim, width)
        self.blocks = nn.ModuleList(PriorBlock(width, vector_dim) for _ in range(num_blocks))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, vector_dim))

    @property
    def null_cond(self) -> Tensor:
        """The vector that says nothing, (D,)."""
        return self.stem.weight.new_zeros(self.config["vector_dim"])

    def forward(self, v_t: Tensor, t: Tensor, text_vectors: Tensor) -> Tensor:
        embedding = self.time_embedding(t)
        h = self.stem(torch.cat([v_t, scaled(text_vectors)], dim=1))
        for block in self.blocks:
            h = block(h, embedding)
        return self.head(h)


@register
class DALLE2(nn.Module):
    """A prior and a decoder that were taught with the vectors of one CLIP: draw_vectors, then draw_from_vectors."""

    def __init__(self, prior: Prior, decoder: Decoder):
        super().__init__()
        guards.instance("prior", prior, Prior)
        guards.instance("decoder", decoder, Decoder)
        guards.same_vectors(prior.config, decoder.config)
        self.prior, self.decoder = prior, decoder


def scaled(vectors: Tensor) -> Tensor:
    """Vectors of length 1, (B, D), to length sqrt(D): the noise schedules are made for numbers of deviation 1."""
    return vectors * vectors.shape[1] ** 0.5


@torch.no_grad()
def draw_vectors(
    prior: Prior,
    schedule: NoiseSchedule,
    text_vectors: Tensor,
    guidance_scale: float = 2.0,
    num_steps: int | None = None,
    seed: int = 0,
    num_candidates: int = 2,
) -> Tensor:
    """Vectors of pictures that the texts may belong to, (B, D), drawn by the prior (Ramesh et al. 2022, 2.2).

    text_vectors:   (B, D) of length 1, as clip.encode_captions gives them
    num_steps:      None: 25, or all where the schedule has fewer
    num_candidates: so many are drawn for each text, and the one that is nearest to the text's vector is kept
    seed:           text i is drawn with the seed seed + i, whatever else is drawn beside it

    Raises ValueError where the vectors are of another length than the prior's, or not of length 1.
    """
    guards.instance("prior", prior, Prior)
    guards.instance("schedule", schedule, NoiseSchedule)
    guards.vectors("text_vectors", text_vectors, prior.config["vector_dim"])
    guards.number("guidance_scale", guidance_scale, least=0)
    guards.whole_number("num_candidates", num_candidates)
    guards.seed(seed, how_many=len(text_vectors) + PRIOR_SEED)
    schedule = schedule.to(text_vectors.device).trusting()
    num_steps = min(PRIOR_STEPS, len(schedule)) if num_steps is None else num_steps
    v_T, generators = seeded_noise(seed + PRIOR_SEED, text_vectors.shape, text_vectors.device)
    eps_model = guided(noise_predictor(prior, schedule), text_vectors, prior.null_cond, guidance_scale)
    candidates = []  # (B, D) each
    for _ in range(num_candidates):
        *_, v_0 = sample(eps_model, schedule, v_T, num_steps, clip_x_0=False, generator=generators)
        candidates.append(F.normalize(v_0, dim=1))
        v_T = randn(v_T.shape, generators, device=v_T.device)
    nearest = torch.stack([(drawn * text_vectors).sum(dim=1) for drawn in candidates]).argmax(dim=0)  # (B,)
    return torch.stack(candidates)[nearest, torch.arange(len(nearest), device=nearest.device)]


def draw_from_vectors(
    decoder: Decoder,
    schedule: NoiseSchedule,
    vectors: Tensor,
    shape: tuple[int, int, int],
    guidance_scale: float = 1.5,
    num_steps: int | None = None,
    seed: int = 0,
    sampler: str = "ddpm",
    clip_x_0: Clipping = True,
) -> Iterator[Tensor]:
    """The steps from noise to a picture for each of CLIP's vectors: yields (B, C, H, W) after each.

    vectors: (B, D) of length 1, of pictures: from clip.encode_pictures for variations of these, or from draw_vectors

    The other arguments are those of generate. Raises ValueError where the vectors or shape are another model's.
    """
    guards.instance("decoder", decoder, Decoder)
    guards.instance("schedule", schedule, NoiseSchedule)
    guards.vectors("vectors", vectors, decoder.config["vector_dim"])
    guards.picture_shape(shape, decoder.unet.config["in_channels"], "shape")
    x_T, generators = seeded_noise(seed, (len(vectors), *shape), vectors.device)
    eps_model = noise_predictor(decoder, schedule.to(vectors.device).trusting())
    eps_model = guided(eps_model, vectors, decoder.null_cond, guidance_scale)
    num_steps = min(NUM_STEPS, len(schedule)) if num_steps is None else num_steps
    return sampler_named(sampler, generators)(eps_model, schedule, x_T, num_steps, clip_x_0=clip_x_0)


@torch.no_grad()
def text_vectors(clip: CLIP, prompts: Sequence[str]) -> Tensor:
    """The vectors of prompts, (B, D). Words that clip cannot use are named in a PromptWarning."""
    guards.instance("clip", clip, CLIP)
    guards.some_captions("prompts", prompts)
    warn_of_prompts(partial(prompt_notice, clip.tokenizer), prompts, "", 1.0)
    return clip.encode_captions(prompts)


def unclip(
    model: DALLE2,
    clip: CLIP,
    schedule: NoiseSchedule,
    prompts: Sequence[str],
    shape: tuple[int, int, int],
    guidance_scale: float = 1.5,
    num_steps: int | None = None,
    seed: int = 0,
    sampler: str = "ddpm",
    clip_x_0: Clipping = True,
) -> Iterator[Tensor]:
    """Both halves: a vector for each prompt, drawn at once, and the steps from noise to its picture, as of generate.

    clip: clip_of(checkpoint), the one that the model was taught with. All that follows shape is the decoder's alone but
    the seed; draw_vectors has a guidance_scale and num_steps of its own.
    """
    guards.instance("model", model, DALLE2)
    texts = text_vectors(clip, prompts)
    vectors, says_something = draw_vectors(model.prior, schedule, texts, seed=seed), _has_words(clip, prompts)
    if not says_something.all():  # CLIP has a vector for no words as well, but it would be a condition
        of_anything = draw_vectors(model.prior, schedule, texts, guidance_scale=0, seed=seed, num_candidates=1)
        vectors = torch.where(says_something, vectors, of_anything)
    return draw_from_vectors(
        model.decoder, schedule, vectors, shape, guidance_scale, num_steps, seed, sampler, clip_x_0
    )


def _has_words(clip: CLIP, prompts: Sequence[str]) -> Tensor:
    """Whether there is a word in each prompt that clip knows, bool (B, 1)."""
    tokens = clip.tokenizer(prompts).to(clip.log_temperature.device)
    return ~padding_mask(tokens)[:, 1:2]  # the first one is the start


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The vector of length 1 that lies this share of the way from a to b, (B, D), on the great circle through them.

    Raises ValueError where the two are opposite, as then many great circles go through both.
    """
    guards.number("share", share, least=0, most=1)
    guards.comparable(False, a=a, b=b)
    return _slerp(a, b, share)


def _slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """b may be 0, which is no way to go: then it stays at a."""
    guards.not_opposite(a, b)
    angle = torch.acos((a * b).sum(dim=1, keepdim=True).clamp(-1, 1))
    between = torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    return F.normalize(torch.where(angle > 1e-4, between, a), dim=1)


def text_difference(vectors: Tensor, before: Tensor, after: Tensor, share: float = 0.3) -> Tensor:
    """Vectors of pictures (B, D), moved by what distinguishes two texts: "text diffs" (Ramesh et al. 2022, 3.3).

    before, after: the vectors of what the pictures show and of what they are to show, (B, D) or (1, D)
    share:         how far on the way to the difference of the two, which has length 1 as well; the paper: 0.25 to 0.5
    """
    guards.number("share", share, least=0, most=1)
    guards.comparable(True, vectors=vectors, before=before, after=after)
    return _slerp(vectors, F.normalize(after - before, dim=1).expand_as(vectors), share)


def clip_of(checkpoint: Checkpoint) -> CLIP:
    """The course's CLIP, on the model's device, with whose vectors a checkpoint's DALLE2 was taught.

    Raises FileNotFoundError where its file is missing, and CheckpointError where it is another CLIP, or where the model
    was not taught with one.
    """
    guards.instance("checkpoint", checkpoint, Checkpoint, "load_checkpoint(path)")
    if "clip" not in checkpoint.notes and not isinstance(checkpoint.model, DALLE2):
        found = type(checkpoint.model).__name__
        raise CheckpointError(f"a DALLE2 has a CLIP of its own; this checkpoint holds the network {found}, without one")
    clip = shipped_model("clip", CLIP)
    if model_checksum(clip) != checkpoint.notes.get("clip"):
        raise CheckpointError(
            "this model was taught with the vectors of another CLIP than the course's, whose vectors mean nothing to "
            "it: git checkout -- data/clip.safetensors brings that one back"
        )
    return clip.to(next(checkpoint.model.parameters()).device)
