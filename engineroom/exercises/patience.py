"""A time limit that counts less of the time in which a machine has too much to do.

Ten seconds are plenty for an answer that needs half a second, while its processes get their
turn. Where many times more want to run than there are cores, they do not, and an answer would
pay for its neighbours. So a second then counts for what it is worth, within bounds: nobody
makes an endless loop endless by starting sixty more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

_AT_MOST = 3
"""How many times its seconds an answer may take by the clock on the wall."""
_CROWDED = 4
"""How many processes to a core may want to run before seconds count less. A grading has so
many jobs if nobody says otherwise, and each of them mostly waits."""
_LOOK = 0.5


def crowd() -> float:
    """How many processes want to run for each core of ours; 0 where nobody says."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            for line in file:
                if line.startswith("procs_running "):
                    return int(line.split()[1]) / len(os.sched_getaffinity(0))
    except (OSError, ValueError, AttributeError):  # no Linux, or a /proc of another kind
        pass
    return 0


@contextlib.asynccontextmanager
async def fair_timeout(seconds: float, crowd: Callable[[], float] = crowd) -> AsyncIterator[None]:
    """End what is inside with a ``TimeoutError`` after so many seconds of a machine with time."""
    loop = asyncio.get_running_loop()
    looked = loop.time()
    latest = looked + _AT_MOST * seconds
    look = min(_LOOK, seconds / 4)
    coming: asyncio.TimerHandle

    # A plain call of the loop's: if both are late, a task would hear of it after the limit.
    def stretch() -> None:
        nonlocal looked, coming
        now = loop.time()
        lost = (now - looked) * (1 - _CROWDED / max(crowd(), _CROWDED))
        looked = now
        if (end := limit.when()) is not None and not limit.expired():
            limit.reschedule(min(end + lost, latest))
            coming = loop.call_later(look, stretch)

    coming = loop.call_later(look, stretch)
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    finally:
        coming.cancel()
