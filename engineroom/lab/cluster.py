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
from engineroom.lab.places import write_private
from engineroom.lab.processes import clean_environment, die_with_parent, end, rotate, spawn

ADMIN = "postgres"
# What a new cluster takes (37 MB) and a little to work with.
_ROOM_NEEDED = 80 * 1024 * 1024
_PORT_TRIES = 5
_START_PATIENCE = 60.0
_BACKEND_MEMORY = 512 * 1024 * 1024
"""For each connection: a query that wants more fails. Without a limit the system would choose whom
to end when its memory is full, and then Postgres ends everybody's sessions."""


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
        # The account may pass through; what lies here stays out of its hands.
        base.chmod(0o700 if self._account is None else 0o711)
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
            write_private(self.paths.password_file, password)
            os.rename(fresh / "data", self.paths.data)
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
            # initdb answers this one by removing what it has made so far.
            preexec_fn=die_with_parent(signal.SIGTERM),
            **run_as(self._account),
        )
        try:
            said, _ = await process.communicate()
        finally:
            await end(process)
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
        rotate(self.paths.log)
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
                memory=_BACKEND_MEMORY,
            )
            self.port = port
            if await self._answers():
                with contextlib.suppress(OSError):  # another port next time harms less
                    self.paths.port_file.write_text(str(port))
                return
            words = _read_from(self.paths.log, offset)
            await self.stop()
            if "could not bind" in words or "could not create any TCP/IP sockets" in words:
                if attempt < len(ports):
                    continue
                why = "needs more rights" if "Permission denied" in words else "is taken"
                raise _port_trouble(port, why)
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
            # What a query puts into files counts as nobody's database.
            "temp_file_limit=256MB",
            "client_connection_check_interval=500ms",
        ]
        if self._binaries.major >= 16:
            # Passwords here are drawn at random: there is nothing to guess, so no guess need be
            # slow, and every login takes two milliseconds less on either side.
            lines.append("scram_iterations=64")
        if self._binaries.has_statements:
            lines.append("shared_preload_libraries=pg_stat_statements")
        return lines + list(self._settings)

    def _write_hba(self) -> None:
        """Passwords everywhere, TLS welcome but not forced: a lesson compares the two."""
        hba = self.paths.base / "hba.conf"
        write_private(
            hba,
            "local all all scram-sha-256\n"
            "host  all all 127.0.0.1/32 scram-sha-256\n"
            "host  all all ::1/128 scram-sha-256\n",
        )
        give(hba, self._account, 0o600)

    def _own_key(self) -> Path:
        """Postgres wants a key that only it can read, so the server's account gets a copy."""
        if self._account is None:
            return self._certificates.key_file
        copy = self.paths.base / "server.key"
        write_private(copy, self._certificates.key_file.read_text())
        give(copy, self._account, 0o600)
        return copy

    def _ports(self) -> list[int]:
        """The port asked for; else the one of last time, so that URLs stay true, else any."""
        if self._wanted_port:
            # Postgres itself would be content with one of the two loopback addresses.
            if not _is_free(self._wanted_port):
                raise _port_trouble(self._wanted_port, "is taken")
            return [self._wanted_port]
        try:
            last = int(self.paths.port_file.read_text())
        except (OSError, ValueError):
            last = 0
        others = [_free_port() for _ in range(_PORT_TRIES)]
        return [last, *others] if 0 < last < 65536 and _is_free(last) else others

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
        """End what a killed keeper or server left at work; forget a pid file of nobody's."""
        pid_file = self.paths.data / "postmaster.pid"
        if not pid_file.exists():
            return
        left: list[int] = []
        for sign, patience in ((signal.SIGINT, 10), (signal.SIGQUIT, 6), (signal.SIGKILL, 6)):
            left = await asyncio.to_thread(_end_all_in, self.paths.data, sign, patience)
            if not left:
                break
        if left:
            numbers = " ".join(map(str, left))
            raise EngineRoomError(
                f"An earlier Postgres (process {numbers}) still works on {self.paths.data} "
                "and does not end.",
                f"kill -9 {numbers}",
            )
        # The numbers in these files may belong to others by now, or to a process that ended and
        # that nobody reaps, as in many containers; Postgres alone would then refuse to start.
        for stale in (pid_file, *self.paths.sockets.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)


def _end_all_in(data: Path, sign: signal.Signals, patience: float) -> list[int]:
    """Signal every server process that works in a data directory, and say which stayed."""
    import psutil  # only after an accident

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            # Not by its name alone: in a container the same name is another folder.
            link = f"/proc/{process.pid}/cwd"
            folder = link if os.path.lexists(link) else process.cwd()
            if process.name() == "postgres" and os.path.samefile(folder, data):
                process.send_signal(sign)
                found.append(process)
    _, left = psutil.wait_procs(found, timeout=patience)
    return [process.pid for process in left]


def _port_trouble(port: int, why: str) -> EngineRoomError:
    return EngineRoomError(
        f"Port {port} {why}, so Postgres could not start on it.",
        "unset ENGINEROOM_PORT   (any free port will do)",
    )


def _quoted_list(path: Path) -> str:
    """Postgres splits this setting at commas unless quoted."""
    return '"' + str(path).replace('"', '""') + '"'


def _is_free(port: int) -> bool:
    """On both loopback addresses: `localhost` may mean either."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
    return True


def _free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if _is_free(port):
            return port


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


def _initdb_trouble(words: str, data: Path) -> EngineRoomError:
    if "No space left on device" in words or "Disk quota exceeded" in words:
        return _full(data.parent.parent, shutil.disk_usage(data.parent.parent).free)
    reason = re.findall(r"(?:error|FATAL|PANIC): +(.*)", words)
    said = reason[-1] if reason else (words.strip().splitlines() or ["it said nothing"])[-1]
    if "could not look up effective user" in said:
        return EngineRoomError(
            f"Postgres wants an account with a name, and number {os.geteuid()} has none.",
            f"add it to /etc/passwd: echo lab:x:{os.geteuid()}:{os.getegid()}::/tmp:/bin/sh",
        )
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
