"""What a run of the command leaves behind."""

import os
from collections.abc import Callable
from typing import NamedTuple

Argument = str | bytes | os.PathLike[str]


class Outcome(NamedTuple):
    """Exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line on stderr; fails the test if there are more or fewer."""
        (line,) = self.err.splitlines()
        assert line.startswith("vhdx: ")
        return line


Vhdx = Callable[..., Outcome]
