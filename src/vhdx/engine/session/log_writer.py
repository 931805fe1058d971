"""Writing the log ([MS-VHDX] 2.3; FORMAT 3.12).

The log never wraps. When the next entry does not fit, everything that the log holds is in place and durable already,
so the log is ended (LogGuid zero) and begun anew under another GUID. The tail of every entry is position 0: whoever
replays the log replays all of it. That is right because what the entries of a session write to is never used for
payload within that session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from vhdx.format.constants import LOG_SECTOR_SIZE
from vhdx.format.guids import ZERO_GUID
from vhdx.format.log import MAX_PORTABLE_DESCRIPTORS, LogChange, encode_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vhdx.engine.session.header_writer import HeaderWriter
    from vhdx.storage.base import ByteStore

MAX_PAGES = MAX_PORTABLE_DESCRIPTORS
"""Pages that one entry can take; QEMU cannot read larger entries."""

_SPARE_LENGTH: Final = 2 * LOG_SECTOR_SIZE
"""Never used, at the end of the log: QEMU 7.2 searches for ever if the entries reach into its last sector."""


class LogWriter:
    """The log of one file that is open for writing."""

    def __init__(self, store: ByteStore, headers: HeaderWriter, capacity: int | None = None) -> None:
        """`capacity`: use at most so many bytes of the log; None: all of it."""
        self.store = store
        self._headers = headers
        self._capacity_limit = capacity
        self._log_guid: UUID | None = None
        self._position = 0
        self._sequence_number = 0

    @property
    def is_active(self) -> bool:
        """Whether the headers name a GUID of ours."""
        return self._log_guid is not None

    @property
    def _capacity(self) -> int:
        length = self._headers.current.log_length - _SPARE_LENGTH
        return length if self._capacity_limit is None else min(length, self._capacity_limit)

    def fits(self, page_count: int) -> bool:
        """Whether an entry with so many pages fits behind the last one."""
        return self._position + (1 + page_count) * LOG_SECTOR_SIZE <= self._capacity

    def start(self, flushed_file_offset: int, last_file_offset: int) -> None:
        """Begin a log: an empty entry under a new GUID, durable before the headers name it.

        Sizes in bytes of the file. Raises: OSError.
        """
        self._log_guid = uuid4()
        self._position = 0
        self._sequence_number = 0
        self._write((), flushed_file_offset, last_file_offset)
        self.store.flush()
        self._headers.update(log_guid=self._log_guid)

    def append(self, pages: Mapping[int, bytes], flushed_file_offset: int, last_file_offset: int) -> None:
        """Write one entry with the contents of pages; the caller flushes. Raises: OSError."""
        changes = [LogChange(number * LOG_SECTOR_SIZE, page) for number, page in pages.items()]
        self._write(changes, flushed_file_offset, last_file_offset)

    def end(self) -> None:
        """Say in the headers that the log is empty; everything in it is in place and durable. Raises: OSError."""
        self._headers.update(log_guid=ZERO_GUID)
        self._log_guid = None

    def _write(self, changes: Sequence[LogChange], flushed_file_offset: int, last_file_offset: int) -> None:
        assert self._log_guid is not None
        entry = encode_entry(
            changes,
            sequence_number=self._sequence_number + 1,
            log_guid=self._log_guid,
            tail=0,
            flushed_file_offset=flushed_file_offset,
            last_file_offset=last_file_offset,
        )
        self.store.pwrite(entry, self._headers.current.log_offset + self._position)
        self._sequence_number += 1
        self._position += len(entry)
