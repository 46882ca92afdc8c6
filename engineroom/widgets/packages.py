"""The package tree: what comes along with what one installs, and who asks for one package of it.

Read from the metadata of the environment that runs it; nothing is downloaded or asked elsewhere.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Nearly everything asks for these, on some Pythons and not on others: they would hide the rest.
_LEFT_OUT = ("typing-extensions",)


@dataclass
class _Package:
    """One distribution: what it asks for, each with the extra that made it ask (or "")."""

    name: str
    version: str
    asks: dict[str, str] = field(default_factory=dict)
    column: int = 0


class PackageTree:
    """What ``wanted`` bring along, as one would type them after ``pip install``."""

    def __init__(self, who: str, *wanted: str) -> None:
        self.who = str(canonicalize_name(who))
        self.wanted = wanted
        self._packages: dict[str, _Package] = {}
        self._followed: set[tuple[str, str]] = set()
        self._roots: list[str] = []
        for line in wanted:
            asked = Requirement(line)
            name = self._add(asked.name, asked.extras)
            if name not in self._roots:
                self._roots.append(name)
        for name in self._roots:
            self._place((name,))

    def _add(self, name: str, extras: set[str]) -> str:
        key = str(canonicalize_name(name))
        found = self._packages.get(key)
        if found is None:
            found = self._packages[key] = _Package(key, _version(key))
            self._follow(found, "")
        for extra in sorted(extras):
            self._follow(found, extra)
        return key

    def _follow(self, package: _Package, extra: str) -> None:
        if (package.name, extra) in self._followed:  # an extra may ask for itself
            return
        self._followed.add((package.name, extra))
        try:
            lines = metadata.requires(package.name) or []
        except metadata.PackageNotFoundError:
            return
        for asked in map(Requirement, lines):
            anyway = asked.marker is None or asked.marker.evaluate({"extra": ""})
            wanted = asked.marker is None or asked.marker.evaluate({"extra": extra})
            key = str(canonicalize_name(asked.name))
            if key in _LEFT_OUT or not wanted or (anyway and extra):
                continue
            if key != package.name:
                package.asks.setdefault(key, extra)
            self._add(asked.name, asked.extras)

    def _place(self, way: tuple[str, ...]) -> None:
        """To the right of everybody who asks for it; a ring of requirements ends where it began."""
        package = self._packages[way[-1]]
        package.column = max(package.column, len(way) - 1)
        for asked in package.asks:
            if asked not in way:
                self._place((*way, asked))

    # -- what one sees ---------------------------------------------------------------------

    def asked_by(self) -> list[str]:
        """Who asks for the package that is looked for, with the extra that makes it ask."""
        asking = [
            f"{package.name}[{extra}]" if extra else package.name
            for package in self._packages.values()
            for asked, extra in package.asks.items()
            if asked == self.who
        ]
        return asking + ["you"] * (self.who in self._roots)

    def _answer(self) -> str:
        asking = self.asked_by()
        return f"{self.who}: " + (
            f"asked for by {' and '.join(sorted(asking))}" if asking else "nobody asks for it"
        )

    def __repr__(self) -> str:
        width = max(len(_label(package)) for package in self._packages.values())
        lines = []
        for package in self._packages.values():
            asks = ", ".join(
                f"{name} (with [{extra}])" if extra else name
                for name, extra in sorted(package.asks.items())
            )
            star = "*" if package.name in self._roots else " "
            lines.append(
                f"{star} {_label(package):<{width}}  {'→ ' if asks else ''}{asks}".rstrip()
            )
        return "\n".join([*lines, "", f"* you ask for it.  {self._answer()}"])

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.svg().encode()).decode()
        return (
            "<figure style='margin:.4em 0'>"
            f"<img src='data:image/svg+xml;base64,{data}' alt='{escape(self._spoken())}' "
            "style='max-width:100%'>"
            "<figcaption><details><summary>The same in text</summary>"
            f"<pre>{escape(repr(self))}</pre></details></figcaption></figure>"
        )

    def _spoken(self) -> str:
        parts = [f"You ask for {', '.join(self.wanted)}."]
        parts += [
            f"{package.name} asks for {', '.join(sorted(package.asks))}."
            for package in self._packages.values()
            if package.asks
        ]
        return " ".join([*parts, f"{self._answer()}."])

    def _columns(self) -> list[list[_Package]]:
        """Top to bottom so that lines cross little: next to those who ask."""
        columns: list[list[_Package]] = []
        for number in range(max(p.column for p in self._packages.values()) + 1):
            members = [p for p in self._packages.values() if p.column == number]
            if columns:
                rows = {p.name: row for column in columns for row, p in enumerate(column)}
                members.sort(key=lambda package: (self._middle(package.name, rows), package.name))
            columns.append(members)
        return columns

    def _middle(self, name: str, rows: dict[str, int]) -> float:
        asking = [
            rows[p.name] for p in self._packages.values() if name in p.asks and p.name in rows
        ]
        return sum(asking) / len(asking) if asking else 0.0

    def svg(self) -> str:
        """The picture: dark on a light ground of its own, so it reads on any."""
        wide, high, gap, top = 192, 42, 110, 16
        columns = self._columns()
        tallest = max(map(len, columns))
        height, width = top + high * tallest + 34, (wide + gap) * max(len(columns), 2) - gap + 32
        places = {
            package.name: (
                16 + (wide + gap) * number,
                top + high * (row + (tallest - len(column)) / 2) + 4,
            )
            for number, column in enumerate(columns)
            for row, package in enumerate(column)
        }
        lines: list[str] = []
        boxes: list[str] = []
        for package in self._packages.values():
            x, y = places[package.name]
            for asked, extra in package.asks.items():
                to = places[asked]
                bold = asked == self.who
                lines.append(_line(x + wide, y + 16, to[0], to[1] + 16, bold, extra))
            boxes.append(_box(x, y, wide, package, package.name in self._roots, self.who))
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height:g}' "
            f"width='{width}' height='{height:g}' font-family='sans-serif' font-size='13' "
            f"fill='#1c232b'><title>{escape(self._spoken())}</title>"
            f"<rect width='{width}' height='{height:g}' rx='8' fill='#ffffff'/>"
            f"{''.join(sorted(lines, key=lambda line: 'b4231f' in line))}{''.join(boxes)}"
            f"<text x='16' y='{height - 12:g}' fill='#4a5460'>blue: you ask for it.   "
            f"{escape(self._answer())}</text></svg>"
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not here"


def _label(package: _Package) -> str:
    return f"{package.name} {package.version}"


def _line(x: float, y: float, to_x: float, to_y: float, bold: bool, extra: str) -> str:
    colour, width = ("#b4231f", 3) if bold else ("#9aa5b1", 1.5)
    bend = (to_x - x) / 2
    curve = f"M{x:g} {y:g}C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}"
    drawn = f"<path d='{curve}' fill='none' stroke='{colour}' stroke-width='{width}'/>"
    if extra:
        drawn += (
            f"<text x='{(x + to_x) / 2:g}' y='{(y + to_y) / 2 - 7:g}' text-anchor='middle' "
            f"fill='{'#a3271f' if bold else '#4a5460'}'>[{escape(extra)}]</text>"
        )
    return drawn


def _box(x: float, y: float, wide: float, package: _Package, root: bool, who: str) -> str:
    edge = "#b4231f" if package.name == who else "#2459b3" if root else "#9aa5b1"
    fill = "#fbeaea" if package.name == who else "#e3ecfb" if root else "#ffffff"
    name = escape(package.name)
    return (
        f"<rect x='{x:g}' y='{y:g}' width='{wide:g}' height='32' rx='6' fill='{fill}' "
        f"stroke='{edge}' stroke-width='1.5'/>"
        f"<text x='{x + 10:g}' y='{y + 21:g}'><tspan font-weight='bold'>{name}</tspan>"
        f"<tspan dx='6' fill='#4a5460'>{escape(package.version)}</tspan></text>"
    )


def who_asks(who: str, *wanted: str) -> PackageTree:
    """Draw what comes along with ``wanted``, and who of it asks for ``who``."""
    return PackageTree(who, *wanted)
