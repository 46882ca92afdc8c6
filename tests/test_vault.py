"""moto's Secrets Manager, with the client that AWS gives out."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_helpers import PATIENCE
from postgres_fixture import (
    RealPostgres,
    answers,
    is_running,
    keeper_with,
    real_postgres,
    side_folder,
    tenant,
    until,
)
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

from engineroom.errors import EngineRoomError
from engineroom.lab import vault as vault_module
from engineroom.lab.model import Endpoint, Tenant
from engineroom.lab.vault import Vault
from engineroom.witness.safe import Safe

boto3 = pytest.importorskip("boto3", reason="pip install 'engine-room[aws]'")

__all__ = ["real_postgres", "side_folder", "tenant"]


@pytest.fixture
def vault(real_postgres: RealPostgres, tenant: Tenant, side_folder: Path) -> Vault:
    return Vault(
        server=real_postgres.server,
        tenant=tenant,
        folder=side_folder,
        log=real_postgres.folder / "secrets.log",
    )


@pytest.fixture
async def endpoint(vault: Vault) -> AsyncIterator[Endpoint]:
    yield await vault.start()
    await vault.stop()


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[Any]:
    made = client_for(endpoint)
    yield made
    made.close()


def client_for(endpoint: Endpoint, service: str = "secretsmanager") -> Any:
    """As a notebook does it."""
    return boto3.client(
        service,
        endpoint_url=endpoint.url,
        region_name=endpoint.extra["region"],
        aws_access_key_id=endpoint.extra["access_key_id"],
        aws_secret_access_key=endpoint.extra["secret_access_key"],
    )


def read(client: Any, endpoint: Endpoint) -> dict[str, Any]:
    found = client.get_secret_value(SecretId=endpoint.extra["secret_id"])
    secret: dict[str, Any] = json.loads(found["SecretString"])
    return secret


async def test_the_secret_opens_the_database(
    endpoint: Endpoint, client: Any, tenant: Tenant, real_postgres: RealPostgres
) -> None:
    secret = read(client, endpoint)
    assert sorted(secret) == ["dbname", "engine", "host", "password", "port", "username"]
    assert secret["engine"] == "postgres"
    assert type(secret["port"]) is int
    url = URL.create(
        "postgresql+asyncpg",
        secret["username"],
        secret["password"],
        secret["host"],
        secret["port"],
        secret["dbname"],
    )
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        who = await connection.execute(text("select current_user, current_database()"))
        assert tuple(who.one()) == (tenant.owner, tenant.database)
    await engine.dispose()


async def test_a_rotation_is_seen(endpoint: Endpoint, client: Any) -> None:
    before = client.get_secret_value(SecretId=endpoint.extra["secret_id"])
    rotated = json.loads(before["SecretString"]) | {"password": "rotated"}
    client.put_secret_value(SecretId=endpoint.extra["secret_id"], SecretString=json.dumps(rotated))
    after = client.get_secret_value(SecretId=endpoint.extra["secret_id"])
    assert json.loads(after["SecretString"])["password"] == "rotated"
    assert after["VersionId"] != before["VersionId"]
    previous = client.get_secret_value(
        SecretId=endpoint.extra["secret_id"], VersionStage="AWSPREVIOUS"
    )
    assert previous["SecretString"] == before["SecretString"]


async def test_it_is_told_how_often_a_secret_was_asked_for(endpoint: Endpoint, client: Any) -> None:
    safe = Safe(endpoint.extra)
    await safe.keep("skerry/desk", {"password": "first @ : /"})
    await safe.keep("skerry/desk", {"password": "second"})
    assert await safe.asked("skerry/desk") == 0
    for asked in (1, 2):
        found = client.get_secret_value(SecretId="skerry/desk")
        assert json.loads(found["SecretString"]) == {"password": "second"}
        assert await safe.asked("skerry/desk") == asked
    assert await safe.asked(endpoint.extra["secret_id"]) == 0


async def test_random_passwords_and_missing_secrets(client: Any) -> None:
    made = [client.get_random_password(PasswordLength=32)["RandomPassword"] for _ in range(2)]
    assert len(set(made)) == 2
    assert all(len(password) == 32 for password in made)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_secret_value(SecretId="there/is/none")


async def test_only_loopback_and_only_this_service(endpoint: Endpoint) -> None:
    port = endpoint.extra["port"]
    assert answers("127.0.0.1", port)
    # Whoever listens on all addresses answers here as well.
    assert not answers("127.0.0.2", port)
    assert not answers("::1", port)
    from botocore.exceptions import ClientError

    other = client_for(endpoint, "s3")
    with pytest.raises(ClientError):
        other.list_buckets()
    other.close()


async def test_two_users_do_not_meet(
    endpoint: Endpoint,
    client: Any,
    real_postgres: RealPostgres,
    tenant: Tenant,
    side_folder: Path,
) -> None:
    second = Vault(
        server=real_postgres.server,
        tenant=tenant,
        folder=side_folder.with_name("second"),
        log=real_postgres.folder / "secrets.log",
    )
    second_endpoint = await second.start()
    client.put_secret_value(SecretId=endpoint.extra["secret_id"], SecretString="{}")
    second_client = client_for(second_endpoint)
    assert read(second_client, second_endpoint)["username"] == tenant.owner
    second_client.close()
    await second.stop()


async def test_nothing_of_a_real_account_gets_in(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile mine]\nregion = sa-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "there is none of that name")
    monkeypatch.setenv("MOTO_SERVICE", "nonsense")
    endpoint = await vault.start()
    monkeypatch.undo()
    client = client_for(endpoint)
    assert read(client, endpoint)["engine"] == "postgres"
    client.close()
    await vault.stop()


async def test_the_password_is_in_no_file(vault: Vault, side_folder: Path, tenant: Tenant) -> None:
    await vault.start()
    assert tenant.owner_password not in vault._log.read_text()
    assert [path.name for path in side_folder.iterdir()] == ["ready"]
    await vault.stop()


async def test_stop_leaves_nothing(vault: Vault, side_folder: Path) -> None:
    endpoint = await vault.start()
    assert vault._process is not None
    pid = vault._process.pid
    async with asyncio.timeout(PATIENCE):
        await vault.stop()
    assert not is_running(pid)
    assert not side_folder.exists()
    assert not answers("127.0.0.1", endpoint.extra["port"])
    await vault.stop()  # a second time is no trouble


async def test_it_dies_with_a_killed_keeper(
    real_postgres: RealPostgres, tenant: Tenant, side_folder: Path
) -> None:
    with keeper_with(
        "vault",
        "Vault",
        real_postgres.server,
        tenant,
        folder=side_folder,
        log=real_postgres.folder / "secrets.log",
    ) as (keeper, child, port):
        assert is_running(child)
        assert answers("127.0.0.1", port)
        keeper.kill()
        keeper.wait()
        await until(lambda: not is_running(child) and not answers("127.0.0.1", port))


_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-P", *sys.argv[1:]], stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def orphan_to_be(ready: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A parent that asks the kernel for nothing, and the child's pid."""
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(vault_module._CHILD), str(ready)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            yield parent, int(parent.stdout.readline())
        finally:
            parent.kill()


async def test_it_notices_a_lost_keeper_by_itself(tmp_path: Path) -> None:
    """Where the kernel does not end a child with its parent (macOS), the child looks."""
    ready = tmp_path / "ready"
    with orphan_to_be(ready) as (parent, child):
        await until(lambda: ready.exists() and ready.read_text().endswith("\n"), 30)
        assert is_running(child)
        parent.kill()
        parent.wait()
        await until(lambda: not is_running(child))


@pytest.mark.parametrize("missing", ["moto", "boto3", "flask_cors"])
async def test_what_is_missing_is_one_sentence(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, missing: str, side_folder: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(EngineRoomError, match=missing) as caught:
        await vault.start()
    assert caught.value.fix == "pip install 'engine-room[aws]'"
    assert not side_folder.exists()


async def test_a_child_that_ends_at_once(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, side_folder: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    monkeypatch.setattr("engineroom.lab.vault._CHILD", broken)
    with pytest.raises(EngineRoomError) as caught:
        await vault.start()
    assert caught.value.fix.startswith("tail ")
    assert not side_folder.exists()
