"""05 exhaustion: when the pool runs dry."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from engineroom.exercises import Lesson, Objective, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "exhaustion",
    "When the pool runs dry",
    minutes=35,
    objectives=(
        Objective(
            "exhaustion.diagnose",
            "Find out on the server who holds the connections, and say whose refusal an error is",
            "analyze",
            "B1",
            "Connection pools",
        ),
        Objective(
            "exhaustion.short",
            "Hold a connection only while it works, and never more of them than you mean to",
            "apply",
            "B1",
            "Connection pools",
        ),
        Objective(
            "exhaustion.sizing",
            "Size the pools of all processes against the connections that a server gives",
            "evaluate",
            "B1",
            "Connection pools",
        ),
        Objective(
            "exhaustion.pooler",
            "Run an engine behind PgBouncer in transaction mode, and leave nothing behind there",
            "apply",
            "B2",
            "Connection pools",
        ),
    ),
    stuck="Run a pool of two dry by hand, one request at a time, and read the timeline.",
    further="Find out what a `SET` through the pooler does to strangers, and set a limit that "
    "harms none.",
)


# -- who_holds -----------------------------------------------------------------------------


async def look_around(who_holds: Any, url: str) -> AsyncIterator[Any]:
    """Ask the answer twice; between, the scene changes."""
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Borrowed

    engine = create_async_engine(url)
    borrowed = Borrowed(engine)
    for _ in range(2):
        found = await who_holds(engine)
        rows: list[Any] = list(found) if isinstance(found, list | tuple | set) else [None]
        yield [
            [list(row) if hasattr(row, "__iter__") else [row] for row in rows],
            borrowed.count,
        ]
    await engine.dispose()


@lesson.exercise(
    "who_holds",
    kind="coroutine function",
    points=3,
    measures=("exhaustion.diagnose",),
    task="Write `who_holds(engine)`: a list of `(pid, last statement)`, each connection once, of "
    "those that sit idle in a transaction, and those that others wait for.",
    hints=(
        "Which view of the server has a row for each connection, with its state and its statement?",
        (
            "`state` says who sits idle in a transaction (two states begin so). Who waits for whom "
            "is told by `pg_blocking_pids(pid)`: it gives the pids that one connection waits for."
        ),
        (
            "`where state like 'idle in transaction%' or pid in (select unnest(pg_blocking_pids("
            "w.pid)) from pg_stat_activity w)`"
        ),
    ),
    slips=(
        Slip(
            "everyone",
            "EXH-01",
            "You named a connection that Postgres shows as `idle`, without a transaction: that one "
            "harms nobody.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity where state is not null"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity where state like 'idle%'"))
                        return rows.all()
                """,
            ),
        ),
        Slip(
            "victim",
            "EXH-02",
            "You named one that waits: name the connection that it waits for.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity"
                            " where state like 'idle in transaction%'"
                            " or cardinality(pg_blocking_pids(pid)) > 0"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity"
                            " where xact_start is not null and pid <> pg_backend_pid()"))
                        return [tuple(row) for row in rows]
                """,
            ),
        ),
        Slip(
            "self",
            "EXH-03",
            "You found yourself: the connection that asks is in a transaction too.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity where state <> 'idle'"
                            " and wait_event_type is distinct from 'Lock'"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.begin() as conn:
                        rows = (await conn.execute(text(
                            "select pid, query, pg_blocking_pids(pid) as waits_for"
                            " from pg_stat_activity where xact_start is not null"))).all()
                    return [(row.pid, row.query) for row in rows if not row.waits_for]
                """,
            ),
        ),
        Slip(
            "only_blockers",
            "EXH-04",
            "One sits idle in a transaction, and nobody waits for it yet: Postgres shows it as "
            "`idle in transaction`, and your list does not.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity where pid in"
                            " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select distinct a.pid, a.query from pg_locks held"
                            " join pg_locks wanted using (locktype, transactionid)"
                            " join pg_stat_activity a on a.pid = held.pid"
                            " where held.granted and not wanted.granted"))
                        return [tuple(row) for row in rows]
                """,
            ),
        ),
        Slip(
            "working",
            "EXH-05",
            "One is busy with a statement while another waits for its lock: it holds, although it "
            "is not idle.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity"
                            " where state like 'idle in transaction%'"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity"
                            " where wait_event = 'ClientRead' and xact_start is not null"))
                        return [(pid, query) for pid, query in rows]
                """,
            ),
        ),
        Slip(
            "aborted",
            "EXH-06",
            "A transaction in which a statement failed is still open: Postgres shows it as `idle "
            "in transaction (aborted)`.",
            (
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = await conn.execute(text(
                            "select pid, query from pg_stat_activity a"
                            " where state = 'idle in transaction' or exists ("
                            " select from pg_stat_activity w where a.pid"
                            " = any(pg_blocking_pids(w.pid)))"))
                        return [tuple(row) for row in rows]
                """,
                """
                from sqlalchemy import text
                async def who_holds(engine):
                    async with engine.connect() as conn:
                        rows = (await conn.execute(text(
                            "select pid, query, state, pg_blocking_pids(pid) as waits_for"
                            " from pg_stat_activity"))).all()
                    blockers = {pid for row in rows for pid in row.waits_for}
                    return [(r.pid, r.query) for r in rows
                            if r.pid in blockers or r.state == 'idle in transaction']
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, query from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        from sqlmodel.ext.asyncio.session import AsyncSession
        class Detective:
            async def __call__(self, engine):
                async with AsyncSession(engine) as session:
                    rows = (await session.exec(text(
                        "select pid, query, state, pg_blocking_pids(pid) as waits_for"
                        " from pg_stat_activity where datname = current_database()"))).all()
                blockers = {pid for row in rows for pid in row.waits_for}
                return sorted((r.pid, r.query) for r in rows
                              if r.pid in blockers or 'in transaction' in (r.state or ''))
        who_holds = Detective()
        """,
        """
        from functools import partial
        import asyncpg
        QUERY = '''
            select distinct a.pid, left(a.query, 200)
            from pg_stat_activity a
            left join pg_stat_activity w on a.pid = any(pg_blocking_pids(w.pid))
            where (w.pid is not null or a.state ~ '^idle in')'''
        async def ask(query, engine):
            dsn = engine.url.set(drivername='postgresql').render_as_string(hide_password=False)
            conn = await asyncpg.connect(dsn)
            try:
                return [tuple(record) for record in await conn.fetch(query)]
            finally:
                await conn.close()
        who_holds = partial(ask, QUERY)
        """,
        """
        from sqlalchemy import Column, Integer, MetaData, String, Table, func, or_, select
        activity = Table('pg_stat_activity', MetaData(), Column('pid', Integer),
                         Column('state', String), Column('query', String))
        async def who_holds(engine):
            waiting = activity.alias()
            blockers = select(func.unnest(func.pg_blocking_pids(waiting.c.pid)))
            question = select(activity.c.pid, activity.c.query).where(or_(
                activity.c.state.in_(['idle in transaction', 'idle in transaction (aborted)']),
                activity.c.pid.in_(blockers)))
            async with engine.begin() as conn:
                return (await conn.execute(question)).fetchall()
        """,
        """
        QUERY = (
            "select pid, query from pg_stat_activity where state like 'idle in transaction%'"
            " union select h.pid, h.query from pg_stat_activity h join pg_stat_activity w"
            " on h.pid = any(pg_blocking_pids(w.pid))")
        async def who_holds(engine):
            async with engine.connect() as conn:
                return tuple((await conn.exec_driver_sql(QUERY)).all())
        """,
    ),
)
async def who_holds(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    async with witness.actors(trial.lab.url, 7) as cast:
        words = {actor.pid: draw.word() for actor in cast}
        draw.shuffle(cast)
        await _quay(trial, cast, words)
        holder, first, calm, sleeper, worker, second, failed = [actor.pid for actor in cast]
        steps = trial.subject.steps(look_around, trial.lab.url)
        for holding in ({holder, first, sleeper, worker, failed}, {first, worker}):
            found, out = await steps.next()
            named = _named(found)
            asking = {b.pid for b in await witness.backends()} - set(words)
            rest = {calm, holder, sleeper, failed} - holding
            for pids, code in ((rest, "EXH-01"), ({second}, "EXH-02"), (asking, "EXH-03")):
                expect(not pids & set(named), code)
            order = {sleeper: "EXH-04", worker: "EXH-05", failed: "EXH-06", holder: "EXH-07"}
            for pid, code in (order | {first: "EXH-10"}).items():
                expect(pid in named or pid not in holding, code, _MISSED.get(code, ""))
            expect(all(_only(words, pid, named[pid]) for pid in holding), "EXH-08", _LAST_SAID)
            expect(not out, "EXH-17", _STILL_OUT)
            expect(await _some_leave(trial, cast), "EXH-09", _TOUCHED)


_MISSED = {
    "EXH-07": "You missed one that another waits for.",
    "EXH-10": "One waits, and another waits for it in turn: whoever is waited for holds.",
}
_LAST_SAID = "The text beside a pid should be the last statement of that connection."
_TOUCHED = "Connections were ended, or their statements, while you looked: a list was asked for."


async def _quay(trial: Trial, cast: list[Any], words: dict[int, str]) -> None:
    """One is idle, one sleeps in a transaction, one failed in it. One holds, the first waits for
    it; the second waits for that one, for the first and for the worker, who is busy."""
    holder, first, _, sleeper, worker, second, failed = cast
    await trial.witness.execute("create table berth as select 1 as n")
    await trial.witness.execute("create table pier ()")
    for actor in cast:
        await actor.says("select 'casting off'")
    for actor in (holder, first, sleeper, worker, failed):
        await actor.says("begin")
    for actor in (worker, first, holder):
        await actor.says("table public.pier")
    note, take = " -- {}", "select n from public.berth for update -- {}"
    await holder.says(take.format(words[holder.pid]))
    await sleeper.says("table public.berth" + note.format(words[sleeper.pid]))
    with suppress(Exception):
        await failed.says("select 1 / 0" + note.format(words[failed.pid]))
    worker.begins("select pg_sleep(600)" + note.format(words[worker.pid]))
    first.begins(take.format(words[first.pid]))
    second.begins("begin; lock table public.pier")
    await trial.witness.see(
        lambda found: (
            sum(b.waits_for == "Lock" for b in found) == 2
            and any(words[worker.pid] in b.query for b in found)
        )
    )


async def _some_leave(trial: Trial, cast: list[Any]) -> bool:
    """All go who sit idle; whether the others are still there, and do what they did."""
    holder, first, _, sleeper, worker, second, failed = cast
    for actor in (holder, sleeper, failed):
        with suppress(Exception):  # an answer may have ended it
            await actor.says("rollback")
    found = await trial.witness.see(
        lambda found: all(b.state != "active" for b in found if b.pid == first.pid)
    )
    states = {backend.pid: backend.state for backend in found}
    wanted = {first: "idle in transaction", worker: "active", second: "active"}
    return all(states.get(actor.pid) == wanted.get(actor, "idle") for actor in cast)


def _only(words: dict[int, str], pid: int, said: str) -> bool:
    """Whether a text has the word of this connection's last statement, and no other's."""
    return [word for word in words.values() if word in said] == [words[pid]]


def _named(found: Any) -> dict[int, str]:
    """The answer as a dictionary, if it has the shape that was asked for."""
    rows = found if isinstance(found, list) else [None]
    shaped = all(isinstance(r, list) and [type(item) for item in r] == [int, str] for r in rows)
    expect(shaped, "EXH-09", "`who_holds` should return a list of pairs: a pid and a text.")
    expect(len({row[0] for row in found}) == len(found), "EXH-09", "You named one of them twice.")
    return dict(found)


# -- let_go --------------------------------------------------------------------------------


async def at_the_desk(
    book: Any, url: str, sailing: int, rounds: list[list[str]], fails: int
) -> AsyncIterator[Any]:
    """Bookings by way of a pool of one; those of a round stand still while their mails go out."""
    import asyncio
    import gc

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlmodel.ext.asyncio.session import AsyncSession

    from engineroom.exercises.tools import let_pass, open_sockets

    gc.disable()  # so that a forgotten session stays forgotten
    before = open_sockets()
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    factory = async_sessionmaker(engine, class_=AsyncSession)

    class Mail:
        def __init__(self, broken: bool, passenger: str) -> None:
            self.broken, self.sent, self.count = broken, asyncio.Event(), 0
            self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.booking = asyncio.ensure_future(book(factory, sailing, passenger, self.notify))

        async def notify(self, code: Any) -> None:
            self.count += 1
            if not self.told.done():
                self.told.set_result(code if isinstance(code, str) else [type(code).__name__])
            await self.sent.wait()
            if self.broken:
                raise RuntimeError("the mail server is away")
            async with factory.begin() as session:
                await session.execute(text("insert into mail values (:code)"), {"code": str(code)})

        async def under_way(self) -> list[Any]:
            await asyncio.wait({self.booking, self.told}, return_when=asyncio.FIRST_COMPLETED)
            await let_pass(1)
            if not self.told.done():
                self.booking.result()
            return [self.told.result() if self.told.done() else None, self.booking.done()]

        async def over(self) -> list[Any]:
            answers = await asyncio.gather(self.booking, return_exceptions=self.broken)
            if isinstance(answers[0], Exception):
                return [None, self.count]
            kind = type(answers[0]).__name__
            return [answers[0] if kind == "str" else kind, self.count]

    pool: Any = engine.pool
    for number, passengers in enumerate(rounds):
        mails = [Mail(number == fails, passenger) for passenger in passengers]
        told = [await mail.under_way() for mail in mails]
        yield [told, pool.checkedout(), open_sockets() - before]
        for mail in mails:
            mail.sent.set()
        yield [[await mail.over() for mail in mails], pool.checkedout()]
    await engine.dispose()
    gc.enable()


@lesson.exercise(
    "book",
    kind="coroutine function",
    points=4,
    measures=("exhaustion.short",),
    task="Write `book(factory, sailing_id, passenger, notify)`: it stores a booking, then awaits "
    "`notify(code)`, then returns the code. While the mail goes out the row is there for all to "
    "see, and you hold no connection. If the mail fails, the booking stands.",
    hints=(
        "When does a session take a connection, and when does it give it back?",
        (
            "End the transaction *before* the mail, and ask the database nothing more until it has "
            "gone out. Fetch the code while you are still in the transaction."
        ),
        (
            "`async with factory.begin() as session:` insert with `returning code`, and keep the "
            "code; after the block, `await notify(code)`"
        ),
    ),
    slips=(
        Slip(
            "held",
            "EXH-11",
            "While the mail went out, Postgres had you `idle in transaction`, and nobody else saw "
            "the booking: end the transaction first.",
            (
                """
                from sqlalchemy import text
                async def book(factory, sailing_id, passenger, notify):
                    async with factory() as session:
                        code = (await session.exec(text(
                            "insert into booking (sailing_id, passenger) values (:s, :p)"
                            " returning code"), params={'s': sailing_id, 'p': passenger})).scalar()
                        await notify(code)
                        await session.commit()
                        return code
                """,
                """
                from sqlalchemy import text
                async def book(factory, sailing_id, passenger, notify):
                    async with factory.begin() as session:
                        row = await session.exec(
                            text("insert into booking (sailing_id, passenger) values (:s, :p)"
                                 " returning code").bindparams(s=sailing_id, p=passenger))
                        code = row.scalar_one()
                        await notify(code)
                    return code
                """,
            ),
        ),
        Slip(
            "read_again",
            "EXH-12",
            "You had committed, and then read again: Postgres had you in a new transaction while "
            "the mail went out.",
            (
                """
                from sqlalchemy import text
                async def book(factory, sailing_id, passenger, notify):
                    async with factory() as session:
                        number = (await session.exec(text(
                            "insert into booking (sailing_id, passenger) values (:s, :p)"
                            " returning id"), params={'s': sailing_id, 'p': passenger})).scalar()
                        await session.commit()
                        code = (await session.exec(text(
                            "select code from booking where id = :id"),
                            params={'id': number})).scalar()
                        await notify(code)
                        return code
                """,
                """
                from sqlalchemy import FetchedValue
                from sqlmodel import Field, SQLModel
                class Booking(SQLModel, table=True):
                    id: int | None = Field(default=None, primary_key=True)
                    sailing_id: int
                    passenger: str
                    code: str | None = Field(
                        default=None, sa_column_kwargs={'server_default': FetchedValue()})
                async def book(factory, sailing_id, passenger, notify):
                    async with factory() as session:
                        booking = Booking(sailing_id=sailing_id, passenger=passenger)
                        session.add(booking)
                        await session.commit()
                        await session.refresh(booking)
                        await notify(booking.code)
                        return booking.code
                """,
            ),
        ),
        Slip(
            "notify_first",
            "EXH-13",
            "The mail went out, and Postgres had no such booking yet.",
            (
                """
                import secrets
                from sqlalchemy import text
                async def book(factory, sailing_id, passenger, notify):
                    code = secrets.token_hex(3).upper()
                    await notify(code)
                    async with factory.begin() as session:
                        await session.exec(text(
                            "insert into booking (sailing_id, passenger, code)"
                            " values (:s, :p, :c)"),
                            params={'s': sailing_id, 'p': passenger, 'c': code})
                    return code
                """,
                """
                import secrets
                from sqlmodel import Field, SQLModel
                class Booking(SQLModel, table=True):
                    id: int | None = Field(default=None, primary_key=True)
                    sailing_id: int
                    passenger: str
                    code: str
                async def book(factory, sailing_id, passenger, notify):
                    code = secrets.token_hex(3)
                    async with factory() as session:
                        session.add(Booking(sailing_id=sailing_id, passenger=passenger, code=code))
                        await notify(code)
                        await session.commit()
                    return code
                """,
            ),
        ),
        Slip(
            "undone",
            "EXH-15",
            "The mail failed, and the booking was gone: a mail can be sent again, a seat may be "
            "sold to somebody else.",
            (
                """
                from sqlalchemy import text
                async def book(factory, sailing_id, passenger, notify):
                    async with factory.begin() as session:
                        code = (await session.exec(text(
                            "insert into booking (sailing_id, passenger) values (:s, :p)"
                            " returning code"), params={'s': sailing_id, 'p': passenger})).scalar()
                    try:
                        await notify(code)
                    except Exception:
                        async with factory.begin() as session:
                            await session.exec(text(
                                "delete from booking where code = :c"), params={'c': code})
                        raise
                    return code
                """,
                """
                from sqlalchemy import FetchedValue
                from sqlmodel import Field, SQLModel
                class Booking(SQLModel, table=True):
                    id: int | None = Field(default=None, primary_key=True)
                    sailing_id: int
                    passenger: str
                    code: str | None = Field(
                        default=None, sa_column_kwargs={'server_default': FetchedValue()})
                async def book(factory, sailing_id, passenger, notify):
                    async with factory(expire_on_commit=False) as session:
                        booking = Booking(sailing_id=sailing_id, passenger=passenger)
                        session.add(booking)
                        await session.flush()
                        await session.refresh(booking)
                        await session.commit()
                        try:
                            await notify(booking.code)
                        except Exception:
                            await session.delete(booking)
                            await session.commit()
                        return booking.code
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                rows = await session.exec(
                    text("insert into booking (sailing_id, passenger) values (:s, :p)"
                         " returning code"), params={'s': sailing_id, 'p': passenger})
                code = rows.scalar_one()
            await notify(code)
            return code
        """,
        """
        import logging
        from sqlalchemy import FetchedValue
        from sqlmodel import Field, SQLModel
        class Booking(SQLModel, table=True):
            id: int | None = Field(default=None, primary_key=True)
            sailing_id: int
            passenger: str
            code: str | None = Field(
                default=None, sa_column_kwargs={'server_default': FetchedValue()})
        class Desk:
            async def __call__(self, factory, sailing_id, passenger, notify):
                async with factory(expire_on_commit=False) as session:
                    booking = Booking(sailing_id=sailing_id, passenger=passenger)
                    session.add(booking)
                    await session.flush()
                    await session.refresh(booking)
                    await session.commit()
                    try:
                        await notify(booking.code)
                    except Exception:
                        logging.exception('no mail for %s', booking.code)
                    return booking.code
        book = Desk()
        """,
        """
        import secrets
        from functools import partial
        from sqlalchemy import column, insert, table
        booking = table('booking', column('sailing_id'), column('passenger'), column('code'))
        async def store(make_code, factory, sailing_id, passenger, notify):
            code = make_code()
            async with factory.kw['bind'].begin() as conn:
                await conn.execute(insert(booking).values(
                    sailing_id=sailing_id, passenger=passenger, code=code))
            await notify(code)
            return code
        book = partial(store, lambda: secrets.token_hex(3))
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            session = factory()
            try:
                number = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning id"
                ).bindparams(s=sailing_id, p=passenger))).scalar()
                await session.commit()
            finally:
                await session.close()
            async with factory() as other:
                code = (await other.exec(text(
                    "select code from booking where id = :id").bindparams(id=number))).scalar()
            await notify(code)
            return code
        """,
        """
        import asyncpg
        async def book(factory, sailing_id, passenger, notify):
            url = factory.kw['bind'].url.set(drivername='postgresql')
            conn = await asyncpg.connect(url.render_as_string(hide_password=False))
            try:
                code = await conn.fetchval(
                    'insert into booking (sailing_id, passenger) values ($1, $2) returning code',
                    sailing_id, passenger)
            finally:
                await conn.close()
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as session:
                await session.exec(
                    text("insert into booking (sailing_id, passenger) values (:s, :p)"),
                    params={'s': sailing_id, 'p': passenger})
                code = await session.scalar(
                    text("select code from booking where id = currval('booking_id_seq')"))
                await session.commit()
            await notify(code)
            return code
        """,
    ),
)
async def let_go(trial: Trial) -> None:
    draw, sailing, known = trial.draw, trial.draw.randint(1, 999), set[str]()
    first, second, third = [f"{draw.word()} O'{draw.word()}" for _ in range(3)]
    rounds, fails = [[first], [second], [third, first]], draw.randint(0, 1)
    await trial.witness.execute(_BOOKINGS)
    steps = trial.subject.steps(at_the_desk, trial.lab.url, sailing, rounds, fails)
    for number, passengers in enumerate(rounds):
        told = await _while_mails_go_out(trial, await steps.next(), sailing, passengers, known)
        answers, out = await steps.next()
        later, _ = await _seen(trial, sailing, passengers, known)
        expect(all(len(codes) <= 1 for codes in later), "EXH-14", _TWICE.format("rows"))
        expect(later == [[code] for code in told], "EXH-15")
        expect(not out, "EXH-17", _STILL_OUT)
        mails = {row["code"] for row in await trial.witness.fetch("table public.mail")}
        for code, (returned, count) in zip(told, answers, strict=True):
            excused = number == fails
            expect(excused or count == 1, "EXH-14", _TWICE.format("mails"))
            ended = returned == code and (excused or code in mails)
            text = _UNSAID if excused else _OTHER_CODE
            expect(ended or (excused and returned is None), "EXH-14", text)
        known.update(told)


async def _while_mails_go_out(
    trial: Trial, seen: Any, sailing: int, passengers: list[str], known: set[str]
) -> list[str]:
    """Everybody sees each booking, and nothing is held. The codes in the mails."""
    mails, out, sockets = seen
    told, over = zip(*mails, strict=True)
    codes, open_now = await _seen(trial, sailing, passengers, known)
    expect(None not in told, "EXH-14", "Nobody was notified.")
    expect(all(codes) or not open_now, "EXH-11")
    expect(all(codes), "EXH-13")
    expect(not open_now, "EXH-12")
    expect(not out, "EXH-16", "While the mail went out, a connection of the pool was out too.")
    expect(sockets <= 1, "EXH-16", "While the mail went out, you had connections of another pool.")
    expect(not any(over), "EXH-14", "`book` came to its end before the mail had gone out.")
    for code in told:
        given = f"`notify` was given something of type {code[0]}, and the code is a text."
        expect(isinstance(code, str), "EXH-14", given)
    expect(codes == [[code] for code in told], "EXH-14", "The mail had another code than the row.")
    return list(told)


_TWICE = "One booking, and there were several {}."
_STILL_OUT = "It was over, and the connection was still out of the pool."
_UNSAID = "The mail failed, and `book` neither raised nor returned the code."
_OTHER_CODE = "`book` returned another code than the mail had."
_BOOKINGS = """
    create table booking (
        id serial primary key, sailing_id int not null, passenger text not null,
        code varchar(6) not null unique default upper(left(md5(random()::text), 6)));
    create table mail (code text);
    create function another() returns trigger language plpgsql as $$ begin
        insert into booking (id, sailing_id, passenger)
        values (new.id + 1000000, new.sailing_id, new.passenger);
        return null;
    end $$;
    create trigger meanwhile after insert on booking for each row when (new.id < 1000000)
    execute function another()
"""
"""After each booking there is one more, of the same passenger on the same sailing."""


async def _seen(
    trial: Trial, sailing: int, passengers: list[str], known: set[str]
) -> tuple[list[list[str]], bool]:
    """The new codes of each passenger that everybody can read; whether a transaction is open."""
    rows = await trial.witness.fetch(
        "select passenger, code from public.booking"
        " where sailing_id = $1 and id < 1000000 order by id",
        sailing,
    )
    codes = [
        [row["code"] for row in rows if row["passenger"] == name and row["code"] not in known]
        for name in passengers
    ]
    return codes, any(backend.in_transaction for backend in await trial.witness.backends())


# -- all_boards ----------------------------------------------------------------------------


async def regatta(all_boards: Any, url: str, ids: list[int], at_most: int) -> AsyncIterator[Any]:
    """Load all boards: first through a gate, then none and one, then with one that fails."""
    import asyncio
    import gc

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlmodel.ext.asyncio.session import AsyncSession

    from engineroom.exercises.tools import let_pass

    gc.disable()  # so that a forgotten session stays forgotten
    engine = create_async_engine(url, pool_size=len(ids), max_overflow=0)
    factory = async_sessionmaker(engine, class_=AsyncSession)
    pool: Any = engine.pool
    begun: list[int] = []
    sessions: list[Any] = []
    under_way: set[Any] = set()
    most = 0
    all_begun = asyncio.Event()

    async def load(session: Any, number: int, fails: int | None = None) -> Any:
        nonlocal most
        begun.append(number)
        sessions.append(session)
        under_way.add(mine := object())
        most = max(most, len(under_way))
        try:
            await session.exec(text("select * from gate"))
            if number == fails:
                raise LookupError("there is no such board")
            found = await session.exec(
                text("select column2 from board where id = :id"), params={"id": number}
            )
            if len(begun) >= len(ids):
                all_begun.set()
            if number == ids[0]:
                await all_begun.wait()  # the first takes its time
            return found.scalar_one()
        finally:
            under_way.remove(mine)

    async def calm(out: int) -> bool:
        """Whether no more connections than that are out, and nobody begins another load."""
        had = len(begun)
        if pool.checkedout() > out:
            await asyncio.sleep(0.001)
            return False
        await let_pass(1)
        return len(begun) == had and pool.checkedout() <= out

    async def stuck(loading: Any) -> bool:
        """Whether others wait for the first to come home before they begin."""
        while not loading.done() and not all_begun.is_set():
            if await calm(1):
                return loading.cancel() or True
        return False

    given = list(ids)
    loading = asyncio.ensure_future(all_boards(factory, given, load, at_most))
    await let_pass(1)
    if loading.done() and not begun:
        loading.result()
    yield [len(begun), pool.checkedout()]
    yield await stuck(loading)
    found = await loading
    found = list(found) if isinstance(found, list | tuple) else type(found).__name__
    yield [found, pool.checkedout(), most, len(begun), len({id(each) for each in sessions})]
    yield given == ids
    few = [all_boards(factory, ids[:count], load, at_most) for count in (0, 1)]
    answers = await asyncio.gather(*few, return_exceptions=True)
    yield [type(a).__name__ if isinstance(a, Exception) else a for a in answers]

    others, most = asyncio.all_tasks(), 0
    loading = all_boards(
        factory, list(ids), lambda session, number: load(session, number, ids[2]), at_most - 1
    )
    outcomes = await asyncio.gather(loading, return_exceptions=True)
    while asyncio.all_tasks() - others and not await calm(0):
        pass
    yield [isinstance(outcomes[0], BaseException), pool.checkedout(), most]
    await engine.dispose()
    gc.enable()


@lesson.exercise(
    "all_boards",
    kind="coroutine function",
    points=3,
    measures=("exhaustion.short",),
    task="Write `all_boards(factory, ids, load, at_most)`: it awaits `load(session, id)` for each "
    "id, each with a session of its own, `at_most` of them at the same time and no fewer, and "
    "returns what they give, in the order of `ids`. If one of them fails, so does `all_boards`, "
    "and no connection stays out.",
    hints=(
        "Who counts how many are under way, before a session asks the pool for a connection?",
        (
            "A semaphore lets so many in at a time. The session is opened behind it and, whatever "
            "happens, closed before the next one comes in."
        ),
        (
            "For each id: `async with semaphore, factory() as session: return await load(session, "
            "id)`; and `asyncio.gather` keeps the order"
        ),
    ),
    slips=(
        Slip(
            "flood",
            "EXH-21",
            "More loads were under way at once than you were allowed.",
            (
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    async def one(id):
                        async with factory() as session:
                            return await load(session, id)
                    return await asyncio.gather(*(one(id) for id in ids))
                """,
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    async def one(id):
                        async with asyncio.Semaphore(at_most):
                            async with factory() as session:
                                return await load(session, id)
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(one(id)) for id in ids]
                    return [task.result() for task in tasks]
                """,
            ),
        ),
        Slip(
            "queue",
            "EXH-22",
            "One load was under way, and the others stood idle: so many may run at the same time "
            "as `at_most` says.",
            (
                """
                async def all_boards(factory, ids, load, at_most):
                    found = []
                    for id in ids:
                        async with factory() as session:
                            found.append(await load(session, id))
                    return found
                """,
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    turn = asyncio.Lock()
                    async def one(id):
                        async with turn, factory() as session:
                            return await load(session, id)
                    return await asyncio.gather(*(one(id) for id in ids))
                """,
            ),
        ),
        Slip(
            "shared_session",
            "EXH-23",
            "Several loads had one session between them: it has one connection, and refuses "
            "two tasks at once.",
            (
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    turn = asyncio.Semaphore(at_most)
                    async with factory() as session:
                        async def one(id):
                            async with turn:
                                return await load(session, id)
                        return await asyncio.gather(*(one(id) for id in ids))
                """,
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    session, found = factory(), []
                    try:
                        for start in range(0, len(ids), at_most):
                            batch = ids[start:start + at_most]
                            found += await asyncio.gather(*(load(session, id) for id in batch))
                    finally:
                        await session.close()
                    return found
                """,
            ),
        ),
        Slip(
            "leaky",
            "EXH-24",
            "A load failed, and its connection never came back to the pool.",
            (
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    turn = asyncio.Semaphore(at_most)
                    async def one(id):
                        async with turn:
                            session = factory()
                            found = await load(session, id)
                            await session.close()
                            return found
                    return await asyncio.gather(*(one(id) for id in ids))
                """,
                """
                import asyncio
                async def all_boards(factory, ids, load, at_most):
                    waiting, found = list(enumerate(ids)), {}
                    async def worker():
                        while waiting:
                            place, id = waiting.pop(0)
                            session = factory()
                            found[place] = await load(session, id)
                            await session.rollback()
                    await asyncio.gather(*(worker() for _ in range(at_most)))
                    return [found[place] for place in range(len(ids))]
                """,
            ),
        ),
    ),
    right=(
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            waiting, found = iter(enumerate(ids)), [None] * len(ids)
            async def worker():
                for place, id in waiting:
                    async with factory.begin() as session:
                        found[place] = await load(session, id)
            async with asyncio.TaskGroup() as group:
                for _ in range(at_most):
                    group.create_task(worker())
            return found
        """,
        """
        import asyncio
        class Boards:
            async def __call__(self, factory, ids, load, at_most):
                queue = asyncio.Queue()
                for item in enumerate(ids):
                    queue.put_nowait(item)
                found = {}
                async def worker():
                    while not queue.empty():
                        place, id = queue.get_nowait()
                        session = factory()
                        try:
                            found[place] = await load(session, id)
                        finally:
                            await session.close()
                workers = [asyncio.create_task(worker()) for _ in range(at_most)]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for task in workers:
                        task.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)
                return [found[place] for place in sorted(found)]
        all_boards = Boards()
        """,
        """
        import asyncio
        from functools import partial
        from sqlalchemy.ext.asyncio import async_scoped_session
        async def scoped(make_turn, factory, ids, load, at_most):
            turn = make_turn(at_most)
            sessions = async_scoped_session(factory, scopefunc=asyncio.current_task)
            async def one(id):
                async with turn:
                    try:
                        return await load(sessions(), id)
                    finally:
                        await sessions.remove()
            done = await asyncio.gather(*map(one, ids), return_exceptions=True)
            for value in done:
                if isinstance(value, BaseException):
                    raise value
            return tuple(done)
        all_boards = partial(scoped, asyncio.BoundedSemaphore)
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            async def one(id):
                async with factory() as session:
                    return await load(session, id)
            tasks, running = [], set()
            for id in ids:
                if len(running) == at_most:
                    _, running = await asyncio.wait(
                        running, return_when=asyncio.FIRST_COMPLETED)
                tasks.append(asyncio.create_task(one(id)))
                running.add(tasks[-1])
            return [await task for task in tasks]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with factory() as session, turn:
                    return await load(session, id)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(id)) for id in ids]
            return [task.result() for task in tasks]
        """,
    ),
)
async def all_boards(trial: Trial) -> None:
    draw, at_most = trial.draw, trial.draw.randint(2, 4)
    words = {number: draw.word() for number in draw.sample(range(1, 1000), at_most * 2 + 1)}
    boards, ids = list(words.values()), list(words)
    boards[-1] = words[ids[-1]] = ""  # an empty board is a board
    values = ", ".join(f"({number}, '{word}')" for number, word in words.items())
    await trial.witness.execute(f"create table board as values {values}")
    await trial.witness.execute("alter table public.board rename column1 to id")
    async with trial.witness.gate() as gate:
        steps = trial.subject.steps(regatta, trial.lab.url, ids, at_most)
        _as_many(await steps.next(), at_most)
        expect(await gate.reached(at_most) == at_most, "EXH-21")
        await gate.open()
        expect(not await steps.next(), "EXH-22", _IN_ROUNDS)
    _one_each(await steps.next(), boards, at_most)
    expect(await steps.next(), "EXH-25", "The list of ids was another one afterwards: leave it be.")
    _none_and_one(await steps.next(), boards[:1])
    failed, out, most = await steps.next()
    expect(not out, "EXH-24")
    expect(failed, "EXH-26", "A board could not be loaded, and `all_boards` said nothing of it.")
    expect(most < at_most, "EXH-21", _TOO_MANY.format(most, at_most - 1))


def _as_many(seen: Any, at_most: int) -> None:
    """Before the gate: how many loads have begun, and have a connection."""
    begun, out = seen
    expect(begun, "EXH-22", "No load was begun.")
    expect(begun <= out, "EXH-23")
    expect(out <= at_most, "EXH-21", _TOO_MANY.format(out, at_most))
    few = f"{out} of {at_most} loads were under way, and others waited."
    expect(out == at_most, "EXH-22", few if out > 1 else "")


def _one_each(seen: Any, boards: list[str], at_most: int) -> None:
    """When all are home: one load and one session a board."""
    found, out, most, begun, sessions = seen
    expect(not out, "EXH-24", "All loads had their answer, and connections were still out.")
    expect(most <= at_most, "EXH-21", _TOO_MANY.format(most, at_most))
    expect(begun == len(boards), "EXH-25", f"{begun} loads for {len(boards)} boards: one each.")
    expect(sessions == begun, "EXH-23", _IN_TURN)
    expect(type(found) is list, "EXH-25", f"A list of boards was asked for, and not {found}.")
    expect(found == boards, "EXH-25", "The boards came in another order, or others.")


_IN_TURN = "Some loads had the same session, one after the other: each was to have its own."
_TOO_MANY = "{} loads were under way at once, not {}."
_IN_ROUNDS = (
    "One load took its time, the others were done, and the next did not begin: there was work, "
    "and a free place."
)


def _none_and_one(answers: Any, one: list[str]) -> None:
    for wanted, found in zip(([], one), answers, strict=True):
        text = f"With {len(wanted)} ids there are {len(wanted)} boards, and you had {found}."
        expect(found == wanted, "EXH-25", text)


# -- fair_share ----------------------------------------------------------------------------


async def fill(_: Any, url: str, size: int, overflow: int, processes: int) -> AsyncIterator[Any]:
    """So many engines, each with all its connections out at once."""
    import asyncio

    from sqlalchemy.ext.asyncio import create_async_engine

    engines = [
        create_async_engine(url, pool_size=size, max_overflow=overflow) for _ in range(processes)
    ]
    each = min(size + overflow, 7)  # enough to be refused
    asked = [engine.connect().start() for engine in engines for _ in range(each)]
    held = await asyncio.gather(*asked, return_exceptions=True)
    yield sum(isinstance(connection, Exception) for connection in held)
    for connection in held:
        if not isinstance(connection, BaseException):
            await connection.close()
    for engine in engines:
        await engine.dispose()


@lesson.exercise(
    "fair_share",
    points=3,
    needs=("postgres", "tiny"),
    measures=("exhaustion.sizing",),
    task="Write `fair_share(max_connections, reserved, others, instances, workers)`: the "
    "`(pool_size, max_overflow)` for every engine, when each of `instances` machines runs "
    "`workers` processes, so that all of them may be full at once and no slot is left that each "
    "could have used. `reserved` slots are not for you, `others` are taken. ValueError if there is "
    "not one each.",
    hints=(
        "How many engines are there in all? And what is the most that one of them opens?",
        (
            "What is left after `reserved` and `others`, divided by the number of processes, is "
            "what `pool_size` and `max_overflow` may come to *together*."
        ),
        (
            "`each = (max_connections - reserved - others) // (instances * workers)`; "
            "ValueError if that is below 1; else for example `(each, 0)`"
        ),
    ),
    slips=(
        Slip(
            "instances",
            "EXH-31",
            "Postgres had too few connections for all of you: not each machine has a pool, but "
            "each worker process on it.",
            (
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = (max_connections - reserved - others) // instances
                    if each < 1:
                        raise ValueError('too few')
                    return each, 0
                """,
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each, rest = divmod(max_connections - reserved - others, instances)
                    if not each > 0:
                        raise ValueError(rest)
                    return each // 2 or 1, each - (each // 2 or 1)
                """,
            ),
        ),
        Slip(
            "overflow_free",
            "EXH-32",
            "Overflow connections are connections like any other: Postgres counted them too, and "
            "had too few.",
            (
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = (max_connections - reserved - others) // (instances * workers)
                    if each < 1:
                        raise ValueError('too few')
                    return each, 10
                """,
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = (max_connections - reserved - others) // (instances * workers)
                    if each < 1:
                        raise ValueError('too few')
                    return each, each * 2
                """,
            ),
        ),
        Slip(
            "timid",
            "EXH-33",
            "All pools were full, and Postgres had slots left that each of them could have used.",
            (
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = (max_connections - reserved - others) // (instances * workers)
                    if each < 1:
                        raise ValueError('too few')
                    return max(each // 2, 1), 0
                """,
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    if max_connections - reserved - others < instances * workers:
                        raise ValueError('too few')
                    return 1, 0
                """,
            ),
        ),
        Slip(
            "all_slots",
            "EXH-34",
            "Postgres keeps some slots for administrators, and others are taken: that is "
            "not yours to share.",
            (
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = max_connections // (instances * workers)
                    if each < 1:
                        raise ValueError('too few')
                    return each, 0
                """,
                """
                def fair_share(max_connections, reserved, others, instances, workers):
                    each = (max_connections - others) // (instances * workers)
                    if each < 1:
                        raise ValueError('too few')
                    return 1, each - 1
                """,
            ),
        ),
    ),
    right=(
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each < 1:
                raise ValueError('not one connection for each process')
            return each, 0
        """,
        """
        class Share:
            def __call__(self, total, *gone_and_processes):
                reserved, others, instances, workers = gone_and_processes
                processes, each = instances * workers, 0
                while (each + 1) * processes <= total - reserved - others:
                    each += 1
                size = (each + 1) // 2
                if size == 0:
                    raise ValueError(f'{processes} processes are too many')
                return [size, each - size]
        fair_share = Share()
        """,
        """
        import math
        from functools import partial
        def share(keep, max_connections, reserved, others, instances, workers):
            each = math.floor((max_connections - reserved - others) / (instances * workers))
            if each < keep:
                raise ValueError(each)
            return keep, each - keep
        fair_share = partial(share, 1)
        """,
        """
        from typing import NamedTuple
        class Share(NamedTuple):
            pool_size: int
            max_overflow: int = 0
        class NotEnough(ValueError):
            pass
        def fair_share(max_connections, reserved=3, others=0, instances=1, workers=1):
            each, _ = divmod((max_connections - reserved - others) // instances, workers)
            if each <= 0:
                raise NotEnough(each)
            return Share(each)
        """,
    ),
)
async def fair_share(trial: Trial) -> None:
    tiny, subject = trial.lab.tiny, trial.subject
    others, instances, workers = trial.draw.choice([(2, 2, 2), (3, 2, 2), (2, 2, 3), (2, 3, 2)])
    async with trial.witness.actors(tiny["url"], others, alone=True) as cast:
        plan = (tiny["max_connections"], _RESERVED, others, instances, workers)
        size, overflow = await _share(trial, plan)
        steps = subject.steps(fill, tiny["url"], size, overflow, instances * workers)
        refused = await steps.next()
        held = len(await cast[0].asks(_OURS)) - others
        expect(not refused, *_too_much(plan, size, overflow))
        expect(held == (size + overflow) * instances * workers, "EXH-36", "Pools were not filled.")
        expect(plan[0] - _RESERVED - others - held < instances * workers, "EXH-33")
    for plan, each in _plans(trial):
        if each > 0:
            size, overflow = await _share(trial, plan)
            expect(size + overflow <= each, *_too_much(plan, size, overflow))
            expect(size + overflow == each, "EXH-33")
        else:
            failure = (await subject.call("fair_share", *plan)).failure
            expect(failure and failure.is_a("ValueError"), "EXH-35", _NO_PLAN)


_RESERVED = 3
"""Slots that Postgres keeps for administrators, unless told otherwise."""
_Plan = tuple[int, int, int, int, int]
_NO_PLAN = "There were fewer slots than processes, and you had a plan: raise a ValueError."
_A_PLAN = (
    "You raised a ValueError, and there was one for each process: {} slots, {} reserved, {} taken "
    "by others, {} instances of {} workers."
)
_OURS = "select pid from pg_catalog.pg_stat_activity where usename = current_user"


async def _share(trial: Trial, plan: _Plan) -> tuple[int, int]:
    """The answer's share, for a plan that has one connection for each process at least."""
    outcome = await trial.subject.call("fair_share", *plan)
    if outcome.failure is not None:
        expect(not outcome.failure.is_a("ValueError"), "EXH-38", _A_PLAN.format(*plan))
        raise SubjectFailed(outcome.failure)
    value = outcome.value
    whole = isinstance(value, list) and [type(n) for n in value] == [int, int]
    expect(whole, "EXH-36", "`fair_share` should return two whole numbers.")
    size, overflow = value
    expect(
        size > 0 and overflow >= 0, "EXH-36", f"({size}, {overflow}) means a pool without limit."
    )
    return size, overflow


def _too_much(plan: _Plan, size: int, overflow: int) -> tuple[str, str]:
    """The code for a share that is too large (what was forgotten?), and a text if it needs one."""
    total, reserved, others, instances, workers = plan
    left, processes, each = total - reserved - others, instances * workers, size + overflow
    if each == left // instances:
        return "EXH-31", ""
    if size == left // processes:
        return "EXH-32", ""
    if each * processes in range(left, total + 1):
        return "EXH-34", ""
    return "EXH-37", f"{processes} pools of {each} are {processes * each}, and {left} were left."


def _plans(trial: Trial) -> list[tuple[_Plan, int]]:
    """Plans for larger servers, the share in each of them, and some for which there is none."""
    draw = trial.draw
    plans: list[tuple[_Plan, int]] = []
    while (number := len(plans)) < 12:
        instances, workers = draw.randint(2, 6), draw.randint(2, 8)
        processes = instances * workers
        each = (-2, 0, 0, 1, 1, 1, 2, 2)[number] if number < 8 else draw.randint(3, 40)
        left = processes * each + (processes - 1, 0, draw.randint(0, processes - 1))[number % 3]
        reserved, others = draw.randint(processes, processes + 9), draw.randint(processes, 60)
        plan = (left + reserved + others, reserved, others, instances, workers)
        if _telling(plan):
            plans.append((plan, each))
    draw.shuffle(plans)
    return plans


def _telling(plan: _Plan) -> bool:
    """Whether a share that is too large tells what was forgotten."""
    total, reserved, others, instances, workers = plan
    left = total - reserved - others
    slots = {(total - kept) // (instances * workers) for kept in (0, reserved, others)}
    return not slots & {left // instances, left // workers}


# -- bouncer -------------------------------------------------------------------------------


async def two_apps(bouncer_engine: Any, url: str, codes: list[str]) -> AsyncIterator[Any]:
    """Two engines side by side, six tasks each, eight executions in two transactions each."""
    import asyncio

    from sqlalchemy import event, text
    from sqlalchemy.ext.asyncio import AsyncEngine

    engines = [bouncer_engine(url) for _ in range(2)]
    strangers = [type(e).__name__ for e in engines if not isinstance(e, AsyncEngine)]
    yield strangers
    asked: dict[str, Any] = {}

    def note(dialect: Any, record: Any, cargs: Any, cparams: Any) -> None:
        asked.update(cparams)

    for engine in engines:
        event.listen(engine.sync_engine, "do_connect", note)
    sell = text("insert into sold (code) values (:code) returning code || (select word from port)")
    count = text("select cast(:one as int) + cast(:two as int)")

    async def task(engine: Any, mine: list[str]) -> list[Any]:
        found = []
        async with engine.connect() as connection:
            if mine is shares[0] and engine.dialect.driver == "psycopg":  # it counts to a threshold
                for number in range(120):
                    await connection.scalar(count, {"one": number, "two": 1})
            for number, code in enumerate(mine):
                found.append(await connection.scalar(sell, {"code": code}))
                sums = await connection.scalar(count, {"one": number, "two": len(mine)})
                if sums != number + len(mine):
                    found.append(f"{number} + {len(mine)} = {sums}")
                if number % 4 == 3:
                    await connection.commit()
        return found

    shares = [codes[start : start + 8] for start in range(0, len(codes), 8)]
    # Each engine begins with one task by itself: so a pool of one shared connection has it by then.
    outcomes: list[Any] = []
    for together in (shares[:1], shares[1:2], shares[2:]):
        outcomes += await asyncio.gather(
            *(task(engines[shares.index(share) % 2], share) for share in together),
            return_exceptions=True,
        )
    for engine in engines:
        await engine.dispose()
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    named = [error for error in errors if "prepared statement" in str(error)]
    other_cache = asked.get("prepared_statement_cache_size") == 0
    yield [str(named[0])[:300] if named else "", other_cache]
    if errors:
        raise errors[0]
    yield [item for outcome in outcomes for item in outcome]


@lesson.exercise(
    "bouncer_engine",
    points=5,
    needs=("postgres", "pgbouncer"),
    measures=("exhaustion.pooler",),
    task="Write `bouncer_engine(url)`: an engine that works through PgBouncer in transaction mode, "
    "where server connections pass from client to client. No request fails, whatever other clients "
    "have prepared there, and none of your prepared statements stays behind.",
    hints=(
        "What stays on a server connection that you give back after each transaction?",
        (
            "Both drivers prepare statements by name unless you forbid it. Forbid it to the "
            "*driver*; SQLAlchemy has a cache of its own, and that is another matter."
        ),
        (
            "asyncpg: `connect_args={'statement_cache_size': 0}`; "
            "psycopg: `connect_args={'prepare_threshold': None}`"
        ),
    ),
    slips=(
        Slip(
            "null_only",
            "EXH-41",
            "Postgres answered `prepared statement already exists`: whoever used that server "
            "connection before had left one of the same name. NullPool keeps no connection, but "
            "the driver still prepares by name.",
            (
                """
                from sqlalchemy.pool import NullPool
                def bouncer_engine(url):
                    return create_async_engine(url, poolclass=NullPool)
                """,
                """
                bouncer_engine = lambda url: create_async_engine(
                    url, pool_size=1, max_overflow=9, pool_pre_ping=True)
                """,
            ),
        ),
        Slip(
            "wrong_cache",
            "EXH-42",
            "`prepared_statement_cache_size` is SQLAlchemy's cache: switched off, it makes asyncpg "
            "prepare by name even more often, and the names were taken.",
            (
                """
                from sqlalchemy.pool import NullPool
                def bouncer_engine(url):
                    return create_async_engine(
                        url, poolclass=NullPool,
                        connect_args={'prepared_statement_cache_size': 0})
                """,
                """
                def bouncer_engine(url):
                    return create_async_engine(url + '?prepared_statement_cache_size=0')
                """,
            ),
        ),
        Slip(
            "uuid",
            "EXH-43",
            "No request failed, but Postgres still has your prepared statements: nobody will ever "
            "use those names again, and with each client there are more.",
            (
                """
                import uuid
                from sqlalchemy.pool import NullPool
                def bouncer_engine(url):
                    return create_async_engine(url, poolclass=NullPool, connect_args={
                        'prepared_statement_cache_size': 0,
                        'prepared_statement_name_func': lambda: f'__asyncpg_{uuid.uuid4()}__'})
                """,
                """
                import itertools, os
                from sqlalchemy.pool import NullPool
                numbers = itertools.count()
                def name():
                    return f'desk_{os.getpid()}_{next(numbers)}'
                def bouncer_engine(url):
                    return create_async_engine(
                        url + '?prepared_statement_cache_size=0', poolclass=NullPool,
                        connect_args={'prepared_statement_name_func': name})
                """,
            ),
        ),
        Slip(
            "psycopg_default",
            "EXH-44",
            "psycopg prepares a statement by name too, once it was executed often enough (five "
            "times, unless told otherwise), and that name was taken.",
            (
                """
                def bouncer_engine(url):
                    return create_async_engine(url.replace('+asyncpg', '+psycopg'))
                """,
                """
                from sqlalchemy import make_url
                from sqlalchemy.pool import NullPool
                def bouncer_engine(url):
                    return create_async_engine(
                        make_url(url).set(drivername='postgresql+psycopg'), poolclass=NullPool)
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy.pool import NullPool
        def bouncer_engine(url):
            return create_async_engine(
                url, poolclass=NullPool, connect_args={'statement_cache_size': 0})
        """,
        """
        from sqlalchemy import make_url
        bouncer_engine = lambda url: create_async_engine(
            make_url(url).set(drivername='postgresql+psycopg'), pool_size=2, max_overflow=3,
            connect_args={'prepare_threshold': None})
        """,
        """
        import asyncpg
        from functools import partial
        class Plain:
            def __init__(self, url):
                self.dsn = url.replace('+asyncpg', '')
            async def __call__(self):
                return await asyncpg.connect(self.dsn, statement_cache_size=0)
        def build(options, url):
            return create_async_engine(
                'postgresql+asyncpg://', async_creator=Plain(url), **options)
        bouncer_engine = partial(build, {'pool_use_lifo': True, 'pool_pre_ping': True})
        """,
        """
        import psycopg
        from sqlalchemy import NullPool, event
        def bouncer_engine(url):
            engine = create_async_engine(
                url.replace('postgresql+asyncpg', 'postgresql+psycopg'), poolclass=NullPool)
            @event.listens_for(engine.sync_engine, 'connect')
            def never_prepare(connection, record):
                connection.driver_connection.prepare_threshold = None
            return engine
        """,
        """
        def bouncer_engine(url):
            return create_async_engine(url, pool_size=3, max_overflow=0, connect_args={
                'statement_cache_size': 0, 'prepared_statement_cache_size': 0})
        """,
    ),
)
async def bouncer(trial: Trial) -> None:
    witness, word, url = trial.witness, trial.draw.word(), trial.lab.pgbouncer["url"]
    codes = [f"{number}{trial.draw.word(4)}" for number in range(96)]
    await witness.execute(f"create table port as select '{word}'::text as word")
    await witness.execute("create table sold (code text, pid int default pg_backend_pid())")
    async with witness.actors(url, trial.lab.pgbouncer["default_pool_size"]) as cast:
        before = await _on_each(cast, *_TAKEN)
        steps = trial.subject.steps(two_apps, url, codes)
        strangers = await steps.next()
        expect(not strangers, "EXH-49", f"An async engine was asked for, not this: {strangers}.")
        named, other_cache = await steps.next()
        expect("_pg3_" not in named, "EXH-44")
        text = _ELSEWHERE if "does not exist" in named else ""
        expect(not named, "EXH-42" if other_cache else "EXH-41", text)
        expect(await steps.next() == [code + word for code in codes], "EXH-45", _WRONGLY)
        after = await _on_each(cast)
    pids, deals = await _sold(trial, codes)
    expect(pids <= set(before), "EXH-46", "Postgres saw you on connections other than PgBouncer's.")
    expect(max(map(len, deals.values())) == 1, "EXH-48", _MIXED)
    _as_they_were(before, after)


def _as_they_were(before: dict[int, Any], after: dict[int, Any]) -> None:
    """Whether the server connections hold what they held: others' statements, and no settings."""
    expect(all(set(seen["names"]) <= _NAMES for seen in after.values()), "EXH-43")
    expect(all(set(seen["names"]) == _NAMES for seen in after.values()), "EXH-47", _SWEPT)
    held = {name for seen in before.values() for name in seen["settings"]}
    left = {name for seen in after.values() for name in seen["settings"]} - held
    expect(not left, "EXH-50", _SET.format(", ".join(sorted(left))))


_SET = "Strangers now have a setting of yours: {}."
_WRONGLY = "A request was answered wrongly."
_MIXED = "Postgres saw several tasks in one and the same transaction: they shared a connection."
_SWEPT = "Statements that other clients had prepared there were gone."
_ELSEWHERE = (
    "Postgres answered `prepared statement does not exist`: you had prepared it on another server "
    "connection, one transaction before."
)
_NAMES = {f"__asyncpg_stmt_{n:x}__" for n in range(1, 17)} | {f"_pg3_{n}" for n in range(8)}
_TAKEN = [f'prepare "{name}" as select 1' for name in sorted(_NAMES)]


async def _sold(trial: Trial, codes: list[str]) -> tuple[set[int], dict[str, set[int]]]:
    """Who sold what was to be sold: the connections, and which tasks were in one transaction."""
    sold = await trial.witness.fetch("select code, pid, xmin::text as deal from public.sold")
    expect({row["code"] for row in sold} == set(codes), "EXH-45", "Rows are missing in Postgres.")
    deals: dict[str, set[int]] = {}
    for row in sold:
        deals.setdefault(row["deal"], set()).add(codes.index(row["code"]) // 8)
    return {row["pid"] for row in sold}, deals


async def _on_each(cast: list[Any], *statements: str) -> dict[int, Any]:
    """Say this on every server connection of the pooler (each actor holds one), and look at it."""
    for actor in cast:
        await actor.says("begin", "; ".join(statements) or "select 1")
    seen = [(await actor.asks(_STATE))[0] for actor in cast]
    for actor in cast:
        await actor.says("commit")
    return {row["pid"]: row for row in seen}


# Without the settings that PgBouncer gives to each client anew.
_STATE = """
    select pg_backend_pid() as pid,
           array(select name from pg_prepared_statements) as names,
           array(select name from pg_settings
                 where source = 'session' and setting <> reset_val and lower(name) <> all(
                     '{application_name,client_encoding,datestyle,timezone,intervalstyle}'
                 )) as settings
"""


# -- triage --------------------------------------------------------------------------------


async def bad_day(triage: Any, troubles: list[Any], order: list[int]) -> AsyncIterator[Any]:
    """Meet each trouble for real, then ask in another order whose refusal it was."""
    import asyncio

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import let_pass, turns

    urls = {url for *_, (url, *_) in troubles if url}
    engines = {url: create_async_engine(url, pool_size=1, max_overflow=0) for url in urls}

    async def meet(kind: str, url: str, *statements: str) -> None:
        async with engines[url].connect() as connection:
            if kind == "pool":
                waiting = asyncio.ensure_future(engines[url].connect().start())
                await turns()
                await let_pass(30)
                await waiting
            if kind == "misuse":
                await connection.begin()
                await connection.begin()
            for statement in statements:
                words = {"words": "FATAL: password authentication failed: too many clients already"}
                await connection.execute(text(statement), words if ":words" in statement else {})

    def of_role(full: Any) -> Any:
        """The refusal of a role that has its limit: like that of a full server, in other words."""
        limit = 'too many connections for role "ferry"'
        said = str(full.orig).replace("sorry, too many clients already", limit)
        return type(full)(None, None, type(full.orig)(said))

    met: list[Any] = []
    for kind, _, where in troubles:
        try:
            if kind == "late":
                raise TimeoutError("the harbour did not answer in time")
            if kind == "role":
                raise of_role(met[-1])
            await meet(kind, *where)
        except Exception as error:
            met.append(error)
        if len(met) in (2, 4):
            yield len(met)
    for engine in engines.values():
        await engine.dispose()
    words = [triage(met[number]) for number in order]
    yield [str.__str__(word) if isinstance(word, str) else repr(word)[:30] for word in words]


@lesson.exercise(
    "triage",
    points=2,
    needs=("postgres", "tiny"),
    measures=("exhaustion.diagnose",),
    task="Let an assistant write `triage(error)`: for an exception that came of a request, through "
    "either driver, one word for who refused it: `pool` (our own pool had none left in time), "
    "`server` (Postgres had no connection left for us), `password` (Postgres did not believe us) "
    "or `other`.",
    hints=(
        "Which of these refusals never came as far as Postgres?",
        (
            "The pool's own is `sqlalchemy.exc.TimeoutError`, and no other. What Postgres says has "
            "a SQLSTATE in asyncpg's errors: 53300 (no connection left), 28P01 (password). psycopg "
            "has none when a login fails: read its text, and there are several for 53300."
        ),
        (
            "`isinstance(error, sqlalchemy.exc.TimeoutError)`; then `orig = getattr(error, 'orig', "
            "None)`, `getattr(orig, 'sqlstate', None)`, and the words `too many`, `connection "
            "slots` and `password authentication failed` in `str(orig)`"
        ),
    ),
    slips=(
        Slip(
            "any_timeout",
            "EXH-51",
            "Not every time that runs out is the pool's: Postgres ended a slow statement, and you "
            "called it `pool`.",
            (
                """
                def triage(error):
                    text = str(error).lower()
                    if 'timeout' in text or 'timed out' in text:
                        return 'pool'
                    if 'too many' in text or 'connection slots' in text:
                        return 'server'
                    return 'password' if 'password authentication' in text else 'other'
                """,
                """
                import asyncio
                def triage(error):
                    names = {type(e).__name__ for e in (error, getattr(error, 'orig', None))}
                    said = str(error)
                    if 'password authentication failed' in said:
                        return 'password'
                    if 'slots' in said or 'too many' in said:
                        return 'server'
                    if 'TimeoutError' in names or 'statement timeout' in said:
                        return 'pool'
                    return 'other'
                """,
            ),
        ),
        Slip(
            "one_text",
            "EXH-52",
            "`too many clients` is not the only text: to most of us a full server says that the "
            "`remaining connection slots are reserved`.",
            (
                """
                from sqlalchemy.exc import TimeoutError as PoolTimeout
                def triage(error):
                    if isinstance(error, PoolTimeout):
                        return 'pool'
                    for words, cause in (('too many clients', 'server'), ('password', 'password')):
                        if words in str(error):
                            return cause
                    return 'other'
                """,
                """
                import re
                def triage(error):
                    said = f'{type(error).__name__} {error}'
                    causes = {'QueuePool limit': 'pool', 'too many (clients|connections)': 'server',
                              'authentication failed': 'password'}
                    return next((c for p, c in causes.items() if re.search(p, said)), 'other')
                """,
            ),
        ),
        Slip(
            "one_driver",
            "EXH-53",
            "Through psycopg a refused login has no SQLSTATE and no class of its own: what asyncpg "
            "says you told apart, the same from psycopg you did not.",
            (
                """
                from sqlalchemy import exc
                def triage(error):
                    if isinstance(error, exc.TimeoutError):
                        return 'pool'
                    state = getattr(getattr(error, 'orig', None), 'sqlstate', None)
                    return {'53300': 'server', '28P01': 'password'}.get(state, 'other')
                """,
                """
                import asyncpg
                import sqlalchemy.exc
                def triage(error):
                    while error is not None:
                        match error:
                            case sqlalchemy.exc.TimeoutError():
                                return 'pool'
                            case asyncpg.TooManyConnectionsError():
                                return 'server'
                            case asyncpg.InvalidPasswordError():
                                return 'password'
                        error = error.__cause__
                    return 'other'
                """,
            ),
        ),
        Slip(
            "url_format",
            "EXH-54",
            "Postgres refused the password, so it was reached: the form of the URL was right, and "
            "no connection was missing.",
            (
                """
                from sqlalchemy.exc import TimeoutError as PoolTimeout
                def triage(error):
                    if isinstance(error, PoolTimeout):
                        return 'pool'
                    if 'slots' in str(error) or 'too many' in str(error):
                        return 'server'
                    return 'other'  # a wrong password is a wrong URL
                """,
                """
                from sqlalchemy.exc import OperationalError, TimeoutError, DBAPIError
                def triage(error):
                    if isinstance(error, TimeoutError):
                        return 'pool'
                    said = str(getattr(error, 'orig', ''))
                    login = any(w in said for w in ('slots', 'too many', 'authentication'))
                    return 'server' if login else 'other'
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy.exc import TimeoutError as PoolTimeout
        def triage(error):
            if isinstance(error, PoolTimeout):
                return 'pool'
            orig = getattr(error, 'orig', None)
            state, said = getattr(orig, 'sqlstate', None), str(orig)
            if state == '53300' or 'too many' in said or 'connection slots are reserved' in said:
                return 'server'
            if state == '28P01' or 'password authentication failed' in said:
                return 'password'
            return 'other'
        """,
        """
        import re
        import sqlalchemy as sa
        class Triage:
            words = (('server', 'remaining connection slots|too many (clients|connections)'),
                     ('password', 'password authentication failed'))
            def __call__(self, error):
                if isinstance(error, sa.exc.TimeoutError):
                    return 'pool'
                if not isinstance(error, sa.exc.DBAPIError) or error.statement:
                    return 'other'
                return next((w for w, p in self.words if re.search(p, str(error))), 'other')
        triage = Triage()
        """,
        """
        import asyncpg, psycopg
        from functools import partial, singledispatch
        from sqlalchemy.exc import DBAPIError, TimeoutError
        @singledispatch
        def word(error):
            return 'other'
        @word.register
        def _(error: TimeoutError):
            return 'pool'
        @word.register
        def _(error: DBAPIError):
            cause = getattr(error.orig, '__cause__', None) or error.orig
            return word(cause)
        @word.register
        def _(error: asyncpg.TooManyConnectionsError):
            return 'server'
        @word.register
        def _(error: asyncpg.InvalidAuthorizationSpecificationError):
            return 'password'
        @word.register
        def _(error: psycopg.OperationalError):
            if error.sqlstate is not None:
                return 'other'
            if 'password authentication' in str(error):
                return 'password'
            return 'server' if ' slots ' in str(error) or 'too many' in str(error) else 'other'
        triage = partial(word)
        """,
        """
        from enum import StrEnum
        from sqlalchemy.exc import DBAPIError, TimeoutError
        class Refusal(StrEnum):
            POOL = 'pool'
            SERVER = 'server'
            PASSWORD = 'password'
            OTHER = 'other'
        WORDS = {Refusal.SERVER: ('connection slots', 'too many clients', 'connections for role'),
                 Refusal.PASSWORD: ('password authentication failed',)}
        def triage(error):
            match error:
                case TimeoutError():
                    return Refusal.POOL
                case DBAPIError(orig=orig) if getattr(orig, 'sqlstate', None):
                    states = {'53300': Refusal.SERVER, '28P01': Refusal.PASSWORD}
                    return states.get(orig.sqlstate, Refusal.OTHER)
                case DBAPIError(orig=orig):
                    for refusal, words in WORDS.items():
                        if any(word in str(orig) for word in words):
                            return refusal
            return Refusal.OTHER
        """,
    ),
)
async def triage(trial: Trial) -> None:
    tiny, troubles = trial.lab.tiny, _troubles(trial)
    order = trial.draw.sample(range(len(troubles)), len(troubles))
    plan = [trouble[:3] for trouble in troubles]
    async with trial.witness.actors(tiny["url"], tiny["max_connections"] - 3, alone=True):
        steps = trial.subject.steps(bad_day, plan, order)
        await steps.next()
        async with trial.witness.knocking(tiny["url"], 3):
            await steps.next()
    words = await steps.next()
    said = dict(zip(order, words, strict=True))
    _review({(kind, driver): (word, said[n]) for n, (kind, driver, _, word) in enumerate(troubles)})


def _review(words: dict[tuple[str, str], tuple[str, Any]]) -> None:
    """Which of the troubles got a wrong word; the most telling one first."""
    wrong = {trouble for trouble, (wanted, said) in words.items() if said != wanted}
    for trouble in wrong:
        expect(trouble[0] not in ("slow", "late") or words[trouble][1] != "pool", "EXH-51")
    kinds = {driver: {kind for kind, d in wrong if d == driver} for _, driver in words}
    pool = "pool", "asyncpg"
    expect(
        "pool" not in kinds["asyncpg"] & kinds["psycopg"], "EXH-55", _mistaken(pool, *words[pool])
    )
    expect(kinds["psycopg"] - {"role"} <= kinds["asyncpg"], "EXH-53")
    expect("reserved" not in kinds["asyncpg"] or "sorry" in kinds["asyncpg"], "EXH-52")
    expect("password" not in kinds["asyncpg"], "EXH-54")
    for trouble in sorted(wrong):
        expect(False, _PAGES.get(trouble[0], "EXH-55"), _mistaken(trouble, *words[trouble]))


def _mistaken(trouble: tuple[str, str], wanted: str, said: Any) -> str:
    return f"{_TOLD[trouble[0]]}: that is `{wanted}`, and you said {str(said)[:30]!r}."


_PAGES = {"role": "EXH-52", "note": "EXH-56", "memory": "EXH-57", "misuse": "EXH-57"}
_TOLD = {
    "reserved": "The remaining connection slots of Postgres were reserved",
    "sorry": "Postgres had too many clients already",
    "pool": "The pool's time ran out before a connection came back",
    "password": "Postgres refused the password",
    "slow": "Postgres ended a statement that took too long",
    "database": "There was no such database",
    "table": "There was no such table",
    "late": "Python's own time ran out, and nobody had asked the pool",
    "role": "Your role had too many connections, and psycopg said so",
    "note": "Somebody noted a refused password in a table that is not there",
    "memory": "Postgres had no memory for a statement (SQLSTATE 53200)",
    "misuse": "SQLAlchemy was asked to begin a transaction twice",
}


def _troubles(trial: Trial) -> list[Any]:
    """What happens, through which driver, how to meet it, and the right word for it."""
    lab, tiny, found = trial.lab, trial.lab.tiny, []
    both = (
        ("asyncpg", lab.url, tiny["url"]),
        ("psycopg", lab.psycopg_url, tiny["psycopg_url"]),
    )
    for kind in ("reserved", "sorry"):
        found += [(kind, driver, [small], "server") for driver, _, small in both]
    found.append(("role", "psycopg", [""], "server"))  # it is made of the one before
    for driver, url, _ in both:
        stranger = url.replace(lab.password, trial.draw.word(), 1)
        slow = ["set local statement_timeout = 1", "select pg_sleep(600)"]
        found += [
            ("pool", driver, [url], "pool"),
            ("password", driver, [stranger], "password"),
            ("slow", driver, [url, *slow], "other"),
            ("database", driver, [url + trial.draw.word()], "other"),
            ("table", driver, [url, "table " + trial.draw.word()], "other"),
            ("note", driver, [url, "insert into nowhere values (:words)"], "other"),
            ("memory", driver, [url, _NO_MEMORY], "other"),
        ]
    return [*found, ("misuse", "", [lab.url], "other"), ("late", "", [""], "other")]


_NO_MEMORY = "do $$ begin raise 'out of memory' using errcode = '53200'; end $$"


# -- own_limit -----------------------------------------------------------------------------


async def rush_hour(limited: Any, url: str, own: list[Any], stranger: str) -> AsyncIterator[Any]:
    """Several limits at once on one server connection, a stranger between them; then an error."""
    import asyncio
    import gc

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    gc.disable()  # so that a forgotten connection stays forgotten
    engine = create_async_engine(
        url,
        pool_size=len(own) + 1,
        max_overflow=0,
        connect_args={"statement_cache_size": 0},
    )
    for connection in [await engine.connect() for _ in range(len(own) + 1)]:
        await connection.execute(text("select 1"))
        await connection.close()
    yield None

    async def nobody_special() -> list[Any]:
        async with engine.begin() as connection:
            return [tuple(row) for row in await connection.execute(text(stranger))]

    asked = [limited(engine, statement, limit) for statement, limit in own]
    asked.insert(len(own) // 2, nobody_special())
    answers = await asyncio.gather(*asked)
    del answers[len(own) // 2]
    returned = [
        [list(row) if hasattr(row, "__iter__") else row for row in found]
        for found in answers
        if isinstance(found, list | tuple)
    ]
    yield [returned, engine.pool.checkedout()]  # type: ignore[attr-defined]
    outcome = await asyncio.gather(limited(engine, "select 1 / 0", 1000), return_exceptions=True)
    yield [isinstance(outcome[0], Exception), engine.pool.checkedout()]  # type: ignore[attr-defined]
    await engine.dispose()
    gc.enable()


@lesson.exercise(
    "limited",
    kind="coroutine function",
    points=2,
    needs=("postgres", "pgbouncer"),
    measures=("exhaustion.pooler",),
    task="Write `limited(engine, statement, milliseconds)` for an engine behind PgBouncer: "
    "Postgres itself ends `statement` if it takes longer, what it wrote is committed, its rows are "
    "returned, and nobody else ever gets that limit.",
    hints=(
        "How long does a `SET` last, and who has that server connection by then?",
        "There is a `SET` that ends with the transaction. The statement has to be in the same one.",
        (
            "In one `engine.begin()` block: `set local statement_timeout = ...`, then the "
            "statement; or `select set_config('statement_timeout', :ms, true)`"
        ),
    ),
    slips=(
        Slip(
            "for_all",
            "EXH-61",
            "Strangers got your limit: a `SET` stays on the server connection, and the next client "
            "gets that.",
            (
                """
                from sqlalchemy import text
                async def limited(engine, statement, milliseconds):
                    async with engine.begin() as conn:
                        await conn.execute(text(f"set statement_timeout = {milliseconds}"))
                        return (await conn.execute(text(statement))).all()
                """,
                """
                from sqlalchemy import text
                async def limited(engine, statement, milliseconds):
                    async with engine.connect() as conn:
                        await conn.execute(text(
                            "select set_config('statement_timeout', :ms, false)"),
                            {'ms': str(milliseconds)})
                        rows = (await conn.execute(text(statement))).all()
                        await conn.commit()
                        await conn.execute(text("reset statement_timeout"))
                        await conn.commit()
                        return rows
                """,
            ),
        ),
        Slip(
            "not_in_force",
            "EXH-62",
            "Postgres ran the statement without your limit: it was set in another transaction, or "
            "not in Postgres at all.",
            (
                """
                from sqlalchemy import text
                async def limited(engine, statement, milliseconds):
                    async with engine.begin() as conn:
                        await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                    async with engine.begin() as conn:
                        return (await conn.execute(text(statement))).all()
                """,
                """
                import asyncio
                from sqlalchemy import text
                async def limited(engine, statement, milliseconds):
                    async with asyncio.timeout(milliseconds / 1000), engine.begin() as conn:
                        return (await conn.execute(text(statement))).all()
                """,
            ),
        ),
        Slip(
            "not_committed",
            "EXH-63",
            "What the statement wrote was never committed.",
            (
                """
                from sqlalchemy import text
                async def limited(engine, statement, milliseconds):
                    async with engine.connect() as conn:
                        await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                        return (await conn.execute(text(statement))).all()
                """,
                """
                from sqlalchemy import text
                from sqlmodel.ext.asyncio.session import AsyncSession
                async def limited(engine, statement, milliseconds):
                    async with AsyncSession(engine) as session:
                        await session.exec(text(
                            f"select set_config('statement_timeout', '{milliseconds}', true)"))
                        return list(await session.exec(text(statement)))
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {int(milliseconds)}"))
                return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import func, select, text
        from sqlmodel.ext.asyncio.session import AsyncSession
        class Limited:
            async def __call__(self, engine, statement, milliseconds):
                async with AsyncSession(engine) as session, session.begin():
                    setting = func.set_config('statement_timeout', str(milliseconds), True)
                    await session.exec(select(setting))
                    return [tuple(row) for row in await session.exec(text(statement))]
        limited = Limited()
        """,
        """
        from functools import partial
        async def run(setting, engine, statement, milliseconds):
            async with engine.connect() as conn:
                await conn.exec_driver_sql(f"set {setting} = '{milliseconds}ms'")
                rows = (await conn.exec_driver_sql(statement)).fetchall()
                await conn.exec_driver_sql(f"reset {setting}")
                await conn.commit()
            return rows
        limited = partial(run, 'statement_timeout')
        """,
    ),
)
async def own_limit(trial: Trial) -> None:
    witness, draw, pooler = trial.witness, trial.draw, trial.lab.pgbouncer
    own = {draw.word(): limit for limit in draw.sample(range(20_000, 60_000), 4)}
    stranger, url = draw.word(), pooler["url"]
    await witness.execute(
        "create table noted (word text, patience int, n int, pid int default pg_backend_pid())"
    )
    asked = [(_NOTE.format(word), limit) for word, limit in own.items()]
    async with witness.actors(pooler["url"], pooler["default_pool_size"]) as cast:
        steps = trial.subject.steps(rush_hour, url, asked, _NOTE.format(stranger))
        await steps.next()
        for actor in cast[1:]:  # so that all that comes now shares one server connection
            await actor.says("begin", "select 1")
        returned, out = await steps.next()
        rows = await witness.fetch("table public.noted")
        noted = {row["word"]: row["patience"] for row in rows}
        expect(noted.pop(stranger, None) == 0, "EXH-61")
        expect(set(noted) == set(own), "EXH-63")
        expect(any(noted.values()), "EXH-62")
        expect(noted == own, "EXH-64", "Postgres had another limit in force than was asked for.")
        expect(len(rows) == 2 * len(own) + 2, "EXH-65", "The statement ran more than once.")
        expect(returned == [[[1, word], [2, word]] for word in own], "EXH-65", _ROWS)
        expect(not out, "EXH-66", _OUT)
        failed, out = await steps.next()
        expect(failed, "EXH-65", "The statement failed, and `limited` said nothing of it.")
        expect(not out, "EXH-66", _OUT)
        for actor in cast[1:]:
            await actor.says("commit")
        seen = await _on_each(cast)
    expect({row["pid"] for row in rows} <= set(seen), "EXH-46", _NOT_BY_POOLER)
    left = {name for state in seen.values() for name in state["settings"]}
    expect(
        not left,
        "EXH-61",
        "" if "statement_timeout" in left else _SET.format(", ".join(sorted(left))),
    )


_ROWS = "The rows that the statement returns were asked for: a list, each of them as a tuple."
_NOT_BY_POOLER = "Postgres saw you on a connection that is not PgBouncer's: use the engine."
_OUT = "It was over, and the connection was still out of the pool."
_NOTE = (
    "insert into noted (word, patience, n) select '{}', cast(setting as int), n"
    " from pg_settings, generate_series(1, 2) as n"
    " where name = 'statement_timeout' returning n, word"
)


lesson.codes |= {
    "EXH-01": "`idle` in `pg_stat_activity.state` is a connection that rests in somebody's pool: "
    "no transaction, no locks. `idle in transaction` is another state. List `pid, state, query` "
    "for your own connections and compare.",
    "EXH-02": "Who waits has `wait_event_type = 'Lock'`, and `pg_blocking_pids(pid)` says for "
    "whom. End the one that holds, and the other goes on by itself.",
    "EXH-03": "The connection that asks is in a transaction while it asks, and so in its own list. "
    "`pid <> pg_backend_pid()` leaves it out; so does asking for the right states.",
    "EXH-04": "Whoever sits idle in a transaction has a connection of the pool, and old rows that "
    "cannot be cleaned away, even when nobody waits yet. Ask for the state too, not for locks "
    "alone.",
    "EXH-05": "A connection may hold a lock while it is busy with another statement: `active`, and "
    "yet others wait for it. `pg_blocking_pids` of those who wait finds it.",
    "EXH-06": "After an error a transaction stays open until somebody rolls it back. Its state is "
    "`idle in transaction (aborted)`: match the beginning of the text.",
    "EXH-07": "One that others wait for was not in your list. Ask `pg_blocking_pids(pid)` of every "
    "connection, and collect what it gives.",
    "EXH-08": "The column `query` of `pg_stat_activity` has the last statement of each connection, "
    "also when it is over.",
    "EXH-09": "A list of pairs was asked for, each connection once, and nothing done to them. A "
    "join may bring one up twice; `distinct`, or a set, does not.",
    "EXH-10": "`pg_blocking_pids` gives an array: whoever waits may wait for several at once, and "
    "one of these may wait itself. `unnest`, or `= any(...)`, takes all of them.",
    "EXH-11": "A mail takes seconds. For so long the transaction was open: the connection was out "
    "of the pool, its locks were held, and nobody saw the booking. Look at `pg_stat_activity` "
    "while it waits. Leave the transaction's block first, then send.",
    "EXH-12": "Every statement after a commit begins a new transaction, a SELECT and `refresh` "
    "too. Read what you need before you commit: `returning`, or `flush` and `refresh`.",
    "EXH-13": "`session.add` sends nothing. A mail about a booking that may yet fail cannot be "
    "taken back. Commit first.",
    "EXH-14": "The code in the mail, the code that is returned and the code of the row have to be "
    "the same, and `book` has to await the mail, once. Another booking may come in between: the "
    "code has to be that of *your* row, not of the last one, or of the passenger's first.",
    "EXH-15": "The passenger has a seat, whatever the mail server thinks. Leave the row alone when "
    "`notify` fails.",
    "EXH-16": "No transaction was open, but a connection was still out of the pool: `connect()` "
    "and AUTOCOMMIT keep it until they are closed. `engine.pool.checkedout()` shows it. Close "
    "before the mail. (An engine of your own would keep one too; `factory` has all you need.)",
    "EXH-17": "A session that nobody closes keeps its connection, and with a pool of one nobody "
    "books after that. A block closes it, however it is left.",
    "EXH-21": "More loads ran at once than `at_most`. The limit has to be one object for all of "
    "them: one semaphore, made before the tasks.",
    "EXH-22": "Fewer loads ran at once than `at_most` allows. Start them as tasks and let a "
    "semaphore count, or let so many workers take from one list. Rounds (`gather` for so many, "
    "then for the next) wait for the slowest of each.",
    "EXH-23": "A session is for one task at a time: `This session is provisioning a new "
    "connection; concurrent operations are not permitted`. Give each load one of its own.",
    "EXH-24": "A session that nobody closes keeps its connection. `async with factory() as "
    "session:` closes it, however the block is left; a `close()` on the last line does not.",
    "EXH-25": "The results came in another order, or were others. `asyncio.gather` gives them in "
    "the order of its arguments, whoever finishes first. The list of ids is the caller's: take "
    "nothing out of it.",
    "EXH-26": "One load failed, and `all_boards` said nothing. Whoever shows the boards has to "
    "know that one is missing.",
    "EXH-31": "Each worker process imports your program and has an engine, and so a pool, of its "
    "own. The number of pools is machines times workers.",
    "EXH-32": "`max_overflow` is on top of `pool_size`, and ten unless you say otherwise. All "
    "pools may be in a rush at the same time: count both.",
    "EXH-33": "Slots were left over, enough for one more in each pool. Divide and round down; "
    "nothing else needs to be held back.",
    "EXH-34": "`show superuser_reserved_connections` (three) and `show reserved_connections` are "
    "never yours, and others use the server too. Take both away before you divide.",
    "EXH-35": "There are more processes than slots, so no pool has even one. That is no plan: "
    "raise a ValueError.",
    "EXH-36": "A pair of whole numbers was asked for: `pool_size` of at least one (0 means no "
    "limit at all) and `max_overflow` of at least zero (-1 means the same).",
    "EXH-37": "Together, all pools could ask for more connections than there are. Add up: "
    "processes times (`pool_size` + `max_overflow`).",
    "EXH-38": "One connection for each process is a plan, if a tight one: only below that raise a "
    "ValueError. Mind the case where the division leaves nothing over.",
    "EXH-41": "In transaction mode a server connection goes to another client after each "
    "transaction, with all the statements that were prepared there. asyncpg numbers its names from "
    "1 in every process, so they meet. `statement_cache_size=0` in `connect_args` makes it use "
    "nameless ones. (PgBouncer from 1.21 on can keep names apart, if its `max_prepared_statements` "
    "is not 0.)",
    "EXH-42": "There are two caches. `prepared_statement_cache_size` is how many statements "
    "SQLAlchemy keeps for a connection; `statement_cache_size` is asyncpg's, and only at 0 does "
    "asyncpg stop to name them.",
    "EXH-43": "Names that never repeat do not collide, but nobody removes them either: `select "
    "count(*) from pg_prepared_statements` through the pooler grows with every client. Do not "
    "prepare by name at all.",
    "EXH-44": "psycopg counts how often a statement is executed and prepares it after the fifth "
    "time, as `_pg3_0`; a higher threshold is reached later. `prepare_threshold=None` in "
    "`connect_args` switches that off.",
    "EXH-45": "A request gave another result than it should. Run the engine by hand through "
    "`lab.pgbouncer.url`.",
    "EXH-46": "Postgres saw you on a connection that is not one of PgBouncer's. Keep the host and "
    "the port of the URL that you are given, and use the engine that you are given.",
    "EXH-47": "Statements that other clients had prepared were gone. `DISCARD ALL` and `DEALLOCATE "
    "ALL` clean up after everybody on that connection.",
    "EXH-48": "Tasks that share a connection share its transaction: one commits, or undoes, what "
    "another has begun. `StaticPool` is one connection for all. Choose a pool that gives each its "
    "own.",
    "EXH-49": "`create_async_engine` makes the engine that was asked for; `create_engine` makes "
    "one that cannot be awaited.",
    "EXH-50": "What is `SET` when a connection is made stays on the server connection, and that "
    "goes on to strangers. `select name, setting from pg_settings where source = 'session'` shows "
    "it.",
    "EXH-51": "Many things run out of time: a statement (`statement_timeout`, SQLSTATE 57014), "
    "Python's own `asyncio.timeout`. The pool's refusal is `sqlalchemy.exc.TimeoutError`, which is "
    "no relative of Python's.",
    "EXH-52": "The last slots are kept for administrators, so an ordinary role is told `remaining "
    "connection slots are reserved`. `sorry, too many clients already` comes when even those are "
    "taken, `too many connections for role` when your role has a limit. All three are 53300.",
    "EXH-53": "When a login fails, psycopg raises OperationalError with `sqlstate` None, whatever "
    "the cause. Only the text tells.",
    "EXH-54": "`password authentication failed` is Postgres's own word. Host, port and form of the "
    "URL were right.",
    "EXH-56": "`str(error)` of SQLAlchemy's errors has the statement and its parameters in it, and "
    "these may speak of anything. Read `error.orig`: its `sqlstate`, and its text where there is "
    "none.",
    "EXH-57": "Not all that is short is a connection: SQLSTATE 53300, and no other of its class. "
    "And not every error of SQLAlchemy is the pool's: that is `sqlalchemy.exc.TimeoutError`.",
    "EXH-55": "One of the troubles got the wrong word. Make it happen in a cell and print "
    "`type(error)`, `error.orig` and its `sqlstate`.",
    "EXH-61": "Behind a pooler in transaction mode a session is not yours. A `SET` outlives your "
    "transaction there and meets whoever comes next; a `RESET` later may meet another connection. "
    "`SET LOCAL` ends with the transaction.",
    "EXH-62": "`SET LOCAL` is over when its transaction is. A limit in Python ends the waiting; "
    "Postgres knows nothing of it. Put `SET LOCAL` and the statement into one block.",
    "EXH-63": "`connect()` rolls back what nobody committed. `begin()` commits when its block ends "
    "well.",
    "EXH-64": "Postgres had another limit in force than was asked for. The setting counts in "
    "milliseconds, if you name no unit.",
    "EXH-65": "The rows of the statement were asked for, as they come. An error of the statement "
    "is for the caller to see.",
    "EXH-66": "Whoever takes a connection by `await engine.connect()` has to close it. A block, "
    "`async with engine.begin()`, does so however it is left.",
}
