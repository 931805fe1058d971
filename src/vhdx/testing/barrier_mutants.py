"""Wrong versions of a write engine: each lacks one barrier, or has two steps in the wrong order.

Most are found in the source: every flush removed, every pair of neighbouring steps exchanged. The others are
named replacements of text. A kit that does not find the damage each of them does proves nothing.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

SWAPPED_MODULES: Final = ("commit.py", "log_writer.py", "header_writer.py", "session.py")
FLUSHING_MODULES: Final = (*SWAPPED_MODULES, "writer.py")

_EFFECTS: Final = frozenset(
    (
        "flush",
        "pwrite",
        "truncate",
        "write_zeroes",
        "update",
        "append",
        "start",
        "end",
        "freeze",
        "thaw",
        "settle",
        "finish",
        "reclaim",
        "size",
        "_write",
        "_write_entry",
        "_write_other",
        "_replay_onto_disk",
        "_make_log",
        "_leave_overlay",
        "final_size",
    )
)
"""Names of methods whose order matters."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong version of one module."""

    name: str
    module: str
    """File name in the engine's directory, or a path relative to it."""
    source: str
    """The whole wrong module."""


class Replacement(NamedTuple):
    """A mutant as a replacement of text that occurs exactly once in a module."""

    name: str
    module: str
    old: str
    new: str


def discover(engine: Path) -> Iterator[Mutant]:
    """Every flush removed and every pair of neighbouring steps exchanged. Raises: OSError, SyntaxError."""
    for module in FLUSHING_MODULES:
        source = (engine / module).read_text(encoding="utf-8")
        lines = source.splitlines(keepends=True)
        for function in _functions(ast.parse(source)):
            for body in _bodies(function):
                for statement in body:
                    if _flushes(statement):
                        name = f"{module}:{statement.lineno} no flush in {function.name}"
                        yield Mutant(name, module, _without(lines, statement))
                if module in SWAPPED_MODULES:
                    yield from _swaps(module, function.name, lines, body)


def replaced(engine: Path, replacements: Sequence[Replacement]) -> Iterator[Mutant]:
    """The named mutants. Raises: ValueError for one whose text does not occur exactly once (any more)."""
    for name, module, old, new in replacements:
        source = (engine / module).read_text(encoding="utf-8")
        if source.count(old) != 1:
            raise ValueError(f"mutant {name!r}: its text occurs {source.count(old)} times in {module}")
        yield Mutant(name, module, source.replace(old, new))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def _bodies(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                yield body


def _flushes(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a flush."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="flush"))):
            return True
        case _:
            return False


def _has_effect(statement: ast.stmt) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _EFFECTS
        for node in ast.walk(statement)
    )


def _names(statement: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, context):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def _swaps(module: str, function: str, lines: list[str], body: list[ast.stmt]) -> Iterator[Mutant]:
    for first, second in pairwise(body):
        if not (_has_effect(first) and _has_effect(second)):
            continue
        if _names(first, ast.Store) & _names(second, ast.Load) or isinstance(second, ast.Return):
            continue
        name = f"{module}:{first.lineno} {function}: exchanged with line {second.lineno}"
        yield Mutant(name, module, _exchanged(lines, first, second))


def _span(statement: ast.stmt) -> slice:
    assert statement.end_lineno is not None
    return slice(statement.lineno - 1, statement.end_lineno)


def _without(lines: list[str], statement: ast.stmt) -> str:
    changed = list(lines)
    changed[_span(statement)] = [" " * statement.col_offset + "pass\n"]
    return "".join(changed)


def _exchanged(lines: list[str], first: ast.stmt, second: ast.stmt) -> str:
    before, after = lines[_span(first)], lines[_span(second)]
    between = lines[_span(first).stop : _span(second).start]
    return "".join([*lines[: _span(first).start], *after, *between, *before, *lines[_span(second).stop :]])
