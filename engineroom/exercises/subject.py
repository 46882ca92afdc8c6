"""The judge's side of a subject: ask it to do things, and read what it says as data."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import signal
import socket
import struct
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from engineroom.exercises.model import Outcome, SubjectFailed
from engineroom.exercises.wire import HEAD_SIZE, BadFrame, pack, size_of, unpack

MEMORY_LIMIT = 1024 * 2**20


class Gone(Exception):
    """The subject ended while it was asked something."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status

    @property
    def by_signal(self) -> int:
        return os.WTERMSIG(self.status) if self.status and os.WIFSIGNALED(self.status) else 0


class Nursery:
    """The warm parent as the judge knows it. It is started anew when it is lost."""

    def __init__(self, memory: int = MEMORY_LIMIT) -> None:
        self._memory = memory
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._subjects: dict[int, Subject] = {}
        self._listening: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            await self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "engineroom.exercises.nursery"),
                    f"--control={theirs.fileno()}",
                    f"--memory={self._memory}",
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                )
            ours.setblocking(False)
            self._control = ours
            self._listening = asyncio.create_task(self._listen(ours))

    async def subject(self, lab: dict[str, Any]) -> Subject:
        """A fresh subject, forked now."""
        await self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            number = next(self._numbers)
            subject = Subject(self, number, ours)
            self._subjects[number] = subject
            self._ask({"op": "lab", "lab": lab})
            self._ask({"op": "fork", "number": number}, theirs)
        # A cold nursery imports for a while; that is not the learner's time.
        await subject.born()
        return subject

    def kill(self, number: int) -> None:
        self._ask({"op": "kill", "number": number})

    async def close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
            self._listening = None
        if self._process is not None:
            await self._process.wait()
            self._process = None

    def _ask(self, message: dict[str, Any], passed: socket.socket | None = None) -> None:
        """Requests are small and the nursery reads promptly, so this never blocks for long."""
        if self._control is None:
            return
        body = json.dumps(message).encode()
        frame = struct.pack("!I", len(body)) + body
        try:
            self._control.setblocking(True)
            socket.send_fds(self._control, [frame], [passed.fileno()] if passed else [])
            self._control.setblocking(False)
        except OSError:
            pass  # the nursery is gone; its subjects' sockets say so

    async def _listen(self, control: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=control.dup())
        try:
            while True:
                size = size_of(await reader.readexactly(HEAD_SIZE))
                message = json.loads(await reader.readexactly(size))
                subject = self._subjects.get(message["number"])
                if subject is not None and "pid" in message:
                    subject.birth.set()
                if subject is not None and "status" in message:
                    self._subjects.pop(message["number"])
                    subject.ended(message["status"])
        except (asyncio.IncompleteReadError, OSError, ValueError, BadFrame):
            for subject in self._subjects.values():
                subject.ended(signal.SIGKILL)
            self._subjects.clear()
        finally:
            writer.close()


class Subject:
    """One process with a learner's cells in it."""

    def __init__(self, nursery: Nursery, number: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._nursery = nursery
        self._number = number
        self._socket = connection
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self.birth = asyncio.Event()
        self.kind = ""
        self.answer = ""

    async def born(self) -> None:
        """Wait until the process is there, or will never be."""
        async with asyncio.timeout(60):
            await self.birth.wait()

    def ended(self, status: int) -> None:
        self.birth.set()
        if not self._end.done():
            self._end.set_result(status)

    async def define(self, cells: list[tuple[int, str]], answer: str) -> Outcome:
        """Run the cells; what they define stays in the subject."""
        self.answer = answer
        outcome = await self._ask(
            {"op": "define", "cells": [list(cell) for cell in cells], "answer": answer}
        )
        self.kind = outcome.kind
        return outcome

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Outcome:
        """Call what the learner named so, awaiting it when it is to be awaited."""
        return await self._ask({"op": "call", "name": name, "args": args, "kwargs": kwargs})

    async def value(self, name: str, *args: Any) -> Any:
        """What a call returns; what it raises counts as the learner's error."""
        outcome = await self.call(name, *args)
        if outcome.failure is not None:
            raise SubjectFailed(outcome.failure)
        return outcome.value

    def steps(self, probe: Callable[..., Any], *args: Any) -> Steps:
        """Run a probe beside the learner's code, one ``yield`` at a time.

        The probe's source travels, not the function: it gets the learner's answer as its first
        argument, and imports what it uses.
        """
        return Steps(
            self._ask,
            {
                "op": "steps",
                "source": textwrap.dedent(inspect.getsource(probe)),
                "entry": probe.__name__,
                "name": self.answer,
                "args": args,
            },
        )

    async def left_behind(self) -> dict[str, int]:
        """What still runs or stands open when all is done. Only its word: enough for a note."""
        found = (await self._ask({"op": "left"})).value
        counts = found if isinstance(found, dict) else {}
        return {
            name: count
            for name in ("tasks", "connections")
            if type(count := counts.get(name)) is int and 0 < count < 1000
        }

    async def kill(self) -> None:
        """End the process and all that it started."""
        self._nursery.kill(self._number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._end), 5)
        self._socket.close()

    async def _ask(self, request: dict[str, Any]) -> Outcome:
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                await loop.sock_sendall(self._socket, pack(request))
                size = size_of(await self._exactly(loop, HEAD_SIZE))
                message = unpack(await self._exactly(loop, size))
            except (ConnectionError, BrokenPipeError):
                raise Gone(await self._status()) from None
        if message.get("done") is True:
            return _DONE
        try:
            return Outcome.model_validate(message)
        except ValidationError as error:
            raise BadFrame("a reply had another shape than the one asked for") from error

    async def _exactly(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            part = await loop.sock_recv(self._socket, min(size - len(got), 65536))
            if not part:
                raise Gone(await self._status())
            got += part
        return bytes(got)

    async def _status(self) -> int | None:
        try:
            return await asyncio.wait_for(asyncio.shield(self._end), 2)
        except TimeoutError:
            return None


class Steps:
    """A probe under way. Ask for one step at a time; look at the server in between."""

    def __init__(
        self, ask: Callable[[dict[str, Any]], Awaitable[Outcome]], first: dict[str, Any]
    ) -> None:
        self._ask = ask
        self._request = first

    async def outcome(self, value: Any = None) -> Outcome:
        """The next step, whatever comes of it; ``value`` is what its ``yield`` gives back."""
        request, self._request = self._request, {"op": "next"}
        return await self._ask(request if request["op"] == "steps" else {**request, "value": value})

    async def next(self, value: Any = None) -> Any:
        """What the next step yields; what it raises counts as the learner's error."""
        outcome = await self.outcome(value)
        if outcome.failure is not None:
            raise SubjectFailed(outcome.failure)
        return outcome.value


_DONE = Outcome(kind="done")
