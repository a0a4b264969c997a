"""What something was made with, and the same thing made again from that. Nothing here is about diffusion."""

import inspect
from functools import wraps
from typing import TypeVar

from ddpm_core.support.guards import is_whole

Class = TypeVar("Class", bound=type)
REGISTERED: dict[str, type] = {}


def register(cls: Class) -> Class:
    """Class decorator: an instance's .config is what it was made with, and build(name, config) makes another like it.

    An argument that is registered itself is kept as {"name": ..., "config": ...}. Lists become tuples, and NumPy's
    integers become Python's, so that json can hold a config.
    """
    init, signature = cls.__init__, inspect.signature(cls.__init__)

    @wraps(init)
    def init_and_note(self, *arguments: object, **keywords: object) -> None:
        init(self, *arguments, **keywords)
        made_with = signature.bind(self, *arguments, **keywords)
        made_with.apply_defaults()
        self.config = {name: _plain(value) for name, value in list(made_with.arguments.items())[1:]}  # without self

    cls.__init__ = init_and_note
    REGISTERED[cls.__name__] = cls
    return cls


def build(name: str, config: dict) -> object:
    """A registered class's instance, untrained. Raises KeyError for a name that is not registered."""
    return REGISTERED[name](**{argument: _made(value) for argument, value in config.items()})


def is_registered(thing: object) -> bool:
    return REGISTERED.get(type(thing).__name__) is type(thing)  # somebody else's class may have the same name


def description(thing: object) -> dict:
    """What build takes."""
    return dict(name=type(thing).__name__, config=thing.config)


def difference(a: dict, b: dict) -> tuple[dict, dict]:
    """The entries in which two configs differ, as each has them; of lists of words, those that the other lacks."""
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


def _plain(value: object) -> object:
    if is_registered(value):
        return description(value)
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return int(value) if is_whole(value) else value


def _made(value: object) -> object:
    return build(**value) if isinstance(value, dict) else value
