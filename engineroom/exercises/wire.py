"""Frames between judge and subject: bounded, plain JSON, checked on the judge's side.

Whoever reads a subject's words reads a stranger's: a frame has a length limit, a value has exact
JSON types, a depth limit, no NaN and no lone surrogates.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

FRAME_LIMIT = 1_000_000
DEPTH_LIMIT = 12
_HEAD = struct.Struct("!I")
HEAD_SIZE = _HEAD.size


class BadFrame(Exception):
    """What arrived is no reply that the protocol allows."""


def pack(message: Any) -> bytes:
    """A frame; ValueError when the message is larger than a frame may be."""
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > FRAME_LIMIT:
        raise ValueError("too large")
    return _HEAD.pack(len(body)) + body


def size_of(head: bytes) -> int:
    (size,) = _HEAD.unpack(head)
    if size > FRAME_LIMIT:
        raise BadFrame("a reply was larger than a megabyte")
    return int(size)


def unpack(body: bytes) -> dict[str, Any]:
    """The message of a frame, or BadFrame."""
    try:
        message = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFrame("a reply was no JSON") from error
    if type(message) is not dict:
        raise BadFrame("a reply was no object")
    _check(message, DEPTH_LIMIT)
    return message


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise BadFrame("a reply was nested too deeply")
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadFrame("a reply held half a character") from error
    elif type(value) is float:
        if not math.isfinite(value):
            raise BadFrame("a reply held no number")
    elif type(value) is list:
        for item in value:
            _check(item, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            _check(key, depth - 1)
            _check(item, depth - 1)
