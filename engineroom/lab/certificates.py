"""The lab's own certificate authority, and the certificates its servers show.

The authority's private key is never written down: whoever reads the home can be the lab's
server, but nobody can sign a new one. A certificate for another name is made at the same
moment, for the lesson in which the right authority vouches for the wrong host.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engineroom.lab.places import Places, disk_trouble

_NAMES = ("localhost", "127.0.0.1", "::1")
_OTHER_NAME = "db.example.com"
_RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: the authority, the server's pair, and the pair with another name."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    other_cert_file: Path
    other_key_file: Path


def ensure_certificates(places: Places) -> Certificates:
    """Make the certificates once; make them anew when they are damaged or about to expire."""
    found = certificates_in(places.tls)
    places.home.mkdir(parents=True, exist_ok=True)
    with open(places.run / "tls.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _usable(found):
            try:
                _make(places.tls)
            except OSError as error:
                raise disk_trouble(error, places.home) from error
    return found


def certificates_in(folder: Path) -> Certificates:
    """Where the files are, made or not."""
    return Certificates(
        folder / "ca.pem",
        folder / "server.pem",
        folder / "server.key",
        folder / "other-name.pem",
        folder / "other-name.key",
    )


def _usable(certificates: Certificates) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert_file, certificates.key_file)
        context.load_cert_chain(certificates.other_cert_file, certificates.other_key_file)
        expires = _expiry(certificates.ca_file.read_text())
    except (OSError, ValueError, KeyError):
        return False
    return expires - datetime.now(UTC) > _RENEW_BEFORE


def _expiry(authority: str) -> datetime:
    """When an authority ends, and every certificate of the lab with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    (known,) = context.get_ca_certs()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(known["notAfter"])), UTC)


def _make(folder: Path) -> None:
    import trustme  # 80 ms, and needed once in a lab's life

    # A whole folder appears or none does: a server never meets half a pair.
    fresh = Path(tempfile.mkdtemp(prefix=".tls-", dir=folder.parent))
    try:
        authority = trustme.CA(organization_name="Engine Room lab")
        files = certificates_in(fresh)
        authority.cert_pem.write_to_path(files.ca_file)
        expires = _expiry(authority.cert_pem.bytes().decode()).replace(tzinfo=None)
        for names, cert_file, key_file in (
            (_NAMES, files.cert_file, files.key_file),
            ((_OTHER_NAME,), files.other_cert_file, files.other_key_file),
        ):
            issued = authority.issue_cert(*names, not_after=expires)
            issued.private_key_pem.write_to_path(key_file)
            key_file.chmod(0o600)
            for position, blob in enumerate(issued.cert_chain_pems):
                blob.write_to_path(cert_file, append=position > 0)
        for readable in (files.ca_file, files.cert_file, files.other_cert_file):
            readable.chmod(0o644)
        fresh.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
