import copy
import math
import subprocess
import sys
from itertools import count, islice

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from ddpm_core import (
    NoiseSchedule,
    OutOfMemory,
    TrainingDiverged,
    TrainingState,
    UNet,
    diffusion_loss,
    linear_betas,
    load_digits,
    train,
)
from ddpm_core.training import learning_rate_at, update_ema

FAST = dict(batch_size=8, warmup_iterations=3)


@pytest.fixture
def new_run():
    """Makes runs that start from the same weights."""
    torch.manual_seed(0)
    unet = UNet(1, (8, 8))
    return lambda seed=0: TrainingState(copy.deepcopy(unet), seed)


def finish(training) -> list[float]:
    *_, state = training
    return state.losses


def weights(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


class Breaks(nn.Module):
    """A network that works for a number of calls, and then does something else."""

    def __init__(self, calls: int, then):
        super().__init__()
        self.unet, self.calls, self.then = UNet(1, (8, 8)), calls, then

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls -= 1
        return self.unet(x_t, t) if self.calls >= 0 else self.then(x_t)


def not_a_number(x_t: Tensor) -> Tensor:
    return x_t * torch.nan


def interrupt(x_t: Tensor) -> Tensor:
    raise KeyboardInterrupt


def test_the_loss_is_the_mean_squared_error_of_the_noise(schedule):
    x_0 = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = diffusion_loss(lambda x_t, t: x_t * t[:, None, None, None] / 100, schedule, x_0, torch.manual_seed(2))

    torch.manual_seed(2)
    t, eps = torch.randint(100, (16,)), torch.randn(16, 1, 4, 4)
    total = 0.0
    for row in range(16):
        alpha_bar = schedule.alpha_bars[t[row]]
        x_t = alpha_bar.sqrt() * x_0[row] + (1 - alpha_bar).sqrt() * eps[row]
        total += (x_t * t[row] / 100 - eps[row]).square().sum().item()
    assert loss.shape == ()
    assert loss.item() == pytest.approx(total / (16 * 4 * 4), rel=1e-5)


def test_the_loss_asks_about_every_timestep(schedule):
    asked = []

    def eps_model(x_t, t):
        asked.extend(t.tolist())
        return x_t

    diffusion_loss(eps_model, schedule, torch.zeros(2000, 1), torch.Generator().manual_seed(0))
    assert set(asked) == set(range(100))


def test_one_picture_is_learnt_by_heart(digits, schedule):
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8, 8)))
    losses = finish(train(state, schedule, digits[:1], 100, batch_size=16, learning_rate=1e-2, warmup_iterations=10))
    assert losses[0] == pytest.approx(1, abs=0.1)  # a new network predicts 0, and the noise has variance 1
    assert sum(losses[-20:]) / 20 < 0.12
    many, generator = digits[:1].expand(500, 1, 8, 8), torch.Generator().manual_seed(0)
    assert diffusion_loss(state.ema_model, schedule, many, generator) < 0.12


def test_one_seed_gives_one_run_and_another_seed_another(new_run, digits, schedule):
    first, again, other = (finish(train(new_run(seed), schedule, digits, 5, **FAST)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_training_does_not_touch_the_global_randomness(new_run, digits, schedule):
    state, before = new_run(), torch.get_rng_state()
    finish(train(state, schedule, digits, 3, **FAST))
    assert torch.equal(torch.get_rng_state(), before)


def test_history_has_one_loss_for_each_iteration(new_run, digits, schedule):
    seen = [(state.iteration, len(state.losses)) for state in train(new_run(), schedule, digits, 4, **FAST)]
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_run_that_is_done_stays_as_it_is(new_run, digits, schedule):
    state = new_run()
    finish(train(state, schedule, digits, 3, **FAST))
    assert list(train(state, schedule, digits, 3, **FAST)) == []


@pytest.mark.parametrize("leave", [RuntimeError, KeyboardInterrupt, None], ids=["error", "Ctrl-C", "break"])
def test_leaving_the_loop_and_going_on_equals_never_stopping(new_run, digits, schedule, leave):
    whole, in_parts = new_run(), new_run()
    finish(train(whole, schedule, digits, 12, **FAST))
    try:
        for state in train(in_parts, schedule, digits, 12, **FAST):
            if state.iteration == 7:
                if leave:
                    raise leave
                break
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert in_parts.losses == whole.losses[:7]
    finish(train(in_parts, schedule, digits, 12, **FAST))
    assert in_parts.losses == whole.losses
    assert torch.equal(weights(in_parts.model), weights(whole.model))
    assert torch.equal(weights(in_parts.ema_model), weights(whole.ema_model))


def test_ctrl_c_in_the_middle_of_an_iteration_keeps_what_was_learnt(digits, schedule):
    state = TrainingState(Breaks(5, interrupt))
    start = weights(state.model)
    with pytest.raises(KeyboardInterrupt):
        finish(train(state, schedule, digits, 20, **FAST))
    assert state.iteration == 5
    assert not torch.equal(weights(state.model), start)
    state.model.calls = 100
    assert len(finish(train(state, schedule, digits, 20, **FAST))) == 20


def test_a_run_that_is_loaded_goes_its_own_way(new_run, digits, schedule):
    undisturbed, original, copied = new_run(), new_run(), new_run(seed=1)
    finish(train(undisturbed, schedule, digits, 10, **FAST))
    finish(islice(train(original, schedule, digits, 10, **FAST), 5))
    copied.load_state_dict(original.state_dict())
    assert finish(train(copied, schedule, digits, 10, **FAST)) == undisturbed.losses
    assert finish(train(original, schedule, digits, 10, **FAST)) == undisturbed.losses


def test_the_learning_rate_rises_to_its_peak_and_falls_to_0():
    rates = [learning_rate_at(iteration, 110, peak=0.5, warmup_iterations=10) for iteration in range(111)]
    assert rates[:10] == pytest.approx([0.05 * n for n in range(1, 11)])
    assert rates[10] == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert rates[85] == pytest.approx(0.25 * (1 + math.cos(0.75 * math.pi)))
    assert rates[110] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate_at(0, 100, peak=0.5, warmup_iterations=0) == 0.5


def test_training_follows_the_learning_rate(new_run, digits, schedule):
    used = [
        state.optimizer.param_groups[0]["lr"]
        for state in train(new_run(), schedule, digits, 8, learning_rate=0.01, batch_size=4, warmup_iterations=3)
    ]
    assert used == [learning_rate_at(iteration, 8, 0.01, 3) for iteration in range(8)]


@pytest.mark.parametrize("limit, used", [(0.01, 0.01), (1e9, None)])
def test_long_gradients_are_shortened_and_others_left_alone(new_run, digits, schedule, limit, used):
    state, generator = new_run(), torch.Generator().manual_seed(0)
    rows = torch.randint(len(digits), (8,), generator=generator)
    free = new_run().model
    diffusion_loss(free, schedule, digits[rows], generator).backward()
    free_norm = nn.utils.get_total_norm([weight.grad for weight in free.parameters()]).item()

    next(train(state, schedule, digits, 10, max_grad_norm=limit, **FAST))
    norm = nn.utils.get_total_norm([weight.grad for weight in state.model.parameters()]).item()
    assert free_norm > 0.1
    assert norm == pytest.approx(used or free_norm, rel=1e-3)


def test_the_average_moves_by_the_share_it_does_not_keep():
    average, model = nn.Linear(3, 2), nn.Linear(3, 2)
    before, now = weights(average), weights(model)
    update_ema(average, model, ema_decay=0.9)
    torch.testing.assert_close(weights(average), 0.9 * before + 0.1 * now)
    assert torch.equal(weights(model), now)


def test_the_average_follows_training_and_forgets_faster_while_it_is_young(new_run, digits, schedule):
    state = new_run()
    expected = weights(state.model)
    for _ in train(state, schedule, digits, 30, ema_decay=0.7, **FAST):
        decay = min(0.7, state.iteration / (state.iteration + 9))
        expected = decay * expected + (1 - decay) * weights(state.model)
        torch.testing.assert_close(weights(state.ema_model), expected)
    assert decay == 0.7  # so both forms were used
    assert not any(weight.requires_grad for weight in state.ema_model.parameters())


@pytest.mark.parametrize("begun, diverges_at, restored_to", [(0, 0, 0), (0, 20, 0), (10, 20, 10), (0, 75, 50)])
def test_a_loss_that_is_no_number_stops_training_and_brings_the_last_good_weights_back(
    digits, schedule, begun, diverges_at, restored_to
):
    torch.manual_seed(0)
    state = TrainingState(Breaks(diverges_at, not_a_number))
    for _ in islice(train(state, schedule, digits, 100, **FAST), begun):
        pass
    history = {begun: (weights(state.model), weights(state.ema_model))}
    message = (
        f"iteration {diverges_at}: the loss became nan.* iteration {restored_to}[.].*learning rate .*0.003; try 0.0003"
    )
    with pytest.raises(TrainingDiverged, match=message):
        for _ in train(state, schedule, digits, 100, **FAST):
            history[state.iteration] = weights(state.model), weights(state.ema_model)
    assert state.iteration == restored_to
    good, good_average = history[restored_to]
    assert torch.equal(weights(state.model), good)
    assert torch.equal(weights(state.ema_model), good_average)


def test_an_absurd_learning_rate_is_named_and_a_smaller_one_goes_on_from_there(new_run, digits, schedule):
    state = new_run()
    with pytest.raises(TrainingDiverged, match=r"learning rate that is too high \(it is 1e\+30"):
        finish(train(state, schedule, digits, 50, learning_rate=1e30, **FAST))
    assert weights(state.model).isfinite().all()
    losses = finish(train(state, schedule, digits, 5, **FAST))
    assert len(losses) == 5
    assert all(map(math.isfinite, losses))


@pytest.mark.parametrize(
    "spoil, error, message",
    [
        (lambda x: x * 2, ValueError, r"pictures must lie in \[-1, 1\]; these go from -2 to 2\.$"),
        (lambda x: (x + 1) / 2 * 255, ValueError, r"these go from 0 to 255\. For values 0..255: pictures / 127.5 - 1$"),
        (lambda x: x + 1, ValueError, r"pictures must lie in \[-1, 1\]; these go from 0 to 2\.$"),
        (lambda x: x * torch.nan, ValueError, r"pictures must lie in \[-1, 1\]; these go from nan to nan"),
        (lambda x: x.to(torch.int64), TypeError, r"pictures must be floats in \[-1, 1\]; got int64 .*/ 127.5 - 1"),
        (lambda x: x[0], ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\); got .*\(1, 8, 8\)"),
        (lambda x: x[:0], ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\); got .*\(0, 1, 8, 8\)"),
        (lambda x: x.numpy(), ValueError, r"pictures must be a tensor of pictures, \(N, C, H, W\); got .*ndarray"),
        (lambda x: x.expand(-1, 3, 8, 8), ValueError, "x_t has 3 channels, .* in_channels=1"),
        (lambda x: F.pad(x, (0, 1)), ValueError, "pictures of 8x9 cannot be halved once"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(new_run, digits, schedule, spoil, error, message):
    with pytest.raises(error, match=message):
        next(train(new_run(), schedule, spoil(digits[:4]), 5))


@pytest.mark.parametrize("returned", [None, torch.zeros(4, 1, 8, 8), torch.zeros(8, 1, 8, 7)], ids=str)
def test_a_network_that_returns_something_else_is_refused(digits, schedule, returned):
    state = TrainingState(Breaks(0, lambda x_t: returned))
    with pytest.raises(ValueError, match=r"eps_model must return a tensor of x_t's shape \(8, 1, 8, 8\); got "):
        next(train(state, schedule, digits, 5, batch_size=8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pictures_and_schedule_follow_the_model_to_its_device(digits, schedule):
    state = TrainingState(UNet(1, (8, 8)).cuda())
    assert len(finish(train(state, schedule, digits, 3, **FAST))) == 3


def test_pictures_between_0_and_1_are_trained_on_with_a_warning(digits, schedule):
    state = TrainingState(UNet(1, (8,)))
    with pytest.warns(UserWarning, match=r"no value of pictures is below 0; if they are in \[0, 1\]"):
        next(train(state, schedule, (digits + 1) / 2, 1))
    assert state.iteration == 1


@pytest.mark.parametrize("num_iterations", [0, -1, 2.5])
def test_a_number_of_iterations_that_is_no_whole_number_is_refused(num_iterations, digits, schedule):
    with pytest.raises(ValueError, match="num_iterations must be a whole number, 1 or more; got"):
        next(train(TrainingState(UNet(1, (8,))), schedule, digits, num_iterations))


def test_a_timestep_with_no_signal_left_counts_fully():
    schedule = NoiseSchedule(linear_betas(10))
    schedule.alpha_bars[:] = 0
    loss = diffusion_loss(lambda x_t, t: x_t + 2, schedule, torch.ones(8, 1, 4, 4), min_snr_gamma=1.0)
    assert loss.item() == pytest.approx(4)


def test_a_null_condition_without_conditions_is_refused(digits, schedule):
    with pytest.raises(ValueError, match=r"cond must have one row for each of the .* and null_cond beside it"):
        next(train(TrainingState(UNet(1, (8,))), schedule, digits, 1, null_cond=torch.tensor(10)))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_a_batch_size_that_is_no_whole_number_is_refused(batch_size, digits, schedule):
    with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more; got"):
        next(train(TrainingState(UNet(1, (8,))), schedule, digits, 1, batch_size))


def tenth(x_t: Tensor, t: Tensor) -> Tensor:
    return x_t * t[:, None, None, None] / 10


def loss_with(gamma: float | None, schedule: NoiseSchedule) -> Tensor:
    x_0 = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return diffusion_loss(tenth, schedule, x_0, torch.Generator().manual_seed(2), gamma)


@pytest.mark.parametrize("gamma", [1, 2.5, 5.0])
def test_min_snr_weights_are_those_of_diffusers(gamma, schedule):
    generator = torch.Generator().manual_seed(2)
    x_0 = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    t = torch.randint(100, (64,), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    peer = DDPMScheduler(100, trained_betas=schedule.betas.numpy())
    eps_hat = tenth(peer.add_noise(x_0, eps, t), t)
    snr = compute_snr(peer, t)
    weights = torch.stack([snr, torch.full_like(snr, gamma)], dim=1).min(dim=1).values / snr  # for eps prediction
    expected = ((eps_hat - eps).square().mean(dim=(1, 2, 3)) * weights).mean()
    assert snr.min() < gamma < snr.max()
    torch.testing.assert_close(loss_with(gamma, schedule), expected, rtol=1e-4, atol=0)


def test_without_a_limit_or_with_one_above_all_ratios_every_timestep_weighs_the_same(schedule):
    torch.testing.assert_close(loss_with(1e9, schedule), loss_with(None, schedule))
    assert loss_with(1, schedule) < 0.9 * loss_with(None, schedule)


def test_training_passes_the_limit_on_to_the_loss(new_run, digits, schedule):
    plain, huge, small = (
        finish(train(new_run(), schedule, digits, 3, **FAST, min_snr_gamma=gamma)) for gamma in (None, 1e9, 0.1)
    )
    assert huge == pytest.approx(plain, rel=1e-4)
    assert small[0] < 0.9 * plain[0]


class Watches(nn.Module):
    """A network that notes the pictures and the conditions that it is shown."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.seen += zip(x_t.mean(dim=(1, 2, 3)).tolist(), cond.tolist(), strict=True)
        return x_t * self.weight


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0, None])
def test_each_picture_comes_with_its_own_condition_or_with_none_at_all(probability):
    hardly_noisy = NoiseSchedule(torch.full((2,), 1e-5))
    pictures = (torch.arange(20) / 10 - 1)[:, None, None, None].expand(20, 1, 8, 8)  # each of one value
    cond = torch.stack([torch.arange(20), 100 + torch.arange(20)], dim=1)
    state, options = TrainingState(Watches()), {} if probability is None else dict(drop_probability=probability)
    finish(
        train(state, hardly_noisy, pictures, 20, batch_size=200, cond=cond, null_cond=torch.tensor([7, 7]), **options)
    )
    dropped = [heard == [7, 7] for _, heard in state.model.seen]
    for value, heard in state.model.seen:
        row = round((value + 1) * 10)
        assert heard in ([row, 100 + row], [7, 7])
    expected = 0.1 if probability is None else probability
    assert sum(dropped) / 4000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)


class Labelled(nn.Module):
    """A network that is told a digit; 10 stands for no digit."""

    def __init__(self):
        super().__init__()
        self.unet, self.digit = UNet(1, (8, 8), context_dim=8), nn.Embedding(11, 8)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.unet(x_t, t, self.digit(cond)[:, None], torch.zeros(len(cond), 1, dtype=torch.bool))


def test_leaving_a_run_with_conditions_and_going_on_equals_never_stopping(schedule):
    pictures, labels = load_digits("train")
    torch.manual_seed(0)
    model = Labelled()
    whole, in_parts, copied = (TrainingState(copy.deepcopy(model), seed) for seed in (0, 0, 1))
    options = dict(cond=labels, null_cond=torch.tensor(10), drop_probability=0.3, min_snr_gamma=2.0, **FAST)
    finish(train(whole, schedule, pictures, 10, **options))
    finish(islice(train(in_parts, schedule, pictures, 10, **options), 4))
    copied.load_state_dict(in_parts.state_dict())
    for state in (in_parts, copied):
        assert finish(train(state, schedule, pictures, 10, **options)) == whole.losses
        assert torch.equal(weights(state.model), weights(whole.model))
        assert torch.equal(weights(state.ema_model), weights(whole.ema_model))


def test_conditions_change_what_is_learnt(schedule):
    pictures, labels = load_digits("train")
    torch.manual_seed(0)
    model = Labelled()
    losses = [
        finish(train(TrainingState(copy.deepcopy(model)), schedule, pictures, 8, cond=cond, null_cond=torch.tensor(10)))
        for cond in (labels, torch.full_like(labels, 10))
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "cond, null_cond, message",
    [
        (torch.zeros(9, 2), torch.zeros(2), r"one row for each of the 10 pictures, .*; got float32 tensor .*\(9, 2\)"),
        (torch.zeros(10, 2), None, r"and null_cond beside it; got float32 tensor of shape \(10, 2\) and None"),
        (torch.zeros(10, 2), torch.zeros(3), r"null_cond must have the shape of one condition, \(2,\); got .*\(3,\)"),
    ],
)
def test_conditions_that_do_not_fit_the_pictures_are_refused(digits, schedule, cond, null_cond, message):
    with pytest.raises(ValueError, match=message):
        next(train(TrainingState(Watches()), schedule, digits[:10], 1, cond=cond, null_cond=null_cond))


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_share_of_dropped_conditions_that_is_no_share_is_refused(digits, schedule, probability):
    options = dict(cond=torch.zeros(10, 2), null_cond=torch.zeros(2), drop_probability=probability)
    with pytest.raises(ValueError, match="probability must lie between 0 and 1; got"):
        next(train(TrainingState(Watches()), schedule, digits[:10], 1, **options))


@pytest.mark.parametrize("gamma", [0, -1.0, math.nan])
def test_a_limit_of_the_ratio_that_is_not_above_0_is_refused(gamma, schedule):
    with pytest.raises(ValueError, match="min_snr_gamma must be above 0; got"):
        loss_with(gamma, schedule)


def test_pictures_as_bytes_train_exactly_as_the_floats_that_they_stand_for(new_run, schedule):
    as_bytes = torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    floats = as_bytes.float() / 127.5 - 1
    assert finish(train(new_run(), schedule, as_bytes, 5, **FAST)) == finish(
        train(new_run(), schedule, floats, 5, **FAST)
    )


def test_batches_from_a_function_are_trained_on_from_the_one_that_is_next(new_run, digits, schedule):
    asked = []

    def batches(start):
        asked.append(start)
        for number in count(start):
            yield digits[8 * number : 8 * number + 8], None

    whole, in_parts = new_run(), new_run()
    finish(train(whole, schedule, batches, 10, **FAST))
    for _ in islice(train(in_parts, schedule, batches, 10, **FAST), 4):
        pass
    finish(train(in_parts, schedule, batches, 10, **FAST))
    assert asked == [0, 0, 4]
    assert in_parts.losses == whole.losses and len(set(whole.losses)) == 10


def test_batches_with_conditions_and_no_null_condition_are_refused(new_run, digits, schedule):
    def batches(start):
        yield digits[:8], torch.zeros(8, 1)

    with pytest.raises(ValueError, match="batches with conditions need a null_cond"):
        finish(train(new_run(), schedule, batches, 10, **FAST))


@pytest.mark.parametrize(
    "batches, message",
    [
        (lambda start: iter([(torch.zeros(4, 1, 8, 8), None)]), "batches must hold 8 pictures, .* got 4"),
        (lambda start: iter([(torch.zeros(8, 1, 8, 8), None)]), "the batches came to an end; the iterator must be"),
    ],
)
def test_batches_of_another_size_or_with_an_end_are_refused(new_run, schedule, batches, message):
    with pytest.raises(ValueError, match=message):
        finish(train(new_run(), schedule, batches, 10, **FAST))


def test_conditions_beside_a_function_are_refused(new_run, schedule):
    with pytest.raises(ValueError, match="cond goes with a tensor of pictures"):
        next(train(new_run(), schedule, lambda start: iter([]), 10, cond=torch.zeros(8, 1), **FAST))


@pytest.mark.parametrize("learning_rate", [0, -1, math.nan, math.inf])
def test_a_learning_rate_that_is_none_is_refused(new_run, digits, schedule, learning_rate):
    with pytest.raises(ValueError, match="learning_rate must be a number above 0; got"):
        next(train(new_run(), schedule, digits, 10, learning_rate=learning_rate, **FAST))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_it_and_learns_the_same(new_run, digits, schedule, precision):
    seen = set()
    exact, state = new_run(), TrainingState(new_run().model, precision=precision)
    state.model.stem.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    reference = finish(train(exact, schedule, digits, 30, **FAST))
    losses = finish(train(state, schedule, digits, 30, **FAST))
    assert seen == {precision}
    assert all(weight.dtype == torch.float32 for weight in state.model.parameters())
    assert losses != reference and losses == pytest.approx(reference, rel=0.05)
    assert state.scaler.is_enabled() == (precision == torch.float16)


def test_float16_that_is_stopped_goes_on_with_the_same_scale(new_run, digits, schedule):
    half = dict(precision=torch.float16)
    whole, first, second = (TrainingState(new_run().model, **half) for _ in range(3))
    finish(train(whole, schedule, digits, 8, **FAST))
    finish(islice(train(first, schedule, digits, 8, **FAST), 5))
    second.load_state_dict(first.state_dict())
    assert second.scaler.state_dict() == first.scaler.state_dict() != {}
    assert finish(train(second, schedule, digits, 8, **FAST)) == whole.losses


def test_a_gradient_too_large_for_float16_leaves_the_weights_alone_and_lowers_the_scale(digits, schedule):
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8, 8)), precision=torch.float16)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    before = weights(state.model)
    finish(islice(train(state, schedule, digits, 100, **FAST), 3))
    assert torch.equal(weights(state.model), before) and state.scaler.get_scale() == 2.0**57


def test_a_precision_that_is_none_of_ours_is_refused():
    with pytest.raises(ValueError, match=r"precision must be torch\.float32, .* or torch\.float16; got torch\.float64"):
        TrainingState(UNet(1, (8,)), precision=torch.float64)


@pytest.mark.parametrize("breaks_at, restored_to, num_iterations", [(20, 0, 100), (75, 50, 100), (75, 50, 80)])
@pytest.mark.usefixtures("a_look_every_50_iterations")
def test_a_loss_that_is_looked_at_late_is_found_all_the_same(digits, schedule, breaks_at, restored_to, num_iterations):
    state = TrainingState(Breaks(breaks_at, lambda x_t: x_t * torch.nan * state.model.unet.stem.bias.sum()))
    with pytest.raises(TrainingDiverged, match=f"at iteration {breaks_at}: .* those of iteration {restored_to}[.]"):
        finish(train(state, schedule, digits, num_iterations, **FAST))
    assert state.iteration == restored_to and weights(state.model).isfinite().all()


@pytest.mark.usefixtures("a_look_every_50_iterations")
def test_leaving_between_two_looks_does_not_leave_spoilt_weights_behind(digits, schedule):
    state = TrainingState(Breaks(5, lambda x_t: x_t * torch.nan * state.model.unet.stem.bias.sum()))
    training = train(state, schedule, digits, 100, **FAST)
    for _ in islice(training, 9):
        pass
    assert not weights(state.model).isfinite().all()
    training.close()
    assert state.iteration == 0 and weights(state.model).isfinite().all()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
    ],
)
def test_a_batch_too_large_for_the_device_says_what_to_lower_and_keeps_the_run(digits, schedule, error):
    def fail(x_t):
        raise error

    state = TrainingState(Breaks(3, fail))
    message = r"does not hold a batch of 8: lower batch_size \(say, to 4\).* What was learnt before is kept"
    with pytest.raises(OutOfMemory, match=message):
        finish(train(state, schedule, digits, 10, **FAST))
    assert state.iteration == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_a_real_lack_of_memory_is_told_as_one():
    program = """
import resource, torch
from ddpm_core import NoiseSchedule, OutOfMemory, TrainingState, UNet, cosine_betas, train
state, pictures = TrainingState(UNet(1, (8,))), torch.zeros(10, 1, 8, 8) - 1
next(train(state, NoiseSchedule(cosine_betas(10)), pictures, 2, batch_size=8))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, used + 10**9))
try:
    next(train(state, NoiseSchedule(cosine_betas(10)), pictures, 2, batch_size=10**7))
except OutOfMemory as error:
    print(state.iteration, error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.startswith("1 the memory of the device does not hold a batch of 10000000"), result.stderr


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory(digits, schedule):
    def fail(x_t):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        finish(train(TrainingState(Breaks(0, fail)), schedule, digits, 10, **FAST))
