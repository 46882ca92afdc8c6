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
    (folder / "fay").mkdir()
    for name in ("04_pooling.ipynb", "04_pooling (1).ipynb"):
        (folder / "fay" / name).write_text(notebook(IMPORT, right))
    (folder / "guy").mkdir()
    (folder / "guy" / "03_urls.ipynb").write_text(notebook("import os"))
    (folder / "guy" / "04_pooling.ipynb").write_text("{ not json")
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
        "fay": ("passed", None, 3),
        "guy": ("unreadable", None, 0),
    }
    assert "fay: pooling was handed in 2 times (`04_pooling.ipynb`, " in done.stderr
    assert done.stderr.count("dee: ") == 1  # a reason is no remark as well
    assert "not JSON" in next(line["message"] for line in lines if line["learner"] == "dee")
    assert "not JSON" in next(line["message"] for line in lines if line["learner"] == "guy")
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
