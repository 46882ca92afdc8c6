"""Makes ``.venv`` with exactly what ``requirements.lock`` pins, and the project itself in it.

Run by ``tools/install.sh`` with a Python 3.11 or newer; needs nothing but the standard library.

``.venv/engineroom.json`` says what was installed, where, and whether that came to its end. It is
marked unfinished before anything is touched, so an install that was killed is seen by the next
one, which starts from nothing: half a package looks installed to every installer.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
UV = VENV / "bin/uv"
STAMP = VENV / "engineroom.json"
LOCK = ROOT / "requirements.lock"

TEDIOUS = re.compile(
    r"\s*([+~-] \S+==|Attempting uninstall|Audited |Building wheel |Checked |Checking if |"
    r"Collecting |Created wheel |Downloaded |Downloading \S+\.metadata|Found existing |"
    r"Getting requirements |Ignoring |Installing |Looking in |Obtaining |Preparing |Processing |"
    r"Requirement already |Resolved 1 package|Stored in |Successfully |Uninstall|Using cached |"
    r"WARNING: Location |\S*[━╸]|$)"
)
"""Lines of an installer that nobody reads: mostly one a package."""

PASSING = ("Building ", "Built ", "Downloading ", "Resolved ", "Prepared ")
"""Signs of life: in a terminal each takes the place of the one before."""


class TroubleError(Exception):
    """What went wrong, and what to do about it."""


def main(arguments: list[str]) -> int:
    asked = "--asked" in arguments
    if "--fresh" in arguments:
        return 0 if is_fresh(read_stamp()) else 1
    try:
        with one_at_a_time() as lock:
            stamp = read_stamp()
            if is_fresh(stamp) and not (asked and stamp.get("python") != this_python()):
                return 0
            install(stamp, asked, lock)
    except TroubleError as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"The install stopped: {error.strerror}{where}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next make goes on from here.", file=sys.stderr)
        return 130
    return 0


def install(stamp: dict[str, object], asked: bool, lock: int | None) -> None:
    began = time.monotonic()
    why = why_anew(stamp, asked)
    if why is not None:
        say(f"Making .venv with Python {sys.version.split()[0]}{why}")
        remove_venv()
        VENV.mkdir()
        write_stamp({"complete": False})
        run([base_python(), "-I", "-m", "venv", "--prompt", "engine-room", str(VENV)], lock)
        install_packages(lock)
    else:
        say("Bringing .venv up to date")
        write_stamp({"complete": False})
        try:
            install_packages(lock)
        except TroubleError:
            # Installers fetch before they touch anything: what was there still works.
            write_stamp(stamp)
            raise
    write_stamp(
        {"complete": True, "content": content(), "root": str(ROOT), "python": venv_python()}
    )
    say(f"Installed in {time.monotonic() - began:.0f} s")


def install_packages(lock: int | None) -> None:
    if not (VENV / "bin/pip").exists():
        # A venv that uv made has none.
        run([str(PYTHON), "-I", "-m", "ensurepip"], lock, must=False)
    if not (uv_is_pinned(lock) and with_uv(lock)):
        say("uv could not do it (its words are above). Trying pip, which takes a minute longer.")
        with_pip(lock)


# What is there


def content() -> str:
    """What an install depends on. By content: a fresh checkout has new times, not new words."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml", "tools/install.py"):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def this_python() -> list[object]:
    """The Python that runs this; the same for a ``.venv`` and the Python it was made from."""
    return [list(sys.version_info[:3]), os.path.realpath(sys.base_prefix)]


def base_python() -> str:
    """A Python outside ``.venv``: what runs this may be inside, in a shell where it is active."""
    return getattr(sys, "_base_executable", None) or sys.executable


def read_stamp() -> dict[str, object]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict[str, object]) -> None:
    half = STAMP.with_suffix(".half")
    half.write_text(json.dumps(stamp) + "\n")
    half.replace(STAMP)


def is_fresh(stamp: dict[str, object]) -> bool:
    return (
        stamp.get("complete") is True
        and stamp.get("content") == content()
        and stamp.get("root") == str(ROOT)
        and venv_python() is not None
    )


def why_anew(stamp: dict[str, object], asked: bool) -> str | None:
    """Why ``.venv`` must be made from nothing, as the end of a sentence; None if it can stay."""
    if not os.path.lexists(VENV):
        return ""
    if VENV.is_symlink() or not VENV.is_dir():
        return " (what is there is no folder of its own)"
    if stamp.get("complete") is False:
        return " (the last install did not come to its end)"
    if stamp and stamp.get("root") != str(ROOT):
        return f" (the one there was made for {stamp.get('root')})"
    found = venv_python()
    if found is None:
        return " (the Python it was made with is gone, or too old)"
    if asked and found != this_python():
        return " (another Python was asked for)"
    return None


def venv_python() -> list[object] | None:
    """What ``.venv/bin/python`` is, if it runs, is a venv's own, and is new enough."""
    if Path(sys.prefix).resolve() == VENV:
        return this_python()
    question = (
        "import json, os, sys; print(json.dumps([sys.prefix, "
        "list(sys.version_info[:3]), os.path.realpath(sys.base_prefix)]))"
    )
    try:
        answer = subprocess.run(
            [PYTHON, "-I", "-c", question], capture_output=True, text=True, timeout=60, check=True
        )
        prefix, version, base = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return [version, base] if Path(prefix).resolve() == VENV and version >= [3, 11] else None


def remove_venv() -> None:
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.is_dir():
        # The stamp last: killed here, the next make must still see something unfinished.
        for entry in sorted(VENV.iterdir(), key=lambda path: path == STAMP):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        VENV.rmdir()


# Installing


def uv_is_pinned(lock: int | None) -> bool:
    """Have pip bring uv, held to the hashes in the lock like everything else."""
    pins = LOCK.read_text()
    block = re.search(
        r"^uv==\S+(?: ;[^\\\n]*)? \\\n(?:    --hash=\S+(?: \\)?\n)+", pins, re.MULTILINE
    )
    if block is None:
        raise TroubleError(
            "requirements.lock does not pin uv. Next: git checkout requirements.lock"
        )
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder, "uv.txt")
        only_uv.write_text(block[0])
        return run([*pip("install"), "-q", "--no-deps", *hashed(only_uv)], lock, must=False)


def with_uv(lock: int | None) -> bool:
    uv = [str(UV), "pip", "install", "--python", str(PYTHON), *no_cache()]
    return run([*uv, *hashed(LOCK)], lock, must=False) and run([*uv, "--offline", *myself()], lock)


def with_pip(lock: int | None) -> None:
    pinned = len(re.findall(r"^\S+==", LOCK.read_text(), re.MULTILINE))
    say(f"  up to {pinned} packages")
    if not run([*pip("install"), *hashed(LOCK)], lock, must=False):
        raise TroubleError(
            "The packages could not be installed: see what pip says above. Without a network, "
            "only a machine where make install has worked once can go on. Next: make install"
        )
    run([*pip("install"), "-q", "--no-index", *myself()], lock)


def pip(verb: str) -> list[str]:
    return [str(PYTHON), "-I", "-m", "pip", verb, "--disable-pip-version-check", "--no-input"]


def hashed(requirements: Path) -> list[str]:
    return ["--require-hashes", "-r", str(requirements)]


def myself() -> list[str]:
    """The project, editable. What builds it is in the lock, so nothing is fetched."""
    return ["--no-build-isolation", "--no-deps", "-e", str(ROOT)]


def no_cache() -> list[str]:
    """uv gives up when its cache cannot be written, as with a read-only home."""
    try:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "uv")
        folder = Path(os.environ.get("UV_CACHE_DIR") or usual).absolute()
    except RuntimeError:
        return ["--no-cache"]
    while not folder.exists():
        folder = folder.parent
    return [] if os.access(folder, os.W_OK) else ["--no-cache"]


def run(command: list[str], lock: int | None, *, must: bool = True) -> bool:
    """Run an installer and pass on its words, less the line a package that nobody reads."""
    # A PIP_USER=1 in the environment, as some hosted editors set it, would miss the venv.
    environment = os.environ | {"PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONHOME", None)
    # Where a network has a certificate authority of its own, the system knows it; uv does not.
    environment.setdefault("UV_SYSTEM_CERTS", "true")
    # The child holds the lock too: killed alone, we leave nobody writing behind a free lock.
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[lock] if lock is not None else [],
    )
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not TEDIOUS.match(line):
                    say(f"  {line.strip()}", passing=line.lstrip().startswith(PASSING))
        except BaseException:
            process.terminate()
            raise
    if process.returncode and must:
        raise TroubleError(f"This did not work: {' '.join(command)}\nNext: make install")
    return process.returncode == 0


@contextlib.contextmanager
def one_at_a_time() -> Iterator[int | None]:
    """Two makes at once: the second waits, and then finds nothing to do."""
    with (ROOT / ".venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is installing; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # Some network file systems have no locks. One make at a time is then up to people.
            yield None
            return
        yield file.fileno()


def say(words: str, *, passing: bool = False) -> None:
    if sys.stdout.isatty():
        # A line that wraps could not be taken back.
        shown = words[: shutil.get_terminal_size().columns - 1] if passing else words
        print(f"\r\033[K{shown}", end="" if passing else "\n", flush=True)
    else:
        print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
