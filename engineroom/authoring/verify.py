"""``engineroom verify``: one command that proves the course, or says what is wrong with it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import multiprocessing
import os
import re
import statistics
import textwrap
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engineroom.authoring.build import targets
from engineroom.authoring.chapter import look_at_chapter
from engineroom.authoring.pages import page_is_current
from engineroom.authoring.replay import replay_verdict
from engineroom.authoring.source import LessonSource, find_sources
from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE, Exercise, Lesson, Verdict
from engineroom.exercises.sources import Cell
from engineroom.lab.model import Say

_CODE = re.compile(r"""["']([A-Z]{2,8}-\d\d)["']""")
_PARALLEL = 3
# Shorter lines of an answer (`else:`, `return url`) stand in other places by right.
_TELLING = 24


@dataclass
class Report:
    """What was proved, and what was not."""

    lessons: int = 0
    exercises: int = 0
    hints: int = 0
    slips: int = 0
    facts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def as_plain(self) -> dict[str, Any]:
        plain = asdict(self)
        del plain["lines"]
        return plain

    def summary(self) -> str:
        counted = (
            f"{self.lessons} lessons, {self.exercises} exercises, {self.hints} hints, "
            f"{self.slips} slips, {self.facts} facts in {self.seconds:.1f} s; "
            f"{len(self.problems)} problems."
        )
        if not self.lines:
            return counted
        return (
            f"{counted}\nLines a check: median {statistics.median(self.lines):g}, "
            f"largest {max(self.lines)}."
        )


async def verify_course(root: Path, wanted: list[str] | None, say: Say, *, load: bool) -> Report:
    """Prove what stands in ``solutions/`` and ``checks/``."""
    began = time.monotonic()
    report = Report()
    sources = {source.lesson: source for source in find_sources(root, wanted)}
    lessons = {n: m for n, m in known_lessons().items() if not wanted or n in sources}
    for name, lesson in lessons.items():
        say(f"reading {name}")
        _count(report, lesson)
        report.lessons += name in sources
        report.problems += look_at_lesson(root, lesson, sources.get(name))
    for target in targets(root, wanted):
        if not target.is_current():
            report.problems.append(
                f"{target.path.relative_to(root)} is stale. Next: engineroom build"
            )
    report.facts, problems = look_at_facts(root, sources)
    report.problems += problems
    report.problems += look_at_chapter(root, sources, lessons, whole=not wanted)
    with _busy() if load else contextlib.nullcontext():
        report.problems += await try_all(lessons, sources, say)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _count(report: Report, lesson: Lesson) -> None:
    for exercise in lesson.exercises.values():
        report.exercises += 1
        report.hints += len(exercise.hints)
        report.slips += len(exercise.slips)
        report.lines.append(_lines_of(exercise))


def _lines_of(exercise: Exercise) -> int:
    """The lines of a check's body: what its author had to think of."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(exercise.check_it)))
    body = next(n for n in tree.body if isinstance(n, ast.AsyncFunctionDef)).body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


# -- what can be told from the texts -------------------------------------------------------


def look_at_lesson(root: Path, lesson: Lesson, source: LessonSource | None) -> Iterator[str]:
    """Hints, codes, objectives, and whether answers stay where they belong."""
    file = f"checks/{lesson.name}.py"
    for exercise in lesson.exercises.values():
        if not 1 <= len(exercise.hints) <= 4 or not all(h.strip() for h in exercise.hints):
            yield f"{file}: {exercise.id} has {len(exercise.hints)} hints. Next: write 1 to 4"
        if exercise.points <= 0:
            yield f"{file}: {exercise.id} has no points. Next: give it some"
        codes = [slip.code for slip in exercise.slips]
        for code in sorted({c for c in codes if codes.count(c) > 1}):
            yield f"{file}: two slips of {exercise.id} share {code}. Next: give each its own"
        for slip in exercise.slips:
            if len(slip.programs) < 2:
                yield f"{file}: slip {exercise.id}/{slip.name} is spelt once. Next: spell it anew"
    text = inspect.getsource(inspect.getmodule(_first_check(lesson)) or lesson.__class__)
    for code in sorted(set(_CODE.findall(text))):
        if not lesson.codes.get(code, "").strip():
            yield f"{file}: {code} is explained nowhere. Next: add it to the lesson's codes"
    if lesson.codes and not page_is_current(root, lesson):
        yield f"docs/codes/{lesson.name}.md is stale. Next: engineroom build {lesson.name}"
    known = {objective.id for objective in lesson.objectives}
    measured = {name for e in lesson.exercises.values() for name in e.measures}
    for name in sorted(known - measured):
        yield f"{file}: no exercise measures the objective {name!r}. Next: name it in measures="
    for name in sorted(measured - known):
        yield f"{file}: there is no objective {name!r}. Next: correct measures="
    if source is not None:
        yield from _look_at_source(root, lesson, source)


def _first_check(lesson: Lesson) -> Any:
    return next(iter(lesson.exercises.values())).check_it


def _look_at_source(root: Path, lesson: Lesson, source: LessonSource) -> Iterator[str]:
    file = source.path.relative_to(root)
    answers = dict(source.answers())
    ids = {exercise.id for exercise in lesson.exercises.values()}
    for missing in sorted(ids - set(answers)):
        yield f"{file}: no cell answers {missing}. Next: add one with exercise={missing!r}"
    for unknown in sorted(set(answers) - ids):
        yield f"{file}: there is no exercise {unknown}. Next: write it in checks/{lesson.name}.py"
    checked = [cell.source.strip() for cell in source.notebook(solved=False).cells]
    for identifier in sorted(ids & set(answers)):
        if f"{identifier}.check()" not in checked:
            yield f"{file}: no cell is exactly `{identifier}.check()`. Next: add it"
    yield from _leaks(root, source, answers)


def _leaks(root: Path, source: LessonSource, answers: dict[str, str]) -> Iterator[str]:
    """Lines of an answer that stand in what a learner opens, outputs too."""
    notebook = root / "notebooks" / f"{source.stem}.ipynb"
    if not notebook.exists():
        return
    import nbformat

    shown = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    text = "\n".join(
        part
        for cell in shown.cells
        for part in (cell.source, *(str(o) for o in cell.get("outputs", ())))
    )
    if "<answer>" in text:
        yield f"notebooks/{source.stem}.ipynb shows the marks of an answer. Next: engineroom build"
    for identifier, answer in answers.items():
        lines = [line.strip() for line in answer.splitlines()]
        telling = [line for line in lines if len(line) >= _TELLING and not line.startswith("#")]
        if telling and all(line in text for line in telling):
            yield (
                f"notebooks/{source.stem}.ipynb holds the answer to {identifier}. "
                "Next: take it out of the text and the demonstrations"
            )


def look_at_facts(root: Path, sources: dict[str, LessonSource]) -> tuple[int, list[str]]:
    """Each fact's figure must stand in the output of its cell, and not in the cell's source."""
    count, problems = 0, []
    for name, source in sources.items():
        listed = root / "docs" / "facts" / f"{name}.toml"
        if not listed.exists():
            continue
        file = listed.relative_to(root)
        facts = tomllib.loads(listed.read_text("utf-8")).get("fact", [])
        cells = _cells_with_facts(root, source)
        for fact in facts:
            count += 1
            problem = _judge_fact(fact, cells.get(str(fact["id"]), []))
            if problem:
                problems.append(f"{file}: fact {fact['id']} {problem}")
        problems += [
            f"{source.path.relative_to(root)}: a cell names fact {identifier}, which {file} "
            "does not list. Next: add it there"
            for identifier in sorted(set(cells) - {str(fact["id"]) for fact in facts})
        ]
    return count, problems


def _cells_with_facts(root: Path, source: LessonSource) -> dict[str, list[Any]]:
    import nbformat

    found: dict[str, list[Any]] = {}
    built = root / "notebooks" / f"{source.stem}.ipynb"
    if built.exists():
        for cell in nbformat.read(built, as_version=4).cells:  # type: ignore[no-untyped-call]
            for identifier in cell.metadata.get("engineroom", {}).get("facts", ()):
                found.setdefault(identifier, []).append(cell)
    return found


def _judge_fact(fact: dict[str, Any], cells: list[Any]) -> str:
    if not cells:
        return "is shown by no cell. Next: mark one with facts="
    shows = str(fact["shows"])
    outputs = [str(o.get("text", "")) + str(o.get("data", "")) for c in cells for o in c.outputs]
    if not any(shows in output for output in outputs):
        return f"should show {shows!r}, and does not. Next: run the cell and look"
    if any(shows in cell.source for cell in cells):
        return f"shows {shows!r}, which its cell says already. Next: let the output prove it"
    return ""


# -- what has to be tried ------------------------------------------------------------------


async def try_all(
    lessons: dict[str, Lesson], sources: dict[str, LessonSource], say: Say
) -> list[str]:
    """Stub, solution, right answers, slips and a replay of every exercise."""
    waiting = [e for lesson in lessons.values() for e in lesson.exercises.values()]
    problems: list[str] = []

    async def work() -> None:
        bench = Bench()
        try:
            while waiting:
                exercise = waiting.pop(0)
                say(f"trying {exercise.id}")
                found = _try(bench, exercise, sources.get(exercise.lesson))
                problems.extend([problem async for problem in found])
        finally:
            await bench.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_PARALLEL, len(waiting))):
            group.create_task(work())
    return sorted(problems)


async def _try(bench: Bench, exercise: Exercise, source: LessonSource | None) -> AsyncIterator[str]:
    file = f"checks/{exercise.lesson}.py"
    if source is not None:
        for solved, wanted in ((False, "not_attempted"), (True, "passed")):
            cells = _cells(source, solved=solved)
            verdict = await judge(bench, exercise, cells, seed=0)
            if verdict.status != wanted:
                kind = "the solution of" if solved else "the stub of"
                yield (
                    f"{source.path.name}: {kind} {exercise.id} is {_told(verdict)}, not {wanted}. "
                    f"Next: mend it, then: engineroom verify {exercise.lesson}"
                )
            elif verdict.notes:
                yield (
                    f"{source.path.name}: of the solution of {exercise.id} it is said: "
                    f"{verdict.notes[0]} Next: let the solution, or the probe, clean up"
                )
    for number, program in enumerate(exercise.right, start=1):
        verdict = await judge(bench, exercise, _program(program), seed=program)
        if verdict.status != "passed":
            yield (
                f"{file}: right answer {number} of {exercise.id} is {_told(verdict)}. "
                "Next: mend the check"
            )
    for slip in exercise.slips:
        for number, program in enumerate(slip.programs, start=1):
            verdict = await judge(bench, exercise, _program(program), seed=program)
            if (verdict.status, verdict.slip) != ("failed", slip.name):
                yield (
                    f"{file}: slip {exercise.id}/{slip.name}, spelling {number}, is "
                    f"{_told(verdict)}, not {slip.code}. Next: mend the check or the slip"
                )
    if exercise.right:
        replayed = await replay_verdict(bench, exercise, _program(exercise.right[0]))
        if replayed.status == "passed":
            yield (
                f"{file}: {exercise.id} passes a recording with nothing behind it. "
                "Next: ask the server for something drawn"
            )


def _cells(source: LessonSource, *, solved: bool) -> list[Cell]:
    return [
        Cell(number, cell.source, cell.metadata.get("engineroom", {}).get("exercise"))
        for number, cell in enumerate(source.notebook(solved=solved).cells, start=1)
        if cell.cell_type == "code"
    ]


def _program(text: str) -> list[Cell]:
    return [Cell(1, PRELUDE), Cell(2, text)]


def _told(verdict: Verdict) -> str:
    return " ".join(filter(None, [verdict.status, verdict.code, verdict.message, verdict.where]))


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Twice as many endless loops as there are cores."""
    context = multiprocessing.get_context("spawn")
    loops = [context.Process(target=_spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def _spin() -> None:
    while True:
        pass
