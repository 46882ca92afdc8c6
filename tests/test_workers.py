"""A worker is a process of its own, forked from one whose loop is running."""

from __future__ import annotations

import os

from engineroom.exercises.tools import Worker


async def test_a_worker_says_how_its_work_ended_and_lives_on_until_it_is_ended() -> None:
    here = os.getpid()

    async def fine() -> None:
        assert os.getpid() != here

    async def broken() -> None:
        raise ValueError("a storm")

    workers = [Worker(fine), Worker(broken)]
    assert [await worker.result() for worker in workers] == ["done", "ValueError: a storm"]
    os.kill(workers[0]._pid, 0)  # it is still there: else this raises
    for worker in workers:
        worker.end()


async def test_a_worker_that_never_comes_to_an_end_can_be_ended() -> None:
    async def forever() -> None:
        while True:
            pass

    worker = Worker(forever)
    worker.end()
