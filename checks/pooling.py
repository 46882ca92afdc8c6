"""04 pooling: what waits in the pool."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from engineroom.exercises import Lesson, Objective, Slip, Trial, expect

lesson = Lesson(
    "pooling",
    "What waits in the pool",
    minutes=35,
    objectives=(
        Objective(
            "pooling.ceiling",
            "Set the most connections an engine opens, and how long a request may queue",
            "apply",
            "B1",
            "Connection pools",
        ),
        Objective(
            "pooling.lifecycle",
            "Tell when a pool opens, keeps and closes a connection, by the server's count",
            "analyze",
            "B1",
            "Connection pools",
        ),
        Objective(
            "pooling.health",
            "Choose between pre-ping and recycle for a host that closes idle connections",
            "evaluate",
            "B1",
            "Connection pools",
        ),
        Objective(
            "pooling.production",
            "Configure an engine with pooling fit for production",
            "apply",
            "B1",
            "Connection pools",
        ),
    ),
    stuck="Build the smallest engine there is, from a URL alone, and add one parameter at a time.",
    further="Let the pool shrink: after a rush, close what nobody needs.",
    codes={
        "POOL-01": "The engine opened more connections than it may. A pool keeps `pool_size` and "
        "opens up to `max_overflow` more, ten unless you say otherwise; only their sum is a "
        "ceiling. Hold one more than you allow, and count in `pg_stat_activity`. Then choose both "
        "numbers.",
        "POOL-02": "Who finds every connection in use queues, for 30 s unless `pool_timeout` says "
        "otherwise. Hold all of them, ask for one more, and look at the clock.",
        "POOL-03": "`NullPool` opens a connection for each request and closes it after. It keeps "
        "none and limits none. A ceiling needs a pool that counts, or a counter of your own.",
        "POOL-04": "The ceiling is not where it was asked for. `pool_size` and `max_overflow` "
        "together must come to exactly that number, whatever it is.",
        "POOL-05": "A request within the ceiling got no answer. Hold all connections, give them "
        "back, and ask again: each must be served.",
        "POOL-06": "Nothing had been opened. `pool_size` is how many may be kept, and "
        "`engine.connect()` is only an intention until it is awaited or entered.",
        "POOL-07": "One connection was opened and used again and again. A pool opens a second one "
        "only while the first is out: hold several at the same time.",
        "POOL-08": "Connections were opened, but none lay in this engine's pool afterwards. Leave "
        "the `async with` block, or `close()` what you took. `engine.pool.checkedin()` counts "
        "what is ready.",
        "POOL-09": "Another number of connections was ready than was asked for. Compare "
        "`engine.pool.checkedin()` with `n`.",
        "POOL-10": "A connection lay in the pool in the middle of a transaction. The server shows "
        "it as `idle in transaction`: it holds locks, and helps nobody.",
        "POOL-11": "After a long rest the old line was still used. Asking it first is no help "
        "where lines are forgotten in silence: the question gets no answer either. Retire a "
        "connection by its age: `pool_recycle`.",
        "POOL-12": "Connections were retired, but too late. Age is compared when a connection is "
        "taken out, so leave room below the host's limit.",
        "POOL-13": "Connections were replaced while they were young. Each replacement is a login, "
        "which costs many times a query.",
        "POOL-14": "The server did not see what was to be seen: a login by the URL that was given, "
        "and after a long rest another.",
        "POOL-15": "The host closed idle connections, and a request got one of them. "
        "`pool_pre_ping=True` asks before use, and replaces what is dead.",
        "POOL-16": "More than 15 connections stood at the server at once. `max_overflow` comes on "
        "top of `pool_size`.",
        "POOL-17": "A connection older than five minutes was handed out. `pool_recycle` is the age "
        "in seconds at which one is replaced when it is next taken out; without it, never.",
        "POOL-18": "More than five connections stayed after a rush. `pool_size` is how many may "
        "stay.",
        "POOL-19": "Another number of connections than was asked for: in the rush, or after it. "
        "Hold 15, give them back, and count in `pg_stat_activity` each time. A `pool_recycle` "
        "below a minute replaces what was to be kept.",
        "POOL-20": "Requests in a rush must queue until a connection is free. They gave up at "
        "once, or failed.",
        "POOL-21": "The host closed idle connections and the next requests failed. `pool_timeout` "
        "is how long to queue for a connection and `pool_recycle` is an age: neither looks "
        "whether a line is alive. `pool_pre_ping` does.",
        "POOL-22": "After almost five minutes of rest the old line was used. `pool_recycle` must "
        "be shorter than the host's limit; 240 leaves a minute.",
        "POOL-23": "Something asked the database while nobody else did. It keeps one connection "
        "awake; the others rest as before. Let the pool take care of all: pre-ping and recycle.",
        "POOL-24": "A request failed that had no reason to, or Postgres never saw it. Run the "
        "engine by hand: three requests at once.",
        "POOL-25": "In a quiet time the requests went round all connections, so none ever rests "
        "long enough to be closed. `pool_use_lifo=True` takes the one that came back last.",
        "POOL-26": "The host closed what had rested, and the next rush met it. `pool_pre_ping` is "
        "the other half of a pool that may shrink.",
        "POOL-27": "The connections of the rush were gone at once. `pool_size` is how many may "
        "stay.",
        "POOL-28": "Five requests at once did not get five connections. Let `pool_size` and "
        "`max_overflow` come to at least five.",
    },
)


# -- ceiling -------------------------------------------------------------------------------


async def rush(capped: Any, url: str, at_most: int, wait: float, extra: int) -> AsyncIterator[Any]:
    """More requests than there may be connections; who gets one stands at the gate."""
    import asyncio

    from engineroom.exercises.tools import Crowd, async_engine, let_pass, turns

    engine, clock = async_engine(capped(url, at_most, wait)), asyncio.get_running_loop()
    crowd = Crowd(engine, at_most + extra)
    await turns()
    all_queue_until = clock.time() + wait
    await crowd.come()
    yield crowd.begun
    await let_pass(max(all_queue_until - clock.time(), 0) + 0.02)  # to the moment, however slow
    yield crowd.refused
    yield await crowd.served()
    yield await Crowd(engine, 1).served()
    await engine.dispose()


@lesson.exercise(
    "capped",
    points=3,
    measures=("pooling.ceiling",),
    task="Write `capped(url, at_most, wait)`: an engine that never opens more than `at_most` "
    "connections, and fails a further request within `wait` seconds.",
    hints=(
        "Which two numbers add up to the most connections a pool opens?",
        "One of them is ten unless you say otherwise; and how long may a request queue?",
        "`pool_size=at_most`, `max_overflow=0`, `pool_timeout=wait`",
    ),
    slips=(
        Slip(
            "overflow",
            "POOL-01",
            "Postgres counted more connections than you allowed: overflow is ten unless you say "
            "otherwise.",
            (
                """
                def capped(url, at_most, wait):
                    return create_async_engine(url, pool_size=at_most, pool_timeout=wait)
                """,
                """
                capped = lambda url, at_most, wait: create_async_engine(
                    url, pool_size=at_most, max_overflow=-1, pool_timeout=wait)
                """,
            ),
        ),
        Slip(
            "patient",
            "POOL-02",
            "The extra requests still queued when their time was up: a pool lets them wait for "
            "30 s unless you say otherwise.",
            (
                """
                def capped(url, at_most, wait):
                    return create_async_engine(url, pool_size=at_most, max_overflow=0)
                """,
                """
                def capped(url, at_most, wait):
                    return create_async_engine(
                        url, pool_size=1, max_overflow=at_most - 1,
                        connect_args={'timeout': wait})
                """,
            ),
        ),
        Slip(
            "null_pool",
            "POOL-03",
            "Postgres met a new connection for every request: NullPool keeps none, and has no "
            "ceiling either.",
            (
                """
                from sqlalchemy.pool import NullPool
                def capped(url, at_most, wait):
                    return create_async_engine(url, poolclass=NullPool)
                """,
                """
                from sqlalchemy import NullPool
                capped = lambda url, *limits: create_async_engine(
                    url.replace('+asyncpg', '+psycopg'), poolclass=NullPool)
                """,
            ),
        ),
    ),
    right=(
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
        """,
        """
        from sqlalchemy import make_url
        capped = lambda url, n, wait: create_async_engine(
            make_url(url).set(drivername='postgresql+psycopg'),
            pool_size=1, max_overflow=n - 1, pool_timeout=wait * 0.9)
        """,
        """
        from functools import partial
        def build(over, url, n, wait):
            return create_async_engine(
                url, pool_size=max(n - over, 1), max_overflow=min(over, n - 1),
                pool_timeout=wait, pool_pre_ping=True, pool_use_lifo=True)
        capped = partial(build, 1)
        """,
        """
        import asyncio
        import asyncpg
        from sqlalchemy import event
        from sqlalchemy.pool import NullPool
        class Turnstile:
            def __init__(self, url, places, wait):
                self.dsn, self.wait = url.replace('+asyncpg', ''), wait
                self.free = asyncio.Semaphore(places)
            async def connect(self):
                await asyncio.wait_for(self.free.acquire(), self.wait)
                return await asyncpg.connect(self.dsn)
        def capped(url, at_most, wait):
            turnstile = Turnstile(url, at_most, wait)
            engine = create_async_engine(
                'postgresql+asyncpg://', poolclass=NullPool, async_creator=turnstile.connect)
            event.listen(engine.sync_engine, 'close', lambda *_: turnstile.free.release())
            return engine
        """,
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=int(wait),
                connect_args={'server_settings': {'application_name': 'ness'}, 'timeout': 30})
        """,
    ),
)
async def ceiling(trial: Trial) -> None:
    draw, guests = trial.draw, await _open_to_guests(trial, "gate (n int)")
    # Rounded up, the first wait is too long, by a tenth of a second at least. The short one is
    # last, and for one: on a busy machine many logins take longer than that.
    long = draw.randint(10, 19) + draw.uniform(0.55, 0.9)
    await _rushed(trial, trial.lab.url, draw.randint(6, 8), long)
    await _rushed(trial, guests, 1, draw.uniform(0.2, 0.8))


async def _rushed(trial: Trial, url: str, at_most: int, wait: float) -> None:
    """Three more requests than there may be connections: who stands at the server, who gave up?"""
    witness, extra, standing = trial.witness, 3, 0
    before = await witness.logins()
    async with witness.gate() as gate:
        steps = trial.subject.steps(rush, url, at_most, wait, extra)
        await gate.reached(min(await steps.next(), at_most))
        users = {backend.user for backend in await witness.backends()}
        expect(urlsplit(url).username in users, "POOL-14", _ANOTHER)
        refused = await steps.next()
        if refused == extra:
            standing = await gate.reached(at_most)
        await gate.open()
        served = await steps.next()
    opened = await witness.logins() - before
    again = await steps.next()
    once_more = await witness.logins() - before - opened
    endless = f"One connection was allowed, and Postgres counted {opened}: was this engine made "
    endless += "for another ceiling, or with a `pool_size` of 0, which is none?"
    code = "POOL-03" if once_more else "POOL-01"
    expect(opened <= at_most, code, endless if at_most == 1 else "")
    expect(refused, "POOL-02")
    limit = at_most + extra - refused
    expect(standing == at_most, "POOL-04", f"You allow {limit} connections, not {at_most}.")
    expect(served == opened == at_most, "POOL-05", "Some requests were never served.")
    expect(again, "POOL-05", "All had given their connections back, and the next request failed.")


async def _open_to_guests(trial: Trial, *tables: str) -> str:
    """Tables that another user than the notebook's may use, and that user's URL."""
    user = urlsplit(trial.lab.app_url).username
    for table in tables:
        await trial.witness.execute(f"create table if not exists {table}")
        await trial.witness.execute(f"grant select, insert on {table.split()[0]} to {user}")
    await trial.witness.execute(f"grant usage on schema public to {user}")
    return str(trial.lab.app_url)


async def _expect_guests(trial: Trial, url: str) -> None:
    """An engine for ``url`` logs in as the user that stands in it."""
    users = {backend.user for backend in await trial.witness.backends()}
    expect(users <= {urlsplit(url).username}, "POOL-14", _ANOTHER)


_ANOTHER = "Postgres saw another user than the one in `url`: is that where your engine leads?"


# -- warm ----------------------------------------------------------------------------------


async def opening_hour(warm: Any, url: str, n: int, size: int) -> AsyncIterator[Any]:
    """Warm a pool, send as many requests as it shall be ready for, and warm it for one more."""
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Crowd

    engine = create_async_engine(url, pool_size=size, max_overflow=n)
    await warm(engine, n)
    yield engine.pool.checkedin()  # type: ignore[attr-defined]
    yield await Crowd(engine, n).served()
    await warm(engine, n + 1)
    yield engine.pool.checkedin()  # type: ignore[attr-defined]
    await engine.dispose()


@lesson.exercise(
    "warm",
    kind="coroutine function",
    points=2,
    measures=("pooling.lifecycle",),
    task="Write `warm(engine, n)`: when it returns, `n` connections lie ready in the engine's "
    "pool, before anybody has asked for one.",
    hints=(
        "A pool opens a second connection only when a second one is asked for. While what?",
        "Hold `n` of them at one time; then give all of them back.",
        "In an `AsyncExitStack`, `n` times: `await stack.enter_async_context(engine.connect())`",
    ),
    slips=(
        Slip(
            "believed",
            "POOL-06",
            "Postgres had heard nothing of you when `warm` returned: a pool opens nothing before "
            "a connection is asked for.",
            (
                """
                async def warm(engine, n):
                    for _ in range(n):
                        engine.connect()
                """,
                """
                async def warm(engine, n):
                    engine.sync_engine.pool._pool.maxsize = n
                """,
            ),
        ),
        Slip(
            "in_turn",
            "POOL-07",
            "Postgres counted one connection: each request gave it back before the next one "
            "asked, and got the same.",
            (
                """
                async def warm(engine, n):
                    for _ in range(n):
                        async with engine.connect():
                            pass
                """,
                """
                from sqlalchemy import text
                async def warm(engine, n):
                    async def one():
                        async with engine.begin() as connection:
                            await connection.execute(text('select 1'))
                    [await one() for _ in range(n)]
                """,
            ),
        ),
        Slip(
            "held",
            "POOL-08",
            "Postgres counted them, but the engine's pool had none to give: hand back what you "
            "hold.",
            (
                """
                held = []
                async def warm(engine, n):
                    for _ in range(n):
                        held.append(await engine.connect())
                """,
                """
                import asyncio
                async def warm(engine, n):
                    warm.all = await asyncio.gather(
                        *(engine.connect().start() for _ in range(n)))
                """,
            ),
        ),
    ),
    right=(
        """
        from contextlib import AsyncExitStack
        async def warm(engine, n):
            async with AsyncExitStack() as stack:
                for _ in range(n):
                    await stack.enter_async_context(engine.connect())
        """,
        """
        import asyncio
        from sqlalchemy import text
        class Warmer:
            async def __call__(self, engine, n):
                async with asyncio.TaskGroup() as group:
                    for _ in range(n):
                        group.create_task(self.one(engine))
            async def one(self, engine):
                async with engine.connect() as connection:
                    await connection.execute(text('select 1'))
        warm = Warmer()
        """,
        """
        from functools import partial
        async def hold(pause, engine, n):
            if n:
                async with engine.connect():
                    await hold(pause, engine, n - 1)
        warm = partial(hold, None)
        """,
        """
        import asyncio
        async def warm(engine, n):
            connections = [engine.connect() for _ in range(n)]
            try:
                await asyncio.gather(*(c.start() for c in connections))
            finally:
                await asyncio.gather(*(c.close() for c in connections))
        """,
    ),
)
async def warm(trial: Trial) -> None:
    witness, draw, n = trial.witness, trial.draw, trial.draw.randint(3, 6)
    before = await witness.logins()
    await witness.execute("create table gate (n int)")
    steps = trial.subject.steps(opening_hour, trial.lab.url, n, n + draw.randint(1, 2))
    ready, opened = await steps.next(), await witness.logins() - before
    left_open = any(b.in_transaction for b in await witness.backends())
    expect(opened, "POOL-06")
    expect(opened != 1, "POOL-07")
    expect(ready or opened < n, "POOL-08")
    expect(ready == opened == n, "POOL-09", f"Of {n} connections, {min(ready, opened)} were ready.")
    expect(not left_open, "POOL-10", "Postgres saw a transaction that `warm` had left open.")
    served, after = await steps.next(), await witness.logins() - before
    seen = (
        f"{n} were in the pool by its own word, and {n} requests had to log in {after - n} times."
    )
    expect(served == after == n, "POOL-09", seen)
    ready, after = await steps.next(), await witness.logins() - before
    seen = f"{n} lay in the pool, {n + 1} were to be ready, and {min(ready, after)} were."
    expect(ready == after == n + 1, "POOL-09", seen)


# -- before_the_cut ------------------------------------------------------------------------


async def idle_hours(short_lived: Any, url: str, idle_limit: int) -> AsyncIterator[Any]:
    """Ask; then rest for a share of the limit, as long as one is named, and ask again."""
    from sqlalchemy import text

    from engineroom.exercises.tools import async_engine, let_pass

    engine = async_engine(short_lived(url, idle_limit))
    share: Any = 0
    while share is not None:
        await let_pass(idle_limit * share)
        async with engine.connect() as connection:
            word = await connection.scalar(text("select word from pool_word"))
        share = yield word
    await engine.dispose()


@lesson.exercise(
    "short_lived",
    points=3,
    measures=("pooling.health",),
    task="Write `short_lived(url, idle_limit)` for a host that forgets, without a word, what has "
    "been idle for `idle_limit` seconds: an engine that keeps a connection for at least a quarter "
    "of that time, and after nine tenths of it takes a new one without asking the old one "
    "anything.",
    hints=(
        "Must one ask a connection whether it is alive, or is its age enough?",
        "`pool_recycle` is an age in seconds. When is it compared, and how much room do you need?",
        "`create_async_engine(url, pool_recycle=int(idle_limit * 0.8))`",
    ),
    slips=(
        Slip(
            "ping",
            "POOL-11",
            "The old line was still spoken to, whatever its age; a line that has been forgotten "
            "never answers.",
            (
                """
                def short_lived(url, idle_limit):
                    return create_async_engine(url, pool_pre_ping=True)
                """,
                """
                def short_lived(url, idle_limit):
                    return create_async_engine(url, pool_timeout=idle_limit, pool_use_lifo=True)
                """,
            ),
        ),
        Slip(
            "at_the_limit",
            "POOL-12",
            "The old line was still spoken to after nine tenths of the limit: at the limit itself "
            "the host may be faster than you.",
            (
                """
                def short_lived(url, idle_limit):
                    return create_async_engine(url, pool_recycle=idle_limit)
                """,
                """
                def short_lived(url, idle_limit):
                    return create_async_engine(
                        url, pool_recycle=idle_limit - 1, pool_pre_ping=True)
                """,
            ),
        ),
        Slip(
            "always_new",
            "POOL-13",
            "Postgres saw a second login before a quarter of the limit was over: young "
            "connections were thrown away.",
            (
                """
                from sqlalchemy.pool import NullPool
                def short_lived(url, idle_limit):
                    return create_async_engine(url, poolclass=NullPool)
                """,
                """
                def short_lived(url, idle_limit):
                    return create_async_engine(url, pool_recycle=1)
                """,
            ),
        ),
    ),
    right=(
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=int(idle_limit * 0.8))
        """,
        """
        short_lived = lambda url, limit: create_async_engine(
            url, pool_recycle=limit // 2, pool_pre_ping=True, pool_size=1, max_overflow=0)
        """,
        """
        import time
        from sqlalchemy import event
        from sqlalchemy.exc import DisconnectionError
        class Rested:
            def __init__(self, longest):
                self.longest = longest
            def note(self, connection, record, *_):
                record.info['since'] = time.monotonic()
            def look(self, connection, record, proxy):
                if time.monotonic() - record.info['since'] > self.longest:
                    raise DisconnectionError('rested for too long')
        def short_lived(url, idle_limit):
            engine, rested = create_async_engine(url), Rested(idle_limit * 0.85)
            event.listen(engine.sync_engine, 'connect', rested.note)
            event.listen(engine.sync_engine, 'checkin', rested.note)
            event.listen(engine.sync_engine, 'checkout', rested.look)
            return engine
        """,
        """
        from functools import partial
        from sqlalchemy import make_url
        def build(share, url, limit):
            url = make_url(url).set(drivername='postgresql+psycopg')
            return create_async_engine(url, pool_recycle=limit * share, pool_use_lifo=True)
        short_lived = partial(build, 0.6)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(
                url, pool_recycle=idle_limit // 4, connect_args={'command_timeout': 60})
        """,
    ),
)
async def before_the_cut(trial: Trial) -> None:
    witness, draw, url = trial.witness, trial.draw, trial.lab.url
    await witness.execute("create table pool_word (word text)")
    await witness.execute("insert into pool_word values ('')")
    async with witness.relay(url) as relay:
        for limit in (draw.randint(200, 1500), draw.randint(20_000, 90_000)):
            await _forgotten(trial, relay, limit)
        await _forgotten(trial, relay, draw.choice([10, 20]), young=0)  # seconds pass by themselves


async def _forgotten(trial: Trial, relay: Any, limit: int, young: float = 0.24) -> None:
    """After nine tenths of the limit there is a new line; the young one was kept."""
    witness, words, lines = trial.witness, [trial.draw.word() for _ in range(2)], len(relay.lines)
    await witness.execute("update pool_word set word = $1", words[0])
    steps = trial.subject.steps(idle_hours, relay.url, limit)
    read, old = await steps.next(), list(relay.lines)
    came = read == words[0] and len(old) > lines
    expect(came, "POOL-14", "Your engine never came to this database.")
    await witness.execute("update pool_word set word = $1", words[1])
    said, read = _asked(old), await steps.next(trial.draw.uniform(0.905, 0.915))
    spoken, opened = _asked(old) > said, len(relay.lines) - lines
    await steps.next(young)
    young_lost = len(relay.lines) - lines - opened
    if spoken:
        await steps.next(1.1)
        late = len(relay.lines) - lines > opened
        expect(False, "POOL-12" if late else "POOL-11")
    expect(not young_lost, "POOL-13")
    expect(opened == 2 and read == words[1], "POOL-14", "Postgres saw no new connection.")


def _asked(lines: list[Any]) -> int:
    """How much was said on these lines, goodbyes aside."""
    return sum(message.kind != "X" for line in lines for message in line.said)


# -- production_engine ---------------------------------------------------------------------


async def a_day(production_engine: Any, url: str) -> AsyncIterator[Any]:
    """A rush, a quiet minute, a cut of all that is idle, and five minutes of nothing."""
    from engineroom.exercises.tools import Crowd, async_engine, let_pass, turns

    engine = async_engine(production_engine(url))
    for size, rest in ((18, 0), (7, 57), (6, 0), (3, 301)):
        await let_pass(rest)
        crowd = Crowd(engine, size)
        await crowd.come()
        await turns()
        yield crowd.begun
        yield await crowd.served()
    await engine.dispose()


@lesson.exercise(
    "production_engine",
    points=4,
    measures=("pooling.production", "pooling.health"),
    task="Write `production_engine(url)`: at most 15 connections, of which 5 are kept after a "
    "rush; no request fails when the host has closed the idle ones; none older than five minutes "
    "is used, and none younger than one minute is replaced.",
    hints=(
        "Four arguments, four trials: a rush, its end, a cut, an old connection.",
        "Two of them are numbers that add up to 15. One asks before use. One is an age.",
        "`pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300` (or less)",
    ),
    slips=(
        Slip(
            "no_ping",
            "POOL-15",
            "Postgres closed your idle connections, and requests failed that came next.",
            (
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=5, max_overflow=10, pool_recycle=300)
                """,
                """
                production_engine = lambda url: create_async_engine(
                    url.replace('+asyncpg', '+psycopg'), pool_recycle=240,
                    pool_timeout=60, pool_use_lifo=True)
                """,
            ),
        ),
        Slip(
            "twenty",
            "POOL-16",
            "More than 15 connections stood at the server at once: overflow comes on top of "
            "`pool_size`.",
            (
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=5, max_overflow=15, pool_pre_ping=True, pool_recycle=300)
                """,
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=15, pool_pre_ping=True, pool_recycle=300)
                """,
            ),
        ),
        Slip(
            "never_old",
            "POOL-17",
            "A connection that was 301 s old was handed out once more: Postgres saw no new login.",
            (
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=5, max_overflow=10, pool_pre_ping=True)
                """,
                """
                def production_engine(url):
                    return create_async_engine(url, pool_pre_ping=True, pool_recycle=3600)
                """,
            ),
        ),
        Slip(
            "all_kept",
            "POOL-18",
            "After the rush not 5 connections were kept but more: `pool_size` is how many may "
            "stay, `max_overflow` how many come and go.",
            (
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=15, max_overflow=0, pool_pre_ping=True, pool_recycle=300)
                """,
                """
                def production_engine(url):
                    return create_async_engine(
                        url, pool_size=10, max_overflow=5, pool_pre_ping=True, pool_recycle=240)
                """,
            ),
        ),
    ),
    right=(
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300,
                pool_timeout=30, connect_args={
                    'server_settings': {'application_name': 'desk'}, 'command_timeout': 60})
        """,
        """
        from functools import partial
        from sqlalchemy import make_url
        def build(options, url):
            return create_async_engine(
                make_url(url).set(drivername='postgresql+psycopg'), **options)
        production_engine = partial(build, dict(
            pool_pre_ping=True, pool_recycle=240, pool_use_lifo=True, pool_timeout=5))
        """,
        """
        import time
        from sqlalchemy import event
        from sqlalchemy.pool import AsyncAdaptedQueuePool
        class Young(AsyncAdaptedQueuePool):
            def __init__(self, *args, **options):
                super().__init__(*args, **options | {
                    'pool_size': 5, 'max_overflow': 10, 'pre_ping': True, 'recycle': 120})
        production_engine = lambda url: create_async_engine(url, poolclass=Young)
        """,
        """
        import time
        from sqlalchemy import event
        from sqlalchemy.exc import DisconnectionError
        class Factory:
            def __call__(self, url):
                engine = create_async_engine(url, pool_pre_ping=True)
                event.listen(engine.sync_engine, 'connect', self.born)
                event.listen(engine.sync_engine, 'checkout', self.old)
                return engine
            def born(self, connection, record):
                record.info['born'] = time.time()
            def old(self, connection, record, proxy):
                if time.time() - record.info['born'] > 280:
                    raise DisconnectionError()
        production_engine = Factory()
        """,
    ),
)
async def production_engine(trial: Trial) -> None:
    witness, before = trial.witness, await trial.witness.logins()
    url = await _open_to_guests(trial, "gate (n int)")
    steps = trial.subject.steps(a_day, url)
    rush, served = await _standing(trial, steps, 16)
    await _expect_guests(trial, url)
    expect(len(rush) <= 15, "POOL-16")
    opened = await witness.logins() - before
    expect(opened <= 15, "POOL-19", _REPLACED.format(len(rush), opened))
    expect(len(rush) == 15, "POOL-19", f"In a rush you allow {len(rush)} connections, not 15.")
    later, also = await _standing(trial, steps, 7)
    expect((served, also) == (18, 7), "POOL-20", "Some requests were never served.")
    kept = len(later & rush)
    expect(kept <= 5, "POOL-18")
    few = f"Not a minute after the rush, {kept} of its connections were used again, not 5: fewer "
    expect(kept == 5, "POOL-19", few + "were kept, or the young were replaced.")
    await witness.cut()
    await steps.next()
    expect(await steps.next() == 6, "POOL-15")
    old = {backend.pid for backend in await witness.backends()}
    rested, served = await _standing(trial, steps, 3)
    expect(served == 3 and len(rested - old) == 3, "POOL-17")


_REPLACED = (
    "{} stood at the server, and {} logins had been needed: connections were replaced that had "
    "only just been opened."
)


async def _standing(trial: Trial, steps: Any, most: int) -> tuple[set[int], int]:
    """Who stands at a closed gate in the next rush, so that none comes and goes unseen; and how
    many were served when it opened."""
    async with trial.witness.gate() as gate:
        await gate.reached(min(await steps.next() or most, most))
        there = await gate.waiting()
        await gate.open()
        return there, await steps.next()


# -- cloud ---------------------------------------------------------------------------------


async def quiet_night(cloud_engine: Any, url: str, rest: float) -> AsyncIterator[Any]:
    """Three requests at once, four times; in between, time goes by and the host does things."""
    from sqlalchemy import event

    from engineroom.exercises.tools import Crowd, async_engine, let_pass

    engine = async_engine(cloud_engine(url))
    borrowed: list[Any] = []
    event.listen(engine.sync_engine, "checkout", lambda *_: borrowed.append(1))
    for ours, gap in enumerate((0, 280, 0, rest), start=1):
        await let_pass(gap)
        crowd = Crowd(engine, 3)
        if ours == 1:
            await crowd.come()
        yield [await crowd.served(), len(borrowed) - 3 * ours]
    await engine.dispose()


@lesson.exercise(
    "cloud_engine",
    points=2,
    measures=("pooling.health", "pooling.production"),
    task="Let an assistant write `cloud_engine(url)` for a host that forgets connections, in "
    "silence, after 300 s without a word, and that restarts its databases now and then: no "
    "request may fail after a restart, and none may speak on a line that has rested for 290 s.",
    hints=(
        "Two troubles: lines that were closed, and lines that were forgotten. Which cure is whose?",
        "Whose clock must be shorter: yours or the host's? And who asks before use?",
        "`pool_pre_ping=True, pool_recycle=240`",
    ),
    slips=(
        Slip(
            "timeout_knob",
            "POOL-21",
            "The host closed your idle connections, and the next requests failed: nobody asked "
            "before use (`pool_timeout` is how long to queue, and heals nothing).",
            (
                """
                def cloud_engine(url):
                    return create_async_engine(url, pool_timeout=300, pool_size=10)
                """,
                """
                def cloud_engine(url):
                    return create_async_engine(url, pool_recycle=240, pool_timeout=60)
                """,
            ),
        ),
        Slip(
            "recycle_3600",
            "POOL-22",
            "After more than 290 s of rest your engine still spoke on the old line: retire a "
            "connection by its age, well before the host's five minutes (an hour is too late).",
            (
                """
                def cloud_engine(url):
                    return create_async_engine(url, pool_pre_ping=True, pool_recycle=3600)
                """,
                """
                def cloud_engine(url):
                    return create_async_engine(url, pool_pre_ping=True, pool_timeout=30)
                """,
            ),
        ),
        Slip(
            "keepalive_sql",
            "POOL-23",
            "A SELECT in the background keeps one connection busy, not the pool: the others "
            "rested, or were closed, and were used all the same.",
            (
                """
                import asyncio
                from sqlalchemy import text
                tasks = []
                def cloud_engine(url):
                    engine = create_async_engine(url)
                    async def keep_alive():
                        while True:
                            await asyncio.sleep(60)
                            async with engine.connect() as connection:
                                await connection.execute(text('select 1'))
                    tasks.append(asyncio.create_task(keep_alive()))
                    return engine
                """,
                """
                import asyncio
                def cloud_engine(url):
                    engine = create_async_engine(url, pool_pre_ping=True, pool_use_lifo=True)
                    loop = asyncio.get_running_loop()
                    async def ping():
                        async with engine.begin() as connection:
                            await connection.exec_driver_sql('SELECT 1')
                        loop.call_later(240, start)
                    def start():
                        loop.task = loop.create_task(ping())
                    loop.call_later(240, start)
                    return engine
                """,
            ),
        ),
    ),
    right=(
        """
        def cloud_engine(url):
            return create_async_engine(url, pool_pre_ping=True, pool_recycle=240)
        """,
        """
        from sqlalchemy.pool import NullPool
        def cloud_engine(url):
            return create_async_engine(url, poolclass=NullPool)
        """,
        """
        def cloud_engine(url):
            return create_async_engine(
                url, pool_size=10, max_overflow=20, pool_recycle=240, pool_pre_ping=True,
                connect_args={'timeout': 10, 'command_timeout': 30, 'server_settings': {
                    'jit': 'off', 'tcp_keepalives_idle': '60', 'statement_timeout': '30000'}})
        """,
        """
        from sqlalchemy import make_url
        cloud_engine = lambda url: create_async_engine(
            make_url(url).set(drivername='postgresql+psycopg'),
            pool_pre_ping=True, pool_recycle=60, pool_use_lifo=True, pool_size=2, max_overflow=0)
        """,
        """
        import asyncio
        from sqlalchemy import text
        class Kept:
            def __init__(self):
                self.tasks = []
            async def stay_awake(self, engine):
                while True:
                    await asyncio.sleep(100)
                    async with engine.connect() as connection:
                        await connection.execute(text('select 1'))
            def __call__(self, url):
                engine = create_async_engine(
                    url, pool_pre_ping=True, pool_recycle=200, pool_size=3, max_overflow=2)
                self.tasks.append(asyncio.ensure_future(self.stay_awake(engine)))
                return engine
        cloud_engine = Kept()
        """,
    ),
)
async def cloud(trial: Trial) -> None:
    witness, rest = trial.witness, trial.draw.uniform(290.3, 290.9)
    await witness.execute("create table gate (n int)")
    async with witness.relay(trial.lab.url) as relay:
        steps = trial.subject.steps(quiet_night, relay.url, rest)
        for _ in range(2):
            served, restless = await steps.next()
            expect(served == 3, "POOL-24", "Your engine lost a request while all was well.")
        seen = [0, _heard(relay)]
        await witness.cut()
        served, _ = await steps.next()
        expect(served == 3, "POOL-23" if restless > 0 else "POOL-21")
        seen.append(_heard(relay))
        old = [(line, len(line.said)) for line in relay.lines]
        served, restless = await steps.next()
        spoken = any(m.kind != "X" for line, before in old for m in line.said[before:])
        expect(not spoken, "POOL-23" if restless > 0 else "POOL-22")
    seen.append(_heard(relay))
    each = all(later > earlier for earlier, later in pairwise(seen))
    expect(served == 3 and each, "POOL-24", "Postgres did not see your requests.")


def _heard(relay: Any) -> int:
    """On how many lines a question came."""
    return sum(bool(line.said) for line in relay.lines)


# -- shrink --------------------------------------------------------------------------------


async def tide(shrinking: Any, url: str) -> AsyncIterator[Any]:
    """Two rushes of five, a quiet time of six requests in turn, and another rush."""
    from sqlalchemy import text

    from engineroom.exercises.tools import Crowd, async_engine, let_pass

    engine = async_engine(shrinking(url))
    for rest in (0, 20):
        await let_pass(rest)
        crowd = Crowd(engine, 5)
        await crowd.come()
        yield await crowd.served()
    for _ in range(6):
        async with engine.begin() as connection:
            await connection.execute(text("insert into visit default values"))
    yield None
    yield await Crowd(engine, 5).served()
    await engine.dispose()


@lesson.exercise(
    "shrinking",
    points=2,
    measures=("pooling.lifecycle", "pooling.health"),
    task="Write `shrinking(url)`: an engine that keeps the five connections of a rush, uses only "
    "one of them while requests come one after another, so that the host may close the four "
    "others for being idle, and loses no request when it did.",
    hints=(
        "Which connection should a quiet request get, so that the others can rest?",
        "The pool is a queue; it can be a stack. And who finds out that four were closed?",
        "`pool_use_lifo=True, pool_pre_ping=True`",
    ),
    slips=(
        Slip(
            "in_a_circle",
            "POOL-25",
            "Postgres saw six quiet requests on five connections: none of them ever rests.",
            (
                """
                def shrinking(url):
                    return create_async_engine(url, pool_size=5, pool_pre_ping=True)
                """,
                """
                def shrinking(url):
                    return create_async_engine(
                        url, pool_pre_ping=True, pool_recycle=60, pool_use_lifo=False)
                """,
            ),
        ),
        Slip(
            "no_ping",
            "POOL-26",
            "The host closed the four that rested, and the next rush lost requests to them.",
            (
                """
                def shrinking(url):
                    return create_async_engine(url, pool_size=5, pool_use_lifo=True)
                """,
                """
                def shrinking(url):
                    return create_async_engine(
                        url.replace('+asyncpg', '+psycopg'), pool_use_lifo=True, pool_recycle=300)
                """,
            ),
        ),
        Slip(
            "one_kept",
            "POOL-27",
            "A second rush had to log in again: of the first one's five connections too few "
            "were kept.",
            (
                """
                def shrinking(url):
                    return create_async_engine(
                        url, pool_size=1, max_overflow=9, pool_pre_ping=True, pool_use_lifo=True)
                """,
                """
                from sqlalchemy.pool import NullPool
                def shrinking(url):
                    return create_async_engine(url, poolclass=NullPool)
                """,
            ),
        ),
    ),
    right=(
        """
        def shrinking(url):
            return create_async_engine(url, pool_use_lifo=True, pool_pre_ping=True)
        """,
        """
        from sqlalchemy import make_url
        shrinking = lambda url: create_async_engine(
            make_url(url).set(drivername='postgresql+psycopg'), pool_size=8, max_overflow=0,
            pool_use_lifo=True, pool_pre_ping=True, pool_recycle=600)
        """,
        """
        from functools import partial
        from sqlalchemy.pool import AsyncAdaptedQueuePool
        class Stack(AsyncAdaptedQueuePool):
            def __init__(self, creator, **options):
                options.update(use_lifo=True, pre_ping=True)
                super().__init__(creator, **options)
        shrinking = partial(create_async_engine, poolclass=Stack)
        """,
        """
        def shrinking(url):
            return create_async_engine(
                url, pool_use_lifo=True, pool_pre_ping=True, connect_args={'timeout': 5})
        """,
    ),
)
async def shrink(trial: Trial) -> None:
    witness, before = trial.witness, await trial.witness.logins()
    visits = "visit (pid int default pg_backend_pid())"
    url = await _open_to_guests(trial, "gate (n int)", visits)
    steps = trial.subject.steps(tide, url)
    served, opened = await steps.next(), await witness.logins() - before
    await _expect_guests(trial, url)
    expect(served == 5 and opened >= 5, "POOL-28", f"{opened} connections served your rush of 5.")
    served, again = await steps.next(), await witness.logins() - before
    expect(served == 5 and again == opened, "POOL-27")
    await steps.next()
    visited = {row["pid"] for row in await witness.fetch("select pid from public.visit")}
    expect(len(visited) == 1, "POOL-25")
    await witness.cut(b for b in await witness.backends() if b.pid not in visited)
    expect(await steps.next() == 5, "POOL-26")
    expect(await witness.logins() - before > opened, "POOL-28", "Postgres saw no third rush.")
