"""Set-up on machines where it cannot work: one sentence, an error code, and no long wait before it."""

import ast
import importlib.util
import json
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
import setup as course_setup

# Where JupyterLab looks for what an environment sets; tests/browser sees that it is heeded.
LAB_SETTINGS = "share/jupyter/lab/settings/overrides.json"


class Machine:
    """A fresh clone on a machine with Python, room and a network, where nothing is installed; tests break it."""

    def __init__(self, setup, monkeypatch):
        self.setup, self.monkeypatch = setup, monkeypatch
        self.plan = {"torch": "2.9.0", "torchvision": "0.24.0"}  # what pip would install
        self.import_error = ""  # what importing torch and torchvision together says
        self.pip_fails = False
        self.pins_fail = False  # the tested versions are not to be had
        self.commands: list[list[str]] = []
        monkeypatch.setattr(setup.subprocess, "run", self.answer)
        monkeypatch.setattr(setup.venv, "create", self.make_venv)
        self.free(100)

    def free(self, gigabytes: float) -> None:
        usage = namedtuple("Usage", "free")(gigabytes * 1e9)
        self.monkeypatch.setattr(self.setup.shutil, "disk_usage", lambda path: usage)

    def install(self, *names: str) -> None:
        for name in names:
            package = self.setup.VENV / "lib" / "python3" / "site-packages"
            (package / f"{name}-1.0.dist-info").mkdir(parents=True, exist_ok=True)
            (package / name).mkdir(exist_ok=True)

    def make_venv(self, folder: Path, with_pip: bool) -> None:
        self.setup.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        self.setup.PYTHON.touch()
        if with_pip:
            self.install("pip")

    def answer(self, command: list, **options) -> subprocess.CompletedProcess:
        """What a process that set-up starts would answer."""
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.setup.MATCHING in words:
            return subprocess.CompletedProcess(words, bool(self.import_error), stdout="", stderr=self.import_error)
        if self.pip_fails or (self.pins_fail and "constraints.txt" in words):
            return subprocess.CompletedProcess(words, 1, stdout="")
        if "--dry-run" in words:
            plan = [{"metadata": {"name": name, "version": version}} for name, version in self.plan.items()]
            return subprocess.CompletedProcess(words, 0, stdout=json.dumps({"install": plan}))
        assert "install" in words
        self.install("torch", "torchvision")
        return subprocess.CompletedProcess(words, 0)

    @property
    def downloaded(self) -> bool:
        return any("install" in words and "--dry-run" not in words for words in self.commands)


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The module, at work in an empty course instead of this one."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(course_setup, "ROOT", tmp_path)
    monkeypatch.setattr(course_setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(course_setup, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(course_setup, "STAMP", tmp_path / ".venv" / "course-stamp")
    return course_setup


@pytest.fixture
def machine(setup, monkeypatch) -> Machine:
    return Machine(setup, monkeypatch)


def reason_of_stopping(setup) -> str:
    """The sentence that set-up ends with. sys.exit with a text prints it to stderr and returns 1."""
    with pytest.raises(SystemExit) as stopped:
        setup.main()
    reason = str(stopped.value.code).removeprefix("\nSet-up stopped: ")
    assert reason != str(stopped.value.code) and "\n" not in reason and reason.endswith((".", "setup", "venv"))
    assert not setup.STAMP.exists()
    return reason


def test_a_fresh_clone_is_set_up_once_and_then_left_alone(setup, machine, capsys):
    setup.main()
    install = machine.commands[-2]
    assert install[0] == str(setup.PYTHON) and ".[lab,test]" in install and "constraints.txt" in install
    assert setup.STAMP.read_text() == setup.fingerprint() and "Ready after" in capsys.readouterr().out
    assert "notification" in (setup.VENV / LAB_SETTINGS).read_text()
    machine.commands.clear()
    setup.main()
    assert machine.commands == [] and capsys.readouterr().out == ""


@pytest.mark.skipif(importlib.util.find_spec("jupyterlab_server") is None, reason="JupyterLab is not installed")
def test_jupyterlab_takes_the_settings_for_those_of_its_news(setup, machine):
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.settings_utils import get_settings

    setup.main()
    lab = Path(get_app_dir())
    answer, _ = get_settings(
        app_settings_dir=setup.VENV / Path(LAB_SETTINGS).parent,
        schemas_dir=lab / "schemas",
        settings_dir=setup.ROOT / "of nobody",
        schema_name="@jupyterlab/apputils-extension:notification",
    )
    values = {name: answer["schema"]["properties"][name]["default"] for name in ("fetchNews", "checkForUpdates")}
    assert values == {"fetchNews": "false", "checkForUpdates": False}


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_description_sets_up_again(name, setup, machine):
    setup.main()
    machine.commands.clear()
    (setup.ROOT / name).write_text("changed")
    setup.main()
    assert machine.downloaded and setup.STAMP.read_text() == setup.fingerprint()


def test_a_moved_course_sets_up_again(setup, machine, tmp_path, monkeypatch):
    before = setup.fingerprint()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (moved / name).write_text(name)
    monkeypatch.setattr(setup, "ROOT", moved)
    assert setup.fingerprint() != before


@pytest.mark.parametrize("version", [(2, 7), (3, 10, 14)])
def test_an_old_python_is_refused_with_the_command_for_another(version, setup, machine, monkeypatch):
    monkeypatch.setattr(setup.sys, "version_info", version)
    assert "needs Python 3.11 or newer" in reason_of_stopping(setup)
    assert machine.commands == [] and not setup.VENV.exists()


def test_an_old_python_can_read_the_file_well_enough_to_refuse():
    ast.parse(Path(course_setup.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_disk_that_is_too_small_stops_before_anything_is_made(setup, machine):
    machine.free(3.9)
    assert "this disk has 3.9 GB free" in reason_of_stopping(setup)
    assert machine.commands == [] and not setup.VENV.exists()


def test_a_small_disk_is_no_hindrance_once_the_environment_is_there(setup, machine):
    setup.main()
    machine.free(1)
    (setup.ROOT / "constraints.txt").write_text("changed")
    setup.main()


@pytest.mark.parametrize("error", [OSError("read-only"), subprocess.CalledProcessError(1, ["ensurepip"])])
def test_a_python_that_cannot_make_environments_is_told_what_to_install(error, setup, machine, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(setup.venv, "create", fail)
    assert "python3-venv" in reason_of_stopping(setup) and machine.commands == []


def test_an_environment_that_was_interrupted_before_it_had_pip_is_finished(setup, machine):
    machine.make_venv(setup.VENV, with_pip=False)
    setup.main()
    assert list(setup.VENV.glob("**/site-packages/pip")) and setup.STAMP.exists()


@pytest.mark.parametrize("torch, torchvision", [("2.9.0+cpu", "0.24.0"), ("2.9.0+cu128", "0.24.0+cpu")])
def test_two_builds_stop_before_the_download(torch, torchvision, setup, machine):
    machine.plan = {"torch": torch, "torchvision": torchvision}
    reason = reason_of_stopping(setup)
    assert torch in reason and torchvision in reason and "two builds" in reason
    assert not machine.downloaded


@pytest.mark.parametrize(
    "plan",
    [
        {"torch": "2.9.0+cpu", "torchvision": "0.24.0+cpu"},
        {"torchvision": "0.24.0+cpu"},  # torch is there already
        {},
    ],
)
def test_one_build_or_a_part_that_is_there_already_goes_on(plan, setup, machine):
    machine.plan = plan
    setup.main()
    assert machine.downloaded


def test_an_installed_pair_that_does_not_match_stops_before_the_download(setup, machine):
    machine.make_venv(setup.VENV, with_pip=True)
    machine.install("torch", "torchvision")
    machine.import_error = "Traceback\n  ...\nRuntimeError: operator torchvision::nms does not exist\n"
    reason = reason_of_stopping(setup)
    assert "operator torchvision::nms does not exist" in reason and "delete the folder .venv" in reason
    assert not machine.downloaded


def test_a_pair_that_does_not_match_after_the_download_is_not_called_ready(setup, machine):
    machine.import_error = "RuntimeError: operator torchvision::nms does not exist"
    assert "do not match" in reason_of_stopping(setup) and machine.downloaded


def test_a_pip_that_fails_is_one_sentence(setup, machine):
    machine.pip_fails = True
    assert "pip could not get what the course needs" in reason_of_stopping(setup)
    assert not any("--editable" in words for words in machine.commands)  # only the plan was asked for


def test_where_the_tested_versions_cannot_be_had_the_newest_are_taken(setup, machine, capsys):
    machine.pins_fail = True
    setup.main()
    assert "constraints.txt" not in machine.commands[-2] and ".[lab,test]" in machine.commands[-2]
    assert "Trying the newest ones" in capsys.readouterr().out and setup.STAMP.exists()
