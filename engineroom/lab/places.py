"""Where the lab keeps its things: a home that stays, and a short folder for sockets.

``ENGINEROOM_HOME`` names the home. Without it an ordinary user gets the usual folder of the
platform, root gets ``/var/lib/engineroom`` (a server under another account cannot enter
``/root``), and whoever can write to neither gets a folder in ``/tmp``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from engineroom.errors import EngineRoomError

# sockaddr_un holds 104 bytes on macOS, 108 on Linux, with a closing zero.
SOCKET_PATH_LIMIT = 103


@dataclass(frozen=True)
class Places:
    """The folders of one lab."""

    home: Path
    """Clusters, certificates, logs and passwords: what should survive a reboot."""
    run: Path
    """Sockets and locks: short, private, gone with the machine."""
    note: str = ""
    """Why the home is not the usual one, in a sentence, or nothing."""

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
        home = Path(forced).expanduser().absolute()
        _make_private(home)
    else:
        home = _usual_home()
        try:
            _make_private(home)
        except EngineRoomError:
            usual, home = home, Path(f"/tmp/engineroom-home-{os.geteuid()}")
            note = f"{usual} cannot be written, so the lab lives in {home} until the next reboot."
            _make_private(home)
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:8]
    run = Path(f"/tmp/engineroom-{os.geteuid()}-{digest}")
    _make_private(run)
    return Places(home, run, note)


def _usual_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/engineroom")
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/engineroom"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "engineroom"


def _make_private(folder: Path) -> None:
    """Make ``folder``, or make sure that the one there is ours and writable.

    Root leaves the way through open (0711), for the account that runs its servers.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        found = folder.lstat()
        if stat.S_ISLNK(found.st_mode) and folder.parent == Path("/tmp"):
            raise EngineRoomError(
                f"{folder} is a link, which somebody else may have put there.", f"rm {folder}"
            )
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
        probe.unlink()
    except OSError as error:
        raise EngineRoomError(
            f"The lab cannot write to {folder}: {error.strerror}.",
            "ENGINEROOM_HOME=/tmp/engineroom engineroom doctor",
        ) from error
