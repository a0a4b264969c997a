"""A run that stops, goes on, is copied, or meets a loss that is no number."""

import copy
import math
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from ddpm_core import TrainingDiverged, TrainingState, UNet, load_digits, train

FAST = dict(batch_size=8, warmup_iterations=3)


class Breaks(nn.Module):
    """A network that works for a number of calls, and then does something else."""

    def __init__(self, calls: int, then):
        super().__init__()
        self.unet, self.calls, self.then = UNet(1, (8, 8)), calls, then

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls -= 1
        return self.unet(x_t, t) if self.calls >= 0 else self.then(x_t)


class Labelled(nn.Module):
    """A network that is told a digit; 10 stands for no digit."""

    def __init__(self):
        super().__init__()
        self.unet, self.digit = UNet(1, (8, 8), context_dim=8), nn.Embedding(11, 8)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.unet(x_t, t, self.digit(cond)[:, None], torch.zeros(len(cond), 1, dtype=torch.bool))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def finish(training) -> list[float]:
    *_, state = training
    return state.losses


@pytest.fixture(params=[False, True], ids=["pictures", "with conditions"])
def run(request, schedule):
    """Makes states that start alike, and trains one of them on to its twelfth iteration."""
    pictures, labels = load_digits("train")
    torch.manual_seed(0)
    model = Labelled() if request.param else UNet(1, (8, 8))
    options = dict(cond=labels, null_cond=torch.tensor(10), drop_probability=0.3) if request.param else {}

    def new(seed=0):
        return TrainingState(copy.deepcopy(model), seed)

    return new, lambda state: train(state, schedule, pictures, 12, **options, **FAST)


@pytest.mark.parametrize("leave", [RuntimeError, KeyboardInterrupt, None], ids=["error", "Ctrl-C", "break"])
def test_leaving_the_loop_and_going_on_equals_never_stopping(run, leave):
    new, to_the_end = run
    whole, in_parts = new(), new()
    finish(to_the_end(whole))
    try:
        for state in to_the_end(in_parts):
            if state.iteration == 7:
                if leave:
                    raise leave
                break
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert in_parts.losses == whole.losses[:7]
    finish(to_the_end(in_parts))
    assert in_parts.losses == whole.losses
    assert torch.equal(weights(in_parts.model), weights(whole.model))
    assert torch.equal(weights(in_parts.ema_model), weights(whole.ema_model))


def test_a_run_that_is_loaded_goes_its_own_way(run):
    new, to_the_end = run
    undisturbed, original, copied = new(), new(), new(seed=1)
    finish(to_the_end(undisturbed))
    finish(islice(to_the_end(original), 5))
    copied.load_state_dict(original.state_dict())
    assert finish(to_the_end(copied)) == undisturbed.losses
    assert finish(to_the_end(original)) == undisturbed.losses


def test_ctrl_c_in_the_middle_of_an_iteration_keeps_what_was_learnt(digits, schedule):
    def interrupt(x_t):
        raise KeyboardInterrupt

    state = TrainingState(Breaks(5, interrupt))
    start = weights(state.model)
    with pytest.raises(KeyboardInterrupt):
        finish(train(state, schedule, digits, 20, **FAST))
    assert state.iteration == 5 and not torch.equal(weights(state.model), start)
    state.model.calls = 100
    assert len(finish(train(state, schedule, digits, 20, **FAST))) == 20


@pytest.mark.parametrize("begun, diverges_at, restored_to", [(0, 0, 0), (0, 20, 0), (10, 20, 10), (0, 75, 50)])
def test_a_loss_that_is_no_number_brings_the_last_good_weights_back(digits, schedule, begun, diverges_at, restored_to):
    state = TrainingState(Breaks(diverges_at, lambda x_t: x_t * math.nan))
    for _ in islice(train(state, schedule, digits, 100, **FAST), begun):
        pass
    history = {begun: (weights(state.model), weights(state.ema_model))}
    with pytest.raises(TrainingDiverged, match=f"iteration {diverges_at}: the loss became nan.*learning rate") as error:
        for _ in train(state, schedule, digits, 100, **FAST):
            history[state.iteration] = weights(state.model), weights(state.ema_model)
    assert error.value.iteration == diverges_at and state.iteration == restored_to
    assert torch.equal(weights(state.model), history[restored_to][0])
    assert torch.equal(weights(state.ema_model), history[restored_to][1])


def test_an_absurd_learning_rate_is_named_and_a_smaller_one_goes_on_from_there(digits, schedule):
    state = TrainingState(UNet(1, (8, 8)))
    with pytest.raises(TrainingDiverged, match=r"it is 1e\+30; try 1e\+29"):
        finish(train(state, schedule, digits, 50, learning_rate=1e30, **FAST))
    assert weights(state.model).isfinite().all()
    losses = finish(train(state, schedule, digits, 5, **FAST))
    assert len(losses) == 5 and all(map(math.isfinite, losses))


def spoils(state: TrainingState):
    """A prediction whose gradient spoils every weight."""
    return lambda x_t: x_t * math.nan * state.model.unet.stem.bias.sum()


@pytest.mark.parametrize("breaks_at, restored_to, num_iterations", [(20, 0, 100), (75, 50, 80)])
@pytest.mark.usefixtures("a_look_every_50_iterations")
def test_a_loss_that_is_looked_at_late_is_found_all_the_same(digits, schedule, breaks_at, restored_to, num_iterations):
    state = TrainingState(Breaks(breaks_at, None))
    state.model.then = spoils(state)
    with pytest.raises(TrainingDiverged, match=f"at iteration {breaks_at}: .* those of iteration {restored_to}[.]"):
        finish(train(state, schedule, digits, num_iterations, **FAST))
    assert state.iteration == restored_to and weights(state.model).isfinite().all()


@pytest.mark.usefixtures("a_look_every_50_iterations")
def test_leaving_between_two_looks_does_not_leave_spoilt_weights_behind(digits, schedule):
    state = TrainingState(Breaks(5, None))
    state.model.then = spoils(state)
    training = train(state, schedule, digits, 100, **FAST)
    for _ in islice(training, 9):
        pass
    assert not weights(state.model).isfinite().all()
    training.close()
    assert state.iteration == 0 and weights(state.model).isfinite().all()
