"""The bundled containers of ``docker-compose.yml``: found when they are up, started on request.

Every kernel asks ``compose_is_up``, so importing this module must stay cheap.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import struct
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Say, Server
from engineroom.lab.places import Places

if TYPE_CHECKING:
    from engineroom.lab.providers.sentinel import Sentinel

USER = "engineroom"
CA_IN_CONTAINER = "/secrets/ca.pem"

_HOST = "localhost"
_ADDRESS = "127.0.0.1"
_PORT, _POOLER_PORT = ("ENGINEROOM_COMPOSE_PORT", "ENGINEROOM_COMPOSE_PGBOUNCER_PORT")
_PASSWORD = "ENGINEROOM_COMPOSE_PASSWORD"  # noqa: S105 - a variable's name
_DEFAULTS = {_PORT: "54320", _POOLER_PORT: "54321", _PASSWORD: "engineroom"}
# What a Postgres client says first when it wants TLS; "S" is the server's yes.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_WITHOUT_DOCKER = "ENGINEROOM_POSTGRES=embedded engineroom db up"


def compose_file() -> Path:
    """The project's ``docker-compose.yml``; a wheel comes without one."""
    return Path(__file__).resolve().parents[3] / "docker-compose.yml"


def compose_is_up() -> bool:
    """Whether something that speaks Postgres with TLS listens where the container would."""
    try:
        with socket.create_connection((_ADDRESS, _port(_PORT)), timeout=1) as connection:
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) == b"S"
    except OSError:  # also what docker's proxy gives while Postgres is not listening yet
        return False


def pgbouncer_address() -> tuple[str, int]:
    """Where the PgBouncer of the compose file listens."""
    return _HOST, _port(_POOLER_PORT)


class ComposeProvider:
    """Uses the containers while they are up; they belong to whoever started them."""

    name = "compose"

    def __init__(self, places: Places) -> None:
        # Not in ``places.tls``: that folder is replaced as a whole when its certificates are.
        self._ca_file = places.home / "compose-ca.pem"
        self._sentinel: Sentinel | None = None

    async def start(self, say: Say) -> Server:
        began = time.monotonic()
        port = _port(_PORT)
        await self.stop()
        if not await asyncio.to_thread(compose_is_up):
            raise EngineRoomError(
                f"The bundled Postgres container is not up: nothing on {_ADDRESS}:{port} speaks "
                "Postgres with TLS.",
                "docker compose up -d --wait",
            )
        say(f"connecting to the container on port {port}")
        self._sentinel = sentinel = await self._enter(port)
        facts = await sentinel.facts()
        return Server(
            provider=self.name,
            host=_HOST,
            port=port,
            admin_user=USER,
            admin_password=_setting(_PASSWORD),
            admin_database="postgres",
            version=facts.version,
            tls=True,
            ca_file=str(self._ca_file),
            statements=facts.statements,
            max_connections=facts.max_connections,
            started_in_seconds=round(time.monotonic() - began, 3),
        )

    async def wait_closed(self) -> None:
        if self._sentinel is not None:
            await self._sentinel.wait_lost()

    async def stop(self) -> None:
        if self._sentinel is not None:
            await self._sentinel.close()
            self._sentinel = None

    async def _enter(self, port: int) -> Sentinel:
        """Connect with the authority known from last time, or learn the present one first."""
        import asyncpg

        from engineroom.lab.trouble import TROUBLE

        try:
            try:
                return await self._verified(port)
            except (FileNotFoundError, ssl.SSLError):
                await self._learn_authority(port)
                return await self._verified(port)
        except asyncpg.InvalidAuthorizationSpecificationError:  # a wrong password is one of these
            raise _refused(port) from None
        except TROUBLE as error:
            raise EngineRoomError(
                f"The server on {_ADDRESS}:{port} did not let us in: {error or 'no answer'}.",
                "docker compose logs postgres",
            ) from error

    async def _verified(self, port: int) -> Sentinel:
        from engineroom.lab.providers.sentinel import Sentinel

        sentinel = Sentinel(
            host=_HOST,
            port=port,
            user=USER,
            password=_setting(_PASSWORD),
            ca_file=str(self._ca_file),
        )
        await sentinel.open()
        return sentinel

    async def _learn_authority(self, port: int) -> None:
        """Fetch the containers' CA over a connection that the shared password vouches for.

        SCRAM with channel binding proves that whoever knows the password also holds the key of
        the certificate we were shown. Only libpq can insist on both, hence psycopg here.
        """
        import psycopg

        try:
            async with await psycopg.AsyncConnection.connect(
                host=_HOST,
                port=port,
                user=USER,
                password=_setting(_PASSWORD),
                dbname="postgres",
                sslmode="require",
                # A file that is not there: or libpq would verify with ~/.postgresql/root.crt.
                sslrootcert=f"{self._ca_file}.none",
                channel_binding="require",
                require_auth="scram-sha-256",
                connect_timeout=10,
            ) as connection:
                found = await connection.execute("select pg_read_file(%s)", [CA_IN_CONTAINER])
                row = await found.fetchone()
        except psycopg.errors.UndefinedFile:
            raise EngineRoomError(
                f"The Postgres on {_ADDRESS}:{port} is not the course's container: it has no "
                f"{CA_IN_CONTAINER}.",
                f"export {_PORT}={port + 10}, then docker compose up -d --wait",
            ) from None
        except psycopg.OperationalError as error:
            if "authentication" in str(error) or "channel binding" in str(error):
                raise _refused(port) from None
            raise OSError(str(error).strip().splitlines()[-1]) from None
        assert row is not None
        _write(self._ca_file, str(row[0]))


async def up(say: Say) -> None:
    """Build and start the containers, and return when they are healthy."""
    command = await _compose_command()
    say("building and starting the containers")
    code, words = await _run([*command, "up", "--detach", "--build", "--wait"], say)
    if code == 0:
        return
    if "already allocated" in words or "address already in use" in words:
        named = re.search(r"127\.0\.0\.1:(\d+)", words)
        port = int(named[1]) if named else _port(_PORT)
        variable = _POOLER_PORT if port == _port(_POOLER_PORT) else _PORT
        raise EngineRoomError(
            f"Port {port} is taken by another program, so the container cannot have it.",
            f"export {variable}={port + 10}, then the same command again",
        )
    raise EngineRoomError(
        f"The containers did not start: {_last_line(words)}.",
        f"docker compose -f {compose_file()} logs",
    )


async def down() -> None:
    """Stop the containers; their data stay in the volume."""
    code, words = await _run([*await _compose_command(), "down"], lambda _: None)
    if code:
        raise EngineRoomError(
            f"The containers did not stop: {_last_line(words)}.",
            f"docker compose -f {compose_file()} ps",
        )


async def _compose_command() -> list[str]:
    """``docker compose`` for the project's file, or a sentence on what is missing."""
    file = compose_file()
    if not file.exists():
        raise EngineRoomError(
            "There is no docker-compose.yml beside this installation; a clone of the project "
            "has it.",
            _WITHOUT_DOCKER,
        )
    docker = shutil.which("docker")
    if docker is None:
        raise EngineRoomError(
            "The containers were asked for, but there is no docker client on PATH.",
            f"install Docker, or {_WITHOUT_DOCKER}",
        )
    code, words = await _run([docker, "version", "--format", "{{.Server.Version}}"])
    if code:
        if "permission denied" in words.lower():
            raise EngineRoomError(
                "A Docker engine runs, but this account may not use it.",
                "sudo usermod -aG docker $USER, then log in again",
            )
        raise EngineRoomError(
            "The containers were asked for, but no Docker engine answers.",
            f"start Docker, or {_WITHOUT_DOCKER}",
        )
    code, _ = await _run([docker, "compose", "version"])
    if code:
        raise EngineRoomError(
            "Docker is there, but without its plugin Compose v2.",
            "install docker-compose-plugin (part of Docker Desktop), or " + _WITHOUT_DOCKER,
        )
    return [docker, "compose", "--progress", "plain", "--file", str(file)]


async def _run(command: list[str], say: Say | None = None) -> tuple[int, str]:
    """Run to the end and return all its words; each line also goes to ``say``."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines = []
    try:
        async for raw in process.stdout:
            line = " ".join(raw.decode(errors="replace").split())
            lines.append(line)
            if say is not None and line:
                say(line[:100])
        return await process.wait(), "\n".join(lines)
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


def _refused(port: int) -> EngineRoomError:
    return EngineRoomError(
        f"The server on {_ADDRESS}:{port} refused user {USER!r} or its password; the password "
        f"is the one that {_PASSWORD} held when the container first started.",
        f"set {_PASSWORD} to that password, or {_WITHOUT_DOCKER}",
    )


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line]
    return lines[-1].rstrip(".") if lines else "it gave no reason"


def _write(path: Path, text: str) -> None:
    """Replace at once: another keeper or a kernel may be reading it."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _port(variable: str) -> int:
    text = _setting(variable)
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise EngineRoomError(f"{variable} is {text!r}, which is no port number.", f"unset {variable}")


def _setting(variable: str) -> str:
    """As Compose finds it: the environment, then ``.env`` beside its file, then the default."""
    return os.environ.get(variable) or _dotenv().get(variable) or _DEFAULTS[variable]


@cache
def _dotenv() -> dict[str, str | None]:
    file = compose_file().with_name(".env")
    if not file.exists():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(file)
