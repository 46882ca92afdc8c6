"""Where a learner stands: by lesson, and by the skills that passed exercises speak for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engineroom.exercises.model import Lesson
from engineroom.exercises.progress import Record


@dataclass(frozen=True)
class Share:
    """So many of so many, in exercises and in points."""

    name: str
    done: int
    total: int
    points: float
    most: float


@dataclass(frozen=True)
class Standing:
    lessons: tuple[Share, ...]
    skills: tuple[Share, ...]


def standing(lessons: Mapping[str, Lesson], records: Iterable[Record]) -> Standing:
    """Count what is passed; an exercise counts for each skill that it measures."""
    passed = {record.exercise: record.points for record in records if record.passed_at}
    by_lesson, by_skill = [], dict[str, list[tuple[bool, float, float]]]()
    for lesson in lessons.values():
        rows = []
        skills = {objective.id: objective.skill for objective in lesson.objectives}
        for exercise in lesson.exercises.values():
            row = (exercise.id in passed, passed.get(exercise.id, 0.0), exercise.points)
            rows.append(row)
            for skill in dict.fromkeys(skills[o] for o in exercise.measures if o in skills):
                by_skill.setdefault(skill, []).append(row)
        by_lesson.append(_share(lesson.name, rows))
    return Standing(tuple(by_lesson), tuple(_share(*pair) for pair in by_skill.items()))


def _share(name: str, rows: list[tuple[bool, float, float]]) -> Share:
    return Share(
        name,
        sum(done for done, _, _ in rows),
        len(rows),
        sum(points for _, points, _ in rows),
        sum(most for _, _, most in rows),
    )
