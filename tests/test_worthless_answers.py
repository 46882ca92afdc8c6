"""Every exercise, answered with what is worth nothing: fakes that claim to be right, and less."""

from __future__ import annotations

import pytest
from judging import EXERCISES, Judge

from engineroom.exercises.model import Exercise

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAKES = {
    "equal to everything": """
        class Yes:
            def __eq__(self, other): return True
            def __call__(self, *a, **k): return self
            def __getattr__(self, name): return self
            def __await__(self): return iter(())
            async def __aenter__(self): return self
            async def __aexit__(self, *a): return False
        {answer} = Yes()
    """,
    "prints passed": """
        def {answer}(*a, **k):
            print("passed")
            return "passed"
    """,
    "patches the runtime": """
        import engineroom.exercises.runtime as runtime
        async def done(self, request):
            return {{"value": "passed", "kind": "str"}}
        runtime.Runtime._do = done
        def {answer}(*a, **k): ...
        {answer} = {answer}
    """,
    "patches the tools": """
        import engineroom.exercises.tools as tools
        class Attempts:
            count = 1
        tools.Attempts = Attempts
        async def nothing(*a): pass
        tools.let_pass = tools.turns = nothing
        {answer} = lambda *a: create_async_engine("sqlite+aiosqlite://")
    """,
    "claims attributes": """
        class Engine:
            def __init__(self, *a): self.pool = self
            def size(self): return 5
            def connect(self): return self
            async def dispose(self): pass
            async def __aenter__(self): return self
            async def __aexit__(self, *a): return False
            async def execute(self, *a): return self
            async def scalar(self, *a): return "word"
        {answer} = Engine
    """,
}


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
@pytest.mark.parametrize("fake", FAKES)
async def test_a_fake_gets_nothing(verdict_of: Judge, exercise: Exercise, fake: str) -> None:
    exercise.seconds, before = 2.0, exercise.seconds  # a fake that answers nothing runs out of it
    try:
        program = FAKES[fake].format(answer=exercise.answer)
        verdict = await verdict_of(exercise.id, program)
    finally:
        exercise.seconds = before
    assert verdict.status != "passed"
    assert verdict.points == 0


POOR = {
    "nothing": ("def {answer}(*a, **k):\n    return None", {"failed", "error"}),
    "another type": ("{answer} = 5", {"failed", "error"}),
    "an exception": (
        "def {answer}(*a, **k):\n    raise RuntimeError('oh dear')",
        {"failed", "error"},
    ),
    "an exception while defined": ("{answer} = 1 / 0", {"error"}),
    "a loop": ("def {answer}(*a, **k):\n    while True: pass", {"failed", "timed_out"}),
    "a loop while defined": ("{answer} = [None for _ in iter(int, 1)]", {"timed_out"}),
    "a long wait": (
        "import asyncio\nasync def {answer}(*a, **k):\n    await asyncio.Event().wait()",
        {"failed", "error", "timed_out"},
    ),
}


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
@pytest.mark.parametrize("poor", POOR)
async def test_a_poor_answer_has_its_own_status(
    verdict_of: Judge, exercise: Exercise, poor: str
) -> None:
    program, fair = POOR[poor]
    before = exercise.seconds
    if "timed_out" in fair:
        exercise.seconds = 1.0
    try:
        verdict = await verdict_of(exercise.id, program.format(answer=exercise.answer))
    finally:
        exercise.seconds = before
    assert verdict.status in fair, verdict
    assert verdict.message
    assert verdict.points == 0
