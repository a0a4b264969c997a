"""Saving and loading: weights in a safetensors file, with everything needed to rebuild the model beside them.

safetensors files hold numbers and text only. Loading one never runs code, as loading a pickle would. A checksum of all
that is in it tells a file that was damaged from a sound one.
"""

import hashlib
import json
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support.atomic import atomic_write
from ddpm_core.support.files import shipped_file
from ddpm_core.support.guards import describe
from ddpm_core.text import TextEncoder, Tokenizer
from ddpm_core.text_to_image import TextToImage
from ddpm_core.training import TrainingState
from ddpm_core.unet import UNet

FORMAT = "ddpm_core 2"
OLD_FORMAT = "ddpm_core 1"  # without the checksum
SHIPPED = ("digit-scenes", "emoji")  # the checkpoints that come with the course


class CheckpointError(RuntimeError):
    """A file that is not a checkpoint of this course, is damaged, or does not fit."""


@dataclass
class Checkpoint:
    """A model ready to sample from, the schedule it was trained with, and notes on how it was made."""

    model: UNet | TextToImage
    schedule: NoiseSchedule
    notes: dict = field(default_factory=dict)
    training: dict | None = None  # what TrainingState.load_state_dict needs, where the run was saved with it


def save_checkpoint(
    path: Path | str,
    state: TrainingState,
    schedule: NoiseSchedule,
    notes: dict | None = None,
    with_training: bool = False,
    before_replacing: Callable[[], None] = lambda: None,
) -> None:
    """Writes state.ema_model and the schedule; with_training adds all that going on with the training needs.

    notes:            anything that json can hold (command, time, score)
    before_replacing: called when the new file is complete and the one at path still there

    The file appears whole or not at all: it is written under another name first. Raises TypeError where the model is
    neither a UNet nor a TextToImage.
    """
    if not isinstance(state.ema_model, UNet | TextToImage):
        raise TypeError(f"only a ddpm_core UNet or TextToImage can be saved; got {type(state.ema_model).__name__}")
    tensors = {f"ema_model.{name}": weight for name, weight in state.ema_model.state_dict().items()}
    tensors["betas"] = schedule.betas
    if with_training:
        tensors |= {f"model.{name}": weight for name, weight in state.model.state_dict().items()}
        for number, moments in state.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in state.scaler.state_dict().items()}
        tensors["generator"] = state.generator.get_state()
        tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    metadata = {"format": FORMAT, "notes": json.dumps(notes or {}, sort_keys=True), **_description(state.ema_model)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _write(Path(path), tensors, metadata | {"sha256": _checksum(tensors, metadata)}, before_replacing)


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Reads what save_checkpoint wrote. Raises FileNotFoundError, or CheckpointError that says what is wrong."""
    path = Path(path)
    metadata, tensors = _read(path)
    checksum = metadata.pop("sha256", None)
    if metadata.get("format") not in (FORMAT, OLD_FORMAT):
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of this course")
    has_checksum = checksum is not None or metadata["format"] == FORMAT
    if has_checksum and checksum != _checksum(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: what is in it does not fit the checksum that it was saved with")
    try:
        model = _built_from(metadata)
        notes = json.loads(metadata["notes"])
        schedule = NoiseSchedule(tensors["betas"])
        model.load_state_dict(_under("ema_model.", tensors))
        training = _training_part(tensors) if "generator" in tensors else None
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(
            f"{path} is damaged, or older than this version of the course: its weights do not fit ({error})"
        ) from error
    model.eval().requires_grad_(False)
    return Checkpoint(model.to(device), schedule.to(device), notes, training)


def resume_training(state: TrainingState, checkpoint: Checkpoint) -> None:
    """Moves a fresh state to where the saved run was. Raises CheckpointError where the model is another one."""
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint must be what load_checkpoint returns; got {describe(checkpoint)}")
    if checkpoint.training is None:
        raise CheckpointError("this checkpoint holds a model to sample from, without its training; it cannot go on")
    if state.model.config != checkpoint.model.config:
        theirs, ours = _difference(checkpoint.model.config, state.model.config)
        raise CheckpointError(
            f"the checkpoint is of another architecture: it has {reprlib.repr(theirs)}, "
            f"this model has {reprlib.repr(ours)}"
        )
    if checkpoint.training["generator"].shape != state.generator.get_state().shape:
        raise CheckpointError(
            "this run was begun on another kind of device (CPU or GPU), where random numbers are made differently: "
            f"go on with it there; this one is {state.device.type}"
        )
    optimizer = state.optimizer.state_dict() | {"state": checkpoint.training["optimizer_state"]}
    ema_model = checkpoint.model.state_dict()
    state.load_state_dict(checkpoint.training | {"ema_model": ema_model, "optimizer": optimizer})


def shipped_checkpoint(name: str) -> Path:
    """The file of a trained model that comes with the course: "digit-scenes" or "emoji". Read it with load_checkpoint.

    Raises ValueError for another name, and FileNotFoundError where the file is missing.
    """
    if name not in SHIPPED:
        raise ValueError(f"the course comes with the checkpoints {' and '.join(SHIPPED)}; got {name!r}")
    return shipped_file(f"{name}.safetensors")


def _description(model: UNet | TextToImage) -> dict[str, str]:
    """What is needed to build the model again, as text."""
    if isinstance(model, UNet):
        return {"unet": json.dumps(model.config)}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in model.config.items()}


def _built_from(metadata: dict[str, str]) -> UNet | TextToImage:
    unet = UNet(**json.loads(metadata["unet"]))
    if "text_encoder" not in metadata:
        return unet
    text_encoder = TextEncoder(**json.loads(metadata["text_encoder"]))
    tokenizer = Tokenizer(json.loads(metadata["words"]), text_encoder.config["max_length"])
    return TextToImage(unet, text_encoder, tokenizer)


def _difference(a: dict, b: dict) -> tuple[dict, dict]:
    """What is not the same in two descriptions of models; of lists of words, the words that only one of them has."""
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    if all(isinstance(a.get(name), list) and isinstance(b.get(name), list) for name in names):
        return tuple({n: sorted(set(one[n]) - set(other[n])) for n in names} for one, other in ((a, b), (b, a)))
    return {name: a.get(name) for name in names}, {name: b.get(name) for name in names}


def _training_part(tensors: dict[str, Tensor]) -> dict:
    optimizer_state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        number, _, moment = name.partition(".")
        optimizer_state.setdefault(int(number), {})[moment] = value
    return dict(
        model=_under("model.", tensors),
        optimizer_state=optimizer_state,
        scaler={name: value.item() for name, value in _under("scaler.", tensors).items()},
        generator=tensors["generator"],
        losses=tensors["losses"].tolist(),
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    sha256 = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _write(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], before_replacing: Callable[[], None]
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, before_replacing) as file:
            file.write(save(tensors, metadata))
    except OSError as error:
        raise OSError(f"{path} could not be written, and what was there is untouched: {error}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        # Only now: a sound safetensors file starts with a length, which can be any two bytes.
        with path.open("rb") as file:
            start = file.read(2)
        if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError(
                f"{path} is a pickle, as torch.save writes them. Opening one can run any code inside it, so it is "
                "refused; this course saves safetensors files, with save_checkpoint"
            ) from error
        raise CheckpointError(f"{path} is truncated, damaged or not a safetensors file ({error})") from error
