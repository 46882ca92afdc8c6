"""Who is in the class: a CSV as a school's system exports it, or as somebody typed it."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import EngineRoomError


@dataclass(frozen=True)
class Person:
    """Somebody who is expected to hand in."""

    learner: str
    """What their submission is called, as far as the roster knows."""
    name: str = ""
    login: str = ""
    number: str = ""
    """The school's own id: SIS User ID in Canvas, ID number in Moodle."""
    email: str = ""
    canvas_id: str = ""
    section: str = ""
    line: int = 0

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """What a submission of theirs may be called, the surest first."""
        return (
            (plain(self.learner), plain(self.login)),
            (plain(self.number),),
            (plain(self.email), plain(self.canvas_id)),
            (plain(self.name), *_other_orders(self.name)),
        )


@dataclass(frozen=True)
class Roster:
    """The people, in the order of the file."""

    people: tuple[Person, ...]

    def match(self, learners: Iterable[str]) -> dict[str, Person]:
        """Who is who. A name that two people answer to is nobody's, and nobody hands in twice."""
        found: dict[str, Person] = {}
        taken: set[Person] = set()
        waiting = sorted(learners)
        for level in range(4):
            owners: dict[str, set[Person]] = {}
            for person in self.people:
                for key in filter(None, person.keys[level]):
                    owners.setdefault(key, set()).add(person)
            claims: dict[Person, list[str]] = {}
            for learner in waiting:
                people = owners.get(plain(learner), set()) - taken
                if len(people) == 1:
                    claims.setdefault(next(iter(people)), []).append(learner)
            for person, claimants in claims.items():
                exact = [learner for learner in claimants if learner == person.learner]
                if len(claimants) == 1 or exact:
                    found[(exact or claimants)[0]] = person
                    taken.add(person)
            waiting = [learner for learner in waiting if learner not in found]
        return found


def plain(text: str) -> str:
    """A name as it is compared: no case, one kind of blank, one way to write each letter."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _other_orders(name: str) -> Iterator[str]:
    """``Ada Lovelace`` is also ``Lovelace, Ada``, and ``lovelaceada`` in what Canvas packs."""
    before, comma, after = name.partition(",")
    words = [*after.split(), *before.split()] if comma else name.split()
    if len(words) > 1:
        yield plain(" ".join(words))
        yield plain(f"{words[-1]}, {' '.join(words[:-1])}")
        yield plain("".join([words[-1], *words[:-1]]))


# -- reading -------------------------------------------------------------------------------

# Names of columns without case, blanks and signs; of several that occur, the first counts.
_LEARNER = ("learner", "submission", "folder", "account")
_LOGIN = ("login", "loginid", "sisloginid", "username", "user", "userid", "netid")
_NUMBER = ("idnumber", "sisuserid", "sisid", "studentid", "studentnumber", "matriculation")
_EMAIL = ("email", "emailaddress", "mail", "emailadress")
_NAME = ("name", "fullname", "student", "studentname", "displayname", "learnername")
_FIRST, _LAST = ("firstname", "givenname", "first"), ("lastname", "surname", "familyname", "last")
_CANVAS = ("canvasid", "canvasuserid", "canvas")
_SECTION = ("section", "sections", "group", "groups", "class")


def read_roster(path: Path) -> Roster:
    """The people of a CSV file: commas, semicolons or tabs, with or without a BOM."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EngineRoomError(
            f"The roster {path} cannot be opened: {error.strerror}.", "check the path of --roster"
        ) from error
    except UnicodeDecodeError as error:
        raise EngineRoomError(
            f"The roster {path} is not in UTF-8.", "save it as: CSV UTF-8 (comma delimited)"
        ) from error
    header = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    try:
        return Roster(tuple(_people(path, rows)))
    except csv.Error as error:
        raise EngineRoomError(
            f"Line {rows.line_num + 1} of the roster {path} is no CSV: {error}.", "mend that line"
        ) from error


def _people(path: Path, rows: csv.DictReader[str]) -> Iterator[Person]:
    columns = {re.sub(r"[\W_]", "", plain(name)): name for name in reversed(rows.fieldnames or ())}
    # In an export of Canvas, ID is Canvas' own; anywhere else it is the school's.
    canvas = "student" in columns and "section" in columns
    of_canvas = (*_CANVAS, "id") if canvas else _CANVAS
    number = _NUMBER if canvas else (*_NUMBER, "id")
    known = {*_LEARNER, *_LOGIN, *number, *_EMAIL, *_NAME, *of_canvas}
    if not known & set(columns):
        raise EngineRoomError(
            f"The roster {path} has no column that says who a learner is; it has "
            f"{', '.join(rows.fieldnames or ()) or 'none at all'}.",
            "name one of its columns learner",
        )
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        line = rows.line_num

        def cell(names: tuple[str, ...], row: dict[str, str] = row) -> str:
            found = (columns[name] for name in names if name in columns)
            return next(filter(None, (" ".join((row[n] or "").split()) for n in found)), "")

        name = cell(_NAME) or f"{cell(_FIRST)} {cell(_LAST)}".strip()
        if "points possible" in name.casefold():  # a row of Canvas' own
            continue
        person = Person(
            learner=cell((*_LEARNER, *_LOGIN, *number, *_EMAIL)) or cell(of_canvas) or name,
            name=name,
            login=cell(_LOGIN),
            number=cell(number),
            email=cell(_EMAIL),
            canvas_id=cell(of_canvas),
            section=cell(_SECTION),
            line=line,
        )
        if not person.learner:
            continue
        for what in ("learner", "number", "email", "canvas_id"):
            key = (what, plain(getattr(person, what)))
            if key[1] and seen.setdefault(key, line) != line:
                raise EngineRoomError(
                    f"Line {line} of the roster {path} has {getattr(person, what)!r} again, which "
                    f"is on line {seen[key]}.",
                    "keep one of the two lines",
                )
        yield person
