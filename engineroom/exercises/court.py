"""The judge as a process of its own, for one notebook's kernel: requests in, verdicts out.

A line of JSON each way, on standard input and output. It ends when the kernel closes its input,
however the kernel ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from engineroom.errors import EngineRoomError
from engineroom.exercises.judge import Bench, NotHere, judge
from engineroom.exercises.lessons import find_exercise
from engineroom.exercises.model import Verdict
from engineroom.exercises.sources import Cell
from engineroom.lab.places import find_places

if TYPE_CHECKING:
    from engineroom.exercises.progress import Progress


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=64 * 2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    bench = Bench()
    # The first check finds everything warm while the learner still reads the exercise.
    await bench.nursery.start()
    # SQLAlchemy takes its time, in which the nursery imports the same beside us.
    from engineroom.exercises.progress import Progress

    progress = Progress(find_places().home)
    try:
        while line := await reader.readline():
            sys.stdout.write(json.dumps(await _answer(bench, progress, json.loads(line))) + "\n")
            sys.stdout.flush()
    finally:
        await bench.close()
        await progress.close()


async def _answer(bench: Bench, progress: Progress, request: dict[str, Any]) -> dict[str, Any]:
    try:
        exercise = find_exercise(request["exercise"])
        if request["op"] == "hint":
            return {"number": await progress.next_hint(exercise.id, len(exercise.hints))}
        if request["op"] == "solution":
            return {"asked": await progress.ask_for_solution(exercise.id)}
        cells = [Cell(number, source) for number, source in request["cells"]]
        verdict = await judge(bench, exercise, cells)
        await progress.after(verdict)
        return {"verdict": verdict.model_dump()}
    except NotHere as error:
        # The lesson goes on without it, also where all cells are run at once.
        unchecked = Verdict(
            exercise=exercise.id,
            status="not_attempted",
            points=0,
            max_points=exercise.points,
            message=f"Nothing was checked. {error.sentence} Next: {error.fix}",
        )
        return {"verdict": unchecked.model_dump()}
    except EngineRoomError as error:
        return {"sentence": error.sentence, "fix": error.fix}
    except Exception as error:
        return {
            "sentence": f"The check met a fault of its own: {type(error).__name__}: {error}.",
            "fix": "run the check again; if it stays, tell the course's authors",
        }


def main() -> None:
    """Run as ``python -m engineroom.exercises.court`` with a notebook's first exercise."""
    # What a check prints by accident must not be taken for a verdict.
    replies = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(replies, "w")
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
