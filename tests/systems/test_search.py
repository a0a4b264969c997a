"""A search by vectors. numpy, scikit-learn and FAISS are the witnesses."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ddpm_core import (
    CLIP,
    CheckpointError,
    Hits,
    ImageEncoder,
    IndexMismatch,
    PictureIndex,
    PromptWarning,
    TextEncoder,
    Tokenizer,
    TrainingState,
    index_pictures,
    load_checkpoint,
    save_checkpoint,
)
from ddpm_core.support import memory

CAPTIONS = ["a red seven", "红色的七", "the digit seven in blue", "a blue three"]


def new_clip(seed: int = 0) -> CLIP:
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    text_encoder = TextEncoder(len(tokenizer), tokenizer.max_length, dim=16)
    return CLIP(ImageEncoder(3, (8, 16), patch_size=2, dim=12, picture_size=(8, 8)), text_encoder, tokenizer)


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return new_clip()


def pictures(count: int) -> Tensor:
    return torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def labels(count: int) -> list[str]:
    return [f"picture {i}" for i in range(count)]


@pytest.fixture(scope="module")
def index(clip) -> PictureIndex:
    return index_pictures(clip, pictures(20), labels(20), progress=False)


@pytest.fixture(scope="module")
def random_index(clip) -> PictureIndex:
    """Of vectors that no picture has."""
    vectors = torch.randn(500, 12, generator=torch.Generator().manual_seed(1))
    return PictureIndex(clip, F.normalize(vectors, dim=1), labels(500))


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_numpy_and_of_scikit_learn(random_index):
    vectors = random_index.vectors.numpy()
    judge = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(vectors)
    for query in F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(2)), dim=1):
        rows, scores = random_index.nearest(query, 7)
        assert rows.dtype == torch.long and rows.tolist() == np.argsort(-(vectors @ query.numpy()))[:7].tolist()
        distances, neighbours = judge.kneighbors(query[None].numpy())
        assert rows.tolist() == neighbours[0].tolist()
        np.testing.assert_allclose(scores.numpy(), 1 - distances[0], atol=1e-6)


def test_faiss_finds_the_same(random_index):
    pytest.importorskip("faiss")
    queries = F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(2)), dim=1)
    scores, rows = random_index.to_faiss().search(queries.numpy(), 7)
    for i, query in enumerate(queries):
        hits = random_index.nearest(query, 7)
        assert hits.rows.tolist() == rows[i].tolist()
        np.testing.assert_allclose(hits.scores.numpy(), scores[i], atol=1e-6)


def test_without_faiss_it_says_what_to_install(random_index, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        random_index.to_faiss()


@pytest.mark.parametrize("query", ["a red seven", "红色的七", "A RED, seven!"])
def test_words_find_what_the_model_says_of_them(clip, index, query):
    hits = index.search(query, k=5)
    cosines = F.cosine_similarity(clip.encode_captions([query]), clip.encode_pictures(pictures(20) / 127.5 - 1))
    expected = cosines.sort(descending=True)
    assert isinstance(hits, Hits) and hits.rows.tolist() == expected.indices[:5].tolist()
    torch.testing.assert_close(hits.scores, expected.values[:5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_picture_finds_itself_first(index, as_bytes):
    query = pictures(20)[13]
    rows, scores = index.search(query if as_bytes else query / 127.5 - 1, k=20)
    assert rows[0] == 13 and scores[0].item() == pytest.approx(1, abs=1e-5)
    assert (scores.diff() <= 0).all() and sorted(rows.tolist()) == list(range(20))


def test_a_photo_is_looked_for_at_the_size_of_the_model(index):
    photo = pictures(20)[13].repeat_interleave(50, dim=1).repeat_interleave(30, dim=2)  # 400 x 240
    assert index.search(photo, k=1).rows.tolist() == [13]


def test_pictures_are_encoded_in_parts_and_neither_the_parts_nor_bytes_change_anything(clip, index, monkeypatch):
    sizes, encode = [], clip.encode_pictures
    monkeypatch.setattr(clip, "encode_pictures", lambda x: sizes.append(len(x)) or encode(x))
    monkeypatch.setattr(memory, "PIXELS_AT_ONCE", 6 * 64)
    again = index_pictures(clip, pictures(20) / 127.5 - 1, labels(20), progress=False)
    assert sizes == [6, 6, 6, 2]
    torch.testing.assert_close(again.vectors, index.vectors, rtol=0, atol=1e-5)
    assert again.labels == labels(20) and len(again) == 20 and not again.vectors.requires_grad


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_where_it_is_wanted(clip, progress, capsys):
    index_pictures(clip, pictures(3), labels(3), progress=progress)
    assert ("3/3" in capsys.readouterr().err) == progress


# ---- words that the model does not know ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, words",
    [
        ("a red zebra", ['no training caption had "zebra"', "other words"]),
        ("a sevem", ['"sevem"', "known words like that: seven"]),
        ("seven 🚀", ["🚀", "other words"]),
        ("红色的马", ['"马"']),
    ],
)
def test_unknown_words_are_named_and_the_rest_is_looked_for(index, query, words):
    with pytest.warns(PromptWarning) as caught:
        hits = index.search(query, k=4)
    [message] = [str(warning.message) for warning in caught]
    assert all(word in message for word in words) and caught[0].filename == __file__
    known = " ".join(word for word in ("a", "red", "seven", "红", "色", "的") if word in query.replace("色", " 色 "))
    torch.testing.assert_close(hits.scores, index.search(known, k=4).scores)


def test_known_words_are_not_commented_on(index):
    with warnings.catch_warnings(action="error"):
        index.search("a red seven")


@pytest.mark.parametrize(
    "query, error, words",
    [
        ("", ValueError, "query is empty"),
        ("  \n", ValueError, "query is empty"),
        ("!?", ValueError, "query must have a word.*'!\\?' holds no word"),
        ("🚀", ValueError, "query must have a word.*🚀"),
        ("zebra sevem", ValueError, 'query must have a word.*"zebra", "sevem".*seven'),
        ("a " * 9, ValueError, "9 words"),
        (7, TypeError, "query must be a string or a picture.* got 7"),
        (pictures(2), ValueError, r"query must be one picture.*: query\[0\] is the first of a batch"),
        (pictures(2)[0].long(), TypeError, r"query must be floats in \[-1, 1\]"),
        (pictures(2)[0].float(), ValueError, r"query must lie in \[-1, 1\].*query / 127.5 - 1"),
        (torch.zeros(1, 8, 8), ValueError, "has 1 channels"),
    ],
)
def test_a_query_that_cannot_be_looked_for_is_named(index, query, error, words):
    with pytest.raises(error, match=words):
        index.search(query)


@pytest.mark.parametrize("k", [0, -1, 21, 2.5, True])
def test_k_is_one_of_so_many_pictures(index, k):
    with pytest.raises(ValueError, match=r"k must be a whole number from 1 to 20, as there are 20 pictures"):
        index.search("a red seven", k)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (dict(clip=None), TypeError, "clip must be a CLIP"),
        (dict(pictures=pictures(4)[0]), ValueError, "pictures must be a tensor of pictures"),
        (dict(pictures=pictures(0)), ValueError, "pictures must be a tensor of pictures"),
        (dict(pictures=pictures(4).float()), ValueError, r"pictures must lie in \[-1, 1\]"),
        (dict(labels=labels(3)), ValueError, "labels must be a list of strings, one for each of the 4 pictures; got 3"),
        (dict(labels="abcd"), TypeError, "labels must be a list of strings"),
        (dict(labels=[1, 2, 3, 4]), ValueError, "labels must be a list of strings"),
    ],
)
def test_a_slip_in_what_is_indexed_is_named(clip, change, error, words):
    arguments = dict(clip=clip, pictures=pictures(4), labels=labels(4), progress=False)
    with pytest.raises(error, match=words):
        index_pictures(**arguments | change)


def test_k_of_one_picture_is_named_in_the_singular(clip):
    with pytest.raises(ValueError, match="from 1 to 1, as there is 1 picture;"):
        index_pictures(clip, pictures(1), labels(1), progress=False).search("a red seven")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.long])
def test_a_vector_of_another_type_is_looked_for_all_the_same(random_index, dtype):
    vector = torch.zeros(12, dtype=dtype)
    vector[3] = 1
    rows, scores = random_index.nearest(vector, 5)
    assert rows.tolist() == np.argsort(-random_index.vectors.numpy()[:, 3])[:5].tolist()
    assert scores.dtype == torch.float32 and scores.equal(random_index.vectors[rows, 3])


@pytest.mark.parametrize("number", [1.0, 0.0, float("nan"), float("inf")])
def test_a_vector_whose_length_is_not_1_is_named(random_index, number):
    with pytest.raises(
        ValueError, match=r"vector must have length 1, as after F.normalize\(vector, dim=0\); its length"
    ):
        random_index.nearest(torch.full((12,), number))


def test_an_index_holds_numbers(clip):
    vectors = F.normalize(torch.ones(4, 12), dim=1)
    vectors[2, 5] = torch.nan
    with pytest.raises(ValueError, match="vectors must be finite"):
        PictureIndex(clip, vectors, labels(4))


def test_vectors_of_another_length_are_named(clip, index):
    with pytest.raises(ValueError, match="vectors must have length 1"):
        PictureIndex(clip, torch.ones(4, 12), labels(4))
    with pytest.raises(ValueError, match=r"vector must be a tensor of the vectors' shape \(12,\); got .*\(5,\)"):
        index.nearest(torch.zeros(5))


# ---- files -----------------------------------------------------------------------------------------------------------


def test_an_index_comes_back_from_its_file(clip, index, tmp_path):
    names = ["openmoji 火箭", "x\udcff.png", *labels(18)]  # the second is the name of a file that is not UTF-8
    PictureIndex(clip, index.vectors, names, dict(of="emoji")).save(tmp_path / "a" / "index.safetensors")
    again = PictureIndex.load(tmp_path / "a" / "index.safetensors", clip)
    assert torch.equal(again.vectors, index.vectors) and again.labels == names and again.notes == dict(of="emoji")
    assert torch.equal(again.search("a red seven", 20).rows, index.search("a red seven", 20).rows)


def test_the_model_may_have_been_in_a_file_in_between(clip, index, tmp_path):
    save_checkpoint(tmp_path / "clip.safetensors", TrainingState(clip), None)
    index.save(tmp_path / "index.safetensors")
    PictureIndex.load(tmp_path / "index.safetensors", load_checkpoint(tmp_path / "clip.safetensors").model)


def test_an_index_of_another_model_is_refused(clip, index, tmp_path):
    index.save(tmp_path / "index.safetensors")
    nearly = new_clip()
    with torch.no_grad():
        nearly.text_head.bias[3] += 1e-6
    other_words = new_clip()
    other_words.tokenizer.config["words"] = tuple(reversed(other_words.tokenizer.words))
    PictureIndex.load(tmp_path / "index.safetensors", new_clip())
    for other in (nearly, other_words, new_clip(seed=1)):
        with pytest.raises(IndexMismatch, match="another model made the index"):
            PictureIndex.load(tmp_path / "index.safetensors", other)


def test_what_is_no_index_or_damaged_is_named(clip, index, tmp_path):
    path = tmp_path / "index.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no index at"):
        PictureIndex.load(path, clip)
    save_checkpoint(path, TrainingState(clip), None)
    with pytest.raises(CheckpointError, match="no index of this course"):
        PictureIndex.load(path, clip)
    index.save(path)
    with pytest.raises(CheckpointError, match="no checkpoint of this course"):
        load_checkpoint(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        PictureIndex.load(path, clip)
