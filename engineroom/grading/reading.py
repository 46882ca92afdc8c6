"""Submissions as they come: who handed in what, and what of it can be read.

First a list of light descriptors, one a learner: names and paths, nothing opened. Each is read
when its turn comes, in whatever process that is, and what is wrong with one stays with that one.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engineroom.errors import EngineRoomError
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Exercise, Lesson
from engineroom.exercises.sources import Cell
from engineroom.grading.errors import UnreadableError
from engineroom.grading.layouts import Label, Layout, label, plain, shown
from engineroom.grading.notebooks import Notebook, lesson_named, parse
from engineroom.grading.parcels import (
    Findings,
    Place,
    fingerprint,
    is_hidden,
    is_zip,
    notebooks_in,
    top_of_zip,
)

__all__ = [
    "Notebook",
    "Reading",
    "Submission",
    "UnreadableError",
    "only",
    "parse",
    "read_submissions",
]


@dataclass(frozen=True)
class Reading:
    """What one learner handed in, as far as it can be read. Plain data, fit to travel."""

    notebooks: tuple[Notebook, ...] = ()
    """Earlier versions before later ones."""
    lessons_of: tuple[str | None, ...] = ()
    """Which lesson each notebook is."""
    trouble: str = ""
    """Why there is nothing to grade, and what the instructor may ask for."""
    broken: tuple[tuple[str, str], ...] = ()
    """Files beside what can be read that cannot be, and why."""
    notes: tuple[str, ...] = ()

    @property
    def lessons(self) -> frozenset[str]:
        return frozenset(lesson for lesson in self.lessons_of if lesson)

    def cells_for(self, exercise: Exercise) -> list[Cell]:
        """The cells in which to look for an answer: those of one notebook, never a mixture.

        Of several notebooks of the lesson the latest counts that holds an answer to this
        exercise; so a fresh copy beside the finished one costs nothing, nor does work that is
        spread over two. One of which nobody knows the lesson is looked at last.
        """
        those = [
            (lesson == exercise.lesson or exercise.id in notebook.marks, number, notebook)
            for number, (notebook, lesson) in enumerate(self._each())
            if lesson in (exercise.lesson, None) or exercise.id in notebook.marks
        ]
        those.sort(key=lambda one: one[:2], reverse=True)
        for _, _, notebook in those:
            if notebook.answers(exercise):
                return list(notebook.cells)
        return list(those[0][2].cells) if those else []

    def trouble_for(self, lessons: Collection[str]) -> str:
        """Why these lessons cannot be graded fairly: nothing is readable, or one of them is not."""
        for name, reason in self.broken:
            lesson = lesson_named(name, lessons)
            if lesson is not None and lesson not in self.lessons:
                return self.trouble or reason
        return self.trouble

    @property
    def remarks(self) -> tuple[str, ...]:
        """What an instructor may want to know of a submission that was graded."""
        remarks = [*self.notes, *(reason for _, reason in self.broken)]
        for lesson in sorted(self.lessons):
            names = [notebook.name for notebook, of in self._each() if of == lesson]
            if len(names) > 1:
                listed = ", ".join(f"`{shown(name)}`" for name in names[:3])
                listed += f" and {len(names) - 3} more" if len(names) > 3 else ""
                remarks.append(
                    f"{lesson} was handed in {len(names)} times ({listed}); "
                    "of each exercise the last answer counts"
                )
        return tuple(remarks)

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it, for another machine."""
        return {
            "notebooks": [
                [notebook.name, lesson, [[c.number, c.source, c.exercise] for c in notebook.cells]]
                for notebook, lesson in self._each()
            ],
            "trouble": self.trouble,
            "broken": [list(pair) for pair in self.broken],
            "notes": list(self.notes),
        }

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        return cls(
            tuple(
                Notebook(name, tuple(Cell(*cell) for cell in cells))
                for name, _, cells in found["notebooks"]
            ),
            tuple(lesson for _, lesson, _ in found["notebooks"]),
            found["trouble"],
            tuple((name, reason) for name, reason in found["broken"]),
            tuple(found["notes"]),
        )

    def _each(self) -> Iterator[tuple[Notebook, str | None]]:
        return zip(self.notebooks, self.lessons_of, strict=True)


@dataclass(frozen=True)
class Submission:
    """Who handed in, and where it lies. Nothing of it is in memory before it is read."""

    learner: str
    places: tuple[Place, ...]
    """Several when a learner handed in several files, or in several folders."""

    @property
    def path(self) -> Path:
        return self.places[0].path

    def digest(self) -> str:
        """Tells this content from another, wherever it lies by now."""
        found = hashlib.blake2b(digest_size=16)
        for place in self.places:
            found.update(fingerprint(place))
        return found.hexdigest()

    def reading(self, lessons: Mapping[str, Lesson] | None = None) -> Reading:
        """All that can be read of it. Whatever is in there, this raises nothing."""
        known = known_lessons() if lessons is None else lessons
        findings = Findings()
        notebooks: list[Notebook] = []
        for place in self.places:
            here = []
            for name, content in notebooks_in(place, findings):
                try:
                    here.append(parse(name, content))
                except UnreadableError as error:
                    findings.broken.append((name, str(error)))
            notebooks += sorted(here, key=lambda notebook: notebook.age)
        return Reading(
            tuple(notebooks),
            tuple(notebook.lesson(known) for notebook in notebooks),
            "" if notebooks else _why_nothing(findings),
            tuple((shown(name), shown(reason)) for name, reason in findings.broken),
            tuple(shown(note) for note in findings.notes),
        )


def _why_nothing(findings: Findings) -> str:
    if findings.broken:
        reasons = [reason for _, reason in findings.broken]
    elif findings.notes:
        reasons = ["there is no notebook in it that could be read", *findings.notes]
    elif findings.others:
        names = sorted(findings.others)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = ", ".join(f"`{name}`" for name in names[:3])
        reasons = [f"there is no notebook in it, only {listed}{more}; ask for the .ipynb file"]
    else:
        reasons = ["there is no notebook in it; ask for the .ipynb file"]
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return shown("; ".join(reasons[:3]) + more)


def read_submissions(folders: Iterable[Path], layout: Layout = "plain") -> Iterator[Submission]:
    """Every learner in these folders, by name. A folder may also be a zip of one.

    What one learner handed in twice, in two folders or as ``ada.ipynb`` beside ``ada/``, is one
    submission: the places in the order of the folders, and in each by name. See
    ``Reading.cells_for`` for which of two answers then counts.
    """
    found: dict[str, dict[str, list[tuple[int, int, str, Place]]]] = defaultdict(dict)
    for number, folder in enumerate(folders):
        for said, place in _labelled(folder, layout):
            entry = (number, said.upload, str(place), place)
            found[said.learner].setdefault(said.identity, []).append(entry)
    submissions = {}
    for learner, by_identity in found.items():
        numbered = [identity for identity in by_identity if identity]
        if len(numbered) < 2:
            by_identity = {"": [entry for entries in by_identity.values() for entry in entries]}
        for identity, entries in by_identity.items():
            name = f"{learner}_{identity}" if identity else learner
            places = tuple(place for *_, place in sorted(entries, key=lambda entry: entry[:3]))
            submissions[name] = Submission(name, places)
    for name in sorted(submissions):
        yield submissions[name]


def only(submissions: Iterable[Submission], learners: Sequence[str]) -> list[Submission]:
    """Those of some learners; EngineRoomError when there is nobody of a name."""
    by_name = {submission.learner: submission for submission in submissions}
    chosen = {}
    for learner in learners:
        name = shown(learner)
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5)
            near = near or [n for n in by_name if name.casefold() in n.casefold()][:3]
            raise EngineRoomError(
                f"No submission is by {name!r}; there are {len(by_name)}.",
                "--only " + " or ".join(repr(n) for n in near or sorted(by_name)[:3]),
            )
        chosen[name] = by_name[name]
    return [chosen[name] for name in sorted(chosen)]


# -- who is who ----------------------------------------------------------------------------


def _labelled(folder: Path, layout: Layout) -> Iterator[tuple[Label, Place]]:
    """Each entry of a folder that is somebody's."""
    for name, is_folder, place in _entries(folder):
        said = label(name, folder=is_folder, layout=layout)
        if said is None and layout != "plain":
            inside = list(_of_a_download(name, is_folder, place, layout))
            yield from inside
            # Or else an instructor has added one by hand.
            said = None if inside else plain(name, folder=is_folder)
        if said is not None:
            yield said, Place(place.path, place.member, said.file)


def _of_a_download(
    name: str, is_folder: bool, place: Place, layout: Layout
) -> Iterator[tuple[Label, Place]]:
    """What a download holds that lies in the folder as it came, or unpacked into a folder."""
    if not is_folder and (place.member or not is_zip(name)):
        return
    try:
        inside = _entries(place.path, place.member)
    except EngineRoomError:
        return
    for inner, inner_is_folder, inner_place in inside:
        if said := label(inner, folder=inner_is_folder, layout=layout):
            yield said, Place(inner_place.path, inner_place.member, said.file)


def _entries(folder: Path, member: str = "") -> list[tuple[str, bool, Place]]:
    """What lies in a folder, or at the top of a zip or of a folder in it: name, folder?, place."""
    try:
        if folder.is_dir():
            with os.scandir(folder) as listing:
                found = [(e.name, _is_folder(e), Place(folder / e.name)) for e in listing]
        elif is_zip(folder.name):
            top = top_of_zip(folder, member)
            found = [
                (name, is_folder, Place(folder, f"{member}/{name}".lstrip("/")))
                for name, is_folder in top
            ]
        else:
            raise EngineRoomError(
                f"{folder} is no folder.", "name the folder that the submissions are in"
            )
    except OSError as error:
        raise EngineRoomError(
            f"{folder} cannot be opened: {(error.strerror or str(error)).lower()}.",
            f"ls -la {folder}",
        ) from error
    except UnreadableError as error:
        raise EngineRoomError(f"{error}.", "get the download again, or unpack it") from error
    return sorted((one for one in found if not is_hidden(one[0])), key=lambda one: one[0])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Or might be: where a link leads is not looked at, and a learner has made it."""
    if entry.is_symlink():
        return not Path(entry.name).suffix
    return entry.is_dir(follow_symlinks=False)
