"""Made-up and hidden packages, and the tree of who asks for what."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from engineroom.exercises.packages import (
    Absences,
    Doorbell,
    make_wheel,
    on_path,
    put,
    put_conda,
)
from engineroom.widgets import who_asks


def test_a_made_up_package_is_found_here_and_in_a_child(tmp_path: Path) -> None:
    put(tmp_path, "Skerry-Tides", "3.14.1", requires=['gull>2; extra == "sea"'], module="tidal")
    with on_path(tmp_path):
        assert metadata.version("skerry_tides") == "3.14.1"
        assert metadata.requires("skerry.tides") == ['gull>2; extra == "sea"']
        assert importlib.import_module("tidal").__version__ == "3.14.1"
        ask = "from importlib.metadata import version; print(version('skerry-tides'))"
        said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        assert said.stdout.strip() == "3.14.1"
    sys.modules.pop("tidal")
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("skerry-tides")


def test_conda_lists_each_file_that_is_there(tmp_path: Path) -> None:
    put_conda(tmp_path, "lib/site", "tides", "1.0", record="py-tides", module="tides")
    (record,) = (tmp_path / "conda-meta").iterdir()
    told = json.loads(record.read_text("utf-8"))
    assert told["name"] == "py-tides"
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.glob("lib/**/*") if p.is_file()}
    assert set(told["files"]) == there


def test_a_wheel_is_one_that_pip_takes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "ferry-times", "1.5", module="ferrytimes")
    target = tmp_path / "target"
    quiet = ["--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = metadata.distributions(path=[str(target)])
    assert (found.version, (found.read_text("INSTALLER") or "").strip()) == ("1.5", "pip")


def test_what_is_hidden_is_gone_for_everybody_and_comes_back() -> None:
    import aiosqlite
    import sqlalchemy.ext.asyncio as before

    path = list(sys.path)
    with Absences("aiosqlite", "asyncpg", "greenlet") as absences:
        with absences.hidden("aiosqlite", "greenlet"):
            assert find_spec("aiosqlite") is None
            assert find_spec("asyncpg") is not None
            with pytest.raises(metadata.PackageNotFoundError):
                metadata.version("aiosqlite")
            assert metadata.version("asyncpg")
            assert not [
                f
                for entry in sys.path
                if os.path.isdir(entry)
                for f in os.listdir(entry)
                if f.startswith("aiosqlite")
            ]
            with pytest.raises(ImportError, match="requires that the Python 'greenlet'"):
                importlib.import_module("sqlalchemy.ext.asyncio")
        with absences.hidden():
            assert metadata.version("aiosqlite")
    assert sys.path == path
    assert importlib.import_module("aiosqlite") is aiosqlite
    assert importlib.import_module("sqlalchemy.ext.asyncio") is before


def test_a_doorbell_counts_each_caller() -> None:
    with Doorbell() as bell:
        assert bell.rung() == 0
        for _ in range(3):
            socket.create_connection(("127.0.0.1", bell.port)).close()
        assert bell.rung() == 3
        assert bell.rung() == 3


def test_the_tree_says_who_asks(tmp_path: Path) -> None:
    put(tmp_path, "Desk", "1.0", requires=["harbour>=2", 'gull; extra == "sea"'])
    put(tmp_path, "harbour", "2.1", requires=["desk", "typing-extensions"])
    put(tmp_path, "gull", "0.3", requires=['fish; sys_platform == "win32"'])
    with on_path(tmp_path):
        without, with_it = who_asks("gull", "desk"), who_asks("gull", "desk[sea]", "nowhere")
        assert without.asked_by() == []
        assert with_it.asked_by() == ["desk[sea]"]
        assert repr(with_it).splitlines() == [
            "* desk 1.0          → gull (with [sea]), harbour",
            "  harbour 2.1       → desk",
            "  gull 0.3",
            "* nowhere not here",
            "",
            "* you ask for it.  gull: asked for by desk[sea]",
        ]
        shown = with_it._repr_html_()
    assert "alt='You ask for desk[sea], nowhere." in shown
    assert with_it.svg().count("<rect") == 1 + 4
