"""The user's end of a lease: find the keeper or start one, ask it, hold on to it.

Only the standard library is used here, and nothing of asyncio: a kernel's loop is its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from engineroom.errors import EngineRoomError
from engineroom.lab.choice import Choice, choose, embedded_instead
from engineroom.lab.model import Say
from engineroom.lab.places import Places, find_places

# A keeper that is just ending closes the door; the next try finds or starts another.
_TRIES = 20
_CONNECT_PATIENCE = 5.0


def _quiet(_: str) -> None:
    pass


class Line:
    """A connection to the keeper of one lab: ask, and get an answer or its sentence.

    Whoever is interrupted while waiting keeps the line, and with it the lease; the answer that
    comes later is told by its number and passed over.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._heard = b""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        _lines.add(self)

    def ask(self, request: dict[str, Any], say: Say = _quiet) -> dict[str, Any]:
        """Raises EngineRoomError for a refusal, ConnectionError when the keeper is gone."""
        with self._lock:
            number = next(self._numbers)
            try:
                self._socket.sendall(json.dumps(request | {"id": number}).encode() + b"\n")
                while True:
                    answer = self._hear()
                    if "say" in answer:
                        say(str(answer["say"]))
                    elif answer.pop("id", None) == number:
                        break
            except OSError as error:
                self.close()
                raise ConnectionResetError("the keeper closed the line") from error
        if answer.pop("ok"):
            return answer
        raise EngineRoomError(answer["sentence"], answer["fix"])

    def _hear(self) -> dict[str, Any]:
        while b"\n" not in self._heard:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    @property
    def alive(self) -> bool:
        """Whether the keeper still holds the other end."""
        with self._lock:
            try:
                return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
            except BlockingIOError:
                return True
            except OSError:
                return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


_lines: weakref.WeakSet[Line] = weakref.WeakSet()
_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _let_go_in_a_fork() -> None:
    """A fork is another user of the lab: it must neither use nor hold its parent's lease."""
    for line in list(_lines):
        line.close()
    for lease in list(_leases):
        lease.forget()


os.register_at_fork(after_in_child=_let_go_in_a_fork)


def call(request: dict[str, Any], say: Say = _quiet, *, start: bool = True) -> dict[str, Any]:
    """One question without a lease. With ``start=False`` an empty answer when no keeper runs."""
    return _reach(lambda line: line.ask(request, say), choose(), start=start) or {}


def running(choice: Choice | None = None) -> bool:
    """Whether a keeper answers for this choice."""
    line = _connect(find_places(), choice or choose())
    if line is None:
        return False
    line.close()
    return True


class Lease:
    """A place in the lab: its own database, and the side servers it asked for.

    ``passing``: nothing that is made here need outlast its users.
    """

    def __init__(
        self,
        kind: str = "kernel",
        *,
        tenant: bool = True,
        say: Say = _quiet,
        passing: bool = False,
    ) -> None:
        self._kind = kind
        self._tenant_wanted = tenant
        self._passing = passing
        self._say = say
        self.forget()
        _leases.add(self)

    def forget(self) -> None:
        """Begin as one who never joined."""
        self._line: Line | None = None
        self._endpoints: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self.choice: Choice | None = None
        self.joined: dict[str, Any] = {}

    def join(self) -> dict[str, Any]:
        """Take the lease, or take it again after the keeper was lost."""
        with self._lock:
            if self._line is not None and self._line.alive:
                return self.joined
            self._endpoints.clear()
            choice = self._placed(choose())
            try:
                self._join(choice)
            except EngineRoomError as refused:
                if choice.forced or choice.provider == "embedded":
                    raise
                self._join(self._placed(embedded_instead(refused)))
            return self.joined

    def _placed(self, choice: Choice) -> Choice:
        """Where nothing need outlast this lease, the server may be one that does not either."""
        if not self._passing:
            return choice
        from engineroom.lab.passing import passing  # a kernel has no use for it

        return passing(choice)

    def _join(self, choice: Choice) -> None:
        request = {
            "op": "join",
            "kind": self._kind,
            "pid": os.getpid(),
            "tenant_wanted": self._tenant_wanted,
            "former": self.joined.get("tenant"),
        }

        def ask(line: Line) -> dict[str, Any]:
            answer = line.ask(request, self._say)
            self._line = line
            return answer

        self.joined = _reach(ask, choice, keep=True) or {}
        self.choice = choice

    def use(self, service: str) -> dict[str, Any]:
        """A side server's endpoint, started on first use."""
        with self._lock:
            self.join()
            if service not in self._endpoints:
                answer = self.ask({"op": "use", "service": service})
                self._endpoints[service] = answer["endpoint"]
            return self._endpoints[service]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for _ in range(_TRIES):
                self.join()
                assert self._line is not None
                with contextlib.suppress(ConnectionError):
                    return self._line.ask(request, self._say)
            raise _keeper_keeps_ending()

    def leave(self, *, at_once: bool = False) -> None:
        """Give everything back; ``at_once`` also stops servers that nobody else uses."""
        with self._lock:
            line, self._line = self._line, None
            self.joined, self._endpoints = {}, {}
            if line is None:
                return
            ending = False
            with contextlib.suppress(OSError, EngineRoomError):
                ending = line.ask({"op": "leave", "at_once": at_once})["ending"]
            line.close()
            if ending and self.choice is not None:
                wait_until_ended(self.choice)


def wait_until_ended(choice: Choice, patience: float = 20.0) -> bool:
    """Wait for a keeper that is on its way out; False when it has not ended by then."""
    places = find_places()
    deadline = time.monotonic() + patience
    with open(places.run / f"keeper-{choice.key}.lock", "a+") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                return True
    return False


def _reach(
    ask: Any, choice: Choice, *, start: bool = True, keep: bool = False
) -> dict[str, Any] | None:
    places = find_places()
    for _ in range(_TRIES):
        line = _connect(places, choice)
        if line is None:
            if not start:
                return None
            line = _start_keeper(places, choice)
        try:
            answer: dict[str, Any] = ask(line)
            if not keep:
                line.close()
            return answer
        except ConnectionError:
            line.close()
        except BaseException:
            line.close()
            raise
    raise _keeper_keeps_ending()


def _keeper_keeps_ending() -> EngineRoomError:
    log = find_places().logs / "keeper.log"
    return EngineRoomError(
        f"The lab's keeper ends as soon as it is asked; its log is {log}.", "engineroom doctor"
    )


def _socket_path(places: Places, choice: Choice) -> Path:
    return places.run / f"keeper-{choice.key}.sock"


def _connect(places: Places, choice: Choice) -> Line | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(_socket_path(places, choice)))
    except OSError:
        connection.close()
        return None
    return Line(connection)


def _start_keeper(places: Places, choice: Choice) -> Line:
    """Start a keeper unless somebody else is just doing so: the lock makes it one."""
    with open(places.run / f"start-{choice.key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = _connect(places, choice)
        if line is not None:
            return line
        said = _launch(places, choice)
        line = _connect(places, choice)
        if line is not None:
            return line
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(said)
        raise EngineRoomError(told["sentence"], told["fix"])
    raise EngineRoomError(
        f"The lab's keeper did not start; its log is {places.logs / 'keeper.log'}.",
        "engineroom doctor",
    )


def _launch(places: Places, choice: Choice) -> str:
    reading, writing = os.pipe()
    words_to = _keeper_log(places)
    try:
        # -P: what lies in the learner's folder must not be imported in place of a library.
        starter = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "engineroom.lab.keeper",
                f"--home={places.home}",
                f"--run={places.run}",
                f"--provider={choice.provider}",
                f"--key={choice.key}",
                f"--passing={choice.passing}",
                f"--ready-fd={writing}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words_to,
            pass_fds=[writing],
            start_new_session=True,
            cwd="/",
        )
        os.close(writing)
        writing = -1
        starter.wait()
        with os.fdopen(reading) as words:
            reading = -1
            return words.read()
    finally:
        for descriptor in (reading, writing, words_to):
            if descriptor >= 0:
                os.close(descriptor)


def _keeper_log(places: Places) -> int:
    """Where a keeper's words go that comes to grief before it has opened its log."""
    try:
        places.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(places.logs / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
