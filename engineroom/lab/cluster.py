"""One Postgres cluster of our own: made once, started, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.lab.accounts import Account, give, run_as
from engineroom.lab.binaries import Binaries
from engineroom.lab.certificates import Certificates
from engineroom.lab.model import Say
from engineroom.lab.processes import clean_environment, end, spawn

ADMIN = "postgres"
# What a new cluster takes (37 MB) and a little to work with.
_ROOM_NEEDED = 80 * 1024 * 1024
_PORT_TRIES = 5
_START_PATIENCE = 60.0


@dataclass(frozen=True)
class ClusterPaths:
    """Where one cluster lives: ``base/data`` and ``base/secret``, its sockets elsewhere."""

    base: Path
    sockets: Path
    log: Path

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def password_file(self) -> Path:
        return self.base / "admin-password"

    @property
    def port_file(self) -> Path:
        return self.base / "port"


class Cluster:
    """A data directory and, while it runs, the server on it."""

    def __init__(
        self,
        paths: ClusterPaths,
        binaries: Binaries,
        certificates: Certificates,
        account: Account | None,
        *,
        max_connections: int = 400,
        port: int | None = None,
        settings: Sequence[str] = (),
        small: bool = False,
    ) -> None:
        self.paths = paths
        self.port = 0
        self._binaries = binaries
        self._certificates = certificates
        self._account = account
        self._max_connections = max_connections
        self._wanted_port = port
        self._settings = tuple(settings)
        self._small = small
        self._process: asyncio.subprocess.Process | None = None

    @property
    def password(self) -> str:
        return self.paths.password_file.read_text().strip()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    # -- making ---------------------------------------------------------------------------

    def exists(self) -> bool:
        return self.paths.data.exists()

    async def make(self, say: Say) -> None:
        """Run initdb beside the final place and move it there whole, so that none is half made."""
        say("making a Postgres cluster (once)")
        base = self.paths.base
        base.mkdir(parents=True, exist_ok=True)
        give(base, self._account, 0o700 if self._account is None else 0o711)
        for leftover in base.glob(".new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        _check_room(base)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=base))
        password = secrets.token_urlsafe(18)
        try:
            password_file = fresh / "password"
            password_file.write_text(password)
            give(fresh, self._account, 0o700)
            give(password_file, self._account, 0o600)
            await self._initdb(fresh / "data", password_file)
            kept = os.open(
                self.paths.password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600
            )
            with os.fdopen(kept, "w") as file:
                file.write(password)
            os.rename(fresh / "data", self.paths.data)
        except OSError as error:
            raise _disk_trouble(error, base) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    async def _initdb(self, data: Path, password_file: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            self._binaries.tool("initdb"),
            f"--pgdata={data}",
            f"--username={ADMIN}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Never the locale of the machine: it may name one that is not installed.
            "--locale=C.UTF-8" if self._binaries.major < 17 else "--locale=C",
            *(
                ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
                if self._binaries.major >= 17
                else []
            ),
            # Nothing in a cluster that is one second old is worth waiting for the disk.
            "--no-sync",
            "--no-instructions",
            # A cluster that is copied for each user is worth making small.
            *(["--wal-segsize=1"] if self._small else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=clean_environment(),
            cwd="/",
            **run_as(self._account),
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise _initdb_trouble(said.decode(errors="replace"), data)

    # -- running --------------------------------------------------------------------------

    async def start(self, say: Say) -> None:
        """Start the server and return when it answers."""
        self._check_data()
        await self._clear_stale_server()
        say("starting Postgres")
        self.paths.sockets.mkdir(parents=True, exist_ok=True)
        give(self.paths.sockets, self._account, 0o700 if self._account is None else 0o711)
        self._write_hba()
        key_file = self._own_key()
        ports = self._ports()
        for attempt, port in enumerate(ports, start=1):
            offset = _size(self.paths.log)
            self._process = await spawn(
                [
                    self._binaries.tool("postgres"),
                    "-D",
                    str(self.paths.data),
                    *(f"--{line}" for line in self._lines(port, key_file)),
                ],
                log=self.paths.log,
                account=self._account,
                # SIGINT is Postgres's fast shutdown: sessions end, nothing is lost.
                death_signal=signal.SIGINT,
            )
            self.port = port
            if await self._answers():
                self.paths.port_file.write_text(str(port))
                return
            words = _read_from(self.paths.log, offset)
            await self.stop()
            if "could not bind" in words or "could not create any TCP/IP sockets" in words:
                if attempt < len(ports):
                    continue
                raise EngineRoomError(
                    f"Port {port} is taken by another program, so Postgres could not start on it.",
                    "unset ENGINEROOM_PORT (any free port will do), or free that one",
                )
            raise _start_trouble(words, self.paths)

    async def wait_closed(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """A fast shutdown: sessions are ended, data is kept."""
        if self._process is not None:
            await end(self._process, signal.SIGINT, signal.SIGQUIT)
            self._process = None

    def _lines(self, port: int, key_file: Path) -> list[str]:
        lines = [
            "listen_addresses=localhost",
            f"port={port}",
            f"unix_socket_directories={_quoted_list(self.paths.sockets)}",
            f"hba_file={self.paths.base / 'hba.conf'}",
            f"max_connections={self._max_connections}",
            "password_encryption=scram-sha-256",
            "ssl=on",
            f"ssl_cert_file={self._certificates.cert_file}",
            f"ssl_key_file={key_file}",
            "timezone=UTC",
            "log_timezone=UTC",
            "lc_messages=C",
            "logging_collector=off",
            "log_destination=stderr",
            # No replica ever follows this server; less is written.
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=256MB",
            "min_wal_size=32MB",
            "shared_buffers=64MB",
            "client_connection_check_interval=500ms",
        ]
        if self._binaries.has_statements:
            lines.append("shared_preload_libraries=pg_stat_statements")
        return lines + list(self._settings)

    def _write_hba(self) -> None:
        """Passwords everywhere, TLS welcome but not forced: a lesson compares the two."""
        hba = self.paths.base / "hba.conf"
        hba.write_text(
            "local all all scram-sha-256\n"
            "host  all all 127.0.0.1/32 scram-sha-256\n"
            "host  all all ::1/128 scram-sha-256\n"
        )
        give(hba, self._account, 0o600)

    def _own_key(self) -> Path:
        """Postgres wants a key that only it can read, so the server's account gets a copy."""
        if self._account is None:
            return self._certificates.key_file
        copy = self.paths.base / "server.key"
        shutil.copyfile(self._certificates.key_file, copy)
        give(copy, self._account, 0o600)
        return copy

    def _ports(self) -> list[int]:
        """The port asked for; else the one of last time, so that URLs stay true, else any."""
        if self._wanted_port:
            return [self._wanted_port]
        try:
            last = [int(self.paths.port_file.read_text())]
        except (OSError, ValueError):
            last = []
        return [port for port in last if _is_free(port)] + [
            _free_port() for _ in range(_PORT_TRIES)
        ]

    async def _answers(self) -> bool:
        """Wait for the line "ready": Postgres writes it into its pid file."""
        process = self._process
        assert process is not None
        pid_file = self.paths.data / "postmaster.pid"
        deadline = time.monotonic() + _START_PATIENCE
        while process.returncode is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().splitlines()
                if lines[:1] == [str(process.pid)] and len(lines) > 7 and "ready" in lines[7]:
                    return True
            await asyncio.sleep(0.004)
        return False

    # -- what may be wrong ----------------------------------------------------------------

    def _check_data(self) -> None:
        data = self.paths.data
        try:
            major = (data / "PG_VERSION").read_text().strip()
        except OSError:
            major = ""
        if major and major != str(self._binaries.major):
            raise EngineRoomError(
                f"The data in {data} was made by Postgres {major}, and this is Postgres "
                f"{self._binaries.major}, which cannot read it.",
                "engineroom db reset --all   (keeps the old folder beside the new one)",
            )
        whole = major and (data / "global/pg_control").exists()
        if not whole or not self.paths.password_file.exists():
            raise EngineRoomError(
                f"The data in {data} is incomplete, so Postgres cannot start on it.",
                "engineroom db reset --all   (keeps the old folder beside the new one)",
            )

    async def _clear_stale_server(self) -> None:
        """End a server whose keeper was killed; forget a pid file that speaks of nobody."""
        pid_file = self.paths.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            with contextlib.suppress(OSError):
                pid_file.unlink()
            return
        if _is_postgres_on(pid, self.paths.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + 10
            # It is no child of ours, so there is no event to wait for.
            while _is_postgres_on(pid, self.paths.data) and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        # The number may belong to another program by now; Postgres alone would then refuse.
        with contextlib.suppress(OSError):
            pid_file.unlink()


def _is_postgres_on(pid: int, data: Path) -> bool:
    import psutil  # only after an accident

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any(
            str(data) in word for word in process.cmdline()
        )
    except psutil.Error:
        return False


def _quoted_list(path: Path) -> str:
    """Postgres splits this setting at commas unless quoted."""
    return '"' + str(path).replace('"', '""') + '"'


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _read_from(file: Path, offset: int) -> str:
    try:
        with open(file, errors="replace") as lines:
            lines.seek(offset)
            return lines.read(65536)
    except OSError:
        return ""


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _ROOM_NEEDED:
        raise _full(folder, free)


def _full(folder: Path, free: int) -> EngineRoomError:
    return EngineRoomError(
        f"The disk under {folder} is full: {free // 2**20} MB are free, and a Postgres cluster "
        f"takes {_ROOM_NEEDED // 2**20} MB.",
        "free some space, or name another place: ENGINEROOM_HOME=/path/with/room engineroom lab",
    )


def _disk_trouble(error: OSError, folder: Path) -> EngineRoomError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(folder, shutil.disk_usage(folder).free)
    return EngineRoomError(
        f"A Postgres cluster could not be made in {folder}: {error.strerror}.",
        "ENGINEROOM_HOME=/path/you/can/write engineroom lab",
    )


def _initdb_trouble(words: str, data: Path) -> EngineRoomError:
    if "No space left on device" in words or "Disk quota exceeded" in words:
        return _full(data.parent.parent, shutil.disk_usage(data.parent.parent).free)
    reason = re.findall(r"(?:error|FATAL|PANIC): +(.*)", words)
    said = reason[-1] if reason else (words.strip().splitlines() or ["it said nothing"])[-1]
    return EngineRoomError(f"Postgres's initdb failed: {said}.", "engineroom doctor")


def _start_trouble(words: str, paths: ClusterPaths) -> EngineRoomError:
    if "No space left on device" in words:
        return _full(paths.base, shutil.disk_usage(paths.base).free)
    reason = re.findall(r"(?:FATAL|PANIC): +(.*)", words) or words.strip().splitlines()
    said = reason[-1] if reason else "it gave no reason"
    return EngineRoomError(
        f"Postgres did not start: {said.rstrip('.')}. Its log is {paths.log}.",
        "engineroom db reset --all   (keeps the old folder beside the new one)"
        if "could not locate a valid checkpoint" in words or "PANIC" in words
        else "engineroom doctor",
    )
