import shlex

import click
import pytest

from ddpm_core.support.options import as_typed, pattern_in_quotes

OPTIONS = [click.Option(["--num-steps"], type=int), click.Option(["--seed"], type=int), click.Argument(["out"])]


@pytest.mark.parametrize(
    "sentence, typed",
    [
        ("num_steps must be 1 or more", "--num-steps must be 1 or more"),
        ("too few: --num_steps", "too few: --num-steps"),
        ("seed must be a whole number", "--seed must be a whole number"),
        ("with a seed of 3", "with a seed of 3"),  # the word
        ("out/num_steps.png", "out/num_steps.png"),  # a path
        ("out must end in .png", "out must end in .png"),  # an argument is typed as it is
    ],
)
def test_arguments_are_named_as_they_are_typed(sentence, typed):
    assert as_typed(sentence, click.Command("sample", params=OPTIONS)) == typed


@pytest.mark.parametrize("folder", ["shards", "my shards"])
def test_a_pattern_in_quotes_is_one_word_of_a_shell(folder):
    typed = pattern_in_quotes("--data", f"{folder}/00001.tar").partition(": ")[2]
    assert shlex.split(typed) == ["--data", f"{folder}/*.tar"] and "'" in typed
