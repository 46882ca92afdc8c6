"""A database and two plain roles for each user of the lab, and the witness beside them.

Every name starts with ``er_`` and the lab's own mark, so that a lab clears away only what it
made, also on a server that others use. What each database is for stands in its comment: the
kernel's pid and when that process began, so that a killed kernel's database can be told from
a living one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Server, Tenant

OWNER_CONNECTION_LIMIT = 20
_STATEMENT_SECONDS = 30.0

SCRATCH = "scratch"

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Errors that say the server has gone, or is only coming up."""

log = logging.getLogger("engineroom.keeper")


@dataclass(frozen=True)
class Rights:
    """What the administrator we were given may do."""

    superuser: bool
    create_database: bool
    create_role: bool

    @property
    def own_tenants(self) -> bool:
        return self.superuser or (self.create_database and self.create_role)


class Tenancy:
    """Makes, keeps count of and removes what belongs to one lab on one server."""

    def __init__(
        self, server: Server, mark: str, witness_password: str, *, keep_connections: int = 0
    ) -> None:
        self._server = server
        self._prefix = f"er_{mark}_"
        # The bundled PgBouncer looks roles up inside the database it is asked for, by a function
        # that the container's template1 has; elsewhere template1 is other people's, and
        # they may be connected to it.
        bundled = server.provider == "compose"
        self._template = "template1" if bundled else "template0"
        self._poolers = ["pgbouncer"] if bundled else []
        self._witness_password = witness_password
        self._rights = Rights(False, False, False)
        self._witness: asyncio.Task[tuple[str, str]] | None = None
        self._left_out: tuple[str, ...] = ()
        self._scratching = asyncio.Lock()
        # Databases and roles that could not be dropped when it was their time.
        self._doomed: set[str] = set()
        self._staying: set[str] = set()
        # Administrator's connections that wait for the next: only where nobody counts them.
        self._keep = keep_connections
        self._idle: list[asyncpg.Connection[Any]] = []

    @property
    def left_out(self) -> tuple[str, ...]:
        """What this server does not let us offer, in sentences."""
        return self._left_out

    async def prepare(self) -> None:
        """Learn our rights, set the witness up, and clear what killed kernels left."""
        async with self._admin() as admin:
            self._rights = await _rights(admin)
            if not self._rights.own_tenants:
                self._left_out = (
                    "Your role lacks CREATEDB or CREATEROLE: notebooks share its database.",
                    "There is no `lab.app_url` and no witness.",
                )
                return
            await self._sweep(admin)
            if self._server.provider == "embedded":
                # A cluster of our own: a notebook's roles have no business outside its database.
                await admin.execute("revoke all on database postgres, template1 from public")
        # Whoever only wants the server need not wait for the witness; a tenant does.
        self._witness = asyncio.create_task(self._prepare_witness())

    async def close(self) -> None:
        """Leave nothing half done behind when the servers are about to stop."""
        if self._witness is not None:
            await asyncio.wait({self._witness}, timeout=5)
            self._witness.cancel()
        self._keep = 0
        while self._idle:
            await self._idle.pop().close(timeout=2)

    async def create(self, pid: int) -> Tenant:
        """A new database with its roles, for the process ``pid``."""
        if not self._rights.own_tenants:
            return self._shared_tenant()
        return await self._create(
            secrets.token_hex(4),
            {"pid": pid, "began": process_start(pid)},
            secrets.token_urlsafe(12),
            secrets.token_urlsafe(12),
        )

    async def adopt(self, tenant: Tenant, pid: int) -> Tenant | None:
        """The tenant that a living kernel had before its keeper ended, if it is still there."""
        if not self._rights.own_tenants or not tenant.database.startswith(self._prefix):
            return None
        async with self._admin() as admin:
            comment = await _comment(admin, tenant.database)
            if comment != {"pid": pid, "began": process_start(pid)}:
                return None
            # The roles' passwords are what the kernel remembers; say them again to be sure.
            for role, password in (
                (tenant.owner, tenant.owner_password),
                (tenant.app, tenant.app_password),
            ):
                await admin.execute(f"alter role {_name(role)} login password {_literal(password)}")
        return await self._with_witness(tenant)

    async def drop(self, tenant: Tenant) -> None:
        """Remove a tenant and end whatever is still connected to it."""
        if tenant.database.startswith(self._prefix):
            try:
                async with self._admin() as admin:
                    await self._drop(admin, tenant.database)
            except BaseException:
                self._doomed.add(tenant.database)
                raise

    async def scratch(self, password: str, *, anew: bool = False) -> Tenant:
        """The database of the person at the terminal: kept until they reset it."""
        async with self._scratching:  # two who ask at once must not both make it
            return await self._scratch(password, anew=anew)

    async def _scratch(self, password: str, *, anew: bool) -> Tenant:
        if not self._rights.own_tenants:
            if anew:
                raise EngineRoomError(
                    "Your role may make no databases, so the lab has no scratch database of its "
                    "own, and yours was left as it is.",
                    "alter role ... createdb createrole   (as a superuser)",
                )
            return self._shared_tenant()
        tenant = self._tenant(SCRATCH, password, password)
        async with self._admin() as admin:
            there = await admin.fetchval(
                "select 1 from pg_catalog.pg_database where datname = $1", tenant.database
            )
            if there and anew:
                await self._drop(admin, tenant.database)
            elif there:
                await admin.execute(
                    f"alter role {_name(tenant.owner)} login password {_literal(password)}"
                )
                return await self._with_witness(tenant)
        return await self._create(SCRATCH, {"keep": True}, password, password)

    # -- inside ---------------------------------------------------------------------------

    def _tenant(self, key: str, owner_password: str, app_password: str) -> Tenant:
        base = f"{self._prefix}{key}"
        return Tenant(
            database=base,
            owner=f"{base}_owner",
            owner_password=owner_password,
            app=f"{base}_app",
            app_password=app_password,
            left_out=self._left_out,
        )

    def _shared_tenant(self) -> Tenant:
        server = self._server
        return Tenant(
            database=server.admin_database,
            owner=server.admin_user,
            owner_password=server.admin_password,
            app="",
            app_password="",
            left_out=self._left_out,
        )

    async def _with_witness(self, tenant: Tenant) -> Tenant:
        if self._witness is None:
            return tenant
        name, database = await asyncio.shield(self._witness)
        return replace(
            tenant,
            witness=name,
            witness_password=self._witness_password,
            witness_database=database,
            left_out=self._left_out,
        )

    async def _create(
        self, key: str, note: dict[str, Any], owner_password: str, app_password: str
    ) -> Tenant:
        tenant = self._tenant(key, owner_password, app_password)
        try:
            async with self._admin() as admin:
                await self._make(admin, tenant, note)
            return await self._with_witness(tenant)
        except BaseException as error:  # also when whoever asked has hung up, at any moment
            with contextlib.suppress(asyncpg.PostgresError, *AWAY):
                await self.drop(tenant)
            if isinstance(error, AWAY) or not isinstance(error, asyncpg.PostgresError):
                raise
            raise EngineRoomError(
                f"Postgres refused to make a database for this notebook: {error}.",
                "engineroom doctor",
            ) from error

    async def _make(
        self, admin: asyncpg.Connection[Any], tenant: Tenant, note: dict[str, Any]
    ) -> None:
        database, owner, app = _name(tenant.database), _name(tenant.owner), _name(tenant.app)
        self._doomed.discard(tenant.database)
        self._staying -= {tenant.owner, tenant.app}
        # One round trip for what may share a transaction; CREATE DATABASE may not.
        await admin.execute(
            f"create role {owner} login connection limit {OWNER_CONNECTION_LIMIT} "
            f"password {_literal(tenant.owner_password)};"
            f"create role {app} login password {_literal(tenant.app_password)};"
            # An administrator who is no superuser may only give away, and end the
            # sessions of, roles that it is in.
            + ("" if self._rights.superuser else f"grant {owner}, {app} to current_user;")
        )
        await admin.execute(f"create database {database} owner {owner} template {self._template}")
        await admin.execute(
            f"comment on database {database} is {_literal(json.dumps(note))};"
            f"revoke all on database {database} from public;"
            f"grant connect on database {database} to {', '.join([app, *self._poolers])}"
        )

    async def _drop(self, admin: asyncpg.Connection[Any], database: str) -> None:
        drop = f"drop database if exists {_name(database)} with (force)"
        try:
            await admin.execute(drop)
        except asyncpg.WrongObjectTypeError:  # its owner may make it a template
            await admin.execute(f"alter database {_name(database)} is_template false")
            await admin.execute(drop)
        # Somebody may have granted a role of another tenant something: then that role goes when
        # their own database has gone.
        for role in (f"{database}_owner", f"{database}_app", *sorted(self._staying)):
            await self._drop_role(admin, role)
        while self._doomed:  # the next drop that succeeds takes along what failed before
            other = self._doomed.pop()
            try:
                await self._drop(admin, other)
            except asyncpg.PostgresError as error:
                self._doomed.add(other)
                log.warning("%s stays for now: %s", other, error)
                break

    async def _drop_role(self, admin: asyncpg.Connection[Any], role: str) -> None:
        try:
            await admin.execute(f"drop role if exists {_name(role)}")
            self._staying.discard(role)
        except asyncpg.DependentObjectsStillExistError as error:
            self._staying.add(role)
            log.warning("%s stays: %s", role, error)

    async def _sweep(self, admin: asyncpg.Connection[Any]) -> None:
        """Drop the databases of kernels that are gone, and roles without a database."""
        pattern = self._prefix.replace("_", r"\_") + "%"
        found = await admin.fetch(
            "select datname, pg_catalog.shobj_description(oid, 'pg_database') as note "
            "from pg_catalog.pg_database where datname like $1",
            pattern,
        )
        kept = set()
        for row in found:
            if _belongs_to_the_living(row["note"]) or row["datname"].endswith("_witness"):
                kept.add(row["datname"])
            else:
                try:
                    await self._drop(admin, row["datname"])
                except asyncpg.PostgresError as error:  # one of them must not stop the lab
                    log.warning("%s stays: %s", row["datname"], error)
                    kept.add(row["datname"])
        roles = await admin.fetch(
            "select rolname from pg_catalog.pg_roles where rolname like $1", pattern
        )
        for row in roles:
            database, _, kind = row["rolname"].rpartition("_")
            if kind in ("owner", "app") and database not in kept:
                await self._drop_role(admin, row["rolname"])

    async def _prepare_witness(self) -> tuple[str, str]:
        async with self._admin() as admin:
            return await self._make_witness(admin)

    async def _make_witness(self, admin: asyncpg.Connection[Any]) -> tuple[str, str]:
        """A role that sees all activity and may end backends, in a database of its own."""
        name = database = f"{self._prefix}witness"
        there = await admin.fetchval("select 1 from pg_catalog.pg_roles where rolname = $1", name)
        verb = "alter" if there else "create"
        await admin.execute(
            f"{verb} role {_name(name)} login password {_literal(self._witness_password)}"
        )
        try:
            await admin.execute(f"grant pg_monitor, pg_signal_backend to {_name(name)}")
        except asyncpg.InsufficientPrivilegeError:
            self._left_out += (
                "Your role may not grant pg_monitor: the witness sees its own connections only.",
            )
        if not await admin.fetchval(
            "select 1 from pg_catalog.pg_database where datname = $1", database
        ):
            await admin.execute(f"create database {_name(database)} template template0")
            await admin.execute(
                f"revoke all on database {_name(database)} from public;"
                f"grant connect on database {_name(database)} to {_name(name)}"
            )
        if self._server.statements:
            async with self._admin(database) as inside:
                try:
                    await inside.execute("create extension if not exists pg_stat_statements")
                except asyncpg.InsufficientPrivilegeError:
                    self._left_out += ("Your role may not make pg_stat_statements countable.",)
        return name, database

    @asynccontextmanager
    async def _admin(self, database: str | None = None) -> AsyncIterator[asyncpg.Connection[Any]]:
        connection = self._kept() if database is None else None
        connection = connection or await connect(self._server, database)
        keep = False
        try:
            yield connection
            keep = database is None and len(self._idle) < self._keep
        finally:
            if keep:
                self._idle.append(connection)
            else:
                await connection.close(timeout=2)

    def _kept(self) -> asyncpg.Connection[Any] | None:
        """An administrator's connection that nobody uses, if one still stands."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None


async def connect(server: Server, database: str | None = None) -> asyncpg.Connection[Any]:
    """Log in as the administrator, over TLS that is verified where the server has it."""
    if server.ca_file:
        tls: ssl.SSLContext | str = ssl.create_default_context(cafile=server.ca_file)
    else:
        tls = "require" if server.tls else "prefer"
    return await asyncpg.connect(
        host=server.host,
        port=server.port,
        user=server.admin_user,
        password=server.admin_password,
        database=database or server.admin_database,
        ssl=tls,
        timeout=10,
        command_timeout=_STATEMENT_SECONDS,
        # No prepared statement is left behind, in case a pooler stands in between.
        statement_cache_size=0,
    )


async def _rights(admin: asyncpg.Connection[Any]) -> Rights:
    row = await admin.fetchrow(
        "select rolsuper, rolcreatedb, rolcreaterole from pg_catalog.pg_roles "
        "where rolname = current_user"
    )
    assert row is not None
    return Rights(row["rolsuper"], row["rolcreatedb"], row["rolcreaterole"])


async def _comment(admin: asyncpg.Connection[Any], database: str) -> dict[str, Any] | None:
    note = await admin.fetchval(
        "select pg_catalog.shobj_description(oid, 'pg_database') "
        "from pg_catalog.pg_database where datname = $1",
        database,
    )
    return _parse(note)


def _parse(note: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(note or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _belongs_to_the_living(note: str | None) -> bool:
    found = _parse(note) or {}
    if found.get("keep"):
        return True
    pid, began = found.get("pid"), found.get("began")
    return isinstance(pid, int) and began is not None and process_start(pid) == began


def process_start(pid: int) -> float | None:
    """When a process began, so that a pid used again is not mistaken for the one before."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.is_dir() and os.path.exists("/proc/self/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # Z and X: ended, only its parent has not looked yet.
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil  # macOS has no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
