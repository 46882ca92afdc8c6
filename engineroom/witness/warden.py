"""One for all who are checked at a time: ends who takes what the whole server shares.

Postgres has one table of locks for all its databases, and no limit on how many of them a role may
hold: ten thousand advisory locks, taken in a moment, and nobody can lock anything any more. So
the warden looks again and again at who holds how many, and notes that there was trouble: what was
seen of others meanwhile does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg

from engineroom.lab.trouble import TROUBLE
from engineroom.witness.server import Witness

AT_MOST = 1000
"""Locks of one database at a time; an answer needs some dozens."""
_LOOK, _PATIENCE = 0.1, 5.0

# By number: a name would have to be looked up, for which there may be no lock left.
_HELD = (
    "select a.datid, count(*) from pg_catalog.pg_locks l"
    " join pg_catalog.pg_stat_get_activity(null) a using (pid) where a.datid <> 0 group by 1"
)
_END = (
    "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_get_activity(null)"
    " where datid = $1::oid and pid in (select pid from pg_catalog.pg_locks)"
)


class Warden:
    """Looks while anybody is watched."""

    def __init__(self) -> None:
        self.incidents = 0
        """How often somebody had to be ended."""
        self._ends: dict[int, Callable[[], Awaitable[None]]] = {}
        self._known: set[int] = set()
        """Every database that was ever watched: of others' on the same server we know nothing."""
        self._line: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._rounds: asyncio.Task[None] | None = None
        self._calm = asyncio.Event()
        self._calm.set()

    @contextlib.asynccontextmanager
    async def watches(
        self, witness: Witness, end: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Call ``end`` when too many locks are held in this witness's database."""
        async with self._turn:
            if self._line is None or self._line.is_closed():
                self._line = await witness.line()
        self._ends[witness.database] = end
        self._known.add(witness.database)
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._go_round())
        try:
            yield
        finally:
            del self._ends[witness.database]

    async def look(self) -> None:
        """End whoever holds too much."""
        async with self._looking:
            try:
                greedy = await self._too_greedy()
            except asyncpg.InsufficientResourcesError:
                self.incidents += 1  # somebody has all there is, and who it is cannot be asked
                raise
            for database in greedy:
                await self._put_out(database)

    async def settled(self) -> None:
        """Wait until the locks of whoever was ended are free again."""
        await self._calm.wait()

    async def disturbed(self, since: int) -> bool:
        """Whether somebody took too much after ``incidents`` were so many, or does so now."""
        if self.incidents != since:
            return True
        try:
            # Also somebody whose check is over, and who has not let go yet.
            held = await self._held()
            return any(held.get(database, 0) > AT_MOST for database in self._known)
        except asyncpg.InsufficientResourcesError:
            return True  # not even this can be asked
        except TROUBLE:
            return False

    async def close(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait({self._rounds})
        if self._line is not None:
            with contextlib.suppress(*TROUBLE):
                await self._line.close(timeout=1)

    async def _go_round(self) -> None:
        while self._ends:
            await asyncio.sleep(_LOOK)
            with contextlib.suppress(*TROUBLE):  # the next who is watched brings a new line
                await self.look()

    async def _put_out(self, database: int) -> None:
        self.incidents += 1
        self._calm.clear()
        try:
            if database in self._ends:  # else its check is over, and all it had is being ended
                await self._ends[database]()
            give_up = time.monotonic() + _PATIENCE
            while time.monotonic() < give_up:
                with contextlib.suppress(*TROUBLE):
                    await self._ask(_END, database)
                    if (await self._held()).get(database, 0) <= AT_MOST:
                        break
                await asyncio.sleep(_LOOK / 4)
        finally:
            self._calm.set()

    async def _too_greedy(self) -> list[int]:
        held = await self._held()
        return [database for database in self._ends if held.get(database, 0) > AT_MOST]

    async def _held(self) -> dict[int, int]:
        return dict(map(tuple, await self._ask(_HELD)))

    async def _ask(self, statement: str, *values: Any) -> list[Any]:
        async with self._turn:  # one line can be asked one thing at a time
            if self._line is None:
                return []
            try:
                return list(await self._line.fetch(statement, *values))
            except asyncpg.InternalClientError as error:
                # Somebody was cancelled in the middle of a question while the server went away.
                self._line.terminate()
                raise asyncpg.InterfaceError("the warden's line is of no use any more") from error
