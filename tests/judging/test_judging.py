import hashlib
import importlib.util
import time

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import ddpm_core.judging.copies
from ddpm_core import (
    DataUnavailable,
    DigitReader,
    EmojiDataset,
    caption_of,
    copy_ratios,
    ink_colours,
    judge_digits,
    judge_scenes,
    load_digit_scenes,
    load_digits,
    load_mnist,
    nearest_pictures,
    scene_agreement,
)
from ddpm_core.course.doctor import CHECKSUMS
from ddpm_core.data.mnist import mnist_bytes
from ddpm_core.judging.copies import distances
from ddpm_core.judging.digits import WEIGHTS, reader_network
from ddpm_core.support.files import data_folder, shipped_file
from ddpm_core.support.pixels import from_bytes


@pytest.fixture(scope="module")
def mnist() -> torch.Tensor:
    """Some of the real digits to train with, (4000, 1, 28, 28)."""
    return load_mnist("train")[0][:4000]


@pytest.fixture(scope="module")
def unseen() -> torch.Tensor:
    """Real digits that nobody trained on, (500, 1, 28, 28): those that a verdict compares samples with."""
    return load_mnist("held_out")[0][::10]


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


@pytest.fixture(scope="module")
def small_samples() -> torch.Tensor:
    """Pictures of 8x8 near to the training pictures and far from them, none as near to one as to another."""
    noise = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return torch.cat([load_digits("held_out")[0][:200] + 0.01 * noise, noise])


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_reader", data_folder() / "build_reader.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


# The reader


def test_the_reader_reads_digits_that_it_has_not_seen(reader):
    pictures, labels = load_mnist("held_out")
    probabilities = reader.probabilities(pictures)
    right = probabilities.argmax(1) == labels
    assert reader.accuracy == pytest.approx(right.double().mean().item()) and reader.accuracy > 0.99
    sure = probabilities.amax(1) >= reader.SURE
    assert reader.sure_rate == pytest.approx(sure.double().mean().item()) and reader.sure_rate > 0.95
    assert right[sure].float().mean() > 0.995


def test_probabilities_add_up_to_1(reader, unseen, noise):
    pictures = torch.cat([unseen, noise, unseen])  # more than are read at a time
    probabilities = reader.probabilities(pictures)
    assert probabilities.shape == (1200, 10) and (probabilities >= 0).all() and not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1200))
    torch.testing.assert_close(probabilities[700:], probabilities[:500])


def test_a_new_reader_is_there_at_once_and_leaves_torchs_randomness_alone(reader):
    before, start = torch.get_rng_state(), time.process_time()
    again = DigitReader()
    assert time.process_time() - start < 3  # it reads 5,000 pictures, and trains on none
    assert (again.accuracy, again.sure_rate) == (reader.accuracy, reader.sure_rate)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shade", [-1.0, 0.0, 1.0, "uniform", "faint", "blurred"])
def test_the_reader_is_not_sure_of_what_is_no_digit(reader, shade, noise):
    uniform = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    pictures = {"uniform": uniform, "faint": noise * 0.2 - 0.8, "blurred": blurred / blurred.abs().max()}.get(shade)
    pictures = torch.full((1, 1, 28, 28), shade) if pictures is None else pictures
    assert (reader.probabilities(pictures.clamp(-1, 1)).amax(1) >= reader.SURE).float().mean() < 0.05


@pytest.mark.parametrize(
    "damage", [None, lambda content: content[:-1], lambda content: content[:9000] + content[9001:]]
)
def test_a_missing_or_damaged_reader_comes_back_with_a_command(damage, tmp_path, monkeypatch):
    content = shipped_file(WEIGHTS).read_bytes()
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    if damage:
        (tmp_path / WEIGHTS).write_bytes(damage(content))
    with pytest.raises(DataUnavailable, match=rf"{WEIGHTS} .*git checkout -- data/{WEIGHTS}"):
        DigitReader()


def test_a_reader_of_another_version_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("ddpm_core.judging.digits.reader_network", lambda: torch.nn.Sequential(torch.nn.Linear(3, 4)))
    with pytest.raises(DataUnavailable, match=r"git checkout -- data/.*size mismatch") as error:
        DigitReader()
    assert "\n" not in str(error.value)


def test_the_file_is_small_and_the_one_that_the_doctor_expects():
    content = shipped_file(WEIGHTS).read_bytes()
    assert len(content) < 300_000 and hashlib.sha256(content).hexdigest() == CHECKSUMS[WEIGHTS]


def test_the_builder_teaches_the_network_to_read_the_same_way_each_time(builder, capsys):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = builder.learn(2), builder.learn(2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    third = builder.learn(2)
    for a, b, c in zip(*(state.model.parameters() for state in (first, second, third)), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    network = builder.learn(60).ema_model
    pictures, labels = (values[:1000] for values in load_mnist("held_out"))
    assert (network(pictures).argmax(1) == labels).float().mean() > 0.8
    assert [weight.shape for weight in network.parameters()] == [
        weight.shape for weight in reader_network().parameters()
    ]


@pytest.mark.parametrize("limits, roll", [({}, 0), ({"SHIFT": 2 / 14}, 2)])
def test_the_builder_moves_pictures_by_no_more_than_it_says(limits, roll, builder, unseen, monkeypatch):
    for name in ("TURN", "SHEAR", "RESIZE", "SHIFT"):
        monkeypatch.setattr(builder, name, limits.get(name, 0))
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(builder.torch, "rand", lambda *shape, generator: torch.ones(*shape))  # as far as can be
    expected = torch.full_like(unseen, -1)
    expected[:, :, : 28 - roll, : 28 - roll] = unseen[:, :, roll:, roll:]
    torch.testing.assert_close(builder.moved(unseen, generator), expected, rtol=0, atol=1e-4)


# A verdict


def test_unseen_real_digits_are_judged_like_unseen_real_digits(reader, unseen):
    verdict = judge_digits(unseen, reader, load_mnist("train")[0])
    assert verdict.sure == pytest.approx(verdict.sure_of_real, abs=0.02)
    assert verdict.closer == verdict.closer_of_real == pytest.approx(0.36, abs=0.03)
    assert verdict.near_copies == 0
    assert sum(verdict.shares) == pytest.approx(1) and verdict.shares == pytest.approx([0.1] * 10, abs=0.04)


def test_noise_is_no_digit_and_no_copy_and_the_verdict_says_so_in_words(reader, noise, mnist):
    verdict = judge_digits(noise, reader, mnist)
    assert verdict.sure < 0.05 and verdict.closer == verdict.near_copies == 0
    for words in (
        f"sure of {verdict.sure:.1%}",
        f"{verdict.sure_of_real:.1%} of unseen",
        f"9: {verdict.shares[9]:.1%}",
    ):
        assert words in str(verdict)


def test_copies_are_found_out_and_shares_say_how_often_each_digit_was_read(reader, mnist):
    sevens = mnist[load_mnist("train")[1][:4000] == 7]
    verdict = judge_digits(sevens, reader, mnist)
    assert verdict.closer == verdict.near_copies == 1
    assert len(verdict.shares) == 10 and verdict.shares[7] > 0.98


@pytest.mark.parametrize(
    "pictures, error, fact",
    [
        (torch.zeros(2, 1, 8, 8), ValueError, r"\(N, 1, 28, 28\); got \(2, 1, 8, 8\)"),
        (torch.zeros(2, 3, 28, 28), ValueError, r"\(N, 1, 28, 28\); got \(2, 3, 28, 28\)"),
        (torch.full((2, 1, 28, 28), 16.0), ValueError, "from 16 to 16"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(reader, mnist, pictures, error, fact):
    for read in (reader.probabilities, lambda pictures: judge_digits(pictures, reader, mnist)):
        with pytest.raises(error, match=fact):
            read(pictures)


# Copies


def test_nearest_pictures_and_copy_ratios_are_those_of_scikit_learn(small_samples, digits):
    points, places = (pictures.flatten(1).double().numpy() for pictures in (digits, small_samples))
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points)
    expected, expected_rows = search.kneighbors(places, n_neighbors=1)
    distances, rows = nearest_pictures(small_samples, digits)
    np.testing.assert_allclose(distances.numpy(), expected[:, 0], rtol=1e-4)
    assert rows.tolist() == expected_rows[:, 0].tolist()
    itself_and_neighbour, _ = search.kneighbors(points[expected_rows[:, 0]])
    ratios = expected[:, 0] / itself_and_neighbour[:, 1]
    np.testing.assert_allclose(copy_ratios(small_samples, digits).numpy(), ratios, rtol=1e-4)


def test_an_exact_copy_has_ratio_0_and_half_way_to_the_neighbour_it_is_a_half():
    training_pictures = torch.tensor([0.0, 1.0, 10.0])[:, None, None, None]
    samples = torch.tensor([0.0, 0.25, 0.5, 9.0, 19.0])[:, None, None, None]
    assert copy_ratios(samples, training_pictures).tolist() == pytest.approx([0, 0.25, 0.5, 1 / 9, 1])


def test_a_picture_that_is_there_twice_is_not_its_own_neighbour(digits):
    """As where each picture has two captions."""
    once, exact, half_way = digits[:300], digits[:50], (digits[:50] + digits[50:100]) / 2
    for twice in (once.repeat(2, 1, 1, 1), once.repeat_interleave(2, dim=0)):
        assert (copy_ratios(exact, twice) == 0).all()
        torch.testing.assert_close(copy_ratios(half_way, twice), copy_ratios(half_way, once))


def test_colours_and_captions_that_repeat_pictures_hide_no_copy():
    scenes = load_digit_scenes(1, 2000).pictures
    scenes = torch.cat([scenes, scenes[:500]])
    unseen = load_digit_scenes(1, 200, "held_out", seed=1).pictures
    assert (copy_ratios(scenes[:200], scenes) == 0).all()
    assert copy_ratios(unseen, scenes).isfinite().all() and (copy_ratios(unseen, scenes) > 0).all()
    emoji = from_bytes(EmojiDataset(32, ["noto"]).pictures[:200]).repeat(2, 1, 1, 1)
    assert (copy_ratios(emoji[:50], emoji) == 0).all() and (nearest_pictures(emoji[:50], emoji)[0] == 0).all()


def test_one_picture_has_no_neighbour(digits):
    one, noise = digits[:1], torch.randn(3, 1, 8, 8).clamp(-1, 1)
    assert copy_ratios(one, one.repeat(2, 1, 1, 1)).tolist() == [0]
    assert copy_ratios(noise, one.repeat(2, 1, 1, 1)).tolist() == [torch.inf] * 3
    with pytest.raises(ValueError, match=r"training_pictures must be at least two.*got 1"):
        copy_ratios(noise, one)


def test_large_pictures_are_compared_exactly_too(mnist, unseen):
    """Through products of matrices in float32, a picture would be 0.02 from itself."""
    nearest, rows = nearest_pictures(mnist[:100], mnist)
    assert (nearest == 0).all() and rows.tolist() == list(range(100))
    near = mnist[:100] + 1e-5
    torch.testing.assert_close(nearest_pictures(near, mnist)[0], (near - mnist[:100]).flatten(1).norm(dim=1))
    expected = (unseen[:50, None] - mnist[None, :300]).flatten(2).double().norm(dim=2).float()
    torch.testing.assert_close(distances(unseen[:50], mnist[:300]), expected)


def test_bytes_are_compared_like_the_floats_that_they_stand_for(mnist, unseen):
    pixels = mnist_bytes("train")[0][:4000]
    assert (copy_ratios(mnist[:50], pixels) == 0).all()
    assert torch.equal(copy_ratios(unseen[:50], pixels), copy_ratios(unseen[:50], mnist))


def test_500_samples_are_compared_with_20000_pictures_quickly_and_piece_by_piece(unseen, monkeypatch):
    cdist, sizes = torch.cdist, []

    def noting(a, b, **options):
        sizes.append(a.numel() + b.numel() + len(a) * len(b))
        return cdist(a, b, **options)

    monkeypatch.setattr(ddpm_core.judging.copies.torch, "cdist", noting)
    training_pictures, start = load_mnist("train")[0], time.process_time()
    ratios = copy_ratios(unseen, training_pictures)
    assert time.process_time() - start < 3  # through differences it is 7
    assert (ratios < 1).float().mean().item() == pytest.approx(0.36, abs=0.03) and (ratios > 0.4).all()
    assert max(sizes) * 8 < 50e6  # bytes; all at once it would be 200 million


def test_the_first_of_equal_pictures_is_named_whatever_piece_it_is_in(digits, monkeypatch):
    monkeypatch.setattr(ddpm_core.judging.copies, "PIECE", 64 * 10)  # ten pictures at a time
    samples = digits[:25]
    assert nearest_pictures(samples, digits[:25].repeat(3, 1, 1, 1))[1].tolist() == list(range(25))
    backwards = torch.cat([digits[:25].flip(0), digits[:25]])
    assert nearest_pictures(samples, backwards)[1].tolist() == list(range(24, -1, -1))


def test_pictures_of_two_sizes_cannot_be_compared(digits):
    for compare in (nearest_pictures, copy_ratios):
        with pytest.raises(ValueError, match=r"\(2, 1, 16, 16\) and \(1297, 1, 8, 8\)"):
            compare(torch.zeros(2, 1, 16, 16), digits)


# Scenes


@pytest.mark.parametrize("num_digits, expected", [(1, 0.985), (2, 0.97)])
def test_real_scenes_are_judged_right_and_those_of_others_wrong(reader, num_digits, expected):
    data = load_digit_scenes(num_digits, 1000, "held_out")
    digits_right, colours_right = judge_scenes(data.pictures, data.scenes, reader)
    assert digits_right.dtype == colours_right.dtype == torch.bool
    assert digits_right.shape == colours_right.shape == (1000,)
    assert digits_right.float().mean() >= expected and colours_right.float().mean() >= 0.995
    others = data.scenes[1:] + data.scenes[:1]
    by_chance = [
        sum(
            all(a[side][part] == b[side][part] for side in range(num_digits))
            for a, b in zip(data.scenes, others, strict=True)
        )
        for part in (0, 1)
    ]
    digits_right, colours_right = judge_scenes(data.pictures, others, reader)
    assert digits_right.sum().item() == pytest.approx(by_chance[0], abs=15)
    assert colours_right.sum().item() == by_chance[1]


def test_sides_that_are_swapped_are_judged_wrong_and_one_wrong_side_is_enough(reader):
    data = load_digit_scenes(2, 500, "held_out")
    digits_right, colours_right = judge_scenes(data.pictures, data.scenes, reader)
    swapped = [scene[::-1] for scene in data.scenes]
    half_wrong = [((left[0], "red" if left[1] != "red" else "blue"), right) for left, right in data.scenes]
    other_digit = [(left, ((right[0] + 1) % 10, right[1])) for left, right in data.scenes]
    same_digit = torch.tensor([left[0] == right[0] for left, right in data.scenes])
    same_colour = torch.tensor([left[1] == right[1] for left, right in data.scenes])
    digits_swapped, colours_swapped = judge_scenes(data.pictures, swapped, reader)
    assert (digits_swapped & ~same_digit).float().mean() < 0.02
    assert not (colours_swapped & ~same_colour).any()
    assert torch.equal(digits_swapped & same_digit, digits_right & same_digit)
    digits, colours = judge_scenes(data.pictures, half_wrong, reader)
    assert torch.equal(digits, digits_right) and not colours.any()
    digits, colours = judge_scenes(data.pictures, other_digit, reader)
    assert digits.float().mean() < 0.02 and torch.equal(colours, colours_right)


@pytest.mark.parametrize("num_digits", [1, 2])
def test_fainter_ink_of_the_same_hue_is_judged_alike(reader, num_digits):
    data = load_digit_scenes(num_digits, 300, "held_out")
    faint = (data.pictures + 1) * 0.4 - 1
    for expected, found in zip(
        judge_scenes(data.pictures, data.scenes, reader), judge_scenes(faint, data.scenes, reader), strict=True
    ):
        assert (found == expected).float().mean() > 0.99
    painted = [tuple(colour for _, colour in scene) for scene in data.scenes]
    assert sum(a == b for a, b in zip(ink_colours(faint), painted, strict=True)) >= 297


@pytest.mark.parametrize("num_digits", [1, 2])
@pytest.mark.parametrize("background", [0.1, 0.2])
def test_a_background_that_is_not_quite_black_changes_no_colour(num_digits, background, reader):
    """As after few steps of sampling, where grain is left."""
    data = load_digit_scenes(num_digits, 300, "held_out")
    grain = background * torch.randn(data.pictures.shape, generator=torch.Generator().manual_seed(0)).abs()
    pictures = (data.pictures + grain).clamp(-1, 1)
    painted = [tuple(colour for _, colour in scene) for scene in data.scenes]
    assert sum(a == b for a, b in zip(ink_colours(pictures), painted, strict=True)) >= 298
    assert judge_scenes(pictures, data.scenes, reader)[0].float().mean() > 0.95


@pytest.mark.parametrize(
    "pictures, scenes, fact",
    [
        (torch.zeros(2, 1, 28, 28), 2, r"each of the 2 scenes .*; got \(2, 1, 28, 28\)"),
        (torch.zeros(2, 3, 28, 32), 2, r"got \(2, 3, 28, 32\)"),
        (torch.zeros(2, 3, 8, 8), 2, r"got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 3, 28, 28), 3, r"each of the 3 scenes .*; got \(2, 3, 28, 28\)"),
        (torch.zeros(2, 3, 28, 56), 2, "as wide as its digits"),
        (torch.full((1, 3, 28, 28), 2.0), 1, "from 2 to 2"),
    ],
)
def test_pictures_that_do_not_fit_the_scenes_are_refused(reader, pictures, scenes, fact):
    with pytest.raises(ValueError, match=fact):
        judge_scenes(pictures, [((7, "red"),)] * scenes, reader)


# Whole models


class FakeGenerate:
    """Stands in for generate: returns the pictures made beforehand for the seeds, and notes what it was asked for."""

    def __init__(self, pictures: torch.Tensor, first_seed: int):
        self.pictures, self.first_seed, self.prompts, self.asked, self.most = pictures, first_seed, [], {}, 0

    def __call__(self, model, schedule, prompts, shape, guidance_scale, num_steps, seed, clip_x_0):
        assert clip_x_0
        self.prompts += prompts
        self.asked = dict(shape=shape, guidance_scale=guidance_scale, num_steps=num_steps)
        self.most = max(self.most, len(prompts))
        place = seed - self.first_seed
        yield torch.zeros(len(prompts), *shape)
        yield self.pictures[place : place + len(prompts)]


@pytest.mark.parametrize("num_digits, language", [(1, "en"), (2, "zh")])
def test_a_model_that_draws_what_it_is_asked_for_agrees_and_one_that_mixes_it_up_does_not(
    reader, monkeypatch, schedule, num_digits, language
):
    data = load_digit_scenes(num_digits, 300, "held_out")
    digits_right, colours_right = judge_scenes(data.pictures, data.scenes, reader)
    rows = torch.nonzero(digits_right & colours_right)[:, 0]
    scenes = [data.scenes[row] for row in rows.tolist()]
    fake = FakeGenerate(data.pictures[rows], first_seed=4)
    monkeypatch.setattr("ddpm_core.judging.drawing.generate", fake)
    monkeypatch.setattr("ddpm_core.support.memory.PIXELS_AT_ONCE", 7 * 28 * 28 * num_digits)
    agreement = scene_agreement(None, schedule, scenes, language, reader, 2.5, num_steps=7, seed=4)
    assert agreement.dtype == torch.bool and agreement.tolist() == [True] * len(rows)
    prompts = [caption_of(scene, language, i % 4) for i, scene in enumerate(scenes)]
    assert fake.prompts == prompts and fake.most == 7
    assert fake.asked == dict(shape=(3, 28, 28 * num_digits), guidance_scale=2.5, num_steps=7)
    fake.pictures = fake.pictures.roll(1, dims=0)
    assert scene_agreement(None, schedule, scenes, language, reader, seed=4).float().mean() < 0.1
