"""What a probe may use beside the learner's code: clocks that move, attempts that are counted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class SubjectLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a probe can move forward, so that no check waits for real."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + SubjectLoop.ahead


def make_clocks_movable() -> None:
    """Let the process's own clocks follow the loop's."""

    def movable(clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: clock() + SubjectLoop.ahead

    time.time = movable(time.time)
    time.monotonic = movable(time.monotonic)


async def let_pass(seconds: float) -> None:
    """Move every clock of this process forward, and let what was due happen."""
    SubjectLoop.ahead += seconds
    await turns()


async def turns(count: int = 20) -> None:
    """Let everything run that can: what is due now, what that wakes, and so on."""
    for _ in range(count):
        await asyncio.sleep(0)


class Attempts:
    """Counts the connections that SQLAlchemy begins to open, as they begin."""

    def __init__(self) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        self.count = 0
        event.listen(Engine, "do_connect", self._one_more)

    def _one_more(self, *_: Any) -> None:
        self.count += 1


@contextmanager
def closed_port() -> Iterator[int]:
    """A loopback port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening
        yield int(held.getsockname()[1])


@contextmanager
def no_such_host(code: int = socket.EAI_NONAME, words: str = "unknown name") -> Iterator[None]:
    """Answer at once that ``*.invalid`` does not resolve: a real resolver may think for seconds."""
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith(".invalid"):
            raise socket.gaierror(code, words)
        return real(host, *args, **kwargs)

    socket.getaddrinfo = look_up
    try:
        yield
    finally:
        socket.getaddrinfo = real
