"""The doors of a sandboxed subject: what is said there arrives, whole, and at one server only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from lab_helpers import PATIENCE

from engineroom.exercises.doors import Address, Doors
from engineroom.exercises.tools import open_sockets

Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LARGE = 20 * 2**20


@asynccontextmanager
async def a_door_to(
    serving: Serving, folder: Path | None = None
) -> AsyncIterator[Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]]:
    """A server, and a door that leads to it: how to come in."""
    address: Address
    if folder is not None:
        address = str(folder / "server")
        server: asyncio.Server = await asyncio.start_unix_server(serving, address)
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(folder / "door"))
    else:
        server = await asyncio.start_server(serving, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        door = socket.socket()
        door.bind(("127.0.0.1", 0))
    door.listen()

    lines: list[asyncio.StreamWriter] = []

    async def come() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if folder is not None:
            line = await asyncio.open_unix_connection(door.getsockname())
        else:
            line = await asyncio.open_connection(*door.getsockname())
        lines.append(line[1])
        return line

    with contextlib.closing(door):
        async with Doors({"d": door}, {"d": address}):
            yield come
        server.close()
        for writer in lines:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def read_all_then_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    heard = await reader.read()
    writer.write(b"%d bytes, last %s" % (len(heard), heard[-3:]))
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while heard := await reader.read(65536):
        writer.write(heard)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_has_said_all_still_hears_the_answer(kind: str, tmp_path: Path) -> None:
    async with a_door_to(read_all_then_answer, tmp_path if kind == "unix" else None) as come:
        reader, writer = await come()
        writer.write(b"x" * 100_000 + b"end")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"100003 bytes, last end"
        writer.close()


async def test_what_is_much_arrives_whole_both_ways_though_the_reader_is_slow() -> None:
    said = bytes(range(256)) * (LARGE // 256)
    async with a_door_to(echo) as come:
        reader, writer = await come()
        saying = asyncio.ensure_future(say_all(writer, said))
        await asyncio.sleep(0.2)
        assert not saying.done(), "the door took twenty megabytes that nobody had read"
        assert await asyncio.wait_for(reader.readexactly(LARGE), 60) == said
        await saying


async def say_all(writer: asyncio.StreamWriter, said: bytes) -> None:
    writer.write(said)
    await writer.drain()


async def test_lines_side_by_side_are_not_mixed_up() -> None:
    async with a_door_to(echo) as come:
        lines = [await come() for _ in range(30)]
        for number, (_, writer) in enumerate(lines):
            writer.write(b"%02d" % number * 50_000)
        for number, (reader, writer) in enumerate(lines):
            came = await asyncio.wait_for(reader.readexactly(100_000), PATIENCE)
            assert came == b"%02d" % number * 50_000
            writer.close()


async def test_a_server_that_hangs_up_is_heard_hanging_up() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with a_door_to(refuse) as come:
        for _ in range(20):
            reader, writer = await come()
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()


async def test_a_guest_who_hangs_up_is_heard_by_the_server() -> None:
    gone = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    async with a_door_to(wait_for_the_end) as come:
        _, writer = await come()
        writer.write(b"hello")
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), PATIENCE)


async def test_a_server_that_is_not_there_is_a_door_that_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()
    door = socket.create_server(("127.0.0.1", 0))
    with contextlib.closing(door):
        async with Doors({"d": door}, {"d": nobody}):
            reader, writer = await asyncio.open_connection(*door.getsockname())
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()


async def test_no_more_than_the_servers_could_take_come_in_and_who_leaves_makes_room() -> None:
    async with a_door_to(echo) as come:
        inside = []
        for _ in range(64):
            reader, writer = await come()
            writer.write(b"x")
            assert await asyncio.wait_for(reader.read(1), PATIENCE) == b"x"
            inside.append(writer)
        reader, _ = await come()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        for writer in inside[:5]:
            writer.close()
        async with asyncio.timeout(PATIENCE):
            while True:  # the door hears of it in a moment
                reader, writer = await come()
                writer.write(b"y")
                if await reader.read(1) == b"y":
                    break


async def test_when_the_check_is_over_every_line_is_cut_at_both_ends() -> None:
    heard_the_end = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        heard_the_end.set()
        writer.close()

    async with a_door_to(hold) as come:
        reader, writer = await come()
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"!"
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    await asyncio.wait_for(heard_the_end.wait(), PATIENCE)
    writer.close()


async def test_a_server_that_no_longer_reads_does_not_hold_a_line_open() -> None:
    never = asyncio.Event()

    async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    server = await asyncio.start_server(read_nothing, "127.0.0.1", 0)
    door = socket.create_server(("127.0.0.1", 0))
    _, guest = await asyncio.open_connection(*door.getsockname())
    async with server:
        with contextlib.closing(door):
            before = open_sockets()
            async with Doors({"d": door}, {"d": server.sockets[0].getsockname()}):
                guest.write(bytes(LARGE))
                await asyncio.sleep(0.2)
                assert open_sockets() > before
            inside_the_server = 1
            assert open_sockets() == before + inside_the_server
        never.set()
        guest.close()
        with contextlib.suppress(OSError):
            await guest.wait_closed()
