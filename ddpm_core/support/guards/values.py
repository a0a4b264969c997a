"""Rules for numbers, choices and texts."""

import math
import reprlib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

from torch import Tensor


def describe(value: object) -> str:
    """What an argument looks like: 'float32 tensor of shape (3, 4)' or '0.5 (float)'."""
    kind = "tensor" if isinstance(value, Tensor) else type(value).__name__
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and getattr(value, "shape", ())):  # NumPy's arrays too
        hint = "" if kind != "ndarray" else " (torch.from_numpy makes a tensor of it)"
        return f"{str(value.dtype).removeprefix('torch.')} {kind} of shape {tuple(value.shape)}{hint}"
    text = reprlib.repr(value)  # which cuts long lists, but not lists of lists
    if "\n" in text:  # a whole network, say
        return kind
    return f"{cut(text)} ({kind})"


def cut(text: str) -> str:
    """The beginning of a text, where it is long."""
    return text if len(text) <= 80 else text[:77] + "..."


def is_whole(value: object) -> bool:
    """Whether a value is an integer, Python's or NumPy's; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole_number(name: str, value: object, least: int = 1, most: int | None = None, why: str = "") -> None:
    if not is_whole(value) or value < least or (most is not None and value > most):
        limits = f", {least} or more" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{limits}{why}; got {describe(value)}")


def height_and_width(name: str, value: object) -> None:
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    if not is_pair or any(not is_whole(side) or side < 1 for side in value):
        raise ValueError(f"{name} must be a height and a width in pixels, such as (32, 32); got {describe(value)}")


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
        limits = f"be a number above {above:g}" + (f" and at most {most:g}" if most < math.inf else "")
    elif most < math.inf:
        limits = f"be a number between {least:g} and {most:g}"
    else:
        limits = f"be {least:g} or more" if least > -math.inf else "be a number"
    raise ValueError(f"{name} must {limits}; got {describe(value)}")


def instance(name: str, value: object, wanted: type, example: str = "") -> None:
    if not isinstance(value, wanted):
        article = "an" if wanted.__name__[0] in "AEIOU" else "a"
        example = f", such as {example}" if example else ""
        inside = next((part for part in ("ema_model", "model") if isinstance(getattr(value, part, None), wanted)), None)
        hint = f": pass its {inside}" if inside else ""
        raise TypeError(f"{name} must be {article} {wanted.__name__}{example}; got {describe(value)}{hint}")


def function_or_none(name: str, value: object, call: str) -> None:
    """call: how it will be called, such as draw(prompt)."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, called as {call}, or None; got {describe(value)}")


def several(name: str, values: object, what: str) -> None:
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of {what}, such as [{values!r}]; got a single string")


def one_each(name: str, values: object, how_many: int, of: str = "pictures") -> None:
    """A list with a string for each."""
    several(name, values, "strings")
    is_list = isinstance(values, Sequence)
    if not is_list or len(values) != how_many or not all(isinstance(each, str) for each in values):
        given = f"{len(values)}: {reprlib.repr(values)}" if is_list else describe(values)
        raise ValueError(f"{name} must be a list of strings, one for each of the {how_many} {of}; got {given}")


def groups(groups: object, how_many: int, most: int) -> None:
    """The name of each picture's group, or a dict of such lists; in each at most as many names as there are colours."""
    if isinstance(groups, dict) and not groups:
        raise ValueError("groups must have at least one list of names; got {}")
    lists = {f"groups[{name!r}]": each for name, each in groups.items()} if isinstance(groups, dict) else {}
    for name, each in (lists or {"groups": groups}).items():
        one_each(name, each, how_many)
        different = list(dict.fromkeys(each))
        if len(different) > most:
            given = f"{len(different)}: {reprlib.repr(different)}"
            raise ValueError(f"{name} must have at most {most} different names, one for each colour; got {given}")


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
