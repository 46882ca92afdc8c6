"""``engineroom build``, ``verify`` and ``new``: for those who write lessons."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer
from rich.text import Text

from engineroom.cli.console import err, out, steps
from engineroom.course import course_root

Lessons = Annotated[list[str] | None, typer.Argument(help="Lessons, e.g. pooling; else all.")]


def build(
    lessons: Lessons = None,
    check: Annotated[
        bool, typer.Option("--check", help="Build nothing; fail when something is stale.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Build also what is current.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = os.cpu_count() or 2,
) -> None:
    """Build notebooks/ and solutions/*.ipynb from solutions/*.py."""
    from engineroom.authoring.build import Target, build_all, targets
    from engineroom.authoring.pages import page_is_current, page_path, write_page
    from engineroom.exercises.lessons import known_lessons

    root = course_root()
    stale = [target for target in targets(root, lessons) if force or not target.is_current()]
    if check:
        old = [target.path for target in stale]
        known = known_lessons().values()
        old += [page_path(root, one) for one in known if not page_is_current(root, one)]
        for path in old:
            err.print(Text(f"{path.relative_to(root)} is stale."))
        if old:
            err.print(Text("Next: engineroom build"))
        raise typer.Exit(1 if old else 0)

    def tell(target: Target) -> None:
        out.print(Text(f"built {target.path.relative_to(root)}"))

    for lesson in known_lessons().values():
        if write_page(root, lesson):
            out.print(Text(f"wrote docs/codes/{lesson.name}.md"))
    with steps("building"):
        asyncio.run(build_all(stale, jobs, tell))
    if not stale:
        out.print("All notebooks are current.")


def verify(
    lessons: Lessons = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    load: Annotated[bool, typer.Option("--load", help="Keep the machine busy meanwhile.")] = False,
) -> None:
    """Prove the course: stubs, solutions, slips, replays, hints, facts, pages."""
    from engineroom.authoring.verify import verify_course

    with steps("verifying") as say:
        report = asyncio.run(verify_course(course_root(), lessons, say, load=load))
    if as_json:
        typer.echo(json.dumps(report.as_plain()))
    else:
        for problem in report.problems:
            err.print(Text(problem))
        out.print(Text(report.summary()))
    raise typer.Exit(1 if report.problems else 0)


def new(lesson: Annotated[str, typer.Argument(help="The lesson's name, e.g. caching.")]) -> None:
    """Write the two files of a new lesson, ready to fill."""
    from engineroom.authoring.new import write_lesson

    for path in write_lesson(course_root(), lesson):
        out.print(Text(f"wrote {path}"))
    out.print(Text(f"Next: engineroom build {lesson} && engineroom verify {lesson}"))
