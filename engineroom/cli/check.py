"""``engineroom check``: a learner's own notebook, judged in the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from engineroom.cli.console import out, report
from engineroom.errors import EngineRoomError

if TYPE_CHECKING:
    from engineroom.exercises.model import Exercise, Lesson, Verdict
    from engineroom.grading.notebooks import Notebook

_STYLES = {"passed": "green", "not_attempted": "dim", "failed": "red"}


def check(
    notebook: Annotated[Path, typer.Argument(help="Your own copy of a lesson, e.g. work/….ipynb.")],
) -> None:
    """Check every exercise of your notebook: exit 0 when all that you have written passes.

    It is read as it was saved, and judged as "restart and run all" and `.check()` would.
    """
    from engineroom.exercises.lessons import known_lessons

    lessons = known_lessons()
    read = _read(notebook)
    exercises = _exercises(read, lessons)
    verdicts = asyncio.run(_check(read, exercises))
    out.print(Text(_total(verdicts), style="bold"))
    raise typer.Exit(0 if all(v.status in ("passed", "not_attempted") for v in verdicts) else 1)


def _read(path: Path) -> Notebook:
    from engineroom.grading.notebooks import parse
    from engineroom.grading.parcels import NOTEBOOK_LIMIT
    from engineroom.grading.reading import UnreadableError

    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "is not there"
            raise _bad_usage(f"{path} {what}.", "engineroom check work/04_pooling.ipynb")
        if path.stat().st_size > NOTEBOOK_LIMIT:
            raise _bad_usage(f"{path} is too large.", "clear its outputs, save, and check again")
        return parse(path.name, path.read_bytes())
    except UnreadableError as error:
        reason = str(error).partition(";")[0]
        raise _bad_usage(f"{reason}.", "open it in JupyterLab, save, and check again") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _bad_usage(f"{path} cannot be opened: {reason}.", f"ls -l {path}") from None


def _exercises(notebook: Notebook, lessons: dict[str, Lesson]) -> list[Exercise]:
    """Those of the notebook's lesson, and of others those that it has an answer's cell for."""
    lesson = notebook.lesson(lessons)
    found = [
        exercise
        for name, one in lessons.items()
        for exercise in one.exercises.values()
        if name == lesson or exercise.id in notebook.marks
    ]
    if not found:
        raise _bad_usage(
            f"{notebook.name} belongs to no lesson of this version.",
            f"the lessons with exercises are {', '.join(lessons)}",
        )
    return found


async def _check(notebook: Notebook, exercises: list[Exercise]) -> list[Verdict]:
    from engineroom.exercises.lessons import known_lessons

    lessons = known_lessons()
    verdicts = []
    async for verdict in _judged(notebook, exercises):
        verdicts.append(verdict)
        out.print(_line(verdict, lessons[verdict.lesson].codes.get(verdict.code, "")))
    return verdicts


async def _judged(notebook: Notebook, exercises: list[Exercise]) -> AsyncIterator[Verdict]:
    """Each verdict as it is reached; what is reached is remembered as in a notebook."""
    from engineroom.exercises.judge import Bench, judge
    from engineroom.exercises.progress import Progress
    from engineroom.lab.places import find_places

    bench, progress = Bench(), Progress(find_places().home)
    try:
        for exercise in exercises:
            verdict = await judge(bench, exercise, list(notebook.cells))
            if verdict.status != "not_attempted":
                await progress.after(verdict)
            yield verdict
    finally:
        await bench.close()
        await progress.close()


def _line(verdict: Verdict, meaning: str) -> Text:
    from engineroom.exercises.cards import VerdictCard

    text = Text(repr(VerdictCard(verdict, meaning)))
    text.stylize(_STYLES.get(verdict.status, "yellow"), 0, str(text).find("\n") % (len(text) + 1))
    return text


def _total(verdicts: list[Verdict]) -> str:
    passed = sum(verdict.status == "passed" for verdict in verdicts)
    waiting = sum(verdict.status == "not_attempted" for verdict in verdicts)
    points, most = sum(v.points for v in verdicts), sum(v.max_points for v in verdicts)
    parts = [f"{passed} of {len(verdicts)} passed", f"{points:g} of {most:g} points"]
    if waiting:
        parts.append(f"{waiting} not attempted")
    return ", ".join(parts)


def _bad_usage(sentence: str, fix: str) -> typer.Exit:
    """Said, and exit code 2."""
    report(EngineRoomError(sentence, fix))
    return typer.Exit(2)
