"""A lesson's one source, a jupytext percent script, and the two notebooks it stands for.

What a learner is to write stands between the lines ``# <answer>`` and ``# </answer>``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engineroom.authoring.header import PLACE, about, header
from engineroom.errors import EngineRoomError
from engineroom.exercises.lessons import known_lessons

_ANSWER = re.compile(
    r"^([ \t]*)# <answer>[ \t]*\n(.*?)^[ \t]*# </answer>[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL
)
_PICTURE = re.compile(r"\(attachment:([\w.-]+)\)")
_MIME = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class LessonSource:
    """``solutions/NN_name.py`` of one lesson."""

    path: Path

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def lesson(self) -> str:
        """``04_pooling`` is the source of lesson ``pooling``."""
        return re.sub(r"^\d+_", "", self.stem)

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def digest(self) -> str:
        """What a built notebook was built from: the text and the pictures in it."""
        found = hashlib.sha256(self.text.encode())
        for name in sorted(set(_PICTURE.findall(self.text))):
            found.update(self._picture(name))
        return found.hexdigest()[:16]

    def answers(self) -> Iterator[tuple[str, str]]:
        """Each exercise's id and the text of its answer."""
        for cell in self._cells():
            exercise = cell.metadata.get("exercise")
            for match in _ANSWER.finditer(cell.source + "\n"):
                yield str(exercise), match[2]

    def notebook(self, *, solved: bool) -> Any:
        """The notebook, not yet executed."""
        import nbformat

        made = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
        made.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            # Enough to colour the code; which Python built it is nobody's business.
            "language_info": {"name": "python", "file_extension": ".py"},
            "engineroom": {"lesson": self.lesson, "built_from": self.digest},
        }
        known = known_lessons().get(self.lesson)
        if known is not None:
            made.metadata["engineroom"] |= about(known)
        for number, cell in enumerate(self._cells(), start=1):
            # The same id from one build to the next, so that a diff shows what changed.
            cell.id = f"{self.lesson.replace('_', '-')}-{number:02}"
            marks = {}
            if "exercise" in cell.metadata:
                marks["exercise"] = cell.metadata["exercise"]
                cell.source = _without_answer(cell.source, solved=solved)
            if "facts" in cell.metadata:
                marks["facts"] = str(cell.metadata["facts"]).split()
            tags = cell.metadata.get("tags")
            cell.metadata = ({"engineroom": marks} if marks else {}) | (
                {"tags": tags} if tags else {}
            )
            if cell.cell_type == "markdown":
                if known is not None:
                    cell.source = cell.source.replace(PLACE, header(known))
                self._attach(cell)
            made.cells.append(cell)
        return made

    def _cells(self) -> list[Any]:
        import jupytext

        cells: list[Any] = jupytext.reads(self.text, fmt="py:percent").cells
        return cells

    def _attach(self, cell: Any) -> None:
        """A picture travels inside the notebook: a learner gets one file, not a folder."""
        for name in _PICTURE.findall(cell.source):
            data = base64.b64encode(self._picture(name)).decode()
            cell.setdefault("attachments", {})[name] = {_MIME[Path(name).suffix]: data}

    def _picture(self, name: str) -> bytes:
        try:
            return (self.path.parent / "pictures" / name).read_bytes()
        except OSError as error:
            raise EngineRoomError(
                f"{self.path} shows the picture {name}, which is not in solutions/pictures.",
                f"put it there, then: engineroom build {self.lesson}",
            ) from error


def _without_answer(source: str, *, solved: bool) -> str:
    replacement = r"\2" if solved else r"\1...\n"
    return _ANSWER.sub(replacement, source + "\n").rstrip("\n")


def find_sources(root: Path, wanted: list[str] | None = None) -> list[LessonSource]:
    """The sources of all lessons, or of those named (``pooling`` or ``04_pooling``)."""
    found = [LessonSource(path) for path in sorted((root / "solutions").glob("[0-9][0-9]_*.py"))]
    unknown = [w for w in wanted or () if not any(w in (s.lesson, s.stem) for s in found)]
    if unknown:
        raise EngineRoomError(
            f"There is no lesson {unknown[0]!r} in solutions/.", f"engineroom new {unknown[0]}"
        )
    return [s for s in found if not wanted or s.lesson in wanted or s.stem in wanted]


def same_cells(built: Any, expected: Any) -> bool:
    """Whether a built notebook still says what its source says, outputs aside."""

    def told(notebook: Any) -> str:
        return json.dumps(
            [
                (c.cell_type, c.source, c.metadata.get("engineroom"), c.get("attachments"))
                for c in notebook.cells
            ],
            sort_keys=True,
        )

    return told(built) == told(expected)
