"""A batch: every learner's exercises judged, each result written as it comes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.model import Exercise, Lesson, Verdict
from engineroom.grading.reading import Submission


async def grade(
    submissions: list[Submission],
    lessons: dict[str, Lesson],
    asked: list[str],
    out: Path,
    tell: Callable[[Submission], None],
) -> bool:
    """Grade them all into ``out``; False when some could not be graded."""
    counted = asked or sorted(_occurring(submissions, lessons))
    exercises = [e for name in counted for e in lessons[name].exercises.values()]
    bench = Bench()
    rows = []
    try:
        with open(out / "results.jsonl", "w") as results:
            for submission in submissions:
                verdicts = await _judge_all(bench, submission, exercises, set(lessons))
                for line in _lines(submission, verdicts):
                    results.write(json.dumps(line, ensure_ascii=False) + "\n")
                    results.flush()
                rows.append((submission, {v.exercise: v for v in verdicts}))
                tell(submission)
    finally:
        await bench.close()
    _write_grades(out / "grades.csv", rows, exercises)
    return not any(submission.trouble for submission in submissions)


def _occurring(submissions: Iterable[Submission], lessons: dict[str, Lesson]) -> set[str]:
    found = {n.lesson(set(lessons)) for s in submissions for n in s.notebooks}
    return {name for name in found if name}


async def _judge_all(
    bench: Bench, submission: Submission, exercises: list[Exercise], lessons: set[str]
) -> list[Verdict]:
    if submission.trouble:
        return []
    verdicts = []
    for exercise in exercises:
        # A lesson's answers are looked for in that lesson's notebook, so that a name used in
        # two lessons is not mistaken.
        cells = [
            cell
            for notebook in submission.notebooks
            if notebook.lesson(lessons) in (exercise.lesson, None)
            for cell in notebook.cells
        ]
        seed = f"{submission.learner}/{exercise.id}"
        verdicts.append(await judge(bench, exercise, cells, seed))
    return verdicts


def _lines(submission: Submission, verdicts: list[Verdict]) -> Iterable[dict[str, Any]]:
    if submission.trouble:
        yield {
            "learner": submission.learner,
            "lesson": "",
            "exercise": "",
            "status": "unreadable",
            "points": 0,
            "max_points": 0,
            "message": submission.trouble,
            "code": "",
            "slip": None,
            "seconds": 0,
            "attempt": 1,
        }
    for verdict in verdicts:
        yield {
            "learner": submission.learner,
            "lesson": verdict.lesson,
            "exercise": verdict.exercise,
            "status": verdict.status,
            "points": verdict.points,
            "max_points": verdict.max_points,
            "message": verdict.message,
            "code": verdict.code,
            "slip": verdict.slip,
            "seconds": verdict.seconds,
            "attempt": 1,
        }


def _write_grades(
    path: Path,
    rows: list[tuple[Submission, dict[str, Verdict]]],
    exercises: list[Exercise],
) -> None:
    most = sum(exercise.points for exercise in exercises)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["learner", "status", "points", "max_points", "percent", *(e.id for e in exercises)]
        )
        for submission, verdicts in rows:
            points = sum(verdict.points for verdict in verdicts.values())
            table.writerow(
                [
                    submission.learner,
                    "unreadable" if submission.trouble else "graded",
                    f"{points:g}",
                    f"{most:g}",
                    f"{100 * points / most:.1f}" if most else "",
                    *(f"{verdicts[e.id].points:g}" if e.id in verdicts else "" for e in exercises),
                ]
            )
