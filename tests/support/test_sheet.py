"""Pictures with lines of text on a sheet, read again by Pillow."""

import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_core.support.sheet import GAP, LINES, TEXT_SIZE, write_sheet

SIDE = 60
HEIGHT = SIDE + LINES * (TEXT_SIZE + 3) + GAP  # of a cell


def sheet(path, labels, columns=6) -> np.ndarray:
    """What write_sheet makes of blue pictures with these labels: (H, W, 3)."""
    blue = torch.tensor([0, 0, 255], dtype=torch.uint8)[:, None, None].expand(len(labels), 3, SIDE, SIDE)
    write_sheet(blue, labels, path, columns)
    return np.asarray(PIL.Image.open(path))


def text_of(sheet: np.ndarray, i: int, columns: int = 6) -> np.ndarray:
    """The ink, 0 to 255, of the whole column's width below picture i."""
    top, left = GAP + i // columns * HEIGHT + SIDE, GAP + i % columns * (SIDE + GAP)
    return 255 - sheet[top : top + HEIGHT - SIDE, left : left + SIDE + GAP].min(axis=2)


def lines_of(text: np.ndarray) -> list[np.ndarray]:
    height = TEXT_SIZE + 3
    lines = [text[3 + n * height : 3 + (n + 1) * height] for n in range(LINES)]
    return [line for line in lines if line.any()]


@pytest.mark.parametrize("count, columns, across, down", [(1, 6, 1, 1), (7, 3, 3, 3), (6, 6, 6, 1)])
def test_every_picture_has_its_place(count, columns, across, down, tmp_path):
    pixels = sheet(tmp_path / "sheet.png", ["a"] * count, columns)
    assert pixels.shape == (GAP + down * HEIGHT, GAP + across * (SIDE + GAP), 3)
    assert (pixels == [0, 0, 255]).all(axis=2).sum() == count * SIDE**2
    assert all(text_of(pixels, i, columns).any() for i in range(count))


@pytest.mark.parametrize(
    "label, lines", [("", 0), ("one", 1), ("1\ntwo", 2), ("two more words", 2), ("o" * 99, 3), ("火" * 99, 3)]
)
def test_a_label_stays_below_its_picture_however_long_it_is(label, lines, tmp_path):
    ink = text_of(sheet(tmp_path / "sheet.png", [label, ""]), 0)
    assert len(lines_of(ink)) == lines
    assert not ink[:, SIDE + 1 :].any() and not text_of(sheet(tmp_path / "sheet.png", [label, ""]), 1).any()


def test_lines_end_between_words(tmp_path):
    broken = text_of(sheet(tmp_path / "a.png", ["showing america"]), 0)
    assert (broken == text_of(sheet(tmp_path / "b.png", ["showing\namerica"]), 0)).all()


def test_what_does_not_fit_is_cut_and_says_so(tmp_path):
    cut, more = (text_of(sheet(tmp_path / "sheet.png", [f"1\n2\n3{rest}"]), 0) for rest in ("\n4", "\n5"))
    whole = text_of(sheet(tmp_path / "sheet.png", ["1\n2\n3"]), 0)
    assert (cut == more).all() and not (cut == whole).all()


def test_chinese_is_drawn_and_not_as_boxes(tmp_path):
    fire, cat, unknown, other = (text_of(sheet(tmp_path / "sheet.png", [letter]), 0) for letter in "火猫龘鱻")
    assert (unknown == other).all()  # the box, of letters that the font does not have
    assert not (fire == unknown).all() and not (fire == cat).all()


def test_there_is_one_label_for_each_picture(tmp_path):
    with pytest.raises(ValueError):
        write_sheet(torch.zeros(3, 3, 8, 8), ["a", "b"], tmp_path / "sheet.png")
