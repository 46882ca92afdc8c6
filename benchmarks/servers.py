"""How long a learner waits for Postgres, against bare initdb, pg_ctl and SQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Row, paired, seconds
from engineroom.lab.accounts import give, run_as, server_account
from engineroom.lab.binaries import find_binaries, readable_by
from engineroom.lab.processes import clean_environment
from engineroom.lab.session import Lease

_ROUNDS = 7


@contextmanager
def home() -> Iterator[Path]:
    """A lab of its own under a short path, with nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="er-bench-", dir="/tmp"))
    before = dict(os.environ)
    os.environ |= {"ENGINEROOM_HOME": str(folder), "ENGINEROOM_POSTGRES": "embedded"}
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(folder, ignore_errors=True)


class _Bare:
    """What a person would type: initdb and pg_ctl, as the account that may."""

    def __init__(self, base: Path) -> None:
        self._account = server_account()
        self._binaries = readable_by(find_binaries(), self._account, base)
        self._base = Path(tempfile.mkdtemp(prefix="bare-", dir=base))
        base.chmod(0o711)
        give(self._base, self._account, 0o700)

    def run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._binaries.tool(program), *words],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            cwd="/",
            **run_as(self._account),
        )

    def initdb(self) -> None:
        self.run("initdb", "-D", str(self._base / "data"), "-U", "postgres")

    def start(self) -> None:
        # Its words must go to a file: a server that kept our pipe would keep us waiting.
        self.run(
            "pg_ctl",
            *("-D", str(self._base / "data")),
            *("-l", str(self._base / "log")),
            *("-o", f"-k {self._base} -c listen_addresses=''"),
            *("-w", "start"),
        )

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self._base / "data"), "-m", "fast", "-w", "stop")

    def first(self) -> float:
        shutil.rmtree(self._base / "data", ignore_errors=True)
        taken = seconds(self.initdb) + seconds(self.start)
        self.stop()
        return taken

    def again(self) -> float:
        taken = seconds(self.start)
        self.stop()
        return taken


def _lab_first() -> float:
    with home():
        lease = Lease("bench", tenant=False)
        taken = seconds(lease.join)
        lease.leave(at_once=True)
    return taken


def _lab_again() -> float:
    lease = Lease("bench", tenant=False)
    taken = seconds(lease.join)
    lease.leave(at_once=True)
    return taken


def rows() -> Iterator[Row]:
    """The rows of the budget that name embedded Postgres."""
    with home() as base:
        bare = _Bare(base)
        figure, yardstick = paired(_lab_first, bare.first, _ROUNDS)
        yield Row(
            "embedded Postgres, nothing there yet",
            figure,
            "s",
            1.5,
            "initdb + pg_ctl start",
            yardstick,
            ratio_budget=1.5,
            note="keeper, certificates, initdb, start, witness",
        )
        _lab_again()  # so that there is something to start again
        bare.first()
        figure, yardstick = paired(_lab_again, bare.again, _ROUNDS)
        yield Row("embedded Postgres, started again", figure, "s", 0.3, "pg_ctl start", yardstick)
        keep_up = Lease("bench", tenant=False)
        keep_up.join()
        figure, yardstick = paired(_kernel, lambda: _by_hand(keep_up), _ROUNDS)
        yield Row(
            "a kernel's own database and roles",
            figure,
            "s",
            0.15,
            "the same statements in psql",
            yardstick,
        )
        keep_up.leave(at_once=True)


def _kernel() -> float:
    lease = Lease("bench")
    taken = seconds(lease.join)
    lease.leave()
    return taken


def _by_hand(up: Lease) -> float:
    server = up.joined["server"]
    environment = clean_environment() | {
        "PGHOST": server["host"],
        "PGPORT": str(server["port"]),
        "PGUSER": server["admin_user"],
        "PGPASSWORD": server["admin_password"],
        "PGDATABASE": server["admin_database"],
    }

    def psql(*statements: str) -> None:
        words = [word for statement in statements for word in ("-c", statement)]
        subprocess.run(
            [find_binaries().tool("psql"), "-qX", *words],
            check=True,
            env=environment,
            capture_output=True,
        )

    taken = seconds(
        lambda: psql(
            "create role bench_owner login connection limit 20 password 'one'",
            "create role bench_app login password 'two'",
            "create database bench_by_hand owner bench_owner",
            "revoke all on database bench_by_hand from public",
            "grant connect on database bench_by_hand to bench_app",
        )
    )
    psql("drop database bench_by_hand", "drop role bench_owner", "drop role bench_app")
    return taken
