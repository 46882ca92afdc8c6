"""The marks of a class, made from the lines of its results. Nothing here is a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from engineroom.exercises.model import Lesson
from engineroom.grading.results import Line, mend_results, read_results
from engineroom.grading.roster import Person, Roster

__all__ = ["Counted", "Gradebook", "Line", "Row", "counted", "mend_results", "read_results"]

RowStatus = Literal["graded", "unreadable", "ungraded", "missing"]


@dataclass(frozen=True)
class Counted:
    """An exercise that counts, and for how much."""

    id: str
    points: float

    @property
    def lesson(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]


def counted(lessons: Mapping[str, Lesson], names: Iterable[str]) -> tuple[Counted, ...]:
    """Every exercise of these lessons, in their order."""
    return tuple(
        Counted(e.id, e.points) for name in names for e in lessons[name].exercises.values()
    )


@dataclass(frozen=True)
class Row:
    """One learner: what came of each exercise, and of all."""

    learner: str
    status: RowStatus
    lines: Mapping[str, Line]
    """The line that counts, by exercise."""
    max_points: float
    reason: str = ""
    """Why there are no marks, where there are none."""
    person: Person | None = None

    @cached_property
    def points(self) -> float:
        return math.fsum(line.points for line in self.lines.values())

    @property
    def percent(self) -> float:
        return 100 * self.points / self.max_points if self.max_points else 0.0

    @property
    def name(self) -> str:
        """What a person is called; else what their submission is."""
        return (self.person and self.person.name) or self.learner

    def points_in(self, exercises: Iterable[Counted]) -> float:
        return math.fsum(self.lines[e.id].points for e in exercises if e.id in self.lines)


@dataclass(frozen=True)
class Gradebook:
    """A class: a row for each learner, in an order that depends on their names only."""

    exercises: tuple[Counted, ...]
    rows: tuple[Row, ...]
    missing: tuple[Row, ...] = ()
    """People of the roster who handed nothing in."""
    has_roster: bool = False

    @classmethod
    def of(
        cls,
        lines: Iterable[Line],
        exercises: Iterable[Counted],
        roster: Roster | None = None,
    ) -> Gradebook:
        """The book of these lines, whatever their order: of an exercise the last attempt counts."""
        exercises = tuple(exercises)
        by_learner: dict[str, list[Line]] = {}
        for line in lines:
            by_learner.setdefault(line.learner, []).append(line)
        who = roster.match(by_learner) if roster else {}
        rows = [_row(name, found, exercises, who.get(name)) for name, found in by_learner.items()]
        here = set(who.values())
        most = math.fsum(exercise.points for exercise in exercises)
        missing = [
            Row(person.learner, "missing", {}, most, "Nothing was handed in.", person)
            for person in (roster.people if roster else ())
            if person not in here
        ]
        return cls(
            exercises,
            tuple(sorted(rows, key=_by_name)),
            tuple(sorted(missing, key=_by_name)),
            roster is not None,
        )

    @cached_property
    def max_points(self) -> float:
        return math.fsum(exercise.points for exercise in self.exercises)

    @cached_property
    def by_lesson(self) -> dict[str, tuple[Counted, ...]]:
        found: dict[str, list[Counted]] = {}
        for exercise in self.exercises:
            found.setdefault(exercise.lesson, []).append(exercise)
        return {lesson: tuple(those) for lesson, those in found.items()}

    @property
    def all_graded(self) -> bool:
        """Whether everybody who handed something in has marks: then ``grade`` exits with 0."""
        return all(row.status == "graded" for row in self.rows)


def _by_name(row: Row) -> tuple[str, str]:
    return row.learner.casefold(), row.learner


def _row(
    learner: str, lines: list[Line], exercises: tuple[Counted, ...], person: Person | None
) -> Row:
    ids = [exercise.id for exercise in exercises]
    last: dict[str, Line] = {}
    for line in lines:
        if line.exercise not in last or _rank(line) > _rank(last[line.exercise]):
            last[line.exercise] = line
    trouble = last.pop("", None)
    newest = max((line.attempt for line in last.values()), default=0)
    if trouble is not None and trouble.attempt < newest:
        trouble = None  # it was mended since
    if trouble is not None:
        # What an earlier attempt found was said of something else than what is there now.
        last = {key: line for key, line in last.items() if line.attempt >= trouble.attempt}
    known = {key: last[key] for key in ids if key in last}
    most = math.fsum(exercise.points for exercise in exercises)
    if trouble is not None:
        status: RowStatus = "unreadable" if trouble.status == "unreadable" else "ungraded"
        return Row(learner, status, known, most, trouble.message, person)
    if len(known) < len(ids):
        reason = f"Grading stopped after {len(known)} of {len(ids)} exercises."
        return Row(learner, "ungraded", known, most, reason, person)
    return Row(learner, "graded", known, most, "", person)


def _rank(line: Line) -> tuple[int, float, str]:
    """The later attempt counts; were there two of one number, the better, in any order of lines."""
    return line.attempt, line.points, line.model_dump_json()
