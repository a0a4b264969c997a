"""What a training run is made of, from the settings that were asked for or from the run that goes on.

Settings are a dict by name, without those that nobody gave. They are kept in the checkpoint's notes.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path

import torch
from torch import Tensor

from ddpm_core.checkpoint import Checkpoint, model_checksum, shipped_model
from ddpm_core.data import DATA_SETS, DataUnavailable, PictureTextShards, load_captioned_folder, load_pictures
from ddpm_core.data.shard_files import are_shards
from ddpm_core.scale.ranks import num_ranks, rank, share_of
from ddpm_core.scale.recipes import PRESETS, Preset, data_checksum, one_each
from ddpm_core.schedule import NoiseSchedule, cosine_betas
from ddpm_core.support.pixels import from_bytes, to_bytes
from ddpm_core.systems.imagen import super_resolver_of
from ddpm_core.systems.stable_diffusion import Autoencoder, encoded
from ddpm_core.text import TextEncoder, Tokenizer, split_words
from ddpm_core.text_to_image import TextToImage, generate
from ddpm_core.training import Batches, train
from ddpm_core.unet import UNet

OF_TRAIN = signature(train).parameters
DEFAULTS = dict(
    data="digits",
    num_iterations=850,
    batch_size=OF_TRAIN["batch_size"].default,
    learning_rate=OF_TRAIN["learning_rate"].default,
    num_timesteps=200,
    min_snr_gamma=1.0,  # where there are captions: what a picture shows is decided where noise is strong
    picture_size=32,
    num_workers=0,
    guidance_scale=signature(generate).parameters["guidance_scale"].default,
    seed=0,
)
OF_THE_MACHINE = ("seed", "precision", "compile")  # what a preset leaves open
WORDS_AT_MOST = 63  # of a caption; some on the web have thousands


@dataclass
class Job:
    """What a run is made of."""

    model: UNet | TextToImage | None  # None: not built yet
    schedule: NoiseSchedule
    options: dict  # of train
    num_iterations: int
    notes: dict  # kept in the checkpoint: a run is resumed with these settings
    data: Tensor | Callable[[int], Batches] | None = None  # as train takes it; a function brings this process's share
    recipe: Preset | None = None
    second: dict = field(default_factory=dict)  # autoencoder or super_resolver, as draw_all takes them
    skipped: Counter = field(default_factory=Counter)  # samples of the data that were no use
    report: str = ""  # what was found in a folder of pictures


def job_of(settings: dict, preset: str | None, saved: Checkpoint | None) -> Job:
    """The run that was asked for: by a recipe, on a data set by name, or on pictures with captions.

    saved: the run that goes on, with the network in it; settings must not contradict it (ValueError)
    """
    if saved and not isinstance(saved.model, UNet | TextToImage):
        made_by = f", which is made by {saved.notes['command']}" if "command" in saved.notes else ""
        raise ValueError(
            "this command trains what draws pictures; the checkpoint holds the network "
            f"{type(saved.model).__name__}{made_by}"
        )
    if preset or (saved and "preset" in saved.notes):
        return _by_recipe(settings, preset, saved)
    defaults = {name: DEFAULTS[name] for name in ("data", "batch_size", "learning_rate")}
    notes = defaults | _agreed(settings, saved)
    is_named = notes["data"] in DATA_SETS.values()
    if not is_named and saved is None:
        notes.setdefault("min_snr_gamma", DEFAULTS["min_snr_gamma"])
    betas = saved.schedule.betas if saved else cosine_betas(settings.get("num_timesteps", DEFAULTS["num_timesteps"]))
    job = Job(
        model=saved and saved.model,
        schedule=NoiseSchedule(betas),
        options=dict(
            batch_size=notes["batch_size"],
            learning_rate=notes["learning_rate"],
            warmup_iterations=OF_TRAIN["warmup_iterations"].default,
            min_snr_gamma=notes.get("min_snr_gamma"),
        ),
        num_iterations=notes.get("num_iterations", DEFAULTS["num_iterations"]),
        notes=notes,
    )
    if is_named and "picture_size" in settings:
        raise ValueError("--picture_size is for pictures with captions; a data set has its own size")
    is_tar = not is_named and are_shards(notes["data"])
    if settings.get("num_workers") and not is_tar:
        raise ValueError("--num_workers is for tar files; other data are in memory")
    if is_named:
        _use_pictures(job, settings.get("channels"))
    elif is_tar:
        _use_tar_files(job, settings.get("channels"))
    elif os.path.isdir(os.path.expanduser(notes["data"])):
        _use_folder(job, settings.get("channels"))
    else:
        raise ValueError(
            f"there is no data set called {notes['data']!r}, and no folder: it can be {', '.join(DATA_SETS.values())}, "
            "a folder of pictures with captions, or tar files, such as 'shards/*.tar'"
        )
    return job


def _by_recipe(settings: dict, preset: str | None, saved: Checkpoint | None) -> Job:
    if saved and preset and preset != saved.notes.get("preset"):
        made_by = f"--preset {saved.notes['preset']}" if "preset" in saved.notes else "no preset"
        raise ValueError(f"--preset {preset} cannot go on with this checkpoint, which was made by {made_by}")
    name = preset or saved.notes["preset"]
    if name not in PRESETS:
        raise ValueError(f"this run was made by --preset {name}, which this version of the course does not have")
    if decided := [f"--{name}" for name in settings if name not in OF_THE_MACHINE]:
        raise ValueError(f"a preset decides this itself: leave out {', '.join(decided)}")
    recipe, notes = PRESETS[name], _agreed(settings, saved)
    pictures, captions = recipe.load()
    _check_same_data(notes, "data_checksum", data_checksum(pictures, captions))
    notes |= dict(preset=name, guidance_scale=recipe.guidance_scale, picture_size=list(pictures.shape[1:]))
    data, second = _as_bytes(pictures), {}
    if recipe.autoencoder:
        autoencoder = shipped_model(recipe.autoencoder, Autoencoder)
        checksum = model_checksum(autoencoder)
        if notes.setdefault("autoencoder", checksum) != checksum:
            raise ValueError(
                "this run was begun in the latents of another autoencoder, so it cannot go on: get that one back, as "
                f"with git checkout -- data/{recipe.autoencoder}.safetensors, or begin anew"
            )
        data, second = encoded(autoencoder, pictures), dict(autoencoder=autoencoder)
    torch.manual_seed(notes["seed"])
    if saved and not recipe.made(saved.model):
        raise ValueError(f"this checkpoint holds another network than --preset {name} makes now: begin anew")
    model = saved.model if saved else recipe.new_model(data.shape[1], captions)
    if recipe.super_resolver:
        notes["super_resolver"] = recipe.super_resolver
        second = dict(super_resolver=super_resolver_of(Checkpoint(model, recipe.schedule, notes)))
    return Job(
        model=model,
        schedule=recipe.schedule,
        options=recipe.train_options(model, captions),
        num_iterations=notes.get("num_iterations", recipe.num_iterations),
        notes=notes,
        data=one_each(data, captions),
        recipe=recipe,
        second=second,
    )


def _use_pictures(job: Job, channels: str | None) -> None:
    if isinstance(job.model, TextToImage):
        raise ValueError("this checkpoint reads captions and does not say of which data: go on with it in Python")
    pictures, _ = load_pictures(job.notes["data"])
    job.data, job.notes["picture_size"] = _as_bytes(pictures), list(pictures.shape[1:])
    torch.manual_seed(job.notes["seed"])
    job.model = job.model or UNet(pictures.shape[1], _widths(channels, pictures.shape[2]))


def _use_folder(job: Job, channels: str | None) -> None:
    size = _noted_size(job.notes)
    data = load_captioned_folder(job.notes["data"], size, progress=rank() == 0)
    _check_same_data(job.notes, "data_checksum", data_checksum(data.pictures, data.captions))
    torch.manual_seed(job.notes["seed"])
    job.model = job.model or captioned_model(data.captions, _widths(channels, size), size, job.notes["data"])
    tokens = _tokens_of(data.captions, job.model.tokenizer)
    job.options |= dict(cond=tokens, null_cond=job.model.null_cond)
    job.data, job.report = to_bytes(data.pictures), f"{job.notes['data']}: {data}."


def _use_tar_files(job: Job, channels: str | None) -> None:
    size, workers = _noted_size(job.notes), job.notes.get("num_workers", DEFAULTS["num_workers"])
    job.notes |= dict(processes=num_ranks(), num_workers=workers)
    share, seed = share_of(job.notes["batch_size"]), job.notes["seed"]
    shards = PictureTextShards(job.notes["data"], size, share, seed, rank(), num_ranks(), num_workers=workers)
    names = "\n".join(Path(shard).name for shard in shards.shards)
    _check_same_data(job.notes, "shards", hashlib.sha256(names.encode()).hexdigest())
    torch.manual_seed(seed)
    job.model = job.model or captioned_model(shards.captions(), _widths(channels, size), size, job.notes["data"])
    job.options["null_cond"], job.skipped = job.model.null_cond, shards.skipped

    def data(start: int) -> Batches:
        for pictures, captions in shards.batches(start):
            yield pictures, _tokens_of(captions, job.model.tokenizer)

    job.data = data


def _noted_size(notes: dict) -> int:
    """The side of pictures with captions, noted with the guidance that they are drawn with."""
    size = notes.get("picture_size", [3, DEFAULTS["picture_size"]])[1]
    notes |= dict(picture_size=[3, size, size], guidance_scale=DEFAULTS["guidance_scale"])
    return size


def _tokens_of(captions: Sequence[str], tokenizer: Tokenizer) -> Tensor:
    """As much of each caption as the model reads."""
    return tokenizer([" ".join(split_words(caption)[: tokenizer.max_length - 1]) for caption in captions])


def _agreed(settings: dict, saved: Checkpoint | None) -> dict:
    """The settings that were given over those of the run that goes on. Raises ValueError where the two contradict."""
    given = dict(settings)
    if "data" in given:
        given["data"] = DATA_SETS.get(given["data"].lower(), given["data"])
    if "channels" in given:
        given["channels"] = ",".join(map(str, _widths(given["channels"])))
    if "picture_size" in given:
        given["picture_size"] = [3, given["picture_size"], given["picture_size"]]
    notes = dict(seed=DEFAULTS["seed"])
    if saved:
        _check_agreement(given, saved)
        notes |= {name: value for name, value in saved.notes.items() if name != "iterations"}
    return notes | {name: value for name, value in given.items() if name not in ("num_timesteps", "channels")}


def _check_agreement(given: dict, saved: Checkpoint) -> None:
    unet = saved.model.unet if isinstance(saved.model, TextToImage) else saved.model
    channels = ",".join(map(str, unet.config["channels"]))
    begun = saved.notes | dict(num_timesteps=len(saved.schedule), channels=channels)
    if "processes" in begun:
        if begun["processes"] != num_ranks():  # each of them reads its own share of the tar files
            raise ValueError(
                f"this run was begun with {begun['processes']} processes in all, and cannot go on with {num_ranks()}"
            )
        begun.pop("data")  # which may lie elsewhere by now: what tells them are the names of the files
    if others := [name for name in given if name in begun and begun[name] != given[name]]:
        was, is_now = (", ".join(_as_typed(name, of[name]) for name in others) for of in (begun, given))
        raise ValueError(f"this run was begun with {was}, and cannot go on with {is_now}: leave it out, or begin anew")


def _as_typed(name: str, value: object) -> str:
    return f"--{name} {value[1] if name == 'picture_size' else value}"


def _check_same_data(notes: dict, name: str, checksum: str) -> None:
    """Notes a checksum of the data. Raises ValueError where the run that goes on has another one."""
    if notes.setdefault(name, checksum) != checksum:
        raise ValueError("the data are not those that this run was begun with, so it cannot go on: begin anew")


def captioned_model(captions: Iterable[str], channels: tuple[int, ...], picture_size: int, source: str) -> TextToImage:
    """A network for colour pictures with these captions. Raises DataUnavailable where no caption has a word."""
    words: set[str] = set()
    longest = 0
    for caption in captions:  # which may be more than memory holds; their different words are not
        split = split_words(caption)
        words.update(split)
        longest = max(longest, len(split))
    if not words:
        raise DataUnavailable(
            f"{source} has no captions, or is not a tar file: beside each picture, 01.jpg, there must be a 01.txt"
        )
    tokenizer = Tokenizer(sorted(words), 1 + min(longest, WORDS_AT_MOST))
    levels = len(channels)
    # Squares of 2x2 pixels are nearly four times as fast, for pictures that can be halved once more.
    patch_size = 2 if picture_size >= 32 and picture_size % 2**levels == 0 else 1
    plan = dict(context_dim=64, cross_attention_levels=(levels - 1,), patch_size=patch_size, predicts="x_0")
    unet = UNet(3, channels, **plan)
    return TextToImage(unet, TextEncoder(len(tokenizer), tokenizer.max_length, 64), tokenizer)


def _as_bytes(pictures: Tensor) -> Tensor:
    """The pictures as uint8, a quarter of the memory, where that loses nothing."""
    pixels = to_bytes(pictures)
    return pixels if pixels is pictures or torch.equal(from_bytes(pixels), pictures) else pictures


def _widths(channels: str | None, picture_size: int = 0) -> tuple[int, ...]:
    if channels is None:
        return (32, 32) if picture_size <= 8 else (32, 64, 64)
    try:
        return tuple(int(width) for width in channels.split(","))
    except ValueError:
        raise ValueError(f"channels must be whole numbers with commas, such as 32,64; got {channels!r}") from None
