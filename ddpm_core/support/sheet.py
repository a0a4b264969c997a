"""Pictures on a sheet, each with a few lines of text below it. Nothing here is about diffusion."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ddpm_core.support.files import shipped_file
from ddpm_core.support.pixels import to_pixels

TEXT_SIZE, LINES, GAP = 12, 3, 6  # all but the lines in pixels


def write_sheet(pictures: Tensor, labels: Sequence[str], path: Path, columns: int = 6) -> None:
    """Writes pictures (N, C, H, W), in [-1, 1] or uint8, with one label each, in the format that path's ending names.

    A label is one to three lines, as "\\n" or the width of its picture ends them; what does not fit ends with "…".
    """
    from PIL import Image, ImageDraw

    pixels = to_pixels(pictures)
    N, H, W, _ = pixels.shape
    columns, line, fonts = min(columns, N), TEXT_SIZE + 3, _fonts()
    width, height = W + GAP, H + LINES * line + GAP
    sheet = Image.new("RGB", (columns * width + GAP, math.ceil(N / columns) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        left, top = GAP + i % columns * width, GAP + i // columns * height
        sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), (left, top))
        for number, text in enumerate(_lines(label, W, fonts)):
            x = left
            for letter in text:
                font = _font_of(letter, fonts)
                draw.text((x, top + H + (number + 1) * line), letter, fill="black", font=font, anchor="ls")
                x += font.getlength(letter)
    sheet.save(path)


def _fonts() -> tuple:
    """The font of Pillow, and the course's for Chinese."""
    from PIL import ImageFont

    return ImageFont.load_default(TEXT_SIZE), ImageFont.truetype(shipped_file("NotoSansSC-subset.otf"), TEXT_SIZE)


def _font_of(letter: str, fonts: tuple) -> object:
    return fonts[ord(letter) >= 0x2E80]  # from there on Unicode is East Asian


def _lines(label: str, width: float, fonts: tuple) -> list[str]:
    """The label in lines of no more than width pixels, broken between words where that is possible."""

    def fits(text: str) -> bool:
        return sum(_font_of(letter, fonts).getlength(letter) for letter in text) <= width

    lines = []
    for text in label.split("\n"):
        rest = text
        while rest:
            end = len(rest)
            while end > 1 and not fits(rest[:end]):
                end -= 1
            if end < len(rest) and " " in rest[1 : end + 1]:
                end = rest.rindex(" ", 1, end + 1)
            lines.append(rest[:end])
            rest = rest[end:].lstrip()
    if len(lines) <= LINES:
        return lines
    last = lines[LINES - 1]
    while last and not fits(f"{last}…"):
        last = last[:-1]
    return [*lines[: LINES - 1], f"{last}…"]
