"""The header, of which every file holds two ([MS-VHDX] 2.2.2)."""

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from vhdx._text import spelled
from vhdx.format.checksum import seal, stored_checksum, structure_checksum
from vhdx.format.constants import HEADER_SECTION_SIZE, MAX_LOG_LENGTH, STRUCTURE_ALIGNMENT
from vhdx.format.guids import ZERO_GUID
from vhdx.report import Breach
from vhdx.rules import RuleCode

SIGNATURE: Final = b"head"
HEADER_SIZE: Final = 4096
SUPPORTED_VERSION: Final = 1
SUPPORTED_LOG_VERSION: Final = 0
MAX_SEQUENCE_NUMBER: Final = (1 << 64) - 1

_LAYOUT: Final = struct.Struct("<4sIQ16s16s16sHHIQ")
assert _LAYOUT.size == 80


@dataclass(frozen=True, slots=True)
class Header:
    """One header. Offsets and lengths in bytes of the file."""

    sequence_number: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int

    @classmethod
    def decode(cls, data: bytes, structure: str, file_offset: int, breach: Breach) -> "Header | None":
        """Read 4096 bytes; None, with the breach reported, if signature or checksum is wrong."""
        if data[:4] != SIGNATURE or len(data) < HEADER_SIZE:
            breach(
                RuleCode.HEADER_SIGNATURE, structure, file_offset, found=spelled(data[:4]), expected="'head'"
            )
            return None
        stored, actual = stored_checksum(data), structure_checksum(data)
        if stored != actual:
            breach(
                RuleCode.HEADER_CHECKSUM,
                structure,
                file_offset,
                found=f"{stored:#010x}",
                expected=f"{actual:#010x}",
            )
            return None
        return cls.decode_unchecked(data)

    @classmethod
    def decode_unchecked(cls, data: bytes) -> "Header":
        """Read the fields whatever signature and checksum say (for dumps)."""
        _, _, sequence, file_write, data_write, log, log_version, version, length, offset = (
            _LAYOUT.unpack_from(data)
        )
        return cls(
            sequence,
            UUID(bytes_le=file_write),
            UUID(bytes_le=data_write),
            UUID(bytes_le=log),
            log_version,
            version,
            length,
            offset,
        )

    def encode(self) -> bytes:
        """Write the 4096 bytes, checksum included."""
        data = bytearray(HEADER_SIZE)
        _LAYOUT.pack_into(
            data,
            0,
            SIGNATURE,
            0,
            self.sequence_number,
            self.file_write_guid.bytes_le,
            self.data_write_guid.bytes_le,
            self.log_guid.bytes_le,
            self.log_version,
            self.version,
            self.log_length,
            self.log_offset,
        )
        return seal(data)

    @property
    def log_in_use(self) -> bool:
        """Whether the log has to be looked at; a zero LogGuid means no, whatever the log holds."""
        return self.log_guid != ZERO_GUID


def check_current_header(
    header: Header, structure: str, file_offset: int, file_size: int, breach: Breach
) -> None:
    """Check what only the header in use must satisfy: versions and the place of the log.

    Raises: FormatError through `breach`.
    """
    if header.version != SUPPORTED_VERSION:
        breach(RuleCode.HEADER_VERSION, structure, file_offset, found=str(header.version), expected="1")
    if header.log_in_use and header.log_version != SUPPORTED_LOG_VERSION:
        breach(RuleCode.LOG_VERSION, structure, file_offset, found=str(header.log_version), expected="0")
    if ZERO_GUID in (header.file_write_guid, header.data_write_guid):
        breach(RuleCode.HEADER_GUID_ZERO, structure, file_offset)
    if header.sequence_number == MAX_SEQUENCE_NUMBER:
        breach(RuleCode.HEADER_SEQUENCE_EXHAUSTED, structure, file_offset, found=str(header.sequence_number))
    _check_log_location(header, structure, file_offset, file_size, breach)


def _check_log_location(
    header: Header, structure: str, file_offset: int, file_size: int, breach: Breach
) -> None:
    offset, length = header.log_offset, header.log_length
    place = f"offset {offset:#x}, length {length:#x}"
    if offset % STRUCTURE_ALIGNMENT or length % STRUCTURE_ALIGNMENT:
        breach(RuleCode.LOG_ALIGNMENT, structure, file_offset, found=place)
    if length == 0:
        if header.log_in_use:
            breach(RuleCode.LOG_LENGTH_ZERO, structure, file_offset, found="length 0 with a LogGuid")
        return
    if length > MAX_LOG_LENGTH:
        breach(
            RuleCode.LOG_LENGTH_LIMIT, structure, file_offset, found=place, expected=f"<= {MAX_LOG_LENGTH:#x}"
        )
    if offset < HEADER_SECTION_SIZE:
        breach(RuleCode.LOG_LOCATION, structure, file_offset, found=place)
    if offset + length > file_size:
        code = RuleCode.LOG_TRUNCATED if header.log_in_use else RuleCode.LOG_BEYOND_END
        breach(code, structure, file_offset, found=place, expected=f"an end at or below {file_size:#x}")
