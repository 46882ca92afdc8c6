"""What a lesson's first cell says of it: objectives, levels, skills, and two ways through."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from engineroom.exercises.model import Lesson

PLACE = "<!-- objectives -->"


def header(lesson: Lesson) -> str:
    """The markdown that stands where the source says ``<!-- objectives -->``."""
    lines = ["By the end you can", ""]
    lines += [
        f"- {_clause(objective.text)} *({objective.level}, {objective.bloom})*"
        for objective in lesson.objectives
    ]
    skills = ", ".join(dict.fromkeys(objective.skill for objective in lesson.objectives))
    lines += ["", f"**Skills:** {skills}"]
    if lesson.stuck:
        lines += ["", f"**Stuck?** {lesson.stuck}"]
    if lesson.further:
        lines += ["", f"**Go further:** {lesson.further}"]
    return "\n".join(lines)


def about(lesson: Lesson) -> dict[str, Any]:
    """The same as data, for a notebook's metadata."""
    return {
        "minutes": lesson.minutes,
        "objectives": [asdict(objective) for objective in lesson.objectives],
        "skills": list(dict.fromkeys(objective.skill for objective in lesson.objectives)),
        "stuck": lesson.stuck,
        "further": lesson.further,
    }


def _clause(text: str) -> str:
    """An objective as part of "you can": no capital, no full stop."""
    words = text.strip().rstrip(".")
    return words[:1].lower() + words[1:] + ";"
