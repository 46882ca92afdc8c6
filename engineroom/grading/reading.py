"""Submissions as they come: a notebook, a folder of them, a zip. Nothing is unpacked to disk."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom.exercises.sources import Cell

_NOTEBOOK_LIMIT = 200 * 2**20
_HIDDEN = (".", "__MACOSX")


class UnreadableError(Exception):
    """Why a submission cannot be read, for the instructor who may ask for another."""


@dataclass(frozen=True)
class Notebook:
    """One notebook of a learner: its code cells, and which exercises they say they answer."""

    name: str
    cells: tuple[Cell, ...]

    def lesson(self, known: set[str]) -> str | None:
        """The lesson it belongs to: by its cells' ids, or else by its file's name."""
        marked = [c.exercise.partition(".")[0] for c in self.cells if c.exercise]
        for lesson in sorted(set(marked) & known, key=marked.count, reverse=True):
            return lesson
        words = re.findall(r"[a-z_]+", self.name.lower())
        return next((w.strip("_") for w in words if w.strip("_") in known), None)


@dataclass
class Submission:
    """What one learner handed in; read when it is needed."""

    learner: str
    path: Path
    find: Callable[[Path], list[tuple[str, bytes]]]

    def digest(self) -> str:
        """Tells this content from another."""
        found = hashlib.sha256()
        try:
            for name, content in self._files():
                found.update(name.encode() + b"\0" + content)
        except UnreadableError as error:
            found.update(str(error).encode())
        return found.hexdigest()[:32]

    def read(self) -> list[Notebook]:
        return [parse(name, content) for name, content in self._files()]

    def _files(self) -> list[tuple[str, bytes]]:
        try:
            found = self.find(self.path)
        except OSError as error:
            raise UnreadableError(f"it cannot be opened: {error.strerror}") from None
        except zipfile.BadZipFile:
            raise UnreadableError("it is no zip file") from None
        if not found:
            raise UnreadableError("there is no notebook in it")
        return found


def find_submissions(folders: list[Path], layout: str = "plain") -> Iterator[Submission]:
    """Each entry of each folder is a learner: a folder, a zip, or a notebook."""
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(_HIDDEN):
                continue
            if path.is_dir():
                yield Submission(path.name, path, _in_folder)
            elif path.suffix.lower() == ".zip":
                yield Submission(path.stem, path, _in_zip)
            elif path.suffix.lower() == ".ipynb":
                yield Submission(path.stem, path, lambda p: [(p.name, _bytes(p))])


def _in_folder(folder: Path) -> list[tuple[str, bytes]]:
    return [
        (path.name, _bytes(path))
        for path in sorted(folder.rglob("*.ipynb"))
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(_HIDDEN) for part in path.relative_to(folder).parts)
    ]


def _in_zip(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        found = []
        for entry in archive.infolist():
            parts = Path(entry.filename).parts
            hidden = any(part.startswith(_HIDDEN) for part in parts)
            if entry.is_dir() or hidden or not entry.filename.lower().endswith(".ipynb"):
                continue
            with archive.open(entry) as file:
                # What the directory says of a size may be a lie, so read no further than this.
                content = file.read(_NOTEBOOK_LIMIT + 1)
            found.append((parts[-1], _limited(parts[-1], content)))
        return found


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return _limited(path.name, file.read(_NOTEBOOK_LIMIT + 1))


def _limited(name: str, content: bytes) -> bytes:
    if len(content) > _NOTEBOOK_LIMIT:
        raise UnreadableError(f"{name} is larger than {_NOTEBOOK_LIMIT // 2**20} MB")
    return content


def parse(name: str, content: bytes) -> Notebook:
    """The code cells of a notebook, as forgiving as sense allows."""
    if not content.strip():
        raise UnreadableError(f"{name} is empty")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError(f"{name} is no notebook: it is not JSON") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list):
        raise UnreadableError(f"{name} is no notebook: it has no cells")
    return Notebook(name, tuple(_code_cells(cells)))


def _code_cells(cells: list[Any]) -> Iterator[Cell]:
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        if isinstance(source, list):
            source = "".join(part for part in source if isinstance(part, str))
        if isinstance(source, str):
            yield Cell(number, source, _exercise(cell))


def _exercise(cell: dict[str, Any]) -> str | None:
    metadata = cell.get("metadata")
    mark = metadata.get("engineroom") if isinstance(metadata, dict) else None
    found = mark.get("exercise") if isinstance(mark, dict) else None
    return found if isinstance(found, str) else None
