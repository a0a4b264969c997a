"""The options of a command, as a user types them. Nothing here is about diffusion."""

import re

import click


def as_typed(sentence: str, command: click.Command) -> str:
    """The sentence with the options of a command as a user types them, where it has the names of arguments."""
    for option in command.params:
        # A name of one word may be a word of the language: it is an argument where the sentence begins with it.
        name = rf"(?<![\w./-])(--)?{option.name}(?![\w/])" if "_" in option.name else rf"^{option.name}(?= must )"
        if isinstance(option, click.Option):
            sentence = re.sub(name, option.opts[0], sentence)
    return sentence
