import hashlib

import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_core import DataUnavailable, load_cat
from ddpm_core.course.doctor import CHECKSUMS
from ddpm_core.support.files import shipped_file

SIZES = [256, 128, 64, 32, 16, 8]


def test_the_cat_is_the_file_with_0_to_255_stretched_to_minus_1_to_1():
    with PIL.Image.open(shipped_file("cat.png")) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    cat = load_cat()
    assert cat.shape == (1, 3, 256, 256) and cat.dtype == torch.float32
    assert np.array_equal(((cat[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("size", SIZES)
def test_a_smaller_cat_is_the_average_of_blocks_of_pixels(size):
    block = 256 // size
    small, large = load_cat(size), load_cat()
    assert small.shape == (1, 3, size, size)
    assert torch.allclose(small[0, :, 1, 2], large[0, :, block : 2 * block, 2 * block : 3 * block].mean((1, 2)))


@pytest.mark.parametrize("size", [512, 100, -8, "256", None])
def test_another_size_is_refused_with_the_ones_that_work(size):
    with pytest.raises(ValueError, match="size must be 256, 128, 64, 32, 16 or 8"):
        load_cat(size)


def test_the_file_is_the_one_that_the_doctor_expects():
    assert hashlib.sha256(shipped_file("cat.png").read_bytes()).hexdigest() == CHECKSUMS["cat.png"]


@pytest.mark.parametrize(
    "damage", [None, lambda content: b"", lambda content: content[:-100], lambda content: content[1:]]
)
def test_a_missing_or_damaged_cat_comes_back_with_a_command(damage, tmp_path, monkeypatch):
    content = shipped_file("cat.png").read_bytes()
    monkeypatch.setattr("ddpm_core.support.files.data_folder", lambda: tmp_path)
    if damage:
        (tmp_path / "cat.png").write_bytes(damage(content))
    with pytest.raises(DataUnavailable, match=r"cat\.png .*get it back with: git checkout -- data/cat\.png"):
        load_cat()
