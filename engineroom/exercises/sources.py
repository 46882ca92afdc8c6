"""Which cells a check runs: the answer's, and those that define what it uses. Nothing else.

A demonstration cell connects, prints and sleeps; none of that belongs to an answer, so a cell
is run only when a name that it defines is needed.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from dataclasses import dataclass, field
from functools import cached_property

_MAGIC = re.compile(r"^(\s*)(?:%%?|!|\?)(?!=).*$|^(\s*)([\w.]+)\s*=\s*[%!].*$", re.MULTILINE)


@dataclass
class Cell:
    """A code cell: its number, for messages, and what it binds and uses."""

    number: int
    source: str
    exercise: str | None = None
    _tree: ast.Module | None = field(default=None, init=False, repr=False)

    @cached_property
    def code(self) -> str:
        """The source as Python: magics and shell escapes do nothing here."""
        if self.source.lstrip().startswith("%%"):
            return ""
        return _MAGIC.sub(_without_magic, self.source)

    @cached_property
    def tree(self) -> ast.Module | None:
        """The parsed cell, or None when it is no Python."""
        try:
            # A tree is the same with or without permission to await at the top.
            return ast.parse(self.code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    @cached_property
    def binds(self) -> set[str]:
        """Names that running the cell defines at the top."""
        if self.tree is None:
            # Not Python as it stands; still say whose answer it was meant to be.
            return set(re.findall(r"^(?:async\s+)?(?:def|class)\s+(\w+)", self.code, re.MULTILINE))
        found: set[str] = set()
        _bindings(self.tree.body, found)
        return found

    @cached_property
    def uses(self) -> set[str]:
        """Names that the cell reads, anywhere in it, and does not get from Python itself."""
        if self.tree is None:
            return set()
        names = _names_from_outside(self.code)
        return names - set(dir(builtins))


def _names_from_outside(code: str) -> set[str]:
    """What the code looks up at the top: a function's own variables are its own business."""
    found: set[str] = set()
    tables = [symtable.symtable(code, "<cell>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        found |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (top or symbol.is_global())
        }
    return found


def _without_magic(match: re.Match[str]) -> str:
    if match[3]:
        return f"{match[2]}{match[3]} = None"
    return f"{match[1]}pass"


def _bindings(body: list[ast.stmt], found: set[str]) -> None:
    """Collect what statements at module level bind, into blocks but not into functions."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(statement.name)
                continue
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    found.add((alias.asname or alias.name).partition(".")[0])
        for node in ast.iter_child_nodes(statement):
            if isinstance(node, ast.stmt):
                _bindings([node], found)
            elif isinstance(node, ast.ExceptHandler | ast.match_case):
                _bindings(node.body, found)
            else:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                        found.add(inner.id)


def needed(cells: list[Cell], answer: str, exercise: str) -> list[Cell]:
    """The cells to run for an answer, in their order; empty when nobody defines it.

    Of several cells that define a name the last counts, as after "restart and run all"; a cell
    that carries the exercise's id goes before others when it defines the answer.
    """
    defining = [i for i, cell in enumerate(cells) if answer in cell.binds]
    if not defining:
        return []
    marked = [i for i in defining if cells[i].exercise == exercise]
    start = (marked or defining)[-1]
    wanted = {start}
    todo = [start]
    while todo:
        index = todo.pop()
        for name in cells[index].uses:
            others = [i for i, cell in enumerate(cells) if name in cell.binds and i != index]
            if name in cells[index].binds and not _reads_first(cells[index], name):
                continue
            before = [i for i in others if i < index] or others
            if before and before[-1] not in wanted:
                wanted.add(before[-1])
                todo.append(before[-1])
    return [cells[i] for i in sorted(wanted)]


def _reads_first(cell: Cell, name: str) -> bool:
    """Whether a cell reads a name in a statement before the one that binds it."""
    for statement in cell.tree.body if cell.tree else ():
        bound: set[str] = set()
        _bindings([statement], bound)
        if name in bound:
            return any(
                isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
                for node in ast.walk(statement)
                if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            )
    return True
