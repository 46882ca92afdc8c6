"""Make, once, what the servers of docker-compose.yml share: TLS certificates and a password.

Runs in the `certificates` service and writes to the volume that the other services mount.
"""

import os
import secrets
from pathlib import Path

import trustme

FOLDER = Path("/secrets")
READERS = 999  # the group of Postgres in its image, and of our PgBouncer
NAMES = ("localhost", "127.0.0.1", "::1", "postgres", "pgbouncer")


def put(name: str, content: bytes, mode: int) -> None:
    """Write a file that root owns and the servers' group may read; never half of one."""
    fresh = FOLDER / f".{name}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    os.chown(fresh, 0, READERS)
    fresh.chmod(mode)
    fresh.rename(FOLDER / name)


def main() -> None:
    # Written last, so where it is the rest is too.
    if (FOLDER / "server.pem").exists():
        print("The certificates are there already.")
        return
    # The authority's private key is never written down: nobody can sign another certificate.
    authority = trustme.CA(organization_name="Engine Room compose")
    issued = authority.issue_cert(*NAMES)
    put("userlist.txt", f'"pgbouncer" "{secrets.token_urlsafe(24)}"\n'.encode(), 0o640)
    put("server.key", issued.private_key_pem.bytes(), 0o640)
    put("ca.pem", authority.cert_pem.bytes(), 0o644)
    put("server.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems), 0o644)
    print("Made the certificates.")


if __name__ == "__main__":
    main()
