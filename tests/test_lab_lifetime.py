"""Who is there and what runs: kernels, the keeper and the servers, however each of them ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from jupyter_client.manager import KernelManager
from lab_helpers import (
    PATIENCE,
    Kernel,
    KernelError,
    Lab,
    eventually,
    gone,
    kill_9,
    needs_linux,
    processes_of,
    query,
    run_folder,
)

from engineroom.lab.keeper import Keeper
from engineroom.lab.model import Server
from engineroom.lab.places import find_places

ENGINE = """
import asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
engine = create_async_engine(lab.url, pool_pre_ping=True)
loop = asyncio.new_event_loop()
def ask(statement):
    async def asking():
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    return loop.run_until_complete(asking())
"""


def ends_with_nothing_left(lab: Lab) -> None:
    eventually(lambda: not processes_of(lab.home), "everything of the lab has stopped")


# -- the start ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 8])
def test_kernels_that_ask_at_the_same_instant_on_a_cold_machine_share_one_cluster(
    lab: Lab, number: int
) -> None:
    kernels = [lab.kernel() for _ in range(number)]
    for kernel in kernels:
        kernel.run("1")  # all are up and have imported the lab; only now do they ask
    with ThreadPoolExecutor(number) as together:
        urls = list(together.map(lambda kernel: kernel.run("lab.sync_url"), kernels))
    assert len(set(urls)) == number
    assert {query(url, "select current_database()")[0][0] for url in urls} == lab.databases()
    assert len(lab.keepers) == 1
    assert len(lab.postmasters) == 1
    assert len(list(lab.home.glob("postgres-*"))) == 1


def test_commands_that_ask_at_the_same_instant_share_one_scratch_database(lab: Lab) -> None:
    with ThreadPoolExecutor(4) as together:
        said = list(together.map(lambda _: lab.cli("db", "url"), range(4)))
    assert [one.returncode for one in said] == [0] * 4, said
    assert len({one.stdout for one in said}) == 1
    lab.cli("db", "down", check=True)


def test_importing_the_lab_starts_nothing(lab: Lab) -> None:
    assert lab.kernel().run("sorted(dir(lab))")
    assert not lab.keepers
    assert list(lab.home.iterdir()) == []


def test_a_second_start_while_one_runs_finds_the_same_server(lab: Lab) -> None:
    first, second = lab.kernel(), lab.kernel()
    port = first.facts()["port"]
    before = lab.postmaster
    assert second.facts()["port"] == port
    assert lab.cli("db", "up").returncode == 0
    assert lab.postmaster == before
    assert len(lab.keepers) == 1
    lab.cli("db", "down", check=True)


def test_asking_twice_gives_the_same_database(lab: Lab) -> None:
    kernel = lab.kernel()
    assert kernel.run("lab.url == lab.url")
    assert len(lab.databases()) == 1


def test_a_start_that_takes_longer_than_the_patience_with_silence_is_waited_for(lab: Lab) -> None:
    """A command that holds no lease is still a reason to go on, while it waits for its answer."""
    slow = """
import asyncio, engineroom.lab.keeper as keeper
from engineroom.lab.providers.embedded import EmbeddedProvider
keeper._FIRST_LEASE_PATIENCE = 0.5
start = EmbeddedProvider.start
async def slowly(self, say):
    await asyncio.sleep(1.5)
    return await start(self, say)
EmbeddedProvider.start = slowly
keeper.main()
"""
    run = run_folder(lab.home)
    run.mkdir()
    reading, writing = os.pipe()
    names = (f"--home={lab.home}", f"--run={run}", "--provider=embedded", "--key=embedded")
    starting = subprocess.Popen(
        [sys.executable, "-c", slow, *names, f"--ready-fd={writing}"],
        pass_fds=[writing],
        env=lab.env,
        cwd="/",
    )
    os.close(writing)
    with os.fdopen(reading) as words:
        assert words.read() == "ready"
    assert starting.wait(PATIENCE) == 0
    answer = ask_keeper(lab, b'{"op": "status"}\n').splitlines()[-1]
    assert json.loads(answer)["ok"]


# -- the end of a kernel ---------------------------------------------------------------------


def test_when_a_kernel_ends_its_database_and_roles_go(lab: Lab) -> None:
    stays, leaves = lab.kernel(), lab.kernel()
    kept, dropped = stays.facts(), leaves.facts()
    assert lab.databases() == {kept["database"], dropped["database"]}
    assert leaves.close() == 0
    eventually(lambda: lab.databases() == {kept["database"]}, "the ended kernel's database went")
    assert lab.roles() == {kept["owner"], kept["app"]}


def test_kill_9_of_a_kernel_takes_its_database_and_no_others(lab: Lab) -> None:
    stays, killed = lab.kernel(), lab.kernel()
    query(stays, "create table kept as select 42 as answer")
    # A connection of its own, busy inside the server, must not hold the database back.
    killed.run("import psycopg; c = psycopg.connect(lab.sync_url, autocommit=True)")
    killed.run(
        "import threading; threading.Thread(target=c.execute,"
        " args=['select pg_sleep(1000)'], daemon=True).start()"
    )
    kept = stays.facts()
    killed.kill()
    eventually(lambda: lab.databases() == {kept["database"]}, "the killed kernel's database went")
    assert lab.roles() == {kept["owner"], kept["app"]}
    assert query(stays, "select answer from kept") == [(42,)]


def test_kill_9_of_a_kernel_while_its_database_is_being_made_leaves_none(lab: Lab) -> None:
    stays = lab.kernel()
    kept = stays.facts()["database"]
    for _ in range(8):
        hasty = lab.kernel()
        hasty.run("1")
        # By name: the one before may be swept in the moment this one comes, and the count stay.
        before = lab.databases()
        hasty.send("lab.url")
        deadline = time.monotonic() + PATIENCE
        while lab.databases() <= before:
            assert time.monotonic() < deadline
        hasty.kill()
    eventually(lambda: lab.databases() == {kept}, "only the living kernel's database is there")
    eventually(lambda: len(lab.roles()) == 2, "only the living kernel's roles are there")


def test_kill_9_of_a_kernel_before_its_roles_have_a_database_leaves_none(lab: Lab) -> None:
    stays = lab.kernel()
    kept = stays.facts()["database"]
    making = (
        "select 1 from pg_stat_activity"
        " where state = 'active' and query ilike 'create database%%' and wait_event_type = %s"
    )
    # A lock on the list of databases holds every new one up, for as long as we like.
    with lab.administrator(autocommit=False) as holding:
        holding.execute("lock table pg_catalog.pg_database in share mode")
        hasty = lab.kernel()
        hasty.send("lab.url")
        eventually(lambda: lab.admin(making, "Lock"), "a database is being made")
        hasty.kill()
        eventually(lambda: not lab.admin(making, "Lock"), "its making was called off")
    eventually(lambda: lab.databases() == {kept}, "only the living kernel's database is there")
    eventually(lambda: len(lab.roles()) == 2, "only the living kernel's roles are there")


def test_a_fork_of_a_kernel_is_another_user_of_the_lab(lab: Lab) -> None:
    kernel = lab.kernel()
    own = kernel.facts()["database"]
    kernel.run("""
import os
def in_a_fork(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
        finally:
            import atexit
            atexit._run_exitfuncs()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as words:
        said = words.read()
    os.waitpid(child, 0)
    return said
""")
    assert kernel.run("in_a_fork(lambda: 'no lab used')") == "no lab used"
    other = kernel.run("in_a_fork(lambda: lab.postgres.database)")
    assert other.startswith("er_")
    assert other != own
    eventually(lambda: lab.databases() == {own}, "the fork's own database went with it")
    assert kernel.run("lab.postgres.database") == own
    assert query(kernel, "select 1") == [(1,)]


def test_a_fork_that_outlives_its_kernel_does_not_keep_the_lease(lab: Lab) -> None:
    stays, killed = lab.kernel(), lab.kernel()
    kept = stays.facts()["database"]
    killed.facts()
    child = killed.run(
        "__import__('os').fork() or __import__('time').sleep(60)"  # the fork says nothing
    )
    try:
        os.kill(killed.pid, signal.SIGKILL)
        eventually(lambda: lab.databases() == {kept}, "the killed kernel's database went")
        assert not gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_interrupt_while_something_starts_costs_no_data(lab: Lab) -> None:
    kernel = lab.kernel()
    query(kernel, "create table kept as select 42 as answer")
    database = kernel.facts()["database"]
    kernel.send("lab.tiny.url")
    eventually(lambda: list((lab.home / "side").rglob("data")), "the tiny server is on its way")
    kernel.interrupt()
    with suppress(KernelError):  # unless the server was quicker than the interrupt
        kernel.receive()
    assert kernel.run("lab.postgres.database") == database
    assert query(kernel, "select answer from kept") == [(42,)]
    assert kernel.run("lab.tiny.url").startswith("postgresql+asyncpg://")


# -- the end of the last user ----------------------------------------------------------------


def test_when_the_last_user_leaves_everything_stops(lab: Lab) -> None:
    first, second = lab.kernel(), lab.kernel()
    first.facts()
    second.facts()
    server = lab.postmaster
    first.close()
    eventually(lambda: len(lab.databases()) == 1, "the first has left")
    assert not gone(server)
    second.close()
    ends_with_nothing_left(lab)
    assert not (lab.base / "data/postmaster.pid").exists()
    assert lab.leftovers() == []


def test_servers_linger_for_a_kernel_that_restarts(lab: Lab) -> None:
    lab.env["ENGINEROOM_LINGER"] = "30"
    first = lab.kernel()
    first.facts()
    server, keeper = lab.postmaster, lab.keeper
    first.close()
    second = lab.kernel()
    second.facts()
    assert (lab.postmaster, lab.keeper) == (server, keeper)
    second.close()
    os.kill(keeper, signal.SIGTERM)
    ends_with_nothing_left(lab)


def test_db_up_is_a_user_until_db_down(lab: Lab) -> None:
    lab.cli("db", "up", check=True)
    server = lab.postmaster
    kernel = lab.kernel()
    kernel.facts()
    kernel.close()
    eventually(lambda: not lab.databases(), "the kernel has left")
    # Longer than the lab lingers for anybody else.
    lab.env["ENGINEROOM_LINGER"] = "0.3"
    time.sleep(0.6)
    assert not gone(server)
    lab.cli("db", "down", check=True)
    assert gone(server)
    ends_with_nothing_left(lab)


def test_db_down_waits_for_a_notebook_that_is_still_there(lab: Lab) -> None:
    lab.cli("db", "up", check=True)
    kernel = lab.kernel()
    kernel.facts()
    server = lab.postmaster
    said = lab.cli("db", "down", check=True).stdout
    assert "stays up" in said
    assert query(kernel, "select 1") == [(1,)]
    assert not gone(server)
    kernel.close()
    ends_with_nothing_left(lab)


def test_sigterm_to_the_keeper_stops_everything_and_the_next_use_starts_anew(lab: Lab) -> None:
    kernel = lab.kernel()
    kernel.facts()
    os.kill(lab.keeper, signal.SIGTERM)
    ends_with_no_server(lab)
    assert query(kernel, "select 1") == [(1,)]


def ends_with_no_server(lab: Lab) -> None:
    eventually(lambda: not lab.keepers and not lab.postmasters, "keeper and servers have ended")


# -- accidents -------------------------------------------------------------------------------


@needs_linux
def test_kill_9_of_the_keeper_ends_postgres_and_a_living_kernel_gets_its_data_back(
    lab: Lab,
) -> None:
    kernel = lab.kernel()
    before = kernel.facts()
    query(kernel, "create table kept as select 42 as answer")
    kill_9(lab.keeper)
    ends_with_no_server(lab)
    after = kernel.facts()
    assert after == before  # the same port too: URLs and engines stay true
    assert query(kernel, "select answer from kept") == [(42,)]
    assert lab.databases() == {before["database"]}


@needs_linux
def test_kill_9_of_the_keeper_takes_the_tiny_server_and_the_next_use_brings_one(lab: Lab) -> None:
    kernel = lab.kernel()
    first = kernel.run("lab.tiny.sync_url")
    kill_9(lab.keeper)
    ends_with_no_server(lab)
    second = kernel.run("lab.tiny.sync_url")
    assert query(second, "show max_connections") == [("20",)]
    assert first != second
    kernel.close()
    ends_with_nothing_left(lab)
    assert lab.leftovers() == []


def test_kill_9_of_postgres_is_mended_on_the_same_port_with_the_data_kept(lab: Lab) -> None:
    kernel = lab.kernel()
    kernel.run(ENGINE)
    kernel.run("ask('create table kept as select 42 as answer')")
    killed, port = lab.postmaster, lab.port
    kill_9(killed)
    eventually(lambda: _postmaster(lab) not in (None, killed), "another server is up")
    assert eventually(lambda: _answer(kernel, "ask('select answer from kept')"), "data kept") == 42
    assert lab.port == port
    assert lab.databases() == {kernel.facts()["database"]}


def test_kill_9_of_postgres_is_mended_while_a_backend_of_it_computes_on(lab: Lab) -> None:
    """A backend looks up only now and then; no new server may start beside it."""
    kernel = lab.kernel()
    url = kernel.run("lab.sync_url")
    with closing(psycopg.connect(url, autocommit=True)) as busy:
        busy.pgconn.send_query(
            b"do $$ declare n bigint := 0; begin loop n := n + 1; end loop; end $$"
        )
        pid = busy.info.backend_pid
        eventually(
            lambda: lab.admin(
                "select 1 from pg_stat_activity where pid = %s and state = 'active'", pid
            ),
            "the backend computes",
        )
        killed = lab.postmaster
        kill_9(killed)
        eventually(lambda: _postmaster(lab) not in (None, killed), "another server is up")
        assert gone(pid)
    assert query(kernel, "select 1") == [(1,)]


def test_a_kernel_that_asks_just_as_postgres_was_killed_is_served(lab: Lab) -> None:
    lab.kernel().facts()
    for _ in range(4):
        kernel = lab.kernel()
        kernel.run("1")
        server = eventually(lambda: _postmaster(lab), "a server")
        # The keeper finds both in its post at once: a server that ended, and a question.
        os.kill(lab.keeper, signal.SIGSTOP)
        try:
            kernel.send("lab.url")
            kill_9(server)
        finally:
            os.kill(lab.keeper, signal.SIGCONT)
        assert kernel.receive().startswith("postgresql+asyncpg://")
        assert query(kernel, "select 1") == [(1,)]


async def test_what_the_keeper_does_on_a_server_that_went_away_is_done_again(home: Path) -> None:
    keeper = Keeper(find_places(), "embedded", "embedded", linger=0)
    keeper._server = Server("embedded", "localhost", 1, "", "", "", "17.0", True, None)
    keeper._up.set()
    keeper._starting = asyncio.create_task(asyncio.sleep(PATIENCE))
    fails: list[Exception] = [
        ConnectionRefusedError(),
        asyncpg.CannotConnectNowError("starting up"),
    ]

    async def work(server: Server) -> str:
        if fails:
            raise fails.pop()
        return server.host

    assert await keeper._with_server(work) == "localhost"
    fails.append(asyncpg.UndefinedTableError("no such table"))
    with pytest.raises(asyncpg.UndefinedTableError):
        await keeper._with_server(work)
    keeper._starting.cancel()


@needs_linux
def test_kill_9_of_keeper_and_kernel_is_swept_by_the_next_start(lab: Lab) -> None:
    kernel = lab.kernel()
    orphan = kernel.facts()["database"]
    kernel.run("lab.tiny.url")
    assert lab.leftovers()
    kill_9(lab.keeper)
    kernel.kill()
    ends_with_no_server(lab)
    following = lab.kernel()
    facts = following.facts()
    assert facts["database"] != orphan
    assert lab.databases() == {facts["database"]}
    assert lab.roles() == {facts["owner"], facts["app"]}
    assert lab.leftovers() == []


@needs_linux
def test_what_cannot_be_swept_does_not_keep_the_lab_from_starting(lab: Lab) -> None:
    """A learner owns their database, and can do strange things to it."""
    kernel = lab.kernel()
    facts = kernel.facts()
    query(kernel, f"alter database {facts['database']} is_template true")
    lab.admin("create table pinned (id int)")
    lab.admin(f"alter table pinned owner to {facts['owner']}")
    kill_9(lab.keeper)
    kernel.kill()
    ends_with_no_server(lab)
    following = lab.kernel()
    assert query(following, "select 1") == [(1,)]
    assert facts["database"] not in lab.databases()


def test_kill_9_of_keeper_and_postgres_together_is_mended(lab: Lab) -> None:
    kernel = lab.kernel()
    before = kernel.facts()
    query(kernel, "create table kept as select 42 as answer")
    kill_9(lab.keeper, lab.postmaster)
    assert kernel.facts() == before
    assert query(kernel, "select answer from kept") == [(42,)]


@needs_linux
def test_a_keeper_killed_during_the_first_initdb_leaves_nothing_in_the_way(lab: Lab) -> None:
    kernel = lab.kernel()
    kernel.send("lab.url")
    made = eventually(lambda: list(lab.home.glob("postgres-*/.new-*/data")), "initdb has begun")
    kill_9(lab.keeper)
    # The kernel was waiting for it, and simply gets another.
    assert kernel.receive().startswith("postgresql+asyncpg://")
    assert query(kernel, "select 1") == [(1,)]
    assert not made[0].exists()
    assert list(lab.base.glob(".new-*")) == []
    assert len(lab.keepers) == 1


def test_a_keeper_told_to_stop_during_the_first_initdb_stops_that_too(lab: Lab) -> None:
    kernel = lab.kernel()
    kernel.send("lab.url")
    eventually(lambda: list(lab.home.glob("postgres-*/.new-*/data")), "initdb has begun")
    keeper = lab.keeper
    kernel.kill()
    os.kill(keeper, signal.SIGTERM)
    ends_with_nothing_left(lab)
    assert list(lab.home.glob("postgres-*/.new-*")) == []


# -- what others may say to the keeper --------------------------------------------------------


def test_nonsense_on_the_keepers_socket_harms_nobody(lab: Lab) -> None:
    kernel = lab.kernel()
    kernel.facts()
    keeper = lab.keeper
    for nonsense in (
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"op": "nothing"}\n',
        b'{"op": "join"}\n',
        b'{"op": "use", "service": "tiny"}\n',
        b'{"op": 5}\n',
        b"x" * 3_000_000,
    ):
        ask_keeper(lab, nonsense)
    assert lab.keeper == keeper
    assert query(kernel, "select 1") == [(1,)]


def ask_keeper(lab: Lab, words: bytes) -> bytes:
    """Say something to the keeper and hear all that it says until it hangs up."""
    heard = b""
    with socket.socket(socket.AF_UNIX) as line, suppress(OSError):
        line.settimeout(PATIENCE)
        line.connect(str(run_folder(lab.home) / "keeper-embedded.sock"))
        line.sendall(words)
        while b'"id"' not in heard and (more := line.recv(65536)):
            heard += more
    return heard


# -- Jupyter's own kernels --------------------------------------------------------------------


@contextmanager
def jupyter_kernel(lab: Lab) -> Iterator[tuple[KernelManager, Any]]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=lab.env, cwd="/")
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=False)
        manager.cleanup_resources()


def in_jupyter(client: Any, source: str) -> str:
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])
        elif message["msg_type"] == "error":
            said.extend(message["content"]["traceback"])

    reply = client.execute_interactive(source, timeout=60, output_hook=hear, store_history=False)
    assert reply["content"]["status"] == "ok", said
    return "".join(said).strip()


def test_a_jupyter_kernel_that_is_killed_and_restarted_has_a_new_database_alone(lab: Lab) -> None:
    with jupyter_kernel(lab) as (manager, client):
        ask = "from engineroom import lab; print(lab.postgres.database)"
        first = in_jupyter(client, ask)
        assert in_jupyter(client, "print(lab.postgres.database)") == first
        assert lab.databases() == {first}
        manager.signal_kernel(signal.SIGKILL)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        second = in_jupyter(client, ask)
        assert second != first
        eventually(lambda: lab.databases() == {second}, "the killed kernel's database went")
        in_jupyter(client, "import asyncpg; c = await asyncpg.connect(lab.sync_url)")
        manager.restart_kernel()
        client.wait_for_ready(timeout=60)
        third = in_jupyter(client, ask)
        eventually(lambda: lab.databases() == {third}, "the restarted kernel's database went")
    ends_with_nothing_left(lab)


def test_interrupting_a_jupyter_kernel_does_not_end_the_servers(lab: Lab) -> None:
    with jupyter_kernel(lab) as (manager, client):
        database = in_jupyter(client, "from engineroom import lab; print(lab.postgres.database)")
        server, keeper = lab.postmaster, lab.keeper
        # Or what is asked right after its error would not be run, now and then.
        client.execute("import time; print('begun'); time.sleep(60)", stop_on_error=False)
        while client.get_iopub_msg(timeout=PATIENCE)["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=PATIENCE)["content"]["status"] == "error"
        assert in_jupyter(client, "print(lab.postgres.database)") == database
        assert (lab.postmaster, lab.keeper) == (server, keeper)


def _postmaster(lab: Lab) -> int | None:
    """The server's pid once it is ready."""
    try:
        lines = (lab.base / "data/postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    ready = len(lines) > 7 and "ready" in lines[7]
    return int(lines[0]) if ready and not gone(int(lines[0])) else None


def _answer(kernel: Kernel, source: str) -> Any:
    """The value, or nothing while the server comes back."""
    try:
        return kernel.run(source)
    except KernelError:
        return None
