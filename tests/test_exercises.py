"""What no check may let pass, and what an answer may do to the machinery.

That right answers pass, and that each slip gets its own words, ``engineroom verify`` proves;
``make test`` runs both.
"""

from __future__ import annotations

import asyncio
import os
import pkgutil
import socket
from importlib import import_module

import pytest
import wrong_answers
from judging import EXERCISES, Judge
from lab_helpers import Lab, eventually

from engineroom.exercises.judge import Bench
from engineroom.exercises.model import Exercise

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
async def test_an_exercise_is_complete(exercise: Exercise) -> None:
    assert 1 <= len(exercise.hints) <= 4
    assert len(exercise.right) >= 3
    assert exercise.points > 0
    assert all(len(slip.programs) >= 2 for slip in exercise.slips)
    codes = [slip.code for slip in exercise.slips]
    assert len(set(codes)) == len(codes), "two slips share a code, so one is never recognised"


WRONG: dict[str, list[str]] = {}
for _found in pkgutil.iter_modules(wrong_answers.__path__):
    WRONG |= import_module(f"wrong_answers.{_found.name}").WRONG


@pytest.mark.parametrize("identifier", EXERCISES)
async def test_five_plausible_wrong_answers_are_tried(identifier: str) -> None:
    assert len(WRONG[identifier]) >= 5


@pytest.mark.parametrize(
    ("identifier", "program"),
    [
        pytest.param(identifier, program, id=f"{identifier}-{number}")
        for identifier, wrong in WRONG.items()
        for number, program in enumerate(wrong)
    ],
)
async def test_a_plausible_wrong_answer_fails(
    verdict_of: Judge, identifier: str, program: str
) -> None:
    verdict = await verdict_of(identifier, program)
    assert verdict.status in ("failed", "error")
    assert verdict.points == 0


# -- what else a learner's code may do -----------------------------------------------------

ANSWER = "pooling.ceiling"
RIGHT = EXERCISES[ANSWER].right[0]


async def test_a_stub_is_not_attempted(verdict_of: Judge) -> None:
    for stub in (
        "x = 1",
        'def capped(url, at_most, wait):\n    """What?"""\n    ...',
        "capped = ...",
    ):
        assert (await verdict_of(ANSWER, stub)).status == "not_attempted"


async def test_the_learners_own_error_points_at_their_line(verdict_of: Judge) -> None:
    verdict = await verdict_of(ANSWER, "def capped(url, n, wait):\n    x = 1\n    return n / 0")
    assert verdict.status == "error"
    assert verdict.message == "Your code raised ZeroDivisionError: division by zero"
    assert verdict.where == "line 3: return n / 0"


async def test_an_error_while_the_answer_is_defined_is_theirs(verdict_of: Judge) -> None:
    verdict = await verdict_of(ANSWER, "import nothere\ndef capped(): return 1")
    assert verdict.status == "error"
    assert "No module named 'nothere'" in verdict.message
    assert verdict.where.startswith("line 1")
    verdict = await verdict_of(ANSWER, "def capped(:\n  pass")
    assert (verdict.status, verdict.where) == ("error", "line 1: def capped(:")


async def test_the_wrong_kind_is_named(verdict_of: Judge) -> None:
    verdict = await verdict_of(ANSWER, "async def capped(url, n, wait): return 1")
    assert verdict.status == "failed"
    assert "coroutine function" in verdict.message
    assert "type int" in (await verdict_of(ANSWER, "capped = 5")).message


async def test_what_is_no_engine_is_named(verdict_of: Judge) -> None:
    program = "from sqlalchemy import create_engine\nshrinking = create_engine"
    verdict = await verdict_of("pooling.shrink", program)
    assert verdict.status == "error"
    assert "an async engine was expected here, and not Engine" in verdict.message


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def capped(*a):\n    while True: pass", "timed_out"),
        ("import time\ndef capped(*a): time.sleep(60)", "timed_out"),
        (
            """
            import signal
            for s in (2, 15): signal.signal(s, signal.SIG_IGN)
            def capped(*a):
                while True: pass
            """,
            "timed_out",
        ),
        ("def capped(*a): return 'x' * 3 * 2**30", "out_of_memory"),
        ("import os\ndef capped(*a): os._exit(0)", "crashed"),
        ("import os\ndef capped(*a): os.kill(os.getpid(), 9)", "crashed"),
        ("import sys\ndef capped(*a): sys.exit(0)", "error"),
        ("def capped(*a): raise KeyboardInterrupt", "error"),
        ("def capped(*a): return input()", "error"),
    ],
    ids=["loop", "sleep", "deaf", "memory", "exit", "kill", "sys.exit", "interrupt", "input"],
)
async def test_trouble_costs_only_itself(verdict_of: Judge, program: str, status: str) -> None:
    exercise = EXERCISES[ANSWER]
    exercise.seconds, before = 2.0, exercise.seconds
    try:
        assert (await verdict_of(ANSWER, program)).status == status
    finally:
        exercise.seconds = before
    assert (await verdict_of(ANSWER, RIGHT)).status == "passed"


@pytest.mark.parametrize("reply", ["'passed'", "None", "[]", "{'served': 3}", "[[3, 3]]"])
async def test_a_reply_of_another_shape_is_no_ones_trouble_but_its_authors(
    verdict_of: Judge, reply: str
) -> None:
    program = f"""
        import engineroom.exercises.runtime as runtime
        async def answer(self, value):
            return {{'value': {reply}, 'kind': 'list'}}
        runtime.Runtime._next = answer
        def capped(*a):
            return {reply}
        """
    assert (await verdict_of("pooling.ceiling", program)).status in ("failed", "crashed")


async def test_much_output_costs_no_marks(verdict_of: Judge) -> None:
    loud = "print('x' * 50_000_000)\nimport sys\nprint('y' * 10**6, file=sys.stderr)\n"
    assert (await verdict_of(ANSWER, loud + RIGHT)).status == "passed"


async def test_children_of_an_answer_end_with_it(verdict_of: Judge, bench: Bench) -> None:
    import psutil

    program = """
        import subprocess
        def capped(url, n, wait):
            subprocess.Popen(['sleep', '7777'], start_new_session=True)
            return 1
        """
    await verdict_of(ANSWER, program)
    for _ in range(200):
        sleepers = [
            p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "7777"]
        ]
        if not sleepers:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{sleepers} outlived the answer")


async def test_nothing_stays_in_the_database_between_checks(verdict_of: Judge) -> None:
    leaves = """
        import asyncio
        def capped(url, n, wait):
            e = create_async_engine(url, pool_size=n, max_overflow=0, pool_timeout=wait)
            e.left = asyncio.ensure_future(e.connect().start())
            return e

        """
    await verdict_of(ANSWER, leaves)
    assert (await verdict_of(ANSWER, RIGHT)).status == "passed"


async def test_what_an_answer_leaves_behind_is_said_and_ended(verdict_of: Judge) -> None:
    leaves = """
        import asyncio
        left = []
        def capped(url, n, wait):
            left.append(asyncio.ensure_future(asyncio.sleep(999)))
            engine = create_async_engine(url, pool_size=n, max_overflow=0, pool_timeout=wait)
            left.append(asyncio.ensure_future(asyncio.open_connection('127.0.0.1', PORT)))
            return engine
        """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        verdict = await verdict_of(ANSWER, leaves.replace("PORT", str(port)))
    assert verdict.status == "passed"
    assert verdict.notes == (
        "Your code left 2 tasks behind; the check ended them.",
        "Your code left 2 connections behind; the check ended them.",
    )


async def test_ending_the_witnesss_connection_earns_nothing_and_harms_nobody(
    verdict_of: Judge,
) -> None:
    program = """
    import asyncpg
    def capped(url, n, wait):
        async def alone():
            connection = await asyncpg.connect(url.replace('+asyncpg', ''))
            await connection.execute('create table if not exists public.litter (n int)')
            await connection.execute(
                'select pg_terminate_backend(pid) from pg_stat_activity'
                ' where usename = current_user and pid <> pg_backend_pid()')
            return connection
        return create_async_engine(
            url, async_creator=alone, pool_size=n, max_overflow=0, pool_timeout=wait)
    """
    verdict = await verdict_of(ANSWER, program)
    assert (verdict.status, verdict.points) == ("crashed", 0)
    assert "ended the connection" in verdict.message
    looks_for_litter = """
        import asyncpg
        def capped(url, n, wait):
            async def look():
                connection = await asyncpg.connect(url.replace('+asyncpg', ''))
                if await connection.fetchval("select to_regclass('public.litter')"):
                    raise ValueError('there is litter')
                return connection
            return create_async_engine(
                url, async_creator=look, pool_size=n, max_overflow=0, pool_timeout=wait)
        """
    assert (await verdict_of(ANSWER, looks_for_litter)).status == "passed"


async def test_a_login_counts_before_the_server_has_added_it_up(
    bench: Bench, common_lab: Lab
) -> None:
    """On a busy machine the server's own counter comes late; here it is put back to nothing."""
    lab = await bench.lab(("postgres",))
    witness = await bench.look(lab)
    before = await witness.logins()
    users = "select 1 from pg_stat_activity where datname = %s and usename = 'postgres'"

    def forget() -> None:
        common_lab.admin("select pg_stat_reset()", database=lab["database"])
        eventually(lambda: not common_lab.admin(users, lab["database"]), "who did it has gone")

    async with witness.actors(lab["url"], 2):
        forget()
        assert await witness.logins() == before + 2
        async with witness.actors(lab["url"], 1):
            assert await witness.logins() == before + 3
    assert await witness.logins() == before + 3
    async with witness.actors(lab["url"], 2):
        await witness.backends()
    forget()
    assert await witness.logins() == before + 5  # who was seen once, and is gone


async def test_two_checks_at_once_do_not_mix(verdict_of: Judge) -> None:
    both = await asyncio.gather(
        verdict_of("urls.to_async", EXERCISES["urls.to_async"].right[0]),
        verdict_of("urls.to_async", EXERCISES["urls.to_async"].slips[0].programs[0]),
    )
    assert [verdict.status for verdict in both] == ["passed", "failed"]


async def test_a_killed_warm_parent_is_replaced(verdict_of: Judge, bench: Bench) -> None:
    import signal

    assert (await verdict_of(ANSWER, RIGHT)).status == "passed"
    assert bench.nursery.pid is not None
    os.kill(bench.nursery.pid, signal.SIGKILL)
    for _ in range(100):
        verdict = await verdict_of(ANSWER, RIGHT)
        if verdict.status == "passed":
            return
    raise AssertionError(verdict)


async def test_what_a_check_draws_can_be_repeated(verdict_of: Judge) -> None:
    program = "def capped(url, n, wait):\n    raise ValueError((n, round(wait, 6)))"
    first = await verdict_of(ANSWER, program, seed="ada/pooling.ceiling")
    again = await verdict_of(ANSWER, program, seed="ada/pooling.ceiling")
    other = await verdict_of(ANSWER, program, seed="bob/pooling.ceiling")
    assert first.message == again.message != other.message
