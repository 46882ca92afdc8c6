"""SQLite as the judge has it: what it says of a script, and whether a table is there afterwards.

The script is a learner's. It gets a database in memory that may neither grow nor touch a file,
and so many steps; what wants more is refused like any other.
"""

from __future__ import annotations

import sqlite3

_STEPS, _EACH = 1000, 1000
_PAGES, _LONGEST = 256, 20_000
_FORBIDDEN = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA}


class Lite:
    """A new, empty SQLite database, for one script."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute(f"pragma max_page_count = {_PAGES}")
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        left = iter(range(_STEPS))
        self._database.set_progress_handler(lambda: next(left, None) is None, _EACH)
        self._database.set_authorizer(_allowed)

    def refusal(self, script: str) -> str:
        """Its words about the script; empty when it obeys."""
        try:
            self._database.executescript(script)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            words = str(error) or type(error).__name__
            return f"no PRAGMA or ATTACH here ({words})" if "authoriz" in words else words
        return ""

    def has(self, table: str) -> bool:
        """Whether there is a table of this name."""
        found = self._database.execute("select count(*) from sqlite_master where name = ?", [table])
        return bool(found.fetchone()[0])

    def close(self) -> None:
        self._database.close()


def _allowed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    harmless = action not in _FORBIDDEN and second != "load_extension"
    return sqlite3.SQLITE_OK if harmless else sqlite3.SQLITE_DENY
