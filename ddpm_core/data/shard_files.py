"""Shards on the disc: which files a pattern means, and how new ones are written.

A shard is a tar file as img2dataset writes them: it holds 000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg
and so on, some thousand samples.
"""

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from types import ModuleType

from torch import Tensor

from ddpm_core.support import guards
from ddpm_core.support.atomic import atomic_write
from ddpm_core.support.files import DataUnavailable
from ddpm_core.support.guards import describe
from ddpm_core.support.pixels import encode, to_pixels

PICTURES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}  # ending -> Pillow's name for it
TARS = (".tar", ".tar.gz", ".tgz")


def write_shards(
    folder: Path | str,
    pictures: Tensor,
    captions: Sequence[str],
    samples_per_shard: int = 1000,
    image_format: str = "png",
) -> list[Path]:
    """Writes pictures (N, 3, H, W) in [-1, 1] and N captions to folder/00000.tar, 00001.tar...; returns these paths.

    image_format: png keeps 8 bits per colour exactly; jpg and webp are smaller and lossy. Each shard appears whole or
    not at all. Raises ValueError for arguments that do not fit, FileExistsError where other shards are in the way.
    """
    wds = webdataset()
    _check_samples(pictures, captions)
    guards.whole_number("samples_per_shard", samples_per_shard)
    guards.one_of("image_format", image_format, PICTURES)
    folder = Path(folder).expanduser()
    starts = range(0, len(captions), samples_per_shard)
    paths = [folder / f"{number:05d}.tar" for number in range(len(starts))]
    digits = max(4, len(str(samples_per_shard - 1)))  # four, as for the 10,000 that img2dataset packs by default
    folder.mkdir(parents=True, exist_ok=True)
    if others := sorted(set(folder.glob("*.tar")) - set(paths)):
        raise FileExistsError(f"{others[0]} is already there and would mix with the new shards; give an empty folder")
    for number, (start, path) in enumerate(zip(starts, paths, strict=True)):
        with atomic_write(path) as file, wds.TarWriter(file, mtime=0, compress=False) as shard:
            for i in range(start, min(start + samples_per_shard, len(captions))):
                key = f"{number:05d}{i - start:0{digits}d}"
                about = {"key": key, "caption": captions[i], "width": pictures.shape[3], "height": pictures.shape[2]}
                picture = encode(to_pixels(pictures[i : i + 1])[0], PICTURES[image_format])
                shard.write({"__key__": key, image_format: picture, "txt": captions[i], "json": about})
    return paths


def _check_samples(pictures: Tensor, captions: Sequence[str]) -> None:
    guards.pictures(pictures)
    if pictures.shape[1] != 3:
        raise ValueError(f"pictures must have 3 colours, (N, 3, H, W); got {describe(pictures)}")
    guards.several("captions", captions, "strings")
    if len(captions) != len(pictures):
        raise ValueError(f"there must be a caption for each picture; got {len(pictures)} and {len(captions)} captions")
    for i, caption in enumerate(captions):
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"captions must be strings that say something; captions[{i}] is {describe(caption)}")


def find_shards(pattern: str | Path | Sequence[str | Path]) -> list[str]:
    """The shards that a path, a pattern, a folder or a list of these means. Raises DataUnavailable without them."""
    patterns = [pattern] if isinstance(pattern, str | Path) else pattern
    if not isinstance(patterns, Sequence) or not all(isinstance(path, str | Path) for path in patterns):
        raise TypeError(f"pattern must be a path, with braces or * or not, or a list of paths; got {describe(pattern)}")
    if not patterns:
        raise ValueError("pattern must name at least one shard; got an empty list")
    return list(dict.fromkeys(shard for path in patterns for shard in _match(os.path.expanduser(path))))


def _match(pattern: str) -> list[str]:
    from braceexpand import braceexpand  # webdataset brings it

    if os.path.isdir(pattern):
        found = sorted(str(path) for path in Path(pattern).iterdir() if path.name.endswith(TARS))
        if not found:
            raise DataUnavailable(f"the folder {pattern} has no shards; their names end in {', '.join(TARS)}")
        return found
    paths = [pattern] if os.path.isfile(pattern) else list(braceexpand(pattern))
    shards = []
    for path in paths:
        if os.path.isfile(path):
            shards.append(path)
        elif any(sign in path for sign in "*?["):
            found = sorted(name for name in glob(path) if name.endswith(TARS))
            if not found:
                raise DataUnavailable(f"no shard matches {os.path.basename(path)} in {os.path.dirname(path) or '.'}")
            shards += found
        else:
            why = f", the first of {len(paths)} that {pattern} names and that is missing" if len(paths) > 1 else ""
            raise DataUnavailable(f"there is no shard {path}{why}")
    return shards


def webdataset() -> ModuleType:
    """The webdataset library, which is loaded where shards are. Raises ImportError with the fix where it is missing."""
    try:
        import webdataset
    except ImportError as error:
        raise ImportError("shards need the webdataset library: pip install webdataset") from error
    return webdataset
