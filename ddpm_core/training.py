"""Teaching a network: one training loop for all of them, and what it takes to teach a noise predictor."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ddpm_core.guidance import drop_condition, guided
from ddpm_core.loss import diffusion_loss
from ddpm_core.prediction import noise_predictor
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.memory import explain_out_of_memory
from ddpm_core.support.pixels import as_floats
from ddpm_core.training_state import LastGood, TrainingState

Batches = Iterator[tuple[Tensor, Tensor | None]]  # pictures (B, C, H, W) and their conditions (B, ...)


def fit(
    state: TrainingState,
    batch_loss: Callable[[tuple], Tensor],  # the loss of one batch, a scalar: it decides what is taught
    batches: Iterator[tuple],
    num_iterations: int,
    learning_rate: float = 3e-3,  # the peak, reached after the warm-up; it falls to 0 at the end
    warmup_iterations: int = 100,
    max_grad_norm: float = 1.0,  # longer gradients are scaled down to this length
    ema_decay: float = 0.99,  # share of the average that each iteration keeps
) -> Iterator[TrainingState]:
    """Yields state after every iteration, until state.iteration is num_iterations. It begins with the first next().

    state.model is trained in place, so leaving the loop at any moment (break, Ctrl-C) loses nothing, and another call
    with the same state goes on. Raises TrainingDiverged where the loss becomes NaN or infinite; state is then back at
    its last good weights. Raises ValueError where a number does not fit, or the batches come to an end.
    """
    guards.fitting(num_iterations, learning_rate, warmup_iterations, max_grad_norm, ema_decay)
    batches, parameters = guards.endless(batches), list(state.model.parameters())
    state.model.train()
    with LastGood(state, learning_rate) as last_good:
        while state.iteration < num_iterations:
            loss = batch_loss(next(batches))
            last_good.check(loss)
            state.optimizer.zero_grad()
            state.backward(loss)
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate_at(state.iteration, num_iterations, learning_rate, warmup_iterations)
            state.step()
            # While the average is young it forgets faster, or it would remember the random start.
            update_ema(state.ema_model, state.model, min(ema_decay, (1 + state.iteration) / (10 + state.iteration)))
            state.add_loss(loss)
            yield state


def train(
    state: TrainingState,
    schedule: NoiseSchedule,
    pictures: Tensor | Callable[[int], Batches],
    num_iterations: int,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    warmup_iterations: int = 100,
    max_grad_norm: float = 1.0,
    ema_decay: float = 0.99,
    min_snr_gamma: float | None = None,  # see diffusion_loss
    cond: Tensor | None = None,  # (N, ...): each picture's condition, for a model(x_t, t, cond)
    null_cond: Tensor | None = None,  # (...): what stands for no condition
    drop_probability: float = 0.1,  # share of conditions replaced by null_cond
    network: Callable[..., Tensor] | None = None,  # called in place of state.model, with the same weights
    bounded: bool = True,  # False for latents, whose numbers need not lie in [-1, 1]
) -> Iterator[TrainingState]:
    """Teaches state.model what it predicts, with fit (DDPM algorithm 1). Raises what fit raises, and OutOfMemory.

    pictures: (N, C, H, W) floats in [-1, 1] or uint8; every iteration draws batch_size of them at random. Or, for more
              than memory holds, a function: number of a batch -> endless iterator of (pictures, cond) from there on
    """
    guards.instance("state", state, TrainingState, "TrainingState(model)")
    guards.instance("schedule", schedule, NoiseSchedule, "NoiseSchedule(betas)")
    numbers = (num_iterations, learning_rate, warmup_iterations, max_grad_norm, ema_decay)
    guards.fitting(*numbers)
    guards.training_data(pictures, cond, null_cond, batch_size, bounded)
    schedule = schedule.to(state.device).trusting()  # every t is made by diffusion_loss
    network, generator = noise_predictor(state.model, schedule, network), state.generator
    null_cond = None if null_cond is None else null_cond.to(state.device)

    def batch_loss(batch: tuple[Tensor, Tensor | None]) -> Tensor:
        x_0, batch_cond = batch
        eps_model = network
        if batch_cond is not None:
            batch_cond = drop_condition(batch_cond, null_cond, drop_probability, generator)
            eps_model = guided(network, batch_cond, null_cond, guidance_scale=1)  # 1: the condition as it is
        return diffusion_loss(eps_model, schedule, x_0, generator, min_snr_gamma)

    if isinstance(pictures, Tensor):
        batches = draw_batches(pictures, cond, batch_size, generator)
    else:
        batches = stream_batches(pictures(state.iteration), batch_size, null_cond, state.device, bounded)
    with explain_out_of_memory(batch_size):
        yield from fit(state, batch_loss, batches, *numbers)


def draw_batches(pictures: Tensor, cond: Tensor | None, batch_size: int, generator: torch.Generator) -> Batches:
    """Endless batches of pictures drawn at random, each with its condition, on the generator's device."""
    pictures = pictures.to(generator.device)
    cond = None if cond is None else cond.to(generator.device)
    while True:
        rows = torch.randint(len(pictures), (batch_size,), generator=generator, device=generator.device)
        yield as_floats(pictures[rows]), None if cond is None else cond[rows]


def stream_batches(
    batches: Batches, batch_size: int, null_cond: Tensor | None, device: torch.device, bounded: bool = True
) -> Batches:
    """Batches that somebody else drew, on the device. Raises ValueError or TypeError where one does not fit."""
    for x_0, cond in batches:
        guards.batch(x_0, cond, batch_size, null_cond, bounded)
        yield x_0.to(device, non_blocking=True), None if cond is None else cond.to(device, non_blocking=True)


def learning_rate_at(iteration: int, num_iterations: int, peak: float, warmup_iterations: int) -> float:
    """Learning rate of an iteration: rises in a line to peak during the warm-up, then falls to 0 as a half cosine."""
    if iteration < warmup_iterations:
        return peak * (iteration + 1) / warmup_iterations
    progress = (iteration - warmup_iterations) / max(1, num_iterations - warmup_iterations)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, ema_decay: float) -> None:
    """Moves ema_model's weights towards model's: ema <- ema_decay * ema + (1 - ema_decay) * weights.

    Buffers, such as BatchNorm's running mean, are averages already: they are copied.
    """
    torch._foreach_lerp_(list(ema_model.parameters()), list(model.parameters()), 1 - ema_decay)
    for average, buffer in zip(ema_model.buffers(), model.buffers(), strict=True):
        average.copy_(buffer)
