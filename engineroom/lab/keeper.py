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
import fcntl
import itertools
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from engineroom.errors import EngineRoomError
from engineroom.lab.certificates import ensure_certificates
from engineroom.lab.endpoints import postgres_endpoint
from engineroom.lab.model import Endpoint, Provider, Server, SideServer, Tenant, to_plain
from engineroom.lab.places import Places

log = logging.getLogger("engineroom.keeper")

SIDE_SERVERS = ("tiny", "pgbouncer", "impostor", "secrets")
_LINGER_DEFAULT = 2.0
_FIRST_LEASE_PATIENCE = 10.0
_LOCK_PATIENCE = 30.0
_RESTARTS_A_MINUTE = 5
_LOG_LIMIT = 4 * 1024 * 1024


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
        self._state.clear_leftovers()
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

    async def _shut_down(self) -> None:
        self._starting.cancel() if self._starting else None
        with contextlib.suppress(asyncio.CancelledError, EngineRoomError):
            await self._starting if self._starting else None
        for lease in list(self._leases.values()):
            await self._end_lease(lease)
        if self._tenancy is not None:
            await self._tenancy.close()
        await self._provider.stop()
        for writer in list(self._writers):
            writer.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=2)

    async def _bring_up(self) -> None:
        """Start the server; whenever it dies under us, start it again on the same port."""
        deaths: list[float] = []
        # asyncpg takes a tenth of a second to import: let it, while Postgres comes up.
        asyncio.get_running_loop().run_in_executor(None, import_module, "engineroom.lab.tenants")
        while True:
            self._server = await self._provider.start(self._say)
            await self._prepare(self._server)
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

        self._tenancy = Tenancy(server, self._state.mark, self._state.witness_password)
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
        if not self._in_use:
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
        try:
            while line := await reader.readline():
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
                        self._look_idle()
                    answer = await self._answer(writer, reader, self._join, lease, request)
                elif request["op"] == "leave" and lease is not None:
                    await self._end_lease(lease)
                    lease = None
                    ending = bool(request.get("at_once") and not self._in_use)
                    answer = {"ok": True, "ending": ending}
                    if ending:
                        self._stopping.set()
                else:
                    handler = getattr(self, f"_op_{request['op']}")
                    answer = await self._answer(writer, reader, handler, lease, request)
                if answer is None:
                    break
                _send(writer, answer)
                await writer.drain()
                if not answer["ok"] and self._starting and self._starting.done():
                    # Nothing runs and nothing will: let the next user try afresh.
                    self._stopping.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception:
            log.exception("a request could not be understood")
        finally:
            if lease is not None:
                await asyncio.shield(self._end_lease(lease))
            self._look_idle()
            writer.close()
            self._writers.discard(writer)
            self._connections.discard(task)

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
        handler: Callable[[Lease | None, dict[str, Any]], Awaitable[dict[str, Any]]],
        lease: Lease | None,
        request: dict[str, Any],
    ) -> dict[str, Any] | None:
        """Run a handler; None when the asker hung up meanwhile."""

        def pass_on(step: str) -> None:
            _send(writer, {"say": step})

        self._listeners.add(pass_on)
        work = asyncio.ensure_future(handler(lease, request))
        # The asker sends nothing while it waits, so anything readable means: it is gone.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work
                return None
            return {"ok": True, **work.result()}
        except EngineRoomError as error:
            return {"ok": False, "sentence": error.sentence, "fix": error.fix}
        except Exception as error:
            log.exception("request %s failed", request.get("op"))
            return {
                "ok": False,
                "sentence": f"The lab met a fault of its own: {type(error).__name__}: {error}.",
                "fix": f"see {self._places.logs / 'keeper.log'}, then: engineroom doctor",
            }
        finally:
            self._listeners.discard(pass_on)
            if not gone.done():
                gone.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await gone

    # -- requests -------------------------------------------------------------------------

    async def _join(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        assert lease is not None
        server = await self._ready()
        if lease.wants_tenant and lease.tenant is None:
            former = request.get("former")
            if former:
                former = Tenant(**{**former, "left_out": tuple(former["left_out"])})
                lease.tenant = await self._tenancy.adopt(former, lease.pid)
            if lease.tenant is None:
                lease.tenant = await self._tenancy.create(lease.pid)
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
                return {"endpoint": to_plain(compose_pooler_endpoint(host, port, lease.tenant))}
            side = await self._make_side(name, server, lease)
            try:
                endpoint = await side.start()
            except BaseException:
                await side.stop()
                raise
            lease.sides[name] = (side, endpoint)
        return {"endpoint": to_plain(lease.sides[name][1])}

    async def _op_heard(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        found = lease.sides.get("impostor") if lease else None
        return {"heard": found[0].heard() if found else []}  # type: ignore[attr-defined]

    async def _op_status(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        server = await self._ready()
        scratch = await self._scratch()
        return {
            "server": to_plain(server),
            "endpoint": to_plain(postgres_endpoint(server, scratch)),
            "pinned": self._pinned,
            "users": [{"kind": u.kind, "pid": u.pid} for u in self._leases.values()],
            "left_out": list(self._tenancy.left_out),
            "keeper_pid": os.getpid(),
        }

    async def _op_pin(self, lease: Lease | None, request: dict[str, Any]) -> dict[str, Any]:
        await self._ready()
        before, self._pinned = self._pinned, bool(request["on"])
        self._look_idle(0.0)
        return {"users": len(self._leases), "was_pinned": before}

    async def _op_reset_scratch(
        self, lease: Lease | None, request: dict[str, Any]
    ) -> dict[str, Any]:
        server = await self._ready()
        tenant = await self._scratch(anew=True)
        return {"endpoint": to_plain(postgres_endpoint(server, tenant))}

    async def _scratch(self, *, anew: bool = False) -> Tenant:
        tenant: Tenant = await self._tenancy.scratch(self._state.scratch_password, anew=anew)
        return tenant

    # -- leases ---------------------------------------------------------------------------

    async def _make_side(self, name: str, server: Server, lease: Lease) -> SideServer:
        assert lease.tenant is not None
        folder = self._state.side_folder / f"{name}-{lease.number}"
        if name == "tiny":
            from engineroom.lab.tiny import Tiny

            return Tiny(
                self._places, folder, self._state.mark, self._state.witness_password, lease.pid
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
                ca_file=Path(server.ca_file) if server.ca_file else certificates.ca_file,
            )
        if name == "impostor":
            from engineroom.lab.stranger import Stranger

            return Stranger(
                server=server,
                tenant=lease.tenant,
                folder=folder,
                ca_file=Path(server.ca_file) if server.ca_file else None,
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
        try:
            found = json.loads(file.read_text())
            self.mark = str(found["mark"])
            self.witness_password = str(found["witness_password"])
            self.scratch_password = str(found["scratch_password"])
        except (OSError, ValueError, KeyError):
            self.mark = secrets.token_hex(3)
            self.witness_password = secrets.token_urlsafe(18)
            self.scratch_password = secrets.token_urlsafe(12)
            fresh = file.with_suffix(f".{os.getpid()}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as output:
                json.dump(
                    {
                        "mark": self.mark,
                        "witness_password": self.witness_password,
                        "scratch_password": self.scratch_password,
                    },
                    output,
                )
            fresh.rename(file)

    def clear_leftovers(self) -> None:
        """Side servers of a keeper that was killed died with it; their folders stayed."""
        shutil.rmtree(self.side_folder, ignore_errors=True)


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


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Run as ``python -m engineroom.lab.keeper``, started by the first user of a lab."""
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("--home", "--run", "--provider", "--key"):
        arguments.add_argument(name, required=True)
    arguments.add_argument("--ready-fd", type=int, required=True)
    given = arguments.parse_args()
    if os.fork():  # the starter waits for this half only, and gets no zombie later
        os._exit(0)
    os.setsid()
    os.umask(0o077 if os.geteuid() else 0o022)
    places = Places(Path(given.home), Path(given.run))
    places.logs.mkdir(parents=True, exist_ok=True)
    keeper_log = places.logs / "keeper.log"
    if keeper_log.exists() and keeper_log.stat().st_size > _LOG_LIMIT:
        keeper_log.replace(keeper_log.with_suffix(".log.1"))
    logging.basicConfig(
        filename=keeper_log,
        level=logging.INFO,
        format=f"%(asctime)s {given.key}[{os.getpid()}] %(message)s",
    )

    def tell(words: str) -> None:
        with contextlib.suppress(OSError):
            os.write(given.ready_fd, words.encode())
            os.close(given.ready_fd)

    try:
        with open(places.run / f"keeper-{given.key}.lock", "a+") as lock:
            _take(lock, places)
            keeper = Keeper(
                places,
                given.provider,
                given.key,
                float(os.environ.get("ENGINEROOM_LINGER", _LINGER_DEFAULT)),
            )
            asyncio.run(keeper.run(lambda: tell("ready")))
    except EngineRoomError as error:
        log.error(str(error))
        tell(json.dumps({"sentence": error.sentence, "fix": error.fix}))
        sys.exit(1)
    except Exception as error:
        log.exception("the keeper ended")
        tell(json.dumps({"sentence": f"The lab's keeper failed: {error}.", "fix": ""}))
        sys.exit(1)


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
