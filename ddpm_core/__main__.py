"""The command line: python -m ddpm_core train | sample | doctor. The same functions as in the notebooks."""

import os
import platform
import time
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_core.checkpoint import CheckpointError, load_checkpoint, resume_training, save_checkpoint
from ddpm_core.data import DOWNLOADED_DATA_SETS, OFFLINE_DATA_SETS, DataUnavailable
from ddpm_core.distributed import RankLost, join_ranks, num_ranks, rank
from ddpm_core.jobs import job_of, preset_job
from ddpm_core.presets import PRESETS, Preset, shipped_checkpoint
from ddpm_core.runs import RunFiles, newest_checkpoint, only_training, stop_between_iterations
from ddpm_core.runtime import choose_profile, choose_speed
from ddpm_core.sampling import sample as sample_steps
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.text_to_image import TextToImage, collect_notices, generate
from ddpm_core.training import OutOfMemory, TrainingDiverged, TrainingState, learning_rate_at
from ddpm_core.training import train as train_steps

EXPECTED = (ValueError, TypeError, OSError, ImportError)
EXPECTED += (CheckpointError, DataUnavailable, TrainingDiverged, OutOfMemory, RankLost)
DATA_SETS = OFFLINE_DATA_SETS + DOWNLOADED_DATA_SETS
PRECISIONS = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


class OneSentence(click.Group):
    """Shows what a user can mend as one sentence rather than a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EXPECTED as error:
            if int(os.environ.get("RANK", 0)) > 0 and not isinstance(error, RankLost):
                raise SystemExit(1) from error  # the first process says it
            raise click.ClickException(str(error)) from error


@click.group(cls=OneSentence)
def main() -> None:
    """Train a diffusion model and sample from it, without a notebook."""


@main.command()
@click.argument("checkpoint", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Make one of the course's own checkpoints.")
@click.option("--data", help=f"{' | '.join(DATA_SETS)}, or tar files.  [default: digits]")
@click.option("--iterations", type=click.IntRange(1), help="[default: 850, or the preset's]")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 128]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="[default: 0.003]")
@click.option("--timesteps", type=click.IntRange(1), help="[default: 200]")
@click.option("--channels", help="Width of each level, such as 32,32.  [default: by picture size]")
@click.option("--picture-size", type=click.IntRange(1), help="Of pictures from tar files.  [default: 32]")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="[default: by device; float32 on a CPU]")
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help="Use torch.compile, which takes a minute first.")
@click.option("--save-every", default=500, show_default=True, type=click.IntRange(1), help="Iterations between saves.")
@click.option("--keep", default=1, show_default=True, type=click.IntRange(0), help="Older checkpoints to keep.")
@click.option("--tensorboard", is_flag=True, help="Write the history for TensorBoard, too.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--resume", is_flag=True, help="Go on from CHECKPOINT: its data, batch size, schedule and network.")
def train(checkpoint, preset, iterations, compile, save_every, keep, tensorboard, resume, **settings) -> None:
    """Train on a data set and write CHECKPOINT. Ctrl-C saves and ends; --resume goes on.

    With a preset, CHECKPOINT is runs/PRESET.safetensors unless given, and pictures appear beside it on the way. When
    all iterations are done the model alone, with its scores, goes into PRESET.safetensors.

    \b
    python -m ddpm_core train digits.safetensors
    python -m ddpm_core train mine.safetensors --data "shards/*.tar"     pictures with captions, as img2dataset writes
    torchrun --nproc-per-node 2 -m ddpm_core train digits.safetensors    two processes, each with half of every batch
    """
    if checkpoint is None:
        if preset is None:
            raise ValueError("say where the CHECKPOINT shall go, such as digits.safetensors, or which --preset to make")
        checkpoint = Path("runs") / f"{preset}.safetensors"
    if preset and checkpoint.resolve() == Path(f"{preset}.safetensors").resolve():
        raise ValueError(f"{checkpoint} is where the finished model goes: give the run another name, or none")
    # torchrun has started all processes again, because one of them had died.
    resume = resume or (int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0 and checkpoint.exists())
    if checkpoint.exists() and not resume:
        raise ValueError(f"{checkpoint} exists already: say --resume to go on with it, or give another name")
    _make_folder(checkpoint)
    with join_ranks(choose_profile().device) as device:
        alone = only_training(checkpoint) if rank() == 0 else nullcontext()
        with alone:
            _train(checkpoint, preset, iterations, compile, save_every, keep, tensorboard, resume, settings, device)


def _train(checkpoint, preset, iterations, compile, save_every, keep, tensorboard, resume, settings, device) -> None:
    saved, notice = newest_checkpoint(checkpoint) if resume else (None, None)
    _say(notice)
    by_preset = preset or (saved and "preset" in saved.notes)
    job = preset_job(preset, settings, saved) if by_preset else job_of(settings, saved)
    notes, num_iterations = job.notes, iterations or job.num_iterations
    notes["num_iterations"] = num_iterations
    precision = settings["precision"] or notes.get("precision")
    speed = choose_speed(device, compile)
    speed = replace(speed, precision=PRECISIONS[precision]) if precision else speed
    notes["precision"] = str(speed.precision).removeprefix("torch.")
    model = job.model.to(device)
    _say(speed.set_up(model, *job.example(device)))
    state = TrainingState(model, notes["seed"], speed.precision)
    if saved:
        resume_training(state, saved)
    seconds_before, began_at, began = notes.get("seconds", 0.0), state.iteration, time.perf_counter()

    def notes_now() -> dict:
        seconds = dict(seconds=round(seconds_before + time.perf_counter() - began, 1)) if job.recipe else {}
        return notes | dict(iterations=state.iteration) | seconds

    def learning_rate(iteration: int) -> float:
        warmup_iterations = job.options.get("warmup_iterations", 100)
        return learning_rate_at(iteration, num_iterations, job.options["learning_rate"], warmup_iterations)

    files = RunFiles(checkpoint, learning_rate, keep, tensorboard) if rank() == 0 else None

    def save() -> None:
        if files is None:
            return
        files.save(state, job.schedule, notes_now())
        if job.recipe:
            _draw_prompts(state.ema_model, job.schedule, job.recipe, notes["picture_size"], checkpoint)

    run = train_steps(state, job.schedule, job.data, num_iterations, **job.options)
    try:
        with (
            stop_between_iterations() as stop,
            tqdm(run, total=num_iterations, initial=began_at, unit="it", ncols=90, disable=rank() > 0) as bar,
        ):
            for _ in bar:
                if state.iteration % save_every == 0:
                    bar.set_postfix(loss=f"{sum(state.losses[-50:]) / len(state.losses[-50:]):.4f}", refresh=False)
                    try:
                        save()
                    except OSError as error:  # the disk is full, say: what is learnt need not be lost for that
                        _say(f"{error}. Training goes on; make room before the next save.")
                if stop.asked:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        _say(f"Stopped at iteration {state.iteration}.")
    except Exception as error:
        # What was learnt is kept; a run that failed at once leaves no file behind. Where another process has died, this
        # one is in the middle of an iteration, and the last checkpoint is the better place to go on from.
        in_step = num_ranks() == 1 or isinstance(error, TrainingDiverged)
        if state.iteration > began_at and in_step:
            save()
        raise
    save()
    if rank() > 0:
        return
    click.echo(f"{checkpoint} holds iteration {state.iteration}. Look: python -m ddpm_core sample {checkpoint}")
    if job.skipped:
        click.echo(f"Left out of the data: {', '.join(f'{count} x {reason}' for reason, count in job.skipped.items())}")
    if state.iteration < num_iterations:
        click.echo("Go on: the same command with --resume.")
    elif job.recipe:
        _publish(Path(f"{notes['preset']}.safetensors"), state, job.schedule, notes_now(), job.recipe)


def _say(sentence: str | None) -> None:
    if sentence and rank() == 0:
        click.echo(sentence)


def _draw_prompts(model: nn.Module, schedule: NoiseSchedule, recipe: Preset, size: list[int], run: Path) -> None:
    """A look at what a preset's model has learnt so far."""
    prompts = [prompt for prompt in recipe.prompts for _ in range(8 // min(8, len(recipe.prompts)))]
    *_, drawn = generate(model, schedule, prompts, tuple(size), recipe.guidance_scale)
    _write_pictures(drawn, run.with_suffix(".png"))


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
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="float32", show_default=True)
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help="Use torch.compile, which takes a minute first.")
@click.option("--seed", default=0, show_default=True)
def sample(arguments, model, out, count, guidance_scale, negative, num_steps, precision, compile, seed) -> None:
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
    speed = replace(choose_speed(device, compile), precision=PRECISIONS[precision])
    size = loaded.notes.get("picture_size")
    if size is None:
        raise CheckpointError(f"{path} does not say how large its pictures are (picture_size in its notes)")
    if isinstance(loaded.model, TextToImage):
        prompts = [prompt for prompt in prompts for _ in range(count or 1)] or [""] * (count or 16)
        scale = loaded.notes.get("guidance_scale", 3.0) if guidance_scale is None else guidance_scale
        B = len(prompts) * (1 if scale in (0, 1) else 2)  # guidance asks twice
        x_t, t = torch.zeros(B, *size, device=device), torch.zeros(B, dtype=torch.long, device=device)
        _say(speed.set_up(loaded.model, x_t, t, loaded.model.null_cond.expand(B, -1)))
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
        _say(speed.set_up(loaded.model, x_T, torch.zeros(len(x_T), dtype=torch.long, device=device)))
        steps = sample_steps(loaded.model, loaded.schedule, x_T, num_steps, generator=generator)
        num_steps = num_steps or len(loaded.schedule)
    with speed.autocast(device):
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


if __name__ == "__main__":
    main(prog_name="python -m ddpm_core")
