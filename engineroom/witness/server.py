"""The witness: who is connected as the learner's roles, over what, doing what."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import asyncpg

from engineroom.lab.trouble import TROUBLE
from engineroom.witness.lite import Lite
from engineroom.witness.relay import Relay
from engineroom.witness.safe import Safe
from engineroom.witness.stage import Actor, actors, knocking

_POLL = 0.004


@dataclass(frozen=True)
class Backend:
    """One connection, as the server describes it."""

    pid: int
    user: str
    state: str
    query: str
    waits_for: str
    tls: str
    in_transaction: bool
    application: str
    asked_at: Any = None
    """When its last statement began: another moment, another statement, though it reads alike."""


class Witness:
    """Looks at one tenant's backends through the witness's own role and database."""

    def __init__(
        self,
        server: dict[str, Any],
        tenant: dict[str, Any],
        overheard: Callable[[str], Awaitable[list[dict[str, Any]]]],
    ) -> None:
        self.overheard = overheard
        self.doors: list[socket.socket] = []
        """Where a sandboxed subject can reach a relay: sockets that listen in its world."""
        self.database = 0
        """The learner's, by the number that the server has for it."""
        self._server = server
        self._tenant = tenant
        self._roles = [tenant["owner"], tenant["app"]]
        self._eye: asyncpg.Connection[Any] | None = None
        self._hand: asyncpg.Connection[Any] | None = None
        self._scales: asyncpg.Connection[Any] | None = None
        self._own: set[int] = set()
        self._met: set[tuple[int, Any]] = set()
        self._logins = 0
        self._own_logins = 0

    async def open(self) -> None:
        """Connect, where that is still to be done."""
        if self._eye is None or self._eye.is_closed():
            self._eye = await self.line()
            self.database = await self._eye.fetchval(
                "select oid from pg_catalog.pg_database where datname = $1",
                self._tenant["database"],
            )
        await self.mend()

    async def line(self) -> asyncpg.Connection[Any]:
        """A further connection of the witness's own role, to its own database."""
        return await self._connect(
            self._tenant["witness"],
            self._tenant["witness_password"],
            self._tenant["witness_database"],
            remembered=100,
        )

    def looks_at(self, tenant: dict[str, Any]) -> bool:
        return self._tenant == tenant

    async def mend(self) -> None:
        """Have a hand again: a learner's code may end its own role's connections, this one too."""
        if self._hand is None or self._hand.is_closed():
            self._hand = await self._connect(
                self._tenant["owner"], self._tenant["owner_password"], self._tenant["database"]
            )
            self._own.add(self._hand.get_server_pid())
            self._own_logins += 1
            # So that it is in the server's count from now on, and not some time later.
            with contextlib.suppress(asyncpg.UndefinedFunctionError):  # before Postgres 15
                await self._hand.execute("select pg_catalog.pg_stat_force_next_flush()")

    async def was_cut_off(self) -> bool:
        """Whether the owner's connection of ours was ended while the server goes on."""
        return self._hand is not None and self._hand.is_closed() and await self.sees()

    async def sees(self) -> bool:
        """Whether the server is still there for us; no answer can end the witness's own line."""
        try:
            return self._eye is not None and bool(await self._eye.fetchval("select true"))
        except TROUBLE:
            return False

    async def size(self) -> int:
        """How many bytes the learner's database takes, asked on a line of its own."""
        if self._scales is None or self._scales.is_closed():
            self._scales = await self.line()
        size = await self._scales.fetchval(
            "select pg_catalog.pg_database_size($1::name)", self._tenant["database"]
        )
        return int(size or 0)

    async def close(self) -> None:
        for connection in (self._eye, self._hand, self._scales):
            if connection is not None:
                with contextlib.suppress(*TROUBLE):
                    await connection.close(timeout=1)
        self._eye = self._hand = self._scales = None

    async def backends(self) -> list[Backend]:
        """The learner's connections: told by role, without the witness's own."""
        assert self._eye is not None
        rows = await self._eye.fetch(
            "select a.pid, a.usename, coalesce(a.state, '') as state, a.query,"
            " coalesce(a.wait_event_type, '') as waits, a.application_name,"
            " a.xact_start is not null as open, coalesce(s.version, '') as tls, a.query_start,"
            " a.backend_start"
            " from pg_catalog.pg_stat_activity a left join pg_catalog.pg_stat_ssl s using (pid)"
            " where a.usename = any($1::text[]) and a.backend_type = 'client backend'"
            " and a.datname = $2 order by a.backend_start, a.pid",
            self._roles,
            self._tenant["database"],
        )
        self._meet(rows)
        return [
            Backend(
                r["pid"],
                r["usename"],
                r["state"],
                r["query"],
                r["waits"],
                r["tls"],
                r["open"],
                r["application_name"],
                r["query_start"],
            )
            for r in rows
            if r["pid"] not in self._own
        ]

    async def count(self) -> int:
        return len(await self.backends())

    async def emptied(self, patience: float = 8.0) -> int:
        """How many connections stay once all that were closed are gone; 0 as soon as none is left.

        Ask it after the subject's own sockets (``tools.Opened``): a backend whose client has hung
        up needs a moment to end, and no event tells of that.
        """
        end = time.monotonic() + patience
        while (left := await self.count()) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return left

    async def see(self, condition: Callable[[list[Backend]], bool]) -> list[Backend]:
        """Wait until the learner's connections are so (the time limit is the end of patience)."""
        # The server tells nobody; it has to be asked.
        while not condition(found := await self.backends()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return found

    async def logins(self) -> int:
        """How often anybody but the witness has logged in to the learner's database, ever.

        Never too many; too few only of those that have come and gone between two questions, and
        of whom the server has not told yet. To be exact about these, let them stand at a gate.
        """
        assert self._eye is not None
        counted = await self._eye.fetchval(
            "select sessions from pg_catalog.pg_stat_database where datname = $1",
            self._tenant["database"],
        )
        rows = await self._eye.fetch(
            "select pid, backend_start from pg_catalog.pg_stat_activity"
            " where datname = $1 and backend_type = 'client backend'",
            self._tenant["database"],
        )
        self._meet(rows)
        self._logins = max(int(counted or 0) - self._own_logins, self._logins)
        return self._logins

    def _meet(self, rows: Iterable[asyncpg.Record]) -> None:
        """Count who is here for the first time.

        A backend adds itself to the server's own count on login, but does not wait for its turn:
        where many do so on a busy machine, one of them comes seconds later, when it ends at the
        latest. So whoever is seen counts from then on.
        """
        found = {(row["pid"], row["backend_start"]) for row in rows if row["pid"] not in self._own}
        self._logins += len(found - self._met)
        self._met |= found

    async def logins_at(self, impostor: str, user: str) -> list[tuple[str, str]]:
        """Which database, and which password, somebody gave an impostor under this user name.

        Only ``impostor:asks_password`` hears passwords; elsewhere they are empty.
        """
        notes = await self.overheard(impostor)
        words = {n["connection"]: n["text"] for n in notes if n["what"] == "password"}
        return [
            (note["database"], words.get(note["connection"], ""))
            for note in notes
            if note["what"] == "login" and note["user"] == user
        ]

    async def cut(self, backends: Iterable[Backend] | None = None) -> int:
        """End these backends (or all), as a host does that tidies up; return when they are gone."""
        assert self._eye is not None
        named = None if backends is None else [b.pid for b in backends]
        rows = await self._eye.fetch(
            "select pid, pg_catalog.pg_terminate_backend(pid)"
            " from pg_catalog.pg_stat_activity"
            " where usename = any($1::text[]) and backend_type = 'client backend'"
            " and datname = $2 and pid <> all($3::int[]) and ($4::int[] is null or pid = any($4))",
            *(self._roles, self._tenant["database"], list(self._own), named),
        )
        pids = [row["pid"] for row in rows]
        if not pids:
            return 0
        # The server tells nobody when a backend has ended; it has to be asked.
        while any(b.pid in pids for b in await self.backends()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return len(pids)

    @asynccontextmanager
    async def gate(self, table: str = "gate") -> AsyncIterator[Gate]:
        """A closed gate: whoever reads ``table`` waits in the server until it opens."""
        assert self._hand is not None
        await self._hand.execute(f"create table if not exists public.{table} (n int)")
        transaction = self._hand.transaction()
        await transaction.start()
        gate = Gate(self, transaction)
        try:
            # An answer may hold that lock itself; who then gives up leaves no transaction open.
            await self._hand.execute(f"lock table public.{table} in access exclusive mode")
            yield gate
        finally:
            await gate.open()

    def actors(
        self, url: str, count: int, *, alone: bool = False
    ) -> AbstractAsyncContextManager[list[Actor]]:
        """Connections of ours to where ``url`` leads, to play a part in a scene."""
        return actors(url, count, alone=alone)

    def knocking(self, url: str, count: int) -> AbstractAsyncContextManager[None]:
        """So many who began to log in where ``url`` leads, and hold a slot without going on."""
        return knocking(url, count)

    def relay(self, url: str) -> Relay:
        """A way to where ``url`` leads on which all that a program says is counted."""
        return Relay(url, self.doors.pop().dup() if self.doors else None)

    def lite(self) -> AbstractContextManager[Lite]:
        """An empty SQLite database that no answer can reach: to hear what SQLite says itself."""
        return contextlib.closing(Lite())

    def app(self) -> AppRole:
        """The app role, with nothing granted: try what it may do, or change its password."""
        return AppRole(self)

    def safe(self, endpoint: dict[str, Any]) -> Safe:
        """The lab's Secrets Manager: put a secret in, count who asks for it."""
        return Safe(endpoint)

    async def execute(self, statement: str, *values: Any) -> None:
        """A statement as the owner, in the learner's database: to set a scene."""
        assert self._hand is not None
        await self._hand.execute(statement, *values)

    async def empty(self) -> None:
        """Remove whatever lies in the database, and what the owner has set for later."""
        assert self._hand is not None
        if self._hand.is_in_transaction():
            await self._hand.execute("rollback")
        password = self._tenant["owner_password"].replace("'", "''")
        await self._hand.execute(f"{_EMPTY}; alter role current_user password '{password}'")

    async def fetch(self, statement: str, *values: Any) -> list[Any]:
        """Rows as the owner sees them; never as a superuser."""
        assert self._hand is not None
        return list(await self._hand.fetch(statement, *values))

    async def _connect_as_app(self, password: str) -> asyncpg.Connection[Any]:
        connection = await self._connect(self._tenant["app"], password, self._tenant["database"])
        self._own.add(connection.get_server_pid())
        return connection

    async def _connect(
        self, user: str, password: str, database: str, *, remembered: int = 0
    ) -> asyncpg.Connection[Any]:
        """``remembered``: statements that keep their plan; none where an answer may change what
        they are about."""
        ca_file = self._server["ca_file"]
        return await asyncpg.connect(
            host=self._server["host"],
            port=self._server["port"],
            user=user,
            password=password,
            database=database,
            ssl=_trusting(ca_file) if ca_file else "prefer",
            timeout=5,
            command_timeout=5,
            statement_cache_size=remembered,
        )


@lru_cache(maxsize=4)
def _trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


_EMPTY = """
do $$
declare name text;
begin
    for name in
        select nspname from pg_catalog.pg_namespace
        where nspowner = current_user::pg_catalog.regrole or nspname = 'public'
    loop
        execute pg_catalog.format('drop schema %I cascade', name);
    end loop;
    create schema public;
    perform pg_catalog.lo_unlink(oid) from pg_catalog.pg_largeobject_metadata
        where lomowner = current_user::pg_catalog.regrole;
    name := current_database();
    alter role current_user reset all;
    execute pg_catalog.format('alter role current_user in database %I reset all', name);
    execute pg_catalog.format('alter database %I reset all', name);
    execute pg_catalog.format('alter database %I connection limit -1', name);
end $$
"""


class Gate:
    """A lock that holds readers in the server, so that they can be counted."""

    def __init__(self, witness: Witness, transaction: Any) -> None:
        self._witness = witness
        self._transaction = transaction

    async def waiting(self) -> set[int]:
        """The backends that stand here."""
        return {b.pid for b in await self._witness.backends() if b.waits_for == "Lock"}

    async def reached(self, at_least: int) -> int:
        """Wait until so many stand here (the trial's time limit is the end of patience)."""
        while (count := len(await self.waiting())) < at_least:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return count

    async def open(self) -> None:
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            await transaction.rollback()


class AppRole:
    """The witness as the tenant's app role, while its ``async with`` block lasts.

    The role begins with no right but to connect and ends so, with the password it had: what an
    answer gives it, for now or for what is made later, is taken back.
    """

    def __init__(self, witness: Witness) -> None:
        self.name: str = witness._tenant["app"]
        self._witness = witness
        self._password: str = witness._tenant["app_password"]
        self._role: asyncpg.Connection[Any] | None = None

    async def __aenter__(self) -> Self:
        await self._give_back()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.change_password(self._witness._tenant["app_password"])
            await (await self._connected()).execute("alter role current_user reset all")
            await self._give_back()
        finally:
            if self._role is not None:
                await self._role.close(timeout=1)

    async def refusal(self, statement: str) -> str:
        """SQLSTATE and words with which Postgres refuses this to the role; empty when it obeys."""
        role = await self._connected()
        try:
            await role.execute(statement)
        except asyncpg.PostgresError as error:
            return f"{error.sqlstate} {error}"
        return ""

    async def change_password(self, password: str) -> None:
        """What a rotation does: from now on whoever logs in as the role needs this one."""
        role, quoted = await self._connected(), password.replace("'", "''")
        await role.execute(f"alter role current_user password '{quoted}'")
        self._password = password

    async def _connected(self) -> asyncpg.Connection[Any]:
        # An answer may be this role too, and end what it finds of it.
        if self._role is None or self._role.is_closed():
            self._role = await self._witness._connect_as_app(self._password)
        return self._role

    async def _give_back(self) -> None:
        """Take back what outlives the schema that every check begins with anew."""
        await self._witness.mend()
        database, role = f'"{self._witness._tenant["database"]}"', f'"{self.name}"'
        everyone = [(what, f"public, {role}") for what in ("tables", "sequences")]
        own = [(what, role) for what in ("functions", "types", "schemas")]
        await self._witness.execute(
            f"revoke all on database {database} from public, {role};"
            f"grant connect on database {database} to {role};"
            + ";".join(
                f"alter default privileges revoke all on {what} from {whom}"
                for what, whom in (*everyone, *own)
            )
        )
