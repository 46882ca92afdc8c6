"""Classes of learners to grade, the command that does it, and the marks that come of it."""

from __future__ import annotations

import json
import os
import random
from functools import cache
from pathlib import Path

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE
from engineroom.grading.sandbox import NoSandboxError, find_sandbox

SEED = int(os.environ.get("SEED") or random.randrange(10**6))  # noqa: S311
LESSON = "install"  # it needs no server, so what is tested here is the batch itself


@cache
def sandbox() -> str:
    """The one that is here; each of these tests means the same without."""
    try:
        shell = find_sandbox("auto")
    except NoSandboxError:
        return "none"
    assert shell is not None
    shell.close()
    return "auto"


def notebook(*sources: str) -> str:
    cells = [
        {
            "cell_type": "code",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for source in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def programs(lesson: str, count: int, draw: random.Random) -> list[str]:
    """Right and wrong answers to ``count`` exercises of a lesson."""
    exercises = list(known_lessons()[lesson].exercises.values())
    found = [PRELUDE]
    for exercise in exercises[:count]:
        slips = [program for slip in exercise.slips for program in slip.programs]
        found.append(draw.choice([*exercise.right, *slips]))
    return found


def make_class(folder: Path, size: int, lesson: str = LESSON, answered: int = 1) -> Path:
    draw = random.Random(SEED)  # noqa: S311
    folder.mkdir()
    for number in range(size):
        text = notebook(f"from checks import {lesson}", *programs(lesson, answered, draw))
        (folder / f"learner{number:03}.ipynb").write_text(text)
    return folder


def words(folder: Path, out: Path, *more: str, lesson: str = LESSON) -> list[str]:
    return [
        *("grade", str(folder), "--out", str(out), "--lesson", lesson),
        *("--sandbox", sandbox(), *more),
    ]


def marks(out: Path) -> bytes:
    return (out / "grades.csv").read_bytes()
