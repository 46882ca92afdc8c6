"""07 sqlite_testing: SQLite for tests, and when it lies."""

import json
import re
from collections.abc import AsyncIterator
from textwrap import dedent, indent
from typing import Any, NamedTuple

import asyncpg

from engineroom.exercises import Draw, Lesson, Objective, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "sqlite_testing",
    "When SQLite lies",
    minutes=35,
    objectives=(
        Objective(
            "sqlite_testing.fresh",
            "Give each test an SQLite database of its own, and its connections the rules you need",
            "apply",
            "B1",
            "Test databases",
        ),
        Objective(
            "sqlite_testing.locks",
            "Say where `database is locked` comes from, and let writers wait for each other",
            "analyze",
            "B1",
            "Test databases",
        ),
        Objective(
            "sqlite_testing.lies",
            "Name what SQLite accepts and Postgres refuses, and prove it on both",
            "evaluate",
            "B1",
            "Test databases",
        ),
        Objective(
            "sqlite_testing.portable",
            "Write types and queries that mean the same on both",
            "apply",
            "B2",
            "Test databases",
        ),
        Objective(
            "sqlite_testing.fixtures",
            "Write pytest fixtures after which a test leaves nothing behind in Postgres",
            "create",
            "B2",
            "Test databases",
        ),
    ),
    stuck="Hold on to one engine on one new file for each test; the rest of the lesson is about "
    "what that file does not tell you.",
    further="Write a query that finds the same bookings on both databases, whatever was typed.",
)


# -- fresh_db ------------------------------------------------------------------------------


async def two_tests(fresh_db: Any, words: list[str], number: int) -> AsyncIterator[Any]:
    """Two tests, one after the other: what each finds, may do, and leaves in its file."""
    import asyncio
    import sqlite3
    from contextlib import closing

    from sqlalchemy import inspect, text
    from sqlalchemy.exc import IntegrityError

    from engineroom.exercises.tools import let_pass, place

    orphan = text("insert into booking values (:code, :sailing)")
    with place({}) as folder:
        (folder / "tests").mkdir()
        for word in words:
            engine = fresh_db(folder / "tests")
            async with engine.begin() as conn:
                yield await conn.run_sync(lambda sync: inspect(sync).get_table_names())
                await conn.execute(text("create table sailing (id integer primary key)"))
                await conn.execute(
                    text("create table booking (code text, sailing_id int references sailing (id))")
                )
            one, second = await engine.connect(), asyncio.ensure_future(engine.connect())
            await asyncio.wait({second}, timeout=2)
            if not second.done():
                await let_pass(60)  # what a pool that is too small waits for
            other = await second
            yield None
            await one.execute(text("insert into sailing values (:id)"), {"id": number})
            await other.close()  # which rolls back what it has begun
            await one.commit()
            yield (await one.execute(text("select id from sailing"))).scalars().all()
            await one.rollback()
            taken = []
            for conn in (one, await engine.connect()):
                try:
                    await conn.execute(orphan, {"code": word, "sailing": number + 1})
                    taken.append(True)
                except IntegrityError:
                    taken.append(False)
                await conn.rollback()
                other = conn
            yield taken
            await other.execute(orphan, {"code": word, "sailing": number})
            await other.commit()
            await other.close()
            await one.close()
            await engine.dispose()
            found = []
            for file in (folder / "tests").rglob("*"):
                try:
                    with closing(sqlite3.connect(file, timeout=0)) as database:
                        found += [row[0] for row in database.execute("select code from booking")]
                except sqlite3.Error:
                    continue
            yield found


async def many_names(fresh_db: Any, calls: int) -> AsyncIterator[Any]:
    """Where so many engines would connect to, if their URLs say so; none of them does."""
    from engineroom.exercises.tools import place

    with place({}) as folder:
        urls = [str(fresh_db(folder).url) for _ in range(calls)]
    yield [calls, len(set(urls))]


async def two_at_a_time(fresh_db: Any, words: list[str]) -> AsyncIterator[Any]:
    """Engines that are all made before the first connects; what lies there when all are done."""
    import sqlite3
    from contextlib import closing

    from sqlalchemy import text

    from engineroom.exercises.tools import place

    with place({}) as folder:
        (folder / "tests").mkdir()
        engines = [fresh_db(folder / "tests") for _ in words]
        for engine, word in zip(engines, words, strict=True):
            async with engine.begin() as conn:
                await conn.execute(text("create table if not exists note (word text)"))
                await conn.execute(text("insert into note values (:word)"), {"word": word})
        for engine in engines:
            await engine.dispose()
        found = []
        for file in (folder / "tests").rglob("*"):
            try:
                with closing(sqlite3.connect(file, timeout=0)) as database:
                    found.append([row[0] for row in database.execute("select word from note")])
            except sqlite3.Error:
                continue
        yield sorted(found)


@lesson.exercise(
    "fresh_db",
    points=3,
    needs=(),
    measures=("sqlite_testing.fresh",),
    task="Write `fresh_db(folder)`: an async engine on an empty SQLite database in a file in "
    "`folder`, at each call anew. All its connections enforce foreign keys, and no session undoes "
    "another one's work.",
    hints=(
        "What belongs to each connection of its own: the rows, the transaction, the foreign keys?",
        (
            "A new file name at each call gives an empty database and a pool of several "
            "connections. A PRAGMA holds for one connection: which event meets each new one?"
        ),
        (
            '`@event.listens_for(engine.sync_engine, "connect")`, and in it '
            '`cursor.execute("pragma foreign_keys = on")`; the file\'s name from `uuid4().hex`'
        ),
    ),
    slips=(
        Slip(
            "memory",
            "LITE-01",
            "One session added a row, another was closed meanwhile, and the row was gone: both had "
            "the same connection.",
            (
                """
                from sqlalchemy import event
                def fresh_db(folder):
                    engine = create_async_engine('sqlite+aiosqlite://')
                    @event.listens_for(engine.sync_engine, 'connect')
                    def keys(connection, record):
                        connection.cursor().execute('pragma foreign_keys = on')
                    return engine
                """,
                """
                import uuid
                from sqlalchemy.pool import StaticPool
                def fresh_db(folder):
                    return create_async_engine(
                        f'sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db',
                        poolclass=StaticPool)
                """,
            ),
        ),
        Slip(
            "keys_off",
            "LITE-02",
            "A booking for a sailing that does not exist was accepted: foreign keys were off.",
            (
                """
                import uuid
                def fresh_db(folder):
                    return create_async_engine(
                        f'sqlite+aiosqlite:///{folder / uuid.uuid4().hex}')
                """,
                """
                import sqlite3, tempfile
                from sqlalchemy import URL
                def fresh_db(folder):
                    _, name = tempfile.mkstemp(dir=folder)
                    with sqlite3.connect(name) as connection:
                        connection.execute('pragma foreign_keys = on')
                    return create_async_engine(URL.create('sqlite+aiosqlite', database=name))
                """,
            ),
        ),
        Slip(
            "keys_once",
            "LITE-03",
            "The first connection refused a booking for a sailing that does not exist, and the "
            "second took it: a PRAGMA holds for one connection.",
            (
                """
                import uuid
                from sqlalchemy import event
                def fresh_db(folder):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db')
                    @event.listens_for(engine.sync_engine, 'first_connect')
                    def keys(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma foreign_keys = on')
                        cursor.close()
                    return engine
                """,
                """
                import itertools
                from sqlalchemy import event
                counter = itertools.count()
                def fresh_db(folder):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{folder}/{next(counter)}.db')
                    done = []
                    @event.listens_for(engine.sync_engine, 'connect')
                    def keys(connection, record):
                        if not done:
                            cursor = connection.cursor()
                            cursor.execute('pragma foreign_keys = on')
                            cursor.close()
                            done.append(True)
                    return engine
                """,
            ),
        ),
        Slip(
            "same_file",
            "LITE-04",
            "The second test found the tables of the first one: it was the same database.",
            (
                """
                from sqlalchemy import event
                def fresh_db(folder):
                    engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/test.db')
                    @event.listens_for(engine.sync_engine, 'connect')
                    def keys(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma foreign_keys = on')
                        cursor.close()
                    return engine
                """,
                """
                from sqlalchemy import event
                from sqlalchemy.pool import NullPool
                def fresh_db(folder):
                    name = folder.name
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{folder / name}', poolclass=NullPool)
                    @event.listens_for(engine.sync_engine, 'connect')
                    def keys(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma foreign_keys = 1')
                        cursor.close()
                    return engine
                """,
            ),
        ),
    ),
    right=(
        """
        import uuid
        from sqlalchemy import event
        def fresh_db(folder):
            engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db")
            @event.listens_for(engine.sync_engine, "connect")
            def enforce_keys(connection, record):
                cursor = connection.cursor()
                cursor.execute("pragma foreign_keys = on")
                cursor.close()
            return engine
        """,
        """
        import tempfile
        from functools import partial
        import aiosqlite
        from sqlalchemy.pool import NullPool
        async def connect(name):
            connection = await aiosqlite.connect(name)
            await connection.execute('pragma foreign_keys = on')
            return connection
        class Fresh:
            def __call__(self, folder):
                handle, name = tempfile.mkstemp(suffix='.sqlite', dir=folder)
                return create_async_engine('sqlite+aiosqlite://', poolclass=NullPool,
                                           async_creator=partial(connect, name))
        fresh_db = Fresh()
        """,
        """
        import uuid
        from sqlalchemy import URL, event
        def fresh_db(folder):
            file = folder / f'{uuid.uuid4()}.db'
            engine = create_async_engine(
                URL.create('sqlite+aiosqlite', database=str(file)),
                pool_size=2, connect_args={'timeout': 30})
            event.listen(engine.sync_engine.pool, 'checkout',
                         lambda connection, *_: connection.cursor().execute(
                             'pragma foreign_keys = on'))
            return engine
        """,
        """
        import itertools
        from sqlalchemy import event
        number = itertools.count(1)
        def switch(engine):
            @event.listens_for(engine, 'connect')
            def on(connection, record):
                connection.isolation_level = None
                cursor = connection.cursor()
                for name, value in (('foreign_keys', 'on'), ('journal_mode', 'wal')):
                    cursor.execute(f'pragma {name} = {value}')
            @event.listens_for(engine, 'begin')
            def begin(conn):
                conn.exec_driver_sql('begin immediate')
        def fresh_db(folder):
            home = folder / f'test-{next(number)}'
            home.mkdir()
            engine = create_async_engine(f'sqlite+aiosqlite:///{home}/desk.db')
            switch(engine.sync_engine)
            return engine
        """,
    ),
)
async def fresh_db(trial: Trial) -> None:
    words, number = [trial.draw.word() for _ in range(2)], trial.draw.randint(2, 9_000)
    steps = trial.subject.steps(two_tests, words, number)
    for number_of, word in enumerate(words):
        expect(await steps.next() == [], "LITE-04")
        both = await steps.outcome()
        if both.failure is not None:
            expect(not both.failure.is_a("TimeoutError"), "LITE-06", _ONE_ONLY)
            raise SubjectFailed(both.failure)
        expect(await steps.next() == [number], "LITE-01")
        first, second = await steps.next()
        expect(not first, "LITE-02")
        expect(not second, "LITE-03")
        found = await steps.next()
        expect(word in found, "LITE-05", "In `folder` lies no file with the rows.")
        expect(set(words[:number_of]) <= set(found), "LITE-05", _TAKEN_AWAY)
    several = [trial.draw.word() for _ in range(3)]
    found = await trial.subject.steps(two_at_a_time, several).next()
    expect(all(len(rows) == 1 for rows in found), "LITE-04", "Two calls led to the same file.")
    expect(found == sorted([word] for word in several), "LITE-05", _TAKEN_AWAY)
    calls, names = await trial.subject.steps(many_names, 100).next()
    expect(names in (1, calls), "LITE-04", f"A hundred calls led to {names} files only.")


_TAKEN_AWAY = "The file of an earlier call was gone after a later one."
_ONE_ONLY = "While one session was open, a second got no connection: the pool has one only."


# -- patient -------------------------------------------------------------------------------


async def counters(
    shop_engine: Any, seats: int, patience: float, sellers: int
) -> AsyncIterator[Any]:
    """A shop and a stranger at one file: who holds the lock, for how long one waits for it."""
    import asyncio
    import sqlite3
    from contextlib import closing, suppress

    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    from engineroom.exercises.tools import place

    look, sell = text("select seats from sailing"), text("update sailing set seats = :left")

    async def sale(engine: Any) -> str:
        try:
            async with engine.begin() as conn:
                left = await conn.scalar(look)
                await asyncio.sleep(0)
                await conn.execute(sell, {"left": left - 1})
        except DBAPIError as error:
            return str(error.orig)
        return ""

    with place({}) as folder:
        file = folder / "desk.db"
        stranger = sqlite3.connect(file, timeout=0, isolation_level=None)
        with closing(stranger):
            stranger.executescript("create table sailing (seats int)")
            stranger.execute("insert into sailing values (?)", [seats])
            engine = shop_engine(file, patience)
            async with engine.begin() as conn:
                left = await conn.scalar(look)
                try:
                    stranger.execute("begin immediate")
                    yield False
                except sqlite3.OperationalError:
                    yield True
                with suppress(sqlite3.OperationalError):
                    stranger.execute("rollback")
                await conn.execute(sell, {"left": left - 1})
            try:
                stranger.executescript("begin immediate; rollback")
                yield True
            except sqlite3.OperationalError:
                yield False
            waits = []
            one = await engine.connect()
            for conn in (one, await engine.connect()):
                waits.append(await conn.scalar(text("pragma busy_timeout")))
                await conn.close()
            hasty = shop_engine(file, 0.05)
            async with hasty.connect() as conn:
                await conn.scalar(look)
                waits.append(await conn.scalar(text("pragma busy_timeout")))
            yield waits
            stranger.execute("begin")
            stranger.execute("select * from sailing").fetchall()
            yield await sale(hasty)
            stranger.execute("rollback")
            await hasty.dispose()
            second = shop_engine(file, patience)
            at_work = [sale((n % 2 and engine) or second) for n in range(sellers)]
            yield [trouble for trouble in await asyncio.gather(*at_work) if trouble]
            yield stranger.execute("select seats from sailing").fetchone()[0]
            await engine.dispose()
            await second.dispose()


@lesson.exercise(
    "shop_engine",
    points=4,
    needs=(),
    measures=("sqlite_testing.locks",),
    task="Write `shop_engine(file, patience)`: an async engine with which several programs sell "
    "from one SQLite file. Who begins to sell has the file to itself until the end; the others "
    "wait for up to `patience` seconds. A program that only reads stops nobody.",
    hints=(
        "Each sale first reads, then writes. At which of the two does SQLite lock the file?",
        (
            "Three things: the driver must not begin by itself (`isolation_level`), your BEGIN "
            "takes the lock at once, and the file keeps its changes in a log beside it, so that "
            "readers disturb nobody."
        ),
        (
            '`connect_args={"timeout": patience, "isolation_level": None}`; in the event '
            '`begin`: `conn.exec_driver_sql("begin immediate")`; in `connect`: '
            "`pragma journal_mode = wal`"
        ),
    ),
    slips=(
        Slip(
            "sold_twice",
            "LITE-11",
            "Your sale had read how many seats are left, and a stranger could still begin to "
            "write: one of the two will be lost.",
            (
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{file}', connect_args={'timeout': patience})
                    @event.listens_for(engine.sync_engine, 'connect')
                    def log(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma journal_mode = wal')
                        cursor.close()
                    return engine
                """,
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{file}',
                        connect_args={'timeout': patience, 'isolation_level': None})
                    @event.listens_for(engine.sync_engine, 'connect')
                    def log(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma journal_mode = wal')
                        cursor.close()
                    @event.listens_for(engine.sync_engine, 'begin')
                    def begin(conn):
                        conn.exec_driver_sql('begin')
                    return engine
                """,
            ),
        ),
        Slip(
            "impatient",
            "LITE-12",
            "Your connections do not wait as long for the lock as they were told to.",
            (
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{file}', connect_args={'isolation_level': None})
                    @event.listens_for(engine.sync_engine, 'connect')
                    def log(connection, record):
                        cursor = connection.cursor()
                        cursor.execute('pragma journal_mode = wal')
                        cursor.close()
                    @event.listens_for(engine.sync_engine, 'begin')
                    def begin(conn):
                        conn.exec_driver_sql('begin immediate')
                    return engine
                """,
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{file}', pool_timeout=patience)
                    @event.listens_for(engine.sync_engine, 'connect')
                    def log(connection, record):
                        connection.isolation_level = None
                        cursor = connection.cursor()
                        cursor.execute('pragma journal_mode = wal')
                        cursor.execute(f'pragma busy_timeout = {int(patience)}')
                        cursor.close()
                    @event.listens_for(engine.sync_engine, 'begin')
                    def begin(conn):
                        conn.exec_driver_sql('begin immediate')
                    return engine
                """,
            ),
        ),
        Slip(
            "held_up",
            "LITE-13",
            "A program only read from the file, and your sale ended with `database is locked`.",
            (
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(
                        f'sqlite+aiosqlite:///{file}',
                        connect_args={'timeout': patience, 'isolation_level': None})
                    @event.listens_for(engine.sync_engine, 'begin')
                    def begin(conn):
                        conn.exec_driver_sql('begin immediate')
                    return engine
                """,
                """
                from sqlalchemy import event
                def shop_engine(file, patience):
                    engine = create_async_engine(f'sqlite+aiosqlite:///{file}')
                    @event.listens_for(engine.sync_engine, 'connect')
                    def wait(connection, record):
                        connection.isolation_level = None
                        cursor = connection.cursor()
                        cursor.execute(f'pragma busy_timeout = {round(patience * 1000)}')
                        cursor.close()
                    @event.listens_for(engine.sync_engine, 'begin')
                    def begin(conn):
                        conn.exec_driver_sql('begin exclusive')
                    return engine
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import event
        def shop_engine(file, patience):
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
        """,
        """
        import sqlite3
        from sqlalchemy import URL, event
        from sqlalchemy.pool import NullPool
        class Shop:
            def __init__(self, file, patience):
                connection = sqlite3.connect(file)
                connection.execute('pragma journal_mode = wal')
                connection.close()
                self.url = URL.create('sqlite+aiosqlite', database=str(file))
                self.patience = patience
            def engine(self):
                made = create_async_engine(self.url, poolclass=NullPool,
                                           connect_args={'timeout': self.patience})
                event.listen(made.sync_engine, 'connect', self.own_begin)
                event.listen(made.sync_engine, 'begin', self.begin)
                return made
            def own_begin(self, connection, record):
                connection.isolation_level = None
            def begin(self, conn):
                conn.exec_driver_sql('BEGIN EXCLUSIVE')
        shop_engine = lambda file, patience: Shop(file, patience).engine()
        """,
        """
        from functools import partial
        import aiosqlite
        from sqlalchemy import event, text
        async def connect(file, patience):
            connection = await aiosqlite.connect(file, isolation_level=None)
            await connection.execute(f'pragma busy_timeout = {int(patience * 1000)}')
            await connection.execute('pragma journal_mode = wal')
            return connection
        def make(begin, file, patience):
            engine = create_async_engine('sqlite+aiosqlite:///' + str(file), pool_size=3,
                                         async_creator=partial(connect, file, patience))
            event.listen(engine.sync_engine, 'begin', lambda conn: conn.execute(text(begin)))
            return engine
        shop_engine = partial(make, 'begin immediate transaction')
        """,
        """
        from sqlalchemy import event
        def shop_engine(file, patience):
            engine = create_async_engine(f'sqlite+aiosqlite:///{file}?timeout={patience}',
                                         isolation_level='AUTOCOMMIT')
            @event.listens_for(engine.sync_engine, 'connect')
            def log(connection, _):
                connection.cursor().execute('pragma journal_mode = wal')
            @event.listens_for(engine.sync_engine, 'begin')
            def begin(conn):
                conn.connection.cursor().execute('begin immediate')
            return engine
        """,
    ),
)
async def patient(trial: Trial) -> None:
    draw = trial.draw
    seats, sellers = draw.randint(20, 90), draw.randint(5, 8)
    patience = draw.randint(20, 90) + draw.choice([0.25, 0.5, 0.75])
    steps = trial.subject.steps(counters, seats, patience, sellers)
    expect(await steps.next(), "LITE-11")
    expect(await steps.next(), "LITE-14", "The sale was over, and the file was still locked.")
    waits = await steps.next()
    told = (patience, patience, 0.05)
    fits = (told <= wait / 1000 <= told + 0.1 for wait, told in zip(waits, told, strict=True))
    expect(all(fits), "LITE-12")
    trouble = await steps.next()
    expect(not trouble, "LITE-13", "" if "locked" in trouble else f"A sale failed: {trouble}")
    troubles = await steps.next()
    expect(not troubles, "LITE-14", f"{len(troubles)} of {sellers} sales failed: {troubles[:1]}")
    left, wanted = await steps.next(), seats - sellers - 2
    expect(left == wanted, "LITE-14", f"{wanted} seats should be left, and the file has {left}.")


# -- lies ----------------------------------------------------------------------------------


@lesson.exercise(
    "lies",
    points=4,
    measures=("sqlite_testing.lies",),
    task="Write `lies(table)`: at least four SQL scripts. Each makes a table of that name and does "
    "something with it which SQLite accepts and Postgres refuses, for four different reasons, and "
    "none of them grammar or a function that the other does not know.",
    hints=(
        "What does a column promise about the values in it, and which database keeps the promise?",
        (
            "Keys that point nowhere, words among numbers, texts that are too long, numbers that "
            "are too large, days that the calendar has not, a column beside a GROUP BY."
        ),
        (
            "`create table X (seats integer); insert into X values ('two')` is one (22P02). "
            "`varchar(3)` and four letters is another (22001), `smallint` and 40000 a third (22003)"
        ),
    ),
    slips=(
        Slip(
            "refused",
            "LITE-21",
            "SQLite refuses that as well, so it is no lie.",
            (
                """
                def lies(table):
                    return [
                        f"create table {table} (n integer not null); "
                        f"insert into {table} values (null)",
                        f"create table {table} (n integer); insert into {table} values ('two')",
                        f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                        f"create table {table} (n smallint); insert into {table} values (99999)",
                    ]
                """,
                """
                def lies(table):
                    rows = {'integer primary key': "'two'", 'varchar(2)': "'abc'",
                            'smallint': '99999', 'date': "'2026-02-30'"}
                    return [f'create table {table} (x {kind}); insert into {table} values ({value})'
                            for kind, value in rows.items()]
                """,
            ),
        ),
        Slip(
            "same_reason",
            "LITE-22",
            "Four scripts, but not four reasons: Postgres gave the same SQLSTATE twice.",
            (
                """
                def lies(table):
                    return [f"create table {table} (n {kind}); insert into {table} values ('two')"
                            for kind in ('integer', 'bigint', 'numeric', 'boolean')]
                """,
                """
                def lies(table):
                    return [
                        f"create table {table} (n integer); insert into {table} values ('two')",
                        f"create table {table} (n boolean); insert into {table} values ('two')",
                        f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                        f"create table {table} (n smallint); insert into {table} values (99999)",
                    ]
                """,
            ),
        ),
        Slip(
            "grammar",
            "LITE-23",
            "Postgres does not know that word or function: a gap between two dialects, which the "
            "first run shows, and no lie about data.",
            (
                """
                def lies(table):
                    return [
                        f"create table {table} (n integer primary key autoincrement)",
                        f"create table {table} (n integer); insert into {table} values ('two')",
                        f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                        f"create table {table} (n smallint); insert into {table} values (99999)",
                    ]
                """,
                """
                def lies(table):
                    make = f'create table {table} (n integer, c varchar(2), s smallint);'
                    return [make + use for use in (
                        f"insert into {table} (c) values ('abc')",
                        f"insert into {table} (s) values (99999)",
                        f"insert into {table} (n) values ('two')",
                        f"select ifnull(n, 0) from {table}")]
                """,
            ),
        ),
        Slip(
            "both",
            "LITE-24",
            "Postgres accepts that too.",
            (
                """
                def lies(table):
                    return [
                        f"create table {table} (n integer); insert into {table} values ('2')",
                        f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                        f"create table {table} (n smallint); insert into {table} values (99999)",
                        f"create table {table} (d date); insert into {table} values ('2026-02-30')",
                    ]
                """,
                """
                def lies(table):
                    make = f'create table {table} (n integer, c text, s smallint, d date);'
                    return [f"{make} insert into {table} ({column}) values ({value})"
                            for column, value in dict(n="'two'", c="'much too long'", s=99999,
                                                      d="'2026-02-30'").items()]
                """,
            ),
        ),
    ),
    right=(
        """
        def lies(table):
            make = f"create table {table}"
            return [
                f"{make} (id int primary key, parent int references {table} (id));"
                f"insert into {table} values (1, 99)",
                f"{make} (seats integer); insert into {table} values ('two')",
                f"{make} (code varchar(6)); insert into {table} values ('PUFFIN-1')",
                f"{make} (seats integer); insert into {table} values (1099511627776)",
            ]
        """,
        """
        class Lies:
            columns = 'ferry text, seats integer, day date, price numeric(4, 2)'
            what = [
                "select ferry, seats from {0} group by ferry",
                "select ferry from {0} where seats",
                "insert into {0} (day) values ('2026-02-30')",
                "insert into {0} (price) values (12345.6)",
                ]
            def __call__(self, table):
                for use in self.what:
                    yield f'create table {table} ({self.columns}); ' + use.format(table)
        def lies(table, found=Lies()):
            return list(found(table))
        """,
        """
        lies = lambda table: [
            f'CREATE TABLE {table} (a smallint, b char(2), c date, d real);\\n{what};'
            for what in (f"INSERT INTO {table} (a) VALUES ('')",
                         f"INSERT INTO {table} (a) VALUES (70000)",
                         f"INSERT INTO {table} (b) SELECT 'abc'",
                         f"INSERT INTO {table} (c) VALUES ('2026-13-01')",
                         f"SELECT 1 / 0 FROM (SELECT 1) one; INSERT INTO {table} (d) VALUES (0)",
                         f"SELECT * FROM {table} WHERE a = c")]
        """,
    ),
)
async def lies(trial: Trial) -> None:
    table = trial.draw.word()
    scripts = await trial.subject.value("lies", table)
    fitting = type(scripts) is list and 4 <= len(scripts) <= 40
    expect(fitting and all(type(s) is str for s in scripts), "LITE-25", _FOUR)
    reasons = []
    async with trial.witness.actors(trial.lab.url, 1) as (actor,):
        for number, script in enumerate(scripts, start=1):
            with trial.witness.lite() as lite:
                told = lite.refusal(script)
                expect(not told, "LITE-21", f"SQLite refuses script {number} as well: {told[:200]}")
                expect(lite.has(table), "LITE-25", f"Script {number} made no table `{table}`.")
            await actor.says(f"drop table if exists {table}", "begin")
            state, words = await _refusal(actor, script)
            await actor.says("rollback")
            expect(state, "LITE-24", f"Postgres accepts script {number} too.")
            honest = _about_data(state, words)
            expect(honest, "LITE-23", f"Script {number}, says Postgres: {state} {words[:200]}")
            idle = f"Script {number} makes the table, and does nothing with it."
            expect(script.lower().count(table) > 1, "LITE-25", idle)
            reasons.append(state)
    missing = f"You gave {len(reasons)} scripts and {len(set(reasons))} reasons: {reasons}"
    expect(len(set(reasons)) >= 4, "LITE-22", missing)


_FOUR = "`lies` returns a list of at least four scripts, each a text."


async def _refusal(actor: Any, script: str) -> tuple[str, str]:
    """SQLSTATE and words with which Postgres refuses a script."""
    try:
        await actor.says(script)
    except asyncpg.PostgresError as error:
        return error.sqlstate or "", str(error)
    return "", ""


def _about_data(state: str, words: str) -> bool:
    """Whether it is about values, types and keys; not about a word that Postgres does not know."""
    wrong_types = ("42803", "42804", "42846", "42830", "42P10", "42P18")
    no_operator = state == "42883" and words.startswith("operator")
    return state.startswith(("22", "23")) or state in wrong_types or no_operator


# -- harbour_time --------------------------------------------------------------------------


async def log_book(
    HarbourTime: Any,  # noqa: N803
    url: str,
    table: str,
    moments: list[str],
) -> AsyncIterator[Any]:
    """Times through a column of the answer's type: written, read, sorted, compared."""
    from datetime import UTC, datetime

    from sqlalchemy import Column, Integer, MetaData, Table, insert, select
    from sqlalchemy.exc import StatementError
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import place

    made = HarbourTime() if callable(HarbourTime) else HarbourTime
    book = Table(table, MetaData(), Column("id", Integer), Column("at", made))
    times = [datetime.fromisoformat(moment) for moment in moments]

    def told(value: Any) -> Any:
        if not isinstance(value, datetime) or value.utcoffset() is None:
            return str(value)
        return value.astimezone(UTC).isoformat()

    with place({}):
        engine = create_async_engine(url)
        async with engine.begin() as conn:
            await conn.run_sync(book.metadata.create_all)
            await conn.execute(insert(book), [{"id": n, "at": t} for n, t in enumerate(times)])
        async with engine.connect() as conn:
            rows = await conn.execute(select(book.c.at).order_by(book.c.id))
            yield [told(value) for value in rows.scalars()]
            yield (await conn.execute(select(book.c.id).order_by(book.c.at))).scalars().all()
            until = select(book.c.id).where(book.c.at <= times[0]).order_by(book.c.id)
            yield (await conn.execute(until)).scalars().all()
        try:
            async with engine.begin() as conn:
                await conn.execute(insert(book), {"id": -1, "at": times[0].replace(tzinfo=None)})
            yield False
        except (StatementError, TypeError, ValueError):
            yield True
        async with engine.begin() as conn:
            await conn.execute(insert(book), {"id": -2, "at": None})
            nothing = await conn.scalar(select(book.c.at).where(book.c.id == -2))
        await engine.dispose()
        yield nothing is None


@lesson.exercise(
    "HarbourTime",
    points=3,
    measures=("sqlite_testing.portable",),
    task="Write a class `HarbourTime(TypeDecorator)` for columns with a moment in it: an aware "
    "`datetime` goes in and comes out aware and equal, on SQLite and on Postgres; the database "
    "sorts and compares rightly; one without a zone is refused; None stays None.",
    hints=(
        "SQLite keeps no zone. So which zone should all times be in before they go in?",
        (
            "`process_bind_param` turns a moment into UTC, `process_result_value` says that what "
            "comes back is UTC. On Postgres it may be aware already."
        ),
        (
            "`impl = DateTime`; in: `value.astimezone(UTC).replace(tzinfo=None)`, if "
            "`value.utcoffset()` is not None; out: `value.replace(tzinfo=UTC)`"
        ),
    ),
    slips=(
        Slip(
            "naive_back",
            "LITE-31",
            "What came back from SQLite has no zone.",
            (
                """
                from sqlalchemy import DateTime, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = DateTime(timezone=True), True
                    def process_bind_param(self, value, dialect):
                        if value is not None and value.tzinfo is None:
                            raise ValueError('no zone')
                        return value
                """,
                """
                from datetime import timezone
                from sqlalchemy import DateTime, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl = DateTime
                    cache_ok = True
                    def process_bind_param(self, value, dialect):
                        if value is None:
                            return None
                        assert value.tzinfo is not None
                        return value.astimezone(timezone.utc).replace(tzinfo=None)
                """,
            ),
        ),
        Slip(
            "relabelled",
            "LITE-32",
            "Another moment came back than went in: the clock's time was kept, and called UTC.",
            (
                """
                from datetime import UTC
                from sqlalchemy import DateTime, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = DateTime, True
                    def process_bind_param(self, value, dialect):
                        if value is not None and value.tzinfo is None:
                            raise ValueError('no zone')
                        return value and value.replace(tzinfo=None)
                    def process_result_value(self, value, dialect):
                        return value and value.replace(tzinfo=UTC)
                """,
                """
                from datetime import datetime, timezone
                from sqlalchemy import String, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = String, True
                    def process_bind_param(self, value, dialect):
                        if value is None:
                            return None
                        if value.utcoffset() is None:
                            raise ValueError('no zone')
                        return value.strftime('%Y-%m-%d %H:%M:%S.%f')
                    def process_result_value(self, value, dialect):
                        if value is None:
                            return None
                        found = datetime.strptime(value, '%Y-%m-%d %H:%M:%S.%f')
                        return found.replace(tzinfo=timezone.utc)
                """,
            ),
        ),
        Slip(
            "as_text",
            "LITE-33",
            "The moments came back, but the database sorts them wrongly: as text, the offset "
            "comes last.",
            (
                """
                from datetime import datetime
                from sqlalchemy import String, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = String, True
                    def process_bind_param(self, value, dialect):
                        if value is not None and value.tzinfo is None:
                            raise ValueError('no zone')
                        return value and value.isoformat()
                    def process_result_value(self, value, dialect):
                        return value and datetime.fromisoformat(value)
                """,
                """
                from datetime import datetime
                from sqlalchemy import JSON, DateTime, Text, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = DateTime(timezone=True), True
                    def load_dialect_impl(self, dialect):
                        if dialect.name == 'sqlite':
                            return dialect.type_descriptor(Text())
                        return dialect.type_descriptor(self.impl)
                    def process_bind_param(self, value, dialect):
                        if value is not None and value.utcoffset() is None:
                            raise ValueError('no zone')
                        return str(value) if value and dialect.name == 'sqlite' else value
                    def process_result_value(self, value, dialect):
                        return datetime.fromisoformat(value) if type(value) is str else value
                """,
            ),
        ),
        Slip(
            "naive_taken",
            "LITE-34",
            "A time without a zone was accepted: nobody knows which moment that is.",
            (
                """
                from datetime import UTC
                from sqlalchemy import DateTime, TypeDecorator
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = DateTime, True
                    def process_bind_param(self, value, dialect):
                        return value and value.astimezone(UTC).replace(tzinfo=None)
                    def process_result_value(self, value, dialect):
                        return value and value.replace(tzinfo=UTC)
                """,
                """
                from datetime import datetime, timezone
                from sqlalchemy import BigInteger, TypeDecorator
                START = datetime(1970, 1, 1, tzinfo=timezone.utc)
                class HarbourTime(TypeDecorator):
                    impl, cache_ok = BigInteger, True
                    def process_bind_param(self, value, dialect):
                        if value is None:
                            return None
                        if value.tzinfo is None:
                            value = value.replace(tzinfo=timezone.utc)
                        took = value - START
                        return (took.days * 86400 + took.seconds) * 10**6 + took.microseconds
                    def process_result_value(self, value, dialect):
                        from datetime import timedelta
                        if value is not None:
                            return START + timedelta(microseconds=value)
                """,
            ),
        ),
    ),
    right=(
        """
        from datetime import UTC
        from sqlalchemy import DateTime, TypeDecorator
        class HarbourTime(TypeDecorator):
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
        """,
        """
        from datetime import datetime, timedelta, timezone
        from sqlalchemy.types import BigInteger, TypeDecorator
        class HarbourTime(TypeDecorator):
            '''Microseconds since 1970.'''
            impl = BigInteger
            cache_ok = True
            start = datetime(1970, 1, 1, tzinfo=timezone.utc)
            def process_bind_param(self, value, dialect):
                return None if value is None else (value - self.start) // timedelta(microseconds=1)
            def process_result_value(self, value, dialect):
                if value is not None:
                    value = self.start + timedelta(microseconds=value)
                return value
        """,
        """
        from datetime import datetime, timezone
        from sqlalchemy import String
        from sqlalchemy.types import TypeDecorator
        class Stored(TypeDecorator):
            impl, cache_ok = String(32), True
            def process_bind_param(self, value, dialect):
                if value is None:
                    return value
                if value.tzinfo is None:
                    raise TypeError('a time without a zone')
                return value.astimezone(timezone.utc).isoformat(timespec='microseconds')
            def process_result_value(self, value, dialect):
                return value if value is None else datetime.fromisoformat(value)
        HarbourTime = Stored
        """,
        """
        from datetime import UTC
        from zoneinfo import ZoneInfo
        from functools import partial
        from sqlalchemy import DateTime
        from sqlalchemy.types import TypeDecorator
        class Zoned(TypeDecorator):
            impl = DateTime(timezone=True)
            cache_ok = True
            def __init__(self, zone):
                super().__init__()
                self.zone = zone
            def process_bind_param(self, value, dialect):
                if value is not None:
                    if value.tzinfo is None:
                        raise ValueError('no zone')
                    return value.astimezone(UTC)
            def process_result_value(self, value, dialect):
                if value is None:
                    return None
                if value.tzinfo is None:
                    value = value.replace(tzinfo=UTC)
                return value.astimezone(self.zone)
        HarbourTime = partial(Zoned, UTC)
        """,
        """
        from datetime import UTC, datetime, timedelta
        from sqlalchemy import BigInteger, TypeDecorator
        EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
        class HarbourTime(TypeDecorator):
            impl, cache_ok = BigInteger, True
            def process_bind_param(self, value, dialect):
                match value:
                    case None:
                        return None
                    case datetime() if value.utcoffset() is not None:
                        return (value - EPOCH) // timedelta(microseconds=1)
                raise TypeError('a moment has a zone')
            def process_result_value(self, value, dialect):
                return None if value is None else EPOCH + timedelta(microseconds=value)
        """,
    ),
)
async def harbour_time(trial: Trial) -> None:
    draw, lab, table = trial.draw, trial.lab, trial.draw.word()
    moments, order = _moments(draw)
    first = [n for n in range(len(moments)) if order.index(n) <= order.index(0)]
    for url in ("sqlite+aiosqlite:///book.db", lab.url, lab.psycopg_url):
        await trial.witness.execute(f"drop table if exists {table}")
        steps = trial.subject.steps(log_book, url, table, moments)
        back = await steps.next()
        who = "SQLite" if "sqlite" in url else "Postgres"
        zoned = all(value.endswith("+00:00") for value in back)
        expect(zoned, "LITE-31", f"What came back from {who} has no zone.")
        for moment, came in zip(moments, back, strict=True):
            kept = came.startswith(moment[:26])
            expect(came == _in_utc(moment), "LITE-32", "" if kept else _OTHER.format(moment, came))
        expect(await steps.next() == order, "LITE-33")
        expect(await steps.next() == first, "LITE-33", "`at <= ...` found other rows than it has.")
        expect(await steps.next(), "LITE-34")
        expect(await steps.next(), "LITE-35", "None went in, and did not come back as None.")
        if who == "Postgres":
            asked = _BY_TIME.format(table)
            seen = [row["id"] for row in await trial.witness.fetch(asked)]
            expect(seen == order, "LITE-33")


_OTHER = "Another moment came back than went in: {}, and then {}."
_BY_TIME = 'select id from public.{} where id >= 0 order by "at"'


def _in_utc(moment: str) -> str:
    from datetime import UTC, datetime

    return datetime.fromisoformat(moment).astimezone(UTC).isoformat()


def _moments(draw: Draw) -> tuple[list[str], list[int]]:
    """Moments in several zones, and how they follow one another; their clocks say otherwise."""
    from datetime import UTC, datetime, timedelta, timezone

    noon = datetime(2026, draw.randint(1, 12), draw.randint(2, 27), 12, tzinfo=UTC)
    # Lost by who keeps milliseconds, or, far from 1970, a number with a point in it.
    noon = noon.replace(microsecond=1000 * draw.randint(1, 998) + draw.choice([333, 667]))
    hours = [9, -8, draw.choice([0, 1]), draw.choice([-3, 5.5])]
    found = [
        (noon + timedelta(minutes=7 * n)).astimezone(timezone(timedelta(hours=hour)))
        for n, hour in enumerate(hours)
    ]
    far = noon.replace(year=draw.randint(8000, 9000))
    while datetime.fromtimestamp(far.timestamp(), UTC) == far:
        far += timedelta(days=1, microseconds=1)
    found.append(far)
    # And one whose seconds are below zero, with a day and a month that are late in theirs.
    past = datetime(1925, 12, 29, 11, 30, draw.randint(1, 59), draw.randint(1, 999_999), UTC)
    found.append(past.astimezone(timezone(timedelta(hours=draw.choice([9, -8])))))
    draw.shuffle(found)
    order = sorted(range(len(found)), key=lambda n: found[n])
    return [moment.isoformat() for moment in found], order


# -- find ----------------------------------------------------------------------------------


async def searches(
    find: Any, url: str, rows: list[list[Any]], questions: list[list[str]]
) -> AsyncIterator[Any]:
    """Ask the answer each question, on a database that is filled by now, or here."""
    import json

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import place

    with place({}):
        engine = create_async_engine(url)
        try:
            if rows:
                values = [
                    {"c": code, "p": passenger, "e": None if extras is None else json.dumps(extras)}
                    for code, passenger, extras in rows
                ]
                async with engine.begin() as conn:
                    await conn.execute(
                        text("create table booking (code text, passenger text, extras json)")
                    )
                    await conn.execute(text("insert into booking values (:c, :p, :e)"), values)
            for part, meal in questions:
                async with engine.connect() as conn:
                    found = list(await find(conn, part, meal))
                    given_back = conn.closed
                yield None if given_back else found
        finally:
            await engine.dispose()


@lesson.exercise(
    "find",
    kind="coroutine function",
    points=4,
    measures=("sqlite_testing.portable",),
    task="Write `find(conn, part, meal)`: the codes, sorted, of the bookings with `part` in the "
    "passenger's name, in whatever case, and whose `extras` have this `meal`. It finds the same "
    "on SQLite and on Postgres.",
    hints=(
        "Which of LIKE, ILIKE, @> and ->> are known to both, and do they mean the same on both?",
        (
            "Do not write the SQL yourself: SQLAlchemy knows both dialects. A text column has "
            "`icontains`, a JSON column can be indexed. What if somebody types a %?"
        ),
        (
            "`booking.c.passenger.icontains(part, autoescape=True)` and "
            '`booking.c.extras["meal"].as_string() == meal`'
        ),
    ),
    slips=(
        Slip(
            "postgres_only",
            "LITE-41",
            "SQLite does not know an operator of yours, so no test can run this query there.",
            (
                """
                from sqlalchemy import text
                async def find(conn, part, meal):
                    rows = await conn.execute(text(
                        "select code from booking where passenger ilike '%' || :part || '%'"
                        " and extras ->> 'meal' = :meal order by code"),
                        {'part': part, 'meal': meal})
                    return rows.scalars().all()
                """,
                """
                from sqlalchemy import Column, MetaData, String, Table, select
                from sqlalchemy.dialects.postgresql import JSONB
                booking = Table('booking', MetaData(), Column('code', String),
                                Column('passenger', String), Column('extras', JSONB))
                async def find(conn, part, meal):
                    rows = await conn.execute(
                        select(booking.c.code).order_by(booking.c.code)
                        .where(booking.c.passenger.icontains(part, autoescape=True))
                        .where(booking.c.extras.contains({'meal': meal})))
                    return list(rows.scalars())
                """,
            ),
        ),
        Slip(
            "lite_only",
            "LITE-42",
            "It works on SQLite, and Postgres refuses it: that is a test which passes for a query "
            "that cannot run.",
            (
                """
                from sqlalchemy import text
                async def find(conn, part, meal):
                    rows = await conn.execute(text(
                        "select code from booking where instr(lower(passenger), lower(:part))"
                        " and json_extract(extras, '$.meal') = :meal order by code"),
                        {'part': part, 'meal': meal})
                    return rows.scalars().all()
                """,
                """
                from sqlalchemy import JSON, Column, MetaData, String, Table, func, select
                booking = Table('booking', MetaData(), Column('code', String),
                                Column('passenger', String), Column('extras', JSON))
                async def find(conn, part, meal):
                    rows = await conn.execute(
                        select(booking.c.code).order_by(booking.c.code)
                        .where(booking.c.passenger.icontains(part, autoescape=True))
                        .where(func.json_extract(booking.c.extras, '$.meal') == meal))
                    return list(rows.scalars())
                """,
            ),
        ),
        Slip(
            "case",
            "LITE-43",
            "On SQLite you find the passenger and on Postgres you do not: LIKE minds the case "
            "there.",
            (
                """
                from sqlalchemy import JSON, Column, MetaData, String, Table, select
                booking = Table('booking', MetaData(), Column('code', String),
                                Column('passenger', String), Column('extras', JSON))
                async def find(conn, part, meal):
                    rows = await conn.execute(
                        select(booking.c.code).order_by(booking.c.code)
                        .where(booking.c.passenger.contains(part, autoescape=True))
                        .where(booking.c.extras['meal'].as_string() == meal))
                    return list(rows.scalars())
                """,
                """
                from sqlalchemy import text
                async def find(conn, part, meal):
                    escaped = part.replace('!', '!!').replace('%', '!%').replace('_', '!_')
                    rows = await conn.execute(text(
                        "select code from booking where passenger like :part escape '!'"
                        " and extras ->> 'meal' = :meal order by code"),
                        {'part': f'%{escaped}%', 'meal': meal})
                    return [code for (code,) in rows]
                """,
            ),
        ),
        Slip(
            "wildcards",
            "LITE-44",
            "Somebody searched for a name with a sign that LIKE takes for `anything`, and you "
            "found passengers who have another one.",
            (
                """
                from sqlalchemy import JSON, Column, MetaData, String, Table, select
                booking = Table('booking', MetaData(), Column('code', String),
                                Column('passenger', String), Column('extras', JSON))
                async def find(conn, part, meal):
                    rows = await conn.execute(
                        select(booking.c.code).order_by(booking.c.code)
                        .where(booking.c.passenger.ilike(f'%{part}%'))
                        .where(booking.c.extras['meal'].as_string() == meal))
                    return list(rows.scalars())
                """,
                """
                from sqlalchemy import text
                async def find(conn, part, meal):
                    rows = await conn.execute(text(
                        "select code from booking where lower(passenger) like :part"
                        " and extras ->> 'meal' = :meal order by code"),
                        {'part': f'%{part.lower()}%', 'meal': meal})
                    return [code for (code,) in rows]
                """,
            ),
        ),
        Slip(
            "as_text",
            "LITE-45",
            "You found a booking in whose extras the word stands, but not as its meal: JSON is "
            "more than text.",
            (
                """
                from sqlalchemy import text
                async def find(conn, part, meal):
                    escaped = part.replace('!', '!!').replace('%', '!%').replace('_', '!_')
                    rows = await conn.execute(text(
                        "select code from booking where lower(passenger) like :part escape '!'"
                        " and cast(extras as text) like :meal order by code"),
                        {'part': f'%{escaped.lower()}%', 'meal': f'%{meal}%'})
                    return [code for (code,) in rows]
                """,
                """
                from sqlalchemy import JSON, Column, MetaData, String, Table, cast, select
                booking = Table('booking', MetaData(), Column('code', String),
                                Column('passenger', String), Column('extras', JSON))
                async def find(conn, part, meal):
                    rows = await conn.execute(
                        select(booking.c.code).order_by(booking.c.code)
                        .where(booking.c.passenger.icontains(part, autoescape=True))
                        .where(cast(booking.c.extras, String).contains(f'"{meal}"')))
                    return list(rows.scalars())
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table(
            "booking",
            MetaData(),
            Column("code", String),
            Column("passenger", String),
            Column("extras", JSON),
        )
        async def find(conn, part, meal):
            rows = await conn.execute(
                select(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras["meal"].as_string() == meal)
                .order_by(booking.c.code)
            )
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import text
        class Find:
            sql = text('''select code from booking where lower(passenger) like lower(:part)
                       escape '!' and extras ->> 'meal' = :meal order by code''')
            async def __call__(self, conn, part, meal):
                for sign in '!%_':
                    part = part.replace(sign, '!' + sign)
                rows = await conn.execute(self.sql, {'part': f'%{part}%', 'meal': meal})
                return tuple(row.code for row in rows)
        find = Find()
        """,
        """
        from typing import Any, Optional
        from functools import partial
        from sqlmodel import JSON, Column, Field, SQLModel, func, select
        class Booking(SQLModel, table=True):
            code: str = Field(primary_key=True)
            passenger: str
            extras: Optional[dict[str, Any]] = Field(sa_column=Column(JSON))
        async def search(model, conn, part, meal):
            name = func.replace(func.lower(model.passenger), part.lower(), '')
            question = select(model.code).where(name != func.lower(model.passenger))
            question = question.where(model.extras['meal'].as_string() == meal)
            return sorted((await conn.execute(question)).scalars())
        find = partial(search, Booking)
        """,
        """
        import json
        from sqlalchemy import text
        async def find(conn, part, meal):
            found = []
            async for code, passenger, extras in await conn.stream(text(
                    'select code, passenger, extras from booking order by code')):
                extras = json.loads(extras) if isinstance(extras, str) else extras
                if part.casefold() in passenger.casefold() and (extras or {}).get('meal') == meal:
                    found.append(code)
            return found
        """,
    ),
)
async def find(trial: Trial) -> None:
    draw, lab = trial.draw, trial.lab
    await trial.witness.execute("create table booking (code text, passenger text, extras jsonb)")
    places = ("sqlite+aiosqlite:///desk.db", *draw.sample([lab.url, lab.psycopg_url], 2))
    for url, refusal in zip(places, ("LITE-41", "LITE-42", "LITE-42"), strict=True):
        rows, questions = _passengers(draw)
        if refusal == "LITE-42":
            await trial.witness.execute("truncate booking")
            for code, passenger, extras in rows:
                values = (code, passenger, None if extras is None else json.dumps(extras))
                await trial.witness.execute("insert into booking values ($1, $2, $3)", *values)
        filled = rows if refusal == "LITE-41" else []
        asked = [[question.part, question.meal] for question in questions]
        steps = trial.subject.steps(searches, url, filled, asked)
        for question in questions:
            outcome = await steps.outcome()
            if outcome.failure is not None and not outcome.failure.is_a("DBAPIError"):
                raise SubjectFailed(outcome.failure)
            expect(outcome.ok, refusal)
            expect(outcome.value is not None, "LITE-46", _CLOSED)
            listed = type(outcome.value) is list and all(type(c) is str for c in outcome.value)
            expect(listed, "LITE-46", "`find` returns a list of codes.")
            for code, (reason, said) in question.decoys.items():
                expect(code not in outcome.value, reason, said)
            lost = ("LITE-43", "") if refusal == "LITE-42" else ("LITE-46", _MISSED)
            expect(set(question.wanted) <= set(outcome.value), *(question.lost or lost))
            in_order = outcome.value == question.wanted
            expect(in_order, "LITE-46", "You found others, or in another order.")


_CLOSED = "`conn` belongs to whoever calls `find`, and you closed it."
_MISSED = "You missed a booking on SQLite."
_LOUD = "You found a meal that is spelled like the one that was asked for, but for its capitals."
_SPACE = "Somebody typed a space before a name, and you found a name without one."
_SIGNED = "A name with a / and a ! was typed as it stands, and you did not find it."
_QUOTED = "A meal has quotes in its name, and you did not find who ordered it."
_BACKSLASH = (
    "A name with a backslash was searched for and not found: Postgres's LIKE takes it for a sign "
    "of its own, SQLite's only where an ESCAPE says so."
)
_Row = tuple[str, str, dict[str, Any] | None]


class _Question(NamedTuple):
    """What is searched for and found, what is found for the wrong reason, and why some do not."""

    part: str
    meal: str
    wanted: list[str]
    decoys: dict[str, tuple[str, str]]
    lost: tuple[str, str] | None = None


def _passengers(draw: Draw) -> tuple[list[_Row], list[_Question]]:
    """Bookings, and questions about them."""
    part, meal = draw.word(5), f"{draw.word(4)}'s {draw.word(4)}"
    mixed = "".join(draw.choice([letter, letter.upper()]) for letter in part)
    sign, odd, signs = draw.choice("%_"), draw.word(3), "a/b!c^d|e~f#g&h$i"
    quoted = f'"{draw.word(4)}" {meal}'
    named: dict[str, tuple[str, dict[str, Any] | None]] = {
        "upper": (f"{draw.word(3)} Mc{part.upper()}", {"meal": meal, "note": draw.word()}),
        "lower": (f"{part}{draw.word(2)}", {"meal": meal}),
        "other": (draw.word(9), {"meal": meal}),
        "hungry": (f"O'{part}", {"meal": draw.word()}),
        "noted": (part.title(), {"note": meal, "meal": draw.word()}),
        "loud": (part.upper(), {"meal": meal.upper()}),
        "nested": (part, {"meal": draw.word(), "child": {"meal": meal}}),
        "none": (part, None),
        "empty": (part, {}),
        "signed": (f"{odd.upper()}{sign}{part}", {"meal": meal}),
        "unsigned": (f"{odd}q{part}", {"meal": meal}),
        "slashed": (f"{odd.upper()}\\{part}", {"meal": meal}),
        "tight": (f"{draw.word(3)}mc{part}", {"meal": meal}),
        "signs": (f"{draw.word(3)}{signs}{odd}", {"meal": meal}),
        "quoted": (f"{odd} {draw.word(4)}", {"meal": quoted}),
    }
    codes = ["".join(draw.sample("ABCDEFGHJKLMNPQRSTUVWXYZ", 6)) for _ in named]
    code = dict(zip(named, codes, strict=True))
    rows = [(code[name], passenger, extras) for name, (passenger, extras) in named.items()]
    draw.shuffle(rows)
    with_meal = sorted(code for code, _, extras in rows if extras and extras.get("meal") == meal)
    without = {code["other"], code["signs"]}
    questions = [
        _Question(
            f"{odd}{sign}{part[:2]}".swapcase(),
            meal,
            [code["signed"]],
            {code["unsigned"]: ("LITE-44", "")},
        ),
        _Question(
            mixed,
            meal,
            [found for found in with_meal if found not in without],
            {
                code["noted"]: ("LITE-45", ""),
                code["nested"]: ("LITE-45", ""),
                code["loud"]: ("LITE-47", _LOUD),
            },
        ),
        _Question(f" mc{part}", meal, [code["upper"]], {code["tight"]: ("LITE-46", _SPACE)}),
        _Question(f"{signs}{odd}", meal, [code["signs"]], {}, ("LITE-44", _SIGNED)),
        _Question(odd, quoted, [code["quoted"]], {}, ("LITE-45", _QUOTED)),
        _Question(
            f"{odd}\\{part[:2]}".swapcase(),
            meal,
            [code["slashed"]],
            {},
            ("LITE-44", _BACKSLASH),
        ),
    ]
    return rows, questions


# -- fixtures ------------------------------------------------------------------------------


async def rehearse(conftest: Any, url: str, tests: str) -> AsyncIterator[Any]:
    """A real run of pytest over these tests, in a thread of its own; what it said of each."""
    import asyncio
    import contextlib
    import io

    import pytest

    from engineroom.exercises.tools import place

    reports = []

    class Listener:
        def pytest_runtest_logreport(self, report: Any) -> None:
            # Lines that begin with an E say what it was; among the others may be the test itself.
            told = str(report.longrepr).splitlines()
            told = [line[1:] for line in told if line.startswith("E ")] or told
            words = "" if report.passed else "\n".join(told)[:3000]
            reports.append([report.nodeid.split("::")[-1], report.when, report.outcome, words])

    ini = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    files = {"conftest.py": conftest, "test_desk.py": tests, "pytest.ini": ini}
    variables = {"DESK_URL": url, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    options = "-q --assert=plain --tb=line -p pytest_asyncio.plugin -p no:cacheprovider"
    said = io.StringIO()
    with place(files, variables), contextlib.redirect_stderr(said):
        command = [*options.split(), "-p", "no:faulthandler", "."]
        await asyncio.to_thread(pytest.main, command, [Listener()])
    yield said.getvalue()[-300:]
    yield reports


_TESTS = """
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

pytestmark = pytest.mark.asyncio


async def sell(session, code):
    conn = await session.connection()
    # A connection that was never closed may hold this code: then it is said, and not waited for.
    calm = "(select set_config('lock_timeout', '3s', true)) calm"
    await conn.execute(text(f"insert into booking (code) select :code from {calm}"), {"code": code})


async def sold(session):
    conn = await session.connection()
    return await conn.scalar(text("select count(nextval('public.seen')) from booking"))


"""
_SCENES: dict[str, tuple[int, int, str]] = {
    # How many rows are inserted, how many are seen, and the test itself.
    "sells": (
        2,
        2,
        """
            await sell(session, 'A')
            await session.commit()
            await sell(session, 'B')
            await session.commit()
            assert await sold(session) == 2, '[undone]'
        """,
    ),
    "sells_twice": (
        2,
        1,
        """
            await sell(session, 'A')
            await session.commit()
            try:
                await sell(session, 'A')
                raise RuntimeError('[twice]')
            except IntegrityError:
                await session.rollback()
            assert await sold(session) == 1, '[undone]'
        """,
    ),
    "goes_on": (
        3,
        2,
        """
            await sell(session, 'A')
            await session.rollback()
            assert await sold(session) == 0, '[kept]'
            await sell(session, 'B')
            await session.commit()
            async with session.begin_nested():
                await sell(session, 'C')
            await session.commit()
            assert await sold(session) == 2, '[undone]'
        """,
    ),
    "forgets": (
        0,
        0,
        """
            for number in range(MANY):
                await sell(session, str(number))
            assert await sold(session) == MANY, '[undone]'
        """,
    ),
    "fails": (
        1,
        0,
        """
            await sell(session, 'A')
            await session.commit()
            raise RuntimeError('[on purpose]')
        """,
    ),
    "breaks": (
        2,
        0,
        """
            await sell(session, 'A')
            await session.commit()
            await sell(session, 'A')
        """,
    ),
}
_ON_PURPOSE = {"fails": "[on purpose]", "breaks": "IntegrityError"}


@lesson.exercise(
    "CONFTEST",
    kind="any",
    points=5,
    seconds=20.0,
    measures=("sqlite_testing.fixtures",),
    task="Write `CONFTEST`, the text of a `conftest.py` with a fixture `session`: an AsyncSession "
    "on the Postgres of DESK_URL. Tests commit, roll back and fail as they like; each begins "
    "without the rows of the others, and in the end none is left.",
    hints=(
        "If a test may commit, whose transaction is it that you can still roll back?",
        (
            "Take a connection, begin a transaction on it, and bind the session to that "
            "connection. The session's own commits and rollbacks have to stay inside: "
            "`join_transaction_mode`."
        ),
        (
            "`async with engine.connect() as conn: await conn.begin()`, then `async with "
            'AsyncSession(conn, join_transaction_mode="create_savepoint") as session: yield '
            "session`, then `await conn.rollback()`; the fixture is made by "
            "`@pytest_asyncio.fixture`"
        ),
    ),
    slips=(
        Slip(
            "plain_fixture",
            "LITE-51",
            "pytest did not know what to do with your async fixture: `pytest.fixture` cannot "
            "await, `pytest_asyncio.fixture` can.",
            (
                """
                CONFTEST = '''
                import os, pytest
                from sqlalchemy.ext.asyncio import create_async_engine
                from sqlmodel.ext.asyncio.session import AsyncSession
                @pytest.fixture
                async def session():
                    engine = create_async_engine(os.environ['DESK_URL'])
                    async with engine.connect() as conn:
                        await conn.begin()
                        yield AsyncSession(conn, join_transaction_mode='create_savepoint')
                        await conn.rollback()
                    await engine.dispose()
                '''
                """,
                """
                CONFTEST = '\\n'.join([
                    'import os, pytest, pytest_asyncio',
                    'from sqlalchemy.ext.asyncio import create_async_engine, AsyncSession',
                    '@pytest.fixture',
                    'async def engine():',
                    '    engine = create_async_engine(os.environ["DESK_URL"])',
                    '    yield engine',
                    '    await engine.dispose()',
                    '@pytest_asyncio.fixture',
                    'async def session(engine):',
                    '    async with AsyncSession(engine) as session:',
                    '        yield session',
                ])
                """,
            ),
        ),
        Slip(
            "no_savepoint",
            "LITE-52",
            "A test committed a booking, rolled back the next one, and both were gone: its "
            "rollback undid your outer transaction.",
            (
                """
                CONFTEST = '''
                import os, pytest_asyncio
                from sqlalchemy.ext.asyncio import create_async_engine
                from sqlmodel.ext.asyncio.session import AsyncSession
                @pytest_asyncio.fixture
                async def session():
                    engine = create_async_engine(os.environ['DESK_URL'])
                    async with engine.connect() as conn:
                        await conn.begin()
                        async with AsyncSession(conn) as session:
                            yield session
                        await conn.rollback()
                    await engine.dispose()
                '''
                """,
                """
                from textwrap import dedent
                CONFTEST = dedent('''
                    import os
                    import pytest
                    import pytest_asyncio
                    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
                    from sqlalchemy.pool import NullPool
                    @pytest.fixture(scope='session')
                    def engine():
                        return create_async_engine(os.environ['DESK_URL'], poolclass=NullPool)
                    @pytest_asyncio.fixture
                    async def session(engine):
                        conn = await engine.connect()
                        outer = await conn.begin()
                        session = AsyncSession(conn, join_transaction_mode='rollback_only')
                        yield session
                        await session.close()
                        if outer.is_active:
                            await outer.rollback()
                        await conn.close()
                ''')
                """,
            ),
        ),
        Slip(
            "stays",
            "LITE-53",
            "What one test committed was there for the next: a rollback at the end undoes no "
            "commit.",
            (
                """
                CONFTEST = '''
                import os, pytest_asyncio
                from sqlalchemy.ext.asyncio import create_async_engine
                from sqlmodel.ext.asyncio.session import AsyncSession
                @pytest_asyncio.fixture
                async def session():
                    engine = create_async_engine(os.environ['DESK_URL'])
                    async with AsyncSession(engine) as session:
                        yield session
                        await session.rollback()
                    await engine.dispose()
                '''
                """,
                """
                from textwrap import dedent
                CONFTEST = dedent('''
                    import os
                    import pytest_asyncio
                    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
                    from sqlalchemy.pool import NullPool
                    engine = create_async_engine(os.environ['DESK_URL'], poolclass=NullPool)
                    @pytest_asyncio.fixture
                    async def session():
                        async with engine.connect() as conn:
                            outer = await conn.begin()
                            mode = 'control_fully'
                            async with AsyncSession(conn, join_transaction_mode=mode) as session:
                                yield session
                            if outer.is_active:
                                await outer.rollback()
                ''')
                """,
            ),
        ),
        Slip(
            "two_loops",
            "LITE-54",
            "Each test has an event loop of its own, and yours used a connection that belongs to "
            "the loop of another.",
            (
                """
                CONFTEST = '''
                import os, pytest_asyncio
                from sqlalchemy.ext.asyncio import create_async_engine
                from sqlmodel.ext.asyncio.session import AsyncSession
                engine = create_async_engine(os.environ['DESK_URL'])
                @pytest_asyncio.fixture
                async def session():
                    async with engine.connect() as conn:
                        await conn.begin()
                        mode = 'create_savepoint'
                        async with AsyncSession(conn, join_transaction_mode=mode) as session:
                            yield session
                        await conn.rollback()
                '''
                """,
                """
                from textwrap import dedent
                CONFTEST = dedent('''
                    import os
                    import pytest_asyncio
                    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
                    @pytest_asyncio.fixture(scope='session', loop_scope='session')
                    async def engine():
                        engine = create_async_engine(os.environ['DESK_URL'], pool_size=1)
                        yield engine
                        await engine.dispose()
                    @pytest_asyncio.fixture
                    async def session(engine):
                        async with engine.connect() as conn:
                            outer = await conn.begin()
                            yield AsyncSession(conn, join_transaction_mode='create_savepoint')
                            await outer.rollback()
                ''')
                """,
            ),
        ),
    ),
    right=(
        '''
        CONFTEST = """
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
                async with AsyncSession(
                    conn, join_transaction_mode="create_savepoint"
                ) as session:
                    yield session
                await conn.rollback()
        """
        ''',
        """
        from textwrap import dedent
        CONFTEST = dedent('''
            import os
            from contextlib import asynccontextmanager
            import pytest
            import pytest_asyncio
            from sqlalchemy import text
            from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
            from sqlalchemy.pool import NullPool
            @pytest.fixture(scope='session')
            def engine():
                return create_async_engine(os.environ['DESK_URL'], poolclass=NullPool)
            @pytest_asyncio.fixture
            async def session(engine):
                async with AsyncSession(engine) as session:
                    yield session
                async with engine.begin() as conn:
                    await conn.execute(text('truncate booking'))
        ''')
        """,
        """
        HEAD = 'import os, pytest, pytest_asyncio'
        CONFTEST = HEAD + '''
        from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

        class Desk:
            async def open(self):
                self.engine = create_async_engine(os.environ['DESK_URL'], pool_size=1)
                self.conn = await self.engine.connect()
                self.outer = await self.conn.begin()
                factory = async_sessionmaker(
                    self.conn, join_transaction_mode='create_savepoint', expire_on_commit=False)
                self.session = factory()
                return self.session
            async def close(self):
                await self.session.close()
                await self.outer.rollback()
                await self.conn.close()
                await self.engine.dispose()

        @pytest_asyncio.fixture(name='session')
        async def opened():
            desk = Desk()
            try:
                yield await desk.open()
            finally:
                await desk.close()
        '''
        """,
        """
        from textwrap import dedent
        CONFTEST = dedent('''
            import os
            import uuid
            import pytest_asyncio
            from sqlalchemy import make_url, text
            from sqlalchemy.ext.asyncio import create_async_engine
            from sqlmodel.ext.asyncio.session import AsyncSession
            URL = make_url(os.environ['DESK_URL'])
            @pytest_asyncio.fixture(loop_scope='function')
            async def session():
                name = 'test_' + uuid.uuid4().hex
                owner = create_async_engine(URL)
                async with owner.begin() as conn:
                    await conn.execute(text(f'create schema {name}'))
                    await conn.execute(text(
                        f'create table {name}.booking (like public.booking including all)'))
                engine = create_async_engine(
                    URL, connect_args={'server_settings': {'search_path': name}})
                async with AsyncSession(engine) as session:
                    yield session
                await engine.dispose()
                async with owner.begin() as conn:
                    await conn.execute(text(f'drop schema {name} cascade'))
                await owner.dispose()
        ''')
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy import event
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'])
            async with engine.connect() as conn:
                outer = await conn.begin()
                await conn.begin_nested()
                session = AsyncSession(bind=conn, expire_on_commit=False)
                @event.listens_for(session.sync_session, 'after_transaction_end')
                def reopen(sync_session, transaction):
                    if outer.is_active and not conn.in_nested_transaction():
                        conn.sync_connection.begin_nested()
                yield session
                await session.close()
                await outer.rollback()
            await engine.dispose()
        '''
        """,
    ),
)
async def fixtures(trial: Trial) -> None:
    witness, (tests, happened) = trial.witness, _tests(trial.draw)
    await witness.execute(_TICKETS)
    the_table = await witness.fetch(_TABLE)
    expect(trial.subject.kind == "str", "LITE-55", "`CONFTEST` should be a text: a conftest.py.")
    steps = trial.subject.steps(rehearse, trial.lab.url, tests)
    said, reports = await steps.next(), await steps.next()
    trouble = [(name, words) for name, when, outcome, words in reports if outcome == "failed"]
    for code, sign in _SIGNS.items():
        said_so = any(re.search(sign, words) for _, words in trouble)
        expect(not said_so, code, _HELD if code == "LITE-58" else "")
    begun = {name for name, when, outcome, _ in reports if (when, outcome) == ("setup", "passed")}
    for name, words in trouble:
        wanted = _ON_PURPOSE.get(name.removeprefix("test_").rstrip("0123456789_"), "")
        expect(wanted and wanted in words, "LITE-55", f"pytest says: {_line(words)}")
    expect(len(begun) == tests.count("async def test_"), "LITE-55", f"pytest: {_line(said, -1)}")
    counted = await witness.fetch("select last_value from public.ticket")
    counted += await witness.fetch("select last_value from public.seen")
    expect([row["last_value"] for row in counted] == happened, "LITE-56", _UNSEEN)
    expect(await witness.fetch(_TABLE) == the_table, "LITE-57", _MADE_ANEW)
    left = await witness.fetch("select code from public.booking")
    expect(not left, "LITE-53", f"The tests are over, and {len(left)} of their rows stayed.")
    copies = await witness.fetch("select from pg_catalog.pg_class where relname = 'booking'")
    expect(len(copies) == 1, "LITE-57", "Tables that you made for the tests are still there.")


# What a sequence has counted stays counted, whatever is rolled back: how many rows the tests have
# inserted, and how many they have seen.
_TICKETS = """
    create sequence ticket;
    create sequence seen;
    create table booking (number int default nextval('ticket'), code text unique)
"""
_TABLE = "select oid from pg_catalog.pg_class where oid = to_regclass('public.booking')"
_MADE_ANEW = "The table was there already, and now it is gone, or another one: you dropped it."
_SIGNS = {
    "LITE-58": "lock timeout",
    "LITE-51": "requested an async fixture",
    "LITE-54": "different loop|loop is closed|another operation is in progress",
    "LITE-52": r"\[undone\]|\[kept\]",
    "LITE-53": r"\[found\]",
}
_HELD = (
    "A test waited for rows of one that was over: its transaction was still open in Postgres, on a "
    "connection that nobody had closed."
)
_UNSEEN = "Postgres counted other bookings than the tests make, or find, on your session."


def _line(words: str, which: int = 0) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[which][:300] if lines else "some tests were not run."


def _tests(draw: Draw) -> tuple[str, list[int]]:
    """Tests in a drawn order; how many rows they insert in all, and how many they see."""
    rest = [name for name in _SCENES if name != "sells_twice"]
    # That one first: it tells a rollback that reaches too far, before anything has leaked. And in
    # the end one that commits.
    scenes = ["sells_twice", *draw.sample(rest, len(rest)), "sells"]
    many = draw.randint(2, 30)
    text, inserts, seen = _TESTS, many, many
    for number, name in enumerate(scenes):
        body = dedent(_SCENES[name][2]).strip().replace("MANY", str(many))
        for letter in "ABC":
            body = body.replace(f"'{letter}'", repr(f"{letter}-{draw.choice('123')}"))
        text += f"async def test_{name}_{number}(session):\n"
        text += indent(f"assert await sold(session) == 0, '[found]'\n{body}\n\n\n", "    ")
        inserts, seen = inserts + _SCENES[name][0], seen + _SCENES[name][1]
    return text, [inserts, seen]


lesson.codes |= {
    "LITE-01": "An SQLite database in memory belongs to one connection, and `StaticPool` gives "
    "that one to everybody. Whoever hands it back rolls it back, with all that others have begun "
    "on it. "
    "A file has room for many connections.",
    "LITE-02": "SQLite reads `references` and does nothing about it until a connection says "
    "`pragma foreign_keys = on`. It is not stored in the file. Ask `pragma foreign_keys` on the "
    "connection that you use.",
    "LITE-03": "A pool opens connections when it needs them, and each begins with foreign keys "
    "off. SQLAlchemy's event `connect` meets every new one, `first_connect` only the first.",
    "LITE-04": "A file that is there already is opened, not emptied. Give it a new name at each "
    "call: `uuid4().hex`, or a name of `tempfile`'s.",
    "LITE-05": "After a commit the rows should lie in a file in `folder`, where one can look at "
    "them when a test has failed. Open it with `sqlite3` and see.",
    "LITE-06": "A pool of one connection gives a second session none while the first one has it: "
    "it waits for `pool_timeout`, and gives up. The pool that a file gets by itself has room.",
    "LITE-11": "The driver begins a transaction before the first write, so a SELECT before it "
    "stands outside and sees what may be old by then. A plain BEGIN takes no lock either. "
    "`begin immediate` takes the lock for writing at once. It goes into the event `begin`, with "
    "`isolation_level=None`, so that the driver does not begin too.",
    "LITE-12": "`timeout` in `connect_args` is in seconds, and 5 unless you say otherwise; "
    "`pragma busy_timeout` is in milliseconds and shows what is in force. `pool_timeout` is for "
    "something else: it waits for the pool.",
    "LITE-13": "Without a log, who writes has to wait at its commit until nobody reads. With "
    "`pragma journal_mode = wal` readers go on with what they saw. Say it once a file, or at each "
    "connect.",
    "LITE-14": "Several sold at the same time, through two engines of yours, and in the end the "
    "number of seats was wrong or somebody was refused. Every transaction has to take the lock "
    "at its beginning, on every connection.",
    "LITE-21": "SQLite keeps some promises: NOT NULL, UNIQUE, CHECK, and INTEGER PRIMARY KEY takes "
    "whole numbers only. Try the script with `sqlite3.connect(':memory:').executescript(...)`.",
    "LITE-22": "The SQLSTATE is the reason: 22P02 no such value of that type, 22001 too long, "
    "22003 out of range, 22008 no such day, 23503 a key that points nowhere, 42803 a column beside "
    "GROUP BY. Four of them, not one four times.",
    "LITE-23": "A word that one database does not know fails at the first run, and you mend it. "
    "Dangerous is what both can read and only one refuses. The card shows what Postgres said.",
    "LITE-24": "Postgres took it as well. `'2'` is a number to both; `text` has no limit. Run the "
    "script on Postgres and look.",
    "LITE-25": "A list of at least four texts, please; each makes a table of the given name.",
    "LITE-31": "SQLite has no type for a moment. SQLAlchemy writes the clock's time as text, and "
    "the zone is not in it. `process_result_value` has to put it back.",
    "LITE-32": "`replace(tzinfo=UTC)` keeps the hands of the clock where they are and changes the "
    "moment. `astimezone(UTC)` keeps the moment. Use it on the way in.",
    "LITE-33": "The database compares what is stored. As text, 09:00+09:00 stands after "
    "01:00+00:00, and is an hour earlier. If all are in UTC, the text sorts like the time.",
    "LITE-34": "`astimezone` takes a time without a zone for local time of this machine, wherever "
    "that is. Raise when `value.utcoffset()` is None.",
    "LITE-35": "A column may be NULL. Then `process_bind_param` and `process_result_value` get "
    "None.",
    "LITE-41": "ILIKE, @> and JSONB's methods are Postgres's. `icontains`, `ilike` and "
    "`column['key'].as_string()` are translated for each database.",
    "LITE-42": "`instr`, `json_extract`, `ifnull`, a number where a truth should stand: SQLite's "
    "own. Compile your query for both: `print(query.compile(dialect=...))`.",
    "LITE-43": "LIKE minds the case on Postgres and does not on SQLite (of a to z). Use "
    "`icontains`, or `lower` on both sides.",
    "LITE-44": "In a pattern % is anything and _ is any one sign. "
    "`icontains(part, autoescape=True)` takes them as what they are.",
    "LITE-45": 'As text, `{"note": "fish"}` has the word fish in it as well. Take the value of '
    "the key: `column['meal'].as_string()`.",
    "LITE-47": "Upper and lower case make no difference in names. A meal is a value: it is the one "
    "that was asked for, or another. Compare it with `==`.",
    "LITE-46": "A sorted list of codes was asked for, of all bookings that fit and of no others; "
    "`extras` may be empty, or NULL.",
    "LITE-51": "`pytest.fixture` hands an async generator on as it is. `@pytest_asyncio.fixture` "
    "runs it. In strict mode, which is the default, each async test wants "
    "`@pytest.mark.asyncio` as well.",
    "LITE-52": "A session on a connection that has begun commits nothing, but its rollback goes "
    "through to your transaction; what comes after is on its own, and is really committed. "
    '`join_transaction_mode="create_savepoint"` keeps both inside.',
    "LITE-53": "What is committed is committed. Either the test's commit is none, because your "
    "transaction is around it, or you remove the rows at the end, also after a failure.",
    "LITE-54": "pytest-asyncio gives each test a loop of its own, and asyncpg's connections belong "
    "to theirs. Make the engine in a fixture for each test, or without a pool (`NullPool`), or let "
    "all tests share one loop.",
    "LITE-55": "A test that should pass did not, or pytest could not begin. Write your text to "
    "`conftest.py`, and run pytest by hand as in the lesson.",
    "LITE-56": "The tests sell through your `session`, on the database of DESK_URL, and Postgres "
    "counts each try. It counted another number.",
    "LITE-57": "A table or schema that you make for a test has to go when the test is over, and "
    "what was there before stays. Rows are undone by a rollback, or removed; no table is dropped.",
    "LITE-58": "What a fixture opens it closes after its `yield`: the session, the transaction, "
    "the connection, the engine. `async with` does it, also when the test has failed.",
}
