"""Operations under way: file space that one of them may still use is not given to another block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.engine.sync import Condition, Sync


class InFlight:
    """Tickets of running operations, and the blocks that one of them holds for itself.

    A ticket is a number that only rises. Space that was freed when `now()` was n is out of every operation's
    sight once `oldest()` is above n.
    """

    def __init__(self, sync: Sync) -> None:
        self._lock = sync.lock()
        self._changed: Condition = sync.condition(self._lock)
        self._next = 0
        self._active: dict[int, None] = {}
        self._held: dict[int, object] = {}

    def begin(self) -> int:
        """Take a ticket for an operation that is about to look up where blocks lie."""
        with self._lock:
            ticket = self._next
            self._next += 1
            self._active[ticket] = None
        return ticket

    def end(self, ticket: int) -> None:
        """Give the ticket back: what the operation looked up is not used any more."""
        with self._lock:
            del self._active[ticket]

    def now(self) -> int:
        """The latest ticket that may know the present state."""
        with self._lock:
            return self._next

    def oldest(self) -> int:
        """The oldest ticket still out; the next one if none is."""
        with self._lock:
            return next(iter(self._active), self._next)

    @contextmanager
    def block(self, number: int) -> Iterator[None]:
        """Hold a block exclusively: nobody else changes what the tables say of it meanwhile."""
        holder = object()
        try:
            with self._lock:
                while number in self._held:
                    self._changed.wait()
                self._held[number] = holder
            yield
        finally:
            with self._lock:
                try:
                    self._changed.notify_all()
                except BaseException:
                    self._changed.notify_all()  # an interrupt of this thread must not stop those that wait
                    raise
                finally:
                    # Who was interrupted on the way in may hold the block or not. No call that a second
                    # interrupt could end: the block would be held for ever.
                    if number in self._held and self._held[number] is holder:
                        del self._held[number]

    @contextmanager
    def changing(self, number: int) -> Iterator[None]:
        """Hold a block exclusively, under a ticket."""
        ticket = self.begin()
        try:
            with self.block(number):
                yield
        finally:
            self.end(ticket)
