"""A folder of one's own pictures with captions, laid out as Hugging Face's ImageFolder wants it."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddpm_core.support import guards
from ddpm_core.support.files import DataUnavailable
from ddpm_core.support.pixels import from_bytes, read_square

ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
METADATA = ("metadata.jsonl", "metadata.csv")
EXAMPLE = '{"file_name": "cat.png", "text": "a cat"}'


@dataclass(eq=False)
class CaptionedPictures(Dataset):
    """Pictures with captions, for PyTorch's DataLoader too: [i] is (picture, caption). Printed, it is a report.

    pictures: float32 (N, 3, size, size) in [-1, 1]; a picture with two captions is there twice
    captions: N strings
    files:    N names, relative to the folder
    skipped:  the reason for each file that was left out
    """

    pictures: Tensor
    captions: list[str]
    files: list[str]
    skipped: dict[str, str]

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, i: int) -> tuple[Tensor, str]:
        return self.pictures[i], self.captions[i]

    def __repr__(self) -> str:
        """Such as '2 pictures with 3 captions; 1 skipped: lonely.png (no caption)'."""
        counts = ((len(set(self.files)), "picture"), (len(self), "caption"))
        report = " with ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts)
        reasons = [f"{name} ({reason})" for name, reason in self.skipped.items()]
        rest = f" and {len(reasons) - 10} more" if len(reasons) > 10 else ""
        report += f"; {len(reasons)} skipped: {', '.join(reasons[:10])}{rest}" if reasons else "; none skipped"
        return report.encode(errors="backslashreplace").decode()  # a name that is not UTF-8 could not be printed


def load_captioned_folder(folder: Path | str, size: int, progress: bool = True) -> CaptionedPictures:
    """The pictures of folder, cut square around their centre and resized to size x size, with their captions.

    Where folder has a metadata.jsonl, it decides: one JSON object per line, such as {"file_name": "sub/cat.png",
    "text": "a cat"} ("caption" works for "text"); or a metadata.csv with columns of these names. Otherwise the captions
    of sub/cat.png are the lines of sub/cat.txt. Several captions make several samples. The order is that of the
    metadata, or of the names.

    Pictures are read as by support.pixels.read_square. A file that cannot be used is skipped with the reason. Raises
    ValueError for a size below 1 or a wrong line in the metadata, and DataUnavailable where no picture is left.
    """
    from tqdm import tqdm

    guards.whole_number("size", size)
    root, names = files_in(folder)
    found = pictures_among(names)
    if metadata := next((name for name in METADATA if (root / name).is_file()), None):
        samples = _captions_in_metadata(root, metadata)
        listed = {name for name, _ in samples}
        skipped = {name: f"not in {metadata}" for name in found if name not in listed}
    else:
        samples, skipped = _captions_beside(root, found, names)
    if not samples and not skipped:
        raise DataUnavailable(no_pictures(folder))

    squares = {}  # in bytes until all are read: floats would take four times the memory, and once for each caption
    captioned = dict.fromkeys(name for name, caption in samples if caption)
    skipped |= {name: "empty caption" for name, _ in samples if name not in captioned}
    skipped |= {name: "does not exist" for name in captioned if not os.path.isfile(root / name)}
    to_read = [name for name in captioned if name not in skipped]
    for name in tqdm(to_read, unit="picture", ncols=90, disable=not progress):
        try:
            squares[name] = read_square(root / name, size)
        except Exception as error:
            skipped[name] = why_not_read(error)
    samples = [(name, caption) for name, caption in samples if caption and name in squares]
    skipped = dict(sorted(skipped.items()))
    if not samples:
        report = CaptionedPictures(torch.empty(0), [], [], skipped)
        raise DataUnavailable(
            f"{folder} has no picture with a caption that can be used: {report}. Captions are lines such as {EXAMPLE} "
            "in metadata.jsonl, or a cat.txt beside cat.png"
        )
    files, captions = (list(column) for column in zip(*samples, strict=True))
    pictures = from_bytes(torch.stack([squares[name] for name in files]))
    return CaptionedPictures(pictures, captions, files, skipped)


def files_in(folder: Path | str) -> tuple[Path, list[str]]:
    """The folder's real path, and the names of all files in and below it, sorted, without hidden ones.

    Raises DataUnavailable where it is no folder.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise DataUnavailable(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    root = folder.resolve()
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    # Without .DS_Store, ._cat.png and whatever else is hidden.
    return root, sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def pictures_among(names: Sequence[str]) -> list[str]:
    """Those of files that are pictures, by their endings."""
    return [name for name in names if name.lower().endswith(ENDINGS)]


def no_pictures(folder: Path | str) -> str:
    """What to say of a folder without any."""
    return f"{folder} has no pictures; they end in {', '.join(ENDINGS)}"


def why_not_read(error: Exception) -> str:
    """The reason to skip a picture: from a damaged file, PIL's decoders raise nearly anything."""
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def read_picture(name: str, size: int) -> Tensor:
    """One picture that a user names, as read_square. Raises FileNotFoundError, or ValueError with the reason."""
    path = Path(os.path.expanduser(name))
    if not path.is_file():
        what = f"{name} is a folder, not a picture" if path.is_dir() else f"there is no picture {name}"
        raise FileNotFoundError(what)
    try:
        return read_square(path, size)
    except Exception as error:
        raise ValueError(f"{name} {why_not_read(error)}") from error


def _leads_outside(root: Path, name: str) -> bool:
    """Whether name is a way out of root: absolute, with '..', or by a symbolic link."""
    return os.path.isabs(name) or not Path(os.path.realpath(root / name)).is_relative_to(root)


def _captions_in_metadata(root: Path, metadata: str) -> list[tuple[str, str]]:
    """(file, caption) for each line of the metadata. Raises ValueError with the number of a wrong line."""
    samples = []
    lines = (root / metadata).read_bytes().splitlines(keepends=True)  # a str would also end lines inside captions
    if metadata.endswith(".csv"):
        reader = csv.DictReader(line.decode("utf-8-sig", errors="surrogateescape") for line in lines)
        entries = ((reader.line_num, {name: text for name, text in row.items() if text is not None}) for row in reader)
    else:
        entries = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for number, entry in entries:
        try:
            samples.append(_checked(root, _parsed(entry) if isinstance(entry, bytes) else entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{root / metadata}, line {number}: {error}") from error
    return samples


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        detail = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(f"this is not JSON in UTF-8 ({detail})") from error


def _checked(root: Path, entry: object) -> tuple[str, str]:
    """(file, caption) of one line. Raises ValueError or TypeError with what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError(f"this must be an object such as {EXAMPLE}; got {guards.describe(entry)}")
    if "caption" in entry:  # as many other folders call it
        entry.setdefault("text", entry["caption"])
    for key in ("file_name", "text"):
        if key not in entry:
            raise ValueError(f'"{key}" is missing; a line looks like {EXAMPLE}')
        guards.text(f'"{key}"', entry[key])
        if "\0" in entry[key] or any("\ud800" <= character <= "\udfff" for character in entry[key]):
            raise ValueError(f'"{key}" holds half a character or none: {guards.describe(entry[key])}')
    name = Path(os.path.normpath(entry["file_name"])).as_posix()  # ./cat.png and cat.png are one picture
    if name == "." or _leads_outside(root, name):
        raise ValueError(f'"file_name" must be relative and lie inside the folder; {entry["file_name"]!r} does not')
    return name, entry["text"].strip()


def _captions_beside(root: Path, found: list[str], names: list[str]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(picture, caption) for each line of each picture's text file, and the pictures that have none."""
    texts = {os.path.splitext(name)[0]: name for name in names if name.lower().endswith(".txt")}
    samples = []
    with_caption = [name for name in names if os.path.splitext(name)[0] in texts and name not in texts.values()]
    skipped = {name: "no picture that can be read here" for name in with_caption if name not in found}
    for name in found:
        text = texts.get(os.path.splitext(name)[0])
        if text is None:
            skipped[name] = "no caption"
        elif _leads_outside(root, name) or _leads_outside(root, text):
            skipped[name] = "a link that leads outside the folder"
        else:
            try:
                lines = (root / text).read_text(encoding="utf-8-sig").strip().split("\n")
                samples += [(name, line.strip()) for line in lines]
            except UnicodeDecodeError:
                skipped[name] = f"{text} is not UTF-8"
            except OSError as error:
                skipped[name] = f"{text} cannot be read: {error.strerror}"
    return samples, skipped
