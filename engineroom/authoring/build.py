"""``engineroom build``: sources to executed notebooks; nothing is touched that is current."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engineroom.authoring.source import LessonSource, find_sources, same_cells
from engineroom.errors import EngineRoomError

_CELL_SECONDS = 120
_WIDGET = "application/vnd.jupyter.widget-view+json"
# What may stand in no kept output: it would differ at every build and says nothing.
_VARYING = {
    "a process id": re.compile(r"\bpid\W{1,3}\d+", re.IGNORECASE),
    "an address in memory": re.compile(r"\b0x[0-9a-f]{6,}\b"),
    "the lab's password": re.compile(r"er_[0-9a-f]{6}_[0-9a-f]{8}_(?:owner|app):(?!\*)"),
    "the lab's port": re.compile(r"(?:localhost|127\.0\.0\.1):\d{4,5}\b"),
}


@dataclass(frozen=True)
class Target:
    """One of the two notebooks of a lesson."""

    source: LessonSource
    root: Path
    solved: bool

    @property
    def path(self) -> Path:
        return (
            self.root / ("solutions" if self.solved else "notebooks") / f"{self.source.stem}.ipynb"
        )

    def is_current(self) -> bool:
        """By hash, and by comparing cells, so that an edit by hand shows as well."""
        import nbformat

        try:
            built = nbformat.read(self.path, as_version=4)  # type: ignore[no-untyped-call]
        except (OSError, ValueError):
            return False
        marks = built.metadata.get("engineroom", {})
        return bool(marks.get("built_from") == self.source.digest) and same_cells(
            built, self.source.notebook(solved=self.solved)
        )

    async def build(self) -> None:
        """Execute it and put it in place whole."""
        import nbformat

        notebook = self.source.notebook(solved=self.solved)
        language = dict(notebook.metadata["language_info"])
        await _execute(notebook, self.path)
        notebook.metadata["language_info"] = language  # the kernel wrote its version there
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            _tidy(cell, self.path)
        nbformat.validate(notebook)
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        fresh.write_text(text + "\n", "utf-8")
        fresh.replace(self.path)


def targets(root: Path, wanted: list[str] | None = None) -> list[Target]:
    """Both notebooks of each lesson; the solved one only where there is something to solve."""
    return [
        Target(source, root, solved)
        for source in find_sources(root, wanted)
        for solved in (False, True)
        if not solved or any(source.answers())
    ]


async def build_all(stale: list[Target], jobs: int, tell: Any) -> None:
    """Build them, a few at a time."""
    turn = asyncio.Semaphore(jobs)

    async def one(target: Target) -> None:
        async with turn:
            await target.build()
            tell(target)

    # All are tried: whoever mends one lesson wants to know of the others too.
    for outcome in await asyncio.gather(*map(one, stale), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _execute(notebook: Any, path: Path) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        # Its warning about unencrypted loopback is nothing an author can act on.
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        await client.async_execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        last = str(error).strip().splitlines()[-1]
        raise EngineRoomError(
            f"{path.name} does not run to its end: {last}",
            f"mend the cell, then: engineroom build {path.stem}",
        ) from error


def _tidy(cell: Any, path: Path) -> None:
    for output in cell.get("outputs", []):
        output.get("data", {}).pop(_WIDGET, None)  # no kernel, no widget; its text stays
        words = str(output.get("text", "")) + str(output.get("data", ""))
        trouble = "words on stderr" if output.get("name") == "stderr" else ""
        for what, pattern in _VARYING.items():
            trouble = trouble or (what if pattern.search(words) else "")
        if trouble:
            raise EngineRoomError(
                f"{path.name}, cell {cell.id}: its output holds {trouble}, "
                "which would differ at every run.",
                f"let the cell show something steady, then: engineroom build {path.stem}",
            )
