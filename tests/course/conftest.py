import matplotlib
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib import pyplot as plt
from traitlets.config import Config

from ddpm_core.course import progress


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """An IPython shell, so that display() makes of its arguments what a notebook stores; figures become PNGs."""
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    folder = tmp_path_factory.mktemp("ipython")
    config = Config({"HistoryManager": {"enabled": False}, "ProfileDir": {"location": str(folder)}})
    shell = InteractiveShell.instance(config=config)
    select_figure_formats(shell, {"png"})
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    matplotlib.use(before)


@pytest.fixture
def no_figure_stays_open():
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    """A file of the test's own, and a kernel that has seen nothing."""
    file = tmp_path / "progress.json"
    monkeypatch.setenv("DDPM_PROGRESS", str(file))
    monkeypatch.setattr(progress, "in_this_kernel", set())
    return file
