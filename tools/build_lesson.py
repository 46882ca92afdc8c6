"""Turn a lesson's .py into its notebook: convert, put the pictures in, run every cell.

    python tools/build_lesson.py 00_welcome

Stands in until `engineroom build` exists.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "solutions" / "pictures"


def build(name: str) -> Path:
    """Build ``notebooks/NAME.ipynb`` from ``solutions/NAME.py``."""
    notebook = jupytext.read(ROOT / "solutions" / f"{name}.py")
    # Cells keep their ids from one build to the next, so that a diff shows what changed.
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"{name.partition('_')[2]}-{number:02}"
        if cell.cell_type == "markdown":
            _attach(cell)
    NotebookClient(
        notebook,
        timeout=60,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                sys.exit(f"{name}, cell {cell.id} wrote to stderr:\n{output.text}")
    for key in set(notebook.metadata) - {"kernelspec"}:
        del notebook.metadata[key]
    # Enough to colour the code; which Python built it is nobody's business.
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    nbformat.validate(notebook)
    target = ROOT / "notebooks" / f"{name}.ipynb"
    target.write_text(nbformat.writes(notebook) + "\n", "utf-8")  # type: ignore[no-untyped-call]
    return target


def _attach(cell: Any) -> None:
    """A picture travels inside the notebook: learners get one file, not a folder."""
    for picture in re.findall(r"\(attachment:([\w.-]+)\)", cell.source):
        data = base64.b64encode((PICTURES / picture).read_bytes()).decode()
        cell.setdefault("attachments", {})[picture] = {"image/png": data}


if __name__ == "__main__":
    for lesson in sys.argv[1:]:
        print(build(lesson).relative_to(ROOT))
