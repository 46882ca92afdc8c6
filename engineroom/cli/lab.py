"""``engineroom lab``: Postgres, then JupyterLab on the first lesson, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from engineroom.cli.console import err, out, steps
from engineroom.course import WELCOME, copy_lessons, course_root, work_folder
from engineroom.errors import EngineRoomError
from engineroom.lab.places import Places, find_places
from engineroom.lab.session import Lease

_USUAL_PORT = 8888
_START_PATIENCE = 120.0
_STOP_PATIENCE = 10.0
_GROUP_PATIENCE = 1.0


class _Stop(BaseException):
    """Ctrl-C, a closed terminal, or a polite kill."""


def lab(
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[
        int, typer.Option(help="JupyterLab's port (0: the first free from 8888).", min=0, max=65535)
    ] = 0,
    ip: Annotated[
        str, typer.Option(help="Where JupyterLab listens; in a container perhaps 0.0.0.0.")
    ] = "127.0.0.1",
) -> None:
    """Start Postgres and JupyterLab, and open the first lesson."""
    root = course_root()
    places = find_places()
    if places.note:
        err.print(Text(places.note))
    number = _port(ip, port)
    _on_signals(_raise_stop)
    lease: Lease | None = None
    jupyter: _Jupyter | None = None
    try:
        with steps("starting Postgres") as say:
            lease = Lease("lab", tenant=False, say=say)
            joined = lease.join()
            work = work_folder(root, places.home)
            copied = copy_lessons(root, work)
            say("starting JupyterLab")
            with _signals_wait():
                jupyter = _Jupyter(root, work, places, ip, number)
            while not jupyter.is_ready():
                jupyter.stop()
                number = _port(ip, port)
                with _signals_wait():
                    jupyter = _Jupyter(root, work, places, ip, number)
        _greet(joined, jupyter, work, len(copied))
        if browser:
            threading.Thread(target=webbrowser.open, args=(jupyter.url,), daemon=True).start()
        if jupyter.wait() != 0:  # 0: File > Shut Down
            raise EngineRoomError(
                f"JupyterLab ended by itself; its log is {jupyter.log}.", "engineroom lab"
            )
    except _Stop:
        pass
    finally:
        _on_signals(_not_again)
        with steps("stopping"):
            if jupyter is not None:
                jupyter.stop()
            if lease is not None:
                lease.leave(at_once=True)
    out.print("Stopped. Your notebooks are in " + str(work_folder(root, places.home)))


def _on_signals(act: Callable[[int, FrameType | None], None]) -> None:
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, act)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let no Ctrl-C come between the start of a process and the word that it is there."""
    came: list[int] = []
    _on_signals(lambda sign, _: came.append(sign))
    try:
        yield
    finally:
        _on_signals(_raise_stop)
    if came:
        _raise_stop(came[0], None)


def _raise_stop(_: int, __: FrameType | None) -> None:
    # A terminal that closes, or `make`, sends two at once: the second comes before `finally`.
    _on_signals(_not_again)
    raise _Stop


def _not_again(_: int, __: FrameType | None) -> None:
    """A second Ctrl-C must not leave half of it running."""


def _greet(joined: dict[str, dict[str, str]], jupyter: _Jupyter, work: Path, copied: int) -> None:
    server = joined["server"]
    # No frame around it: in a narrow terminal a frame would cut the token off.
    lines = Text("\n")
    lines.append("JupyterLab   ")
    lines.append(jupyter.url, style=f"bold link {jupyter.url}")
    lines.append(
        f"\nPostgres     {server['version']}, {server['provider']}, "
        f"{server['host']}:{server['port']}, TLS {'on' if server['tls'] else 'off'}"
    )
    lines.append(f"\nYour copies  {work}" + (f"  ({copied} new)" if copied else ""))
    lines.append("\n\nCtrl-C stops all of it.", style="dim")
    out.print(lines)


class _Jupyter:
    """JupyterLab as a child that ends when we do, however we end."""

    def __init__(self, root: Path, work: Path, places: Places, ip: str, port: int) -> None:
        self._ip, self._port = ip, port
        self._token = secrets.token_urlsafe(24)
        self.log = places.logs / "jupyter.log"
        page = f"lab/tree/{WELCOME}" if (work / WELCOME).exists() else "lab"
        self.url = f"http://{self._shown_host}:{port}/{page}?token={self._token}"
        places.logs.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe()
        self._lifeline = os.fdopen(writing, "wb", buffering=0)
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "engineroom.cli.jupyter_child",
                    str(reading),
                    *self._arguments(work, page),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[reading],
                start_new_session=True,
                cwd=work,
                env=self._environment(root, places),
            )
        os.close(reading)

    def _arguments(self, work: Path, page: str) -> list[str]:
        return [
            f"--ServerApp.ip={self._ip}",
            f"--ServerApp.port={self._port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={work}",
            f"--LabApp.default_url=/{page}",
            "--ServerApp.open_browser=False",
            # Not a login shell, whose profile would take `engineroom` off the PATH again.
            f"--ServerApp.terminado_settings={ {'shell_command': [_shell()]}!r}",
            *(["--ServerApp.allow_root=True"] if os.geteuid() == 0 else []),
        ]

    def _environment(self, root: Path, places: Places) -> dict[str, str]:
        environment = dict(os.environ)
        # In the environment, not in the arguments, which all users of a machine can read.
        environment["JUPYTER_TOKEN"] = self._token
        inherited = environment.get("JUPYTER_CONFIG_PATH")
        environment["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
            # JupyterLab looks for labconfig/, its server for a file in one of these folders.
            [str(root), str(root / "labconfig"), *([inherited] if inherited else [])]
        )
        environment.setdefault("ENGINEROOM_HOME", str(places.home))
        # `make lab` activates nothing, and a terminal in JupyterLab should know `engineroom`.
        environment["PATH"] = os.pathsep.join(
            [sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)]
        )
        # Which tabs were open is the lab's own affair: not those of the learner's other work.
        environment.setdefault("JUPYTERLAB_WORKSPACES_DIR", str(places.home / "workspaces"))
        if not _home_is_writable():
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
                environment.setdefault(name, str(places.home / "jupyter"))
            environment.setdefault("JUPYTER_RUNTIME_DIR", str(places.run / "jupyter"))
        return environment

    @property
    def _shown_host(self) -> str:
        if self._ip in ("0.0.0.0", "::", "*", ""):  # noqa: S104
            return "127.0.0.1"
        return f"[{self._ip}]" if ":" in self._ip else self._ip

    def is_ready(self) -> bool:
        """Whether the server answers, or lost its port to another; say why if it is neither."""
        deadline = time.monotonic() + _START_PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                # Two labs that start at once see the same port free, and one of them is late.
                if not _is_free(self._ip, self._port):
                    return False
                raise EngineRoomError(
                    f"JupyterLab did not start: {_last_words(self.log)} Its log is {self.log}.",
                    "engineroom doctor",
                )
            if self._answers():
                return True
            time.sleep(0.05)
        raise EngineRoomError(
            f"JupyterLab did not answer in {_START_PATIENCE:.0f} seconds; its log is {self.log}.",
            "engineroom lab",
        )

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(f"{self._shown_host}:{self._port}", timeout=2)
        try:
            connection.request(
                "GET", "/api/status", headers={"Authorization": f"token {self._token}"}
            )
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        """SIGTERM lets JupyterLab end its kernels; what stays after that is killed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_PATIENCE)
        self._end_group()
        self._process.wait()
        self._lifeline.close()

    def _end_group(self) -> None:
        """Kill what is left of it: JupyterLab does not end what it asks while it starts."""
        deadline = time.monotonic() + _GROUP_PATIENCE
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.poll()
                time.sleep(0.01)


def _shell() -> str:
    return os.environ.get("SHELL") or shutil.which("bash") or "/bin/sh"


def _home_is_writable() -> bool:
    return os.access(Path.home(), os.W_OK | os.X_OK)


def _port(ip: str, wanted: int) -> int:
    """The port asked for, if free; else the first free one from Jupyter's usual port."""
    for number in [wanted] if wanted else range(_USUAL_PORT, _USUAL_PORT + 50):
        if _is_free(ip, number):
            return number
    raise EngineRoomError(
        f"Port {wanted or _USUAL_PORT} is taken by another program, or you may not use it.",
        "engineroom lab   (without --port it takes a free one)",
    )


def _is_free(ip: str, port: int) -> bool:
    host = "" if ip in ("*", "0.0.0.0", "::") else ip  # noqa: S104
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise EngineRoomError(
                f"JupyterLab cannot listen on {ip}: {error.strerror}.",
                "engineroom lab   (without --ip it listens on 127.0.0.1)",
            ) from error
    return True


def _last_words(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            said = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") + "." if lines else ""
