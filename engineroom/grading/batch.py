"""A batch: every submission graded, several at a time, each result written as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Lesson
from engineroom.grading.grader import Work
from engineroom.grading.journal import Journal, course_version
from engineroom.grading.reading import Reading, Submission
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
    known = known_lessons()
    found: set[str] = set()
    for submission in submissions:
        found |= submission.reading(known).lessons  # and it is forgotten again
        if len(found) == len(known):
            break
    return [name for name in known if name in found]


async def grade_batch(
    batch: Batch, chosen: Sequence[Submission], out: Path, grade: Grade, tell: Tell, jobs: int,
    *, resume: bool, keep: bool,
) -> dict[str, tuple[str, ...]]:  # fmt: skip
    """Grade ``chosen`` of a batch into ``out``; what is worth a remark, by learner.

    ``resume`` leaves out what was graded before; ``keep`` only keeps it.
    """
    with Journal(out, course_version(batch.exercises), go_on=resume or keep) as journal:
        waiting = iter(chosen)

        async def work() -> None:
            for submission in waiting:  # one iterator for all: each takes the next
                digest = await asyncio.to_thread(submission.digest)
                lines: list[Line] = []
                if not (resume and journal.is_done(submission.learner, digest)):
                    attempt = journal.next_attempt(submission.learner)
                    reading = await asyncio.to_thread(submission.reading, batch.known)
                    lines = await _lines(submission.learner, reading, batch, attempt, grade)
                    journal.add(submission.learner, digest, attempt, lines, reading.remarks)
                tell(lines)

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(jobs, len(chosen))):
                workers.create_task(work())
        return {s.learner: journal.remarks[s.learner] for s in chosen}


async def _lines(
    learner: str, reading: Reading, batch: Batch, attempt: int, grade: Grade
) -> list[Line]:
    trouble = reading.trouble_for(batch.lessons)
    if trouble:
        return [Line.trouble(learner, "unreadable", trouble, attempt)]
    return await grade(Work(learner, attempt, batch.exercises, reading))
