"""The sizing curve: what all pools together ask for, what the server gives, and where it breaks."""

from __future__ import annotations

from dataclasses import dataclass

from engineroom.widgets.figure import BLUE, LINE, RED, SOFT, figure, say, svg, table


@dataclass(frozen=True)
class SizingCurve:
    """``given[n]``: how many connections the server gave when each pool held ``n + 1``."""

    processes: int
    given: list[int]

    @property
    def asked(self) -> list[int]:
        """What all pools asked for, step by step."""
        return [self.processes * (number + 1) for number in range(len(self.given))]

    @property
    def breaks_at(self) -> int | None:
        """The first number of connections a pool at which somebody was refused."""
        pairs = enumerate(zip(self.asked, self.given, strict=True), start=1)
        return next((each for each, (asked, given) in pairs if given < asked), None)

    def __repr__(self) -> str:
        rows = [
            ["connections a pool", *(str(n + 1) for n in range(len(self.given)))],
            ["asked for by all", *map(str, self.asked)],
            ["given by Postgres", *map(str, self.given)],
        ]
        return f"{table(rows)}\n\n{self._verdict()}"

    def _verdict(self) -> str:
        if self.breaks_at is None:
            return "Nobody was refused."
        asked, given = self.asked[self.breaks_at - 1], self.given[self.breaks_at - 1]
        return f"It breaks at {self.breaks_at} a pool: {asked} asked for, {given} given."

    def _spoken(self) -> str:
        pairs = zip(self.asked, self.given, strict=True)
        steps = [f"{asked} asked for, {given} given" for asked, given in pairs]
        return f"{self.processes} pools. {'; '.join(steps)}. {self._verdict()}"

    def _repr_html_(self) -> str:
        return figure(self.svg(), self._spoken(), repr(self))

    def svg(self) -> str:
        """Two lines that are one until they part; where they part is marked."""
        left, bottom, wide, high, step = 66, 250, 560, 190, 560 / len(self.given)
        most = max(self.asked)

        def at(number: int, value: int) -> tuple[float, float]:
            return left + step * (number + 1) - step / 2, bottom - high * value / most

        def line(values: list[int]) -> str:
            return "M" + "L".join("{:.1f} {:.1f}".format(*at(n, v)) for n, v in enumerate(values))

        parts = [
            (
                f"<path d='M{left} {bottom - high - 14}V{bottom}H{left + wide}' fill='none' "
                f"stroke='{LINE}'/>"
            ),
            say(14, 24, "connections"),
            say(left + wide, bottom + 38, "connections a pool", text_anchor="end"),
        ]
        for number, asked in enumerate(self.asked):
            x, y = at(number, asked)
            parts.append(say(x, bottom + 18, str(number + 1), text_anchor="middle"))
            parts.append(say(left - 8, y + 4, str(asked), text_anchor="end", fill=SOFT))
            parts.append(f"<path d='M{left - 4} {y:.1f}h4' stroke='{LINE}'/>")
        parts.append(
            f"<path d='{line(self.asked)}' fill='none' stroke='{RED}' stroke-width='2' "
            "stroke-dasharray='6 4'/>"
        )
        parts.append(f"<path d='{line(self.given)}' fill='none' stroke='{BLUE}' stroke-width='3'/>")
        for number, given in enumerate(self.given):
            x, y = at(number, given)
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{BLUE}'/>")
        x, y = at(len(self.asked) - 1, self.asked[-1])
        parts.append(say(x - 8, y - 8, "asked for", text_anchor="end", fill=RED))
        x, y = at(len(self.given) - 1, self.given[-1])
        parts.append(say(x, y + 22, "given", text_anchor="middle", fill=BLUE))
        if self.breaks_at is not None:
            x, y = at(self.breaks_at - 1, self.given[self.breaks_at - 1])
            parts.append(
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='10' fill='none' stroke='{RED}' "
                "stroke-width='2.5'/>"
            )
        parts.append(say(left, bottom + 58, self._verdict(), font_weight="bold"))
        return svg(left + wide + 20, bottom + 74, self._spoken(), parts)
