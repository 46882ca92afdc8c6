"""Plausible wrong answers for tables: each must fail, beside the slips."""

from checks import tables


def _but(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


_FLEET, _DECLARATIVE, _CORE, _ = tables.models.right
_DRIFT, _ALEMBIC, _SQL, *_ = tables.drift.right
_LOAD, _LOADER, *_ = tables.off_the_loop.right
_ONCE, _RETRY, *_ = tables.once_only.right
_LIFESPAN, _LIFESPAN_CLASS, *_ = tables.lifespan.right
_FILE, _LAZY, _BARE, _ = tables.database_file.right

WRONG = {
    "tables.models": [
        _but(_FLEET, ('"server_default": func.now()', '"server_default": "now"')),
        _but(
            _FLEET,
            ("seats: int = Field(default=1, sa", "seats: int | None = Field(default=1, sa"),
        ),
        _but(
            _FLEET,
            ("code: str = Field(unique=True, max_length=6)", "code: str = Field(unique=True)"),
        ),
        _but(_FLEET, ("name: str = Field(unique=True)", "name: str")),
        _but(_FLEET, ("Field(unique=True, max_length=6)", "Field(max_length=6)")),
        _but(_FLEET, ("note: str | None = None", "note: str")),
        _but(_FLEET, ('(CheckConstraint("seats > 0"),)', '(CheckConstraint("seats >= 0"),)')),
        _but(_FLEET, ("nullable=False, sa_column_kwargs", "nullable=True, sa_column_kwargs")),
        _but(_FLEET, ("return Base.metadata", "return SQLModel.metadata")),
        _but(_FLEET, ("return Base.metadata", "return Ferry, Sailing, Booking")),
        _but(_FLEET, ("class Booking(Base, table=True):", "class Booking(Base):")),
        _but(_DECLARATIVE, ("departs_at: Mapped[datetime]", "departure: Mapped[datetime]")),
        _but(
            _CORE,
            (
                "Index('by_departure', sailing.c.departs_at, sailing.c.ferry_id)",
                "Index('by_departure', sailing.c.ferry_id, sailing.c.departs_at)",
            ),
        ),
        _but(
            _CORE,
            (
                "nullable=False),\n              Column('departs",
                "nullable=True),\n              Column('departs",
            ),
        ),
        _but(_CORE, ("Identity(), primary_key=True", "primary_key=True, autoincrement=False")),
        """
        from sqlalchemy import MetaData
        fleet = MetaData
        """,
        _but(_CORE, ("UniqueConstraint('name')", "UniqueConstraint('name', 'seats')")),
        _but(
            _CORE,
            (
                "['booking'].c.code, unique",
                "['booking'].c.code, metadata.tables['booking'].c.sailing_id, unique",
            ),
        ),
        _but(_FLEET, ('foreign_key="sailing.id"', 'foreign_key="ferry.id"')),
        _but(_CORE, ("CheckConstraint('seats >= 1')", "CheckConstraint('seats > 1')")),
        _but(_CORE, ("between 1 and 500", "between 1 and 9")),
        _but(
            _CORE,
            (
                "Column('passenger', Text, nullable",
                "Column('passenger', Text, server_default='', nullable",
            ),
        ),
        _but(_FLEET, ('"server_default": func.now()', '"server_default": func.current_date()')),
        _but(_FLEET, ("max_length=6", "max_length=7")),
        _but(
            _CORE,
            (
                "ForeignKey('sailing.id'), nullable",
                "ForeignKey('sailing.id'), unique=True, nullable",
            ),
        ),
    ],
    "tables.drift": [
        _but(
            _DRIFT,
            ("columns.get(column.name)", "columns.get(column.key)"),
            ("{table.name}.{column.name}", "{table.name}.{column.key}"),
        ),
        _but(
            _DRIFT,
            (
                "real['nullable'] != column.nullable",
                "(real['nullable'] and not column.nullable)",
            ),
        ),
        _but(
            _DRIFT,
            (
                "or getattr(real['type'], 'length', None)\n",
                (
                    "or 'length' in vars(column.type) and column.type.length\n"
                    "                            and getattr(real['type'], 'length', None)\n"
                ),
            ),
        ),
        """
        async def drift(engine, metadata):
            return set()
        """,
        """
        from sqlalchemy import inspect
        async def drift(engine, metadata):
            async with engine.connect() as conn:
                names = await conn.run_sync(lambda c: inspect(c).get_table_names())
            return set(metadata.tables) - set(names)
        """,
        """
        async def drift(engine, metadata):
            async with engine.begin() as conn:
                await conn.run_sync(metadata.create_all)
            return set()
        """,
        _but(_DRIFT, ("found.add(table.name)\n                continue", "continue")),
        _but(
            _DRIFT,
            (
                "found.add(table.name)\n                continue",
                (
                    "found |= {f'{table.name}.{c.name}' for c in table.columns}\n"
                    "                continue"
                ),
            ),
        ),
        _but(_DRIFT, ("found.add(f'{table.name}.{column.name}')", "found.add(column.name)")),
        _but(_DRIFT, ("{table.name}:{i.name}", "{table.name}.{i.name}")),
        _but(_DRIFT, ("real is None\n", "False\n")),
        _but(_ALEMBIC, (" and rest[0].table.name not in missing", "")),
        """
        from sqlalchemy import inspect
        async def drift(engine, metadata):
            return set(inspect(engine).get_table_names()) ^ set(metadata.tables)
        """,
        """
        from sqlalchemy import MetaData
        async def drift(engine, metadata):
            there = MetaData()
            async with engine.connect() as conn:
                await conn.run_sync(there.reflect)
            def words(m):
                return {t.name for t in m.sorted_tables} | {
                    f'{t.name}.{c.name}' for t in m.sorted_tables for c in t.columns}
            return words(metadata) - words(there)
        """,
        _but(_SQL, (" where table_schema = current_schema()", "")),
        _but(_SQL, (" where schemaname = current_schema()", "")),
        _but(
            _DRIFT,
            ("getattr(real['type'], 'length', None)", "str(real['type'])"),
            ("getattr(column.type, 'length', None)", "str(column.type)"),
        ),
        _but(
            _DRIFT,
            (
                "async with engine.connect() as conn:\n        return",
                "conn = await engine.connect()\n    return",
            ),
        ),
    ],
    "tables.off_the_loop": [
        _but(_LOAD, (':seats_left)"), rows)', ':seats_left) on conflict do nothing"), rows)')),
        _but(
            _LOAD,
            (
                "async with engine.begin() as conn:",
                (
                    "async with engine.begin() as conn:\n"
                    "            await conn.execute(text('delete from sailing'))"
                ),
            ),
        ),
        """
        import asyncio
        from sqlalchemy import text
        async def load_timetable(engine, parse, blob):
            rows = await asyncio.to_thread(parse, blob)
            async with engine.begin() as conn:
                for row in rows:
                    await conn.execute(text(
                        "insert into sailing (ferry, departs_at, seats_left) values"
                        f" ('{row['ferry']}', '{row['departs_at']}', {row['seats_left']})"))
            return len(rows)
        """,
        """
        async def load_timetable(engine, parse, blob):
            return len(await __import__('asyncio').to_thread(parse, blob))
        """,
        _but(_LOAD, ("return len(rows)", "return True")),
        _but(_LOAD, ("return len(rows)", "pass")),
        _but(_LOAD, ("engine.begin()", "engine.connect()")),
        _but(_LOAD, ("), rows)", "), rows[:1])")),
        _but(_LOAD, ("asyncio.to_thread(parse, blob)", "parse(blob)")),
        """
        import asyncio
        from sqlalchemy import text
        async def load_timetable(engine, parse, blob):
            try:
                rows = await asyncio.to_thread(parse, blob)
                async with engine.begin() as conn:
                    await conn.execute(text(
                        "insert into sailing (ferry, departs_at, seats_left)"
                        " values (:ferry, :departs_at, :seats_left)"), rows)
                return len(rows)
            except Exception as error:
                print(error)
                return 0
        """,
        """
        import asyncio
        from sqlalchemy import text
        async def load_timetable(engine, parse, blob):
            rows, stored = await asyncio.to_thread(parse, blob), 0
            async with engine.begin() as conn:
                for row in rows:
                    try:
                        async with conn.begin_nested():
                            await conn.execute(text(
                                "insert into sailing (ferry, departs_at, seats_left)"
                                " values (:ferry, :departs_at, :seats_left)"), row)
                            stored += 1
                    except Exception:
                        pass
            return stored
        """,
        _but(_LOADER, ("session.begin():", "session:")),
        """
        import asyncio
        async def load_timetable(engine, parse, blob):
            rows = await asyncio.to_thread(parse, blob)
            names = ['ferry', 'departs_at', 'seats_left']
            async with engine.begin() as conn:
                raw = (await conn.get_raw_connection()).driver_connection
                found = [tuple(row[name] for name in names) for row in rows]
                await raw.copy_records_to_table('sailing', records=found, columns=names)
            return len(rows)
        """,
        """
        import asyncio
        from sqlalchemy import text
        async def load_timetable(engine, parse, blob):
            rows = await asyncio.to_thread(parse, blob)
            for row in rows:
                row['departs_at'] = row['departs_at'].replace(tzinfo=None)
            async with engine.begin() as conn:
                await conn.execute(text(
                    'insert into sailing (ferry, departs_at, seats_left)'
                    ' values (:ferry, :departs_at, :seats_left)'), rows)
            return len(rows)
        """,
        """
        import asyncio
        from sqlalchemy import text
        async def load_timetable(engine, parse, blob):
            rows = await asyncio.to_thread(parse, blob)
            async with create_async_engine(engine.url).begin() as conn:
                await conn.execute(text(
                    'insert into sailing (ferry, departs_at, seats_left)'
                    ' values (:ferry, :departs_at, :seats_left)'), rows)
            return len(rows)
        """,
        _but(_LOAD, ("parse, blob)", "parse, blob.decode())")),
    ],
    "tables.once_only": [
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.connect() as conn:
                await conn.execute(text("select pg_advisory_lock(1851)"))
                await conn.run_sync(metadata.create_all)
                await conn.commit()
                await conn.execute(text("select pg_advisory_unlock(1851)"))
                await conn.commit()
        """,
        """
        async def prepare(engine, metadata):
            print(f"{len(metadata.tables)} tables, ready")
        """,
        """
        done = False
        async def prepare(engine, metadata):
            global done
            if not done:
                done = True
                async with engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
        """,
        """
        import asyncio, random
        async def prepare(engine, metadata):
            await asyncio.sleep(random.random() / 10)
            async with engine.begin() as conn:
                await conn.run_sync(metadata.create_all)
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.connect() as conn:
                await conn.execution_options(isolation_level='SERIALIZABLE')
                await conn.run_sync(metadata.create_all)
                await conn.commit()
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                await conn.run_sync(metadata.create_all)
                await conn.execute(text("select pg_advisory_xact_lock(1)"))
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                await conn.execute(text("select pg_advisory_xact_lock(1)"))
            async with engine.begin() as conn:
                await conn.run_sync(metadata.create_all)
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                if await conn.scalar(text("select pg_try_advisory_xact_lock(1)")):
                    await conn.run_sync(metadata.create_all)
        """,
        """
        async def prepare(engine, metadata):
            async with engine.connect() as conn:
                await conn.run_sync(metadata.create_all)
        """,
        _but(
            _ONCE,
            ("await conn.run_sync(metadata.create_all)", "await conn.run_sync(metadata.drop_all)"),
        ),
        _but(_RETRY, ("raise\n", "return\n")),
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                await conn.execute(text("select pg_advisory_lock(1851)"))
                try:
                    await conn.run_sync(metadata.create_all)
                finally:
                    await conn.execute(text("select pg_advisory_unlock(1851)"))
        """,
        """
        import asyncio
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                while not await conn.scalar(text("select pg_try_advisory_lock(1851)")):
                    await asyncio.sleep(0.01)
                await conn.run_sync(metadata.create_all)
                await conn.execute(text("select pg_advisory_unlock_all()"))
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.connect() as guard:
                await guard.execute(text("select pg_advisory_xact_lock(99)"))
                async with engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
                    await guard.rollback()
        """,
        """
        import fcntl, tempfile
        from pathlib import Path
        async def prepare(engine, metadata):
            with Path(tempfile.gettempdir(), 'tables.lock').open('w') as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                async with engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
        """,
        _but(_ONCE, ("19250814", "{abs(hash(('skerry', 7)))}"), ('text("', 'text(f"')),
        """
        from sqlalchemy import inspect, text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                there = await conn.run_sync(lambda c: inspect(c).get_table_names())
                await conn.execute(text("select pg_advisory_xact_lock(5)"))
                for table in metadata.sorted_tables:
                    if table.name not in there:
                        await conn.run_sync(table.create)
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                await conn.execute(text('select pg_advisory_xact_lock(7)'))
                await conn.run_sync(metadata.drop_all)
                await conn.run_sync(metadata.create_all)
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.begin() as conn:
                await conn.execute(text('select pg_advisory_lock(7)'))
                try:
                    await conn.run_sync(metadata.create_all)
                finally:
                    await conn.execute(text('select pg_advisory_unlock(7)'))
        """,
        """
        import asyncio
        from sqlalchemy.exc import DBAPIError
        async def prepare(engine, metadata):
            while True:
                try:
                    async with engine.begin() as conn:
                        await conn.run_sync(metadata.create_all)
                    return
                except DBAPIError:
                    await asyncio.sleep(0.05)
        """,
    ],
    "tables.lifespan": [
        """
        from contextlib import asynccontextmanager
        def make_lifespan(url, metadata):
            @asynccontextmanager
            async def lifespan(app):
                app.state.engine = create_async_engine(url)
                async with app.state.engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
                try:
                    yield
                finally:
                    await app.state.engine.dispose()
            return lifespan
        """,
        """
        class Lifespan:
            def __init__(self, url, metadata, app):
                self.engine, self.metadata, self.app = create_async_engine(url), metadata, app
            async def __aenter__(self):
                async with self.engine.begin() as conn:
                    await conn.run_sync(self.metadata.create_all)
                self.app.state.engine = self.engine
            async def __aexit__(self, *error):
                await self.engine.dispose()
        def make_lifespan(url, metadata):
            return lambda app: Lifespan(url, metadata, app)
        """,
        """
        from contextlib import asynccontextmanager
        def make_lifespan(url, metadata):
            @asynccontextmanager
            async def lifespan(app):
                engine = create_async_engine(url)
                try:
                    async with engine.begin() as conn:
                        await conn.run_sync(metadata.create_all)
                    app.state.engine = engine
                    yield
                except Exception:
                    await engine.dispose()
                    raise
                else:
                    await engine.dispose()
            return lifespan
        """,
        """
        def make_lifespan(url, metadata):
            return create_async_engine(url)
        """,
        """
        from contextlib import asynccontextmanager
        def make_lifespan(url, metadata):
            @asynccontextmanager
            async def lifespan(app):
                app.state.engine = create_async_engine(url)
                yield
                await app.state.engine.dispose()
            return lifespan
        """,
        _but(_LIFESPAN, ("engine.begin()", "engine.connect()")),
        _but(_LIFESPAN, ("app.state.engine", "engine")),
        _but(
            _LIFESPAN,
            ("        try:\n", "        made = app.state.engine\n        try:\n"),
            ("await app.state.engine.dispose()", "made.sync_engine.dispose(close=False)"),
        ),
        _but(
            _LIFESPAN,
            ("await conn.run_sync(metadata.create_all)", "await conn.run_sync(metadata.drop_all)"),
        ),
        _but(
            _LIFESPAN,
            (
                "yield\n",
                "pass\n            yield\n            await app.state.engine.dispose()\n",
            ),
            ("        finally:\n", "        except ZeroDivisionError:\n"),
        ),
        _but(_LIFESPAN_CLASS, ("        self.app.state.engine = self.engine\n", "")),
        """
        import asyncio
        from contextlib import asynccontextmanager
        def make_lifespan(url, metadata):
            @asynccontextmanager
            async def lifespan(app):
                app.state.engine = create_async_engine(url)
                async def create():
                    async with app.state.engine.begin() as conn:
                        await conn.run_sync(metadata.create_all)
                asyncio.create_task(create())
                try:
                    yield
                finally:
                    await app.state.engine.dispose()
            return lifespan
        """,
        """
        from contextlib import asynccontextmanager
        def make_lifespan(url, metadata):
            @asynccontextmanager
            async def lifespan(app):
                app.state.engine = create_async_engine(url)
                try:
                    try:
                        async with app.state.engine.begin() as conn:
                            await conn.run_sync(metadata.create_all)
                    except OSError:
                        print('Postgres is away')
                    yield
                finally:
                    await app.state.engine.dispose()
            return lifespan
        """,
    ],
    "tables.database_file": [
        _but(
            _FILE,
            (
                "        await conn.run_sync(SQLModel.metadata.create_all)",
                (
                    "        await conn.run_sync(SQLModel.metadata.drop_all)\n"
                    "        await conn.run_sync(SQLModel.metadata.create_all)"
                ),
            ),
        ),
        _but(
            _FILE,
            (
                "run_sync(SQLModel.metadata.create_all)",
                "run_sync(SQLModel.metadata.create_all, checkfirst=False)",
            ),
        ),
        "def database_py():\n    return ''\n",
        "def database_py():\n    return 'from database import *'\n",
        "database_py = lambda: '```python\\nengine = None\\n```'\n",
        _but(_FILE, ("import SQLModel\n", "import SQLModelo\n")),
        _but(
            _FILE,
            ("engine = create", "motor = create"),
            ("engine.begin", "motor.begin"),
            ("make_session = async_sessionmaker(engine", "make_session = async_sessionmaker(motor"),
        ),
        _but(_FILE, ('postgresql+asyncpg")', 'postgresql+psycopg2")')),
        _but(_FILE, ("pool_pre_ping=True, pool_recycle=280", "")),
        _but(_FILE, ("pool_recycle=280", "pool_recycle=3600")),
        _but(_FILE, ("pool_recycle=280", "pool_recycle=300")),
        _but(
            _FILE,
            (
                "        yield session\n",
                """        try:
            yield session
        finally:
            await session.commit()
""",
            ),
        ),
        _but(
            _FILE,
            (
                "        yield session\n",
                """        try:
            yield session
        except Exception as error:
            raise RuntimeError('database error') from error
""",
            ),
        ),
        _but(_FILE, ("engine = create", "print('using', str(os.environ))\nengine = create")),
        _but(
            _FILE,
            (
                "engine = create",
                """import logging
logging.basicConfig(level=logging.INFO)
logging.info('using %s', url.render_as_string(hide_password=False))
engine = create""",
            ),
        ),
        _but(_FILE, ("await conn.run_sync(SQLModel.metadata.create_all)", "pass")),
        _but(
            _FILE,
            (
                "await conn.run_sync(SQLModel.metadata.create_all)",
                "SQLModel.metadata.create_all(conn)",
            ),
        ),
        _but(
            _FILE,
            (
                "async with make_session() as session:\n        yield session",
                "yield make_session()",
            ),
        ),
        _but(_LAZY, ("create_db_and_tables", "create_tables")),
        _but(_BARE, ('environ["DATABASE_URL"]', 'environ.get("DATABASE_URL", "sqlite://x")')),
        _but(
            _FILE,
            (
                "engine = create",
                "import logging\n\nlogging.debug(url.render_as_string(False))\nengine = create",
            ),
        ),
        _but(
            _FILE,
            (
                "    async with make_session() as session:\n        yield session",
                "    session = make_session()\n    yield session\n    await session.close()",
            ),
        ),
        _but(
            _FILE,
            (
                "async def get_session",
                "import contextlib\n\n\n@contextlib.asynccontextmanager\nasync def get_session",
            ),
        ),
    ],
}
