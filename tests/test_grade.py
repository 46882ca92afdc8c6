"""A folder of submissions becomes results.jsonl and grades.csv."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from lab_helpers import Lab

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.sources import Cell, needed
from engineroom.grading.reading import UnreadableError, find_submissions, parse

CEILING = known_lessons()["pooling"].exercises["ceiling"]
IMPORT = "from sqlalchemy.ext.asyncio import create_async_engine"
FIELDS = {
    *("learner", "lesson", "exercise", "status", "points", "max_points"),
    *("message", "code", "slip", "seconds", "attempt"),
}


def notebook(*sources: str, marked: bool = True) -> str:
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": "Hello"}]
    for source in sources:
        metadata = {"engineroom": {"exercise": CEILING.id}} if marked and "capped" in source else {}
        cells.append(
            {
                "cell_type": "code",
                "metadata": metadata,
                "source": source.splitlines(keepends=True),
                "outputs": [],
                "execution_count": None,
            }
        )
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "class"
    folder.mkdir()
    right, slip = CEILING.right[0], CEILING.slips[0].programs[0]
    (folder / "ada.ipynb").write_text(notebook(IMPORT, right))
    (folder / "bob").mkdir()
    (folder / "bob" / "04_pooling (1).ipynb").write_text(notebook(IMPORT, slip, marked=False))
    with zipfile.ZipFile(folder / 'cy, "the quick".zip', "w") as archive:
        archive.writestr("deep/04_pooling.ipynb", notebook(IMPORT, "1/0", right))
        archive.writestr("__MACOSX/deep/._04_pooling.ipynb", "rubbish")
    (folder / "dee.ipynb").write_text("{ not json")
    (folder / "eve.ipynb").write_text(notebook(IMPORT, "def capped(*a):\n    while True: pass"))
    return folder


def test_a_class_is_graded(class_folder: Path, common_lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = common_lab.cli(
        "grade", str(class_folder), "--out", str(out), "--lesson", "pooling", "--sandbox", "none"
    )
    assert done.returncode == 1, done.stderr  # one of them could not be read
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert all(set(line) == FIELDS for line in lines)
    found = {
        line["learner"]: (line["status"], line["slip"], line["points"])
        for line in lines
        if line["exercise"] in (CEILING.id, "")
    }
    assert found == {
        "ada": ("passed", None, 3),
        "bob": ("failed", "overflow", 0),
        'cy, "the quick"': ("passed", None, 3),
        "dee": ("unreadable", None, 0),
        "eve": ("timed_out", None, 0),
    }
    assert "not JSON" in next(line["message"] for line in lines if line["learner"] == "dee")
    with open(out / "grades.csv", newline="") as file:
        table = {row["learner"]: row for row in csv.DictReader(file)}
    assert list(table["ada"]) == [
        *("learner", "status", "points", "max_points", "percent"),
        *(exercise.id for exercise in known_lessons()["pooling"].exercises.values()),
    ]
    most = sum(exercise.points for exercise in known_lessons()["pooling"].exercises.values())
    assert table["ada"]["percent"] == f"{300 / most:.1f}"
    assert (table["bob"]["points"], table["bob"]["max_points"]) == ("0", f"{most:g}")
    assert table["dee"]["status"] == "unreadable"
    assert table['cy, "the quick"']["pooling.ceiling"] == "3"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--out", "out", "--sandbox", "none"], "is no folder"),
        ([".", "--out", "out", "--sandbox", "none", "--lesson", "baking"], "no lesson 'baking'"),
        ([".", "--out", "out", "--sandbox", "none"], "no submission"),
    ],
)
def test_bad_usage_is_said_and_exits_2(
    arguments: list[str], words: str, common_lab: Lab, tmp_path: Path
) -> None:
    folder, *rest = arguments
    rest[rest.index("--out") + 1] = str(tmp_path / "out")
    (tmp_path / "class").mkdir()
    done = common_lab.cli("grade", str(tmp_path / "class" / folder), *rest)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK rubbish")
    (tmp_path / "list.ipynb").write_text("[]")
    (tmp_path / "blank.ipynb").write_text("")
    (tmp_path / ".hidden.ipynb").write_text("x")
    reasons = {}
    for submission in find_submissions([tmp_path]):
        with pytest.raises(UnreadableError) as caught:
            submission.read()
        reasons[submission.learner] = str(caught.value)
    assert reasons == {
        "empty": "there is no notebook in it",
        "broken": "it is no zip file",
        "list": "list.ipynb is no notebook: it has no cells",
        "blank": "blank.ipynb is empty",
    }
    with pytest.raises(UnreadableError):
        parse("deep.ipynb", b"[" * 100_000)


def sources_for(cells: list[str], answer: str = "f", marked: int | None = None) -> list[int]:
    made = [Cell(n, s, "x.f" if n == marked else None) for n, s in enumerate(cells)]
    return [cell.number for cell in needed(made, answer, "x.f")]


def test_a_check_runs_the_answer_and_what_it_uses_and_no_demonstration() -> None:
    cells = [
        "import os",
        "LIMIT = 5",
        "def helper(): return LIMIT + other()",
        "def other(): return 1",
        "print(helper())\nawait connect()",
        "def f(): return helper()",
        "f.check()",
    ]
    assert sources_for(cells) == [1, 2, 3, 5]


def test_the_last_definition_counts_and_a_marked_cell_goes_before() -> None:
    assert sources_for(["def f(): return 1", "def f(): return 2"]) == [1]
    assert sources_for(["def f(): return 1", "f = 7"], marked=0) == [0]
    assert sources_for(["x = 1"]) == []


def test_a_definition_that_builds_on_an_earlier_one_keeps_it() -> None:
    assert sources_for(["def f(): return 1", "f = wrap(f)", "def wrap(g): return g"]) == [0, 1, 2]


def test_bindings_of_every_kind_are_seen() -> None:
    cells = [
        "from a.b import c as d, e\nimport g.h",
        "with open('x') as k, p(): l = 1",
        "for m, (n, *o) in []: pass\nif (q := 1): r: int = 2",
        "try:\n    import s\nexcept ImportError:\n    s = None",
        "match 1:\n    case [t, *u]: v = 1",
        "def f(): return d, e, g, k, l, m, n, o, q, r, s, v",
    ]
    assert sources_for(cells) == [0, 1, 2, 3, 4, 5]


def test_magics_and_shell_escapes_do_nothing() -> None:
    cells = [
        "%load_ext sql\n!rm -rf /\nx = !ls\ny = 5 % 3\nz = %who",
        "%%bash\nrm -rf /",
        "def f(): return x, y, z",
    ]
    assert sources_for(cells) == [0, 2]
    code = Cell(0, cells[0]).code
    assert "rm" not in code
    assert "y = 5 % 3" in code
    assert Cell(1, cells[1]).code == ""
    assert Cell(0, "if True:\n    !ls\n").tree is not None


def test_a_functions_own_variables_need_no_cell() -> None:
    cells = ["made = connect()", "def f(url):\n    made = url\n    return [made for url in made]"]
    assert sources_for(cells) == [1]
