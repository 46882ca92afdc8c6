"""Which process an answer is put into: a fresh one, or the one that the answer before it passed in.

To be born, and to touch for the first time what every answer touches, costs a subject more than
most answers do. So where many are judged, one serves a learner's next answer too, if the last one
passed and left it as it was (``engineroom.exercises.traces``). What then does not pass is judged
once more in a fresh one: no answer is refused for what another one did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engineroom.exercises.subject import Nursery, Subject


class Lodging:
    """One learner's subjects, one at a time."""

    def __init__(self, nursery: Nursery, *, renews: bool) -> None:
        self.renews = renews and nursery.isolates
        self.renewed = False
        """Whether the subject that was taken last had served another answer before."""
        self._nursery = nursery
        self._kept: Subject | None = None

    async def take(
        self, lab: dict[str, Any], doors: Sequence[str], files: Mapping[str, str]
    ) -> Subject:
        """A subject that knows this lab, with these doors to it."""
        kept, self._kept = self._kept, None
        self.renewed = kept is not None and _serves(kept, doors, files)
        if kept is not None:
            if self.renewed:
                kept.renew(lab)
                return kept
            await kept.kill()
        fresh = await self._nursery.subject(lab, doors, files)
        fresh.watched = self.renews
        return fresh

    async def give_back(self, subject: Subject, *, passed: bool) -> None:
        """The end of a subject, or the beginning of its next answer."""
        if self.renews and passed and subject.clean:
            self._kept = subject
        else:
            await subject.kill()

    async def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.kill()


def _serves(kept: Subject, doors: Sequence[str], files: Mapping[str, str]) -> bool:
    """Whether it has the doors and the files that are asked for."""
    return set(doors) <= set(kept.doors) and files.items() <= kept.files.items()
