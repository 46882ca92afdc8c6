# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Secrets, TLS, rights
#
# *Lesson 06 · about 35 minutes*
#
# It is a bad week at the booking desk of the Skerry Line. On Monday somebody searches the logs
# for "Puffin", the ferry, and finds **passengers**. On Tuesday the database's password turns up in
# an error report. And since Wednesday a tester sits in the harbour's network, between the desk and
# its database, and reads along. "But it is encrypted!" says the harbour master. It is.
#
# <!-- objectives -->

# %%
import json
import os
import ssl
import tempfile
from contextlib import chdir, contextmanager
from pathlib import Path
from unittest.mock import patch

from checks import security
from dotenv import dotenv_values, load_dotenv
from engineroom import lab
from engineroom.widgets import Grid, predict
from pydantic import PostgresDsn, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, Enum, event, literal, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

# %% [markdown]
# ## 1 · Where the password stands
#
# **In the code** it is the shortest, and the worst. Code is copied: to a repository, to each
# laptop that clones it, into each container that is built from it. It is even there where nobody
# could read it any more:

# %%
program = 'url = "postgresql+asyncpg://desk:kipper@harbour/skerry"'
compiled = compile(program, "desk.py", "exec")

print("kipper" in str(compiled.co_consts))

# %% [markdown]
# **In the environment** it belongs to the machine and not to the program: each machine has its own.
# Mind how you read it. Two ways look much alike:

# %% facts="0.36"
with patch.dict(os.environ):
    os.environ.pop("DATABASE_URL", None)  # as on a machine that nobody has set up

    for ask in (os.getenv, os.environ.__getitem__):
        try:
            create_async_engine(ask("DATABASE_URL"))
        except (ArgumentError, KeyError) as error:
            print(type(error).__name__, "-", error)

# %% [markdown]
# The second says which variable is missing. The first says that something, somewhere, was None. And
# then there is the kind way, which many programs have:
#
#     os.getenv("DATABASE_URL", "sqlite+aiosqlite:///./dev.db")

# %%
predict(
    "On the server somebody has set DATABSE_URL, with a letter missing. "
    "What does a program do that has this default?",
    "It does not start",
    "It starts, and fails at the first query for want of a password",
    "It starts, and works with an empty database of its own",
)

# %% facts="0.36" tags=["predict"]
with tempfile.TemporaryDirectory() as folder, chdir(folder):
    with patch.dict(os.environ, {"DATABSE_URL": lab.url}):
        os.environ.pop("DATABASE_URL", None)
        desk = create_async_engine(os.getenv("DATABASE_URL", "sqlite+aiosqlite:///./dev.db"))

    async with desk.connect() as conn:
        print("connected to", conn.dialect.name)
        print("files that are there now:", os.listdir())
    await desk.dispose()

# %% [markdown]
# All day bookings go into a file that nobody looks at. **Without its secrets a program should not
# start.**
#
# ### A file for your own machine
#
# On your own laptop you do not want to type variables. They go into a file `.env`, which stays on
# the laptop: its name goes into `.gitignore`, so that git never takes it along. python-dotenv reads
# it. For the following cells we need a folder with such a file:


# %%
@contextmanager
def folder_with(dotenv, **variables):
    """A folder with this `.env`; these variables are set, and no other URL."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), patch.dict(os.environ):
        for name in ("DATABASE_URL", "MAIL_URL"):
            os.environ.pop(name, None)
        os.environ.update(variables)
        Path(".env").write_text(dotenv)
        yield


# %%
predict(
    "DATABASE_URL is set, and .env has another one. What does load_dotenv() do?",
    "The file wins",
    "What was set wins",
    "It complains",
)

# %% facts="0.37" tags=["predict"]
with folder_with("DATABASE_URL=from-the-file", DATABASE_URL="from-the-shell"):
    load_dotenv(".env")
    print(os.environ["DATABASE_URL"])

    load_dotenv(".env", override=True)
    print(os.environ["DATABASE_URL"], "(override)")

# %% [markdown]
# That is as it should be: the file is what stood there before, the environment is what somebody
# says *now*.
#
# Two surprises stand in the file itself. And quotes are a help against only one of them:

# %% facts="0.37"
with folder_with("A=fish #chips\nB='fish #chips'\nC='${PIER}/chips'\n", PIER="north"):
    for name, value in dotenv_values(".env").items():
        print(name, value)

# %% [markdown]
# A blank and a `#` begin a comment, and `${...}` is filled in. So look at the password that arrives.
#
# The third surprise is *where* `load_dotenv()` looks when you do not say: beside the program's
# file, and in the folders above it. Where you stand when you start it does not count.

# %% facts="0.37"
import subprocess
import sys

with folder_with("DATABASE_URL=here"):
    for folder in ("app", "other"):
        Path(folder).mkdir()
        Path(folder, "desk.py").write_text("from dotenv import load_dotenv; print(load_dotenv())")
    Path(".env").rename("other/.env")

    for where, start in (("other", "../app/desk.py"), ("app", "../other/desk.py")):
        said = subprocess.check_output([sys.executable, start], cwd=where, text=True)
        print(f"standing in {where:6} starting {start:17} found: {said.strip()}")

# %% [markdown]
# ### Settings, with a type for secrets
#
# pydantic-settings does all of it: the environment first, then the file, and a sentence when
# something is missing. Almost. We try a class with a single field, and mend it step by step. In the
# file stands a key of another program, too.


# %%
class Plain(BaseSettings):
    database_url: str


class FromFile(Plain):
    model_config = SettingsConfigDict(env_file=".env")


class Tolerant(FromFile):
    model_config = SettingsConfigDict(extra="ignore")


class Hidden(Tolerant):
    database_url: SecretStr


# %% facts="2.3"
ours = "DATABASE_URL=postgresql+asyncpg://desk:kipper@harbour/skerry\nMAIL_PORT=25\n"

with folder_with(ours):
    for kind in (Plain, FromFile, Tolerant, Hidden):
        try:
            print(f"{kind.__name__:9}", kind())
        except ValidationError as error:
            print(f"{kind.__name__:9}", error.errors()[0]["loc"][0], "-", error.errors()[0]["msg"])

# %% [markdown]
# The file is read when you name it; a key that is not yours stops you, unless you say `ignore`; and
# a `str` shows itself wherever the settings are printed. `SecretStr` does not. Whoever needs the
# secret asks for it: `settings.database_url.get_secret_value()`.
#
# (There is also a type `PostgresDsn`. It checks the URL's form, and it hides nothing. SQLAlchemy
# wants its text, not the object:)

# %% facts="2.3"
with folder_with(ours):

    class Checked(Tolerant):
        database_url: PostgresDsn

    print("shows the password:", "kipper" in repr(Checked()))
    try:
        create_async_engine(Checked().database_url)
    except ArgumentError as error:
        print(str(error).partition("(")[0])
    print(create_async_engine(str(Checked().database_url)).url)

# %% [markdown]
# So `SecretStr`, and the password is safe? Let *another* variable be missing, as happens on the day
# after a release.


# %%
class Later(Hidden):
    mail_url: str


predict(
    "database_url is a SecretStr and is set. mail_url is missing. "
    "Is the password in the message of the error?",
    "No: it is a SecretStr",
    "No: the error is about mail_url",
    "Yes",
)

# %% facts="2.3" tags=["predict"]
with folder_with("", DATABASE_URL="postgresql+asyncpg://desk:kipper@harbour/skerry"):
    try:
        Later()
    except ValidationError as error:
        print(str(error).splitlines()[2])

# %% [markdown]
# It is. The error repeats *what it was given*, and it was given text: nothing had become a
# `SecretStr` yet. One setting more, and it says only what is missing:


# %%
class Discreet(Later):
    model_config = SettingsConfigDict(hide_input_in_errors=True)


with folder_with("", DATABASE_URL="postgresql+asyncpg://desk:kipper@harbour/skerry"):
    try:
        Discreet()
    except ValidationError as error:
        print(*str(error).splitlines()[1:3])

# %% [markdown]
# ### Exercise: `settings`
#
# Write `load_settings()` for the desk. The object that it returns has `database_url` (text, a `URL`,
# a secret: as you like). It comes from the environment's DATABASE_URL or, where that is not set, from
# the file `.env` in the current folder, wherever the program's own file lies.
#
# There it may stand in quotes, and keys of others do no harm. If there is no URL, it raises, and the
# message says DATABASE_URL. Neither the settings, when printed, nor that error and what a traceback
# shows above it tell a secret, this one or any other in the file.


# %% exercise="security.settings"
def load_settings():
    """Return the desk's settings, or raise."""

    # <answer>
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_file=".env", extra="ignore", hide_input_in_errors=True
        )
        database_url: SecretStr

    return Settings()
    # </answer>


# %%
security.settings.check()

# %% [markdown]
# ## 2 · What the program tells
#
# Now Monday's trouble. The passengers were in the log because somebody wanted to see the SQL, and
# had set `echo=True`. We let the log run into a list, and look for a passenger.


# %%
import logging


@contextmanager
def listening():
    """The lines that SQLAlchemy logs while the block lasts, as with `echo=True`."""
    lines, log = [], logging.getLogger("sqlalchemy.engine")
    ear = logging.Handler()
    ear.emit = lambda record: lines.append(record.getMessage())
    before, log.propagate = log.propagate, False
    log.addHandler(ear)
    log.setLevel(logging.INFO)
    yield lines
    log.setLevel(logging.NOTSET)
    log.removeHandler(ear)
    log.propagate = before


async def book(url, code, seats, **options):
    """Insert a booking; if it fails, return the error."""
    desk = create_async_engine(url, **options)
    try:
        async with desk.begin() as conn:
            await conn.execute(
                text("insert into booked values (:code, 'Mrs Gull', :seats)"),
                {"code": code, "seats": seats},
            )
    except Exception as error:
        return error
    finally:
        await desk.dispose()


# %% facts="2.6"
owner = create_async_engine(lab.url, poolclass=NullPool)
async with owner.begin() as conn:
    await conn.execute(text("drop table if exists booked"))
    await conn.execute(
        text("""
            create table booked (
                code text constraint code_once unique,
                passenger text,
                seats int constraint some_seats check (seats > 0)
            )
        """)
    )

for options in ({}, {"hide_parameters": True}):
    with listening() as lines:
        await book(lab.url, f"GULL-{len(options)}", 2, **options)
    print(options, "- a code in the log?", any("GULL" in line for line in lines))

# %% [markdown]
# `echo` logs the values of every statement. `hide_parameters=True` takes them out, of the log and of
# SQLAlchemy's errors. That settles it, or does it? The code `GULL-1` is taken now. Somebody types it
# again; and somebody else types "two" where a number belongs.

# %%
predict(
    "hide_parameters=True. In which driver's errors can one still read what was typed?",
    "In none",
    "In psycopg's only",
    "In both",
)

# %% facts="N3" tags=["predict"]
for name, url in (("psycopg", lab.psycopg_url), ("asyncpg", lab.url)):
    for code, seats in (("GULL-1", 2), ("TERN-9", "two")):
        error = await book(url, code, seats, hide_parameters=True)
        told = [line for line in str(error.orig).splitlines() if code in line or "two" in line]
        print(f"{name}  {error.orig.sqlstate}  {told[0] if told else '-'}")

# %% [markdown]
# Both. `hide_parameters` is SQLAlchemy's, and hides what *SQLAlchemy* would add. The first line is
# Postgres speaking, in a DETAIL that psycopg passes on. The others name the value that was not of the
# right kind. So no message of a driver is fit for a log as it is.
#
# What is fit? The **SQLSTATE**, five signs that name the kind of trouble and never a value, and
# names that you gave yourself, such as the constraint's:

# %%
for url in (lab.psycopg_url, lab.url):
    error = await book(url, "GULL-1", 2)
    print(type(error.orig).__module__.split(".")[0], "- sqlstate:", error.orig.sqlstate)
    print("   in diag:     ", getattr(getattr(error.orig, "diag", None), "constraint_name", None))
    print("   in __cause__:", getattr(error.orig.__cause__, "constraint_name", None))

# %% [markdown]
# psycopg keeps it in `diag`. Around asyncpg's errors SQLAlchemy puts one of its own, and asyncpg's is
# that one's `__cause__`. And some values never get as far as a driver. SQLAlchemy refuses them itself;
# such an error has the value in its words, and no SQLSTATE:

# %%
ferries = Enum("Alca", "Tern", "Puffin", name="ferry", native_enum=False, validate_strings=True)

try:
    async with owner.connect() as conn:
        await conn.execute(select(literal("Mrs Gull", ferries)))
except StatementError as error:
    print(type(error).__name__, "around", type(error.orig).__name__)
    print("a passenger in it:", "Mrs Gull" in str(error.orig))
    print("a SQLSTATE on it: ", hasattr(error.orig, "sqlstate"))

# %% [markdown]
# One more leak, Tuesday's. Tools that report errors like to show the **variables** of each function
# on the way. There a `SecretStr` pays once more:


# %%
import traceback


def connect(as_text, as_secret):
    raise ConnectionError("the harbour does not answer")


try:
    connect("kipper", SecretStr("kipper"))
except ConnectionError as error:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)

for line in "".join(report.format()).splitlines():
    if line.strip().startswith(("as_text =", "as_secret =")):
        print(line.strip())

# %% [markdown]
# ### Exercise: `safe_message`
#
# Write the one line that the desk may log about an error. It has the SQLSTATE and, where Postgres
# names one, the constraint. Where there is no SQLSTATE, or not even an `orig`, the error's class must
# do. No value of the row appears.
#
# The check makes real errors through both drivers, with `hide_parameters=True`, and one where nobody
# answers.


# %% exercise="security.safe_message"
def safe_message(error):
    """Return one line about a database error, without a value in it."""
    # <answer>
    orig = getattr(error, "orig", None)
    state = getattr(orig, "sqlstate", None)
    if state is None:
        return type(error).__name__
    told = getattr(orig, "diag", None) or orig.__cause__
    constraint = getattr(told, "constraint_name", None)
    return f"{state} {constraint}" if constraint else state
    # </answer>


# %%
security.safe_message.check()

# %% [markdown]
# ## 3 · A safe for passwords
#
# A variable on a server is better than a line of code. But there are many servers, and a password has to
# be changed on all of them at once. In production a **secrets manager** keeps it, hands it out to those
# who may have it, and can change it:
#
# | where you run | its manager |
# |---|---|
# | AWS | Secrets Manager, or Parameter Store |
# | Google Cloud | Secret Manager |
# | Azure | Key Vault |
# | Kubernetes | Secrets |
#
# About the last one there is a rumour: that its secrets are encrypted, because they look like this.

# %% facts="0.39"
import base64

print(base64.b64decode("a2lwcGVy").decode())

# %% [markdown]
# Base64 is an alphabet, not a lock: whoever may read the secret can read the password.
#
# The lab has an AWS Secrets Manager: AWS's own client, boto3, against a server on this machine. In it
# lies a secret of the form that AWS's database service writes.

# %%
try:
    import boto3
except ImportError:
    boto3 = None
    print("This part needs boto3 and moto:  pip install 'engine-room[aws]'")
else:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=lab.secrets.url,
        region_name=lab.secrets.region,
        aws_access_key_id=lab.secrets.access_key_id,
        aws_secret_access_key=lab.secrets.secret_access_key,
    )

# %% facts="0.38"
if boto3:
    answer = client.get_secret_value(SecretId=lab.secrets.secret_id)
    secret = json.loads(answer["SecretString"])
    print(*secret)

    try:
        client.get_secret_value(SecretId="skerry/nowhere")
    except client.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])

# %% [markdown]
# It says `dbname`. Whoever wrote `secret["database"]` meets a KeyError now.
#
# Many programs go on with an f-string, `f"postgresql+asyncpg://{user}:{password}@{host}/..."`, and it
# works while the password is `kipper`. The manager's own passwords are of another kind. We ask it for a
# hundred:

# %%
predict(
    "A hundred passwords of the manager's making, each put into an f-string: "
    "how many come back from make_url unchanged?",
    "All",
    "More than nine in ten",
    "Fewer than nine in ten",
)

# %% facts="0.38" tags=["predict"]
if boto3:
    drawn = [client.get_random_password(PasswordLength=32)["RandomPassword"] for _ in range(100)]

    def read_back(url):
        try:
            return make_url(url).password
        except ValueError:
            return None

    glued = [read_back(f"postgresql+asyncpg://desk:{word}@harbour/skerry") for word in drawn]
    made = [URL.create("postgresql+asyncpg", "desk", word, "harbour").password for word in drawn]
    right = [sum(map(lambda a, b: a == b, those, drawn)) for those in (glued, made)]
    print("f-string:   fewer than 90 are right:", right[0] < 90)
    print("URL.create: all are right:", right[1] == 100)

# %% [markdown]
# **When the password changes**, nobody wants to restart every program. We play that day with the lab's
# second role, `app`, which may change its own password:


# %%
async def change_password(url, new):
    """Log in, and change the role's own password. Return the URL to use from now on."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as conn:
        quoted = new.replace("'", "''")
        await conn.execute(text(f"alter role current_user password '{quoted}'"))
    return make_url(url).set(password=new)


# %%
predict(
    "The password is changed while the desk holds a connection. "
    "What becomes of that one, and of the next new one?",
    "Both go on",
    "The open one goes on, the new one is refused",
    "Both are refused",
)

# %% facts="0.38" tags=["predict"]
desk = create_async_engine(lab.app_url)

async with desk.connect() as old:
    await old.execute(text("select 1"))
    changed = await change_password(lab.app_url, "herring @ noon")
    try:
        print("the open connection:", await old.scalar(text("select 'it goes on'")))
        async with desk.connect():
            print("a new connection: it goes on")
    except DBAPIError as error:
        print("a new connection:", str(error.orig).partition(" for user")[0])
    finally:
        await change_password(changed, make_url(lab.app_url).password)

await desk.dispose()

# %% [markdown]
# A nasty kind of failure: all is well until the pool has to open one more. The cure is to ask for the
# password **when a connection is opened**, and not when the engine is made. SQLAlchemy has an event for
# that moment, `do_connect`, and lets you change what the driver is given:

# %%
asked = []
desk = create_async_engine(lab.url)


@event.listens_for(desk.sync_engine, "do_connect")
def about_to_connect(dialect, record, args, params):
    asked.append("password" in params)


for _ in range(5):
    async with desk.connect():
        pass

await desk.dispose()
print("five requests; the event came", len(asked), "time, with a password:", *asked)

# %% [markdown]
# ### Exercise: `vault_engine`
#
# Make an engine that takes its password from the manager. The secret has `username`, `password`,
# `host`, `port` and the database's name, which is called `dbname` in some secrets and `database` in
# others; the port may be a number or text. `client` is a boto3 client like ours above.
#
# When the secret changes, the next *new* connection comes with the new password. And the manager is not
# asked for every request: connections stay open in the pool.


# %% exercise="security.vault_engine"
def vault_engine(client, secret_id):
    """Return an async engine for the database that the secret describes."""

    # <answer>
    def secret():
        return json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])

    now = secret()
    address = URL.create(
        "postgresql+asyncpg",
        username=now["username"],
        host=now["host"],
        port=int(now["port"]),
        database=now.get("dbname") or now.get("database"),
    )
    engine = create_async_engine(address)

    @event.listens_for(engine.sync_engine, "do_connect")
    def fresh_password(dialect, record, args, params):
        params["password"] = secret()["password"]

    return engine
    # </answer>


# %%
security.vault_engine.check()

# %% [markdown]
# ## 4 · Encrypted, but to whom?
#
# Wednesday. First a thing that many tutorials get wrong: they say that without a word from you there is
# no TLS, so no encryption. Ask the server:


# %%
async def tls_says_postgres(url, **connect_args):
    """Is this connection encrypted? Postgres tells what it sees."""
    engine = create_async_engine(url, poolclass=NullPool, connect_args=connect_args)
    async with engine.connect() as conn:
        row = (
            await conn.execute(
                text("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")
            )
        ).one()
    return f"ssl = {row.ssl}, {row.version}"


# %% facts="0.43 0.42"
print("plain URL:", await tls_says_postgres(lab.url))

# %% [markdown]
# Both drivers *prefer* TLS: they take it when it is offered, and go on without when it is not. In
# production that is not enough, so people write `ssl="require"`. It refuses a server without TLS. And
# what about the tester?
#
# `lab.impostor` is such a box between desk and database. It shows a certificate of its own making,
# that no authority of ours has signed, and passes on what it hears.

# %%
predict(
    "The desk says ssl='require', and its URL leads to the impostor. What happens?",
    "It is refused: the certificate is wrong",
    "It is let in, but hears only what is encrypted",
    "It is let in, and reads the SQL",
)

# %% facts="0.40" tags=["predict"]
desk = create_async_engine(lab.impostor.url, connect_args={"ssl": "require"})
async with desk.connect() as conn:
    await conn.execute(text("select 'Mrs Gull, two seats, Alca'"))
await desk.dispose()

heard = lab.impostor.heard()
print("overheard:", [note["text"] for note in heard if "Gull" in note.get("text", "")][-1])
print("a password:", any(note["what"] == "password" for note in heard))

# %% [markdown]
# Let in, and it reads the SQL. The line *is* encrypted: from the desk to the impostor, and from there
# to the database. `require` asks for encryption, not for *whom*.
#
# Can the desk at least notice? The view that we asked above is often recommended for that.

# %%
predict(
    "Through the impostor, what does pg_stat_ssl say about the connection?",
    "ssl = True",
    "ssl = False",
    "Nothing: the row is missing",
)

# %% facts="0.42" tags=["predict"]
stripping = lab.impostor["no_tls"]  # this one offers the desk no TLS at all

print("encrypted, by the impostor:    ", await tls_says_postgres(lab.impostor.url, ssl="require"))
print("in clear, to another impostor: ", await tls_says_postgres(stripping.url, ssl="prefer"))

# %% [markdown]
# `True`, both times; and the second time the desk itself spoke **in clear**. The view describes the
# server's own end of the line. It says nothing about yours.
#
# **And the password?** That one the impostor did not hear: with SCRAM, Postgres's usual way, a client
# proves that it knows the password and does not say it. But a server may also ask for it plainly, and
# drivers answer. This impostor asks:

# %%
asking = lab.impostor["asks_password"]


async def knock(url, **connect_args):
    """Try to log in. What was heard of it?"""
    before = len(asking.heard())
    engine = create_async_engine(url, connect_args=connect_args)
    try:
        async with engine.connect():
            pass
    except DBAPIError:
        pass  # it turns everybody away
    await engine.dispose()
    return asking.heard()[before:]


# %%
predict(
    "The password is refused. A plain URL, so TLS is preferred. "
    "How often did the desk say its password, and how?",
    "Once, encrypted",
    "Twice, encrypted",
    "Twice, the second time in clear",
)

# %% facts="0.40 0.43" tags=["predict"]
here = make_url(asking.url)

for options in ({}, {"ssl": "require"}):
    print(options or "plain URL")
    for note in await knock(asking.url, **options):
        if note["what"] == "login":
            print("   a login over", note["tls"] or "NOTHING: IN CLEAR")
        if note["what"] == "password":
            print("   the password said, the right one:", note["text"] == here.password)

# %% [markdown]
# A refused login is tried once more without TLS. `require` puts an end to that, and still tells the
# password to whoever asks.
#
# ### Verified
#
# What is missing is somebody who vouches. An **authority** signs the server's certificate, for a name.
# You keep the authority's own certificate in a file (`lab.ca_file` here; hosts have it on their
# pages). Python's `ssl` makes a *context* of it, which checks two things: the signature, and the name.

# %%
context = ssl.create_default_context(cafile=lab.ca_file)

# %% facts="0.40 0.41"
servers = {
    "the database": lab,
    "no TLS": lab.impostor["no_tls"],
    "a stranger's certificate": lab.impostor,
    "our authority, other name": lab.impostor["other_name"],
    "asks for the password": asking,
}

for name, server in servers.items():
    for words, tls in (("ssl=True", True), ("our context", context)):
        try:
            said = await tls_says_postgres(server.url, ssl=tls)
        except ssl.SSLCertVerificationError as error:
            said = f"refused: {error.verify_message}"
        except ConnectionError as error:
            said = f"refused: no {str(error).rpartition('rejected ')[2]}"
        print(f"{name:26}{words:13}{said}")

# %% [markdown]
# With our authority, and by the name in the URL, only the database itself is let in. `ssl=True` asks
# the authorities that your machine knows from the web; ours is not one of them, so it turns even the
# real one away. Look at the class of these errors, too: they are Python's own, and no `except DBAPIError`
# catches them.
#
# Here is all of it in one picture. Each field is an attempt, made just now. A ✓ stands where the outcome
# is as you would want it.

# %% facts="0.40 0.41"
any_name = ssl.create_default_context(cafile=lab.ca_file)
any_name.check_hostname = False

modes = {
    "disable": "disable",
    "prefer": "prefer",
    "require": "require",
    "verify-ca": any_name,
    "verify-full": context,
}
grid = Grid("mode", list(servers))

for mode, tls in modes.items():
    for name, server in servers.items():
        notes = getattr(server, "heard", list)  # the database itself takes none
        before = len(notes())
        try:
            said = await tls_says_postgres(server.url, ssl=tls)
            outcome = "let in, encrypted" if "True" in said else "let in, in clear"
        except (OSError, DBAPIError):
            outcome = "turned away"
        heard = {note["what"] for note in notes()[before:]}
        for word in {"password", "sql"} & heard:
            outcome = f"let in, heard the {word.replace('sql', 'SQL')}"
        good = outcome == ("let in, encrypted" if server is lab else "turned away")
        grid.mark(mode, name, "good" if good else "bad", outcome)

grid

# %% [markdown]
# Only the last row has no ✗. `verify-ca` is the treacherous one: an authority signs for many hosts,
# and any of them may stand in for yours.
#
# These five words are those of libpq, Postgres's own library for clients. psycopg takes them in the URL:
# `?sslmode=verify-full&sslrootcert=...`. For asyncpg you give a context, as here. Two more things about the words:

# %% facts="0.40"
print("asyncpg, 'require', and PGSSLROOTCERT is set:")
with patch.dict(os.environ, {"PGSSLROOTCERT": lab.ca_file}):
    for name in ("a stranger's certificate", "our authority, other name"):
        try:
            await tls_says_postgres(servers[name].url, ssl="require")
            print(f"   {name:27}let in")
        except ssl.SSLCertVerificationError as error:
            print(f"   {name:27}turned away")

print("psycopg, sslmode=require:")
for name, more in (
    ("a stranger's certificate", ""),
    ("asks for the password", ""),
    ("asks for the password", "&channel_binding=require"),
):
    before = len(servers[name].heard())
    try:
        await tls_says_postgres(f"{servers[name].psycopg_url}?sslmode=require{more}")
    except DBAPIError as error:
        last = str(error.orig).rpartition("failed: ")[2].removeprefix("FATAL:  ")
        told = any(note["what"] == "password" for note in servers[name].heard()[before:])
        print(f"   {name}{more}: {last.strip().partition(' for user')[0]}")
        print("      told the password?", told)

# %% [markdown]
# The same word `require` verifies the authority as soon as a file of authorities is *there*. And psycopg
# binds its proof of the password to the certificate that it sees, so the impostor in the middle cannot
# pass it on; but it too tells its password to whoever asks, unless you require that binding.
#
# Do not learn these by heart. **Say `verify-full`, or give a context, and try it on a wrong server.**
#
# ### Exercise: `verified`
#
# Make an engine for the desk that talks to the server which the authority in `ca_file` vouches for, by
# the name in the URL. To nobody else it says anything, not even a user's name, whomever the machine
# trusts besides. (The URL is one for asyncpg; you may turn it into another.)


# %% exercise="security.verified"
def verified_engine(url, ca_file):
    """Return an engine that speaks with the verified server only."""
    # <answer>
    trusted = ssl.create_default_context(cafile=ca_file)
    return create_async_engine(url, connect_args={"ssl": trusted})
    # </answer>


# %%
security.verified.check()

# %% [markdown]
# ## 5 · What the desk may do
#
# Say that all of it fails, and somebody speaks to the database with the desk's password. What can they
# do? Whatever the desk's *role* may do. In most programs the role that made the tables also sells the
# tickets:


# %%
async def try_to(url, sql):
    """Run a statement, and take it back; what does Postgres say?"""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as conn:
            await conn.execute(text(sql))
        return "done"
    except DBAPIError as error:
        return str(error.orig).splitlines()[0]


# %%
print("owner:", await try_to(lab.url, "drop table booked"))
print("app:  ", await try_to(lab.app_url, "drop table booked"))
print("app:  ", await try_to(lab.app_url, "select * from booked"))

# %% [markdown]
# (Only tried: the transaction was never committed.) The owner may drop its tables, by mistake or by
# another's will. The second role, `app`, may do nothing until somebody lets it. `grant` is the word:
# which verb, on which table, to whom. Let us grant it one thing, and meet two surprises.

# %%
predict(
    "The app is granted `insert` on a table whose id is `serial`. It inserts. What happens?",
    "It works",
    "It is refused: no right to the table",
    "It is refused: no right to something else",
)

# %% facts="S.1 S.2" tags=["predict"]
app = make_url(lab.app_url).username
async with owner.begin() as conn:
    await conn.execute(text("drop table if exists ticket, season"))
    await conn.execute(text("create table ticket (id serial primary key, seats int)"))
    await conn.execute(text(f'grant select, insert on ticket to "{app}"'))
    await conn.execute(text("create table season (month int)"))

print("insert:", await try_to(lab.app_url, "insert into ticket (seats) values (2)"))
print("select:", await try_to(lab.app_url, "select * from ticket"))
print("later: ", await try_to(lab.app_url, "select * from season"))

# %% [markdown]
# A `serial` takes its number from a *sequence*, which has rights of its own (`usage` is the one that
# hands out numbers). And a grant is for what it names: the next table is closed again. For tables to come
# there is `alter default privileges grant ... on tables to ...`, which the owner says once.
#
# Two more words that help to give little. `grant update (seats_left) on sailing` opens one *column*. And
# a role's name goes into double quotes, with each double quote in it doubled: names come from
# configuration files, and what is pasted into SQL is read as SQL.
#
# ### Try with AI, and then let Postgres judge
#
# Ask an assistant for this:
#
# > Our Postgres has the tables `ferry`, `sailing`, `booking` and `staff`, with serial ids. Write a
# > Python function `desk_grants(role)` that returns the SQL statements with which their owner lets
# > the role, whatever its name, sell tickets, with as few rights as possible: read `ferry`, `sailing`
# > and `booking`, insert bookings, change a sailing's `seats_left`, and read all tables that the owner
# > will make later.
#
# Paste what it wrote. The check runs the statements as the owner, then *becomes* the desk, and tries what
# it may do and what it may not; and Postgres keeps account of all that was granted. Before you run it:
# would you have found what is wrong by reading?


# %% exercise="security.desk_role"
def desk_grants(role):
    """Return the SQL statements that let a role sell tickets, and nothing else."""
    # <answer>
    name = '"' + role.replace('"', '""') + '"'
    return [
        f"grant select on ferry, sailing, booking to {name}",
        f"grant insert on booking to {name}",
        f"grant usage on sequence booking_id_seq to {name}",
        f"grant update (seats_left) on sailing to {name}",
        f"alter default privileges grant select on tables to {name}",
    ]
    # </answer>


# %%
security.desk_role.check()

# %% [markdown]
# ## Stuck?
#
# Take the smallest thing that is right, and go on from there: one URL, by `URL.create`, its password from
# one environment variable, and a context.

# %%
with patch.dict(os.environ, {"DESK_PASSWORD": make_url(lab.url).password}):
    small = make_url(lab.url).set(password=None)
    small = small.set(password=os.environ["DESK_PASSWORD"])

print(await tls_says_postgres(small, ssl=ssl.create_default_context(cafile=lab.ca_file)))

# %% [markdown]
# - **`Extra inputs are not permitted`**: a key of another program stands in `.env`. Section 1.
# - **`You must specify a region`**: boto3 was made without a region, and found none.
# - **`certificate verify failed`**: you asked other authorities than the one that signed. Section 4.
# - **`invalid connection option "ssl"`**, **`unexpected keyword argument 'sslmode'`**: each driver has
#   its own word for TLS, and knows no other:

# %% facts="0.41 0.38"
for url, word in ((lab.psycopg_url, "ssl"), (lab.url, "sslmode")):
    try:
        await tls_says_postgres(url, **{word: "require"})
    except (DBAPIError, TypeError) as error:
        print(type(error).__name__ + ":", str(getattr(error, "orig", error)).strip())

if boto3:
    with patch.dict(os.environ, {"AWS_CONFIG_FILE": os.devnull}):
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            os.environ.pop(name, None)
        try:
            boto3.session.Session().client("secretsmanager")
        except Exception as error:
            print(type(error).__name__ + ":", error)

# %% [markdown]
# ## Go further: find it before others do
#
# "Never commit a password" is good advice, and advice does not stop anybody. A program can. Write
# `find_secrets(folder)` for the desk's repository: every line of every file that shows a password in a
# URL, as `(path, line)`, the path within `folder` and lines counted from 1.
#
# - Any file counts: settings of a tool, the output that a notebook keeps, a hidden file, a text that is
#   not UTF-8.
# - `***`, `{password}` and `${PASSWORD}` are no passwords (`kip$per` is one). Somebody who is warned
#   for nothing stops reading warnings; one false alarm is forgiven.
# - What `.gitignore` names is not committed, and left out. Its lines are a name (`.env`), an ending
#   (`*.bak`), or a folder (`drafts/`), at any depth. There may be no `.gitignore`.
# - There are pictures in the repository, too.


# %% exercise="security.scan"
def find_secrets(folder: Path) -> list[tuple[str, int]]:
    """Return path and line of every password in a URL that git would take."""
    # <answer>
    import re
    from fnmatch import fnmatch

    file = folder / ".gitignore"
    lines = file.read_text().split() if file.exists() else []
    ignored = [line.rstrip("/") for line in lines]
    found = []
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        if not file.is_file() or any(fnmatch(p, i) for p in path.parts for i in ignored):
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            for password in re.findall(r"\w://[^\s:/@]*:([^\s/@]+)@", line):
                if password[0] not in "*{$<":
                    found.append((path.as_posix(), number))
    return found
    # </answer>


# %%
security.scan.check()

# %% [markdown]
# If it finds one in earnest: taking the line out is not enough, because git remembers. **Change the
# password.** With section 3's engine that needs no restart.
#
# ## What to remember
#
# - **No secret, no start.** The environment first, then `.env`, and a clear error; no default.
# - **What is printed leaks.** `SecretStr` hides itself; an error message, a DETAIL, a log of SQL do not.
#   Log the SQLSTATE.
# - **Ask for the password when a connection is opened**, and make URLs with `URL.create`.
# - **`require` encrypts to anybody.** Only `verify-full` asks who it is; and `pg_stat_ssl` sees the
#   server's end, not yours.
# - **The program's role may do the program's work**, and the owner of the tables does not sell
#   tickets.
#
# What we made, we take away:

# %%
async with owner.begin() as conn:
    await conn.execute(text("drop table if exists booked, ticket, season"))
await owner.dispose()
