"""Pictures with captions in shards, for data bigger than memory.

Shards are read from one end to the other, which is what discs and networks do best, and shuffled in two steps: the
order of the shards, and a buffer through which the samples pass.
"""

import io
import itertools
import random
import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ddpm_core.data.one_shard import Sample, Shard
from ddpm_core.data.shard_files import find_shards, webdataset
from ddpm_core.support import guards
from ddpm_core.support.files import DataUnavailable
from ddpm_core.support.pixels import from_bytes, read_square

BUFFERS = 20  # after this many times as many others as the buffer holds, a sample has left it, nearly surely (e^-20)


@dataclass(eq=False, repr=False)
class PictureTextShards:
    """Endless batches of pictures and captions out of shards, for one rank; the same ones each time it is asked.

    pattern:        shards/{00000..00009}.tar, shards/*.tar, a folder, or a list of paths
    picture_size:   each picture becomes RGB, its short side this long, and is cut square around its centre
    batch_size:     this rank's share of a batch; there are num_ranks ranks, each on shards of its own
    num_workers:    processes that read and decode; fewer where there are not enough shards
    shuffle_buffer: how many samples, still compressed, each of them shuffles
    shards:         the paths, in order
    skipped:        a Counter of why samples were left out, by reason, that grows as batches are read

    In an epoch each good sample comes once, over all ranks and workers. The last samples of an epoch share a batch
    with the first of the next. The order depends on the list of shards and on all arguments but picture_size.

    Raises ValueError for arguments out of range, DataUnavailable where the pattern finds no shard or a shard is
    missing, and ImportError without the webdataset library.
    """

    pattern: str | Path | Sequence[str | Path]
    picture_size: int
    batch_size: int
    seed: int = 0
    rank: int = 0
    num_ranks: int = 1
    num_workers: int = 0
    shuffle_buffer: int = 1000

    def __post_init__(self) -> None:
        webdataset()  # if it is missing, this is the time to say so
        self.shards = find_shards(self.pattern)
        for name, least in dict(
            picture_size=1, batch_size=1, num_ranks=1, seed=0, num_workers=0, shuffle_buffer=0
        ).items():
            guards.whole_number(name, getattr(self, name), least)
        if self.num_ranks > len(self.shards):
            raise ValueError(
                f"num_ranks must be at most the number of shards, so that each process (rank) has its own; got "
                f"{self.num_ranks} processes for {len(self.shards)} shards: start fewer, or pack smaller shards"
            )
        guards.whole_number("rank", self.rank, least=0, most=self.num_ranks - 1, why=", less than num_ranks")
        self.num_workers = min(self.num_workers, len(self.shards) // self.num_ranks)
        self.skipped: Counter[str] = Counter()
        self._shards: dict[str, Shard] = {}

    def captions(self) -> Iterator[str]:
        """The captions of all shards, in order and once; no picture is read, so damaged ones' captions are there."""
        for path in self.shards:
            for sample in Shard(path).samples(with_pictures=False):
                if not sample.reason:
                    yield sample.caption

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, list[str]]]:
        """Pictures (batch_size, 3, picture_size, picture_size) float32 in [-1, 1] and captions, without end.

        start: the number of the first batch, which is the same, bit for bit, as if those before it had been read.
        Where 00000.tar.checked.json says which samples are bad, as it does once a shard has been read to its end, that
        takes next to no time; elsewhere each picture is decoded to see whether it is.

        Raises ValueError for a start below 0, and DataUnavailable where no shard has a good sample.
        """
        guards.whole_number("start", start, least=0)
        loader = DataLoader(
            _Batches(self, start),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=tuple,  # as they are
            generator=torch.Generator(),  # the default would draw from the one that training draws its noise from
            worker_init_fn=_leave_ctrl_c_to_the_reader,
        )
        try:
            for pictures, captions, skipped in loader:
                self.skipped.update(skipped)
                if not captions:
                    break
                yield from_bytes(pictures), captions
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataUnavailable(
                "a process that reads the shards has ended, perhaps for lack of memory (in a container, of shared "
                f"memory): try fewer num_workers, or none ({error})"
            ) from error
        reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(self.skipped.items()))
        pattern = self.pattern if isinstance(self.pattern, str | Path) else guards.describe(self.pattern)
        raise DataUnavailable(f"{pattern} has no sample that can be used in {len(self.shards)} shards, only: {reasons}")

    def _good_samples(
        self, stream: int, num_streams: int, to_pass: int, skipped: Counter
    ) -> Iterator[tuple[Tensor, str]]:
        """Bytes and captions of one of num_streams streams; ends where no sample is good.

        to_pass: so many good samples are not wanted again; skipped: counts why others were left out
        """
        barren: set[str] = set()  # shards begun since the last good sample

        def read(shard: Shard) -> Iterator[Sample]:
            # Far before the first sample that is wanted, it only matters how many there are.
            is_far = shard.is_known and to_pass > shard.num_good + BUFFERS * self.shuffle_buffer
            return shard.places() if is_far else shard.samples()

        for epoch in itertools.count():
            shards = self._shards_of(epoch, stream, num_streams)
            num_good = sum(shard.num_good for shard in shards) if all(shard.is_known for shard in shards) else 0
            if 0 < num_good <= to_pass:
                to_pass -= num_good
                barren.clear()
                skipped.update(reason for shard in shards for reason in shard.bad.values())
                continue
            barren.update(shard.path for shard in shards)
            in_order = itertools.chain.from_iterable(map(read, shards))
            rng, size = random.Random(f"{self.seed} {epoch} {stream}"), self.shuffle_buffer
            for sample in webdataset().shuffle(size, initial=size, rng=rng)(in_order):
                pixels, reason = None, sample.reason or sample.shard.bad.get(sample.position)
                if sample.picture is None and not reason and not to_pass:
                    sample = sample.shard.sample(sample.position)
                    reason = sample.reason
                if not reason and (not to_pass or not sample.shard.is_known):
                    pixels, reason = decoded_picture(sample.picture, self.picture_size)
                sample.shard.judge(sample, reason)
                if reason:
                    skipped[reason] += 1
                    continue
                barren.clear()
                if to_pass:
                    to_pass -= 1
                else:
                    yield pixels, sample.caption
            if len(barren) == len(self.shards):
                return

    def _shards_of(self, epoch: int, stream: int, num_streams: int) -> list[Shard]:
        paths = list(self.shards)
        random.Random(f"{self.seed} {epoch}").shuffle(paths)
        # Streams take turns at being the one that gets a shard more, or it would run ahead of the others.
        mine = paths[(stream + epoch) % num_streams :: num_streams]
        self._shards |= {path: Shard(path) for path in mine if path not in self._shards}
        return [self._shards[path] for path in mine]


class _Batches(IterableDataset):
    """What a DataLoader reads, in each of its workers: bytes, captions, and what was skipped since the last batch."""

    def __init__(self, shards: PictureTextShards, start: int):
        self.shards, self.start = shards, start

    def __iter__(self) -> Iterator[tuple[Tensor | None, list, Counter]]:
        shards, worker, skipped = self.shards, get_worker_info(), Counter()
        number, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # Batch k is of stream k % num_workers. The DataLoader begins with its worker 0, whatever k is.
        num_passed, number = divmod(self.start + number, num_workers)
        stream, num_streams = shards.rank * num_workers + number, shards.num_ranks * num_workers
        samples = shards._good_samples(stream, num_streams, num_passed * shards.batch_size, skipped)
        while len(batch := list(itertools.islice(samples, shards.batch_size))) == shards.batch_size:
            pixels, captions = zip(*batch, strict=True)
            yield torch.stack(pixels), list(captions), Counter(skipped)
            skipped.clear()
        yield None, [], skipped  # an exception raised in a worker would reach the reader as a traceback


def _leave_ctrl_c_to_the_reader(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that trains decides when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def decoded_picture(picture: bytes, size: int) -> tuple[Tensor | None, str | None]:
    """The picture as uint8 (3, size, size), or the reason why not."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            return read_square(io.BytesIO(picture), size), None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None, "picture with too many pixels"
    except Exception:  # from a damaged file, PIL's decoders raise nearly anything
        return None, "undecodable picture"
