"""Did the model invent a picture, or learn it by heart? Distances to the pictures that it was trained on."""

import torch
from torch import Tensor

NEAR_COPY = 0.5  # a sample with a smaller copy ratio counts as a near-copy


def distances(samples: Tensor, pictures: Tensor) -> Tensor:
    """The distance of each sample from each picture (root of summed squares), (N, M); of equal ones exactly 0."""
    if samples.shape[1:] != pictures.shape[1:]:
        raise ValueError(
            f"samples and pictures must be of one shape; got {tuple(samples.shape)} and {tuple(pictures.shape)}"
        )
    # Through products of matrices it would be faster, and leave 0.02 where 0 should be.
    return torch.cdist(samples.flatten(1), pictures.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


def nearest_pictures(samples: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample the distance to the nearest of pictures, and its row, the first of equal ones: (N,), (N,)."""
    return distances(samples, pictures).min(dim=1)


def copy_ratios(samples: Tensor, training_pictures: Tensor) -> Tensor:
    """How suspiciously near each sample is to a training picture, (N,): 0 is an exact copy.

    The distance to the nearest training picture, divided by the distance from that one to its nearest neighbour among
    the training pictures that differ from it. New real digits lie around 1: four in ten of them below it. A picture
    may be there several times, with other captions, say. Raises ValueError with fewer than two training pictures.
    """
    if len(training_pictures) < 2:
        raise ValueError(f"training_pictures must be at least two, to have neighbours; got {len(training_pictures)}")
    nearest, rows = nearest_pictures(samples, training_pictures)
    between = distances(training_pictures[rows], training_pictures)
    to_neighbour = between.masked_fill(between == 0, torch.inf).amin(dim=1)
    # Where all training pictures are equal there is no neighbour to compare with: a sample is a copy, or it is none.
    return torch.where(nearest == 0, 0.0, torch.where(to_neighbour.isinf(), torch.inf, nearest / to_neighbour))
