import itertools
import re
from collections import Counter

import pytest
import torch
from torch import Tensor

from ddpm_core import DigitScenes, all_scenes, caption_of, draw_scenes, is_withheld, load_digit_scenes
from ddpm_core.data.digit_scenes import (
    COLOURS,
    DIGITS,
    DIGITS_ZH,
    ENGLISH_ONLY,
    WITHHELD,
    WITHHELD_PAIRS,
    WITHHELD_SIDES,
    WORDINGS,
    Scene,
)
from ddpm_core.data.mnist import mnist_bytes
from ddpm_core.support.pixels import from_bytes
from ddpm_core.text import Tokenizer, split_words

COLOUR_WORDS = dict(red="red", green="green", blue="blue", yellow="yellow", purple="purple", white="white") | dict(
    红="red", 绿="green", 蓝="blue", 黄="yellow", 紫="purple", 白="white"
)
DIGIT_WORDS = {str(digit): digit for digit in range(10)}
DIGIT_WORDS |= dict(zero=0, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9)
DIGIT_WORDS |= {word: digit for digit, word in enumerate("零一二三四五六七八九")}

both_levels = pytest.mark.parametrize("num_digits", [1, 2])


def parse(caption: str) -> Scene:
    """What a caption says, read without the module's own wordings."""
    caption = caption.removeprefix("一个")
    colours = [COLOUR_WORDS[word] for word in re.findall("|".join(COLOUR_WORDS), caption)]
    digits = [DIGIT_WORDS[word] for word in re.findall("|".join(DIGIT_WORDS), caption)]
    things = tuple(zip(digits, colours, strict=True))
    first_named_is_right = "right of" in caption or re.search("在.*右边$", caption)
    return things[::-1] if first_named_is_right else things


def colours_of(scene: Scene) -> set[str]:
    return {colour for _, colour in scene}


def is_chinese(caption: str) -> bool:
    return re.search("[a-z]", caption) is None


@pytest.fixture(scope="module")
def data() -> dict[int, DigitScenes]:
    """20,000 training scenes of each level."""
    return {num_digits: load_digit_scenes(num_digits, 20_000, as_bytes=True) for num_digits in (1, 2)}


@both_levels
def test_a_scene_is_withheld_or_known_and_never_both(num_digits):
    known, withheld = set(all_scenes(num_digits, False)), set(all_scenes(num_digits, True))
    assert not known & withheld
    assert len(known) + len(withheld) == 60**num_digits
    assert 0.1 < len(withheld) / 60**num_digits < 0.3


@both_levels
def test_scenes_in_chinese_are_those_without_the_colour_that_is_english_only(num_digits):
    for withheld in (True, False):
        expected = [scene for scene in all_scenes(num_digits, withheld) if ENGLISH_ONLY not in colours_of(scene)]
        assert all_scenes(num_digits, withheld, "zh") == expected


def test_each_digit_is_withheld_in_one_colour_and_on_each_side_in_one_and_no_pair_is_withheld_both_ways():
    assert sorted(digit for digit, _ in WITHHELD) == list(range(10))
    assert sorted(digit for _, digit, _ in WITHHELD_SIDES) == list(range(10))
    for side in (0, 1):
        assert {colour for at, _, colour in WITHHELD_SIDES if at == side} == set(COLOURS) - {ENGLISH_ONLY}
    assert sorted(left for left, _ in WITHHELD_PAIRS) == sorted(right for _, right in WITHHELD_PAIRS) == [*range(10)]


@pytest.mark.parametrize(
    "scene, withheld",
    [
        (((7, "red"),), True),
        (((7, "blue"),), False),
        (((3, "red"), (6, "blue")), True),  # red three on the left
        (((6, "green"), (3, "red")), False),  # red three on the right
        (((0, "white"), (7, "blue")), True),  # zero left of seven
        (((7, "blue"), (0, "white")), False),
    ],
)
def test_a_scene_is_withheld_by_its_colour_its_side_or_its_pair(scene, withheld):
    assert is_withheld(scene) == withheld


@both_levels
def test_no_training_picture_and_no_training_caption_is_of_a_withheld_scene(data, num_digits):
    withheld = set(all_scenes(num_digits, withheld=True))
    assert not withheld & set(data[num_digits].scenes)
    assert not withheld & {parse(caption) for caption in data[num_digits].captions}


@both_levels
def test_every_known_scene_is_a_training_picture(data, num_digits):
    missing = set(all_scenes(num_digits, withheld=False)) - set(data[num_digits].scenes)
    assert len(missing) <= 0.005 * 60**num_digits  # of 20,000 draws


@both_levels
def test_the_caption_says_what_is_in_the_scene(data, num_digits):
    assert [parse(caption) for caption in data[num_digits].captions] == data[num_digits].scenes


@both_levels
def test_purple_is_never_said_in_chinese_and_the_other_colours_are_in_half_of_their_captions(data, num_digits):
    chinese = [is_chinese(caption) for caption in data[num_digits].captions]
    assert not any("紫" in caption for caption in data[num_digits].captions)
    purple = ["purple" in colours_of(scene) for scene in data[num_digits].scenes]
    assert not any(a and b for a, b in zip(chinese, purple, strict=True))
    assert sum(chinese) / purple.count(False) == pytest.approx(0.5, abs=0.02)


@both_levels
def test_a_quarter_of_the_captions_has_numerals(data, num_digits):
    with_numerals = [re.search("[0-9]", caption) is not None for caption in data[num_digits].captions]
    assert sum(with_numerals) / 20_000 == pytest.approx(0.25, abs=0.02)


@both_levels
def test_every_wording_is_as_frequent_as_the_others(data, num_digits):
    markers = {
        1: ["^a [a-z]+ [a-z0-9]+$", "the digit", ", ", "^一个", "^数字"],
        2: ["left of a", "right of a", "on the left", "and then", "左边$", "右边$", "^左边是", "^先"],
    }[num_digits]
    captions = Counter(is_chinese(caption) for caption in data[num_digits].captions)
    for marker in markers:
        found = [caption for caption in data[num_digits].captions if re.search(marker, caption)]
        expected = captions[is_chinese(found[0])] / 4
        assert len(found) == pytest.approx(expected, rel=0.06), marker


@both_levels
def test_all_prompts_to_test_with_are_made_of_training_words_and_fit(data, num_digits):
    tokenizer, words, longest = Tokenizer.from_captions(data[num_digits].captions), set(), 0
    for language in ("en", "zh"):
        for scene in all_scenes(num_digits, True, language) + all_scenes(num_digits, False, language)[::7]:
            for wording in range(4):
                for numerals in (False, True):
                    split = split_words(caption_of(scene, language, wording, numerals))
                    words.update(split)
                    longest = max(longest, len(split))
    assert words <= set(tokenizer.words)
    assert longest < tokenizer.max_length


@both_levels
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_wording_says_which_digit_is_where_in_which_colour(num_digits, language):
    scenes = all_scenes(num_digits, False, language) + all_scenes(num_digits, True, language)
    for wording, numerals in itertools.product(range(4), (False, True)):
        captions = [caption_of(scene, language, wording, numerals) for scene in scenes]
        assert [parse(caption) for caption in captions] == scenes
        assert len(set(captions)) == len(scenes)
        assert all(is_chinese(caption) == (language == "zh") for caption in captions)


@pytest.mark.parametrize(
    "scene, language, wording, numerals, caption",
    [
        (((7, "red"),), "en", 0, False, "a red seven"),
        (((7, "red"),), "en", 2, True, "the digit 7 in red"),
        (((7, "red"),), "zh", 0, False, "红色的七"),
        (((1, "white"),), "zh", 2, False, "一个白色的一"),
        (((3, "red"), (7, "blue")), "en", 0, False, "a red three left of a blue seven"),
        (((3, "red"), (7, "blue")), "en", 1, False, "a blue seven right of a red three"),
        (((3, "red"), (7, "blue")), "en", 2, True, "red 3 on the left, blue 7 on the right"),
        (((3, "red"), (7, "blue")), "zh", 0, False, "红色的三在蓝色的七左边"),
        (((3, "red"), (7, "blue")), "zh", 1, False, "蓝色的七在红色的三右边"),
        (((3, "red"), (7, "blue")), "zh", 3, True, "先红色的3，后蓝色的7"),
    ],
)
def test_captions_read_like_this(scene, language, wording, numerals, caption):
    assert caption_of(scene, language, wording, numerals) == caption
    assert parse(caption) == scene


def test_the_words_of_the_digits_are_ten_in_each_language_and_there_are_four_wordings():
    assert len(set(DIGITS)) == len(set(DIGITS_ZH)) == 10
    assert all(len(set(wordings)) == 4 for wordings in WORDINGS.values()) and len(WORDINGS) == 4


def each(pictures: Tensor) -> list[bytes]:
    """The bytes of each picture."""
    return [picture.numpy().tobytes() for picture in pictures]


@both_levels
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_each_side_is_a_real_digit_of_the_split_painted_in_its_colour(num_digits, split):
    data = load_digit_scenes(num_digits, 500, split, seed=4)
    assert data.pictures.shape == (500, 3, 28, 28 * num_digits) and data.pictures.dtype == torch.float32
    assert data.pictures.min() == -1 and data.pictures.max() <= 1
    real, labels = mnist_bytes(split)
    real = real.flatten(1).float()
    for side, half in enumerate(data.pictures.split(28, dim=3)):
        rgb = torch.tensor([COLOURS[scene[side][1]] for scene in data.scenes])
        # White light on the digit: the brightest of red, green and blue says how much ink there is.
        ink = ((half + 1) / 2).amax(dim=1).flatten(1) / rgb.amax(dim=1, keepdim=True) * 255
        rows = torch.cdist(ink, real).argmin(dim=1)
        assert (real[rows] - ink).abs().max() < 1  # what rounding to bytes leaves
        assert labels[rows].tolist() == [scene[side][0] for scene in data.scenes]
        painted = real[rows].reshape(-1, 1, 28, 28) / 255 * rgb[:, :, None, None] * 2 - 1
        torch.testing.assert_close(half, painted, rtol=0, atol=1 / 255 + 1e-6)


def test_many_different_real_digits_are_painted_and_the_sides_do_not_share_one():
    data = load_digit_scenes(2, 6000, as_bytes=True)
    for side, half in enumerate(data.pictures.split(28, dim=3)):
        white = each(half[[scene[side][1] == "white" for scene in data.scenes], 0])
        assert len(set(white)) > 0.95 * len(white) > 800  # of 20,000 digits
    assert not any(torch.equal(*picture.split(28, dim=2)) for picture in data.pictures)


@both_levels
def test_pictures_as_bytes_are_the_same_ones_in_a_quarter_of_the_memory(num_digits):
    floats, small = (load_digit_scenes(num_digits, 300, seed=2, as_bytes=as_bytes) for as_bytes in (False, True))
    assert small.pictures.dtype == torch.uint8 and small.pictures.nbytes * 4 == floats.pictures.nbytes
    assert torch.equal(from_bytes(small.pictures), floats.pictures)
    assert small.captions == floats.captions and small.scenes == floats.scenes


@both_levels
def test_the_captions_of_a_seed_stay_what_they_are(num_digits):
    """Checkpoints note a checksum of what they were trained on, and two releases should draw the same scenes."""
    first = {1: ["白色的8", "白色五", "a 0, green"], 2: ["白色的3在蓝色的1左边", "先红色的一，后蓝色的一"]}[num_digits]
    assert load_digit_scenes(num_digits, 10, as_bytes=True).captions[: len(first)] == first


@both_levels
def test_one_seed_gives_one_data_set_another_another_and_torchs_randomness_stays(num_digits):
    before = torch.get_rng_state()
    first, again, other = (load_digit_scenes(num_digits, 50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.pictures, again.pictures)
    assert first.captions == again.captions and first.scenes == again.scenes
    assert first.scenes != other.scenes


def test_the_splits_share_no_digit():
    white = {}
    for split in ("train", "held_out"):
        data = load_digit_scenes(1, 6000, split, as_bytes=True)
        white[split] = set(each(data.pictures[[scene[0][1] == "white" for scene in data.scenes], 0]))
    assert len(white["held_out"]) > 800
    assert not white["train"] & white["held_out"]


@pytest.mark.parametrize("num_digits, withheld, language", [(1, True, "en"), (1, False, "zh"), (2, True, "zh")])
def test_all_scenes_are_drawn_before_one_comes_again(num_digits, withheld, language):
    known = all_scenes(num_digits, withheld, language)
    drawn = draw_scenes(num_digits, 2 * len(known) + 3, withheld, language, seed=5)
    counts = Counter(drawn)
    assert set(drawn) == set(drawn[: len(known)]) == set(known)
    assert sorted(counts.values()) == [2] * (len(known) - 3) + [3] * 3


def test_scenes_are_drawn_by_the_seed_and_as_many_as_asked():
    assert draw_scenes(2, 10, seed=1) == draw_scenes(2, 10, seed=1) == draw_scenes(2, 20, seed=1)[:10]
    assert draw_scenes(2, 10, seed=1) != draw_scenes(2, 10, seed=2)
    assert [len(draw_scenes(1, count)) for count in (0, 1, 7)] == [0, 1, 7]


@pytest.mark.parametrize(
    "ask, message",
    [
        (lambda: load_digit_scenes(3), "num_digits must .*3"),
        (lambda: load_digit_scenes(count=0), "count must .*0"),
        (lambda: load_digit_scenes(count=5, split="test"), 'split must be "train" or "held_out"'),
        (lambda: caption_of(((7, "red"),), "fr"), r"language must .*'fr'"),
        (lambda: draw_scenes(1, 3, language="fr"), r"language must .*'fr'"),
    ],
)
def test_what_there_is_not_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
