"""Where to diffuse: how well U-Nets draw what they are asked for after equal seconds of training, in latents or pixels.

The task is the same for all: the everyday emoji at 64x64 with their captions, as the preset stable-diffusion learns
them. So is the rest of its recipe: the text encoder of the course's CLIP, frozen, the schedule, gamma, the batch and
the learning rate; the last three come from notebook 05, where they were chosen for emoji of 32x32 in pixels. And so is
the plan of the U-Net, two levels of 96 and 192 channels, which makes nearly as many weights: only what it takes for one
position differs.

latents:              2x2 places of the autoencoder's 16x16x4, so 8x8 positions
pixels, patches of 8: 8x8 pixels, so as many positions, and about the same work (a sixth more)
pixels, patches of 4: 4x4 pixels, which is finer, but four times as many positions

Each gets --budget seconds of training in --slices that take turns, because a machine's speed drifts; how many
iterations fit into them is measured first, for the end of the learning rate. After each slice 100 trained pairs of
style and name are drawn with the average of the weights (50 steps, guidance 1.5), every other one asked for in Chinese,
and judged: is a picture nearest to its own emoji among all of its style (agreement), and to its own style among all
drawings of that emoji? Drawing and judging do not count as training, and neither does the autoencoder, which was
trained before, once for all models in its latents: the notes say for how long, and what it adds to a picture.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import common
import torch
from torch import Tensor

from ddpm_core import EmojiDataset, TrainingState, load_checkpoint, shipped_checkpoint, train
from ddpm_core.judging import draw_emoji, judge_emoji, judge_style
from ddpm_core.scale.recipes import PRESETS, Preset, one_each
from ddpm_core.support.pixels import from_bytes
from ddpm_core.systems.stable_diffusion import Autoencoder, decoded, encoded
from ddpm_core.text_to_image import NUM_STEPS, TextToImage

RECIPE = PRESETS["stable-diffusion"]
LATENTS, COARSE, FINE = "latents", "pixels, patches of 8", "pixels, patches of 4"
RECIPES = {
    LATENTS: RECIPE,
    COARSE: replace(RECIPE, unet=RECIPE.unet | dict(patch_size=8), autoencoder=None),
    FINE: replace(RECIPE, unet=RECIPE.unet | dict(patch_size=4), autoencoder=None),
}
FOR_SHORT_RUNS = dict(ema_decay=0.998)  # and a shorter warm-up
BATCH_SIZE = RECIPE.options["batch_size"]
NUM_PAIRS = 100


class Check(NamedTuple):
    """What a U-Net has learnt by then."""

    seconds: float  # of training
    iterations: int
    agreement: float  # share of the pictures that are nearest to their own emoji
    style: float  # and to their own style
    drawing: float  # seconds of a picture


@dataclass
class Contestant:
    """A U-Net, and what it learns from: latents, or pictures."""

    recipe: Preset
    data: Tensor  # (N, c, h, w) latents, or (N, 3, H, W) uint8
    captions: list[str]  # one for each of data, or several, as Preset.load gives them
    autoencoder: Autoencoder | None
    checks: list[Check] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])

    def begin(self, num_iterations: int) -> None:
        """A run from the start, whose learning rate ends after so many iterations."""
        torch.manual_seed(0)
        self.state = TrainingState(self.recipe.new_model(self.shape[0], self.captions).to(common.DEVICE))
        options = self.recipe.train_options(self.state.model, self.captions) | FOR_SHORT_RUNS
        options |= dict(bounded=self.autoencoder is None, warmup_iterations=min(100, num_iterations // 10))
        data = one_each(self.data, self.captions)
        self.run = train(self.state, self.recipe.schedule, data, num_iterations, **options)

    def go_on(self, count: int, exam: "Examination") -> None:
        """Trains for count iterations more, and looks what has been learnt."""
        before = self.checks[-1].seconds if self.checks else 0.0
        seconds = before + common.seconds(lambda: common.exhaust(self.run, count))
        self.checks.append(Check(seconds, self.state.iteration, *exam(self)))

    def flops(self, backward: bool) -> float:
        """Of a picture through the network."""
        model, x_t, t, tokens = self.state.model, *a_batch(self.state.model, self.shape)
        return common.flops_per_picture(lambda: model(x_t, t, tokens).square().mean(), BATCH_SIZE, backward)

    def flops_of_drawing(self) -> float:
        """Of a picture from noise: two calls a step, with the prompt and without it, and the decoder."""
        calls = 2 * NUM_STEPS * self.flops(backward=False)
        if self.autoencoder is None:
            return calls
        z_0 = torch.randn(BATCH_SIZE, *self.shape, device=common.DEVICE)
        return calls + common.flops_per_picture(lambda: self.autoencoder.decode(z_0), BATCH_SIZE, backward=False)


class Examination:
    """Draws pairs of style and name that were trained on, and judges them."""

    def __init__(self, num_pairs: int, num_steps: int):
        self.data, self.num_steps = EmojiDataset(split="all"), num_steps
        rows = torch.nonzero(self.data.is_everyday & ~self.data.is_withheld)[:, 0]
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:num_pairs]]
        self.by_language = {"en": rows[0::2], "zh": rows[1::2]}
        self.asked = torch.cat(list(self.by_language.values()))  # in the order of drawing

    def __call__(self, contestant: Contestant) -> tuple[float, float, float]:
        """Agreement, style, and seconds of drawing a picture."""
        drawn = []
        seconds = common.seconds(lambda: drawn.extend(self._draw(contestant)))
        return *self.judge(torch.cat(drawn)), seconds / len(self.asked)

    def judge(self, pictures: Tensor) -> tuple[float, float]:
        """Agreement and style of pictures in the order of asked."""
        return tuple(
            judge(pictures, self.data, self.asked).float().mean().item() for judge in (judge_emoji, judge_style)
        )

    def _draw(self, contestant: Contestant) -> Iterator[Tensor]:
        model, recipe = contestant.state.ema_model, contestant.recipe
        options = dict(num_steps=self.num_steps, autoencoder=contestant.autoencoder)
        for language, rows in self.by_language.items():
            yield draw_emoji(model, recipe.schedule, self.data, rows, language, recipe.guidance_scale, **options)


def a_batch(model: TextToImage, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, timesteps and tokens, as many as a batch of training has."""
    x_t = torch.randn(BATCH_SIZE, *shape, device=common.DEVICE)
    t = torch.randint(len(RECIPE.schedule), (BATCH_SIZE,), device=common.DEVICE)
    return x_t, t, model.tokenizer(["noto rocket"]).repeat(BATCH_SIZE, 1).to(common.DEVICE)


def train_a_little(recipe: str, shape: Sequence[int]) -> None:
    """Two iterations on noise: the second is the first beside all that stays, the optimizer's moments."""
    data, captions = torch.randn(BATCH_SIZE, *shape).clamp(-1, 1), ["noto rocket"] * BATCH_SIZE
    contestant = Contestant(RECIPES[recipe], data, captions, None)
    contestant.begin(2)
    common.exhaust(contestant.run, 2)


def new_contestants(pictures: Tensor, captions: list[str], autoencoder: Autoencoder) -> dict[str, Contestant]:
    """One for each of RECIPES."""
    z_0 = encoded(autoencoder, pictures)
    return {
        name: Contestant(recipe, z_0 if recipe.autoencoder else pictures, captions, recipe.autoencoder and autoencoder)
        for name, recipe in RECIPES.items()
    }


def race(contestants: dict[str, Contestant], exam: Examination, budget: float, slices: int) -> dict[str, list[float]]:
    """All of them, for budget seconds each; returns the seconds of an iteration, measured before in turns."""
    for each in contestants.values():
        each.begin(1000)
    count, rounds = (3, 5) if budget else (1, 1)
    works = {name: lambda each=each: common.exhaust(each.run, count) for name, each in contestants.items()}
    pace = {name: [total / count for total in row] for name, row in common.interleaved(works, rounds).items()}
    lengths = {name: max(slices, round(budget / statistics.median(row))) for name, row in pace.items()}
    for name, each in contestants.items():
        each.begin(lengths[name])
    for number in range(1, slices + 1):
        for name, each in contestants.items():
            each.go_on(round(lengths[name] * number / slices) - each.state.iteration, exam)
            seconds, iterations, agreement, style, _ = each.checks[-1]
            print(f"  {name}: {seconds:.0f} s, {iterations} iterations: {agreement:.0%}, style {style:.0%}", flush=True)
    return pace


def row(name: str, contestants: dict[str, Contestant], pace: dict[str, list[float]], quick: bool) -> dict[str, object]:
    """A contestant's line of the table; the ratios are those of the same rounds."""
    each, latents = contestants[name], contestants[LATENTS]
    last, unet = each.checks[-1], each.state.model.unet
    drawing = [check.drawing for check in each.checks]
    return {
        "": name,
        "weights, M": sum(weight.numel() for weight in unet.parameters()) / 1e6,
        "iterations": last.iterations,
        "seconds": last.seconds,
        "agreement": last.agreement,
        "style": last.style,
        "pictures/s in training": BATCH_SIZE / statistics.median(pace[name]),
        "training time": common.ratio(pace[name], pace[LATENTS]),
        "GFLOP in training": each.flops(backward=True) / 1e9,
        "memory, MB": None if quick else common.peak_memory(train_a_little, name, each.shape),
        "s a picture drawn": statistics.median(drawing),
        "drawing time": common.ratio(drawing, [check.drawing for check in latents.checks]),
        "GFLOP a picture drawn": each.flops_of_drawing() / 1e9,
    }


def notes_on(autoencoder: Autoencoder, seconds_of_training: float | None, exam: Examination, few: int) -> list[str]:
    """What the autoencoder costs, and what it loses."""
    pictures = from_bytes(exam.data.pictures[exam.asked])
    z_0 = encoded(autoencoder, pictures)
    decoding = common.seconds(lambda: decoded(autoencoder, z_0[:few])) / min(few, len(z_0))
    agreement, style = exam.judge(decoded(autoencoder, z_0))
    took = "an unknown time" if seconds_of_training is None else f"{seconds_of_training / 60:.0f} minutes"
    return [
        "training time, drawing time: in the first row's",
        f"the autoencoder was trained for {took}, once; it takes {1000 * decoding:.1f} ms to decode a picture",
        f"real pictures that went through it: {agreement:.0%} agreement, {style:.0%} style",
        "50 pairs in each language: an agreement is known to 5 points",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    made = common.parser(__doc__)
    made.add_argument("--budget", type=float, default=600.0, help="seconds that each U-Net may train (600)")
    made.add_argument("--slices", type=int, default=4, help="turns that these are cut into, each judged at its end (4)")
    options = made.parse_args(argv)
    budget, slices = (0.0, 1) if options.quick else (options.budget, options.slices)
    exam = Examination(*((4, 2) if options.quick else (NUM_PAIRS, NUM_STEPS)))
    loaded = load_checkpoint(shipped_checkpoint(RECIPE.autoencoder), common.DEVICE)
    pictures, captions = RECIPE.load()
    if options.quick:
        pictures, captions = pictures[:8], captions[:8]
    contestants = new_contestants(pictures, captions, loaded.model)
    pace = race(contestants, exam, budget, slices)
    rows = [row(name, contestants, pace, options.quick) for name in contestants]
    agreement = {name: each.checks[-1].agreement for name, each in contestants.items()}
    ahead = agreement[LATENTS] - max(agreement[COARSE], agreement[FINE])
    target = common.target("agreement: latents ahead of the better in pixels", ahead, at_least=0.05)
    common.report(
        "latents_against_pixels",
        "Emoji of 64x64 drawn as asked after equal seconds of training, in latents and in pixels",
        rows,
        [] if options.quick else [target],
        notes_on(loaded.model, loaded.notes.get("seconds"), exam, few=64),
        options,
        dict(curves={name: each.checks for name, each in contestants.items()}),
    )
    _plot(contestants, common.out_folder(options) / "latents_against_pixels.png")


def _plot(contestants: dict[str, Contestant], path: Path) -> None:
    import matplotlib.pyplot as plt

    from ddpm_core.course.display import use_course_style

    use_course_style()
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (name, each) in enumerate(contestants.items()):
        seconds, shares = [check.seconds for check in each.checks], [check.agreement for check in each.checks]
        axes.plot(seconds, shares, ".-", color=f"C{number}", label=name)
    axes.set(
        xlabel="seconds of training",
        ylabel="share nearest to their own emoji",
        title="Emoji, 64x64",
        xlim=(0, None),
        ylim=(0, 1),
    )
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
