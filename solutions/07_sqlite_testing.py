# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When SQLite lies
#
# *Lesson 07 · about 35 minutes*
#
# The booking desk of the Skerry Line has four hundred tests, and since spring they are all green.
# They run on SQLite: no server, nothing to set up. This morning Mrs Gull stands at the pier with a
# ticket for a sailing **that does not exist**. The desk sold it to her. There is a foreign key
# against that, and there is a test for it. Green.
#
# Today you find out what SQLite is good for in tests, where it says yes and Postgres says no, and
# what to do when that matters.
#
# <!-- objectives -->

# %%
import asyncio
import sqlite3
import tempfile
import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from checks import sqlite_testing
from engineroom import lab
from engineroom.widgets import Grid, predict
from sqlalchemy import JSON, Column, DateTime, Integer, MetaData, String, Table, TypeDecorator
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

# %% [markdown]
# ## 1 · In memory, or in a file
#
# SQLite is no server. It is a library that reads and writes a file in your own process, or keeps
# everything in memory. `aiosqlite` gives each connection a thread, so that your event loop goes on.
# The URL says which of the two you get, and SQLAlchemy picks a pool to go with it. (`folder` is for
# today's files, and goes when your kernel goes.)

# %% facts="0.55"
temporary = tempfile.TemporaryDirectory(prefix="desk-")
folder = Path(temporary.name)
MEMORY = "sqlite+aiosqlite://"

for url in (MEMORY, "sqlite+aiosqlite:///:memory:", f"sqlite+aiosqlite:///{folder}/desk.db"):
    print(f"{url.replace(str(folder), '.'):32}", type(create_async_engine(url).pool).__name__)

# %% [markdown]
# (Three slashes, and then the path: one that begins with a slash makes four.) The difference is
# larger than it looks. A file has room for many connections, and a database in memory
# **belongs to one connection**. `StaticPool` has just one and gives it to everybody.

# %%
predict(
    "An engine in memory. Anna adds a row and has not committed yet. Bert opens a connection and "
    "closes it again, without doing anything. Then Anna commits. Her row is",
    "there",
    "gone",
    "there twice",
)

# %% facts="2.2" tags=["predict"]
for url in (MEMORY, f"sqlite+aiosqlite:///{folder}/two.db"):
    desk = create_async_engine(url)
    async with desk.begin() as conn:
        await conn.execute(text("drop table if exists sailing"))
        await conn.execute(text("create table sailing (ferry text)"))

    anna = await desk.connect()
    await anna.execute(text("insert into sailing values ('Puffin')"))
    bert = await desk.connect()
    seen = await bert.scalar(text("select count(*) from sailing"))
    await bert.close()
    await anna.commit()
    kept = await anna.scalar(text("select count(*) from sailing"))
    await anna.close()
    await desk.dispose()
    print(
        f"{'memory' if url == MEMORY else 'file':7} Bert saw rows: {seen}   after the commit: {kept}"
    )

# %% [markdown]
# In memory, Bert looks at Anna's unfinished work. And whoever hands a connection back to a pool
# rolls it back, so that the next one finds it clean: here that was Anna's work, for it was Anna's
# connection. Nobody told her. In production each has a connection of their own.
#
# Two ways out are often proposed. A pool that gives everybody a new connection, and a *shared*
# memory:

# %% facts="2.2"
desk = create_async_engine(MEMORY, poolclass=NullPool)
async with desk.begin() as conn:
    await conn.execute(text("create table sailing (ferry text)"))
try:
    async with desk.begin() as conn:
        await conn.execute(text("select * from sailing"))
except DBAPIError as error:
    print("NullPool:", error.orig)

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    shared = create_async_engine("sqlite+aiosqlite:///file:desk?mode=memory&cache=shared&uri=true")
print("shared:  ", type(shared.pool).__name__, "-", type(said[0].message).__name__)

# %% [markdown]
# The first gives each connection an empty database of its own. The second ends at the same single
# connection, with a warning. So: **memory for tests of one session, a file for everything else.** A
# file in a temporary folder costs you next to nothing.
#
# Some other things that are said of these engines, tried:

# %% facts="0.7 0.44 0.55"
desk = create_async_engine(f"sqlite+aiosqlite:///{folder}/new.db")
before = (folder / "new.db").exists()
async with desk.connect():
    print(
        "the file is there, before and after the first connect:",
        before,
        (folder / "new.db").exists(),
    )
await desk.dispose()
(folder / "new.db").unlink()

for arguments in ({}, {"check_same_thread": True}, {"check_same_thread": False}):
    desk = create_async_engine(MEMORY, connect_args=arguments)
    async with desk.connect() as conn:
        print(f"{arguments}: works, {await conn.scalar(text('select 6 * 7'))}")
    await desk.dispose()

try:
    create_async_engine(MEMORY, pool_size=5)
except TypeError as error:
    print(str(error).partition(",")[0])

# %% [markdown]
# `check_same_thread`, which you find in every tutorial, does nothing for you here: aiosqlite keeps
# each connection in its own thread anyway. And a configuration that says `pool_size=5` for every
# database cannot even be made for one in memory.
#
# ### Mrs Gull's ticket
#
# Now to the foreign key. A connection may ask SQLite what it thinks of them:

# %%
predict(
    "A table says `references sailing (id)`. What does SQLite do with a booking for sailing 99, "
    "which does not exist?",
    "It refuses it",
    "It takes it",
    "It takes it with a warning",
)

# %% facts="0.48" tags=["predict"]
desk = create_async_engine(MEMORY)
async with desk.begin() as conn:
    await conn.execute(text("create table sailing (id integer primary key)"))
    await conn.execute(text("create table booking (sailing_id integer references sailing (id))"))
    await conn.execute(text("insert into booking values (99)"))
    print("bookings:", await conn.scalar(text("select count(*) from booking")))
    print("foreign_keys:", await conn.scalar(text("pragma foreign_keys")))
await desk.dispose()

# %% [markdown]
# They are **off**, unless a connection switches them on. `pragma foreign_keys = on` is not stored in
# the file, it holds for *that connection* only. A pool opens new ones when it likes. What meets each
# new connection is an event of the engine:

# %% facts="0.48"
desk = create_async_engine(MEMORY)


@event.listens_for(desk.sync_engine, "connect")
def enforce_keys(connection, record):
    cursor = connection.cursor()
    cursor.execute("pragma foreign_keys = on")
    cursor.close()


async with desk.begin() as conn:
    await conn.execute(text("create table sailing (id integer primary key)"))
    await conn.execute(text("create table booking (sailing_id integer references sailing (id))"))
    try:
        await conn.execute(text("insert into booking values (99)"))
    except DBAPIError as error:
        print(type(error).__name__, "-", error.orig)
await desk.dispose()

# %% [markdown]
# (The event is the *sync* engine's, inside the async one. There is one called `first_connect` too.
# You know by now why it is not the one you want.)
#
# ### Exercise: `fresh_db`
#
# Write `fresh_db(folder)` for the desk's tests. At each call it returns an async engine on a **new,
# empty** SQLite database, in a file in `folder` (a `Path`), where one can look at it when a test has
# failed.
#
# - The files of earlier calls stay as they are, also when nobody has connected yet.
# - Two sessions are two connections: what one does, the other does not undo.
# - *Every* connection enforces foreign keys.


# %% exercise="sqlite_testing.fresh_db"
def fresh_db(folder: Path):
    """An engine on a new SQLite file in `folder`."""
    # <answer>
    import uuid

    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db")

    @event.listens_for(engine.sync_engine, "connect")
    def enforce_keys(connection, record):
        cursor = connection.cursor()
        cursor.execute("pragma foreign_keys = on")
        cursor.close()

    return engine
    # </answer>


# %%
sqlite_testing.fresh_db.check()

# %% [markdown]
# ## 2 · database is locked
#
# One file has one lock for writing. Here two connections want it; the second is told to wait for a
# twentieth of a second only:

# %% facts="3.18"
file = folder / "shop.db"
file.unlink(missing_ok=True)
shop = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args={"timeout": 0.05})
async with shop.begin() as conn:
    await conn.execute(text("create table sailing (seats int)"))
    await conn.execute(text("insert into sailing values (8)"))

async with shop.connect() as anna, shop.connect() as bert:
    await anna.execute(text("update sailing set seats = 7"))
    try:
        await bert.execute(text("update sailing set seats = 6"))
    except DBAPIError as error:
        print("Bert:", error.orig)
    await anna.rollback()

usual = create_async_engine(f"sqlite+aiosqlite:///{file}", poolclass=NullPool)
async with usual.connect() as conn:
    print("without `timeout`, milliseconds:", await conn.scalar(text("pragma busy_timeout")))

# %% [markdown]
# Unless you say otherwise a connection waits five seconds, and then raises that. So it seems enough
# to be patient. Three clerks sell a seat each, with all the patience in the world: each reads how many
# are left, and writes one less.


# %%
async def sell(engine, clerks):
    async with engine.begin() as conn:
        left = await conn.scalar(text("select seats from sailing"))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # the clerk types, while the others look too
                await clerks.wait()
        await conn.execute(text("update sailing set seats = :left"), {"left": left - 1})


async def three_sales(engine):
    """Three clerks at the same time; what they are told, and how many seats are left of eight."""
    clerks = asyncio.Barrier(3)
    async with engine.begin() as conn:
        await conn.execute(text("update sailing set seats = 8"))
    told = await asyncio.gather(*(sell(engine, clerks) for _ in range(3)), return_exceptions=True)
    async with engine.connect() as conn:
        left = await conn.scalar(text("select seats from sailing"))
    refused = [error.orig for error in told if error]
    told = f", {len(refused)} refused at once: {refused[0]}" if refused else ""
    return f"{3 - len(refused)} sold{told}, seats left: {left}"


predict(
    "Eight seats. Three clerks sell one each, at the same time, on one SQLite file. Left are",
    "5",
    "7",
    "8: all are refused",
)

# %% facts="3.18" tags=["predict"]
await shop.dispose()
shop = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args={"timeout": 60})
print(await three_sales(shop))
await shop.dispose()

# %% [markdown]
# Three seats sold, and one is missing. No error. Python's driver begins a transaction **before the
# first write**, so each SELECT stood outside of it: all three read 8, waited politely for the lock,
# and wrote 7.
#
# So we begin ourselves. The driver's own BEGIN is switched off (`isolation_level=None`), and the event
# `begin` sends ours. There are two kinds of it:


# %%
def shop_with(begin, **arguments):
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}", connect_args={"isolation_level": None, **arguments}
    )

    @event.listens_for(engine.sync_engine, "begin")
    def send_begin(conn):
        conn.exec_driver_sql(begin)

    return engine


predict(
    "All wait for up to 60 seconds. After a plain `begin`, which takes no lock yet, three clerks read "
    "and then write. They",
    "sell three seats, one after another",
    "lose sales, as before",
    "are refused at once, all but one, in spite of the 60 seconds",
)

# %% facts="3.18" tags=["predict"]
for begin in ("begin", "begin immediate"):
    shop = shop_with(begin, timeout=60)
    print(f"{begin:16}", await three_sales(shop))
    await shop.dispose()

# %% [markdown]
# After a plain `begin` all three hold what they have read. One may write. The other two would write on
# what is no longer true; to wait would be in vain, so SQLite does not: `database is locked`, at once,
# however patient you are. `begin immediate` takes the lock for writing **first**. The others wait at
# their BEGIN, and read when it is their turn.
#
# One more thing holds up a sale: somebody who only *reads*, and takes their time.

# %%
for mode in ("delete", "wal"):
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute(f"pragma journal_mode = {mode}").fetchall()
    reader.execute("begin")
    reader.execute("select * from sailing").fetchall()  # a report that reads on and on

    shop = shop_with("begin immediate", timeout=0.05)
    try:
        await sell(shop, asyncio.Barrier(1))
        print(f"{mode:7} sold")
    except DBAPIError as error:
        print(f"{mode:7} {error.orig}")
    await shop.dispose()
    reader.close()

# %% [markdown]
# `wal` writes changes into a log beside the file, and readers go on with what they saw. It is stored
# in the file: say it once, or at each connect.
#
# ### Exercise: `patient`
#
# Write `shop_engine(file, patience)`, for programs that sell from one SQLite file, several at a time.
#
# - A transaction has the lock for writing from its first moment on.
# - Who finds it taken waits for up to `patience` **seconds**.
# - Nobody is held up by a program that only reads.


# %% exercise="sqlite_testing.patient"
def shop_engine(file: Path, patience: float):
    """An engine whose transactions wait for each other."""
    # <answer>
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}",
        connect_args={"timeout": patience, "isolation_level": None},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def keep_a_log(connection, record):
        cursor = connection.cursor()
        cursor.execute("pragma journal_mode = wal")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(conn):
        conn.exec_driver_sql("begin immediate")

    return engine
    # </answer>


# %%
sqlite_testing.patient.check()

# %% [markdown]
# ## 3 · One script, two opinions
#
# Now the lies. We give the same statements to both databases and write down what each says. `says`
# tries them in a transaction and undoes it.


# %%
postgres = create_async_engine(lab.url)


async def says(engine, *statements):
    """What a database says of some statements: taken, a result, or why it refuses."""
    async with engine.connect() as conn:
        try:
            for statement in statements:
                result = await conn.execute(text(statement))
            return str(result.scalar()) if result.returns_rows else "taken"
        except DBAPIError as error:
            return f"no: {getattr(error.orig, 'sqlstate', None) or error.orig}"


async def both(*statements):
    lite = create_async_engine(MEMORY)
    answers = [await says(lite, *statements), await says(postgres, *statements)]
    await lite.dispose()
    return answers


predict(
    "A column of type integer. What does SQLite do with the text 'two'?",
    "It refuses it",
    "It stores a 0",
    "It stores the text",
)

# %% facts="0.48" tags=["predict"]
promises = {
    "an integer": ("n integer", "'two'"),
    "max 3 signs": ("n varchar(3)", "'Puffin'"),
    "up to 32767": ("n smallint", "99999"),
    "a day": ("n date", "'2026-02-30'"),
    "a key that exists": ("n int primary key, up int references pier", "1, 99"),
    "not null": ("n int not null", "null"),
    "a check": ("n int check (n > 0)", "-1"),
}
said = Grid("promised", ["SQLite", "Postgres"])
for promise, (column, value) in promises.items():
    answers = await both(f"create table pier ({column})", f"insert into pier values ({value})")
    for database, answer in zip(said.columns, answers, strict=True):
        kept = answer.startswith("no")
        code = answer[4:] if len(answer) == 9 else ""
        said.mark(
            promise, database, "good" if kept else "bad", f"refused {code}" if kept else "taken"
        )

print(await both("create table pier (n integer)", "insert into pier values ('two') returning n"))
said

# %% [markdown]
# In SQLite a column's type is a wish. Lengths, ranges, days, foreign keys: noted, and not kept. NOT NULL,
# UNIQUE and CHECK are kept. (The five signs are Postgres's **SQLSTATE**, which names the reason.)
#
# A test that stores nonsense by mistake is green here. And some *questions* have two answers:

# %% facts="0.50"
for question in (
    "select 'Gull' like 'gull'",
    "select lower('ÆRØ')",
    "select max(1, 2)",
    "select now() is null",
    "select 'Gull' ilike 'gull'",
    "select true + 1",
):
    one, other = await both(question)
    print(f"{question:28} SQLite: {one:36} Postgres: {other}")

# %% [markdown]
# Where one of them refuses, your first run tells. Read the first two lines again: both answer, and
# **differently**. LIKE minds the case in Postgres and does not in SQLite; `lower` knows the alphabet in
# Postgres, and a to z in SQLite.
#
# An upsert is a mixed case. The short form is the same; the one that names a constraint is not:

# %%
table = "create table pier (code text constraint code_once unique)"
for conflict in ("on conflict (code) do nothing", "on conflict on constraint code_once do nothing"):
    print(conflict, "-", await both(table, f"insert into pier values ('A') {conflict}"))

# %% [markdown]
# ### Exercise: `lies`
#
# Collect evidence. Write `lies(table)`: a list of at least four SQL scripts (a text each, statements
# with `;` between them). Each makes a table of that name, and does something with it that SQLite accepts
# and Postgres refuses:
#
# - for at least **four different reasons** (SQLSTATEs);
# - about values, types, keys or groups. A function, a column or a word that Postgres does not know is
#   no lie.


# %% exercise="sqlite_testing.lies"
def lies(table: str) -> list[str]:
    """Scripts that SQLite accepts and Postgres refuses."""
    # <answer>
    make = f"create table {table}"
    return [
        f"{make} (seats integer); insert into {table} values ('two')",
        f"{make} (code varchar(6)); insert into {table} values ('PUFFIN-1')",
        f"{make} (seats integer); insert into {table} values (1099511627776)",
        f"{make} (id int primary key, up int references {table}); insert into {table} values (1, 9)",
    ]
    # </answer>


# %%
sqlite_testing.lies.check()

# %% [markdown]
# ## 4 · Times, and JSON
#
# The *Alca* leaves Osaka's harbour (a long story) at nine in the morning there. That is midnight in
# Greenwich.

# %%
logbook = Table(
    "logbook",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("extras", JSON),
)
leaves = datetime(2026, 7, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))

predict(
    "A column DateTime(timezone=True). In goes 09:00+09:00. What comes back from SQLite?",
    "09:00+09:00",
    "00:00+00:00",
    "09:00, without a zone",
)

# %% facts="0.48" tags=["predict"]
lite = create_async_engine(MEMORY)
for name, engine in (("SQLite", lite), ("Postgres", postgres)):
    async with engine.begin() as conn:
        await conn.run_sync(logbook.metadata.drop_all)
        await conn.run_sync(logbook.metadata.create_all)
        await conn.execute(insert(logbook), {"at": leaves, "extras": {"meal": "fish"}})
        back = await conn.scalar(select(logbook.c.at))
    print(f"{name:9} {back:%H:%M}  zone: {back.tzinfo}  the same moment: {back == leaves}")

try:
    async with lite.connect() as conn:
        print(await conn.scalar(select(logbook.c.at)) < leaves)
except TypeError as error:
    print("SQLite's, compared:", error)

# %% [markdown]
# SQLite has no type for a moment. SQLAlchemy writes the clock as text and leaves the zone out, and what
# comes back is **nine hours off** for whoever takes it for UTC. Postgres gives another clock, and the
# same moment.
#
# The cure is a type of your own. A `TypeDecorator` stands between Python and the column: one method for
# the way in, one for the way out. This one keeps ferries' names in capitals:

# %%
class Shouted(TypeDecorator):
    """Text that is stored in capitals."""

    impl = String  # what the database sees
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.upper()

    def process_result_value(self, value, dialect):
        return None if value is None else value.title()


ferries = Table("ferries", MetaData(), Column("name", Shouted))
async with lite.begin() as conn:
    await conn.run_sync(ferries.metadata.drop_all)
    await conn.run_sync(ferries.metadata.create_all)
    await conn.execute(insert(ferries), {"name": "Tern"})
    print("stored:", await conn.scalar(text("select name from ferries")))
    print("and back in Python:", await conn.scalar(select(ferries)))

# %% [markdown]
# ### Exercise: `harbour_time`
#
# Write a type `HarbourTime` for moments, the same on SQLite and on Postgres, through aiosqlite, asyncpg and psycopg.
#
# - An aware `datetime` goes in, an aware one that is **equal** comes out (in whatever zone, to the
#   microsecond).
# - The database sorts and compares by the moment.
# - A `datetime` without a zone is refused, with an exception. None stays None.


# %% exercise="sqlite_testing.harbour_time"
class HarbourTime(TypeDecorator):
    """A moment."""

    # <answer>
    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value, dialect):
        return None if value is None else value.replace(tzinfo=UTC)

    # </answer>


# %%
sqlite_testing.harbour_time.check()

# %% [markdown]
# ### JSON
#
# "SQLite has no JSONB, use JSON in tests." True? The column `extras` above is a `JSON`. Here is one that
# says JSONB, on both:

# %% facts="0.49"
from sqlalchemy import ARRAY
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import CompileError

extras = Table("extras", MetaData(), Column("e", JSONB))
questions = {
    "e['meal']": select(extras.c.e["meal"].as_string()),
    "e @> {...}": select(extras).where(extras.c.e.contains({"meal": "fish"})),
    "has_key": select(extras).where(extras.c.e.has_key("meal")),
}
for name, engine in (("SQLite", lite), ("Postgres", postgres)):
    async with engine.begin() as conn:
        await conn.run_sync(extras.metadata.drop_all)
        await conn.run_sync(extras.metadata.create_all)
        await conn.execute(insert(extras), {"e": {"meal": "fish"}})
    for what, question in questions.items():
        try:
            async with engine.connect() as conn:
                print(f"{name:9} {what:11}", await conn.scalar(question))
        except DBAPIError as error:
            print(f"{name:9} {what:11} no: {error.orig}")

try:
    async with lite.begin() as conn:
        tags = Table("tags", MetaData(), Column("words", ARRAY(String)))
        await conn.run_sync(tags.metadata.create_all)
except CompileError as error:
    print("ARRAY:    ", str(error).rpartition("can't ")[2].partition("(")[0])

# %% [markdown]
# It was true once. Today the column can be made and a key can be read; the operators that are the
# reason for having JSONB cannot. Nor can a table with an array be made at all.
#
# ## 5 · Tests that run
#
# Now we write tests, and run them: with real pytest, in a process of its own, on files that we write
# here. `run_pytest` prints what pytest says of each test. Which database they use is in `DESK_URL`.

# %%
import os
import subprocess
import sys

INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


def run_pytest(conftest, tests, url):
    """Write both files to a new folder, and run pytest there."""
    if conftest is ...:
        return print("Nothing to run yet.")
    with tempfile.TemporaryDirectory() as place:
        for name, content in (
            ("conftest.py", conftest),
            ("test_desk.py", tests),
            ("pytest.ini", INI),
        ):
            Path(place, name).write_text(content)
        settings = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "120", "DESK_URL": url}
        here = {key: said for key, said in os.environ.items() if key not in ("CI", "BUILD_NUMBER")}
        plugins = ["-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "--tb=line", "--color=no", *plugins],
            cwd=place,
            env=here | settings,  # where CI is said to run, pytest shortens no line
            capture_output=True,
            text=True,
        )
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    told = [line for line in lines if line.startswith(("PASSED", "FAILED", "ERROR"))]
    for line in told or lines[-1:]:
        print(line.replace("test_desk.py::", ""))


# %% [markdown]
# Two files, as in every project. `conftest.py` has the **fixtures**: what comes before the `yield` is
# done before a test, what comes after it afterwards, also when the test has failed. A test gets what a
# fixture yields by naming it as an argument. Async fixtures are made by `pytest_asyncio`, and an async
# test wears a mark.

# %% facts="0.48"
FRESH = """
import os

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession


@pytest_asyncio.fixture
async def session():
    engine = create_async_engine(os.environ["DESK_URL"])
    async with engine.begin() as conn:
        await conn.execute(text("drop table if exists ticket"))
        await conn.execute(text("drop table if exists trip"))
        await conn.execute(text("create table trip (id integer primary key)"))
        await conn.execute(
            text("create table ticket (trip_id int references trip (id), code varchar(6))")
        )
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()
"""

TESTS = """
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.asyncio


async def test_a_ticket_is_stored(session):
    await session.exec(text("insert into trip values (7)"))
    await session.exec(text("insert into ticket values (7, 'ALCA01')"))
    await session.commit()
    assert (await session.exec(text("select code from ticket"))).scalars().all() == ["ALCA01"]


async def test_mrs_gull_gets_a_ticket(session):
    await session.exec(text("insert into ticket values (99, 'GULL01')"))
    await session.commit()


async def test_she_is_found(session):
    await session.exec(text("insert into trip values (7)"))
    await session.exec(text("insert into ticket values (7, 'GULL01')"))
    found = await session.exec(text("select code from ticket where code like 'gull%'"))
    assert len(found.all()) == 1
"""

for database, url in (("SQLite", MEMORY), ("Postgres", lab.url)):
    print(database)
    run_pytest(FRESH, TESTS, url)

# %% [markdown]
# There it is: the same tests, the same code. **Green on SQLite, red on Postgres**, twice: the ticket for
# a sailing that does not exist, and a search that will find nobody. (Try the first with
# `foreign_keys = on`, and SQLite refuses as well. No PRAGMA helps with the second.)
#
# So the tests should run on the database that the desk runs on. "But that is slow", they say. Is it? The
# trick is not to make the tables anew for each test, but to **undo** what the test did: one transaction
# around everything, and a rollback.


# %%
desk_tables = MetaData()
for name in ("ferry", "sailing", "passenger", "booked", "staff", "mail"):
    Table(name, desk_tables, Column("id", Integer, primary_key=True), Column("note", String))


async def write_into(session):
    """The test itself."""
    await session.exec(insert(desk_tables.tables["booked"]).values(note="window seat"))
    await session.commit()


async def on_sqlite():
    """A new database in memory, with the desk's tables."""
    engine = create_async_engine(MEMORY)
    async with engine.begin() as conn:
        await conn.run_sync(desk_tables.create_all)
    async with AsyncSession(engine) as session:
        await write_into(session)
    await engine.dispose()


async def on_postgres_anew():
    """The tables are dropped and made again."""
    async with postgres.begin() as conn:
        await conn.run_sync(desk_tables.drop_all)
        await conn.run_sync(desk_tables.create_all)
    async with AsyncSession(postgres) as session:
        await write_into(session)


async def on_postgres_undone():
    """The tables are there; what the test does is rolled back."""
    async with postgres.connect() as conn:
        await conn.begin()
        async with AsyncSession(conn, join_transaction_mode="create_savepoint") as session:
            await write_into(session)
        await conn.rollback()


predict(
    "The quickest way to a clean database for a test is",
    "SQLite in memory, new each time",
    "Postgres, tables dropped and made again",
    "Postgres, a rollback",
)

# %% facts="0.47" tags=["predict"]
import time

best = {}
for _ in range(25):
    for way in (on_sqlite, on_postgres_anew, on_postgres_undone):
        began = time.perf_counter()
        await way()
        best[way] = min(best.get(way, 9), time.perf_counter() - began)

undone = best[on_postgres_undone]
print("quicker than to make Postgres's tables anew:", undone < best[on_postgres_anew])
print("quicker than a new SQLite database:", undone < best[on_sqlite])

# %% [markdown]
# The rollback on Postgres beats SQLite in memory, and says the truth. (By how much depends on your
# machine and on how many tables there are. A rollback does not mind them: it makes none.)
#
# The important word in it is `create_savepoint`. The test thinks that it commits. What becomes of that
# when your own transaction is around it?

# %%
modes = ("conditional_savepoint", "create_savepoint")  # the first is the default
predict(
    "Default mode. A test commits ticket A, then inserts B, and rolls back. It finds",
    "A",
    "A and B",
    "nothing",
)


# %% tags=["predict"]
async def stay(engine, mode=None):
    """A test that commits, rolls back, and commits: what it sees in between, and what stays."""
    async with engine.begin() as conn:
        await conn.execute(text("drop table if exists stub"))
        await conn.execute(text("create table stub (code text)"))
    async with engine.connect() as conn:
        await conn.begin()
        async with AsyncSession(conn, join_transaction_mode=mode) as session:
            await session.exec(text("insert into stub values ('A')"))
            await session.commit()
            await session.exec(text("insert into stub values ('B')"))
            await session.rollback()
            seen = (await session.exec(text("select code from stub"))).scalars().all()
            await session.exec(text("insert into stub values ('C')"))
            await session.commit()
        await conn.rollback()
    async with engine.connect() as conn:
        left = (await conn.execute(text("select code from stub"))).scalars().all()
    return f"the test sees {seen}, and behind it stays {left}"


for mode in modes:
    print(f"{mode:22}", await stay(postgres, mode))

# %% [markdown]
# In the default mode the session's rollback reaches *your* transaction: A, which the test had committed,
# is gone. And what the test does then is on its own, and **really committed**. `create_savepoint` gives
# the session a savepoint inside your transaction, and a new one after each commit and rollback. In it the
# test finds what it would find in production, and nothing stays.
#
# Then the same on SQLite, please?

# %%
predict(
    "The same fixture, mode create_savepoint, on aiosqlite. What stays behind the test?",
    "nothing",
    "A",
    "C",
)

# %% facts="N5" tags=["predict"]
paper = f"sqlite+aiosqlite:///{folder}/paper.db"
desk = create_async_engine(paper)
print("as it comes:   ", await stay(desk, "create_savepoint"))
await desk.dispose()

desk = create_async_engine(paper, connect_args={"isolation_level": None})


@event.listens_for(desk.sync_engine, "begin")
def send_begin(conn):
    conn.exec_driver_sql("begin")


print("with our begin:", await stay(desk, "create_savepoint"))
await desk.dispose()

# %% [markdown]
# It is the driver again, which begins too late: the savepoint stood outside of any transaction, and to
# release it was to commit. With a BEGIN of our own the recipe holds on SQLite too.
#
# ### Which database do the tests get?
#
# A habit that you find in many a `database.py`: `if os.getenv("TESTING"):` use SQLite.

# %% facts="0.45"
for value in ("1", "0", "false", ""):
    os.environ["TESTING"] = value
    print(f"TESTING={value!r:8} chooses", "SQLite" if os.getenv("TESTING") else "Postgres")
del os.environ["TESTING"]

# %% [markdown]
# A text is true unless it is empty. Somebody writes `TESTING=0` into production's environment, to be on
# the safe side, and the desk sells into a file. Let the *tests* say which database they want, by a URL,
# as our `DESK_URL` does, and let the program know nothing of tests. (More on settings for several
# environments: lessons 02 and 06.)
#
# ### Exercise: `fixtures`
#
# Write `CONFTEST`, the text of a `conftest.py` (in triple quotes, in place of the dots). It has a
# fixture `session`: an `AsyncSession` on the Postgres of the environment's `DESK_URL`. The tables are
# there already; leave them be.
#
# The check runs real pytest over tests that commit, roll back after an error, go on after it, forget to
# commit, and fail. Each of them
#
# - finds what it has committed itself, and nothing of the others;
# - has an event loop of its own, as is usual with pytest-asyncio.
#
# And when all are over, Postgres finds not a single row. Undo them or remove them, as you like; but
# drop no table.

# %% exercise="sqlite_testing.fixtures"
CONFTEST = (
    # <answer>
    """
import os

import pytest_asyncio
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession


@pytest_asyncio.fixture
async def engine():
    engine = create_async_engine(os.environ["DESK_URL"])
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def session(engine):
    async with engine.connect() as conn:
        await conn.begin()
        async with AsyncSession(conn, join_transaction_mode="create_savepoint") as session:
            yield session
        await conn.rollback()
"""
    # </answer>
)

# %% [markdown]
# Run it yourself first, over two tests that leak (the table `ticket` is still there):

# %%
LEAKING = """
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("code", ["ALCA01", "TERN01"])
async def test_alone(session, code):
    await session.exec(text("insert into ticket (code) values (:code)"), params={"code": code})
    await session.commit()
    await session.rollback()
    assert (await session.exec(text("select code from ticket"))).scalars().all() == [code]
"""

async with postgres.begin() as conn:
    await conn.execute(text("delete from ticket"))

run_pytest(CONFTEST, LEAKING, lab.url)
print("tickets left:", await says(postgres, "select count(*) from ticket"))

# %%
sqlite_testing.fixtures.check()

# %% [markdown]
# ## Stuck?
#
# Here is what the event is for: a PRAGMA by hand reaches one connection. Take it away, or ask a second
# connection, and look again:

# %%
desk = create_async_engine(f"sqlite+aiosqlite:///{folder}/smallest.db")
async with desk.connect() as conn:
    await conn.execute(text("pragma foreign_keys = on"))
    print(type(desk.pool).__name__, "- keys:", await conn.scalar(text("pragma foreign_keys")))
async with desk.connect() as first, desk.connect() as second:
    keys = [await conn.scalar(text("pragma foreign_keys")) for conn in (first, second)]
    print("two connections, keys:", sorted(keys))
await desk.dispose()

# %% [markdown]
# - **`no such table`** in memory: another connection, another database. Section 1.
# - **`database is locked`** at once: a plain BEGIN, then a write. After five seconds: somebody holds the
#   lock for long. Section 2.
# - **`requested an async fixture`**: `pytest_asyncio.fixture`, not `pytest.fixture`.
# - **`attached to a different loop`**: an engine with a pool has outlived the loop of its test. Make it in
#   the fixture, dispose of it there.
# - **`Invalid argument(s) 'pool_size'`**: an engine in memory takes none. Section 1.
#
# ## Go further: the same answer from both
#
# Some tests stay on SQLite, because a tool demands it, or a customer does. Then the *queries* have to be
# such that both mean the same. SQLAlchemy knows both dialects, if you let it write the SQL:

# %%
from sqlalchemy.dialects import postgresql, sqlite

booking = Table(
    "booking",
    MetaData(),
    Column("code", String),
    Column("passenger", String),
    Column("extras", JSON),
)
for what in (
    booking.c.passenger.icontains("gu_ll", autoescape=True),
    booking.c.extras["meal"].as_string(),
):
    for dialect in (sqlite.dialect(), postgresql.asyncpg.dialect()):
        print(f"{dialect.name:11}", str(what.compile(dialect=dialect)).replace("\n", " "))

# %% [markdown]
# Write `find(conn, part, meal)`: the codes, sorted, of the bookings that have `part` in the passenger's
# name and `meal` as the value of the key `"meal"` in `extras`.
#
# - Upper and lower case of a to z do not matter in names; in the meal they do.
# - A `%`, a `_` or a backslash that somebody types is that sign.
# - `extras` may be NULL, or without a meal.
# - It finds the same on SQLite and on Postgres (where `extras` is a JSONB), whatever the driver. You may use
#   the table above.


# %% exercise="sqlite_testing.find"
async def find(conn, part: str, meal: str) -> list[str]:
    """Codes of the bookings of passengers named like this, with this meal."""
    # <answer>
    rows = await conn.execute(
        select(booking.c.code)
        .where(booking.c.passenger.icontains(part, autoescape=True))
        .where(booking.c.extras["meal"].as_string() == meal)
        .order_by(booking.c.code)
    )
    return list(rows.scalars())
    # </answer>


# %%
sqlite_testing.find.check()

# %% [markdown]
# ## What to remember
#
# - **In memory there is one connection** for everybody. A new file for each test costs nothing.
# - **Foreign keys are off** until each connection switches them on.
# - **`begin immediate`, patience, and `wal`** are the cure for `database is locked`. Patience alone is none.
# - **SQLite takes what Postgres refuses:** wrong types, long texts, large numbers. Zones are lost, LIKE is
#   kinder.
# - **Test on the database that you run on.** A transaction around the test, the session in savepoints, a
#   rollback at the end: as quick as SQLite, and true.
#
# What we opened, we close:

# %%
await lite.dispose()
await postgres.dispose()
