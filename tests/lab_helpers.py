"""Kernels, commands and looks behind the scenes for the lab's tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import psycopg
import pytest
from psycopg.rows import TupleRow

from engineroom.lab import places

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
IS_ROOT = os.geteuid() == 0
# Long: it decides nothing but how late a failure is told, and CI may be a slow machine.
PATIENCE = 120.0

needs_root = pytest.mark.skipif(
    not IS_ROOT, reason="needs root, to play several accounts: run the tests in a container"
)
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux, which ends children with their parent"
)

# asyncpg forgets the socket of a TLS login that was refused: it is closed when the server has
# answered, and a test's loop may end before. Collected at the end of each test, where
# the warning is let pass, and not in some other.
SOCKETS_FORGOTTEN = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("forgotten_sockets"),
]


def forgets_sockets(test: Callable[..., Any]) -> Callable[..., Any]:
    for mark in SOCKETS_FORGOTTEN:
        mark(test)
    return test


# A kernel without Jupyter around it: it runs what it is sent, one line each way.
_KERNEL = """
import json, sys
from engineroom import lab
names = {"lab": lab}
for line in sys.stdin:
    source = json.loads(line)
    try:
        try:
            answer = {"value": eval(source, names)}
        except SyntaxError:
            exec(source, names)
            answer = {"value": None}
    except BaseException as error:
        answer = {"error": type(error).__name__, "words": str(error)}
    print(json.dumps(answer), flush=True)
"""


def eventually(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Look until something true is seen; fail with ``what`` when it never is."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:.0f} seconds: {what}")
        time.sleep(0.02)
    return seen


# -- homes ---------------------------------------------------------------------------------


def _scratch() -> str:
    """Where homes are: in memory, if there is room. A lab makes thousands of small files.

    With no more room than this a grading has none either, and takes the server of its home.
    """
    memory = "/dev/shm"
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= 4 << 30
    return memory if roomy else "/tmp"


SCRATCH = _scratch()


def make_home(name: str = "") -> Path:
    """A short, empty folder: a socket's path has little room, and pytest's own is closed
    to the account that root's servers run under."""
    folder = Path(tempfile.mkdtemp(prefix="er-", dir=SCRATCH))
    folder.chmod(0o711 if IS_ROOT else 0o700)
    home = folder / (name or "home")
    home.mkdir()
    return home


def forget_home(home: Path) -> None:
    shutil.rmtree(run_folder(home), ignore_errors=True)
    shutil.rmtree(home.parent, ignore_errors=True)


def run_folder(home: Path) -> Path:
    """The lab's folder for sockets, whether it exists or not."""
    return places.run_folder(home)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that works for a home: named in its command, environment or folder."""
    mark = re.escape(str(home)) + r"(/|$|\s|\0)"
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and _mentions(p, mark)]


def _mentions(process: psutil.Process, mark: str) -> bool:
    words: list[str] = []
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        words += process.cmdline()
        words.append(process.cwd())
        words += process.environ().values()
    return any(re.search(mark, word) for word in words)


def stop_all_of(home: Path) -> list[str]:
    """Wait for what is ending, end what is not, and describe that."""
    deadline = time.monotonic() + float(os.environ.get("LEAK_PATIENCE", "60"))
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    described = []
    for process in left:
        with suppress(psutil.Error):
            described.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return described


# -- kernels -------------------------------------------------------------------------------


class KernelError(Exception):
    """What went wrong inside a kernel: ``kind`` is the exception's name there."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind
        self.words = words


class Kernel:
    """A process that uses the lab as a notebook does."""

    def __init__(self, python: list[str], env: Mapping[str, str], cwd: Path | None) -> None:
        self._process = subprocess.Popen(
            [*python, "-c", _KERNEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(env),
            cwd=cwd or "/",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, source: str) -> None:
        """Have something run without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(source) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise KernelError("Ended", f"the kernel ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise KernelError(answer["error"], answer["words"])
        return answer["value"]

    def run(self, source: str) -> Any:
        """The value of an expression in the kernel, or None after statements."""
        self.send(source)
        return self.receive()

    def trouble(self, source: str) -> str:
        """The sentence of the trouble that ``source`` must meet."""
        with pytest.raises(KernelError) as met:
            self.run(source)
        assert met.value.kind == "EngineRoomError", met.value
        return met.value.words

    def facts(self) -> dict[str, Any]:
        """What the lab gave: everything that stands in an endpoint."""
        found: dict[str, Any] = self.run("lab.postgres and lab.face._lease.joined")
        return found["endpoint"]["extra"] | found["tenant"]

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> int:
        """End as a program ends that has read all its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.stdout.close()


# -- labs ----------------------------------------------------------------------------------


class Lab:
    """One home: start kernels and commands on it, and look behind the scenes."""

    def __init__(self, home: Path, env: Mapping[str, str]) -> None:
        self.home = home
        self.env = dict(env)
        self.python = [sys.executable]
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def kernel(
        self, *, cwd: Path | None = None, prefix: list[str] | None = None, **env: str
    ) -> Kernel:
        """A new kernel, ended with the lab at the latest."""
        kernel = Kernel([*(prefix or []), *self.python], self.env | env, cwd)
        self._open.callback(kernel.close)
        return kernel

    def cli(
        self,
        *words: str,
        check: bool = False,
        timeout: float = 60,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``engineroom`` as a person would."""
        done = subprocess.run(
            [*self.python, "-m", "engineroom.cli", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=self.env | env,
            cwd="/",
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("db", "status", "--json", check=True).stdout)
        return found

    # -- behind the scenes ------------------------------------------------------------------

    @property
    def base(self) -> Path:
        """The folder of the main cluster."""
        (found,) = (f for f in self.home.glob("postgres-*") if f.name[9:].isdigit())
        return found

    @property
    def port(self) -> int:
        return int((self.base / "port").read_text())

    @property
    def postmaster(self) -> int:
        return int((self.base / "data/postmaster.pid").read_text().split()[0])

    @property
    def keeper(self) -> int:
        return int((run_folder(self.home) / "keeper-embedded.lock").read_text())

    @property
    def keepers(self) -> list[int]:
        """Every keeper of this home that runs."""
        found = []
        for process in processes_of(self.home):
            with suppress(psutil.Error):
                if "engineroom.lab.keeper" in process.cmdline():
                    found.append(process.pid)
        return found

    @property
    def postmasters(self) -> list[int]:
        """Every server process of this home that is no other server process's child."""
        found = {}
        for process in processes_of(self.home):
            with suppress(psutil.Error):
                if process.name() == "postgres":
                    found[process.pid] = process.ppid()
        return [pid for pid, parent in found.items() if parent not in found]

    def administrator(
        self, database: str = "postgres", *, autocommit: bool = True
    ) -> psycopg.Connection[TupleRow]:
        return psycopg.connect(
            host="localhost",
            port=self.port,
            user="postgres",
            password=(self.base / "admin-password").read_text(),
            dbname=database,
            autocommit=autocommit,
            connect_timeout=int(PATIENCE),
        )

    def admin(self, statement: str, *values: Any, database: str = "postgres") -> list[TupleRow]:
        """Ask the server as its administrator."""
        with self.administrator(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def databases(self) -> set[str]:
        """The databases of kernels: neither the witness's nor the terminal's."""
        rows = self.admin("select datname from pg_database where datname like 'er\\_%'")
        return {row[0] for row in rows if not row[0].endswith(("_witness", "_scratch"))}

    def roles(self) -> set[str]:
        rows = self.admin("select rolname from pg_roles where rolname like 'er\\_%'")
        return {row[0] for row in rows if not re.search(r"_witness$|_scratch_", row[0])}

    def leftovers(self) -> list[str]:
        """Files of side servers and their sockets, when no keeper runs."""
        side = [str(p) for p in (self.home / "side").rglob("*") if p.is_file()]
        return side + [str(p) for p in run_folder(self.home).glob("tiny-*")]


def query(kernel_or_url: Kernel | str, statement: str, **how: Any) -> list[TupleRow]:
    """Ask as the owner of a kernel's database."""
    url = kernel_or_url if isinstance(kernel_or_url, str) else kernel_or_url.run("lab.sync_url")
    with psycopg.connect(url, autocommit=True, connect_timeout=int(PATIENCE), **how) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_9(*pids: int) -> None:
    """Kill, and return when that has happened."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(map(gone, pids)), "the killed processes have ended")


def pip_download(requirements: Path, folder: Path) -> None:
    """Fetch what a test reads in and nobody installs, held to its hashes."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet"),
            *("--no-deps", "--require-hashes", "--only-binary=:all:"),
            *("--dest", str(folder), "--requirement", str(requirements)),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word of pip's"])[-1]
        pytest.skip(f"What {requirements} names cannot be downloaded: {why}. Next: a network")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own under ``folder``, as small as a test needs it."""
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounting.returncode != 0:
        pytest.skip(f"mounting a small disk needs more rights: {mounting.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
