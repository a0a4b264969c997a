"""Did the model invent a picture, or learn it by heart? Distances to the pictures that it was trained on."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_core.support.pixels import as_floats

NEAR_COPY = 0.5  # a sample with a smaller copy ratio counts as a near-copy
PIECE = 2**21  # numbers that are compared with all samples at a time, so that memory is bounded
TINY = 1e-3  # nearer than this, distances through products of matrices are mostly rounding


def distances(samples: Tensor, pictures: Tensor) -> Tensor:
    """The distance of each sample from each picture (root of summed squares), (N, M); of equal ones exactly 0."""
    return torch.cat([piece for _, piece in _in_pieces(samples, pictures)], dim=1)


def nearest_pictures(samples: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample the distance to the nearest of pictures, and its row, the first of equal ones: (N,), (N,).

    Either may be uint8, too, and there may be many pictures: samples are compared with some of them at a time.
    """
    return _nearest(samples, pictures)


def copy_ratios(samples: Tensor, training_pictures: Tensor) -> Tensor:
    """How suspiciously near each sample is to a training picture, (N,): 0 is an exact copy.

    The distance to the nearest training picture, divided by the distance from that one to its nearest neighbour among
    the training pictures that differ from it. New real digits lie around 1. A picture may be there several times, with
    other captions, say. Raises ValueError with fewer than two training pictures.
    """
    if len(training_pictures) < 2:
        raise ValueError(f"training_pictures must be at least two, to have neighbours; got {len(training_pictures)}")
    nearest, rows = _nearest(samples, training_pictures)
    to_neighbour, _ = _nearest(training_pictures[rows], training_pictures, that_differ=True)
    # Where all training pictures are equal there is no neighbour to compare with: a sample is a copy, or it is none.
    return torch.where(nearest == 0, 0.0, torch.where(to_neighbour.isinf(), torch.inf, nearest / to_neighbour))


def _nearest(samples: Tensor, pictures: Tensor, that_differ: bool = False) -> tuple[Tensor, Tensor]:
    nearest = torch.full((len(samples),), torch.inf, device=samples.device)
    rows = torch.zeros(len(samples), dtype=torch.long, device=samples.device)
    for start, piece in _in_pieces(samples, pictures):
        distance, row = (piece.masked_fill(piece == 0, torch.inf) if that_differ else piece).min(dim=1)
        rows = torch.where(distance < nearest, start + row, rows)
        nearest = torch.minimum(distance, nearest)
    return nearest, rows


def _in_pieces(samples: Tensor, pictures: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The distances (N, m) to some of the pictures after the others, float32, each with the row of its first picture.

    Through products of matrices they are several times as fast as through differences. In float32 that leaves 0.02
    where 0 should be; in float64 it is right to 1e-5, and what is TINY is done again through differences.
    """
    if samples.shape[1:] != pictures.shape[1:]:
        raise ValueError(
            f"samples and pictures must be of one shape; got {tuple(samples.shape)} and {tuple(pictures.shape)}"
        )
    a = _as_vectors(samples)
    size = max(1, PIECE // a.shape[1])
    for start in range(0, len(pictures), size):
        b = _as_vectors(pictures[start : start + size])
        between = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
        is_tiny = between < TINY
        if is_tiny.any():
            rows, columns = is_tiny.any(dim=1).nonzero(), is_tiny.any(dim=0).nonzero()[:, 0]
            between[rows, columns] = torch.cdist(a[rows[:, 0]], b[columns], compute_mode="donot_use_mm_for_euclid_dist")
        yield start, between.float()


def _as_vectors(pictures: Tensor) -> Tensor:
    return as_floats(pictures).flatten(1).double()
