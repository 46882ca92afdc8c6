"""Somebody's own Postgres, named by ``ENGINEROOM_DATABASE_URL``."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Say, Server
from engineroom.lab.places import Places
from engineroom.lab.tenants import connect

_FIX = "correct ENGINEROOM_DATABASE_URL, or unset it to use the lab's own Postgres"


class ExternalProvider:
    """Uses a server that is there already; starts and stops nothing."""

    name = "external"

    def __init__(self, places: Places) -> None:
        self._closed = asyncio.Event()
        self._sentinel: asyncpg.Connection[asyncpg.Record] | None = None

    async def start(self, say: Say) -> Server:
        began = time.monotonic()
        named = parse(os.environ.get("ENGINEROOM_DATABASE_URL", ""))
        say(f"connecting to {named.host}:{named.port}")
        await self.stop()
        self._closed.clear()
        self._sentinel = sentinel = await _connect(named)
        sentinel.add_termination_listener(lambda _: self._closed.set())
        row = await sentinel.fetchrow(
            "select current_setting('server_version') as version,"
            " current_setting('server_version_num')::int as number,"
            " current_setting('max_connections')::int as most,"
            " coalesce((select ssl from pg_catalog.pg_stat_ssl"
            "   where pid = pg_backend_pid()), false) as tls,"
            " exists (select from pg_catalog.pg_available_extensions"
            "   where name = 'pg_stat_statements') as available,"
            # Shown only to those with pg_read_all_settings.
            " coalesce((select setting from pg_catalog.pg_settings"
            "   where name = 'shared_preload_libraries'), '') as preloaded"
        )
        assert row is not None
        if row["number"] < 140000:
            raise EngineRoomError(
                f"The server at {named.host} is Postgres {row['version']}; 14 is the oldest "
                "that the course knows.",
                "unset ENGINEROOM_DATABASE_URL",
            )
        return Server(
            provider=self.name,
            host=named.host,
            port=named.port,
            admin_user=named.admin_user,
            admin_password=named.admin_password,
            admin_database=named.admin_database,
            version=row["version"].split()[0],
            tls=row["tls"],
            ca_file=named.ca_file,
            statements=row["available"] and "pg_stat_statements" in row["preloaded"],
            max_connections=row["most"],
            started_in_seconds=round(time.monotonic() - began, 3),
        )

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def stop(self) -> None:
        if self._sentinel is not None:
            await self._sentinel.close(timeout=2)
            self._sentinel = None


def parse(url: str) -> Server:
    """Read a URL as people paste it; the password never gets into a message."""
    try:
        parts = urlsplit(url.strip().strip("'\""))
        port = parts.port or 5432
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    except ValueError:
        raise _unreadable() from None
    if "@" in parts.path + parts.query + parts.fragment and "@" not in parts.netloc:
        raise _unreadable()  # a slash in the password, which would show in what follows
    scheme = parts.scheme.lower().partition("+")[0]
    if scheme not in ("postgres", "postgresql") or not parts.hostname:
        raise EngineRoomError(
            "ENGINEROOM_DATABASE_URL is no Postgres URL: it should look like "
            "postgresql://user:password@host:5432/database.",
            _FIX,
        )
    user = unquote(parts.username or "postgres")
    mode = query.get("sslmode", query.get("ssl", ""))
    ca_file = query.get("sslrootcert")
    if ca_file == "system" or (mode in ("verify-ca", "verify-full") and not ca_file):
        ca_file = _system_authorities()
    return Server(
        provider="external",
        host=parts.hostname,
        port=port,
        admin_user=user,
        admin_password=unquote(parts.password or ""),
        admin_database=unquote(parts.path.lstrip("/")) or user,
        version="",
        tls=mode not in ("", "disable", "allow", "prefer"),
        ca_file=ca_file,
    )


def _unreadable() -> EngineRoomError:
    return EngineRoomError(
        "ENGINEROOM_DATABASE_URL cannot be read as a URL; a password with special "
        "characters must be percent-encoded.",
        _FIX,
    )


def _system_authorities() -> str:
    known = ssl.get_default_verify_paths()
    for found in (known.cafile, f"{known.capath}/ca-certificates.crt"):
        if found and os.path.exists(found):
            return found
    raise EngineRoomError(
        "ENGINEROOM_DATABASE_URL asks for a verified certificate, and this machine has no file "
        "of authorities to verify it with.",
        "add &sslrootcert=/path/to/ca.pem to ENGINEROOM_DATABASE_URL",
    )


async def _connect(named: Server) -> asyncpg.Connection[asyncpg.Record]:
    """Log in, each way it can fail in a sentence of its own."""
    where = f"{named.host}:{named.port}"
    try:
        return await connect(named)
    except asyncpg.InvalidAuthorizationSpecificationError:  # a wrong password is one of these
        sentence = f"The server at {where} refused user {named.admin_user!r} or its password."
    except asyncpg.InvalidCatalogNameError:
        sentence = f"The server at {where} has no database {named.admin_database!r}."
    except asyncpg.TooManyConnectionsError:
        sentence = f"The server at {where} has no free connection."
    except asyncpg.PostgresError as error:
        sentence = f"The server at {where} refused: {error}."
    except ssl.SSLError as error:
        sentence = f"TLS with {where} failed: {error.reason or error}."
    except (socket.gaierror, UnicodeError):
        sentence = f"No host is known by the name {named.host!r}."
    except TimeoutError:
        sentence = f"{where} did not answer within 10 seconds."
    except FileNotFoundError as error:
        sentence = f"The certificate file {error.filename or named.ca_file!r} is not there."
    except ConnectionRefusedError:
        sentence = f"Nothing answers at {where}."
    except OSError as error:
        if "rejected SSL" in str(error):
            sentence = f"The server at {where} speaks no TLS, and your URL asks for it."
        else:
            sentence = f"What answers at {where} is no Postgres, or cannot be reached: {error}."
    except asyncpg.InterfaceError as error:
        sentence = f"What answers at {where} does not speak as Postgres does: {error}."
    raise EngineRoomError(sentence, _FIX)
