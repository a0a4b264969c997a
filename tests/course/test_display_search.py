import base64
import html
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from displayed import WIDGET, alts, opened, shown, way_back
from IPython.utils.capture import capture_output

from ddpm_core import PromptWarning
from ddpm_core.course import display

pytestmark = pytest.mark.usefixtures("shell", "no_figure_stays_open")

WORDS = ("red", "green", "blue", "红", "绿", "蓝")


class ByColour:
    """Searches pictures of one colour each: the score is how much they have of what the query names."""

    def __init__(self, pictures: torch.Tensor, labels: list[str]):
        self.labels, self.asked = labels, []
        self.vectors = (pictures.float().mean(dim=(2, 3)) + 1) / 2

    def search(self, query, k=10):
        self.asked.append(query)
        if isinstance(query, str):
            if not query:
                raise ValueError("query is empty")
            known = [word for word in query.split() if word in WORDS]
            if not known:
                raise ValueError(f"no word of {query} is <known>")
            if len(known) < len(query.split()):
                warnings.warn("some words are <not known>", PromptWarning, stacklevel=2)
            vector = sum(torch.eye(3)[WORDS.index(word) % 3] for word in known)
        else:
            vector = (query.mean(dim=(1, 2)) + 1) / 2
        scores, rows = (self.vectors @ vector).topk(k)
        return SimpleNamespace(rows=rows, scores=scores)


def coloured(count: int = 20, size: int = 8) -> torch.Tensor:
    """Pictures (count, 3, size, size), each of one colour; the first is the reddest and the last the bluest."""
    red = torch.linspace(1, -1, count)
    return torch.stack([red, torch.full_like(red, -1), -red], dim=1)[:, :, None, None].expand(-1, -1, size, size)


class Hands:
    """What a learner does with a search box, and sees in it."""

    def __init__(self, pictures: torch.Tensor | None = None, query: str = "red", labels=None, **options):
        self.pictures = coloured() if pictures is None else pictures
        self.labels = labels or [f"picture {i}" for i in range(len(self.pictures))]
        self.index = ByColour(self.pictures, self.labels)
        self.outputs, self.box = shown(display.search_box, self.index, self.pictures, query, **options)
        controls, self._note, both, ways = self.box.children
        self.text, self.button, *examples = controls.children
        self.examples = {button.description: button for button in examples}
        self._sheet, self._over = both.children
        self.back, self.next, self._where = ways.children

    @property
    def covers(self) -> list:
        return list(self._over.children)

    @property
    def note(self) -> str:
        assert "<known" not in self._note.value and "<not" not in self._note.value
        return html.unescape(re.sub(r"<[^>]*>", "", self._note.value))

    @property
    def where(self) -> str:
        return self._where.value

    def seen(self) -> list[str]:
        """The labels under the pictures, each of which is found to be its own."""
        page = self._sheet.value
        images = re.findall(r'base64,([^"]+)"', page)
        labels = [html.unescape(label) for label in re.findall(r'figcaption title="([^"]*)"', page)]
        rows = [self.labels.index(label) for label in labels]
        for image, row in zip(images, rows, strict=True):
            pixels = torch.tensor(np.asarray(opened(base64.b64decode(image)))).permute(2, 0, 1)
            assert (pixels / 127.5 - 1 - self.pictures[row]).abs().max() < 0.01
        assert rows == self.box.page[0] and len(rows) == len(self.covers)
        return labels

    def scores(self) -> list[float]:
        return [float(score) for score in re.findall(r"<b>([-.\d]+)</b>", self._sheet.value)]


def names(*rows: int) -> list[str]:
    return [f"picture {row}" for row in rows]


def test_a_search_box_stands_beside_its_static_twin():
    hands = Hands(k=4)
    assert len(alts(hands.outputs)) == 1 and alts(hands.outputs)[0].startswith("red")
    assert [WIDGET in output.data for output in hands.outputs] == [False, False, True]
    assert "search box" in way_back(hands.outputs)


def test_the_first_page_has_the_best_with_their_scores_in_the_box_and_in_its_twin(monkeypatch):
    twin = {}
    monkeypatch.setattr(
        "ddpm_core.course.display.search.show_pictures",
        lambda pictures, titles, **_: twin.update(pictures=pictures, titles=titles),
    )
    hands = Hands(k=4)
    assert hands.seen() == names(0, 1, 2, 3) and hands.where.startswith("1 to 4 of 20")
    assert hands.scores() == pytest.approx([1 - i / 19 for i in range(4)], abs=0.006)
    assert torch.equal(twin["pictures"], hands.pictures[:4])
    for title, score, name in zip(twin["titles"], hands.scores(), hands.seen(), strict=True):
        assert f"{score:.2f}" in title and name in title


@pytest.mark.parametrize("query", ["blue", "蓝"])
def test_typing_searches_in_any_language_and_at_enter_only(query):
    hands = Hands(k=3)
    hands.text.value = query
    assert hands.seen() == names(19, 18, 17) and query in hands.where and hands.note == ""
    assert not hands.text.continuous_update and hands.index.asked == ["red", query]


def test_what_a_query_lacks_is_said_in_the_box_and_the_pictures_stay():
    hands = Hands(k=3)
    for query, note in {"zebra": "no word of zebra is <known>", "": "query is empty"}.items():
        hands.text.value = query
        assert hands.note == note and hands.seen() == names(0, 1, 2) and "red" in hands.where
    hands.button.click()  # nothing was typed still
    assert hands.note == "query is empty"
    hands.text.value = "blue zebra"
    assert hands.note == "some words are <not known>" and hands.seen() == names(19, 18, 17)
    hands.text.value = "red"
    assert hands.note == "" and hands.seen() == names(0, 1, 2)


def test_pages_lead_to_the_last_picture_and_back():
    hands = Hands(k=8)
    assert hands.back.disabled and not hands.next.disabled
    hands.next.click()
    assert hands.seen() == names(*range(8, 16)) and hands.where.startswith("9 to 16 of 20")
    hands.next.click()
    assert hands.seen() == names(*range(16, 20)) and hands.where.startswith("17 to 20 of 20")
    assert hands.next.disabled and not hands.back.disabled
    hands.back.click()
    hands.back.click()
    assert hands.seen() == names(*range(8)) and hands.back.disabled


def test_clicks_beyond_the_ends_stay_there():
    hands = Hands(k=8)
    hands.back.click()
    assert hands.seen() == names(*range(8))
    for _ in range(5):
        hands.next.click()
    assert hands.seen() == names(*range(16, 20))
    hands.back.click()
    assert hands.seen() == names(*range(8, 16))


def test_another_search_begins_on_its_first_page_and_a_failed_one_leaves_the_page():
    hands = Hands(k=8)
    hands.next.click()
    hands.text.value = "zebra"
    assert hands.seen() == names(*range(8, 16))
    hands.text.value = "blue"
    assert hands.seen() == names(*range(19, 11, -1)) and hands.back.disabled


def test_a_click_on_a_picture_asks_for_more_like_it_and_words_go_on_from_there():
    hands = Hands(k=8)
    hands.next.click()
    hands.next.click()
    hands.covers[3].click()  # the bluest
    assert torch.equal(hands.index.asked[-1], hands.pictures[19]) and len(hands.index.asked) == 2
    assert hands.seen() == names(*range(19, 11, -1)) and "picture 19" in hands.where
    assert hands.text.value == "" and hands.note == ""
    hands.covers[1].click()
    assert torch.equal(hands.index.asked[-1], hands.pictures[18]) and "picture 18" in hands.where
    hands.text.value = "red"  # as before the clicks
    assert hands.seen() == names(*range(8)) and hands.index.asked[-1] == "red"


def test_a_click_means_the_picture_that_was_there():
    hands = Hands(k=8)
    covers = hands.covers
    hands.text.value = "blue"  # typed, and sent on its way by the click itself
    covers[2].click()
    assert torch.equal(hands.index.asked[-1], hands.pictures[2]) and hands.text.value == ""


def test_each_place_has_a_button_that_says_what_it_does():
    hands = Hands(k=8)
    assert [cover.tooltip for cover in hands.covers] == [f"more like number {i + 1}" for i in range(8)]


def test_examples_have_buttons():
    hands = Hands(k=3, examples=["蓝", "red"])
    hands.examples["蓝"].click()
    assert hands.text.value == "蓝" and hands.seen() == names(19, 18, 17)
    hands.covers[0].click()
    hands.examples["蓝"].click()
    assert hands.text.value == "蓝" and isinstance(hands.index.asked[-1], str)
    hands.next.click()
    hands.examples["蓝"].click()  # the field does not change, but the page does
    assert hands.seen() == names(19, 18, 17)


def test_a_page_is_no_longer_than_there_are_pictures():
    hands = Hands(coloured(3), k=12)
    assert hands.seen() == names(0, 1, 2) and hands.back.disabled and hands.next.disabled


def test_labels_may_hold_any_signs():
    labels = ['<script>alert("&")</script>', "a & b", "folder/it's.png"]
    hands = Hands(coloured(3), labels=labels)
    assert hands.seen() == labels and "<script" not in hands._sheet.value


def test_pictures_may_be_bytes():
    bytes_ = ((coloured() + 1) * 127.5).round().to(torch.uint8)
    index = ByColour(coloured(), names(*range(20)))
    _, box = shown(display.search_box, index, bytes_, "red", k=2)
    image = re.findall(r'base64,([^"]+)"', box.children[2].children[0].value)[1]
    pixels = torch.tensor(np.asarray(opened(base64.b64decode(image)))).permute(2, 0, 1)
    assert torch.equal(pixels, bytes_[1])


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"pictures": coloured(19)}, ValueError, ["index.labels", "19 pictures", "20"]),
        ({"pictures": coloured()[0]}, ValueError, ["pictures"]),
        ({"query": 7}, TypeError, ["query", "7"]),
        ({"query": "zebra"}, ValueError, ["zebra"]),
        ({"k": 0}, ValueError, ["k must", "0"]),
        ({"examples": "red"}, TypeError, ["examples", "red"]),
    ],
)
def test_a_search_box_refuses_what_it_cannot_use_before_it_shows_anything(change, error, words):
    arguments = dict(pictures=coloured(), query="red") | change
    with capture_output() as captured, pytest.raises(error) as raised:
        display.search_box(ByColour(coloured(), names(*range(20))), **arguments)
    assert captured.outputs == [] and all(word in str(raised.value) for word in words)
