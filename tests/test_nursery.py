"""The warm parent by itself."""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys


def test_a_nursery_whose_judge_has_gone_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        nursery = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "engineroom.exercises.nursery"),
                f"--control={theirs.fileno()}",
            ],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
    request = {"op": "fork", "number": 1, "secrets": False, "doors": [], "spare": 0, "files": {}}
    body = json.dumps(request).encode()
    judge, subject = socket.socketpair()
    with judge, subject, ours:
        socket.send_fds(ours, [struct.pack("!I", len(body)) + body], [subject.fileno()])
        assert select.select([ours], [], [], 60)[0]  # it tells of a birth, and nobody reads it
    assert nursery.communicate(timeout=60)[1] == b""
    assert nursery.returncode == 0
