"""The exercises of notebook 05: cross_attention, guided, drop_condition."""

import math

import torch
from torch import Tensor

from ddpm_core.course.exercises.compare import (
    SQUARE,
    Answer,
    Compare,
    Exercise,
    NotYet,
    check_output,
    edited,
    noise,
)
from ddpm_core.course.exercises.draws import examine_drop_condition
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


def _check_padding(answer: Answer) -> None:
    """Whatever stands at the padding, it must not be looked at."""
    q, k, v, padding = noise(2, 6, 8), noise(2, 5, 8), noise(2, 5, 8, seed=1), _padding(4, 2, L=5)
    elsewhere = padding[..., None] * noise(2, 5, 8, seed=2)
    if not torch.allclose(answer(q, k, v, padding), answer(q, k + elsewhere, v + elsewhere, padding), 1e-3, 1e-4):
        raise NotYet(
            "the padding still takes part: with other keys and values at the padding, the answer is another. Set its "
            "scores to -inf before the softmax."
        )


CROSS_ATTENTION = Exercise(
    answer=my_cross_attention,
    general="CrossAttentionBlock",
    on_shapes="The scores, q @ k.transpose(1, 2), are (B, pixels, L); padding (B, L) fits them as padding[:, None, :].",
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
        on_nan="0 times infinity is NaN, and so is a softmax where everything is -inf or something is +inf. Use "
        "scores.masked_fill(..., -math.inf), with a mask that is True at the padding.",
        first=_check_mask,
        last=_check_padding,
        bugs={
            (" / q.shape[-1] ** 0.5", ""): "the scores are not divided by sqrt(d).",
            (" ** 0.5", ""): "the scores are divided by d; it should be sqrt(d).",
            (" / q.shape[-1] ** 0.5", "", "dim=-1)", "dim=-1) / q.shape[-1] ** 0.5"): (
                "the weights are divided by sqrt(d); the scores are, before the softmax."
            ),
            (
                "q.shape[-1]",
                "k.shape[1]",
            ): "the scores are divided by the root of the number of tokens; d is k.shape[-1].",
            (
                "q.shape[-1]",
                "q.shape[1]",
            ): "the scores are divided by the root of the number of pixels; d is q.shape[-1].",
            (".softmax(dim=-1)", ""): "the softmax is missing: scores become weights that add up to 1.",
            ("q @ k.", "q @ v."): "the scores compare queries with values; they compare them with keys, k.",
            ("q @ k.", "q @ v.", "@ v\n", "@ k\n"): "keys and values have changed places: q meets k, and takes v.",
            ("padding[:, None, :]", "padding[:1, None, :]"): (
                "the mask of the first caption is used for all; each caption has its own."
            ),
            (*_unmasked, "dim=-1)", "dim=-1).masked_fill(padding[:, None, :], -math.inf)"): (
                "the mask comes after the softmax: set the scores to -inf before it."
            ),
            (
                "dim=-1",
                "dim=0",
            ): "the softmax goes over the batch; a pixel shares its attention among the tokens: dim=-1.",
            ("/ q.shape", "* q.shape"): "the scores are multiplied with sqrt(d); they are divided by it.",
            _unmasked: "the padding takes part: set its scores to -inf before the softmax.",
            ("-math.inf", "0.0"): (
                "scores of padding are set to 0, and e^0 is 1: it still takes part. Set them to -inf."
            ),
            (*_unmasked, "dim=-1)", "dim=-1).masked_fill(padding[:, None, :], 0.0)"): (
                "the padding is taken out after the softmax, so that the weights of the words no longer add up to 1: "
                "set the scores of padding to -inf before it."
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


def _toy_model(x_t: Tensor | None = None, t: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
    """Answers differently for every picture, step and condition, and says so where it is asked in a wrong way."""
    given = x_t, t, cond
    if not all(isinstance(argument, Tensor) for argument in given):
        raise NotYet(
            f"the model takes three tensors, model(x_t, t, cond); it is given {', '.join(map(describe, given))}."
        )
    if (x_t.ndim, t.ndim) != (4, 1):
        raise NotYet(
            "the order is model(x_t, t, cond), with x_t (B, C, H, W) and t (B,), and the function that you return "
            f"takes x_t and t; the model is given the shapes {', '.join(str(tuple(a.shape)) for a in given)}."
        )
    if cond.shape != (len(x_t), 3):
        raise NotYet(
            f"the model wants one condition per picture, {(len(x_t), 3)}, and is given the shape {tuple(cond.shape)}. "
            "One condition, as null_cond is, becomes one per picture with null_cond.expand_as(cond)."
        )
    words = cond.float() @ torch.tensor([1.0, 0.1, 0.01])
    # Not linear in the words: what mixed conditions are answered is no mixture of answers.
    return x_t * 0.3 + (t * 0.1 + words + words.square())[:, None, None, None]


def _predicted(eps_model: object, *arguments: object) -> Tensor:
    """What the closure predicts, so that results can be compared. Raises NotYet where it is none."""
    if isinstance(eps_model, Tensor):
        raise NotYet("it returns a tensor; it should return a function of x_t and t that predicts with guidance.")
    if not callable(eps_model):
        raise NotYet(f"it should return a function of x_t and t; it returns {describe(eps_model)}.")
    return eps_model(noise(*SQUARE), torch.tensor([0, 5, 9, 2]))


# The answers for a condition are sometimes above and sometimes below those for none.
_cond, _null_cond = torch.tensor([[3, 4, 5], [2, 0, 2], [1, 1, 9], [2, 8, 6]]), torch.tensor([2, 3, 0])


def _mixed_conditions(model, cond, null_cond, guidance_scale):
    return lambda x_t, t: model(x_t, t, null_cond + guidance_scale * (cond - null_cond))


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
                "this adds scale * eps_cond; it is the difference, eps_cond - eps_uncond, that is scaled."
            ),
            ("eps_uncond + guidance_scale * (eps_cond - eps_uncond)", "guidance_scale * eps_cond - eps_uncond"): (
                "the brackets are missing: the scale multiplies the whole difference, eps_cond - eps_uncond."
            ),
            ("eps_uncond + guidance_scale * (eps_cond - eps_uncond)", "guidance_scale * eps_uncond"): (
                "the scale multiplies the unconditional prediction; it multiplies the difference of the two."
            ),
            ("return eps_uncond + guidance_scale", "return eps_uncond + (guidance_scale - 1)"): (
                "the difference is multiplied with guidance_scale - 1; it is multiplied with guidance_scale, so that 1 "
                "gives the conditional prediction."
            ),
            ("null_cond.expand_as(cond)", "torch.zeros_like(cond)"): (
                "the second condition is zeros; it should be null_cond, the condition that says nothing."
            ),
            _mixed_conditions: (
                "the conditions are mixed, and the model is asked once. Ask it twice, and mix its two predictions."
            ),
        },
    ),
)

# ---- drop_condition: some captions are left out in training ----------------------------------------------------------


def my_drop_condition(cond, null_cond, p, generator):
    dropped = torch.rand(len(cond), generator=generator) < p  # one draw per caption
    return torch.where(dropped[:, None], null_cond, cond)


DROP_CONDITION = Exercise(
    answer=my_drop_condition,
    general="drop_condition",
    on_shapes="One number per caption has the shape (B,); as a column, dropped[:, None], it stands beside cond's rows.",
    examine=examine_drop_condition,
    hint="One random number per caption, not one per token. torch.where picks whole rows if its condition is (B, 1).",
    sketch="dropped = torch.rand(..., generator=generator) < ...\nreturn torch.where(dropped[:, None], ..., ...)",
)

EXERCISES = CROSS_ATTENTION, GUIDED, DROP_CONDITION
