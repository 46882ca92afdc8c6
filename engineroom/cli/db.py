"""``engineroom db``: the Postgres of the lab, from a terminal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from rich.text import Text

from engineroom.cli.console import err, out, steps
from engineroom.errors import EngineRoomError
from engineroom.lab import session
from engineroom.lab.choice import Choice, choose
from engineroom.lab.places import find_places

app = typer.Typer(
    help="The lab's Postgres: start, stop, look at, connect to, reset.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def up() -> None:
    """Start Postgres and keep it running until `engineroom db down`."""
    choice = choose()
    with steps("starting Postgres") as say:
        if choice.provider == "compose":
            _compose("up", say)
        session.call({"op": "pin", "on": True}, say)
        found = status_of(choice)
    out.print(f"Postgres {found['version']} is up ({found['provider']}), {found['url']}")
    out.print("Connect: engineroom db psql    Stop: engineroom db down")


@app.command()
def down() -> None:
    """Let Postgres stop; it goes on for as long as a notebook uses it."""
    choice = choose()
    answer = session.call({"op": "pin", "on": False}, start=False)
    if answer.get("users"):
        out.print(
            f"Postgres stays up for {answer['users']} who use it, and stops when the last leaves."
        )
        return
    with steps("stopping Postgres") as say:
        session.wait_until_ended(choice)
        if choice.provider == "compose":
            _compose("down", say)
    out.print("Postgres is down." if answer else "Postgres was not running.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say which Postgres serves, and whether it runs."""
    found = status_of(choose())
    if as_json:
        typer.echo(json.dumps(found))
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        shown = "-" if value is None else {"True": "yes", "False": "no"}.get(str(value), value)
        out.print(Text(f"{name.replace('_', ' '):>{width}}  {shown}"))


@app.command()
def url(
    driver: Annotated[
        Literal["", "asyncpg", "psycopg"],
        typer.Option(help="Spell it for SQLAlchemy with this driver."),
    ] = "",
) -> None:
    """Print a URL of your scratch database that works, starting Postgres if it must."""
    with steps("starting Postgres") as say:
        # A URL is used after this command has ended, so Postgres must outlive it.
        if not session.call({"op": "pin", "on": True}, say)["was_pinned"]:
            err.print("Postgres now runs until: engineroom db down")
        endpoint = session.call({"op": "status"}, say)["endpoint"]
    spelt = {
        "": endpoint["extra"]["sync_url"],
        "asyncpg": endpoint["url"],
        "psycopg": endpoint["extra"]["psycopg_url"],
    }
    typer.echo(spelt[driver])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on your scratch database (what follows goes to psql)."""
    program = find_psql()
    lease = session.Lease("psql", tenant=False)
    try:
        with steps("starting Postgres"):
            lease.join()
            where = lease.ask({"op": "status"})["endpoint"]["extra"]
        # What libpq reads in the environment of the person would lead it elsewhere.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {
            "PGHOST": where["host"],
            "PGPORT": str(where["port"]),
            "PGUSER": where["user"],
            "PGDATABASE": where["database"],
            # Not in the arguments, where every user of the machine could read it.
            "PGPASSWORD": where["password"],
        }
        if where["ca_file"]:
            environment |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": where["ca_file"]}
        # Ctrl-C cancels a query inside psql; it must not end the lab around it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = subprocess.run(
                [program, *context.args],
                env=environment,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            ).returncode
        finally:
            signal.signal(signal.SIGINT, before)
    finally:
        lease.leave()
    raise typer.Exit(code)


@app.command()
def reset(
    everything: Annotated[
        bool,
        typer.Option("--all", help="Begin with a new cluster; the old one is kept beside it."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Empty your scratch database, or with --all begin again with a new cluster."""
    if everything:
        _reset_cluster(yes)
        return
    _confirm("Everything in your scratch database will be gone. Go on?", yes)
    with steps("making it new") as say:
        session.call({"op": "reset_scratch"}, say)
    out.print("Your scratch database is empty again.")


def status_of(choice: Choice) -> dict[str, Any]:
    """What ``db status --json`` prints; the password is masked."""
    answer = session.call({"op": "status"}, start=False)
    if not answer:
        return {
            "provider": choice.provider,
            "version": None,
            "url": None,
            "tls": None,
            "running": False,
            "started_in_seconds": None,
        }
    server = answer["server"]
    return {
        "provider": server["provider"],
        "version": server["version"],
        "url": masked(answer["endpoint"]["extra"]["sync_url"]),
        "tls": server["tls"],
        "running": True,
        "started_in_seconds": server["started_in_seconds"],
    }


def masked(address: str) -> str:
    """The URL with stars for its password, wherever the password stands."""
    password = urlsplit(address).password
    return address.replace(f":{password}@", ":***@") if password else address


def find_psql() -> str:
    """The psql of the server's own build if it has one, else the machine's."""
    from engineroom.lab.binaries import find_binaries

    try:
        candidate = find_binaries().tool("psql")
    except EngineRoomError:
        candidate = ""
    found = candidate if os.access(candidate, os.X_OK) else shutil.which("psql")
    if not found:
        raise EngineRoomError(
            "There is no psql on this machine.",
            "brew install libpq"
            if sys.platform == "darwin"
            else "apt-get install postgresql-client",
        )
    return found


def _reset_cluster(yes: bool) -> None:
    choice = choose()
    if choice.provider != "embedded":
        raise EngineRoomError(
            f"--all is for the lab's own cluster, and Postgres comes from {choice.provider} here.",
            "ENGINEROOM_POSTGRES=embedded engineroom db reset --all",
        )
    _confirm("The lab will begin with a new, empty cluster (the old one is kept). Go on?", yes)
    try:
        answer = session.call({"op": "pin", "on": False}, start=False)
    except EngineRoomError:
        answer = {}  # a cluster that cannot start is what this command is for
    if answer.get("users") or not session.wait_until_ended(choice):
        raise EngineRoomError(
            "Notebooks still use this cluster, and their data would be pulled from under them.",
            "close them (stop `engineroom lab`), then: engineroom db reset --all",
        )
    from engineroom.lab.providers.embedded import set_aside

    moved = set_aside(find_places())
    for folder in moved:
        out.print(Text(f"The old cluster is kept in {folder}"))
    out.print("The next start makes a new one." if moved else "There was no cluster to replace.")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise EngineRoomError("This removes data, and there is nobody to ask.", "add --yes")
    typer.confirm(question, abort=True)


def _compose(action: Literal["up", "down"], say: Any) -> None:
    import asyncio

    from engineroom.lab.providers import compose

    asyncio.run(compose.up(say) if action == "up" else compose.down())
