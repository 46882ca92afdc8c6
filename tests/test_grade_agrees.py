"""``grade`` in its sandbox says what a check in a notebook says, to every answer that we know.

That a notebook's check passes each right answer and recognises each slip, ``engineroom verify``
proves; here all of them are submissions.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from judging import EXERCISES
from lab_helpers import Lab

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE, program_text


@dataclass
class Sheet:
    """One submission: answers that do not disturb one another."""

    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each exercise the program, and what should be said of it: "passed", or a code."""
    names: dict[str, str] = field(default_factory=dict)

    def takes(self, exercise: str, program: str, expected: str) -> bool:
        bound = _bound(program)
        if exercise in self.answers or any(self.names.get(n, b) != b for n, b in bound.items()):
            return False
        self.answers[exercise] = program, expected
        self.names |= bound
        return True

    def text(self) -> str:
        cells = [(PRELUDE, {})] + [
            (program, {"engineroom": {"exercise": exercise}})
            for exercise, (program, _) in self.answers.items()
        ]
        return json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "metadata": mark,
                        "source": source,
                        "outputs": [],
                        "execution_count": None,
                    }
                    for source, mark in cells
                ],
                "metadata": {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )


def _bound(program: str) -> dict[str, str]:
    """What each name at the top of a program stands for there."""
    found: dict[str, str] = {}
    for statement in ast.parse(program).body:
        for name in _names(statement):
            found[name] = found.get(name, "") + ast.dump(statement)
    return found


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield (alias.asname or alias.name).partition(".")[0]
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def all_answers() -> Iterator[tuple[str, str, str]]:
    for exercise in EXERCISES.values():
        for program in exercise.right:
            yield exercise.id, program_text(program), "passed"
        for slip in exercise.slips:
            yield exercise.id, program_text(slip.programs[0]), slip.code


def test_every_answer_is_judged_as_in_a_notebook(common_lab: Lab, tmp_path: Path) -> None:
    sheets: list[Sheet] = []
    total = 0
    for answer in all_answers():
        total += 1
        if not any(sheet.takes(*answer) for sheet in sheets):
            sheets.append(Sheet())
            assert sheets[-1].takes(*answer)
    folder = tmp_path / "class"
    folder.mkdir()
    for number, sheet in enumerate(sheets):
        (folder / f"learner{number:02}.ipynb").write_text(sheet.text())

    lessons = [word for name in known_lessons() for word in ("--lesson", name)]
    done = common_lab.cli(
        "grade", str(folder), "--out", str(tmp_path / "out"), "--jobs=4", *lessons, timeout=900
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    said = {(line["learner"], line["exercise"]): line for line in lines}
    wrong = []
    for number, sheet in enumerate(sheets):
        for exercise, (program, expected) in sheet.answers.items():
            line = said[f"learner{number:02}", exercise]
            if (line["code"] or line["status"]) != expected:
                wrong.append((exercise, expected, line["status"], line["message"], program))
            assert (line["points"] > 0) == (expected == "passed"), line
    assert not wrong, wrong
    assert sum(len(sheet.answers) for sheet in sheets) == total > 250
