"""Other numbers for the notebooks' settings: in the browser each runs with these, in about a minute.

So one run shows two things, that a notebook works in JupyterLab, and that each number among its settings may be another
one. Where that leaves too little training, its demands fail in words that name a setting. `make nbval` runs the
notebooks as they are.
"""

import ast
from pathlib import Path

import nbformat

# All numbers of a notebook are other ones. The first training, which the tests stop on the way, takes some seconds.
SETTINGS = {
    "01_sampling_from_a_gaussian": "num_timesteps, num_points = 100, 1000",
    "02_the_forward_process": "num_timesteps, num_copies = 500, 5000",
    "03_the_noise_predictor": "num_iterations, batch_size = 30, 16",
    "04_training": (
        "num_timesteps, channels, batch_size, learning_rate = 100, (8, 16), 48, 1e-3\n"
        "num_iterations, first_iterations, clinic_iterations = 400, 10, 10"
    ),
    "05_text_conditioning": (
        "channels, num_iterations, learning_rate = (8, 16), 400, 1e-3\n"
        "batch_size, text_dim, guidance_scale = 24, 48, 1.0\n"
        "schedule = NoiseSchedule(linear_betas(100, 1e-3, 0.2)).to(profile.device)"
    ),
    "06_sampling_faster_and_freer": "num_prompts, num_digits = 4, 20",
    "07_pictures_and_words": (
        "num_iterations, batch_size, learning_rate, augmentation = 60, 64, 1e-3, 0.0\n"
        "scene_iterations, num_on_map = 5, 200"
    ),
    "08_stable_diffusion": (
        "num_names, num_iterations, batch_size, learning_rate = 9, 300, 16, 1e-3\ntiny_iterations, num_prompts = 20, 4"
    ),
    "09_imagen_and_dalle_2": (
        "num_names, num_iterations, batch_size, learning_rate = 9, 300, 16, 1e-3\nprior_iterations, num_judged = 10, 8"
    ),
}


def settings_of(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell with the settings."""
    [cell] = [cell for cell in notebook.cells if "profile = choose_profile()" in cell.source]
    return cell


def names_with_numbers(source: str) -> set[str]:
    """The names that a cell sets to something with a number in it."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(part, ast.Constant) and isinstance(part.value, int | float) for part in ast.walk(node.value)
        ):
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def change_settings(path: Path) -> None:
    """Gives the settings of a notebook their other numbers."""
    notebook = nbformat.read(path, 4)
    settings_of(notebook).source += "\n" + SETTINGS[path.stem]
    nbformat.write(notebook, path)


def names_a_setting(error: str, name: str) -> bool:
    """Whether an error of the kernel is a demand of the notebook that names the setting to change."""
    message = error.rpartition("AssertionError: ")[2]
    return message != error and any(setting in message for setting in names_with_numbers(SETTINGS[name]))
