"""What `engineroom grade` makes of its results: tables, pages, exports."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import resource
import shlex
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from browser_helpers import chromium
from hypothesis import given
from hypothesis import strategies as st
from lab_helpers import ROOT, Lab
from pydantic import BaseModel, ConfigDict, Field

from engineroom.errors import EngineRoomError
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Verdict
from engineroom.grading.gradebook import Counted, Gradebook, Line, counted
from engineroom.grading.gradescope import gradescope_json
from engineroom.grading.junit import junit_xml
from engineroom.grading.naming import file_names
from engineroom.grading.outputs import write_outputs
from engineroom.grading.overview import Overview
from engineroom.grading.pages import feedback_html, report_html
from engineroom.grading.results import mend_results, read_results
from engineroom.grading.roster import Person, Roster, read_roster
from engineroom.grading.sheets import canvas_csv, grades_csv, harmless, moodle_csv, number

LESSONS = known_lessons()
POOLING = LESSONS["pooling"]
CEILING = POOLING.exercises["ceiling"]
CLASS = counted(LESSONS, ["pooling", "urls"])
TWO = (Counted("pooling.ceiling", 3), Counted("urls.masked", 2))

AWKWARD = [
    "cy, 'the' \"quick\"",
    '=HYPERLINK("http://x","y")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "two\nlines",
    "👩‍🚀 Zoë 李雷",
    "سارة أحمد",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a/b\\c:d",
    "con",
    "Ada",
    "ada",
    "x" * 300,
    "caf\udce9",
    ".",
]


def line(learner: str, exercise: str = "pooling.ceiling", points: float = 0, **more: Any) -> Line:
    said: dict[str, Any] = {"status": "passed" if points else "failed", "points": points}
    return Line(
        learner=learner, lesson=exercise.partition(".")[0], exercise=exercise, **(said | more)
    )


def handed_in(learner: str, exercises: tuple[Counted, ...] = TWO, **more: Any) -> list[Line]:
    """Somebody who passed everything, save what is said."""
    return [line(learner, e.id, **({"points": e.points} | more)) for e in exercises]


def slipped(learner: str, at: int = 0) -> Line:
    slip = CEILING.slips[at]
    return line(learner, CEILING.id, message=slip.sentence, code=slip.code, slip=slip.name)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def a_class() -> Gradebook:
    """Some of everything that a class can be."""
    lines = [
        *handed_in("ada", CLASS),
        *[slipped("bob"), *handed_in("bob", CLASS)[1:]],
        *handed_in("eve", CLASS, points=0, status="not_attempted", message="Nothing to check."),
        *[line("hal", e.id, points=0 if at % 4 else e.points) for at, e in enumerate(CLASS)],
        Line.trouble("dee", "unreadable", "it is no zip file"),
        Line.trouble("fay", "ungraded", "/home/instructor has no room"),
    ]
    for learner in AWKWARD[:-2]:
        lines += handed_in(
            learner,
            CLASS,
            points=0,
            status="error",
            message=f"Your code raised E: {learner}\x00\x1b",
        )
    people = [
        Person("ada", "Ada Lovelace", login="ada", email="ada@x.edu", canvas_id="7", section="A"),
        Person("bob", "Bob, the <b>builder</b>", login="bob", email="bob@x.edu", canvas_id="8"),
        Person("gil", "Gil Absent", login="gil", email="gil@x.edu", canvas_id="9"),
    ]
    return Gradebook.of(lines, CLASS, Roster(tuple(people)))


# -- results.jsonl -------------------------------------------------------------------------


def test_a_line_has_exactly_the_fields_that_scripts_rely_on() -> None:
    verdict = Verdict(
        exercise="pooling.ceiling", status="failed", points=0, max_points=3, code="POOL-01",
        message="So.", slip="overflow", seconds=0.25, where="line 1", notes=("left",),
    )  # fmt: skip
    assert json.loads(Line.of("ada", verdict, attempt=2).text()) == {
        "learner": "ada",
        "lesson": "pooling",
        "exercise": "pooling.ceiling",
        "status": "failed",
        "points": 0,
        "max_points": 3,
        "message": "So.",
        "code": "POOL-01",
        "slip": "overflow",
        "seconds": 0.25,
        "attempt": 2,
    }
    trouble = json.loads(Line.trouble("dee", "unreadable", "it is empty").text())
    assert (trouble["exercise"], trouble["status"]) == ("", "unreadable")


@pytest.mark.parametrize("wrong", [{"points": float("nan")}, {"points": -1}, {"attempt": 0}])
def test_no_line_has_an_amount_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"greater|finite"):
        line("ada", **wrong)


def test_wherever_a_kill_cuts_the_file_all_whole_lines_are_read_and_writing_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.jsonl"
    first, second = line("zoë 👩‍🚀", points=3), line("bob", message="wörds\n\u2028")
    whole = first.text().encode()
    content = whole + second.text().encode()
    for cut in range(len(whole), len(content) + 1):
        path.write_bytes(content[:cut])
        complete = cut >= len(content) - 1  # only the end of its line is not there
        assert read_results(path) == ([first, second] if complete else [first])
        mend_results(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(second.text())
        assert read_results(path) == ([first, second, second] if complete else [first, second])
    assert mend_results(tmp_path / "none") == 0


def test_a_line_that_somebody_spoilt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line("ada").text() + "\n" + '{"learner": "bob"}\n' + line("cy").text())
    with pytest.raises(EngineRoomError, match=r"Line 3 of .* is no result"):
        read_results(path)


# -- the gradebook -------------------------------------------------------------------------


def test_of_an_exercise_the_last_attempt_counts() -> None:
    lines = [
        line("ada", points=3, attempt=1),
        line("ada", points=0, attempt=2),
        line("ada", "urls.masked", points=2),
    ]
    (row,) = Gradebook.of(lines, TWO).rows
    assert (row.status, row.points, row.max_points, row.percent) == ("graded", 2, 5, 40)


def test_trouble_counts_until_it_is_mended() -> None:
    trouble = Line.trouble("ada", "ungraded", "Postgres went away", attempt=1)
    half = [line("ada", points=3, attempt=1)]
    (row,) = Gradebook.of([*half, trouble], TWO).rows
    assert (row.status, row.reason) == ("ungraded", "Postgres went away")
    book = Gradebook.of([trouble, *half, *handed_in("ada", attempt=2)], TWO)
    assert (book.rows[0].status, book.rows[0].points, book.all_graded) == ("graded", 5, True)
    # What was right in an earlier submission is not the mark of one that cannot be read.
    later = Line.trouble("ada", "unreadable", "it is empty", attempt=3)
    (row,) = Gradebook.of([*handed_in("ada", attempt=2), later], TWO).rows
    assert (row.status, row.points) == ("unreadable", 0)


def test_whoever_was_graded_by_half_is_not_graded() -> None:
    book = Gradebook.of([line("ada", points=3)], TWO)
    assert (book.rows[0].status, book.all_graded) == ("ungraded", False)
    assert "1 of 2" in book.rows[0].reason


def test_exercises_that_do_not_count_do_not_count() -> None:
    book = Gradebook.of([*handed_in("ada"), line("ada", "tables.race", points=9)], TWO)
    assert (book.rows[0].points, book.max_points) == (5, 5)


@given(st.randoms(use_true_random=False))
def test_the_same_verdicts_give_the_same_bytes_in_any_order(shuffler: random.Random) -> None:
    lines = [found for name in (*AWKWARD, "Ada") for found in handed_in(name)]
    lines += [line("bob", points=p, attempt=a) for a in (1, 2) for p in (0, 3, 0.1)]
    lines += [line("bob", "urls.masked", points=0.2), Line.trouble("dee", "unreadable", "why")]
    expected = grades_csv(Gradebook.of(lines, TWO))
    shuffler.shuffle(lines)
    assert grades_csv(Gradebook.of(lines, TWO)) == expected


# -- grades.csv ----------------------------------------------------------------------------


def test_grades_csv_is_what_scripts_rely_on() -> None:
    lines = [
        *handed_in("bob", points=0.1),
        *handed_in("ada"),
        Line.trouble("dee", "unreadable", "it is empty"),
        Line.trouble("fay", "ungraded", "the sandbox did not start"),
    ]
    roster = Roster((Person("gil", "Gil Absent"),))
    assert grades_csv(Gradebook.of(lines, TWO, roster)) == (
        "learner,status,points,max_points,percent,pooling.ceiling,urls.masked\r\n"
        "ada,graded,5,5,100.0,3,2\r\n"
        "bob,graded,0.2,5,4.0,0.1,0.1\r\n"
        "dee,unreadable,0,5,0.0,,\r\n"
        "fay,ungraded,0,5,0.0,,\r\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3"), (0.1 + 0.2, "0.3"), (1234567.0, "1234567"), (2 / 3, "0.6667"), (-0.0, "0")],
)
def test_a_number_is_written_one_way(value: float, text: str) -> None:
    assert number(value) == text


def test_every_name_is_a_row_and_none_is_a_formula() -> None:
    lines = [found for name in AWKWARD for found in handed_in(name)]
    rows = table(grades_csv(Gradebook.of(lines, TWO)))
    assert len(rows) == len(AWKWARD)
    assert all(row["pooling.ceiling"] == "3" for row in rows)
    names = {row["learner"] for row in rows}
    assert {
        "two\nlines",
        "cy, 'the' \"quick\"",
        "👩‍🚀 Zoë 李雷",
        "سارة أحمد",
        "caf\\udce9",
    } <= names
    for name in names:
        assert not re.match(r"[\s=+\-@|%]", name), name
    assert {"'\t=1+1", "'\r=1+1", '\'=HYPERLINK("http://x","y")'} <= names


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain name", "plain name"),
        (" =1", "' =1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("x;=1+1", "x;'=1+1"),
        ("x\t@SUM(A1)", "x\t'@SUM(A1)"),
        ("a-b=c", "a-b=c"),
    ],
)
def test_what_hides_a_formula_is_seen(text: str, safe: str) -> None:
    assert harmless(text) == safe


# -- what Canvas and Moodle take -----------------------------------------------------------


def canvas_takes(text: str) -> dict[str, list[str]]:
    """A gradebook as Canvas' importer reads one: rows by student, with its own conditions."""
    header, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(header) > 3
    assert "Student" in header[0]
    assert "ID" in header[1]
    columns = 3
    if re.search(r"SIS\s+Login\s+ID", header[2]):
        columns = 4
    elif re.search(r"SIS\s+User\s+ID", header[2]):
        assert re.search(r"SIS\s+Login\s+ID", header[3])
        columns = 5
    assert "Section" in header[columns - 1]
    students = {}
    for row in rows:
        assert len(row) == len(header)
        if "Points Possible" in row[0]:
            students["points possible"] = row[columns:]
        else:
            students[row[0]] = row[1:columns] + row[columns:]
    return {"titles": header[columns:], **students}


def test_canvas_takes_its_file(a_class: Gradebook) -> None:
    taken = canvas_takes(canvas_csv(a_class))
    most = [sum(e.points for e in those) for those in a_class.by_lesson.values()]
    assert taken["titles"] == ["Engine Room: pooling", "Engine Room: urls"]
    assert taken["points possible"] == [number(points) for points in most]
    assert taken["Ada Lovelace"] == ["7", "", "ada", "A", *(number(points) for points in most)]
    assert taken["Gil Absent"][-2:] == ["", ""]  # missing: no mark, which is no zero
    assert taken["dee"][-2:] == ["", ""]
    assert taken["eve"][-2:] == ["0", "0"]


def test_nobody_sets_the_points_of_an_assignment_by_their_name() -> None:
    book = Gradebook.of([*handed_in("x Points  Possible"), *handed_in("ada")], TWO)
    taken = canvas_takes(canvas_csv(book))
    assert taken["points possible"] == ["3", "2"]
    assert "x points-possible" in taken


def moodle_takes(text: str, known: set[str]) -> dict[str, dict[str, str]]:
    """As Moodle's importer does: one unknown person, or one mark that is none, and all stops."""
    rows = table(text)
    user = next(iter(rows[0]))
    for row in rows:
        assert row[user] in known
        for title, value in row.items():
            if title.startswith("Engine Room"):
                assert value == "-" or 0 <= float(value) <= 100
    return {row[user]: row for row in rows}


def test_moodle_takes_its_file(a_class: Gradebook) -> None:
    taken = moodle_takes(moodle_csv(a_class), {"ada", "bob", "gil"})
    assert list(taken) == ["ada", "bob", "gil"]
    assert taken["ada"]["Email address"] == "ada@x.edu"
    assert taken["ada"]["Engine Room (percent)"] == "100.0"
    assert taken["gil"]["Engine Room: pooling"] == "-"
    assert "ID number" not in taken["ada"]


def test_without_a_roster_moodle_finds_people_by_their_submission() -> None:
    book = Gradebook.of([*handed_in("ada"), Line.trouble("dee", "unreadable", "why")], TWO)
    taken = moodle_takes(moodle_csv(book), {"ada", "dee"})
    assert taken["dee"]["Engine Room: urls"] == "-"
    assert taken["ada"]["Username"] == "ada"


# -- the roster ----------------------------------------------------------------------------

CANVAS_EXPORT = """\
Student,ID,SIS User ID,SIS Login ID,Section,Homework (12)
,,,,,Manual Posting
    Points Possible,,,,,10
"Lovelace, Ada",4711,s-1,ada1,A,
"Hopper, Grace",4712,s-2,grace1,B,
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("learner,name\nada,Ada Lovelace\n", Person("ada", "Ada Lovelace")),
        (
            "\ufeffLogin;E-Mail;Full Name\r\nada;ada@x.edu;Ada Lovelace\r\n",
            Person("ada", "Ada Lovelace", login="ada", email="ada@x.edu"),
        ),
        ("name\temail\nAda L\tada@x.edu\n", Person("ada@x.edu", "Ada L", email="ada@x.edu")),
        (
            "First name,Surname,ID number,Email address\nAda,Lovelace,77,a@x.edu\n",
            Person("77", "Ada Lovelace", number="77", email="a@x.edu"),
        ),
        (
            CANVAS_EXPORT,
            Person("ada1", "Lovelace, Ada", "ada1", "s-1", canvas_id="4711", section="A"),
        ),
        ("id,canvas id\n12,99\n,\n", Person("12", number="12", canvas_id="99")),
        ('learner,name\nada,"Ada\n  Lovelace"\n', Person("ada", "Ada Lovelace")),
    ],
)
def test_a_roster_is_read_as_people_write_them(
    content: str, expected: Person, tmp_path: Path
) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(content, "utf-8", newline="")
    first = read_roster(path).people[0]
    assert Person(**(vars(first) | {"line": 0})) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("learner,name\nada,A\n\nbob,B\nADA,C\n", "Line 5 .*'ADA' again.* on line 2"),
        ("login,email\nada,x@x.edu\nbob,X@x.edu\n", "Line 3 .* on line 2"),
        ("colour,shoe\nred,7\n", "no column .*it has colour, shoe"),
        ("", "no column"),
        ("learner\nZo\udceb\n", "not in UTF-8"),
        ("learner\n" + "x" * 200_000 + "\n", "Line 2 .* is no CSV"),
    ],
)
def test_what_is_wrong_with_a_roster_is_named(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "roster.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(EngineRoomError, match=words) as caught:
        read_roster(path)
    assert caught.value.fix


def test_a_roster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineRoomError, match="cannot be opened: No such file"):
        read_roster(tmp_path / "none.csv")


def test_who_is_who(tmp_path: Path) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(CANVAS_EXPORT)
    roster = read_roster(path)
    for name in ("ada1", "ADA1", "s-1", "4711", "Lovelace, Ada", "Ada Lovelace", "lovelaceada"):
        assert {n: p.login for n, p in roster.match([name, "stranger"]).items()} == {name: "ada1"}
    # Two hand in as one person: the surer name is theirs, the other nobody's.
    assert list(roster.match(["Ada Lovelace", "ada1"])) == ["ada1"]
    assert list(roster.match(["ada1", "ADA1"])) == ["ada1"]
    assert roster.match(["Ada1", "ADA1"]) == {}
    # Two people of one name: nobody gets the other's marks.
    twins = Roster((Person("a", "Kim Lee"), Person("b", "Kim Lee")))
    assert twins.match(["Kim Lee"]) == {}


def test_the_missing_are_found_and_are_in_no_grades_csv(a_class: Gradebook) -> None:
    assert [row.person and row.person.name for row in a_class.missing] == ["Gil Absent"]
    assert a_class.missing[0].status == "missing"
    assert "gil" not in grades_csv(a_class)
    assert "Gil Absent" in report_html(a_class, LESSONS, file_names(AWKWARD + NAMES))
    assert not a_class.all_graded


# -- names of files ------------------------------------------------------------------------

NAMES = ["ada", "bob", "dee", "eve", "fay", "hal"]


def test_a_learner_s_file_has_their_name_where_that_can_be() -> None:
    for name in ("ada", "Ada", "s001", "lovelace_ada-1", "Ada Lovelace", "a@x.edu", "Zoë", "李雷"):
        assert file_names([name]) == {name: name}


def test_a_name_that_is_no_file_s_gets_one_of_its_own() -> None:
    files = file_names([*AWKWARD, *NAMES])
    assert files["../../etc/passwd"].startswith("etc-passwd~")
    assert files["con"].startswith("con~")
    assert files["."].startswith("learner~")
    assert files["bob"] == "bob"
    # Some systems spell a name anew, and then it is not found again.
    assert "~" in file_names(["\u212bsa"])["\u212bsa"]
    # On some systems these two are one file.
    assert {files["ada"][:4], files["Ada"][:4]} == {"ada~", "Ada~"}


@given(st.lists(st.text(max_size=120), max_size=8))
def test_files_are_apart_on_every_system_and_safe(names: list[str]) -> None:
    files = file_names(names)
    assert set(files) == set(names)
    assert len({file.casefold() for file in files.values()}) == len(files)
    for name, file in files.items():
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f]', file)
        assert not file.startswith((".", "-"))
        assert 0 < len(file.encode()) <= 120
        if "~" in file:  # it is the same, whoever else there is
            assert file_names([name, name.swapcase(), "x"])[name] in (file, name)


# -- gradescope ----------------------------------------------------------------------------

When = Literal["hidden", "after_due_date", "after_published", "visible"]
Format = Literal["text", "html", "simple_format", "md", "ansi"]


class Published(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GradescopeTest(Published):
    """A test case, as Gradescope's autograder specification lists its fields."""

    score: float | None = None
    max_score: float | None = None
    status: Literal["passed", "failed"] | None = None
    name: str | None = None
    name_format: Format = "text"
    number: str | None = None
    output: str | None = None
    output_format: Format = "text"
    tags: list[str] = []
    visibility: When = "visible"
    extra_data: dict[str, Any] = {}


class Leader(Published):
    name: str
    value: float | str
    order: Literal["asc", "desc"] = "desc"


class GradescopeResults(Published):
    """results.json, by the same specification."""

    score: float
    execution_time: float | None = None
    output: str = ""
    output_format: Format = "simple_format"
    test_output_format: Format = "text"
    test_name_format: Format = "text"
    visibility: When = "visible"
    stdout_visibility: When = "hidden"
    extra_data: dict[str, Any] = {}
    tests: list[GradescopeTest] = Field(default=[])
    leaderboard: list[Leader] = []


def test_gradescope_accepts_every_learner(a_class: Gradebook) -> None:
    found = {}
    for row in a_class.rows:
        text = gradescope_json(a_class, row, LESSONS)
        found[row.learner] = GradescopeResults.model_validate_json(text)
        assert found[row.learner].score == sum(test.score or 0 for test in found[row.learner].tests)
    bob = found["bob"]
    assert (bob.tests[0].score, bob.tests[0].max_score) == (0, 3)
    assert (bob.tests[0].name, bob.tests[0].number) == ("pooling.ceiling", "1.1")
    assert [test.number for test in bob.tests][5:8] == ["1.6", "2.1", "2.2"]
    assert (bob.tests[0].status, bob.tests[1].status) == ("failed", "passed")
    assert CEILING.slips[0].sentence.replace("`", "") in (bob.tests[0].output or "")
    assert "POOL-01: The engine opened more" in (bob.tests[0].output or "")
    assert found["dee"].output == "it is no zip file"
    # Where the grader ran, and why it failed there, is no learner's business.
    assert "/home/instructor" not in found["fay"].output
    # Nothing of a learner's may be read as markup.
    formats = {
        f for r in found.values() for f in (r.output_format, *(t.output_format for t in r.tests))
    }
    assert formats == {"text"}


# -- junit.xml -----------------------------------------------------------------------------


def test_junit_counts_what_it_lists(a_class: Gradebook) -> None:
    root = ET.fromstring(junit_xml(a_class))  # noqa: S314  # ours
    assert root.tag == "testsuites"
    suites = {suite.get("name"): suite for suite in root}
    assert len(suites) == len(a_class.rows) + len(a_class.missing)
    for suite in suites.values():
        assert {case.tag for case in suite} == {"testcase"}
        assert all(case.get("name") and case.get("classname") for case in suite)
        for attribute, tag in (
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert int(suite.get(attribute, "-1")) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.get("tests", "-1")) == len(suite)
    for attribute in ("tests", "failures", "errors"):
        total = sum(int(suite.get(attribute, "-1")) for suite in suites.values())
        assert int(root.get(attribute, "-1")) == total
    failure = suites["bob"].find("testcase/failure")
    assert failure is not None
    assert (failure.get("type"), failure.text) == ("POOL-01", CEILING.slips[0].sentence)
    assert suites["eve"].get("skipped") == str(len(CLASS))
    assert suites["<script>alert(1)</script>"].get("errors") == str(len(CLASS))
    error = suites["dee"].find("testcase/error")
    assert error is not None
    assert error.get("message") == "it is no zip file"


@given(st.text())
def test_no_character_breaks_the_xml(text: str) -> None:
    lines = [line(text, message=text), line(text, "urls.masked", status="error", message=text)]
    ET.fromstring(junit_xml(Gradebook.of(lines, TWO)))  # noqa: S314  # ours


# -- pages ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page shows, and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.shown: list[str] = []
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._silent = tag in ("style", "script", "title")
        for name, value in attrs:
            if name in ("href", "src", "action", "data", "poster"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.shown).split())


def test_the_report_says_what_the_class_found_hard(a_class: Gradebook, tmp_path: Path) -> None:
    write_outputs(a_class, LESSONS, tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    sentence = CEILING.slips[0].sentence
    mistakes = page.text[page.text.index("Known mistakes") : page.text.index("LearnerStatusPoints")]
    assert sentence in mistakes
    for words in ("it is no zip file", "Gil Absent", "Ada Lovelace", "Not on the roster"):
        assert words.lower() in page.text.lower()
    assert "Bob, the <b>builder</b>" in page.text
    assert "<script>alert(1)</script>" in page.text
    # One file: nothing from elsewhere, and each link leads somewhere.
    assert page.tags.count("script") == 1
    assert not page.handlers
    assert not {"img", "iframe", "link", "object", "form", "input"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (tmp_path / unquote(link)).is_file(), link
    assert sum(link.startswith("feedback/") for link in page.links) == len(a_class.rows)
    assert "http" not in re.sub(r"\"?http://x\"?", "", page.text)


def test_the_figures_are_right() -> None:
    lines = [
        *handed_in("ada"),
        *[slipped("bob"), line("bob", "urls.masked", points=2)],
        *[slipped("cy"), line("cy", "urls.masked", code="URL-38", seconds=4)],
        *handed_in("eve", points=0, status="not_attempted"),
        Line.trouble("dee", "unreadable", "why"),
    ]
    view = Overview.of(Gradebook.of(lines, TWO), LESSONS)
    assert (view.graded, len(view.trouble)) == (4, 1)
    assert (view.mean, view.median) == (35, 20)
    assert [found.count for found in view.bins] == [2, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    ceiling, masked = view.difficulties
    assert (ceiling.passed, ceiling.failed, ceiling.not_attempted, ceiling.success) == (1, 2, 1, 25)
    assert (masked.passed, masked.success) == (2, 50)
    assert (masked.seconds, masked.slowest, view.seconds) == (0, 4, 4)
    (slip,) = view.slips
    assert (slip.slip, slip.count, slip.tried) == (CEILING.slips[0].name, 2, 3)
    assert slip.text == CEILING.slips[0].sentence
    (code,) = view.codes
    assert (code.code, code.count) == ("URL-38", 1)
    assert code.text == LESSONS["urls"].codes["URL-38"]


def test_a_class_of_none_still_has_its_files(tmp_path: Path) -> None:
    lines = [Line.trouble("dee", "unreadable", "it is empty")]
    write_outputs(Gradebook.of(lines, ()), LESSONS, tmp_path)
    assert "dee,unreadable,0,0,0.0\r\n" in (tmp_path / "grades.csv").read_bytes().decode()
    assert "It is empty." in (tmp_path / "report.html").read_text("utf-8")


def test_results_of_another_version_are_shown_as_they_are(tmp_path: Path) -> None:
    """An exercise or a lesson that was taken out since."""
    exercises = (Counted("pooling.gone", 1), Counted("baking.bread", 2))
    lines = [line("ada", e.id, code="OLD-1", slip="old", message="So.") for e in exercises]
    write_outputs(Gradebook.of(lines, exercises), LESSONS, tmp_path)
    assert "baking.bread" in Page((tmp_path / "report.html").read_text("utf-8")).text


def test_feedback_says_what_to_do_and_nothing_that_is_not_theirs(a_class: Gradebook) -> None:
    rows = {row.learner: row for row in a_class.rows}
    page = Page(feedback_html(a_class, rows["bob"], LESSONS))
    assert CEILING.slips[0].sentence.replace("`", "") in page.text
    assert POOLING.codes["POOL-01"].replace("`", "") in page.text
    assert "pooling.ceiling.hint() has 3 hints" in page.text
    assert "ada" not in re.findall(r"\w+", page.text.lower())
    assert "lovelace" not in page.text.lower()
    assert not {"script", "a", "img"} & set(page.tags)
    unreadable = Page(feedback_html(a_class, rows["dee"], LESSONS)).text
    assert "It is no zip file." in unreadable
    assert "engineroom submit" in unreadable
    assert "/home/instructor" not in feedback_html(a_class, rows["fay"], LESSONS)


def test_feedback_gives_no_answer_hint_or_check_away() -> None:
    exercises = counted(LESSONS, LESSONS)
    lines = [
        line("ada", e.id, message=slip.sentence, code=slip.code, slip=slip.name)
        for e in exercises
        for slip in LESSONS[e.lesson].exercises[e.name].slips[:1]
    ]
    book = Gradebook.of(lines, exercises)
    pages = [
        Page(feedback_html(book, book.rows[0], LESSONS)).text,
        " ".join(gradescope_json(book, book.rows[0], LESSONS).split()),
    ]
    secrets = []
    for lesson in LESSONS.values():
        for exercise in lesson.exercises.values():
            programs = [*exercise.right, *(p for slip in exercise.slips for p in slip.programs)]
            for program in programs:
                secrets += [s for part in program.splitlines() if len(s := part.strip()) > 25]
            secrets += [" ".join(hint.replace("`", "").split()) for hint in exercise.hints]
    assert len(secrets) > 100
    for secret in secrets:
        assert not any(secret in page for page in pages), secret


# -- in the browser ------------------------------------------------------------------------


@pytest.fixture
def open_page(a_class: Gradebook, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page in a real browser; fails if anything in it complains."""
    write_outputs(a_class, LESSONS, tmp_path)
    complaints: list[str] = []
    with chromium() as (kind, program):
        browser = kind.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])

        def open_page(name: str, media: str = "screen", width: int = 1100, **how: Any) -> Any:
            page = browser.new_page(viewport={"width": width, "height": 900}, **how)
            page.on("console", lambda said: complaints.append(said.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: complaints.append(dialog.message))
            page.emulate_media(media=media)
            page.goto((tmp_path / name).as_uri())
            return page

        yield open_page
        browser.close()
    assert not complaints


BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"
# For each piece of text: its contrast against what is painted behind it.
CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => parse(c).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if ((parse(c)[3] ?? 1) > 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const seen = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || e.closest("script, style, .hidden")) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen[`${e.tagName}.${e.className} ${getComputedStyle(e).color}`] = ratio;
  }
  return seen;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable(open_page: Callable[..., Any], scheme: str, media: str) -> None:
    for name in ("report.html", "feedback/bob.html", "feedback/dee.html", "feedback/eve.html"):
        page = open_page(name, media=media, color_scheme=scheme)
        found = page.evaluate(CONTRAST)
        assert len(found) > 3
        assert {what: ratio for what, ratio in found.items() if ratio < 4.5} == {}
        # Dark is dark, and paper is white.
        dark = sum(map(int, re.findall(r"\d+", page.evaluate(BACKGROUND))[:3])) < 150
        assert dark is (scheme == "dark" and media == "screen")


@pytest.mark.browser
def test_tables_are_sorted_by_click_and_by_keyboard(open_page: Callable[..., Any]) -> None:
    page = open_page("report.html")

    def names() -> list[str]:
        found: list[str] = page.locator("#learners tbody th").all_inner_texts()
        return [name.split()[0] if name.split() else "" for name in found]

    heading = page.locator("#learners thead th", has_text="Points")
    before = names()
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert names()[:3] == ["Ada", "Bob,", "hal"]  # whose 9 is less than 28
    assert set(names()[-2:]) == {"dee", "fay"}  # who has no marks stands below a zero
    page.locator("#learners thead th", has_text="Learner").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") is None
    ascending = names()
    page.keyboard.press("Space")
    assert names() == ascending[::-1]
    assert sorted(before) == sorted(ascending)


@pytest.mark.browser
def test_the_report_stands_without_its_script_and_on_a_telephone(
    open_page: Callable[..., Any],
) -> None:
    page = open_page("report.html", java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    assert page.locator("#learners tbody tr").count() > 10
    for name in ("report.html", "feedback/bob.html"):
        page = open_page(name, width=360)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


# -- writing -------------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file: what it says, and which one it is."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_outputs_are_there_and_a_second_time_nothing_is_touched(
    a_class: Gradebook, tmp_path: Path
) -> None:
    written = write_outputs(a_class, LESSONS, tmp_path)
    before = everything(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in written} == set(before)
    assert {"grades.csv", "canvas.csv", "moodle.csv", "junit.xml", "report.html"} <= set(before)
    assert {"feedback/bob.html", "gradescope/bob.json"} <= set(before)
    assert len(before) == 5 + 2 * len(a_class.rows)
    assert write_outputs(a_class, LESSONS, tmp_path) == []
    assert everything(tmp_path) == before
    mode = (tmp_path / "grades.csv").stat().st_mode
    (tmp_path / "ours").touch()
    assert stat.S_IMODE(mode) == stat.S_IMODE((tmp_path / "ours").stat().st_mode)


def test_to_grade_one_again_changes_one(tmp_path: Path) -> None:
    lines = [*handed_in("ada"), *handed_in("bob"), *handed_in("cy")]
    write_outputs(Gradebook.of(lines, TWO), LESSONS, tmp_path)
    before = everything(tmp_path)
    again = [line("bob", attempt=2, message="Not so."), line("bob", "urls.masked", 2, attempt=2)]
    changed = write_outputs(Gradebook.of([*lines, *again], TWO), LESSONS, tmp_path)
    overviews = {"grades.csv", "canvas.csv", "moodle.csv", "junit.xml", "report.html"}
    mine = {"feedback/bob.html", "gradescope/bob.json"}
    assert {str(path.relative_to(tmp_path)) for path in changed} == overviews | mine
    after = everything(tmp_path)
    assert {name for name in after if after[name] != before[name]} == overviews | mine


def test_a_full_disk_leaves_whole_files_and_says_so(a_class: Gradebook, tmp_path: Path) -> None:
    few = Gradebook.of(handed_in("ada"), TWO)
    write_outputs(few, LESSONS, tmp_path)
    before = everything(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file may be longer
    try:
        with pytest.raises(EngineRoomError, match=r"could not be written: File too large") as said:
            write_outputs(a_class, LESSONS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--resume" in said.value.fix
    assert everything(tmp_path) == before


def test_a_place_that_cannot_be_written_is_named(a_class: Gradebook, tmp_path: Path) -> None:
    (tmp_path / "feedback").write_text("somebody's own")
    with pytest.raises(EngineRoomError, match="could not be written"):
        write_outputs(a_class, LESSONS, tmp_path)


# -- the bundle for Gradescope -------------------------------------------------------------

BUNDLE = ROOT / "docs" / "gradescope"


def test_the_bundle_is_made_as_its_page_says(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs git's own copy of the project: clone it")
    (command,) = re.findall(r"^git archive .*$", (BUNDLE / "README.md").read_text(), re.MULTILINE)
    target = tmp_path / "autograder.zip"
    words = [w.replace("autograder.zip", str(target)) for w in shlex.split(command)]
    subprocess.run(words, cwd=ROOT, check=True)
    with zipfile.ZipFile(target) as bundle:
        names = set(bundle.namelist())
        for name in ("setup.sh", "run_autograder"):
            assert bundle.getinfo(name).external_attr >> 16 & 0o111, name
    assert {f"engine-room/{name}" for name in ("Makefile", "requirements.lock")} <= names
    assert "engine-room/checks/pooling.py" in names
    assert not [name for name in names if "solutions" in name]


@pytest.fixture
def gradescope(tmp_path: Path, common_lab: Lab) -> Callable[..., Any]:
    """Runs the autograder in a folder like Gradescope's; how it ended, and what it left."""
    bin_folder = tmp_path / "source/engine-room/.venv/bin"
    bin_folder.mkdir(parents=True)
    programs = {
        "python": f'exec {shlex.quote(sys.executable)} "$@"\n',
        "engineroom": f'exec {shlex.quote(sys.executable)} -m engineroom.cli "$@"\n',
    }
    for name, text in programs.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}")
        (bin_folder / name).chmod(0o755)
    (tmp_path / "submission").mkdir()
    (tmp_path / "results").mkdir()
    results = tmp_path / "results" / "results.json"

    def run(content: str, users: str = "", **more: str) -> Any:
        results.write_text("of somebody else")
        (tmp_path / "submission/04_pooling.ipynb").write_text(content)
        (tmp_path / "submission_metadata.json").write_text(users)
        env = {"AUTOGRADER_ROOT": str(tmp_path), "ENGINEROOM_LESSONS": "pooling security"} | more
        done = subprocess.run(
            [BUNDLE / "run_autograder"],
            cwd=tmp_path,
            env=common_lab.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        left = [path.name for path in results.parent.iterdir()]
        assert left in ([], ["results.json"])
        return done, json.loads(results.read_text()) if left else None

    return run


def notebook(*cells: str) -> str:
    made = [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_the_autograder_leaves_what_gradescope_reads(gradescope: Callable[..., Any]) -> None:
    imports = "from sqlalchemy.ext.asyncio import create_async_engine"
    answered = notebook(imports, CEILING.right[0])
    done, results = gradescope(answered, '{"users": [{"id": 4711, "name": "../../x"}]}')
    assert done.returncode == 0, done.stdout
    found = GradescopeResults.model_validate(results)
    assert found.score == CEILING.points
    assert [test.name for test in found.tests if test.status == "passed"] == [CEILING.id]
    assert "security.verified" in [test.name for test in found.tests]  # asked for, not there
    assert "grading 4711 with --sandbox bubblewrap" in done.stdout


def test_the_autograder_says_what_is_wrong_with_a_submission(
    gradescope: Callable[..., Any],
) -> None:
    done, results = gradescope("{ not json", '{"users": [{"id": "../x"}]}')
    assert done.returncode == 0, done.stdout
    assert GradescopeResults.model_validate(results).score == 0
    assert "not JSON" in results["output"]


_NO_ROOM = """
import sys
from pathlib import Path
from engineroom.grading.gradebook import Gradebook, Line
from engineroom.grading.outputs import write_outputs
out = Path(sys.argv[1])
line = Line.trouble("7", "ungraded", "there is no room")
(out / "results.jsonl").parent.mkdir(exist_ok=True)
(out / "results.jsonl").write_text(line.text())
write_outputs(Gradebook.of([line], ()), {}, out)
sys.exit(1)
"""


def test_whoever_could_not_be_graded_is_graded_again(
    gradescope: Callable[..., Any], tmp_path: Path
) -> None:
    program = tmp_path / "source/engine-room/.venv/bin/engineroom"
    program.write_text(f'#!/bin/sh\n{shlex.quote(sys.executable)} -c {shlex.quote(_NO_ROOM)} "$4"')
    done, results = gradescope(notebook())
    assert (done.returncode, results) == (1, None), done.stdout
    assert "there is no room" in done.stdout  # which instructors see


def test_a_failure_of_the_autograder_is_nobody_s_zero(gradescope: Callable[..., Any]) -> None:
    imports = "from sqlalchemy.ext.asyncio import create_async_engine"
    done, results = gradescope(
        notebook(imports, CEILING.right[0]),
        ENGINEROOM_POSTGRES="external",
        ENGINEROOM_DATABASE_URL="postgresql://u:p@127.0.0.1:9/d",
    )
    assert (done.returncode, results) == (1, None), done.stdout
