"""Starting and ending the programs of the lab, so that none outlives its keeper."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engineroom.lab.accounts import Account, run_as

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 4 * 1024 * 1024
# Loaded before any fork: the child may only call what is already there.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(sign: signal.Signals) -> Callable[[], None] | None:
    """A ``preexec_fn`` that asks Linux to signal the child when its parent ends, even by kill -9.

    The kernel ties this to the parent's *thread*, so start children from the main thread.
    Elsewhere there is no such thing; there the next start clears what was left.
    """
    if _libc is None:
        return None
    libc, number, parent = _libc, int(sign), os.getpid()

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent ended before the request was made
            os._exit(1)

    return before_exec


def rotate(file: Path) -> None:
    """Begin a log anew when it is long, keeping the one before."""
    with contextlib.suppress(OSError):
        if file.stat().st_size > _LOG_LIMIT:
            file.replace(file.with_name(f"{file.name}.1"))


async def spawn(
    command: Sequence[str],
    *,
    log: Path,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
    memory: int = 0,
) -> asyncio.subprocess.Process:
    """Start a server in its own session, its words going to ``log``.

    ``memory`` is what each of its processes may take, beside what they share.
    """
    dying = die_with_parent(death_signal)

    def before_exec() -> None:
        if memory and sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        if dying is not None:
            dying()

    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=dict(env) if env is not None else clean_environment(),
            cwd=cwd,
            preexec_fn=before_exec,
            **run_as(account),
        )


async def end(
    process: asyncio.subprocess.Process,
    first: signal.Signals = signal.SIGTERM,
    then: signal.Signals = signal.SIGKILL,
    patience: float = 8.0,
) -> None:
    """End a process we started: ask, wait, insist."""
    for sign in (first, then):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(sign)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
            return


def clean_environment() -> dict[str, str]:
    """The environment without what would change how Postgres or libpq behave."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_")) and name not in ("LANG", "LANGUAGE", "TZ")
    }
    return kept | {"LC_ALL": "C", "TZ": "UTC"}
