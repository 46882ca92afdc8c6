"""``engineroom new``: the two files of a lesson, with an exercise that already holds."""

from __future__ import annotations

import re
from pathlib import Path

from engineroom.errors import EngineRoomError

_SOURCE = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # {title}
#
# What happened, to whom, and why it matters.

# %%
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from checks import {lesson}
from engineroom import lab
from engineroom.widgets import predict

# %%
predict("What does Postgres answer to `select 6 * 7`?", "42", "an error")

# %%
engine = create_async_engine(lab.url)
async with engine.connect() as connection:
    print(await connection.scalar(text("select 6 * 7")))
await engine.dispose()

# %% [markdown]
# Your turn: ask it for any product.

# %% exercise="{lesson}.product"
async def product(engine, a: int, b: int) -> int:
    """Let Postgres multiply."""
    # <answer>
    async with engine.connect() as connection:
        return await connection.scalar(text("select (:a)::int * (:b)::int"), {{"a": a, "b": b}})
    # </answer>

# %%
{lesson}.product.check()
'''

_CHECKS = '''\
"""{stem}: say in a line what the lesson is about."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Lesson, Objective, Slip, Trial, expect

lesson = Lesson(
    "{lesson}",
    "{title}",
    minutes=20,
    objectives=(
        Objective(
            "ask", "Ask Postgres and use its answer", "apply", "A2", "Async engines"
        ),
    ),
    codes={{
        "{code}-01": "Postgres was not asked: the answer was worked out in Python.",
        "{code}-02": "What came back is not the product of the two numbers.",
    }},
)


async def multiply(product: Any, url: str, a: int, b: int) -> AsyncIterator[Any]:
    """Runs beside the learner's code; each ``yield`` is a step the check can look at."""
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    yield await product(engine, a, b)
    await engine.dispose()


@lesson.exercise(
    "product",
    kind="coroutine function",
    points=1,
    measures=("ask",),
    task="Write `product(engine, a, b)`: let Postgres multiply.",
    hints=("Who knows the answer?", "`engine.connect()`, then one scalar."),
    slips=(
        Slip(
            "in_python",
            "{code}-01",
            "The product is right, but Postgres was never asked.",
            (
                """
                async def product(engine, a, b):
                    return a * b
                """,
                """
                async def product(engine, a, b):
                    return sum([a] * b)
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def product(engine, a, b):
            async with engine.connect() as c:
                return await c.scalar(text("select (:a)::int * (:b)::int"), {{"a": a, "b": b}})
        """,
        """
        from sqlalchemy import select, literal
        async def product(engine, a, b):
            async with engine.begin() as c:
                return (await c.execute(select(literal(a) * literal(b)))).scalar_one()
        """,
        """
        from sqlalchemy.ext.asyncio import AsyncSession
        from sqlalchemy import func, select
        async def product(engine, a, b):
            async with AsyncSession(engine) as s:
                return await s.scalar(select(func.sum(a) * b))
        """,
    ),
)
async def product(trial: Trial) -> None:
    a, b = trial.draw.randint(2, 99), trial.draw.randint(2, 99)
    before = await trial.witness.logins()
    answer = await trial.subject.steps(multiply, trial.lab.url, a, b).next()
    expect(answer == a * b, "{code}-02", f"{{a}} times {{b}} is {{a * b}}, not {{answer}}.")
    expect(await trial.witness.logins() > before, "{code}-01")
'''


def write_lesson(root: Path, lesson: str) -> list[Path]:
    """The source and the checks of a new lesson."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,30}", lesson):
        raise EngineRoomError(
            f"{lesson!r} can be no lesson's name: small letters, digits and _ only.",
            "engineroom new caching",
        )
    numbers = [int(path.name[:2]) for path in (root / "solutions").glob("[0-9][0-9]_*.py")]
    stem = f"{max(numbers, default=-1) + 1:02}_{lesson}"
    words = {
        "lesson": lesson,
        "stem": stem.replace("_", " ", 1),
        "title": lesson.replace("_", " ").capitalize(),
        "code": lesson[:6].upper(),
    }
    files = {
        root / "solutions" / f"{stem}.py": _SOURCE,
        root / "checks" / f"{lesson}.py": _CHECKS,
    }
    taken = [path for path in files if path.exists()]
    taken += list((root / "solutions").glob(f"[0-9][0-9]_{lesson}.py"))
    if taken:
        raise EngineRoomError(f"{taken[0]} is there already.", "choose another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words), "utf-8")
    return list(files)
