"""A cell as plain Python: what only a notebook understands is taken out or put in other words.

Shell escapes, magics and ``help?`` do nothing here, save those magics whose business is Python
(``%time``, ``%%capture``): what they run is run. ``asyncio.run(...)`` at the top of a cell is
awaited, since there a loop runs already. Lines keep their numbers, so that an error still points
at the learner's own line.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Magics that run Python, and those of their options that take a value.
_RUN_LINE = {"time": "", "timeit": "nrpv", "prun": "DlsT"}
_RUN_CELL = {"time", "timeit", "prun", "capture"}

_PROMPTED = re.compile(r"\s*(?:>>>(?:[ \t]|$)|In \[\d+\]: )", re.MULTILINE)
_PROMPT = re.compile(r"^[ \t]*(?:>>>[ \t]?|\.{3,}:?[ \t]?|In \[\d+\]: )", re.MULTILINE)
_CELL_MAGIC = re.compile(r"\s*%%(\w+)[^\n]*")

# Not Python at the start of a statement, and IPython's there.
_ESCAPE = re.compile(r"[ \t]*[%!?,;/]")
_ASSIGNED = re.compile(r"([ \t]*[^\n=#\"'!%]+=[ \t]*)([%!][^\n]*)")
_HELP = re.compile(r"[ \t]*%{0,2}[\w.*\[\]-]+\?{1,2}[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_REST = re.compile(r"(?:[^\\\n]++|\\\n|\\)*+")
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")  # as Python counts them; str.splitlines does not
# A piece of Python within which no statement begins.
_PIECE = re.compile(
    r"""
    [^\#"'()\[\]{}\\\n]++ | \#[^\n]*+ | \\.? |
    \"{3}(?:[^\\"]++|\\.|"(?!""))*+(?:\"{3}|\Z) | '{3}(?:[^\\']++|\\.|'(?!''))*+(?:'{3}|\Z) |
    "(?:[^"\\\n]++|\\.)*+"? | '(?:[^'\\\n]++|\\.)*+'? | [()\[\]{}\n]
    """,
    re.VERBOSE | re.DOTALL,
)


@contextmanager
def quietly() -> Iterator[None]:
    """What the compiler thinks of a learner's style is not for whoever grades."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parsed(code: str) -> ast.Module | None:
    """The tree of a cell that a notebook would run, or None."""
    with quietly():
        try:
            tree = ast.parse(code)
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(tree, "<cell>", "exec", flags=flags, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return None
    return tree


def as_python(source: str) -> tuple[str, ast.Module | None]:
    """The cell's text as Python, and its tree where it is Python."""
    code = source
    tree = parsed(code)
    if tree is None:
        code = _without_magics(source)
        tree = parsed(code)
    if tree is not None and "run" in code:
        awaiting = _awaiting(code, tree)
        if awaiting != code and (other := parsed(awaiting)) is not None:
            return awaiting, other
    return code, tree


# -- what IPython adds ---------------------------------------------------------------------


def _without_magics(source: str) -> str:
    text = textwrap.dedent(source)
    if _PROMPTED.match(text):
        text = textwrap.dedent(_PROMPT.sub("", text))
    above = 0
    while magic := _CELL_MAGIC.match(text):
        if magic[1] not in _RUN_CELL:
            return ""
        above += magic[0].count("\n") + 1
        text = text[magic.end() + 1 :]
    # A first line in the place of each that was taken keeps the numbers right.
    return "\n" * above + "".join(_statements(text))


def _statements(text: str) -> Iterator[str]:
    """The text statement by statement, IPython's own ones rewritten."""
    at = 0
    while at < len(text):
        if special := _special(text, at):
            line, rewritten = special
            yield rewritten + "\n" * line.count("\n")
            at += len(line)
        start, depth = at, 0
        while at < len(text):
            piece = _PIECE.match(text, at)
            assert piece is not None  # between them they match any character
            at = piece.end()
            if piece[0] in ("(", "[", "{"):
                depth += 1
            elif piece[0] in (")", "]", "}"):
                depth = max(0, depth - 1)
            elif piece[0] == "\n" and not depth:
                break
        yield text[start:at]


def _special(text: str, at: int) -> tuple[str, str] | None:
    """The statement here if it is IPython's and not Python's, and what to run in its place."""
    if _ESCAPE.match(text, at):
        line = _whole_line(text, at)
        words = _on_one_line(line)
        indent = words[: len(words) - len(words.lstrip())]
        return line, indent + (_python_in(words.lstrip()) or "pass")
    if found := _HELP.match(text, at):
        return found[0], found[0][: len(found[0]) - len(found[0].lstrip())] + "pass"
    if found := _ASSIGNED.match(text, at):
        line = found[1] + _whole_line(text, found.start(2))
        words = _on_one_line(line[len(found[1]) :])
        nothing = "[]" if words.startswith("!") else "None"
        python = _python_in(words) if words.startswith("%time ") else ""
        return line, found[1] + (f"({python})" if python else nothing)
    return None


def _whole_line(text: str, at: int) -> str:
    """To the end of the line, and further where it ends in a backslash."""
    found = _REST.match(text, at)
    return found[0] if found else ""


def _on_one_line(line: str) -> str:
    return line.replace("\\\n", " ").rstrip()


def _python_in(words: str) -> str:
    """What a magic such as ``%time f()`` runs, when that is Python."""
    name, _, rest = words.removeprefix("%").partition(" ")
    if not words.startswith("%") or name not in _RUN_LINE:
        return ""
    rest = rest.strip()
    valued = _RUN_LINE[name]
    with_value = rf"-[{valued}][ \t]*[^\s-]\S*\s+|" if valued else ""
    rest = re.sub(rf"\A(?:{with_value}--?[A-Za-z][\w-]*\s+)+", "", rest)
    return rest if parsed(rest) else ""


# -- what a script may and a notebook may not ----------------------------------------------


def _awaiting(code: str, tree: ast.Module) -> str:
    """The code with ``asyncio.run(main())`` at its top awaited: a loop runs already."""
    found = [call for call in _calls_at_the_top(tree) if _runs_a_loop(call)]
    lines = _LINE.findall(code)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(row: int, column: int) -> int:
        # Columns are counted in bytes.
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    for call in sorted(found, key=lambda call: (call.lineno, call.col_offset), reverse=True):
        coroutine = call.args[0]
        begin, inner = (place(node.lineno, node.col_offset) for node in (call, coroutine))
        inner_end, end = (
            place(node.end_lineno or 0, node.end_col_offset or 0) for node in (coroutine, call)
        )
        before = "\n" * code.count("\n", begin, inner)
        after = "\n" * code.count("\n", inner_end, end)
        code = f"{code[:begin]}(await ({before}{code[inner:inner_end]}{after})){code[end:]}"
    return code


def _calls_at_the_top(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that running the cell makes itself, none of them within another that is found."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Call) and _runs_a_loop(node):
            yield node
        elif not isinstance(
            node,
            ast.FunctionDef
            | ast.AsyncFunctionDef
            | ast.ClassDef
            | ast.Lambda
            | ast.ListComp
            | ast.SetComp
            | ast.DictComp
            | ast.GeneratorExp,
        ):
            todo.extend(ast.iter_child_nodes(node))


def _runs_a_loop(call: ast.Call) -> bool:
    match call:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="asyncio"), attr="run"),
            args=[argument],
        ):
            return not isinstance(argument, ast.Starred)
        case ast.Call(func=ast.Attribute(attr="run_until_complete"), args=[argument]):
            return not isinstance(argument, ast.Starred)
    return False
