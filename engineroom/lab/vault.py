"""``lab.secrets``: an AWS Secrets Manager on loopback that holds the lab's credentials."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import os
import shutil
import sys
import uuid
from pathlib import Path

from engineroom.errors import EngineRoomError
from engineroom.lab.model import Endpoint, Server, Tenant
from engineroom.lab.processes import clean_environment, end, spawn

SECRET_ID = "engine-room/postgres"  # noqa: S105 - its name, not the secret
REGION = "eu-north-1"
# moto lets everybody in; boto3 only wants something to sign with.
ACCESS_KEY_ID = "AKIAENGINEROOM000000"
SECRET_ACCESS_KEY = "not-a-secret"  # noqa: S105 - as it says

_CHILD = Path(__file__).with_name("vault_server.py")
_PATIENCE = 60.0


class Vault:
    """One moto server for one user, so that a rotation there disturbs nobody else."""

    def __init__(self, *, server: Server, tenant: Tenant, folder: Path, log: Path) -> None:
        self._server = server
        self._tenant = tenant
        self._folder = folder
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Endpoint:
        """Start moto and return once it holds the secret."""
        for needed in ("moto", "boto3", "flask_cors"):
            if importlib.util.find_spec(needed) is None:
                raise EngineRoomError(
                    f"The lab's Secrets Manager needs the Python package {needed!r},"
                    " which is not installed.",
                    "pip install 'engine-room[aws]'",
                )
        try:
            async with asyncio.timeout(_PATIENCE):
                port = await self._launch()
                await self._create_secret(port)
        except (OSError, ValueError, EOFError) as error:
            await self.stop()
            raise EngineRoomError(
                f"moto's server did not start ({type(error).__name__}).", f"tail {self._log}"
            ) from error
        except BaseException:
            await self.stop()
            raise
        return Endpoint(
            url=f"http://127.0.0.1:{port}",
            extra={
                "port": port,
                "region": REGION,
                "secret_id": SECRET_ID,
                "access_key_id": ACCESS_KEY_ID,
                "secret_access_key": SECRET_ACCESS_KEY,
            },
        )

    async def stop(self) -> None:
        """End moto; its secrets were in its memory only."""
        if self._process is not None:
            await end(self._process)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _launch(self) -> int:
        """Start the child, which reports the port it found through a named pipe."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)
        ready = self._folder / "ready"
        os.mkfifo(ready, 0o600)
        # Open for writing too: else the pipe is at its end before the child has opened it.
        pipe = io.FileIO(os.open(ready, os.O_RDWR | os.O_NONBLOCK))
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            process = self._process = await spawn(
                # -P: the lab's own folder must not lend its module names to moto's imports.
                [sys.executable, "-P", str(_CHILD), str(ready)],
                log=self._log,
                env={
                    name: value
                    for name, value in clean_environment().items()
                    # Nothing of a real AWS account, and none of moto's own switches.
                    if not name.startswith(("AWS_", "BOTO", "MOTO_", "WERKZEUG_", "FLASK_"))
                },
            )
            ended = asyncio.ensure_future(process.wait())
            told = asyncio.ensure_future(reader.readline())
            try:
                await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
                if not told.done():
                    raise ChildProcessError("moto's server ended at once")
                return int(told.result())
            finally:
                ended.cancel()
                told.cancel()
                await asyncio.gather(ended, told, return_exceptions=True)
        finally:
            transport.close()

    async def _create_secret(self, port: int) -> None:
        """Ask for it over plain HTTP: importing boto3 here would take longer than all the rest."""
        tenant = self._tenant
        # The keys are those of a secret that RDS makes: ``dbname``, and ``port`` is a number.
        secret = {
            "engine": "postgres",
            "host": self._server.host,
            "port": self._server.port,
            "dbname": tenant.database,
            "username": tenant.owner,
            "password": tenant.owner_password,
        }
        body = json.dumps(
            {
                "Name": SECRET_ID,
                "Description": "How to reach the lab's Postgres",
                "SecretString": json.dumps(secret),
                "ClientRequestToken": str(uuid.uuid4()),
            }
        ).encode()
        # moto checks no signature, but reads the region from it.
        credential = f"{ACCESS_KEY_ID}/20200101/{REGION}/secretsmanager/aws4_request"
        head = (
            "POST / HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\n"
            "Content-Type: application/x-amz-json-1.1\r\n"
            "X-Amz-Target: secretsmanager.CreateSecret\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={credential},"
            " SignedHeaders=host, Signature=0\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode() + body)
            status = (await reader.readline()).split()
            if status[1:2] != [b"200"]:
                raise EngineRoomError(
                    "moto's server runs, but did not take the lab's secret.", f"tail {self._log}"
                )
        finally:
            writer.transport.abort()
