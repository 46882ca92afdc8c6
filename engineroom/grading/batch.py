"""A batch: every submission graded, several at a time, each result written as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Lesson
from engineroom.grading.grader import Work
from engineroom.grading.journal import Journal, course_version
from engineroom.grading.reading import Submission, UnreadableError
from engineroom.grading.results import Line

Grade = Callable[[Work], Awaitable[list[Line]]]
Tell = Callable[[list[Line]], None]


@dataclass(frozen=True)
class Batch:
    """What is to be graded, and for what."""

    submissions: tuple[Submission, ...]
    lessons: tuple[str, ...]

    @cached_property
    def known(self) -> dict[str, Lesson]:
        """Every lesson of this version, looked for once a batch."""
        return known_lessons()

    @cached_property
    def exercises(self) -> tuple[str, ...]:
        return tuple(e.id for name in self.lessons for e in self.known[name].exercises.values())


def lessons_that_occur(submissions: Iterable[Submission]) -> list[str]:
    """What a batch is about, when nobody said: every lesson of which it has a notebook."""
    known = set(known_lessons())
    found: set[str] = set()
    for submission in submissions:
        try:
            found |= {notebook.lesson(known) or "" for notebook in submission.read()}
        except UnreadableError:
            continue  # it gets its line when it is graded
    return [name for name in known_lessons() if name in found]


async def grade_batch(
    batch: Batch, chosen: Iterable[Submission], out: Path, grade: Grade, tell: Tell, jobs: int,
    *, resume: bool, keep: bool,
) -> None:  # fmt: skip
    """Grade ``chosen`` of a batch into ``out``.

    ``resume`` leaves out what was graded before; ``keep`` only keeps it.
    """
    with Journal(out, course_version(batch.exercises), go_on=resume or keep) as journal:
        waiting = iter(chosen)

        async def work() -> None:
            for submission in waiting:  # one iterator for all: each takes the next
                digest = await asyncio.to_thread(submission.digest)
                if resume and journal.is_done(submission.learner, digest):
                    continue
                attempt = journal.next_attempt(submission.learner)
                lines = await _lines(submission, batch, attempt, grade)
                journal.add(submission.learner, digest, attempt, lines)
                tell(lines)

        async with asyncio.TaskGroup() as workers:
            for _ in range(jobs):
                workers.create_task(work())


async def _lines(submission: Submission, batch: Batch, attempt: int, grade: Grade) -> list[Line]:
    try:
        notebooks = await asyncio.to_thread(submission.read)
    except UnreadableError as error:
        return [Line.trouble(submission.learner, "unreadable", str(error), attempt)]
    known = set(batch.known)
    plain = tuple(
        {
            "lesson": notebook.lesson(known),
            "cells": [[cell.number, cell.source, cell.exercise] for cell in notebook.cells],
        }
        for notebook in notebooks
    )
    return await grade(Work(submission.learner, attempt, batch.exercises, plain))
