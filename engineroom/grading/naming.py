"""A file for each learner, whatever they are called."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable

# Windows opens a device for these, whatever stands after a dot.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(10)}
_SIGNS = " ._@+,-()"
_LONGEST = 100  # bytes, of 255 that a name may have


def file_names(learners: Iterable[str]) -> dict[str, str]:
    """The name, without its ending, of each learner's file.

    A learner's own name where it is fit for one on every system. Where it is not, and where two
    differ in capitals only, a digest of the name is added, so it is the same in each run and
    nobody can choose somebody else's.
    """
    names = sorted(set(learners))
    alike = Counter(map(_folded, names))
    return {
        name: name if _is_fit(name) and alike[_folded(name)] == 1 else _with_digest(name)
        for name in names
    }


def _folded(name: str) -> str:
    """Two names that this makes equal are one file to some system."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _is_fit(name: str) -> bool:
    return (
        all(letter.isalnum() or letter in _SIGNS for letter in name)
        and name == name.strip(" .")
        and not name.startswith("-")  # no program should take it for an option
        and name != ""
        and name == unicodedata.normalize("NFC", name)
        and len(name.encode()) <= _LONGEST
        and name.partition(".")[0].strip().casefold() not in _DEVICES
    )


def _with_digest(name: str) -> str:
    """The letters of the name, so that people find it, and what makes it the only one."""
    letters = (letter if letter.isalnum() else "-" for letter in unicodedata.normalize("NFC", name))
    words = "-".join(filter(None, "".join(letters).split("-")))
    start = words.encode()[:40].decode(errors="ignore")
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{start or 'learner'}~{digest}"  # no fit name holds a ~
