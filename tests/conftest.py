import pytest
from torch import Tensor

from ddpm_core import DigitReader, NoiseSchedule, linear_betas, load_digits
from ddpm_core.training_state import LastGood


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """The real digits to train with, (1297, 1, 8, 8) in [-1, 1]."""
    return load_digits("train")[0]


@pytest.fixture(scope="session")
def reader() -> DigitReader:
    """The judge of drawn digits."""
    return DigitReader()


@pytest.fixture(scope="session")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(linear_betas(100))


@pytest.fixture
def a_look_every_50_iterations(monkeypatch):
    """As on a GPU, where looking at a loss means waiting for it."""
    begin = LastGood.__init__

    def seldom(self, *arguments):
        begin(self, *arguments)
        self.check_every = 50

    monkeypatch.setattr(LastGood, "__init__", seldom)
