"""04 pooling: what waits in the pool."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Lesson, Slip, Trial, expect

lesson = Lesson("pooling", "What waits in the pool")


async def crowd(
    make_engine: Any, url: str, at_most: int, wait: float, extra: int
) -> AsyncIterator[Any]:
    """More requests than there may be connections; who gets one stands at the gate."""
    import asyncio

    from sqlalchemy import text

    from engineroom.exercises.tools import Attempts, let_pass, turns

    engine = make_engine(url, at_most, wait)
    attempts = Attempts()

    async def ask() -> str:
        try:
            async with engine.connect() as connection:
                await connection.execute(text("select * from gate"))
        except Exception:
            return "gave up"
        return "served"

    asking = [asyncio.ensure_future(ask()) for _ in range(at_most + extra)]
    await turns()
    yield attempts.count
    await let_pass(wait)
    yield sum(task.done() and task.result() == "gave up" for task in asking)
    yield [await task for task in asking].count("served")
    await engine.dispose()


@lesson.exercise(
    "capped",
    points=3,
    task="Write `capped(url, at_most, wait)`: an engine that never opens more than `at_most` "
    "connections, and fails a further request within `wait` seconds.",
    hints=(
        "Which two numbers add up to the most connections a pool opens?",
        "One of them is ten unless you say otherwise; and how long may a request queue?",
        "`pool_size=at_most`, `max_overflow=0`, `pool_timeout=wait`",
    ),
    slips=(
        Slip(
            "overflow",
            "POOL-01",
            "Postgres counted more connections than you allowed: overflow defaults to ten.",
            (
                """
                def capped(url, at_most, wait):
                    return create_async_engine(url, pool_size=at_most, pool_timeout=wait)
                """,
                """
                def capped(url, at_most, wait):
                    return create_async_engine(
                        url, pool_size=at_most, max_overflow=10, pool_timeout=wait)
                """,
            ),
        ),
        Slip(
            "patient",
            "POOL-02",
            "The extra request still waited: a pool lets it queue for 30 s by default.",
            (
                """
                def capped(url, at_most, wait):
                    return create_async_engine(url, pool_size=at_most, max_overflow=0)
                """,
                """
                def capped(url, at_most, wait):
                    return create_async_engine(
                        url, pool_size=at_most, max_overflow=0, pool_timeout=30)
                """,
            ),
        ),
    ),
    right=(
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
        """,
        """
        capped = lambda url, n, wait: create_async_engine(
            url, pool_size=1, max_overflow=n - 1, pool_timeout=wait * 0.9)
        """,
        """
        from functools import partial
        def build(size, over):
            return lambda url, n, wait: create_async_engine(
                url, pool_size=n - over, max_overflow=over, pool_timeout=wait, pool_pre_ping=True)
        capped = build(0, 1)
        """,
    ),
)
async def ceiling(trial: Trial) -> None:
    at_most, wait = trial.draw.randint(2, 7), trial.draw.uniform(0.1, 0.3)
    before = await trial.witness.logins()
    async with trial.witness.gate() as gate:
        steps = trial.subject.steps(crowd, trial.lab.url, at_most, wait, 3)
        begun = await steps.next()
        seen = await gate.reached(min(begun, at_most + 1))
        expect(seen <= at_most, "POOL-01")
        expect(seen == at_most, "POOL-03", f"You allow {seen} connections, not {at_most}.")
        expect(await steps.next() == 3, "POOL-02")
        await gate.open()
        expect(await steps.next() == at_most, "POOL-04", "Some requests were never served.")
    # An engine that lied about its attempts has still had to log in.
    expect(await trial.witness.logins() - before == at_most, "POOL-01")
