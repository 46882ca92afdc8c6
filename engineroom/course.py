"""Where the course's files are, and the learner's own copies of its lessons."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from engineroom.errors import EngineRoomError

WELCOME = "00_welcome.ipynb"


def course_root() -> Path:
    """The folder with ``notebooks/``: the checkout we stand in, or the one we run from."""
    here = Path.cwd()
    package = Path(__file__).resolve().parent
    for folder in (here, *here.parents, package.parent, package / "_course"):
        if (folder / "notebooks" / WELCOME).is_file():
            return folder
    raise EngineRoomError(
        "The course's notebooks are not here, nor beside the installed program.",
        "cd to the folder you cloned, then: make lab",
    )


def work_folder(root: Path, fallback: Path) -> Path:
    """Where the learner's copies live: ``work/`` of the checkout, or where one can write."""
    for folder in (root / "work", fallback / "work"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise EngineRoomError(
        f"Neither {root / 'work'} nor {fallback / 'work'} can be written.",
        "ENGINEROOM_HOME=/path/you/can/write engineroom lab",
    )


def copy_lessons(root: Path, work: Path) -> list[Path]:
    """Copy each lesson that the learner has not got yet; one that is there is theirs."""
    copied = []
    for source in sorted((root / "notebooks").glob("*.ipynb")):
        target = work / source.name
        if target.exists():
            continue
        # Linking the finished copy into place neither shows half a notebook nor overwrites one.
        with tempfile.NamedTemporaryFile(dir=work, prefix=".lesson-", delete=False) as fresh:
            temporary = Path(fresh.name)
        try:
            temporary.write_text(_unspoilt(source.read_text("utf-8")), "utf-8")
            temporary.chmod(0o644)
            os.link(temporary, target)
            copied.append(target)
        except FileExistsError:  # another `engineroom lab` was quicker
            pass
        except OSError as error:
            raise EngineRoomError(
                f"The lesson {source.name} could not be copied to {work}: {error.strerror}.",
                "free some space, then: engineroom lab",
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
    return copied


def _unspoilt(lesson: str) -> str:
    """The lesson without those outputs that would give a prediction away."""
    notebook = json.loads(lesson)
    for cell in notebook.get("cells", []):
        if "predict" in cell.get("metadata", {}).get("tags", []):
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
