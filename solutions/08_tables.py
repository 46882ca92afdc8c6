# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From models to tables
#
# *Lesson 08 · about 60 minutes*
#
# The Skerry Line's new booking program goes out tonight. It worked on the clerk's laptop for weeks.
# On the server **three workers** start, as they should; two of them crash at once, with something
# about `pg_type_typname_nsp_index`. At the second try all three are up, and nobody asks any more.
#
# A week later somebody adds a column to a model. The tests are green, the program starts, and every
# booking fails. "But we call `create_all` at each start!" says the clerk. They do.
#
# <!-- objectives -->

# %%
import asyncio
import gc
import json
import os
import sys
import threading
import time
import warnings
from contextlib import asynccontextmanager
from datetime import datetime

from checks import tables
from engineroom import lab
from engineroom.widgets import chart, predict
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, event, func, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

# %% [markdown]
# Three helpers for the day. `ask` puts a question to the database, `try_to` stores or changes something
# and tells how that went, and `said_to_postgres` collects what an engine sends.

# %%
owner = create_async_engine(lab.url)


async def ask(question):
    async with owner.connect() as conn:
        return (await conn.execute(text(question))).all()


def reason(error):
    """What Postgres gave as its reason: a number and a sentence."""
    return f"{error.orig.sqlstate} {str(error.orig).rpartition('>: ')[2]}"


async def try_to(statement, engine=owner):
    try:
        async with engine.begin() as conn:
            await conn.execute(text(statement))
        return "done"
    except DBAPIError as error:
        return reason(error)


def said_to_postgres(engine):
    """A list that fills with the beginning of each statement, from now on."""
    said = []

    def note(conn, cursor, statement, *_):
        said.append(" ".join(statement.split()[:3]))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    event.listen(engine.sync_engine, "commit", lambda conn: said.append("COMMIT"))
    return said


async def fresh():
    """Away with the tables of an earlier run, so that every cell may be run again."""
    async with owner.begin() as conn:
        await conn.execute(text("drop schema if exists harbour cascade"))
        for (name,) in await conn.execute(
            text("select tablename from pg_tables where schemaname = 'public'")
        ):
            await conn.execute(text(f'drop table "{name}" cascade'))


await fresh()

# %% [markdown]
# ## 1 · A model promises, a table keeps
#
# A class with `table=True` describes a table. It makes none. It only enters a `Table` into a
# **`MetaData`**, the list of all tables that SQLAlchemy knows of. `SQLModel.metadata` is such a list,
# one for the whole process, and a name can stand in it once:

# %%
known = MetaData()

for _ in range(2):
    try:
        Table("pier", known, Column("id", Integer, primary_key=True))
        print("entered")
    except InvalidRequestError as error:
        print(str(error).partition(".")[0])

for _ in range(2):
    Table("crane", known, Column("n", Integer, index=True), extend_existing=True)
print("with extend_existing:", [index.name for index in known.tables["crane"].indexes])

# %% [markdown]
# So a cell with models fails when it is run a second time. (The full message offers `extend_existing`: that
# changes the old table in place, and then has its index twice.) In a notebook, in tests, or in
# a function that makes models, give them a list of their own. A base class with its own `registry`
# has one:


# %%
class Base(SQLModel, registry=registry()):
    """Models that are entered into `Base.metadata`, and not into everybody's."""


class Island(Base, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Pier(Base, table=True):
    id: int | None = Field(default=None, primary_key=True)
    island_id: int = Field(foreign_key="island.id", index=True)
    label: str = Field(max_length=8)
    depth: float = Field(gt=0)
    remark: str | None = None
    built: datetime


print(sorted(Base.metadata.tables), sorted(SQLModel.metadata.tables))

# %% [markdown]
# Now they shall become tables. How `run_sync` does that is section 2; here we look at what comes of it,
# in Postgres' own **catalog**.

# %% facts="0.51 N12"
await fresh()
async with owner.begin() as conn:
    await conn.run_sync(Base.metadata.create_all)

for name, kind, size, null in await ask(
    "select column_name, data_type, character_maximum_length, is_nullable"
    " from information_schema.columns where table_name = 'pier' order by ordinal_position"
):
    kind = f"{kind}({size})" if size else kind
    print(f"{name:10} {kind:25} {'may be NULL' if null == 'YES' else 'not null'}")

# %% [markdown]
# - `str` is `character varying`, with a length only where the model has `max_length`.
# - `| None` is what lets a column be empty: `remark` may be, the others may not.
# - `datetime` is `timestamp with time zone`: a ferry leaves at one moment, on every clock.
#
# The last one is SQLModel's doing. SQLAlchemy by itself, in its declarative classes and in `Table`, takes a
# plain `DateTime` unless you say more:

# %%
from sqlalchemy import DateTime

for kind in (DateTime(), DateTime(timezone=True)):
    print(kind.compile(dialect=owner.dialect))

# %% [markdown]
# A `chart` draws the tables as the catalog has them:

# %%
await chart(owner, "island", "pier")

# %% [markdown]
# One rule of the model is missing in that picture.

# %%
predict(
    "Pier has depth = Field(gt=0). Somebody stores Pier(depth=-4). What happens?",
    "Python refuses to make the object",
    "Postgres refuses to store it",
    "It is stored",
)

# %% facts="N12" tags=["predict"]
await try_to("truncate island, pier")
async with AsyncSession(owner) as session:
    skerry = Island(name="Skerry")
    session.add(skerry)
    await session.flush()
    session.add(Pier(island_id=skerry.id, label="A", depth=-4, built=datetime.now().astimezone()))
    await session.commit()

print(await ask("select label, depth from pier"))

# %% [markdown]
# Nobody looked. On a table class pydantic checks nothing, and `gt` is a rule of pydantic's: Postgres never
# hears of it. What do hold are the rules that stand in the table:

# %%
for row in (
    "insert into island (name) values ('Skerry')",
    "insert into pier (island_id, label, depth, built) values (999, 'B', 3, now())",
    "insert into pier (island_id, label, built) values (1, 'C', now())",
    "insert into pier (island_id, label, depth, built) values (1, 'the longest one', 3, now())",
):
    print((await try_to(row)).partition(" ")[0], "-", row)

# %% [markdown]
# The number is the **SQLSTATE**: 23505 not unique, 23503 points to nothing, 23502 is NULL and must not be,
# 22001 too long. A program, a script, an import, psql: all of them get the same answer.
#
# Two more rules can be given to the table. A rule about values is a `CheckConstraint`. And a value that
# is there when nobody gives one is a `server_default`; a `default` of Python's helps Python only:


# %%
class Rules(SQLModel, registry=registry()):
    """A list of its own again."""


class Buoy(Rules, table=True):
    __table_args__ = (CheckConstraint("depth > 0"),)
    id: int | None = Field(default=None, primary_key=True)
    depth: float
    lit: bool = True
    colour: str = Field(default="red", sa_column_kwargs={"server_default": "red"})
    laid_at: datetime = Field(sa_column_kwargs={"server_default": func.now()})


await fresh()
async with owner.begin() as conn:
    await conn.run_sync(Rules.metadata.create_all)

for row in (
    "insert into buoy (depth, lit) values (-4, true)",
    "insert into buoy (depth) values (4)",
    "insert into buoy (depth, lit) values (4, true)",
):
    print((await try_to(row)).partition(" ")[0], "-", row)

await chart(owner, "buoy")

# %% [markdown]
# The first is refused now, 23514. The second is refused because `lit = True` is a default of Python's, and
# the row came by another way. `colour` and `laid_at` need nobody: a text, or `func.now()`, stands in the table.
#
# ### Your turn: the fleet
#
# Write `fleet()`. It returns a `MetaData` of its own with three tables, and can be called any number of
# times. The check makes them, and then tries to store wrong rows, from outside of Python.
#
# | table | columns |
# |---|---|
# | `ferry` | `id`; `name`, unique; `seats`, a number above 0 |
# | `sailing` | `id`; `ferry_id`, points to a ferry; `departs_at`, a moment with its zone, with an index |
# | `booking` | `id`; `sailing_id`, points to a sailing; `code`, six characters at most, unique; `passenger`; `note`, may be missing; `seats`, a number above 0, 1 if nobody says; `created_at`, a moment with its zone, now if nobody says |
#
# All but `note` have to be there. `id` is the primary key, a number that Postgres gives. Any way to write
# models is fine: SQLModel, SQLAlchemy's declarative classes, or `Table`.


# %% exercise="tables.models"
def fleet() -> MetaData:
    """A MetaData of its own with ferry, sailing and booking."""

    # <answer>
    class Base(SQLModel, registry=registry()):
        pass

    class Ferry(Base, table=True):
        __table_args__ = (CheckConstraint("seats > 0"),)
        id: int | None = Field(default=None, primary_key=True)
        name: str = Field(unique=True)
        seats: int

    class Sailing(Base, table=True):
        id: int | None = Field(default=None, primary_key=True)
        ferry_id: int = Field(foreign_key="ferry.id")
        departs_at: datetime = Field(index=True)

    class Booking(Base, table=True):
        __table_args__ = (CheckConstraint("seats > 0"),)
        id: int | None = Field(default=None, primary_key=True)
        sailing_id: int = Field(foreign_key="sailing.id")
        code: str = Field(unique=True, max_length=6)
        passenger: str
        note: str | None = None
        seats: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
        created_at: datetime | None = Field(
            default=None, nullable=False, sa_column_kwargs={"server_default": func.now()}
        )

    return Base.metadata
    # </answer>


# %%
tables.models.check()

# %% [markdown]
# ## 2 · Through `run_sync`
#
# `create_all` is older than async Python. It is a plain function that wants a plain connection. Four
# ways that seem to lead there:


# %% facts="0.51"
async def tell(way):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coroutine that nobody awaits: that is the mistake
        try:
            await way()
        except (AttributeError, TypeError, MissingGreenlet) as error:
            print(f"{type(error).__name__}: {error}".partition(". Was")[0])
        gc.collect()


async def on_the_engine():
    Base.metadata.create_all(owner)


async def on_the_connection():
    async with owner.begin() as conn:
        Base.metadata.create_all(conn)


async def on_what_is_inside():
    Base.metadata.create_all(owner.sync_engine)


async def with_parentheses():
    async with owner.begin() as conn:
        await conn.run_sync(Base.metadata.create_all())


await fresh()
for way in (on_the_engine, on_the_connection, on_what_is_inside, with_parentheses):
    await tell(way)

# %% [markdown]
# The third comes far: to the point where it would have to wait for Postgres, and cannot. To wait inside
# of a plain function, somebody has to start it in a **greenlet**. `run_sync` does that, and hands it the
# plain face of the connection. It calls what you give it: so no parentheses.
#
# And the transaction is yours. A fifth way fails without any error:

# %% facts="0.51"
await fresh()
async with owner.connect() as conn:  # connect, not begin
    await conn.run_sync(Base.metadata.create_all)
print("after connect():", await ask("select tablename from pg_tables where tablename = 'pier'"))

async with owner.begin() as conn:
    await conn.run_sync(Base.metadata.create_all)
print("after begin():  ", await ask("select tablename from pg_tables where tablename = 'pier'"))

# %% [markdown]
# `connect()` rolls back what nobody commits. In Postgres that holds for tables too.
#
# "Sync code must not run on the event loop, so `run_sync` takes a thread", one reads.

# %%
predict(
    "On which thread does run_sync run the function?",
    "A thread of its own",
    "A thread of the driver's",
    "The event loop's own thread",
)

# %% facts="3.24" tags=["predict"]
import greenlet

loops_thread = threading.get_ident()


def look_around(conn):
    print("the loop's own thread:", threading.get_ident() == loops_thread)
    print("in a greenlet:", greenlet.getcurrent().parent is not None)
    print("with a", type(conn).__module__, type(conn).__name__)


async with owner.connect() as conn:
    await conn.run_sync(look_around)

# %% [markdown]
# The loop's own. So what happens to everybody else while such a function is at work? A task that counts its
# turns tells us.


# %% facts="3.23"
async def turns_during(work):
    """How often another task got a turn while this was done."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    counting = asyncio.create_task(count())
    await work
    counting.cancel()
    return turns


async def in_run_sync(function):
    async with owner.connect() as conn:
        await conn.run_sync(lambda conn: None)  # be connected first
        return await turns_during(conn.run_sync(function))


waits = await in_run_sync(lambda conn: conn.execute(text("select pg_sleep(0.2)")))
works = await in_run_sync(lambda conn: time.sleep(0.2))
beside = await turns_during(asyncio.to_thread(time.sleep, 0.2))

print("run_sync waits for Postgres - others get turns:", waits > 2)
print("run_sync does other work - others get turns:", works > 2)
print("a real thread does it - others get turns:", beside > 2)

# %% [markdown]
# Inside `run_sync`, waiting *for the database* lets others go on, because SQLAlchemy awaits underneath.
# Reading a large file there, or computing, stops the whole program. `run_sync` is for SQLAlchemy's own
# plain functions: `create_all`, `inspect`, Alembic. For the rest there is `asyncio.to_thread`.
#
# ### Your turn: the timetable
#
# The harbour sends its timetable as a file that takes seconds to read. Write
# `load_timetable(engine, parse, blob)`: `parse(blob)` is a slow plain function and gives a list of rows,
# each a dictionary with `ferry`, `departs_at` and `seats_left`. Add them to the harbour's own table
# `sailing`, which has these columns and is there, and return how many.
#
# - While `parse` is at work, others get their turns, and you hold no connection.
# - All rows are stored, or none, beside those that are there. An error reaches the caller, also when a
#   sailing is there already.
# - The engine may be asyncpg's or psycopg's.


# %% exercise="tables.off_the_loop"
async def load_timetable(engine, parse, blob: bytes) -> int:
    """Store all rows of the timetable, or none; how many."""
    # <answer>
    rows = await asyncio.to_thread(parse, blob)
    insert = text(
        "insert into sailing (ferry, departs_at, seats_left)"
        " values (:ferry, :departs_at, :seats_left)"
    )
    async with engine.begin() as conn:
        await conn.execute(insert, rows)
    return len(rows)
    # </answer>


# %%
tables.off_the_loop.check()

# %% [markdown]
# ## 3 · To create is not to change
#
# `create_all` at each start: what does Postgres hear of it?

# %% facts="0.51 0.53"
await fresh()
desk = create_async_engine(lab.url)

for start in ("first start", "second start"):
    async with desk.begin() as conn:
        await conn.scalar(text("select 1"))  # be connected first
        said = said_to_postgres(desk)
        await conn.run_sync(Base.metadata.create_all)
    print(f"{start}: {said}")

await desk.dispose()

# %% [markdown]
# The second time: one look into the catalog, and nothing else. It asks *is there a table of this name?*,
# and what it looks like is not asked.
#
# It also makes only what it has heard of. A model enters the list when its class statement runs, and
# that is when its module is imported:


# %% facts="0.51"
class Early(SQLModel, registry=registry()):
    """A list of its own."""


def import_the_module():
    class Lighthouse(Early, table=True):
        id: int | None = Field(default=None, primary_key=True)


await fresh()
for step in (lambda: None, import_the_module):
    step()
    async with owner.begin() as conn:
        await conn.run_sync(Early.metadata.create_all)
    print(
        sorted(Early.metadata.tables),
        await ask("select tablename from pg_tables where tablename = 'lighthouse'"),
    )

# %% [markdown]
# No table, and no error either. If a table is missing, look for the `import` that is.
#
# Now the week after. The model has got a new column, a longer code and an index:

# %%
predict(
    "A column is new in the model. The program starts again, and calls create_all. What happens?",
    "The table gets the column",
    "create_all raises an error",
    "Nothing; the error comes later",
)


# %% facts="0.51" tags=["predict"]
from sqlalchemy import String


def ticket_table(length, *more):
    return Table("ticket", MetaData(), Column("code", String(length), primary_key=True), *more)


await fresh()
for table in (ticket_table(3), ticket_table(6, Column("season", Integer, index=True))):
    async with owner.begin() as conn:
        await conn.run_sync(table.metadata.create_all)
    print("create_all, for", [f"{column.name} {column.type}" for column in table.columns])

print("Postgres has:", *repr(await chart(owner, "ticket")).splitlines())
try:
    async with owner.connect() as conn:
        await conn.execute(table.select())
except DBAPIError as error:
    print(reason(error))

# %% [markdown]
# No new column, no longer code, no index, and no word of it. Then 42703, *undefined column*: at the first booking, and not at the start. That is why programs that live on use
# **migrations**, steps that change a table that is there; they are the subject of lesson 13. `create_all`
# is for a database that is empty: in tests, and on the first day.
#
# There is a counterpart. What does `drop_all` drop?

# %% facts="0.51"
await fresh()
await try_to("create table somebody_elses (n int)")
async with owner.begin() as conn:
    await conn.run_sync(Base.metadata.create_all)
    await conn.run_sync(Base.metadata.drop_all)

print(
    [name for (name,) in await ask("select tablename from pg_tables where schemaname = 'public'")]
)

# %% [markdown]
# Everything that the list knows, with all rows in it, and without a question. Keep it for tests.
#
# ### Your turn: drift
#
# Before the program goes out, you want to know where models and database have drifted apart. Write
# `drift(engine, metadata)`. It returns a set of names:
#
# - `"ticket"`: the models have this table, the database has not (its columns are not named as well);
# - `"ticket.season"`: a column is missing, or its length is another one, or NULL is allowed in one and
#   not in the other (a column's `name` is what Postgres knows, its `key` is Python's);
# - `"ticket:ix_ticket_season"`: an index is missing.
#
# What is only in the database, or in another schema of it, belongs to somebody else, and is not named.
# `drift` looks, and changes nothing. (`from sqlalchemy import inspect`: `inspect(conn)` answers such
# questions; and it is not async.)


# %% exercise="tables.drift"
async def drift(engine, metadata) -> set[str]:
    """What the models have and the database has not."""
    # <answer>
    from sqlalchemy import inspect

    def look(conn):
        there, found = inspect(conn), set()
        for table in metadata.sorted_tables:
            if not there.has_table(table.name):
                found.add(table.name)
                continue
            columns = {column["name"]: column for column in there.get_columns(table.name)}
            for column in table.columns:
                real = columns.get(column.name)
                if (
                    real is None
                    or real["nullable"] != column.nullable
                    or getattr(real["type"], "length", None) != getattr(column.type, "length", None)
                ):
                    found.add(f"{table.name}.{column.name}")
            indexes = {index["name"] for index in there.get_indexes(table.name)}
            found |= {f"{table.name}:{i.name}" for i in table.indexes if i.name not in indexes}
        return found

    async with engine.connect() as conn:
        return await conn.run_sync(look)
    # </answer>


# %%
tables.drift.check()

# %% [markdown]
# ## 4 · Three workers
#
# Back to the night of the crash. A server starts three workers, and each one calls `create_all`, as many a
# page says: "call it at application startup". Here are three real processes, forked as servers do it.
#
# So that it happens every time and not now and then, we hold a **gate**: the new table points to `quay`,
# and while we have `quay` locked, whoever makes the table stands and waits, with its work not yet committed.

# %%
WORKERS = """
import asyncio, json, os
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

metadata = MetaData()
Table("quay", metadata, Column("n", Integer, primary_key=True))
booking = Table("booking", metadata, Column("code", String, primary_key=True),
                Column("quay", ForeignKey("quay.n")))

async def start():
    engine = create_async_engine(os.environ["DESK_URL"])
    async with engine.begin() as conn:
        if os.environ["HOW"] == "create_all":
            await conn.run_sync(metadata.create_all)
        else:
            await conn.execute(CreateTable(booking, if_not_exists=True))
    await engine.dispose()

for number in range(3):
    if os.fork() == 0:
        said = "made the table"
        try:
            asyncio.run(start())
        except Exception as error:
            said = str(error.orig).split("\\n")[0].rpartition(">: ")[2]
        os.write(1, json.dumps(said).encode() + b"\\n")
        os._exit(0)
for number in range(3):
    os.wait()
"""


async def three_start(how):
    """Start three workers at once, let them go when all stand at the gate, and hear how they fared."""
    await fresh()
    await try_to("create table quay (n int primary key)")
    async with owner.begin() as gate:
        await gate.execute(text("lock table quay in access exclusive mode"))
        workers = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKERS),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "DESK_URL": lab.url, "HOW": how},
        )
        while (
            await ask(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                " and datname = current_database()"
            )
        )[0][0] < 3:
            await asyncio.sleep(0.01)
    told, _ = await workers.communicate()
    return sorted((json.loads(line) for line in told.splitlines()), reverse=True)


# %%
predict(
    "None of the three sees the table when it looks. All three create it. How many workers crash?",
    "None: the others wait, and then see it",
    "One",
    "Two",
)

# %% facts="0.52" tags=["predict"]
for said in await three_start("create_all"):
    print(said)

# %% [markdown]
# `pg_type_typname_nsp_index` is an index of Postgres' own catalog: a table's name is also the name of a type,
# and two types cannot have it. Each worker *looked*, and saw nothing, because nobody had committed. Then
# each *created*. The first one won, and the other two heard so when it committed.
#
# "Then say `IF NOT EXISTS`", somebody says. It sounds like the cure.

# %% facts="0.52"
for said in await three_start("if not exists"):
    print(said)

# %% [markdown]
# It looks first, too. And an `asyncio.Lock` would be no better: each worker has its own.
#
# What the three share is the database. Postgres has locks that belong to no table and mean what you want them
# to mean: **advisory locks**, known by a number.

# %%
first, second = await owner.connect(), await owner.connect()

print("first: ", await first.scalar(text("select pg_try_advisory_xact_lock(1851)")))
print("second:", await second.scalar(text("select pg_try_advisory_xact_lock(1851)")))
await first.commit()
print(
    "second, after the first one's commit:",
    await second.scalar(text("select pg_try_advisory_xact_lock(1851)")),
)

await first.close()
await second.close()

# %% [markdown]
# `pg_try_advisory_xact_lock` tries; `pg_advisory_xact_lock` waits until it has the lock. Both let go at the
# end of the transaction. Without `xact` the lock stays until it is unlocked or the *connection* ends, and a
# pool keeps connections:

# %%
kept = create_async_engine(lab.url)
async with kept.begin() as conn:
    await conn.execute(text("select pg_advisory_lock(1851)"))

held = """
    select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
    where locktype = 'advisory' and datname = current_database()
"""
print("committed, given back to the pool; locks held:", (await ask(held))[0][0])
await kept.dispose()

# %% [markdown]
# ### Your turn: once only
#
# Write `prepare(engine, metadata)`. Afterwards all tables of `metadata` are there, however many workers call
# it at once, in however many processes.
#
# - No worker fails because another was quicker. (Retrying is allowed, too.)
# - The workers may differ: one of them may still have yesterday's models, with fewer tables.
# - When it is over, whether it returns or raises, no lock is left, not on a pooled connection either.
# - Where Postgres refuses for another reason, it raises: a role that may make no tables should hear that.


# %% exercise="tables.once_only"
async def prepare(engine, metadata) -> None:
    """Make the tables that are missing, whoever else does so at the same time."""
    # <answer>
    async with engine.begin() as conn:
        await conn.execute(text("select pg_advisory_xact_lock(19250814)"))
        await conn.run_sync(metadata.create_all)
    # </answer>


# %%
tables.once_only.check()

# %% [markdown]
# ## 5 · At the start, and at the end
#
# Where does a program call this? Not when a module is imported: then whoever imports it, a test or a tool,
# talks to the database. A web application has a **lifespan** for it, an async context manager: what
# stands before `yield` happens before the first request, what stands after it when the server stops.

# %% facts="0.54"
from fastapi import FastAPI

log = []


@asynccontextmanager
async def a_lifespan(app):
    log.append("tables, engine")
    yield
    log.append("close")


app = FastAPI(lifespan=a_lifespan)
log.append("app made")

async with app.router.lifespan_context(app):  # what a server does
    log.append("requests")

print(" > ".join(log))

# %% [markdown]
# And when the application ends with an error?

# %%
predict(
    "The block around which the lifespan stands ends with an exception. Is the line after yield reached?",
    "Yes: it is the end of the lifespan",
    "No",
)

# %% tags=["predict"]
log.clear()
try:
    async with a_lifespan(app):
        raise RuntimeError("a storm")
except RuntimeError as error:
    log.append(str(error))

print(" > ".join(log))

# %% [markdown]
# The exception comes out *of the `yield`*, as it would in any function. What has to happen in any case
# stands in `finally`.
#
# ### Your turn: the lifespan
#
# Write `make_lifespan(url, metadata)`. It returns what `FastAPI(lifespan=...)` takes: a function of the `app`
# that gives an async context manager.
#
# - Nothing is sent to Postgres before the block is entered.
# - In the block all tables are there, and `app.state.engine` is an engine for them.
# - After the block, however it ended (it may be cancelled), no connection is open; an error of the
#   application passes on.
# - If the database is away, or refuses, the start fails with an error, and no connection stays open.


# %% exercise="tables.lifespan"
def make_lifespan(url, metadata):
    """What FastAPI(lifespan=...) takes: tables at the start, no connection after the end."""

    # <answer>
    @asynccontextmanager
    async def lifespan(app):
        app.state.engine = create_async_engine(url)
        try:
            async with app.state.engine.begin() as conn:
                await conn.run_sync(metadata.create_all)
            yield
        finally:
            await app.state.engine.dispose()

    return lifespan
    # </answer>


# %%
tables.lifespan.check()

# %% [markdown]
# ## 6 · Whose tables?
#
# A table belongs to the role that makes it. In the lab there are two: the owner, as whom we worked all day,
# and `app`, the role of a program that only sells tickets.

# %%
from sqlalchemy import make_url

app_engine = create_async_engine(lab.app_url)
await fresh()
async with owner.begin() as conn:
    await conn.run_sync(Base.metadata.create_all)

[(made_by_us,)] = await ask(
    "select tableowner = current_user from pg_tables where tablename = 'pier'"
)
print("pier belongs to us:", made_by_us)

try:
    async with app_engine.begin() as conn:
        await conn.run_sync(Rules.metadata.create_all)
except DBAPIError as error:
    print("app, create_all:", reason(error))

role = make_url(lab.app_url).username
print("app, select:", await try_to("select * from pier", app_engine))
await try_to(f'grant select on pier to "{role}"')
print("app, after the grant:", await try_to("select * from pier", app_engine))
await app_engine.dispose()

# %% [markdown]
# The role that makes tables may drop them, as lesson 06 showed. So in production the tables are made by one role, once, when a new
# version goes out, and the workers log in as another one that may not even try. (Which rights it needs was
# lesson 06.)
#
# Tables can also live in a **schema** of their own, a drawer within the database. `create_all` fills a drawer;
# it does not build one:

# %%
harbour = MetaData(schema="harbour")
Table("crane", harbour, Column("id", Integer, primary_key=True))

await fresh()
for first in ("select 1", "create schema if not exists harbour"):
    await try_to(first)
    try:
        async with owner.begin() as conn:
            await conn.run_sync(harbour.create_all)
        print(await ask("select schemaname, tablename from pg_tables where tablename = 'crane'"))
    except DBAPIError as error:
        print(reason(error))

# %% [markdown]
# ## Try with AI, and then let Postgres judge
#
# Everything of the last lessons meets in one file, `database.py`. Ask an assistant for it, in your own words or
# in these:
#
# > Write a production-ready `database.py` for FastAPI, SQLModel and Postgres with asyncpg. It reads
# > `DATABASE_URL` from the environment, as a host hands it out (`postgres://` or `postgresql://`), and importing
# > it fails without it. It has an async `engine` with pre-ping and connections that are recycled before five
# > minutes; `create_db_and_tables()`, for every start; and `get_session()`, a dependency that gives each request a session of its
# > own, with `async with` and `yield`. What a route has committed, it can still read; when it fails, its
# > error passes on. Nowhere does the file print or log a password.
#
# Two things to look at before you run the check. The first: its last line. Many such answers end with an
# "output", *Database configured: ... Tables created successfully*. What does such a file print?

# %% facts="0.58"
from contextlib import redirect_stdout
from io import StringIO

heard = StringIO()
with redirect_stdout(heard):
    made = create_async_engine(lab.url, pool_size=5, max_overflow=10)
    async with made.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    await made.dispose()

print("what it prints:", repr(heard.getvalue()))
print(
    "the URL, if you print it:",
    made.url.set(username="desk", host="quay", port=5432, database="skerry"),
)

# %% [markdown]
# The second: a session that is made as most pages make it. What can a route still read, after its commit?

# %% facts="0.56"
await fresh()
async with owner.begin() as conn:
    await conn.run_sync(Base.metadata.create_all)

for arguments in ({}, {"expire_on_commit": False}):
    async with AsyncSession(owner, **arguments) as session:
        island = Island(name="Tern Rock" if arguments else "Puffin Holm")
        session.add(island)
        await session.commit()
        try:
            read = island.name
        except MissingGreenlet as error:
            read = type(error).__name__
        print(f"{arguments}: .name gives {read}, model_dump() {island.model_dump(exclude={'id'})}")

# %% [markdown]
# A commit *expires* the objects of its session: the next look at them would read them again, and that needs an
# await where there is none. Worse, what FastAPI sends back of such an object is empty, without any error.
#
# Now paste the file. The check imports it where `DATABASE_URL` is not set, and with two kinds of URLs; makes a
# table with it; runs two requests side by side, and one that fails; cuts its connections; and lets almost five
# minutes pass. It reads what the file prints.


# %% exercise="tables.database_file"
def database_py() -> str:
    """The text of a database.py: return '''...''', with the file between the quotes."""
    # <answer>
    return """
import os
from collections.abc import AsyncGenerator

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
engine = create_async_engine(url, pool_pre_ping=True, pool_recycle=280)
make_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


async def create_db_and_tables() -> None:
    async with engine.begin() as conn:
        await conn.run_sync(SQLModel.metadata.create_all)


async def get_session() -> AsyncGenerator[AsyncSession]:
    async with make_session() as session:
        yield session
"""
    # </answer>


# %%
tables.database_file.check()

# %% [markdown]
# Ask yourself, whoever wrote it: did it have the pre-ping, the URL's conversion, `async with` and `yield`, the
# recycling? What it forgot, it will forget again. Write it into the prompt, or into the notes that your
# assistant reads each time.
#
# ## Stuck?
#
# One table, one `create_all`, one look. Change the columns, and run it again:


# %%
class Small(SQLModel, registry=registry()):
    pass


class Gull(Small, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=10)


await fresh()
async with owner.begin() as conn:
    await conn.run_sync(Small.metadata.create_all)
await chart(owner, "gull")

# %% [markdown]
# - **`Table 'gull' is already defined`**: a cell was run twice, with models on `SQLModel` itself. Section 1.
# - **`has no attribute '_run_ddl_visitor'`**, **`missing 1 required positional argument: 'bind'`**: the way
#   through `run_sync`, and without parentheses. Section 2.
# - **`relation "gull" does not exist`**: never committed, or its module never imported. Sections 2 and 3.
# - **`column ... does not exist`**: the model has changed, the table has not. Section 3.
# - **`pg_type_typname_nsp_index`**: two starters at once. Section 4.
#
# ## Go further: a type that grows
#
# An `Enum` column becomes a type of its own in the database. Next season there is a fourth ferry.

# %%
predict(
    "The Enum in the model has a new value, and create_all is called. Can the new value be stored?",
    "Yes: an enum is checked in Python",
    "No",
)

# %% facts="0.51" tags=["predict"]
from sqlalchemy import Enum

await fresh()
await try_to("drop type if exists vessel")
for names in (("Alca", "Tern", "Puffin"), ("Alca", "Tern", "Puffin", "Gannet")):
    metadata = MetaData()
    trip = Table("trip", metadata, Column("ferry", Enum(*names, name="vessel")))
    async with owner.begin() as conn:
        await conn.run_sync(metadata.create_all)

try:
    async with owner.begin() as conn:
        await conn.execute(trip.insert().values(ferry="Gannet"))
except DBAPIError as error:
    print(reason(error))

# %% [markdown]
# A type is left as it is, like a table. `alter type vessel add value 'Gannet'` is the step that is missing: try
# it. And when three workers start, the *type* is the first thing they fight for: does your `prepare` keep them
# apart there, too?
#
# ## What to remember
#
# - **Rules belong in the table.** Foreign keys, `unique`, NOT NULL, `CheckConstraint`, `server_default`: they
#   hold for everybody. `Field(gt=0)` on a table model holds for nobody.
# - **`await conn.run_sync(metadata.create_all)`** inside `engine.begin()`. It runs on the loop's own thread.
# - **`create_all` makes what is missing, by name.** It changes nothing, and knows only what was imported.
# - **To look and then to make is a race.** Whoever starts in several processes takes an advisory lock before it
#   looks.
# - **Before `yield`, after `yield`, and `finally`.** No connection before the start, none after the end.
# - **The role that sells tickets makes no tables.**
#
# What we made, we take away:

# %%
await fresh()
await try_to("drop type if exists vessel")
await owner.dispose()
