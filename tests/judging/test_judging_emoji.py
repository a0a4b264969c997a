import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ddpm_core import EmojiDataset, NoiseSchedule, cosine_betas, draw_emoji, judge_emoji, judge_style
from ddpm_core.data.emoji import STYLES
from ddpm_core.support.pixels import from_bytes


@pytest.fixture(scope="module")
def data() -> EmojiDataset:
    return EmojiDataset(16, split="all")


@pytest.fixture(scope="module")
def rows(data) -> torch.Tensor:
    return torch.randperm(len(data.pictures), generator=torch.Generator().manual_seed(0))[:200]


def noisy(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return (pictures + deviation * noise).clamp(-1, 1)


class FakeGenerate:
    """Stands in for generate: returns the pictures made beforehand for the seeds, and notes what it was asked for."""

    def __init__(self, pictures: torch.Tensor, first_seed: int):
        self.pictures, self.first_seed = pictures, first_seed
        self.prompts, self.asked = [], {}

    def __call__(self, model, schedule, prompts, shape, guidance_scale=3.0, seed=0, **options):
        self.prompts += prompts
        self.asked = dict(shape=shape, guidance_scale=guidance_scale, **options)
        start = seed - self.first_seed
        yield torch.zeros(len(prompts), *shape)
        yield self.pictures[start : start + len(prompts)]


def test_a_model_that_draws_every_emoji_agrees_and_one_that_mixes_them_up_does_not(data, rows, monkeypatch):
    schedule = NoiseSchedule(cosine_betas(10))
    fake = FakeGenerate(noisy(from_bytes(data.pictures[rows]), 0.02), first_seed=4)
    monkeypatch.setattr("ddpm_core.judging.drawing.generate", fake)
    agreement = judge_emoji(draw_emoji(None, schedule, data, rows, "zh", 2.5, num_steps=7, seed=4), data, rows)
    assert agreement.dtype == torch.bool and agreement.shape == (200,) and agreement.float().mean() > 0.98
    assert fake.prompts == [data.caption(row, "zh") for row in rows.tolist()]
    assert fake.asked == dict(shape=(3, 16, 16), guidance_scale=2.5, num_steps=7, clip_x_0=True)
    assert torch.equal(draw_emoji(None, schedule, data, rows, "zh", seed=4), fake.pictures)
    fake.pictures = fake.pictures.roll(1, dims=0)
    assert judge_emoji(draw_emoji(None, schedule, data, rows, "en", seed=4), data, rows).float().mean() < 0.02


def test_the_nearest_of_a_style_is_the_one_that_scikit_learn_finds(data, rows):
    drawn = noisy(from_bytes(data.pictures[rows]), 1.5)  # enough to mistake some
    right = judge_emoji(drawn, data, rows)
    expected = []
    for picture, row in zip(drawn, rows, strict=True):
        of_style = torch.nonzero(data.style_ids == data.style_ids[row])[:, 0]
        search = NearestNeighbors(n_neighbors=1).fit(from_bytes(data.pictures[of_style]).flatten(1).numpy())
        expected.append(of_style[search.kneighbors(picture.flatten()[None].numpy())[1][0, 0]] == row)
    assert right.tolist() == expected and 0.1 < right.float().mean() < 0.95


def test_of_two_that_look_alike_each_is_as_near_as_can_be(data):
    alike = torch.tensor([data.row("flat", "cat face"), data.row("flat", "grinning cat")])
    assert judge_emoji(from_bytes(data.pictures[alike]), data, alike).all()


def test_another_emoji_of_the_same_name_is_not_enough(data):
    """Of most names the picture in noto is not nearest to that in openmoji among all of openmoji."""
    noto, openmoji = (torch.nonzero(data.style_ids == STYLES.index(style))[:, 0] for style in ("noto", "openmoji"))
    assert torch.equal(data.name_ids[noto], data.name_ids[openmoji])
    assert judge_emoji(from_bytes(data.pictures[noto[:200]]), data, openmoji[:200]).float().mean() < 0.5


def test_pictures_compete_with_all_names_or_not_at_all():
    trained = EmojiDataset(1, ["noto"])
    with pytest.raises(ValueError, match=r"data must be made with split=.all.*got 'train'"):
        judge_emoji(from_bytes(trained.pictures[:2]), trained, torch.arange(2))


def test_the_style_is_right_where_the_nearest_drawing_of_the_emoji_has_it(data, rows):
    assert judge_style(from_bytes(data.pictures[rows]), data, rows).all()
    assert judge_style(noisy(from_bytes(data.pictures[rows]), 0.1), data, rows).float().mean() > 0.95
    for style, other in (("noto", "twemoji"), ("openmoji", "blob")):
        drawn, asked = (
            torch.tensor([data.row(each, name) for name in ("rocket", "猫", "🌻")]) for each in (style, other)
        )
        assert not judge_style(from_bytes(data.pictures[drawn]), data, asked).any()


def test_rows_are_a_tensor_of_numbers_of_pictures(data):
    pictures = from_bytes(data.pictures[:2])
    for call in (
        lambda rows: draw_emoji(None, NoiseSchedule(cosine_betas(10)), data, rows, "en"),
        lambda rows: judge_emoji(pictures, data, rows),
        lambda rows: judge_style(pictures, data, rows),
    ):
        for rows in ([0, 1], torch.tensor([0, len(data.pictures)])):
            with pytest.raises(ValueError, match=r"rows must be a long tensor \(N,\)"):
                call(rows)
