"""A search engine for pictures: by words, in any language that the CLIP has learnt, or by another picture.

Every picture becomes a vector once, which is the index. A query becomes a vector of the same space, and what is found
is what has the largest cosine with it. Shapes in comments: N pictures, dim numbers in a vector.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_core.checkpoint import model_checksum
from ddpm_core.support import guards
from ddpm_core.support.notices import PromptWarning, what_is_unknown
from ddpm_core.support.tensor_file import CheckpointError, read_tensors, write_tensors
from ddpm_core.systems.clip import CLIP, encode_in_batches
from ddpm_core.text import split_words

FORMAT = "ddpm_core-index 1"


class IndexMismatch(CheckpointError):
    """An index whose vectors another model made: those of two models have nothing to do with each other."""


class Hits(NamedTuple):
    """What was found, best first."""

    rows: Tensor  # long (k,), of the index
    scores: Tensor  # float (k,), cosines with the query


@dataclass(eq=False, repr=False)
class PictureIndex:
    """The vectors of pictures, to be searched; index_pictures makes one.

    clip:    the model that made the vectors, and makes those of queries
    vectors: (N, dim) float32 on the CPU, of length 1 each
    labels:  N strings, such as "openmoji rocket" or the path of the picture
    notes:   anything that json can hold; saved along
    """

    clip: CLIP
    vectors: Tensor
    labels: list[str]
    notes: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        guards.instance("clip", self.clip, CLIP)
        guards.unit_vectors("vectors", self.vectors)
        guards.finite("vectors", self.vectors)  # NaN would be found first, whatever is looked for
        guards.one_each("labels", self.labels, len(self.vectors), "vectors")

    def __len__(self) -> int:
        return len(self.labels)

    def search(self, query: str | Tensor, k: int = 10) -> Hits:
        """The k pictures that fit a query best.

        query: words, or a picture (3, H, W), floats in [-1, 1] or uint8

        Words that the model never saw are left out, and named in a PromptWarning. Raises ValueError where the query is
        empty or has no other words, and where k is more than there are pictures.
        """
        self._check(k)
        return self.nearest(query_vector(self.clip, query), k)

    def nearest(self, vector: Tensor, k: int = 10) -> Hits:
        """The k pictures whose vectors have the largest cosine with one of length 1, (dim,), of any type and device."""
        self._check(k)
        guards.unit_vector("vector", vector, self.vectors.shape[1:], "the vectors'")
        scores, rows = (self.vectors @ vector.to(self.vectors)).topk(k)
        return Hits(rows, scores)

    def save(self, path: Path | str) -> None:
        """Writes the index into a safetensors file, with a checksum of the model. The file appears whole or not at all.

        Raises OSError where it cannot be written.
        """
        labels = torch.frombuffer(bytearray(json.dumps(self.labels).encode()), dtype=torch.uint8)
        metadata = dict(format=FORMAT, model=model_checksum(self.clip), notes=json.dumps(self.notes))
        write_tensors(Path(path), dict(vectors=self.vectors, labels=labels), metadata)

    @classmethod
    def load(cls, path: Path | str, clip: CLIP) -> "PictureIndex":
        """Reads what save wrote. clip: the model that made it.

        Raises FileNotFoundError, IndexMismatch where another model made it, and CheckpointError where it is damaged.
        """
        guards.instance("clip", clip, CLIP)
        tensors, metadata = read_tensors(Path(path), (FORMAT,), "index")
        if metadata["model"] != model_checksum(clip):
            raise IndexMismatch(f"another model made the index {path}: make it anew, with index_pictures")
        labels = json.loads(tensors["labels"].numpy().tobytes())
        return cls(clip, tensors["vectors"], labels, json.loads(metadata["notes"]))

    def to_faiss(self) -> object:
        """The same vectors as an index of FAISS that compares with all of them, IndexFlatIP; its answers are the same.

        FAISS has others that compare with a part of them, for when there are billions (Johnson et al. 2017). Its wheels
        for macOS bring a second OpenMP, which can end the process beside torch's. Raises ImportError without faiss.
        """
        flat = _faiss().IndexFlatIP(self.vectors.shape[1])
        flat.add(self.vectors.contiguous().numpy())
        return flat

    def _check(self, k: object) -> None:
        N = len(self)
        guards.whole_number("k", k, most=N, why=f", as there {'are' if N > 1 else 'is'} {N} picture{'s' * (N > 1)}")


def index_pictures(clip: CLIP, pictures: Tensor, labels: Sequence[str], progress: bool = True) -> PictureIndex:
    """The index of pictures (N, C, H, W), floats in [-1, 1] or uint8, with one label each.

    progress: show a bar. Raises ValueError where pictures and labels do not fit together.
    """
    guards.pictures(pictures, bytes_too=True)
    guards.one_each("labels", labels, len(pictures))  # before the work
    return PictureIndex(clip, encode_in_batches(clip, pictures, progress), list(labels))


def query_vector(clip: CLIP, query: str | Tensor) -> Tensor:
    """The vector of a query, (dim,) on the CPU; warns, at the place two calls up, and raises as PictureIndex.search."""
    guards.query(query)
    if isinstance(query, Tensor):
        return encode_in_batches(clip, query[None])[0]
    if notice := query_notice(clip, query):
        warnings.warn(notice, PromptWarning, stacklevel=3)
    return encode_in_batches(clip, [query])[0]


def query_notice(clip: CLIP, query: str) -> str | None:
    """One sentence on what of a query the model cannot use, with what it knows instead; None where it knows all.

    Raises ValueError, with the same, where it knows no word of it.
    """
    words, unknown = split_words(query), clip.tokenizer.unknown_words(query)
    if not unknown and words:
        return None
    notice = what_is_unknown(query, words, unknown) or f"{query!r} holds no word"
    similar = dict.fromkeys(near for word in unknown for near in get_close_matches(word, clip.tokenizer.words, 2, 0.7))
    notice += f"; known words like that: {', '.join(similar)}" if similar else ""
    if all(word in unknown for word in words):
        raise ValueError(f"query must have a word that the model knows: {notice}")
    return f"{notice}; the search is for the other words"


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("this needs the FAISS library: pip install faiss-cpu") from error
    return faiss
