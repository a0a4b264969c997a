"""What a training run is made of, from the settings that were asked for or from the run that goes on."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpm_core.checkpoint import Checkpoint
from ddpm_core.data import DATA_SETS, DataUnavailable, PictureTextShards, load_pictures
from ddpm_core.scale.ranks import num_ranks, rank
from ddpm_core.scale.recipes import PRESETS, Preset, data_checksum
from ddpm_core.schedule import NoiseSchedule, cosine_betas
from ddpm_core.text import TextEncoder, Tokenizer, split_words
from ddpm_core.text_to_image import TextToImage
from ddpm_core.training import Batches
from ddpm_core.unet import UNet

WORDS_AT_MOST = 63  # of a caption from tar files; some on the web have thousands


@dataclass
class Job:
    """What a run is made of."""

    model: nn.Module
    schedule: NoiseSchedule
    data: Tensor | Callable[[int], Batches]  # as train takes it
    options: dict  # of train
    num_iterations: int
    notes: dict  # kept in the checkpoint: a run is resumed with these settings
    recipe: Preset | None = None
    skipped: Counter = field(default_factory=Counter)  # samples of the data that were no use

    def example(self, device: torch.device) -> list[Tensor]:
        """Such input as the model gets in training."""
        B = self.options["batch_size"] // num_ranks()
        x_t = torch.zeros(B, *self.notes["picture_size"], device=device)
        null_cond = self.options.get("null_cond")
        cond = [] if null_cond is None else [null_cond.to(device).repeat(B, 1)]
        return [x_t, torch.zeros(B, dtype=torch.long, device=device), *cond]


def preset_job(preset: str | None, settings: dict, saved: Checkpoint | None) -> Job:
    """A run by one of the course's own recipes.

    settings: what was asked for, by name; None where nothing was
    saved:    the run that goes on; settings must not contradict it (ValueError)
    """
    if saved and preset and preset != saved.notes.get("preset"):
        made_by = f"--preset {saved.notes['preset']}" if "preset" in saved.notes else "no preset"
        raise ValueError(f"--preset {preset} cannot go on with this checkpoint, which was made by {made_by}")
    name = preset or saved.notes["preset"]
    if name not in PRESETS:
        raise ValueError(f"this run was made by --preset {name}, which this version of the course does not have")
    recipe = PRESETS[name]
    of_the_machine = ("seed", "precision", "compile")
    decided = [name for name, value in settings.items() if value is not None and name not in of_the_machine]
    if decided:
        raise ValueError(f"a preset decides this itself: leave out {', '.join(map(_option, decided))}")
    notes = _agreed(settings, saved)
    pictures, captions = recipe.load()
    notes |= dict(preset=name, guidance_scale=recipe.guidance_scale)
    _same_data(notes, data_checksum=data_checksum(pictures, captions))
    notes |= dict(picture_size=list(pictures.shape[1:]))
    torch.manual_seed(notes["seed"])
    model = recipe.new_model(pictures, captions)
    options, num_iterations = recipe.train_options(model, captions), notes.get("num_iterations", recipe.num_iterations)
    return Job(model, recipe.new_schedule(), _as_bytes(pictures), options, num_iterations, notes, recipe)


def job_of(settings: dict, saved: Checkpoint | None) -> Job:
    """A run on a data set by name, or on pictures with captions in tar files. settings and saved: as preset_job's."""
    notes = _agreed(settings, saved)
    notes.setdefault("data", "digits")
    notes.setdefault("batch_size", 128)
    notes.setdefault("learning_rate", 3e-3)
    timesteps, channels = notes.pop("timesteps", 200), notes.pop("channels", None)
    picture_size, num_workers = notes.pop("picture_size", None), notes.get("num_workers", 0)
    options = dict(batch_size=notes["batch_size"], learning_rate=notes["learning_rate"])
    schedule = saved.schedule if saved else NoiseSchedule(cosine_betas(timesteps))
    num_iterations = notes.get("num_iterations", 850)
    torch.manual_seed(notes["seed"])
    if notes["data"].lower() not in DATA_SETS and _are_tar_files(notes["data"]):
        size = picture_size[1] if isinstance(picture_size, list) else picture_size or 32
        notes |= dict(picture_size=[3, size, size], processes=num_ranks(), num_workers=num_workers, guidance_scale=3.0)
        shards = _open_shards(notes)
        _same_data(notes, shards=hashlib.sha256("\n".join(Path(s).name for s in shards.shards).encode()).hexdigest())
        model = _captioned_model(shards, _widths(channels, size)) if saved is None else _same_again(saved.model)
        options |= dict(null_cond=model.null_cond)

        def data(start: int) -> Batches:
            for pictures, captions in shards.batches(start):
                yield pictures, model.tokenizer([_first_words(caption, model.tokenizer) for caption in captions])

        return Job(model, schedule, data, options, num_iterations, notes, skipped=shards.skipped)
    if notes["data"].lower() not in DATA_SETS:
        raise ValueError(
            f"there is no data set called {notes['data']!r}, and no folder: it can be "
            f"{', '.join(DATA_SETS.values())}, or tar files, such as 'shards/*.tar'"
        )
    if isinstance(picture_size, int) or num_workers:
        raise ValueError("--picture-size and --workers are for tar files; a data set has its size and is in memory")
    if saved and isinstance(saved.model, TextToImage):
        raise ValueError("this checkpoint reads captions and does not say of which data: go on with it in Python")
    pictures, _ = load_pictures(notes["data"])
    notes |= dict(picture_size=list(pictures.shape[1:]))
    new = dict(in_channels=pictures.shape[1], channels=_widths(channels, pictures.shape[2]))
    model = UNet(**(saved.model.config if saved else new))
    return Job(model, schedule, _as_bytes(pictures), options, num_iterations, notes)


def _open_shards(notes: dict) -> PictureTextShards:
    batch_size, processes = notes["batch_size"], notes["processes"]
    if batch_size % processes:
        raise ValueError(f"--batch-size must be a multiple of the {processes} processes; got {batch_size}")
    size, share = notes["picture_size"][1], batch_size // processes
    return PictureTextShards(
        notes["data"], size, share, notes["seed"], rank(), processes, num_workers=notes["num_workers"]
    )


def _are_tar_files(data: str) -> bool:
    return ".tar" in data or data.endswith(".tgz") or any(c in data for c in "*?[{") or Path(data).expanduser().is_dir()


def _same_data(notes: dict, **found: str) -> None:
    """Notes a checksum of the data. Raises ValueError where the run that goes on has another one."""
    for name, checksum in found.items():
        if notes.setdefault(name, checksum) != checksum:
            raise ValueError("the data are not those that this run was begun with, so it cannot go on: begin anew")


def _agreed(settings: dict, saved: Checkpoint | None) -> dict:
    """The settings that were given, or those of the run that goes on. Raises ValueError where the two contradict."""
    given = {name: value for name, value in settings.items() if value is not None}
    if "data" in given and given["data"].lower() in DATA_SETS:
        given["data"] = DATA_SETS[given["data"].lower()]
    if "channels" in given:
        given["channels"] = ",".join(map(str, _widths(given["channels"], 0)))
    if saved is None:
        return dict(seed=0) | given
    unet = saved.model.unet if isinstance(saved.model, TextToImage) else saved.model
    begun = saved.notes | dict(timesteps=len(saved.schedule), channels=",".join(map(str, unet.config["channels"])))
    if "picture_size" in given:
        given["picture_size"] = [3, given["picture_size"], given["picture_size"]]
    if "processes" in begun:
        if begun["processes"] != num_ranks():  # each of them reads its own share of the tar files
            raise ValueError(
                f"this run was begun with {begun['processes']} processes in all, and cannot go on with {num_ranks()}"
            )
        begun.pop("data")  # which may lie elsewhere by now: what tells them are the names of the files
    others = [name for name in given if name in begun and begun[name] != given[name]]
    if others:
        was, is_now = (", ".join(_as_typed(name, of[name]) for name in others) for of in (begun, given))
        raise ValueError(f"this run was begun with {was}, and cannot go on with {is_now}: leave it out, or begin anew")
    return dict(seed=0) | {name: value for name, value in saved.notes.items() if name != "iterations"} | given


def _option(name: str) -> str:
    return "--workers" if name == "num_workers" else f"--{name.replace('_', '-')}"


def _as_typed(name: str, value: object) -> str:
    return f"{_option(name)} {value[1] if name == 'picture_size' else value}"


def _captioned_model(shards: PictureTextShards, channels: tuple[int, ...]) -> TextToImage:
    words: set[str] = set()
    longest = 0
    for caption in shards.captions():  # which may be more than memory holds; their different words are not
        split = split_words(caption)
        words.update(split)
        longest = max(longest, len(split))
    if not words:
        raise DataUnavailable(
            f"{shards.pattern} has no captions, or is not a tar file: beside each picture, 01.jpg, there must be a "
            "01.txt"
        )
    tokenizer = Tokenizer(sorted(words), 1 + min(longest, WORDS_AT_MOST))
    unet = UNet(3, channels, context_dim=64, cross_attention_levels=(len(channels) - 1,))
    return TextToImage(unet, TextEncoder(len(tokenizer), tokenizer.max_length, 64), tokenizer)


def _first_words(caption: str, tokenizer: Tokenizer) -> str:
    """As much of a caption as the model reads."""
    return " ".join(split_words(caption)[: tokenizer.max_length - 1])


def _same_again(model: TextToImage) -> TextToImage:
    """A model of the same make, to be filled with the weights of the run."""
    text_encoder = TextEncoder(**model.text_encoder.config)
    return TextToImage(UNet(**model.unet.config), text_encoder, model.tokenizer)


def _as_bytes(pictures: Tensor) -> Tensor:
    """The pictures as uint8, a quarter of the memory, where that loses nothing."""
    as_bytes = ((pictures + 1) * 127.5).round().to(torch.uint8)
    return as_bytes if torch.equal(as_bytes.float() / 127.5 - 1, pictures) else pictures


def _widths(channels: str | None, picture_size: int) -> tuple[int, ...]:
    if channels is None:
        return (32, 32) if picture_size <= 8 else (32, 64, 64)
    try:
        return tuple(int(width) for width in channels.split(","))
    except ValueError:
        raise ValueError(f"channels must be whole numbers with commas, such as 32,64; got {channels!r}") from None
