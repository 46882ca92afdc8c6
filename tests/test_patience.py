"""The time limit of an answer, on a machine that has time and on one that has not."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from judging import EXERCISES
from lab_helpers import eventually, needs_linux

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.patience import crowd, fair_timeout
from engineroom.exercises.sources import Cell


async def lasts(seconds: float, limit: float, crowded: float) -> bool:
    """Whether something that takes so long is let come to its end."""
    try:
        async with fair_timeout(limit, lambda: crowded):
            await asyncio.sleep(seconds)
    except TimeoutError:
        return False
    return True


# None of the outcomes is near its limit, so that a late machine changes none of them.
def test_a_crowd_makes_seconds_longer() -> None:
    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(lasts(3, 2, crowded) for crowded in (0, 1, 4, 16, 1000)))

    assert asyncio.run(all_of_them()) == [False, False, False, True, True]


def test_what_is_done_in_time_is_done() -> None:
    assert asyncio.run(lasts(0, limit=60, crowded=0))
    assert asyncio.run(lasts(0, limit=60, crowded=1000))


def test_no_crowd_makes_them_endless() -> None:
    assert not asyncio.run(asyncio.wait_for(lasts(3600, limit=0.1, crowded=math.inf), 30))


def test_a_limit_that_was_late_itself() -> None:
    """The whole process was kept waiting past its limit: that counts for little, too."""

    async def late() -> str:
        async with fair_timeout(1.6, lambda: 1000):
            await asyncio.sleep(0.6)  # between two looks
            time.sleep(2.4)  # noqa: ASYNC251 - a loop that gets no turn, as on a busy machine
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            return "came to its end"

    assert asyncio.run(late()) == "came to its end"


def test_nothing_is_left_in_the_loop() -> None:
    looks = []

    async def short() -> None:
        async with fair_timeout(0.2, lambda: looks.append(1) or 0.0):
            pass
        with pytest.raises(KeyError):
            async with fair_timeout(0.2, lambda: looks.append(1) or 0.0):
                raise KeyError
        await asyncio.sleep(0.3)

    asyncio.run(short())
    assert looks == []


@contextmanager
def loops(count: int) -> Iterator[None]:
    """So many processes that want to run, and let everybody else go first."""
    program = [sys.executable, "-c", "import os; os.nice(19)\nwhile True: pass"]
    started = [subprocess.Popen(program) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


@needs_linux
def test_loops_are_a_crowd() -> None:
    cores = len(os.sched_getaffinity(0))
    with loops(6 * cores):
        eventually(lambda: crowd() >= 6, "so many loops are seen")


@needs_linux
async def test_an_answer_has_longer_in_a_crowd() -> None:
    bench = Bench(seconds=2)
    answer = Cell(1, "import time\ntime.sleep(3)\ndef masked(url):\n    return url")
    try:
        with loops(20 * len(os.sched_getaffinity(0))):
            eventually(lambda: crowd() >= 16, "so many loops are seen")
            verdict = await judge(bench, EXERCISES["urls.masked"], [answer])
    finally:
        await bench.close()
    assert verdict.status == "failed", verdict.message
