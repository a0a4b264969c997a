from itertools import chain

import pytest

from ddpm_core.support.memory import PIXELS_AT_ONCE, in_parts


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("size", [8, 32, 100, 1000])
def test_every_picture_is_in_one_part_and_no_part_has_too_many_pixels(count, size):
    parts = in_parts(count, (3, size, size))
    assert list(chain.from_iterable(parts)) == list(range(count))
    assert max(map(len, parts)) * size**2 <= max(PIXELS_AT_ONCE, size**2)
    assert len(parts) <= 1 + count * size**2 / (PIXELS_AT_ONCE - size**2) or size**2 > PIXELS_AT_ONCE


def test_nothing_is_one_empty_part():
    assert in_parts(0, (3, 8, 8)) == [range(0)]
