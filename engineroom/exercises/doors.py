"""The judge's side of a sandboxed subject's doors: bytes in, bytes out, to the lab's own servers.

A door is a listening socket inside the subject's world (``engineroom.exercises.isolation``). What
is said there is carried to the one server that the door leads to. TLS goes through from end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import PurePath
from typing import Any, Self
from urllib.parse import urlsplit

_TEMPORARY = PurePath("/tmp")  # noqa: S108  (the subject's own, where it may put a socket)
_AT_ONCE = 64
Address = tuple[str, int] | str


def addresses(lab: dict[str, Any]) -> dict[str, Address]:
    """Each door that a lab needs, and the server it leads to."""
    found: dict[str, Address] = {}
    for endpoint in (lab, *(value for value in lab.values() if isinstance(value, dict))):
        url = endpoint.get("url")
        if not isinstance(url, str):
            continue
        parts = urlsplit(url)
        if parts.hostname and parts.port:
            # Ours all listen on the first; to look the name up takes a thread each time.
            host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
            found[f"tcp:{parts.port}"] = (host, parts.port)
            folder = endpoint.get("socket_dir")
            if folder and PurePath(folder).is_relative_to(_TEMPORARY):
                path = f"{folder}/.s.PGSQL.{parts.port}"
                found[path] = path
    return found


class Doors:
    """Serves a subject's doors while its ``async with`` block lasts."""

    def __init__(self, doors: dict[str, socket.socket], lead_to: dict[str, Address]) -> None:
        self._doors = doors
        self._lead_to = lead_to
        self._servers: list[asyncio.Server] = []
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for name, address in self._lead_to.items():
            self._servers.append(await self._serve(self._doors[name], address))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _serve(self, door: socket.socket, address: Address) -> asyncio.Server:
        def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._carrying) >= _AT_ONCE:  # the servers behind allow fewer anyway
                writer.close()
                return
            task = asyncio.create_task(_carry(reader, writer, address))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

        start = asyncio.start_unix_server if isinstance(address, str) else asyncio.start_server
        return await start(carry, sock=door.dup())


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
) -> None:
    onward: asyncio.StreamWriter | None = None
    try:
        if isinstance(address, str):
            back, onward = await asyncio.open_unix_connection(address)
        else:
            back, onward = await asyncio.open_connection(*address)
        async with asyncio.TaskGroup() as both:
            both.create_task(_pour(reader, onward))
            both.create_task(_pour(back, writer))
    except* OSError:
        pass  # either end may hang up at any time
    finally:
        for end in (writer, onward):
            if end is not None:
                end.close()


async def _pour(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        into.write(data)
        await into.drain()
    with contextlib.suppress(OSError):
        if into.can_write_eof():
            into.write_eof()
