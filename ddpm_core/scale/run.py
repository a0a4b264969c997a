"""A training run from its beginning, or from where it stopped, to its published model."""

import math
import os
import platform
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import torch
from tqdm import tqdm

from ddpm_core.checkpoint import Checkpoint, resume_training, save_checkpoint
from ddpm_core.judging.drawing import draw_all
from ddpm_core.scale import ranks
from ddpm_core.scale.run_files import RunFiles, newest_checkpoint, only_training, stop_between_iterations
from ddpm_core.scale.settings import DEFAULTS, Job, job_of
from ddpm_core.scale.speed import fastest_precision, in_precision, new_state, speed_up
from ddpm_core.support.files import make_folder, quoted
from ddpm_core.support.memory import OutOfMemory
from ddpm_core.support.pixels import write_pictures
from ddpm_core.training import learning_rate_at, train
from ddpm_core.training_state import TrainingDiverged


def say(sentence: str) -> None:
    """Of several processes, the first one speaks."""
    if ranks.rank() == 0:
        click.echo(sentence)


def train_run(
    checkpoint: Path | None,  # None: runs/PRESET.safetensors
    preset: str | None,
    num_iterations: int | None,  # of the whole run
    resume: bool,
    settings: dict,  # what was asked for of data, network and training, by name, as in settings.DEFAULTS
    device: torch.device,
    save_every: int,
    **files: object,  # keep and tensorboard of RunFiles
) -> None:
    """Trains to the end or until somebody stops it, in one process or in those of torchrun."""
    checkpoint = _checkpoint_of(checkpoint, preset)
    make_folder(checkpoint)
    with ranks.join_ranks(device) as device:
        if not (resume or ranks.was_restarted()):
            _refuse_to_overwrite(checkpoint, preset)  # before the lock, which is a file beside it
        with only_training(checkpoint) if ranks.rank() == 0 else nullcontext():
            saved, damage = _last_saved(checkpoint, resume, device)
            if saved is None:
                _refuse_to_overwrite(checkpoint, preset)
            job = job_of(settings, preset, saved)
            _count_iterations(job, num_iterations, saved)
            run = Run(checkpoint, job, saved, damage, device, **files)
            run.go_on(save_every)
            run.end()


def _checkpoint_of(checkpoint: Path | None, preset: str | None) -> Path:
    if checkpoint is None:
        if preset is None:
            raise ValueError("say where the CHECKPOINT goes, such as digits.safetensors, or which --preset to make")
        return Path("runs") / f"{preset}.safetensors"
    if preset and checkpoint.resolve() == Path(f"{preset}.safetensors").resolve():
        raise ValueError(f"{checkpoint} is where the finished model goes: give the run another name, or none")
    if checkpoint.suffix != ".safetensors":
        raise ValueError(f"the name of a checkpoint ends in .safetensors; got {checkpoint}")
    return checkpoint


def _refuse_to_overwrite(checkpoint: Path, preset: str | None) -> None:
    if checkpoint.exists():
        raise ValueError(f"{checkpoint} exists already: say --resume to go on with it, or give another name")
    for suffix in (".csv", ".png") if preset else (".csv",):
        other = checkpoint.with_suffix(suffix)
        if other.exists():
            raise ValueError(f"{other} exists already, and a run of this name would overwrite it: give another name")
    if preset and (finished := Path(f"{preset}.safetensors")).exists():
        raise ValueError(f"{finished} exists already, and the finished model would overwrite it: move it elsewhere")


def _last_saved(checkpoint: Path, resume: bool, device: torch.device) -> tuple[Checkpoint | None, str | None]:
    """The run that goes on, where one does, and what is wrong with the newest file of it."""
    if resume:
        try:
            return newest_checkpoint(checkpoint)
        except FileNotFoundError as error:
            raise ValueError(f"{error}: leave --resume out to begin") from None
    if not ranks.was_restarted():
        return None, None
    # After a process has died torchrun starts all of them again, and what they had saved is theirs.
    saved, damage = newest_checkpoint(checkpoint) if checkpoint.exists() else (None, None)
    is_ours = saved is not None and saved.notes.get("job") == ranks.job_name()
    return (saved, damage) if ranks.any_rank(is_ours, device) else (None, None)


def _count_iterations(job: Job, num_iterations: int | None, saved: Checkpoint | None) -> None:
    done = len(saved.training["losses"]) if saved and saved.training else 0
    job.num_iterations = num_iterations or job.num_iterations
    if job.num_iterations < done:
        raise ValueError(f"--num_iterations {job.num_iterations} is less than the {done} that this run has done")
    job.notes["num_iterations"] = job.num_iterations


class Run:
    """A job at work: its state, its network on the device, and its files."""

    def __init__(
        self, checkpoint: Path, job: Job, saved: Checkpoint | None, damage: str | None, device: torch.device, **files
    ):
        self.checkpoint, self.job, self.device = checkpoint, job, device
        ranks.share_of(job.options["batch_size"])
        precision = job.notes.setdefault("precision", fastest_precision(device))
        if ranks.num_ranks() > 1:
            job.notes["job"] = ranks.job_name()
        model = job.model.to(device).requires_grad_(True)
        if job.recipe and job.recipe.clip:
            model.text_encoder.requires_grad_(False)
        speed_up(model, precision, job.notes.get("compile"), say)
        self.state = new_state(model, precision, job.notes["seed"])
        if saved:
            resume_training(self.state, saved)
        self.data = ranks.whole_batches(job.data, device) if callable(job.data) else job.data
        self.network = in_precision(ranks.share_out(model), device, precision)
        self.began_at, self.began = self.state.iteration, time.perf_counter()
        self.saved_at = self.began_at if saved and not damage else -1
        ranks.same_everywhere(self.began_at, device)
        if job.report:
            say(job.report)
        if damage:
            say(damage)
            if ranks.rank() == 0 and checkpoint.exists():  # out of the way, or it would push a sound one out
                os.replace(checkpoint, checkpoint.with_name(f"{checkpoint.name}.damaged"))
        curve = dict(peak=job.options["learning_rate"], warmup_iterations=job.options["warmup_iterations"])
        learning_rate = partial(learning_rate_at, num_iterations=job.num_iterations, **curve)
        # Of several processes the first one writes.
        self.files = RunFiles(checkpoint, learning_rate, self.began_at, **files) if ranks.rank() == 0 else None

    def go_on(self, save_every: int) -> None:
        """Trains to the end, or until it is stopped or fails, and leaves what was learnt in the checkpoint."""
        job, state = self.job, self.state
        steps = train(state, job.schedule, self.data, job.num_iterations, network=self.network, **job.options)
        silent, look_every = ranks.rank() > 0, 1 if ranks.num_ranks() == 1 else 10
        bar = tqdm(steps, total=job.num_iterations, initial=self.began_at, unit="it", ncols=90, disable=silent)
        with stop_between_iterations() as stop:
            try:
                for _ in bar:
                    if state.iteration % 50 == 0:
                        bar.set_postfix(loss=f"{sum(state.losses[-50:]) / 50:.4f}", refresh=False)
                    if state.iteration % save_every == 0:
                        self._save_if_there_is_room()
                    # Several processes stop together: where one left alone, the others would wait for it.
                    if state.iteration % look_every == 0 and ranks.any_rank(stop.asked, self.device):
                        say(f"Stopped at iteration {state.iteration}.")
                        break
                steps.close()  # where the last loss was no number, this goes back to the last that was
                if state.iteration < self.saved_at:
                    self._take_back()
                self.save()
            except (TrainingDiverged, OutOfMemory) as error:
                self._save_what_is_sound(error)
                raise
            except KeyboardInterrupt:  # a second Ctrl-C, in the middle of an iteration
                raise ValueError(f"stopped at once: {self.checkpoint} is as it was saved last") from None

    def save(self, with_pictures: bool = True) -> None:
        """Writes the files of the run, where something new and sound was learnt."""
        if self.files is None or self.state.iteration <= self.saved_at:
            return
        if not all(map(math.isfinite, self.state.losses[max(self.saved_at, 0) :])):
            return  # train has not seen it yet: it looks now and then, and goes back to good weights
        self.files.save(self.state, self.job.schedule, self.notes())
        self.saved_at = self.state.iteration
        if self.job.recipe and with_pictures:
            self._draw_prompts()

    def notes(self) -> dict:
        """How the run has come to where it is."""
        notes = self.job.notes | dict(iterations=self.state.iteration)
        if self.job.recipe:
            notes["seconds"] = round(notes.get("seconds", 0.0) + time.perf_counter() - self.began, 1)
        return notes

    def _save_if_there_is_room(self) -> None:
        try:
            self.save()
        except OSError as error:  # the disk is full, say: what is learnt need not be lost for that
            say(f"{error}. Training goes on; put that right before the next save.")

    def _save_what_is_sound(self, error: Exception) -> None:
        diverged = isinstance(error, TrainingDiverged)
        if diverged and error.iteration == self.saved_at > self.began_at:  # saved before its next loss was known
            self._take_back()
        # A run that failed at once leaves no file behind. Of several processes one alone may lack memory.
        if self.state.iteration > self.began_at and (diverged or ranks.num_ranks() == 1):
            self.save(with_pictures=diverged)
        if diverged:
            ranks.any_rank(False, self.device)  # the others wait until this is written

    def _take_back(self) -> None:
        if self.files:
            self.saved_at = self.files.take_back()

    def _draw_prompts(self) -> None:
        """A look at what a recipe's model has learnt so far."""
        job, recipe, size = self.job, self.job.recipe, tuple(self.job.notes["picture_size"])
        prompts = [prompt for prompt in recipe.prompts for _ in range(8 // min(8, len(recipe.prompts)))]
        model, scale = self.state.ema_model, recipe.guidance_scale
        drawn = draw_all(model, job.schedule, prompts, size, scale, **job.second)
        write_pictures(drawn, self.checkpoint.with_suffix(".png"))

    def end(self) -> None:
        """Says where the run is and how it goes on; the finished model of a recipe is published."""
        if ranks.rank() > 0:
            return
        checkpoint, num_iterations = self.checkpoint, self.job.num_iterations
        say(f"{checkpoint} holds iteration {self.saved_at}. Look: python -m ddpm_core sample {quoted(checkpoint)}")
        if self.began_at == num_iterations:
            say(f"All its {num_iterations} iterations were done before: with a larger --iterations it goes on.")
        if self.files.open_tensorboard:
            say(f"The history: tensorboard --logdir {quoted(checkpoint.parent)}")
        if self.job.skipped:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in self.job.skipped.items())
            say(f"Left out of the data: {reasons}")
        if self.saved_at < num_iterations:
            say("Go on: the same command with --resume.")
        elif self.job.recipe:
            self._publish()

    def _publish(self) -> None:
        """Writes the model alone, with its scores and how it was made."""
        recipe, notes = self.job.recipe, self.notes()
        if recipe.half:
            self.state.ema_model.half().float()  # as it will be read
        say("Scoring the model, which takes some minutes ...")
        scores = recipe.score(self.state.ema_model, self.job.schedule, recipe.guidance_scale, **self.job.second)
        command = f"python -m ddpm_core train --preset {notes['preset']}"
        if self.state.iteration != recipe.num_iterations:
            command += f" --iterations {self.state.iteration}"
        if notes["seed"] != DEFAULTS["seed"]:
            command += f" --seed {notes['seed']}"
        path = Path(f"{notes['preset']}.safetensors")
        notes |= dict(command=command, machine=_machine(self.device), scores=scores)
        if recipe.half:
            self.state.ema_model.half()  # half the bytes
        save_checkpoint(path, self.state, self.job.schedule, notes)
        for name, share in scores.items():
            say(f"  {name}: {share:.1%}")
        say(f"{path} holds the finished model.")


def _machine(device: torch.device) -> str:
    threads = torch.get_num_threads()
    on_cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    return f"{name}, {platform.machine()}, torch {torch.__version__}"
