"""Where the lab keeps its things: a home that stays, and a short folder for sockets.

``ENGINEROOM_HOME`` names the home. Without it an ordinary user gets the usual folder of the
platform, root gets ``/var/lib/engineroom`` (a server under another account cannot enter
``/root``), and whoever can write to neither gets a folder in ``/tmp``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import EngineRoomError

# sockaddr_un holds 104 bytes on macOS, 108 on Linux, with a closing zero.
SOCKET_PATH_LIMIT = 103
_ANYBODYS = (Path("/tmp"), Path("/dev/shm"))
_LAST_RESORT = Path(f"/tmp/engineroom-home-{os.geteuid()}")


@dataclass(frozen=True)
class Places:
    """The folders of one lab."""

    home: Path
    """Clusters, certificates, logs and passwords: what should survive a reboot."""
    run: Path
    """Sockets and locks: short, private, gone with the machine."""
    note: str = ""
    """Why the home is not the usual one, in a sentence, or nothing."""
    passing: Path | None = None
    """Where the cluster is that goes with its last user, if that is the one meant."""

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def tls(self) -> Path:
        return self.home / "tls"


def find_places() -> Places:
    """Choose and make the folders. Cheap: called by every kernel."""
    note = ""
    forced = os.environ.get("ENGINEROOM_HOME")
    if forced:
        home = Path(os.path.expanduser(forced)).absolute()
        make_private(home)
    else:
        home = _usual_home()
        try:
            make_private(home)
        except EngineRoomError:
            usual, home = home, _LAST_RESORT
            note = f"{usual} cannot be written, so the lab lives in {home} until the next reboot."
            make_private(home)
    run = run_folder(home)
    make_private(run)
    return Places(home, run, note)


def run_folder(home: Path) -> Path:
    """Where the sockets of a home are: short, however long the home's own path is."""
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:8]
    return Path(f"/tmp/engineroom-{os.geteuid()}-{digest}")


def _usual_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/engineroom")
    if sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    usual = Path(os.path.expanduser(base)) / "engineroom"
    # An account may have no home at all, as in `docker run --user 1234`.
    return usual if usual.is_absolute() else _LAST_RESORT


def disk_trouble(error: OSError, folder: Path) -> EngineRoomError:
    """Why nothing can be written to a folder of the lab, for the person who chose it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineRoomError(
            f"The disk under {folder} is full.",
            "free some space, or name another place: "
            "ENGINEROOM_HOME=/path/with/room engineroom lab",
        )
    return EngineRoomError(
        f"The lab cannot write to {folder}: {error.strerror or error}.",
        "ENGINEROOM_HOME=/path/you/can/write engineroom doctor",
    )


def write_private(file: Path, text: str) -> None:
    """Write a secret that appears whole or not at all, and is never readable by others."""
    fresh = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as output:
            output.write(text)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def make_private(folder: Path) -> None:
    """Make ``folder``, or make sure that the one there is ours and writable.

    Root leaves the way through open (0711), for the account that runs its servers.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        if folder.is_symlink() and folder.parent in _ANYBODYS:
            raise EngineRoomError(
                f"{folder} is a link, which somebody else may have put there.", f"rm {folder}"
            )
        missing = [step for step in (folder, *folder.parents) if not step.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:  # whatever the umask, the way to what is inside stays open
            made.chmod(mode)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise EngineRoomError(
                f"{folder} belongs to another account (uid {found.st_uid}).",
                "ENGINEROOM_HOME=$HOME/engineroom engineroom doctor",
            )
        if stat.S_IMODE(found.st_mode) != mode:
            folder.chmod(mode)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another thread may have been here
    except OSError as error:
        raise disk_trouble(error, folder) from error
