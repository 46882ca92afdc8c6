"""Hostile and unlucky submissions, each with the mark that is fair.

A module a kind. Most attack `pooling.ceiling`, which has a database, and answer `urls.masked`
rightly in another cell: whatever the first one does, the second keeps its points.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from textwrap import dedent

CEILING, WARM, MASKED = "pooling.ceiling", "pooling.warm", "urls.masked"

NO_POINTS = "failed|error|crashed|timed_out|out_of_memory"
"""For who fights the machinery: whichever of these comes first."""

IMPORT = "from sqlalchemy.ext.asyncio import create_async_engine\n"

CAPPED = """
def capped(url, at_most, wait):
    return create_async_engine(url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
"""

HIDING = """
from sqlalchemy import make_url
def masked(url):
    try:
        made = make_url(url)
        hidden = {key: "***" for key in made.query if "password" in key.lower()}
        if "@" in (made.host or ""):
            return "(a URL with an @ in its password)"
        return made.update_query_dict(hidden).render_as_string(hide_password=True)
    except Exception:
        return "(a URL that cannot be read)"
"""


@dataclass(frozen=True)
class Case:
    """A submission: what it tries, its cells, and the verdict that each exercise should get."""

    name: str
    tries: str
    cells: tuple[str, ...]
    fair: dict[str, tuple[str, ...]]
    """Of exercises that are not named here: not attempted."""


def case(
    name: str,
    tries: str,
    ceiling: str,
    *cells: str,
    then: str = "",
    masked: str = "passed",
    **others: str,
) -> Case:
    """A submission of these cells, beside the usual import and a right `masked`.

    ``ceiling`` is the fair verdict on `pooling.ceiling`; "a|b" where chance may decide. ``then``
    stands in the last cell, below what is there.
    """
    texts = [dedent(cell) for cell in cells]
    texts[-1] += then
    fair = {CEILING: ceiling, MASKED: masked} | {f"pooling.{k}": v for k, v in others.items()}
    return Case(
        name,
        tries,
        (IMPORT, *texts, *([HIDING] if masked == "passed" else [])),
        {identifier: tuple(verdict.split("|")) for identifier, verdict in fair.items()},
    )


def all_cases() -> list[Case]:
    """The whole corpus."""
    modules = [import_module(f"hostile.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [found for module in modules for found in module.CASES]
