"""``results.jsonl``: one line for each exercise of each learner, written as it comes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from engineroom.errors import EngineRoomError
from engineroom.exercises.model import Status, Verdict


def _writable(text: str) -> str:
    """Text that any file can hold: of a name that is no UTF-8 the system makes surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Text = Annotated[str, AfterValidator(_writable)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Line(BaseModel):
    """One exercise of one learner; or, with no exercise, why a submission has no marks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learner: Text
    lesson: str = ""
    exercise: str = ""
    status: Status | Literal["unreadable", "ungraded"]
    points: Amount = 0.0
    max_points: Amount = 0.0
    message: Text = ""
    code: str = ""
    slip: str | None = None
    seconds: Amount = 0.0
    attempt: int = Field(default=1, ge=1)

    @classmethod
    def of(cls, learner: str, verdict: Verdict, attempt: int = 1) -> Line:
        """The line of a verdict."""
        said = {name: getattr(verdict, name) for name in _FROM_VERDICT}
        return cls(learner=learner, attempt=attempt, **said)

    @classmethod
    def trouble(
        cls,
        learner: str,
        status: Literal["unreadable", "ungraded"],
        reason: str,
        attempt: int = 1,
    ) -> Line:
        """The line of a submission that has no marks, and why not."""
        return cls(learner=learner, status=status, message=reason, attempt=attempt)

    def text(self) -> str:
        """The line as the file holds it, its end included."""
        return self.model_dump_json() + "\n"


_FROM_VERDICT = (
    *("lesson", "exercise", "status", "points", "max_points"),
    *("message", "code", "slip", "seconds"),
)


def read_results(path: Path) -> list[Line]:
    """Every line of a file of results; what a killed grader left half written is no line yet."""
    content = path.read_bytes()
    whole, torn = _split(content)
    lines = []
    for number, raw in enumerate(whole.split(b"\n")[:-1], start=1):
        line = _parse(raw)
        if line is None and raw.strip():
            raise EngineRoomError(
                f"Line {number} of {path} is no result.",
                "take that line out, or grade again into another folder",
            )
        if line is not None:
            lines.append(line)
    last = _parse(torn)
    return [*lines, last] if last is not None else lines


def mend_results(path: Path) -> int:
    """Make a file fit to be appended to: a half-written last line goes; how many bytes it had."""
    try:
        with open(path, "r+b") as file:
            whole, torn = _split(file.read())
            if not torn:
                return 0
            if _parse(torn) is not None:  # only its end was not written
                file.write(b"\n")
                return 0
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
            return len(torn)
    except FileNotFoundError:
        return 0


def _split(content: bytes) -> tuple[bytes, bytes]:
    """The lines that have an end, and what comes after them."""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _parse(raw: bytes) -> Line | None:
    try:
        return Line.model_validate_json(raw)
    except ValidationError:
        return None
