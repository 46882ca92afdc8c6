"""What every test stands on: a clean environment, a lab of its own, nothing left behind."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from lab_helpers import Lab, forget_home, make_home, stop_all_of

pytest_plugins = ["judging"]

# What the developer's shell says must not decide what is tested.
for _name in [name for name in os.environ if name.startswith(("ENGINEROOM_", "PG"))]:
    del os.environ[_name]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

STRICT = os.environ.get("STRICT", "") not in ("", "0")


# -- a skip is a failure where nothing may be left out -------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    return _strict(report) if not hasattr(report, "wasxfail") else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _strict((yield))


def _strict(report: Report) -> Report:
    if STRICT and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"STRICT=1, and this was not run. {reason}"
    return report


@pytest.fixture
def forgotten_sockets() -> Iterator[None]:
    yield
    gc.collect()


# -- labs ----------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab's home for one test, which fails if anything of it still runs afterwards."""
    folder = make_home()
    monkeypatch.setenv("ENGINEROOM_HOME", str(folder))
    monkeypatch.setenv("ENGINEROOM_POSTGRES", "embedded")
    # Servers may stop soon after the last user: a test need not wait two seconds.
    monkeypatch.setenv("ENGINEROOM_LINGER", "0.3")
    yield folder
    left = stop_all_of(folder)
    forget_home(folder)
    assert not left, "still running after the test:\n" + "\n".join(left)


@pytest.fixture
def lab_env(home: Path) -> dict[str, str]:
    """The environment of a person whose lab is in ``home``."""
    return dict(os.environ)


@pytest.fixture
def lab(home: Path, lab_env: dict[str, str]) -> Iterator[Lab]:
    """A lab on which nothing has been started."""
    with Lab(home, lab_env) as made:
        yield made


@pytest.fixture(scope="session")
def prepared_home() -> Iterator[Path]:
    """The home of a lab that has been used once, and stopped."""
    folder = make_home("prepared")
    env = os.environ | {"ENGINEROOM_HOME": str(folder), "ENGINEROOM_POSTGRES": "embedded"}
    with Lab(folder, env) as made:
        made.cli("db", "up", check=True)
        made.cli("db", "down", check=True)
    assert not stop_all_of(folder)
    yield folder
    forget_home(folder)


@pytest.fixture
def used_lab(lab: Lab, prepared_home: Path) -> Lab:
    """A lab that has been used before: cheaper than using it before each test."""
    subprocess.run(["cp", "-a", f"{prepared_home}/.", str(lab.home)], check=True)
    return lab


@pytest.fixture(scope="session")
def common_lab() -> Iterator[Lab]:
    """One lab for all tests that only look at what a running one gives."""
    folder = make_home()
    env = os.environ | {
        "ENGINEROOM_HOME": str(folder),
        "ENGINEROOM_POSTGRES": "embedded",
        "ENGINEROOM_LINGER": "0.3",
    }
    with Lab(folder, env) as made:
        made.cli("db", "up", check=True)
        yield made
        made.cli("db", "down", check=True)
    left = stop_all_of(folder)
    forget_home(folder)
    assert not left, "still running after the session:\n" + "\n".join(left)
