"""The judge's side of a subject: ask it to do things, and read what it says as data."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import socket
import struct
import sys
import textwrap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

from pydantic import ValidationError

from engineroom.errors import EngineRoomError
from engineroom.exercises.model import Outcome, SubjectFailed
from engineroom.exercises.wire import HEAD_SIZE, BadFrame, pack, size_of, unpack

MEMORY_LIMIT = 1024 * 2**20
_SPARE_DOORS = 4
_DOORS_AT_MOST = 32


class Shell(Protocol):
    """What a nursery is put into: a sandbox, as the command line that enters it."""

    def around(self, command: list[str]) -> list[str]:
        """The command line that runs ``command`` inside."""


class Gone(Exception):
    """The subject ended while it was asked something."""

    def __init__(self, status: int | None, *, too_large: bool = False, excess: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.too_large = too_large
        self.excess = excess

    @property
    def by_signal(self) -> int:
        return os.WTERMSIG(self.status) if self.status and os.WIFSIGNALED(self.status) else 0


class NurseryLost(EngineRoomError):
    """The warm parent ended; what its subjects were doing says nothing about them."""

    def __init__(self) -> None:
        super().__init__("The process that runs answers was ended.", "run the check again")


class Nursery:
    """The warm parent as the judge knows it. It is started anew when it is lost."""

    def __init__(self, memory: int = MEMORY_LIMIT, shell: Shell | None = None) -> None:
        self._memory = memory
        self._shell = shell
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
            # Its line closes at once when it dies, which the system tells a moment later.
            heard = self._listening is not None and not self._listening.done()
            if heard and self._process is not None and self._process.returncode is None:
                return
            await self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                command = [
                    *(sys.executable, "-P", "-m", "engineroom.exercises.nursery"),
                    f"--control={theirs.fileno()}",
                    f"--memory={self._memory}",
                ]
                if self._shell is not None:
                    command = self._shell.around([*command, "--isolate"])
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                )
            ours.setblocking(False)
            self._control = ours
            self._listening = asyncio.create_task(self._listen(ours))

    @property
    def isolates(self) -> bool:
        """Whether its subjects reach the lab through doors only."""
        return self._shell is not None

    async def subject(
        self,
        lab: dict[str, Any],
        doors: Sequence[str] = (),
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> Subject:
        """A fresh subject, forked now; in a sandbox, with these doors to the lab, and files."""
        await self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            number = next(self._numbers)
            subject = Subject(self, number, ours)
            self._subjects[number] = subject
            # Not by way of the nursery: whoever is forked from it later could find it there.
            ours.setblocking(True)
            ours.sendall(pack(lab))
            ours.setblocking(False)
            request = {"op": "fork", "number": number, "secrets": "secrets" in lab}
            furniture = {"doors": list(doors), "spare": _SPARE_DOORS, "files": dict(files)}
            self._ask(request | furniture, theirs)
        try:
            # A cold nursery imports for a while; that is not the learner's time.
            await subject.born()
            if self.isolates:
                await subject.take_doors(doors)
                subject.files = dict(files)
        except BaseException:
            await subject.kill()
            raise
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
                if subject is None:
                    continue
                if "pid" in message:
                    subject.birth.set()
                elif "refused" in message:
                    self._subjects.pop(message["number"])
                    subject.refused(message["refused"])
                elif "status" in message:
                    self._subjects.pop(message["number"])
                    subject.ended(message["status"], too_large=message["too_large"])
        except (asyncio.IncompleteReadError, OSError, ValueError, BadFrame):
            for subject in self._subjects.values():
                subject.lost()
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
        self._end: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self.birth = asyncio.Event()
        self.kind = ""
        self.answer = ""
        self.excess = ""
        """Of what it took too much, when the judge ended it for that."""
        self.doors: dict[str, socket.socket] = {}
        """In a sandbox: where the subject's side of each door leads to, by the door's name."""
        self.spare_doors: list[socket.socket] = []
        self.files: dict[str, str] = {}
        """What it was given at its birth, by name."""
        self.watched = False
        """Whether it shall be able to tell if its answer left it as it was."""
        self.clean = False
        """Whether its last answer left it as it was."""
        self._next_lab: dict[str, Any] | None = None
        self._heard = bytearray()

    async def born(self) -> None:
        """Wait until the process is there, or will never be."""
        async with asyncio.timeout(60):
            await self.birth.wait()
        # A subject that ended at once says so when it is asked; one that never was, now.
        if self._end.done() and not isinstance(self._end.result(), Gone):
            raise self._end.result()

    async def take_doors(self, names: Sequence[str]) -> None:
        """Receive the listening sockets that the subject opened in its own world."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._socket, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._socket)
        word, descriptors, *_ = socket.recv_fds(self._socket, 1, _DOORS_AT_MOST)
        opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        for door in opened:
            door.setblocking(False)
        if not word:
            raise await self._ending()
        self.doors = dict(zip(names, opened, strict=False))
        self.spare_doors = opened[len(names) :]

    def ended(self, status: int, *, too_large: bool = False) -> None:
        self._over(Gone(status, too_large=too_large, excess=self.excess))

    def lost(self) -> None:
        """The nursery ended, and everybody in it."""
        self._over(NurseryLost())

    def refused(self, why: str) -> None:
        """It was never there."""
        self._over(
            EngineRoomError(f"A submission cannot be isolated here: {why}.", "engineroom doctor")
        )

    def _over(self, how: Exception) -> None:
        self.birth.set()
        if not self._end.done():
            self._end.set_result(how)

    def renew(self, lab: dict[str, Any]) -> None:
        """Begin anew, with the next answer of the same learner's that is defined."""
        self.kind, self.clean, self._next_lab = "", False, lab

    async def define(self, cells: list[tuple[int, str]], answer: str) -> Outcome:
        """Run the cells; what they define stays in the subject."""
        self.answer = answer
        lab, self._next_lab = self._next_lab, None
        outcome = await self._ask(
            {
                "op": "define",
                "cells": [list(cell) for cell in cells],
                "answer": answer,
                "watched": self.watched,
                "anew": lab,
            }
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
                "source": _source(probe),
                "entry": probe.__name__,
                "name": self.answer,
                "args": args,
            },
        )

    async def left_behind(self) -> dict[str, int]:
        """What still runs or stands open when all is done. Only its word: enough for a note."""
        found = (await self._ask({"op": "left"})).value
        told = found if isinstance(found, dict) else {}
        counts = {
            name: count
            for name in ("tasks", "connections")
            if type(count := told.get(name)) is int and 0 < count < 1000
        }
        self.clean = told.get("clean") is True and not counts
        return counts

    async def kill(self) -> None:
        """End the process and all that it started."""
        self._nursery.kill(self._number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._end), 5)
        for end in (self._socket, *self.doors.values(), *self.spare_doors):
            end.close()

    async def _ask(self, request: dict[str, Any]) -> Outcome:
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                await loop.sock_sendall(self._socket, pack(request))
                size = size_of(await self._exactly(loop, HEAD_SIZE))
                message = unpack(await self._exactly(loop, size))
            except ConnectionError:
                raise await self._ending() from None
        if message.get("done") is True:
            return _DONE
        try:
            return Outcome.model_validate(message)
        except ValidationError as error:
            raise BadFrame("a reply had another shape than the one asked for") from error

    async def _exactly(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        while len(self._heard) < size:
            part = await loop.sock_recv(self._socket, 65536)
            if not part:
                raise await self._ending()
            self._heard += part
        got = bytes(self._heard[:size])
        del self._heard[:size]
        return got

    async def _ending(self) -> Exception:
        """How it ended, which the nursery says; or that nobody knows."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._end), 2)
        except TimeoutError:
            return Gone(None)


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


@lru_cache(maxsize=512)
def _source(probe: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(probe))


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


_DONE = Outcome(kind="done")
