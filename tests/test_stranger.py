"""The impostor, with honest, careless, broken and hostile clients."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from lab_helpers import PATIENCE
from postgres_fixture import (
    RealPostgres,
    answers,
    connect,
    real_postgres,
    side_folder,
    tenant,
    until,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from engineroom.lab import stranger as stranger_module
from engineroom.lab.model import Endpoint, Tenant
from engineroom.lab.stranger import REMEMBERED, TEXT_LIMIT, Stranger, _Ear

__all__ = ["real_postgres", "side_folder", "tenant"]

MEGABYTE = "select repeat('x', 1048576)"


@pytest.fixture
def stranger(
    request: pytest.FixtureRequest,
    real_postgres: RealPostgres,
    tenant: Tenant,
    side_folder: Path,
) -> Stranger:
    return Stranger(
        server=real_postgres.server,
        tenant=tenant,
        folder=side_folder,
        ca_file=real_postgres.ca_file,
        mode=getattr(request, "param", "stranger"),
        cert_file=real_postgres.other_cert_file,
        key_file=real_postgres.other_key_file,
    )


@pytest.fixture
async def endpoint(stranger: Stranger) -> AsyncIterator[Endpoint]:
    yield await stranger.start()
    await stranger.stop()


def mode(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stranger", [name], indirect=True)


def of(stranger: Stranger, what: str) -> list[dict[str, Any]]:
    return [note for note in stranger.heard() if note["what"] == what]


def said(stranger: Stranger) -> list[str]:
    return [str(note["text"]) for note in of(stranger, "sql")]


def verifying(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))


def as_admin(postgres: RealPostgres) -> dict[str, str]:
    return {"user": postgres.server.admin_user, "password": postgres.server.admin_password}


async def by_psycopg(endpoint: Endpoint, **arguments: object) -> str:
    """Connect with libpq's rules and say who we are."""

    def work() -> str:
        with psycopg.connect(endpoint.extra["sync_url"], **arguments) as connection:  # type: ignore[arg-type]
            (user,) = connection.execute("select current_user").fetchone() or ("",)
            return str(user)

    return await asyncio.to_thread(work)


# -- whom it fools ------------------------------------------------------------------------


async def test_encryption_alone_is_overheard(
    endpoint: Endpoint, stranger: Stranger, tenant: Tenant
) -> None:
    client = await connect(endpoint.url, ssl="require")
    assert await client.fetchval("select 'private words' || $1", "!") == "private words!"
    await client.execute("select 'simple words'")
    await client.close()
    (login,) = of(stranger, "login")
    assert (login["user"], login["database"]) == (tenant.owner, tenant.database)
    assert login["tls"] == "TLSv1.3"
    assert "select 'private words' || $1" in said(stranger)
    assert "select 'simple words'" in said(stranger)
    # SCRAM keeps the password even from him.
    everything = json.dumps(stranger.heard())
    assert tenant.owner_password not in everything
    assert not of(stranger, "password")


async def test_the_server_itself_notices_nothing(endpoint: Endpoint) -> None:
    engine = create_async_engine(endpoint.url, connect_args={"ssl": "require"})
    async with engine.connect() as connection:
        assert await connection.scalar(
            text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        )
    await engine.dispose()


async def test_verify_full_says_nothing(
    endpoint: Endpoint, stranger: Stranger, real_postgres: RealPostgres
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(endpoint.url, ssl=verifying(real_postgres.ca_file))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        await by_psycopg(endpoint, sslmode="verify-full", sslrootcert=str(real_postgres.ca_file))
    await until(lambda: len(of(stranger, "hung_up")) == 2)
    assert {note["what"] for note in stranger.heard()} == {"connected", "hung_up"}


async def test_who_trusts_its_authority_is_fooled(endpoint: Endpoint, stranger: Stranger) -> None:
    client = await connect(endpoint.url, ssl=verifying(endpoint.extra["ca_file"]))
    assert await client.fetchval("select 1") == 1
    await client.close()
    assert "select 1" in said(stranger)


async def test_channel_binding_gives_it_away(
    endpoint: Endpoint, stranger: Stranger, tenant: Tenant
) -> None:
    with pytest.raises(psycopg.OperationalError, match="SCRAM channel binding check failed"):
        await by_psycopg(endpoint, sslmode="require")
    assert not said(stranger)
    user = await by_psycopg(endpoint, sslmode="require", channel_binding="disable")
    assert user == tenant.owner
    assert "select current_user" in said(stranger)


async def test_without_tls_everything_is_relayed_in_clear(
    endpoint: Endpoint, stranger: Stranger, tenant: Tenant
) -> None:
    client = await connect(endpoint.url, ssl="disable")
    assert await client.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    await client.close()
    assert await by_psycopg(endpoint, sslmode="disable") == tenant.owner
    assert [note["tls"] for note in of(stranger, "login")] == [None, None]


async def test_a_wrong_password_is_the_real_servers_business(endpoint: Endpoint) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(endpoint.url, password="wrong", ssl="require")


# -- other disguises ----------------------------------------------------------------------


@mode("other_name")
async def test_the_right_authority_for_another_name(
    endpoint: Endpoint, stranger: Stranger, real_postgres: RealPostgres
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await connect(endpoint.url, ssl=verifying(real_postgres.ca_file))
    assert not of(stranger, "login")
    careless = verifying(real_postgres.ca_file)
    careless.check_hostname = False
    client = await connect(endpoint.url, ssl=careless)
    await client.close()
    assert of(stranger, "login")


def test_another_name_needs_a_certificate(stranger: Stranger, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificate"):
        Stranger(
            server=stranger._target,
            tenant=stranger._tenant,
            folder=tmp_path,
            ca_file=None,
            mode="other_name",
        )


@mode("no_tls")
async def test_it_can_strip_tls(endpoint: Endpoint, stranger: Stranger, tenant: Tenant) -> None:
    with pytest.raises(ConnectionError, match="rejected SSL"):
        await connect(endpoint.url, ssl="require")
    assert not of(stranger, "login")
    for user in (
        await by_psycopg(endpoint, sslmode="prefer"),
        await (client := await connect(endpoint.url)).fetchval("select current_user"),
    ):
        assert user == tenant.owner
    await client.close()
    assert [note["tls"] for note in of(stranger, "login")] == [None, None]


@mode("asks_password")
async def test_it_can_ask_for_the_password(
    endpoint: Endpoint, stranger: Stranger, tenant: Tenant
) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError, match="authentication failed"):
        await connect(endpoint.url, ssl="require")
    assert [note["text"] for note in of(stranger, "password")] == [tenant.owner_password]
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await by_psycopg(endpoint, sslmode="require")
    assert [note["text"] for note in of(stranger, "password")] == [tenant.owner_password] * 2
    with pytest.raises(psycopg.OperationalError):
        await by_psycopg(endpoint, sslmode="require", require_auth="scram-sha-256")
    assert len(of(stranger, "password")) == 2


# -- load ---------------------------------------------------------------------------------


async def test_twenty_at_once_with_large_results(
    endpoint: Endpoint, stranger: Stranger, real_postgres: RealPostgres
) -> None:
    # As admin: the owner may have 20, and would need all of them.
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        clients = await asyncio.gather(
            *(
                connect(
                    endpoint.url,
                    ssl="require",
                    **as_admin(real_postgres),
                )
                for _ in range(20)
            )
        )
        for client in clients:
            stack.push_async_callback(client.close)
        for results in (
            await asyncio.gather(*(client.fetchval(MEGABYTE) for client in clients)),
            await asyncio.gather(*(client.fetchval(MEGABYTE) for client in clients)),
        ):
            assert [len(result) for result in results] == [1048576] * 20
    assert said(stranger).count(MEGABYTE) == 20  # prepared once by each


async def test_large_statements_and_copy_go_through(endpoint: Endpoint, stranger: Stranger) -> None:
    client = await connect(endpoint.url, ssl="require")
    words = "w" * 3_000_000
    assert await client.fetchval(f"select length('{words}')") == len(words)
    assert await client.fetchval("select length($1::text)", words) == len(words)
    await client.execute("create table things (thing text)")
    await client.copy_records_to_table("things", records=[("x" * 99,)] * 50_000)
    assert await client.fetchval("select count(*) from things") == 50_000
    await client.close()
    assert said(stranger)[-1] == "select count(*) from things"  # it did not lose the thread
    assert all(len(words) <= TEXT_LIMIT for words in said(stranger))


async def test_a_slow_reader_fills_no_memory(
    endpoint: Endpoint, stranger: Stranger, tenant: Tenant, real_postgres: RealPostgres
) -> None:
    """128 MB for a client that does not read; meanwhile others are served."""
    slow = await psycopg.AsyncConnection.connect(
        endpoint.extra["sync_url"], sslmode="require", channel_binding="disable"
    )
    before = memory()
    slow.pgconn.send_query(b"select repeat('x', 134217728)")
    slow.pgconn.flush()
    async with asyncio.timeout(PATIENCE):
        # The server is stuck in writing: nobody takes the rows from it.
        await until(lambda: waits_for(real_postgres, tenant) == "ClientWrite", 30)
        # The relay has plenty of turns to take more than it should.
        client = await connect(
            endpoint.url, ssl="require", database="postgres", **as_admin(real_postgres)
        )
        for _ in range(80):
            assert len(await client.fetchval(MEGABYTE)) == 1048576
        await client.close()
    assert waits_for(real_postgres, tenant) == "ClientWrite"
    assert memory() - before < 40_000_000
    slow.pgconn.finish()
    await until(lambda: not real_postgres.backends(tenant.database))


def waits_for(postgres: RealPostgres, tenant: Tenant) -> object:
    with postgres.admin() as admin:
        row = admin.execute(
            "select wait_event from pg_stat_activity where datname = %s", (tenant.database,)
        ).fetchone()
        return row[0] if row else None


def memory() -> int:
    """What this process holds, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


# -- hostile and broken clients -----------------------------------------------------------


async def test_garbage_harms_nobody(endpoint: Endpoint, stranger: Stranger) -> None:
    port = endpoint.extra["port"]
    startup = (196608).to_bytes(4) + b"user\0x\0\0"
    startup = (len(startup) + 4).to_bytes(4) + startup
    for garbage in (
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
        os.urandom(5000),
        b"\x7f\xff\xff\xff" + b"x" * 1000,
        b"\0\0\0\x04",
        (8).to_bytes(4) + (1).to_bytes(4),
        b"\0\0\0\x08\x04\xd2\x16\x2f" + os.urandom(300),  # asks for TLS, then talks nonsense
        b"\0\0\0\x08\x04\xd2\x16\x30" * 5,  # asks for GSS again and again
        (16).to_bytes(4) + (80877102).to_bytes(4) + os.urandom(8),  # cancels nothing
        startup[:10],
        startup + b"Q\0\0\0\0" + os.urandom(1000),  # a message of length 0
        startup + b"Q\xff\xff\xff\xff" + os.urandom(1000),  # of negative length
        startup + b"Q\x7f\xff\xff\xff" + b"x" * 100_000,  # of 2 GB
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            try:
                while await reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass
        writer.transport.abort()
    client = await connect(endpoint.url, ssl="require")
    assert await client.fetchval("select 1") == 1
    await client.close()
    await until(lambda: not stranger._tasks)


async def test_silent_clients_are_sent_away(
    endpoint: Endpoint, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stranger_module, "_GREETING_SECONDS", 0.2)
    request = b"\0\0\0\x08\x04\xd2\x16\x2f"
    for words in (b"", request[:3], request):
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.extra["port"])
        writer.write(words)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() in (b"", b"S")
        writer.close()
        await writer.wait_closed()
    await until(lambda: not stranger._tasks)


async def test_too_many_are_turned_away_and_the_rest_served(
    endpoint: Endpoint, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stranger_module, "MAX_CONNECTIONS", 3)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            stack.push_async_callback((await connect(endpoint.url, ssl="require")).close)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await connect(endpoint.url, ssl="require")
    await until(lambda: not stranger._tasks)
    await (await connect(endpoint.url, ssl="require")).close()


async def test_what_it_heard_is_bounded(endpoint: Endpoint, stranger: Stranger) -> None:
    client = await connect(endpoint.url, ssl="require")
    for number in range(REMEMBERED + 50):
        await client.execute(f"select {number} /* {'ö' * 3000} */")
    await client.close()
    statements = said(stranger)
    assert len(statements) == REMEMBERED
    assert statements[-1].startswith(f"select {REMEMBERED + 49} ")
    assert max(len(words.encode()) for words in statements) <= TEXT_LIMIT + 2
    assert of(stranger, "login"), "statements pushed out who said them"
    for _ in range(REMEMBERED + 50):
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.extra["port"])
        writer.close()
        await writer.wait_closed()
    await until(lambda: not stranger._tasks)
    assert len(stranger.heard()) == 2 * REMEMBERED
    json.dumps(stranger.heard())


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 100_000])
def test_the_ear_does_not_care_how_words_are_cut(size: int) -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4) + body

    heard: list[tuple[str, str]] = []
    ear = _Ear(lambda what, words: heard.append((what, words)), password=True)
    stream = b"".join(
        (
            message(b"p", b"geheim\0"),
            message(b"S", b""),
            message(b"Q", b"select 1\0"),
            message(b"B", b"\0stmt\0" + b"Q" * 500),
            message(b"P", b"name\0select 2\0\0\0"),
            message(b"H", b""),
            message(b"Q", b""),
            message(b"P", b""),
            message(b"Q", b"x" * 70_000 + b"\0"),
            message(b"P", b"\0select 3\0\0\0"),
        )
    )
    for start in range(0, len(stream), size):
        ear.listen(stream[start : start + size])
    assert heard == [
        ("password", "geheim"),
        ("sql", "select 1"),
        ("sql", "select 2"),
        ("sql", ""),
        ("sql", ""),
        ("sql", "x" * TEXT_LIMIT),
        ("sql", "select 3"),
    ]
    assert len(ear._kept) == 0


# -- cancelling, the server's end, stopping -----------------------------------------------


async def test_cancel_requests_reach_the_server(
    endpoint: Endpoint, real_postgres: RealPostgres, tenant: Tenant
) -> None:
    client = await connect(endpoint.url, ssl="require")
    sleeping = asyncio.create_task(client.execute("select pg_sleep(60)"))
    await until(lambda: waits_for(real_postgres, tenant) == "PgSleep")
    sleeping.cancel()  # asyncpg asks the server to stop
    async with asyncio.timeout(40):  # sooner than the sleep
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        assert await client.fetchval("select 1") == 1
    await client.close()


async def test_a_killed_backend_is_told_to_the_client(
    endpoint: Endpoint, real_postgres: RealPostgres
) -> None:
    client = await connect(endpoint.url, ssl="require")
    pid = await client.fetchval("select pg_backend_pid()")
    with real_postgres.admin() as admin:
        admin.execute("select pg_terminate_backend(%s)", (pid,))
    await until(client.is_closed)
    assert client.is_closed()


async def test_a_server_that_cannot_be_reached(stranger: Stranger, endpoint: Endpoint) -> None:
    stranger._target = replace(stranger._target, port=1)
    with pytest.raises(asyncpg.PostgresError, match="cannot be reached"):
        await connect(endpoint.url, ssl="require")


async def test_it_checks_the_real_server_itself(stranger: Stranger, endpoint: Endpoint) -> None:
    stranger._towards_server = verifying(endpoint.extra["ca_file"])
    with pytest.raises(asyncpg.PostgresError, match="cannot be reached"):
        await connect(endpoint.url, ssl="require")


async def test_stop_leaves_nothing(
    stranger: Stranger, side_folder: Path, real_postgres: RealPostgres, tenant: Tenant
) -> None:
    endpoint = await stranger.start()
    assert side_folder.exists()
    client = await connect(endpoint.url, ssl="require")
    await client.execute("begin")
    _, silent = await asyncio.open_connection("127.0.0.1", endpoint.extra["port"])
    async with asyncio.timeout(PATIENCE):
        await stranger.stop()
    assert not answers("127.0.0.1", endpoint.extra["port"])
    assert not side_folder.exists()
    assert not stranger._tasks
    await until(client.is_closed)
    await until(lambda: not real_postgres.backends(tenant.database))
    silent.transport.abort()
    client.terminate()
    await stranger.stop()  # a second time is no trouble


async def test_only_loopback(endpoint: Endpoint) -> None:
    assert answers("127.0.0.1", endpoint.extra["port"])
    # Whoever listens on all addresses answers here as well.
    assert not answers("127.0.0.2", endpoint.extra["port"])
    assert not answers("::1", endpoint.extra["port"])
