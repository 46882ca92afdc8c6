"""The corpus of hostile and unlucky submissions, graded in one batch with honest neighbours.

Every case gets the mark that is fair (see `tests/hostile`), the neighbours keep theirs, and nothing
stays behind: no process, no database, no file. Nobody has read or changed what is the instructor's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile
import pytest
from hostile import Case
from lab_helpers import (
    IS_ROOT,
    ROOT,
    Lab,
    eventually,
    forget_home,
    make_home,
    needs_linux,
    run_folder,
    stop_all_of,
)

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE, program_text
from engineroom.grading.sandbox import Bubblewrap

pytestmark = [needs_linux, pytest.mark.slow]

CASES = {case.name: case for case in hostile.all_cases()}
LESSONS = ("pooling", "urls")
EXERCISES = [e for name in LESSONS for e in known_lessons()[name].exercises.values()]
CANARY = "canary-4711-of-the-instructor"
NOBODY = 65534

Lines = dict[str, dict[str, dict[str, Any]]]
"""Of each learner, each exercise: its line without the seconds it took."""


@dataclass(frozen=True)
class Graded:
    """A class with hostile people in it, graded; and its honest ones alone."""

    everybody: Lines
    alone: Lines
    left: list[str]
    canaries: dict[str, str]
    out: Path


def _program(*programs: str) -> list[str]:
    return [PRELUDE, *map(program_text, programs)]


# Impostors take their time, and no hostile answer has to do with them.
DONE = [e for e in EXERCISES if not any(":" in need for need in e.needs)]
HONEST = {
    "ada": _program(*(e.right[0] for e in DONE)),
    "bob": _program(*(e.right[1] for e in DONE)),
    "cy": _program(*(e.slips[0].programs[0] for e in DONE)),
    "dee": [hostile.IMPORT, hostile.CAPPED],
    "eve": _program(*(e.right[2] for e in DONE)),
}


def _hand_in(folder: Path, cases: Iterable[Case], places: dict[str, str]) -> None:
    """A file each; the honest ones come before, between and after the others."""
    rows: list[tuple[str, Iterable[str]]] = [(case.name, case.cells) for case in cases]
    step = max(1, len(rows) // (len(HONEST) - 1))
    for number, honest in enumerate(HONEST.items()):
        rows.insert(min(number * (step + 1), len(rows)), honest)
    folder.mkdir()
    for number, (name, cells) in enumerate(rows):
        sources = [f"# {CANARY}", *cells]
        for word, place in places.items():
            sources = [source.replace(word, place) for source in sources]
        cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        notebook = {"cells": [cell | {"source": source} for source in sources], "metadata": {}}
        notebook |= {"nbformat": 4, "nbformat_minor": 5}
        (folder / f"{number:03}-{name}").mkdir()
        for lesson in LESSONS:
            place = folder / f"{number:03}-{name}/{lesson}.ipynb"
            place.write_text(json.dumps(notebook))


def _grade(lab: Lab, folder: Path, out: Path, **env: str) -> Lines:
    lessons = [word for name in LESSONS for word in ("--lesson", name)]
    how = ["--sandbox", "bubblewrap", "--jobs", "6", "--timeout", "12"]
    done = lab.cli("grade", str(folder), "--out", str(out), *lessons, *how, timeout=900, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    found: Lines = {}
    for raw in (out / "results.jsonl").read_text().splitlines():
        line = json.loads(raw)
        del line["seconds"]
        line["learner"] = line["learner"].partition("-")[2]
        found.setdefault(line["learner"], {})[line["exercise"]] = line
    return found


def _graded(lab: Lab, place: Path, cases: Iterable[Case]) -> Graded:
    out, home = place / "out", place / "instructor"
    for folder in (out, home, place / "tmp"):
        folder.mkdir()
    canaries = [home / ".pgpass", home / "solutions.py", out / "last_year.csv"]
    for path in canaries:
        path.write_text(CANARY)
    places = {"@CLASS@": place / "class", "@OUT@": out, "@HOME@": home, "@LAB@": lab.home}
    places |= {"@REPOSITORY@": ROOT}
    _hand_in(place / "class", cases, {word: str(path) for word, path in places.items()})
    _hand_in(place / "honest", (), {})
    if len(lab.python) > 1:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    else:
        lab.env["HOME"] = str(home)
    lab.cli("db", "up", check=True)
    before = lab.databases(), lab.roles(), _files()
    everybody = _grade(
        lab, place / "class", out, ENGINEROOM_CANARY=CANARY, TMPDIR=str(place / "tmp")
    )
    left = [f"process {pid}" for pid in _who_sees(place / "tmp")]
    # A lease that was just given back is being cleared away.
    with suppress(pytest.fail.Exception):
        eventually(lambda: (lab.databases(), lab.roles()) == before[:2], "all is dropped", 20)
    left += sorted(lab.databases() - before[0]) + sorted(lab.roles() - before[1])
    left += sorted(_files() - before[2]) + [str(path) for path in (place / "tmp").iterdir()]
    alone = _grade(lab, place / "honest", place / "alone")
    return Graded(everybody, alone, left, {p.name: p.read_text() for p in canaries}, out)


def _who_sees(folder: Path) -> list[int]:
    """The processes, in whatever namespaces, that are in a sandbox which was made in ``folder``."""
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            if f"{folder}/engineroom-sandbox-" in mounts.read_text():
                found.append(int(mounts.parent.name))
    return found


def _files() -> set[str]:
    """What a case would leave where anybody may write, by the name that it gives it."""
    shared = map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run", "/"))
    return {str(path) for folder in shared for path in folder.glob("*hostile*")}


@contextmanager
def _a_lab() -> Iterator[Lab]:
    """A lab of its own, of which nothing may be left."""
    home = make_home()
    env = os.environ | {"ENGINEROOM_HOME": str(home), "ENGINEROOM_POSTGRES": "embedded"}
    left: list[str] = []
    try:
        with Lab(home, env | {"ENGINEROOM_LINGER": "0.3"}) as lab:
            yield lab
            lab.cli("db", "down", check=True)
    finally:
        left = stop_all_of(home)
        forget_home(home)
    assert not left


@pytest.fixture(scope="module")
def graded() -> Iterator[Graded]:
    """The whole corpus, graded by whoever runs the tests."""
    with _a_lab() as lab:
        yield _graded(lab, lab.home.parent, CASES.values())


@pytest.fixture(scope="module")
def graded_by_an_ordinary_person() -> Iterator[Graded]:
    """A part of the corpus, graded by who is not root: the sandbox is another one then."""
    if not IS_ROOT:
        pytest.skip("the other tests are run by an ordinary person already")
    with _a_lab() as lab:
        home, lab.home = lab.home, lab.home / ".local/state/engineroom"
        lab.python = [*_stepping_down(), sys.executable]
        lab.env["HOME"] = str(home)
        del lab.env["ENGINEROOM_HOME"]
        os.chown(home, NOBODY, NOBODY)
        yield _graded(lab, home.parent, list(CASES.values())[::4])
    theirs = str(run_folder(home / ".local/state/engineroom")).replace("-0-", f"-{NOBODY}-")
    shutil.rmtree(theirs, ignore_errors=True)


def _stepping_down() -> list[str]:
    """Go on as nobody, with Python shown where only root may go: as the sandbox itself does."""
    sandbox = Bubblewrap()
    words = sandbox.around(["then"])
    sandbox.close()
    words = words[: words.index("--no-new-privs") + 1]
    user = words.index("--reuid") + 1
    return [str(NOBODY) if word == words[user] else word for word in words]


@pytest.mark.parametrize("name", CASES)
def test_the_mark_is_fair(name: str, graded: Graded) -> None:
    _is_fair(CASES[name], graded)


def _is_fair(case: Case, graded: Graded) -> None:
    for exercise, line in graded.everybody[case.name].items():
        fair = case.fair.get(exercise, ("not_attempted",))
        assert line["status"] in fair, f"{line['status']}, not {fair}: {line['message']}"
        assert (line["points"] > 0) == (line["status"] == "passed")
        assert line["attempt"] == 1


@pytest.mark.parametrize("name", HONEST)
def test_the_marks_of_honest_neighbours_do_not_move(name: str, graded: Graded) -> None:
    assert len(graded.alone[name]) == len(EXERCISES)
    assert graded.everybody[name] == graded.alone[name]


def test_honest_marks_are_what_they_should_be(graded: Graded) -> None:
    marks = {
        name: {line["status"] for line in lines.values()} for name, lines in graded.alone.items()
    }
    assert marks["ada"] == marks["bob"] == marks["eve"] == {"passed", "not_attempted"}
    assert marks["cy"] <= {"failed", "error", "not_attempted"}
    passed = [line for line in graded.alone["ada"].values() if line["status"] == "passed"]
    assert len(passed) == len(DONE)


def test_nothing_is_left(graded: Graded) -> None:
    assert not graded.left


def test_nobody_has_seen_or_changed_what_is_the_instructors(graded: Graded) -> None:
    assert set(graded.canaries.values()) == {CANARY}
    results = [path for path in graded.out.rglob("*") if path.is_file()]
    told = [path for path in results if CANARY in path.read_text(errors="replace")]
    assert [path.name for path in told] == ["last_year.csv"]


def test_each_is_a_row_of_the_table(graded: Graded) -> None:
    assert set(graded.everybody) == {*CASES, *HONEST}
    rows = (graded.out / "grades.csv").read_text().splitlines()
    assert len(rows) == 1 + len(CASES) + len(HONEST)


def test_the_same_holds_for_an_ordinary_person(graded_by_an_ordinary_person: Graded) -> None:
    graded = graded_by_an_ordinary_person
    for name in set(graded.everybody) - set(HONEST):
        _is_fair(CASES[name], graded)
    assert {name: graded.everybody[name] for name in HONEST} == graded.alone
    assert not graded.left
    assert set(graded.canaries.values()) == {CANARY}
