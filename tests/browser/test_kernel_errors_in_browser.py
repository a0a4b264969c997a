"""Of what the kernel says on stderr, its answer to JupyterLab's own question alone is no error."""

import pytest
from conftest import run_cells

CELLS = [
    """import sys
from IPython import get_ipython
from ipywidgets import Button
get_ipython().kernel.comm_manager.targets.pop("jupyter.widget.control")  # as before ipywidgets is imported

def say(button):
    print("planted line", file=sys.stderr)

def fail(button):
    raise ValueError("planted error")

says, fails, closed = Button(description="says"), Button(description="fails"), Button(description="closed")
says.on_click(say)
fails.on_click(fail)""",
    "says",
    "fails",
    "closed",
    "del get_ipython().kernel.comm_manager.comms[closed.comm.comm_id]",
]
ASK = """async target => {
    const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
    const comm = kernel.createComm(target);
    comm.open({}, { version: "1.0.0" });
    comm.send({ method: "request_states" });
    await kernel.requestExecute({ code: "" }).done; // behind the question
    return comm.commId;
}"""


@pytest.fixture(scope="module")
def page(browser, lab):
    yield from run_cells(browser, lab, "kernel_errors", CELLS)


@pytest.fixture
def new_errors(page):
    """What the kernel has reported since the test began."""
    before = len(page.kernel_errors())
    return lambda: "\n".join(page.kernel_errors()[before:])


def wait_for(page, text: str, new_errors) -> None:
    page.wait_for(text, lambda: text in new_errors(), seconds=20)


def test_the_answer_to_jupyterlabs_own_question_is_none_but_that_to_another_is(page, new_errors):
    page.page.evaluate(ASK, "jupyter.widget.control")
    page.page.evaluate(ASK, "another.target")  # what is said of the first one has come by then
    wait_for(page, "No such comm target registered: another.target", new_errors)
    assert "jupyter.widget.control" not in new_errors() and "No such comm:" not in new_errors()


@pytest.mark.parametrize("name, text", [("says", "planted line"), ("fails", "ValueError: planted error")])
def test_what_a_widgets_callback_says_or_raises_is_one(name, text, page, new_errors):
    page.page.get_by_role("button", name=name, exact=True).click()
    wait_for(page, text, new_errors)


def test_a_click_on_a_widget_that_the_kernel_has_lost_is_one(page, new_errors):
    page.page.get_by_role("button", name="closed", exact=True).click()
    wait_for(page, "No such comm: ", new_errors)
