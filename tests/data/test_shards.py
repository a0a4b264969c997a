import io
import itertools
import json
import os
import pickle
import shutil
import sys
import tarfile
from collections import Counter

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
import webdataset

from ddpm_core.data import DataUnavailable, EmojiDataset, load_captioned_folder
from ddpm_core.data import shards as module
from ddpm_core.data.shard_files import PICTURES, write_shards
from ddpm_core.data.shards import PictureTextShards
from ddpm_core.support.pixels import from_bytes, to_bytes

N = 96
slow = pytest.mark.slow
in_one_process_and_in_several = pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=slow)])


@pytest.fixture(scope="module")
def emoji() -> tuple[torch.Tensor, list[str]]:
    """The first N emoji, half of them with their Chinese names."""
    data_set = EmojiDataset(32, ["noto"])
    captions = data_set.captions("en")[: N // 2] + data_set.captions("zh")[N // 2 : N]
    return from_bytes(data_set.pictures[:N]), captions


@pytest.fixture(scope="module")
def written(emoji, tmp_path_factory):
    """A folder with the N emoji in 8 shards of 12."""
    folder = tmp_path_factory.mktemp("written")
    write_shards(folder, *emoji, samples_per_shard=12)
    return folder


@pytest.fixture
def packed(written, tmp_path):
    """A copy of it, as notes are written beside shards that are read."""
    return shutil.copytree(written, tmp_path / "shards")


def take(number: int, shards: PictureTextShards, start: int = 0) -> list:
    return list(itertools.islice(shards.batches(start), number))


def captions_of(batches: list) -> list[str]:
    return [caption for _, captions in batches for caption in captions]


def equal(batches: list, others: list) -> bool:
    return len(batches) == len(others) and all(
        torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(batches, others, strict=True)
    )


def encoded(picture: PIL.Image.Image, image_format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, image_format, **options)
    return file.getvalue()


def square(value: int = 0, size: int = 8) -> bytes:
    return encoded(PIL.Image.new("RGB", (size, size), (value, value, value)))


def pack(path, files: dict[str, bytes]):
    """A tar as GNU's or img2dataset's, without our own code."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def good(number: int, first: int = 0) -> dict[str, bytes]:
    """Files of samples whose captions are their numbers."""
    return {
        f"{i:04d}.{ending}": content
        for i in range(first, first + number)
        for ending, content in (("png", square(i)), ("txt", str(i).encode()))
    }


BAD = {  # reason -> the files of a sample
    "undecodable picture": {"x.png": b"no picture", "x.txt": b"a text"},
    "no picture": {"x.txt": b"a text"},
    "no caption": {"x.png": square()},
    "empty caption": {"x.png": square(), "x.txt": b" \n"},
    "caption not UTF-8": {"x.png": square(), "x.txt": b"caf\xe9"},
    "bad JSON": {"x.png": square(), "x.json": b'{"caption": '},
}


@pytest.fixture
def spoilt(emoji, tmp_path):
    """4 shards of 12 to 18 samples, some of them bad in every way, and a shard that is cut off."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for number in range(4):
        files = good(12, first=100 * number)
        for i, sample in enumerate([*BAD.values()] * (number % 2 + 1)):
            files |= {name.replace("x.", f"{100 * number + 50 + i:04d}."): content for name, content in sample.items()}
        files = dict(sorted(files.items(), key=lambda file: hash_of(file[0].split(".")[0])))  # mixed, samples whole
        pack(folder / f"{number}.tar", files)
    cut = folder / "2.tar"
    cut.write_bytes(cut.read_bytes()[:16_000])
    return folder


def hash_of(key: str) -> tuple[int, str]:
    return (int(key) * 7919) % 101, key


# Writing


def test_png_shards_give_the_same_pictures_and_captions_back_exactly(emoji, packed):
    ((pictures, captions),) = take(1, PictureTextShards([packed], 32, N, shuffle_buffer=0))
    order = [captions.index(caption) for caption in emoji[1]]
    assert torch.equal(pictures[order], emoji[0]) and pictures.dtype == torch.float32


@pytest.mark.parametrize("image_format, mode", [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_webdataset_alone_reads_what_we_write(image_format, mode, emoji, tmp_path):
    (path,) = write_shards(tmp_path, *emoji, image_format=image_format)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("torchrgb"))
    assert [sample["txt"] for sample in samples] == emoji[1]
    assert [sample["json"]["caption"] for sample in samples] == emoji[1]
    pictures = torch.stack([sample[image_format] for sample in samples]) * 2 - 1
    assert (pictures - emoji[0]).abs().mean() < (1e-6 if image_format == "png" else 0.1)
    with tarfile.open(path) as tar, PIL.Image.open(tar.extractfile(f"000000000.{image_format}")) as picture:
        assert picture.format == mode
    ((ours, _),) = take(1, PictureTextShards(path, 32, N, shuffle_buffer=0))
    assert torch.allclose(ours, pictures, atol=1e-6)


def test_names_are_those_of_img2dataset(emoji, tmp_path):
    paths = write_shards(tmp_path, *emoji, samples_per_shard=40)
    assert [path.name for path in paths] == ["00000.tar", "00001.tar", "00002.tar"]
    with tarfile.open(paths[2]) as tar:
        assert tar.getnames()[:4] == ["000020000.json", "000020000.png", "000020000.txt", "000020001.json"]
        assert len(tar.getnames()) == 3 * 16
        about = json.load(tar.extractfile("000020000.json"))
    assert about == {"key": "000020000", "caption": emoji[1][80], "width": 32, "height": 32}


def test_the_same_pictures_make_the_same_bytes(emoji, tmp_path):
    first, second = (write_shards(tmp_path / name, *emoji)[0].read_bytes() for name in "ab")
    assert first == second


def test_pictures_held_as_bytes_are_written_as_they_are(emoji, tmp_path):
    pictures, captions = emoji
    first = write_shards(tmp_path / "floats", pictures, captions)[0].read_bytes()
    assert write_shards(tmp_path / "bytes", to_bytes(pictures), captions)[0].read_bytes() == first


def test_shards_that_were_not_finished_are_not_read(emoji, tmp_path, monkeypatch):
    calls, save = itertools.count(), PIL.Image.Image.save

    def full_disc(*args, **kwargs):
        if next(calls) == 60:
            raise OSError("no space left on device")
        save(*args, **kwargs)

    monkeypatch.setattr(PIL.Image.Image, "save", full_disc)
    with pytest.raises(OSError, match="no space left"):
        write_shards(tmp_path, *emoji, samples_per_shard=48)
    assert "00000.tar" in os.listdir(tmp_path) and "00001.tar" not in os.listdir(tmp_path)
    for pattern in (tmp_path, tmp_path / "*.tar", [tmp_path / "00000.tar"]):
        with pytest.raises(DataUnavailable, match=r"the shards in .* are not whole: .* interrupted"):
            PictureTextShards(pattern, 32, 1)
    with pytest.raises(FileExistsError, match=r"must be empty, .* 00000\.tar"):
        write_shards(tmp_path, *emoji)


def test_shards_are_not_written_between_other_files(emoji, tmp_path):
    paths = write_shards(tmp_path, *emoji, samples_per_shard=12)
    assert sorted(os.listdir(tmp_path)) == [path.name for path in paths]
    with pytest.raises(FileExistsError, match=r"must be empty, .* 00000\.tar"):
        write_shards(tmp_path, *emoji, samples_per_shard=12)
    with pytest.raises(ValueError, match=r"there is no folder .*00000\.tar"):
        write_shards(paths[0], *emoji, samples_per_shard=12)


PICTURE = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(captions=["a"]), "2 and 1 captions"),
        (dict(captions="ab"), "captions must be a list of strings"),
        (dict(captions=["a", ""]), r"captions\[1\] must .*; got ''"),
        (dict(captions=["a", None]), r"captions\[1\] must .*; got None"),
        (dict(samples_per_shard=0), "samples_per_shard must .*0"),
        (dict(image_format="bmp"), "image_format must be .*webp.*; got 'bmp'"),
        (dict(pictures=PICTURE[:, :1]), "3 colours"),
        (dict(pictures=PICTURE + 2), "pictures must"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(changed, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        write_shards(tmp_path / "shards", **(dict(pictures=PICTURE, captions=["a", "b"]) | changed))
    assert "\n" not in str(error.value) and not (tmp_path / "shards").exists()


# Order


@pytest.mark.parametrize("num_ranks, num_workers", [(4, 0), (1, 2), pytest.param(2, 2, marks=slow)])
def test_ranks_and_workers_share_an_epoch_without_repeats_or_gaps(num_ranks, num_workers, emoji, packed):
    ranks = [PictureTextShards(packed, 32, 1, 0, rank, num_ranks, num_workers) for rank in range(num_ranks)]
    read = [captions_of(take(3 * N // num_ranks, rank)) for rank in ranks]
    for epoch in range(3):
        share = slice(epoch * N // num_ranks, (epoch + 1) * N // num_ranks)
        assert sorted(caption for rank in read for caption in rank[share]) == sorted(emoji[1])


@pytest.mark.parametrize("num_streams", [1, 3, 8])
def test_the_shards_of_an_epoch_are_split_and_the_split_changes(num_streams, packed):
    shards = PictureTextShards(packed, 32, 1)
    numbers = Counter()
    for epoch in range(8 * num_streams):
        split = [[shard.path for shard in shards._shards_of(epoch, i, num_streams)] for i in range(num_streams)]
        assert sorted(itertools.chain(*split)) == shards.shards
        numbers.update({i: len(mine) for i, mine in enumerate(split)})
    assert set(numbers.values()) == {64}  # so none runs ahead of the others for long
    orders = {tuple(shard.path for shard in shards._shards_of(epoch, 0, 1)) for epoch in range(4)}
    assert len(orders) == 4


def test_ranks_with_shards_of_different_sizes_share_an_epoch(tmp_path):
    sizes, read = (1, 5, 2, 7), []
    for number, size in enumerate(sizes):
        pack(tmp_path / f"{number}.tar", good(size, first=10 * number))
    for rank in range(4):
        mine = captions_of(take(7, PictureTextShards(tmp_path, 8, 1, rank=rank, num_ranks=4)))
        read += mine[: sizes[int(mine[0]) // 10]]  # the one shard that is its own in the first epoch
    assert sorted(map(int, read)) == [0, 10, 11, 12, 13, 14, 20, 21, 30, 31, 32, 33, 34, 35, 36]


def test_the_last_samples_of_an_epoch_share_a_batch_with_the_first_of_the_next(emoji, packed):
    batches = take(9, PictureTextShards(packed, 32, 64))
    assert {tuple(pictures.shape) for pictures, _ in batches} == {(64, 3, 32, 32)}
    read = captions_of(batches)
    assert all(sorted(read[i : i + N]) == sorted(emoji[1]) for i in range(0, 6 * N, N))


def test_a_single_shard_is_shuffled_differently_by_each_seed_and_in_each_epoch(emoji, tmp_path):
    (path,) = write_shards(tmp_path, *emoji)
    orders = [captions for seed in range(3) for _, captions in take(3, PictureTextShards(path, 32, N, seed))]
    assert len({tuple(order) for order in orders}) == 9


def test_the_buffer_mixes_shards_and_without_it_each_is_read_in_order(emoji, packed):
    in_order = captions_of(take(1, PictureTextShards(packed, 32, N, shuffle_buffer=0)))
    numbers = [emoji[1].index(caption) for caption in in_order]
    assert all(numbers[i : i + 12] == list(range(numbers[i], numbers[i] + 12)) for i in range(0, N, 12))
    mixed = [emoji[1].index(caption) for caption in captions_of(take(1, PictureTextShards(packed, 32, N)))]
    assert len({number // 12 for number in mixed[:12]}) > 3


def test_pictures_keep_their_captions(emoji, packed):
    for pictures, captions in take(5, PictureTextShards(packed, 32, 40, num_workers=2)):
        assert torch.equal(pictures, emoji[0][[emoji[1].index(caption) for caption in captions]])


# Going on


def forget(folder) -> None:
    """Which samples are bad."""
    for notes in folder.glob("*.checked.json"):
        notes.unlink()


@pytest.mark.parametrize("known", [False, True])
@in_one_process_and_in_several
def test_a_resumed_run_gets_the_same_batches_bad_samples_or_not(num_workers, known, spoilt):
    make = lambda: PictureTextShards(spoilt, 8, 5, 3, num_workers=num_workers, shuffle_buffer=7)  # noqa: E731
    whole = make()
    batches = take(40, whole)
    for start in (0, 1, 2, 9, 17, 38):
        if not known:
            forget(spoilt)
        resumed = make()
        assert equal(take(40 - start, resumed, start), batches[start:])
        assert resumed.skipped == whole.skipped
    assert whole.skipped["undecodable picture"] > 3 and whole.skipped["truncated shard"] > 3


@in_one_process_and_in_several
def test_a_rank_resumes_where_it_was(num_workers, spoilt):
    for rank in range(2):
        shards = PictureTextShards(spoilt, 8, 3, 0, rank, 2, num_workers)
        batches = take(20, shards)
        assert equal(take(9, shards, 11), batches[11:])


def test_a_run_that_is_interrupted_again_and_again_reads_what_an_unbroken_one_reads(spoilt):
    unbroken = take(24, PictureTextShards(spoilt, 8, 5))
    broken = [batch for k in range(0, 24, 3) for batch in take(3, PictureTextShards(spoilt, 8, 5), k)]
    assert equal(broken, unbroken)


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that are decoded."""
    numbers, really_open = Counter(), PIL.Image.open

    def counting(*arguments, **options):
        numbers["pictures"] += 1
        return really_open(*arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", counting)
    return numbers


@pytest.fixture
def read(monkeypatch):
    """The paths of the shards that are read."""
    paths, really_open = [], tarfile.open

    def counting(path, *arguments, **options):
        paths.append(path)
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(tarfile, "open", counting)
    return paths


@pytest.mark.parametrize("start, num_read", [(17, 3), (30, 4), (10_000, 4)])
def test_known_shards_are_passed_over_without_decoding_and_nearly_without_reading(
    start, num_read, packed, decoded, read
):
    expected = take(42, PictureTextShards(packed, 32, 5, shuffle_buffer=1))  # two epochs and more
    decoded.clear(), read.clear()
    batches = take(2, PictureTextShards(packed, 32, 5, shuffle_buffer=1), start)
    assert decoded["pictures"] == 10 and len(read) == num_read
    assert equal(batches, expected[start : start + 2]) or start > 40


def test_known_epochs_are_passed_over_by_counting(packed, monkeypatch):
    take(20, PictureTextShards(packed, 32, 5))
    places, counted = module.Shard.places, []
    monkeypatch.setattr(module.Shard, "places", lambda self: (counted.append(self.path), places(self))[1])
    take(1, PictureTextShards(packed, 32, 5, shuffle_buffer=1), 17 + 20 * N)  # 17 is in an epoch, 20 N are whole ones
    assert len(counted) == 5


@in_one_process_and_in_several
def test_a_sample_that_was_passed_over_and_is_wanted_after_all_is_read(num_workers, spoilt, read, monkeypatch):
    make = lambda: PictureTextShards(spoilt, 8, 5, num_workers=num_workers, shuffle_buffer=16)  # noqa: E731
    expected = take(30, make())
    monkeypatch.setattr(module, "BUFFERS", -10)  # as if samples never stayed in the buffer
    read.clear()
    starts = (3, 4, 6, 13)
    for start in starts:
        assert equal(take(30 - start, make(), start), expected[start:])
    assert num_workers or len(read) > 10 * len(starts)


def test_a_picture_that_is_known_to_be_bad_is_not_decoded_again(spoilt, decoded):
    shards = PictureTextShards(spoilt, 8, 5)
    take(9, shards)  # more than an epoch
    decoded.clear()
    take(20, shards)
    assert decoded["pictures"] == 100


def test_what_is_known_of_a_shard_is_forgotten_when_another_takes_its_place(tmp_path):
    path = pack(tmp_path / "0.tar", good(3) | {"0009.png": b"no picture", "0009.txt": b"nine"})
    take(4, PictureTextShards(path, 8, 3))
    assert json.loads((tmp_path / "0.tar.checked.json").read_text())["bad"] == [[3, "undecodable picture"]]
    size = path.stat().st_size
    pack(path, good(3) | {"0009.png": square(9), "0009.txt": b"nine"})
    assert path.stat().st_size == size
    assert "nine" in captions_of(take(1, PictureTextShards(path, 8, 4)))


@pytest.mark.parametrize("content", [b"", b"[1]", b'"a"', b"{}", b"\xff", b'{"bytes": 1, "mtime_ns": 2}', None])
def test_notes_that_are_not_ours_are_not_believed(content, tmp_path):
    path = pack(tmp_path / "0.tar", good(3))
    expected = take(5, PictureTextShards(path, 8, 2))
    notes = tmp_path / "0.tar.checked.json"
    if content is None:  # the right shard, and nonsense about it
        content = json.dumps(json.loads(notes.read_text()) | {"bad": 7}).encode()
    notes.write_bytes(content)
    assert equal(take(5, PictureTextShards(path, 8, 2)), expected)


def test_a_folder_that_cannot_be_written_costs_decoding_and_nothing_else(spoilt, monkeypatch):
    expected = take(20, PictureTextShards(spoilt, 8, 5))
    forget(spoilt)

    def read_only(path):
        raise PermissionError(f"{path}: read-only file system")

    monkeypatch.setattr("ddpm_core.data.one_shard.atomic_write", read_only)
    assert equal(take(10, PictureTextShards(spoilt, 8, 5), 10), expected[10:])
    assert not list(spoilt.glob("*.json*"))


def test_two_iterations_at_once_do_not_disturb_each_other(spoilt):
    expected = take(20, PictureTextShards(spoilt, 8, 5))
    forget(spoilt)
    shards = PictureTextShards(spoilt, 8, 5)
    pairs = list(itertools.islice(zip(shards.batches(), shards.batches(2), strict=True), 18))
    assert equal([first for first, _ in pairs], expected[:18]) and equal([second for _, second in pairs], expected[2:])


def test_reading_leaves_the_random_numbers_of_training_alone(packed):
    for num_workers in (0, 2):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        take(2, PictureTextShards(packed, 32, 4, num_workers=num_workers))
        assert torch.equal(torch.get_rng_state(), before)


def test_workers_can_be_started_anew_as_macos_and_windows_do(packed):
    shards = PictureTextShards(packed, 32, 4)
    assert equal(take(2, pickle.loads(pickle.dumps(shards))), take(2, shards))


# Bad samples


@in_one_process_and_in_several
def test_bad_samples_are_skipped_and_counted_under_their_reasons(num_workers, tmp_path):
    for number in range(2):
        files = good(1)
        for i, sample in enumerate(BAD.values()):
            files |= {name.replace("x.", f"x{i}."): content for name, content in sample.items()}
        pack(tmp_path / f"{number}.tar", files | good(2, first=1))
    shards = PictureTextShards(tmp_path, 8, 3, num_workers=num_workers, shuffle_buffer=0)
    assert captions_of(take(2, shards)) == ["0", "1", "2"] * 2
    assert shards.skipped == dict.fromkeys(BAD, 2)


@pytest.mark.parametrize(
    "files, reason",
    [
        ({"x.png": square(), "x.json": b"[1]"}, "bad JSON"),
        ({"x.png": square(), "x.json": b"[" * 100_000}, "bad JSON"),
        ({"x.png": square(), "x.json": b'{"caption": null}'}, "no caption"),
        ({"x.png": square(), "x.json": b'{"caption": "\\ud83d"}'}, "caption not UTF-8"),
        ({"x.png": square(), "x.json": b'{"caption": "\xff"}'}, "caption not UTF-8"),
        ({"x.gif": square(), "x.txt": b"a"}, "no picture"),
        ({"x.png": square(7, 64)[:-40], "x.txt": b"a"}, "undecodable picture"),
        ({"x.jpg": encoded(PIL.Image.new("RGB", (64, 64)), "JPEG")[:-300], "x.txt": b"a"}, "undecodable picture"),
        ({"x.png": b"%!PS-Adobe-3.0 EPSF-3.0", "x.txt": b"a"}, "undecodable picture"),
    ],
)
def test_other_ways_to_be_bad_have_the_same_reasons(files, reason, tmp_path):
    shards = PictureTextShards(pack(tmp_path / "0.tar", good(1) | files | good(1, first=1)), 8, 2)
    assert sorted(captions_of(take(1, shards))) == ["0", "1"] and shards.skipped == {reason: 1}


@pytest.mark.parametrize("size", [10, 12])  # above the limit Pillow warns, above twice the limit it refuses
def test_a_picture_with_too_many_pixels_is_skipped(size, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 70)
    path = pack(tmp_path / "0.tar", {"x.png": square(0, size), "x.txt": b"large"} | good(2))
    shards = PictureTextShards(path, 8, 2, shuffle_buffer=0)
    assert captions_of(take(1, shards)) == ["0", "1"]
    assert shards.skipped == {"picture with too many pixels": 1} and not recwarn


CUTS = {  # of a shard of four samples, where each file has a header of 512 bytes and a block of 512
    "in the header of a picture": 2 * 2048 + 100,
    "between two samples": 2 * 2048,
    "in a picture": 2 * 2048 + 540,
    "after a picture": 2 * 2048 + 1024,
    "in a text": 2 * 2048 + 1536,
    "after the last": 4 * 2048,
}


@pytest.mark.parametrize("where", CUTS)
def test_the_good_samples_of_a_shard_that_is_cut_off_are_used_and_the_rest_counts_once(where, tmp_path):
    path = pack(tmp_path / "0.tar", good(4))
    assert len(good(4)["0000.png"]) <= 512
    path.write_bytes(path.read_bytes()[: CUTS[where]])
    left = 4 if where == "after the last" else 2
    shards = PictureTextShards(path, 8, left, shuffle_buffer=0)
    assert captions_of(take(1, shards)) == [str(i) for i in range(left)]
    next(shards.batches(1))
    assert set(shards.skipped) == {"truncated shard"}


def test_a_header_that_is_damaged_in_the_middle_of_a_shard_does_not_pass_for_its_end(tmp_path):
    path = pack(tmp_path / "0.tar", good(4))
    content = bytearray(path.read_bytes())
    content[2 * 2048 : 2 * 2048 + 20] = b"?" * 20
    path.write_bytes(content)
    shards = PictureTextShards(path, 8, 4)
    assert sorted(captions_of(take(1, shards))) == ["0", "0", "1", "1"]
    assert set(shards.skipped) == {"truncated shard"}


def test_a_shard_that_is_none_or_empty_is_counted(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"")
    (tmp_path / "1.tar").write_bytes(b"this is no tar" * 1000)
    pack(tmp_path / "2.tar", {})
    pack(tmp_path / "3.tar", good(4))
    shards = PictureTextShards(tmp_path, 8, 4)
    assert sorted(captions_of(take(1, shards))) == ["0", "1", "2", "3"]
    shards.skipped.clear()
    take(1, shards, start=1)
    assert shards.skipped.total() >= 3 and set(shards.skipped) == {"unreadable shard", "empty shard"}


def test_a_shard_that_disappears_is_counted_and_used_again_when_it_is_back(tmp_path):
    pack(tmp_path / "0.tar", good(4))
    pack(tmp_path / "1.tar", good(4, first=4))
    shards = PictureTextShards(tmp_path, 8, 4)
    (tmp_path / "1.tar").rename(tmp_path / "away")
    assert sorted(captions_of(take(1, shards))) == ["0", "1", "2", "3"]
    next(shards.batches(1))
    assert shards.skipped["unreadable shard"] >= 1
    (tmp_path / "away").rename(tmp_path / "1.tar")
    assert len(set(captions_of(take(2, shards)))) == 8


def test_of_two_files_with_one_name_the_first_is_used(tmp_path):
    path = pack(tmp_path / "0.tar", {"0.png": square(), "0.txt": b"first", "0.TXT": b"second"})
    shards = PictureTextShards(path, 8, 2)
    assert captions_of(take(1, shards)) == ["first", "first"] and not shards.skipped


@in_one_process_and_in_several
def test_shards_without_a_good_sample_are_an_error_that_counts_the_reasons(num_workers, tmp_path):
    pack(tmp_path / "0.tar", {"x.png": b"", "x.txt": b"a", "y.txt": b"a", "z.txt": b"a"})
    pack(tmp_path / "1.tar", {"x.png": square()})
    shards = PictureTextShards(f"{tmp_path}/*.tar", 8, 1, num_workers=num_workers)
    with pytest.raises(DataUnavailable) as error:
        take(1, shards)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/*.tar has no sample that can be used in 2 shards, only: ")
    assert all(f" x {reason}" in message for reason in ("no picture", "no caption", "undecodable picture"))
    assert "\n" not in message


@pytest.mark.parametrize("start", [0, 7])
def test_a_worker_whose_own_shards_are_bad_goes_on_to_the_next_epoch(start, tmp_path):
    pack(tmp_path / "0.tar", BAD["no caption"])
    pack(tmp_path / "1.tar", good(4))
    shards = PictureTextShards(tmp_path, 8, 4, num_workers=2)
    assert [len(captions) for _, captions in take(6, shards, start)] == [4] * 6


# Pictures and captions


def ramp(mode: str, size: tuple[int, int]) -> PIL.Image.Image:
    values = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    picture = PIL.Image.fromarray(values)
    if mode in ("RGBA", "LA"):
        picture.putalpha(PIL.Image.linear_gradient("L").resize(size))
    return picture.convert(mode)


def test_pictures_are_those_that_a_folder_gives(tmp_path):
    modes = [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("RGB", "webp"), ("CMYK", "jpg"), ("L", "jpeg")]
    sizes = itertools.cycle([(30, 17), (17, 30), (5, 3)])
    for i, ((mode, ending), size) in enumerate(zip(modes, sizes, strict=False)):
        (tmp_path / f"{i}.{ending}").write_bytes(encoded(ramp(mode, size), PICTURES[ending]))
        (tmp_path / f"{i}.txt").write_text(str(i))
    expected = load_captioned_folder(tmp_path, 16, progress=False)
    files = {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    shards = PictureTextShards(pack(tmp_path / "0.tar", files), 16, len(modes), shuffle_buffer=0)
    ((pictures, captions),) = take(1, shards)
    assert torch.equal(pictures, expected.pictures) and captions == expected.captions


def test_the_caption_is_the_text_or_else_the_one_in_the_json(tmp_path):
    files = {
        "a/0.PNG": square(),
        "a/0.TXT": "\ufeff 红苹果 \n".encode(),
        "a/0.json": b'{"caption": "another"}',
        "a/1.jpg": encoded(PIL.Image.new("RGB", (8, 8)), "JPEG"),
        "a/1.json": '{"caption": "a café", "url": "https://example.org"}'.encode(),
    }
    shards = PictureTextShards(pack(tmp_path / "0.tar", files), 8, 2, shuffle_buffer=0)
    assert captions_of(take(1, shards)) == ["红苹果", "a café"] == list(shards.captions())


def test_captions_are_read_without_reading_a_picture(emoji, spoilt, packed, decoded, monkeypatch):
    extracted, extract = [], tarfile.TarFile.extractfile
    monkeypatch.setattr(
        tarfile.TarFile, "extractfile", lambda *args: (extracted.append(args[1].name), extract(*args))[1]
    )
    shards = PictureTextShards(packed, 32, 4)
    assert list(shards.captions()) == emoji[1]
    assert {name.split(".")[1] for name in extracted} == {"txt", "json"}
    assert len(list(PictureTextShards(spoilt, 8, 1).captions())) > 36
    assert not decoded and not shards.skipped and not list(packed.glob("*.json"))


# Which shards


def test_shards_are_named_by_braces_stars_a_folder_a_path_or_a_list(packed, monkeypatch):
    names = [str(packed / f"0000{i}.tar") for i in range(8)]
    (packed / "00000_stats.json").write_text("{}")  # as img2dataset leaves them
    (packed / "00000.parquet").write_bytes(b"PAR1")
    for pattern, expected in (
        (packed, names),
        (str(packed), names),
        (f"{packed}/*", names),
        (f"{packed}/0000?.tar", names),
        (f"{packed}/{{00000..00007}}.tar", names),
        (f"{packed}/{{00000..00003}}.tar", names[:4]),
        (names, names),
        ([packed / "00000.tar", f"{packed}/0000[1-6].tar", packed], names),
        (packed / "00003.tar", names[3:4]),
    ):
        assert PictureTextShards(pattern, 32, 1).shards == expected
    monkeypatch.setenv("HOME", str(packed.parent))
    assert PictureTextShards("~/shards", 32, 1).shards == names


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("{folder}/x*.tar", r"no shard matches x\*\.tar in {folder}"),
        ("{folder}/0000{{6..9}}.tar", r"there is no shard {folder}/00008\.tar, the first of 4"),
        ("{folder}/x.tar", r"there is no shard {folder}/x\.tar$"),
        ("{folder}/empty", r"the folder {folder}/empty has no shards"),
        (["{folder}/00000.tar", "{folder}/x.tar"], r"there is no shard {folder}/x\.tar"),
    ],
)
def test_shards_that_are_not_there_are_named(pattern, message, packed):
    (packed / "empty").mkdir()
    fill = lambda text: text.format(folder=packed)  # noqa: E731
    with pytest.raises(DataUnavailable, match=fill(message)):
        PictureTextShards(fill(pattern) if isinstance(pattern, str) else [fill(path) for path in pattern], 32, 1)


@pytest.mark.parametrize("pattern, error", [(7, TypeError), ([7], TypeError), (None, TypeError), ([], ValueError)])
def test_a_pattern_that_is_none_is_refused(pattern, error):
    with pytest.raises(error, match="pattern must"):
        PictureTextShards(pattern, 32, 1)


@pytest.mark.parametrize(
    "name, value",
    [
        ("batch_size", 0),
        ("picture_size", 1.5),
        ("num_ranks", True),
        ("num_ranks", 9),  # for 8 shards
        ("rank", -1),
        ("rank", 1),  # beyond the last
        ("num_workers", "2"),
        ("start", -1),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name, value, packed):
    options = dict(picture_size=32, batch_size=4) | ({name: value} if name != "start" else {})
    with pytest.raises((ValueError, TypeError), match=rf"{name} must .*{value!r}"):
        take(1, PictureTextShards(packed, **options), value if name == "start" else 0)


def test_more_workers_than_shards_are_not_started(packed):
    assert PictureTextShards(packed, 32, 1, num_ranks=3, num_workers=5).num_workers == 2
    assert PictureTextShards(packed, 32, 1, num_ranks=8, num_workers=5).num_workers == 1


def test_without_webdataset_one_sentence_says_how_to_get_it(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match="pip install webdataset"):
        PictureTextShards(packed, 32, 1)
    with pytest.raises(ImportError, match="pip install webdataset"):
        write_shards(packed, PICTURE, ["a", "b"])
