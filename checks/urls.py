"""03 urls: what people paste."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

from engineroom.exercises import Draw, Lesson, Objective, Outcome, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed
from engineroom.exercises.tools import closed_port

lesson = Lesson(
    "urls",
    "What people paste",
    minutes=35,
    stuck="Take one URL apart by hand with `make_url`, and change a part at a time.",
    further="Write the way back: text that `psql` takes, from a URL for either driver.",
    objectives=(
        Objective(
            "urls.convert",
            "Turn a pasted URL into one for an async driver.",
            "apply",
            "B1",
            "Database URLs",
        ),
        Objective(
            "urls.compose",
            "Put a URL together from parts that nobody has checked.",
            "apply",
            "B1",
            "Database URLs",
        ),
        Objective(
            "urls.options",
            "Say which keys of a URL belong to which driver, and keep what they ask for.",
            "analyze",
            "B1",
            "Database URLs",
        ),
        Objective(
            "urls.hide",
            "Log where a program connects without its secrets.",
            "apply",
            "A2",
            "Database URLs",
        ),
        Objective(
            "urls.diagnose",
            "Tell a connection's failures apart by what they carry.",
            "analyze",
            "B1",
            "Database URLs",
        ),
    ),
)

_EAR, _NO_TLS = "impostor:asks_password", "impostor:no_tls"
_OTHER_NAME = "impostor:other_name"


async def read_word(make_url: Any, given: Any, table: str) -> AsyncIterator[Any]:
    """Log in with the URL that the answer makes, and read what only the database knows."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(make_url(given))
    try:
        async with engine.connect() as connection:
            yield await connection.scalar(text(f"table {table}"))
    finally:
        await engine.dispose()


def _own(read: Outcome) -> Outcome:
    """Pass on what a slip of the pen raised in the answer itself: its author has to read that."""
    failure, typing = read.failure, {"NameError", "AttributeError", "ImportError", "LookupError"}
    if failure and failure.line and typing & {failure.type, *failure.bases}:
        raise SubjectFailed(failure)
    return read


async def refuses(make_url: Any, given: Any) -> AsyncIterator[Any]:
    """Whether the answer refuses what is no URL, and with which exception."""
    try:
        make_url(given)
    except ValueError:
        yield "ValueError"
    except Exception as error:
        yield type(error).__name__
    else:
        yield "nothing"


async def starts(make_url: Any, given: Any) -> AsyncIterator[Any]:
    """Whether a program would start with what the answer makes of something that is no URL."""
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        create_async_engine(make_url(given))
    except Exception:
        yield False
    else:
        yield True


async def read_file(to_async: Any, pasted: str, name: str, word: str) -> AsyncIterator[Any]:
    """Put a word into an SQLite file, and read it where the answer's URL leads."""
    import sqlite3
    import tempfile
    from contextlib import chdir
    from pathlib import Path

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        with sqlite3.connect(name) as file:
            file.execute("create table log (word text)")
            file.execute("insert into log values (?)", (word,))
        file.close()
        whole = str(Path(folder).resolve() / name)
        engine = create_async_engine(to_async(pasted.format(name=name, whole=whole)))
        try:
            async with engine.connect() as connection:
                yield await connection.scalar(text("select word from log"))
        finally:
            await engine.dispose()


@lesson.exercise(
    "to_async",
    points=2,
    needs=("postgres", _EAR),
    measures=("urls.convert",),
    task="Write `to_async(url)`: take a database URL as people paste it, and return one (text or "
    "`URL`) that `create_async_engine` accepts and that leads to the same place. Where there is "
    "no URL, raise a ValueError.",
    hints=(
        "Would you cut the text, or read it as the URL that it is?",
        "`make_url` reads it; case does not matter in a scheme; blanks and quotes get pasted too.",
        "`make_url(url.strip().strip('\"\\''))`, then `.set(drivername=...)`",
    ),
    slips=(
        Slip(
            "upper_case",
            "URL-01",
            "`POSTGRES://` is a scheme too: upper and lower case mean the same there.",
            (
                """
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    for old in ('postgresql+psycopg2://', 'postgresql://', 'postgres://'):
                        if url.startswith(old):
                            return 'postgresql+asyncpg://' + url[len(old):]
                    return url.replace('sqlite://', 'sqlite+aiosqlite://', 1)
                """,
                """
                import re
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip(' \\n"\\'')
                    url = re.sub(r'^postgres(ql)?(\\+psycopg2)?://', 'postgresql+asyncpg://', url)
                    return re.sub(r'^sqlite://', 'sqlite+aiosqlite://', url)
                """,
            ),
        ),
        Slip(
            "replace_all",
            "URL-02",
            "You changed the password as well: the scheme stands at the beginning only.",
            (
                """
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    url = scheme.lower() + '://' + rest
                    url = url.replace('+psycopg2', '').replace('+asyncpg', '')
                    url = url.replace('postgres:', 'postgresql:')
                    url = url.replace('postgresql:', 'postgresql+asyncpg:')
                    return url.replace('sqlite:', 'sqlite+aiosqlite:')
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    new = {'sqlite': 'sqlite+aiosqlite'}.get(
                        scheme.lower().split('+')[0], 'postgresql+asyncpg')
                    return f'{new}://{rest}'.replace('postgres:', 'postgresql:')
                """,
            ),
        ),
        Slip(
            "masked",
            "URL-03",
            "`str(url)` hides the password: the login was tried with `***`.",
            (
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    made = make_url(scheme.lower().replace('postgres:', '') + '://' + rest)
                    lite = made.drivername.startswith('sqlite')
                    return str(made.set(drivername='sqlite+aiosqlite' if lite
                                        else 'postgresql+asyncpg'))
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    made = make_url(url.strip().strip('"\\''))
                    lite = made.drivername.lower().startswith('sqlite')
                    new = 'sqlite+aiosqlite' if lite else 'postgresql+asyncpg'
                    return f'{made.set(drivername=new)}'
                """,
            ),
        ),
        Slip(
            "silent",
            "URL-04",
            "An empty or missing URL went through; whoever starts the app should get a ValueError.",
            (
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: return 'sqlite+aiosqlite:///dev.db'
                    made = make_url(url.strip().strip('"\\''))
                    lite = made.drivername.lower().startswith('sqlite')
                    return made.set(drivername='sqlite+aiosqlite' if lite
                                    else 'postgresql+asyncpg')
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    made = make_url((url or '').strip().strip('"\\'') or 'sqlite://')
                    lite = made.drivername.lower().startswith('sqlite')
                    return made.set(drivername='sqlite+aiosqlite' if lite
                                    else 'postgresql+psycopg')
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import make_url
        def to_async(url):
            if not url or not url.strip(): raise ValueError('no URL')
            made = make_url(url.strip().strip('"\\''))
            lite = made.get_backend_name().lower() == 'sqlite'
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg')
        """,
        """
        def to_async(url):
            text = (url or '').strip().strip('\\'"').strip()
            scheme, found, rest = text.partition('://')
            if not found: raise ValueError('no URL')
            kind = scheme.lower().partition('+')[0]
            return {'sqlite': 'sqlite+aiosqlite://'}.get(kind, 'postgresql+psycopg://') + rest
        """,
        """
        import re
        class Converter:
            def __call__(self, url):
                m = re.match(r'''\\s*["']?\\s*([a-z]+)(?:\\+\\w+)?(://[^"'\\s]*)''',
                             url or '', re.I)
                if m is None: raise ValueError(url)
                lite = m[1].lower() == 'sqlite'
                return ('sqlite+aiosqlite' if lite else 'postgresql+asyncpg') + m[2]
        to_async = Converter()
        """,
    ),
)
async def to_async(trial: Trial) -> None:
    subject, lab, word = trial.subject, trial.lab, trial.draw.word()
    for pasted in _PASTED:
        await _same_login(trial, *pasted)
    await trial.witness.execute(f"create table urls_word as select '{word}'::text as word")
    for scheme in ("postgresql+asyncpg", "postgresql+psycopg2"):
        url = f"{scheme}://{lab.sync_url.partition('://')[2]}"
        read = _own(await subject.steps(read_word, url, "urls_word").outcome())
        expect(read.value == word, "URL-05", f"`{scheme}://` did not lead to your database.")
    for file in _FILES:
        read = await subject.steps(read_file, file, f"{trial.draw.word()}.db", word).outcome()
        shown = file.format(name="desk.db", whole="/a/folder/desk.db")
        expect(read.value == word, "URL-07", f"`{shown}` did not lead to its file.")
    expect(await subject.steps(starts, "sqlite://").next(), "URL-07", _IN_MEMORY)
    for nothing in ("", None):
        came = await subject.steps(refuses, nothing).next()
        other = f"For {nothing!r} you raised {came}; a ValueError was asked for."
        expect(came == "ValueError", "URL-04", "" if came == "nothing" else other)
    for junk in (" \n", "''", f"see {word}"):
        went = await subject.steps(starts, junk).next()
        expect(not went, "URL-04", f"A program would start with `{junk!r}`, which is no URL.")


async def _same_login(trial: Trial, start: str, end: str, code: str, text: str) -> None:
    """Whoever logs in with the answer's URL says what the pasted one says, letter for letter."""
    draw, ear = trial.draw, getattr(trial.lab, _EAR)
    user, database = draw.word(), draw.word()
    secret = f"{draw.word().upper()}postgres:{draw.word(3)}%41"
    who = f"{user}:{secret.replace('%', '%25')}"
    pasted = f"{start}://{who}@{_at(ear)}/{database}{end}"
    if code == "URL-09":
        pasted = f"{start}://{who}@/{database}?host={ear['host']}&port={ear['port']}"
    dialled = await trial.subject.steps(read_word, pasted, "none").outcome()
    heard = await trial.witness.logins_at(_EAR, user)
    if code == "URL-05":
        _own(dialled)
    expect((database, "***") not in heard, "URL-03")
    expect(all(told == secret for _, told in heard), "URL-02")
    expect((database, secret) in heard, code, text)


_PASTED = (
    # how it begins and ends, and what to say if the login did not come through
    ("postgresql", "", "URL-05", "`postgresql://` did not lead to its server."),
    ("POSTGRES", "", "URL-01", ""),
    (
        "PostgreSQL+AsyncPG",
        "",
        "URL-08",
        "`PostgreSQL+AsyncPG://` is async already; it did not come through.",
    ),
    ("  'postgres", "'\n", "URL-06", "Blanks and quotes around a URL get pasted with it."),
    ("PostgreSQL", "", "URL-09", "In `...@/skerry?host=...&port=...` the place got lost."),
)

_FILES = (
    "sqlite:///./{name}",
    '"SQLite:///{whole}"',
    "sqlite+aiosqlite:///./{name}",
)


_IN_MEMORY = "`sqlite://`, with no file behind it, is SQLite in memory; you made no engine of it."


def _at(place: dict[str, Any]) -> str:
    return f"{place['host']}:{place['port']}"


async def told_to_driver(from_parts: Any, parts: Any) -> AsyncIterator[Any]:
    """What a driver is given for the URL that the answer makes, without any login."""
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import create_async_engine

    made = make_url(from_parts(told := dict(parts)))
    _, given = create_async_engine(made).dialect.create_connect_args(made)
    yield {
        "user": given.get("user"),
        "password": given.get("password"),
        "host": given.get("host"),
        "port": int(given.get("port") or 5432),
        "database": given.get("database", given.get("dbname")),
        "kept": parts.keys() <= told.keys(),
    }


@lesson.exercise(
    "from_parts",
    points=2,
    needs=("postgres", _EAR),
    measures=("urls.compose",),
    task="Write `from_parts(p)`: from a dictionary with `user`, `password`, `host`, `port` and "
    "`database` make a URL (text or `URL`) for `create_async_engine`. Any character may stand in "
    "a part; the port may be text, empty or absent, and then it is the usual one.",
    hints=(
        "If the password holds an @, who says where it ends?",
        "Do not glue text: `sqlalchemy.URL` has a maker that takes the parts as they are.",
        (
            "`URL.create('postgresql+asyncpg', p['user'], p['password'], p['host'], port, "
            "p['database'])`, with `port = p.get('port') or None`"
        ),
    ),
    slips=(
        Slip(
            "glued",
            "URL-11",
            "The @ in the password ended it, and what came after was taken for the host.",
            (
                """
                def from_parts(p):
                    port = p.get('port') or 5432
                    return (f"postgresql+asyncpg://{p['user']}:{p['password']}"
                            f"@{p['host']}:{port}/{p['database']}")
                """,
                """
                def from_parts(p):
                    p = {**p, 'port': p.get('port') or 5432}
                    return 'postgresql+psycopg://%(user)s:%(password)s@%(host)s:%(port)s/' \\
                        '%(database)s' % p
                """,
            ),
        ),
        Slip(
            "half_quoted",
            "URL-12",
            "`%41` in a password came in as `A`: a percent sign has to be escaped itself.",
            (
                """
                def from_parts(p):
                    password = p['password']
                    for sign in '@:/?#&':
                        password = password.replace(sign, f'%{ord(sign):02X}')
                    port = p.get('port') or 5432
                    return (f"postgresql+asyncpg://{p['user']}:{password}"
                            f"@{p['host']}:{port}/{p['database']}")
                """,
                """
                from urllib.parse import quote
                def from_parts(p):
                    password, port = quote(p['password'], safe='%'), p.get('port') or 5432
                    return (f"postgresql+psycopg://{p['user']}:{password}"
                            f"@{p['host']}:{port}/{p['database']}")
                """,
            ),
        ),
        Slip(
            "plus",
            "URL-13",
            "A blank arrived as `+`: that is how forms escape it, and URLs do not.",
            (
                """
                from urllib.parse import quote_plus
                def from_parts(p):
                    password, port = quote_plus(p['password']), p.get('port') or 5432
                    return (f"postgresql+asyncpg://{p['user']}:{password}"
                            f"@{p['host']}:{port}/{p['database']}")
                """,
                """
                from urllib.parse import urlencode
                def from_parts(p):
                    password = urlencode({'p': p['password']})[2:]
                    where = p['host'] + (f":{p['port']}" if p.get('port') else '')
                    return f"postgresql+asyncpg://{p['user']}:{password}@{where}/{p['database']}"
                """,
            ),
        ),
        Slip(
            "masked",
            "URL-03",
            "`str(url)` hides the password: the login was tried with `***`.",
            (
                """
                from sqlalchemy import URL
                def from_parts(p):
                    return str(URL.create('postgresql+asyncpg', p['user'], p['password'],
                                          p['host'], p.get('port') or None, p['database']))
                """,
                """
                from sqlalchemy import URL
                def from_parts(p):
                    made = URL.create('postgresql+psycopg', p['user'], p['password'],
                                      p['host'], p.get('port') or 5432, p['database'])
                    return made.render_as_string()
                """,
            ),
        ),
        Slip(
            "no_port",
            "URL-14",
            "An absent or empty port stopped you; it means the usual one.",
            (
                """
                from sqlalchemy import URL
                def from_parts(p):
                    return URL.create('postgresql+asyncpg', p['user'], p['password'],
                                      p['host'], int(p['port']), p['database'])
                """,
                """
                from sqlalchemy import URL
                def from_parts(p):
                    return URL.create('postgresql+asyncpg', p['user'], p['password'],
                                      p['host'], p.get('port'), p['database'])
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create(
                "postgresql+asyncpg",
                username=p["user"],
                password=p["password"],
                host=p["host"],
                port=p.get("port") or None,
                database=p["database"],
            )
        """,
        """
        from urllib.parse import quote
        def from_parts(p):
            user, password, database = (
                quote(p[key], safe='') for key in ('user', 'password', 'database'))
            port = int(p.get('port') or 5432)
            return f"postgresql+psycopg://{user}:{password}@{p['host']}:{port}/{database}"
        """,
        """
        from sqlalchemy import make_url
        class Maker:
            base = make_url('postgresql+asyncpg://')
            def __call__(self, parts):
                given = {('username' if k == 'user' else k): v for k, v in parts.items() if v}
                if 'port' in given:
                    given['port'] = int(given['port'])
                return self.base.set(**given).render_as_string(hide_password=False)
        from_parts = Maker()
        """,
        """
        from sqlalchemy.engine import URL
        from_parts = lambda p: URL.create('postgresql', p['user'], p['password'], p['host'],
                                          p.get('port') or 5432, p['database'])
        """,
    ),
)
async def from_parts(trial: Trial) -> None:
    subject, lab, draw, word = trial.subject, trial.lab, trial.draw, trial.draw.word()
    await trial.witness.execute(f"create table urls_word as select '{word}'::text as word")
    known = {key: getattr(lab, key) for key in ("user", "password", "host", "port", "database")}
    read = _own(await subject.steps(read_word, known, "urls_word").outcome())
    expect(not (read.failure and "password auth" in read.failure.message), "URL-03")
    expect(read.value == word, "URL-16", "A URL from your own parts did not lead to your database.")
    ear = getattr(lab, _EAR)
    for signs, code in (("@:/?#&", "URL-11"), ("%41'\"%", "URL-12"), (" + =", "URL-13")):
        told = {
            "user": f"{draw.word()}.{draw.word()}",
            "password": f"{draw.word(4)}{signs}{draw.word(4)}",
            "host": ear["host"],
            "port": ear["port"],
            "database": f"{draw.word(4)} {draw.word(4)}",
        }
        _own(await subject.steps(read_word, told, "urls_word").outcome())
        heard = await trial.witness.logins_at(_EAR, told["user"])
        secrets = {secret for _, secret in heard}
        expect(code != "URL-11" or secrets <= {told["password"]}, "URL-17", _ANOTHER)
        expect(told["password"] in secrets, code)
        expect((told["database"], told["password"]) in heard, "URL-15", _ELSEWHERE)
    for port, meant in (("6543", 6543), ("", 5432), (None, 5432), (_ABSENT, 5432)):
        await _taken_as_they_are(trial, port, meant)


async def _taken_as_they_are(trial: Trial, port: str | None, meant: int) -> None:
    """A driver is given what stands in the parts, whatever signs are in them."""
    draw = trial.draw
    told = {
        "user": f"{draw.word().title()}@{draw.word(3)}%41",
        "password": f" {draw.word()} \N{LATIN SMALL LETTER SHARP S}\N{FISH} ",
        "host": f"{draw.word()}.example",
        "database": f"{draw.word()}?{draw.word(3)}%41",
    }
    parts = told if port is _ABSENT else {**told, "port": port}
    made = await trial.subject.steps(told_to_driver, parts).outcome()
    expect(made.ok, *(("URL-18", _STOPPED) if meant != 5432 else ("URL-14", "")))
    given = dict(made.value or {})
    for part, value in told.items():
        expect(given.get(part) == value, "URL-18", _CHANGED.format(part=part))
    expect(given["port"] == meant, "URL-14", _NOT_USUAL if meant == 5432 else _AS_TEXT)
    expect(given["kept"], "URL-18", _TAKEN)


_ABSENT = "absent"
_STOPPED = "Parts such as the user `desk@quay`, with port `'6543'`, stopped you."
_NOT_USUAL = "No port was given, and yours is not 5432, the usual one."
_AS_TEXT = "The port came as text, and another one arrived."
_CHANGED = "The `{part}` that arrived is not, letter for letter, the one in the parts."
_TAKEN = "A part is gone from the dictionary that you were given; its owner may still need it."
_ANOTHER = "The login came with another password than the one in the parts."
_ELSEWHERE = "The login asked for another database than the one in the parts."


async def use_engine(engine_for: Any, url: str, table: str) -> AsyncIterator[Any]:
    """Log in through the answer's engine; read what only the database knows, and a setting."""
    from sqlalchemy import text

    engine = engine_for(url)
    try:
        async with engine.connect() as connection:
            word = await connection.scalar(text(f"table {table}"))
            yield [word, await connection.scalar(text("show statement_timeout"))]
    finally:
        await engine.dispose()


async def _lets_in(trial: Trial, place: str, keys: str) -> bool:
    """Whether an engine for this side server, with these keys, goes on to log in there."""
    user, at = trial.draw.word(), _at(getattr(trial.lab, place))
    url = f"postgresql://{user}:x@{at}/skerry?{keys}"
    _own(await trial.subject.steps(use_engine, url, "none").outcome())
    return bool(await trial.witness.logins_at(place, user))


async def _reach(trial: Trial, url: str, table: str) -> tuple[Outcome, set[str]]:
    """What the engine for a URL reads, and which names Postgres sees it under meanwhile."""
    steps = trial.subject.steps(use_engine, url, table)
    read = _own(await steps.outcome())
    names = {backend.application for backend in await trial.witness.backends()}
    await steps.outcome()
    return read, names


@lesson.exercise(
    "engine_for",
    points=4,
    needs=("postgres", _NO_TLS, _OTHER_NAME, _EAR),
    measures=("urls.options",),
    task="Write `engine_for(url)`: an async engine for a URL as a host's page shows it (Neon, "
    "Supabase, Heroku, Railway), with whatever keys stand in it. It connects to where the URL "
    "leads, is as strict about TLS as `sslmode` says, and keeps `application_name` and `options`.",
    hints=(
        "These keys are libpq's. Which of your two drivers is built on libpq?",
        (
            "psycopg reads such a URL itself, several hosts and all; only keys that are not "
            "libpq's have to go. With asyncpg you translate: TLS, names and hosts."
        ),
        (
            "`psycopg.conninfo.conninfo_to_dict(url)` without the foreign keys, given to "
            "`create_async_engine('postgresql+psycopg://', connect_args=...)`"
        ),
    ),
    slips=(
        Slip(
            "dropped",
            "URL-21",
            "The URL says `sslmode=require`; a server without TLS got your login all the same.",
            (
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url).set(drivername='postgresql+asyncpg', query={})
                    return create_async_engine(made)
                """,
                """
                def engine_for(url):
                    plain = url.split('?')[0].split('://')[1]
                    return create_async_engine('postgresql+psycopg://' + plain)
                """,
            ),
        ),
        Slip(
            "downgraded",
            "URL-24",
            "The URL says `sslmode=verify-full`; a server with another name's certificate got your "
            "login all the same.",
            (
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url)
                    args = {'ssl': 'require'} if 'sslmode' in made.query else {}
                    made = made.set(drivername='postgresql+asyncpg', query={})
                    return create_async_engine(made, connect_args=args)
                """,
                """
                def engine_for(url):
                    rest = url.partition('://')[2].partition('?')
                    mode = '?sslmode=require' if 'sslmode' in rest[2] else ''
                    return create_async_engine('postgresql+psycopg://' + rest[0] + mode)
                """,
            ),
        ),
        Slip(
            "passed_on",
            "URL-22",
            "A key of the URL went to a driver that does not know it: libpq's keys are not "
            "asyncpg's, and some are nobody's.",
            (
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    return create_async_engine(make_url(url).set(drivername='postgresql+asyncpg'))
                """,
                """
                def engine_for(url):
                    rest = url.partition('://')[2]
                    return create_async_engine('postgresql+psycopg://' + rest)
                """,
            ),
        ),
        Slip(
            "stricter",
            "URL-26",
            "`sslmode=require` asks for encryption, not for a certificate you know; you turned "
            "the server away.",
            (
                """
                import ssl
                from sqlalchemy import make_url
                def engine_for(url):
                    made, args = make_url(url), {}
                    if 'sslmode' in made.query:
                        args['ssl'] = ssl.create_default_context()
                    made = made.set(drivername='postgresql+asyncpg', query={})
                    return create_async_engine(made, connect_args=args)
                """,
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    made = made.difference_update_query(['channel_binding', 'pgbouncer'])
                    if made.query.get('sslmode'):
                        made = made.update_query_dict(
                            {'sslmode': 'verify-full', 'sslrootcert': 'system'})
                    return create_async_engine(made)
                """,
            ),
        ),
        Slip(
            "nameless",
            "URL-25",
            "Postgres never saw the name that the URL asks for in `application_name` or `options`.",
            (
                """
                import ssl
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url)
                    mode, args = made.query.get('sslmode'), {}
                    if mode == 'verify-full':
                        args['ssl'] = ssl.create_default_context(cafile=made.query['sslrootcert'])
                    elif mode:
                        args['ssl'] = mode
                    made = made.set(drivername='postgresql+asyncpg', query={})
                    return create_async_engine(made, connect_args=args)
                """,
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    kept = {k: v for k, v in made.query.items() if k.startswith('ssl')}
                    return create_async_engine(made.set(query=kept))
                """,
            ),
        ),
        Slip(
            "insisted",
            "URL-27",
            "The URL leads to a server without TLS and says `sslmode=disable`; you never got in.",
            (
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    made = made.difference_update_query(['pgbouncer', 'connection_limit'])
                    if made.query.get('sslmode') != 'verify-full':
                        made = made.update_query_dict({'sslmode': 'require'})
                    return create_async_engine(made)
                """,
                """
                import ssl
                from sqlalchemy import make_url
                def engine_for(url):
                    made, args = make_url(url), {'ssl': 'require'}
                    if made.query.get('sslmode') == 'verify-full':
                        args['ssl'] = ssl.create_default_context(cafile=made.query['sslrootcert'])
                    args['server_settings'] = {
                        k: v for k, v in made.query.items() if k in ('application_name', 'options')}
                    made = made.set(drivername='postgresql+asyncpg', query={})
                    return create_async_engine(made, connect_args=args)
                """,
            ),
        ),
        Slip(
            "two_hosts",
            "URL-23",
            "`h1:5432,h2:5432` was taken for one address; it names two, and one of them was up.",
            (
                """
                from sqlalchemy import make_url
                def engine_for(url):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    made = made.difference_update_query(['pgbouncer', 'connection_limit'])
                    return create_async_engine(made)
                """,
                """
                import re
                from psycopg.conninfo import conninfo_to_dict
                def engine_for(url):
                    url = re.sub('(pgbouncer|connection_limit)=[^&]*&?', '', url)
                    given = conninfo_to_dict(re.sub(',[^/]*', '', url))
                    return create_async_engine('postgresql+psycopg://', connect_args=given)
                """,
            ),
        ),
    ),
    right=(
        """
        from psycopg import pq
        from psycopg.conninfo import conninfo_to_dict
        LIBPQ = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        def engine_for(url):
            address, _, query = url.partition("?")
            known = [pair for pair in query.split("&") if pair.partition("=")[0] in LIBPQ]
            given = conninfo_to_dict(f"{address}?{'&'.join(known)}" if known else address)
            return create_async_engine("postgresql+psycopg://", connect_args=given)
        """,
        """
        import re, ssl
        from sqlalchemy import make_url
        def engine_for(url):
            places = re.search('(?:@|//)([^@/]*)/', url)[1]
            made = make_url(url.replace(f'@{places}/', '@/'))
            query = made.query
            pairs = [place.partition(':')[::2] for place in places.split(',') if place]
            args = {
                'host': [host for host, _ in pairs] or query['host'],
                'port': [int(port or 5432) for _, port in pairs] or int(query['port']),
                'server_settings': {
                    key: query[key] for key in ('application_name', 'options') if key in query},
            }
            match query.get('sslmode'):
                case 'verify-full':
                    args['ssl'] = ssl.create_default_context(cafile=query['sslrootcert'])
                case str(mode):
                    args['ssl'] = mode
            made = made.set(drivername='postgresql+asyncpg', query={})
            return create_async_engine(made, connect_args=args)
        """,
        """
        import asyncpg
        class Engines:
            keys = {'sslmode', 'sslrootcert', 'application_name', 'options', 'host', 'port'}
            def __call__(self, url):
                head, _, query = url.partition('?')
                kept = '&'.join(p for p in query.split('&') if p.split('=')[0] in self.keys)
                async def connect():
                    return await asyncpg.connect(f'{head}?{kept}' if kept else head)
                return create_async_engine('postgresql+asyncpg://', async_creator=connect)
        engine_for = Engines()
        """,
        """
        import re
        from functools import partial
        import psycopg
        from sqlalchemy.pool import NullPool
        def build(known, url):
            dsn = re.sub(rf'(?<=[?&])(?!({known})=)\\w+=[^&]*&?', '', url)
            return create_async_engine(
                'postgresql+psycopg://', poolclass=NullPool,
                async_creator=lambda: psycopg.AsyncConnection.connect(dsn))
        engine_for = partial(build, r'ssl\\w+|application_name|options|host|port')
        """,
    ),
)
async def engine_for(trial: Trial) -> None:
    lab, witness, draw = trial.lab, trial.witness, trial.draw
    table, word = draw.word(), draw.word()
    await witness.execute(f"create table {table} as select '{word}'::text as word")
    for impostor, keys, code in (
        (_NO_TLS, "sslmode=require", "URL-21"),
        (_OTHER_NAME, f"sslmode=verify-full&sslrootcert={quote(lab.ca_file)}", "URL-24"),
    ):
        expect(not await _lets_in(trial, impostor, keys), code)
    with closed_port() as closed:
        for style, url, code, name in _pages(lab, closed, draw):
            read, names = await _reach(trial, url, table)
            found, patience = read.value or ("", "")
            expect(found == word, *_why(read, code, style))
            expect(not name or name in names, "URL-25")
            expect("statement_timeout" not in url or patience == "7s", "URL-25", _ONE_OF_TWO)
    vouched = f"sslmode=verify-full&sslrootcert={quote(getattr(lab, _EAR)['ca_file'])}"
    expect(await _lets_in(trial, _EAR, vouched), "URL-26", _UNKNOWN_AUTHORITY)
    told = [note.get("text", "") for note in await witness.overheard(_NO_TLS)]
    expect(any(table in sql for sql in told), "URL-27")


_ONE_OF_TWO = "`options` has two settings, and Postgres has one of them only."


def _pages(lab: Any, closed: int, draw: Draw) -> list[tuple[str, str, str, str]]:
    """Style, URL, code, and name to be seen: what the pages of database hosts give one to paste."""
    name, by_option, foreign = draw.word(), draw.word(), draw.word()
    secret = "".join(f"%{byte:02x}" for byte in lab.password.encode())
    who, real, dead = f"{lab.user}:{secret}", f"{lab.host}:{lab.port}", f"127.0.0.1:{closed}"
    no_tls = getattr(lab, _NO_TLS)
    options = quote(f"-c statement_timeout=7000 -c application_name={by_option}")
    at, ends = f"postgresql://{who}@{real}/{lab.database}", f"/{lab.database}"
    pages = [
        ("Neon's", f"{at}?sslmode=require&channel_binding=require", "", ""),
        ("Supabase's", f"{at}?pgbouncer=true&connection_limit=1&connect_timeout=15", "", ""),
        ("Heroku's", f"postgres://{who}@{real}{ends}", "", ""),
        ("Railway's", f"{at}?connect_timeout=10&application_name={name}", "URL-25", name),
        ("Neon's", f"{at}?sslmode=require&options={options}", "URL-25", by_option),
        ("a local", f"postgresql://{who}@{_at(no_tls)}{ends}?sslmode=disable", "URL-27", ""),
        ("a doubled", f"postgresql://{who}@{dead},{real}{ends}", "URL-23", ""),
        ("a doubled", f"postgresql://{who}@{real},{dead}{ends}?{foreign}=1", "URL-23", ""),
    ]
    if lab.socket_dir:
        folder = f"host={quote(lab.socket_dir)}&port={lab.port}"
        pages.append(("a socket's", f"postgresql://{who}@{ends}?{folder}", "URL-28", ""))
    return pages


def _why(read: Outcome, code: str, style: str) -> tuple[str, str]:
    """What an engine's failure says about its maker: a code, and a sentence unless a slip has."""
    words = read.failure.message.lower() if read.failure else ""
    foreign = ("unexpected keyword", "invalid connection option", "invalid uri query", "unrecogni")
    if any(word in words for word in foreign):
        return "URL-22", ""
    if not code and "certificate" in words and "verif" in words:
        return "URL-26", ""
    raised = f" ({read.failure.type})" if read.failure else ""
    said = f"{style} URL did not lead to your database{raised}."
    return code or "URL-29", said[0].upper() + said[1:] if code in ("", "URL-28") else ""


_UNKNOWN_AUTHORITY = "The file in `sslrootcert` vouches for this server, and you turned it away."


async def hide_in(masked: Any, url: str) -> AsyncIterator[Any]:
    """What the answer would log, as plain text."""
    said = masked(url)
    yield str.__str__(said) if isinstance(said, str) else said


def _leaks(said: str, secret: str) -> bool:
    """Whether three letters of a secret in a row can be read; such rows occur nowhere else."""
    return any(secret[i : i + 3] in said.upper() for i in range(len(secret) - 2))


@lesson.exercise(
    "masked",
    points=2,
    needs=(),
    measures=("urls.hide",),
    task="Write `masked(url)`: text for the log that still tells host, database and user, and no "
    "secret, wherever in the URL it stands. What cannot be read as a URL must not stop the "
    "program, nor show its secret.",
    hints=(
        "In how many places of a URL can a password stand?",
        (
            "Look at `?password=` and `?sslpassword=` too, and at what happens to a URL that "
            "SQLAlchemy cannot read."
        ),
        (
            "`make_url(url)`, replace the secret keys with `update_query_dict`, "
            "`render_as_string()`; and on any exception, or an @ in the host, a fixed text."
        ),
    ),
    slips=(
        Slip(
            "query_password",
            "URL-31",
            "A password in the query stayed readable: `str(url)` hides only the one before the @.",
            (
                """
                from sqlalchemy import make_url
                def masked(url):
                    return str(make_url(url))
                """,
                """
                import re
                def masked(url):
                    return re.sub(r':[^:/]*@', ':***@', url)
                """,
            ),
        ),
        Slip(
            "encoded",
            "URL-32",
            "The escaped form of the password stayed: whoever reads it has the password.",
            (
                """
                from sqlalchemy import make_url
                def masked(url):
                    made = make_url(url)
                    query = made.query
                    for secret in made.password, query.get('password'), query.get('sslpassword'):
                        if secret:
                            url = url.replace(secret, '***')
                    return url
                """,
                """
                import re
                from urllib.parse import unquote, urlsplit, parse_qs
                def masked(url):
                    parts = urlsplit(url)
                    found = [unquote(parts.password or '')]
                    for key, values in parse_qs(parts.query).items():
                        found += values if 'password' in key else []
                    return re.sub('|'.join(re.escape(f) for f in found if f), '***', url)
                """,
            ),
        ),
        Slip(
            "all_gone",
            "URL-33",
            "The secret is hidden, and so is what one reads a log for: host, database and user.",
            (
                """
                def masked(url):
                    return '***'
                """,
                """
                def masked(url):
                    return url.split('://')[0] + '://***:***@***/***'
                """,
            ),
        ),
        Slip(
            "everywhere",
            "URL-34",
            "You replaced the password's text wherever it stood; user and database had the same.",
            (
                """
                from urllib.parse import quote
                from sqlalchemy import make_url
                def masked(url):
                    made = make_url(url)
                    query = made.query
                    for secret in made.password, query.get('password'), query.get('sslpassword'):
                        if secret:
                            url = url.replace(secret, '***').replace(quote(secret, ''), '***')
                    return url
                """,
                """
                from urllib.parse import unquote
                from sqlalchemy import make_url
                def masked(url):
                    made, said = make_url(url), unquote(url)
                    for secret in (made.password, *made.query.values()):
                        said = said.replace(secret or '://', '***' if secret else '://')
                    return said
                """,
            ),
        ),
        Slip(
            "gave_up",
            "URL-35",
            "You could not read the URL, and so you showed it; what is broken holds secrets too.",
            (
                """
                from sqlalchemy import make_url
                def masked(url):
                    try:
                        made = make_url(url)
                    except Exception:
                        return url
                    hide = {k: '***' for k in made.query if 'password' in k}
                    return made.update_query_dict(hide).render_as_string()
                """,
                """
                from sqlalchemy import make_url
                def masked(url):
                    try:
                        made = make_url(url)
                        made = made.difference_update_query(['password', 'sslpassword'])
                        return repr(made)
                    except Exception as error:
                        return f'{type(error).__name__}: cannot read {url!r}'
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import make_url
        def masked(url):
            try:
                made = make_url(url)
                hidden = {key: "***" for key in made.query if "password" in key.lower()}
                if "@" in (made.host or ""):
                    return "(a URL with an @ in its password)"
                return made.update_query_dict(hidden).render_as_string(hide_password=True)
            except Exception:
                return "(a URL that cannot be read)"
        """,
        """
        import re
        def masked(url):
            head, found, rest = url.partition('://')
            if not found:
                return 'no URL'
            before, at, after = rest.rpartition('@')
            user = before.partition(':')[0]
            after = re.sub(r'(?i)(password=)[^&]*', r'\\1(hidden)', after)
            return f'{head}://{user}{at}{after}'
        """,
        """
        from urllib.parse import urlsplit, parse_qsl
        class Masked:
            def __call__(self, url):
                parts = urlsplit(url)
                who, _, where = parts.netloc.rpartition('@')
                if not who or '@' in who or '/' in who or '@' in parts.path:
                    return '<unreadable>'
                keys = [k for k, v in parse_qsl(parts.query) if 'password' not in k]
                user = who.partition(':')[0]
                return f'user {user} on {where}, database {parts.path[1:]}, with {keys}'
        masked = Masked()
        """,
    ),
)
async def masked(trial: Trial) -> None:
    for written, leak, gone in _WRITTEN:
        secret, another = ("".join(trial.draw.sample("KQVWXYZ", 7)) for _ in range(2))
        names = {
            key: "".join(trial.draw.choices("abcdefghij", k=6))
            for key in ("user", "host", "database")
            if f"{{{key}}}" in written
        }
        url = written.format(secret=secret, **names)
        said = _own(await trial.subject.steps(hide_in, url).outcome())
        expect(said.ok, "URL-36", "`masked` raised; what goes into a log must not stop a program.")
        expect(type(said.value) is str, "URL-37", "`masked` should return text.")
        expect(not _leaks(said.value, secret), leak, _READABLE if leak == "URL-38" else "")
        expect(not gone or all(name in said.value for name in names.values()), gone)
        other = await trial.subject.steps(hide_in, url.replace(secret, another)).outcome()
        expect(other.value == said.value, leak, _TRACE)


_READABLE = "The password before the @ can be read."
_TRACE = "Another password, another text: so it tells something about the password."

_WRITTEN = (
    # how it is written, the code if the secret can be read, the code if a name cannot
    ("postgresql+asyncpg://{user}:{secret}@{host}.example:5432/{database}", "URL-38", "URL-33"),
    ("postgresql://{user}@{host}.example/{database}?password={secret}", "URL-31", "URL-33"),
    (
        "postgres://{user}:x@{host}.example/{database}?sslmode=require&sslpassword={secret}",
        "URL-31",
        "URL-33",
    ),
    (
        "postgresql+psycopg://{user}:{secret}%40{secret}@{host}.example/{database}",
        "URL-32",
        "URL-33",
    ),
    ("postgresql://{user}:{user}@{host}.example/{user}", "URL-34", "URL-34"),
    ("postgresql://:{secret}@{host}.example/{database}", "URL-38", ""),
    # Where a ? or a # stands, SQLAlchemy goes on to read the password, and others stop.
    ("postgresql://{user}:{secret}?{secret}@{host}.example/{database}", "URL-38", ""),
    ("postgresql://{user}:{secret}#{secret}@{host}.example/{database}", "URL-38", ""),
    # What cannot be read as a URL, or reads as another one.
    ("postgresql://{user}:{secret}@{secret}:{secret}/w@{host}.example/{database}", "URL-35", ""),
    ("postgresql://{user}:w@{secret}@{host}.example/{database}", "URL-35", ""),
    ("{user}:{secret}@{host}.example/{database}", "URL-35", ""),
    ("{user}:{secret}/{secret}@{host}.example/{database}", "URL-35", ""),
    ("postgresql://{user}:{secret}@{host}.example:port/{database}", "URL-35", ""),
    ("postgresql://{user}:{secret}@{host}.example:1,b.example:2/{database}", "URL-35", ""),
)


async def words_for(explain: Any, way: str, url: str, sql: str) -> AsyncIterator[Any]:
    """What the answer says of an error that is made here and now."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import no_such_host

    engine = None
    try:
        with no_such_host():
            if way == "asyncpg":
                import asyncpg

                await asyncpg.connect(url)
            elif way == "psycopg":
                import psycopg

                await psycopg.AsyncConnection.connect(url)
            elif way == "python":
                exec(sql, {})  # noqa: S102
            else:
                engine = create_async_engine(url)
                async with engine.connect() as connection:
                    await connection.execute(text(sql))
    except Exception as error:
        said = explain(error)
        cause = getattr(error, "orig", None) or error
        words = str(cause).splitlines()[0].rpartition(" failed: ")[2][:70]
        shown = f"{type(cause).__name__}: {words}"
        yield [str.__str__(said) if isinstance(said, str) else "", shown]
    finally:
        if engine is not None:
            await engine.dispose()


@lesson.exercise(
    "explain",
    points=3,
    measures=("urls.diagnose",),
    task="Write `explain(error)`: for an exception that came of connecting, through either driver "
    "and with SQLAlchemy around it or not, return one word for its cause: `password`, `database` "
    "(no such database), `closed` (nobody listens there), `host` (no such name), `driver` "
    "(missing, unknown or not async), `option` (a key that the driver does not know) or `other`.",
    hints=(
        "Which of these errors came from the server, and which never got so far?",
        (
            "What the server refuses has a SQLSTATE in asyncpg's errors: 28P01, 3D000. A missing "
            "host or listener is an OSError there. psycopg has one class for all of it: "
            "read its text."
        ),
        (
            "`cause = getattr(error, 'orig', None) or error`, then in turn `cause.sqlstate`, "
            "`isinstance(cause, ConnectionRefusedError)`, `socket.gaierror`, SQLAlchemy's and "
            "import errors, and words such as `failed to resolve host`"
        ),
    ),
    slips=(
        Slip(
            "format_first",
            "URL-41",
            "The server refused the password: it was reached, so the URL's form was right.",
            (
                """
                def explain(error):
                    if 'InvalidPassword' in repr(error) or 'authentication' in str(error):
                        return 'driver'  # postgresql:// has to become postgresql+asyncpg://
                    return 'other'
                """,
                """
                def explain(error):
                    causes = {'password': 'option', 'does not exist': 'database',
                              'refused': 'closed', 'resolve': 'host'}
                    return next((v for k, v in causes.items() if k in str(error)), 'other')
                """,
            ),
        ),
        Slip(
            "operational_only",
            "URL-42",
            "asyncpg's closed port and unknown host are bare OSErrors, with no SQLAlchemy around.",
            (
                """
                from sqlalchemy.exc import OperationalError
                def explain(error):
                    text = str(error)
                    if 'password authentication' in text:
                        return 'password'
                    if 'database' in text and 'does not exist' in text:
                        return 'database'
                    if isinstance(error, OperationalError):
                        return 'host' if 'resolve' in text else 'closed'
                    return 'other'
                """,
                """
                from sqlalchemy.exc import DBAPIError
                def explain(error):
                    text = str(error)
                    for words, cause in (('password auth', 'password'), ('database "', 'database'),
                                         ('Connection refused', 'closed'),
                                         ('failed to resolve', 'host'), ('option', 'option')):
                        if words in text:
                            return cause
                    return 'other' if isinstance(error, DBAPIError) else 'driver'
                """,
            ),
        ),
        Slip(
            "class_only",
            "URL-43",
            "psycopg has one class for a refused password, a missing database, a closed port and "
            "an unknown host: its text tells them apart.",
            (
                """
                import socket
                def explain(error):
                    cause = getattr(error, 'orig', None) or error
                    state = getattr(cause, 'sqlstate', None)
                    if state in ('28P01', '3D000'):
                        return 'password' if state == '28P01' else 'database'
                    if isinstance(cause, socket.gaierror):
                        return 'host'
                    if isinstance(cause, ConnectionRefusedError):
                        return 'closed'
                    return 'other'
                """,
                """
                import socket, asyncpg, psycopg
                def explain(error):
                    cause = getattr(error, 'orig', None) or error
                    cause = cause.__cause__ or cause
                    classes = {asyncpg.InvalidPasswordError: 'password',
                               asyncpg.InvalidCatalogNameError: 'database',
                               ConnectionRefusedError: 'closed', socket.gaierror: 'host',
                               psycopg.OperationalError: 'password'}
                    return next((v for k, v in classes.items() if isinstance(cause, k)), 'other')
                """,
            ),
        ),
    ),
    right=(
        """
        import re
        import socket
        from sqlalchemy.exc import InvalidRequestError, NoSuchModuleError
        STATES = {"28P01": "password", "3D000": "database"}
        CLASSES = {
            ConnectionRefusedError: "closed",
            socket.gaierror: "host",
            NoSuchModuleError: "driver",
            InvalidRequestError: "driver",
            ModuleNotFoundError: "driver",
        }
        WORDS = {
            "password authentication failed": "password",
            'database ".*" does not exist': "database",
            "Connection refused": "closed",
            "failed to resolve host": "host",
            "invalid connection option": "option",
            "invalid URI query parameter": "option",
            "unexpected keyword argument": "option",
        }
        def explain(error):
            cause = getattr(error, "orig", None) or error
            if state := getattr(cause, "sqlstate", None):
                return STATES.get(state, "other")
            for kind, word in CLASSES.items():
                if isinstance(cause, kind):
                    return word
            said = str(cause)
            found = (word for words, word in WORDS.items() if re.search(words, said))
            return next(found, "other")
        """,
        """
        import re
        from enum import StrEnum
        Cause = StrEnum('Cause', 'password database closed host driver option other')
        PATTERNS = [
            ('password authentication failed', Cause.password),
            ('database ".*" does not exist', Cause.database),
            ('(?i)connect call failed|connection refused', Cause.closed),
            ('gaierror|failed to resolve', Cause.host),
            ('is not async|ModuleNotFound|NoSuchModule|load plugin', Cause.driver),
            ('unexpected keyword|invalid connection option|URI query', Cause.option),
        ]
        def explain(error):
            said = f'{type(error).__name__}: {error}'
            return next((c for p, c in PATTERNS if re.search(p, said, re.S)), Cause.other)
        """,
        """
        import errno
        import socket
        import psycopg
        from sqlalchemy import exc
        class Explain:
            def __call__(self, error):
                while True:
                    match error:
                        case exc.NoSuchModuleError() | ImportError():
                            return 'driver'
                        case exc.DBAPIError(orig=inner) if inner:
                            error = inner
                        case exc.InvalidRequestError():
                            return 'driver'
                        case socket.gaierror():
                            return 'host'
                        case OSError():
                            return 'closed' if error.errno == errno.ECONNREFUSED else 'other'
                        case TypeError() if 'keyword' in str(error):
                            return 'option'
                        case psycopg.ProgrammingError() if not error.sqlstate:
                            return 'option'
                        case psycopg.OperationalError():
                            return self.read(str(error))
                        case _ if getattr(error, 'sqlstate', None) == '28P01':
                            return 'password'
                        case _ if getattr(error, 'sqlstate', None) == '3D000':
                            return 'database'
                        case _:
                            return 'other'
            def read(self, text):
                if 'resolve' in text:
                    return 'host'
                if 'FATAL:  password' in text:
                    return 'password'
                if 'FATAL:  database' in text and 'not exist' in text:
                    return 'database'
                return 'closed' if 'refused' in text else 'other'
        explain = Explain()
        """,
    ),
)
async def explain(trial: Trial) -> None:
    with closed_port() as closed:
        made = _troubles(trial.lab, closed, trial.draw.word())
        said = {
            trouble: await trial.subject.steps(words_for, *trouble[2:]).next()
            for trouble in trial.draw.sample(made, len(made))
        }
    for trouble in made:
        code, cause, *_ = trouble
        word, shown = said[trouble]
        other = f"`{shown}`: your answer is `{word[:20]}`, and the cause is `{cause}`."
        expect(word == cause, code, other if code in ("URL-44", "URL-45") else "")


def _troubles(lab: Any, closed: int, word: str) -> list[tuple[str, ...]]:
    """Code, cause, and what makes the error: the way to connect, a URL, SQL or Python."""
    who, at = lab.sync_url.partition("://")[2].rpartition("@")[0], f"{lab.host}:{lab.port}"
    wrong = {
        "password": f"{lab.user}:{word}@{at}/{lab.database}",
        "database": f"{who}@{at}/{word}",
        "closed": f"{who}@127.0.0.1:{closed}/{lab.database}",
        "host": f"{who}@{word}.invalid/{lab.database}",
    }
    code = {"password": "URL-41", "database": "URL-44", "closed": "URL-42", "host": "URL-42"}
    made = [(code[c], c, "", f"postgresql+asyncpg://{url}", "") for c, url in wrong.items()]
    made += [("URL-43", c, "", f"postgresql+psycopg://{url}", "") for c, url in wrong.items()]
    for cause in ("password", "database"):
        made.append((code[cause], cause, "asyncpg", f"postgresql://{wrong[cause]}", ""))
        made.append(("URL-43", cause, "psycopg", f"postgresql://{wrong[cause]}", ""))
    unknown = f"{who}@{at}/{lab.database}?pgbouncer=true"
    unverified = f"postgresql://{who}@{at}/d?sslmode=verify-full&sslrootcert="
    made += [
        ("URL-45", "option", "", f"postgresql+asyncpg://{who}@{at}/d?sslmode=require", ""),
        ("URL-45", "option", "", f"postgresql+psycopg://{unknown}", ""),
        ("URL-45", "option", "psycopg", f"postgresql://{unknown}", ""),
        ("URL-45", "driver", "", f"sqlite:///{word}.db", ""),
        ("URL-45", "driver", "", f"POSTGRES://{who}@{at}/d", ""),
        ("URL-45", "driver", "", f"postgresql+{word}://{who}@{at}/d", ""),
        ("URL-45", "driver", "", f"postgresql+psycopg2://{who}@{at}/d", ""),
        ("URL-45", "other", "", lab.url, f"table {word}"),
        ("URL-45", "other", "", lab.psycopg_url, f"table {word}"),
        ("URL-45", "other", "python", "", f"{{}}['DB_PASSWORD_{word}']"),
        ("URL-45", "other", "python", "", "len(5)"),
        ("URL-45", "other", "python", "", "__import__('sqlalchemy').make_url('harbour')"),
        ("URL-45", "other", "python", "", "raise ConnectionResetError(104, 'Reset by peer')"),
        ("URL-45", "other", "psycopg", f"{unverified}/{word}.crt", ""),
        ("URL-45", "other", "asyncpg", f"{unverified}/{word}.crt", ""),
        ("URL-45", "other", "psycopg", f"postgresql://{who}@{at}/template0", ""),  # it is there
    ]
    return sorted(made)


async def dial(for_psql: Any, url: str, table: str) -> AsyncIterator[Any]:
    """Give libpq, which is what psql is made of, the text that the answer makes of a URL."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(for_psql(url)) as connection:
        cursor = await connection.execute(f"table {table}")
        row = await cursor.fetchone()
        yield row and row[0]


async def line_of(for_psql: Any, url: str) -> AsyncIterator[Any]:
    """What libpq reads from the text that the answer makes, without dialling."""
    from psycopg.conninfo import conninfo_to_dict

    read = conninfo_to_dict(for_psql(url))
    yield {key: read.get(key) for key in ("user", "password", "sslmode")}


@lesson.exercise(
    "for_psql",
    points=2,
    needs=("postgres", _EAR, _NO_TLS),
    measures=("urls.options", "urls.compose"),
    task="Write `for_psql(url)`: the way back. From a URL of SQLAlchemy's, for asyncpg or psycopg, "
    "make text that `psql` takes and that leads to the same place, over the same kind of line.",
    hints=(
        "Which parts of such a URL are SQLAlchemy's inventions, and which are libpq's?",
        (
            "The `+driver` goes; asyncpg's `ssl` is libpq's `sslmode`; several `host=` become one "
            "list; and libpq wants a blank as `%20`."
        ),
        (
            "Take `make_url(url)` apart, `quote(part, safe='')` each part, and put it together; or "
            "give the parts to `psycopg.conninfo.make_conninfo`"
        ),
    ),
    slips=(
        Slip(
            "driver_kept",
            "URL-51",
            "`postgresql+asyncpg://` is SQLAlchemy's scheme; libpq did not take it for a URL.",
            (
                """
                def for_psql(url):
                    return url
                """,
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    return make_url(url).render_as_string(hide_password=False).replace(' ', '%20')
                """,
            ),
        ),
        Slip(
            "masked",
            "URL-03",
            "`str(url)` hides the password: the login was tried with `***`.",
            (
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    return str(make_url(url).set(drivername='postgresql')).replace(' ', '%20')
                """,
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    made = make_url(url).set(drivername='postgresql')
                    return made.render_as_string().replace(' ', '%20')
                """,
            ),
        ),
        Slip(
            "blank",
            "URL-52",
            "A blank stood in it: SQLAlchemy writes one as it is, and libpq wants `%20`.",
            (
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    made = make_url(url).set(drivername='postgresql')
                    return made.render_as_string(hide_password=False)
                """,
                """
                import re
                def for_psql(url):
                    return re.sub(r'^postgresql\\+[a-z]+:', 'postgresql:', url).replace(
                        'ssl=', 'sslmode=')
                """,
            ),
        ),
        Slip(
            "tls_lost",
            "URL-53",
            "The URL asks for TLS, and what you made of it logged in without.",
            (
                """
                def for_psql(url):
                    rest = url.partition('?')[0].partition(':')[2]
                    return 'postgresql:' + rest.replace(' ', '%20')
                """,
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    made = make_url(url).set(drivername='postgresql')
                    made = made.difference_update_query(['ssl'])
                    return made.render_as_string(hide_password=False).replace(' ', '%20')
                """,
            ),
        ),
        Slip(
            "ssl_kept",
            "URL-54",
            "`ssl` is asyncpg's word; libpq says `sslmode`.",
            (
                """
                import re
                def for_psql(url):
                    return re.sub('[+][a-z]+', '', url, count=1).replace(' ', '%20')
                """,
                """
                from sqlalchemy import make_url
                def for_psql(url):
                    made = make_url(url).set(drivername='postgresql')
                    return made.render_as_string(hide_password=False).replace(' ', '%20')
                """,
            ),
        ),
    ),
    right=(
        """
        from urllib.parse import quote, urlencode
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            query = dict(made.query)
            hosts = query.pop("host", None) or f"{made.host}:{made.port or 5432}"
            if "ssl" in query:
                query["sslmode"] = query.pop("ssl")
            who = ":".join(quote(part, safe="") for part in (made.username, made.password))
            where = hosts if isinstance(hosts, str) else ",".join(hosts)
            keys = urlencode(query, quote_via=quote)
            return f"postgresql://{who}@{where}/{quote(made.database, safe='')}?{keys}"
        """,
        """
        from psycopg.conninfo import make_conninfo
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            given = {('sslmode' if k == 'ssl' else k): v for k, v in made.query.items()}
            hosts = given.pop('host', (f'{made.host}:{made.port or 5432}',))
            pairs = [h.split(':') for h in ([hosts] if isinstance(hosts, str) else hosts)]
            return make_conninfo(
                user=made.username, password=made.password, dbname=made.database,
                host=','.join(h for h, _ in pairs), port=','.join(p for _, p in pairs), **given)
        """,
        """
        import re
        def rewrite(url):
            text = re.sub(r'^postgres(ql)?([+]\\w+)?://', 'postgresql://', url)
            text = re.sub(r'([?&])ssl=', r'\\1sslmode=', text).replace(' ', '%20')
            hosts = re.findall(r'[?&]host=([^&]*)', text)
            if hosts:
                text = re.sub(r'host=[^&]*&?', '', text).replace('@/', f"@{','.join(hosts)}/")
            return text
        for_psql = lambda url: rewrite(url)
        """,
    ),
)
async def for_psql(trial: Trial) -> None:
    subject, lab, witness, draw = trial.subject, trial.lab, trial.witness, trial.draw
    table, word = draw.word(), draw.word()
    await witness.execute(f"create table {table} as select '{word}'::text as word")
    for driver, sign, code in (("asyncpg", "%40", "URL-51"), ("psycopg", " ", "URL-52")):
        secret = f"{draw.word()}{sign}{draw.word()}"
        told = await _told_to(trial, _EAR, driver, secret)
        expect("***" not in told, "URL-03")
        expect(unquote(secret) in told, code)
    expect(not await _told_to(trial, _NO_TLS, "asyncpg", draw.word(), "?ssl=require"), "URL-53")
    with closed_port() as closed:
        for url, code, name in _written_by_sqlalchemy(lab, closed, draw):
            steps = subject.steps(dial, url, table)
            read = await steps.outcome()
            seen = {backend.application for backend in await witness.backends()}
            await steps.outcome()
            expect(read.value == word and name in {"", *seen}, code, _LOST.get(code, ""))
    for mode in ("disable", "verify-full"):
        who = {"user": f"{draw.word()}@{draw.word()}", "password": f"{draw.word()}/?'%\\#:"}
        login = ":".join(quote(part, safe="") for part in who.values())
        url = f"postgresql+asyncpg://{login}@quay.example:5432/alca?ssl={mode}"
        read = _own(await subject.steps(line_of, url).outcome())
        found = dict(read.value or {})
        expect(found and who.items() <= found.items(), "URL-57", _SIGNS)
        expect(found["sslmode"] == mode, "URL-53", f"`ssl={mode}` is another kind of line now.")


_SIGNS = (
    "With signs such as `@`, `/` and `'` in user and password, libpq reads others from your text, "
    "or cannot read it."
)


async def _told_to(trial: Trial, place: str, driver: str, secret: str, query: str = "") -> set[str]:
    """The passwords of whoever logs in at a side server with the answer's text."""
    user = trial.draw.word()
    at = _at(getattr(trial.lab, place))
    url = f"postgresql+{driver}://{user}:{secret}@{at}/alca{query}"
    _own(await trial.subject.steps(dial, url, "none").outcome())
    return {password for _, password in await trial.witness.logins_at(place, user)}


def _written_by_sqlalchemy(lab: Any, closed: int, draw: Draw) -> list[tuple[str, str, str]]:
    """A URL that works in SQLAlchemy, the code if it works no more, and a name to be seen."""
    rest, name = lab.sync_url.partition("://")[2], draw.word()
    hosts = [f"host=127.0.0.1:{closed}", f"host={lab.host}:{lab.port}"]
    either = f"postgresql+asyncpg://{rest.rpartition('@')[0]}@/{lab.database}?"
    return [
        (f"postgresql+asyncpg://{rest}?ssl=require", "URL-54", ""),
        (f"postgresql+psycopg://{rest}?application_name={name}%20desk", "URL-55", f"{name} desk"),
        (either + "&".join(hosts), "URL-56", ""),
        (either + "&".join(reversed(hosts)), "URL-56", ""),
    ]


_LOST = {
    "URL-55": "`application_name=...%20desk` did not come through; both know that key.",
    "URL-56": "The URL names two hosts, and you did not reach the one that was up.",
}


lesson.codes |= {
    "URL-01": "Upper and lower case mean the same in a scheme, but SQLAlchemy looks for a driver "
    "of exactly the spelling it is given. Try `create_async_engine('POSTGRES://u@h/d')`; make the "
    "scheme lower case before you compare or replace it.",
    "URL-02": "A server that hears passwords got another one than the URL has. `str.replace` works "
    "on the whole text, and a password may hold `postgres:` too. Change the scheme only: "
    "`make_url(url).set(drivername=...)`.",
    "URL-03": "`str(url)` and `render_as_string()` are for people, and show `***`. Whoever logs in "
    "with that text logs in with three stars. Pass the `URL` itself on, or ask for "
    "`render_as_string(hide_password=False)`.",
    "URL-04": "An unset variable is None and an empty one is ''. If either turns into a working "
    "URL, the program starts with a database that nobody chose. Raise a ValueError.",
    "URL-05": "An ordinary Postgres URL, sync or not, did not bring your program to the database "
    "it names. Put your result into `create_async_engine` and connect: the exception tells more.",
    "URL-06": "Text from mails and `.env` files brings blanks, line breaks and quotes along. "
    "`make_url` takes none of them away: strip them first.",
    "URL-07": "`sqlite:///./desk.db` names a file. The scheme becomes `sqlite+aiosqlite`; what "
    "follows stays as it is, slashes too. Look where the file appears.",
    "URL-08": "A URL that names an async driver already is right as it is. Print what you make of "
    "`postgresql+asyncpg://...`.",
    "URL-09": "A place may stand behind the question mark too: `?host=...&port=...`. Whoever makes "
    "a new URL of host and database alone drops it. `.set(drivername=...)` keeps everything else.",
    "URL-11": "In a URL glued from text, the first @ ends the password. Print "
    "`make_url(...).host`: it holds the rest. Let `URL.create` take the parts as they are.",
    "URL-12": "Whoever reads a URL turns `%41` into `A`. So a percent sign in a password has to be "
    "written `%25`. `URL.create` needs no escaping; `quote(password, safe='')` does it in text.",
    "URL-13": "`quote_plus` and `urlencode` are made for forms, where a blank is a `+`. In a URL's "
    "password a `+` is a plus. Use `quote`, or `URL.create`.",
    "URL-14": "Settings come as text, and a port that nobody set is absent, None or ''. "
    "`p.get('port') or None` treats all three alike.",
    "URL-15": "The login named another database than your parts do. Blanks are allowed in a name; "
    "compare `make_url(...).database` with what you put in.",
    "URL-16": "With the parts of your own database, your URL led nowhere. Put it into "
    "`create_async_engine` and connect: the exception tells more.",
    "URL-17": "The password was changed on its way, perhaps escaped twice: `URL.create` escapes "
    "by itself, and wants it raw. Compare `make_url(...).password` with what you put in.",
    "URL-18": "An `@` in a user's name, a `?` or `%41` in the database's: each part has to be "
    "escaped, not only the password, and the host is the one in the parts. Compare "
    "`make_url(...).username`, `.host` and `.database` with what you put in.",
    "URL-21": "`sslmode=require` forbids to go on without TLS. Both drivers try TLS by themselves "
    "and go on without it when there is none, so whoever drops the key loses that. Give asyncpg "
    "`connect_args={'ssl': 'require'}`; psycopg knows the key.",
    "URL-22": "SQLAlchemy hands every key of the query to the driver. `sslmode` is libpq's, and so "
    "psycopg's; asyncpg calls it `ssl`. `pgbouncer` and `connection_limit` are Prisma's, and no "
    "driver here knows them. `anatomy(url)` says who knows which.",
    "URL-23": "libpq and asyncpg read `h1:5432,h2:5432` as two places and try one after the other; "
    "SQLAlchemy does not. Write `?host=h1:5432&host=h2:5432`, or give the driver lists.",
    "URL-24": "`verify-full` wants a certificate that a known authority signed for the very host "
    "in the URL. Whoever turns it into `require` talks to anybody. For asyncpg: "
    "`ssl.create_default_context(cafile=...)`.",
    "URL-25": "`select application_name from pg_stat_activity` shows under which name you are "
    "known. For asyncpg such settings go into `connect_args={'server_settings': {...}}`, "
    "`options` too; psycopg knows both keys.",
    "URL-26": "`require` means encryption and nothing else. `ssl.create_default_context()` also "
    "checks the certificate, which a database with an authority of its own fails. Better than "
    "`require` is `verify-full` with `sslrootcert`; but then the URL has to say so.",
    "URL-27": "`sslmode=disable` names a server that has no TLS. Follow the URL: the line may be "
    "one on your own machine.",
    "URL-28": "A host that begins with / is the folder of a Unix socket: "
    "`postgresql://u:p@/db?host=/run/postgresql&port=5432`. Both drivers know it.",
    "URL-29": "An ordinary URL from a host's page did not bring your engine to the database. "
    "Connect with it in a cell: the exception tells more.",
    "URL-31": "`?password=` and `?sslpassword=` are passwords too, and SQLAlchemy's own masking "
    "does not know them. Try `str(make_url('postgresql://h/d?password=kipper'))`.",
    "URL-32": "`%40` and `@` are the same sign, so the escaped password is the password. Hide what "
    "stands in the text, not what you decoded from it.",
    "URL-33": "A log line is read by somebody who asks: which database was it? Host, database and "
    "user are no secrets.",
    "URL-34": "With `postgres:postgres@host/postgres`, replacing the password's text everywhere "
    "takes user and database along. Take the URL apart, and hide one part.",
    "URL-35": "Raw signs in a password make URLs that cannot be read, or are read wrongly: an @ "
    "makes half of it the host. Show nothing of a URL that you cannot read.",
    "URL-36": "`make_url` raises for what is no URL, and the exception may quote a piece of the "
    "password. Catch it: logging must not stop a program.",
    "URL-37": "The log wants text, `str`. Return it; do not print it.",
    "URL-38": "The password between : and @ is readable in what you return.",
    "URL-41": "`password authentication failed` is the server's own word, SQLSTATE 28P01. It was "
    "reached, so scheme, host and port were right. The user's name may be wrong too: the server "
    "does not tell which.",
    "URL-42": "Through asyncpg, a closed port is a ConnectionRefusedError and an unknown host a "
    "socket.gaierror. Neither is wrapped by SQLAlchemy, and neither has a SQLSTATE.",
    "URL-43": "When psycopg cannot connect, it raises OperationalError without a SQLSTATE, "
    "whatever the cause. Only the text tells: print `str(error.orig)`.",
    "URL-44": '`database "..." does not exist` has SQLSTATE 3D000 in asyncpg\'s errors. Other '
    "things that do not exist, tables for one, have other codes.",
    "URL-45": "One of the other causes got the wrong word. Drivers: NoSuchModuleError, "
    "ModuleNotFoundError, InvalidRequestError. Options: asyncpg's TypeError about an unexpected "
    "keyword, psycopg's ProgrammingError about an option or a URI's query. Anything else is "
    "`other`: a missing table or certificate, text that is no URL, a KeyError, another TypeError.",
    "URL-51": "`postgresql+asyncpg://` is SQLAlchemy's way to name a driver. libpq knows "
    "`postgresql://` and `postgres://`, lower case. Try your text: "
    "`psycopg.conninfo.conninfo_to_dict(...)`.",
    "URL-52": "SQLAlchemy leaves blanks in a rendered URL; newer versions of libpq refuse them. "
    "`quote(part, safe='')` makes `%20` of them.",
    "URL-53": "`ssl=require` in asyncpg's URL is a promise. Turn it into `sslmode=require`, and "
    "any other `ssl=` into the `sslmode` of the same name.",
    "URL-54": "libpq refuses keys that it does not know, and `ssl=require` is one. It is "
    "`sslmode=require` there.",
    "URL-55": "Keys such as `application_name` mean the same for psql. Keep them, and mind blanks: "
    "SQLAlchemy and `urlencode` write one as `+`, and libpq takes a plus for a plus. "
    "`urlencode(..., quote_via=quote)` writes `%20`.",
    "URL-56": "SQLAlchemy's `?host=a:1&host=b:2` is `a:1,b:2` before the slash for libpq, or "
    "`host=a,b port=1,2` in words.",
    "URL-57": "In a URL for libpq every sign of a name or password that could end it is escaped: "
    "`quote(part, safe='')`, because `quote` alone leaves a `/`. In text such as `user=... "
    "password=...` it is `'` and `\\` that need a `\\` before them: `make_conninfo(**parts)` of "
    "`psycopg.conninfo` knows.",
}
