import pytest

from ddpm_core.course import progress


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    """A file of the test's own, and a kernel that has seen nothing."""
    file = tmp_path / "progress.json"
    monkeypatch.setenv("DDPM_PROGRESS", str(file))
    monkeypatch.setattr(progress, "in_this_kernel", set())
    return file
