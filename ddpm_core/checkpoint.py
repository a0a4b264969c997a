"""Saving and loading: weights in a safetensors file, with everything needed to rebuild the model beside them.

safetensors files hold numbers and text only. Loading one never runs code, as loading a pickle would.
"""

import json
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ddpm_core.schedule import NoiseSchedule
from ddpm_core.support import guards
from ddpm_core.support.files import shipped_file
from ddpm_core.support.registry import build, description, difference, is_registered
from ddpm_core.support.tensor_file import CheckpointError, checksum, flat, nested, read_tensors, write_tensors
from ddpm_core.training_state import TrainingState

FORMAT, OLDER_FORMAT = "ddpm_core 3", "ddpm_core 2"
# What comes with the course.
SHIPPED = ("digit-scenes", "emoji", "clip", "autoencoder", "stable-diffusion", "super-resolver", "imagen", "dalle2")


@dataclass
class Checkpoint:
    """A model ready to use, the schedule it was trained with, and notes on how it was made."""

    model: nn.Module
    schedule: NoiseSchedule | None  # None for a model that removes no noise, such as CLIP
    notes: dict = field(default_factory=dict)
    training: dict | None = None  # what resume_training needs, where the run was saved with it


def save_checkpoint(
    path: Path | str,
    state: TrainingState,
    schedule: NoiseSchedule | None = None,
    notes: dict | None = None,
    with_training: bool = False,
    before_replacing: Callable[[], None] = lambda: None,
) -> None:
    """Writes state.ema_model and the schedule; with_training also stores what going on with the training needs.

    schedule:         that of the training, None for a model that removes no noise
    notes:            anything that json can hold (command, time, score)
    before_replacing: called when the new file is complete and the one at path still there

    The file appears whole or not at all. Raises TypeError where the model is none of the course's networks, or its
    schedule is missing.
    """
    model, saved = state.ema_model, state.state_dict()
    if not is_registered(model):
        raise TypeError(f"only a network of ddpm_core can be saved, such as a UNet; got {type(model).__name__}")
    if _removes_noise(model):
        guards.instance("schedule", schedule, NoiseSchedule)
    betas = dict() if schedule is None else dict(betas=schedule.betas)
    if with_training:
        saved |= dict(optimizer=saved["optimizer"]["state"], losses=torch.tensor(saved["losses"], dtype=torch.float64))
    else:
        saved = dict(ema_model=saved["ema_model"])
    network = json.dumps(description(model), ensure_ascii=False)
    metadata = {"format": FORMAT, "network": network, "notes": json.dumps(notes or {}, sort_keys=True)}
    write_tensors(Path(path), flat(saved) | betas, metadata, before_replacing)


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Reads what save_checkpoint wrote. Raises FileNotFoundError, or CheckpointError that says what is wrong.

    device: where model and schedule are to be; ValueError where this machine has no such device
    """
    guards.usable_device(device)
    tensors, metadata = read_tensors(Path(path), (FORMAT, OLDER_FORMAT))
    try:
        model = build(**_network(metadata))
        notes = json.loads(metadata["notes"])
        has_schedule = _removes_noise(model) or "betas" in tensors
        schedule = NoiseSchedule(tensors.pop("betas")) if has_schedule else None
        training = nested(tensors)
        model.load_state_dict(training["ema_model"])
        if "generator" in training:
            training["losses"] = training["losses"].tolist()
        else:
            training = None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(
            f"{path} is damaged, or older than this version of the course: its weights do not fit ({error})"
        ) from error
    model.eval().requires_grad_(False)
    if has_schedule:
        schedule = schedule.to(device)
    return Checkpoint(model.to(device), schedule, notes, training)


def resume_training(state: TrainingState, checkpoint: Checkpoint) -> None:
    """Moves a fresh state to where the saved run was.

    Raises CheckpointError where the file holds no training, or that of another network or another kind of device.
    """
    guards.instance("checkpoint", checkpoint, Checkpoint, "load_checkpoint(path)")
    if checkpoint.training is None:
        raise CheckpointError("this checkpoint holds a model to sample from, without its training; it cannot go on")
    if description(state.model) != description(checkpoint.model):
        theirs, ours = map(reprlib.repr, difference(description(checkpoint.model), description(state.model)))
        raise CheckpointError(f"the checkpoint is of another architecture: it has {theirs}, this model has {ours}")
    if checkpoint.training["generator"].shape != state.generator.get_state().shape:
        raise CheckpointError(
            "this run was begun on another kind of device (CPU or GPU), where random numbers are made differently: "
            f"go on with it there; this one is {state.device.type}"
        )
    optimizer = state.optimizer.state_dict() | {"state": checkpoint.training.get("optimizer", {})}
    state.load_state_dict(checkpoint.training | {"optimizer": optimizer})


def shipped_checkpoint(name: str) -> Path:
    """The file of a trained model of the course, one of SHIPPED. Read it with load_checkpoint.

    Raises ValueError for another name, and FileNotFoundError where the file is missing.
    """
    guards.one_of("name", name, SHIPPED)
    return shipped_file(f"{name}.safetensors")


def load_shipped(name: str, kind: type[nn.Module], device: torch.device | str = "cpu") -> Checkpoint:
    """What is in such a file. Raises CheckpointError, with the fix, where it is damaged or its network of another kind.

    device: as of load_checkpoint
    """
    path = shipped_checkpoint(name)
    fix = f"get the right one back with: git checkout -- data/{path.name}"
    try:
        loaded = load_checkpoint(path, device)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {fix}") from error
    if not isinstance(loaded.model, kind):
        found = type(loaded.model).__name__
        raise CheckpointError(f"{path} holds the network {found} where {kind.__name__} belongs; {fix}")
    return loaded


def shipped_model(name: str, kind: type[nn.Module]) -> nn.Module:
    """The network of load_shipped, on the CPU."""
    return load_shipped(name, kind).model


def model_checksum(model: nn.Module) -> str:
    """A sha256 of a network's weights, its plan and its words: it tells whether what was made with it belongs to it."""
    weights = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
    return checksum(weights, dict(network=json.dumps(description(model), sort_keys=True)))


def _removes_noise(model: nn.Module) -> bool:
    return any(hasattr(part, "predicts") for part in model.modules())  # a system need not say it, but its parts do


def _network(metadata: dict[str, str]) -> dict:
    """What build takes. The older format had one entry for the U-Net and, where there was text, two more for that."""
    if metadata["format"] == FORMAT:
        return json.loads(metadata["network"])
    unet = dict(name="UNet", config=json.loads(metadata["unet"]))
    if "text_encoder" not in metadata:
        return unet
    text_encoder = dict(name="TextEncoder", config=json.loads(metadata["text_encoder"]))
    words = dict(words=json.loads(metadata["words"]), max_length=text_encoder["config"]["max_length"])
    tokenizer = dict(name="Tokenizer", config=words)
    return dict(name="TextToImage", config=dict(unet=unet, text_encoder=text_encoder, tokenizer=tokenizer))
