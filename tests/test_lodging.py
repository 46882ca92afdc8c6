"""One process serves a learner's next answer, if the one before it passed and left nothing."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import pytest_asyncio
from judging import EXERCISES
from lab_helpers import Lab

from engineroom.exercises.judge import Bench, NotHere, judge
from engineroom.exercises.model import PRELUDE, Verdict, program_text
from engineroom.exercises.sources import Cell
from engineroom.exercises.subject import Nursery
from engineroom.exercises.tools import closed_port
from engineroom.exercises.traces import seen
from engineroom.grading.sandbox import find_sandbox

MASKED = EXERCISES["urls.masked"]
RIGHT = program_text(MASKED.right[0])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    shell = find_sandbox("auto")
    assert shell is not None
    made = Nursery(shell=shell)
    yield made
    await made.close()
    shell.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bench(nursery: Nursery) -> AsyncIterator[Bench]:
    made = Bench(nursery, ahead=(MASKED,))
    yield made
    await made.leave()


async def judged(bench: Bench, *before: str, program: str = RIGHT) -> Verdict:
    cells = [Cell(1, "\n".join([PRELUDE, *before, program]))]
    return await judge(bench, MASKED, cells, seed=1)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_answers_that_pass_and_leave_nothing_share_a_process(bench: Bench) -> None:
    # `json` is looked at by nobody, so what is written there tells one process from another.
    first = await judged(bench, "import json; json.mark = 1")
    assert (first.status, bench.lodging.renewed) == ("passed", False)
    for _ in range(3):
        assert (await judged(bench, "import json; json.mark")).status == "passed"
        assert bench.lodging.renewed


async def test_a_new_answer_finds_an_empty_namespace(bench: Bench) -> None:
    await judged(bench, "helper = 1")
    for _ in range(2):
        assert (await judged(bench, "assert 'helper' not in globals()")).status == "passed"
        assert bench.lodging.renewed


async def test_a_new_answer_finds_the_clocks_right(bench: Bench) -> None:
    await judged(bench, "from engineroom.exercises.tools import let_pass; await let_pass(1e6)")
    told = f"import time; assert {time.time()} < time.time() < {time.time() + 1e5}"
    assert (await judged(bench, told)).status == "passed"
    assert bench.lodging.renewed


async def test_an_answer_is_not_refused_for_what_another_one_did(bench: Bench) -> None:
    await judged(bench, "import json; json.mark = 1")
    second = await judged(bench, "import json; assert not hasattr(json, 'mark')")
    assert second.status == "passed"
    assert not bench.lodging.renewed


async def test_who_is_judged_twice_meets_no_names_of_the_first_time(
    nursery: Nursery, common_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in common_lab.env.items():
        monkeypatch.setenv(name, value)
    first, second = EXERCISES["security.settings"], EXERCISES["security.vault_engine"]
    bench = Bench(nursery, ahead=(first, second))
    marked = [Cell(1, f"{PRELUDE}\nimport json; json.mark = 1\n{program_text(first.right[0])}")]
    assert (await judge(bench, first, marked, 1)).status == "passed"
    # The secret is made before the answer is asked for it; a second one cannot have its name.
    strict = (
        f"{PRELUDE}\n{program_text(second.right[0])}\nright = vault_engine\nimport json\n"
        "def vault_engine(*args, **options):\n"
        "    assert not hasattr(json, 'mark')\n"
        "    return right(*args, **options)\n"
    )
    verdict = await judge(bench, second, [Cell(1, strict)], 1)
    assert (verdict.status, bench.lodging.renewed) == ("passed", False), verdict.message
    await bench.leave()


async def test_what_comes_later_does_not_connect_where_connections_are_counted(
    nursery: Nursery, common_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in common_lab.env.items():
        monkeypatch.setenv(name, value)
    first, later = EXERCISES["engine.run_and_close"], EXERCISES["exhaustion.bouncer"]
    bench = Bench(nursery, ahead=(first, later))
    for exercise in (first, later):
        cells = [Cell(1, PRELUDE), Cell(2, program_text(exercise.right[0]))]
        verdict = await judge(bench, exercise, cells, 1)
        assert verdict.status == "passed", verdict.message
    await bench.leave()


async def test_who_does_not_pass_is_followed_by_a_fresh_process(bench: Bench) -> None:
    await judged(bench)
    wrong = await judged(bench, program="masked = str")
    assert wrong.status == "failed"
    assert not bench.lodging.renewed  # it was judged twice
    assert (await judged(bench)).status == "passed"
    assert not bench.lodging.renewed


@pytest.mark.parametrize(
    "leaves",
    [
        "import os; os.environ['PGHOST'] = 'elsewhere'",
        "import os; os.chdir('/')",
        "open('notes.txt', 'w').write('x')",
        "import sys; sys.path.insert(0, '/tmp')",
        "import sys; sys.setrecursionlimit(5000)",
        "import sys; sys.excepthook = print",
        "import sys, io; sys.stdout = io.StringIO()",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import subprocess; kept = subprocess.Popen(['sleep', '100'])",
        "import asyncio; kept = asyncio.ensure_future(asyncio.sleep(100))",
        "import socket; kept = socket.socket()",
        "import socket; socket.setdefaulttimeout(1)",
        "import signal; signal.signal(signal.SIGALRM, lambda *_: None)",
        "import logging; logging.basicConfig(level='DEBUG')",
        "import logging; logging.getLogger('sqlalchemy.engine').setLevel('INFO')",
        "import warnings; warnings.simplefilter('error')",
        "import gc; gc.disable()",
        "import asyncio; asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
        "import asyncpg; asyncpg.connect = None",
        "import asyncpg; asyncpg.Connection.__init__ = lambda self: None",
        "import sqlalchemy.ext.asyncio as a; a.create_async_engine = None",
        "import builtins; builtins.print = lambda *_: None",
        "import sqlite3; sqlite3.register_adapter(dict, str)",
        "from engineroom.exercises.tools import Attempts; Attempts()",
        """
from sqlmodel import Field, SQLModel
class Gull(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
""",
        """
from sqlalchemy import event, Engine
@event.listens_for(Engine, 'connect')
def pragma(*_): pass
""",
        """
from sqlalchemy import event, QueuePool
@event.listens_for(QueuePool, 'checkout')
def count(*_): pass
""",
    ],
)
async def test_what_an_answer_leaves_no_other_answer_meets(bench: Bench, leaves: str) -> None:
    first = await judged(bench, leaves)
    assert first.status == "passed", first.message
    assert (await judged(bench)).status == "passed"
    assert not bench.lodging.renewed


async def test_a_notebook_gives_each_check_a_process_of_its_own(nursery: Nursery) -> None:
    alone = Bench(nursery)
    for _ in range(2):
        assert (await judged(alone)).status == "passed"
        assert not alone.lodging.renewed
    await alone.leave()


async def test_one_process_has_the_doors_for_all_that_is_to_come(
    nursery: Nursery, common_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in common_lab.env.items():
        monkeypatch.setenv(name, value)
    asked = [EXERCISES[f"urls.{name}"] for name in ("to_async", "engine_for", "for_psql")]
    missing = replace(MASKED, needs=("postgres", "impostor:of_a_kind_that_nobody_knows"))
    bench = Bench(nursery, ahead=(*asked, missing))
    served = []
    for exercise in asked:
        verdict = await judge(bench, exercise, [Cell(1, PRELUDE), Cell(2, exercise.right[0])], 1)
        assert verdict.status == "passed", verdict.message
        served.append(bench.lodging.renewed)
    assert served == [False, True, True]
    with pytest.raises(NotHere):  # only the one who needs it hears of a server that is missing
        await judge(bench, missing, [Cell(1, RIGHT)], 1)
    await bench.leave()


async def test_a_closed_port_is_closed_in_a_sandbox_too(nursery: Nursery) -> None:
    subject = await nursery.subject({}, [], {})
    spare = [door.getsockname()[1] for door in subject.spare_doors]
    await subject.kill()
    assert spare
    for _ in range(50):
        with closed_port() as port, socket.socket() as caller:
            assert port < min(spare), "a spare door may listen there, and never answer"
            assert caller.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))


async def test_where_nobody_can_look_a_process_is_not_used_again() -> None:
    library = SimpleNamespace()  # whose part that was looked at is gone in its next version
    assert seen(lambda: library.part) != seen(lambda: library.part)
