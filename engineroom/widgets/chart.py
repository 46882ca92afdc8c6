"""The chart of tables: what the catalog says there is, as boxes with lines between them.

Read from ``pg_catalog`` and not from any model: what a model promises may be another matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engineroom.widgets.figure import BLUE, INK, LINE, SOFT, figure, say, svg

_SHORT = {"timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp"}


@dataclass
class Column:
    """A column as the catalog has it."""

    name: str
    kind: str
    marks: list[str] = field(default_factory=list)
    """``key``, ``unique``, ``index``, ``NULL`` where it may be missing, ``default``."""
    points_to: str = ""
    """The table that a foreign key looks into."""

    @property
    def words(self) -> str:
        return " ".join(filter(None, [self.kind, ", ".join(self.marks)]))


@dataclass
class Box:
    """A table: its columns in their order, and the rules it checks."""

    name: str
    columns: list[Column] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)


class Chart:
    """Tables and what points where."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.boxes = list(boxes)

    # -- what one sees ---------------------------------------------------------------------

    def __repr__(self) -> str:
        lines = []
        for box in self.boxes:
            wide = max((len(column.name) for column in box.columns), default=0)
            lines.append(box.name)
            for column in box.columns:
                arrow = f" -> {column.points_to}" if column.points_to else ""
                lines.append(f"  {column.name:<{wide}}  {column.words}{arrow}")
            lines += [f"  {check}" for check in box.checks]
        return "\n".join(lines)

    def _spoken(self) -> str:
        sentences = []
        for box in self.boxes:
            columns = [
                f"{c.name} {c.words}" + (f", points to {c.points_to}" if c.points_to else "")
                for c in box.columns
            ]
            sentences.append(f"Table {box.name}: {'; '.join([*columns, *box.checks])}.")
        return " ".join(sentences)

    def _repr_html_(self) -> str:
        return figure(self.svg(), self._spoken(), repr(self))

    def svg(self) -> str:
        """The picture: who is pointed to stands left of who points."""
        places = {box.name: self._depth(box.name, ()) for box in self.boxes}
        stacked: dict[int, float] = {}
        at: dict[str, tuple[float, float]] = {}
        for box in self.boxes:
            column = places[box.name]
            y = stacked.get(column, 16.0)
            at[box.name] = (16 + (_WIDE + _GAP) * column, y)
            stacked[column] = y + _high(box) + 22
        parts = [_line(at, box, number) for box in self.boxes for number in range(len(box.columns))]
        parts += [_box(*at[box.name], box) for box in self.boxes]
        width = 32 + (_WIDE + _GAP) * (max(places.values(), default=0) + 1) - _GAP
        return svg(width, max(stacked.values(), default=38.0) - 6, self._spoken(), parts)

    def _depth(self, name: str, way: tuple[str, ...]) -> int:
        """How many tables one comes through on the way; a ring ends where it began."""
        box = next((box for box in self.boxes if box.name == name), None)
        if box is None or name in way:
            return -1
        return 1 + max((self._depth(c.points_to, (*way, name)) for c in box.columns), default=-1)


async def chart(engine: Any, *tables: str) -> Chart:
    """Ask Postgres for these tables, and draw what it has."""
    from sqlalchemy import text

    async with engine.connect() as connection:
        rows = (await connection.execute(text(_COLUMNS), {"tables": list(tables)})).all()
        checks = (await connection.execute(text(_CHECKS), {"tables": list(tables)})).all()
    boxes = {name: Box(name) for name in tables}
    for table, column, kind, marks, points_to in rows:
        for long, short in _SHORT.items():
            kind = kind.replace(long, short)
        kind = kind.replace("character varying", "varchar")
        boxes[table].columns.append(Column(column, kind, [m for m in marks if m], points_to or ""))
    for table, rule in checks:
        boxes[table].checks.append(rule)
    return Chart([box for box in boxes.values() if box.columns])


_COLUMNS = """
    select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), array[
        case when exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary
             and a.attnum = any(i.indkey)) then 'key' end,
        case when exists (select from pg_index i where i.indrelid = c.oid and i.indisunique
             and not i.indisprimary and i.indkey[0] = a.attnum and i.indnkeyatts = 1)
             then 'unique' end,
        case when exists (select from pg_index i where i.indrelid = c.oid and not i.indisunique
             and i.indkey[0] = a.attnum) then 'index' end,
        case when not a.attnotnull then 'NULL' end,
        case when a.atthasdef and pg_get_expr(d.adbin, d.adrelid) not like 'nextval(%'
             then 'default' end],
        (select f.confrelid::regclass::text from pg_constraint f where f.conrelid = c.oid
         and f.contype = 'f' and f.conkey[1] = a.attnum limit 1)
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relkind = 'r' and c.relname = any(:tables) and pg_table_is_visible(c.oid)
    order by array_position(cast(:tables as text[]), c.relname::text), a.attnum
"""
_CHECKS = """
    select c.relname, pg_get_constraintdef(k.oid, true) from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    where k.contype = 'c' and c.relname = any(:tables) and pg_table_is_visible(c.oid)
    order by c.relname, k.conname
"""
_WIDE, _GAP, _HEAD, _ROW = 286, 54, 32, 24


def _high(box: Box) -> float:
    return _HEAD + _ROW * (len(box.columns) + len(box.checks)) + 8


def _box(x: float, y: float, box: Box) -> str:
    parts = [
        (
            f"<rect x='{x:g}' y='{y:g}' width='{_WIDE}' height='{_high(box):g}' rx='6' "
            f"fill='#ffffff' stroke='{LINE}' stroke-width='1.5'/>"
        ),
        f"<path d='M{x:g} {y + _HEAD:g}h{_WIDE}' stroke='{LINE}'/>",
        say(x + 12, y + 21, box.name, font_weight="bold", font_size="14"),
    ]
    for number, column in enumerate(box.columns):
        line = y + _HEAD + _ROW * number + 19
        parts.append(say(x + 12, line, column.name, fill=BLUE if column.points_to else INK))
        parts.append(say(x + 104, line, column.kind, fill=SOFT))
        marks = ", ".join(column.marks)
        parts.append(say(x + _WIDE - 12, line, marks, fill=INK, text_anchor="end"))
    for number, check in enumerate(box.checks):
        line = y + _HEAD + _ROW * (len(box.columns) + number) + 19
        parts.append(say(x + 12, line, check, fill=SOFT, font_style="italic"))
    return "".join(parts)


def _line(at: dict[str, tuple[float, float]], box: Box, number: int) -> str:
    """From a foreign key's row to the head of the table it looks into."""
    to = at.get(box.columns[number].points_to)
    if to is None:
        return ""
    x, y = at[box.name][0], at[box.name][1] + _HEAD + _ROW * number + 15
    end, head = to[0] + _WIDE, to[1] + _HEAD / 2
    bend = _GAP / 2
    return (
        f"<path d='M{x:g} {y:g}C{x - bend:g} {y:g} {end + bend:g} {head:g} {end + 7:g} {head:g}' "
        f"fill='none' stroke='{BLUE}' stroke-width='1.5'/>"
        f"<path d='M{end + 9:g} {head - 5:g}L{end:g} {head:g}L{end + 9:g} {head + 5:g}z' "
        f"fill='{BLUE}'/>"
    )
