"""``engineroom check``: a learner's own notebook, judged in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab_helpers import ROOT, Lab

from engineroom.exercises.lessons import known_lessons

POOLING = known_lessons()["pooling"]
MASKED = known_lessons()["urls"].exercises["masked"]
WRONG = "def masked(url):\n    return url"


def notebook(folder: Path, *cells: dict[str, Any], name: str = "03_urls.ipynb") -> str:
    path = folder / name
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4}))
    return str(path)


def code(source: str, mark: str = "") -> dict[str, Any]:
    metadata = {"engineroom": {"exercise": mark}} if mark else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": []}


def test_a_solved_notebook_passes(common_lab: Lab) -> None:
    done = common_lab.cli("check", str(ROOT / "solutions" / "04_pooling.ipynb"), check=True)
    *lines, total = done.stdout.splitlines()
    points = sum(exercise.points for exercise in POOLING.exercises.values())
    assert lines == [
        f"✓ {e.id}: passed, {e.points:g} of {e.points:g} points" for e in POOLING.exercises.values()
    ]
    assert total == f"{len(lines)} of {len(lines)} passed, {points:g} of {points:g} points"
    assert done.stderr == ""
    # What is passed here is passed: a notebook would have remembered it too.
    assert f"pooling: {len(lines)} of {len(lines)}" in common_lab.cli("progress").stdout


def test_a_notebook_as_it_was_handed_out_is_not_attempted(common_lab: Lab) -> None:
    done = common_lab.cli("check", str(ROOT / "notebooks" / "04_pooling.ipynb"), check=True)
    lines = done.stdout.splitlines()
    for exercise in POOLING.exercises.values():
        first = f"○ {exercise.id}: not attempted, 0 of {exercise.points:g} points"
        assert lines[lines.index(first) + 1] == (
            f"  Nothing to check yet: write `{exercise.answer}`, run its cell."
        )
    count = len(POOLING.exercises)
    assert lines[-1].startswith(f"0 of {count} passed, 0 of ")
    assert lines[-1].endswith(f"points, {count} not attempted")


def test_one_wrong_answer_is_exit_1_with_its_sentence(common_lab: Lab, tmp_path: Path) -> None:
    done = common_lab.cli("check", notebook(tmp_path, code(WRONG, MASKED.id)))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"✗ {MASKED.id}: not yet, 0"))
    assert len(lines[at + 1].split()) > 3
    assert "explained in docs/codes/urls.md" in lines[at + 2]
    assert f"{len(known_lessons()['urls'].exercises) - 1} not attempted" in lines[-1]


def test_answers_to_other_lessons_are_checked_where_they_carry_an_id(
    common_lab: Lab, tmp_path: Path
) -> None:
    own = [code("x = 1", f"pooling.{name}") for name in POOLING.exercises]
    path = notebook(tmp_path, *own, code(MASKED.right[0], MASKED.id), name="both (1).ipynb")
    done = common_lab.cli("check", path)
    assert f"✓ {MASKED.id}: passed" in done.stdout
    assert "urls.explain" not in done.stdout
    assert "pooling.ceiling: not attempted" in done.stdout


def test_a_linked_notebook_is_the_learners_own_business(common_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "link.ipynb").symlink_to(notebook(tmp_path, code(MASKED.right[0], MASKED.id)))
    assert common_lab.cli("check", str(tmp_path / "link.ipynb")).returncode == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.ipynb", "is not there."),
        ("folder.ipynb", "is no file."),
        ("page.ipynb", "is no notebook: it is not JSON (it begins with '<html>')."),
        ("empty.ipynb", "is empty."),
        ("baking.ipynb", "baking.ipynb belongs to no lesson of this version."),
    ],
)
def test_bad_usage_is_said_and_exits_2(
    name: str, words: str, common_lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "page.ipynb").write_text("<html>")
    (tmp_path / "empty.ipynb").touch()
    notebook(tmp_path, code("def bread(): return 1", "baking.bread"), name="baking.ipynb")
    done = common_lab.cli("check", str(tmp_path / name))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_notebook_at_all_is_bad_usage(common_lab: Lab) -> None:
    assert common_lab.cli("check").returncode == 2
