"""Did the model invent a picture, or learn it by heart? Distances to the pictures that it was trained on."""

import torch
from torch import Tensor

NEAR_COPY = 0.5  # a sample with a smaller copy ratio counts as a near-copy


def nearest_pictures(samples: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample the distance to the nearest of pictures (root of summed squares), and its row: (N,), (N,)."""
    if samples.shape[1:] != pictures.shape[1:]:
        raise ValueError(
            f"samples and pictures must be of one shape; got {tuple(samples.shape)} and {tuple(pictures.shape)}"
        )
    return torch.cdist(samples.flatten(1), pictures.flatten(1)).min(dim=1)


def copy_ratios(samples: Tensor, training_pictures: Tensor) -> Tensor:
    """How suspiciously near each sample is to a training picture, (N,): 0 is an exact copy.

    The distance to the nearest training picture, divided by the distance from that one to its own nearest neighbour
    among the other training pictures. New real digits lie around 1: four in ten of them below it.
    """
    distances, rows = nearest_pictures(samples, training_pictures)
    between = torch.cdist(training_pictures[rows].flatten(1), training_pictures.flatten(1))
    between[torch.arange(len(rows)), rows] = float("inf")  # not its own neighbour
    return distances / between.amin(dim=1)
