"""``engineroom doctor``: what works on this machine, and the one command that mends the rest."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from packaging.requirements import Requirement
from rich.text import Text

from engineroom.cli.console import out, steps
from engineroom.errors import EngineRoomError
from engineroom.lab.places import SOCKET_PATH_LIMIT, find_places
from engineroom.lab.session import Lease

OLDEST_PYTHON = (3, 11)
_ROOM = 300 * 2**20


@dataclass(frozen=True)
class Check:
    """One thing looked at. A missing optional thing is ok, and its fix says how to get it."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Look at what the course needs, and say how to get what is missing."""
    with steps("looking around"):
        checks = list(examine())
    well = all(check.ok for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": well, "checks": [asdict(check) for check in checks]}))
    else:
        _show(checks, well)
    raise typer.Exit(0 if well else 1)


def _show(checks: list[Check], well: bool) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        # A word beside every colour: the mark alone would be lost on some.
        mark = ("missing", "bold red") if not check.ok else ("ok", "green")
        if check.ok and check.fix:
            mark = ("optional", "yellow")
        out.print(
            Text.assemble(
                f"{check.name:>{width}}  ", (f"{mark[0]:<8}", mark[1]), f"  {check.detail}"
            )
        )
        if check.fix:
            out.print(Text(f"{'':>{width}}            → {check.fix}", style="dim"))
    out.print(
        Text(
            "\nAll that the course needs works."
            if well
            else "\nMend the first line marked missing, then look again."
        )
    )


def examine() -> Iterator[Check]:
    """Every check, the ones that others rest on first."""
    plain: tuple[Callable[[], Check], ...] = (python, packages, home, sockets)
    for look in plain:
        yield _safely(look)
    yield from postgres()
    for look in (pgbouncer, secrets_manager, containers, jupyterlab, sandbox):
        yield _safely(look)


def _safely(look: Callable[[], Check], name: str = "") -> Check:
    """A check that fails itself is a finding, not a traceback."""
    try:
        return look()
    except EngineRoomError as error:
        return Check(name or look.__name__, False, error.sentence, error.fix)
    except Exception as error:
        return Check(
            name or look.__name__, False, f"could not be looked at: {error}", _installing()
        )


def _installing(extra: str = "") -> str:
    """What installs the project as it is meant to be: in a checkout, or without one."""
    if (Path(__file__).resolve().parents[2] / "Makefile").is_file():
        return "make install"
    return f"pip install 'engine-room{extra}'"  # installs what of it is missing


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Check(
            "python",
            False,
            f"{version}; the course needs 3.11 or newer",
            "make install PYTHON=python3.12",
        )
    return Check("python", True, f"{version} in {sys.prefix}")


def packages() -> Check:
    """Whether what the project asks for is here, in the versions it asks for."""
    wrong = []
    requirements = [Requirement(line) for line in metadata.requires("engine-room") or ()]
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        return Check("packages", False, "; ".join(wrong), _installing())
    return Check("packages", True, f"all {len(needed)} that the course needs")


def home() -> Check:
    places = find_places()
    free = shutil.disk_usage(places.home).free
    detail = f"{places.home}, {free // 2**20:,} MB free"
    if free < _ROOM:
        return Check(
            "home", False, detail, "free some space, or set ENGINEROOM_HOME to another disk"
        )
    if places.note:
        return Check("home", True, places.note, "export ENGINEROOM_HOME=/path/you/can/write")
    return Check("home", True, detail)


def sockets() -> Check:
    run = find_places().run
    longest = run / "pg" / ".s.PGSQL.65535.lock"
    if len(os.fsencode(longest)) > SOCKET_PATH_LIMIT:
        return Check("sockets", False, f"{run} is too long for a socket", "use /tmp for sockets")
    with tempfile.TemporaryDirectory(dir=run) as folder, socket.socket(socket.AF_UNIX) as probe:
        probe.bind(os.path.join(folder, "s"))
    return Check("sockets", True, str(run))


def postgres() -> Iterator[Check]:
    """Start the lab as a notebook would, and ask the server itself."""
    lease = Lease("doctor")
    try:
        joined = lease.join()
    except EngineRoomError as error:
        yield Check("postgres", False, error.sentence, error.fix)
        return
    try:
        server = joined["server"]
        reason = lease.choice.reason if lease.choice else ""
        yield Check(
            "postgres",
            True,
            f"{server['version']}, {server['provider']} ({reason}), "
            f"up in {server['started_in_seconds']} s",
        )
        yield _safely(lambda: tls(joined), "tls")
        yield Check(
            "statements",
            True,
            "pg_stat_statements counts queries" if server["statements"] else "not counted here",
            "" if server["statements"] else "use the lab's own Postgres: unset ENGINEROOM_POSTGRES",
        )
        for sentence in joined["left_out"]:
            yield Check(
                "rights", True, sentence, "alter role ... createdb createrole (as a superuser)"
            )
    finally:
        lease.leave()


def tls(joined: dict[str, Any]) -> Check:
    """Speak TLS with the server as a client that verifies would."""
    server = joined["server"]
    if not server["tls"] or not server["ca_file"]:
        return Check(
            "tls",
            True,
            "on, its authority unknown to us" if server["tls"] else "off",
            "give sslmode=verify-full and sslrootcert in ENGINEROOM_DATABASE_URL",
        )
    context = ssl.create_default_context(cafile=server["ca_file"])
    with socket.create_connection((server["host"], server["port"]), timeout=5) as plain:
        plain.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # SSLRequest
        if plain.recv(1) != b"S":
            return Check("tls", False, "the server refuses TLS", "engineroom db reset --all")
        with context.wrap_socket(plain, server_hostname=server["host"]) as secure:
            return Check("tls", True, f"{secure.version()}, certificate verified")


def pgbouncer() -> Check:
    from engineroom.lab.pooler import find_pgbouncer

    try:
        program = find_pgbouncer()
    except EngineRoomError as error:
        return Check("pgbouncer", True, error.sentence, error.fix)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    return Check("pgbouncer", True, (said.splitlines() or [str(program)])[0])


def secrets_manager() -> Check:
    missing = [name for name in ("boto3", "moto", "flask") if find_spec(name) is None]
    if missing:
        return Check(
            "secrets",
            True,
            f"{', '.join(missing)} not installed: `lab.secrets` is left out",
            _installing("[aws]"),
        )
    return Check("secrets", True, f"moto {metadata.version('moto')}")


def containers() -> Check:
    client = shutil.which("docker")
    fix = "install Docker, if you want the bundled container (the course does without)"
    if client is None:
        return Check("docker", True, "no client; not needed", fix)
    with suppress(subprocess.TimeoutExpired):
        answer = subprocess.run(
            [client, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=5,
        )
        if answer.returncode == 0:
            return Check("docker", True, f"engine {answer.stdout.strip()}")
    return Check(
        "docker", True, "no engine answers; not needed", "start Docker, if you want the container"
    )


def jupyterlab() -> Check:
    kernel = Path(sys.prefix) / "share/jupyter/kernels/python3/kernel.json"
    version = metadata.version("jupyterlab")
    if not kernel.exists():
        return Check(
            "jupyterlab",
            False,
            f"{version}, but no Python kernel",
            "python -m ipykernel install --sys-prefix",
        )
    return Check("jupyterlab", True, version)


def sandbox() -> Check:
    from engineroom.grading.sandbox import find_sandbox

    try:
        found = find_sandbox("auto")
    except EngineRoomError as error:
        return Check("sandbox", True, f"{error.sentence} Only grading needs it.", error.fix)
    if found is not None:
        found.close()
    return Check("sandbox", True, "submissions can be graded in isolation")
