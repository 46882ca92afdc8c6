# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Welcome aboard
#
# *Lesson 00 · about 25 minutes*
#
# It is your first morning at the booking desk of the **Skerry Line**: three small ferries,
# *Alca*, *Tern* and *Puffin*, and one database. The desk's program says "booked!".
# Is it? **Who says so?**
#
# In this course nobody has to believe a program. We ask Postgres, which saw what happened.
#
# ![A cell sends its query to the engine, and the engine sends SQL over TLS to Postgres. A second, dashed arrow goes from you straight to Postgres and asks: what did you see?](attachment:who_says_so.png)
#
# <!-- objectives -->

# %% [markdown]
# ## 1 · A page that runs
#
# The box below is a *cell*. Click into it and press <kbd>Shift</kbd>+<kbd>Enter</kbd>:
# Python runs it, shows the value of its last line, and moves on to the next cell.
#
# The number beside it says that it has run. Is there an empty `[ ]` instead? Then Python was
# still waking up: click into the cell, and press once more.

# %%
ferries = ["Alca", "Tern", "Puffin"]
len(ferries)

# %% [markdown]
# Three habits make this course work:
#
# - **Go from top to bottom.** A cell may use what the cells above it made.
# - **Change things and run them again.** This notebook is your own copy. It lives in the
#   folder `work`, and starting the course again never writes over it.
# - **Where it says *Predict*, decide first, then run.** Guessing wrong is how one notices
#   what one believed.

# %% [markdown]
# ## 2 · A Postgres of your own
#
# `lab` is what this course gives you to work with. Importing it starts nothing; the first
# thing you ask it for does. (`welcome` and `predict` are for later.)

# %%
import asyncio
import sys

from checks import welcome
from engineroom import lab
from engineroom.widgets import predict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

# %% [markdown]
# `lab.url` says where your database is. An *engine* made from it carries our questions
# there; section 4 looks at how. For now: connect, ask, print. The `with` block gives the
# connection back when it ends.

# %%
desk = create_async_engine(lab.url)

async with desk.connect() as conn:
    version = await conn.scalar(text("show server_version"))

print("PostgreSQL", version)

# %% [markdown]
# That was the server talking. We will ask it a lot, so here is a shorter way to do the same:


# %%
async def ask(question, **values):
    """Ask Postgres, and give back the first row of its answer."""
    async with desk.connect() as conn:
        return (await conn.execute(text(question), values)).one()


await ask("select 6 * 7")

# %% [markdown]
# A row with one value, hence the comma.
#
# **Is the line encrypted?** We could look at our own settings, but they only say what we
# wished for. `pg_stat_ssl` is the server's own list of who is connected how. One line of it
# is about us:

# %%
await ask("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")

# %% [markdown]
# **And who are we, to Postgres?** A plain role, as your program should be in production too:
# no superuser, not allowed to make databases, and with room for so many connections at once.

# %%
await ask("""
    select rolsuper, rolcreatedb, rolconnlimit
    from pg_roles where rolname = current_user
""")

# %% [markdown]
# > **Predict.** A colleague opens another notebook at the same time. Do the two of you work
# > in the same database?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > No. Each notebook gets a database of its own, so nobody's tables get in your way. It
# > goes when the notebook's Python ends: after a restart, yours is empty and new.
# >
# > </details>
#
# The next cell starts a second Python, just as another notebook would, and asks it.

# %% tags=["predict"]
other = await asyncio.create_subprocess_exec(
    sys.executable,
    "-c",
    "from engineroom import lab; print(lab.postgres.database)",
    stdout=asyncio.subprocess.PIPE,
)
theirs = (await other.communicate())[0].decode().strip()
ours = await ask("select current_database()")
left = await ask("select count(*) from pg_database where datname = :name", name=theirs)

print("the same database?", ours[0] == theirs)
print("theirs, when their Python has ended:", left[0])

# %% [markdown]
# ## 3 · What `await` is for
#
# While Postgres thinks, your program could do something else: serve the next passenger,
# say. `await` marks the places where it may. There it hands over to the *event loop*, and it
# goes on when the answer is in.
#
# So `async def` makes an unusual kind of function. Calling it does not run it; it gives you a
# *coroutine*: work in a sealed envelope. `await` opens the envelope.
#
# To see who opened one, we use a Postgres *sequence*: a roll of numbered tickets. A number
# that was torn off never goes back on the roll, so the roll cannot forget us.


# %%
async def new_roll():
    async with desk.begin() as conn:
        await conn.execute(text("drop sequence if exists ticket"))
        await conn.execute(text("create sequence ticket"))


async def tear_off():
    async with desk.connect() as conn:
        return await conn.scalar(text("select nextval('ticket')"))


# %% [markdown]
# Postgres knows of each roll whether it was ever used:


# %%
async def was_used():
    return (await ask("select is_called from ticket"))[0]


await new_roll()
await was_used()

# %% [markdown]
# > **Predict.** `mine = tear_off()`, without `await`. Is `mine` a number? Does Postgres get
# > a query, an error, or nothing?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > It is a coroutine, and Postgres got nothing: no query, and no error either. The
# > envelope is still sealed.
# >
# > </details>

# %% tags=["predict"]
await new_roll()

mine = tear_off()  # no await

print("mine is a", type(mine).__name__)
print("Postgres gave out a ticket?", await was_used())
mine.close()  # throw the envelope away, unopened

# %% [markdown]
# Now with `await`, twice:

# %% tags=["predict"]
await new_roll()

print("tickets:", await tear_off(), await tear_off())
print("Postgres gave out a ticket?", await was_used())

# %% [markdown]
# Does Python never complain? It does when it throws a sealed envelope away, but only with a
# *warning*: on red ground under a cell, or somewhere in a log. The program goes on as if all
# were well. This cell catches the warning, to show it:

# %% tags=["predict"]
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tear_off()  # no await

print(caught[0].category.__name__, "-", caught[0].message)

# %% [markdown]
# > **Predict.** "A forgotten `await` always goes unnoticed." True? Here we forget it, and
# > then use the answer that we believe we have.
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > Not always. As soon as you use the answer, the coroutine gives itself away: it has no
# > rows and no values. What goes unnoticed is a call whose answer nobody looks at, and
# > section 5 has one that costs you a row.
# >
# > </details>

# %% facts="3.11" tags=["predict"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    async with desk.connect() as conn:
        try:
            conn.execute(text("select 6 * 7")).scalar_one()  # no await
        except AttributeError as error:
            print(error)

# %% [markdown]
# **Here and elsewhere.** In a notebook you may write `await` anywhere, because an event loop
# is running already. A script has none, and starts one with `asyncio.run(main())`. For the
# same reason that line is of no use here:

# %% tags=["predict"]
work = tear_off()
try:
    asyncio.run(work)
except RuntimeError as error:
    print(error)
finally:
    work.close()

# %% [markdown]
# ### Your turn: the word of the day
#
# Each lesson has things to write, and each of them has a *check*. This is the first. On the desk's
# notice board there is a table `notice` with one row, and in it one `word`. Write a function that
# asks for it. It is given an engine: it asks over that one, and gives the connection back. `tear_off`
# above is a good example, but for its engine.
#
# To try it out, here is a notice board of your own:

# %%
async with desk.begin() as conn:
    await conn.execute(text("drop table if exists notice"))
    await conn.execute(text("create table notice as select 'herring'::text as word"))

await ask("select word from notice")

# %% [markdown]
# Put your code in the place of the three dots, run the cell, and then the one below it.


# %% exercise="welcome.word"
async def word_of_the_day(engine) -> str:
    """Ask, over this engine, for the word on the notice board."""
    # <answer>
    async with engine.connect() as conn:
        return await conn.scalar(text("select word from notice"))
    # </answer>


# %%
welcome.word.check()

# %% [markdown]
# **What does a check do?** It takes your function to another Python, with another database. There it
# writes a new word on the board, calls your function, looks what Postgres saw of it, changes the word,
# and calls once more. "herring" would be found out. So:
#
# - **Not attempted is not wrong.** Three dots cost nothing, and you may check as often as you like.
# - **A check says what was expected and what was seen.** Below it stands a code such as `WELC-01`: open
#   it, and read what it means and how to see it for yourself.
# - **It does not mind how you write.** What your function does is what counts.
# - **It takes your function as it stands in the cells that you have run**, with what the function
#   uses. After a change, run the cell, then check.
#
# Three more things to know:
#
# | type | and you get |
# |---|---|
# | `welcome.word.hint()` | a hint: first a question, then a direction, then nearly the answer |
# | `welcome.word.solution()` | an answer. It asks once before it shows one, and costs no points |
# | `engineroom progress` in a terminal (*File → New → Terminal*) | what you have done, in all lessons |
#
# What you have passed stays passed. It is kept on this machine, and nobody else gets it.
#
# ### Two at once
#
# *Alca* and *Tern* leave for the islands. Each writes into a log when it leaves and when it is back;
# in between it waits for Postgres, which sleeps for as many seconds as the ferry needs.


# %%
async def sail(ferry, log, seconds=0.1):
    log.append(f"{ferry} leaves")
    await ask("select pg_sleep(:seconds)", seconds=seconds)
    log.append(f"{ferry} is back")
    return ferry


log = []
await sail("Alca", log)
await sail("Tern", log)
log

# %% [markdown]
# There is `await` everywhere, and still one waits for the other: `await` means "go on *here* when this
# is done". To have both at sea, start both, and then wait for both. `asyncio.gather` does that.

# %%
predict(
    "Now both at once; Tern is named first, and needs longer. How does the log begin?",
    "Tern leaves, Tern is back",
    "Tern leaves, Alca leaves",
    "Alca leaves, Tern leaves",
)

# %% tags=["predict"]
log = []
both = await asyncio.gather(sail("Tern", log, seconds=0.7), sail("Alca", log))

print("log:    ", ", ".join(log))
print("results:", both)

# %% [markdown]
# The results stand in the order in which we *asked*, though *Alca* was back first.
#
# ### Your turn: together
#
# You get two functions that are to be awaited, `first` and `second`. They take no parameters. Let both
# work at the same time, and return both results, that of `first` first. If one of them raises, so
# does yours.


# %% exercise="welcome.together"
async def together(first, second) -> tuple:
    """Let both work at once; both results, in this order."""
    # <answer>
    one, other = await asyncio.gather(first(), second())
    return one, other
    # </answer>


# %%
welcome.together.check()

# %% [markdown]
# (How does the check know? It closes a gate in Postgres, a locked table, and lets your two functions
# run up to it. Then it asks the server how many stand there.)
#
# ## 4 · The server as witness
#
# People say that an engine *is* your connection to the database. Let us ask Postgres.
# `pg_stat_activity` is its list of who is connected right now.
#
# The lab gave you a second role, for programs, behind `lab.app_url`. An engine with that URL
# logs in under another name than `desk`, so we can count its connections without counting
# ourselves:


# %%
async def connections():
    """How many connections does the program's role have, says Postgres?"""
    row = await ask("""
        select count(*) from pg_stat_activity
        where datname = current_database() and usename <> current_user
    """)
    return row[0]


await connections()

# %% [markdown]
# > **Predict.** How many connections does Postgres count right after `create_async_engine`?
# > And if an address is nonsense, will `create_async_engine` complain?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > None, and nobody minds the nonsense. An engine is no connection. It is a *factory*
# > for connections, and it makes the first when the first is needed.
# >
# > </details>

# %% tags=["predict"]
program = create_async_engine(lab.app_url)
nonsense = create_async_engine("postgresql+asyncpg://desk@no.such.host/skerry")

print("Postgres counts:", await connections())

# %% [markdown]
# > **Predict** three numbers: inside a block that has run a query, after that block has ended,
# > and after `dispose()`.
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > 1, **1**, 0. Logging in is slow, so the engine does not hang up when your block ends.
# > It keeps the connection in its *pool*, for whoever asks next. Only `dispose()` hangs up.
# >
# > ![Three lanes: cell, engine, Postgres. Creating the engine opens nothing, and Postgres counts 0. Executing a query opens one connection: 1. When the block ends, the engine keeps the connection in its pool: still 1. Dispose hangs up: 0.](attachment:one_query.png)
# >
# > </details>

# %% tags=["predict"]
program = create_async_engine(lab.app_url)

async with program.connect() as conn:
    await conn.execute(text("select 1"))
    print("in the block:   ", await connections())

print("after the block:", await connections())

await program.dispose()
async with asyncio.timeout(5):
    while await connections():  # the server needs a moment to see us off
        pass

print("after dispose():", await connections())

# %% [markdown]
# ## 5 · To keep a row
#
# The Skerry Line buys its ferries. Each cell below begins with an empty harbour, so you may
# run it as often as you like.


# %%
async def empty_harbour():
    async with desk.begin() as conn:
        await conn.execute(text("drop table if exists ferry"))
        await conn.execute(text("create table ferry (name text, seats int)"))


async def ferries_stored():
    return (await ask("select count(*) from ferry"))[0]


NEW_FERRY = text("insert into ferry values ('Alca', 40)")

# %% [markdown]
# > **Predict.** We insert *Alca*. How many ferries are there inside the block, and after it?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > One, then none: Alca sank without a sound. The first statement began a *transaction*,
# > and leaving the block undoes what nobody has committed.
# >
# > </details>

# %% tags=["predict"]
await empty_harbour()

async with desk.connect() as conn:
    await conn.execute(NEW_FERRY)
    inside = await conn.scalar(text("select count(*) from ferry"))

print("inside the block:", inside)
print("after the block: ", await ferries_stored())

# %% [markdown]
# > **Predict.** The same with a `commit()`, but look closely. Is Alca stored?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > No. This is the forgotten `await` that hurts: no error, and no row. Python's warning
# > is all there is.
# >
# > </details>

# %% facts="3.11" tags=["predict"]
await empty_harbour()

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    async with desk.connect() as conn:
        await conn.execute(NEW_FERRY)
        conn.commit()  # no await

print("stored:", await ferries_stored())
print("Python:", caught[0].message)

# %% [markdown]
# The way that forgets nothing is `engine.begin()`. It commits when its block ends well, and
# undoes everything when the block raises.

# %% tags=["predict"]
await empty_harbour()

async with desk.begin() as conn:
    await conn.execute(NEW_FERRY)

print("stored:", await ferries_stored())

# %% [markdown]
# ## 6 · Passenger O'Hara
#
# > **Predict.** The desk pastes the passenger's name into its SQL. It worked all week, until
# > Ms O'Hara came. What does Postgres say?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > Her apostrophe ended the text after the O. What came after it was read as SQL, up to the
# > last quote, which began a text without an end. A less honest passenger would have
# > written SQL that runs.
# >
# > </details>

# %% tags=["predict"]
from sqlalchemy.exc import DBAPIError

passenger = "O'Hara"

try:
    await ask(f"select 'Dear {passenger}'")
except DBAPIError as error:
    print(error.orig)

# %% [markdown]
# Give Postgres the SQL and the value *side by side*: a name with a colon in the SQL, the
# value beside it. A value is then never read as SQL, whatever is in it.

# %% tags=["predict"]
await ask("select 'Dear ' || :passenger", passenger=passenger)

# %% [markdown]
# ### Your turn: keep it
#
# Now all of it in one. Over the engine that it is given, `keep` stores a ferry in the table `ferry`, in
# the columns `name` and `seats`, and gives the connection back. When it has returned, a *stranger* looks
# for the row, over a connection of their own. Not all ferries are called Alca, so the values travel
# beside the SQL. And what Postgres refuses, `keep` does not pass over in silence; the connection goes
# back all the same.


# %% exercise="welcome.keep"
async def keep(engine, name: str, seats: int) -> None:
    """Store a ferry over this engine, so that a stranger finds it."""
    # <answer>
    async with engine.begin() as conn:
        await conn.execute(
            text("insert into ferry (name, seats) values (:name, :seats)"),
            {"name": name, "seats": seats},
        )
    # </answer>


# %%
welcome.keep.check()

# %% [markdown]
# ## 7 · What lies in the lab
#
# | name | what it is |
# |---|---|
# | `lab.url` | your database, for asyncpg |
# | `lab.psycopg_url` | the same, for psycopg 3 |
# | `lab.app_url` | the same, as the program's role, which has no rights on your tables yet |
# | `lab.tiny` | a small server, where "too many connections" can be met |
# | `lab.pgbouncer` | a pooler in front of your database |
# | `lab.impostor` | a server that only pretends to be yours |
# | `lab.secrets` | a vault for passwords |
#
# A URL holds a password, so we print only what is before it, and who logs in with it:

# %%
for url in (lab.url, lab.psycopg_url, lab.app_url):
    engine = create_async_engine(url)
    async with engine.connect() as conn:
        role = await conn.scalar(text("select current_user"))
    await engine.dispose()
    print(f"{engine.url.drivername:<20} logs in as the {role.split('_')[-1]}")

# %% [markdown]
# The last four are servers of their own. Looking at them starts nothing; the first use does.

# %%
print(lab.tiny, lab.pgbouncer, lab.impostor, lab.secrets, sep="\n")

# %% [markdown]
# > **Predict.** The program's role looks for ferries. What does Postgres say?
# >
# > <details><summary>Answer, once you have run the cell</summary>
# >
# > No. Whoever makes a table owns it, and others get only what the owner grants.
# >
# > </details>

# %% tags=["predict"]
await empty_harbour()
program = create_async_engine(lab.app_url)

try:
    async with program.connect() as conn:
        await conn.execute(text("select * from ferry"))
except DBAPIError as error:
    print(error.orig)

await program.dispose()

# %% [markdown]
# ## Stuck?
#
# **Do it by hand.** Connect, execute, commit, and ask Postgres after each. `ask` uses a connection of
# its own, so it sees what a stranger sees:

# %%
await empty_harbour()

conn = await desk.connect()
print("connected:", await ferries_stored())

await conn.execute(NEW_FERRY)
print("executed: ", await ferries_stored())

await conn.commit()
print("committed:", await ferries_stored())

await conn.close()

# %% [markdown]
# - **A cell says that a name is not defined.** A cell above has not run yet. In the menu:
#   *Run → Run All Above Selected Cell*.
# - **Everything is odd.** *Kernel → Restart Kernel and Run All Cells…* begins anew, with
#   an empty database. Nothing that you wrote in the notebook is lost.
# - **Something does not answer.** *File → New → Terminal*, and type `engineroom doctor`. It
#   looks at each part of the course, and says what to type for a part that does not work.
#
# Here the doctor comes to us, and we print what the course cannot do without:

# %%
import json

doctor = await asyncio.create_subprocess_exec(
    *(sys.executable, "-m", "engineroom.cli", "doctor", "--json"),
    stdout=asyncio.subprocess.PIPE,
    stderr=asyncio.subprocess.DEVNULL,  # where it shows that it is busy
)
report = json.loads((await doctor.communicate())[0])

for line in report["checks"]:
    if line["name"] in ("python", "packages", "home", "postgres", "jupyterlab"):
        print(f"{line['name']:11}", "works" if line["ok"] else f"needs: {line['fix']}")

# %% [markdown]
# ## Go further
#
# What if one of two fails? `gather` lets the other one go on, and nobody looks at it. A `TaskGroup`
# calls it back:


# %%
async def fish():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("Puffin: called back")
        raise


async def spring_a_leak():
    raise OSError("water in the engine room")


try:
    async with asyncio.TaskGroup() as group:
        group.create_task(fish())
        group.create_task(spring_a_leak())
except* OSError as trouble:
    print("the desk hears:", *trouble.exceptions)

# %% [markdown]
# Write a `together` for *any* number of functions that stops all of them when one fails. Let it take
# `*functions`, and try it with `fish` and `spring_a_leak`. The check above, which knows of two
# functions only, should still pass.

# %% [markdown]
# ## What to remember
#
# - **Ask the server.** `pg_stat_ssl`, `pg_stat_activity`, or whether the row is there.
# - **No `await`, no work.** Calling a coroutine function only makes a coroutine. If nobody
#   looks at the answer, a warning is all you get.
# - **An engine is a factory with a pool.** It opens nothing until it must, keeps what it
#   opened, and hangs up at `dispose()`.
# - **No commit, no row.** `async with engine.begin()` commits for you.
# - **SQL and values travel side by side**, never pasted together.
# - **Start both, then wait for both.** `await` alone is one after the other.
# - **`check()`, `hint()`, `solution()`**, as often as you like.
#
# One thing is left. What we opened, we close:

# %%
await desk.dispose()
