"""The schematics in a browser, all on one page as in a notebook: text is measured with the fonts that are there."""

import re
from collections.abc import Iterator

import pytest
from lab_server import ROOT

NAMES = sorted(path.stem for path in (ROOT / "notebooks" / "pictures").glob("*.svg") if path.stem != "colab")
# Of one drawing: its lines of text and its frames as rectangles, and points along its arrows, in its own coordinates.
MEASURE = """name => {
    const svg = document.querySelector(`#schematic-${name}`);
    const rectangle = element => {
        const {x, y, width, height} = element.getBBox();
        return {words: element.textContent, left: x, top: y, right: x + width, bottom: y + height};
    };
    const along = path => {
        const length = path.getTotalLength();
        const turn = path.transform.baseVal.consolidate()?.matrix ?? svg.createSVGMatrix();
        return Array.from({length: Math.ceil(length / 3) + 1}, (_, i) => {
            const {x, y} = path.getPointAtLength(3 * i).matrixTransform(turn);
            return [x, y];
        });
    };
    return {
        height: svg.viewBox.baseVal.height,
        texts: [...svg.querySelectorAll("text")].map(rectangle),
        boxes: [...svg.querySelectorAll("rect.box, rect.group")].map(rectangle),
        pictures: [...svg.querySelectorAll("rect.edge")].map(rectangle),
        badges: [...svg.querySelectorAll("circle.badge")].map(rectangle),
        points: [...svg.querySelectorAll("path.line")].flatMap(along),
    };
}"""
COLOURS = """name => ["rect.card", "text"].map(
    selector => getComputedStyle(document.querySelector(`#schematic-${name} ${selector}`)).fill)"""


@pytest.fixture(scope="module")
def page(browser) -> Iterator:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    drawings = [(ROOT / "notebooks" / "pictures" / f"{name}.svg").read_text(encoding="utf-8") for name in NAMES]
    page.set_content("".join(drawings))
    yield page
    page.close()


@pytest.fixture(params=NAMES)
def seen(request, page) -> dict:
    return page.evaluate(MEASURE, request.param)


def overlap(a: dict, b: dict) -> bool:
    # The box around a line of text is a bit higher than its letters.
    across = a["left"] < b["right"] and b["left"] < a["right"]
    return across and a["top"] + 2 < b["bottom"] - 2 and b["top"] + 2 < a["bottom"] - 2


def holds(outer: dict, inner: dict, margin: float) -> bool:
    return outer["left"] + margin <= inner["left"] and inner["right"] <= outer["right"] - margin


def test_no_two_lines_of_text_meet_and_all_are_on_the_card(seen):
    for number, text in enumerate(seen["texts"]):
        assert text["left"] >= 10 and text["right"] <= 890, text
        assert text["top"] >= 10 and text["bottom"] <= seen["height"] - 5, text
        assert [other for other in seen["texts"][number + 1 :] if overlap(text, other)] == []


def test_text_stays_in_its_box_and_off_pictures(seen):
    for text in seen["texts"]:
        is_badge = any(holds(badge, text, 0) and overlap(badge, text) for badge in seen["badges"])
        crossed = [box for box in seen["boxes"] if overlap(box, text) and not holds(box, text, 3)]
        covered = [picture for picture in seen["pictures"] if overlap(picture, text)]
        assert is_badge or crossed + covered == [], text


def test_no_arrow_goes_through_text(seen):
    assert seen["points"]
    for text in seen["texts"]:
        inside = [
            (x, y)
            for x, y in seen["points"]
            if text["left"] < x < text["right"] and text["top"] + 3 < y < text["bottom"] - 3
        ]
        assert inside == [], text


@pytest.mark.parametrize("name", NAMES)
def test_light_and_dark_swap_ground_and_ink(page, name):
    brightness = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        fills = page.evaluate(COLOURS, name)
        channels = [fill.removeprefix("rgb(").removesuffix(")").split(",") for fill in fills]
        brightness[theme] = [sum(map(int, each)) for each in channels]
    (light_card, light_ink), (dark_card, dark_ink) = brightness["light"], brightness["dark"]
    assert light_card > dark_card and dark_ink > light_ink
    assert light_card > light_ink and dark_ink > dark_card


def test_nothing_is_fetched(browser):
    page = browser.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.set_content("".join((ROOT / "notebooks" / "pictures" / f"{name}.svg").read_text("utf-8") for name in NAMES))
    page.wait_for_load_state("networkidle")
    page.close()
    assert requests == []


@pytest.mark.parametrize("name", NAMES)
def test_the_light_theme_needs_no_style_sheet_and_no_names(browser, name):
    """What is left of an output where GitHub or nbconvert has cleaned a notebook."""
    whole = (ROOT / "notebooks" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    cleaned = re.sub(r"<style>.*?</style>", "", whole)
    cleaned = re.sub(r' (?:id|class|style|aria-labelledby)="[^"]*"', "", cleaned)
    assert len(cleaned) < len(whole) - 1000
    page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="light")
    seen = []
    for drawing in (whole, cleaned):
        page.set_content(drawing)
        seen.append(page.locator("svg").screenshot())
    page.close()
    assert seen[0] == seen[1]
