"""The command line: python -m ddpm_core train | sample | export | doctor. The same functions as in the notebooks."""

import os
from itertools import chain
from pathlib import Path

import click

from ddpm_core.checkpoint import SHIPPED, shipped_checkpoint
from ddpm_core.course.profile import choose_profile
from ddpm_core.data import DATA_SETS, DataUnavailable
from ddpm_core.sampling import SAMPLERS
from ddpm_core.scale import export_diffusers
from ddpm_core.scale.draw import PICTURES, draw
from ddpm_core.scale.ranks import RankLost
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.scale.run import train_run
from ddpm_core.scale.settings import DEFAULTS
from ddpm_core.scale.speed import PRECISIONS
from ddpm_core.support.files import make_folder
from ddpm_core.support.memory import OutOfMemory, is_lack_of_memory
from ddpm_core.support.options import as_typed
from ddpm_core.support.pixels import write_pictures
from ddpm_core.support.tensor_file import CheckpointError
from ddpm_core.text_to_image import NUM_STEPS
from ddpm_core.training_state import TrainingDiverged

EXPECTED = (ValueError, TypeError, OSError, ImportError)
EXPECTED += (CheckpointError, DataUnavailable, TrainingDiverged, OutOfMemory, RankLost)
NO_MEMORY = (
    "there is not enough memory for this: ask for fewer or smaller pictures (--batch-size, --count, --picture-size), "
    "or for fewer --channels or --timesteps"
)
DATA_HELP = (
    f"{' | '.join(DATA_SETS.values())}, or pictures with captions: a folder of them, or tar files, as a folder or as a "
    "pattern in quotes, such as 'shards/*.tar'."
)
PRECISION_HELP = "What the network computes in.  [default: half on a GPU, bfloat16 where it can; float32 on a CPU]"
COMPILE_HELP = "torch.compile, which takes a minute first: join small operations, or replay whole calls (on a GPU)."
SNR_HELP = "Timesteps with a signal-to-noise ratio above it weigh less."
SAMPLE_SEED_HELP = "Of the first picture; the second one has the next number, and so on."
STEPS_HELP = f"Steps of sampling.  [default: the schedule's length; with prompts {NUM_STEPS}]"


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
            sentence = as_typed(str(error), self.commands[context.invoked_subcommand])
            raise click.ClickException(f"process {number}: {sentence}" if number > 0 else sentence) from error
        except RuntimeError as error:
            if not is_lack_of_memory(error):
                raise
            raise click.ClickException(NO_MEMORY) from error


def setting(*names: str, help: str, default: str = "{}", **options: object) -> object:
    """An option of train whose default stands in DEFAULTS; a run that goes on, or a preset, has its own."""
    name = names[-1].removeprefix("--").replace("-", "_")
    return click.option(*names, help=f"{help}  [default: {default.format(DEFAULTS[name])}]", **options)


@click.group(cls=OneSentence)
def main() -> None:
    """Train a diffusion model and sample from it, without a notebook."""


@main.command()
@click.argument("checkpoint", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.argument("too_many", nargs=-1, metavar="")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Make one of the course's own checkpoints.")
@setting("--data", help=DATA_HELP)
@setting("--iterations", "num_iterations", type=click.IntRange(1), help="Of the run.", default="{}, or the preset's")
@setting("--batch-size", type=click.IntRange(1), help="Pictures per iteration, of all processes.")
@setting("--learning-rate", type=float, help="The peak, after a warm-up.")
@setting("--timesteps", "num_timesteps", type=click.IntRange(1, 1_000_000), help="Of the noise schedule.")
@click.option("--channels", help="Width of each level, such as 32,32.  [default: by picture size]")
@setting("--picture-size", type=click.IntRange(1, 256), help="Of pictures with captions.")
@setting("--min-snr-gamma", type=float, help=SNR_HELP, default="{:g} with captions, else all weigh alike")
@setting("--workers", "num_workers", type=click.IntRange(0), help="Processes that read tar files.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help=PRECISION_HELP)
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help=COMPILE_HELP)
@click.option("--save-every", default=500, show_default=True, type=click.IntRange(1), help="Iterations between saves.")
@click.option("--keep", default=1, show_default=True, type=click.IntRange(0), help="Older checkpoints to keep.")
@click.option("--tensorboard", is_flag=True, help="Write the history for TensorBoard, too.")
@setting("--seed", type=click.IntRange(0, 2**63 - 1), help="Of all that is random.")
@click.option("--resume", is_flag=True, help="Go on from CHECKPOINT: its data, batch size, schedule and network.")
def train(checkpoint, too_many, preset, num_iterations, resume, save_every, keep, tensorboard, **settings) -> None:
    """Train on a data set and write CHECKPOINT. Ctrl-C saves and ends; --resume goes on.

    With a preset, CHECKPOINT is runs/PRESET.safetensors unless given, and pictures appear beside it on the way. When
    all iterations are done the model alone, with its scores, goes into PRESET.safetensors.

    \b
    python -m ddpm_core train digits.safetensors
    python -m ddpm_core train mine.safetensors --data photos             your own pictures, each with a text file
    python -m ddpm_core train mine.safetensors --data "shards/*.tar"     pictures with captions, as img2dataset writes
    torchrun --nproc-per-node 2 -m ddpm_core train digits.safetensors    two processes, each with half of every batch
    """
    if too_many:
        in_quotes = " A pattern of tar files stands in quotes: --data 'shards/*.tar'." if ".tar" in too_many[0] else ""
        raise ValueError(f"one CHECKPOINT is enough; {' '.join(too_many)} is too much.{in_quotes}")
    given = {name: value for name, value in settings.items() if value is not None}
    files = dict(save_every=save_every, keep=keep, tensorboard=tensorboard)
    train_run(checkpoint, preset, num_iterations, resume, given, choose_profile().device, **files)


@main.command()
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [PROMPTS]...")
@click.option("--model", type=click.Choice(list(PRESETS)), help="A checkpoint of the course.  [default: emoji]")
@click.option("--out", default="samples.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(1), help=f"Of each prompt.  [default: {PICTURES}; with prompts 1]")
@setting("--guidance-scale", type=float, help="How much the prompt counts.", default="the checkpoint's, or {:g}")
@click.option("--negative", "negative_prompt", default="", help="A prompt that the pictures should keep away from.")
@click.option("--num-steps", type=int, help=STEPS_HELP)
@click.option("--sampler", default="ddpm", show_default=True, type=click.Choice(SAMPLERS), help="Rule of a step.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="[default: float32, on a GPU with TF32]")
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help=COMPILE_HELP)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(-(2**63), 2**63 - 1), help=SAMPLE_SEED_HELP)
@click.pass_context
def sample(context, arguments, model, out, **options) -> None:
    """Draw pictures into one PNG file, from a CHECKPOINT (a name that ends in .safetensors) or a model of the course.

    Each picture has a seed of its own, so it can be drawn again alone: the third of four with its prompt and --seed 2.

    \b
    python -m ddpm_core sample "openmoji rocket" "twemoji 火箭" --out pictures.png
    python -m ddpm_core sample --model digit-scenes "a red three left of a blue seven"
    python -m ddpm_core sample digits.safetensors
    """
    import PIL.Image

    given = Path(arguments[0]) if arguments and arguments[0].endswith(".safetensors") else None
    prompts = arguments[1:] if given else arguments
    if prompts and Path(f"{prompts[0]}.safetensors").is_file():
        raise ValueError(f"{prompts[0]} would be a prompt: for the checkpoint say {prompts[0]}.safetensors")
    if prompts and prompts[0] in PRESETS and len(prompts) > 1:
        raise ValueError(f"{prompts[0]} would be a prompt: for the model say --model {prompts[0]}")
    if prompts and any(sign in prompts[0] for sign in (os.sep, ".")) and Path(prompts[0]).exists():
        raise ValueError(f"{prompts[0]} is no checkpoint: their names end in .safetensors")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("pictures are drawn by one process: leave torchrun out")
    if given and model:
        raise ValueError(f"say either a checkpoint ({given}) or --model {model}, not both")
    if out.suffix.lower() not in PIL.Image.registered_extensions():
        raise ValueError(f"out must end as picture files do, such as in .png; got {out}")
    make_folder(out)

    def say(sentence: str) -> None:
        click.echo(as_typed(sentence, context.command), err=True)

    path = given or shipped_checkpoint(model or "emoji")
    pictures = draw(path, choose_profile().device, say, prompts, **options)
    write_pictures(pictures, out)
    last_seed = options["seed"] + len(pictures) - 1
    with_seeds = f", with the seeds {options['seed']} to {last_seed}" if len(pictures) > 1 else ""
    click.echo(f"{len(pictures)} picture{'s' * (len(pictures) > 1)} in {out}{with_seeds}")


@main.command()
@click.argument("checkpoint")
@click.argument("folder", type=click.Path(path_type=Path))
def export(checkpoint, folder) -> None:
    """Write a FOLDER that diffusers loads, out of a CHECKPOINT: a file, or a model of the course by name.

    \b
    python -m ddpm_core export emoji emoji-for-diffusers
    """
    if checkpoint not in SHIPPED and not Path(checkpoint).is_file():
        raise ValueError(f"there is no file {checkpoint!r}; the models of the course are {' and '.join(SHIPPED)}")
    export_diffusers(shipped_checkpoint(checkpoint) if checkpoint in SHIPPED else checkpoint, folder)
    click.echo(f"How to draw with it stands in {folder / 'README.md'}")


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


if __name__ == "__main__":
    main(prog_name="python -m ddpm_core")
