"""Everything of the course on this machine's graphics card, within minutes: make gpu

python tools/gpu.py --budget 480 --out build/gpu    as much as fits into so many seconds, the most telling first
python tools/gpu.py --device cpu --quick            the same parts in a small form, on a machine without a card
python tools/gpu.py --wheels FOLDER                 a machine without a network: with packages from this folder,
python tools/gpu.py --fetch-wheels FOLDER           which this fills on a machine with one (less than 15 MB)

Every part is a process of its own with a limit to its time: none can stop the others, and what does not fit is named.
OUT then holds README.md with every table, gpu.json, pictures, the executed notebooks, and a log of each part.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"
GRACE = 20  # seconds that a part gets to write down what it has, after it was told to stop
STAGGER = 1.5  # seconds between notebooks: kernels that start at one moment may choose the same port
MARK = ".made-by-gpu"  # a file in the folder of results
SHORTEST = 30  # a budget of fewer seconds would show nothing
# What a kernel, nbval and diffusers need and a machine for deep learning lacks: one that has torch, torchvision,
# scikit-learn, matplotlib, click, safetensors, tqdm, pytest and huggingface_hub. Left out are NOT_NEEDED.
WHEELS = """asttokens comm diffusers executing fastjsonschema importlib-metadata ipykernel ipython
ipython-pygments-lexers ipywidgets jsonschema jsonschema-specifications jupyter-client jupyter-core lazy-importer
matplotlib-inline nbformat nbval nest-asyncio pexpect platformdirs prompt-toolkit ptyprocess pure-eval pyzmq referencing
rpds-py stack-data tornado traitlets wcwidth zipp"""
NOT_NEEDED = "debugpy jedi parso widgetsnbextension jupyterlab-widgets"  # debugging, completion, the browser's half
GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34, 35)  # of the machine that they are for, at most: pip matches each alone


@dataclass
class Part:
    """A command, and how much it is worth."""

    name: str
    command: list[str]
    share: float  # of the time that is left, beside the shares of the parts that are still to come
    least: float  # seconds, without which it says nothing
    gigabytes: float = 1.0  # of the card's memory
    most: float | None = None  # seconds that it should take
    alone: bool = False  # whether it measures time, so that nothing may run beside it
    folder: Path | None = None  # in which it runs; None: the course's
    # What came of it.
    state: str = "not begun"
    seconds: float = 0.0
    why: str = ""
    rows: list[dict] = field(default_factory=list)
    process: subprocess.Popen | None = None
    began: float = 0.0
    until: float = 0.0


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    if options.fetch_wheels:
        fetch_wheels(options.fetch_wheels, options.python)
        return
    began = time.monotonic()
    listen_to_signals()
    out = prepare_folder(options)
    check_card(options.device)
    prepare(options, out)
    parts = chosen(plan(out, options.quick), options.only)
    card = describe(options.device)
    print("\n".join(f"{name:12} {value}" for name, value in card.items()), flush=True)
    # To ask a card for the work of a small network keeps a core busy, and many processes that ask wait for each other.
    jobs = options.jobs or max(1, min(6, (os.cpu_count() or 1) // 4))
    by_hand = False
    try:
        run_all(parts, began + options.budget, memory_of(options.device), jobs, out, options.quick)
    except KeyboardInterrupt:
        by_hand = True
        print("\nStopped. What was found until now:")
    report(parts, card, out, options)
    sys.exit(130 if by_hand else any(part.state == "failed" for part in parts))


def listen_to_signals() -> None:
    """Whoever ends this script ends its parts, too."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)  # a script that runs this in the background made it deaf


def chosen(parts: list[Part], only: list[str] | None) -> list[Part]:
    for name in only or ():
        if not any(part.name.startswith(name) for part in parts):
            names = ", ".join(part.name for part in parts)
            sys.exit(f"--only {name}: there is no such part. The parts are {names}.")
    return [part for part in parts if not only or part.name.startswith(tuple(only))]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=480, metavar="SECONDS", help="for all of it (480)")
    parser.add_argument("--out", type=Path, help="folder of the results (build/gpu, or build/gpu-quick)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small settings: shows that each part runs, no more")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts whose names begin so, such as notebook")
    parser.add_argument("--jobs", type=int, metavar="N", help="parts at a time, but for those that measure time")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="packages to use on a machine without a network")
    parser.add_argument("--fetch-wheels", type=Path, metavar="FOLDER", help="gets these packages, and does no more")
    parser.add_argument("--python", default="3.12", metavar="VERSION", help="for which Python they are (3.12)")
    options = parser.parse_args(argv)
    if not options.budget >= SHORTEST:
        parser.error(f"--budget must be {SHORTEST} seconds or more, and 480 show most of it; got {options.budget:g}")
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs must be 1 or more; got {options.jobs}")
    return options


# ---------------------------------------------------------------- the machine


def fetch_wheels(folder: Path, python: str) -> None:
    """The wheels of WHEELS for Linux on x86, whatever this machine is."""
    ours = set(WHEELS.split())
    for old in folder.glob("*.whl"):
        if old.name.split("-")[0].replace("_", "-").lower() in ours:
            old.unlink()  # another version of a package would be installed as well
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    where = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["--platform=manylinux2014_x86_64"]
    for_what = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *where]
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    if subprocess.run([*pip, *for_what, *pins, "--dest", str(folder), *sorted(ours)]).returncode:
        sys.exit("pip could not get all packages (its message is above); this needs a network.")
    files = list(folder.glob("*.whl"))
    print(f"{len(files)} packages, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB, in {folder}")
    print(f"On the other machine: python tools/gpu.py --wheels {folder}")


def prepare_folder(options: argparse.Namespace) -> Path:
    """An empty folder of results: what an earlier run has left in it goes, and nothing else."""
    out = (options.out or ROOT / "build" / ("gpu-quick" if options.quick else "gpu")).resolve()
    if out.exists() and not out.is_dir():
        sys.exit(f"--out must be a folder; {out} is a file.")
    if out.is_dir() and any(out.iterdir()):
        if not (out / MARK).is_file():
            sys.exit(f"{out} holds files that are no results of this script: give --out a new folder.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("tools/gpu.py empties this folder when it begins.\n")
    return out


def prepare(options: argparse.Namespace, out: Path) -> None:
    """What the parts inherit: the device, the course's code, and packages from a folder of wheels."""
    paths = [str(ROOT), str(ROOT / "tools"), str(BENCHMARKS)]
    if options.wheels:
        wheels = sorted(map(str, options.wheels.glob("*.whl")))
        if not wheels:
            sys.exit(f"there are no wheels in {options.wheels}: tools/gpu.py --fetch-wheels fills such a folder.")
        site = out / "site"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        if subprocess.run([*pip, "--no-deps", "--no-compile", "--target", str(site), *wheels]).returncode:
            sys.exit("the wheels could not be installed (pip's message is above): are they for this Python?")
        paths.append(str(site))
    sys.path[:0] = paths
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([inherited] if inherited else [])])
    os.environ["DDPM_PROFILE"] = "gpu" if options.device == "cuda" else "cpu"
    os.environ["DDPM_PROGRESS"] = ""  # what is done here is no learner's progress
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def check_card(device: str) -> None:
    """Ends with one sentence where there is no card that torch can use."""
    if find_spec("torch") is None:
        sys.exit("there is no torch in this Python: make gpu uses the course's, and .venv/bin/python is it.")
    if device == "cpu":
        return
    import torch

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    said = " ".join(str(warning.message) for warning in seen)
    if "driver" in said and "too old" in said:
        sys.exit(
            f"torch {torch.__version__} needs a newer NVIDIA driver than this machine's: update the driver, or install "
            "a torch that was built for an older CUDA."
        )
    if not usable:
        fix = "in Colab choose Runtime, Change runtime type, T4 GPU; --device cpu --quick tries this script on a CPU"
        if shutil.which("nvidia-smi"):
            fix = "there is a driver, so this torch was built without CUDA, or CUDA_VISIBLE_DEVICES hides the card"
        sys.exit(f"torch sees no CUDA card here: {fix}.")


def memory_of(device: str) -> float:
    """Gigabytes of the card."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 1e9 if device == "cuda" else float("inf")


def describe(device: str) -> dict[str, str]:
    import torch

    from ddpm_core.course.doctor import training_rate

    made = dict(python=sys.version.split()[0], torch=torch.__version__, cores=str(os.cpu_count()))
    made |= dict(trains=f"{training_rate():,.0f} small digits a second")  # as the doctor measures it
    if device == "cpu":
        return dict(card="none: on the CPU", **made)
    card = torch.cuda.get_device_properties(0)
    return dict(
        card=card.name,
        memory=f"{card.total_memory / 1e9:.0f} GB",
        capability=f"{card.major}.{card.minor}, bfloat16 {'yes' if torch.cuda.is_bf16_supported(False) else 'no'}",
        cuda=str(torch.version.cuda),
        **made,
    )


# ---------------------------------------------------------------- the parts


def plan(out: Path, quick: bool) -> list[Part]:
    """All parts: those that measure time alone, and then the others, the most telling first."""
    python, tried = sys.executable, ["--quick"] if quick else []
    least = (lambda seconds: 1) if quick else (lambda seconds: seconds)

    def benchmark(name: str) -> list[str]:
        return [python, str(BENCHMARKS / f"{name}.py"), "--out", str(out), *tried]

    on_device = sorted(
        str(path) for path in ROOT.glob("tests/**/test_*.py") if "mark.device" in path.read_text("utf-8")
    )
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "device", f"--junitxml={out / 'tests.xml'}"]
    parts = [
        Part("speed", benchmark("device_speed"), 0.1, least(40), 4, alone=True),
        Part("drawing", benchmark("device_drawing"), 0.06, least(30), 4, alone=True),
        Part("tests", [*tests, *(on_device[:2] if quick else on_device)], 0.08, least(20)),
        Part("numbers", benchmark("device_numbers"), 0.05, least(15)),
    ]
    notebooks = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
    parts += [notebook(path, out, 0.07, least(120)) for path in (notebooks[:1] if quick else notebooks)]
    parts.append(training("emoji", out, 0.2, least(60)))
    parts.append(Part("half precision", benchmark("mixed_precision"), 0.15, least(60)))
    parts.append(training("stable-diffusion", out, 0.2, least(90)))
    return parts


def notebook(path: Path, out: Path, share: float, least: float) -> Part:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "executed_copies"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600", f"--executed={out / 'notebooks'}"]
    xml = f"--junitxml={out / f'notebook_{path.name[:2]}.xml'}"
    return Part(f"notebook {path.name[:2]}", [*command, xml, str(path)], share, least, 4, most=300)


def training(preset: str, out: Path, share: float, least: float) -> Part:
    """A preset from its beginning to its scores, on a card in half precision and with graphs."""
    command = [sys.executable, "-m", "ddpm_core", "train", "--preset", preset, "--save-every", "2000"]
    if os.environ["DDPM_PROFILE"] == "gpu":
        command += ["--compile", "graphs"]
    most = 600 if preset == "emoji" else None
    return Part(f"training {preset}", command, share, least, 6, most, folder=out / f"training_{preset}")


# ---------------------------------------------------------------- running


def run_all(parts: list[Part], deadline: float, memory: float, jobs: int, out: Path, quick: bool) -> None:
    """Runs the parts in their order, those that measure time alone and the others side by side, until the deadline."""
    waiting, running = list(parts), []
    try:
        while waiting or running:
            for part in [one for one in running if one.process.poll() is not None]:
                finish(part, out)
                running.remove(part)
            if late := [part for part in running if time.monotonic() > part.until]:
                stop(late, "its time was up: a larger --budget has more", out)
                running = [part for part in running if part not in late]
            if not waiting or not can_begin(waiting[0], running, memory, jobs):
                time.sleep(0.1)
                continue
            part = waiting.pop(0)
            limit = limit_of(part, waiting, deadline - time.monotonic(), jobs, quick)
            if part.gigabytes > memory:
                part.state, part.why = "left out", f"it needs {part.gigabytes:g} GB on the card, which has {memory:.0f}"
            elif limit < part.least:
                needed = f"it needs {part.least:.0f} s and {max(limit, 0):.0f} are left: give a larger --budget"
                part.state, part.why = "left out", needed
            else:
                running.append(part)
                start(part, out, limit, 1 if quick else 0 if part.alone else max(1, (os.cpu_count() or 1) // jobs))
    finally:
        stop([part for part in running if part.process], "stopped by hand", out)


def can_begin(part: Part, running: list[Part], memory: float, jobs: int) -> bool:
    if not running:
        return True
    fits = sum(one.gigabytes for one in (part, *running)) <= memory
    return fits and len(running) < jobs and not any(one.alone for one in (part, *running))


def limit_of(part: Part, waiting: list[Part], left: float, jobs: int, quick: bool) -> float:
    """Seconds that a part gets of those that are left: its share among the parts to come, or what it needs at least."""
    if quick:
        return 8 if part.name.startswith("training") else left  # a training would go on for hours
    left -= GRACE / 2
    shares = sum(one.share / (1 if one.alone else jobs) for one in (part, *waiting))  # of those side by side, less
    return min(left, max(part.least, left * part.share / shares))


def start(part: Part, out: Path, limit: float, threads: int) -> None:
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {}) | {"PYTHONUNBUFFERED": "1"}
    if part.folder:
        part.folder.mkdir()
    if part.name.startswith("notebook"):
        time.sleep(STAGGER)
    options = dict(cwd=part.folder or ROOT, env=environment, stderr=subprocess.STDOUT, start_new_session=True)
    part.began = time.monotonic()
    part.until = part.began + limit
    with log_of(part, out).open("wb") as log:
        part.process = subprocess.Popen(part.command, stdout=log, **options)


def log_of(part: Part, out: Path) -> Path:
    return out / f"{part.name.replace(' ', '_')}.log"


def stop(parts: list[Part], why: str, out: Path) -> None:
    """Tells parts to write down what they have, and ends them where they do not."""
    try:
        for part in parts:
            part.process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        until = time.monotonic() + GRACE
        while time.monotonic() < until and any(part.process.poll() is None for part in parts):
            time.sleep(0.1)
    finally:
        for part in parts:
            finish(part, out, why)


def finish(part: Part, out: Path, stopped: str = "") -> None:
    """Ends what a part has left behind, and looks at what it has found. stopped: why, where it was not at its end."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(part.process.pid, signal.SIGKILL)
    else:
        part.process.kill()
    with suppress(subprocess.TimeoutExpired):
        part.process.wait(5)  # one that hangs in a driver does not die
    part.seconds = time.monotonic() - part.began
    code = part.process.returncode
    part.state = "stopped" if stopped else "failed" if code else "done"
    part.why = stopped
    try:
        part.rows = list(rows_of(part, out))
    except Exception as error:  # a file that was being written when the part was ended
        part.why = f"{stopped}; what it left cannot be read ({type(error).__name__})".removeprefix("; ")
    if part.state == "failed":
        text = log_of(part, out).read_text("utf-8", "replace").replace("\r", "\n")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        failed = [row["what"] for row in part.rows[1:] if row.get("result") == "failed"]
        part.why = f"{len(failed)} failed: {failed[0]}" if failed else (lines or ["no word"])[-1][:200]
    print(f"{part.state:9} {part.name:26} {part.seconds:5.0f} s  {part.why}", flush=True)


def rows_of(part: Part, out: Path) -> Iterator[dict]:
    """What a part that is not a benchmark has found, for the table."""
    if part.name.startswith("training"):
        yield from trained(part)
        return
    xml = log_of(part, out).with_suffix(".xml")
    if not xml.is_file():
        return
    cases = list(ElementTree.parse(xml).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    yield {
        "what": part.name,
        "result": "failed" if bad else "stopped" if part.state == "stopped" else "passed",
        "seconds": sum(float(case.get("time", 0)) for case in cases),
        "count": len(cases),
        "failed": len(bad),
        "skipped": skipped,
    }
    for case in bad:
        found = case.find("failure") if case.find("failure") is not None else case.find("error")
        text = re.sub(r"(#x1B|\x1b)\[\d*m", "", found.text or found.get("message") or "")
        yield {"what": f"{part.name}, {case.get('name')}: {' '.join(text.split())[-150:]}", "result": "failed"}


def trained(part: Part) -> Iterator[dict]:
    """How far a training came, and how good the model is beside the one that ships."""
    from ddpm_core import load_checkpoint, shipped_checkpoint

    preset = part.name.removeprefix("training ")
    finished, run = part.folder / f"{preset}.safetensors", part.folder / "runs" / f"{preset}.safetensors"
    path = finished if finished.is_file() else run
    if not path.is_file():
        return
    notes, shipped = load_checkpoint(path).notes, load_checkpoint(shipped_checkpoint(preset)).notes["scores"]
    yield {
        "what": part.name,
        "result": "scored" if "scores" in notes else "not at its end",
        "seconds": notes["seconds"],
        "count": notes["iterations"],
    }
    for name, score in notes.get("scores", {}).items():
        yield {"what": f"{preset}, {name}", "result": f"{score:.1%}, shipped {shipped.get(name, float('nan')):.1%}"}


# ---------------------------------------------------------------- the report


def report(parts: list[Part], card: dict[str, str], out: Path, options: argparse.Namespace) -> None:
    """The table, gpu.json and the page README.md with the tables of all benchmarks."""
    import common
    import summary

    rows = [dict(part=part.name, state=part.state, seconds=part.seconds, why=part.why) for part in parts]
    targets = []
    for part in parts if not options.quick else ():
        if part.most:
            # One that was stopped took longer, where it got so long.
            is_known = part.state == "done" or (part.state == "stopped" and part.seconds > part.most)
            seconds = part.seconds if is_known else None
            targets.append(common.target(f"{part.name}, seconds", seconds, at_most=part.most))
    shared = argparse.Namespace(quick=options.quick, out=out)
    notes = [f"{name}: {value}" for name, value in card.items()]
    details = [row for part in parts for row in part.rows]
    common.report("gpu", "The course on this device", rows, targets, notes, shared, extra=dict(details=details))
    if details:
        print(f"\n{common.table(details)}")
    summary.main(["--out", str(out)])
    with (out / "README.md").open("a", encoding="utf-8") as page:
        page.write(f"\n## Details\n\n{common.table(details)}\n" if details else "")
        page.writelines(f"\n![{path.stem}]({path.name})\n" for path in sorted(out.glob("drawn_*.png")))


if __name__ == "__main__":
    main()
