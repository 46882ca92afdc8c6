"""The warm parent: has imported what answers import, and forks a subject in milliseconds.

It runs no learner's code itself. The judge holds the other end of its socket; when that closes,
every subject is killed and the nursery ends. One frame a request, each with the socket that the
new subject shall speak on; a frame back for each subject that ended.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from engineroom.exercises import isolation
from engineroom.exercises.shares import Shares, processes

_HEAD = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FILE_LIMIT = 64 * 2**20
_WATCH = 0.1


@dataclass
class Nursery:
    """Forks, buries, and tells the judge."""

    control: socket.socket
    memory: int
    isolate: bool
    """Whether each subject gets a world of its own, and is watched in it."""

    def __post_init__(self) -> None:
        self._subjects: dict[int, int] = {}
        self._too_large: set[int] = set()
        self._look_again = 0.0
        self._shares = Shares(self.memory)
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        if self._libc is not None:
            # A subject's grandchildren come to us when their parent ends, to be ended too.
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def run(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the judge's to handle
        events = selectors.DefaultSelector()
        events.register(self.control, selectors.EVENT_READ)
        events.register(reading, selectors.EVENT_READ)
        try:
            while True:
                watching = _WATCH if self.isolate and self._subjects else None
                for key, _ in events.select(watching):
                    if key.fileobj is self.control:
                        if not self._serve():
                            return
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(reading, 4096)
                        self._bury()
                if watching and time.monotonic() >= self._look_again:
                    self._look()  # not at every birth and death: it reads all of /proc
                    self._look_again = time.monotonic() + _WATCH
        finally:
            for pid in list(self._subjects):
                self._kill(pid)

    def _serve(self) -> bool:
        try:
            body, descriptors, *_ = socket.recv_fds(self.control, 65536, 1)
        except ConnectionError:  # the judge went without reading all that it was told
            return False
        if not body:
            return False
        for request in _messages(body):
            if request["op"] == "kill":
                for pid, number in list(self._subjects.items()):
                    if number == request["number"]:
                        self._kill(pid)
            else:
                if request["secrets"]:
                    warm_up_for_secrets()
                self._fork(request, descriptors[0])
        return True

    def _fork(self, request: dict[str, Any], descriptor: int) -> None:
        number, parent = request["number"], os.getpid()
        try:
            pid = isolation.enter() if self.isolate else os.fork()
        except OSError as error:
            os.close(descriptor)
            self._tell({"number": number, "refused": str(error)})
            return
        if pid == 0:
            try:
                self._become(request, descriptor, parent)
            finally:
                os._exit(1)
        os.close(descriptor)
        self._subjects[pid] = number
        self._tell({"number": number, "pid": pid})

    def _become(self, request: dict[str, Any], descriptor: int, parent: int) -> None:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # A world of one's own ends with ours; elsewhere a subject asks to end with its parent.
        if self._libc is not None and not self.isolate:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, 1024)
        quiet = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(quiet, standard)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_LIMIT, _FILE_LIMIT))
        connection = socket.socket(fileno=descriptor)
        if self.isolate:
            doors = isolation.settle(
                request["doors"], request["spare"], request["files"], self.memory
            )
            socket.send_fds(connection, [b"D"], [door.fileno() for door in doors])
            for door in doors:
                door.close()
            isolation.limit_files()
        elif self.memory:
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))
        from engineroom.exercises.runtime import become_subject

        become_subject(connection)

    def _look(self) -> None:
        """End a subject whose processes together hold more than one of them may."""
        for subject in self._shares.look(self._subjects):
            self._too_large.add(subject)
            self._kill(subject)

    def _kill(self, pid: int) -> None:
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(pid, signal.SIGKILL)

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._subjects.pop(pid, None)
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                too_large = pid in self._too_large
                self._too_large.discard(pid)
                self._tell({"number": number, "status": status, "too_large": too_large})
            if not self.isolate:  # a world that ends takes everybody in it along
                self._end_strays()

    def _end_strays(self) -> None:
        """Kill what a dead subject left behind: children of ours that are no subjects."""
        for process in processes() if self._libc is not None else ():
            if process.parent == os.getpid() and process.pid not in self._subjects:
                self._kill(process.pid)

    def _tell(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        with contextlib.suppress(OSError):
            self.control.sendall(_HEAD.pack(len(body)) + body)


def _messages(body: bytes) -> list[dict[str, Any]]:
    found = []
    while body:
        (size,) = _HEAD.unpack(body[: _HEAD.size])
        found.append(json.loads(body[_HEAD.size : _HEAD.size + size]))
        body = body[_HEAD.size + size :]
    return found


def warm_up() -> None:
    """Import what answers import, dialects too: each would cost every subject its time."""
    # The first two asyncio imports when it looks a name up for the first time.
    import encodings.idna  # noqa: F401

    import aiosqlite  # noqa: F401
    import asyncpg  # noqa: F401
    import psycopg  # noqa: F401
    import pydantic_settings  # noqa: F401
    import sqlmodel.ext.asyncio.session  # noqa: F401
    from sqlalchemy.ext.asyncio import create_async_engine

    import engineroom.exercises.runtime
    import engineroom.lab.face  # noqa: F401

    for url in ("postgresql+asyncpg://u@h/d", "postgresql+psycopg://u@h/d", "sqlite+aiosqlite://"):
        # Making an engine runs the lazy half of a dialect's imports; it connects to nothing.
        create_async_engine(url)


@cache
def warm_up_for_secrets() -> None:
    """The same for boto3, half a second that only checks with a Secrets Manager have to pay."""
    with contextlib.suppress(Exception):  # it is not here, or its own settings are no good
        import boto3

        # Making a client reads what boto3 knows of the service; it connects to nothing.
        boto3.client("secretsmanager", region_name="eu-north-1")


def _remember_entry_points() -> None:
    """SQLAlchemy reads what every installed package announces, whenever it meets a dialect that
    it does not know: half a second's work for ten answers, and always with the same result."""
    from importlib import metadata

    found: Any = metadata.entry_points()

    def remembered(**chosen: Any) -> Any:
        return found.select(**chosen) if chosen else found

    metadata.entry_points = remembered


def main() -> None:
    """Run as ``python -m engineroom.exercises.nursery --control FD``, by the judge."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--control", type=int, required=True)
    arguments.add_argument("--memory", type=int, default=0)
    arguments.add_argument("--isolate", action="store_true")
    given = arguments.parse_args()
    control = socket.socket(fileno=given.control)
    control.set_inheritable(False)
    if given.isolate:
        isolation.prepare()
    warm_up()
    from engineroom.exercises.rehearsal import rehearse

    if given.isolate:
        _remember_entry_points()
        with contextlib.suppress(Exception):  # it is quicker with it, and right without
            rehearse()
    gc.collect()
    gc.freeze()  # so that forks share these pages for good
    if given.isolate:
        isolation.seal()
    Nursery(control, given.memory, given.isolate).run()


if __name__ == "__main__":
    main()
