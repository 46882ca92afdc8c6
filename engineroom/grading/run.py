"""One run of ``engineroom grade``: from folders to everything that lies in DIR afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.exercises.lessons import known_lessons
from engineroom.grading.batch import Batch, Grade, Tell, grade_batch, lessons_that_occur
from engineroom.grading.gradebook import Gradebook, counted
from engineroom.grading.grader import Grader
from engineroom.grading.journal import RESULTS
from engineroom.grading.layouts import Layout
from engineroom.grading.outputs import write_outputs
from engineroom.grading.reading import Submission, only, read_submissions
from engineroom.grading.results import read_results
from engineroom.grading.roster import Roster, read_roster


class UsageError(EngineRoomError):
    """What was asked for makes no sense: nothing was graded, and nothing written."""


@dataclass(frozen=True)
class Request:
    """What stands on the command line."""

    folders: tuple[Path, ...]
    out: Path
    lessons: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 4
    sandbox: str = "auto"
    timeout: float | None = None
    resume: bool = False
    roster: Path | None = None
    layout: Layout = "plain"
    cluster: str = ""


@dataclass(frozen=True)
class Prepared:
    """The same, with everything found that it names."""

    batch: Batch
    chosen: tuple[Submission, ...]
    roster: Roster | None


async def prepare(request: Request) -> Prepared:
    """Find what the request names, or raise UsageError."""
    known = known_lessons()
    for name in request.lessons:
        if name not in known:
            raise UsageError(
                f"There is no lesson {name!r} in this version.", f"one of {', '.join(known)}"
            )
    try:
        roster = read_roster(request.roster) if request.roster else None
        # Names and places only: what lies there is read when its turn comes.
        submissions = tuple(read_submissions(request.folders, request.layout))
        chosen = tuple(only(submissions, request.only)) if request.only else submissions
    except EngineRoomError as error:
        raise UsageError(error.sentence, error.fix) from error
    if not submissions:
        raise UsageError(
            "There is no submission in there.", "each should be a .ipynb, a folder or a .zip"
        )
    named = list(request.lessons) or await asyncio.to_thread(lessons_that_occur, submissions)
    if not named:
        raise UsageError(
            "No lesson of this version occurs in there.", "name what to grade with --lesson"
        )
    _make_sure_of(request.out)
    return Prepared(Batch(submissions, tuple(named)), chosen, roster)


@dataclass(frozen=True)
class Graded:
    """What came of it."""

    book: Gradebook
    remarks: Mapping[str, tuple[str, ...]]
    """What an instructor may want to know of a learner's submission, graded or not."""


async def run(
    request: Request, prepared: Prepared, tell: Tell, say: Callable[[str], None]
) -> Graded:
    """Grade, and write all outputs; what is graded is kept whatever happens."""
    batch = prepared.batch
    try:
        async with _graders(request, batch, say) as (grade, jobs):
            remarks = await grade_batch(
                batch, prepared.chosen, request.out, grade, tell, jobs,
                resume=request.resume, keep=bool(request.only),
            )  # fmt: skip
        lines = read_results(request.out / RESULTS)
        book = Gradebook.of(lines, counted(known_lessons(), batch.lessons), prepared.roster)
        write_outputs(book, known_lessons(), request.out)
    except (OSError, EngineRoomError, ExceptionGroup) as error:
        first = _first(error)
        if isinstance(first, OSError):
            raise EngineRoomError(
                f"The results could not be written to {request.out}: {first.strerror}.",
                "make room, then the same command with --resume",
            ) from error
        raise first from error
    return Graded(book, remarks)


@contextlib.asynccontextmanager
async def _graders(
    request: Request, batch: Batch, say: Callable[[str], None]
) -> AsyncIterator[tuple[Grade, int]]:
    """What grades one submission, and how many of them at a time."""
    if request.cluster:
        from engineroom.grading.cluster import Cluster

        async with Cluster(request.cluster, request.sandbox, request.timeout) as cluster:
            say(f"Grading on {cluster.describe()}.")
            yield cluster.grade, max(request.jobs, cluster.WAITING)
    else:
        async with Grader(request.sandbox, batch.exercises, request.timeout) as grader:
            yield grader.grade, request.jobs


def _first(error: Exception) -> Exception:
    """What went wrong, where several tasks report it at once."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _make_sure_of(out: Path) -> None:
    """Before anything is graded: DIR can be made, and written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial = out / ".engineroom-trial"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {out}: {error.strerror}.",
            "name another folder with --out",
        ) from None
