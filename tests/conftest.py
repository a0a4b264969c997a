import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers.utils import dynamic_modules_utils
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


@pytest.fixture(scope="session")
def in_float64() -> Callable:
    """Makes a scheduler of diffusers compute in float64 from its own betas; in float32 its 1 - alpha_bar cancels."""

    def promoted(scheduler):
        scheduler.betas = scheduler.betas.double()
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, dim=0)
        scheduler.one = torch.ones((), dtype=torch.float64)  # the alpha_bar before the first step
        return scheduler

    return promoted


@pytest.fixture
def own_modules(tmp_path, monkeypatch) -> Iterator[None]:
    """diffusers copies code that it loads to a folder of the test, and not to the user's."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.startswith("diffusers_modules")]:
        del sys.modules[name]


@pytest.fixture
def a_look_every_50_iterations(monkeypatch):
    """As on a GPU, where looking at a loss means waiting for it."""
    begin = LastGood.__init__

    def seldom(self, *arguments):
        begin(self, *arguments)
        self.check_every = 50

    monkeypatch.setattr(LastGood, "__init__", seldom)
