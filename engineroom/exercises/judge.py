"""The judge: lets a subject do things, asks the witness, and reaches a verdict.

It runs in a process in which no learner's code ever runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import asyncpg

from engineroom.errors import EngineRoomError
from engineroom.exercises.doors import Doors, addresses
from engineroom.exercises.model import (
    Draw,
    Exercise,
    Failure,
    Refused,
    Status,
    SubjectFailed,
    Trial,
    Verdict,
)
from engineroom.exercises.sources import Cell, needed
from engineroom.exercises.subject import Gone, Nursery, Subject
from engineroom.exercises.wire import BadFrame
from engineroom.lab.session import Lease
from engineroom.witness import Witness

_SIDES = ("tiny", "pgbouncer", "impostor", "secrets")


@dataclass
class Bench:
    """What a judge works with: the warm parent, and a place in the lab."""

    nursery: Nursery = field(default_factory=Nursery)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One check at a time: they share a database."""
    lease: Lease = field(default_factory=lambda: Lease("check"))
    seconds: float | None = None
    """How long an answer may take, whatever its exercise allows."""

    async def close(self) -> None:
        await self.nursery.close()
        await asyncio.to_thread(self.lease.leave)

    async def overheard(self, impostor: str) -> list[dict[str, Any]]:
        """What an impostor of this lab was told so far; that somebody called is not yet told."""
        answer = await asyncio.to_thread(self.lease.ask, {"op": "heard", "service": impostor})
        return [note for note in answer["heard"] if note["what"] in ("login", "password", "sql")]

    async def lab(self, needs: tuple[str, ...]) -> dict[str, Any]:
        """The endpoints an exercise needs, started if they are not up."""
        if not needs:
            return {}
        joined = await asyncio.to_thread(self.lease.join)
        if not joined["tenant"]["witness"]:
            raise EngineRoomError(
                "Checks need a witness, and this server gives none: "
                + " ".join(joined["left_out"]),
                "unset ENGINEROOM_DATABASE_URL",
            )
        endpoint = joined["endpoint"]
        lab = {"url": endpoint["url"], **endpoint["extra"], "server": joined["server"]}
        for name in needs:
            if name.partition(":")[0] in _SIDES:
                side = await asyncio.to_thread(self.lease.use, name)
                lab[name] = {"url": side["url"], **side["extra"]}
        return lab


async def judge(
    bench: Bench,
    exercise: Exercise,
    cells: list[Cell],
    seed: int | str | None = None,
    meet: Callable[[Subject], None] | None = None,
) -> Verdict:
    """Check one exercise against a learner's cells, once.

    ``meet`` may step in between the check and the subject: so a check itself is tried.
    """
    began = time.monotonic()
    async with bench.turn:
        verdict = await _decide(bench, exercise, cells, Draw(seed), meet)
    return verdict.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


async def _decide(
    bench: Bench,
    exercise: Exercise,
    cells: list[Cell],
    draw: Draw,
    meet: Callable[[Subject], None] | None,
) -> Verdict:
    chosen = needed(cells, exercise.answer, exercise.id)
    if not chosen or _is_stub(chosen, exercise):
        return _verdict(
            exercise,
            "not_attempted",
            f"Nothing to check yet: write `{exercise.answer}`, run its cell.",
        )
    lab = await bench.lab(exercise.needs)
    lead_to = addresses(lab) if bench.nursery.isolates else {}
    subject = await bench.nursery.subject(_for_subject(lab), list(lead_to))
    if meet is not None:
        meet(subject)
    witness: Witness | None = None
    seconds = bench.seconds or exercise.seconds
    try:
        if lab:
            witness = Witness(lab["server"], bench.lease.joined["tenant"], bench.overheard)
            witness.doors = subject.spare_doors
        async with Doors(subject.doors, lead_to), asyncio.timeout(seconds):
            if witness is not None:
                await witness.open()
            return await _try(exercise, chosen, subject, witness, lab, draw)
    except TimeoutError:
        return _verdict(
            exercise,
            "timed_out",
            f"Your code was still running after {seconds:g} seconds.",
        )
    except Gone as gone:
        return _gone(exercise, gone)
    except (asyncpg.InterfaceError, asyncpg.PostgresError, ConnectionError):
        if witness is None or not await witness.was_cut_off():
            raise
        return _verdict(
            exercise, "crashed", "Your code ended the connection that its check stands on."
        )
    except BadFrame as error:
        return _verdict(
            exercise, "crashed", f"Your code answered in a way no check asks for: {error}."
        )
    finally:
        await subject.kill()
        if witness is not None:
            await _tidy(witness)


async def _try(
    exercise: Exercise,
    chosen: list[Cell],
    subject: Subject,
    witness: Witness | None,
    lab: dict[str, Any],
    draw: Draw,
) -> Verdict:
    defined = await subject.define([(c.number, c.code) for c in chosen], exercise.answer)
    if defined.failure is not None:
        return _raised(exercise, defined.failure)
    wrong = _wrong_kind(exercise, defined.kind)
    if wrong:
        return _verdict(exercise, "failed", wrong, code="WRONG-KIND")
    trial = Trial(subject, witness, SimpleNamespace(**lab), draw)  # type: ignore[arg-type]
    try:
        await exercise.check_it(trial)
    except Refused as refused:
        sentence, slip = exercise.sentence_for(refused.code)
        return _verdict(exercise, "failed", refused.text or sentence, code=refused.code, slip=slip)
    except SubjectFailed as failed:
        return _raised(exercise, failed.failure)
    left: dict[str, int] = {}
    with contextlib.suppress(TimeoutError):  # a note is not worth a mark
        left = await asyncio.wait_for(subject.left_behind(), 2)
    notes = [
        f"Your code left {count} {name if count > 1 else name[:-1]} behind; the check ended "
        f"{'them' if count > 1 else 'it'}."
        for name, count in left.items()
    ]
    return _verdict(exercise, "passed", "", points=exercise.points, notes=tuple(notes))


def _is_stub(chosen: list[Cell], exercise: Exercise) -> bool:
    """A definition whose body is only ``...`` (and words) is the exercise as it was handed out."""
    import ast

    for cell in reversed(chosen):
        for statement in cell.tree.body if cell.tree else ():
            if (
                isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
                and statement.name == exercise.answer
            ):
                return all(
                    (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
                    or isinstance(part, ast.Pass)
                    for part in statement.body
                )
            if isinstance(statement, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == exercise.answer for t in statement.targets
            ):
                return isinstance(statement.value, ast.Constant) and statement.value.value is ...
    return False


def _wrong_kind(exercise: Exercise, kind: str) -> str:
    wanted, name = exercise.kind, exercise.answer
    if wanted == "any" or kind == wanted:
        return ""
    if kind == "coroutine function":
        return f"`{name}` is a coroutine function (`async def`); a plain function was expected."
    if kind == "function":
        # An ordinary callable may well return something to await: let it show.
        return ""
    return f"`{name}` should be a {wanted}, and is of type {kind or 'nothing'}."


def _raised(exercise: Exercise, failure: Failure) -> Verdict:
    if failure.is_a("MemoryError"):
        return _verdict(exercise, "out_of_memory", "Your code needed more memory than it may have.")
    return _verdict(exercise, "error", f"Your code raised {failure.short}", where=failure.where)


def _gone(exercise: Exercise, gone: Gone) -> Verdict:
    if gone.too_large:
        return _verdict(exercise, "out_of_memory", "Your code needed more memory than it may have.")
    name = signal.Signals(gone.by_signal).name if gone.by_signal else ""
    how = f" ({name})" if name else ""
    return _verdict(exercise, "crashed", f"Your code ended the process it ran in{how}.")


def _verdict(exercise: Exercise, status: Status, message: str, **more: Any) -> Verdict:
    return Verdict(
        exercise=exercise.id,
        status=status,
        points=more.pop("points", 0.0),
        max_points=exercise.points,
        message=message,
        **more,
    )


def _for_subject(lab: dict[str, Any]) -> dict[str, Any]:
    """What a learner's code may know of its lab; the administrator's password is not in it."""
    server = lab.get("server", {})
    shown = {key: server[key] for key in ("version", "tls", "host", "port") if key in server}
    return {**lab, "server": shown}


async def _tidy(witness: Witness) -> None:
    """Leave the database as the next check wants it: nobody connected, nothing in it."""
    try:
        async with asyncio.timeout(5):
            await witness.cut()
            await witness.mend()
            await witness.execute("drop schema public cascade; create schema public")
    except (OSError, TimeoutError):
        pass
    finally:
        await witness.close()
