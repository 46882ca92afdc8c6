"""A worker is a process of its own, forked from one whose loop is running."""

from __future__ import annotations

import os

import psutil

from engineroom.exercises.tools import Worker


async def test_a_worker_says_how_its_work_ended_and_lives_on_until_it_is_ended() -> None:
    here = os.getpid()

    async def fine() -> None:
        assert os.getpid() != here

    async def broken() -> None:
        raise ValueError("a storm")

    workers = [Worker(fine), Worker(broken)]
    assert [await worker.result() for worker in workers] == ["done", "ValueError: a storm"]
    for worker in workers:
        assert psutil.Process(worker._pid).status() != psutil.STATUS_ZOMBIE
        worker.end()


async def test_a_worker_that_never_comes_to_an_end_can_be_ended() -> None:
    async def forever() -> None:
        while True:
            pass

    worker = Worker(forever)
    worker.end()
