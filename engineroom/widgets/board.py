"""The progress board: what is done, by lesson and by skill, as a table with bars."""

from __future__ import annotations

from html import escape

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.progress import Progress
from engineroom.exercises.standing import Share, Standing, standing
from engineroom.lab.places import find_places

_STYLE = """<style>
.er-board { border-collapse: collapse; line-height: 1.6; }
.er-board caption { text-align: left; font-weight: 600; padding: .4em 0 .2em; }
.er-board th, .er-board td { text-align: left; padding: 0 1em 0 0; font-weight: normal; }
.er-board .er-bar { width: 9em; height: .7em; border: 1px solid currentColor; border-radius: 2px; }
.er-board .er-bar div { height: 100%; background: #4a7fd6; }
</style>"""


class Board:
    """A standing as a notebook shows it; where there is no HTML, as lines."""

    def __init__(self, now: Standing) -> None:
        self._now = now

    def __repr__(self) -> str:
        lines = []
        for title, shares in (("By lesson", self._now.lessons), ("By skill", self._now.skills)):
            lines += [title, *(f"  {share.name}: {_words(share)}" for share in shares)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _STYLE + "".join(
            _table(title, shares)
            for title, shares in (("By lesson", self._now.lessons), ("By skill", self._now.skills))
        )


async def board() -> Board:
    """What you have done so far, on this machine."""
    kept = Progress(find_places().home)
    try:
        return Board(standing(known_lessons(), await kept.all()))
    finally:
        await kept.close()


def _words(share: Share) -> str:
    return f"{share.done} of {share.total} exercises, {share.points:g} of {share.most:g} points"


def _table(title: str, shares: tuple[Share, ...]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(share.name)}</th>"
        f"<td><div class='er-bar' aria-hidden='true'>"
        f"<div style='width:{100 * share.points / share.most if share.most else 0:.0f}%'></div>"
        f"</div></td><td>{escape(_words(share))}</td></tr>"
        for share in shares
    )
    return (
        f"<table class='er-board'><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"
    )
