import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch

from ddpm_core import CheckpointError, TrainingState, load_checkpoint, save_checkpoint, train
from ddpm_core.course import doctor
from ddpm_core.course.profile import Profile
from ddpm_core.scale.draw import DRAWING


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A copy of the course's data in an empty course, a known training speed, and no GPU: a machine to break."""
    monkeypatch.delenv("DDPM_PROFILE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda command: None)
    monkeypatch.setattr(doctor, "training_rate", lambda: 500.0)
    data = tmp_path / "data"
    data.mkdir()
    (data / "emoji").mkdir()
    for name in doctor.CHECKSUMS:
        shutil.copy(doctor.data_folder() / name, data / name)
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
    assert {"Python", "torch", *doctor.PACKAGES, "profile", "free disk", "data/cat.png"} <= set(subjects)
    assert {"digits", "your own checkpoints", "training speed", "01_start"} <= set(subjects)
    assert {finding.subject: finding.fix for finding in doctor.examine() if finding.fix} == {}
    assert findings()["torch"].found == torch.__version__


@pytest.mark.parametrize(
    "name, error, found, fix",
    [
        ("torchvision", ModuleNotFoundError("No module named 'torchvision'"), "No module named 'torchvision'", "setup"),
        ("nbval", ModuleNotFoundError("No module named 'nbval'"), "No module named 'nbval'", "pip install"),
        ("torchvision", RuntimeError("no torchvision::nms\nmore"), "no torchvision::nms", "two builds"),
        ("torchvision", OSError("no symbol"), "no symbol", "two builds"),
        ("matplotlib", ImportError(), "ImportError", "pip install"),  # an error without a word
    ],
)
def test_a_package_that_cannot_be_used_is_named_with_its_fix(name, error, found, fix, machine, monkeypatch):
    make_import_fail(monkeypatch, name, error)
    finding = findings()[name]
    assert finding.found == found and fix in finding.fix


def test_the_report_goes_on_to_its_end_without_scikit_learn(machine, monkeypatch):
    def no_digits(*arguments):
        raise ModuleNotFoundError("No module named 'sklearn'")

    monkeypatch.setattr(doctor, "load_digits", no_digits)
    assert "sklearn" in findings()["digits"].found and "scikit-learn" in findings()["digits"].fix
    assert list(findings())[-1] == "notebooks"


@pytest.mark.parametrize("version, is_fine", [("6.31.0", True), ("7.0.0", False), ("10.0", False)])
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
    monkeypatch.setattr(doctor, "choose_profile", lambda: Profile("gpu", torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Fast Card 9000")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=16e9))
    found = findings()
    assert "Fast Card 9000" in found["profile"].found and found["GPU memory"].found == "16 GB"


@pytest.mark.parametrize(
    "subject, gigabytes, is_fine",
    [
        ("memory", 2, False),
        ("memory", 3.8, True),
        ("memory", 16, True),
        ("free disk", 0.2, False),
        ("free disk", 20, True),
    ],
)
def test_little_memory_and_a_full_disk_are_warned_of(subject, gigabytes, is_fine, machine, monkeypatch):
    values = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": gigabytes * 1e6}
    monkeypatch.setattr(doctor.os, "sysconf", values.get, raising=False)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=gigabytes * 1e9))
    finding = findings()[subject]
    assert finding.found == f"{gigabytes:.0f} GB" and (finding.fix == "") == is_fine


def test_a_machine_that_cannot_tell_its_memory_is_not_asked(machine, monkeypatch):
    monkeypatch.delattr(doctor.os, "sysconf", raising=False)
    assert "memory" not in findings()


def test_the_shipped_files_are_compared_with_their_checksums(machine):
    missing, changed, *present = doctor.CHECKSUMS
    (machine / "data" / missing).unlink()
    with (machine / "data" / changed).open("ab") as file:
        file.write(b"!")
    found = findings()
    for name, state in ({missing: "missing", changed: "changed"} | dict.fromkeys(present, "present")).items():
        fix = "" if state == "present" else f"git checkout -- data/{name}"
        assert found[f"data/{name}"] == doctor.Finding(f"data/{name}", state, fix)


def test_the_shipped_files_are_all_in_the_list():
    # data/ holds besides them: papers, licences, the scripts that made them, and what was downloaded.
    folder = doctor.data_folder()
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".md")]
    files += (folder / "emoji").glob("*.webp")
    assert {path.relative_to(folder).as_posix() for path in files} == set(doctor.CHECKSUMS)


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
    assert found["training speed"].found == "500 digits per second"
    assert found["02_train"].found == "about 10.0 minutes on this machine"  # half as fast: twice the 5 minutes
    assert found["01_start"].found == "about 0.2 minutes on this machine"  # starting a kernel alone takes 15 s
    assert "03_unmeasured" not in found


def test_a_time_of_another_profile_says_nothing_about_this_machine(machine):
    write_notebook(machine, "02_train", profile="gpu", seconds=300, images_per_second=1000)
    assert findings()["02_train"].found == "no estimate: its time was measured with the gpu profile"


def test_the_training_rate_is_pictures_a_second_of_wall_time(monkeypatch):
    seconds = 0.0

    def two_iterations_a_second(*arguments):
        nonlocal seconds
        for state in train(*arguments):
            seconds += 0.5 if state.iteration > 3 else 60  # the first ones, which do not count, are slow
            yield state

    monkeypatch.setattr(doctor, "train", two_iterations_a_second)
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: seconds)
    assert doctor.training_rate() == pytest.approx(2 * 128)


def rehearsal(monkeypatch, slow: bool = False) -> dict[str, doctor.Finding]:
    """The findings of a rehearsal, without a kernel unless it is what is rehearsed."""
    if not slow:
        monkeypatch.setattr(doctor, "_start_kernel", lambda: "starts and answers")
    return {finding.subject: finding for finding in doctor.rehearse()}


def test_the_rehearsal_trains_draws_starts_a_kernel_and_needs_no_fix(monkeypatch):
    found = rehearsal(monkeypatch, slow=True)
    assert {subject: finding.found for subject, finding in found.items() if finding.fix} == {}
    assert found["training and sampling"].found == "10 iterations, 4 pictures"
    assert {"figures", *(f"{name} model" for name in DRAWING), "widgets", "kernel"} <= set(found)


def test_what_fails_in_the_rehearsal_is_found_out_and_it_goes_on_to_its_end(monkeypatch):
    def damaged(*arguments):
        raise CheckpointError("emoji.safetensors is damaged")

    def version(name):
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "load_checkpoint", damaged)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    monkeypatch.setattr("ddpm_core.course.display.style._chinese_fonts", lambda: [])
    found = rehearsal(monkeypatch)
    assert found["emoji model"] == doctor.Finding("emoji model", "emoji.safetensors is damaged", "git checkout -- data")
    assert "jupyterlab_widgets" in found["widgets"].found and "pip install" in found["widgets"].fix
    assert "Glyph" in found["figures"].found and "pip install" in found["figures"].fix
    assert not found["training and sampling"].fix and not found["kernel"].fix


def test_pictures_that_are_no_numbers_are_found_out(monkeypatch):
    def nothing(model, schedule, prompts, shape, *arguments, **options):
        yield torch.full((len(prompts), *shape), torch.nan)

    monkeypatch.setattr(doctor, "sample", lambda *arguments, **options: [torch.full((4, 1, 8, 8), torch.nan)])
    monkeypatch.setattr("ddpm_core.judging.drawing.generate", nothing)
    monkeypatch.setattr("ddpm_core.judging.drawing.unclip", lambda model, clip, *rest, **options: nothing(model, *rest))
    monkeypatch.setattr("ddpm_core.systems.second_stage.super_resolved", lambda super_resolver, low, seed: low)
    found = rehearsal(monkeypatch)
    for subject in ("training and sampling", *(f"{name} model" for name in DRAWING)):
        assert "no numbers" in found[subject].found and found[subject].fix


def test_half_of_a_pair_of_models_is_not_enough(latent_pair, monkeypatch):
    subject, autoencoder = "stable-diffusion model", latent_pair / "autoencoder.safetensors"
    assert rehearsal(monkeypatch)[subject] == doctor.Finding(subject, "loaded, draws")
    other = load_checkpoint(autoencoder).model
    other.latent_std += 1
    save_checkpoint(autoencoder, TrainingState(other))
    found = rehearsal(monkeypatch)[subject]
    assert "another autoencoder" in found.found and found.fix == "git checkout -- data"
    autoencoder.unlink()
    found = rehearsal(monkeypatch)[subject]
    assert "autoencoder.safetensors is not in" in found.found and found.fix == "git checkout -- data"


def test_a_kernel_of_another_python_is_found_out(monkeypatch):
    monkeypatch.setattr(doctor.sys, "prefix", "/opt/another")
    assert "another Python" in rehearsal(monkeypatch, slow=True)["kernel"].found


READY = [doctor.Finding("Python", "3.11.7"), doctor.Finding("04_training", "about 1.7 minutes on this machine")]


def test_a_machine_that_is_ready_says_what_it_is_and_how_fast(machine, monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.11.7")
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    facts = ["READY  python 3.11", "torch 2.14", str(doctor.choose_profile()), "notebook 04 in about 1.7 minutes"]
    assert doctor.line_for_the_teacher(READY) == " · ".join([*facts, f"code {doctor.course_code()}"])


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
    monkeypatch.setattr(doctor, "__file__", str(copy / "course" / "doctor.py"))
    (copy / "notes.txt").write_text("no part of the package")
    source = (copy / "schedule.py").read_bytes()
    (copy / "schedule.py").write_bytes(source.replace(b"\n", b"\r\n"))
    assert doctor.course_code() == code
    (copy / "schedule.py").write_bytes(source + b"#")
    assert doctor.course_code() != code


@pytest.mark.parametrize("missing", ["super-resolver", "clip"])
def test_a_part_of_a_system_that_is_missing_is_found_out(missing, cascades, monkeypatch):
    found = rehearsal(monkeypatch)
    assert found["imagen model"].found == found["dalle2 model"].found == "loaded, draws"
    (cascades / f"{missing}.safetensors").unlink()
    finding = rehearsal(monkeypatch)["dalle2 model"]
    assert f"{missing}.safetensors is not in" in finding.found and finding.fix == "git checkout -- data"
