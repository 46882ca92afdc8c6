"""01 install: what each package is for."""

import sys
from collections.abc import AsyncIterator, Iterable
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from engineroom.exercises import Draw, Lesson, Objective, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "install",
    "What each package is for",
    minutes=35,
    stuck="Run `engineroom doctor`, and read its line about packages word by word.",
    further="Tell conda's packages from pip's, where both have worked in one environment.",
    objectives=(
        Objective(
            "install.read",
            "Read which packages an environment has, and who put them there",
            "apply",
            "A2",
            "Async engines",
        ),
        Objective(
            "install.extras",
            "Say what an extra brings, and who asks for greenlet",
            "analyze",
            "B1",
            "Async engines",
        ),
        Objective(
            "install.diagnose",
            "Name what a URL's engine lacks, without connecting",
            "analyze",
            "B1",
            "Async engines",
        ),
        Objective(
            "install.versions",
            "Tell whether an environment meets what a project asks for",
            "apply",
            "B1",
            "Async engines",
        ),
    ),
    codes={
        "INST-01": "What one installs and what one imports have names of their own: "
        "`python-dotenv` brings a module `dotenv`. A version that a module states itself is a "
        "line in its code. Ask `importlib.metadata.version`.",
        "INST-02": "`importlib.metadata.version` raises `PackageNotFoundError` for what is not "
        "installed. Catch it: here, None is the answer.",
        "INST-03": "In a package's name `-`, `_` and `.` mean the same, and so do upper and lower "
        "case. Try `version('Python.DotEnv')`. Whoever compares names as text has to bring them "
        "into one form first: `packaging.utils.canonicalize_name`.",
        "INST-04": "The check puts packages of its own on Python's path and asks for them. Look "
        "at the environment when your function is called, and not at a list that was made before.",
        "INST-05": "The answer is a dictionary with an entry for each name that was asked for, "
        "spelt as it was asked.",
        "INST-11": "`requires()` lists every requirement: those that always hold, and those of "
        "every extra. What an extra *adds* holds with it and does not hold without it.",
        "INST-12": "`greenlet>=1; extra == 'asyncio'` is a requirement: a name, which versions "
        "will do, and when. `packaging.requirements.Requirement(line).name` is the name.",
        "INST-13": "A line may be meant for another system or another Python: that stands in its "
        "marker, beside the extra. `Requirement(line).marker.evaluate({'extra': extra})` looks at "
        "all of it.",
        "INST-14": "Print `requires(dist)` and go through it line by line: for which extra, and "
        "on which system, does each one hold? A package may also ask for nothing at all; then "
        "`requires()` is None.",
        "INST-21": "As text, '0.9.30' comes after '0.10', because 9 comes after 1. Compare "
        "`packaging.version.Version`, or ask `Requirement(line).specifier.contains(found)`.",
        "INST-22": "What is not installed meets no requirement: it belongs into the answer.",
        "INST-23": "A line whose marker does not hold here asks nothing of this environment. "
        "`Requirement(line).marker` is None or has an `evaluate()`.",
        "INST-24": "Take the line apart with `Requirement`, and compare its `specifier` with what "
        "`importlib.metadata.version` finds. Too new is unmet, too.",
        "INST-31": "An async engine needs two things: its driver, and greenlet. SQLAlchemy 2.0 "
        "brought greenlet along; 2.1 brings it with `sqlalchemy[asyncio]`. Hide it and import "
        "`sqlalchemy.ext.asyncio`.",
        "INST-32": "Whether a driver is there can be told without calling the server, which may "
        "be down, or slow, or far away. `importlib.util.find_spec` looks and imports nothing.",
        "INST-33": "Some URLs no package can help: `postgresql+psycopg2://` and `sqlite://` name "
        "drivers that block, and `postgresql+aiopg://` names one that SQLAlchemy does not have. "
        "Here the URL has to change, so raise a `ValueError`.",
        "INST-34": "In SQLAlchemy 2.1 a bare `postgresql://` means psycopg 3, which is async too. "
        "See `make_url('postgresql://').get_dialect().driver`.",
        "INST-35": "The package was hidden while your function ran. Look when you are called: "
        "`importlib.util.find_spec(name) is None`.",
        "INST-36": "Only what is missing, as pip would take it, and nothing that is there "
        "already: `asyncpg`, `psycopg[binary]`, `aiosqlite`, `greenlet` or `sqlalchemy[asyncio]`. "
        "What nobody has imported yet is not in `sys.modules`, and may be installed all the same.",
        "INST-41": "Conda's record stays when somebody writes over the package, so it may be about "
        "a version that is gone. Compare the *files* in the record with the folder that you found.",
        "INST-42": "Conda's own recipes use pip, and not all of them change the word in "
        "`INSTALLER`. What is conda's is in conda's records, file by file.",
        "INST-43": "`INSTALLER` is a text file and ends with a line break: `.strip()`.",
        "INST-44": "Find each distribution below the folder, as "
        "`importlib.metadata.distributions(path=[...])` does, and look for its files in "
        "`conda-meta/*.json`.",
    },
)


def _brand(draw: Draw) -> str:
    """A distribution's name that nobody has."""
    return f"{draw.word(5).title()}-{draw.word(5)}"


def _version(draw: Draw) -> str:
    return ".".join(str(draw.randint(2, 40)) for _ in range(3))


def _same_name(name: str, other: Any) -> bool:
    return isinstance(other, str) and canonicalize_name(name) == canonicalize_name(other)


def _names(found: Any) -> list[str] | None:
    """The texts in an answer, whatever it holds them in."""
    good = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return found if good else None


# -- installed -----------------------------------------------------------------------------


async def ask_versions(installed: Any, packages: Any, names: Any) -> AsyncIterator[Any]:
    """Ask for versions, and again when a few packages have come that nobody else has."""
    import tempfile
    from collections.abc import Mapping

    from engineroom.exercises.packages import on_path, put

    with tempfile.TemporaryDirectory() as folder:
        for package in packages:
            put(folder, **package)
        installed(list(names))
        with on_path(folder):
            found = installed(names)
        yield dict(found) if isinstance(found, Mapping) else None
        yield names


@lesson.exercise(
    "installed",
    points=1,
    needs=(),
    measures=("install.read",),
    task="Write `installed(names)`: for each distribution in `names` the version that is "
    "installed here, or None; as a dictionary.",
    hints=(
        "Who reads what pip wrote down?",
        "`importlib.metadata.version(name)` gives a version, or raises.",
        "For each name: `try: ... version(name)`, `except PackageNotFoundError: ... None`",
    ),
    slips=(
        Slip(
            "imports",
            "INST-01",
            "You looked for a module of that name: what one installs has a name of its own, and "
            "the metadata knows it.",
            (
                """
                import importlib
                def installed(names):
                    found = {}
                    for name in names:
                        try:
                            found[name] = importlib.import_module(name).__version__
                        except ImportError:
                            found[name] = None
                    return found
                """,
                """
                def installed(names):
                    return {name: __import__(name.replace('-', '_')).__version__
                            for name in names}
                """,
            ),
        ),
        Slip(
            "raises",
            "INST-02",
            "A package that is not there ended your function: here it is an answer, None.",
            (
                """
                from importlib.metadata import version
                def installed(names):
                    return {name: version(name) for name in names}
                """,
                """
                from importlib import metadata
                class Versions(dict):
                    def __init__(self, names):
                        for name in names:
                            self[name] = metadata.distribution(name).version
                installed = Versions
                """,
            ),
        ),
        Slip(
            "spelling",
            "INST-03",
            "You missed a package that was asked for in another spelling: `-`, `_` and `.` are "
            "one to pip, and so are upper and lower case.",
            (
                """
                from importlib.metadata import distributions
                def installed(names):
                    here = {d.metadata['Name']: d.version for d in distributions()}
                    return {name: here.get(name) for name in names}
                """,
                """
                from importlib.metadata import distributions
                def installed(names):
                    here = {d.name.lower(): d.version for d in distributions()}
                    return {name: here.get(name.lower()) for name in names}
                """,
            ),
        ),
        Slip(
            "listed",
            "INST-04",
            "These are not the versions that are installed here.",
            (
                """
                KNOWN = {'sqlmodel': '0.0.22', 'sqlalchemy': '2.0.35', 'asyncpg': '0.29.0',
                         'alembic': '1.13.1', 'greenlet': '3.0.3'}
                def installed(names):
                    return {name: KNOWN.get(name) for name in names}
                """,
                """
                from importlib.metadata import version
                HERE = {name: version(name) for name in ('sqlalchemy', 'asyncpg', 'greenlet')}
                installed = lambda names: dict.fromkeys(names) | {
                    name: HERE[name] for name in names if name in HERE}
                """,
            ),
        ),
    ),
    right=(
        """
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = {}
            for name in names:
                try:
                    found[name] = version(name)
                except PackageNotFoundError:
                    found[name] = None
            return found
        """,
        """
        from importlib.metadata import distributions
        installed = lambda names: {
            name: next((d.version for d in distributions(name=name)), None) for name in names}
        """,
        """
        import re
        from importlib import metadata
        class Environment:
            @staticmethod
            def key(name):
                return re.sub(r'[-_.]+', '-', name).lower()
            def __call__(self, names):
                here = {}
                for d in metadata.distributions():
                    here.setdefault(self.key(d.metadata['Name']), d.metadata['Version'])
                return {name: here.get(self.key(name)) for name in names}
        installed = Environment()
        """,
        """
        from contextlib import suppress
        from functools import partial
        from importlib.metadata import PackageNotFoundError, distribution
        def build(kind, names):
            found = kind((name, None) for name in names)
            for name in found:
                with suppress(PackageNotFoundError):
                    found[name] = distribution(name).version
            return found
        from collections import OrderedDict
        installed = partial(build, OrderedDict)
        """,
    ),
)
async def installed(trial: Trial) -> None:
    there, wanted, special = _shelf(trial.draw)
    plain, spelt, absent, module = special
    names = sorted(trial.draw.sample(list(wanted), len(wanted)), key=absent.__ne__)
    asked = trial.subject.steps(ask_versions, there, names)  # the absent one first
    got = _mapping(await asked.outcome())
    expect(set(got) == set(wanted), "INST-05", "Not each name that was asked for has its entry.")
    gave = f"For a package that is not here you gave {got[absent]!r}; None was asked for."
    expect(got[absent] is None, "INST-02", gave)
    expect(got[module] is None, "INST-01")
    expect(got[plain] == wanted[plain], "INST-04", "" if got[plain] else _REMEMBERED)
    all_else = got["greenlet"] == wanted["greenlet"]
    expect(got[spelt] == wanted[spelt], "INST-03" if all_else else "INST-04")
    expect(got["alembic"] == wanted["alembic"], "INST-04", _SHADOWED)
    expect(got == wanted, "INST-04")
    expect(sorted(await asked.next()) == sorted(names), "INST-05", _TAKEN)


def _shelf(draw: Draw) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Packages to come, the right answer, and the names in it that tell one mistake from another:
    a plain one, one in another spelling, one that is absent, and a module's."""
    plain, absent, module = _brand(draw), _brand(draw), draw.word()
    dotted = f"{_brand(draw)}-{draw.word(4)}"
    there: list[dict[str, Any]] = [
        {"name": name, "version": _version(draw)} for name in (plain, dotted, "alembic")
    ]
    there[0] |= {"module": module, "module_says": f"0.{draw.randint(1, 9)}"}
    spelt = dotted.replace("-", ".", 1).replace("-", "_").upper()
    versions = [package["version"] for package in there]
    wanted: dict[str, Any] = dict(zip((plain, spelt, "alembic"), versions, strict=True))
    wanted |= {absent: None, module: None, "greenlet": metadata.version("greenlet")}
    return there, wanted, [plain, spelt, absent, module]


_TAKEN = "The list that you were given is another one now; its owner may still need it."
_REMEMBERED = "A package came a moment ago, and you did not find it: look whenever you are called."
_SHADOWED = (
    "There is an alembic in two folders of Python's path. The first one counts, as for `import`; "
    "you gave the version of the other."
)


def _mapping(read: Any) -> dict[str, Any]:
    """The dictionary that came; what was raised because a package is absent is a slip."""
    if read.failure is not None:
        expect(read.failure.type != "PackageNotFoundError", "INST-02")
        expect(read.failure.type != "ModuleNotFoundError" or not read.failure.line, "INST-01")
        raise SubjectFailed(read.failure)
    expect(isinstance(read.value, dict), "INST-05", "A dictionary of texts was asked for.")
    found: dict[str, Any] = read.value
    return found


# -- adds ----------------------------------------------------------------------------------


async def ask_extras(adds: Any, packages: Any, asked: Any) -> AsyncIterator[Any]:
    """Have a few packages with extras, and ask what the extras add."""
    import tempfile

    from engineroom.exercises.packages import on_path, put

    with tempfile.TemporaryDirectory() as folder, on_path(folder):
        for package in packages:
            put(folder, **package)
        for dist, extra in asked:
            found = adds(dist, extra)
            yield None if isinstance(found, str) or found is None else list(found)


@lesson.exercise(
    "adds",
    points=2,
    needs=(),
    measures=("install.extras",),
    task="Write `adds(dist, extra)`: the names of the distributions that the installed `dist` asks "
    "for with this extra, on this system, and does not ask for without it; as a set.",
    hints=(
        "Where does a distribution write down what it asks for, and when?",
        "`importlib.metadata.requires(dist)` gives lines; `Requirement` of `packaging` reads one.",
        (
            "A line counts if its `marker` is there, `marker.evaluate({'extra': extra})` holds, "
            "and `marker.evaluate({'extra': ''})` does not."
        ),
    ),
    slips=(
        Slip(
            "all",
            "INST-11",
            "You listed what it asks for anyway, extra or not.",
            (
                """
                from importlib.metadata import requires
                from packaging.requirements import Requirement
                def adds(dist, extra):
                    lines = [Requirement(line) for line in requires(dist) or ()]
                    return {r.name for r in lines
                            if r.marker is None or r.marker.evaluate({'extra': extra})}
                """,
                """
                import re
                from importlib.metadata import requires
                def adds(dist, extra):
                    return {re.match(r'[\\w.-]+', line)[0] for line in requires(dist) or ()}
                """,
            ),
        ),
        Slip(
            "versions",
            "INST-12",
            "A requirement says which versions will do and when; only its name was asked for.",
            (
                """
                from importlib.metadata import requires
                from packaging.requirements import Requirement
                def adds(dist, extra):
                    lines = [Requirement(line) for line in requires(dist) or ()]
                    return {str(r) for r in lines if r.marker
                            and r.marker.evaluate({'extra': extra})
                            and not r.marker.evaluate({'extra': ''})}
                """,
                """
                import re
                from importlib.metadata import requires
                def adds(dist, extra):
                    quoted = re.compile('extra == ["\\']' + re.escape(extra) + '["\\']')
                    return {line.split(';')[0].strip() for line in requires(dist) or ()
                            if quoted.search(line)}
                """,
            ),
        ),
        Slip(
            "platform",
            "INST-13",
            "You listed what is meant for another system, or another Python.",
            (
                """
                from importlib.metadata import requires
                from packaging.requirements import Requirement
                def adds(dist, extra):
                    lines = [Requirement(line) for line in requires(dist) or ()]
                    return {r.name for r in lines if f'extra == "{extra}"' in str(r.marker)}
                """,
                """
                import re
                from importlib.metadata import requires
                def adds(dist, extra):
                    found = set()
                    for line in requires(dist) or ():
                        name, _, marker = line.partition(';')
                        if re.search('extra == ["\\']' + re.escape(extra) + '["\\']', marker):
                            found.add(re.match(r'[A-Za-z0-9._-]+', name)[0])
                    return found
                """,
            ),
        ),
    ),
    right=(
        """
        from importlib.metadata import requires
        from packaging.requirements import Requirement
        def adds(dist, extra):
            found = set()
            for line in requires(dist) or []:
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate({'extra': ''}):
                    continue
                if wanted.marker.evaluate({'extra': extra}):
                    found.add(wanted.name)
            return found
        """,
        """
        from importlib.metadata import distribution
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name
        def active(dist, extra):
            return {canonicalize_name(r.name)
                    for r in map(Requirement, distribution(dist).requires or ())
                    if not r.marker or r.marker.evaluate({'extra': extra})}
        adds = lambda dist, extra: sorted(active(dist, extra) - active(dist, ''))
        """,
        """
        import importlib.metadata
        from packaging.requirements import Requirement
        class Extras:
            def __init__(self, dist):
                lines = importlib.metadata.metadata(dist).get_all('Requires-Dist', [])
                self.lines = [Requirement(line) for line in lines]
            def of(self, extra):
                return frozenset(r.name.lower() for r in self.lines
                                 if r.marker and 'extra' in str(r.marker)
                                 and r.marker.evaluate({'extra': extra}))
        def adds(dist, extra):
            return Extras(dist).of(extra)
        """,
    ),
)
async def adds(trial: Trial) -> None:
    extra, other, names = trial.draw.word(), trial.draw.word(), _parts(trial.draw)
    dist, bare = _brand(trial.draw), _brand(trial.draw)
    there = [
        {"name": dist, "version": "1.0", "requires": _requires(trial.draw, names, extra, other)},
        {"name": bare, "version": "1.0"},
        {"name": names["extra"][1], "version": "2.0", "requires": names["deeper"]},
    ]
    asked = [(dist, extra), (dist, other), (bare, extra), ("sqlalchemy", "asyncio")]
    wanted = [names["extra"] + names["both"], names["other"] + names["both"], [], ["greenlet"]]
    steps = trial.subject.steps(ask_extras, there, asked)
    for names_wanted in wanted:
        found = _names(await steps.next())
        expect(found is not None, "INST-14", "A set of names was asked for.")
        expect(all(_is_name(name) for name in found or ()), "INST-12")
        got = {canonicalize_name(name) for name in found or ()}
        expect(not got & _forms(names["always"]), "INST-11")
        expect(not got & _forms(names["foreign"]), "INST-13")
        expect(not got & _forms(names["deeper"]), "INST-14", _DEEPER)
        expect(got == _forms(names_wanted), "INST-14", "It adds other names than those you gave.")


_DEEPER = "You went on to what the added packages ask for; only its own lines count."


def _parts(draw: Draw) -> dict[str, list[str]]:
    """Names for every kind of line, in the spellings that one meets."""
    return {
        "always": [draw.word(), f"{draw.word(4).title()}_{draw.word(4)}"],
        "extra": [f"{draw.word(5).title()}_{draw.word(4)}.{draw.word(3).title()}", draw.word()],
        "other": [draw.word()],
        "both": [draw.word()],
        "foreign": [draw.word(), draw.word()],
        "deeper": [draw.word()],
    }


def _requires(draw: Draw, names: dict[str, list[str]], extra: str, other: str) -> list[str]:
    """The lines as build tools write them: either quotes, any order, all kinds of markers."""
    (always, modern), (first, second) = names["always"], names["extra"]
    (rare,), (both,), (system, old) = names["other"], names["both"], names["foreign"]
    lines = [
        f"{always}<9,>=1.{draw.randint(0, 9)}",
        f'{modern}; python_version >= "3.8"',
        f'{first}[{draw.word(4)}]>=2; extra == "{extra}"',
        f'{second}!=1.3; python_version >= "3.8" and extra == "{extra}"',
        f'{both}; extra == "{extra}" or extra == "{other}"',
        f'{system}>=1; sys_platform == "win32" and extra == "{extra}"',
        f'{old}; python_version < "3.4" and extra == "{extra}"',
        f'{rare}~=4.2; extra == "{other}"',
    ]
    draw.shuffle(lines)
    return [line.replace('"', "'") if draw.random() < 0.5 else line for line in lines]


def _is_name(text: str) -> bool:
    return all(sign.isalnum() or sign in "-_." for sign in text)


def _forms(names: Iterable[str]) -> set[str]:
    return {canonicalize_name(name) for name in names}


# -- unmet ---------------------------------------------------------------------------------


async def ask_unmet(unmet: Any, packages: Any, lines: Any) -> AsyncIterator[Any]:
    """Have a few packages, and ask which requirements they do not meet."""
    import tempfile

    from engineroom.exercises.packages import on_path, put

    with tempfile.TemporaryDirectory() as folder, on_path(folder):
        for package in packages:
            put(folder, **package)
        found = unmet(given := list(lines))
        yield None if isinstance(found, str) or found is None else [str(line) for line in found]
        yield sorted(given) == sorted(lines)


@lesson.exercise(
    "unmet",
    points=2,
    needs=(),
    measures=("install.versions",),
    task="Write `unmet(lines)`: those of the requirement lines that this environment does not "
    "meet, because the package is absent, too old or too new. A line for another system asks for "
    "nothing here.",
    hints=(
        "Is 0.9.30 older than 0.10? And to Python, as text?",
        "`Requirement` of `packaging` reads a line: `name`, `specifier`, `marker`.",
        (
            "Skip it if `marker` does not hold; it is unmet if `version(name)` raises "
            "PackageNotFoundError, or if `specifier.contains(version(name))` is false."
        ),
    ),
    slips=(
        Slip(
            "as_text",
            "INST-21",
            "You compared versions as text, where 9 comes after 10.",
            (
                """
                import operator, re
                from importlib.metadata import PackageNotFoundError, version
                from packaging.requirements import Requirement
                SIGNS = {'>=': operator.ge, '<': operator.lt, '==': operator.eq,
                         '!=': operator.ne, '~=': operator.ge, '>': operator.gt}
                def unmet(lines):
                    found = []
                    for line in lines:
                        r = Requirement(line)
                        if r.marker and not r.marker.evaluate():
                            continue
                        try:
                            here = version(r.name)
                        except PackageNotFoundError:
                            found.append(line)
                            continue
                        if not all(SIGNS[s.operator](here, s.version) for s in r.specifier):
                            found.append(line)
                    return found
                """,
                """
                from importlib.metadata import distributions
                from packaging.requirements import Requirement
                def met(r):
                    if r.marker and not r.marker.evaluate(): return True
                    here = next((d.version for d in distributions(name=r.name)), None)
                    if here is None: return False
                    here = here.split('.')
                    for s in r.specifier:
                        bound = s.version.split('.')
                        if s.operator in ('>=', '~=') and here < bound: return False
                        if s.operator == '<' and here >= bound: return False
                    return True
                unmet = lambda lines: [l for l in lines if not met(Requirement(l))]
                """,
            ),
        ),
        Slip(
            "absent",
            "INST-22",
            "A package that is not there at all went through, or ended your function.",
            (
                """
                from importlib.metadata import version
                from packaging.requirements import Requirement
                def unmet(lines):
                    wanted = [(line, Requirement(line)) for line in lines]
                    return [line for line, r in wanted
                            if (r.marker is None or r.marker.evaluate())
                            and not r.specifier.contains(version(r.name))]
                """,
                """
                from importlib.metadata import distributions
                from packaging.requirements import Requirement
                def unmet(lines):
                    found = []
                    for line in lines:
                        r = Requirement(line)
                        for d in distributions(name=r.name):
                            if not r.specifier.contains(d.version):
                                found.append(line)
                    return found
                """,
            ),
        ),
        Slip(
            "foreign",
            "INST-23",
            "You asked this environment for what another system needs.",
            (
                """
                from importlib.metadata import PackageNotFoundError, version
                from packaging.requirements import Requirement
                def unmet(lines):
                    found = []
                    for line in lines:
                        r = Requirement(line)
                        try:
                            good = version(r.name) in r.specifier
                        except PackageNotFoundError:
                            good = False
                        if not good:
                            found.append(line)
                    return found
                """,
                """
                from importlib.metadata import distributions
                from packaging.requirements import Requirement
                from packaging.utils import canonicalize_name as key
                def unmet(lines):
                    here = {}
                    for d in distributions():
                        here.setdefault(key(d.metadata['Name']), d.version)
                    return {l for l in lines if key(Requirement(l).name) not in here
                            or here[key(Requirement(l).name)] not in Requirement(l).specifier}
                """,
            ),
        ),
    ),
    right=(
        """
        from importlib.metadata import PackageNotFoundError, version
        from packaging.requirements import Requirement
        def unmet(lines):
            found = []
            for line in lines:
                wanted = Requirement(line)
                if wanted.marker is not None and not wanted.marker.evaluate():
                    continue
                try:
                    good = wanted.specifier.contains(version(wanted.name))
                except PackageNotFoundError:
                    good = False
                if not good:
                    found.append(line)
            return found
        """,
        """
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def met(r):
            return any(d.version in r.specifier for d in distributions(name=r.name))
        def unmet(lines):
            asked = {Requirement(line) for line in lines}
            return {r for r in asked if not (r.marker and not r.marker.evaluate()) and not met(r)}
        """,
        """
        from functools import partial
        from importlib import metadata
        from packaging.markers import default_environment
        from packaging.requirements import Requirement
        from packaging.version import Version
        class Line:
            def __init__(self, text):
                self.text, self.asks = text, Requirement(text)
            def holds(self, where):
                if self.asks.marker and not self.asks.marker.evaluate(where):
                    return True
                try:
                    return Version(metadata.version(self.asks.name)) in self.asks.specifier
                except metadata.PackageNotFoundError:
                    return False
        def look(where, lines):
            return tuple(line.text for line in map(Line, lines) if not line.holds(where))
        unmet = partial(look, default_environment())
        """,
    ),
)
async def unmet(trial: Trial) -> None:
    there, lines, wanted = _project(trial.draw)
    asked = trial.draw.sample(sorted(lines.values()), len(lines))
    steps = trial.subject.steps(ask_unmet, there, asked)
    read = await steps.outcome()
    if read.failure is not None:
        expect(read.failure.type != "PackageNotFoundError", "INST-22")
        raise SubjectFailed(read.failure)
    found = _names(read.value)
    expect(found is not None, "INST-24", "A list of lines was asked for.")
    _are_lines(found or [], asked)
    got = {kind for kind, line in lines.items() if any(_same_line(line, f) for f in found or ())}
    expect("absent" in got, "INST-22")
    expect(not {"foreign", "for an old Python"} & got, "INST-23")
    holds = f"The marker of this line holds here, so it asks like any other: {lines['held']}"
    expect("held" in got, "INST-23", holds)
    wrong = sorted(got ^ wanted)
    expect(not {"as text too old", "as text new enough"} <= set(wrong), "INST-21")
    expect(not wrong, "INST-24", f"Look at this line once more: {lines.get((*wrong, '')[0])}")
    expect(len(found or ()) == len(wanted), "INST-24", "You gave more than those lines.")
    expect(await steps.next(), "INST-24", _TAKEN)


_EXTRA = "asyncio"


def _project(draw: Draw) -> tuple[list[dict[str, Any]], dict[str, str], set[str]]:
    """What is installed, a line of each kind, and which kinds are unmet."""
    major, low = draw.randint(1, 5), draw.randint(4, 9)
    here = {
        "as text too old": (f"{major}.{draw.randint(10, 39)}.1", f">={major}.{low}"),
        "as text new enough": (f"{major}.{low}.3", f">={major}.{draw.randint(10, 39)}"),
        "too new": (f"{major + 1}.0.2", f">={major}.1,<{major + 1}"),
        "compatible": (f"{major}.{low}.7", f"~={major}.{low}.{draw.randint(0, 6)}"),
        "not compatible": (f"{major}.{low + 1}.0", f"~={major}.{low}.1"),
        "any": (f"{major}.{low}", ""),
        "exactly": (f"{major}.{low}", f"=={major}.{low}.0"),
        "with an extra": (f"{major}.{low}.9", f"[{_EXTRA}]>={major}.{low}"),
        "held": (f"{major}.{low}.2", f'>={major + 1}; python_version >= "3.8"'),
    }
    names = {kind: _brand(draw) for kind in (*here, "absent", "foreign", "for an old Python")}
    there: list[dict[str, Any]] = [
        {"name": names[kind].lower(), "version": version} for kind, (version, _) in here.items()
    ]
    there[list(here).index("with an extra")]["requires"] = [f'greenlet; extra == "{_EXTRA}"']
    lines = {kind: f"{names[kind]}{asked}" for kind, (_, asked) in here.items()}
    lines["absent"] = f"{names['absent'].replace('-', '_')}>={major}"
    lines["foreign"] = f'{names["foreign"]}>={major}; sys_platform == "win32"'
    old = names["for an old Python"]
    lines["for an old Python"] = f'{old}>={major}; python_version < "3.4"'
    lines["one more, met"] = f"{names['as text new enough']}<{major + 1}"  # two lines, one package
    lines["one more, not met"] = f"{names['too new']}!={major + 1}.0.2"
    wanted = {"as text new enough", "too new", "one more, not met", "not compatible", "absent"}
    return there, lines, wanted | {"held"}


def _are_lines(found: list[str], asked: list[str]) -> None:
    for text in found:
        other = f"A line was asked for, as it stands; you gave {text[:60]!r}."
        expect(any(_same_line(line, text) for line in asked), "INST-24", other)


def _same_line(line: str, found: str) -> bool:
    """Whether this asks for the same as that line, in whatever spelling."""
    try:
        return Requirement(line) == Requirement(found)
    except InvalidRequirement:
        return False


# -- missing -------------------------------------------------------------------------------


async def ask_missing(missing_for: Any, plan: Any) -> AsyncIterator[Any]:
    """Hide packages, ask what a URL lacks, and count who calls where the URLs lead."""
    import sys

    from engineroom.exercises.packages import Absences, Doorbell

    with Doorbell() as bell, Absences("asyncpg", "psycopg", "aiosqlite", "greenlet") as absences:
        for scheme, names in plan:
            server = f"desk@127.0.0.1:{bell.port}/no_more_psycopg2"
            place = "/no_more_asyncpg.db" if "sqlite" in scheme else server
            with absences.hidden(*names):
                imported = sys.modules.pop("aiosqlite", None)  # here, and nobody has asked yet
                try:
                    found = missing_for(f"{scheme}://{place}")
                except ValueError:
                    found = "ValueError"
                finally:
                    if imported is not None:
                        sys.modules["aiosqlite"] = imported
            listed = found is None or isinstance(found, str)
            yield [bell.rung(), found if listed else [str(line) for line in found]]


_NEEDS = {
    "postgresql+asyncpg": "asyncpg",
    "postgresql+psycopg": "psycopg",
    "postgresql": "psycopg",
    "sqlite+aiosqlite": "aiosqlite",
}
_DRIVERS = ("asyncpg", "psycopg", "aiosqlite")


@lesson.exercise(
    "missing_for",
    points=3,
    needs=(),
    measures=("install.diagnose",),
    task="Write `missing_for(url)`: what to pip-install, as a list, before this URL can serve an "
    "async engine in this Python; without connecting. Where no package helps, raise a ValueError.",
    hints=(
        "Two things have to be there. Which is the one that no URL names?",
        "`make_url(url).get_dialect().driver` names the driver; `find_spec` looks for a module.",
        (
            "Of the driver and `greenlet`, those for which `importlib.util.find_spec(name)` is "
            "None. A driver that is not one of the three async ones: ValueError."
        ),
    ),
    slips=(
        Slip(
            "no_greenlet",
            "INST-31",
            "Greenlet was not here, and you did not say so: SQLAlchemy 2.1 cannot be async "
            "without it.",
            (
                """
                from importlib.util import find_spec
                def missing_for(url):
                    drivers = {'postgresql+asyncpg': 'asyncpg', 'postgresql+psycopg': 'psycopg',
                               'postgresql': 'psycopg', 'sqlite+aiosqlite': 'aiosqlite'}
                    scheme = url.partition('://')[0]
                    if scheme not in drivers: raise ValueError(scheme)
                    return [] if find_spec(drivers[scheme]) else [drivers[scheme]]
                """,
                """
                def missing_for(url):
                    if url.startswith(('sqlite:', 'postgresql+psycopg2', 'postgresql+aiopg')):
                        raise ValueError(url)
                    try:
                        create_async_engine(url)
                    except ModuleNotFoundError as error:
                        return [error.name]
                    return []
                """,
            ),
        ),
        Slip(
            "dialed",
            "INST-32",
            "Somebody called the server while your function ran: whether a package is here, this "
            "Python knows by itself.",
            (
                """
                import socket
                from importlib.util import find_spec
                from sqlalchemy import make_url
                def missing_for(url):
                    made = make_url(url)
                    names = {'postgresql+asyncpg': 'asyncpg', 'postgresql+psycopg': 'psycopg',
                             'postgresql': 'psycopg', 'sqlite+aiosqlite': 'aiosqlite'}
                    if made.drivername not in names: raise ValueError(url)
                    if made.host:
                        socket.create_connection((made.host, made.port)).close()
                    return [n for n in (names[made.drivername], 'greenlet') if not find_spec(n)]
                """,
                """
                import asyncio, threading
                from importlib.util import find_spec
                async def connect(url):
                    engine = create_async_engine(url)
                    async with engine.connect():
                        pass
                def attempt(url, wrong):
                    try:
                        asyncio.run(connect(url))
                    except Exception as error:
                        wrong.append(error)
                def missing_for(url):
                    if url.startswith(('sqlite:', 'postgresql+psycopg2', 'postgresql+aiopg')):
                        raise ValueError(url)
                    wrong = []
                    thread = threading.Thread(target=attempt, args=(url, wrong))
                    thread.start()
                    thread.join()
                    lacks = [e.name for e in wrong if isinstance(e, ModuleNotFoundError)]
                    return lacks + ['greenlet'] * (find_spec('greenlet') is None)
                """,
            ),
        ),
        Slip(
            "sync_driver",
            "INST-33",
            "That driver blocks, so no package makes this URL fit for an async engine: the URL "
            "has to name another driver.",
            (
                """
                from importlib.util import find_spec
                from sqlalchemy import make_url
                PIP = {'psycopg2': 'psycopg2-binary', 'psycopg': 'psycopg[binary]'}
                def missing_for(url):
                    driver = make_url(url).get_driver_name()
                    if driver in ('pysqlite', 'aiopg'): raise ValueError(url)
                    return [PIP.get(name, name) for name in (driver, 'greenlet')
                            if find_spec(name) is None]
                """,
                """
                import importlib.util
                def missing_for(url):
                    driver = {'sqlite+aiosqlite': 'aiosqlite', 'postgresql': 'psycopg'}.get(
                        url.split(':')[0], url.split(':')[0].partition('+')[2])
                    lacks = []
                    for name in (driver, 'greenlet'):
                        if name and importlib.util.find_spec(name) is None:
                            lacks.append(name)
                    return lacks
                """,
            ),
        ),
        Slip(
            "plain_url",
            "INST-34",
            "In SQLAlchemy 2.1 a bare `postgresql://` means psycopg 3, and that is async.",
            (
                """
                from importlib.util import find_spec
                def missing_for(url):
                    drivers = {'postgresql+asyncpg': 'asyncpg', 'postgresql+psycopg': 'psycopg',
                               'sqlite+aiosqlite': 'aiosqlite', 'postgresql': 'asyncpg'}
                    scheme = url.partition('://')[0]
                    if scheme not in drivers: raise ValueError(scheme)
                    return [n for n in (drivers[scheme], 'greenlet') if not find_spec(n)]
                """,
                """
                from importlib.metadata import PackageNotFoundError, version
                DRIVERS = ('asyncpg', 'psycopg', 'aiosqlite')
                def missing_for(url):
                    driver = url.partition('://')[0].partition('+')[2]
                    if driver not in DRIVERS:
                        raise ValueError(f'{driver or "psycopg2"} is not async')
                    lacks = []
                    for name in (driver, 'greenlet'):
                        try:
                            version(name)
                        except PackageNotFoundError:
                            lacks.append(name)
                    return lacks
                """,
            ),
        ),
    ),
    right=(
        """
        from importlib.util import find_spec
        from sqlalchemy import make_url
        PIP = {'asyncpg': 'asyncpg', 'psycopg': 'psycopg[binary]', 'aiosqlite': 'aiosqlite'}
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in PIP:
                raise ValueError(f'{driver} is no async driver')
            lacks = [] if find_spec(driver) else [PIP[driver]]
            return lacks if find_spec('greenlet') else [*lacks, 'sqlalchemy[asyncio]']
        """,
        """
        import re
        from importlib.metadata import distributions
        def missing_for(url):
            schemes = {'asyncpg': {'postgresql+asyncpg'}, 'aiosqlite': {'sqlite+aiosqlite'},
                       'psycopg': {'postgresql', 'postgresql+psycopg'}}
            scheme = re.match(r'[a-z+0-9]*', url)[0]
            needs = [name for name, known in schemes.items() if scheme in known]
            if not needs: raise ValueError(url)
            return {n for n in [*needs, 'greenlet'] if not any(distributions(name=n))}
        """,
        """
        class Desk:
            def __call__(self, url):
                lacks = []
                try:
                    from sqlalchemy.ext.asyncio import create_async_engine as create
                except ImportError:
                    lacks, create = ['sqlalchemy[asyncio]'], create_async_engine
                from sqlalchemy.exc import SQLAlchemyError
                try:
                    create(url)
                except ModuleNotFoundError as error:
                    lacks.append(error.name)
                    if error.name not in ('asyncpg', 'psycopg', 'aiosqlite'):
                        raise ValueError(url) from error
                except SQLAlchemyError as error:
                    raise ValueError(url) from error
                return lacks
        missing_for = Desk()
        """,
        """
        from importlib.util import find_spec
        from sqlalchemy import make_url
        from sqlalchemy.exc import NoSuchModuleError
        def missing_for(url):
            made = make_url(url)
            try:
                dialect = made.get_dialect().get_async_dialect_cls(made)
            except NoSuchModuleError:
                raise ValueError(f'no dialect for {made.drivername}') from None
            if not dialect.is_async:
                raise ValueError(f'{dialect.driver} blocks')
            return tuple(n for n in (dialect.driver, 'greenlet') if find_spec(n) is None)
        """,
        """
        import importlib
        from functools import partial
        from sqlalchemy import make_url
        def there(module):
            try:
                importlib.import_module(module)
            except ImportError:
                return False
            return True
        def look(extras, url):
            made = make_url(url)
            name = made.drivername if '+' in made.drivername else {
                'postgresql': 'postgresql+psycopg'}.get(made.drivername, '?')
            if name not in extras: raise ValueError(name)
            module, extra = extras[name]
            if not there(module): return [f'sqlalchemy[{extra}]'] + (
                [] if extra != 'postgresql-psycopgbinary' or there('greenlet')
                else ['sqlalchemy[asyncio]'])
            return [] if there('greenlet') else ['greenlet>=1']
        missing_for = partial(look, {
            'postgresql+asyncpg': ('asyncpg', 'postgresql-asyncpg'),
            'postgresql+psycopg': ('psycopg', 'postgresql-psycopgbinary'),
            'sqlite+aiosqlite': ('aiosqlite', 'aiosqlite')})
        """,
    ),
)
async def missing_for(trial: Trial) -> None:
    plan = _mornings(trial.draw)
    steps = trial.subject.steps(ask_missing, plan)
    for scheme, hidden in plan:
        rung, found = await steps.next()
        expect(not rung, "INST-32")
        if scheme in _NEEDS:
            _compare(scheme, {_NEEDS[scheme], "greenlet"} & set(hidden), found)
        else:
            expect(found == "ValueError", "INST-33", _BEYOND.get(scheme, ""))


def _compare(scheme: str, wanted: set[str], found: Any) -> None:
    """Whether what was named brings what was missing, and nothing else; by its effect."""
    fits = (
        f"`{scheme}://` can serve an async engine, whatever stands behind; you raised ValueError."
    )
    expect(found != "ValueError" or scheme == "postgresql", "INST-33", fits)
    expect(isinstance(found, list) or found == "ValueError", "INST-36", _NO_LIST)
    lines = _names(found) or []
    typed = next((line for line in lines if line.startswith("pip ")), "")
    expect(not typed, "INST-36", f"You named `{typed}`: only what pip is to take was asked for.")
    brought = {name for line in lines for name in _brings(line)}
    all_there = isinstance(found, list) and wanted <= brought
    lacking = " and ".join(sorted(wanted)) or "nothing"
    driver_there = isinstance(found, list) and wanted - {"greenlet"} <= brought
    another = bool(brought & {*_DRIVERS} - {_NEEDS[scheme]})
    expect(scheme != "postgresql" or (driver_there and not another), "INST-34")
    expect(all_there or not driver_there, "INST-31")
    expect(all_there, "INST-35", f"For `{scheme}://` {lacking} was missing; you did not say so.")
    surplus = ", ".join(line for line in lines if not _brings(line) & wanted)
    expect(not surplus, "INST-36", f"For `{scheme}://` {lacking} was missing; you named {surplus}.")


_NO_LIST = "That is no list: one was asked for, and an empty one where nothing is missing."
_BEYOND = {
    "sqlite": "A bare `sqlite://` means a driver that blocks: the URL has to name another one.",
    "postgresql+aiopg": "SQLAlchemy has no dialect for `aiopg`, so no package helps: the URL has "
    "to name another driver.",
}


_PSYCOPG = "postgresql+psycopg"


def _mornings(draw: Draw) -> list[tuple[str, list[str]]]:
    """URLs, and what is hidden from each: every driver and greenlet, alone and together."""
    plan = [(scheme, [driver]) for scheme, driver in _NEEDS.items()]
    plan += [(draw.choice(list(_NEEDS)), ["greenlet"]) for _ in range(2)]
    scheme = draw.choice(list(_NEEDS))
    plan.append((scheme, [_NEEDS[scheme], "greenlet"]))
    scheme = draw.choice(list(_NEEDS))
    plan.append((scheme, [name for name in _DRIVERS if name != _NEEDS[scheme]]))
    # With all there, one that has a server to call, whatever is drawn.
    there = ("sqlite+aiosqlite", "postgresql", draw.choice(["postgresql+asyncpg", _PSYCOPG]))
    plan += [(scheme, []) for scheme in there]
    plan += [(scheme, []) for scheme in ("postgresql+psycopg2", *_BEYOND)]
    draw.shuffle(plan)
    return plan


def _brings(line: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """What comes along with a requirement, of what an async engine may lack."""
    try:
        asked = Requirement(line)
    except InvalidRequirement:
        return set()
    name = canonicalize_name(asked.name)
    found = {known for known in (*_DRIVERS, "greenlet") if known == name}
    for extra in asked.extras:
        key = f"{name}[{extra}]"
        try:
            lines = [] if key in seen else metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for made in map(Requirement, lines):
            if made.marker and made.marker.evaluate({"extra": extra}):
                found |= _brings(str(made), seen | {key})
    return found


# -- whose ---------------------------------------------------------------------------------


async def ask_whose(whose: Any, site: str, plan: Any) -> AsyncIterator[Any]:
    """Furnish an environment in which conda and others have worked, and ask whose is what."""
    import shutil
    import tempfile
    from collections.abc import Mapping
    from pathlib import Path

    from engineroom.exercises.packages import note_conda, put, put_conda

    with tempfile.TemporaryDirectory() as prefix:
        note_conda(prefix, "libpq", "17.10", ["lib/libpq.so.5", "bin/pg_config"])
        for kind, package in plan:
            if kind == "over":
                put_conda(prefix, site, package["name"], "0.1", module=package["module"])
                (old,) = Path(prefix, site).glob("*-0.1.dist-info")
                shutil.rmtree(old)
            if kind in ("over", "by pip", "by uv"):
                put(Path(prefix, site), **package)
            else:
                put_conda(prefix, site, **package)
        found = whose(prefix)
        yield dict(found) if isinstance(found, Mapping) else None


@lesson.exercise(
    "whose",
    points=2,
    needs=(),
    measures=("install.read",),
    task="Write `whose(prefix)`: for each distribution in the environment below `prefix` the word "
    "'conda', if what is there is conda's, and else the word in its INSTALLER file.",
    hints=(
        "Which of the two keeps a list of every file it put there?",
        "`distributions(path=[folder])` finds them; `conda-meta/*.json` have `name` and `files`.",
        (
            "Put the `files` of all records into one set. What is in a dist-info folder is conda's "
            "if the path of its METADATA, relative to `prefix`, is in the set."
        ),
    ),
    slips=(
        Slip(
            "by_name",
            "INST-41",
            "Conda has a record of that name, but another installer has written over the package "
            "since.",
            (
                """
                import json
                from importlib.metadata import distributions
                from pathlib import Path
                def whose(prefix):
                    records = [json.loads(f.read_text())['name']
                               for f in Path(prefix, 'conda-meta').glob('*.json')]
                    sites = [str(p) for p in Path(prefix).glob('lib/python*/site-packages')]
                    return {d.name: 'conda' if d.name.lower() in records
                            else d.read_text('INSTALLER').strip()
                            for d in distributions(path=sites)}
                """,
                """
                import re
                from pathlib import Path
                def whose(prefix):
                    known = {re.sub('-[^-]*-[^-]*$', '', f.stem)
                             for f in Path(prefix).glob('conda-meta/*.json')}
                    found = {}
                    for info in Path(prefix).glob('lib/*/site-packages/*.dist-info'):
                        name = re.search('Name: (.*)', (info / 'METADATA').read_text())[1]
                        who = (info / 'INSTALLER').read_text().strip()
                        found[name] = 'conda' if name.lower() in known else who
                    return found
                """,
            ),
        ),
        Slip(
            "by_installer",
            "INST-42",
            "INSTALLER says pip, because conda's own recipe used pip; conda's record lists the "
            "files all the same.",
            (
                """
                from importlib.metadata import distributions
                from pathlib import Path
                def whose(prefix):
                    site = next(Path(prefix).glob('lib/python*/site-packages'))
                    return {d.name: d.read_text('INSTALLER').strip()
                            for d in distributions(path=[str(site)])}
                """,
                """
                from pathlib import Path
                def whose(prefix):
                    found = {}
                    for file in Path(prefix).rglob('*.dist-info/INSTALLER'):
                        name = file.parent.name.partition('-')[0]
                        found[name] = file.read_text().split()[0]
                    return found
                """,
            ),
        ),
        Slip(
            "line_break",
            "INST-43",
            "The word in INSTALLER ends with a line break, and you handed it on.",
            (
                """
                import json
                from importlib.metadata import distributions
                from pathlib import Path
                def whose(prefix):
                    files = set()
                    for record in Path(prefix, 'conda-meta').glob('*.json'):
                        files |= set(json.loads(record.read_text())['files'])
                    found = {}
                    for info in Path(prefix).glob('lib/python*/site-packages/*.dist-info'):
                        name = info.name.split('-')[0]
                        mine = f'{info.relative_to(prefix)}/METADATA' in files
                        found[name] = 'conda' if mine else (info / 'INSTALLER').read_text()
                    return found
                """,
                """
                from importlib.metadata import distributions
                from pathlib import Path
                def whose(prefix):
                    records = ''.join(f.read_text() for f in Path(prefix).glob('conda-meta/*.json'))
                    sites = [str(p) for p in Path(prefix).glob('lib/*/site-packages')]
                    return {d.name: 'conda' if f'{d._path.name}/' in records
                            else d.read_text('INSTALLER') for d in distributions(path=sites)}
                """,
            ),
        ),
    ),
    right=(
        """
        import json
        from importlib.metadata import Distribution
        from pathlib import Path
        def whose(prefix):
            files = set()
            for record in Path(prefix).glob('conda-meta/*.json'):
                files.update(json.loads(record.read_text())['files'])
            found = {}
            for info in Path(prefix).glob('lib/python*/site-packages/*.dist-info'):
                dist = Distribution.at(info)
                if f'{info.relative_to(prefix)}/METADATA' in files:
                    found[dist.name] = 'conda'
                else:
                    found[dist.name] = dist.read_text('INSTALLER').strip()
            return found
        """,
        """
        from pathlib import Path
        def whose(prefix):
            records = [f.read_text() for f in Path(prefix, 'conda-meta').iterdir()]
            def owner(info):
                if any(f'/{info.name}/METADATA' in text for text in records): return 'conda'
                return (info / 'INSTALLER').read_text().strip()
            return {info.name.split('-')[0]: owner(info)
                    for info in Path(prefix).rglob('*.dist-info')}
        """,
        """
        import json, os
        from collections import UserDict
        from email import message_from_string
        from pathlib import Path
        class Owners(UserDict):
            def __init__(self, prefix):
                super().__init__()
                self.files = [os.path.join(prefix, file)
                              for record in Path(prefix, 'conda-meta').glob('*.json')
                              for file in json.loads(record.read_bytes()).get('files', ())]
                for metadata in Path(prefix).glob('lib/python*/site-packages/*/METADATA'):
                    name = message_from_string(metadata.read_text())['Name']
                    word = metadata.with_name('INSTALLER').read_text().rstrip()
                    self[name] = 'conda' if str(metadata) in self.files else word
        whose = Owners
        """,
    ),
)
async def whose(trial: Trial) -> None:
    names, plan = _furniture(trial.draw)
    others = [minor for minor in range(11, 15) if minor != sys.version_info.minor]
    site = f"lib/python3.{trial.draw.choice(others)}/site-packages"
    got = await trial.subject.steps(ask_whose, site, plan).next()
    expect(isinstance(got, dict), "INST-44", "A dictionary of texts was asked for.")
    words = {kind: _look_up(got, name) for kind, name in names.items()}
    expect(not any(str(word).endswith("\n") for word in words.values()), "INST-43")
    expect(words["over"] != "conda", "INST-41")
    expect(words["recipe"] != "pip", "INST-42")
    expect(words["renamed"] != "pip", "INST-44", _RENAMED)
    expect(got, "INST-44", f"You found nothing, and there are packages in {site}.")
    expect(None not in words.values(), "INST-44", "You did not find all that is there.")
    wrong = {f"{words[k]!r} of what is {w}'s" for k, (w, _) in _OWNERS.items() if words[k] != w}
    expect(not wrong, "INST-44", f"You said {', '.join(sorted(wrong))}.")
    expect(len(got) == len(names), "INST-44", "You found more than there is in that environment.")


def _furniture(draw: Draw) -> tuple[dict[str, str], list[tuple[str, dict[str, str]]]]:
    """A package of each kind: its name, and how it is put there."""
    names = {kind: _brand(draw) for kind in _OWNERS}
    names["over"] = names["over"].lower()  # so that conda has a record of exactly that name
    plan = []
    for kind in draw.sample(list(_OWNERS), len(_OWNERS)):
        about = {"name": names[kind], "version": _version(draw), "module": draw.word()}
        if kind == "renamed":
            about["record"] = f"py-{draw.word()}"
        plan.append((kind, about | _OWNERS[kind][1]))
    return names, plan


_RENAMED = (
    "Conda has the files of a distribution in a record of another name: look for the files, and "
    "not for the name."
)
_OWNERS: dict[str, tuple[str, dict[str, str]]] = {
    # what became of it, whose it is, and what is particular about it
    "by conda": ("conda", {}),
    "recipe": ("conda", {"installer": "pip"}),
    "renamed": ("conda", {"installer": "pip"}),
    "over": ("pip", {"installer": "pip"}),
    "by pip": ("pip", {"installer": "pip"}),
    "by uv": ("uv", {"installer": "uv"}),
}


def _look_up(found: dict[str, Any], name: str) -> Any:
    return next((word for key, word in found.items() if _same_name(name, key)), None)
