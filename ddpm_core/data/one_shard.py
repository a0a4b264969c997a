"""One shard: the samples in it, and what is known of them, which is kept in a file beside it."""

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ddpm_core.data.shard_files import PICTURES, webdataset
from ddpm_core.support.atomic import atomic_write


@dataclass(slots=True)
class Sample:
    """What is in a shard at a position; where reason is not empty, it is why this is of no use."""

    shard: "Shard"
    position: int
    picture: bytes | None  # None: not read
    caption: str
    reason: str


class Shard:
    """A shard, and what is known of its samples: whether a picture is bad is only seen when it is decoded.

    bad:      the reason against each sample that is of no use, by its position
    is_known: whether bad has them all
    """

    def __init__(self, path: str):
        self.path, self._notes = path, Path(f"{path}.checked.json")
        self.bad: dict[int, str] = {}
        self.is_known = False
        self._judged: set[int] = set()
        self._num_samples: int | None = None
        self._damage, self._is_readable = "", True
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # there are none, or they are not ours
            notes = json.loads(self._notes.read_bytes())
            if self._stamp().items() <= notes.items():
                bad = {int(position): str(reason) for position, reason in notes["bad"]}
                self._num_samples, self.bad, self.is_known = int(notes["samples"]), bad, True

    @property
    def num_good(self) -> int:
        """Of a shard that is known."""
        return self._num_samples - len(self.bad)

    def samples(self, with_pictures: bool = True) -> Iterator[Sample]:
        """All samples in order; those that are seen to be bad without decoding have their reason."""
        last = Sample(self, 0, b"", "", "empty shard")  # which it is where no other follows
        # Of two files with one name in a sample, webdataset calls the handler and keeps the first.
        groups = webdataset().tariterators.group_by_keys(self._files(with_pictures), handler=lambda error: True)
        for position, files in enumerate(groups):
            if position > 0:
                yield last
            last = Sample(self, position, *_parts(files))
        if self._damage and not last.reason:
            yield last
            last = Sample(self, last.position + 1, b"", "", "")
        # Where a shard is cut off and its last sample is bad, that is most likely why: one loss, not two.
        last.reason = self._damage or last.reason
        if not self.is_known:
            self._num_samples = last.position + 1
        yield last

    def places(self) -> Iterator[Sample]:
        """Samples for those of a shard that is known, with nothing read."""
        return (Sample(self, position, None, "", "") for position in range(self._num_samples))

    def sample(self, position: int) -> Sample:
        """The one at a position."""
        missing = Sample(self, position, b"", "", "unreadable shard")
        return next((sample for sample in self.samples() if sample.position == position), missing)

    def judge(self, sample: Sample, reason: str | None) -> None:
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
        ending_of = webdataset().tariterators.base_plus_ext
        self._damage, self._is_readable = "unreadable shard", True
        try:
            with tarfile.open(self.path) as tar:
                for member in iter(tar.next, None):
                    tar.members.clear()  # or it would keep them all
                    self._damage = "truncated shard"
                    if member.isfile():
                        ending = (ending_of(member.name)[1] or "").lower()
                        data = tar.extractfile(member).read() if ending in wanted else b""
                        yield {"fname": member.name, "data": data, "__url__": self.path}
                # Python takes any header that it cannot read for the end. The real end is a block of zeros.
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE):
                    self._damage = ""
        except OSError:  # it may be there again the next time
            self._damage, self._is_readable = "unreadable shard", False
        except Exception:  # from damaged headers, tarfile raises nearly anything; the damage is noted already
            pass

    def _stamp(self) -> dict[str, int]:
        """By which another shard under the same name is told."""
        stat = os.stat(self.path)
        return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _parts(files: dict[str, bytes]) -> tuple[bytes, str, str]:
    """Picture, caption and what is wrong with them, of files by their ending. A .txt goes before a .json."""
    picture = next((files[ending] for ending in PICTURES if ending in files), None)
    if picture is None:
        return b"", "", "no picture"
    try:
        if "txt" in files:
            caption = files["txt"].decode("utf-8-sig")
        else:
            caption = json.loads(files.get("json", b"{}").decode("utf-8-sig")).get("caption")
        if caption is None:
            return b"", "", "no caption"
        caption = caption.strip()
        caption.encode()  # JSON can hold half a character, which nobody could print
    except UnicodeError:
        return b"", "", "caption not UTF-8"
    except (ValueError, AttributeError, RecursionError):  # no JSON, no object in it, or the caption is a number
        return b"", "", "bad JSON"
    return picture, caption, "" if caption else "empty caption"
