"""Flushes that wait for a worker: one flush of the device answers all that have arrived when it begins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vhdx.nbd.protocol.transmission import Request

_MAX_TOGETHER: Final = 64


class Flushes:
    """The flushes of one connection that have not begun. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Request] = []

    def add(self, request: Request) -> bool:
        """Have a flush done; False if a worker that is on its way does it, True if one has to be called."""
        with self._lock:
            self._waiting.append(request)
            return len(self._waiting) % _MAX_TOGETHER == 1

    def take(self) -> list[Request]:
        """What one flush of the device, to be begun after this, answers. Each worker called takes once."""
        with self._lock:
            taken, self._waiting = self._waiting[:_MAX_TOGETHER], self._waiting[_MAX_TOGETHER:]
            return taken
