"""What ``lab.<name>`` gives in a notebook: URLs, and small objects that describe themselves."""

from __future__ import annotations

import atexit
import html
from types import SimpleNamespace
from typing import Any

from engineroom.errors import EngineRoomError
from engineroom.lab.session import Lease

_SIDES = {
    "tiny": "a Postgres with 20 connections",
    "pgbouncer": "PgBouncer in transaction mode, before your database",
    "impostor": "a server that is not what it says: its certificate is a stranger's",
    "secrets": "AWS Secrets Manager, played by moto",
}

_lease = Lease()
atexit.register(_lease.leave)


_given: dict[str, Any] | None = None


def use_given(endpoints: dict[str, Any]) -> None:
    """Take these endpoints for the lab, and never start one: so a subject is told its lab."""
    global _given
    _given = endpoints
    atexit.unregister(_lease.leave)


def look_up(name: str) -> Any:
    """The value of ``lab.<name>``, starting what it needs."""
    if _given is not None:
        return _look_up_given(_given, name)
    if name in _SIDES:
        return SideServerFace(name, _lease)
    joined = _lease.join()
    if name == "postgres":
        return Postgres(joined, _lease.choice.reason if _lease.choice else "")
    endpoint = joined["endpoint"]
    value = endpoint["url"] if name == "url" else endpoint["extra"].get(name)
    if value is None:
        raise EngineRoomError(
            f"This lab has no `lab.{name}`: " + (" ".join(joined["left_out"]) or "no TLS here."),
            "engineroom db status",
        )
    return value


def _look_up_given(given: dict[str, Any], name: str) -> Any:
    if name in _SIDES:
        return SimpleNamespace(**given.get(name, {}))
    if name == "postgres":
        return SimpleNamespace(**given.get("server", {}))
    try:
        return given[name]
    except KeyError:
        raise EngineRoomError(f"This exercise's lab has no `lab.{name}`.") from None


class Postgres:
    """The server behind this notebook: who runs it, which version, how it is reached."""

    def __init__(self, joined: dict[str, Any], reason: str) -> None:
        server = joined["server"]
        self.provider: str = server["provider"]
        self.reason = reason
        self.version: str = server["version"]
        self.major = int(self.version.partition(".")[0])
        self.tls: bool = server["tls"]
        self.host: str = server["host"]
        self.port: int = server["port"]
        self.socket_dir: str | None = server["socket_dir"]
        self.database: str = joined["endpoint"]["extra"]["database"]
        self.max_connections: int = server["max_connections"]
        self.statements: bool = server["statements"]
        self.left_out: list[str] = joined["left_out"]

    def _facts(self) -> list[tuple[str, str]]:
        return [
            ("Postgres", self.version),
            ("comes from", f"{self.provider} ({self.reason})"),
            ("answers at", f"{self.host}:{self.port}"),
            ("your database", self.database),
            ("TLS", "on" if self.tls else "off"),
            *(("left out", sentence) for sentence in self.left_out),
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{name:>13}  {value}" for name, value in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f"<table><caption>The lab's Postgres</caption><tbody>{rows}</tbody></table>"


class SideServerFace:
    """A side server: starts when one of its attributes is first read."""

    def __init__(self, name: str, lease: Lease) -> None:
        self._name = name
        self._lease = lease

    def _endpoint(self) -> dict[str, Any]:
        endpoint = self._lease.use(self._name)
        return {"url": endpoint["url"], **endpoint["extra"]}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = self._endpoint()
        if name not in found:
            raise AttributeError(f"lab.{self._name} has no {name!r}; it has {', '.join(found)}")
        return found[name]

    def __getitem__(self, mode: str) -> SideServerFace:
        """Another impostor: ``"other_name"``, ``"no_tls"`` or ``"asks_password"``."""
        if self._name != "impostor":
            raise TypeError(f"lab.{self._name} is of one kind only")
        return SideServerFace(f"impostor:{mode}", self._lease)

    def heard(self) -> list[dict[str, Any]]:
        """What the impostor overheard (only it listens)."""
        if not self._name.startswith("impostor"):
            raise AttributeError("heard")
        answer: list[dict[str, Any]] = self._lease.ask({"op": "heard", "service": self._name})[
            "heard"
        ]
        return answer

    def __dir__(self) -> list[str]:
        return sorted(self._endpoint())

    def __repr__(self) -> str:
        return f"lab.{self._name}: {_SIDES[self._name.partition(':')[0]]}"
