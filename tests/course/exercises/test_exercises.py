"""The checks against answers that the package has never seen: right ones in many styles, and planted bugs."""

import copy
import inspect
import textwrap
from pathlib import Path

import answers_01
import answers_02
import answers_03
import answers_04
import answers_05
import answers_06
import answers_07
import answers_08
import answers_09
import nbformat
import pytest
import torch

import ddpm_core
from ddpm_core import NoiseSchedule
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.exercises.compare import Compare, edited
from ddpm_core.course.tutor import check

pytestmark = [
    pytest.mark.usefixtures("progress_file"),
    pytest.mark.filterwarnings(r"ignore:std\(\).*degrees of freedom"),  # of a planted bug: the deviation of no points
]

PREPARED = """
import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from ddpm_core import *
from ddpm_core.systems import augmented, scaled, shrunk, text_vectors
"""


def written(name: str, body: str):
    """The learner's function or value: its body is what stands in the table."""
    exercise, namespace = EXERCISES[name], {}
    if exercise.value:
        exec(f"{PREPARED}answer = {body}", namespace)
    else:
        body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        exec(f"{PREPARED}def answer({', '.join(exercise.parameters)}):\n{body}", namespace)
    return namespace["answer"]


TABLES = answers_01, answers_02, answers_03, answers_04, answers_05, answers_06, answers_07, answers_08, answers_09
# Right answers, written in other ways than the package's: loops, einsum, float64, the paper's other forms.
RIGHT = {name: bodies for table in TABLES for name, bodies in table.RIGHT.items()}
# Each exercise's planted bugs: words of the hint that the learner must get, and the learner's code, or several of them.
PLANTED = {name: planted for table in TABLES for name, planted in table.PLANTED.items()}


@pytest.mark.parametrize("name, body", [(name, body) for name, bodies in RIGHT.items() for body in bodies])
def test_a_right_answer_written_differently_is_correct(name, body, capsys):
    check(name, written(name, body))
    said = capsys.readouterr().out
    assert said.startswith(f"{name} is correct") and ". 1 of" in said


@pytest.mark.parametrize(
    "name, words, body",
    [
        pytest.param(name, words, body, id=f"{name}-{words}")
        for name, planted in PLANTED.items()
        for words, bodies in planted.items()
        for body in ([bodies] if isinstance(bodies, str) else bodies)
    ],
)
def test_a_planted_bug_gets_its_own_hint(name, words, body, capsys):
    check(name, written(name, body))
    said = capsys.readouterr().out
    assert said.startswith(f"{name} is not right yet: ") and words in said


def test_every_exercise_has_at_least_four_planted_bugs_and_a_right_answer():
    assert set(RIGHT) == set(PLANTED) == set(EXERCISES)
    assert min(len(planted) for planted in PLANTED.values()) >= 4


@pytest.mark.parametrize(
    "name", [name for name, exercise in EXERCISES.items() if isinstance(exercise.examine, Compare)]
)
def test_each_listed_bug_can_be_made_and_told_from_the_others(name, capsys):
    compare = EXERCISES[name].examine
    for bug, words in compare.bugs.items():
        check(name, bug if callable(bug) else edited(compare.right, *bug))
        assert words in capsys.readouterr().out


def test_an_edit_that_finds_nothing_to_replace_is_refused():
    with pytest.raises(ValueError, match="'beta' in my_add_noise"):
        edited(EXERCISES["add_noise"].answer, "beta", "alpha")


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_revealed_is_correct_where_it_is_pasted_into_its_notebook(name, capsys):
    exercise = EXERCISES[name]
    [path] = (Path(__file__).parents[3] / "notebooks").glob(f"{exercise.notebook}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    [asked] = [source for source in cells if f'check("{name}"' in source]
    assert asked.startswith(exercise.begins_as)
    names: dict[str, object] = {}
    exec(next(source for source in cells if "from ddpm_core" in source), names)  # what a cell may use
    source = inspect.getsource(exercise.answer)
    exec(source, names)
    answer = names[exercise.answer.__name__]
    check(name, answer() if exercise.value else answer)
    assert capsys.readouterr().out.startswith(f"{name} is correct.")
    assert source.startswith("def ") and len(source.splitlines()) <= 12 and callable(names["show_source"])
    if exercise.general:
        assert callable(getattr(ddpm_core, exercise.general))


def moved(argument: object, device: str) -> object:
    if isinstance(argument, NoiseSchedule):
        return argument.to(device).trusting()  # nothing of it can be looked at where there are no numbers
    if isinstance(argument, torch.nn.Module):
        return copy.deepcopy(argument).to(device)  # a module moves itself, and this one is still needed
    return argument.to(device) if isinstance(argument, torch.Tensor) else argument


@pytest.mark.parametrize(
    "name",
    [
        *("add_noise", "posterior", "time_embedding", "ddpm_step", "ddim_step", "v_to_eps"),
        *("ddim_eta_step", "inpaint_step", "contrastive_loss", "search", "zero_shot", "keep_pairs"),
        *("kl", "autoencoder_loss", "encode"),
        *("dynamic_threshold", "super_resolver_input", "best_candidate", "text_difference"),
    ],
)
def test_what_is_revealed_makes_no_tensor_on_another_device_than_its_inputs(name):
    exercise = EXERCISES[name]
    for case in exercise.examine.cases:
        on_meta = exercise.answer(*(moved(argument, "meta") for argument in case))
        for tensor in on_meta if isinstance(on_meta, tuple) else [on_meta]:
            assert tensor.device.type == "meta"


def test_checking_leaves_the_global_randomness_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    check("x_T", torch.ones(16, 3, 32, 32))
    check("add_noise", lambda schedule, x_0, t, eps: torch.randn_like(x_0))
    assert torch.equal(torch.randn(4), expected)
