"""``engineroom db``, as a person at a terminal and as a script meet it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from lab_helpers import PATIENCE, Lab, eventually, gone, query, run_folder

STATUS_FIELDS = ["provider", "version", "url", "tls", "running", "started_in_seconds"]
ESCAPE = "\x1b["


@pytest.fixture
def up_lab(used_lab: Lab) -> Lab:
    """A lab that runs until `db down`."""
    used_lab.cli("db", "up", check=True)
    return used_lab


@pytest.fixture(autouse=True)
def _down_afterwards(lab: Lab) -> object:
    yield
    lab.cli("db", "down", check=True)


def scratch(lab: Lab) -> str:
    return lab.cli("db", "url", check=True).stdout.strip()


def last_folder_of(lab: Lab) -> list[Path]:
    return sorted(lab.home.glob("postgres-*.old-*"))


# -- up, down, status -----------------------------------------------------------------------


def test_up_says_what_runs_and_status_agrees(lab: Lab) -> None:
    said = lab.cli("db", "up", check=True)
    status = lab.status()
    assert list(status) == STATUS_FIELDS
    assert status["provider"] == "embedded"
    assert status["running"] is True
    assert status["tls"] is True
    assert status["started_in_seconds"] > 0
    assert re.fullmatch(r"\d+\.\d+", status["version"])
    assert status["version"] in said.stdout
    assert status["url"] in said.stdout


def test_up_twice_is_no_trouble(up_lab: Lab) -> None:
    before = up_lab.postmaster
    up_lab.cli("db", "up", check=True)
    assert up_lab.postmaster == before


def test_status_masks_the_password(up_lab: Lab) -> None:
    password = urlsplit(scratch(up_lab)).password
    assert password
    for words in (("--json",), ()):
        said = up_lab.cli("db", "status", *words, check=True)
        assert password not in said.stdout + said.stderr
        assert ":***@localhost:" in said.stdout
    assert urlsplit(up_lab.status()["url"]).path == urlsplit(scratch(up_lab)).path


def test_status_with_json_prints_json_and_nothing_else(up_lab: Lab) -> None:
    said = up_lab.cli("db", "status", "--json", check=True)
    assert said.stderr == ""
    assert len(said.stdout.splitlines()) == 1
    assert list(json.loads(said.stdout)) == STATUS_FIELDS


def test_status_when_nothing_runs_says_so_and_starts_nothing(lab: Lab) -> None:
    status = lab.status()
    assert list(status) == STATUS_FIELDS
    assert status == dict.fromkeys(STATUS_FIELDS) | {"provider": "embedded", "running": False}
    assert "running  no" in lab.cli("db", "status", check=True).stdout
    assert not lab.keepers


def test_down_when_it_returns_nothing_runs(up_lab: Lab) -> None:
    server, keeper = up_lab.postmaster, up_lab.keeper
    assert "is down" in up_lab.cli("db", "down", check=True).stdout
    assert gone(server)
    assert gone(keeper)
    assert "was not running" in up_lab.cli("db", "down", check=True).stdout


def test_down_and_up_in_one_breath_keep_the_data_and_the_url(up_lab: Lab) -> None:
    before = scratch(up_lab)
    query(before, "create table kept as select 42 as answer")
    for _ in range(3):
        up_lab.cli("db", "down", check=True)
        up_lab.cli("db", "up", check=True)
    assert scratch(up_lab) == before
    assert query(before, "select answer from kept") == [(42,)]


# -- url ------------------------------------------------------------------------------------


def test_the_url_works_after_its_command_has_ended(used_lab: Lab) -> None:
    said = used_lab.cli("db", "url", check=True)
    assert len(said.stdout.splitlines()) == 1
    assert "engineroom db down" in said.stderr
    # Longer than the lab lingers for somebody who has left.
    used_lab.env["ENGINEROOM_LINGER"] = "0"
    used_lab.cli("db", "status", check=True)
    assert query(said.stdout.strip(), "select 1") == [(1,)]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_the_url_is_spelt_for_the_driver_named(up_lab: Lab, driver: str) -> None:
    plain = scratch(up_lab)
    assert plain.startswith("postgresql://")
    named = up_lab.cli("db", "url", "--driver", driver, check=True).stdout.strip()
    assert named == plain.replace("postgresql:", f"postgresql+{driver}:", 1)


# -- psql -----------------------------------------------------------------------------------


def test_psql_runs_on_the_scratch_database_over_verified_tls(up_lab: Lab) -> None:
    asked = "select current_database(), ssl from pg_stat_ssl where pid = pg_backend_pid()"
    said = up_lab.cli("db", "psql", "-At", "-c", asked, check=True)
    assert said.stdout == f"{urlsplit(scratch(up_lab)).path[1:]}|t\n"


@pytest.mark.parametrize(
    ("words", "code"), [(("-c", "select 1"), 0), (("-c", "nonsense"), 1), (("--nonsense",), 1)]
)
def test_psqls_exit_code_is_passed_on(up_lab: Lab, words: tuple[str, ...], code: int) -> None:
    assert up_lab.cli("db", "psql", *words).returncode == code


def test_psql_starts_and_stops_what_it_needs(used_lab: Lab) -> None:
    assert used_lab.cli("db", "psql", "-Atc", "select 42", check=True).stdout == "42\n"
    eventually(lambda: not used_lab.postmasters, "Postgres stopped after its only user")


def test_psql_shows_no_password_to_the_other_users_of_the_machine(up_lab: Lab) -> None:
    password = urlsplit(scratch(up_lab)).password
    assert password
    psql = subprocess.Popen(
        [*up_lab.python, "-m", "engineroom.cli", "db", "psql", "-c", "select pg_sleep(60)"],
        env=up_lab.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(
            lambda: up_lab.admin("select 1 from pg_stat_activity where application_name = 'psql'"),
            "psql is connected",
        )
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                assert password not in " ".join(process.cmdline())
        up_lab.admin(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'psql'"
        )
        assert psql.wait(PATIENCE) != 0
    finally:
        psql.kill()
        psql.wait()


# -- reset ----------------------------------------------------------------------------------


def test_reset_empties_the_scratch_database_under_the_same_url(up_lab: Lab) -> None:
    url = scratch(up_lab)
    query(url, "create table away (id int)")
    up_lab.cli("db", "reset", "--yes", check=True)
    assert scratch(up_lab) == url
    assert query(url, "select count(*) from pg_tables where tablename = 'away'") == [(0,)]
    query(url, "create table anew (id int)")


def test_reset_leaves_notebooks_alone(up_lab: Lab) -> None:
    kernel = up_lab.kernel()
    query(kernel, "create table kept as select 42 as answer")
    up_lab.cli("db", "reset", "--yes", check=True)
    assert query(kernel, "select answer from kept") == [(42,)]
    refused = up_lab.cli("db", "reset", "--all", "--yes")
    assert refused.returncode == 1
    assert "still use" in refused.stderr
    assert query(kernel, "select answer from kept") == [(42,)]
    kernel.close()


def test_reset_does_nothing_unasked(up_lab: Lab) -> None:
    query(scratch(up_lab), "create table kept as select 42 as answer")
    for words in ((), ("--all",)):
        refused = up_lab.cli("db", "reset", *words)
        assert refused.returncode == 1
        assert "--yes" in refused.stderr
    assert query(scratch(up_lab), "select answer from kept") == [(42,)]
    assert last_folder_of(up_lab) == []


def test_reset_all_begins_anew_and_keeps_the_old_cluster(up_lab: Lab) -> None:
    query(scratch(up_lab), "create table old (id int)")
    for number in (1, 2):
        said = up_lab.cli("db", "reset", "--all", "--yes", check=True)
        assert len(last_folder_of(up_lab)) == number
        assert str(last_folder_of(up_lab)[-1]) in said.stdout
        assert (last_folder_of(up_lab)[-1] / "data/PG_VERSION").exists()
        url = scratch(up_lab)
        assert query(url, "select count(*) from pg_tables where tablename = 'old'") == [(0,)]


def test_reset_all_without_a_cluster_says_so(lab: Lab) -> None:
    assert "no cluster" in lab.cli("db", "reset", "--all", "--yes", check=True).stdout


# -- the terminal ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("db",), ("db", "psql"), ("doctor",), ("lab",)])
def test_help_lists_what_there_is(lab: Lab, words: tuple[str, ...]) -> None:
    said = lab.cli(*words, "--help", check=True)
    expected = {
        (): ["lab", "doctor", "db"],
        ("db",): ["up", "down", "status", "url", "psql", "reset"],
    }
    for name in expected.get(words, ["Usage"]):
        assert re.search(rf"\b{name}\b", said.stdout)
    assert not run_folder(lab.home).exists()


@pytest.mark.parametrize("words", [("nothing",), ("db", "nothing"), ("db", "url", "--driver", "x")])
def test_bad_usage_is_exit_code_two(lab: Lab, words: tuple[str, ...]) -> None:
    said = lab.cli(*words)
    assert said.returncode == 2
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("words", [("db", "status"), ("db", "status", "--json"), ("--help",)])
def test_a_reader_that_leaves_early_is_no_trouble(lab: Lab, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*lab.python, "-m", "engineroom.cli", *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.env,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


def test_output_that_is_no_terminal_has_no_escape_codes(up_lab: Lab) -> None:
    for words in (("db", "status"), ("db", "up"), ("doctor",), ("--help",)):
        said = up_lab.cli(*words)
        assert ESCAPE not in said.stdout + said.stderr, words


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colour_gets_none(up_lab: Lab, quiet: dict[str, str]) -> None:
    env = {"TERM": "xterm-256color"} | quiet
    colours = r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7])m"
    assert re.search(colours, on_a_terminal(up_lab, "doctor", TERM="xterm-256color"))
    assert not re.search(colours, on_a_terminal(up_lab, "doctor", **env))


def on_a_terminal(lab: Lab, *words: str, **env: str) -> str:
    """What a command shows to a person."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*lab.python, "-m", "engineroom.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=lab.env | env,
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 65536):
            shown += more
    except OSError:  # so a terminal says that everybody has left
        pass
    finally:
        os.close(ours)
        assert process.wait(PATIENCE) is not None
    return shown.decode()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_is_no_trouble(up_lab: Lab, encoding: str) -> None:
    # Without PATH something optional is missing, and its arrow is no letter of theirs.
    for words in (("db", "status"), ("doctor",), ("--help",), ("db", "up")):
        done = subprocess.run(
            [*up_lab.python, "-m", "engineroom.cli", *words],
            capture_output=True,
            env=up_lab.env | {"PYTHONIOENCODING": encoding, "PATH": "/nonexistent"},
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0


def test_a_bad_home_is_one_sentence_for_every_command(lab: Lab) -> None:
    for words in (("db", "up"), ("db", "status"), ("db", "down"), ("db", "url"), ("db", "psql")):
        said = lab.cli(*words, ENGINEROOM_HOME="/proc/nothing")
        assert said.returncode == 1, words
        assert said.stderr.count("Trouble: ") == 1
        assert "cannot write to /proc/nothing" in said.stderr
        assert "Traceback" not in said.stderr


def test_the_version_is_told(lab: Lab) -> None:
    assert re.fullmatch(r"engineroom \d+\.\d+\.\d+\n", lab.cli("--version", check=True).stdout)
