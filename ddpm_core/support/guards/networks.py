"""Rules for networks, what they are given, and their training."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ddpm_core.support.guards.inputs import picture_shape
from ddpm_core.support.guards.tensors import no_gradient, one_picture, pictures, pictures_to_learn, shape
from ddpm_core.support.guards.values import cut, describe, is_whole, number, several, text, whole_number

FOR_LATENTS = " For latents: bounded=False"
# Networks that are no eps_model, even by way of noise_predictor.
TAUGHT = dict(
    Autoencoder="which train_autoencoder teaches",
    CLIP="which train_clip teaches",
    DALLE2="which are two: train teaches its prior and its decoder, each by itself, and unclip draws",
    SuperResolver="which train_super_resolver teaches",
)


def eps_model(eps_model: object) -> None:
    if not callable(eps_model):
        inside = next((name for name in ("ema_model", "model") if hasattr(eps_model, name)), None)
        hint = f": pass its {inside}" if inside else ""
        raise TypeError(f"eps_model must be callable, eps_model(x_t, t); got a {type(eps_model).__name__}{hint}")
    predicts_noise(eps_model)
    network = getattr(eps_model, "__wrapped__", eps_model)
    removes_noise(network)
    if isinstance(network, torch.nn.Module) and hasattr(network, "null_cond"):
        kind, cond = ("text", "tokens") if hasattr(network, "tokenizer") else ("vectors", "vectors")
        raise ValueError(
            f"eps_model must need no {kind}, but this {type(network).__name__} reads {cond}: guided(eps_model, {cond}, "
            "model.null_cond) gives them; train takes them as cond and null_cond"
        )


def removes_noise(model: object) -> None:
    kind = type(model).__name__
    if kind in TAUGHT:
        raise ValueError(f"model must be a network that predicts noise; got {kind}, {TAUGHT[kind]}")


def predicts_noise(model: object) -> None:
    removes_noise(model)
    if getattr(model, "predicts", "eps") != "eps":
        raise ValueError(f"this model predicts {model.predicts}; noise_predictor(model, schedule) is its eps_model")


def noise(x_T: object, generator: object = None, name: str = "x_T") -> None:
    """generator: where x_T's pictures get their fresh noise from, one for all or a list with one for each."""
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point() or x_T.ndim < 2:
        what = "noise, such as torch.randn(16, 1, 8, 8)" if name == "x_T" else "pictures"
        raise ValueError(f"{name} must be a batch of {what}: a tensor of floats (B, ...)")
    is_list = isinstance(generator, Sequence) and all(isinstance(each, torch.Generator) for each in generator)
    if is_list and len(generator) != len(x_T):
        raise ValueError(f"there are {len(generator)} generators for {len(x_T)} pictures; there must be one for each")
    if not is_list:
        randomness(generator, ", or a list with one for each picture")


def randomness(generator: object, or_else: str = "") -> None:
    """One generator, or None for torch's global one."""
    if not isinstance(generator, torch.Generator | None):
        example = f"such as torch.Generator().manual_seed(0){or_else}"
        raise TypeError(f"generator must be a torch.Generator, {example}; got {describe(generator)}")


def condition(name: str, cond: object) -> None:
    """A tensor, which captions become by way of a tokenizer."""
    if not isinstance(cond, Tensor):
        some = "model.tokenizer(captions), or vectors of CLIP for a Prior or a Decoder"
        example = "model.null_cond" if name == "null_cond" else some
        raise TypeError(f"{name} must be a tensor, such as {example}; got {describe(cond)}")


def learns(loss: Tensor, model: torch.nn.Module) -> None:
    """The loss has a gradient."""
    if loss.requires_grad:
        return
    if any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("the loss does not depend on the weights of model: was it detached, or made under no_grad()?")
    raise ValueError(
        "model has no weight that learns: all are frozen, as load_checkpoint leaves them. model.requires_grad_(True) "
        "lets them learn"
    )


def clipping(clip_x_0: object) -> None:
    if not isinstance(clip_x_0, bool) and not callable(clip_x_0):
        raise TypeError(
            "clip_x_0 must be True, False or a function such as dynamic_threshold(), which takes x_0_hat; got "
            f"{describe(clip_x_0)}"
        )


def edited(x_0: object, generator: object, clip_x_0: object) -> None:
    """What editing begins with. Latents may hold any values, as nothing is clipped there."""
    pictures(x_0, "x_0", look=clip_x_0 is not False, hint=" For latents: clip_x_0=False")
    noise(x_0, generator, name="x_0")


def one_condition_each(x_t: Tensor, cond: Tensor) -> None:
    if len(x_t) != len(cond):
        raise ValueError(f"there are {len(cond)} conditions for {len(x_t)} pictures; there must be one for each")


def multiple(name: str, value: object, of: int, what: str) -> None:
    """A width that is shared out evenly, among what."""
    if not is_whole(value) or value < 1 or value % of:
        raise ValueError(f"{name} must be a multiple of {of} ({what}); got {describe(value)}")


def heads(name: str, width: object, num_heads: object) -> None:
    """Each head of attention takes its share of the width."""
    whole_number("num_heads", num_heads)
    multiple(name, width, num_heads, "num_heads")


def unet_plan(
    channels: object, attention: Sequence, cross_attention: Sequence, context_dim: int | None, **counts: object
) -> None:
    """attention, cross_attention: numbers of levels; counts: what must be whole numbers, 1 or more."""
    is_list = isinstance(channels, tuple | list) and len(channels) > 0
    if not is_list or any(not is_whole(width) or width < 8 or width % 8 for width in channels):
        raise ValueError(f"channels must be multiples of 8, one per level, such as (32, 64); got {channels!r}")
    for name, levels in dict(attention_levels=attention, cross_attention_levels=cross_attention).items():
        if any(not is_whole(level) or not 0 <= level < len(channels) for level in levels):
            raise ValueError(f"{name} must lie between 0 and {len(channels) - 1}; got {levels!r}")
    if cross_attention and context_dim is None:
        raise ValueError("cross_attention_levels need a context_dim: how many numbers each vector of the text has")
    for name, count in counts.items():
        whole_number(name, count)


def vocabulary(words: Sequence) -> None:
    several("words", words, "words")
    for word in words:
        text("each of the words", word)
    if not words:
        raise ValueError("there are no words to learn: words must hold at least one")
    if len(set(words)) != len(words):
        raise ValueError("words must be different from one another")


def caption_length(caption: str, num_words: int, most: int, name: str = "the caption") -> None:
    if num_words > most:
        raise ValueError(f"{name} {cut(repr(caption))} has {num_words} words, and this model reads {most}")


def tokens(tokens: object) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or tokens.ndim != 2:
        raise ValueError(f"tokens must be long, (B, L), as a Tokenizer returns them; got {describe(tokens)}")


def reading(unet: dict, encoder: dict, tokenizer: tuple[int, int]) -> None:
    """The configs of a U-Net and a text encoder, and a tokenizer's length and max_length, made for each other."""
    if unet["context_dim"] != encoder["dim"]:
        raise ValueError(
            f"the U-Net reads a context_dim of {unet['context_dim']}, but the text encoder writes {encoder['dim']}"
        )
    tokenized(encoder, tokenizer)


def tokenized(encoder: dict, tokenizer: tuple[int, int]) -> None:
    """A text encoder's config, and a tokenizer's length and max_length."""
    sizes = encoder["vocabulary_size"], encoder["max_length"]
    if sizes != tokenizer:
        raise ValueError(
            f"the text encoder was made for a vocabulary_size and max_length of {sizes}, but the tokenizer has "
            f"{tokenizer}"
        )


def pairs(image_vectors: object, text_vectors: object, temperature: object, fits: object) -> None:
    """Vectors of pictures and of their captions, and fits, which says what else fits (None: nothing)."""
    unit_vectors("image_vectors", image_vectors)
    unit_vectors("text_vectors", text_vectors)
    shape("text_vectors", text_vectors, image_vectors.shape, "image_vectors'")
    if text_vectors.dtype != image_vectors.dtype:
        kinds = [str(vectors.dtype).removeprefix("torch.") for vectors in (image_vectors, text_vectors)]
        raise ValueError(f"image_vectors and text_vectors must be of one kind; got {kinds[0]} and {kinds[1]}")
    if not isinstance(temperature, Tensor):
        number("temperature", temperature, above=0)
    elif temperature.numel() != 1:
        raise ValueError(f"temperature must be one number; got {describe(temperature)}")
    elif temperature.device.type == "cpu" and temperature <= 0:  # NaN passes: where it is learnt, fit reports it
        raise ValueError(f"temperature must be a number above 0; got {temperature.item():g}")
    if fits is not None:
        B = len(image_vectors)
        if not isinstance(fits, Tensor) or fits.dtype != torch.bool or fits.shape != (B, B):
            raise ValueError(f"fits must be bool, ({B}, {B}), pictures by captions; got {describe(fits)}")
        if fits.device.type == "cpu" and not fits.diagonal().all():  # a GPU would have to wait for the answer
            row = int(fits.diagonal().long().argmin())
            raise ValueError(f"fits must be True on its diagonal, for every picture's own caption; row {row} is not")


def captions_of_pictures(captions: object, group_ids: object, num_pictures: int) -> None:
    """Several lists of captions, one caption a picture in each, and the group of each picture, where there are any."""
    several("captions", captions, "lists of captions")
    if not isinstance(captions, Sequence) or not captions or any(isinstance(some, str) for some in captions):
        raise ValueError(
            "captions must be a list of lists, such as [english, chinese], or [english] where it is the only one"
        )
    for number_, some in enumerate(captions):
        if len(some) != num_pictures:
            raise ValueError(
                f"captions[{number_}] must hold one for each of {num_pictures} pictures; it has {len(some)}"
            )
    if group_ids is not None:
        is_fine = isinstance(group_ids, Tensor) and group_ids.dtype == torch.long and group_ids.shape == (num_pictures,)
        if not is_fine or (group_ids < 0).any():
            raise ValueError(
                f"group_ids must be long, ({num_pictures},), one from 0 up for each picture; got {describe(group_ids)}"
            )


def some_captions(name: str, captions: object, num_pictures: int | None = None) -> None:
    """A list of captions, not empty; num_pictures: one caption for each of so many pictures."""
    several(name, captions, "captions")
    if not isinstance(captions, Sequence) or not captions:
        raise ValueError(f"{name} must be a list of captions, at least one; got {describe(captions)}")
    if num_pictures is not None and len(captions) != num_pictures:
        raise ValueError(f"{name} must hold one for each of {num_pictures} pictures; it has {len(captions)}")


def among_captions(captions: Sequence[str], all_captions: Sequence[str]) -> None:
    known = set(all_captions)
    missing = next((caption for caption in captions if caption not in known), None)
    if missing is not None:
        raise ValueError(f"all_captions must hold each of captions; {missing!r} is not among them")


def have_words(captions: Sequence[Sequence[str]], has_none: Tensor) -> None:
    """has_none: bool (N, K), whether caption number i of list k has no word that the model knows."""
    if has_none.any():
        row, which = has_none.nonzero()[0].tolist()
        raise ValueError(f"captions[{which}][{row}] has no word that the tokenizer knows: {captions[which][row]!r}")


def unit_vectors(name: str, vectors: object) -> None:
    """Floats (B, dim), of length 1 each; NaN passes, because fit reports it."""
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point() or vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"{name} must be a tensor of floats (B, dim); got {describe(vectors)}")
    lengths = vectors.detach().norm(dim=1)
    if vectors.device.type == "cpu" and ((lengths - 1).abs() > 0.01).any():
        low, high = lengths.min().item(), lengths.max().item()
        raise ValueError(
            f"{name} must have length 1, as after F.normalize(vectors, dim=1); these go from {low:.4g} to {high:.4g}"
        )


def query(query: object) -> None:
    """Words, or one picture."""
    if isinstance(query, str):
        if not query.strip():
            raise ValueError("query is empty: say what to look for, such as rocket, or give a picture")
    elif isinstance(query, Tensor):
        one_picture(query, "query", bytes_too=True)
    else:
        hint = "; read_square(path, 64) of ddpm_core.support.pixels reads a file"
        raise TypeError(f"query must be a string or a picture, a tensor (3, H, W){hint}; got {describe(query)}")


def prompts(prompts: object, shape: object, guidance_scale: object, in_channels: int) -> None:
    """shape: of each picture, for a network of so many channels."""
    several("prompts", prompts, "prompts")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    picture_shape(shape, in_channels, "shape")
    number("guidance_scale", guidance_scale, least=0)


def fitting(
    num_iterations: object, learning_rate: object, warmup_iterations: object, max_grad_norm: object, ema_decay: object
) -> None:
    whole_number("num_iterations", num_iterations)
    number("learning_rate", learning_rate, above=0)
    whole_number("warmup_iterations", warmup_iterations, least=0)
    if max_grad_norm != math.inf:  # which leaves gradients as they are
        number("max_grad_norm", max_grad_norm, above=0)
    number("ema_decay", ema_decay, least=0, most=1)


def training_data(
    data: object, cond: Tensor | None, null_cond: Tensor | None, batch_size: object, bounded: bool = True
) -> None:
    """Pictures, each with its condition where there are any, or a function that brings both; warns of [0, 1].

    bounded=False allows any values, as latents have them.
    """
    whole_number("batch_size", batch_size)
    if callable(data) and not isinstance(data, Tensor):
        if cond is not None:
            raise ValueError("cond goes with a tensor of pictures; a function brings the conditions with its batches")
        return
    is_table = isinstance(data, Tensor) and data.ndim == 2  # (N, D) are vectors
    if bounded and is_table:
        wanted = "pictures must be a tensor of pictures, (N, C, H, W)"
        raise ValueError(f"{wanted}; got {describe(data)}. For vectors (N, D): bounded=False")
    if is_table:
        no_gradient("pictures", data)
    else:
        pictures_to_learn(data, bounded, FOR_LATENTS, stacklevel=4)
    if cond is not None:
        condition("cond", cond)
        no_gradient("cond", cond)
    if (cond is None) != (null_cond is None) or (cond is not None and len(cond) != len(data)):
        raise ValueError(
            f"cond must have one row for each of the {len(data)} pictures, and null_cond beside it; "
            f"got {describe(cond)} and {describe(null_cond)}"
        )
    if null_cond is not None:
        condition("null_cond", null_cond)


def batch(x_0: Tensor, cond: Tensor | None, batch_size: int, null_cond: Tensor | None, bounded: bool = True) -> None:
    """A batch that somebody else drew. On a GPU to look at its values would be to wait for them."""
    if len(x_0) != batch_size:
        raise ValueError(f"batches must hold {batch_size} pictures, which is batch_size; got {len(x_0)}")
    if (cond is None) != (null_cond is None):
        raise ValueError("batches with conditions need a null_cond, and batches without conditions none")
    pictures(x_0, look=bounded and x_0.device.type == "cpu", hint=FOR_LATENTS)


def endless(batches: Iterable) -> Iterator:
    """The same batches, with an error where they come to an end."""
    yield from batches
    raise ValueError("the batches came to an end; the iterator must be endless")


def divergence(iteration: int, loss: float, back_at: int, learning_rate: float) -> str:
    """What to say where a loss stopped being a number."""
    return (
        f"training stopped at iteration {iteration}: the loss became {loss}. The model is back at its last good "
        f"weights, those of iteration {back_at}. Likely causes: a learning rate that is too high (it is "
        f"{learning_rate:g}; try {learning_rate / 10:g}), a division by zero or a root of a negative number in a "
        "network of your own, or half precision (use float32)."
    )
