"""Whatever a learner's function does, the answer is a sentence, and what is not begun is told from what is wrong."""

import functools
import linecache
import textwrap
import threading
import time

import pytest
import torch

from ddpm_core import add_noise
from ddpm_core.course import safe_call
from ddpm_core.course.safe_call import is_stub
from ddpm_core.course.tutor import check

pytestmark = pytest.mark.usefixtures("progress_file")


def typed(source: str):
    """What a notebook's cell that defines f makes of it. IPython keeps the source of cells in the same place."""
    file = f"<cell {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = {"torch": torch, "add_noise": add_noise, "functools": functools}
    exec(compile(source, file, "exec"), names)
    return names["f"]


def answering(body: str):
    """An answer to add_noise with this body."""
    return typed("def f(schedule, x_0, t, eps):\n" + textwrap.indent(body, "    "))


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
        ("return schedule.alpha_bar[t] * x_0", "it stops with AttributeError: 'NoiseSchedule' object has no attribute"),
        ("def mix():\n    return schedule.alpha_bar\nreturn mix()", "in this line:  return schedule.alpha_bar\n"),
        ("x_0 *= schedule.alpha_bars[t].view(-1, 1, 1, 1)\nreturn x_0", "it changes one of its inputs in place"),
        ("schedule.alpha_bars.mul_(0.5)\nreturn x_0", "it changes one of its inputs in place"),
        ("return f(schedule, x_0, t, eps)", "it calls itself without end"),
        ("raise SystemExit", "it stops with SystemExit."),
        # What .cuda() says on a build without it, and where there is no card.
        ("raise AssertionError('Torch not compiled with CUDA enabled')", "asks for a GPU, and this machine has none"),
        ("raise RuntimeError('Found no NVIDIA driver on your system.')", "asks for a GPU, and this machine has none"),
        ("yield x_0", "it is a generator, as there is a yield in it: use return."),
        ("return x_0.to('meta')", "returns a tensor on meta for inputs on cpu"),
        ("print(end='')", "it returns None: is the return line missing?"),
        ("return x_0[0]", "returns the shape (1, 4, 4) for inputs of shapes (4, 1, 4, 4), (4,)"),
        ("return x_0.int()", "should return floats, but returns int32 tensor"),
        ("return x_0.numpy()", "a tensor of shape (4, 1, 4, 4), but returns float32 ndarray"),
        ("return [x_0]", "a tensor of shape (4, 1, 4, 4), but returns ["),
        ("return x_0.tolist()", "but returns [[[["),
        ("return x_0 + t[:3].float()", "two shapes do not fit together (The size of tensor a (4)"),
        ("return x_0 @ x_0[:, :, :3]", "two shapes do not fit together (Expected size for first two dimensions"),
        ("return x_0[0, 0] @ x_0[0, 0, :3]", "two shapes do not fit together (mat1 and mat2 shapes"),
        (
            "return torch.cat([x_0, x_0[:, :, 1:]], dim=1)",
            "two shapes do not fit together (Sizes of tensors must match",
        ),
        ("return torch.cat([x_0, x_0[0]], dim=1)", "two shapes do not fit together (Tensors must have same number"),
        ("return t[:3].expand(4, 1, 4, 4)", "two shapes do not fit together (The expanded size"),
        ("return torch.einsum('bchw,b->chw', x_0, eps[:3, 0, 0, 0])", "two shapes do not fit together (einsum()"),
        ("return x_0[t, t[:3]]", "two shapes do not fit together (shape mismatch"),
        ("return x_0.quantile(0.5, dim=(1, 2))", "(float, dim=tuple). quantile goes along one axis: x.flatten(1)"),
        ("return (x_0 > 0).mean()", "True and False become 1 and 0 with .float()"),
        ("return (x_0 > 0).softmax(dim=3)", "True and False become 1 and 0 with .float()"),
        ("return (x_0 > 0) @ x_0", "True and False become 1 and 0 with .float()"),
        ("return torch.nn.functional.binary_cross_entropy(x_0, x_0 > 0)", "True and False become 1 and 0"),
        ("return x_0 if t > 5 else eps", "an if or a while asks for one True or False, but here it gets a tensor"),
        ("mean, log_variance = x_0\nreturn mean", "chunk(2, dim=1) cuts it into two halves"),
        ("a, b = x_0[:1]\nreturn a", "chunk(2, dim=1) cuts it into two halves"),
        ("return schedule.alpha_bars[t + 1]", "its 20 steps are counted from 0 to 19"),
        (
            "return schedule.alpha_bars[t][:, None, None] * x_0",
            "on another axis of pictures (B, C, H, W) than the batch",
        ),
        ("return x_0 + t[:3].float()", "reshape them to (B, 1, 1, 1)"),
        ("return (-x_0.abs()).sqrt()", "some of the numbers it returns are NaN"),
        (
            "result = add_noise(schedule, x_0, t, eps)\nresult[-1, -1] = 99\nreturn result",
            "but not the numbers: one is 99 and should be",
        ),
        ("return torch.nn.Identity", "it returns the class Identity itself; return an instance of it"),
        (typed("async def f(schedule, x_0, t, eps): return x_0"), "it is async, and must be awaited"),
        (lambda schedule, t, x_0, eps: x_0, "another order: the order is that of my_add_noise(schedule, x_0, t, eps)"),
        (lambda x_0, t: x_0, "what my_add_noise(schedule, x_0, t, eps) takes; yours takes (x_0, t)"),
        (torch.zeros(3), "give the function itself, my_add_noise, and not what it returns; this is float32 tensor"),
        ({"add_noise": 1}, "give the function itself, my_add_noise"),
        (Noiser, "this is the class Noiser itself, and calling a class makes an instance of it. Give an instance"),
        (Noiser, "can be called as my_add_noise(schedule, x_0, t, eps), such as Noiser(), or a plain function"),
        (torch.nn.Identity, "this is the class Identity itself"),
        (Noiser.add, "this is a method taken from its class, which still wants self"),
        (Uncallable(), "an instance of the class Uncallable, and it cannot be called: the class has no __call__"),
        (torch.nn.Module(), 'it stops with NotImplementedError: Module [Module] is missing the required "forward"'),
    ],
)
def test_whatever_a_function_does_the_answer_is_a_sentence(answer, words, capsys):
    check("add_noise", answering(answer) if isinstance(answer, str) else answer)
    said = capsys.readouterr().out
    assert said.startswith("add_noise is not right yet: ") and words in said
    assert "Traceback" not in said and len(said) < 600 and said.endswith('More help: hint("add_noise").\n')


def test_a_schedule_that_an_answer_spoils_is_whole_for_the_next(capsys):
    check("add_noise", answering("schedule.alpha_bars.mul_(0.5)\nreturn x_0"))
    check("add_noise", add_noise)
    assert "add_noise is correct" in capsys.readouterr().out


STUBBORN = """
import time
while True:
    try:
        time.sleep(0.01)
    except Exception:
        continue
"""


@pytest.mark.parametrize("body", ["while True: pass", STUBBORN])
def test_an_endless_loop_is_stopped_and_leaves_no_thread(body, capsys, monkeypatch):
    monkeypatch.setattr(safe_call, "SECONDS_AT_MOST", 0.5)
    threads, began = threading.active_count(), time.perf_counter()
    check("add_noise", answering(body))
    assert "and was stopped: an endless loop?" in capsys.readouterr().out
    assert time.perf_counter() - began < 3 and threading.active_count() == threads


@pytest.mark.parametrize("answer", [Noiser(), Noiser().add, NoisyModule(), lambda *case: add_noise(*case)])
def test_an_instance_that_can_be_called_is_as_good_as_a_function(answer, capsys):
    check("add_noise", answer)
    assert "add_noise is correct" in capsys.readouterr().out


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


STUBS = [
    "def f(x): ...",
    "def f(x):\n    pass",
    'def f(x):\n    """To be done: something\n    over two lines."""',
    "def f(x):\n    raise NotImplementedError",
    'def f(x):\n    """Yours."""\n    raise NotImplementedError("yours")',
    "def f(x):\n    return",
    "def f(x):\n    return None",
    "def f(x):\n    return ...",
    "async def f(x): ...",
    'class A:\n    def f(self, x):\n        """Yours,\n        indented."""\nf = A.f',
    "class A:\n    def f(self, x):\n        ...\nf = A().f",
    "class A:\n    @staticmethod\n    def f(x): ...\nf = A.f",
    "def f(x): ...\nf = functools.wraps(f)(lambda x: f(x))",
    "def make():\n    def f(x): ...\n    return functools.wraps(f)(lambda x: f(x))\nf = make()",
    "@functools.lru_cache\ndef f(x): ...",
    "f = lambda x: ...",
    "f, g = lambda x: ..., lambda y: y",
]


@pytest.mark.parametrize("source", STUBS)
def test_a_function_with_nothing_in_it_is_a_stub(source, capsys):
    assert is_stub(typed(source))
    check("add_noise", typed(source))
    assert capsys.readouterr().out == "add_noise is not done yet.\n"


FINISHED = [
    "if not len(t):\n    raise NotImplementedError\nreturn add_noise(schedule, x_0, t, eps)",
    "try:\n    return add_noise(schedule, x_0, t, eps)\nexcept NotImplementedError:\n    return x_0",
]


@pytest.mark.parametrize("body", FINISHED)
def test_a_finished_answer_that_mentions_not_implemented_error_is_finished(body, capsys):
    finished = answering(body)
    for answer in (finished, functools.wraps(finished)(lambda *case: finished(*case))):
        check("add_noise", answer)
        assert "add_noise is correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other",
    [
        typed("def f(x): return 0"),
        typed("f = lambda x: 0"),
        typed("g, f = lambda x: ..., lambda y: y"),
        typed("class f:\n    def g(self): ..."),
        Noiser,
        Uncallable,
        Noiser(),
        Noiser().add,
        print,
        torch.zeros(1),
        "pass",
        3,
        {},
    ],
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
