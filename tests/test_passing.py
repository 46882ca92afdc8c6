"""Where a grading's Postgres is: in memory if there is room, and gone with its last user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from grade_helpers import make_class, marks, words
from lab_helpers import (
    IS_ROOT,
    Lab,
    eventually,
    forget_home,
    kill_9,
    needs_linux,
    needs_root,
    stop_all_of,
)

from engineroom.lab import passing as module
from engineroom.lab.choice import Choice

MEMORY = Path("/dev/shm")
pytestmark = needs_linux
needs_memory = pytest.mark.skipif(
    not module._roomy(Path("/")),
    reason="needs 4 GB free in /dev/shm that outlast a logout: "
    "mount -o remount,size=8G /dev/shm; loginctl enable-linger",
)


@pytest.fixture
def lab_on_disk() -> Iterator[Lab]:
    """A lab as people have it; those of the other tests are in memory as they are."""
    folder = Path(tempfile.mkdtemp(prefix="er-", dir="/var/tmp"))
    folder.chmod(0o711 if IS_ROOT else 0o700)
    home = folder / "home"
    home.mkdir()
    own = {"ENGINEROOM_HOME": str(home), "ENGINEROOM_POSTGRES": "embedded"}
    with Lab(home, os.environ | own | {"ENGINEROOM_LINGER": "0.3"}) as made:
        yield made
    left = stop_all_of(home)
    if MEMORY.is_dir():
        shutil.rmtree(_passing(made), ignore_errors=True)
    forget_home(home)
    assert not left, "still running after the test:\n" + "\n".join(left)


def _passing(lab: Lab) -> Path:
    """Where a grading with this lab has its cluster."""
    asked = (
        "import sys; from engineroom.lab import passing, places; from pathlib import Path;"
        "passing._roomy = lambda home: True; from engineroom.lab.choice import choose;"
        "print(passing.passing(choose()).passing)"
    )
    told = subprocess.run(
        [sys.executable, "-c", asked], env=lab.env, capture_output=True, text=True, check=True
    )
    folder = Path(told.stdout.strip())
    assert folder.parent == MEMORY, "a grading would have its cluster elsewhere"
    return folder


def _started(lab: Lab, folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "engineroom.cli", *words(folder, out, lesson="urls")]
    return subprocess.Popen(command, env=lab.env, cwd="/", stderr=subprocess.DEVNULL)


def _clusters(lab: Lab) -> list[str]:
    return [folder.name for folder in lab.home.glob("postgres-*")]


def _servers(folder: Path) -> list[psutil.Process]:
    """The running servers whose data are somewhere under ``folder``."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        told = process.info["cmdline"] or []
        if "-D" in told and told[told.index("-D") + 1].startswith(f"{folder}/"):
            found.append(process)
    return found


@needs_memory
def test_a_grading_has_its_postgres_in_memory_and_leaves_nothing_there(
    lab_on_disk: Lab, tmp_path: Path
) -> None:
    folder = make_class(tmp_path / "class", 3, "urls", answered=2)
    grading = _started(lab_on_disk, folder, tmp_path / "out")
    memory = _passing(lab_on_disk)
    eventually(lambda: _servers(memory), "Postgres runs on data in memory")
    assert memory.stat().st_mode & 0o077 in (0, 0o011), "others can look into it"
    assert grading.wait(240) == 0
    eventually(lambda: not memory.exists() and not _servers(memory), "nothing is left of it")
    assert _clusters(lab_on_disk) == []
    assert len(marks(tmp_path / "out").splitlines()) == 4


@needs_memory
def test_what_a_killed_keeper_left_in_memory_goes_with_the_next_grading(
    lab_on_disk: Lab, tmp_path: Path
) -> None:
    folder = make_class(tmp_path / "class", 3, "urls", answered=2)
    grading = _started(lab_on_disk, folder, tmp_path / "out")
    memory = _passing(lab_on_disk)
    (server,) = eventually(lambda: _servers(memory), "Postgres runs on data in memory")
    keeper = server.ppid()
    kill_9(grading.pid, keeper)
    grading.wait()
    eventually(lambda: not _servers(memory), "the server ended with its keeper")
    assert memory.exists()
    lab_on_disk.cli(*words(folder, tmp_path / "again", lesson="urls"), check=True, timeout=240)
    eventually(lambda: not memory.exists(), "nothing is left of either")
    assert len(marks(tmp_path / "again").splitlines()) == 4


@needs_memory
def test_a_lab_that_is_up_is_left_alone(lab_on_disk: Lab, tmp_path: Path) -> None:
    lab_on_disk.cli("db", "up", check=True)
    before = lab_on_disk.status()
    folder = make_class(tmp_path / "class", 2, "urls", answered=1)
    out = tmp_path / "out"
    lab_on_disk.cli(*words(folder, out, lesson="urls"), check=True, timeout=240)
    assert lab_on_disk.status() == before
    lab_on_disk.cli("db", "down", check=True)
    assert len(_clusters(lab_on_disk)) == 1


@needs_root
def test_with_little_memory_the_disk_serves_and_the_marks_are_the_same(
    lab_on_disk: Lab, tmp_path: Path
) -> None:
    folder = make_class(tmp_path / "class", 3, "urls", answered=2)
    command = [sys.executable, "-m", "engineroom.cli"]
    small = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", small, "sh"]
    for name, before in (("plain", []), ("small", shell)):
        asked = words(folder, tmp_path / name, lesson="urls")
        subprocess.run([*before, *command, *asked], env=lab_on_disk.env, cwd="/", check=True)
        assert len(_clusters(lab_on_disk)) == (name == "small" or not module._roomy(Path("/")))
    assert marks(tmp_path / "plain") == marks(tmp_path / "small")


def test_what_a_group_of_processes_may_still_take_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module._available() > 0
    own = Path("/proc/self/cgroup").read_text()
    if "0::" not in own:
        pytest.skip("needs a kernel with version 2 of control groups")
    group = tmp_path / own.split("0::")[1].split()[0].lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(module, "_GROUPS", tmp_path)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    free = module._available()
    (group / "memory.max").write_text("51000\n")
    assert module._available() == 50_000 < free


def test_where_a_logout_may_remove_the_files_the_disk_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seats, lingering, programs = tmp_path / "seats", tmp_path / "linger", tmp_path / "bin"
    monkeypatch.setattr(module, "_SEATS", seats)
    monkeypatch.setattr(module, "_LINGERING", lingering)
    monkeypatch.setattr(module, "_FIRST_PERSON", os.geteuid())
    monkeypatch.setenv("PATH", str(programs))
    assert module._outlasts_a_logout(), "there is no systemd"
    seats.mkdir()
    assert not module._outlasts_a_logout(), "there is, and nobody tells what it does"
    programs.mkdir()
    busctl = programs / "busctl"
    busctl.write_text("#!/bin/sh\necho b $ANSWER\n")
    busctl.chmod(0o755)
    for answer, outlasts in (("true", False), ("false", True)):
        monkeypatch.setenv("ANSWER", answer)
        assert module._outlasts_a_logout() == outlasts
    monkeypatch.setenv("ANSWER", "true")
    lingering.mkdir()
    (lingering / pwd.getpwuid(os.geteuid()).pw_name).touch()
    assert module._outlasts_a_logout(), "somebody who lingers is never logged out"
    monkeypatch.setattr(module, "_FIRST_PERSON", os.geteuid() + 1)
    (lingering / pwd.getpwuid(os.geteuid()).pw_name).unlink()
    assert module._outlasts_a_logout(), "an account of the system's does not log out"


def test_a_server_that_is_not_ours_to_place_stays_where_it_is() -> None:
    for provider in ("external", "compose", "container"):
        choice = Choice(provider, "for a test", forced=True)
        assert module.passing(choice) is choice


def test_the_keepers_of_both_are_told_apart() -> None:
    usual = Choice("embedded", "for a test", forced=True)
    assert usual.key != Choice("embedded", "for a test", forced=True, passing="/x").key


@needs_memory
def test_a_folder_of_somebody_elses_is_not_used(lab_on_disk: Lab, tmp_path: Path) -> None:
    memory = _passing(lab_on_disk)
    memory.rmdir()
    memory.symlink_to(tmp_path)
    try:
        folder = make_class(tmp_path / "class", 1, "urls", answered=1)
        out = tmp_path / "out"
        lab_on_disk.cli(*words(folder, out, lesson="urls"), check=True, timeout=240)
        assert len(_clusters(lab_on_disk)) == 1
        assert not list(tmp_path.glob("postgres-*"))
    finally:
        memory.unlink()
