"""The stage: connections as the owner that play a part in a scene, at any server of the lab."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

_POLL = 0.004
_VERSION_3 = 196608


class Actor:
    """One connection that does what a scene asks of it."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._begun: set[asyncio.Task[Any]] = set()
        self.pid: int = connection.get_server_pid()
        """The backend's; through a pooler, a number that only the pooler knows."""

    async def says(self, *statements: str) -> None:
        """Say these, one after another, and wait for each."""
        for statement in statements:
            await self._connection.execute(statement)

    async def asks(self, query: str) -> list[Any]:
        """The rows that answer a query."""
        return list(await self._connection.fetch(query))

    def begins(self, statement: str) -> None:
        """Say this, and do not wait: it may stand at a lock."""
        self._begun.add(asyncio.create_task(self._connection.execute(statement)))

    async def leave(self) -> None:
        """Hang up at once, whatever is under way."""
        self._connection.terminate()
        await asyncio.gather(*self._begun, return_exceptions=True)


@asynccontextmanager
async def actors(url: str, count: int, *, alone: bool = False) -> AsyncIterator[list[Actor]]:
    """So many connections to where ``url`` leads, on stage while the block lasts.

    ``alone`` ends every other connection of the same role there before: what an earlier check
    has left needs a moment to go, and on a small server that moment counts.
    """
    company: list[Actor] = []
    try:
        company.append(Actor(await _first(url)))
        if alone:
            await _send_away(company[0])
        # Each is noted as it comes: a failure among them must not leave one behind.
        joining = [asyncio.create_task(_join(url, company)) for _ in range(count - 1)]
        await asyncio.gather(*joining)
        yield company
    finally:
        for actor in company:
            await actor.leave()


@asynccontextmanager
async def knocking(url: str, count: int) -> AsyncIterator[None]:
    """So many who have begun to log in and do not go on: each takes a slot of the server's."""
    parts = urlsplit(url)
    words = f"user\0{unquote(parts.username or '')}\0database\0{unquote(parts.path[1:])}\0\0"
    packet = struct.pack("!II", len(words.encode()) + 8, _VERSION_3) + words.encode()
    doors: list[asyncio.StreamWriter] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            doors.append(writer)
            writer.write(packet)
            # Its question for a password: by now the slot is taken.
            if await reader.readexactly(1) != b"R":
                raise ConnectionError("the server took no more logins, or asked for no password")
        yield
    finally:
        for writer in doors:
            writer.close()


async def _join(url: str, company: list[Actor]) -> None:
    company.append(Actor(await _connect(url)))


async def _first(url: str) -> asyncpg.Connection[Any]:
    """Wait for a place: who was ended a moment ago may still hold the last one."""
    while True:
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            return await _connect(url)
        await asyncio.sleep(_POLL)


async def _send_away(actor: Actor) -> None:
    others = (
        "from pg_catalog.pg_stat_activity where usename = current_user and pid <> pg_backend_pid()"
    )
    await actor.asks(f"select pg_catalog.pg_terminate_backend(pid) {others}")
    while await actor.asks(f"select pid {others}"):  # noqa: ASYNC110
        await asyncio.sleep(_POLL)


async def _connect(url: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(
        url.replace("+asyncpg", "", 1), timeout=5, command_timeout=60, statement_cache_size=0
    )
