"""Inside a subject: run the learner's cells, do what is asked, answer with plain data.

This is the only part of the machinery that shares a process with a learner's code. It decides
nothing: it may be patched, lied to or replaced, and then the witness sees something else.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import functools
import inspect
import json
import linecache
import os
import socket
import struct
import sys
import traceback
import types
from typing import Any

import engineroom.lab.face as face
from engineroom.exercises.tools import SubjectLoop, make_clocks_movable, open_sockets, settled
from engineroom.exercises.traces import Traces

_HEAD = struct.Struct("!I")
_TEXT_LIMIT = 4000
_DEPTH = 8
CELL = "<your cell"


class _Inert(types.ModuleType):
    """Stands in for ``checks``: every name is there, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return ""


def _no_input(*_: Any, **__: Any) -> str:
    raise EOFError("nobody can answer input() while an answer is being checked")


class Runtime:
    """One learner's namespace and event loop, and the socket to the judge."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = b""
        self._namespace: dict[str, Any] = {}
        self._steps: Any = None
        self._sockets = 0
        self._traces: Traces | None = None
        self._begin()

    def _begin(self) -> None:
        """An empty namespace."""
        # As in a kernel: ``__main__`` has no file, and what looks names up in it finds them.
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = main
        self._namespace = main.__dict__
        # What a kernel adds to Python is there too, and shows nobody anything.
        self._namespace |= {"display": _Nothing(), "get_ipython": _Nothing()}

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._connection.setblocking(False)
        self._sockets = open_sockets()
        while True:
            head = await self._exactly(loop, _HEAD.size)
            request = json.loads(await self._exactly(loop, _HEAD.unpack(head)[0]))
            try:
                answer = await self._do(request)
            except asyncio.CancelledError:
                answer = {"failure": {"type": "CancelledError"}}
            except BaseException as error:
                answer = {"failure": describe(error)}
            await loop.sock_sendall(self._connection, _frame(answer))

    async def _exactly(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        while len(self._heard) < size:
            part = await loop.sock_recv(self._connection, 65536)
            if not part:
                os._exit(0)  # the judge is gone; so are we, whatever still runs here
            self._heard += part
        got, self._heard = self._heard[:size], self._heard[size:]
        return got

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "define":
                if request["anew"] is not None:
                    self._begin()
                    SubjectLoop.ahead = 0.0  # nothing waits for a moment any more
                    face.use_given(request["anew"])
                if request["watched"] and self._traces is None:
                    self._traces = Traces()
                for number, source in request["cells"]:
                    await self._run(source, f"{CELL} {number}>")
                return self._look_at(request["answer"])
            case "call":
                target = self._namespace[request["name"]]
                return plain(await _maybe(target(*request["args"], **request["kwargs"])))
            case "steps":
                await self._finish()
                scope: dict[str, Any] = {"__name__": "probe"}
                exec(_compiled(request["source"]), scope)  # noqa: S102
                target = self._namespace.get(request["name"])
                self._steps = scope[request["entry"]](target, *request["args"])
                return await self._next(None)
            case "next":
                return await self._next(request.get("value"))
            case "left":
                await self._finish()
                await settled()
                tasks = [task for task in asyncio.all_tasks() if _is_theirs(task)]
                left = {"tasks": len(tasks), "connections": open_sockets() - self._sockets}
                clean = self._traces is not None and self._traces.is_as_before()
                return plain({**left, "clean": clean})
        raise ValueError(request["op"])

    async def _next(self, value: Any) -> dict[str, Any]:
        try:
            return plain(await self._steps.asend(value))
        except StopAsyncIteration:
            return {"done": True}

    async def _finish(self) -> None:
        """Let a probe that gave its last answer clean up behind it."""
        steps, self._steps = self._steps, None
        if steps is not None:
            last = asyncio.ensure_future(_last_words(steps))
            await asyncio.wait({last}, timeout=1)

    async def _run(self, source: str, name: str) -> None:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        # As in a notebook: the cell does not inherit this file's own annotations of the future,
        # which would hide the types from a model that is made of them.
        code = compile(source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, self._namespace)  # noqa: S307
        else:
            exec(code, self._namespace)  # noqa: S102

    def _look_at(self, name: str) -> dict[str, Any]:
        if name not in self._namespace:
            return {"kind": ""}
        value = self._namespace[name]
        asynchronous = inspect.iscoroutinefunction(_unwrapped(value)) or (
            not inspect.isclass(value)
            and inspect.iscoroutinefunction(getattr(type(value), "__call__", None))  # noqa: B004
        )
        if asynchronous:
            return {"kind": "coroutine function"}
        if callable(value):
            return {"kind": "function"}
        return {"kind": type(value).__name__[:200]}


@functools.cache
def _compiled(probe: str) -> types.CodeType:
    """A probe's code: a check may begin the same one many times."""
    # Its annotations are for the reader; here their names need not be imported.
    return compile("from __future__ import annotations\n" + probe, "<probe>", "exec")


def _is_theirs(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs the learner's own coroutine, or one of asyncio's that they started."""
    code = getattr(task.get_coro(), "cr_code", None)
    return getattr(code, "co_filename", "").startswith((CELL, asyncio.__path__[0]))


async def _last_words(steps: Any) -> None:
    with contextlib.suppress(Exception):
        await steps.asend(None)
        await steps.aclose()


def _unwrapped(value: Any) -> Any:
    while hasattr(value, "func") and hasattr(value, "args"):  # functools.partial
        value = value.func
    return value


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _frame(answer: dict[str, Any]) -> bytes:
    try:
        body = json.dumps(answer, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError, UnicodeError):
        body = json.dumps({"kind": "a value that does not travel"}).encode()
    return _HEAD.pack(len(body)) + body


def plain(value: Any) -> dict[str, Any]:
    """The value as JSON has it, and the name of its type; a foreign object is its type only."""
    kind = type(value).__name__[:200]
    try:
        return {"value": _plain(value, _DEPTH), "kind": kind}
    except TypeError:
        return {"value": None, "kind": kind}


def _plain(value: Any, depth: int) -> Any:
    if depth == 0:
        raise TypeError
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list or isinstance(value, tuple):  # a named one is a tuple too
        return [_plain(item, depth - 1) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _plain(item, depth - 1) for key, item in value.items()}
    raise TypeError


def describe(error: BaseException, depth: int = 4) -> dict[str, Any]:
    """An exception as data, with the line of the learner's cell that it came through last."""
    found: dict[str, Any] = {
        "type": type(error).__name__[:200],
        "bases": [base.__name__[:200] for base in type(error).__mro__[1:]][:40],
        "message": _words(error),
    }
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL):
        found |= {"line": error.lineno, "text": (error.text or "")[:400]}
    # Only cells are looked up: to quote every library on the way would read all their sources.
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = frame.f_code.co_filename
        if name.startswith(CELL):
            found |= {"line": line, "text": linecache.getline(name, line).strip()[:400]}
            break
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        cause = getattr(error, "orig", None)
    if isinstance(cause, BaseException) and depth:
        found["cause"] = describe(cause, depth - 1)
    return found


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        return "(an exception that cannot be put into words)"
    return text.encode(errors="replace").decode()[:_TEXT_LIMIT]


def _whole(file: Any, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = file.read(size - len(got))
        if not part:
            os._exit(0)
        got += part
    return got


def become_subject(connection: socket.socket) -> None:
    """Turn this forked process into a subject; never returns."""
    with connection.makefile("rb", buffering=0) as judge:  # its first words: what the lab gives
        lab = json.loads(_whole(judge, _HEAD.unpack(_whole(judge, _HEAD.size))[0]))
    inert = _Inert("checks")
    inert.__path__ = []
    sys.modules["checks"] = inert
    builtins.input = _no_input
    face.use_given(lab)
    try:
        make_clocks_movable()
        with asyncio.Runner(loop_factory=SubjectLoop) as runner:
            runner.run(Runtime(connection).serve())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
