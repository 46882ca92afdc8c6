"""Whoever takes what all share is noticed: also when their check is over, or the server away."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

import asyncpg
import pytest
import pytest_asyncio

from engineroom.exercises.judge import Bench, _disk_limit
from engineroom.exercises.subject import Subject
from engineroom.exercises.tools import closed_port, turns
from engineroom.witness import Warden, Witness

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MANY = "select count(pg_advisory_lock(n)) from generate_series(1, $1::int) n"


@pytest_asyncio.fixture(loop_scope="module")
async def watched(bench: Bench) -> AsyncIterator[tuple[Warden, str]]:
    """A warden, and the URL of somebody whose check is over."""
    lab = await bench.lab(("postgres",))
    witness, warden = (
        Witness(lab["server"], bench.lease.joined["tenant"], bench.overheard),
        Warden(),
    )
    await witness.open()

    async def end() -> None:
        pytest.fail("nobody is to be ended")

    async with warden.watches(witness, end):
        pass
    yield warden, lab["url"].replace("+asyncpg", "")
    await warden.close()
    await witness.close()


async def test_who_holds_too_much_after_their_check_disturbs_others(
    watched: tuple[Warden, str],
) -> None:
    warden, url = watched
    greedy = await asyncpg.connect(url)
    await greedy.fetchval(_MANY, 100)
    assert not await warden.disturbed(warden.incidents)
    await greedy.fetchval(_MANY, 2_000)
    assert await warden.disturbed(warden.incidents)
    await greedy.close()
    for _ in range(3_000):  # a closed connection's backend needs a moment to let go
        if not await warden.disturbed(warden.incidents):
            break
        await asyncio.sleep(0.01)
    assert not await warden.disturbed(warden.incidents)


async def test_what_strangers_hold_on_the_same_server_is_their_own_affair(
    watched: tuple[Warden, str],
) -> None:
    warden, _ = watched
    elsewhere = Bench()
    try:
        lab = await elsewhere.lab(("postgres",))
        stranger = await asyncpg.connect(lab["url"].replace("+asyncpg", ""))
        await stranger.fetchval(_MANY, 2_000)
        assert not await warden.disturbed(warden.incidents)
        await stranger.close()
    finally:
        await elsewhere.close()


async def test_that_there_is_nothing_left_to_look_with_is_an_incident(
    watched: tuple[Warden, str],
) -> None:
    warden, url = watched
    before = warden.incidents
    greedy = await asyncpg.connect(url)
    with pytest.raises(asyncpg.InsufficientResourcesError):
        await greedy.fetchval(_MANY, 10_000_000)
    with pytest.raises(asyncpg.InsufficientResourcesError):
        await warden.look()
    await greedy.close()
    assert warden.incidents == before + 1


async def test_a_look_at_the_disk_while_the_server_is_away_is_no_trouble(bench: Bench) -> None:
    lab = await bench.lab(("postgres",))
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: unheard.append(what))
    bench.disk = 1
    try:
        with closed_port() as port, socket.socket() as line:
            server = lab["server"] | {"port": port}
            witness = Witness(server, bench.lease.joined["tenant"], bench.overheard)
            with pytest.raises(OSError, match="Connect call failed"):
                await witness.size()
            async with _disk_limit(bench, witness, Subject(bench.nursery, 0, line)):
                await asyncio.sleep(0.7)
        gc.collect()
        assert not unheard
    finally:
        bench.disk = None
        asyncio.get_running_loop().set_exception_handler(None)


class HeldBack:
    """A way to a server that at some time lets one more TLS record through, and hangs up never."""

    def __init__(self, port: int) -> None:
        self._port, self._records_left = port, -1
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for end in self._ends:
            end.close()
            await end.wait_closed()

    def one_more(self) -> None:
        self._records_left = 1

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += (writer, onward)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writing = asyncio.ensure_future(self._forth(reader, onward))
            writer.write(await back.readexactly(1))  # that there is TLS
            while True:
                head = await back.readexactly(5)
                record = head + await back.readexactly(int.from_bytes(head[3:]))
                if self._records_left:
                    self._records_left -= 1
                    writer.write(record)
        await writing

    async def _forth(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            onward.write(data)


async def test_a_line_that_hears_goodbye_and_is_not_hung_up_is_no_trouble(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the moment in which a server is killed: asyncpg calls it an error of its own."""
    lab = await bench.lab(("postgres",))
    server, tenant = lab["server"], bench.lease.joined["tenant"]
    unheard: list[object] = []
    there = Witness(server, tenant, bench.overheard)
    await there.open()
    async with HeldBack(server["port"]) as way:
        witness = Witness(server | {"port": way.port}, tenant, bench.overheard)
        await witness.open()
        await witness.size()
        for line in ("_scales", "_eye"):
            way.one_more()
            pid = getattr(witness, line).get_server_pid()
            assert await there._eye.fetchval("select pg_terminate_backend($1, 60000)", pid)
            await turns(100)
        with pytest.raises(asyncpg.InternalClientError):
            await witness.size()
        assert not await witness.sees()
        monkeypatch.setattr(bench, "disk", 1)
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unheard.append(what))
        with socket.socket() as control:
            async with _disk_limit(bench, witness, Subject(bench.nursery, 0, control)):
                await asyncio.sleep(0.7)
        gc.collect()
        asyncio.get_running_loop().set_exception_handler(None)
        assert not unheard
        await witness.close()
    await there.close()
