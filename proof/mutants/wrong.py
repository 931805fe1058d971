"""A wrong version of the library, made while a process runs: a function stands where another one should stand.

A mutant says what to put where. Whoever wants the wrong version enters `Mutant.made`, and the right one is back
afterwards:

    with mutant.made():
        ...  # the library makes the mistake

No source is copied or quoted. A mutant whose function is renamed is renamed with it, and one whose function is gone
raises AttributeError where it stands.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import ParamSpec, TypeVar
from unittest import mock

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Wrong:
    """The library, as a mutant makes it wrong. Whatever is replaced is put back by `undo`."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self.undo = self._undo.close
        self.replaced: list[object] = []
        """The right functions, in whose place others stand, or which have other code."""

    def replace(self, right: Callable[_P, _R], wrong: Callable[_P, _R]) -> None:
        """Put a function of the same signature in a function's place: in its class, or wherever it is imported.

        The right one stays what it was, so that the wrong one may call it. Raises: AttributeError if the function
        does not stand under its own name.
        """
        function = right.fget if isinstance(right, property) else right
        *path, name = function.__qualname__.split(".")
        owner = sys.modules[function.__module__]
        for part in path:
            owner = getattr(owner, part)
        if getattr(owner, name) is not right:
            raise AttributeError(f"{function.__qualname__} is not what stands under that name")
        new = property(wrong) if isinstance(right, property) else wrong
        for holder in [owner] if path else _modules_with(name, right):
            self._undo.enter_context(mock.patch.object(holder, name, new))
            self.replaced.append(right)

    def recompile(self, function: FunctionType, code: CodeType) -> None:
        """Give a function other code, in place: whoever holds the function runs the new code."""
        self._undo.callback(setattr, function, "__code__", function.__code__)
        function.__code__ = code
        self.replaced.append(function)


def _modules_with(name: str, function: object) -> list[object]:
    return [module for module in list(sys.modules.values()) if vars(module).get(name) is function]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong version of the library."""

    name: str
    """File of the mistake, and what is wrong."""
    make: Callable[[Wrong], None]

    @contextmanager
    def made(self) -> Iterator[None]:
        """Make the library wrong for the time of a context."""
        library = Wrong()
        try:
            self.make(library)
            yield
        finally:
            library.undo()


class Named(list[Mutant]):
    """Mutants that each have a function of their own, which makes the mistake."""

    def add(self, where: type, mistake: str) -> Callable[[Callable[[Wrong], None]], Callable[[Wrong], None]]:
        """Decorate the function of a mutant; `where` is a class of the module in which the mistake is."""

        def note(make: Callable[[Wrong], None]) -> Callable[[Wrong], None]:
            self.append(Mutant(f"{where.__module__.rpartition('.')[2]}.py: {mistake}", make))
            return make

        return note
