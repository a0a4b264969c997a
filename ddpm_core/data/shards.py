"""Pictures with captions in shards, for data bigger than memory: tar files as img2dataset writes them.

A shard holds 000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg and so on, some thousand samples. Shards are
read from one end to the other, which is what discs and networks do best, and shuffled in two steps: the order of the
shards, and a buffer through which the samples pass.
"""

import io
import itertools
import json
import os
import random
import signal
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ddpm_core.data.captioned_folder import read_square
from ddpm_core.support.atomic import atomic_write
from ddpm_core.support.files import DataUnavailable
from ddpm_core.support.guards import check_pictures, describe

PICTURES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}  # ending -> Pillow's name for it
TARS = (".tar", ".tar.gz", ".tgz")
BUFFERS = 20  # after this many times as many others as the buffer holds, a sample has left it, nearly surely (e^-20)


def write_shards(
    folder: Path | str,
    pictures: Tensor,
    captions: Sequence[str],
    samples_per_shard: int = 1000,
    image_format: str = "png",
) -> list[Path]:
    """Writes pictures (N, 3, H, W) in [-1, 1] and N captions to folder/00000.tar, 00001.tar...; returns these paths.

    image_format: png keeps 8 bits a colour exactly; jpg and webp are smaller and lossy. Each shard appears whole or
    not at all. Raises ValueError for arguments that do not fit, FileExistsError where other shards are in the way.
    """
    wds = _webdataset()
    _check_samples(pictures, captions)
    _check_whole("samples_per_shard", samples_per_shard, 1)
    if image_format not in PICTURES:
        raise ValueError(f"image_format must be one of {', '.join(PICTURES)}; got {describe(image_format)}")
    folder = Path(folder).expanduser()
    starts = range(0, len(captions), samples_per_shard)
    paths = [folder / f"{number:05d}.tar" for number in range(len(starts))]
    digits = max(4, len(str(samples_per_shard - 1)))  # four, as for the 10,000 that img2dataset packs by default
    folder.mkdir(parents=True, exist_ok=True)
    if others := sorted(set(folder.glob("*.tar")) - set(paths)):
        raise FileExistsError(f"{others[0]} is already there and would mix with the new shards; give an empty folder")
    for number, (start, path) in enumerate(zip(starts, paths, strict=True)):
        with atomic_write(path) as file, wds.TarWriter(file, mtime=0, compress=False) as shard:
            for i in range(start, min(start + samples_per_shard, len(captions))):
                key = f"{number:05d}{i - start:0{digits}d}"
                about = {"key": key, "caption": captions[i], "width": pictures.shape[3], "height": pictures.shape[2]}
                picture = _encode(pictures[i], PICTURES[image_format])
                shard.write({"__key__": key, image_format: picture, "txt": captions[i], "json": about})
    return paths


class PictureTextShards:
    """Endless batches of pictures and captions out of shards, for one rank; the same ones each time it is asked.

    pattern:        shards/{00000..00009}.tar, shards/*.tar, a folder, or a list of paths
    picture_size:   each picture becomes RGB, its short side this long, and is cut square around its centre
    batch_size:     this rank's share of a batch; there are num_ranks ranks, each on shards of its own
    num_workers:    processes that read and decode; fewer where there are not enough shards
    shuffle_buffer: how many samples (still compressed) each of them shuffles; the order depends on this, on
                    num_workers, num_ranks, seed and the list of shards (with workers, on batch_size, too)

    shards:  the paths, in order
    skipped: a Counter of why samples were left out, by reason, that grows as batches are read

    In an epoch each good sample comes once, over all ranks and workers, each of which begins the next epoch when its
    own shards are done. The last samples of an epoch share a batch with the first of the next. Beside a shard that was
    read to its end, 00000.tar.checked.json says which samples are bad (where the folder can be written), so that
    nothing is decoded twice to learn it.

    Raises ValueError for arguments out of range, DataUnavailable where the pattern finds no shard or a shard is
    missing, and ImportError without the webdataset library.
    """

    def __init__(
        self,
        pattern: str | Path | Sequence[str | Path],
        picture_size: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        num_workers: int = 0,
        shuffle_buffer: int = 1000,
    ):
        _webdataset()  # if it is missing, this is the time to say so
        for name, value in dict(picture_size=picture_size, batch_size=batch_size, num_ranks=num_ranks).items():
            _check_whole(name, value, 1)
        for name, value in dict(seed=seed, num_workers=num_workers, shuffle_buffer=shuffle_buffer, rank=rank).items():
            _check_whole(name, value, 0)
        if rank >= num_ranks:
            raise ValueError(f"rank counts from 0 and must be less than num_ranks, {num_ranks}; got {rank}")
        self.shards = _find_shards(pattern)
        if num_ranks > len(self.shards):
            raise ValueError(
                f"num_ranks must be at most the number of shards, so that each process (rank) has its own; got "
                f"{num_ranks} processes for {len(self.shards)} shards: start fewer, or pack smaller shards"
            )
        self.pattern, self.picture_size, self.batch_size, self.seed = pattern, picture_size, batch_size, seed
        self.rank, self.num_ranks, self.shuffle_buffer = rank, num_ranks, shuffle_buffer
        self.num_workers = min(num_workers, len(self.shards) // num_ranks)
        self.skipped: Counter[str] = Counter()
        self._shards: dict[str, _Shard] = {}

    def captions(self) -> Iterator[str]:
        """The captions of all shards, in order and once; no picture is read, so damaged ones' captions are there."""
        for path in self.shards:
            for sample in _Shard(path).samples(with_pictures=False):
                if not sample.reason:
                    yield sample.caption

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, list[str]]]:
        """Pictures (batch_size, 3, picture_size, picture_size) float32 in [-1, 1] and captions, without end.

        start: the number of the first batch. It is the same, bit for bit, as if the batches before it had been read.
        That takes next to no time where the shards before it are known (read to their end before: checked.json). In
        others, each picture is decoded again to see whether it is bad, so it takes as long as reading it all did.

        Raises ValueError for a start below 0, and DataUnavailable where no shard has a good sample.
        """
        _check_whole("start", start, 0)
        loader = DataLoader(
            _Batches(self, start),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=tuple,  # as they are
            generator=torch.Generator(),  # the default would draw from the one that training draws its noise from
            worker_init_fn=_leave_ctrl_c_to_the_reader,
        )
        for pictures, captions, skipped in _explain_dead_workers(loader):
            self.skipped.update(skipped)
            if not captions:
                reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(self.skipped.items()))
                pattern = self.pattern if isinstance(self.pattern, str | Path) else describe(self.pattern)
                raise DataUnavailable(
                    f"{pattern} has no sample that can be used in {len(self.shards)} shards, only: {reasons}"
                )
            yield pictures.float().div_(127.5).sub_(1), captions

    def _batches(self, stream: int, num_streams: int, start: int) -> Iterator[tuple[Tensor | None, list, Counter]]:
        """The batches of one of num_streams streams, which split each epoch's shards: bytes, captions, skipped."""
        to_pass = start * self.batch_size  # good samples that are not wanted again
        barren: set[str] = set()  # shards read since the last good sample
        pictures, captions, skipped = [], [], Counter()

        def samples(shard: _Shard) -> Iterator[_Sample]:
            # Far before the first sample that is wanted, it only matters how many there are.
            is_far = shard.is_known and to_pass > shard.num_good + BUFFERS * self.shuffle_buffer
            return shard.places() if is_far else shard.samples()

        for epoch in itertools.count():
            shards = self._shards_of(epoch, stream, num_streams)
            num_good = sum(shard.num_good for shard in shards) if all(shard.is_known for shard in shards) else 0
            if 0 < num_good <= to_pass:
                to_pass, barren = to_pass - num_good, set()
                skipped.update(reason for shard in shards for reason in shard.bad.values())
                continue
            is_barren = True
            in_order = itertools.chain.from_iterable(map(samples, shards))
            rng, size = random.Random(f"{self.seed} {epoch} {stream}"), self.shuffle_buffer
            for sample in _webdataset().shuffle(size, initial=size, rng=rng)(in_order):
                pixels, reason = None, sample.reason or sample.shard.bad.get(sample.position)
                if sample.picture is None and not reason and not to_pass:
                    sample = sample.shard.sample(sample.position)
                    reason = sample.reason
                if not reason and (not to_pass or not sample.shard.is_known):
                    pixels, reason = _decode(sample.picture, self.picture_size)
                sample.shard.judge(sample, reason)
                if reason:
                    skipped[reason] += 1
                    continue
                is_barren = False
                if to_pass:
                    to_pass -= 1
                    continue
                pictures.append(pixels)
                captions.append(sample.caption)
                if len(captions) == self.batch_size:
                    yield torch.stack(pictures), captions, skipped
                    pictures, captions, skipped = [], [], Counter()
            barren = barren.union(shard.path for shard in shards) if is_barren else set()
            if len(barren) == len(self.shards):
                yield None, [], skipped  # an exception raised in a worker would reach the reader as a traceback
                return

    def _shards_of(self, epoch: int, stream: int, num_streams: int) -> list["_Shard"]:
        paths = list(self.shards)
        random.Random(f"{self.seed} {epoch}").shuffle(paths)
        # Streams take turns at being the one that gets a shard more, or it would run ahead of the others.
        mine = paths[(stream + epoch) % num_streams :: num_streams]
        for path in mine:
            if path not in self._shards:
                self._shards[path] = _Shard(path)
        return [self._shards[path] for path in mine]


class _Batches(IterableDataset):
    """What a DataLoader reads, in one process or in several: workers w, w + 1... take turns, as streams do."""

    def __init__(self, shards: PictureTextShards, start: int):
        self.shards, self.start = shards, start

    def __iter__(self) -> Iterator[tuple[Tensor | None, list, Counter]]:
        worker = get_worker_info()
        num_workers = worker.num_workers if worker else 1
        # Batch k is of stream k % num_workers. The DataLoader begins with its worker 0, whatever k is.
        number = (self.start + (worker.id if worker else 0)) % num_workers
        start = -(-(self.start - number) // num_workers)
        stream = self.shards.rank * num_workers + number
        return self.shards._batches(stream, self.shards.num_ranks * num_workers, start)


def _leave_ctrl_c_to_the_reader(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that trains decides when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _explain_dead_workers(loader: DataLoader) -> Iterator:
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataUnavailable(
            "a process that reads the shards has ended, perhaps for lack of memory (in a container, of shared memory): "
            f"try fewer num_workers, or none ({error})"
        ) from error


@dataclass(slots=True)
class _Sample:
    """What is in a shard at a position; where reason is not empty, it is why this is of no use."""

    shard: "_Shard"
    position: int
    picture: bytes | None  # None: not read
    caption: str
    reason: str


class _Shard:
    """A shard, and what is known of its samples: whether a picture is bad is only seen when it is decoded.

    bad:      the reason against each sample that is of no use, by its position
    is_known: whether bad has them all
    """

    def __init__(self, path: str):
        self.path, self._notes = path, Path(f"{path}.checked.json")
        self.bad: dict[int, str] = {}
        self._judged: set[int] = set()
        self._num_samples: int | None = None
        self._damage, self._is_readable = "", True
        self.is_known = self._read_notes()

    @property
    def num_good(self) -> int:
        """Of a shard that is known."""
        return self._num_samples - len(self.bad)

    def samples(self, with_pictures: bool = True) -> Iterator[_Sample]:
        """All samples in order; those that are seen to be bad without decoding have their reason."""
        tars = _webdataset().tariterators
        position, last = 0, None
        # Of two files with one name in a sample, webdataset calls the handler and keeps the first.
        for files in tars.group_by_keys(self._files(with_pictures), handler=lambda error: True):
            if last:
                yield last
            last = _Sample(self, position, *_parts(files))
            position += 1
        # Where a shard is cut off its last sample is too, most likely: that counts as one loss, not as two.
        damage = self._damage or ("" if last else "empty shard")
        if damage and last and last.reason:
            last.reason = damage
        elif damage:
            if last:
                yield last
            last = _Sample(self, position, b"", "", damage)
            position += 1
        if not self.is_known:
            self._num_samples = position
        yield last

    def places(self) -> Iterator[_Sample]:
        """Samples for those of a shard that is known, with nothing read."""
        return (_Sample(self, position, None, "", "") for position in range(self._num_samples))

    def sample(self, position: int) -> _Sample:
        """The one at a position."""
        missing = _Sample(self, position, b"", "", "unreadable shard")
        return next((sample for sample in self.samples() if sample.position == position), missing)

    def judge(self, sample: _Sample, reason: str | None) -> None:
        """Notes what became of a sample; once it is all of them, in a file where that is possible."""
        if self.is_known or not self._is_readable:
            return
        self._judged.add(sample.position)
        if reason:
            self.bad[sample.position] = reason
        if len(self._judged) == self._num_samples:
            self.is_known = True
            found = {"samples": self._num_samples, "bad": sorted(self.bad.items())}
            with suppress(OSError), atomic_write(self._notes) as file:
                file.write(json.dumps(self._stamp() | found).encode())

    def _files(self, with_pictures: bool) -> Iterator[dict]:
        """The files in the tar, as webdataset groups them into samples. Notes where it is damaged."""
        wanted = {"txt", "json", *(PICTURES if with_pictures else ())}
        ending_of = _webdataset().tariterators.base_plus_ext
        self._damage, self._is_readable, num_files = "", True, 0
        try:
            with tarfile.open(self.path) as tar:
                for member in iter(tar.next, None):
                    tar.members.clear()  # or it would keep them all
                    num_files += 1
                    if member.isfile():
                        ending = (ending_of(member.name)[1] or "").lower()
                        data = tar.extractfile(member).read() if ending in wanted else b""
                        yield {"fname": member.name, "data": data, "__url__": self.path}
                # Python takes any header that it cannot read for the end. The real end is a block of zeros.
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    self._damage = "truncated shard"
        except OSError:  # it may be there again the next time
            self._damage, self._is_readable = "unreadable shard", False
        except Exception:  # from damaged headers, tarfile raises nearly anything
            self._damage = "truncated shard" if num_files else "unreadable shard"

    def _stamp(self) -> dict[str, int]:
        """By which another shard under the same name is told."""
        stat = os.stat(self.path)
        return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}

    def _read_notes(self) -> bool:
        try:
            notes = json.loads(self._notes.read_bytes())
            if {name: notes[name] for name in ("bytes", "mtime_ns")} != self._stamp():
                return False
            bad = {int(position): str(reason) for position, reason in notes["bad"]}
            self._num_samples, self.bad = int(notes["samples"]), bad
        except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
            return False
        return True


def _parts(files: dict[str, bytes]) -> tuple[bytes, str, str]:
    """Picture, caption and what is wrong with them, of files by their ending. A .txt goes before a .json."""
    picture = next((files[ending] for ending in PICTURES if ending in files), None)
    if picture is None:
        return b"", "", "no picture"
    try:
        if "txt" in files:
            caption = files["txt"].decode("utf-8-sig")
        elif "json" in files:
            caption = json.loads(files["json"].decode("utf-8-sig")).get("caption")
        else:
            caption = None
        if caption is None:
            return b"", "", "no caption"
        caption = caption.strip()
        caption.encode()  # JSON can hold half a character, which nobody could print
    except UnicodeError:
        return b"", "", "caption not UTF-8"
    except (ValueError, AttributeError, RecursionError):  # no JSON, no object in it, or the caption is a number
        return b"", "", "bad JSON"
    return picture, caption, "" if caption else "empty caption"


def _encode(picture: Tensor, image_format: str) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = ((picture.float() + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, image_format, quality=95)
    return file.getvalue()


def _decode(picture: bytes, size: int) -> tuple[Tensor | None, str | None]:
    """The picture as uint8 (3, size, size), or the reason why not."""
    from PIL import Image

    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return read_square(io.BytesIO(picture), size), None
    except too_large:
        return None, "picture with too many pixels"
    except Exception:  # from a damaged file, PIL's decoders raise nearly anything
        return None, "undecodable picture"


def _find_shards(pattern: str | Path | Sequence[str | Path]) -> list[str]:
    if isinstance(pattern, str | Path):
        return _match(os.path.expanduser(pattern))
    if not isinstance(pattern, Sequence) or not all(isinstance(path, str | Path) for path in pattern):
        raise TypeError(f"pattern must be a path, with braces or * or not, or a list of paths; got {describe(pattern)}")
    if not pattern:
        raise ValueError("pattern must name at least one shard; got an empty list")
    return list(dict.fromkeys(shard for path in pattern for shard in _match(os.path.expanduser(path))))


def _match(pattern: str) -> list[str]:
    """The shards that one pattern means, sorted. Raises DataUnavailable where one is missing."""
    from glob import glob

    from braceexpand import braceexpand  # webdataset brings it

    if os.path.isdir(pattern):
        found = sorted(str(path) for path in Path(pattern).iterdir() if path.name.endswith(TARS))
        if not found:
            raise DataUnavailable(f"the folder {pattern} has no shards; their names end in {', '.join(TARS)}")
        return found
    paths = [pattern] if os.path.isfile(pattern) else list(braceexpand(pattern))
    shards = []
    for path in paths:
        if os.path.isfile(path):
            shards.append(path)
        elif any(sign in path for sign in "*?["):
            found = sorted(name for name in glob(path) if name.endswith(TARS))
            if not found:
                raise DataUnavailable(f"no shard matches {os.path.basename(path)} in {os.path.dirname(path) or '.'}")
            shards += found
        else:
            why = f", the first of {len(paths)} that {pattern} names and that is missing" if len(paths) > 1 else ""
            raise DataUnavailable(f"there is no shard {path}{why}")
    return list(dict.fromkeys(shards))


def _check_samples(pictures: Tensor, captions: Sequence[str]) -> None:
    check_pictures(pictures)
    if pictures.shape[1] != 3:
        raise ValueError(f"pictures must have 3 colours, (N, 3, H, W); got {describe(pictures)}")
    if isinstance(captions, str):
        raise TypeError(f"captions must be a list of strings, one for each picture; got {describe(captions)}")
    if len(captions) != len(pictures):
        raise ValueError(f"there must be a caption for each picture; got {len(pictures)} and {len(captions)} captions")
    for i, caption in enumerate(captions):
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"captions must be strings that say something; captions[{i}] is {describe(caption)}")


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number, {least} or more; got {describe(value)}")


def _webdataset():
    try:
        import webdataset
    except ImportError as error:
        raise ImportError("shards need the webdataset library: pip install webdataset") from error
    return webdataset
