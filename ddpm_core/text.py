"""From a caption to vectors that the noise predictor can look at. Nothing here is about diffusion.

A token is an English word or a single Chinese character. Shapes in comments: B captions, L tokens, D numbers a token.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ddpm_core.support.guards import describe

PADDING, START = 0, 1  # ids of the two tokens that are not words
CHINESE = r"\u3400-\u9fff"
WORD = rf"[^\W_{CHINESE}]+"
TOKEN = re.compile(rf"[{CHINESE}]|{WORD}(?:['’]{WORD})*")


def split_words(caption: str) -> list[str]:
    """'A red piñata, 红色的七' -> ['a', 'red', 'pinata', '红', '色', '的', '七'].

    Case, accents and punctuation do not count.
    """
    if not isinstance(caption, str):
        raise TypeError(f"a caption must be a string; got {describe(caption)}")
    letters = unicodedata.normalize("NFKD", caption.lower())  # an accent becomes a character of its own
    return TOKEN.findall("".join(letter for letter in letters if not unicodedata.combining(letter)))


class Tokenizer:
    """Turns captions into rows of numbers, one a token, and knows which words it has learnt.

    words:      the vocabulary, in the order of the ids; the first word has id 2
    max_length: tokens in a row, the start token included

    Every row begins with the start token, so that the empty caption ("no condition") is a row, too, and is filled up
    with padding.
    """

    def __init__(self, words: Sequence[str], max_length: int):
        self.words, self.max_length = list(words), max_length
        if not all(isinstance(word, str) for word in self.words):
            raise TypeError("words must be strings")
        self.ids = {word: number for number, word in enumerate(self.words, start=START + 1)}
        if not self.words or len(self.ids) != len(self.words):
            raise ValueError(f"words must be different from one another, and at least one; got {len(self.words)}")

    @classmethod
    def from_captions(cls, captions: Iterable[str]) -> "Tokenizer":
        """The tokenizer of all words in captions; max_length fits the longest of them."""
        split = [split_words(caption) for caption in captions]
        if not any(split):
            raise ValueError("captions hold no words to learn")
        return cls(sorted({word for words in split for word in words}), 1 + max(map(len, split)))

    def __len__(self) -> int:
        """How many different ids there are, padding and start included."""
        return len(self.words) + START + 1

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Token ids of each caption, long (B, max_length). Words it never saw are left out: ask unknown_words first.

        Raises TypeError for a single string, and ValueError where a caption has more words than fit.
        """
        if isinstance(captions, str):
            raise TypeError(f"captions must be a list of captions, such as [{captions!r}]; got a single string")
        rows = torch.full((len(captions), self.max_length), PADDING)
        for row, caption in zip(rows, captions, strict=True):
            ids = [START] + [self.ids[word] for word in split_words(caption) if word in self.ids]
            if len(ids) > self.max_length:
                raise ValueError(
                    f"the caption {caption!r} has {len(ids) - 1} words, and this model reads {self.max_length - 1}"
                )
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def unknown_words(self, caption: str) -> list[str]:
        """The words of caption that were in no training caption, in their order, each once."""
        return list(dict.fromkeys(word for word in split_words(caption) if word not in self.ids))


class TextEncoder(nn.Module):
    """A small Transformer (Vaswani et al. 2017) that reads a caption: each token's vector comes to know its neighbours.

    vocabulary_size: len(tokenizer); max_length: tokenizer.max_length; dim: D

    forward: token ids, long (B, L) with L up to max_length -> (B, L, D). What stands at padding is meaningless: mask it
    with padding_mask. A caption's vectors do not depend on the padding or on the rest of the batch.
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        dim: int = 64,
        num_layers: int = 1,
        num_heads: int = 4,
    ):
        super().__init__()
        self.config = dict(
            vocabulary_size=vocabulary_size,
            max_length=max_length,
            dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
        )
        self.token_embedding = nn.Embedding(vocabulary_size, dim)
        self.position_embedding = nn.Parameter(torch.randn(max_length, dim))
        layer = nn.TransformerEncoderLayer(
            dim,
            num_heads,
            dim_feedforward=2 * dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer,
            num_layers,
            norm=nn.LayerNorm(dim),
            enable_nested_tensor=False,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or tokens.ndim != 2:
            raise ValueError(f"tokens must be long, (B, L), as a Tokenizer returns them; got {describe(tokens)}")
        positions = self.position_embedding[: tokens.shape[1]]
        x = self.token_embedding(tokens) + positions  # (B, L, D)
        return self.layers(x, src_key_padding_mask=padding_mask(tokens))


def padding_mask(tokens: Tensor) -> Tensor:
    """True where there is no word but padding: (B, L) -> bool (B, L)."""
    return tokens == PADDING
