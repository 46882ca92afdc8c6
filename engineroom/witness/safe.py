"""The lab's Secrets Manager as a witness sees it: what lies in it, and how often it was asked."""

from __future__ import annotations

import asyncio
import json
import uuid
from http.client import HTTPConnection
from typing import Any

_PATIENCE = 5.0


class Safe:
    """Puts secrets into ``lab.secrets``, and counts who asks for them."""

    def __init__(self, endpoint: dict[str, Any]) -> None:
        self._port = int(endpoint["port"])
        # moto checks no signature, but reads the region from it.
        scope = f"20200101/{endpoint['region']}/secretsmanager/aws4_request"
        self._signed = (
            f"AWS4-HMAC-SHA256 Credential={endpoint['access_key_id']}/{scope},"
            " SignedHeaders=host, Signature=0"
        )
        self._known: set[str] = set()

    async def keep(self, name: str, secret: dict[str, Any]) -> None:
        """Put a secret in; one of that name is replaced by a new version of it."""
        there = name in self._known
        action, key = ("PutSecretValue", "SecretId") if there else ("CreateSecret", "Name")
        text, token = json.dumps(secret), str(uuid.uuid4())
        await self._say(action, {key: name, "SecretString": text, "ClientRequestToken": token})
        self._known.add(name)

    async def asked(self, name: str) -> int:
        """How often anybody has asked for this secret."""
        return int((await self._ask("GET", "/asked")).get(name, 0))

    async def _say(self, action: str, body: dict[str, Any]) -> None:
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"secretsmanager.{action}",
            "Authorization": self._signed,
        }
        await self._ask("POST", "/", json.dumps(body), headers)

    async def _ask(self, *request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self._ask_now, *request)

    def _ask_now(self, *request: Any) -> dict[str, Any]:
        line = HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            line.request(*request)
            answer = line.getresponse()
            said: dict[str, Any] = json.loads(answer.read() or b"{}")
            if answer.status != 200:
                raise ConnectionError(f"the lab's Secrets Manager answered {answer.status}")
            return said
        finally:
            line.close()
