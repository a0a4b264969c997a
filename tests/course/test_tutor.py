"""Whatever a learner's function does, the answer is a sentence; and what is done stays done."""

import functools
import json
import threading
import time
from unittest import mock

import pytest
import torch

from ddpm_core import DigitReader, add_noise, draw_scenes, load_digit_scenes, load_digits
from ddpm_core.course import tutor as checks
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.tutor import assign_letters, check, gate, hint, progress, reveal, sketch


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv("DDPM_PROGRESS", str(file))
    monkeypatch.setattr(checks, "_in_this_kernel", set())
    return file


def endless(schedule, x_0, t, eps):
    while True:
        pass


def stubborn(schedule, x_0, t, eps):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def raising(schedule, x_0, t, eps):
    return schedule.alpha_bar[t] * x_0


def in_place(schedule, x_0, t, eps):
    alpha_bar = schedule.alpha_bars[t].view(-1, 1, 1, 1)
    x_0 *= alpha_bar.sqrt()
    return x_0 + (1 - alpha_bar).sqrt() * eps


def spoils_the_schedule(schedule, x_0, t, eps):
    schedule.alpha_bars.mul_(0.5)
    return x_0


def yielding(schedule, x_0, t, eps):
    yield x_0


async def waiting(schedule, x_0, t, eps):
    return x_0


def recursive(schedule, x_0, t, eps):
    return recursive(schedule, x_0, t, eps)


def quitting(schedule, x_0, t, eps):
    raise SystemExit


def needs_gpu(schedule, x_0, t, eps):
    raise AssertionError("Torch not compiled with CUDA enabled")  # what .cuda() says on a build without it


def without_driver(schedule, x_0, t, eps):
    raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU.")


def elsewhere(schedule, x_0, t, eps):
    return x_0.to("meta")


class Noiser:
    """An answer in a class, as good as a function once there is an instance of it."""

    def __call__(self, schedule, x_0, t, eps):
        return self.add(schedule, x_0, t, eps)

    def add(self, schedule, x_0, t, eps):
        return add_noise(schedule, x_0, t, eps)


class NoisyModule(Noiser, torch.nn.Module):
    def forward(self, schedule, x_0, t, eps):
        return self.add(schedule, x_0, t, eps)


class Uncallable:
    pass


@pytest.mark.parametrize(
    "answer, words",
    [
        (endless, "still running after 1 seconds and was stopped: an endless loop?"),
        (stubborn, "still running after 1 seconds and was stopped: an endless loop?"),
        (raising, "it stops with AttributeError: 'NoiseSchedule' object has no attribute 'alpha_bar'"),
        (raising, "It was in this line:  return schedule.alpha_bar[t] * x_0"),
        (in_place, "it changes one of its inputs in place"),
        (recursive, "it calls itself without end"),
        (quitting, "it stops with SystemExit."),
        (needs_gpu, "it asks for a GPU, and this machine has none"),
        (without_driver, "it asks for a GPU, and this machine has none"),
        (elsewhere, "returns a tensor on meta for inputs on cpu"),
        (lambda schedule, x_0, t, eps: print(end=""), "it returns None: is the return line missing?"),
        (lambda schedule, x_0, t, eps: x_0[0], "returns the shape (1, 4, 4) for inputs of shapes (4, 1, 4, 4), (4,)"),
        (lambda schedule, x_0, t, eps: x_0.int(), "should return floats, but returns a int32 tensor"),
        (
            lambda schedule, x_0, t, eps: x_0.numpy(),
            "should return a tensor of shape (4, 1, 4, 4), but returns float32",
        ),
        (lambda schedule, x_0, t, eps: [x_0], "should return a tensor of shape (4, 1, 4, 4), but returns ["),
        (lambda schedule, x_0, t, eps: x_0 + t[:3].float(), "two shapes do not fit together (The size of tensor a (4)"),
        (lambda schedule, x_0, t, eps: x_0 + t[:3].float(), "reshape them to (B, 1, 1, 1)"),
        (lambda schedule, x_0, t, eps: (-x_0.abs()).sqrt(), "some of the numbers it returns are NaN"),
        (lambda schedule, x_0, t, eps: x_0.tolist(), "but returns [[[["),
        (spoils_the_schedule, "it changes one of its inputs in place"),
        (yielding, "it is a generator, as there is a yield in it: use return."),
        (waiting, "it is async, and must be awaited"),
        (
            lambda schedule, t, x_0, eps: x_0,
            "in another order: the order is that of my_add_noise(schedule, x_0, t, eps)",
        ),
        (lambda schedule, x_0, t, eps: x_0 * 7, "the shape is right, but not the numbers: one is"),
        (lambda x_0, t: x_0, "what my_add_noise(schedule, x_0, t, eps) takes; yours takes (x_0, t)"),
        (torch.zeros(3), "give the function itself, my_add_noise, and not what it returns; this is float32 tensor"),
        ("add_noise", "give the function itself, my_add_noise"),
        (Noiser, "this is the class Noiser itself, and calling a class makes an instance of it. Give an instance"),
        (Noiser, "can be called as my_add_noise(schedule, x_0, t, eps), such as Noiser(), or a plain function"),
        (torch.nn.Identity, "this is the class Identity itself"),
        (Noiser.add, "this is a method taken from its class, which still wants self"),
        (
            Uncallable(),
            "this is an instance of the class Uncallable, and it cannot be called: the class has no __call__",
        ),
        (torch.nn.Module(), 'it stops with NotImplementedError: Module [Module] is missing the required "forward"'),
        (lambda schedule, x_0, t, eps: Noiser, "it returns the class Noiser itself; return an instance of it"),
    ],
)
def test_whatever_a_function_does_the_answer_is_a_sentence(answer, words, capsys, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS_AT_MOST", 1.0)
    check("add_noise", answer)
    said = capsys.readouterr().out
    assert said.startswith("add_noise is not right yet: ") and words in said
    assert "Traceback" not in said and len(said) < 600 and said.endswith('More help: hint("add_noise").\n')


@pytest.mark.parametrize("answer", [Noiser(), Noiser().add, NoisyModule()])
def test_an_instance_that_can_be_called_is_as_good_as_a_function(answer, capsys):
    check("add_noise", answer)
    assert "add_noise is correct." in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (torch.Tensor, "this is the class Tensor itself; my_x_T shall be a value."),
        (torch.randn, "this is a function; my_x_T shall be a value: call the function, and give what it returns."),
        (lambda: torch.randn(16, 3, 32, 32), "this is a function; my_x_T shall be a value"),
    ],
)
def test_a_class_or_a_function_in_place_of_a_value_is_named(answer, words, capsys):
    check("x_T", answer)
    said = capsys.readouterr().out
    assert said.startswith("x_T is not right yet: ") and words in said


def test_a_closure_may_not_be_a_class(capsys):
    class Guided:
        def __init__(self, x_t, t):
            pass

    check("guided", lambda model, cond, null_cond, guidance_scale: Guided)
    assert "guided is not right yet: it returns the class Guided itself" in capsys.readouterr().out


def test_an_endless_loop_is_stopped_and_leaves_no_thread(capsys, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS_AT_MOST", 0.5)
    threads, began = threading.active_count(), time.perf_counter()
    check("add_noise", endless)
    assert time.perf_counter() - began < 3
    assert threading.active_count() == threads


@pytest.mark.parametrize("made", [lambda x_t: x_t, functools.partial(lambda x_t, t, more: x_t), torch.nn.Linear(1, 1)])
def test_a_closure_that_fails_later_is_explained_too(made, capsys):
    check("guided", lambda model, cond, null_cond, guidance_scale: made)
    assert "guided is not right yet: " in capsys.readouterr().out


def test_a_decorated_stub_is_still_a_stub(capsys):
    def stub(schedule, x_0, t, eps): ...

    @functools.wraps(stub)
    def decorated(*arguments):
        return stub(*arguments)

    check("add_noise", decorated)
    assert capsys.readouterr().out == "add_noise is not done yet.\n"


def test_a_schedule_that_an_answer_spoils_is_whole_for_the_next(capsys):
    check("add_noise", spoils_the_schedule)
    check("add_noise", add_noise)
    assert "add_noise is correct." in capsys.readouterr().out


def test_a_name_with_a_slip_gets_a_suggestion():
    for slip in ("ad_noise", "my_add_noise", "addnoise"):
        with pytest.raises(ValueError, match=f"there is no exercise '{slip}' .str.; did you mean \"add_noise\""):
            check(slip, add_noise)
    with pytest.raises(ValueError, match=r"there is no exercise .*; there are x_T"):
        check(add_noise, "add_noise")


def test_a_name_that_is_no_exercise_is_refused_with_the_list():
    for call in (lambda: check("zebra", None), lambda: hint("zebra"), lambda: sketch("zebra"), lambda: reveal("zebra")):
        with pytest.raises(
            ValueError, match=r"there is no exercise 'zebra' .str.; there are x_T, reverse_step, census, add_noise"
        ):
            call()


@pytest.mark.parametrize("name", list(EXERCISES))
def test_three_levels_of_help_lead_from_a_hint_to_the_source(name, capsys):
    hint(name)
    assert capsys.readouterr().out.endswith(f'\nStill stuck: sketch("{name}").\n')
    sketch(name)
    said = capsys.readouterr().out
    assert "..." in said and said.endswith(f'reveal("{name}").\n')
    if EXERCISES[name].parameters:
        compile(said.rpartition("\nThe whole")[0], name, "exec")
        assert said.startswith(f"def my_{name}(")
    with mock.patch("ddpm_core.course.tutor.show_source") as show_source:
        reveal(name)
    assert show_source.call_args.args[0] is EXERCISES[name].answer
    general = EXERCISES[name].general
    assert capsys.readouterr().out == (
        f"The package's own form does more: show_source({general}).\n" if general else ""
    )


def test_what_is_done_outlives_the_kernel(progress_file, capsys, monkeypatch):
    check("add_noise", add_noise)
    assert json.loads(progress_file.read_text()) == ["add_noise"]
    monkeypatch.setattr(checks, "_in_this_kernel", set())  # as after a restart
    check("add_noise", ...)
    progress()
    said = capsys.readouterr().out
    assert "add_noise is not done yet. (You have solved it before.)" in said
    assert "02  ● add_noise  ○ cosine_betas  ○ posterior\n" in said
    assert "04  ○ diffusion_loss  ○ ddpm_step  ○ clinic  ○ luck  ○ gate 04\n" in said
    assert said.endswith("1 of 18 done.\n")


def test_a_damaged_progress_file_is_begun_anew(progress_file, capsys):
    progress_file.write_text('{"no')
    progress()
    assert "0 of 18 done." in capsys.readouterr().out
    check("add_noise", add_noise)
    assert json.loads(progress_file.read_text()) == ["add_noise"]


def test_where_the_folder_cannot_be_written_it_lasts_as_long_as_the_kernel(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DDPM_PROGRESS", str(tmp_path / "missing" / "progress.json"))
    check("add_noise", add_noise)
    progress()
    assert "● add_noise" in capsys.readouterr().out


def test_an_empty_variable_keeps_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DDPM_PROGRESS", "")
    monkeypatch.chdir(tmp_path)
    check("add_noise", add_noise)
    progress()
    assert "● add_noise" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_without_the_variable_it_lies_in_the_notebooks_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DDPM_PROGRESS")
    monkeypatch.chdir(tmp_path)
    check("add_noise", add_noise)
    assert json.loads((tmp_path / ".progress.json").read_text()) == ["add_noise"]


def test_the_gate_of_04_opens_for_real_digits_and_not_for_noise_or_ones_alone(capsys):
    digits, labels = load_digits("held_out")
    gate("04", digits)
    assert "Gate 04 is open: " in capsys.readouterr().out
    gate("04", torch.randn(100, 1, 8, 8))
    assert "Gate 04 stays shut: " in capsys.readouterr().out
    gate("04", digits[labels == 1].repeat(4, 1, 1, 1))
    assert "the rarest digit came 0 times" in capsys.readouterr().out


def test_the_gate_of_05_opens_for_what_was_asked_and_not_for_something_else(capsys):
    real = load_digit_scenes(1, 200, "held_out")
    gate("05", real.pictures, real.scenes)
    assert "Gate 05 is open: " in capsys.readouterr().out
    gate("05", real.pictures, draw_scenes(1, 200, seed=9))
    assert "Gate 05 stays shut: " in capsys.readouterr().out
    progress()
    assert "● gate 05" in capsys.readouterr().out


def test_the_letters_of_the_clinic_are_those_that_its_check_expects(capsys):
    patients = assign_letters([1, 2, 3, 4, 5, 6])
    assert list(patients) == list("ABCDEF") and list(patients.values()) != [1, 2, 3, 4, 5, 6]
    check("clinic", patients)
    assert "clinic is correct." in capsys.readouterr().out
    with pytest.raises(ValueError, match="the clinic has 6 patients; got 5"):
        assign_letters([1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("03", torch.zeros(100, 1, 8, 8)), "there are gates in the notebooks 04 and 05; got '03'"),
        (("04", torch.zeros(99, 1, 8, 8)), "at least 100 samples of your model; got float32 tensor of shape"),
        (("04", None), "at least 100 samples of your model; got None"),
        (("05", torch.zeros(100, 3, 8, 8)), 'gate "05" needs the scenes that were asked for'),
        (
            ("04", torch.zeros(100, 1, 8, 8), None, DigitReader),
            "reader must be a DigitReader, or None for a new one; got",
        ),
    ],
)
def test_a_gate_says_what_it_needs(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gate(*arguments)


def test_a_gate_takes_the_reader_that_it_is_given(capsys, monkeypatch):
    class Blind(DigitReader):
        sure_rate = 1.0

        def __init__(self):
            pass

        def probabilities(self, pictures):
            return torch.full((len(pictures), 10), 0.1)

    monkeypatch.setattr(checks, "_reader", lambda: pytest.fail("it trained another one"))
    gate("04", load_digits("held_out")[0], reader=Blind())
    assert "Gate 04 stays shut: the reader is sure of 0% as many" in capsys.readouterr().out
