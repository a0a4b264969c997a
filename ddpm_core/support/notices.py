"""What a user should know of a prompt, in words, and how it is shown."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ddpm_core.support.guards.values import cut


class PromptWarning(UserWarning):
    """Something in a prompt that the model cannot use."""


@contextmanager
def collect_notices() -> Iterator[list[str]]:
    """A list that holds, after the with block, what PromptWarnings said inside it, instead of showing them."""
    notices: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PromptWarning)
        yield notices
    for warning in caught:
        if issubclass(warning.category, PromptWarning):
            notices.append(str(warning.message))
        else:  # none of ours: on to where it would have gone
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def notice_on_words(prompt: str, words: Sequence[str], unknown: Sequence[str], is_negative: bool = False) -> str | None:
    """One sentence that names what of a prompt is unknown, or None where nothing is.

    words: the prompt's; unknown: those of them that no training caption had, then signs that are no words at all
    """
    nothing, rest = "the picture can be of anything", "the picture is made from the other words"
    if is_negative:
        nothing, rest = "as a negative prompt it changes nothing", "the picture keeps away from the other words"
    if not words and not unknown:
        reason = f"{cut(repr(prompt))} holds no word" if is_negative else "an empty prompt sets no condition"
        return f"{reason}: {nothing}"
    if not unknown:
        return None
    knows_none = all(word in unknown for word in words)
    return what_is_unknown(prompt, words, unknown) + (f": {nothing}" if knows_none else f"; {rest}")


def what_is_unknown(prompt: str, words: Sequence[str], unknown: Sequence[str]) -> str:
    """The beginning of such a sentence; words and unknown as above, with something in unknown."""
    missing = cut(", ".join(f'"{name}"' for name in unknown if name in words))
    signs = cut(", ".join(f'"{name}"' for name in unknown if name not in words))
    prompt, reasons = cut(repr(prompt)), []
    if missing and all(word in unknown for word in words):
        reasons.append(f"no word of {prompt} was in any training caption ({missing})")
    elif missing:
        reasons.append(f"{prompt}: no training caption had {missing}")
    if signs:
        reasons.append(("" if missing else f"{prompt}: ") + f"what is no word is left out ({signs})")
    return "; ".join(reasons)


def warn_of_prompts(
    notice_on: Callable[..., str | None], prompts: Sequence[str], negative_prompt: str, guidance_scale: float
) -> str:
    """Says in PromptWarnings, at the place two calls up, what of the prompts cannot be used.

    notice_on: called with a prompt, and is_negative

    Returns the negative prompt, or "" where the guidance is too weak for one.
    """
    notices = [notice_on(prompt) for prompt in dict.fromkeys(prompts)]
    if negative_prompt:
        notice = notice_on(negative_prompt, is_negative=True)
        if guidance_scale <= 1:
            notice = (
                f"a negative prompt counts only where guidance_scale is above 1; at {guidance_scale:g} it is left out"
            )
            negative_prompt = ""
        notices.append(notice)
    for notice in filter(None, notices):
        warnings.warn(notice, PromptWarning, stacklevel=3)
    return negative_prompt
