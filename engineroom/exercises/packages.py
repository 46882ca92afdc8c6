"""Made-up packages, and packages that seem not to be there: for checks, and for lessons too.

Nothing here installs anything. A package is written to a folder in the form that installers leave
behind, and one is hidden by showing Python the same folders without it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import socket
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# What stands in site-packages for a distribution, besides its dist-info folder.
_MODULES = {"psycopg": ("psycopg", "psycopg_binary", "psycopg_c", "psycopg_pool")}
# What looked for a package when it was imported, and has to look again.
_LOOKED = {"greenlet": ("sqlalchemy.ext.asyncio", "sqlalchemy.util.concurrency")}


def put(
    folder: str | Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    installer: str = "pip",
    module: str = "",
    module_says: str = "",
) -> list[str]:
    """Write a distribution as an installer leaves it; the files, relative to the folder.

    ``module`` is what one imports, and ``module_says`` its ``__version__``.
    """
    place = Path(folder)
    files = _files(name, version, requires, module, module_says)
    info = _info(name, version)
    files[f"{info}/INSTALLER"] = f"{installer}\n"
    listed = [*files, f"{info}/RECORD"]
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in listed)
    for file, text in files.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text, "utf-8")
    return listed


def put_conda(
    prefix: str | Path, site: str, name: str, version: str, *, record: str = "", **more: Any
) -> None:
    """The same as conda does it: the package in ``prefix/site``, and a record in ``conda-meta``.

    ``record`` is conda's own name for it, where that is another one.
    """
    files = put(Path(prefix) / site, name, version, **{"installer": "conda", **more})
    note_conda(prefix, record or name, version, [f"{site}/{file}" for file in files])


def note_conda(prefix: str | Path, name: str, version: str, files: Sequence[str]) -> None:
    """Conda's record of a package: which version it put here, and every file of it."""
    meta = Path(prefix) / "conda-meta"
    meta.mkdir(parents=True, exist_ok=True)
    told = {"name": name, "version": version, "build": "py_0", "files": list(files)}
    (meta / f"{name}-{version}-py_0.json").write_text(json.dumps(told, indent=2), "utf-8")


def make_wheel(folder: str | Path, name: str, version: str, **more: Any) -> Path:
    """A wheel of a made-up distribution, which pip can really install."""
    files = _files(name, version, more.get("requires", ()), more.get("module", ""), version)
    info = _info(name, version)
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: engineroom\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    path = Path(folder) / f"{_plain(name)}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _info(name: str, version: str) -> str:
    return f"{_plain(name)}-{version}.dist-info"


def _files(
    name: str, version: str, requires: Sequence[str], module: str, module_says: str
) -> dict[str, str]:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    extras = sorted({found for line in requires for found in _EXTRA.findall(line)})
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {line}" for line in requires]
    files = {f"{_info(name, version)}/METADATA": "\n".join(lines) + "\n"}
    if module:
        files[f"{module}.py"] = f"__version__ = {module_says or version!r}\n"
        files[f"{_info(name, version)}/top_level.txt"] = f"{module}\n"
    return files


_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@contextlib.contextmanager
def on_path(folder: str | Path) -> Iterator[None]:
    """Have Python look in this folder first, here and in processes that are started meanwhile."""
    before, inherited = list(sys.path), os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), inherited]))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
        os.environ.pop("PYTHONPATH")
        if inherited is not None:
            os.environ["PYTHONPATH"] = inherited


class Absences:
    """Distributions that can be hidden for a while, as if they were not installed.

    Python gets the same folders, as links, with those left out: no module of theirs is found, and
    no metadata, whoever looks for it and however.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._shadows = tempfile.TemporaryDirectory()
        self._path: list[str] = []
        self._left_out: dict[str, list[str]] = {name: [] for name in names}

    def __enter__(self) -> Absences:
        self._path = [self._shadow(entry) for entry in sys.path]
        return self

    def __exit__(self, *_: object) -> None:
        self._shadows.cleanup()

    @contextlib.contextmanager
    def hidden(self, *names: str) -> Iterator[None]:
        """Hide these; the others that could be hidden are there."""
        modules = {module for name in names for module in _modules_of(name)}
        looked = {module for name in names for module in _LOOKED.get(name, ())}
        before, shown = list(sys.path), tempfile.mkdtemp(dir=self._shadows.name)
        for name in set(self._names) - set(names):
            for file in self._left_out[name]:
                os.symlink(file, os.path.join(shown, os.path.basename(file)))
        with _forgotten(modules | looked):
            sys.path[:] = [*self._path, shown]
            importlib.invalidate_caches()
            try:
                yield
            finally:
                sys.path[:] = before
                importlib.invalidate_caches()

    def _shadow(self, entry: str) -> str:
        """A folder with links to what is in ``entry`` but these; itself, if none is in it."""
        try:
            inside = os.listdir(entry)
        except OSError:
            return entry
        owners = {module: name for name in self._names for module in _modules_of(name)}
        found = {file: owners.get(re.split(r"[-.]", file)[0].lower()) for file in inside}
        if not any(found.values()):
            return entry
        made = tempfile.mkdtemp(dir=self._shadows.name)
        for file, owner in found.items():
            if owner is None:
                os.symlink(os.path.join(entry, file), os.path.join(made, file))
            else:
                self._left_out[owner].append(os.path.join(entry, file))
        return made


def _modules_of(name: str) -> tuple[str, ...]:
    return _MODULES.get(name, (name,))


@contextlib.contextmanager
def _forgotten(names: set[str]) -> Iterator[None]:
    """As if these modules had never been imported; afterwards as before."""

    def is_one(module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in names)

    taken = {name: module for name, module in list(sys.modules.items()) if is_one(name)}
    parents = {
        name: sys.modules.get(name.rpartition(".")[0])
        for name in taken
        if not is_one(name.rpartition(".")[0])
    }
    for name in taken:
        del sys.modules[name]
    for name, parent in parents.items():
        vars(parent).pop(name.rpartition(".")[2], None) if parent else None
    try:
        yield
    finally:
        for name in [name for name in sys.modules if is_one(name)]:
            del sys.modules[name]
        sys.modules.update(taken)
        for name, parent in parents.items():
            if parent is not None:
                setattr(parent, name.rpartition(".")[2], taken[name])


class Doorbell:
    """A loopback port that hangs up on everybody at once, and counts who called."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._answering = threading.Thread(target=self._answer, daemon=True)
        self._counted = 0
        self.port = int(self._listening.getsockname()[1])

    def __enter__(self) -> Doorbell:
        self._answering.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def rung(self) -> int:
        """How many have called so far."""
        # Callers are answered in their turn, so when we have been, all before us were counted.
        with socket.create_connection(("127.0.0.1", self.port)) as ours:
            ours.recv(1)
        self._counted -= 1
        return self._counted

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                self._counted += 1
                caller.close()
