"""Judge every known answer many times, asked anew each time: what luck decides comes to light.

Tests and ``engineroom verify`` ask an answer the same each time, so that they find tomorrow what
they found today. A learner is asked anew: a wrong answer that passes one time in thirty is a wrong
mark for somebody, and so is a right one that fails. Run by ``make chance``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE, Exercise, Verdict, program_text
from engineroom.exercises.sources import Cell
from engineroom.exercises.subject import Nursery

TESTS = Path(__file__).resolve().parent.parent / "tests"


class Known(NamedTuple):
    """An answer, and what is known of it."""

    exercise: Exercise
    what: str
    program: str
    code: str | None
    """What a slip is told; empty for any wrong answer, None for a right one."""

    def is_judged_as(self, verdict: Verdict) -> bool:
        if self.code is None:
            return verdict.status == "passed"
        if self.code:
            return (verdict.status, verdict.code) == ("failed", self.code)
        return verdict.status in ("failed", "error")


def known_answers(asked: list[str]) -> Iterator[Known]:
    sys.path.insert(0, str(TESTS))
    wrong: dict[str, list[str]] = {}
    for module in iter_modules([str(TESTS / "wrong_answers")]):
        wrong |= import_module(f"wrong_answers.{module.name}").WRONG
    for lesson in known_lessons().values():
        for exercise in lesson.exercises.values():
            if asked and lesson.name not in asked and exercise.id not in asked:
                continue
            for n, program in enumerate(exercise.right):
                yield Known(exercise, f"{exercise.id}: right answer {n + 1}", program, None)
            for slip in exercise.slips:
                for n, program in enumerate(slip.programs):
                    what = f"{exercise.id}: slip {slip.name}, spelling {n + 1}"
                    yield Known(exercise, what, program, slip.code)
            for n, program in enumerate(wrong.get(exercise.id, ())):
                yield Known(exercise, f"{exercise.id}: wrong answer {n} of the tests", program, "")


async def ask(known: list[Known], times: int, jobs: int) -> dict[str, Counter[str]]:
    """What each was told that was not judged as it should be."""
    found: dict[str, Counter[str]] = {}
    waiting = [one for _ in range(times) for one in known]
    total, nursery = len(waiting), Nursery()
    waiting.reverse()

    async def work() -> None:
        bench = Bench(nursery)
        while waiting:
            one = waiting.pop()
            if len(waiting) % 20 == 0 and sys.stderr.isatty():
                print(f"\r{total - len(waiting)} of {total}", end="", file=sys.stderr, flush=True)
            cells = [Cell(1, PRELUDE), Cell(2, program_text(one.program))]
            verdict = await judge(bench, one.exercise, cells)
            if not one.is_judged_as(verdict):
                told = f"{verdict.status} {verdict.code} {verdict.message}".strip()
                found.setdefault(one.what, Counter())[told] += 1
        await bench.leave()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(work())
    finally:
        await nursery.close()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("asked", nargs="*", metavar="LESSON", help="or an exercise; else all")
    arguments.add_argument("--times", type=int, default=10)
    arguments.add_argument("--jobs", type=int, default=4)
    given = arguments.parse_args()
    known = list(known_answers(given.asked))
    if not known:
        sys.exit(f"no answer of {', '.join(given.asked)} is known")
    found = asyncio.run(ask(known, given.times, given.jobs))
    for what, told in found.items():
        for words, count in told.items():
            print(f"{what}, {count} of {given.times} times: {words}")
    print(f"{len(known)} answers, {given.times} times each: {len(found)} are left to chance")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
