"""The options of a command, as a user types them. Nothing here is about diffusion."""

import re
from pathlib import Path

import click

from ddpm_core.support.files import quoted


def as_typed(sentence: str, command: click.Command) -> str:
    """The sentence with the options of a command as a user types them, where it has the names of arguments."""
    for option in command.params:
        # A name of one word may be a word of the language: it is an argument where the sentence begins with it.
        name = rf"(?<![\w./-])(--)?{option.name}(?![\w/])" if "_" in option.name else rf"^{option.name}(?= must )"
        if isinstance(option, click.Option):
            sentence = re.sub(name, option.opts[0], sentence)
    return sentence


def pattern_in_quotes(option: str, file: str) -> str:
    """What to say where a file stands that a shell made of a pattern: how the pattern is typed."""
    pattern = Path(file).with_name(f"*{Path(file).suffix}")
    return f"put the pattern in quotes: {option} {quoted(pattern)}"
