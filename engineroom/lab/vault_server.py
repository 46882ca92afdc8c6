"""The process behind ``lab.secrets``: moto's Secrets Manager, and no other service of AWS.

Run as a file, not as a module, so that nothing but moto is imported. It chooses its own port
and writes it into the pipe that it is given.
"""

from __future__ import annotations

import os
import sys


def main(ready: str) -> None:
    """Serve on a free loopback port until the parent is gone."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    parent = os.getppid()

    server = make_server(
        "127.0.0.1",
        0,
        # The service itself instead of moto's dispatcher: there is no way to any other.
        create_backend_app("secretsmanager"),
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
