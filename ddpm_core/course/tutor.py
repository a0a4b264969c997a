"""Instant answers to the learner's own work: check, three levels of help, gates, and what is done so far.

Whatever a learner's function does, a check says it in a sentence: it never shows a traceback from inside the package,
and never loses the kernel.
"""

import ctypes
import difflib
import dis
import inspect
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ddpm_core.course.display import show_source
from ddpm_core.course.exercises import ALONG_A_ROW, CLINIC, EXERCISES, Exercise, NotYet, T
from ddpm_core.data.digit_scenes import Scene
from ddpm_core.judging import DigitReader, judge_scenes
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.atomic import atomic_write
from ddpm_core.support.guards import describe

SECONDS_AT_MOST = 5.0  # then a learner's function counts as endless
GATES = ("04", "05")
DONE, OPEN = "●", "○"


def check(name: str, answer: object) -> None:
    """Prints whether an exercise's answer is not done yet, correct, or what is likely wrong with it.

    name: such as "add_noise"; progress() lists them. answer: the learner's own function, my_add_noise; a value where
    the exercise asks for one. Raises ValueError for a name that is no exercise.
    """
    exercise = _exercise(name)
    try:
        if answer is None or answer is ... or _is_stub(answer):
            print(f"{name} is not done yet." + (" (You have solved it before.)" if name in _done() else ""))
            return
        with torch.random.fork_rng(devices=[]):  # an answer that draws from the global source disturbs nobody
            _examine(exercise, name, answer)
    except NotYet as problem:
        print(f'{name} is not right yet: {problem}\nMore help: hint("{name}").')
    else:
        _record(name)
        print(f"{name} is correct. {_counted()}")


def hint(name: str) -> None:
    """The first level of help: where to look."""
    print(f'{_exercise(name).hint}\nStill stuck: sketch("{name}").')


def sketch(name: str) -> None:
    """The second level of help: the answer with gaps."""
    exercise = _exercise(name)
    if exercise.parameters is None:
        print(exercise.sketch)
    else:
        lines = "\n    ".join(exercise.sketch.splitlines())
        print(f"def my_{name}({', '.join(exercise.parameters)}):\n    {lines}")
    print(f'\nThe whole of it: reveal("{name}").')


def reveal(name: str) -> None:
    """The third level of help: an answer, and where the package has a more general form of it."""
    exercise = _exercise(name)
    show_source(exercise.answer)
    if exercise.general:
        print(f"The package's own form does more: show_source({exercise.general}).")


def gate(
    notebook: str, pictures: Tensor, scenes: Sequence[Scene] | None = None, reader: DigitReader | None = None
) -> None:
    """Says whether the samples of the learner's own model pass: the digit reader must read them as asked.

    "04": pictures (N, 1, 8, 8): the reader is sure of at least 85 % as many as of real digits, and each digit comes.
    "05": pictures (N, 3, 8, 8) and the scenes that were asked for: digit and colour right in at least 90 %.
    N at least 100. reader: None trains one, which takes a second or two. Raises ValueError for another notebook or too
    few pictures, TypeError for another reader.
    """
    if notebook not in GATES:
        raise ValueError(f"there are gates in the notebooks {' and '.join(GATES)}; got {notebook!r}")
    if not isinstance(pictures, Tensor) or len(pictures) < 100:
        raise ValueError(f"pictures must be at least 100 samples of your model; got {describe(pictures)}")
    if notebook == "05" and scenes is None:
        raise ValueError('gate "05" needs the scenes that were asked for, one for each picture')
    if reader is not None and not isinstance(reader, DigitReader):
        raise TypeError(f"reader must be a DigitReader, or None for a new one; got {describe(reader)}")
    pictures, reader = pictures.detach().cpu().clamp(-1, 1), reader or _reader()
    if notebook == "04":
        probabilities = reader.probabilities(pictures)
        sure = (probabilities.amax(dim=1) >= reader.SURE).float().mean().item() / reader.sure_rate
        rarest = torch.bincount(probabilities.argmax(dim=1), minlength=10).min().item()
        passed = sure >= 0.85 and rarest > 0
        found = f"the reader is sure of {sure:.0%} as many as of real digits (wanted: 85%), "
        found += f"and the rarest digit came {rarest} times"
    else:
        digits_right, colours_right = judge_scenes(pictures, scenes, reader)
        right = (digits_right & colours_right).float().mean().item()
        passed = right >= 0.9
        found = f"{right:.0%} of {len(pictures)} pictures show digit and colour as asked (wanted: 90%)"
    if passed:
        _record(f"gate {notebook}")
        print(f"Gate {notebook} is open: {found}. {_counted()}")
    else:
        print(f"Gate {notebook} stays shut: {found}. Was the training run to its end, and sampled with ema_model?")


def assign_letters(patients: Sequence) -> dict[str, object]:
    """Letters for the six patients of the clinic, given in the order of the list of bugs; the letters are shuffled."""
    if len(patients) != len(CLINIC):
        raise ValueError(f"the clinic has {len(CLINIC)} patients; got {len(patients)}")
    return {letter: patients[bug - 1] for letter, bug in CLINIC.items()}


@cache
def _reader() -> DigitReader:
    return DigitReader()


def progress() -> None:
    """Prints what is done so far. It is kept in a small file beside the notebooks, and outlives the kernel."""
    done = _done()
    for notebook in sorted({exercise.notebook for exercise in EXERCISES.values()}):
        names = [name for name, exercise in EXERCISES.items() if exercise.notebook == notebook]
        names += [f"gate {notebook}"] if notebook in GATES else []
        print(f"{notebook}  " + "  ".join(f"{DONE if name in done else OPEN} {name}" for name in names))
    print(_counted())


def _exercise(name: str) -> Exercise:
    if not isinstance(name, str) or name not in EXERCISES:
        near = difflib.get_close_matches(str(name).removeprefix("my_"), EXERCISES, n=1)
        suggestion = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(EXERCISES)}"
        raise ValueError(f"there is no exercise {describe(name)}; {suggestion}")
    return EXERCISES[name]


# ---------------------------------------------------------------------------------------------------------------------
# Calling what a learner wrote
# ---------------------------------------------------------------------------------------------------------------------


def _examine(exercise: Exercise, name: str, answer: object) -> None:
    """Raises NotYet unless the answer is right."""
    if exercise.parameters is None:
        _check_value(answer, f"my_{name}")
        exercise.examine(answer)
        return
    wanted = f"my_{name}({', '.join(exercise.parameters)})"
    _check_function(answer, f"my_{name}", wanted)
    _check_parameters(answer, exercise.parameters, wanted)
    deadline = time.monotonic() + SECONDS_AT_MOST

    def made_safe(function: Callable) -> Callable:
        def safe(*arguments: object) -> object:
            returned = _call(function, arguments, deadline)
            return made_safe(returned) if callable(returned) else returned  # a closure is called later

        return safe

    exercise.examine(made_safe(answer))


def _check_value(answer: object, wanted: str) -> None:
    if inspect.isclass(answer):
        raise NotYet(f"this is the class {answer.__name__} itself; {wanted} shall be a value.")
    if inspect.isroutine(answer):
        raise NotYet(f"this is a function; {wanted} shall be a value: call the function, and give what it returns.")


def _check_function(answer: object, name: str, wanted: str) -> None:
    if inspect.isclass(answer):
        raise NotYet(
            f"this is the class {answer.__name__} itself, and calling a class makes an instance of it. Give an "
            f"instance that can be called as {wanted}, such as {answer.__name__}(), or a plain function."
        )
    if callable(answer):
        return
    if _is_of_a_class_of_ones_own(answer):
        raise NotYet(
            f"this is an instance of the class {type(answer).__name__}, and it cannot be called: the class has no "
            f"__call__ (for an nn.Module: forward). Give something that can be called as {wanted}."
        )
    raise NotYet(f"give the function itself, {name}, and not what it returns; this is {describe(answer)}.")


def _is_of_a_class_of_ones_own(answer: object) -> bool:
    return type(answer).__module__.partition(".")[0] not in ("builtins", "torch", "numpy")


def _is_stub(answer: object) -> bool:
    """Is it a function with nothing in it but `...`, `pass` or a docstring, or one that raises NotImplementedError?"""
    code = getattr(inspect.unwrap(answer), "__code__", None) if callable(answer) else None
    if code is None:
        return False
    if "NotImplementedError" in code.co_names:
        return True
    nothing = {"RESUME", "NOP", "POP_TOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
    instructions = list(dis.get_instructions(code))
    returns_nothing = all(
        instruction.argval is None or instruction.argval is ...
        for instruction in instructions
        if instruction.opname in ("LOAD_CONST", "RETURN_CONST")
    )
    return returns_nothing and all(instruction.opname in nothing for instruction in instructions)


def _check_parameters(answer: Callable, parameters: Sequence[str], wanted: str) -> None:
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # a function of C, which has none
        return
    if set(signature.parameters) == set(parameters) and tuple(signature.parameters) != tuple(parameters):
        raise NotYet(f"its parameters are in another order: the order is that of {wanted}.")
    try:
        signature.bind(*parameters)
    except TypeError:
        if next(iter(signature.parameters), None) == "self":
            raise NotYet(
                f"this is a method taken from its class, which still wants self: make an instance, and give that "
                f"one's method, to be called as {wanted}."
            ) from None
        raise NotYet(f"it should take what {wanted} takes; yours takes {signature}.") from None


def _call(function: Callable, arguments: tuple, deadline: float) -> object:
    """What function returns; NotYet where it raises, never ends, returns nothing, or changes what it was given."""
    arguments = tuple(_copy(argument) for argument in arguments)  # whatever it does to them, the checks keep theirs
    before = [_copy(argument) for argument in arguments]
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
        _stop(worker)
        raise NotYet(f"it was still running after {SECONDS_AT_MOST:.0f} seconds and was stopped: an endless loop?")
    if "raised" in outcome:
        raise NotYet(_explained(outcome["raised"], function, arguments)) from None
    for argument, copy in zip(arguments, before, strict=True):
        if not _unchanged(argument, copy):
            raise NotYet(
                "it changes one of its inputs in place (an operation that ends in _, such as add_, or x[...] = ...). "
                "The caller still needs them: make a new tensor."
            )
    returned = outcome["returned"]
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


def _unchanged(argument: object, copy: object) -> bool:
    if isinstance(argument, NoiseSchedule):
        tensors = ("betas", "alphas", "alpha_bars")
        return all(torch.equal(getattr(argument, name), getattr(copy, name)) for name in tensors)
    return not isinstance(argument, Tensor) or torch.equal(argument, copy)


def _stop(worker: threading.Thread) -> None:
    """Makes a thread that runs Python code end: an exception arises in it at its next line."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
    worker.join(1.0)


def _explained(error: BaseException, function: Callable, arguments: tuple) -> str:
    """An exception inside a learner's function, as a sentence with the line where it arose."""
    message = str(error).strip().splitlines()[0] if str(error).strip() else ""
    lowered = message.lower()
    if "not compiled with cuda" in lowered or "nvidia driver" in lowered or "no cuda gpus" in lowered:
        what = (
            "it asks for a GPU, and this machine has none: make new tensors on the device of an input, device=x.device"
        )
    elif "same device" in lowered:
        what = "it mixes tensors on two devices: make new tensors on the device of an input, device=x.device"
    elif "must match the size of tensor" in lowered:
        what = f"two shapes do not fit together ({message})"
    elif isinstance(error, RecursionError):
        what = "it calls itself without end"
    else:
        what = (
            f"it stops with {type(error).__name__}: {message}" if message else f"it stops with {type(error).__name__}"
        )
    sentence = what if what.endswith((".", "?")) else f"{what}."
    if "must match the size of tensor" in lowered and _takes_t(function):
        sentence += f" {_help_on_t(message, arguments)}"
    return f"{sentence}{_line_of(error, function)}"


def _help_on_t(message: str, arguments: tuple) -> str:
    if not any(isinstance(argument, Tensor) and argument.ndim == 4 for argument in arguments):
        return "If t shall go along the rows of a table, make it a column: t[:, None]."
    if f"({T})" in message:
        return f"The schedule's tensors have one number for each of its {T} steps: pick one a picture, alpha_bars[t]."
    return ALONG_A_ROW


def _line_of(error: BaseException, function: Callable) -> str:
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    return f" It was in this line:  {own[-1].line}" if own and own[-1].line else ""


def _takes_t(function: Callable) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and "t" in code.co_varnames[: code.co_argcount]


# ---------------------------------------------------------------------------------------------------------------------
# What is done so far
# ---------------------------------------------------------------------------------------------------------------------

_in_this_kernel: set[str] = set()


def _progress_file() -> Path | None:
    """In the folder that the notebook runs in, unless DDPM_PROGRESS names another file, or none: an empty name."""
    name = os.environ.get("DDPM_PROGRESS", ".progress.json")
    return Path(name) if name else None


def _done() -> set[str]:
    file = _progress_file()
    try:
        kept = set(json.loads(file.read_text(encoding="utf-8"))) if file else set()
    except (OSError, ValueError, TypeError):  # none yet, or damaged: what this kernel has seen still counts
        kept = set()
    return kept | _in_this_kernel


def _record(name: str) -> None:
    _in_this_kernel.add(name)
    file = _progress_file()
    if file is None:
        return
    try:
        with atomic_write(file) as new:
            new.write(json.dumps(sorted(_done())).encode())
    except OSError:
        pass  # a folder that cannot be written: then it lasts as long as the kernel


def _counted() -> str:
    everything = [*EXERCISES, *(f"gate {notebook}" for notebook in GATES)]
    return f"{sum(name in _done() for name in everything)} of {len(everything)} done."
