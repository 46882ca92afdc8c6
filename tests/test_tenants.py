"""Databases of users: whoever hangs up while one is being made, at whatever moment, leaves none."""

from __future__ import annotations

import asyncio
import os
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

import pytest
from postgres_fixture import RealPostgres, real_postgres  # noqa: F401

from engineroom.lab.tenants import Tenancy

MARK = "5afe00"


@types.coroutine
def _cancelled_at(stop_at: int, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run ``work``; when it waits for the ``stop_at``-th time, cancel the task that runs it."""
    steps, waits, go_on = work.__await__(), 0, lambda: next(steps)
    while True:
        try:
            waited_for = go_on()
        except StopIteration as end:
            return end.value
        waits += 1
        task = asyncio.current_task()
        if waits == stop_at and task is not None:
            asyncio.get_running_loop().call_soon(task.cancel)
        try:
            yield waited_for
            go_on = lambda: next(steps)  # noqa: E731
        except BaseException as error:
            go_on = partial(steps.throw, error)


@pytest.mark.parametrize("kept", [0, 2])
async def test_hanging_up_at_any_moment_leaves_nothing(
    real_postgres: RealPostgres,  # noqa: F811
    kept: int,
) -> None:
    tenancy = Tenancy(real_postgres.server, MARK, "of no importance", keep_connections=kept)
    try:
        assert await _hang_up_ever_later(tenancy, real_postgres) >= 3
    finally:
        await tenancy.close()


async def _hang_up_ever_later(tenancy: Tenancy, postgres: RealPostgres) -> int:
    """How many moments there were to hang up at."""
    await tenancy.prepare()
    await tenancy.create(os.getpid())

    def left() -> tuple[list[str], list[str]]:
        with postgres.admin() as admin:
            like = f"er\\_{MARK}\\_%"
            databases = admin.execute(
                "select datname from pg_database where datname like %s order by 1", (like,)
            ).fetchall()
            roles = admin.execute(
                "select rolname from pg_roles where rolname like %s order by 1", (like,)
            ).fetchall()
        return [str(row[0]) for row in databases], [str(row[0]) for row in roles]

    before = left()
    for stop_at in range(1, 1_000):
        work = asyncio.ensure_future(_task(_cancelled_at(stop_at, tenancy.create(os.getpid()))))
        await asyncio.wait({work})
        if not work.cancelled():
            await tenancy.drop(work.result())
            return stop_at - 1
        assert left() == before, f"cancelled when it had waited {stop_at} times"
    raise AssertionError("it never came to an end")


async def _task(work: Any) -> Any:
    return await work
