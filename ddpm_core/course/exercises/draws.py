"""The examiners of the two answers that draw random numbers, diffusion_loss and drop_condition."""

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import NOT_RESHAPED, ON_T_STEPS, SCHEDULE, Answer, NotYet, T, noise
from ddpm_core.support.guards import describe

# ---- diffusion_loss --------------------------------------------------------------------------------------------------
#
# The model that it asks tells which t and which x_t it was given, and the slope of the loss over its answers tells what
# they were compared with. So x_t can be compared, number by number, with what add_noise makes of x_0, t and eps.


class _Model(torch.nn.Module):
    """Answers the same number everywhere, and remembers what it was asked."""

    def __init__(self, number: float):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(number))
        self.x_t = self.t = self.eps_hat = None

    def forward(self, x_t: Tensor, t: Tensor | None = None) -> Tensor:
        if t is None:
            raise NotYet("eps_model is asked without t: eps_hat = eps_model(x_t, t).")
        if isinstance(t, Tensor) and t.ndim == 4 and getattr(x_t, "ndim", 0) < 2:
            raise NotYet("x_t and t have changed places: eps_hat = eps_model(x_t, t).")
        self.x_t, self.t = x_t.detach(), t
        self.eps_hat = torch.zeros_like(x_t) + self.number
        return self.eps_hat


def examine_diffusion_loss(answer: Answer) -> None:
    x_0 = noise(1000, 1, 4, 4, seed=8).tanh()
    zero, two, other = _Model(0.0), _Model(2.0), _Model(0.0)

    def loss_of(model: _Model, seed: int = 0) -> Tensor:
        return answer(model, SCHEDULE, x_0, torch.Generator().manual_seed(seed))

    loss = loss_of(zero)
    _check_loss(loss, zero)
    check_steps(zero.t, len(x_0))
    if not (zero.x_t.isfinite().all() and loss.isfinite()):
        raise NotYet(
            "some of the numbers in x_t, or the loss, are NaN: is there a root of a negative number, or 0 / 0?"
        )
    if zero.x_t.shape != x_0.shape:
        spread = f" {NOT_RESHAPED}" if zero.x_t.numel() > x_0.numel() else ""
        raise NotYet(
            f"eps_model is given x_t of shape {tuple(zero.x_t.shape)}; it should be {tuple(x_0.shape)}.{spread}"
        )
    loss_of_two = loss_of(two)
    if not (torch.equal(zero.t, two.t) and torch.equal(zero.x_t, two.x_t)):
        raise NotYet(
            "the same generator, seeded the same, gives other draws: hand it on, generator=generator, to both draws."
        )
    slopes = _slope(loss, zero), _slope(loss_of_two, two)
    target = compared_with(slopes, (loss.item(), loss_of_two.item()))
    loss_of_other = loss_of(other, seed=1)
    if torch.equal(other.t, zero.t):
        raise NotYet("t is the same for every generator: hand it on, torch.randint(..., generator=generator).")
    check_mixing(zero.x_t, zero.t, x_0, target)
    check_noise(target)
    if torch.equal(target, -_slope(loss_of_other, other) / 2):
        raise NotYet("the noise is the same for every generator: hand it on, torch.randn(..., generator=generator).")


def _check_loss(loss: object, model: _Model) -> None:
    if isinstance(loss, float):
        raise NotYet("it returns a plain number, from which nothing can be learnt: leave out .item().")
    if not isinstance(loss, Tensor):
        raise NotYet(f"it should return a tensor with one number, the loss; it returns {describe(loss)}.")
    if loss.ndim:
        raise NotYet(f"the loss should be one number; this has the shape {tuple(loss.shape)}: take the mean of it.")
    if model.eps_hat is None:
        raise NotYet("eps_model is never asked: eps_hat = eps_model(x_t, t).")
    if model.number.grad is not None:
        raise NotYet("it calls backward() itself. Return the loss; the training loop does the rest.")
    if not loss.requires_grad:
        raise NotYet("no gradient flows from the loss to the model: is there a .detach() or no_grad() too many?")


def check_steps(t: object, count: int) -> None:
    if not isinstance(t, Tensor) or t.shape != (count,) or t.dtype != torch.long:
        raise NotYet(f"eps_model needs t as a long tensor (B,), one step per picture; it got {describe(t)}.")
    if t.min() < 0 or t.max() >= T:
        raise NotYet(
            f"{ON_T_STEPS} eps_model is told steps from {t.min()} to {t.max()}. They are counted from 0 to T - 1, "
            f"here {T - 1}, and eps_model is told the same t that x_t was mixed with."
        )
    if (t == t[0]).all():
        raise NotYet("all pictures of the batch share one t: draw one for each, torch.randint(T, (B,)).")
    counts = torch.bincount(t, minlength=T)
    if counts[0] == 0:
        raise NotYet("t = 0 is never drawn: steps count from 0 here, so draw from 0 to T - 1.")
    if counts[T - 1] == 0:
        raise NotYet("the last step, t = T - 1, is never drawn: torch.randint(T, ...) already leaves out T itself.")
    if (counts - count / T).abs().max() > 6 * (count / T) ** 0.5:
        raise NotYet("some steps are drawn more often than others: all of them should be equally likely.")


def _slope(loss: Tensor, model: _Model) -> Tensor:
    """How the loss changes with the model's answers, times their number."""
    [slope] = torch.autograd.grad(loss, model.eps_hat, allow_unused=True, materialize_grads=True)
    return slope * slope.numel()


def compared_with(slopes: tuple[Tensor, Tensor], losses: tuple[float, float]) -> Tensor:
    """What eps_hat is compared with, as the slope of a mean of squares is 2 (eps_hat - target) / N.

    slopes, losses: of a model that answers 0, and of one that answers 2; the slopes times N. Raises NotYet where the
    loss is no mean of squares: only that one's slope rises by 4 / N from eps_hat = 0 to 2.
    """
    N = slopes[0].numel()
    rise = (slopes[1] - slopes[0]) / 4
    factor = rise.mean().item()
    of_zero, of_two = losses
    if torch.allclose(rise, torch.ones_like(rise), atol=1e-3):
        return -slopes[0] / 2
    if not any(slope.any() for slope in slopes):
        raise NotYet(f"the loss is {of_zero:.3g} whatever the model answers: is eps_hat compared with itself?")
    if torch.allclose(slopes[0].abs(), torch.ones_like(rise), atol=1e-3):  # each number pulls equally
        squares = "the loss of DDPM takes their squares"
        if torch.allclose(slopes[0], slopes[1]):
            raise NotYet(f"it takes the mean of the differences, in which those above and below 0 cancel; {squares}.")
        raise NotYet(f"it takes the differences' absolute values; {squares}.")
    if abs(slopes[0].square().mean().item() - 1) < 1e-3:
        raise NotYet("the loss is the root of the mean square; it should be without the root.")
    if torch.allclose(rise, torch.full_like(rise, factor), rtol=1e-3):  # squares, but no mean of them
        picture = slopes[0][0].numel()
        if abs(factor / N - 1) < 1e-3:
            raise NotYet("the loss is a sum; take the mean, or it grows with the size of batch and pictures.")
        if abs(factor / picture - 1) < 1e-3:
            raise NotYet("it sums over the numbers of a picture; take the mean of them, too.")
        if abs(factor * picture / N - 1) < 1e-3:
            raise NotYet("it sums over the pictures of the batch; take the mean of them, too.")
        raise NotYet(
            f"the loss is {factor:.3g} times the mean of the squared differences; it should be just that mean."
        )
    raise NotYet(
        f"models that always say 0 and 2 should get losses of about 1 and 5, and get {of_zero:.3g} and {of_two:.3g}. "
        "Compare eps_hat with eps: the mean of the squared differences."
    )


def check_mixing(x_t: Tensor, t: Tensor, x_0: Tensor, eps: Tensor) -> None:
    def at(values: Tensor) -> Tensor:
        return values[t].reshape(-1, 1, 1, 1)

    alpha_bar, alpha, beta = at(SCHEDULE.alpha_bars), at(SCHEDULE.alphas), at(SCHEDULE.betas)
    before, after = at(SCHEDULE.alpha_bars.roll(1)), at(SCHEDULE.alpha_bars.roll(-1))
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    right = signal * x_0 + spread * eps
    if same(x_t, right):
        return
    if same(x_t, eps) and (x_t * x_0).mean().abs() < 0.02:
        raise NotYet("eps_model is given pure noise; it should be x_t, the picture with noise mixed in.")
    for other, words in ((0 * eps, "nothing, only squared"), (x_0, "the picture x_0"), (x_t, "the noisy x_t")):
        if same(eps, other):
            raise NotYet(f"eps_hat is compared with {words}. The network names the noise: compare with eps.")
    if same(eps, eps.mean().expand_as(eps)):
        raise NotYet("the differences are averaged before they are squared, so that they cancel: square them first.")
    root = "a square root is missing in x_t: mix with add_noise(schedule, x_0, t, eps)."
    other_t = "x_t is mixed with another t than the one that eps_model is told: use one t for both."
    mixtures = [
        (x_0, "eps_model is given the clean picture x_0; it should be the noisy x_t."),
        (x_0 + eps, "the noise is added at full strength: mix with add_noise(schedule, x_0, t, eps)."),
        (signal * x_0 + eps, "the noise is added at full strength: mix with add_noise(schedule, x_0, t, eps)."),
        (x_0 + spread * eps, "the picture in x_t is not shrunk: mix with add_noise(schedule, x_0, t, eps)."),
        (signal * x_0 + spread**2 * eps, root),
        (alpha_bar * x_0 + spread * eps, root),
        (alpha_bar * x_0 + spread**2 * eps, root),
        (spread * x_0 + signal * eps, "picture and noise have changed places: add_noise(schedule, x_0, t, eps)."),
        (alpha.sqrt() * x_0 + beta.sqrt() * eps, "x_t has the noise of a single step: take alpha_bars, or add_noise."),
        (right.clamp(-1, 1), "x_t is clipped to [-1, 1]: noise goes beyond, and should be left as it is."),
        (signal * x_0 - spread * eps, "the sign is wrong: eps_hat - eps, with the eps that is added in x_t."),
        (before.sqrt() * x_0 + (1 - before).sqrt() * eps, other_t),
        (after.sqrt() * x_0 + (1 - after).sqrt() * eps, other_t),
    ]
    inner = (t > 0) & (t < T - 1)  # what comes before the first step or after the last is written in many ways
    for mixture, words in mixtures:
        if same(x_t[inner], mixture[inner]):
            raise NotYet(words)
    noise_in_x_t = (x_t - signal * x_0) / spread
    deviations = torch.stack([noise_in_x_t[t == step].std() for step in range(T)])
    if (deviations - 1).abs().max() < 0.1:
        raise NotYet(
            "eps_hat is compared with something else than the noise in x_t: use the very eps that was mixed in."
        )
    raise NotYet(
        "x_t is not what add_noise(schedule, x_0, t, eps) makes of x_0, of the t that eps_model is told, and of the "
        "eps that eps_hat is compared with."
    )


def check_noise(eps: Tensor) -> None:
    mean, deviation = eps.mean().item(), eps.std().item()
    if same(eps, eps[:1].expand_as(eps)):
        raise NotYet("all pictures of the batch get the same noise: draw it in the shape of the batch, x_0.shape.")
    if same(eps, eps[:, :1, :1, :1].expand_as(eps)):
        raise NotYet("all pixels of a picture get the same noise: draw it in the shape of the batch, x_0.shape.")
    if eps.min() > -1e-3 and eps.max() < 1 + 1e-3:
        raise NotYet("the noise is not Gaussian, but between 0 and 1: torch.randn, not torch.rand.")
    if abs(mean) > 0.05 or abs(deviation - 1) > 0.05:
        raise NotYet(
            f"the noise should have mean 0 and deviation 1, and has {mean:.2f} and {deviation:.2f}: torch.randn is "
            "right as it comes."
        )


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-3)


# ---- drop_condition --------------------------------------------------------------------------------------------------


def examine_drop_condition(answer: Answer) -> None:
    B, L, p = 4000, 6, 0.3
    cond, null_cond = torch.arange(2, 2 + B * L).reshape(B, L), torch.tensor([1, 0, 0, 0, 0, 0])

    def drop(p: float, seed: int = 0) -> Tensor:
        return answer(cond, null_cond, p, torch.Generator().manual_seed(seed))

    def count(dropped: Tensor) -> int:
        return int((dropped == null_cond).all(dim=1).sum())

    dropped = drop(p)
    if not isinstance(dropped, Tensor) or dropped.shape != cond.shape:
        raise NotYet(
            f"it should return conditions of cond's shape, {tuple(cond.shape)}; it returns {describe(dropped)}."
        )
    if dropped.dtype != cond.dtype:
        raise NotYet(
            f"cond is {cond.dtype}, but what comes back is {dropped.dtype}: token ids must stay what they are."
        )
    _check_rows(dropped, cond, null_cond)
    share, none, every = count(dropped) / B, count(drop(0.0)), count(drop(1.0))
    if share in (0, 1):
        _check_all_alike({count(drop(p, seed)) for seed in range(30)}, none, every, B)
    if drop(p).ne(dropped).any():
        raise NotYet(
            "the same generator, seeded the same, drops others: hand it on, torch.rand(..., generator=generator)."
        )
    if drop(p, seed=1).eq(dropped).all():
        raise NotYet("every generator drops the same captions: hand it on, torch.rand(..., generator=generator).")
    if abs(none / B - share) < 0.04 and abs(every / B - share) < 0.04:
        raise NotYet(f"{share:.0%} of the captions are dropped whatever p is: compare each draw with p.")
    if abs(share - p) > 0.04 and abs(none / B - 0.5) < 0.04:  # half of all numbers from a Gaussian are below 0
        raise NotYet(
            f"with p = 0 half of the captions are dropped, and with p = {p} {share:.0%}: torch.rand, not randn."
        )
    if abs(share - (1 - p)) < 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped, not {p:.0%}: kept and dropped have changed places.")
    if abs(share - p) > 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped; it should be {p:.0%}.")
    if none > 0 or every < B:
        raise NotYet("with p = 0 nothing may be dropped, and with p = 1 everything.")
    if len({count(drop(p, seed)) for seed in range(4)}) == 1:
        raise NotYet(
            f"always exactly {count(dropped):,} of {B:,} captions are dropped. Each should be dropped with probability "
            "p, whatever becomes of the others: one draw per caption."
        )


def _check_rows(dropped: Tensor, cond: Tensor, null_cond: Tensor) -> None:
    """Each row is the row of cond in the same place, or null_cond."""
    is_neither = ~((dropped == null_cond).all(dim=1) | (dropped == cond).all(dim=1))
    rows = dropped[is_neither]
    if not len(rows):
        return
    if (rows == 0).all():
        raise NotYet("dropped conditions become zeros; they should become null_cond, a start and padding.")
    if ((rows == null_cond) | (rows == cond[is_neither]) | (rows == 0)).all():
        changed = rows != cond[is_neither]
        if (changed == changed[0]).all():
            raise NotYet(
                "single tokens are dropped, in each caption those in the same places: keep or replace the whole row."
            )
        raise NotYet(
            "single tokens are dropped: some captions come back with holes. A caption with a hole is still a "
            "condition. Draw once for each caption, (B,), and keep or replace the whole row."
        )
    if (rows == rows[0]).all():
        raise NotYet(
            f"dropped conditions become {rows[0].tolist()}; they should become null_cond, here {null_cond.tolist()}."
        )
    if (cond == rows[0]).all(dim=1).any():
        raise NotYet("captions come back in the place of others: each row should stay where it is.")
    i = int(is_neither.nonzero()[0])
    raise NotYet(
        f"a condition {cond[i].tolist()} comes back as {dropped[i].tolist()}: it should be kept as it is, or become "
        f"null_cond, here {null_cond.tolist()}."
    )


def _check_all_alike(counts: set[int], none: int, every: int, B: int) -> None:
    """What is wrong where a whole batch is dropped, or none of it. counts: how many were, with other generators."""
    if counts == {0, B}:
        raise NotYet("the whole batch is kept or dropped together: draw once for each caption.")
    use_it = "Is the mask used, as in torch.where(dropped[:, None], null_cond, cond)?"
    if counts == {0} and every == 0:
        raise NotYet(f"nothing is ever dropped, not even with p = 1. {use_it}")
    if counts == {B} and none == B:
        raise NotYet(f"everything is always dropped, even with p = 0. {use_it}")
    if len(counts) == 1:
        raise NotYet(
            f"with p = 0.3 all captions are always {'kept' if counts == {0} else 'dropped'}, whatever the generator "
            "draws: draw one number for each caption, and compare each of them with p."
        )
