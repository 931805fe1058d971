"""Memory that clients can make a server use for payloads, bounded over all connections.

Whoever wants more than is left waits in line. What is held is given back as soon as its client has sent its
payload or taken its reply, and a client can take its time over that; but not for ever while others wait.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_LIMIT: Final = 256 << 20
PATIENCE_SECONDS: Final = 30.0
"""How long others wait for memory that is held while a client sends a payload or takes a reply."""


class Budget:
    """So many bytes of buffers for all connections. Thread-safe."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        """`limit` in bytes; a single request for more is granted when nobody else holds anything."""
        self._limit = limit
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        """Who waits, first come first served."""
        self._holders: set[Share] = set()
        self.used = 0

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits."""
        return bool(self._line)

    def share(self, give_way: Callable[[], None]) -> Share:
        """One connection's part. `give_way` is called to end the connection: it must lead to `release`."""
        return Share(self, give_way)

    def try_acquire(self, share: Share, size: int) -> bool:
        """Take `size` bytes if that is possible at once."""
        with self._changed:
            if self._line or not self._fits(size):
                return False
            self._take(share, size)
            return True

    def acquire(self, share: Share, size: int) -> None:
        """Take `size` bytes; wait for them if need be."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            until = time.monotonic() + PATIENCE_SECONDS
            while self._line[0] is not ticket or not self._fits(size):
                if self._changed.wait(until - time.monotonic()):
                    continue
                if self._line[0] is ticket:
                    self._make_room()
                until = time.monotonic() + PATIENCE_SECONDS
            self._line.popleft()
            self._take(share, size)
            self._changed.notify_all()  # the next in line may fit as well

    def release(self, share: Share, size: int) -> None:
        """Give `size` bytes back."""
        with self._changed:
            self._take(share, -size)
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return not self.used or self.used + size <= self._limit

    def _take(self, share: Share, size: int) -> None:
        self.used += size
        share.held += size
        if share.held:
            self._holders.add(share)
        else:
            self._holders.discard(share)

    def _make_room(self) -> None:
        """End the connection whose client lets it sit on memory for longest, if that is long enough."""
        slowest = min(self._holders, key=Share.waiting_since)
        if slowest.waiting_since() <= time.monotonic() - PATIENCE_SECONDS:
            slowest.give_way()


class Share:
    """What one connection holds of a budget."""

    def __init__(self, budget: Budget, give_way: Callable[[], None]) -> None:
        self._budget = budget
        self.give_way = give_way
        self.held = 0
        self._waits: list[float] = []

    @contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Say that what is held now depends on the client: it may take its time, unless others wait, too."""
        began = time.monotonic()
        self._waits.append(began)
        try:
            yield
        finally:
            self._waits.remove(began)

    def waiting_since(self) -> float:
        """When the oldest wait for the client began, as time.monotonic() tells it; infinity if there is none."""
        return min(self._waits.copy(), default=math.inf)

    def try_acquire(self, size: int) -> bool:
        """Take `size` bytes if that is possible at once."""
        return self._budget.try_acquire(self, size)

    def acquire(self, size: int) -> None:
        """Take `size` bytes; wait for them if need be."""
        self._budget.acquire(self, size)

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self._budget.release(self, size)

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold `size` bytes for a while."""
        self.acquire(size)
        try:
            yield
        finally:
            self.release(size)
