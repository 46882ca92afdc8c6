"""Which cells a learner has run in this session, also where the kernel keeps no history."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_ran: list[tuple[str, str | None]] = []
"""What was run, and the id of its cell where the notebook says one."""
_watching: list[Any] = []


def watch(afterwards: Callable[[], None] = lambda: None) -> None:
    """Note every cell from now on, and those before as far as the kernel remembers them;
    do ``afterwards`` once the cell is done that this is called in.

    Called when the first exercise is imported. Whoever runs notebooks by program often keeps no
    history, so history alone would make such a run's answers "not attempted".
    """
    shell = _shell()
    if shell is None or shell in _watching:
        return
    _watching.append(shell)
    _ran.extend((source, None) for source in shell.history_manager.input_hist_raw)

    def before(info: Any) -> None:
        _ran.append((info.raw_cell, getattr(info, "cell_id", None)))

    def after_this_one(result: Any) -> None:
        # The cell that imports us began before we could note it.
        shell.events.unregister("post_run_cell", after_this_one)
        if result.info is not None and result.info.raw_cell not in dict(_ran):
            before(result.info)
        afterwards()

    shell.events.register("pre_run_cell", before)
    shell.events.register("post_run_cell", after_this_one)


def executed() -> list[tuple[int, str]] | None:
    """Every cell as it was run last, in that order; None outside a notebook.

    What a cell held before it was edited and run again stands in the notebook no more, so after
    "restart and run all" it would not be there.
    """
    if _shell() is None:
        return None
    watch()
    last = {cell: number for number, (_, cell) in enumerate(_ran) if cell is not None}
    return [
        (number + 1, source)
        for number, (source, cell) in enumerate(_ran)
        if source.strip() and last.get(cell or "", number) == number
    ]


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()
