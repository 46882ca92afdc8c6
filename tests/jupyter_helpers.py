"""`engineroom lab` as a person has it: a program in a terminal, and JupyterLab behind its URL.

Run as a program, it is a round trip in itself: for a test that has to be somewhere else, such
as where there is no network.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import websocket
from lab_helpers import PATIENCE, ROOT, eventually

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def copy_course(folder: Path) -> Path:
    """A course root of its own, so that no test writes into the checkout's ``work/``."""
    for part in ("notebooks", "labconfig"):
        shutil.copytree(ROOT / part, folder / part)
    return folder


class LabCommand:
    """A running `engineroom lab`, started in ``course`` as from a terminal there."""

    def __init__(
        self, course: Path, env: Mapping[str, str], *words: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "engineroom.cli", "lab", "--no-browser", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=course,
            env=dict(env),
            # A process group of its own, which is what Ctrl-C in a terminal reaches.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(iter(self._process.stdout.readline, ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
        self._process.kill()
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """All that stands in its terminal so far."""
        return "".join(self._lines)

    def wait_for(self, words: str) -> str:
        """Wait until it has said ``words``; its text so far."""

        def look() -> bool:
            ended = self._process.poll() is not None
            if ended:
                self._reader.join(PATIENCE)
            assert words in self.said or not ended, f"ended before it said {words!r}:\n{self.said}"
            return words in self.said

        eventually(look, f"`engineroom lab` says {words!r}")
        return self.said

    def ready(self) -> Self:
        try:
            self.wait_for("Ctrl-C stops all of it")
        except BaseException:  # no `with` block has begun yet that would end it
            self.__exit__()
            raise
        return self

    def send(self, sign: int) -> None:
        """What a terminal does at Ctrl-C: the whole group hears it."""
        os.killpg(self._process.pid, sign)

    def stop(self, sign: int = signal.SIGINT) -> int:
        """End it politely; its exit code."""
        self.send(sign)
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    # -- what it serves -------------------------------------------------------------------

    @property
    def url(self) -> str:
        found = re.search(r"http://\S+\?token=\S+", self.said)
        assert found, f"no URL with a token in:\n{self.said}"
        return found[0]

    @property
    def address(self) -> str:
        """Host and port of JupyterLab."""
        return self.url.split("/")[2]

    @property
    def token(self) -> str:
        return self.url.partition("token=")[2]

    @property
    def postgres_port(self) -> int:
        found = re.search(r"^Postgres .*:(\d+), TLS on", self.said, re.MULTILINE)
        assert found, self.said
        return int(found[1])

    def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Ask the Jupyter server, as its pages do."""
        request = urllib.request.Request(
            f"http://{self.address}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token if token is None else token}"},
        )
        with _direct.open(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or "null")

    def status_without_token(self) -> int:
        try:
            self.api("GET", "contents", token="wrong")
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code
        return 200

    def kernel(self) -> JupyterKernel:
        return JupyterKernel(self, self.api("POST", "kernels", {"name": "python3"})["id"])

    @contextmanager
    def line(self, path: str) -> Iterator[websocket.WebSocket]:
        """A websocket of the server."""
        line = websocket.create_connection(
            f"ws://{self.address}/{path}",
            header=[f"Authorization: token {self.token}"],
            timeout=PATIENCE,
            http_no_proxy=["*"],
        )
        try:
            yield line
        finally:
            line.close()

    def in_terminal(self, command: str, until: str) -> str:
        """Type a command into a terminal of JupyterLab, and read until a pattern comes."""
        name = self.api("POST", "terminals", {})["name"]
        seen = ""
        with self.line(f"terminals/websocket/{name}") as line:
            line.send(json.dumps(["stdin", command + "\r"]))
            while not re.search(until, seen):
                kind, *words = json.loads(line.recv())
                seen += words[0] if kind == "stdout" else ""
        return seen


class JupyterKernel:
    """A notebook's kernel, reached as JupyterLab reaches it."""

    _numbers = itertools.count()

    def __init__(self, lab: LabCommand, key: str) -> None:
        self._lab = lab
        self.key = key

    def run(self, source: str) -> str:
        """What a cell prints; an error of the cell is one of the test."""
        message = f"message-{next(self._numbers)}"
        printed = ""
        with self._lab.line(f"api/kernels/{self.key}/channels") as line:
            line.send(
                json.dumps(
                    {
                        "channel": "shell",
                        "header": {
                            "msg_id": message,
                            "msg_type": "execute_request",
                            "session": "test",
                            "username": "",
                            "version": "5.3",
                        },
                        "parent_header": {},
                        "metadata": {},
                        "content": {"code": source, "silent": False, "stop_on_error": True},
                    }
                )
            )
            while True:
                heard = json.loads(line.recv())
                if heard["parent_header"].get("msg_id") != message:
                    continue
                content = heard["content"]
                if heard["msg_type"] == "stream":
                    printed += content["text"]
                elif heard["msg_type"] == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                elif heard["msg_type"] == "status" and content["execution_state"] == "idle":
                    return printed.strip()

    @property
    def pid(self) -> int:
        return int(self.run("import os; print(os.getpid())"))

    def database(self) -> str:
        """This kernel's own database, says Postgres itself."""
        return self.run(
            "from engineroom import lab\n"
            "import psycopg\n"
            "with psycopg.connect(lab.sync_url) as connection:\n"
            "    print(connection.execute('select current_database()').fetchone()[0])"
        )


def _round_trip(course: Path) -> dict[str, Any]:
    with LabCommand(course, os.environ).ready() as lab:
        names = [entry["name"] for entry in lab.api("GET", "contents")["content"]]
        database = lab.kernel().database()
        return {"lessons": names, "database": database, "code": lab.stop()}


if __name__ == "__main__":
    print(json.dumps(_round_trip(Path(sys.argv[1]))))
