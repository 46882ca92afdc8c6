"""The two commands of the README, and what they stand on: before anything is installed."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split()  # type: ignore[index]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what an install reads, in a folder with a space in its name."""
    copy = tmp_path / "engine room"
    (copy / "tools").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy)
    for tool in (ROOT / "tools").glob("*.*"):
        shutil.copy(tool, copy / "tools")
    return copy


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """An environment in which PATH holds the bare minimum and the programs given."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for needed in ("awk", "dirname", "printf", "rm", "sh"):
        (folder / needed).symlink_to(shutil.which(needed) or pytest.fail(f"no {needed}"))

    def make(**scripts: str) -> dict[str, str]:
        for name, script in scripts.items():
            program = folder / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        return {"PATH": str(folder), "LC_ALL": "C"}

    return make


def make(
    checkout: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("make") or "make", *arguments],
        cwd=checkout,
        # A make above us would pass its own flags on.
        env={k: v for k, v in (env or os.environ).items() if k not in {"MAKEFLAGS", "MAKELEVEL"}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# make


def test_help_is_what_make_alone_says_and_names_every_target(checkout: Path) -> None:
    said = make(checkout).stdout
    assert said == make(checkout, "help").stdout
    assert sorted(re.findall(r"^  make (\S+) +\S", said, re.MULTILINE)) == sorted(TARGETS)


def test_help_fits_a_terminal(checkout: Path) -> None:
    assert max(map(len, make(checkout).stdout.splitlines())) <= 80


def test_readme_names_no_target_that_is_not_there() -> None:
    commands = re.findall(r"`[^`]+`|```console.*?```", (ROOT / "README.md").read_text(), re.DOTALL)
    named = re.findall(r"\bmake ([a-z][a-z-]+)(?=[`\s])", "\n".join(commands))
    assert "lab" in named
    assert set(named) <= set(TARGETS)


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        ({}, "there is none on PATH"),
        ({"python3": 'echo "is Python 3.9.2"'}, "python3 is Python 3.9.2. Install one"),
        (
            {"python3": 'echo "is Python 3.11.2 without its venv module"'},
            "without its venv module. Install that",
        ),
    ],
    ids=["none", "too old", "no venv"],
)
def test_without_a_python_that_serves_one_sentence_says_what_to_install(
    checkout: Path,
    programs: Callable[..., dict[str, str]],
    scripts: dict[str, str],
    expected: str,
) -> None:
    done = make(checkout, "lab", env=programs(**scripts))
    sentence, make_itself = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert expected in sentence
    assert "Error 2" in make_itself
    assert not (checkout / ".venv").exists()


def test_a_python_too_old_is_passed_over_for_one_that_serves(
    checkout: Path, programs: Callable[..., dict[str, str]]
) -> None:
    env = programs(
        python3_14="exit 127",
        # What a version manager leaves on PATH for a Python that it has not switched on.
        python3="echo is Python 3.9.2",
        python='case "$*" in *install.py*) echo "ran $*";; *) echo ok;; esac',
    )
    done = make(checkout, "install", env=env)
    assert (done.returncode, done.stdout) == (0, "ran -I tools/install.py\n")


def test_the_real_question_finds_this_python_good_enough(
    checkout: Path, programs: Callable[..., dict[str, str]]
) -> None:
    """The fakes above answer a question; this asks it."""
    base = getattr(sys, "_base_executable", sys.executable)
    env = programs(
        python3=f'case "$*" in *install.py*) echo ran;; *) exec "{base}" "$@";; esac',
    )
    assert make(checkout, "install", env=env).stdout == "ran\n"


def test_python_named_by_hand_may_have_spaces_and_is_the_only_one_tried(
    checkout: Path, programs: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    env = programs(python3="echo ok")
    named = Path(shutil.copy(tmp_path / "programs/python3", tmp_path / "my python"))
    done = make(checkout, "install", f"PYTHON={named}", env=env)
    assert (done.returncode, done.stdout) == (0, "ok\n")
    named.unlink()
    done = make(checkout, "install", f"PYTHON={named}", env=env)
    assert done.returncode == 2
    assert f"{named} cannot be run" in done.stderr


def test_clean_leaves_the_learners_work(checkout: Path) -> None:
    theirs = checkout / "work" / "__pycache__" / "mine.ipynb"
    ours = [checkout / ".venv" / "x", checkout / "engineroom" / "__pycache__" / "x"]
    for file in (theirs, *ours):
        file.parent.mkdir(parents=True)
        file.touch()
    assert make(checkout, "clean").returncode == 0
    assert theirs.exists()
    assert not any(file.parent.exists() for file in ours)


def test_make_lab_is_replaced_by_the_program_so_that_signals_reach_it(checkout: Path) -> None:
    program = checkout / ".venv/bin/engineroom"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), sys.exit(0)))\n"
        "print(os.getppid(), *sys.argv[1:], flush=True)\n"
        "signal.pause()\n"
    )
    program.chmod(0o755)
    process = subprocess.Popen(
        ["make", "-o", "install", "lab", "LAB_ARGS=--no-browser"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{process.pid} lab --no-browser\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_system_deps_without_apt_says_so(
    checkout: Path, programs: Callable[..., dict[str, str]]
) -> None:
    done = make(checkout, "system-deps", env=programs())
    assert done.returncode == 2
    assert "needs apt" in done.stderr


def test_system_deps_without_root_says_so_and_installs_nothing(
    checkout: Path, programs: Callable[..., dict[str, str]]
) -> None:
    done = make(
        checkout, "system-deps", env=programs(apt_get="echo apt was called", id="echo 1000")
    )
    assert done.returncode == 2
    assert "sudo make system-deps" in done.stderr
    assert "apt was called" not in done.stdout


def test_ci_runs_what_the_readme_says_and_lets_nothing_be_skipped() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make system-deps", "make test STRICT=1"]


# tools/install.py


@pytest.fixture
def installed(checkout: Path) -> tuple[ModuleType, Path]:
    """A checkout whose ``.venv`` looks installed, and the installer that looks at it."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    installer = load(checkout / "tools/install.py")
    installer.write_stamp(stamp_of(installer))
    return installer, checkout


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("installer", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stamp_of(installer: ModuleType) -> dict[str, Any]:
    return {
        "complete": True,
        "content": installer.content(),
        "root": str(installer.ROOT),
        "python": installer.venv_python(),
    }


def is_fresh(checkout: Path) -> bool:
    """As the fast path of tools/install.sh asks it."""
    command = [".venv/bin/python", "-I", "tools/install.py", "--fresh"]
    try:
        return subprocess.run(command, cwd=checkout, check=False).returncode == 0
    except OSError:
        return False


def test_a_second_make_does_nothing_and_needs_no_other_python(
    installed: tuple[ModuleType, Path], programs: Callable[..., dict[str, str]]
) -> None:
    _, checkout = installed
    done = make(checkout, "install", env=programs())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_new_times_alone_install_nothing(installed: tuple[ModuleType, Path]) -> None:
    _, checkout = installed
    for file in checkout.rglob("*.*"):
        os.utime(file, (2e9, 2e9), follow_symlinks=False)
    assert is_fresh(checkout)


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_new_content_is_installed_into_what_is_there(
    installed: tuple[ModuleType, Path], name: str
) -> None:
    installer, checkout = installed
    before = (checkout / name).stat()
    with (checkout / name).open("a") as file:
        file.write("# more\n")
    os.utime(checkout / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_fresh(checkout)
    assert installer.why_anew(installer.read_stamp(), False) is None


def test_a_killed_install_is_noticed_and_made_anew(installed: tuple[ModuleType, Path]) -> None:
    installer, checkout = installed
    installer.write_stamp({"complete": False})
    assert not is_fresh(checkout)
    assert "did not come to its end" in installer.why_anew(installer.read_stamp(), False)


def test_the_mark_of_an_unfinished_install_is_removed_last(
    installed: tuple[ModuleType, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it removes, an install must still look unfinished to the next."""
    installer, checkout = installed
    installer.write_stamp({"complete": False})
    removed: list[str] = []
    unlink, rmtree = Path.unlink, shutil.rmtree
    monkeypatch.setattr(Path, "unlink", lambda path: (removed.append(path.name), unlink(path)))
    monkeypatch.setattr(
        installer.shutil, "rmtree", lambda path: (removed.append(path.name), rmtree(path))
    )
    installer.remove_venv()
    assert len(removed) > 2
    assert removed[-1] == installer.STAMP.name
    assert not (checkout / ".venv").exists()


def test_a_folder_that_was_moved_gets_a_venv_of_its_own(
    installed: tuple[ModuleType, Path],
) -> None:
    _, checkout = installed
    moved = checkout.rename(checkout.with_name("moved"))
    assert not is_fresh(moved)
    installer = load(moved / "tools/install.py")
    assert str(checkout) in installer.why_anew(installer.read_stamp(), False)


def test_a_python_that_has_gone_is_replaced(installed: tuple[ModuleType, Path]) -> None:
    installer, checkout = installed
    for link in (checkout / ".venv/bin").glob("python*"):
        link.unlink()
    (checkout / ".venv/bin/python").symlink_to("/gone/python3")
    assert not is_fresh(checkout)
    assert "gone" in installer.why_anew(installer.read_stamp(), False)


def test_a_venv_made_by_hand_is_used_and_not_removed(installed: tuple[ModuleType, Path]) -> None:
    installer, _ = installed
    installer.STAMP.unlink()
    assert installer.why_anew(installer.read_stamp(), False) is None


def test_two_makes_take_turns(installed: tuple[ModuleType, Path]) -> None:
    _, checkout = installed
    with (checkout / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-I", "tools/install.py"],
            cwd=checkout,
            stdout=subprocess.PIPE,
            text=True,
        )
        with second:
            assert second.stdout is not None
            assert "waiting" in second.stdout.readline()
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = second.stdout.read()
    # The first has done it, so there is nothing left to say or do.
    assert (second.returncode, rest) == (0, "")


def test_an_update_that_fails_leaves_the_old_install_standing(
    installed: tuple[ModuleType, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installer, checkout = installed
    with (checkout / "requirements.lock").open("a") as file:
        file.write("# more\n")
    before = installer.read_stamp()

    def no_network(_: object) -> None:
        raise installer.TroubleError("no network")

    monkeypatch.setattr(installer, "install_packages", no_network)
    assert installer.main([]) == 1
    assert installer.read_stamp() == before
    assert installer.why_anew(before, False) is None


def test_uv_comes_with_the_locks_own_hashes(
    installed: tuple[ModuleType, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installer, _ = installed
    seen: list[str] = []

    def run(command: list[str], _: object, *, must: bool = True) -> bool:
        assert "--require-hashes" in command
        seen.append(Path(command[-1]).read_text())
        return True

    monkeypatch.setattr(installer, "run", run)
    assert installer.uv_is_pinned(None)
    assert re.match(r"uv==\d", seen[0])
    assert seen[0].count("--hash=sha256:") > 3
    assert len(re.findall(r"^\w", seen[0], re.MULTILINE)) == 1


# requirements.lock


def lock_blocks() -> dict[str, str]:
    """A requirement's lines by its name."""
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=\S)", re.sub(r"\A(#.*\n)+", "", text))
    assert len(blocks) > 100
    return {canonicalize_name(re.split(r"[=\[ ]", block)[0]): block for block in blocks}


def test_every_requirement_of_the_lock_is_pinned_and_hashed() -> None:
    for block in lock_blocks().values():
        first, *rest = block.strip().splitlines()
        assert re.fullmatch(r"[\w.\[\],-]+==\S+( ; [^\\]+)? \\", first)
        assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", rest[0])


def test_the_lock_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_the_lock_is_in_step_with_pyproject() -> None:
    """`make lock` mends it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        canonicalize_name(requirement.name): requirement
        for requirement in map(Requirement, [*project["dependencies"], *chain(*extras)])
    }
    blocks = lock_blocks()
    ours = {name for name, block in blocks.items() if "engine-room (pyproject.toml)" in block}
    assert ours == set(wanted)
    for name, requirement in wanted.items():
        pinned = re.search(r"==([^\s;]+)", blocks[name])
        assert pinned
        assert requirement.specifier.contains(pinned[1], prereleases=True), name


# What else stands in the root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("work/00_welcome.ipynb", True),
        (".venv/bin/python", True),
        (".venv.lock", True),
        (".env", True),
        ("engineroom/__pycache__/x.pyc", True),
        ("bench.json", True),
        ("notebooks/00_welcome.ipynb", False),
        ("engineroom/work/model.py", False),
        ("engineroom/build/model.py", False),
        ("requirements.lock", False),
    ],
)
def test_git_ignores_what_is_the_learners_or_the_machines(
    repository: Path, path: str, ignored: bool
) -> None:
    done = subprocess.run(
        ["git", "-C", repository, "check-ignore", "-q", "--no-index", path], check=False
    )
    assert (done.returncode == 0) is ignored


def test_no_file_names_a_host_of_a_package_index() -> None:
    # Spelt so that this file does not name them either.
    hosts = ["pypi" + ".org", "python" + "hosted", "deb." + "debian", "registry." + "npmjs"]
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    files = [path for name in listed if name and (path := ROOT / os.fsdecode(name)).is_file()]
    assert ROOT / "Makefile" in files
    named = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in files
        for host in hosts
        if host.encode() in path.read_bytes()
    ]
    assert not named


def test_jupyterlab_knows_every_setting_that_we_change() -> None:
    settings = json.loads((ROOT / "labconfig/default_setting_overrides.json").read_text())
    schemas = Path(sysconfig.get_path("data"), "share/jupyter/lab/schemas")
    for plugin, changed in settings.items():
        extension, _, name = plugin.rpartition(":")
        schema = json.loads((schemas / extension / f"{name}.json").read_text())
        # `enabled` of the extension manager is declared, like the rest, in its schema.
        assert set(changed) <= set(schema["properties"]), plugin


@pytest.mark.parametrize(("kind", "expected"), [("standard", True), ("editable", False)])
def test_a_wheel_brings_the_lessons_and_an_editable_install_uses_the_checkout(
    checkout: Path, kind: str, expected: bool
) -> None:
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "engineroom", checkout / "engineroom")
    (checkout / "notebooks").mkdir()
    (checkout / "notebooks/00_welcome.ipynb").write_text("{}")
    build = (
        "from hatchling.builders.wheel import WheelBuilder\n"
        f"list(WheelBuilder('.').build(directory='dist', versions=[{kind!r}]))"
    )
    subprocess.run([sys.executable, "-c", build], cwd=checkout, check=True)
    (wheel,) = (checkout / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert ("engineroom/_course/notebooks/00_welcome.ipynb" in names) is expected
    assert ("engineroom/cli/lab.py" in names) is expected
    assert ("engineroom/grading/templates/report.html" in names) is expected
    assert not any(name.startswith("tests/") for name in names)


def test_an_install_without_extras_brings_what_the_lessons_import() -> None:
    homes = metadata.packages_distributions()
    brought = installed_with("engine-room")
    sources = [*(ROOT / "solutions").glob("*.py"), *(ROOT / "checks").glob("*.py")]
    # In strings, too: cells write files, and answers are text.
    imported = {
        module
        for source in sources
        for module in re.findall(r"^\s*(?:from|import) (\w+)", source.read_text(), re.MULTILINE)
    }
    assert {"sqlmodel", "pytest_asyncio"} <= imported & set(homes)
    extra = {
        module
        for module in imported & set(homes)
        if not {canonicalize_name(home) for home in homes[module]} & brought
    }
    assert extra == {"boto3"}, "this one alone is missed with a sentence, and the lesson goes on"


def test_what_is_said_to_be_installed_by_name_is_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {
        found
        for folder in ("engineroom", "checks", "solutions", "docs", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".html"}
        for found in re.findall(r"pip install '([\w-]+)\[(\w+)\]", path.read_text())
    }
    assert said
    assert {name for name, _ in said} == {project["name"]}
    assert {extra for _, extra in said} <= set(project["optional-dependencies"])


def installed_with(name: str) -> set[str]:
    """What pip brings with a package, extras not asked for left out."""
    seen: set[tuple[str, str]] = set()
    ahead = [(name, "")]
    while ahead:
        name, extra = one = ahead.pop()
        if one in seen:
            continue
        seen.add(one)
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another system
            for line in metadata.requires(name) or ():
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    name_of_it = canonicalize_name(wanted.name)
                    ahead += [(name_of_it, asked) for asked in {"", *wanted.extras}]
    return {name for name, _ in seen}
