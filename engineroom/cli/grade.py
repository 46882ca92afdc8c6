"""``engineroom grade``: marks for folders of submissions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engineroom.cli.console import err, out, report
from engineroom.errors import EngineRoomError

if TYPE_CHECKING:
    from engineroom.grading.batch import Tell
    from engineroom.grading.run import Graded, Request

JOBS = 4 * (os.cpu_count() or 1)  # grading waits more than it works


def grade(
    folders: Annotated[list[Path], typer.Argument(help="Each entry in them is a learner.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where results go.")],
    lesson: Annotated[
        list[str] | None, typer.Option(help="Grade this lesson (again for more).")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Grade this learner, keep the others' results.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = JOBS,
    sandbox: Annotated[
        Literal["auto", "bubblewrap", "none"], typer.Option(help="What contains learners' code.")
    ] = "auto",
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds an exercise may take.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where a grading was ended.")] = False,
    roster: Annotated[Path | None, typer.Option(help="A CSV file of who is in the class.")] = None,
    layout: Annotated[
        Literal["plain", "canvas", "moodle"], typer.Option(help="Who packed the folder.")
    ] = "plain",
    cluster: Annotated[str, typer.Option(help="A Dask scheduler that has workers.")] = "",
) -> None:
    """Grade submissions: marks, a report, feedback, and files for a school's system."""
    from engineroom.grading.run import Request, UsageError
    from engineroom.grading.sandbox import NoSandboxError

    request = Request(
        tuple(folders), out_folder, tuple(lesson or ()), tuple(only or ()), jobs, sandbox, timeout,
        resume, roster, layout, cluster,
    )  # fmt: skip
    if sandbox == "none":
        err.print("Without a sandbox: what the submissions do, they do as you.")
    try:
        graded = asyncio.run(_grade(request))
    except (UsageError, NoSandboxError) as error:
        report(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        report(
            EngineRoomError(
                "Grading was ended; what is graded is kept.", "the same command with --resume"
            )
        )
        raise typer.Exit(130) from None
    _summary(graded, out_folder)
    raise typer.Exit(0 if graded.book.all_graded else 1)


async def _grade(request: Request) -> Graded:
    from engineroom.grading.run import prepare, run

    prepared = await prepare(request)
    with _progress(len(prepared.chosen)) as tell:
        return await run(request, prepared, tell, lambda words: err.print(words, markup=False))


@contextmanager
def _progress(total: int) -> Iterator[Tell]:
    """A bar with rate and time left where there is a terminal; else nothing."""
    if not err.is_terminal:
        yield lambda lines: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} a second" if task.speed else "")

    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), Rate())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=err) as bar:
        task = bar.add_task("grading", total=total)
        advance: Callable[[object], None] = lambda lines: bar.advance(task)  # noqa: E731
        yield advance


def _summary(done: Graded, folder: Path) -> None:
    book = done.book
    graded = sum(row.status == "graded" for row in book.rows)
    out.print(f"{graded} of {len(book.rows)} graded; see {folder / 'report.html'}", markup=False)
    for row in book.rows:
        if row.status != "graded":
            err.print(f"{row.learner}: {row.status}. {row.reason}", markup=False)
    said = {row.learner: row.reason for row in book.rows if row.status != "graded"}
    for learner, remarks in done.remarks.items():
        for remark in remarks:
            if remark not in said.get(learner, ""):
                err.print(f"{learner}: {remark}.", markup=False)
    for row in book.missing:
        err.print(f"{row.name}: nothing was handed in.", markup=False)
