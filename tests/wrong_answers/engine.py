"""Plausible wrong answers for engine: each must fail, beside the slips."""

WRONG = {
    "engine.one_engine": [
        """
        from sqlalchemy.pool import NullPool
        from functools import cache
        @cache
        def get_engine(url):
            return create_async_engine(url, poolclass=NullPool)
        """,
        """
        engines = {}
        def get_engine(url):
            engines[url] = create_async_engine(url)
            return engines[url]
        """,
        """
        engines = {}
        def get_engine(url):
            return engines.get(url) or create_async_engine(url)
        """,
        """
        def get_engine(url, engines=None):
            engines = engines or {}
            if url not in engines:
                engines[url] = create_async_engine(url)
            return engines[url]
        """,
        """
        def get_engine(url):
            if not hasattr(get_engine, 'engine'):
                get_engine.engine = create_async_engine(url)
            return get_engine.engine
        """,
        """
        from functools import cache
        @cache
        def host_of(host):
            return create_async_engine(lab.url)
        from sqlalchemy import make_url
        from engineroom import lab
        def get_engine(url):
            return host_of(make_url(url).host)
        """,
        """
        from functools import cache
        get_engine = cache(lambda url: create_async_engine('sqlite+aiosqlite://'))
        """,
        """
        from weakref import WeakValueDictionary
        engines = WeakValueDictionary()
        def get_engine(url):
            engine = engines.get(url)
            if engine is None:
                engines[url] = engine = create_async_engine(url)
            return engine
        """,
        """
        from functools import cache
        from sqlalchemy import create_engine
        @cache
        def get_engine(url):
            return create_engine(url)
        """,
        """
        import asyncio
        engines = {}
        def get_engine(url):
            key = url, asyncio.current_task(), len(engines)
            return engines.setdefault(key, create_async_engine(url))
        """,
        """
        from functools import lru_cache
        @lru_cache(maxsize=2)
        def get_engine(url):
            return create_async_engine(url)
        """,
        """
        from sqlalchemy import make_url
        engines = {}
        def get_engine(url):
            name = str(make_url(url))  # the password is ***
            if name not in engines:
                engines[name] = create_async_engine(url)
            return engines[name]
        """,
        """
        engines = {}
        def get_engine(url):
            name = url.partition('?')[0]
            if name not in engines:
                engines[name] = create_async_engine(url)
            return engines[name]
        """,
        """
        engines = {}
        def get_engine(url):
            if url.lower() not in engines:
                engines[url.lower()] = create_async_engine(url)
            return engines[url.lower()]
        """,
        """
        from sqlalchemy import make_url
        engines = {}
        def get_engine(url):
            name = make_url(url).username
            if name not in engines:
                engines[name] = create_async_engine(url)
            return engines[name]
        """,
        """
        import threading
        local = threading.local()
        def get_engine(url):
            engines = local.__dict__.setdefault('engines', {})
            if url not in engines:
                engines[url] = create_async_engine(url)
            return engines[url]
        """,
        """
        from contextvars import ContextVar
        engines = ContextVar('engines', default={})
        def get_engine(url):
            if url not in engines.get():
                engines.set({**engines.get(), url: create_async_engine(url)})
            return engines.get()[url]
        """,
        """
        import time
        engines = {}
        def get_engine(url):
            engine, made = engines.get(url, (None, 0))
            if engine is None or time.time() - made > 3600:  # a fresh one every hour
                engine, made = engines[url] = create_async_engine(url), time.time()
            return engine
        """,
        """
        URLS = ['postgresql+asyncpg://desk@localhost/bookings', lab.url]
        from engineroom import lab
        engines = {url: create_async_engine(url) for url in URLS}
        def get_engine(url):
            return engines.get(url)
        """,
    ],
    "engine.run_and_close": [
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            finally:
                asyncio.create_task(engine.dispose())
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            finally:
                await engine.dispose(close=False)
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            except Exception as error:
                raise RuntimeError('the work failed') from error
            finally:
                await engine.dispose()
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            except Exception as error:
                return error
            finally:
                await engine.dispose()
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                await work(engine)
            finally:
                await engine.dispose()
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                try:
                    return await work(engine)
                except Exception:
                    return await work(engine)  # once more
            finally:
                await engine.dispose()
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(work(engine))
                return task.result()
            finally:
                await engine.dispose()
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            await engine.dispose()
            return await work(engine)
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            finally:
                engine.sync_engine.pool = None
                del engine
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return work(engine)
            finally:
                await engine.dispose()
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine)
            except asyncio.CancelledError:
                return None
            finally:
                await engine.dispose()
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            result, = await asyncio.gather(work(engine), return_exceptions=True)
            await engine.dispose()
            return result
        """,
        """
        async def run_and_close(url, work):
            return 'word'
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await asyncio.shield(work(engine))
            finally:
                await engine.dispose()
        """,
        """
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await work(engine) or None
            finally:
                await engine.dispose()
        """,
        """
        import asyncio
        async def run_and_close(url, work):
            engine = create_async_engine(url)
            try:
                return await asyncio.wait_for(work(engine), timeout=60)
            finally:
                await engine.dispose()
        """,
        """
        from functools import cache
        get_engine = cache(create_async_engine)
        async def run_and_close(url, work):
            try:
                return await work(get_engine(url))
            finally:
                await get_engine(url).dispose()
        """,
        """
        class Runner:
            async def __call__(self, url, work):
                self.engine = create_async_engine(url)
                try:
                    return await work(self.engine)
                finally:
                    await self.engine.dispose()
        run_and_close = Runner()
        """,
        """
        from engineroom import lab
        async def run_and_close(url, work):
            engine = create_async_engine(lab.url)
            try:
                return await work(engine)
            finally:
                await engine.dispose()
        """,
    ],
    "engine.unblocked": [
        """
        import asyncio
        async def ask_legacy(legacy):
            return asyncio.create_task(asyncio.to_thread(legacy))
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, legacy())
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            return await asyncio.to_thread(legacy())
        """,
        """
        from concurrent.futures import ThreadPoolExecutor
        async def ask_legacy(legacy):
            with ThreadPoolExecutor() as pool:
                future = pool.submit(legacy)
            return future.result()
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            return await asyncio.wait_for(asyncio.coroutine_like(legacy), 5)
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            await asyncio.to_thread(legacy)
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            await asyncio.to_thread(legacy)
            return await asyncio.to_thread(legacy)
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            async def wrapped():
                return legacy()
            result, = await asyncio.gather(wrapped())
            return result
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            loop.call_soon(lambda: answer.set_result(legacy()))
            return await answer
        """,
        """
        import time
        from threading import Thread
        async def ask_legacy(legacy):
            found = []
            Thread(target=lambda: found.append(legacy())).start()
            while not found:
                time.sleep(0.01)
            return found[0]
        """,
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        async def ask_legacy(legacy):
            future = ThreadPoolExecutor().submit(legacy)
            await asyncio.sleep(0.02)
            return future.result()
        """,
        """
        async def ask_legacy(legacy):
            return 12345
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            try:
                return await asyncio.to_thread(legacy)
            except Exception as error:
                print('the old office:', error)
                return 0
        """,
        """
        import asyncio
        answers = {}
        async def ask_legacy(legacy):
            if 'number' not in answers:
                answers['number'] = await asyncio.to_thread(legacy)
            return answers['number']
        """,
        """
        import asyncio
        async def ask_legacy(legacy):
            return await asyncio.wait_for(asyncio.to_thread(legacy), timeout=5)
        """,
        """
        import asyncio
        import threading
        async def ask_legacy(legacy):
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            def work():
                loop.call_soon_threadsafe(answer.set_result, legacy())
            threading.Thread(target=work, daemon=True).start()
            return await answer
        """,
        """
        # What counts as false is lost.
        import asyncio
        async def ask_legacy(legacy):
            return await asyncio.to_thread(legacy) or None
        """,
        """
        # Remembers what it gave last time.
        import asyncio
        known = {}
        async def ask_legacy(legacy):
            if legacy not in known:
                known[legacy] = await asyncio.to_thread(legacy)
            return known[legacy]
        """,
        """
        # Tries once more.
        import asyncio
        async def ask_legacy(legacy):
            try:
                return await asyncio.to_thread(legacy)
            except Exception:
                return await asyncio.to_thread(legacy)
        """,
        """
        # The same kind of exception, and another one.
        import asyncio
        async def ask_legacy(legacy):
            try:
                return await asyncio.to_thread(legacy)
            except Exception as error:
                raise type(error)('the old office does not answer') from error
        """,
    ],
    "engine.three_runs": [
        """
        from sqlalchemy import text
        def make_job(url):
            engine = create_async_engine(url)
            async def job():
                async with engine.connect() as connection:
                    word = await connection.scalar(text('select word from notice'))
                engine.dispose()
                return word
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            engine = create_async_engine(url.replace('+asyncpg', '+psycopg'))
            async def job():
                async with engine.connect() as connection:
                    return await connection.scalar(text('select word from notice'))
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            async def job():
                engine = create_async_engine(url)
                async with engine.connect() as connection:
                    return await connection.scalar(text('select word from notice'))
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            words = []
            async def job():
                if not words:
                    engine = create_async_engine(url)
                    async with engine.connect() as connection:
                        words.append(await connection.scalar(text('select word from notice')))
                    await engine.dispose()
                return words[0]
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            engine = create_async_engine(url, pool_recycle=1)
            async def job():
                async with engine.connect() as connection:
                    return await connection.scalar(text('select word from notice'))
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            engine = create_async_engine(url)
            async def job():
                for _ in range(2):
                    try:
                        async with engine.connect() as connection:
                            return await connection.scalar(text('select word from notice'))
                    except Exception:
                        await engine.dispose(close=False)
            return job
        """,
        """
        import asyncpg
        def make_job(url):
            async def job():
                connection = await asyncpg.connect(url.replace('+asyncpg', ''))
                return await connection.fetchval('select word from notice')
            return job
        """,
        """
        def make_job(url):
            async def job():
                return 'word'
            return job
        """,
        """
        from sqlalchemy import text
        def make_job(url):
            async def job():
                engine = create_async_engine(url)
                async with engine.connect() as connection:
                    word = await connection.scalar(text('select word from notice'))
                await engine.dispose()
                return word
            return job
        """,
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool
        def make_job(url):
            engine = create_async_engine(url, poolclass=NullPool)
            async def job():
                try:
                    async with engine.connect() as connection:
                        return await connection.scalar(text('select word from notice'))
                except SQLAlchemyError:
                    return None
            return job
        """,
        """
        from engineroom import lab
        from sqlalchemy import text
        from sqlalchemy.pool import NullPool
        def make_job(url):
            engine = create_async_engine(lab.url, poolclass=NullPool)
            async def job():
                async with engine.begin() as connection:
                    return await connection.scalar(text('delete from notice returning word'))
            return job
        """,
        """
        from sqlalchemy import text
        from sqlalchemy.pool import NullPool
        def make_job(url):
            engine = create_async_engine(url, poolclass=NullPool)
            async def job():
                async with engine.connect() as connection:
                    return (await connection.execute(text('select word from notice'))).one()
            return job
        """,
    ],
    "engine.environments": [
        """
        def engine_for(environ):
            return create_async_engine(environ['DATABASE_URL'], echo=True)
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            if environ['APP_ENV'] == 'development':
                return create_async_engine('sqlite+aiosqlite:///./dev_of_mine.db', echo=True)
            return create_async_engine(
                environ['DATABASE_URL'],
                echo=environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on'))
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            return create_async_engine(
                environ['DATABASE_URL'], echo=environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '') == 'true'
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        from sqlalchemy.pool import NullPool
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                environ['DATABASE_URL'], poolclass=NullPool,
                echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        from sqlalchemy.pool import NullPool
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://', poolclass=NullPool)
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://', echo=True)
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            return create_async_engine('sqlite+aiosqlite://', echo='DEBUG' in environ)
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '').lower() not in ('0', 'false', 'no', 'off')
            return create_async_engine(environ['DATABASE_URL'], echo=debug)
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite:///./test.db')
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://', echo=debug)
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            default = 'on' if environ['APP_ENV'] == 'development' else 'off'
            debug = environ.get('DEBUG', default).lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(environ['DATABASE_URL'], echo=debug)
        """,
        """
        import os
        def engine_for(environ):
            where = os.environ.get('APP_ENV', 'development')
            if where == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = os.getenv('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                os.environ['DATABASE_URL'], echo=debug or where == 'development')
        """,
        """
        import logging
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            if debug or environ['APP_ENV'] == 'development':
                logging.basicConfig()
                logging.getLogger('sqlalchemy.engine').setLevel(logging.INFO)
            return create_async_engine(environ['DATABASE_URL'])
        """,
        """
        from sqlalchemy.pool import StaticPool
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(
                environ['DATABASE_URL'], poolclass=StaticPool,
                echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_async_engine('sqlite+aiosqlite://')
            debug = environ.get('DEBUG', '').lower() in '1,true,yes,on'
            return create_async_engine(
                environ['DATABASE_URL'], echo=debug or environ['APP_ENV'] == 'development')
        """,
        """
        from sqlalchemy import create_engine
        def engine_for(environ):
            if environ['APP_ENV'] == 'testing':
                return create_engine('sqlite://')
            return create_engine(environ['DATABASE_URL'], echo=bool(environ.get('DEBUG')))
        """,
        """
        # Takes out of the mapping what it has read.
        def engine_for(environ):
            kind = environ.pop('APP_ENV')
            if kind == 'testing': return create_async_engine('sqlite+aiosqlite://')
            echo = environ.pop('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            url = environ.pop('DATABASE_URL')
            return create_async_engine(url, echo=echo or kind == 'development')
        """,
        """
        # Tests that need the URL they must not use.
        def engine_for(environ):
            kind, url = environ['APP_ENV'], environ['DATABASE_URL']
            if kind == 'testing': return create_async_engine('sqlite+aiosqlite://')
            echo = environ.get('DEBUG', '').lower() in ('1', 'true', 'yes', 'on')
            return create_async_engine(url, echo=echo or kind == 'development')
        """,
    ],
    "engine.sizes": [
        """
        def sized_engine(environ):
            return create_async_engine(environ['DATABASE_URL'])
        """,
        """
        def sized_engine(environ):
            big = environ.get('APP_ENV') == 'production'
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=15 if big else 2, max_overflow=0)
        """,
        """
        def sized_engine(environ):
            if environ.get('APP_ENV') == 'production':
                return create_async_engine(
                    environ['DATABASE_URL'], pool_size=5, max_overflow=10)
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=int(environ.get('POOL_SIZE', 2)),
                max_overflow=int(environ.get('MAX_OVERFLOW', 0)))
        """,
        """
        def sized_engine(environ):
            big = environ.get('APP_ENV') == 'production'
            return create_async_engine(
                environ['DATABASE_URL'],
                pool_size=int(environ.get('POOL_SIZE', 10 if big else 2)),
                max_overflow=int(environ.get('MAX_OVERFLOW', 5 if big else 0)))
        """,
        """
        def sized_engine(environ):
            big = environ.get('APP_ENV') != 'development'
            return create_async_engine(
                environ['DATABASE_URL'],
                pool_size=int(environ.get('POOL_SIZE', 5 if big else 2)) + 1,
                max_overflow=int(environ.get('MAX_OVERFLOW', 10 if big else 0)) - 1)
        """,
        """
        from sqlalchemy.pool import NullPool
        def sized_engine(environ):
            return create_async_engine(environ['DATABASE_URL'], poolclass=NullPool)
        """,
        """
        def sized_engine(environ):
            big = environ.get('APP_ENV') == 'production'
            total = int(environ.get('POOL_SIZE', 5 if big else 2))
            total += int(environ.get('MAX_OVERFLOW', 10 if big else 0))
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=total, max_overflow=0)
        """,
        """
        def sized_engine(environ):
            big = environ.get('APP_ENV') == 'production'
            return create_async_engine(
                environ['DATABASE_URL'],
                pool_size=int(environ.get('POOL_SIZE', 5 if big else 2)), max_overflow=0)
        """,
        """
        def sized_engine(environ):
            kept, more = (5, 10) if environ.get('APP_ENV') == 'production' else (2, 0)
            if 'POOL_SIZE' in environ:
                kept, more = int(environ['POOL_SIZE']), 0
            if 'MAX_OVERFLOW' in environ:
                more = int(environ['MAX_OVERFLOW'])
            return create_async_engine(environ['DATABASE_URL'], pool_size=kept, max_overflow=more)
        """,
        """
        def sized_engine(environ):
            small = environ.get('APP_ENV', 'development') == 'development'
            return create_async_engine(
                environ['DATABASE_URL'],
                pool_size=int(environ.get('POOL_SIZE', 2 if small else 5)),
                max_overflow=int(environ.get('MAX_OVERFLOW', 0 if small else 10)))
        """,
        """
        def sized_engine(environ):
            kept, more = (5, 10) if environ['APP_ENV'] == 'production' else (2, 0)
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=int(environ.get('POOL_SIZE', kept)),
                max_overflow=int(environ.get('MAX_OVERFLOW', more)))
        """,
        """
        def sized_engine(environ):
            kept, more = (5, 10) if environ.get('APP_ENV') == 'production' else (2, 0)
            if 'POOL_SIZE' in environ:
                kept = int(environ['POOL_SIZE'])
            elif 'MAX_OVERFLOW' in environ:
                more = int(environ['MAX_OVERFLOW'])
            return create_async_engine(environ['DATABASE_URL'], pool_size=kept, max_overflow=more)
        """,
        """
        import os
        def sized_engine(environ):
            kept, more = (5, 10) if os.environ.get('APP_ENV') == 'production' else (2, 0)
            return create_async_engine(
                environ['DATABASE_URL'], pool_size=int(os.environ.get('POOL_SIZE', kept)),
                max_overflow=int(os.environ.get('MAX_OVERFLOW', more)))
        """,
        """
        # Takes out of the mapping what it has read.
        def sized_engine(environ):
            kept, more = (5, 10) if environ.get('APP_ENV') == 'production' else (2, 0)
            return create_async_engine(environ['DATABASE_URL'],
                                       pool_size=int(environ.pop('POOL_SIZE', kept)),
                                       max_overflow=int(environ.pop('MAX_OVERFLOW', more)))
        """,
        """
        # A second place that counts as production.
        def sized_engine(environ):
            large = environ.get('APP_ENV') in ('production', 'staging')
            kept, more = (5, 10) if large else (2, 0)
            return create_async_engine(environ['DATABASE_URL'],
                                       pool_size=int(environ.get('POOL_SIZE', kept)),
                                       max_overflow=int(environ.get('MAX_OVERFLOW', more)))
        """,
        """
        # What it has never heard of counts as production.
        def sized_engine(environ):
            small = environ.get('APP_ENV', 'development') in ('development', 'testing', 'staging')
            kept, more = (2, 0) if small else (5, 10)
            return create_async_engine(environ['DATABASE_URL'],
                                       pool_size=int(environ.get('POOL_SIZE', kept)),
                                       max_overflow=int(environ.get('MAX_OVERFLOW', more)))
        """,
    ],
}
