"""Whatever a learner's function does, the answer is a sentence, and what is not begun is told from what is wrong."""

import functools
import threading
import time

import pytest
import torch

from ddpm_core import add_noise
from ddpm_core.course import safe_call
from ddpm_core.course.safe_call import is_stub
from ddpm_core.course.tutor import check

pytestmark = pytest.mark.usefixtures("progress_file")


def raising(schedule, x_0, t, eps):
    return schedule.alpha_bar[t] * x_0


def in_place(schedule, x_0, t, eps):
    x_0 *= schedule.alpha_bars[t].view(-1, 1, 1, 1).sqrt()
    return x_0


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
        (raising, "it stops with AttributeError: 'NoiseSchedule' object has no attribute 'alpha_bar'"),
        (raising, "It was in this line:  return schedule.alpha_bar[t] * x_0"),
        (in_place, "it changes one of its inputs in place"),
        (spoils_the_schedule, "it changes one of its inputs in place"),
        (recursive, "it calls itself without end"),
        (quitting, "it stops with SystemExit."),
        (needs_gpu, "it asks for a GPU, and this machine has none"),
        (without_driver, "it asks for a GPU, and this machine has none"),
        (yielding, "it is a generator, as there is a yield in it: use return."),
        (waiting, "it is async, and must be awaited"),
        (lambda schedule, x_0, t, eps: x_0.to("meta"), "returns a tensor on meta for inputs on cpu"),
        (lambda schedule, x_0, t, eps: print(end=""), "it returns None: is the return line missing?"),
        (lambda schedule, x_0, t, eps: x_0[0], "returns the shape (1, 4, 4) for inputs of shapes (4, 1, 4, 4), (4,)"),
        (lambda schedule, x_0, t, eps: x_0.int(), "should return floats, but returns int32 tensor"),
        (lambda schedule, x_0, t, eps: x_0.numpy(), "a tensor of shape (4, 1, 4, 4), but returns float32 ndarray"),
        (lambda schedule, x_0, t, eps: [x_0], "a tensor of shape (4, 1, 4, 4), but returns ["),
        (lambda schedule, x_0, t, eps: x_0.tolist(), "but returns [[[["),
        (lambda schedule, x_0, t, eps: x_0 + t[:3].float(), "two shapes do not fit together (The size of tensor a (4)"),
        (lambda schedule, x_0, t, eps: x_0 + t[:3].float(), "reshape them to (B, 1, 1, 1)"),
        (lambda schedule, x_0, t, eps: (-x_0.abs()).sqrt(), "some of the numbers it returns are NaN"),
        (lambda schedule, x_0, t, eps: x_0 * 7, "the shape is right, but not the numbers: one is"),
        (lambda schedule, x_0, t, eps: Noiser, "it returns the class Noiser itself; return an instance of it"),
        (lambda schedule, t, x_0, eps: x_0, "another order: the order is that of my_add_noise(schedule, x_0, t, eps)"),
        (lambda x_0, t: x_0, "what my_add_noise(schedule, x_0, t, eps) takes; yours takes (x_0, t)"),
        (torch.zeros(3), "give the function itself, my_add_noise, and not what it returns; this is float32 tensor"),
        ("add_noise", "give the function itself, my_add_noise"),
        (Noiser, "this is the class Noiser itself, and calling a class makes an instance of it. Give an instance"),
        (Noiser, "can be called as my_add_noise(schedule, x_0, t, eps), such as Noiser(), or a plain function"),
        (torch.nn.Identity, "this is the class Identity itself"),
        (Noiser.add, "this is a method taken from its class, which still wants self"),
        (Uncallable(), "an instance of the class Uncallable, and it cannot be called: the class has no __call__"),
        (torch.nn.Module(), 'it stops with NotImplementedError: Module [Module] is missing the required "forward"'),
    ],
)
def test_whatever_a_function_does_the_answer_is_a_sentence(answer, words, capsys):
    check("add_noise", answer)
    said = capsys.readouterr().out
    assert said.startswith("add_noise is not right yet: ") and words in said
    assert "Traceback" not in said and len(said) < 600 and said.endswith('More help: hint("add_noise").\n')


def test_a_schedule_that_an_answer_spoils_is_whole_for_the_next(capsys):
    check("add_noise", spoils_the_schedule)
    check("add_noise", add_noise)
    assert "add_noise is correct." in capsys.readouterr().out


def endless(schedule, x_0, t, eps):
    while True:
        pass


def stubborn(schedule, x_0, t, eps):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


@pytest.mark.parametrize("answer", [endless, stubborn])
def test_an_endless_loop_is_stopped_and_leaves_no_thread(answer, capsys, monkeypatch):
    monkeypatch.setattr(safe_call, "SECONDS_AT_MOST", 0.5)
    threads, began = threading.active_count(), time.perf_counter()
    check("add_noise", answer)
    assert "and was stopped: an endless loop?" in capsys.readouterr().out
    assert time.perf_counter() - began < 3 and threading.active_count() == threads


@pytest.mark.parametrize("answer", [Noiser(), Noiser().add, NoisyModule()])
def test_an_instance_that_can_be_called_is_as_good_as_a_function(answer, capsys):
    check("add_noise", answer)
    assert "add_noise is correct." in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (torch.Tensor, "this is the class Tensor itself; my_x_T should be a value."),
        (torch.randn, "this is a function; my_x_T should be a value: call the function, and give what it returns."),
        (lambda: torch.randn(16, 3, 32, 32), "this is a function; my_x_T should be a value"),
    ],
)
def test_a_class_or_a_function_in_place_of_a_value_is_named(answer, words, capsys):
    check("x_T", answer)
    assert f"x_T is not right yet: {words}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "made, words",
    [
        (lambda x_t: x_t, "it stops with TypeError"),
        (functools.partial(lambda x_t, t, more: x_t), "it stops with TypeError"),
        (torch.nn.Linear(1, 1), "it stops with TypeError"),
        (Noiser, "it returns the class Noiser itself"),
    ],
)
def test_a_closure_that_fails_later_is_explained_too(made, words, capsys):
    check("guided", lambda model, cond, null_cond, guidance_scale: made)
    assert f"guided is not right yet: {words}" in capsys.readouterr().out


# Not begun, in all the ways to write that; each has its source, as a function in a notebook's cell has.


def dots(x): ...


def passes(x):
    pass


def described(x):
    """To be done: something
    over two lines."""


def refused(x):
    raise NotImplementedError


def refused_with_a_word(x):
    """Yours."""
    raise NotImplementedError("yours")


def returns(x):
    return


def returns_none(x):
    return None


def returns_dots(x):
    return ...


async def awaited(x): ...


class Empty:
    def method(self, x):
        """Yours,
        indented."""

    @staticmethod
    def static(x): ...


@functools.wraps(dots)
def wrapping(*arguments):
    return dots(*arguments)


@functools.lru_cache
def cached(x): ...


short = lambda x: ...  # noqa: E731
two = [lambda x: ..., lambda y: y]


STUBS = [dots, passes, described, refused, refused_with_a_word, returns, returns_none, returns_dots, awaited]
STUBS += [Empty().method, Empty.method, Empty.static, wrapping, cached, short, two[0]]


@pytest.mark.parametrize("stub", STUBS, ids=range(len(STUBS)))
def test_a_function_with_nothing_in_it_is_a_stub(stub, capsys):
    assert is_stub(stub)
    check("add_noise", stub)
    assert capsys.readouterr().out == "add_noise is not done yet.\n"


def test_a_decorated_stub_inside_a_function_is_a_stub():
    def inner(x): ...

    assert is_stub(inner) and is_stub(functools.wraps(inner)(lambda *arguments: inner(*arguments)))


def mentions_it(schedule, x_0, t, eps):
    if not len(t):
        raise NotImplementedError("an empty batch")
    return add_noise(schedule, x_0, t, eps)


def catches_it(schedule, x_0, t, eps):
    try:
        return add_noise(schedule, x_0, t, eps)
    except NotImplementedError:
        return x_0


@functools.wraps(mentions_it)
def finished(*arguments):
    return mentions_it(*arguments)


@pytest.mark.parametrize("answer", [mentions_it, catches_it, finished, lambda *case: add_noise(*case)])
def test_a_finished_answer_that_mentions_not_implemented_error_is_finished(answer, capsys):
    check("add_noise", answer)
    assert "add_noise is correct." in capsys.readouterr().out


@pytest.mark.parametrize(
    "other", [two[1], Noiser, Uncallable, Noiser(), Noiser().add, print, torch.zeros(1), "pass", 3, {}]
)
def test_what_is_no_function_or_has_something_in_it_is_no_stub(other):
    assert not is_stub(other)


@pytest.mark.parametrize(
    "body, words",
    [
        ("return add_noise(schedule, x_0, t, eps)", "add_noise is correct."),
        ("...", "it returns None: is the return line missing?"),
        ("raise NotImplementedError", "it stops with NotImplementedError."),
    ],
)
def test_a_function_whose_source_python_does_not_keep_is_called(body, words, capsys):
    namespace = {"add_noise": add_noise}
    exec(f"def answer(schedule, x_0, t, eps): {body}", namespace)
    check("add_noise", namespace["answer"])
    assert words in capsys.readouterr().out
