"""Memory that clients can make a server use for payloads, bounded over all connections."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_LIMIT: Final = 256 << 20


class Budget:
    """So many bytes of buffers; whoever wants more than is left waits until others give theirs back."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        """`limit` in bytes; a single request for more is granted when nobody else holds anything."""
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting = 0
        self.used = 0

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits."""
        return self._waiting > 0

    def try_acquire(self, size: int) -> bool:
        """Take `size` bytes if that is possible at once."""
        with self._changed:
            if self.used and self.used + size > self._limit:
                return False
            self.used += size
            return True

    def acquire(self, size: int) -> None:
        """Take `size` bytes; wait for them if need be."""
        with self._changed:
            self._waiting += 1
            while self.used and self.used + size > self._limit:
                self._changed.wait()
            self._waiting -= 1
            self.used += size

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        with self._changed:
            self.used -= size
            self._changed.notify_all()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold `size` bytes for a while."""
        self.acquire(size)
        try:
            yield
        finally:
            self.release(size)
