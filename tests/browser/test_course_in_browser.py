"""The notebooks as a learner meets them: in JupyterLab, in a browser, with hands on the widgets."""

import nbformat
import pytest
from lab_server import ROOT
from notebook_page import NOTEBOOK, SCROLL
from other_settings import SETTINGS, names_a_setting, names_with_numbers, settings_of

SECONDS_TO_FIRST_FIGURE = 60  # a free machine takes a quarter of it


def test_every_notebook_and_every_number_among_its_settings_has_another_value_here():
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert [path.stem for path in paths] == sorted(SETTINGS)
    for path in paths:
        before = settings_of(nbformat.read(path, 4)).source
        assert names_with_numbers(before) == names_with_numbers(SETTINGS[path.stem]), path.stem


@pytest.mark.notebooks_with("01_sampling")
def test_the_first_figure_comes_soon_after_make_lab(notebook):
    assert notebook.seconds["first figure"] < SECONDS_TO_FIRST_FIGURE


def test_the_learner_is_asked_nothing(notebook):
    assert notebook.page.locator(".Toastify__toast").all_inner_texts() == []


@pytest.mark.parametrize("width, height", [(1400, 1000), (1280, 720)])
def test_the_title_its_picture_and_the_folded_set_up_with_its_answer_are_on_the_first_screen(width, height, notebook):
    page, before = notebook.page, notebook.page.viewport_size
    page.set_viewport_size({"width": width, "height": height})
    page.locator(NOTEBOOK).evaluate(SCROLL, 0)
    screen = page.locator(NOTEBOOK).bounding_box()
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    assert cell.locator(".jp-InputArea-editor").count() == 0  # folded
    answer = cell.locator(".jp-OutputArea-output").bounding_box()
    page.set_viewport_size(before)
    assert answer["y"] + answer["height"] <= screen["y"] + screen["height"]


def test_every_cell_runs(notebook):
    assert [str(cell) for cell in notebook.code_cells() if cell.count is None] == []


def test_pictures_and_widgets_are_drawn(notebook):
    assert notebook.not_drawn() == []


def test_formulas_are_set(notebook):
    formulas = notebook.page.evaluate("course.formulas()")
    assert formulas["count"] > 0 and formulas["wrong"] == []


@pytest.mark.notebooks_with("show_frames(")
def test_each_slider_leads_through_its_frames(notebook):
    boxes = notebook.boxes_with(".widget-play")
    assert boxes
    for box in boxes:
        slider = box.get_by_role("slider")
        slider.press("Home")
        first = notebook.look_at_rest(box)
        slider.press("ArrowRight")
        second = notebook.look_when_changed(box, first)
        assert second.words != first.words
        slider.press("ArrowLeft")
        assert notebook.look_when_changed(box, second) == first


@pytest.mark.notebooks_with("01_sampling")
def test_frames_play_pause_and_stop(notebook):
    # The longest film, so that it is not over before the pause button is pressed.
    box = max(notebook.boxes_with(".widget-play"), key=number_of_last_frame)
    slider = box.get_by_role("slider")
    slider.press("Home")
    first = notebook.look_at_rest(box)
    box.locator(".fa-play").click()
    seen = set()

    def several_frames() -> bool:
        seen.add(notebook.look_at(box))
        return len(seen) > 3

    notebook.wait_for("frames that follow each other", several_frames)
    box.locator(".fa-pause").click()
    paused = notebook.look_at_rest(box)
    assert first.words != paused.words and 0 < float(slider.get_attribute("aria-valuenow")) < number_of_last_frame(box)
    box.locator(".fa-stop").click()
    assert notebook.look_when_changed(box, paused) == first


def number_of_last_frame(box) -> float:
    return float(box.get_by_role("slider").get_attribute("aria-valuemax"))


@pytest.mark.notebooks_with("02_the_forward")
def test_a_menu_chooses_between_sets_of_frames(notebook):
    [box] = notebook.boxes_with("select")
    slider, menu = box.get_by_role("slider"), box.locator("select")
    slider.press("Home")
    for _ in range(5):  # the sets may begin alike
        before = notebook.look_at_rest(box)
        slider.press("ArrowRight")
        before = notebook.look_when_changed(box, before)
    menu.select_option(index=1)
    after = notebook.look_when_changed(box, before)
    menu.select_option(index=0)
    assert notebook.look_when_changed(box, after) == before


@pytest.mark.notebooks_with("watch(")
def test_training_can_be_stopped_and_goes_on(notebook):
    interruption = notebook.interruption
    assert "run this cell again and it goes on" in interruption.text
    assert 0 < interruption.stopped_at < interruption.went_on_at <= interruption.num_iterations
    assert "Stopped" not in interruption.text_at_end
    assert f"iteration {interruption.num_iterations:,} of {interruption.num_iterations:,}" in interruption.text_at_end


@pytest.fixture
def box(notebook):
    """The first prompt box of the notebook."""
    return notebook.boxes_with("input[type=text]")[0]


def ask_for(prompt: str, box) -> None:
    box.get_by_role("textbox").first.fill(prompt)
    box.get_by_role("textbox").first.press("Enter")


@pytest.mark.notebooks_with("05_text_conditioning")
@pytest.mark.parametrize(
    "prompt, note",
    [
        ("a red seven", ""),
        ("红色的七", ""),
        ("a shiny blue zebra", '"zebra"'),
        ("", "an empty prompt sets no condition"),
    ],
    ids=["English", "Chinese", "unknown word", "empty"],
)
def test_a_prompt_brings_another_picture_and_a_note_where_one_is_due(prompt, note, box, notebook):
    before = notebook.look_at_rest(box)
    ask_for(prompt, box)
    after = notebook.look_when_changed(box, before)
    assert note in after.words if note else after.words == ""


@pytest.mark.notebooks_with("05_text_conditioning")
def test_the_guidance_slider_brings_another_picture(box, notebook):
    before = notebook.look_at_rest(box)
    ask_for("a blue three", box)  # without a prompt there is nothing to guide to
    before = notebook.look_when_changed(box, before)
    scale = box.locator(".widget-readout").inner_text()
    box.get_by_role("slider").press("ArrowRight")
    notebook.look_when_changed(box, before)
    assert float(box.locator(".widget-readout").inner_text()) > float(scale)


@pytest.mark.notebooks_with('prompt_box(six, "openmoji')
@pytest.mark.parametrize(
    "prompt, note",
    [("openmoji cat", ""), ("flat 企鹅", ""), ("noto zeppelin", '"zeppelin"')],
    ids=["English", "Chinese", "unknown word"],
)
def test_a_prompt_for_an_emoji_brings_another_picture_and_a_note_where_one_is_due(prompt, note, box, notebook):
    before = notebook.look_at_rest(box)
    ask_for(prompt, box)
    after = notebook.look_when_changed(box, before)
    assert note in after.words if note else after.words == ""


@pytest.mark.notebooks_with("mask_box(")
def test_a_click_marks_a_square_of_the_picture_and_another_one_clears_it(notebook):
    boxes = notebook.boxes_with(".widget-gridbox")
    assert boxes
    for box in boxes:
        box.get_by_role("button", name="square", exact=True).click()
        box.get_by_role("button", name="nothing", exact=True).click()
        before = notebook.look_at_rest(box)
        square = box.get_by_title("row 2, column 2", exact=True)
        square.click()
        after = notebook.look_when_changed(box, before)
        assert after.words != before.words
        square.click()
        assert notebook.look_when_changed(box, after) == before


@pytest.mark.notebooks_with("search_box(")
def test_a_search_in_chinese_finds_what_has_an_english_label(notebook):
    [box] = notebook.boxes_with(".search-page")

    def labels() -> list[str]:
        return box.locator("figcaption").all_inner_texts()

    before = labels()
    ask_for("章鱼", box)
    notebook.wait_for("other pictures in the search box", lambda: before != labels())
    assert any("octopus" in label for label in labels())


# The last ones, as they also judge what the tests above did to the widgets.


def test_the_kernel_reports_no_error_but_demands_that_name_a_setting(notebook, request):
    name = request.node.callspec.params["notebook"].stem
    errors = [error for error in notebook.kernel_errors() if not names_a_setting(error, name)]
    assert not errors, "\n".join(errors)


def test_the_browser_reports_no_error(notebook):
    assert not notebook.browser_errors, "\n".join(notebook.browser_errors)


def test_nothing_is_asked_of_the_network(notebook):
    assert notebook.outside_requests == []
