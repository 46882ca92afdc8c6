"""``make chance``: what luck decides comes to light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from judging import EXERCISES
from lab_helpers import Lab

from tools.chance import Known, ask

MASKED = EXERCISES["urls.masked"]


async def test_who_is_judged_otherwise_is_named(
    common_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in common_lab.env.items():
        monkeypatch.setenv(name, value)
    right, slip = MASKED.right[0], MASKED.slips[0]
    known = [
        Known(MASKED, "a right one", right, None),
        Known(MASKED, "one that should fail", right, ""),
        Known(MASKED, "a slip", slip.programs[0], slip.code),
        Known(MASKED, "a slip with another's code", slip.programs[0], "URL-00"),
    ]
    found = await ask(known, times=2, jobs=2)
    assert {what: told.total() for what, told in found.items()} == {
        "one that should fail": 2,
        "a slip with another's code": 2,
    }


def test_nobody_knows_a_lesson_of_that_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.chance", "knots"],
        cwd=Path(__file__).parent.parent,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "no answer of knots is known\n")
