"""The process behind ``lab.secrets``: moto's Secrets Manager, and no other service of AWS.

Run as a file, not as a module, so that nothing but moto is imported. It chooses its own port
and writes it into the pipe that it is given.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any


class Counting:
    """moto, and before it a tally: ``GET /asked`` says how often each secret was asked for."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._asked: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/asked":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._asked).encode()]
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".GetSecretValue"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            self._asked[_secret_in(body)] += 1
        return self._app(environ, start_response)


def _secret_in(body: bytes) -> str:
    try:
        return str(json.loads(body)["SecretId"])[:256]
    except (ValueError, TypeError, LookupError):
        return ""


def main(ready: str) -> None:
    """Serve on a free loopback port until the parent is gone."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    parent = os.getppid()

    server = make_server(
        "127.0.0.1",
        0,
        # The service itself instead of moto's dispatcher: there is no way to any other.
        Counting(create_backend_app("secretsmanager")),
        threaded=True,
        request_handler=MotoRequestHandler,
    )

    def look_for_parent() -> None:
        if os.getppid() != parent:  # where the kernel does not end us with it
            os._exit(0)

    server.service_actions = look_for_parent  # type: ignore[method-assign]
    with open(ready, "w") as pipe:
        pipe.write(f"{server.port}\n")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
