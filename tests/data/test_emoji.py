import hashlib
import importlib.util
import io
import json
import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from ddpm_core.course.doctor import CHECKSUMS
from ddpm_core.data import DataUnavailable
from ddpm_core.data import emoji as module
from ddpm_core.data.emoji import EmojiDataset
from ddpm_core.support.files import data_folder, shipped_file
from ddpm_core.text import split_words

FILES = ("emoji.png", "emoji.jsonl")
N = 1377


@pytest.fixture(scope="module")
def emoji() -> EmojiDataset:
    return EmojiDataset()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the two files, to break."""
    for name in FILES:
        shutil.copy(shipped_file(name), tmp_path)
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_emoji", data_folder() / "build_emoji.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_files_are_small_and_the_ones_that_the_doctor_expects():
    contents = {name: shipped_file(name).read_bytes() for name in FILES}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == {
        name: CHECKSUMS[name] for name in FILES
    }
    assert sum(map(len, contents.values())) < 2.5e6


@pytest.mark.parametrize("i", [0, 39, 40, 278, N - 1])
def test_a_picture_is_a_cell_of_the_sheet_and_a_name_is_a_line(i, emoji):
    x, y = i % 40 * 32, i // 40 * 32
    with PIL.Image.open(shipped_file("emoji.png")) as sheet:
        assert sheet.mode == "RGB" and sheet.size == (40 * 32, 35 * 32)
        cell = np.asarray(sheet.crop((x, y, x + 32, y + 32)))
    row = json.loads(shipped_file("emoji.jsonl").read_text(encoding="utf-8").splitlines()[i])
    assert np.array_equal(((emoji.pictures[i] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), cell)
    assert row == {"emoji": emoji.characters[i], "en": emoji.captions["en"][i], "zh": emoji.captions["zh"][i]}


def test_there_are_1377_pictures_between_minus_1_and_1(emoji):
    assert emoji.pictures.shape == (N, 3, 32, 32) and emoji.pictures.dtype == torch.float32
    assert emoji.pictures.min() == -1 and emoji.pictures.max() == 1
    assert len(emoji.characters) == len(emoji.captions["en"]) == len(emoji.captions["zh"]) == N


def test_no_two_emoji_are_the_same_in_character_picture_or_caption_to_the_tokenizer(emoji):
    assert len(set(emoji.characters)) == len({picture.numpy().tobytes() for picture in emoji.pictures}) == N
    for captions in emoji.captions.values():
        words = [tuple(split_words(caption)) for caption in captions]
        assert len(set(words)) == N and all(words)


def test_every_character_is_one_code_point_with_or_without_the_request_for_colour(emoji):
    assert all(len(character.removesuffix("\ufe0f")) == 1 for character in emoji.characters)
    assert emoji.characters == sorted(emoji.characters)


@pytest.mark.parametrize(
    "character, en, zh",
    [("🍎", "red apple", "红苹果"), ("🐈", "cat", "猫"), ("❤️", "red heart", "红心"), ("🚀", "rocket", "火箭")],
)
def test_known_emoji_have_their_names(character, en, zh, emoji):
    i = emoji.characters.index(character)
    assert (emoji.captions["en"][i], emoji.captions["zh"][i]) == (en, zh)


def test_captions_are_tidy(emoji):
    for caption in [*emoji.captions["en"], *emoji.captions["zh"]]:
        assert caption == " ".join(caption.split()).lower() and caption and not set(caption) & set(":_")
    foreign = [caption for caption in emoji.captions["en"] if not caption.replace("’", "'").isascii()]
    assert foreign == ["piñata"]


def test_chinese_captions_are_chinese_but_for_three_that_are_abbreviations_there_too(emoji):
    foreign = [caption for caption in emoji.captions["zh"] if not any("一" <= sign <= "鿿" for sign in caption)]
    assert sorted(foreign) == ["dna", "dvd", "ok"]


def test_emoji_stand_on_white_in_the_middle(emoji):
    edge = torch.cat([emoji.pictures[:, :, [0, -1]].flatten(1), emoji.pictures[:, :, :, [0, -1]].flatten(1)], 1)
    assert (edge > 0.9).float().mean() > 0.99
    ink = (1 - emoji.pictures).amax(1) > 0.12  # (N, y, x): whatever one can see; steam is fainter
    for axis in (1, 2):
        line = ink.any(axis).float()
        first, last = line.argmax(1), 31 - line.flip(1).argmax(1)
        assert (first + last - 31).abs().max() <= 2  # the margins differ by 2 pixels at most


def test_each_emoji_comes_once_in_each_language_first_all_in_one_then_all_in_the_other(emoji):
    assert len(emoji) == 2 * N
    i = emoji.characters.index("🍎")
    for index, caption in ((i, "red apple"), (N + i, "红苹果"), (i - 2 * N, "red apple"), (i - N, "红苹果")):
        picture, found = emoji[index]
        assert torch.equal(picture, emoji.pictures[i]) and found == caption
    assert [caption for _, caption in emoji] == emoji.captions["en"] + emoji.captions["zh"]


@pytest.mark.parametrize("index", [2 * N, -2 * N - 1])
def test_beyond_the_last_there_is_nothing(index, emoji):
    with pytest.raises(IndexError):
        emoji[index]


@pytest.mark.parametrize("languages, first", [(["zh"], "版权"), (["en"], "copyright"), (("zh", "en"), "版权")])
def test_languages_come_in_the_order_in_which_they_are_asked_for(languages, first):
    some = EmojiDataset(languages)
    assert len(some) == len(languages) * N and some[0][1] == first and list(some.captions) == list(languages)


def test_a_data_loader_makes_batches_of_it(emoji):
    loader = DataLoader(emoji, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
    pictures, captions = next(iter(loader))
    assert pictures.shape == (64, 3, 32, 32) and pictures.dtype == torch.float32
    assert len(captions) == 64 and all(isinstance(caption, str) for caption in captions)
    assert len(loader) == -(-2 * N // 64)


@pytest.mark.parametrize("languages", [["en", "de"], [], [None], ["EN"], ["en", "en"]])
def test_another_language_is_refused_with_the_two_that_exist(languages):
    with pytest.raises(ValueError) as error:
        EmojiDataset(languages)
    assert "languages must be among en, zh" in str(error.value) and str(languages) in str(error.value)


def test_a_single_string_is_no_list_of_languages():
    with pytest.raises(TypeError, match=r"such as \['en'\]"):
        EmojiDataset("en")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_command_that_brings_it_back(name, folder):
    (folder / name).unlink()
    with pytest.raises(DataUnavailable, match=rf"{name} is not in .*git checkout -- data/{name}"):
        EmojiDataset()


def white(content: bytes) -> bytes:
    """A sheet of the right size with nothing on it."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (1280, 1120), "white").save(file, "PNG")
    return file.getvalue()


def without_a_line(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[1:])


def without_chinese(content: bytes) -> bytes:
    return content.replace(b'"zh"', b'"fr"', 1)


@pytest.mark.parametrize(
    "name, damage",
    [
        ("emoji.png", lambda content: b""),
        ("emoji.png", lambda content: content[:1000]),
        ("emoji.png", lambda content: content[: len(content) // 2]),
        ("emoji.png", white),
        ("emoji.jsonl", lambda content: content + b"7\n"),
        ("emoji.jsonl", lambda content: content + content.splitlines()[0]),
        ("emoji.jsonl", lambda content: b"\xff" + content),
        ("emoji.jsonl", without_a_line),
        ("emoji.jsonl", without_chinese),
    ],
)
def test_damaged_files_are_called_so_with_the_command_that_brings_them_back(name, damage, folder):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(DataUnavailable, match=r"is damaged; .*git checkout -- data/emoji\.png data/emoji\.jsonl"):
        EmojiDataset()


def test_the_builder_makes_the_same_files_again(builder):
    if why := builder.difference():
        pytest.skip(why)
    sheet, lines = builder.build(builder.ImageFont.truetype(builder.FONT, builder.FONT_SIZE))
    assert lines.encode() == shipped_file("emoji.jsonl").read_bytes()
    with PIL.Image.open(shipped_file("emoji.png")) as shipped:
        assert np.array_equal(np.asarray(sheet), np.asarray(shipped))
