import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from ddpm_core import frechet_distance, kernel_distance, load_mnist


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def exactly(mean: Tensor, root: Tensor, rows: int = 60, seed: int = 0) -> Tensor:
    """A sample whose mean is mean and whose covariance is root^T root, both to rounding."""
    centred = normal(rows, len(mean), seed)
    centred -= centred.mean(dim=0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T.cov())).T
    return white @ root + mean


def mixed(rows: int, columns: int, seed: int) -> Tensor:
    """Features that depend on one another, far from 0."""
    return normal(rows, columns, seed) @ normal(columns, columns, seed + 100) + normal(1, columns, seed + 200)


def fid_of_scipy(a: Tensor, b: Tensor) -> float:
    """Equation 6 of Heusel et al. 2017, with a matrix root."""
    (mean_a, cov_a), (mean_b, cov_b) = ((x.numpy().mean(0), np.cov(x.numpy(), rowvar=False)) for x in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


# The Fréchet distance


def test_between_gaussians_along_the_axes_it_is_that_of_means_and_deviations():
    mean_a, mean_b = torch.tensor([[0, 1, 2, -3.0], [1, 1, 0, 4]], dtype=torch.float64)
    deviation_a, deviation_b = torch.tensor([[1, 2, 0.5, 3], [2, 2, 0.1, 1]], dtype=torch.float64)
    a, b = exactly(mean_a, deviation_a.diag()), exactly(mean_b, deviation_b.diag(), rows=90, seed=1)
    expected = (mean_a - mean_b).square().sum() + (deviation_a - deviation_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-10)


def test_a_shift_costs_its_squared_length():
    a, shift = mixed(40, 6, 0), normal(1, 6, 5)
    assert frechet_distance(a, a + shift) == pytest.approx(shift.square().sum().item(), rel=1e-10)


@pytest.mark.parametrize("rows_a, rows_b, columns", [(300, 200, 5), (200, 500, 30), (130, 140, 128)])
def test_it_is_scipys_with_a_matrix_root(rows_a, rows_b, columns):
    a, b = mixed(rows_a, columns, 1), mixed(rows_b, columns, 2)
    assert frechet_distance(a, b) == pytest.approx(fid_of_scipy(a, b), rel=1e-7)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(fid_of_scipy(a, b), rel=1e-4)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_it_is_that_of_pytorch_fid():
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    a, b = mixed(400, 20, 3), mixed(300, 20, 4)
    moments = [value for x in (a.numpy(), b.numpy()) for value in (x.mean(0), np.cov(x, rowvar=False))]
    try:
        theirs = fid_score.calculate_frechet_distance(*moments)
    except (TypeError, ValueError):
        pytest.skip("pytorch-fid calls scipy in a way that this scipy does not know")
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-7)


def test_with_fewer_pictures_than_numbers_it_is_still_exact():
    """Two points each, at u and -u and at v and -v: the covariances are 2 u u^T and 2 v v^T."""
    u, v = normal(2, 50, 6)
    expected = 2 * (u @ u + v @ v - 2 * (u @ v).abs())
    a, b = torch.stack([u, -u]), torch.stack([v, -v])
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-10)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    for seed in range(12):
        few = mixed(20, 50, seed)
        assert 0 <= frechet_distance(few, few.flip(0)) < 1e-10  # rounding alone would leave some below 0


def test_two_samples_of_one_distribution_have_a_distance_in_proportion_to_1_over_n():
    """In closed form to the first order, for D independent standard normals: (2 D + D (D + 1) / 2) / N."""
    D, found = 12, []
    for N in (100, 200, 400, 800):
        seeds = range(0, 40, 2)
        each = [frechet_distance(normal(N, D, N + seed), normal(N, D, N + seed + 1)) for seed in seeds]
        found.append(sum(each) / len(each))
        assert found[-1] == pytest.approx((2 * D + D * (D + 1) / 2) / N, rel=0.1)
    assert found == sorted(found, reverse=True)


# The kernel distance


def mmd_of_the_paper(a: Tensor, b: Tensor, gamma: float | None) -> float:
    """Equation 4 of Bińkowski et al. 2018, pair by pair, with scikit-learn's kernel (its defaults are the paper's)."""
    within_a, within_b, between = (polynomial_kernel(x, y, gamma=gamma) for x, y in ((a, a), (b, b), (a, b)))
    N, M = between.shape
    sum_a = sum(within_a[i, j] for i in range(N) for j in range(N) if i != j)
    sum_b = sum(within_b[i, j] for i in range(M) for j in range(M) if i != j)
    return sum_a / (N * (N - 1)) + sum_b / (M * (M - 1)) - 2 * between.mean()


@pytest.mark.parametrize("gamma", [None, 1.0, 0.3])
@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_it_is_the_papers_sum_over_pairs(gamma, rows_at_once, monkeypatch):
    monkeypatch.setattr("ddpm_core.judging.features.ROWS_AT_ONCE", rows_at_once)
    a, b = mixed(30, 9, 0), mixed(23, 9, 1)
    assert kernel_distance(a, b, gamma) == pytest.approx(mmd_of_the_paper(a, b, gamma), rel=1e-9)
    assert kernel_distance(b, a, gamma) == pytest.approx(kernel_distance(a, b, gamma), rel=1e-9)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    values = torch.tensor(values, dtype=torch.float64)
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize("rows", [2, 10])
def test_it_is_unbiased_and_can_be_negative(rows):
    """Of N(0, 1) and N(m, 1), with gamma 1: 3 (difference of E x)^2 + 3 (of E x^2)^2 + (of E x^3)^2."""
    for m, expected in ((0, 0), (1, 3 * 1 + 3 * (2 - 1) ** 2 + 4**2)):
        pairs = ((normal(rows, 1, seed), normal(rows, 1, seed + 5000) + m) for seed in range(2000))
        found = [kernel_distance(a, b, gamma=1) for a, b in pairs]
        mean, error = mean_and_error(found)
        assert abs(mean - expected) < 3.5 * error and min(found) < 0


def test_fewer_pictures_do_not_make_it_larger_as_they_do_the_frechet_distance():
    def both(N, seed):
        a, b = normal(N, 8, seed), normal(N, 8, seed + 1)
        return frechet_distance(a, b), kernel_distance(a, b)

    few = [mean_and_error(each) for each in zip(*(both(20, seed) for seed in range(0, 400, 2)), strict=True)]
    many = [mean_and_error(each) for each in zip(*(both(160, seed) for seed in range(0, 60, 2)), strict=True)]
    assert few[0][0] > 5 * many[0][0] and many[0][0] > 10 * many[0][1]
    assert abs(few[1][0]) < 3.5 * few[1][1] and abs(many[1][0]) < 3.5 * many[1][1]


# Both


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    "change, words",
    [
        (dict(features_a=torch.zeros(1, 4)), "features_a.*2 rows or more.*got 1"),
        (dict(features_b=torch.zeros(0, 4)), "features_b.*2 rows or more.*got 0"),
        (dict(features_b=torch.zeros(9, 5)), "features_a and features_b.*4 and 5"),
        (dict(features_a=torch.zeros(9, 4, 1)), r"features_a.*\(N, D\).*\(9, 4, 1\)"),
        (dict(features_a=torch.zeros(9, 4, dtype=torch.long)), "features_a.*floats.*int64"),
        (dict(features_b=[[0.0] * 4] * 9), "features_b.*list"),
        (dict(features_b=torch.tensor([[0.0] * 4] * 8 + [[0, math.nan, 0, 0]])), "features_b.*finite; 1 of its 9"),
        (dict(features_a=torch.full((9, 4), math.inf)), "features_a.*finite; 9 of its 9"),
    ],
)
def test_features_that_cannot_be_compared_are_named(distance, change, words):
    with pytest.raises(ValueError, match=words):
        distance(**(dict(features_a=torch.zeros(9, 4), features_b=torch.zeros(9, 4)) | change))


@pytest.mark.parametrize("gamma", [0, -1.0, math.nan, "1/D"])
def test_a_kernel_needs_a_positive_gamma(gamma):
    with pytest.raises(ValueError, match="gamma"):
        kernel_distance(torch.zeros(9, 4), torch.zeros(9, 4), gamma)


# The digit reader's features


def test_the_readers_features_are_what_it_decides_from(reader):
    pictures, labels = (values[:1000] for values in load_mnist("held_out"))
    features, last = reader.features(pictures), reader.network[-1]
    assert features.shape == (1000, 576) and not features.requires_grad
    logits = features.numpy() @ last.weight.numpy().T + last.bias.numpy()
    np.testing.assert_allclose(reader.probabilities(pictures), scipy.special.softmax(logits, axis=1), atol=1e-5)
    nearest = NearestCentroid().fit(features[:500], labels[:500])
    assert nearest.score(features[500:], labels[500:]) > 0.95


def test_blurred_digits_are_farther_from_real_ones_than_other_real_ones(reader):
    pictures = load_mnist("held_out")[0][:2000]
    real, others = reader.features(pictures[::2]), pictures[1::2]
    blurred = torch.nn.functional.avg_pool2d(others, 3, stride=1, padding=1)
    for distance in (frechet_distance, kernel_distance):
        assert distance(real, reader.features(blurred)) > 3 * abs(distance(real, reader.features(others)))
