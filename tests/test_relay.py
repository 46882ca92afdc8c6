"""The relay between a program and its server: it counts, goes silent, and hangs up."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import pytest_asyncio
from lab_helpers import PATIENCE, Lab

from engineroom.witness import Relay

pytestmark = [pytest.mark.xdist_group("exercises"), pytest.mark.asyncio(loop_scope="module")]


_ENDED = "select pg_terminate_backend($1, 10000)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(common_lab: Lab) -> str:
    shown = await asyncio.to_thread(common_lab.cli, "db", "url", check=True)
    return shown.stdout.strip().replace("+asyncpg", "")


async def test_it_notes_what_is_said_and_no_password(url: str) -> None:
    async with Relay(url) as relay:
        connection = await asyncpg.connect(relay.url)
        assert not relay.said()
        assert await connection.fetchval("select 6 * 7") == 42
        await connection.execute("begin")
        assert [m.sql for m in relay.said() if m.sql] == ["select 6 * 7", "begin"]
        await connection.close()
        assert relay.said()[-1].kind == "X"


async def test_a_silent_line_answers_nothing_and_a_new_one_does(url: str) -> None:
    async with Relay(url) as relay:
        old = await asyncpg.connect(relay.url)
        relay.stall()
        with pytest.raises(TimeoutError):
            await old.fetchval("select 1", timeout=0.2)
        new = await asyncpg.connect(relay.url)
        assert await new.fetchval("select 1") == 1
        assert (relay.lines[0].silent, relay.lines[-1].silent) == (True, False)
        await new.close()
        old.terminate()


async def test_a_cut_is_noticed_at_both_ends(url: str) -> None:
    looking = await asyncpg.connect(url)
    async with Relay(url) as relay:
        connection = await asyncpg.connect(relay.url)
        held = connection.transaction()
        await held.start()
        await connection.execute("select pg_advisory_xact_lock(4)")
        relay.cut()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("select 1")
        # Granted as soon as the server has given the other one up.
        await looking.execute("select pg_advisory_lock(4)", timeout=PATIENCE)
    await looking.close()


async def test_what_the_server_hangs_up_is_hung_up_here_too(url: str) -> None:
    looking = await asyncpg.connect(url)
    async with Relay(url) as relay:
        gone = asyncio.Event()
        connection = await asyncpg.connect(relay.url)
        connection.add_termination_listener(lambda _: gone.set())
        assert await looking.fetchval(_ENDED, connection.get_server_pid())
        await asyncio.wait_for(gone.wait(), 10)
    await looking.close()
