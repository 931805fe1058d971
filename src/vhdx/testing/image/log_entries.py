"""Log entries as mutable descriptions: whole runs of sound ones, or single ones with any wound."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from vhdx.format.log import LogChange, encode_entry
from vhdx.testing.image.structures import overwrite, sealed

LOG_GUID: Final = UUID("10610610-1061-4061-8061-106106106106")
"""LogGuid of a dirty image, unless another is asked for."""
STALE_LOG_GUID: Final = UUID("57a1e57a-1e57-4a1e-857a-1e57a1e57a1e")
"""LogGuid of entries that an earlier session left behind."""

SECTOR: Final = 4096


def data_change(file_offset: int, data: bytes) -> LogChange:
    """A change of one 4-KiB sector, padded with zeroes."""
    return LogChange(file_offset, data.ljust(SECTOR, b"\0"))


def zero_change(file_offset: int, length: int = SECTOR) -> LogChange:
    """A change that makes a range read as zeroes."""
    return LogChange(file_offset, None, length)


@dataclass(slots=True)
class LogEntryFields:
    """One log entry and where it stands in the ring. Bytes throughout."""

    position: int
    """Of its first sector, from the start of the log; it wraps at the end."""
    changes: Sequence[LogChange]
    sequence_number: int
    tail: int
    log_guid: UUID = LOG_GUID
    flushed_file_offset: int | None = None
    """None: the length of the file, rounded down to a MiB."""
    last_file_offset: int | None = None
    """None: the length of the file, rounded up to a MiB."""
    extra: bytes = b""
    """Bytes after the last data sector that the entry's length and checksum count in."""
    bad_checksum: bool = False
    patches: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Bytes that the entry takes in the ring."""
        data_sectors = sum(change.data is not None for change in self.changes)
        return SECTOR * (descriptor_sectors(len(self.changes)) + data_sectors) + len(self.extra)

    def patch(self, offset: int, data: bytes) -> None:
        """Replace bytes of the entry before its checksum is computed."""
        self.patches.append((offset, data))

    def patch_descriptor(self, index: int, offset: int, data: bytes) -> None:
        """Replace bytes of a descriptor (byte 0 its signature) before the checksum is computed."""
        self.patch(64 + 32 * index + offset, data)

    def patch_data_sector(self, index: int, offset: int, data: bytes) -> None:
        """Replace bytes of a data sector before the checksum is computed."""
        self.patch(SECTOR * (descriptor_sectors(len(self.changes)) + index) + offset, data)

    def encode(self, file_length: int) -> bytes:
        """Write the entry, for a file of `file_length` bytes."""
        flushed, last = self.flushed_file_offset, self.last_file_offset
        entry = bytearray(
            encode_entry(
                self.changes,
                sequence_number=self.sequence_number,
                log_guid=self.log_guid,
                tail=self.tail,
                flushed_file_offset=file_length,
                last_file_offset=file_length,
            )
        )
        entry += self.extra
        struct.pack_into("<I", entry, 8, len(entry))
        if flushed is not None:
            struct.pack_into("<Q", entry, 48, flushed)
        if last is not None:
            struct.pack_into("<Q", entry, 56, last)
        for offset, data in self.patches:
            overwrite(entry, offset, data)
        return sealed(entry, self.bad_checksum)


def descriptor_sectors(count: int) -> int:
    """Sectors that the header and `count` descriptors take."""
    return (count + 2 + 127) // 128


def log_run(
    groups: Sequence[Sequence[LogChange]],
    log_length: int,
    *,
    position: int = 0,
    sequence_number: int = 1,
    tail: int | None = None,
    log_guid: UUID = LOG_GUID,
) -> list[LogEntryFields]:
    """Describe adjacent entries with rising sequence numbers, one for each group of changes.

    `tail` is that of every entry; None is the position of the first.
    """
    entries: list[LogEntryFields] = []
    at = position
    for index, changes in enumerate(groups):
        entry = LogEntryFields(
            at % log_length,
            tuple(changes),
            sequence_number + index,
            position % log_length if tail is None else tail,
            log_guid,
        )
        entries.append(entry)
        at += entry.length
    return entries
