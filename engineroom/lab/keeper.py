"""The keeper: one quiet process that owns the servers while anybody uses them.

A user of the lab (a kernel, ``engineroom lab``, a command) holds a connection to the keeper's
socket; that open connection is its lease. However the user ends, the system closes the
connection, and the keeper removes what belonged to it. When the last lease ends and nobody
said ``db up``, the keeper stops the servers and itself. If the keeper is killed, Linux ends its
servers with it; elsewhere the next start does.

One JSON object a line, each way. Requests of one connection are answered in order; lines with
``"say"`` come before an answer that takes long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from engineroom.errors import EngineRoomError
from engineroom.lab.certificates import ensure_certificates
from engineroom.lab.endpoints import postgres_endpoint
from engineroom.lab.model import Endpoint, Provider, Server, SideServer, Tenant, to_plain
from engineroom.lab.places import Places, disk_trouble, write_private
from engineroom.lab.processes import rotate

log = logging.getLogger("engineroom.keeper")
Result = TypeVar("Result")

SIDE_SERVERS = (
    "tiny",
    "pgbouncer",
    "impostor",
    "impostor:other_name",
    "impostor:no_tls",
    "impostor:asks_password",
    "secrets",
)
_LINGER_DEFAULT = 2.0
_FIRST_LEASE_PATIENCE = 10.0
_LOCK_PATIENCE = 30.0
_RESTARTS_A_MINUTE = 5
_GOODBYE_PATIENCE = 30.0


@dataclass
class Lease:
    """One user of the lab and what was made for it."""

    number: int
    kind: str
    pid: int
    tenant: Tenant | None = None
    sides: dict[str, tuple[SideServer, Endpoint]] = field(default_factory=dict)
    wants_tenant: bool = True


class Keeper:
    """Starts the provider's server, keeps it up, and counts who uses it."""

    def __init__(self, places: Places, provider_name: str, key: str, linger: float) -> None:
        self._places = places
        self._provider_name = provider_name
        self._key = key
        self._linger = linger
        self._provider = make_provider(provider_name, places)
        self._leases: dict[int, Lease] = {}
        self._numbers = itertools.count(1)
        self._pinned = False
        self._server: Server | None = None
        self._tenancy: Any = None
        self._starting: asyncio.Task[None] | None = None
        self._listeners: set[Callable[[str], None]] = set()
        self._stopping = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._state = LabState(places, key)

    # -- life -----------------------------------------------------------------------------

    async def run(self, announce: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sign, self._stopping.set)
        socket_path = self._places.run / f"keeper-{self._key}.sock"
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()
        self._clear_leftovers()
        listening = await asyncio.start_unix_server(self._accept, socket_path, limit=2**20)
        socket_path.chmod(0o600)
        announce()
        self._starting = asyncio.create_task(self._bring_up())
        self._look_idle(_FIRST_LEASE_PATIENCE)
        try:
            await self._stopping.wait()
        finally:
            log.info("stopping")
            # First nobody new comes in; whoever was about to finds no socket and starts anew.
            with contextlib.suppress(FileNotFoundError):
                socket_path.unlink()
            listening.close()
            await self._shut_down()

    def _clear_leftovers(self) -> None:
        """Side servers of a keeper that was killed died with it; their folders stayed."""
        shutil.rmtree(self._state.side_folder, ignore_errors=True)
        for pattern in (f"tiny-{self._key}-*", f"bouncer-{self._key}-*"):
            for folder in self._places.run.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)

    async def _shut_down(self) -> None:
        # Each connection gives its lease back; who still waits for an answer asks the next keeper.
        for writer in list(self._writers):
            writer.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_GOODBYE_PATIENCE)
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        try:
            if self._tenancy is not None:
                await self._tenancy.close()
        finally:
            await self._provider.stop()

    async def _bring_up(self) -> None:
        """Start the server; whenever it dies under us, start it again on the same port."""
        deaths: list[float] = []
        # asyncpg takes a tenth of a second to import: let it, while Postgres comes up.
        asyncio.get_running_loop().run_in_executor(None, import_module, "engineroom.lab.tenants")
        while True:
            self._server = await self._provider.start(self._say)
            try:
                await self._prepare(self._server)
            except Exception as error:
                if not _is_away(error):
                    raise
            else:
                log.info("%s Postgres %s is up", self._server.provider, self._server.version)
                self._up.set()
                await self._provider.wait_closed()
            log.warning("the server ended by itself")
            self._up.clear()
            deaths = [t for t in deaths if t > time.monotonic() - 60] + [time.monotonic()]
            if len(deaths) > _RESTARTS_A_MINUTE:
                raise EngineRoomError(
                    f"Postgres ended {len(deaths)} times within a minute; its log is "
                    f"{self._places.logs / 'postgres.log'}.",
                    "engineroom doctor",
                )

    async def _prepare(self, server: Server) -> None:
        from engineroom.lab.tenants import Tenancy

        self._tenancy = Tenancy(
            server,
            self._state.mark,
            self._state.witness_password,
            keep_connections=2 if server.provider == "embedded" else 0,
        )
        await self._tenancy.prepare()

    @property
    def _up(self) -> asyncio.Event:
        return self._state.up

    async def _ready(self) -> Server:
        """The running server, or the reason why there is none."""
        assert self._starting is not None
        waiting = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait({waiting, self._starting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._starting.done():
            self._starting.result()
        assert self._server is not None
        return self._server

    async def _with_server(self, work: Callable[[Server], Awaitable[Result]]) -> Result:
        """Do what needs the server, and again when it went away under that."""
        for patience in (0.1, 1.0):
            server = await self._ready()
            try:
                return await work(server)
            except Exception as error:
                if not _is_away(error):
                    raise
                log.warning("the server went away: %s", error)
            # Its end is noticed in a moment; then `_ready` waits for the next one.
            await asyncio.sleep(patience)
        return await work(await self._ready())

    @property
    def _in_use(self) -> bool:
        return bool(self._leases) or self._pinned

    def _say(self, step: str) -> None:
        log.info(step)
        for listener in list(self._listeners):
            listener(step)

    def _look_idle(self, delay: float | None = None) -> None:
        """Stop after a moment without users: a kernel that restarts finds the servers up."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._in_use and not self._asked:
            self._idle_timer = asyncio.get_running_loop().call_later(
                self._linger if delay is None else delay, self._stopping.set
            )

    # -- one connection -------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.add(writer)
        lease: Lease | None = None
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        hearing = asyncio.create_task(_hear(reader, lines))
        try:
            while line := await lines.get():
                request = json.loads(line)
                if request["op"] == "join":
                    if lease is None:
                        lease = Lease(
                            next(self._numbers),
                            str(request.get("kind", "kernel")),
                            int(request["pid"]),
                            wants_tenant=bool(request.get("tenant_wanted", True)),
                        )
                        self._leases[lease.number] = lease
                    answer = await self._answer(writer, hearing, self._join, lease, request)
                    if self._stopping.is_set():
                        break  # what was made goes with the server; the next keeper makes another
                elif request["op"] == "leave" and lease is not None:
                    await self._end_lease(lease)
                    lease = None
                    answer = {
                        "ok": True,
                        "ending": bool(request.get("at_once") and not self._in_use),
                    }
                else:
                    handler = getattr(self, f"_op_{request['op']}")
                    answer = await self._answer(writer, hearing, handler, lease, request)
                if answer is None:
                    break
                _send(writer, answer | {"id": request.get("id")})
                await writer.drain()
                # Where nothing runs and nothing will, the next user had better try afresh.
                hopeless = self._starting is not None and self._starting.done()
                if answer.get("ending") or (hopeless and not answer["ok"]):
                    self._stopping.set()
        except ConnectionError:
            pass
        except Exception:
            log.exception("a request could not be understood")
        finally:
            hearing.cancel()
            if lease is not None:
                await self._end_lease(lease)
            self._look_idle()
            writer.close()
            self._writers.discard(writer)
            self._connections.discard(task)

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        hearing: asyncio.Task[None],
        handler: Callable[[Lease | None, dict[str, Any]], Awaitable[dict[str, Any]]],
        lease: Lease | None,
        request: dict[str, Any],
    ) -> dict[str, Any] | None:
        """Run a handler; None when the asker hung up meanwhile."""

        def pass_on(step: str) -> None:
            _send(writer, {"say": step})

        self._listeners.add(pass_on)
        self._asked += 1
        self._look_idle()
        work = asyncio.ensure_future(handler(lease, request))
        try:
            await asyncio.wait({work, hearing}, return_when=asyncio.FIRST_COMPLETED)
            return {"ok": True, **work.result()} if work.done() else None
        except EngineRoomError as error:
            return {"ok": False, "sentence": error.sentence, "fix": error.fix}
        except Exception as error:
            log.exception("request %s failed", request.get("op"))
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                full = disk_trouble(error, self._places.home)
                return {"ok": False, "sentence": full.sentence, "fix": full.fix}
            return {
                "ok": False,
                "sentence": f"The lab met a fault of its own: {type(error).__name__}: {error}.",
                "fix": f"see {self._places.logs / 'keeper.log'}, then: engineroom doctor",
            }
        finally:
            self._listeners.discard(pass_on)
            self._asked -= 1
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    # -- requests -------------------------------------------------------------------------

    async def _join(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        assert lease is not None

        async def settle(server: Server) -> Server:
            if lease.wants_tenant and lease.tenant is None:
                former = request.get("former")
                if former:
                    former = Tenant(**{**former, "left_out": tuple(former["left_out"])})
                    lease.tenant = await self._tenancy.adopt(former, lease.pid)
                if lease.tenant is None:
                    lease.tenant = await self._tenancy.create(lease.pid)
            return server

        server = await self._with_server(settle)
        tenant = lease.tenant
        return {
            "server": to_plain(server),
            "tenant": to_plain(tenant) if tenant else None,
            "endpoint": to_plain(postgres_endpoint(server, tenant)) if tenant else None,
            "left_out": list(self._tenancy.left_out),
        }

    async def _op_use(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        name = str(request["service"])
        if lease is None or lease.tenant is None or name not in SIDE_SERVERS:
            raise EngineRoomError(f"The lab has no side server {name!r} for this user.")
        server = await self._ready()
        if name not in lease.sides:
            if name == "pgbouncer" and server.provider == "compose":
                from engineroom.lab.pooler import compose_pooler_endpoint
                from engineroom.lab.providers.compose import pgbouncer_address

                host, port = pgbouncer_address()
                endpoint = compose_pooler_endpoint(host, port, lease.tenant, server.ca_file)
                return {"endpoint": to_plain(endpoint)}
            side = await self._make_side(name, server, lease)
            try:
                endpoint = await side.start()
            except BaseException:
                await side.stop()
                raise
            lease.sides[name] = (side, endpoint)
        return {"endpoint": to_plain(lease.sides[name][1])}

    async def _op_heard(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        found = lease.sides.get(request.get("service", "impostor")) if lease else None
        return {"heard": found[0].heard() if found else []}  # type: ignore[attr-defined]

    async def _op_status(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        server, scratch = await self._with_server(self._scratch)
        return {
            "server": to_plain(server),
            "endpoint": to_plain(postgres_endpoint(server, scratch)),
            "pinned": self._pinned,
            "users": [{"kind": u.kind, "pid": u.pid} for u in self._leases.values()],
            "left_out": list(self._tenancy.left_out),
            "keeper_pid": os.getpid(),
        }

    async def _op_pin(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        if request["on"]:
            await self._ready()
        before, self._pinned = self._pinned, bool(request["on"])
        return {
            "users": len(self._leases),
            "was_pinned": before,
            "ending": not self._in_use,
        }

    async def _op_reset_scratch(
        self, lease: Lease | None, request: dict[str, Any]
    ) -> dict[str, Any]:
        server, tenant = await self._with_server(partial(self._scratch, anew=True))
        return {"endpoint": to_plain(postgres_endpoint(server, tenant))}

    async def _scratch(self, server: Server, *, anew: bool = False) -> tuple[Server, Tenant]:
        return server, await self._tenancy.scratch(self._state.scratch_password, anew=anew)

    # -- leases ---------------------------------------------------------------------------

    async def _make_side(self, name: str, server: Server, lease: Lease) -> SideServer:
        assert lease.tenant is not None
        folder = self._state.side_folder / f"{name.replace(':', '-')}-{lease.number}"
        if name == "tiny":
            from engineroom.lab.tiny import Tiny

            return Tiny(
                self._places,
                folder,
                self._places.run / f"tiny-{self._key}-{lease.number}",
                self._state.mark,
                self._state.witness_password,
                lease.pid,
            )
        if name == "pgbouncer":
            from engineroom.lab.pooler import Pooler

            certificates = await asyncio.to_thread(ensure_certificates, self._places)
            return Pooler(
                server=server,
                tenant=lease.tenant,
                folder=self._places.run / f"bouncer-{self._key}-{lease.number}",
                log=self._places.logs / "pgbouncer.log",
                cert_file=certificates.cert_file,
                key_file=certificates.key_file,
                ca_file=certificates.ca_file,
            )
        if name.startswith("impostor"):
            from engineroom.lab.stranger import Stranger

            certificates = await asyncio.to_thread(ensure_certificates, self._places)
            return Stranger(
                server=server,
                tenant=lease.tenant,
                folder=folder,
                ca_file=Path(server.ca_file) if server.ca_file else None,
                mode=name.partition(":")[2] or "stranger",  # type: ignore[arg-type]
                cert_file=certificates.other_cert_file,
                key_file=certificates.other_key_file,
            )
        from engineroom.lab.vault import Vault

        return Vault(
            server=server,
            tenant=lease.tenant,
            folder=folder,
            log=self._places.logs / "secrets.log",
        )

    async def _end_lease(self, lease: Lease) -> None:
        if self._leases.pop(lease.number, None) is None:
            return
        for name, (side, _) in lease.sides.items():
            try:
                await side.stop()
            except Exception:
                log.exception("stopping %s", name)
        lease.sides.clear()
        if lease.tenant is not None and self._up.is_set():
            try:
                await self._tenancy.drop(lease.tenant)
            except Exception:  # the next start sweeps it
                log.exception("dropping %s", lease.tenant.database)
        self._look_idle()


class LabState:
    """What a lab remembers between keepers: its mark and its passwords."""

    def __init__(self, places: Places, key: str) -> None:
        self.up = asyncio.Event()
        self.side_folder = places.home / "side" / key
        file = places.home / "lab.json"
        found = _read_state(file)
        self.mark = found["mark"]
        self.witness_password = found["witness_password"]
        self.scratch_password = found["scratch_password"]


def _read_state(file: Path) -> dict[str, str]:
    """The lab's mark and passwords, made anew where they are missing or damaged."""
    try:
        found = json.loads(file.read_text())
        if re.fullmatch("[0-9a-f]{6}", found["mark"]) and all(
            found[name] and isinstance(found[name], str)
            for name in ("witness_password", "scratch_password")
        ):
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = {
        "mark": secrets.token_hex(3),
        "witness_password": secrets.token_urlsafe(18),
        "scratch_password": secrets.token_urlsafe(12),
    }
    write_private(file, json.dumps(made))
    return made


def make_provider(name: str, places: Places) -> Provider:
    """The provider of that name; only its own module is imported."""
    if name == "embedded":
        from engineroom.lab.providers.embedded import EmbeddedProvider

        return EmbeddedProvider(places)
    if name == "external":
        from engineroom.lab.providers.external import ExternalProvider

        return ExternalProvider(places)
    if name == "compose":
        from engineroom.lab.providers.compose import ComposeProvider

        return ComposeProvider(places)
    from engineroom.lab.providers.container import ContainerProvider

    return ContainerProvider(places)


def _is_away(error: Exception) -> bool:
    from engineroom.lab.tenants import AWAY  # imported by now; at the start it would take time

    return isinstance(error, AWAY)


async def _hear(reader: asyncio.StreamReader, lines: asyncio.Queue[bytes]) -> None:
    """Pass lines on; an empty one, at last, means that the other end hung up."""
    try:
        while line := await reader.readline():
            lines.put_nowait(line)
    except (ConnectionError, ValueError):  # cut off, or a line without an end
        pass
    finally:
        lines.put_nowait(b"")


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Run as ``python -m engineroom.lab.keeper``, started by the first user of a lab."""
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("--home", "--run", "--provider", "--key"):
        arguments.add_argument(name, required=True)
    arguments.add_argument("--passing", default="")
    arguments.add_argument("--ready-fd", type=int, required=True)
    given = arguments.parse_args()
    if os.fork():  # the starter waits for this half only, and gets no zombie later
        os._exit(0)
    os.setsid()
    os.umask(0o077 if os.geteuid() else 0o022)
    # The server asked for is the one that is meant, whatever libpq's variables say.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    passing = Path(given.passing) if given.passing else None
    places = Places(Path(given.home), Path(given.run), passing=passing)
    ready = [given.ready_fd]

    def tell(words: str) -> None:
        while ready:
            with contextlib.suppress(OSError), open(ready.pop(), "w") as listener:
                listener.write(words)

    try:
        _log_to(places.logs / "keeper.log", given.key)
        with open(places.run / f"keeper-{given.key}.lock", "a+") as lock:
            _take(lock, places)
            keeper = Keeper(places, given.provider, given.key, _linger())
            asyncio.run(keeper.run(lambda: tell("ready")))
    except (EngineRoomError, OSError) as met:
        error = disk_trouble(met, places.home) if isinstance(met, OSError) else met
        log.error(str(error))
        tell(json.dumps({"sentence": error.sentence, "fix": error.fix}))
        sys.exit(1)
    except Exception as error:
        log.exception("the keeper ended")
        tell(json.dumps({"sentence": f"The lab's keeper failed: {error}.", "fix": ""}))
        sys.exit(1)


def _log_to(file: Path, key: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate(file)
    logging.raiseExceptions = False  # a log that cannot be written stops nobody
    logging.basicConfig(
        filename=file,
        level=logging.INFO,
        format=f"%(asctime)s {key}[{os.getpid()}] %(message)s",
    )


def _linger() -> float:
    text = os.environ.get("ENGINEROOM_LINGER", "")
    try:
        return max(0.0, float(text)) if text else _LINGER_DEFAULT
    except ValueError:
        raise EngineRoomError(
            f"ENGINEROOM_LINGER is {text!r}, which is no number of seconds.",
            "unset ENGINEROOM_LINGER",
        ) from None


def _take(lock: Any, places: Places) -> None:
    """One keeper at a time: the one before may still be stopping its servers."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                pid = lock.read().strip() or "?"
                raise EngineRoomError(
                    f"Another keeper of this lab (process {pid}) neither answers nor ends.",
                    f"kill {pid}",
                ) from None
            time.sleep(0.01)
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()


if __name__ == "__main__":
    main()
