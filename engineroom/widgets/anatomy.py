"""The URL anatomy: a database URL in its parts, as SQLAlchemy reads it, its secrets hidden.

With a living kernel there is a field to type into; a saved notebook keeps the picture, and a
terminal the table. What is typed goes nowhere: nothing is connected, and no secret is shown.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from sqlalchemy import URL, make_url

HIDDEN = "•••"

# Part, colour on white, colour on JupyterLab's dark grey: at least 4.5 to 1 each, and the part's
# name always stands beside its colour.
_COLOURS = {
    "scheme": ("#7a3ea8", "#cfa3f0"),
    "driver": ("#2459b3", "#8ab4ff"),
    "user": ("#1a6b3c", "#6fd39b"),
    "password": ("#a3271f", "#ff968f"),
    "host": ("#7a5200", "#f0c060"),
    "port": ("#0b6675", "#66cfe0"),
    "database": ("#8a2b66", "#f29bcd"),
    "query": ("#4a5460", "#b9c3ce"),
}

_STYLE = """<style>
.er-url { margin: .4em 0; line-height: 1.6; max-width: 60em; }
.er-url p { margin: .2em 0; }
.er-url .er-whole { font-family: var(--jp-code-font-family, monospace); overflow-wrap: anywhere; }
.er-url table { border-collapse: collapse; margin: .4em 0; }
.er-url th, .er-url td { text-align: left; padding: .1em .9em .1em 0; background: none; }
.er-url span.er-part, .er-url th { color: var(--er-light); font-weight: 600; }
[data-jp-theme-light="false"] .er-url span.er-part,
[data-jp-theme-light="false"] .er-url th { color: var(--er-dark); }
@media (prefers-color-scheme: dark) {
  :root:not([data-jp-theme-light]) body:not([data-jp-theme-light]) .er-url span.er-part,
  :root:not([data-jp-theme-light]) body:not([data-jp-theme-light]) .er-url th {
    color: var(--er-dark); } }
</style>"""


@cache
def _keys_of_libpq() -> frozenset[str]:
    try:
        from psycopg import pq

        return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
    except ImportError:
        return frozenset()


@cache
def _keys_of_asyncpg() -> frozenset[str]:
    try:
        import asyncpg

        return frozenset(inspect.signature(asyncpg.connect).parameters)
    except ImportError:
        return frozenset()


def _who_knows(key: str) -> str:
    """Which driver takes this key in SQLAlchemy's URL."""
    known = [
        name
        for name, keys in (("asyncpg", _keys_of_asyncpg()), ("psycopg", _keys_of_libpq()))
        if key in keys
    ]
    return (
        f"{' and '.join(known)} know{'s' if len(known) == 1 else ''} it"
        if known
        else "no driver knows it"
    )


@dataclass(frozen=True)
class Part:
    """One piece of a URL: which it is, what to show, what to say of it."""

    name: str
    shown: str
    remark: str = ""
    before: str = ""
    """The signs between it and the part before."""


def parts_of(url: str) -> tuple[list[Part], str]:
    """The parts as SQLAlchemy reads them, and what is wrong when it cannot."""
    if not url.strip():
        return [], "Type or paste a URL."
    try:
        made = make_url(url)
    except Exception as error:
        # Its words may hold a piece of the password, so only the kind is told.
        several = "," in url.partition("?")[0]
        return [], f"SQLAlchemy cannot read this as a URL ({type(error).__name__})." + (
            " Several hosts go into the query: ?host=first:5432&host=second:5432." * several
        )
    return [*_address(made), *_query(made)], _doubts(made)


def _address(made: URL) -> list[Part]:
    scheme, plus, driver = made.drivername.partition("+")
    parts = [Part("scheme", scheme)]
    if plus:
        parts.append(Part("driver", driver, before="+"))
    between = "://"
    if made.username is not None:
        parts.append(Part("user", made.username, before=between))
        between = "@"
    if made.password is not None:
        parts.append(Part("password", HIDDEN, "hidden here, not in the URL", ":"))
    if made.host is not None:
        host, twice, _ = made.host.rpartition("@")
        # Before the last @ stands what was meant as the rest of a password.
        shown = f"{HIDDEN}@{made.host.rpartition('@')[2]}" if twice and host else made.host
        parts.append(Part("host", shown, before=between))
        between = ""
    if made.port is not None:
        parts.append(Part("port", str(made.port), before=":"))
    if made.database is not None:
        parts.append(Part("database", made.database, before=f"{between}/"))
    return parts


def _query(made: URL) -> list[Part]:
    parts: list[Part] = []
    for key, values in made.query.items():
        for value in (values,) if isinstance(values, str) else values:
            shown = HIDDEN if "password" in key.lower() else value
            between = "&" if parts else "?"
            parts.append(Part("query", f"{key}={shown}", _who_knows(key), between))
    return parts


def _doubts(made: URL) -> str:
    if "@" in (made.host or ""):
        return "The host holds an @: it was meant for the password, and should be %40 there."
    if "," in (made.host or ""):
        return "SQLAlchemy reads this as one host with a comma in its name."
    if made.drivername != made.drivername.lower():
        return "SQLAlchemy looks for a driver of exactly this spelling, and there is none."
    if (made.database or "") != (made.database or "").strip():
        return "A blank or a line break belongs to the database's name."
    return ""


class Anatomy:
    """A URL in its parts. In a notebook one can type another."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {}
        field = self._field()
        if field is not None:
            bundle |= field._repr_mimebundle_()
        return bundle | {"text/plain": repr(self), "text/html": self._as_html(self._url)}

    def _field(self) -> Any:
        try:
            import ipywidgets
        except ImportError:
            return None
        typed = ipywidgets.Text(
            value=self._url, description="URL", layout={"width": "100%", "max_width": "60em"}
        )
        drawn = ipywidgets.HTML(self._as_html(self._url))

        def changed(change: dict[str, Any]) -> None:
            drawn.value = self._as_html(change["new"])

        typed.observe(changed, "value")
        return ipywidgets.VBox([typed, drawn])

    @staticmethod
    def _as_html(url: str) -> str:
        parts, doubt = parts_of(url)
        whole = "".join(
            f"{escape(part.before)}<span class='er-part' style='{_colours(part)}'>"
            f"{escape(part.shown)}</span>"
            for part in parts
        )
        rows = "".join(
            f"<tr><th scope='row' style='{_colours(part)}'>{part.name}</th>"
            f"<td><code>{escape(part.shown)}</code></td><td>{escape(part.remark)}</td></tr>"
            for part in parts
        )
        said = f"<p class='er-whole'>{whole}</p>" if parts else ""
        said += f"<table><tbody>{rows}</tbody></table>" if parts else ""
        said += f"<p>⚠ {escape(doubt)}</p>" if doubt else ""
        return f"{_STYLE}<div class='er-url'>{said}</div>"

    def __repr__(self) -> str:
        parts, doubt = parts_of(self._url)
        lines = ["".join(part.before + part.shown for part in parts)] if parts else []
        width = max((len(part.shown) for part in parts), default=0)
        lines += [f"{p.name:>10}  {p.shown:<{width}}  {p.remark}".rstrip() for p in parts]
        return "\n".join([*lines, *([doubt] if doubt else [])])


def _colours(part: Part) -> str:
    light, dark = _COLOURS[part.name]
    return f"--er-light:{light};--er-dark:{dark}"


def anatomy(url: str = "") -> Anatomy:
    """Show a database URL in its parts: scheme, driver, user, host, port, database, query."""
    return Anatomy(url)
