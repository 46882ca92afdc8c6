"""The URLs by which a notebook reaches a Postgres, in each spelling it needs."""

from __future__ import annotations

from typing import Any

from engineroom.lab.model import Endpoint, Server, Tenant, postgres_url


def postgres_endpoint(server: Server, tenant: Tenant, **more: Any) -> Endpoint:
    """A tenant's database on a server, as asyncpg, psycopg and others want it spelt."""

    host = f"[{server.host}]" if ":" in server.host else server.host  # IPv6

    def spell(scheme: str, user: str, password: str) -> str:
        return postgres_url(scheme, user, password, host, server.port, tenant.database)

    owner = (tenant.owner, tenant.owner_password)
    extra: dict[str, Any] = {
        "psycopg_url": spell("postgresql+psycopg", *owner),
        "sync_url": spell("postgresql", *owner),
        "ca_file": server.ca_file,
        "socket_dir": server.socket_dir,
        "host": server.host,
        "port": server.port,
        "database": tenant.database,
        "user": tenant.owner,
        "password": tenant.owner_password,
        "app_user": tenant.app,
    } | more
    if tenant.app:
        extra["app_url"] = spell("postgresql+asyncpg", tenant.app, tenant.app_password)
    return Endpoint(spell("postgresql+asyncpg", *owner), extra)
