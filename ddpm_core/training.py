"""Teaching a noise predictor: the loss, and a training loop that the caller iterates."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core.errors import check_eps_hat, check_pictures, describe
from ddpm_core.guidance import drop_condition
from ddpm_core.process import add_noise
from ddpm_core.schedule import NoiseSchedule


def diffusion_loss(
    eps_model: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_0: Tensor,
    generator: torch.Generator | None = None,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """Mean squared error between the noise that was added and the noise predicted, a scalar (DDPM eq. 14).

    x_0:           (B, ...) clean data. Each one gets a random timestep and random noise, drawn on x_0's device
    min_snr_gamma: None weighs all timesteps alike. A number gives timesteps with a signal-to-noise ratio above it the
                   weight gamma / ratio, so that more of the learning goes to what is in the picture, which is decided
                   where noise is strong, and less to its last grain (Hang et al. 2023, section 3.4)
    """
    if min_snr_gamma is not None and not min_snr_gamma > 0:
        raise ValueError(f"min_snr_gamma must be above 0; got {describe(min_snr_gamma)}")
    t = torch.randint(len(schedule), (len(x_0),), generator=generator, device=x_0.device)
    eps = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    eps_hat = eps_model(add_noise(schedule, x_0, t, eps), t)
    check_eps_hat(eps_hat, eps.shape)
    if min_snr_gamma is None:
        return F.mse_loss(eps_hat, eps)
    alpha_bar = schedule.alpha_bars[t]
    snr = alpha_bar / (1 - alpha_bar)
    squared_errors = (eps_hat - eps).square().flatten(1).mean(dim=1)  # (B,)
    return ((min_snr_gamma / snr).clamp(max=1) * squared_errors).mean()


class TrainingDiverged(RuntimeError):
    """The loss stopped being a number. The model holds its last good weights."""


class TrainingState:
    """A training run so far: train() moves it on, and stopping at any moment loses nothing.

    model:     the network that learns, trained in place
    ema_model: a slow average of model's weights over the last iterations; sample with this one
    optimizer: AdamW over model's weights
    generator: source of all the randomness of the run, seeded with seed, on the model's device
    iteration: how many iterations are done
    losses:    the loss of each of them
    """

    def __init__(self, model: nn.Module, seed: int = 0):
        self.model = model
        self.ema_model = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.losses: list[float] = []

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def iteration(self) -> int:
        return len(self.losses)

    def state_dict(self) -> dict:
        """Everything that the next iteration depends on, as load_state_dict takes it."""
        return dict(
            model=self.model.state_dict(),
            ema_model=self.ema_model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            generator=self.generator.get_state(),
            losses=list(self.losses),
        )

    def load_state_dict(self, state: dict) -> None:
        """Goes to where another run was when its state_dict() was taken."""
        self.model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["ema_model"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it would go on in the same tensors
        self.generator.set_state(state["generator"])
        self.losses[:] = state["losses"]


def train(
    state: TrainingState,
    schedule: NoiseSchedule,
    pictures: Tensor,
    num_iterations: int,
    batch_size: int = 128,
    learning_rate: float = 3e-3,  # the peak, reached after the warm-up; it falls to 0 at the end
    warmup_iterations: int = 100,
    max_grad_norm: float = 1.0,  # longer gradients are scaled down to this length
    ema_decay: float = 0.99,  # share of the average that each iteration keeps
    min_snr_gamma: float | None = None,  # see diffusion_loss
    cond: Tensor | None = None,
    null_cond: Tensor | None = None,
    drop_probability: float = 0.1,  # share of conditions replaced by null_cond
) -> Iterator[TrainingState]:
    """Yields state after every iteration, until it has done num_iterations (DDPM algorithm 1).

    pictures:  (N, C, H, W) floats in [-1, 1]; every iteration draws batch_size of them at random
    cond:      (N, ...), each picture's condition, such as its caption's tokens, for a model(x_t, t, cond)
    null_cond: (...), the condition that says nothing

    state.model is trained in place, so leaving the loop at any moment (break, Ctrl-C) loses nothing, and another call
    with the same state goes on. Raises TrainingDiverged where the loss becomes NaN or infinite; state is then back at
    its last good weights.
    """
    check_pictures(pictures)
    if pictures.min() >= 0:
        warnings.warn("no value of pictures is below 0; if they are in [0, 1]: pictures * 2 - 1", stacklevel=2)
    if (cond is None) != (null_cond is None) or (cond is not None and len(cond) != len(pictures)):
        raise ValueError(
            f"cond must have one row for each of the {len(pictures)} pictures, and null_cond beside it; "
            f"got {describe(cond)} and {describe(null_cond)}"
        )
    for name, number in dict(num_iterations=num_iterations, batch_size=batch_size).items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more; got {number!r}")
    model, optimizer, generator = state.model, state.optimizer, state.generator
    pictures, schedule = pictures.to(state.device), schedule.to(state.device)
    if cond is not None:
        cond, null_cond = cond.to(state.device), null_cond.to(state.device)
    last_good = copy.deepcopy(state.state_dict())
    model.train()
    while state.iteration < num_iterations:
        rows = torch.randint(len(pictures), (batch_size,), generator=generator, device=state.device)
        eps_model = model
        if cond is not None:
            eps_model = _with_cond(model, drop_condition(cond[rows], null_cond, drop_probability, generator))
        loss = diffusion_loss(eps_model, schedule, pictures[rows], generator, min_snr_gamma)
        if not math.isfinite(loss.item()):
            diverged_at = state.iteration
            state.load_state_dict(last_good)
            raise TrainingDiverged(_diagnosis(loss.item(), diverged_at, state.iteration, learning_rate))
        if state.iteration % 50 == 0:  # these weights have just given a finite loss
            last_good = copy.deepcopy(state.state_dict())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(state.iteration, num_iterations, learning_rate, warmup_iterations)
        optimizer.step()
        # While the average is young it forgets faster, or it would remember the random start.
        update_ema(state.ema_model, model, min(ema_decay, (1 + state.iteration) / (10 + state.iteration)))
        state.losses.append(loss.item())
        yield state


def _with_cond(model: nn.Module, cond: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_t, t: model(x_t, t, cond)


def learning_rate_at(iteration: int, num_iterations: int, peak: float, warmup_iterations: int) -> float:
    """Learning rate of an iteration: rises in a line to peak during the warm-up, then falls to 0 as a half cosine."""
    if iteration < warmup_iterations:
        return peak * (iteration + 1) / warmup_iterations
    progress = (iteration - warmup_iterations) / max(1, num_iterations - warmup_iterations)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, ema_decay: float) -> None:
    """Moves ema_model's weights towards model's: ema <- ema_decay * ema + (1 - ema_decay) * weights."""
    torch._foreach_lerp_(list(ema_model.parameters()), list(model.parameters()), 1 - ema_decay)


def _diagnosis(loss: float, diverged_at: int, restored_to: int, learning_rate: float) -> str:
    return (
        f"training stopped at iteration {diverged_at}: the loss became {loss}. "
        f"The model is back at its last good weights, those of iteration {restored_to}. "
        f"Likely causes: a learning rate that is too high (it is {learning_rate:g}; try {learning_rate / 10:g}), "
        "a division by zero or a root of a negative number in a network of your own, or half precision (use float32)."
    )
