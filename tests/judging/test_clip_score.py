import warnings

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cosine
from sklearn.metrics import top_k_accuracy_score
from torch import Tensor

from ddpm_core import (
    CLIP,
    ImageEncoder,
    TextEncoder,
    Tokenizer,
    TrainingState,
    clip_score,
    retrieval_agreement,
    train_clip,
)
from ddpm_core.support.notices import PromptWarning

NAMES = ["rocket", "cat", "red apple", "火箭", "apple", "house"]


@pytest.fixture
def clip() -> CLIP:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(NAMES)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, dim=16)
    return CLIP(ImageEncoder(3, (8, 16), patch_size=2, grid_size=2, dim=12), text_encoder, tokenizer)


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def with_cosines(clip: CLIP, scores: Tensor) -> CLIP:
    """A CLIP whose picture i has scores[i, j] with NAMES[j], whatever it shows."""
    axes = torch.eye(len(NAMES) + 1, dtype=torch.float64)
    rest = (1 - scores.double().square().sum(dim=1, keepdim=True)).sqrt()  # the pictures' vectors have length 1
    vectors = torch.cat([scores.double(), rest], dim=1)
    clip.encode_pictures = lambda pictures: vectors[: len(pictures)]
    tokens = [tuple(row) for row in clip.tokenizer(NAMES).tolist()]
    clip.encode_tokens = lambda some: axes[[tokens.index(tuple(row)) for row in some.tolist()]]
    return clip


def test_a_score_is_the_cosine_between_the_two_vectors(clip, pictures):
    scores = clip_score(clip, pictures, NAMES)
    assert scores.shape == (6,) and not scores.requires_grad
    a, b = (vectors.detach() for vectors in clip(pictures, clip.tokenizer(NAMES)))
    expected = [1 - cosine(x, 3 * y) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=0)
    bytes_ = ((pictures + 1) * 127.5).round().to(torch.uint8)
    torch.testing.assert_close(clip_score(clip, bytes_, NAMES), scores, atol=0.02, rtol=0)


def test_pairs_that_it_was_trained_on_fit_and_others_do_not(clip, pictures):
    state = TrainingState(clip)
    for _ in train_clip(state, pictures, [NAMES], 120, batch_size=24, warmup_iterations=5):
        pass
    assert (clip_score(clip, pictures, NAMES) > clip_score(clip, pictures, NAMES[1:] + NAMES[:1])).all()
    assert retrieval_agreement(clip, pictures, NAMES, NAMES).all()
    assert not retrieval_agreement(clip, pictures, NAMES[1:] + NAMES[:1], NAMES).any()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_caption_is_among_the_k_best_where_scikit_learn_finds_it(clip, pictures, k):
    scores = F.normalize(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)), dim=1) * 0.9
    found = retrieval_agreement(with_cosines(clip, scores), pictures, NAMES, NAMES, k)
    labels = list(range(6))
    expected = [top_k_accuracy_score([i], scores[i : i + 1].numpy(), k=k, labels=labels) == 1 for i in labels]
    assert found.tolist() == expected and found.dtype == torch.bool
    assert 0 < found.float().mean() < 1


def test_equal_captions_count_once(clip, pictures):
    scores = torch.full((6, 6), 0.1)
    scores[:, 0], scores[:, 1], scores[:, 2] = 0.5, 0.4, 0.3
    clip = with_cosines(clip, scores)
    all_captions = ["rocket", "Rocket!", "rocket", "cat", "Cat", "red apple", "house"]
    given = pictures[:3], ["CAT".lower(), "Cat", "red apple"], all_captions
    assert retrieval_agreement(clip, *given, k=1).tolist() == [False, False, False]
    assert retrieval_agreement(clip, *given, k=2).tolist() == [True, True, False]
    assert retrieval_agreement(clip, *given, k=3).tolist() == [True, True, True]


def test_a_model_that_is_no_number_finds_nothing(clip, pictures):
    with torch.no_grad():
        clip.text_head.bias.fill_(torch.nan)
    assert not retrieval_agreement(clip, pictures, NAMES, NAMES).any()


def test_words_that_it_never_saw_are_named_once(clip, pictures):
    captions = ["green rocket", "green cat", "red apple", "火车", "apple 🍎", "house"]
    for call in (clip_score, lambda *given: retrieval_agreement(*given, captions)):
        with pytest.warns(PromptWarning) as caught:
            call(clip, pictures, captions)
        [warning] = caught
        assert all(f'"{word}"' in str(warning.message) for word in ("green", "车", "🍎"))
        assert str(warning.message).count("green") == 1 and "rocket" not in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip_score(clip, pictures, NAMES)


@pytest.mark.parametrize("measure", [clip_score, lambda *given: retrieval_agreement(*given, NAMES)])
@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(clip=torch.nn.Linear(2, 2)), TypeError, "clip.*CLIP"),
        (dict(pictures=torch.zeros(3, 8, 8)), ValueError, r"pictures.*\(3, 8, 8\)"),
        (dict(pictures=torch.full((6, 3, 8, 8), 1.5)), ValueError, r"\[-1, 1\]"),
        (dict(captions=NAMES[:5]), ValueError, "captions.*6 pictures.*5"),
        (dict(captions="rocket"), TypeError, r"captions.*\['rocket'\]"),
        (dict(captions=[]), ValueError, "captions"),
    ],
)
def test_a_slip_is_named(measure, clip, pictures, change, error, words):
    given = dict(clip=clip, pictures=pictures, captions=NAMES) | change
    with pytest.raises(error, match=words):
        measure(*given.values())


@pytest.mark.parametrize(
    "all_captions, k, error, words",
    [
        (NAMES[1:], 1, ValueError, "all_captions.*'rocket'"),
        (NAMES, 0, ValueError, "k must be.*from 1 to 6.*got 0"),
        ([*NAMES, "ROCKET"], 7, ValueError, "k must be.*from 1 to 6.*got 7"),
        (NAMES, True, ValueError, "k must be"),
        ([], 1, ValueError, "all_captions"),
        ("rocket", 1, TypeError, "all_captions"),
    ],
)
def test_a_slip_in_what_to_choose_from_is_named(clip, pictures, all_captions, k, error, words):
    with pytest.raises(error, match=words):
        retrieval_agreement(clip, pictures, NAMES, all_captions, k)
