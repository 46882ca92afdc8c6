"""The relay: a clear line between a program and its server, where every message is counted.

A program that connects here reaches the server as it would without; what it says can be read, and
the line can be cut, or go silent as a line does when something on its way forgets it. The server
has to take clear connections, as the lab's own do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

# What may come before a login, told by a number where the version would stand.
_WANTS_TLS, _WANTS_GSS = 80877103, 80877104
# A program here may be a stranger's: what it says is carried, and kept, within these limits.
_MESSAGE_LIMIT = 16 * 2**20
_KEPT_MESSAGES, _KEPT_CHARACTERS = 10_000, 1_000


class Message(NamedTuple):
    """What the program sent: a letter as the protocol has it (``X``: it hangs up), and any SQL."""

    kind: str
    sql: str = ""


class Line:
    """One connection by way of the relay, and what the program said on it since its login."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.silent = False
        self.open = True


class Relay:
    """Listens on loopback while its ``async with`` block lasts; use its ``url`` in a program."""

    def __init__(self, url: str, door: socket.socket | None = None) -> None:
        self.lines: list[Line] = []
        self._door = door
        self._url = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The way to the same database as before, through here."""
        login, _, _ = self._url.netloc.rpartition("@")
        host, port = self._server.sockets[0].getsockname()[:2]
        return self._url._replace(netloc=f"{login}@{host}:{port}").geturl()

    def said(self) -> list[Message]:
        """All that was said here, line by line."""
        return [message for line in self.lines for message in line.said]

    def stall(self) -> None:
        """Let the lines that stand go silent: nothing arrives any more, and nobody is told."""
        for line in self.lines:
            line.silent = True

    def cut(self) -> None:
        """Close every line at both ends."""
        for end in self._ends:
            end.close()

    async def __aenter__(self) -> Self:
        if self._door is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        else:  # in a sandbox's own world, where our loopback cannot be reached
            self._server = await asyncio.start_server(self._serve, sock=self._door)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._carry(reader, writer))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry(self, program: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        line = Line()
        self.lines.append(line)
        self._ends.add(answer)
        onward: asyncio.StreamWriter | None = None
        try:
            first = await _first(program, answer)
            server, onward = await asyncio.open_connection(
                self._url.hostname or "localhost", self._url.port or 5432
            )
            self._ends.add(onward)
            onward.write(first)
            back = self._start(_pour(server, answer, line))
            await _listen(program, onward, line)
            onward.close()
            await back
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            line.open = False
            for end in (answer, onward):
                if end is not None:
                    end.close()
                    self._ends.discard(end)


async def _first(program: asyncio.StreamReader, answer: asyncio.StreamWriter) -> bytes:
    """The packet that begins a session; who asks for TLS before it is told that there is none."""
    while True:
        head = await program.readexactly(8)
        size, code = struct.unpack("!II", head)
        if not 8 <= size <= 10_000:
            raise ConnectionError("no client of Postgres begins so")
        body = await program.readexactly(size - 8)
        if code not in (_WANTS_TLS, _WANTS_GSS):
            return head + body
        answer.write(b"N")


async def _listen(program: asyncio.StreamReader, onward: asyncio.StreamWriter, line: Line) -> None:
    """Carry what the program says, message by message, and note each that is no login."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await program.readexactly(5)
            kind, size = struct.unpack("!cI", head)
            if not 4 <= size <= _MESSAGE_LIMIT:
                return
            body = await program.readexactly(size - 4)
            if kind != b"p" and len(line.said) < _KEPT_MESSAGES:
                line.said.append(Message(kind.decode("latin-1"), _sql(kind, body)))
            if not line.silent:
                onward.write(head + body)
                await onward.drain()


def _sql(kind: bytes, body: bytes) -> str:
    texts = body.split(b"\0")
    found = {b"Q": texts[:1], b"P": texts[1:2]}.get(kind, [b""])
    return b"".join(found)[:_KEPT_CHARACTERS].decode(errors="replace")


async def _pour(server: asyncio.StreamReader, answer: asyncio.StreamWriter, line: Line) -> None:
    """Carry what the server says, until it hangs up."""
    with contextlib.suppress(OSError):
        while data := await server.read(65536):
            if not line.silent:
                answer.write(data)
                await answer.drain()
    if not line.silent:
        answer.close()
