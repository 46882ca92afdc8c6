"""The same work on the workers of a Dask scheduler: plain data out, plain data back.

Each worker process has a grader of its own, made at its first submission: its own warm parent in
its own sandbox, and the lab of the machine that it runs on. Workers may come and go; what a lost
one was grading is graded by another.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from typing import Any, Self

from engineroom.errors import EngineRoomError
from engineroom.grading.grader import Grader, Work
from engineroom.grading.journal import course_version
from engineroom.grading.results import Line

_RETRIES = 5
_ROUNDS = 5
"""Dask blames work for the loss of its workers when it has lost some; here it is asked anew."""
_PATIENCE = 30


class Cluster:
    """A scheduler's workers as graders. TLS is as Dask's own configuration has it."""

    WAITING = 256
    """So many submissions at least are at the scheduler, so that it sees how much is left to do:
    workers that join find some, and a cluster that grows by itself knows to grow."""

    def __init__(self, address: str, sandbox: str, seconds: float | None) -> None:
        self._address = address
        self._how = (sandbox, seconds)
        self._client: Any = None

    async def __aenter__(self) -> Self:
        try:
            from distributed import Client
        except ImportError:
            raise EngineRoomError(
                "Grading on a cluster needs Dask, which is not installed.",
                "pip install 'engine-room[cluster]'",
            ) from None
        # That a worker was lost, and its work is done again, is nothing to warn anybody of.
        logging.getLogger("distributed.client").setLevel(logging.ERROR)
        make: Any = Client
        try:
            self._client = make(self._address, asynchronous=True, timeout=10)
            await self._client
        except Exception as error:  # of its many kinds; a wrong certificate is a TypeError
            with contextlib.suppress(Exception):
                await self._client.close()
            why = str(error).split("\n")[0] or type(error).__name__
            raise EngineRoomError(
                f"No Dask scheduler answers at {self._address}: {why.rstrip('.')}.",
                "dask scheduler, then dask worker ADDRESS; and --cluster ADDRESS",
            ) from error
        try:
            await self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            await self._client.close()
            raise EngineRoomError(
                f"The scheduler at {self._address} has no workers.",
                f"dask worker {self._address}",
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def describe(self) -> str:
        """How many workers there are now; more may come."""
        workers = len(self._client.scheduler_info()["workers"])
        return f"{workers} worker{'s' * (workers != 1)} of {self._address}"

    async def grade(self, work: Work) -> list[Line]:
        from distributed import KilledWorker

        try:
            for _ in range(1, _ROUNDS):
                with contextlib.suppress(KilledWorker):
                    return await self._once(work)
            return await self._once(work)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            why = f"Grading failed on the cluster: {type(error).__name__}: {error}".split("\n")[0]
            return [Line.trouble(work.learner, "ungraded", why, work.attempt)]

    async def _once(self, work: Work) -> list[Line]:
        course = _course(work.exercises)
        future = self._client.submit(
            grade_on_worker, work.plain(), course, *self._how, pure=False, retries=_RETRIES
        )
        return [Line.model_validate(line) for line in await future]


# As it was when its checks were imported; and to read them all at each submission takes time.
_course = functools.cache(course_version)


class _Station:
    """A grader with an event loop of its own, beside the worker's threads."""

    def __init__(self, grader: Grader) -> None:
        self.grader = grader
        self.loop = asyncio.new_event_loop()
        # What bubblewrap is told to die with is the thread that starts it: so this one stays.
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.run(grader.__aenter__())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


_stations: dict[tuple[Any, ...], _Station] = {}
_making = threading.Lock()


def grade_on_worker(
    work: dict[str, Any], course: str, sandbox: str, seconds: float | None
) -> list[dict[str, Any]]:
    """What a worker is sent: one submission, and which version of the course it is for."""
    own = Work.from_plain(work)
    if _course(own.exercises) != course:
        raise RuntimeError("this worker has another version of the course")
    key = (own.exercises, sandbox, seconds)
    with _making:
        if key not in _stations:
            _stations[key] = _Station(Grader(sandbox, own.exercises, seconds))
    station = _stations[key]
    lines = station.run(station.grader.grade(own))
    return [line.model_dump() for line in lines]
