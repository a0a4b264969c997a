"""What is refused, and in which words. Each rule stands here once; elsewhere it is one line that calls it.

Whoever raises an error here says which argument it was, what was given and what is accepted. Nothing here computes.
"""

import math
import reprlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real

import torch
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------------
# Any value
# ---------------------------------------------------------------------------------------------------------------------


def describe(value: object) -> str:
    """What an argument looks like: 'float32 tensor of shape (3, 4)' or '0.5 (float)'."""
    kind = "tensor" if isinstance(value, Tensor) else type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):  # NumPy's arrays too
        return f"{str(value.dtype).removeprefix('torch.')} {kind} of shape {tuple(value.shape)}"
    text = reprlib.repr(value)  # which cuts long lists, but not lists of lists
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kind})"


def is_whole(value: object) -> bool:
    """Whether a value is an integer, Python's or NumPy's; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole_number(name: str, value: object, least: int = 1, most: int | None = None, why: str = "") -> None:
    """Raises ValueError unless value is a whole number from least to most; why says where the limit comes from."""
    if is_whole(value) and value >= least and (most is None or value <= most):
        return
    limits = f", {least} or more" if most is None else f" from {least} to {most}"
    raise ValueError(f"{name} must be a whole number{limits}{why}; got {describe(value)}")


def number(
    name: str, value: object, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> None:
    """Raises ValueError unless value is a finite number from least to most, and above the limit of that name."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and least <= value <= most and value > above:
        return
    if above > -math.inf:
        limits = f"be a number above {above:g}"
    elif most < math.inf:
        limits = f"lie between {least:g} and {most:g}"
    else:
        limits = f"be {least:g} or more" if least > -math.inf else "be a number"
    raise ValueError(f"{name} must {limits}; got {describe(value)}")


def instance(name: str, value: object, wanted: type, example: str = "") -> None:
    """Raises TypeError unless value is an instance of the class."""
    if not isinstance(value, wanted):
        article = "an" if wanted.__name__[0] in "AEIOU" else "a"
        example = f", such as {example}" if example else ""
        raise TypeError(f"{name} must be {article} {wanted.__name__}{example}; got {describe(value)}")


def several(name: str, values: object, what: str) -> None:
    """Raises TypeError where a single string stands for a list of them."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of {what}, such as [{values!r}]; got a single string")


def text(name: str, value: object) -> None:
    """Raises TypeError unless value is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {describe(value)}")


# ---------------------------------------------------------------------------------------------------------------------
# Tensors
# ---------------------------------------------------------------------------------------------------------------------


def floats(**two: object) -> None:
    """Raises unless both are tensors of floats and of one shape. Their keywords are their names in the message."""
    for name, value in two.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            hint = " (turn 0..255 into -1..1 first: x.float() / 127.5 - 1)" if getattr(value, "ndim", 0) > 1 else ""
            raise TypeError(f"{name} must be a tensor of floats; got {describe(value)}{hint}")
    (name_a, a), (name_b, b) = two.items()
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have one shape; got {tuple(a.shape)} and {tuple(b.shape)}")


def pictures(pictures: object, name: str = "pictures", bytes_too: bool = False) -> None:
    """Raises unless pictures is a float tensor (N, C, H, W) with values in [-1, 1]; bytes_too allows uint8."""
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(f"{name} must be a tensor of pictures, (N, C, H, W); got {describe(pictures)}")
    if bytes_too and pictures.dtype == torch.uint8:
        return
    if not pictures.is_floating_point():
        raise TypeError(
            f"{name} must be floats in [-1, 1]; got {describe(pictures)}. For values 0..255: {name}.float() / 127.5 - 1"
        )
    low, high = pictures.min().item(), pictures.max().item()
    if not (low >= -1 and high <= 1):  # written so that NaN fails too
        hint = f" For values 0..255: {name} / 127.5 - 1" if low >= 0 and high > 2 else ""
        raise ValueError(f"{name} must lie in [-1, 1]; these go from {low:.4g} to {high:.4g}.{hint}")


def betas(betas: object) -> None:
    """Raises unless betas make a schedule: a 1-D tensor of floats, each strictly between 0 and 1."""
    if not isinstance(betas, Tensor) or betas.ndim != 1 or len(betas) == 0 or not betas.is_floating_point():
        raise ValueError(f"betas must be a 1-D tensor of floats, such as linear_betas(1000); got {describe(betas)}")
    if not ((betas > 0) & (betas < 1)).all():
        low, high = betas.min().item(), betas.max().item()
        raise ValueError(f"betas must lie strictly between 0 and 1; these go from {low:.4g} to {high:.4g}")


def alpha_bars(alpha_bars: Tensor) -> None:
    """Raises where rounding made an alpha_bar 0 or 1: the inverse and the posterior divide by it and by 1 minus it."""
    first, last = alpha_bars[0].item(), alpha_bars[-1].item()
    if first == 1 or last == 0:
        why = "the first beta is too small" if first == 1 else "the betas together leave nothing of the picture"
        raise ValueError(
            f"alpha_bars must lie strictly between 0 and 1; rounded, these go from {first:.4g} to {last:.4g}: {why}"
        )


def timesteps(t: object, x: Tensor, num_timesteps: int, look: bool = True) -> None:
    """Raises unless t is long, (B,), with values from 0 to num_timesteps - 1; look=False spares a GPU that look."""
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


def same_device(values: Tensor, x: Tensor) -> None:
    """Raises where a schedule and the pictures are on two devices."""
    if values.device != x.device:
        raise ValueError(
            f"the schedule is on {values.device} but the pictures are on {x.device}: "
            f'move it with schedule = schedule.to("{x.device}")'
        )


def condition_shapes(cond: Tensor, null_cond: Tensor) -> None:
    """Raises unless null_cond has the shape of one of the conditions."""
    if cond.shape[1:] != null_cond.shape:
        raise ValueError(
            f"null_cond must have the shape of one condition, {tuple(cond.shape[1:])}; got {describe(null_cond)}"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------


def eps_model(eps_model: object) -> None:
    """Raises TypeError unless eps_model can be called; names the network inside what was given instead."""
    if not callable(eps_model):
        inside = next((name for name in ("ema_model", "model") if hasattr(eps_model, name)), None)
        hint = f": pass its {inside}" if inside else ""
        raise TypeError(f"eps_model must be callable, eps_model(x_t, t); got a {type(eps_model).__name__}{hint}")


def noise(x_T: object) -> None:
    """Raises unless x_T is a batch to begin sampling with."""
    if not isinstance(x_T, Tensor) or not x_T.is_floating_point() or x_T.ndim < 2:
        raise ValueError("x_T must be a batch of noise, such as torch.randn(16, 1, 8, 8): a tensor of floats (B, ...)")


def eps_hat(eps_hat: object, shape: torch.Size) -> None:
    """Raises unless what an eps_model returned is a tensor of its input's shape."""
    if not isinstance(eps_hat, Tensor) or eps_hat.shape != shape:
        raise ValueError(f"eps_model must return a tensor of x_t's shape {tuple(shape)}; got {describe(eps_hat)}")


def unet_plan(
    channels: object, attention_levels: tuple, cross_attention_levels: tuple, context_dim: int | None, **counts: object
) -> None:
    """Raises where a U-Net cannot be built so. counts: arguments that must be whole numbers, 1 or more."""
    is_list = isinstance(channels, (tuple, list)) and len(channels) > 0
    if not is_list or any(not is_whole(width) or width < 8 or width % 8 for width in channels):
        raise ValueError(f"channels must be multiples of 8, one a level, such as (32, 64); got {channels!r}")
    for name, levels in dict(attention=attention_levels, cross_attention=cross_attention_levels).items():
        if any(not is_whole(level) or not 0 <= level < len(channels) for level in levels):
            raise ValueError(f"{name}_levels must lie between 0 and {len(channels) - 1}; got {levels!r}")
    if cross_attention_levels and context_dim is None:
        raise ValueError("cross_attention_levels need a context_dim: how many numbers each vector of the text has")
    for name, count in counts.items():
        whole_number(name, count)


def unet_input(x_t: object, t: object, in_channels: int, num_levels: int, patch_size: int) -> None:
    """Raises unless x_t and t are what a U-Net of this make takes."""
    if not isinstance(x_t, Tensor) or x_t.ndim != 4 or not x_t.is_floating_point():
        raise ValueError(f"x_t must be pictures, a tensor of floats (B, {in_channels}, H, W); got {describe(x_t)}")
    B, C, H, W = x_t.shape
    if in_channels != C:
        raise ValueError(f"x_t has {C} channels, but this U-Net was made for in_channels={in_channels}")
    multiple = patch_size * 2 ** (num_levels - 1)
    if H % multiple or W % multiple:
        times = {1: "once", 2: "twice"}.get(num_levels - 1, f"{num_levels - 1} times")
        patches = f" and patches of {patch_size}x{patch_size}" if patch_size > 1 else ""
        raise ValueError(
            f"pictures of {H}x{W} cannot be halved {times}: with {num_levels} levels{patches} height and width must be "
            f"multiples of {multiple}"
        )
    if not isinstance(t, Tensor) or t.dtype != torch.long or t.shape != (B,):
        raise ValueError(f"t must be a long tensor of shape ({B},), one step per picture; got {describe(t)}")


def context(context: object, padding: object, batch_size: int, context_dim: int | None) -> None:
    """Raises unless the text is what a U-Net of this make reads."""
    if context_dim is None:
        if context is not None:
            raise ValueError("this U-Net reads no text: it was made without context_dim, and was given a context")
        return
    if not isinstance(context, Tensor) or context.ndim != 3 or context.shape[::2] != (batch_size, context_dim):
        shape = f"({batch_size}, L, {context_dim})"
        raise ValueError(f"this U-Net reads a text: context must be of shape {shape}; got {describe(context)}")
    if not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != context.shape[:2]:
        raise ValueError(f"padding must be bool, {tuple(context.shape[:2])}; got {describe(padding)}")


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def training_data(data: object, cond: Tensor | None, null_cond: Tensor | None) -> None:
    """Raises unless each picture has its condition, where there are any; warns of pictures in [0, 1]."""
    if callable(data) and not isinstance(data, Tensor):
        if cond is not None:
            raise ValueError("cond goes with a tensor of pictures; a function brings the conditions with its batches")
        return
    pictures(data, bytes_too=True)
    if data.is_floating_point() and data.min() >= 0:
        warnings.warn("no value of pictures is below 0; if they are in [0, 1]: pictures * 2 - 1", stacklevel=4)
    if (cond is None) != (null_cond is None) or (cond is not None and len(cond) != len(data)):
        raise ValueError(
            f"cond must have one row for each of the {len(data)} pictures, and null_cond beside it; "
            f"got {describe(cond)} and {describe(null_cond)}"
        )


def checked_batches(batches: Iterator[tuple], batch_size: int, null_cond: Tensor | None) -> Iterator[tuple]:
    """The same batches, (pictures, cond). Raises ValueError where one does not fit, or there are no more."""
    for x_0, cond in batches:
        if len(x_0) != batch_size:
            raise ValueError(f"batches must hold {batch_size} pictures, which is batch_size; got {len(x_0)}")
        if (cond is None) != (null_cond is None):
            raise ValueError("batches with conditions need a null_cond, and batches without conditions none")
        pictures(x_0)
        yield x_0, cond
    raise ValueError("the batches came to an end; the iterator must be endless")


class OutOfMemory(RuntimeError):
    """A batch was too large for the device's memory. The state keeps what was learnt before it."""


def is_lack_of_memory(error: RuntimeError) -> bool:
    """A GPU has an exception of its own for it; a CPU, and libraries on a GPU, general ones with these words."""
    words = ("can't allocate memory", "out of memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)


@contextmanager
def explain_out_of_memory(batch_size: int) -> Iterator[None]:
    """Turns a lack of memory inside the with block into OutOfMemory, which says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise OutOfMemory(
            f"the memory of the device does not hold a batch of {batch_size}: lower batch_size (say, to "
            f"{max(1, batch_size // 2)}), or use fewer channels or smaller pictures. What was learnt before is kept"
        ) from error


def divergence(iteration: int, loss: float, back_at: int, learning_rate: float) -> str:
    """What a learner should know whose loss stopped being a number."""
    return (
        f"training stopped at iteration {iteration}: the loss became {loss}. The model is back at its last good "
        f"weights, those of iteration {back_at}. Likely causes: a learning rate that is too high (it is "
        f"{learning_rate:g}; try {learning_rate / 10:g}), a division by zero or a root of a negative number in a "
        "network of your own, or half precision (use float32)."
    )


def difference(a: dict, b: dict) -> tuple[dict, dict]:
    """What is not the same in two configs, of each; of lists of words, the words that only one of them has."""
    ours, theirs = {}, {}
    for name in {**a, **b}:
        x, y = a.get(name), b.get(name)
        if x == y:
            continue
        if isinstance(x, dict) and isinstance(y, dict):
            x, y = difference(x, y)
        elif all(isinstance(words, tuple) and words and isinstance(words[0], str) for words in (x, y)):
            x, y = sorted(set(x) - set(y)), sorted(set(y) - set(x))
        ours[name], theirs[name] = x, y
    return ours, theirs


# Names that are on their way out with the code that calls them.
check_eps_hat: Callable = eps_hat
check_pictures: Callable = pictures


def one_of(name: str, value: object, choices: Iterable) -> None:
    """Raises ValueError unless value is one of the choices, strings or whole numbers; True is not 1."""
    if not isinstance(value, bool) and any(value is choice or value == choice for choice in choices):
        return
    *most, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    raise ValueError(f"{name} must be {', '.join(most)} or {last}; got {describe(value)}")
