"""Words for the person at the terminal: steps and trouble to stderr, results to stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from rich.console import Console
from rich.text import Text

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Say

# Where the terminal lacks a letter, a question mark does: no output is worth a traceback.
for _stream in (sys.stdout, sys.stderr):
    if isinstance(_stream, TextIOWrapper):
        _stream.reconfigure(errors="replace")

# A path or URL must survive copying: no wrapping, no highlighting, no markup from data.
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def steps(first: str) -> Iterator[Say]:
    """Show what is going on while it goes on; in a log, one line a step."""
    if err.is_terminal:
        with err.status(Text(first)) as status:
            yield lambda step: status.update(Text(step))
    else:
        yield lambda step: err.print(Text(f"… {step}"))


def report(error: EngineRoomError) -> None:
    """One sentence, and what to do next."""
    err.print(Text.assemble(("Trouble: ", "bold red"), error.sentence))
    if error.fix:
        err.print(Text.assemble(("Next: ", "bold"), error.fix))
