import json
import re
import shutil
from collections import namedtuple

import pytest
import torch

from ddpm_core import CheckpointError
from ddpm_core.course import doctor
from ddpm_core.course.profile import Profile
from ddpm_core.scale.recipes import PRESETS


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
    metadata = {"course": {"profile": "cpu", **course}} if course else {}
    notebook = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
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
    # data/ holds besides them: two papers, the scripts that made them, and what was downloaded.
    files = {path.name for path in doctor.data_folder().iterdir() if path.suffix != ".py"}
    assert files - {"README.md", "LAION.md", "downloads"} == set(doctor.CHECKSUMS)


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


def test_a_time_of_another_profile_says_nothing_about_this_machine(machine):
    write_notebook(machine, "02_train", profile="gpu", seconds=300, images_per_second=1000)
    assert findings()["02_train"].found == "no estimate: its time was measured with the gpu profile"


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


@pytest.fixture
def rehearsal(machine, monkeypatch) -> dict[str, doctor.Finding]:
    """The findings of a rehearsal whose two slow steps are left out."""
    monkeypatch.setattr(doctor, "_draw_with", lambda name: "loaded, draws")
    monkeypatch.setattr(doctor, "_start_kernel", lambda: "starts and answers")
    return {finding.subject: finding for finding in doctor.rehearse()}


def test_the_rehearsal_trains_samples_draws_and_needs_no_fix(rehearsal):
    assert {subject: finding.found for subject, finding in rehearsal.items() if finding.fix} == {}
    assert rehearsal["training and sampling"].found == "10 iterations, 4 pictures"
    assert {"figures", "digit-scenes model", "emoji model", "widgets", "kernel"} <= set(rehearsal)


@pytest.mark.parametrize("name", PRESETS)
def test_the_shipped_models_draw(name):
    assert doctor._draw_with(name) == "loaded, draws"


def test_a_model_that_does_not_load_is_to_be_fetched_again(machine, monkeypatch):
    def damaged(*arguments):
        raise CheckpointError("emoji.safetensors is damaged")

    monkeypatch.setattr(doctor, "load_checkpoint", damaged)
    monkeypatch.setattr(doctor, "_start_kernel", lambda: "")
    found = {finding.subject: finding for finding in doctor.rehearse()}
    assert found["emoji model"] == doctor.Finding(
        "emoji model", "emoji.safetensors is damaged", "git checkout -- data/emoji.safetensors"
    )
    assert not found["kernel"].fix  # the rehearsal went on to its end


def test_a_figure_whose_letters_are_missing_is_found_out(monkeypatch):
    monkeypatch.setattr("ddpm_core.course.display.style._chinese_fonts", lambda: [])
    with pytest.raises(UserWarning, match="Glyph"):
        doctor._draw_figure()


@pytest.mark.parametrize("step", ["_train_and_sample", "_draw_with"])
def test_pictures_that_are_no_numbers_are_found_out(step, monkeypatch):
    def nothing(*arguments, **options):
        yield torch.full((4, 1, 8, 8), float("nan"))

    monkeypatch.setattr(doctor, "sample", nothing)
    monkeypatch.setattr(doctor, "generate", nothing)
    loaded = namedtuple("Loaded", "model schedule notes")(None, None, {"picture_size": [1, 8, 8]})
    monkeypatch.setattr(doctor, "load_checkpoint", lambda *arguments: loaded)
    with pytest.raises(ArithmeticError):
        doctor._train_and_sample() if step == "_train_and_sample" else doctor._draw_with("emoji")


def test_a_real_kernel_starts_and_answers():
    assert doctor._start_kernel() == "starts and answers"


def test_a_kernel_of_another_python_is_found_out(monkeypatch):
    monkeypatch.setattr(doctor.sys, "prefix", "/opt/another")
    with pytest.raises(RuntimeError, match="another Python"):
        doctor._start_kernel()


def test_without_the_half_that_shows_widgets_they_are_to_be_installed(machine, monkeypatch):
    def version(name):
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    finding = doctor._try("widgets", doctor._make_widget, "pip install")
    assert "jupyterlab_widgets" in finding.found and finding.fix == "pip install"


READY = [doctor.Finding("Python", "3.11.7"), doctor.Finding("04_training", "about 1.7 minutes on this machine")]


def test_a_machine_that_is_ready_says_what_it_is_and_how_fast(machine, monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.11.7")
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    expected = "READY  python 3.11 · torch 2.14 · cpu, 2 cores · notebook 04 in about 1.7 minutes · code "
    assert doctor.line_for_the_teacher(READY) == expected + doctor.course_code()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert " · cpu, 1 core · " in doctor.line_for_the_teacher(READY)


def test_a_ready_gpu_is_named(machine, monkeypatch):
    monkeypatch.setattr(doctor, "choose_profile", lambda: Profile("gpu", torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast Card 9000")
    assert " · gpu, Fast Card 9000 · " in doctor.line_for_the_teacher(READY)


def test_a_machine_that_is_not_ready_says_what_is_wrong_and_the_fix(machine):
    broken = [doctor.Finding("nbval", "No module", "make setup"), doctor.Finding("free disk", "0 GB", "make room")]
    code = f" · code {doctor.course_code()}"
    assert doctor.line_for_the_teacher([*READY, broken[0]]) == f"NOT READY  nbval: No module -> make setup{code}"
    assert doctor.line_for_the_teacher(broken) == f"NOT READY  nbval: No module -> make setup · and 1 more{code}"


def test_the_line_is_one_line_of_bounded_length_and_names_nobody(machine):
    found = f"{machine / 'data' / 'x.safetensors'} and {doctor.Path.home() / 'thesis'}\n" + "so it goes on " * 50
    line = doctor.line_for_the_teacher([doctor.Finding("emoji model", found, "make setup")])
    assert "\n" not in line and len(line) < 140
    assert str(machine) not in line and str(doctor.Path.home()) not in line and "~/thesis" in line.replace("\\", "/")


def test_the_code_is_the_packages_and_nothing_elses(tmp_path, monkeypatch):
    code = doctor.course_code()
    assert re.fullmatch("[0-9A-F]{4}", code)
    copy = tmp_path / "a" / "ddpm_core"
    shutil.copytree(doctor.Path(doctor.__file__).parent.parent, copy)
    monkeypatch.setattr(doctor, "__file__", str(copy / "doctor.py"))
    (copy / "notes.txt").write_text("no part of the package")
    source = (copy / "schedule.py").read_bytes()
    (copy / "schedule.py").write_bytes(source.replace(b"\n", b"\r\n"))
    assert doctor.course_code() == code
    (copy / "schedule.py").write_bytes(source + b"#")
    assert doctor.course_code() != code
