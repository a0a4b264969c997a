"""What is refused, and in which words. Each rule stands here once; elsewhere it is one line that calls it.

A guard returns nothing where its arguments fit, and raises ValueError or TypeError where they do not. The message names
the argument, what is accepted and what was given.
"""

import math
import reprlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real

import torch
from torch import Size, Tensor

# ---- Any value -------------------------------------------------------------------------------------------------------


def describe(value: object) -> str:
    """What an argument looks like: 'float32 tensor of shape (3, 4)' or '0.5 (float)'."""
    kind = "tensor" if isinstance(value, Tensor) else type(value).__name__
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and getattr(value, "shape", ())):  # NumPy's arrays too
        return f"{str(value.dtype).removeprefix('torch.')} {kind} of shape {tuple(value.shape)}"
    text = reprlib.repr(value)  # which cuts long lists, but not lists of lists
    if "\n" in text:  # a whole network, say
        return kind
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kind})"


def is_whole(value: object) -> bool:
    """Whether a value is an integer, Python's or NumPy's; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole_number(name: str, value: object, least: int = 1, most: int | None = None, why: str = "") -> None:
    if not is_whole(value) or value < least or (most is not None and value > most):
        limits = f", {least} or more" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{limits}{why}; got {describe(value)}")


def seed(seed: object, how_many: int = 1) -> None:
    """how_many: of the numbers from this one on, all are seeds."""
    if not is_whole(seed):
        raise ValueError(f"seed must be a whole number; got {describe(seed)}")
    if not -(2**63) <= int(seed) <= 2**64 - how_many:
        raise ValueError(f"seed must lie between -2**63 and 2**64 - {how_many}; got {seed}")


def number(
    name: str, value: object, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and least <= value <= most and value > above:
        return
    if above > -math.inf:
        limits = f"be a number above {above:g}"
    elif most < math.inf:
        limits = f"lie between {least:g} and {most:g}"
    else:
        limits = f"be {least:g} or more" if least > -math.inf else "be a number"
    raise ValueError(f"{name} must {limits}; got {describe(value)}")


def instance(name: str, value: object, wanted: type, example: str = "") -> None:
    if not isinstance(value, wanted):
        article = "an" if wanted.__name__[0] in "AEIOU" else "a"
        example = f", such as {example}" if example else ""
        raise TypeError(f"{name} must be {article} {wanted.__name__}{example}; got {describe(value)}")


def several(name: str, values: object, what: str) -> None:
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of {what}, such as [{values!r}]; got a single string")


def one_of(name: str, value: object, choices: Iterable) -> None:
    """Strings or whole numbers; True is not 1."""
    if isinstance(value, bool) or value not in list(choices):
        *most, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
        raise ValueError(f"{name} must be {', '.join(most)} or {last}; got {describe(value)}")


def some_of(name: str, values: object, choices: Sequence[str]) -> None:
    """A list of some of the choices, in any order, each once."""
    several(name, values, name)
    is_list = isinstance(values, Sequence)
    if not is_list or not values or any(each not in choices or values.count(each) > 1 for each in values):
        given = list(values) if is_list else describe(values)
        raise ValueError(f"{name} must be among {', '.join(choices)}, each once; got {given}")


def text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {describe(value)}")


def whole_split(name: str, split: str) -> None:
    if split != "all":
        raise ValueError(f'{name} must be made with split="all", to hold all that a picture may show; got {split!r}')


# ---- Tensors ---------------------------------------------------------------------------------------------------------


def shape(name: str, value: object, wanted: Size, whose: str) -> None:
    """whose: what has the wanted shape."""
    if not isinstance(value, Tensor) or value.shape != wanted:
        raise ValueError(f"{name} must be a tensor of {whose} shape {tuple(wanted)}; got {describe(value)}")


def floats(**two: object) -> None:
    """Both tensors are floating point and of one shape; their keywords are their names in the message."""
    for name, value in two.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            hint = " (turn 0..255 into -1..1 first: x.float() / 127.5 - 1)" if getattr(value, "ndim", 0) > 1 else ""
            raise TypeError(f"{name} must be a tensor of floats; got {describe(value)}{hint}")
    (name_a, a), (name_b, b) = two.items()
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have one shape; got {tuple(a.shape)} and {tuple(b.shape)}")


def pictures(pictures: object, name: str = "pictures", bytes_too: bool = False, look: bool = True) -> None:
    """A float tensor (N, C, H, W) with values in [-1, 1]; bytes_too allows uint8, look=False any values."""
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(f"{name} must be a tensor of pictures, (N, C, H, W); got {describe(pictures)}")
    if bytes_too and pictures.dtype == torch.uint8:
        return
    if not pictures.is_floating_point():
        raise TypeError(
            f"{name} must be floats in [-1, 1]; got {describe(pictures)}. For values 0..255: {name}.float() / 127.5 - 1"
        )
    low, high = (pictures.min().item(), pictures.max().item()) if look else (-1, 1)
    if not (low >= -1 and high <= 1):  # written so that NaN fails too
        hint = f" For values 0..255: {name} / 127.5 - 1" if low >= 0 and high > 2 else ""
        raise ValueError(f"{name} must lie in [-1, 1]; these go from {low:.4g} to {high:.4g}.{hint}")


def betas(betas: object) -> None:
    if not isinstance(betas, Tensor) or betas.ndim != 1 or len(betas) == 0 or not betas.is_floating_point():
        raise ValueError(f"betas must be a 1-D tensor of floats, such as linear_betas(1000); got {describe(betas)}")
    if not ((betas > 0) & (betas < 1)).all():
        low, high = betas.min().item(), betas.max().item()
        raise ValueError(f"betas must lie strictly between 0 and 1; these go from {low:.4g} to {high:.4g}")


def alpha_bars(alpha_bars: Tensor) -> None:
    """None rounded to 0 or 1: the inverse and the posterior divide by alpha_bar and by 1 - alpha_bar."""
    first, last = alpha_bars[0].item(), alpha_bars[-1].item()
    if first == 1 or last == 0:
        why = "the first beta is too small" if first == 1 else "the betas together leave nothing of the picture"
        raise ValueError(
            f"alpha_bars must lie strictly between 0 and 1; rounded, these go from {first:.4g} to {last:.4g}: {why}"
        )


def timesteps(t: object, x: Tensor, num_timesteps: int, look: bool = True) -> None:
    """Long, (B,), with values from 0 to num_timesteps - 1. look=False spares a GPU the look at the values."""
    B = len(x)
    if not isinstance(t, Tensor) or t.dtype != torch.long:
        raise TypeError(
            f"t must be a tensor of whole numbers (dtype torch.long), such as torch.full(({B},), 5); got {describe(t)}"
        )
    if t.shape != (B,):
        raise ValueError(
            f"t must hold one step number for each of the {B} pictures, shape ({B},); got shape {tuple(t.shape)}"
        )
    lowest, highest = (bound.item() for bound in t.aminmax()) if B and look else (0, 0)
    if lowest < 0 or highest >= num_timesteps:
        raise ValueError(
            f"t must lie between 0 and {num_timesteps - 1} (this schedule has {num_timesteps} timesteps, counted from "
            f"0); got {lowest} to {highest}"
        )


def same_device(schedule: Tensor, pictures: Tensor) -> None:
    if schedule.device != pictures.device:
        raise ValueError(
            f"the schedule is on {schedule.device} but the pictures are on {pictures.device}: "
            f'move it with schedule = schedule.to("{pictures.device}")'
        )


# ---- Networks --------------------------------------------------------------------------------------------------------


def eps_model(eps_model: object) -> None:
    if not callable(eps_model):
        inside = next((name for name in ("ema_model", "model") if hasattr(eps_model, name)), None)
        hint = f": pass its {inside}" if inside else ""
        raise TypeError(f"eps_model must be callable, eps_model(x_t, t); got a {type(eps_model).__name__}{hint}")
    predicts_noise(eps_model)


def predicts_noise(model: object) -> None:
    if getattr(model, "predicts", "eps") != "eps":
        raise ValueError(f"this model predicts {model.predicts}; noise_predictor(model, schedule) is its eps_model")


def noise(x_T: object, generator: object = None) -> None:
    """generator: where x_T's pictures get their fresh noise from, one for all or a list with one for each."""
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point() or x_T.ndim < 2:
        raise ValueError("x_T must be a batch of noise, such as torch.randn(16, 1, 8, 8): a tensor of floats (B, ...)")
    is_list = isinstance(generator, Sequence) and all(isinstance(each, torch.Generator) for each in generator)
    if is_list and len(generator) != len(x_T):
        raise ValueError(f"there are {len(generator)} generators for {len(x_T)} pictures; there must be one for each")
    if not is_list and not isinstance(generator, torch.Generator | None):
        raise TypeError(
            "generator must be a torch.Generator, such as torch.Generator().manual_seed(0), or a list with one for "
            f"each picture; got {describe(generator)}"
        )


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


def unet_input(x_t: object, t: object, context: object, padding: object, config: dict) -> None:
    """config: what the U-Net was made with."""
    in_channels, patch_size = config["in_channels"], config["patch_size"]
    halvings, context_dim = len(config["channels"]) - 1, config["context_dim"]
    if not isinstance(x_t, Tensor) or x_t.ndim != 4 or not x_t.is_floating_point():
        raise ValueError(f"x_t must be pictures, a tensor of floats (B, {in_channels}, H, W); got {describe(x_t)}")
    B, C, H, W = x_t.shape
    if in_channels != C:
        raise ValueError(f"x_t has {C} channels, but this U-Net was made for in_channels={in_channels}")
    multiple = patch_size * 2**halvings
    if H % multiple or W % multiple:
        times = {1: "once", 2: "twice"}.get(halvings, f"{halvings} times")
        patches = f" and patches of {patch_size}x{patch_size}" if patch_size > 1 else ""
        raise ValueError(
            f"pictures of {H}x{W} cannot be halved {times}: with {halvings + 1} levels{patches} height and width must "
            f"be multiples of {multiple}"
        )
    if not isinstance(t, Tensor) or t.dtype != torch.long or t.shape != (B,):
        raise ValueError(f"t must be a long tensor of shape ({B},), one step per picture; got {describe(t)}")
    if context_dim is None:
        if context is not None:
            raise ValueError("this U-Net reads no text: it was made without context_dim, and was given a context")
    elif not isinstance(context, Tensor) or context.ndim != 3 or context.shape[::2] != (B, context_dim):
        wanted = f"({B}, L, {context_dim})"
        raise ValueError(f"this U-Net reads a text: context must be of shape {wanted}; got {describe(context)}")
    elif not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != context.shape[:2]:
        raise ValueError(f"padding must be bool, {tuple(context.shape[:2])}; got {describe(padding)}")


# ---- Text ------------------------------------------------------------------------------------------------------------


def vocabulary(words: Sequence) -> None:
    several("words", words, "words")
    for word in words:
        text("each of the words", word)
    if not words:
        raise ValueError("there are no words to learn: words must hold at least one")
    if len(set(words)) != len(words):
        raise ValueError("words must be different from one another")


def caption_length(caption: str, num_words: int, most: int) -> None:
    if num_words > most:
        raise ValueError(f"the caption {caption!r} has {num_words} words, and this model reads {most}")


def tokens(tokens: object) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or tokens.ndim != 2:
        raise ValueError(f"tokens must be long, (B, L), as a Tokenizer returns them; got {describe(tokens)}")


def reading(unet: dict, encoder: dict, tokenizer: tuple[int, int]) -> None:
    """The configs of a U-Net and a text encoder, and a tokenizer's length and max_length, made for each other."""
    if unet["context_dim"] != encoder["dim"]:
        raise ValueError(
            f"the U-Net reads a context_dim of {unet['context_dim']}, but the text encoder writes {encoder['dim']}"
        )
    sizes = encoder["vocabulary_size"], encoder["max_length"]
    if sizes != tokenizer:
        raise ValueError(
            f"the text encoder was made for a vocabulary_size and max_length of {sizes}, but the tokenizer has "
            f"{tokenizer}"
        )


def prompts(prompts: object, shape: object, guidance_scale: object) -> None:
    several("prompts", prompts, "prompts")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    if len(shape) != 3:
        raise ValueError(f"shape must be that of one picture, (C, H, W); got {shape!r}")
    number("guidance_scale", guidance_scale, least=0)


# ---- Training --------------------------------------------------------------------------------------------------------


def fitting(
    num_iterations: object, learning_rate: object, warmup_iterations: object, max_grad_norm: object, ema_decay: object
) -> None:
    whole_number("num_iterations", num_iterations)
    number("learning_rate", learning_rate, above=0)
    whole_number("warmup_iterations", warmup_iterations, least=0)
    if max_grad_norm != math.inf:  # which leaves gradients as they are
        number("max_grad_norm", max_grad_norm, above=0)
    number("ema_decay", ema_decay, least=0, most=1)


def training_data(data: object, cond: Tensor | None, null_cond: Tensor | None, batch_size: object) -> None:
    """Pictures, each with its condition where there are any, or a function that brings both; warns of [0, 1]."""
    whole_number("batch_size", batch_size)
    if callable(data) and not isinstance(data, Tensor):
        if cond is not None:
            raise ValueError("cond goes with a tensor of pictures; a function brings the conditions with its batches")
        return
    pictures(data, bytes_too=True)
    if data.is_floating_point() and data.min() >= 0:
        warnings.warn("no value of pictures is below 0; if they are in [0, 1]: pictures * 2 - 1", stacklevel=3)
    if (cond is None) != (null_cond is None) or (cond is not None and len(cond) != len(data)):
        raise ValueError(
            f"cond must have one row for each of the {len(data)} pictures, and null_cond beside it; "
            f"got {describe(cond)} and {describe(null_cond)}"
        )


def batch(x_0: Tensor, cond: Tensor | None, batch_size: int, null_cond: Tensor | None) -> None:
    """A batch that somebody else drew. On a GPU to look at its values would be to wait for them."""
    if len(x_0) != batch_size:
        raise ValueError(f"batches must hold {batch_size} pictures, which is batch_size; got {len(x_0)}")
    if (cond is None) != (null_cond is None):
        raise ValueError("batches with conditions need a null_cond, and batches without conditions none")
    pictures(x_0, look=x_0.device.type == "cpu")


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
