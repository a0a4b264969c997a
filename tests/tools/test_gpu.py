"""The course on a graphics card, in one command; here without one."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gpu
import nbformat
import pytest
import torch
from gpu import Part
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for parts are told to stop by SIGINT")


@pytest.fixture
def environment(monkeypatch):
    """What main sets for its parts is set back."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(gpu, "listen_to_signals", lambda: None)


def part(name: str, program: str, **options) -> Part:
    """A part that is a program of Python's."""
    return Part(name, [sys.executable, "-c", program], options.pop("share", 1), options.pop("least", 0), **options)


def run(*parts: Part, seconds: float = 60, memory: float = 16, jobs: int = 2, out: Path) -> list[Part]:
    gpu.run_all(list(parts), time.monotonic() + seconds, memory, jobs, out, quick=False)
    return list(parts)


# ---------------------------------------------------------------- running


def test_a_part_that_fails_stops_no_other_and_its_last_words_are_kept(tmp_path):
    bad, good = run(part("bad", "raise ValueError('no such thing')"), part("good", "print('here')"), out=tmp_path)
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.why == "ValueError: no such thing" and good.why == ""
    assert (tmp_path / "good.log").read_text() == "here\n"


def test_a_part_whose_time_is_up_may_write_down_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 4)
    path = tmp_path / "found"
    patient = f"""
import time, pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background have deaf children
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(path)!r}).write_text("half of it")
"""
    deaf = "import time, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    stopped, killed, after = run(
        part("patient", patient), part("deaf", deaf), part("after", "", share=8), seconds=8, out=tmp_path
    )
    assert stopped.state == killed.state == "stopped" and path.read_text() == "half of it"
    assert after.state == "done" and time.monotonic() - began < 15


def test_what_measures_time_runs_alone(tmp_path):
    log = tmp_path / "log"
    program = f"""
import time
with open({str(log)!r}, "ab", buffering=0) as file:
    file.write(b"+"); time.sleep(0.6); file.write(b"-")
"""
    run(*(part(name, program, alone=name == "clock") for name in ("clock", "one", "two")), out=tmp_path)
    assert log.read_text() == "+-" + "++--"


def test_what_does_not_fit_is_left_out_and_named_with_what_it_needs(tmp_path):
    large, long, small = run(
        part("large", "", gigabytes=24), part("long", "", least=300), part("small", ""), seconds=40, out=tmp_path
    )
    assert (large.state, long.state, small.state) == ("left out", "left out", "done")
    assert "24 GB" in large.why and "16" in large.why
    assert "300 s" in long.why and "--budget" in long.why


def test_two_parts_run_side_by_side_where_the_card_has_memory_for_both(tmp_path):
    one, two = (part(name, "", gigabytes=10) for name in ("one", "two"))
    assert gpu.can_begin(two, [one], memory=24, jobs=2) and not gpu.can_begin(two, [one], memory=16, jobs=2)
    assert gpu.can_begin(two, [], memory=1, jobs=1)  # run_all leaves it out


def test_whoever_ends_the_script_ends_its_parts_too(tmp_path):
    pid = tmp_path / "pid"
    program = f"""
import sys; sys.path.insert(0, {str(ROOT / "tools")!r})
import time, pathlib, gpu
gpu.listen_to_signals()
sleeper = "import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(99)"
parts = [gpu.Part(name, [sys.executable, "-c", sleeper], 1, 0) for name in ("first", "second")]
try:
    gpu.run_all(parts, time.monotonic() + 99, 16, 1, pathlib.Path({str(tmp_path)!r}), quick=False)
finally:
    print([(part.name, part.state, part.why) for part in parts])
"""
    script = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    script.terminate()
    out, _ = script.communicate(timeout=30)
    assert "('first', 'stopped', 'stopped by hand'), ('second', 'not begun', '')" in out
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_shares_are_of_the_time_that_is_left_and_what_runs_side_by_side_shares_less():
    first, second = part("first", "", share=1), part("second", "", share=3)
    left = 100 + gpu.GRACE / 2
    assert gpu.limit_of(first, [second], left, 1, quick=False) == pytest.approx(25)
    assert gpu.limit_of(first, [second], left, 2, quick=False) == pytest.approx(50)
    assert gpu.limit_of(second, [], left, 1, quick=False) == pytest.approx(100)
    first.least = 60  # what a part needs it gets, as far as there is time
    assert gpu.limit_of(first, [second], left, 1, quick=False) == pytest.approx(60)


# ---------------------------------------------------------------- what was found


def test_tests_and_notebooks_are_counted_and_what_failed_is_named(tmp_path):
    (tmp_path / "test_two.py").write_text("def test_right(): pass\ndef test_wrong(): assert 1 == 2\n")
    tests = Part("tests", [sys.executable, "-m", "pytest", "-q", f"--junitxml={tmp_path / 'tests.xml'}"], 1, 0)
    tests.command += ["-p", "no:cacheprovider", str(tmp_path / "test_two.py")]
    run(tests, out=tmp_path)
    assert tests.state == "failed" and tests.why.startswith("1 failed: tests, test_wrong")
    assert {name: tests.rows[0][name] for name in ("result", "count", "failed")} == dict(
        result="failed", count=2, failed=1
    )


def test_a_file_that_was_half_written_stops_no_other_part(tmp_path):
    xml = tmp_path / "tests.xml"
    half = part("tests", f"import pathlib; pathlib.Path({str(xml)!r}).write_text('<testsuites><testsu')")
    _, after = run(half, part("after", ""), out=tmp_path, jobs=1)
    assert after.state == "done" and "cannot be read (ParseError)" in half.why and half.rows == []


def test_a_notebook_leaves_its_executed_copy(tmp_path, monkeypatch):
    for name, value in (("DDPM_PROGRESS", ""), ("PYTHONPATH", str(ROOT / "tools"))):
        monkeypatch.setenv(name, value)
    cells = [nbformat.v4.new_code_cell(source) for source in ("print(6 * 7)", "1 / 0", "'after it'")]
    path = tmp_path / "07_short.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    (found,) = run(gpu.notebook(path, tmp_path, 1, 0), out=tmp_path)
    assert found.state == "failed" and "1 failed: notebook 07, Cell 1" in found.why and found.rows[0]["count"] == 3
    copy = nbformat.read(tmp_path / "notebooks" / path.name, 4)
    assert copy.cells[0].outputs[0].text == "42\n" and copy.cells[2].outputs[0].data["text/plain"] == "'after it'"


@pytest.mark.slow
def test_a_notebook_that_is_stopped_leaves_the_cells_that_ran(tmp_path, monkeypatch):
    for name, value in (("DDPM_PROGRESS", ""), ("PYTHONPATH", str(ROOT / "tools"))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu, "GRACE", 8)
    cells = [nbformat.v4.new_code_cell(source) for source in ("print(6 * 7)", "import time; time.sleep(90)")]
    path = tmp_path / "07_long.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    stopped = gpu.notebook(path, tmp_path, 1, 0)
    # Where the tests run in the background, their children do not hear SIGINT.
    hears = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    stopped.command[1:3] = ["-c", hears + "sys.argv[0] = 'pytest'; runpy.run_module('pytest', run_name='__main__')"]
    run(stopped, seconds=14, out=tmp_path)
    assert stopped.state == "stopped" and stopped.rows[0]["result"] == "stopped"
    assert nbformat.read(tmp_path / "notebooks" / path.name, 4).cells[0].outputs[0].text == "42\n"


# ---------------------------------------------------------------- the machine


@pytest.mark.parametrize("driver, words", [(None, "Colab"), ("/usr/bin/nvidia-smi", "CUDA_VISIBLE_DEVICES")])
def test_without_a_card_there_is_one_sentence(driver, words, monkeypatch, tmp_path, environment):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu.shutil, "which", lambda name: driver)
    with pytest.raises(SystemExit, match=f"torch sees no CUDA card here: .*{words}"):
        gpu.main(["--out", str(tmp_path)])


def test_a_driver_that_is_too_old_is_named(monkeypatch):
    def is_available():
        # torch's own words
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found 11040).", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with pytest.raises(SystemExit, match=re.escape(torch.__version__) + " needs a newer NVIDIA driver .*update"):
        gpu.check_card("cuda")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--budget", "10"], "--budget must be 30 seconds or more.*got 10"),
        (["--budget", "nan"], "--budget must be"),
        (["--jobs", "0"], "--jobs must be 1 or more; got 0"),
    ],
)
def test_a_number_that_makes_no_sense_is_named(arguments, words, capsys):
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert re.search(words, capsys.readouterr().err)


def test_a_part_that_is_not_there_and_a_folder_without_wheels_are_named(tmp_path, environment):
    out = ["--device", "cpu", "--quick", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"--only notbook: there is no such part. The parts are speed, drawing, tests"):
        gpu.main([*out, "--only", "tests", "notbook"])
    with pytest.raises(SystemExit, match="no wheels in"):
        gpu.main([*out, "--wheels", str(tmp_path)])


def test_only_a_folder_of_its_own_is_emptied(tmp_path, environment):
    mine, ours, file = tmp_path / "mine", tmp_path / "ours", tmp_path / "file"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    file.write_text("mine")
    for out, words in ((mine, "give --out a new folder"), (file, "is a file")):
        with pytest.raises(SystemExit, match=words):
            gpu.main(["--device", "cpu", "--out", str(out)])
    assert (mine / "README.md").read_text() == file.read_text() == "mine"
    options = gpu.parse(["--out", str(ours)])
    gpu.prepare_folder(options)
    (ours / "device_speed.json").write_text("of an earlier run")
    gpu.prepare_folder(options)
    assert [path.name for path in ours.iterdir()] == [gpu.MARK]


def test_of_the_wheels_in_a_folder_only_older_ones_of_ours_go(tmp_path, monkeypatch):
    for name in ("rpds_py-1.0-cp312-cp312-linux.whl", "mine-1.0-py3-none-any.whl"):
        (tmp_path / name).touch()
    commands = []
    monkeypatch.setattr(
        gpu.subprocess, "run", lambda command: commands.append(command) or subprocess.CompletedProcess(command, 0)
    )
    gpu.fetch_wheels(tmp_path, "3.12")
    assert [path.name for path in tmp_path.iterdir()] == ["mine-1.0-py3-none-any.whl"]
    assert set(gpu.WHEELS.split()) < set(commands[0])


def everything_behind(*names: str) -> set[str]:
    """These packages and all that they need, and those need, on Linux with Python 3.12."""
    machine, found, todo = dict(extra="", python_version="3.12", sys_platform="linux"), set(), list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(machine):
                todo.append(needed.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other packages are needed elsewhere")
def test_the_wheels_are_what_a_machine_for_deep_learning_lacks():
    there = ["torch", "torchvision", "scikit-learn", "matplotlib", "click", "safetensors", "tqdm", "pytest"]
    usual = {"requests", "regex", "pyyaml", "psutil", "coverage", "attrs"}
    has = everything_behind(*there, "huggingface_hub") | everything_behind(*usual)
    lacks = everything_behind("ipykernel", "nbval", "ipywidgets", "diffusers") - has
    assert lacks == set(gpu.WHEELS.split()) | set(gpu.NOT_NEEDED.split())


# ---------------------------------------------------------------- all of it


@pytest.mark.slow
def test_a_dry_run_goes_through_every_part(tmp_path):
    command = [sys.executable, ROOT / "tools" / "gpu.py", "--device", "cpu", "--quick", "--budget", "300"]
    result = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    states = {row["part"]: row["state"] for row in found["rows"]}
    trainings = {f"training {preset}": "stopped" for preset in ("emoji", "stable-diffusion")}  # they would take hours
    others = ("speed", "drawing", "tests", "numbers", "half precision", "notebook 01")
    assert states == dict.fromkeys(others, "done") | trainings
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "The same losses and gradients" in page and "drawn_emoji.png" in page and "training emoji" in page
    assert (tmp_path / "notebooks" / "01_sampling_from_a_gaussian.ipynb").is_file()
