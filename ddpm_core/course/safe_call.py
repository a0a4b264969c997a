"""Calling what a learner wrote: whatever it does, the learner gets a sentence, and the kernel lives on."""

import ast
import ctypes
import inspect
import math
import textwrap
import threading
import time
import traceback
from collections.abc import Callable
from types import EllipsisType

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import NOT_RESHAPED, ON_ITS_DEVICE, Answer, Exercise, NotYet, T
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import describe

# Words of torch's messages where tensors cannot be multiplied with @, joined, expanded, or used together as an index,
# and where True and False are not numbers.
UNFIT_SHAPES = (
    *("cannot be multiplied (", "size mismatch, got input", "batch2 tensor to be"),
    *("sizes of tensors must match", "same number of dimensions", "must match the existing size"),
    *("does not broadcast with", "could not be broadcast together"),
)
NO_NUMBERS = "got bool", "got: bool", "dtype bool but expected", "for 'bool'"

SECONDS_AT_MOST = 5.0  # then a learner's function counts as endless


def made_safe(answer: object, exercise: Exercise) -> object:
    """What an exercise may examine: a value, or a function that raises nothing but NotYet, whatever the learner's does.

    Raises NotYet where the answer is no value, or cannot be called, as the exercise asks.
    """
    if exercise.value:
        _check_value(answer, exercise)
        return answer
    _check_function(answer, exercise)
    _check_parameters(answer, exercise)
    deadline = time.monotonic() + SECONDS_AT_MOST

    def safe(function: Callable) -> Answer:
        def call(*arguments: object) -> object:
            returned = _call(function, arguments, deadline, exercise.on_shapes)
            return safe(returned) if callable(returned) else returned  # a closure is called later

        return call

    return safe(answer)


def is_untouched(answer: object, exercise: Exercise) -> bool:
    """Is it still a stub, or the function that the exercise asks to repair? Comments and line breaks do not matter."""
    if is_stub(answer):
        return True
    tree = _syntax_tree(answer) if exercise.planted else None
    return tree is not None and ast.dump(tree) == ast.dump(ast.parse(exercise.begins_as).body[0])


def is_stub(answer: object) -> bool:
    """Is nothing in it but a docstring, `...`, `pass`, a return of nothing, or NotImplementedError raised?

    Its syntax tree tells. False where Python does not keep the source: such a stub is called, and returns None.
    """
    tree = _syntax_tree(answer)
    if tree is None:
        return False
    if getattr(answer, "__name__", "") == "<lambda>":  # its source is the whole line: the parameters tell which it is
        names = list(inspect.signature(answer).parameters)
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        bodies = [node.body for node in lambdas if [argument.arg for argument in node.args.args] == names]
        return bool(bodies) and all(map(_does_nothing, bodies))
    return isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) and all(map(_does_nothing, tree.body))


def _syntax_tree(answer: object) -> ast.stmt | None:
    """Of the statement that defines it; None where it has no source, or is a piece of a longer statement."""
    try:
        source = inspect.getsource(answer)  # of what a decorator with functools.wraps wraps
        return ast.parse("if True:\n" + textwrap.indent(source, " ")).body[0].body[0]  # a method's is indented already
    except (OSError, TypeError, ValueError, SyntaxError):
        return None


def _does_nothing(node: ast.stmt | ast.expr) -> bool:
    """node: a statement of a function, or what a lambda returns."""
    match node:
        case ast.Pass() | ast.Expr(ast.Constant()):
            return True
        case ast.Constant(None | EllipsisType()) | ast.Return(None | ast.Constant(None | EllipsisType())):
            return True
        case ast.Raise(ast.Name("NotImplementedError") | ast.Call(ast.Name("NotImplementedError"))):
            return True
    return False


def _check_value(answer: object, exercise: Exercise) -> None:
    """Raises NotYet where the learner gave what makes the value, and not the value."""
    if inspect.isclass(answer):
        raise NotYet(f"this is the class {answer.__name__} itself; {exercise.wanted} should be a value.")
    if inspect.isroutine(answer):
        raise NotYet(
            f"this is a function; {exercise.wanted} should be a value: call the function, and give what it returns."
        )


def _check_function(answer: object, exercise: Exercise) -> None:
    if inspect.isclass(answer):
        raise NotYet(
            f"this is the class {answer.__name__} itself, and calling a class makes an instance of it. Give an "
            f"instance that can be called as {exercise.wanted}, such as {answer.__name__}(), or a plain function."
        )
    if callable(answer):
        return
    if type(answer).__module__.partition(".")[0] not in ("builtins", "torch", "numpy"):  # a class of one's own
        raise NotYet(
            f"this is an instance of the class {type(answer).__name__}, and it cannot be called: the class has no "
            f"__call__ (for an nn.Module: forward). Give something that can be called as {exercise.wanted}."
        )
    name = exercise.answer.__name__
    raise NotYet(f"give the function itself, {name}, and not what it returns; this is {describe(answer)}.")


def _check_parameters(answer: Callable, exercise: Exercise) -> None:
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # a function of C, which has none
        return
    given = tuple(signature.parameters)
    if sorted(given) == sorted(exercise.parameters) and given != exercise.parameters:
        raise NotYet(f"its parameters are in another order: the order is that of {exercise.wanted}.")
    try:
        signature.bind(*exercise.parameters)
    except TypeError:
        if given[:1] == ("self",):
            raise NotYet(
                f"this is a method taken from its class, which still wants self: make an instance, and give that "
                f"one's method, to be called as {exercise.wanted}."
            ) from None
        raise NotYet(f"it should take what {exercise.wanted} takes; yours takes {signature}.") from None


def _call(function: Callable, arguments: tuple, deadline: float, on_shapes: str | Callable) -> object:
    """What function returns; NotYet where it raises, never ends, returns nothing, or changes what it was given."""
    copies = tuple(map(_copy, arguments))  # whatever it does to them, the checks keep theirs
    returned = _run(function, copies, deadline, on_shapes)
    if not all(map(_equal, copies, arguments)):
        raise NotYet(
            "it changes one of its inputs in place (an operation that ends in _, such as add_, or x[...] = ...). "
            "The caller still needs them: make a new tensor."
        )
    if returned is None:
        raise NotYet("it returns None: is the return line missing?")
    if inspect.isclass(returned):
        raise NotYet(f"it returns the class {returned.__name__} itself; return an instance of it, or a function.")
    if inspect.isgenerator(returned):
        raise NotYet("it is a generator, as there is a yield in it: use return.")
    if inspect.iscoroutine(returned):
        returned.close()
        raise NotYet("it is async, and must be awaited: write def instead of async def.")
    return returned


def _copy(argument: object) -> object:
    if isinstance(argument, Tensor):
        return argument.clone()
    return NoiseSchedule(argument.betas.clone()) if isinstance(argument, NoiseSchedule) else argument


def _equal(a: object, b: object) -> bool:
    if isinstance(a, NoiseSchedule):
        names = "betas", "alphas", "alpha_bars", "beta_bars"
        return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
    return not isinstance(a, Tensor) or torch.equal(a, b)


def _run(function: Callable, arguments: tuple, deadline: float, on_shapes: str | Callable) -> object:
    """Calls it in a thread, which can be stopped; NotYet where it raises or never ends."""
    outcome: dict[str, object] = {}

    def work() -> None:
        try:
            with torch.enable_grad():
                outcome["returned"] = function(*arguments)
        except BaseException as error:  # whatever it is, the learner gets a sentence
            outcome["raised"] = error

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(max(0.5, deadline - time.monotonic()))
    if worker.is_alive():
        # An exception arises in the thread at its next line of Python.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
        worker.join(1.0)
        raise NotYet(f"it was still running after {SECONDS_AT_MOST:.0f} seconds and was stopped: an endless loop?")
    if "raised" in outcome:
        error = outcome["raised"]
        words = error if isinstance(error, NotYet) else _explained(error, function, arguments, on_shapes)
        raise NotYet(words) from None  # NotYet: a model that the checks hand in was asked in a wrong way
    return outcome["returned"]


def _explained(error: BaseException, function: Callable, arguments: tuple, on_shapes: str | Callable) -> str:
    """An exception inside a learner's function, as a sentence with the line where it arose."""
    message = str(error).strip().partition("\n")[0].removesuffix(", but expected one of:")
    lowered = message.lower()
    code = getattr(function, "__code__", None)
    takes_t = code is not None and "t" in code.co_varnames[: code.co_argcount]
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [each for each in codes if code and each.co_filename == code.co_filename]
    names = own[-1].co_names if own else ()  # that are used in the function where it arose
    if any(words in lowered for words in ("not compiled with cuda", "nvidia driver", "no cuda gpus")):
        sentence = f"it asks for a GPU, and this machine has none. {ON_ITS_DEVICE}"
    elif "same device" in lowered:
        sentence = f"it mixes tensors on two devices. {ON_ITS_DEVICE}"
    elif "must match the size of tensor" in lowered:
        sentence = f"two shapes do not fit together ({message})."
        if callable(on_shapes):
            sentence += f" {on_shapes(message)}"
        elif on_shapes or takes_t:
            sentence += f" {on_shapes or _help_on_t(message, arguments)}"
    elif any(words in lowered for words in UNFIT_SHAPES):
        sentence = f"two shapes do not fit together ({message})."
        sentence += f" {on_shapes}" if on_shapes and isinstance(on_shapes, str) else ""
    elif "is ambiguous" in lowered:
        sentence = (
            "an if or a while asks for one True or False, but here it gets a tensor with several. To decide for each "
            "number or picture by itself, use torch.where(condition, this, that)."
        )
    elif f"out of bounds for dimension 0 with size {T}" in lowered:
        sentence = (
            f"an index goes beyond the schedule that this is tried on ({message}): its {T} steps are counted from 0 to "
            f"{T - 1}."
        )
    elif "values to unpack" in lowered:
        sentence = (
            f"on the left of an = there are more or fewer names than things on the right ({message}). A tensor is "
            "taken apart along its first axis, picture by picture. Along the second axis chunk(2, dim=1) cuts it into "
            "two halves, and split(2, dim=1) into pieces of two."
        )
    elif isinstance(error, RecursionError):
        sentence = "it calls itself without end."
    else:
        sentence = f"it stops with {type(error).__name__}" + (f": {message}" if message else "")
        sentence += "" if sentence.endswith((".", "?")) else "."
        sentence += _help_on_numbers(lowered, names, takes_t)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if code and frame.filename == code.co_filename]
    return sentence + (f" It was in this line:  {lines[-1]}" if lines and lines[-1] else "")


def _help_on_numbers(message: str, names: tuple[str, ...], takes_t: bool) -> str:
    """What to do where one number is asked for and a tensor given, or the other way round."""
    if "'float' object has no attribute 'sqrt'" in message or "sqrt(): argument 'input'" in message:
        return " A plain number is no tensor: write x ** 0.5, or math.sqrt(x)."
    if message.startswith("quantile()") and "dim=tuple" in message:
        return " quantile goes along one axis: x.flatten(1) makes a single one of all but the first."
    if any(words in message for words in NO_NUMBERS):
        return " True and False become 1 and 0 with .float()."
    one_number = "only one element tensors", "only integer tensors", "cannot be converted to scalar"
    if not any(words in message for words in one_number):
        return ""
    of_math = [name for name in names if callable(getattr(math, name, None)) and hasattr(torch, name)]
    if "math" in names and of_math and "index" not in message:
        return f" math.{of_math[0]} takes one number; torch.{of_math[0]} takes a tensor."
    return " t holds one step per picture; look them up: schedule.alpha_bars[t]." if takes_t else ""


def _help_on_t(message: str, arguments: tuple) -> str:
    if not any(isinstance(argument, Tensor) and argument.ndim == 4 for argument in arguments):
        return "If t should go along the rows of a table, make it a column: t[:, None]."
    if f"({T})" in message or f"({T + 1})" in message:
        return f"The schedule's tensors have one number for each of its {T} steps: pick one per picture, alpha_bars[t]."
    return NOT_RESHAPED
