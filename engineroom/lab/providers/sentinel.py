"""One connection held open to a server that others run, to know it and to notice its end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from engineroom.lab.trouble import TROUBLE

_RECONNECT_PATIENCE = 10.0


@dataclass(frozen=True)
class Facts:
    """What a server says of itself."""

    version: str
    max_connections: int
    statements: bool


class Sentinel:
    """Connects as the administrator, verifies the server's certificate, and stays."""

    def __init__(self, *, host: str, port: int, user: str, password: str, ca_file: str) -> None:
        self._login: dict[str, Any] = {
            "host": host,
            "port": port,
            "user": user,
            "password": password,
            "database": "postgres",
            "ssl": ssl.create_default_context(cafile=ca_file),
            "timeout": 10,
            "statement_cache_size": 0,
            "server_settings": {"application_name": "engineroom keeper"},
        }
        self._lost = asyncio.Event()
        self._connection: asyncpg.Connection[Any] | None = None

    async def open(self) -> None:
        """Connect; a server that is only just coming up is given a moment."""
        deadline = time.monotonic() + _RECONNECT_PATIENCE
        while True:
            try:
                connection = await asyncpg.connect(**self._login)
                break
            except asyncpg.CannotConnectNowError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
        connection.add_termination_listener(self._on_end)
        self._connection = connection

    async def facts(self) -> Facts:
        assert self._connection is not None
        row = await self._connection.fetchrow(
            "select split_part(current_setting('server_version'), ' ', 1) as version,"
            " current_setting('max_connections')::int as max_connections,"
            " current_setting('shared_preload_libraries') ~ '\\mpg_stat_statements\\M'"
            " and exists (select from pg_catalog.pg_available_extensions"
            "   where name = 'pg_stat_statements') as statements"
        )
        assert row is not None
        return Facts(**row)

    async def wait_lost(self) -> None:
        """Return when the server is gone; that somebody ended this one backend is not enough."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            try:
                await self.open()
            except TROUBLE:
                return

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._on_end)
            with contextlib.suppress(*TROUBLE):
                await connection.close(timeout=2)

    def _on_end(self, _: Any) -> None:
        self._lost.set()
