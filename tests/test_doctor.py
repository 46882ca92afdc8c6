"""``engineroom doctor``: what works, and the one command that mends each thing that does not."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from lab_helpers import Lab, eventually, forgets_sockets, needs_root, small_disk


def examine(lab: Lab, *, code: int = 0, **env: str) -> dict[str, dict[str, Any]]:
    """The checks by name, of a report in the promised shape."""
    done = lab.cli("doctor", "--json", **env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"ok", "checks"}
    for check in report["checks"]:
        assert set(check) == {"name", "ok", "detail", "fix"}
        assert [type(check[key]) for key in ("name", "ok", "detail", "fix")] == [
            str,
            bool,
            str,
            str,
        ]
        assert check["ok"] or check["fix"], "a thing that does not work has a fix"
    assert report["ok"] == all(check["ok"] for check in report["checks"])
    assert report["ok"] == (code == 0)
    return {check["name"]: check for check in report["checks"]}


def test_here_all_is_well(used_lab: Lab) -> None:
    checks = examine(used_lab)
    assert {
        "python", "packages", "home", "sockets", "postgres", "tls", "statements",
        "pgbouncer", "secrets", "docker", "jupyterlab", "sandbox",
    } <= set(checks)  # fmt: skip
    assert checks["python"]["detail"].startswith(".".join(map(str, sys.version_info[:3])))
    assert "embedded" in checks["postgres"]["detail"]
    assert "TLSv1.3" in checks["tls"]["detail"]
    eventually(lambda: not used_lab.keepers, "what doctor started has stopped")
    assert used_lab.leftovers() == []


def test_a_person_reads_a_line_a_check_and_a_verdict(used_lab: Lab) -> None:
    said = used_lab.cli("doctor", check=True).stdout
    for name in examine(used_lab):
        assert name in said
    assert said.rstrip().endswith("All that the course needs works.")


def test_what_is_optional_and_missing_is_well_and_has_a_fix(used_lab: Lab) -> None:
    # Where PgBouncer is looked for besides PATH is patched away: nothing can hide /usr/sbin.
    hide = (
        "import sys, engineroom.lab.pooler as pooler\n"
        "pooler._USUAL_PLACES = ()\n"
        "sys.argv = ['engineroom', 'doctor', '--json']\n"
        "import engineroom.cli\n"
        "engineroom.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide],
        env=used_lab.env | {"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for optional in ("pgbouncer", "docker"):
        assert checks[optional]["ok"], checks[optional]
        assert checks[optional]["fix"]


def test_a_setting_that_breaks_postgres_is_found_with_its_fix(used_lab: Lab) -> None:
    checks = examine(used_lab, code=1, ENGINEROOM_PORT="many")
    assert checks["postgres"]["ok"] is False
    assert "unset ENGINEROOM_PORT" in checks["postgres"]["fix"]
    assert checks["python"]["ok"]
    assert "tls" not in checks


def test_a_home_that_cannot_be_written_is_found_with_its_fix(used_lab: Lab) -> None:
    checks = examine(used_lab, code=1, ENGINEROOM_HOME="/proc/nothing")
    for name in ("home", "sockets", "postgres"):
        assert not checks[name]["ok"]
        assert "ENGINEROOM_HOME=" in checks[name]["fix"]


@needs_root
def test_a_disk_with_little_room_is_found(home: Path, lab_env: dict[str, str]) -> None:
    with small_disk(home, 40), Lab(home, lab_env) as lab:
        checks = examine(lab, code=1)
        assert not checks["home"]["ok"]
        assert "MB free" in checks["home"]["detail"]


def test_a_damaged_cluster_is_found_with_its_fix(used_lab: Lab) -> None:
    (used_lab.base / "data/PG_VERSION").unlink()
    checks = examine(used_lab, code=1)
    assert checks["postgres"]["fix"].startswith("engineroom db reset --all")


def test_an_external_server_that_is_not_there_is_found_without_its_password(lab: Lab) -> None:
    url = "postgresql://u:hush-hush@127.0.0.1:1/d"
    checks = examine(lab, code=1, ENGINEROOM_POSTGRES="", ENGINEROOM_DATABASE_URL=url)
    assert "127.0.0.1:1" in checks["postgres"]["detail"]
    assert "hush-hush" not in json.dumps(checks)


@forgets_sockets
def test_a_certificate_that_is_not_the_servers_is_found(common_lab: Lab, tmp_path: Path) -> None:
    from engineroom.cli import doctor

    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    server = {"tls": True, "host": "localhost", "port": common_lab.port}
    with pytest.raises(ssl.SSLCertVerificationError):
        doctor.tls({"server": server | {"ca_file": str(stranger)}})
    ours = str(common_lab.home / "tls/ca.pem")
    assert doctor.tls({"server": server | {"ca_file": ours}}).ok
    # The report turns that into a finding with the check's own name.
    found = doctor._safely(
        lambda: doctor.tls({"server": server | {"ca_file": str(stranger)}}), "tls"
    )
    assert (found.name, found.ok) == ("tls", False)


def test_a_package_that_is_missing_or_old_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from importlib import metadata

    from engineroom.cli import doctor

    monkeypatch.setattr(
        metadata,
        "requires",
        lambda _: ["no-such-package>=1", "rich>=9999", "typer>=0.1", "gone>1; extra == 'grade'"],
    )
    check = doctor.packages()
    assert not check.ok
    assert (
        check.detail
        == f"no-such-package is missing; rich is {metadata.version('rich')}, not >=9999"
    )
    assert check.fix == "make install"
    monkeypatch.setattr(
        doctor, "__file__", str(tmp_path / "site-packages/engineroom/cli/doctor.py")
    )
    assert doctor.packages().fix == "pip install 'engine-room'", "without a checkout, no Makefile"


def test_a_python_that_is_too_old_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from engineroom.cli import doctor

    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 0))
    check = doctor.python()
    assert not check.ok
    assert check.fix


def test_a_check_that_fails_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from engineroom.cli import doctor

    def broken() -> doctor.Check:
        raise RuntimeError("out of order")

    monkeypatch.setattr(doctor, "jupyterlab", broken)
    monkeypatch.setattr(doctor, "postgres", lambda: iter(()))
    found = {check.name: check for check in doctor.examine()}
    assert not found["broken"].ok
    assert "out of order" in found["broken"].detail
