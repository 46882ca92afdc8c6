"""The vocabulary that lessons' checks are written in."""

from engineroom.exercises.cells import watch
from engineroom.exercises.model import (
    Draw,
    Exercise,
    Failure,
    Lesson,
    Objective,
    Outcome,
    Slip,
    Trial,
    Verdict,
    expect,
)

__all__ = [
    "Draw",
    "Exercise",
    "Failure",
    "Lesson",
    "Objective",
    "Outcome",
    "Slip",
    "Trial",
    "Verdict",
    "expect",
]

watch()
