"""Judge programs as answers, as a notebook would, in one lab for a module of tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from lab_helpers import Lab

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE, Verdict, program_text
from engineroom.exercises.sources import Cell

EXERCISES = {e.id: e for lesson in known_lessons().values() for e in lesson.exercises.values()}

Judge = Callable[..., Awaitable[Verdict]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(common_lab: Lab) -> AsyncIterator[Bench]:
    before = dict(os.environ)
    os.environ |= common_lab.env
    made = Bench()
    yield made
    await made.close()
    os.environ.clear()
    os.environ |= before


@pytest.fixture
def verdict_of(bench: Bench) -> Judge:
    """Judge a program as an answer, the usual import in a cell of its own before it.

    It is asked the same each time; ``make chance`` asks anew.
    """

    async def run(identifier: str, program: str, seed: Any = None) -> Verdict:
        cells = [Cell(1, PRELUDE), Cell(2, program_text(program))]
        return await judge(bench, EXERCISES[identifier], cells, seed or program)

    return run
