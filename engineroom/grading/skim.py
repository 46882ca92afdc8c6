"""A notebook's cells out of its JSON, with the saved outputs stepped over.

Outputs may be fifty megabytes of ``x``, one object a line, and nobody grades them. They are
skipped at the speed of a regular expression and never become objects. What is kept is small, and
read by the real JSON decoder.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from engineroom.grading.errors import UnreadableError

_DEPTH = 500
_STEPS = 5_000_000
"""Brackets to step over, some seconds' worth: a notebook has far fewer."""
_SMALL = 2**20
"""Bytes of a cell's metadata or source; what is longer is nobody's answer."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+'
# All up to a bracket that has others inside.
_FLAT = re.compile(
    _PLAIN + rb"(?:(?:\[" + _PLAIN + rb"\]|\{" + _PLAIN + rb"\})" + _PLAIN + rb")*+", re.DOTALL
)
_TEXT = re.compile(_STRING, re.DOTALL)
_WORD = re.compile(rb"[\w.+-]+")
# Between two things: white space, a comma, and the lines that a merge left behind.
_MARK = rb"(?:<{7}|={7}|>{7}|\|{7})(?=[ \r\n])[^\n]*+"
_BETWEEN = re.compile(rb"(?:[\s,]++|" + _MARK + rb")*+")
_COLON = re.compile(rb"\s*:\s*")
_CONFLICT = re.compile(rb"^<{7} ", re.MULTILINE)
_LINE_OF_SOURCE = re.compile(rb"(" + _STRING + rb")|(" + _MARK + rb")", re.DOTALL)

_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")
_WANTED = {"cell_type", "metadata", "source", "input", "code"}


def cells_in(name: str, content: bytes) -> Iterator[dict[str, Any]]:
    """Each cell's type, metadata and source, of any version of the format."""
    content = _as_utf8(content)
    if not content.strip():
        raise UnreadableError(f"`{name}` is empty; ask for it again")
    try:
        yield from _Skim(content).cells()
    except _NoNotebook as trouble:
        raise UnreadableError(_why(name, content, str(trouble))) from None


def _as_utf8(content: bytes) -> bytes:
    encoding = json.detect_encoding(content[:4])
    if encoding in ("utf-8", "utf-8-sig"):
        return content.removeprefix(codecs.BOM_UTF8)
    return content.decode(encoding, "replace").encode("utf-8", "replace")


class _NoNotebook(Exception):
    """What it lacks."""


def _why(name: str, content: bytes, lacks: str) -> str:
    if _CONFLICT.search(content):
        return f"`{name}` holds both sides of a merge conflict (<<<<<<<); ask for it merged"
    if not content.lstrip().startswith((b"{", b"[")):
        start = content.lstrip()[:24].decode("utf-8", "replace").split("\n")[0].strip()
        lacks = f"it is not JSON (it begins with {start!a})"
    return f"`{name}` is no notebook: {lacks}; ask for the file itself"


class _Skim:
    """Goes through the text once; ``_at`` is where it has come to."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self._steps = 0

    def cells(self) -> Iterator[dict[str, Any]]:
        found = False
        self._go_on(0)
        if self._here not in _OPENING:
            raise _NoNotebook("it is not JSON")
        for key in self._members():
            if key == "cells":
                found |= self._here == b"["
                yield from self._list_of_cells()
            elif key == "worksheets":  # versions 2 and 3
                for _ in self._items():
                    for inner in self._members():
                        if inner == "cells":
                            found |= self._here == b"["
                            yield from self._list_of_cells()
        self._go_on(self._at)
        if self._here and found:
            raise self._broken()  # an end that comes too early: perhaps there was more
        if not found:
            raise _NoNotebook("it has no cells")

    def _list_of_cells(self) -> Iterator[dict[str, Any]]:
        for _ in self._items():
            yield {key: self._value(key) for key in self._members() if key in _WANTED}

    @property
    def _here(self) -> bytes:
        return self._content[self._at : self._at + 1]

    def _go_on(self, at: int) -> None:
        found = _BETWEEN.match(self._content, at)
        self._at = found.end() if found else at

    def _members(self) -> Iterator[str]:
        """Each key of the object here. Whoever does not read its value finds it skipped."""
        if self._here != b"{":
            return
        self._go_on(self._at + 1)
        while self._here != b"}":
            key = _TEXT.match(self._content, self._at)
            colon = key and _COLON.match(self._content, key.end())
            if key is None or not colon:
                raise self._broken()
            value = self._at = colon.end()
            yield _name(key[0])
            self._pass(value)
        self._at += 1

    def _items(self) -> Iterator[None]:
        """Stop at each item of the list here. Whoever does not read it finds it skipped."""
        if self._here != b"[":
            return
        self._go_on(self._at + 1)
        while self._here != b"]":
            item = self._at
            yield
            self._pass(item)
        self._at += 1

    def _pass(self, value: int) -> None:
        if self._at == value:
            self._skip()
        self._go_on(self._at)

    def _skip(self) -> None:
        """Step over the value here; whatever is in it, it is not looked at."""
        if self._here not in _OPENING:
            word = (_TEXT if self._here == b'"' else _WORD).match(self._content, self._at)
            if word is None:
                raise self._broken()
            self._at = word.end()
            return
        depth = 1
        while depth:
            inside = _FLAT.match(self._content, self._at + 1)
            assert inside is not None  # it matches nothing at all, too
            self._at = inside.end()
            if self._here not in _OPENING + _CLOSING:
                raise _NoNotebook("its end is missing")
            depth += 1 if self._here in _OPENING else -1
            self._steps += 1
            if depth > _DEPTH or self._steps > _STEPS:
                raise _NoNotebook("it is a maze of brackets")
        self._at += 1

    def _value(self, key: str) -> Any:
        start = self._at
        self._skip()
        written = self._content[start : self._at]
        if len(written) > _SMALL:
            return None
        try:
            return _decoded(written)
        except (ValueError, RecursionError):
            return _salvaged(written) if key != "metadata" else None

    def _broken(self) -> _NoNotebook:
        cut_off = self._here == b'"' and not _TEXT.match(self._content, self._at)
        if cut_off or not self._content[self._at :].strip():
            return _NoNotebook("its end is missing")
        line = self._content.count(b"\n", 0, self._at) + 1
        return _NoNotebook(f"it is not JSON (line {line} is damaged)")


def _name(written: bytes) -> str:
    try:
        return str(_decoded(written))
    except ValueError:
        return ""


def _decoded(written: bytes) -> Any:
    return json.loads(written.decode("utf-8", "replace"), strict=False)


def _salvaged(written: bytes) -> str:
    """The text of a source that is a list no more: its strings, and the marks between them."""
    parts = []
    for text, mark in _LINE_OF_SOURCE.findall(written):
        try:
            parts.append(str(_decoded(text)) if text else mark.decode("utf-8", "replace") + "\n")
        except ValueError:
            continue
    return "".join(parts)
