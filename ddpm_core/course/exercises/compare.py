"""How answers are judged: by what they return, never by how they are written.

What an answer returns is compared with the right one's and, where that differs, with what the likely bugs return; the
bug that gives the same numbers has found its name. A likely bug is written as an edit of the right answer's source.
Where none fits, only what was measured is said: a wrong name is worse than none. Answers that draw random numbers are
judged by what must hold for the draws, in draws.py.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ddpm_core.schedule import NoiseSchedule, linear_betas
from ddpm_core.support.guards import describe


class NotYet(Exception):
    """An answer is not right yet; the message says why, in one or two sentences to the learner."""


Answer = Callable  # the learner's function, made safe to call: it raises NotYet where it cannot be called


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its name, parameters and notebook are read off the answer: my_add_noise, in notebook_02.py."""

    answer: Callable  # its source is the solution: short, and in the form of the notebook's stub
    examine: Callable[[Answer], str | None]  # raises NotYet; may return a note on an answer that is right
    hint: str
    sketch: str
    general: str = ""  # what does the same in the package, where it does more than the answer
    general_is: str = "does more"  # what that one does, where it can be said in a few words
    value: str = ""  # where a value is asked for, its name in the notebook; answer() makes it
    on_shapes: str | Callable[[str], str] = ""  # what to try where two shapes do not fit, or a function of the error
    planted: tuple[str, ...] = ()  # where the learner repairs a function: edits of the answer that put the bugs in

    @property
    def name(self) -> str:
        return self.answer.__name__.removeprefix("my_")

    @property
    def notebook(self) -> str:
        return self.answer.__module__[-2:]

    @property
    def parameters(self) -> tuple[str, ...] | None:
        """What the learner's function takes; None where a value is asked for."""
        return None if self.value else tuple(inspect.signature(self.answer).parameters)

    @property
    def wanted(self) -> str:
        """What the learner should give, as messages name it."""
        return self.value or f"{self.answer.__name__}({', '.join(self.parameters)})"

    @property
    def begins_as(self) -> str:
        """What stands in the notebook before the learner has done anything."""
        if self.planted:
            return edited_source(self.answer, *self.planted)
        return f"{self.value} = ..." if self.value else f"def {self.wanted}: ..."


def edited_source(function: Callable, *edits: str) -> str:
    """The function's source with pieces replaced. edits: old, new, old, new, ..."""
    source = inspect.getsource(function)
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        if old not in source:
            raise ValueError(f"there is no {old!r} in {function.__name__} to be replaced")
        source = source.replace(old, new)
    return source


@cache
def edited(function: Callable, *edits: str) -> Callable:
    """The function with pieces of its source replaced, as in edited_source."""
    namespace = dict(function.__globals__)
    exec(edited_source(function, *edits), namespace)
    return namespace[function.__name__]


@dataclass(frozen=True)
class Compare:
    """An examiner that calls the answer with each case's arguments. Raises NotYet where it returns something wrong."""

    right: Callable
    cases: Sequence[tuple]
    bugs: dict[tuple[str, ...] | Callable, str]  # edits of right, or a function: what is wrong with that
    first: Callable[[Answer], None] = lambda answer: None  # what else to look at, before anything is compared
    last: Callable[[Answer], None] = lambda answer: None  # and where no bug fits
    alternatives: Sequence[Callable] = ()  # other right answers, which return other numbers
    to_tensor: Callable = lambda output, *case: output  # what to compare, where an answer returns no tensor
    parts: tuple[str, ...] = ()  # what the rows of that are, where an answer returns several things
    may_ignore: tuple[str, ...] = ()  # parameters that a right answer may leave out
    t_per_picture: bool = False  # then the first case has as many pictures as a row has pixels, and confuses no answer
    rtol: float = 1e-3
    atol: float = 1e-4
    on_nan: str = "is there a root of a negative number, or 0 / 0?"  # where NaN may come from in this exercise

    def __call__(self, answer: Answer) -> None:
        self.first(answer)
        if self.t_per_picture:
            self._check_rows(answer)
        expected = [torch.as_tensor(self._tensor(self.right, case)) for case in self.cases]
        given = [
            check_output(self._tensor(answer, case), tensor, case)
            for case, tensor in zip(self.cases, expected, strict=True)
        ]
        if any(self._returns(function, given) for function in (self.right, *self.alternatives)):
            return
        again = check_output(self._tensor(answer, self.cases[0]), expected[0])
        if not torch.allclose(again, given[0], 1e-6, 1e-6, equal_nan=True):
            raise NotYet(
                "the same call gives something else each time: use the numbers that are given, draw none of your own."
            )
        has_nan = [bool(tensor.isnan().any()) for tensor in given]
        if all(has_nan):  # where every case has some, they would fit any bug with NaN
            raise NotYet(f"some of the numbers it returns are NaN: {self.on_nan}")
        for bug, words in self.bugs.items():
            if self._returns(bug if callable(bug) else edited(self.right, *bug), given):
                raise NotYet(words)
        if any(has_nan):
            raise NotYet(f"some of the numbers it returns are NaN: {self.on_nan}")
        self.last(answer)
        if unused := self._unused(answer):
            be = "is" if len(unused) == 1 else "are"
            raise NotYet(f"it returns the same whatever {' and '.join(unused)} {be}; that should make a difference.")
        raise NotYet(self._difference(given, expected))

    def _tensor(self, function: Callable, case: tuple) -> object:
        return self.to_tensor(function(*case), *case)

    def _close(self, a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a.double(), b.double().expand_as(a), self.rtol, self.atol, equal_nan=True)

    def _returns(self, function: Callable, given: Sequence[Tensor]) -> bool:
        """Does the function return the given tensors?"""
        try:
            others = (torch.as_tensor(self._tensor(function, case)) for case in self.cases)
            return all(map(self._close, given, others))  # most differ in the first case, and end here
        except (RuntimeError, IndexError, NotYet):  # with this bug the shapes do not even fit
            return False

    def _check_rows(self, answer: Answer) -> None:
        """A t that was not reshaped must not go along the rows unnoticed."""
        case = self.cases[0]
        along_a_row = self._tensor(edited(self.right, ".reshape(-1, 1, 1, 1)", ""), case)
        if self._close(check_output(self._tensor(answer, case), along_a_row, case), along_a_row):
            raise NotYet(NOT_RESHAPED)

    def _unused(self, answer: Answer) -> list[str]:
        """The parameters that make a difference to the right answer, and none at all to this one."""

        def counts(function: Callable, i: int, same: Callable[[Tensor, Tensor], bool]) -> bool:
            for case in self.cases:
                other = (*case[:i], _another(case[i]), *case[i + 1 :])
                if not same(*(torch.as_tensor(self._tensor(function, arguments)) for arguments in (case, other))):
                    return True
            return False

        names = list(inspect.signature(self.right).parameters)
        matter = [
            i for i, name in enumerate(names) if name not in self.may_ignore and counts(self.right, i, self._close)
        ]
        with suppress(NotYet):  # what it does with other arguments is no matter
            return [names[i] for i in matter if not counts(answer, i, torch.equal)]
        return []

    def _difference(self, given: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
        """What was measured, and no guess at its cause."""
        pairs = list(zip(given, expected, strict=True))
        what, where = "the shape is right, but not the numbers", ""
        if self.parts:
            wrong = [part for i, part in enumerate(self.parts) if not all(self._close(a[i], b[i]) for a, b in pairs)]
            what = f"the numbers are wrong, in {' and '.join(wrong)}" + (" alone" if len(wrong) == 1 else "")
        if self.t_per_picture:
            at = list(inspect.signature(self.right).parameters).index("t")
            steps = {
                int(case[at][i])
                for case, (a, b) in zip(self.cases, pairs, strict=True)
                for i in range(len(case[at]))
                if not self._close(a[..., i, :, :, :], b[..., i, :, :, :])
            }
            where = " Only pictures with t = 0 are wrong." if steps == {0} else ""
        mine, right = (torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (given, expected))
        i = (mine - right).abs().argmax()
        return f"{what}: one is {mine[i]:.4g} and should be {right[i]:.4g}.{where}"


def _another(argument: object) -> object:
    """An argument of the same kind with other values; itself, where that would change what the shapes should be."""
    if isinstance(argument, NoiseSchedule):
        return NoiseSchedule(0.5 * argument.betas)
    if isinstance(argument, float):
        return 0.5 * argument + 0.1
    if isinstance(argument, Tensor) and argument.is_floating_point():
        return 0.5 * argument.flip(tuple(range(argument.ndim))) + 0.1  # which is the largest changes, too
    if isinstance(argument, Tensor):
        return torch.zeros_like(argument) if argument.dtype == torch.bool else (argument + 1) % T
    return argument


def check_output(output: object, expected: Tensor, case: tuple = (), what: str = "it") -> Tensor:
    """The output as a tensor of expected's shape. Raises NotYet where it is no such thing."""
    if isinstance(output, (int, float)) and expected.ndim == 0:
        output = torch.tensor(float(output))
    if expected.ndim == 0 and (not isinstance(output, Tensor) or output.ndim):
        raise NotYet(f"{what} should return one number, but returns {describe(output)}.")
    if not isinstance(output, Tensor):
        raise NotYet(f"{what} should return a tensor of shape {tuple(expected.shape)}, but returns {describe(output)}.")
    if output.device != expected.device:
        raise NotYet(f"{what} returns a tensor on {output.device} for inputs on {expected.device}. {ON_ITS_DEVICE}")
    if not output.is_floating_point():
        raise NotYet(f"{what} should return floats, but returns {describe(output)}.")
    if output.shape != expected.shape:
        inputs = ", ".join(str(tuple(given.shape)) for given in case if isinstance(given, Tensor))
        asked = f" for inputs of shapes {inputs}" if inputs else ""
        spread = expected.ndim == 4 and output.shape[:2] == (len(expected),) * 2  # t went along the channels
        raise NotYet(
            f"{what} returns the shape {tuple(output.shape)}{asked}; it should be {tuple(expected.shape)}."
            + (f" {NOT_RESHAPED}" if spread else "")
        )
    return output.detach()


def check_learnable(loss: object, from_what: str) -> None:
    """Raises NotYet where nothing can be learnt from a loss, as no gradient flows from it. from_what: the vectors."""
    if isinstance(loss, float):
        raise NotYet("it returns a plain number, from which nothing can be learnt: leave out .item() and float().")
    if isinstance(loss, Tensor) and not loss.requires_grad:
        raise NotYet(f"no gradient flows from the loss to {from_what}: is there a .detach() or no_grad() too many?")


# What the exercises are tried on.

SCHEDULE = NoiseSchedule(linear_betas(20, 0.02, 0.3))
T = len(SCHEDULE)
ON_T_STEPS = f"on a schedule of {T} steps"  # the learner's own has another number of them
# SQUARE has as many pictures as a row has pixels: a t of shape (B,) that was not reshaped raises nothing here.
SQUARE, OBLONG = (4, 1, 4, 4), (3, 2, 5, 4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    """(a, b, t): two batches of pictures and the step of each picture, three times; the last time none is at t = 0."""
    steps = torch.tensor([0, 7, 3, T - 1]), torch.tensor([12, 0, 5]), torch.tensor([1, T - 1, 9])
    shapes = SQUARE, OBLONG, OBLONG
    return [(noise(*shape, seed=1), noise(*shape, seed=2), t) for shape, t in zip(shapes, steps, strict=True)]


NOT_RESHAPED = (
    "t has shape (B,), and so have numbers looked up with it. Shapes are lined up from the right, so that they fall on "
    "another axis of pictures (B, C, H, W) than the batch: reshape them to (B, 1, 1, 1) first."
)
ON_ITS_DEVICE = "Make new tensors on the device of an input: device=x.device."
ONLY_FIRST = "every picture has a t of its own, but the t of the first one is used for all."
COUNTED_FROM_1 = (
    "z is left out at t = 1, too. Algorithm 2 counts from 1, and its last step is t = 1; code counts from 0, so the "
    "last step is t = 0."
)
