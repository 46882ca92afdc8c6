"""Nobody waits for an import that nobody uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

AUTHORING = "import engineroom.authoring.build, nbformat, jupytext"
JUPYTERLAB = """
import os
from engineroom.cli import jupyter_child
reading, writing = os.pipe()
sys.argv = ["jupyter_child", str(reading), "--version"]
try:
    jupyter_child.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("program", [AUTHORING, JUPYTERLAB], ids=["authoring", "jupyterlab"])
def test_no_grammar_is_read(program: str) -> None:
    told = "print([name in sys.modules for name in ('jsonschema', 'lark')])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{told}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[True, False]"
