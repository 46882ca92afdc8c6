"""``.check()`` and ``.hint()`` in a real kernel: cards, interrupts, and a kernel that lies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import KernelManager
from lab_helpers import Lab, eventually, processes_of

from engineroom.exercises.cards import HintCard, VerdictCard
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Verdict
from engineroom.exercises.progress import Progress
from engineroom.exercises.standing import standing

CEILING = known_lessons()["pooling"].exercises["ceiling"]
RIGHT = "from sqlalchemy.ext.asyncio import create_async_engine\n" + CEILING.right[0]
SLIP = "from sqlalchemy.ext.asyncio import create_async_engine\n" + CEILING.slips[0].programs[0]


class Notebook:
    """A kernel, and what its cells show.

    After an error a kernel drops what is waiting for it, and now and then also what comes a moment
    later: here a cell that is to come next is to be run whatever the one before met.
    """

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager = manager
        self._client = client

    def run(self, source: str) -> dict[str, str]:
        """Run a cell: its display by MIME type, or ``error`` with what the person reads."""
        shown: dict[str, str] = {}

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] in ("execute_result", "display_data"):
                shown.update(content["data"])
            elif message["msg_type"] == "error":
                shown["error"] = "\n".join([content["ename"], *content["traceback"]])

        self._client.execute_interactive(source, timeout=60, output_hook=hear, stop_on_error=False)
        return shown

    def start(self, source: str) -> None:
        self._client.execute(source, stop_on_error=False)

    def wait_idle(self) -> dict[str, Any]:
        reply: dict[str, Any] = self._client.get_shell_msg(timeout=60)["content"]
        return reply


@contextmanager
def notebook(lab: Lab) -> Iterator[Notebook]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=lab.env, cwd="/")
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_learner_is_told_where_they_are_at_every_step(common_lab: Lab) -> None:
    common_lab.cli("progress", "--reset", "all", check=True)
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling")
        shown = learner.run("pooling.ceiling.check()")
        assert "not attempted" in shown["text/plain"]
        assert "write `capped`" in shown["text/plain"]
        assert "hint 1 of 3" in learner.run("pooling.ceiling.hint()")["text/plain"]
        assert "hint 2 of 3" in learner.run("pooling.ceiling.hint()")["text/plain"]
        for _ in range(5):
            last = learner.run("pooling.ceiling.hint()")
        assert "hint 3 of 3" in last["text/plain"]
        learner.run(SLIP)
        shown = learner.run("pooling.ceiling.check()")
        assert shown["text/plain"].startswith("✗ pooling.ceiling: not yet, 0 of 3 points")
        assert "POOL-01" in shown["text/plain"]
        assert "Not yet" in shown["text/html"]
        learner.run(RIGHT)
        shown = learner.run("pooling.ceiling.check()")
        assert shown["text/plain"] == "✓ pooling.ceiling: passed, 3 of 3 points"


def test_progress_survives_the_kernel_and_can_be_forgotten(common_lab: Lab) -> None:
    common_lab.cli("progress", "--reset", "all", check=True)
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling\n" + RIGHT)
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]
        learner.run("pooling.ceiling.hint()")
        assert "once more" in learner.run("pooling.ceiling.solution()")["text/plain"]
        psutil.Process(kernel_pid(learner)).kill()
    shown = common_lab.cli("progress", check=True).stdout
    assert "ceiling: passed, 1 tries, 1 hints" in shown
    skill = next(s for s in standing(known_lessons(), []).skills if s.name == "Connection pools")
    line = f"{skill.name}: 1 of {skill.total} exercises, 3 of {skill.most:g} points"
    assert line in shown
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling\nimport sqlmodel\n" + SLIP)
        assert "hint 2 of 3" in learner.run("pooling.ceiling.hint()")["text/plain"]
        assert "pool_timeout=wait" in learner.run("pooling.ceiling.solution()")["text/plain"]
        learner.run("pooling.ceiling.check()")
        tables = learner.run("sqlmodel.SQLModel.metadata.tables")["text/plain"]
        assert "record" not in tables
        board = learner.run("from engineroom.widgets import board\nawait board()")
        assert "pooling: 1 of 6 exercises, 3 of" in board["text/plain"]
        assert "<caption>By skill</caption>" in board["text/html"]
    assert "ceiling: passed, 2 tries" in common_lab.cli("progress", check=True).stdout
    assert "1 forgotten" in common_lab.cli("progress", "--reset", CEILING.id, check=True).stdout
    assert "ceiling: not attempted" in common_lab.cli("progress", check=True).stdout
    assert common_lab.cli("progress", "--reset", "no.such").returncode == 1


def test_a_run_that_keeps_no_history_is_judged_all_the_same(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        for source in (f"from checks import pooling\n{RIGHT.splitlines()[0]}", CEILING.right[0]):
            learner._client.execute_interactive(
                source, timeout=60, store_history=False, stop_on_error=False
            )
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]


def test_what_a_cell_held_before_it_was_run_again_counts_no_more(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:

        def run(cell: str, source: str) -> None:
            message = learner._client.session.msg(
                "execute_request",
                {"code": source, "silent": False, "stop_on_error": False, "store_history": True},
                metadata={"cellId": cell},
            )
            learner._client.shell_channel.send(message)
            learner.wait_idle()

        run("a", f"from checks import pooling\n{RIGHT.splitlines()[0]}")
        run("b", CEILING.right[0])
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]
        run("b", "def capped(url, at_most, wait): ...")
        assert "not attempted" in learner.run("pooling.ceiling.check()")["text/plain"]
        run("b", "def capped(url, at_most, wait):")
        assert "IndentationError" in learner.run("pooling.ceiling.check()")["text/plain"]
        # A second cell with another try goes before the first, until the first is run again.
        run("c", CEILING.slips[0].programs[0])
        assert "not yet" in learner.run("pooling.ceiling.check()")["text/plain"]
        run("b", CEILING.right[0])
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]


def test_eight_notebooks_at_once_lose_no_step(tmp_path: Path) -> None:
    async def steps() -> list[int]:
        several = [Progress(tmp_path) for _ in range(8)]
        await asyncio.gather(*(p.next_hint("a.b", 99) for p in several for _ in range(5)))
        found = [record.hints for record in await several[0].all()]
        for progress in several:
            await progress.close()
        return found

    assert asyncio.run(steps()) == [40]


def test_what_is_patched_in_the_kernel_does_not_reach_the_judge(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        learner.run(
            "from checks import pooling\n"
            "import engineroom.exercises.judge as judge, engineroom.exercises.model as model\n"
            "model.expect = judge.expect = lambda *a: True\n"
            "async def passed(*a): return None\n"
            "pooling.ceiling.check_it = passed\n"
            "def capped(url, at_most, wait): return None"
        )
        assert "passed" not in learner.run("pooling.ceiling.check()")["text/plain"]


def test_a_check_can_be_interrupted_and_the_next_one_works(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling\npooling.ceiling.check()")
        learner.run("def capped(*a):\n    while True: pass")
        courts = children_named(learner, "engineroom.exercises.court")
        learner.start("pooling.ceiling.check()")
        nursery = eventually(
            lambda: [c for c in courts[0].children(recursive=True) if c.cpu_percent(0.1) > 50],
            "the endless loop runs",
        )
        learner.manager.interrupt_kernel()
        reply = learner.wait_idle()
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        eventually(lambda: not any(p.is_running() for p in nursery), "the endless loop is ended")
        learner.run(RIGHT)
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]


def test_the_judge_is_ready_before_it_is_asked(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        learner.run("import engineroom")
        assert not children_named(learner, "engineroom.exercises.court")
        learner.run("from checks import pooling")
        eventually(
            lambda: children_named(learner, "engineroom.exercises.nursery"),
            "the first import of an exercise starts the court and its nursery",
        )
        (court,) = children_named(learner, "engineroom.exercises.court")
        learner.run("from checks import urls")
        learner.run(RIGHT)
        assert "passed" in learner.run("pooling.ceiling.check()")["text/plain"]
        assert children_named(learner, "engineroom.exercises.court") == [court]


def test_a_killed_kernel_leaves_no_judge_behind(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling\n" + RIGHT)
        learner.run("pooling.ceiling.check()")
        left = psutil.Process(kernel_pid(learner)).children(recursive=True)
        assert left
        before = {p.pid for p in processes_of(common_lab.home)}
        psutil.Process(kernel_pid(learner)).kill()
        eventually(
            lambda: not any(p.is_running() and p.status() != "zombie" for p in left),
            "the court and its nursery end with the kernel",
        )
        assert {p.pid for p in left} <= before


def test_the_warm_parent_may_be_killed_between_two_checks(common_lab: Lab) -> None:
    with notebook(common_lab) as learner:
        learner.run("from checks import pooling\n" + RIGHT)
        learner.run("pooling.ceiling.check()")
        for name in ("engineroom.exercises.nursery", "engineroom.exercises.court"):
            for process in children_named(learner, name):
                process.kill()
            # A check that meets the dying nursery may say so; the one after that must not.
            learner.run("pooling.ceiling.check()")
            shown = learner.run("pooling.ceiling.check()")["text/plain"]
            assert shown == "✓ pooling.ceiling: passed, 3 of 3 points"


def kernel_pid(learner: Notebook) -> int:
    pid: int = learner.manager.provisioner.pid
    return pid


def children_named(learner: Notebook, name: str) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(kernel_pid(learner)).children(recursive=True)
        if name in child.cmdline()
    ]


def test_a_card_escapes_what_a_learner_wrote() -> None:
    nasty = "<script>alert(1)</script>&'\""
    card = VerdictCard(
        Verdict(
            exercise="x.y", status="error", points=0, max_points=1, message=nasty, where=nasty,
            notes=(nasty,), code=nasty,
        )
    )  # fmt: skip
    assert "<script>" not in card._repr_html_()
    assert card._repr_html_().count("&lt;script&gt;") == 4
    assert nasty in repr(card)
    assert "<b>" not in HintCard("<b>", 1, 1)._repr_html_()


@pytest.mark.parametrize(
    "status",
    ["passed", "failed", "not_attempted", "error", "timed_out", "out_of_memory", "crashed"],
)
def test_every_status_has_a_word_beside_its_colour(status: Any) -> None:
    card = VerdictCard(Verdict(exercise="x.y", status=status, points=0, max_points=1))
    plain = repr(card)
    assert plain.split(":")[1].split(",")[0].strip()
    assert "er-word" in card._repr_html_()
