"""The warm parent by itself."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

from lab_helpers import ROOT


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


_REHEARSED = """
import linecache, os, sys, threading, time
from engineroom.exercises.nursery import warm_up
from engineroom.exercises.traces import _state
warm_up()
from engineroom.exercises.rehearsal import rehearse
run = threading.Thread.run
def last_words_come_late(thread):
    run(thread)
    time.sleep(0.05)
threading.Thread.run = last_words_come_late
before, main, files = _state(), sys.modules["__main__"], len(os.listdir("/dev/fd"))
rehearse()
found = _state()
assert not os.listdir(".")
found["files"] = before["files"]  # others make theirs in the machine's /tmp meanwhile
assert found == before, [name for name in found if found[name] != before[name]]
assert sys.modules["__main__"] is main
assert len(os.listdir("/dev/fd")) == files
assert threading.active_count() == 1, threading.enumerate()
assert not [name for name in linecache.cache if "cell" in name]
print("as before")
"""


def test_a_rehearsal_runs_an_answer_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _REHEARSED],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "as before\n", done.stderr
