"""Operations under way: file space that one of them may still use is not given to another block.

An interrupt may come before any step of a Python function. So an operation is ended, and a block is let go, by a
single call of a built-in function (`dict.pop`, a lock's `__exit__`), in which no interrupt can come: nothing stays
held for ever.
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

    Each ticket is a larger number than those before it. Space that was freed when `now()` was n is used by no
    operation once `oldest()` is not below n.
    """

    def __init__(self, sync: Sync, name: str) -> None:
        """`name`: the image's, for messages."""
        self._sync = sync
        self._name = name
        self._numbers = count()
        self._active: dict[int, int] = {}
        """The thread of each ticket that has not been given back."""
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
            # Register first, then look at the flag. `close` sets the flag first, then looks at the register: one of
            # the two sees the other.
            if self._is_closed:
                raise ImageClosedError(f"{self._name}: the image is closed")
        except BaseException:
            self._active.pop(ticket, None)
            raise
        return ticket

    def now(self) -> int:
        """A number above all tickets of operations that may know how things stand now."""
        return next(self._numbers)

    def oldest(self) -> int:
        """The oldest ticket that has not been given back; a number above all of them if there is none."""
        # This number is drawn before the register is read: an operation that registers between the two gets a larger
        # one, and has not looked up anything yet.
        latest = next(self._numbers)
        return min(tuple(self._active), default=latest)

    def close(self) -> None:
        """Refuse newcomers, and wait for the operations of other threads to end."""
        self._is_closed = True
        is_all_of = {_PINNED, get_ident()}.issuperset
        self._sync.wait_until(lambda: is_all_of(tuple(self._active.values())))

    def block(self, number: int) -> Mutex:
        """The lock of a block: whoever changes what the tables say of the block holds it. Blocks share locks."""
        return self._blocks[number % _BLOCK_LOCKS]

    def bitmap(self, chunk: int) -> Mutex:
        """The lock of a chunk's sector bitmap. Chunks share locks. A block's lock is taken before it, never after."""
        return self._bitmaps[chunk % _BITMAP_LOCKS]
