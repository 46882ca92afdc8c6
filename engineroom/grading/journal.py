"""What a grading has finished, so that one that was killed goes on where it stopped.

Results are appended to ``results.jsonl``, a submission's lines together. After them the journal
notes the submission, by its content and the course's version, and how long the results were then.
Going on means: cut the results to that length, and leave out what is noted. So whatever a kill
left half done is done again, and nothing stands there twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from engineroom.errors import EngineRoomError
from engineroom.grading.results import Line

RESULTS, JOURNAL = "results.jsonl", ".graded.jsonl"


class Journal:
    """The results of one grading, open for appending; only one grading at a time has them."""

    def __init__(self, out: Path, course: str, *, go_on: bool) -> None:
        self._out = out
        self._course = course
        self._go_on = go_on
        self._done: set[tuple[str, str]] = set()
        self._attempts: dict[str, int] = {}
        self.remarks: dict[str, tuple[str, ...]] = {}
        """What is worth a remark of each submission that is noted."""

    def __enter__(self) -> Self:
        self._out.mkdir(parents=True, exist_ok=True)
        self._notes: IO[bytes] = open(self._out / JOURNAL, "a+b")
        try:
            fcntl.flock(self._notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._notes.close()
            raise EngineRoomError(
                f"Another grading is writing into {self._out}.", "wait for it, or choose --out"
            ) from None
        self._results: IO[bytes] = open(self._out / RESULTS, "a+b")
        if not self._go_on:
            self._notes.truncate(0)
            self._results.truncate(0)
            return self
        self._notes.seek(0)
        whole, length = 0, 0
        for raw in self._notes:
            note = _parse(raw)
            if note is None:
                break  # half written: what it was to note is done again
            whole += len(raw)
            length = note["end"]
            self._attempts[note["learner"]] = note["attempt"]
            self.remarks[note["learner"]] = tuple(note.get("remarks", ()))
            if note["course"] == self._course:
                self._done.add((note["learner"], note["digest"]))
        self._notes.truncate(whole)
        self._results.truncate(length)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._results.close()
        self._notes.close()

    def is_done(self, learner: str, digest: str) -> bool:
        """Whether this very submission was graded by this version of the course."""
        return (learner, digest) in self._done

    def next_attempt(self, learner: str) -> int:
        return self._attempts.get(learner, 0) + 1

    def add(
        self,
        learner: str,
        digest: str,
        attempt: int,
        lines: Iterable[Line],
        remarks: Sequence[str] = (),
    ) -> None:
        """Keep a submission's lines, then that it is done."""
        self._results.write("".join(line.text() for line in lines).encode())
        self._results.flush()
        note = {"learner": learner, "digest": digest, "course": self._course, "attempt": attempt}
        note |= {"remarks": list(remarks), "end": self._results.tell()}
        self._notes.write(json.dumps(note).encode() + b"\n")
        self._notes.flush()
        self._attempts[learner], self.remarks[learner] = attempt, tuple(remarks)


def _parse(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        note: dict[str, Any] = json.loads(raw)
    except ValueError:
        return None
    return note


def course_version(exercises: Iterable[str]) -> str:
    """Another version wherever a check, or what is asked for, is another."""
    import checks

    found = hashlib.sha256("\n".join(exercises).encode())
    for path in sorted(Path(checks.__path__[0]).glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
