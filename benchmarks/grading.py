"""How long an instructor waits for a class: beside a bare fork, beside nbgrader, beside itself."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil

import checks
from benchmarks.measure import Row, seconds
from benchmarks.servers import home
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE
from engineroom.exercises.nursery import warm_up
from engineroom.grading.batch import Batch, Grade, Tell, grade_batch
from engineroom.grading.cluster import Cluster
from engineroom.grading.grader import Grader
from engineroom.grading.reading import read_submissions

CORES = os.cpu_count() or 1
JOBS = 4 * CORES
FOUR = "sqlite_four"
_BARE_ROUNDS, _NBGRADER = 25, 4
_LEARNERS, _MANY, _ON_DASK = 200, 1000, 40

checks.__path__.append(str(Path(__file__).with_name("lessons")))


def rows() -> Iterator[Row]:
    """The rows of the budget that name grading."""
    with home(), tempfile.TemporaryDirectory(prefix="er-bench-", dir="/tmp") as name:
        folder = Path(name)
        yield from _four(folder)
        for lesson, budget in (("urls", 1 / 8), ("pooling", 1 / 2)):
            yield asyncio.run(_class_of(folder, lesson, budget))
        yield from asyncio.run(_thousand(folder))
        yield asyncio.run(_dask(folder))


# -- four exercises on SQLite --------------------------------------------------------------


def _four(folder: Path) -> Iterator[Row]:
    """A submission of four: ours, a fork that only runs the answers, and nbgrader's."""
    count = _BARE_ROUNDS * JOBS
    where = _make_class(folder, FOUR, count)
    ours = asyncio.run(_graded(where, FOUR)) / count
    warm_up()
    with multiprocessing.get_context("fork").Pool(JOBS, maxtasksperchild=1) as pool:
        list(pool.imap_unordered(_bare, range(JOBS)))  # they are there
        submissions = _BARE_ROUNDS * JOBS
        bare = seconds(lambda: list(pool.imap_unordered(_bare, range(submissions), 1)))
    what = "grading 4 exercises on SQLite, a submission"
    yield Row(what, ours, "s", None, f"a bare fork, {JOBS} jobs", bare / submissions, 1.3)
    theirs = _nbgrader(folder)
    if theirs is not None:
        yield Row(what, ours, "s", None, "nbgrader 0.9, same answers", theirs, 1 / 40)


def _bare(_: int) -> None:
    """The work itself: the four answers, defined and called."""
    names: dict[str, Any] = {}
    four = known_lessons()[FOUR].exercises
    for exercise in four.values():
        exec(exercise.right[0], names)  # noqa: S102  (our own answers)
        asyncio.run(names[exercise.answer]([1, 2, 3, 4, 5]))


def _nbgrader(folder: Path) -> float | None:
    """The same answers in notebooks of its own, graded as its users do; seconds a submission."""
    program = Path(sys.executable).with_name("nbgrader")
    if not program.exists():
        return None
    course = folder / "nbgrader"
    source = course / "source" / "four"
    source.mkdir(parents=True)
    four = list(known_lessons()[FOUR].exercises.values())
    cells = [_cell(PRELUDE)]
    expected = {"total": 15, "largest": 5, "smallest": 1, "how_many": 5}
    for exercise in four:
        test = f"assert await {exercise.answer}([1, 2, 3, 4, 5]) == {expected[exercise.answer]}"
        cells += [_cell(exercise.right[0]), _cell(test, exercise.name)]
    (source / "four.ipynb").write_text(_notebook(cells))
    # Its kernels find settings here, and nobody's own; it starts `alembic` by that name.
    env = os.environ | {"JUPYTER_CONFIG_DIR": str(course), "HOME": str(course)}
    env["PATH"] = f"{program.parent}{os.pathsep}{env['PATH']}"

    def run(*words: str) -> None:
        subprocess.run(
            [str(program), *words, "--course-dir", str(course)],
            check=True,
            capture_output=True,
            env=env,
            cwd=course,
        )

    run("generate_assignment", "four", "--create")
    for number in range(_NBGRADER):
        handed_in = course / "submitted" / f"learner{number}" / "four"
        handed_in.mkdir(parents=True)
        released = json.loads((course / "release" / "four" / "four.ipynb").read_text())
        (handed_in / "four.ipynb").write_text(json.dumps(released))
    return seconds(lambda: run("autograde", "four")) / _NBGRADER


# -- classes -------------------------------------------------------------------------------


async def _class_of(folder: Path, lesson: str, budget: float) -> Row:
    """Two hundred learners, and how much of the cores' time was the work that had to be done."""
    where = _make_class(folder, lesson, _LEARNERS)
    async with _grader(where, lesson) as (grade, batch):
        worked = _Worked()
        taken = await _all(batch, grade, folder)
        work = worked.until_now()
    return Row(
        f"grading {_LEARNERS} learners, {lesson}, each",
        taken / _LEARNERS,
        "s",
        budget * 2 / CORES,
        "CPU of subjects and Postgres, over the cores",
        work / CORES / _LEARNERS,
        ratio_budget=1 / 0.7,
    )


class _Worked:
    """The CPU seconds of the warm parent, its subjects, and Postgres since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def until_now(self) -> float:
        return self._now() - self._before

    @staticmethod
    def _now() -> float:
        total = 0.0
        ours = os.environ["ENGINEROOM_HOME"]
        for process in psutil.process_iter(["pid", "cmdline", "name", "cpu_times"]):
            words = process.info["cmdline"] or []
            nursery = "engineroom.exercises.nursery" in words and _descends(process)
            if nursery or (process.info["name"] == "postgres" and ours in " ".join(words)):
                times = process.info["cpu_times"]
                total += sum(times[:4])  # its own, and its ended children's
        return total


def _descends(process: psutil.Process) -> bool:
    try:
        return os.getpid() in {parent.pid for parent in process.parents()}
    except psutil.Error:
        return False


async def _thousand(folder: Path) -> list[Row]:
    where = _make_class(folder, FOUR, _MANY, answered=1)
    moments, memory = [time.perf_counter()], []

    def tell(_: object) -> None:
        moments.append(time.perf_counter())
        if len(moments) % 20 == 0:
            memory.append(_pss())

    async with _grader(where, FOUR) as (grade, batch):
        await _all(batch, grade, folder, tell)
    first, last = moments[100] - moments[0], moments[-1] - moments[-101]
    early = max(memory[:10])
    what, beside = "memory of grader and warm parents, peak", "the peak of the first two hundred"
    return [
        Row("the last hundred of 1,000", last, "s", None, "the first hundred", first, 1.1),
        Row(what, max(memory), "MB", 600, beside, early, 1.1),
    ]


def _pss() -> float:
    """Megabytes, of this process and those that it has started."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            words = process.cmdline()
            if process.pid == os.getpid() or "engineroom.exercises.nursery" in words:
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in text.splitlines() if "Pss:" in line)
        except (psutil.Error, OSError, StopIteration):
            continue  # it has just ended, or is not ours to look into
    return total / 1024


# -- two workers ---------------------------------------------------------------------------


async def _dask(folder: Path) -> Row:
    # Workers know the course's own lessons only; this one needs no server.
    where = _make_class(folder, "install", _ON_DASK)
    async with _grader(where, "install") as (grade, batch):
        await _all(batch, grade, folder, jobs=2)
        here = await _all(batch, grade, folder, jobs=2)
    with _workers(folder) as address:
        async with Cluster(address, "auto", None) as cluster:
            await cluster._client.wait_for_workers(2)
            await _all(batch, cluster.grade, folder)  # the workers have graders now
            there = await _all(batch, cluster.grade, folder, jobs=cluster.WAITING)
    return Row(
        "two Dask workers, a submission",
        *(there / _ON_DASK, "s", None, "--jobs 2", here / _ON_DASK, 1.1),
    )


@contextmanager
def _workers(folder: Path) -> Iterator[str]:
    about = folder / "scheduler.json"
    command = [sys.executable, "-m"]
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(about)]
    processes: list[subprocess.Popen[bytes]] = []
    null = subprocess.DEVNULL

    def start(what: str, *words: str) -> None:
        program = [*command, f"distributed.cli.dask_{what}", *common, *words]
        processes.append(subprocess.Popen(program, stdout=null, stderr=null, cwd="/"))

    try:
        start("scheduler", "--port", "0")
        while not about.exists() or not about.read_text().endswith("}"):
            time.sleep(0.1)
        for _ in range(2):
            start("worker", "--no-nanny", "--nthreads", "1", "--local-directory", str(folder))
        yield json.loads(about.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


# -- the parts of it -----------------------------------------------------------------------


def _cell(source: str, test: str = "") -> dict[str, Any]:
    marks: dict[str, Any] = {"grade": True, "solution": False, "locked": True, "task": False}
    marks |= {"points": 1, "grade_id": test, "schema_version": 3, "cell_type": "code"}
    cell: dict[str, Any] = {"cell_type": "code", "source": source, "id": os.urandom(5).hex()}
    metadata = {"nbgrader": marks} if test else {}
    return cell | {"metadata": metadata, "outputs": [], "execution_count": None}


def _notebook(cells: list[dict[str, Any]]) -> str:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5})


def _make_class(folder: Path, lesson: str, size: int, answered: int = 99) -> Path:
    """Learners with right answers, and with the mistakes that learners make, three to one."""
    where = folder / f"{lesson}-{size}"
    if where.exists():
        return where
    where.mkdir()
    draw = random.Random(1)  # noqa: S311
    exercises = list(known_lessons()[lesson].exercises.values())[:answered]
    for number in range(size):
        cells = [_cell(PRELUDE)]
        for exercise in exercises:
            slips = [program for slip in exercise.slips for program in slip.programs]
            cells.append(_cell(draw.choice([*exercise.right * 3, *slips])))
            cells[-1]["metadata"]["engineroom"] = {"exercise": exercise.id}
        (where / f"learner{number:04}.ipynb").write_text(_notebook(cells))
    return where


@asynccontextmanager
async def _grader(where: Path, lesson: str) -> AsyncIterator[tuple[Grade, Batch]]:
    batch = Batch(tuple(read_submissions([where])), (lesson,))
    async with Grader("auto", batch.exercises) as grader:
        # Imports and servers are paid once, however large the class is.
        await _all(Batch(batch.submissions[:2], batch.lessons), grader.grade, where.parent)
        yield grader.grade, batch


async def _graded(where: Path, lesson: str) -> float:
    async with _grader(where, lesson) as (grade, batch):
        return await _all(batch, grade, where.parent)


async def _all(
    batch: Batch, grade: Grade, folder: Path, tell: Tell = lambda lines: None, jobs: int = JOBS
) -> float:
    """Seconds for the whole batch."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    await grade_batch(
        batch, batch.submissions, out, grade, _sound(tell), jobs, resume=False, keep=False
    )
    return time.perf_counter() - began


def _sound(tell: Tell) -> Tell:
    """A figure for submissions that were not graded would be none."""

    def told(lines: list[Any]) -> None:
        trouble = [line.message for line in lines if line.status in ("ungraded", "unreadable")]
        if trouble:
            raise RuntimeError(trouble[0])
        tell(lines)

    return told
