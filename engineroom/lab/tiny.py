"""A cluster so small that "too many clients" is met within a cell: one for each user of it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import shutil
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.lab.accounts import server_account
from engineroom.lab.binaries import find_binaries, readable_by
from engineroom.lab.certificates import ensure_certificates
from engineroom.lab.cluster import ADMIN, Cluster, ClusterPaths
from engineroom.lab.endpoints import postgres_endpoint
from engineroom.lab.model import Endpoint, Server
from engineroom.lab.places import Places, disk_trouble
from engineroom.lab.processes import clean_environment, end
from engineroom.lab.tenants import Tenancy

MAX_CONNECTIONS = 20


class Tiny:
    """A copy of a prepared data directory, started on a port of its own."""

    def __init__(
        self,
        places: Places,
        folder: Path,
        sockets: Path,
        mark: str,
        witness_password: str,
        pid: int,
    ) -> None:
        self._places = places
        self._folder = folder
        self._sockets = sockets
        self._mark = mark
        self._witness_password = witness_password
        self._pid = pid
        self._cluster: Cluster | None = None
        self._tenancy: Tenancy | None = None

    async def start(self) -> Endpoint:
        account = server_account()
        binaries = readable_by(find_binaries(), account, self._places.home)
        certificates = await asyncio.to_thread(ensure_certificates, self._places)
        template = ClusterPaths(
            self._places.home / f"tiny-{binaries.major}",
            self._places.run / "tiny",
            self._places.logs / "tiny.log",
        )
        with open(self._places.run / "tiny.lock", "w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            prepared = Cluster(template, binaries, certificates, account, small=True)
            if not prepared.exists():
                await prepared.make(lambda _: None)
        await _copy(template.base, self._folder)
        paths = ClusterPaths(self._folder, self._sockets, template.log)
        paths.port_file.unlink(missing_ok=True)
        cluster = self._cluster = Cluster(
            paths,
            binaries,
            certificates,
            account,
            max_connections=MAX_CONNECTIONS,
            settings=["shared_buffers=8MB"],
        )
        await cluster.start(lambda _: None)
        server = Server(
            provider="embedded",
            host="localhost",
            port=cluster.port,
            admin_user=ADMIN,
            admin_password=cluster.password,
            admin_database="postgres",
            version=binaries.version,
            tls=True,
            ca_file=str(certificates.ca_file),
            socket_dir=str(paths.sockets),
            statements=binaries.has_statements,
            max_connections=MAX_CONNECTIONS,
        )
        tenancy = self._tenancy = Tenancy(server, self._mark, self._witness_password)
        await tenancy.prepare()
        tenant = await tenancy.create(self._pid)
        return postgres_endpoint(server, tenant, max_connections=MAX_CONNECTIONS)

    async def stop(self) -> None:
        if self._tenancy is not None:
            await self._tenancy.close()
        if self._cluster is not None:
            await self._cluster.stop()
        for folder in (self._folder, self._sockets):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _copy(source: Path, target: Path) -> None:
    """Copy with owners and modes, sharing blocks where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copying = await asyncio.create_subprocess_exec(
        *("cp", "-a", str(source), str(target)),
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    try:
        _, said = await copying.communicate()
    finally:
        await end(copying)
    if copying.returncode != 0:
        words = said.decode(errors="replace")
        if "No space left" in words:
            raise disk_trouble(OSError(errno.ENOSPC, ""), target)
        raise EngineRoomError(
            f"The tiny cluster could not be copied: {words.strip().splitlines()[-1]}.",
            "engineroom doctor",
        )
