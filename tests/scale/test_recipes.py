import copy
import hashlib
import inspect
import re
from functools import cache

import pytest
import torch
from torch import Tensor

import ddpm_core.scale.recipes
from ddpm_core import (
    Checkpoint,
    EmojiDataset,
    TextToImage,
    TrainingState,
    autoencoder_of,
    draw_scenes,
    is_withheld,
    load_checkpoint,
    load_digit_scenes,
    scene_agreement,
    shipped_checkpoint,
    super_resolver_of,
    train,
)
from ddpm_core.checkpoint import SHIPPED
from ddpm_core.scale.recipes import PRESETS, data_checksum, one_each
from ddpm_core.support.pixels import from_bytes, to_bytes

CHANNELS = {"digit-scenes": 3, "emoji": 3, "stable-diffusion": 4, "imagen": 3}  # of the pictures, or of their latents
every_preset = pytest.mark.parametrize("name", PRESETS)


@pytest.fixture(scope="module")
def data() -> dict[str, tuple[Tensor, list[str]]]:
    """What the presets train on; of the digit scenes only as many as hold all words."""
    scenes = load_digit_scenes(num_digits=2, count=2000, as_bytes=True)
    emoji = {name: PRESETS[name].load() for name in PRESETS if name != "digit-scenes"}
    return {"digit-scenes": (scenes.pictures, scenes.captions)} | emoji


@pytest.fixture(scope="module")
def models(data) -> dict[str, TextToImage]:
    torch.manual_seed(0)
    return {name: PRESETS[name].new_model(CHANNELS[name], data[name][1]) for name in PRESETS}


@pytest.mark.parametrize("name", ["digits", "", "Emoji", "emoji.safetensors", None])
def test_a_checkpoint_that_does_not_come_with_the_course_is_refused(name):
    with pytest.raises(ValueError, match=f'name must be "digit-scenes", .* or "dalle2"; got {name!r}') as error:
        shipped_checkpoint(name)
    assert all(f'"{one}"' in str(error.value) for one in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_checkpoint_is_in_the_data_folder_or_missed_with_the_fix(name, tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=f"git checkout -- data/{name}.safetensors"):
        shipped_checkpoint(name)
    (tmp_path / f"{name}.safetensors").touch()
    assert shipped_checkpoint(name) == tmp_path / f"{name}.safetensors"


@every_preset
def test_a_model_is_what_the_preset_says_and_knows_every_word(name, data, models):
    preset, model, captions = PRESETS[name], models[name], data[name][1]
    config = model.unet.config
    assert config | preset.unet | dict(in_channels=CHANNELS[name], context_dim=preset.text_dim) == config
    assert model.text_encoder.config["dim"] == preset.text_dim
    assert not any(model.tokenizer.unknown_words(caption) for caption in captions)
    assert not any(model.tokenizer.unknown_words(prompt) for prompt in preset.prompts)
    assert model.tokenizer(preset.prompts).shape == (len(preset.prompts), model.tokenizer.max_length)


@pytest.mark.parametrize("name", ["stable-diffusion", "imagen"])
def test_a_preset_with_a_clip_reads_with_its_text_encoder(name, models):
    clip, model = load_checkpoint(shipped_checkpoint("clip")).model, models[name]
    assert model.tokenizer.words == clip.tokenizer.words
    theirs = clip.text_encoder.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.text_encoder.state_dict().items())


@every_preset
def test_train_runs_with_a_presets_options(name, data, models):
    preset, (pictures, captions) = PRESETS[name], data[name]
    options = preset.train_options(models[name], captions[:100])
    assert set(options) <= set(inspect.signature(train).parameters)
    assert options["cond"].shape == (100, models[name].tokenizer.max_length)
    assert torch.equal(options["null_cond"], models[name].null_cond)
    assert preset.options.items() <= options.items()
    state, schedule = TrainingState(copy.deepcopy(models[name]).requires_grad_(True)), preset.schedule
    latents = 2 * torch.randn(100, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    list(train(state, schedule, latents if preset.autoencoder else pictures[:100], 2, **options | dict(batch_size=4)))
    assert len(state.losses) == 2 and all(0 < loss < 2 for loss in state.losses)
    assert len(captions) % len(pictures) == 0 and schedule.alpha_bars[-1] < 1e-3  # which is noise


@pytest.mark.parametrize("name, size", [("emoji", 32), ("stable-diffusion", 64), ("imagen", 16)])
def test_the_emoji_are_trained_on_in_both_languages_with_their_style_twice_as_often_as_without(name, size, data):
    pictures, captions = data[name]
    emoji = EmojiDataset(size)
    rows = torch.nonzero(emoji.is_everyday)[:, 0].tolist()
    N = len(rows)
    assert pictures.dtype == torch.uint8 and pictures.shape == (N, 3, size, size) and len(captions) == 6 * N
    for i in (0, 1000, N - 1):
        row = rows[i]
        asked = [captions[block * N + i] for block in range(6)]
        with_style = [emoji.caption(row, language) for language in ("en", "zh")]
        assert sorted(asked) == sorted(2 * with_style + [emoji.caption(row, each, False) for each in ("en", "zh")])
        assert torch.equal(pictures[i], emoji.pictures[row])
        assert all(torch.equal(one_each(pictures, captions)[block * N + i], pictures[i]) for block in range(6))


def test_the_digit_scenes_are_60000_of_two_digits(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        ddpm_core.scale.recipes, "load_digit_scenes", lambda **options: asked.update(options) or load_digit_scenes(2, 5)
    )
    pictures, captions = PRESETS["digit-scenes"].load()
    assert asked == dict(num_digits=2, count=60_000, as_bytes=True)
    assert pictures.shape == (5, 3, 28, 56) and len(captions) == 5


class FakeScore:
    """Stands in for scene_agreement: three in four are right."""

    def __init__(self):
        self.asked = []

    def __call__(self, model, schedule, *asked):
        self.asked.append(asked)
        return torch.tensor([True, True, True, False])


def test_the_score_of_the_digit_scenes_asks_for_known_and_withheld_scenes_in_both_languages(monkeypatch):
    fake = FakeScore()
    monkeypatch.setattr(ddpm_core.scale.recipes, "scene_agreement", fake)
    monkeypatch.setattr(ddpm_core.scale.recipes, "DigitReader", lambda: "a reader")
    scores = PRESETS["digit-scenes"].score(None, None, 2.5)
    assert scores == {"trained, en": 0.75, "trained, zh": 0.75, "withheld, en": 0.75, "withheld, zh": 0.75}
    for key, (scenes, language, reader, guidance_scale) in zip(scores, fake.asked, strict=True):
        assert key.endswith(language) and (reader, guidance_scale) == ("a reader", 2.5)
        assert len(scenes) == 1000 and all(is_withheld(scene) == key.startswith("withheld") for scene in scenes)
        assert language == "en" or not any(colour == "purple" for scene in scenes for _, colour in scene)


@pytest.mark.parametrize(
    "name, size, second",
    [
        ("emoji", 32, {}),
        ("stable-diffusion", 64, dict(autoencoder="an autoencoder")),
        ("imagen", 64, dict(super_resolver="a super-resolver")),
    ],
)
def test_the_score_of_the_emoji_asks_for_300_trained_and_all_withheld_ones_in_each_language(
    name, size, second, monkeypatch
):
    asked, shown_to_clip, sizes = [], [], []

    def fake_drawing(model, schedule, data, rows, language, guidance_scale, **options):
        asked.append((data, rows, language, guidance_scale))
        assert options == second
        return from_bytes(data.pictures[rows])

    def fake_retrieval(clip, pictures, captions, all_captions, k):
        shown_to_clip.append((len(pictures), len(captions), len(all_captions), set(captions) <= set(all_captions)))
        return torch.tensor([True, k == 10])

    def small_emoji(size, split):
        sizes.append(size)
        return EmojiDataset(16, split=split)

    monkeypatch.setattr(ddpm_core.scale.recipes, "EmojiDataset", small_emoji)
    monkeypatch.setattr(ddpm_core.scale.recipes, "draw_emoji", fake_drawing)
    monkeypatch.setattr(ddpm_core.scale.recipes, "retrieval_agreement", fake_retrieval)
    scores = PRESETS[name].score(None, None, 2.5, **second)
    kinds = [f"{kind}, {language}" for kind in ("trained", "withheld") for language in ("en", "zh")]
    by_clip = {key: scores.pop(key) for key in list(scores) if key.startswith("CLIP")}
    assert scores == dict.fromkeys([*kinds, *(f"style of {kind}" for kind in kinds)], 1)
    found = {f"among {k}, {language}": share for k, share in ((1, 0.5), (10, 1)) for language in ("en", "zh")}
    of_what = ("withheld", "real withheld") if second else ()
    assert by_clip == {f"CLIP finds {what} {which}": share for what in of_what for which, share in found.items()}
    rows = len(asked[2][1])
    assert sizes == [size]
    assert shown_to_clip == [(rows, rows, 1377, True)] * len(by_clip)
    for kind, (data, rows, language, guidance_scale) in zip(kinds, asked, strict=True):
        assert kind.endswith(language) and guidance_scale == 2.5
        is_meant = data.is_everyday & (data.is_withheld == kind.startswith("withheld"))
        assert is_meant[rows].all() and len(rows) == len(set(rows.tolist())) == min(300, is_meant.sum())
    assert torch.equal(asked[0][1], asked[1][1]) and torch.equal(asked[2][1], asked[3][1])


def test_a_checksum_changes_with_a_pixel_a_caption_and_their_order():
    data = load_digit_scenes(2, 20)
    pictures, captions = data.pictures, data.captions
    original = data_checksum(pictures, captions)
    assert data_checksum(to_bytes(pictures), captions) == original  # bytes or floats of the same pictures
    assert len(original) == 64 and data_checksum(pictures.clone(), list(captions)) == original
    other = pictures.clone()
    other[3, 1, 4, 5] += 2 / 255 if other[3, 1, 4, 5] < 0.9 else -2 / 255
    changed = [
        data_checksum(other, captions),
        data_checksum(pictures, [*captions[:-1], captions[-1] + "!"]),
        data_checksum(pictures, captions[::-1]),
        data_checksum(pictures.flip(0), captions),
        data_checksum(pictures[:-1], captions[:-1]),
    ]
    assert len({original, *changed}) == 6


def test_a_checksum_counts_a_picture_as_often_as_it_has_captions():
    data = load_digit_scenes(2, 20)
    pictures, captions = to_bytes(data.pictures), data.captions + data.captions[::-1]
    by_hand = hashlib.sha256(2 * pictures.numpy().tobytes() + "\n".join(captions).encode()).hexdigest()
    assert data_checksum(pictures, captions) == data_checksum(one_each(pictures, captions), captions) == by_hand


@cache
def shipped(name: str) -> Checkpoint:
    return load_checkpoint(shipped_checkpoint(name))


@every_preset
def test_a_shipped_checkpoint_is_of_its_preset_and_small(name, models):
    assert shipped_checkpoint(name).stat().st_size < 10e6
    assert shipped(name).model.config == models[name].config and shipped(name).training is None
    assert torch.equal(shipped(name).schedule.betas, PRESETS[name].schedule.betas)


@every_preset
def test_a_shipped_checkpoint_says_how_it_was_made_and_how_good_it_is(name):
    notes = shipped(name).notes
    assert notes["command"] == f"python -m ddpm_core train --preset {name}" and notes["preset"] == name
    assert notes["iterations"] == PRESETS[name].num_iterations and notes["seconds"] > 60
    assert "torch" in notes["machine"] and not re.search(r"/(home|root|tmp|work)\b", str(notes))
    assert notes["data_checksum"] == data_checksum(*PRESETS[name].load())
    assert len(notes["scores"]) >= 2 and all(0 <= score <= 1 for score in notes["scores"].values())


def test_the_shipped_imagen_reads_with_the_shipped_clip_and_draws_for_the_shipped_super_resolver():
    model, encoder = shipped("imagen"), shipped("clip").model.text_encoder.state_dict()
    assert model.notes["picture_size"] == [3, 16, 16]
    assert super_resolver_of(model).notes["picture_size"] == [3, 64, 64]
    for name, weight in model.model.text_encoder.state_dict().items():  # frozen; saved in half precision
        torch.testing.assert_close(weight, encoder[name], rtol=1e-3, atol=1e-4)


def test_all_that_comes_with_the_course_is_small():
    folder = shipped_checkpoint("clip").parent
    files = [*folder.iterdir(), *(folder / "emoji").iterdir()]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 50e6


def test_the_shipped_stable_diffusion_autoencoder_and_clip_are_made_for_each_other():
    model, encoder = shipped("stable-diffusion"), shipped("clip").model.text_encoder.state_dict()
    assert model.notes["picture_size"] == [3, 64, 64]
    assert autoencoder_of(model).latent_shape((3, 64, 64)) == (model.model.unet.config["in_channels"], 16, 16)
    for name, weight in model.model.text_encoder.state_dict().items():  # frozen; saved in half precision, perhaps
        torch.testing.assert_close(weight, encoder[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("withheld", [False, True])
def test_the_shipped_digit_scenes_are_drawn_as_asked(language, withheld, reader):
    """A look at 40 prompts; the scores in the file are of 1,000."""
    checkpoint, scenes = shipped("digit-scenes"), draw_scenes(2, 40, withheld, language, seed=1)
    right = scene_agreement(checkpoint.model, checkpoint.schedule, scenes, language, reader, num_steps=20)
    assert right.float().mean() >= 0.9


def test_the_score_can_fail(reader):
    checkpoint, scenes = shipped("digit-scenes"), draw_scenes(2, 40)
    asked_for_nothing = scene_agreement(checkpoint.model, checkpoint.schedule, scenes, "en", reader, 0.0, num_steps=20)
    assert asked_for_nothing.float().mean() <= 0.1
