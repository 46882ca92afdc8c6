"""What a probe may use beside the learner's code: clocks that move, attempts that are counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

_steady = time.monotonic  # the real one, whatever ``make_clocks_movable`` puts in its place


class SubjectLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a probe can move forward, so that no check waits for real."""

    ahead = 0.0

    def time(self) -> float:
        return _steady() + SubjectLoop.ahead


def make_clocks_movable() -> None:
    """Let the process's own clocks follow the loop's."""

    def movable(clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: clock() + SubjectLoop.ahead

    time.time = movable(time.time)
    time.monotonic = movable(time.monotonic)
    time.perf_counter = movable(time.perf_counter)


async def let_pass(seconds: float) -> None:
    """Move every clock of this process forward, and let what was due happen."""
    SubjectLoop.ahead += seconds
    await turns()


async def turns(count: int = 20) -> None:
    """Let everything run that can: what is due now, what that wakes, and so on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settled() -> None:
    """Let everything run that can, and no longer than there is something."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(20):
        await asyncio.sleep(0)
        if not ready:
            return


def open_sockets() -> int:
    """How many sockets this process holds."""
    count = 0
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the listing's own descriptor is closed by now
            count += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return count


class Attempts:
    """Counts the connections that SQLAlchemy begins to open, as they begin."""

    def __init__(self) -> None:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        self.count = 0
        event.listen(Engine, "do_connect", self._one_more)

    def _one_more(self, *_: Any) -> None:
        self.count += 1


class Opened:
    """Counts the sockets that are open since it was made.

    It holds on to each connection that asyncpg and psycopg make, so that no collector of garbage
    closes what an answer forgot: what is left is told at once, and the same every time.
    """

    def __init__(self) -> None:
        import asyncpg
        import psycopg

        self._held: list[Any] = []
        for kind in (asyncpg.Connection, psycopg.AsyncConnection, psycopg.Connection):
            kind.__init__ = self._holding(kind.__init__)  # type: ignore[method-assign]
        self._before = open_sockets()

    def _holding(self, original: Callable[..., None]) -> Callable[..., None]:
        def begin(connection: Any, *args: Any, **kwargs: Any) -> None:
            self._held.append(connection)
            original(connection, *args, **kwargs)

        return begin

    @property
    def left(self) -> int:
        return open_sockets() - self._before


class Borrowed:
    """Counts the connections of an engine that are out: what an answer did not give back.

    It holds on to each one that is lent, so that no collector of garbage brings back what was
    forgotten.
    """

    def __init__(self, engine: Any) -> None:
        from sqlalchemy import event

        self._engine = engine
        self._lent: list[Any] = []
        event.listen(engine.sync_engine, "checkout", lambda *lent: self._lent.append(lent))

    @property
    def count(self) -> int:
        return int(self._engine.pool.checkedout())


_GIVEN_AWAY = 32_768  # from here on a system hands out ports to whoever asks for any


@contextmanager
def closed_port() -> Iterator[int]:
    """A loopback port that refuses connections, and that nobody else can take meanwhile.

    Nor is it a port in a sandboxed subject's own world, where spare doors listen at such that
    the system gave them.
    """
    with socket.socket() as held:
        while True:
            with suppress(OSError):
                held.bind(("127.0.0.1", random.randrange(10_000, _GIVEN_AWAY)))  # noqa: S311
                break
        yield int(held.getsockname()[1])  # bound and not listening


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


def async_engine(made: Any) -> Any:
    """The engine that an answer gave; what is none says so in words its author understands."""
    from sqlalchemy.ext.asyncio import AsyncEngine

    if not isinstance(made, AsyncEngine):
        raise TypeError(f"an async engine was expected here, and not {type(made).__name__}")
    return made


class Crowd:
    """So many requests at once: each borrows a connection, and runs one statement on it."""

    def __init__(self, engine: Any, size: int, sql: str = "select * from gate") -> None:
        self._engine = engine
        self._sql = sql
        self._inside = 0
        self._met: Exception | None = None
        self._asking = [asyncio.ensure_future(self._ask()) for _ in range(size)]

    async def _ask(self) -> bool:
        from sqlalchemy import text

        try:
            async with self._engine.connect() as connection:
                self._inside += 1
                await connection.execute(text(self._sql))
        except Exception as error:
            self._met = error
            return False
        return True

    async def come(self) -> None:
        """Wait until one of them has a connection; if none ever gets any, raise what they met.

        Who queues at a pool that could open nothing is not woken, and has no more to hope for.
        """
        while not self._inside:
            pool_is_empty = hasattr(self._engine.pool, "checkedout") and not self.begun
            if self._met and (pool_is_empty or all(task.done() for task in self._asking)):
                raise self._met
            await asyncio.sleep(0.001)

    @property
    def refused(self) -> int:
        """How many have given up by now."""
        return sum(task.done() and not task.result() for task in self._asking)

    @property
    def begun(self) -> int:
        """How many connections the pool has out or is opening; 0 where a pool cannot tell."""
        pool = self._engine.pool
        return int(pool.checkedout()) if hasattr(pool, "checkedout") else 0

    async def served(self) -> int:
        """How many got their answer, when all have come to an end."""
        return sum([await task for task in self._asking])


@contextmanager
def place(files: dict[str, str | bytes], variables: dict[str, str] | None = None) -> Iterator[Path]:
    """A folder with these files, the current one while the block lasts.

    ``variables`` are set meanwhile, and those whose value is empty are not there; afterwards the
    environment is what it was.
    """
    before, given = dict(os.environ), variables or {}
    try:
        with tempfile.TemporaryDirectory() as name, chdir(name):
            for path, content in files.items():
                file = Path(name, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content if isinstance(content, bytes) else content.encode())
            for unwanted in [key for key in before if key.upper() in given]:
                del os.environ[unwanted]
            os.environ.update({key: value for key, value in given.items() if value})
            yield Path(name)
    finally:
        os.environ.clear()
        os.environ.update(before)


class Worker:
    """A process of its own, forked from this one as a server forks its workers.

    It runs ``work()`` in an event loop of its own and says how that ended. Then it lives on, with
    all that it holds, until it is ended.
    """

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._hears, says = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            # A fresh thread has no running loop, and no task, from before the fork.
            doing = threading.Thread(target=self._work, args=(work, says))
            doing.start()
            doing.join()
            os._exit(0)
        os.close(says)

    @staticmethod
    def _work(work: Callable[[], Awaitable[Any]], says: int) -> None:
        async def run() -> None:
            await work()

        with asyncio.Runner(loop_factory=SubjectLoop) as runner:
            try:
                runner.run(run())
                said = b"done"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}".encode(errors="replace")[:2000]
            os.write(says, said)
            os.close(says)
            threading.Event().wait()  # the loop stays, and the connections that belong to it

    async def result(self) -> str:
        """How it ended: ``done``, or the exception in words; empty if it just went."""
        loop, said = asyncio.get_running_loop(), b""
        while True:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(self._hears, self._heard, ready)
            try:
                await ready
            finally:
                loop.remove_reader(self._hears)
            part = os.read(self._hears, 4096)
            if not part:
                return said.decode(errors="replace")
            said += part

    @staticmethod
    def _heard(ready: asyncio.Future[None]) -> None:
        if not ready.done():
            ready.set_result(None)

    def end(self) -> None:
        """End it, whatever it is doing."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._hears)
