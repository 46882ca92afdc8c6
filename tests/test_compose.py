"""``docker-compose.yml`` as shipped, and the provider that finds it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import compose as compose_package
import pytest
import trustme
import yaml  # type: ignore[import-untyped]
from containers.engine import Engine, alone, free_port
from lab_helpers import PATIENCE, SOCKETS_FORGOTTEN, Lab

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Server
from engineroom.lab.places import Places
from engineroom.lab.pooler import POOL_SIZE
from engineroom.lab.providers import compose, container

pytest_plugins = ["containers.engine"]

pytestmark = SOCKETS_FORGOTTEN

FILE = compose.compose_file()
PASSWORD = "not-the-default"

Refused = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


def docker(test: Callable[..., Any]) -> Callable[..., Any]:
    """Needs an engine; all that do run in one worker, on one set of containers."""
    pytest.mark.docker(test)
    return test


# -- what the file says ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_every_port_is_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:${ENGINEROOM_COMPOSE_") for port in ports)


def test_the_volume_is_where_postgres_18_wants_it(services: dict[str, Any]) -> None:
    targets = [volume.split(":")[1] for volume in services["postgres"]["volumes"]]
    assert "/var/lib/postgresql" in targets
    assert "/var/lib/postgresql/data" not in targets


def test_the_file_and_the_code_agree(services: dict[str, Any]) -> None:
    assert services["postgres"]["image"] == container.IMAGE
    assert services["postgres"]["environment"]["POSTGRES_USER"] == compose.USER
    assert f"secrets:{Path(compose.CA_IN_CONTAINER).parent}:ro" in services["postgres"]["volumes"]
    ini = (FILE.parent / "docker/pgbouncer/pgbouncer.ini").read_text()
    assert f"default_pool_size = {POOL_SIZE}\n" in ini


def test_every_password_comes_from_the_environment() -> None:
    """Once the variable is set, nothing of the default is left anywhere in what Compose runs."""
    program = Path(compose_package.__file__).with_name("docker-compose")
    env = os.environ | {"ENGINEROOM_COMPOSE_PASSWORD": PASSWORD}
    shown = subprocess.run(
        [program, "--file", FILE, "config", "--format=json"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {
        (name, value)
        for service in json.loads(shown)["services"].values()
        for name, value in (service.get("environment") or {}).items()
        if any(word in name.lower() for word in ("password", "secret", "token"))
    }
    assert found == {("POSTGRES_PASSWORD", PASSWORD)}


# -- what is there before anything is started --------------------------------------------------


@contextmanager
def listening(reply: bytes | None) -> Iterator[int]:
    """A listener that answers anything with ``reply``, or says nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if reply is not None:
                    connection.recv(100)
                    connection.sendall(reply)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(b"S", True), (b"N", False), (b"HTTP/1.1 400 Bad Request\r\n", False), (b"", False)],
    ids=["postgres with TLS", "postgres without TLS", "a web server", "a proxy with no server"],
)
def test_only_postgres_with_tls_counts_as_up(
    monkeypatch: pytest.MonkeyPatch, reply: bytes, expected: bool
) -> None:
    with listening(reply) as port:
        monkeypatch.setenv("ENGINEROOM_COMPOSE_PORT", str(port))
        assert compose.compose_is_up() is expected


def test_whoever_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(None) as port:
        monkeypatch.setenv("ENGINEROOM_COMPOSE_PORT", str(port))
        assert not compose.compose_is_up()


def test_asking_imports_no_driver() -> None:
    code = (
        "import sys; from engineroom.lab.providers import compose; compose.compose_is_up();"
        "sys.exit(any(name in sys.modules for name in ('asyncpg', 'psycopg', 'dotenv')))"
    )
    env = os.environ | {"ENGINEROOM_COMPOSE_PORT": str(free_port())}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=FILE.parent)


async def test_asked_for_but_not_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENGINEROOM_COMPOSE_PORT", str(free_port()))
    assert not compose.compose_is_up()
    with pytest.raises(EngineRoomError, match="container is not up") as refused:
        await compose.ComposeProvider(Places(tmp_path, tmp_path)).start(print)
    assert refused.value.fix == "docker compose up -d --wait"


async def test_a_port_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEROOM_COMPOSE_PORT", "54320x")
    with pytest.raises(EngineRoomError, match="no port number"):
        compose.compose_is_up()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "no docker client on PATH"),
        ("echo 'Cannot connect to the Docker daemon'; exit 1", "no Docker engine answers"),
        ("echo 'permission denied: /var/run/docker.sock'; exit 1", "this account may not use it"),
        ("[ $1 = version ] || { echo unknown command; exit 1; }", "without its plugin Compose"),
        (
            'case "$*" in *" up "*) echo \'no space left on device\'; exit 17;; esac',
            "did not start: no space left on device",
        ),
    ],
    ids=["no client", "no engine", "not allowed", "no plugin", "anything else"],
)
async def test_what_is_missing_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, sentence: str
) -> None:
    """With a client that fails in the way named: what it prints is what people's clients do."""
    if script is not None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineRoomError, match=sentence) as refused:
        await compose.up(lambda _: None)
    assert refused.value.fix
    assert len(refused.value.sentence.splitlines()) == 1


# -- the containers ----------------------------------------------------------------------------


@dataclass
class Project:
    """The file's containers under a name and on ports of their own."""

    engine: Engine
    env: dict[str, str]
    port: int
    pooler_port: int
    said: list[str]
    ready: list[Any]
    ca: str = ""

    def docker_compose(self, *arguments: str) -> str:
        with_env = Engine(self.engine.client, self.engine.env | self.env)
        return with_env.run("compose", "--file", str(FILE), *arguments)

    def trust(self) -> ssl.SSLContext:
        """As strict as newer Pythons are by default."""
        context = ssl.create_default_context(cadata=self.ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def connect(self, **other: Any) -> asyncpg.Connection[Any]:
        login = {
            "host": "localhost",
            "port": self.port,
            "user": compose.USER,
            "password": PASSWORD,
            "database": "postgres",
            "ssl": self.trust() if self.ca else "require",
        }
        return await asyncpg.connect(**login | other)

    @asynccontextmanager
    async def kernel(self) -> AsyncIterator[dict[str, Any]]:
        """A role and a database as the lab makes them while all runs; yields how to log in."""
        name = f"er_{secrets.token_hex(4)}"
        admin = await self.connect()
        await admin.execute(f"create role {name} login password 'its-own' connection limit 20")
        await admin.execute(f"create database {name} owner {name}")
        await admin.execute(f"revoke all on database {name} from public")
        await admin.execute(f"grant connect on database {name} to pgbouncer")
        try:
            yield {"user": name, "database": name, "password": "its-own"}
        finally:
            await admin.execute(f"drop database {name} with (force)")
            await admin.execute(f"drop role {name}")
            await admin.close()


@pytest.fixture(scope="module")
def started(engine: Engine) -> Iterator[Project]:
    with alone("compose"):
        yield from _started(engine)


def _started(engine: Engine) -> Iterator[Project]:
    port, pooler_port = free_port(), free_port()
    env = {
        "COMPOSE_PROJECT_NAME": "engine-room-test",
        "ENGINEROOM_COMPOSE_PORT": str(port),
        "ENGINEROOM_COMPOSE_PGBOUNCER_PORT": str(pooler_port),
        "ENGINEROOM_COMPOSE_PASSWORD": PASSWORD,
    }
    project = Project(engine, env, port, pooler_port, [], [])
    project.docker_compose("down", "--volumes", "--timeout=1")  # of a run that was killed
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        engine.use(patch)
        try:
            asyncio.run(compose.up(project.said.append))
            asyncio.run(_first_contact(project))
            yield project
        finally:
            project.docker_compose("down", "--volumes", "--timeout=1")


async def _first_contact(project: Project) -> None:
    """Both servers, in the instant in which they are said to be ready, with no second try."""
    admin = await project.connect()
    project.ca = await admin.fetchval("select pg_read_file($1)", compose.CA_IN_CONTAINER)
    project.ready.append(await admin.fetchval("select 'postgres'"))
    await admin.close()
    async with project.kernel() as login:
        through = await project.connect(**login, port=project.pooler_port, statement_cache_size=0)
        project.ready.append(await through.fetchval("select 'pgbouncer'"))
        await through.close()


@pytest.fixture
def project(started: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The containers, found by the provider through the environment as by anybody."""
    for name, value in started.env.items():
        monkeypatch.setenv(name, value)
    started.engine.use(monkeypatch)
    return started


@docker
def test_healthy_means_ready(project: Project) -> None:
    assert project.ready == ["postgres", "pgbouncer"]
    assert any("Healthy" in line for line in project.said), "a person who waits sees progress"


@docker
async def test_healthy_is_not_said_while_the_volume_is_being_made(
    project: Project, tmp_path: Path
) -> None:
    """With an init script that takes its time, during which the image's socket answers."""
    (tmp_path / "slow.sh").write_text("sleep 2\n")
    slow = {"volumes": [f"{tmp_path}/slow.sh:/docker-entrypoint-initdb.d/20-slow.sh:ro,z"]}
    (tmp_path / "slow.yml").write_text(json.dumps({"services": {"postgres": slow}}))
    name = "engine-room-test-slow"
    port = free_port()
    env = project.env | {"COMPOSE_PROJECT_NAME": name, "ENGINEROOM_COMPOSE_PORT": str(port)}
    other = Project(project.engine, env, port, 0, [], [])
    files = ["--file", str(tmp_path / "slow.yml")]
    try:
        other.docker_compose(*files, "up", "--detach", "--wait", "postgres")
        await (await other.connect()).close()
    finally:
        other.docker_compose("down", "--volumes", "--timeout=1")


@docker
def test_docker_publishes_on_loopback_only(project: Project) -> None:
    hosts = {
        binding["HostIp"]
        for service in ("postgres", "pgbouncer")
        for found in [project.docker_compose("ps", "--quiet", service)]
        for published in json.loads(project.engine.run("inspect", found))[0]["NetworkSettings"][
            "Ports"
        ].values()
        for binding in published or []
    }
    assert hosts == {"127.0.0.1"}


@docker
async def test_the_server_is_set_up_as_the_lab_wants_it(project: Project) -> None:
    admin = await project.connect()
    settings = dict(
        await admin.fetch(
            "select name, setting from pg_settings where name in ('ssl', 'max_connections',"
            " 'password_encryption', 'shared_preload_libraries')"
        )
    )
    assert settings == {
        "ssl": "on",
        "max_connections": "400",
        "password_encryption": "scram-sha-256",
        "shared_preload_libraries": "pg_stat_statements",
    }
    rules = await admin.fetch(
        "select distinct auth_method from pg_hba_file_rules where type != 'local'"
    )
    assert [rule["auth_method"] for rule in rules] == ["scram-sha-256"]
    assert await admin.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    await admin.close()


@docker
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("which", ["postgres", "pgbouncer"])
async def test_tls_is_verified_and_a_stranger_is_refused(
    project: Project, which: str, host: str
) -> None:
    async with project.kernel() as login:
        port = project.port if which == "postgres" else project.pooler_port
        where = login | {"host": host, "port": port, "statement_cache_size": 0}
        await (await project.connect(**where)).close()

        stranger = ssl.create_default_context()
        trustme.CA().configure_trust(stranger)
        with pytest.raises(ssl.SSLCertVerificationError):
            await project.connect(**where, ssl=stranger)


@docker
def test_what_the_volume_holds(project: Project) -> None:
    """The authority's key is nowhere, and only the servers' group may read the other secrets."""
    listed = project.docker_compose(
        "exec", "-T", "postgres", "find", "/secrets", "-type", "f", "-printf", "%f %m %u %G\n"
    )
    assert sorted(listed.splitlines()) == [
        "ca.pem 644 root 999",
        "server.key 640 root 999",
        "server.pem 644 root 999",
        "userlist.txt 640 root 999",
    ]


@docker
async def test_pgbouncer_lets_a_new_role_in_and_a_wrong_password_out(project: Project) -> None:
    async with project.kernel() as login:
        where = login | {"port": project.pooler_port, "statement_cache_size": 0}
        client = await project.connect(**where)
        assert await client.fetchval("select current_user") == login["user"]
        await client.close()
        # The password that PgBouncer just remembered does not let the next one in.
        with pytest.raises(Refused, match="SASL authentication failed"):
            await project.connect(**where | {"password": "guessed"})


@docker
async def test_pgbouncer_is_no_way_in_for_a_superuser(project: Project) -> None:
    with pytest.raises(Refused, match=r"no such user|authentication failed"):
        await project.connect(port=project.pooler_port, statement_cache_size=0)


@docker
async def test_the_role_that_looks_others_up_can_do_nothing_else(project: Project) -> None:
    admin = await project.connect()
    assert not await admin.fetchval(
        "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
        " from pg_roles where rolname = 'pgbouncer'"
    )
    async with project.kernel() as login:
        client = await project.connect(**login)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await client.fetch("select * from pgbouncer.lookup('pgbouncer')")
        await client.close()
    await admin.close()


@docker
async def test_transaction_mode_takes_prepared_statements_apart(project: Project) -> None:
    """What the lesson shows, and why this image has an old PgBouncer."""
    async with project.kernel() as login:
        where = login | {"port": project.pooler_port}
        one = await project.connect(**where)
        two = await project.connect(**where, statement_cache_size=0)
        assert await one.fetchval("select 1 + $1::int", 1) == 2
        async with two.transaction():  # holds the server connection that knows the statement
            await two.execute("select 1")
            with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                await one.fetchval("select 1 + $1::int", 1)
        one.terminate()
        await two.close()


# -- the provider ------------------------------------------------------------------------------


@pytest.fixture
async def provider(project: Project, tmp_path: Path) -> AsyncIterator[compose.ComposeProvider]:
    provider = compose.ComposeProvider(Places(tmp_path, tmp_path))
    yield provider
    await provider.stop()


@docker
async def test_the_provider_describes_the_server(
    project: Project, provider: compose.ComposeProvider
) -> None:
    assert compose.compose_is_up()
    server = await provider.start(print)
    assert server == Server(
        provider="compose",
        host="localhost",
        port=project.port,
        admin_user="engineroom",
        admin_password=PASSWORD,
        admin_database="postgres",
        version=server.version,
        tls=True,
        ca_file=server.ca_file,
        statements=True,
        max_connections=400,
        started_in_seconds=server.started_in_seconds,
    )
    assert server.version.split(".")[0] == container.IMAGE.partition(":")[2]
    assert Path(str(server.ca_file)).read_text() == project.ca
    assert compose.pgbouncer_address() == ("localhost", project.pooler_port)

    await provider.stop()
    assert compose.compose_is_up(), "the containers belong to whoever started them"


@docker
async def test_an_authority_of_before_is_replaced(
    project: Project, provider: compose.ComposeProvider, tmp_path: Path
) -> None:
    """As after ``docker compose down -v``: new certificates, and the home has the old."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "compose-ca.pem")
    server = await provider.start(print)
    assert Path(str(server.ca_file)).read_text() == project.ca


@docker
@pytest.mark.parametrize("known", [False, True], ids=["first time", "authority known"])
async def test_a_wrong_password_is_one_sentence(
    project: Project,
    provider: compose.ComposeProvider,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    if known:
        await provider.start(print)
    monkeypatch.setenv("ENGINEROOM_COMPOSE_PASSWORD", "a-wrong-one")
    with pytest.raises(EngineRoomError, match="refused user 'engineroom' or its password") as no:
        await provider.start(print)
    assert "a-wrong-one" not in str(no.value)
    assert "ENGINEROOM_COMPOSE_PASSWORD" in no.value.fix


@docker
async def test_one_backend_ended_is_not_the_server_gone(
    project: Project, provider: compose.ComposeProvider
) -> None:
    await provider.start(print)
    closed = asyncio.create_task(provider.wait_closed())
    admin = await project.connect()
    ours = "select pid from pg_stat_activity where application_name = 'engineroom keeper'"
    pid = await admin.fetchval(ours)
    await admin.execute(f"select pg_terminate_backend({pid}, 5000)")
    async with asyncio.timeout(PATIENCE):
        # Each question is a wait of its own: Postgres sleeps, not this loop.
        while await admin.fetchval(f"{ours} and pg_sleep(0.02) is not null") in (None, pid):
            pass
    assert not closed.done()
    closed.cancel()
    await admin.close()


@docker
async def test_a_server_that_goes_away_is_noticed(
    project: Project, provider: compose.ComposeProvider
) -> None:
    await provider.start(print)
    closed = asyncio.create_task(provider.wait_closed())
    await asyncio.sleep(0)
    assert not closed.done()
    project.docker_compose("kill", "postgres")
    try:
        async with asyncio.timeout(PATIENCE):
            await closed
        with pytest.raises(EngineRoomError, match="container is not up"):
            await provider.start(print)
    finally:
        project.docker_compose("up", "--detach", "--wait")


@docker
async def test_a_restart_keeps_data_and_certificates(project: Project) -> None:
    """Down, which removes the containers, and up again by the command that the README names."""
    admin = await project.connect()
    await admin.execute("create table if not exists kept as select 42 as answer")
    await admin.close()

    await compose.down()
    assert not compose.compose_is_up()
    began = time.monotonic()
    project.docker_compose("up", "--detach", "--wait")
    assert time.monotonic() - began < 60

    admin = await project.connect()  # verified with the authority of before
    assert await admin.fetchval("select answer from kept") == 42
    await admin.close()


@docker
async def test_a_port_taken_names_the_port(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "engine-room-test-taken")
    other = Project(
        project.engine,
        project.env | {"COMPOSE_PROJECT_NAME": "engine-room-test-taken"},
        0,
        0,
        [],
        [],
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("ENGINEROOM_COMPOSE_PORT", str(port))
        try:
            with pytest.raises(EngineRoomError, match=f"Port {port} is taken") as refused:
                await compose.up(lambda _: None)
        finally:
            other.docker_compose("down", "--volumes", "--timeout=1")
    assert refused.value.fix.startswith(f"export ENGINEROOM_COMPOSE_PORT={port + 10}")


# -- a notebook --------------------------------------------------------------------------------


@docker
def test_a_notebook_takes_the_container_that_is_up(project: Project, home: Path) -> None:
    """Nothing asks for it by name: it is there, so the lab uses it, its PgBouncer too."""
    env = {name: value for name, value in os.environ.items() if name != "ENGINEROOM_POSTGRES"}
    with Lab(home, env) as lab:
        kernel = lab.kernel()
        assert kernel.run("lab.postgres.provider") == "compose"
        kernel.run(
            "import asyncio, ssl, asyncpg\n"
            "def ask(url):\n"
            "    context = ssl.create_default_context(cafile=lab.ca_file)\n"
            "    async def asking():\n"
            "        c = await asyncpg.connect(\n"
            "            url.replace('+asyncpg', ''), ssl=context, statement_cache_size=0)\n"
            "        try:\n"
            "            return await c.fetchval('select current_database()')\n"
            "        finally:\n"
            "            await c.close()\n"
            "    return asyncio.run(asking())"
        )
        database = kernel.run("lab.postgres.database")
        for url in ("lab.url", "lab.app_url", "lab.pgbouncer.url"):
            assert kernel.run(f"ask({url})") == database
        status = json.loads(lab.cli("db", "status", "--json", check=True).stdout)
        assert (status["provider"], status["tls"], status["running"]) == ("compose", True, True)
        assert PASSWORD not in json.dumps(status)
        kernel.close()
