import json
import shutil
from collections import namedtuple

import pytest
import torch

from ddpm_core import Profile, doctor


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A copy of the course's data in an empty course, a known training speed, and no GPU: a machine to break."""
    monkeypatch.delenv("DDPM_PROFILE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda command: None)
    monkeypatch.setattr(doctor, "training_rate", lambda: 500.0)
    data = tmp_path / "data"
    data.mkdir()
    for name in doctor.CHECKSUMS:
        shutil.copy(doctor.data_folder() / name, data)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(doctor, "data_folder", lambda: data)
    return tmp_path


def findings() -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine()}


def write_notebook(folder, name: str, **course) -> None:
    notebook = {"cells": [], "metadata": {"course": course} if course else {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))


def make_import_fail(monkeypatch, name: str, error: Exception) -> None:
    real = doctor.importlib.import_module

    def import_module(module, *rest):
        if module == name:
            raise error
        return real(module, *rest)

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)


def test_a_good_machine_needs_no_fix_and_every_subject_is_looked_at_once(machine):
    write_notebook(machine, "01_start", seconds=300, images_per_second=1000)
    subjects = [finding.subject for finding in doctor.examine()]
    assert len(subjects) == len(set(subjects))
    expected = {
        "Python",
        "torch",
        *doctor.PACKAGES,
        "profile",
        "free disk",
        "data/cat.png",
        "digits",
        "your own checkpoints",
    }
    assert expected | {"training speed", "01_start"} <= set(subjects)
    assert {finding.subject: finding.fix for finding in doctor.examine() if finding.fix} == {}
    assert findings()["torch"].found == torch.__version__


@pytest.mark.parametrize("name", ["torchvision", "sklearn", "nbval"])
def test_a_missing_package_is_to_be_installed(name, machine, monkeypatch):
    make_import_fail(monkeypatch, name, ModuleNotFoundError(f"No module named '{name}'"))
    finding = findings()[name]
    assert finding.found == f"No module named '{name}'" and "make setup" in finding.fix and "pip install" in finding.fix


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms does not exist\nmore"), OSError("no symbol")]
)
def test_a_torchvision_of_another_build_than_torch_is_to_be_made_anew(error, machine, monkeypatch):
    make_import_fail(monkeypatch, "torchvision", error)
    finding = findings()["torchvision"]
    assert finding.found == str(error).splitlines()[0]
    assert "two builds" in finding.fix and ".venv" in finding.fix


def test_a_package_that_fails_without_a_word_is_reported_by_its_error(machine, monkeypatch):
    make_import_fail(monkeypatch, "matplotlib", ImportError())
    assert findings()["matplotlib"].found == "ImportError"


def test_the_report_goes_on_to_its_end_without_scikit_learn(machine, monkeypatch):
    def no_digits(*arguments):
        raise ModuleNotFoundError("No module named 'sklearn'")

    monkeypatch.setattr(doctor, "load_digits", no_digits)
    assert "scikit-learn" in findings()["digits"].found and findings()["digits"].fix
    assert list(findings())[-1] == "notebooks"


@pytest.mark.parametrize("version, is_fine", [("6.31.0", True), ("7.0.0", False), ("7.4.1", False), ("10.0", False)])
def test_ipykernel_7_and_later_are_warned_of(version, is_fine, machine, monkeypatch):
    real = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: version if name == "ipykernel" else real(name)
    )
    finding = findings()["ipykernel"]
    assert finding.found == version
    assert (finding.fix == "") if is_fine else ('pip install "ipykernel<7"' in finding.fix)


def test_an_nvidia_card_that_torch_does_not_see_needs_a_driver(machine, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda command: f"/usr/bin/{command}")
    assert "driver" in findings()["profile"].fix


def test_a_gpu_is_reported_with_its_memory(machine, monkeypatch):
    properties = namedtuple("Properties", "total_memory")(16e9)
    monkeypatch.setattr(doctor, "choose_profile", lambda: Profile("gpu", torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast Card 9000")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    found = findings()
    assert "Fast Card 9000" in found["profile"].found and found["GPU memory"].found == "16 GB"


@pytest.mark.parametrize("gigabytes, is_fine", [(2, False), (3.8, True), (16, True)])
def test_little_memory_is_warned_of(gigabytes, is_fine, machine, monkeypatch):
    values = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": gigabytes * 1e6}
    monkeypatch.setattr(doctor.os, "sysconf", values.get, raising=False)
    finding = findings()["memory"]
    assert finding.found == f"{gigabytes:.0f} GB" and (finding.fix == "") == is_fine


def test_a_machine_that_cannot_tell_its_memory_is_not_asked(machine, monkeypatch):
    monkeypatch.delattr(doctor.os, "sysconf", raising=False)
    assert "memory" not in findings()


@pytest.mark.parametrize("gigabytes, is_fine", [(0.2, False), (20, True)])
def test_a_full_disk_is_warned_of(gigabytes, is_fine, machine, monkeypatch):
    usage = namedtuple("Usage", "free")(gigabytes * 1e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert (findings()["free disk"].fix == "") == is_fine


@pytest.mark.parametrize("name", doctor.CHECKSUMS)
@pytest.mark.parametrize("state", ["missing", "changed", "present"])
def test_the_shipped_files_are_compared_with_their_checksums(name, state, machine):
    path = machine / "data" / name
    if state == "missing":
        path.unlink()
    elif state == "changed":
        path.write_bytes(path.read_bytes() + b"!")
    finding = findings()[f"data/{name}"]
    assert finding.found == state
    assert finding.fix == ("" if state == "present" else f"git checkout -- data/{name}")


def test_the_shipped_files_are_all_in_the_list():
    # data/ holds besides them: its README, the scripts that made them, and what was downloaded.
    files = {path.name for path in doctor.data_folder().iterdir() if path.suffix != ".py"}
    assert files - {"README.md", "downloads"} == set(doctor.CHECKSUMS)


def test_checkpoints_of_ones_own_are_listed_by_name(machine):
    assert "none yet" in findings()["your own checkpoints"].found
    (machine / "build").mkdir()
    for name in ("digits", "cats"):
        (machine / "build" / f"{name}.safetensors").touch()
    assert findings()["your own checkpoints"].found == "cats.safetensors, digits.safetensors"


def test_without_notebooks_the_doctor_wants_a_clone_and_does_not_measure_the_speed(machine, monkeypatch):
    monkeypatch.setattr(doctor, "training_rate", lambda: pytest.fail("there is nothing to estimate"))
    assert "clone" in findings()["notebooks"].fix


def test_the_times_of_the_notebooks_are_scaled_by_the_speed_of_this_machine(machine):
    write_notebook(machine, "01_start", seconds=4, images_per_second=1000)
    write_notebook(machine, "02_train", seconds=300, images_per_second=1000)
    write_notebook(machine, "03_unmeasured")
    found = findings()
    assert found["training speed"].found == "500 digits a second"
    assert found["02_train"].found == "about 10.0 minutes on this machine"  # half as fast: twice the 5 minutes
    assert found["01_start"].found == "about 0.2 minutes on this machine"  # starting a kernel alone takes 15 s
    assert "03_unmeasured" not in found


def test_notebooks_can_be_looked_for_in_another_folder(machine, tmp_path):
    (tmp_path / "elsewhere" / "notebooks").mkdir(parents=True)
    write_notebook(tmp_path / "elsewhere", "01_other", seconds=60, images_per_second=500)
    subjects = [finding.subject for finding in doctor.examine(tmp_path / "elsewhere" / "notebooks")]
    assert subjects[-1] == "01_other"


def test_the_training_rate_is_pictures_a_second_of_wall_time(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: 0.5 * next(ticks))
    # Two iterations a second, by this clock, of 128 pictures each.
    assert doctor.training_rate(num_iterations=6) == pytest.approx(256)
