"""What subjects take of the machine, each with all that it started: watched from the nursery.

The system limits one process at a time. What sixty of them hold together, or keep in the buffers
of lines between them, and how much of the processors' time they get, is for us to see to.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_HIDDEN_IN_A_FILE = 2**19
"""What the kernel may keep behind one descriptor: the full buffers of a socket."""
_FILES_FOR_NOTHING = 256
_BUSY = 1.0
_MANNERS = 5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    seconds: float
    """Of a processor, with what its ended children took."""
    threads: int


class Shares:
    """Looks at all subjects, again and again."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._polite: dict[int, int] = {}

    def look(self, subjects: Collection[int]) -> list[int]:
        """Those who hold more memory than one process may; who works for long gives way."""
        ours = _own_memory(os.getpid())
        children: dict[int, list[_Process]] = {}
        for process in processes():
            children.setdefault(process.parent, []).append(process)
        too_large = []
        for subject in subjects:
            family = list(_family(subject, children))
            if (
                sum(max(0, _own_memory(p.pid) - ours) for p in family) + _hidden(family)
                > self._memory
            ):
                too_large.append(subject)
            elif sum(process.seconds for process in family) > _BUSY:
                self._give_way(subject, family)
        self._polite = {pid: nice for pid, nice in self._polite.items() if pid in subjects}
        return too_large

    def _give_way(self, subject: int, family: list[_Process]) -> None:
        """However many work for a subject, together they weigh less than one that has just begun:
        each step of politeness is worth a quarter."""
        crowd = sum(process.threads for process in family)
        nice = max(self._polite.get(subject, 0), _MANNERS + round(math.log(crowd or 1, 1.25)))
        self._polite[subject] = nice
        for process in family:
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{process.pid}/task"):
                    if os.getpriority(os.PRIO_PROCESS, int(thread)) < min(nice, 19):
                        os.setpriority(os.PRIO_PROCESS, int(thread), min(nice, 19))


def processes() -> Iterator[_Process]:
    """Each process that can be seen from here."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            told = entry.read_text(errors="replace").rpartition(")")[2].split()
            ticks = sum(map(int, told[11:15]))
            yield _Process(int(entry.parent.name), int(told[1]), ticks / _TICKS, int(told[17]))


def _family(subject: int, children: dict[int, list[_Process]]) -> Iterator[_Process]:
    todo = [p for found in children.values() for p in found if p.pid == subject]
    while todo:
        process = todo.pop()
        yield process
        todo += children.get(process.pid, [])


def _own_memory(pid: int) -> int:
    """What a process holds beside files, in bytes: its own and shared memory, and the tables of a
    wide and empty one."""
    kilobytes = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:", "VmPTE:")):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024


def _hidden(family: list[_Process]) -> int:
    """What many open files may hold, beyond what the limit of one process allows."""
    if len(family) < 2:
        return 0
    count = 0
    for process in family:
        with contextlib.suppress(OSError):
            count += len(os.listdir(f"/proc/{process.pid}/fd"))
    return max(0, count - _FILES_FOR_NOTHING) * _HIDDEN_IN_A_FILE
