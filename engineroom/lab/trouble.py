"""What asyncpg raises when a server refuses, goes away, or does not speak as one."""

from __future__ import annotations

import asyncpg

# The last: the server has said goodbye on a line that rested, and has not hung up yet.
TROUBLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
