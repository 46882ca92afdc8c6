"""Plausible wrong answers for pooling: each must fail, beside the slips."""

WRONG = {
    "pooling.ceiling": [
        """
        from engineroom import lab
        def capped(url, at_most, wait):
            return create_async_engine(
                lab.url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
        """,
        """
        from engineroom import lab
        def capped(url, at_most, wait):
            return create_async_engine(
                lab.psycopg_url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=n + 1, max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=n - 1, max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=5, max_overflow=0, pool_timeout=0.2)
        capped.limit = 5
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=2, max_overflow=0)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(
                url, pool_size=n, max_overflow=0, pool_timeout=wait * 1000)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=0, max_overflow=n, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return None
        """,
        """
        def capped(url, at_most, wait):
            half = at_most // 2
            return create_async_engine(
                url, pool_size=half, max_overflow=at_most - half, pool_timeout=wait)
        """,
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=min(at_most, 5), max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, at_most, wait):
            return create_async_engine(url, pool_size=at_most, max_overflow=0, pool_timeout=5)
        """,
        """
        engine = None
        def capped(url, at_most, wait):
            global engine
            engine = engine or create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
            return engine
        """,
        """
        import math
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=math.ceil(wait))
        """,
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=round(wait))
        """,
        """
        import asyncpg
        from sqlalchemy.pool import NullPool
        def capped(url, at_most, wait):
            opened = []
            async def connect():
                if len(opened) == at_most:
                    raise TimeoutError('full')
                opened.append(1)
                return await asyncpg.connect(url.replace('+asyncpg', ''))
            return create_async_engine(url, poolclass=NullPool, async_creator=connect)
        """,
        """
        def capped(url, at_most, wait):
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=wait,
                connect_args={'ssl': True})
        """,
    ],
    "pooling.warm": [
        """
        async def warm(engine, n):
            return n * [engine]
        """,
        """
        import asyncio
        async def warm(engine, n):
            async def one():
                async with engine.connect():
                    pass
            for _ in range(n):
                asyncio.create_task(one())
        """,
        """
        async def warm(engine, n):
            kept = [await engine.connect() for _ in range(n)]
            await kept[0].close()
        """,
        """
        from contextlib import AsyncExitStack
        async def warm(engine, n):
            async with AsyncExitStack() as stack:
                for _ in range(engine.pool.size()):
                    await stack.enter_async_context(engine.connect())
        """,
        """
        from contextlib import AsyncExitStack
        async def warm(engine, n):
            async with AsyncExitStack() as stack:
                for _ in range(n - 1):
                    await stack.enter_async_context(engine.connect())
        """,
        """
        from contextlib import AsyncExitStack
        async def warm(engine, n):
            async with AsyncExitStack() as stack:
                for _ in range(n):
                    await stack.enter_async_context(engine.connect())
            await engine.dispose()
        """,
        """
        from contextlib import AsyncExitStack
        from sqlalchemy.ext.asyncio import create_async_engine
        async def warm(engine, n):
            mine = create_async_engine(engine.url, pool_size=n)
            async with AsyncExitStack() as stack:
                for _ in range(n):
                    await stack.enter_async_context(mine.connect())
        """,
        """
        import asyncio
        async def warm(engine, n):
            kept = await asyncio.gather(*(engine.connect().start() for _ in range(n)))
            for connection in kept:
                await connection.invalidate()
        """,
        """
        async def warm(engine, n):
            missing = n - engine.pool.checkedin()
            held = [await engine.connect() for _ in range(missing)]
            for connection in held:
                await connection.close()
        """,
        """
        async def warm(engine, n):
            held = [await engine.connect() for _ in range(n)]
            for connection in held:
                await connection.invalidate()
                await connection.close()
        """,
    ],
    "pooling.before_the_cut": [
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=30)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=3600, pool_pre_ping=True)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=int(idle_limit * 0.98))
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=idle_limit * 0.93)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=idle_limit / 1000)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=idle_limit * 1000)
        """,
        """
        from sqlalchemy import event
        from sqlalchemy.exc import DisconnectionError
        def short_lived(url, idle_limit):
            engine = create_async_engine(url)
            @event.listens_for(engine.sync_engine, 'checkout')
            def ask_first(connection, record, proxy):
                connection.cursor().execute('select 1')
            return engine
        """,
        """
        from engineroom import lab
        def short_lived(url, idle_limit):
            return create_async_engine(lab.url, pool_recycle=int(idle_limit * 0.8))
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=300)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=min(idle_limit // 2, 300))
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=max(idle_limit // 2, 30))
        """,
        """
        def short_lived(url, idle_limit):
            room = 30 if idle_limit > 60 else 0
            return create_async_engine(url, pool_recycle=idle_limit - room)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=idle_limit * 0.22)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=min(idle_limit, 1800) - 5)
        """,
        """
        def short_lived(url, idle_limit):
            return create_async_engine(url, pool_recycle=min(idle_limit / 2, 1800))
        """,
    ],
    "pooling.production_engine": [
        """
        def production_engine(url):
            return create_async_engine(url)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=5, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=4, max_overflow=11, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=5)
        """,
        """
        from sqlalchemy.pool import NullPool
        def production_engine(url):
            return create_async_engine(url, poolclass=NullPool)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=-1, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=0, max_overflow=15, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_pre_ping=True, pool_recycle=300, pool_size=5, max_overflow=10,
                pool_timeout=0)
        """,
        """
        async def production_engine(url):
            return create_async_engine(url, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        from engineroom import lab
        def production_engine(url):
            return create_async_engine(
                lab.url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=55)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=0)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url + '?sslmode=require', pool_size=5, max_overflow=10, pool_pre_ping=True,
                pool_recycle=300)
        """,
        """
        def production_engine(url):
            return create_async_engine(
                url, pool_size=5, max_overflow=10, pool_pre_ping=True, pool_recycle=300,
                connect_args={'ssl': True})
        """,
    ],
    "pooling.cloud": [
        """
        def cloud_engine(url):
            return create_async_engine(url)
        """,
        """
        def cloud_engine(url):
            return create_async_engine(url, pool_pre_ping=True, pool_recycle=300)
        """,
        """
        def cloud_engine(url):
            return create_async_engine(url, pool_recycle=200)
        """,
        """
        def cloud_engine(url):
            return create_async_engine(
                url.replace('+asyncpg', '+psycopg'), pool_pre_ping=True)
        """,
        """
        from sqlalchemy import make_url
        def cloud_engine(url):
            return create_async_engine(
                make_url(url).set(drivername='postgresql+psycopg'),
                connect_args={'keepalives': 1, 'keepalives_idle': 60})
        """,
        """
        def cloud_engine(url):
            return create_async_engine(
                url, pool_use_lifo=True, pool_size=1, max_overflow=9, pool_reset_on_return=None)
        """,
        """
        from engineroom import lab
        def cloud_engine(url):
            return create_async_engine(lab.url, pool_pre_ping=True, pool_recycle=30000)
        """,
        """
        def cloud_engine(url):
            return create_async_engine(url, pool_pre_ping=True, pool_recycle=295)
        """,
    ],
    "pooling.shrink": [
        """
        def shrinking(url):
            return create_async_engine(url)
        """,
        """
        def shrinking(url):
            return create_async_engine(url, pool_size=4, pool_use_lifo=True, pool_pre_ping=True)
        """,
        """
        def shrinking(url):
            return create_async_engine(
                url, pool_size=1, max_overflow=0, pool_use_lifo=True, pool_pre_ping=True)
        """,
        """
        def shrinking(url):
            return create_async_engine(url, pool_use_lifo=True, pool_recycle=1)
        """,
        """
        def shrinking(url):
            return create_async_engine(
                url, pool_use_lifo=True, pool_pre_ping=True, pool_size=5, max_overflow=-1,
                pool_recycle=0)
        """,
        """
        def shrinking(url):
            engine = create_async_engine(url, pool_pre_ping=True)
            engine.pool.use_lifo = True
            return engine
        """,
        """
        def shrinking(url):
            return create_async_engine(
                url, pool_use_lifo=True, pool_pre_ping=True, pool_recycle=1)
        """,
        """
        from engineroom import lab
        def shrinking(url):
            return create_async_engine(lab.url, pool_use_lifo=True, pool_pre_ping=True)
        """,
    ],
}
