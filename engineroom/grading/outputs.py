"""All that ``engineroom grade`` makes of its results, written so that nobody reads half a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.exercises.model import Lesson
from engineroom.grading.gradebook import Gradebook
from engineroom.grading.gradescope import gradescope_json
from engineroom.grading.junit import junit_xml
from engineroom.grading.naming import file_names
from engineroom.grading.pages import feedback_html, report_html
from engineroom.grading.sheets import canvas_csv, grades_csv, moodle_csv


def write_outputs(book: Gradebook, lessons: Mapping[str, Lesson], out: Path) -> list[Path]:
    """Write every output into ``out``; the files that are new or say something else than before.

    A file that would stay as it is is not touched: to grade one learner again changes their
    files and the overviews.
    """
    changed = []
    for name, text in _files(book, lessons):
        path = out / name
        try:
            if _replace(path, text):
                changed.append(path)
        except OSError as error:
            raise EngineRoomError(
                f"{path} could not be written: {error.strerror}.",
                "make room or mend the rights there, then grade again with --resume",
            ) from error
    return changed


def _files(book: Gradebook, lessons: Mapping[str, Lesson]) -> Iterator[tuple[str, str]]:
    """Each file's name and content; the marks first, should the disk be full."""
    yield "grades.csv", grades_csv(book)
    yield "canvas.csv", canvas_csv(book)
    yield "moodle.csv", moodle_csv(book)
    yield "junit.xml", junit_xml(book)
    files = file_names(row.learner for row in book.rows)
    yield "report.html", report_html(book, lessons, files)
    for row in book.rows:
        yield f"feedback/{files[row.learner]}.html", feedback_html(book, row, lessons)
        yield f"gradescope/{files[row.learner]}.json", gradescope_json(book, row, lessons)


def _replace(path: Path, text: str) -> bool:
    """Put a whole file in the place of another; False when it says the same already."""
    content = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for one pair of eyes, and these get the rights of any other.
    fresh = path.parent / f".new-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with open(fresh, "xb") as file:
            file.write(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return True
