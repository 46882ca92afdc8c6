"""The provider that runs Postgres in a container of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme
from containers.engine import DEBIAN, Engine
from lab_helpers import PATIENCE, SOCKETS_FORGOTTEN

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Server
from engineroom.lab.places import Places
from engineroom.lab.providers.container import HOME_LABEL, IMAGE, ContainerProvider

pytest_plugins = ["containers.engine"]

# Docker's client forgets the sockets of an engine that does not answer, too.
pytestmark = [*SOCKETS_FORGOTTEN, pytest.mark.docker]

# What a keeper does, and no more: start, say so, stay.
KEEPER = """
import asyncio, sys
from pathlib import Path
from engineroom.lab.places import Places
from engineroom.lab.providers.container import ContainerProvider

async def main():
    home = Path(sys.argv[1])
    await ContainerProvider(Places(home, home)).start(lambda text: None)
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def label(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The label of this test's containers, of which none is left afterwards."""
    engine.use(monkeypatch)
    label = f"{HOME_LABEL}={tmp_path}"
    yield label
    engine.remove(label)


@pytest.fixture
async def provider(label: str, tmp_path: Path) -> AsyncIterator[ContainerProvider]:
    provider = ContainerProvider(Places(tmp_path, tmp_path))
    yield provider
    await provider.stop()


async def connect(server: Server, **other: Any) -> asyncpg.Connection[Any]:
    login = {
        "host": server.host,
        "port": server.port,
        "user": server.admin_user,
        "password": server.admin_password,
        "database": server.admin_database,
        "ssl": ssl.create_default_context(cafile=server.ca_file),
    }
    return await asyncpg.connect(**login | other)


@contextmanager
def keeper(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a container, ended by force at the latest when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(home)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_server_as_the_lab_wants_it(
    engine: Engine,
    provider: ContainerProvider,
    label: str,
    tmp_path: Path,
) -> None:
    said: list[str] = []
    environment = dict(os.environ)
    server = await provider.start(said.append)
    assert dict(os.environ) == environment, "nothing of testcontainers leaks"
    assert said
    assert server == Server(
        provider="container",
        host="localhost",
        port=server.port,
        admin_user="engineroom",
        admin_password=server.admin_password,
        admin_database="postgres",
        version=server.version,
        tls=True,
        ca_file=str(tmp_path / "tls/ca.pem"),
        statements=True,
        max_connections=400,
        started_in_seconds=server.started_in_seconds,
    )
    assert server.version.split(".")[0] == IMAGE.partition(":")[2]

    admin = await connect(server)
    assert await admin.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    await admin.execute("create extension pg_stat_statements")
    assert await admin.fetchval("select count(*) from pg_stat_statements") > 0
    rules = await admin.fetch(
        "select distinct auth_method from pg_hba_file_rules where type != 'local'"
    )
    assert [rule["auth_method"] for rule in rules] == ["scram-sha-256"]
    await admin.close()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(server, password="guessed")
    stranger = ssl.create_default_context()
    trustme.CA().configure_trust(stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(server, ssl=stranger)

    (found,) = engine.containers(label)
    (details,) = json.loads(engine.run("inspect", found))
    (bindings,) = details["NetworkSettings"]["Ports"].values()
    assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"]

    await provider.stop()
    assert engine.containers(label) == []


async def test_a_server_that_goes_away_is_noticed_and_comes_back(
    engine: Engine,
    provider: ContainerProvider,
    label: str,
) -> None:
    server = await provider.start(print)
    closed = asyncio.create_task(provider.wait_closed())
    await asyncio.sleep(0)
    assert not closed.done()
    engine.run("kill", *engine.containers(label))
    async with asyncio.timeout(PATIENCE):
        await closed
    again = await provider.start(print)
    assert (again.port, again.admin_password) == (server.port, server.admin_password)
    assert len(engine.containers(label)) == 1


async def test_what_a_killed_keeper_left_is_swept_and_a_living_ones_is_not(
    engine: Engine,
    provider: ContainerProvider,
    label: str,
    tmp_path: Path,
) -> None:
    with keeper(tmp_path) as process:
        theirs = engine.containers(label)
        assert len(theirs) == 1
        await provider.start(print)
        assert set(theirs) < set(engine.containers(label))
        await provider.stop()

        process.send_signal(signal.SIGKILL)
        process.wait()
        assert engine.containers(label) == theirs, "nothing but the next start removes it"
        await provider.start(print)
        assert not set(theirs) & set(engine.containers(label))


async def test_a_start_that_is_cancelled_leaves_nothing(
    engine: Engine,
    provider: ContainerProvider,
    label: str,
) -> None:
    starting = asyncio.create_task(provider.start(print))
    while not await asyncio.to_thread(engine.containers, label):
        assert not starting.done()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert engine.containers(label) == []


async def test_an_image_that_ends_at_once(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ENGINEROOM_CONTAINER_IMAGE", DEBIAN)
    with pytest.raises(EngineRoomError, match=r"ended as soon as it had started: .*postgres") as no:
        await ContainerProvider(Places(tmp_path, tmp_path)).start(print)
    assert "ENGINEROOM_CONTAINER_IMAGE" in no.value.fix
    assert engine.containers(label) == []


async def test_an_image_that_cannot_be_pulled(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    tmp_path: Path,
) -> None:
    image = "127.0.0.1:1/nobody/nothing:18"
    monkeypatch.setenv("ENGINEROOM_CONTAINER_IMAGE", image)
    with pytest.raises(EngineRoomError, match="could not be pulled") as refused:
        await ContainerProvider(Places(tmp_path, tmp_path)).start(print)
    assert refused.value.fix.startswith(f"docker pull {image}")
    assert len(refused.value.sentence.splitlines()) == 1


async def test_no_engine_though_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(EngineRoomError, match="no Docker engine answers") as refused:
        await ContainerProvider(Places(tmp_path, tmp_path)).start(print)
    assert refused.value.fix
