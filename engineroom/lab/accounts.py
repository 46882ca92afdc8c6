"""Which account a server runs under: Postgres refuses root, so root hands it to another."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

from engineroom.errors import EngineRoomError


class SubprocessArguments(TypedDict, total=False):
    """The part of subprocess's arguments that changes who runs the child."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """An unprivileged account that root can run a server under."""

    name: str
    uid: int
    gid: int

    def may_read(self, path: Path) -> bool:
        """Whether this account can reach and read ``path`` (every folder on the way counts)."""
        path = path.resolve()
        return self.may_enter(path.parent) and self._allowed(path, 0o4)

    def may_enter(self, folder: Path) -> bool:
        """Whether this account can go into ``folder``."""
        folder = folder.resolve()
        return all(self._allowed(step, 0o1) for step in (folder, *folder.parents))

    def _allowed(self, path: Path, bit: int) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        if found.st_uid == self.uid:
            return bool(found.st_mode & (bit << 6))
        if found.st_gid == self.gid:
            return bool(found.st_mode & (bit << 3))
        return bool(found.st_mode & bit)


@cache
def server_account() -> Account | None:
    """The account for servers: None for an ordinary user, who runs them as themselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EngineRoomError(
        "Postgres refuses to run as root, and there is no account 'postgres' or 'nobody' here.",
        "useradd --system postgres",
    )


def run_as(account: Account | None) -> SubprocessArguments:
    """What subprocess needs to run a child under ``account``."""
    if account is None:
        return {}
    # All three: `user` alone would leave the child in root's groups.
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def give(path: Path, account: Account | None, mode: int) -> None:
    """Let ``account`` own ``path``; without one, only the mode is set."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
    os.chmod(path, mode)
