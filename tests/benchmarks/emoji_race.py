"""Seconds of training until our network predicts noise on unseen emoji as well as diffusers' did in its whole time.

The pictures are the course's emoji in the style noto, 32x32, without their captions; a tenth of them is held out. The
measure is the plain mean squared error of the predicted noise (DDPM's schedule: linear, 1,000 steps) on the held-out
tenth, each picture at ten steps, one in each tenth of the schedule. Steps and noise are drawn once and are the same for
all.
Each contestant is measured with the average of its weights, and measuring does not count as training.

diffusers, its loop: UNet2DModel with three levels of 32, 64 and 128 channels, attention in the coarse two and the
                     middle, all else its default (two blocks a level); trained as the library's example
                     train_unconditional.py does: AdamW at 1e-4, betas 0.95 and 0.999, weight decay 1e-6, batches of
                     16, gradients clipped at 1, EMAModel with warm-up. Fitted to this race, in its favour: the cosine
                     of the learning rate ends where its time does, and the warm-up is a tenth of the iterations where
                     that is less than its 500. It gets --budget seconds; its lowest error in them is the mark.
diffusers, our loop: the same network in ddpm_core.train with the options of ours, for --budget seconds: what of the
                     difference is the network's, and what the loop's
ours:                ddpm_core.UNet in ddpm_core.train, for a third of --budget: the target is to pass the mark in it.
                     x_t is added to what it says, so it begins at an error of about 0.3 instead of 1

How many iterations fit into the time is measured first, for the end of the learning rate.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from peers import DiffusersTrainer
from torch import Tensor, nn

from ddpm_core import EmojiDataset, NoiseSchedule, TrainingState, UNet, add_noise, linear_betas, train
from ddpm_core.support.pixels import from_bytes

RECIPE = dict(batch_size=16, learning_rate=2e-3, warmup_iterations=50, ema_decay=0.99)
OURS, THEIRS, THEIRS_IN_OURS = "ours", "diffusers, its loop", "diffusers, our loop"
CHECKS = 8  # of diffusers' network; of ours three times as many, to see when it passes the mark
clock = time.perf_counter
Curve = list[tuple[float, int, float]]  # seconds of training, iterations, error on the held-out pictures


class DiffusersNetwork(nn.Module):
    """eps_hat = model(x_t, t): diffusers' UNet2DModel."""

    def __init__(self):
        super().__init__()
        from diffusers import UNet2DModel

        self.net = UNet2DModel(
            sample_size=32,
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.net(x_t, t).sample


class OurNetwork(UNet):
    """eps_hat = model(x_t, t): what our U-Net says about the difference to x_t, which in heavy noise is small."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return x_t + super().forward(x_t, t)


def our_network() -> UNet:
    return OurNetwork(3, (16, 32, 64))


@dataclass
class Examination:
    """The error of the predicted noise on held-out pictures, the same steps and noise for all."""

    schedule: NoiseSchedule
    pictures: Tensor
    per_picture: int = 10

    def __post_init__(self):
        generator = torch.Generator(common.DEVICE).manual_seed(0)
        self.x_0 = self.pictures.repeat(self.per_picture, 1, 1, 1)
        tenths = torch.arange(self.per_picture, device=common.DEVICE).repeat_interleave(len(self.pictures))
        within = torch.rand(len(self.x_0), generator=generator, device=common.DEVICE)
        self.t = ((tenths + within) / self.per_picture * len(self.schedule)).long()
        self.eps = torch.randn(self.x_0.shape, generator=generator, device=common.DEVICE)

    @torch.no_grad()
    def __call__(self, eps_model: Callable[[Tensor, Tensor], Tensor]) -> float:
        x_t, total = add_noise(self.schedule, self.x_0, self.t, self.eps), 0.0
        for rows in torch.arange(len(x_t), device=common.DEVICE).split(128):
            total += F.mse_loss(eps_model(x_t[rows], self.t[rows]), self.eps[rows], reduction="sum").item()
        return total / self.eps.numel()


@dataclass
class Contestant:
    """A way to train: run(iterations) begins anew and returns (one item an iteration, the averaged network)."""

    name: str
    run: Callable[[int], tuple[Iterator, nn.Module]]

    def race(self, exam: Examination, budget: float, checks: int) -> Curve:
        """The errors at evenly spaced moments of a run that is to take budget seconds, or an iteration a check."""
        num_iterations = max(checks, round(budget / self.seconds_per_iteration()) if budget else 0)
        print(f"  {self.name}: {num_iterations} iterations for {budget:.0f} s", flush=True)
        torch.manual_seed(0)
        run, ema_model = self.run(num_iterations)
        curve, seconds, done = [], 0.0, 0
        for check in range(1, checks + 1):
            count = round(num_iterations * check / checks) - done
            seconds += timed(lambda count=count: common.exhaust(run, count))
            done += count
            curve.append((seconds, done, exam(ema_model)))
            print(f"    {seconds:6.1f} s, {done:5} iterations: error {curve[-1][2]:.4f}", flush=True)
        return curve

    def seconds_per_iteration(self) -> float:
        """Of a few at the beginning, after the first ones, which are slower."""
        run, _ = self.run(1000)
        common.exhaust(run, 3)
        return timed(lambda: common.exhaust(run, 10)) / 10


def timed(work: Callable[[], object]) -> float:
    common.synchronise()
    began = clock()
    work()
    common.synchronise()
    return clock() - began


def in_our_loop(
    make: Callable[[], nn.Module], schedule: NoiseSchedule, pictures: Tensor, **changed: object
) -> Callable[[int], tuple[Iterator, nn.Module]]:
    """ddpm_core.train."""

    def run(num_iterations: int) -> tuple[Iterator, nn.Module]:
        state = TrainingState(make().to(common.DEVICE))
        return train(state, schedule, pictures, num_iterations, **(RECIPE | changed)), state.ema_model

    return run


def in_diffusers_loop(pictures: Tensor) -> Callable[[int], tuple[Iterator, nn.Module]]:
    """The loop of diffusers' example train_unconditional.py, with its defaults, without logging and data loader."""
    from diffusers.optimization import get_scheduler

    def run(num_iterations: int) -> tuple[Iterator, nn.Module]:
        net, ema_net = (DiffusersNetwork().to(common.DEVICE) for _ in range(2))
        length = dict(num_warmup_steps=min(500, num_iterations // 10), num_training_steps=num_iterations)
        trainer = DiffusersTrainer(net, lambda optimizer: get_scheduler("cosine", optimizer, **length))

        def iterations() -> Iterator[None]:
            while True:
                # All pictures once, in a new order, then again, as its data loader does.
                for rows in torch.randperm(len(pictures), device=common.DEVICE).split(16):
                    trainer.step(pictures[rows])
                    yield

        return iterations(), _Average(trainer.ema, ema_net)

    return run


class _Average(nn.Module):
    """The average that an EMAModel holds, called as a network."""

    def __init__(self, ema: object, net: nn.Module):
        super().__init__()
        self.ema, self.net = ema, net.eval()

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.ema.copy_to(self.net.parameters())
        return self.net(x_t, t)


def split(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """For training, and the held-out tenth."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    held_out = len(pictures) // 10
    return pictures[order[held_out:]], pictures[order[:held_out]]


def passed(curve: Curve, mark: float) -> float | None:
    """Seconds of training at the first check with an error of mark or less; None where there is none."""
    return next((seconds for seconds, _, error in curve if error <= mark), None)


def main() -> None:
    made = common.parser(__doc__)
    made.add_argument("--budget", type=float, default=300.0, help="seconds that diffusers' network may train (300)")
    options = made.parse_args()
    budget, checks = (0.0, 2) if options.quick else (options.budget, CHECKS)
    schedule = NoiseSchedule(linear_betas()).to(common.DEVICE)
    noto = from_bytes(EmojiDataset(32, ["noto"], split="all").pictures)
    pictures, held_out = (part.to(common.DEVICE) for part in split(noto))
    exam = Examination(schedule, held_out[:10], 2) if options.quick else Examination(schedule, held_out)
    contestants = [Contestant(OURS, in_our_loop(our_network, schedule, pictures))]
    if common.has("diffusers"):
        contestants += [
            Contestant(THEIRS, in_diffusers_loop(pictures)),
            Contestant(THEIRS_IN_OURS, in_our_loop(DiffusersNetwork, schedule, pictures)),
        ]
    curves = {}
    for each in contestants:
        share, times = (1 / 3, 3) if each.name == OURS else (1, 1)
        curves[each.name] = each.race(exam, budget * share, checks * times)
    rows = [_row(name, curve, curves[OURS]) for name, curve in curves.items()]
    targets = []
    if THEIRS in curves:
        seconds, mark = _best(curves[THEIRS])
        ours = passed(curves[OURS], mark)
        share = None if ours is None else ours / seconds
        targets = [common.target("share of diffusers' time in which ours reaches its error", share, at_most=1 / 3)]
    common.report(
        "emoji_race",
        "Error of the predicted noise on held-out emoji, 32x32, against seconds of training",
        rows,
        targets,
        ["ours trains for a third of the time of the others; -: it did not reach their error in it"],
        options,
        dict(curves=curves),
    )
    _plot(curves, common.out_folder(options) / "emoji_race.png")


def _best(curve: Curve) -> tuple[float, float]:
    """When the error was lowest, and how low."""
    seconds, _, error = min(curve, key=lambda check: check[2])
    return seconds, error


def _row(name: str, curve: Curve, ours: Curve) -> dict[str, object]:
    seconds, error = _best(curve)
    reached = passed(ours, error)
    return {
        "": name,
        "iterations": curve[-1][1],
        "seconds": curve[-1][0],
        "lowest error": round(error, 5),
        "after (s)": seconds,
        "ours reaches it after (s)": reached,
        "share of the time": None if reached is None else reached / seconds,
    }


def _plot(curves: dict[str, Curve], path: Path) -> None:
    import matplotlib.pyplot as plt

    from ddpm_core.course.display import use_course_style, write_out_numbers

    use_course_style()
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (name, curve) in enumerate(curves.items()):
        seconds, _, errors = zip(*curve, strict=True)
        axes.plot(seconds, errors, ".-", color=f"C{number}", label=name)
    if THEIRS in curves:
        axes.axhline(_best(curves[THEIRS])[1], color="black", linewidth=1, linestyle="--")
    axes.set(
        yscale="log",
        xlabel="seconds of training",
        ylabel="error of the predicted noise",
        title="Held-out emoji, 32x32",
    )
    write_out_numbers(axes.yaxis)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
