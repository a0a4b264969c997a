"""Instant answers to the learner's own work: check, three levels of help, gates, and what is done so far.

Whatever a learner's function does, a check says it in a sentence: it never shows a traceback from inside the package,
and never loses the kernel.
"""

import difflib
import textwrap
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ddpm_core.course.display import show_source
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.exercises.compare import Exercise, NotYet
from ddpm_core.course.exercises.notebook_04 import CLINIC
from ddpm_core.course.progress import done, record
from ddpm_core.course.safe_call import is_untouched, made_safe
from ddpm_core.data.digit_scenes import Scene
from ddpm_core.judging import DigitReader, judge_scenes
from ddpm_core.support import guards
from ddpm_core.training_state import TrainingState

GATES = ("04", "05")
DONE, OPEN = "●", "○"
_new_reader = cache(DigitReader)


def check(name: str, answer: object) -> None:
    """Prints whether an exercise's answer is not done yet, correct, or what is likely wrong with it.

    name: such as "add_noise"; progress() lists them. answer: the learner's own function, my_add_noise; a value where
    the exercise asks for one. Raises ValueError for a name that is no exercise.
    """
    exercise = _exercise(name)
    try:
        if answer is None or answer is ... or is_untouched(answer, exercise):
            print(f"{name} is not done yet." + (" (You have solved it before.)" if name in done() else ""))
            return
        with torch.random.fork_rng(devices=[]):  # an answer that draws from the global source disturbs nobody
            note = exercise.examine(made_safe(answer, exercise))
    except NotYet as problem:
        print(f'{name} is not right yet: {problem}\nMore help: hint("{name}").')
    else:
        record(name)
        note = _whose(answer) or note
        print(f"{name} is correct{f' ({note})' if note else ''}. {_counted()}")


def hint(name: str) -> None:
    """The first level of help: where to look."""
    print(f'{_exercise(name).hint}\nStill stuck: sketch("{name}").')


def sketch(name: str) -> None:
    """The second level of help: the answer with gaps."""
    exercise = _exercise(name)
    text = exercise.sketch
    if not exercise.value:
        text = f"def {exercise.wanted}:\n{textwrap.indent(text, '    ')}"
    print(f'{text}\n\nThe whole of it: reveal("{name}").')


def reveal(name: str) -> None:
    """The third level of help: an answer, and where the package has a more general form of it."""
    exercise = _exercise(name)
    show_source(exercise.answer)
    if exercise.general:
        form = exercise.general
        print(f"The package's own form {exercise.general_is}: from ddpm_core import {form}; show_source({form}).")


def gate(
    notebook: str, pictures: Tensor, scenes: Sequence[Scene] | None = None, reader: DigitReader | None = None
) -> None:
    """Says whether the samples of the learner's own model pass: the digit reader must read them as asked.

    "04": pictures (N, 1, 28, 28): the reader is sure of at least 70 % as many as of real digits, and each digit comes.
    "05": pictures (N, 3, 28, 28) and the scenes that were asked for: digit and colour right in at least 80 %.
    N at least 100. reader: None makes one. Raises ValueError for another notebook or too few pictures, TypeError for
    another reader.
    """
    guards.one_of("notebook", notebook, GATES)
    if not isinstance(pictures, Tensor) or len(pictures) < 100:
        raise ValueError(f"pictures must be at least 100 samples of your model; got {guards.describe(pictures)}")
    if notebook == "05" and scenes is None:
        raise ValueError('gate "05" needs the scenes that were asked for, one for each picture')
    reader = _new_reader() if reader is None else reader
    guards.instance("reader", reader, DigitReader, "DigitReader()")
    pictures = pictures.detach().cpu().clamp(-1, 1)
    if notebook == "04":
        probabilities = reader.probabilities(pictures)
        sure = (probabilities.amax(dim=1) >= reader.SURE).float().mean().item() / reader.sure_rate
        rarest = torch.bincount(probabilities.argmax(dim=1), minlength=10).min().item()
        passed = sure >= 0.7 and rarest > 0
        found = f"the reader is sure of {sure:.0%} as many as of real digits (wanted: 70%)"
        found += f", and the rarest digit came {rarest} times"
    else:
        digits_right, colours_right = judge_scenes(pictures, scenes, reader)
        right = (digits_right & colours_right).float().mean().item()
        passed = right >= 0.8
        found = f"{right:.0%} of {len(pictures)} pictures show digit and colour as asked (wanted: 80%)"
    if passed:
        record(f"gate {notebook}")
        print(f"Gate {notebook} is open: {found}. {_counted()}")
    else:
        print(
            f"Gate {notebook} stays shut: {found}. Was the training run to its end, with enough iterations "
            "and a fitting learning rate, and were the pictures drawn with ema_model?"
        )


def likely_cause(state: TrainingState, num_iterations: int, learning_rate: float) -> str:
    """Why the samples of a model are bad, as far as its training tells: not finished, or what the loss did."""
    if state.iteration < num_iterations:
        return f"the training stands at iteration {state.iteration} of {num_iterations}: run its cell to the end"
    tenth = 1 + num_iterations // 10
    first, last = (sum(losses) / len(losses) for losses in (state.losses[:3], state.losses[-tenth:]))
    went = f"in {num_iterations} iterations with learning_rate = {learning_rate:g} the loss went from {first:.2f} to"
    if last > 0.8 * first:
        return f"{went} {last:.2f}, so next to nothing was learnt: try a larger learning_rate, or a much smaller one"
    return f"{went} {last:.2f}: try more iterations, another learning_rate, or more channels"


def assign_letters(patients: Sequence) -> dict[str, object]:
    """Letters for the six patients of the clinic, given in the order of the list of bugs; the letters are shuffled."""
    if len(patients) != len(CLINIC):
        raise ValueError(f"the clinic has {len(CLINIC)} patients; got {len(patients)}")
    return {letter: patients[bug - 1] for letter, bug in CLINIC.items()}


def progress() -> None:
    """Prints what is done so far. It is kept in a small file beside the notebooks, and outlives the kernel."""
    finished = done()
    for notebook in sorted({exercise.notebook for exercise in EXERCISES.values()}):
        names = [name for name, exercise in EXERCISES.items() if exercise.notebook == notebook]
        names += [f"gate {notebook}"] if notebook in GATES else []
        print(f"{notebook}  " + "  ".join(f"{DONE if name in finished else OPEN} {name}" for name in names))
    print(_counted())


def _whose(answer: object) -> str:
    """A note where the answer is a function of the package, handed over as it is."""
    package, _, rest = (getattr(answer, "__module__", None) or "").partition(".")
    if not callable(answer) or package != "ddpm_core" or rest.startswith("course."):
        return ""
    own = getattr(answer, "__name__", type(answer).__name__)
    return f"by the package's own {own}; the exercise is to write it yourself"


def _counted() -> str:
    everything = [*EXERCISES, *(f"gate {notebook}" for notebook in GATES)]
    return f"{len(done().intersection(everything))} of {len(everything)} done."


def _exercise(name: str) -> Exercise:
    if not isinstance(name, str) or name not in EXERCISES:
        near = difflib.get_close_matches(str(name).removeprefix("my_"), EXERCISES, n=1)
        suggestion = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(EXERCISES)}"
        raise ValueError(f"there is no exercise {guards.describe(name)}; {suggestion}")
    return EXERCISES[name]
