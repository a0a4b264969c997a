import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import geometric_slerp
from torch import Tensor

from ddpm_core import (
    CLIP,
    DALLE2,
    CheckpointError,
    Decoder,
    EmojiDataset,
    NoiseSchedule,
    Prior,
    PromptWarning,
    TrainingState,
    UNet,
    clip_of,
    draw_from_vectors,
    draw_vectors,
    encode_in_batches,
    linear_betas,
    load_checkpoint,
    save_checkpoint,
    shipped_checkpoint,
    slerp,
    super_resolver_of,
    text_difference,
    train,
    unclip,
)
from ddpm_core.checkpoint import model_checksum
from ddpm_core.systems import dalle2, scaled, text_vectors

D = 8


def unit_vectors(count: int, seed: int = 0, dim: int = D) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def spoken(model: torch.nn.Module) -> torch.nn.Module:
    """What began at 0 says something, as after some training."""
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.fixture
def prior() -> Prior:
    torch.manual_seed(0)
    return spoken(Prior(D, width=16, num_blocks=2))


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return spoken(Decoder(UNet(3, (8,), context_dim=12, predicts="x_0"), vector_dim=D, num_tokens=3))


# ---- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_slerp_is_that_of_scipy(share):
    a, b = unit_vectors(20), unit_vectors(20, seed=1)
    theirs = [
        geometric_slerp(*pair, t=share)
        for pair in zip(*(F.normalize(each.double()).numpy() for each in (a, b)), strict=True)
    ]
    torch.testing.assert_close(slerp(a, b, share).double(), torch.from_numpy(np.stack(theirs)), rtol=0, atol=1e-5)


def test_between_a_vector_and_itself_there_is_no_other():
    a = unit_vectors(5)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    nearly = F.normalize(a + 1e-6, dim=1)
    torch.testing.assert_close(slerp(a, nearly, 0.5), a, rtol=0, atol=1e-5)


def test_between_opposite_vectors_there_is_no_one_way():
    a = unit_vectors(3)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, torch.cat([a[:1], -a[1:]]), 0.5)
    with pytest.raises(ValueError, match="opposite"):
        text_difference(F.normalize(a[:1] - a[1:2], dim=1), a[:1], a[1:2])
    nearly = F.normalize(0.01 * a[[1, 2, 0]] - a, dim=1)
    torch.testing.assert_close(slerp(a, nearly, 0.5).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (["a cat"] * 2, r"must be vectors of CLIP, floats \(B, D\); .*: text_vectors\(clip, prompts\)"),
        ("a cat", r"text_vectors\(clip, prompts\)"),
        (unit_vectors(1)[0], r"\[None\]"),
        (unit_vectors(2, dim=D + 1), r"of one B and D; got .*\(2, 9\)"),
        (unit_vectors(3), r"of one B and D; got .*\(3, 8\)"),
    ],
)
def test_what_lies_on_no_sphere_with_the_other_is_named(wrong, words):
    good = unit_vectors(2)
    for use in (lambda: slerp(wrong, good, 0.5), lambda: slerp(good, wrong, 0.5)):
        with pytest.raises(ValueError, match=words):
            use()
    for number in range(3):
        with pytest.raises(ValueError, match=words):
            text_difference(*[wrong if number == i else good for i in range(3)])
        with pytest.raises(ValueError, match="must have length 1"):
            text_difference(*[3 * good if number == i else good for i in range(3)])


def test_a_text_difference_turns_by_a_share_of_the_way_from_one_text_to_another():
    vectors, before, after = unit_vectors(4), unit_vectors(1, seed=1), unit_vectors(1, seed=2)
    torch.testing.assert_close(text_difference(vectors, before, after, 0.0), vectors)
    turned = text_difference(vectors, before, after, 0.3)
    towards = F.normalize(after - before, dim=1)[0]
    angle = lambda a, b: torch.acos((a * b).sum(dim=1).clamp(-1, 1))  # noqa: E731
    torch.testing.assert_close(
        angle(turned, vectors), 0.3 * angle(vectors, towards.expand(4, -1)), rtol=1e-3, atol=1e-3
    )
    assert (turned @ towards > vectors @ towards).all()
    torch.testing.assert_close(text_difference(vectors, before, before), vectors)  # which do not differ
    each = text_difference(vectors, before.expand(4, -1), after.expand(4, -1), 0.3)
    assert torch.equal(each, turned)


def test_scaled_vectors_have_numbers_of_deviation_1():
    vectors = unit_vectors(500, dim=128)
    assert scaled(vectors).std().item() == pytest.approx(1, rel=0.01)
    torch.testing.assert_close(F.normalize(scaled(vectors), dim=1), vectors)


# ---- the prior -------------------------------------------------------------------------------------------------------


class GaussianPrior(Prior):
    """Knows that the scaled vectors for a text are drawn from N(2 * scaled(text), deviation^2)."""

    def __init__(self, schedule: NoiseSchedule, deviation: float):
        super().__init__(D, width=8, num_blocks=1)
        self.alpha_bars, self.deviation = schedule.alpha_bars, deviation

    def forward(self, v_t: Tensor, t: Tensor, text_vectors: Tensor) -> Tensor:
        mean, alpha_bar, square = 2 * scaled(text_vectors), self.alpha_bars[t][:, None], self.deviation**2
        gain = alpha_bar.sqrt() * square / (alpha_bar * square + 1 - alpha_bar)
        return mean + gain * (v_t - alpha_bar.sqrt() * mean)


@pytest.mark.parametrize("num_candidates", [1, 2, 4])
def test_what_a_perfect_prior_draws_is_as_near_to_the_text_as_the_best_of_so_many_true_ones(num_candidates):
    schedule, text = NoiseSchedule(linear_betas()), unit_vectors(1).expand(400, -1)
    prior = GaussianPrior(schedule, deviation=2.0)
    drawn = draw_vectors(prior, schedule, text, 1.0, num_steps=120, num_candidates=num_candidates)
    true = 2 * scaled(text) + 2 * torch.randn(4, 400, D, generator=torch.Generator().manual_seed(1))
    cosines = (F.normalize(true[:num_candidates], dim=2) * text).sum(dim=2).amax(dim=0)
    assert (drawn * text).sum(dim=1).mean().item() == pytest.approx(cosines.mean().item(), abs=0.03)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(400))
    across = drawn - (drawn * text).sum(dim=1, keepdim=True) * text  # around the text in all directions alike
    assert across.mean(dim=0).norm() < 0.1 < across.norm(dim=1).mean()


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_vector_is_the_same_in_any_batch(guidance_scale, prior, schedule):
    texts, options = unit_vectors(3), dict(guidance_scale=guidance_scale, num_steps=5)
    together = draw_vectors(prior, schedule, texts, seed=7, **options)
    alone = draw_vectors(prior, schedule, texts[2:], seed=9, **options)
    torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5)
    assert (draw_vectors(prior, schedule, texts[2:], seed=10, **options) - alone).abs().max() > 1e-3
    assert not together.requires_grad


def test_what_the_prior_says_depends_on_all_that_it_is_told(prior):
    v_t, t, texts = torch.randn(2, D), torch.tensor([3, 3]), unit_vectors(2)
    said = prior(v_t, t, texts)
    assert said.shape == (2, D)
    for others in [
        (-v_t, t, texts),
        (v_t, t + 50, texts),
        (v_t, t, texts.flip(0)),
        (v_t, t, prior.null_cond.expand(2, D)),
    ]:
        assert (prior(*others) - said).abs().max() > 1e-3


def test_a_prior_learns_which_vector_belongs_to_which_text():
    schedule, texts, pictures = NoiseSchedule(linear_betas()), unit_vectors(4), unit_vectors(4, seed=1)
    torch.manual_seed(0)
    state = TrainingState(Prior(D, width=64, num_blocks=1))
    first = {name: weight.clone() for name, weight in state.model.named_parameters()}
    options = dict(learning_rate=1e-2, warmup_iterations=10, ema_decay=0.9, bounded=False, min_snr_gamma=1.0)
    cond = dict(cond=texts.repeat(16, 1), null_cond=state.model.null_cond)
    list(train(state, schedule, scaled(pictures).repeat(16, 1), 300, 64, **cond, **options))
    assert all(not torch.equal(weight, first[name]) for name, weight in state.model.named_parameters())
    drawn = draw_vectors(state.ema_model, schedule, texts.repeat(8, 1), num_candidates=1)
    assert (drawn @ pictures.T).argmax(dim=1).tolist() == list(range(4)) * 8
    assert (drawn * pictures.repeat(8, 1)).sum(dim=1).min() > 0.9


# ---- the decoder -----------------------------------------------------------------------------------------------------


class Knows(Decoder):
    """Draws, for each vector that it was told of, its picture; and another one for the vector that says nothing."""

    def __init__(self, vectors: Tensor, pictures: Tensor, otherwise: Tensor):
        super().__init__(UNet(3, (8,), context_dim=12, predicts="x_0"), vector_dim=D)
        self.known = torch.cat([vectors, self.null_cond[None]])
        self.pictures = torch.cat([pictures, otherwise[None]])

    def forward(self, x_t: Tensor, t: Tensor, vectors: Tensor) -> Tensor:
        return self.pictures[torch.cdist(vectors, self.known).argmin(dim=1)]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_each_vector_becomes_its_picture_and_guidance_leads_away_from_that_of_none(sampler, schedule):
    vectors, pictures, otherwise = unit_vectors(3), 0.4 * uniform(3, 3, 4, 4), 0.2 * uniform(3, 4, 4).flip(0)
    decoder, order, options = Knows(vectors, pictures, otherwise), [2, 0, 1, 2], dict(num_steps=6, sampler=sampler)
    steps = list(draw_from_vectors(decoder, schedule, vectors[order], (3, 4, 4), 1.0, **options))
    assert len(steps) == 6
    torch.testing.assert_close(steps[-1], pictures[order], rtol=0, atol=1e-4)
    *_, guided = draw_from_vectors(decoder, schedule, vectors[order], (3, 4, 4), 2.0, **options)
    torch.testing.assert_close(guided, 2 * pictures[order] - otherwise, rtol=0, atol=1e-3)


def test_a_picture_is_the_same_in_any_batch(decoder, schedule):
    vectors, options = unit_vectors(3), dict(shape=(3, 4, 4), num_steps=5)
    *_, together = draw_from_vectors(decoder, schedule, vectors, seed=7, **options)
    *_, alone = draw_from_vectors(decoder, schedule, vectors[2:], seed=9, **options)
    torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5)
    *_, other = draw_from_vectors(decoder, schedule, vectors[:1], seed=9, **options)
    assert (other - alone).abs().max() > 1e-3


def test_the_u_net_looks_at_tokens_of_which_none_is_padding(decoder, monkeypatch):
    seen, x_t, t = [], torch.randn(2, 3, 4, 4), torch.tensor([1, 2])
    monkeypatch.setattr(decoder.unet, "forward", lambda *inputs, padding: seen.extend([*inputs, padding]) or inputs[0])
    decoder(x_t, t, unit_vectors(2))
    assert seen[0] is x_t and seen[1] is t and seen[2].shape == (2, 3, 12)
    assert seen[3].shape == (2, 3) and seen[3].dtype == torch.bool and not seen[3].any()


@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
def test_a_decoder_predicts_what_its_u_net_does_and_its_training_reaches_every_weight(predicts, schedule):
    torch.manual_seed(0)
    unet = UNet(3, (8,), context_dim=8, cross_attention_levels=(0,), predicts=predicts)
    state = TrainingState(Decoder(unet, vector_dim=D, num_tokens=2))
    assert state.model.predicts == predicts
    first = {name: weight.clone() for name, weight in state.model.named_parameters()}
    cond = dict(cond=unit_vectors(6), null_cond=state.model.null_cond)
    list(train(state, schedule, uniform(6, 3, 4, 4), 4, 6, **cond, warmup_iterations=0))
    same = [name for name, weight in state.model.named_parameters() if torch.equal(weight, first[name])]
    assert same == [] and all(map(math.isfinite, state.losses))


# ---- both ------------------------------------------------------------------------------------------------------------


def loaded(folder: Path, name: str = "dalle2"):
    return load_checkpoint(folder / f"{name}.safetensors")


def test_unclip_draws_the_vectors_and_then_their_pictures(cascades):
    checkpoint = loaded(cascades)
    model, schedule, clip = checkpoint.model, checkpoint.schedule, clip_of(checkpoint)
    prompts, options = ["noto cat", "rocket"], dict(num_steps=4, seed=5, sampler="ddim", clip_x_0=False)
    steps = list(unclip(model, clip, schedule, prompts, (3, 4, 4), 1.5, **options))
    vectors = draw_vectors(model.prior, schedule, clip.encode_captions(prompts).detach(), seed=5)
    expected = list(draw_from_vectors(model.decoder, schedule, vectors, (3, 4, 4), 1.5, **options))
    torch.testing.assert_close(steps, expected)
    *_, second = unclip(model, clip, schedule, prompts[1:], (3, 4, 4), 1.5, **options | dict(seed=6))
    torch.testing.assert_close(second[0], steps[-1][1], rtol=0, atol=1e-4)
    *_, clipped = unclip(model, clip, schedule, prompts, (3, 4, 4), 1.5, **options | dict(clip_x_0=True))
    assert clipped.abs().max() <= 1 < steps[-1].abs().max()


def test_vector_and_pixels_of_a_picture_do_not_begin_with_the_same_noise(cascades, monkeypatch):
    begun, seeded_noise = [], dalle2.seeded_noise
    monkeypatch.setattr(
        dalle2, "seeded_noise", lambda *rest: begun.append(seeded_noise(*rest)[0].flatten()) or seeded_noise(*rest)
    )
    checkpoint = loaded(cascades)
    list(unclip(checkpoint.model, clip_of(checkpoint), checkpoint.schedule, ["cat"], (3, 4, 4), num_steps=2))
    assert len(begun) == 2 and (begun[0] - begun[1][:D]).abs().min() > 1e-3


def test_vectors_of_prompts_are_the_clips_and_unknown_words_are_named(cascades):
    clip = clip_of(loaded(cascades))
    prompts = ["noto cat", "火 箭"]
    vectors = text_vectors(clip, prompts)
    torch.testing.assert_close(vectors, encode_in_batches(clip, prompts))
    assert not vectors.requires_grad
    with pytest.warns(PromptWarning, match='no training caption had "zeppelin"'):
        text_vectors(clip, ["cat zeppelin"])


@pytest.mark.filterwarnings("ignore::ddpm_core.PromptWarning")
def test_a_prompt_without_a_known_word_sets_no_condition(cascades):
    """Its pictures are then those of a text that the prior ignores, and the others stay as they are."""
    checkpoint = loaded(cascades)
    model, schedule, clip = checkpoint.model, checkpoint.schedule, clip_of(checkpoint)
    options = dict(shape=(3, 4, 4), num_steps=3, seed=5)
    *_, drawn = unclip(model, clip, schedule, ["", "noto cat", "zeppelin"], **options)
    *_, known = unclip(model, clip, schedule, ["noto cat"], **options | dict(seed=6))
    torch.testing.assert_close(drawn[1:2], known, rtol=0, atol=1e-4)
    texts = clip.encode_captions(["rocket"] * 3).detach()  # any
    vectors = draw_vectors(model.prior, schedule, texts, guidance_scale=0, seed=5, num_candidates=1)
    *_, of_anything = draw_from_vectors(model.decoder, schedule, vectors, **options)
    torch.testing.assert_close(drawn[[0, 2]], of_anything[[0, 2]], rtol=0, atol=1e-4)


def test_both_come_back_from_a_file(prior, decoder, tmp_path):
    schedule = NoiseSchedule(linear_betas(10))
    with pytest.raises(TypeError, match="schedule must be a NoiseSchedule"):
        save_checkpoint(tmp_path / "a.safetensors", TrainingState(DALLE2(prior, decoder)))
    save_checkpoint(tmp_path / "a.safetensors", TrainingState(DALLE2(prior, decoder)), schedule)
    model, texts = load_checkpoint(tmp_path / "a.safetensors").model, unit_vectors(2)
    options = dict(num_steps=3)
    vectors = draw_vectors(prior, schedule, texts, **options)
    assert torch.equal(draw_vectors(model.prior, schedule, texts, **options), vectors)
    *_, expected = draw_from_vectors(decoder, schedule, vectors, (3, 4, 4), **options)
    *_, drawn = draw_from_vectors(model.decoder, schedule, vectors, (3, 4, 4), **options)
    assert torch.equal(drawn, expected)


# ---- with its CLIP ---------------------------------------------------------------------------------------------------


def test_another_clip_than_that_of_the_training_is_refused(cascades):
    checkpoint, path = loaded(cascades), cascades / "clip.safetensors"
    clip = clip_of(checkpoint)
    assert isinstance(clip, CLIP) and model_checksum(clip) == checkpoint.notes["clip"]
    with torch.no_grad():
        clip.text_head.weight[0, 0] += 1e-3
    save_checkpoint(path, TrainingState(clip))
    with pytest.raises(
        CheckpointError, match=r"another CLIP than the course's.*git checkout -- data/clip\.safetensors"
    ):
        clip_of(checkpoint)
    with pytest.raises(CheckpointError, match="holds the network TextToImage, without one"):
        clip_of(loaded(cascades, "stable-diffusion"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"git checkout -- data/clip\.safetensors"):
        clip_of(checkpoint)


def test_prior_and_decoder_of_different_clips_are_no_pair(prior, decoder):
    other = Decoder(UNet(3, (8,), context_dim=12), vector_dim=D + 1)
    with pytest.raises(ValueError, match="the prior draws vectors of 8 numbers, but the decoder reads 9"):
        DALLE2(prior, other)


def test_prior_and_decoder_in_each_others_place_are_named(prior, decoder):
    with pytest.raises(TypeError, match="prior must be a Prior; got Decoder"):
        DALLE2(decoder, prior)
    with pytest.raises(TypeError, match="decoder must be a Decoder; got UNet"):
        DALLE2(prior, UNet(3, (8,)))


# ---- slips -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda: Decoder(UNet(3, (8,))), "must be made with a context_dim"),
        (lambda: Decoder(UNet(3, (8,), context_dim=8), vector_dim=0), "vector_dim must be a whole number"),
        (lambda: Decoder(UNet(3, (8,), context_dim=8), num_tokens=1.5), "num_tokens must be a whole number"),
        *(
            (lambda name=name: Prior(**{name: 0}), f"{name} must be a whole number")
            for name in ("vector_dim", "width", "num_blocks")
        ),
        (lambda: slerp(unit_vectors(1), unit_vectors(1), 1.1), "share must be a number between 0 and 1"),
        (lambda: text_difference(*[unit_vectors(1)] * 3, share=-0.1), "share must be a number between 0 and 1"),
    ],
)
def test_what_cannot_be_made_is_named(slip, words):
    with pytest.raises(ValueError, match=words):
        slip()


WRONG_VECTORS = [
    (unit_vectors(2, dim=D + 1), r"must be vectors of CLIP, floats \(B, 8\); got .*\(2, 9\)"),
    (unit_vectors(1)[0], r"floats \(B, 8\); got .*\(8,\)"),
    (unit_vectors(0), r"\(0, 8\)"),
    (torch.zeros(1, D, dtype=torch.long), "int64"),
    ("a cat", r"'a cat'.*: text_vectors\(clip, prompts\)"),
    (["a cat", "a dog"], r"text_vectors\(clip, prompts\)"),
    (torch.zeros(2, 3, 4, 4), r": clip\.encode_pictures\(pictures\)"),
    (unit_vectors(1)[0], r"\[None\] is a batch of one"),
    (3 * unit_vectors(2), "must have length 1.* from 3 to 3"),
    (torch.zeros(2, D), "must have length 1"),
    (torch.full((1, D), math.nan), "must be finite"),
]


@pytest.mark.parametrize("vectors, words", WRONG_VECTORS)
def test_what_is_no_vector_of_clip_is_named(vectors, words, prior, decoder, schedule):
    with pytest.raises(ValueError, match=f"text_vectors .*{words}"):
        draw_vectors(prior, schedule, vectors)
    with pytest.raises(ValueError, match=f"vectors .*{words}"):
        draw_from_vectors(decoder, schedule, vectors, (3, 4, 4))


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(prior=UNet(1, (8,))), TypeError, "prior must be a Prior; got UNet"),
        (dict(schedule=3), TypeError, "schedule must be a NoiseSchedule"),
        (dict(guidance_scale=-1), ValueError, "guidance_scale must be"),
        (dict(num_candidates=0), ValueError, "num_candidates must be a whole number, 1 or more; got 0"),
        (dict(num_steps=101), ValueError, "num_steps must be a whole number from 1 to 100"),
        (dict(seed="1"), ValueError, "seed must be a whole number; got '1'"),
        (dict(seed=2**64 - 2), ValueError, f"seed must lie between .*; got {2**64 - 2}"),
    ],
)
def test_a_slip_in_drawing_vectors_is_named(change, error, words, prior, schedule):
    with pytest.raises(error, match=words):
        draw_vectors(**dict(prior=prior, schedule=schedule, text_vectors=unit_vectors(2)) | change)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(decoder=UNet(3, (8,))), TypeError, "decoder must be a Decoder; got UNet"),
        (dict(schedule=3), TypeError, "schedule must be a NoiseSchedule"),
        (dict(shape=(1, 4, 4)), ValueError, r"shape must be that of one picture, \(3, H, W\); got \(1, 4, 4\)"),
        (dict(shape=(2, 3, 4, 4)), ValueError, "shape must be"),
        (dict(guidance_scale=-1), ValueError, "guidance_scale must be"),
        (dict(num_steps=0), ValueError, "num_steps must be"),
        (dict(seed=None), ValueError, "seed must be"),
        (dict(sampler="euler"), ValueError, "sampler must be"),
        (dict(clip_x_0="no"), TypeError, "clip_x_0 must be True, False or a function"),
    ],
)
def test_a_slip_in_drawing_pictures_is_named_at_the_call(change, error, words, decoder, schedule):
    given = dict(decoder=decoder, schedule=schedule, vectors=unit_vectors(2), shape=(3, 4, 4))
    with pytest.raises(error, match=words):
        draw_from_vectors(**given | change)


def test_a_slip_in_what_needs_both_is_named(cascades, schedule):
    model, clip = loaded(cascades).model, clip_of(loaded(cascades))
    for arguments, words in [
        ((model.prior, clip, schedule, ["cat"]), "model must be a DALLE2; got Prior"),
        ((model, None, schedule, ["cat"]), "clip must be a CLIP; got None"),
        ((model, clip, schedule, "cat"), "prompts must be a list"),
    ]:
        with pytest.raises((TypeError, ValueError), match=words):
            unclip(*arguments, (3, 4, 4))
    with pytest.raises(TypeError, match="checkpoint must be a Checkpoint"):
        clip_of(model)


def test_a_decoder_or_prior_without_vectors_is_told_how_it_gets_them(prior, decoder, schedule):
    for model, pictures in ((decoder, uniform(2, 3, 4, 4)), (prior, scaled(unit_vectors(2)))):
        with pytest.raises(ValueError, match=f"this {type(model).__name__} reads vectors.* cond and null_cond"):
            next(train(TrainingState(model), schedule, pictures, 1, bounded=False))


def test_a_slip_in_their_training_is_named(prior, decoder, schedule):
    vectors, state = unit_vectors(2), TrainingState(prior)
    cond = dict(cond=vectors, null_cond=prior.null_cond)
    with pytest.raises(ValueError, match=r"got .*\(2, 8\)\. For vectors \(N, D\): bounded=False$"):
        next(train(state, schedule, scaled(vectors), 1, **cond))
    with pytest.raises(TypeError, match=r"cond must be a tensor, .*vectors of CLIP for a Prior or a Decoder; got"):
        next(train(state, schedule, scaled(vectors), 1, bounded=False, cond=["a", "b"], null_cond=prior.null_cond))
    both = TrainingState(DALLE2(prior, decoder))
    with pytest.raises(ValueError, match=r"got DALLE2, .* its prior and its decoder.* unclip"):
        next(train(both, schedule, uniform(2, 3, 4, 4), 1, **cond))


# ---- the shipped one -------------------------------------------------------------------------------------------------


def test_the_shipped_one_belongs_to_the_shipped_clip_and_super_resolver_and_says_how_it_was_made():
    path = shipped_checkpoint("dalle2")
    checkpoint = load_checkpoint(path)
    assert path.stat().st_size < 10e6 and isinstance(checkpoint.model, DALLE2)
    assert {"command", "iterations", "seconds", "machine", "scores", "guidance_scale"} <= set(checkpoint.notes)
    assert model_checksum(clip_of(checkpoint)) == checkpoint.notes["clip"]
    C, *size = checkpoint.notes["picture_size"]
    assert size == 2 * [super_resolver_of(checkpoint).model.config["low_size"]]
    assert checkpoint.model.decoder.unet.config["in_channels"] == C


@pytest.mark.parametrize("split", ["train", "withheld"])
def test_what_the_shipped_prior_draws_is_nearer_to_the_picture_than_the_text_is(split):
    checkpoint = load_checkpoint(shipped_checkpoint("dalle2"))
    clip, data = clip_of(checkpoint), EmojiDataset(split=split)
    rows = torch.randperm(len(data.pictures), generator=torch.Generator().manual_seed(1))[:100]
    real = encode_in_batches(clip, data.pictures[rows])
    texts = encode_in_batches(clip, [data.caption(row) for row in rows.tolist()])
    drawn = draw_vectors(checkpoint.model.prior, checkpoint.schedule, texts)
    assert (drawn * real).sum(dim=1).mean() > (texts * real).sum(dim=1).mean() + 0.02
