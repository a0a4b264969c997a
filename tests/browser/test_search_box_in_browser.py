"""The search box and the map of pictures, with hands on them, in a small notebook of their own."""

import pytest
from conftest import run_cells
from notebook_page import NotebookPage

CELLS = [
    # An index whose answers are known: it compares words with names, and pictures pixel by pixel.
    """import warnings
import torch
from types import SimpleNamespace
from ddpm_core import EmojiDataset, PromptWarning
from ddpm_core.course.display import picture_map, search_box
emoji = EmojiDataset(styles=["noto", "openmoji"])
pictures, labels = emoji.pictures, emoji.captions()
names = [f"{en} {zh}".split() for en, zh in zip(labels, emoji.captions("zh", with_style=False))]
known = {word for name in names for word in name}

class Index:
    labels = labels
    def search(self, query, k=10):
        if isinstance(query, str):
            words = [word for word in query.split() if word in known]
            unknown = [word for word in query.split() if word not in known]
            if not words:
                raise ValueError(f"query must have a word that the model knows: none of {query!r}")
            if unknown:
                warnings.warn(f"left out: {unknown}", PromptWarning, stacklevel=2)
            scores = [sum(word in name for word in words) / len(name) for name in names]
        else:
            scores = 1 - (pictures.float() - query.float()).abs().mean(dim=(1, 2, 3)) / 255
        scores, rows = torch.as_tensor(scores).topk(k)
        return SimpleNamespace(rows=rows, scores=scores)""",
    """box = search_box(Index(), pictures, "rocket", examples=["火车", "openmoji cat"])""",
    """points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.51, 0.5]])
rows = [emoji.row("noto", name) for name in ("🚀", "🍎", "🐱", "🐶")]
groups = {"kind": ["thing", "thing", "animal", "animal"], "name": ["r", "a", "c", "d"]}
picture_map(points, pictures[rows], ["火箭", "<b>apple", "cat", "dog"], groups)""",
]


@pytest.fixture(scope="module")
def page(browser, lab):
    yield from run_cells(browser, lab, "search", CELLS)


class Box:
    """The search box as it is seen."""

    def __init__(self, page: NotebookPage):
        self.page = page
        [self.box] = page.boxes_with(".search-page")

    def seen(self) -> list[str]:
        """What stands under the pictures."""
        return self.box.locator("figcaption").all_inner_texts()

    def words(self) -> str:
        """What stands above and below them."""
        return " ".join(self.box.locator(".widget-label, .widget-html:not(:has(figure))").all_inner_texts())

    def button(self, name: str):
        return self.box.get_by_role("button", name=name, exact=True)

    def ask(self, query: str) -> None:
        field = self.box.get_by_role("textbox")
        field.fill(query)
        field.press("Enter")

    def see(self, words: str) -> list[str]:
        """What is seen once these words are there."""
        self.page.wait_for(f"{words!r} in the search box", lambda: words in self.words())
        self.page.page.wait_for_timeout(300)
        return self.seen()


@pytest.fixture
def box(page) -> Box:
    """The box, with the first page of an example."""
    box = Box(page)
    box.ask("noto rocket")
    seen = box.see(": noto rocket")
    assert len(seen) == 12 and seen[0].endswith("noto rocket")
    return box


def test_each_button_lies_over_its_picture(box):
    pictures = box.box.locator("img").all()
    assert len(pictures) == 12
    for i, picture in enumerate(pictures):
        cover = box.box.get_by_title(f"more like number {i + 1}", exact=True).bounding_box()
        assert cover == pytest.approx(picture.bounding_box(), abs=1)
        assert min(cover["width"], cover["height"]) > 100


def test_nothing_lies_over_something_else(box):
    """Also not on the last row, whose labels may be long."""
    captions = [caption.bounding_box() for caption in box.box.locator("figcaption").all()]
    lowest = max(caption["y"] + caption["height"] for caption in captions)
    assert lowest <= box.button("next ▶").bounding_box()["y"]


@pytest.mark.parametrize(
    "query, first, note",
    [
        ("openmoji cat", "openmoji cat", ""),
        ("火箭", "rocket", ""),
        ("noto zzyzx rocket", "noto rocket", "left out: ['zzyzx']"),
    ],
    ids=["English", "Chinese", "unknown word"],
)
def test_a_query_brings_its_pictures_and_a_note_where_one_is_due(query, first, note, box):
    box.ask(query)
    seen = box.see(f": {query}")
    assert seen[0].endswith(first) and len(seen) == 12
    assert note in box.words() and ("left out" in box.words()) == bool(note)


@pytest.mark.parametrize("query", ["zzyzx", ""], ids=["unknown word alone", "empty"])
def test_what_cannot_be_searched_for_is_said_and_the_pictures_stay(query, box):
    before = box.seen()
    box.ask(query)
    assert box.see(f"none of {query!r}") == before


def test_pages_lead_on_and_back(box):
    first = box.seen()
    assert box.button("◀ back").is_disabled()
    box.button("next ▶").click()
    second = box.see("13 to 24 of")
    assert not set(first) & set(second)
    box.button("◀ back").click()
    assert box.see("1 to 12 of") == first


def test_a_click_on_a_picture_asks_for_more_like_it_and_words_for_words_again(box):
    before = box.seen()
    box.box.get_by_title("more like number 4", exact=True).click()
    label = before[3].split(" ", 1)[1]
    after = box.see(f"pictures like {label}")
    assert after[0] == f"1.00 {label}" and after != before
    assert box.box.get_by_role("textbox").input_value() == ""
    box.ask("noto rocket")
    assert box.see(": noto rocket") == before


def test_it_can_be_used_with_the_keyboard(box):
    label = box.seen()[1].split(" ", 1)[1]
    box.box.get_by_title("more like number 2", exact=True).press("Enter")
    assert box.see(f"pictures like {label}")[0] == f"1.00 {label}"


def test_an_example_is_searched_for_with_a_click(box):
    box.button("火车").click()
    assert box.see(": 火车")[0].endswith("train")
    assert box.box.get_by_role("textbox").input_value() == "火车"


# The map


class Map:
    """The map to point at; places on it go from (0, 0), at the bottom on the left, to (1, 1)."""

    def __init__(self, page: NotebookPage):
        self.page = page.page
        self.box = self.page.locator("[data-map]")
        self.canvas = self.box.locator("canvas")
        self.canvas.scroll_into_view_if_needed()

    def point_at(self, x: float, y: float) -> None:
        self.page.mouse.move(*self._on_the_screen(x, y))

    def _on_the_screen(self, x: float, y: float) -> tuple[float, float]:
        box = self.canvas.bounding_box()
        share = box["width"] / 860
        return box["x"] + (12 + x * 836) * share, box["y"] + (12 + (1 - y) * 576) * share

    def tip(self) -> str:
        """What is said of the dot pointed at; nothing where there is none."""
        tip = self.box.locator("div").filter(has=self.page.locator("div[style*='data:image/webp']")).last
        return tip.inner_text() if tip.is_visible() else ""

    def colour(self, x: float, y: float) -> list[int]:
        at = [2 * (12 + x * 836), 2 * (12 + (1 - y) * 576)]
        look = "(canvas, at) => Array.from(canvas.getContext('2d').getImageData(...at, 1, 1).data)"
        return self.canvas.evaluate(look, at)


@pytest.fixture
def picture_map(page) -> Map:
    return Map(page)


@pytest.mark.parametrize(
    "place, words",
    [
        ((0, 0), "火箭 thing r"),
        ((1, 1), "<b>apple thing a"),
        ((0.499, 0.5), "cat animal c"),
        ((0.512, 0.5), "dog animal d"),
    ],
)
def test_pointing_at_a_dot_says_what_it_is(place, words, picture_map):
    picture_map.point_at(*place)
    assert picture_map.tip().split() == words.split()


def test_pointing_elsewhere_says_nothing(picture_map):
    picture_map.point_at(0, 0)
    assert picture_map.tip()
    picture_map.point_at(0.2, 0.2)
    assert picture_map.tip() == ""
    picture_map.point_at(1, 1)
    picture_map.page.mouse.move(5, 5)
    assert picture_map.tip() == ""


def test_the_picture_of_a_dot_is_its_own(picture_map):
    """The rocket is the first of the sheet, and the apple, which is red, the second."""
    picture_map.point_at(1, 1)
    image = picture_map.box.locator("div[style*='data:image/webp']").last
    assert image.evaluate("image => image.style.backgroundPosition").startswith("-72px")


def test_the_menu_changes_the_colours_and_what_they_mean(picture_map):
    menu = picture_map.box.locator("select")
    menu.select_option(label="colours: kind")
    one, other = picture_map.colour(0, 0), picture_map.colour(1, 1)
    assert one == other and "animal" in picture_map.box.inner_text()
    menu.select_option(label="colours: name")
    assert picture_map.colour(0, 0) == one != picture_map.colour(1, 1)


def test_a_narrow_window_has_a_narrow_map_with_the_same_dots(picture_map):
    page, before = picture_map.page, picture_map.page.viewport_size
    page.set_viewport_size({"width": 700, "height": 900})
    try:
        picture_map.canvas.scroll_into_view_if_needed()
        assert picture_map.canvas.bounding_box()["width"] < 600
        picture_map.point_at(1, 1)
        assert picture_map.tip().startswith("<b>apple")
    finally:
        page.set_viewport_size(before)


# The last one, as it also judges what the tests above did to the widgets.


def test_nothing_is_broken_missing_or_asked_of_the_network(page):
    assert page.not_drawn() == page.kernel_errors() == page.browser_errors == page.outside_requests == []
