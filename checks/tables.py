"""08 tables: from models to the catalog."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from engineroom.exercises import Draw, Lesson, Objective, Slip, Trial, expect
from engineroom.exercises.tools import closed_port

lesson = Lesson(
    "tables",
    "From models to tables",
    minutes=60,
    objectives=(
        Objective(
            "tables.models",
            "Write models whose rules Postgres itself enforces, and read them in its catalog",
            "apply",
            "B1",
            "Tables and models",
        ),
        Objective(
            "tables.create",
            "Say what create_all does, what it leaves as it is, and on which thread",
            "analyze",
            "B1",
            "Tables and models",
        ),
        Objective(
            "tables.start",
            "Make the tables when a program starts, also when several start at once",
            "apply",
            "B2",
            "Tables and models",
        ),
        Objective(
            "tables.judge",
            "Judge a whole database.py by what it does, whoever wrote it",
            "evaluate",
            "B1",
            "Tables and models",
        ),
    ),
    stuck="One table, one `create_all`, one look into the catalog; *Stuck?*, near the end, "
    "has them "
    "in a dozen lines.",
    further="Paste a whole `database.py` that somebody else wrote, and let Postgres find its gaps.",
    codes={
        "TAB-01": "Postgres stored a row that a model forbids. `Field(gt=0)` is a rule of "
        "pydantic's, and on a table model not even pydantic looks at it. What Postgres shall "
        "refuse "
        "has to stand in the table: `CheckConstraint('seats > 0')` in `__table_args__`.",
        "TAB-02": "Postgres stored a row that points to nothing. `foreign_key='ferry.id'` (or "
        "`ForeignKey('ferry.id')`) makes it look. See `pg_constraint`, `contype = 'f'`.",
        "TAB-03": "A second call failed, because the table was in the `MetaData` already. "
        "`SQLModel.metadata` is one for the whole process; a function that makes models, and a "
        "cell that is run twice, need a `MetaData` of their own: "
        "`class Base(SQLModel, registry=registry())`.",
        "TAB-04": "A default that only Python knows is no help to a row that comes by another way: "
        "a script, an import, a colleague's psql. `server_default` puts it into the table. See "
        "`column_default` in `information_schema.columns`.",
        "TAB-05": "`timestamp without time zone` keeps what the clock on the wall said, and "
        "forgets "
        "which wall. Ask for `DateTime(timezone=True)`; the catalog then says `timestamp with "
        "time zone`.",
        "TAB-06": "Postgres stored a row in which a required value was missing. A type that may be "
        "`None` becomes a column that may be NULL.",
        "TAB-07": "Departures are looked up by time, and no index begins with that column: "
        "`index=True`. See `pg_indexes`.",
        "TAB-08": "A code has six characters at most, and Postgres took seven. `max_length=6` or "
        "`String(6)` makes it `varchar(6)`.",
        "TAB-09": "Two rows had the same value where each should have its own: `unique=True`.",
        "TAB-10": "The tables are not those of the task: look at the names of tables and columns "
        "once more, and at what may be left out of an INSERT.",
        "TAB-11": "A column is in the models and not in the table, or of another length, and your "
        "function did not say so. Compare the columns, and not only the names of tables.",
        "TAB-12": "An index is in the models and not in the database. "
        "`inspect(conn).get_indexes(table)` lists those that are there.",
        "TAB-13": "What is in the database and in no model is none of our business: somebody else "
        "may need it.",
        "TAB-14": "The function was to look, and it changed something.",
        "TAB-15": "A table is missing. Name it by itself, and not each of its columns.",
        "TAB-16": "NOT NULL in the model and not in the table, or the other way round: "
        "`get_columns` gives `nullable`.",
        "TAB-17": "Models and tables agreed in this, and your function named it.",
        "TAB-21": "`run_sync` runs a function on the event loop's own thread: it lets SQLAlchemy "
        "wait inside, and nothing else. Work that takes time belongs into another thread: "
        "`asyncio.to_thread`.",
        "TAB-22": "`parse` ran on the loop's thread: meanwhile no other request got a turn.",
        "TAB-23": "While the file was read, a connection was held. Parse first, then take one.",
        "TAB-24": "One sailing was refused, and others of the same timetable stayed. One "
        "transaction for all: `async with engine.begin()`.",
        "TAB-25": "The rows in Postgres are not those that `parse` gave, or the number returned is "
        "another one.",
        "TAB-26": "An error was swallowed: the caller believes that the timetable is there.",
        "TAB-31": "Two looked, neither saw a table, and both made it. To look and then to create "
        "are two steps, and a transaction does not make them one. Something has to make the second "
        "starter wait *before it looks*.",
        "TAB-32": "`IF NOT EXISTS` looks first too. Whoever comes while the other one's table is "
        "not yet committed sees none, and meets it in the catalog's unique index.",
        "TAB-33": "An `asyncio.Lock` lives in one process. Workers are other processes, perhaps on "
        "other machines; what they share is the database.",
        "TAB-34": "An error was hidden, and with it that a table was not made. Look again after "
        "an error, or let it pass on.",
        "TAB-35": "`pg_advisory_lock` is held until it is unlocked or its connection ends, and a "
        "pool keeps connections. The next worker waits for ever. `pg_advisory_xact_lock` ends with "
        "the transaction. See `pg_locks`, `locktype = 'advisory'`.",
        "TAB-36": "A starter failed, or did not make the tables, although nobody was in its way.",
        "TAB-37": "A lock is known by its number, and your workers came with different ones. "
        "`hash()` of a text is another number in each process; a process's own number is, too. "
        "Write a number down, or let Postgres reckon: `hashtext('tables')`.",
        "TAB-41": "Something was sent to Postgres before the application started. Importing a "
        "module, and making the lifespan, should connect to nobody.",
        "TAB-42": "The application had stopped, and connections stayed open. What stands after "
        "`yield` closes: `await engine.dispose()`.",
        "TAB-43": "The database was away, or refused, and the application said it was ready. Let "
        "the error end the start: whoever started it then knows.",
        "TAB-44": "The application ended with an error, and connections stayed open: what stands "
        "after `yield` was never reached. `try` and `finally`.",
        "TAB-45": "An error of the application was swallowed by its lifespan.",
        "TAB-46": "When the application was ready, its tables were not.",
        "TAB-47": "`app.state.engine` was not an engine of that database.",
        "TAB-51": "The file could not be used as it stands. Read the error, and tell your "
        "assistant; `import database` shows the same.",
        "TAB-52": "Without `DATABASE_URL` the file made an engine all the same. In production that "
        "means: it starts, looks well, and keeps its data where nobody looks. "
        "`os.environ['DATABASE_URL']` raises a `KeyError`.",
        "TAB-53": "The URL as hosts hand it out was not understood. `postgres://` is no dialect of "
        "SQLAlchemy's, and `postgresql://` names no asyncpg.",
        "TAB-54": "`create_db_and_tables()` came to its end, and the table is not there. Was the "
        "transaction committed? `engine.begin()` does, `engine.connect()` does not.",
        "TAB-55": "`get_session` should `yield` one session to each request, and close it "
        "afterwards: `async with`, and `yield` inside.",
        "TAB-56": "Two requests had the same session: what one rolls back, the other one loses.",
        "TAB-57": "After the commit the object's values could not be read: commit expires them, "
        "and reading them again would need an await. `expire_on_commit=False`.",
        "TAB-58": "A host had cut the resting connections, and the next request failed. "
        "`pool_pre_ping=True` asks first.",
        "TAB-59": "A connection rested for almost five minutes and was used again. "
        "`pool_recycle`, below what the host allows: a statement takes time, too.",
        "TAB-60": "A request was over, and its connection was not given back.",
        "TAB-61": "An error of a route comes out of the `yield`. Undo what is not committed, and "
        "let the error pass on: `raise`. `async with` around the `yield` does both.",
        "TAB-62": "What a program prints is kept in logs, and many can read those. "
        "`print(engine.url)` writes three stars in place of the password; the text of "
        "`DATABASE_URL`, and `hide_password=False`, do not.",
    },
)


# -- models --------------------------------------------------------------------------------


async def launch(fleet: Any, url: str) -> AsyncIterator[Any]:
    """Ask for the models twice, as a cell that is run twice does; make the second ones' tables."""
    from sqlalchemy.ext.asyncio import create_async_engine

    for _ in range(2):
        metadata = fleet()
        yield hasattr(metadata, "create_all")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield None
    await engine.dispose()


def _but(text: str, *changes: tuple[str, str]) -> str:
    """The same program, with these changes: how most mistakes come about."""
    for old, new in changes:
        assert old in text, f"the program does not say {old!r}"
        text = text.replace(old, new)
    return text


_FLEET_SQLMODEL = """
    from datetime import datetime
    from sqlalchemy import CheckConstraint, func
    from sqlalchemy.orm import registry
    from sqlmodel import Field, SQLModel

    def fleet():
        class Base(SQLModel, registry=registry()):
            pass

        class Ferry(Base, table=True):
            __table_args__ = (CheckConstraint("seats > 0"),)
            id: int | None = Field(default=None, primary_key=True)
            name: str = Field(unique=True)
            seats: int

        class Sailing(Base, table=True):
            id: int | None = Field(default=None, primary_key=True)
            ferry_id: int = Field(foreign_key="ferry.id")
            departs_at: datetime = Field(index=True)

        class Booking(Base, table=True):
            __table_args__ = (CheckConstraint("seats > 0"),)
            id: int | None = Field(default=None, primary_key=True)
            sailing_id: int = Field(foreign_key="sailing.id")
            code: str = Field(unique=True, max_length=6)
            passenger: str
            note: str | None = None
            seats: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
            created_at: datetime | None = Field(
                default=None, nullable=False, sa_column_kwargs={"server_default": func.now()})

        return Base.metadata
"""
_FLEET_DECLARATIVE = """
    from datetime import datetime
    from sqlalchemy import CheckConstraint, DateTime, ForeignKey, String, func
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    def fleet():
        class Base(DeclarativeBase):
            type_annotation_map = {datetime: DateTime(timezone=True)}

        class Ferry(Base):
            __tablename__ = "ferry"
            __table_args__ = (CheckConstraint("seats > 0", name="ferry_has_seats"),)
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(unique=True)
            seats: Mapped[int]

        class Sailing(Base):
            __tablename__ = "sailing"
            id: Mapped[int] = mapped_column(primary_key=True)
            ferry_id: Mapped[int] = mapped_column(ForeignKey("ferry.id"))
            departs_at: Mapped[datetime] = mapped_column(index=True)

        class Booking(Base):
            __tablename__ = "booking"
            __table_args__ = (CheckConstraint("seats > 0", name="booking_has_seats"),)
            id: Mapped[int] = mapped_column(primary_key=True)
            sailing_id: Mapped[int] = mapped_column(ForeignKey("sailing.id"))
            code: Mapped[str] = mapped_column(String(6), unique=True)
            passenger: Mapped[str]
            note: Mapped[str | None]
            seats: Mapped[int] = mapped_column(server_default="1")
            created_at: Mapped[datetime] = mapped_column(server_default=func.now())

        return Base.metadata
"""
_FLEET_CORE = """
    from sqlalchemy import (BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity,
                            Index, Integer, MetaData, Table, Text, UniqueConstraint, text)
    class Fleet:
        def __call__(self):
            metadata = MetaData()
            def key():
                return Column('id', BigInteger, Identity(), primary_key=True)
            Table('ferry', metadata, key(), Column('name', Text, nullable=False),
                  Column('seats', Integer, nullable=False), UniqueConstraint('name'),
                  CheckConstraint('seats >= 1'))
            sailing = Table('sailing', metadata, key(),
                  Column('ferry_id', None, ForeignKey('ferry.id', ondelete='cascade'),
                         nullable=False),
                  Column('departs_at', DateTime(True), nullable=False))
            Index('by_departure', sailing.c.departs_at, sailing.c.ferry_id)
            Table('booking', metadata, key(),
                  Column('sailing_id', None, ForeignKey('sailing.id'), nullable=False),
                  Column('code', Text, CheckConstraint('length(code) <= 6'), nullable=False),
                  Column('passenger', Text, nullable=False), Column('note', Text),
                  Column('seats', Integer, CheckConstraint('seats between 1 and 500'),
                         nullable=False, server_default=text('1')),
                  Column('created_at', DateTime(timezone=True), nullable=False,
                         server_default=text('clock_timestamp()')))
            Index('one_code', metadata.tables['booking'].c.code, unique=True)
            return metadata
    fleet = Fleet()
"""
_FLEET_ONCE = (
    _FLEET_DECLARATIVE.replace("def fleet():", "def make():") + "\n    MODELS = make()\n"
    "    fleet = lambda: MODELS\n"
)


@lesson.exercise(
    "fleet",
    points=4,
    measures=("tables.models",),
    task="Write `fleet()`: a `MetaData` of its own with the tables `ferry`, `sailing` and "
    "`booking` "
    "of the list above, with rules that Postgres itself enforces. It may be called any number of "
    "times.",
    hints=(
        "Who sees a row that somebody stores with psql: your Python, or Postgres?",
        (
            "Foreign keys, `unique`, NOT NULL and lengths are arguments of `Field`. A rule about "
            "values is a `CheckConstraint`, and a default for everybody a `server_default`."
        ),
        (
            "`class Base(SQLModel, registry=registry()): pass` gives a `MetaData` of its own; "
            "`__table_args__ = (CheckConstraint('seats > 0'),)`; "
            "`sa_column_kwargs={'server_default': '1'}`"
        ),
    ),
    slips=(
        Slip(
            "python_only",
            "TAB-01",
            "Postgres stored a row with no seats at all: `Field(gt=0)` is no constraint.",
            (
                _but(
                    _FLEET_SQLMODEL,
                    ('__table_args__ = (CheckConstraint("seats > 0"),)', "pass"),
                    ("seats: int\n", "seats: int = Field(gt=0)\n"),
                    ("Field(default=1,", "Field(default=1, gt=0,"),
                ),
                _but(
                    _FLEET_DECLARATIVE,
                    ('(CheckConstraint("seats > 0", name="ferry_has_seats"),)', "()"),
                    ('(CheckConstraint("seats > 0", name="booking_has_seats"),)', "()"),
                    (
                        "return Base.metadata",
                        """from sqlalchemy.orm import validates
        def positive(self, key, value):
            assert value > 0
            return value
        for model in (Ferry, Booking):
            model.positive = validates('seats')(positive)
        return Base.metadata""",
                    ),
                ),
            ),
        ),
        Slip(
            "no_fk",
            "TAB-02",
            "Postgres stored a row that points to nothing: who looks whether the other one is "
            "there?",
            (
                _but(
                    _FLEET_SQLMODEL,
                    (' = Field(foreign_key="ferry.id")', ""),
                    (' = Field(foreign_key="sailing.id")', ""),
                ),
                _but(
                    _FLEET_DECLARATIVE,
                    ('mapped_column(ForeignKey("sailing.id"))', "mapped_column(index=True)"),
                ),
            ),
        ),
        Slip(
            "twice",
            "TAB-03",
            "The second call failed: `SQLModel.metadata` has these tables already. Take a "
            "`MetaData` "
            "of your own each time.",
            (
                _but(
                    _FLEET_SQLMODEL,
                    (
                        """        class Base(SQLModel, registry=registry()):
            pass

""",
                        "",
                    ),
                    ("(Base, table", "(SQLModel, table"),
                    ("Base.metadata", "SQLModel.metadata"),
                ),
                _but(
                    _FLEET_DECLARATIVE,
                    ("    def fleet():\n        class Base(", "    class Base("),
                    ("            type_ann", "        type_ann"),
                    ("        class Ferry(", "    def fleet():\n        class Ferry("),
                ),
            ),
        ),
        Slip(
            "python_default",
            "TAB-04",
            "A row that another program stored had no default: yours is in Python, not in the "
            "table.",
            (
                _but(
                    _FLEET_SQLMODEL,
                    (', sa_column_kwargs={"server_default": "1"}', ""),
                    (
                        (
                            'default=None, nullable=False, sa_column_kwargs={"server_default": '
                            "func.now()}"
                        ),
                        "default_factory=datetime.now, nullable=False",
                    ),
                ),
                _but(
                    _FLEET_DECLARATIVE,
                    ('server_default="1"', "default=1"),
                    ("server_default=func.now()", "default=func.now()"),
                ),
            ),
        ),
        Slip(
            "naive",
            "TAB-05",
            "The catalog says `timestamp without time zone`: on which clock does the ferry leave?",
            (
                _but(
                    _FLEET_SQLMODEL,
                    ("import CheckConstraint, func", "import CheckConstraint, DateTime, func"),
                    ("Field(index=True)", "Field(index=True, sa_type=DateTime)"),
                    ("default=None, nullable", "default=None, sa_type=DateTime, nullable"),
                ),
                _but(
                    _FLEET_DECLARATIVE,
                    ("type_annotation_map = {datetime: DateTime(timezone=True)}", "pass"),
                ),
            ),
        ),
        Slip(
            "nullable",
            "TAB-06",
            "Postgres stored a row without a value that has to be there: `| None` allows NULL.",
            (
                _but(_FLEET_SQLMODEL, ("passenger: str\n", "passenger: str | None = None\n")),
                _but(
                    _FLEET_DECLARATIVE,
                    ("passenger: Mapped[str]\n", "passenger: Mapped[str | None]\n"),
                    ("departs_at: Mapped[datetime]", "departs_at: Mapped[datetime | None]"),
                ),
            ),
        ),
        Slip(
            "no_index",
            "TAB-07",
            "No index begins with `sailing.departs_at`, says the catalog.",
            (
                _but(_FLEET_SQLMODEL, ("datetime = Field(index=True)", "datetime")),
                _but(
                    _FLEET_DECLARATIVE,
                    (
                        "departs_at: Mapped[datetime] = mapped_column(index=True)",
                        "departs_at: Mapped[datetime]",
                    ),
                ),
            ),
        ),
    ),
    right=(_FLEET_SQLMODEL, _FLEET_DECLARATIVE, _FLEET_CORE, _FLEET_ONCE),
)
async def models(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    steps = trial.subject.steps(launch, trial.lab.url)
    expect(await steps.next(), "TAB-10", "`fleet()` should return a `MetaData`.")
    again = await steps.outcome()
    twice = again.failure is not None and "already defined" in again.failure.message
    expect(not twice, "TAB-03")
    expect(again.ok and again.value, "TAB-10", "The second call of `fleet()` failed.")
    await steps.next()
    columns = await _columns(witness)
    for table, wanted in _COLUMNS.items():
        found = ", ".join(columns.get(table, ["no such table"]))
        expect(columns.get(table) == wanted, "TAB-10", f"The catalog has of `{table}`: {found}.")
    naive = await witness.fetch(_NAIVE)
    expect(not naive, "TAB-05")
    for row in await witness.fetch(_NO_NUMBERS):
        expect(False, "TAB-10", _NO_NUMBER.format(*row.values()))
    expect(not await witness.fetch(_FROZEN), "TAB-04", _ONE_MOMENT)
    words = {f"{{{n}}}": draw.word() for n in range(6)}
    for statement, states, code, text in _ROWS:
        said = await _told(witness, statement, words)
        expect(said in states.split("|"), code, text.format(said=said))
    expect(await witness.fetch(_INDEXED), "TAB-07")


_COLUMNS = {
    "ferry": ["id", "name", "seats"],
    "sailing": ["departs_at", "ferry_id", "id"],
    "booking": ["code", "created_at", "id", "note", "passenger", "sailing_id", "seats"],
}
_NAIVE = """
    select 1 from information_schema.columns where table_schema = 'public'
    and column_name in ('departs_at', 'created_at') and data_type <> 'timestamp with time zone'
"""
_NO_NUMBERS = """
    select table_name, column_name, data_type from information_schema.columns
    where table_schema = 'public' and table_name in ('ferry', 'sailing', 'booking')
    and (column_name = 'seats' or column_name ~ 'id$') and numeric_precision is null
"""
_NO_NUMBER = "The catalog says that `{}.{}` is {}: a number was asked for."
_FROZEN = """
    select 1 from information_schema.columns where table_schema = 'public'
    and column_name = 'created_at' and column_default ~ '^''[0-9]{4}-'
"""
_ONE_MOMENT = (
    "The default of `created_at` is the moment at which the table was made, for every row."
)
_INDEXED = """
    select 1 from pg_catalog.pg_index i join pg_catalog.pg_attribute a
    on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.sailing'::regclass and i.indisvalid and i.indpred is null
    and a.attname = 'departs_at'
"""
_SAILING = "insert into public.sailing (ferry_id, departs_at) {}"
_BOOKING = "insert into public.booking (sailing_id, code, passenger{}) select id, {} {}"
_FIRST = "from public.sailing limit 1"
_ROWS: tuple[tuple[str, str, str, str], ...] = (
    # A statement, the SQLSTATE with which it should end, and what it means if it does not.
    (
        "insert into public.ferry (name, seats) values ('{0}', 1), ('{1}', 2000)",
        "",
        "TAB-10",
        "A plain ferry, with a name and 1 or 2,000 seats, was not taken: Postgres said {said}.",
    ),
    (
        # More sailings than ferries: who points to a ferry where a sailing is meant finds none.
        _SAILING.format("select id, now() from public.ferry, generate_series(1, 2)"),
        "",
        "TAB-10",
        "A plain sailing, with ferry and departure, was not taken: Postgres said {said}.",
    ),
    (
        _BOOKING.format(", note, seats, created_at", "left('{2}', 3), '{3}', null, 60, now()", "")
        + _FIRST,
        "",
        "TAB-10",
        "A complete booking, of 60 seats, was not taken: Postgres said {said}.",
    ),
    (
        _BOOKING.format(", seats, created_at", "'x8', '{3}', 60, now()", _FIRST),
        "",
        "TAB-10",
        "A passenger's second booking for a sailing was not taken: Postgres said {said}.",
    ),
    (
        _BOOKING.format(
            ", seats, created_at",
            "'x0', '{3}', 1, now()",
            "from public.sailing order by id desc limit 1",
        ),
        "",
        "TAB-02",
        "A booking for a sailing that is there was not taken: where does `sailing_id` point to?",
    ),
    (
        _BOOKING.format("", "'{4}'::varchar(6), '{3}'", _FIRST),
        "",
        "TAB-04",
        "",
    ),
    (
        (
            "select 1 / (1 - count(*)) from public.booking where code = left('{4}', 6)"
            " and (seats is null or created_at is null)"
        ),
        "",
        "TAB-04",
        "",
    ),
    (
        (
            "select 1 / count(*) from public.booking where seats = 1 and code = left('{4}', 6)"
            " and created_at between now() - interval '1 minute' and now() + interval '1 minute'"
        ),
        "",
        "TAB-04",
        "Nobody said how many seats, and when: Postgres stored something else than 1 and now.",
    ),
    ("insert into public.ferry (name, seats) values ('{5}', 0)", "23514", "TAB-01", ""),
    ("insert into public.ferry (name, seats) values ('{5}', -4)", "23514", "TAB-01", ""),
    (
        _BOOKING.format(", seats", "'x1', '{3}', 0", _FIRST),
        "23514",
        "TAB-01",
        "",
    ),
    ("insert into public.ferry (seats) values (4)", "23502", "TAB-06", ""),
    (
        _BOOKING.format(", seats", "'x6', '{3}', null", _FIRST),
        "23502",
        "TAB-06",
        "",
    ),
    ("insert into public.ferry (name) values ('{5}')", "23502", "TAB-06", ""),
    ("insert into public.sailing (departs_at) values (now())", "23502", "TAB-06", ""),
    ("insert into public.sailing (ferry_id) select id from public.ferry", "23502", "TAB-06", ""),
    (
        "insert into public.booking (code, passenger) values ('x2', '{3}')",
        "23502",
        "TAB-06",
        "",
    ),
    (
        f"insert into public.booking (sailing_id, passenger) select id, '{{3}}' {_FIRST}",
        "23502",
        "TAB-06",
        "",
    ),
    (
        f"insert into public.booking (sailing_id, code) select id, 'x3' {_FIRST}",
        "23502",
        "TAB-06",
        "",
    ),
    (
        _BOOKING.format(", created_at", "'x4', '{3}', null", _FIRST),
        "23502",
        "TAB-06",
        "",
    ),
    (
        _BOOKING.format("", "left('{5}', 7), '{3}'", _FIRST),
        "22001|23514",
        "TAB-08",
        "Postgres took a booking code of seven characters: six are the most.",
    ),
    (
        "insert into public.ferry (name, seats) values ('{0}', 41)",
        "23505",
        "TAB-09",
        "Postgres took a second ferry of the same name.",
    ),
    (
        _BOOKING.format(
            "", "left('{2}', 3), '{4}'", "from public.sailing order by id desc limit 1"
        ),
        "23505",
        "TAB-09",
        "Postgres took a second booking with the same code.",
    ),
    (
        (
            "with gone as (delete from public.ferry where false returning 1)"
            " insert into public.sailing (ferry_id, departs_at)"
            " select max(id) + 1000, now() from public.ferry"
        ),
        "23503",
        "TAB-02",
        "",
    ),
    (
        _BOOKING.format("", "'x5', '{3}'", "from (select max(id) + 1000 as id from sailing) s"),
        "23503",
        "TAB-02",
        "",
    ),
)


async def _columns(witness: Any) -> dict[str, list[str]]:
    """The columns of the three tables, by name, as the catalog has them."""
    found: dict[str, list[str]] = {}
    for row in await witness.fetch(
        "select table_name, column_name from information_schema.columns"
        " where table_schema = 'public' and table_name in ('ferry', 'sailing', 'booking')"
        " order by column_name"
    ):
        found.setdefault(str(row["table_name"]), []).append(str(row["column_name"]))
    return found


async def _told(witness: Any, statement: str, words: dict[str, str]) -> str:
    """The SQLSTATE with which Postgres refuses a statement, or nothing."""
    for place, word in words.items():
        statement = statement.replace(place, word)
    try:
        await witness.execute(statement)
    except Exception as error:
        if not (state := getattr(error, "sqlstate", "")):
            raise
        return str(state)
    return ""


# -- drift ---------------------------------------------------------------------------------


async def inspect_hull(drift: Any, url: str, names: list[str]) -> AsyncIterator[Any]:
    """Make the tables as the models have them; then ask, as often as the scene changes."""
    from sqlalchemy import (
        Boolean,
        Column,
        DateTime,
        Double,
        ForeignKey,
        Integer,
        MetaData,
        String,
        Table,
        Text,
    )
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Borrowed

    boat, trip, crew = names
    metadata = MetaData()
    Table(
        boat,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("code", String(6), nullable=False),
        Column("berth", Integer),
        Column("length", Double, nullable=False),
        Column("afloat", Boolean),
        Column("crane_id", Integer, key="crane"),
    )
    Table(
        trip,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("boat_id", ForeignKey(f"{boat}.id"), nullable=False),
        Column("leaves_at", DateTime(timezone=True)),
        Column("note", String(40)),
        Column("seats_left", Integer, nullable=False),
        Column("gate", Integer, index=True),
    )
    Table(crew, metadata, Column("id", Integer, primary_key=True), Column("who", Text, index=True))
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    borrowed = Borrowed(engine)
    for _ in range(3):
        found = await drift(engine, metadata)
        named = isinstance(found, (set, frozenset, list, tuple))
        yield [sorted(map(str, found)) if named else None, borrowed.count]
    await engine.dispose()


_DRIFT = """
    from sqlalchemy import inspect
    async def drift(engine, metadata):
        def look(conn):
            there, found = inspect(conn), set()
            for table in metadata.sorted_tables:
                if not there.has_table(table.name):
                    found.add(table.name)
                    continue
                columns = {c['name']: c for c in there.get_columns(table.name)}
                for column in table.columns:
                    real = columns.get(column.name)
                    if (real is None
                            or getattr(real['type'], 'length', None)
                            != getattr(column.type, 'length', None)
                            or real['nullable'] != column.nullable):
                        found.add(f'{table.name}.{column.name}')
                indexes = {i['name'] for i in there.get_indexes(table.name)}
                found |= {f'{table.name}:{i.name}' for i in table.indexes
                          if i.name not in indexes}
            return found
        async with engine.connect() as conn:
            return await conn.run_sync(look)
"""
_DRIFT_ALEMBIC = """
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    async def drift(engine, metadata):
        def look(conn):
            context = MigrationContext.configure(conn, opts={'compare_type': True})
            return list(compare_metadata(context, metadata))
        async with engine.connect() as conn:
            changes = await conn.run_sync(look)
        flat = [c for change in changes for c in (change if isinstance(change, list) else [change])]
        missing = {c[1].name for c in flat if c[0] == 'add_table'}
        found = set(missing)
        for what, *rest in flat:
            if what == 'add_column':
                found.add(f'{rest[1]}.{rest[2].name}')
            elif what in ('modify_type', 'modify_nullable'):
                found.add(f'{rest[1]}.{rest[2]}')
            elif what == 'add_index' and rest[0].table.name not in missing:
                found.add(f'{rest[0].table.name}:{rest[0].name}')
        return found
"""
_DRIFT_SQL = """
    from sqlalchemy import text
    class Surveyor:
        async def __call__(self, engine, metadata):
            async with engine.begin() as conn:
                rows = (await conn.execute(text(
                    "select table_name, column_name, character_maximum_length, is_nullable"
                    " from information_schema.columns where table_schema = current_schema()"
                ))).all()
                indexes = set((await conn.execute(text(
                    "select tablename || ':' || indexname from pg_indexes"
                    " where schemaname = current_schema()"))).scalars())
            tables = {row[0] for row in rows}
            there = {(t, c, n, null == 'YES') for t, c, n, null in rows}
            for table in metadata.tables.values():
                if table.name not in tables:
                    yield_ = [table.name]
                else:
                    yield_ = [f'{table.name}.{c.name}' for c in table.columns
                              if (table.name, c.name, getattr(c.type, 'length', None),
                                  c.nullable) not in there]
                    yield_ += sorted({f'{table.name}:{i.name}' for i in table.indexes} - indexes)
                self.found += yield_
            found, self.found = self.found, []
            return found
        found = []
    drift = Surveyor()
"""


@lesson.exercise(
    "drift",
    kind="coroutine function",
    points=3,
    measures=("tables.create",),
    task="Write `drift(engine, metadata)`: a set with what the models have and the database has "
    'not, as `"table"`, `"table.column"` (missing, or of another length, or NULL allowed in one '
    'and not in the other) and `"table:index"`. It only looks.',
    hints=(
        "Who can tell you what is there? SQLAlchemy's `inspect` can, and it is not async.",
        (
            "`await conn.run_sync(look)`, where `look(conn)` makes `inspect(conn)` and asks it for "
            "`has_table`, `get_columns` and `get_indexes`."
        ),
        (
            "For each table of `metadata.sorted_tables`: compare `{c['name']: c for c in "
            "there.get_columns(table.name)}` with `table.columns`: `nullable`, and the `length` of "
            "the type."
        ),
    ),
    slips=(
        Slip(
            "names_only",
            "TAB-11",
            "A column is missing, or shorter than the model has it, and you did not name it.",
            (
                _but(
                    _DRIFT,
                    (
                        """
                            or getattr(real['type'], 'length', None)
                            != getattr(column.type, 'length', None)""",
                        "",
                    ),
                ),
                _but(
                    _DRIFT_SQL,
                    ("(t, c, n, null == 'YES')", "(t, c, null == 'YES')"),
                    (
                        """(table.name, c.name, getattr(c.type, 'length', None),
                                  c.nullable)""",
                        "(table.name, c.name, c.nullable)",
                    ),
                ),
            ),
        ),
        Slip(
            "no_index",
            "TAB-12",
            "An index is in the models and not in the database, and you did not name it.",
            (
                _but(_DRIFT, ("if i.name not in indexes", "if False")),
                _but(
                    _DRIFT_ALEMBIC,
                    ("what == 'add_index' and", "what == 'missing_index' and"),
                ),
            ),
        ),
        Slip(
            "foreign",
            "TAB-13",
            "You named something that stands in no model of ours: it belongs to somebody else.",
            (
                _but(
                    _DRIFT,
                    (
                        "            return found\n",
                        (
                            "            return found | (set(there.get_table_names())"
                            " - set(metadata.tables))\n"
                        ),
                    ),
                ),
                _but(
                    _DRIFT,
                    (
                        "                indexes = {i",
                        """                found |= {f'{table.name}.{name}' for name in columns
                          if name not in {c.name for c in table.columns}}
                indexes = {i""",
                    ),
                ),
            ),
        ),
        Slip(
            "mended",
            "TAB-14",
            "You were to look, and a table that was missing is there now.",
            (
                _but(
                    _DRIFT,
                    (
                        "async with engine.connect() as conn:\n",
                        (
                            "async with engine.begin() as conn:\n"
                            "            await conn.run_sync(metadata.create_all)\n"
                        ),
                    ),
                ),
                _but(
                    _DRIFT_ALEMBIC,
                    (
                        "async with engine.connect() as conn:\n            changes =",
                        "async with engine.begin() as conn:\n            changes =",
                    ),
                    (
                        "        flat =",
                        """        async with engine.begin() as conn:
            await conn.run_sync(metadata.create_all)
        flat =""",
                    ),
                ),
            ),
        ),
        Slip(
            "null",
            "TAB-16",
            "NOT NULL stands in the model and not in the table, and you did not name that column.",
            (
                _but(
                    _DRIFT,
                    ("\n                            or real['nullable'] != column.nullable", ""),
                ),
                _but(_DRIFT_ALEMBIC, ("('modify_type', 'modify_nullable')", "('modify_type',)")),
            ),
        ),
    ),
    right=(
        _DRIFT,
        _DRIFT_ALEMBIC,
        _DRIFT_SQL,
        """
        from sqlalchemy import inspect
        async def drift(engine, metadata):
            async with engine.connect() as conn:
                columns, indexes = await conn.run_sync(lambda c: (
                    inspect(c).get_multi_columns(), inspect(c).get_multi_indexes()))
            def differ():
                for table in metadata.tables.values():
                    key = (table.schema, table.name)
                    if key not in columns:
                        yield table.name
                        continue
                    real = {column['name']: column for column in columns[key]}
                    for column in table.c:
                        length = getattr(column.type, 'length', None)
                        match real.get(column.name):
                            case {'nullable': null, 'type': kind} if (
                                null == column.nullable
                                and getattr(kind, 'length', None) == length):
                                pass
                            case _:
                                yield f'{table.name}.{column.name}'
                    wanted = {index.name for index in table.indexes}
                    for name in wanted - {index['name'] for index in indexes[key]}:
                        yield f'{table.name}:{name}'
            return frozenset(differ())
        """,
    ),
)
async def drift(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    names = [f"{draw.word()}s" for _ in range(3)]
    steps = trial.subject.steps(inspect_hull, trial.lab.url, names)
    changes = draw.sample(_CHANGES, len(_CHANGES))
    expected: dict[str, str] = {}
    for batch in ([], changes[:2], changes[2:]):
        for part, code, sql in [*_STRANGERS, *batch] if batch else []:
            await _told(witness, sql.format(*names), {})
            expected |= {part.format(*names): code} if part else {}
        named, out = await steps.next()
        expect(named is not None, "TAB-17", "`drift` should return a set of names.")
        there = names[2] in await _made(witness, names)
        expect(there is ("TAB-15" not in expected.values()), "TAB-14", _GONE if not there else "")
        _compare(set(named), expected, names)
        expect(not out, "TAB-17", "`drift` was over, and its connection was not given back.")


def _compare(named: set[str], expected: dict[str, str], ours: list[str]) -> None:
    """What was named beside what should be: the first thing that is not so."""
    for part, code in expected.items():
        missed = f"The table `{part}` is missing, and you did not name it."
        expect(part in named, code, missed if code == "TAB-15" else "")
    for part in sorted(named - set(expected)):
        expect(part.split(".")[0].split(":")[0] not in expected, "TAB-15", _ONE_NAME)
        known = part.startswith(tuple(ours)) and not part.endswith("theirs")
        agrees = f"You named `{part[:80]}`, in which models and database agree."
        expect(False, "TAB-17" if known else "TAB-13", agrees if known else "")


_GONE = "You were to look, and a table that was there is gone."
_ONE_NAME = "A table that is missing is one name, without its columns and indexes."
_CHANGES = (
    # What is to be named, the mistake of not naming it, and how it comes about.
    ("{0}.berth", "TAB-11", "alter table public.{0} drop column berth"),
    ("{0}.code", "TAB-11", "alter table public.{0} alter column code type varchar(3)"),
    ("{1}:ix_{1}_gate", "TAB-12", "drop index public.ix_{1}_gate"),
    ("{1}.seats_left", "TAB-16", "alter table public.{1} alter column seats_left drop not null"),
    ("{1}.note", "TAB-16", "alter table public.{1} alter column note set not null"),
    ("{0}.name", "TAB-11", "alter table public.{0} alter column name type varchar(6)"),
    ("{2}", "TAB-15", "drop table public.{2}"),
)
_STRANGERS = (
    # Theirs is what has our names in another schema, too.
    ("", "", "create schema if not exists theirs"),
    ("", "", "create table if not exists theirs.{0} (like public.{0} including indexes)"),
    ("", "", "create table if not exists theirs.{1} (like public.{1} including indexes)"),
    ("", "", "create table if not exists theirs.{2} (like public.{2} including indexes)"),
    ("", "", "create index if not exists ix_{1}_gate on theirs.{1} (gate)"),
    ("", "", "create table if not exists public.harbour_theirs (n int)"),
    ("", "", "alter table public.{1} add column if not exists paint_theirs text"),
    ("", "", "create index if not exists index_theirs on public.{1} (note)"),
)


# -- off_the_loop --------------------------------------------------------------------------


async def read_timetable(
    load: Any, url: str, rows: list[list[Any]], trouble: str
) -> AsyncIterator[Any]:
    """A file that takes as long to read as we like, and a look while it is being read."""
    import asyncio
    import threading
    from datetime import datetime

    import greenlet  # type: ignore[import-untyped]
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url)
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    began, may_end, where = asyncio.Event(), threading.Event(), []

    def parse(blob: bytes) -> list[dict[str, Any]]:
        beside = threading.get_ident() != here
        spawned = greenlet.getcurrent().parent is not None
        where.append("beside" if beside else "spawned" if spawned else "loop")
        loop.call_soon_threadsafe(began.set)
        if beside:
            may_end.wait()
        if blob != b"timetable":
            raise TypeError(f"parse was given {blob!r}")
        if trouble:
            raise ValueError(trouble)
        return [
            {"ferry": ferry, "departs_at": datetime.fromisoformat(at), "seats_left": seats}
            for ferry, at, seats in rows
        ]

    loading = asyncio.ensure_future(load(engine, parse, b"timetable"))
    reading = asyncio.ensure_future(began.wait())
    await asyncio.wait({loading, reading}, return_when=asyncio.FIRST_COMPLETED)
    yield [where, engine.pool.checkedout()]  # type: ignore[attr-defined]
    may_end.set()
    await asyncio.wait({loading})
    result = loading.exception() or loading.result()
    reading.cancel()
    await engine.dispose()
    yield [isinstance(result, Exception), result if type(result) is int else repr(result)]


_TIMETABLE = """
    import asyncio
    from sqlalchemy import text
    async def load_timetable(engine, parse, blob):
        rows = await asyncio.to_thread(parse, blob)
        async with engine.begin() as conn:
            await conn.execute(text(
                "insert into sailing (ferry, departs_at, seats_left)"
                " values (:ferry, :departs_at, :seats_left)"), rows)
        return len(rows)
"""


@lesson.exercise(
    "load_timetable",
    kind="coroutine function",
    points=3,
    measures=("tables.create",),
    task="Write `load_timetable(engine, parse, blob)`: `parse(blob)` is slow and not async; store "
    "all of its rows in `sailing` or none, and return how many. While it parses, the loop "
    "lives and "
    "you hold no connection.",
    hints=(
        "On which thread does `run_sync` run what you give it?",
        "`asyncio.to_thread(parse, blob)` has a thread of its own, and you can await its result.",
        (
            "First `rows = await asyncio.to_thread(parse, blob)`, then `async with "
            "engine.begin()`, and "
            "one `execute` with the list of all rows."
        ),
    ),
    slips=(
        Slip(
            "in_run_sync",
            "TAB-21",
            "The loop stood still while `parse` ran: `run_sync` has no thread of its own.",
            (
                _but(
                    _TIMETABLE,
                    ("        rows = await asyncio.to_thread(parse, blob)\n", ""),
                    (
                        "as conn:\n",
                        "as conn:\n            rows = await conn.run_sync(lambda _: parse(blob))\n",
                    ),
                ),
                _but(
                    _TIMETABLE,
                    ("import text", "import text\n    from sqlalchemy.util import greenlet_spawn"),
                    ("asyncio.to_thread(", "greenlet_spawn("),
                ),
            ),
        ),
        Slip(
            "on_the_loop",
            "TAB-22",
            "`parse` ran on the loop's own thread, and nobody else got a turn meanwhile.",
            (
                _but(_TIMETABLE, ("await asyncio.to_thread(parse, blob)", "parse(blob)")),
                _but(
                    _TIMETABLE,
                    (
                        "rows = await asyncio.to_thread(parse, blob)",
                        """async def read():
            return parse(blob)
        rows = await asyncio.create_task(read())""",
                    ),
                ),
            ),
        ),
        Slip(
            "holding",
            "TAB-23",
            "A connection was out of the pool while you parsed.",
            (
                _but(
                    _TIMETABLE,
                    ("        rows = await asyncio.to_thread(parse, blob)\n", ""),
                    (
                        "as conn:\n",
                        "as conn:\n            rows = await asyncio.to_thread(parse, blob)\n",
                    ),
                ),
                """
                import asyncio
                from sqlalchemy import column, insert, table
                from sqlmodel.ext.asyncio.session import AsyncSession
                sailing = table('sailing', *map(column, ('ferry', 'departs_at', 'seats_left')))
                async def load_timetable(engine, parse, blob):
                    async with AsyncSession(engine) as session:
                        await session.connection()
                        loop = asyncio.get_running_loop()
                        rows = await loop.run_in_executor(None, parse, blob)
                        await session.execute(insert(sailing), rows)
                        await session.commit()
                    return len(rows)
                """,
            ),
        ),
        Slip(
            "row_by_row",
            "TAB-24",
            "Postgres refused one sailing, and others of the same timetable stayed there.",
            (
                _but(
                    _TIMETABLE,
                    (
                        "async with engine.begin() as conn:\n            await conn",
                        (
                            "for row in rows:\n          async with engine.begin() as conn:\n"
                            "            await conn"
                        ),
                    ),
                    ("), rows)", "), row)"),
                ),
                """
                import asyncio
                from sqlalchemy import text
                async def load_timetable(engine, parse, blob):
                    rows = await asyncio.to_thread(parse, blob)
                    async with engine.connect() as conn:
                        for row in rows:
                            await conn.execute(text(
                                "insert into sailing (ferry, departs_at, seats_left)"
                                " values (:ferry, :departs_at, :seats_left)"), row)
                            await conn.commit()
                    return len(rows)
                """,
            ),
        ),
    ),
    right=(
        _TIMETABLE,
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from sqlalchemy import column, insert, table
        from sqlmodel.ext.asyncio.session import AsyncSession
        sailing = table('sailing', *map(column, ('ferry', 'departs_at', 'seats_left')))
        class Loader:
            def __init__(self, workers=1):
                self.workers = workers
            async def __call__(self, engine, parse, blob):
                with ThreadPoolExecutor(self.workers) as pool:
                    rows = await asyncio.get_running_loop().run_in_executor(pool, parse, blob)
                async with AsyncSession(engine) as session, session.begin():
                    await session.execute(insert(sailing), rows)
                return len(rows)
        load_timetable = Loader()
        """,
        """
        from functools import partial
        import anyio.to_thread
        from sqlalchemy import text
        QUERY = text("insert into sailing (ferry, departs_at, seats_left)"
                     " values (:ferry, :departs_at, :seats_left)")
        async def store(query, engine, parse, blob):
            rows = list(await anyio.to_thread.run_sync(parse, blob))
            async with engine.connect() as conn:
                for row in rows:
                    async with conn.begin_nested():
                        await conn.execute(query, row)
                await conn.commit()
                return len(rows)
        load_timetable = partial(store, QUERY)
        """,
        """
        from anyio import to_thread
        from sqlalchemy import MetaData, Table
        from sqlalchemy.ext.asyncio import async_sessionmaker
        def reflected(session):
            return Table('sailing', MetaData(), autoload_with=session.connection())
        async def load_timetable(engine, parse, blob, *, at_once=2):
            rows = await to_thread.run_sync(parse, blob)
            async with async_sessionmaker(engine).begin() as session:
                sailing = await session.run_sync(reflected)
                for first in range(0, len(rows), at_once):
                    await session.execute(sailing.insert(), rows[first:first + at_once])
            return len(rows)
        """,
    ),
)
async def off_the_loop(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    rows, more, others = (_timetable(draw) for _ in range(3))
    refused = [*others[:-1], [*others[-1][:2], -1], others[-1]]
    stored, trouble = [_OLD], draw.word()
    one, other = draw.sample([trial.lab.url, trial.lab.psycopg_url], 2)
    await witness.execute(_SAILINGS)
    for url, given, error, good in (
        (one, rows, "", True),
        (one, refused, "", False),
        (other, rows, "", False),  # each sailing once
        (other, more, "", True),
        (other, others, trouble, False),
    ):
        steps = trial.subject.steps(read_timetable, url, given, error)
        where, out = await steps.next()
        expect(where, "TAB-25", "`parse` was never called.")
        expect(where == ["beside"], "TAB-21" if "spawned" in where else "TAB-22")
        open_now = any(b.in_transaction for b in await witness.backends())
        expect(not out and not open_now, "TAB-23")
        raised, told = await steps.next()
        found = sorted(list(row) for row in await witness.fetch(_LOADED))
        expect(good or found == sorted(stored), "TAB-24")
        failed = f"Loading a good timetable failed: {str(told)[:200]}"
        expect(raised is not good, *(("TAB-25", failed) if raised else ("TAB-26", _SWALLOWED)))
        stored += [[ferry, _in_utc(at), seats] for ferry, at, seats in given] if good else []
        same = found == sorted(stored)
        expect(same and (told == len(given) or not good), "TAB-25", _OTHER)
        expect(not await witness.emptied(2), "TAB-25", _LEFT)


def _timetable(draw: Draw) -> list[list[Any]]:
    return [
        [
            f"{draw.word()}'s {draw.word()}",
            f"2031-05-{draw.randint(1, 28):02}T{draw.randint(0, 23):02}:00:00{draw.choice(_ZONES)}",
            seats,
        ]
        for seats in draw.sample(range(1, 90), draw.randint(3, 9))
    ]


def _in_utc(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat()


_ZONES = ("+09:00", "-08:00", "+02:00")
_LEFT = "All was over, and a connection was open that does not belong to the engine you got."
_OTHER = "The rows in `sailing`, or the number you returned, are not those of the timetable."
_SWALLOWED = "The timetable could not be stored, and nobody was told: let the error pass on."
_OLD: list[Any] = ["Alca", "2030-01-01T08:00:00+00:00", 7]
_SAILINGS = """
    create table sailing (id serial primary key, ferry text not null,
        departs_at timestamptz not null, seats_left int not null check (seats_left >= 0),
        unique (ferry, departs_at));
    insert into sailing (ferry, departs_at, seats_left) values ('Alca', '2030-01-01 08:00+00', 7)
"""
_LOADED = """
    select ferry, to_char(departs_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS') || '+00:00',
    seats_left from public.sailing
"""


# -- once_only -----------------------------------------------------------------------------


async def three_workers(
    prepare: Any, url: str, stranger: str, names: list[str]
) -> AsyncIterator[Any]:
    """One worker alone; three at once, the first with one table only; one without any right."""
    import asyncio
    import builtins
    import os
    import sys
    from contextlib import suppress
    from functools import partial

    from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, event
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    from engineroom.exercises.tools import Attempts, Worker, turns

    kept = []  # a worker's engine lives as long as the worker
    ours = os.getpid()
    has_made = "select 1 from pg_locks where pid = pg_backend_pid() and relation = 'gate'::regclass"

    def to_commit(connection: Any) -> None:
        # Who has made a table goes on to its commit through a gate of its own.
        with suppress(DBAPIError):  # a transaction that has failed already
            if connection.exec_driver_sql(has_made).scalar():
                connection.exec_driver_sql("select from commits")

    def seeded(original: Any, value: Any) -> Any:
        # A worker that is forked has its parent's seed, and one on another machine has its own.
        parts = value if isinstance(value, tuple) else (value,)
        library = sys._getframe(1).f_globals.get("__spec__") is not None
        known = library or all(isinstance(part, (int, float)) for part in parts)
        return original(value) if known else original((original(value), os.getpid()))

    async def start(url: str, names: list[str]) -> None:
        if os.getpid() != ours:
            builtins.hash = partial(seeded, hash)
        metadata = MetaData()
        Table("gate", metadata, Column("n", Integer, primary_key=True))
        for name in names:
            # Without a sequence: the first thing that two starters both make is the row type.
            key = Column("id", Integer, primary_key=True, autoincrement=False)
            Table(name, metadata, key, Column("gate", ForeignKey("gate.n")))
        kept.append(create_async_engine(url))
        event.listen(kept[-1].sync_engine, "commit", to_commit)
        await prepare(kept[-1], metadata)

    workers = [Worker(lambda: start(url, names))]
    yield await workers[0].result()
    workers[0].end()
    workers = [Worker(lambda: start(url, names[:1]))]
    yield None
    workers += [Worker(lambda: start(url, names)) for _ in range(2)]
    results = [asyncio.ensure_future(worker.result()) for worker in workers]
    left = set(results)
    while left:
        _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        yield 3 - len(left)
    yield [await result for result in results]
    for worker in workers:
        worker.end()
    helpless = Worker(lambda: start(stranger, [f"{name}s" for name in names]))
    if (yield await helpless.result()) == "in one process":
        attempts = Attempts()
        both = [asyncio.ensure_future(start(url, names)) for _ in range(2)]
        await turns()
        yield attempts.count
        await asyncio.gather(*both, return_exceptions=True)
    helpless.end()


_ONCE = """
    from sqlalchemy import text
    async def prepare(engine, metadata):
        async with engine.begin() as conn:
            await conn.execute(text("select pg_advisory_xact_lock(19250814)"))
            await conn.run_sync(metadata.create_all)
"""
_NAIVE_START = """
    async def prepare(engine, metadata):
        async with engine.begin() as conn:
            await conn.run_sync(metadata.create_all)
"""


@lesson.exercise(
    "prepare",
    kind="coroutine function",
    points=5,
    measures=("tables.start",),
    seconds=25,
    task="Write `prepare(engine, metadata)`: afterwards all tables are there, however many workers "
    "start at once. Where Postgres refuses for another reason, it raises.",
    hints=(
        "What do three workers share? No variable, no `asyncio.Lock`, perhaps not even a machine.",
        (
            "Postgres has locks that belong to no table: *advisory* locks, known by a number. "
            "Whoever asks for one that is taken waits. Which comes first, the lock or the look?"
        ),
        (
            "`select pg_advisory_xact_lock(42)` in the same transaction, before `run_sync`; the "
            "lock ends with the transaction"
        ),
    ),
    slips=(
        Slip(
            "naive",
            "TAB-31",
            "Three workers started, and one crashed on a table that another had made meanwhile: "
            "`pg_type_typname_nsp_index`.",
            (
                _NAIVE_START,
                """
                from sqlalchemy import inspect
                async def prepare(engine, metadata):
                    async with engine.connect() as conn:
                        there = await conn.run_sync(lambda c: inspect(c).get_table_names())
                    missing = [t for t in metadata.sorted_tables if t.name not in there]
                    async with engine.begin() as conn:
                        for table in missing:
                            await conn.run_sync(table.create)
                """,
            ),
        ),
        Slip(
            "if_not_exists",
            "TAB-32",
            "`IF NOT EXISTS` looks first too, and sees no table that is not yet committed: a "
            "worker "
            "crashed.",
            (
                """
                from sqlalchemy.schema import CreateTable
                async def prepare(engine, metadata):
                    async with engine.begin() as conn:
                        for table in metadata.sorted_tables:
                            await conn.execute(CreateTable(table, if_not_exists=True))
                """,
                """
                from sqlalchemy import text
                from sqlalchemy.dialects import postgresql
                from sqlalchemy.schema import CreateTable
                async def prepare(engine, metadata):
                    for table in metadata.sorted_tables:
                        made = CreateTable(table, if_not_exists=True)
                        async with engine.begin() as conn:
                            await conn.execute(text(str(made.compile(
                                dialect=postgresql.dialect()))))
                """,
            ),
        ),
        Slip(
            "asyncio_lock",
            "TAB-33",
            "A worker crashed: what kept two tasks apart ends at its own process, and the others "
            "never saw it.",
            (
                """
                import asyncio
                lock = asyncio.Lock()
                async def prepare(engine, metadata):
                    async with lock:
                        async with engine.begin() as conn:
                            await conn.run_sync(metadata.create_all)
                """,
                """
                import asyncio
                class Once:
                    def __init__(self):
                        self.turn = asyncio.Semaphore(1)
                    async def __call__(self, engine, metadata):
                        await self.turn.acquire()
                        try:
                            async with engine.begin() as conn:
                                await conn.run_sync(metadata.create_all)
                        finally:
                            self.turn.release()
                prepare = Once()
                """,
            ),
        ),
        Slip(
            "other_keys",
            "TAB-37",
            "A worker crashed: each took a lock, and not the same one. Their numbers differ from "
            "process to process.",
            (
                _but(_ONCE, ("19250814", "{hash('tables') % 2**31}"), ('text("', 'text(f"')),
                """
                from sqlalchemy import text
                async def prepare(engine, metadata):
                    async with engine.begin() as conn:
                        await conn.execute(text(
                            "select pg_advisory_xact_lock(pg_backend_pid())"))
                        await conn.run_sync(metadata.create_all)
                """,
            ),
        ),
        Slip(
            "swallow",
            "TAB-34",
            "You hid the error, and Postgres has not all of the tables.",
            (
                """
                from sqlalchemy.exc import DBAPIError
                async def prepare(engine, metadata):
                    try:
                        async with engine.begin() as conn:
                            await conn.run_sync(metadata.create_all)
                    except DBAPIError:
                        pass  # somebody else was quicker
                """,
                """
                from contextlib import suppress
                from sqlalchemy import text
                async def prepare(engine, metadata):
                    with suppress(Exception):
                        async with engine.begin() as conn:
                            if await conn.scalar(text("select pg_try_advisory_xact_lock(7)")):
                                await conn.run_sync(metadata.create_all)
                """,
            ),
        ),
        Slip(
            "kept",
            "TAB-35",
            "Your worker is ready and still has the lock: the next one would wait for ever.",
            (
                _but(_ONCE, ("pg_advisory_xact_lock", "pg_advisory_lock")),
                """
                from sqlalchemy import text
                async def prepare(engine, metadata):
                    async with engine.connect() as conn:
                        await conn.execute(text("select pg_advisory_lock(hashtext('tables'))"))
                        await conn.run_sync(metadata.create_all)
                        await conn.commit()
                """,
            ),
        ),
    ),
    right=(
        _ONCE,
        """
        import asyncio
        from sqlalchemy.exc import DBAPIError
        async def prepare(engine, metadata):
            for chance in range(8):
                try:
                    async with engine.begin() as conn:
                        await conn.run_sync(metadata.create_all)
                    return
                except DBAPIError as error:
                    said = str(error)
                    mine = 'pg_type_typname_nsp_index' in said or 'already exists' in said
                    if not mine or chance == 7:
                        raise
        """,
        """
        from sqlalchemy import text
        class Starter:
            number = 77
            async def __call__(self, engine, metadata):
                async with engine.connect() as conn:
                    await conn.execute(text("select pg_advisory_lock(:n)"), {"n": self.number})
                    await conn.commit()
                    try:
                        await conn.run_sync(metadata.create_all)
                        await conn.commit()
                    finally:
                        await conn.rollback()
                        await conn.execute(
                            text("select pg_advisory_unlock(:n)"), {"n": self.number})
                        await conn.commit()
        prepare = Starter()
        """,
        """
        import asyncio
        from functools import partial
        from sqlalchemy import text
        async def wait_and_make(key, engine, metadata):
            while True:
                async with engine.begin() as conn:
                    if await conn.scalar(
                            text("select pg_try_advisory_xact_lock(hashtext(:k))"), {"k": key}):
                        await conn.run_sync(metadata.create_all)
                        return
                await asyncio.sleep(0.02)
        prepare = partial(wait_and_make, 'skerry')
        """,
        """
        import asyncio
        from sqlalchemy import text
        from sqlalchemy.exc import DBAPIError
        async def prepare(engine, metadata):
            for _ in range(200):
                try:
                    async with engine.begin() as conn:
                        await conn.execute(text("set local lock_timeout = '100ms'"))
                        await conn.execute(text(
                            f"select pg_advisory_xact_lock({hash((3, 4)) % 1000})"))
                        await conn.execute(text("set local lock_timeout = 0"))
                        await conn.run_sync(metadata.create_all)
                    return
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", "") != "55P03":
                        raise
                await asyncio.sleep(0.05)
        """,
        """
        import asyncpg
        async def prepare(engine, metadata):
            url = engine.url.set(drivername='postgresql').render_as_string(hide_password=False)
            guard = await asyncpg.connect(url)
            try:
                await guard.execute("select pg_advisory_lock(5)")
                async with engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
            finally:
                await guard.close()
        """,
        """
        from sqlalchemy import text
        async def prepare(engine, metadata):
            async with engine.connect() as conn:
                await conn.execute(text('select pg_advisory_lock(7)'))
                try:
                    await conn.run_sync(metadata.create_all)
                    await conn.commit()
                finally:
                    await conn.rollback()
                    await conn.execute(text('select pg_advisory_unlock(7)'))
                    await conn.commit()
        """,
    ),
)
async def once_only(trial: Trial) -> None:
    witness, draw, lab = trial.witness, trial.draw, trial.lab
    names = sorted({draw.word() for _ in range(9)})[:3]
    await witness.execute("create table gate (n int primary key); create table commits ()")
    await witness.execute("insert into gate values (1851)")
    steps = trial.subject.steps(three_workers, lab.url, lab.app_url, names)
    said = await steps.next()
    expect(said == "done", "TAB-36", f"A worker that started alone failed: {str(said)[:200]}")
    expect(await _made(witness, names) == names, "TAB-36", "A worker alone made not all tables.")
    expect(await witness.fetch("table public.gate"), "TAB-36", _EMPTIED)
    expect(not await witness.fetch(_ADVISORY), "TAB-35")
    await witness.execute(f"drop table {', '.join(names)}")
    async with witness.gate("commits") as commits, witness.gate() as gate:
        await steps.next()
        await gate.reached(1)
        try:
            async with asyncio.timeout(_PATIENCE):
                keys = await _all_stand_or_end(witness, steps, [gate, commits])
        except TimeoutError:
            expect(not await witness.fetch(_ADVISORY), "TAB-35", _STUCK)
            expect(False, "TAB-33", _ELSEWHERE)
    results = await steps.next()
    made = await _made(witness, names)
    try:
        async with asyncio.timeout(_PATIENCE):
            refused = await steps.next()
    except TimeoutError:
        expect(False, "TAB-34", _TRIES_ON)
    kept = await witness.fetch(_ADVISORY)
    crashed = [str(said) for said in results if said != "done"]
    if crashed and not any("already exists" in said or "_index" in said for said in crashed):
        expect(False, "TAB-36", f"A worker failed: {crashed[0][:200]}")
    expect(not any("IF NOT EXISTS" in said for said in crashed), "TAB-32")
    expect(not crashed or keys < 2, "TAB-37")
    expect(not crashed or await steps.next("in one process") == 2, "TAB-33")
    expect(not crashed, "TAB-31")
    expect(made == names, "TAB-34")
    expect(refused != "done", "TAB-34", _NO_RIGHT)
    expect(not kept, "TAB-35", "Postgres refused the tables, and afterwards a lock was still held.")


_PATIENCE = 10.0  # all of it takes a third of a second
_STUCK = (
    "Three workers started, and one that has come to its end still has the lock, so another waits "
    "for ever. Perhaps it failed: who unlocks before the commit lets the next one in too early."
)
_ELSEWHERE = "Three workers started, and some wait for ever: for what, Postgres does not know."
_EMPTIED = "One table was there already, with a row in it, and the row is gone: nothing is dropped."
_TRIES_ON = "A role that may make no table tries again and again, and never hears that it may not."
_NO_RIGHT = "A role that may make no table was told that all is well."
_ADVISORY = """
    select 1 from pg_catalog.pg_locks where locktype = 'advisory' and granted and database =
    (select oid from pg_catalog.pg_database where datname = current_database())
"""


async def _made(witness: Any, names: list[str]) -> list[str]:
    """Which of these tables there are."""
    rows = await witness.fetch(
        "select tablename from pg_catalog.pg_tables where schemaname = 'public'"
        " and tablename = any($1::text[]) order by 1",
        names,
    )
    return [str(row["tablename"]) for row in rows]


async def _all_stand_or_end(witness: Any, steps: Any, gates: list[Any]) -> int:
    """Open one gate after the other, each when no worker can go on; with how many keys they lock.

    The first holds the one who makes a table, the second holds it before its commit. What another
    one does meanwhile shows whether the first is alone until it has committed.
    """
    keys, ended, ending = 0, 0, asyncio.create_task(steps.next())
    try:
        while ended < 3:
            if gates and await _standing(witness, ending, 3 - ended):
                keys = max(keys, len(await witness.fetch(_KEYS)))
                await gates.pop(0).open()
                continue
            if not gates and await _for_ever(witness, ending, 3 - ended):
                raise TimeoutError
            ended = int(await ending)
            if ended < 3:
                ending = asyncio.create_task(steps.next())
    finally:
        ending.cancel()
    return keys


async def _standing(witness: Any, ending: Any, at_least: int) -> bool:
    """Wait until so many stand, or until one more has ended."""
    asked: dict[int, set[Any]] = {}
    before: set[int] = set()
    while not ending.done():
        found = await witness.backends()
        rows = await witness.fetch(_BLOCKED, [backend.pid for backend in found])
        blocked = {row["pid"] for row in rows}
        if blocked != before:  # one may have let another go while we looked from this one to that
            asked, before = {}, blocked
            continue
        # Whoever asks for a lock again and again, and never waits for it, stands there too: it
        # has asked twice since the last of the others came, so the first time it was refused.
        since = max((b.asked_at for b in found if b.pid in blocked), default=None)
        for backend in found:
            if since and _ASKS.search(backend.query) and backend.asked_at > since:
                asked.setdefault(backend.pid, set()).add(backend.asked_at)
        again = {pid for pid, moments in asked.items() if len(moments) > 1}
        if len(blocked | again) >= at_least:
            return True
        await asyncio.sleep(0.002)
    return False


async def _for_ever(witness: Any, ending: Any, how_many: int) -> bool:
    """Whether all that are left wait for a lock, longer than Postgres takes to end a deadlock."""
    before: set[int] = set()
    since = time.monotonic()
    while not ending.done():
        pids = [backend.pid for backend in await witness.backends()]
        blocked = {row["pid"] for row in await witness.fetch(_BLOCKED, pids)}
        if blocked != before or len(blocked) < how_many:
            before, since = blocked, time.monotonic()
        elif time.monotonic() - since > _DEADLOCK:
            return True
        await asyncio.sleep(0.01)
    return False


_DEADLOCK = 2.5
_BLOCKED = """
    select pid from unnest($1::int[]) pid where cardinality(pg_catalog.pg_blocking_pids(pid)) > 0
"""
_KEYS = """
    select distinct classid, objid, objsubid from pg_catalog.pg_locks where locktype = 'advisory'
    and database = (select oid from pg_catalog.pg_database where datname = current_database())
"""
_ASKS = re.compile(r"try_advisory|nowait", re.IGNORECASE)


# -- lifespan ------------------------------------------------------------------------------


async def two_days(
    make_lifespan: Any, url: str, bad: list[str], names: list[str], storm: str
) -> AsyncIterator[Any]:
    """An application starts and stops; one ends in a storm; two cannot start."""
    import asyncio
    from types import SimpleNamespace

    from sqlalchemy import Column, Integer, MetaData, Table

    from engineroom.exercises.tools import Opened

    metadata, opened = MetaData(), Opened()
    for name in names:
        Table(name, metadata, Column("id", Integer, primary_key=True))
    insert = metadata.tables[names[0]].insert()

    def app() -> Any:
        return SimpleNamespace(state=SimpleNamespace())

    async def three_requests(engine: Any) -> None:
        connections = [await engine.connect() for _ in range(3)]
        for connection in connections:
            await connection.execute(insert)
            await connection.commit()
            await connection.close()

    day, desk = make_lifespan(url, metadata), app()
    today = day(desk)
    yield None
    async with today:
        yield None
        await three_requests(desk.state.engine)
        yield None
    yield opened.left
    said = ""
    try:
        async with make_lifespan(url, metadata)(desk := app()):
            await three_requests(desk.state.engine)
            yield None
            raise RuntimeError(storm)
    except Exception as error:
        said = str(error)
    yield [said, opened.left]
    inside = asyncio.Event()

    async def serve() -> None:
        async with make_lifespan(url, metadata)(desk := app()):
            await three_requests(desk.state.engine)
            inside.set()
            await asyncio.Event().wait()

    serving, ready = asyncio.ensure_future(serve()), asyncio.ensure_future(inside.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    await asyncio.wait({serving})
    ready.cancel()
    yield opened.left
    for url in bad:
        try:
            async with make_lifespan(url, metadata)(app()):
                yield "ready"
        except (Exception, SystemExit) as error:
            yield [type(error).__name__, opened.left]


_LIFESPAN = """
    from contextlib import asynccontextmanager
    def make_lifespan(url, metadata):
        @asynccontextmanager
        async def lifespan(app):
            app.state.engine = create_async_engine(url)
            try:
                async with app.state.engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
                yield
            finally:
                await app.state.engine.dispose()
        return lifespan
"""
_LIFESPAN_CLASS = """
    class Lifespan:
        def __init__(self, url, metadata, app):
            self.engine, self.metadata, self.app = create_async_engine(url), metadata, app
        async def start(self):
            async with self.engine.begin() as conn:
                await conn.run_sync(self.metadata.create_all)
            self.app.state.engine = self.engine
        async def __aenter__(self):
            try:
                await self.start()
            except BaseException:
                await self.__aexit__(None)
                raise
        async def __aexit__(self, *error):
            await self.engine.dispose()
    def make_lifespan(url, metadata):
        return lambda app: Lifespan(url, metadata, app)
"""


@lesson.exercise(
    "make_lifespan",
    points=3,
    measures=("tables.start",),
    task="Write `make_lifespan(url, metadata)`: what it returns is an application's lifespan. "
    "Tables first and an engine in `app.state.engine`, then ready; in the end, however it "
    "comes, no "
    "connection is left.",
    hints=(
        "A lifespan has a before and an after. What stands between them?",
        (
            "An `@asynccontextmanager` function with one `yield`: before it the tables, after it "
            "`dispose()`. What if the application ends with an error?"
        ),
        (
            "`app.state.engine = create_async_engine(url)`, then `try:` create, `yield`, and "
            "`finally:` `await app.state.engine.dispose()`; return that function"
        ),
    ),
    slips=(
        Slip(
            "too_soon",
            "TAB-41",
            "Postgres had a login, or a table, before the application started.",
            (
                """
                import asyncio, threading
                from contextlib import asynccontextmanager
                def make_lifespan(url, metadata):
                    async def create():
                        engine = create_async_engine(url)
                        async with engine.begin() as conn:
                            await conn.run_sync(metadata.create_all)
                        await engine.dispose()
                    early = threading.Thread(target=lambda: asyncio.run(create()))
                    early.start()
                    early.join()
                    @asynccontextmanager
                    async def lifespan(app):
                        app.state.engine = create_async_engine(url)
                        try:
                            yield
                        finally:
                            await app.state.engine.dispose()
                    return lifespan
                """,
                """
                import sqlalchemy
                from contextlib import asynccontextmanager
                def make_lifespan(url, metadata):
                    sync_url = sqlalchemy.make_url(url).set(drivername='postgresql+psycopg')
                    engine = sqlalchemy.create_engine(sync_url)
                    metadata.create_all(engine)
                    engine.dispose()
                    @asynccontextmanager
                    async def lifespan(app):
                        app.state.engine = create_async_engine(url)
                        yield
                        await app.state.engine.dispose()
                    return lifespan
                """,
            ),
        ),
        Slip(
            "no_dispose",
            "TAB-42",
            "The application had stopped, and Postgres still had its connections.",
            (
                _but(_LIFESPAN, ("await app.state.engine.dispose()", "pass")),
                _but(_LIFESPAN_CLASS, ("await self.engine.dispose()", "self.engine.dispose")),
            ),
        ),
        Slip(
            "dead_start",
            "TAB-43",
            "Postgres was away, and the application said that it was ready.",
            (
                _but(
                    _LIFESPAN,
                    (
                        """                async with app.state.engine.begin() as conn:
                    await conn.run_sync(metadata.create_all)
""",
                        """                try:
                    async with app.state.engine.begin() as conn:
                        await conn.run_sync(metadata.create_all)
                except Exception as error:
                    print('no tables today:', error)
""",
                    ),
                ),
                _but(
                    _LIFESPAN_CLASS,
                    (
                        "    class Lifespan",
                        "    from contextlib import suppress\n    class Lifespan",
                    ),
                    (
                        """            async with self.engine.begin() as conn:
                await""",
                        """            with suppress(OSError, Exception):
              async with self.engine.begin() as conn:
                await""",
                    ),
                ),
            ),
        ),
        Slip(
            "not_reached",
            "TAB-44",
            "The application ended with an error, and Postgres still had its connections: what "
            "stands after `yield` was never reached.",
            (
                _but(
                    _LIFESPAN,
                    ("            try:\n", "            if True:\n"),
                    ("            finally:\n", "            if True:\n"),
                ),
                _but(
                    _LIFESPAN_CLASS,
                    ("await self.engine", "if not error[0]:\n                await self.engine"),
                ),
            ),
        ),
        Slip(
            "swallowed",
            "TAB-45",
            "The application ended with an error, and its lifespan kept that to itself.",
            (
                _but(
                    _LIFESPAN,
                    ("yield\n", "yield\n            except RuntimeError:\n                pass\n"),
                ),
                _but(
                    _LIFESPAN_CLASS,
                    ("self.engine.dispose()", "self.engine.dispose()\n            return True"),
                ),
            ),
        ),
    ),
    right=(
        _LIFESPAN,
        _LIFESPAN_CLASS,
        """
        from contextlib import AsyncExitStack, asynccontextmanager
        from functools import partial
        from sqlalchemy.pool import NullPool
        @asynccontextmanager
        async def lifespan(url, metadata, app):
            async with AsyncExitStack() as stack:
                engine = create_async_engine(url, poolclass=NullPool)
                stack.push_async_callback(engine.dispose)
                conn = await stack.enter_async_context(engine.connect())
                await conn.run_sync(metadata.create_all)
                await conn.commit()
                await conn.close()
                app.state.engine = engine
                yield {'engine': engine}
        def make_lifespan(url, metadata):
            return partial(lifespan, url, metadata)
        """,
        """
        from contextlib import AsyncExitStack, asynccontextmanager
        from functools import partial
        @asynccontextmanager
        async def serve(app, url, metadata):
            async with AsyncExitStack() as stack:
                engine = create_async_engine(url, pool_pre_ping=True)
                stack.push_async_callback(engine.dispose)
                async with engine.connect() as conn:
                    await conn.run_sync(metadata.create_all)
                    await conn.commit()
                app.state.engine = engine
                yield {'engine': engine}
        def make_lifespan(url, metadata):
            return partial(serve, url=url, metadata=metadata)
        """,
    ),
)
async def lifespan(trial: Trial) -> None:
    witness, draw = trial.witness, trial.draw
    names = sorted({draw.word() for _ in range(9)})[: draw.randint(2, 4)]
    url, storm = trial.lab.url, draw.word()
    urls = (url, trial.lab.psycopg_url)
    with closed_port() as port:
        away = [re.sub(r"@[^/]+/", f"@127.0.0.1:{port}/", url) for url in urls]
        before, bad = await witness.logins(), [*away, trial.lab.app_url]
        steps = trial.subject.steps(two_days, url, bad, names, storm)
        await steps.next()
        early = await _made(witness, names) or await witness.logins() - before
        expect(not early, "TAB-41")
        await steps.next()
        expect(await _made(witness, names) == names, "TAB-46", _NO_TABLES)
        served = (await steps.outcome()).ok
        expect(served and len(await _rows(witness, names[0])) == 3, "TAB-47", _NO_ENGINE)
        expect(not await steps.next() and not await witness.emptied(), "TAB-42")
        served = (await steps.outcome()).ok
        expect(served, "TAB-47", _NO_ENGINE)
        stored = len(await _rows(witness, names[0]))
        expect(stored == 6, "TAB-47", _DROPPED.format(stored))
        said, left = await steps.next()
        expect(said == storm, "TAB-45")
        expect(not left and not await witness.emptied(), "TAB-44")
        expect(not await steps.next() and not await witness.emptied(), "TAB-44", _CANCELLED)
        for _ in away:
            expect(await steps.next() != "ready", "TAB-43")
        await witness.execute(f"drop table {', '.join(names)}")
        refused = await steps.next()
        expect(refused != "ready", "TAB-43", _REFUSED)
        expect(not refused[1] and not await witness.emptied(), "TAB-44", _LEFT_AT_START)


_NO_TABLES = "The application was ready, and Postgres had not all of its tables."
_CANCELLED = "The application was cancelled, as Ctrl-C does, and a connection stayed open."
_REFUSED = "Postgres refused to make the tables, and the application said that it was ready."
_LEFT_AT_START = "Postgres refused to make the tables, the start failed, and a connection stayed."
_DROPPED = "Of the six rows of two days Postgres has {}: tables and rows have to stay."
_NO_ENGINE = "A request with `app.state.engine` stored nothing in that database."


async def _rows(witness: Any, table: str) -> list[Any]:
    return (
        list(await witness.fetch(f"table public.{table}")) if await _made(witness, [table]) else []
    )


# -- database_file -------------------------------------------------------------------------


async def in_service(
    database_py: Any, host_urls: list[str], table: str, passengers: list[str]
) -> AsyncIterator[Any]:
    """A pasted `database.py`: without a URL, with two kinds of them, and through a working day."""
    import inspect
    import linecache
    import logging
    import sys
    import types
    from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
    from importlib import import_module
    from io import StringIO
    from textwrap import dedent

    from sqlalchemy import make_url, text
    from sqlmodel import Field, SQLModel

    from engineroom.exercises.tools import Worker, let_pass, place

    pasted = dedent(database_py())
    for package in ("fastapi", "pydantic_settings", "dotenv"):
        if package in pasted:  # imported here once, and not in each worker
            with suppress(ImportError):
                import_module(package)
    name = "<your cell database.py>"
    linecache.cache[name] = (len(pasted), None, pasted.splitlines(keepends=True), name)
    yield None

    def load() -> Any:
        module = sys.modules["database"] = types.ModuleType("database")
        module.__file__ = "database.py"
        exec(compile(pasted, name, "exec"), module.__dict__)  # noqa: S102
        return module

    async def empty_handed() -> None:
        load()

    async def one_request() -> None:
        async with load().engine.connect():
            pass

    @contextmanager
    def logged(to: Any) -> Any:
        # Whatever is logged, of no importance too; SQLAlchemy's own words only where it is told to.
        root, library = logging.getLogger(), logging.getLogger("sqlalchemy")
        before, handler = (root.level, library.level), logging.StreamHandler(to)
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        library.setLevel(library.level or logging.WARNING)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(before[0])
            library.setLevel(before[1])

    for work, url in ((empty_handed, ""), (one_request, host_urls[0])):
        with place({}, {"DATABASE_URL": url}):
            worker = Worker(work)
            yield await worker.result()
            worker.end()
    printed = StringIO()
    with (
        place({}, {"DATABASE_URL": host_urls[1]}),
        redirect_stdout(printed),
        redirect_stderr(printed),
        logged(printed),
    ):
        module = load()
        async with module.engine.connect():
            yield None

        class Booking(SQLModel, table=True):
            __tablename__ = table
            id: int | None = Field(default=None, primary_key=True)
            passenger: str

        await module.create_db_and_tables()
        yield None
        requests = [module.get_session() for _ in passengers]
        managed = any(hasattr(request, "gen") for request in requests)
        yield [managed, *(inspect.isasyncgen(request) for request in requests)]
        sessions = [await anext(request) for request in requests]
        kept = [Booking(passenger=passenger) for passenger in passengers]
        for session, booking in zip(sessions, kept, strict=True):
            session.add(booking)
            await session.flush()
        await sessions[1].rollback()
        await sessions[0].commit()
        yield None
        yield kept[0].passenger
        for session, request in zip(sessions, requests, strict=True):
            await session.execute(text("select 1"))
            await anext(request, None)
        pool = module.engine.pool
        yield pool.checkedout() if hasattr(pool, "checkedout") else 0
        requests, said = [module.get_session()], ""
        session = await anext(requests[0])
        session.add(Booking(passenger=passengers[1]))
        await session.flush()
        try:
            await requests[0].athrow(RuntimeError(passengers[1]))
        except Exception as error:
            said = str(error)
        yield [said, pool.checkedout() if hasattr(pool, "checkedout") else 0]
        for rest in (0, 299):
            await let_pass(rest)
            requests = [module.get_session() for _ in passengers]
            for request in requests:
                await (await anext(request)).execute(text("select 1"))
            for request in requests:
                await anext(request, None)
            yield None
        await module.create_db_and_tables()
        yield None
        await module.engine.dispose()
    yield str(make_url(host_urls[1]).password) in printed.getvalue()


_FILE = """
    def database_py():
        return '''
    import os
    from collections.abc import AsyncGenerator

    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlmodel import SQLModel
    from sqlmodel.ext.asyncio.session import AsyncSession

    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, pool_pre_ping=True, pool_recycle=280)
    make_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


    async def create_db_and_tables() -> None:
        async with engine.begin() as conn:
            await conn.run_sync(SQLModel.metadata.create_all)


    async def get_session() -> AsyncGenerator[AsyncSession]:
        async with make_session() as session:
            yield session
    '''
"""
_FILE_LAZY = """
    database_py = lambda: r'''
        import os, re
        import sqlmodel, sqlmodel.ext.asyncio.session
        from sqlalchemy.ext import asyncio as sa

        def to_async(url):
            return re.sub(r"^postgres(ql)?(\\+[a-z0-9]+)?://", "postgresql+psycopg://", url)

        class Settings:
            def __init__(self):
                self.url = os.getenv("DATABASE_URL")
                if not self.url:
                    raise SystemExit("DATABASE_URL is not set")

        engine = sa.create_async_engine(
            to_async(Settings().url), pool_recycle=240, pool_pre_ping=True, pool_size=3,
            max_overflow=2, pool_timeout=5)

        async def create_db_and_tables():
            async with engine.connect() as conn:
                await conn.execute(sqlmodel.text("select pg_advisory_xact_lock(1)"))
                await conn.run_sync(sqlmodel.SQLModel.metadata.create_all)
                await conn.commit()

        async def get_session():
            session = sqlmodel.ext.asyncio.session.AsyncSession(engine, expire_on_commit=False)
            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            finally:
                await session.close()
    '''
"""
_FILE_BARE = """
    class Assistant:
        def __call__(self):
            return '\\n'.join(self.lines)
        lines = [
            'from contextlib import asynccontextmanager',
            'from os import environ',
            'from sqlalchemy.ext.asyncio import create_async_engine, AsyncSession as Plain',
            'from sqlalchemy.pool import NullPool',
            'from sqlmodel import SQLModel, text',
            'from sqlmodel.ext.asyncio.session import AsyncSession',
            '_, _, rest = environ["DATABASE_URL"].partition("://")',
            'engine = create_async_engine("postgresql+asyncpg://" + rest, poolclass=NullPool)',
            'async def create_db_and_tables():',
            '    async with Plain(engine) as session, session.begin():',
            '        conn = await session.connection()',
            '        await conn.run_sync(SQLModel.metadata.create_all)',
            'async def get_session():',
            '    async with AsyncSession(bind=engine, expire_on_commit=False) as s:',
            '        yield s',
            '        await s.commit()',
        ]
    database_py = Assistant()
"""


@lesson.exercise(
    "database_py",
    points=5,
    measures=("tables.judge",),
    seconds=15,
    task="Write `database_py()`: it returns the text of a `database.py`, written by you or by an "
    "assistant, whose engine, `create_db_and_tables()` and `get_session()` stand a day in service.",
    hints=(
        "What does the file do when `DATABASE_URL` is not set, and what with `postgres://...`?",
        (
            "Four things are forgotten most: `pool_pre_ping`, `pool_recycle` below five minutes, "
            "`expire_on_commit=False`, and the scheme that names asyncpg."
        ),
        (
            "`make_url(os.environ['DATABASE_URL']).set(drivername='postgresql+asyncpg')`, and "
            "`async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)`, whose "
            "session is yielded inside its `async with`"
        ),
    ),
    slips=(
        Slip(
            "fallback",
            "TAB-52",
            "Without `DATABASE_URL` the file went on all the same, with another database.",
            (
                _but(
                    _FILE,
                    (
                        'make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")',
                        'os.getenv("DATABASE_URL", "sqlite+aiosqlite:///./dev.db")',
                    ),
                    (
                        "    engine = create",
                        (
                            '    if url.startswith("postgres"):\n'
                            '        url = make_url(url).set(drivername="postgresql+asyncpg")\n'
                            "    engine = create"
                        ),
                    ),
                ),
                _but(
                    _FILE_LAZY,
                    ('"DATABASE_URL")', '"DATABASE_URL", "postgresql://localhost/app")'),
                ),
            ),
        ),
        Slip(
            "scheme",
            "TAB-53",
            "Hosts give `postgres://` or `postgresql://`, and with one of them the file failed.",
            (
                _but(
                    _FILE,
                    (
                        'make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")',
                        (
                            'os.environ["DATABASE_URL"].replace(\n'
                            '        "postgresql://", "postgresql+asyncpg://", 1)'
                        ),
                    ),
                ),
                _but(
                    _FILE_LAZY,
                    (
                        "return re.sub(",
                        'return url.replace("postgres", "postgresql+psycopg") or re.sub(',
                    ),
                ),
            ),
        ),
        Slip(
            "no_commit",
            "TAB-54",
            "`create_db_and_tables()` came to its end, and Postgres has no such table.",
            (
                _but(_FILE, ("engine.begin()", "engine.connect()")),
                _but(_FILE_LAZY, ("await conn.commit()", "await conn.rollback()")),
            ),
        ),
        Slip(
            "returned",
            "TAB-55",
            "`get_session` gives a session away and never closes it: it should `yield` one, inside "
            "`async with`.",
            (
                _but(
                    _FILE,
                    (
                        "async with make_session() as session:\n            yield session",
                        "return make_session()",
                    ),
                ),
                _but(
                    _FILE_LAZY,
                    (
                        """            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            finally:
                await session.close()
""",
                        "            return session\n",
                    ),
                ),
            ),
        ),
        Slip(
            "shared",
            "TAB-56",
            "Two requests had one and the same session: what one undid, the other one lost.",
            (
                _but(
                    _FILE,
                    (
                        "async with make_session() as session:\n            yield session",
                        "yield the_session",
                    ),
                    (
                        "expire_on_commit=False)",
                        "expire_on_commit=False)\n    the_session = make_session()",
                    ),
                ),
                _but(
                    _FILE_LAZY,
                    (
                        "        async def get_session():\n            session = ",
                        "        session = ",
                    ),
                    ("            try:\n", "        async def get_session():\n            try:\n"),
                ),
            ),
        ),
        Slip(
            "expired",
            "TAB-57",
            "The booking was committed, and then its passenger could not be read: commit had "
            "expired it.",
            (
                _but(_FILE, (", expire_on_commit=False", "")),
                _but(_FILE_LAZY, ("expire_on_commit=False", "autoflush=False")),
            ),
        ),
        Slip(
            "no_ping",
            "TAB-58",
            "A host had cut what rested, and the next request failed.",
            (
                _but(_FILE, ("pool_pre_ping=True, ", "")),
                _but(_FILE_LAZY, ("pool_pre_ping=True", "pool_reset_on_return='commit'")),
            ),
        ),
        Slip(
            "no_recycle",
            "TAB-59",
            "When five minutes were almost over, the old connection was used again: Postgres saw "
            "no new one.",
            (
                _but(_FILE, (", pool_recycle=280", "")),
                _but(_FILE_LAZY, ("pool_recycle=240", "pool_recycle=1800")),
            ),
        ),
        Slip(
            "hushed",
            "TAB-61",
            "A route failed with an error, and `get_session` did not let it pass on.",
            (
                _but(
                    _FILE,
                    (
                        "        yield session\n",
                        """        try:
                yield session
            except Exception:
                await session.rollback()
""",
                    ),
                ),
                _but(_FILE_LAZY, ("                raise\n", "                return\n")),
            ),
        ),
        Slip(
            "password",
            "TAB-62",
            "The file printed or logged the URL, with its password.",
            (
                _but(
                    _FILE,
                    (
                        "    engine = create",
                        "    print('ready:', os.environ['DATABASE_URL'])\n    engine = create",
                    ),
                ),
                _but(
                    _FILE_LAZY,
                    (
                        "        async def create_db_and_tables():\n",
                        """        async def create_db_and_tables():
            import logging
            logging.basicConfig(level="INFO")
            logging.info("making tables, %s", engine.url.render_as_string(False))
""",
                    ),
                ),
            ),
        ),
    ),
    right=(
        _FILE,
        _FILE_LAZY,
        _FILE_BARE,
        _but(_FILE, ("    engine = create", "    print(url)\n    engine = create"), ("280", "299")),
    ),
)
async def database_file(trial: Trial) -> None:
    witness, draw, before = trial.witness, trial.draw, await trial.witness.logins()
    table, passengers = draw.word(), [draw.word(), draw.word()]
    urls = [f"{scheme}://{trial.lab.url.partition('://')[2]}" for scheme in _SCHEMES]
    steps = trial.subject.steps(in_service, urls, table, passengers)
    await steps.next()
    expect(await steps.next() != "done", "TAB-52")
    said, loaded = str(await steps.next()), await steps.outcome()
    told = said if loaded.failure is None else loaded.failure.short
    works = said == "done" and loaded.ok and await witness.logins() >= before + 2
    expect(works, *(("TAB-53",) if _SCHEME.search(told) else ("TAB-51", _UNUSABLE + told[:200])))
    await steps.next()
    expect(await _made(witness, [table]), "TAB-54")
    managed, *generators = await steps.next()
    expect(generators == [True, True], "TAB-55", _MANAGED if managed else "")
    day = await steps.outcome()
    stored = await _rows(witness, table)
    expect(day.ok and [row["passenger"] for row in stored] == passengers[:1], "TAB-56")
    read = await steps.outcome()
    expect(read.ok and read.value == passengers[0], "TAB-57")
    out, backends = await steps.next(), await witness.backends()
    expect(not out and not any(b.in_transaction for b in backends), "TAB-60", _NOT_BACK)
    said, out = await steps.next()
    expect(said == passengers[1], "TAB-61")
    expect(await _rows(witness, table) == stored, "TAB-61", _STORED)
    expect(not out and not any(b.in_transaction for b in await witness.backends()), "TAB-60", _KEPT)
    await witness.cut()
    expect((await steps.outcome()).ok, "TAB-58")
    rested = await witness.logins()
    expect((await steps.outcome()).ok and await witness.logins() > rested, "TAB-59")
    again, stored = await steps.outcome(), await _rows(witness, table)
    expect(again.ok and len(stored) == 1, "TAB-54", _NOT_AGAIN)
    expect(not await steps.next(), "TAB-62")


_SCHEMES = ("postgresql", "postgres")
_SCHEME = re.compile(r"NoSuchModuleError|InvalidRequestError|ArgumentError|psycopg2")
_UNUSABLE = "The file could not be used as it stands: "
_NOT_AGAIN = "At the next start `create_db_and_tables()` failed, or the bookings were gone."
_STORED = "A route failed, and what it had not committed was stored all the same."
_MANAGED = (
    "`get_session` is a context manager: FastAPI calls it and wants a generator, as it is without "
    "`@asynccontextmanager`."
)
_KEPT = "A route failed, and its session kept the connection: what follows `yield` was not reached."
_NOT_BACK = "Both requests were over, and a connection had not been given back."
