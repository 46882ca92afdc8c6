"""Plausible wrong answers for sqlite_testing: each must fail, beside the slips."""

_KEYS = """
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, record):
                cursor = connection.cursor()
                cursor.execute('pragma foreign_keys = on')
                cursor.close()
"""

WRONG = {
    "sqlite_testing.fresh_db": [
        """
        import uuid
        from sqlalchemy import event
        def fresh_db(folder):
            engine = create_async_engine(
                f"sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db", pool_size=1, max_overflow=0)
            @event.listens_for(engine.sync_engine, "connect")
            def enforce_keys(connection, record):
                cursor = connection.cursor()
                cursor.execute("pragma foreign_keys = on")
                cursor.close()
            return engine
        """,
        """
        from sqlalchemy import event
        def fresh_db(folder):
            (folder / 'desk.db').unlink(missing_ok=True)
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/desk.db')
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, _):
                connection.cursor().execute('pragma foreign_keys = on')
            return engine
        """,
        """
        from sqlalchemy import event
        def fresh_db(folder):
            number = len(list(folder.iterdir()))
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/desk{number}.db')
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, _):
                connection.cursor().execute('pragma foreign_keys = on')
            return engine
        """,
        """
        def fresh_db(folder):
            return None
        """,
        """
        import uuid
        from sqlalchemy import create_engine
        def fresh_db(folder):
            return create_engine(f'sqlite:///{folder}/{uuid.uuid4().hex}.db')
        """,
        f"""
        from sqlalchemy import event
        def fresh_db(folder):
            engine = create_async_engine('sqlite+aiosqlite:///:memory:')
            {_KEYS}
            return engine
        """,
        f"""
        import uuid
        from sqlalchemy import event
        def fresh_db(folder):
            name = f'file:{{uuid.uuid4().hex}}?mode=memory&cache=shared&uri=true'
            engine = create_async_engine('sqlite+aiosqlite:///' + name)
            {_KEYS}
            return engine
        """,
        f"""
        import tempfile, uuid
        from sqlalchemy import event
        def fresh_db(folder):
            engine = create_async_engine(
                f'sqlite+aiosqlite:///{{tempfile.gettempdir()}}/{{uuid.uuid4().hex}}.db')
            {_KEYS}
            return engine
        """,
        f"""
        import datetime
        from sqlalchemy import event
        def fresh_db(folder):
            today = datetime.date.today().isoformat()
            engine = create_async_engine(f'sqlite+aiosqlite:///{{folder}}/{{today}}.db')
            {_KEYS}
            return engine
        """,
        """
        import uuid
        from sqlalchemy import text
        async def fresh_db(folder):
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db')
            async with engine.begin() as conn:
                await conn.execute(text('pragma foreign_keys = on'))
            return engine
        """,
        """
        import uuid
        from sqlalchemy import event
        def fresh_db(folder):
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db')
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, record):
                cursor = connection.cursor()
                cursor.execute('pragma foreign_key = on')
                cursor.close()
            return engine
        """,
        """
        import random
        from sqlalchemy import event
        def fresh_db(folder):
            name = f'test_{random.randint(1, 500)}.db'
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/{name}')
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, _):
                connection.cursor().execute('pragma foreign_keys = on')
            return engine
        """,
        """
        import uuid
        from sqlalchemy import event
        def fresh_db(folder):
            for old in folder.glob('*.db'):
                old.unlink()
            engine = create_async_engine(f'sqlite+aiosqlite:///{folder}/{uuid.uuid4()}.db')
            @event.listens_for(engine.sync_engine, 'connect')
            def keys(connection, _):
                connection.cursor().execute('pragma foreign_keys = on')
            return engine
        """,
    ],
    "sqlite_testing.patient": [
        """
        from functools import partial
        import aiosqlite
        from sqlalchemy import event, text
        async def connect(file, patience):
            connection = await aiosqlite.connect(file, isolation_level=None)
            await connection.execute(f'pragma busy_timeout = {int(patience) * 1000}')
            await connection.execute('pragma journal_mode = wal')
            return connection
        def shop_engine(file, patience):
            engine = create_async_engine('sqlite+aiosqlite:///' + str(file), pool_size=3,
                                         async_creator=partial(connect, file, patience))
            event.listen(engine.sync_engine, 'begin',
                         lambda conn: conn.execute(text('begin immediate')))
            return engine
        """,
        """
        import math
        from sqlalchemy import event
        def shop_engine(file, patience):
            engine = create_async_engine(
                f'sqlite+aiosqlite:///{file}',
                connect_args={'timeout': math.ceil(patience), 'isolation_level': None})
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
        def shop_engine(file, patience):
            return create_async_engine(f'sqlite+aiosqlite:///{file}')
        """,
        """
        from sqlalchemy.pool import StaticPool
        def shop_engine(file, patience):
            return create_async_engine(f'sqlite+aiosqlite:///{file}', poolclass=StaticPool,
                                       connect_args={'timeout': patience})
        """,
        """
        def shop_engine(file, patience):
            return create_async_engine(f'sqlite+aiosqlite:///{file}', pool_timeout=patience,
                                       isolation_level='SERIALIZABLE',
                                       connect_args={'timeout': patience})
        """,
        """
        def shop_engine(file, patience):
            return create_async_engine(
                f'sqlite+aiosqlite:///{file}',
                connect_args={'timeout': patience, 'isolation_level': 'IMMEDIATE'})
        """,
        """
        from sqlalchemy import event
        def shop_engine(file, patience):
            engine = create_async_engine(
                f'sqlite+aiosqlite:///{file}',
                connect_args={'timeout': patience * 1000, 'isolation_level': None})
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
                f'sqlite+aiosqlite:///{file}',
                connect_args={'timeout': patience, 'isolation_level': None})
            @event.listens_for(engine.sync_engine, 'connect')
            def log(connection, record):
                cursor = connection.cursor()
                cursor.execute('pragma locking_mode = exclusive')
                cursor.execute('pragma journal_mode = wal')
                cursor.close()
            return engine
        """,
        """
        from sqlalchemy import event
        def shop_engine(file, patience):
            engine = create_async_engine(
                f'sqlite+aiosqlite:///{file}', pool_size=1, max_overflow=0,
                connect_args={'timeout': patience})
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
                f'sqlite+aiosqlite:///{file}', connect_args={'timeout': patience})
            @event.listens_for(engine.sync_engine, 'begin')
            def begin(conn):
                conn.exec_driver_sql('pragma journal_mode = wal')
                conn.exec_driver_sql('begin immediate')
                conn.exec_driver_sql('commit')
            return engine
        """,
        """
        from sqlalchemy import event
        def shop_engine(file, patience):
            engine = create_async_engine(
                f'sqlite+aiosqlite:///{file}',
                connect_args={'timeout': max(patience, 5), 'isolation_level': None})
            @event.listens_for(engine.sync_engine, 'connect')
            def log(connection, _):
                connection.cursor().execute('pragma journal_mode = wal')
            event.listen(engine.sync_engine, 'begin',
                         lambda conn: conn.exec_driver_sql('begin immediate'))
            return engine
        """,
    ],
    "sqlite_testing.lies": [
        """
        def lies(table):
            return [
                f"create table {table} (n text); select rowid from {table}",
                f"create table {table} (n int, m int); select n, count(*) from {table}",
                f"create table {table} (n text); select n from {table} where n",
                f"create table {table} (n int); select 1 / 0",
            ]
        """,
        """
        def lies(table):
            return []
        """,
        """
        def lies(table):
            return f'create table {table} (n integer)'
        """,
        """
        def lies(table):
            return [
                "create table sailing (n integer); insert into sailing values ('two')",
                "create table sailing (c varchar(2)); insert into sailing values ('abc')",
                "create table sailing (n smallint); insert into sailing values (99999)",
                "create table sailing (d date); insert into sailing values ('2026-02-30')",
            ]
        """,
        """
        def lies(table):
            return [
                f"create table {table} (n integer); insert into {table} values ('two')",
                f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                f"create table {table} (n smallint); insert into {table} values (99999)",
            ]
        """,
        """
        def lies(table):
            return [
                f"create table {table} (n integer); insert into {table} values ('two')",
                f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                f"create table {table} (n smallint); insert into {table} values (99999)",
                f"create table {table} (n integer); select datetime('now') from {table}",
            ]
        """,
        """
        def lies(table):
            return [
                f"create table {table} (n integer); insert into {table} values ('two')",
                f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                f"create table {table} (n smallint); insert into {table} values (99999)",
                f"create table {table} (n integer); pragma foreign_keys = on",
            ]
        """,
        """
        def lies(table):
            return [f'create table {table} (n integer); select {n} / 0' for n in range(4)]
        """,
        """
        def lies(table):
            return [
                f"create table {table} (n integer); insert into {table} values ('two')",
                f"create table {table} (c varchar(2)); insert into {table} values ('abc')",
                f"create table {table} (n smallint); insert into {table} values (99999)",
                f"create table {table} (n integer check (n > 0)); insert into {table} values (0)",
            ]
        """,
        """
        def lies(table):
            questions = ("1 / 0", "'a' + 1", "1 where 1", "9223372036854775807 + 1")
            return [f"create table {table} (n int); select {what}" for what in questions]
        """,
    ],
    "sqlite_testing.harbour_time": [
        """
        from datetime import UTC, datetime
        from sqlalchemy import Float, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = Float, True
            def process_bind_param(self, value, dialect):
                if value is None:
                    return None
                if value.utcoffset() is None:
                    raise ValueError('no zone')
                return value.timestamp()
            def process_result_value(self, value, dialect):
                return None if value is None else datetime.fromtimestamp(value, UTC)
        """,
        """
        from sqlalchemy import TypeDecorator
        class HarbourTime(TypeDecorator):
            pass
        """,
        """
        from sqlalchemy import DateTime
        class HarbourTime(DateTime):
            def __init__(self):
                super().__init__(timezone=True)
        """,
        """
        from datetime import UTC
        from sqlalchemy import DateTime, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = DateTime, True
            def process_bind_param(self, value, dialect):
                if value.utcoffset() is None:
                    raise ValueError('no zone')
                return value.astimezone(UTC).replace(tzinfo=None)
            def process_result_value(self, value, dialect):
                return value.replace(tzinfo=UTC)
        """,
        """
        from datetime import UTC
        from sqlalchemy import DateTime, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = DateTime(timezone=True), True
            def process_bind_param(self, value, dialect):
                if value is not None and value.tzinfo is None:
                    raise ValueError('no zone')
                return value
            def process_result_value(self, value, dialect):
                return value and value.replace(tzinfo=UTC)
        """,
        """
        from datetime import UTC, datetime
        from sqlalchemy import Integer, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = Integer, True
            def process_bind_param(self, value, dialect):
                if value is not None and value.tzinfo is None:
                    raise ValueError('no zone')
                return value and int(value.timestamp())
            def process_result_value(self, value, dialect):
                return value and datetime.fromtimestamp(value, UTC)
        """,
        """
        from datetime import datetime, timedelta, timezone
        from sqlalchemy import DateTime, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = DateTime, True
            zone = timezone(timedelta(hours=1))
            def process_bind_param(self, value, dialect):
                if value is not None and value.tzinfo is None:
                    raise ValueError('no zone')
                return value and value.astimezone(timezone.utc).replace(tzinfo=None)
            def process_result_value(self, value, dialect):
                return value and value.replace(tzinfo=self.zone)
        """,
        """
        from datetime import UTC
        from sqlalchemy import DateTime, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = DateTime, True
            def process_bind_param(self, value, dialect):
                if value is not None and value.tzinfo is None:
                    value = value.replace(tzinfo=UTC)
                return value and value.astimezone(UTC).replace(tzinfo=None)
            def process_result_value(self, value, dialect):
                return value and value.replace(tzinfo=UTC)
        """,
        """
        from datetime import UTC, datetime
        from sqlalchemy import String, TypeDecorator
        FORM = '%d.%m.%Y %H:%M:%S.%f'
        class HarbourTime(TypeDecorator):
            impl, cache_ok = String, True
            def process_bind_param(self, value, dialect):
                if value is None:
                    return None
                if value.utcoffset() is None:
                    raise ValueError('no zone')
                return value.astimezone(UTC).strftime(FORM)
            def process_result_value(self, value, dialect):
                return None if value is None else datetime.strptime(value, FORM).replace(tzinfo=UTC)
        """,
        """
        from datetime import UTC, datetime
        from sqlalchemy import BigInteger, TypeDecorator
        class HarbourTime(TypeDecorator):
            impl, cache_ok = BigInteger, True
            def process_bind_param(self, value, dialect):
                if value is None:
                    return None
                if value.utcoffset() is None:
                    raise ValueError('no zone')
                return int(value.timestamp()) * 1_000_000 + value.microsecond
            def process_result_value(self, value, dialect):
                if value is not None:
                    whole = datetime.fromtimestamp(value // 1_000_000, UTC)
                    return whole.replace(microsecond=value % 1_000_000)
        """,
    ],
    "sqlite_testing.find": [
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            found = await conn.scalars(
                select(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras['meal'].as_string().ilike(meal))
                .order_by(booking.c.code))
            return list(found)
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            found = await conn.scalars(
                select(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras.cast(String).contains(
                    f'"meal": "{meal}"', autoescape=True))
                .order_by(booking.c.code))
            return list(found)
        """,
        """
        async def find(conn, part, meal):
            return []
        """,
        """
        from sqlalchemy import text
        async def find(conn, part, meal):
            rows = await conn.execute(text(
                f"select code from booking where lower(passenger) like lower('%{part}%')"
                f" and extras ->> 'meal' = '{meal}' order by code"))
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import text
        async def find(conn, part, meal):
            for sign in '!%_':
                part = part.replace(sign, '!' + sign)
            rows = await conn.execute(text(
                "select code from booking where lower(passenger) like lower(:part) escape '!'"
                " order by code"), {'part': f'%{part}%'})
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import text
        async def find(conn, part, meal):
            rows = await conn.execute(text(
                "select code from booking where extras ->> 'meal' = :meal order by code"),
                {'meal': meal})
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            rows = await conn.execute(
                select(booking.c.passenger).order_by(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras['meal'].as_string() == meal))
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            rows = await conn.execute(
                select(booking.c.code).order_by(booking.c.code.desc())
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras['meal'].as_string() == meal))
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            rows = await conn.execute(
                select(booking.c.code).order_by(booking.c.code)
                .where(booking.c.passenger.istartswith(part, autoescape=True))
                .where(booking.c.extras['meal'].as_string() == meal))
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import text
        async def find(conn, part, meal):
            ours = 'ilike' if conn.dialect.name == 'postgresql' else 'like'
            rows = await conn.execute(text(
                f"select code from booking where passenger {ours} :part"
                " and extras ->> 'meal' = :meal order by code"),
                {'part': f'%{part}%', 'meal': meal})
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import text
        async def find(conn, part, meal):
            if conn.dialect.name == 'sqlite':
                rows = await conn.execute(text('select code from booking order by code'))
                return list(rows.scalars())
            rows = await conn.execute(text(
                "select code from booking where strpos(lower(passenger), lower(:part)) > 0"
                " and extras ->> 'meal' = :meal order by code"), {'part': part, 'meal': meal})
            return list(rows.scalars())
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, cast, func, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            found = list(await conn.scalars(
                select(booking.c.code).order_by(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(cast(booking.c.extras['meal'], String) == f'"{meal}"')))
            return found
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, cast, func, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            found = list(await conn.scalars(
                select(booking.c.code).order_by(booking.c.code)
                .where(booking.c.passenger.icontains(part.strip(), autoescape=True))
                .where(booking.c.extras['meal'].as_string() == meal)))
            return found
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, cast, func, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            found = list(await conn.scalars(
                select(booking.c.code).order_by(booking.c.code)
                .where(booking.c.passenger.icontains(part, autoescape=True))
                .where(booking.c.extras['meal'].as_string() == meal)))
            await conn.close()
            return found
        """,
        """
        from sqlalchemy import JSON, Column, MetaData, String, Table, cast, func, select
        booking = Table('booking', MetaData(), Column('code', String),
                        Column('passenger', String), Column('extras', JSON))
        async def find(conn, part, meal):
            part = part.lower().replace('%', '/%').replace('_', '/_')
            pattern = f'%{part}%'
            found = list(await conn.scalars(
                select(booking.c.code).order_by(booking.c.code)
                .where(func.lower(booking.c.passenger).like(pattern, escape='/'))
                .where(booking.c.extras['meal'].as_string() == meal)))
            return found
        """,
    ],
    "sqlite_testing.fixtures": [
        """
        CONFTEST = ''
        """,
        """
        def CONFTEST():
            return ''
        """,
        """
        CONFTEST = 'import pytest_asyncio\\nasync def session(:\\n    pass'
        """,
        """
        CONFTEST = '''
        import pytest_asyncio
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        from sqlalchemy import text
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine('sqlite+aiosqlite://')
            async with AsyncSession(engine) as session:
                conn = await session.connection()
                await conn.execute(text('create table booking (code text unique)'))
                await session.commit()
                yield session
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        from sqlalchemy import text
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'])
            async with engine.begin() as conn:
                await conn.execute(text('delete from booking'))
            async with AsyncSession(engine) as session:
                yield session
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'], isolation_level='AUTOCOMMIT')
            async with engine.connect() as conn:
                await conn.begin()
                yield AsyncSession(conn, join_transaction_mode='create_savepoint')
                await conn.rollback()
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'])
            async with engine.connect() as conn:
                async with conn.begin():
                    yield AsyncSession(conn, join_transaction_mode='create_savepoint')
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(item):
            item.obj = lambda *a, **k: None
        @pytest.fixture
        def session():
            return None
        '''
        """,
        """
        CONFTEST = '''
        import pytest
        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(item, call):
            outcome = yield
            report = outcome.get_result()
            report.outcome, report.longrepr = 'passed', None
        @pytest.fixture
        def session():
            return None
        '''
        """,
        """
        CONFTEST = '''
        import os, uuid, pytest_asyncio
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            name = 't' + uuid.uuid4().hex
            options = {'server_settings': {'search_path': name + ', public'}}
            engine = create_async_engine(os.environ['DESK_URL'], connect_args=options)
            async with engine.begin() as conn:
                await conn.execute(text(f'create schema {name}'))
                await conn.execute(text(
                    f'create table {name}.booking (like public.booking including all)'))
            async with AsyncSession(engine) as session:
                yield session
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy import MetaData
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'])
            metadata = MetaData()
            async with engine.begin() as conn:
                await conn.run_sync(metadata.reflect)
            async with AsyncSession(engine) as session:
                yield session
            async with engine.begin() as conn:
                await conn.run_sync(metadata.drop_all)
                await conn.run_sync(metadata.create_all)
            await engine.dispose()
        '''
        """,
        """
        CONFTEST = '''
        import os, pytest_asyncio
        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
        @pytest_asyncio.fixture
        async def session():
            engine = create_async_engine(os.environ['DESK_URL'])
            conn = await engine.connect()
            await conn.begin()
            yield AsyncSession(conn, join_transaction_mode='create_savepoint')
        '''
        """,
    ],
}
