"""Whether a device computes what a CPU computes: the losses and gradients of the course's networks, in each precision.

Each network gets the same inputs and answers for the same loss, the mean squared difference to noise that is drawn
once. The reference is float32 on the CPU. "loss" is how far the loss is from the reference's, in parts of it;
"gradient" is the length of the difference of both gradients, in lengths of the reference's.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence

import common
import torch
from common import DEVICE
from torch import Tensor, nn

from ddpm_core import CLIP, DALLE2, Autoencoder, TextToImage, UNet, load_checkpoint, shipped_checkpoint
from ddpm_core.checkpoint import load_shipped
from ddpm_core.scale.speed import allow_tf32, autocast

BATCH = 16
ROUNDING = {"float32": 1e-5, "TF32": 2e-3, "bfloat16": 1e-2, "float16": 2e-3}  # of a loss, at most
Inputs = tuple[Tensor, ...]


def networks() -> Iterator[tuple[str, nn.Module, Inputs]]:
    """Name, network as it ships, and inputs of its size."""
    t = torch.randint(200, (BATCH,))
    digits = UNet(1, (32, 64))
    torch.nn.init.normal_(digits.head[-1].weight, std=0.1)  # untrained it is 0
    yield "digits, untrained", digits, (torch.randn(BATCH, 1, 28, 28), t)
    for name, size in (("emoji", (3, 32, 32)), ("stable-diffusion", (4, 16, 16)), ("imagen", (3, 16, 16))):
        model = load_shipped(name, TextToImage).model
        tokens = model.tokenizer(["noto rocket", "红色的苹果"] * (BATCH // 2))
        yield name, model, (torch.randn(BATCH, *size), t, tokens)
    super_resolver = load_checkpoint(shipped_checkpoint("super-resolver")).model
    low, level = torch.rand(BATCH, 3, 16, 16), torch.full((BATCH,), 0.1)
    yield "super-resolver", super_resolver, (torch.randn(BATCH, 3, 64, 64), t, low, level)
    clip, pictures = load_shipped("clip", CLIP).model, torch.rand(BATCH, 3, 64, 64) * 2 - 1
    yield "CLIP, pictures", clip.image_encoder, (pictures,)
    yield "autoencoder", load_shipped("autoencoder", Autoencoder).model.encoder, (pictures,)
    dalle2, vectors = load_shipped("dalle2", DALLE2).model, torch.randn(2, BATCH, 128)
    yield "DALL-E 2, prior", dalle2.prior, (vectors[0], t, vectors[1])
    yield "DALL-E 2, decoder", dalle2.decoder, (torch.randn(BATCH, 3, 16, 16), t, vectors[0])


def main(argv: Sequence[str] | None = None) -> None:
    options = common.parse(__doc__, argv)
    torch.manual_seed(0)
    rows = []
    try:
        for name, network, inputs in networks():
            rows += compare(name, network.eval().requires_grad_(True), inputs)
            if options.quick and len(rows) > 8:
                break
    except KeyboardInterrupt:
        print("stopped: what was measured until now")
    targets = []
    for precision, limit in ROUNDING.items():
        worst = largest(row["loss"] for row in rows if row["precision"] == precision)
        targets.append(common.target(f"{precision}: the loss that is furthest off", worst, at_most=limit))
    worst = largest(row["gradient"] for row in rows if row["precision"] == "float32")
    targets.append(common.target("float32: the gradient that is furthest off", worst, at_most=1e-3))
    title = "The same losses and gradients as float32 on a CPU: how far off, relative"
    common.report("device_numbers", title, rows, targets, options=options)


def largest(values: Iterable[float]) -> float | None:
    """NaN where there is one, which max would skip; None of nothing."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values, default=None)


def compare(name: str, network: nn.Module, inputs: Inputs) -> list[dict]:
    """The rows of one network: on the device, in each precision."""
    with torch.no_grad():
        goal = torch.randn_like(network(*inputs))
    reference = loss_and_gradient(network, inputs, goal)
    on_device, there = copy.deepcopy(network).to(DEVICE), [value.to(DEVICE) for value in inputs]
    rows = []
    for precision in ROUNDING:
        allow_tf32(precision != "float32")
        computing = "float32" if precision == "TF32" else precision
        found = loss_and_gradient(on_device, there, goal.to(DEVICE), computing)
        rows.append(dict(network=name, precision=precision, **differences(found, reference)))
    return rows


def loss_and_gradient(
    network: nn.Module, inputs: Sequence[Tensor], goal: Tensor, precision: str = "float32"
) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient over all weights as one vector."""
    network.zero_grad()
    with autocast(goal.device, precision):
        answer = network(*inputs)
    loss = (answer.to(goal.dtype) - goal).square().mean()
    loss.backward()
    gradients = [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
    return loss.detach(), torch.cat(gradients)


def differences(found: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> dict[str, float]:
    loss, gradient, true_loss, true_gradient = (value.cpu().double() for value in (*found, *reference))
    return {
        "loss": (loss / true_loss - 1).abs().item(),
        "gradient": ((gradient - true_gradient).norm() / true_gradient.norm()).item(),
    }


if __name__ == "__main__":
    main()
