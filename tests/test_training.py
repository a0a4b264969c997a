import copy
import math
import subprocess
import sys
import warnings
from itertools import count, islice, repeat

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_core import NoiseSchedule, OutOfMemory, TrainingState, UNet, diffusion_loss, fit, train
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


def test_fit_is_adamw_with_clipped_gradients_a_falling_rate_and_an_average():
    """Ten iterations of a regression beside the same in plain torch."""
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(16, 3, generator=generator), torch.randn(16, 1, generator=generator)) for _ in range(10)]
    torch.manual_seed(1)
    mine = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1))
    theirs, average = copy.deepcopy(mine), torch.optim.swa_utils.AveragedModel(mine, use_buffers=True)
    optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=0.0)
    state = TrainingState(mine)
    fitting = fit(state, lambda batch: F.mse_loss(mine(batch[0]), batch[1]), iter(batches), 10, 0.1, 2, 0.05, 0.4)
    for iteration, (x, y) in enumerate(batches):
        next(fitting)
        loss = F.mse_loss(theirs(x), y)
        loss.backward()
        norm = torch.cat([weight.grad.flatten() for weight in theirs.parameters()]).norm()
        for weight in theirs.parameters():
            weight.grad *= min(1, 0.05 / norm)
        rise, fall = (iteration + 1) / 2, 0.5 * (1 + math.cos(math.pi * (iteration - 2) / 8))
        optimizer.param_groups[0]["lr"] = 0.1 * (rise if iteration < 2 else fall)
        optimizer.step()
        optimizer.zero_grad()
        keep = min(0.4, (1 + iteration) / (10 + iteration))
        for mean, weight in zip(average.module.parameters(), theirs.parameters(), strict=True):
            mean.data = keep * mean.data + (1 - keep) * weight.data
        assert state.losses[-1] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(state.ema_model), weights(average.module), rtol=1e-4, atol=1e-6)
    assert keep == 0.4 and norm > 0.05 and not any(weight.requires_grad for weight in state.ema_model.parameters())
    torch.testing.assert_close(state.ema_model[1].running_var, theirs[1].running_var)
    assert not state.ema_model.training and mine.training


def test_a_state_may_bring_its_own_backward_and_step():
    """As one that computes in half precision does."""
    calls = []

    class Noting(TrainingState):
        def backward(self, loss):
            calls.append(("backward", all(weight.grad is None for weight in self.model.parameters())))
            super().backward(loss)

        def step(self):
            calls.append(("step", weights(self.model).isfinite().all().item()))

    state = Noting(nn.Linear(2, 1))
    before = weights(state.model)
    finish(fit(state, lambda batch: state.model(batch).sum(), repeat(torch.ones(4, 2)), 2))
    assert calls == [("backward", True), ("step", True)] * 2 and torch.equal(weights(state.model), before)


def test_one_picture_is_learnt_by_heart(digits, schedule):
    torch.manual_seed(0)
    state = TrainingState(UNet(1, (8, 8)))
    losses = finish(train(state, schedule, digits[:1], 100, batch_size=16, learning_rate=1e-2, warmup_iterations=10))
    assert losses[0] == pytest.approx(1, abs=0.1)  # a new network predicts 0, and the noise has variance 1
    assert sum(losses[-20:]) / 20 < 0.12
    many, generator = digits[:1].expand(500, 1, 8, 8), torch.Generator().manual_seed(0)
    assert diffusion_loss(state.ema_model, schedule, many, generator) < 0.12


def test_one_seed_gives_one_run_and_another_seed_another(new_run, digits, schedule):
    before = torch.get_rng_state()
    first, again, other = (finish(train(new_run(seed), schedule, digits, 5, **FAST)) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)  # the global randomness is nobody's business


def test_history_has_one_loss_for_each_iteration_and_a_run_that_is_done_stays_as_it_is(new_run, digits, schedule):
    state = new_run()
    seen = [(state.iteration, len(state.losses)) for state in train(state, schedule, digits, 4, **FAST)]
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert list(train(state, schedule, digits, 4, **FAST)) == []


def test_the_learning_rate_rises_to_its_peak_and_falls_to_0(new_run, digits, schedule):
    rates = [learning_rate_at(iteration, 110, peak=0.5, warmup_iterations=10) for iteration in range(111)]
    assert rates[:10] == pytest.approx([0.05 * n for n in range(1, 11)])
    assert [rates[10], rates[60], rates[110]] == pytest.approx([0.5, 0.25, 0])
    assert rates[85] == pytest.approx(0.25 * (1 + math.cos(0.75 * math.pi)))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate_at(0, 100, peak=0.5, warmup_iterations=0) == 0.5
    options = dict(learning_rate=0.01, batch_size=4, warmup_iterations=3)
    used = [state.optimizer.param_groups[0]["lr"] for state in train(new_run(), schedule, digits, 8, **options)]
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
    assert free_norm > 0.1 and norm == pytest.approx(used or free_norm, rel=1e-3)


def test_the_average_moves_by_the_share_it_does_not_keep():
    average, model = nn.Linear(3, 2), nn.Linear(3, 2)
    before, now = weights(average), weights(model)
    update_ema(average, model, ema_decay=0.9)
    torch.testing.assert_close(weights(average), 0.9 * before + 0.1 * now)
    assert torch.equal(weights(model), now)


def test_training_passes_the_weighting_on_to_the_loss(new_run, digits, schedule):
    plain, small = (finish(train(new_run(), schedule, digits, 3, **FAST, min_snr_gamma=gamma)) for gamma in (None, 0.1))
    assert small[0] < 0.9 * plain[0]


class Watches(nn.Module):
    """A network that notes the pictures and the conditions that it is shown."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.seen += zip(x_t.mean(dim=(1, 2, 3)).tolist(), cond.tolist(), strict=True)
        return x_t * self.weight


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0, None])
def test_each_picture_comes_with_its_own_condition_or_with_none_at_all(probability):
    hardly_noisy = NoiseSchedule(torch.full((2,), 1e-5))
    pictures = (torch.arange(20) / 10 - 1)[:, None, None, None].expand(20, 1, 8, 8)  # each of one value
    cond = torch.stack([torch.arange(20), 100 + torch.arange(20)], dim=1)
    state, options = TrainingState(Watches()), {} if probability is None else dict(drop_probability=probability)
    options |= dict(batch_size=200, cond=cond, null_cond=torch.tensor([7, 7]))
    finish(train(state, hardly_noisy, pictures, 20, **options))
    dropped = [heard == [7, 7] for _, heard in state.model.seen]
    for value, heard in state.model.seen:
        row = round((value + 1) * 10)
        assert heard in ([row, 100 + row], [7, 7])
    expected = 0.1 if probability is None else probability
    assert sum(dropped) / 4000 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)


def test_pictures_as_bytes_train_exactly_as_the_floats_that_they_stand_for(new_run, schedule):
    as_bytes = torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_bytes, of_floats = (
        finish(train(new_run(), schedule, pictures, 5, **FAST)) for pictures in (as_bytes, as_bytes.float() / 127.5 - 1)
    )
    assert of_bytes == of_floats


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


def test_latents_are_trained_on_as_they_are_where_they_are_not_bounded(new_run, digits, schedule):
    latents, generator = 3 * digits[:50] + 5, torch.Generator().manual_seed(0)  # from 2 to 8
    rows = torch.randint(50, (8,), generator=generator)
    expected = diffusion_loss(new_run().model, schedule, latents[rows], generator).item()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that none is below 0 means nothing here
        losses = finish(train(new_run(), schedule, latents, 3, bounded=False, **FAST))
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    batches = stream(*[(latents[:8], None)] * 3)
    assert len(finish(train(new_run(), schedule, batches, 3, bounded=False, **FAST))) == 3
    for data in (latents, batches):
        with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]; these go from 2"):
            finish(train(new_run(), schedule, data, 3, **FAST))


def test_vectors_are_trained_on_where_they_are_not_bounded(schedule):
    class Linear(torch.nn.Linear):
        def forward(self, v_t, t):
            return super().forward(v_t)

    torch.manual_seed(0)
    vectors, generator = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.Generator()
    model = Linear(4, 4)
    rows = torch.randint(50, (8,), generator=generator.manual_seed(0))
    expected = diffusion_loss(model, schedule, vectors[rows], generator).item()
    losses = finish(train(TrainingState(model), schedule, vectors, 3, 8, bounded=False))
    assert losses[0] == pytest.approx(expected, rel=1e-5) and len(losses) == 3
    with pytest.raises(ValueError, match=r"pictures must be a tensor of pictures, \(N, C, H, W\); got .*\(50, 4\)"):
        next(train(TrainingState(model), schedule, vectors, 3, 8))
    for wrong in (vectors[0], vectors[None]):
        with pytest.raises(ValueError, match="pictures must be"):
            next(train(TrainingState(model), schedule, wrong, 3, 8, bounded=False))


def test_a_network_in_the_models_place_is_called_instead_of_it(new_run, digits, schedule):
    plain, state, calls = new_run(), new_run(), []

    def network(x_t, t):
        calls.append(len(x_t))
        return state.model(x_t, t)

    assert finish(train(state, schedule, digits, 3, network=network, **FAST)) == finish(
        train(plain, schedule, digits, 3, **FAST)
    )
    assert calls == [8, 8, 8]


@pytest.mark.device
def test_pictures_and_schedule_follow_the_model_to_its_device(digits, schedule, device):
    state = TrainingState(UNet(1, (8, 8)).to(device))
    assert len(finish(train(state, schedule, digits, 3, **FAST))) == 3
    assert len(finish(train(state, schedule, lambda start: repeat((digits[:8], None)), 6, **FAST))) == 6


class Raises(nn.Module):
    """A network that works three times, and then raises."""

    def __init__(self, error: Exception):
        super().__init__()
        self.unet, self.calls, self.error = UNet(1, (8,)), 0, error

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 3:
            raise self.error
        return self.unet(x_t, t)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
    ],
    ids=["GPU", "CPU"],
)
def test_a_batch_too_large_for_the_device_says_what_to_lower_and_keeps_the_run(digits, schedule, error):
    state = TrainingState(Raises(error))
    with pytest.raises(OutOfMemory, match=r"a batch of 8: lower batch_size \(say, to 4\)"):
        finish(train(state, schedule, digits, 10, **FAST))
    assert state.iteration == 3


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory(digits, schedule):
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        finish(train(TrainingState(Raises(RuntimeError("shapes do not fit"))), schedule, digits, 10, **FAST))


@pytest.mark.device
def test_a_batch_that_no_device_holds_is_one_sentence_and_training_goes_on_with_a_smaller_one(digits, device, schedule):
    state = TrainingState(UNet(1, (8, 8)).to(device))
    finish(train(state, schedule, digits, 3, **FAST))
    with pytest.raises(OutOfMemory, match=f"does not hold a batch of {2**50}: lower batch_size"):
        next(train(state, schedule, digits, 6, batch_size=2**50))
    assert len(finish(train(state, schedule, digits, 6, **FAST))) == 6


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a card's allocator can be given a limit; the test below")
def test_a_card_that_is_full_in_the_middle_of_a_batch_is_free_again_for_a_smaller_one(digits, schedule):
    card = torch.device("cuda")
    state = TrainingState(UNet(1, (32, 32)).to(card))
    total = torch.cuda.get_device_properties(card).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 2**30) / total))
    try:
        with pytest.raises(OutOfMemory, match="does not hold a batch of 200000"):
            next(train(state, schedule, digits, 3, batch_size=200_000))
        assert len(finish(train(state, schedule, digits, 3, **FAST))) == 3
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.slow
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


def stream(*batches):
    return lambda start: iter(batches)


def test_a_model_or_betas_in_the_wrong_place_are_named(new_run, digits, schedule):
    with pytest.raises(TypeError, match=r"state must be a TrainingState, such as TrainingState\(model\); got UNet"):
        next(train(UNet(1, (8,)), schedule, digits, 5))
    with pytest.raises(
        TypeError, match=r"schedule must be a NoiseSchedule, such as NoiseSchedule\(betas\); got float32"
    ):
        next(train(new_run(), schedule.betas, digits, 5))
    for seed in (None, "0", 0.5, True):
        with pytest.raises(ValueError, match="seed must be a whole number; got"):
            TrainingState(UNet(1, (8,)), seed)
    with pytest.raises(ValueError, match="seed must lie between"):
        TrainingState(UNet(1, (8,)), 2**64)
    numpys, pythons = TrainingState(UNet(1, (8,)), np.int64(3)), TrainingState(UNet(1, (8,)), 3)
    assert torch.equal(numpys.generator.get_state(), pythons.generator.get_state())
    with pytest.raises(TypeError, match="model must be a Module, such as a UNet; got"):
        TrainingState("unet")


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(pictures=torch.full((4, 1, 8, 8), 2.0)), "pictures must lie in"),
        (dict(pictures=torch.zeros(4, 3, 8, 8) - 1), "x_t has 3 channels"),
        (dict(num_iterations=0), "num_iterations must be a whole number, 1 or more; got 0"),
        (dict(batch_size=2.5), "batch_size must be a whole number, 1 or more; got 2.5"),
        (dict(learning_rate=0), "learning_rate must be a number above 0; got 0"),
        (dict(null_cond=torch.tensor(10)), "null_cond beside it"),
        (dict(pictures=stream((torch.zeros(4, 1, 8, 8), None))), "batches must hold 8 pictures.*got 4"),
        (
            dict(pictures=stream((torch.zeros(8, 1, 8, 8), torch.zeros(8, 1)))),
            "batches with conditions need a null_cond",
        ),
        (dict(pictures=stream((torch.zeros(8, 1, 8, 8), None))), "came to an end; the iterator must be endless"),
        (
            dict(cond=torch.zeros(10, 1), null_cond=torch.zeros(1), drop_probability=2),
            "probability must be a number",
        ),
    ],
)
def test_a_slip_is_named(new_run, digits, schedule, change, words):
    with pytest.raises(ValueError, match=words):
        finish(train(new_run(), schedule, **dict(pictures=digits[:10], num_iterations=5, **FAST) | change))
