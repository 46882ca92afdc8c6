"""JupyterLab, tied to the life of the ``engineroom lab`` that started it.

The first argument is the reading end of a pipe whose other end only the parent holds: when the
parent ends, even by kill -9, the pipe closes and JupyterLab is told to stop, kernels and all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from engineroom.imports import skip_grammars


def _stop_when_closed(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run JupyterLab with the arguments after the pipe's number."""
    descriptor = int(sys.argv.pop(1))
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_stop_when_closed, args=(descriptor,), daemon=True).start()
    skip_grammars()
    from jupyterlab.labapp import main as run

    run()


if __name__ == "__main__":
    main()
