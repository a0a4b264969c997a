"""1,377 emoji in up to seven styles, 64x64 on white, with their names in English and Chinese."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ddpm_core.support import guards
from ddpm_core.support.files import reading
from ddpm_core.support.pixels import from_bytes, read_rgb

# The style words of captions. "fluent" has shades and highlights, "flat" is the same set in plain colours, and "blob"
# is the old noto, whose faces are no circles. See data/README.md for who drew them.
STYLES = ("noto", "blob", "twemoji", "openmoji", "fluent", "flat", "emojione")
LANGUAGES = ("en", "zh")
SPLITS = ("train", "withheld", "all")
CELL = 64  # pixels, of a cell of a sheet
SIZES = (1, 2, 4, 8, 16, 32, 64)  # what divides it
CHECKSUMS = {
    "emoji.jsonl": "02b8e50899e5a0a2d143be3186c781beafdee9154f11a644fdea24a1f630d3a3",
    "emoji/noto.webp": "5b31476baa76c0cdff457c804f0e7a64aebb9f9b893a1bdeb5f7e959d666c6db",
    "emoji/blob.webp": "42b26f50d08d99096ca52f59cfd3d09c7cfd383c1b6e225f540563a1a3429877",
    "emoji/twemoji.webp": "dda945a2af6483381ca1c3d2963629f95cccd4713295a80273d31541009a2185",
    "emoji/openmoji.webp": "8347debea7bdc82f9014bcdafb7b33df11b503d48fe3b18ff2c40e6b53757020",
    "emoji/fluent.webp": "70e630d57463ac9c29f9aa6b8998d815a37291141e3e039d9898616485e53854",
    "emoji/flat.webp": "497f4337dc6ffb9f504c695bec7abb7d7b1bf790afd02c6f222a4b13cf0d44ea",
    "emoji/emojione.webp": "1f293cc9d0af31ef7b48df1d868547268af642f6321c0df3fce3bda39c5ca6f8",
}  # sha256 of the files in data/


class EmojiDataset(Dataset):
    """Pairs of a picture (3, size, size), float32 in [-1, 1], and a caption such as 'openmoji rocket' or '火箭'.

    size:      pixels, a number that divides 64; smaller ones are averages over squares of pixels
    styles:    which of STYLES; their words stand before the name in a caption
    languages: which of 'en', 'zh'
    split:     'train'; 'withheld', 399 pairs of style and name that nobody trains on, 57 of each style, so that they
               test whether a model composes what it knows (each name is trained on in two or more other styles); 'all'

    Picture i shows emoji name_ids[i] in style style_ids[i], all of styles[0] first. Each appears with every caption:
    item k * len(pictures) + i is picture i with its caption in languages[k], and after all of these come the same
    again with captions without the style.

    pictures:    (N, 3, size, size) uint8, 0 to 255: train takes them as they are
    name_ids:    (N,), 0 to 1376, positions in characters and in names
    style_ids:   (N,), positions in styles
    is_withheld: (N,) bool
    is_everyday: (N,) bool: what a single English word names, and every style draws, such as a rocket; 346 emoji
    characters:  the 1,377 emoji themselves, in Unicode's order, of whatever split
    names:       for each language the names of these, no two of them the same

    Raises ValueError for another size, style, language or split, and DataUnavailable where a file is missing or
    damaged.
    """

    def __init__(
        self,
        size: int = CELL,
        styles: Sequence[str] = STYLES,
        languages: Sequence[str] = LANGUAGES,
        split: str = "train",
    ):
        guards.one_of("size", size, SIZES)
        guards.some_of("styles", styles, STYLES)
        guards.some_of("languages", languages, LANGUAGES)
        guards.one_of("split", split, SPLITS)
        self.styles, self.languages, self.split = tuple(styles), tuple(languages), split
        lines = _whole_file("emoji.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        self.characters = [row["emoji"] for row in rows]
        self.names = {language: [row[language] for row in rows] for language in self.languages}
        everyday = torch.tensor([row["en"].isalpha() and len(row["styles"]) == len(STYLES) for row in rows])
        pictures, name_ids, style_ids, is_withheld = [], [], [], []
        for style_id, style in enumerate(self.styles):
            withheld = torch.tensor([row["withheld"] == style for row in rows])
            in_split = {"train": ~withheld, "withheld": withheld, "all": torch.tensor(True)}[split]
            ids = torch.nonzero(torch.tensor([style in row["styles"] for row in rows]) & in_split)[:, 0]
            pictures.append(_cells(read_rgb(_whole_file(f"emoji/{style}.webp")), int(size))[ids])
            name_ids.append(ids)
            style_ids.append(torch.full_like(ids, style_id))
            is_withheld.append(withheld[ids])
        self.pictures, self.name_ids = torch.cat(pictures), torch.cat(name_ids)
        self.style_ids, self.is_withheld = torch.cat(style_ids), torch.cat(is_withheld)
        self.is_everyday = everyday[self.name_ids]

    def __len__(self) -> int:
        """The number of pairs: as many as pictures, times the languages, with and without the style."""
        return 2 * len(self.languages) * len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """The picture (3, size, size) and its caption. Raises IndexError beyond the last."""
        index = range(len(self))[index]  # which counts from the end, too, and checks
        block, i = divmod(index, len(self.pictures))
        language = self.languages[block % len(self.languages)]
        return from_bytes(self.pictures[i]), self.caption(i, language, with_style=block < len(self.languages))

    def caption(self, i: int, language: str = "en", with_style: bool = True) -> str:
        """What picture i shows, in words: 'openmoji rocket', or 'rocket' without the style."""
        guards.one_of("language", language, self.languages)
        name = self.names[language][self.name_ids[i]]
        return f"{self.styles[self.style_ids[i]]} {name}" if with_style else name

    def captions(self, language: str = "en", with_style: bool = True) -> list[str]:
        """The caption of each of pictures."""
        return [self.caption(i, language, with_style) for i in range(len(self.pictures))]

    def row(self, style: str, name: str) -> int:
        """Which of pictures shows an emoji, given by its name or as a character, in a style: data.row('flat', '🚀').

        Raises ValueError where none does.
        """
        guards.one_of("style", style, self.styles)
        for names in (self.characters, *self.names.values()):
            if name in names:
                is_it = (self.name_ids == names.index(name)) & (self.style_ids == self.styles.index(style))
                if is_it.any():
                    return int(is_it.nonzero()[0])
        raise ValueError(f"there is no {style} picture of {name!r} in the split {self.split!r}")


def _whole_file(name: str) -> Path:
    """The path of a file of the course. Raises DataUnavailable where it is missing or not what it was."""
    with reading(name) as (path,):
        if hashlib.sha256(path.read_bytes()).hexdigest() != CHECKSUMS[name]:
            raise ValueError("its checksum is another one")
    return path


def _cells(sheet: Tensor, size: int) -> Tensor:
    """A sheet (3, H, W) uint8 -> its cells (N, 3, size, size) uint8, from left to right and from top to bottom."""
    cells = sheet.unflatten(2, (-1, CELL)).unflatten(1, (-1, CELL))  # (3, row, y, column, x)
    cells = cells.permute(1, 3, 0, 2, 4).flatten(0, 1)  # (cell, 3, y, x)
    if size == CELL:
        return cells
    return F.avg_pool2d(cells.float(), CELL // size).round().to(torch.uint8)
