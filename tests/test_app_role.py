"""The witness as the app role, and what a check lends to an answer's process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from engineroom.errors import EngineRoomError
from engineroom.exercises.court import _answer
from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import find_exercise
from engineroom.exercises.model import PRELUDE, program_text
from engineroom.exercises.sources import Cell
from engineroom.exercises.tools import place
from engineroom.witness import Witness

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def witness(bench: Bench) -> AsyncIterator[Witness]:
    lab = await bench.lab(("postgres",))
    made = Witness(lab["server"], bench.lease.joined["tenant"], bench.overheard)
    await made.open()
    yield made
    await made.close()


async def test_what_the_role_was_given_is_taken_back(witness: Witness) -> None:
    await witness.execute("drop schema public cascade; create schema public")
    async with witness.app() as role:
        await witness.execute("create table today (n int)")
        assert (await role.refusal("select * from public.today")).startswith("42501")
        await witness.execute(
            f'grant usage on schema public to "{role.name}";'
            f'grant select on today to "{role.name}";'
            f'alter default privileges grant all on tables to "{role.name}", public;'
            "grant all on schema public to public"
        )
        await witness.execute("create table tomorrow (n int)")
        assert await role.refusal("table today") == ""
        assert await role.refusal("delete from tomorrow") == ""
        assert await witness.backends() == [], "its own connection is no learner's"
    await witness.execute("drop schema public cascade; create schema public")
    async with witness.app() as role:
        await witness.execute("grant usage on schema public to public; create table later (n int)")
        assert "permission denied for table later" in await role.refusal("table later")
    await witness.execute("drop schema public cascade; create schema public")


async def test_the_password_is_what_it_was(bench: Bench, witness: Witness) -> None:
    url = bench.lease.joined["endpoint"]["extra"]["app_url"].replace("+asyncpg", "")
    async with witness.app() as role:
        await role.change_password("a'b @ \"c")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url)
    await (await asyncpg.connect(url)).close()


async def test_it_survives_that_its_connection_is_ended(witness: Witness) -> None:
    async with witness.app() as role:
        await role.change_password("other")
        assert await role.refusal("select pg_terminate_backend(pg_backend_pid())")
        assert await role.refusal("select 1") == ""


async def test_a_place_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("database_url", "the learner's own")
    before = dict(os.environ), os.getcwd()
    files: dict[str, str | bytes] = {".env": "A=1", "docs/ferry.png": b"\x89"}
    with place(files, {"DATABASE_URL": "", "PORT": "1"}) as folder:
        assert Path(".env").read_text() == "A=1"
        assert (folder / "docs/ferry.png").read_bytes() == b"\x89"
        assert os.environ["PORT"] == "1"
        assert "database_url" not in os.environ
        os.environ["LEFT"] = "behind"
    assert (dict(os.environ), os.getcwd()) == before
    assert not folder.exists()


async def test_a_cells_main_is_as_in_a_kernel(bench: Bench) -> None:
    program = """
    import sys
    from typing import get_type_hints
    class Booking:
        of: 'Booking'
    main = sys.modules['__main__']
    assert get_type_hints(Booking) == {'of': Booking}
    assert not hasattr(main, '__file__') and main.Booking is Booking
    def find_secrets(folder):
        return []
    """
    cells = [Cell(1, PRELUDE), Cell(2, program_text(program))]
    assert (await judge(bench, find_exercise("security.scan"), cells)).status == "failed"


async def test_a_server_that_cannot_be_had_stops_no_lesson(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise EngineRoomError("It needs moto.", "pip install 'engine-room[aws]'")

    monkeypatch.setattr(bench.lease, "use", refuse)
    exercise = find_exercise("security.vault_engine")
    cells = [[1, exercise.right[0]]]
    request = {"op": "check", "exercise": exercise.id, "cells": cells}
    answer = await _answer(bench, None, request)  # type: ignore[arg-type]
    assert answer["verdict"]["status"] == "not_attempted"
    assert "pip install 'engine-room[aws]'" in answer["verdict"]["message"]
