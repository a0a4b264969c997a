"""The command line: python -m ddpm_core train | sample | vary | search | export | doctor. See --help."""

import os
from functools import partial
from itertools import chain
from pathlib import Path

import click

from ddpm_core.course.profile import choose_profile
from ddpm_core.data import DATA_SETS
from ddpm_core.sampling import SAMPLERS
from ddpm_core.scale.draw import DRAWING, PICTURES, draw, what_to_draw
from ddpm_core.scale.export import export_diffusers, to_export
from ddpm_core.scale.one_sentence import OneSentence
from ddpm_core.scale.picture_search import SHOWN, search_pictures
from ddpm_core.scale.recipes import PRESETS
from ddpm_core.scale.run import train_run
from ddpm_core.scale.settings import DEFAULTS
from ddpm_core.scale.speed import PRECISIONS
from ddpm_core.scale.vary import vary as draw_variations
from ddpm_core.support.options import as_typed, pattern_in_quotes
from ddpm_core.support.pixels import check_picture_file, write_pictures
from ddpm_core.text_to_image import NUM_STEPS

DATA_HELP = f"{' | '.join(DATA_SETS.values())}, or pictures with captions: a folder, or tar files, as 'shards/*.tar'."
PRECISION_HELP = "What the network computes in.  [default: half on a GPU, bfloat16 where it can; float32 on a CPU]"
COMPILE_HELP = "torch.compile, which takes a minute first: join small operations, or replay whole calls (on a GPU)."
SNR_HELP = "Timesteps with a signal-to-noise ratio above it weigh less."
IN_HELP = "Where: the course's emoji, pictures in a folder, or in tar files, with captions, such as 'shards/*.tar'."
K_HELP = f"How many pictures.  [default: {SHOWN}, or all where there are fewer]"
INDEX_HELP = "Where the pictures' vectors are kept.  [default: a file in ~/.cache/ddpm_core]"
SEED_HELP = "Of the first picture; the second one has the next number, and so on."
SEED = click.IntRange(-(2**63), 2**63 - 1)
STEPS_HELP = f"Steps of sampling.  [default: the schedule's length; with prompts {NUM_STEPS}]"


def setting(*names: str, help: str, default: str = "{}", **options: object) -> object:
    """An option of train whose default stands in DEFAULTS; a run that goes on, or a preset, has its own."""
    name = names[-1].removeprefix("--").replace("-", "_")
    return click.option(*names, help=f"{help}  [default: {default.format(DEFAULTS[name])}]", **options)


@click.group(cls=OneSentence)
def main() -> None:
    """Train a diffusion model, sample from it, draw variations of a picture and find pictures, without a notebook."""


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
    all iterations are done the model alone, with its scores, goes into a new file, PRESET.safetensors.

    \b
    python -m ddpm_core train digits.safetensors
    python -m ddpm_core train mine.safetensors --data photos             your own pictures, each with a text file
    python -m ddpm_core train mine.safetensors --data "shards/*.tar"     pictures with captions, as img2dataset writes
    torchrun --nproc-per-node 2 -m ddpm_core train digits.safetensors    two processes, each with half of every batch
    """
    if too_many:
        fix = f": {pattern_in_quotes('--data', too_many[0])}" if ".tar" in too_many[0] else ""
        raise ValueError(f"one CHECKPOINT is enough; {' '.join(too_many)} is too much{fix}")
    given = {name: value for name, value in settings.items() if value is not None}
    files = dict(save_every=save_every, keep=keep, tensorboard=tensorboard)
    train_run(checkpoint, preset, num_iterations, resume, given, choose_profile().device, **files)


@main.command()
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [PROMPTS]...")
@click.option("--model", type=click.Choice(DRAWING), help="A checkpoint of the course.  [default: emoji]")
@click.option("--out", default="samples.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(1), help=f"Of each prompt.  [default: {PICTURES}; with prompts 1]")
@setting("--guidance-scale", type=float, help="How much the prompt counts.", default="the checkpoint's, or {:g}")
@click.option("--negative", "negative_prompt", default="", help="A prompt that the pictures should keep away from.")
@click.option("--num-steps", type=int, help=STEPS_HELP)
@click.option("--sampler", default="ddpm", show_default=True, type=click.Choice(SAMPLERS), help="Rule of a step.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="[default: float32, on a GPU with TF32]")
@click.option("--compile", type=click.Choice(["fuse", "graphs"]), help=COMPILE_HELP)
@click.option("--seed", default=0, show_default=True, type=SEED, help=SEED_HELP)
@click.pass_context
def sample(context, arguments, model, out, **options) -> None:
    """Draw pictures into one PNG file, from a CHECKPOINT (a name that ends in .safetensors) or a model of the course.

    Each picture has a seed of its own, so it can be drawn again alone: the third of four with its prompt and --seed 2.

    \b
    python -m ddpm_core sample "openmoji rocket" "twemoji 火箭" --out pictures.png
    python -m ddpm_core sample --model digit-scenes "a red three left of a blue seven"
    python -m ddpm_core sample --model imagen "openmoji rocket" --out rocket.png
    python -m ddpm_core sample digits.safetensors
    """
    path, prompts = what_to_draw(arguments, model)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("pictures are drawn by one process: leave torchrun out")
    check_picture_file(out)
    say = lambda sentence: click.echo(as_typed(sentence, context.command), err=True)  # noqa: E731
    pictures = draw(path, choose_profile().device, say, prompts, **options)
    write_pictures(pictures, out)
    with_seeds = f", with the seeds {options['seed']} to {options['seed'] + len(pictures) - 1}" * (len(pictures) > 1)
    click.echo(f"{len(pictures)} picture{'s' * (len(pictures) > 1)} in {out}{with_seeds}")


@main.command()
@click.argument("picture")
@click.option("--out", default="variations.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", default=7, show_default=True, type=click.IntRange(1), help="Of the variations.")
@click.option("--guidance-scale", type=float, help="How much the picture counts.  [default: the checkpoint's]")
@click.option("--num-steps", default=NUM_STEPS, show_default=True, type=click.IntRange(1), help="Steps of sampling.")
@click.option("--seed", default=0, show_default=True, type=SEED, help=SEED_HELP)
def vary(picture, out, **options) -> None:
    """Draw variations of a square PICTURE, such as an emoji on white, with DALL-E 2. The file begins with the PICTURE.

    python -m ddpm_core vary rocket.png --out variations.png
    """
    check_picture_file(out, picture)
    write_pictures(draw_variations(picture, choose_profile().device, **options), out)
    click.echo(f"{picture} and {options['count']} variation{'s' * (options['count'] > 1)} of it in {out}")


@main.command()
@click.argument("query", nargs=-1, required=True)
@click.option("--in", "where", default="emoji", show_default=True, metavar="emoji|FOLDER|SHARDS", help=IN_HELP)
@click.option("--model", default="clip", show_default=True, metavar="clip|FILE", help="The CLIP that compares.")
@click.option("--k", type=click.IntRange(1), help=K_HELP)
@click.option("--out", default="search.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--index", "index_file", type=click.Path(dir_okay=False, path_type=Path), help=INDEX_HELP)
def search(query, where, model, k, out, index_file) -> None:
    """Find pictures by words, in English or Chinese, or by a picture; the best come first, as a list and in one file.

    All words are one query.

    \b
    python -m ddpm_core search red apple
    python -m ddpm_core search 火箭
    python -m ddpm_core search picture.png --in photos
    """
    check_picture_file(out, *query)
    device, say = choose_profile().device, partial(click.echo, err=True)
    hits = search_pictures(query, where, model, k, out, index_file, device, say)
    for rank, (score, label) in enumerate(hits, start=1):
        click.echo(f"{rank:4}  {score:6.3f}  {label}")
    click.echo(f"{len(hits)} picture{'s' * (len(hits) > 1)} in {out}")


@main.command()
@click.argument("checkpoint")
@click.argument("folder", type=click.Path(path_type=Path))
def export(checkpoint, folder) -> None:
    """Write a FOLDER that diffusers loads, out of a CHECKPOINT: a file, or a model of the course by name.

    \b
    python -m ddpm_core export emoji emoji-for-diffusers
    """
    export_diffusers(to_export(checkpoint), folder)
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
