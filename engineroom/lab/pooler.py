"""``lab.pgbouncer``: PgBouncer in transaction mode, in front of one kernel's database."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import sys
from pathlib import Path

import asyncpg

from engineroom.errors import EngineRoomError
from engineroom.lab.accounts import Account, give, server_account
from engineroom.lab.endpoints import postgres_endpoint
from engineroom.lab.model import Endpoint, Server, Tenant, postgres_url
from engineroom.lab.processes import clean_environment, end, spawn
from engineroom.lab.trouble import TROUBLE

POOL_SIZE = 4
"""Server connections for each role: small, so that many clients must share them."""

_ADMIN = "lab_admin"
_LISTEN = "127.0.0.1"
_PORTS_TO_TRY = 5
_PATIENCE = 15.0
_LAST_WORD = 0.5
_USUAL_PLACES = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/pgbouncer/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/opt/local/bin",
)


class Pooler:
    """One PgBouncer of the machine, with its own configuration, port and passwords."""

    def __init__(
        self,
        *,
        server: Server,
        tenant: Tenant,
        folder: Path,
        log: Path,
        cert_file: Path,
        key_file: Path,
        ca_file: Path,
    ) -> None:
        self._server = server
        self._tenant = tenant
        self._folder = folder
        self._log = log
        self._cert_file = cert_file
        self._key_file = key_file
        self._ca_file = ca_file
        self._admin_password = secrets.token_urlsafe(18)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Endpoint:
        """Start PgBouncer and return once a query went through it."""
        account = server_account()
        program = find_pgbouncer(account)
        version, number = await _version(program)
        try:
            for _ in range(_PORTS_TO_TRY):
                port = _free_port()
                config = self._write_files(account, port, number)
                log_before = _size(self._log)
                self._process = await spawn(
                    [program, str(config)],
                    log=self._log,
                    account=account,
                    # It holds nothing that needs an orderly end, and which signal means "now"
                    # has changed between its versions.
                    death_signal=signal.SIGKILL,
                )
                if await self._answers(self._process, port):
                    return self._endpoint(port, version)
                if not _port_was_taken(self._log, log_before):
                    break
        except BaseException:
            await self.stop()
            raise
        await self.stop()
        raise EngineRoomError("PgBouncer ended as soon as it was started.", f"tail {self._log}")

    async def stop(self) -> None:
        """End PgBouncer at once, open transactions or not, and remove its folder."""
        if self._process is not None:
            # Until 1.22 SIGTERM ended it at once, since 1.23 it waits for the clients to leave.
            await end(self._process, signal.SIGKILL)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_files(self, account: Account | None, port: int, version: tuple[int, int]) -> Path:
        """Write what PgBouncer reads, for its account's eyes only."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)

        def put(name: str, content: bytes) -> Path:
            path = self._folder / name
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            give(path, account, 0o600)
            return path

        server, tenant = self._server, self._tenant
        users = {
            tenant.owner: tenant.owner_password,
            tenant.app: tenant.app_password,
            _ADMIN: self._admin_password,
        }
        users.pop("", None)  # a server that was given to us by URL may leave us without an app
        lines = [f"{_quoted(name)} {_quoted(password)}" for name, password in users.items()]
        userlist = put("userlist.txt", ("\n".join(lines) + "\n").encode())
        settings = {
            "listen_addr": _LISTEN,
            "listen_port": str(port),
            # No socket: its path could be too long, and TLS is the point here.
            "unix_socket_dir": "",
            "pidfile": str(self._folder / "pgbouncer.pid"),
            "auth_type": "scram-sha-256",
            "auth_file": str(userlist),
            "admin_users": _ADMIN,
            "pool_mode": "transaction",
            "default_pool_size": str(POOL_SIZE),
            "max_client_conn": "500",
            # The default, 15 s, would make a lesson that restarts Postgres look broken.
            "server_login_retry": "1",
            "log_stats": "0",
            # Copies: the lab's own key may belong to another account.
            "client_tls_sslmode": "prefer",
            "client_tls_cert_file": str(put("client.pem", self._cert_file.read_bytes())),
            "client_tls_key_file": str(put("client.key", self._key_file.read_bytes())),
            # ignore_startup_parameters stays empty: both drivers connect without it, and a
            # setting that was swallowed silently would be worse than the error it gives.
        }
        if server.tls:
            # A server that was given to us by URL may come without its CA.
            settings["server_tls_sslmode"] = "verify-full" if server.ca_file else "require"
            if server.ca_file:
                authority = put("server-ca.pem", Path(server.ca_file).read_bytes())
                settings["server_tls_ca_file"] = str(authority)
        if version >= (1, 21):
            # Newer ones carry prepared statements along; the lesson shows why they must.
            settings["max_prepared_statements"] = "0"
        # Its ini file cannot spell every name; the star takes whatever the client asks for.
        plain = re.fullmatch(r"[\w.-]+", tenant.database, re.ASCII)
        name = tenant.database if plain else "*"
        database = f"{name} = host={_value(server.host)} port={server.port}"
        pairs = [f"{name} = {value}" for name, value in settings.items()]
        text = "\n".join(["[databases]", database, "", "[pgbouncer]", *pairs, ""])
        config = put("pgbouncer.ini", text.encode())
        give(self._folder, account, 0o700)
        return config

    async def _answers(self, process: asyncio.subprocess.Process, port: int) -> bool:
        """Wait for an answer to a query, through both TLS legs; False when the process ended."""
        ended = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(self._ask(port))
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                asked.result()
            return asked.done()
        except TROUBLE as error:
            # Whoever took the port a moment before ours tried it may have answered instead.
            if (await asyncio.wait({ended}, timeout=_LAST_WORD))[0]:
                return False
            raise EngineRoomError(
                # asyncpg's words name the role at most, never its password.
                "PgBouncer runs, but a query through it did not succeed: "
                + (str(error) or "no answer in time").rstrip(".")
                + ".",
                f"tail {self._log}",
            ) from None
        finally:
            for task in (ended, asked):
                task.cancel()
            await asyncio.gather(ended, asked, return_exceptions=True)

    async def _ask(self, port: int) -> None:
        """Ask until it listens. Only our PgBouncer knows the password and has the certificate."""
        context = ssl.create_default_context(cafile=str(self._ca_file))
        pause = 0.002
        while True:
            try:
                connection = await asyncpg.connect(
                    host="localhost",
                    port=port,
                    user=self._tenant.owner,
                    password=self._tenant.owner_password,
                    database=self._tenant.database,
                    ssl=context,
                )
            except OSError as error:
                # Refused at both addresses of localhost comes as a bare OSError.
                refused = isinstance(error, ConnectionRefusedError)
                if not refused and "Connect call failed" not in str(error):
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.05)
                continue
            try:
                # Without arguments this is a simple query: it prepares nothing, so the
                # server connection it leaves in the pool is as good as new.
                await connection.execute("SELECT 1")
            finally:
                connection.terminate()
            return

    def _endpoint(self, port: int, version: str) -> Endpoint:
        admin = postgres_url(
            "postgresql", _ADMIN, self._admin_password, "localhost", port, "pgbouncer"
        )
        return _endpoint(
            "localhost", port, self._tenant, str(self._ca_file), version=version, admin_url=admin
        )


def compose_pooler_endpoint(
    host: str, port: int, tenant: Tenant, ca_file: str | None = None
) -> Endpoint:
    """Describe the PgBouncer of ``docker-compose.yml`` as if we had started it."""
    return _endpoint(host, port, tenant, ca_file, version="", admin_url="")


def _endpoint(
    host: str, port: int, tenant: Tenant, ca_file: str | None, *, version: str, admin_url: str
) -> Endpoint:
    as_server = Server(
        provider="pgbouncer",
        host=host,
        port=port,
        admin_user=_ADMIN,
        admin_password="",
        admin_database="pgbouncer",
        version=version,
        tls=True,
        ca_file=ca_file,
    )
    return postgres_endpoint(
        as_server,
        tenant,
        version=version,
        pool_mode="transaction",
        default_pool_size=POOL_SIZE,
        admin_url=admin_url,
    )


def find_pgbouncer(account: Account | None = None) -> str:
    """Find the program, or say how to get it."""
    folders = [str(Path(sys.prefix, "bin")), os.environ.get("PATH", os.defpath), *_USUAL_PLACES]
    found = shutil.which("pgbouncer", path=os.pathsep.join(folders))
    if found is None:
        raise EngineRoomError("PgBouncer is not installed on this machine.", _how_to_get_it())
    if account is not None and not account.may_read(Path(found)):
        raise EngineRoomError(
            f"PgBouncer refuses to run as root, and the account {account.name!r}"
            f" may not read {found}.",
            _how_to_get_it(),
        )
    return found


def _how_to_get_it() -> str:
    if Path(sys.prefix, "conda-meta").is_dir():
        return "conda install -c conda-forge pgbouncer"
    if sys.platform == "darwin":
        return "brew install pgbouncer"
    sudo = "" if os.geteuid() == 0 else "sudo "
    for manager in ("apt-get", "dnf", "apk", "pacman", "zypper"):
        if shutil.which(manager):
            verb = {"apk": "add", "pacman": "-S"}.get(manager, "install")
            return f"{sudo}{manager} {verb} pgbouncer"
    return "install the package 'pgbouncer' of this system"


async def _version(program: str) -> tuple[str, tuple[int, int]]:
    process = await asyncio.create_subprocess_exec(
        program,
        "--version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    output, _ = await process.communicate()
    found = re.search(rb"PgBouncer (?:version )?((\d+)\.(\d+)\S*)", output)
    if found is None:
        raise EngineRoomError(
            f"{program} does not say which version of PgBouncer it is.", f"{program} --version"
        )
    return found[1].decode(), (int(found[2]), int(found[3]))


def _free_port() -> int:
    """A port that is free right now; PgBouncer's own attempt decides.

    Free on both loopback addresses, because clients that are told ``localhost`` may try ::1 first.
    """
    while True:
        with socket.socket() as four:
            four.bind((_LISTEN, 0))
            port: int = four.getsockname()[1]
            try:
                with socket.socket(socket.AF_INET6) as six:
                    six.bind(("::1", port))
            except OSError as error:  # without IPv6 nobody else can be there either
                if error.errno == errno.EADDRINUSE:
                    continue
            return port


def _port_was_taken(log: Path, offset: int) -> bool:
    with open(log, "rb") as file:
        file.seek(offset)
        return b"in use" in file.read()


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _quoted(text: str) -> str:
    """Quote for the user list."""
    return '"' + text.replace('"', '""') + '"'


def _value(text: str) -> str:
    """Quote for a connection string of the ini file."""
    return "'" + text.replace("'", "''") + "'"
