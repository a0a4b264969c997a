"""1,377 emoji, 32x32 on white, with their names in English and Chinese: from the font Noto Color Emoji and Unicode."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddpm_core.support import guards
from ddpm_core.support.files import DataUnavailable, data_folder, shipped_file
from ddpm_core.support.pixels import from_bytes, read_rgb

LANGUAGES = ("en", "zh")
SIZE = 32  # of a cell of the sheet


class EmojiDataset(Dataset):
    """Pairs of a picture (3, 32, 32), float32 in [-1, 1], and a caption such as 'red apple' or '红苹果'.

    languages:  which captions; each emoji appears once in each, first all in languages[0], then all in languages[1]:
                item k * len(characters) + i is emoji i with its caption in languages[k]
    pictures:   all of them, (N, 3, 32, 32) float32 in [-1, 1]
    characters: the N emoji themselves, in Unicode's order
    captions:   for each language the N captions, no two of them the same

    Raises ValueError for another language, and DataUnavailable where a file is missing or damaged.
    """

    def __init__(self, languages: Sequence[str] = LANGUAGES):
        guards.several("languages", languages, "languages")
        self.languages = tuple(languages)
        is_wrong = any(each not in LANGUAGES or self.languages.count(each) > 1 for each in self.languages)
        if is_wrong or not self.languages:
            raise ValueError(f"languages must be among {', '.join(LANGUAGES)}, each once; got {list(self.languages)}")
        try:
            lines = shipped_file("emoji.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines]
            self.characters = [row["emoji"] for row in rows]
            self.captions = {language: [row[language] for row in rows] for language in self.languages}
            self.pictures = _cells(read_rgb(shipped_file("emoji.png")), len(rows))
        except FileNotFoundError as error:
            raise DataUnavailable(str(error)) from error
        except Exception as error:  # from damaged files, Pillow and our own lines raise nearly anything
            raise DataUnavailable(
                f"emoji.png or emoji.jsonl in {data_folder()} is damaged; get both back with: "
                f"git checkout -- data/emoji.png data/emoji.jsonl ({error})"
            ) from error

    def __len__(self) -> int:
        """The number of pairs: as many as emoji, times the languages."""
        return len(self.languages) * len(self.characters)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """The picture (3, 32, 32) and its caption. Raises IndexError beyond the last."""
        index = range(len(self))[index]  # which counts from the end, too, and checks
        language, i = divmod(index, len(self.characters))
        return self.pictures[i], self.captions[self.languages[language]][i]


def _cells(sheet: Tensor, num_emoji: int) -> Tensor:
    """The first num_emoji cells of a sheet (3, H, W) uint8. Raises ValueError unless exactly these are drawn on."""
    cells = sheet.unflatten(2, (-1, SIZE)).unflatten(1, (-1, SIZE))  # (3, row, y, column, x)
    cells = cells.permute(1, 3, 0, 2, 4).flatten(0, 1)  # (cell, 3, y, x)
    is_drawn_on = (cells != 255).flatten(1).any(1)
    if not torch.equal(is_drawn_on, torch.arange(len(cells)) < num_emoji):
        raise ValueError(f"emoji.png has {int(is_drawn_on.sum())} emoji, emoji.jsonl names {num_emoji}")
    return from_bytes(cells[:num_emoji])
