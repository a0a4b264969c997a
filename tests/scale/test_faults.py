"""What can end a training at any moment: after it, the run goes on as if nothing had happened.

The trainings run in forks of one process, in which torch is loaded already, so that there can be many of them.
"""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")]

# Before a fork there must be no other threads.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "DDPM_PROFILE": "cpu"}
COMMON = """
import contextlib, io, os, random, resource, signal, sys, threading, time
from pathlib import Path
import torch
from tqdm import tqdm
from ddpm_core import __main__, load_checkpoint
from ddpm_core.scale.run_files import newest_checkpoint
from ddpm_core.support import tensor_file

torch.set_num_threads(1)  # threads do not survive a fork
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())  # its own is shared by forks: one that is killed would keep it from all others
ITERATIONS = int(sys.argv[1])
TINY = ["--iterations", str(ITERATIONS), "--save-every", "1"]
TINY += ["--timesteps", "10", "--batch-size", "4", "--channels", "8"]

def train(name, *options):
    "Runs the command and returns what it says, its last line first."
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            __main__.main(["train", name, *TINY, *options], standalone_mode=False)
        except Exception as error:
            print(f"Error: {error}")
    return said.getvalue()

def fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child

def losses(name):
    return newest_checkpoint(Path(name))[0].training["losses"]

train("whole.safetensors")
whole = losses("whole.safetensors")
assert len(whole) == ITERATIONS
"""

KILLED_AT_RANDOM = """
random.seed(0)
reached, kills, starts, halfway = 0, 0, 0, 0
while kills < 20:
    starts += 1
    assert starts < 200, Path("said").read_text()[-2000:]
    resume = ["--resume"] if reached else []
    child = fork(lambda: Path("said").write_text(train("run.safetensors", *resume)))
    time.sleep(random.uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if not Path("run.safetensors").exists():
        assert not reached
        continue
    load_checkpoint("run.safetensors")  # raises where it is not whole
    now = losses("run.safetensors")
    assert len(now) >= reached and now == whole[: len(now)]
    reached = len(now)
    halfway += 0 < reached < ITERATIONS
    if reached == ITERATIONS:  # done before the kills were: another run
        for path in Path().glob("*run.*"):
            path.unlink()
        reached = 0
train("run.safetensors", *(["--resume"] if reached else []))
assert losses("run.safetensors") == whole
assert not list(Path().glob("*.tmp"))
rows = Path("run.csv").read_text().splitlines()[1:]
assert [float(row.split(",")[1]) for row in rows] == whole
assert halfway, "no run was killed between its first save and its end"
print("killed", kills)
"""

KILLED_IN_A_SAVE = """
# All that a save does to files: the process dies just before each of these calls, and in the middle of a write.
calls = 0

def deadly(function, die_at, half=False):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == die_at:
            if half:
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

def run(die_at):
    for name in ("link", "replace", "fsync"):
        setattr(os, name, deadly(getattr(os, name), die_at, half=name == "fsync"))
    train("run.safetensors", "--keep", "2")

for die_at in range(1, 15):
    for path in Path().glob("*run.*"):
        path.unlink()
    child = fork(lambda: run(die_at))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if Path("run.safetensors").exists():
        load_checkpoint("run.safetensors")
        assert losses("run.safetensors") == whole[: len(losses("run.safetensors"))]
    train("run.safetensors", *(["--resume"] if Path("run.safetensors").exists() else []))
    assert losses("run.safetensors") == whole
    assert not list(Path().glob("*.tmp"))
print("killed", die_at)
"""

DISK_FULL = """
# A file may grow to so many bytes and no further, as on a disk that is full.
def full():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

def fails():
    full()
    Path("said").write_text(train("run.safetensors")[-4000:])

def fails_later():
    save, saves = tensor_file.save, []
    def counted(*arguments):
        saves.append(arguments)
        if len(saves) == 4:
            full()
        return save(*arguments)
    tensor_file.save = counted
    Path("said").write_text(train("run.safetensors")[-4000:])

os.waitpid(fork(fails), 0)
said = Path("said").read_text()
assert not Path("run.safetensors").exists() and not list(Path().glob("*.tmp"))
assert said.count("run.safetensors could not be written, and what was there is untouched") > 1
assert "Training goes on; put that right before the next save." in said
assert said.splitlines()[-1].startswith("Error: run.safetensors could not be written")
os.waitpid(fork(fails_later), 0)
now = losses("run.safetensors")  # that of before the disk was full
assert now == whole[: len(now)] and len(now) == 3
train("run.safetensors", "--resume")
assert losses("run.safetensors") == whole
print("disk full")
"""

READ_ONLY = """
folder = Path("read-only")
folder.mkdir()
train(str(folder / "old.safetensors"))
folder.chmod(0o555)
Path("said").touch()
Path("said").chmod(0o666)
Path().resolve().chmod(0o755)

def refused():
    if os.getuid() == 0:
        os.setuid(65534)  # the rights of a folder do not bind the administrator
    said = train("read-only/run.safetensors"), train("read-only/old.safetensors", "--resume", "--iterations", "20")
    Path("said").write_text("".join(said))

os.waitpid(fork(refused), 0)
said = Path("said").read_text().splitlines()
assert len(said) == 2 and all("cannot be written: the folder" in line and "is read-only" in line for line in said), said
assert losses("read-only/old.safetensors") == whole
print("read-only")
"""

TWO_AT_ONCE = """
def second():
    Path("said").write_text(train("run.safetensors", *options))

options = []
save = tensor_file.save
def in_between(*arguments):
    if not Path("said").exists():  # in the middle of the first training
        os.waitpid(fork(second), 0)
    return save(*arguments)
tensor_file.save = in_between
train("run.safetensors")
assert "another training is at work on run.safetensors" in Path("said").read_text()
Path("said").unlink()
options = ["--resume"]
train("run.safetensors", "--resume", "--iterations", "20")
assert "another training is at work on run.safetensors" in Path("said").read_text()
assert len(losses("run.safetensors")) == 20
print("refused")
"""


@pytest.mark.parametrize(
    "program, iterations, end",
    [
        (KILLED_AT_RANDOM, 40, "killed 20"),
        (KILLED_IN_A_SAVE, 8, "killed 14"),
        (DISK_FULL, 8, "disk full"),
        (READ_ONLY, 8, "read-only"),
        (TWO_AT_ONCE, 8, "refused"),
    ],
    ids=["kill -9 at 20 random moments", "kill -9 inside a save", "disk full", "read-only folder", "two trainings"],
)
def test_a_training_survives(program, iterations, end, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", COMMON + program, str(iterations)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=ONE_THREAD,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().splitlines()[-1] == end
