"""How fast pictures are drawn, what sampling costs beside the network calls in it, and how diffusers compares.

digits: sample, 8x8, 200 steps, beside diffusers' DDPMPipeline with a network of equal FLOPs (found as in
        training_speed.py), and with our network in it, so that only the loops differ. Weights are random: speed does
        not depend on them.
emoji:  generate with the course's checkpoint, 32x32, 50 steps, guidance 3, beside the bare calls of its network.

What sample does itself is measured with a network that takes no time. The ratio of the whole, with a real network,
comes out a little higher: after each step of small work on one thread, the network's threads have to be woken.
"""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from common import DEVICE, has, interleaved, parse, ratio, report, seconds, target
from peers import Case, DiffusersNetwork, InPipeline, OurNetwork, network_flops, new_pipeline
from torch import Tensor, nn

from ddpm_core import NoiseSchedule, cosine_betas, generate, guided, load_checkpoint, sample, shipped_checkpoint

DIGITS, NUM_STEPS = Case(8, 1, (32, 32), 64), 200
DIFFUSERS_WIDTHS = {2: (20, 24), 1: (24, 28)}  # by layers a block, of training_speed.py
NUM_EMOJI, EMOJI_STEPS, GUIDANCE = 8, 50, 3.0
PROMPTS = ("noto rocket", "blob cat", "sunflower", "flat snowman")


def main(argv: list[str] | None = None) -> None:
    options = parse(__doc__, argv)
    torch.manual_seed(0)
    num_steps, repeats = (3, 1) if options.quick else (NUM_STEPS, 5)
    unet = OurNetwork(DIGITS).unet.to(DEVICE).eval()
    rows = digits_rows(unet, num_steps, repeats)
    bare, sampled, own = digits_overhead(unet, num_steps, repeats)
    emoji = emoji_rows(*((2, 2, 1) if options.quick else (NUM_EMOJI, EMOJI_STEPS, 4)))
    by_name = {row["what"]: row for row in rows}
    notes = [
        f"sample, step by step beside bare calls: {ratio(sampled, bare):.3f} times as long",
        "time: in the first row's of the same pictures",
    ]
    targets = [
        target("8x8: sample's own work, share of the network calls", ratio(own, bare), at_most=0.05),
        target("32x32: generate, in the bare calls' time", emoji[0]["time"] / emoji[1]["time"], at_most=1.05),
    ]
    if len(rows) > 1:
        faster = min(row["time"] for name, row in by_name.items() if "equal FLOPs" in name)
        own_network = by_name["diffusers' DDPMPipeline, our network"]["time"]
        targets += [
            target("8x8: times as fast as DDPMPipeline, equal FLOPs (the faster depth)", faster, at_least=1),
            target("8x8: times as fast as DDPMPipeline with our network", own_network, at_least=1),
        ]
    title = "Sampling: pictures a second"
    report("sampling_speed", title, rows + emoji, [] if options.quick else targets, notes, options)


def digits_rows(unet: nn.Module, num_steps: int, repeats: int) -> list[dict]:
    """sample, and diffusers' pipeline with its network and with ours."""
    schedule = NoiseSchedule(cosine_betas(num_steps))
    nets, draws = {"sample": unet}, {"sample": partial(draw, unet, schedule)}
    if has("diffusers"):
        for layers_per_block, widths in DIFFUSERS_WIDTHS.items():
            name = f"diffusers' DDPMPipeline, equal FLOPs, layers_per_block={layers_per_block}"
            nets[name] = DiffusersNetwork(DIGITS, widths, layers_per_block).to(DEVICE).eval()
            draws[name] = drawn_by_diffusers(nets[name].net, num_steps)
        name = "diffusers' DDPMPipeline, our network"
        nets[name], draws[name] = unet, drawn_by_diffusers(InPipeline(unet, DIGITS), num_steps)
    times = interleaved(draws, repeats)
    return [
        {
            "pictures": f"8x8, {num_steps} steps, batch {DIGITS.batch_size}",
            "what": name,
            "MFLOP a call": network_flops(nets[name], DIGITS, backward=False) / 1e6,
            "pictures/s": DIGITS.batch_size / statistics.median(times[name]),
            "time": ratio(times[name], times["sample"]),
        }
        for name in draws
    ]


def draw(unet: nn.Module, schedule: NoiseSchedule) -> Tensor:
    *_, x_0 = sample(unet, schedule, noise())
    return x_0


def noise() -> Tensor:
    return torch.randn(DIGITS.batch_size, DIGITS.in_channels, DIGITS.size, DIGITS.size, device=DEVICE)


def drawn_by_diffusers(net: nn.Module, num_steps: int) -> Callable[[], object]:
    pipeline = new_pipeline(net, num_steps)
    return lambda: pipeline(batch_size=DIGITS.batch_size, num_inference_steps=num_steps, output_type="pt")


@torch.no_grad()
def digits_overhead(unet: nn.Module, num_steps: int, repeats: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of all the bare calls, of all of sample's steps, and of those steps without a network; of each repeat.

    They take turns step by step.
    """
    schedule, x_T = NoiseSchedule(cosine_betas(num_steps)), noise()
    eps_hat = torch.randn_like(x_T)
    rows = []
    for _ in range(repeats):
        steps = sample(unet, schedule, x_T)
        own_steps = sample(lambda x_t, t: eps_hat, schedule, x_T)
        bare = sampled = own = 0.0
        for step in reversed(range(num_steps)):
            t = torch.full((len(x_T),), step, device=DEVICE)
            bare += seconds(partial(unet, x_T, t))
            sampled += seconds(partial(next, steps))
            own += seconds(partial(next, own_steps))
        rows.append((bare, sampled, own))
    return tuple(map(list, zip(*rows, strict=True)))


@torch.no_grad()
def emoji_rows(count: int, num_steps: int, repeats: int) -> list[dict]:
    """generate with the shipped checkpoint, and the network calls in it alone."""
    loaded = load_checkpoint(shipped_checkpoint("emoji"), DEVICE)
    model, prompts = loaded.model, [PROMPTS[i % len(PROMPTS)] for i in range(count)]
    shape = tuple(loaded.notes["picture_size"])
    cond = model.tokenizer(prompts).to(DEVICE)
    eps_model = guided(model, cond, model.null_cond, GUIDANCE)
    x_T = torch.randn(count, *shape, device=DEVICE)
    t = torch.full((count,), len(loaded.schedule) // 2, device=DEVICE)

    def calls() -> None:
        for _ in range(num_steps):
            eps_model(x_T, t)

    def steps() -> Iterator[Tensor]:
        return generate(model, loaded.schedule, prompts, shape, GUIDANCE, num_steps=num_steps)

    times = interleaved({"generate": lambda: list(steps()), "bare network calls": calls}, repeats)
    return [
        {
            "pictures": f"emoji, {num_steps} steps, batch {count}, guidance {GUIDANCE:g}",
            "what": name,
            "pictures/s": count / statistics.median(row),
            "time": ratio(row, times["generate"]),
        }
        for name, row in times.items()
    ]


if __name__ == "__main__":
    main()
