"""Operations under way: file space that one of them may still use is not given to another block.

An interrupt may come before any step of a Python function. What ends an operation, or lets a block go, is therefore
a single call into the interpreter itself (`dict.pop`, the end of a `with` on a lock): nothing stays held for ever.
"""

from __future__ import annotations

from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Final

from vhdx.errors import ImageClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhdx._sync import Mutex, Sync

_PINNED: Final = 0
"""Stands in the place of a thread's number, which is never 0."""
_BLOCK_LOCKS: Final = 64
_BITMAP_LOCKS: Final = 16


class InFlight:
    """Tickets of running operations, and the locks of blocks.

    A ticket is a number that only rises. Space that was freed when `now()` was n is out of every operation's
    sight once `oldest()` is above n.
    """

    def __init__(self, sync: Sync, name: str) -> None:
        """`name`: the image's, for messages."""
        self._sync = sync
        self._name = name
        self._numbers = count()
        self._active: dict[int, int] = {}
        """The thread of each ticket that is out."""
        self._is_closed = False
        self._blocks = tuple(sync.lock() for _ in range(_BLOCK_LOCKS))
        self._bitmaps = tuple(sync.lock() for _ in range(_BITMAP_LOCKS))
        self.end: Final[Callable[[int], object]] = self._active.pop
        """Give a ticket back: what its operation looked up is not used any more."""

    def begin(self) -> int:
        """Take a ticket for an operation that is about to look up where blocks lie. Raises: ImageClosedError."""
        return self._register(get_ident())

    def pin(self) -> int:
        """Take a ticket that may outlive a call; `close` does not wait for it. Raises: ImageClosedError."""
        return self._register(_PINNED)

    def _register(self, holder: int) -> int:
        ticket = next(self._numbers)
        try:
            self._active[ticket] = holder
            # In this order: who closes says so first, and then looks who is under way.
            if self._is_closed:
                raise ImageClosedError(f"{self._name}: the image is closed")
        except BaseException:
            self._active.pop(ticket, None)
            raise
        return ticket

    def now(self) -> int:
        """The latest ticket that may know the present state."""
        return next(self._numbers)

    def oldest(self) -> int:
        """The oldest ticket still out; one that is later than all if none is."""
        # Drawn first: an operation that registers meanwhile has not looked up anything yet.
        latest = next(self._numbers)
        return min(tuple(self._active), default=latest)

    def close(self) -> None:
        """Refuse newcomers, and wait for the operations of other threads to end."""
        self._is_closed = True
        is_all_of = {_PINNED, get_ident()}.issuperset
        self._sync.wait_until(lambda: is_all_of(tuple(self._active.values())))

    def block(self, number: int) -> Mutex:
        """The lock under which alone is changed what the tables say of a block; other blocks may share it."""
        return self._blocks[number % _BLOCK_LOCKS]

    def bitmap(self, chunk: int) -> Mutex:
        """The same for a chunk's sector bitmap; whoever needs both takes the block's lock first."""
        return self._bitmaps[chunk % _BITMAP_LOCKS]
