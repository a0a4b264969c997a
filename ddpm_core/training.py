"""Teaching a noise predictor: a training loop that the caller iterates."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddpm_core.guidance import drop_condition
from ddpm_core.loss import diffusion_loss
from ddpm_core.scale.ranks import gather_rows, num_ranks, share_out
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.guards import check_pictures, describe


class TrainingDiverged(RuntimeError):
    """The loss stopped being a number. The model holds its last good weights.

    iteration: that of the loss, where it is known; weights from before it gave sound losses
    """

    def __init__(self, message: str, iteration: int | None = None):
        super().__init__(message)
        self.iteration = iteration


class TrainingState:
    """A training run so far: train() moves it on, and stopping at any moment loses nothing.

    model:     the network that learns, trained in place
    ema_model: a slow average of model's weights over the last iterations; sample with this one
    optimizer: AdamW over model's weights
    generator: source of all the randomness of the run, seeded with seed, on the model's device
    precision: what the network computes in; its weights stay float32. On a GPU torch.bfloat16 is faster, or
               torch.float16, whose small gradients the scaler keeps from vanishing (Micikevicius et al. 2018, 3.2)
    iteration: how many iterations are done
    losses:    the loss of each of them
    """

    def __init__(self, model: nn.Module, seed: int = 0, precision: torch.dtype = torch.float32):
        if precision not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"precision must be torch.float32, torch.bfloat16 or torch.float16; got {precision!r}")
        self.model = model
        self.ema_model = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == torch.float16)
        self._losses: list[float] = []
        self._unread: list[Tensor] = []  # losses still on the device: to read one, the CPU would have to wait for it

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def iteration(self) -> int:
        return len(self._losses) + len(self._unread)

    @property
    def losses(self) -> list[float]:
        if self._unread:
            self._losses += torch.stack(self._unread).tolist()
            self._unread.clear()
        return self._losses

    def add_loss(self, loss: Tensor) -> None:
        """Notes that one more iteration is done."""
        self._unread.append(loss.detach())

    def state_dict(self) -> dict:
        """Everything that the next iteration depends on, as load_state_dict takes it."""
        return dict(
            model=self.model.state_dict(),
            ema_model=self.ema_model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            generator=self.generator.get_state(),
            losses=list(self.losses),
        )

    def load_state_dict(self, state: dict) -> None:
        """Goes to where another run was when its state_dict() was taken."""
        self.model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["ema_model"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it would go on in the same tensors
        for weight, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == weight.shape:  # laid out in memory as the weight is: AdamW goes through both at once
                    moments[name] = torch.empty_like(weight).copy_(moment)
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        self.losses[:] = state["losses"]


Batches = Iterator[tuple[Tensor, Tensor | None]]  # pictures (B, C, H, W) and their conditions (B, ...)


def train(
    state: TrainingState,
    schedule: NoiseSchedule,
    pictures: Tensor | Callable[[int], Batches],
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

    pictures:  (N, C, H, W) floats in [-1, 1], or uint8, which takes a quarter of the memory; every iteration draws
               batch_size of them at random. Or, for more pictures than memory holds, a function that returns an
               endless iterator of batches (pictures, cond), from the batch of a given number on
    cond:      (N, ...), each picture's condition, such as its caption's tokens, for a model(x_t, t, cond)
    null_cond: (...), the condition that says nothing

    state.model is trained in place, so leaving the loop at any moment (break, Ctrl-C) loses nothing, and another call
    with the same state goes on. Raises TrainingDiverged where the loss becomes NaN or infinite; state is then back at
    its last good weights. Raises OutOfMemory where a batch is too large for the device.
    """
    _check_numbers(num_iterations=num_iterations, batch_size=batch_size)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a number above 0; got {describe(learning_rate)}")
    model, optimizer, scaler, generator = state.model, state.optimizer, state.scaler, state.generator
    schedule = schedule.to(state.device).trusting()  # every t is made by diffusion_loss
    if null_cond is not None:
        null_cond = null_cond.to(state.device)
    if callable(pictures) and not isinstance(pictures, Tensor):
        if cond is not None:
            raise ValueError("cond goes with a tensor of pictures; a function brings the conditions with its batches")
        batches = _stream_batches(pictures(state.iteration), null_cond, batch_size, state.device)
    else:
        _check_data(pictures, cond, null_cond)
        batches = _draw_batches(pictures, cond, batch_size, generator)
    network = share_out(model)  # over several processes, where there are several
    model.train()
    with _explain_out_of_memory(batch_size), _LastGood(state, learning_rate) as last_good:
        while state.iteration < num_iterations:
            x_0, batch_cond = next(batches)
            eps_model = network
            if batch_cond is not None:
                eps_model = _with_cond(network, drop_condition(batch_cond, null_cond, drop_probability, generator))
            with torch.autocast(state.device.type, state.precision, enabled=state.precision != torch.float32):
                loss = diffusion_loss(eps_model, schedule, x_0, generator, min_snr_gamma)
            last_good.check(loss)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(state.iteration, num_iterations, learning_rate, warmup_iterations)
            scaler.step(optimizer)
            scaler.update()
            # While the average is young it forgets faster, or it would remember the random start.
            update_ema(state.ema_model, model, min(ema_decay, (1 + state.iteration) / (10 + state.iteration)))
            state.add_loss(loss)
            yield state


def _draw_batches(pictures: Tensor, cond: Tensor | None, batch_size: int, generator: torch.Generator) -> Batches:
    """Endless batches of pictures drawn at random, each with its condition."""
    pictures = pictures.to(generator.device)
    cond = None if cond is None else cond.to(generator.device)
    while True:
        rows = torch.randint(len(pictures), (batch_size,), generator=generator, device=generator.device)
        batch = pictures[rows]
        if batch.dtype == torch.uint8:
            batch = batch.float() / 127.5 - 1
        yield batch, None if cond is None else cond[rows]


def _stream_batches(batches: Batches, null_cond: Tensor | None, batch_size: int, device: torch.device) -> Batches:
    """Batches from somewhere else; where several processes train, each brings its share."""
    share = batch_size // num_ranks()
    for pictures, cond in batches:
        if len(pictures) != share:
            raise ValueError(
                f"batches must hold {share} pictures, a process's share of batch_size; got {len(pictures)}"
            )
        if (cond is None) != (null_cond is None):
            raise ValueError("batches with conditions need a null_cond, and batches without conditions none")
        check_pictures(pictures)
        yield _on_device(pictures, device), None if cond is None else _on_device(cond, device)
    raise ValueError("the batches came to an end; the iterator must be endless")


def _on_device(rows: Tensor, device: torch.device) -> Tensor:
    """The rows of all processes. From pinned memory a GPU fetches them while the next ones are read."""
    rows = rows.pin_memory() if device.type == "cuda" else rows
    return gather_rows(rows.to(device, non_blocking=True))


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


class OutOfMemory(RuntimeError):
    """A batch was too large for the device's memory. The state keeps what was learnt before it."""


def is_lack_of_memory(error: RuntimeError) -> bool:
    """A GPU has an exception of its own for it; a CPU, and libraries on a GPU, general ones with these words."""
    words = ("can't allocate memory", "out of memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)


@contextmanager
def _explain_out_of_memory(batch_size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise OutOfMemory(
            f"the memory of the device does not hold a batch of {batch_size}: lower batch_size (say, to "
            f"{max(1, batch_size // 2)}), or use fewer channels or smaller pictures. What was learnt before is kept"
        ) from error


class _LastGood:
    """The last moment of a run with a loss that is a number, to go back to from one that is not."""

    def __init__(self, state: TrainingState, learning_rate: float):
        self.state, self.learning_rate = state, learning_rate
        # A CPU knows each loss at once. A GPU is still at work on it, and goes on without a pause unless it is asked.
        self.check_every = 1 if state.device.type == "cpu" else 50

    def __enter__(self) -> "_LastGood":
        self._save()
        return self

    def _save(self) -> None:
        saved = self.state.state_dict()
        self.iteration = len(saved.pop("losses"))  # the losses before it stay as they are, and can be many
        self.saved = copy.deepcopy(saved)

    def check(self, loss: Tensor) -> None:
        """Raises TrainingDiverged where the next loss is no number; now and then, saves the moment before it."""
        if self.state.iteration % self.check_every == 0 and not math.isfinite(loss.item()):
            raise self._go_back(loss.item())
        if self.state.iteration % 50 == 0:  # these weights have just given a finite loss
            self._save()

    def __exit__(self, error_type: type | None, *_: object) -> None:
        """The caller leaves, perhaps between two looks at the loss."""
        losses = self.state.losses
        if losses and not math.isfinite(losses[-1]):
            error = self._go_back(losses[-1])
            if error_type is None:
                raise error

    def _go_back(self, loss: float) -> TrainingDiverged:
        losses, known = self.state.losses, range(self.iteration, self.state.iteration)
        diverged_at = next((i for i in known if not math.isfinite(losses[i])), self.state.iteration)
        self.state.load_state_dict(self.saved | dict(losses=losses[: self.iteration]))
        return TrainingDiverged(
            f"training stopped at iteration {diverged_at}: the loss became {loss}. "
            f"The model is back at its last good weights, those of iteration {self.state.iteration}. "
            f"Likely causes: a learning rate that is too high (it is {self.learning_rate:g}; "
            f"try {self.learning_rate / 10:g}), a division by zero or a root of a negative number in a network of "
            "your own, or half precision (use float32).",
            diverged_at,
        )


def _check_numbers(**numbers: object) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more; got {number!r}")
    if numbers["batch_size"] % num_ranks():
        raise ValueError(
            f"batch_size must be a multiple of the {num_ranks()} processes that share each batch; "
            f"got {numbers['batch_size']}"
        )


def _check_data(pictures: Tensor, cond: Tensor | None, null_cond: Tensor | None) -> None:
    check_pictures(pictures, bytes_too=True)
    if len(pictures) < num_ranks():
        raise ValueError(f"{len(pictures)} pictures are too few for {num_ranks()} processes: start fewer")
    if pictures.is_floating_point() and pictures.min() >= 0:
        warnings.warn("no value of pictures is below 0; if they are in [0, 1]: pictures * 2 - 1", stacklevel=3)
    if (cond is None) != (null_cond is None) or (cond is not None and len(cond) != len(pictures)):
        raise ValueError(
            f"cond must have one row for each of the {len(pictures)} pictures, and null_cond beside it; "
            f"got {describe(cond)} and {describe(null_cond)}"
        )
