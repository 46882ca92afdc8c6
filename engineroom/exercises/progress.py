"""What a learner has done, kept on their machine: SQLModel on aiosqlite, in the lab's home.

Its tables have a registry and metadata of their own: a learner's ``SQLModel.metadata`` holds what
the learner put there and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import MetaData, event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from engineroom.exercises.model import Verdict


class _Kept(SQLModel, registry=registry(metadata=MetaData())):
    """The base of what is kept here, apart from everybody else's models."""


class Record(_Kept, table=True):
    """One exercise: the best that was reached, and what help was taken."""

    __tablename__ = "record"

    exercise: str = Field(primary_key=True)
    attempts: int = 0
    points: float = 0.0
    status: str = "not_attempted"
    """Of the last check; ``passed`` stays with ``passed_at`` whatever comes later."""
    passed_at: datetime | None = None
    hints: int = 0
    solution_asked: int = 0
    updated_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Progress:
    """The learner's records; every call is a transaction of its own."""

    def __init__(self, home: Path) -> None:
        self._file = home / "progress.db"
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()

    async def after(self, verdict: Verdict) -> None:
        """Remember a verdict; a passed exercise stays passed."""
        async with self._record(verdict.exercise) as record:
            if verdict.status != "not_attempted":
                record.attempts += 1
            record.status = verdict.status
            record.points = max(record.points, verdict.points)
            if verdict.status == "passed" and record.passed_at is None:
                record.passed_at = datetime.now(UTC)

    async def next_hint(self, exercise: str, total: int) -> int:
        """The number of the hint to show now: one more than last time, up to the last."""
        async with self._record(exercise) as record:
            record.hints = min(record.hints + 1, total)
            return record.hints

    async def ask_for_solution(self, exercise: str) -> int:
        """How often it was asked for, this time included."""
        async with self._record(exercise) as record:
            record.solution_asked += 1
            return record.solution_asked

    async def all(self) -> list[Record]:
        """Every record, in the order of ids."""
        async with await self._session() as session:
            found = await session.exec(select(Record).order_by(Record.exercise))
            return list(found.all())

    async def reset(self, exercise: str | None = None) -> int:
        """Forget one exercise, or all; how many were forgotten."""
        async with await self._session() as session:
            statement = select(Record)
            if exercise is not None:
                statement = statement.where(Record.exercise == exercise)
            found = (await session.exec(statement)).all()
            for record in found:
                await session.delete(record)
            await session.commit()
            return len(found)

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @asynccontextmanager
    async def _record(self, exercise: str) -> AsyncIterator[Record]:
        async with await self._session() as session:
            record = await session.get(Record, exercise) or Record(exercise=exercise)
            yield record
            record.updated_at = datetime.now(UTC)
            session.add(record)
            await session.commit()

    async def _session(self) -> AsyncSession:
        async with self._opening:  # nobody asks before the table is there
            if self._engine is None:
                self._engine = await self._open()
        return AsyncSession(self._engine, expire_on_commit=False)

    async def _open(self) -> AsyncEngine:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{self._file}", connect_args={"timeout": 10}
        )
        _begin_at_once(engine.sync_engine)
        async with engine.begin() as connection:
            await connection.run_sync(_Kept.metadata.create_all)
        return engine


def _begin_at_once(engine: Engine) -> None:
    """Take the write lock before reading, so that two notebooks do not lose each other's step."""

    @event.listens_for(engine, "connect")
    def connected(connection: object, _: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def began(connection: object) -> None:
        connection.exec_driver_sql("begin immediate")  # type: ignore[attr-defined]
