# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When the pool runs dry
#
# *Lesson 05 · about 35 minutes*
#
# Regatta weekend. Everybody wants to cross to the islands, and the booking site of the Skerry Line
# stands still. Buttons spin. After half a minute they turn into errors.
#
# The clerk rings the company that runs the database. "Your Postgres?" they say. "**It has nothing
# to do.** It has not been so quiet all week."
#
# Both are right. Today you find out how a site can hang before a server that is idle, and who has
# all the connections.
#
# <!-- objectives -->

# %%
import asyncio

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from checks import exhaustion
from engineroom import lab
from engineroom.widgets import SizingCurve, Timeline, predict

# %% [markdown]
# Some things that we use all day. `host` is the company's own connection, through which it looks at
# ours; `ask` puts a question to it. `until` waits until something is so.

# %%
host = create_async_engine(lab.url, pool_size=1, max_overflow=0)


async def ask(question):
    async with host.connect() as conn:
        return (await conn.execute(text(question))).all()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async with host.begin() as conn:
    for statement in (
        "drop table if exists sailing, booking",
        "create table sailing (id int primary key, ferry text, seats_left int)",
        """insert into sailing
           select n, (array['Alca', 'Tern', 'Puffin'])[n % 3 + 1], 40 from generate_series(1, 10) n""",
        """create table booking (
               id serial primary key, sailing_id int not null, passenger text not null,
               code varchar(6) unique default upper(left(md5(random()::text), 6)))""",
    ):
        await conn.execute(text(statement))

# %% [markdown]
# ## 1 · Dry
#
# Each booking ends with a mail to the passenger. Here is the mail server, for today one that answers
# when we say so; and here is how the desk books.


# %%
class Mail:
    """Counts who waits for it; all are answered when `answer` is set."""

    def __init__(self):
        self.waiting = 0
        self.answer = asyncio.Event()

    async def send(self):
        self.waiting += 1
        await self.answer.wait()


async def book_and_mail(engine, sailing_id, mail):
    async with engine.begin() as conn:
        await conn.execute(
            text("insert into booking (sailing_id, passenger) values (:id, 'Ada')"),
            {"id": sailing_id},
        )
        await mail.send()


# %%
predict(
    "A pool of two, and two bookings wait for the mail server. Three more passengers press the "
    "button. What does Postgres see of these three?",
    "Three statements in a queue",
    "Three idle connections",
    "Nothing at all",
)

# %% [markdown]
# A **timeline** shows it: what is out of the pool and who waits for it, and below what Postgres says
# of our connections at that moment. Each `look` takes one picture.

# %% facts="0.27" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=2, max_overflow=0)
mail = Mail()
line = Timeline(desk, host)
await line.look("engine made")

bookings = [asyncio.create_task(book_and_mail(desk, n, mail)) for n in (1, 2)]
await until(lambda: mail.waiting == 2)
await line.look("two at the mail server")

bookings += [asyncio.create_task(book_and_mail(desk, n, mail)) for n in (3, 4, 5)]
await line.look("three more")

mail.answer.set()
await asyncio.gather(*bookings)
await line.look("mail goes out")

await desk.dispose()
line

# %% [markdown]
# Nothing. The three stand before *our own pool*, in our own process. Postgres has two connections
# of ours, and neither is at work: both are **idle in transaction**. They wait for us, and we wait
# for a mail server.
#
# What do the three get, if nobody comes back in time?

# %% facts="0.27 0.29"
desk = create_async_engine(lab.url, pool_size=2, max_overflow=0, pool_timeout=0.3)
mail = Mail()
bookings = [asyncio.create_task(book_and_mail(desk, n, mail)) for n in (1, 2)]
await until(lambda: mail.waiting == 2)

try:
    await book_and_mail(desk, 3, mail)
except PoolTimeout as error:
    print(str(error).partition(" (")[0])

mail.answer.set()
await asyncio.gather(*bookings)
await desk.dispose()

# %% [markdown]
# That text is the error of the day. Learn to read it: *which pool* (2 + 0), and *how long* somebody
# waited. It says nothing about who has the two connections.
#
# On the web you find a cure for it: "set `pool_timeout=30`, so that requests fail fast".

# %%
predict(
    "pool_timeout=30 is added to an engine that did not mention it. What changes?",
    "Requests fail sooner than before",
    "Requests wait longer than before",
    "Nothing",
)

# %% facts="0.31" tags=["predict"]
for arguments in ({}, {"pool_timeout": 30}):
    print(arguments, "- waits for", float(create_async_engine(lab.url, **arguments).pool._timeout))

# %% [markdown]
# Thirty seconds it was before. To fail fast, say 2 or 3, less than a passenger's patience. That is
# kind, but it cures nothing either: the connections are still out.
#
# ### Alone at the desk
#
# You need no regatta for this. Here is one single request, which opens a second session while the
# first is at work: to write a log line, say.

# %%
predict(
    "A pool of one. Inside a session's block, the same request uses a second session. What happens?",
    "It works: both share the connection",
    "It hangs for ever",
    "TimeoutError, after pool_timeout",
)

# %% facts="0.30" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=1, max_overflow=0, pool_timeout=0.3)

async with AsyncSession(desk) as booking:
    await booking.exec(text("select seats_left from sailing where id = 1"))
    try:
        async with AsyncSession(desk) as log:
            await log.exec(text("select 1"))
    except PoolTimeout as error:
        print("the second session:", type(error).__name__)

await desk.dispose()

# %% [markdown]
# It waits for itself. With a pool of fifteen the same happens as soon as fifteen such requests meet,
# each with one connection in its hand and asking for another.
#
# ## 2 · Who holds them?
#
# The pool cannot tell you. Postgres can: `pg_stat_activity` has a row for each connection, with its
# state and its last statement. We put one connection into each state that there is.


# %%
async def scene(desk):
    """Six connections: one rests, two hold, one failed, and two stand in a queue."""
    rests, holds, reads, failed, *queue = [await desk.connect() for _ in range(6)]
    await rests.execute(text("select 'good morning'"))
    await rests.commit()
    await holds.execute(text("update sailing set seats_left = 39 where id = 1"))
    await reads.execute(text("select ferry from sailing"))
    try:
        await failed.execute(text("select 1 / 0"))
    except DBAPIError:
        pass  # and nobody rolls back
    tasks = []
    for seats, conn in zip((38, 37), queue, strict=True):
        update = text(f"update sailing set seats_left = {seats} where id = 1")
        tasks.append(asyncio.create_task(conn.execute(update)))
        locked = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        while len(await ask(locked)) < len(tasks):
            await asyncio.sleep(0.005)
    return [rests, reads, failed, holds], list(zip(tasks, queue, strict=True))


# %% facts="0.30"
desk = create_async_engine(lab.url)
connections, queue = await scene(desk)

for state, query in await ask(
    """
    select state, query from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() order by state, query
    """
):
    print(f"{state:30} {query}")

for wanted, held in await ask(
    """
    select waits.query, holds.query from pg_stat_activity waits
    join pg_stat_activity holds on holds.pid = any(pg_blocking_pids(waits.pid))
    where waits.datname = current_database() order by waits.query desc
    """
):
    print("\nwaits:   ", wanted)
    print("for this:", held)

for conn in connections:
    await conn.close()
for waiting, conn in queue:
    await waiting
    await conn.close()
await desk.dispose()

# %% [markdown]
# Read the states one by one.
#
# - `idle`: rests in a pool. Harms nobody.
# - `idle in transaction`: somebody began, and is not done. One of ours only *read*; that is enough.
#   With `(aborted)` behind it, a statement has failed, and nobody has rolled back.
# - `active`: at work, or, as here, **waiting for a lock**. The second question names the one it
#   waits for: `pg_blocking_pids(pid)` gives the pids that a connection waits for. One of our two is
#   `active` *and* in another's way.
#
# ### Your turn: who holds?
#
# Write `who_holds(engine)` for the next bad day. It returns a list of `(pid, query)`, one for each
# connection that
#
# - sits idle in a transaction, in either of the two states; or
# - is waited for by another connection, whatever it does itself.
#
# Nobody else, and nobody twice. It only looks.


# %% exercise="exhaustion.who_holds"
async def who_holds(engine) -> list[tuple[int, str]]:
    """Pid and last statement of those that hold something."""
    # <answer>
    async with engine.connect() as conn:
        rows = await conn.execute(
            text(
                "select pid, query from pg_stat_activity"
                " where state like 'idle in transaction%' or pid in"
                " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"
            )
        )
        return [tuple(row) for row in rows]
    # </answer>


# %%
exhaustion.who_holds.check()

# %% [markdown]
# ## 3 · The ones that never came back
#
# The timetable page was written in a hurry. It opens a session, and nobody closes it:


# %%
forgotten = []


async def timetable(engine):
    session = AsyncSession(engine)
    found = await session.exec(text("select ferry from sailing /* timetable */"))
    forgotten.append(session)  # a cache, a global, an exception that is kept: something refers to it
    return found.all()


# %%
predict(
    "Three such sessions are open, then the last reference to them is gone. "
    "Their three connections...",
    "stay out for ever",
    "go back to the pool, without a word",
    "are thrown away by the garbage collector, with a warning",
)

# %% facts="X.3" tags=["predict"]
import gc
import logging
import warnings

desk = create_async_engine(lab.url, pool_size=3, max_overflow=0, pool_timeout=1)
line = Timeline(desk, host)
logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())

for _ in range(3):
    await timetable(desk)
await line.look("three timetables")

passenger = asyncio.create_task(timetable(desk))
await line.look("the next one")
try:
    await passenger
except PoolTimeout as error:
    print(str(error).partition(",")[0])

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    del passenger
    forgotten.clear()
    gc.collect()
await line.look("garbage collected")

print(len(said), "times:", str(said[0].message).partition(" <")[0], "...")
await desk.dispose()
line

# %% [markdown]
# As long as something refers to them, they are out, and the pool is dry with nobody in the shop. The
# collector frees the places, but late, and the connections are lost: the last picture shows none,
# neither out nor idle. Each will have to log in again.
#
# So **a warning about "non-checked-in connection" is a leak**, found by luck. (SQLAlchemy also logs it
# as an error of `sqlalchemy.pool`; we kept that quiet here.) And while it lasts, Postgres tells you
# which page it was, by the last statement: that is why ours says `/* timetable */`.
#
# The cure is one line, and it holds for every way out of the block, exceptions too:

# %% facts="0.24"
desk = create_async_engine(lab.url, pool_size=1, max_overflow=0)

for _ in range(3):
    try:
        async with AsyncSession(desk) as session:
            await session.exec(text("select 1 / 0"))
    except DBAPIError:
        print("failed; out of the pool:", desk.pool.checkedout())

await desk.dispose()

# %% [markdown]
# ## 4 · Short transactions
#
# Section 1 was no leak. Every booking gave its connection back, only *late*: it held it while a mail
# went out. A connection is held as long as the transaction is open, so the question is when a
# transaction ends. Or begins:

# %%
predict(
    "A session has done one SELECT, and nothing else. Postgres shows its connection as",
    "idle",
    "idle in transaction",
    "gone: a SELECT needs no transaction",
)

# %% facts="0.30" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=2, max_overflow=0)
line = Timeline(desk, host)

async with AsyncSession(desk) as session:
    await line.look("session opened")
    await session.exec(text("select seats_left from sailing where id = 1"))
    await line.look("a SELECT")
    await session.commit()
    await line.look("commit")
    await session.exec(text("select seats_left from sailing where id = 1"))
    await line.look("one more SELECT")
await line.look("session closed")

await desk.dispose()
line

# %% [markdown]
# Every statement begins a transaction if there is none, **also after a commit**. That second SELECT
# is how a booking that "commits first" still waits for its mail with a connection in its hand.
#
# Now eight bookings at once, with a pool of two. Same mail server, same statement. In one desk the
# mail is sent inside the block, in the other one line further down.


# %%
async def book_then_mail(engine, sailing_id, mail):
    async with engine.begin() as conn:
        await conn.execute(
            text("insert into booking (sailing_id, passenger) values (:id, 'Ada')"),
            {"id": sailing_id},
        )
    await mail.send()


predict(
    "Eight bookings at once on a pool of two. The mail is sent after the block. "
    "How many bookings wait for the mail server at the same time?",
    "2",
    "8",
)

# %% facts="0.30" tags=["predict"]
desk = create_async_engine(lab.url, pool_size=2, max_overflow=0)
line = Timeline(desk, host)

for book, at_once in ((book_and_mail, 2), (book_then_mail, 8)):
    mail = Mail()
    bookings = [asyncio.create_task(book(desk, n, mail)) for n in range(1, 9)]
    await until(lambda mail=mail, at_once=at_once: mail.waiting == at_once)
    await line.look("mail inside" if book is book_and_mail else "mail after")
    print(f"{book.__name__}: {mail.waiting} at the mail server")
    mail.answer.set()
    await asyncio.gather(*bookings)

await desk.dispose()
line

# %% [markdown]
# All eight, and the pool has both connections free. No argument of the engine was changed.
#
# ### Your turn: let go
#
# Write `book(factory, sailing_id, passenger, notify)`. `factory` makes sessions (SQLModel's, on a
# pool of **one**). It stores a row in the table `booking` (columns `sailing_id`, `passenger`,
# `code`; leave the code out, and Postgres makes one), awaits `notify(code)`, and returns the code.
#
# - While the mail goes out, everybody can see the row, and you hold no connection.
# - `notify` may fail. The booking stands all the same; raise then, or return the code.
# - Others book meanwhile, and a passenger may book twice: the code is that of *this* row.


# %% exercise="exhaustion.let_go"
async def book(factory, sailing_id: int, passenger: str, notify) -> str:
    """Store a booking, send its code by mail, return the code."""
    # <answer>
    statement = text(
        "insert into booking (sailing_id, passenger) values (:sailing, :passenger) returning code"
    )
    async with factory.begin() as session:
        values = {"sailing": sailing_id, "passenger": passenger}
        code = (await session.exec(statement, params=values)).scalar_one()
    await notify(code)
    return code
    # </answer>


# %%
exhaustion.let_go.check()

# %% [markdown]
# ## 5 · One and then ten more
#
# The departures board shows ten sailings, each with its number of bookings. It asks for the sailings,
# and then for each of them: one query and *N* more. People say that this exhausts a pool.

# %%
predict(
    "The board sends its 11 statements in one session. How many connections does that take?",
    "11",
    "2",
    "1",
)

# %% [markdown]
# A `Relay` is a line to the server on which everything that a program says can be counted. `E` is the
# message that has a statement executed.

# %% facts="0.30" tags=["predict"]
from engineroom.witness import Relay

COUNT = "select count(*) from booking where sailing_id = :id"
TOGETHER = """
    select s.id, count(b.id) from sailing s left join booking b on b.sailing_id = s.id group by s.id
"""


async def one_by_one(session):
    ids = (await session.exec(text("select id from sailing order by id"))).scalars().all()
    return {n: (await session.exec(text(COUNT), params={"id": n})).scalar() for n in ids}


async def together(session):
    return {n: count for n, count in await session.exec(text(TOGETHER))}


boards = []
async with Relay(lab.url) as relay:
    desk = create_async_engine(relay.url)
    async with desk.connect() as conn:
        await conn.execute(text("select 1"))  # all that a first login asks is asked
    for board in (one_by_one, together):
        before = len(relay.said())
        async with AsyncSession(desk) as session:
            boards.append(await board(session))
        sent = sum(message.kind == "E" for message in relay.said()[before:])
        print(f"{board.__name__:10}  statements: {sent:2}  connections: {len(relay.lines)}")
    await desk.dispose()

print("the same board?", boards[0] == boards[1])

# %% [markdown]
# One connection, either way. N + 1 statements take it for eleven trips instead of one, so it comes
# back *later*. That is the harm.
#
# What does take many connections is the cure that comes to mind first: "then ask all at once".


# %%
class Slow(Mail):
    """A query that takes its time: we say when it is done."""

    async def count(self, session, sailing_id):
        found = await session.exec(text(COUNT), params={"id": sailing_id})
        await self.send()
        return found.scalar()


async def at_once(engine, slow):
    async def one(sailing_id):
        async with AsyncSession(engine) as session:
            return await slow.count(session, sailing_id)

    return await asyncio.gather(*(one(n) for n in range(1, 11)))


# %% facts="0.30"
desk = create_async_engine(lab.url, pool_size=3, max_overflow=0, pool_timeout=1)
slow = Slow()
line = Timeline(desk, host)

board = asyncio.create_task(at_once(desk, slow))
await until(lambda: slow.waiting == 3)
await line.look("ten sessions at once")

try:
    await board
except PoolTimeout as error:
    print("the board:", str(error).partition(",")[0])

slow.answer.set()
await until(lambda: desk.pool.checkedout() == 0)
await desk.dispose()
line

# %% [markdown]
# One visitor opened one page, and the pool is dry, for the board itself and for everybody else. And
# one session for all ten? That is no way out:

# %% facts="X.1"
desk = create_async_engine(lab.url)

async with AsyncSession(desk) as session:
    outcomes = await asyncio.gather(
        *(session.exec(text(COUNT), params={"id": n}) for n in (1, 2)), return_exceptions=True
    )
for outcome in outcomes:
    if isinstance(outcome, Exception):
        print(type(outcome).__name__ + ":", str(outcome).partition(" (")[0])

await desk.dispose()

# %% [markdown]
# A session is for one task at a time. So: a session for each, but only so many at the same time.
# Whoever has to wait should wait *before* asking the pool, where it takes nobody's place. Python has
# something that counts: `asyncio.Semaphore(n)` lets `n` into its `async with` block.
#
# ### Your turn: all boards
#
# Write `all_boards(factory, ids, load, at_most)`: await `load(session, id)` for every id, each with a
# session of its own from `factory`.
#
# - `at_most` loads are under way at the same time: never more, and no fewer while there is work.
#   (So no rounds, in which all wait for the slowest.)
# - The results come as a list, in the order of `ids`.
# - When a load fails, `all_boards` fails too, and no connection stays out.


# %% exercise="exhaustion.all_boards"
async def all_boards(factory, ids: list, load, at_most: int) -> list:
    """What `load(session, id)` gives for each id, `at_most` at a time."""
    # <answer>
    turn = asyncio.Semaphore(at_most)

    async def one(id):
        async with turn, factory() as session:
            return await load(session, id)

    return await asyncio.gather(*(one(id) for id in ids))
    # </answer>


# %%
exhaustion.all_boards.check()

# %% [markdown]
# ## 6 · How large may a pool be?
#
# "Then take a larger pool." That works as long as Postgres has connections to give. `lab.tiny` is a
# small Postgres of your own, with room for twenty:

# %% facts="0.33"
small = create_async_engine(lab.tiny.url, pool_size=1, max_overflow=0)

async with small.connect() as conn:
    for name, value in await conn.execute(
        text(
            "select name, setting from pg_settings where name in"
            " ('max_connections', 'superuser_reserved_connections') order by name"
        )
    ):
        print(name, value)
await small.dispose()

# %% [markdown]
# Our site runs on **four worker processes**. Each imports the program, so each has an engine and a
# pool of its own. Four engines stand for them here.

# %%
predict(
    "Four workers, pool_size=2, and max_overflow is not mentioned. Every worker has a rush. "
    "How many connections do they ask Postgres for?",
    "2",
    "8",
    "48",
)

# %% facts="3.28 0.33" tags=["predict"]
workers = [create_async_engine(lab.tiny.url, pool_size=2) for _ in range(4)]

rush = [worker.connect().start() for worker in workers for _ in range(2 + 10)]
answers = await asyncio.gather(*rush, return_exceptions=True)
held = [answer for answer in answers if not isinstance(answer, Exception)]
refused = [answer for answer in answers if isinstance(answer, Exception)]

print("asked:", len(answers), " given:", len(held), " refused:", len(refused))
print(refused[0].orig.sqlstate, type(refused[0].orig.__cause__).__name__)

for conn in held:
    await conn.close()
for worker in workers:
    await worker.dispose()

# %% [markdown]
# Ten of overflow, for each of four: 48. And twenty is not what we get: three slots are kept for
# administrators, so that somebody can still come in and look.
#
# Let us grow the four pools together, one connection at a time, and draw it.

# %% facts="0.33"
workers = [create_async_engine(lab.tiny.url, pool_size=7, max_overflow=0) for _ in range(4)]
held, given = [], []

for _ in range(7):
    for worker in workers:
        try:
            held.append(await worker.connect())
        except DBAPIError as error:
            refusal = error
    given.append(len(held))

for conn in held:
    await conn.close()
for worker in workers:
    await worker.dispose()

print("the refusal:", " ".join(str(refusal.orig).split()[:5]), "...")
SizingCurve(processes=4, given=given)

# %% [markdown]
# Up to 4 in each pool all goes well. With 5 it breaks, but **only in a rush**: on a quiet day nobody
# notices.
#
# There is a harder refusal. A login takes its slot *before* the password is checked, and may take one
# of the reserved three. We hold seventeen; then three more knock, and do not go on:

# %% facts="0.33"
from engineroom.witness import knocking


async def refusal_of(engine):
    """What an engine is told when it tries to connect."""
    try:
        async with engine.connect():
            return "came in"
    except DBAPIError as error:
        said = str(error.orig).partition("FATAL: ")[2] or str(error.orig)
        first_words = " ".join(said.split()[:5])
        state = getattr(error.orig, "sqlstate", None) or "no SQLSTATE"
        return f"{engine.dialect.driver:8} {type(error).__name__:17} {state:12} {first_words}"


full = create_async_engine(lab.tiny.url, pool_size=17)
held = [await full.connect() for _ in range(17)]

for url in (lab.tiny.url, lab.tiny.psycopg_url):
    engine = create_async_engine(url)
    print(await refusal_of(engine))
    async with knocking(lab.tiny.url, 3):
        print(await refusal_of(engine))

for conn in held:
    await conn.close()
await full.dispose()

# %% [markdown]
# Two texts for "full", and there is a third one, when your *role* has a limit. Postgres numbers its
# errors: the **SQLSTATE** of all three is 53300. asyncpg passes it on; through psycopg a refused
# login has none, and only the text tells.

# %% facts="0.33"
desk = create_async_engine(lab.url, pool_size=20, max_overflow=0)
held = []
try:
    while True:
        held.append(await desk.connect())
except DBAPIError as error:
    print(error.orig.sqlstate, str(error.orig).partition(' "')[0])

for conn in held:
    await conn.close()
await desk.dispose()

# %% [markdown]
# Tables of sizes for "a small site" or "a busy one" are opinions; 5 + 10, which they call the standard,
# is simply the default. What counts is the sum over all processes. Postgres allows 100 connections
# unless told otherwise:

# %% facts="0.32"
pool = create_async_engine(lab.url).pool
print(f"the default: {pool.size()} + {pool._max_overflow}")

for size, overflow in ((2, 3), (2, 5), (5, 10), (10, 20)):
    print(f"{size:2} + {overflow:2}: full in", (100 - 3) // (size + overflow), "processes")

# %% [markdown]
# ### Your turn: a fair share
#
# Write `fair_share(max_connections, reserved, others, instances, workers)`. It returns
# `(pool_size, max_overflow)` for every engine of ours:
#
# - there are `instances` machines, and each runs `workers` processes;
# - `reserved` slots are for administrators, and `others` are taken by other programs;
# - when all our pools are full, nobody is refused, and Postgres has fewer slots left than we have
#   processes;
# - if there is not even one connection for each process, raise a ValueError.
#
# How you split the share into size and overflow is up to you. Lesson 04 has two values that would
# mean "no limit"; avoid them.


# %% exercise="exhaustion.fair_share"
def fair_share(
    max_connections: int, reserved: int, others: int, instances: int, workers: int
) -> tuple[int, int]:
    """`pool_size` and `max_overflow` for each process."""
    # <answer>
    each = (max_connections - reserved - others) // (instances * workers)
    if each < 1:
        raise ValueError("there is not one connection for each process")
    return each, 0
    # </answer>


# %%
exhaustion.fair_share.check()

# %% [markdown]
# ## 7 · A pool before the pools
#
# Suppose that the share comes out as one, or below. A hundred small programs, functions that start
# by the dozen, several sites on one database: then put a pool *between* them and Postgres. PgBouncer
# is one. It takes many clients, and has few connections to the server.

# %%
from engineroom.errors import EngineRoomError

try:
    pooler = lab.pgbouncer.url
    print("PgBouncer is up; connections to the server, at most:", lab.pgbouncer.default_pool_size)
except EngineRoomError as trouble:
    pooler = ""  # the cells below then do nothing; read on
    print(trouble)

# %% [markdown]
# It runs in **transaction mode**, the one that shares: a client has a server connection for one
# transaction, then the next client gets it.
#
# We need it fresh now and then, so `fresh` ends its connections to the server. What
# `statement_cache_size=0` is for comes in a minute.


# %%
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool


async def fresh():
    await ask(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid <> pg_backend_pid()"
        " and usename = current_user and datname = current_database()"
    )


def outside(poolclass=NullPool, **arguments):
    """An engine as people write it for PgBouncer: without a pool of its own."""
    return create_async_engine(pooler, poolclass=poolclass, connect_args=arguments)


# %% facts="0.35"
if pooler:
    await fresh()
    desk = outside(statement_cache_size=0)
    clients = await asyncio.gather(*(desk.connect().start() for _ in range(40)))
    served_by = set()
    for client in clients:
        served_by.add(await client.scalar(text("select pg_backend_pid()")))
        await client.commit()

    [(standing,)] = await ask(
        "select count(*) from pg_stat_activity where usename = current_user"
        " and datname = current_database() and pid <> pg_backend_pid()"
    )
    print("clients:", len(clients))
    print("at most four connections to the server?", len(served_by) <= 4 and standing <= 4)
    for client in clients:
        await client.close()
    await desk.dispose()

# %% [markdown]
# Forty clients were connected at the same time, and Postgres knew of four at most.
#
# Now to the engine. "PgBouncer does the pooling, so take `NullPool`", and that is all, says many a
# page. We try it as it happens in life: the program starts, and is restarted. Each start is a process
# of its own, with ten requests in turn.

# %%
predict(
    "NullPool and asyncpg, nothing else, through PgBouncer. How many of ten requests fail?",
    "None, ever",
    "None at first, some after a restart",
    "All",
)

# %%
PROGRAM = """
import asyncio, json, os
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

async def main(arguments):
    engine = create_async_engine(os.environ["POOLER"], poolclass=NullPool, connect_args=arguments)
    failed, said = 0, ""
    for number in range(10):
        try:
            async with engine.connect() as conn:
                await conn.execute(text("select cast(:n as int)"), {"n": number})
        except Exception as error:
            failed, said = failed + 1, str(error.orig)
    print(json.dumps([failed, said]), flush=True)

for start in range(2):
    if os.fork() == 0:
        asyncio.run(main(json.loads(os.environ["ARGUMENTS"])))
        os._exit(0)
    os.wait()
"""


async def start_twice(**arguments):
    """For each of two starts: how many requests failed, and the last error."""
    import json
    import os
    import sys

    await fresh()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "POOLER": pooler, "ARGUMENTS": json.dumps(arguments)},
    )
    answer, _ = await process.communicate()
    return [json.loads(line) for line in answer.splitlines()]


async def left_behind():
    """How many prepared statements the server connection has that is next in turn."""
    engine = outside(statement_cache_size=0)
    async with engine.connect() as conn:
        return await conn.scalar(text("select count(*) from pg_prepared_statements"))


# %% facts="0.34" tags=["predict"]
if pooler:
    (first, _), (second, said) = await start_twice()

    print("first start: failed", first)
    print("restart: did some fail?", second > 0)
    print("already there?", said.startswith("prepared statement") and "already exists" in said)
    print("prepared statements left behind?", await left_behind() > 0)

# %% [markdown]
# `prepared statement "__asyncpg_stmt_1__" already exists`, or its like.
#
# asyncpg *prepares* every statement on the server, under a name: it counts from 1, in each process. The
# statement stays on the server connection, and that goes on to the next client. After a restart (or
# in the second worker) the same names come again. **NullPool closes our end. It says nothing about
# what stays at the other end.**
#
# The cure is to prepare without a name. That is asyncpg's own setting, and `connect_args` hands it
# over:

# %% facts="0.34"
if pooler:
    (first, _), (second, _) = await start_twice(statement_cache_size=0)
    print(f"first start: failed {first}; restart: failed {second}")
    print("left behind:", await left_behind())

# %% [markdown]
# There is another argument that looks like it, and one that avoids equal names by drawing them at
# random. Many pages name them, so here they are:

# %% facts="0.34"
import uuid

if pooler:
    _, (second, _) = await start_twice(prepared_statement_cache_size=0)
    print("SQLAlchemy's cache off: did some fail after a restart?", second > 0)

    await fresh()
    desk = outside(prepared_statement_name_func=lambda: f"desk_{uuid.uuid4()}")
    counts = []
    for _ in range(3):
        async with desk.connect() as conn:
            await conn.execute(text("select cast(:n as int)"), {"n": 1})
        counts.append(await left_behind())
    print("names at random: do more and more stay behind?", counts[0] < counts[1] < counts[2])

# %% [markdown]
# The first is a cache that SQLAlchemy keeps *on top*; asyncpg still gives names. The second fails
# nobody, and litters the server a little more with every request.
#
# psycopg prepares too, but only what is executed often, and it counts for each *connection*:

# %%
predict(
    "psycopg through PgBouncer: two clients, one after the other, each executes the same statement "
    "ten times and commits. What happens to the second client?",
    "It works: psycopg is not asyncpg",
    "It fails at its first execution",
    "It fails somewhere in the middle",
)

# %% facts="N1 0.34" tags=["predict"]
async def second_client(**arguments):
    """How far the second of two clients gets."""
    await fresh()
    url = lab.pgbouncer.psycopg_url
    engine = create_async_engine(url, poolclass=NullPool, connect_args=arguments)
    for _ in range(2):
        done = 0
        try:
            async with engine.begin() as conn:
                while done < 10:
                    await conn.execute(text("select cast(:n as int)"), {"n": done})
                    done += 1
        except DBAPIError as error:
            return f"{done} went well, then: {error.orig}"
    return f"{done} went well"


if pooler:
    print("by itself:             ", await second_client())
    print("prepare_threshold=None:", await second_client(prepare_threshold=None))

# %% [markdown]
# Five times it sends the statement as it is. Then it prepares it, under the name `_pg3_0`.
#
# (A PgBouncer *may* keep such names apart; from 1.21 on it can, when `max_prepared_statements` is not
# zero. Ours does not. You do not always know which one stands before you: what works without names
# works with all of them.)
#
# **And NullPool?** It is allowed, but you pay for it: each request logs in to PgBouncer. A small pool
# of your own is fine, too:

# %% facts="0.35"
import time


async def best_of_eight(engine):
    took = []
    for _ in range(8):
        began = time.perf_counter()
        async with engine.connect() as conn:
            await conn.execute(text("select 1"))
        took.append(time.perf_counter() - began)
    await engine.dispose()
    return min(took)


if pooler:
    without = await best_of_eight(outside(statement_cache_size=0))
    within = await best_of_eight(outside(AsyncAdaptedQueuePool, statement_cache_size=0))
    print("does a request without a pool take at least half as long again?", without > 1.5 * within)

# %% [markdown]
# ### Your turn: an engine for the pooler
#
# Write `bouncer_engine(url)`. `url` leads through PgBouncer in transaction mode and names asyncpg (you
# may change the driver). Other clients have prepared statements there, with the names that asyncpg and
# psycopg give. Then come two engines of yours, with several tasks each, several transactions a task:
#
# - no request fails, and none is answered wrongly;
# - when they have gone, the server connections hold the statements and settings that they held
#   before, and nothing of yours.


# %% exercise="exhaustion.bouncer"
def bouncer_engine(url: str):
    """An engine that works through PgBouncer in transaction mode."""
    # <answer>
    from sqlalchemy.pool import NullPool

    options = {"statement_cache_size": 0}  # asyncpg: no statement gets a name
    return create_async_engine(url, poolclass=NullPool, connect_args=options)
    # </answer>


# %%
exhaustion.bouncer.check()

# %% [markdown]
# ## Try with AI, and then let Postgres judge
#
# On a bad day all refusals look alike. Ask an assistant for this, in your own words or in these:
#
# > My FastAPI app uses SQLAlchemy with asyncpg, one service with psycopg. Some requests fail with
# > "QueuePool limit of size 5 overflow 10 reached", some with "remaining connection slots are
# > reserved", and one with "password authentication failed". What is wrong with my `DATABASE_URL`?
# > Write `triage(error)`: for an exception, return `"pool"` (our pool had none left), `"server"`
# > (Postgres had none left for us), `"password"` or `"other"`. Explain what to do in each case.
#
# Paste its function into the next cell. The check makes every one of these troubles happen, through
# both drivers, and some that only sound like them.
#
# Before you run it, read the explanation. Does it blame the *form* of the URL for a refused password?
# Here is what you and Postgres say to each other in that case:

# %% facts="0.59"
from sqlalchemy import make_url

for url in (lab.url, lab.psycopg_url):
    print(await refusal_of(create_async_engine(make_url(url).set(password="kipper"))))

# %% [markdown]
# A server was reached, and it answered. The URL had the right form, else nobody would have been there
# to refuse you.


# %% exercise="exhaustion.triage"
def triage(error: Exception) -> str:
    """`pool`, `server`, `password` or `other`: whose refusal is this?"""
    # <answer>
    if isinstance(error, PoolTimeout):
        return "pool"
    orig = getattr(error, "orig", None)
    state, said = getattr(orig, "sqlstate", None), str(orig)
    if state == "53300" or "too many" in said or "connection slots are reserved" in said:
        return "server"
    if state == "28P01" or "password authentication failed" in said:
        return "password"
    return "other"
    # </answer>


# %%
exhaustion.triage.check()

# %% [markdown]
# ## Stuck?
#
# Run a pool of two dry by hand. Change `requests` and the two numbers, and look again:

# %%
requests, arguments = 3, {"pool_size": 2, "max_overflow": 0}

desk = create_async_engine(lab.url, **arguments)
line = Timeline(desk, host)
mail, tasks = Mail(), []
for number in range(1, requests + 1):
    tasks.append(asyncio.create_task(book_and_mail(desk, number, mail)))
    await until(lambda: mail.waiting == min(len(tasks), line.places))
    await line.look(f"request {number}")
mail.answer.set()
await asyncio.gather(*tasks)
await line.look("all done")
await desk.dispose()
line

# %% [markdown]
# - **`QueuePool limit of size … reached`**: who holds? Section 2. A leak has an old `idle in
#   transaction` with one and the same statement; a long transaction shows where it stands.
# - **`remaining connection slots are reserved`**: add up all pools. Section 6.
# - **`Invalid argument(s) 'pool_size'`** and **`unsupported startup parameter`**: two things that do
#   not go together with `NullPool` and with PgBouncer:

# %% facts="0.34 0.35"
try:
    create_async_engine(lab.url, poolclass=NullPool, pool_size=5)
except TypeError as error:
    print(str(error).partition(" sent to")[0])

if pooler:
    print(await refusal_of(outside(server_settings={"jit": "off"})))

# %% [markdown]
# ## Go further: what a SET does to strangers
#
# A report runs for too long, and somebody gives it a limit: `set statement_timeout`. The client does
# its work, commits, and is gone. Then a stranger logs in.

# %%
predict(
    "Through PgBouncer in transaction mode: which limit has the stranger?",
    "None: it is another client",
    "The limit of the one before",
)

# %% facts="0.35" tags=["predict"]
if pooler:
    await fresh()
    desk = outside(statement_cache_size=0)
    async with desk.connect() as conn:
        await conn.execute(text("set statement_timeout = '7s'"))
        await conn.commit()

    stranger = outside(statement_cache_size=0)
    async with stranger.connect() as conn:
        print("the stranger's limit:", await conn.scalar(text("show statement_timeout")))
    await fresh()

# %% [markdown]
# Behind such a pooler a *session* is not yours. `SET`, temporary tables, advisory locks, `LISTEN`: what
# belongs to a session goes to whoever comes next. A *transaction* is yours, and there is a `SET` that
# ends with it.
#
# Write `limited(engine, statement, milliseconds)` for an engine that leads through PgBouncer:
#
# - Postgres itself ends `statement` if it takes longer (`statement_timeout`, in milliseconds);
# - what it writes is committed, and its rows are returned as they come, in a list;
# - nobody else ever gets that limit: not during it, not after it, not after an error.


# %% exercise="exhaustion.own_limit"
async def limited(engine, statement: str, milliseconds: int) -> list:
    """The rows of a statement that Postgres ends after so many milliseconds."""
    # <answer>
    async with engine.begin() as conn:
        await conn.execute(text(f"set local statement_timeout = {int(milliseconds)}"))
        return (await conn.execute(text(statement))).all()
    # </answer>


# %%
exhaustion.own_limit.check()

# %% [markdown]
# ## What to remember
#
# - **A dry pool is our own queue.** Postgres sees nothing of those who wait. Ask it who holds:
#   `idle in transaction`, and `pg_blocking_pids`.
# - **Close by block.** A warning of the garbage collector about a connection is a leak.
# - **End the transaction before you wait for the world.** Every statement begins a new one, a SELECT
#   too.
# - **Bound what runs at once**, before it asks the pool.
# - **Processes times (`pool_size + max_overflow`)** is what you may ask for. Postgres gives
#   `max_connections` less what is reserved.
# - **Behind a pooler in transaction mode only the transaction is yours:** no named statements, no
#   `SET`.
#
# What we opened, we close:

# %%
await host.dispose()
