"""A grid of attempts: what was tried against what, and what came of each, drawn from the run.

Each field has a sign and words beside its colour, and the whole is there as text too.
"""

from __future__ import annotations

import base64
from html import escape
from textwrap import wrap
from typing import Literal

Tone = Literal["good", "bad", "plain"]

# Ground, ink and sign: dark ink on a light ground, at least 7 to 1.
_TONES = {
    "good": ("#e3f4e8", "#14532d", "✓"),
    "bad": ("#fde7e5", "#7f1d1d", "✗"),
    "plain": ("#eef1f5", "#1c232b", "○"),
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
        """An image with words beside it: where images are not trusted, the words remain."""
        data = base64.b64encode(self.svg().encode()).decode()
        return (
            "<figure style='margin:.4em 0'>"
            f"<img src='data:image/svg+xml;base64,{data}' alt='{escape(self._spoken())}' "
            "style='max-width:100%'>"
            "<figcaption><details><summary>The same in text</summary>"
            f"<pre>{escape(repr(self))}</pre></details></figcaption></figure>"
        )

    def svg(self) -> str:
        """The picture: dark on a light ground of its own, so it reads on any."""
        left, wide, high, top = 120, 148, 46, 50
        width = left + wide * len(self.columns) + 10
        height = top + high * len(self._marks) + 10
        parts = [f"<rect width='{width}' height='{height}' rx='8' fill='#ffffff'/>"]
        bold = " font-weight='bold'"
        parts.append(_lines(14, 29, [self.corner], fill="#4a5460"))
        for number, column in enumerate(self.columns):
            words = wrap(column, 16)[:2]
            parts.append(_lines(left + wide * number + 10, 29, words, more=bold))
        for row, (name, marks) in enumerate(self._marks.items()):
            y = top + high * row
            parts.append(_lines(14, y + 22, wrap(name, 15)[:2], more=bold))
            for number, column in enumerate(self.columns):
                if column in marks:
                    parts.append(_field(left + wide * number, y, wide, high, marks[column]))
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
            f"width='{width}' height='{height}' font-family='sans-serif' font-size='13' "
            f"fill='#1c232b'><title>{escape(self._spoken())}</title>{''.join(parts)}</svg>"
        )


def _field(x: float, y: float, wide: int, high: int, mark: tuple[Tone, str]) -> str:
    ground, ink, sign = _TONES[mark[0]]
    return (
        f"<rect x='{x + 2:g}' y='{y + 2:g}' width='{wide - 4}' height='{high - 4}' rx='5' "
        f"fill='{ground}'/>"
        + _lines(x + 10, y + high / 2, [sign], fill=ink, more=" font-weight='bold'")
        + _lines(x + 28, y + high / 2, wrap(mark[1], 17)[:2], fill=ink)
    )


def _lines(x: float, y: float, words: list[str], *, fill: str = "#1c232b", more: str = "") -> str:
    """Lines of text, their middle at ``y``."""
    first = y + 4.5 - 8 * (len(words) - 1)
    return "".join(
        f"<text x='{x:g}' y='{first + 16 * number:g}' fill='{fill}'{more}>{escape(word)}</text>"
        for number, word in enumerate(words)
    )
