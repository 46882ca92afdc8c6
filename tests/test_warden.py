"""Whoever takes what all share is noticed: also when their check is over, or the server away."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from engineroom.exercises.judge import Bench, _disk_limit
from engineroom.exercises.subject import Subject
from engineroom.exercises.tools import closed_port
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
