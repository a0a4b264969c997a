"""Does a picture fit its caption? What CLIP says of pairs."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm_core.support import guards
from ddpm_core.support.notices import PromptWarning
from ddpm_core.systems.clip import CLIP, encode_in_batches


def clip_score(clip: CLIP, pictures: Tensor, captions: Sequence[str]) -> Tensor:
    """How well each picture fits its caption: the cosine between their vectors, (B,), -1 to 1, on the CPU.

    pictures: (B, C, H, W), floats in [-1, 1] or uint8; captions: one for each

    The CLIPScore of Hessel et al. (2021) is 2.5 * max(cosine, 0), with OpenAI's CLIP, whose cosines seldom exceed 0.4:
    the factor stretches them to about 0 to 1. Scores compare only where one CLIP gave them. Words that it never saw are
    left out, with a PromptWarning that names them. Raises ValueError where there is not one caption for each picture.
    """
    guards.instance("clip", clip, CLIP)
    guards.pictures(pictures, bytes_too=True)
    guards.some_captions("captions", captions, len(pictures))
    _warn_of_unknown_words(clip, captions)
    return (encode_in_batches(clip, pictures) * encode_in_batches(clip, captions)).sum(dim=1)


def retrieval_agreement(
    clip: CLIP, pictures: Tensor, captions: Sequence[str], all_captions: Sequence[str], k: int = 1
) -> Tensor:
    """Is each picture's caption among the k of all_captions that fit the picture best? bool, (B,), on the CPU.

    pictures, captions: as for clip_score; all_captions: those to choose from, the pictures' own among them. Captions
    that are equal in clip's words count once, so a caption may be there for several pictures.

    Raises ValueError where one of captions is not among all_captions, or k is above the number of different ones.
    """
    guards.instance("clip", clip, CLIP)
    guards.pictures(pictures, bytes_too=True)
    guards.some_captions("captions", captions, len(pictures))
    guards.some_captions("all_captions", all_captions)
    guards.among_captions(captions, all_captions)
    _warn_of_unknown_words(clip, all_captions)
    _, rows = clip.tokenizer(all_captions).unique(dim=0, return_inverse=True)
    row_of = dict(zip(all_captions, rows.tolist(), strict=True))
    caption_in = {row: caption for caption, row in row_of.items()}  # one for each different row of tokens
    different = [caption_in[row] for row in range(len(caption_in))]
    guards.whole_number("k", k, most=len(different), why=f", as there are {len(different)} different captions")
    scores = encode_in_batches(clip, pictures) @ encode_in_batches(clip, different).T  # (B, different captions)
    own = scores.gather(1, torch.tensor([row_of[caption] for caption in captions])[:, None])
    return (~(scores < own)).sum(dim=1) <= k  # those that fit no worse, itself among them; NaN fits nothing


def _warn_of_unknown_words(clip: CLIP, captions: Sequence[str]) -> None:
    """Names them at the place two calls up."""
    unknown = dict.fromkeys(word for caption in captions for word in clip.tokenizer.unknown_words(caption))
    if unknown:
        names = ", ".join(f'"{word}"' for word in unknown)
        warnings.warn(f"no caption that this CLIP learnt had {names}: left out", PromptWarning, stacklevel=3)
