"""Host space for the log and the tables, taken before anything is promised that needs it.

A sparse file has room on paper only. A host that runs full must fail the request that asks for more, as a
plain OSError, and never the commit of what has been accepted already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vhdx.storage.base import space_control

if TYPE_CHECKING:
    from vhdx.storage.base import ByteStore

_UNIT: Final = 64 << 10
"""Tables lie at multiples of this, and fill them."""


class HostSpace:
    """Remembers which parts of one file surely have host space. Thread-safe."""

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
        """A range that is to hold a table may have been punched since it was reserved."""
        self._reserved.difference_update(range(file_offset // _UNIT, (file_offset + length - 1) // _UNIT + 1))

    def provide(self, length: int, file_offset: int) -> None:
        """Take host space for payload that holds zeroes, where the store has a way. Raises: OSError."""
        self._space.reserve(length, file_offset)
