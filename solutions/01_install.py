# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What each package is for
#
# *Lesson 01 · about 35 minutes*
#
# The booking desk's laptop of the Skerry Line fell into the harbour. The new one is dry and fast,
# somebody has typed the `pip install` line from the old wiki page, and the booking program **dies
# on its first import**.
#
# "But everything is installed", says the purser. Is it? Nobody has to guess: an environment keeps
# books about itself. Today we read them, and then we take packages *away*, to see what breaks
# without each.
#
# <!-- objectives -->

# %%
import asyncio
import json
import os
import shutil
import sys
import tempfile
import venv
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    metadata,
    packages_distributions,
    requires,
    version,
)
from pathlib import Path

from checks import install
from engineroom import lab
from engineroom.widgets import predict, who_asks
from packaging.requirements import Requirement
from packaging.version import Version
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

# %% [markdown]
# ## 1 · What is in the box
#
# These are the packages of the wiki page, what comes along with them, and two more drivers:
#
# | package | what it is for at the desk |
# |---|---|
# | `sqlmodel` | a table as a Python class; values are checked by Pydantic, SQL is written by SQLAlchemy |
# | `sqlalchemy` | the engine, its pool, and the SQL; with `[asyncio]` also to be awaited |
# | `greenlet` | lets SQLAlchemy's ordinary code pause where yours says `await` |
# | `asyncpg` | a driver: speaks with Postgres, async only |
# | `psycopg` | another driver for Postgres, sync and async; `[binary]` brings a compiled part |
# | `aiosqlite` | a driver for SQLite: a database in a file, for tests |
# | `alembic` | takes a database from one version of your tables to the next |
#
# When pip installs something, it writes a folder of *metadata* beside it. `importlib.metadata`
# reads it, here and now, in the Python that runs this page. What do the packages say of themselves?

# %%
STACK = ["sqlmodel", "sqlalchemy", "greenlet", "asyncpg", "psycopg", "aiosqlite", "alembic"]

for name in STACK:
    print(f"{name:11}", metadata(name)["Summary"])

# %% [markdown]
# The wiki page also shows what pip answered on the day when it was written. What does the same line
# bring today?

# %% facts="0.1"
wiki = {
    "sqlmodel": "0.0.22",
    "sqlalchemy": "2.0.35",
    "asyncpg": "0.29.0",
    "alembic": "1.13.1",
    "greenlet": "3.0.3",
}

for name, then in wiki.items():
    print(f"{name:11} {then:>7}  now {version(name)}")

# %% [markdown]
# Every number has moved. For SQLAlchemy the second one did, from 2.0 to 2.1, and that is why the
# desk's program dies. We get there in section 3.
#
# **Two names for one thing.** The course reads `.env` files with a package that everybody imports as
# `dotenv`. So:

# %%
predict(
    "import dotenv works here. What does version('dotenv') give?",
    "Its version",
    "None",
    "An error",
)

# %% tags=["predict"]
import dotenv

try:
    print(version("dotenv"))
except Exception as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# What you *install* is a **distribution**, what you *import* is a **module**, and each has a name of
# its own. The books are kept under the first. They also know which module came with what:

# %%
brought_by = packages_distributions()

for module in ("dotenv", "sqlalchemy", "psycopg_binary"):
    print(f"import {module:15} comes with {brought_by[module][0]}")

# %% [markdown]
# And a distribution's name has more than one spelling. `-`, `_` and `.` are one sign to pip, and
# upper and lower case are one letter:

# %%
len({version(name) for name in ("python-dotenv", "Python_DotEnv", "PYTHON.DOTENV")})

# %% [markdown]
# One version, three spellings.
#
# ### Your turn: what is installed?
#
# `installed(names)` looks up each distribution in a list. One that is not there is no disaster: its
# answer is `None`. The check puts a few packages on Python's path that nobody has ever heard of, and an
# `alembic` of its own before yours.


# %% exercise="install.installed"
def installed(names: list[str]) -> dict[str, str | None]:
    """For each distribution the version that is installed here, or None."""
    # <answer>
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
    # </answer>


# %%
install.installed.check()

# %% [markdown]
# ## 2 · Who asked for that?
#
# Nobody types `greenlet` after `pip install`, and yet it is here. Somebody must have asked for it.
# A distribution's requirements are in its books as well:

# %%
for line in requires("sqlalchemy"):
    if line.startswith(("typing", "greenlet")):
        print(line)

# %% [markdown]
# The first line holds always. The second ends in a **marker**: it holds only with the **extra**
# `asyncio`, which is what `[asyncio]` in `pip install "sqlalchemy[asyncio]"` says.
#
# `packaging` reads such lines for us:

# %%
wanted = Requirement('greenlet>=1; extra == "asyncio"')

print("name:   ", wanted.name)
print("which:  ", wanted.specifier)
print("when:   ", wanted.marker)
print("does it hold with the extra?", wanted.marker.evaluate({"extra": "asyncio"}))
print("and with none?              ", wanted.marker.evaluate({"extra": ""}))

# %% [markdown]
# A marker may ask for more than an extra: for a system (`sys_platform == "win32"`), or for a Python
# (`python_version < "3.11"`). `evaluate` answers for the machine it runs on.
#
# So what comes along with a given line? Many a guide for async Postgres begins like this:
#
#     pip install sqlalchemy asyncpg

# %%
predict(
    "pip install sqlalchemy asyncpg, with SQLAlchemy 2.1. Does greenlet come along?",
    "Yes, SQLAlchemy needs it",
    "Yes, asyncpg needs it",
    "No",
)

# %% facts="2.1" tags=["predict"]
who_asks("greenlet", "sqlalchemy", "asyncpg")

# %% [markdown]
# Nobody asks, so nobody comes: SQLAlchemy 2.1 leaves greenlet to those who say that they want it. Here
# is the wiki's line, with the two drivers that this course adds:

# %% facts="0.2"
who_asks(
    "greenlet",
    "sqlmodel",
    "sqlalchemy[asyncio]",
    "asyncpg",
    "psycopg[binary]",
    "aiosqlite",
    "alembic",
)

# %% [markdown]
# One thin red line. SQLModel asks for SQLAlchemy, and Alembic does too, but *without* the extra.
# Everything async in this course hangs on those nine signs, `[asyncio]`, and this is all they do.
#
# **Put them in quotes.** To a shell, square brackets mean "one of these letters". It looks for a file
# of such a name first, and takes yours:

# %%
with tempfile.TemporaryDirectory() as drawer:
    Path(drawer, "sqlalchemyo").touch()  # somebody's file
    for line in ("echo pip install sqlalchemy[asyncio]", 'echo pip install "sqlalchemy[asyncio]"'):
        shell = await asyncio.create_subprocess_shell(line, cwd=drawer, stdout=-1)
        print((await shell.communicate())[0].decode().strip())

# %% [markdown]
# ### Your turn: what does an extra add?
#
# `adds(dist, extra)` gives the names that an installed distribution asks for *because of* an extra.
# Not what it needs anyway, and nothing that is meant for another system or another Python. Only its own
# lines count, not what those packages need in their turn. And a distribution may ask for nothing: then
# `requires` gives None.


# %% exercise="install.adds"
def adds(dist: str, extra: str) -> set[str]:
    """The names of the distributions that this extra adds, on this system."""
    # <answer>
    found = set()
    for line in requires(dist) or []:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"extra": ""}):
            continue  # it is needed anyway
        if asked.marker.evaluate({"extra": extra}):
            found.add(asked.name)
    return found
    # </answer>


# %%
install.adds.check()

# %% [markdown]
# ## 3 · What breaks without it
#
# Now we take packages away. Not really: you will need them. We start **a second Python** in which some
# modules are not to be found, and let it say what happens.
#
# When Python imports something, it asks a list of *finders*, one after another. Ours goes to the
# front of the list and says "there is no such module".

# %%
BEGIN = """
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if {name, name.partition(".")[0]} & MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)
"""


async def second_python(program, *missing, path=""):
    """Run a program in a Python of its own, without some modules; what it said at last."""
    lines = [f"MISSING = {set(missing)}", BEGIN, "try:"]
    lines += [f"    {line}" for line in program.strip().splitlines()]
    lines += ["except Exception as error:", "    print(f'{type(error).__name__}: {error}')"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "\n".join(lines)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    said = (await process.communicate())[0].decode().strip()
    return said.partition("\n")[0]


for missing in ((), ("asyncpg",)):
    print(missing, await second_python("import asyncpg; print('here it is')", *missing))

# %% [markdown]
# ### Without greenlet

# %%
predict(
    "SQLAlchemy 2.1 and asyncpg, and no greenlet. Where does the desk's program stop?",
    "At import sqlalchemy",
    "At import sqlalchemy.ext.asyncio",
    "At create_async_engine(...)",
    "At the first query",
)

# %% facts="0.2 2.1" tags=["predict"]
for line in ("import sqlalchemy", "import sqlalchemy.ext.asyncio"):
    print(line, "→", await second_python(f"{line}; print('fine')", "greenlet"))

# %% [markdown]
# **That was the new laptop.** The program never gets as far as its database. The message is a good
# one, if somebody reads it to its end: it names the line to type.
#
# The ordinary, synchronous half of SQLAlchemy does very well without. So does SQLModel, up to its
# async session:

# %%
for line in ("import sqlmodel", "import sqlmodel.ext.asyncio.session"):
    said = await second_python(f"{line}; print('fine')", "greenlet")
    print(line, "→", said.partition(".  ")[0])

# %% [markdown]
# ### Without a driver
#
# The URL names the driver, and that is the first time anybody hears of it. When is it missed?

# %%
predict(
    "greenlet is here, asyncpg is not. Where does the program stop?",
    "At import sqlalchemy.ext.asyncio",
    "At create_async_engine(...)",
    "At the first query",
)

# %% tags=["predict"]
PROGRAM = """
from sqlalchemy.ext.asyncio import create_async_engine
print("imported", end=", ")
create_async_engine({url!r})
print("engine made")
"""

for url, missing in {
    "postgresql+asyncpg://desk@harbour/skerry": "asyncpg",
    "sqlite+aiosqlite:///desk.db": "aiosqlite",
    "postgresql://desk@harbour/skerry": "psycopg",
}.items():
    print(f"{url:41}", await second_python(PROGRAM.format(url=url), missing))

# %% [markdown]
# When the engine is made: late enough to have started, early enough to need no server. (There is no
# host `harbour`, and nobody looked for it.)
#
# See the last line. A URL without a driver means **psycopg 3** since SQLAlchemy 2.1, so that is what it
# misses. Lesson 03 has more on this.
#
# ### A driver that cannot wait
#
# Not every driver will do. Some can only *block*: while they wait for the database, the whole program
# stands still, and an async engine refuses them. SQLAlchemy knows which, without having any of them:

# %%
for scheme in (
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "postgresql",
    "postgresql+psycopg2",
    "sqlite+aiosqlite",
    "sqlite",
):
    url = make_url(f"{scheme}://")
    dialect = url.get_dialect().get_async_dialect_cls(url)
    print(f"{scheme:20} {url.get_driver_name():10}", "async" if dialect.is_async else "blocks")

# %% [markdown]
# For a driver that blocks there is nothing to install that would help. The *URL* has to change:

# %%
await second_python(PROGRAM.format(url="sqlite:///desk.db"))

# %% [markdown]
# ### A driver that SQLAlchemy does not have
#
# A page of questions and answers lists three async drivers for Postgres, and the third is
# `postgresql+aiopg://`. We do the page a favour, and give our second Python a module `aiopg`.

# %%
predict(
    "A module aiopg can be imported. What becomes of postgresql+aiopg://?",
    "An engine",
    "An error: something in the module is missing",
    "An error: SQLAlchemy knows nothing of it",
)

# %% facts="3.16" tags=["predict"]
with tempfile.TemporaryDirectory() as drawer:
    Path(drawer, "aiopg.py").touch()
    url = "postgresql+aiopg://desk@harbour/skerry"
    print(await second_python(PROGRAM.format(url=url), path=drawer))

# %% [markdown]
# Whatever you install, a driver works only if somebody has written a *dialect* for it.
#
# ### What is binary about `psycopg[binary]`?
#
# The same page says that psycopg 3 "supports the binary protocol", and shows `psycopg[binary]`.

# %%
predict(
    "psycopg[binary] is installed. How does a number travel from Postgres to you?",
    "In binary",
    "As text",
)

# %% facts="3.17" tags=["predict"]
import psycopg

async with await psycopg.AsyncConnection.connect(lab.sync_url) as conn:
    for ask in ({}, {"binary": True}):
        cursor = await conn.execute("select 36.5::float8", **ask)
        print(ask, "→", psycopg.pq.Format(cursor.pgresult.fformat(0)).name)

print("psycopg's inner part:", psycopg.pq.__impl__)

# %% [markdown]
# As text, unless you ask for something else each time. Through SQLAlchemy it is no different:

# %% facts="3.17"
engine = create_async_engine(lab.psycopg_url)


@event.listens_for(engine.sync_engine, "after_cursor_execute")
def look(conn, cursor, *_):
    print(psycopg.pq.Format(cursor._cursor.pgresult.fformat(0)).name)


async with engine.connect() as conn:
    await conn.execute(text("select 36.5::float8"))
await engine.dispose()

# %% [markdown]
# The extra is about something else: it brings psycopg's inner part *compiled*, with the library
# `libpq` in it. Without the extra, psycopg looks for a `libpq` on the machine. The new laptop has
# none, so we hide the part that looks:

# %%
await second_python("import psycopg", "psycopg_binary", "psycopg_c", "psycopg.pq.pq_ctypes")

# %% [markdown]
# ## Try with AI, and then let an empty shelf judge
#
# The desk wants to be told what is missing *before* the first passenger comes. Ask an assistant, in
# your own words or in these:
#
# > Write `missing_for(url)` in Python. It gets a database URL that is meant for SQLAlchemy's
# > `create_async_engine`, and returns a list: what I still have to `pip install` in this
# > environment so that the URL can serve an async engine. It must not connect to anything. If the
# > URL names a driver with which no async engine can work, it raises a `ValueError`.
#
# Paste what it wrote into the next cell, or write it yourself. The check hides drivers and greenlet
# while your function runs; look for them when you are called. Names count by what they bring: `greenlet`
# or `sqlalchemy[asyncio]`, as you like.
#
# Assistants have read many old pages. Before you run the check, look for three things: does the
# answer know about greenlet, what does it say to a bare `postgresql://`, and does it try to connect?
#
# (If you write it yourself: you have seen `get_driver_name()`, and
# `importlib.util.find_spec("asyncpg")` is None where there is no such module.)


# %% exercise="install.missing_for"
def missing_for(url: str) -> list[str]:
    """What to pip-install before this URL can serve an async engine."""
    # <answer>
    from importlib.util import find_spec

    pip_names = {"asyncpg": "asyncpg", "psycopg": "psycopg[binary]", "aiosqlite": "aiosqlite"}
    driver = make_url(url).get_driver_name()
    if driver not in pip_names:
        raise ValueError(f"{driver} is no async driver")
    lacks = [] if find_spec(driver) else [pip_names[driver]]
    return lacks if find_spec("greenlet") else [*lacks, "sqlalchemy[asyncio]"]
    # </answer>


# %%
install.missing_for.check()

# %% [markdown]
# ## 4 · Which version?
#
# "Installed" is half of the question. This course needs SQLAlchemy 2.1, and so does the desk's
# program. How does one ask for that?

# %%
predict(
    "'0.9.30' >= '0.10', and the same with Version('...'). What do you get?",
    "True and True",
    "False and False",
    "True and False",
)

# %% tags=["predict"]
print("as text:    ", "0.9.30" >= "0.10")
print("as versions:", Version("0.9.30") >= Version("0.10"))

# %% [markdown]
# As text, `9` comes after `1`, and there it ends. As versions, nine comes before ten. A requirement
# knows how to compare, and it can say more than "at least":

# %%
for asked, found in {
    "sqlalchemy>=2.1": "2.0.35",
    "sqlalchemy>=2.0,<2.1": "2.0.35",
    "sqlalchemy~=2.0.14": "2.1.9",  # 2.0.14 or later, but still 2.0
    "asyncpg": "0.29.0",  # any will do
}.items():
    print(f"{asked:22} {found:8}", Requirement(asked).specifier.contains(found))

# %% [markdown]
# pip compares too, but only *when it installs*. What comes later and puts an old version in place, an
# installer that does not look, or another folder that comes first on Python's path, is noticed by
# nobody. Unless you ask.
#
# We put the books of an old SQLAlchemy into a cupboard, three lines of them, and let a second Python look
# there first. `pip check` then goes through everybody's requirements:

# %%
cupboard = Path(tempfile.mkdtemp())
books = cupboard / "sqlalchemy-1.4.54.dist-info"
books.mkdir()
(books / "METADATA").write_text("Metadata-Version: 2.1\nName: SQLAlchemy\nVersion: 1.4.54\n")


async def run(*command, path=""):
    """Run a program of this Python's; all that it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    return (await process.communicate())[0].decode()


for line in (await run("pip", "check", path=cupboard)).splitlines():
    if line.startswith("sqlmodel"):
        print(line)

# %% [markdown]
# Which version does that Python *import*, do you think?

# %%
COMPARE = """
from importlib.metadata import version
import sqlalchemy
print("the books say", version("sqlalchemy"), "- the module says", sqlalchemy.__version__)
"""

await second_python(COMPARE, path=cupboard)

# %% [markdown]
# The books and the shelf disagree. Nothing checks that they do not; and when they do, there are two
# places on the path, and two people to ask.
#
# ### Your turn: what is not met?
#
# `unmet(lines)` gets requirements as they stand in a project's file, each a line that `Requirement` can
# read. It returns those lines that this environment does not meet: the package is absent, too old, or too
# new. A line whose marker does not hold here asks for nothing.


# %% exercise="install.unmet"
def unmet(lines: list[str]) -> list[str]:
    """Those of the requirement lines that this environment does not meet."""
    # <answer>
    found = []
    for line in lines:
        asked = Requirement(line)
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            good = asked.specifier.contains(version(asked.name))
        except PackageNotFoundError:
            good = False
        if not good:
            found.append(line)
    return found
    # </answer>


# %%
install.unmet.check()

# %% [markdown]
# ## 5 · conda and pip, side by side
#
# The old laptop had a conda environment, and somebody used pip in it. Both installed packages, and each
# kept books of its own. You need no conda to look at them: we lay out a small environment the way
# conda leaves one, with a package `ferrytimes` in it.

# %%
from engineroom.exercises.packages import make_wheel, put_conda

boat_house = Path(tempfile.mkdtemp())
old_laptop = boat_house / "env"
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

venv.create(old_laptop)
put_conda(old_laptop, SITE, "ferrytimes", "1.4.0", module="ferrytimes")

for file in sorted(old_laptop.rglob("*ferrytimes*")):
    print(file.relative_to(old_laptop).as_posix().replace(SITE, "…"))

# %% [markdown]
# Beside the module lies the folder that `importlib.metadata` reads; in it the file `INSTALLER` holds one
# word. And in `conda-meta` there is conda's own record, with the name of every file it has put here:

# %%
record = json.loads((old_laptop / "conda-meta/ferrytimes-1.4.0-py_0.json").read_text())

for file in record["files"]:
    print(file.replace(SITE, "…"))

# %% [markdown]
# So three can be asked about one package:


# %%
def who_says_what(site=old_laptop / SITE):
    """The module, its metadata, and conda: which version, and who installed it?"""
    (info,) = site.glob("ferrytimes-*.dist-info")
    (record,) = (old_laptop / "conda-meta").glob("ferrytimes-*.json")
    print("module:   ", (site / "ferrytimes.py").read_text().partition(" = ")[2].strip())
    print("metadata: ", info.name.removesuffix(".dist-info"), end=", installed by ")
    print((info / "INSTALLER").read_text().strip())
    print("conda:    ", json.loads(record.read_text())["version"])


who_says_what()

# %% [markdown]
# All agree. Now somebody runs pip in that environment. This is the real pip, with a package that we
# have made, so that no network is needed.

# %%
predict(
    "pip upgrades a package that conda has installed. What does conda's record say afterwards?",
    "The new version",
    "The old version",
    "The record is gone",
)

# %% tags=["predict"]
wheel = make_wheel(boat_house, "ferrytimes", "1.5.0", module="ferrytimes")
await run(
    *("pip", "--python", str(old_laptop / "bin/python"), "install"),
    *("--quiet", "--no-index", "--no-deps", "--upgrade", str(wheel)),
)

who_says_what()

# %% [markdown]
# pip has taken conda's files away and put its own there. It knew nothing of the record, and the record
# stays as it was: about a package that is gone.
#
# So in a conda environment: conda first, pip afterwards for what conda does not have, and never pip
# over conda. And ask the metadata that lies beside the module, because the module is what runs.

# %%
shutil.rmtree(boat_house, ignore_errors=True)

# %% [markdown]
# ## Stuck?
#
# `engineroom doctor` in a terminal (*File → New → Terminal*) looks at this whole course, a line for each
# thing. Its second line is the one about packages. It does what you did in section 4: it takes the
# requirements of the course, one by one, and asks the environment. Here it is on the laptop with the old
# SQLAlchemy in a cupboard:

# %%
report = json.loads(await run("engineroom.cli", "doctor", "--json", path=cupboard))

for line in report["checks"]:
    if line["name"] == "packages":
        print("packages:", "ok" if line["ok"] else "missing", "-", line["detail"])
        print("what to type:", line["fix"])

# %% [markdown]
# - **`The SQLAlchemy asyncio module requires that the Python 'greenlet' library is installed`**: the
#   extra is missing. `pip install "sqlalchemy[asyncio]"`, with the quotes.
# - **`No module named 'asyncpg'`**, and you are sure that you have installed it: then in another Python.
#   Write `python -m pip install ...`, so that pip and Python are the same one's.
# - **`no pq wrapper available`**: `pip install "psycopg[binary]"`.
# - **`Can't load plugin: sqlalchemy.dialects:...`**: the URL, not the environment, has to change.
#
# ## Go further: whose is it?
#
# The old laptop's disk has dried, and it shows what you have just seen: conda and others have worked in one
# environment. `whose(prefix)` says for each distribution below `prefix` (in
# `lib/python3.…/site-packages`, whichever Python it has) who it belongs to: `"conda"`, if what is there now
# is conda's, or else the word in its `INSTALLER`. Mind three things:
#
# - conda's record of a package says nothing, if somebody has written over the package since;
# - `INSTALLER` may say `pip` in a package of conda's, because its recipe used pip. The record lists its
#   files all the same;
# - conda may have another name for it, and knows packages that are no Python at all.
#
# `Distribution.at(folder)` of `importlib.metadata` reads one `….dist-info` folder.


# %% exercise="install.whose"
def whose(prefix: str) -> dict[str, str]:
    """Who each distribution below `prefix` belongs to: conda, or the word in its INSTALLER."""
    # <answer>
    files = set()
    for record in Path(prefix).glob("conda-meta/*.json"):
        files.update(json.loads(record.read_text())["files"])
    found = {}
    for info in Path(prefix).glob("lib/python*/site-packages/*.dist-info"):
        dist = Distribution.at(info)
        if f"{info.relative_to(prefix)}/METADATA" in files:
            found[dist.name] = "conda"
        else:
            found[dist.name] = dist.read_text("INSTALLER").strip()
    return found
    # </answer>


# %%
install.whose.check()

# %% [markdown]
# ## What to remember
#
# - **Ask the environment.** `importlib.metadata` reads what the installers wrote: `version`,
#   `requires`, and under which name.
# - **An async engine needs two things:** a driver that can wait, and greenlet. Say
#   `"sqlalchemy[asyncio]"`, in quotes.
# - **The message tells the place.** No greenlet: at the import. No driver: when the engine is made. No
#   dialect: whatever you install.
# - **Versions are no text.** Let `packaging` compare them.
# - **Two installers keep two books.** Ask the metadata that lies beside the module.
#
# What we opened, we close:

# %%
shutil.rmtree(cupboard, ignore_errors=True)
