"""How far is a set of pictures from another one? Distances between two samples of features, such as CLIP's vectors.

Features are numbers that a network finds in a picture, one row (D,) for each. Both distances compare how the rows of
the two sets are distributed; neither asks which picture belongs to which.
"""

import torch
from torch import Tensor

from ddpm_core.support import guards

ROWS_AT_ONCE = 1000  # that are compared with all others, so that memory is bounded


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The squared distance between the Gaussians that fit two sets of features best (Heusel et al. 2017), 0 or more.

        |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)),    C the covariance matrices

    It is called FID where the features are those of an Inception network; other features give other numbers. Two
    samples of one distribution have a distance above 0, about in proportion to 1 / N: compare only distances between
    equally many pictures.

    features_a, features_b: (N, D) and (M, D), any floats; computed in float64. Raises ValueError where they do not fit
    together, are not finite, or have fewer than 2 rows.
    """
    guards.two_samples(2, features_a=features_a, features_b=features_b)
    mean_a, root_a = _mean_and_root(features_a)
    mean_b, root_b = _mean_and_root(features_b)
    # The eigenvalues of C_a C_b are the squares of the singular values of root_a root_b^T (and zeros). So no root of a
    # matrix is taken, which would be inexact where C_a C_b is singular: with fewer than D pictures it is.
    trace_of_root = torch.linalg.svdvals(root_a @ root_b.T).sum()
    distance = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * trace_of_root
    return max(distance.item(), 0.0)  # which rounding can bring just below 0


def _mean_and_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) and a matrix R with R^T R = the unbiased covariance, (at most D, D)."""
    features = features.detach().cpu().double()  # not every GPU has float64
    centred = features - features.mean(dim=0)
    return features.mean(dim=0), torch.linalg.qr(centred, mode="r").R / (len(features) - 1) ** 0.5


def kernel_distance(features_a: Tensor, features_b: Tensor, gamma: float | None = None) -> float:
    """The unbiased estimate of the squared MMD with the kernel (gamma x·y + 1)^3 (KID, Bińkowski et al. 2018).

    Of pairs of pictures: how alike are two of one set, on average, beyond two of different sets? For two samples of one
    distribution its mean is 0, whatever their size, so that it can be negative.

    features_a, features_b: (N, D) and (M, D), any floats; computed in float64
    gamma: None is the paper's 1 / D, made for features whose numbers are about 1. For vectors of length 1, such as
           CLIP's, take 1: x·y is then the cosine, of which 1 / D would leave next to nothing

    Raises ValueError where the features do not fit together, are not finite, or have fewer than 2 rows.
    """
    guards.two_samples(2, features_a=features_a, features_b=features_b)
    gamma = 1 / features_a.shape[1] if gamma is None else gamma
    guards.number("gamma", gamma, above=0)
    a, b = (features.detach().cpu().double() for features in (features_a, features_b))
    N, M = len(a), len(b)

    def kernel_sum(some: Tensor, others: Tensor) -> Tensor:
        return sum((gamma * part @ others.T + 1).pow(3).sum() for part in some.split(ROWS_AT_ONCE))

    def of_pairs(some: Tensor) -> Tensor:  # no picture with itself, which is what makes the estimate unbiased
        return kernel_sum(some, some) - (gamma * some.square().sum(dim=1) + 1).pow(3).sum()

    within = of_pairs(a) / (N * (N - 1)) + of_pairs(b) / (M * (M - 1))
    return (within - 2 * kernel_sum(a, b) / (N * M)).item()
