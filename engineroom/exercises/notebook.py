"""``.check()``, ``.hint()`` and ``.solution()`` in a notebook: ask the court, show a card."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from engineroom.errors import EngineRoomError
from engineroom.exercises.cards import HintCard, SolutionCard, VerdictCard
from engineroom.exercises.cells import executed
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Exercise, Verdict


class _Court:
    """The judge's process, started with the first exercise and again whenever it was lost."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._turn = threading.Lock()

    def open(self) -> None:
        """Have it start, so that who asks first need not wait while it imports what it needs."""
        with self._turn:
            self._ready()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            for _ in range(2):
                process = self._ready()
                assert process.stdin is not None
                assert process.stdout is not None
                try:
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                except BrokenPipeError:
                    line = b""
                except BaseException:
                    # Interrupted: half an answer may follow, so the next check gets a new court.
                    self.close()
                    raise
                if line:
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                self.close()
        raise EngineRoomError(
            "The judge's process ends as soon as it is asked.", "engineroom doctor"
        )

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._pid == os.getpid() and self._process.poll() is None:
            return self._process
        self._pid = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engineroom.exercises.court"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the kernel; it tells us by closing our input.
            start_new_session=True,
            cwd="/",
        )
        return self._process

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None or self._pid != os.getpid():
            return
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_court = _Court()
atexit.register(_court.close)


def open_court() -> None:
    """Make ready for the first check, while the learner still reads."""
    # What keeps it from starting is said when there is something to check.
    with contextlib.suppress(OSError):
        _court.open()


def check(exercise: Exercise) -> VerdictCard:
    """Check the answer that this notebook has executed."""
    answer = _ask("check", exercise, cells=executed_cells())
    verdict = Verdict.model_validate(answer["verdict"])
    codes = known_lessons()[exercise.lesson].codes if verdict.code else {}
    return VerdictCard(verdict, codes.get(verdict.code, ""))


def hint(exercise: Exercise) -> HintCard:
    """One more hint than last time, also after a restart."""
    shown = _ask("hint", exercise)["number"]
    return HintCard(exercise.hints[shown - 1], shown, len(exercise.hints))


def solution(exercise: Exercise) -> SolutionCard:
    """A right answer, once it is asked for twice; it costs no points."""
    asked = _ask("solution", exercise)["asked"]
    return SolutionCard(exercise.id, exercise.right[0] if asked > 1 else None)


def _ask(what: str, exercise: Exercise, **more: Any) -> dict[str, Any]:
    answer = _court.ask({"op": what, "exercise": exercise.id, **more})
    if "sentence" in answer:
        raise EngineRoomError(answer["sentence"], answer["fix"])
    return answer


def executed_cells() -> list[tuple[int, str]]:
    """What the learner has run in this session, in the order they ran it."""
    found = executed()
    if found is None:
        raise EngineRoomError(
            "Checks run in a notebook, where your cells are.", "make lab, and open a lesson"
        )
    return found
