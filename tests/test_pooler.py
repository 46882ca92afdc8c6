"""PgBouncer before the tenant's database, with the clients that lessons use."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
import trustme
from lab_helpers import PATIENCE
from postgres_fixture import (
    RealPostgres,
    answers,
    connect,
    is_running,
    keeper_with,
    real_postgres,
    side_folder,
    tenant,
    until,
)
from psycopg import sql
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from engineroom.errors import EngineRoomError
from engineroom.lab import pooler as pooler_module
from engineroom.lab.model import Endpoint, Server, Tenant
from engineroom.lab.pooler import POOL_SIZE, Pooler, compose_pooler_endpoint

__all__ = ["real_postgres", "side_folder", "tenant"]

PID = "select pg_backend_pid()"


@pytest.fixture
def pooler(real_postgres: RealPostgres, tenant: Tenant, side_folder: Path) -> Pooler:
    return make(real_postgres, tenant, side_folder)


@pytest.fixture
async def endpoint(pooler: Pooler) -> AsyncIterator[Endpoint]:
    yield await pooler.start()
    await pooler.stop()


def make(
    postgres: RealPostgres, tenant: Tenant, folder: Path, server: Server | None = None
) -> Pooler:
    return Pooler(
        server=server or postgres.server,
        tenant=tenant,
        folder=folder,
        log=postgres.folder / "pgbouncer.log",
        cert_file=postgres.cert_file,
        key_file=postgres.key_file,
        ca_file=postgres.ca_file,
    )


def console(endpoint: Endpoint, command: str) -> list[dict[str, object]]:
    """Ask PgBouncer itself."""
    with psycopg.connect(endpoint.extra["admin_url"], autocommit=True) as admin:
        cursor = admin.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute(command).fetchall()


# -- transaction mode ---------------------------------------------------------------------


async def test_ten_clients_share_four_backends(
    endpoint: Endpoint, tenant: Tenant, real_postgres: RealPostgres
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        clients = []
        for _ in range(10):
            client = await connect(endpoint.url, statement_cache_size=0)
            stack.push_async_callback(client.close)
            clients.append(client)

        # Whoever is in a transaction has a backend to itself: four do, the fifth waits.
        transactions = [client.transaction() for client in clients[:POOL_SIZE]]
        for transaction in transactions:
            await transaction.start()
        held = {await client.fetchval(PID) for client in clients[:POOL_SIZE]}
        assert len(held) == POOL_SIZE == 4
        fifth = asyncio.create_task(clients[4].fetchval(PID))

        def waiting() -> object:
            (pool,) = (
                row for row in console(endpoint, "show pools") if row["database"] != "pgbouncer"
            )
            assert pool["pool_mode"] == "transaction"
            return pool["cl_waiting"]

        await until(lambda: waiting() == 1)
        assert not fifth.done()
        await transactions[0].commit()
        assert await fifth in held
        for transaction in transactions[1:]:
            await transaction.commit()

        # And all ten at once, several times: the server never saw a fifth client.
        pids = await asyncio.gather(*(client.fetchval(PID) for client in clients))
        for _ in range(5):
            pids += await asyncio.gather(*(client.fetchval(PID) for client in clients))
        assert set(pids) <= held
        assert real_postgres.backends(tenant.database) == held


async def test_session_state_reaches_a_stranger(endpoint: Endpoint) -> None:
    """What transaction mode is known for: a setting stays with the backend, not the client."""
    first = await connect(endpoint.url, statement_cache_size=0)
    await first.execute("set statement_timeout = '54321ms'")
    await first.close()
    second = await connect(endpoint.url, statement_cache_size=0)
    assert await second.fetchval("show statement_timeout") == "54321ms"
    await second.close()


# -- prepared statements ------------------------------------------------------------------

NO_CACHES = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


@pytest.mark.parametrize("arguments", [{}, NO_CACHES], ids=["default", "caches 0"])
async def test_asyncpg_prepared_statements(endpoint: Endpoint, arguments: dict[str, int]) -> None:
    """A statement is prepared on one backend; the next transaction may be on another."""
    engine = create_async_engine(endpoint.url, connect_args=arguments)
    try:
        async with engine.connect() as one, engine.connect() as two:
            here = await one.scalar(text(PID))
            await one.commit()
            assert await two.scalar(text("select pg_backend_pid() + 0")) == here
            # Two's transaction holds that backend now, so one goes to another.
            if arguments:
                assert await one.scalar(text(PID)) != here
            else:
                with pytest.raises(DBAPIError, match=r'statement ".+" does not exist'):
                    await one.scalar(text(PID))
    finally:
        await engine.dispose()


async def test_asyncpg_names_collide_between_processes(endpoint: Endpoint) -> None:
    """Every process counts its statements from 1, and none removes them from the backend."""
    first = await connect(endpoint.url)
    await first.execute("begin")
    await first.execute("prepare __asyncpg_stmt_7000__ as select 1")
    await first.execute("commit")
    second = await connect(endpoint.url)
    with pytest.raises(asyncpg.DuplicatePreparedStatementError):
        await second.prepare("select 1", name="__asyncpg_stmt_7000__")
    await first.close()
    await second.close()

    cured = await connect(endpoint.url, statement_cache_size=0)
    assert await cured.fetchval("select $1::int", 5) == 5
    assert await cured.fetchval(
        "select count(*) from pg_prepared_statements where name <> '__asyncpg_stmt_7000__'"
    ) in (0, 1)  # at most the one that asks
    await cured.close()


@pytest.mark.parametrize("threshold", [5, None])
def test_psycopg_prepared_statements(endpoint_in_thread: Endpoint, threshold: int | None) -> None:
    """psycopg prepares what it runs a sixth time, and calls it _pg3_0 in every client."""
    engine = create_engine(
        endpoint_in_thread.extra["psycopg_url"],
        poolclass=NullPool,
        connect_args={"prepare_threshold": threshold},
    )

    def client() -> None:
        with engine.begin() as connection:  # after a rollback psycopg would clean up
            for _ in range(7):
                connection.scalar(text("select :number + 1"), {"number": 1})

    client()
    if threshold is None:
        client()
    else:
        with pytest.raises(DBAPIError, match=r"_pg3_0.* already exists"):
            client()


@pytest.fixture
async def endpoint_in_thread(endpoint: Endpoint) -> Endpoint:
    """PgBouncer is a process of its own: code that blocks may use it too."""
    return endpoint


# -- who may come in ----------------------------------------------------------------------


async def test_plain_engines_of_both_drivers_connect(endpoint: Endpoint, tenant: Tenant) -> None:
    for url in (endpoint.url, endpoint.extra["psycopg_url"]):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            assert await connection.scalar(text("select current_user")) == tenant.owner
        await engine.dispose()


async def test_the_app_user_may_come_too(endpoint: Endpoint, tenant: Tenant) -> None:
    client = await connect(endpoint.extra["app_url"])
    assert await client.fetchval("select current_user") == tenant.app
    await client.close()


@pytest.mark.parametrize("who", ["owner", "app", "lab_admin"])
async def test_a_wrong_password_is_refused(endpoint: Endpoint, tenant: Tenant, who: str) -> None:
    user = getattr(tenant, who, who)
    with pytest.raises(asyncpg.PostgresError, match="authentication failed"):
        await connect(endpoint.url, user=user, password="wrong")


async def test_roles_of_others_are_refused(endpoint: Endpoint, real_postgres: RealPostgres) -> None:
    server = real_postgres.server
    with pytest.raises(asyncpg.PostgresError, match=r"authentication failed|no such user"):
        await connect(endpoint.url, user=server.admin_user, password=server.admin_password)
    with pytest.raises(asyncpg.PostgresError, match="no such database"):
        await connect(endpoint.url, database="postgres")


async def test_an_unknown_startup_parameter_is_refused_loudly(endpoint: Endpoint) -> None:
    with pytest.raises(asyncpg.ProtocolViolationError, match="startup parameter: jit"):
        await connect(endpoint.url, server_settings={"jit": "off"})
    client = await connect(endpoint.url, server_settings={"application_name": "a lesson"})
    assert await client.fetchval("show application_name") == "a lesson"
    await client.close()


# -- TLS ----------------------------------------------------------------------------------


async def test_tls_on_both_legs(endpoint: Endpoint, real_postgres: RealPostgres) -> None:
    lab = ssl.create_default_context(cafile=endpoint.extra["ca_file"])
    client = await connect(endpoint.url, ssl=lab)
    assert await client.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), (
        "PgBouncer speaks to the server in clear"
    )
    (seen,) = (row for row in console(endpoint, "show clients") if row["database"] != "pgbouncer")
    assert str(seen["tls"]).startswith("TLSv1")
    await client.close()

    other = ssl.create_default_context()
    trustme.CA().configure_trust(other)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(endpoint.url, ssl=other)
    verified = f"{endpoint.extra['sync_url']}?sslmode=verify-full&sslrootcert="
    with psycopg.connect(verified + endpoint.extra["ca_file"]) as connection:
        assert connection.pgconn.ssl_in_use


async def test_the_servers_certificate_is_checked(
    real_postgres: RealPostgres,
    tenant: Tenant,
    side_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pooler_module, "_PATIENCE", 2.0)  # PgBouncer would go on trying
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    suspicious = replace(real_postgres.server, ca_file=str(tmp_path / "other.pem"))
    pooler = make(real_postgres, tenant, side_folder, suspicious)
    with pytest.raises(EngineRoomError) as caught:
        await pooler.start()
    assert_tells(caught.value, tenant)
    assert not side_folder.exists()


# -- files, ports, life and death ---------------------------------------------------------


async def test_passwords_are_for_the_servers_account_only(
    endpoint: Endpoint, side_folder: Path, tenant: Tenant
) -> None:
    assert stat.S_IMODE(side_folder.stat().st_mode) == 0o700
    owner = side_folder.stat().st_uid
    for path in side_folder.iterdir():
        assert path.stat().st_uid == owner, path
        if path.name != "pgbouncer.pid":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert tenant.owner_password not in (side_folder / "pgbouncer.ini").read_text()


async def test_only_loopback(endpoint: Endpoint) -> None:
    port = endpoint.extra["port"]
    assert answers("127.0.0.1", port)
    # Whoever listens on all addresses answers here as well.
    assert not answers("127.0.0.2", port)
    assert not answers("::1", port)


async def test_a_port_taken_at_the_last_moment(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_port = pooler_module._free_port
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        taken = thief.getsockname()[1]
        tries = iter([taken, taken])
        monkeypatch.setattr(pooler_module, "_free_port", lambda: next(tries, None) or free_port())
        # The thief says nothing, as somebody else's server may.
        endpoint = await pooler.start()
        assert urlsplit(endpoint.url).port != taken
        await pooler.stop()


async def test_no_port_at_all(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch, side_folder: Path, tenant: Tenant
) -> None:
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        monkeypatch.setattr(pooler_module, "_free_port", lambda: thief.getsockname()[1])
        with pytest.raises(EngineRoomError) as caught:
            await pooler.start()
    assert_tells(caught.value, tenant)
    assert not side_folder.exists()


async def test_two_at_once(real_postgres: RealPostgres, tenant: Tenant, side_folder: Path) -> None:
    poolers = [make(real_postgres, tenant, side_folder / str(number)) for number in range(4)]
    endpoints = await asyncio.gather(*(pooler.start() for pooler in poolers))
    assert len({endpoint.url for endpoint in endpoints}) == 4
    for endpoint in endpoints:
        client = await connect(endpoint.url)
        assert await client.fetchval("select 1") == 1
        await client.close()
    await asyncio.gather(*(pooler.stop() for pooler in poolers))


async def test_stop_leaves_nothing_even_in_a_transaction(
    pooler: Pooler, side_folder: Path, tenant: Tenant, real_postgres: RealPostgres
) -> None:
    endpoint = await pooler.start()
    assert pooler._process is not None
    pid = pooler._process.pid
    client = await connect(endpoint.url)
    await client.execute("begin; create table half_done (id int)")
    async with asyncio.timeout(PATIENCE):
        await pooler.stop()
    assert not is_running(pid)
    assert not side_folder.exists()
    assert not answers("127.0.0.1", endpoint.extra["port"])
    await until(lambda: not real_postgres.backends(tenant.database))
    client.terminate()
    await pooler.stop()  # a second time is no trouble


async def test_it_starts_again_where_it_was_killed(pooler: Pooler) -> None:
    await pooler.start()
    assert pooler._process is not None
    pooler._process.kill()
    await pooler._process.wait()
    endpoint = await pooler.start()
    client = await connect(endpoint.url)
    assert await client.fetchval("select 1") == 1
    await client.close()
    await pooler.stop()


async def test_it_dies_with_a_killed_keeper(
    real_postgres: RealPostgres, tenant: Tenant, side_folder: Path
) -> None:
    with keeper_with(
        "pooler",
        "Pooler",
        real_postgres.server,
        tenant,
        folder=side_folder,
        log=real_postgres.folder / "pgbouncer.log",
        cert_file=real_postgres.cert_file,
        key_file=real_postgres.key_file,
        ca_file=real_postgres.ca_file,
    ) as (keeper, child, port):
        assert is_running(child)
        assert answers("127.0.0.1", port)
        keeper.kill()
        keeper.wait()
        await until(lambda: not is_running(child) and not answers("127.0.0.1", port))


async def test_a_database_with_an_odd_name(
    real_postgres: RealPostgres, tenant: Tenant, side_folder: Path
) -> None:
    odd = replace(tenant, database=f"{tenant.database} = 'odd' \"name\"")
    with real_postgres.admin() as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(odd.database)))
    pooler = make(real_postgres, odd, side_folder)
    endpoint = await pooler.start()
    client = await connect(endpoint.url)
    assert await client.fetchval("select current_database()") == odd.database
    await client.close()
    await pooler.stop()
    with real_postgres.admin() as admin:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(odd.database)))


async def test_a_missing_pgbouncer_is_one_sentence(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tenant: Tenant
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pooler_module, "_USUAL_PLACES", ())
    with pytest.raises(EngineRoomError, match="PgBouncer is not installed") as caught:
        await pooler.start()
    assert "pgbouncer" in caught.value.fix
    assert_tells(caught.value, tenant)


def test_how_to_get_it_depends_on_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("sys.platform", "darwin")
    assert pooler_module._how_to_get_it() == "brew install pgbouncer"
    (tmp_path / "conda-meta").mkdir()
    assert pooler_module._how_to_get_it().startswith("conda install")
    (tmp_path / "conda-meta").rmdir()
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert pooler_module._how_to_get_it() == "sudo apt-get install pgbouncer"


async def test_pgbouncer_from_the_environments_own_bin(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pgbouncer").touch(mode=0o755)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert pooler_module.find_pgbouncer() == str(tmp_path / "bin" / "pgbouncer")


def test_newer_versions_are_told_to_leave_prepared_statements_alone(
    pooler: Pooler, side_folder: Path
) -> None:
    def config(version: tuple[int, int]) -> str:
        return pooler._write_files(None, 6432, version).read_text()

    assert "max_prepared_statements = 0" in config((1, 21))
    assert "max_prepared_statements" not in config((1, 20))  # it would refuse to start


def test_the_compose_service_looks_the_same(tenant: Tenant) -> None:
    found = compose_pooler_endpoint("localhost", 6432, tenant)
    parts = urlsplit(found.url)
    assert (parts.scheme, parts.hostname, parts.port) == ("postgresql+asyncpg", "localhost", 6432)
    assert found.extra["pool_mode"] == "transaction"
    assert found.extra["psycopg_url"].startswith("postgresql+psycopg://")


def assert_tells(error: EngineRoomError, tenant: Tenant) -> None:
    """One sentence, a next command, no password."""
    assert error.fix
    assert "\n" not in error.sentence
    assert error.sentence.endswith(".")
    for password in (tenant.owner_password, tenant.app_password):
        assert password not in str(error)
