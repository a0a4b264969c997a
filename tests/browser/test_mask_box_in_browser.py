"""The box to draw a mask in, with hands on it, in a small notebook of its own."""

import json

import pytest
from conftest import run_cells

CELLS = [
    """from ddpm_core import load_mnist
from ddpm_core.course.display import mask_box
changes = []
box = mask_box(load_mnist("train")[0][3], on_change=changes.append)""",
    """import json
print(json.dumps({"rows": [sum(row) for row in box.mask.tolist()], "changes": len(changes)}))
changes.clear()""",
    """import time
time.sleep(3)""",
]
EMPTY = [0] * 28  # pixels to be redrawn, row by row


@pytest.fixture(scope="module")
def page(browser, lab):
    yield from run_cells(browser, lab, "mask", CELLS)


def drawn(page) -> dict:
    """The pixels to be redrawn, row by row, and how many changes were told of since this was last asked."""
    _, cell, _ = page.code_cells()
    page.run_cell(cell)
    return json.loads(page.output_text(cell))


@pytest.fixture
def box(page):
    """The box, with nothing to be redrawn and the first brush in hand."""
    [box] = page.boxes_with(".widget-gridbox")
    button(box, "square").click()
    button(box, "nothing").click()
    assert drawn(page)["rows"] == EMPTY
    return box


def button(box, name: str):
    return box.get_by_role("button", name=name, exact=True)


def click(box, *squares: tuple[int, int]) -> None:
    for row, column in squares:
        box.get_by_title(f"row {row}, column {column}", exact=True).click()


def test_each_square_lies_over_its_part_of_the_picture(page, box):
    picture = box.locator("img").bounding_box()
    assert min(picture["width"], picture["height"]) > 250
    for row, column in ((1, 1), (2, 6), (7, 7)):
        square = box.get_by_title(f"row {row}, column {column}", exact=True).bounding_box()
        for where, length, number in (("x", "width", column), ("y", "height", row)):
            side = picture[length] / 7
            assert square[length] == pytest.approx(side, abs=1)
            assert square[where] - picture[where] == pytest.approx((number - 1) * side, abs=1)


def test_a_square_is_marked_and_cleared_and_the_picture_shows_it(page, box):
    before = page.look_at_rest(box)
    click(box, (1, 1))
    after = page.look_when_changed(box, before)
    assert after.words != before.words
    assert drawn(page) == {"rows": [4] * 4 + EMPTY[4:], "changes": 1}
    click(box, (1, 1))
    assert page.look_when_changed(box, after) == before


def test_a_rectangle_takes_two_corners_of_which_the_first_is_framed(page, box):
    before = page.look_at_rest(box)
    button(box, "rectangle").click()
    click(box, (7, 2))
    waiting = page.look_when_changed(box, before)
    assert drawn(page) == {"rows": EMPTY, "changes": 0}
    click(box, (6, 1))
    page.look_when_changed(box, waiting)
    assert drawn(page) == {"rows": EMPTY[8:] + [8] * 8, "changes": 1}
    button(box, "inverse").click()
    assert drawn(page) == {"rows": [28] * 20 + [20] * 8, "changes": 1}


def test_clicks_while_a_cell_runs_are_heeded_afterwards_in_their_order(page, box):
    sleeping = page.code_cells()[2]
    page.start_cell(sleeping)
    button(box, "everything").click()
    click(box, (7, 7), (1, 1), (1, 1))
    assert page.code_cells()[2].state == "running"
    assert drawn(page) == {"rows": [28] * 24 + [24] * 4, "changes": 4}


def test_it_can_be_used_with_the_keyboard(page, box):
    before = page.look_at_rest(box)
    box.get_by_title("row 4, column 4", exact=True).press("Enter")
    page.look_when_changed(box, before)
    assert drawn(page)["rows"][12:16] == [4] * 4


# The last one, as it also judges what the tests above did to the widget.


def test_nothing_is_broken_missing_or_asked_of_the_network(page):
    assert page.not_drawn() == page.kernel_errors() == page.browser_errors == page.outside_requests == []
