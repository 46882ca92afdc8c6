"""``report.html`` for the instructor, and a page of feedback for each learner.

Each page is one file: no script, font or picture from elsewhere, and a policy in its head that
would stop any. All text passes by the template's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from engineroom import __version__
from engineroom.exercises.cards import marked
from engineroom.exercises.model import Lesson
from engineroom.grading.gradebook import Gradebook, Row
from engineroom.grading.overview import Overview
from engineroom.grading.sheets import number
from engineroom.grading.words import ROW_WORDS, UNGRADED, said

# What a browser shows as nothing, and text must not hold.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def report_html(book: Gradebook, lessons: Mapping[str, Lesson], files: Mapping[str, str]) -> str:
    """The class: what it found hard, who needs attention, and a section for each learner.

    ``files`` names each learner's file of feedback, without its ending.
    """
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates()
        .get_template("report.html")
        .render(
            book=book,
            view=Overview.of(book, lessons),
            said={row.learner: said(row, book.exercises, lessons) for row in book.rows},
            counts={row.learner: _counts(row) for row in book.rows},
            files=files,
            anchors={row.learner: f"learner-{at}" for at, row in enumerate(book.rows, start=1)},
            titles=_titles(book, lessons),
            row_words=ROW_WORDS,
            version=__version__,
            script=Markup(script),  # noqa: S704  # our own file
            script_source=f"'sha256-{digest}'",
        )
    )


def feedback_html(book: Gradebook, row: Row, lessons: Mapping[str, Lesson]) -> str:
    """What one learner reads. It knows of nobody else, and of no check more than its words."""
    exercises = said(row, book.exercises, lessons)
    return (
        _templates()
        .get_template("feedback.html")
        .render(
            row=row,
            said=exercises,
            passed=sum(one.passed for one in exercises),
            ungraded=UNGRADED,
            titles=_titles(book, lessons),
            row_words=ROW_WORDS,
            version=__version__,
            script_source="'none'",
        )
    )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("engineroom.grading"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.filters["marked"] = _marked
    made.filters["visible"] = _visible
    made.filters["sentence"] = _sentence
    made.filters["duration"] = _duration
    return made


@cache
def _script() -> str:
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, "sort.js")[0]


def _titles(book: Gradebook, lessons: Mapping[str, Lesson]) -> dict[str, str]:
    return {name: lessons[name].title if name in lessons else name for name in book.by_lesson}


def _counts(row: Row) -> dict[str, float]:
    statuses = [line.status for line in row.lines.values()]
    return {
        "passed": statuses.count("passed"),
        "not_attempted": statuses.count("not_attempted"),
        "seconds": sum(line.seconds for line in row.lines.values()),
    }


def _marked(text: str) -> Markup:
    return Markup(marked(text))  # noqa: S704  # it escapes first


def _visible(text: str) -> str:
    return _INVISIBLE.sub("\ufffd", text)


def _sentence(text: str) -> str:
    """A reason as a sentence of its own."""
    text = text.strip()
    end = "" if text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}" if text else ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
