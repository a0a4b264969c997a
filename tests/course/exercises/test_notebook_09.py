"""The answers of notebook 09 against diffusers, scikit-learn, SciPy, and the package's own networks."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.spatial import geometric_slerp
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize

from ddpm_core import SuperResolver, UNet, dynamic_threshold, text_difference
from ddpm_core.course.exercises.cascade_09 import my_super_resolver_input
from ddpm_core.course.exercises.notebook_09 import my_dynamic_threshold
from ddpm_core.course.exercises.prior_09 import my_best_candidate
from ddpm_core.course.exercises.vectors_09 import my_text_difference
from ddpm_core.systems import augmented


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.995])
def test_the_threshold_is_that_of_diffusers_and_of_the_package(share):
    x_0_hat = noise(5, 3, 8, 8) * torch.tensor([0.2, 0.7, 1, 2, 8]).reshape(5, 1, 1, 1)
    theirs = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=share, sample_max_value=100)
    torch.testing.assert_close(my_dynamic_threshold(x_0_hat, share), theirs._threshold_sample(x_0_hat))
    torch.testing.assert_close(my_dynamic_threshold(x_0_hat, share), dynamic_threshold(share)(x_0_hat))


def test_the_small_picture_is_noised_as_diffusers_does_it_and_keeps_its_variance():
    low, z = noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
    x_t = torch.zeros_like(low)  # of the same size, so that nothing is enlarged
    for level in (0.1, 0.4, 0.9):
        mixed = my_super_resolver_input(x_t, low, torch.full((2,), level), z)[:, 3:6]
        theirs = DDPMScheduler(1, trained_betas=[level**2]).add_noise(low, z, torch.zeros(2, dtype=torch.long))
        torch.testing.assert_close(mixed, theirs)
        assert mixed.std().item() == pytest.approx(1, abs=0.05)


def test_the_input_is_what_the_u_net_of_a_super_resolver_reads():
    model = SuperResolver(UNet(7, (8, 16), predicts="x_0", out_channels=3), low_size=4)
    x_t, low, level = noise(2, 3, 16, 16), noise(2, 3, 4, 4, seed=1), torch.tensor([0.1, 0.3])
    read = []
    model.unet.register_forward_pre_hook(lambda module, arguments: read.append(arguments[0]))
    generator = torch.Generator().manual_seed(7)
    model(x_t, torch.zeros(2, dtype=torch.long), augmented(low, level, generator), level)
    torch.testing.assert_close(my_super_resolver_input(x_t, low, level, noise(2, 3, 4, 4, seed=7)), read[0])


def test_the_best_candidate_is_scikit_learns_nearest_neighbour():
    candidates, texts = 3 * noise(8, 10, 6), normalize(noise(10, 6, seed=1))
    best = my_best_candidate(candidates, texts)
    for i in range(len(texts)):
        neighbours = NearestNeighbors(n_neighbors=1, metric="cosine").fit(candidates[:, i].numpy())
        [[k]] = neighbours.kneighbors(texts[i : i + 1].numpy(), return_distance=False)
        torch.testing.assert_close(best[i], normalize(candidates[k, i], dim=0))


def test_the_vectors_are_moved_along_scipys_great_circle_and_as_in_the_package():
    vectors, before, after = (normalize(noise(5, 16, seed=seed)) for seed in (1, 2, 3))
    for share in (0.0, 0.25, 0.5, 1.0):
        moved = my_text_difference(vectors, before, after, share)
        for mine, start, way in zip(moved, vectors, after - before, strict=True):
            end = (way.double() / way.double().norm()).numpy()
            start = start.double().numpy()
            expected = geometric_slerp(start / np.linalg.norm(start), end, share)
            torch.testing.assert_close(mine, torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moved, text_difference(vectors, before, after, share))
