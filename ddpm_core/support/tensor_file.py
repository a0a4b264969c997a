"""Files of tensors with a description, written whole or not at all. Damage is noticed, and loading runs no code."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm_core.support.atomic import atomic_write

PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how they start


class CheckpointError(RuntimeError):
    """A file that is not a checkpoint of this course, is damaged, or does not fit."""


def write_tensors(
    path: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    before_replacing: Callable[[], None] = lambda: None,
) -> None:
    """Writes a safetensors file with a checksum of all that is in it. Raises OSError, with what was there untouched."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = metadata | {"sha256": checksum(tensors, metadata)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, before_replacing) as file:
            file.write(save(tensors, metadata))
    except OSError as error:
        raise OSError(f"{path} could not be written, and what was there is untouched: {error}") from error


def read_tensors(
    path: Path, formats: tuple[str, ...], what: str = "checkpoint"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of what write_tensors wrote, with one of the formats in its metadata.

    formats: names with a number at the end; what: such files are called

    Raises FileNotFoundError, or CheckpointError where it is no such file or not as it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        # Only now: a sound safetensors file starts with a length, which can be any two bytes.
        with path.open("rb") as file:
            start = file.read(2)
        if start in PICKLES:
            raise CheckpointError(
                f"{path} is a pickle, as torch.save writes them. Opening one can run any code inside it, so it is "
                "refused; this course saves safetensors files, with save_checkpoint"
            ) from error
        raise CheckpointError(f"{path} is truncated, damaged or not a safetensors file ({error})") from error
    name, _, version = metadata.get("format", "").rpartition(" ")
    if metadata.get("format") not in formats:
        if name == formats[0].rpartition(" ")[0]:
            raise CheckpointError(f"{path} has a format of another version of the course, {version}")
        raise CheckpointError(f"{path} is a safetensors file, but no {what} of this course")
    if metadata.pop("sha256", None) != checksum(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: what is in it does not fit the checksum that it was saved with")
    return tensors, metadata


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """A sha256 of names, shapes, numbers and metadata."""
    sha256 = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def flat(parts: dict, prefix: str = "") -> dict[str, Tensor]:
    """A state_dict's tensors and numbers by names such as "model.stem.bias" and "optimizer.0.exp_avg"."""
    tensors = {}
    for name, value in parts.items():
        if isinstance(value, dict):
            tensors |= flat(value, f"{prefix}{name}.")
        else:
            tensors[f"{prefix}{name}"] = torch.as_tensor(value)
    return tensors


def nested(tensors: dict[str, Tensor]) -> dict:
    """Back again: weights by their names, the optimizer's moments by the number of their weight."""
    parts: dict = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if not rest:
            parts[part] = tensor
        elif part == "optimizer":
            number, _, moment = rest.partition(".")
            parts.setdefault(part, {}).setdefault(int(number), {})[moment] = tensor
        else:
            parts.setdefault(part, {})[rest] = tensor
    return parts
