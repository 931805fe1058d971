"""A process that has a file open, as errors tell of it."""

from typing import NamedTuple


class Holder(NamedTuple):
    """A process that has a file open."""

    pid: int
    name: str
    """Of its program, as the system shortens it; empty if the process has gone meanwhile."""

    def __str__(self) -> str:
        return f"{self.name or 'a process'} (process {self.pid})"
