"""How fast one training iteration is, and how much memory it takes, beside diffusers and denoising_diffusion_pytorch.

ours:     ddpm_core.UNet in ddpm_core.train: loss of the noise, backward, clipping, AdamW, weight average
peers:    their networks in their own examples' loops (see peers.py), and in our train, which takes any network

The peers' networks have the FLOPs of ours, within 5 %: their depth is their default, and their widths were searched for
(--search does it again). Some rows are of other sizes, and say so; where none has "as many parameters", the network of
equal FLOPs has them, too, within 6 %. A text comes to both as the same ready vectors.
"share" is of the rate at which this machine multiplies matrices, in turn with the training; "time" is that of a
picture, in ours.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import peers
import torch
from common import DEVICE, exhaust, has, interleaved, matmul_work, parser, peak_memory, ratio, report, seconds, target
from peers import Case, DiffusersNetwork, LucidrainsNetwork, OurNetwork, Widths, network_flops, num_parameters
from torch import Tensor, nn

from ddpm_core import NoiseSchedule, TrainingState, linear_betas, train

NUM_PICTURES = 512


@dataclass(frozen=True)
class Work:
    """A row of the table."""

    what: str
    network: str  # "ours", "diffusers" or "denoising_diffusion_pytorch"
    widths: Widths
    layers_per_block: int = 2
    patch_size: int = 1
    in_our_loop: bool = False
    memory: bool = False  # whether to measure it: each takes some seconds
    speed: bool = True

    def new_network(self, case: Case) -> nn.Module:
        if self.network == "ours":
            return OurNetwork(case, self.widths, self.patch_size).to(DEVICE)
        if self.network == "diffusers":
            return DiffusersNetwork(case, self.widths, self.layers_per_block).to(DEVICE)
        return LucidrainsNetwork(case, self.widths).to(DEVICE)


IN_PATCHES = "ours, in patches"
OURS, DIFFUSERS, LUCIDRAINS = "ours", "diffusers", "denoising_diffusion_pytorch"


def works(
    case: Case,
    diffusers: Widths,
    lucidrains: Widths | None = None,
    shallow: Widths | None = None,
    memory: bool = True,
) -> list[Work]:
    """The usual rows of a case, given the widths of the peers; shallow: diffusers' with layers_per_block=1."""
    rows = [
        Work(OURS, OURS, case.channels, in_our_loop=True, memory=memory),
        Work(DIFFUSERS, DIFFUSERS, diffusers, memory=memory),
        Work(f"{DIFFUSERS} in our train", DIFFUSERS, diffusers, in_our_loop=True),
    ]
    if shallow:
        rows.append(Work(f"{DIFFUSERS}, 1 layer a block", DIFFUSERS, shallow, 1))
    if lucidrains:
        rows.append(Work(LUCIDRAINS, LUCIDRAINS, lucidrains, memory=memory))
        rows.append(Work(f"{LUCIDRAINS} in our train", LUCIDRAINS, lucidrains, in_our_loop=True))
    return rows


def our_widths(case: Case) -> Work:
    return Work(f"{DIFFUSERS}, our widths, 1 layer a block", DIFFUSERS, case.channels, 1)


def in_patches(widths: Widths) -> Work:
    """Ours on patches of 2x2 pixels, as time_to_quality and the emoji model have them: fewer and larger products."""
    return Work(IN_PATCHES, OURS, widths, patch_size=2, in_our_loop=True, memory=True)


def our_parameters(widths: Widths) -> Work:
    return Work(f"{DIFFUSERS}, as many parameters as ours", DIFFUSERS, widths, memory=True, speed=False)


DIGITS, MIDDLE, LARGE = Case(8, 1, (32, 32), 128), Case(32, 3, (32, 64, 128), 64), Case(64, 3, (32, 64, 128, 128), 16)
DIGITS_TEXT = Case(8, 3, (32, 32), 128, context_dim=64)
MIDDLE_TEXT = Case(32, 3, (32, 64, 128), 64, context_dim=128, cross_attention_levels=(1,))
LARGE_TEXT = Case(64, 3, (32, 64, 128, 128), 16, context_dim=128, cross_attention_levels=(2,))
TABLE: dict[Case, list[Work]] = {
    DIGITS: [
        *works(DIGITS, (20, 24), (12, 16), (24, 28)),
        our_widths(DIGITS),
        our_parameters((16, 28)),
        in_patches((64,)),
    ],
    DIGITS_TEXT: works(DIGITS_TEXT, (20, 24), None, (24, 28), memory=False),
    MIDDLE: [*works(MIDDLE, (24, 48, 88), (24, 24)), our_widths(MIDDLE), in_patches((96, 128))],
    MIDDLE_TEXT: works(MIDDLE_TEXT, (16, 40, 88)),
    LARGE: works(LARGE, (24, 48, 88, 88), (24, 24)),
    LARGE_TEXT: works(LARGE_TEXT, (16, 48, 80, 88), memory=False),
}
# Two rows in seconds, to see that all parts work.
QUICK: dict[Case, list[Work]] = {
    Case(8, 1, (8, 8), 4): [
        Work(OURS, OURS, (8, 8), in_our_loop=True),
        Work(DIFFUSERS, DIFFUSERS, (8, 8), 1),
        Work(LUCIDRAINS, LUCIDRAINS, (8, 8)),
    ],
    Case(8, 3, (8, 8), 4, context_dim=8): [
        Work(OURS, OURS, (8, 8), in_our_loop=True),
        Work(f"{DIFFUSERS} in our train", DIFFUSERS, (8, 8), 1, in_our_loop=True),
    ],
}


def main(argv: list[str] | None = None) -> None:
    options_parser = parser(__doc__)
    options_parser.add_argument("--search", action="store_true", help="prints the peers' widths, and no more")
    options = options_parser.parse_args(argv)
    if options.search:
        search()
        return
    missing = [name for name in (DIFFUSERS, LUCIDRAINS) if not has(name)]
    rows = []
    for case, row_works in (QUICK if options.quick else TABLE).items():
        rows += measure(case, [work for work in row_works if work.network not in missing], options)
    report(
        "training_speed",
        "Training: pictures a second and memory of an iteration, at equal FLOPs",
        rows,
        [] if options.quick else targets(rows),
        ["GFLOP/s of the products alone, as torch counts them; share: of this machine's rate of multiplying matrices"],
        options,
    )


def measure(case: Case, row_works: list[Work], options: argparse.Namespace) -> list[dict]:
    """The rows of one case."""
    timed = {work.what: work for work in row_works if work.speed}
    runs = {what: start(work, case) for what, work in timed.items()}
    exhaust(runs[OURS], 1)
    # A turn is long enough for the clock and short enough for the machine to be the same for all.
    count = 1 if options.quick else max(1, round(0.3 / seconds(lambda: exhaust(runs[OURS], 1))))
    turns = {what: lambda run=run: exhaust(run, count) for what, run in runs.items()}
    turns["matmul"], matmul_gflop = matmul_work(0.02 if options.quick else 0.3)
    times = interleaved(turns, 2 if options.quick else 7)
    rows = []
    for work in row_works:
        net = work.new_network(case)
        flops = network_flops(net, case)
        row = {
            "pictures": str(case),
            "network": work.what,
            "widths": "-".join(map(str, work.widths)),
            "parameters, M": num_parameters(net) / 1e6,
            "MFLOP": flops / 1e6,
        }
        if work.speed:
            pictures, median = case.batch_size * count, statistics.median(times[work.what])
            gflop = pictures * flops / 1e9
            row |= {
                "pictures/s": pictures / median,
                "GFLOP/s": gflop / median,
                "share": gflop / matmul_gflop * ratio(times["matmul"], times[work.what]),
                "time": ratio(times[work.what], times[OURS]),
            }
        if work.memory:
            row["memory, MB"] = peak_memory(train_a_little, work, case)
        rows.append(row)
    return rows


def start(work: Work, case: Case) -> Iterator:
    """A training run on random pictures, which does an iteration each time that it is asked for its next item."""
    torch.manual_seed(0)
    net = work.new_network(case)
    pictures, context = random_data(case)
    if work.in_our_loop:
        cond = {} if context is None else dict(cond=context, null_cond=torch.zeros_like(context[0]))
        schedule = NoiseSchedule(linear_betas(peers.NUM_TIMESTEPS))
        return train(TrainingState(net), schedule, pictures, 1_000_000, case.batch_size, **cond)
    if work.network == DIFFUSERS:
        return peers.train_diffusers(net, case, pictures, context)
    return peers.train_lucidrains(net, case, pictures)


def random_data(case: Case) -> tuple[Tensor, Tensor | None]:
    """Pictures (N, C, H, W) in [-1, 1], and a text's vectors (N, L, D) for each where there is a text."""
    x_t, _, context = case.batch(NUM_PICTURES)
    return x_t.clamp(-1, 1), context


def train_a_little(work: Work, case: Case) -> None:
    exhaust(start(work, case), 2)  # the second iteration is the first beside all that stays: the optimizer's moments


def targets(rows: list[dict]) -> list[dict]:
    """What this benchmark should show, where the peer is installed."""

    def rows_of(case: Case, column: str, *whats: str) -> list[float]:
        return [row[column] for row in rows if row["pictures"] == str(case) and row["network"] in whats]

    fastest = {
        case: min(rows_of(case, "time", DIFFUSERS, f"{DIFFUSERS}, 1 layer a block"), default=None)
        for case in (MIDDLE, LARGE)
    }

    def per_flop(peer: str) -> float | None:
        """Pictures a second of our faster network at 8x8, in the peer's, were their FLOPs the very same."""
        theirs = rows_of(DIGITS, "GFLOP/s", peer)
        return max(rows_of(DIGITS, "GFLOP/s", OURS, IN_PATCHES)) / theirs[0] if theirs else None

    memory = {}
    for case in (DIGITS, MIDDLE, LARGE):
        of_diffusers = rows_of(case, "memory, MB", DIFFUSERS)
        memory[case] = rows_of(case, "memory, MB", OURS)[0] / of_diffusers[0] if of_diffusers else None
    return [
        target("8x8: times as fast as diffusers, its default depth", per_flop(DIFFUSERS), at_least=2),
        target(
            "8x8: times as fast as diffusers, 1 layer a block", per_flop(f"{DIFFUSERS}, 1 layer a block"), at_least=2
        ),
        target("32x32: times as fast as diffusers", fastest[MIDDLE], at_least=1),
        target("64x64: times as fast as diffusers", fastest[LARGE], at_least=1),
        target("32x32: share of the matmul rate", max(rows_of(MIDDLE, "share", OURS, IN_PATCHES)), at_least=0.8),
        *(target(f"{case.size}x{case.size}: memory, in diffusers'", memory[case], at_most=1) for case in memory),
    ]


def search() -> None:
    """Prints the peers' widths with the FLOPs of our networks, which stand in TABLE."""
    for case in TABLE:
        ours = network_flops(OurNetwork(case), case)
        for layers_per_block in (1, 2):
            widths = peers.diffusers_widths(case, layers_per_block, lambda net, case=case: network_flops(net, case))
            flops = network_flops(DiffusersNetwork(case, widths, layers_per_block), case)
            print(f"{case}: {DIFFUSERS}, {layers_per_block} layers a block: {widths}, {flops / ours:.3f} of our FLOPs")
        widths = peers.diffusers_widths(case, 2, num_parameters)
        parameters = num_parameters(DiffusersNetwork(case, widths)) / num_parameters(OurNetwork(case))
        print(f"{case}: {DIFFUSERS}, 2 layers a block: {widths}, {parameters:.3f} of our parameters")
        if case.context_dim is None:
            widths = peers.lucidrains_widths(case, lambda net, case=case: network_flops(net, case))
            flops = network_flops(LucidrainsNetwork(case, widths), case)
            print(f"{case}: {LUCIDRAINS}: {widths}, {flops / ours:.3f} of our FLOPs")


if __name__ == "__main__":
    main()
