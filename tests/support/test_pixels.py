import io
import re

import numpy as np
import PIL.Image
import pytest
import torch

from ddpm_core.support.pixels import (
    as_floats,
    check_picture_file,
    encode,
    from_bytes,
    read_grey,
    read_rgb,
    read_square,
    tile,
    to_bytes,
    to_pixels,
    write_pictures,
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_byte_comes_back_and_none_is_changed_on_the_way(dtype):
    pixels = torch.arange(256, dtype=dtype)
    pictures = from_bytes(pixels)
    assert pictures.dtype == torch.float32 and pictures[[0, 255]].tolist() == [-1, 1]
    assert torch.equal(pictures, torch.arange(256) / 127.5 - 1) and torch.equal(pixels, torch.arange(256, dtype=dtype))
    assert to_bytes(pictures).tolist() == list(range(256))


def test_pictures_become_floats_once():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_floats(pixels), torch.arange(256) / 127.5 - 1)
    for dtype in (torch.float16, torch.float32, torch.float64):
        pictures = torch.linspace(-1, 1, 5, dtype=dtype)
        assert as_floats(pictures) is pictures


def test_what_is_bytes_already_is_shown_as_it_is():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_bytes(pixels), pixels)
    assert np.array_equal(to_pixels(pixels), to_pixels(from_bytes(pixels)))


def test_bytes_are_rounded_and_what_lies_outside_is_cut_off_in_half_precision_too():
    assert to_bytes(torch.tensor([-1.0, 0.0, 1.0, -7.0, 7.0, 0.5])).tolist() == [0, 128, 255, 0, 255, 191]
    half = torch.linspace(-1, 1, 10_000).half()
    assert torch.equal(to_bytes(half), to_bytes(half.float()))


def test_pixels_are_rgb_with_the_colours_last_also_of_pictures_with_a_gradient():
    red = torch.tensor([1.0, -1.0, -1.0], requires_grad=True).reshape(1, 3, 1, 1)
    assert to_pixels(red).tolist() == [[[[255, 0, 0]]]]
    grey = to_pixels(torch.zeros(2, 1, 3, 4))
    assert grey.shape == (2, 3, 4, 3) and grey.dtype == np.uint8 and (grey == 128).all()


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (2, 2, 8, 8), (1, 8, 8, 3)])
def test_what_is_not_a_batch_of_pictures_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        to_pixels(torch.zeros(shape))


def test_a_sheet_is_filled_row_by_row_with_white_gaps():
    pictures = torch.tensor([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]).reshape(3, 1, 1, 2)
    sheet = tile(pictures, columns=2, width=4, gap=1)
    W = 255
    expected = [
        [0, 255, W, 128, 128],
        [W, W, W, W, W],
        [255, 0, W, W, W],
    ]
    assert sheet.dtype == np.uint8 and sheet.shape == (3, 5, 3)
    assert all((sheet[:, :, c] == expected).all() for c in range(3))


def test_bytes_stay_bytes():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert to_bytes(pixels) is pixels


def test_a_sheet_enlarges_pictures_by_a_whole_number_and_never_shrinks_them():
    picture = torch.tensor([[-1.0, 1.0]]).reshape(1, 1, 1, 2)
    assert tile(picture, width=7)[:, :, 0].tolist() == [[0, 0, 0, 255, 255, 255]] * 3
    assert tile(picture, width=1)[:, :, 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("image_format, error", [("PNG", 0), ("WEBP", 12), ("JPEG", 12)])
def test_files_hold_the_pictures(image_format, error, tmp_path):
    pictures = torch.linspace(-1, 1, 16).reshape(1, 1, 1, 16).expand(1, 3, 16, 16)
    file = io.BytesIO(encode(to_pixels(pictures)[0], image_format))
    assert PIL.Image.open(file).format == image_format
    assert (read_square(file, 16).int() - to_bytes(pictures[0]).int()).abs().max() <= error
    path = tmp_path / f"sheet.{image_format.lower()}"
    write_pictures(pictures, path)
    assert (read_rgb(path).int() - torch.tensor(tile(pictures, width=1000)).permute(2, 0, 1).int()).abs().max() <= error


def test_a_picture_can_be_written_by_every_ending_that_is_accepted(tmp_path):
    accepted = []
    for ending in [*PIL.Image.registered_extensions(), ".txt", ""]:
        path = tmp_path / f"new{ending}"
        try:
            check_picture_file(path)
        except ValueError as error:
            assert "out must end" in str(error)
        else:
            write_pictures(torch.zeros(2, 3, 8, 8), path)
            accepted.append(ending)
    assert {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif"} <= set(accepted)
    assert not {".psd", ".xbm", ".txt", ""} & set(accepted)  # read only, without colours, and none


def test_a_file_that_comes_along_is_read_as_it_is_or_not_at_all(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(8, 8), dtype=np.uint8)
    path = tmp_path / "noise.png"
    PIL.Image.fromarray(pixels).save(path)
    assert torch.equal(read_grey(path), torch.tensor(pixels))
    assert torch.equal(read_rgb(path), torch.tensor(pixels).expand(3, 8, 8))
    content, errors = path.read_bytes(), []
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        try:
            assert torch.equal(read_grey(path), torch.tensor(pixels))
        except (OSError, SyntaxError, ValueError) as error:
            errors.append(error)
    assert len(errors) >= len(content) - 12  # the last ones say nothing but that the file ends
