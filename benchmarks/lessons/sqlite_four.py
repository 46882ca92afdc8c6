"""Four exercises on SQLite, as small as they get: what grading costs beside the work itself."""

from collections.abc import Callable

from engineroom.exercises import Lesson, Trial, expect

lesson = Lesson("sqlite_four", "For the bench only")

_BODY = """
async def {name}(numbers):
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.execute(text("create table n (v integer)"))
        await connection.execute(text("insert into n values (:v)"), [{{"v": v}} for v in numbers])
        found = await connection.scalar(text("select {what}(v) from n"))
    await engine.dispose()
    return found
"""
IMPORTS = "from sqlalchemy import text\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
ANSWERS = {
    name: _BODY.format(name=name, what=what)
    for name, what in (
        ("total", "sum"),
        ("largest", "max"),
        ("smallest", "min"),
        ("how_many", "count"),
    )
}
EXPECTED: dict[str, Callable[[list[int]], int]] = {
    "total": sum,
    "largest": max,
    "smallest": min,
    "how_many": len,
}


def _exercise(name: str) -> None:
    async def check(trial: Trial) -> None:
        numbers = trial.draw.sample(range(1, 1000), 5)
        found = await trial.subject.value(name, numbers)
        expect(found == EXPECTED[name](numbers), "BENCH", "another number")

    check.__name__ = name
    lesson.exercise(
        name,
        points=1,
        task=name,
        hints=(name,),
        right=(IMPORTS + ANSWERS[name],),
        kind="coroutine function",
        needs=(),
    )(check)


for _name in ANSWERS:
    _exercise(_name)
