"""Tables of marks: ``grades.csv``, and what Canvas and Moodle import.

A learner chooses what their submission is called, and a spreadsheet runs a cell that begins
like a formula; so every cell of text passes by :func:`harmless`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable

from engineroom.errors import EngineRoomError
from engineroom.grading.gradebook import Counted, Gradebook, Row
from engineroom.grading.roster import Person

try:
    from defusedcsv import csv
except ImportError as error:
    raise EngineRoomError(
        "Tables of marks need defusedcsv, which is not installed.",
        "pip install 'engine-room[grade]'",
    ) from error

COURSE = "Engine Room"

# What defusedcsv leaves: blanks that a spreadsheet skips, and wide signs that some read as narrow.
_WIDE = "\uff1d\uff0b\uff0d\uff20"
_HIDDEN_START = re.compile(rf"^(?=[\t\r\n\f\v\0]|\s*[=+\-@{_WIDE}])(?![=+\-@])")
# Opened where a semicolon or a tab parts cells, the rest of the text is a cell of its own.
_INNER_START = re.compile(r"(?<=.[;\t])(\s*)(?=[=+\-@])", re.DOTALL)


class _NoMark(float):
    """How Moodle writes that there is no mark; a number, for as text it would be a formula."""

    def __str__(self) -> str:
        return "-"


NO_MARK = _NoMark("nan")
Cell = str | _NoMark


def harmless(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet would see a formula."""
    return _HIDDEN_START.sub("'", _INNER_START.sub(r"\1'", text))


def number(value: float) -> str:
    """A number that looks the same each time: no exponent, no zeros that say nothing."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def grades_csv(book: Gradebook) -> str:
    """One row a learner who handed in, a column an exercise."""
    header = ["learner", "status", "points", "max_points", "percent"]
    rows = [
        [
            row.learner,
            row.status,
            number(row.points),
            number(row.max_points),
            f"{row.percent:.1f}",
            *(number(row.lines[e.id].points) if e.id in row.lines else "" for e in book.exercises),
        ]
        for row in book.rows
    ]
    return _table([[*header, *(e.id for e in book.exercises)], *rows])


def canvas_csv(book: Gradebook) -> str:
    """For Grades > Import in Canvas: a column a lesson, so that a course has few assignments.

    Canvas finds a student by ID, then by either SIS id, then by name. Who has no marks has an
    empty cell: whether that is a zero is the instructor's to say.
    """
    lessons = book.by_lesson
    table: list[list[Cell]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *_titles(book)],
        ["    Points Possible", *[""] * 4, *(number(_points(those)) for those in lessons.values())],
    ]
    for row, person in _people([*book.rows, *book.missing]):
        name, login = _no_row_of_canvas(row.name), person.login or person.learner
        who = [name, person.canvas_id, person.number, login, person.section]
        table.append([*who, *_by_lesson(book, row, "")])
    return _table(table)


def moodle_csv(book: Gradebook) -> str:
    """For Grades > Import > CSV in Moodle: who it is, a column a lesson, and the percentage.

    One person whom Moodle does not know stops its whole import. So with a roster nobody else is
    in it, and of the columns that identify people it has those that are filled for all.
    """
    everybody = [*book.rows, *book.missing]
    rows = _people([row for row in everybody if row.person or not book.has_roster])
    ways = [("Username", "login"), ("ID number", "number"), ("Email address", "email")]
    ways = [way for way in ways if all(getattr(person, way[1]) for _, person in rows)]
    ways = ways or [("Username", "learner")]
    table: list[list[Cell]] = [
        [*(title for title, _ in ways), "Full name", *_titles(book), f"{COURSE} (percent)"]
    ]
    for row, person in rows:
        who = [getattr(person, field) for _, field in ways]
        percent = f"{row.percent:.1f}" if row.status == "graded" else NO_MARK
        table.append([*who, _one_line(row.name), *_by_lesson(book, row, NO_MARK), percent])
    return _table(table)


def _people(rows: list[Row]) -> list[tuple[Row, Person]]:
    """Rows in the order of names; who is on no roster is known by their submission alone."""
    rows = sorted(rows, key=lambda row: (row.name.casefold(), row.name, row.learner))
    return [(row, row.person or Person(row.learner, login=row.learner)) for row in rows]


def _titles(book: Gradebook) -> list[str]:
    return [f"{COURSE}: {lesson}" for lesson in book.by_lesson]


def _points(exercises: Iterable[Counted]) -> float:
    return math.fsum(exercise.points for exercise in exercises)


def _by_lesson(book: Gradebook, row: Row, nothing: Cell) -> list[Cell]:
    if row.status != "graded":
        return [nothing] * len(book.by_lesson)
    return [number(row.points_in(those)) for those in book.by_lesson.values()]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _no_row_of_canvas(name: str) -> str:
    """In Canvas a name with these words sets what an assignment is worth."""
    return re.sub(r"(?i)points possible", "points-possible", _one_line(name))


def _table(rows: Iterable[Iterable[Cell]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return text.getvalue()
