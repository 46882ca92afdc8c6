"""How long a newcomer waits: `make lab` on a machine that has nothing, then again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, seconds

_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 600.0


def rows() -> Iterator[Row]:
    """`make lab` until JupyterLab answers; `pip install` of the same set beside it."""
    # Not below the checkout, so that nothing of it is found; short, for the sockets' sake.
    base = Path(tempfile.mkdtemp(prefix="er-new-", dir="/tmp"))
    base.chmod(0o755)
    try:
        clone = base / "engine-room"
        _copy_tracked(clone)
        environment = os.environ | {
            "ENGINEROOM_HOME": str(base / "home"),
            "ENGINEROOM_POSTGRES": "embedded",
            # A newcomer has nothing in a cache.
            "UV_NO_CACHE": "1",
            "PIP_NO_CACHE_DIR": "1",
        }
        for name in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            environment.pop(name, None)
        first = _until_ready(clone, environment)
        again = _until_ready(clone, environment)
        by_pip = seconds(lambda: _pip_install(base / "by-pip", environment))
        yield Row("make lab, new machine", first, "s", 90, "pip install", by_pip)
        yield Row("make lab, again", again, "s", 6, "pip install", by_pip)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _copy_tracked(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (_ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ROOT / name, target / name)


def _until_ready(clone: Path, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        ["make", "lab", "LAB_ARGS=--no-browser"],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "?token=" in line:
                return time.perf_counter() - began
        raise RuntimeError("make lab ended before JupyterLab answered:\n" + "".join(said[-20:]))
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=_PATIENCE)


def _pip_install(venv: Path, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run(
        [
            venv / "bin/pip",
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            _ROOT / "requirements.lock",
        ],
        check=True,
        env=environment,
    )
