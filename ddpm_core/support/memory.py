"""A device that has not enough memory, said in one sentence. Nothing here is about diffusion."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
