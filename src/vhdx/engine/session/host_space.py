"""Host space for log and metadata, taken before anything is promised that needs it.

In a sparse file, a write into a hole can fail because the host is full. A host that runs full must fail the request
that asks for more, as a plain OSError, and never the commit of what was accepted before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vhdx.storage.base import space_control

if TYPE_CHECKING:
    from vhdx.storage.base import ByteStore

_UNIT: Final = 64 << 10
"""Tables lie at multiples of this, and fill whole units."""


class HostSpace:
    """Remembers for which parts of one file host space has been taken. Thread-safe."""

    def __init__(self, store: ByteStore) -> None:
        self._space = space_control(store)
        self._reserved: set[int] = set()

    def reserve(self, length: int, file_offset: int) -> None:
        """Take host space for a range of tables or log, where the store has a way. Raises: OSError."""
        if not length:
            return
        units = range(file_offset // _UNIT, (file_offset + length - 1) // _UNIT + 1)
        missing = [unit for unit in units if unit not in self._reserved]
        if missing:
            start = missing[0] * _UNIT
            self._space.reserve((missing[-1] + 1) * _UNIT - start, start)
            self._reserved.update(missing)

    def forget(self, length: int, file_offset: int) -> None:
        """Take host space anew when a range is reserved next: it may have been punched."""
        self._reserved.difference_update(range(file_offset // _UNIT, (file_offset + length - 1) // _UNIT + 1))
