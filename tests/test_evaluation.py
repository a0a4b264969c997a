import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ddpm_core import DigitReader, copy_ratios, judge_digits, load_digits, loss_by_timestep, nearest_pictures


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
