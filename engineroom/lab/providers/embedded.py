"""Postgres from binaries on this machine: the default where nothing is set up.

The cluster is in the lab's home, or in a passing folder that goes with its last user.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.lab.accounts import server_account
from engineroom.lab.binaries import Binaries, find_binaries, readable_by
from engineroom.lab.certificates import certificates_in, ensure_certificates
from engineroom.lab.cluster import ADMIN, Cluster, ClusterPaths
from engineroom.lab.model import Say, Server
from engineroom.lab.places import Places, disk_trouble, make_private

MAX_CONNECTIONS = 400


class EmbeddedProvider:
    """The lab's main cluster, one a major version."""

    name = "embedded"

    def __init__(self, places: Places) -> None:
        self._places = places
        self._cluster: Cluster | None = None

    async def start(self, say: Say) -> Server:
        began = time.monotonic()
        if self._places.passing is not None:
            make_private(self._places.passing)  # the keeper before this one may have removed it
        account = server_account()
        if account is not None and not account.may_enter(self._places.home):
            raise EngineRoomError(
                f"Root's Postgres runs as the account {account.name}, which cannot enter "
                f"{self._places.home}.",
                "ENGINEROOM_HOME=/var/lib/engineroom engineroom lab",
            )
        binaries = readable_by(find_binaries(), account, self._places.home)
        # Certificates take as long as half an initdb, so make both at once.
        making = asyncio.get_running_loop().run_in_executor(None, ensure_certificates, self._places)
        paths = main_paths(self._places, binaries)
        cluster = self._cluster = Cluster(
            paths,
            binaries,
            certificates_in(self._places.tls),
            account,
            max_connections=MAX_CONNECTIONS,
            port=None if self._places.passing else wanted_port(),
        )
        try:
            if not cluster.exists():
                await cluster.make(say)
            certificates = await making
            await cluster.start(say)
        except OSError as error:
            raise disk_trouble(error, self._places.passing or self._places.home) from error
        finally:
            # It may have failed as well, but one trouble at a time is told.
            await asyncio.wait({making})
        return Server(
            provider=self.name,
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
            started_in_seconds=round(time.monotonic() - began, 3),
        )

    async def wait_closed(self) -> None:
        if self._cluster is not None:
            await self._cluster.wait_closed()

    async def stop(self) -> None:
        if self._cluster is not None:
            await self._cluster.stop()
        if self._places.passing is not None:
            shutil.rmtree(self._places.passing, ignore_errors=True)


def main_paths(places: Places, binaries: Binaries) -> ClusterPaths:
    kind = "-passing" if places.passing else ""
    return ClusterPaths(
        base=(places.passing or places.home) / f"postgres-{binaries.major}",
        sockets=places.run / f"pg{kind}",
        log=places.logs / f"postgres{kind}.log",
    )


def set_aside(places: Places) -> list[Path]:
    """Move every cluster of this lab out of the way; nothing of a learner's is deleted."""
    moved = []
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for folder in sorted(places.home.glob("postgres-*")):
        if re.fullmatch(r"postgres-\d+", folder.name):
            target = folder.with_name(f"{folder.name}.old-{stamp}")
            folder.rename(target)
            moved.append(target)
    for template in places.home.glob("tiny-*"):
        shutil.rmtree(template)
    return moved


def wanted_port() -> int | None:
    """The port named in ``ENGINEROOM_PORT``, or None for any."""
    text = os.environ.get("ENGINEROOM_PORT", "")
    if not text:
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise EngineRoomError(
        f"ENGINEROOM_PORT is {text!r}, which is no port number.", "unset ENGINEROOM_PORT"
    )
