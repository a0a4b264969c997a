"""What each switch gives in training on this device: precision, layout in memory, compiling, graphs; and diffusers.

ours:      ddpm_core.UNet in ddpm_core.train
diffusers: its UNet2DConditionModel in its example's loop, in the same precision. "our widths" has one layer a block, as
           ours; "equal FLOPs" its default of two. Its text comes as the same ready vectors.

"busy" is the share of an iteration's time in which the device computes, "waits" how often an iteration stops until the
device is done, both read off torch's profiler. Rows run one after the other, each after its own warm-up.
"""

import gc
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import peers
import torch
from common import DEVICE, MEGABYTE, exhaust, has, parse, report, row_of, seconds, target
from peers import Case, DiffusersNetwork, OurNetwork, Widths
from torch.profiler import DeviceType, ProfilerActivity, profile
from training_speed import MIDDLE_TEXT, random_data

from ddpm_core import NoiseSchedule, linear_betas, train
from ddpm_core.scale.speed import autocast, fastest_precision, in_precision, new_state, speed_up

LATENTS = Case(16, 4, (96, 192), 64, context_dim=128)
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
HALF = fastest_precision(DEVICE)


@dataclass(frozen=True)
class Row:
    """One way to train."""

    what: str
    precision: str | None = HALF  # None: float32 with TF32
    compile: str | None = None
    channels_last: bool = True
    patch_size: int = 1
    diffusers: tuple[Widths, int] | None = None  # its widths and layers a block
    batch_size: int | None = None  # None: the case's


WAYS = [
    Row("float32, TF32", None),
    Row("half"),
    Row("diffusers, our widths, half", diffusers=((32, 64, 128), 1)),
    Row("diffusers, equal FLOPs, half", diffusers=((16, 40, 88), 2)),
    Row("float32", "float32"),
    Row("float16", "float16"),
    Row("half, channels apart", channels_last=False),
    Row("half, batch 512", batch_size=512),
    Row("half, fuse", compile="fuse"),
    Row("half, graphs", compile="graphs"),
    Row("diffusers, our widths, half, graphs", compile="graphs", diffusers=((32, 64, 128), 1)),
]
IN_LATENTS = [
    Row("half", patch_size=2),
    Row("half, graphs", patch_size=2, compile="graphs"),
    Row("diffusers, our widths, half", diffusers=((96, 192), 1)),
]
TABLE = {MIDDLE_TEXT: WAYS, LATENTS: IN_LATENTS}
QUICK = {
    Case(8, 3, (8, 8), 4, context_dim=8): [
        Row("float32", "float32"),
        Row("half, channels apart", channels_last=False),
        Row("diffusers, our widths, half", diffusers=((8, 8), 1)),
    ]
}


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(__doc__, argv)
    rows, peer, on_gpu = [], has("diffusers"), DEVICE.type == "cuda"
    try:
        works = [(case, way) for case, ways in (QUICK if options.quick else TABLE).items() for way in ways]
        for case, way in sorted(works, key=lambda work: work[1].compile is not None):  # compiling takes long
            if (peer or not way.diffusers) and (on_gpu or way.compile != "graphs"):
                rows.append(row_of(measure, case, way, options.quick))
    except KeyboardInterrupt:
        print("stopped: what was measured until now")
    title = "Training on this device: what each switch gives"
    report("device_speed", title, rows, targets(rows) if on_gpu and not options.quick else [], options=options)


def measure(case: Case, way: Row, quick: bool) -> dict:
    batch_size = way.batch_size or case.batch_size
    torch._dynamo.reset()
    torch.manual_seed(0)
    gc.collect()
    on_gpu = DEVICE.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    run = start(case, way, batch_size)
    first = seconds(lambda: exhaust(run, 3))
    exhaust(run, 2 if quick else 12)
    memory = (torch.cuda.max_memory_allocated() - before) / MEGABYTE if on_gpu else None
    count = 1 if quick else max(1, round(0.3 / (seconds(lambda: exhaust(run, 5)) / 5)))
    an_iteration = statistics.median(seconds(lambda: exhaust(run, count)) for _ in range(2 if quick else 5)) / count
    busy, waits = watch(run, 2 if quick else 8)
    print(f"{case}: {way.what}: {1000 * an_iteration:.2f} ms", flush=True)
    return {
        "pictures": f"{case.size}x{case.size}, batch {batch_size}",
        "training": way.what,
        "ms": 1000 * an_iteration,
        "pictures/s": batch_size / an_iteration,
        "memory, MB": memory,
        "busy": busy / an_iteration if on_gpu else None,
        "waits": waits,
        "first 3, s": first,
    }


def start(case: Case, way: Row, batch_size: int) -> Iterator:
    """The endless training, an iteration each time that it is asked for its next item."""
    if way.diffusers:
        network = DiffusersNetwork(case, *way.diffusers).to(DEVICE)
    else:
        network = OurNetwork(case, patch_size=way.patch_size).to(DEVICE)
    if way.channels_last is False:
        network.to(memory_format=torch.contiguous_format)
    speed_up(network, way.precision, way.compile, print)
    precision = way.precision or "float32"
    pictures, context = random_data(case)
    if way.diffusers:
        return autocast_each(peers.train_diffusers(network, case, pictures, context), precision)
    state, computing = new_state(network, precision), in_precision(network, DEVICE, precision)
    schedule, texts = NoiseSchedule(linear_betas(peers.NUM_TIMESTEPS)), dict(cond=context, null_cond=context[0] * 0)
    return train(state, schedule, pictures, 1_000_000, batch_size, network=computing, **texts)


def autocast_each(run: Iterator, precision: str) -> Iterator[None]:
    """Each iteration in a block of its own: within one, autocast keeps its copies of the weights."""
    while True:
        with autocast(DEVICE, precision):
            next(run)
        yield


def watch(run: Iterator, count: int) -> tuple[float, float]:
    """Seconds in which the device computes, and how often the CPU waits for it, of one iteration."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE.type == "cuda")
    with profile(activities=activities) as profiler:
        exhaust(run, count)
    events = profiler.events()
    on_device = sum(
        event.self_device_time_total
        for event in events
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    )
    waits = sum(event.name in WAITS for event in events)
    return on_device / 1e6 / count, waits / count


def targets(rows: list[dict]) -> list[dict]:
    def ms(pictures: str, what: str) -> float | None:
        found = [row["ms"] for row in measured if row["pictures"].startswith(pictures) and row["training"] == what]
        return found[0] if found else None

    measured = [row for row in rows if "ms" in row]
    ours = [row for row in measured if "diffusers" not in row["training"]]
    made = []
    for peer in (row for row in WAYS if row.diffusers):
        mine, theirs = ms("32x32", "half, graphs" if peer.compile else "half"), ms("32x32", peer.what)
        times = theirs / mine if mine and theirs else None
        made.append(target(f"32x32, with text: times as fast as {peer.what}", times, at_least=2))
    busiest = max((row["busy"] for row in ours), default=None)
    made.append(target("largest share of an iteration of ours in which the device computes", busiest, at_least=0.9))
    waits = max((row["waits"] for row in ours), default=None)
    made.append(target("waits for the device, an iteration of ours", waits, at_most=0.25))
    return made


if __name__ == "__main__":
    main()
