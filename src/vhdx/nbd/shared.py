"""Turns that the connections of one server take: at reading what is in memory, and at overwriting in place.

Both keep the interpreter busy with one short system call after the other. Threads that contend for the interpreter's
lock at each of them are several times slower than threads that wait for each other. There are two turns, because a
write may have to wait (the system slows down who dirties too much memory), and no read must wait with it.
"""

import threading


class Turns:
    """One for all connections of a server."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.writing = threading.Lock()
