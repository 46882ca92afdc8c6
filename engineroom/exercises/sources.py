"""Which cells a check runs: the answer's, and those that define what it uses. Nothing else.

A demonstration cell connects, prints and sleeps; none of that belongs to an answer, so a cell
is run only when a name that it defines is needed.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from engineroom.exercises.dialect import as_python, quietly

LONGEST_CELL = 100_000
"""Characters. Nobody's answer is longer, and the parser may take seconds over what is."""

How = Literal["function", "object", "import", "stub", "use", "global", "broken"]
"""How a cell binds a name: as a function or class; as anything else; by an import; with nothing
in it, as it was handed out; to what came of using it (``capped = capped(url, 3, 1)``); inside a
function that calls it global; or nobody knows, since the cell is no Python."""

_BUILTIN = frozenset(dir(builtins))
_DEFINITION = re.compile(r"^[ \t]*(?:async\s+)?(?:def|class)\s+(\w+)", re.MULTILINE)
_TYPE_ALIAS: type[ast.AST] | None = getattr(ast, "TypeAlias", None)  # Python 3.12


@dataclass(frozen=True)
class Cell:
    """A code cell: its number, for messages, and what it binds and uses."""

    number: int
    source: str
    exercise: str | None = None
    """The id that its metadata carries."""

    @property
    def code(self) -> str:
        """The source as Python: magics and shell escapes do nothing here."""
        return _look_at(self.source).code

    @property
    def sound(self) -> bool:
        """Whether a notebook would run it at all."""
        return _look_at(self.source).sound

    @property
    def binds(self) -> dict[str, How]:
        """Names that running the cell defines at the top, and how."""
        return _look_at(self.source).binds

    @property
    def uses(self) -> frozenset[str]:
        """Names that the cell reads, anywhere in it, and does not bind before it does."""
        return _look_at(self.source).uses

    @property
    def fills(self) -> frozenset[str]:
        """Names of things that it puts something into: ``options["echo"] = True``."""
        return _look_at(self.source).fills


def needed(cells: Sequence[Cell], answer: str, exercise: str) -> list[Cell]:
    """The cells to run for an answer, in their order; empty when nobody has written it.

    Of several cells that define a name the last counts, as after "restart and run all": a second
    try in a new cell replaces the first, and an empty answer as it was handed out replaces what
    the lesson showed by the same name. But a cell that only uses the name for what came of the
    answer defines nothing. And once a cell that carries the exercise's id defines the answer, an
    empty copy of it goes before nothing, nor does, where the answer is a function, a cell without
    the id that gives the name to something else.
    """
    start = _start(cells, answer, exercise)
    if start is None:
        return []
    known = _Known(cells)
    wanted = {start}
    todo = [start]
    while todo:
        found = known.definers(todo.pop()) - wanted
        wanted |= found
        todo += found
    return [cells[index] for index in sorted(wanted)]


def _start(cells: Sequence[Cell], answer: str, exercise: str) -> int | None:
    """Which cell holds the answer; None when there is nothing but what was handed out."""
    found = [(i, cell, cell.binds[answer]) for i, cell in enumerate(cells) if answer in cell.binds]
    marked = {how for _, cell, how in found if cell.exercise == exercise} - {"stub", "use"}

    def worth(cell: Cell, how: How) -> int:
        if how == "use" or (how == "stub" and marked):
            return 0
        if how == "global":
            return 1
        rival = "function" in marked and cell.exercise != exercise and how != "function"
        return 2 if rival else 3

    best = max(((worth(cell, how), i) for i, cell, how in found), default=(0, 0))
    index = best[1]
    return index if best[0] and cells[index].binds[answer] != "stub" else None


class _Known:
    """Who defines which name."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._binding: dict[str, list[int]] = defaultdict(list)
        self._filling: dict[str, list[int]] = defaultdict(list)
        self._all: list[int] = []
        for index, cell in enumerate(cells):
            for name in cell.binds:
                self._binding[name].append(index)
            for name in cell.fills:
                self._filling[name].append(index)
            if "*" in cell.binds:
                self._all.append(index)

    def definers(self, index: int) -> set[int]:
        """The cells that give a cell the names it uses."""
        found: set[int] = set()
        for name in self._cells[index].uses:
            definer = self._definer(name, index)
            if definer is not None:
                found.add(definer)
                if self._cells[definer].binds[name] != "import":
                    found |= {f for f in self._filling[name] if definer < f < index}
            elif name not in _BUILTIN:
                # Perhaps from a module of which somebody imported everything.
                found |= {i for i in self._all if i < index} or set(self._all)
        return found - {index}

    def _definer(self, name: str, index: int) -> int | None:
        """The last that defines a name before the cell that uses it, or else the last of all."""
        found = [i for i in self._binding.get(name, ()) if i != index]
        if name in _BUILTIN:
            found = [i for i in found if i < index]
        surely = [i for i in found if self._cells[i].binds[name] not in ("global", "broken")]
        found = surely or found
        return ([i for i in found if i < index] or found)[-1] if found else None


# -- one cell ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What there is to know of a cell's text."""

    code: str
    sound: bool
    binds: dict[str, How]
    uses: frozenset[str] = frozenset()
    fills: frozenset[str] = frozenset()


@lru_cache(maxsize=2048)
def _look_at(source: str) -> _Look:
    """Worked out once a text: most cells of a class are the lesson's own, and all alike."""
    code, tree = as_python(source) if len(source) <= LONGEST_CELL else (source, None)
    try:
        if tree is not None:
            return _read(code, tree)
    except (RecursionError, MemoryError, SyntaxError, ValueError):
        pass
    # No Python as it stands; still say whose answer it was meant to be.
    return _Look(code, False, dict.fromkeys(_DEFINITION.findall(code), "broken"))


def _read(code: str, tree: ast.Module) -> _Look:
    binds: dict[str, How] = {}
    early: set[str] = set()
    fills: set[str] = set()
    for what, name, how in _events(tree.body):
        if what == "bind":
            if how != "use" or name not in binds:
                binds[name] = how
        elif what == "fill":
            fills.add(name)
        elif name not in binds:
            early.add(name)
    uses = (_names_from_outside(code) - binds.keys()) | early
    return _Look(code, True, binds, frozenset(uses), frozenset(fills - binds.keys()))


def _names_from_outside(code: str) -> set[str]:
    """What the code looks up at the top: a function's own variables are its own business."""
    found: set[str] = set()
    with quietly():
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


_Event = tuple[Literal["bind", "fill", "read"], str, How]
_Todo = list["ast.AST | _Event"]


def _events(body: Sequence[ast.stmt]) -> Iterator[_Event]:
    """What running a cell does to names at its top, in that order; functions are not entered."""
    todo: _Todo = [*reversed(body)]
    while todo:
        step = todo.pop()
        if isinstance(step, tuple):
            yield step
        else:
            todo.extend(reversed(list(_parts(step))))


def _parts(node: ast.AST) -> Iterable[ast.AST | _Event]:
    """A node's parts as they come to pass, with what it does itself put in its place."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            yield from (part for part in (*node.decorator_list, *defaults) if part is not None)
            for name in _called_global(node):
                yield "bind", name, "global"
            yield "bind", node.name, "stub" if _is_empty(node) else "function"
        case ast.ClassDef():
            yield from (*node.decorator_list, *node.bases)
            yield "bind", node.name, "stub" if _is_empty(node) else "function"
        case ast.Lambda():
            yield from (part for part in node.args.defaults)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from _comprehended(node)
        case ast.Name(ctx=ast.Load() | ast.Del()):
            yield "read", node.id, "use"
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                yield "bind", (alias.asname or alias.name).partition(".")[0], "import"
        case ast.Assign():
            yield node.value
            for target in node.targets:
                yield from _bound(target, node.value)
        case ast.AnnAssign(value=ast.expr() as value):
            yield value
            yield from _bound(node.target, value)
        case ast.AnnAssign():
            pass  # a name with a type and no value is not bound
        case ast.AugAssign(target=ast.Name(id=name)):
            yield "read", name, "use"
            yield node.value
            yield "bind", name, "use"
        case ast.AugAssign():
            yield node.value
            yield from _bound(node.target, node.value)
        case ast.NamedExpr():
            yield node.value
            yield from _bound(node.target, node.value)
        case ast.For() | ast.AsyncFor():
            yield node.iter
            yield from _bound(node.target, node.iter)
            yield from (*node.body, *node.orelse)
        case ast.withitem(optional_vars=ast.expr() as target):
            yield node.context_expr
            yield from _bound(target, node.context_expr)
        case ast.ExceptHandler(name=str() as name):
            yield from () if node.type is None else (node.type,)
            yield "bind", name, "object"
            yield from node.body
        case ast.MatchAs() | ast.MatchStar() if node.name:
            yield "bind", node.name, "object"
            yield from ast.iter_child_nodes(node)
        case ast.MatchMapping(rest=str() as rest):
            yield "bind", rest, "object"
            yield from ast.iter_child_nodes(node)
        case _ if _TYPE_ALIAS is not None and isinstance(node, _TYPE_ALIAS):
            yield "bind", node.name.id, "object"  # type: ignore[attr-defined]
        case _:
            yield from ast.iter_child_nodes(node)


def _bound(target: ast.expr, value: ast.expr) -> Iterable[ast.AST | _Event]:
    """What an assignment of a value does to the names in its target."""
    match target, value:
        case ast.Name(id=name), _:
            yield "bind", name, _how(name, value)
        case ast.Tuple() | ast.List(), ast.Tuple() | ast.List() if _match_up(target, value):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                yield from _bound(one, its_value)
        case ast.Tuple() | ast.List(), _:
            for one in target.elts:
                yield from _bound(one, value)
        case ast.Starred(), _:
            yield from _bound(target.value, value)
        case ast.Attribute() | ast.Subscript(), _:
            yield from ast.iter_child_nodes(target)
            inside: ast.expr = target
            while isinstance(inside, ast.Attribute | ast.Subscript):
                inside = inside.value
            if isinstance(inside, ast.Name):
                yield "fill", inside.id, "object"


def _match_up(target: ast.Tuple | ast.List, value: ast.Tuple | ast.List) -> bool:
    starred = any(isinstance(part, ast.Starred) for part in (*target.elts, *value.elts))
    return not starred and len(target.elts) == len(value.elts)


def _how(name: str, value: ast.expr) -> How:
    match value:
        case ast.Constant(value=constant) if constant is ...:
            return "stub"
        case ast.Lambda():
            return "function"
        case ast.Call(func=ast.Name(id="partial") | ast.Attribute(attr="partial")):
            return "function"
        case ast.Call(args=arguments) if any(_is(argument, name) for argument in arguments):
            return "function"  # decorated by hand
    return "use" if any(_is(part, name) for part in ast.walk(value)) else "object"


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _comprehended(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
) -> Iterable[_Event]:
    """A comprehension's own variables stay in it; what it gives a name with ``:=`` does not."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    own = {part.id for part in names if isinstance(part.ctx, ast.Store)}
    for read in names:
        if isinstance(read.ctx, ast.Load) and read.id not in own:
            yield "read", read.id, "use"
    for part in ast.walk(node):
        if isinstance(part, ast.NamedExpr):
            yield "bind", part.target.id, "object"


def _called_global(function: ast.AST) -> Iterator[str]:
    for part in ast.walk(function):
        if isinstance(part, ast.Global):
            yield from part.names


def _is_empty(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """As it was handed out: ``...`` and words. (A class with ``pass`` may well be finished.)"""
    said = [part.value for part in node.body if isinstance(part, ast.Expr)]
    nothing = all(isinstance(value, ast.Constant) for value in said)
    if isinstance(node, ast.ClassDef):
        dots = any(isinstance(value, ast.Constant) and value.value is ... for value in said)
        return nothing and dots and len(said) == len(node.body)
    passing = sum(isinstance(part, ast.Pass) for part in node.body)
    return nothing and len(said) + passing == len(node.body)
