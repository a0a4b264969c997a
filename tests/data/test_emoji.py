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

from ddpm_core.data import DataUnavailable, EmojiDataset
from ddpm_core.data.emoji import CHECKSUMS, LANGUAGES, STYLES
from ddpm_core.support.files import data_folder, shipped_file
from ddpm_core.support.pixels import from_bytes
from ddpm_core.text import Tokenizer, split_words
from ddpm_core.text_to_image import prompt_notice

N = 1377
COUNTS = {"noto": N, "blob": 1073, "twemoji": N, "openmoji": N, "fluent": 1353, "flat": 1353, "emojione": 1044}
SHEETS = [f"emoji/{style}.webp" for style in STYLES]


@pytest.fixture(scope="module")
def emoji() -> EmojiDataset:
    return EmojiDataset(split="all")


@pytest.fixture(scope="module")
def small() -> dict[str, EmojiDataset]:
    return {split: EmojiDataset(16, split=split) for split in ("train", "withheld", "all")}


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    return [json.loads(line) for line in shipped_file("emoji.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, to break."""
    (tmp_path / "emoji").mkdir()
    for name in CHECKSUMS:
        shutil.copy(shipped_file(name), tmp_path / name)
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_emoji", data_folder() / "build_emoji.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def cell(style: str, i: int) -> PIL.Image.Image:
    x, y = i % 40 * 64, i // 40 * 64
    with PIL.Image.open(shipped_file(f"emoji/{style}.webp")) as sheet:
        assert sheet.format == "WEBP" and sheet.mode == "RGB" and sheet.size == (40 * 64, 35 * 64)
        return sheet.crop((x, y, x + 64, y + 64))


def pairs_of(data: EmojiDataset) -> set[tuple[str, int]]:
    return {(data.styles[style], name) for style, name in zip(data.style_ids, data.name_ids.tolist(), strict=True)}


# Files


def test_the_files_are_small_and_of_each_style_there_is_a_licence():
    assert list(CHECKSUMS) == ["emoji.jsonl", *SHEETS]
    assert sum(shipped_file(name).stat().st_size for name in CHECKSUMS) < 10e6
    words = {"noto": "Apache", "blob": "Apache", "openmoji": "CC BY-SA 4.0", "fluent": "MIT", "flat": "MIT"}
    for style in STYLES:
        licence = shipped_file(f"emoji/{style}.txt").read_text(encoding="utf-8")
        assert words.get(style, "CC BY 4.0") in licence and f"{style}.webp" in licence


@pytest.mark.parametrize("style, i", [("noto", 0), ("blob", 39), ("flat", 40), ("emojione", 278), ("openmoji", N - 1)])
def test_a_picture_is_a_cell_of_the_sheet_and_a_name_is_a_line(style, i, emoji, lines):
    row = emoji.row(style, emoji.characters[i])
    assert np.array_equal(emoji.pictures[row].permute(1, 2, 0).numpy(), np.asarray(cell(style, i)))
    assert emoji.name_ids[row] == i and emoji.styles[emoji.style_ids[row]] == style
    names = {"emoji": emoji.characters[i], "en": emoji.names["en"][i], "zh": emoji.names["zh"][i]}
    assert lines[i] | names == lines[i]


@pytest.mark.parametrize("style", STYLES)
def test_a_cell_is_drawn_on_where_the_style_has_the_emoji_and_white_elsewhere(style, lines):
    with PIL.Image.open(shipped_file(f"emoji/{style}.webp")) as sheet:
        pixels = np.asarray(sheet).reshape(35, 64, 40, 64, 3)
    is_drawn_on = (pixels != 255).any(axis=(1, 3, 4)).flatten()
    has_it = [style in row["styles"] for row in lines]
    assert is_drawn_on.tolist() == has_it + [False] * (1400 - N)
    assert sum(has_it) == COUNTS[style]


def test_the_names_of_this_file_and_the_sheets_are_known_by_their_checksums():
    for name, checksum in CHECKSUMS.items():
        assert hashlib.sha256(shipped_file(name).read_bytes()).hexdigest() == checksum


# Pictures


def test_there_are_8954_pictures_of_bytes_style_after_style(emoji):
    count = sum(COUNTS.values())
    assert count == 8954
    assert emoji.pictures.shape == (count, 3, 64, 64) and emoji.pictures.dtype == torch.uint8
    assert torch.equal(emoji.style_ids, torch.repeat_interleave(torch.arange(7), torch.tensor(list(COUNTS.values()))))
    for style_id in range(7):
        ids = emoji.name_ids[emoji.style_ids == style_id]
        assert (ids.diff() > 0).all() and ids[-1] < N


def test_the_outermost_pixels_are_white_at_every_size_of_half_or_more(emoji):
    for pictures in (emoji.pictures, EmojiDataset(32, split="all").pictures):
        edges = pictures[:, :, [0, -1]].flatten(), pictures[:, :, :, [0, -1]].flatten()
        assert all((edge == 255).all() for edge in edges)


def test_white_has_no_rings_beside_edges(emoji):
    """In openmoji everything has a black outline: next to it the sharper filters leave values just below white."""
    openmoji = emoji.pictures[emoji.style_ids == STYLES.index("openmoji")].amin(dim=1)
    assert ((openmoji < 255) & (openmoji >= 247)).float().mean() < 0.01 * (openmoji == 255).float().mean()


def test_emoji_stand_in_the_middle_and_are_of_one_size_in_all_styles(emoji):
    ink = (emoji.pictures < 240).any(dim=1)  # (N, y, x)
    sides = []
    for axis in (1, 2):
        line = ink.any(axis).int()
        first, last = line.argmax(1), 63 - line.flip(1).argmax(1)
        assert (first + last - 63).abs().max() <= 2
        sides.append(last - first + 1)
    longest = torch.maximum(*sides)
    assert longest.max() <= 60
    medians = [longest[emoji.style_ids == style_id].median().item() for style_id in range(7)]
    assert all(57 <= median <= 60 for median in medians)


def test_no_two_pictures_of_a_style_are_the_same_but_for_two_pairs_that_were_drawn_so(emoji):
    for style_id, style in enumerate(STYLES):
        pictures = [picture.numpy().tobytes() for picture in emoji.pictures[emoji.style_ids == style_id]]
        assert len(pictures) - len(set(pictures)) == (2 if style == "flat" else 0)


@pytest.mark.parametrize("size", [32, 16, 1])
def test_smaller_pictures_are_averages_over_squares_as_pillow_makes_them(size, emoji):
    small = EmojiDataset(size, ["fluent"], split="all")
    for i in (0, 100, 1352):
        expected = np.asarray(cell("fluent", small.name_ids[i].item()).reduce(64 // size)).astype(int)
        assert np.abs(small.pictures[i].permute(1, 2, 0).numpy() - expected).max() <= 1  # who rounds halves how


# Names and captions


def test_no_two_names_are_the_same_to_the_tokenizer(emoji):
    assert len(set(emoji.characters)) == N
    for names in emoji.names.values():
        words = [tuple(split_words(name)) for name in names]
        assert len(set(words)) == N and all(words)


def test_a_style_is_one_word_and_no_caption_means_two_things(emoji):
    assert all(split_words(style) == [style] for style in STYLES)
    for language in LANGUAGES:
        captions = emoji.captions(language) + emoji.names[language]
        assert len({tuple(split_words(caption)) for caption in captions}) == len(emoji.pictures) + N


def test_every_character_is_one_code_point_with_or_without_the_request_for_colour(emoji):
    assert all(len(character.removesuffix("\ufe0f")) == 1 for character in emoji.characters)
    assert emoji.characters == sorted(emoji.characters)


@pytest.mark.parametrize(
    "character, en, zh",
    [("🍎", "red apple", "红苹果"), ("🐈", "cat", "猫"), ("❤️", "red heart", "红心"), ("🚀", "rocket", "火箭")],
)
def test_known_emoji_have_their_names_in_every_style(character, en, zh, emoji):
    for style in STYLES:
        row = emoji.row(style, character)
        assert row == emoji.row(style, en) == emoji.row(style, zh)
        assert emoji.caption(row) == f"{style} {en}" and emoji.caption(row, with_style=False) == en
        assert emoji.caption(row, "zh") == f"{style} {zh}" and emoji.caption(row, "zh", with_style=False) == zh


def test_the_insect_is_not_the_game(emoji):
    """Two sets have "cricket" as another word for the game of cricket; there the insect is missing."""
    for style in STYLES:
        game = emoji.pictures[emoji.row(style, "cricket game")]
        if style in ("blob", "emojione"):
            with pytest.raises(ValueError, match=rf"no {style} picture of 'cricket'"):
                emoji.row(style, "cricket")
        else:
            assert not torch.equal(emoji.pictures[emoji.row(style, "cricket")], game)


def test_names_are_tidy(emoji):
    for name in [*emoji.names["en"], *emoji.names["zh"]]:
        assert name == " ".join(name.split()).lower() and name and not set(name) & set(":_")
    foreign = [name for name in emoji.names["en"] if not name.replace("’", "'").isascii()]
    assert foreign == ["piñata"]


def test_chinese_names_are_chinese_but_for_three_that_are_abbreviations_there_too(emoji):
    foreign = [name for name in emoji.names["zh"] if not any("一" <= sign <= "鿿" for sign in name)]
    assert sorted(foreign) == ["dna", "dvd", "ok"]


def test_an_unknown_style_word_is_named_and_the_rest_is_drawn(small):
    tokenizer = Tokenizer.from_captions(small["train"].captions("en"))
    assert prompt_notice(tokenizer, "flat rocket") is None
    notice = prompt_notice(tokenizer, "pixel rocket")
    assert '"pixel"' in notice and "rocket" in notice and "the other words" in notice


# Splits


def test_training_and_withheld_pairs_are_all_pairs_and_share_none(small):
    train, withheld, everything = (pairs_of(small[split]) for split in ("train", "withheld", "all"))
    assert train | withheld == everything and not train & withheld
    assert len(train) == len(small["train"].pictures) and len(withheld) == 399
    assert torch.bincount(small["withheld"].style_ids).tolist() == [57] * 7
    assert not small["train"].is_withheld.any() and small["withheld"].is_withheld.all()
    marked = small["all"].is_withheld
    assert torch.equal(small["all"].pictures[marked], small["withheld"].pictures)
    assert torch.equal(small["all"].pictures[~marked], small["train"].pictures)


def test_everyday_emoji_have_one_english_word_and_a_drawing_in_every_style(small):
    data = small["all"]
    everyday = {data.names["en"][name_id] for name_id in data.name_ids[data.is_everyday].tolist()}
    assert len(everyday) == 346 and data.is_everyday.sum() == 7 * 346
    assert {"rocket", "cat"} < everyday and not {"red apple", "t-shirt", "one-thirty"} & everyday
    drawn_by_all = [name for name_id, name in enumerate(data.names["en"]) if (data.name_ids == name_id).sum() == 7]
    assert everyday == {name for name in drawn_by_all if name.isalpha()}


def test_a_withheld_name_is_trained_on_in_two_other_styles_or_more(small):
    times = torch.bincount(small["train"].name_ids, minlength=N)
    assert times.min() >= 2
    assert len(small["withheld"].name_ids.unique()) == 399  # so each is withheld in one style only


def test_the_withheld_pairs_follow_from_their_rule(builder, lines):
    again = [row | {"withheld": None} for row in lines]
    builder.withhold(again)
    assert again == lines


def test_a_split_with_fewer_styles_withholds_the_same(small):
    some = EmojiDataset(16, ["flat", "blob"], split="withheld")
    assert pairs_of(some) == {pair for pair in pairs_of(small["withheld"]) if pair[0] in ("flat", "blob")}
    assert some.styles == ("flat", "blob") and some.caption(0).startswith("flat ") and some.style_ids[0] == 0


# Items


def test_each_picture_comes_with_each_caption_first_with_its_style_then_without(small):
    data = small["withheld"]
    assert len(data) == 4 * 399
    i = 200
    captions = [data.caption(i), data.caption(i, "zh"), data.caption(i, "en", False), data.caption(i, "zh", False)]
    for block, caption in enumerate(captions):
        picture, found = data[block * 399 + i]
        assert torch.equal(picture, from_bytes(data.pictures[i])) and picture.dtype == torch.float32
        assert found == caption == data[block * 399 + i - len(data)][1]
    listed = [data.captions(language, with_style) for with_style in (True, False) for language in LANGUAGES]
    assert [caption for _, caption in data] == [caption for block in listed for caption in block]


def test_beyond_the_last_there_is_nothing(small):
    for index in (4 * 399, -4 * 399 - 1):
        with pytest.raises(IndexError):
            small["withheld"][index]


@pytest.mark.parametrize(
    "languages, first", [(["zh"], "noto 版权"), (["en"], "noto copyright"), (("zh", "en"), "noto 版权")]
)
def test_languages_come_in_the_order_in_which_they_are_asked_for(languages, first):
    some = EmojiDataset(4, ["noto"], languages)
    assert len(some) == 2 * len(languages) * (N - 57) and some[0][1] == first and list(some.names) == list(languages)


def test_a_data_loader_makes_batches_of_it(small):
    loader = DataLoader(small["train"], batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
    pictures, captions = next(iter(loader))
    assert pictures.shape == (64, 3, 16, 16) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() == 1
    assert len(captions) == 64 and all(isinstance(caption, str) for caption in captions)


# Bad input


@pytest.mark.parametrize("size", [48, 0, 128, -32, True, "32", None, 31.5])
def test_a_size_that_does_not_divide_64_is_refused_with_those_that_do(size):
    with pytest.raises(ValueError, match=r"size must be 1, 2, 4, 8, 16, 32 or 64; got"):
        EmojiDataset(size)


@pytest.mark.parametrize("styles", [["noto", "pixel"], [], [None], ["Noto"], ["noto", "noto"], None, 7])
def test_another_style_is_refused_with_those_that_exist(styles):
    with pytest.raises(ValueError) as error:
        EmojiDataset(styles=styles)
    assert f"styles must be among {', '.join(STYLES)}" in str(error.value) and str(styles) in str(error.value)


@pytest.mark.parametrize("languages", [["en", "de"], [], [None], ["EN"], ["en", "en"]])
def test_another_language_is_refused_with_the_two_that_exist(languages):
    with pytest.raises(ValueError) as error:
        EmojiDataset(languages=languages)
    assert "languages must be among en, zh" in str(error.value) and str(languages) in str(error.value)


@pytest.mark.parametrize("which", [dict(styles="noto"), dict(languages="en")])
def test_a_single_string_is_no_list(which):
    (word,) = which.values()
    with pytest.raises(TypeError, match=rf"such as \['{word}'\]"):
        EmojiDataset(**which)


def test_another_split_is_refused():
    with pytest.raises(ValueError, match='split must be "train", "withheld" or "all"; got \'held_out\''):
        EmojiDataset(split="held_out")


def test_a_picture_that_is_not_there_is_missed_by_its_name(small):
    withheld = small["withheld"].caption(0, with_style=False)
    with pytest.raises(ValueError, match=rf"no noto picture of '{withheld}' in the split 'train'"):
        small["train"].row("noto", withheld)
    with pytest.raises(ValueError, match="no noto picture of 'rockett'"):
        small["train"].row("noto", "rockett")
    with pytest.raises(ValueError, match='style must be "noto", "blob"'):
        small["train"].row("pixel", "rocket")
    with pytest.raises(ValueError, match='language must be "en" or "zh"'):
        small["train"].caption(0, "de")


@pytest.mark.parametrize("name", ["emoji.jsonl", "emoji/noto.webp", "emoji/emojione.webp"])
def test_a_missing_file_is_named_with_the_command_that_brings_it_back(name, folder):
    (folder / name).unlink()
    with pytest.raises(DataUnavailable, match=rf"{name} is not in .*git checkout -- data/{name}"):
        EmojiDataset(1)


def white(content: bytes) -> bytes:
    """A sheet of the right size with nothing on it."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (2560, 2240), "white").save(file, "WEBP", lossless=True)
    return file.getvalue()


def with_a_bit_flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "name, damage",
    [
        ("emoji/blob.webp", lambda content: b""),
        ("emoji/blob.webp", lambda content: content[: len(content) // 2]),
        ("emoji/blob.webp", with_a_bit_flipped),
        ("emoji/blob.webp", white),
        ("emoji.jsonl", lambda content: content + b"7\n"),
        ("emoji.jsonl", lambda content: content.replace(b'"zh"', b'"fr"', 1)),
    ],
)
def test_a_damaged_file_is_called_so_with_the_command_that_brings_it_back(name, damage, folder):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(DataUnavailable, match=rf"{name} in .* is damaged; .*git checkout -- data/{name}"):
        EmojiDataset(1, ["noto", "blob"])
    if name != "emoji.jsonl":  # whoever does not ask for this style does not miss it
        assert len(EmojiDataset(1, ["noto"]).pictures) == N - 57


# The script that made the files


@pytest.mark.parametrize(
    "name, slugs",
    [
        ("red apple", ["red-apple"]),
        ("mrs. claus", ["mrs-claus"]),
        ("piñata", ["pinata"]),
        ("woman’s hat", ["womans-hat"]),
        ("face with open eyes & mouth", ["face-with-open-eyes-mouth"]),
        ("up! button", ["up-exclamation-button", "up-button"]),
    ],
)
def test_the_sets_are_asked_for_slugs(name, slugs, builder):
    assert builder.slugs(name) == slugs


def test_an_alias_counts_unless_it_is_another_emoji_that_is_not_turned_round(builder):
    icons = {
        "width": 10,
        "height": 10,
        "icons": {"bat": {"body": "B"}, "wide": {"body": "W", "width": 20}, "bear-face": {"body": "F"}},
        "aliases": {
            "cricket": {"parent": "bat"},
            "bear": {"parent": "bear-face"},
            "tab": {"parent": "bat", "hFlip": True},
        },
    }
    names = {"bat", "cricket", "bear", "tab", "wide"}
    assert builder.vector_graphic(icons, "cricket", names) is None
    assert builder.vector_graphic(icons, "moon", names) is None
    assert ">F<" in builder.vector_graphic(icons, "bear", names)[0]
    assert 'translate(10) scale(-1 1)">B<' in builder.vector_graphic(icons, "tab", names)[0]
    svg, side = builder.vector_graphic(icons, "wide", names)
    assert 'viewBox="0.0 -5.0 20 20"' in svg and side == 2


@pytest.mark.slow
def test_the_builder_makes_the_same_files_again(builder):
    folder = data_folder().parent / "build" / "icons"
    if why := builder.differences(folder):
        pytest.skip("; ".join(why))
    sheets, lines = builder.build(folder)
    assert lines.encode() == shipped_file("emoji.jsonl").read_bytes()
    for style, sheet in sheets.items():
        with PIL.Image.open(shipped_file(f"emoji/{style}.webp")) as shipped:
            assert np.array_equal(np.asarray(sheet), np.asarray(shipped))
