"""Exit 0 when PgBouncer serves: a query through both TLS legs, and the one that finds roles."""

import contextlib
import re
import sys
from pathlib import Path

import psycopg2

secret = re.fullmatch(r'"pgbouncer" "(.+)"\n', Path("/secrets/userlist.txt").read_text())
assert secret, "userlist.txt is not as docker/tools/certificates.py writes it"
try:
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=6432,
        dbname="postgres",
        user="pgbouncer",
        password=secret[1],
        sslmode="verify-full",
        sslrootcert="/secrets/ca.pem",
        connect_timeout=2,
    )
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        cursor.execute("select from pgbouncer.lookup('pgbouncer')")
        ready = cursor.rowcount == 1
except psycopg2.Error as error:
    sys.exit(f"not ready: {error}")
sys.exit(0 if ready else "not ready: the role that looks others up does not find itself")
