import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_core import (
    NoiseSchedule,
    PromptWarning,
    TextEncoder,
    TextToImage,
    Tokenizer,
    TrainingState,
    UNet,
    collect_notices,
    ddim,
    dpm_solver,
    generate,
    guided,
    linear_betas,
    noise_predictor,
    prompt_notice,
    sample,
    train,
)
from ddpm_core.text import START, padding_mask

CAPTIONS = ["a red seven", "红色的七", "the digit seven in blue"]
SHAPE = (1, 8, 8)


def new_model(dim: int = 16, **unet) -> TextToImage:
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    unet = UNet(1, (8, 16), **dict(context_dim=dim, cross_attention_levels=(0, 1)) | unet)
    return TextToImage(unet, TextEncoder(len(tokenizer), tokenizer.max_length, dim), tokenizer)


@pytest.fixture(scope="module")
def model() -> TextToImage:
    """Nothing at zero, as after some training, so that the text counts."""
    torch.manual_seed(0)
    model = new_model()
    for weight in model.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def tokens(model) -> Tensor:
    return model.tokenizer([*CAPTIONS, "", "seven"])


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))


T = torch.tensor([5, 20, 50, 99, 99])


def last(steps) -> Tensor:
    *_, x_t = steps
    return x_t


def test_the_model_is_its_unet_reading_what_its_encoder_wrote(model, tokens, noise):
    expected = model.unet(noise, T, model.text_encoder(tokens), padding_mask(tokens))
    assert torch.equal(model(noise, T, tokens), expected)


def test_the_caption_counts(model, noise):
    one, same, other = model.tokenizer(["a red seven", "A red seven!", "the digit seven in blue"])
    x_t, t = noise[:1], T[:1]
    assert torch.equal(model(x_t, t, one[None]), model(x_t, t, same[None]))
    assert (model(x_t, t, one[None]) - model(x_t, t, other[None])).abs().max() > 1e-2


def test_a_captions_answer_does_not_depend_on_the_rest_of_the_batch(model, tokens, noise):
    together = model(noise, T, tokens)
    for row in range(5):
        only = slice(row, row + 1)
        torch.testing.assert_close(model(noise[only], T[only], tokens[only]), together[only], rtol=0, atol=1e-5)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(model(noise[order], T[order], tokens[order]), together[order], rtol=0, atol=1e-5)


def test_a_captions_answer_does_not_depend_on_its_padding(model, tokens, noise):
    assert tokens.shape[1] == 6
    for row, length in [(0, 4), (3, 1), (4, 2)]:
        only = slice(row, row + 1)
        answers = [model(noise[only], T[only], tokens[only, :longer]) for longer in range(length, 7)]
        for answer in answers[1:]:
            torch.testing.assert_close(answer, answers[0], rtol=0, atol=1e-5)


def test_no_condition_is_the_empty_caption(model):
    assert model.null_cond.tolist() == [START, 0, 0, 0, 0, 0]
    assert torch.equal(model.null_cond, model.tokenizer([""])[0])


def test_a_step_of_training_reaches_every_weight_of_both_networks(model, digits, schedule):
    state = TrainingState(copy.deepcopy(model).requires_grad_(True))
    cond = model.tokenizer(CAPTIONS).repeat(10, 1)
    next(train(state, schedule, digits[:30], 5, batch_size=16, cond=cond, null_cond=model.null_cond))
    assert [name for name, weight in state.model.named_parameters() if not weight.grad.any()] == []
    for before, after in zip(model.parameters(), state.model.parameters(), strict=True):
        assert not torch.equal(before, after)


@pytest.mark.parametrize("num_steps, steps", [(3, 3), (None, 50), (100, 100), (1, 1)])
def test_generate_yields_every_step_in_the_pictures_shape(model, schedule, num_steps, steps):
    yielded = list(generate(model, schedule, CAPTIONS[:2], SHAPE, num_steps=num_steps))
    assert len(yielded) == steps
    assert all(x_t.shape == (2, *SHAPE) for x_t in yielded)
    assert yielded[-1].abs().max() <= 1


def test_a_schedule_of_less_than_50_steps_is_sampled_whole(model):
    assert len(list(generate(model, NoiseSchedule(linear_betas(20)), ["blue"], SHAPE))) == 20


def test_one_seed_gives_one_set_of_pictures_and_another_seed_another(model, schedule):
    first, again, other = (
        last(generate(model, schedule, CAPTIONS, SHAPE, num_steps=4, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1


def test_the_sampler_is_the_one_that_is_asked_for(model, schedule):
    cond = model.tokenizer(CAPTIONS[:1])
    eps_model = guided(noise_predictor(model, schedule), cond, model.null_cond, 3.0)
    x_T = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(5))
    for name, sampler in (("ddim", ddim), ("dpm-solver", dpm_solver)):
        expected = last(sampler(eps_model, schedule, x_T, 7))
        ours = last(generate(model, schedule, CAPTIONS[:1], SHAPE, num_steps=7, seed=5, sampler=name))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r'sampler must be "ddpm", "ddim" or "dpm-solver"; got .euler'):
        generate(model, schedule, CAPTIONS, SHAPE, sampler="euler")


@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_a_sampler_that_is_given_no_text_says_how_to_give_it(predicts, schedule, noise):
    model = new_model(predicts=predicts)
    eps_model = noise_predictor(model, schedule)
    with pytest.raises(ValueError, match=r"TextToImage reads tokens: guided\(eps_model, tokens, model\.null_cond\)"):
        sample(eps_model, schedule, noise)
    with pytest.raises(ValueError, match="train takes them as cond and null_cond"):
        next(train(TrainingState(model), schedule, noise.tanh(), 2, 2))
    sample(guided(eps_model, model.tokenizer(CAPTIONS[:1] * 5), model.null_cond), schedule, noise)


def test_the_shape_is_that_of_what_the_model_draws(model, schedule):
    with pytest.raises(ValueError, match=r"shape must be that of one picture, \(1, H, W\); got \(3, 8, 8\)"):
        generate(model, schedule, CAPTIONS, (3, 8, 8))


class OfAGaussian(TextToImage):
    """Tells the noise exactly, where every number of x_0 is drawn from a Gaussian: mean 3, standard deviation 0.5."""

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        alpha_bar = LONG.alpha_bars[t][:, None, None, None]
        return (1 - alpha_bar).sqrt() * (x_t - 3 * alpha_bar.sqrt()) / (0.25 * alpha_bar + 1 - alpha_bar)


LONG = NoiseSchedule(linear_betas(1000))


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver", "ddpm"])
def test_without_clipping_latents_far_from_0_are_drawn_as_they_should_be(model, sampler):
    """The probability flow of a Gaussian has a closed form (Song et al. 2021, section 4.3)."""
    gaussian = OfAGaussian(model.unet, model.text_encoder, model.tokenizer)
    options = dict(guidance_scale=1, num_steps=400, sampler=sampler)
    z_0 = last(generate(gaussian, LONG, ["blue"] * 40, SHAPE, clip_x_0=False, **options))
    if sampler == "ddpm":
        assert z_0.mean().item() == pytest.approx(3, abs=0.04)  # four standard errors of 2,560 numbers
        assert z_0.std().item() == pytest.approx(0.5, abs=0.03)
    else:
        x_T = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(40)])
        alpha_bar = LONG.alpha_bars[-1]
        expected = 3 + 0.5 * (x_T - 3 * alpha_bar.sqrt()) / (0.25 * alpha_bar + 1 - alpha_bar).sqrt()
        torch.testing.assert_close(z_0, expected, rtol=0, atol=0.03)
    assert last(generate(gaussian, LONG, ["blue"], SHAPE, **options)).max() <= 1


def test_generating_does_not_touch_the_global_randomness(model, schedule):
    before = torch.get_rng_state()
    last(generate(model, schedule, CAPTIONS, SHAPE, num_steps=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompts_picture_does_not_depend_on_the_prompts_beside_it(model, schedule):
    one = last(generate(model, schedule, ["red", "a red seven", "blue"], SHAPE, num_steps=4))
    other = last(generate(model, schedule, ["红色的七", "a red seven", "the digit seven"], SHAPE, num_steps=4))
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=1e-4)
    assert (one[0] - other[0]).abs().max() > 1e-2 and (one[2] - other[2]).abs().max() > 1e-2


def test_the_third_of_four_pictures_is_drawn_again_alone(model, schedule):
    prompts = [*CAPTIONS, "blue"]
    four = last(generate(model, schedule, prompts, SHAPE, num_steps=20, seed=5))
    alone = last(generate(model, schedule, prompts[2:3], SHAPE, num_steps=20, seed=np.int64(7)))
    torch.testing.assert_close(alone[0], four[2], rtol=0, atol=1e-4)
    assert all((four[i] - four[2]).abs().max() > 0.1 for i in (0, 1, 3))


@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_pictures_are_the_same_in_a_batch_of_any_size(model, schedule, at_once):
    prompts = ["a red seven"] * 5  # so that nothing but the noise can differ
    together = last(generate(model, schedule, prompts, SHAPE, num_steps=20, seed=1))
    pieces = [
        last(generate(model, schedule, prompts[i : i + at_once], SHAPE, num_steps=20, seed=1 + i))
        for i in range(0, 5, at_once)
    ]
    torch.testing.assert_close(torch.cat(pieces), together, rtol=0, atol=1e-4)
    assert all((together[i] - together[k]).abs().max() > 0.1 for i in range(5) for k in range(i))


def test_a_picture_is_that_which_sample_draws_with_a_generator_of_its_seed(model, schedule):
    picture = last(generate(model, schedule, ["blue", "a red seven"], SHAPE, 1.0, num_steps=20, seed=8))[1]
    generator = torch.Generator().manual_seed(9)
    eps_model = guided(model, model.tokenizer(["a red seven"]), model.null_cond)
    x_T = torch.randn(1, *SHAPE, generator=generator)
    alone = last(sample(eps_model, schedule, x_T, num_steps=20, generator=generator))[0]
    torch.testing.assert_close(picture, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("guidance_scale", [0, 1, 2.5])
def test_generate_follows_the_published_formula_of_guidance(model, schedule, guidance_scale):
    tokens = model.tokenizer(["a red seven", "blue"])
    null = model.null_cond.expand_as(tokens)
    x_T = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    t = torch.full((2,), 99)
    eps_hat = (1 - guidance_scale) * model(x_T, t, null) + guidance_scale * model(x_T, t, tokens)
    alpha_bar = schedule.alpha_bars[99]
    expected = ((x_T - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()).clamp(-1, 1)  # one step: straight to x_0
    steps = generate(model, schedule, ["a red seven", "blue"], SHAPE, guidance_scale, num_steps=1, seed=3)
    torch.testing.assert_close(last(steps), expected, rtol=1e-4, atol=1e-4)


def test_a_negative_prompt_changes_the_pictures_where_the_scale_is_above_1_and_only_there(model, schedule):
    def pictures(scale, negative_prompt):
        prompts = ["a red seven", "blue"]
        return last(generate(model, schedule, prompts, SHAPE, scale, negative_prompt, num_steps=3))

    assert (pictures(3, "blue") - pictures(3, "")).abs().max() > 1e-2
    for scale in (0, 0.5, 1):
        message = f"a negative prompt counts only where guidance_scale is above 1; at {scale:g} it is left out"
        with pytest.warns(PromptWarning, match=message):
            with_negative = pictures(scale, "blue")
        assert torch.equal(with_negative, pictures(scale, ""))


def test_away_from_the_prompt_itself_is_no_guidance(model, schedule):
    def pictures(scale, negative_prompt):
        return last(generate(model, schedule, ["blue"], SHAPE, scale, negative_prompt, num_steps=3))

    torch.testing.assert_close(pictures(3, "blue"), pictures(1, ""), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "prompt, notice",
    [
        ("a red seven", None),
        ("A RED seven!", None),
        ("", "an empty prompt sets no condition: the picture can be of anything"),
        ("?!", "an empty prompt sets no condition: the picture can be of anything"),
        (
            "a green seven 猫, green",
            '\'a green seven 猫, green\': no training caption had "green", "猫"; '
            "the picture is made from the other words",
        ),
        ("🍎 red", "'🍎 red': what is no word is left out (\"🍎\"); the picture is made from the other words"),
        (
            "🍎 red 猫",
            '\'🍎 red 猫\': no training caption had "猫"; what is no word is left out ("🍎"); '
            "the picture is made from the other words",
        ),
        ("🍎", "'🍎': what is no word is left out (\"🍎\"): the picture can be of anything"),
        ("绿猫", 'no word of \'绿猫\' was in any training caption ("绿", "猫"): the picture can be of anything'),
    ],
)
def test_a_notice_says_what_of_a_prompt_the_model_cannot_use(model, schedule, prompt, notice):
    assert prompt_notice(model.tokenizer, prompt) == notice
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(model, schedule, ["blue", prompt, prompt], SHAPE, num_steps=1)  # warns at the call, once a prompt
    assert [str(warning.message) for warning in caught] == ([] if notice is None else [notice])
    assert all(warning.category is PromptWarning and warning.filename == __file__ for warning in caught)


def test_a_negative_prompt_with_unknown_words_warns_and_an_empty_one_does_not(model, schedule):
    with pytest.warns(PromptWarning, match='"green"'):
        generate(model, schedule, ["blue"], SHAPE, negative_prompt="a green seven", num_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, schedule, ["blue"], SHAPE, negative_prompt="", num_steps=1)


@pytest.mark.parametrize("negative_prompt", ["green 猫", "?!", "🍎"])
def test_a_negative_prompt_without_a_known_word_changes_nothing_and_says_so(model, schedule, negative_prompt):
    with pytest.warns(PromptWarning) as caught:
        steps = generate(model, schedule, ["blue"], SHAPE, 3, negative_prompt, num_steps=3)
    [notice] = [str(warning.message) for warning in caught]
    assert repr(negative_prompt) in notice and notice.endswith(": as a negative prompt it changes nothing")
    assert torch.equal(last(steps), last(generate(model, schedule, ["blue"], SHAPE, 3, num_steps=3)))


def test_a_negative_prompt_keeps_away_from_its_other_words_and_is_judged_only_where_it_counts(model, schedule):
    with pytest.warns(PromptWarning) as caught:
        generate(model, schedule, ["blue"], SHAPE, 3, "green red")
        generate(model, schedule, ["blue"], SHAPE, 1, "green red")
    weighed, left_out = [str(warning.message) for warning in caught]
    assert '"green"' in weighed and "keeps away from the other words" in weighed
    assert "green" not in left_out and "guidance_scale is above 1" in left_out


def test_a_long_prompt_is_not_repeated_whole(model):
    notice = prompt_notice(model.tokenizer, " ".join(f"word{i}" for i in range(400)))
    assert "word0" in notice and len(notice) < 300


def test_collected_notices_are_not_shown_and_other_warnings_pass(model, schedule):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with collect_notices() as notices:
            generate(model, schedule, ["zebra", ""], SHAPE)
            warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]
    assert notices == [prompt_notice(model.tokenizer, prompt) for prompt in ("zebra", "")]


@pytest.mark.filterwarnings("ignore::ddpm_core.PromptWarning")
def test_a_prompt_of_unknown_words_alone_is_sampled_like_the_empty_one(model, schedule):
    unknown, empty = (last(generate(model, schedule, [prompt], SHAPE, num_steps=3)) for prompt in ("green", ""))
    assert torch.equal(unknown, empty)


@pytest.mark.device
def test_prompts_follow_the_model_to_its_device(model, schedule, device):
    there = copy.deepcopy(model).to(device)
    assert there.null_cond.device.type == device.type
    assert last(generate(there, schedule, CAPTIONS, SHAPE, num_steps=2)).device.type == device.type


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(prompts=["blue", "a a a a a a"]), "'a a a a a a' has 6 words, and this model reads 5"),
        (dict(negative_prompt="a a a a a a"), "negative_prompt 'a a a a a a' has 6 words, and this model reads 5"),
        (dict(prompts="a red seven"), r"prompts must be a list of prompts, such as \['a red seven'\]"),
        (dict(prompts=["blue", None]), "a prompt must be a string; got None"),
        (dict(negative_prompt=["blue"]), "a prompt must be a string; got .'blue'. .list"),
        (dict(model=UNet(1, (8,))), "model must be a TextToImage; got UNet"),
        (dict(guidance_scale="3"), "guidance_scale must be 0 or more; got '3'"),
        (dict(num_steps=101), "num_steps must be a whole number from 1 to 100"),
        (dict(seed=0.5), "seed must be a whole number; got 0.5"),
        (dict(seed=2**64), r"seed must lie between -2\*\*63 and"),
        (dict(seed=2**64 - 1, prompts=["blue", "red"]), r"seed must lie between -2\*\*63 and"),
        (dict(schedule=torch.zeros(3)), "schedule must be a NoiseSchedule"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_slip_is_named_at_the_call_and_not_at_the_first_step(model, schedule, change, words):
    arguments = dict(model=model, schedule=schedule, prompts=["blue"], shape=SHAPE) | change
    with pytest.raises((TypeError, ValueError), match=words):
        generate(**arguments)


def test_networks_that_were_not_made_for_each_other_are_refused(model):
    with pytest.raises(ValueError, match="context_dim of None, but the text encoder writes 16"):
        TextToImage(UNet(1, (8,)), model.text_encoder, model.tokenizer)
