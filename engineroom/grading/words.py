"""What a line of the results says to a person: a word, what its code means, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engineroom.exercises.cards import TONES
from engineroom.exercises.model import Exercise, Lesson
from engineroom.grading.gradebook import Counted, Row
from engineroom.grading.results import Line

STATUSES = tuple(TONES)
"""The statuses of a verdict, the best first."""

ROW_WORDS = {
    "graded": ("Graded", "✓"),
    "unreadable": ("Cannot be read", "!"),
    "ungraded": ("Not graded", "!"),
    "missing": ("Missing", "○"),
}

# Why is the instructor's to know: it may name their machine.
UNGRADED = "That is no fault of yours. Your instructor can grade it again."

_FIRST_LOOK = {
    "error": "Restart the kernel and run all cells: an answer finds only what its notebook "
    "defines.",
    "timed_out": "Look for what never ends: a loop, or an `await` for what does not come.",
    "out_of_memory": "Look for what grows: a list, a cache, rows that are fetched all at once.",
    "crashed": "Look for what ends a process: `exit()`, a signal, somebody else's connection.",
}


@dataclass(frozen=True)
class Said:
    """One exercise of one learner, in words for that learner. No check's source is in reach."""

    exercise: str
    number: str
    """Lesson and exercise, counted from 1."""
    status: str
    word: str
    mark: str
    points: float
    max_points: float
    task: str
    message: str
    code: str
    meaning: str
    advice: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def lesson(self) -> str:
        return self.exercise.partition(".")[0]

    @property
    def name(self) -> str:
        return self.exercise.partition(".")[2]


def said(row: Row, exercises: tuple[Counted, ...], lessons: Mapping[str, Lesson]) -> list[Said]:
    """What there is to say of each exercise that counts and was judged, in its order."""
    places = list(dict.fromkeys(exercise.lesson for exercise in exercises))
    seen: dict[str, int] = {}
    found = []
    for exercise in exercises:
        seen[exercise.lesson] = seen.get(exercise.lesson, 0) + 1
        line = row.lines.get(exercise.id)
        if line is not None:
            number = f"{places.index(exercise.lesson) + 1}.{seen[exercise.lesson]}"
            found.append(_say(line, exercise, number, lessons.get(exercise.lesson)))
    return found


def _say(line: Line, counted: Counted, number: str, lesson: Lesson | None) -> Said:
    exercise = lesson.exercises.get(counted.name) if lesson else None
    word, mark, *_ = TONES[line.status]
    return Said(
        exercise=counted.id,
        number=number,
        status=line.status,
        word=word,
        mark=mark,
        points=line.points,
        max_points=counted.points,
        task=exercise.task if exercise else "",
        message=line.message,
        code=line.code,
        meaning=meaning(lesson, line.code),
        advice=tuple(_advice(line, exercise)),
    )


def meaning(lesson: Lesson | None, code: str) -> str:
    """What a code says, from its lesson's page of codes."""
    return lesson.codes.get(code, "") if lesson else ""


def _advice(line: Line, exercise: Exercise | None) -> list[str]:
    """What to do next. It names the hints and never gives them away."""
    if line.status == "passed" or exercise is None:
        return []
    found = []
    if line.status in _FIRST_LOOK:
        found.append(_FIRST_LOOK[line.status])
    if line.status == "not_attempted":
        found.append(f"Write `{exercise.answer}` in its cell and run it.")
    hints = len(exercise.hints)
    if hints:
        how_many = "one hint" if hints == 1 else f"{hints} hints, one at a time"
        found.append(f"`{exercise.id}.hint()` has {how_many}.")
    found.append(f"Then see for yourself: `{exercise.id}.check()`.")
    return found


def bare(text: str) -> str:
    """Text for a place that knows no code font."""
    return text.replace("`", "")
