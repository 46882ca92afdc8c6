"""A recording of a right answer, played back with nothing behind it: it must never pass."""

from __future__ import annotations

from typing import Any

from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.model import Exercise, Outcome, Verdict
from engineroom.exercises.sources import Cell
from engineroom.exercises.subject import Gone, Subject

_PATIENCE = 2.0


class _Recorder:
    """Sits between a check and its subject, and writes down what the subject says."""

    def __init__(self) -> None:
        self.said: list[Outcome] = []

    def __call__(self, subject: Subject) -> None:
        ask = subject._ask

        async def listening(request: dict[str, Any]) -> Outcome:
            outcome = await ask(request)
            self.said.append(outcome)
            return outcome

        subject._ask = listening  # type: ignore[method-assign]


class _Player:
    """Answers with what was recorded, in order, whatever is asked; no code runs."""

    def __init__(self, said: list[Outcome]) -> None:
        self._said = iter(said)

    def __call__(self, subject: Subject) -> None:
        async def playing(request: dict[str, Any]) -> Outcome:
            try:
                outcome = next(self._said)
            except StopIteration:
                raise Gone(None) from None
            if request["op"] == "define":
                subject.answer = request["answer"]
            return outcome

        subject._ask = playing  # type: ignore[method-assign]


async def replay_verdict(bench: Bench, exercise: Exercise, cells: list[Cell]) -> Verdict:
    """The verdict on a recording, with inputs drawn anew."""
    recorder = _Recorder()
    await judge(bench, exercise, cells, seed=1, meet=recorder)
    patience, exercise.seconds = exercise.seconds, min(exercise.seconds, _PATIENCE)
    try:
        # A silent server is an answer too, so there is no need to wait long for one.
        return await judge(bench, exercise, cells, seed=2, meet=_Player(recorder.said))
    finally:
        exercise.seconds = patience
