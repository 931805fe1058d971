"""The region table, of which every file holds two copies ([MS-VHDX] 2.2.3)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from uuid import UUID

from vhdx._text import spelled
from vhdx._units import MAX_FILE_OFFSET
from vhdx.format.checksum import seal, stored_checksum, structure_checksum
from vhdx.format.constants import HEADER_SECTION_SIZE, STRUCTURE_ALIGNMENT
from vhdx.format.guids import BAT_REGION, METADATA_REGION
from vhdx.report import Breach
from vhdx.rules import RuleCode

SIGNATURE: Final = b"regi"
REGION_TABLE_SIZE: Final = 64 * 1024
MAX_ENTRIES: Final = 2047

_HEADER: Final = struct.Struct("<4sIII")
_ENTRY: Final = struct.Struct("<16sQII")
assert _HEADER.size == 16
assert _ENTRY.size == 32
assert _HEADER.size + MAX_ENTRIES * _ENTRY.size <= REGION_TABLE_SIZE

_NAMES: Final = {BAT_REGION: "BAT", METADATA_REGION: "metadata"}


@dataclass(frozen=True, slots=True)
class Region:
    """One entry: where a region lies. Offset and length in bytes of the file."""

    guid: UUID
    file_offset: int
    length: int
    flags: int = 1
    """The Required field: bit 0 is its meaning, the others are reserved."""

    @property
    def required(self) -> bool:
        """Whether a program that does not know the region must not use the file."""
        return bool(self.flags & 1)

    @property
    def end(self) -> int:
        """File offset just past the region."""
        return self.file_offset + self.length

    @property
    def name(self) -> str:
        """What to call it in a message."""
        known = _NAMES.get(self.guid)
        return f"{known} region" if known else f"region {self.guid}"


@dataclass(frozen=True, slots=True)
class RegionTable:
    """One copy of the table."""

    regions: tuple[Region, ...]

    @classmethod
    def decode(cls, data: bytes, structure: str, file_offset: int, breach: Breach) -> "RegionTable | None":
        """Read 64 KiB; None, with the breach reported, if signature or checksum is wrong.

        Raises: FormatError through `breach` if a table that is intact has too many entries.
        """
        if data[:4] != SIGNATURE or len(data) < REGION_TABLE_SIZE:
            breach(
                RuleCode.REGION_TABLE_SIGNATURE,
                structure,
                file_offset,
                found=spelled(data[:4]),
                expected="'regi'",
            )
            return None
        stored, actual = stored_checksum(data), structure_checksum(data)
        if stored != actual:
            breach(
                RuleCode.REGION_TABLE_CHECKSUM,
                structure,
                file_offset,
                found=f"{stored:#010x}",
                expected=f"{actual:#010x}",
            )
            return None
        _, _, count, _ = _HEADER.unpack_from(data)
        if count > MAX_ENTRIES:
            breach(
                RuleCode.REGION_COUNT,
                structure,
                file_offset + 8,
                found=str(count),
                expected=f"<= {MAX_ENTRIES}",
            )
        return cls.decode_unchecked(data)

    @classmethod
    def decode_unchecked(cls, data: bytes) -> "RegionTable":
        """Read the entries, at most MAX_ENTRIES, whatever signature and checksum say (for dumps)."""
        _, _, count, _ = _HEADER.unpack_from(data)
        return cls(tuple(_decode_entry(data, index) for index in range(min(count, MAX_ENTRIES))))

    def encode(self) -> bytes:
        """Write the 64 KiB, checksum included."""
        data = bytearray(REGION_TABLE_SIZE)
        _HEADER.pack_into(data, 0, SIGNATURE, 0, len(self.regions), 0)
        for index, region in enumerate(self.regions):
            entry = (region.guid.bytes_le, region.file_offset, region.length, region.flags)
            _ENTRY.pack_into(data, _HEADER.size + index * _ENTRY.size, *entry)
        return seal(data)


def _decode_entry(data: bytes, index: int) -> Region:
    guid, file_offset, length, flags = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
    return Region(UUID(bytes_le=guid), file_offset, length, flags)


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a sound table."""

    bat: Region
    metadata: Region
    others: tuple[Region, ...]

    @property
    def all(self) -> tuple[Region, ...]:
        """Every region, known or not."""
        return (self.bat, self.metadata, *self.others)


def check_regions(
    table: RegionTable, table_file_offset: int, log: tuple[int, int], file_size: int, breach: Breach
) -> Regions:
    """Check every region of the table and pick out the ones that are known.

    `log` is (file offset, length in bytes). Raises: FormatError through `breach`.
    """
    seen: dict[UUID, Region] = {}
    for index, region in enumerate(table.regions):
        where = f"region table entry {index} ({region.name})"
        file_offset = table_file_offset + _HEADER.size + index * _ENTRY.size
        _check_region(region, where, file_offset, file_size, breach)
        if region.guid in seen:
            breach(RuleCode.REGION_DUPLICATE, where, file_offset, found=str(region.guid))
        seen[region.guid] = region
    _check_overlaps(table.regions, table_file_offset, log, breach)
    for guid in (BAT_REGION, METADATA_REGION):
        if guid not in seen:
            breach(
                RuleCode.REGION_MISSING,
                "region table",
                table_file_offset,
                expected=f"a {_NAMES[guid]} region",
            )
    others = tuple(region for region in table.regions if region.guid not in _NAMES)
    return Regions(seen[BAT_REGION], seen[METADATA_REGION], others)


def _check_region(region: Region, where: str, file_offset: int, file_size: int, breach: Breach) -> None:
    place = f"offset {region.file_offset:#x}, length {region.length:#x}"
    known = region.guid in _NAMES
    if region.flags & ~1:
        breach(RuleCode.REGION_REQUIRED_BITS, where, file_offset + 28, found=f"{region.flags:#010x}")
    if region.required and not known:
        breach(RuleCode.REGION_UNKNOWN_REQUIRED, where, file_offset, found=str(region.guid))
    if region.end > MAX_FILE_OFFSET:
        breach(RuleCode.REGION_OVERFLOW, where, file_offset, found=place)
    if region.file_offset % STRUCTURE_ALIGNMENT or region.length % STRUCTURE_ALIGNMENT:
        breach(RuleCode.REGION_ALIGNMENT, where, file_offset, found=place)
    if region.file_offset < HEADER_SECTION_SIZE:
        breach(RuleCode.REGION_LOCATION, where, file_offset, found=place)
    if known and region.length == 0:
        breach(RuleCode.REGION_LENGTH_ZERO, where, file_offset, found=place)
    if known and region.end > file_size:
        breach(
            RuleCode.REGION_TRUNCATED,
            where,
            file_offset,
            found=place,
            expected=f"an end at or below {file_size:#x}",
        )


def _check_overlaps(
    regions: Sequence[Region], table_file_offset: int, log: tuple[int, int], breach: Breach
) -> None:
    spans = sorted((region.file_offset, region.end, region.name) for region in regions if region.length)
    if log[1]:
        spans = sorted([*spans, (log[0], log[0] + log[1], "log")])
    for (_, end, name), (start, _, other) in pairwise(spans):
        if start < end:
            found = f"{name} up to {end:#x} and {other} from {start:#x}"
            breach(RuleCode.REGION_OVERLAP, "region table", table_file_offset, found=found)
