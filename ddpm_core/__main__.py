"""The command line: python -m ddpm_core train | sample | doctor. The same functions as in the notebooks."""

import os
import platform
import time
from itertools import chain
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_core.checkpoint import CheckpointError, load_checkpoint, resume_training, save_checkpoint
from ddpm_core.data import DOWNLOADED_DATA_SETS, OFFLINE_DATA_SETS, DataUnavailable, load_pictures
from ddpm_core.presets import PRESETS, Preset, data_checksum, shipped_checkpoint
from ddpm_core.runtime import choose_profile
from ddpm_core.sampling import sample as sample_steps
from ddpm_core.schedule import NoiseSchedule, cosine_betas
from ddpm_core.text_to_image import TextToImage, collect_notices, generate
from ddpm_core.training import TrainingDiverged, TrainingState
from ddpm_core.training import train as train_steps
from ddpm_core.unet import UNet

EXPECTED = (ValueError, TypeError, OSError, CheckpointError, DataUnavailable, TrainingDiverged)


class OneSentence(click.Group):
    """Shows what a user can mend as one sentence rather than a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EXPECTED as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=OneSentence)
def main() -> None:
    """Train a diffusion model and sample from it, without a notebook."""


@main.command()
@click.argument("checkpoint", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Make one of the course's own checkpoints.")
@click.option("--data", help=f"{' | '.join(OFFLINE_DATA_SETS + DOWNLOADED_DATA_SETS)}  [default: digits]")
@click.option("--iterations", type=click.IntRange(1), help="[default: 850, or the preset's]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 128]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="[default: 0.003]")
@click.option("--timesteps", type=click.IntRange(1), help="[default: 200]")
@click.option("--channels", help="Width of each level, such as 32,32.  [default: by picture size]")
@click.option("--save-every", default=500, show_default=True, type=click.IntRange(1), help="Iterations between saves.")
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from CHECKPOINT: its data, batch size, schedule and network.")
def train(
    checkpoint, preset, data, iterations, batch_size, learning_rate, timesteps, channels, save_every, seed, resume
) -> None:
    """Train on a data set and write CHECKPOINT. Ctrl-C saves and ends; --resume goes on.

    With a preset, CHECKPOINT is runs/PRESET.safetensors unless given, and pictures appear beside it on the way. When
    all iterations are done the model alone, with its scores, goes into PRESET.safetensors.
    """
    if checkpoint is None:
        if preset is None:
            raise ValueError("say where the CHECKPOINT shall go, such as digits.safetensors, or which --preset to make")
        checkpoint = Path("runs") / f"{preset}.safetensors"
    if preset and checkpoint.resolve() == Path(f"{preset}.safetensors").resolve():
        raise ValueError(f"{checkpoint} is where the finished model goes: give the run another name, or none")
    if checkpoint.exists() and not resume:
        raise ValueError(f"{checkpoint} exists already: say --resume to go on with it, or give another name")
    _make_folder(checkpoint)
    device = choose_profile().device
    saved = load_checkpoint(checkpoint) if resume else None
    notes = saved.notes if saved else dict(seed=seed)
    recipe = _recipe(preset, notes.get("preset"), saved is not None)
    if recipe:
        given = {"--data": data, "--batch-size": batch_size, "--learning-rate": learning_rate}
        given |= {"--timesteps": timesteps, "--channels": channels}
        if any(given.values()):
            names = ", ".join(name for name, value in given.items() if value)
            raise ValueError(f"a preset decides this itself: leave out {names}")
        pictures, captions = recipe.load()
        torch.manual_seed(seed)
        model, schedule = recipe.new_model(pictures, captions), recipe.new_schedule()
        options = recipe.train_options(model, captions)
        iterations = iterations or recipe.num_iterations
        notes |= dict(preset=preset or notes["preset"], guidance_scale=recipe.guidance_scale)
        notes |= dict(data_checksum=data_checksum(pictures, captions))
    else:
        data = data or notes.get("data", "digits")
        batch_size = batch_size or notes.get("batch_size", 128)
        options = dict(batch_size=batch_size, learning_rate=learning_rate or 3e-3)
        iterations = iterations or 850
        pictures, _ = load_pictures(data)
        torch.manual_seed(seed)
        if saved:
            config, schedule = saved.model.config, saved.schedule
        else:
            config = dict(in_channels=pictures.shape[1], channels=_widths(channels, pictures.shape[2]))
            schedule = NoiseSchedule(cosine_betas(timesteps or 200))
        model = UNet(**config)
        notes |= dict(data=data, batch_size=batch_size)
    state = TrainingState(model.to(device), seed)
    if saved:
        resume_training(state, saved)
    notes |= dict(picture_size=list(pictures.shape[1:]))
    seconds_before, began_at, began = notes.get("seconds", 0.0), state.iteration, time.perf_counter()

    def notes_now() -> dict:
        seconds = dict(seconds=round(seconds_before + time.perf_counter() - began, 1)) if recipe else {}
        return notes | dict(iterations=state.iteration) | seconds

    def save() -> None:
        save_checkpoint(checkpoint, state, schedule, notes_now(), with_training=True)
        if recipe:
            _draw_prompts(state.ema_model, schedule, recipe, pictures, checkpoint.with_suffix(".png"))

    run = train_steps(state, schedule, pictures, iterations, **options)
    try:
        with tqdm(run, total=iterations, initial=state.iteration, unit="it", ncols=90) as bar:
            for _ in bar:
                bar.set_postfix(loss=f"{sum(state.losses[-50:]) / len(state.losses[-50:]):.4f}", refresh=False)
                if state.iteration % save_every == 0:
                    save()
    except KeyboardInterrupt:
        click.echo(f"Stopped at iteration {state.iteration}.")
    except Exception:
        if state.iteration > began_at:  # what was learnt is kept; a run that failed at once leaves no file behind
            save()
        raise
    save()
    click.echo(f"{checkpoint} holds iteration {state.iteration}. Look: python -m ddpm_core sample {checkpoint}")
    if state.iteration < iterations:
        click.echo("Go on: the same command with --resume.")
    elif recipe:
        _publish(Path(f"{notes['preset']}.safetensors"), state, schedule, notes_now(), recipe)


def _recipe(preset: str | None, saved_preset: str | None, resumed: bool) -> Preset | None:
    if resumed and preset and preset != saved_preset:
        made_by = f"--preset {saved_preset}" if saved_preset else "no preset"
        raise ValueError(f"--preset {preset} cannot go on with this checkpoint, which was made by {made_by}")
    name = preset or saved_preset
    return PRESETS[name] if name else None


def _draw_prompts(model: nn.Module, schedule: NoiseSchedule, recipe: Preset, pictures: Tensor, out: Path) -> None:
    """A look at what a preset's model has learnt so far."""
    prompts = [prompt for prompt in recipe.prompts for _ in range(8 // min(8, len(recipe.prompts)))]
    *_, drawn = generate(model, schedule, prompts, tuple(pictures.shape[1:]), recipe.guidance_scale)
    _write_pictures(drawn, out)


def _publish(path: Path, state: TrainingState, schedule: NoiseSchedule, notes: dict, recipe: Preset) -> None:
    """Writes the model alone, with its scores and how it was made."""
    click.echo("Scoring the model, which takes some minutes ...")
    scores = recipe.score(state.ema_model, schedule, recipe.guidance_scale)
    device = next(state.model.parameters()).device
    threads = torch.get_num_threads()
    on_cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    command = f"python -m ddpm_core train --preset {notes['preset']}"
    if state.iteration != recipe.num_iterations:
        command += f" --iterations {state.iteration}"
    if notes["seed"] != 0:
        command += f" --seed {notes['seed']}"
    notes |= dict(
        command=command,
        machine=f"{machine}, {platform.machine()}, torch {torch.__version__}",
        scores=scores,
    )
    save_checkpoint(path, state, schedule, notes)
    for name, share in scores.items():
        click.echo(f"  {name}: {share:.1%}")
    click.echo(f"{path} holds the finished model.")


@main.command()
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [PROMPTS]...")
@click.option("--model", type=click.Choice(list(PRESETS)), help="A checkpoint of the course.  [default: emoji]")
@click.option("--out", default="samples.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(1), help="Pictures, of each prompt.  [default: 16; with prompts 1]")
@click.option("--guidance-scale", type=float, help="How much the prompt counts.  [default: the checkpoint's, or 3]")
@click.option("--negative", default="", help="A prompt that the pictures shall keep away from.")
@click.option("--num-steps", type=int, help="Steps of sampling.  [default: the schedule's length; with prompts 50]")
@click.option("--seed", default=0, show_default=True)
def sample(arguments, model, out, count, guidance_scale, negative, num_steps, seed) -> None:
    """Draw pictures into one PNG file, from a CHECKPOINT (a name that ends in .safetensors) or a model of the course.

    \b
    python -m ddpm_core sample "red apple" "苹果" --out pictures.png
    python -m ddpm_core sample --model digit-scenes "a red three left of a blue seven"
    python -m ddpm_core sample digits.safetensors
    """
    import PIL.Image

    given = Path(arguments[0]) if arguments and arguments[0].endswith(".safetensors") else None
    prompts = list(arguments[1:] if given else arguments)
    if prompts and os.sep in prompts[0] and Path(prompts[0]).exists():
        raise ValueError(f"{prompts[0]} is no checkpoint: their names end in .safetensors")
    if given and model:
        raise ValueError(f"say either a checkpoint ({given}) or --model {model}, not both")
    if out.suffix.lower() not in PIL.Image.registered_extensions():
        raise ValueError(f"--out must end as picture files do, such as in .png; got {out}")
    _make_folder(out)
    device = choose_profile().device
    path = given or shipped_checkpoint(model or "emoji")
    loaded = load_checkpoint(path, device)
    size = loaded.notes.get("picture_size")
    if size is None:
        raise CheckpointError(f"{path} does not say how large its pictures are (picture_size in its notes)")
    if isinstance(loaded.model, TextToImage):
        prompts = [prompt for prompt in prompts for _ in range(count or 1)] or [""] * (count or 16)
        scale = loaded.notes.get("guidance_scale", 3.0) if guidance_scale is None else guidance_scale
        with collect_notices() as notices:
            steps = generate(loaded.model, loaded.schedule, prompts, tuple(size), scale, negative, num_steps, seed)
        for notice in notices:
            click.echo(f"Note: {notice}", err=True)
        num_steps = num_steps or min(50, len(loaded.schedule))
    else:
        if prompts or negative or guidance_scale is not None:
            raise ValueError(f"{path} reads no text: it was trained without captions, so leave prompts out")
        generator = torch.Generator(device).manual_seed(seed)
        x_T = torch.randn(count or 16, *size, generator=generator, device=device)
        steps = sample_steps(loaded.model, loaded.schedule, x_T, num_steps, generator=generator)
        num_steps = num_steps or len(loaded.schedule)
    for x_t in tqdm(steps, total=num_steps, unit="step", ncols=90):  # noqa: B007
        pass
    _write_pictures(x_t, out)
    click.echo(f"{len(x_t)} pictures in {out}")


def _write_pictures(pictures: Tensor, out: Path) -> None:
    import PIL.Image

    from ddpm_core.display import tile  # here, because it brings matplotlib

    PIL.Image.fromarray(tile(pictures, width=1000)).save(out)


@main.command()
@click.option("--room", is_flag=True, help="Before a class: try everything once, and end with a line for the teacher.")
def doctor(room) -> None:
    """Say what this machine can do, how long the notebooks will take, and what to fix."""
    from ddpm_core.doctor import examine, line_for_the_teacher, rehearse

    findings = []
    for finding in chain(examine(), rehearse() if room else ()):
        findings.append(finding)
        click.echo(f"{finding.subject:32} {finding.found}")
        if finding.fix:
            click.secho(f"{'':32} -> {finding.fix}", fg="red")
    fixes = sum(bool(finding.fix) for finding in findings)
    click.echo("\nAll is well." if not fixes else f"\n{fixes} to fix, marked -> above.")
    if room:
        click.echo(f"Send this line to your teacher:\n\n{line_for_the_teacher(findings)}")
    if fixes:
        raise SystemExit(1)


def _make_folder(file: Path) -> None:
    """Makes the folder that a file will be written to, so that a wrong address shows before the work, not after it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {file.parent} is not a folder ({error.strerror})") from None
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"{file} cannot be written: the folder {file.parent.resolve()} is read-only")


def _widths(channels: str | None, picture_size: int) -> tuple[int, ...]:
    if channels is None:
        return (32, 32) if picture_size <= 8 else (32, 64, 64)
    try:
        return tuple(int(width) for width in channels.split(","))
    except ValueError:
        raise ValueError(f"channels must be whole numbers with commas, such as 32,64; got {channels!r}") from None


if __name__ == "__main__":
    main(prog_name="python -m ddpm_core")
