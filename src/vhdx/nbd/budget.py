"""Memory that clients can make a server use for payloads, bounded over all connections.

A connection that wants more than is left waits in line. Memory is given back as soon as the client has sent its
payload or taken its reply. A client may be slow with that, but not without limit while other clients wait: then the
connection of the slowest is broken off.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from vhdx.nbd.channel import ChannelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.nbd.ending import Ending

DEFAULT_LIMIT: Final = 256 << 20
PATIENCE_SECONDS: Final = 30.0
"""How long other clients wait for memory that is held while one client sends a payload or takes a reply."""


class Budget:
    """So many bytes of buffers for all connections. Thread-safe."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        """`limit` in bytes; a single request for more is granted when nobody else holds anything."""
        self._limit = limit
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        """One entry for each thread that waits, the first to be served first."""
        self._holders: set[Share] = set()
        self.used = 0

    def share(self, ending: Ending) -> Share:
        """One connection's part. If `ending` is made to break the connection off, the part must be released."""
        return Share(self, ending)

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
        """Break off the connection that has held memory and waited for its client longest, if that was too long."""
        slowest = min(self._holders, key=Share.waiting_since)
        if slowest.waiting_since() <= time.monotonic() - PATIENCE_SECONDS:
            slowest.ending.break_off(ChannelError("it held up others, who waited for the memory it uses"))


class Share:
    """What one connection holds of a budget."""

    def __init__(self, budget: Budget, ending: Ending) -> None:
        self._budget = budget
        self.ending = ending
        self.held = 0
        self._waits: list[float] = []

    @contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Mark a time in which the memory is held because of the client, which sends a payload or takes a reply."""
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
