"""Holds the ceilings: how long a module and a function may be, and how many parameters a constructor may have.

    python -m proof.ceilings

Prints every breach and ends with exit status 1 if there is any. What may be higher is in EXCEPTIONS, with its reason;
an exception that is not needed any more is a breach, too.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

MODULE_LINES: Final = 400
FUNCTION_LINES: Final = 40
"""Lines of code: the signature and the body without docstring, comments and blank lines."""
CONSTRUCTOR_PARAMETERS: Final = 6
"""Of an `__init__` that is written out, `self` not counted: the fields of a dataclass are a record, not wiring."""

FOLDERS: Final = ("src/vhdx", "proof")
EXCEPTIONS: Final[Mapping[str, str]] = {
    "src/vhdx/ops/convert.py:convert": "sixteen lines are the options of the verb, one a line; the body is short",
    "src/vhdx/rules.py": "a table: every rule of the format with its sentence and what its breach means",
    "src/vhdx/testing/image/description.py:ImageDescription.__init__": (
        "what can be chosen of an image, each with a default: a record that tests write down by keyword, not wiring"
    ),
}
"""Reasons, by "path" of a module or "path:Class.function"."""

_NO_CODE: Final = frozenset(
    (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
)


class CeilingBreach(NamedTuple):
    """A ceiling that is not held."""

    where: str
    """As a key of EXCEPTIONS."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def breaches(root: Path, exceptions: Mapping[str, str] = EXCEPTIONS) -> Iterator[CeilingBreach]:
    """Every breach in FOLDERS below a checkout, and every exception that nothing needs."""
    unused = set(exceptions)
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for breach in module_breaches(
                path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
            ):
                unused.discard(breach.where)
                if breach.where not in exceptions:
                    yield breach
    yield from (CeilingBreach(where, "an exception that is not needed any more") for where in sorted(unused))


def module_breaches(source: str, path: str) -> Iterator[CeilingBreach]:
    """The breaches in the source of one module."""
    count = len(source.splitlines())
    if count > MODULE_LINES:
        yield CeilingBreach(path, f"{count} lines, at most {MODULE_LINES} allowed")
    code = _lines_of_code(source)
    for name, node in _functions(ast.parse(source)):
        count = len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)) - _docstring_lines(node))
        if count > FUNCTION_LINES:
            yield CeilingBreach(f"{path}:{name}", f"{count} lines of code, at most {FUNCTION_LINES} allowed")
        count = _parameters(node) if node.name == "__init__" else 0
        if count > CONSTRUCTOR_PARAMETERS:
            yield CeilingBreach(
                f"{path}:{name}", f"{count} parameters, at most {CONSTRUCTOR_PARAMETERS} allowed"
            )


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    """Every function, nested ones too, with the names of what it stands in: "Class.function"."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Function):
            yield prefix + node.name, node
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        else:
            yield from _functions(node, prefix)


def _lines_of_code(source: str) -> set[int]:
    """Numbers of the lines that hold more than a comment."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def _docstring_lines(function: _Function) -> set[int]:
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None:
        return set()
    return set(range(first.lineno, (first.end_lineno or 0) + 1))


def _parameters(function: _Function) -> int:
    arguments = function.args
    named = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    return named + bool(arguments.vararg) + bool(arguments.kwarg)


def main() -> int:
    """Run as a program."""
    found = list(breaches(Path(__file__).parents[1]))
    print("\n".join(map(str, found)) or "All ceilings are held.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
