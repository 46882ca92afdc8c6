"""What a class found hard, in figures: who is graded, which exercises, which slips, how long."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engineroom.exercises.model import Lesson
from engineroom.grading.gradebook import Counted, Gradebook, Row
from engineroom.grading.results import Line
from engineroom.grading.words import meaning

_TROUBLE = ("error", "timed_out", "out_of_memory", "crashed")


@dataclass(frozen=True)
class Bin:
    """Learners whose percentage lies in one tenth."""

    label: str
    count: int
    share: float
    """Of the tallest bin, for its picture."""


@dataclass(frozen=True)
class Difficulty:
    """How one exercise went."""

    exercise: str
    title: str
    points: float
    judged: int
    passed: int
    failed: int
    trouble: int
    not_attempted: int
    seconds: float | None
    """The median of those who tried."""
    slowest: float | None

    def share(self, count: int) -> float:
        return 100 * count / self.judged if self.judged else 0.0

    @property
    def success(self) -> float:
        return self.share(self.passed)


@dataclass(frozen=True)
class Mistake:
    """A slip, or a code that no slip owns, and how often it was seen."""

    exercise: str
    slip: str
    code: str
    count: int
    tried: int
    """How many tried the exercise."""
    text: str
    """The sentence that its author read; of a code, what it means."""

    @property
    def share(self) -> float:
        return 100 * self.count / self.tried if self.tried else 0.0


@dataclass(frozen=True)
class Overview:
    """A class at a glance."""

    graded: int
    trouble: tuple[Row, ...]
    strangers: tuple[Row, ...]
    """Submissions of nobody on the roster."""
    mean: float | None
    median: float | None
    bins: tuple[Bin, ...]
    difficulties: tuple[Difficulty, ...]
    slips: tuple[Mistake, ...]
    codes: tuple[Mistake, ...]
    seconds: float
    """What judging took, added up over everybody."""

    @classmethod
    def of(cls, book: Gradebook, lessons: Mapping[str, Lesson]) -> Overview:
        graded = [row for row in book.rows if row.status == "graded"]
        percents = [row.percent for row in graded]
        lines = [line for row in book.rows for line in row.lines.values()]
        by_exercise: dict[str, list[Line]] = {exercise.id: [] for exercise in book.exercises}
        for line in lines:
            by_exercise[line.exercise].append(line)
        tried = {
            name: sum(line.status != "not_attempted" for line in found)
            for name, found in by_exercise.items()
        }
        return cls(
            graded=len(graded),
            trouble=tuple(row for row in book.rows if row.status != "graded"),
            strangers=tuple(row for row in book.rows if book.has_roster and row.person is None),
            mean=statistics.fmean(percents) if percents else None,
            median=statistics.median(percents) if percents else None,
            bins=_bins(percents),
            difficulties=tuple(_difficulty(e, by_exercise[e.id], lessons) for e in book.exercises),
            slips=_slips(lines, tried, lessons),
            codes=_codes(lines, tried, lessons),
            seconds=sum(line.seconds for line in lines),
        )


def _bins(percents: list[float]) -> tuple[Bin, ...]:
    # A hair is added so that 30 % is in the thirties, however it came out of a division.
    counts = Counter(min(int((percent + 1e-9) // 10), 9) for percent in percents)
    tallest = max(counts.values(), default=0)
    return tuple(
        Bin(
            f"{10 * tenth}–{10 * tenth + 9 if tenth < 9 else 100}",  # noqa: RUF001
            counts[tenth],
            100 * counts[tenth] / tallest if tallest else 0.0,
        )
        for tenth in range(10)
    )


def _difficulty(exercise: Counted, lines: list[Line], lessons: Mapping[str, Lesson]) -> Difficulty:
    by_status = Counter[str](line.status for line in lines)
    times = [line.seconds for line in lines if line.status != "not_attempted"]
    lesson = lessons.get(exercise.lesson)
    return Difficulty(
        exercise=exercise.id,
        title=lesson.title if lesson else exercise.lesson,
        points=exercise.points,
        judged=len(lines),
        passed=by_status["passed"],
        failed=by_status["failed"],
        trouble=sum(by_status[status] for status in _TROUBLE),
        not_attempted=by_status["not_attempted"],
        seconds=statistics.median(times) if times else None,
        slowest=max(times, default=None),
    )


def _slips(
    lines: list[Line], tried: Mapping[str, int], lessons: Mapping[str, Lesson]
) -> tuple[Mistake, ...]:
    counts = Counter((line.exercise, line.slip, line.code) for line in lines if line.slip)
    return _by_count(
        Mistake(
            exercise, slip or "", code, count, tried[exercise], _sentence(lessons, exercise, slip)
        )
        for (exercise, slip, code), count in counts.items()
    )


def _codes(
    lines: list[Line], tried: Mapping[str, int], lessons: Mapping[str, Lesson]
) -> tuple[Mistake, ...]:
    counts = Counter(
        (line.exercise, line.code) for line in lines if line.code and line.slip is None
    )
    return _by_count(
        Mistake(
            exercise,
            "",
            code,
            count,
            tried[exercise],
            meaning(lessons.get(exercise.partition(".")[0]), code),
        )
        for (exercise, code), count in counts.items()
    )


def _by_count(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    return tuple(sorted(mistakes, key=lambda m: (-m.count, m.exercise, m.code, m.slip)))


def _sentence(lessons: Mapping[str, Lesson], exercise: str, name: str | None) -> str:
    """What a slip's author reads; nothing where this version has another exercise."""
    lesson, _, short = exercise.partition(".")
    known = lessons[lesson].exercises.get(short) if lesson in lessons else None
    return next((slip.sentence for slip in known.slips if slip.name == name), "") if known else ""
