"""Mistakes that can be made with the steps of any function: a step is left out, or two are in the wrong order.

They are found in the functions as they are, so a step that is new is a place for new mutants. A step is a statement
that is nothing but a call, in the rooms that change a file; two neighbours of which one holds a step may be
exchanged. Calls at which no crash can show anything are named below, with what they are for.

A mutant's name says the function and the statements, so it stays when lines move.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from proof.mutants.wrong import Mutant, Wrong
from vhdx.engine import blocks, page_cache, session

_JUDGES: Final = (
    "check_sound",
    "check_fast_zeroes",
    "poison.check",
    "poison.take",
    "_judge",
    "_refuse",
    "assert_never",
)
"""Refuse what is wrong already. Hostile images and failures are for tests/cases, fuzz and tests/writing."""
_HOST_SPACE: Final = ("reserve", "forget", "_reserve_host_space")
"""Ask the host for space ahead: tests/writing/test_space.py."""
_CLOSING: Final = ("in_flight.close", "wait_until")
"""Wait for other threads before a disk is closed: tests/writing/test_closing.py."""
_SPACE: Final = (
    *("allocator.free", "allocator.freeze", "allocator.settle", "allocator.reclaim", "allocator.undo"),
    *("_reclaim", "give_back", "_give_back", "session.free", "_collect", "_add_free", "punch_hole"),
    *("free.add", "free.update", "freed.add", "settled.add", "joined.append"),
    *("in_flight.end", "active.pop"),
)
"""Say that space may be used again. Left out they cost space and nothing else; too early they lose data."""
_LEFT_OUT_FOR_NOTHING: Final = frozenset((*_JUDGES, *_HOST_SPACE, *_CLOSING, *_SPACE))
_EXCHANGED_FOR_NOTHING: Final = frozenset((*_JUDGES, *_HOST_SPACE, *_CLOSING))
_OTHER_MODULES: Final = frozenset(("host_space", "poison"))
"""Modules of these rooms that only ask the host for space, or refuse to go on (tests/writing/test_interrupts.py)."""
_TEXT_LENGTH: Final = 70


class Place(NamedTuple):
    """A statement of a function: the number of its block of statements, and its index in that."""

    block: int
    statement: int


class Example(NamedTuple):
    """The body of a function, and every wrong version of it that an operator makes."""

    right: str
    wrong: tuple[str, ...] = ()


class Operator(Protocol):
    """A mistake that can be made at many places."""

    examples: ClassVar[Sequence[Example]]

    def name(self, body: Sequence[ast.stmt], index: int) -> str | None:
        """What the mistake at a statement is called; None where it cannot be made."""

    def make(self, body: list[ast.stmt], index: int) -> None:
        """Make it, at a statement where it has a name."""


class LeaveOut:
    """A step is missing."""

    examples: ClassVar[Sequence[Example]] = (
        Example("a.write(1)\nb.flush()", ("pass\nb.flush()", "a.write(1)\npass")),
        Example("if a.write(1):\n    put(2)", ("if a.write(1):\n    pass",)),
        Example(
            "if a:\n    a.write(1)\nelse:\n    a.write(2)",
            (
                "if a:\n    pass\nelse:\n    a.write(2)",
                "if a:\n    a.write(1)\nelse:\n    pass",
            ),
        ),
        Example("size = a.size()\na.allocator.free(size)\nreturn a.flush()"),
    )

    def name(self, body: Sequence[ast.stmt], index: int) -> str | None:
        """Of a statement that is nothing but a call."""
        match body[index]:
            case ast.Expr(value=ast.Call() as call) if not _is_one_of(_LEFT_OUT_FOR_NOTHING, call):
                return f"no `{_text(body[index])}`"
            case _:
                return None

    def make(self, body: list[ast.stmt], index: int) -> None:
        """Put nothing in its place."""
        body[index] = ast.copy_location(ast.Pass(), body[index])


class Exchange:
    """Two neighbouring steps are in the wrong order."""

    examples: ClassVar[Sequence[Example]] = (
        Example(
            "a.write(1)\nb.flush()\nc.write(2)",
            (
                "b.flush()\na.write(1)\nc.write(2)",
                "a.write(1)\nc.write(2)\nb.flush()",
            ),
        ),
        Example("if a:\n    a.write(1)\nsize = b.size()", ("size = b.size()\nif a:\n    a.write(1)",)),
        Example("size = a.size()\nb.write(size)"),
        Example("size = a.size()\nend = b.end()"),
        Example("if a.size():\n    return\nb.flush()"),
        Example("a.check_sound()\nb.flush()"),
        Example("a.flush()\nreturn b.size()"),
        Example("a.write(1)\nyield a", ("yield a\na.write(1)",)),
    )

    def name(self, body: Sequence[ast.stmt], index: int) -> str | None:
        """Of a statement and the one behind it, if the latter needs no name that the former gives a value to."""
        first, *others = body[index : index + 2]
        if not others or isinstance(others[0], ast.Return) or _leaves(first):
            return None
        steps = [list(_steps(statement)) for statement in (first, others[0])]
        needs = _names(first, ast.Store) & _names(others[0], ast.Load)
        if needs or not all(steps) or not any(is_statement for found in steps for is_statement in found):
            return None
        return f"`{_text(others[0])}` before `{_text(first)}`"

    def make(self, body: list[ast.stmt], index: int) -> None:
        """Put the statement behind the one that follows it."""
        body[index : index + 2] = reversed(body[index : index + 2])


OPERATORS: Final[Sequence[Operator]] = (LeaveOut(), Exchange())


def discover() -> Iterator[Mutant]:
    """Every mistake that the operators can make in the rooms that change a file."""
    met: Counter[str] = Counter()
    for module in _modules():
        for function, node in _functions(module):
            for operator in OPERATORS:
                for place, mistake in places(operator, node):
                    name = f"{module.__name__.rpartition('.')[2]}.py {node.name}: {mistake}"
                    met[name] += 1
                    again = f" ({met[name]})" if met[name] > 1 else ""
                    yield Mutant(name + again, partial(_make, function, operator, place))


def _modules() -> Iterator[ModuleType]:
    for room in (session, blocks):
        for info in pkgutil.iter_modules(room.__path__):
            if info.name not in _OTHER_MODULES:
                yield importlib.import_module(f"{room.__name__}.{info.name}")
    yield page_cache


def places(operator: Operator, function: ast.FunctionDef) -> Iterator[tuple[Place, str]]:
    """Where an operator can make its mistake in a function, and what that is called."""
    for number, body in enumerate(_bodies(function)):
        for index in range(len(body)):
            mistake = operator.name(body, index)
            if mistake is not None:
                yield Place(number, index), mistake


def make_mistake(operator: Operator, function: ast.FunctionDef, place: Place) -> None:
    """Make a mistake in a function's tree."""
    operator.make(list(_bodies(function))[place.block], place.statement)


def _make(function: FunctionType, operator: Operator, place: Place, library: Wrong) -> None:
    module = sys.modules[function.__module__]
    tree = ast.parse(inspect.getsource(module))
    node = next(node for found, node in _functions_of(tree, module) if found is function)
    make_mistake(operator, node, place)
    library.recompile(function, _code_of(function, compile(tree, inspect.getfile(module), "exec")))


def _code_of(function: FunctionType, outer: CodeType) -> CodeType:
    """Raises: StopIteration if the code of a module, or of a class in it, has no such function."""

    def all_in(code: CodeType) -> Iterator[CodeType]:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from all_in(constant)

    right = function.__code__
    return next(
        code
        for code in all_in(outer)
        if (code.co_qualname, code.co_firstlineno) == (right.co_qualname, right.co_firstlineno)
    )


def _functions(module: ModuleType) -> Iterator[tuple[FunctionType, ast.FunctionDef]]:
    return _functions_of(ast.parse(inspect.getsource(module)), module)


def _functions_of(
    node: ast.Module | ast.ClassDef, owner: object
) -> Iterator[tuple[FunctionType, ast.FunctionDef]]:
    """Functions and methods with their trees; what decorators made of them is taken off."""
    for inner in node.body:
        if isinstance(inner, ast.ClassDef):
            yield from _functions_of(inner, getattr(owner, inner.name))
        elif isinstance(inner, ast.FunctionDef):
            yield _plain(inspect.getattr_static(owner, inner.name)), inner


def _plain(function: Any) -> FunctionType:
    if isinstance(function, property):
        function = function.fget
    plain = inspect.unwrap(getattr(function, "__func__", function))
    assert isinstance(plain, FunctionType)
    return plain


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


def _is_one_of(calls: frozenset[str], call: ast.Call) -> bool:
    """Whether a call's function, or that and the object it belongs to, is named."""
    match call.func:
        case ast.Attribute(value=ast.Attribute(attr=owner) | ast.Name(id=owner), attr=name):
            return name in calls or f"{owner.lstrip('_')}.{name}" in calls
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in calls
        case _:
            return False


def _steps(statement: ast.stmt) -> Iterator[bool]:
    """What may do something: whether each is a statement of its own. Plain functions only compute.

    What follows on a `yield`, the body of a context, may do anything.
    """
    for node in ast.walk(statement):
        match node:
            case ast.Expr(value=ast.Yield()):
                yield True
            case ast.Expr(value=ast.Call() as call) if not _is_one_of(_EXCHANGED_FOR_NOTHING, call):
                yield True
            case ast.Call(func=ast.Attribute()) as call if not _is_one_of(_EXCHANGED_FOR_NOTHING, call):
                yield False


def _leaves(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Return) for node in ast.walk(statement))


def _names(statement: ast.stmt, context: type[ast.expr_context]) -> set[str]:
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, context):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found
