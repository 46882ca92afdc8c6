"""How long it takes to prove the course: verify, and every notebook executed again."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, seconds
from benchmarks.servers import home

_ROOT = Path(__file__).parents[1]
_SANITIZE = "tests/nbval_sanitize.cfg"


def rows() -> Iterator[Row]:
    """The row of the budget that names verify, nbval and solved notebooks."""
    solved = sorted(_ROOT.glob("solutions/*.ipynb"))
    every = sorted(_ROOT.glob("notebooks/*.ipynb")) + solved
    with home():
        _run("engineroom.cli", "db", "up")
        each = {path: seconds(lambda path=path: _nbval(path)) for path in every}  # type: ignore[misc]
        total = sum(each.values())
        middle = statistics.median(each[path] for path in solved)
        yield Row("a solved notebook, median", middle, "s", 8, "all of them, one by one", total)
        together = seconds(lambda: _nbval(*every, jobs=2))
        yield Row("nbval over everything", together, "s", 300, "all of them, one by one", total)
        proof = seconds(lambda: _run("engineroom.cli", "verify"))
        yield Row("engineroom verify", proof, "s", 120, "all notebooks, one by one", total)
        _run("engineroom.cli", "db", "down")


def _nbval(*paths: Path, jobs: int = 0) -> None:
    how = ["-q", "--nbval", "--nbval-sanitize-with", _SANITIZE, f"-n{jobs}", "--dist", "loadfile"]
    _run("pytest", *how, *map(str, paths))


def _run(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", *words], cwd=_ROOT, env=os.environ, check=True, capture_output=True
    )
