"""The ground that the other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab_helpers import ROOT, make_home


def pytest_on(
    folder: Path, source: str, *words: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a test file with this project's conftest, in a process of its own."""
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p conftest -p no:cacheprovider -ra\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(folder), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"} | env,
        check=False,
    )


SKIPS = {
    "in_the_test": "import pytest\ndef test_it(): pytest.skip('get {0}')\n",
    "by_a_mark": "import pytest\n@pytest.mark.skip(reason='get {0}')\ndef test_it(): pass\n",
    "of_a_module": "import pytest\npytest.skip('get {0}', allow_module_level=True)\n",
    "of_an_import": "import pytest\npytest.importorskip('no_such', reason='get {0}')\n",
}


def test_a_skip_is_a_failure_where_strict_is_set_and_shows_its_reason(tmp_path: Path) -> None:
    for name, source in SKIPS.items():
        (tmp_path / f"test_{name}.py").write_text(source.format(name))
    passes = "def test_it(): pass\n"
    lenient = pytest_on(tmp_path, passes, STRICT="0")
    assert lenient.returncode == 0, lenient.stdout
    assert "4 skipped" in lenient.stdout
    strict = pytest_on(tmp_path, passes, "--continue-on-collection-errors", STRICT="1")
    assert strict.returncode == 1
    assert "skipped" not in strict.stdout.splitlines()[-1]
    for name in SKIPS:
        assert f"get {name}" in strict.stdout


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
