"""How not to run out of memory, and what to say where that happens. Nothing here is about diffusion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

PIXELS_AT_ONCE = 2**16  # 64 pictures of 32x32, for which a small U-Net needs 100 MB


def in_parts(count: int, shape: Sequence[int]) -> list[range]:
    """The numbers from 0 to count - 1 in parts, each of as many pictures (C, H, W) as are best drawn at once.

    Where count is 0 there is one part, with nothing in it.
    """
    at_once = max(1, PIXELS_AT_ONCE // (shape[1] * shape[2]))
    return [range(first, min(first + at_once, count)) for first in range(0, max(count, 1), at_once)]


class OutOfMemory(RuntimeError):
    """A batch was too large for the device's memory. The state keeps what was learnt before it."""


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Torch has an exception for a GPU; on a CPU, and from libraries on a GPU, a RuntimeError has these words."""
    words = ("can't allocate memory", "out of memory", "alloc_failed")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)


@contextmanager
def explain_out_of_memory(batch_size: int) -> Iterator[None]:
    """Turns a lack of memory inside the with block into OutOfMemory, which says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise OutOfMemory(
            f"the memory of the device does not hold a batch of {batch_size}: lower batch_size (say, to "
            f"{max(1, batch_size // 2)}), or use fewer channels or smaller pictures. What was learnt before is kept"
        ) from error
