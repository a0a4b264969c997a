"""The command line: python -m ddpm_core train | sample | doctor. The same functions as in the notebooks."""

import math
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

from ddpm_core.checkpoint import CheckpointError, load_checkpoint, resume_training, save_checkpoint, shipped_checkpoint
from ddpm_core.course.profile import choose_profile
from ddpm_core.data import DATA_SETS, DataUnavailable
from ddpm_core.sampling import sample as sample_steps
from ddpm_core.scale.ranks import RankLost, any_rank, gather_rows, join_ranks, num_ranks, rank
from ddpm_core.scale.recipes import PRESETS, Preset
from ddpm_core.scale.run_files import RunFiles, newest_checkpoint, only_training, stop_between_iterations
from ddpm_core.scale.settings import job_of, preset_job
from ddpm_core.scale.speed import Speed, choose_speed
from ddpm_core.schedule import NoiseSchedule
from ddpm_core.text_to_image import TextToImage, collect_notices, generate
from ddpm_core.training import OutOfMemory, TrainingDiverged, TrainingState, is_lack_of_memory, learning_rate_at
from ddpm_core.training import train as train_steps

EXPECTED = (ValueError, TypeError, OSError, ImportError)
EXPECTED += (CheckpointError, DataUnavailable, TrainingDiverged, OutOfMemory, RankLost)
DATA_HELP = (
    f"{' | '.join(DATA_SETS.values())}, or tar files: a folder of them, or a pattern in quotes, such as 'shards/*.tar'."
    "  [default: digits]"
)
PRECISION_HELP = "What the network computes in.  [default: half on a GPU, bfloat16 where it can; float32 on a CPU]"
COMPILE_HELP = "torch.compile, which takes a minute first: join small operations, or replay whole calls (on a GPU)."
PRECISIONS = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


class OneSentence(click.Group):
    """Shows what a user can mend as one sentence rather than a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EXPECTED as error:
            number = int(os.environ.get("RANK", 0))
            # Wrong settings are named by the first process of this machine, too.
            if isinstance(error, ValueError) and int(os.environ.get("LOCAL_RANK", 0)) > 0:
                raise SystemExit(1) from error
            raise click.ClickException(f"process {number}: {error}" if number > 0 else str(error)) from error
        except RuntimeError as error:
            if not is_lack_of_memory(error):
                raise
            raise click.ClickException(
                "there is not enough memory for this: ask for fewer or smaller pictures (--batch-size, --count, "
                "--picture-size), or for fewer --channels or --timesteps"
            ) from error


@click.group(cls=OneSentence)
def main() -> None:
    """Train a diffusion model and sample from it, without a notebook."""


@main.command()
@click.argument("checkpoint", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.argument("too_many", nargs=-1, metavar="")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Make one of the course's own checkpoints.")
@click.option("--data", help=DATA_HELP)
@click.option("--iterations", type=click.IntRange(1), help="Of the whole run.  [default: 850, or the preset's]")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures an iteration, of all processes.  [default: 128]")
@click.option("--learning-rate", type=float, help="The peak, after a warm-up.  [default: 0.003]")
@click.option("--timesteps", type=click.IntRange(1, 1_000_000), help="Of the noise schedule.  [default: 200]")
@click.option("--channels", help="Width of each level, such as 32,32.  [default: by picture size]")
@click.option("--picture-size", type=click.IntRange(1), help="Of pictures from tar files.  [default: 32]")
@click.option("--workers", "num_workers", type=click.IntRange(0), help="Processes that read tar files.  [default: 0]")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help=PRECISION_HELP)
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help=COMPILE_HELP)
@click.option("--save-every", default=500, show_default=True, type=click.IntRange(1), help="Iterations between saves.")
@click.option("--keep", default=1, show_default=True, type=click.IntRange(0), help="Older checkpoints to keep.")
@click.option("--tensorboard", is_flag=True, help="Write the history for TensorBoard, too.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of all that is random.  [default: 0]")
@click.option("--resume", is_flag=True, help="Go on from CHECKPOINT: its data, batch size, schedule and network.")
def train(checkpoint, too_many, preset, iterations, save_every, keep, tensorboard, resume, **settings) -> None:
    """Train on a data set and write CHECKPOINT. Ctrl-C saves and ends; --resume goes on.

    With a preset, CHECKPOINT is runs/PRESET.safetensors unless given, and pictures appear beside it on the way. When
    all iterations are done the model alone, with its scores, goes into PRESET.safetensors.

    \b
    python -m ddpm_core train digits.safetensors
    python -m ddpm_core train mine.safetensors --data "shards/*.tar"     pictures with captions, as img2dataset writes
    torchrun --nproc-per-node 2 -m ddpm_core train digits.safetensors    two processes, each with half of every batch
    """
    if too_many:
        in_quotes = " A pattern of tar files stands in quotes: --data 'shards/*.tar'." if ".tar" in too_many[0] else ""
        raise ValueError(f"one CHECKPOINT is enough; {' '.join(too_many)} is too much.{in_quotes}")
    if checkpoint is None:
        if preset is None:
            raise ValueError("say where the CHECKPOINT shall go, such as digits.safetensors, or which --preset to make")
        checkpoint = Path("runs") / f"{preset}.safetensors"
    if preset and checkpoint.resolve() == Path(f"{preset}.safetensors").resolve():
        raise ValueError(f"{checkpoint} is where the finished model goes: give the run another name, or none")
    if checkpoint.suffix != ".safetensors":
        raise ValueError(f"the name of a checkpoint ends in .safetensors; got {checkpoint}")
    _make_folder(checkpoint)
    with join_ranks(choose_profile().device) as device:
        # After a process has died torchrun starts all of them again, and what they had saved is theirs.
        resume = resume or any_rank(rank() == 0 and _saved_by_this_job(checkpoint), device)
        if not resume:
            _refuse_to_overwrite(checkpoint, preset)
        with only_training(checkpoint) if rank() == 0 else nullcontext():
            _train(checkpoint, preset, iterations, save_every, keep, tensorboard, resume, settings, device)


def _torchrun_job() -> str:
    """What the processes that one torchrun starts, at first and again, have in common."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return job if job != "none" else f"{platform.node()} {os.getppid()}"


def _saved_by_this_job(checkpoint: Path) -> bool:
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) == 0 or not checkpoint.exists():
        return False
    return newest_checkpoint(checkpoint)[0].notes.get("job") == _torchrun_job()


def _refuse_to_overwrite(checkpoint: Path, preset: str | None) -> None:
    if checkpoint.exists():
        raise ValueError(f"{checkpoint} exists already: say --resume to go on with it, or give another name")
    for suffix in (".csv", ".png") if preset else (".csv",):
        other = checkpoint.with_suffix(suffix)
        if other.exists():
            raise ValueError(f"{other} exists already, and a run of this name would overwrite it: give another name")


def _train(checkpoint, preset, iterations, save_every, keep, tensorboard, resume, settings, device) -> None:
    try:
        saved, notice = newest_checkpoint(checkpoint) if resume else (None, None)
    except FileNotFoundError as error:
        raise ValueError(f"{error}: leave --resume out to begin") from None
    by_preset = preset or (saved and "preset" in saved.notes)
    job = preset_job(preset, settings, saved) if by_preset else job_of(settings, saved)
    notes, num_iterations = job.notes, iterations or job.num_iterations
    if saved and saved.training and num_iterations < len(saved.training["losses"]):
        done = len(saved.training["losses"])
        raise ValueError(f"--iterations {num_iterations} is less than the {done} that this run has done")
    notes["num_iterations"] = num_iterations
    if num_ranks() > 1:
        notes["job"] = _torchrun_job()
    speed = _speed(device, notes.get("precision"), notes.get("compile"))
    notes["precision"] = str(speed.precision).removeprefix("torch.")
    model = job.model.to(device)
    _say(speed.set_up(model, *job.example(device) if speed.compile else ()))
    state = TrainingState(model, notes["seed"], speed.precision)
    if saved:
        resume_training(state, saved)
    _check_same_moment(state.iteration, device)
    if notice:
        _say(notice)
        if rank() == 0 and checkpoint.exists():  # out of the way, or it would push a sound one out
            os.replace(checkpoint, checkpoint.with_name(f"{checkpoint.name}.damaged"))
    seconds_before, began_at, began = notes.get("seconds", 0.0), state.iteration, time.perf_counter()

    def notes_now() -> dict:
        seconds = dict(seconds=round(seconds_before + time.perf_counter() - began, 1)) if job.recipe else {}
        return notes | dict(iterations=state.iteration) | seconds

    def learning_rate(iteration: int) -> float:
        warmup_iterations = job.options.get("warmup_iterations", 100)
        return learning_rate_at(iteration, num_iterations, job.options["learning_rate"], warmup_iterations)

    files = RunFiles(checkpoint, learning_rate, began_at, keep, tensorboard) if rank() == 0 else None
    saved_at = began_at if saved and not notice else -1

    def save(with_pictures: bool = True) -> None:
        nonlocal saved_at
        if files is None or state.iteration <= saved_at:
            return
        if not all(map(math.isfinite, state.losses[max(saved_at, 0) :])):
            return  # train has not seen it yet: it looks now and then, and goes back to good weights
        files.save(state, job.schedule, notes_now())
        saved_at = state.iteration
        if job.recipe and with_pictures:
            _draw_prompts(state.ema_model, job.schedule, job.recipe, notes["picture_size"], checkpoint)

    run = train_steps(state, job.schedule, job.data, num_iterations, **job.options)
    with stop_between_iterations() as stop:
        try:
            bar = tqdm(run, total=num_iterations, initial=began_at, unit="it", ncols=90, disable=rank() > 0)
            for _ in bar:
                if state.iteration % 50 == 0:
                    bar.set_postfix(loss=f"{sum(state.losses[-50:]) / 50:.4f}", refresh=False)
                if state.iteration % save_every == 0:
                    try:
                        save()
                    except OSError as error:  # the disk is full, say: what is learnt need not be lost for that
                        _say(f"{error}. Training goes on; put that right before the next save.")
                # Several processes stop together: where one left alone, the others would wait for it.
                if (num_ranks() == 1 or state.iteration % 10 == 0) and any_rank(stop.asked, device):
                    _say(f"Stopped at iteration {state.iteration}.")
                    break
            run.close()  # where the last loss was no number, this goes back to the last that was
            if files and state.iteration < saved_at:
                saved_at = files.take_back()
            save()
        except (TrainingDiverged, OutOfMemory) as error:
            spoilt_at = getattr(error, "iteration", None)
            if files and spoilt_at == saved_at > began_at:  # saved before its next loss was known
                saved_at = files.take_back()
            # A run that failed at once leaves no file behind. Of several processes one alone may lack memory.
            if state.iteration > began_at and (num_ranks() == 1 or isinstance(error, TrainingDiverged)):
                save(with_pictures=isinstance(error, TrainingDiverged))
            if isinstance(error, OutOfMemory):
                raise
            any_rank(False, device)  # the others wait until this is written
            raise
        except KeyboardInterrupt:  # a second Ctrl-C, in the middle of an iteration
            raise ValueError(f"stopped at once: {checkpoint} is as it was saved last") from None
    if rank() > 0:
        return
    click.echo(f"{checkpoint} holds iteration {saved_at}. Look: python -m ddpm_core sample {checkpoint}")
    if began_at == num_iterations:
        click.echo(f"All its {num_iterations} iterations were done before: with a larger --iterations it goes on.")
    if tensorboard:
        click.echo(f"The history: tensorboard --logdir {checkpoint.parent}")
    if job.skipped:
        click.echo(f"Left out of the data: {', '.join(f'{count} x {reason}' for reason, count in job.skipped.items())}")
    if saved_at < num_iterations:
        click.echo("Go on: the same command with --resume.")
    elif job.recipe:
        _publish(Path(f"{notes['preset']}.safetensors"), state, job.schedule, notes_now(), job.recipe)


def _speed(device: torch.device, precision: str | None, compile: str | None) -> Speed:
    """The switches for a device, with the precision that is asked for; float32 then means float32, and no TF32."""
    if compile == "graphs" and device.type == "cpu":
        raise ValueError("--compile graphs is for GPUs; on a CPU there is --compile fuse")
    speed = choose_speed(device, compile)
    if precision is None:
        return speed
    return replace(speed, precision=PRECISIONS[precision], tf32=speed.tf32 and precision != "float32")


def _check_same_moment(iteration: int, device: torch.device) -> None:
    iterations = gather_rows(torch.tensor([iteration], device=device)).tolist()
    if len(set(iterations)) > 1:
        raise ValueError(
            f"the processes do not see the same checkpoint (they are at iterations {iterations}): "
            "all machines need one shared folder for it"
        )


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
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="[default: float32, on a GPU with TF32]")
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help=COMPILE_HELP)
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
    if prompts and Path(f"{prompts[0]}.safetensors").is_file():
        raise ValueError(f"{prompts[0]} would be a prompt: for the checkpoint say {prompts[0]}.safetensors")
    if prompts and any(sign in prompts[0] for sign in (os.sep, ".")) and Path(prompts[0]).exists():
        raise ValueError(f"{prompts[0]} is no checkpoint: their names end in .safetensors")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("pictures are drawn by one process: leave torchrun out")
    if given and model:
        raise ValueError(f"say either a checkpoint ({given}) or --model {model}, not both")
    if out.suffix.lower() not in PIL.Image.registered_extensions():
        raise ValueError(f"--out must end as picture files do, such as in .png; got {out}")
    _make_folder(out)
    device = choose_profile().device
    path = given or shipped_checkpoint(model or "emoji")
    loaded = load_checkpoint(path, device)
    speed = _speed(device, precision, compile)
    if precision is None:
        speed = replace(speed, precision=torch.float32)
    size = loaded.notes.get("picture_size")
    if size is None:
        raise CheckpointError(f"{path} does not say how large its pictures are (picture_size in its notes)")
    if isinstance(loaded.model, TextToImage):
        prompts = [prompt for prompt in prompts for _ in range(count or 1)] or [""] * (count or 16)
        scale = loaded.notes.get("guidance_scale", 3.0) if guidance_scale is None else guidance_scale
        B = len(prompts) * (1 if scale in (0, 1) else 2)  # guidance asks twice
        x_t, t = torch.zeros(B, *size, device=device), torch.zeros(1, dtype=torch.long, device=device).expand(B)
        t = t if len(prompts) == B else t.contiguous()  # as sample and guided pass it on
        _say(speed.set_up(loaded.model, x_t, t, loaded.model.null_cond.repeat(B, 1)))
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
        t = torch.zeros(1, dtype=torch.long, device=device).expand(len(x_T))
        _say(speed.set_up(loaded.model, x_T, t))
        steps = sample_steps(loaded.model, loaded.schedule, x_T, num_steps, generator=generator)
        num_steps = num_steps or len(loaded.schedule)
    with speed.autocast(device):
        for x_t in tqdm(steps, total=num_steps, unit="step", ncols=90):  # noqa: B007
            pass
    _write_pictures(x_t, out)
    click.echo(f"{len(x_t)} pictures in {out}")


def _write_pictures(pictures: Tensor, out: Path) -> None:
    import PIL.Image

    from ddpm_core.course.display import tile  # here, because it brings matplotlib

    PIL.Image.fromarray(tile(pictures, width=1000)).save(out)


@main.command()
@click.option("--room", is_flag=True, help="Before a class: try everything once, and end with a line for the teacher.")
def doctor(room) -> None:
    """Say what this machine can do, how long the notebooks will take, and what to fix."""
    from ddpm_core.course.doctor import examine, line_for_the_teacher, rehearse

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
        raise ValueError(f"{file} cannot be written: there is no folder {file.parent} ({error.strerror})") from None
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"{file} cannot be written: the folder {file.parent.resolve()} is read-only")


if __name__ == "__main__":
    main(prog_name="python -m ddpm_core")
