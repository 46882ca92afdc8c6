"""The judge: lets a subject do things, asks the witness, and reaches a verdict.

It runs in a process in which no learner's code ever runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg

from engineroom.errors import EngineRoomError
from engineroom.exercises.doors import Address, Doors, addresses
from engineroom.exercises.isolation import SHOWN
from engineroom.exercises.lodging import Lodging
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
from engineroom.exercises.patience import fair_timeout
from engineroom.exercises.sources import Cell, needed
from engineroom.exercises.subject import Gone, Nursery, NurseryLost, Subject
from engineroom.exercises.wire import BadFrame
from engineroom.lab.session import Lease
from engineroom.lab.trouble import TROUBLE
from engineroom.witness import Warden, Witness

_DISK_LOOK = 0.3
_PUZZLED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a check raises when an answer gave it text for a number, or nothing for a pair."""
_IN_THE_WAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
)
_TROUBLE_OF_OURS = (
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.InternalServerError,
)
_SIDES = ("tiny", "pgbouncer", "impostor", "secrets")
_HOLDS_LINES = {"pgbouncer"}
"""What connects to the learner's database by itself, where checks count connections."""


log = logging.getLogger("engineroom.judge")


class LabLost(EngineRoomError):
    """The server went away during a check, so nothing that was seen then counts."""

    def __init__(self) -> None:
        super().__init__("Postgres was restarted during the check.", "run the check again")


class Disturbed(EngineRoomError):
    """Somebody else kept the server from working, so a failure says nothing."""

    def __init__(self) -> None:
        super().__init__("Another answer kept Postgres from working.", "run the check again")


class NotHere(EngineRoomError):
    """A server that this exercise needs cannot be had on this machine, as it is."""


@dataclass
class Bench:
    """What a judge works with: the warm parent, and a place in the lab."""

    nursery: Nursery = field(default_factory=Nursery)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One check at a time: they share a database."""
    lease: Lease = field(default_factory=lambda: Lease("check"))
    seconds: float | None = None
    """How long an answer may take, whatever its exercise allows."""

    disk: int | None = None
    """How large the database of an answer may become, in bytes."""

    warden: Warden | None = None
    """Where answers of several benches share a server: who sees to it that each gets its part."""

    ahead: tuple[Exercise, ...] = ()
    """What one learner will be asked, where answers come one after another: then one process
    may serve several of them, and has the doors for all."""

    lodging: Lodging = field(init=False)
    _out_of_reach: set[str] = field(default_factory=set, init=False)
    _sides: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    """The side servers as they were last: enough for who needs them later only."""
    _witness: Witness | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.lodging = Lodging(self.nursery, renews=bool(self.ahead))

    async def close(self) -> None:
        await self.leave()
        await self.nursery.close()

    async def leave(self) -> None:
        """Give the place in the lab back."""
        await self.lodging.close()
        await self.look_away()
        self._sides.clear()
        await asyncio.to_thread(self.lease.leave)

    move = leave  # the next check takes another place: a new database, new roles

    async def look(self, lab: dict[str, Any]) -> Witness:
        """The witness of this place, ready for a check."""
        tenant = self.lease.joined["tenant"]
        witness, self._witness = self._witness, None
        if witness is None or not witness.looks_at(tenant) or not await witness.sees():
            if witness is not None:
                await witness.close()
            witness = Witness(lab["server"], tenant, self.overheard)
        try:
            await witness.open()
        except BaseException:
            await witness.close()
            raise
        self._witness = witness
        return witness

    async def look_away(self) -> None:
        witness, self._witness = self._witness, None
        if witness is not None:
            await witness.close()

    async def overheard(self, impostor: str) -> list[dict[str, Any]]:
        """What an impostor of this lab was told so far; that somebody called is not yet told."""
        answer = await asyncio.to_thread(self.lease.ask, {"op": "heard", "service": impostor})
        return [note for note in answer["heard"] if note["what"] in ("login", "password", "sql")]

    async def lab(self, needs: tuple[str, ...]) -> dict[str, Any]:
        """The endpoints an exercise needs, and those to come; started if they are not up."""
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
        later = {name for exercise in self.ahead for name in exercise.needs}
        for name in sorted({*needs, *later - _HOLDS_LINES - self._out_of_reach}):
            if name in self._sides and name not in needs:
                lab[name] = self._sides[name]
            elif name.partition(":")[0] in _SIDES:
                try:
                    side = await asyncio.to_thread(self.lease.use, name)
                except EngineRoomError as error:
                    if name in needs:
                        raise NotHere(error.sentence, error.fix) from error
                    self._out_of_reach.add(name)  # whose exercise it is will say so
                else:
                    lab[name] = self._sides[name] = {"url": side["url"], **side["extra"]}
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
    # One for all rounds: a name that was drawn once is known to the lab's servers from then on.
    draw = Draw(seed)
    async with bench.turn:
        try:
            verdict = await _decide(bench, exercise, cells, draw, meet)
        except NurseryLost:  # no answer can do that; it is started anew
            verdict = await _decide(bench, exercise, cells, draw, meet)
        if bench.lodging.renewed and (verdict.status != "passed" or verdict.notes):
            # Perhaps for what an answer before it did: now in a process of its own.
            verdict = await _decide(bench, exercise, cells, draw, meet)
    return verdict.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


async def _decide(
    bench: Bench,
    exercise: Exercise,
    cells: list[Cell],
    draw: Draw,
    meet: Callable[[Subject], None] | None,
) -> Verdict:
    chosen = needed(cells, exercise.answer, exercise.id)
    if not chosen:
        return _verdict(
            exercise,
            "not_attempted",
            f"Nothing to check yet: write `{exercise.answer}`, run its cell.",
        )
    if bench.warden is not None:
        await bench.warden.settled()
    before = bench.warden.incidents if bench.warden else 0
    lab, witness = await _lab_and_witness(bench, exercise)
    lead_to: dict[str, Address] = {}
    files: dict[str, str] = {}
    if bench.nursery.isolates:
        lead_to = addresses(lab)
        lab, files = _carried(lab)
    lab = _needed_of(lab, exercise)
    seconds = bench.seconds or exercise.seconds
    subject: Subject | None = None
    passed = False
    try:
        subject = await bench.lodging.take(_for_subject(lab), list(lead_to), files)
        if meet is not None:
            meet(subject)
        if witness is not None:
            witness.doors = list(subject.spare_doors)
        async with (
            Doors(subject.doors, lead_to),
            _disk_limit(bench, witness, subject),
            _lock_limit(bench, witness, subject),
        ):
            try:
                verdict = await _within(seconds, exercise, chosen, subject, witness, lab, draw)
            except asyncpg.InsufficientResourcesError:
                if bench.warden is not None:  # who was it?
                    await bench.warden.look()
                if not subject.excess:
                    raise
                verdict = _gone(exercise, Gone(None, excess=subject.excess))
            if verdict.status != "passed" and witness is not None and not subject.excess:
                if not await witness.sees():
                    raise LabLost()
                if bench.warden is not None and await bench.warden.disturbed(before):
                    raise Disturbed()
        passed = verdict.status == "passed"
        return verdict
    finally:
        if subject is not None:
            await bench.lodging.give_back(subject, passed=passed)
        if bench.warden is not None:
            await bench.warden.settled()
        if subject is not None and subject.excess:
            await bench.move()  # what it took is not given back at once
        elif witness is not None:
            await _tidy(bench, witness)


async def _lab_and_witness(
    bench: Bench, exercise: Exercise
) -> tuple[dict[str, Any], Witness | None]:
    """The endpoints, and who looks at them; in a new place if an answer has spoilt the old one."""
    for chance in (1, 2):
        lab = await bench.lab(exercise.needs)
        if not lab:
            break
        try:
            return lab, await bench.look(lab)
        except TROUBLE:
            if chance == 2:
                raise LabLost() from None
            # An answer before this one may have changed its role's password, for one.
            await bench.move()
    return {}, None


async def _within(
    seconds: float,
    exercise: Exercise,
    chosen: list[Cell],
    subject: Subject,
    witness: Witness | None,
    lab: dict[str, Any],
    draw: Draw,
) -> Verdict:
    """A verdict whatever happens, save that something of ours is gone."""
    try:
        async with fair_timeout(seconds):
            return await _try(exercise, chosen, subject, witness, lab, draw)
    except TimeoutError:
        return _verdict(
            exercise,
            "timed_out",
            f"Your code was still running after {seconds:g} seconds. "
            "Does a loop never end, or does it wait for something that never comes?",
        )
    except Gone as gone:
        return _gone(exercise, gone)
    except _IN_THE_WAY as error:
        if witness is None or not await witness.sees():
            raise
        if await witness.was_cut_off():
            return _verdict(
                exercise, "crashed", "Your code ended the connection that its check stands on."
            )
        if not _is_theirs(error):
            raise
        log.info("%s: its check could not go on", exercise.id, exc_info=error)
        return _verdict(
            exercise,
            "crashed",
            f"Your code left the database so that its check could not go on: {error}.",
        )
    except BadFrame as error:
        return _verdict(
            exercise, "crashed", f"Your code answered in a way no check asks for: {error}."
        )


def _is_theirs(error: Exception) -> bool:
    """Whether an answer's own database explains it. That the server stops or is full does not;
    that a statement of the witness was cancelled does, for only its own role can do that."""
    if isinstance(error, asyncpg.QueryCanceledError):
        return True
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, _TROUBLE_OF_OURS)


@contextlib.asynccontextmanager
async def _disk_limit(
    bench: Bench, witness: Witness | None, subject: Subject
) -> AsyncIterator[None]:
    """End a subject that fills its database, where there is a limit."""
    if bench.disk is None or witness is None:
        yield
        return
    over = asyncio.Event()
    watching = asyncio.create_task(_watch_disk(witness, subject, bench.disk, over))
    try:
        yield
    finally:
        over.set()  # a look that has begun comes to its end, and no login is left half done
        await asyncio.wait({watching})


@contextlib.asynccontextmanager
async def _lock_limit(
    bench: Bench, witness: Witness | None, subject: Subject
) -> AsyncIterator[None]:
    """End a subject that takes the locks of all, where others are at work on the same server."""
    if bench.warden is None or witness is None:
        yield
        return

    async def end() -> None:
        subject.excess = "took so many locks that nobody else could have one"
        await subject.kill()

    async with bench.warden.watches(witness, end):
        yield


async def _watch_disk(witness: Witness, subject: Subject, limit: int, over: asyncio.Event) -> None:
    # Most answers are judged before the first look.
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _DISK_LOOK)
            return
        try:
            size = await witness.size()
        except TROUBLE:
            continue  # whether the server is gone for good is asked with the verdict
        if size > limit:
            subject.excess = "put more into its database than fits"
            await subject.kill()
            return


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
    except _PUZZLED as error:
        # A check reads replies as an honest subject gives them; its own bugs `verify` would tell.
        log.info("%s: its check met a value it cannot use", exercise.id, exc_info=error)
        raise BadFrame("a reply was of another type than the one asked for") from error
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
    if gone.excess:
        return _verdict(exercise, "crashed", f"Your code {gone.excess}.")
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


def _needed_of(lab: dict[str, Any], exercise: Exercise) -> dict[str, Any]:
    """The lab without the servers that only other exercises need."""
    return {
        name: what
        for name, what in lab.items()
        if name.partition(":")[0] not in _SIDES or name in exercise.needs
    }


def _for_subject(lab: dict[str, Any]) -> dict[str, Any]:
    """What a learner's code may know of its lab; the administrator's password is not in it."""
    server = lab.get("server", {})
    shown = {key: server[key] for key in ("version", "tls", "host", "port") if key in server}
    return {**lab, "server": shown}


def _carried(lab: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The lab with its certificates where a sandboxed subject has them, and what is in them.

    Ours lie in a home that is not to be seen from in there.
    """
    places: dict[str, str] = {}

    def moved(endpoint: dict[str, Any]) -> dict[str, Any]:
        file = endpoint.get("ca_file")
        if not file:
            return endpoint
        return endpoint | {"ca_file": places.setdefault(file, f"{SHOWN}/{len(places)}.pem")}

    # What the witness knows of the server stays as it is: it is not in there.
    sides = {
        name: moved(lab[name]) for name in lab if isinstance(lab[name], dict) and name != "server"
    }
    carried = moved(lab) | sides
    return carried, {place: Path(file).read_text() for file, place in places.items()}


async def _tidy(bench: Bench, witness: Witness) -> None:
    """Leave the database as the next check wants it: nobody connected, nothing in it."""
    try:
        async with asyncio.timeout(5):
            await witness.cut()
            await witness.mend()
            await witness.empty()
    except TROUBLE:
        await bench.move()  # this place may be spoilt
    except BaseException:
        await bench.look_away()
        raise
