"""A row of the bench: a figure, its yardstick taken in the same run, and its budget."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One budget and how it was met. ``ratio_budget`` and ``budget`` both count where given."""

    what: str
    figure: float
    unit: str
    budget: float | None
    yardstick: str
    yardstick_figure: float
    ratio_budget: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.figure / self.yardstick_figure

    @property
    def holds(self) -> bool:
        return (self.budget is None or self.figure <= self.budget) and (
            self.ratio_budget is None or self.ratio <= self.ratio_budget
        )

    def as_plain(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(
    first: Callable[[], float], second: Callable[[], float], rounds: int
) -> tuple[float, float]:
    """Medians of two measurements taken in turn, so that a drifting machine hits both."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
