"""Grades one submission at a time, as plain data: here, or wherever a worker of a cluster is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import find_exercise
from engineroom.exercises.model import Exercise
from engineroom.exercises.sources import needed
from engineroom.exercises.subject import Nursery
from engineroom.grading.reading import Reading
from engineroom.grading.results import Line
from engineroom.grading.sandbox import Bubblewrap, find_sandbox
from engineroom.lab.session import Lease
from engineroom.witness import Warden

DISK_LIMIT = 128 * 2**20
_PAUSES = (0.3, 1.0, 3.0)
"""Seconds until trouble of ours is over, perhaps: then the submission is graded again."""


@dataclass(frozen=True)
class Work:
    """A submission to be graded: nothing in it runs, and as plain data it travels."""

    learner: str
    attempt: int
    exercises: tuple[str, ...]
    reading: Reading

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it."""
        said = {"learner": self.learner, "attempt": self.attempt}
        return said | {"exercises": list(self.exercises), "reading": self.reading.plain()}

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Self:
        reading = Reading.from_plain(said["reading"])
        return cls(said["learner"], said["attempt"], tuple(said["exercises"]), reading)


@dataclass
class Grader:
    """The warm parent, its sandbox and a place in the lab; several submissions at a time."""

    sandbox: str = "auto"
    exercises: tuple[str, ...] = ()
    """All that will be asked for: so the lab is up before the first submission."""
    seconds: float | None = None
    _shell: Bubblewrap | None = field(default=None, init=False)
    _nursery: Nursery = field(init=False)
    _lease: Lease = field(
        default_factory=lambda: Lease("grade", tenant=False, passing=True), init=False
    )
    _warden: Warden = field(default_factory=Warden, init=False)
    _leaving: set[asyncio.Future[None]] = field(default_factory=set, init=False)

    async def __aenter__(self) -> Self:
        # Whoever takes or leaves a place in the lab waits in a thread.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
        self._shell = await asyncio.to_thread(find_sandbox, self.sandbox)
        try:
            if any(find_exercise(name).needs for name in self.exercises):
                await asyncio.to_thread(self._lease.join)
            self._nursery = Nursery(shell=self._shell)
            await self._nursery.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._nursery.close()
        await self._end()

    async def _end(self) -> None:
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._warden.close()
        await asyncio.to_thread(self._lease.leave)
        if self._shell is not None:
            self._shell.close()

    async def grade(self, work: Work) -> list[Line]:
        """A line for each exercise; or one that says why there are no marks."""
        why = ""
        for pause in (*_PAUSES, 0):
            try:
                return await self._grade_once(work)
            except Exception as error:  # of ours or of the machine's: never one learner's mark
                why = f"{type(error).__name__}: {error}".split("\n")[0]
                await asyncio.sleep(pause)
        return [Line.trouble(work.learner, "ungraded", f"Grading failed: {why}", work.attempt)]

    async def _grade_once(self, work: Work) -> list[Line]:
        asked = tuple(map(find_exercise, work.exercises))
        ahead = tuple(e for e in asked if needed(work.reading.cells_for(e), e.answer, e.id))
        bench = Bench(
            self._nursery,
            lease=Lease("check", passing=True),
            seconds=self.seconds,
            disk=DISK_LIMIT,
            warden=self._warden,
            ahead=ahead,
        )
        try:
            return [await self._line(bench, work, exercise) for exercise in asked]
        finally:
            leaving = asyncio.ensure_future(bench.leave())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._left)

    def _left(self, leaving: asyncio.Future[None]) -> None:
        self._leaving.discard(leaving)
        with contextlib.suppress(Exception):  # what is not given back now, the keeper sweeps
            leaving.result()

    async def _line(self, bench: Bench, work: Work, exercise: Exercise) -> Line:
        seed = f"{work.learner}/{exercise.id}"
        verdict = await judge(bench, exercise, work.reading.cells_for(exercise), seed)
        return Line.of(work.learner, verdict, work.attempt)
