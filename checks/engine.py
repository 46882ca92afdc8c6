"""02 engine: create once, connect late, close."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from engineroom.exercises import Draw, Lesson, Objective, Outcome, Slip, Trial, expect
from engineroom.exercises.model import SubjectFailed

lesson = Lesson(
    "engine",
    "Create once, connect late, close",
    minutes=35,
    objectives=(
        Objective(
            "engine.create",
            "Create one engine for each database, and tell by the server's count when it connects",
            "apply",
            "B1",
            "Async engines",
        ),
        Objective(
            "engine.echo",
            "Turn the echo on and off, and read what it says",
            "understand",
            "A2",
            "Async engines",
        ),
        Objective(
            "engine.close",
            "Close an engine whatever happens, and before its event loop ends",
            "apply",
            "B1",
            "Async engines",
        ),
        Objective(
            "engine.blocking",
            "Tell what stops an event loop, and keep a blocking driver off it",
            "analyze",
            "B1",
            "Async engines",
        ),
        Objective(
            "engine.configure",
            "Configure engines for development, testing and production from the environment",
            "create",
            "B1",
            "Async engines",
        ),
    ),
    stuck="An engine needs a URL and nothing else; *Stuck?*, near the end, adds one argument at a "
    "time and looks at what each one does.",
    further="One function, two environments: pool sizes for development and production, judged by "
    "what Postgres counts.",
    codes={
        "ENG-01": "Requests that could have shared a login each made their own. An engine has a "
        "pool, and the pool belongs to that engine alone: whoever makes a new engine for each "
        "request begins with an empty pool each time. Make it once, and find it again by its URL. "
        "`select sessions from pg_stat_database` counts all logins that ever were.",
        "ENG-02": "A request went to another database than its URL says. Remember engines by the "
        "URL, the whole of it, and not only the first one you made.",
        "ENG-03": "Somebody logged in although nobody had asked anything yet. "
        "`create_async_engine` connects to nothing; leave it so, and the program also starts while "
        "the database is away.",
        "ENG-04": "The answers were not those of the database that was asked. Run your function by "
        "hand: make the engine, connect, read the word.",
        "ENG-05": "`run_and_close` had returned, and connections were open. `dispose()` closes "
        "them, if it is awaited: without `await` it only makes a coroutine that nobody runs. Two "
        "jobs need two engines: what one of them has in use survives the other's `dispose()`.",
        "ENG-06": "The work raised an exception, and connections stayed open: the line that closes "
        "was never reached. What stands in `finally` runs in both cases.",
        "ENG-07": "An exception of the work did not reach the caller. Close, and let it pass on as "
        "it is.",
        "ENG-08": "The work was cancelled, and connections stayed open. `CancelledError` is no "
        "`Exception`: `except Exception` never sees it, `finally` does.",
        "ENG-09": "What the work returned is what the caller should get, and the work is done "
        "once, with an engine for `url`, and has ended when you end. Return what "
        "`await work(engine)` gives.",
        "ENG-10": "The blocking call ran on the thread of the event loop. While it waits, the loop "
        "waits: no other coroutine gets a turn, whether `async def` stands before it or not.",
        "ENG-11": "`run_sync` and `greenlet_spawn` do not move a call to another thread. They let "
        "SQLAlchemy's own code wait inside; a foreign call that blocks, blocks the loop.",
        "ENG-12": "The blocking call was never made, or nobody waited for it. Call what you were "
        "given, in a thread, and await the result.",
        "ENG-13": "The call was in a thread, and the loop stood still all the same, because its "
        "own thread waited for the other one. `result()` and `join()` block; `await` does not.",
        "ENG-14": "The call's own result should come back: await it, and return it. What it raises "
        "comes back the same way, if nobody catches it. Each caller's function is called, once.",
        "ENG-15": "An asyncpg connection belongs to the event loop in which it was opened. "
        "`asyncio.run` makes a new loop each time; a pool that lives longer hands out a "
        "connection of a loop that is gone.",
        "ENG-16": "Pre-ping met the connection of the old loop, and failed itself. The run after "
        "that one got a new connection, because the old one had been thrown away. Every second run "
        "fails so. Close before the loop ends.",
        "ENG-17": "The runs went well, and a connection of a loop that has ended is still open at "
        "the server. Close what you opened before `asyncio.run` returns.",
        "ENG-18": "A run gave another word than the one that stands in `notice`, or did not ask "
        "for it. Each run reads it anew.",
        "ENG-19": "`DEBUG=false` turned the echo on. Every text that is not empty is true in "
        "Python; compare it with the words that mean yes.",
        "ENG-20": "SQLite in memory has a pool of another kind, which takes no `pool_size`. Give "
        "the pool's arguments to the engine for Postgres only.",
        "ENG-21": "In testing, the engine reached the database that `DATABASE_URL` names. On the "
        "wrong machine that is production, and tests delete tables.",
        "ENG-22": "In production, without `DATABASE_URL`, an engine was made all the same. The "
        "program would start, look well, and keep its bookings in a place where nobody looks. "
        "`environ['DATABASE_URL']` raises a `KeyError`, and that is good.",
        "ENG-23": "The echo was on where it should be off, or off where it should be on. Look at "
        "the table once more: `APP_ENV` first, then `DEBUG`.",
        "ENG-24": "The rows did not go where they should. Testing: SQLite in memory. Development: "
        "the file in `DATABASE_URL`. Production: the Postgres in `DATABASE_URL`. What counts is "
        "the mapping `environ`; `os.environ` says something else while you are checked.",
        "ENG-25": "In production, requests that came one after another each logged in, or two at a "
        "time shared a connection. That is an engine without a pool.",
        "ENG-26": "Environment variables are text, and `pool_size` is a number: `int(...)`.",
        "ENG-27": "`MAX_OVERFLOW=0` means none, and 0 is false in Python: with `or` it is lost. "
        "Ask whether the variable is there, not whether its value is true.",
        "ENG-28": "Whatever is not production should be small: two connections. It got what "
        "production gets.",
        "ENG-29": "Without `max_overflow`, a pool opens up to ten connections more than "
        "`pool_size`.",
        "ENG-30": "Another number of connections than the environment asked for: at once, or kept "
        "afterwards. Count in `pg_stat_activity` while you hold them, and when you gave them back. "
        "Each of the two numbers may be set without the other; `environ` is the place to look.",
    },
)


# -- one_engine ----------------------------------------------------------------------------


async def a_morning(
    get_engine: Any, urls: list[str], others: list[str], order: list[int]
) -> AsyncIterator[Any]:
    """Ask for each engine; let requests come in turn, now here, now there; ask for many more."""
    import asyncio

    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncEngine

    from engineroom.exercises.tools import Attempts, let_pass, turns

    async def begin(url: str) -> str:
        made = get_engine(url)
        return "" if isinstance(made, AsyncEngine) else f"{type(made).__name__}"

    async def request(url: str, beside: bool) -> list[str]:
        made = await asyncio.to_thread(get_engine, url) if beside else get_engine(url)
        async with made.connect() as connection:
            row = await connection.execute(text("select current_user, word from notice"))
            return [str(value) for value in row.one()]

    attempts = Attempts()
    odd = [await asyncio.ensure_future(begin(url)) for url in urls]
    await turns()
    yield [attempts.count, "".join(odd[:1])]
    yield [
        await asyncio.ensure_future(request(urls[which], number == 5))  # as a service would
        for number, which in enumerate(order)
    ]
    known = [get_engine(url) for url in urls + others]
    await let_pass(100_000)
    same = [
        get_engine(url).pool is made.pool for url, made in zip(urls + others, known, strict=True)
    ]
    yield [len({id(made.pool) for made in known}), sum(same)]
    for url in urls:
        await get_engine(url).dispose()


@lesson.exercise(
    "get_engine",
    points=2,
    measures=("engine.create",),
    task="Write `get_engine(url)`: the engine for this URL, always the same one, made when it is "
    "first asked for. Requests that come one after another then need one login for each URL.",
    hints=(
        "Who remembers, from one call to the next, which engine belongs to which URL?",
        "A dictionary outside the function, or a decorator that remembers for you.",
        "`@functools.cache` above the function; or `engines.setdefault(...)`, with care",
    ),
    slips=(
        Slip(
            "fresh",
            "ENG-01",
            "Postgres counted a login for almost every request: each call of `get_engine` began "
            "with a new, empty pool.",
            (
                """
                def get_engine(url):
                    return create_async_engine(url)
                """,
                """
                from functools import lru_cache
                @lru_cache(maxsize=1)
                def get_engine(url):
                    return create_async_engine(url, pool_pre_ping=True)
                """,
            ),
        ),
        Slip(
            "first_wins",
            "ENG-02",
            "You gave the first database's engine for the second URL: Postgres saw the wrong user.",
            (
                """
                engine = None
                def get_engine(url):
                    global engine
                    if engine is None:
                        engine = create_async_engine(url)
                    return engine
                """,
                """
                from sqlalchemy import make_url
                engines = {}
                def get_engine(url):
                    name = make_url(url).database
                    if name not in engines:
                        engines[name] = create_async_engine(url)
                    return engines[name]
                """,
            ),
        ),
        Slip(
            "eager",
            "ENG-03",
            "You began to log in when the engine was made: nobody had asked for anything yet.",
            (
                """
                import asyncio
                from functools import cache
                tasks = []
                @cache
                def get_engine(url):
                    engine = create_async_engine(url)
                    async def warm():
                        async with engine.connect():
                            pass
                    tasks.append(asyncio.ensure_future(warm()))
                    return engine
                """,
                """
                from sqlalchemy import create_engine
                engines = {}
                def get_engine(url):
                    if url not in engines:
                        with create_engine(url.replace('+asyncpg', '+psycopg')).connect():
                            engines[url] = create_async_engine(url)  # it is there
                    return engines[url]
                """,
            ),
        ),
    ),
    right=(
        """
        from functools import cache
        @cache
        def get_engine(url):
            return create_async_engine(url)
        """,
        """
        class Engines(dict):
            def __missing__(self, url):
                self[url] = engine = create_async_engine(url, pool_pre_ping=True)
                return engine
        get_engine = Engines().__getitem__
        """,
        """
        from sqlalchemy import make_url
        def keeper():
            kept = {}
            def get_engine(url):
                url = make_url(url).set(drivername='postgresql+psycopg')
                if url not in kept:
                    kept[url] = create_async_engine(url, pool_size=1, max_overflow=4)
                return kept[url]
            return get_engine
        get_engine = keeper()
        """,
        """
        from functools import lru_cache, partial
        from sqlalchemy.pool import StaticPool
        get_engine = lru_cache(partial(create_async_engine, poolclass=StaticPool))
        """,
        """
        from functools import cache
        @cache
        def get_engine(url):
            return create_async_engine(url, connect_args={
                'server_settings': {'application_name': 'desk'}, 'command_timeout': 60})
        """,
    ),
)
async def one_engine(trial: Trial) -> None:
    witness, draw, lab, word = trial.witness, trial.draw, trial.lab, trial.draw.word()
    await notice(witness, word, reader=str(urlsplit(lab.app_url).username))
    urls, before = [lab.url, lab.app_url], await witness.logins()
    others, order = neighbours(urls[0], draw), draw.sample([0, 1] * 5, 10)
    steps = trial.subject.steps(a_morning, urls, others, order)
    begun, odd = await steps.next()
    expect(not odd, "ENG-04", f"`get_engine` gave `{odd}`, and no async engine.")
    expect(not begun and await witness.logins() == before, "ENG-03")
    heard = await steps.next() or []
    wanted = [[urlsplit(urls[which]).username, word] for which in order]
    opened = await witness.logins() - before
    expect(heard == wanted or len({user for user, _ in heard}) > 1, "ENG-02")
    expect(heard == wanted, "ENG-04", "The requests were not answered by the database they asked.")
    ways = "one came from a thread, the others from tasks of their own"
    seen = f"Postgres counted {opened} logins for 10 requests on 2 URLs; {ways}."
    expect(opened <= 2, "ENG-01", seen)
    users = Counter(backend.user for backend in await witness.backends())
    expect(opened == 2 and len(users) == 2, "ENG-04", "Postgres did not see both of your engines.")
    many, (pools, same) = len(urls + others), await steps.next()
    seen = f"{many} URLs that differ in one word each got {pools} engines: some were given twice."
    expect(pools == many, "ENG-02", seen)
    seen = f"Asked once more for {many} URLs, you gave {many - same} of them another engine."
    expect(same == many, "ENG-01", seen)


def neighbours(url: str, draw: Draw) -> list[str]:
    """URLs that differ from this one in a single thing each; nobody will connect to them."""
    at = urlsplit(url)
    login, place = at.netloc.rpartition("@")[::2]
    user, password = login.partition(":")[::2]
    elsewhere = [f"{login}@{draw.word()}.invalid:{at.port}", f"{login}@{at.hostname}:1"]
    others = [f"{draw.word()}:{password}@{place}", f"{user}:{draw.word()}@{place}", *elsewhere]
    names = [draw.word() for _ in range(4)]
    return [
        *(at._replace(netloc=other).geturl() for other in others),
        *(at._replace(path=f"/{name}").geturl() for name in (*names, names[0].upper())),
        at._replace(query=f"application_name={draw.word()}").geturl(),
    ]


async def notice(witness: Any, word: str, reader: str = "") -> None:
    """The notice board at the desk: a table with one word that nobody can know beforehand."""
    await witness.execute("create table if not exists notice (word text)")
    await witness.execute("delete from notice")
    await witness.execute("insert into notice values ($1)", word)
    if reader:
        await witness.execute(f"grant usage on schema public to {reader}")
        await witness.execute(f"grant select on notice to {reader}")


# -- run_and_close -------------------------------------------------------------------------


async def four_ends(run_and_close: Any, url: str, trouble: str) -> AsyncIterator[Any]:
    """Work beside other work, work that ends well, that raises, and that is cancelled."""
    import asyncio
    import builtins

    from sqlalchemy import text

    from engineroom.exercises.tools import Crowd, Opened, let_pass

    class Told(str):
        """What work returns: it may count as false, and is a result all the same."""

        def __bool__(self) -> bool:
            return False

    opened, calls, waiting = Opened(), [], asyncio.Event()
    word = text("select word || ' for ' || current_user from notice")

    async def read(engine: Any) -> Told:
        calls.append("going on")
        await let_pass(600)  # work may take its time
        await Crowd(engine, 2, "select 1").served()
        async with engine.connect() as connection:
            told = Told(await connection.scalar(word))
        calls[-1] = "done"
        return told

    async def glance(engine: Any) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))

    async def beside(engine: Any) -> Told:
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))
            await run_and_close(url, glance)
        return await read(engine)

    async def fail(engine: Any) -> None:
        raise getattr(builtins, trouble)(await read(engine))

    async def wait(engine: Any) -> None:
        await read(engine)
        calls[-1] = "going on"
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            calls[-1] = "done"

    async def run(work: Any) -> list[Any]:
        try:
            value = await run_and_close(url, work)
            ended = ["a result", str(value) if type(value) is Told else f"a {type(value).__name__}"]
        except asyncio.CancelledError:
            ended = ["CancelledError", ""]
        except Exception as error:
            if work is not fail:
                raise
            ended = [type(error).__name__, str(error)]
        return [*ended, calls, opened.left]  # as it is when the caller goes on

    for work in (read, beside, fail, wait):
        calls.clear()
        running = asyncio.ensure_future(run(work))
        if work is wait:
            ready = asyncio.ensure_future(waiting.wait())
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
        yield await running


@lesson.exercise(
    "run_and_close",
    kind="coroutine function",
    points=2,
    measures=("engine.close",),
    task="Write `run_and_close(url, work)`: make an engine for `url` and `await work(engine)`. "
    "Give the caller what the work returns, or let its exception pass. Whatever comes of it, "
    "no connection is open afterwards.",
    hints=(
        "Which lines run when `await work(engine)` returns, and which when it raises?",
        "There is a block that is run in every case, also when the task is cancelled.",
        "`try: return await work(engine)`, and in the `finally`: `await engine.dispose()`",
    ),
    slips=(
        Slip(
            "left_open",
            "ENG-05",
            "`run_and_close` had returned, and its connections were still open: `dispose()` was "
            "not called, not awaited, or told `close=False`.",
            (
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    return await work(engine)
                """,
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    try:
                        return await work(engine)
                    finally:
                        engine.dispose()
                """,
            ),
        ),
        Slip(
            "happy_only",
            "ENG-06",
            "The work raised, and its connections stayed open: the line that closes was never "
            "reached.",
            (
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    result = await work(engine)
                    await engine.dispose()
                    return result
                """,
                """
                from contextlib import asynccontextmanager
                @asynccontextmanager
                async def opened(url):
                    engine = create_async_engine(url.replace('+asyncpg', '+psycopg'))
                    yield engine
                    await engine.dispose()
                async def run_and_close(url, work):
                    async with opened(url) as engine:
                        return await work(engine)
                """,
            ),
        ),
        Slip(
            "swallowed",
            "ENG-07",
            "The caller never heard of the exception that the work raised.",
            (
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    try:
                        return await work(engine)
                    except Exception as error:
                        print('failed:', error)
                    finally:
                        await engine.dispose()
                """,
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    result = None
                    try:
                        result = await work(engine)
                    finally:
                        await engine.dispose()
                        return result
                """,
            ),
        ),
        Slip(
            "exceptions_only",
            "ENG-08",
            "The work was cancelled, and its connections stayed open: `CancelledError` is no "
            "`Exception`.",
            (
                """
                async def run_and_close(url, work):
                    engine = create_async_engine(url)
                    try:
                        result = await work(engine)
                    except Exception:
                        await engine.dispose()
                        raise
                    await engine.dispose()
                    return result
                """,
                """
                async def run_and_close(url, work):
                    engine, trouble, result = create_async_engine(url), None, None
                    try:
                        result = await work(engine)
                    except Exception as error:
                        trouble = error
                    await engine.dispose()
                    if trouble is not None:
                        raise trouble
                    return result
                """,
            ),
        ),
    ),
    right=(
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            finally:
                await engine.dispose()
        """,
        """
        from contextlib import AsyncExitStack
        async def run_and_close(url, work):
            async with AsyncExitStack() as stack:
                engine = create_async_engine(url, pool_size=1, max_overflow=0)
                stack.push_async_callback(engine.dispose)
                return await work(engine)
        """,
        """
        from sqlalchemy.pool import NullPool
        run_and_close = lambda url, work: work(create_async_engine(url, poolclass=NullPool))
        """,
        """
        class Closing:
            def __init__(self, url):
                self.engine = create_async_engine(
                    url.replace('+asyncpg', '+psycopg'), pool_pre_ping=True)
            async def __aenter__(self):
                return self.engine
            async def __aexit__(self, *_):
                await self.engine.dispose()
        class Runner:
            async def __call__(self, url, work):
                async with Closing(url) as engine:
                    return await work(engine)
        run_and_close = Runner()
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                result = await work(engine)
            except BaseException:
                await asyncio.shield(engine.dispose())
                raise
            else:
                await engine.dispose()
            return result
        """,
        """
        from contextlib import AsyncExitStack
        async def run_and_close(url, work):
            async with AsyncExitStack() as stack:
                engine = create_async_engine(
                    url, connect_args={'server_settings': {'application_name': 'script'}})
                stack.push_async_callback(engine.dispose)
                return await work(engine)
        """,
    ),
)
async def run_and_close(trial: Trial) -> None:
    witness, draw, word = trial.witness, trial.draw, trial.draw.word()
    user = str(urlsplit(trial.lab.app_url).username)
    await notice(witness, word, reader=user)
    url = trial.lab.app_url
    trouble = draw.choice(["ArithmeticError", "LookupError", "OSError", "RuntimeError"])
    steps, told = trial.subject.steps(four_ends, url, trouble), f"{word} for {user}"
    two = "Two jobs ran at a time, and a connection of one was left: did they share an engine?"
    for ending, code, seen in (
        ("a result", "ENG-05", ""),
        ("a result", "ENG-05", two),
        (trouble, "ENG-06", ""),
        ("CancelledError", "ENG-08", ""),
    ):
        before = await witness.logins()
        ended, value, calls, left = await steps.next()
        expect(len(calls) == 1, "ENG-09", f"`work` was called {len(calls)} times, not once.")
        _passed_on([ending, "" if ending == "CancelledError" else told], [ended, value])
        expect(calls == ["done"], "ENG-09", "You had ended, and the work was still going on.")
        expect(not left and not await witness.emptied(), code, seen)
        expect(await witness.logins() > before, "ENG-09", "Postgres saw nothing of your engine.")


def _passed_on(came: list[str], got: list[str]) -> None:
    """How the work ended, and what it said, is what the caller is to get."""
    (ending, told), (ended, value) = came, got
    expect(ended != "a result" or ending in (ended, "CancelledError"), "ENG-07")
    what = f"The work ended with {ending}; what reached the caller was {ended}: {value}."
    if ending == ended == "a result":
        what = f"The caller was to get {told!r}, a value that counts as false, and got {value!r}."
    expect(came == got, "ENG-09", what)


# -- unblocked -----------------------------------------------------------------------------


async def two_at_the_desk(
    ask_legacy: Any, url: str, sync_url: str, numbers: list[int], trouble: list[str]
) -> AsyncIterator[Any]:
    """The blocking driver asks; does the loop's own request get through meanwhile?

    Then the office gives other numbers, and at last it is closed.
    """
    import asyncio
    import builtins
    import inspect
    import os
    import threading

    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool
    from sqlalchemy.util.concurrency import in_greenlet

    from engineroom.exercises.tools import let_pass

    loop, here = asyncio.get_running_loop(), (os.getpid(), threading.get_ident())
    calls, called, sent, gate = [], asyncio.Event(), asyncio.Event(), text("select n from gate")
    follows, lives = threading.Event(), threading.Event()

    def legacy() -> int:
        calls.append("beside")
        if (os.getpid(), threading.get_ident()) == here:
            calls[-1] = "greenlet" if in_greenlet() else "loop"
            return -1
        number = -1
        loop.call_soon_threadsafe(called.set)
        if follows.wait(2.5):  # a loop that lives needs a thousandth of it, before and after
            with create_engine(sync_url, poolclass=NullPool).connect() as connection:
                number = int(connection.scalar(gate) or 0)
            loop.call_soon_threadsafe(lives.set)
        calls[-1] = "beside" if follows.is_set() and lives.wait(2.5) else "stopped"
        return number

    async def follow(connection: Any) -> None:
        await called.wait()
        await let_pass(600)  # it takes its time
        follows.set()
        sent.set()
        await connection.execute(gate)  # is on its way before this coroutine waits again

    def later() -> int:
        return numbers.pop()

    def broken() -> int:
        calls.append("broken")
        kind, words = trouble
        raise getattr(builtins, kind)(words)

    async def ask(legacy: Any) -> Any:
        answer = ask_legacy(legacy)
        value = await answer if inspect.isawaitable(answer) else answer
        return value if type(value) is int else f"a {type(value).__name__}"

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
        other = asyncio.ensure_future(follow(connection))
        asking, under_way = asyncio.ensure_future(ask(legacy)), asyncio.ensure_future(sent.wait())
        await asyncio.wait({asking, under_way}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and not calls:
            asking.result()
        yield calls
        yield [await asking, calls]
        await other
    await engine.dispose()
    yield [await ask(later) for _ in numbers[:]]
    calls.clear()
    asking = asyncio.ensure_future(ask(broken))
    if not (await asyncio.wait({asking}, timeout=2))[0]:
        yield ["nothing, in two seconds", 1]
    error = asking.exception()
    said = f"{type(error).__name__}: {error}" if error else f"a result: {asking.result()}"
    yield [said, len(calls)]


@lesson.exercise(
    "ask_legacy",
    kind="coroutine function",
    points=3,
    measures=("engine.blocking",),
    task="Write `ask_legacy(legacy)`: `legacy` is an ordinary function that asks a database "
    "through a blocking driver, takes its time, and returns a number or raises. Return that "
    "number, or let the exception pass; and let the event loop serve other requests meanwhile.",
    hints=(
        "Which thread waits while `legacy()` waits, and who else needs that thread?",
        "asyncio can let another thread call a function, and you can await what comes of it.",
        "`await asyncio.to_thread(...)`",
    ),
    slips=(
        Slip(
            "direct",
            "ENG-10",
            "`legacy` ran on the event loop's own thread: while it waited, no other request could "
            "reach Postgres.",
            (
                """
                async def ask_legacy(legacy):
                    return legacy()
                """,
                """
                import asyncio
                async def ask_legacy(legacy):
                    async def later():
                        await asyncio.sleep(0)
                        return legacy()
                    return await asyncio.create_task(later())
                """,
            ),
        ),
        Slip(
            "run_sync",
            "ENG-11",
            "`run_sync` runs a function in a greenlet, on the event loop's own thread: while "
            "`legacy` waited, the loop waited with it.",
            (
                """
                async def ask_legacy(legacy):
                    engine = create_async_engine('sqlite+aiosqlite://')
                    async with engine.connect() as connection:
                        return await connection.run_sync(lambda _: legacy())
                """,
                """
                from sqlalchemy.util import greenlet_spawn
                async def ask_legacy(legacy):
                    return await greenlet_spawn(legacy)
                """,
            ),
        ),
        Slip(
            "not_called",
            "ENG-12",
            "`legacy` was never called, or you did not wait for it: nothing of it had reached "
            "Postgres.",
            (
                """
                import asyncio
                async def ask_legacy(legacy):
                    return asyncio.to_thread(legacy)
                """,
                """
                import asyncio
                async def ask_legacy(legacy):
                    def call():
                        return legacy
                    return await asyncio.to_thread(call)
                """,
            ),
        ),
        Slip(
            "joined",
            "ENG-13",
            "`legacy` ran in a thread of its own, and the event loop stood still until that "
            "thread was done: `result()` and `join()` block, `await` does not.",
            (
                """
                from concurrent.futures import ThreadPoolExecutor
                async def ask_legacy(legacy):
                    return ThreadPoolExecutor().submit(legacy).result()
                """,
                """
                import threading
                async def ask_legacy(legacy):
                    found = []
                    thread = threading.Thread(target=lambda: found.append(legacy()))
                    thread.start()
                    thread.join()
                    return found[0]
                """,
            ),
        ),
    ),
    right=(
        """
        import asyncio
        async def ask_legacy(legacy):
            return await asyncio.to_thread(legacy)
        """,
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from functools import partial
        async def ask(pool, legacy):
            return await asyncio.get_running_loop().run_in_executor(pool, legacy)
        ask_legacy = partial(ask, ThreadPoolExecutor(max_workers=1))
        """,
        """
        from anyio import to_thread
        class Asker:
            async def __call__(self, legacy):
                return await to_thread.run_sync(legacy)
        ask_legacy = Asker()
        """,
        """
        import asyncio
        import threading
        async def ask_legacy(legacy):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            def work():
                try:
                    loop.call_soon_threadsafe(answer.set_result, legacy())
                except Exception as error:
                    loop.call_soon_threadsafe(answer.set_exception, error)
            threading.Thread(target=work, daemon=True).start()
            return await answer
        """,
    ),
)
async def unblocked(trial: Trial) -> None:
    witness, number = trial.witness, trial.draw.randint(10_000, 99_999)
    await witness.execute("create table gate (n int)")
    await witness.execute("insert into gate values ($1)", number)
    url = trial.draw.choice([trial.lab.url, trial.lab.psycopg_url])
    trouble = trial.draw.choice(["ArithmeticError", "LookupError", "OSError", "RuntimeError"])
    words, later = f"closed, said {trial.draw.word()}", [0, number + 1]
    given = (url, trial.lab.sync_url, later[::-1], [trouble, words])
    steps = trial.subject.steps(two_at_the_desk, *given)
    async with witness.gate() as gate:
        where = [*(await steps.next() or ["never"]), ""][0]
        slips = {"loop": "ENG-10", "greenlet": "ENG-11", "never": "ENG-12", "stopped": "ENG-13"}
        expect(where == "beside", slips.get(where, "ENG-12"))
        await gate.reached(2)  # the two of them, at one time
        await gate.open()
    value, calls = await steps.next()
    expect("stopped" not in calls, "ENG-13")
    expect(len(calls) == 1, "ENG-14", f"You called `legacy` {len(calls)} times, not once.")
    expect(value == number, "ENG-14", f"Postgres gave `legacy` {number}; you returned {value}.")
    told = await steps.next()
    gave = " and ".join(map(str, later))
    seen = f"Asked twice more, `legacy` returned {gave}; you returned {str(told)[:60]}."
    expect(told == later, "ENG-14", seen)
    heard, calls = await steps.next()
    expect(calls == 1, "ENG-14", f"`legacy` raised, and was called {calls} times, not once.")
    seen = f"`legacy` raised {trouble}: {words}; what reached the caller was {heard[:90]}."
    expect(heard == f"{trouble}: {words}", "ENG-14", seen)


# -- three_runs ----------------------------------------------------------------------------


async def four_nights(make_job: Any, url: str) -> AsyncIterator[Any]:
    """One job, run by four event loops, one after another, in a thread beside this one."""
    import asyncio

    from engineroom.exercises.tools import Opened

    opened, job = Opened(), make_job(url)

    def night(number: int) -> list[Any]:
        async def work() -> Any:
            return await job()

        try:
            value = asyncio.run(work())
            said = ["read", value if type(value) is str else f"a {type(value).__name__}"]
        except Exception as error:
            if number == 0:
                raise
            said = ["raised", f"{type(error).__name__}: {error}"]
        return [*said, opened.left]

    for number in range(4):
        yield await asyncio.to_thread(night, number)


@lesson.exercise(
    "make_job",
    points=4,
    measures=("engine.close",),
    task="Write `make_job(url)`: it returns a coroutine function `job()` that reads the one word "
    "in the table `notice`. The same job is run three times, by an `asyncio.run` each. Each run "
    "reads the word of its day, and leaves no connection behind; nor does a run that fails, "
    "because the table is gone.",
    hints=(
        "What is left when `asyncio.run` returns, and to which loop does it belong?",
        "Close before the loop ends; or keep nothing; or make the engine where it is used.",
        "Inside `job`: `try:` ... `finally: await engine.dispose()`; or `poolclass=NullPool`",
    ),
    slips=(
        Slip(
            "kept_pool",
            "ENG-15",
            "The second run met a connection of the first run's event loop, which is gone: "
            "\u201cattached to a different loop\u201d.",
            (
                """
                from sqlalchemy import text
                def make_job(url):
                    engine = create_async_engine(url)
                    async def job():
                        async with engine.connect() as connection:
                            return await connection.scalar(text('select word from notice'))
                    return job
                """,
                """
                from functools import cache, partial
                from sqlalchemy import text
                from sqlmodel.ext.asyncio.session import AsyncSession
                get_engine = cache(create_async_engine)
                async def read(url):
                    async with AsyncSession(get_engine(url)) as session:
                        return (await session.exec(text('select word from notice'))).scalar()
                def make_job(url):
                    return partial(read, url)
                """,
            ),
        ),
        Slip(
            "pre_ping",
            "ENG-16",
            "The second run failed and the third went well: `pool_pre_ping` met the connection of "
            "the loop that was gone, failed on it, and only then was it thrown away.",
            (
                """
                from sqlalchemy import text
                def make_job(url):
                    engine = create_async_engine(url, pool_pre_ping=True)
                    async def job():
                        async with engine.connect() as connection:
                            return await connection.scalar(text('select word from notice'))
                    return job
                """,
                """
                from sqlalchemy import text
                class Job:
                    def __init__(self, url):
                        self.engine = create_async_engine(
                            url, pool_size=1, max_overflow=0, pool_pre_ping=True)
                    async def __call__(self):
                        async with self.engine.begin() as connection:
                            return (await connection.execute(text('table notice'))).scalar_one()
                make_job = Job
                """,
            ),
        ),
        Slip(
            "per_loop",
            "ENG-17",
            "All three runs went well, and left a connection open whose event loop is gone.",
            (
                """
                import asyncio
                from sqlalchemy import text
                def make_job(url):
                    engines = {}
                    async def job():
                        loop = asyncio.get_running_loop()
                        if loop not in engines:
                            engines[loop] = create_async_engine(url)
                        async with engines[loop].connect() as connection:
                            return await connection.scalar(text('select word from notice'))
                    return job
                """,
                """
                from sqlalchemy import text
                def make_job(url):
                    engine = create_async_engine(url)
                    async def job():
                        await engine.dispose(close=False)
                        async with engine.connect() as connection:
                            return await connection.scalar(text('select word from notice'))
                    return job
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import text
        def make_job(url):
            engine = create_async_engine(url)
            async def job():
                try:
                    async with engine.connect() as connection:
                        return await connection.scalar(text('select word from notice'))
                finally:
                    await engine.dispose()
            return job
        """,
        """
        from sqlalchemy import text
        from sqlalchemy.pool import NullPool
        def make_job(url):
            engine = create_async_engine(url, poolclass=NullPool, pool_pre_ping=True)
            async def job():
                async with engine.connect() as connection:
                    return await connection.scalar(text('select word from notice'))
            return job
        """,
        """
        from contextlib import asynccontextmanager
        from sqlalchemy import text
        from sqlmodel.ext.asyncio.session import AsyncSession
        class Job:
            def __init__(self, url):
                self.url = url.replace('+asyncpg', '+psycopg')
            @asynccontextmanager
            async def engine(self):
                engine = create_async_engine(self.url, pool_size=2)
                try:
                    yield engine
                finally:
                    await engine.dispose()
            async def __call__(self):
                async with self.engine() as engine, AsyncSession(engine) as session:
                    word = (await session.exec(text('select word from notice'))).scalar_one()
                return word
        make_job = Job
        """,
        """
        import asyncio
        from sqlalchemy import create_engine, text
        def make_job(url):
            def read():
                engine = create_engine(url.replace('+asyncpg', '+psycopg'))
                try:
                    with engine.connect() as connection:
                        return connection.scalar(text('select word from notice'))
                finally:
                    engine.dispose()
            return lambda: asyncio.to_thread(read)
        """,
        """
        import asyncpg
        from functools import partial
        async def read(dsn):
            connection = await asyncpg.connect(dsn)
            try:
                return await connection.fetchval('select word from notice')
            finally:
                await connection.close()
        make_job = lambda url: partial(read, url.replace('+asyncpg', ''))
        """,
    ),
)
async def three_runs(trial: Trial) -> None:
    witness, words, nights = trial.witness, [trial.draw.word() for _ in range(3)], []
    url, before = trial.lab.app_url, await witness.logins()
    steps = trial.subject.steps(four_nights, url)
    for word in words:
        await notice(witness, word, reader=str(urlsplit(url).username))
        await witness.execute("revoke select on notice from current_user")  # `url` is another's
        what, told, left = await steps.next()
        nights.append((what, told, left or (what == "read" and await witness.emptied())))
    said = [what for what, _, _ in nights]
    expect(said != ["read", "raised", "read"], "ENG-16")
    other = next((told for what, told, _ in nights if what == "raised"), "")
    other = "" if "different loop" in other else f"A later run raised {other[:200]}"
    expect(said == ["read"] * 3, "ENG-15", other)
    expect(not any(left for _, _, left in nights), "ENG-17")
    for word, (_, told, _) in zip(words, nights, strict=True):
        expect(told == word, "ENG-18", f"The board said {word!r}, and the run gave {told[:60]!r}.")
    expect(await witness.logins() >= before + 3, "ENG-18", "Postgres was not asked in each run.")
    await witness.execute("drop table notice")
    what, told, left = await steps.next()
    seen = f"The table was gone, and the run did not say so: it gave {told[:60]!r}."
    expect(what == "raised", "ENG-18", seen)
    seen = "The table was gone, the run failed as it should, and left a connection open."
    expect(not left and not await witness.emptied(), "ENG-17", seen)


# -- environments --------------------------------------------------------------------------


async def a_day_in(engine_for: Any, environ: dict[str, str], table: str) -> AsyncIterator[Any]:
    """Some requests to the engine of an environment: where did the row go, what was echoed?"""
    import asyncio
    import contextlib
    import logging
    import os
    import tempfile

    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncEngine

    from engineroom.exercises.tools import Attempts, turns

    said: list[str] = []
    found = None
    ear = logging.Handler()
    ear.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sqlalchemy").addHandler(ear)
    attempts = Attempts()

    async def ask(sql: str) -> Any:
        async with engine.begin() as connection:
            answer = await connection.execute(text(sql.format(table)))
            return answer.scalar() if answer.returns_rows else None

    with tempfile.TemporaryDirectory() as folder:
        files = {kind: f"sqlite+aiosqlite:///{folder}/{kind}.db" for kind in ("given", "stray")}
        if environ["APP_ENV"] == "development":
            environ["DATABASE_URL"] = files["given"]
        os.environ.pop("DEBUG", None)
        os.environ.update(APP_ENV="development", DATABASE_URL=files["stray"])  # nobody's business
        engine = engine_for(environ)
        if not isinstance(engine, AsyncEngine):
            yield ["", False, type(engine).__name__]
        await ask("create table {} as select 1 as n")
        place = engine.dialect.name
        if place == "sqlite":
            file = await ask("select file from pragma_database_list where name = 'main'")
            known = {os.path.realpath(f"{folder}/{kind}.db"): kind for kind in files} | {
                "": "memory"
            }
            place = known.get(file and os.path.realpath(file), "another")
        with contextlib.suppress(DBAPIError):
            found = await ask("select count(*) from {}")
        yield [place if found == 1 else "nowhere", any(table in line for line in said), ""]
        async with engine.connect() as connection:  # while this one is lent, who gets another?
            await connection.execute(text("select 1"))
            other = asyncio.ensure_future(ask("select 1"))
            await turns()
            if attempts.count == 1:
                await asyncio.wait({other}, timeout=0.2)
            yield attempts.count > 1 or not other.done()
        await other
        await engine.dispose()


async def glances(engine_for: Any, days: list[dict[str, str]]) -> AsyncIterator[Any]:
    """One request to the engine of each of these environments: is it echoed?"""
    import logging

    from sqlalchemy import text

    said: list[str] = []
    ear = logging.Handler()
    ear.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sqlalchemy").addHandler(ear)
    heard, kept = [], True
    for environ in days:
        said.clear()
        engine = engine_for(given := dict(environ))
        async with engine.connect() as connection:
            await connection.execute(text("select 'Tern'"))
        await engine.dispose()
        heard.append(any("'Tern'" in line for line in said))
        kept &= environ.items() <= given.items()
    yield heard
    yield kept


async def without_url(engine_for: Any) -> AsyncIterator[Any]:
    """What happens in production and in testing when nobody said where the database is."""
    import os

    os.environ.pop("DATABASE_URL", None)
    for name in ("production", "testing"):
        os.environ["APP_ENV"] = name
        try:
            made = engine_for({"APP_ENV": name})
        except BaseException:
            yield "refused"
        else:
            yield made.dialect.name


@lesson.exercise(
    "engine_for",
    points=3,
    measures=("engine.configure", "engine.echo"),
    task="Let an assistant write `engine_for(environ)`: the engine for what the variables "
    "`APP_ENV`, `DATABASE_URL` and `DEBUG` say, as in the table.",
    hints=(
        "Three environments, three calls of `create_async_engine`: which arguments are whose?",
        "Look at `APP_ENV` first. When is `DATABASE_URL` needed, and when must it be ignored?",
        '`environ["DATABASE_URL"]`; `"sqlite+aiosqlite://"`; `.lower() in {"1", "true", ...}`',
    ),
    slips=(
        Slip(
            "truthy",
            "ENG-19",
            "`DEBUG` said no, and the echo was on: every text that is not empty is true.",
            (
                """
                def engine_for(environ):
                    if environ['APP_ENV'] == 'testing':
                        return create_async_engine('sqlite+aiosqlite://')
                    if environ['APP_ENV'] == 'development':
                        return create_async_engine(environ['DATABASE_URL'], echo=True)
                    return create_async_engine(
                        environ['DATABASE_URL'], echo=bool(environ.get('DEBUG')))
                """,
                """
                def engine_for(environ):
                    match environ['APP_ENV']:
                        case 'testing':
                            return create_async_engine('sqlite+aiosqlite:///:memory:')
                        case 'development':
                            return create_async_engine(environ['DATABASE_URL'], echo=True)
                        case _:
                            debug = True if environ.get('DEBUG', '') else False
                            return create_async_engine(environ['DATABASE_URL'], echo=debug)
                """,
            ),
        ),
        Slip(
            "pool_for_all",
            "ENG-20",
            "In testing, no engine could be made: SQLite in memory has a pool that takes no "
            "`pool_size`.",
            (
                """
                def engine_for(environ):
                    name = environ['APP_ENV']
                    url = environ['DATABASE_URL'] if name != 'testing' else 'sqlite+aiosqlite://'
                    return create_async_engine(
                        url, echo=name == 'development', pool_size=5, max_overflow=10)
                """,
                """
                COMMON = dict(pool_pre_ping=True, pool_size=5)
                def engine_for(environ):
                    if environ['APP_ENV'] == 'testing':
                        return create_async_engine('sqlite+aiosqlite:///:memory:', **COMMON)
                    echo = environ['APP_ENV'] == 'development' or (
                        environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on'))
                    return create_async_engine(environ['DATABASE_URL'], echo=echo, **COMMON)
                """,
            ),
        ),
        Slip(
            "touches",
            "ENG-21",
            "In testing, Postgres saw you log in: tests must not reach the database that "
            "`DATABASE_URL` names.",
            (
                """
                def engine_for(environ):
                    url = environ.get('DATABASE_URL', 'sqlite+aiosqlite://')
                    debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
                    return create_async_engine(
                        url, echo=environ['APP_ENV'] == 'development' or debug)
                """,
                """
                def engine_for(environ):
                    if environ.get('DATABASE_URL', '').startswith('postgresql'):
                        return create_async_engine(environ['DATABASE_URL'], pool_size=5)
                    return create_async_engine('sqlite+aiosqlite://', echo=True)
                """,
            ),
        ),
        Slip(
            "fallback",
            "ENG-22",
            "In production nobody said where the database is, and you made an engine all the "
            "same: the bookings would go where nobody looks.",
            (
                """
                def engine_for(environ):
                    if environ['APP_ENV'] == 'testing':
                        return create_async_engine('sqlite+aiosqlite://')
                    url = environ.get('DATABASE_URL', 'sqlite+aiosqlite:///./dev.db')
                    debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
                    return create_async_engine(
                        url, echo=environ['APP_ENV'] == 'development' or debug)
                """,
                """
                def engine_for(environ):
                    url, echo = environ.get('DATABASE_URL') or 'sqlite+aiosqlite:///app.db', False
                    if environ['APP_ENV'] == 'testing':
                        url = 'sqlite+aiosqlite://'
                    elif environ['APP_ENV'] == 'development':
                        echo = True
                    else:
                        echo = environ.get('DEBUG', 'off').lower() in ('1', 'true', 'yes', 'on')
                    return create_async_engine(url, echo=echo)
                """,
            ),
        ),
    ),
    right=(
        """
        YES = {'1', 'true', 'yes', 'on'}
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            if environ['APP_ENV'] == 'development':
                return create_async_engine(environ['DATABASE_URL'], echo=True)
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=5, max_overflow=10, pool_pre_ping=True,
                echo=environ.get('DEBUG', '').lower() in YES,
                connect_args={'server_settings': {'application_name': 'desk'}})
        """,
        """
        from typing import Literal
        from pydantic import model_validator
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings):
            app_env: Literal['development', 'testing', 'production']
            database_url: str = ''
            debug: bool = False
            @model_validator(mode='after')
            def complete(self):
                if self.app_env != 'testing' and not self.database_url:
                    raise ValueError('DATABASE_URL is missing')
                return self
        def engine_for(environ):
            settings = Settings(**{name.lower(): text for name, text in environ.items()})
            if settings.app_env == 'testing':
                return create_async_engine('sqlite+aiosqlite:///:memory:')
            echo = settings.debug or settings.app_env == 'development'
            return create_async_engine(settings.database_url, echo=echo)
        """,
        """
        from sqlalchemy import make_url
        from sqlalchemy.pool import StaticPool
        class Factory:
            def __call__(self, environ):
                return getattr(self, environ['APP_ENV'])(**environ)
            def testing(self, **_):
                return create_async_engine('sqlite+aiosqlite://', poolclass=StaticPool)
            def development(self, DATABASE_URL, **_):
                return create_async_engine(DATABASE_URL, echo='debug')
            def production(self, DATABASE_URL, DEBUG='no', **_):
                url = make_url(DATABASE_URL).set(drivername='postgresql+psycopg')
                echo = DEBUG.casefold() in ('1', 'true', 'yes', 'on')
                return create_async_engine(
                    url, pool_size=2, pool_recycle=240, echo=echo, hide_parameters=True)
        engine_for = Factory()
        """,
        """
        import uuid
        engine_for = lambda environ: create_async_engine(
            f'sqlite+aiosqlite:///file:{uuid.uuid4().hex}?mode=memory&cache=shared&uri=true'
            if environ['APP_ENV'] == 'testing' else environ['DATABASE_URL'],
            echo={'testing': False, 'development': True}.get(
                environ['APP_ENV'], environ.get('DEBUG', 'no').lower()[:1] in '1ty'
                or environ.get('DEBUG', 'no').lower() == 'on'))
        """,
    ),
)
async def environments(trial: Trial) -> None:
    witness, draw, lab = trial.witness, trial.draw, trial.lab
    for name, debug, place, echo in (
        ("testing", draw.choice(YES), "memory", False),
        ("development", draw.choice(NO), "given", True),
        ("production", "", "postgresql", False),
    ):
        table, before = f"memo_{draw.word()}", await witness.logins()
        given = _given(draw, name, lab.url, debug)
        steps = trial.subject.steps(a_day_in, given, table)
        day = await steps.outcome()
        opened = await witness.logins() - before
        expect(not opened or name == "production", "ENG-21")
        went, heard, odd = _told(day, "pool_size", "ENG-20")
        expect(not odd, "ENG-24", f"{_spelt(given)}: you gave `{odd}`, and no async engine.")
        stored = await witness.fetch("select 1 from pg_tables where tablename = $1", table)
        where = f"{_spelt(given)}: your row went to {PLACES[went]}, not to {PLACES[place]}."
        expect(went == place and bool(stored) == (name == "production"), "ENG-24", where)
        expect(heard == echo, "ENG-23", f"{_spelt(given)}: the echo was {'off' if echo else 'on'}.")
        expect(opened <= 1, "ENG-25", f"Two requests in turn made {opened} logins: no pool.")
    expect(await steps.next(), "ENG-25", "Two requests at a time shared one connection: no pool.")
    await _words_of_debug(trial, lab.url)
    steps = trial.subject.steps(without_url)
    expect(await steps.next() == "refused", "ENG-22")
    expect(await steps.next() == "sqlite", "ENG-24", _TESTS_NEED_NONE)


_TESTS_NEED_NONE = (
    "APP_ENV=testing, and nobody had set `DATABASE_URL`: tests do not need it, and got no SQLite."
)
_TAKEN = (
    "The variables you were given are others now: they belong to the whole program, which reads "
    "them again."
)
NO, YES = ("0", "false", "no", "off"), ("1", "true", "yes", "on")
PLACES = {
    "memory": "SQLite in memory",
    "given": "the file in `DATABASE_URL`",
    "stray": "the database of `os.environ`",
    "postgresql": "Postgres",
    "another": "another SQLite file",
    "nowhere": "a place where the next request did not find it",
}


async def _words_of_debug(trial: Trial, url: str) -> None:
    """In production the echo is on with the words that mean yes, and with no other."""
    words, before = [*NO, *YES], await trial.witness.logins()
    trial.draw.shuffle(words)
    days = [_given(trial.draw, "production", url, word) for word in words]
    steps = trial.subject.steps(glances, days)
    heard = await steps.next()
    for word, given, on in zip(words, days, heard, strict=True):
        expect(not on or word in YES, "ENG-19")
        expect(on == (word in YES), "ENG-23", f"{_spelt(given)}: the echo was off.")
    expect(await trial.witness.logins() - before >= len(days), "ENG-24", "Postgres was not asked.")
    expect(await steps.next(), "ENG-24", _TAKEN)


def _given(draw: Draw, name: str, url: str, debug: str) -> dict[str, str]:
    """The variables of a day, ``DEBUG`` in whatever case."""
    spelt = {"DEBUG": draw.choice([debug, debug.upper(), debug.title()])} if debug else {}
    return {"APP_ENV": name, "DATABASE_URL": url} | spelt


def _told(outcome: Outcome, word: str, code: str) -> Any:
    """What a step said; an exception that speaks of ``word`` is the slip ``code``."""
    if outcome.failure is not None:
        expect(word not in outcome.failure.message, code)
        raise SubjectFailed(outcome.failure)
    return outcome.value


def _spelt(environ: dict[str, str]) -> str:
    return " ".join(f"{name}={environ[name]}" for name in sorted({*environ} - {"DATABASE_URL"}))


# -- sizes ---------------------------------------------------------------------------------


async def two_rushes(sized_engine: Any, environ: dict[str, str], limit: int) -> AsyncIterator[Any]:
    """More requests than there may be connections; then as many as there may be."""
    import os

    from sqlalchemy.ext.asyncio import AsyncEngine

    from engineroom.exercises.tools import Attempts, Crowd, turns

    for name in ("APP_ENV", "DATABASE_URL", "POOL_SIZE", "MAX_OVERFLOW"):
        os.environ.pop(name, None)
    engine = sized_engine(given := dict(environ))
    if not isinstance(engine, AsyncEngine):
        yield type(engine).__name__
    attempts, crowd = Attempts(), Crowd(engine, 17)
    await turns()
    yield attempts.count
    yield await crowd.served()
    again = await Crowd(engine, limit).served()
    await engine.dispose()
    yield again
    yield environ.items() <= given.items()


@lesson.exercise(
    "sized_engine",
    points=3,
    measures=("engine.configure",),
    task="Write `sized_engine(environ)`: an engine for `DATABASE_URL`. In production it keeps 5 "
    "connections and may open 10 more; elsewhere it keeps 2 and opens no more. Where `POOL_SIZE` "
    "or `MAX_OVERFLOW` is set, that number counts instead.",
    hints=(
        "Two numbers, each from one of two places: which place goes first?",
        "`environ.get(name, default)` has an answer in both cases; and what type is it?",
        '`int(environ.get("POOL_SIZE", 5 if production else 2))`, and the like for the overflow',
    ),
    slips=(
        Slip(
            "strings",
            "ENG-26",
            "No engine could be made where a number came from the environment: variables are "
            "text, and a pool counts.",
            (
                """
                def sized_engine(environ):
                    big = environ.get('APP_ENV') == 'production'
                    return create_async_engine(
                        environ['DATABASE_URL'],
                        pool_size=environ.get('POOL_SIZE', 5 if big else 2),
                        max_overflow=environ.get('MAX_OVERFLOW', 10 if big else 0))
                """,
                """
                def sized_engine(environ):
                    kept, more = (5, 10) if environ.get('APP_ENV') == 'production' else (2, 0)
                    options = {'pool_size': kept, 'max_overflow': more}
                    for name in ('POOL_SIZE', 'MAX_OVERFLOW'):
                        if name in environ:
                            options[name.lower()] = environ[name]
                    return create_async_engine(environ['DATABASE_URL'], **options)
                """,
            ),
        ),
        Slip(
            "zero",
            "ENG-27",
            "In production `MAX_OVERFLOW=0` was set, and the engine opened more than it keeps: "
            "it is not read there, or an `or` goes past it, because 0 is false.",
            (
                """
                def sized_engine(environ):
                    big = environ.get('APP_ENV') == 'production'
                    kept, more = (int(environ.get(n, 0)) for n in ('POOL_SIZE', 'MAX_OVERFLOW'))
                    return create_async_engine(
                        environ['DATABASE_URL'], pool_size=kept or (5 if big else 2),
                        max_overflow=more or (10 if big else 0))
                """,
                """
                def sized_engine(environ):
                    kept, more = (5, 10) if environ.get('APP_ENV') == 'production' else (2, 0)
                    if int(environ.get('POOL_SIZE', '0')):
                        kept = int(environ['POOL_SIZE'])
                    if int(environ.get('MAX_OVERFLOW', '0')) > 0:
                        more = int(environ['MAX_OVERFLOW'])
                    return create_async_engine(
                        environ['DATABASE_URL'], pool_size=kept, max_overflow=more)
                """,
            ),
        ),
        Slip(
            "one_size",
            "ENG-28",
            "Outside production Postgres counted 15 connections: as many as there.",
            (
                """
                def sized_engine(environ):
                    return create_async_engine(
                        environ['DATABASE_URL'],
                        pool_size=int(environ.get('POOL_SIZE', 5)),
                        max_overflow=int(environ.get('MAX_OVERFLOW', 10)))
                """,
                """
                def sized_engine(environ):
                    names = {'POOL_SIZE', 'MAX_OVERFLOW'} & set(environ)
                    options = {name.lower(): int(environ[name]) for name in names}
                    return create_async_engine(environ['DATABASE_URL'], **options)
                """,
            ),
        ),
        Slip(
            "size_only",
            "ENG-29",
            "Outside production Postgres counted 12 connections: a pool opens ten more than it "
            "keeps, unless you say otherwise.",
            (
                """
                def sized_engine(environ):
                    default = 5 if environ.get('APP_ENV') == 'production' else 2
                    return create_async_engine(
                        environ['DATABASE_URL'], pool_size=int(environ.get('POOL_SIZE', default)))
                """,
                """
                def sized_engine(environ):
                    options = {}
                    if environ.get('APP_ENV') != 'production':
                        options['pool_size'] = 2
                    for name in ('POOL_SIZE', 'MAX_OVERFLOW'):
                        if name in environ:
                            options[name.lower()] = int(environ[name])
                    return create_async_engine(environ['DATABASE_URL'], **options)
                """,
            ),
        ),
    ),
    right=(
        """
        def sized_engine(environ):
            production = environ.get('APP_ENV') == 'production'
            return create_async_engine(
                environ['DATABASE_URL'],
                pool_size=int(environ.get('POOL_SIZE', 5 if production else 2)),
                max_overflow=int(environ.get('MAX_OVERFLOW', 10 if production else 0)),
                connect_args={'command_timeout': 60})
        """,
        """
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings):
            app_env: str = 'development'
            database_url: str
            pool_size: int | None = None
            max_overflow: int | None = None
        def sized_engine(environ):
            settings = Settings(**{name.lower(): text for name, text in environ.items()})
            sizes = {'pool_size': 2, 'max_overflow': 0}
            if settings.app_env == 'production':
                sizes = {'pool_size': 5, 'max_overflow': 10}
            sizes |= settings.model_dump(include={*sizes}, exclude_none=True)
            return create_async_engine(settings.database_url, pool_pre_ping=True, **sizes)
        """,
        """
        from collections import ChainMap
        from sqlalchemy import make_url
        BASE = {'POOL_SIZE': '2', 'MAX_OVERFLOW': '0'}
        BIG = {'POOL_SIZE': '5', 'MAX_OVERFLOW': '10'}
        class Sized:
            def __init__(self, environ):
                self.said = ChainMap(
                    environ, BIG if environ.get('APP_ENV') == 'production' else BASE)
            def engine(self):
                return create_async_engine(
                    make_url(self.said['DATABASE_URL']).set(drivername='postgresql+psycopg'),
                    pool_size=int(self.said['POOL_SIZE']),
                    max_overflow=int(self.said['MAX_OVERFLOW']), pool_use_lifo=True)
        sized_engine = lambda environ: Sized(environ).engine()
        """,
    ),
)
async def sizes(trial: Trial) -> None:
    draw, url = trial.draw, trial.lab.url
    await trial.witness.execute("create table gate (n int)")
    size, other, both = draw.choice([3, 4]), 6, {"POOL_SIZE": "4", "MAX_OVERFLOW": "3"}
    if draw.random() < 0.5:
        size, other = other, size
    for given, kept, over in (
        ({}, 2, 0),
        ({"APP_ENV": draw.word()}, 2, 0),
        ({"APP_ENV": "staging", "POOL_SIZE": f"{size}"}, size, 0),
        ({"APP_ENV": draw.choice(["development", "testing"]), **both}, 4, 3),
        ({"APP_ENV": "production", "MAX_OVERFLOW": "0"}, 5, 0),
        ({"APP_ENV": "production", "POOL_SIZE": f"{other}"}, other, 10),
    ):
        await _rushed(trial, {"DATABASE_URL": url, **given}, kept, over)


async def _rushed(trial: Trial, given: dict[str, str], kept: int, over: int) -> None:
    """So many connections stand there in a rush, and so many are kept for the next one."""
    witness, limit, before = trial.witness, kept + over, await trial.witness.logins()
    async with witness.gate() as gate:
        steps = trial.subject.steps(two_rushes, given, limit)
        begun = _told(await steps.outcome(), "'str'", "ENG-26")
        expect(type(begun) is int, "ENG-30", f"You gave `{begun}`, and no async engine.")
        standing = await gate.reached(begun)
        await gate.open()
        served = await steps.next()
    where = _spelt(given) or "Nothing set"
    expect(standing != kept + 10 or given.get("MAX_OVERFLOW") != "0", "ENG-27")
    expect(kept != 2 or standing != 15, "ENG-28")
    expect(kept != 2 or standing != 12, "ENG-29")
    seen = f"{where}: {standing} connections at once, not {limit}."
    expect(standing == limit and served == 17, "ENG-30", seen)
    expect(await steps.next() == limit, "ENG-30", "A second rush was not served.")
    expect(await steps.next(), "ENG-30", _TAKEN)
    await witness.emptied()  # whoever has gone is counted
    logins = await witness.logins() - before
    seen = f"{where}: {logins} logins in two rushes, not {limit + over}; {kept} were to be kept."
    expect(logins == limit + over, "ENG-30", seen)
