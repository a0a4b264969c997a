"""The exercises of the course, by notebook: the answer, likely bugs, examiner and help of each in one place.

compare.py has the examiner that most of them share, draws.py and loops.py those of answers that draw random numbers,
leap.py the bugs that three of them share.
"""

from ddpm_core.course.exercises import (
    notebook_01,
    notebook_02,
    notebook_03,
    notebook_04,
    notebook_05,
    notebook_06,
    notebook_07,
    notebook_08,
    notebook_09,
)
from ddpm_core.course.exercises.compare import Exercise

NOTEBOOKS = (
    *(notebook_01, notebook_02, notebook_03, notebook_04, notebook_05),
    *(notebook_06, notebook_07, notebook_08, notebook_09),
)

EXERCISES: dict[str, Exercise] = {exercise.name: exercise for notebook in NOTEBOOKS for exercise in notebook.EXERCISES}
