"""The pool X-ray: what an engine's pool holds, step by step, beside what Postgres counts.

A lane for each connection that was ever opened. The pool's side comes from SQLAlchemy's own events,
the server's from ``pg_stat_activity``; process ids tie the two together and are never shown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engineroom.widgets.figure import figure, key, say, svg, table

_SIGNS = {"out": "●", "idle": "○", "dead": "✗", "gone": "·", "new": " ", "over": " "}
_WORDS = {
    "out": "● in use",
    "idle": "○ idle in the pool",
    "dead": "✗ idle in the pool, but closed by the server",
    "gone": "· closed",
}
_BACKENDS = text(
    "select pid from pg_catalog.pg_stat_activity where usename = current_user"
    " and datname = current_database() and pid <> pg_backend_pid()"
    " and backend_type = 'client backend'"
)


@dataclass
class _Lane:
    """One connection: where it is, and which backend it talks to."""

    pid: int
    state: str = "out"


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    label: str
    states: list[str]
    waiting: int
    counted: int

    @property
    def held(self) -> int:
        """How many connections the pool believes it has."""
        return sum(state in ("out", "idle", "dead") for state in self.states)


def pid_of(connection: Any) -> int:
    """The server's process behind a connection, as either driver tells it."""
    driver = connection.driver_connection
    asked = getattr(driver, "get_server_pid", None)
    return int(asked() if asked else driver.info.backend_pid)


def waiting_for(engine: AsyncEngine) -> int:
    """How many requests queue for a connection."""
    # A pool tells nobody; asyncio's queue knows its getters.
    queue = getattr(getattr(engine.pool, "_pool", None), "_queue", None)
    return sum(not getter.done() for getter in getattr(queue, "_getters", ()))


@dataclass
class Xray:
    """Watches ``engine`` from now on; ``host`` asks the server, as the same role."""

    engine: AsyncEngine
    host: AsyncEngine
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lanes: list[_Lane] = []
        self._by_connection: dict[int, _Lane] = {}
        watched = self.engine.sync_engine
        event.listen(watched, "connect", self._opened)
        for name, state in (("checkout", "out"), ("checkin", "idle"), ("close", "gone")):
            event.listen(watched, name, self._mover(state))

    def _opened(self, connection: Any, _: Any) -> None:
        lane = _Lane(pid_of(connection))
        self._lanes.append(lane)
        self._by_connection[id(connection)] = lane

    def _mover(self, state: str) -> Any:
        def move(connection: Any, *_: Any) -> None:
            lane = self._by_connection.get(id(connection))
            if lane is not None:
                lane.state = state
            if state == "gone":
                self._by_connection.pop(id(connection), None)

        return move

    async def look(self, label: str) -> Look:
        """Take a picture of this moment."""
        # A closed connection's backend needs a moment to leave the server's list.
        closed = {lane.pid for lane in self._lanes if lane.state == "gone"}
        alive = await self._alive()
        for _ in range(200):
            if not closed & alive:
                break
            await asyncio.sleep(0.01)
            alive = await self._alive()
        states = [
            "dead" if lane.state == "idle" and lane.pid not in alive else lane.state
            for lane in self._lanes
        ]
        self.looks.append(Look(label, states, waiting_for(self.engine), len(alive)))
        return self.looks[-1]

    async def _alive(self) -> set[int]:
        async with self.host.connect() as connection:
            return set((await connection.execute(_BACKENDS)).scalars())

    # -- what one sees ---------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, list[str]]]:
        """The lanes; a lane is empty before its connection was opened."""
        lanes: list[tuple[str, list[str]]] = []
        for number in range(max((len(look.states) for look in self.looks), default=0)):
            seen = [look.states[number] for look in self.looks if number < len(look.states)]
            # Its end is marked once.
            last = seen.index("gone") + 1 if "gone" in seen else len(seen)
            before = ["new"] * (len(self.looks) - len(seen))
            lanes.append(
                (f"connection {number + 1}", before + seen[:last] + ["over"] * (len(seen) - last))
            )
        return lanes

    def _counts(self) -> list[tuple[str, list[int]]]:
        counts = [
            ("requests waiting", [look.waiting for look in self.looks]),
            ("the pool believes", [look.held for look in self.looks]),
            ("Postgres counts", [look.counted for look in self.looks]),
        ]
        return counts if any(counts[0][1]) else counts[1:]

    def __repr__(self) -> str:
        labels = [look.label for look in self.looks]
        rows = [["", *labels]]
        rows += [[name, *(_SIGNS[state] for state in states)] for name, states in self._rows()]
        rows += [[name, *map(str, numbers)] for name, numbers in self._counts()]
        return "\n".join([table(rows), "", "   ".join(self._legend())])

    def _legend(self) -> list[str]:
        seen = {state for look in self.looks for state in look.states}
        return [words for state, words in _WORDS.items() if state in seen]

    def _spoken(self) -> str:
        """The picture in sentences, for who cannot see it."""
        parts = []
        for look in self.looks:
            waiting = f", {look.waiting} waiting" if look.waiting else ""
            parts.append(
                f"{look.label}: {look.states.count('out')} in use, "
                f"{look.held - look.states.count('out')} in the pool{waiting}, "
                f"Postgres counts {look.counted}."
            )
        return " ".join(parts)

    def _repr_html_(self) -> str:
        return figure(self.svg(), self._spoken(), repr(self))

    def svg(self) -> str:
        """The picture: dark on a light ground of its own, so it reads on any."""
        left, wide, high, top = 150, 116, 24, 52
        rows, counts = self._rows(), self._counts()
        width = left + wide * len(self.looks) + 10
        foot = top + high * len(rows) + 12
        below = foot + high * len(counts) + 22
        signs = key(14, below, width, self._legend())
        height = below + 18 * len(signs) - 6
        parts: list[str] = []
        for column, look in enumerate(self.looks):
            middle = left + wide * (column + 0.5)
            for line, words in enumerate(wrap(look.label, 15)[:2]):
                parts.append(say(middle, 20 + 15 * line, words, **_CENTRED, **_BOLD))
        for row, (name, states) in enumerate(rows):
            y = top + high * (row + 0.5)
            parts.append(say(14, y + 4, name))
            for column, state in enumerate(states):
                if state not in ("new", "over"):
                    later = column + 1 < len(states) and state != "gone"
                    parts.append(_mark(state, left + wide * (column + 0.5), y, wide, later))
        parts.append(f"<path d='M10 {foot - 4}H{width - 10}' stroke='#8a939e'/>")
        for row, (name, numbers) in enumerate(counts):
            y = foot + high * (row + 0.5) + 4
            bold = _BOLD if name == "Postgres counts" else {}
            parts.append(say(14, y, name, **bold))
            for column, number in enumerate(numbers):
                middle = left + wide * (column + 0.5)
                parts.append(say(middle, y, str(number), **_CENTRED, **bold))
        return svg(width, height, self._spoken(), parts + signs)


_CENTRED = {"text_anchor": "middle"}
_BOLD = {"font_weight": "bold"}


def _mark(state: str, x: float, y: float, wide: int, later: bool) -> str:
    """One moment of one connection."""
    if state == "gone":
        return f"<circle cx='{x:g}' cy='{y:g}' r='2' fill='#8a939e'/>"
    line = f"<path d='M{x:g} {y:g}h{wide}' stroke='#c3ccd6' stroke-width='2'/>" if later else ""
    if state == "dead":
        cross = f"M{x - 6:g} {y - 6:g}l12 12m0-12l-12 12"
        return f"{line}<path d='{cross}' stroke='#b4231f' stroke-width='3'/>"
    fill = "#2459b3" if state == "out" else "#ffffff"
    return (
        f"{line}<circle cx='{x:g}' cy='{y:g}' r='7' fill='{fill}' stroke='#2459b3' "
        "stroke-width='2.5'/>"
    )
