"""What all connections of one server share: memory for payloads, the log, and two turns.

A connection takes a turn for work that keeps the interpreter busy with one short system call after the other.
Threads that contend for the interpreter's lock at each of those calls are several times slower than threads that
wait for each other. Reading and writing have a turn each, because a write may have to wait (the system slows down
a process that dirties too much memory), and no read must wait with it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vhdx.nbd.budget import Budget

if TYPE_CHECKING:
    from vhdx.nbd.server_log import ServerLog


class Shared:
    """One for each server. Thread-safe."""

    def __init__(self, server_log: ServerLog, budget: Budget | None = None) -> None:
        """`budget` is for tests that want another one than the server's."""
        self.server_log = server_log
        self.budget = Budget() if budget is None else budget
        self.reading = threading.Lock()
        """The turn for reading what is in memory."""
        self.writing = threading.Lock()
        """The turn for overwriting in place."""
