"""The answers of notebook 07 against scikit-learn, SciPy, and what is known without any arithmetic."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from ddpm_core import contrastive_loss
from ddpm_core.course.exercises.notebook_07 import my_contrastive_loss
from ddpm_core.course.exercises.pairs_07 import my_keep_pairs
from ddpm_core.course.exercises.rows_07 import my_search, my_zero_shot


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FITS = torch.eye(6, dtype=torch.bool)
FITS[0, 2] = FITS[2, 0] = FITS[5, 1] = True


@pytest.mark.parametrize("fits", [FITS, torch.eye(6, dtype=torch.bool)])
def test_the_loss_is_cross_entropy_with_scipys_softmax_and_scikit_learns_cosines(fits):
    images, texts = 3 * noise(6, 4), noise(6, 4, seed=1)
    logits = cosine_similarity(images, texts) / 0.2
    shares = [normalize(table.astype(float), norm="l1") for table in (fits.numpy(), fits.numpy().T)]
    losses = [
        -(share * log_softmax(table, axis=1)).sum(1) for share, table in zip(shares, (logits, logits.T), strict=True)
    ]
    assert my_contrastive_loss(images, texts, 0.2, fits).item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_the_loss_is_the_packages_on_vectors_of_length_1_and_so_are_its_slopes():
    images, texts = noise(6, 4).float().requires_grad_(), noise(6, 4, seed=1).float().requires_grad_()
    unit = [torch.nn.functional.normalize(vectors, dim=1) for vectors in (images, texts)]
    ours, theirs = my_contrastive_loss(images, texts, 0.3, FITS), contrastive_loss(*unit, 0.3, FITS)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, (images, texts)) for loss in (ours, theirs)))


def test_where_nothing_can_be_told_apart_the_loss_is_log_b_and_where_all_is_clear_it_is_nothing():
    same, axes = torch.ones(6, 8), torch.eye(6, 8)
    assert my_contrastive_loss(same, 2 * same, 0.1, torch.eye(6).bool()).item() == pytest.approx(math.log(6), rel=1e-6)
    assert my_contrastive_loss(axes, 5 * axes, 0.01, torch.eye(6).bool()).item() == pytest.approx(0, abs=1e-6)
    assert my_contrastive_loss(axes, -axes, 0.5, torch.eye(6).bool()).item() > math.log(6)


def test_search_finds_the_neighbours_that_scikit_learn_finds():
    vectors, queries = noise(80, 8) * noise(80, 1, seed=1).exp(), noise(5, 8, seed=2)
    _, rows = NearestNeighbors(n_neighbors=7, metric="cosine").fit(vectors).kneighbors(queries)
    for query, expected in zip(queries, rows, strict=True):
        assert my_search(query, vectors, 7).tolist() == expected.tolist()


def test_zero_shot_is_the_closest_mean_of_scikit_learns_normalised_prompts():
    pictures = torch.from_numpy(normalize(noise(90, 6)))
    prompts = torch.stack([torch.from_numpy(normalize(noise(4, 6, seed=k) + k)) for k in range(5)])
    means = normalize(prompts.numpy().mean(axis=1))
    expected = cosine_similarity(pictures, means).argmax(axis=1)
    assert my_zero_shot(pictures, prompts).tolist() == expected.tolist() and len(set(expected)) == 5


@pytest.mark.parametrize("threshold", [-0.3, 0.0, 0.28])
def test_kept_are_the_pairs_whose_cosine_by_scikit_learn_is_large_enough(threshold):
    images, texts = 4 * noise(60, 5), noise(60, 5, seed=1)
    kept = my_keep_pairs(images, texts, threshold)
    assert kept.tolist() == (1 - paired_cosine_distances(images, texts) >= threshold).tolist()
    assert 0 < kept.sum() < 60
