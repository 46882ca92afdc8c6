"""``engineroom grade``: marks for a folder of submissions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from engineroom.cli.console import err, out, report
from engineroom.errors import EngineRoomError


def grade(
    folders: Annotated[list[Path], typer.Argument(help="Each entry in them is a learner.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where results go.")],
    lesson: Annotated[
        list[str] | None, typer.Option(help="Grade this lesson (again for more).")
    ] = None,
    sandbox: Annotated[
        Literal["auto", "bubblewrap", "none"], typer.Option(help="What contains learners' code.")
    ] = "auto",
) -> None:
    """Grade submissions: writes results.jsonl and grades.csv."""
    if sandbox != "none":
        _stop(
            "This version grades without a sandbox only.", "add --sandbox none, if you trust them"
        )
    err.print("Without a sandbox: what the submissions do, they do as you.")
    from engineroom.exercises.lessons import known_lessons
    from engineroom.grading.batch import grade as grade_all
    from engineroom.grading.reading import find_submissions

    lessons = known_lessons()
    for name in lesson or ():
        if name not in lessons:
            _stop(f"There is no lesson {name!r} in this version.", f"one of {', '.join(lessons)}")
    for folder in folders:
        if not folder.is_dir():
            _stop(f"{folder} is no folder.", "name the folder that the submissions are in")
    submissions = list(find_submissions(folders))
    if not submissions:
        _stop("There is no submission in there.", "each should be a .ipynb, a folder or a .zip")
    try:
        out_folder.mkdir(parents=True, exist_ok=True)
        well = asyncio.run(
            grade_all(
                submissions,
                lessons,
                lesson or [],
                out_folder,
                lambda done: err.print(f"{done.learner}: {done.trouble or 'graded'}", markup=False),
            )
        )
    except OSError as error:
        raise EngineRoomError(
            f"The results could not be written to {out_folder}: {error.strerror}.",
            "name another folder with --out",
        ) from error
    out.print(f"{len(submissions)} graded into {out_folder}", markup=False)
    raise typer.Exit(0 if well else 1)


def _stop(sentence: str, fix: str) -> None:
    """Bad usage: said, and exit code 2."""
    report(EngineRoomError(sentence, fix))
    raise typer.Exit(2)
