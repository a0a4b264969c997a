"""Every number among a notebook's settings may be changed to another sensible one, and the notebook runs to its end.

Where that leaves too little training, its demands fail in words that name a setting. All numbers of a notebook are
changed at once, as each run takes up to a minute.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What is run after the cell with the settings, with the smallest trainings that reach every cell.
CHANGES = {
    "01_sampling_from_a_gaussian": "num_timesteps, num_points = 100, 1000",
    "02_the_forward_process": "num_timesteps, num_copies = 500, 5000",
    "03_the_noise_predictor": "num_iterations, batch_size = 30, 16",
    "04_training": (
        "num_timesteps, channels, batch_size, learning_rate = 100, (8, 16), 64, 1e-3\n"
        "num_iterations, first_iterations, clinic_iterations = 40, 10, 10"
    ),
    "05_text_conditioning": (
        "channels, num_iterations, learning_rate = (8, 16), 20, 1e-3\n"
        "batch_size, text_dim, guidance_scale = 32, 48, 1.0\n"
        "schedule = NoiseSchedule(linear_betas(100, 1e-3, 0.2)).to(profile.device)"
    ),
    "06_sampling_faster_and_freer": "num_prompts, num_digits = 4, 20",
    "07_pictures_and_words": (
        "num_iterations, batch_size, learning_rate, augmentation = 20, 64, 1e-3, 0.0\n"
        "scene_iterations, num_on_map = 5, 200"
    ),
    "08_stable_diffusion": (
        "num_names, num_iterations, batch_size, learning_rate = 9, 20, 16, 1e-3\ntiny_iterations, num_prompts = 20, 4"
    ),
    "09_imagen_and_dalle_2": (
        "num_names, num_iterations, batch_size, learning_rate = 9, 20, 16, 1e-3\nprior_iterations, num_judged = 10, 8"
    ),
}
# Runs the cells that it reads from stdin, all of them, and prints the errors. Without a kernel it is sooner done.
RUNNER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

shell, errors = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}})), []
for number, source in json.load(sys.stdin):
    with capture_output():
        result = shell.run_cell(source)
    if error := result.error_before_exec or result.error_in_exec:
        errors.append((number, type(error).__name__, str(error)))
print(json.dumps(errors))
"""


def code_of(name: str) -> list[tuple[int, str]]:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [(i, "".join(cell["source"])) for i, cell in enumerate(cells) if cell["cell_type"] == "code"]


def is_the_settings(source: str) -> bool:
    return "profile = choose_profile()" in source


def names_with_numbers(source: str) -> set[str]:
    """The names that a cell sets to something with a number in it."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(part, ast.Constant) and isinstance(part.value, int | float) for part in ast.walk(node.value)
        ):
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def test_every_notebook_and_every_number_of_its_settings_has_another_value_here():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")) == sorted(CHANGES)
    for name, changes in CHANGES.items():
        [settings] = [source for _, source in code_of(name) if is_the_settings(source)]
        assert names_with_numbers(settings) == names_with_numbers(changes), name


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_with_other_numbers_a_notebook_runs_to_its_end_or_names_the_setting(name, tmp_path):
    cells = []
    for number, source in code_of(name):
        cells.append((number, source))
        if is_the_settings(source):
            cells.append((number, CHANGES[name]))
    folder = tmp_path / "notebooks"  # notebook 04 writes beside it
    folder.mkdir()
    (folder / "pictures").symlink_to(ROOT / "notebooks" / "pictures")  # the schematics
    environment = os.environ | dict(
        PYTHONPATH=str(ROOT),
        MPLBACKEND="agg",
        DDPM_PROGRESS="",
        DDPM_PROFILE="cpu",
        IPYTHONDIR=str(tmp_path / "ipython"),
    )
    command = [sys.executable, "-c", RUNNER]
    options = dict(input=json.dumps(cells), cwd=folder, env=environment, text=True, capture_output=True, timeout=900)
    result = subprocess.run(command, **options)
    assert result.returncode == 0, result.stderr
    settings = names_with_numbers(CHANGES[name])
    for number, kind, message in json.loads(result.stdout.splitlines()[-1]):
        is_named = kind == "AssertionError" and any(setting in message for setting in settings)
        assert is_named, f"cell {number}: {kind}: {message}"
