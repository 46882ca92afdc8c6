"""What a node does for the containers of docs/grading.md, in a network of its own.

    unshare --net --pid --fork --mount-proc python node.py < what.json

Starts the containers in the order given, waits until each has said the words that mean that it is
up, runs a last command and ends with its exit code; what was started ends with this process,
which is the first of its world.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


def main() -> int:
    told = json.load(sys.stdin)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_RUNNING))
    running = []
    for container in told["containers"]:
        with open(container["log"], "wb") as log:
            running.append(
                subprocess.Popen(
                    container["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )
    while not all(container["up"] in said(container) for container in told["containers"]):
        for process, container in zip(running, told["containers"], strict=True):
            if process.poll() is not None:
                print(f"This has ended: {' '.join(container['command'])}", file=sys.stderr)
                return 1
        time.sleep(0.05)
    return subprocess.run(told["then"], stdin=subprocess.DEVNULL).returncode


def said(container: dict[str, str]) -> str:
    return Path(container["log"]).read_text()


if __name__ == "__main__":
    sys.exit(main())
