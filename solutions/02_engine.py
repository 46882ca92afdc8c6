# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Create once, connect late, close
#
# *Lesson 02 · about 35 minutes*
#
# A call from operations: **"Your booking desk logs in to Postgres forty times a minute. And last
# night, when everybody had gone home, it still held ten connections. What are you doing over
# there?"**
#
# The desk of the Skerry Line sells tickets for three small ferries, *Alca*, *Tern* and *Puffin*.
# Nobody over there does anything odd. Somewhere in the program stands an *engine*, and somebody
# made it in the wrong place.
#
# <!-- objectives -->

# %%
import asyncio

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from checks import engine
from engineroom import lab
from engineroom.widgets import Heartbeat, predict

# %% [markdown]
# Our own engines are called `desk` today: in this notebook the name `engine` belongs to the
# exercises.
#
# First we need what operations have: eyes at the server. `host` is a connection of its own, and it
# does not count itself.

# %%
host = create_async_engine(lab.url, pool_size=1, max_overflow=0)


async def connections():
    """How many connections of ours stand at the server now."""
    async with host.connect() as conn:
        return await conn.scalar(
            text("""
                select count(*) from pg_stat_activity
                where usename = current_user and datname = current_database()
                  and pid <> pg_backend_pid()
            """)
        )


async def logins():
    """How often anybody has logged in to our database, ever."""
    async with host.connect() as conn:
        return await conn.scalar(
            text("select sessions from pg_stat_database where datname = current_database()")
        )


async def request(desk):
    """What a request does: borrow a connection, ask something, give it back."""
    async with desk.connect() as conn:
        return await conn.scalar(text("select 'Puffin'"))


# %% [markdown]
# ## 1 · An engine is not a connection
#
# An engine needs one thing, the URL. It says which driver is used, who logs in, where and to which
# database. What happens when there is no such place?

# %%
predict(
    "create_async_engine, with a URL whose host does not exist. What happens?",
    "An error",
    "It waits for the host, and then an error",
    "Nothing",
)

# %% facts="0.3" tags=["predict"]
nowhere = create_async_engine("postgresql+asyncpg://desk:kipper@db.skerry.invalid/skerry")

print(type(nowhere).__name__)

# %% [markdown]
# Nothing. An engine only *knows how* to connect. And when does it?

# %% facts="0.3"
desk = create_async_engine(lab.url)
print("engine made:    ", await connections())

async with desk.connect():
    print("in the block:   ", await connections())

print("after the block:", await connections())

await desk.dispose()
print("dispose():      ", await connections())

# %% [markdown]
# Zero, until somebody asks. Then one. It was not closed when the block ended: the engine put it
# into its *pool*, for the next request. `dispose()` empties the pool.
#
# So an engine is **a factory for connections, and the pool where they rest**. (Lesson 04 takes the
# pool apart.)
#
# It is the same with SQLite. Some people wait for a message such as "database created". Let us
# listen to all that is printed, and look at the file:

# %% facts="0.46"
import contextlib
import io
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
    file = Path(folder, "desk.db")
    small = create_async_engine(f"sqlite+aiosqlite:///{file}")
    before = file.exists()
    async with small.connect():
        pass
    after = file.stat().st_size
    await small.dispose()

print("a file when the engine was made?", before)
print("its size after the first connect:", after)
print("what was printed meanwhile:", repr(printed.getvalue()))

# %% [markdown]
# ### What is refused at once
#
# So an engine that is made without an error proves little. But what about a *driver* that does not
# fit? Three lines from three programs:
#
# 1. `create_async_engine("sqlite:///desk.db")`
# 2. `create_async_engine("postgresql://…")`
# 3. `create_engine("postgresql+asyncpg://…")`, without *async*

# %%
predict(
    "Which of the three lines raise an error, before anybody connects?",
    "All three",
    "1 and 2",
    "Only 1",
)

# %% facts="0.5 0.6" tags=["predict"]
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet

for number, make, url in (
    (1, create_async_engine, "sqlite:///desk.db"),
    (2, create_async_engine, "postgresql://desk@db.skerry.invalid/skerry"),
    (3, create_engine, "postgresql+asyncpg://desk@db.skerry.invalid/skerry"),
):
    try:
        made = make(url)
        print(f"({number}) an engine, driver {made.dialect.driver}")
    except InvalidRequestError as error:
        print(f"({number}) InvalidRequestError:", error)

# %% [markdown]
# 1. `sqlite:///` means the driver *pysqlite*, which can only block. An async engine refuses it.
# 2. Many texts call `postgresql://` a "sync URL". Since SQLAlchemy 2.1 it means psycopg 3, which can
#    do both.
# 3. The wrong way round: a driver that is async only, in an engine that is not. It is **accepted**,
#    and fails when the first request comes:

# %% facts="1.5"
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a coroutine of asyncpg's is never awaited
    try:
        create_engine(lab.url).connect()
    except MissingGreenlet as error:
        print("MissingGreenlet:", str(error).partition(" (")[0])

# %% [markdown]
# Remember this one. "Was IO attempted in an unexpected place?" means: something that should have
# been awaited was called from ordinary code.
#
# ## 2 · Read the echo
#
# `echo=True` lets an engine say what it does. It uses Python's `logging`, and puts date and time in
# front of each line. We want to compare the lines, so we catch them, and leave out what is new at
# each run.

# %%
import logging
import re


class Lines(logging.Handler):
    def emit(self, record):
        line = re.sub(r"\d\S*s\b", "…", record.getMessage())
        print("INFO sqlalchemy.engine.Engine", line)


logging.getLogger("sqlalchemy.engine.Engine").handlers = [Lines()]

# %%
predict(
    "echo=True. The engine is made, and a request asks select 'Puffin'. "
    "What is the first line of the echo?",
    "SELECT 1, to see whether the database is there",
    "select 'Puffin'",
    "A question about the server",
)

# %% facts="0.4" tags=["predict"]
desk = create_async_engine(lab.url, echo=True)
print("engine made\n")

await request(desk)

# %% [markdown]
# | line | what it means |
# |---|---|
# | `select pg_catalog.version()` | a new engine gets to know the server: its version … |
# | `select current_schema()` | … the schema where names are looked up … |
# | `show standard_conforming_strings` | … and how texts are quoted. `[raw sql]` is the engine's own |
# | `BEGIN (implicit)` | you did not ask for a transaction, you are in one |
# | `select 'Puffin'` | your request |
# | `[generated in …] ()` | how long it took to make SQL of it; in brackets, the values you sent |
# | `ROLLBACK` | the block has ended, nobody said commit |
#
# No `SELECT 1`, though many texts show one here. And the three questions are asked once:

# %% facts="0.4"
await request(desk)
await desk.dispose()

# %% [markdown]
# `cached since …`: the SQL was still there from last time. That word is about *text*, not about
# results: Postgres was asked again.
#
# ### Why the echo stays at home
#
# It is a fine thing while you develop. In production it is not only noise:

# %%
predict(
    "echo=True, and a booking is stored. What of it stands in the log?",
    "The statement, without its values",
    "The statement and the passenger's name",
)

# %% tags=["predict"]
booking = text("select cast(:passenger as text), cast(:card as text)")
values = {"passenger": "Ada Brown", "card": "4000 1234"}

for options in ({}, {"hide_parameters": True}):
    desk = create_async_engine(lab.url, **options)
    await request(desk)

    desk.echo = True  # from now on
    async with desk.connect() as conn:
        await conn.execute(booking, values)
    print()
    await desk.dispose()

# %% [markdown]
# The values stand there for everybody who can read the log. In the second part of the echo,
# `hide_parameters=True` leaves them out.
#
# **One argument you will meet in older programs is `future`.** It once asked for the manners of
# version 2. Today they are the only ones:

# %%
from sqlalchemy.exc import ArgumentError

for future in (True, False):
    try:
        create_async_engine(lab.url, future=future)
        print(future, "- accepted, and changes nothing")
    except ArgumentError as error:
        print(future, "-", error)

# %% [markdown]
# ## 3 · Create once
#
# Now to the forty logins. Here is the program of the desk, as it was. It looks harmless: each
# request makes what it needs. (The engines are kept in a list, as a module or a framework would.)

# %%
predict(
    "Ten requests, one after another, and each makes an engine. "
    "How many logins does Postgres count, and how many connections stand there afterwards?",
    "1 login, 1 connection",
    "10 logins, none left",
    "10 logins, 10 connections",
)

# %% tags=["predict"]
async def a_quarter_of_an_hour(engine_for_request):
    """Ten requests in turn; then what the server saw."""
    before, used = await logins(), []
    for _ in range(10):
        used.append(engine_for_request())
        await request(used[-1])
    print("logins:", await logins() - before, "  connections left:", await connections())
    for desk in used:
        await desk.dispose()


print("each makes its own -", end=" ")
await a_quarter_of_an_hour(lambda: create_async_engine(lab.url))

desk = create_async_engine(lab.url)
print("all use the same   -", end=" ")
await a_quarter_of_an_hour(lambda: desk)

# %% [markdown]
# There are the logins, and there are the ten connections of last night. A pool belongs to *one*
# engine. Who makes an engine for each request begins each time with an empty pool, and leaves a
# connection in it.
#
# **Two engines by mistake** is the quieter form. One part of the program says `import database`,
# another `from tickets import database`, and the module runs twice:

# %%
import sys
from importlib import import_module

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "tickets").mkdir()
    Path(folder, "tickets", "database.py").write_text("""
from sqlalchemy.ext.asyncio import create_async_engine
from engineroom import lab

desk = create_async_engine(lab.url, pool_size=2, max_overflow=0)
""")
    sys.path[:0] = [folder, f"{folder}/tickets"]
    one = import_module("database").desk
    another = import_module("tickets.database").desk
    del sys.path[:2]

print("the same engine?", one is another)

held = [await desk.connect() for desk in (one, another) for _ in range(2)]
print("each engine: at most 2.   Postgres counts:", await connections())

for conn in held:
    await conn.close()
await one.dispose()
await another.dispose()

# %% [markdown]
# Whatever you limit, you limit it for *one engine*. So a program makes **one engine for each
# database, and keeps it**.
#
# ### Your turn: always the same one
#
# Write `get_engine(url)`. The desk has a database for bookings and one for the crew, so there is
# more than one URL. For each of them there shall be one engine, made when it is first asked for, and
# the same one ever after, whichever task or thread asks. Nobody logs in before there is a request,
# and ten requests in turn log in once.


# %% exercise="engine.one_engine"
def get_engine(url: str):
    """The engine for this URL: one, and always the same."""
    # <answer>
    if url not in engines:
        engines[url] = create_async_engine(url)
    return engines[url]


engines = {}
# </answer>


# %%
engine.one_engine.check()

# %% [markdown]
# ## 4 · And close
#
# `dispose()` closes what lies in the pool. Two questions people get wrong: may the engine be used
# afterwards, and what becomes of a connection that is *not* in the pool just then?

# %%
predict(
    "One connection lies in the pool, another is in use. dispose(). What does Postgres count?",
    "0: both are closed",
    "1: the one in use stays",
    "2: dispose() refuses while one is in use",
)

# %% facts="0.54" tags=["predict"]
desk = create_async_engine(lab.url)

async with desk.connect() as conn:
    await request(desk)
    print("one in use, one in the pool:", await connections())

    await desk.dispose()
    print("after dispose():            ", await connections())
    print("does it still answer?       ", await conn.scalar(text("select 'yes'")))
    await conn.invalidate()  # close it by hand: see below

print("and the engine, used again? ", await request(desk), await connections())

await desk.dispose()
print("after dispose():            ", await connections())

# %% [markdown]
# What is in use survives. The engine begins a new, empty pool, and goes on as before. But a
# connection that comes back later comes back to the *old* pool, which nobody will ever empty. That
# is why we closed it by hand, and why you **dispose when the work is over**, not in the middle.
#
# `dispose()` is a coroutine function. Forget the `await`, and nothing at all is closed:

# %%
desk = create_async_engine(lab.url)
await request(desk)

forgotten = desk.dispose()
print("without await:", type(forgotten).__name__, "-", await connections(), "connection")

await forgotten
print("awaited:       ", await connections(), "connections")

# %% [markdown]
# ### Your turn: whatever happens
#
# The desk has small jobs: make an engine, do some work with it, close. Write `run_and_close(url,
# work)`. `work` is a coroutine function that takes the engine. Its result is your result, its
# exception is your exception. And whether it returns, raises or is cancelled: when you are done, so
# is the work, and Postgres counts no connection of it. Two jobs may run at the same time.


# %% exercise="engine.run_and_close"
async def run_and_close(url: str, work):
    """Await `work(engine)`, and leave no connection open, whatever comes of it."""
    # <answer>
    made = create_async_engine(url)
    try:
        return await work(made)
    finally:
        await made.dispose()
    # </answer>


# %%
engine.run_and_close.check()

# %% [markdown]
# ### Where an application does it
#
# A service lives longer than a job, and has the same three moments. Here is its `database.py`:
#
# - **once**: the engine is made when the module is imported;
# - **for each request**: `get_session` lends a session, and takes it back after the `yield`;
# - **at the end**: the *lifespan* awaits `dispose()` when the service stops.

# %%
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from sqlmodel.ext.asyncio.session import AsyncSession

desk = create_async_engine(lab.url, echo=False, pool_size=5, max_overflow=10, pool_pre_ping=True)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(desk) as session:
        yield session


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    yield  # the service runs
    await desk.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/ferry")
async def ferry(session: AsyncSession = Depends(get_session)):
    return (await session.exec(text("select 'Tern'"))).scalar_one()


# %% [markdown]
# (`pool_size` and its neighbours are lesson 04. Sessions are lesson 09.) We start it, send three
# requests, stop it, and let Postgres count:

# %% facts="0.54"
import httpx

print("imported:", await connections())
before = await logins()

async with app.router.lifespan_context(app):
    print("started: ", await connections())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk") as web:
        print("answers: ", [(await web.get("/ferry")).json() for _ in range(3)])
    print("serving: ", await connections(), "connection,", await logins() - before, "login")

print("stopped: ", await connections())

# %% [markdown]
# Three requests, one login, and nobody left when the lights are out. Operations will like it.
#
# Note what was *not* printed: no "database configured", no "pool created". If you want such a line
# at the start, you have to write it.
#
# ## 5 · The loop must not stop
#
# An event loop is one thread that serves everybody in turn. Each `await` says: I am waiting, take
# somebody else. So what becomes of the others while somebody waits *without* saying so?
#
# We measure it. A **heartbeat** wakes up on the loop a hundred times a second. If the loop stands
# still, so does the heart.
#
# Two requests take half a second each at the server. One goes through our async engine. The other
# uses the old office's engine, which is not async, inside an `async def`.

# %%
old_office = create_engine(lab.sync_url)
print("the old office's driver:", old_office.driver)


async def ask_old_office():
    with old_office.connect() as conn:
        conn.execute(text("select pg_sleep(0.5)"))


async def ask_async():
    async with desk.connect() as conn:
        await conn.execute(text("select pg_sleep(0.5)"))


# %%
predict(
    "The old office's driver waits half a second, in an async def. The loop's other work …",
    "… goes on: async def takes care of that",
    "… goes on, only slower",
    "… stops for half a second",
)

# %% facts="1.12 3.1 3.2" tags=["predict"]
heart = Heartbeat()

async with heart.lane("blocking driver"):
    await ask_old_office()

async with heart.lane("async driver"):
    await ask_async()

print("blocking driver: silent for almost half a second?", heart["blocking driver"].silence > 0.45)
heart

# %% [markdown]
# A flat line. `async def` is no protection: it lets a function *say* that it waits, and this one
# never says so. Meanwhile nobody at the desk is served. And it is not the driver's age: this was
# psycopg 3, through `create_engine`.
#
# Below it the same wait, properly awaited. What it means for five customers at once:

# %% facts="3.1"
import time


async def five_at_once(ask):
    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(5)))
    return time.perf_counter() - began


blocking, awaited = await five_at_once(ask_old_office), await five_at_once(ask_async)

print("blocking driver: one after another, 2.5 seconds or more?", blocking > 2.5)
print("async driver:    in less than half of that?             ", awaited < blocking / 2)

# %% [markdown]
# ### A hundred thousand objects
#
# "With an async driver, nothing can block." That is a myth of its own. The accountant asks for all
# bookings of the year, 100,000 of them, and an object of each. (Postgres makes them up for us.)

# %%
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, select


class Book(SQLModel, registry=registry()):
    """A registry of its own, so that this cell can be run twice."""


class Booking(Book, table=True):
    id: int = Field(primary_key=True)
    code: str
    passenger: str


hundred_thousand = select(Booking).from_statement(
    text("""
        select n as id, 'SK' || n as code, 'passenger ' || n as passenger
        from generate_series(1, 100000) as n
    """)
)


async def count_bookings():
    async with AsyncSession(desk) as session:
        return len((await session.scalars(hundred_thousand)).all())


# %%
predict(
    "100,000 objects through asyncpg, properly awaited. The loop's longest silence?",
    "Some thousandths of a second",
    "More than a tenth of a second",
)

# %% facts="3.2" tags=["predict"]
async with heart.lane("async, 100,000 objects"):
    print("bookings:", await count_bookings())

print("silent for more than a tenth?", heart["async, 100,000 objects"].silence > 0.1)
heart

# %% [markdown]
# Waiting is free, *working* is not. The 100,000 objects are built in one go, on the loop's own
# thread. No driver can take that off you.
#
# But you can fetch and build in **parts**, and let the loop breathe in between:

# %% facts="3.2"
async def count_in_parts():
    async with AsyncSession(desk) as session:
        rows = await session.stream_scalars(hundred_thousand.execution_options(yield_per=500))
        return sum([1 async for _ in rows])


async with heart.lane("in parts of 500"):
    print("bookings:", await count_in_parts())

print(
    "longest silence shorter than before?",
    heart["in parts of 500"].silence < heart["async, 100,000 objects"].silence,
)
heart

# %%
old_office.dispose()
await desk.dispose()

# %% [markdown]
# ### Your turn: the old office stays
#
# The old office's driver cannot be replaced this year. You get a function `legacy()` that asks
# through it, takes its time, and returns a number or raises. Write `ask_legacy(legacy)`: its number
# is your number, its exception yours, and the loop serves others meanwhile.
#
# (A loop is one thread. Must it be *that* thread that waits? `help(asyncio.to_thread)` is worth a
# look.)


# %% exercise="engine.unblocked"
async def ask_legacy(legacy) -> int:
    """What `legacy()` returns, without stopping the event loop."""
    # <answer>
    return await asyncio.to_thread(legacy)
    # </answer>


# %%
engine.unblocked.check()

# %% [markdown]
# ## 6 · One loop, one process
#
# A script may call `asyncio.run` more than once, and each call makes a **new event loop**. A server
# may *fork*, and then the same program goes on in two processes. An engine's pool lives through both.
# Do its connections?
#
# A notebook has one loop, always the same. So each of these little programs runs in a Python of its
# own:

# %%
import inspect
import subprocess


def on_its_own(function, *arguments):
    """Run a function as a program of its own, and show what it prints."""
    program = f"{inspect.getsource(function)}\n{function.__name__}(*{arguments!r})"
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True)
    print(done.stdout, end="")


# %%
predict(
    "One engine, asyncpg. asyncio.run(job()) three times. What happens?",
    "It works three times",
    "The second run fails",
    "It works, and logs in three times",
)

# %% facts="3.30 N11" tags=["predict"]
def three_runs(*ways):
    import asyncio

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    for name, url, options in ways:
        desk = create_async_engine(url, **options)

        async def job():
            async with desk.connect() as conn:
                return await conn.scalar(text("select 'fine'"))

        said = []
        for _ in range(3):
            try:
                said.append(asyncio.run(job()))
            except Exception as error:
                said.append(type(error).__name__)
                if "different loop" in str(error):
                    said[-1] += " (attached to a different loop)"
        print(name, "|", ", ".join(said), "| left in the pool:", desk.pool.checkedin())


on_its_own(
    three_runs,
    ("asyncpg          ", lab.url, {}),
    ("asyncpg, pre-ping", lab.url, {"pool_pre_ping": True}),
    ("psycopg          ", lab.psycopg_url, {}),
)

# %% [markdown]
# An asyncpg connection belongs to the loop in which it was opened. The first run left it in the
# pool; for the second run it is a stranger's.
#
# People then reach for `pool_pre_ping`, the cure for connections that have died. But this one is not
# dead. The ping itself fails on it, and only then is it thrown away: every second run fails. psycopg
# does not mind which loop it is. But in all three cases a connection is left, and its loop is gone.
#
# **A fork is worse.** The child gets a copy of the pool, and the copy leads to *the same line*. Here
# is a parent that has made one request, then forks. The child makes a request, and then the parent
# one more:

# %%
predict(
    "Parent and child use the same line, one after the other. Who fails?",
    "Nobody: they take turns",
    "The child",
    "The parent",
)

# %% facts="3.32 3.33" tags=["predict"]
def fork(url, *scenes):
    import asyncio
    import os

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    async def request(desk, who):
        try:
            async with desk.connect() as conn:
                print(f"  {who}:", await conn.scalar(text("select 'fine'")), end="", flush=True)
        except Exception as error:
            print(f"  {who}:", type(error).__name__, end="", flush=True)

    async def child(desk, how):
        if how:
            await desk.dispose(**how)
        await request(desk, "child")

    for title, asked_before, how in scenes:
        print(f"{title:36}", end="", flush=True)
        desk = create_async_engine(url)
        if asked_before:
            asyncio.run(request(desk, "parent"))
        if os.fork() == 0:
            asyncio.run(child(desk, how))
            os._exit(0)
        os.wait()
        asyncio.run(request(desk, "parent"))
        print()


on_its_own(
    fork,
    lab.psycopg_url,
    ("never connected before the fork", False, {}),
    ("connected before the fork", True, {}),
    ("… child begins: dispose()", True, {"close": True}),
    ("… child begins: dispose(close=False)", True, {"close": False}),
)

# %% [markdown]
# - An engine that has **never connected** may be forked: there is nothing to share.
# - A line with two ends on one side breaks. Child and parent both count the messages that were
#   encrypted, and each misses those of the other.
# - A plain `dispose()` in the child is no help. It says goodbye on the line, and the *parent* loses
#   it.
# - `dispose(close=False)` lets go of the pool without touching the line. That is for the child, first
#   thing after the fork.
#
# Here the encryption was a blessing: it noticed. On a clear line nobody does. This child asks, and is
# stopped before it has read its answer. Then the parent asks for something else:

# %% facts="3.33"
def clear_line(url):
    import os

    import psycopg

    conn = psycopg.connect(url, sslmode="disable", autocommit=True)
    if os.fork() == 0:
        conn.pgconn.send_query(b"select 'a seat on the ' || initcap('ALCA')")
        conn.pgconn.flush()
        os._exit(0)
    os.wait()
    answer = conn.execute("select 'a seat on the ' || initcap('PUFFIN')").fetchone()[0]
    print("The parent asked for the Puffin, and got", answer)


on_its_own(clear_line, lab.sync_url)

# %% [markdown]
# No exception, and a ticket for the wrong ferry.
#
# ### Your turn: three nights
#
# Every night a small script reads the notice board, a table `notice` with one row and one column
# `word`. Write `make_job(url)`, which returns a coroutine function `job()` that reads the word.
#
# The *same* `job` is run three times, each time by an `asyncio.run` of its own; `url` names asyncpg.
# It shall give the word of that night, and leave no connection at the server when the run is over.
# One more night somebody has taken the table away: that run fails, and leaves none either.


# %% exercise="engine.three_runs"
def make_job(url: str):
    """A coroutine function that reads the word, in whatever event loop it is run."""
    # <answer>
    made = create_async_engine(url)

    async def job() -> str:
        try:
            async with made.connect() as conn:
                return await conn.scalar(text("select word from notice"))
        finally:
            await made.dispose()

    return job
    # </answer>


# %%
engine.three_runs.check()

# %% [markdown]
# ## Try with AI, and then let the server judge
#
# The desk's program runs in three places: on your machine, in the tests, and for the passengers. Ask
# an assistant, in your own words or in these:
#
# > My program has to run in development, in testing and in production, with a different database
# > each. Write `engine_for(environ)`, which takes the environment variables as a mapping and returns
# > the async SQLAlchemy engine.
# >
# > `APP_ENV=testing`: SQLite in memory, whatever `DATABASE_URL` says; echo off. `development`: the
# > SQLite file that `DATABASE_URL` names; echo on. `production`: the Postgres that `DATABASE_URL`
# > names, with a pool; echo only if `DEBUG` is one of 1, true, yes, on, in whatever case.
#
# | `APP_ENV` | database | echo |
# |---|---|---|
# | `testing` | SQLite in memory, whatever `DATABASE_URL` says, or if it is missing | off |
# | `development` | the SQLite file in `DATABASE_URL` | on |
# | `production` | the Postgres in `DATABASE_URL`, with a pool; an exception if it is missing | if `DEBUG` says so |
#
# `DEBUG` says so with `1`, `true`, `yes` or `on`, in upper or lower case. It does not with `0`,
# `false`, `no` or `off`, nor when it is missing. Each URL names an async driver already. What counts
# is the mapping, and not `os.environ`.
#
# Paste what the assistant wrote. Before you check it, look for two traps that such programs love:

# %% facts="0.61"
print("is the text false true?", bool("false"))

try:
    create_async_engine("sqlite+aiosqlite://", pool_size=5)
except TypeError as error:
    print(str(error).partition(", using")[0])


# %% exercise="engine.environments"
def engine_for(environ: dict[str, str]):
    """What the assistant wrote."""
    # <answer>
    if environ["APP_ENV"] == "testing":
        return create_async_engine("sqlite+aiosqlite://")
    if environ["APP_ENV"] == "development":
        return create_async_engine(environ["DATABASE_URL"], echo=True)
    debug = environ.get("DEBUG", "").lower() in {"1", "true", "yes", "on"}
    return create_async_engine(
        environ["DATABASE_URL"], echo=debug, pool_size=5, max_overflow=10, pool_pre_ping=True
    )
    # </answer>


# %%
engine.environments.check()

# %% [markdown]
# ## Stuck?
#
# Begin with an engine that has **only a URL**, and add one argument at a time. Change `arguments`,
# run the cell, and look at what changed:

# %%
arguments = {"echo": True}

desk = create_async_engine(lab.url, **arguments)
print("made:     ", await connections())
print("answer:   ", await request(desk))
print("asked:    ", await connections())
await desk.dispose()
print("disposed: ", await connections())

# %% [markdown]
# - **`MissingGreenlet`**: an async driver was used from ordinary code. Is it `create_engine` where
#   `create_async_engine` was meant (section 1)? Is an `await` missing?
# - **`attached to a different loop`**: a connection outlived its loop (section 6). Dispose before the
#   loop ends.
# - **`'AsyncEngine' object has no attribute …`**, when you check: you gave the name `engine` to an
#   engine of your own. Run the cell with the imports again.

# %%
try:
    create_async_engine(lab.url).one_engine
except AttributeError as error:
    print(error)

# %% [markdown]
# ## Go further: as many as this place can bear
#
# On your laptop two connections are plenty. For the passengers the desk needs more. Write
# `sized_engine(environ)`, for the database in `DATABASE_URL`:
#
# | | kept | opened on top, for a while |
# |---|---|---|
# | `APP_ENV=production` | 5 | 10 |
# | anything else, or nothing | 2 | 0 |
# | where it is set, instead | `POOL_SIZE` | `MAX_OVERFLOW` |
#
# The engine's arguments are `pool_size` and `max_overflow`. Postgres counts how many stand there in a
# rush, and how many are kept for the next one.


# %% exercise="engine.sizes"
def sized_engine(environ: dict[str, str]):
    """An engine whose pool fits the place it runs in."""
    # <answer>
    kept, more = (5, 10) if environ.get("APP_ENV") == "production" else (2, 0)
    return create_async_engine(
        environ["DATABASE_URL"],
        pool_size=int(environ.get("POOL_SIZE", kept)),
        max_overflow=int(environ.get("MAX_OVERFLOW", more)),
    )
    # </answer>


# %%
engine.sizes.check()

# %% [markdown]
# ## What to remember
#
# - **Create once.** One engine for each database. Two engines are two pools, and two limits.
# - **Connect late.** Making an engine sends nothing to anybody. That it was made proves nothing.
# - **The echo** shows each statement and its values. It is for development.
# - **Close.** `await dispose()`, whatever happens, when the work is over, and before the loop ends.
# - **One loop, one process.** What was opened in one belongs to it.
# - **Never block the loop**: neither by a driver that waits, nor by a hundred thousand objects.
#
# What we opened, we close:

# %%
await host.dispose()
