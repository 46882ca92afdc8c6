"""What an answer changes in its process for whoever comes after it there.

Where a class is graded, one process serves several answers of a learner, as long as each leaves
it as it was. This is a courtesy to honest answers and no defence: who means to leave something
unseen can, and only where their own code runs anyway.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import importlib
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_OFTEN_REPLACED = (
    *("asyncio.run", "asyncio.sleep", "asyncio.create_task", "asyncio.wait_for", "time.sleep"),
    *("socket.getaddrinfo", "socket.socket", "ssl.create_default_context", "os.fork"),
    *("sqlalchemy.create_engine", "sqlalchemy.ext.asyncio.create_async_engine"),
    *("sqlmodel.create_engine", "sqlmodel.SQLModel.__init__", "sqlite3.connect"),
    *("sqlalchemy.ext.asyncio.AsyncEngine.dispose", "sqlalchemy.ext.asyncio.AsyncEngine.connect"),
    *("asyncpg.connect", "asyncpg.Connection.__init__", "psycopg.AsyncConnection.connect"),
    *("psycopg.AsyncConnection.__init__", "psycopg.Connection.__init__", "aiosqlite.connect"),
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1)


class Traces:
    """The process as it is when this is made."""

    def __init__(self) -> None:
        self._names = {path: _found(path) for path in _OFTEN_REPLACED}
        self._builtins = dict(vars(builtins))
        self._rest = _state()

    def is_as_before(self) -> bool:
        """Whether the next answer may come here as well as to a fresh process; asked when what
        could run has run."""
        alone = asyncio.all_tasks() == {asyncio.current_task()}
        return (
            alone
            and all(_found(path) is thing for path, thing in self._names.items())
            and self._builtins == vars(builtins)
            and self._rest == _state()
        )


def _found(path: str) -> Any:
    """What a dotted name stands for; a class gives its own function, not a bound one."""
    head, *rest = path.split(".")
    thing: Any = sys.modules.get(head)
    for depth, name in enumerate(rest):
        module = sys.modules.get(".".join([head, *rest[: depth + 1]]))
        thing = module if module is not None else getattr(thing, "__dict__", {}).get(name)
    return thing


def _state() -> dict[str, Any]:
    return {name: seen(look) for name, look in _LOOKS.items()}


def seen(look: Callable[[], Any]) -> Any:
    """What is there; where a library has moved its own parts, something that is never the same."""
    try:
        return look()
    except Exception:
        return object()


def _files() -> list[str]:
    return sorted(path for folder in ("/tmp", "/dev/shm", ".") for path in _listed(folder))  # noqa: S108


def _listed(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []


def _threads() -> int:
    """Those of the loop's own pool wait for work, and hold nothing."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _loggers() -> dict[str, Any]:
    found = {"": _settings(logging.root)}
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and _settings(logger) != _PLAIN:
            found[name] = _settings(logger)
    return found


def _settings(logger: logging.Logger) -> tuple[Any, ...]:
    return logger.level, len(logger.handlers), len(logger.filters), logger.disabled


_PLAIN = (logging.NOTSET, 0, 0, False)


def _tables() -> Any:
    """Whoever defines a table defines it for every answer after it."""
    model = getattr(sys.modules.get("sqlmodel"), "SQLModel", None)
    return model and (sorted(model.metadata.tables), len(list(model._sa_registry.mappers)))


def _listeners() -> Any:
    """Those that hear of every engine, pool or session there will ever be."""
    registry = sys.modules.get("sqlalchemy.event.registry")
    heard_by = {id(kind) for kind in _kinds()}
    return registry and sorted(key for key in registry._key_to_collection if key[0] in heard_by)


def _kinds() -> Iterator[type]:
    for path in ("sqlalchemy.engine.Engine", "sqlalchemy.pool.Pool", "sqlalchemy.orm.Session",
                 "sqlalchemy.orm.Mapper", "sqlalchemy.engine.Dialect", "sqlalchemy.MetaData",
                 "sqlalchemy.Table", "sqlalchemy.Column"):  # fmt: skip
        module, _, name = path.rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        yield from (kind, *_below(kind))


def _below(kind: type) -> Iterator[type]:
    below: list[type] = kind.__subclasses__()
    for lower in below:
        yield from (lower, *_below(lower))


_LOOKS: dict[str, Callable[[], Any]] = {
    "environment": lambda: dict(os.environ),
    "folder": os.getcwd,
    "files": _files,
    "path": lambda: list(sys.path),
    "streams": lambda: (id(sys.stdout), id(sys.stderr), id(sys.stdin)),
    "hooks": lambda: (id(sys.excepthook), id(sys.displayhook), sys.gettrace(), sys.getprofile()),
    "depth": sys.getrecursionlimit,
    "threads": _threads,
    "children": _has_children,
    "signals": lambda: [signal.getsignal(number) for number in _SIGNALS],
    "patience": socket.getdefaulttimeout,
    "garbage": gc.isenabled,
    "policy": lambda: id(asyncio.get_event_loop_policy()),
    "loggers": _loggers,
    "warnings": lambda: len(warnings.filters),
    "sqlite": lambda: (len(sqlite3.adapters), len(sqlite3.converters)),
    "tables": _tables,
    "listeners": _listeners,
}
