"""Shards on the disc: which files a pattern means, and how new ones are written.

A shard is a tar file as img2dataset writes them: it holds 000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg
and so on, some thousand samples.
"""

import math
import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from types import ModuleType

from torch import Tensor

from ddpm_core.support import guards
from ddpm_core.support.atomic import atomic_write
from ddpm_core.support.files import DataUnavailable, make_folder, must_be_empty
from ddpm_core.support.pixels import encode, to_pixels

PICTURES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}  # ending -> Pillow's name for it
TARS = (".tar", ".tar.gz", ".tgz")
UNFINISHED = "UNFINISHED"  # lies beside shards as long as they are written


def write_shards(
    folder: Path | str,
    pictures: Tensor,
    captions: Sequence[str],
    samples_per_shard: int = 1000,
    image_format: str = "png",
) -> list[Path]:
    """Writes pictures (N, 3, H, W) and N captions to folder/00000.tar, 00001.tar...; returns these paths.

    pictures:     in [-1, 1], or uint8, which are taken as they are
    image_format: png keeps 8 bits per colour exactly; jpg and webp are smaller and lossy

    Nobody reads the shards before the last of them is written. Raises ValueError for arguments that do not fit,
    FileExistsError where the folder is not empty.
    """
    wds = webdataset()
    guards.pictures(pictures, bytes_too=True)
    if pictures.shape[1] != 3:
        raise ValueError(f"pictures must have 3 colours, (N, 3, H, W); got {guards.describe(pictures)}")
    guards.several("captions", captions, "strings")
    if len(captions) != len(pictures):
        raise ValueError(f"there must be a caption for each picture; got {len(pictures)} and {len(captions)} captions")
    for i, caption in enumerate(captions):
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"captions[{i}] must be a string that says something; got {guards.describe(caption)}")
    guards.whole_number("samples_per_shard", samples_per_shard)
    guards.one_of("image_format", image_format, PICTURES)
    folder = Path(os.path.expanduser(folder))
    paths = [folder / f"{number:05d}.tar" for number in range(math.ceil(len(captions) / samples_per_shard))]
    digits = max(4, len(str(samples_per_shard - 1)))  # four, as for the 10,000 that img2dataset packs by default
    make_folder(paths[0])
    must_be_empty(folder, "or old shards would mix with the new")
    (folder / UNFINISHED).touch()
    for number, path in enumerate(paths):
        part = slice(number * samples_per_shard, (number + 1) * samples_per_shard)
        with atomic_write(path) as file, wds.TarWriter(file, mtime=0, compress=False) as shard:
            for i, (picture, caption) in enumerate(zip(pictures[part], captions[part], strict=True)):
                key = f"{number:05d}{i:0{digits}d}"
                about = {"key": key, "caption": caption, "width": picture.shape[2], "height": picture.shape[1]}
                content = encode(to_pixels(picture[None])[0], PICTURES[image_format])
                shard.write({"__key__": key, image_format: content, "txt": caption, "json": about})
    (folder / UNFINISHED).unlink()
    return paths


def are_shards(pattern: str) -> bool:
    """Whether a path or a pattern means shards; a folder does where there is one in it."""
    folder = Path(os.path.expanduser(pattern))
    if folder.is_dir():
        return any(file.name.endswith(TARS) for file in folder.iterdir())
    return ".tar" in pattern or pattern.endswith(".tgz") or any(sign in pattern for sign in "*?[{")


def find_shards(pattern: str | Path | Sequence[str | Path]) -> list[str]:
    """The shards that a path, a pattern, a folder or a list of these means. Raises DataUnavailable without them."""
    patterns = [pattern] if isinstance(pattern, str | Path) else pattern
    if not isinstance(patterns, Sequence) or not all(isinstance(path, str | Path) for path in patterns):
        raise TypeError(f"pattern must be a path like shards/*.tar or a list of paths; got {guards.describe(pattern)}")
    if not patterns:
        raise ValueError("pattern must name at least one shard; got an empty list")
    shards = list(dict.fromkeys(shard for path in patterns for shard in _match(os.path.expanduser(path))))
    for folder in {os.path.dirname(shard) for shard in shards}:
        if os.path.exists(os.path.join(folder, UNFINISHED)):
            raise DataUnavailable(
                f"the shards in {folder or '.'} are not whole: who wrote them was interrupted, or is still at work. "
                "Remove the folder and write them again"
            )
    return shards


def _match(pattern: str) -> Iterator[str]:
    from braceexpand import braceexpand  # webdataset brings it

    paths = [pattern] if os.path.exists(pattern) else list(braceexpand(pattern))
    for path in paths:
        if os.path.isfile(path):
            found, problem = [path], ""
        elif os.path.isdir(path):
            found = [str(item) for item in Path(path).iterdir() if item.name.endswith(TARS)]
            problem = f"the folder {path} has no shards; their names end in {', '.join(TARS)}"
        elif any(sign in path for sign in "*?["):
            found = [name for name in glob(path) if name.endswith(TARS)]
            problem = f"no shard matches {os.path.basename(path)} in {os.path.dirname(path) or '.'}"
        else:
            why = f", the first of {len(paths)} that {pattern} names and that is missing" if len(paths) > 1 else ""
            found, problem = [], f"there is no shard {path}{why}"
        if not found:
            raise DataUnavailable(problem)
        yield from sorted(found)


def webdataset() -> ModuleType:
    """The webdataset library, which is loaded where shards are. Raises ImportError with the fix where it is missing."""
    try:
        import webdataset
    except ImportError as error:
        raise ImportError("shards need the webdataset library: pip install webdataset") from error
    return webdataset
