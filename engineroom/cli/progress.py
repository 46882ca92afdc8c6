"""``engineroom progress``: what is done, by lesson; and forgetting it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from engineroom.cli.console import out
from engineroom.lab.places import find_places


def progress(
    reset: Annotated[str, typer.Option(help="Forget one exercise, or `all`.")] = "",
) -> None:
    """Show what is done, by lesson and by skill."""
    asyncio.run(_forget(reset) if reset else _show())


async def _forget(which: str) -> None:
    from engineroom.exercises.lessons import find_exercise
    from engineroom.exercises.progress import Progress

    kept = Progress(find_places().home)
    exercise = None if which == "all" else find_exercise(which).id
    count = await kept.reset(exercise)
    await kept.close()
    out.print(Text(f"{count} forgotten." if count else "There was nothing to forget."))


async def _show() -> None:
    from engineroom.exercises.lessons import known_lessons
    from engineroom.exercises.progress import Progress
    from engineroom.exercises.standing import standing

    kept = Progress(find_places().home)
    records = {record.exercise: record for record in await kept.all()}
    await kept.close()
    now = standing(known_lessons(), records.values())
    for share in now.lessons:
        lesson = known_lessons()[share.name]
        out.print(Text(f"{share.name}: {share.done} of {share.total}", style="bold"))
        for exercise in lesson.exercises.values():
            record = records.get(exercise.id)
            if record is None:
                state = "not attempted"
            elif record.passed_at:
                state = "passed"
            else:
                state = record.status.replace("_", " ")
            help_taken = f", {record.hints} hints" if record and record.hints else ""
            tries = f", {record.attempts} tries" if record and record.attempts else ""
            out.print(Text(f"  {exercise.name}: {state}{tries}{help_taken}"))
    out.print(Text("By skill", style="bold"))
    for share in now.skills:
        points = f"{share.points:g} of {share.most:g} points"
        out.print(Text(f"  {share.name}: {share.done} of {share.total} exercises, {points}"))
