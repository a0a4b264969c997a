import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ddpm_core import (
    DigitReader,
    EmojiDataset,
    caption_of,
    copy_ratios,
    emoji_agreement,
    ink_colours,
    judge_digits,
    judge_scenes,
    load_digit_scenes,
    load_digits,
    loss_by_timestep,
    nearest_pictures,
    scene_agreement,
)


@pytest.fixture(scope="module")
def reader() -> DigitReader:
    return DigitReader()


@pytest.fixture(scope="module")
def unseen() -> torch.Tensor:
    """Real digits that nobody trained on."""
    return load_digits("held_out")[0]


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def test_the_reader_reads_digits_that_it_has_not_seen(reader, unseen):
    labels = load_digits("held_out")[1]
    accuracy = (reader.probabilities(unseen).argmax(1) == labels).float().mean().item()
    assert accuracy > 0.95
    assert reader.accuracy == accuracy


def test_probabilities_add_up_to_1(reader, unseen, noise):
    for pictures in (unseen, noise):
        probabilities = reader.probabilities(pictures)
        assert probabilities.shape == (len(pictures), 10)
        assert (probabilities >= 0).all()
        torch.testing.assert_close(probabilities.sum(1), torch.ones(len(pictures), dtype=probabilities.dtype))


def test_unseen_real_digits_are_judged_like_unseen_real_digits(reader, unseen, digits):
    verdict = judge_digits(unseen, reader, digits)
    assert verdict.sure == verdict.sure_of_real > 0.9
    assert verdict.closer == verdict.closer_of_real == pytest.approx(0.4, abs=0.1)
    assert verdict.near_copies == 0
    assert sum(verdict.shares) == pytest.approx(1)
    assert verdict.shares == pytest.approx([0.1] * 10, abs=0.02)


def test_noise_is_no_digit(reader, noise, digits):
    verdict = judge_digits(noise, reader, digits)
    assert verdict.sure < 0.2
    assert verdict.closer == 0
    assert verdict.near_copies == 0


def test_copies_of_the_training_pictures_are_found_out(reader, digits):
    verdict = judge_digits(digits[:100], reader, digits)
    assert verdict.closer == 1
    assert verdict.near_copies == 1


def test_shares_say_how_often_each_digit_was_read(reader, digits):
    pictures, labels = load_digits("train")
    sevens = pictures[labels == 7]
    shares = judge_digits(sevens, reader, digits).shares
    assert len(shares) == 10
    assert shares[7] > 0.95


def test_a_verdict_reads_as_sentences(reader, noise, digits):
    verdict = judge_digits(noise, reader, digits)
    text = str(verdict)
    assert f"sure of {verdict.sure:.1%} of the samples and of {verdict.sure_of_real:.1%} of unseen real digits" in text
    assert f"9: {verdict.shares[9]:.1%}" in text
    assert "near-copies (copy ratio below 0.5): 0.0% of the samples" in text


@pytest.fixture
def samples(unseen, noise) -> torch.Tensor:
    """Pictures near to the training pictures and far from them, none as near to one as to another."""
    return torch.cat([unseen[:200] + 0.01 * noise, noise])


def test_loss_by_timestep_is_the_mean_squared_error_at_each_step(digits, schedule):
    pictures, generator = digits[:5], torch.Generator().manual_seed(3)
    steps, losses = loss_by_timestep(lambda x_t, t: x_t * (t[:, None, None, None] + 1) / 50, schedule, pictures, 4, 3)
    assert steps.tolist() == [0, 33, 66, 99]
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        eps, alpha_bar = torch.randn(5, 1, 8, 8, generator=generator), schedule.alpha_bars[step]
        x_t = alpha_bar.sqrt() * pictures + (1 - alpha_bar).sqrt() * eps
        assert loss == pytest.approx((x_t * (step + 1) / 50 - eps).square().mean().item(), rel=1e-5)


def test_nearest_pictures_are_those_of_scikit_learn(samples, digits):
    distances, rows = nearest_pictures(samples, digits)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(digits.flatten(1).double().numpy())
    expected, expected_rows = search.kneighbors(samples.flatten(1).double().numpy())
    np.testing.assert_allclose(distances.numpy(), expected[:, 0], rtol=1e-4)
    assert rows.tolist() == expected_rows[:, 0].tolist()


def test_copy_ratios_are_those_of_scikit_learn(samples, digits):
    points = digits.flatten(1).double().numpy()
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points)
    nearest, rows = search.kneighbors(samples.flatten(1).double().numpy(), n_neighbors=1)
    itself_and_neighbour, _ = search.kneighbors(points[rows[:, 0]])
    expected = nearest[:, 0] / itself_and_neighbour[:, 1]
    np.testing.assert_allclose(copy_ratios(samples, digits).numpy(), expected, rtol=1e-4)


def test_an_exact_copy_has_ratio_0_and_noise_lies_far_away(noise, digits):
    assert (copy_ratios(digits[:100], digits) == 0).all()
    assert (copy_ratios(noise, digits) > 1).all()


def test_half_way_from_a_picture_to_its_neighbour_the_ratio_is_a_half():
    training_pictures = torch.tensor([0.0, 1.0, 10.0])[:, None, None, None]
    samples = torch.tensor([0.0, 0.25, 0.5, 9.0, 19.0])[:, None, None, None]
    assert copy_ratios(samples, training_pictures).tolist() == pytest.approx([0, 0.25, 0.5, 1 / 9, 1])


@pytest.mark.parametrize(
    "pictures, error, message",
    [
        (torch.zeros(2, 1, 16, 16), ValueError, r"reads pictures of shape \(N, 1, 8, 8\); got \(2, 1, 16, 16\)"),
        (torch.zeros(2, 3, 8, 8), ValueError, r"reads pictures of shape \(N, 1, 8, 8\); got \(2, 3, 8, 8\)"),
        (torch.zeros(2, 8, 8), ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\); got .*\(2, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), ValueError, r"pictures must be a tensor of pictures, .*\(0, 1, 8, 8\)"),
        (torch.full((2, 1, 8, 8), 16.0), ValueError, r"pictures must lie in \[-1, 1\]; these go from 16 to 16"),
        (torch.zeros(2, 1, 8, 8).byte(), TypeError, r"pictures must be floats in \[-1, 1\]; got uint8"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(reader, digits, pictures, error, message):
    for read in (reader.probabilities, lambda pictures: judge_digits(pictures, reader, digits)):
        with pytest.raises(error, match=message):
            read(pictures)


def test_pictures_of_two_sizes_cannot_be_compared(digits):
    message = r"samples and pictures must be of one shape; got \(2, 1, 16, 16\) and \(1297, 1, 8, 8\)"
    for compare in (nearest_pictures, copy_ratios):
        with pytest.raises(ValueError, match=message):
            compare(torch.zeros(2, 1, 16, 16), digits)


@pytest.mark.parametrize("num_digits, expected", [(1, 0.97), (2, 0.95)])
def test_real_scenes_of_unseen_digits_are_judged_right(reader, num_digits, expected):
    data = load_digit_scenes(num_digits, 1000, "held_out")
    digits_right, colours_right = judge_scenes(data.pictures, data.scenes, reader)
    assert digits_right.dtype == colours_right.dtype == torch.bool
    assert digits_right.shape == colours_right.shape == (1000,)
    assert digits_right.float().mean() >= expected
    assert colours_right.float().mean() >= 0.995


@pytest.mark.parametrize("num_digits", [1, 2])
def test_pictures_of_other_scenes_are_judged_wrong(reader, num_digits):
    data = load_digit_scenes(num_digits, 1000, "held_out")
    others = data.scenes[1:] + data.scenes[:1]
    digits_right, colours_right = judge_scenes(data.pictures, others, reader)
    by_chance = [
        sum(
            all(a[side][part] == b[side][part] for side in range(num_digits))
            for a, b in zip(data.scenes, others, strict=True)
        )
        for part in (0, 1)
    ]
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


@pytest.mark.parametrize("strength", [0.4, 0.7])
def test_fainter_ink_of_the_same_hue_is_judged_alike(reader, strength):
    data = load_digit_scenes(2, 300, "held_out")
    faint = (data.pictures + 1) * strength - 1
    for expected, found in zip(
        judge_scenes(data.pictures, data.scenes, reader), judge_scenes(faint, data.scenes, reader), strict=True
    ):
        assert (found == expected).float().mean() > 0.99


@pytest.mark.parametrize(
    "pictures, scenes, message",
    [
        (
            torch.zeros(2, 1, 8, 8),
            2,
            r"pictures must be \(N, 3, 8, 8\) or .*, one for each of the 2 scenes .*; got \(2, 1,",
        ),
        (torch.zeros(2, 3, 8, 12), 2, r"pictures must be .*; got \(2, 3, 8, 12\)"),
        (torch.zeros(2, 3, 16, 16), 2, r"pictures must be .*; got \(2, 3, 16, 16\)"),
        (torch.zeros(2, 3, 8, 8), 3, r"pictures must be .*, one for each of the 3 scenes .*; got \(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), 1, r"pictures must be a tensor of pictures, \(N, C, H, W\)"),
        (torch.full((1, 3, 8, 8), 2.0), 1, r"pictures must lie in \[-1, 1\]"),
    ],
)
def test_pictures_that_do_not_fit_the_scenes_are_refused(reader, pictures, scenes, message):
    with pytest.raises(ValueError, match=message):
        judge_scenes(pictures, [((7, "red"),)] * scenes, reader)


@pytest.mark.parametrize("digits_seen, digits_named", [(1, 2), (2, 1), (3, 2)])
def test_scenes_of_more_or_fewer_digits_than_the_pictures_are_refused(reader, digits_seen, digits_named):
    data = load_digit_scenes(1, 5)
    pictures, scenes = data.pictures.repeat(1, 1, 1, digits_seen), [scene * digits_named for scene in data.scenes]
    with pytest.raises(ValueError, match=r"pictures must be \(N, 3, 8, 8\) or \(N, 3, 8, 16\)"):
        judge_scenes(pictures, scenes, reader)


class FakeGenerate:
    """Stands in for generate: returns pictures made beforehand, and notes what it was asked for."""

    def __init__(self, pictures: torch.Tensor):
        self.pictures, self.asked = pictures, {}

    def __call__(self, model, schedule, prompts, shape, guidance_scale=3.0, **options):
        self.asked = dict(prompts=prompts, shape=shape, guidance_scale=guidance_scale, **options)
        yield torch.zeros_like(self.pictures)
        yield self.pictures


@pytest.mark.parametrize("num_digits", [1, 2])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_model_that_draws_what_it_is_asked_for_agrees_and_one_that_mixes_it_up_does_not(
    reader, monkeypatch, schedule, num_digits, language
):
    data = load_digit_scenes(num_digits, 300, "held_out")
    digits_right, colours_right = judge_scenes(data.pictures, data.scenes, reader)
    rows = torch.nonzero(digits_right & colours_right)[:, 0]
    scenes = [data.scenes[row] for row in rows.tolist()]
    fake = FakeGenerate(data.pictures[rows])
    monkeypatch.setattr("ddpm_core.judging.generate", fake)
    agreement = scene_agreement(None, schedule, scenes, language, reader, 2.5, num_steps=7, seed=4)
    assert agreement.dtype == torch.bool and agreement.tolist() == [True] * len(rows)
    prompts = [caption_of(scene, language, i % 4) for i, scene in enumerate(scenes)]
    assert fake.asked == dict(prompts=prompts, shape=(3, 8, 8 * num_digits), guidance_scale=2.5, num_steps=7, seed=4)
    fake.pictures = fake.pictures.roll(1, dims=0)
    assert scene_agreement(None, schedule, scenes, language, reader).float().mean() < 0.1


@pytest.fixture(scope="module")
def emoji() -> EmojiDataset:
    return EmojiDataset()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_model_that_draws_every_emoji_agrees_and_one_that_mixes_them_up_does_not(
    emoji, monkeypatch, schedule, language
):
    rows = torch.randperm(len(emoji.characters), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(emoji.pictures.shape, generator=torch.Generator().manual_seed(1))
    fake = FakeGenerate((emoji.pictures[rows] + 0.02 * noise).clamp(-1, 1))
    monkeypatch.setattr("ddpm_core.judging.generate", fake)
    agreement = emoji_agreement(None, schedule, emoji, rows, language, 2.5, num_steps=7, seed=4)
    assert agreement.dtype == torch.bool and agreement.all() and len(agreement) == len(rows)
    prompts = [emoji.captions[language][row] for row in rows.tolist()]
    assert fake.asked == dict(prompts=prompts, shape=(3, 32, 32), guidance_scale=2.5, num_steps=7, seed=4)
    fake.pictures = fake.pictures.roll(1, dims=0)
    assert not emoji_agreement(None, schedule, emoji, rows, language).any()


@pytest.mark.parametrize("num_digits", [1, 2])
def test_colours_of_ink_are_those_that_real_scenes_were_painted_with(num_digits):
    data = load_digit_scenes(num_digits, 300, "held_out")
    painted = [tuple(colour for _, colour in scene) for scene in data.scenes]
    seen = ink_colours(data.pictures * 0.9 - 0.1)  # fainter ink has the same colour
    assert sum(a == b for a, b in zip(seen, painted, strict=True)) >= 297
