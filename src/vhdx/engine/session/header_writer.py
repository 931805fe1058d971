"""Changing the headers: never both slots before a flush ([MS-VHDX] 2.2.2.1).

One update writes the slot that is not current, with the next sequence number, and flushes. A crash in between
spoils at most that slot. Every change is made in both slots, one after the other, so that one bad sector of the
medium cannot lose the file later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.format.header import MAX_SEQUENCE_NUMBER, SUPPORTED_LOG_VERSION, Header

if TYPE_CHECKING:
    from vhdx.engine.header_pair import HeaderPair
    from vhdx.storage.base import ByteStore

SEQUENCE_HEADROOM: Final = 1 << 32
"""No session begins with fewer sequence numbers left than this: it might use them up before its end."""


def has_headroom(header: Header) -> bool:
    """Whether a header's sequence number leaves room for a session."""
    return header.sequence_number <= MAX_SEQUENCE_NUMBER - SEQUENCE_HEADROOM


class HeaderWriter:
    """The headers of one file that is open for writing."""

    def __init__(self, store: ByteStore, pair: HeaderPair) -> None:
        self._store = store
        self._current_index = pair.current_index
        self.current = pair.current

    def update(self, **changes: Any) -> None:
        """Change fields in both headers, one flush each. Raises: OSError."""
        for _ in HEADER_FILE_OFFSETS:
            self._write_other(changes)

    def _write_other(self, changes: dict[str, Any]) -> None:
        sequence_number = self.current.sequence_number + 1
        header = replace(
            self.current, sequence_number=sequence_number, log_version=SUPPORTED_LOG_VERSION, **changes
        )
        index = 1 - self._current_index
        self._store.pwrite(header.encode(), HEADER_FILE_OFFSETS[index])
        self._store.flush()
        self._current_index = index
        self.current = header
