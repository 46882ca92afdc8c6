"""``gradescope/LEARNER.json``: what Gradescope reads as ``results.json`` of an autograder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engineroom.exercises.model import Lesson
from engineroom.grading.gradebook import Gradebook, Row
from engineroom.grading.sheets import number
from engineroom.grading.words import UNGRADED, Said, bare, said


def gradescope_json(book: Gradebook, row: Row, lessons: Mapping[str, Lesson]) -> str:
    """One learner's results. Everything in it is plain text, so nothing of theirs is markup."""
    of_lesson = ", ".join(book.by_lesson) or "no lesson"
    words = {
        "graded": f"{number(row.points)} of {number(row.max_points)} points in {of_lesson}.",
        "ungraded": f"Not graded. {UNGRADED}",
    }.get(row.status, row.reason)
    result: dict[str, Any] = {
        "score": _exact(row.points),
        "output": words,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"status": row.status, "max_points": _exact(row.max_points)},
        "tests": [_test(exercise) for exercise in said(row, book.exercises, lessons)],
    }
    return json.dumps(result, indent=1, ensure_ascii=False) + "\n"


def _test(exercise: Said) -> dict[str, Any]:
    return {
        "name": exercise.exercise,
        "name_format": "text",
        "number": exercise.number,
        "score": _exact(exercise.points),
        "max_score": _exact(exercise.max_points),
        "status": "passed" if exercise.passed else "failed",
        "output": _output(exercise),
        "output_format": "text",
        "tags": [exercise.lesson, exercise.status],
        "visibility": "visible",
    }


def _output(exercise: Said) -> str:
    """The sentence, what its code means, and what to do next, a paragraph each."""
    code = f"{exercise.code}: {exercise.meaning}" if exercise.meaning else exercise.code
    said = (exercise.message or exercise.word, code, " ".join(exercise.advice))
    return "\n\n".join(bare(part) for part in said if part)


def _exact(points: float) -> int | float:
    """Points as a person would write them: 3, not 3.0."""
    return int(points) if points == int(points) else round(points, 4)
