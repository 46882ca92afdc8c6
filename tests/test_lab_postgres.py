"""What the lab's Postgres gives a notebook, by the server's own word."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
import trustme
from lab_helpers import PATIENCE, Kernel, Lab, eventually, forgets_sockets, query
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine


@pytest.fixture
def kernel(common_lab: Lab) -> Iterator[Kernel]:
    made = common_lab.kernel()
    yield made
    made.close()


@pytest.fixture
def facts(kernel: Kernel) -> dict[str, Any]:
    return kernel.facts()


@pytest.fixture
def other(common_lab: Lab) -> Iterator[dict[str, Any]]:
    """What another notebook was given."""
    made = common_lab.kernel()
    yield made.facts()
    made.close()


def as_role(facts: dict[str, Any], role: str, database: str = "") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=facts["host"],
        port=facts["port"],
        user=facts[role],
        password=facts[f"{role}_password"],
        dbname=database or facts["database"],
        autocommit=True,
        connect_timeout=int(PATIENCE),
    )


# -- URLs -----------------------------------------------------------------------------------


async def test_each_url_connects_with_the_driver_it_names(kernel: Kernel) -> None:
    async def ask(url: str) -> str:
        engine = create_async_engine(url)
        try:
            async with engine.connect() as connection:
                return str(await connection.scalar(text("select current_user")))
        finally:
            await engine.dispose()

    owner, app = kernel.run("lab.postgres.database + '_owner'"), kernel.facts()["app"]
    assert await ask(kernel.run("lab.url")) == owner
    assert await ask(kernel.run("lab.psycopg_url")) == owner
    assert await ask(kernel.run("lab.app_url")) == app
    assert query(kernel.run("lab.sync_url"), "select current_user") == [(owner,)]
    engine = create_engine(kernel.run("lab.psycopg_url"))
    with engine.connect() as connection:
        assert connection.scalar(text("select current_user")) == owner
    engine.dispose()


def test_a_name_the_lab_does_not_have_is_told_with_those_it_has(kernel: Kernel) -> None:
    assert kernel.run("hasattr(lab, 'urls')") is False
    assert "tiny" in kernel.run("dir(lab)")


def test_the_password_does_not_show_in_what_a_notebook_shows_of_the_lab(
    kernel: Kernel, facts: dict[str, Any]
) -> None:
    shown = kernel.run("repr(lab.postgres) + lab.postgres._repr_html_() + repr(lab.tiny)")
    assert facts["database"] in shown
    assert facts["password"] not in shown


# -- TLS ------------------------------------------------------------------------------------

ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


async def test_tls_is_on_for_asyncpg_by_the_servers_word(kernel: Kernel) -> None:
    context = ssl.create_default_context(cafile=kernel.run("lab.ca_file"))
    connection = await asyncpg.connect(kernel.run("lab.sync_url"), ssl=context)
    try:
        assert await connection.fetchval(ENCRYPTED) is True
    finally:
        await connection.close()


def test_tls_is_on_for_psycopg_by_the_servers_word(kernel: Kernel) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": kernel.run("lab.ca_file")}
    assert query(kernel, ENCRYPTED, **verified) == [(True,)]
    # A client may go without: a lesson compares the two.
    assert query(kernel, ENCRYPTED, sslmode="disable") == [(False,)]


@forgets_sockets
async def test_a_strangers_authority_vouches_for_nothing(kernel: Kernel, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        query(kernel, "select 1", sslmode="verify-full", sslrootcert=str(stranger))
    context = ssl.create_default_context(cafile=stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(kernel.run("lab.sync_url"), ssl=context)


def test_the_authoritys_private_key_is_written_nowhere(common_lab: Lab) -> None:
    keys = {p.name for p in common_lab.home.rglob("*") if p.suffix == ".key"}
    assert keys <= {"server.key", "other-name.key"}
    for pem in common_lab.home.rglob("*.pem"):
        assert "PRIVATE" not in pem.read_text()


def test_no_secret_of_the_lab_is_readable_by_others(common_lab: Lab) -> None:
    secret = [common_lab.home / "lab.json", common_lab.base / "admin-password"]
    secret += common_lab.home.rglob("*.key")
    for file in [*secret, common_lab.home / "log"]:
        assert file.stat().st_mode & 0o077 == 0, file


# -- roles ----------------------------------------------------------------------------------


def test_passwords_are_kept_as_scram(common_lab: Lab, facts: dict[str, Any]) -> None:
    rows = common_lab.admin("select rolpassword from pg_authid where rolpassword is not null")
    assert len(rows) >= 4
    assert {row[0].partition("$")[0] for row in rows} == {"SCRAM-SHA-256"}


def test_nobody_gets_in_without_the_password(facts: dict[str, Any]) -> None:
    for user in ("postgres", facts["owner"]):
        for host in (facts["host"], facts["socket_dir"]):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(
                    host=host,
                    port=facts["port"],
                    user=user,
                    password="wrong",
                    dbname=facts["database"],
                )


def test_no_role_of_the_lab_is_a_superuser_or_makes_others(
    common_lab: Lab, facts: dict[str, Any]
) -> None:
    rows = common_lab.admin(
        "select rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
        " from pg_roles where rolname like 'er\\_%'"
    )
    assert {facts["owner"], facts["app"], facts["witness"]} <= {row[0] for row in rows}
    assert not any(any(row[1:]) for row in rows), rows


def test_the_owner_meets_its_limit_at_the_twenty_first_connection(facts: dict[str, Any]) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(closing(as_role(facts, "owner")))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            as_role(facts, "owner")
        # The others of this notebook are not kept out by that.
        stack.enter_context(closing(as_role(facts, "app")))


def test_the_app_role_may_connect_and_nothing_more(facts: dict[str, Any]) -> None:
    with closing(as_role(facts, "owner")) as owner:
        owner.execute("create table guarded as select 1 as id")
    with closing(as_role(facts, "app")) as app:
        assert app.execute("select 1").fetchall() == [(1,)]
        for forbidden in (
            "create table mine (id int)",
            "create temporary table mine (id int)",
            "create schema mine",
            "select * from guarded",
            "insert into guarded values (2)",
            "drop table guarded",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(forbidden)
    with closing(as_role(facts, "owner")) as owner:
        owner.execute(f"grant select on guarded to {facts['app']}")
    with closing(as_role(facts, "app")) as app:
        assert app.execute("select * from guarded").fetchall() == [(1,)]


def test_a_notebook_gets_into_no_database_but_its_own(
    facts: dict[str, Any], other: dict[str, Any]
) -> None:
    assert facts["database"] != other["database"]
    for role in ("owner", "app"):
        for elsewhere in (
            other["database"],
            facts["witness_database"],
            "postgres",
            "template1",
        ):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                as_role(facts, role, elsewhere)


# -- the witness ----------------------------------------------------------------------------


def as_witness(facts: dict[str, Any]) -> closing[psycopg.Connection[Any]]:
    return closing(as_role(facts, "witness", facts["witness_database"]))


def test_the_witness_has_the_two_rights_it_needs_and_a_database_of_its_own(
    common_lab: Lab, facts: dict[str, Any]
) -> None:
    granted = common_lab.admin(
        "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid"
        " join pg_roles w on w.oid = m.member where w.rolname = %s",
        facts["witness"],
    )
    assert {row[0] for row in granted} == {"pg_monitor", "pg_signal_backend"}
    assert facts["witness_database"] not in (facts["database"], "postgres")


def test_the_witness_sees_what_others_do_and_can_end_them(facts: dict[str, Any]) -> None:
    with closing(as_role(facts, "owner")) as owner, as_witness(facts) as witness:
        owner.execute("select 'watched'")
        seen = witness.execute(
            "select a.query, s.ssl from pg_stat_activity a join pg_stat_ssl s using (pid)"
            " where pid = %s",
            (owner.info.backend_pid,),
        ).fetchall()
        assert seen == [("select 'watched'", True)]
        assert witness.execute(
            "select pg_terminate_backend(%s, 10000)", (owner.info.backend_pid,)
        ).fetchall() == [(True,)]
        with pytest.raises(psycopg.OperationalError):
            owner.execute("select 1")


def test_the_witness_gets_at_no_rows(facts: dict[str, Any]) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        as_role(facts, "witness")


def test_the_witness_counts_statements(common_lab: Lab, facts: dict[str, Any]) -> None:
    count = (
        "select sum(calls) from pg_stat_statements s join pg_database d on d.oid = s.dbid"
        " where d.datname = %s and query like 'select %%counted%%'"
    )
    with closing(as_role(facts, "owner")) as owner:
        for number in range(7):
            owner.execute(f"select {number} as counted")
    with as_witness(facts) as witness:
        assert witness.execute(count, (facts["database"],)).fetchall() == [(7,)]


# -- the cluster ----------------------------------------------------------------------------


def test_the_cluster_allows_400_connections_on_loopback_only(common_lab: Lab) -> None:
    assert common_lab.admin("show max_connections") == [("400",)]
    assert common_lab.admin("show listen_addresses") == [("localhost",)]
    assert common_lab.admin("show password_encryption") == [("scram-sha-256",)]


def test_no_superuser_ever_works_in_a_learners_database(lab: Lab) -> None:
    """A learner may leave a trap there: a function that a superuser's statement would run."""
    lab.cli("db", "up", check=True)
    lab.admin("alter system set log_connections = on")
    lab.admin("select pg_reload_conf()")
    kernel = lab.kernel()
    query(kernel, "create table kept (id int)")
    database = kernel.facts()["database"]
    lab.status()
    lab.cli("doctor", check=True)
    kernel.run("lab.tiny.url")
    kernel.close()
    eventually(lambda: database not in lab.databases(), "the kernel's database went")
    lab.cli("db", "reset", "--yes", check=True)
    lab.cli("db", "down", check=True)
    log = (lab.home / "log/postgres.log").read_text()
    entered = {
        line.partition("user=")[2].split()[0]
        for line in log.splitlines()
        if "connection authorized" in line and f"database={database}" in line
    }
    assert entered == {f"{database}_owner"}
    scratch = [line for line in log.splitlines() if "_scratch" in line and "authorized" in line]
    assert not any("user=postgres" in line for line in scratch)


# -- the tiny one ---------------------------------------------------------------------------


async def test_too_many_clients_is_met_on_the_tiny_server(kernel: Kernel) -> None:
    url = kernel.run("lab.tiny.url")
    async with AsyncExitStack() as stack:

        async def take(number: int) -> None:
            for _ in range(number):
                connection = await asyncpg.connect(url.replace("+asyncpg", ""))
                stack.push_async_callback(connection.close)

        await take(10)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await take(11)
    assert query(kernel.run("lab.tiny.sync_url"), "show max_connections") == [("20",)]


def test_each_kernel_has_a_tiny_server_of_its_own_that_goes_with_it(
    common_lab: Lab, kernel: Kernel
) -> None:
    second = common_lab.kernel()
    ports = {urlsplit(one.run("lab.tiny.sync_url")).port for one in (kernel, second)}
    assert len(ports) == 2
    assert common_lab.port not in ports
    gone_url = second.run("lab.tiny.sync_url")
    left = common_lab.leftovers()
    second.close()
    with pytest.raises(psycopg.OperationalError):
        query(gone_url, "select 1")
    assert query(kernel.run("lab.tiny.sync_url"), "select 1") == [(1,)]
    assert 0 < len(common_lab.leftovers()) < len(left)


async def test_the_tiny_server_speaks_verified_tls(kernel: Kernel) -> None:
    context = ssl.create_default_context(cafile=kernel.run("lab.tiny.ca_file"))
    connection = await asyncpg.connect(kernel.run("lab.tiny.sync_url"), ssl=context)
    try:
        assert await asyncio.wait_for(connection.fetchval(ENCRYPTED), 10) is True
    finally:
        await connection.close()
