"""Time and memory of a training iteration against the batch, the size of the pictures and the width of the network.

One of the three changes at a time, around 32x32 pictures, batch 16 and channels (32, 64, 128), through
ddpm_core.train. Writes scaling.json and scaling.png. "share" is of the rate at which this machine multiplies matrices.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from common import DEVICE, exhaust, interleaved, matmul_work, out_folder, parse, peak_memory, ratio, report
from peers import Case, OurNetwork, network_flops, num_parameters
from training_speed import OURS, Work, start, train_a_little

from ddpm_core.course.display import BLUE, GREY, ORANGE, use_course_style, write_out_numbers

CENTRE = Case(32, 3, (32, 64, 128), 16)
TINY = Case(8, 1, (8, 16), 2)


@dataclass(frozen=True)
class Point:
    """One setting: what changes, its value, and the whole of it."""

    axis: str
    value: int
    case: Case


def points(centre: Case, batches: Sequence[int], sizes: Sequence[int], widths: Sequence[int]) -> list[Point]:
    def wide(width: int) -> tuple[int, ...]:
        return tuple(c * width // centre.channels[0] for c in centre.channels)

    return [
        *(Point("batch", value, replace(centre, batch_size=value)) for value in batches),
        *(Point("picture size", value, replace(centre, size=value)) for value in sizes),
        *(Point("channels", value, replace(centre, channels=wide(value))) for value in widths),
    ]


def main(argv: list[str] | None = None) -> None:
    options = parse(__doc__, argv)
    if options.quick:
        chosen = points(TINY, (1, 2), (4, 8), (8, 16))
    else:
        chosen = points(CENTRE, (1, 4, 16, 64), (8, 16, 32, 64), (8, 16, 32, 64))
    cases = list(dict.fromkeys(point.case for point in chosen))
    matmul, matmul_gflop = matmul_work(0.02 if options.quick else 0.3)
    times, matmul_times = iteration_times(cases, matmul, 1 if options.quick else 5)
    memory = {} if options.quick else {case: peak_memory(train_a_little, work(case), case) for case in cases}
    rows = []
    for point in chosen:
        share_of_a_gflop = ratio(matmul_times, times[point.case]) / matmul_gflop
        rows.append(row(point, statistics.median(times[point.case]), share_of_a_gflop, memory.get(point.case)))
    path = out_folder(options) / "scaling.png"
    plot(rows, path)
    report(
        "scaling",
        "Training: time and memory against batch, picture size and width",
        rows,
        notes=[
            f"this machine multiplies matrices at {matmul_gflop / statistics.median(matmul_times):.0f} GFLOP/s; "
            f"the plot is {path.name}"
        ],
        options=options,
    )


def work(case: Case) -> Work:
    return Work(OURS, OURS, case.channels, in_our_loop=True)


def iteration_times(
    cases: Sequence[Case], matmul: Callable[[], None], repeats: int
) -> tuple[dict[Case, list[float]], list[float]]:
    """Seconds of an iteration of each case and of the products of matrices, in every round."""
    runs = {str(number): start(work(case), case) for number, case in enumerate(cases)}
    turns = {name: lambda run=run: exhaust(run, 2) for name, run in runs.items()}
    *rows, matmul_times = interleaved({**turns, "matmul": matmul}, repeats).values()
    return {case: [s / 2 for s in row] for case, row in zip(cases, rows, strict=True)}, matmul_times


def row(point: Point, seconds: float, share_of_a_gflop: float, memory: float | None) -> dict:
    """seconds of an iteration; the share of the matmul rate that it would have with one GFLOP."""
    torch.manual_seed(0)
    case, net = point.case, OurNetwork(point.case).to(DEVICE)
    flops = network_flops(net, case)
    gflop = flops * case.batch_size / 1e9
    return {
        "axis": point.axis,
        "value": point.value,
        "parameters, M": num_parameters(net) / 1e6,
        "GFLOP an iteration": gflop,
        "ms an iteration": 1000 * seconds,
        "pictures/s": case.batch_size / seconds,
        "GFLOP/s": gflop / seconds,
        "share": gflop * share_of_a_gflop,
        "memory, MB": memory,
    }


def plot(rows: Sequence[dict], path: Path) -> None:
    """Three columns, one an axis: above, time and memory of an iteration; below, the share of the matmul rate."""
    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    with plt.rc_context():
        use_course_style()
        figure, axes = plt.subplots(2, len(axes_names), figsize=(10.5, 6), sharex="col", sharey="row")
        for name, (above, below) in zip(axes_names, axes.T, strict=True):
            chosen = [row for row in rows if row["axis"] == name]
            values = [row["value"] for row in chosen]
            above.loglog(values, [row["ms an iteration"] for row in chosen], "o-", color=BLUE, label="time, ms")
            if chosen[0]["memory, MB"] is not None:
                above.loglog(values, [row["memory, MB"] for row in chosen], "s--", color=ORANGE, label="memory, MB")
            below.semilogx(values, [100 * row["share"] for row in chosen], "o-", color=BLUE)
            below.axhline(100, color=GREY, linewidth=1)
            below.set(xlabel=LABELS[name], xticks=values, ylim=(0, 110))
            below.set_xticks([], minor=True)
            below.set_xticklabels(map(str, values))
            above.set_title(f"against {name}")
        write_out_numbers(axes[0, 0].yaxis)
        axes[0, 0].set_ylabel("an iteration")
        axes[0, 0].legend()
        axes[1, 0].set_ylabel("% of the rate of\nmultiplying matrices")
        figure.suptitle("One training iteration", fontweight="bold")
        figure.savefig(path, dpi=120)
        plt.close(figure)


LABELS = {
    "batch": "pictures in a batch",
    "picture size": "pixels along a side",
    "channels": "channels of the first level",
}


if __name__ == "__main__":
    main()
