"""`engineroom lab`, from the first line in the terminal to the last process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from browser_helpers import chromium
from jupyter_helpers import LabCommand, copy_course
from lab_helpers import (
    IS_ROOT,
    PATIENCE,
    ROOT,
    Lab,
    eventually,
    forget_home,
    gone,
    kill_9,
    make_home,
    needs_linux,
    processes_of,
    run_folder,
    stop_all_of,
)

from engineroom.course import copy_lessons, work_folder

pytestmark = pytest.mark.slow

WELCOME = "00_welcome.ipynb"
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
NOBODY = 65534


@pytest.fixture
def course(home: Path) -> Path:
    return copy_course(home.parent / "course")


@pytest.fixture
def env(home: Path, lab_env: dict[str, str]) -> dict[str, str]:
    """A person whose own Jupyter files are elsewhere, and whose terminal is narrow."""
    person = home.parent / "person"
    person.mkdir()
    ours = {k: v for k, v in lab_env.items() if not k.startswith(("JUPYTER", "JPY_", "IPYTHON"))}
    return ours | {"HOME": str(person), "COLUMNS": "60"}


def nothing_runs(home: Path) -> bool:
    return not processes_of(home)


# -- starting ------------------------------------------------------------------------------


def test_start_prints_a_url_that_works_and_copies_the_lessons(
    course: Path, env: dict[str, str], home: Path
) -> None:
    with LabCommand(course, env, "--port", "0").ready() as lab:
        assert re.fullmatch(
            r"http://127\.0\.0\.1:\d+/lab/tree/00_welcome\.ipynb\?token=[\w-]{32}", lab.url
        )
        assert f"({len(LESSONS)} new)" in lab.said
        listed = [entry["name"] for entry in lab.api("GET", "contents")["content"]]
        assert sorted(listed) == LESSONS
        assert lab.status_without_token() == 403
        # The token is a key: other users of the machine may read everybody's arguments.
        for process in processes_of(home):
            with suppress(psutil.NoSuchProcess):  # one may just have ended
                assert lab.token not in " ".join(process.cmdline())
        assert lab.stop() == 0
    assert str(course / "work") in lab.said.splitlines()[-1]
    # All of it went to the lab's own places, not among the learner's files.
    assert not (Path(env["HOME"]) / ".jupyter/lab").exists()


def test_a_copy_is_the_learners_and_a_new_lesson_still_comes(
    course: Path, env: dict[str, str]
) -> None:
    mine = course / "work" / WELCOME
    with LabCommand(course, env).ready() as lab:
        lab.stop()
    notebook = json.loads(mine.read_text("utf-8"))
    notebook["cells"].append({"cell_type": "raw", "metadata": {}, "source": "mine", "id": "me"})
    mine.write_text(json.dumps(notebook), "utf-8")
    edited = mine.read_bytes()
    shutil.copy(course / "notebooks" / WELCOME, course / "notebooks" / "99_new.ipynb")
    with LabCommand(course, env).ready() as lab:
        assert "(1 new)" in lab.said
        lab.stop()
    assert mine.read_bytes() == edited
    assert sorted(p.name for p in mine.parent.glob("*.ipynb")) == [*LESSONS, "99_new.ipynb"]


def test_the_copy_keeps_predictions_open(course: Path) -> None:
    work = work_folder(course, course)
    copy_lessons(course, work)
    shipped, copied = (
        json.loads((folder / WELCOME).read_text("utf-8"))["cells"]
        for folder in (course / "notebooks", work)
    )
    assert [c["source"] for c in shipped] == [c["source"] for c in copied]
    predicted = [n for n, c in enumerate(shipped) if "predict" in c["metadata"].get("tags", [])]
    assert len(predicted) > 5
    for number, (before, after) in enumerate(zip(shipped, copied, strict=True)):
        if number in predicted:
            assert before["outputs"]
            assert after["outputs"] == []
        else:
            assert before == after


def test_a_terminal_in_jupyterlab_knows_engineroom(course: Path, env: dict[str, str]) -> None:
    # `make lab` activates nothing, and a login shell's profile sets a PATH of its own.
    scripts = str(Path(sys.executable).parent)
    path = [folder for folder in env["PATH"].split(os.pathsep) if folder != scripts]
    env |= {"PATH": os.pathsep.join(path), "SHELL": shutil.which("bash") or "/bin/sh"}
    with LabCommand(course, env).ready() as lab:
        assert (
            lab.in_terminal("engineroom --version", r"engineroom \d|not found").find("not found")
            < 0
        )
        assert lab.stop() == 0


def test_a_taken_port_is_one_sentence(course: Path, env: dict[str, str], home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with LabCommand(course, env, "--port", str(port)) as lab:
            assert lab.wait() == 1
    assert f"Port {port} is taken" in lab.said
    assert "Next: engineroom lab" in lab.said
    assert "Traceback" not in lab.said
    assert nothing_runs(home)


def test_another_address(course: Path, env: dict[str, str], home: Path) -> None:
    with LabCommand(course, env, "--ip", "203.0.113.1") as lab:
        assert lab.wait() == 1
    assert "cannot listen on 203.0.113.1" in lab.said
    assert "without --ip" in lab.said
    assert "Traceback" not in lab.said


def test_an_ipv6_address(course: Path, env: dict[str, str], home: Path) -> None:
    with LabCommand(course, env, "--ip", "::1") as lab:
        if socket.has_dualstack_ipv6():
            assert lab.ready().address.startswith("[::1]:")
            assert lab.stop() == 0
        else:
            assert lab.wait() == 1
            assert "cannot listen on ::1" in lab.said


def test_a_second_lab_takes_another_port_and_the_same_postgres(
    course: Path, env: dict[str, str], home: Path, lab: Lab
) -> None:
    with LabCommand(course, env).ready() as first, LabCommand(course, env).ready() as second:
        assert first.address != second.address
        assert first.postgres_port == second.postgres_port
        postmaster = lab.postmaster
        kernel = second.kernel()
        database = kernel.database()
        assert first.stop() == 0
        # The first took nothing away from the second.
        assert lab.postmasters == [postmaster]
        assert kernel.database() == database
        assert second.stop() == 0
    eventually(lambda: nothing_runs(home), "the last one has stopped all of it")


def test_two_labs_that_start_at_once(course: Path, env: dict[str, str], home: Path) -> None:
    # Both see the same port free, and one is late. An order that is for nobody to choose.
    with LabCommand(course, env) as first, LabCommand(course, env) as second:
        assert first.ready().address != second.ready().address
        assert first.stop() == 0
        assert second.stop() == 0
    eventually(lambda: nothing_runs(home), "the last one has stopped all of it")


# -- in the browser ------------------------------------------------------------------------


@contextmanager
def window(profile: Path) -> Iterator[Any]:
    """A page in a real browser, which has loopback and nothing else to talk to."""
    with chromium() as (kind, program):
        context = kind.launch_persistent_context(
            profile,
            executable_path=program,
            viewport={"width": 1280, "height": 900},
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        context.set_default_timeout(PATIENCE * 1000)
        try:
            yield context.pages[0]
        finally:
            context.close()


def outputs_of(notebook: Path) -> list[list[str]]:
    """What stands under each code cell, without the version's number."""

    def words(output: dict[str, Any]) -> str:
        text = output.get("text") or output.get("data", {}).get("text/plain") or str(output)
        return re.sub(r"PostgreSQL \d.*", "PostgreSQL", "".join(text)).strip()

    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [[words(o) for o in c["outputs"]] for c in cells if c["cell_type"] == "code"]


@pytest.mark.browser
def test_a_learner_runs_the_first_lesson(course: Path, env: dict[str, str], home: Path) -> None:
    mine = course / "work" / WELCOME
    expected = outputs_of(course / "notebooks" / WELCOME)
    with LabCommand(course, env).ready() as lab, window(home.parent / "browser") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(lab.url)
        page.locator("h1", has_text="Welcome aboard").wait_for()
        page.locator("img[alt^='A cell sends its query']").wait_for()

        # Nothing but the course: no window in the way, no menu of another program.
        page.locator(".jp-DirListing-item").first.wait_for()
        assert page.locator(".jp-DirListing-itemText").all_inner_texts() == LESSONS
        menus = page.locator(".lm-MenuBar-itemLabel").all_inner_texts()
        usual = ["File", "Edit", "View", "Run", "Kernel", "Tabs", "Settings", "Help"]
        assert [menu for menu in menus if menu] == usual
        assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0

        # What is run before the kernel is there, JupyterLab silently forgets.
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
        page.get_by_text("Run All Cells", exact=True).click()

        def ran() -> bool:
            page.keyboard.press("Control+s")
            page.wait_for_timeout(200)  # lets the browser work; what decides is the file
            try:
                cells = json.loads(mine.read_text("utf-8"))["cells"]
            except ValueError:  # just being written
                return False
            code = [cell for cell in cells if cell["cell_type"] == "code"]
            failed = [o for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
            assert not failed, failed
            return all(cell["execution_count"] for cell in code)

        # The kernel, the witness and the first checks start here, on a machine that may be slow.
        eventually(ran, "every cell has run, and the notebook is saved", 180)
        assert outputs_of(mine) == expected
        assert page.locator(".jp-OutputArea-output").count() > 0
        scheme_and_host = f"http://{lab.address}/"
        ours = (scheme_and_host, scheme_and_host.replace("http", "ws"), "data:", "blob:")
        foreign = [url for url in asked if not url.startswith((*ours, "attachment:"))]
        assert foreign == []
        assert lab.stop() == 0
    assert nothing_runs(home)


# -- ending --------------------------------------------------------------------------------


def test_signals_at_once_are_one_end(course: Path, env: dict[str, str], home: Path) -> None:
    with LabCommand(course, env).ready() as lab:
        for _ in range(50):  # in the command's own pace, so that some come between two steps
            for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                with suppress(ProcessLookupError):
                    os.kill(lab.pid, sign)
            time.sleep(0.001)
        assert lab.wait() == 0
        assert nothing_runs(home)
    assert "Traceback" not in lab.said
    assert "Stopped." in lab.said


def test_ctrl_c_ends_all_of_it_and_only_that(course: Path, env: dict[str, str], home: Path) -> None:
    other_home = make_home()
    try:
        other_env = env | {"ENGINEROOM_HOME": str(other_home)}
        with LabCommand(course, other_env).ready() as other:
            others_kernel = other.kernel()
            others_database = others_kernel.database()
            with LabCommand(course, env).ready() as lab:
                kernel = lab.kernel()
                assert kernel.database() != others_database
                pids = [p.pid for p in processes_of(home)]
                names = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)
                for part in ("jupyter_child", "ipykernel", "engineroom.lab.keeper", "postgres"):
                    assert part in names
                assert kernel.pid in pids
                assert lab.stop() == 0
                # All of it is gone when the command is, not some time later.
                assert [pid for pid in pids if not gone(pid)] == []
                assert nothing_runs(home)
            assert "Traceback" not in lab.said
            assert others_kernel.database() == others_database
            assert other.stop() == 0
        assert nothing_runs(other_home)
    finally:
        left = stop_all_of(other_home)
        forget_home(other_home)
        assert not left


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP], ids=["kill", "closed-terminal"])
def test_other_ways_to_end(
    course: Path, env: dict[str, str], home: Path, sign: signal.Signals
) -> None:
    with LabCommand(course, env).ready() as lab:
        lab.kernel().database()
        assert lab.stop(sign) == 0
    assert nothing_runs(home)


def test_ctrl_c_while_it_starts(course: Path, env: dict[str, str], home: Path) -> None:
    with LabCommand(course, env) as lab:
        lab.wait_for("starting JupyterLab")
        assert lab.stop() == 0
    assert "Traceback" not in lab.said
    assert nothing_runs(home)


def test_ctrl_c_while_jupyterlab_asks_another_program(
    course: Path, env: dict[str, str], home: Path
) -> None:
    """JupyterLab runs node while it starts, where there is one, and does not end it."""
    tools = home.parent / "tools"
    tools.mkdir()
    asked = tools / "asked"
    for name in ("node", "npm"):
        (tools / name).write_text(f"#!/bin/sh\n: > {asked}\nexec sleep 600\n")
        (tools / name).chmod(0o755)
    with LabCommand(course, env | {"PATH": f"{tools}:{env['PATH']}"}) as lab:
        eventually(asked.exists, "JupyterLab has asked node")
        assert lab.stop() == 0
        assert nothing_runs(home)
    assert "Traceback" not in lab.said


def test_shut_down_in_the_menu_is_no_trouble(course: Path, env: dict[str, str], home: Path) -> None:
    with LabCommand(course, env).ready() as lab:
        lab.kernel().database()
        lab.api("POST", "shutdown")
        assert lab.wait() == 0
    assert "Trouble" not in lab.said
    assert nothing_runs(home)


def test_kill_9_of_the_command(course: Path, env: dict[str, str], home: Path, lab: Lab) -> None:
    with LabCommand(course, env).ready() as command:
        command.kernel().database()
        command.kernel().database()
        kill_9(command.pid)
        eventually(lambda: nothing_runs(home), "JupyterLab, kernels and Postgres are gone")
    with LabCommand(course, env).ready() as command:
        assert lab.databases() == set()
        assert lab.roles() == set()
        database = command.kernel().database()
        assert lab.databases() == {database}
        assert command.stop() == 0
    assert nothing_runs(home)


def test_kill_9_of_a_kernel(course: Path, env: dict[str, str], lab: Lab) -> None:
    with LabCommand(course, env).ready() as command:
        doomed, other = command.kernel(), command.kernel()
        databases = {doomed.database(), other.database()}
        assert lab.databases() == databases
        kept = other.database()
        kill_9(doomed.pid)
        eventually(lambda: lab.databases() == {kept}, "the killed kernel's database is gone")
        assert other.database() == kept
        assert command.stop() == 0


# -- elsewhere -----------------------------------------------------------------------------


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def as_ordinary_user(*owned: Path) -> tuple[str, ...]:
    """The start of a command that root runs as somebody else, who owns these folders."""
    if not IS_ROOT:
        return ()
    other = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # Started twice: setpriv itself has root's rights until its program has begun.
    start = "import subprocess, sys; subprocess.check_call([sys.executable, '-c', 'import sys'])"
    if works(*other, sys.executable, "-c", start):
        for folder in owned:
            os.chown(folder, NOBODY, NOBODY)
        return other
    # Python or the checkout lies where only root may look. Here root's files stay root's, and
    # root itself is somebody else.
    other = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    if works(*other, sys.executable, "-c", start):
        return other
    pytest.skip(f"another account cannot read {sys.executable}, nor is there a user namespace")


@needs_linux
@pytest.mark.parametrize("persons_home", ["unset", "read-only"])
def test_an_ordinary_user(course: Path, env: dict[str, str], home: Path, persons_home: str) -> None:
    prefix = as_ordinary_user(home)
    course.chmod(0o555)
    if persons_home == "unset":
        del env["HOME"]
    else:
        Path(env["HOME"]).chmod(0o555)
    run = run_folder(home)
    try:
        with LabCommand(course, env, prefix=prefix).ready() as lab:
            assert f"Your copies  {home / 'work'}" in lab.said
            kernel = lab.kernel()
            assert kernel.run("import os; print(os.geteuid())") == str(os.geteuid() or NOBODY)
            assert kernel.database().startswith("er_")
            assert home.stat().st_mode & 0o077 == 0
            assert lab.stop() == 0
        assert "Traceback" not in lab.said
        assert nothing_runs(home)
    finally:
        course.chmod(0o755)
        if prefix:
            shutil.rmtree(run.with_name(run.name.replace("-0-", f"-{NOBODY}-")))


@needs_linux
def test_without_a_network(course: Path, env: dict[str, str], home: Path) -> None:
    bring_up = 'ip link set lo up && exec "$@"'
    prefix = ["unshare", "--net", "sh", "-c", bring_up, "sh"]
    if not IS_ROOT:
        back = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        prefix = ["unshare", "--map-root-user", *prefix[1:], *back]
    if not works(*prefix, "true"):
        pytest.skip("no network namespaces here: run the tests as root, with iproute2 installed")
    outside = (
        "import socket, sys\n"
        "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
        "except OSError as error: sys.exit(0 if error.errno == 101 else str(error))\n"
        "sys.exit('there is a network')"
    )
    assert works(*prefix, sys.executable, "-c", outside)
    done = subprocess.run(
        [*prefix, sys.executable, str(ROOT / "tests/jupyter_helpers.py"), str(course)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(told["lessons"]) == LESSONS
    assert told["database"].startswith("er_")
    assert told["code"] == 0
    assert nothing_runs(home)
