"""One notebook of a learner, as forgiving as sense allows: its code, and what that is meant for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engineroom.exercises.model import Exercise
from engineroom.exercises.sources import Cell, needed
from engineroom.grading.errors import UnreadableError
from engineroom.grading.skim import cells_in

CELL_LIMIT = 5_000
CODE_LIMIT = 1_000_000

_IMPORTED = re.compile(r"^[ \t]*from\s+checks\s+import\s+\(?([\w, \t]+)", re.MULTILINE)
_COPY = re.compile(
    r"\((\d+)\)|(?:^|[-_ ])(?:copy|kopie|copie|copia)(?:[-_ ]of)?[-_ ]*(\d*)|-(\d+)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Notebook:
    """Its code cells, and which exercises they say they answer."""

    name: str
    cells: tuple[Cell, ...]

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """The ids that its cells carry, of whatever version of the course."""
        return tuple(cell.exercise for cell in self.cells if cell.exercise)

    def lesson(self, known: Collection[str]) -> str | None:
        """The lesson it is, by its cells' ids, by what it imports, by its file's name.

        Where all of that was taken away and the lessons themselves are given, by the answers
        that it holds.
        """
        marked = [mark.partition(".")[0] for mark in self.marks]
        for found in (marked, self._imported()):
            here = [lesson for lesson in found if lesson in known]
            if here:
                return max(sorted(set(here)), key=here.count)
        return lesson_named(self.name, known) or self._by_answers(known)

    def _imported(self) -> list[str]:
        groups = [group for cell in self.cells for group in _IMPORTED.findall(cell.source)]
        return [word for group in groups for word in re.findall(r"\w+", group)]

    def _by_answers(self, known: Collection[str]) -> str | None:
        if not isinstance(known, Mapping):
            return None
        score = {
            name: sum(self.answers(exercise) for exercise in lesson.exercises.values())
            for name, lesson in known.items()
        }
        best = max(score.values(), default=0)
        those = [name for name, count in score.items() if count == best and best]
        return those[0] if len(those) == 1 else None

    def answers(self, exercise: Exercise) -> bool:
        """Whether somebody has written an answer to the exercise in it."""
        return bool(needed(self.cells, exercise.answer, exercise.id))

    @property
    def age(self) -> tuple[int, list[tuple[int, str]]]:
        """Later copies sort later: ``x.ipynb``, ``x (1).ipynb``, ``x-Copy2.ipynb``."""
        stem = self.name.lower().partition(".ipynb")[0]
        found = _COPY.search(stem)
        number = int(next((g for g in found.groups() if g), "1")[:9]) if found else 0
        parts = re.findall(r"(\d{1,9})|(\D+)", stem)
        return number, [(int(digits or 0), letters) for digits, letters in parts]


def lesson_named(name: str, known: Collection[str]) -> str | None:
    """The lesson that a file's name speaks of: ``Copy of 04_pooling (1).ipynb``."""
    plain = re.sub(r"[^\w.]+", "_", unicodedata.normalize("NFKC", name).lower())
    for lesson in sorted(known, key=len, reverse=True):
        if re.search(rf"(?<![a-z]){re.escape(lesson)}(?![a-z])", plain):
            return lesson
    return None


def parse(name: str, content: bytes) -> Notebook:
    """The code of a notebook, or UnreadableError with a reason that says what to ask for."""
    live: list[Cell] = []
    aside: list[Cell] = []
    size = 0
    for number, cell in enumerate(cells_in(name, content), start=1):
        source, mark, is_code = _source(cell), _exercise(cell), cell.get("cell_type") == "code"
        if is_code or mark is not None:
            (live if is_code else aside).append(Cell(number, source, mark))
            size += len(source)
        if number > CELL_LIMIT or size > CODE_LIMIT:
            raise UnreadableError(
                f"`{name}` has more in it than any lesson (over {CELL_LIMIT:,} cells, or "
                f"{CODE_LIMIT:,} letters of code); ask for the lesson's own notebook"
            )
    return Notebook(name, tuple(_rejoined(_with_retyped(live, aside))))


def _with_retyped(live: list[Cell], aside: list[Cell]) -> list[Cell]:
    """The code, and what was an answer's cell and became text by a slip of a key.

    It counts as the code it was, unless its names are defined in code too: then it was put aside
    on purpose.
    """
    defined = {
        name for cell in live for name, how in cell.binds.items() if how not in ("stub", "use")
    }
    lost = [cell for cell in aside if cell.sound and cell.binds and not defined & set(cell.binds)]
    return sorted(live + lost, key=lambda cell: cell.number)


def _source(cell: dict[str, Any]) -> str:
    source = next((cell[key] for key in ("source", "input", "code") if cell.get(key)), "")
    if isinstance(source, list):
        lines = [line for line in source if isinstance(line, str)]
        # Some tools keep lines without their ends.
        bare = len(lines) > 1 and not any(line.endswith("\n") for line in lines)
        source = ("\n" if bare else "").join(lines)
    return source if isinstance(source, str) else ""


def _exercise(cell: dict[str, Any]) -> str | None:
    metadata = cell.get("metadata")
    mark = metadata.get("engineroom") if isinstance(metadata, dict) else None
    found = mark.get("exercise") if isinstance(mark, dict) else None
    return found if isinstance(found, str) else None


def _rejoined(cells: Iterable[Cell]) -> list[Cell]:
    """A cell that was split in the middle of a function is one again."""
    found: list[Cell] = []
    last = 0  # the number of the cell just before, for those in between are no code
    for cell in cells:
        whole = _whole(found[-1], cell) if found and cell.number == last + 1 else None
        if whole is None:
            found.append(cell)
        else:
            found[-1] = whole
        last = cell.number
    return found


def _whole(first: Cell, second: Cell) -> Cell | None:
    marks = {first.exercise, second.exercise} - {None}
    indented = second.source.lstrip("\r\n")[:1] in (" ", "\t")
    unfinished = not first.sound or "stub" in first.binds.values()
    if not indented or len(marks) > 1 or (second.sound and not unfinished):
        return None
    mark = first.exercise or second.exercise
    joined = Cell(first.number, first.source + "\n" + second.source, mark)
    return joined if joined.sound else None
