"""The judge's side of a sandboxed subject's doors: bytes in, bytes out, to the lab's own servers.

A door is a listening socket inside the subject's world (``engineroom.exercises.isolation``). What
is said there is carried to the one server that the door leads to. TLS goes through from end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from pathlib import PurePath
from typing import Any, Self, cast
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
        self._guests: set[_Guest] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for name, address in self._lead_to.items():
            serve = loop.create_unix_server if isinstance(address, str) else loop.create_server
            welcome = partial(_Guest, address, self._guests)
            self._servers.append(await serve(welcome, sock=self._doors[name].dup()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        leading = [guest.leading for guest in self._guests if guest.leading is not None]
        for guest in list(self._guests):
            guest.turn_out()
        await asyncio.gather(*leading, return_exceptions=True)
        await asyncio.sleep(0)  # in which the lines that were cut are closed


class _End(asyncio.BufferedProtocol):
    """One end of a line: what arrives here goes out at the other end.

    A login is two dozen messages, and a class logs in thousands of times. So there is neither a
    task nor a stream in between, and one buffer serves all: it is empty before the next is read.
    """

    _buffer = bytearray(65536)

    def __init__(self) -> None:
        self.other: _End | None = None
        self.said_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> bool:
        """The other direction goes on until it has said all, too."""
        self.said_all = True
        if self.other is None or self.other.said_all:
            return False
        with contextlib.suppress(OSError):  # it may have hung up in this moment
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class _Guest(_End):
    """The end inside the subject's world: the line onward is made when somebody comes in."""

    def __init__(self, address: Address, guests: set[_Guest]) -> None:
        super().__init__()
        self._address = address
        self._guests = guests
        self.leading: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._guests) >= _AT_ONCE:  # the servers behind allow fewer anyway
            self.transport.close()
            return
        self._guests.add(self)
        self.transport.pause_reading()
        self.leading = asyncio.ensure_future(self._lead())

    async def _lead(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._address, str):
                _, onward = await loop.create_unix_connection(_End, self._address)
            else:
                _, onward = await loop.create_connection(_End, *self._address)
        except OSError:
            self.transport.close()
            return
        self.other, onward.other = onward, self
        for end in (self, onward):
            if end.transport.is_closing():  # hung up meanwhile
                assert end.other is not None
                end.other.transport.close()
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._guests.discard(self)

    def turn_out(self) -> None:
        """Hang up at both ends, whatever is still on its way."""
        if self.leading is not None:
            self.leading.cancel()
        self.transport.abort()
        if self.other is not None:
            self.other.transport.abort()
