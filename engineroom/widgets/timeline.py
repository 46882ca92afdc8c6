"""The timeline of a pool: what is out and who waits, moment by moment, beside the server's word.

The pool's side is asked of the pool, the server's of ``pg_stat_activity``, by the same role. Only
connections that this engine opens are counted: process ids tie the two together and are not shown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engineroom.widgets.figure import BLUE, LINE, RED, figure, key, say, svg, table
from engineroom.widgets.xray import pid_of, waiting_for

_STATES = text("select pid, state from pg_catalog.pg_stat_activity where usename = current_user")
_ROWS = {"active": "at work", "idle in transaction": "idle in transaction", "idle": "idle"}
_SIGNS = ["■ out of the pool", "□ free", "○ a request that waits"]


@dataclass(frozen=True)
class Moment:
    """What was seen at one moment."""

    label: str
    out: int
    waiting: int
    states: dict[str, int]
    """How many connections Postgres shows in each state."""


@dataclass
class Timeline:
    """Watches ``engine``; ``host`` asks the server, as the same role."""

    engine: AsyncEngine
    host: AsyncEngine
    moments: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pids: dict[int, int] = {}
        self._closed: set[int] = set()
        event.listen(self.engine.sync_engine, "connect", self._was_opened)
        event.listen(self.engine.sync_engine, "close", self._was_closed)
        # How the garbage collector's connections end.
        event.listen(self.engine.sync_engine, "close_detached", self._was_closed)

    def _was_opened(self, connection: Any, _: Any) -> None:
        self._pids[id(connection)] = pid_of(connection)

    def _was_closed(self, connection: Any, _: Any = None) -> None:
        self._closed.add(self._pids.pop(id(connection), 0))

    @property
    def places(self) -> int:
        """How many connections the pool may have out at once."""
        pool: Any = self.engine.pool
        return int(pool.size() + pool._max_overflow)

    async def look(self, label: str) -> Moment:
        """Take down this moment."""
        pool: Any = self.engine.pool
        seen = await self._states()
        # A closed connection's backend needs a moment to leave the server's list.
        for _ in range(2_000):
            if not self._closed & set(seen):
                break
            await asyncio.sleep(0.01)
            seen = await self._states()
        found = [seen.get(pid, "") for pid in self._pids.values()]
        states = {state: found.count(state) for state in _ROWS}
        moment = Moment(label, pool.checkedout(), waiting_for(self.engine), states)
        self.moments.append(moment)
        return moment

    async def _states(self) -> dict[int, str]:
        async with self.host.connect() as connection:
            rows = (await connection.execute(_STATES)).all()
        # A transaction in which a statement failed is "idle in transaction (aborted)".
        return {pid: str(state).partition(" (")[0] for pid, state in rows}

    # -- what one sees ---------------------------------------------------------------------

    def __repr__(self) -> str:
        rows = [["", *(moment.label for moment in self.moments)]]
        rows.append(["out of the pool", *(str(m.out) for m in self.moments)])
        rows.append(["requests waiting", *(str(m.waiting) for m in self.moments)])
        for state, name in _ROWS.items():
            counts = [str(m.states.get(state, 0)) for m in self.moments]
            rows.append([f"Postgres: {name}", *counts])
        return table(rows)

    def _spoken(self) -> str:
        """The picture in sentences, for who cannot see it."""
        parts = []
        for m in self.moments:
            seen = [f"{m.states[s]} {name}" for s, name in _ROWS.items() if m.states.get(s)]
            waiting = f", {m.waiting} waiting" if m.waiting else ""
            parts.append(
                f"{m.label}: {m.out} of {self.places} out{waiting}; "
                f"Postgres shows {', '.join(seen) or 'none'}."
            )
        return " ".join(parts)

    def _repr_html_(self) -> str:
        return figure(self.svg(), self._spoken(), repr(self))

    def svg(self) -> str:
        """Blocks for what is out, rings for who waits above the ceiling, and the counts below."""
        left, wide, cell, top = 176, 112, 20, 50
        most = max([self.places, *(m.out + m.waiting for m in self.moments)])
        floor = top + cell * most + 10
        width = left + wide * len(self.moments) + 10
        foot = floor + 24 * len(_ROWS) + 48
        signs = key(14, foot, width, _SIGNS)
        height = foot + 18 * len(signs) - 8
        ceiling = floor - cell * self.places - 3
        parts = []
        for column, m in enumerate(self.moments):
            x = left + wide * column
            for line, words in enumerate(wrap(m.label, 14)[:2]):
                middle = x + wide / 2
                parts.append(
                    say(middle, 20 + 15 * line, words, text_anchor="middle", font_weight="bold")
                )
            for place in range(max(self.places, m.out + m.waiting)):
                y = floor - cell * (place + 1) - (6 if place >= self.places else 0)
                parts.append(_block(x + 24, y, wide - 48, cell - 4, place, m, self.places))
            for row, state in enumerate(_ROWS):
                parts.append(
                    say(
                        x + wide / 2,
                        floor + 24 * row + 38,
                        str(m.states.get(state, 0)),
                        text_anchor="middle",
                        font_weight="bold",
                    )
                )
        dashes = f"M{left} {ceiling}H{width - 10}"
        parts.append(f"<path d='{dashes}' stroke='{RED}' stroke-dasharray='6 4'/>")
        parts.append(say(14, ceiling + 4, f"room for {self.places}", fill=RED))
        parts.append(say(14, floor - 4, "the pool"))
        parts.append(f"<path d='M10 {floor + 14}H{width - 10}' stroke='{LINE}'/>")
        for row, name in enumerate(_ROWS.values()):
            parts.append(say(14, floor + 24 * row + 38, f"Postgres: {name}"))
        return svg(width, height, self._spoken(), parts + signs)


def _block(
    x: float, y: float, wide: float, high: float, place: int, moment: Moment, places: int
) -> str:
    """One place of the pool, or one who waits for a place."""
    if place >= places or (place >= moment.out and place - moment.out < moment.waiting):
        middle = x + wide / 2
        return (
            f"<circle cx='{middle:g}' cy='{y + high / 2:g}' r='6.5' fill='#ffffff' "
            f"stroke='{RED}' stroke-width='2.5'/>"
        )
    fill = BLUE if place < moment.out else "#ffffff"
    return (
        f"<rect x='{x:g}' y='{y:g}' width='{wide:g}' height='{high:g}' rx='3' fill='{fill}' "
        f"stroke='{BLUE}' stroke-width='1.5'/>"
    )
