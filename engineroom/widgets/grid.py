"""A grid of attempts: what was tried against what, and what came of each, drawn from the run.

Each field has a sign and words beside its colour, and the whole is there as text too.
"""

from __future__ import annotations

from textwrap import wrap
from typing import Literal

from engineroom.widgets.figure import INK, SOFT, figure, say, svg

Tone = Literal["good", "bad", "plain"]

# Ground, ink and sign: dark ink on a light ground, at least 7 to 1.
_TONES = {
    "good": ("#e3f4e8", "#14532d", "✓"),
    "bad": ("#fde7e5", "#7f1d1d", "✗"),
    "plain": ("#eef1f5", INK, "○"),
}


class Grid:
    """Rows against columns; ``mark`` says what came of one attempt."""

    def __init__(self, corner: str, columns: list[str]) -> None:
        self.corner = corner
        self.columns = columns
        self._marks: dict[str, dict[str, tuple[Tone, str]]] = {}

    def mark(self, row: str, column: str, tone: Tone, words: str) -> None:
        """Note an attempt: ``good`` is as one would want it, ``bad`` is not."""
        if column not in self.columns:
            raise ValueError(f"the grid has no column {column!r}")
        self._marks.setdefault(row, {})[column] = (tone, words)

    # -- what one sees ---------------------------------------------------------------------

    def __repr__(self) -> str:
        table = [[self.corner, *self.columns]]
        for row, marks in self._marks.items():
            cells = [marks.get(column) for column in self.columns]
            table.append([row, *(f"{_TONES[c[0]][2]} {c[1]}" if c else "" for c in cells)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )

    def _spoken(self) -> str:
        """The picture in sentences, for who cannot see it."""
        sentences = []
        for row, marks in self._marks.items():
            fields = [f"{name}, {marks[name][1]}" for name in self.columns if name in marks]
            sentences.append(f"{row}: {'; '.join(fields)}.")
        return " ".join(sentences)

    def _repr_html_(self) -> str:
        return figure(self.svg(), self._spoken(), repr(self))

    def svg(self) -> str:
        """The picture."""
        left, wide, high, top = 120, 148, 46, 50
        parts = [_lines(14, 29, [self.corner], SOFT)]
        for number, column in enumerate(self.columns):
            parts.append(_lines(left + wide * number + 10, 29, wrap(column, 16)[:2], **_BOLD))
        for row, (name, marks) in enumerate(self._marks.items()):
            y = top + high * row
            parts.append(_lines(14, y + 22, wrap(name, 15)[:2], **_BOLD))
            for number, column in enumerate(self.columns):
                if column in marks:
                    parts.append(_field(left + wide * number, y, wide, high, marks[column]))
        width, height = left + wide * len(self.columns) + 10, top + high * len(self._marks) + 10
        return svg(width, height, self._spoken(), parts)


_BOLD = {"font_weight": "bold"}


def _field(x: float, y: float, wide: int, high: int, mark: tuple[Tone, str]) -> str:
    ground, ink, sign = _TONES[mark[0]]
    return (
        f"<rect x='{x + 2:g}' y='{y + 2:g}' width='{wide - 4}' height='{high - 4}' rx='5' "
        f"fill='{ground}'/>"
        + _lines(x + 10, y + high / 2, [sign], ink, **_BOLD)
        + _lines(x + 28, y + high / 2, wrap(mark[1], 17)[:2], ink)
    )


def _lines(x: float, y: float, words: list[str], fill: str = INK, **more: str) -> str:
    """Lines of text, their middle at ``y``."""
    first = y + 4.5 - 8 * (len(words) - 1)
    return "".join(
        say(x, first + 16 * number, word, fill=fill, **more) for number, word in enumerate(words)
    )
