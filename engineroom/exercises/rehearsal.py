"""What answers do first, done a few times in the warm parent, before there is any answer.

Whatever Python and SQLAlchemy work out at the first use and remember, a fork finds there: caches of
a class, code that has been adapted to what it meets. Otherwise each subject would work it out
again, in pages of memory that it first has to copy. Nothing of it is seen by an answer.
"""

from __future__ import annotations

import asyncio
import linecache
import socket
import sys
import threading
from typing import Any

from engineroom.exercises.runtime import Runtime
from engineroom.exercises.tools import SubjectLoop
from engineroom.exercises.wire import HEAD_SIZE, pack, size_of, unpack

_TIMES = 10  # Python adapts code that has run eight times
_PATIENCE = 5.0

_ANSWER = '''
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

async def rehearsed(words):
    """A table, rows, and what is asked of them, in Core and in a session."""
    engine = create_async_engine("sqlite+aiosqlite://")
    table = Table("word", MetaData(), Column("id", Integer, primary_key=True), Column("w", String))
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(insert(table), [{"w": word} for word in words])
        await connection.execute(text("insert into word (w) values (:w)"), {"w": "last"})
        found = (await connection.execute(select(table.c.w).where(table.c.id > 1))).scalars().all()
        await connection.scalar(text("select count(*) from word"))
    async with async_sessionmaker(engine)() as session:
        (await session.execute(select(table).order_by(table.c.w))).all()
    await engine.dispose()
    return found
'''
_PROBE = """
async def ask(answer, words):
    yield await answer(words)
"""


def rehearse() -> None:
    """Be a subject for a moment, and leave nothing of it."""
    main, before = sys.modules["__main__"], set(threading.enumerate())
    try:
        with asyncio.Runner(loop_factory=SubjectLoop) as runner:
            for _ in range(_TIMES):
                runner.run(_answer_once())
    finally:
        # A closed SQLite connection's thread has its last words still to say, perhaps with a lock
        # in hand, which a fork would copy.
        for thread in set(threading.enumerate()) - before:
            thread.join(_PATIENCE)
        sys.modules["__main__"] = main
        linecache.clearcache()  # or an error could be shown with a line of ours


async def _answer_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        serving = asyncio.create_task(Runtime(theirs).serve())
        given = [["first", "second"]]
        for request in (
            {
                "op": "define",
                "anew": None,
                "watched": True,
                "cells": [[1, _ANSWER]],
                "answer": "rehearsed",
            },
            {"op": "call", "name": "rehearsed", "args": given, "kwargs": {}},
            {"op": "steps", "source": _PROBE, "entry": "ask", "name": "rehearsed", "args": given},
            {"op": "next"},
            {"op": "left"},
        ):
            reply = await _asked(ours, request)
            if "failure" in reply:
                raise RuntimeError(f"a rehearsal failed: {reply['failure']}")
        serving.cancel()
        await asyncio.wait({serving})


async def _asked(ours: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(ours, pack(request))
    got = b""
    while len(got) < HEAD_SIZE or len(got) < HEAD_SIZE + size_of(got[:HEAD_SIZE]):
        got += await loop.sock_recv(ours, 65536)
    return unpack(got[HEAD_SIZE:])
