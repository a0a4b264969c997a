"""Small real files in every format and mode; what their colours become is known from how they were made."""

import json
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm_core.data import DataUnavailable
from ddpm_core.data.captioned_folder import load_captioned_folder, read_picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flat(colour, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> PIL.Image.Image:
    return PIL.Image.new(mode, size, colour)


def halves(left, right, mode: str = "RGB") -> PIL.Image.Image:
    picture = flat(left, mode, (16, 16))
    picture.paste(right, (8, 0, 16, 16))
    return picture


def write(folder: Path, name: str, picture: PIL.Image.Image | bytes, caption: str | bytes | None = "a cat", **options):
    """The picture, and beside it the caption in a text file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption if isinstance(caption, bytes) else caption.encode())


def write_metadata(folder: Path, *lines: dict | str | bytes) -> None:
    lines = [line if isinstance(line, bytes | str) else json.dumps(line, ensure_ascii=False) for line in lines]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))


def load(folder: Path, size: int = 8):
    return load_captioned_folder(folder, size, progress=False)


def bytes_of(picture: torch.Tensor) -> torch.Tensor:
    """From [-1, 1] back to 0..255."""
    return ((picture + 1) * 127.5).round().int()


def palette(transparent: bool) -> PIL.Image.Image:
    """Colour 1 everywhere, which is blue, or blue but transparent."""
    picture = flat(1, "P")
    picture.putpalette([*RED, *BLUE])
    if transparent:
        picture.info["transparency"] = 1
    return picture


def grey_16(value: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.full((8, 8), value, dtype=np.uint16))


MODES = {
    "black and white": ("a.png", flat(1, "1"), {}, WHITE),
    "grey": ("a.png", flat(100, "L"), {}, (100, 100, 100)),
    "grey and half transparent": ("a.png", flat((0, 128), "LA"), {}, (127, 127, 127)),
    "grey with a transparent value": ("a.png", flat(100, "L"), {"transparency": 100}, WHITE),
    "colour with a transparent value": ("a.png", flat(RED), {"transparency": RED}, WHITE),
    "half transparent": ("a.png", flat((*RED, 128), "RGBA"), {}, (255, 127, 127)),
    "quite transparent": ("a.png", flat((*RED, 0), "RGBA"), {}, WHITE),
    "palette": ("a.png", palette(False), {}, BLUE),
    "palette with transparency": ("a.png", palette(True), {}, WHITE),
    "palette half transparent": ("a.png", palette(False), {"transparency": bytes([0, 128])}, (127, 127, 255)),
    "transparent GIF": ("a.gif", palette(True), {}, WHITE),
    "16 bits, middle": ("a.png", grey_16(128 * 257), {}, (128, 128, 128)),
    "16 bits, white": ("a.tif", grey_16(65535), {}, WHITE),
    "CMYK": ("a.tiff", flat((0, 255, 255, 0), "CMYK"), {}, RED),
    "CMYK with black": ("a.tiff", flat((0, 0, 0, 155), "CMYK"), {}, (100, 100, 100)),
    "CMYK JPEG": ("a.jpg", flat((0, 255, 255, 0), "CMYK"), {"quality": 100}, RED),
    "JPEG": ("a.JPEG", flat((40, 80, 120)), {"quality": 100}, (40, 80, 120)),
    "WebP": ("a.webp", flat((40, 80, 120)), {"lossless": True}, (40, 80, 120)),
    "transparent WebP": ("a.webp", flat((*RED, 128), "RGBA"), {"lossless": True}, (255, 127, 127)),
    "BMP": ("a.bmp", flat((40, 80, 120)), {}, (40, 80, 120)),
    "PNG in capitals": ("A.PNG", flat((40, 80, 120)), {}, (40, 80, 120)),
}


@pytest.mark.parametrize("name, picture, options, expected", MODES.values(), ids=MODES)
def test_any_format_and_mode_becomes_rgb_on_white(name, picture, options, expected, tmp_path):
    write(tmp_path, name, picture, **options)
    data = load(tmp_path, 5)
    assert data.pictures.shape == (1, 3, 5, 5) and data.pictures.dtype == torch.float32
    tolerance = 2 if name.lower().endswith(("jpg", "jpeg")) else 0
    assert (bytes_of(data.pictures[0]) - torch.tensor(expected)[:, None, None]).abs().max() <= tolerance
    assert data.files == [name] and data.captions == ["a cat"] and data.skipped == {}


def test_values_go_from_minus_1_to_1_and_a_picture_of_the_right_size_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    write(tmp_path, "a.png", PIL.Image.fromarray(pixels))
    picture = load(tmp_path).pictures[0]
    assert picture.min() == -1 and picture.max() == 1
    assert np.array_equal(bytes_of(picture).permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_camera_turned_sideways_is_respected(name, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # EXIF: the first stored column is the top of the scene
    write(tmp_path, name, halves(RED, BLUE), exif=exif, quality=100)
    picture = bytes_of(load(tmp_path).pictures[0])
    for rows, colour in ((picture[:, :3], RED), (picture[:, 5:], BLUE)):
        assert (rows - torch.tensor(colour)[:, None, None]).abs().max() <= 10


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_is_its_first_frame(name, tmp_path):
    write(tmp_path, name, flat(RED), save_all=True, append_images=[flat(BLUE), flat(GREEN)], lossless=True)
    with PIL.Image.open(tmp_path / name) as animation:
        assert animation.n_frames == 3
    assert torch.equal(load(tmp_path).pictures[0], torch.tensor([1.0, -1, -1])[:, None, None].expand(3, 8, 8))


@pytest.mark.parametrize("turned", [False, True])
def test_the_square_is_cut_from_the_centre(turned, tmp_path):
    picture = flat(RED, size=(30, 10))
    picture.paste(GREEN, (10, 0, 20, 10))
    write(tmp_path, "a.png", picture.transpose(PIL.Image.Transpose.ROTATE_90) if turned else picture)
    assert torch.equal(load(tmp_path, 10).pictures[0], torch.tensor([-1.0, 1, -1])[:, None, None].expand(3, 10, 10))


def test_making_smaller_averages_fine_patterns_and_making_larger_is_smooth(tmp_path):
    chequered = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    write(tmp_path, "fine.png", PIL.Image.fromarray(chequered))
    write(tmp_path, "two.png", PIL.Image.fromarray(np.array([[0, 255], [0, 255]], dtype=np.uint8)))
    fine, two = load(tmp_path, 16).pictures
    assert fine.abs().max() < 0.05  # the nearest pixel would be -1 or 1
    row = two[0, 0, 3:13]
    assert (row.diff() > 0).all() and (two[0] == two[0, :1]).all()


def test_colours_hidden_under_transparency_do_not_show_at_the_edges(tmp_path):
    write(tmp_path, "a.png", halves((0, 0, 0, 0), (*WHITE, 255), "RGBA"))
    assert torch.equal(load(tmp_path, 7).pictures, torch.ones(1, 3, 7, 7))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2), (640, 480)])
def test_any_shape_of_picture_fits(size, tmp_path):
    write(tmp_path, "a.png", flat(BLUE, size=size))
    assert torch.equal(load(tmp_path).pictures[0], torch.tensor([-1.0, -1, 1])[:, None, None].expand(3, 8, 8))


def test_text_files_give_a_sample_a_line_in_the_order_of_the_names(tmp_path):
    write(tmp_path, "sub/c.png", flat(BLUE), "blue")
    write(tmp_path, "b.gif", flat(GREEN), "\ufeffgreen\r\n\r\n  绿色  \r\n")  # as Notepad writes it
    write(tmp_path, "a.b.png", flat(RED), "red\u2028rot\n")
    write(tmp_path, "d.png", flat(WHITE), None)
    (tmp_path / "d.TXT").write_text("white")
    data = load(tmp_path)
    assert data.files == ["a.b.png", "b.gif", "b.gif", "d.png", "sub/c.png"]
    assert data.captions == ["red\u2028rot", "green", "绿色", "white", "blue"]
    assert bytes_of(data.pictures[:, :, 4, 4]).tolist() == [list(c) for c in (RED, GREEN, GREEN, WHITE, BLUE)]
    assert str(data) == "4 pictures with 5 captions; none skipped"


def test_metadata_is_the_authority_and_keeps_its_order(tmp_path):
    write(tmp_path, "z.png", flat(RED), "not this one")
    write(tmp_path, "sub/b.jpg", flat(BLUE), None, quality=100)
    write(tmp_path, "unlisted.png", flat(GREEN), "nor this one")
    write_metadata(
        tmp_path,
        b"\xef\xbb\xbf" + json.dumps({"file_name": "z.png", "text": " red ", "id": 7}).encode() + b"\r",
        {"file_name": "sub/b.jpg", "caption": "blue"},
        "",
        {"file_name": "sub/../z.png", "text": "红\u2028色", "caption": "not this one"},
        {"file_name": "./z.png", "text": ""},
    )
    data = load(tmp_path)
    assert data.files == ["z.png", "sub/b.jpg", "z.png"] and data.captions == ["red", "blue", "红\u2028色"]
    assert data.pictures[:, 2, 4, 4].round().tolist() == [-1, 1, -1]
    assert data.skipped == {"unlisted.png": "not in metadata.jsonl"}
    assert str(data) == "2 pictures with 3 captions; 1 skipped: unlisted.png (not in metadata.jsonl)"


def test_a_picture_with_several_captions_is_read_once(tmp_path, monkeypatch):
    opened, really_open = [], PIL.Image.open
    monkeypatch.setattr(PIL.Image, "open", lambda path, **kw: opened.append(Path(path).name) or really_open(path, **kw))
    write(tmp_path, "a.png", flat(RED), "one\ntwo\nthree")
    assert len(load(tmp_path)) == 3 and opened == ["a.png"]


def test_the_order_is_that_of_the_names_whatever_the_disk_says(tmp_path, monkeypatch):
    for name in ("b.png", "a.png", "B.png", "sub/a.png", "c.png"):
        write(tmp_path, name, flat(RED), name)
    forwards, really_glob = load(tmp_path), Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda *args: sorted(really_glob(*args), reverse=True))
    backwards = load(tmp_path)
    assert forwards.files == forwards.captions == ["B.png", "a.png", "b.png", "c.png", "sub/a.png"]
    assert backwards.files == backwards.captions == forwards.files


def test_pictures_of_a_phone_are_read_or_named(tmp_path):
    write(tmp_path, "a.jpg", flat(RED))
    (tmp_path / "b.jfif").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "c.HEIC").write_bytes(b"....ftypheic")
    names = ["a.jpg", "b.jfif"]
    if PIL.features.check("avif"):
        write(tmp_path, "d.avif", flat(RED))
        names.append("d.avif")
    for name in "bc":
        (tmp_path / f"{name}.txt").write_text("a phone")
    data = load(tmp_path)
    assert data.files == names
    assert list(data.skipped) == ["c.HEIC"] and "no picture that can be read" in data.skipped["c.HEIC"]


@pytest.mark.parametrize("key", ["text", "caption"])
def test_metadata_may_be_a_table(key, tmp_path):
    for name in ("a.png", "b.png", "unlisted.png"):
        write(tmp_path, name, flat(RED), caption=None)
    (tmp_path / "metadata.csv").write_text(
        f'file_name,{key}\nb.png,"red, and ""round"""\na.png,红\n', encoding="utf-8-sig"
    )
    data = load(tmp_path)
    assert data.files == ["b.png", "a.png"] and data.captions == ['red, and "round"', "红"]
    assert data.skipped == {"unlisted.png": "not in metadata.csv"}
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,red\n../b.png,red\n")
    with pytest.raises(ValueError, match=r"metadata\.csv, line 3: .*must be relative"):
        load(tmp_path)
    (tmp_path / "metadata.csv").write_text("name,text\na.png,red\n")
    with pytest.raises(ValueError, match=r"metadata\.csv, line 2: .*file_name.* is missing"):
        load(tmp_path)


def test_hidden_files_and_other_kinds_of_files_are_ignored(tmp_path):
    write(tmp_path, "a.png", flat(RED))
    for name in (".DS_Store", "._a.png", ".cache/b.png", "notes.txt", "c.svg", "sub/.d.jpg"):
        write(tmp_path, name, b"?", None)
    (tmp_path / "folder.png").mkdir()
    data = load(tmp_path)
    assert data.files == ["a.png"] and data.skipped == {}


def png_bytes(folder: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(folder / "noise.png")
    content = (folder / "noise.png").read_bytes()
    (folder / "noise.png").unlink()
    return content


def bomb() -> bytes:
    """A PNG whose header claims 100,000 x 100,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\1\0IDAT"
    )


@pytest.mark.parametrize(
    "content, caption, reason",
    [
        (lambda folder: png_bytes(folder)[:-1500], "a cat", "cannot be read: image file is truncated"),
        (lambda folder: b"", "a cat", "cannot be read: not one of PNG, JPEG"),
        (lambda folder: b"P6 1 1 255 abc", "a cat", "cannot be read: not one of PNG, JPEG"),
        (lambda folder: bomb(), "a cat", "cannot be read: Image size (10000000000 pixels) exceeds limit"),
        (png_bytes, None, "no caption"),
        (png_bytes, " \n\t\n", "empty caption"),
        (png_bytes, "红色".encode("gbk"), "sub/bad.txt is not UTF-8"),
        (png_bytes, "a cat".encode("utf-16"), "sub/bad.txt is not UTF-8"),
    ],
    ids=["truncated", "no bytes", "another format of PIL's", "bomb", "no caption", "empty caption", "GBK", "UTF-16"],
)
def test_what_cannot_be_used_is_skipped_with_the_reason(content, caption, reason, tmp_path):
    write(tmp_path, "good.png", flat(RED))
    write(tmp_path, "sub/bad.png", content(tmp_path), caption)
    data = load(tmp_path)
    assert data.files == ["good.png"] and list(data.skipped) == ["sub/bad.png"]
    assert data.skipped["sub/bad.png"].startswith(reason)
    assert str(data).startswith(f"1 picture with 1 caption; 1 skipped: sub/bad.png ({reason}")


def test_files_that_the_disk_does_not_hand_over_are_skipped(tmp_path, monkeypatch):
    write(tmp_path, "a.png", flat(RED))
    write(tmp_path, "b.png", flat(RED))
    write(tmp_path, "c.png", flat(RED))
    really_open = open

    def refusing_open(path, *args, **kwargs):
        if Path(path).name in ("b.png", "c.txt"):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refusing_open)
    monkeypatch.setattr("io.open", refusing_open)
    data = load(tmp_path)
    assert data.files == ["a.png"]
    denied = "cannot be read: Permission denied"
    assert data.skipped == {"b.png": denied, "c.png": f"c.txt {denied}"}


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_whose_range_nobody_knows_is_skipped(mode, tmp_path):
    write(tmp_path, "a.png", flat(RED))
    write(tmp_path, "b.tif", flat(1, mode))
    assert load(tmp_path).skipped == {"b.tif": "cannot be read: nothing says which of its 32-bit values is white"}


def test_metadata_may_list_files_that_are_missing_or_have_an_empty_caption(tmp_path):
    write(tmp_path, "good.png", flat(RED), None)
    write(tmp_path, "empty.png", flat(RED), None)
    names = ("missing.png", "good.png", "empty.png", "x" * 300 + ".png")
    write_metadata(tmp_path, *({"file_name": name, "text": "" if name == "empty.png" else "red"} for name in names))
    data = load(tmp_path)
    assert data.files == ["good.png"]
    assert data.skipped == {
        "empty.png": "empty caption",
        "missing.png": "does not exist",
        "x" * 300 + ".png": "does not exist",
    }


@pytest.mark.parametrize(
    "line, message",
    [
        ("a cat", r"not JSON in UTF-8 \(Expecting value, column 1\)"),
        ('{"file_name": "a.png", "text": "红色"}'.encode("gbk"), "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON in UTF-8"),
        ('["a.png", "a cat"]', "must be an object such as .*; got .*list"),
        ('{"text": "a cat"}', '"file_name" is missing'),
        ('{"file_name": "a.png", "prompt": "a cat"}', '"text" is missing'),
        ('{"file_name": 7, "text": "a cat"}', '"file_name" must be a string; got 7'),
        ('{"file_name": "a.png", "text": ["a cat"]}', r'"text" must be a string; got \[\'a cat\'\]'),
        (r'{"file_name": "a\u0000.png", "text": "a cat"}', '"file_name" holds half a character or none'),
        (r'{"file_name": "a.png", "text": "\ud83d"}', '"text" holds half a character or none'),
        ('{"file_name": "", "text": "a cat"}', "must be relative and lie inside the folder; '' does not"),
        ('{"file_name": "../a.png", "text": "a cat"}', r"inside the folder; '\.\./a\.png'"),
        ('{"file_name": "sub/../../a.png", "text": "a cat"}', "inside the folder; 'sub/../../a.png'"),
        ('{"file_name": "link.png", "text": "a cat"}', "inside the folder; 'link.png'"),
        ('{"file_name": "linked/a.png", "text": "a cat"}', "inside the folder; 'linked/a.png'"),
    ],
)
def test_a_wrong_line_of_metadata_is_named_with_its_number(line, message, tmp_path):
    folder = tmp_path / "pictures"
    write(tmp_path, "a.png", flat(BLUE), None)
    write(folder, "a.png", flat(RED), None)
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    (folder / "linked").symlink_to(tmp_path)
    write_metadata(folder, {"file_name": "a.png", "text": "red"}, "", line, {"file_name": "a.png", "text": "red"})
    with pytest.raises(ValueError, match=rf"pictures/metadata\.jsonl, line 3: .*{message}"):
        load(folder)


def test_links_are_followed_inside_the_folder_and_not_out_of_it(tmp_path):
    folder = tmp_path / "pictures"
    write(tmp_path, "secret.png", flat(BLUE), "a secret")
    write(folder, "a.png", flat(RED))
    (folder / "inside.png").symlink_to("a.png")
    (folder / "inside.txt").symlink_to("a.txt")
    write(folder, "picture.png", flat(RED))
    for name in ("picture.png", "caption.txt"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((tmp_path / "secret.png").with_suffix(name[-4:]))
    write(folder, "caption.png", flat(RED), None)
    data = load(folder)
    assert data.files == ["a.png", "inside.png"]
    outside = "a link that leads outside the folder"
    assert data.skipped == {"caption.png": outside, "picture.png": outside}


def test_an_absolute_name_is_refused_even_inside_the_folder(tmp_path):
    write(tmp_path, "a.png", flat(RED), None)
    write_metadata(tmp_path, {"file_name": str(tmp_path.resolve() / "a.png"), "text": "red"})
    with pytest.raises(ValueError, match="must be relative and lie inside the folder"):
        load(tmp_path)


def test_a_folder_may_be_a_link_itself_or_lie_in_the_home(tmp_path, monkeypatch):
    write(tmp_path / "pictures", "a.png", flat(RED), None)
    write_metadata(tmp_path / "pictures", {"file_name": "a.png", "text": "red"})
    (tmp_path / "link").symlink_to("pictures")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(tmp_path / "link").captions == load("~/pictures").captions == ["red"]


def test_a_folder_that_is_not_there_or_has_nothing_in_it_is_named(tmp_path):
    (tmp_path / "file.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailable, match="missing does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(DataUnavailable, match=r"file\.png is a file, not a folder"):
        load(tmp_path / "file.png")
    with pytest.raises(DataUnavailable, match=r"empty has no pictures; they end in \.png, "):
        load(tmp_path / "empty")


def test_where_no_picture_is_left_the_error_is_the_report(tmp_path):
    write(tmp_path, "broken.png", b"?")
    write(tmp_path, "lonely.png", flat(RED), None)
    report = r"0 pictures with 0 captions; 2 skipped: broken\.png \(cannot be read: .*\), lonely\.png \(no caption\)"
    with pytest.raises(DataUnavailable, match=rf"{report}.*metadata\.jsonl, or a cat\.txt"):
        load(tmp_path)


def test_a_long_report_shows_ten_and_counts_the_rest_and_any_name_can_be_printed(tmp_path):
    write(tmp_path, "a.png", flat(RED))
    for i in range(12):
        write(tmp_path, f"lonely{i:02}.png", b"?", None)
    data = load(tmp_path)
    assert len(data.skipped) == 12
    assert "; 12 skipped: lonely00.png (" in str(data) and str(data).endswith("lonely09.png (no caption) and 2 more")
    data.skipped = {os.fsdecode(b"caf\xe9.png"): "no caption"}  # a name in Latin-1, from an old archive
    assert str(data).encode().endswith(rb"caf\udce9.png (no caption)")


@pytest.mark.parametrize("size", [0, True, (8, 8)])
def test_another_size_is_refused(size, tmp_path):
    write(tmp_path, "a.png", flat(RED))
    with pytest.raises((ValueError, TypeError), match=f"size must .*{re.escape(repr(size))}"):
        load(tmp_path, size)


def test_it_is_a_dataset_that_pytorchs_dataloader_batches(tmp_path):
    for i in range(5):
        write(tmp_path, f"{i}.png", flat((50 * i, 0, 0)), f"number {i}")
    data = load(str(tmp_path))
    assert len(data) == 5 and torch.equal(data[3][0], data.pictures[3]) and data[3][1] == "number 3"
    assert data == data and data != load(tmp_path)  # identity: tensors have no single answer to ==
    batches = list(DataLoader(data, batch_size=2))
    assert torch.equal(torch.cat([pictures for pictures, _ in batches]), data.pictures)
    assert [list(captions) for _, captions in batches] == [
        ["number 0", "number 1"],
        ["number 2", "number 3"],
        ["number 4"],
    ]


def test_the_bar_counts_pictures_and_can_be_silent(tmp_path, capsys):
    write(tmp_path, "a.png", flat(RED), "one\ntwo")
    write(tmp_path, "b.png", flat(RED))
    load_captioned_folder(tmp_path, 8)
    assert "2/2" in capsys.readouterr().err
    load_captioned_folder(tmp_path, 8, progress=False)
    assert capsys.readouterr() == ("", "")


def test_one_picture_is_read_as_in_a_folder_also_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, "a.jpg", halves(RED, BLUE), exif=exif, quality=100)
    picture = read_picture(str(tmp_path / "a.jpg"), 8)
    assert picture.dtype == torch.uint8 and torch.equal(picture, bytes_of(load(tmp_path).pictures[0]))
    assert torch.equal(read_picture("~/a.jpg", 8), picture)


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("missing.png", FileNotFoundError, "there is no picture missing.png"),
        ("folder", FileNotFoundError, "folder is a folder, not a picture"),
        ("notes.txt", ValueError, "notes.txt cannot be read: not one of PNG"),
        ("text.png", ValueError, "text.png cannot be read: not one of PNG"),
        ("empty.png", ValueError, "empty.png cannot be read"),
        ("cut.png", ValueError, "cut.png cannot be read: .*truncated"),
    ],
)
def test_one_picture_that_cannot_be_read_is_named_with_the_reason(name, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write(Path(), "cut.png", PIL.Image.fromarray(noise), None)
    for file, content in {"notes.txt": b"hello", "text.png": b"hello", "empty.png": b""}.items():
        Path(file).write_bytes(content)
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:1500])
    with pytest.raises(error, match=words):
        read_picture(name, 8)
