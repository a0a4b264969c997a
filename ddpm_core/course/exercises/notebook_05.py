"""The exercises of notebook 05: cross_attention, guided, drop_condition."""

import math

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import SQUARE, Answer, Compare, Exercise, NotYet, check_output, edited, noise
from ddpm_core.support.guards import describe

# ---- cross_attention: pixels look at words ---------------------------------------------------------------------------


def my_cross_attention(q, k, v, padding):
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5  # (B, pixels, L)
    scores = scores.masked_fill(padding[:, None, :], -math.inf)
    return scores.softmax(dim=-1) @ v


def _padding(*lengths: int, L: int) -> Tensor:
    return torch.arange(L) >= torch.tensor(lengths)[:, None]


_unmasked = ".masked_fill(padding[:, None, :], -math.inf)", ""


def _check_mask(answer: Answer) -> None:
    arguments = noise(2, 6, 8), noise(2, 5, 8), noise(2, 5, 8, seed=1), _padding(4, 2, L=5)
    output = answer(*arguments)
    if isinstance(output, Tensor) and output.shape == (2, 6, 5):
        raise NotYet("that is the table of weights, (B, pixels, L). Multiply it with the values: weights @ v.")
    upside_down = edited(my_cross_attention, "padding[", "~padding[")(*arguments)
    if torch.allclose(check_output(output, upside_down, arguments).float(), upside_down, 1e-3, 1e-4):
        raise NotYet(
            "the mask is upside down: padding is True where no word stands, and those places must be left out."
        )


CROSS_ATTENTION = Exercise(
    answer=my_cross_attention,
    general="CrossAttentionBlock",
    hint="A table of scores (B, pixels, L); -inf where padding stands; softmax over the tokens; times the values.",
    sketch=(
        "scores = q @ k.transpose(1, 2) / ...\nscores = scores.masked_fill(padding[:, None, :], ...)\n"
        "return scores.softmax(dim=...) @ ..."
    ),
    examine=Compare(
        my_cross_attention,
        cases=[
            (noise(2, 6, 8, seed=1), noise(2, 5, 8, seed=2), noise(2, 5, 8, seed=3), _padding(4, 2, L=5)),
            # As many pixels as tokens: a softmax or a mask along the wrong axis raises nothing here.
            (noise(3, 4, 16, seed=4), noise(3, 4, 16, seed=5), noise(3, 4, 16, seed=6), _padding(1, 3, 2, L=4)),
            (noise(2, 6, 8, seed=7), noise(2, 3, 8, seed=8), noise(2, 3, 8, seed=9), _padding(3, 3, L=3)),  # no padding
        ],
        on_nan="0 times infinity is NaN, and so is a softmax where everything is -inf. Use scores.masked_fill(..., "
        "-math.inf), with a mask that is True at the padding.",
        first=_check_mask,
        bugs={
            (" / q.shape[-1] ** 0.5", ""): "the scores are not divided by sqrt(d).",
            (" ** 0.5", ""): "the scores are divided by d; it should be sqrt(d).",
            ("/ q.shape", "* q.shape"): "the scores are multiplied with sqrt(d); they are divided by it.",
            _unmasked: "the padding takes part: set its scores to -inf before the softmax.",
            ("-math.inf", "0.0"): (
                "scores of padding are set to 0, and e^0 is 1: it still takes part. Set them to -inf."
            ),
            (*_unmasked, "dim=-1)", "dim=-1).masked_fill(padding[:, None, :], 0.0)"): (
                "the padding's weights are set to 0 after the softmax, so that the others no longer add up to 1: set "
                "the scores to -inf before it."
            ),
            ("dim=-1", "dim=1"): (
                "the softmax goes over the pixels; a pixel shares its attention among the tokens: dim=-1."
            ),
            ("@ v", "@ k"): "the weights are multiplied with the keys; pixels take the values, v.",
        },
    ),
)

# ---- guided: classifier-free guidance --------------------------------------------------------------------------------


def my_guided(model, cond, null_cond, guidance_scale):
    def eps_model(x_t, t):
        eps_cond = model(x_t, t, cond)
        eps_uncond = model(x_t, t, null_cond.expand_as(cond))
        return eps_uncond + guidance_scale * (eps_cond - eps_uncond)

    return eps_model


def _toy_model(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """Answers differently for every picture, step and condition."""
    words = cond.float() @ torch.tensor([1.0, 0.1, 0.01])
    return x_t * 0.3 + (t * 0.1 + words)[:, None, None, None]


def _predicted(eps_model: object, *arguments: object) -> Tensor:
    """What the closure predicts, so that results can be compared. Raises NotYet where it is none."""
    if isinstance(eps_model, Tensor):
        raise NotYet("it returns a tensor; it should return a function of x_t and t that predicts with guidance.")
    if not callable(eps_model):
        raise NotYet(f"it should return a function of x_t and t; it returns {describe(eps_model)}.")
    return eps_model(noise(*SQUARE), torch.tensor([0, 5, 9, 2]))


_cond, _null_cond = torch.tensor([[3, 4, 5], [7, 0, 2], [1, 1, 9], [2, 8, 6]]), torch.tensor([1, 0, 0])

GUIDED = Exercise(
    answer=my_guided,
    general="guided",
    hint="Define a function of x_t and t inside yours that asks the model twice, and return that function.",
    sketch=(
        "def eps_model(x_t, t):\n    eps_cond = model(x_t, t, cond)\n"
        "    eps_uncond = model(x_t, t, null_cond.expand_as(cond))\n    return ... + guidance_scale * (...)\n"
        "return eps_model"
    ),
    examine=Compare(
        my_guided,
        cases=[(_toy_model, _cond, _null_cond, scale) for scale in (0.0, 1.0, 3.0, 7.5)],
        to_tensor=_predicted,
        bugs={
            ("return eps_uncond", "return eps_cond"): (
                "a scale of 1 already doubles the difference: this is the paper's w, where guidance_scale = 1 + w. "
                "Start from the unconditional prediction: eps_uncond + guidance_scale * (eps_cond - eps_uncond)."
            ),
            ("return eps_uncond", "return eps_cond", "(eps_cond - eps_uncond)", "(eps_uncond - eps_cond)"): (
                "the two predictions have changed places: a larger scale leads away from the condition."
            ),
            ("(eps_cond - eps_uncond)", "(eps_uncond - eps_cond)"): (
                "the sign of the difference is wrong: it is eps_cond - eps_uncond, towards the condition."
            ),
            ("eps_uncond + guidance_scale * (eps_cond - eps_uncond)", "guidance_scale * eps_cond"): (
                "the scale multiplies the whole conditional prediction; it multiplies only the difference."
            ),
            ("return eps_uncond + ", "return "): (
                "the unconditional prediction is not added: eps_uncond + guidance_scale * (eps_cond - eps_uncond)."
            ),
            ("eps_uncond + guidance_scale * (eps_cond - eps_uncond)", "eps_cond"): (
                "guidance_scale makes no difference: this is the conditional prediction alone."
            ),
            (" + guidance_scale * (eps_cond - eps_uncond)", ""): (
                "guidance_scale makes no difference: this is the unconditional prediction alone."
            ),
            ("(eps_cond - eps_uncond)", "eps_cond"): (
                "the two are averaged with the scale as a sum: eps_uncond + scale * eps_cond. It is the difference "
                "that is scaled."
            ),
        },
    ),
)

# ---- drop_condition: some captions are left out in training ----------------------------------------------------------


def my_drop_condition(cond, null_cond, p, generator):
    dropped = torch.rand(len(cond), generator=generator) < p  # one draw per caption
    return torch.where(dropped[:, None], null_cond, cond)


def _examine_drop_condition(answer: Answer) -> None:
    B, L, p = 4000, 6, 0.3
    cond, null_cond = torch.arange(2, 2 + B * L).reshape(B, L), torch.tensor([1, 0, 0, 0, 0, 0])

    def drop(p: float, seed: int = 0) -> Tensor:
        return answer(cond, null_cond, p, torch.Generator().manual_seed(seed))

    dropped = drop(p)
    if not isinstance(dropped, Tensor) or dropped.shape != cond.shape:
        raise NotYet(
            f"it should return conditions of cond's shape, {tuple(cond.shape)}; it returns {describe(dropped)}."
        )
    if dropped.dtype != cond.dtype:
        raise NotYet(
            f"cond is {cond.dtype}, but what comes back is {dropped.dtype}: token ids must stay what they are."
        )
    is_null, is_kept = (dropped == null_cond).all(dim=1), (dropped == cond).all(dim=1)
    if not (is_null | is_kept).all():
        row = dropped[~(is_null | is_kept)][0]
        if (row == 0).all():
            raise NotYet("dropped conditions become zeros; they should become null_cond, a start and padding.")
        raise NotYet(
            "single tokens are dropped: some captions come back with holes. A caption with a hole is still a "
            "condition. Draw once for each caption, (B,), and keep or replace the whole row."
        )
    share = is_null.float().mean().item()
    if share in (0, 1) and drop(p, seed=1).eq(null_cond).all(1).float().mean().item() in (0, 1):
        raise NotYet("the whole batch is kept or dropped together: draw once for each caption.")
    if abs(share - (1 - p)) < 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped, not {p:.0%}: kept and dropped have changed places.")
    if abs(share - p) > 0.04:
        raise NotYet(f"of {B:,} captions {share:.0%} are dropped; it should be {p:.0%}.")
    if drop(0.0).ne(cond).any() or drop(1.0).ne(null_cond).any():
        raise NotYet("with p = 0 nothing may be dropped, and with p = 1 everything.")
    if drop(p).ne(dropped).any():
        raise NotYet(
            "the same generator, seeded the same, drops others: hand it on, torch.rand(..., generator=generator)."
        )


DROP_CONDITION = Exercise(
    answer=my_drop_condition,
    general="drop_condition",
    examine=_examine_drop_condition,
    hint="One random number per caption, not one per token. torch.where picks whole rows if its condition is (B, 1).",
    sketch="dropped = torch.rand(..., generator=generator) < ...\nreturn torch.where(dropped[:, None], ..., ...)",
)

EXERCISES = CROSS_ATTENTION, GUIDED, DROP_CONDITION
