"""The steps against diffusers, and the two functions to repair: what is said while bugs are left, and before."""

import linecache
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
import torch
from diffusers import DDIMScheduler

import ddpm_core
from ddpm_core import NoiseSchedule, cosine_betas
from ddpm_core.course.exercises import EXERCISES
from ddpm_core.course.exercises.compare import edited, edited_source
from ddpm_core.course.exercises.steps_04 import my_ddim_step, my_v_to_eps
from ddpm_core.course.tutor import check, hint

pytestmark = pytest.mark.usefixtures("progress_file")


def noise(seed: int) -> torch.Tensor:
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def peer(prediction_type: str = "epsilon") -> DDIMScheduler:
    """diffusers' DDIM with 50 steps of the cosine schedule, 10 of which are visited."""
    peer = DDIMScheduler(
        50,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,  # the last step ends at the clean picture
    )
    peer.set_timesteps(10)
    return peer


def test_every_step_is_that_of_diffusers_ddim_down_to_the_clean_picture():
    schedule, scheduler, eps_hat = NoiseSchedule(cosine_betas(50)), peer(), noise(1)
    x_t = noise(0)
    assert scheduler.timesteps.tolist() == list(range(45, -1, -5))
    for t in scheduler.timesteps.tolist():
        steps = torch.full((3,), t)
        ours = my_ddim_step(schedule, x_t, steps, eps_hat, (steps - 5).clamp(min=-1))
        theirs = scheduler.step(eps_hat, t, x_t, eta=0.0).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        x_t = theirs


def test_the_noise_in_v_is_that_of_diffusers():
    schedule, scheduler, x_t, v = NoiseSchedule(cosine_betas(50)), peer("v_prediction"), noise(0), noise(1)
    for t in (5, 25, 45):
        theirs = scheduler.step(v, t, x_t).pred_original_sample
        alpha_bar = schedule.alpha_bars[t]
        eps = my_v_to_eps(schedule, x_t, torch.full((3,), t), v)
        torch.testing.assert_close(
            (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt(), theirs, rtol=1e-4, atol=1e-4
        )


# Each bug by itself, as edits of the answer, and words of what the learner is told about it.
SAMPLER = [
    (("(len(x_t),), t, device", "(len(x_t),), step, device"), "the number of the step, in place of the timestep"),
    (("beta.sqrt() *", "beta *"), "multiplied with the variance"),
    (("        if t > 0:\n    ", ""), "noise is added at the last step"),
]
REDRAWN = (
    "        eps = torch.randn(x_0.shape, generator=generator)\n",
    "",
    "t, eps)\n",
    "t, torch.randn(x_0.shape, generator=generator))\n        eps = torch.randn(x_0.shape, generator=generator)\n",
)
LOOP = [
    (("(len(x_0),), generator=generator)", "(1,), generator=generator).expand(len(x_0))"), "share one t"),
    (REDRAWN, "use the very eps that was mixed in"),
    (("        optimizer.zero_grad()\n", ""), "the gradients add up"),
]
REPAIRS = {"repaired_sampler": SAMPLER, "repaired_loop": LOOP}


@pytest.mark.parametrize("name", REPAIRS)
def test_of_the_bugs_that_are_left_the_first_is_named(name, capsys):
    for count in range(4):
        for left in combinations(REPAIRS[name], count):
            check(name, edited(EXERCISES[name].answer, *(piece for bug, _ in left for piece in bug)))
            said = capsys.readouterr().out
            assert left[0][1] in said if left else said.startswith(f"{name} is correct.")


@pytest.mark.parametrize("name", REPAIRS)
def test_all_of_them_are_in_the_function_that_the_learner_finds(name):
    everything = [piece for bug, _ in REPAIRS[name] for piece in bug]
    exercise = EXERCISES[name]
    assert edited_source(exercise.answer, *everything) == exercise.begins_as


def typed(source: str, name: str):
    """The function as a notebook's cell defines it; IPython keeps its source in the same place."""
    file = f"<cell {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = vars(ddpm_core) | {"torch": torch}
    exec(compile(source, file, "exec"), names)
    return names[f"my_{name}"]


@pytest.mark.parametrize("name", REPAIRS)
def test_a_function_that_nobody_has_touched_is_not_done_yet(name, capsys):
    source = EXERCISES[name].begins_as
    for untouched in (source, source.replace(":\n", ":  # What is wrong here?\n")):
        check(name, typed(untouched, name))
        assert capsys.readouterr().out == f"{name} is not done yet.\n"
    for touched in (source.replace("return ", "print(end='')\n    return "), source.replace("x_t", "x")):
        check(name, typed(touched, name))
        said = capsys.readouterr().out
        assert said.startswith(f"{name} is not right yet: ")
        assert ("eps_model is told 0" if "sampler" in name else "share one t") in said


def test_the_variance_of_a_right_sampler_is_told_where_it_is_the_posteriors(capsys):
    right = EXERCISES["repaired_sampler"].answer
    check("repaired_sampler", right)
    assert capsys.readouterr().out.startswith("repaired_sampler is correct. ")
    posterior = "(beta * schedule.beta_bars_prev[t] / schedule.beta_bars[t]).sqrt() *"
    check("repaired_sampler", edited(right, "beta.sqrt() *", posterior))
    assert capsys.readouterr().out.startswith("repaired_sampler is correct (with the posterior's variance")


def test_the_hints_point_at_what_the_notebook_has(capsys):
    [path] = (Path(__file__).parents[3] / "notebooks").glob("04_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, 4).cells]
    begin, end = (next(i for i, cell in enumerate(cells) if cell.startswith(f"## {n} ·")) for n in (1, 2))
    [table] = [cell for cell in cells[begin:end] if "| algorithm 2 |" in cell]
    assert "(code: `t > 0`)" in table
    hint("repaired_sampler")
    assert "table of section 1" in capsys.readouterr().out
    hint("ddim_step")
    assert "predict_x_0(schedule, x_t, t, eps_hat)" in capsys.readouterr().out


def test_the_function_of_another_exercise_is_not_taken_for_untouched(capsys):
    check("repaired_sampler", typed(EXERCISES["repaired_loop"].begins_as, "repaired_loop"))
    assert "it should take what my_repaired_sampler(" in capsys.readouterr().out
