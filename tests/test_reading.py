"""Which cells of which notebook an answer is found in, whatever has become of both."""

from __future__ import annotations

import ast
import io
import json
import os
import random
import socket
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab_helpers import ROOT, needs_root

from engineroom.errors import EngineRoomError
from engineroom.exercises.dialect import as_python
from engineroom.exercises.judge import Bench, judge
from engineroom.exercises.lessons import known_lessons
from engineroom.exercises.model import Exercise
from engineroom.exercises.sources import LONGEST_CELL, Cell, needed
from engineroom.grading import parcels
from engineroom.grading.layouts import Layout, label, shown
from engineroom.grading.notebooks import CELL_LIMIT, CODE_LIMIT, lesson_named
from engineroom.grading.reading import (
    Reading,
    UnreadableError,
    only,
    parse,
    read_submissions,
)

LESSONS = known_lessons()
MASKED = LESSONS["urls"].exercises["masked"]  # needs no server
CEILING = LESSONS["pooling"].exercises["ceiling"]
SOLVED = {
    name: (ROOT / "solutions" / name).read_bytes() for name in ("03_urls.ipynb", "04_pooling.ipynb")
}

quick = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# -- which cells -----------------------------------------------------------------------------


def sources_for(cells: list[str], answer: str = "f", marked: int | None = None) -> list[int]:
    made = [Cell(n, s, "x.f" if n == marked else None) for n, s in enumerate(cells)]
    return [cell.number for cell in needed(made, answer, "x.f")]


def test_a_check_runs_the_answer_and_what_it_uses_and_no_demonstration() -> None:
    cells = [
        "import os",
        "LIMIT = 5",
        "def helper(): return LIMIT + other()",
        "def other(): return 1",
        "print(helper())\nawait connect()",
        "def f(): return helper()",
        "f.check()",
    ]
    assert sources_for(cells) == [1, 2, 3, 5]


def test_the_last_definition_counts() -> None:
    assert sources_for(["def f(): return 1", "def f(): return 2"]) == [1]
    assert sources_for(["def f(): return 1", "f = lambda: 2"]) == [1]
    assert sources_for(["def f(): return 1", "class f: x = 2"]) == [1]
    assert sources_for(["x = 1"]) == []


@pytest.mark.parametrize(
    "again",
    [
        "def f(): return 2",
        "async def f(): return 2",
        "f = lambda: 2",
        "f, g = lambda: 2, 3",
        "f = partial(make, 2)",
        "f = functools.partial(make, 2)",
        "class f:\n    def __call__(self): return 2",
        "@wrap\ndef f(): return 2",
        "f = timed(f)",
        "if True:\n    def f(): return 2",
        "try:\n    def f(): return 2\nfinally:\n    pass",
        "with calm():\n    def f(): return 2",
        "(f := lambda: 2)",
    ],
)
def test_a_second_try_in_a_new_cell_counts_as_after_run_all(again: str) -> None:
    assert 1 in sources_for(["def f(): return 1", again], marked=0)


@pytest.mark.parametrize(
    "demonstration",
    [
        "f = f(url, 3, 1)",
        "f = await f(url)",
        "f = f(url).pool",
        "async with f(url) as f: pass",
        "for f in [f(1), f(2)]: pass",
        "f = 7",
        "f = create_async_engine(url)",
        "with open('x') as f: pass",
        "f: int",
        "print([f for f in range(3)])",
        "del f",
        "def g():\n    global f\n    f = 3",
        "def f(:",
    ],
)
def test_a_cell_that_uses_the_name_for_something_else_is_no_second_try(demonstration: str) -> None:
    assert sources_for(["def f(): return 1", demonstration], marked=0) == [0]


@pytest.mark.parametrize("again", ["f = make()", "f = 7", "def f(:", "from a import f"])
def test_where_no_cell_carries_an_id_the_last_that_defines_it_counts(again: str) -> None:
    """In a kernel nobody knows the ids, and what was run last is what one wants checked."""
    assert sources_for(["def f(): return 1", again]) == [1]


@pytest.mark.parametrize("use", ["f = f(url, 3, 1)", "f = await f(1)", "f += 1", "f = [f]"])
def test_also_where_the_ids_were_stripped(use: str) -> None:
    assert sources_for(["def f(): return 1", use]) == [0]
    assert sources_for([use]) == []


@pytest.mark.parametrize(
    "stub",
    [
        "def f(): ...",
        'def f(x):\n    """Words."""\n    ...',
        "async def f():\n    pass",
        "f = ...",
        'class f:\n    """Words."""\n    ...',
    ],
)
def test_what_was_handed_out_is_no_answer(stub: str) -> None:
    assert sources_for([stub]) == []
    assert sources_for([stub], marked=0) == []
    assert sources_for([stub, "f = f(1)"], marked=0) == []
    assert sources_for([stub, "f = make()"], marked=0) == [1]
    assert sources_for([stub + "\n\ndef f(): return 1"], marked=0) == [0]
    # The lesson shows a function of this name, then asks for a better one.
    assert sources_for(["def f(): return 1", stub], marked=1) == []
    assert sources_for(["def f(): return 1", stub]) == []
    # The cell was copied, and one of the two was filled.
    for cells in (["def f(): return 1", stub], [stub, "def f(): return 1"]):
        made = [Cell(number, source, "x.f") for number, source in enumerate(cells)]
        assert [cell.source for cell in needed(made, "f", "x.f")] == ["def f(): return 1"]
    assert sources_for(["def f(): return 1", stub], marked=0) == [0]


def test_a_class_that_needs_no_more_than_pass_is_an_answer() -> None:
    assert sources_for(["class f(ValueError):\n    pass"]) == [0]


@pytest.mark.parametrize(
    "definition",
    [
        "from functools import partial as f",
        "import os.path as f",
        "def g():\n    global f\n    f = 3\ng()",
        "x = [f := 3]",
        "match 1:\n    case f: pass",
        "match {}:\n    case {'a': 1, **f}: pass",
        "try:\n    1/0\nexcept Exception as f:\n    pass",
        "a, (b, *f) = 1, (2, 3)",
        "f: int = 3",
        "while True:\n    def f(): return 1\n    break",
        "%%time\ndef f(): return 1",
        "%%capture out\n%%time\ndef f(): return 1",
        "%time f = 3",
        ">>> def f():\n...     return 1",
        "    def f():\n        return 1",
        "def f(): return 1\nawait g()",
        "def f(): return '%d' % 3\n!ls",
    ],
)
def test_a_definition_of_any_kind_is_found(definition: str) -> None:
    assert sources_for([definition, "print(f)"]) == [0]


def test_a_definition_that_builds_on_an_earlier_one_keeps_it() -> None:
    assert sources_for(["def f(): return 1", "f = wrap(f)", "def wrap(g): return g"]) == [0, 1, 2]
    assert sources_for(["n = 1", "n = n + 1", "n += 1", "def f(): return n"]) == [0, 1, 2, 3]
    assert sources_for(["n = 1", "del n\nn = 2", "def f(): return n"]) == [0, 1, 2]


def test_bindings_of_every_kind_are_seen() -> None:
    cells = [
        "from a.b import c as d, e\nimport g.h",
        "with open('x') as k, p(): l = 1",
        "for m, (n, *o) in []: pass\nif (q := 1): r: int = 2",
        "try:\n    import s\nexcept ImportError:\n    s = None",
        "match 1:\n    case [t, *u]: v = 1",
        "def f(): return d, e, g, k, l, m, n, o, q, r, s, v",
    ]
    assert sources_for(cells) == [0, 1, 2, 3, 4, 5]


def test_a_functions_own_variables_need_no_cell() -> None:
    cells = ["made = connect()", "def f(url):\n    made = url\n    return [made for url in made]"]
    assert sources_for(cells) == [1]


def test_what_a_cell_binds_before_it_reads_it_needs_no_cell() -> None:
    cells = [
        "conn = connect()\nn = error = x = 1",
        """
def f(): return 1
async with f() as conn:
    await conn.go()
try:
    f()
except ValueError as error:
    print(error)
print([n for n in (1, 2)], (x := 2), x)
""",
    ]
    assert sources_for(cells) == [1]


def test_a_helper_that_is_called_like_a_builtin_is_the_helper() -> None:
    assert sources_for(["def max(*a): return 3", "def f(): return max(1, 2)"]) == [0, 1]
    assert sources_for(["def f(): return max(1, 2)", "max = 3"]) == [0]


def test_what_is_put_into_a_needed_thing_comes_along() -> None:
    cells = [
        "options = {}",
        "options['echo'] = True",
        "options.size = 3",
        "options.x.y[0] += 1",
        "def f(): return options",
        "options['echo'] = False",
    ]
    assert sources_for(cells) == [0, 1, 2, 3, 4]
    assert sources_for(["import os", "os.environ['A'] = connect()", "def f(): return os"]) == [0, 2]


def test_a_star_import_may_be_where_a_name_comes_from() -> None:
    cells = ["from sqlalchemy import *", "x = 1", "def f(): return make_url(x)"]
    assert sources_for(cells) == [0, 1, 2]
    assert sources_for(["from sqlalchemy import *", "def f(): return print(1)"]) == [1]


def test_a_broken_cell_costs_only_itself() -> None:
    conflict = "<<<<<<< HEAD\ndef helper(): return 1\n=======\ndef g(): return 2\n>>>>>>> theirs"
    cells = ["def helper(): return 3", conflict, "def f(): return helper()"]
    assert sources_for(cells) == [0, 2]
    assert sources_for(["def f(): return 1", "def f(a, a): return 2"], marked=0) == [0]
    # Where the answer's own cell is broken, that is to be said.
    assert sources_for(["def f(): return 1", "def f(:"], marked=1) == [1]
    assert sources_for(["def f(:\n  pass"]) == [0]
    assert sources_for(["return 3\ndef f(): return 1"]) == [0]


def test_a_cell_of_two_answers_serves_both() -> None:
    cells = ["x = 1", "def f(): return x\ndef g(): return 1"]
    assert sources_for(cells, "f") == sources_for(cells, "g") == [0, 1]


def test_a_cell_longer_than_any_answer_is_not_parsed() -> None:
    long = "def f(): return 1\n" + "import a" + ".a" * LONGEST_CELL
    assert sources_for([long]) == [0]
    assert not Cell(0, long).sound
    assert sources_for(["def f(): return 1", long], marked=0) == [0]


# -- what only a notebook understands --------------------------------------------------------


def test_magics_and_shell_escapes_do_nothing() -> None:
    cells = [
        "%load_ext sql\n!rm -rf /\nx = !ls\ny = 5 % 3\nz = %who",
        "%%bash\nrm -rf /",
        "def f(): return x, y, z",
    ]
    assert sources_for(cells) == [0, 2]
    code = Cell(0, cells[0]).code
    assert "rm" not in code
    assert "y = 5 % 3" in code
    assert Cell(1, cells[1]).code == ""
    assert Cell(0, "if True:\n    !ls\n").sound


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%time await f()", "await f()"),
        ("x = %time f(2)", "x = (f(2))"),
        ("%timeit -n 10 -r3 -o f(x)", "f(x)"),
        ("%prun -s cumulative f(x)", "f(x)"),
        ("if x:\n    %time f()", "if x:\n    f()"),
        ("%time", "pass"),
        ("%time this is no Python", "pass"),
        ("f?\nf??\n?f\n%time?\n*int*?\nx = 1", "pass\npass\npass\npass\npass\nx = 1"),
        ("!ls \\\n  -l\ny = 1", "pass\n\ny = 1"),
        ("/f x\n,f x\n;f x", "pass\npass\npass"),
        ("%%time\nx = 1\n%time y = 2", "\nx = 1\ny = 2"),
        ("\n%%capture out\n%%time\nx = 1", "\n\n\nx = 1"),
        ("%%sql\nselect 1", ""),
        ("%%writefile f.py\nx = 1", ""),
        ('s = """\n%s\n!no\n"""\n!ls', 's = """\n%s\n!no\n"""\npass'),
        ("x = (1\n % 2)", "x = (1\n % 2)"),
        ("x = (1\n % 2)\n!ls", "x = (1\n % 2)\npass"),
        ("x = 1  # why?\n!ls", "x = 1  # why?\npass"),
        ("In [3]: x = 1\n   ...: y = 2", "x = 1\ny = 2"),
    ],
)
def test_a_cell_becomes_the_python_in_it(cell: str, python: str) -> None:
    code, tree = as_python(cell)
    assert code == python
    assert tree is not None


@pytest.mark.parametrize(
    "cell",
    [
        "%who\nx = 1\n!ls\ny = (1\n  % 2)",
        "def g():\n    %who\n    return '!ls'\n\n\n?g\ng?",
        "for i in x:\n    !echo {i}\n    y = !ls\n",
        'a = """\n%b\n"""\n%c d\ne = f"{a!r}"\n',
        "    x = 1\n    %who\n",
        "%%time\nx = 1\n",
        ">>> x = 1\n>>> y = [\n... 2]\n",
        "x = {'a':\n  1 % 2}\nz = %who_ls\n",
        "x = 'it\\'s'  # don't!\n!ls 'unbalanced\ny = 1\n",
    ],
)
def test_what_ipython_takes_for_python_is_what_we_take_for_it(cell: str) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    theirs = TransformerManager().transform_cell(cell.removeprefix("%%time\n"))
    assert _python_lines(theirs) == _python_lines(as_python(cell)[0])


def _python_lines(code: str) -> list[str]:
    """The statements that IPython did not make, one by one."""
    found = []
    for node in ast.walk(ast.parse(code)):
        text = ast.unparse(node) if isinstance(node, ast.stmt) else ""
        made = "get_ipython()" in text or text == "pass" or text.endswith((" = None", " = []"))
        if text and not made and not hasattr(node, "body"):
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("asyncio.run(main())", "(await (main()))"),
        ("asyncio.run(\n    main(), debug=True\n)", "(await (\nmain()\n))"),
        ("é = 'é'; asyncio.run(f('ü')).close()", "é = 'é'; (await (f('ü'))).close()"),
        ("loop.run_until_complete(main())", "(await (main()))"),
        (
            "if __name__ == '__main__':\n    x = asyncio.run(main())",
            "if __name__ == '__main__':\n    x = (await (main()))",
        ),
        ("def f():\n    asyncio.run(main())", None),
        ("class A:\n    x = asyncio.run(main())", None),
        ("f = lambda: asyncio.run(main())", None),
        ("asyncio.run()", None),
        ("asyncio.run(*mains)", None),
    ],
)
def test_asyncio_run_at_the_top_is_awaited(cell: str, python: str | None) -> None:
    code, tree = as_python(cell)
    assert code == (cell if python is None else python)
    assert tree is not None
    assert code.count("\n") == cell.count("\n")


# -- one notebook ----------------------------------------------------------------------------


def code(source: Any, mark: str | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"engineroom": {"exercise": mark}} if mark else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], **more}


def text(source: str = "Hello", mark: str | None = None, kind: str = "markdown") -> dict[str, Any]:
    return {**code(source, mark), "cell_type": kind}


def notebook(*cells: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, **more}).encode()


def read(*cells: dict[str, Any], name: str = "x.ipynb") -> list[tuple[int, str]]:
    found = parse(name, notebook(*cells)).cells
    return [(cell.number, cell.source) for cell in found]


RIGHT = "def masked(url): return 'hidden'"


@pytest.mark.parametrize(
    "content",
    [
        notebook(code(RIGHT, MASKED.id), nbformat_minor=5),
        notebook(code([RIGHT], MASKED.id), nbformat_minor=0),
        notebook(code(RIGHT, MASKED.id), metadata={"kernelspec": {"name": "julia-1.10"}}),
        notebook(code(RIGHT, MASKED.id)).decode().encode("utf-8-sig"),
        notebook(code(RIGHT, MASKED.id)).decode().encode("utf-16"),
        notebook(code(RIGHT, MASKED.id)) + b"\n\n",
        notebook(code(RIGHT, MASKED.id, outputs=[{"text": ["]}", '"cells": [', "\\"]}])),
        json.dumps(
            {
                "nbformat": 3,
                "worksheets": [
                    {"cells": [text()]},
                    {"cells": [{"cell_type": "code", "input": [RIGHT], "language": "python"}]},
                ],
            }
        ).encode(),
        json.dumps({"cells": [{"cell_type": "code", "code": RIGHT}], "nbformat": 1}).encode(),
        json.dumps({"cells": [], "nbformat": 4}).encode()[:-1]
        + b',"cells":'
        + json.dumps([code(RIGHT)]).encode()
        + b"}",
    ],
)
def test_every_version_of_the_format_is_read(content: bytes) -> None:
    assert [cell.source for cell in parse("x.ipynb", content).cells] == [RIGHT]


def test_lines_are_put_together_with_or_without_their_ends() -> None:
    lines = ["def f():", "    return 1"]
    assert (
        read(code(lines)) == read(code(["def f():\n", "    return 1"])) == [(1, "\n".join(lines))]
    )
    assert read(code([1, "x", None])) == [(1, "x")]
    assert read(code({"a": 1}), code(None), code(7)) == [(1, ""), (2, ""), (3, "")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; ask for it again"),
        (b" \n ", "is empty; ask for it again"),
        (b"<html><body>Sign in", "it is not JSON (it begins with '<html><body>Sign in')"),
        (b"PK\3\4\0\0", r"(it begins with 'PK\x03\x04\x00\x00')"),
        (b"version https://git-lfs", "it begins with 'version https://git-lfs'"),
        (b"[]", "it has no cells"),
        (b"{}", "it has no cells"),
        (b'{"cells": null}', "it has no cells"),
        (b'{"cells": "many"}', "it has no cells"),
        (b"{ not json", "it is not JSON (line 1 is damaged)"),
        (b'{"cells": [],\n "a": 1]', "it is not JSON (line 2 is damaged)"),
        (notebook(code("x"))[:-30], "its end is missing"),
        (notebook(code("x"))[:20], "its end is missing"),
        (notebook(code("x")) + b"more", "it is not JSON"),
        (b'{"a": ' + b"[" * 100_000, "it is a maze of brackets"),
        (b"[" * 100_000, "it has no cells"),
        (
            notebook(code("x"), code("y")).replace(b"}, {", b"},\n<<<<<<< HEAD\n"),
            "both sides of a merge conflict",
        ),
    ],
)
def test_what_is_no_notebook_is_said_so_that_one_can_ask(content: bytes, words: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse("04_pooling.ipynb", content)
    assert words in str(caught.value)
    assert "`04_pooling.ipynb`" in str(caught.value)
    assert "; ask for" in str(caught.value)


def test_a_merge_conflict_inside_costs_one_cell() -> None:
    lines = json.dumps(
        {"cells": [code(["a = 1\n", "b = 2\n"]), code(RIGHT)], "nbformat": 4}, indent=1
    )
    source, count = '    "a = 1\\n",\n', '   "outputs": []'
    conflict = f'<<<<<<< HEAD\n{source}=======\n    "a = 3\\n",\n>>>>>>> theirs\n'
    lines = lines.replace(source, conflict).replace(
        count, f"<<<<<<< HEAD\n{count}\n=======\n{count}\n>>>>>>> theirs\n", 1
    )
    cells = parse("x.ipynb", lines.encode()).cells
    assert [cell.sound for cell in cells] == [False, True]
    assert "<<<<<<< HEAD" in cells[0].source
    assert cells[1].source == RIGHT


def test_an_answer_that_became_text_by_a_slip_of_a_key_counts() -> None:
    assert read(text(RIGHT, MASKED.id)) == [(1, RIGHT)]
    assert read(text(RIGHT, MASKED.id, "raw")) == [(1, RIGHT)]
    assert read(text(RIGHT)) == []
    assert read(text("Here I *define* it.", MASKED.id)) == []
    stub = "def masked(url): ..."
    assert read(text(RIGHT, MASKED.id), code(stub, MASKED.id)) == [(1, RIGHT), (2, stub)]
    # Put aside on purpose, for there is another.
    other = "def masked(url): return 2"
    assert read(code(other), text(RIGHT, MASKED.id)) == [(1, other)]


HALVES = (
    'async def masked(url):\n    """Words."""',
    "    hidden = 'hidden'\n    await wait()\n\n    return hidden",
)


@pytest.mark.parametrize(
    "marks", [(MASKED.id,) * 2, (MASKED.id, None), (None, MASKED.id), (None,) * 2]
)
def test_a_function_that_was_split_in_two_is_one(marks: tuple[str | None, ...]) -> None:
    (first, first_mark), (second, second_mark) = zip(HALVES, marks, strict=True)
    found = parse("x.ipynb", notebook(code(first, first_mark), code(second, second_mark)))
    assert [cell.source for cell in found.cells] == [f"{first}\n{second}"]
    assert found.answers(MASKED)


def test_cells_that_only_look_like_halves_stay_two() -> None:
    assert len(read(code("x = 1"), code("    y = 2"))) == 2
    assert len(read(code(HALVES[0]), text(), code(HALVES[1]))) == 2
    assert len(read(code(HALVES[0], "a.b"), code(HALVES[1], "a.c"))) == 2
    assert len(read(code("def f(): return 1"), code("    x = 2"))) == 2


def test_fifty_megabytes_of_saved_output_are_stepped_over() -> None:
    many = json.dumps(["x\n"] * 1_000_000, indent=1).encode()
    many = b"[" + b",".join([many.strip(b"[]")] * 7) + b"]"
    content = notebook(code(RIGHT, outputs=[{"text": "HERE"}])).replace(b'"HERE"', many)
    assert len(content) > 50 * 2**20
    tracemalloc.start()
    try:
        found = parse("x.ipynb", content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [cell.source for cell in found.cells] == [RIGHT]
    assert peak < 2**20  # besides the file itself; its objects alone would take 300 MB


@pytest.mark.parametrize(
    "cells", [[code("x")] * (CELL_LIMIT + 1), [code("#" * 200_000)] * (CODE_LIMIT // 200_000 + 1)]
)
def test_there_is_a_limit_to_code(cells: list[dict[str, Any]]) -> None:
    with pytest.raises(UnreadableError, match="more in it than any lesson"):
        parse("x.ipynb", notebook(*cells))


def test_a_picture_in_the_text_is_no_code() -> None:
    assert read(text("data:" + "A" * 3_000_000), code("x")) == [(2, "x")]


@pytest.mark.parametrize(
    ("name", "lesson"),
    [
        ("04_pooling.ipynb", "pooling"),
        ("04_pooling (1).ipynb", "pooling"),
        ("Copy of 04_pooling.ipynb", "pooling"),
        ("04-Pooling-FINAL2.IPYNB", "pooling"),
        ("ada_pooling_v2.ipynb", "pooling"),
        ("04_\uff50ooling.ipynb", "pooling"),
        ("07 sqlite testing.ipynb", "sqlite_testing"),
        ("testing.ipynb", None),
        ("carpooling.ipynb", None),
        ("poolings.ipynb", None),
    ],
)
def test_a_lesson_is_known_by_its_files_name(name: str, lesson: str | None) -> None:
    assert lesson_named(name, {"pooling", "urls", "sqlite_testing"}) == lesson


def test_a_lesson_is_known_by_ids_then_imports_then_name_then_answers() -> None:
    def lesson(name: str, *cells: dict[str, Any]) -> str | None:
        return parse(name, notebook(*cells)).lesson(LESSONS)

    imported = code("from checks import (pooling)")
    assert lesson("urls.ipynb", imported, code("x", "urls.masked"), code("x", "old.gone")) == "urls"
    assert lesson("urls.ipynb", imported) == "pooling"
    assert lesson("urls.ipynb", code("from checks import gone")) == "urls"
    assert lesson("x.ipynb", code(RIGHT)) == "urls"
    assert lesson("x.ipynb", code("def masked(url): ...")) is None
    assert lesson("x.ipynb", code("x", "pooling.gone_since_last_year")) == "pooling"
    assert parse("x.ipynb", notebook(code(RIGHT))).lesson({"urls"}) is None


# -- folders ---------------------------------------------------------------------------------


def readings(folder: Path, layout: Layout = "plain") -> dict[str, Reading]:
    return {s.learner: s.reading(LESSONS) for s in read_submissions([folder], layout)}


def troubles(folder: Path) -> dict[str, str]:
    return {learner: reading.trouble for learner, reading in readings(folder).items()}


def sources(reading: Reading) -> list[str]:
    return [cell.source for notebook in reading.notebooks for cell in notebook.cells]


def put(path: Path, *cells: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(notebook(*cells or (code(RIGHT),)))
    return path


def test_each_entry_is_a_learner(tmp_path: Path) -> None:
    put(tmp_path / "ada.ipynb")
    put(tmp_path / "bob" / "work" / "03_URLS.IPYNB")
    put(tmp_path / "bob" / ".ipynb_checkpoints" / "03_urls-checkpoint.ipynb", code("old"))
    put(tmp_path / "bob" / "venv" / "lib" / "other.ipynb", code("other"))
    (tmp_path / "bob" / "venv" / "pyvenv.cfg").touch()
    put(tmp_path / "dee.ipynb.txt")
    with zipfile.ZipFile(tmp_path / 'cy, "the quick".zip', "w") as archive:
        archive.writestr("deep/03_urls.ipynb", notebook(code(RIGHT)))
        archive.writestr("__MACOSX/deep/._03_urls.ipynb", "rubbish")
    for name in ("roster.csv", "README.md", ".DS_Store", "notes.txt", "grades.xlsx"):
        (tmp_path / name).write_text("the instructor's own")
    put(tmp_path / ".ipynb_checkpoints" / "x.ipynb")
    found = readings(tmp_path)
    assert list(found) == ["ada", "bob", 'cy, "the quick"', "dee"]
    assert all(sources(reading) == [RIGHT] for reading in found.values())
    assert not any(reading.trouble or reading.broken for reading in found.values())


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK rubbish")
    (tmp_path / "list.ipynb").write_text("[]")
    (tmp_path / "blank.ipynb").write_text("")
    (tmp_path / ".hidden.ipynb").write_text("x")
    (tmp_path / "script.py").write_text("# %%\ndef capped(): ...")
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "packed.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "papers").mkdir()
    for number in range(5):
        (tmp_path / "papers" / f"{number}.pdf").write_bytes(b"%PDF")
    assert troubles(tmp_path) == {
        "empty": "there is no notebook in it; ask for the .ipynb file",
        "broken": "`broken.zip` is damaged, or no zip file; ask for the notebook itself",
        "list": "`list.ipynb` is no notebook: it has no cells; ask for the file itself",
        "blank": "`blank.ipynb` is empty; ask for it again",
        "script": "there is no notebook in it, only `script.py`; ask for the .ipynb file",
        "page": "there is no notebook in it, only `page.html`; ask for the .ipynb file",
        "packed.tar": "there is no notebook in it, only `packed.tar.gz`; ask for the .ipynb file",
        "papers": "there is no notebook in it, only `0.pdf`, `1.pdf`, `2.pdf` and 2 more; "
        "ask for the .ipynb file",
    }
    for reason in troubles(tmp_path).values():
        assert "; ask for" in reason


def test_links_are_never_followed(tmp_path: Path) -> None:
    secret = put(tmp_path / "elsewhere" / "03_urls.ipynb", code("secret"))
    folder = tmp_path / "class"
    put(folder / "own" / "03_urls.ipynb")
    (folder / "own" / "more.ipynb").symlink_to(secret)
    (folder / "own" / "folder").symlink_to(secret.parent)
    (folder / "own" / "round").symlink_to(folder / "own")
    (folder / "file.ipynb").symlink_to(secret)
    (folder / "whole").symlink_to(secret.parent)
    (folder / "lost.ipynb").symlink_to("nowhere")
    (folder / "looped").symlink_to("looped")
    (folder / "inside").mkdir()
    (folder / "inside" / "x.ipynb").symlink_to(secret)
    found = readings(folder)
    assert "secret" not in "".join(map(str, found.values()))
    assert sources(found["own"]) == [RIGHT]
    assert found["own"].notes[0] == "`folder` is a link and was not followed"
    assert found["inside"].trouble.endswith("; `x.ipynb` is a link and was not followed")
    for learner in ("file", "whole", "lost"):
        assert "is a link to somewhere else; ask for the file itself" in found[learner].trouble
    # A link that the instructor names is the instructor's business.
    (tmp_path / "named").symlink_to(folder)
    assert list(readings(tmp_path / "named")) == list(found)


def test_nothing_but_a_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "x.zip")
    (tmp_path / "named.ipynb").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "socket.ipynb"))
    with listening:
        found = troubles(tmp_path)
    assert found["pipe"] == "`pipe.ipynb` is no file, but a pipe; ask for the notebook"
    assert found["socket"] == "`socket.ipynb` is no file, but a socket; ask for the notebook"
    assert "`x.zip` is a pipe and was not opened" in found["folder"]
    assert found["named.ipynb"] == "there is no notebook in it; ask for the .ipynb file"
    for submission in read_submissions([tmp_path]):
        assert submission.digest()


@needs_root
def test_a_device_is_not_opened(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "zero.ipynb", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("needs the right to make a device node: run as root outside a container")
    assert "is no file, but a device" in troubles(tmp_path)["zero"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == os.geteuid() and place != Path("/"):
            place.chmod(place.stat().st_mode | 0o055)
    put(tmp_path / "class" / "file.ipynb").chmod(0)
    put(tmp_path / "class" / "folder" / "03_urls.ipynb").parent.chmod(0)
    put(tmp_path / "class" / "half" / "03_urls.ipynb")
    put(tmp_path / "class" / "half" / "04_pooling.ipynb").chmod(0)
    with as_nobody():
        found = readings(tmp_path / "class")
        submissions = list(read_submissions([tmp_path / "class"]))
        digests = [submission.digest() for submission in submissions]
    (tmp_path / "class" / "folder").chmod(0o755)
    assert found["file"].trouble == (
        "`file.ipynb` cannot be opened (permission denied); make it readable, or ask for it again"
    )
    assert "`folder` cannot be opened (permission denied)" in found["folder"].trouble
    half = found["half"]
    assert half.trouble == ""
    assert half.trouble_for(["urls"]) == ""
    assert "`04_pooling.ipynb` cannot be opened" in half.trouble_for(["urls", "pooling"])
    # Once they are readable, they are another submission, and --resume grades them.
    for path in (tmp_path / "class").rglob("*.ipynb"):
        path.chmod(0o644)
    assert not set(digests) & {submission.digest() for submission in submissions}


def test_a_tree_that_is_too_large_or_too_deep(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(parcels, "FILE_LIMIT", 50)
    for number in range(60):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number}.txt").touch()
    put(tmp_path / "many" / "03_urls.ipynb")
    put(tmp_path / "deep" / "/".join("d" * 40) / "03_urls.ipynb")
    found = troubles(tmp_path)
    assert found["many"] == "`many` holds more than 50 files; ask for the notebook alone"
    assert "`d` lies more than 30 folders deep and was not looked into" in found["deep"]


def test_folders_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("deep", dir_fd=here)
    for name in ("deep", *["d" * 200] * 30):
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        os.mkdir("d" * 200, dir_fd=here)
    os.close(here)
    try:
        reading = readings(tmp_path)["deep"]
        assert "file name too long" in reading.trouble
    finally:
        subprocess.run(["rm", "-rf", "deep"], cwd=tmp_path, check=True)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(parcels, "NOTEBOOK_LIMIT", 3 * parcels.MB)
    (tmp_path / "large.ipynb").write_bytes(b"[" * 4 * parcels.MB)
    assert troubles(tmp_path)["large"] == (
        "`large.ipynb` comes to more than 3 MB; ask for it with its outputs cleared"
    )
    monkeypatch.setattr(parcels, "NOTEBOOK_LIMIT", 5 * parcels.MB)
    monkeypatch.setattr(parcels, "TOTAL_LIMIT", 0)
    assert "no notebook" in troubles(tmp_path)["large"]


def test_folders_that_cannot_be_used_are_trouble(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "broken.zip").write_bytes(b"rubbish")
    for name, words in (
        ("nowhere", "is no folder"),
        ("file.txt", "is no folder"),
        ("broken.zip", "is damaged, or no zip file"),
    ):
        with pytest.raises(EngineRoomError) as caught:
            list(read_submissions([tmp_path / name]))
        assert words in caught.value.sentence
        assert caught.value.fix


# -- zips ------------------------------------------------------------------------------------


def packed(*members: tuple[str | zipfile.ZipInfo, bytes], **how: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def of_zip(content: bytes, folder: Path) -> Reading:
    (folder / "class").mkdir(exist_ok=True)
    (folder / "class" / "ada.zip").write_bytes(content)
    before = sorted(folder.rglob("*"))
    (reading,) = readings(folder / "class").values()
    assert sorted(folder.rglob("*")) == before, "a zip was unpacked"
    return reading


ANSWER = notebook(code(RIGHT))


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def locked(content: bytes) -> bytes:
    """The same zip, said to be encrypted, both at the member and in the directory."""
    broken = bytearray(content)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        broken[content.index(signature) + offset] |= 1
    return bytes(broken)


@pytest.mark.parametrize(
    "members",
    [
        [("03_urls.ipynb", ANSWER)],
        [("work\\03_urls.ipynb", ANSWER)],
        [("C:\\Users\\Ada\\03_urls.ipynb", ANSWER)],
        [("/home/ada/03_urls.ipynb", ANSWER)],
        [("./a/./03_urls.ipynb", ANSWER), ("a/readme.txt", b"x"), ("a/", b"")],
        [("ünï/03_urls.ipynb", ANSWER)],
        [("03_urls.ipynb", ANSWER), ("../../03_urls.ipynb", notebook(code("escaped")))],
        [("03_urls.ipynb", ANSWER), (linked("x.ipynb"), b"/etc/passwd")],
        [("03_urls.ipynb", ANSWER), ("more.zip", packed(("x.ipynb", notebook(code("nested")))))],
    ],
)
def test_a_zip_is_read_however_it_was_made(
    members: list[tuple[str | zipfile.ZipInfo, bytes]], tmp_path: Path
) -> None:
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        reading = of_zip(packed(*members, compression=compression), tmp_path)
        assert sources(reading) == [RIGHT]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_all_read(tmp_path: Path) -> None:
    first, second = notebook(code("x = 1")), notebook(code("x = 2"))
    for names in (("a.ipynb", "A.ipynb"), ("a.ipynb", "a.ipynb")):
        reading = of_zip(packed((names[0], first), (names[1], second)), tmp_path)
        assert sorted(sources(reading)) == ["x = 1", "x = 2"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "`ada.zip` is damaged, or no zip file; ask for the notebook itself"),
        (packed(("x.ipynb", ANSWER))[:-40], "`ada.zip` is damaged, or no zip file"),
        (packed(("x.ipynb", b"x" * 999)).replace(b"xxx", b"xyx"), "`x.ipynb` is damaged"),
        (locked(packed(("x.ipynb", ANSWER))), "`x.ipynb` is locked with a password; ask for it"),
        (packed(("x.zip", packed(("y.ipynb", ANSWER)))), "`x.zip` is a zip inside a zip"),
        (packed((linked("x.ipynb"), b"/etc/passwd")), "`x.ipynb` is a link and was not followed"),
        (packed(("../x.ipynb", ANSWER)), "`../x.ipynb` points out of the zip and was not read"),
        (packed(("a\\..\\..\\x.ipynb", ANSWER)), "points out of the zip and was not read"),
        (packed(("lab.py", b"x")), "there is no notebook in it, only `lab.py`; ask for"),
        (packed(), "there is no notebook in it; ask for"),
        (packed(("x.ipynb", b"")), "`x.ipynb` is empty; ask for it again"),
        (
            packed(*((f"{n}.txt", b"") for n in range(parcels.FILE_LIMIT + 1))),
            "the zip holds more than 10,000 files",
        ),
    ],
    ids=range(12),
)
def test_a_zip_that_cannot_be_used_says_why(content: bytes, words: str, tmp_path: Path) -> None:
    assert words in of_zip(content, tmp_path).trouble


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = b" " * (120 * parcels.MB)
    bomb = packed(("x.ipynb", zeros), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < parcels.MB
    assert "`x.ipynb` comes to more than 100 MB" in of_zip(bomb, tmp_path).trouble
    # In pieces, each of which would pass.
    pieces = [(f"{n}.ipynb", zeros[: 45 * parcels.MB]) for n in range(4)]
    reading = of_zip(packed(*pieces, compression=zipfile.ZIP_DEFLATED), tmp_path)
    assert len(reading.broken) == 4
    assert sum("comes to more than" in reason for _, reason in reading.broken) == 2


def test_output_that_packs_a_thousand_to_one_is_no_bomb(tmp_path: Path) -> None:
    much = notebook(code(RIGHT, outputs=[{"text": "x" * 50 * parcels.MB}]))
    assert sources(of_zip(packed(("x.ipynb", much), compression=8), tmp_path)) == [RIGHT]


def test_a_directory_of_a_million_files_is_not_listed(tmp_path: Path) -> None:
    """Its end says how long the directory is, and that much is never read at once."""
    content = packed(("x.ipynb", ANSWER)) + b"\0"
    body = bytes(5 * parcels.MB)
    end = content[content.index(b"PK\5\6") : -1]
    lying = body + end[:12] + len(body).to_bytes(4, "little") + bytes(4) + end[20:]
    reading = of_zip(lying, tmp_path)
    assert reading.trouble == "the zip lists far more files than a lesson has"


def test_names_from_a_mac_are_read_as_they_were_written() -> None:
    info = zipfile.ZipInfo("Zoë/03_urls.ipynb".encode().decode("cp437"))
    assert parcels._path_in_zip(info) == "Zoë/03_urls.ipynb"


@quick
@given(st.data())
def test_a_damaged_zip_is_never_more_than_unreadable(tmp_path_factory: Any, data: Any) -> None:
    whole = packed(("a/03_urls.ipynb", ANSWER), ("b.txt", b"x" * 99), compression=8)
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("zip")
    path = folder / "ada.zip"
    path.write_bytes(broken)
    (submission,) = read_submissions([folder])
    reading = submission.reading(LESSONS)
    assert reading.trouble or reading.notebooks
    assert submission.digest()


# -- layouts, and who is who -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "layout", "learner", "identity", "file"),
    [
        (
            "doejane_12345_67890_04_pooling-1.ipynb",
            "canvas",
            "doejane",
            "12345",
            "04_pooling-1.ipynb",
        ),
        (
            "doejane_LATE_12345_67890_04_pooling.ipynb",
            "canvas",
            "doejane",
            "12345",
            "04_pooling.ipynb",
        ),
        ("o_neil_1_2_x.zip", "canvas", "o_neil", "1", "x.zip"),
        ("doejane_12345_text.html", "canvas", "doejane", "12345", "text.html"),
        ("anon_aB3xY_678_4_pooling.ipynb", "canvas", "anon_aB3xY", "", "4_pooling.ipynb"),
        ("LATE_anon_aB3xY_678_x.ipynb", "canvas", "anon_aB3xY", "", "x.ipynb"),
        ("Jane Doe_1234_assignsubmission_file_", "moodle", "Jane Doe", "1234", ""),
        ("Jane Doe_1234_assignsubmission_file", "moodle", "Jane Doe", "1234", ""),
        (
            "Group 1-Jane Doe_1234_assignsubmission_file_04_pooling.ipynb",
            "moodle",
            "Group 1-Jane Doe",
            "1234",
            "04_pooling.ipynb",
        ),
        ("Jane Doe_1234_assignsubmission_onlinetext_", "moodle", "Jane Doe", "1234", ""),
        ("李 小龙_7_assignsubmission_file_", "moodle", "李 小龙", "7", ""),
    ],
)
def test_a_school_systems_names_are_understood(
    entry: str, layout: Layout, learner: str, identity: str, file: str
) -> None:
    said = label(entry, folder="." not in entry, layout=layout)
    assert said is not None
    assert (said.learner, said.identity, said.file) == (learner, identity, file)


@pytest.mark.parametrize(
    "entry", ["04_pooling.ipynb", "jane_pooling.ipynb", "Jane Doe", "a_1.ipynb"]
)
@pytest.mark.parametrize("layout", ["canvas", "moodle"])
def test_other_names_are_nobodys(entry: str, layout: Layout) -> None:
    assert label(entry, folder=False, layout=layout) is None


CANVAS: dict[str, bytes] = {
    "doejane_12345_70000_03_urls.ipynb": notebook(code("x = 1", MASKED.id)),
    "doejane_12345_100000_03_urls-1.ipynb": notebook(code("x = 2", MASKED.id)),
    "doejane_LATE_12345_67890_04_pooling.ipynb": notebook(code("y = 1", CEILING.id)),
    "roebob_2_3_work.zip": packed(("deep/03_urls.ipynb", ANSWER)),
    "lee_5_6_03_urls.ipynb": ANSWER,
    "lee_7_8_03_urls.ipynb": ANSWER,
    "typed_9_text.html": b"<html>",
    "by hand.ipynb": ANSWER,
}
MOODLE: dict[str, bytes] = {
    "Jane Doe_1_assignsubmission_file_/03_urls.ipynb": ANSWER,
    "Jane Doe_1_assignsubmission_file_/deep/work.zip": packed(("x.ipynb", ANSWER)),
    "Jane Doe_1_assignsubmission_onlinetext_/onlinetext.html": b"<p>Hello",
    "Roe Bob_2_assignsubmission_file_03_urls.ipynb": ANSWER,
    "Lee_3_assignsubmission_file_/a.ipynb": ANSWER,
    "Lee_4_assignsubmission_file_/a.ipynb": ANSWER,
    "Typed_5_assignsubmission_onlinetext_/onlinetext.html": b"<p>Hello",
}


def ways_to_keep(files: dict[str, bytes], folder: Path) -> Iterator[Path]:
    """A download as people have it: unpacked, in a folder, as it came, named itself."""
    for way in ("plain/", "folder/inner/"):
        for name, content in files.items():
            path = folder / way / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    yield folder / "plain"
    yield folder / "folder"
    (folder / "zipped").mkdir()
    path = folder / "zipped" / "submissions.zip"
    path.write_bytes(packed(*files.items(), compression=8))
    yield folder / "zipped"
    yield path


@pytest.mark.parametrize("way", range(4))
def test_canvas_gives_a_file_an_upload(way: int, tmp_path: Path) -> None:
    folder = list(ways_to_keep(CANVAS, tmp_path))[way]
    found = readings(folder, "canvas")
    hand = set() if way in (1, 2) else {"by hand"}
    assert set(found) == {"doejane", "roebob", "lee_5", "lee_7", "typed"} | hand
    jane = found["doejane"]
    # The later upload has the higher number, whatever stands first in the listing.
    assert sources(jane) == ["y = 1", "x = 1", "x = 2"]
    assert [n.name for n in jane.notebooks] == [
        "04_pooling.ipynb",
        "03_urls.ipynb",
        "03_urls-1.ipynb",
    ]
    assert sources(found["roebob"]) == [RIGHT]
    assert "only `text.html`" in found["typed"].trouble
    assert {len(reading.notebooks) for reading in found.values()} == {0, 1, 3}


@pytest.mark.parametrize("way", range(4))
def test_moodle_gives_a_folder_or_a_file_a_learner(way: int, tmp_path: Path) -> None:
    folder = list(ways_to_keep(MOODLE, tmp_path))[way]
    found = readings(folder, "moodle")
    assert set(found) == {"Jane Doe", "Roe Bob", "Lee_3", "Lee_4", "Typed"}
    assert len(found["Jane Doe"].notebooks) == 2
    assert sources(found["Roe Bob"]) == [RIGHT]
    assert found["Roe Bob"].notebooks[0].name == "03_urls.ipynb"
    assert "only `onlinetext.html`" in found["Typed"].trouble


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Zoë", "Zoë"),
        ("Zoe\u0308", "Zoë"),
        ("  Ada ", "Ada"),
        ("اَدا", "اَدا"),
        ("👩‍🚀", "👩‍🚀"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb", "a\\x0ab"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\udcffb", "a\\xffb"),
        ("\ud800", "\\ud800"),
        ("", "(no name)"),
    ],
)
def test_a_name_can_stand_anywhere(name: str, safe: str) -> None:
    assert shown(name) == safe
    assert safe.encode()


def test_names_of_files_are_names_of_learners_whatever_is_in_them(tmp_path: Path) -> None:
    put(tmp_path / "Zoe\u0308.ipynb")
    put(tmp_path / "a\x1b[2J.ipynb")
    raw = os.fsencode(tmp_path) + b"/b\xff.ipynb"
    try:
        Path(os.fsdecode(raw)).write_bytes(ANSWER)
        expected = {"Zoë", "a\\x1b[2J", "b\\xff"}
    except OSError:  # a Mac has no such names
        expected = {"Zoë", "a\\x1b[2J"}
    assert set(readings(tmp_path)) == expected


def test_a_learner_who_handed_in_twice_is_one(tmp_path: Path) -> None:
    put(tmp_path / "one" / "ada.ipynb", code("first", MASKED.id))
    put(tmp_path / "one" / "ada" / "03_urls.ipynb", code(RIGHT, MASKED.id))
    put(tmp_path / "two" / "ada" / "04_pooling.ipynb", code("def capped(): return 1", CEILING.id))
    (ada,) = read_submissions([tmp_path / "one", tmp_path / "two"])
    assert [str(place) for place in ada.places] == ["ada", "ada.ipynb", "ada"]
    reading = ada.reading(LESSONS)
    assert reading.lessons == {"urls", "pooling"}
    assert [cell.source for cell in reading.cells_for(MASKED)] == [RIGHT]
    assert "capped" in reading.cells_for(CEILING)[0].source
    (remark,) = reading.remarks
    assert remark == (
        "urls was handed in 2 times (`03_urls.ipynb`, `ada.ipynb`); "
        "of each exercise the last answer counts"
    )


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("03_urls.ipynb", "03_urls (1).ipynb"),
        ("03_urls (2).ipynb", "03_urls (10).ipynb"),
        ("03_urls.ipynb", "03_urls-Copy1.ipynb"),
        ("03_urls.ipynb", "Copy of 03_urls.ipynb"),
        ("03_urls_v2.ipynb", "03_urls_v10.ipynb"),
        ("03_urls-1.ipynb", "03_urls-2.ipynb"),
    ],
)
def test_of_two_copies_the_later_answer_counts(earlier: str, later: str, tmp_path: Path) -> None:
    other = "def masked(url): return 2"
    put(tmp_path / "ada" / earlier, code(RIGHT, MASKED.id))
    put(tmp_path / "ada" / later, code(other, MASKED.id))
    (reading,) = readings(tmp_path).values()
    assert [cell.source for cell in reading.cells_for(MASKED)] == [other]
    # But a fresh copy is no answer.
    put(tmp_path / "ada" / later, code("def masked(url): ...", MASKED.id))
    (reading,) = readings(tmp_path).values()
    assert [cell.source for cell in reading.cells_for(MASKED)] == [RIGHT]


def test_an_answer_in_another_lessons_notebook_is_found_by_its_id(tmp_path: Path) -> None:
    many = [code("x", f"pooling.{name}") for name in LESSONS["pooling"].exercises]
    put(tmp_path / "ada.ipynb", *many, code(RIGHT, MASKED.id))
    put(tmp_path / "bob.ipynb", *many, code(RIGHT))
    found = readings(tmp_path)
    assert found["ada"].lessons == {"pooling"}
    assert found["ada"].cells_for(MASKED)
    assert not found["bob"].cells_for(MASKED)


def test_a_broken_file_beside_a_good_one(tmp_path: Path) -> None:
    put(tmp_path / "ada" / "03_urls.ipynb", code(RIGHT, MASKED.id))
    (tmp_path / "ada" / "Untitled.ipynb").touch()
    (tmp_path / "ada" / "04_pooling.ipynb").write_text("<html>")
    (reading,) = readings(tmp_path).values()
    assert reading.trouble == ""
    assert reading.trouble_for({"urls": 1}) == ""
    assert "begins with '<html>'" in reading.trouble_for({"urls", "pooling"})
    assert len(reading.remarks) == 2


def test_what_is_read_travels_as_plain_data(tmp_path: Path) -> None:
    put(tmp_path / "ada" / "03_urls.ipynb", code("é\ud800", MASKED.id), code(RIGHT))
    (tmp_path / "ada" / "x.ipynb").touch()
    (reading,) = readings(tmp_path).values()
    assert Reading.from_plain(json.loads(json.dumps(reading.plain()))) == reading


@contextmanager
def opened() -> Iterator[list[str]]:
    """The notebooks and zips that are opened meanwhile."""
    found: list[str] = []
    watching = True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith((".ipynb", ".zip")):
            found.append(str(arguments[0]))

    sys.addaudithook(hear)  # for good; so it can be told to stop listening
    yield found
    watching = False


def test_listing_opens_nothing_and_a_digest_follows_the_content(tmp_path: Path) -> None:
    path = put(tmp_path / "class" / "ada" / "03_urls.ipynb")
    (tmp_path / "class" / "bob.zip").write_bytes(packed(("x.ipynb", ANSWER)))
    with opened() as files:
        ada, bob = read_submissions([tmp_path / "class"])
    assert not files
    with opened() as files:
        ada.reading(LESSONS)
    assert files == [str(path)]
    first = ada.digest()
    assert first == ada.digest() != bob.digest()
    (tmp_path / "class").rename(tmp_path / "moved")
    (moved, _) = read_submissions([tmp_path / "moved"])
    assert moved.digest() == first
    (tmp_path / "moved" / "ada" / "notes.txt").write_text("nothing that is graded")
    assert moved.digest() == first
    (tmp_path / "moved" / "ada" / path.name).write_bytes(notebook(code("other")))
    assert moved.digest() != first


def test_a_digest_inside_a_download_follows_that_members_content(tmp_path: Path) -> None:
    digests = []
    for content in (ANSWER, ANSWER, notebook(code("x"))):
        files = {**CANVAS, "roebob_2_3_work.zip": packed(("03_urls.ipynb", content))}
        (tmp_path / "submissions.zip").write_bytes(packed(*files.items()))
        found = {s.learner: s.digest() for s in read_submissions([tmp_path], "canvas")}
        digests.append(found)
    assert digests[0]["doejane"] == digests[2]["doejane"]
    assert digests[0]["roebob"] != digests[2]["roebob"]
    assert len(set(digests[0].values())) == len(digests[0])


def test_some_of_a_class(tmp_path: Path) -> None:
    for name in ("Ada", "Bob", "Zoe\u0308"):
        put(tmp_path / f"{name}.ipynb")
    everybody = list(read_submissions([tmp_path]))
    assert [s.learner for s in only(everybody, ["Zoë", "Ada", "Zoe\u0308"])] == ["Ada", "Zoë"]
    with pytest.raises(EngineRoomError) as caught:
        only(everybody, ["Ada", "Bobb"])
    assert "'Bobb'" in caught.value.sentence
    assert "'Bob'" in caught.value.fix


# -- whatever it is --------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["cells", "source", "cell_type", "metadata", "engineroom", "exercise", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@quick
@given(JSON | st.builds(lambda cells: {"cells": cells}, st.lists(JSON)))
def test_any_json_is_read_or_unreadable(found: Any) -> None:
    content = json.dumps(found).encode()
    try:
        read = parse("x.ipynb", content)
    except UnreadableError:
        assert not (isinstance(found, dict) and isinstance(found.get("cells"), list))
    else:
        for exercise in LESSONS["urls"].exercises.values():
            read.answers(exercise)


@quick
@given(st.binary(max_size=200), st.integers(0, 10**6))
def test_any_bytes_are_read_or_unreadable(junk: bytes, where: int) -> None:
    whole = SOLVED["03_urls.ipynb"]
    at = where % len(whole)
    for content in (junk, whole[:at] + junk, whole[:at] + junk + whole[at:]):
        with suppress(UnreadableError):
            parse("x.ipynb", content)


WORDS = ["def f():", "f", "=", "return", "(", ")", "[", ":", "%time", "!", "?", "lambda", ":="]
WORDS += ["\n", "\n    ", "'", '"""', "await", "class f:", "import f", "del", "global f", "\\", "…"]
WORDS += [
    "for f in",
    "with",
    "as",
    "case",
    "match",
    "*",
    "...",
    "\ud800",
    "\0",
    "asyncio.run(",
    "\r",
]


@quick
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join), max_size=4))
def test_needed_never_raises(cells: list[str]) -> None:
    made = [Cell(number, source) for number, source in enumerate(cells)]
    assert set(needed(made, "f", "x.f")) <= set(made)


@quick
@given(st.text(max_size=300))
def test_nor_does_it_for_any_text(source: str) -> None:
    needed([Cell(1, source), Cell(2, "f = " + source)], "f", "x.f")


def changed(content: bytes, seed: int) -> bytes:
    """A solved notebook in which somebody has been busy, without touching an answer."""
    dice = random.Random(seed)  # noqa: S311
    found = json.loads(content)
    cells = found["cells"]
    answers = [c for c in cells if "exercise" in c["metadata"].get("engineroom", {})]
    used = {id(c) for c in (*answers, cells[1])}  # the second imports what answers use
    kept = [c for c in cells if id(c) in used or dice.random() < 0.5]
    for cell in dice.sample(kept, len(kept) // 3):
        kept.insert(dice.randrange(len(kept) + 1), json.loads(json.dumps(cell)))
    if dice.random() < 0.5:
        dice.shuffle(kept)
    for cell in kept:
        if dice.random() < 0.3:
            kept[kept.index(cell)] = cell | {"metadata": {}}
        elif cell["cell_type"] == "code" and dice.random() < 0.3:
            lines = "".join(cell["source"])
            cell["source"] = "%%time\n" + lines if dice.random() < 0.5 else "!ls\n" + lines
    kept.insert(dice.randrange(len(kept) + 1), code("import sys\n%who\ndef broken(:"))
    return json.dumps(found | {"cells": kept, "nbformat_minor": dice.randrange(6)}).encode()


def answer_text(cells: tuple[Cell, ...], exercise: Exercise) -> list[str]:
    """What would be run, apart from magics and empty lines."""
    found = needed(cells, exercise.answer, exercise.id)
    lines = [line for cell in found for line in cell.code.splitlines() if line.strip() != "pass"]
    return sorted(line for line in lines if line.strip())


@quick
@given(st.sampled_from(sorted(SOLVED)), st.integers(0, 10**9))
def test_a_solved_notebook_keeps_its_answers(name: str, seed: int) -> None:
    before, after = parse(name, SOLVED[name]), parse(name, changed(SOLVED[name], seed))
    for exercise in LESSONS[name[3:-6]].exercises.values():
        assert answer_text(after.cells, exercise) == answer_text(before.cells, exercise)


# -- judged ----------------------------------------------------------------------------------


judged = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


SOLUTION = next(
    cell.source for cell in parse("x", SOLVED["03_urls.ipynb"]).cells if cell.exercise == MASKED.id
)
IMPORT = "from sqlalchemy import make_url"


@judged
@pytest.mark.parametrize("seed", range(4))
async def test_a_changed_notebook_keeps_its_mark(seed: int, bench: Bench) -> None:
    found = parse("x.ipynb", changed(SOLVED["03_urls.ipynb"], seed))
    assert (await judge(bench, MASKED, list(found.cells), 0)).status == "passed"


@judged
@pytest.mark.parametrize(
    "cells",
    [
        [code(IMPORT), code("%%time\n" + SOLUTION), code("%time await masked('')")],
        [
            code(IMPORT),
            code(SOLUTION + "\nimport asyncio\nasync def go(): pass\nasyncio.run(go())"),
        ],
        [code(IMPORT), code(SOLUTION), code("masked = masked('sqlite://')"), code("input()")],
        [code(IMPORT), code(SOLUTION, MASKED.id), code("masked = 3")],
        [code("from sqlalchemy import *"), code(SOLUTION + "\n!exit 1\ndisplay(masked)")],
        [code(IMPORT), code("def masked(url): ...", MASKED.id), code(SOLUTION)],
        [code(IMPORT), text(SOLUTION, MASKED.id), code("<<<<<<< HEAD\ndef masked(url):\n=======")][
            :2
        ],
        [
            code(IMPORT),
            code("\n".join(SOLUTION.splitlines()[:2])),
            code(SOLUTION.split("\n", 2)[2]),
        ],
        [code(IMPORT), code(">>> " + SOLUTION.replace("\n", "\n... "))],
    ],
)
async def test_what_happens_to_notebooks_costs_no_mark(
    cells: list[dict[str, Any]], bench: Bench
) -> None:
    verdict = await judge(bench, MASKED, list(parse("x.ipynb", notebook(*cells)).cells), 0)
    assert (verdict.status, verdict.message) == ("passed", "")


@judged
@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        ("<<<<<<< HEAD\n" + SOLUTION, "error", "SyntaxError"),
        (SOLUTION + "\nx = input('name?')", "error", "nobody can answer input()"),
        (SOLUTION + "\ndel masked", "failed", "is of type nothing"),
        ("def masked(url): ...", "not_attempted", "Nothing to check yet"),
        ("def masked(a, a): return 1", "error", "SyntaxError"),
        ("\ud800\ndef masked(url): return 1", "error", "UnicodeEncodeError"),
    ],
)
async def test_what_a_learner_did_wrong_is_said(
    source: str, status: str, words: str, bench: Bench
) -> None:
    cells = list(parse("x.ipynb", notebook(code(IMPORT), code(source, MASKED.id))).cells)
    verdict = await judge(bench, MASKED, cells, 0)
    assert (verdict.status, verdict.points) == (status, 0)
    assert words in verdict.message


@judged
async def test_a_cell_runs_as_it_would_in_a_notebook(bench: Bench) -> None:
    """Not with our own ``__future__``, and with what a kernel adds to Python."""
    source = """
from pydantic import BaseModel
class Fleet(BaseModel):
    ships: "list[Ship]"
class Ship(BaseModel):
    name: str
def f(n: int): return Fleet(ships=[{"name": "Una"}]).ships[0].name
kind = str(f.__annotations__["n"])
def g(): return kind
display(f)
get_ipython().run_line_magic("autoreload", "2")
"""
    subject = await bench.nursery.subject({})
    try:
        defined = await subject.define([(1, source)], "f")
        assert defined.failure is None, defined.failure
        assert await subject.value("f", 1) == "Una"
        assert await subject.value("g") == "<class 'int'>"
    finally:
        await subject.kill()
