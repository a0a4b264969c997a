"""The exercises of the course, a file per notebook: the answer, likely bugs, examiner and help of each in one place."""

from ddpm_core.course.exercises import notebook_01, notebook_02, notebook_03, notebook_04, notebook_05
from ddpm_core.course.exercises.compare import Exercise

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for notebook in (notebook_01, notebook_02, notebook_03, notebook_04, notebook_05)
    for exercise in notebook.EXERCISES
}
