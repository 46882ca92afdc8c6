"""How long a learner waits for a verdict, and for `import checks`."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Row, paired, seconds
from benchmarks.servers import home
from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE
from engineroom.exercises.sources import Cell

_ROUNDS = 9


def rows() -> Iterator[Row]:
    """The rows of the budget that name checks."""
    figure, yardstick = paired(
        lambda: seconds(lambda: _python("import checks.pooling, checks.urls")),
        lambda: seconds(lambda: _python("import sqlmodel, sqlalchemy.ext.asyncio")),
        _ROUNDS,
    )
    yield Row(
        "import checks",
        figure,
        "s",
        None,
        "import sqlmodel, sqlalchemy.ext.asyncio",
        yardstick,
        ratio_budget=1.15,
    )
    with home():
        without, with_server = asyncio.run(_verdicts())
    for what, taken, budget in (
        ("a check without a server, slowest", without, 0.15),
        ("a check with a server, slowest", with_server, 1.0),
    ):
        if taken:
            yield Row(what, max(taken), "s", budget, "median of them", statistics.median(taken))


async def _verdicts() -> tuple[list[float], list[float]]:
    """Each exercise's median over its right answers, one warm judge for all."""
    bench = Bench()
    without: list[float] = []
    with_server: list[float] = []
    try:
        for lesson in known_lessons().values():
            for exercise in lesson.exercises.values():
                cells = [Cell(1, PRELUDE), Cell(2, exercise.right[0])]
                await judge(bench, exercise, cells)  # side servers start at their first use
                taken = [(await judge(bench, exercise, cells)).seconds for _ in range(5)]
                (with_server if exercise.needs else without).append(statistics.median(taken))
    finally:
        await bench.close()
    return without, with_server


def _python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)
