"""Between pictures in [-1, 1], bytes and picture files. Nothing here is about diffusion."""

import io
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ddpm_core.support.files import make_folder

# Only these decoders run, whatever a file is called: PIL's others include one that starts a program (PostScript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8, 0 to 255 -> float32 in [-1, 1]. Needs the memory of the result and no more."""
    return pixels.to(torch.float32, copy=True).div_(127.5).sub_(1)


def as_floats(pictures: Tensor) -> Tensor:
    """uint8, 0 to 255 -> float32 in [-1, 1], as from_bytes. What is floats stays."""
    return from_bytes(pictures) if pictures.dtype == torch.uint8 else pictures


def to_bytes(pictures: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8. Values outside are cut off, as a screen has no more. What is uint8 stays."""
    if pictures.dtype == torch.uint8:
        return pictures
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_pixels(pictures: Tensor) -> np.ndarray:
    """What a screen shows: (N, 1 or 3, H, W) in [-1, 1] -> (N, H, W, 3) uint8."""
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be (N, 1, H, W) or (N, 3, H, W); got shape {tuple(pictures.shape)}")
    return to_bytes(pictures.cpu()).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def tile(pictures: Tensor, columns: int = 8, width: int = 400, gap: int = 2) -> np.ndarray:
    """One sheet of pictures (N, C, H, W) in [-1, 1], enlarged to about width pixels: (H', W', 3) uint8."""
    pixels = to_pixels(pictures)
    N, H, W, _ = pixels.shape
    columns = min(columns, N)
    scale = max(1, width // (columns * W))
    H, W = H * scale, W * scale
    sheet = np.full((math.ceil(N / columns) * (H + gap) - gap, columns * (W + gap) - gap, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pixels.repeat(scale, 1).repeat(scale, 2)):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def encode(pixels: np.ndarray, image_format: str = "PNG") -> bytes:
    """(H, W, 3) uint8 -> the bytes of a picture file. Formats that lose something lose little."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, quality=95)
    return file.getvalue()


def write_pictures(pictures: Tensor, path: Path) -> None:
    """Writes pictures (N, C, H, W) in [-1, 1] as one sheet, in the format that the ending of path names."""
    from PIL import Image

    Image.fromarray(tile(pictures, width=1000)).save(path)


def check_picture_file(path: Path, *read: str) -> None:
    """Makes the folder for a picture file. Raises ValueError where none can be written there, or by no such ending.

    So it shows before the work and not after it. What is at path stays. read: what may be files that the work is made
    from, which must not be overwritten
    """
    from PIL import Image

    read = [os.path.expanduser(name) for name in read]
    if os.path.exists(path) and any(os.path.exists(name) and os.path.samefile(path, name) for name in read):
        raise ValueError(f"out must not be {path}, which would be overwritten: give another name")
    try:  # Pillow has formats that it reads only, and some without colours
        image_format = Image.registered_extensions().get(path.suffix.lower())
        Image.new("RGB", (64, 64)).save(io.BytesIO(), image_format)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"out must end as picture files do, such as in .png; got {path}") from None
    make_folder(path)
    is_new = not os.path.lexists(path)
    try:
        path.open("ab").close()
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
    if is_new:
        path.unlink()


def read_rgb(path: Path) -> Tensor:
    """A picture file that comes with the course, as it is: uint8 (3, H, W)."""
    return _pixels(path, "RGB").permute(2, 0, 1)


def read_grey(path: Path) -> Tensor:
    """The same of a picture without colours: uint8 (H, W)."""
    return _pixels(path, "L")


def _pixels(path: Path, mode: str) -> Tensor:
    from PIL import Image

    with Image.open(path) as picture:
        picture.verify()  # the checksums in the file, of which PIL reads past some
    with Image.open(path) as picture:
        return torch.tensor(np.asarray(picture.convert(mode)))


def read_square(file: Path | BinaryIO, size: int) -> Tensor:
    """Anybody's picture file, cut square around its centre and resized: uint8 (3, size, size).

    Transparency becomes white, grey becomes RGB, a camera turned sideways is respected, an animation is its first
    frame. Raises ValueError where it is none of FORMATS or unclear, and from damaged files nearly anything.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError, features

    formats = FORMATS + (("AVIF",) if features.check("avif") else ())  # which older versions of Pillow cannot read
    try:
        opened = Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError(f"not one of {', '.join(formats)}") from error  # PIL's own message repeats the path
    with opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I;16"):  # PIL's convert would clip 16 bits of grey at 255
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError("nothing says which of its 32-bit values is white")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    # Flattened first and resized after, so that the colours hidden under transparency do not bleed into the edges.
    picture = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1)
