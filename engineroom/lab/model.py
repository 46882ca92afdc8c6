"""What the keeper and its users tell each other: plain data, nothing that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from urllib.parse import quote

Say = Callable[[str], None]
"""Reports one step of something slow, for a person who waits."""


@dataclass(frozen=True)
class Server:
    """A running Postgres, and how its administrator reaches it."""

    provider: str
    host: str
    port: int
    admin_user: str
    admin_password: str
    admin_database: str
    version: str
    tls: bool
    ca_file: str | None
    socket_dir: str | None = None
    statements: bool = False
    max_connections: int = 0
    started_in_seconds: float = 0.0


@dataclass(frozen=True)
class Tenant:
    """One kernel's own database and its two plain roles."""

    database: str
    owner: str
    owner_password: str
    app: str
    app_password: str
    witness: str = ""
    witness_password: str = ""
    witness_database: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """A side server of the lab as a notebook sees it: always a ``url``, and what else it has."""

    url: str
    extra: dict[str, Any]


class Provider(Protocol):
    """Where a Postgres comes from."""

    name: str

    async def start(self, say: Say) -> Server:
        """Bring it up and describe it, or raise EngineRoomError."""

    async def wait_closed(self) -> None:
        """Return when the server has ended by itself; never return while it runs."""

    async def stop(self) -> None:
        """Stop what ``start`` started, and only that."""


class SideServer(Protocol):
    """A server beside Postgres that one user of the lab asked for."""

    async def start(self) -> Endpoint:
        """Bring it up, or raise EngineRoomError."""

    async def stop(self) -> None:
        """Stop it and remove its files."""


def postgres_url(scheme: str, user: str, password: str, host: str, port: int, database: str) -> str:
    """Spell a URL with everything escaped that must be."""
    return (
        f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}"
        f"@{host}:{port}/{quote(database, safe='')}"
    )


def to_plain(value: Any) -> dict[str, Any]:
    """Turn one of the dataclasses above into what JSON carries."""
    return asdict(value)
