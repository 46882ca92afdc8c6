"""The words of an exercise: lesson, exercise, slip, verdict, outcome, and ``expect``."""

from __future__ import annotations

import random
import string
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from engineroom.exercises.subject import Subject
    from engineroom.witness import Witness

Status = Literal[
    "passed", "failed", "not_attempted", "error", "timed_out", "out_of_memory", "crashed"
]


class Verdict(BaseModel):
    """What came of a check: everything a card, a line, a report or an export shows."""

    model_config = ConfigDict(frozen=True)

    exercise: str
    status: Status
    points: float
    max_points: float
    message: str = ""
    """One sentence: what was expected, what was seen, and by whom."""
    code: str = ""
    slip: str | None = None
    where: str = ""
    """The learner's own line, when their code raised."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def lesson(self) -> str:
        return self.exercise.partition(".")[0]


class Failure(BaseModel):
    """An exception of the subject, as data."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str = Field(max_length=200)
    bases: tuple[str, ...] = Field(default=(), max_length=40)
    message: str = Field(default="", max_length=4000)
    cause: Failure | None = None
    line: int | None = None
    text: str = Field(default="", max_length=400)

    def is_a(self, *names: str) -> bool:
        """Whether it, or what caused it, is an exception of one of these names."""
        return bool({self.type, *self.bases} & set(names)) or (
            self.cause is not None and self.cause.is_a(*names)
        )

    @property
    def short(self) -> str:
        first = self.message.strip().splitlines()[0] if self.message.strip() else ""
        return f"{self.type}: {first[:300]}" if first else self.type

    @property
    def where(self) -> str:
        return f"line {self.line}: {self.text.strip()}" if self.line else ""


class Outcome(BaseModel):
    """What a step of the subject gave: a value, or an exception."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    value: Any = None
    kind: str = Field(default="", max_length=200)
    """The value's type, by name, also where the value itself could not travel."""
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None


class Refused(Exception):
    """A check's no: the code and, if it is not the slip's own, the sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class SubjectFailed(Exception):
    """The learner's code raised where the check had no opinion on exceptions."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.short)
        self.failure = failure


def expect(ok: object, code: str, text: str = "") -> None:
    """Go on when ``ok``; else the answer is wrong, for the reason that ``code`` names."""
    if not ok:
        raise Refused(code, text)


PRELUDE = "from sqlalchemy.ext.asyncio import create_async_engine\n"
"""What stands before every program of a slip or a right answer."""


def program_text(text: str) -> str:
    """A program that was written indented in its place, as a cell would have it."""
    return dedent(text).strip("\n") + "\n"


@dataclass(frozen=True)
class Slip:
    """A known wrong program, the code it must trigger, and what its author should read."""

    name: str
    code: str
    sentence: str
    programs: tuple[str, ...]
    """At least two spellings of the same mistake."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "programs", tuple(map(program_text, self.programs)))


class Draw(random.Random):
    """Inputs drawn anew at each check; from a learner's own seed when grading."""

    def word(self, length: int = 8) -> str:
        return "".join(self.choice(string.ascii_lowercase) for _ in range(length))


@dataclass
class Trial:
    """What a check has at hand."""

    subject: Subject
    witness: Witness
    lab: Any
    draw: Draw


Check = Callable[[Trial], Awaitable[None]]


@dataclass
class Exercise:
    """One thing to write, and what decides whether it is right."""

    lesson: str
    name: str
    answer: str
    """The name that the learner defines."""
    kind: Literal["function", "coroutine function", "any"]
    points: float
    check_it: Check
    task: str
    hints: tuple[str, ...]
    slips: tuple[Slip, ...] = ()
    right: tuple[str, ...] = ()
    """Right answers that look different; kept here because they are the check's own tests."""
    needs: tuple[str, ...] = ("postgres",)
    seconds: float = 10.0
    measures: tuple[str, ...] = ()
    """Ids of the lesson's objectives that a passed check speaks for."""

    @property
    def id(self) -> str:
        return f"{self.lesson}.{self.name}"

    def sentence_for(self, code: str) -> tuple[str, str | None]:
        """The sentence and name of the slip that a code belongs to."""
        for slip in self.slips:
            if slip.code == code:
                return slip.sentence, slip.name
        return "", None

    # What a learner types in a notebook. The work is done in another process.

    def check(self) -> Any:
        """Check your answer."""
        from engineroom.exercises.notebook import check

        return check(self)

    def hint(self) -> Any:
        """Show one more hint."""
        from engineroom.exercises.notebook import hint

        return hint(self)

    def solution(self) -> Any:
        """Show a right answer (asks once before it does; costs no points)."""
        from engineroom.exercises.notebook import solution

        return solution(self)

    def __repr__(self) -> str:
        return f"{self.id}: .check(), .hint(), .solution()"

    def __dir__(self) -> list[str]:
        return ["check", "hint", "solution"]


Skill = Literal[
    "Async engines",
    "Database URLs",
    "Connection pools",
    "Database security",
    "Test databases",
    "Tables and models",
    "Sessions and queries",
    "Services",
]


@dataclass(frozen=True)
class Objective:
    """What a learner can do after the lesson, and which skill it adds to."""

    id: str
    text: str
    bloom: Literal["remember", "understand", "apply", "analyze", "evaluate", "create"]
    level: Literal["A1", "A2", "B1", "B2", "C1"]
    skill: Skill


@dataclass
class Lesson:
    """The exercises of one lesson, in their order."""

    name: str
    title: str
    minutes: int = 30
    objectives: tuple[Objective, ...] = ()
    stuck: str = ""
    """The gentler way through: what to hold on to for who gets stuck."""
    further: str = ""
    """The way on, for who wants more."""
    codes: dict[str, str] = field(default_factory=dict)
    """What each code means, how to see it oneself and what to do: its page in ``docs/codes``."""
    exercises: dict[str, Exercise] = field(default_factory=dict)

    def exercise(
        self,
        answer: str,
        *,
        points: float,
        task: str,
        hints: Sequence[str],
        slips: Sequence[Slip] = (),
        right: Sequence[str] = (),
        kind: Literal["function", "coroutine function", "any"] = "function",
        needs: Sequence[str] = ("postgres",),
        seconds: float = 10.0,
        measures: Sequence[str] = (),
    ) -> Callable[[Check], Exercise]:
        """Turn a check into an exercise of the same name."""

        def make(check: Check) -> Exercise:
            name = check.__name__
            made = Exercise(
                lesson=self.name,
                name=name,
                answer=answer,
                kind=kind,
                points=points,
                check_it=check,
                task=task,
                hints=tuple(hints),
                slips=tuple(slips),
                right=tuple(map(program_text, right)),
                needs=tuple(needs),
                seconds=seconds,
                measures=tuple(measures),
            )
            self.exercises[name] = made
            # What a learner sees after `pooling.` and Tab: the exercises, not their workshop.
            vars(sys.modules[check.__module__])["__dir__"] = lambda: list(self.exercises)
            return made

        return make
