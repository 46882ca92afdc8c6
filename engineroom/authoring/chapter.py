"""The map from what the course is to cover to the sections that cover it (``docs/chapter/``)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engineroom.authoring.source import LessonSource
from engineroom.exercises.model import Lesson

_HEADING = re.compile(r"^#{1,4} +(.+?) *$", re.MULTILINE)


def look_at_chapter(
    root: Path, sources: Mapping[str, LessonSource], lessons: Mapping[str, Lesson], *, whole: bool
) -> Iterator[str]:
    """Topics that lead nowhere; and, of a whole course, headings that nothing covers."""
    folder = root / "docs" / "chapter"
    if not (folder / "headings.toml").exists():
        return
    headings = {str(h["id"]): h["about"] for h in _read(folder / "headings.toml", "heading")}
    covered = set()
    for name, source in sources.items():
        file = folder / f"{name}.toml"
        if not file.exists():
            continue
        sections = _sections(root, source)
        facts = _facts(root, name)
        for topic in _read(file, "topic"):
            where = f"{file.relative_to(root)}: the topic of heading {topic['heading']}"
            if str(topic["heading"]) not in headings:
                yield f"{where} is none of headings.toml. Next: correct it"
            for missing in sorted(set(map(str, topic.get("facts", ()))) - facts):
                yield f"{where} names fact {missing}, which the lesson does not show. Next: mend it"
            known = {exercise.id for exercise in lessons[name].exercises.values()}
            for missing in sorted(set(topic.get("exercises", ())) - known):
                yield f"{where} names {missing}, which is no exercise. Next: correct it"
            section = str(topic["cell"])
            if section not in sections:
                yield f"{where} leads to {section!r}, which is no section. Next: correct cell="
            elif not sections[section]:
                yield f"{where} leads to {section!r}, where no cell shows anything. Next: show it"
            else:
                covered.add(str(topic["heading"]))
    if whole:
        for identifier in sorted(set(headings) - covered):
            yield (
                f"docs/chapter: nothing covers heading {identifier} ({headings[identifier]}). "
                "Next: name the section in docs/chapter/LESSON.toml"
            )


def _sections(root: Path, source: LessonSource) -> dict[str, bool]:
    """Each heading of a built notebook, and whether a cell below it has an output.

    A heading stands for its smaller ones as well.
    """
    import nbformat

    built = root / "notebooks" / f"{source.stem}.ipynb"
    if not built.exists():
        return {}
    found: dict[str, bool] = {}
    open_now: list[tuple[int, str]] = []
    for cell in nbformat.read(built, as_version=4).cells:  # type: ignore[no-untyped-call]
        if cell.cell_type == "markdown":
            for match in _HEADING.finditer(cell.source):
                depth = len(match[0]) - len(match[0].lstrip("#"))
                open_now = [(level, title) for level, title in open_now if level < depth]
                open_now.append((depth, match[1]))
                found.setdefault(match[1], False)
        elif cell.cell_type == "code" and cell.outputs:
            found |= {title: True for _, title in open_now}
    return found


def _facts(root: Path, lesson: str) -> set[str]:
    file = root / "docs" / "facts" / f"{lesson}.toml"
    return {str(fact["id"]) for fact in _read(file, "fact")} if file.exists() else set()


def _read(file: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(file.read_text("utf-8")).get(kind, [])
    return found
