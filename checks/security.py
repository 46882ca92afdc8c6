"""06 security: secrets, TLS, rights."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Draw, Failure, Lesson, Objective, Outcome, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "security",
    "Secrets, TLS, rights",
    minutes=35,
    objectives=(
        Objective(
            "security.configure",
            "Let a program find its secrets outside its code, and refuse to start without them.",
            "apply",
            "B1",
            "Database security",
        ),
        Objective(
            "security.leaks",
            "Tell where a secret shows: in a repr, a log, an error, a repository. Keep it out.",
            "analyze",
            "B1",
            "Database security",
        ),
        Objective(
            "security.vault",
            "Take a password from a secrets manager, today's and tomorrow's.",
            "apply",
            "B1",
            "Database security",
        ),
        Objective(
            "security.tls",
            "Say whom each TLS mode lets in, and connect to a verified server only.",
            "evaluate",
            "B1",
            "Database security",
        ),
        Objective(
            "security.rights",
            "Give a program's role the rights that it needs, and no others.",
            "apply",
            "B1",
            "Database security",
        ),
    ),
    stuck="Build one URL with `URL.create`, its password from one environment variable; "
    "the rest of the lesson is about where that variable comes from and who hears it.",
    further="Write the tool that finds a password in a repository before somebody else does.",
)

_TYPING = {"NameError", "ImportError", "AttributeError", "TypeError", "SyntaxError"}


def _own(read: Outcome) -> Outcome:
    """Pass on what a slip of the pen raised in the answer itself: its author has to read that."""
    failure = read.failure
    if failure and failure.line and _TYPING & {failure.type, *failure.bases}:
        raise SubjectFailed(failure)
    return read


def _secret(draw: Draw) -> str:
    """A word of seven letters; three of them in a row stand nowhere else, so a piece shows."""
    return "".join(draw.sample("KQVWXYZ", 7))


def _shows(said: str, secret: str) -> bool:
    return any(secret[i : i + 3] in said.upper() for i in range(len(secret) - 2))


def _plain_name(draw: Draw) -> str:
    """A name in which no piece of a secret can stand by chance."""
    return "".join(draw.choices("abcdefghij", k=8))


# -- settings ------------------------------------------------------------------------------


async def start_up(
    load_settings: Any,
    dotenv: str | None,
    variables: dict[str, str],
    program: bool = True,
    use: bool = True,
) -> AsyncIterator[Any]:
    """Start in a folder with this ``.env`` under these variables; look at the settings, log in."""
    import sys

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import place

    if hasattr(load_settings, "cache_clear"):
        load_settings.cache_clear()
    main = vars(sys.modules["__main__"])
    # What an answer keeps for its process, in globals or in its classes, is forgotten afterwards.
    before = dict(main)
    ours = [v for v in before.values() if isinstance(v, type) and v.__module__ == main["__name__"]]
    kinds = [(kind, dict(vars(kind))) for kind in ours]
    if program:  # it has a file, which lies elsewhere; a notebook has none, and dotenv notices
        main["__file__"] = "/elsewhere/desk.py"
    try:
        with place({} if dotenv is None else {".env": dotenv}, variables):
            settings = load_settings()
            given: Any = settings.database_url if use else ""
            shown = f"{settings!r} {settings}"
    finally:
        main.clear()
        main.update(before)
        for kind, attributes in kinds:
            for name, value in attributes.items():
                if vars(kind).get(name) is not value:
                    setattr(kind, name, value)
    yield shown
    given = given.get_secret_value() if hasattr(given, "get_secret_value") else given
    engine = create_async_engine(given if isinstance(given, str | URL) else str(given))
    try:
        async with engine.connect():
            yield dict(engine.url.query)
    finally:
        await engine.dispose()


@lesson.exercise(
    "load_settings",
    points=3,
    measures=("security.configure", "security.leaks"),
    task="Write `load_settings()`: an object whose `database_url` comes from the environment's "
    "DATABASE_URL or, where that is not set, from the file `.env` in the current folder, where it "
    "may stand in quotes. Other keys in that file do no harm; without a URL it raises, and says "
    "which variable is missing; neither the object nor that error's traceback shows a secret.",
    hints=(
        "Who wins when both have a DATABASE_URL, and what should happen when neither has?",
        (
            "`pydantic_settings.BaseSettings` reads both in the right order. What does its "
            "`model_config` need for the file, for foreign keys, for errors? Which type hides?"
        ),
        (
            "`SettingsConfigDict(env_file='.env', extra='ignore', hide_input_in_errors=True)` and "
            "a field `database_url: SecretStr`"
        ),
    ),
    slips=(
        Slip(
            "not_read",
            "SEC-01",
            "A `.env` with a DATABASE_URL lay in the current folder, and you did not take it.",
            (
                """
                import os
                from types import SimpleNamespace
                def load_settings():
                    return SimpleNamespace(database_url=os.environ['DATABASE_URL'])
                """,
                """
                from pydantic import SecretStr
                from pydantic_settings import BaseSettings
                class Settings(BaseSettings):
                    database_url: SecretStr
                load_settings = Settings
                """,
            ),
        ),
        Slip(
            "extra",
            "SEC-02",
            "Another program's key stood in `.env`, and you did not start.",
            (
                """
                from pydantic import SecretStr
                from pydantic_settings import BaseSettings, SettingsConfigDict
                class Settings(BaseSettings):
                    model_config = SettingsConfigDict(env_file='.env')
                    database_url: SecretStr
                def load_settings():
                    return Settings()
                """,
                """
                import os
                from dataclasses import dataclass, field
                from dotenv import dotenv_values
                @dataclass
                class Settings:
                    database_url: str = field(repr=False)
                def load_settings():
                    found = {k.lower(): v for k, v in dotenv_values('.env').items()}
                    if 'DATABASE_URL' in os.environ:
                        found['database_url'] = os.environ['DATABASE_URL']
                    return Settings(**found)
                """,
            ),
        ),
        Slip(
            "dotenv_wins",
            "SEC-03",
            "Both had a DATABASE_URL and the file won: whoever runs your program could not tell "
            "it where to go.",
            (
                """
                import os
                from dataclasses import dataclass, field
                from dotenv import load_dotenv
                @dataclass
                class Settings:
                    database_url: str = field(repr=False)
                def load_settings():
                    load_dotenv('.env', override=True)
                    return Settings(os.environ['DATABASE_URL'])
                """,
                """
                import os
                from dotenv import dotenv_values
                from sqlalchemy import make_url
                class Settings:
                    def __init__(self):
                        both = {**os.environ, **dotenv_values('.env')}
                        self.database_url = make_url(both['DATABASE_URL'])
                load_settings = lambda: Settings()
                """,
            ),
        ),
        Slip(
            "fallback",
            "SEC-04",
            "There was no DATABASE_URL anywhere, and you went on without one: nobody chose that "
            "database.",
            (
                """
                from pydantic import SecretStr
                from pydantic_settings import BaseSettings, SettingsConfigDict
                class Settings(BaseSettings):
                    model_config = SettingsConfigDict(env_file='.env', extra='ignore')
                    database_url: SecretStr = SecretStr('sqlite+aiosqlite:///./dev.db')
                def load_settings():
                    return Settings()
                """,
                """
                import os
                from dotenv import load_dotenv
                class Settings:
                    def __init__(self, url):
                        self.database_url = url
                def load_settings():
                    load_dotenv('.env')
                    return Settings(os.getenv('DATABASE_URL'))
                """,
            ),
        ),
        Slip(
            "shown_by_error",
            "SEC-06",
            "The error about the missing URL quotes another secret, out of `.env`.",
            (
                """
                from pydantic import SecretStr
                from pydantic_settings import BaseSettings, SettingsConfigDict
                class Settings(BaseSettings):
                    model_config = SettingsConfigDict(env_file='.env', extra='ignore')
                    database_url: SecretStr
                def load_settings():
                    return Settings()
                """,
                """
                import os
                from dotenv import dotenv_values
                from sqlalchemy import make_url
                class Settings:
                    def __init__(self, url):
                        self.database_url = make_url(url)
                def load_settings():
                    found = dotenv_values('.env')
                    url = os.environ.get('DATABASE_URL') or found.get('DATABASE_URL')
                    if not url:
                        raise RuntimeError(f'no DATABASE_URL in {dict(found)}')
                    return Settings(url)
                """,
            ),
        ),
        Slip(
            "repr",
            "SEC-07",
            "Printed, your settings show the password: one `print` or one log line, and it is out.",
            (
                """
                from pydantic_settings import BaseSettings, SettingsConfigDict
                class Settings(BaseSettings):
                    model_config = SettingsConfigDict(
                        env_file='.env', extra='ignore', hide_input_in_errors=True)
                    database_url: str
                def load_settings():
                    return Settings()
                """,
                """
                import os
                from dataclasses import dataclass
                from dotenv import load_dotenv
                @dataclass
                class Settings:
                    database_url: str
                def load_settings():
                    load_dotenv('.env')
                    return Settings(os.environ['DATABASE_URL'])
                """,
            ),
        ),
    ),
    right=(
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings, SettingsConfigDict
        def load_settings():
            class Settings(BaseSettings):
                model_config = SettingsConfigDict(
                    env_file=".env", extra="ignore", hide_input_in_errors=True
                )
                database_url: SecretStr
            return Settings()
        """,
        """
        import os
        from dataclasses import dataclass, field
        from dotenv import load_dotenv
        @dataclass(frozen=True)
        class Settings:
            database_url: str = field(repr=False)
        def load_settings():
            load_dotenv('.env')
            return Settings(os.environ['DATABASE_URL'])
        """,
        """
        import os
        from collections import ChainMap
        from functools import lru_cache
        from dotenv import dotenv_values
        from sqlalchemy import make_url
        class Settings:
            def __init__(self, found):
                self.database_url = make_url(found['DATABASE_URL'])
            def __repr__(self):
                return f'Settings({self.database_url})'
        @lru_cache
        def load_settings():
            return Settings(ChainMap(os.environ, dotenv_values('.env')))
        """,
        """
        from functools import partial
        from pydantic import Field, PostgresDsn
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore', hide_input_in_errors=True):
            database_url: PostgresDsn = Field(repr=False)
        load_settings = partial(Settings, _env_file_encoding='utf-8')
        """,
        """
        import os, pathlib, types
        from pydantic import SecretStr
        def load_settings():
            url, file = os.environ.get('DATABASE_URL'), pathlib.Path('.env')
            if url is None and file.exists():
                for line in file.read_text().splitlines():
                    key, _, value = line.partition('=')
                    if key == 'DATABASE_URL':
                        url = value.strip('"')
            if not url:
                raise SystemExit('DATABASE_URL is not set')
            return types.SimpleNamespace(database_url=SecretStr(url))
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        settings = None
        class Settings(BaseSettings):
            model_config = {
                'env_file': '.env', 'extra': 'ignore', 'hide_input_in_errors': True}
            database_url: SecretStr
        def load_settings():
            global settings
            if settings is None:
                settings = Settings()
            return settings
        """,
        """
        import os
        from dotenv import dotenv_values
        from pydantic import SecretStr
        class Settings:
            only = None
            def __new__(cls):
                if cls.only is None:
                    cls.only = super().__new__(cls)
                    found = dotenv_values('.env') | dict(os.environ)
                    cls.only.database_url = SecretStr(found['DATABASE_URL'])
                return cls.only
        load_settings = lambda: Settings()
        """,
    ),
)
async def settings(trial: Trial) -> None:
    lab, draw, secret = trial.lab, trial.draw, _secret(trial.draw)
    here, there = draw.sample([lab.url, lab.app_url], 2)
    unset, foreign = {"DATABASE_URL": ""}, f"MAIL_KEY={secret}\nDESK_PORT=8000\n"
    for dotenv, variables, wanted, code in (
        (f'DATABASE_URL="{there}"\n', unset, there, "SEC-01"),
        (f"{foreign}# ours\nDATABASE_URL={here}?{_OPTION}\n", unset, here, "SEC-02"),
        (f"DATABASE_URL={here}\n", {"DATABASE_URL": there}, there, "SEC-03"),
        (None, {"DATABASE_URL": here}, here, "SEC-05"),
    ):
        expect(await _logs_in(trial, dotenv, variables, wanted, code), code, _ALONE.get(code, ""))
    missing = await trial.subject.steps(start_up, foreign, unset, True, False).outcome()
    expect(missing.failure, "SEC-04")
    expect("database_url" in _words(missing).lower(), "SEC-08", _UNNAMED)
    expect(not _shows(_words(missing), secret), "SEC-06")
    expect(not _shows(_behind(missing.failure), secret), "SEC-06", _CHAINED)
    url = f"postgresql+asyncpg://desk:{secret[::-1]}@harbour/skerry"
    shown = _own(await trial.subject.steps(start_up, foreign, {"DATABASE_URL": url}).outcome())
    expect(shown.ok and not _shows(shown.value, secret[::-1]), "SEC-07")
    expect(not _shows(shown.value, secret), "SEC-07", _FOREIGN)


def _words(read: Outcome) -> str:
    return f"{read.failure.type}: {read.failure.message}" if read.failure else ""


def _behind(failure: Failure | None) -> str:
    """What the errors said that a traceback would show above this one."""
    cause = failure and failure.cause
    return f"{cause.message} {_behind(cause)}" if cause else ""


async def _logs_in(
    trial: Trial, dotenv: str | None, variables: dict[str, str], url: str, code: str
) -> bool:
    """Whether Postgres sees the role of ``url`` when the answer's settings are used."""
    steps = trial.subject.steps(start_up, dotenv, variables)
    read = await steps.outcome()
    # What worked once, and fails now, does so for the reason that it is tried for.
    if not (_own(read) if code == "SEC-01" else read).ok:
        expect(not (read.failure and _MISNAMED in read.failure.message), "SEC-09", _NAMELESS)
        again = await trial.subject.steps(start_up, dotenv, variables, False).outcome()
        expect(not again.ok, code, _BESIDE)
        if code == "SEC-01" and read.failure and _other_trouble(read.failure):
            raise SubjectFailed(read.failure)
        return False
    used = await steps.outcome()
    whole = not used.ok or code != "SEC-02" or used.value == dict([_OPTION.split("=")])
    expect(whole, "SEC-09", _CUT_SHORT)
    seen = {backend.user for backend in await trial.witness.backends()}
    if used.ok:
        await steps.outcome()
    elif code == "SEC-01":
        expect(False, "SEC-09", f"{_USELESS} {_words(used)[:200]}")
    return seen == {trial.lab.user if url == trial.lab.url else trial.lab.app_user}


_OPTION = "prepared_statement_cache_size=50"
_CUT_SHORT = "Your `database_url` is not all of it: a value in `.env` may have an `=` in it, too."
_ALONE = {"SEC-05": "DATABASE_URL was set and there was no `.env`; you did not start with it."}


def _other_trouble(failure: Failure) -> bool:
    """Whether it raised, and not for want of a URL; pydantic tells so what it cannot read."""
    return failure.is_a("SettingsError") or "database_url" not in failure.message.lower()


_BESIDE = (
    "`.env` lay in the current folder, and your program in another one. In a notebook, which is "
    "no file, you would have found it: say where to look."
)
_MISNAMED = "no attribute 'database_url'"
_NAMELESS = "What you return has no attribute `database_url`."
_USELESS = "With your `database_url`, which stood in quotes in `.env`, nobody gets in:"
_CHAINED = (
    "Your error shows no secret, and the one before it does: a traceback prints both. "
    "`raise ... from None` leaves it out."
)
_FOREIGN = "Printed, your settings show another secret, out of `.env`."
_UNNAMED = (
    "Your error does not say which variable is missing; DATABASE_URL is the word to look for."
)


# -- safe_message --------------------------------------------------------------------------


async def troubles(
    safe_message: Any, url: str, table: str, secret: str, seats: int
) -> AsyncIterator[Any]:
    """What the answer says of errors that are made here and now; their values are a secret."""
    from sqlalchemy import Enum, bindparam, column, literal, select
    from sqlalchemy import table as named
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, hide_parameters=True)
    booked = named(table, *map(column, ("code", "passenger", "seats")))
    ferry = Enum("Alca", "Tern", name="ferry", native_enum=False, validate_strings=True)
    try:
        for statement, values in (
            (booked.insert(), {"code": secret, "passenger": secret, "seats": 2}),
            (booked.insert(), {"code": "other", "passenger": secret, "seats": -2}),
            (booked.insert(), {"code": secret[::-1], "passenger": None, "seats": 2}),
            (select(booked).where(booked.c.seats == bindparam("seats")), {"seats": secret}),
            (select(literal(secret, ferry)), {}),
            (booked.insert(), {"code": "more", "passenger": "x", "seats": seats}),
        ):
            try:
                async with engine.begin() as connection:
                    await connection.execute(statement, values)
            except Exception as error:
                said = safe_message(error)
                yield str.__str__(said) if isinstance(said, str) else said
    finally:
        await engine.dispose()


async def nobody_answers(safe_message: Any, url: str) -> AsyncIterator[Any]:
    """What the answer says when there is no server: asyncpg's error is Python's own then."""
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import closed_port

    with closed_port() as port:
        try:
            await create_async_engine(make_url(url).set(host="127.0.0.1", port=port)).connect()
        except Exception as error:
            yield safe_message(error)


@lesson.exercise(
    "safe_message",
    points=3,
    measures=("security.leaks",),
    task="Write `safe_message(error)`: one line for the log about an error, through either "
    "driver. It has the SQLSTATE and, where Postgres names one, the constraint; an error without "
    "a SQLSTATE, or without an `orig`, is told by its class. It never has a value of the row.",
    hints=(
        "Which parts of an error are the same every time, and which are data?",
        (
            "The driver's error is `error.orig`. `sqlstate` is on it with both drivers. The "
            "constraint is in `diag` with psycopg; asyncpg's own error, with the constraint on "
            "it, is the `__cause__` of that one."
        ),
        (
            "`orig = getattr(error, 'orig', None)`, `getattr(orig, 'sqlstate', None)`, and "
            "`constraint_name` of `orig.diag` or of `orig.__cause__`, whichever there is; else "
            "`type(error).__name__`. No `str(...)`."
        ),
    ),
    slips=(
        Slip(
            "str",
            "SEC-11",
            "psycopg's DETAIL shows the row, and you logged it: `hide_parameters` hides only "
            "SQLAlchemy's part.",
            (
                """
                def safe_message(error):
                    return str(error)
                """,
                """
                def safe_message(error):
                    state = getattr(error.orig, 'sqlstate', '') or type(error).__name__
                    return f'{state}: {error.orig}'.replace('\\n', ' ')
                """,
            ),
        ),
        Slip(
            "first_line",
            "SEC-12",
            "The first line is no safer: of a value of the wrong kind, both drivers quote the "
            "value right there.",
            (
                """
                def safe_message(error):
                    state = getattr(error.orig, 'sqlstate', None)
                    return f'{state}: ' + str(error.orig).splitlines()[0]
                """,
                """
                import re
                def safe_message(error):
                    said = re.sub(r'DETAIL:.*', '', str(error.orig), flags=re.S)
                    return f"{getattr(error.orig, 'sqlstate', type(error).__name__)} {said}"
                """,
            ),
        ),
        Slip(
            "no_state",
            "SEC-14",
            "An error without a SQLSTATE went into the log as it was, with the value in it.",
            (
                """
                def safe_message(error):
                    orig = error.orig
                    state = getattr(orig, 'sqlstate', None)
                    if state is None:
                        return repr(orig)
                    known = getattr(orig, 'diag', None) or orig.__cause__
                    return f'{state} {known.constraint_name}'
                """,
                """
                def safe_message(error):
                    try:
                        known = getattr(error.orig, 'diag', error.orig.__cause__)
                        return f'{error.orig.sqlstate} ({known.constraint_name})'
                    except AttributeError:
                        return str(error)
                """,
            ),
        ),
        Slip(
            "silent",
            "SEC-13",
            "Nobody can tell from your line what went wrong: the SQLSTATE says it, and is no "
            "secret.",
            (
                """
                def safe_message(error):
                    return 'database error'
                """,
                """
                def safe_message(error):
                    return f'{type(error).__name__} <- {type(error.orig).__name__}'
                """,
            ),
        ),
        Slip(
            "no_constraint",
            "SEC-15",
            "Postgres named the constraint, and your line does not: which of two rules was it?",
            (
                """
                def safe_message(error):
                    return getattr(error.orig, 'sqlstate', None) or type(error).__name__
                """,
                """
                def safe_message(error):
                    state = getattr(error.orig, 'sqlstate', None)
                    where = getattr(error.orig, 'constraint_name', '')
                    return f'{type(error).__name__} {state} {where}'
                """,
            ),
        ),
    ),
    right=(
        """
        def safe_message(error):
            orig = getattr(error, "orig", None)
            state = getattr(orig, "sqlstate", None)
            if state is None:
                return type(error).__name__
            told = getattr(orig, "diag", None) or orig.__cause__
            constraint = getattr(told, "constraint_name", None)
            return f"{state} {constraint}" if constraint else state
        """,
        """
        import psycopg
        from asyncpg import PostgresError
        class SafeMessage:
            def __call__(self, error):
                names = [type(error).__name__]
                while error is not None:
                    match error:
                        case psycopg.Error():
                            names += [error.sqlstate, error.diag.constraint_name]
                        case PostgresError():
                            names += [error.sqlstate, getattr(error, 'constraint_name', None)]
                    error = getattr(error, 'orig', None) or error.__cause__
                return ' '.join(filter(None, names))
        safe_message = SafeMessage()
        """,
        """
        import json
        def facts(orig):
            for holder in (orig, getattr(orig, 'diag', None), orig.__cause__):
                for name in ('sqlstate', 'constraint_name', 'table_name', 'schema_name'):
                    if value := getattr(holder, name, None):
                        yield name, value
        safe_message = lambda error: json.dumps(
            {'kind': type(error).__name__, **dict(facts(getattr(error, 'orig', error)))})
        """,
    ),
)
async def safe_message(trial: Trial) -> None:
    lab, draw, secret = trial.lab, trial.draw, _secret(trial.draw)
    seats = draw.randint(10**10, 10**11)  # too many for an int, and asyncpg says how many
    table, once, some = (_plain_name(draw) for _ in range(3))
    await trial.witness.execute(
        f"create table {table} as select '{secret}'::text as code, 'x' as passenger, 1 as seats;"
        f"alter table {table} add constraint {once} unique (code), alter passenger set not null,"
        f" add constraint {some} check (seats > 0)"
    )
    for url in (lab.psycopg_url, lab.url):
        steps = trial.subject.steps(troubles, url, table, secret, seats)
        said = [await steps.next() for _ in range(6)]
        expect(all(type(one) is str for one in said), "SEC-16", "`safe_message` returns text.")
        for one, code in zip(said, _LEAKS, strict=True):
            row = code == "SEC-11" and not any(words in one for words in _DETAIL)
            leaks = _shows(one, secret) or _shows(one, secret[::-1]) or str(seats) in one
            expect(not leaks, code, _OF_THE_ROW if row else "")
        for one, names in zip(said, _TELLING, strict=True):
            expect(any(name in one for name in names), "SEC-13")
        expect(once in said[0] and some in said[1], "SEC-15")
        silence = await trial.subject.steps(nobody_answers, url).next()
        lines = all(_one_line(one) for one in [*said, silence])
        expect(lines, "SEC-16", "`safe_message` returns one line.")
        expect(any(name in silence for name in _SILENT), "SEC-16", _UNHEARD)


def _one_line(said: Any) -> bool:
    return type(said) is str and len(said.splitlines()) == 1


_SILENT = ("OperationalError", "ConnectionRefusedError", "OSError", "ConnectionError")
_LEAKS = ("SEC-11", "SEC-11", "SEC-11", "SEC-12", "SEC-14", "SEC-12")
_DETAIL = ("DETAIL", "Key (", "Failing row")
_OF_THE_ROW = (
    "A value of the row stands in your line. What an error was given, its `params`, and what its "
    "driver says, `args` and `detail`, are data: take the SQLSTATE, the class and the names."
)
_UNHEARD = "Nobody answered: such an error has no SQLSTATE, and your line does not tell its class."
_TELLING = (
    ("23505",),
    ("23514",),
    ("23502",),
    # asyncpg refuses the value itself, so this one's code is the driver's.
    ("22P02", "22000", "DataError"),
    ("StatementError", "LookupError"),
    ("22003", "22000", "DataError"),
)


# -- vault_engine --------------------------------------------------------------------------


async def shifts(
    vault_engine: Any, vault: dict[str, Any], secret_ids: list[str], table: str
) -> AsyncIterator[Any]:
    """Use engines that know where their password lies, while it is changed from outside."""
    import os

    import boto3
    from sqlalchemy import Engine, create_engine, text

    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    client = boto3.client(
        "secretsmanager",
        endpoint_url=vault["url"],
        region_name=vault["region"],
        aws_access_key_id=vault["access_key_id"],
        aws_secret_access_key=vault["secret_access_key"],
    )
    for secret_id in secret_ids:
        engine = vault_engine(client, secret_id)
        if isinstance(engine, Engine):
            raise TypeError("this engine is not async; create_async_engine makes one that is")
        try:
            async with engine.connect() as connection:
                yield await connection.scalar(text(f"table {table}"))
            for _ in range(20):
                async with engine.connect() as connection:
                    await connection.scalar(text("select 1"))
            yield None
            with create_engine("sqlite://").connect():  # another engine of the same program
                yield None
            for _ in range(2):
                # The password is another one by now, and the pool begins anew.
                await engine.dispose()
                async with engine.connect() as connection:
                    yield await connection.scalar(text(f"table {table}"))
        finally:
            await engine.dispose()
    client.close()


@lesson.exercise(
    "vault_engine",
    points=4,
    needs=("postgres", "secrets"),
    seconds=20.0,
    measures=("security.vault",),
    task="Write `vault_engine(client, secret_id)`: an async engine for the database that a secret "
    "describes (`username`, `password`, `host`, `port`, and `dbname` or `database`). Any sign may "
    "stand in the password. When the secret changes, the next new connection uses the new "
    "password; twenty requests in turn do not ask the manager twenty times.",
    hints=(
        "When is the password needed: for an engine, for a connection, for a request?",
        (
            "`URL.create` for the address. SQLAlchemy's event `do_connect` comes before each new "
            "connection, and lets you change what it is opened with."
        ),
        (
            "`@event.listens_for(engine.sync_engine, 'do_connect')` on a function of "
            "`(dialect, record, args, params)` that sets `params['password']`"
        ),
    ),
    slips=(
        Slip(
            "fstring",
            "SEC-21",
            "The password broke your URL: in the secret an @ is an @ and a blank is a blank, in a "
            "URL they mean something else.",
            (
                """
                import json
                def vault_engine(client, secret_id):
                    s = json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
                    database = s.get('dbname') or s['database']
                    return create_async_engine(
                        f"postgresql+asyncpg://{s['username']}:{s['password']}"
                        f"@{s['host']}:{s['port']}/{database}")
                """,
                """
                import json
                from sqlalchemy import event, make_url
                def vault_engine(client, secret_id):
                    def url():
                        s = json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
                        name = s['dbname'] if 'dbname' in s else s['database']
                        return make_url('postgresql+psycopg://%s:%s@%s:%s/%s' % (
                            s['username'], s['password'], s['host'], s['port'], name))
                    engine = create_async_engine(url())
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def fresh(dialect, record, args, params):
                        params['password'] = url().password
                    return engine
                """,
            ),
        ),
        Slip(
            "one_spelling",
            "SEC-24",
            "A secret may call the database `dbname`, as those of RDS do, or `database`; yours "
            "knows one of the two.",
            (
                """
                import json
                from sqlalchemy import URL
                def vault_engine(client, secret_id):
                    s = json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
                    return create_async_engine(URL.create(
                        'postgresql+asyncpg', s['username'], s['password'], s['host'],
                        int(s['port']), s['database']))
                """,
                """
                import json
                from sqlalchemy import URL, event
                def vault_engine(client, secret_id):
                    def read():
                        found = client.get_secret_value(SecretId=secret_id)
                        return json.loads(found['SecretString'])
                    s = read()
                    engine = create_async_engine(URL.create(
                        'postgresql+asyncpg', s['username'], host=s['host'], port=s['port'],
                        database=s['dbname']))
                    event.listen(engine.sync_engine, 'do_connect',
                                 lambda d, r, a, p: p.update(password=read()['password']))
                    return engine
                """,
            ),
        ),
        Slip(
            "each_checkout",
            "SEC-23",
            "Twenty requests on connections that could have stayed open, and the manager was "
            "asked again and again.",
            (
                """
                import json
                from sqlalchemy import URL, event
                from sqlalchemy.pool import NullPool
                def vault_engine(client, secret_id):
                    def read():
                        found = client.get_secret_value(SecretId=secret_id)
                        return json.loads(found['SecretString'])
                    s = read()
                    engine = create_async_engine(URL.create(
                        'postgresql+asyncpg', s['username'], host=s['host'], port=int(s['port']),
                        database=s.get('dbname') or s.get('database')), poolclass=NullPool)
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def fresh(dialect, record, args, params):
                        params['password'] = read()['password']
                    return engine
                """,
                """
                import json
                from sqlalchemy import URL, event
                def vault_engine(client, secret_id):
                    def read():
                        found = client.get_secret_value(SecretId=secret_id)
                        return json.loads(found['SecretString'])
                    s = read()
                    engine = create_async_engine(URL.create(
                        'postgresql+psycopg', s['username'], host=s['host'], port=int(s['port']),
                        database=s.get('dbname') or s.get('database')))
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def fresh(dialect, record, args, params):
                        params['password'] = read()['password']
                    @event.listens_for(engine.sync_engine, 'checkout')
                    def still_the_same(connection, record, proxy):
                        record.info['password'] = read()['password']
                    return engine
                """,
            ),
        ),
        Slip(
            "once",
            "SEC-22",
            "The secret was changed, and your next new connection came with the old password: "
            "Postgres refused it.",
            (
                """
                import json
                from sqlalchemy import URL
                def vault_engine(client, secret_id):
                    s = json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
                    return create_async_engine(URL.create(
                        'postgresql+asyncpg', s['username'], s['password'], s['host'],
                        int(s['port']), s.get('dbname') or s.get('database')))
                """,
                """
                import json
                from functools import cache
                from sqlalchemy import URL, event
                def vault_engine(client, secret_id):
                    @cache
                    def secret():
                        found = client.get_secret_value(SecretId=secret_id)
                        return json.loads(found['SecretString'])
                    s = secret()
                    engine = create_async_engine(URL.create(
                        'postgresql+psycopg', s['username'], host=s['host'], port=int(s['port']),
                        database=s['dbname'] if 'dbname' in s else s['database']))
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def fresh(dialect, record, args, params):
                        params['password'] = secret()['password']
                    return engine
                """,
            ),
        ),
    ),
    right=(
        """
        import json
        from sqlalchemy import URL, event
        def vault_engine(client, secret_id):
            def secret():
                found = client.get_secret_value(SecretId=secret_id)
                return json.loads(found["SecretString"])
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
        """,
        """
        import json
        from sqlalchemy import event
        def vault_engine(client, secret_id, name="postgresql+asyncpg"):
            engine = create_async_engine(f"{name}://")
            @event.listens_for(engine.sync_engine, "do_connect")
            def all_of_it(dialect, record, args, params):
                s = json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])
                params |= {"user": s["username"], "password": s["password"], "host": s["host"],
                           "port": s["port"], "database": s.get("dbname", s.get("database"))}
            return engine
        """,
        """
        import asyncio, json
        import asyncpg
        class Vault:
            def __init__(self, client, secret_id):
                self.ask = lambda: client.get_secret_value(SecretId=secret_id)['SecretString']
            async def connect(self):
                s = json.loads(await asyncio.to_thread(self.ask))
                return await asyncpg.connect(
                    user=s['username'], password=s['password'], host=s['host'], port=s['port'],
                    database=s.get('dbname', s.get('database')))
        def vault_engine(client, secret_id):
            return create_async_engine(
                'postgresql+asyncpg://', async_creator=Vault(client, secret_id).connect)
        """,
        """
        import json
        from sqlalchemy import URL
        def vault_engine(client, secret_id):
            read = lambda: json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
            s = read()
            url = URL.create('postgresql+asyncpg', s['username'], None, s['host'], int(s['port']),
                             s.get('dbname') or s.get('database'))
            return create_async_engine(
                url, connect_args={'password': lambda: read()['password']}, pool_pre_ping=True)
        """,
        """
        import json
        from functools import partial
        import psycopg
        from sqlalchemy.pool import NullPool
        class Kept:
            def __init__(self, client, secret_id):
                self.client, self.id, self.known = client, secret_id, None
            def read(self):
                self.known = json.loads(
                    self.client.get_secret_value(SecretId=self.id)['SecretString'])
            def dial(self):
                s = self.known
                return psycopg.AsyncConnection.connect(
                    user=s['username'], password=s['password'], host=s['host'], port=s['port'],
                    dbname=s.get('dbname') or s['database'])
            async def connect(self):
                if self.known is None:
                    self.read()
                try:
                    return await self.dial()
                except psycopg.OperationalError:
                    self.read()
                    return await self.dial()
        def build(pool, client, secret_id):
            return create_async_engine('postgresql+psycopg://', poolclass=pool,
                                       async_creator=Kept(client, secret_id).connect)
        vault_engine = partial(build, NullPool)
        """,
        """
        import asyncio, json
        from sqlalchemy import URL
        def vault_engine(client, secret_id):
            def read():
                found = client.get_secret_value(SecretId=secret_id)
                return json.loads(found['SecretString'])
            async def password():
                return (await asyncio.to_thread(read))['password']
            s = read()
            url = URL.create('postgresql+asyncpg', s['username'], None, s['host'], int(s['port']),
                             s.get('dbname') or s.get('database'))
            return create_async_engine(url, connect_args={'password': password, 'timeout': 10})
        """,
    ),
)
async def vault_engine(trial: Trial) -> None:
    witness, draw, vault = trial.witness, trial.draw, trial.lab.secrets
    table, word, safe = draw.word(), draw.word(), witness.safe(vault)
    names = {f"skerry/{draw.word()}": key for key in ("dbname", "database")}
    async with witness.app() as role:
        await _only_for(witness, role.name, table, word)

        async def rotate(name: str, signs: str = "@:/%41#? '") -> None:
            password = f"{draw.word(4)}{signs}{draw.word(4)}"
            await role.change_password(password)
            await safe.keep(name, _as_rds(trial.lab, password, names[name]))

        steps = trial.subject.steps(shifts, vault, list(names), table)
        for name in names:
            await rotate(name)
            read = _own(await steps.outcome())
            if read.value != word:
                await rotate(name, "")
                tame = await trial.subject.steps(shifts, vault, [name], table).outcome()
                expect(False, *_why_no_login(read, tame.value == word))
            before = await safe.asked(name)
            expect((await steps.outcome()).ok, "SEC-25", "One of twenty requests in turn failed.")
            expect(await safe.asked(name) - before <= 2, "SEC-23")
            expect((await steps.outcome()).ok, "SEC-26", _EVERYBODY)
            for _ in range(2):
                await rotate(name)
                expect((await steps.outcome()).value == word, "SEC-22")


_EVERYBODY = (
    "Another engine of the program was opened with this password, too: your listener hears them "
    "all, and not only the engine that you made."
)


async def _only_for(witness: Any, role: str, table: str, word: str) -> None:
    """A table with a word that the role, and no stranger, may read."""
    await witness.execute(
        f"create table {table} as select '{word}'::text as word;"
        f'grant usage on schema public to "{role}"; grant select on {table} to "{role}"'
    )


def _as_rds(lab: Any, password: str, key: str) -> dict[str, Any]:
    """A secret as a manager has it; the port is a number in one, and text in the other."""
    return {
        "engine": "postgres",
        "username": lab.app_user,
        "password": password,
        "host": lab.host,
        "port": lab.port if key == "dbname" else str(lab.port),
        key: lab.database,
    }


def _why_no_login(read: Outcome, tame: bool) -> tuple[str, str]:
    """Why nobody got in; ``tame``: whether it worked with a password of letters only."""
    failure = read.failure
    if failure is None:
        return "SEC-25", "Your engine led somewhere else than the secret says."
    if failure.is_a("KeyError") and failure.message in ("'dbname'", "'database'"):
        return "SEC-24", ""
    return ("SEC-21", "") if tame else ("SEC-25", f"Nobody got in: {failure.short.rstrip('.')}.")


# -- verified ------------------------------------------------------------------------------

_IMPOSTORS = {"impostor": "TLS-01", "impostor:other_name": "TLS-02", "impostor:no_tls": "TLS-03"}


async def ask_server(
    verified_engine: Any, url: str, ca_file: str, usual: str | None = None
) -> AsyncIterator[Any]:
    """Log in where the URL leads, and read what only the database knows.

    ``usual`` is the file of authorities that this machine trusts anyway.
    """
    import os
    from contextlib import ExitStack
    from importlib.util import find_spec
    from unittest.mock import patch

    from sqlalchemy import Engine, text

    with patch.dict(os.environ, {"SSL_CERT_FILE": usual} if usual else {}), ExitStack() as web:
        if usual and find_spec("certifi"):  # where many a program finds the web's authorities
            web.enter_context(patch("certifi.where", lambda: usual))
        engine = verified_engine(url, ca_file)
        if isinstance(engine, Engine):
            raise TypeError("this engine is not async; create_async_engine makes one that is")
        try:
            async with engine.connect() as connection:
                yield await connection.scalar(text("select word from verified_word"))
        finally:
            await engine.dispose()


@lesson.exercise(
    "verified_engine",
    points=5,
    needs=("postgres", *_IMPOSTORS),
    measures=("security.tls",),
    task="Write `verified_engine(url, ca_file)`: an engine that talks to the server which the "
    "certificate authority in `ca_file` vouches for, by the name in the URL, and to no other.",
    hints=(
        "Encrypted is one thing. Encrypted to whom?",
        "Python's `ssl` module makes a context that checks the authority and the name.",
        "`connect_args={'ssl': ssl.create_default_context(cafile=ca_file)}` for asyncpg",
    ),
    slips=(
        Slip(
            "require",
            "TLS-01",
            "The impostor showed a stranger's certificate, and heard you all the same.",
            (
                """
                def verified_engine(url, ca_file):
                    return create_async_engine(url, connect_args={'ssl': 'require'})
                """,
                """
                import ssl
                def verified_engine(url, ca_file):
                    context = ssl.create_default_context(cafile=ca_file)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                    return create_async_engine(url, connect_args={'ssl': context})
                """,
            ),
        ),
        Slip(
            "no_hostname",
            "TLS-02",
            "The right authority vouched for another host, and you told that host everything.",
            (
                """
                import ssl
                def verified_engine(url, ca_file):
                    context = ssl.create_default_context(cafile=ca_file)
                    context.check_hostname = False
                    return create_async_engine(url, connect_args={'ssl': context})
                """,
                """
                from sqlalchemy import make_url
                def verified_engine(url, ca_file):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    return create_async_engine(made.update_query_dict(
                        {'sslmode': 'verify-ca', 'sslrootcert': ca_file}))
                """,
            ),
        ),
        Slip(
            "in_clear",
            "TLS-03",
            "Offered no TLS, you went on in clear.",
            (
                """
                import ssl
                def verified_engine(url, ca_file):
                    async def connect():
                        import asyncpg
                        dsn = url.replace('+asyncpg', '')
                        context = ssl.create_default_context(cafile=ca_file)
                        try:
                            return await asyncpg.connect(dsn, ssl=context)
                        except ConnectionError:
                            return await asyncpg.connect(dsn, ssl=False)
                    return create_async_engine(url, async_creator=connect)
                """,
                """
                import ssl
                from sqlalchemy import event
                def verified_engine(url, ca_file):
                    engine = create_async_engine(url)
                    context = ssl.create_default_context(cafile=ca_file)
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def first_with(dialect, record, cargs, cparams):
                        try:
                            return dialect.connect(*cargs, **{**cparams, 'ssl': context})
                        except ConnectionError:
                            return dialect.connect(*cargs, **{**cparams, 'ssl': False})
                    return engine
                """,
            ),
        ),
        Slip(
            "other_authorities",
            "TLS-04",
            "You turned the real server away: the authority in `ca_file` vouches for it, and you "
            "asked others.",
            (
                """
                import ssl
                def verified_engine(url, ca_file):
                    return create_async_engine(
                        url, connect_args={'ssl': ssl.create_default_context()})
                """,
                """
                def verified_engine(url, ca_file):
                    return create_async_engine(
                        url.replace('+asyncpg', '+psycopg') + '?sslmode=verify-full')
                """,
            ),
        ),
    ),
    right=(
        """
        import ssl
        def verified_engine(url, ca_file):
            context = ssl.create_default_context(cafile=ca_file)
            return create_async_engine(url, connect_args={'ssl': context})
        """,
        """
        from sqlalchemy import make_url
        def verified_engine(url, ca_file):
            made = make_url(url).set(drivername='postgresql+psycopg')
            made = made.update_query_dict({'sslmode': 'verify-full', 'sslrootcert': ca_file})
            return create_async_engine(made)
        """,
        """
        import ssl, asyncpg
        def verified_engine(url, ca_file):
            async def connect():
                return await asyncpg.connect(
                    url.replace('+asyncpg', ''), ssl=ssl.create_default_context(cafile=ca_file))
            return create_async_engine('postgresql+asyncpg://', async_creator=connect)
        """,
        """
        import ssl
        from pathlib import Path
        def verified_engine(url, ca_file):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=Path(ca_file).read_text())
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            return create_async_engine(url, connect_args={'ssl': context, 'timeout': 10})
        """,
    ),
)
async def verified(trial: Trial) -> None:
    subject, lab, witness = trial.subject, trial.lab, trial.witness
    word = trial.draw.word()
    await witness.execute(f"create table verified_word as select '{word}'::text as word")
    for impostor, code in _IMPOSTORS.items():
        before = await _last_heard(trial, impostor)
        await subject.steps(ask_server, getattr(lab, impostor)["url"], lab.ca_file).outcome()
        expect(await _last_heard(trial, impostor) == before, code)
    steps = subject.steps(ask_server, lab.url, lab.ca_file)
    read = await steps.outcome()
    expect(not (read.failure and "certificate" in read.failure.message), "TLS-04")
    if read.failure:
        raise SubjectFailed(read.failure)
    expect(read.value == word, "TLS-04", "Your engine did not reach the real server.")
    expect(all(b.tls for b in await witness.backends()), "TLS-05", "Postgres saw you without TLS.")
    await _asks_nobody_else(trial)


async def _asks_nobody_else(trial: Trial) -> None:
    """Take the impostor's own authority: first as ``ca_file``, then as one the machine trusts."""
    subject, lab = trial.subject, trial.lab
    stranger, theirs = lab.impostor["url"], lab.impostor["ca_file"]
    before = await _last_heard(trial, "impostor")
    await subject.steps(ask_server, stranger, theirs).outcome()
    met = await _last_heard(trial, "impostor")
    expect(met != before, "TLS-04", _ALWAYS_OURS)
    await subject.steps(ask_server, stranger, lab.ca_file, theirs).outcome()
    expect(await _last_heard(trial, "impostor") == met, "TLS-06", _BESIDES)


async def _last_heard(trial: Trial, impostor: str) -> int:
    """Which was the last login that an impostor noted; it forgets the first ones in time."""
    notes = await trial.witness.overheard(impostor)
    return max((note["number"] for note in notes if note["what"] == "login"), default=0)


_ALWAYS_OURS = (
    "With another URL, and another authority in `ca_file`, you did not come to the server that "
    "they name: take both from the arguments, each time."
)
_BESIDES = (
    "Only the authority in `ca_file` was to vouch for the server, and you believed the machine's "
    "own authorities as well."
)


# -- desk_role -----------------------------------------------------------------------------


async def grant(desk_grants: Any, url: str, role: str) -> AsyncIterator[Any]:
    """Let the owner of the tables say what the answer says, all of it or nothing."""
    import asyncpg

    owner = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        said = desk_grants(role)
        said = [said] if isinstance(said, str) else said
        words = [one.as_string() if hasattr(one, "as_string") else str(one) for one in said]
        async with owner.transaction():
            for statement in filter(str.strip, words):
                await owner.execute(f"{statement}\n;select 1")  # it may be but a comment
    finally:
        await owner.close()
    yield None


_HARBOUR = """
    grant usage on schema public to public;
    create table ferry (id serial primary key, name text);
    create table sailing (id serial primary key, ferry_id int references ferry,
                          departs_at timestamptz, seats_left int check (seats_left >= 0));
    create table booking (id serial primary key, sailing_id int references sailing,
                          passenger text, seats int);
    create table staff (id serial primary key, name text, wage int);
    insert into ferry (name) values ('Alca');
    insert into sailing (ferry_id, departs_at, seats_left) values (1, now(), 20);
"""
_MAY = (
    ("select name from ferry", "read the ferries"),
    ("select departs_at, seats_left from sailing", "read the sailings"),
    ("select passenger, seats from booking", "read the bookings"),
    (
        "insert into booking (sailing_id, passenger, seats) values (1, 'Gull', 2)",
        "insert a booking",
    ),
    ("update sailing set seats_left = seats_left - 2 where id = 1", "take seats from a sailing"),
)
_MAY_NOT = (
    ("delete from booking", "delete bookings"),
    ("update booking set seats = 1", "change bookings"),
    ("delete from sailing", "delete sailings"),
    ("insert into sailing (seats_left) values (9)", "add sailings"),
    ("update sailing set departs_at = now()", "change the hour at which a ferry departs"),
    ("update ferry set name = 'Tern'", "rename ferries"),
    ("truncate booking", "empty the bookings"),
    ("drop table booking", "drop a table"),
    ("create table mine (n int)", "create tables"),
    ("select setval('booking_id_seq', 1)", "set the bookings' counter back"),
    ("insert into staff (name) values ('Auk')", "hire staff"),
)


@lesson.exercise(
    "desk_grants",
    points=4,
    measures=("security.rights",),
    task="Let an assistant write `desk_grants(role)`: the SQL statements with which the owner of "
    "`ferry`, `sailing`, `booking` and `staff` lets a role sell tickets: read the first three, "
    "insert bookings, change a sailing's `seats_left`; and read every table that the owner makes "
    "from now on. Nothing else. The role's name may be any text.",
    hints=(
        "Which verbs on which tables, and which of them on one column only?",
        (
            "A `serial` column takes its number from a sequence, which has rights of its own. For "
            "tables that are not made yet there is `alter default privileges`. And a name is "
            "quoted like this: "
            '`"`, the name with each `"` doubled, `"`.'
        ),
        (
            "`grant select on ferry, sailing, booking`, `grant insert on booking`, `grant usage on "
            "sequence booking_id_seq`, `grant update (seats_left) on sailing`, `alter default "
            "privileges grant select on tables`, each `to` the quoted role"
        ),
    ),
    slips=(
        Slip(
            "all",
            "SEC-32",
            "Postgres let the desk do more than sell.",
            (
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant usage on schema public to {name}',
                            f'grant all on all tables in schema public to {name}',
                            f'grant all on all sequences in schema public to {name}']
                """,
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant select on ferry, sailing to {name}',
                            f'grant select, insert, update, delete on booking to {name}',
                            f'grant update on sailing to {name}',
                            f'grant usage on sequence booking_id_seq to {name}',
                            f'alter default privileges grant select on tables to {name}']
                """,
            ),
        ),
        Slip(
            "no_sequence",
            "SEC-33",
            "Permission denied for the sequence of `booking`: the desk could insert, and got no "
            "number for it.",
            (
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant select on ferry, sailing, booking to {name}',
                            f'grant insert on booking to {name}',
                            f'grant update (seats_left) on sailing to {name}',
                            f'alter default privileges grant select on tables to {name}']
                """,
                """
                from psycopg.sql import SQL, Identifier
                def desk_grants(role):
                    who = Identifier(role)
                    return [SQL(words).format(who).as_string() for words in (
                        'grant select, insert on booking to {}',
                        'grant select on ferry to {}',
                        'grant select, update (seats_left) on sailing to {}',
                        'alter default privileges in schema public grant select on tables to {}')]
                """,
            ),
        ),
        Slip(
            "staff",
            "SEC-34",
            "The desk can read what everybody earns: `all tables` are all.",
            (
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant select on all tables in schema public to {name}',
                            f'grant insert on booking to {name}',
                            f'grant usage on sequence booking_id_seq to {name}',
                            f'grant update (seats_left) on sailing to {name}',
                            f'alter default privileges grant select on tables to {name}']
                """,
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    tables = ('ferry', 'sailing', 'booking', 'staff')
                    return [*(f'grant select on {table} to {name}' for table in tables),
                            f'grant insert on booking to {name}',
                            f'grant usage on booking_id_seq to {name}',
                            f'grant update (seats_left) on sailing to {name}',
                            f'alter default privileges in schema public '
                            f'grant select on tables to {name}']
                """,
            ),
        ),
        Slip(
            "today_only",
            "SEC-35",
            "A table that the owner made afterwards is closed to the desk: a grant is for what is "
            "there.",
            (
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant select on ferry, sailing, booking to {name}',
                            f'grant insert on booking to {name}',
                            f'grant usage on sequence booking_id_seq to {name}',
                            f'grant update (seats_left) on sailing to {name}']
                """,
                """
                def desk_grants(role):
                    name = '"' + role.replace('"', '""') + '"'
                    return [f'grant select on all tables in schema public to {name};'
                            f'revoke all on staff from {name};'
                            f'grant insert on booking to {name};'
                            f'grant usage, select on all sequences in schema public to {name};'
                            f'grant update (seats_left) on sailing to {name}']
                """,
            ),
        ),
        Slip(
            "unquoted",
            "SEC-36",
            "A role whose name has a blank and a quote in it broke your SQL: quote the name, and "
            "double each quote in it.",
            (
                """
                def desk_grants(role):
                    return [f'grant select on ferry, sailing, booking to {role}',
                            f'grant insert on booking to {role}',
                            f'grant usage on sequence booking_id_seq to {role}',
                            f'grant update (seats_left) on sailing to {role}',
                            f'alter default privileges grant select on tables to {role}']
                """,
                """
                def desk_grants(role):
                    verbs = ['select on ferry, sailing, booking', 'insert on booking',
                             'usage on sequence booking_id_seq', 'update (seats_left) on sailing']
                    return [*(f'grant {verb} to "{role}"' for verb in verbs),
                            f'alter default privileges grant select on tables to "{role}"']
                """,
            ),
        ),
    ),
    right=(
        """
        def desk_grants(role):
            name = '"' + role.replace('"', '""') + '"'
            return [
                f"grant select on ferry, sailing, booking to {name}",
                f"grant insert on booking to {name}",
                f"grant usage on sequence booking_id_seq to {name}",
                f"grant update (seats_left) on sailing to {name}",
                f"alter default privileges grant select on tables to {name}",
            ]
        """,
        """
        from psycopg.sql import SQL, Identifier
        class Grants(list):
            def __call__(self, role):
                return [SQL(words).format(Identifier(role)).as_string() for words in self]
        desk_grants = Grants([
            'grant usage on schema public to {}',
            'grant select, insert (sailing_id, passenger, seats) on booking to {}',
            'grant select on ferry to {}',
            'grant usage, select on sequence booking_id_seq to {}',
            'grant select, update (seats_left) on sailing to {}',
            'alter default privileges in schema public grant select on tables to {}',
        ])
        """,
        """
        from sqlalchemy.dialects.postgresql import dialect
        def desk_grants(role):
            who = dialect().identifier_preparer.quote(role)
            return f'''
                grant select on all tables in schema public to {who};
                revoke all on staff from {who};
                grant insert on booking to {who};
                grant usage on sequence booking_id_seq to {who};
                grant update (seats_left) on sailing to {who};
                alter default privileges grant select on tables to {who};
            '''
        """,
    ),
)
async def desk_role(trial: Trial) -> None:
    witness, draw, subject, url = trial.witness, trial.draw, trial.subject, trial.lab.url
    tomorrow, odd = draw.word(), f'{draw.word().title()} "{draw.word()}"'
    await witness.execute(_HARBOUR)
    async with witness.app() as role:

        async def refused(deed: str) -> bool:
            return (await role.refusal(deed)).startswith("42501")

        await subject.steps(grant, url, role.name).next()
        for deed, words in _MAY:
            said = await role.refusal(deed)
            expect("sequence" not in said, "SEC-33")
            expect(not said, "SEC-31", f"Postgres did not let the desk {words}.")
        for deed, words in _MAY_NOT:
            text = f"Postgres let the desk {words}, which is not selling."
            expect(await refused(deed), "SEC-32", text)
        expect(await refused("select wage from staff"), "SEC-34")
        await witness.execute(f"create table {tomorrow} (n int)")
        expect(not await refused(f"table {tomorrow}"), "SEC-35")
        _needed(await witness.fetch(_RIGHTS, role.name), tomorrow)
        other = await subject.steps(grant, url, odd).outcome()
    # Nobody is called so: whoever names this role, and no other, is told so by Postgres.
    expect(other.failure, "SEC-37", "Your statements do not name the role they are for.")
    expect(other.failure and not other.failure.line, "SEC-36", _TURNED_AWAY)
    expect(other.failure and other.failure.is_a("UndefinedObjectError"), "SEC-36")
    expect(odd in _words(other), "SEC-36")


_TURNED_AWAY = "Your function raised for a role whose name has a blank and a quote in it; quote it."

_RIGHTS = """
    select lower(privilege_type), what, is_grantable, grantee = 0
    from (
        select relname::text, relacl from pg_class where relnamespace = 'public'::regnamespace
        union all
        select format('%s (%s)', relname, attname), attacl
        from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace = 'public'::regnamespace
        union all
        select case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
            else 'other things' end || ' that come later', defaclacl
        from pg_default_acl where defaclobjtype in ('r', 'S', 'n')
        union all
        select 'the schema', nspacl from pg_namespace where nspname = 'public'
        union all
        select 'the database', datacl from pg_database where datname = current_database()
    ) as given (what, acl), aclexplode(acl)
    where grantee = (select oid from pg_roles where rolname = $1)
       or grantee = 0 and what not like 'the %'
"""
"""Each right that the role has, or everybody: the verb, on what, to pass on, to everybody."""

_SELLING = {
    "select": {"ferry", "sailing", "booking", "booking_id_seq", "tables that come later"},
    "insert": {"booking"},
    "update": {"sailing (seats_left)"},
    "usage": {"booking_id_seq", "the schema"},
    "connect": {"the database"},
}


def _needed(rights: list[Any], tomorrow: str) -> None:
    """Refuse what nobody would miss who sells; Postgres keeps account of all that was granted."""
    for verb, what, passed_on, everybody in rights:
        what = "tables that come later" if what == tomorrow else what
        right = f"`{verb}` on {what}"
        expect(not everybody, "SEC-37", f"You gave {right} to everybody, not to the desk alone.")
        selling = {what, what.partition(" (")[0]} & _SELLING.get(verb, set())
        expect(
            selling, "SEC-32", f"Postgres keeps {right} for the desk, which selling does not need."
        )
        expect(not passed_on, "SEC-32", f"The desk may pass {right} on to others.")


# -- scan ----------------------------------------------------------------------------------


async def search(find_secrets: Any, files: dict[str, str]) -> AsyncIterator[Any]:
    """What the answer finds in a repository with these files, and with a picture."""
    from pathlib import Path

    from engineroom.exercises.tools import place

    written = {path: text.encode("latin-1") for path, text in files.items()}
    with place({**written, "docs/ferry.png": b"\x89PNG\r\n\x1a\n\xff\xfe\x00\xff"}) as folder:
        found, within = [], True
        for path, line in find_secrets(folder):
            within = within and not Path(path).is_absolute()
            path = folder.resolve() / Path(path)
            found.append([path.resolve().relative_to(folder.resolve()).as_posix(), line])
    yield found
    yield within


@lesson.exercise(
    "find_secrets",
    points=3,
    needs=(),
    measures=("security.leaks", "security.configure"),
    task="Write `find_secrets(folder)`: a list of `(path, line)`, the path within `folder`, for "
    "every line of any file, UTF-8 or not, that shows a password in a URL, "
    "`scheme://user:password@host`. "
    "What stands there for a password (`***`, `{password}`, `${PASSWORD}`) is none. Files that "
    "the folder's `.gitignore` names are left out; its lines are names, `*.ending` or `folder/`.",
    hints=(
        "In which of the files could a URL stand? And which of them would git never take?",
        (
            "All files below `folder`, hidden ones too; leave out those of which a part of the "
            "path matches a line of `.gitignore`. Read the rest with `errors='replace'`."
        ),
        (
            r"`re.findall(r'\w://[^\s:/@]*:([^\s/@]+)@', line)`, and nothing that begins with "
            r"`*`, `{`, `$` or `<`; `fnmatch(part, pattern.rstrip('/'))` for part of the path"
        ),
    ),
    slips=(
        Slip(
            "env_only",
            "SEC-41",
            "A password stands in a file of another kind: an .ini, or the output that a notebook "
            "keeps.",
            (
                r"""
                import re
                def find_secrets(folder):
                    return [(file.relative_to(folder), number)
                            for file in folder.rglob('*.py')
                            for number, line in enumerate(file.read_text().splitlines(), 1)
                            if re.search(r'://[^\s:]*:[^\s@*{$]+@', line)]
                """,
                r"""
                import re
                def find_secrets(folder):
                    found = []
                    for file in folder.rglob('*'):
                        if file.suffix in ('.py', '.env', '.toml', '.yml') or file.name == '.env':
                            for number, line in enumerate(file.read_text().splitlines(), 1):
                                if re.search(r'://[^\s:]*:[^\s@*{$]+@', line):
                                    found.append((str(file.relative_to(folder)), number))
                    return found
                """,
            ),
        ),
        Slip(
            "every_url",
            "SEC-42",
            "`***` and `{password}` are no passwords; who is warned for nothing soon reads no "
            "warning.",
            (
                r"""
                import re
                from fnmatch import fnmatch
                def find_secrets(folder):
                    file = folder / '.gitignore'
                    ignored = file.read_text().split() if file.exists() else []
                    for file in folder.rglob('*'):
                        parts = file.relative_to(folder).parts
                        if file.is_dir() or any(
                                fnmatch(p, i.rstrip('/')) for p in parts for i in ignored):
                            continue
                        lines = file.read_text(errors='replace').splitlines()
                        for number, line in enumerate(lines, 1):
                            if re.search(r'\w+://[^\s/@]*:[^\s/@]*@', line):
                                yield file, number
                """,
                r"""
                from fnmatch import fnmatch
                def find_secrets(folder):
                    found, file = [], folder / '.gitignore'
                    ignored = file.read_text().splitlines() if file.exists() else []
                    for file in sorted(folder.rglob('*')):
                        parts = file.relative_to(folder).parts
                        if file.is_dir() or any(
                                fnmatch(p, i.strip('/')) for p in parts for i in ignored):
                            continue
                        for number, line in enumerate(file.read_bytes().split(b'\n'), 1):
                            rest = line.partition(b'://')[2]
                            if b':' in rest.partition(b'@')[0] and b'@' in rest:
                                found.append((file, number))
                    return found
                """,
            ),
        ),
        Slip(
            "ignored",
            "SEC-43",
            "git never takes that file: `.gitignore` names it.",
            (
                r"""
                import re
                def find_secrets(folder):
                    return [(file, number) for file in folder.rglob('*') if file.is_file()
                            for number, line in enumerate(
                                file.read_text(errors='replace').splitlines(), 1)
                            if re.search(r'\w+://[^\s:/@]*:[^\s/@*{$<]+@', line)]
                """,
                r"""
                import re
                def find_secrets(folder):
                    file = folder / '.gitignore'
                    ignored = file.read_text().splitlines() if file.exists() else []
                    for file in folder.rglob('*'):
                        if file.is_file() and file.name not in ignored:
                            text = file.read_bytes().decode('latin-1')
                            for found in re.finditer(r'\w+://[^\s:/@]*:[^\s/@*{$<]+@', text):
                                yield file, text[:found.start()].count('\n') + 1
                """,
            ),
        ),
        Slip(
            "hidden",
            "SEC-44",
            "No `.gitignore` names that hidden file (`.env` is not `.env.live`): git takes it like "
            "any other.",
            (
                r"""
                import re
                from fnmatch import fnmatch
                def find_secrets(folder):
                    file = folder / '.gitignore'
                    ignored = ['.*', *(file.read_text().split() if file.exists() else [])]
                    for file in folder.rglob('*'):
                        parts = file.relative_to(folder).parts
                        if file.is_dir() or any(
                                fnmatch(p, i.rstrip('/')) for p in parts for i in ignored):
                            continue
                        lines = file.read_text(errors='replace').splitlines()
                        for number, line in enumerate(lines, 1):
                            if re.search(r'\w+://[^\s:/@]*:[^\s/@*{$<]+@', line):
                                yield file, number
                """,
                r"""
                import glob, re
                from fnmatch import fnmatch
                from pathlib import Path
                def find_secrets(folder):
                    file = folder / '.gitignore'
                    ignored = file.read_text().split() if file.exists() else []
                    for name in glob.glob('**/*', root_dir=folder, recursive=True):
                        file = folder / name
                        if file.is_dir() or any(fnmatch(p, i.rstrip('/'))
                                                for p in Path(name).parts for i in ignored):
                            continue
                        lines = file.read_text(errors='replace').splitlines()
                        for number, line in enumerate(lines, 1):
                            if re.search(r'\w+://[^\s:/@]*:[^\s/@*{$<]+@', line):
                                yield name, number
                """,
            ),
        ),
    ),
    right=(
        r"""
        import re
        from fnmatch import fnmatch
        def find_secrets(folder):
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
                            found.append((path, number))
            return found
        """,
        r"""
        import os, re
        from fnmatch import fnmatch
        from pathlib import Path
        URL = re.compile(rb'[a-z]://[^\s:/@"]*:(?![*$<{])[^\s/@"]+@')
        class Finder:
            def skipped(self, name):
                return any(fnmatch(name, line) for line in self.lines)
            def __call__(self, folder):
                self.folder = folder
                try:
                    self.lines = Path(folder, '.gitignore').read_text().replace('/', '').split()
                except FileNotFoundError:
                    self.lines = []
                for here, folders, names in os.walk(folder):
                    folders[:] = [name for name in folders if not self.skipped(name)]
                    for name in names:
                        if not self.skipped(name):
                            yield from self.within(os.path.join(here, name))
            def within(self, path):
                with open(path, 'rb') as file:
                    for number, line in enumerate(file, 1):
                        if URL.search(line):
                            yield os.path.relpath(path, self.folder), number
        find_secrets = Finder()
        """,
        r"""
        import re
        from urllib.parse import urlsplit
        def find_secrets(folder):
            file = folder / '.gitignore'
            lines = file.read_text().splitlines() if file.exists() else []
            out = {hit for line in lines if line for hit in folder.rglob(line.rstrip('/'))}
            def ours(file):
                return file.is_file() and not out & {file, *file.parents}
            def password(url):
                try:
                    return urlsplit(url).password or ''
                except ValueError:
                    return ''
            return sorted({
                (str(file.relative_to(folder)), number)
                for file in folder.rglob('*') if ours(file)
                for number, line in enumerate(file.read_text(errors='ignore').split('\n'), 1)
                for url in re.findall(r'\w+://[^\s"\']+', line.replace('\\', ' '))
                if password(url).strip('*') and password(url)[0] not in '${<'})
        """,
    ),
)
async def scan(trial: Trial) -> None:
    for ignores in (True, False):
        files, wanted, innocent = _repository(trial.draw, ignores)
        steps = trial.subject.steps(search, files)
        found = await steps.next()
        pairs = type(found) is list and all(type(line) is int for _, line in found)
        expect(pairs, "SEC-45", "`find_secrets` returns a list of (path, line), the line a number.")
        found = {(path, line) for path, line in found}
        missed = [(place, code) for place, code in wanted.items() if place not in found]
        for place, code in missed:
            expect(code == "SEC-50", code, _MISSED.get(code, "").format(_at(place)))
        for code in ("SEC-43", "SEC-42"):
            # A rule of thumb may be wrong once.
            expect(sum(innocent.get(place) == code for place in found) <= 1, code)
        strange = sorted(p for p in found - set(wanted) if innocent.get(p, "SEC-46") == "SEC-46")
        expect(len(strange) <= 1, "SEC-46", f"There is no password in {_at(*strange[:1])}.")
        for place, code in missed:
            expect(False, code, _MISSED[code].format(_at(place)))
        within = await steps.next()
    expect(within is True, "SEC-48", _ABSOLUTE)


_MISSED = {
    "SEC-45": "You missed {}.",
    "SEC-47": "You missed {}: that text is not UTF-8, and its lines count all the same.",
    "SEC-50": "You missed {}: such a sign may stand within a password, too.",
    "SEC-49": "You left out {}, and `.gitignore` names another: only a part of the name is alike.",
}
_ABSOLUTE = "You gave the path on this machine; the one within the folder was asked for."


def _at(place: tuple[str, int] = ("", 0)) -> str:
    return f"line {place[1]} of {place[0]}"


_Place = tuple[str, int]


def _repository(
    draw: Draw, ignores: bool
) -> tuple[dict[str, str], dict[_Place, str], dict[_Place, str]]:
    """Files; where a password stands, and the code if it is missed; where it only seems so."""
    wanted: dict[_Place, str] = {}
    innocent: dict[_Place, str] = {}
    files: dict[str, str] = {}

    def write(path: str, line: str, code: str, harmless: bool = False) -> None:
        before = [f"{draw.choice('#;-')} {draw.word()}" for _ in range(draw.randint(0, 9))]
        files[path] = "\n".join([*before, line, draw.word(), ""])
        (innocent if harmless else wanted)[path, len(before) + 1] = code

    def url(password: str, scheme: str = "postgresql+asyncpg", user: str | None = None) -> str:
        return (
            f"{scheme}://{draw.word(5) if user is None else user}:{password}@{draw.word()}/skerry"
        )

    def secret() -> str:
        return f"{draw.word(5)}%4{draw.randint(0, 9)}{draw.word(3)}"

    def write_more(path: str, line: str) -> None:
        wanted[path, files[path].count("\n") + 1] = "SEC-45"
        files[path] += f"{line}\n"

    write(f"{draw.word()}/database.py", f'DATABASE_URL = "{url(secret())}"', "SEC-45")
    write(f"{draw.word()}.ini", f"sqlalchemy.url = {url(secret(), 'postgresql')}", "SEC-41")
    write(f"deploy/{draw.word()}.yml", f"  cache: {url(secret(), 'redis', '')}", "SEC-41")
    write(f"{draw.word()}.ipynb", f'     "{url(secret())}\\n"', "SEC-41")
    for path in [path for path in files if path.endswith(".py")]:
        write_more(path, f"# was: {url('***')} and {url(secret())}")
    write(f"{draw.word()}.txt", f"caf\xe9 {url(secret())}", "SEC-47")
    for shown in ("***", "{password}", "${DB_PASSWORD}"):
        write(f"{draw.word()}/{draw.word()}.py", f'print("{url(shown)}")', "SEC-42", True)
    write(f"{draw.word()}.md", f"postgresql://{draw.word()}@localhost:5432/skerry", "SEC-46", True)
    write(
        f"{draw.word()}.txt", f"https://{draw.word()}.example/a:b?c=d, d@e.example", "SEC-46", True
    )
    ending, folder = draw.word(4), draw.word()
    named = [".env", f"{folder}/notes/{draw.word()}.txt"]
    for _ in range(2):  # of each kind, at a depth: one false alarm is forgiven
        deep = draw.word()
        named += [f"{deep}/.env", f"{deep}/{draw.word()}.{ending}", f"{deep}/{folder}/a.txt"]
    for path in named:
        line = f"DATABASE_URL={url(secret())}"
        missed = "SEC-44" if path.endswith(".env") else "SEC-45"
        write(path, line, "SEC-43" if ignores else missed, ignores)
    write(".env.live", f"DATABASE_URL={url(secret())}", "SEC-44")
    for alike in (f"{folder}{draw.word(2)}/{draw.word()}.txt", f"{draw.word()}.{ending}x"):
        write(alike, f"DATABASE_URL={url(secret())}", "SEC-49" if ignores else "SEC-45")
    if not ignores:
        inside = f"{draw.word(3)}$*{{{draw.word(3)}"
        write(f"{draw.word()}.cfg", f"url = {url(inside)}", "SEC-50")
    if ignores:
        files[".gitignore"] = f".env\n*.{ending}\n{folder}/\n"
    return files, wanted, innocent


lesson.codes |= {
    "SEC-01": "Where DATABASE_URL is not set, the file `.env` in the current folder is read. "
    "pydantic-settings reads it only when `model_config` names it. `load_dotenv()` and "
    "`dotenv_values()` look beside the program's file, unless they are given the path: "
    "`load_dotenv('.env')`. Print what they found.",
    "SEC-02": "A `.env` is shared: other programs keep their keys there. `BaseSettings` forbids "
    "what it does not know unless you say `extra='ignore'`; a dataclass refuses an argument that "
    "is no field. Take out what is yours.",
    "SEC-03": "The environment is what somebody says now, the file is what stood there before. "
    "`load_dotenv()` leaves a variable alone that is set, unless `override=True`; "
    "pydantic-settings asks the environment first. When you merge dictionaries, the last one wins.",
    "SEC-04": "`os.getenv(name)` gives None and goes on, and a default URL starts the program with "
    "a database that nobody chose. `os.environ[name]` and a field without a default raise.",
    "SEC-05": "A set DATABASE_URL is enough: on a server there is no `.env`. Reading a file that "
    "is not there must be no error.",
    "SEC-06": "An error message goes into logs. pydantic's repeats the input that it could not "
    "use, and for a missing field that is everything it has read. "
    "`hide_input_in_errors=True` leaves it out. A message of your own does, if it is raised "
    "`from None`: else a traceback shows pydantic's above it.",
    "SEC-07": "`print(settings)`, an f-string, a traceback with variables: all of them show the "
    "repr. `SecretStr`, SQLAlchemy's `URL`, or a field with `repr=False` keep the password out.",
    "SEC-08": "Whoever starts the program reads your error and wants to know what to set. Let the "
    "name DATABASE_URL stand in it: KeyError and pydantic's error have it by themselves.",
    "SEC-09": "What `database_url` holds has to lead to the database: the URL itself, without the "
    "quotes around it in `.env`, or a secret type with the URL in it. `str(url)` of SQLAlchemy's "
    "has `***` for a password, and nobody logs in with that.",
    "SEC-11": "Postgres adds a DETAIL to many errors, and psycopg shows it: the key that is there "
    "already, or the whole row. `hide_parameters=True` is SQLAlchemy's and hides what "
    "SQLAlchemy would add. Print `str(error)` of a duplicate key through psycopg.",
    "SEC-12": "Without DETAIL there is still the message. `invalid input syntax for type integer: "
    "...` quotes the value, and so does asyncpg's `invalid input for query argument`. Take no "
    "words of the message; SQLSTATE and names say what you need.",
    "SEC-13": "A line that says only `database error` makes nobody wiser. SQLSTATE is five signs "
    "that name the kind of trouble and no value: `error.orig.sqlstate`, with both drivers.",
    "SEC-14": "SQLAlchemy refuses some values before a driver sees them. Then `error.orig` is a "
    "Python exception: it has no SQLSTATE, and its text has the value. Its class is safe.",
    "SEC-15": "psycopg has the constraint in `error.orig.diag.constraint_name`. With asyncpg "
    "SQLAlchemy wraps the error once more: it is `error.orig.__cause__.constraint_name`. Not every "
    "error has one.",
    "SEC-16": "A log line is a `str` without line breaks. When the server does not answer, there "
    "is no SQLSTATE, and asyncpg's error has no `orig` either: `type(error).__name__` is there "
    "with every error.",
    "SEC-21": "In a secret, the password stands as it is. In a URL, @ and : and / and % mean "
    "something, and what `quote_plus` makes of a blank, a +, stays a + there. Give the parts to "
    "`URL.create`, or to the driver by name.",
    "SEC-22": "A password may change while your program runs. Connections that are open live on; "
    "a new one needs today's. Ask the manager when a connection is opened: SQLAlchemy's event "
    "`do_connect`, `async_creator`, or a callable `password` for asyncpg.",
    "SEC-23": "A secrets manager is slow beside a database, and is paid by the question. Ask it "
    "when a connection is opened, and keep connections open in a pool. "
    "`NullPool` opens one for each request; the event `checkout` comes with each request too.",
    "SEC-24": "RDS writes `dbname` into the secrets that it makes, people write `database`. "
    "`secret.get('dbname') or secret.get('database')`.",
    "SEC-25": "An engine for an ordinary secret did not reach the database that it describes. Use "
    "yours with `lab.secrets` in a cell: the exception tells more.",
    "SEC-26": "`event.listens_for(Engine, ...)` listens to the class, so to every engine that the "
    "program has. Name the one you mean: `engine.sync_engine`.",
    "SEC-31": "The desk cannot do its work. The card says what Postgres refused. Try it by hand: "
    "grant to `lab.postgres`'s app role, log in with `lab.app_url`.",
    "SEC-32": "`all` means delete, truncate and more; `all sequences` are those of `staff` too; "
    "`with grant option` lets the desk give on what it has. Name each verb and each table; an "
    "`update` may be given for one column: `grant update (seats_left) on sailing`. The card says "
    "what Postgres let pass, or has written down.",
    "SEC-33": "`serial` makes a sequence that hands the numbers out, with rights of its own: "
    "`grant usage on sequence booking_id_seq`. (An `identity` column needs none.)",
    "SEC-34": "`all tables in schema public` has `staff` in it. Name the tables that the desk may "
    "read, or take `staff` back afterwards.",
    "SEC-35": "A grant is for what exists. For tables that the same owner makes later: "
    "`alter default privileges grant select on tables to ...`.",
    "SEC-36": "Raw text in SQL is read as SQL. A name stands in double quotes, and each double "
    "quote in it is doubled; `psycopg.sql.Identifier` does it. Without, a role's name can end "
    "your statement and begin another.",
    "SEC-37": "What `public` is granted, everybody has. Each statement names the role that it is "
    "for: then Postgres minds when there is no such role.",
    "SEC-41": "Passwords are found where nobody looks: in .ini files of migrations, in what a "
    "notebook printed last week. Read every file, whatever it is called.",
    "SEC-42": "`***` is what a masked URL shows, and `{password}` or `${PASSWORD}` are filled in "
    "later. Look at the first sign of what stands between : and @.",
    "SEC-43": "A file that `.gitignore` names is not committed. A line there may be a name, an "
    "ending (`*.env`) or a folder (`notes/`), and holds for every folder below.",
    "SEC-44": "`.env` is ignored by git only where `.gitignore` says so. `rglob('*')` gives hidden "
    "files too; `glob.glob` does not.",
    "SEC-45": "A line with a password in a URL was not found, or what came back was no list of "
    "(path, line). Lines count from 1; a user's name may be missing before the colon.",
    "SEC-46": "Not every colon before an @ is a password: there are addresses without one, and "
    "mail. A password stands right behind `://user:` and ends at the next @.",
    "SEC-47": "A text in an older encoding is no UTF-8, and its lines are read all the same: "
    "`read_text(errors='replace')`, or `read_bytes()`. Who steps over every file that cannot be "
    "decoded steps over this one too.",
    "SEC-48": "The path is the one within the folder, as git would say it: "
    "`file.relative_to(folder)`, or `os.path.relpath(file, folder)`.",
    "SEC-49": "`drafts/` names the folder `drafts`, and not `drafts2`; `*.bak` names what ends "
    "so, and `.env` is not `.env.live`. Compare whole parts of the path: `fnmatch(part, pattern)`, "
    "and not `in`.",
    "SEC-50": "`***`, `{password}` and `${PASSWORD}` begin with their sign. A password may have a "
    "`*`, a `$` or a `{` further on: look at the first sign only.",
    "TLS-01": "An encrypted line to a stranger is still a line to a stranger. Compare with "
    "`lab.impostor.url`: what it heard is in `lab.impostor.heard()`. Let the driver check "
    "the certificate against `lab.ca_file`.",
    "TLS-02": "An authority vouches for many hosts. Without comparing the name in the "
    "certificate with the one in the URL, any of them can stand in for yours.",
    "TLS-03": "A server that offers no TLS may be somebody who took it away. Whoever goes on "
    "in clear tells them the password.",
    "TLS-04": "The real server, whose certificate the authority signed for the name in the "
    "URL, could not be reached. Which authorities did you ask? `ssl.create_default_context()` asks "
    "those of your system; `cafile=` names another. Take the `ca_file` that the function is given.",
    "TLS-05": "Postgres lists for each connection whether it is encrypted; yours was not.",
    "TLS-06": "`ssl.create_default_context()` without a file, and `load_default_certs()`, take the "
    "authorities that the machine trusts for the web: any of them can vouch for an impostor. "
    "`ssl.create_default_context(cafile=ca_file)` takes that one and no other.",
}
