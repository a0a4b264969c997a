"""The libraries that the course is compared with, each used as its own examples use it.

diffusers:                   UNet2DModel and UNet2DConditionModel; a training loop after its example
                             train_unconditional.py, without the logging and the data loader
denoising_diffusion_pytorch: Unet and GaussianDiffusion (Phil Wang); a training loop after its Trainer, without those

Their loops draw pictures from a tensor in memory, as ours does, which is faster than their data loaders. Where a peer
is not installed its names are None here.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from common import DEVICE, flops_per_picture
from torch import Tensor, nn

from ddpm_core import UNet

UNet2DModel = UNet2DConditionModel = DDPMScheduler = DDPMPipeline = EMAModel = Unet = GaussianDiffusion = EMA = None
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    if find_spec("diffusers"):
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DConditionModel, UNet2DModel
        from diffusers.training_utils import EMAModel
    if find_spec("denoising_diffusion_pytorch"):
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

NUM_TIMESTEPS = 1000
LEARNING_RATE = 1e-4  # both peers' own
NUM_TOKENS = 12  # of a text
Widths = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A size of work: the pictures, our network for them, and where it reads a text, if it does."""

    size: int
    in_channels: int
    channels: Widths
    batch_size: int
    context_dim: int | None = None
    cross_attention_levels: Widths = ()

    def __str__(self) -> str:
        text = ", with text" if self.context_dim else ""
        return f"{self.size}x{self.size}, batch {self.batch_size}{text}"

    def batch(self, count: int | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """x_t, t and the context of count pictures, at random."""
        count = count or self.batch_size
        x_t = torch.randn(count, self.in_channels, self.size, self.size, device=DEVICE)
        t = torch.randint(NUM_TIMESTEPS, (count,), device=DEVICE)
        if self.context_dim is None:
            return x_t, t, None
        return x_t, t, torch.randn(count, NUM_TOKENS, self.context_dim, device=DEVICE)


class OurNetwork(nn.Module):
    """ddpm_core.UNet as model(x_t, t) or, with a text that comes as vectors (B, L, D), model(x_t, t, context)."""

    def __init__(self, case: Case, channels: Widths | None = None, patch_size: int = 1):
        super().__init__()
        self.unet = UNet(
            case.in_channels,
            channels or case.channels,
            patch_size=patch_size,
            context_dim=case.context_dim,
            cross_attention_levels=case.cross_attention_levels,
        )

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        if context is None:
            return self.unet(x_t, t)
        return self.unet(x_t, t, context, torch.zeros(context.shape[:2], dtype=torch.bool, device=context.device))


class DiffusersNetwork(nn.Module):
    """UNet2DModel, or UNet2DConditionModel where there is a text, called like ours.

    Its attention stands where ours does: in the middle and, to a text, at the case's cross-attention levels. The groups
    of its norms are its 32, or as many as divide the widths. All else is its default.
    """

    def __init__(self, case: Case, channels: Widths, layers_per_block: int = 2):
        super().__init__()
        shape = dict(
            sample_size=case.size,
            in_channels=case.in_channels,
            out_channels=case.in_channels,
            block_out_channels=channels,
            layers_per_block=layers_per_block,
            norm_num_groups=math.gcd(32, *channels),
        )
        if case.context_dim is None:
            plain = len(channels) * ("DownBlock2D",), len(channels) * ("UpBlock2D",)
            self.net = UNet2DModel(**shape, down_block_types=plain[0], up_block_types=plain[1])
        else:
            kinds = ["CrossAttn" if level in case.cross_attention_levels else "" for level in range(len(channels))]
            self.net = UNet2DConditionModel(
                **shape,
                down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
                up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
                cross_attention_dim=case.context_dim,
            )

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x_t, t).sample if context is None else self.net(x_t, t, context).sample


class LucidrainsNetwork(nn.Module):
    """denoising_diffusion_pytorch.Unet, called like ours, with as many levels; all else is its default.

    widths: init_dim (of the first level), dim (of the others, times 1, 2, 4 as ours)
    """

    def __init__(self, case: Case, widths: tuple[int, int]):
        super().__init__()
        mults = tuple(width // case.channels[0] for width in case.channels)
        self.net = Unet(dim=widths[1], init_dim=widths[0], dim_mults=mults, channels=case.in_channels)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.net(x_t, t)


# ---------------------------------------------------------------- the same amount of work


def network_flops(net: nn.Module, case: Case, backward: bool = True) -> float:
    """Floating-point operations of a call for one picture, and of the way back from it."""
    x_t, t, context = case.batch(1)
    inputs = (x_t, t) if context is None else (x_t, t, context)
    return flops_per_picture(lambda: net(*inputs).square().mean(), 1, backward)


def num_parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def closest(size_of: Callable[[Widths], float], goal: float, scales: Iterable[Widths], steps: Iterable[int]) -> Widths:
    """Widths whose network comes closest to the goal in size_of, such as its FLOPs: the best of scales, moved on.

    steps: how far a width may move at a time, the wide ones first: the first with which it comes within 3 % is taken
    """

    def distance(widths: Widths) -> float:
        if widths not in known:
            known[widths] = abs(math.log(size_of(widths) / goal))
        return known[widths]

    known: dict[Widths, float] = {}
    scales = list(scales)
    for step in steps:
        rounded = dict.fromkeys(tuple(max(step, step * round(width / step)) for width in widths) for widths in scales)
        best, better = None, min(rounded, key=distance)
        while best != better:
            best = better
            moves = [(*best[:i], best[i] + move, *best[i + 1 :]) for i in range(len(best)) for move in (-step, step)]
            rising = [widths for widths in moves if widths[0] >= 8 and list(widths) == sorted(widths)]
            better = min([best, *rising], key=distance)
        if distance(best) < 0.03:
            break
    return min(known, key=distance)


def diffusers_widths(case: Case, layers_per_block: int, size_of: Callable[[nn.Module], float]) -> Widths:
    """Its widths at which size_of(network) is closest to ours, in about the proportions of ours.

    Multiples of 8, which convolutions on a CPU are made for, or of 4 where those do not come close.
    """
    return closest(
        lambda widths: size_of(DiffusersNetwork(case, widths, layers_per_block)),
        size_of(OurNetwork(case)),
        [tuple(round(width * eighths / 8) for width in case.channels) for eighths in range(2, 11)],
        (8, 4),
    )


def lucidrains_widths(case: Case, size_of: Callable[[nn.Module], float]) -> Widths:
    """Its init_dim and dim, even numbers (half of them sines), at which size_of(network) is closest to ours."""
    return closest(
        lambda widths: size_of(LucidrainsNetwork(case, widths)),
        size_of(OurNetwork(case)),
        [(dim, dim) for dim in range(8, case.channels[0] + 9, 4)],
        (4, 2),
    )


# ---------------------------------------------------------------- training loops


class DiffusersTrainer:
    """An iteration of its unconditional example, with the example's settings.

    AdamW, clipping at 1, a learning rate that the caller makes from the optimizer, EMAModel with warm-up, the loss read
    for the log.
    """

    def __init__(self, net: nn.Module, new_learning_rate: Callable[[torch.optim.Optimizer], object]):
        self.net = net.train()
        self.scheduler = DDPMScheduler(num_train_timesteps=NUM_TIMESTEPS, beta_schedule="linear")
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=LEARNING_RATE, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.learning_rate = new_learning_rate(self.optimizer)
        self.ema = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def step(self, clean: Tensor, *context: Tensor) -> None:
        noise = torch.randn_like(clean)
        timesteps = torch.randint(NUM_TIMESTEPS, (len(clean),), device=DEVICE)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        loss = F.mse_loss(self.net(noisy, timesteps, *context).float(), noise.float())
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.learning_rate.step()
        self.optimizer.zero_grad()
        self.ema.step(self.net.parameters())
        loss.detach().item()


class LucidrainsTrainer:
    """An iteration of its Trainer, with the Trainer's settings.

    diffusion: a GaussianDiffusion, with its own loss (it predicts v, its default); Adam, clipping at 1, the loss read,
    EMA every tenth iteration
    """

    def __init__(self, diffusion: nn.Module):
        self.diffusion = diffusion.train()
        self.optimizer = torch.optim.Adam(diffusion.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
        self.ema = EMA(diffusion, beta=0.995, update_every=10).to(DEVICE)

    def step(self, pictures: Tensor, **conditions: Tensor) -> None:
        """pictures: in [0, 1], which it takes back to [-1, 1] itself."""
        loss = self.diffusion(pictures, **conditions)
        loss.item()
        loss.backward()
        nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()


def train_diffusers(net: DiffusersNetwork, case: Case, pictures: Tensor, context: Tensor | None) -> Iterator[None]:
    trainer = DiffusersTrainer(net, lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100_000))
    while True:
        rows = torch.randint(len(pictures), (case.batch_size,), device=DEVICE)
        trainer.step(pictures[rows], *([] if context is None else [context[rows]]))
        yield


def train_lucidrains(net: LucidrainsNetwork, case: Case, pictures: Tensor) -> Iterator[None]:
    trainer = LucidrainsTrainer(GaussianDiffusion(net.net, image_size=case.size, timesteps=NUM_TIMESTEPS).to(DEVICE))
    pictures = (pictures + 1) / 2
    while True:
        trainer.step(pictures[torch.randint(len(pictures), (case.batch_size,), device=DEVICE)])
        yield


# ---------------------------------------------------------------- sampling


class InPipeline(nn.Module):
    """A network as DDPMPipeline wants one: it says its shape, and takes one t for all pictures."""

    @dataclass
    class Config:
        sample_size: int
        in_channels: int

    @dataclass
    class Output:
        sample: Tensor

    def __init__(self, net: nn.Module, case: Case):
        super().__init__()
        self.net, self.dtype, self.device = net, torch.float32, DEVICE
        self.config = self.Config(case.size, case.in_channels)

    def forward(self, x_t: Tensor, t: Tensor) -> "InPipeline.Output":
        return self.Output(self.net(x_t, t.to(x_t.device).expand(len(x_t))))


def new_pipeline(net: nn.Module, num_steps: int) -> "DDPMPipeline":
    """DDPMPipeline over all num_steps of the cosine schedule, its variance as ours, without its progress bar."""
    scheduler = DDPMScheduler(num_train_timesteps=num_steps, beta_schedule="squaredcos_cap_v2")
    pipeline = DDPMPipeline(net, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
