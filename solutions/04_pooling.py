# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What waits in the pool
#
# *Lesson 04 · about 35 minutes*
#
# Every day at the booking desk of the Skerry Line it is the same. The morning goes well. Then
# everybody has lunch, and **the first booking after lunch fails**. The passenger sighs, the clerk
# tries again, and the second one works.
#
# Nothing in the program changed over lunch. Something happened in its *pool*: the place where
# an engine keeps the connections that nobody is using.
#
# <!-- objectives -->

# %%
import asyncio

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from checks import pooling
from engineroom import lab
from engineroom.widgets import Xray, predict

# %% [markdown]
# Two things that we use all the time. `host` is the company that runs our Postgres: one
# connection of its own, through which it looks at ours. `backend` sends a request through an
# engine, and says which process of the server did the work.

# %%
host = create_async_engine(lab.url, pool_size=1, max_overflow=0)


async def backend(engine):
    async with engine.connect() as conn:
        return await conn.scalar(text("select pg_backend_pid()"))


# %% [markdown]
# ## 1 · Opened when needed, then kept
#
# "The pool opens `pool_size` connections when the program starts." Does it?

# %%
predict(
    "An engine is made with pool_size=5. How many connections does Postgres count, "
    "before anybody asks for one?",
    "5",
    "1",
    "0",
)

# %% [markdown]
# An **X-ray** shows it: a lane for each connection, what the pool believes, and below it what
# Postgres counts. Each `look` takes one picture.

# %% facts="0.22 0.24" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=5)
xray = Xray(desk, host)
await xray.look("engine made")

async with desk.connect():
    await xray.look("a request")

await xray.look("request over")

await desk.dispose()
await xray.look("dispose()")
xray

# %% [markdown]
# None at first. One was opened when one was needed. It was not closed when the request was
# over: it went into the pool.
#
# So what happens in a whole morning of requests, one after another?

# %%
predict(
    "Twenty requests, one after another, on a pool of five. How many connections are opened?",
    "20",
    "5",
    "1",
)

# %% facts="0.12" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=5)
used = [await backend(desk) for _ in range(20)]

print("requests:", len(used), " connections:", len(set(used)))
await desk.dispose()

# %% [markdown]
# **`pool_size` is how many may be kept**, and not a number that is kept up. The pool's own
# report has an odd way to say so: it counts what is *over* the five, from below.

# %% facts="0.15 X.5"
desk = create_async_engine(lab.url, pool_size=5)
print(desk.pool.status())
print("in the pool:", desk.pool.checkedin(), " in use:", desk.pool.checkedout())

# %% [markdown]
# Read `checkedin()` and `checkedout()`, and leave `status()` to those who like riddles.
#
# **What does a pool save?** The *login*. `NullPool` is a pool that keeps nothing. It does not
# log in for every query, though, but for every block that takes a connection:

# %% facts="0.13"
from sqlalchemy.pool import NullPool

desk = create_async_engine(lab.url, poolclass=NullPool)

async with desk.connect() as conn:
    in_one_block = {await conn.scalar(text("select pg_backend_pid()")) for _ in range(5)}

print("five queries in one block: ", len(in_one_block), "login")
print("five blocks with one query:", len({await backend(desk) for _ in range(5)}), "logins")

# %% [markdown]
# And a login is dear. We take the best of eight requests, with and without:

# %% facts="0.13"
import time


async def best_of_eight(engine):
    took = []
    for _ in range(8):
        began = time.perf_counter()
        await backend(engine)
        took.append(time.perf_counter() - began)
    return min(took)


kept = create_async_engine(lab.url)
new_each_time, from_the_pool = await best_of_eight(desk), await best_of_eight(kept)
await kept.dispose()

print("more than three times as long?", new_each_time > 3 * from_the_pool)

# %% [markdown]
# **A session borrows late and gives back early.** Making one takes no connection. The first
# SQL takes it, and every commit (or rollback) gives it back:

# %% facts="0.23"
from sqlmodel.ext.asyncio.session import AsyncSession

desk = create_async_engine(lab.url)

async with AsyncSession(desk) as session:
    print("made:   ", desk.pool.checkedout())
    await session.exec(text("select 1"))
    print("SQL:    ", desk.pool.checkedout())
    await session.commit()
    print("commit: ", desk.pool.checkedout())
    await session.exec(text("select 1"))
    print("SQL:    ", desk.pool.checkedout())

await desk.dispose()

# %% [markdown]
# ## 2 · The ceiling
#
# When all kept connections are out and one more is asked for, the pool opens an extra one, up
# to `max_overflow` of them. Unless you say otherwise it is `pool_size=5`, `max_overflow=10`.

# %%
predict(
    "Sixteen requests at once, and none lets go of its connection. Default pool. "
    "How many connections does Postgres count?",
    "5",
    "10",
    "15",
    "16",
)

# %% facts="0.16 0.25 0.26" tags=["predict"]
desk = create_async_engine(lab.url, pool_timeout=0.3)
xray = Xray(desk, host)

held = [await desk.connect() for _ in range(15)]
await xray.look("15 requests")

sixteenth = asyncio.create_task(backend(desk))
await xray.look("a 16th asks")

await held[0].close()
await sixteenth
await xray.look("one given back")

for conn in held[1:]:
    await conn.close()
await xray.look("all given back")

await desk.dispose()
xray

# %% [markdown]
# Fifteen: 5 + 10. The sixteenth waited, and was served by the first connection that came back.
# Afterwards five are left. None of the fifteen was marked as "the overflow": whichever comes
# back when the pool is full is closed.
#
# And if none comes back? People say that the program *hangs*.

# %%
predict(
    "All fifteen stay out. What becomes of the sixteenth request, and of the rest of the program?",
    "It hangs for ever, and everything with it",
    "It hangs for ever; the rest goes on",
    "It gets an error after a while; the rest goes on",
)

# %% facts="0.27 0.29" tags=["predict"]
from sqlalchemy.exc import TimeoutError as PoolTimeout

desk = create_async_engine(lab.url, pool_timeout=0.3)
held = [await desk.connect() for _ in range(15)]

sixteenth = asyncio.create_task(backend(desk))
beats = 0
while not sixteenth.done():
    await asyncio.sleep(0.01)
    beats += 1

try:
    await sixteenth
except PoolTimeout as error:
    print(str(error).partition(" (")[0])
    print("asyncio's own TimeoutError?", isinstance(error, asyncio.TimeoutError))
print("did the loop go on meanwhile?", beats > 3)

for conn in held:
    await conn.close()
await desk.dispose()

# %% [markdown]
# The time is `pool_timeout`: 30 seconds unless you say otherwise, which feels like hanging. We
# said 0.3.
#
# The message says *QueuePool*, and so do many answers on the web. An async engine has another
# class, and refuses that one:

# %% facts="0.29"
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

try:
    create_async_engine(lab.url, poolclass=QueuePool)
except ArgumentError as error:
    print(str(error).partition(" (")[0])

print(type(create_async_engine(lab.url).pool).__name__)

# %% [markdown]
# **Two numbers are traps.** Both of these take the ceiling away. The first keeps everything,
# too:

# %% facts="0.16"
for argument in ({"pool_size": 0}, {"max_overflow": -1}):
    desk = create_async_engine(lab.url, **argument)
    held = [await desk.connect() for _ in range(17)]
    for conn in held:
        await conn.close()
    print(argument, "opened", len(held), "and kept", desk.pool.checkedin())
    await desk.dispose()

# %% [markdown]
# ### Your turn: a ceiling
#
# The small server on the island of Ness has room for `at_most` connections of ours. Any
# ceiling may be asked for. A request beyond it shall fail within `wait` seconds, so that the
# desk can say "one moment, please".


# %% exercise="pooling.ceiling"
def capped(url: str, at_most: int, wait: float):
    """An engine that never opens more than `at_most` connections.

    A request beyond that fails within `wait` seconds.
    """
    # <answer>
    return create_async_engine(url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
    # </answer>


# %%
pooling.ceiling.check()

# %% [markdown]
# ### Your turn: doors open at nine
#
# The first passengers wait longest, because each of their connections has to log in first. Open
# `n` of them *before* nine. When `warm` returns they shall lie ready in the pool, whether it was
# empty before or not.
#
# (Section 1 says why `n` requests in turn will not do.)


# %% exercise="pooling.warm"
async def warm(engine, n: int) -> None:
    """Have `n` connections ready in the engine's pool."""
    # <answer>
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        for _ in range(n):
            await stack.enter_async_context(engine.connect())
    # </answer>


# %%
pooling.warm.check()

# %% [markdown]
# ## 3 · After lunch
#
# Now to the booking that fails. A host likes to tidy up: when a connection has been idle for so
# long, it closes it. We do not wait for that. We *are* the host:


# %%
async def host_closes():
    """End every connection of ours but the host's own, and wait until they are gone."""
    async with host.connect() as conn:
        await conn.execute(
            text("""
                select pg_terminate_backend(pid, 5000) from pg_stat_activity
                where usename = current_user and datname = current_database()
                  and pid <> pg_backend_pid()
            """)
        )


# %% [markdown]
# In the morning there was a small rush, so three connections lie in the pool.


# %%
async def lunch(**options):
    """A rush of three, lunch, and three requests, one after another."""
    desk = create_async_engine(lab.url, **options)
    xray = Xray(desk, host)
    for conn in [await desk.connect() for _ in range(3)]:
        await conn.close()
    await xray.look("before lunch")
    await host_closes()
    await xray.look("after lunch")
    for number in ("first", "second", "third"):
        try:
            await backend(desk)
            print(number, "request: answered")
        except DBAPIError:
            print(number, "request: FAILED")
        await xray.look(f"{number} request")
    await desk.dispose()
    return xray


# %%
predict(
    "All three are closed by the host, and the pool knows nothing of it. "
    "How many of the three requests fail?",
    "3",
    "1",
    "0",
)

# %% facts="0.20" tags=["predict"]
await lunch()

# %% [markdown]
# One. The pool believed in three connections, Postgres had none. The first request found out the
# hard way. From then on the pool trusted *nothing* that it had opened before: the second request
# took a dead one out, and got a new connection in its place. That is why "just try again" seems
# to help.
#
# **Pre-ping** asks each connection whether it is alive, whenever one is taken out:

# %% facts="0.20"
await lunch(pool_pre_ping=True)

# %% [markdown]
# ### What does a ping say?
#
# You may have read that it is a `SELECT 1`. Let us listen. A `Relay` is a clear line between
# engine and server, on which every message is noted. We compare a request that pings with one
# that does not.

# %%
predict(
    "What does asyncpg send as a ping?",
    "SELECT 1",
    "An empty statement, and nothing else",
    "An empty statement, in a transaction of its own",
)

# %% facts="0.17" tags=["predict"]
from engineroom.witness import Relay


async def said_by(url, **options):
    """The SQL texts of a second request."""
    async with Relay(url) as relay:
        desk = create_async_engine(relay.url, **options)
        await backend(desk)
        before = len(relay.said())
        await backend(desk)
        await desk.dispose()
        return [message.sql for message in relay.said()[before:] if message.sql]


for address in (lab.url, lab.psycopg_url):
    print(create_async_engine(address).dialect.driver)
    print("   without:", *await said_by(address))
    print("   pinged: ", *await said_by(address, pool_pre_ping=True))

# %% [markdown]
# No `SELECT 1` anywhere. (asyncpg sends the query itself as a prepared statement, so only its
# `BEGIN` and `ROLLBACK` can be read here.) Each of these messages is one more trip to the server
# and back: through psycopg a ping costs one of them, through asyncpg three.
#
# ### What a ping does not do
#
# It looks when a connection is *taken out*. What dies later, dies in your hands:

# %% facts="0.19"
from sqlalchemy.exc import PendingRollbackError

desk = create_async_engine(lab.url, pool_pre_ping=True)

async with desk.connect() as conn:
    await conn.execute(text("select 1"))
    await host_closes()

    try:
        await conn.execute(text("select 2"))
    except DBAPIError as error:
        print("select 2: lost its connection?", error.connection_invalidated)

    try:
        await conn.execute(text("select 3"))
    except PendingRollbackError as error:
        print("select 3:", str(error).partition(".")[0])

await desk.dispose()

# %% [markdown]
# That is as it should be. Half of your transaction is gone, and only you know whether it may be
# begun anew.
#
# ## 4 · The line that was forgotten
#
# There is a worse lunch. Between you and Postgres stands a box that passes messages on, and it
# too forgets what was idle. Only it *tells nobody*. Your messages vanish, and so do the answers
# that never come.

# %%
predict(
    "Such a line lies in the pool. pool_pre_ping=True. What does the next request do?",
    "It is healed, as before",
    "It fails at once",
    "It hangs",
)

# %% facts="0.20" tags=["predict"]
async with Relay(lab.url) as relay:
    desk = create_async_engine(relay.url, pool_pre_ping=True)
    await backend(desk)

    relay.stall()  # from now on this line swallows everything, without a word
    request = asyncio.create_task(backend(desk))
    await asyncio.wait({request}, timeout=0.5)
    print("answered within half a second?", request.done())
    print("the last that was said:", relay.said()[-1].sql)

    relay.cut()  # now somebody hangs up, and the engine learns of it
    await request
    print("answered once the line was closed?", request.done())
    await desk.dispose()

# %% [markdown]
# **The ping itself hangs.** It asks on the very line that is dead, and there is no answer, not
# even a bad one.
#
# If you cannot ask, go by *age*: `pool_recycle` is the age, in seconds, at which a connection is
# replaced without being asked anything. Many take it for a timer.

# %%
predict(
    "pool_recycle=0.2. A connection rests for half a second, and nobody asks for one. "
    "What does Postgres show?",
    "It is gone",
    "It is still there",
    "It was replaced by a new one",
)

# %% facts="0.18" tags=["predict"]
desk = create_async_engine(lab.url, pool_recycle=0.2)
xray = Xray(desk, host)

await backend(desk)
await xray.look("a request")

await asyncio.sleep(0.5)
await xray.look("half a second of rest")

await backend(desk)
await xray.look("another request")

await desk.dispose()
xray

# %% [markdown]
# Nothing happens by itself. The age is compared **when a connection is taken out**, and it counts
# from the moment it was *opened*, however busy it was since.
#
# So it helps only if your clock is the shorter one. Here the host closes what has rested for 0.4
# seconds; think of minutes. There is no pre-ping.

# %%
predict(
    "The host closes at 0.4. Which pool_recycle saves the next request?",
    "Only 0.2",
    "Only 3600",
    "Both",
)

# %% facts="0.21 3.31" tags=["predict"]
for recycle in (0.2, 3600):
    desk = create_async_engine(lab.url, pool_recycle=recycle)
    await backend(desk)
    await asyncio.sleep(0.4)
    await host_closes()
    try:
        await backend(desk)
        print("recycle", recycle, "- answered")
    except DBAPIError:
        print("recycle", recycle, "- FAILED")
    await desk.dispose()

# %% [markdown]
# A `pool_recycle=3600`, copied from somewhere, is no help against a host that closes after five
# minutes. And 300 against 300 is a bet: leave some room.
#
# Against the forgotten line, age is the cure. One thing is left to know. The old connection has
# to be *closed*, and the two drivers take leave differently:

# %%
predict(
    "A forgotten line, and pool_recycle. Does the next request have to wait for long?",
    "No",
    "Only through psycopg",
    "Only through asyncpg",
)

# %% facts="N10" tags=["predict"]
for address in (lab.psycopg_url, lab.url):
    async with Relay(address) as relay:
        desk = create_async_engine(relay.url, pool_recycle=0.1)
        await backend(desk)
        relay.stall()
        await asyncio.sleep(0.2)

        began = time.perf_counter()
        await backend(desk)
        waited = time.perf_counter() - began
        print(f"{desk.dialect.driver:8} answered; after more than 1.5 s?", waited > 1.5)
        await desk.dispose()

# %% [markdown]
# Both are answered. psycopg says goodbye and goes. asyncpg says goodbye and waits for the server
# to hang up, and SQLAlchemy gives it two seconds for that. Late, then, but not lost.
#
# ### Your turn: before the cut
#
# A host forgets, in silence, what has been idle for `idle_limit` seconds. Whatever that limit is:
#
# - a connection younger than a quarter of it shall be kept;
# - after nine tenths of it, the engine shall take a new one, and say nothing to the old one but
#   goodbye.


# %% exercise="pooling.before_the_cut"
def short_lived(url: str, idle_limit: int):
    """An engine for a host that forgets what was idle for `idle_limit` seconds."""
    # <answer>
    return create_async_engine(url, pool_recycle=int(idle_limit * 0.8))
    # </answer>


# %%
pooling.before_the_cut.check()

# %% [markdown]
# ## 5 · Which one next?
#
# One question is left. Several connections lie in the pool. Which one does a request get?

# %%
predict(
    "Five lie in the pool. Ten requests, one after another. "
    "How many of the five are used?",
    "5",
    "1",
    "It is left to chance",
)

# %% facts="X.4" tags=["predict"]
async def used_in_turn(**options):
    desk = create_async_engine(lab.url, **options)
    for conn in [await desk.connect() for _ in range(5)]:
        await conn.close()
    used = [await backend(desk) for _ in range(10)]
    await desk.dispose()
    return len(set(used))


print("as a queue:", await used_in_turn(), "of five")
print("as a stack:", await used_in_turn(pool_use_lifo=True), "of five")

# %% [markdown]
# By default the pool is a queue: whoever has rested longest goes next. Each is used now and then,
# so none ever rests long enough to be closed. With `pool_use_lifo=True` it is a stack: the one
# that came back last goes out first, and the others may sleep.
#
# ## 6 · An engine for production
#
# | argument | what it decides | unless you say otherwise |
# |---|---|---|
# | `pool_size` | how many may be kept | 5 |
# | `max_overflow` | how many more may be open for a while | 10 |
# | `pool_timeout` | how long a request may queue | 30 s |
# | `pool_pre_ping` | whether a connection is asked before use | no |
# | `pool_recycle` | the age at which it is replaced | never |
# | `pool_use_lifo` | queue or stack | queue |
#
# The right column is easily checked:

# %% facts="0.15"
pool = create_async_engine(lab.url).pool
print(pool.size(), pool._max_overflow, pool._timeout, pool._pre_ping, pool._recycle)

# %% [markdown]
# (−1 means never. The underscores say that these names are nobody's business but the pool's. That
# is one more reason to judge a pool by what it does.)
#
# ### Your turn: the booking desk's engine
#
# Four demands, and Postgres will try each of them:
#
# 1. a rush may open 15 connections, and no more; who finds none free queues;
# 2. five of them are kept when it is over;
# 3. when the host has closed the idle ones, no request fails;
# 4. none older than five minutes is used, and none younger than a minute is replaced.


# %% exercise="pooling.production_engine"
def production_engine(url: str):
    """The booking desk's engine."""
    # <answer>
    return create_async_engine(
        url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300
    )
    # </answer>


# %%
pooling.production_engine.check()

# %% [markdown]
# ## Try with AI, and then let Postgres judge
#
# Ask an assistant for this, in your own words or in these:
#
# > My app runs on a cloud platform with a managed Postgres. After about five minutes in which
# > nobody used it, requests time out. Write me `cloud_engine(url)`, a function that returns the
# > async SQLAlchemy engine for this, and explain each argument.
#
# Paste what it wrote into the next cell. What it has to live up to: the host forgets lines, in
# silence, after 300 seconds without a word, and now and then it restarts its databases. No request
# may fail after a restart. None may speak on a line that has rested for 290 seconds. (The check
# listens to every word, so its line has no TLS: do not require any. That is lesson 06.)
#
# Before you run the check, read the explanation. Does it say what *pre-ping* cures, and what it
# cannot?


# %% exercise="pooling.cloud"
def cloud_engine(url: str):
    """What the assistant wrote."""
    # <answer>
    return create_async_engine(url, pool_pre_ping=True, pool_recycle=240)
    # </answer>


# %%
pooling.cloud.check()

# %% [markdown]
# "Timeouts after five minutes, so pre-ping" is half of the truth. This host needs both halves, and
# you have seen why. Section 3 shows a closed line, which a ping heals. Section 4 shows a
# forgotten one, on which the ping itself hangs. Here they are, side by side, with the engine
# above:

# %% facts="0.60"
async with Relay(lab.psycopg_url) as relay:
    for arguments in ({"pool_pre_ping": True}, {"pool_pre_ping": True, "pool_recycle": 0.1}):
        desk = create_async_engine(relay.url, **arguments)
        await backend(desk)
        relay.stall()
        await asyncio.sleep(0.2)
        request = asyncio.create_task(backend(desk))
        await asyncio.wait({request}, timeout=1)
        print(*arguments, "- answered within a second?", request.done())
        relay.cut()
        await request
        await desk.dispose()

# %% [markdown]
# ## Stuck?
#
# Take the X-ray, and add **one argument at a time**. Change `arguments` and run the cell again:

# %%
arguments = {"pool_size": 2, "max_overflow": 1}

desk = create_async_engine(lab.url, pool_timeout=0.2, **arguments)
xray = Xray(desk, host)
held = [await desk.connect() for _ in range(3)]
await xray.look("three held")
for conn in held:
    await conn.close()
await xray.look("given back")
await host_closes()
await xray.look("host closes")
await desk.dispose()
xray

# %% [markdown]
# - **`QueuePool limit of size … reached`**: every connection was out for the whole `pool_timeout`.
#   Who holds them is the next lesson's question.
# - **`NameError: name 'settings' is not defined`**: an engine was copied from somewhere, and its
#   line says `echo=settings.debug`. That name is an object of the other program. Write `echo=True`
#   while you look, and take it out afterwards.
# - **`'AsyncSession' object has no attribute 'exec'`**: there are two classes of that name. The one
#   with `exec` is SQLModel's:

# %% facts="0.14 0.28"
from sqlalchemy.ext.asyncio import AsyncSession as OtherSession

for sample in (
    lambda: create_async_engine(lab.url, echo=settings.debug),
    lambda: OtherSession().exec,
    lambda: AsyncSession().exec,
):
    try:
        sample()
        print("fine")
    except (NameError, AttributeError) as error:
        print(type(error).__name__ + ":", error)

# %% [markdown]
# ## Go further: let the pool shrink
#
# After a rush five connections lie in the pool, and in the quiet hours one would do. The host
# would close the other four for being idle, if only they ever *were* idle (section 5).
#
# Write an engine that keeps the five connections of a rush, uses only one of them while requests
# come one after another, and loses no request when the host has closed the four others.


# %% exercise="pooling.shrink"
def shrinking(url: str):
    """An engine whose pool shrinks in quiet hours."""
    # <answer>
    return create_async_engine(url, pool_use_lifo=True, pool_pre_ping=True)
    # </answer>


# %%
pooling.shrink.check()

# %% [markdown]
# ## What to remember
#
# - **Opened when needed, then kept.** An engine begins with none. `pool_size` is how many may stay.
# - **The ceiling is a sum:** `pool_size + max_overflow`. Who comes too late queues for
#   `pool_timeout`, and then gets an error.
# - **Pre-ping heals what was closed**, at the price of a trip to the server. It hangs on what was
#   forgotten.
# - **Recycle replaces what is old**, when it is next taken out. Keep it well below the host's limit.
# - **A queue keeps all awake, a stack lets some sleep.**
#
# What we opened, we close:

# %%
await host.dispose()
