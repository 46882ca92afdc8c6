"""SQLite in the judge's own process: it gets a learner's script, which must do no harm there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from engineroom.witness.lite import Lite

_ENDLESS = "with recursive r(n) as (select 1 union all select n + 1 from r)"


def test_it_says_what_sqlite_says_and_forgets_everything() -> None:
    with closing(Lite()) as lite:
        assert lite.refusal("create table pier (n int); insert into pier values ('two')") == ""
        assert lite.has("pier")
        assert "syntax error" in lite.refusal("insert into pier valuez (1)")
    with closing(Lite()) as lite:
        assert not lite.has("pier")


@pytest.mark.parametrize("statement", ["attach '{0}' as other", "vacuum into '{0}'"])
def test_no_script_touches_a_file(tmp_path: Path, statement: str) -> None:
    file = tmp_path / "stolen.db"
    with closing(Lite()) as lite:
        assert "no PRAGMA or ATTACH" in lite.refusal(statement.format(file))
    assert not file.exists()


@pytest.mark.parametrize("statement", ["pragma foreign_keys = on", "select load_extension('x')"])
def test_no_script_changes_the_rules(statement: str) -> None:
    with closing(Lite()) as lite:
        assert "no PRAGMA or ATTACH" in lite.refusal(statement)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        (f"{_ENDLESS} select count(*) from r", "interrupted"),
        (f"create table t (b); {_ENDLESS} insert into t select randomblob(9000) from r", "full"),
        ("select zeroblob(1000000000)", "too big"),
        ("select 1\0", "null character"),
        ("select '\ud800'", "surrogates"),
    ],
)
def test_what_wants_too_much_is_refused(script: str, word: str) -> None:
    with closing(Lite()) as lite:
        assert word in lite.refusal(script)
