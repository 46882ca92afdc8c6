"""The heartbeat: whether an event loop goes on while something is done on it.

A task on the loop wakes up a hundred times a second and notes when. While the loop stands still it
cannot wake up, and the line is flat. The picture shows what was measured; its words tell only what
is the same at every run.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

_EVERY = 0.01
_MEASURED = "data:image/svg+xml;measured=1;base64,"
"""How the picture's address begins; the comparison of outputs leaves out what follows."""


@dataclass
class Lane:
    """One thing that was done: when it began and ended, and when the loop's heart beat."""

    label: str
    began: float = 0.0
    ended: float = 0.0
    beats: list[float] = field(default_factory=list)

    @property
    def length(self) -> float:
        return self.ended - self.began

    @property
    def silences(self) -> list[tuple[float, float]]:
        """From each beat to the next, counted from the beginning."""
        moments = [moment - self.began for moment in (self.began, *self.beats, self.ended)]
        return list(pairwise(moments))

    @property
    def silence(self) -> float:
        """The longest time without a beat, in seconds."""
        return max(end - start for start, end in self.silences)

    @property
    def stood_still(self) -> bool:
        """Whether one silence lasted for more than half of the time."""
        return self.silence > 0.5 * self.length

    @property
    def words(self) -> str:
        if self.stood_still:
            return "stood still for more than half of the time"
        return "went on beating"


class Heartbeat:
    """Measures an event loop; a lane for each thing that is done on it."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []

    @asynccontextmanager
    async def lane(self, label: str) -> AsyncIterator[Lane]:
        """Listen to the heart while the block runs."""
        lane = Lane(label)
        beating = asyncio.create_task(self._beat(lane))
        await asyncio.sleep(0)
        lane.began = time.perf_counter()
        try:
            yield lane
        finally:
            lane.ended = time.perf_counter()
            beating.cancel()
            lane.beats = [beat for beat in lane.beats if lane.began < beat < lane.ended]
            # Measured again, a lane takes its own place.
            self.lanes = [other for other in self.lanes if other.label != label] + [lane]

    @staticmethod
    async def _beat(lane: Lane) -> None:
        while True:
            lane.beats.append(time.perf_counter())
            await asyncio.sleep(_EVERY)

    def __getitem__(self, label: str) -> Lane:
        return next(lane for lane in self.lanes if lane.label == label)

    # -- what one sees ---------------------------------------------------------------------

    def __repr__(self) -> str:
        width = max((len(lane.label) for lane in self.lanes), default=0)
        return "\n".join(
            f"{'—' if lane.stood_still else '♥'} {lane.label:<{width}}  {lane.words}"
            for lane in self.lanes
        )

    def _spoken(self) -> str:
        return " ".join(f"{lane.label}: the loop {lane.words}." for lane in self.lanes)

    def _repr_html_(self) -> str:
        """An image with words beside it: where images are not trusted, the words remain."""
        data = base64.b64encode(self.svg().encode()).decode()
        return (
            "<figure style='margin:.4em 0'>"
            f"<img src='{_MEASURED}{data}' alt='{escape(self._spoken())}' style='max-width:100%'>"
            "<figcaption><details><summary>The same in text</summary>"
            f"<pre>{escape(repr(self))}</pre></details></figcaption></figure>"
        )

    def svg(self) -> str:
        """The picture: dark on a light ground of its own, so it reads on any."""
        left, wide, right, high, top = 200, 480, 110, 44, 34
        longest = max((lane.length for lane in self.lanes), default=1.0)
        scale = wide / longest
        foot = top + high * len(self.lanes)
        width, height = left + wide + right, foot + 30
        parts = [
            f"<rect width='{width}' height='{height}' rx='8' fill='#ffffff'/>",
            _say(width - 14, 22, "longest silence", "#4a5460", "end"),
        ]
        step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 1e9) if longest / s <= 8)
        for mark in range(int(longest / step) + 1):
            x = left + mark * step * scale
            parts.append(f"<path d='M{x:.1f} {top}V{foot}' stroke='#e3e8ee'/>")
            parts.append(_say(x, foot + 18, f"{mark * step:g} s", "#4a5460", "middle"))
        for row, lane in enumerate(self.lanes):
            y = top + high * (row + 0.5)
            parts += [_say(14, y + 4, lane.label, "#1c232b"), *_line(lane, left, y, scale)]
            colour = _FLAT if lane.stood_still else _BEATING
            parts.append(_say(width - 14, y + 4, f"{lane.silence:.2f} s", colour, "end"))
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
            f"width='{width}' height='{height}' font-family='sans-serif' font-size='13'>"
            f"<title>{escape(self._spoken())}</title>{''.join(parts)}</svg>"
        )


_BEATING, _FLAT = "#1a6b3c", "#b4231f"
_APART = 9.0
"""How far apart the peaks are at least: where they would melt into one, some are left out."""


def _say(x: float, y: float, words: str, fill: str, anchor: str = "start") -> str:
    at = f"x='{x:.1f}' y='{y:.1f}' fill='{fill}' text-anchor='{anchor}'"
    return f"<text {at}>{escape(words)}</text>"


def _line(lane: Lane, left: float, y: float, scale: float) -> list[str]:
    """A beat is a peak, and a silence that can be seen a flat line."""
    path, flat, drawn = [f"M{left} {y:g}"], "", left - _APART
    for start, end in lane.silences:
        x, until = left + start * scale, left + end * scale
        if x - drawn >= _APART:
            path.append(f"L{x:.1f} {y:g}l1.5 -12l2.5 19l1.5 -7")
            drawn = x
        if end - start > 5 * _EVERY and until - x > _APART:
            flat += f"M{x + 5.5:.1f} {y:g}H{max(x + 5.5, until):.1f}"
            drawn = min(drawn, until - _APART)
    path.append(f"L{max(left + lane.length * scale, drawn + 5.5):.1f} {y:g}")
    style = "fill='none' stroke-linejoin='round'"
    return [
        f"<path d='{''.join(path)}' {style} stroke='{_BEATING}' stroke-width='1.5'/>",
        f"<path d='{flat}' {style} stroke='{_FLAT}' stroke-width='4'/>",
    ]
