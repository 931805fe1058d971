"""The metadata region: its table, and the items that describe the disk ([MS-VHDX] 2.6).

Nothing here has a checksum, so every field is checked as if an enemy had written it.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

from vhdx._text import spelled
from vhdx._units import MIB, is_power_of_two
from vhdx.format.constants import MAX_BLOCK_SIZE, MAX_VIRTUAL_SIZE, MIN_BLOCK_SIZE, SECTOR_SIZES
from vhdx.format.geometry import Geometry
from vhdx.format.guids import (
    CHS_PARAMETERS,
    FILE_PARAMETERS,
    INCOMPLETE_FILE,
    LOGICAL_SECTOR_SIZE,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    PMEM_LABEL_STORAGE,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    ZERO_GUID,
)
from vhdx.report import Breach
from vhdx.rules import RuleCode

SIGNATURE: Final = b"metadata"
METADATA_TABLE_SIZE: Final = 64 * 1024
MAX_ENTRIES: Final = 2047
MAX_USER_ENTRIES: Final = 1024
MAX_ITEM_LENGTH: Final = MIB

_HEADER: Final = struct.Struct("<8sHH20s")
_ENTRY: Final = struct.Struct("<16sIIII")
_FILE_PARAMETERS: Final = struct.Struct("<II")
assert _HEADER.size == 32
assert _ENTRY.size == 32
assert _HEADER.size + MAX_ENTRIES * _ENTRY.size <= METADATA_TABLE_SIZE

IS_USER: Final = 1
IS_VIRTUAL_DISK: Final = 2
IS_REQUIRED: Final = 4
_FLAGS_MASK: Final = 7
_LEAVE_BLOCK_ALLOCATED: Final = 1
_HAS_PARENT: Final = 2
_STRUCTURE: Final = "metadata table"


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What is known of a metadata item: name, exact length in bytes (None: varies), and flags."""

    name: str
    length: int | None
    flags: int | None
    """Prescribed flags; None where the format is not published."""


KNOWN_ITEMS: Final = {
    FILE_PARAMETERS: KnownItem("file parameters", 8, IS_REQUIRED),
    VIRTUAL_DISK_SIZE: KnownItem("virtual disk size", 8, IS_VIRTUAL_DISK | IS_REQUIRED),
    VIRTUAL_DISK_ID: KnownItem("virtual disk id", 16, IS_VIRTUAL_DISK | IS_REQUIRED),
    LOGICAL_SECTOR_SIZE: KnownItem("logical sector size", 4, IS_VIRTUAL_DISK | IS_REQUIRED),
    PHYSICAL_SECTOR_SIZE: KnownItem("physical sector size", 4, IS_VIRTUAL_DISK | IS_REQUIRED),
    PARENT_LOCATOR: KnownItem("parent locator", None, IS_REQUIRED),
    CHS_PARAMETERS: KnownItem("CHS parameters", None, None),
    PMEM_LABEL_STORAGE: KnownItem("PMEM label storage area", None, None),
    INCOMPLETE_FILE: KnownItem("incomplete file mark", None, None),
}
ALWAYS_NEEDED: Final = (
    FILE_PARAMETERS,
    VIRTUAL_DISK_SIZE,
    VIRTUAL_DISK_ID,
    LOGICAL_SECTOR_SIZE,
    PHYSICAL_SECTOR_SIZE,
)


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """One entry of the table. `offset` is from the start of the region; bytes throughout."""

    item_id: UUID
    offset: int
    length: int
    flags: int
    reserved: int = 0

    @property
    def is_user(self) -> bool:
        """Made by a user of the disk: never one of the known items, whatever its id."""
        return bool(self.flags & IS_USER)

    @property
    def is_virtual_disk(self) -> bool:
        """Belongs to the virtual disk, and so is copied into a child."""
        return bool(self.flags & IS_VIRTUAL_DISK)

    @property
    def is_required(self) -> bool:
        """A program that does not know the item must not use the image."""
        return bool(self.flags & IS_REQUIRED)

    @property
    def end(self) -> int:
        """Offset in the region just past the item."""
        return self.offset + self.length

    @property
    def known(self) -> KnownItem | None:
        """What is known of the item, or None."""
        return None if self.is_user else KNOWN_ITEMS.get(self.item_id)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        known = self.known
        kind = "user item" if self.is_user else "item"
        return known.name if known else f"{kind} {self.item_id}"


@dataclass(frozen=True, slots=True)
class MetadataTable:
    """The table as it stands on disk."""

    entries: tuple[MetadataEntry, ...]

    @classmethod
    def decode(cls, data: bytes, file_offset: int, breach: Breach) -> "MetadataTable":
        """Read 64 KiB. Raises: FormatError through `breach` on a bad signature or count."""
        signature, reserved, count, reserved2 = _HEADER.unpack_from(data)
        if signature != SIGNATURE:
            breach(
                RuleCode.METADATA_SIGNATURE,
                _STRUCTURE,
                file_offset,
                found=spelled(signature),
                expected="'metadata'",
            )
        if count > MAX_ENTRIES:
            breach(
                RuleCode.METADATA_COUNT,
                _STRUCTURE,
                file_offset + 10,
                found=str(count),
                expected=f"<= {MAX_ENTRIES}",
            )
        if reserved or any(reserved2):
            breach(RuleCode.METADATA_RESERVED, _STRUCTURE, file_offset + 8, found="non-zero reserved bytes")
        return cls.decode_unchecked(data)

    @classmethod
    def decode_unchecked(cls, data: bytes) -> "MetadataTable":
        """Read the entries, at most MAX_ENTRIES, whatever the signature says (for dumps)."""
        _, _, count, _ = _HEADER.unpack_from(data)
        return cls(tuple(_decode_entry(data, index) for index in range(min(count, MAX_ENTRIES))))

    def encode(self) -> bytes:
        """Write the 64 KiB."""
        data = bytearray(METADATA_TABLE_SIZE)
        _HEADER.pack_into(data, 0, SIGNATURE, 0, len(self.entries), bytes(20))
        for index, entry in enumerate(self.entries):
            fields = (entry.item_id.bytes_le, entry.offset, entry.length, entry.flags, entry.reserved)
            _ENTRY.pack_into(data, _HEADER.size + index * _ENTRY.size, *fields)
        return bytes(data)


def _decode_entry(data: bytes, index: int) -> MetadataEntry:
    item_id, *fields = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
    return MetadataEntry(UUID(bytes_le=item_id), *fields)


def check_table(
    table: MetadataTable, file_offset: int, region_length: int, breach: Breach
) -> dict[UUID, MetadataEntry]:
    """Check every entry; return the known items by id.

    `file_offset` is that of the region. Raises: FormatError through `breach`.
    """
    seen: set[tuple[UUID, bool]] = set()
    known: dict[UUID, MetadataEntry] = {}
    for index, entry in enumerate(table.entries):
        where = f"metadata table entry {index} ({entry.name})"
        entry_offset = file_offset + _HEADER.size + index * _ENTRY.size
        _check_entry(entry, where, entry_offset, region_length, breach)
        if (entry.item_id, entry.is_user) in seen:
            breach(RuleCode.METADATA_DUPLICATE, where, entry_offset, found=str(entry.item_id))
        seen.add((entry.item_id, entry.is_user))
        if entry.known:
            known[entry.item_id] = entry
    user_count = sum(entry.is_user for entry in table.entries)
    if user_count > MAX_USER_ENTRIES:
        breach(
            RuleCode.METADATA_USER_COUNT, _STRUCTURE, file_offset, found=str(user_count), expected="<= 1024"
        )
    _check_overlaps(table.entries, known.values(), file_offset, breach)
    for item_id in ALWAYS_NEEDED:
        if item_id not in known:
            breach(
                RuleCode.METADATA_MISSING,
                _STRUCTURE,
                file_offset,
                expected=f"the {KNOWN_ITEMS[item_id].name}",
            )
    return known


def _check_entry(
    entry: MetadataEntry, where: str, entry_offset: int, region_length: int, breach: Breach
) -> None:
    place = f"offset {entry.offset:#x}, length {entry.length:#x}"
    if entry.item_id == INCOMPLETE_FILE and not entry.is_user:
        breach(RuleCode.METADATA_INCOMPLETE, where, entry_offset)
    if entry.is_required and not entry.known:
        breach(RuleCode.METADATA_UNKNOWN_REQUIRED, where, entry_offset, found=str(entry.item_id))
    if entry.item_id == ZERO_GUID:
        breach(RuleCode.METADATA_ITEM_ID, where, entry_offset)
    if entry.flags & ~_FLAGS_MASK or entry.reserved:
        breach(RuleCode.METADATA_RESERVED, where, entry_offset + 24, found=f"flags {entry.flags:#x}")
    if entry.length > MAX_ITEM_LENGTH:
        breach(RuleCode.METADATA_ITEM_LENGTH, where, entry_offset + 20, found=place)
    if entry.length and entry.offset < METADATA_TABLE_SIZE:
        breach(RuleCode.METADATA_ITEM_OFFSET, where, entry_offset + 16, found=place)
    if entry.length and entry.end > region_length:
        breach(
            RuleCode.METADATA_ITEM_RANGE,
            where,
            entry_offset + 16,
            found=place,
            expected=f"<= {region_length:#x}",
        )
    if not entry.length and entry.offset:
        breach(RuleCode.METADATA_EMPTY_ITEM_OFFSET, where, entry_offset + 16, found=place)
    if entry.known:
        _check_known(entry, entry.known, where, entry_offset, breach)


def _check_known(
    entry: MetadataEntry, known: KnownItem, where: str, entry_offset: int, breach: Breach
) -> None:
    if known.length is not None and entry.length != known.length:
        breach(
            RuleCode.METADATA_KNOWN_ITEM_LENGTH,
            where,
            entry_offset + 20,
            found=str(entry.length),
            expected=str(known.length),
        )
    if known.flags is not None and entry.flags & _FLAGS_MASK != known.flags:
        breach(
            RuleCode.METADATA_KNOWN_ITEM_FLAGS,
            where,
            entry_offset + 24,
            found=f"{entry.flags}",
            expected=f"{known.flags}",
        )


def _check_overlaps(
    entries: Sequence[MetadataEntry], known: Iterable[MetadataEntry], file_offset: int, breach: Breach
) -> None:
    filled = sorted((entry for entry in entries if entry.length), key=lambda entry: entry.offset)
    for item in known:
        for other in filled:
            if other is not item and item.offset < other.end and other.offset < item.end:
                breach(
                    RuleCode.METADATA_KNOWN_ITEM_OVERLAP,
                    _STRUCTURE,
                    file_offset,
                    found=f"{item.name} and {other.name}",
                )
    reach = 0
    for entry, following in pairwise(filled):
        reach = max(reach, entry.end)
        if following.offset < reach:
            found = f"{following.name} at {following.offset:#x} and an item up to {reach:#x}"
            breach(RuleCode.METADATA_ITEM_OVERLAP, _STRUCTURE, file_offset, found=found)


class BrokenLimit(NamedTuple):
    """A value that no image may have for its disk: the rule it breaks, and the metadata item that holds it."""

    code: RuleCode
    item_id: UUID
    value: int


@dataclass(frozen=True, slots=True)
class DiskParameters:
    """What the known items say of the disk. Sizes in bytes."""

    block_size: int
    leave_block_allocated: bool
    has_parent: bool
    virtual_size: int
    disk_id: UUID
    logical_sector_size: int
    physical_sector_size: int

    @property
    def keeps_space(self) -> bool:
        """Whether the image is fixed: every block has file space of its own, always."""
        return self.leave_block_allocated and not self.has_parent

    @classmethod
    def decode(
        cls, items: Mapping[UUID, bytes], file_offsets: Mapping[UUID, int], breach: Breach
    ) -> "DiskParameters":
        """Read the five items that every image has, and check their values.

        `items` holds their content (of the prescribed length), `file_offsets` where it lies in the file.
        Raises: FormatError through `breach`.
        """
        block_size, flags = _FILE_PARAMETERS.unpack(items[FILE_PARAMETERS])
        if flags & ~(_LEAVE_BLOCK_ALLOCATED | _HAS_PARENT):
            offset = file_offsets[FILE_PARAMETERS] + 4
            breach(RuleCode.FILE_PARAMETERS_RESERVED, "file parameters", offset, found=f"{flags:#010x}")
        parameters = cls(
            block_size,
            bool(flags & _LEAVE_BLOCK_ALLOCATED),
            bool(flags & _HAS_PARENT),
            int.from_bytes(items[VIRTUAL_DISK_SIZE], "little"),
            UUID(bytes_le=items[VIRTUAL_DISK_ID]),
            int.from_bytes(items[LOGICAL_SECTOR_SIZE], "little"),
            int.from_bytes(items[PHYSICAL_SECTOR_SIZE], "little"),
        )
        for code, item_id, value in parameters.broken_limits():
            breach(code, KNOWN_ITEMS[item_id].name, file_offsets[item_id], found=str(value))
        return parameters

    def encode(self) -> dict[UUID, bytes]:
        """Write the five items' content."""
        flags = _LEAVE_BLOCK_ALLOCATED * self.leave_block_allocated | _HAS_PARENT * self.has_parent
        return {
            FILE_PARAMETERS: _FILE_PARAMETERS.pack(self.block_size, flags),
            VIRTUAL_DISK_SIZE: self.virtual_size.to_bytes(8, "little"),
            LOGICAL_SECTOR_SIZE: self.logical_sector_size.to_bytes(4, "little"),
            PHYSICAL_SECTOR_SIZE: self.physical_sector_size.to_bytes(4, "little"),
            VIRTUAL_DISK_ID: self.disk_id.bytes_le,
        }

    @property
    def geometry(self) -> Geometry:
        """The arithmetic of blocks, chunks and BAT entries that follows from the sizes."""
        return Geometry(self.virtual_size, self.block_size, self.logical_sector_size, self.has_parent)

    @property
    def is_fixed(self) -> bool:
        """Whether every block has space of its own in the file, and keeps it."""
        return self.leave_block_allocated and not self.has_parent

    def broken_limits(self) -> Iterator[BrokenLimit]:
        """Find what no image may say of its disk: one item for each limit that a value breaks ([MS-VHDX] 2.6.2)."""
        if not is_power_of_two(self.block_size) or not MIN_BLOCK_SIZE <= self.block_size <= MAX_BLOCK_SIZE:
            yield BrokenLimit(RuleCode.BLOCK_SIZE, FILE_PARAMETERS, self.block_size)
        if self.logical_sector_size not in SECTOR_SIZES:
            yield BrokenLimit(RuleCode.LOGICAL_SECTOR_SIZE, LOGICAL_SECTOR_SIZE, self.logical_sector_size)
        if self.physical_sector_size not in SECTOR_SIZES:
            yield BrokenLimit(RuleCode.PHYSICAL_SECTOR_SIZE, PHYSICAL_SECTOR_SIZE, self.physical_sector_size)
        if self.virtual_size <= 0:
            yield BrokenLimit(RuleCode.VIRTUAL_SIZE_ZERO, VIRTUAL_DISK_SIZE, self.virtual_size)
        if self.virtual_size > MAX_VIRTUAL_SIZE:
            yield BrokenLimit(RuleCode.VIRTUAL_SIZE_LIMIT, VIRTUAL_DISK_SIZE, self.virtual_size)
        # A sector size of zero, by which nothing can be divided, has been found above.
        if self.logical_sector_size and self.virtual_size % self.logical_sector_size:
            yield BrokenLimit(RuleCode.VIRTUAL_SIZE_ALIGNMENT, VIRTUAL_DISK_SIZE, self.virtual_size)
