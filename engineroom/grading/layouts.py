"""Whose file is it? How a folder, Canvas and Moodle name what learners hand in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from engineroom.grading.parcels import is_notebook, is_zip

Layout = Literal["plain", "canvas", "moodle"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# doejane_LATE_12345_67890_04_pooling-1.ipynb: name, user's number, upload's number, file.
_CANVAS = re.compile(r"(?i)(?P<name>.+?)_(?:late_)?(?P<id>\d+)_(?P<upload>\d+)_(?P<file>.+)")
# Typed into the browser, or a link, where a file was wanted.
_CANVAS_TEXT = re.compile(r"(?i)(?P<name>.+?)_(?:late_)?(?P<id>\d+)_(?P<file>(text|link)\.html)")
_CANVAS_NAMELESS = re.compile(
    r"(?i)(?:late_)?(?P<name>anon_[^_]+)_(?:(?P<upload>\d+)_)?(?P<file>.+)"
)
# Jane Doe_1234_assignsubmission_file_/04_pooling.ipynb; without the slash before Moodle 3.1.
_MOODLE = re.compile(
    r"(?is)(?P<name>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+(?:_(?P<file>.*))?",
)
_SUFFIX = re.compile(r"(\.ipynb(\.(txt|json))?|\.\w{1,8})\Z", re.IGNORECASE)
# Handed in by mistake for a notebook. Other files beside submissions are the instructor's own.
_INSTEAD = {".py", ".html", ".htm", ".pdf", ".doc", ".docx", ".odt", ".rtf"}
_INSTEAD |= {".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"}


@dataclass(frozen=True)
class Label:
    """What an entry's name says."""

    learner: str
    identity: str = ""
    """The school's own number, where two learners have one name."""
    file: str = ""
    """What the learner called the file; empty for a folder."""
    upload: int = 0
    """Later uploads have higher numbers."""


def label(entry: str, *, folder: bool, layout: Layout) -> Label | None:
    """Whose an entry is by its name; None when the layout does not name things so."""
    if layout == "plain":
        return plain(entry, folder=folder)
    patterns = (_CANVAS_NAMELESS, _CANVAS, _CANVAS_TEXT) if layout == "canvas" else (_MOODLE,)
    for pattern in patterns:
        if found := pattern.fullmatch(entry):
            said = found.groupdict()
            return Label(
                shown(said["name"]),
                said.get("id") or "",
                "" if folder else said.get("file") or entry,
                int((said.get("upload") or "0")[:18]),
            )
    return None


def plain(entry: str, *, folder: bool) -> Label | None:
    """A folder, a zip or a notebook is a learner's, and so is what they took for one."""
    if folder:
        return Label(shown(entry))
    suffix = _SUFFIX.search(entry)
    if suffix and (is_notebook(entry) or is_zip(entry) or suffix[0].lower() in _INSTEAD):
        return Label(shown(entry[: suffix.start()]), file=entry)
    return None


def shown(name: str) -> str:
    """A name as it can stand anywhere: composed, and with nothing in it that works in secret.

    Whatever moves a cursor, ends a line, turns the direction of writing or is no character at
    all is spelled out. Letters of every script, emoji and their joiners stay.
    """
    composed = unicodedata.normalize("NFC", name).strip()
    return "".join(_spelled(c) if _works_in_secret(c) else c for c in composed) or "(no name)"


def _works_in_secret(character: str) -> bool:
    turning = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return turning or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _spelled(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
