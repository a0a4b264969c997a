"""The three levels of help, the gates and the clinic; and what is done stays done."""

import json
from unittest import mock

import pytest
import torch

from ddpm_core import (
    DigitReader,
    NoiseSchedule,
    TrainingState,
    UNet,
    add_noise,
    cosine_betas,
    draw_scenes,
    load_digit_scenes,
    load_digits,
    load_mnist,
    train,
)
from ddpm_core.course import progress as kept
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.tutor import assign_letters, check, gate, hint, likely_cause, progress, reveal, sketch

pytestmark = pytest.mark.usefixtures("progress_file")


@pytest.mark.parametrize("name", EXERCISES)
def test_three_levels_of_help_lead_from_a_hint_to_the_source(name, capsys):
    exercise = EXERCISES[name]
    hint(name)
    assert capsys.readouterr().out.endswith(f'\nStill stuck: sketch("{name}").\n')
    sketch(name)
    said = capsys.readouterr().out
    assert "..." in said and said.endswith(f'reveal("{name}").\n')
    if exercise.value:
        assert f"{exercise.value} = " in said
    else:
        compile(said.rpartition("\nThe whole")[0], name, "exec")
        assert said.startswith(f"def my_{name}({', '.join(exercise.parameters)}):\n")
    with mock.patch("ddpm_core.course.tutor.show_source") as show_source:
        reveal(name)
    assert show_source.call_args.args[0] is exercise.answer
    form = exercise.general
    said = capsys.readouterr().out
    assert (f"from ddpm_core import {form}; show_source({form})" in said) if form else not said
    check(name, ...)
    assert capsys.readouterr().out == f"{name} is not done yet.\n"


def test_a_name_that_is_no_exercise_gets_a_suggestion_or_the_list():
    for slip in ("ad_noise", "my_add_noise", "addnoise"):
        with pytest.raises(ValueError, match=f"'{slip}'.*did you mean \"add_noise\""):
            check(slip, add_noise)
    for call in (hint, sketch, reveal, lambda name: check(name, None), lambda name: check(add_noise, name)):
        with pytest.raises(
            ValueError, match=r"there is no exercise .*; there are x_T, reverse_step, census, add_noise"
        ):
            call("zebra")


def test_what_is_done_outlives_the_kernel(progress_file, capsys, monkeypatch):
    check("add_noise", add_noise)
    assert json.loads(progress_file.read_text()) == ["add_noise"]
    monkeypatch.setattr(kept, "in_this_kernel", set())  # as after a restart
    check("add_noise", ...)
    progress()
    said = capsys.readouterr().out
    assert "add_noise is not done yet. (You have solved it before.)" in said
    assert "02  ● add_noise  ○ cosine_betas  ○ posterior\n" in said
    assert "04  ○ diffusion_loss  ○ ddpm_step  ○ ddim_step  ○ v_to_eps  ○ repaired_sampler  ○ repaired_loop" in said
    assert "○ repaired_loop  ○ clinic  ○ luck  ○ gate 04\n" in said
    assert "06  ○ ddim_eta_step  ○ slerp  ○ sdedit_start  ○ inpaint_step\n" in said
    assert "07  ○ contrastive_loss  ○ search  ○ zero_shot  ○ keep_pairs\n" in said
    assert "08  ○ kl  ○ autoencoder_loss  ○ encode  ○ draw_in_latents\n" in said
    assert said.endswith("1 of 38 done.\n")


def test_a_function_of_the_package_handed_over_is_correct_but_told(capsys):
    check("add_noise", add_noise)
    assert capsys.readouterr().out.startswith("add_noise is correct (by the package's own add_noise;")
    check("add_noise", lambda *arguments: add_noise(*arguments))
    check("add_noise", EXERCISES["add_noise"].answer)
    assert capsys.readouterr().out.count("add_noise is correct. 1 of") == 2


def test_a_damaged_progress_file_is_begun_anew(progress_file, capsys):
    progress_file.write_text('{"no')
    progress()
    assert "0 of 38 done." in capsys.readouterr().out
    check("add_noise", add_noise)
    assert json.loads(progress_file.read_text()) == ["add_noise"]


@pytest.mark.parametrize("name", ["missing/progress.json", ""])
def test_where_nothing_can_be_or_should_be_written_it_lasts_as_long_as_the_kernel(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_PROGRESS", name)
    check("add_noise", add_noise)
    progress()
    assert "● add_noise" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_without_the_variable_it_lies_in_the_notebooks_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DDPM_PROGRESS")
    monkeypatch.chdir(tmp_path)
    check("add_noise", add_noise)
    assert json.loads((tmp_path / ".progress.json").read_text()) == ["add_noise"]


def test_the_gate_of_04_opens_for_real_digits_and_not_for_noise_or_ones_alone(capsys):
    digits, labels = load_mnist("held_out")
    gate("04", digits)
    assert "Gate 04 is open: " in capsys.readouterr().out
    gate("04", torch.randn(100, 1, 28, 28))
    assert "Gate 04 stays shut: " in capsys.readouterr().out
    gate("04", digits[labels == 1])
    assert "the rarest digit came 0 times" in capsys.readouterr().out


def test_the_gate_of_05_opens_for_what_was_asked_and_not_for_something_else(capsys):
    real = load_digit_scenes(1, 200, "held_out")
    gate("05", real.pictures, real.scenes)
    assert "Gate 05 is open: " in capsys.readouterr().out
    gate("05", real.pictures, draw_scenes(1, 200, seed=9))
    progress()
    said = capsys.readouterr().out
    assert "Gate 05 stays shut: " in said and "● gate 05" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("03", torch.zeros(100, 1, 28, 28)), "notebook must be .04. or .05.; got '03'"),
        (("04", torch.zeros(99, 1, 28, 28)), "at least 100 samples of your model; got float32 tensor of shape"),
        (("04", None), "at least 100 samples of your model; got None"),
        (("05", torch.zeros(100, 3, 28, 28)), 'gate "05" needs the scenes'),
        (("04", torch.zeros(100, 1, 28, 28), None, DigitReader), "reader must be a DigitReader"),
    ],
)
def test_a_gate_says_what_it_needs(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gate(*arguments)


def test_a_gate_takes_the_reader_that_it_is_given(capsys):
    class Blind(DigitReader):
        sure_rate = 1.0

        def __init__(self):
            pass

        def probabilities(self, pictures):
            return torch.full((len(pictures), 10), 0.1)

    gate("04", load_mnist("held_out")[0], reader=Blind())
    assert "Gate 04 stays shut: the reader is sure of 0% as many" in capsys.readouterr().out


def trained(num_iterations: int, learning_rate: float, stop_after: int | None = None) -> TrainingState:
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8,)))
    run = train(state, NoiseSchedule(cosine_betas(50)), load_digits("train")[0], num_iterations, 32, learning_rate)
    for _ in zip(range(stop_after or num_iterations), run, strict=False):
        pass
    return state


def test_a_run_that_was_stopped_or_never_begun_is_the_likely_cause():
    assert "iteration 0 of 750" in likely_cause(TrainingState(UNet(1, (8,))), 750, 5e-3)
    assert "iteration 3 of 20" in likely_cause(trained(20, 5e-3, stop_after=3), 20, 5e-3)


@pytest.mark.parametrize("learning_rate", [1e-6, 10.0])
def test_a_full_run_that_learnt_nothing_names_its_learning_rate(learning_rate):
    cause = likely_cause(trained(60, learning_rate), 60, learning_rate)
    assert f"learning_rate = {learning_rate:g}" in cause and "nothing was learnt" in cause


def test_a_full_run_that_learnt_something_names_what_could_be_more():
    cause = likely_cause(trained(60, 5e-3), 60, 5e-3)
    assert "60 iterations with learning_rate = 0.005" in cause and "nothing" not in cause


def test_a_gate_that_stays_shut_names_the_learning_rate(capsys):
    gate("04", torch.randn(100, 1, 28, 28))
    assert "learning rate" in capsys.readouterr().out


def test_the_letters_of_the_clinic_are_those_that_its_check_expects(capsys):
    patients = assign_letters([1, 2, 3, 4, 5, 6])
    assert list(patients) == list("ABCDEF") and list(patients.values()) != [1, 2, 3, 4, 5, 6]
    check("clinic", patients)
    assert "clinic is correct." in capsys.readouterr().out
    with pytest.raises(ValueError, match="6 patients; got 5"):
        assign_letters([1, 2, 3, 4, 5])
