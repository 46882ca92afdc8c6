"""``docs/codes/LESSON.md``: a page that explains every code of a lesson."""

from __future__ import annotations

from pathlib import Path

from engineroom.exercises.model import Lesson


def page_path(root: Path, lesson: Lesson) -> Path:
    return root / "docs" / "codes" / f"{lesson.name}.md"


def page_text(lesson: Lesson) -> str:
    """The page as ``checks/LESSON.py`` has it."""
    parts = [f"# Codes of the lesson {lesson.name}: {lesson.title}"]
    for code in sorted(lesson.codes):
        parts += [f"## {code}", lesson.codes[code].strip()]
        told = [
            f"In `{exercise.id}` it says: {slip.sentence}"
            for exercise in lesson.exercises.values()
            for slip in exercise.slips
            if slip.code == code
        ]
        parts += told
    return "\n\n".join(parts) + "\n"


def page_is_current(root: Path, lesson: Lesson) -> bool:
    if not lesson.codes:
        return True
    try:
        return page_path(root, lesson).read_text("utf-8") == page_text(lesson)
    except OSError:
        return False


def write_page(root: Path, lesson: Lesson) -> bool:
    """Write the page if it says something else; True when it did."""
    if page_is_current(root, lesson):
        return False
    path = page_path(root, lesson)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_text(lesson), "utf-8")
    return True
