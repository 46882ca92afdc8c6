"""The lessons that ``checks/`` has, found by name; nothing here knows one of them."""

from __future__ import annotations

import importlib
import pkgutil

from engineroom.errors import EngineRoomError
from engineroom.exercises.model import Exercise, Lesson


def known_lessons() -> dict[str, Lesson]:
    """Every lesson of this version."""
    import checks

    names = sorted(found.name for found in pkgutil.iter_modules(checks.__path__))
    return {name: importlib.import_module(f"checks.{name}").lesson for name in names}


def find_exercise(identifier: str) -> Exercise:
    """The exercise of an id such as ``pooling.ceiling``."""
    lesson, _, name = identifier.partition(".")
    try:
        module = importlib.import_module(f"checks.{lesson}")
        found: Exercise = module.lesson.exercises[name]
    except (ImportError, AttributeError, KeyError):
        raise EngineRoomError(f"There is no exercise {identifier!r} in this version.") from None
    return found
