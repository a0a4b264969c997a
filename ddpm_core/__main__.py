"""The command line: python -m ddpm_core train | sample | doctor. The same functions as in the notebooks."""

import os
from pathlib import Path

import click
import torch
from tqdm import tqdm

from ddpm_core.checkpoint import CheckpointError, load_checkpoint, resume_training, save_checkpoint
from ddpm_core.data import DOWNLOADED_DATA_SETS, OFFLINE_DATA_SETS, DataUnavailable, load_pictures
from ddpm_core.runtime import choose_profile
from ddpm_core.sampling import sample as sample_steps
from ddpm_core.schedule import NoiseSchedule, cosine_betas
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
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", help=f"{' | '.join(OFFLINE_DATA_SETS + DOWNLOADED_DATA_SETS)}  [default: digits]")
@click.option("--iterations", default=850, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(1), help="[default: 128]")
@click.option("--learning-rate", default=3e-3, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--timesteps", default=200, show_default=True, type=click.IntRange(1))
@click.option("--channels", default=None, help="Width of each level, such as 32,32.  [default: by picture size]")
@click.option("--save-every", default=500, show_default=True, type=click.IntRange(1), help="Iterations between saves.")
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from CHECKPOINT: its data, batch size, schedule and network.")
def train(
    checkpoint, data, iterations, batch_size, learning_rate, timesteps, channels, save_every, seed, resume
) -> None:
    """Train on a data set and write CHECKPOINT. Ctrl-C saves and ends; --resume goes on."""
    if checkpoint.exists() and not resume:
        raise ValueError(f"{checkpoint} exists already: say --resume to go on with it, or give another name")
    _make_folder(checkpoint)
    device = choose_profile().device
    saved = load_checkpoint(checkpoint) if resume else None
    notes = saved.notes if saved else dict(seed=seed)
    data = data or notes.get("data", "digits")
    batch_size = batch_size or notes.get("batch_size", 128)
    pictures, _ = load_pictures(data)
    torch.manual_seed(seed)
    if saved:
        config, schedule = saved.model.config, saved.schedule
    else:
        config = dict(in_channels=pictures.shape[1], channels=_widths(channels, pictures.shape[2]))
        schedule = NoiseSchedule(cosine_betas(timesteps))
    state = TrainingState(UNet(**config).to(device), seed)
    if saved:
        resume_training(state, saved)
    notes = notes | dict(data=data, picture_size=list(pictures.shape[1:]), batch_size=batch_size)
    began_at = state.iteration

    def save() -> None:
        save_checkpoint(checkpoint, state, schedule, notes | {"iterations": state.iteration}, with_training=True)

    run = train_steps(state, schedule, pictures, iterations, batch_size, learning_rate)
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


@main.command()
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", default="samples.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", default=16, show_default=True, type=click.IntRange(1))
@click.option("--num-steps", default=None, type=int, help="Steps of sampling.  [default: the schedule's length]")
@click.option("--seed", default=0, show_default=True)
def sample(checkpoint, out, count, num_steps, seed) -> None:
    """Draw pictures from CHECKPOINT into one PNG file."""
    import PIL.Image

    from ddpm_core.display import tile  # here, because it brings matplotlib

    if out.suffix.lower() not in PIL.Image.registered_extensions():
        raise ValueError(f"--out must end as picture files do, such as in .png; got {out}")
    _make_folder(out)
    device = choose_profile().device
    loaded = load_checkpoint(checkpoint, device)
    size = loaded.notes.get("picture_size")
    if size is None:
        raise CheckpointError(f"{checkpoint} does not say how large its pictures are (picture_size in its notes)")
    generator = torch.Generator(device).manual_seed(seed)
    x_T = torch.randn(count, *size, generator=generator, device=device)
    steps = sample_steps(loaded.model, loaded.schedule, x_T, num_steps, generator=generator)
    for x_t in tqdm(steps, total=num_steps or len(loaded.schedule), unit="step", ncols=90):  # noqa: B007
        pass
    PIL.Image.fromarray(tile(x_t)).save(out)
    click.echo(f"{count} pictures in {out}")


@main.command()
def doctor() -> None:
    """Say what this machine can do, how long the notebooks will take, and what to fix."""
    from ddpm_core.doctor import examine

    fixes = 0
    for finding in examine():
        click.echo(f"{finding.subject:32} {finding.found}")
        if finding.fix:
            fixes += 1
            click.secho(f"{'':32} -> {finding.fix}", fg="red")
    click.echo("\nAll is well." if not fixes else f"\n{fixes} to fix, marked -> above.")
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
