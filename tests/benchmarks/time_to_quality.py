"""Seconds of training until 95 % of the digits that a network draws are read as the digit that was asked for.

The task is the same for all: scikit-learn's 8x8 digits with their labels, 200 steps noised by the cosine schedule, a
tenth of the labels dropped in training. The judge too: 20 samples of each digit, drawn by ddpm_core.sample from the
same noise in all 200 steps without guidance, and read by five small networks that vote; where of the first 5 of each
digit fewer than 85 % are right, the others are left out. Judging does not count as training. The mark is reached where
the share of right digits is at least 95 % at one check and at the next, and the time is that of the first of the two;
200 samples know a share of 95 % to within 1.5 %.

ours:       ddpm_core.UNet, which reads the label as a text of one word, in ddpm_core.train.
diffusers:  its UNet2DModel in the same ddpm_core.train with the same options, so that only the network differs. Two
            levels of 32 and 64 channels, the coarse one with attention, as in the library's own examples; blocks per
            level (2), label embedding, heads and norms are its defaults. A second row has twice the learning rate and
            a third half the blocks (layers_per_block=1).
lucidrains: classifier_free_guidance.Unet and GaussianDiffusion of denoising_diffusion_pytorch, as its Trainer trains,
            which itself knows no labels: Adam at 1e-4 with betas 0.9 and 0.99, batches of 16 without accumulation,
            gradients clipped at 1, the average (0.995) moved every tenth iteration and sampled from. Not its default,
            each in its favour: dim=32 (there is no default; its examples take 64), dim_mults=(1, 2) instead of
            (1, 2, 4, 8), no mirrored pictures, a tenth of the labels dropped instead of half, and batches drawn from
            memory. Its own sampler fails at cond_scale 1 in version 2.3.4 (it takes the one output for two), so its
            network is sampled as the others are, by its own schedule, which is the same.

In ddpm_core.train the learning rate falls to 0 at an end that is fixed beforehand. So those are raced in runs of
increasing length, each from the start and a fifth longer than the one before, and a run is checked at its end. At
lucidrains the rate is constant: one run, checked whenever it has taken a fifth longer.
A peer gets --limit seconds for its longest run; one that has not arrived by then is reported with a lower bound.
"""

import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import common
import torch
from peers import LucidrainsTrainer
from sklearn.ensemble import VotingClassifier
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from ddpm_core import NoiseSchedule, TrainingState, UNet, cosine_betas, guided, load_digits, sample, train

SHARE, GROWTH = 0.95, 1.2  # the mark; how much later each check is than the one before
FIRST_CHECK, FIRST_CHECK_LUCIDRAINS = 70, 400  # iterations; by then nobody is there
FIRST_LOOK = 0.85  # share of the first samples at which the others are looked at, too
NO_LABEL = 10
DIFFUSERS, LUCIDRAINS = "diffusers' network", "lucidrains' trainer"
RECIPE = dict(
    batch_size=64, learning_rate=3e-3, warmup_iterations=30, ema_decay=0.99, min_snr_gamma=1.0, drop_probability=0.1
)


class OurNetwork(nn.Module):
    """eps_hat = model(x_t, t, labels): ddpm_core.UNet whose context is one vector, the label's."""

    def __init__(self, context_dim: int = 32):
        super().__init__()
        self.unet = UNet(1, (64,), context_dim=context_dim, patch_size=2)
        self.labels = nn.Embedding(NO_LABEL + 1, context_dim)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        padding = torch.zeros(len(labels), 1, dtype=torch.bool, device=labels.device)
        return self.unet(x_t, t, self.labels(labels)[:, None], padding)


class DiffusersNetwork(nn.Module):
    """eps_hat = model(x_t, t, labels): diffusers' UNet2DModel."""

    def __init__(self, layers_per_block: int = 2):
        super().__init__()
        from diffusers import UNet2DModel

        self.net = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=layers_per_block,
            num_class_embeds=NO_LABEL + 1,
        )

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return self.net(x_t, t, class_labels=labels).sample


def small_digit_reader() -> VotingClassifier:
    """Reads digits of 8x8 pixels; trained on 1,297 real ones, it reads 98 % of the others rightly."""
    pictures, labels = load_digits("train")
    networks = [(f"seed {seed}", MLPClassifier((128,), max_iter=300, random_state=seed)) for seed in range(5)]
    return VotingClassifier(networks, voting="soft").fit(pictures.flatten(1).numpy(), labels.numpy())


class Judge:
    """What share of a network's samples is read as the digit asked for."""

    def __init__(self, schedule: NoiseSchedule, per_digit: int = 20):
        self.schedule, self.reader = schedule, small_digit_reader()
        self.labels = torch.arange(10, device=common.DEVICE).repeat(per_digit)
        self.num_first = min(50, len(self.labels))

    def __call__(self, model: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        first, rest = self.labels[: self.num_first], self.labels[self.num_first :]
        right = self._right(model, first, seed=0)
        if right < FIRST_LOOK * len(first) or len(rest) == 0:
            return right / len(first)
        return (right + self._right(model, rest, seed=1)) / len(self.labels)

    def _right(self, model: Callable[[Tensor, Tensor, Tensor], Tensor], labels: Tensor, seed: int) -> int:
        generator = torch.Generator(common.DEVICE).manual_seed(seed)
        x_T = torch.randn(len(labels), 1, 8, 8, generator=generator, device=common.DEVICE)
        eps_model = guided(model, labels, torch.tensor(NO_LABEL, device=common.DEVICE), guidance_scale=1.0)
        *_, samples = sample(eps_model, self.schedule, x_T, generator=generator)
        return int((self.reader.predict(samples.cpu().flatten(1).numpy()) == labels.cpu().numpy()).sum())


@dataclass
class Race:
    """One contestant's checks: (seconds of training, share of right digits), and whether the mark is reached."""

    checks: list[tuple[float, float]] = field(default_factory=list)

    def add(self, seconds: float, share: float) -> None:
        print(f"    {seconds:7.1f} s of training: {share:.1%} right", flush=True)
        self.checks.append((seconds, share))

    @property
    def seconds(self) -> float | None:
        """When the mark was reached, or None where it was not: the first of two checks in a row at it."""
        for (seconds, share), (_, next_share) in zip(self.checks, self.checks[1:], strict=False):
            if min(share, next_share) >= SHARE:
                return seconds
        return None

    @property
    def at_least(self) -> float:
        """Seconds that the mark takes, or more: where it was not reached, those of the last check."""
        return self.seconds if self.seconds is not None else self.checks[-1][0]


def race_runs(
    make: Callable[[], nn.Module],
    schedule: NoiseSchedule,
    judge: Judge,
    limit: float,
    first: int,
    seed: int = 0,
    **options: object,
) -> Race:
    """ddpm_core.train in runs of increasing length; the shortest has first iterations."""
    race, iterations = Race(), float(first)
    pictures, labels = (data.to(common.DEVICE) for data in load_digits())
    null_cond = torch.tensor(NO_LABEL, device=common.DEVICE)
    while race.seconds is None and (not race.checks or race.checks[-1][0] * GROWTH <= limit):
        torch.manual_seed(seed)
        state, count = TrainingState(make().to(common.DEVICE), seed=seed), round(iterations)
        run = train(state, schedule, pictures, count, cond=labels, null_cond=null_cond, **(RECIPE | options))
        seconds = common.seconds(lambda run=run, count=count: common.exhaust(run, count))
        race.add(seconds, judge(state.ema_model))
        iterations *= GROWTH
    return race


def race_lucidrains(schedule: NoiseSchedule, judge: Judge, limit: float, first: int, seed: int = 0) -> Race:
    """One run, as its Trainer does it."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

    net = Unet(dim=32, num_classes=10, channels=1, dim_mults=(1, 2), cond_drop_prob=RECIPE["drop_probability"])
    diffusion = GaussianDiffusion(net, image_size=8, timesteps=len(schedule)).to(common.DEVICE)
    torch.testing.assert_close(diffusion.alphas_cumprod, schedule.alpha_bars, atol=1e-5, rtol=1e-3)
    trainer = LucidrainsTrainer(diffusion)
    pictures, labels = (data.to(common.DEVICE) for data in load_digits())
    pictures = (pictures + 1) / 2

    def run() -> Iterator[None]:
        while True:
            # All pictures once, in a new order, then again; a batch that would be cut off goes on in the next order.
            order = torch.cat([torch.randperm(len(pictures), device=common.DEVICE) for _ in range(16)])
            for rows in order.split(16):
                trainer.step(pictures[rows], classes=labels[rows])
                yield

    def eps_model(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return trainer.ema.ema_model.model(x_t, t, labels, cond_drop_prob=0.0)

    return _check_one_run(run(), lambda: judge(eps_model), limit, first)


def _check_one_run(run: Iterable[None], share: Callable[[], float], limit: float, first: int) -> Race:
    """Goes on with a run and checks it whenever it has taken GROWTH times as long as before."""
    race, seconds, done, until = Race(), 0.0, 0, float(first)
    while race.seconds is None and (not race.checks or seconds < limit):
        count = max(1, round(until) - done)
        seconds += common.seconds(lambda count=count: common.exhaust(run, count))
        done, until = done + count, until * GROWTH
        race.add(seconds, share())
    return race


def main() -> None:
    made = common.parser(__doc__)
    made.add_argument("--limit", type=float, default=300.0, help="seconds that a peer's longest run may take (300)")
    made.add_argument("--seeds", type=int, default=3, help="races of our network, from as many random starts (3)")
    options = made.parse_args()
    limit, seeds, first, first_lucidrains = options.limit, options.seeds, FIRST_CHECK, FIRST_CHECK_LUCIDRAINS
    if options.quick:
        limit, seeds, first, first_lucidrains = 0.0, 1, 2, 2
    schedule = NoiseSchedule(cosine_betas(200)).to(common.DEVICE)
    judge = Judge(schedule, per_digit=1 if options.quick else 20)
    races: dict[str, list[Race]] = {}
    runs: dict[str, tuple[Callable[[], nn.Module], int, dict]] = {"ours": (OurNetwork, seeds, {})}
    if common.has("diffusers"):
        runs[DIFFUSERS] = DiffusersNetwork, 1, {}
        runs[f"{DIFFUSERS}, twice the learning rate"] = DiffusersNetwork, 1, dict(learning_rate=6e-3)
        runs[f"{DIFFUSERS}, half the blocks"] = lambda: DiffusersNetwork(layers_per_block=1), 1, {}
    for name, (make, count, changed) in runs.items():
        for seed in range(count):
            print(f"  {name}, seed {seed}", flush=True)
            race = race_runs(make, schedule, judge, limit, first, seed, **changed)
            races.setdefault(name, []).append(race)
    if common.has("denoising_diffusion_pytorch"):
        print(f"  {LUCIDRAINS}", flush=True)
        races[LUCIDRAINS] = [race_lucidrains(schedule, judge, limit, first_lucidrains)]
    seconds = {name: statistics.median(race.at_least for race in raced) for name, raced in races.items()}
    rows = [_row(name, raced, seconds[name] / seconds["ours"]) for name, raced in races.items()]
    peers = {
        f"{DIFFUSERS}, its default depth": ([DIFFUSERS, f"{DIFFUSERS}, twice the learning rate"], 3),
        f"{DIFFUSERS}, half the blocks": ([f"{DIFFUSERS}, half the blocks"], 3),
        LUCIDRAINS: ([LUCIDRAINS], 5),
    }
    targets = []
    for peer, (names, at_least) in peers.items():
        times = [seconds[name] / seconds["ours"] for name in names if name in seconds]
        arrived = all(race.seconds is not None for race in races["ours"])
        value = (
            min(times) if times and arrived else None
        )  # None where there is no peer, or ours did not get there itself
        targets.append(common.target(f"{peer}: times our seconds", value, at_least=at_least))
    common.report(
        "time_to_quality",
        f"Seconds of training until {SHARE:.0%} of the digits drawn are read as asked",
        rows,
        targets,
        ["seconds are medians; > before a figure: the mark was not reached, and the time of the last check is given"],
        options,
        dict(checks={name: [race.checks for race in raced] for name, raced in races.items()}),
    )
    _plot(races, common.out_folder(options) / "time_to_quality.png")


def _row(name: str, raced: list[Race], times: float) -> dict[str, object]:
    reached = [race.seconds for race in raced if race.seconds is not None]
    seconds = statistics.median(race.at_least for race in raced)
    mark = "" if len(reached) == len(raced) else "> "
    return {
        "": name,
        "seconds": f"{mark}{common.cell(float(seconds))}",
        "times ours": f"{mark}{common.cell(float(times))}",
        "best share": max(share for race in raced for _, share in race.checks),
        "races": len(raced),
        "fastest and slowest": f"{min(reached):.1f} to {max(reached):.1f}" if reached else "not reached",
    }


def _plot(races: dict[str, list[Race]], path: Path) -> None:
    import matplotlib.pyplot as plt

    from ddpm_core.course.display import use_course_style, write_out_numbers

    use_course_style()
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (name, raced) in enumerate(races.items()):
        for race in raced:
            seconds, shares = zip(*race.checks, strict=True)
            label = name if race is raced[0] else None
            axes.plot(seconds, shares, ".-", color=f"C{number}", label=label, linewidth=1.2)
    axes.axhline(SHARE, color="black", linewidth=1, linestyle="--")
    axes.set(
        xscale="log",
        ylim=(0, 1.02),
        xlabel="seconds of training",
        ylabel="share of digits read as asked",
        title=f"Training until {SHARE:.0%} of the digits drawn are right",
    )
    write_out_numbers(axes.xaxis)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
