"""A cell that was run too early: what is missing is said in a sentence, where Python would show a traceback."""

import traceback
from types import TracebackType

from IPython import get_ipython
from IPython.core.interactiveshell import InteractiveShell


def explain_missing_names() -> None:
    """From now on a NameError in a cell says which cells to run. Does nothing outside a notebook."""
    if shell := get_ipython():
        shell.set_custom_exc((NameError,), _explain)


def _explain(
    shell: InteractiveShell, kind: type, error: NameError, tb: TracebackType, tb_offset: int | None = None
) -> None:
    *_, (frame, _) = traceback.walk_tb(tb)
    in_notebook = frame.f_globals is shell.user_ns  # or it is a bug in a library, and no cell would help
    if in_notebook and str(error) == f"name '{error.name}' is not defined":
        sentence = (
            f"{error.name} has no value yet: a cell further up gives it one, and has not been run. Choose Run, Run All "
            f"Above Selected Cell. (Or is it misspelt here?  {traceback.extract_tb(tb)[-1].line})"
        )
        error._render_traceback_ = lambda: [sentence]  # what IPython shows in place of the traceback
    shell.showtraceback((kind, error, tb), tb_offset=tb_offset)
