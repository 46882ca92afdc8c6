"""The lab, as a notebook sees it.

    from engineroom import lab

    lab.url           # this notebook's own database, for asyncpg
    lab.tiny.url      # a server with twenty connections
    lab.pgbouncer.url, lab.impostor.url, lab.secrets.url

Nothing starts at import. The first name used starts what it needs; what a notebook does not
use costs it nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engineroom.lab.face import Postgres, SideServerFace

    postgres: Postgres
    url: str
    psycopg_url: str
    sync_url: str
    app_url: str
    ca_file: str
    tiny: SideServerFace
    pgbouncer: SideServerFace
    impostor: SideServerFace
    secrets: SideServerFace

__all__ = [
    "app_url",
    "ca_file",
    "impostor",
    "pgbouncer",
    "postgres",
    "psycopg_url",
    "secrets",
    "sync_url",
    "tiny",
    "url",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"the lab has no {name!r}; it has {', '.join(__all__)}")
    from engineroom.lab import face

    return face.look_up(name)


def __dir__() -> list[str]:
    return sorted(__all__)
