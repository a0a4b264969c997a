"""A training run so far: what the next iteration depends on, and the way back from a loss that is NaN or infinite."""

import copy
import math

import torch
from torch import Tensor, nn

from ddpm_core.support import guards


class TrainingState:
    """A training run so far: fit and train move it on, and stopping at any moment loses nothing.

    model:     the network that learns, trained in place
    ema_model: a slow average of model's weights over the last iterations; sample with this one
    optimizer: AdamW over model's weights
    generator: source of all the randomness of the run, seeded with seed, on the model's device
    iteration: how many iterations are done
    losses:    the loss of each of them
    """

    def __init__(self, model: nn.Module, seed: int = 0):
        guards.instance("model", model, nn.Module, "a UNet")
        guards.seed(seed)
        self.model = model
        self.ema_model = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
        self.generator = torch.Generator(self.device).manual_seed(int(seed))
        self._losses: list[float] = []
        self._unread: list[Tensor] = []  # losses still on the device: to read one is to wait for it

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

    def backward(self, loss: Tensor) -> None:
        """Fills in the gradient of the loss."""
        guards.learns(loss, self.model)
        loss.backward()

    def step(self) -> None:
        """Lets the optimizer take its step down the gradient."""
        self.optimizer.step()

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
        self.ema_model.load_state_dict(state["ema_model"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it would go on in the same tensors
        for weight, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == weight.shape:  # laid out in memory as the weight is: AdamW goes through both at once
                    moments[name] = torch.empty_like(weight).copy_(moment)
        self.generator.set_state(state["generator"])
        self.losses[:] = state["losses"]


class TrainingDiverged(RuntimeError):
    """The loss stopped being a number. The model holds its last good weights.

    iteration: that of the loss, where it is known; weights from before it gave sound losses
    """

    def __init__(self, message: str, iteration: int | None = None):
        super().__init__(message)
        self.iteration = iteration


class LastGood:
    """A with block that remembers a moment of the run with a finite loss, and goes back there from one that is not."""

    def __init__(self, state: TrainingState, learning_rate: float):
        self.state, self.learning_rate = state, learning_rate
        # A CPU knows each loss at once. A GPU is still at work on it, and goes on without a pause unless it is asked.
        self.check_every = 1 if state.device.type == "cpu" else 50

    def __enter__(self) -> "LastGood":
        self._save()
        return self

    def check(self, loss: Tensor) -> None:
        """Raises TrainingDiverged where the loss is NaN or infinite; every 50 iterations, saves the state before it."""
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

    def _save(self) -> None:
        saved = self.state.state_dict()
        self.iteration = len(saved.pop("losses"))  # the losses before it stay as they are, and can be many
        self.saved = copy.deepcopy(saved)

    def _go_back(self, loss: float) -> TrainingDiverged:
        losses, known = self.state.losses, range(self.iteration, self.state.iteration)
        diverged_at = next((i for i in known if not math.isfinite(losses[i])), self.state.iteration)
        self.state.load_state_dict(self.saved | dict(losses=losses[: self.iteration]))
        return TrainingDiverged(
            guards.divergence(diverged_at, loss, self.state.iteration, self.learning_rate), diverged_at
        )
