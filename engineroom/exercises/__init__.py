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


def _open_court() -> None:
    from engineroom.exercises.notebook import open_court

    open_court()


watch(afterwards=_open_court)
