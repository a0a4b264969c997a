import pytest
from torch import Tensor

from ddpm_core import NoiseSchedule, linear_betas, load_digits


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """The real digits to train with, (1297, 1, 8, 8) in [-1, 1]."""
    return load_digits("train")[0]


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(linear_betas(100))
