"""What lies in a submission: notebooks, found without following, unpacking or trusting anything.

A learner's folder may hold links, pipes and a million files, a learner's zip may be a bomb, and
its directory may lie. So a link is never followed, nothing but a regular file is opened, nothing
is written to a disk, and there is a limit to all that is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from engineroom.grading.errors import UnreadableError

MB = 2**20
NOTEBOOK_LIMIT = 200 * MB
TOTAL_LIMIT = 400 * MB
FILE_LIMIT, CLASS_LIMIT = 10_000, 500_000
DEPTH_LIMIT = 30
# Fifty megabytes of the same word, as saved by a loop without end, pack a thousand to one.
HONEST_UNPACKED, HONEST_RATIO = 100 * MB, 100
_DIRECTORY_LIMIT, _CLASS_DIRECTORY_LIMIT = 4 * MB, 64 * MB

_HIDDEN = (".", "__MACOSX", "~$")
_NOT_THEIRS = {"__pycache__", "node_modules", "site-packages", "Thumbs.db", "desktop.ini"}
_NOTEBOOK = re.compile(r"\.ipynb(\.(txt|json))?\Z", re.IGNORECASE)
# Whatever zipfile makes of a file that was damaged, by accident or on purpose.
_ZIP_TROUBLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ValueError, RuntimeError, NotImplementedError, IndexError, KeyError, OverflowError),
)
_CHUNK = MB


@dataclass(frozen=True)
class Place:
    """Where a submission, or a part of it, lies."""

    path: Path
    member: str = ""
    """Its name inside the zip at ``path``, when that holds a whole class."""
    name: str = ""
    """What the learner called it, where the path says it otherwise."""

    def __str__(self) -> str:
        return f"{self.path.name}/{self.member}" if self.member else self.path.name


@dataclass
class Findings:
    """What was met besides notebooks, for whoever wonders why there are so few."""

    broken: list[tuple[str, str]] = field(default_factory=list)
    """A notebook's or zip's name, and why it cannot be read."""
    others: list[str] = field(default_factory=list)
    """Files that are neither."""
    notes: list[str] = field(default_factory=list)
    left: int = TOTAL_LIMIT
    """Bytes that may still be read."""


def is_notebook(name: str) -> bool:
    return _NOTEBOOK.search(name) is not None


def is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def is_hidden(name: str) -> bool:
    """The system's own, or a tool's: not what a learner hands in."""
    return name.startswith(_HIDDEN) or name in _NOT_THEIRS


def notebooks_in(place: Place, findings: Findings) -> Iterator[tuple[str, bytes]]:
    """Each notebook's name and content; what is wrong with others goes into the findings."""
    path, name = place.path, place.name or place.member.rpartition("/")[2] or place.path.name
    try:
        if place.member:
            with _open_class(path) as file:
                yield from _in_zip(path.name, file, findings, place.member, name)
        elif stat.S_ISDIR(_mode(path)):
            for inner in _walk(path, findings):
                yield from _in_file(inner, inner.name, findings)
        else:
            yield from _in_file(path, name, findings)
    except UnreadableError as error:
        findings.broken.append((name, str(error)))
    except OSError as error:
        findings.broken.append((name, _cannot_open(name, error)))


def fingerprint(place: Place) -> bytes:
    """A digest of what lies there; another when anything in it changes."""
    found = hashlib.blake2b(digest_size=16)
    findings = Findings()
    try:
        if place.member:
            with _open_class(place.path) as file, zipfile.ZipFile(file) as archive:
                for info, name in _members(archive, place.member):
                    found.update(f"{name}\0{info.CRC}\0{info.file_size}\0".encode(errors="replace"))
        else:
            folder = stat.S_ISDIR(_mode(place.path))
            for path in _walk(place.path, findings) if folder else [place.path]:
                name = os.path.relpath(path, place.path.parent)
                found.update(os.fsencode(name) + b"\0")
                with _open(path) as file:
                    while chunk := file.read(_CHUNK):
                        found.update(chunk)
    except (UnreadableError, *_ZIP_TROUBLE) as error:
        found.update(repr(error).encode(errors="replace"))
    found.update(repr((findings.broken, findings.notes)).encode(errors="replace"))
    return found.digest()


# -- files and folders ---------------------------------------------------------------------


def _in_file(path: Path, name: str, findings: Findings) -> Iterator[tuple[str, bytes]]:
    if not (is_zip(name) or is_notebook(name)):
        findings.others.append(name)
        return
    try:
        with _open(path) as file:
            if is_zip(name):
                yield from _in_zip(name, file, findings)
            else:
                yield name, _bounded(name, file, findings)
    except UnreadableError as error:
        findings.broken.append((name, str(error)))
    except OSError as error:
        findings.broken.append((name, _cannot_open(name, error)))


def _mode(path: Path) -> int:
    """What there is at a path; it must be something that can be read."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise UnreadableError(f"`{path.name}` is a link to somewhere else; ask for the file itself")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadableError(f"`{path.name}` is no file, but {_kind(mode)}; ask for the notebook")
    return mode


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _open(path: Path) -> _Careful:
    """A regular file, opened; never one that a link leads to, or that opening could wait for."""
    if stat.S_ISDIR(_mode(path)):
        raise UnreadableError(f"`{path.name}` is a folder and not a file; ask for the notebook")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = _Careful(io.FileIO(descriptor))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise UnreadableError(f"`{path.name}` changed while it was read; ask for it again")
    return file


def _open_class(path: Path) -> _Careful:
    """The zip of a whole class, which the instructor got from a school's system."""
    file = _open(path)
    file.most = _CLASS_DIRECTORY_LIMIT
    return file


def _cannot_open(name: str, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"`{name}` cannot be opened ({reason}); make it readable, or ask for it again"


def _walk(folder: Path, findings: Findings) -> list[Path]:
    """The notebooks and zips of a folder, in a fixed order."""
    found: list[Path] = []
    todo = deque([(folder, 0)])
    seen = 0
    while todo:
        here, depth = todo.popleft()
        try:
            with os.scandir(here) as listing:
                entries = []
                for entry in listing:
                    entries.append(entry)
                    seen += 1
                    if seen > FILE_LIMIT:
                        raise UnreadableError(
                            f"`{folder.name}` holds more than {FILE_LIMIT:,} files; "
                            "ask for the notebook alone"
                        )
        except OSError as error:
            findings.broken.append((here.name, _cannot_open(here.name, error)))
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue  # a virtual environment, with the notebooks of other people
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden(entry.name):
                continue
            if entry.is_symlink():
                findings.notes.append(f"`{entry.name}` is a link and was not followed")
            elif entry.is_dir(follow_symlinks=False):
                if depth == DEPTH_LIMIT:
                    findings.notes.append(
                        f"`{entry.name}` lies more than {DEPTH_LIMIT} folders deep "
                        "and was not looked into"
                    )
                else:
                    todo.append((Path(entry.path), depth + 1))
            elif not entry.is_file(follow_symlinks=False):
                kind = _kind(entry.stat(follow_symlinks=False).st_mode)
                findings.notes.append(f"`{entry.name}` is {kind} and was not opened")
            elif is_notebook(entry.name) or is_zip(entry.name):
                found.append(Path(entry.path))
            else:
                findings.others.append(entry.name)
    return sorted(found)


def _bounded(
    name: str, file: IO[bytes] | io.BufferedReader, findings: Findings, most: int = 0
) -> bytes:
    """All of a file, unless it is more than may be read."""
    most = min(NOTEBOOK_LIMIT, findings.left, most or NOTEBOOK_LIMIT)
    parts, size = [], 0
    while chunk := file.read(_CHUNK):
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            raise UnreadableError(
                f"`{name}` comes to more than {most // MB} MB; ask for it with its outputs cleared"
            )
    findings.left -= size
    return b"".join(parts)


# -- zips ----------------------------------------------------------------------------------


class _Careful(io.BufferedReader):
    """A file of which nobody reads a huge piece at once, as ``zipfile`` would a huge directory."""

    most = _DIRECTORY_LIMIT

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise UnreadableError("the zip lists far more files than a lesson has")
        return super().read(size)


def top_of_zip(path: Path, folder: str = "") -> list[tuple[str, bool]]:
    """What is at the top of a zip of a class, or of a folder in it: the name, and if a folder."""
    found: dict[str, bool] = {}
    try:
        with _open_class(path) as file, zipfile.ZipFile(file) as archive:
            for _, name in _members(archive, folder, CLASS_LIMIT):
                top, slash, _ = name.removeprefix(f"{folder}/").partition("/")
                found[top] = found.get(top, False) or bool(slash)
    except OSError as error:
        raise UnreadableError(_cannot_open(path.name, error)) from None
    except _ZIP_TROUBLE as error:
        raise UnreadableError(_damaged(path.name, error)) from None
    return [(name, found[name]) for name in sorted(found)]


def _in_zip(
    name: str, file: _Careful, findings: Findings, member: str = "", called: str = ""
) -> Iterator[tuple[str, bytes]]:
    """The notebooks of a learner's zip; or, in one that holds a class, those of one member."""
    room = max(HONEST_UNPACKED, HONEST_RATIO * file.seek(0, os.SEEK_END))
    try:
        with zipfile.ZipFile(file) as archive:
            for info, path in _members(archive, member):
                inner = called if path == member else path.rpartition("/")[2]
                if why := _left_alone(info, path, nested=not member):
                    findings.notes.append(why)
                elif not (is_zip(inner) or is_notebook(inner)):
                    findings.others.append(inner)
                else:
                    content = _unpacked(archive, info, inner, findings, room)
                    if content is None:
                        continue
                    room -= len(content)
                    if is_zip(inner):
                        with _Careful(io.BytesIO(content)) as packed:
                            yield from _in_zip(inner, packed, findings)
                    else:
                        yield inner, content
    except UnreadableError as error:
        findings.broken.append((name, str(error)))
    except _ZIP_TROUBLE as error:
        findings.broken.append((name, _damaged(name, error)))


def _members(
    archive: zipfile.ZipFile, member: str = "", most: int = FILE_LIMIT
) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """The files that a zip lists, or those of one of its folders; never the system's own."""
    listed = archive.infolist()
    if len(listed) > most and not member:
        raise UnreadableError(f"the zip holds more than {most:,} files; ask for the notebook alone")
    for info in listed:
        path = _path_in_zip(info)
        parts = path.split("/")
        if info.is_dir() or not path or any(is_hidden(part) and part != ".." for part in parts):
            continue
        if not member or path == member or path.startswith(member + "/"):
            yield info, path


def _path_in_zip(info: zipfile.ZipInfo) -> str:
    """A member's path with ``/`` between its parts, and in the letters it was written in."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()  # Macs write UTF-8 without saying so
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _left_alone(info: zipfile.ZipInfo, path: str, *, nested: bool) -> str:
    """Why a member is not read, if so."""
    name = path.rpartition("/")[2]
    if ".." in path.split("/"):
        return f"`{path}` points out of the zip and was not read"
    if stat.S_ISLNK(info.external_attr >> 16):
        return f"`{name}` is a link and was not followed"
    if is_zip(name) and nested:
        return f"`{name}` is a zip inside a zip and was not opened"
    return ""


def _unpacked(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, findings: Findings, room: int
) -> bytes | None:
    """One member; or None, and a reason in the findings."""
    try:
        if info.flag_bits & 1:
            raise UnreadableError(f"`{name}` is locked with a password; ask for it without one")
        if room <= 0:
            raise UnreadableError(
                f"`{name}` is packed too tightly to be honest; ask for it unpacked"
            )
        with archive.open(info) as file:
            return _bounded(name, file, findings, room)
    except UnreadableError as error:
        findings.broken.append((name, str(error)))
    except _ZIP_TROUBLE as error:
        findings.broken.append((name, _damaged(name, error)))
    return None


def _damaged(name: str, error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return f"`{name}` is packed in a way that is not known here; ask for the notebook itself"
    return f"`{name}` is damaged, or no zip file; ask for the notebook itself"
