"""From a caption to vectors that the noise predictor can look at. Nothing here is about diffusion.

A token is an English word or a single Chinese character. Shapes in comments: B captions, L tokens, D numbers per token.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ddpm_core.support import guards
from ddpm_core.support.registry import register

PADDING, START = 0, 1  # ids of the two tokens that are not words
CHINESE = r"\u3400-\u9fff"
# Vowels of Hindi, say, which Unicode calls marks.
MARKS = "".join(letter for letter in map(chr, range(0x300, 0xFB1F)) if unicodedata.category(letter)[0] == "M")
WORD = rf"(?:[^\W_{CHINESE}][{MARKS}]*)+"
TOKEN = re.compile(rf"[{CHINESE}]|{WORD}(?:['’]{WORD})*")
ACCENTS = re.compile(rf"(?<=[a-z0-9])[{MARKS}]+")


def split_words(caption: str) -> list[str]:
    """'A red piñata, 红色的七' -> ['a', 'red', 'pinata', '红', '色', '的', '七'].

    Case, accents of Latin letters and punctuation do not count.
    """
    return TOKEN.findall(_letters(caption))


def _letters(caption: str) -> str:
    guards.text("a caption", caption)
    separate = unicodedata.normalize("NFKD", caption.lower())  # an accent becomes a character of its own
    return unicodedata.normalize("NFC", ACCENTS.sub("", separate))


def _lost_characters(caption: str) -> list[str]:
    """What of a caption is in no word, and no space or punctuation either: emoji and signs."""
    between = TOKEN.sub(" ", _letters(caption))
    return [sign for sign in between if unicodedata.category(sign)[0] in "SNL"]


@register
class Tokenizer:
    """Turns captions into rows of numbers, one per token, and knows which words it has learnt.

    words:      the vocabulary, in the order of the ids; the first word has id 2
    max_length: tokens in a row, the start token included

    Every row begins with the start token, so that the empty caption ("no condition") is also a row, and is filled up
    with padding.
    """

    def __init__(self, words: Sequence[str], max_length: int):
        guards.vocabulary(words)
        self.words, self.max_length = list(words), max_length
        self.ids = {word: number for number, word in enumerate(self.words, start=START + 1)}

    @classmethod
    def from_captions(cls, captions: Iterable[str]) -> "Tokenizer":
        """The tokenizer of all words in captions; max_length fits the longest of them."""
        split = [split_words(caption) for caption in captions]
        return cls(sorted({word for words in split for word in words}), 1 + max(map(len, split), default=0))

    def __len__(self) -> int:
        """How many different ids there are, padding and start included."""
        return len(self.words) + START + 1

    def __call__(self, captions: Sequence[str], name: str = "the caption") -> Tensor:
        """Token ids of each caption, long (B, max_length). Words it never saw are left out: ask unknown_words first.

        Raises TypeError for a single string, and ValueError, with this name, where a caption has more words than fit.
        """
        guards.several("captions", captions, "captions")
        rows = torch.full((len(captions), self.max_length), PADDING)
        for row, caption in zip(rows, captions, strict=True):
            ids = [START] + [self.ids[word] for word in split_words(caption) if word in self.ids]
            guards.caption_length(caption, len(ids) - 1, self.max_length - 1, name)
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def unknown_words(self, caption: str) -> list[str]:
        """What of caption was in no training caption, each once: words in their order, then signs such as emoji."""
        return list(
            dict.fromkeys(word for word in split_words(caption) if word not in self.ids)
            | dict.fromkeys(_lost_characters(caption))
        )


@register
class TextEncoder(nn.Module):
    """A small Transformer (Vaswani et al. 2017) that reads a caption: each token's vector comes to know its neighbours.

    vocabulary_size: len(tokenizer); max_length: tokenizer.max_length; dim: D, a multiple of num_heads

    forward: token ids, long (B, L) with L up to max_length -> (B, L, D). What stands at padding is meaningless: mask it
    with padding_mask. A caption's vectors do not depend on the padding or on the rest of the batch.
    """

    def __init__(self, vocabulary_size: int, max_length: int, dim: int = 64, num_layers: int = 1, num_heads: int = 4):
        super().__init__()
        guards.heads("dim", dim, num_heads)
        self.token_embedding = nn.Embedding(vocabulary_size, dim)
        self.position_embedding = nn.Parameter(torch.empty(max_length, dim))
        for embedding in (self.token_embedding.weight, self.position_embedding):
            nn.init.normal_(embedding, std=0.02)  # small at first, so that what is learnt soon outweighs it
        options = dict(dim_feedforward=2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        layer = nn.TransformerEncoderLayer(dim, num_heads, **options)
        self.layers = nn.TransformerEncoder(layer, num_layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        guards.tokens(tokens)
        positions = self.position_embedding[: tokens.shape[1]]
        x = self.token_embedding(tokens) + positions  # (B, L, D)
        return self.layers(x, src_key_padding_mask=padding_mask(tokens))


def padding_mask(tokens: Tensor) -> Tensor:
    """True where there is no word but padding: (B, L) -> bool (B, L)."""
    return tokens == PADDING
