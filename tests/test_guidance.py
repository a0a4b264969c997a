import pytest
import torch

from ddpm_core.guidance import drop_condition, guided


def model(x_t, t, cond):
    """Adds up what it hears, so that every part of its answer can be told."""
    return x_t * 2 + t[:, None] * 10 + cond.sum(dim=1, keepdim=True)


X_T, T = torch.tensor([[1.0], [2.0]]), torch.tensor([3, 4])
COND, NULL = torch.tensor([[100.0, 1.0], [200.0, 2.0]]), torch.tensor([0.5, 0.5])


@pytest.mark.parametrize("guidance_scale", [0, 0.5, 1, 1.0, 3, 7.5])
def test_guidance_is_the_published_formula(guidance_scale):
    eps_cond, eps_uncond = model(X_T, T, COND), model(X_T, T, NULL.expand(2, 2))
    w = guidance_scale - 1  # Ho & Salimans 2022, eq. 6
    expected = (1 + w) * eps_cond - w * eps_uncond
    torch.testing.assert_close(guided(model, COND, NULL, guidance_scale)(X_T, T), expected)


@pytest.mark.parametrize("guidance_scale, pictures", [(0, 2), (1, 2), (3, 4)])
def test_the_model_is_called_once_and_never_with_more_than_it_needs(guidance_scale, pictures):
    batches = []

    def counting(x_t, t, cond):
        batches.append(len(x_t))
        return model(x_t, t, cond)

    guided(counting, COND, NULL, guidance_scale)(X_T, T)
    assert batches == [pictures]


def test_a_negative_prompt_stands_in_for_no_condition():
    negative = torch.tensor([[7.0, 7.0], [8.0, 8.0]])
    expected = model(X_T, T, negative) + 2 * (model(X_T, T, COND) - model(X_T, T, negative))
    torch.testing.assert_close(guided(model, COND, negative, 2)(X_T, T), expected)


def test_conditions_are_dropped_whole_and_as_often_as_asked():
    cond, null = torch.ones(20_000, 3), torch.zeros(3)
    dropped = drop_condition(cond, null, 0.1, torch.Generator().manual_seed(0))
    assert ((dropped == 1).all(1) | (dropped == 0).all(1)).all()
    share = (dropped[:, 0] == 0).float().mean().item()
    assert share == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 20_000) ** 0.5)


@pytest.mark.parametrize("probability, value", [(0, 1), (1, 0)])
def test_nothing_or_everything_can_be_dropped(probability, value):
    assert (drop_condition(torch.ones(50, 2, 2), torch.zeros(2, 2), probability) == value).all()


@pytest.mark.parametrize(
    "slip, words",
    [
        (lambda: guided(model, COND, NULL, -0.1), "guidance_scale must be 0 or more; got -0.1"),
        (lambda: guided(model, COND, torch.zeros(3), 2), "null_cond must be a tensor of cond's shape"),
        (lambda: guided(model, COND, NULL, 2)(torch.zeros(5, 1), T), "2 conditions for 5 pictures"),
        (lambda: drop_condition(COND, NULL, 1.1), "probability must be a number between 0 and 1; got 1.1"),
        (lambda: drop_condition(COND, torch.zeros(3), 0.5), "null_cond must be a tensor of one condition's shape"),
    ],
)
def test_a_slip_is_named(slip, words):
    with pytest.raises(ValueError, match=words):
        slip()


def test_captions_are_no_conditions():
    for name, cond, null_cond in [("cond", ["a cat", "a dog"], NULL), ("null_cond", COND, "")]:
        with pytest.raises(TypeError, match=f"^{name} must be a tensor, such as model"):
            guided(model, cond, null_cond, 3)
    with pytest.raises(TypeError, match=r"^cond must be a tensor"):
        drop_condition(["a cat", "a dog"], NULL, 0.1)
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator.*; got 0 \(int\)"):
        drop_condition(COND, NULL, 0.1, generator=0)
