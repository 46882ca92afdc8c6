"""The ground that the other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab_helpers import ROOT, make_home


def pytest_on(folder: Path, source: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a test file with this project's conftest, in a process of its own."""
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p conftest -p no:cacheprovider -ra\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"} | env,
        check=False,
    )


SKIPS = {
    "in the test": "import pytest\ndef test_it(): pytest.skip('get foo')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='get foo')\ndef test_it(): pass\n",
    "of a module": "import pytest\npytest.skip('get foo', allow_module_level=True)\n",
    "of an import": "import pytest\npytest.importorskip('no_such_foo', reason='get foo')\n",
}


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS)
def test_a_skip_is_a_failure_where_strict_is_set_and_shows_its_reason(
    tmp_path: Path, source: str
) -> None:
    lenient = pytest_on(tmp_path, source, STRICT="0")
    assert lenient.returncode in (0, 5), lenient.stdout  # 5: nothing was left to run
    strict = pytest_on(tmp_path, source, STRICT="1")
    assert strict.returncode in (1, 2), strict.stdout
    assert "get foo" in strict.stdout


def test_an_expected_failure_stays_one_where_strict_is_set(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert 0\n"
    assert pytest_on(tmp_path, source, STRICT="1").returncode == 0


def test_a_test_that_leaves_something_running_fails(tmp_path: Path) -> None:
    source = (
        "import subprocess, sys\n"
        "def test_it(home):\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    done = pytest_on(tmp_path, source.replace("60", "61"), LEAK_PATIENCE="0.1")
    assert done.returncode == 1
    assert "still running after the test" in done.stdout
    assert "time.sleep(61)" in done.stdout


def test_the_developers_own_settings_do_not_reach_the_tests(tmp_path: Path) -> None:
    source = (
        "import os\n"
        "def test_it(): assert not [n for n in os.environ if n.startswith(('ENGINEROOM_', 'PG'))]\n"
    )
    done = pytest_on(tmp_path, source, ENGINEROOM_HOME="/nowhere", PGHOST="nowhere")
    assert done.returncode == 0, done.stdout


def test_a_home_is_open_to_the_account_that_servers_run_under() -> None:
    folder = make_home()
    try:
        assert folder.parent.stat().st_mode & 0o011 == (0o011 if os.geteuid() == 0 else 0)
    finally:
        folder.rmdir()
        folder.parent.rmdir()
