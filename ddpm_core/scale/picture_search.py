"""Pictures found by words or by a picture: among the emoji, in a folder of one's own, or in shards."""

import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_core.checkpoint import SHIPPED, load_checkpoint, load_shipped, model_checksum
from ddpm_core.data import DataUnavailable, EmojiDataset
from ddpm_core.data.captioned_folder import ENDINGS, files_in, no_pictures, pictures_among, read_picture, why_not_read
from ddpm_core.data.emoji import CHECKSUMS
from ddpm_core.data.one_shard import Shard
from ddpm_core.data.shard_files import TARS, are_shards, find_shards
from ddpm_core.data.shards import decoded_picture
from ddpm_core.support.files import make_folder
from ddpm_core.support.notices import collect_notices
from ddpm_core.support.options import pattern_in_quotes
from ddpm_core.support.pixels import read_square
from ddpm_core.support.sheet import write_sheet
from ddpm_core.support.tensor_file import CheckpointError, read_tensors
from ddpm_core.systems.clip import CLIP, encode_in_batches
from ddpm_core.systems.search import FORMAT, IndexMismatch, PictureIndex, query_vector
from ddpm_core.text import split_words

SHOWN = 12  # pictures, where there are so many
SIDE = 128  # pixels of a picture that is shown
AT_ONCE = 256  # pictures that are encoded together


class Sample(NamedTuple):
    place: int | str | list  # where its collection finds it again; what json can hold
    label: str
    picture: Tensor  # uint8 (3, H, W)


class Collection(Protocol):
    """Pictures to be searched.

    name:    by which its index is kept
    stamp:   another one where the pictures are others than before
    count:   of pictures, None where that is not known before they are read
    skipped: how often each reason was met, while they are read
    """

    name: str
    stamp: str
    count: int | None
    skipped: Counter

    def samples(self, size: int) -> Iterator[Sample]:
        """All pictures that can be read, at least as large as size x size where they are that large."""

    def picture(self, place: int | str | list) -> Tensor:
        """One of them, to be shown."""


class Emoji:
    """The course's own, in all styles, under their names in both languages."""

    name = "emoji"

    def __init__(self) -> None:
        self.data, self.stamp, self.skipped = EmojiDataset(split="all"), _stamp(CHECKSUMS.values()), Counter()
        self.count = len(self.data.pictures)

    def samples(self, size: int) -> Iterator[Sample]:
        names = zip(self.data.captions("en"), self.data.captions("zh", with_style=False), strict=True)
        for i, (english, chinese) in enumerate(names):
            yield Sample(i, f"{english} {chinese}", self.data.pictures[i])

    def picture(self, place: int) -> Tensor:
        picture = self.data.pictures[place]
        scale = SIDE // picture.shape[1]
        return picture.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


class Folder:
    """The pictures in and below a folder, under their names, without out: what a search has found is not searched."""

    def __init__(self, folder: str, out: Path) -> None:
        self.root, names = files_in(folder)
        self.name, self.skipped, sheet = str(self.root), Counter(), os.path.realpath(out)
        self.names = [name for name in pictures_among(names) if os.path.realpath(self.root / name) != sheet]
        if not self.names:
            raise DataUnavailable(no_pictures(folder))
        self.stamp, self.count = _stamp(map(_file_stamp, [self.root / name for name in self.names])), len(self.names)

    def samples(self, size: int) -> Iterator[Sample]:
        for name in self.names:
            try:
                yield Sample(name, name, read_square(self.root / name, size))
            except Exception as error:
                self.skipped[f"{name} {why_not_read(error)}"] += 1

    def picture(self, place: str) -> Tensor:
        return read_square(self.root / place, SIDE)


class Shards:
    """Pictures in tar files, under their captions."""

    def __init__(self, pattern: str) -> None:
        self.paths, self.count, self.skipped = find_shards(pattern), None, Counter()
        self.name = " ".join(os.path.realpath(path) for path in self.paths)
        self.stamp = _stamp(map(_file_stamp, self.paths))

    def samples(self, size: int) -> Iterator[Sample]:
        for number, path in enumerate(self.paths):
            for sample in Shard(path).samples():
                picture, reason = (None, sample.reason) if sample.reason else decoded_picture(sample.picture, size)
                if reason:
                    self.skipped[reason] += 1
                else:
                    yield Sample([number, sample.position], sample.caption, picture)

    def picture(self, place: list) -> Tensor:
        number, position = place
        return read_square(io.BytesIO(Shard(self.paths[number]).sample(position).picture), SIDE)


def search_pictures(
    query: Sequence[str],
    where: str,
    model: str,
    k: int | None,
    out: Path,
    index_file: Path | None,
    device: torch.device,
    say: Callable[[str], None],
) -> list[tuple[float, str]]:
    """Scores and labels of the k pictures that fit a query best, best first; the pictures go on a sheet.

    query:      words, or the name of one picture file
    where:      "emoji", a folder, or shards as find_shards takes them
    model:      "clip", or a checkpoint of a CLIP
    k:          None: SHOWN, or all where there are fewer
    out:        the file of the sheet
    index_file: where the index is kept; None: in the user's folder for what can be made again
    say:        is told what a user should know beside the result
    """
    clip = _clip(model, device)
    _check_where(where)
    with collect_notices() as notices:
        vector = _vector(clip, query, where)  # what is wrong with it shows at once
    for notice in notices:
        say(f"Note: {notice}")
    collection = _collection(where, out)
    index = kept_index(clip, collection, index_file, say)
    rows, scores = (found.tolist() for found in index.nearest(vector, k or min(SHOWN, len(index))))
    labels = [_printable(index.labels[row]) for row in rows]
    pictures = torch.stack([collection.picture(index.notes["places"][row]) for row in rows])
    lines = zip(scores, labels, strict=True)
    write_sheet(pictures, [f"{rank}  {score:.2f}\n{label}" for rank, (score, label) in enumerate(lines, start=1)], out)
    return list(zip(scores, labels, strict=True))


def kept_index(clip: CLIP, collection: Collection, file: Path | None, say: Callable[[str], None]) -> PictureIndex:
    """The index of a collection: out of its file where it is still right, or made anew and kept there.

    Raises ValueError where a file that the user names is the index of something else, CheckpointError where it is none.
    """
    path = file or _file_of(collection.name, clip)
    if file:
        make_folder(file)
        _check_index_file(file, collection)
    try:
        index = PictureIndex.load(path, clip)
        if index.notes.get("stamp") == collection.stamp:
            return index
        say("The pictures are not those that the index was made of: it is made anew.")
    except FileNotFoundError:
        pass
    except IndexMismatch:
        say("The index was made by another model: it is made anew.")
    except CheckpointError as error:
        say(f"{error}: it is made anew.")
    index = _new_index(clip, collection, say)
    try:
        index.save(path)
    except OSError as error:
        say(f"The index is not kept, and made again the next time: {error}")
    return index


def _check_index_file(file: Path, collection: Collection) -> None:
    """A file that the user names is overwritten only where it is an index of the same pictures, by whatever model."""
    if file.exists():
        _, metadata = read_tensors(file, (FORMAT,), "index")
        if json.loads(metadata["notes"]).get("of") != collection.name:
            raise ValueError(f"{file} is an index of other pictures: give another name, or remove it")


def _new_index(clip: CLIP, collection: Collection, say: Callable[[str], None]) -> PictureIndex:
    places, labels, vectors = [], [], []
    samples = collection.samples(_side(clip))
    with tqdm(total=collection.count, unit="picture", ncols=90) as bar:
        while some := list(islice(samples, AT_ONCE)):
            places += [sample.place for sample in some]
            labels += [sample.label for sample in some]
            vectors.append(encode_in_batches(clip, torch.stack([sample.picture for sample in some])))
            bar.update(len(some))
    skipped = [f"{count} x {reason}" if count > 1 else reason for reason, count in collection.skipped.items()]
    report = _printable(", ".join(skipped[:10])) + (f" and {len(skipped) - 10} more" if len(skipped) > 10 else "")
    if not labels:
        raise DataUnavailable(f"there is no picture that can be used; skipped: {report}")
    if skipped:
        say(f"{len(labels)} picture{'s' * (len(labels) > 1)}; {collection.skipped.total()} skipped: {report}")
    notes = dict(of=collection.name, stamp=collection.stamp, places=places)
    return PictureIndex(clip, torch.cat(vectors), labels, notes)


def _clip(model: str, device: torch.device) -> CLIP:
    if model in SHIPPED and model != "clip" and not Path(model).is_file():
        raise ValueError(f"{model} is no CLIP, and the search needs one: --model clip, or a FILE")
    if model == "clip":
        return load_shipped(model, CLIP, device).model
    clip = load_checkpoint(Path(model), device).model
    if not isinstance(clip, CLIP):
        raise CheckpointError(f"{model} holds the network {type(clip).__name__}, and a search needs a CLIP")
    return clip


def _check_where(where: str) -> None:
    if where.lower().endswith(ENDINGS) and not os.path.isdir(os.path.expanduser(where)):
        parent = os.path.dirname(re.split(r"[*?[{]", where)[0]) or "."
        raise ValueError(f"--in {where} is no folder, and patterns are for tar files: give the folder, --in {parent}")


def _collection(where: str, out: Path) -> Collection:
    if where == "emoji":
        return Emoji()
    return Shards(where) if are_shards(where) else Folder(where, out)


def _vector(clip: CLIP, words: Sequence[str], where: str) -> Tensor:
    """The vector of a query as it is typed. What is no query is named, with what was likely meant."""
    query = " ".join(words)
    if tar := next((word for word in words if word.lower().endswith(TARS)), None):
        is_pattern = where.lower().endswith(TARS)
        raise ValueError(
            pattern_in_quotes("--in", tar) if is_pattern else f"{tar} is no query: to search in it, --in {tar}"
        )
    if len(words) == 1 and _is_path(query):
        if os.path.isdir(os.path.expanduser(query)):
            raise ValueError(f"{query} is a folder: to search in it, --in {query}")
        return query_vector(clip, read_picture(query, _side(clip)))
    if path := next(filter(_is_path, query.split()), None):
        raise ValueError(
            f"a query is one picture, or words: {path} stands among others (a name with spaces needs quotes)"
        )
    if query.strip() and not split_words(query):
        raise ValueError(f"{query} holds no word: type the name, such as rocket")
    try:
        return query_vector(clip, query)
    except ValueError as error:
        hint = f"; to search in the folder {query}: --in {query}" if os.path.isdir(query) else ""
        raise ValueError(f"{error}{hint}") from error


def _is_path(word: str) -> bool:
    is_there = any(sign in word for sign in (os.sep, ".")) and os.path.exists(os.path.expanduser(word))
    return is_there or word.lower().endswith(ENDINGS)


def _side(clip: CLIP) -> int:
    return max(clip.image_encoder.config["picture_size"])


def _file_of(name: str, clip: CLIP) -> Path:
    """Where a model's index of a collection is kept: out of the way, so that the pictures' folder may be read-only."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ddpm_core"
    readable = re.sub(r"\W+", "-", Path(name).name)[:40]
    return folder / f"{readable}-{_stamp([name, model_checksum(clip)])[:12]}.safetensors"


def _file_stamp(path: Path | str) -> str:
    stat = os.stat(path)
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _stamp(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()


def _printable(text: str) -> str:
    """On one line; a name that is not UTF-8 could not be printed."""
    return " ".join(text.split()).encode(errors="backslashreplace").decode()
