"""The examiners of the two loops that the learner repairs, repaired_sampler and repaired_loop.

What a loop does is told from what it asks its network and what it makes of the answers, however it is written.
"""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import (
    COUNTED_FROM_1,
    ON_T_STEPS,
    SCHEDULE,
    Answer,
    NotYet,
    T,
    check_output,
    noise,
)
from ddpm_core.course.exercises.draws import check_mixing, check_noise, check_steps, compared_with, same
from ddpm_core.support.guards import describe

# ---- repaired_sampler ------------------------------------------------------------------------------------------------


class _Witness:
    """A network that remembers what it was asked. Its answers depend on x_t and t, but not linearly."""

    def __init__(self):
        self.asked: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x_t: Tensor, t: Tensor | None = None) -> Tensor:
        if not isinstance(x_t, Tensor) or x_t.ndim != 4:
            raise NotYet(f"eps_model needs pictures x_t (B, C, H, W) and then t; its x_t is {describe(x_t)}.")
        if not isinstance(t, Tensor) or t.shape != (len(x_t),) or t.dtype != torch.long:
            raise NotYet(f"eps_model needs t as a long tensor (B,), one step per picture; it got {describe(t)}.")
        self.asked.append((x_t.detach().float().clone(), t.clone()))
        return self.eps_hat(x_t, t)

    @staticmethod
    def eps_hat(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.sin(2 * x_t + t.reshape(-1, 1, 1, 1))


def examine_sampler(answer: Answer) -> str | None:
    """Returns a note on an answer that is right, but has the other variance; else as every examiner."""
    x_T = noise(2000, 1, 4, 4, seed=9)

    def draw(seed: int, witness: _Witness) -> Tensor:
        return check_output(answer(witness, SCHEDULE, x_T, torch.Generator().manual_seed(seed)), x_T)

    witness = _Witness()
    x_0 = draw(0, witness)
    _check_questions(witness.asked, x_T)
    chain = [*(x_t for x_t, _ in witness.asked), x_0]
    if not all(x_t.isfinite().all() for x_t in chain):
        raise NotYet("some of the numbers in x_t are NaN or infinite: is there a root of a negative number?")
    fresh = {T - 1 - i: chain[i + 1] - _mean(chain[i], T - 1 - i) for i in range(T)}  # t: what was added to the mean
    for t in range(T - 1, 0, -1):
        if same(fresh[t], fresh[t][:1].expand_as(fresh[t])) and fresh[t].std() > 1e-3:
            raise NotYet("all pictures of the batch get the same fresh noise: draw it in the shape of the batch.")
        _check_mean(chain[T - 1 - t], chain[T - t], t)
        if t == T - 1 and _correlation(fresh[t], fresh[t - 1]) > 0.9:  # before x_t, which then has it, looks wrong
            raise NotYet("the noise is the same at every step: draw it inside the loop, anew for each step.")
    note = _check_deviations({t: fresh[t].std().item() for t in range(1, T)})
    _check_last_step(x_0, chain[-2])
    if not torch.equal(draw(0, _Witness()), x_0):
        raise NotYet("the same generator, seeded the same, gives other pictures: hand it on, generator=generator.")
    if torch.equal(draw(1, _Witness()), x_0):
        raise NotYet("the fresh noise is the same for every generator: hand it on, generator=generator.")
    return note


def _check_questions(asked: list[tuple[Tensor, Tensor]], x_T: Tensor) -> None:
    """Was eps_model asked once per step, at the right timesteps, beginning with x_T?"""
    if not asked:
        raise NotYet("eps_model is never asked: eps_hat = eps_model(x_t, t).")
    for x_t, _ in asked:
        if x_t.shape != x_T.shape:
            raise NotYet(
                f"eps_model is given x_t of shape {tuple(x_t.shape)}; like x_T it should be {tuple(x_T.shape)}."
            )
    if not torch.equal(asked[0][0], x_T):
        raise NotYet("the first x_t that eps_model is given is not x_T: the loop begins with x_T as it is.")
    if len(asked) != T:
        raise NotYet(f"{ON_T_STEPS} eps_model is asked {len(asked)} times; it should be once per step.")
    if any((t != t[0]).any() for _, t in asked):
        raise NotYet("the pictures of the batch are told different steps; in sampling all of them are at the same t.")
    told = [int(t[0]) for _, t in asked]
    if told == list(range(T)):
        raise NotYet(
            f"{ON_T_STEPS} eps_model is told 0, 1, ..., {T - 1}, the number of the step, in place of the timestep. "
            f"x_T is all noise, so that the network should hear {T - 1} first, then {T - 2}, and so on down to 0."
        )
    if told == list(range(T, 0, -1)):
        raise NotYet(f"{ON_T_STEPS} eps_model is told {T} down to 1. Steps are counted from 0: {T - 1} down to 0.")
    if len(set(told)) == 1:
        raise NotYet(f"{ON_T_STEPS} eps_model is told t = {told[0]} at every step; it should be {T - 1} down to 0.")
    if told != list(range(T - 1, -1, -1)):
        steps = f"t = {told[0]}, {told[1]}, ..., {told[-1]}"
        raise NotYet(f"{ON_T_STEPS} eps_model is told {steps}; it should be {T - 1} down to 0.")


def _mean(x_t: Tensor, t: int, step: int | None = None) -> Tensor:
    """Where Algorithm 2 leads from x_t without fresh noise. step: whose alpha, beta and alpha_bar; None: those of t."""
    step = t if step is None else step
    eps_hat = _Witness.eps_hat(x_t, torch.full((len(x_t),), t))
    share = SCHEDULE.betas[step] / (1 - SCHEDULE.alpha_bars[step]).sqrt()
    return (x_t - share * eps_hat) / SCHEDULE.alphas[step].sqrt()


_THE_MEAN = "(x_t - beta / sqrt(1 - alpha_bar) * eps_hat) / sqrt(alpha)"


def _check_mean(x_t: Tensor, x_before: Tensor, t: int) -> None:
    if _is_mean(_mean(x_t, t), x_t, x_before, t):
        return
    for step, why in (
        (T - 1 - t, "the two count in opposite directions. Use the same number for both."),
        (t - 1, "use the same number for both."),
    ):
        if _is_mean(_mean(x_t, t, step), x_t, x_before, t):
            raise NotYet(
                f"{ON_T_STEPS} eps_model is told t = {t}, but alpha, beta and alpha_bar are those of t = {step}: {why}"
            )
    raise NotYet(f"{ON_T_STEPS} the step from t = {t} does not lead to {_THE_MEAN}, with fresh noise added to that.")


def _is_mean(mean: Tensor, x_t: Tensor, x_before: Tensor, t: int) -> bool:
    """What is added to the mean must know nothing of x_t and eps_hat: fitted to them, it gets factors of about 0."""
    added = x_before - mean
    known = torch.stack([x_t, _Witness.eps_hat(x_t, torch.full((len(x_t),), t)), torch.ones_like(x_t)])
    A, b = known.flatten(1).T.double(), added.flatten().double()
    factors = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    spread = (b - A @ factors).std() * torch.linalg.pinv(A.T @ A).diagonal().sqrt()  # of each factor, by chance
    return bool((factors.abs() <= 7 * spread + 1e-3).all())


def _check_deviations(measured: dict[int, float]) -> str | None:
    """Is the fresh noise as strong as sqrt(beta), or as the root of the posterior's variance, at every step but 0?

    Returns a note where it is the second.
    """
    beta = SCHEDULE.betas
    posterior = SCHEDULE.beta_bars_prev / SCHEDULE.beta_bars * beta

    def are(deviations: Tensor) -> bool:
        return all(abs(measured[t] - deviations[t].item()) < 0.03 * deviations[t].item() + 1e-4 for t in measured)

    if are(beta.sqrt()):
        return None
    if are(posterior.sqrt()):
        return "with the posterior's variance; the exercise asked for beta"
    left_out = [t for t in measured if measured[t] < 1e-4]
    if left_out == [1]:
        raise NotYet(f"{ON_T_STEPS} {COUNTED_FROM_1}")
    if left_out == [T - 1]:
        raise NotYet(
            f"{ON_T_STEPS} z is left out in the first step, t = {T - 1}; it should be left out in the last, t = 0, and "
            "nowhere else. `step` counts up: ask about t."
        )
    if are(0 * beta):
        raise NotYet("no fresh noise comes in: add sqrt(beta) * z at every step but the last.")
    if are(beta) or are(posterior):
        raise NotYet(
            "z is multiplied with the variance; it should be its root, the deviation: sqrt(beta). A variance below 1 "
            "is smaller than its root, so that too little fresh noise comes in."
        )
    if are(torch.ones_like(beta)):
        raise NotYet("z comes in at full strength: it gets the factor sqrt(beta).")
    t = max(measured, key=lambda t: abs(measured[t] / beta[t].sqrt().item() - 1))
    raise NotYet(
        f"{ON_T_STEPS} the fresh noise in the step from t = {t} has the deviation {measured[t]:.3g}; it should be "
        f"sqrt(beta), {beta[t].sqrt():.3g}."
    )


def _check_last_step(x_0: Tensor, x_1: Tensor) -> None:
    mean = _mean(x_1, 0)
    if same(x_0, mean) or same(x_0, mean.clamp(-1, 1)):
        return
    added = x_0 - mean
    deviation = added.std().item()
    if abs(added.mean().item()) < 0.1 * deviation and 0.5 < deviation / SCHEDULE.betas[0].sqrt().item() < 2:
        raise NotYet(
            f"noise is added at the last step, t = 0, too, of deviation {deviation:.2g}. Nothing comes after it that "
            "could take this noise away: the last step returns the mean alone."
        )
    raise NotYet(f"the last step, from t = 0, does not lead to {_THE_MEAN}, as it should, without fresh noise.")


def _correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


# ---- repaired_loop ---------------------------------------------------------------------------------------------------


class _Learner(torch.nn.Module):
    """A network whose answers are its weights, one for each number of a batch.

    So a step of gradient descent changes each answer by the slope of the loss there, which tells what the answer was
    compared with.
    """

    def __init__(self, shape: torch.Size, answer: float):
        super().__init__()
        self.answers = torch.nn.Parameter(torch.full(shape, answer))
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []  # x_t, t, and what it answered

    def forward(self, x_t: Tensor, t: Tensor | None = None) -> Tensor:
        if not isinstance(x_t, Tensor) or not isinstance(t, Tensor):
            raise NotYet(f"eps_model is asked with x_t and t, two tensors; it got {describe(x_t)} and {describe(t)}.")
        if x_t.shape != self.answers.shape:
            raise NotYet(
                f"eps_model is given x_t of shape {tuple(x_t.shape)}; for this batch it should be "
                f"{tuple(self.answers.shape)}."
            )
        self.asked.append((x_t.detach().float().clone(), t.clone(), self.answers.detach().clone()))
        return 1 * self.answers


_BATCHES = [noise(1000, 1, 4, 4, seed=seed).tanh() for seed in range(20, 24)]
_N = _BATCHES[0].numel()
_RATE = 1 / 16  # an answer goes this share of the slope, which is 2 (eps_hat - eps)


class _Run:
    """What the learner's loop does with a network that begins by answering the same number everywhere."""

    def __init__(self, answer: Answer, first: float, seed: int = 0):
        model = _Learner(_BATCHES[0].shape, first)
        optimizer = torch.optim.SGD(model.parameters(), lr=_RATE * _N)
        batches = [x_0.clone() for x_0 in _BATCHES]
        steps: list[object] = []
        optimizer.register_step_post_hook(lambda *arguments: steps.append(arguments))
        losses = answer(model, SCHEDULE, batches, optimizer, torch.Generator().manual_seed(seed))
        self.losses = _checked_losses(losses)
        if not all(map(torch.equal, batches, _BATCHES)):
            raise NotYet("it changes the batches in place. They are the training data: make a new tensor.")
        if len(model.asked) != len(_BATCHES):
            raise NotYet(
                f"of {len(_BATCHES)} batches eps_model is asked {len(model.asked)} times; it should be once per batch."
            )
        if len(steps) > len(_BATCHES):
            raise NotYet(
                f"for {len(_BATCHES)} batches optimizer.step() is called {len(steps)} times; it should be once per "
                "batch."
            )
        self.x_t, self.t, self.answers = map(list, zip(*model.asked, strict=True))
        after = [*self.answers[1:], model.answers.detach()]
        self.slopes = [(a - b) / _RATE for a, b in zip(self.answers, after, strict=True)]  # those that it went down


def _checked_losses(losses: object) -> list[float]:
    """The losses as floats. Raises NotYet where they are no list with one number per batch."""
    if not isinstance(losses, list) or len(losses) != len(_BATCHES):
        raise NotYet(
            f"it should return the list of the losses, one for each of the {len(_BATCHES)} batches; it returns "
            f"{describe(losses)}."
        )
    if any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses):
        raise NotYet(
            "the losses in the list are tensors with their gradients' whole history, which fills the memory in a long "
            "run: append loss.item()."
        )
    try:
        return [float(loss) for loss in losses]
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"the losses should be plain numbers, loss.item(); the first is {describe(losses[0])}.") from None


def examine_loop(answer: Answer) -> None:
    run, of_two = _Run(answer, 0.0), _Run(answer, 2.0)
    for t in run.t:
        check_steps(t, len(_BATCHES[0]))
    if not all(x_t.isfinite().all() for x_t in run.x_t):
        raise NotYet("some of the numbers in x_t are NaN: is there a root of a negative number, or 0 / 0?")
    if not all(map(torch.equal, run.x_t, of_two.x_t)):
        raise NotYet("the same generator, seeded the same, gives other draws: hand it on to both, generator=generator.")
    _check_that_it_learns(run.slopes)
    target = compared_with((run.slopes[0], of_two.slopes[0]), (run.losses[0], of_two.losses[0]))
    check_mixing(run.x_t[0], run.t[0], _BATCHES[0], target)
    check_noise(target)
    _check_that_draws_are_new(run, _Run(answer, 0.0, seed=1))
    _check_gradients(run)


def _check_that_it_learns(slopes: list[Tensor]) -> None:
    if not any(slope.any() for slope in slopes):
        raise NotYet(
            "the weights never change. The order is optimizer.zero_grad(), loss.backward(), which computes the "
            "gradients, and optimizer.step(), which uses them."
        )
    if not slopes[0].any():
        raise NotYet(
            "after the first batch the weights are the same as before: loss.backward() comes before optimizer.step()."
        )


def _check_that_draws_are_new(run: _Run, other: _Run) -> None:
    """run, other: with differently seeded generators."""
    if torch.equal(run.t[0], run.t[1]):
        raise NotYet("every batch gets the same steps t: draw them inside the loop.")
    noises = [_noise_in(x_t, t, x_0) for x_t, t, x_0 in zip(run.x_t, run.t, _BATCHES, strict=True)]
    if same(noises[0], noises[1]):
        raise NotYet("every batch gets the same noise: draw it inside the loop.")
    if torch.equal(run.t[0], other.t[0]) or same(noises[0], _noise_in(other.x_t[0], other.t[0], _BATCHES[0])):
        raise NotYet("t or the noise is the same for every generator: hand it on to both draws, generator=generator.")


def _noise_in(x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
    alpha_bar = SCHEDULE.alpha_bars[t].reshape(-1, 1, 1, 1)
    return (x_t - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()


def _check_gradients(run: _Run) -> None:
    """Does each batch's step go down the slope of that batch's loss, and of no other?"""
    right = [
        2 * (answers - _noise_in(x_t, t, x_0))
        for answers, x_t, t, x_0 in zip(run.answers, run.x_t, run.t, _BATCHES, strict=True)
    ]
    if all(map(same, run.slopes, right)):
        _check_values(run.losses, [slope.square().mean().item() / 4 for slope in right])
        return
    if same(run.slopes[1], right[0] + right[1]):
        raise NotYet(
            "the gradients add up: each step goes down the slopes of all batches so far, as backward() adds to what is "
            "there. Call optimizer.zero_grad() once per batch, before loss.backward()."
        )
    raise NotYet(
        "the first batch is learnt from as it should be, a later one is not: its step is not the gradient of its own "
        "mean squared difference between eps_hat and eps."
    )


def _check_values(losses: list[float], right: list[float]) -> None:
    for given, expected in zip(losses, right, strict=True):
        if abs(given - expected) > 1e-3 * expected:
            raise NotYet(f"it learns as it should, but a loss in the list is {given:.4g} and should be {expected:.4g}.")
