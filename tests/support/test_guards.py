"""Each rule of what is refused, once: the error names the argument, what was given and what is accepted."""

import math
import re
import warnings

import numpy as np
import pytest
import torch

from ddpm_core import (
    CLIP,
    Autoencoder,
    NoiseSchedule,
    SuperResolver,
    TrainingState,
    UNet,
    linear_betas,
    load_checkpoint,
    train,
    train_autoencoder,
    train_clip,
    train_super_resolver,
)
from ddpm_core.support import guards

PICTURES = torch.zeros(4, 1, 8, 8)
CONFIG = dict(in_channels=1, channels=(8, 8, 8), patch_size=1, context_dim=None)
STEPS = torch.tensor([0, 1, 2, 3])


def refused(error: type, *words: str):
    """A with block that must raise error, with each of the words in the message."""
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words))


@pytest.mark.parametrize(
    "value", [0, -1, 2.5, 3.0, True, "10", math.nan, None, np.bool_(True), torch.tensor(3)], ids=str
)
def test_a_whole_number_is_an_integer_and_nothing_else(value):
    with refused(ValueError, "size must be a whole number, 1 or more; got"):
        guards.whole_number("size", value)


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7)], ids=repr)
def test_numpys_integers_are_whole_numbers(value):
    guards.whole_number("size", value, most=7)


@pytest.mark.parametrize("value", [2, 11])
def test_a_whole_number_keeps_within_its_limits(value):
    with refused(ValueError, "steps", f"from 3 to 10, the schedule's length; got {value}"):
        guards.whole_number("steps", value, 3, 10, ", the schedule's length")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "3e-3", None, 1j], ids=str)
def test_a_number_is_real_and_finite(value):
    with refused(ValueError, "rate must be a number", "got"):
        guards.number("rate", value)


@pytest.mark.parametrize(
    "value, limits, words",
    [
        (0, dict(above=0), "be a number above 0"),
        (1.01, dict(above=0, most=1), "be a number above 0 and at most 1"),
        (0, dict(above=0, most=1), "be a number above 0 and at most 1"),
        (-1e-9, dict(least=0), "be 0 or more"),
        (1.01, dict(least=0, most=1), "be a number between 0 and 1"),
    ],
)
def test_a_number_keeps_within_its_limits(value, limits, words):
    with refused(ValueError, f"rate must {words}; got {value}"):
        guards.number("rate", value, **limits)
    guards.number("rate", np.float32(0.5), **limits)


@pytest.mark.parametrize(
    "values, words",
    [(["a"], "got 1: ['a']"), (["a", 7], "got 2: ['a', 7]"), (torch.zeros(2), "tensor"), (None, "None")],
)
def test_a_list_has_a_string_for_each(values, words):
    with refused(ValueError, "labels must be a list of strings, one for each of the 2 pictures", words):
        guards.one_each("labels", values, 2)
    guards.one_each("labels", ("a", "b"), 2)


def test_groups_are_a_name_for_each_or_several_such_lists_with_few_names():
    for words, groups in {
        "groups must have at least one list": {},
        "groups['kind'] must be a list of strings": {"style": ["a", "b"], "kind": ["a"]},
        "groups must be a list of strings": ["a"],
    }.items():
        with refused(ValueError, words):
            guards.groups(groups, 2, most=2)
    with refused(ValueError, "groups must have at most 2 different names", "got 3"):
        guards.groups(["a", "b", "c"], 3, most=2)
    guards.groups({"style": ["a", "b"], "kind": ["c", "c"]}, 2, most=2)


def test_an_instance_a_function_a_list_and_a_string_are_asked_for_by_name():
    with refused(TypeError, "schedule must be a Generator, such as torch.Generator(); got 3 (int)"):
        guards.instance("schedule", 3, torch.Generator, "torch.Generator()")
    with refused(TypeError, "model must be a str; got", ": pass its model"):
        guards.instance("model", Holder(model="inside"), str)
    with refused(TypeError, "on_change must be a function, called as on_change(mask), or None; got 3 (int)"):
        guards.function_or_none("on_change", 3, "on_change(mask)")
    with refused(TypeError, "captions must be a list of captions, such as ['a cat']; got a single string"):
        guards.several("captions", "a cat", "captions")
    with refused(TypeError, "a prompt must be a string; got 7 (int)"):
        guards.text("a prompt", 7)
    for value in (True, 3, "1", None, [1]):
        with refused(ValueError, "num_digits must be 1 or 2; got", guards.describe(value)):
            guards.one_of("num_digits", value, (1, 2))
    with refused(ValueError, 'split must be "train" or "held_out"'):
        guards.one_of("split", "test", ("train", "held_out"))


@pytest.mark.parametrize("value", [50, 0, -4, 4.0, True, "8"], ids=repr)
def test_a_multiple_is_whole_and_leaves_nothing_over(value):
    with refused(ValueError, "dim must be a multiple of 4 (num_heads); got", repr(value)):
        guards.heads("dim", value, 4)
    guards.heads("dim", np.int64(8), 4)


@pytest.mark.parametrize(
    "value, words",
    [
        (0.5, "0.5 (float)"),
        (torch.zeros(3, 4), "float32 tensor of shape (3, 4)"),
        (np.zeros((3, 4), dtype=np.uint8), "uint8 ndarray of shape (3, 4) (torch.from_numpy makes a tensor of it)"),
        ([[1] * 50] * 50, "(list)"),
    ],
)
def test_what_was_given_is_described_shortly(value, words):
    assert guards.describe(value).endswith(words) and len(guards.describe(value)) < 100


@pytest.mark.parametrize(
    "a, b, error, words",
    [
        (PICTURES.byte(), PICTURES, TypeError, "x_0 must be a tensor of floats; got uint8 / 127.5 - 1"),
        (PICTURES, PICTURES.long(), TypeError, "eps must be a tensor of floats; got int64 / 127.5 - 1"),
        (PICTURES, None, TypeError, "eps must be a tensor of floats; got None (NoneType)"),
        (PICTURES, PICTURES[:1], ValueError, "x_0 and eps must have one shape; got (4, 1, 8, 8) (1, 1, 8, 8)"),
    ],
)
def test_two_tensors_of_floats_have_one_shape(a, b, error, words):
    with refused(error, *words.split(" ")):
        guards.floats(x_0=a, eps=b)


@pytest.mark.parametrize(
    "pictures, error, words",
    [
        (PICTURES + 2, ValueError, ["must lie in [-1, 1]; these go from 2 to 2"]),
        ((PICTURES + 1) * 255, ValueError, ["these go from 255 to 255", "For values 0..255: pictures / 127.5 - 1"]),
        (PICTURES * math.nan, ValueError, ["these go from nan to nan"]),
        (PICTURES.long(), TypeError, ["floats in [-1, 1]; got int64", "/ 127.5 - 1"]),
        (PICTURES.byte(), TypeError, ["floats in [-1, 1]; got uint8"]),
        (PICTURES[0], ValueError, ["(N, C, H, W); got", "(1, 8, 8)"]),
        (PICTURES[:0], ValueError, ["(N, C, H, W); got", "(0, 1, 8, 8)"]),
        (PICTURES.numpy(), ValueError, ["(N, C, H, W); got", "ndarray"]),
    ],
)
def test_pictures_are_a_batch_of_floats_between_minus_1_and_1(pictures, error, words):
    with refused(error, "pictures", *words):
        guards.pictures(pictures)


@pytest.mark.parametrize(
    "picture, error, words",
    [
        (PICTURES, ValueError, ["(1, H, W) or (3, H, W); got", "(4, 1, 8, 8)", "picture[0]"]),
        (PICTURES[0, 0], ValueError, ["(1, H, W) or (3, H, W); got", "(8, 8)", "picture[None]"]),
        (PICTURES[:, 0], ValueError, ["(1, H, W) or (3, H, W); got", "(4, 8, 8)"]),
        (PICTURES[0, :, :0], ValueError, ["(1, H, W) or (3, H, W); got", "(1, 0, 8)"]),
        (PICTURES[0].numpy(), ValueError, ["(1, H, W) or (3, H, W); got", "ndarray"]),
        (PICTURES[0].byte(), TypeError, ["floats in [-1, 1]; got uint8", "/ 127.5 - 1"]),
        (PICTURES[0] * math.nan, ValueError, ["these go from nan to nan"]),
        (PICTURES[0] - 2, ValueError, ["must lie in [-1, 1]; these go from -2 to -2"]),
    ],
)
def test_one_picture_has_the_channels_of_a_screen(picture, error, words):
    with refused(error, "picture must", *words):
        guards.one_picture(picture)
    guards.one_picture(PICTURES[0])
    guards.one_picture(PICTURES[:3, 0])


@pytest.mark.parametrize("mask", [torch.ones(8, 6), torch.ones(6, 8) > 0, torch.ones(1, 8, 6) > 0, [[True]], None])
def test_a_mask_is_bool_and_as_large_as_the_picture(mask):
    with refused(ValueError, "mask must be bool, (8, 6)", "got", guards.describe(mask)):
        guards.mask(mask, 8, 6)
    guards.mask(torch.ones(8, 6) > 0, 8, 6)
    with refused(ValueError, "got bool tensor of shape (32, 24). For latents: F.max_pool2d(mask[None].float(), 4)[0]"):
        guards.mask(torch.ones(32, 24) > 0, 8, 6)
    guards.mask(torch.ones(8, 6) < 0, 8, 6)
    with refused(ValueError, "mask is False everywhere"):
        guards.mask(torch.ones(8, 6) < 0, 8, 6, may_be_empty=False)


@pytest.mark.parametrize("points", [torch.zeros(3, 2), torch.zeros(2), [[0, 0], [1, 1]], None], ids=str)
def test_points_are_two_numbers_for_each_picture(points):
    with refused(ValueError, "points must be (N, 2), a place for each of 2 pictures; got"):
        guards.points(points, 2)
    with refused(ValueError, "points must be finite"):
        guards.points(np.array([[0, 1], [np.inf, 0]]), 2)
    guards.points(np.zeros((2, 2)), 2)
    guards.points(torch.zeros(2, 2, dtype=torch.long), 2)


def test_a_vector_of_length_1_has_the_wanted_shape_and_that_length():
    wanted = torch.Size([4])
    with refused(ValueError, "vector must be a tensor of the vectors' shape (4,); got"):
        guards.unit_vector("vector", torch.ones(1, 4), wanted, "the vectors'")
    for wrong in (torch.ones(4), torch.full((4,), torch.nan)):
        with refused(ValueError, "vector must have length 1"):
            guards.unit_vector("vector", wrong, wanted, "the vectors'")
    guards.unit_vector("vector", torch.full((4,), 0.5), wanted, "the vectors'")


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_finite_numbers_are_neither_nan_nor_infinite(number):
    with refused(ValueError, "values must be finite"):
        guards.finite("values", torch.tensor([0, number]))
    guards.finite("values", torch.zeros(2))


def test_bytes_are_pictures_where_they_are_allowed():
    guards.pictures(PICTURES.byte(), bytes_too=True)


@pytest.mark.parametrize(
    "betas, words",
    [
        ([0.1, 0.2], "1-D tensor of floats [0.1, 0.2] (list)"),
        (torch.tensor(0.1), "1-D tensor of floats shape ()"),
        (torch.full((2, 3), 0.1), "1-D tensor of floats shape (2, 3)"),
        (torch.tensor([]), "1-D tensor of floats shape (0,)"),
        (torch.tensor([1, 2]), "1-D tensor of floats int64"),
        (torch.tensor([0.0, 0.1]), "strictly between 0 and 1; these go from 0 to 0.1"),
        (torch.tensor([0.1, 1.0]), "strictly between 0 and 1; these go from 0.1 to 1"),
        (torch.tensor([-0.1, 0.1]), "strictly between 0 and 1; these go from -0.1 to 0.1"),
        (torch.tensor([0.1, math.nan]), "strictly between 0 and 1; these go from nan"),
    ],
)
def test_betas_are_a_row_of_numbers_between_0_and_1(betas, words):
    with refused(ValueError, "betas", *words.split(" ")):
        guards.betas(betas)


def test_alpha_bars_rounded_to_0_or_1_are_refused_with_the_reason():
    with refused(ValueError, "alpha_bars", "the first beta is too small"):
        guards.alpha_bars(torch.tensor([1.0, 0.5]))
    with refused(ValueError, "alpha_bars", "leave nothing of the picture"):
        guards.alpha_bars(torch.tensor([0.5, 0.0]))


@pytest.mark.parametrize(
    "t, error, words",
    [
        (5, TypeError, "torch.full((4,), 5); got 5 (int)"),
        (STEPS.float(), TypeError, "torch.long got float32"),
        (STEPS.int(), TypeError, "torch.long got int32"),
        (STEPS[:3], ValueError, "4 pictures shape (3,)"),
        (STEPS[0], ValueError, "4 pictures shape ()"),
        (STEPS + 97, ValueError, "between 0 and 99 100 timesteps, counted from 0 97 to 100"),
        (STEPS - 1, ValueError, "between 0 and 99 -1 to 2"),
    ],
)
def test_a_timestep_per_picture_within_the_schedule(t, error, words):
    with refused(error, "t must", *words.split(" ")):
        guards.timesteps(t, PICTURES, 100)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", 3.5])
def test_a_device_is_one_of_this_machine(device):
    guards.usable_device("cpu")
    guards.usable_device(torch.device("cpu"))
    with refused(ValueError, "device must be", str(device)):
        guards.usable_device(device)


def test_a_schedule_elsewhere_is_refused_with_the_remedy():
    with refused(ValueError, "schedule is on meta", "pictures are on cpu", 'schedule.to("cpu")'):
        guards.same_device(STEPS.to("meta"), PICTURES)


def test_conditions_stand_beside_their_pictures():
    with refused(ValueError, "null_cond must be a tensor of one condition's shape (2,); got float32", "(3,)"):
        guards.shape("null_cond", torch.zeros(3), torch.zeros(4, 2).shape[1:], "one condition's")
    with refused(ValueError, "2 conditions for 4 pictures"):
        guards.one_condition_each(PICTURES, torch.zeros(2, 2))


class Holder:
    def __init__(self, **inside):
        vars(self).update(inside)


@pytest.mark.parametrize(
    "wrong, hint", [(Holder(ema_model=1, model=1), "ema_model"), (Holder(model=1), "its model"), ("u", "str")]
)
def test_what_is_no_noise_predictor_is_told_from_what_holds_one(wrong, hint):
    with refused(TypeError, "eps_model must be callable", type(wrong).__name__, hint):
        guards.eps_model(wrong)


@pytest.mark.parametrize("x_T", [None, PICTURES.byte(), torch.tensor(0.5), torch.zeros(4)], ids=guards.describe)
def test_sampling_begins_with_a_batch_of_floats(x_T):
    with refused(ValueError, "x_T must be a batch of noise", "torch.randn(16, 1, 8, 8)"):
        guards.noise(x_T)


def test_a_network_that_removes_no_noise_is_told_who_teaches_it():
    super_resolver = object.__new__(SuperResolver)
    behind_a_closure = lambda x_t, t: x_t  # noqa: E731
    behind_a_closure.__wrapped__ = super_resolver
    with refused(ValueError, "SuperResolver", "train_super_resolver"):
        guards.eps_model(behind_a_closure)
    teachers = {Autoencoder(3, (8,)): "train_autoencoder", super_resolver: "train_super_resolver"}
    for network, teacher in [*teachers.items(), (object.__new__(CLIP), "train_clip")]:
        for guard in (guards.eps_model, guards.predicts_noise):
            with refused(ValueError, type(network).__name__, teacher):
                guard(network)
            guard(lambda x_t, t: x_t)


@pytest.mark.parametrize("rows", [[0, 1], torch.tensor(0), torch.tensor([0.0]), torch.tensor([4]), torch.tensor([-1])])
def test_rows_are_whole_numbers_within_the_pictures(rows):
    with refused(ValueError, "rows must be a long tensor (N,), numbers from 0 to 3", guards.describe(rows)):
        guards.rows(rows, 4)
    guards.rows(torch.tensor([0, 3, 3]), 4)


def test_what_a_network_writes_may_be_a_little_outside_but_no_bytes():
    guards.not_far_off("x", torch.tensor([-1.2, 1.000001]))
    for values, words in {(0.0, 255.0): "x / 127.5 - 1", (-9.0, 0.0): "from -9 to 0.", (math.nan, 0.0): "nan"}.items():
        with refused(ValueError, "x must lie in [-1, 1]", words):
            guards.not_far_off("x", torch.tensor(values))


@pytest.mark.parametrize("returned", [None, torch.zeros(4, 3, 8, 8), torch.zeros(1, 1, 8, 8)], ids=guards.describe)
def test_a_network_answers_in_the_shape_of_its_input(returned):
    with refused(ValueError, "x_t's shape (4, 1, 8, 8)", guards.describe(returned)):
        guards.shape("what eps_model returns", returned, PICTURES.shape, "x_t's")


PLAN = dict(channels=(8, 8), attention=(), cross_attention=(), context_dim=None, blocks_per_level=1, patch_size=1)


@pytest.mark.parametrize(
    "change, words",
    [
        *((dict(channels=c), "multiples of 8") for c in [(), (12,), (8, 20), (0, 8), (8.0,), ("8",), (True,), 32]),
        *((dict(attention=levels), "attention_levels must lie between 0 and 1") for levels in [(2,), (0, -1)]),
        (dict(cross_attention=(2,), context_dim=12), "cross_attention_levels must lie between 0 and 1"),
        (dict(cross_attention=(1,)), "cross_attention_levels need a context_dim"),
        (dict(blocks_per_level=0), "blocks_per_level must be a whole number, 1 or more; got 0"),
        (dict(in_channels="3"), "in_channels must be a whole number, 1 or more; got '3'"),
        (dict(patch_size=1.5), "patch_size must be a whole number, 1 or more; got 1.5"),
    ],
    ids=str,
)
def test_a_unet_that_cannot_be_built_is_refused(change, words):
    guards.unet_plan(**PLAN)
    with refused(ValueError, words):
        guards.unet_plan(**PLAN | change)


@pytest.mark.parametrize(
    "x_t, t, change, words",
    [
        (PICTURES[..., :6], STEPS, {}, "8x6 cannot be halved twice 3 levels multiples of 4"),
        (torch.zeros(4, 1, 8, 12), STEPS, dict(patch_size=2), "8x12 twice 3 levels patches of 2x2 multiples of 8"),
        (torch.zeros(4, 3, 8, 8), STEPS, {}, "3 channels in_channels=1"),
        (PICTURES[0], STEPS, {}, "x_t must be pictures floats (1, 8, 8): x_t[None] is"),
        (PICTURES.byte(), STEPS, {}, "x_t must be pictures uint8 x_t.float() / 127.5 - 1"),
        (PICTURES[:0], STEPS, {}, "x_t must be pictures (0, 1, 8, 8)"),
        (PICTURES[:, :, :0, :0], STEPS, {}, "x_t must be pictures (4, 1, 0, 0)"),
        (None, STEPS, {}, "x_t must be pictures None"),
        (PICTURES.double(), STEPS, {}, "x_t is float64 this U-Net's weights are float32: x_t.to(torch.float32)"),
        *(
            (PICTURES, t, {}, "t must be a long tensor of shape (4,)")
            for t in (3, STEPS[0], STEPS[:3], STEPS / 10, None)
        ),
    ],
)
def test_pictures_and_steps_that_a_unet_does_not_take_are_refused(x_t, t, change, words):
    with refused(ValueError, *words.split(" ")):
        guards.unet_input(x_t, t, None, None, CONFIG | change, torch.float32)


CONTEXT, PADDING = torch.zeros(4, 5, 12), torch.zeros(4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    "context, padding, words",
    [
        (None, None, ["context must be of shape (4, L, 12); got None"]),
        (CONTEXT[:1], PADDING[:1], ["context must be", "(1, 5, 12)"]),
        (CONTEXT[..., :8], PADDING, ["context must be", "(4, 5, 8)"]),
        (CONTEXT[:, 0], PADDING, ["context must be", "(4, 12)"]),
        (CONTEXT.tolist(), PADDING, ["context must be", "list"]),
        (CONTEXT, None, ["padding must be bool, (4, 5); got None"]),
        (CONTEXT, PADDING.long(), ["padding must be bool", "int64"]),
        (CONTEXT, PADDING[:, :4], ["padding must be bool", "(4, 4)"]),
    ],
)
def test_a_text_that_a_unet_does_not_read_is_refused(context, padding, words):
    with refused(ValueError, *words):
        guards.unet_input(PICTURES, STEPS, context, padding, CONFIG | dict(context_dim=12), torch.float32)
    with refused(ValueError, "reads no text"):
        guards.unet_input(PICTURES, STEPS, CONTEXT, PADDING, CONFIG, torch.float32)


@pytest.mark.parametrize(
    "words, error, message",
    [
        ("abc", TypeError, "list"),
        (["a", 7], TypeError, "got 7 (int)"),
        ([], ValueError, "no words"),
        (["a", "a"], ValueError, "different"),
    ],
)
def test_a_vocabulary_is_of_different_words(words, error, message):
    with refused(error, "words", message):
        guards.vocabulary(words)


def test_texts_that_do_not_fit_are_refused():
    with refused(ValueError, "'a a a'", "3 words", "reads 2"):
        guards.caption_length("a a a", 3, 2)
    for tokens in (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), [[1, 2]]):
        with refused(ValueError, "tokens must be long, (B, L)"):
            guards.tokens(tokens)
    encoder = dict(dim=16, vocabulary_size=5, max_length=6)
    with refused(ValueError, "context_dim of 8", "writes 16"):
        guards.reading(dict(context_dim=8), encoder, (5, 6))
    with refused(ValueError, "(5, 6)", "(4, 6)"):
        guards.reading(dict(context_dim=16), encoder, (4, 6))


@pytest.mark.parametrize(
    "prompts, shape, scale, error, words",
    [
        ("a red seven", (1, 8, 8), 3, TypeError, "list of prompts, such as ['a red seven']"),
        ([], (1, 8, 8), 3, ValueError, "prompts is empty"),
        *((["a"], shape, 3, ValueError, "shape must be that of one picture, (1, H, W)") for shape in ((8, 8), 8, None)),
        *((["a"], shape, 3, ValueError, "got (1,") for shape in ((1, -8, 8), (1, 8.0, 8))),
        (["a"], (3, 8, 8), 3, ValueError, "got (3, 8, 8) (tuple). This model was made for in_channels=1"),
        (["a"], (1, 8, 8), -0.5, ValueError, "guidance_scale must be 0 or more; got -0.5"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_refused(prompts, shape, scale, error, words):
    with refused(error, words):
        guards.prompts(prompts, shape, scale, 1)


def test_the_shape_of_pictures_is_no_shape_of_latents():
    with refused(ValueError, "(4, H, W)", "in_channels=4", "autoencoder.latent_shape((3, 64, 64))"):
        guards.prompts(["a"], (3, 64, 64), 3, 4)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("num_iterations", value) for value in (0, 2.5)),
        *(("learning_rate", value) for value in (0, -1, math.nan, math.inf, "3e-3")),
        ("warmup_iterations", -5),
        *(("max_grad_norm", value) for value in (-1, 0)),
        *(("ema_decay", value) for value in (-0.1, 2)),
    ],
)
def test_a_number_that_no_run_is_made_with_is_named(name, value):
    run = dict(num_iterations=1, learning_rate=1, warmup_iterations=0, max_grad_norm=math.inf, ema_decay=1)
    guards.fitting(**run)
    with refused(ValueError, f"{name} must", "got"):
        guards.fitting(**run | {name: value})


@pytest.mark.parametrize(
    "data, cond, null_cond, words",
    [
        (PICTURES, torch.zeros(9, 2), torch.zeros(2), ["one row for each of the 4 pictures", "(9, 2)"]),
        (PICTURES, torch.zeros(4, 2), None, ["null_cond beside it", "None"]),
        (PICTURES, None, torch.zeros(2), ["null_cond beside it", "None"]),
        (lambda start: None, torch.zeros(4, 2), None, ["cond goes with a tensor of pictures"]),
    ],
)
@pytest.mark.filterwarnings("ignore:no value of pictures")
def test_conditions_come_with_the_data(data, cond, null_cond, words):
    with refused(ValueError, "cond", *words):
        guards.training_data(data, cond, null_cond, 4)


@pytest.mark.filterwarnings("ignore:no value of pictures")
def test_conditions_are_tensors():
    fine = torch.zeros(4, 2, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    guards.training_data(PICTURES, *fine, 4)
    with refused(
        TypeError, "cond must be", "model.tokenizer(captions), or vectors of CLIP", "; got ['a', 'b', 'c', 'd']"
    ):
        guards.training_data(PICTURES, list("abcd"), fine[1], 4)
    with refused(TypeError, "null_cond must be a tensor, such as model.null_cond; got ''"):
        guards.training_data(PICTURES, fine[0], "", 4)


LIGHT, SHORT = torch.rand(4, 3, 16, 16), dict(num_iterations=1, batch_size=2)


@pytest.mark.parametrize(
    "model, train",
    [
        (UNet(3, (8,)), lambda state: train(state, NoiseSchedule(linear_betas(100)), LIGHT, **SHORT)),
        ("autoencoder", lambda state: train_autoencoder(state, LIGHT, **SHORT)),
        ("clip", lambda state: train_clip(state, LIGHT, [["cat"] * 4], **SHORT)),
        (
            "super-resolver",
            lambda state: train_super_resolver(state, NoiseSchedule(linear_betas(100)), LIGHT, **SHORT),
        ),
    ],
    ids=["train", "train_autoencoder", "train_clip", "train_super_resolver"],
)
def test_who_learns_from_pictures_between_0_and_1_is_warned_where_the_training_begins(model, train, cascades):
    if isinstance(model, str):
        model = load_checkpoint(cascades / f"{model}.safetensors").model.requires_grad_(True)
    with pytest.warns(UserWarning, match="no value of pictures is below 0") as seen:
        next(train(TrainingState(model)))
    assert seen[0].filename == __file__


@pytest.mark.parametrize(
    "x_0, cond, null_cond, words",
    [
        (PICTURES[:3], None, None, "must hold 4 pictures"),
        (PICTURES, torch.zeros(4, 1), None, "need a null_cond"),
        (PICTURES, None, torch.zeros(1), "without conditions none"),
        (PICTURES + 2, None, None, "must lie in [-1, 1]"),
    ],
)
def test_a_batch_that_somebody_else_drew_is_looked_at(x_0, cond, null_cond, words):
    with refused(ValueError, words):
        guards.batch(x_0, cond, 4, null_cond)


def test_latents_may_be_any_numbers_but_are_floats():
    for latents in (PICTURES + 7, PICTURES - 7):
        guards.batch(latents, None, 4, None, bounded=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            guards.training_data(latents, None, None, 4, bounded=False)
    for guard in (lambda z: guards.training_data(z, None, None, 4), lambda z: guards.batch(z, None, 4, None)):
        with refused(ValueError, "pictures must lie in [-1, 1]", "For latents: bounded=False"):
            guard(PICTURES - 7)
    for bytes_ in (PICTURES.byte(), PICTURES.long()):
        with refused(TypeError, "pictures must be floats", guards.describe(bytes_)):
            guards.training_data(bytes_, None, None, 4, bounded=False)
    with refused(ValueError, "(N, C, H, W); got", "(1, 8, 8)"):
        guards.training_data(PICTURES[0], None, None, 4, bounded=False)


@pytest.mark.parametrize(
    "z",
    [PICTURES[0], torch.zeros(2, 3, 8, 8), PICTURES[:, :, :, :0], PICTURES.byte(), PICTURES.numpy(), None],
    ids=guards.describe,
)
def test_latents_have_the_channels_of_their_autoencoder(z):
    with refused(ValueError, "z_0 must be latents, floats (B, 1, h, w); got", guards.describe(z)):
        guards.latents("z_0", z, 1, torch.float32)
    guards.latents("z_0", PICTURES, 1, torch.float32)


@pytest.mark.parametrize(
    "shape", [(4, 64, 64), (64, 64), (1, 3, 64, 64), (3, 64.0, 64), (3, 0, 64), 64, torch.zeros(3, 8, 8)], ids=str
)
def test_the_shape_of_one_picture_has_three_sides_and_the_networks_channels(shape):
    with refused(ValueError, "picture_shape must be that of one picture, (3, H, W); got"):
        guards.picture_shape(shape, 3)
    for fine in ((3, 64, 48), [3, 64, 48], torch.zeros(3, 64, 48).shape):
        guards.picture_shape(fine, 3)


def test_what_clips_is_a_switch_or_a_function():
    for fine in (True, False, torch.tanh):
        guards.clipping(fine)
    for wrong in (None, 1, "yes"):
        with refused(TypeError, "clip_x_0 must be True, False or a function", repr(wrong)):
            guards.clipping(wrong)


def test_latents_are_edited_with_any_clipping_but_the_usual_one():
    guards.edited(PICTURES + 2, None, False)
    for clip_x_0 in (True, torch.tanh):
        with refused(ValueError, "x_0 must lie in [-1, 1]", "clip_x_0=False"):
            guards.edited(PICTURES + 2, None, clip_x_0)


def test_a_shape_is_described_in_one_line():
    with refused(ValueError, "got float32 tensor of shape (4, 1, 8, 8)"):
        guards.picture_shape(PICTURES, 1)


def test_a_size_is_halved_by_patches_and_levels():
    for H, W, patch_size, levels in [(64, 64, 2, 2), (12, 20, 1, 3), (7, 5, 1, 1)]:
        guards.divisible((H, W), dict(patch_size=patch_size, channels=(8,) * levels))
    for (H, W), words in {(50, 64): "50x64 cannot be halved once", (64, 62): "64x62 cannot be halved once"}.items():
        with refused(ValueError, words, "patches of 2x2", "multiples of 4"):
            guards.divisible((H, W), dict(patch_size=2, channels=(8, 8)))


def test_batches_have_no_end():
    batches = guards.endless([1, 2])
    assert [next(batches), next(batches)] == [1, 2]
    with refused(ValueError, "batches came to an end", "endless"):
        next(batches)
