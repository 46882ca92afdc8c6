# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What people paste
#
# *Lesson 03 · about 35 minutes*
#
# The **Skerry Line** gets a new database, and the booking desk gets mail. The harbour master
# pastes a URL from the provider's page, with keys behind a question mark that nobody at the desk
# has ever seen. The purser sends one in quotes. The old office's password is `p@ss:w/rd`. And
# somebody wrote `POSTGRES://` because it looked important.
#
# It is one line of text, and it decides where all bookings go. Today the desk learns to read it.
#
# <!-- objectives -->

# %%
import os
import re
import socket
import ssl
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

from checks import urls
from engineroom import lab
from engineroom.widgets import anatomy, predict
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import create_async_engine

# %% [markdown]
# ## 1 · The parts of a URL
#
# Here is one with everything in it. **Type into the field** and see how SQLAlchemy reads it; the
# password stays hidden.

# %%
anatomy("postgresql+asyncpg://desk:kipper@db.skerry.example:5432/skerry?application_name=desk")

# %% [markdown]
# Reading is not connecting: there is no such host, and nobody asked for one. In Python, `make_url`
# does the reading. What it gives is a `URL`, and `.set()` makes another one with a part changed.

# %%
pasted = make_url("postgresql://desk:kipper@db.skerry.example/skerry")

print(pasted.set(drivername="postgresql+asyncpg", port=5433))

# %% [markdown]
# That is two things at once. The scheme changed and nothing else did; and what `print` shows is
# safe to show. Remember the three stars: section 5 comes back to them.
#
# To try URLs out we need somebody who connects and says in one line what came of it.


# %%
async def attempt(url, **more):
    """Make an engine, connect, ask something; say in a line what came of it."""
    try:
        engine = create_async_engine(url, **more)
    except Exception as error:
        return f"no engine: {type(error).__name__}: {first_line(error)}"
    try:
        async with engine.connect() as conn:
            await conn.execute(text("select 1"))
        return f"connected through {engine.dialect.driver}"
    except Exception as error:
        return f"no connection: {type(error).__name__}: {first_line(error)}"
    finally:
        await engine.dispose()


def first_line(error):
    """An exception's own words, without who it was about."""
    return str(getattr(error, "orig", error)).splitlines()[0].partition(" for user")[0]


await attempt(lab.url)

# %% [markdown]
# ## 2 · The scheme picks the driver
#
# Before the `://` stands a kind of database and, after a plus sign, the driver that talks to it. An
# async engine wants a driver that can wait without blocking. One that cannot is refused, and that
# as soon as the engine is made:

# %% facts="0.5"
print(await attempt("sqlite:///desk.db"))

# %% [markdown]
# Tutorials call `postgresql://`, without a driver, "the sync URL", and tell you to convert it first.
# Is that so?

# %%
predict(
    "create_async_engine('postgresql://...') and connect: what happens?",
    "It is refused: the default driver is not async",
    "It connects through psycopg",
    "It connects through asyncpg",
)

# %% facts="0.6"
await attempt(lab.sync_url)

# %% [markdown]
# Since SQLAlchemy 2.1 a bare `postgresql://` means psycopg 3, which can do both, sync and async.
# Before, it meant psycopg2, and the tutorials were right. So **say which driver you want**: then it
# makes no difference who runs your program with which version.
#
# SQLite is a file, and has its own async driver. Three slashes and a path. Does making the engine
# make the file?

# %%
predict(
    "When does the file of sqlite+aiosqlite:///./desk.db appear?",
    "When the engine is made",
    "At the first connection",
    "At the first INSERT",
)

# %% facts="0.7"
with tempfile.TemporaryDirectory() as drawer:
    file = Path(drawer) / "desk.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    print("engine made, file there?", file.exists())
    async with engine.connect():
        print("connected, file there?  ", file.exists())
    await engine.dispose()

# %% [markdown]
# Now the mail. None of these is far from right, and none of them works:

# %% facts="0.9 0.36"
for pasted in (
    "postgres://desk@harbour/skerry",
    "POSTGRES://desk@harbour/skerry",
    " postgresql://desk@harbour/skerry",
    "'postgresql://desk@harbour/skerry'",
    "",
    os.getenv("SKERRY_DATABASE_URL"),  # nobody has set it
):
    print(f"{pasted!r:38}", await attempt(pasted))

# %% [markdown]
# The scheme has to be spelt exactly, and a blank or a quote in front makes it no URL at all. What
# comes *behind* is worse, because it is no error yet. The line break becomes part of a name:

# %% facts="0.9"
make_url("postgresql://desk@harbour/skerry\n").database

# %% [markdown]
# ### Exercise: `to_async`
#
# Write a function for the desk's mail. `postgres://`, `postgresql://`, `+psycopg2`, `sqlite://`, in
# any case, with blanks and quotes around it, or async already: out comes a URL for an async driver
# that leads to the same place. Which driver is yours to choose; the rest stays as it is. Where there
# is *no* URL, raise a `ValueError`: a program that starts with the wrong database is worse than one
# that does not.
#
# The check logs in with what you return, and a server that hears passwords listens.


# %% exercise="urls.to_async"
def to_async(url):
    """Return a URL for an async driver that leads where the pasted one does."""
    # <answer>
    if not url or not url.strip():
        raise ValueError("there is no database URL")
    made = make_url(url.strip().strip("\"'"))
    sqlite = made.drivername.lower().startswith("sqlite")
    return made.set(drivername="sqlite+aiosqlite" if sqlite else "postgresql+asyncpg")
    # </answer>


# %%
urls.to_async.check()

# %% [markdown]
# ## 3 · What stands in a password
#
# In a URL some signs have a job: `@` ends the password, `/` begins the database's name, `?` begins
# the query. And passwords are made of such signs.

# %%
predict(
    "Which of  @ : / % # ? & +  breaks a URL when it stands alone and raw in the password?",
    "All of them",
    "@ and : and /",
    "@, and % if two hex digits follow",
    "Only @",
)

# %% facts="0.11"
for sign in "@:/%#?&+ ":
    pasted = make_url(f"postgresql://desk:pier{sign}41@harbour/skerry")
    if pasted.password != f"pier{sign}41":
        print(f"{sign}  password {pasted.password!r}, host {pasted.host!r}")

# %% [markdown]
# SQLAlchemy is lenient: it takes many signs as they are. Neither of the two it trips over is an
# error *here*. With `@` the desk looks for a host of a strange name, and with `%41` it logs in with
# another password. Both show up later, and far away.
#
# Two of them together, as in the old office's password, fail at once. Look at what the message
# gives away:

# %% facts="0.11"
try:
    make_url("postgresql://desk:p@ss:w/rd@harbour/skerry")
except ValueError as error:
    print(error)

# %% [markdown]
# A piece of the password, in an exception, on its way to the log.
#
# So do not glue text. `URL.create` takes the parts as they are, and escapes what has to be escaped
# when somebody wants to see it as text:

# %%
old_office = URL.create(
    "postgresql+asyncpg",
    username="desk",
    password="p@ss:w/rd",
    host="harbour",
    database="skerry",
)

print(old_office.password)
print(old_office.render_as_string(hide_password=False))
print(make_url(old_office.render_as_string(hide_password=False)) == old_office)

# %% [markdown]
# If you must escape by hand, mind the two kinds. Forms on web pages write a blank as `+`, and
# `quote_plus` does it that way. In a URL's password a plus is a plus:

# %%
for escaped in ("fish+chips", quote("fish chips", safe="")):
    print(escaped, "is read as", make_url(f"postgresql://desk:{escaped}@harbour/skerry").password)

# %% [markdown]
# ### Exercise: `from_parts`
#
# The desk's settings come as a dictionary: `user`, `password`, `host`, `port`, `database`. Make a URL
# of them. Any sign may stand in a part. The port may be a number or text; if it is empty or not there,
# the usual port is meant.


# %% exercise="urls.from_parts"
def from_parts(p):
    """Return a URL for `create_async_engine`, made of the parts in `p`."""
    # <answer>
    return URL.create(
        "postgresql+asyncpg",
        username=p["user"],
        password=p["password"],
        host=p["host"],
        port=p.get("port") or None,
        database=p["database"],
    )
    # </answer>


# %%
urls.from_parts.check()

# %% [markdown]
# ## 4 · Behind the question mark
#
# Now the provider's page. Its URL ends in `?sslmode=require&channel_binding=require`, and with
# `to_async` the desk has made it one for asyncpg.

# %%
predict(
    "An asyncpg URL that ends in ?sslmode=require. When does it fail?",
    "When the engine is made",
    "At the first connection",
    "Never: it asks for TLS, and there is TLS",
)

# %% facts="0.8 1.8"
print(await attempt(lab.url + "?sslmode=require"))

# %% [markdown]
# The engine was made, the program started, and the first passenger got the error. SQLAlchemy hands
# each key to the driver as it is, and never asks what it means. `sslmode` is a word of **libpq**, the
# library that `psql` is made of. psycopg is built on libpq. asyncpg is not, and has words of its own.
#
# So changing the scheme is not all there is to changing the driver. Which keys does each take?

# %% facts="0.8 0.62"
print(f"{'':24}{'asyncpg':16}psycopg")
for ending in (
    "ssl=require",
    "sslmode=require",
    "channel_binding=require",
    "application_name=desk",
    "connect_timeout=10",
    "options=-c jit=off",
    "pgbouncer=true",
):
    outcomes = [await attempt(f"{start}?{ending}") for start in (lab.url, lab.psycopg_url)]
    short = ["works" if "connected" in line else line.split(": ")[1] for line in outcomes]
    print(f"{ending:24}{short[0]:16}{short[1]}")

# %% [markdown]
# One column is nearly the other turned round, and `pgbouncer=true`, which some pages add for a
# JavaScript tool, is nobody's. You have two ways:
#
# - **psycopg**: take out what is not libpq's, and hand on the rest.
# - **asyncpg**: translate. TLS goes into `connect_args`, settings of the session into
#   `server_settings`.
#
# Whichever you take, ask Postgres what has arrived:


# %%
async def seen_by_postgres(url, **more):
    """Is the line encrypted, and under which name are we known? Says the server."""
    engine = create_async_engine(url, **more)
    async with engine.connect() as conn:
        row = (
            await conn.execute(
                text("""
                    select ssl, application_name
                    from pg_stat_ssl join pg_stat_activity using (pid)
                    where pid = pg_backend_pid()
                """)
            )
        ).one()
    await engine.dispose()
    return f"TLS {row.ssl}, name {row.application_name!r}"


wanted = {"ssl": "require", "server_settings": {"application_name": "desk"}}

asked = "?sslmode=require&application_name=desk"

print("asyncpg:", await seen_by_postgres(lab.url, connect_args=wanted))
print("psycopg:", await seen_by_postgres(lab.psycopg_url + asked))

# %% [markdown]
# The tempting third way is to throw everything behind the question mark away. It connects, and looks
# well:

# %%
print("asyncpg:", await seen_by_postgres(lab.url))

# %% [markdown]
# The name is gone, as you would expect, and there is TLS all the same. That is the trap. Without a
# word from you both drivers *prefer* TLS: they use it if the server offers it, and go on without if it
# does not. `sslmode=require` is the word that forbids to go on. The check of the next exercise has a
# server without TLS, to see whether your engine still knows that word.
#
# **Several hosts.** A URL may name a second server for the day when the first is down. libpq and
# asyncpg read a list of places; SQLAlchemy reads one:

# %% facts="0.10"
print(await attempt("postgresql+asyncpg://desk@first:5432,second:5432/skerry"))

# %% [markdown]
# Written into the query, it works. Here nobody listens at the first place:

# %% facts="0.10"
here = make_url(lab.url)
places = {"host": ["127.0.0.1:1", f"{here.host}:{here.port}"]}

await attempt(here.set(host=None, port=None, query=places))

# %% [markdown]
# **A folder instead of a host.** On its own machine Postgres also listens at a *Unix socket*, a file in
# a folder. Then `host` is that folder, with the port beside it and not behind a colon:

# %% facts="0.10"
sockets = lab.postgres.socket_dir  # not every lab has one

for place in (
    {"host": sockets, "port": str(here.port)},
    {"host": f"{sockets}:{here.port}"},
):
    if sockets:
        outcome = await attempt(here.set(host=None, port=None, query=place))
        print(f"{' and '.join(place):15}", outcome.partition(": [")[0])

# %% [markdown]
# ### Exercise: `engine_for`
#
# Write the desk's last word on URLs: a function that takes one *as it stands on the provider's page*
# and returns an async engine for it. Neon, Supabase, Heroku, Railway; several hosts, a socket. It is
# exactly as strict about TLS as `sslmode` says (`disable`, `require`, or `verify-full` with
# `sslrootcert`), and Postgres sees the `application_name` and `options` of the URL. Keys that belong to
# other tools, whatever they are called, do no harm.


# %% exercise="urls.engine_for"
def engine_for(url):
    """Return an async engine for a Postgres URL as a provider's page shows it."""
    # <answer>
    libpq = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    address, _, query = url.partition("?")
    known = [pair for pair in query.split("&") if pair.partition("=")[0] in libpq]
    # libpq reads such URLs better than anybody: it is who they were invented for.
    given = conninfo_to_dict(f"{address}?{'&'.join(known)}" if known else address)
    return create_async_engine("postgresql+psycopg://", connect_args=given)
    # </answer>


# %%
urls.engine_for.check()

# %% [markdown]
# ## 5 · What the log may know
#
# "Which database does it use?" is the first question on a bad day, so the desk logs it at the start.
# Section 1 showed that a `URL` prints without its password. How good is that?

# %%
predict(
    "engine = create_async_engine(str(engine.url)): does the new engine log in?",
    "Yes: it is the same URL",
    "No: it cannot be made",
    "No: it logs in with the password ***",
)

# %% facts="0.58"
print("the text has ***:", "***" in str(here))
print(await attempt(str(here)))

# %% [markdown]
# `str(url)` is for people. Whoever needs the real text asks for
# `render_as_string(hide_password=False)`; most programs can pass the `URL` itself on.
#
# For people it is good, then. Always? Drivers take a password in the query too:

# %% facts="0.58"
fish = "kipper"

print(make_url(f"postgresql://desk:{fish}@harbour/skerry"))
print(make_url(f"postgresql://desk@harbour/skerry?password={fish}"))
print(make_url(f"postgresql://desk:old@{fish}@harbour/skerry"))

# %% [markdown]
# The second is not masked: SQLAlchemy knows one place for a password. The third has a raw `@` in it,
# so half of the password was taken for the host. And you have seen that an error message may quote a
# piece of it.
#
# ### Exercise: `masked`
#
# Write what the desk may log: host, database and user, and no secret nor a piece of one, wherever it
# stands. What cannot be read as a URL must neither stop the program nor show its secret.


# %% exercise="urls.masked"
def masked(url):
    """Return text for the log: where it leads and as whom, without any secret."""
    # <answer>
    try:
        made = make_url(url)
        hidden = {key: "***" for key in made.query if "password" in key.lower()}
        if "@" in (made.host or ""):
            return "(a URL with an @ in its password)"
        return made.update_query_dict(hidden).render_as_string(hide_password=True)
    except Exception:
        return "(a URL that cannot be read)"
    # </answer>


# %%
urls.masked.check()

# %% [markdown]
# ## 6 · Which thing is wrong?
#
# The desk's program does not start. It says `password authentication failed`, and the URL begins
# with `postgresql://`. Somebody asks an assistant, and gets a confident answer: the URL has the wrong
# format, it should begin with `postgresql+asyncpg://`.

# %%
predict(
    "'password authentication failed': what do you know for sure?",
    "The URL has the wrong form",
    "A server was reached, and it refused this user with this password",
    "The user exists, and only the password is wrong",
)

# %% facts="0.59"
print("wrong password:", await attempt(here.set(password="herring")))
print("unknown user:  ", await attempt(here.set(username="nobody_at_all", password="herring")))

# %% [markdown]
# These are the words of a *server*. To hear them, the program had to find a host, reach a port and
# speak through a driver, so the URL's form was right. And the server does not say which of the two is
# wrong, because a stranger has no business to know who has an account.
#
# Errors tell their cause in different ways. Three of them, through both drivers, with their SQLSTATE,
# the server's own code:

# %%
for trouble, wrong in {
    "password": here.set(password="herring"),
    "database": here.set(database="nowhere"),
    "closed": here.set(host="127.0.0.1", port=1),
}.items():
    for driver in ("asyncpg", "psycopg"):
        engine = create_async_engine(wrong.set(drivername=f"postgresql+{driver}"))
        try:
            await engine.connect()
        except Exception as error:
            code = getattr(getattr(error, "orig", None), "sqlstate", None)
            print(f"{trouble:10}{driver:9}{type(error).__name__:24}{code}")
        await engine.dispose()

# %% [markdown]
# asyncpg's errors are precise. But a closed port is no answer of a server, so it is no database error
# at all there, and a program that catches only SQLAlchemy's exceptions misses it. psycopg has one class
# for all three and, when it cannot connect, no SQLSTATE; there you have to read the text.
#
# ### Exercise: `explain`
#
# Write a function that takes the exception and says in one word what is wrong: `password`, `database`
# (there is none of that name), `closed` (nobody listens there), `host` (no such name), `driver` (it is
# missing, unknown or not async), `option` (a key that the driver does not know), or `other`. The errors
# come through both drivers, from SQLAlchemy or straight from the driver.
#
# **Try with AI.** Give your assistant this task and paste its answer into the cell. The check makes
# the errors afresh, on real servers, and does not mind who wrote the code.


# %% exercise="urls.explain"
def explain(error):
    """Return one word for what went wrong when connecting."""
    # <answer>
    cause = getattr(error, "orig", None) or error
    if state := getattr(cause, "sqlstate", None):
        return {"28P01": "password", "3D000": "database"}.get(state, "other")
    classes = {
        ConnectionRefusedError: "closed",
        socket.gaierror: "host",
        (NoSuchModuleError, InvalidRequestError, ModuleNotFoundError): "driver",
    }
    for kind, word in classes.items():
        if isinstance(cause, kind):
            return word
    texts = {
        "password authentication failed": "password",
        'database ".*" does not exist': "database",
        "Connection refused": "closed",
        "failed to resolve host": "host",
        "invalid connection option": "option",
        "invalid URI query parameter": "option",
        "unexpected keyword argument": "option",
    }
    said = str(cause)
    return next((word for words, word in texts.items() if re.search(words, said)), "other")
    # </answer>


# %%
urls.explain.check()

# %% [markdown]
# ## Stuck?
#
# Convert one URL by hand first. Paste it into this field, and change a part at a time until the line
# below it says what you want:

# %%
anatomy("postgres://desk:fish%40pier@db.skerry.example/skerry?sslmode=require&pgbouncer=true")

# %% [markdown]
# - **`Can't load plugin`**: the scheme is misspelt. Lower case, `postgresql`, and a driver you have.
# - **`unexpected keyword argument`**: a key of libpq's went to asyncpg. Section 4.
# - **`invalid literal for int()`**: a raw sign in the password, or a second host, was read as a port.
# - **`password authentication failed`**: the form is right. Compare `make_url(...).password` with what
#   you meant; is it `***`?
# - **A check says no, and you do not see why**: its card has a code. The page `docs/codes/urls.md`
#   tells what the code means, and `urls.to_async.hint()` helps one step at a time.

# %% [markdown]
# ## Go further: the way back
#
# On a bad day the desk wants `psql`, and what it has is SQLAlchemy's URL. psql knows no `+asyncpg`, no
# `ssl=`, and reads several hosts its own way.
#
# ### Exercise: `for_psql`
#
# Make text that psql takes, from a URL for either driver. It leads to the same place, over the same
# kind of line. (The check gives it to libpq, which is what psql is made of.)


# %% exercise="urls.for_psql"
def for_psql(url):
    """Return what psql takes, for a URL of SQLAlchemy's."""
    # <answer>
    made = make_url(url)
    query = dict(made.query)
    hosts = query.pop("host", None) or f"{made.host}:{made.port or 5432}"
    if "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    who = ":".join(quote(part, safe="") for part in (made.username, made.password))
    where = hosts if isinstance(hosts, str) else ",".join(hosts)
    keys = urlencode(query, quote_via=quote)
    return f"postgresql://{who}@{where}/{quote(made.database, safe='')}?{keys}"
    # </answer>


# %%
urls.for_psql.check()

# %% [markdown]
# ## What to remember
#
# - **Read a URL, do not cut it.** `make_url(...).set(drivername=...)`, and name the driver you want.
# - **Make a URL from parts with `URL.create`.** Of raw signs, `@` and `%` go wrong in silence.
# - **Keys behind `?` belong to a driver.** `sslmode` is libpq's; asyncpg wants `ssl`. A key that you
#   throw away was somebody's wish, and with `sslmode` it was a promise.
# - **`str(url)` is for people.** It hides one password, not every one, and you cannot log in with it.
# - **A refused password proves the way there.** Ask first who speaks: the server, the system, or the
#   driver.
