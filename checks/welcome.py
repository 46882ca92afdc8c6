"""00 welcome: how this works."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Draw, Lesson, Objective, Outcome, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "welcome",
    "How this works",
    minutes=25,
    stuck="Do it by hand: connect, execute and commit in one cell, and ask Postgres after each.",
    further="Let any number of functions work at once, and stop them all when one fails.",
    objectives=(
        Objective(
            "welcome.ask",
            "Ask Postgres, and have your answer checked by what it saw",
            "apply",
            "A2",
            "Async engines",
        ),
        Objective(
            "welcome.await",
            "Tell what `await` does, and what happens without it",
            "understand",
            "A2",
            "Async engines",
        ),
        Objective(
            "welcome.together",
            "Let two pieces of work wait at the same time",
            "apply",
            "A2",
            "Async engines",
        ),
        Objective(
            "welcome.keep",
            "Store a row so that it stays, whatever its name is",
            "apply",
            "A2",
            "Async engines",
        ),
    ),
    codes={
        "WELC-01": "Calling a coroutine function runs nothing: it makes a coroutine, a sealed "
        "envelope. Print `type(...)` of what you return. `await` opens it.",
        "WELC-02": "A query gives rows, also when there is only one with one column in it. "
        "`scalar()` gives the first column of the first row.",
        "WELC-03": "The word was changed in the database, and your answer did not change with it. "
        "Ask each time you are called.",
        "WELC-04": "Postgres was asked, and something else came out than the word. Print what "
        "`select word from notice` gives, and what you return.",
        "WELC-05": "Your function is given an engine, and whoever calls it wants that one to be "
        "asked. Another engine may lead to another database, or log in as somebody else. In the "
        "check, every other connection finds another table of the same name.",
        "WELC-06": "A connection that is borrowed from an engine has to go back to it, or there "
        "will be none left one day. `async with` gives it back when its block ends. See "
        "`engine.pool.checkedout()`.",
        "WELC-11": "The second function began when the first had ended. `await first()` waits "
        "there until it has. Start both, then wait for both: `asyncio.gather`, a "
        "`asyncio.TaskGroup`, or two `asyncio.create_task`.",
        "WELC-12": "The results were in the order in which they came in. `asyncio.gather` keeps "
        "them in the order in which you asked, and so do two tasks awaited in turn.",
        "WELC-13": "A task or a coroutine is work that has been begun, or not even that. "
        "`await` gives its result.",
        "WELC-14": "A tuple of two results was asked for: that of `first`, then that of `second`, "
        "just as they came. Call each of the two once.",
        "WELC-15": "One of the two raised, and whoever called you was not told. Let it out: "
        "`asyncio.gather` does so unless `return_exceptions` is set, and so does a "
        "`asyncio.TaskGroup`.",
        "WELC-21": "The first statement begins a transaction, and leaving `engine.connect()` "
        "undoes it. `engine.begin()` commits when its block ends well; or await `commit()`.",
        "WELC-22": "Without `await`, a call makes a coroutine and nothing happens. Python only "
        "warns: *coroutine '...' was never awaited*.",
        "WELC-23": "A value that is pasted into SQL is read as SQL. Name it in the statement, "
        "with a colon, and hand it over beside it: `execute(text('... :n ...'), {'n': ...})`. "
        "Quotes that you double yourself work until you forget one.",
        "WELC-24": "There should be one row for each call, with the name and the seats just as "
        "they were given. Look with `select name, seats from ferry`.",
        "WELC-25": "No INSERT ever arrived. Does your function execute one, and await it?",
        "WELC-26": "Postgres refused a ferry, here one with no seats, and your function ended as "
        "if all were well. Whoever called it believes that the ferry is stored. Let the exception "
        "out, or raise one.",
    },
)


# -- word ----------------------------------------------------------------------------------


async def read_notice(word_of_the_day: Any, url: str) -> AsyncIterator[Any]:
    """Ask for the word, and ask again; each time, what is still borrowed."""
    import inspect

    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Borrowed

    engine = create_async_engine(url, connect_args={"server_settings": {"search_path": "public"}})
    borrowed = Borrowed(engine)
    try:
        while True:
            word = word_of_the_day(engine)
            yield await word if inspect.isawaitable(word) else word
            yield borrowed.count
    finally:
        await engine.dispose()


@lesson.exercise(
    "word_of_the_day",
    kind="coroutine function",
    points=1,
    measures=("welcome.ask", "welcome.await"),
    task="Write `word_of_the_day(engine)`: over this engine it asks for the one `word` in the "
    "table `notice`, returns it, and gives the connection back.",
    hints=(
        "Who knows the word?",
        "Connect with `async with`, as `tear_off` does. `scalar` runs a query and gives one value.",
        (
            "In `async with engine.connect() as conn:` return "
            "`await conn.scalar(text('select word from notice'))`."
        ),
    ),
    slips=(
        Slip(
            "no_await",
            "WELC-01",
            "You returned a coroutine: nobody ran it, and Postgres saw no query.",
            (
                """
                from sqlalchemy import text
                async def word_of_the_day(engine):
                    conn = engine.connect()
                    return conn.scalar(text('select word from notice'))
                """,
                """
                from sqlalchemy import text
                async def ask(engine, question):
                    async with engine.connect() as conn:
                        return await conn.scalar(text(question))
                async def word_of_the_day(engine):
                    return ask(engine, 'select word from notice')
                """,
            ),
        ),
        Slip(
            "row",
            "WELC-02",
            "That is a row; the word is its first column.",
            (
                """
                from sqlalchemy import text
                async def word_of_the_day(engine):
                    async with engine.connect() as conn:
                        return (await conn.execute(text('select word from notice'))).one()
                """,
                """
                from sqlalchemy import text
                async def word_of_the_day(engine):
                    async with engine.connect() as conn:
                        found = await conn.execute(text('table notice'))
                        return [tuple(row) for row in found]
                """,
            ),
        ),
        Slip(
            "remembered",
            "WELC-03",
            "Postgres holds another word now, and was not asked.",
            (
                """
                async def word_of_the_day(engine):
                    return 'herring'
                """,
                """
                from sqlalchemy import text
                known = []
                async def word_of_the_day(engine):
                    if not known:
                        async with engine.connect() as conn:
                            known.append(await conn.scalar(text('select word from notice')))
                    return known[0]
                """,
            ),
        ),
        Slip(
            "another_engine",
            "WELC-05",
            "That is what another connection sees; the engine that you were given was not asked.",
            (
                """
                from engineroom import lab
                from sqlalchemy import text
                desk = create_async_engine(lab.url)
                async def ask(question):
                    async with desk.connect() as conn:
                        return (await conn.execute(text(question))).one()
                async def word_of_the_day(engine):
                    return (await ask('select word from notice'))[0]
                """,
                """
                from sqlalchemy import create_engine, text
                async def word_of_the_day(engine):
                    own = create_engine(engine.url.set(drivername='postgresql+psycopg'))
                    with own.connect() as conn:
                        return conn.scalar(text('select word from notice'))
                """,
            ),
        ),
        Slip(
            "not_given_back",
            "WELC-06",
            "You borrowed a connection from the engine, and did not give it back.",
            (
                """
                from sqlalchemy import text
                async def word_of_the_day(engine):
                    conn = await engine.connect()
                    return await conn.scalar(text('select word from notice'))
                """,
                """
                from sqlalchemy import text
                from sqlalchemy.ext.asyncio import AsyncSession
                sessions = []
                async def word_of_the_day(engine):
                    sessions.append(AsyncSession(engine))
                    return await sessions[-1].scalar(text('select word from notice for update'))
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return await conn.scalar(text('select word from notice'))
        """,
        """
        from sqlalchemy import column, select, table
        from sqlmodel.ext.asyncio.session import AsyncSession
        class Reader:
            async def __call__(self, engine):
                async with AsyncSession(engine) as session:
                    rows = await session.exec(select(table('notice', column('word'))))
                    return rows.one()[0]
        word_of_the_day = Reader()
        """,
        """
        from functools import partial
        async def first_of(sql, engine):
            conn = await engine.connect()
            try:
                (row,) = await conn.exec_driver_sql(sql)
                return str(row.word)
            finally:
                await conn.close()
        word_of_the_day = partial(first_of, 'select * from notice')
        """,
        """
        from sqlalchemy import text
        async def stream(engine):
            async with engine.begin() as conn, conn.stream(text('table notice')) as rows:
                async for (word,) in rows:
                    return word
        word_of_the_day = lambda engine: stream(engine)
        """,
        """
        from sqlalchemy import MetaData, Table, select
        async def word_of_the_day(engine, /, *, name='notice'):
            async with engine.connect() as conn:
                raw = (await conn.get_raw_connection()).driver_connection
                await raw.fetchval('select word from public.notice where word <> $1', '')
                table = await conn.run_sync(
                    lambda sync: Table(name, MetaData(), autoload_with=sync))
                return (await conn.execute(select(table.c.word))).scalar()
        """,
    ),
)
async def word(trial: Trial) -> None:
    witness, first, second, aside = trial.witness, *(trial.draw.word() for _ in range(3))
    before = await witness.logins()
    await witness.execute(_BOARDS.format(first=first, aside=aside))
    steps = trial.subject.steps(read_notice, trial.lab.url)
    found = await steps.outcome()
    _is_word(found)
    expect(found.value != aside, "WELC-05")
    asked = await witness.logins() > before
    expect(
        found.value == first, "WELC-04" if asked else "WELC-03", _another(found) if asked else ""
    )
    expect(not await steps.next(), "WELC-06")
    await witness.execute("update public.notice set word = $1", second)
    again = await steps.outcome()
    _is_word(again)
    kept = again.value == first
    expect(again.value == second, "WELC-03" if kept else "WELC-04", "" if kept else _another(again))


_BOARDS = """
create table public.notice as select '{first}'::text as word;
create schema authorization current_user;
create table notice as select '{aside}'::text as word;
"""
"""The board, and one that everybody sees first who logs in without the probe's search path."""


_SEALED = ("coroutine", "Task", "Future", "_GatheringFuture", "async_generator", "generator")
_ROWS = ("Row", "RowMapping", "tuple", "list", "dict", "Record")


def _is_word(found: Outcome) -> None:
    """Whether a text came; what else it was says what went wrong."""
    if found.failure is not None:
        raise SubjectFailed(found.failure)
    expect(
        found.kind != "async_generator",
        "WELC-01",
        "With `yield` it is a generator, and nobody ran it: Postgres saw no query. `return` the "
        "word.",
    )
    expect(found.kind not in _SEALED, "WELC-01")
    expect(found.kind not in _ROWS, "WELC-02")
    given = "None: was the word returned?" if found.kind == "NoneType" else f"{found.kind}."
    expect(isinstance(found.value, str), "WELC-04", f"A text was asked for; you gave {given}")


def _another(found: Outcome) -> str:
    return f"Postgres was asked, and holds another word than {str(found.value)[:40]!r}."


# -- together ------------------------------------------------------------------------------


async def set_out(together: Any, url: str, first_is_slow: bool) -> AsyncIterator[Any]:
    """Two functions that stand at a gate, and end in the order that was drawn."""
    import asyncio
    import inspect

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import let_pass, turns

    engine, back = create_async_engine(url), asyncio.Event()
    started: list[str] = []

    async def sail(ferry: str, slow: bool) -> Any:
        started.append(ferry)
        async with engine.connect() as connection:
            sql = text("select word from harbour where ferry = :ferry")
            word = await connection.scalar(sql, {"ferry": ferry})
        if slow:
            await back.wait()
            await turns()  # whoever waits for the other one only has gone on by now
        back.set()
        return word

    async def first() -> Any:
        return await sail("first", first_is_slow)

    async def second() -> Any:
        return await sail("second", not first_is_slow)

    async def both() -> Any:
        found = together(first, second)
        return await found if inspect.isawaitable(found) else found

    running = asyncio.ensure_future(both())
    await turns()
    await let_pass(5)
    if running.done():
        running.result()  # what it raised is the learner's to read
    yield started
    found = await running
    several = isinstance(found, tuple | list)
    yield [type(item).__name__ for item in found] if several else type(found).__name__
    yield [item if isinstance(item, str) else None for item in found]
    await engine.dispose()
    yield started


async def set_out_often(together: Any, plan: Any) -> AsyncIterator[Any]:
    """Many pairs that come back at once, and two of which one comes to grief.

    No task is forgotten, so that each has another address: in a set they stand in whatever order
    that gives.
    """
    import asyncio
    import inspect

    kept: list[Any] = []
    found = []

    def sail(result: Any) -> Any:
        async def sailing() -> Any:
            kept.append(asyncio.current_task())
            return result

        return sailing

    async def sinking() -> Any:
        raise OSError("water in the engine room")

    async def go(first: Any, second: Any) -> list[Any]:
        pair = together(first, second)
        return [*(await pair if inspect.isawaitable(pair) else pair)]

    for one, other in plan:
        found.append(await go(sail(one), sail(other)))
    yield found
    for pair in (sinking, sail(0)), (sail(0), sinking):
        try:
            yield await go(*pair)
        except Exception:
            yield "trouble"


@lesson.exercise(
    "together",
    kind="coroutine function",
    points=2,
    measures=("welcome.await", "welcome.together"),
    task="Write `together(first, second)`: it gets two coroutine functions without parameters, "
    "lets both work at the same time, and returns both results, that of `first` first. If one of "
    "them raises, so does `together`.",
    hints=(
        "When does the second one start?",
        "Start both, and then wait for both. `first` is a function: who calls it?",
        "`await asyncio.gather(first(), second())` starts both and keeps their order.",
    ),
    slips=(
        Slip(
            "in_turn",
            "WELC-11",
            "Postgres never saw the two at once: the second waited for the first to end.",
            (
                """
                async def together(first, second):
                    return await first(), await second()
                """,
                """
                import asyncio
                async def together(first, second):
                    one = await asyncio.create_task(first())
                    other = await asyncio.create_task(second())
                    return one, other
                """,
            ),
        ),
        Slip(
            "by_arrival",
            "WELC-12",
            "The results came in the order in which they ended; that of `first` comes first.",
            (
                """
                import asyncio
                async def together(first, second):
                    found = []
                    for done in asyncio.as_completed([first(), second()]):
                        found.append(await done)
                    return tuple(found)
                """,
                """
                import asyncio
                async def together(*functions):
                    found = []
                    async def one(function):
                        found.append(await function())
                    async with asyncio.TaskGroup() as group:
                        for function in functions:
                            group.create_task(one(function))
                    return tuple(found)
                """,
            ),
        ),
        Slip(
            "tasks",
            "WELC-13",
            "You handed back work, and not its results: somebody has to await it.",
            (
                """
                import asyncio
                async def together(first, second):
                    return asyncio.create_task(first()), asyncio.create_task(second())
                """,
                """
                async def together(first, second):
                    return first(), second()
                """,
            ),
        ),
        Slip(
            "hushed_up",
            "WELC-15",
            "One of the two raised an exception, and `together` went on as if all were well.",
            (
                """
                import asyncio
                async def together(first, second):
                    return await asyncio.gather(first(), second(), return_exceptions=True)
                """,
                """
                import asyncio
                async def calmly(function):
                    try:
                        return await function()
                    except Exception as error:
                        print(error)
                async def together(*functions):
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(calmly(f)) for f in functions]
                    return tuple(task.result() for task in tasks)
                """,
            ),
        ),
    ),
    right=(
        """
        import asyncio
        async def together(first, second):
            one, other = await asyncio.gather(first(), second())
            return one, other
        """,
        """
        import asyncio
        async def together(first, second):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(function()) for function in (first, second)]
            return tuple(task.result() for task in tasks)
        """,
        """
        import asyncio
        class Together:
            async def __call__(self, first, second):
                other = asyncio.create_task(second())
                return await first(), await other
        together = Together()
        """,
        """
        import asyncio
        together = lambda *functions: asyncio.gather(*(function() for function in functions))
        """,
        """
        import asyncio
        from functools import partial
        async def run(when, first, second):
            tasks = {asyncio.ensure_future(f()): n for n, f in enumerate((first, second))}
            await asyncio.wait(tasks, return_when=when)
            return [task.result() for task in sorted(tasks, key=tasks.get)]
        together = partial(run, asyncio.ALL_COMPLETED)
        """,
    ),
)
async def together(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    await witness.execute("create table harbour (ferry text, word text)")
    for first_is_slow in draw.sample([True, False], 2):
        words = [draw.word(), draw.word()]
        await witness.execute("truncate harbour")
        await witness.execute("insert into harbour values ('first', $1), ('second', $2)", *words)
        steps = trial.subject.steps(set_out, trial.lab.url, first_is_slow)
        async with witness.gate("harbour") as gate:
            started = await steps.next()
            expect(len(set(started)) == len(started), "WELC-14", _TWICE)
            expect(len(started) != 1, "WELC-11")
            await gate.reached(len(started))  # Postgres sees the two at once
        _are_results(await steps.next())
        found = await steps.next()
        expect(found != words[::-1], "WELC-12")
        expect(found == words, "WELC-14", "These are not the results of the two.")
        expect(len(await steps.next()) == 2, "WELC-14", _TWICE)
        await steps.outcome()
    await _many_pairs(trial)


_TWICE = "You called one of them twice."


async def _many_pairs(trial: Trial) -> None:
    """Sixteen pairs, whose results need not be texts, and two pairs of which one fails."""
    draw = trial.draw
    pairs: list[list[Any]] = [[draw.word(), draw.word()] for _ in range(16)]
    pairs[3][0], pairs[5][1], pairs[8][0] = None, draw.randint(1, 9), 0
    steps = trial.subject.steps(set_out_often, pairs)
    for found, pair in zip(await steps.next(), pairs, strict=True):
        expect(found != pair[::-1], "WELC-12")
        expect(found == pair, "WELC-14", f"The two returned {pair}, and you {found}.")
    for _ in range(2):
        expect(await steps.next() == "trouble", "WELC-15")


def _are_results(kinds: Any) -> None:
    many = isinstance(kinds, list)
    expect(not set(_SEALED) & set(kinds if many else [kinds]), "WELC-13")
    expect(many, "WELC-14", f"Two results were asked for, and you gave one {kinds}.")
    expect(kinds == ["str", "str"], "WELC-14", f"You gave {', '.join(kinds) or 'nothing'}.")


# -- keep ----------------------------------------------------------------------------------


async def buy(keep: Any, url: str, ferries: Any, refused: Any) -> AsyncIterator[Any]:
    """Buy one ferry after another; note which calls nobody awaited, and what is still borrowed.

    At last one that Postgres refuses.
    """
    import inspect
    import warnings

    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Borrowed

    engine = create_async_engine(url, connect_args={"server_settings": {"search_path": "public"}})
    borrowed = Borrowed(engine)
    try:
        for name, seats in ferries:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                done = keep(engine, name, seats)
                done = await done if inspect.isawaitable(done) else done
                del done
            said = [str(warning.message) for warning in caught]
            yield [[words for words in said if "never awaited" in words], borrowed.count]
        try:
            done = keep(engine, *refused)
            done = await done if inspect.isawaitable(done) else done
        except Exception:
            yield ["raised", borrowed.count]
        else:
            yield ["went on", borrowed.count]
    finally:
        await engine.dispose()


@lesson.exercise(
    "keep",
    kind="coroutine function",
    points=2,
    measures=("welcome.keep",),
    task="Write `keep(engine, name, seats)`: over this engine it stores a ferry in the table "
    "`ferry`, in the columns `name` and `seats`, so that a stranger finds it afterwards, whatever "
    "its name is. What Postgres refuses, it does not pass over in silence.",
    hints=(
        "What ends a transaction well?",
        "`engine.begin()` does it for you. And the name travels beside the SQL, not in it.",
        (
            "In `async with engine.begin() as conn:` execute `text('insert into ferry (name, "
            "seats) values (:name, :seats)')` with `{'name': name, 'seats': seats}`."
        ),
    ),
    slips=(
        Slip(
            "no_commit",
            "WELC-21",
            "Postgres got an INSERT and then a ROLLBACK: leaving `connect()` undoes what nobody "
            "has committed.",
            (
                """
                from sqlalchemy import text
                async def keep(engine, name, seats):
                    async with engine.connect() as conn:
                        await conn.execute(
                            text('insert into ferry (name, seats) values (:name, :seats)'),
                            {'name': name, 'seats': seats})
                """,
                """
                from sqlalchemy import column, insert, table
                from sqlalchemy.ext.asyncio import AsyncSession
                ferry = table('ferry', column('name'), column('seats'))
                async def keep(engine, name, seats):
                    async with AsyncSession(engine) as session:
                        await session.execute(insert(ferry).values(name=name, seats=seats))
                        await session.flush()
                """,
            ),
        ),
        Slip(
            "unawaited",
            "WELC-22",
            "`commit()` was called, and never awaited: Postgres has not heard of it.",
            (
                """
                from sqlalchemy import text
                async def keep(engine, name, seats):
                    async with engine.connect() as conn:
                        await conn.execute(
                            text('insert into ferry (name, seats) values (:n, :s)'),
                            {'n': name, 's': seats})
                        conn.commit()
                """,
                """
                from sqlalchemy import text
                from sqlmodel.ext.asyncio.session import AsyncSession
                async def keep(engine, name, seats):
                    async with AsyncSession(engine) as session:
                        await session.exec(
                            text('insert into ferry (name, seats) values (:n, :s)'),
                            params={'n': name, 's': seats})
                        done = session.commit()
                """,
            ),
        ),
        Slip(
            "pasted_sql",
            "WELC-23",
            "The quote in the name ended your SQL; pass values as parameters.",
            (
                """
                from sqlalchemy import text
                async def keep(engine, name, seats):
                    async with engine.begin() as conn:
                        await conn.execute(text(
                            f"insert into ferry (name, seats) values ('{name}', {seats})"))
                """,
                """
                async def keep(engine, name, seats):
                    async with engine.begin() as conn:
                        await conn.exec_driver_sql(
                            "insert into ferry (name, seats) values ('" + name + "', "
                            + str(seats) + ")")
                """,
            ),
        ),
        Slip(
            "hushed_up",
            "WELC-26",
            "Postgres refused a ferry without seats, and `keep` ended as if it were stored.",
            (
                """
                from sqlalchemy import text
                async def keep(engine, name, seats):
                    try:
                        async with engine.begin() as conn:
                            await conn.execute(
                                text('insert into ferry (name, seats) values (:name, :seats)'),
                                {'name': name, 'seats': seats})
                    except Exception:
                        pass
                """,
                """
                from sqlalchemy import text
                async def keep(engine, name, seats):
                    async with engine.connect() as conn:
                        try:
                            await conn.execute(
                                text('insert into ferry (name, seats) values (:name, :seats)'),
                                {'name': name, 'seats': seats})
                            await conn.commit()
                        except Exception as error:
                            await conn.rollback()
                            print('could not store', name, error)
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(
                    text('insert into ferry (name, seats) values (:name, :seats)'),
                    {'name': name, 'seats': seats})
        """,
        """
        from sqlalchemy import column, insert, table
        class Harbour:
            ferry = table('ferry', column('name'), column('seats'))
            async def __call__(self, engine, name, seats):
                conn = await engine.connect()
                try:
                    await conn.execute(insert(self.ferry).values(name=name, seats=seats))
                    await conn.commit()
                finally:
                    await conn.close()
        keep = Harbour()
        """,
        """
        from typing import Optional
        from sqlmodel import Field, SQLModel
        from sqlmodel.ext.asyncio.session import AsyncSession
        class Ferry(SQLModel, table=True):
            __table_args__ = {'extend_existing': True}
            id: Optional[int] = Field(default=None, primary_key=True)
            name: str
            seats: int
        async def keep(engine, name, seats):
            async with AsyncSession(engine) as session:
                session.add(Ferry(name=name, seats=seats))
                await session.commit()
        """,
        """
        from functools import partial
        from sqlalchemy import text
        async def run(sql, engine, *values):
            own = engine.execution_options(isolation_level='AUTOCOMMIT')
            async with own.connect() as conn:
                await conn.execute(text(sql), dict(zip(('a', 'b'), values)))
        keep = partial(run, 'insert into ferry values (:a, :b)')
        """,
        """
        # As asyncpg says it; and a table that is there already does not mind.
        async def keep(engine, /, *values, **named):
            async with engine.begin() as conn:
                await conn.exec_driver_sql(
                    'create table if not exists ferry (name text, seats int)')
                await conn.exec_driver_sql(
                    'insert into public.ferry (name, seats) values ($1, $2)',
                    (*values, *named.values()))
        """,
    ),
)
async def keep(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    await witness.execute(_HARBOUR)
    ferries = [(name, draw.randint(100, 900)) for name in _names(draw)]
    steps = trial.subject.steps(buy, trial.lab.url, ferries, (draw.word(), 0))
    for count, ferry in enumerate(ferries, start=1):
        done = await steps.outcome()
        _went_well(done, special=count > 1)
        unawaited, borrowed = done.value
        rows = await _rows(witness, "select name, seats from public.ferry")
        if rows != ferries[:count]:
            await _why_not(witness, unawaited, ferry, stored=ferry in rows or len(rows) >= count)
        expect(not borrowed, "WELC-06", _NOT_BACK)
    for heard in await witness.fetch("select sql from public.heard"):
        for value in map(str, ferries[0]):
            pasted = f"Postgres found {value} in the SQL itself: hand it over beside the SQL."
            expect(value not in heard["sql"], "WELC-23", pasted)
    ended, borrowed = await steps.next()
    expect(ended == "raised", "WELC-26")
    expect(not borrowed, "WELC-06", f"Postgres refused a ferry. {_NOT_BACK}")


_NOT_BACK = "You borrowed a connection, and did not give it back."


_HARBOUR = """
create table public.ferry (
    name text, seats int check (seats > 0), id int generated always as identity primary key
);
create table public.heard (sql text);
create function public.listen() returns trigger language plpgsql as
    'begin insert into public.heard values (current_query()); return new; end';
create trigger listening before insert on public.ferry
    for each row execute function public.listen();
create schema authorization current_user;
create table ferry (name text, seats int);
"""
"""The table, what Postgres heard of it, and another that comes first for who has no search path."""


async def _rows(witness: Any, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await witness.fetch(sql)]


def _names(draw: Draw) -> list[str]:
    """A plain name, one with a quote, and one that is full of signs."""
    word = draw.word().title()
    return [word, f"O'{draw.word().title()}", f'{word}\'s "{draw.word()}" :{draw.word()} 100% --']


def _went_well(done: Outcome, *, special: bool) -> None:
    """What the database objects to in a name was pasted; anything else is the learner's error."""
    if done.failure is None:
        return
    if special and done.failure.is_a("StatementError", "DBAPIError", "SyntaxError"):
        text = "" if "syntax" in done.failure.message else "A sign in the name was read as SQL."
        expect(False, "WELC-23", text)
    raise SubjectFailed(done.failure)


async def _why_not(witness: Any, unawaited: Any, ferry: Any, *, stored: bool) -> None:
    for words in unawaited:
        called = words.partition("'")[2].partition("'")[0].rpartition(".")[2]
        sentence = "" if called == "commit" else f"`{called}()` was called, and never awaited."
        expect(False, "WELC-22", sentence)
    expect(not stored, "WELC-24", "A stranger finds other rows than those you were given.")
    aside = await witness.fetch("select to_regclass('ferry') is not null")
    elsewhere = aside[0][0] and ferry in await _rows(witness, "select name, seats from ferry")
    expect(
        not elsewhere, "WELC-05", "The row came over another engine than the one you were given."
    )
    got = await witness.fetch("select from pg_catalog.pg_sequences where last_value is not null")
    expect(not got, "WELC-21")
    expect(False, "WELC-25", "Postgres never got an INSERT for `ferry`.")
