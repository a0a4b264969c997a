"""A cell that is run before those above it: a sentence, and not Python's traceback."""

import pytest
from IPython.utils.capture import capture_output

from ddpm_core.course.missing_names import explain_missing_names


@pytest.fixture
def run(shell):
    """Runs a cell in a notebook that explains missing names: the error, and what is shown of it."""

    def run_cell(source: str) -> tuple[BaseException | None, str]:
        with capture_output() as captured:
            result = shell.run_cell(source)
        return result.error_in_exec, captured.stdout + captured.stderr

    explain_missing_names()
    yield run_cell
    shell.set_custom_exc((), None)


@pytest.mark.parametrize(
    "source, line",
    [
        ("samples = 1 + draw_many()", "samples = 1 + draw_many()"),
        ("def f():\n    return draw_many\n\nf()", "return draw_many"),
    ],
    ids=["cell", "function"],
)
def test_a_name_that_no_cell_has_made_yet_is_said_in_a_sentence_with_its_line(source, line, run):
    error, shown = run(source)
    assert isinstance(error, NameError)  # Run All stops
    assert shown.startswith("draw_many has no value yet") and "Run All Above" in shown
    assert line in shown and "Traceback" not in shown and "NameError" not in shown


@pytest.mark.parametrize(
    "source, message",
    [
        ("def f():\n    a += 1\n\nf()", "UnboundLocalError"),
        ("def f():\n    g = lambda: a\n    g()\n    a = 1\n\nf()", "free variable 'a'"),
        ("raise NameError('of my own')", "of my own"),
        ("import types\nexec('nothing_here', {'__name__': 'a library'})", "nothing_here"),
        ("1 / 0", "ZeroDivisionError"),
    ],
    ids=["local", "free", "raised", "library", "other"],
)
def test_what_no_other_cell_could_mend_keeps_its_traceback(source, message, run):
    _, shown = run(source)
    assert "Traceback" in shown and message in shown and "Run All Above" not in shown


def test_the_handler_is_asked_for_again_and_again_without_harm(run):
    explain_missing_names()
    assert run("nowhere")[1].count("nowhere has no value yet") == 1


def test_outside_a_notebook_nothing_happens(monkeypatch):
    monkeypatch.setattr("ddpm_core.course.missing_names.get_ipython", lambda: None)
    explain_missing_names()
