"""People run cells twice. Every lesson, with every cell run twice in a row, still works."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_helpers import ROOT, Lab
from nbclient import NotebookClient

SOLVED = sorted((ROOT / "solutions").glob("*.ipynb"))
# A learner's notebook has the same cells, with gaps for answers: of those one is enough.
NOTEBOOKS = [*SOLVED, ROOT / "notebooks" / SOLVED[0].name]


def doubled(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            again = copy.deepcopy(cell)
            again.id = f"{cell.id}-again"
            cells.append(again)
    notebook.cells = cells
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_cell_can_be_run_twice(
    path: Path, common_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in common_lab.env.items():
        monkeypatch.setenv(name, value)
    notebook = doubled(path)
    assert any(cell.cell_type == "code" for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=60, resources={"metadata": {"path": str(path.parent)}}
    )
    asyncio.run(client.async_execute())
    said = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert not [o.text for o in said if o.get("name") == "stderr"]
