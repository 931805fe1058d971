"""Wrong versions of a write engine: each lacks one step, has two in the wrong order, or does one wrongly.

Most are found in the source: every step with an effect left out, flushes among them, and every pair of
neighbouring steps exchanged. The others are named replacements of text. A kit that does not find the damage
each of them does proves nothing. Their names say the function and the statements, so they stay when lines move.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

MODULES: Final = (
    "session/allocator.py",
    "blocks/tables.py",
    "blocks/block_writer.py",
    "session/commit.py",
    "session/header_writer.py",
    "session/log_writer.py",
    "page_cache.py",
    "session/session.py",
    "blocks/requests.py",
)
"""Where the order of steps matters."""

_EFFECTS: Final = frozenset(
    (
        *("flush", "pwrite", "truncate", "write_zeroes", "put", "_clear"),
        *("update", "append", "start", "end", "_write", "_write_entry", "_write_other"),
        *("freeze", "thaw", "settle", "finish", "free", "reclaim", "size", "final_size"),
        *("begin", "_begin_once", "_replay_onto_disk", "_make_log", "_heal_region_tables"),
        *("_apply", "apply", "set_entry", "mark_sectors", "_give_back_host_space"),
    )
)
"""Names of functions that change something, or look at what others change."""

_OPTIONAL: Final = frozenset(
    ("size", "final_size", "free", "freeze", "settle", "reclaim", "_give_back_host_space")
)
"""Those that only look, or give space back: left out, they cost space and nothing else."""
_BOOKS: Final = ("in_flight", "_in_flight", "_free", "_freed", "_frozen", "_settled", "joined")
"""Objects that keep account of space."""
_TEXT_LENGTH: Final = 70


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong version of one module."""

    name: str
    module: str
    """File name in the engine's directory, or a path relative to it."""
    source: str
    """The whole wrong module."""


class Replacement(NamedTuple):
    """A mutant as replacements of texts, each of which occurs exactly once in a module."""

    name: str
    module: str
    old: str
    new: str
    more: tuple[tuple[str, str], ...] = ()
    """Further replacements: (old, new)."""


def discover(engine: Path) -> Iterator[Mutant]:
    """Every step left out and every pair of neighbouring steps exchanged. Raises: OSError, SyntaxError."""
    for module in MODULES:
        source = (engine / module).read_text(encoding="utf-8")
        met: Counter[str] = Counter()
        for mutant in _found(module, source):
            met[mutant.name] += 1
            again = f" ({met[mutant.name]})" if met[mutant.name] > 1 else ""
            yield Mutant(mutant.name + again, module, mutant.source)


def _found(module: str, source: str) -> Iterator[Mutant]:
    lines = source.splitlines(keepends=True)
    for function in _functions(ast.parse(source)):
        where = f"{Path(module).name} {function.name}"
        for body in _bodies(function):
            for statement in body:
                if _is_step(statement):
                    yield Mutant(f"{where}: no `{_text(statement)}`", module, _without(lines, statement))
            for first, second in _neighbours(body):
                name = f"{where}: `{_text(second)}` before `{_text(first)}`"
                yield Mutant(name, module, _exchanged(lines, first, second))


def replaced(engine: Path, replacements: Sequence[Replacement]) -> Iterator[Mutant]:
    """The named mutants. Raises: ValueError for one whose text does not occur exactly once (any more)."""
    for name, module, old, new, more in replacements:
        source = (engine / module).read_text(encoding="utf-8")
        for before, after in ((old, new), *more):
            if source.count(before) != 1:
                raise ValueError(f"mutant {name!r}: a text occurs {source.count(before)} times in {module}")
            source = source.replace(before, after)
        yield Mutant(f"{Path(module).name}: {name}", module, source)


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


def _text(statement: ast.stmt) -> str:
    """A statement's beginning, whatever its layout."""
    first, *others = ast.unparse(statement).splitlines()
    text = f"{first} ..." if others else first
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 4]} ..."


def _calls(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        match inner:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                yield name
            case _:
                pass


def _is_step(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a call that changes something that a crash may show."""
    match statement:
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=ast.Attribute(attr=owner) | ast.Name(id=owner)))
        ) if owner in _BOOKS:
            return False
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name))):
            return name in _EFFECTS - _OPTIONAL
        case _:
            return False


def _has_effect(statement: ast.stmt) -> bool:
    return not _EFFECTS.isdisjoint(_calls(statement))


def _names(statement: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, context):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def _neighbours(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    """Steps that can change places, however wrong that may be."""
    for first, second in pairwise(body):
        if not (_has_effect(first) and _has_effect(second)):
            continue
        if _names(first, ast.Store) & _names(second, ast.Load) or isinstance(second, ast.Return):
            continue
        if not any(isinstance(node, ast.Return) for node in ast.walk(first)):
            yield first, second


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
