"""``python -m benchmarks [--json] [PART ...]``: print every figure beside its yardstick."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import checks, course, grading, newcomer, servers
from benchmarks.measure import Row

PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "servers": servers.rows,
    "checks": checks.rows,
    "course": course.rows,
    "grading": grading.rows,
    "newcomer": newcomer.rows,
}


def bench(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(PARTS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write bench.json too.")] = False,
) -> None:
    """Measure; nothing is asserted, the table says what holds."""
    console = Console()
    unknown = [name for name in parts or () if name not in PARTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    found = []
    for name in parts or PARTS:
        with console.status(f"measuring {name}"):
            found += list(PARTS[name]())
    console.print(_table(found))
    if as_json:
        Path("bench.json").write_text(
            json.dumps(
                {"cores": os.cpu_count(), "rows": [row.as_plain() for row in found]}, indent=2
            )
            + "\n"
        )


def _table(found: list[Row]) -> Table:
    table = Table(title="Engine Room, measured")
    table.add_column("what")
    for heading in ("figure", "budget", "yardstick", "ratio", "at most"):
        table.add_column(heading, justify="right")
    table.add_column("holds")
    for row in found:
        table.add_row(
            row.what,
            f"{row.figure:.3g} {row.unit}",
            f"{row.budget:g} {row.unit}" if row.budget is not None else "",
            f"{row.yardstick}: {row.yardstick_figure:.3g} {row.unit}",
            f"{row.ratio:.2f}",
            f"{row.ratio_budget:g}" if row.ratio_budget is not None else "",
            "yes" if row.holds else "NO",
        )
    return table


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(bench)
    app()
