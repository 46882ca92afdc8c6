"""Which of the four providers serves, told by the environment. Cheap: every kernel asks."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from engineroom.errors import EngineRoomError

PROVIDERS = ("external", "compose", "container", "embedded")


@dataclass(frozen=True)
class Choice:
    """A provider and why it was taken."""

    provider: str
    reason: str
    forced: bool
    passing: str = ""
    """The folder of a cluster that goes with its last user, if that is the one meant."""

    @property
    def key(self) -> str:
        """What tells the keepers of one home apart: one runs for each provider in use."""
        if self.provider != "external":
            return f"{self.provider}-passing" if self.passing else self.provider
        url = os.environ.get("ENGINEROOM_DATABASE_URL", "")
        return f"external-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def choose() -> Choice:
    """The provider asked for, or the first that is there."""
    forced = os.environ.get("ENGINEROOM_POSTGRES", "").strip().lower()
    url = os.environ.get("ENGINEROOM_DATABASE_URL", "").strip()
    if forced:
        if forced not in PROVIDERS:
            raise EngineRoomError(
                f"ENGINEROOM_POSTGRES is {forced!r}; it can be {', '.join(PROVIDERS)}.",
                "unset ENGINEROOM_POSTGRES",
            )
        if forced == "external" and not url:
            raise EngineRoomError(
                "ENGINEROOM_POSTGRES asks for an external server, but ENGINEROOM_DATABASE_URL "
                "does not say which.",
                "export ENGINEROOM_DATABASE_URL=postgresql://user:password@host:5432/database",
            )
        return Choice(forced, "ENGINEROOM_POSTGRES asks for it", forced=True)
    if url:
        return Choice("external", "ENGINEROOM_DATABASE_URL names it", forced=True)
    from engineroom.lab.providers.compose import compose_is_up

    if compose_is_up():
        return Choice("compose", "the bundled container is up", forced=False)
    return Choice("embedded", "nothing else is set up", forced=False)


def embedded_instead(refused: EngineRoomError) -> Choice:
    """What is left when the container that seemed to be ours was not."""
    return Choice("embedded", f"not the container: {refused.sentence}", forced=False)
