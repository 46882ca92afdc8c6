"""Bad input and bad luck: each one clear sentence and the next command, and nothing lost."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
import trustme
from lab_helpers import (
    IS_ROOT,
    ROOT,
    Kernel,
    Lab,
    eventually,
    forget_home,
    gone,
    make_home,
    needs_root,
    query,
    run_folder,
    small_disk,
    stop_all_of,
)

from engineroom.lab.accounts import run_as, server_account
from engineroom.lab.binaries import find_binaries
from engineroom.lab.processes import clean_environment

SECRET = "hush-hush"


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that a command must end with, and what to do next."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    trouble = re.findall(r"^Trouble: (.+)$", done.stderr, re.MULTILINE)
    following = re.findall(r"^Next: (.+)$", done.stderr, re.MULTILINE)
    assert len(trouble) == len(following) == 1, done.stderr
    assert trouble[0].endswith("."), trouble
    return f"{trouble[0]} -> {following[0]}"


def works(lab: Lab, **env: str) -> Kernel:
    kernel = lab.kernel(**env)
    assert query(kernel, "select 1") == [(1,)]
    return kernel


def stopped(lab: Lab) -> None:
    eventually(lambda: not lab.keepers and not lab.postmasters, "the lab has stopped")


def used_before(lab: Lab) -> None:
    """Have the lab made and stopped again."""
    lab.cli("db", "up", check=True)
    lab.cli("db", "down", check=True)
    stopped(lab)


# -- somebody else's server -----------------------------------------------------------------


@dataclass(frozen=True)
class Somebodys:
    """A Postgres that is not the lab's: plain, as a distribution sets it up."""

    port: int
    data: Path

    def url(self, user: str = "boss", database: str = "postgres", password: str = SECRET) -> str:
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def admin(self, statement: str) -> list[tuple[Any, ...]]:
        return query(self.url(), statement)


@pytest.fixture(scope="session")
def somebodys() -> Iterator[Somebodys]:
    """Run a server from the same binaries, with three kinds of roles on it."""
    folder = make_home("somebody")
    account = server_account()
    binaries = find_binaries()
    (folder / "password").write_text(SECRET)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    how: Any = {"env": clean_environment(), "cwd": "/", **run_as(account)}
    data = folder / "data"
    subprocess.run(
        [
            *(binaries.tool("initdb"), f"--pgdata={data}", "--username=boss", "--no-sync"),
            *(
                f"--pwfile={folder / 'password'}",
                "--auth=scram-sha-256",
                "--locale=C",
                "--encoding=UTF8",
            ),
        ],
        check=True,
        capture_output=True,
        **how,
    )
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [
                *(binaries.tool("postgres"), "-D", str(data), f"--port={port}"),
                *("--listen_addresses=127.0.0.1", "--unix_socket_directories="),
                "--shared_preload_libraries=pg_stat_statements",
            ],
            stdout=log,
            stderr=log,
            **how,
        )
    found = Somebodys(port, data)
    try:

        def up() -> bool:
            try:
                return bool(found.admin("select 1"))
            except psycopg.OperationalError:
                return False

        eventually(up, "somebody's server is up")
        found.admin(f"create role maker login createdb createrole password '{SECRET}'")
        found.admin(f"create role guest login password '{SECRET}'")
        found.admin("create database guests owner guest")
        yield found
    finally:
        server.terminate()
        server.wait(30)
        left = stop_all_of(folder)
        forget_home(folder)
        assert not left


@pytest.fixture
def external(lab: Lab) -> Lab:
    """A lab that is to use the server of a URL."""
    del lab.env["ENGINEROOM_POSTGRES"]
    return lab


def leaves_nothing_on(somebodys: Somebodys) -> Callable[[], bool]:
    return lambda: (
        not somebodys.admin(
            "select datname from pg_database where datname ~ '^er_[0-9a-f]{6}_[0-9a-f]{8}$'"
        )
        and not somebodys.admin(
            "select rolname from pg_roles where rolname ~ '^er_[0-9a-f]{6}_[0-9a-f]{8}_'"
        )
    )


@pytest.mark.parametrize("user", ["boss", "maker"])
def test_an_external_server_serves_with_all_rights_or_with_those_to_make_databases(
    external: Lab, somebodys: Somebodys, user: str
) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = somebodys.url(user)
    kernel = external.kernel()
    facts = kernel.facts()
    assert kernel.run("lab.postgres.provider") == "external"
    assert query(kernel, "select current_user, current_database()") == [
        (facts["owner"], facts["database"])
    ]
    assert query(kernel.run("lab.app_url.replace('+asyncpg', '')"), "select 1") == [(1,)]
    assert facts["witness"]
    left_out = " ".join(kernel.run("lab.postgres.left_out"))
    assert ("pg_monitor" in left_out) == (user == "maker")
    assert SECRET not in kernel.run("repr(lab.postgres) + lab.url")
    # The app role's session, too, must be no obstacle to clearing up.
    kernel.run("import psycopg; c = psycopg.connect(lab.app_url.replace('+asyncpg', ''))")
    kernel.run(
        "import threading; threading.Thread(target=c.execute,"
        " args=['select pg_sleep(1000)'], daemon=True).start()"
    )
    kernel.kill()
    eventually(leaves_nothing_on(somebodys), "the killed kernel's database and roles went")
    stopped(external)
    assert query(somebodys.url(), "select 1") == [(1,)]  # it is theirs, and goes on


def test_an_external_role_without_rights_is_told_what_is_left_out(
    external: Lab, somebodys: Somebodys
) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = somebodys.url("guest", "guests")
    kernel = external.kernel()
    assert query(kernel, "select current_user, current_database()") == [("guest", "guests")]
    assert "CREATEDB" in " ".join(kernel.run("lab.postgres.left_out"))
    assert "CREATEROLE" in kernel.trouble("lab.app_url")
    status = external.status()
    assert status["provider"] == "external"
    assert SECRET not in json.dumps(status)
    query(kernel, "create table precious as select 1")
    assert "left as it is" in told(external.cli("db", "reset", "--yes"))
    assert query(kernel, "select * from precious") == [(1,)]
    query(kernel, "drop table precious")
    doctor = json.loads(external.cli("doctor", "--json", check=True).stdout)
    assert any(one["name"] == "rights" and one["fix"] for one in doctor["checks"])
    kernel.close()
    stopped(external)
    assert somebodys.admin("select 1 from pg_database where datname = 'guests'") == [(1,)]


def test_a_template_in_use_by_others_does_not_stop_an_external_lab(
    external: Lab, somebodys: Somebodys
) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = somebodys.url()
    with closing(psycopg.connect(somebodys.url(database="template1"))):
        works(external)


@contextmanager
def answering(reply: bytes | None) -> Iterator[int]:
    """A program at a port that is no Postgres: it says ``reply``, or speaks HTTP."""
    if reply is None:
        web = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
        )
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            yield web.server_port
        finally:
            web.shutdown()
            web.server_close()
        return
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(100)
                    client.sendall(reply)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        serving.join(5)


def test_an_external_server_that_is_not_there_is_named(external: Lab) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        external.env["ENGINEROOM_DATABASE_URL"] = f"postgresql://u:{SECRET}@127.0.0.1:{port}/d"
        assert f"127.0.0.1:{port}" in told(external.cli("db", "up"))
        assert f"127.0.0.1:{port}" in external.kernel().trouble("lab.url")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://u:{SECRET}@no-such-host.invalid/d", "no-such-host.invalid"),
        (f"postgresql://u:{SECRET}@a..b/d", "a..b"),
        (f"postgresql://u:{SECRET}@127.0.0.1:99999/d", "cannot be read"),
        (f"postgresql://u:{SECRET}/x@127.0.0.1/d", "percent-encoded"),
        (f"postgresql://u:1{SECRET}#x@127.0.0.1/d", "percent-encoded"),
        (f"mysql://u:{SECRET}@127.0.0.1/d", "no Postgres URL"),
        (f"{SECRET}", "no Postgres URL"),
        (f"postgresql://[{SECRET}", "cannot be read"),
        (f"host=127.0.0.1 password={SECRET}", "no Postgres URL"),
        (f"postgresql:///{SECRET}", "no Postgres URL"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence(external: Lab, url: str, expected: str) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = url
    said = told(external.cli("db", "url"))
    assert expected in said
    assert "ENGINEROOM_DATABASE_URL" in said


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda s: s.url(password="wrong-" + SECRET), "refused user 'boss' or its password"),
        (lambda s: s.url(user="nobody-here"), "refused user 'nobody-here' or its password"),
        (lambda s: s.url(database="nothing"), "no database 'nothing'"),
        (lambda s: s.url() + "?sslmode=require", "speaks no TLS"),
        (lambda s: s.url() + "?sslmode=verify-full&sslrootcert=/no/such.pem", "/no/such.pem"),
    ],
)
def test_what_an_external_server_refuses_is_one_sentence(
    external: Lab, somebodys: Somebodys, spoil: Callable[[Somebodys], str], expected: str
) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = spoil(somebodys)
    said = told(external.cli("db", "up"))
    assert re.search(expected, said), said
    assert "unset" in said


def test_what_an_external_server_refuses_a_notebook_reads_without_a_traceback(
    external: Lab, somebodys: Somebodys
) -> None:
    external.env["ENGINEROOM_DATABASE_URL"] = somebodys.url(database="nothing")
    kernel = external.kernel()
    kernel.run("""
try:
    lab.url
except Exception as error:
    shown = error._render_traceback_()
""")
    shown = kernel.run("shown")
    assert len(shown) == 2
    assert SECRET not in "".join(shown)
    assert "no database 'nothing'" in shown[0]


@pytest.mark.parametrize("reply", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"N" * 200, b"", None])
def test_what_is_no_postgres_at_all_is_one_sentence(external: Lab, reply: bytes | None) -> None:
    with answering(reply) as port:
        external.env["ENGINEROOM_DATABASE_URL"] = f"postgresql://u:{SECRET}@127.0.0.1:{port}/d"
        assert f"127.0.0.1:{port}" in told(external.cli("db", "up"))


def test_a_stranger_with_another_certificate_is_refused(
    external: Lab, common_lab: Lab, tmp_path: Path
) -> None:
    """The lab's own server plays somebody else's, with TLS."""
    password = quote((common_lab.base / "admin-password").read_text())
    url = (
        f"postgresql://postgres:{password}@localhost:{common_lab.port}/postgres?sslmode=verify-full"
    )
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    external.env["ENGINEROOM_DATABASE_URL"] = f"{url}&sslrootcert={stranger}"
    assert "CERTIFICATE_VERIFY_FAILED" in told(external.cli("db", "up"))
    # Nor is it verified by the authorities of the system.
    external.env["ENGINEROOM_DATABASE_URL"] = url
    assert re.search("CERTIFICATE_VERIFY_FAILED|authorities", told(external.cli("db", "up")))
    right = f"{url}&sslrootcert={common_lab.home / 'tls/ca.pem'}"
    kernel = works(external, ENGINEROOM_DATABASE_URL=right)
    assert kernel.run("lab.postgres.tls")
    assert kernel.run("lab.ca_file") == str(common_lab.home / "tls/ca.pem")


# -- how the lab is asked for ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"ENGINEROOM_POSTGRES": "oracle"}, "oracle.*unset ENGINEROOM_POSTGRES"),
        ({"ENGINEROOM_POSTGRES": "external"}, "ENGINEROOM_DATABASE_URL"),
        ({"ENGINEROOM_PORT": "many"}, "'many'.*unset ENGINEROOM_PORT"),
        ({"ENGINEROOM_PORT": "70000"}, "70000.*unset ENGINEROOM_PORT"),
        ({"ENGINEROOM_LINGER": "soon"}, "'soon'.*unset ENGINEROOM_LINGER"),
        ({"ENGINEROOM_POSTGRES_BIN": "/nowhere"}, "/nowhere.*unset ENGINEROOM_POSTGRES_BIN"),
    ],
)
def test_a_setting_that_means_nothing_is_named(
    lab: Lab, env: dict[str, str], expected: str
) -> None:
    assert re.search(expected, told(lab.cli("db", "up", **env)))
    assert re.search(expected, lab.kernel(**env).trouble("lab.url").replace("\n", " "))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(lab: Lab, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        taking = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6 on loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    with taking:
        port = str(taking.getsockname()[1])
        said = told(lab.cli("db", "up", ENGINEROOM_PORT=port))
        assert f"Port {port} is taken" in said
        assert "unset ENGINEROOM_PORT" in said
    kernel = works(lab, ENGINEROOM_PORT=port)
    assert kernel.run("lab.postgres.port") == int(port)


@needs_root
def test_a_port_that_needs_more_rights_is_named(lab: Lab) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 99:
        pytest.skip(
            "here anybody may listen at port 99: sysctl net.ipv4.ip_unprivileged_port_start=1024"
        )
    assert "Port 99 needs more rights" in told(lab.cli("db", "up", ENGINEROOM_PORT="99"))


@pytest.mark.parametrize("remembered", ["taken", "99999", "-1", "0", "", "nonsense"])
def test_a_remembered_port_that_is_of_no_use_is_passed_over(used_lab: Lab, remembered: str) -> None:
    before = used_lab.port
    with ExitStack() as stack:
        if remembered == "taken":
            stack.enter_context(socket.create_server(("127.0.0.1", before)))
        else:
            (used_lab.base / "port").write_text(remembered)
        works(used_lab)
        assert (used_lab.port != before) or remembered != "taken"


# -- what lies in the home -------------------------------------------------------------------


def test_data_of_another_major_version_is_left_alone_and_named(used_lab: Lab) -> None:
    (used_lab.base / "data/PG_VERSION").write_text("12\n")
    said = told(used_lab.cli("db", "up"))
    assert "made by Postgres 12" in said
    assert "engineroom db reset --all" in said
    assert (used_lab.base / "data/global/pg_control").exists()


@pytest.mark.parametrize("missing", ["PG_VERSION", "global/pg_control", "../admin-password"])
def test_a_half_written_cluster_is_named_and_reset_keeps_it(used_lab: Lab, missing: str) -> None:
    (used_lab.base / "data" / missing).unlink()
    said = told(used_lab.cli("db", "up"))
    assert "incomplete" in said
    assert "engineroom db reset --all" in said
    reset = used_lab.cli("db", "reset", "--all", "--yes", check=True)
    (kept,) = used_lab.home.glob("postgres-*.old-*")
    assert str(kept) in reset.stdout
    assert (kept / "data/base").is_dir()
    works(used_lab)


@pytest.mark.parametrize("broken", ["pg_control", "postgresql.conf", "pg_wal"])
def test_a_cluster_that_postgres_refuses_is_named_with_its_reason(
    used_lab: Lab, broken: str
) -> None:
    data = used_lab.base / "data"
    if broken == "pg_control":
        (data / "global/pg_control").write_bytes(b"\0" * 8192)
    elif broken == "pg_wal":
        for segment in (data / "pg_wal").glob("0*"):
            segment.write_bytes(b"")
    else:
        (data / "postgresql.conf").write_text("this is no setting\n")
    said = told(used_lab.cli("db", "up"))
    assert "Postgres did not start" in said
    assert "engineroom" in said.partition("->")[2]


def test_what_a_killed_initdb_left_is_cleared(used_lab: Lab) -> None:
    base = used_lab.base
    (base / "data").rename(base / ".new-killed")
    works(used_lab)
    assert not list(base.glob(".new-*"))


@pytest.mark.parametrize("pid", ["dead", "foreign", "nonsense", "empty"])
def test_a_stale_pid_file_is_no_obstacle(used_lab: Lab, pid: str) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        number = {"dead": 2**22 - 7, "foreign": bystander.pid, "nonsense": "what", "empty": ""}
        text = (
            f"{number[pid]}\n{used_lab.base / 'data'}\n{int(time.time())}\n{used_lab.port}\n\n\n\n"
        )
        (used_lab.base / "data/postmaster.pid").write_text(text if pid != "empty" else "")
        works(used_lab)
        assert not gone(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_an_earlier_keeper_left_is_ended_and_the_data_kept(lab: Lab) -> None:
    """As on macOS, where a keeper that is killed cannot take its server along."""
    lab.cli("db", "up", check=True)
    url = lab.cli("db", "url", check=True).stdout.strip()
    query(url, "create table kept as select 42 as answer")
    command = psutil.Process(lab.postmaster).cmdline()
    lab.cli("db", "down", check=True)
    stopped(lab)
    left = subprocess.Popen(
        command,
        env=clean_environment(),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **run_as(server_account()),
    )
    try:
        eventually(lambda: (lab.base / "data/postmaster.pid").exists(), "it is up again")
        url = lab.cli("db", "url", check=True).stdout.strip()
        assert query(url, "select answer from kept") == [(42,)]
        assert left.wait(30) is not None
    finally:
        left.kill()
        left.wait()
    lab.cli("db", "down", check=True)


@pytest.mark.parametrize(
    "damaged",
    [
        "tls/ca.pem",
        "tls/server.pem",
        "tls/server.key",
        "tls/other-name.pem",
        "tls",
        "lab.json",
        "lab.json=[]",
        "lab.json={}",
        'lab.json={"mark": null}',
    ],
)
def test_what_is_damaged_and_can_be_made_again_heals(used_lab: Lab, damaged: str) -> None:
    name, _, content = damaged.partition("=")
    if name == "tls":
        shutil.rmtree(used_lab.home / name)
    else:
        (used_lab.home / name).write_text(content or "damaged")
    kernel = works(used_lab)
    verified = {"sslmode": "verify-full", "sslrootcert": kernel.run("lab.ca_file")}
    assert query(kernel, "select ssl from pg_stat_ssl where pid = pg_backend_pid()", **verified)
    assert query(used_lab.cli("db", "url", check=True).stdout.strip(), "select 1") == [(1,)]
    used_lab.cli("db", "down", check=True)


def test_a_damaged_template_of_the_tiny_server_is_mended_by_a_reset(lab: Lab) -> None:
    kernel = works(lab)
    kernel.run("lab.tiny.url")
    (template,) = lab.home.glob("tiny-*")
    (template / "data/PG_VERSION").unlink()
    second = lab.kernel()
    assert "engineroom db reset --all" in second.trouble("lab.tiny.url")
    assert query(second, "select 1") == [(1,)]
    kernel.close()
    second.close()
    stopped(lab)
    lab.cli("db", "reset", "--all", "--yes", check=True)
    assert works(lab).run("lab.tiny.url")


def test_long_logs_begin_anew(used_lab: Lab) -> None:
    for name in ("keeper.log", "postgres.log"):
        with open(used_lab.home / "log" / name, "ab") as log:
            log.truncate(50_000_000)
    works(used_lab)
    for name in ("keeper.log", "postgres.log"):
        assert 0 < (used_lab.home / "log" / name).stat().st_size < 1_000_000
        assert (used_lab.home / "log" / f"{name}.1").stat().st_size == 50_000_000


# -- where the home is -----------------------------------------------------------------------


@contextmanager
def lab_in(home: Path, env: dict[str, str]) -> Iterator[Lab]:
    """A lab with another home than the test's own."""
    with Lab(home, env | {"ENGINEROOM_HOME": str(home)}) as made:
        yield made
    left = stop_all_of(home)
    run = run_folder(home)
    shutil.rmtree(run, ignore_errors=True)
    assert not left


@pytest.mark.parametrize(
    "name",
    [
        "x" * 120 + "/" + "y" * 120,
        "with space",
        "o'clock",
        'say "so"',
        "a,b",
        "ünï-日本",
        "$HOME;x",
        "%s",
    ],
)
def test_a_home_of_any_name_works(home: Path, lab_env: dict[str, str], name: str) -> None:
    with lab_in(home / name, lab_env) as lab:
        kernel = works(lab)
        assert kernel.run("lab.tiny.url")
        verified = {"sslmode": "verify-full", "sslrootcert": kernel.run("lab.ca_file")}
        assert query(kernel, "select 1", **verified) == [(1,)]
        assert lab.cli("db", "status", check=True).returncode == 0


@needs_root
def test_a_disk_that_cannot_be_written_is_named(home: Path, lab_env: dict[str, str]) -> None:
    with small_disk(home, 10):
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        with lab_in(home / "inside", lab_env) as lab:
            said = told(lab.cli("db", "up"))
            assert f"cannot write to {home / 'inside'}: Read-only file system" in said
            assert "ENGINEROOM_HOME=" in said
            assert "Read-only" in lab.kernel().trouble("lab.url")


@needs_root
@pytest.mark.parametrize("megabytes", [20, 90])
def test_a_disk_too_small_for_a_first_start_is_named(
    home: Path, lab_env: dict[str, str], megabytes: int
) -> None:
    """At 90 MB the first look is content, and initdb or the first start meets the end."""
    with small_disk(home, megabytes), lab_in(home / "inside", lab_env) as lab:
        if megabytes == 90:
            # Something else grows meanwhile.
            (home / "grown").write_bytes(b"\0" * 2**20 * 50)
        said = told(lab.cli("db", "up"))
        assert "is full" in said
        assert "free some space" in said
        assert not list((home / "inside").glob("postgres-*/.new-*"))
        subprocess.run(["mount", "-o", "remount,size=300m", str(home)], check=True)
        works(lab)


@needs_root
@pytest.mark.parametrize("stage", ["certificates", "lab.json", "second start", "initdb", "tiny"])
def test_a_disk_that_is_full_at_any_stage_is_named_and_nothing_is_lost(
    home: Path, lab_env: dict[str, str], stage: str
) -> None:
    with small_disk(home, 400), lab_in(home / "inside", lab_env) as lab:
        used_before(lab)
        url = lab.cli("db", "url", check=True).stdout.strip()
        query(url, "create table kept as select 42 as answer")
        lab.cli("db", "down", check=True)
        stopped(lab)
        if stage == "certificates":
            shutil.rmtree(lab.home / "tls")
        elif stage == "lab.json":
            (lab.home / "lab.json").unlink()
        elif stage == "initdb":
            lab.base.rename(lab.home / "elsewhere")
        filling = home / "filling"
        if stage == "tiny":
            kernel = works(lab)
            fill(filling)
            assert "is full" in kernel.trouble("lab.tiny.url")
            assert query(kernel, "select 1") == [(1,)]
            filling.unlink()
            assert kernel.run("lab.tiny.url")
            return
        fill(filling)
        assert "is full" in told(lab.cli("db", "up"))
        filling.unlink()
        if stage == "initdb":
            shutil.rmtree(lab.base, ignore_errors=True)
            (lab.home / "elsewhere").rename(lab.home / "postgres-17")
        url = lab.cli("db", "url", check=True).stdout.strip()
        if stage != "lab.json":  # there, the scratch database's name was lost
            assert query(url, "select answer from kept") == [(42,)]
        lab.cli("db", "down", check=True)


def fill(file: Path) -> None:
    """Take all the room there is."""
    with open(file, "wb", buffering=0) as output:
        try:
            for size in (2**20, 4096, 1):
                while True:
                    try:
                        output.write(b"\0" * size)
                    except OSError:
                        break
        finally:
            os.fsync(output)


# -- what surrounds the lab ------------------------------------------------------------------


def test_libpqs_own_variables_and_a_missing_locale_change_nothing(lab: Lab) -> None:
    nonsense = {
        "PGHOST": "no-such-host.invalid",
        "PGPORT": "1",
        "PGHOSTADDR": "192.0.2.1",
        "PGUSER": "nobody",
        "PGPASSWORD": "wrong",
        "PGDATABASE": "nothing",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/no/such.pem",
        "PGSERVICE": "nothing",
        "PGTARGETSESSIONATTRS": "standby",
        "PGOPTIONS": "-c nonsense=1",
        "PGDATA": "/no/such",
        "PGTZ": "Mars/Olympus",
        "LANG": "xx_XX.UTF-8",
        "LC_ALL": "xx_XX.UTF-8",
        "LC_MESSAGES": "de_DE.UTF-8",
        "TZ": "Mars/Olympus",
    }
    kernel = lab.kernel(**nonsense)
    url = kernel.run("lab.sync_url")
    assert query(url, "show timezone") == [("UTC",)]
    assert kernel.run("lab.tiny.url")
    assert lab.cli("db", "status", "--json", **nonsense).returncode == 0
    said = lab.cli("db", "psql", "-Atc", "select 40 + 2", **nonsense)
    assert (said.returncode, said.stdout) == (0, "42\n"), said.stderr


def test_what_lies_in_the_learners_folder_is_not_taken_for_a_library(
    lab: Lab, tmp_path: Path
) -> None:
    tmp_path.joinpath("engineroom").mkdir()
    for name in ("asyncpg", "psutil", "trustme", "keeper"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    kernel = lab.kernel(cwd=tmp_path)
    assert query(kernel, "select 1") == [(1,)]
    assert kernel.run("lab.tiny.url")


@pytest.mark.parametrize("umask", ["077", "000", "277"])
def test_any_umask_will_do(home: Path, lab_env: dict[str, str], umask: str) -> None:
    with lab_in(home / "not/there/yet", lab_env) as lab:
        kernel = lab.kernel(prefix=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
        assert query(kernel, "select 1") == [(1,)]
        assert kernel.run("lab.tiny.url")
        for made in (lab.home, lab.home / "log", lab.home / "lab.json", run_folder(lab.home)):
            assert made.stat().st_mode & 0o066 == 0, made


@pytest.mark.parametrize("how", ["symlink", "dangling", "other account", "file"])
def test_a_folder_for_sockets_that_somebody_else_put_there_is_refused(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    run = run_folder(lab.home)
    if how == "other account":
        if not IS_ROOT:
            pytest.skip("needs root, to play another account: run the tests in a container")
        run.mkdir()
        os.chown(run, 65534, 65534)
    elif how == "file":
        run.touch()
    else:
        run.symlink_to(tmp_path if how == "symlink" else tmp_path / "nothing")
    try:
        said = told(lab.cli("db", "up"))
        assert str(run) in said
        if how in ("symlink", "dangling"):
            assert f"rm {run}" in said
        assert not list(tmp_path.iterdir())
    finally:
        run.rmdir() if run.is_dir() and not run.is_symlink() else run.unlink()


def test_without_any_postgres_the_sentence_says_how_to_get_one(lab: Lab) -> None:
    nothing = (
        "import engineroom.lab.binaries as b\nb._candidates = lambda: iter(())\nb.find_binaries()"
    )
    words = lab.kernel().trouble(f"exec({nothing!r})")
    assert "No Postgres 15 or newer was found" in words
    assert "Next: " in words


# -- other accounts --------------------------------------------------------------------------


@needs_root
def test_root_whose_binaries_only_root_can_read_gets_a_copy(lab: Lab) -> None:
    closed = lab.home.parent / "closed"
    shutil.copytree(find_binaries().folder.parent, closed / "pg", symlinks=True)
    subprocess.run(["chmod", "-R", "go-rwx", str(closed)], check=True)
    (lab.home / ".bin-1").mkdir(parents=True)  # a copying that was killed
    kernel = works(lab, ENGINEROOM_POSTGRES_BIN=str(closed / "pg/bin"))
    assert kernel.run("lab.tiny.url")
    assert not (lab.home / ".bin-1").exists()


@needs_root
def test_a_home_that_roots_server_cannot_enter_is_named(
    home: Path, lab_env: dict[str, str]
) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    with lab_in(closed / "inside", lab_env) as lab:
        said = told(lab.cli("db", "up"))
        assert "cannot enter" in said
        assert "ENGINEROOM_HOME=" in said


def as_account(lab: Lab, uid: int) -> None:
    """Have everything in a lab done by another account, in a home directory that it owns."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv: apt-get install util-linux")
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    look = "import subprocess, sys, engineroom; subprocess.run([sys.executable, '-c', ''])"
    # Root's own Python may lie where nobody else may go; then the machine's serves.
    machines = f"/usr/bin/python3.{sys.version_info.minor}"
    for python, paths in (
        (sys.executable, ""),
        (machines, f"{sysconfig.get_path('purelib')}:{ROOT}"),
    ):
        lab.python = [*become, python]
        lab.env["PYTHONPATH"] = paths
        if (
            subprocess.run([*lab.python, "-c", look], env=lab.env, capture_output=True).returncode
            == 0
        ):
            break
    else:
        pytest.skip("no other account can run this Python: use one outside of /root")
    os.chown(lab.home, uid, uid)
    del lab.env["ENGINEROOM_HOME"]
    lab.env["HOME"] = str(lab.home)
    lab.env.pop("XDG_STATE_HOME", None)


@pytest.fixture
def nobody(lab: Lab) -> Lab:
    """A lab of an ordinary person."""
    as_account(lab, 65534)
    return lab


@needs_root
def test_an_ordinary_person_works_in_the_usual_place(nobody: Lab) -> None:
    kernel = nobody.kernel()
    assert query(kernel, "select 1") == [(1,)]
    assert kernel.run("lab.tiny.url")
    usual = nobody.home / ".local/state/engineroom"
    assert usual.stat().st_mode & 0o777 == 0o700
    assert kernel.run("lab.ca_file") == str(usual / "tls/ca.pem")
    status = nobody.cli("db", "status", "--json", check=True)
    assert json.loads(status.stdout)["running"]
    kernel.close()
    shutil.rmtree(run_folder_of(usual, 65534))


@needs_root
@pytest.mark.parametrize("their_home", ["/proc", None])
def test_a_person_whose_home_cannot_be_written_gets_a_place_until_the_reboot(
    nobody: Lab, their_home: str | None
) -> None:
    last_resort = Path("/tmp/engineroom-home-65534")
    nobody.env["HOME"] = their_home or "~nothing"
    # There is one such place for each account of a machine, and maybe other tests at work.
    with open("/tmp/er-last-resort.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel = nobody.kernel()
        try:
            assert query(kernel, "select 1") == [(1,)]
            assert kernel.run("lab.ca_file").startswith(str(last_resort))
        finally:
            kernel.close()
            left = stop_all_of(last_resort)
            shutil.rmtree(run_folder_of(last_resort, 65534), ignore_errors=True)
            shutil.rmtree(last_resort, ignore_errors=True)
        assert not left


def run_folder_of(home: Path, uid: int) -> Path:
    return Path(str(run_folder(home)).replace(f"-{os.geteuid()}-", f"-{uid}-"))


@needs_root
def test_an_account_that_nothing_knows_is_told_so_in_a_sentence(lab: Lab) -> None:
    """As with `docker run --user 54321`."""
    as_account(lab, 54321)
    said = told(lab.cli("db", "up"))
    assert "54321" in said
    assert "passwd" in said
    shutil.rmtree(run_folder_of(lab.home / ".local/state/engineroom", 54321))
