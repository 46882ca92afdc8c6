"""A throw-away Postgres container by testcontainers, only when asked for.

The container ends with the keeper. One whose keeper was killed is removed at the next start:
its labels say whose home it served and which process looked after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engineroom.errors import EngineRoomError
from engineroom.lab.certificates import Certificates, ensure_certificates
from engineroom.lab.model import Say, Server
from engineroom.lab.places import Places
from engineroom.lab.tenants import process_start

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

    from engineroom.lab.providers.sentinel import Sentinel

IMAGE = "postgres:18"
"""The same as in docker-compose.yml; ``ENGINEROOM_CONTAINER_IMAGE`` names another."""

MAX_CONNECTIONS = 400
HOME_LABEL, PID_LABEL, BEGAN_LABEL = "engineroom.home", "engineroom.pid", "engineroom.began"

_USER = "engineroom"
_HOST, _ADDRESS = "localhost", "127.0.0.1"
_CERT, _KEY = "/engineroom-server.pem", "/engineroom-server.key"
_PATIENCE = 60.0
_INSTEAD = "ENGINEROOM_POSTGRES=embedded engineroom db up"
# The image decides which number its postgres account has, so it must hand the key over itself.
_ENTRYPOINT = [
    "sh",
    "-c",
    f'chown postgres {_KEY} && exec docker-entrypoint.sh "$@"',
    "docker-entrypoint.sh",
]


class ContainerProvider:
    """Runs one container, with the lab's own certificates, for as long as the lab is used."""

    name = "container"

    def __init__(self, places: Places, certificates: Certificates | None = None) -> None:
        self._places = places
        self._certificates = certificates
        self._image = os.environ.get("ENGINEROOM_CONTAINER_IMAGE", "").strip() or IMAGE
        self._password = secrets.token_urlsafe(18)
        self._port: int | None = None
        self._container: DockerContainer | None = None
        self._sentinel: Sentinel | None = None
        self._given_up = threading.Event()

    async def start(self, say: Say) -> Server:
        began = time.monotonic()
        await self.stop()
        self._given_up.clear()
        if self._certificates is None:
            self._certificates = await asyncio.to_thread(ensure_certificates, self._places)
        loop = asyncio.get_running_loop()

        def say_here(text: str) -> None:
            loop.call_soon_threadsafe(say, text)

        creating = asyncio.create_task(
            asyncio.to_thread(self._create, self._certificates, say_here)
        )
        try:
            self._container = await asyncio.shield(creating)
            self._sentinel = await self._ready(self._container, self._certificates)
            facts = await self._sentinel.facts()
        except BaseException:
            self._given_up.set()  # the thread cannot be interrupted, but it looks
            with contextlib.suppress(Exception):
                self._container = await creating
            await self.stop()
            raise
        assert self._port is not None
        return Server(
            provider=self.name,
            host=_HOST,
            port=self._port,
            admin_user=_USER,
            admin_password=self._password,
            admin_database="postgres",
            version=facts.version,
            tls=True,
            ca_file=str(self._certificates.ca_file),
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
        if self._container is not None:
            await asyncio.to_thread(_remove, self._container)
            self._container = None

    # -- inside; what blocks runs in a thread ----------------------------------------------

    def _create(self, certificates: Certificates, say: Say) -> DockerContainer:
        """Start the container; the server in it need not answer yet."""
        import docker.errors
        from testcontainers.core.container import DockerContainer

        try:
            container = DockerContainer(self._image)
        except docker.errors.DockerException as error:
            raise _no_engine(error) from None
        client = container.get_docker_client()
        try:
            if client.host() not in ("localhost", _ADDRESS, "::1"):
                raise EngineRoomError(
                    f"The Docker engine is on another machine ({client.host()}), where a port "
                    "on loopback cannot be reached from here.",
                    f"unset DOCKER_HOST, or {_INSTEAD}",
                )
            self._sweep(client.client)
            self._pull_if_missing(client.client, say)
            say(f"starting a container of {self._image}")
            self._configure(container, certificates)
            with _without_ryuk():
                container.start()
            if (port := _published_port(container)) is None:
                raise self._ended(container)
            self._port = port
        except EngineRoomError:
            _remove(container)
            raise
        except docker.errors.DockerException as error:
            _remove(container)
            raise EngineRoomError(
                f"Docker could not start a container of {self._image}: {_reason(error)}.",
                f"docker run --rm {self._image} postgres --version",
            ) from None
        except BaseException:
            _remove(container)
            raise
        return container

    def _configure(self, container: DockerContainer, certificates: Certificates) -> None:
        container.with_envs(
            POSTGRES_USER=_USER,
            POSTGRES_PASSWORD=self._password,
            POSTGRES_DB="postgres",
            POSTGRES_INITDB_ARGS="--auth-host=scram-sha-256",
        )
        container.with_command(
            [
                "postgres",
                "-cssl=on",
                f"-cssl_cert_file={_CERT}",
                f"-cssl_key_file={_KEY}",
                "-cpassword_encryption=scram-sha-256",
                "-cshared_preload_libraries=pg_stat_statements",
                f"-cmax_connections={MAX_CONNECTIONS}",
            ]
        )
        container.with_copy_into_container(certificates.cert_file.read_bytes(), _CERT, 0o644)
        container.with_copy_into_container(certificates.key_file.read_bytes(), _KEY, 0o600)
        # In memory: the data end with the container anyway, and it starts in half the time.
        container.with_tmpfs_mount("/var/lib/postgresql")
        # Testcontainers would publish to the whole network. After a crash, the port of before:
        # the URLs that notebooks hold stay good.
        ports: dict[str, Any] = container.ports
        ports["5432/tcp"] = (_ADDRESS, self._port) if self._port else (_ADDRESS,)
        container.with_kwargs(
            entrypoint=_ENTRYPOINT,
            labels={
                HOME_LABEL: str(self._places.home),
                PID_LABEL: str(os.getpid()),
                BEGAN_LABEL: str(process_start(os.getpid())),
            },
        )

    def _sweep(self, client: Any) -> None:
        """Remove the containers of this home whose keeper is gone."""
        import docker.errors

        label = f"{HOME_LABEL}={self._places.home}"
        for found in client.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        ):
            pid = found.labels.get(PID_LABEL, "")
            alive = pid.isdigit() and str(process_start(int(pid))) == found.labels.get(BEGAN_LABEL)
            if not alive:
                with contextlib.suppress(docker.errors.NotFound):
                    found.remove(force=True, v=True)

    def _pull_if_missing(self, client: Any, say: Say) -> None:
        import docker.errors

        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.get(self._image)
            return
        say(f"pulling the image {self._image}")
        name, _, tag = self._image.rpartition(":")
        if not name or "/" in tag:  # no tag, or the colon of a registry's port
            name, tag = self._image, "latest"
        problem = ""
        try:
            for line in client.api.pull(name, tag=tag, stream=True, decode=True):
                problem = line.get("error", problem)
                if self._given_up.is_set():
                    problem = "interrupted"
                if problem:
                    break
        except docker.errors.DockerException as error:
            problem = _reason(error)
        if problem:
            raise EngineRoomError(
                f"The image {self._image} is not on this machine and could not be pulled: "
                f"{problem.rstrip('.')}.",
                f"docker pull {self._image}, or {_INSTEAD}",
            )

    async def _ready(self, container: DockerContainer, certificates: Certificates) -> Sentinel:
        """Wait until Postgres answers over TLS; a container that ends is noticed at once."""
        from engineroom.lab.providers.sentinel import Sentinel
        from engineroom.lab.trouble import TROUBLE

        assert self._port is not None
        sentinel = Sentinel(
            host=_HOST,
            port=self._port,
            user=_USER,
            password=self._password,
            ca_file=str(certificates.ca_file),
        )
        deadline = time.monotonic() + _PATIENCE
        problem: Exception | None = None
        while time.monotonic() < deadline:
            try:
                await sentinel.open()
                return sentinel
            except TROUBLE as error:
                problem = error  # docker's proxy accepts before Postgres listens
            if await asyncio.to_thread(_has_ended, container):
                raise await asyncio.to_thread(self._ended, container)
            await asyncio.sleep(0.05)
        raise EngineRoomError(
            f"Postgres in the container of {self._image} did not answer on "
            f"{_ADDRESS}:{self._port} within {_PATIENCE:.0f} seconds: {problem}.",
            _INSTEAD,
        )

    def _ended(self, container: DockerContainer) -> EngineRoomError:
        words = container.get_wrapped_container().logs(tail=5).decode(errors="replace")
        lines = [line for line in words.splitlines() if line.strip()]
        last = lines[-1].strip().rstrip(".") if lines else "it said nothing"
        return EngineRoomError(
            f"The container of {self._image} ended as soon as it had started: {last}.",
            f"unset ENGINEROOM_CONTAINER_IMAGE, or {_INSTEAD}",
        )


def _has_ended(container: DockerContainer) -> bool:
    wrapped = container.get_wrapped_container()
    wrapped.reload()
    return wrapped.status in ("exited", "dead")


def _published_port(container: DockerContainer) -> int | None:
    """The port that Docker chose, or None when the container has ended already."""
    found = container.get_docker_client().client.api.port(container.get_container_id(), 5432)
    return int(found[0]["HostPort"]) if found else None


def _remove(container: DockerContainer) -> None:
    """Remove a container with all it holds; one that is gone already is as good."""
    import docker.errors

    with contextlib.suppress(docker.errors.DockerException, OSError):
        container.stop()


@contextlib.contextmanager
def _without_ryuk() -> Iterator[None]:
    """Testcontainers' own cleaner is another image to pull; our labels do its job."""
    from testcontainers.core.config import testcontainers_config

    before = testcontainers_config.ryuk_disabled
    testcontainers_config.ryuk_disabled = True
    try:
        yield
    finally:
        testcontainers_config.ryuk_disabled = before


def _no_engine(error: Exception) -> EngineRoomError:
    if "permission denied" in str(error).lower():
        return EngineRoomError(
            "A Docker engine runs, but this account may not use it.",
            "sudo usermod -aG docker $USER, then log in again",
        )
    return EngineRoomError(
        "A container was asked for (ENGINEROOM_POSTGRES), but no Docker engine answers.",
        f"start Docker, or {_INSTEAD}",
    )


def _reason(error: Exception) -> str:
    """What the engine said, in one line."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split()).rstrip(".")[:300]
