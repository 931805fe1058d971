"""Log entries: their layout, and what makes one valid ([MS-VHDX] 2.3.1).

    sector 0              entry header (64 bytes) and descriptors 0 to 125
    sector 1 .. k-1       128 descriptors each
    sector k .. k+d-1     one data sector for each data descriptor, in order

An invalid entry is no error: it only ends a sequence. So the checks here return the rule that is broken, or
None, instead of reporting it. Entries may be large, so every function takes a single sector; `engine.log_replay`
reads the sectors from the ring in the file.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from vhdx._units import MAX_FILE_OFFSET
from vhdx.format.checksum import seal
from vhdx.format.constants import FIRST_LOGGED_FILE_OFFSET, LOG_SECTOR_SIZE, STRUCTURE_ALIGNMENT
from vhdx.rules import RuleCode

ENTRY_SIGNATURE: Final = b"loge"
DATA_DESCRIPTOR_SIGNATURE: Final = b"desc"
ZERO_DESCRIPTOR_SIGNATURE: Final = b"zero"
DATA_SECTOR_SIGNATURE: Final = b"data"

ENTRY_HEADER_SIZE: Final = 64
DESCRIPTOR_SIZE: Final = 32
LEADING_SIZE: Final = 8
TRAILING_SIZE: Final = 4
MAX_PORTABLE_DESCRIPTORS: Final = 126
"""QEMU up to 7.2 cannot read entries with more; a writer stays at or below."""

_HEADER: Final = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR: Final = struct.Struct("<4s4s8sQQ")
_DATA_SECTOR: Final = struct.Struct("<4sI4084sI")
assert _HEADER.size == ENTRY_HEADER_SIZE
assert _DESCRIPTOR.size == DESCRIPTOR_SIZE
assert _DATA_SECTOR.size == LOG_SECTOR_SIZE


def descriptor_sector_count(descriptor_count: int) -> int:
    """Sectors that the entry header and its descriptors take."""
    return (ENTRY_HEADER_SIZE + DESCRIPTOR_SIZE * descriptor_count + LOG_SECTOR_SIZE - 1) // LOG_SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class LogEntryHeader:
    """The first 64 bytes of an entry. `tail` is a position in the log; lengths and offsets in bytes."""

    checksum: int
    entry_length: int
    tail: int
    sequence_number: int
    descriptor_count: int
    log_guid: UUID
    flushed_file_offset: int
    last_file_offset: int

    @classmethod
    def decode(cls, sector: bytes) -> "LogEntryHeader":
        """Read the fields, whatever they hold."""
        _, checksum, length, tail, sequence, count, _, guid, flushed, last = _HEADER.unpack_from(sector)
        return cls(checksum, length, tail, sequence, count, UUID(bytes_le=guid), flushed, last)


def header_fault(sector: bytes, log_guid: UUID | None, log_length: int) -> RuleCode | None:
    """Check everything that an entry's first 64 bytes alone can show; None if nothing is wrong.

    `log_guid` None stands for any (dumps show stale entries too).
    """
    if sector[:4] != ENTRY_SIGNATURE:
        return RuleCode.LOG_ENTRY_SIGNATURE
    header = LogEntryHeader.decode(sector)
    if log_guid is not None and header.log_guid != log_guid:
        return RuleCode.LOG_ENTRY_GUID
    length = header.entry_length
    if length % LOG_SECTOR_SIZE or not LOG_SECTOR_SIZE <= length <= log_length:
        return RuleCode.LOG_ENTRY_LENGTH
    if header.tail % LOG_SECTOR_SIZE or header.tail >= log_length:
        return RuleCode.LOG_ENTRY_TAIL
    if header.sequence_number == 0:
        return RuleCode.LOG_ENTRY_SEQUENCE
    if descriptor_sector_count(header.descriptor_count) * LOG_SECTOR_SIZE > length:
        return RuleCode.LOG_ENTRY_DESCRIPTOR_COUNT
    return None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One change that an entry makes: 4096 bytes of data, or a range of zeroes. Bytes of the file."""

    is_data: bool
    known: bool
    """Whether the signature was one of the two."""
    file_offset: int
    length: int
    """4096 for data, ZeroLength for zeroes."""
    sequence_number: int
    leading: bytes = b""
    trailing: bytes = b""

    @property
    def end(self) -> int:
        """File offset just past the change."""
        return self.file_offset + self.length

    def encode(self) -> bytes:
        """Write the 32 bytes."""
        if self.is_data:
            fields = (DATA_DESCRIPTOR_SIGNATURE, self.trailing, self.leading)
        else:
            fields = (ZERO_DESCRIPTOR_SIGNATURE, bytes(4), self.length.to_bytes(8, "little"))
        return _DESCRIPTOR.pack(*fields, self.file_offset, self.sequence_number)


def decode_descriptors(sector: bytes, start: int, count: int) -> Iterator[Descriptor]:
    """Read `count` descriptors of one sector, the first at byte `start` of it."""
    view = memoryview(sector)[start : start + count * DESCRIPTOR_SIZE]
    for signature, low, middle, file_offset, sequence in _DESCRIPTOR.iter_unpack(view):
        if signature == ZERO_DESCRIPTOR_SIGNATURE:
            yield Descriptor(False, True, file_offset, int.from_bytes(middle, "little"), sequence)
        else:
            known = signature == DATA_DESCRIPTOR_SIGNATURE
            yield Descriptor(known, known, file_offset, LOG_SECTOR_SIZE, sequence, middle, low)


def descriptor_fault(descriptor: Descriptor, sequence_number: int, log: tuple[int, int]) -> RuleCode | None:
    """Check a descriptor of an entry; None if nothing is wrong. `log` is (file offset, length)."""
    if not descriptor.known:
        return RuleCode.LOG_DESCRIPTOR_SIGNATURE
    if descriptor.sequence_number != sequence_number:
        return RuleCode.LOG_DESCRIPTOR_SEQUENCE
    if descriptor.file_offset % LOG_SECTOR_SIZE or descriptor.length % LOG_SECTOR_SIZE:
        return RuleCode.LOG_DESCRIPTOR_ALIGNMENT
    hits_log = descriptor.file_offset < log[0] + log[1] and log[0] < descriptor.end
    if descriptor.file_offset < FIRST_LOGGED_FILE_OFFSET or hits_log or descriptor.end > MAX_FILE_OFFSET:
        return RuleCode.LOG_DESCRIPTOR_TARGET
    return None


def data_sector_fault(sector: bytes, sequence_number: int) -> RuleCode | None:
    """Check a data sector of an entry; None if nothing is wrong."""
    high, low = sector[4:8], sector[4092:4096]
    if sector[:4] != DATA_SECTOR_SIGNATURE or int.from_bytes(low + high, "little") != sequence_number:
        return RuleCode.LOG_DATA_SECTOR
    return None


def rebuild_sector(leading: bytes, data_sector: bytes, trailing: bytes) -> bytes:
    """The 4096 bytes that a data descriptor and its data sector stand for."""
    return leading + data_sector[LEADING_SIZE : LOG_SECTOR_SIZE - TRAILING_SIZE] + trailing


@dataclass(frozen=True, slots=True)
class LogChange:
    """A change to be logged: `data` of 4096 bytes, or None for `length` zeroes. Bytes of the file."""

    file_offset: int
    data: bytes | None
    length: int = LOG_SECTOR_SIZE


def encode_entry(
    changes: Sequence[LogChange],
    *,
    sequence_number: int,
    log_guid: UUID,
    tail: int,
    flushed_file_offset: int,
    last_file_offset: int,
) -> bytes:
    """Write a whole entry, checksum included.

    FlushedFileOffset is rounded down to MiB, so that no reader takes the file for too short; LastFileOffset is
    rounded up, so that the file has room for everything ([MS-VHDX] 2.3.1.1).
    """
    descriptors = bytearray()
    data_sectors = bytearray()
    high, low = divmod(sequence_number, 1 << 32)
    for change in changes:
        if change.data is None:
            descriptor = Descriptor(False, True, change.file_offset, change.length, sequence_number)
        else:
            leading, trailing = change.data[:LEADING_SIZE], change.data[-TRAILING_SIZE:]
            descriptor = Descriptor(
                True, True, change.file_offset, LOG_SECTOR_SIZE, sequence_number, leading, trailing
            )
            middle = change.data[LEADING_SIZE:-TRAILING_SIZE]
            data_sectors += _DATA_SECTOR.pack(DATA_SECTOR_SIGNATURE, high, middle, low)
        descriptors += descriptor.encode()
    head_length = descriptor_sector_count(len(changes)) * LOG_SECTOR_SIZE
    header = _HEADER.pack(
        ENTRY_SIGNATURE,
        0,
        head_length + len(data_sectors),
        tail,
        sequence_number,
        len(changes),
        0,
        log_guid.bytes_le,
        flushed_file_offset // STRUCTURE_ALIGNMENT * STRUCTURE_ALIGNMENT,
        -(-last_file_offset // STRUCTURE_ALIGNMENT) * STRUCTURE_ALIGNMENT,
    )
    entry = bytearray((header + descriptors).ljust(head_length, b"\0"))
    return seal(entry + data_sectors)
