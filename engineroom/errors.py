"""The one kind of trouble a person is told about: a sentence, and what to do next."""

from __future__ import annotations


class EngineRoomError(Exception):
    """Something a person can act on: what happened, and the next command.

    ``sentence`` never holds a password. ``fix`` is a command to type, or a short
    instruction where no single command helps.
    """

    def __init__(self, sentence: str, fix: str = "") -> None:
        super().__init__(sentence, fix)
        self.sentence = sentence
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.sentence}\nNext: {self.fix}" if self.fix else self.sentence

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows instead of a traceback: the machinery's frames help nobody."""
        return str(self).splitlines()
