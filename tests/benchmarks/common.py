"""What the benchmarks share: fair timing, the machine's own speed, memory, and one form of result.

Works that are compared take turns, because a machine's speed drifts, and what is reported are medians and their
ratios. Nothing here fails because something is slow.
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ddpm_core.course.profile import choose_profile
from ddpm_core.scale.speed import allow_tf32

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "bench"
DEVICE = choose_profile().device
MEGABYTE = 2**20
if DEVICE.type == "cuda":
    allow_tf32(True)  # for products of matrices as for convolutions, which have it by default
# torch counts attention on a GPU only.
ATTENTION_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def parser(description: str) -> argparse.ArgumentParser:
    """A benchmark's command line: --quick for tiny settings that only show that it runs, --out for the folder."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="tiny settings: shows that it runs, no more")
    made.add_argument("--out", type=Path, help="folder of the results (build/bench, or build/bench/quick)")
    return made


def parse(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a benchmark that has no others than parser's."""
    return parser(description).parse_args(argv)


def out_folder(options: argparse.Namespace) -> Path:
    """Where a benchmark writes. A quick run never overwrites what a full one has measured."""
    folder = options.out or (BUILD / "quick" if options.quick else BUILD)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def has(module: str) -> bool:
    """Whether a peer is installed; where it is not, says so."""
    found = find_spec(module) is not None
    if not found:
        print(f"{module} is not installed, so it is left out of the comparison: pip install -e .[bench] brings it")
    return found


# ---------------------------------------------------------------- time


def synchronise() -> None:
    """Waits until a GPU has done all that it was given. A CPU is never behind."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """How long one piece of work takes."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def interleaved(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, repeats times, taking turns: the n-th number of each list is from the same round.

    A round before them is not counted. Each round begins with another work, so that nobody always follows the same one.
    """
    names, times = list(works), {name: [] for name in works}
    for turn in range(repeats + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(works[name]))
    return {name: row[1:] for name, row in times.items()}


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over the rounds of how many times as long the first took as the second."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def exhaust(run: Iterable, count: int) -> None:
    """Takes the next count items of an iterator, such as train's, and keeps none."""
    taken = deque(enumerate(islice(run, count), start=1), maxlen=1)
    if (taken[0][0] if taken else 0) < count:
        raise RuntimeError(f"a run ended before {count} iterations: give it more num_iterations")


# ---------------------------------------------------------------- arithmetic


SIZES = (512, 1024, 2048) if DEVICE.type == "cpu" else (2048, 4096, 8192)


def matmul_work(seconds_a_turn: float, sizes: Sequence[int] = SIZES) -> tuple[Callable[[], None], float]:
    """A work that multiplies float32 matrices of the best size for about so long, and how many GFLOP that is.

    It takes turns with the works whose share of the machine's speed is asked for, as that speed drifts.
    """
    pairs = {size: torch.randn(2, size, size, device=DEVICE) for size in sizes}

    def multiply(size: int, count: int) -> None:
        a, b = pairs[size]
        for _ in range(count):
            torch.mm(a, b)

    def rate(size: int) -> float:
        return size**3 / min(seconds(lambda: multiply(size, 1)) for _ in range(5))

    best = max(sizes, key=rate)
    count = max(1, round(seconds_a_turn * rate(best) / best**3))
    return lambda: multiply(best, count), count * 2 * best**3 / 1e9


def flops_per_picture(loss: Callable[[], Tensor], batch_size: int, backward: bool = True) -> float:
    """Floating-point operations of a loss over a batch, and of the way back from it, a picture of the batch.

    Counted are the products of matrices, convolutions and attention, as torch.utils.flop_counter does: a multiplication
    and an addition are two.
    """
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        result = loss()
        if backward:
            result.backward()
    return counter.get_total_flops() / batch_size


# ---------------------------------------------------------------- memory


def peak_memory(run: Callable[..., object], *args: object) -> float:
    """Megabytes that run(*args) needs at its peak, in a fresh process, beyond Python, the imports and torch's own.

    run: a function of a module (it is sent by name), which makes the network and trains it for some iterations
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure_memory, args=(sender, torch.get_num_threads(), run, args))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"measuring the memory of {run.__name__} failed; the error is above") from None
    finally:
        child.join()


def _measure_memory(sender, num_threads: int, run: Callable[..., object], args: tuple) -> None:
    torch.set_num_threads(num_threads)
    _warm_up()
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(*args)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    else:
        with _HighWater() as water:
            run(*args)
        before, peak = water.before, water.peak
    sender.send((peak - before) / MEGABYTE)


def _warm_up() -> None:
    """Brings in what torch loads when it first convolves, attends and trains, which is nobody's memory."""
    net = torch.nn.Conv2d(8, 8, 3, padding=1).to(DEVICE)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x = net(torch.randn(2, 8, 8, 8, device=DEVICE)).flatten(2)
    F.scaled_dot_product_attention(x, x, x).sum().backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()


class _HighWater:
    """The largest resident memory of this process inside a with block, and that before it, in bytes."""

    def __enter__(self) -> "_HighWater":
        self.before = _resident()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's mark falls to what is resident now
            self.sampler = None
        except OSError:
            self.sampler, self.done, self.most = threading.Thread(target=self._sample), threading.Event(), self.before
            self.sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.sampler is None:
            self.peak = _status("VmHWM")
        else:
            self.done.set()
            self.sampler.join()
            self.peak = self.most

    def _sample(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, _resident())


def _resident() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmRSS")
    # Elsewhere only the largest so far is known without another package.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


# ---------------------------------------------------------------- results


def machine() -> dict[str, object]:
    """Where and when a benchmark ran."""
    return dict(
        device=torch.cuda.get_device_name(DEVICE) if DEVICE.type == "cuda" else _processor(),
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # of the minute before: is it quiet?
        system=platform.system(),
        python=platform.python_version(),
        torch=torch.__version__,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")


def target(
    what: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, object]:
    """A figure beside what it should be. value: None where it could not be measured."""
    if (at_least is None) == (at_most is None):
        raise ValueError("a target needs either at_least or at_most")
    met = None
    if value is not None:
        met = value >= at_least if at_least is not None else value <= at_most
    return dict(what=what, value=value, at_least=at_least, at_most=at_most, met=met)


def row_of(measure: Callable[..., dict], *arguments: object) -> dict:
    """A row of a table, or one that says what went wrong: the others are not lost for it."""
    try:
        return measure(*arguments)
    except Exception as error:
        return dict(failed=f"{arguments[0]}, {arguments[1]}: {(str(error) or type(error).__name__).splitlines()[0]}")


def report(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, object]],
    targets: Sequence[Mapping[str, object]] = (),
    notes: Sequence[str] = (),
    options: argparse.Namespace | None = None,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """Prints a benchmark's table and writes it to NAME.json beside the machine; returns the file.

    rows:    dicts from column to a number, a string or None, in the order of printing
    targets: what target() returns; notes: sentences below the table
    options: what parse() returned (None: a full run)
    extra:   more for the file alone, such as the curves of a plot
    """
    options = options or argparse.Namespace(quick=False, out=None)
    where = machine()
    print(f"\n{title}" + (" (quick: the numbers mean nothing)" if options.quick else ""))
    print(f"{where['device']}, {where['threads']} threads, torch {where['torch']}, load {where['load']}\n")
    print(table(rows))
    for line in [*map(target_line, targets), *notes]:
        print(f"  {line}")
    path = out_folder(options) / f"{name}.json"
    result = dict(
        name=name,
        title=title,
        quick=options.quick,
        machine=where,
        rows=list(rows),
        targets=list(targets),
        notes=list(notes),
        **(extra or {}),
    )
    text = json.dumps(_without_nan(result), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a Markdown table whose columns stand under one another. A row may lack columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(3, *map(len, texts)) for texts in zip(*lines, strict=True)]
    # Numbers stand at the right.
    right = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]
    rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
    return "\n".join(
        "| " + " | ".join(map(_padded, texts, widths, right)) + " |" for texts in [lines[0], rule, *lines[1:]]
    )


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def cell(value: object) -> str:
    """A value as a table shows it: numbers with three digits that count."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def limit_of(row: Mapping[str, object]) -> str:
    return f"at least {row['at_least']:g}" if row["at_least"] is not None else f"at most {row['at_most']:g}"


def verdict_of(row: Mapping[str, object]) -> str:
    return {True: "met", False: "not met", None: "not measured"}[row["met"]]


def target_line(row: Mapping[str, object]) -> str:
    """A target in words."""
    return f"{row['what']}: {cell(row['value'])} (target: {limit_of(row)}), {verdict_of(row)}"


def _without_nan(value: object) -> object:
    """For JSON, which knows no NaN and no infinity: None in their place, however deep."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
