"""Where the fields of a sound image lie, found in its bytes, so that mutations can change single fields."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vhdx._units import KIB, MIB
from vhdx.format.constants import HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.format.guids import BAT_REGION, METADATA_REGION, PARENT_LOCATOR
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended

SECTOR: Final = 4096

_HEADER: Final = "Signature:0:4 Checksum:4:4 SequenceNumber:8:8 FileWriteGuid:16:16 DataWriteGuid:32:16"
_HEADER_REST: Final = "LogGuid:48:16 LogVersion:64:2 Version:66:2 LogLength:68:4 LogOffset:72:8 Reserved:80:8"
_REGION_TABLE: Final = "Signature:0:4 Checksum:4:4 EntryCount:8:4 Reserved:12:4"
_REGION: Final = "Guid:0:16 FileOffset:16:8 Length:24:4 Required:28:4"
_LOG_ENTRY: Final = "Signature:0:4 Checksum:4:4 EntryLength:8:4 Tail:12:4 SequenceNumber:16:8"
_LOG_ENTRY_REST: Final = (
    "DescriptorCount:24:4 Reserved:28:4 LogGuid:32:16 FlushedFileOffset:48:8 LastFileOffset:56:8"
)
_DESCRIPTOR: Final = "Signature:0:4 Trailing:4:4 LeadingOrLength:8:8 FileOffset:16:8 SequenceNumber:24:8"
_DATA_SECTOR: Final = (
    "Signature:0:4 SequenceHigh:4:4 Data:8:8 Data:16:8 Data:24:8 Data:32:8 SequenceLow:4092:4"
)
_METADATA: Final = "Signature:0:8 Reserved:8:2 EntryCount:10:2 Reserved2:12:8"
_ITEM: Final = "ItemId:0:16 Offset:16:4 Length:20:4 Flags:24:4 Reserved2:28:4"
_LOCATOR: Final = "LocatorType:0:16 Reserved:16:2 KeyValueCount:18:2"
_PAIR: Final = "KeyOffset:0:4 ValueOffset:4:4 KeyLength:8:2 ValueLength:10:2"


class Field(NamedTuple):
    """A field of a structure. Bytes of the file."""

    structure: str
    name: str
    file_offset: int
    size: int


class StructurePlace(NamedTuple):
    """A structure as a whole, in one or two pieces (a log entry may wrap). Bytes of the file."""

    name: str
    pieces: tuple[tuple[int, int], ...]
    is_sealed: bool
    """Whether it has a checksum, at byte 4."""


@dataclass(slots=True)
class Anatomy:
    """Everything in an image that a mutation can aim at."""

    fields: dict[str, list[Field]] = field(default_factory=dict)
    """By kind of structure: mutations choose the kind first, so that rare kinds are met too."""
    places: list[StructurePlace] = field(default_factory=list)
    log: tuple[int, int] = (MIB, MIB)
    """File offset and length."""
    bat: tuple[int, int] = (3 * MIB, MIB)
    metadata: tuple[int, int] = (2 * MIB, MIB)
    items: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    """By item id as on disk: file offset of the table entry, of the content, and its length."""
    item_count: int = 0

    @property
    def offsets(self) -> list[int]:
        """Where structures begin."""
        return sorted({place.pieces[0][0] for place in self.places})

    def add(self, kind: str, name: str, at: int, layout: str, log: tuple[int, int] | None = None) -> None:
        """Take in the fields of a structure at a file offset, or at a position of the log."""
        for part in layout.split():
            title, offset, size = part.split(":")
            place = at + int(offset)
            if log is not None:
                place = log[0] + place % log[1]
            self.fields.setdefault(kind, []).append(Field(name, title, place, int(size)))


def anatomy_of(store: ByteStore) -> Anatomy:
    """Find the fields of a sound image, or of one that is sound enough. Raises: OSError, KeyError."""
    anatomy = Anatomy()
    anatomy.add("file identifier", "file identifier", 0, "Signature:0:8 Creator:8:8 Creator:512:8")
    anatomy.places.append(StructurePlace("file identifier", ((0, 64 * KIB),), False))
    for index, at in enumerate(HEADER_FILE_OFFSETS):
        name = f"header {index + 1}"
        anatomy.add("header", name, at, f"{_HEADER} {_HEADER_REST}")
        anatomy.places.append(StructurePlace(name, ((at, 4 * KIB),), True))
        length, offset = struct.unpack("<IQ", pread_zero_extended(store, 12, at + 68))
        anatomy.log = (offset, length)
    _add_regions(anatomy, store)
    _add_log(anatomy, store)
    _add_metadata(anatomy, store)
    _add_bat(anatomy, store)
    return anatomy


def _add_regions(anatomy: Anatomy, store: ByteStore) -> None:
    for index, at in enumerate(REGION_TABLE_FILE_OFFSETS):
        name = f"region table {index + 1}"
        anatomy.add("region table", name, at, _REGION_TABLE)
        anatomy.places.append(StructurePlace(name, ((at, 64 * KIB),), True))
        table = pread_zero_extended(store, 64 * KIB, at)
        count = min(int.from_bytes(table[8:12], "little"), 8)
        for entry in range(count + 1):
            start = 16 + 32 * entry
            anatomy.add("region table", f"{name} entry {entry}", at + start, _REGION)
            guid, offset, length = struct.unpack_from("<16sQI", table, start)
            if guid == BAT_REGION.bytes_le:
                anatomy.bat = (offset, length)
            elif guid == METADATA_REGION.bytes_le:
                anatomy.metadata = (offset, length)


def _add_log(anatomy: Anatomy, store: ByteStore) -> None:
    offset, length = anatomy.log
    anatomy.places.append(StructurePlace("log", ((offset, length),), False))
    for position in _signed_positions(store, offset, length):
        head = pread_zero_extended(store, 64, offset + position)
        entry_length, count = struct.unpack_from("<I12xI", head, 8)
        if not SECTOR <= entry_length <= length or 64 + 32 * count > entry_length:
            continue
        name = f"log entry at {position:#x}"
        anatomy.add("log entry", name, position, f"{_LOG_ENTRY} {_LOG_ENTRY_REST}", anatomy.log)
        first = min(entry_length, length - position)
        pieces = [(offset + position, first), (offset, entry_length - first)]
        anatomy.places.append(StructurePlace(name, tuple(piece for piece in pieces if piece[1]), True))
        for index in [*range(min(count, 4)), *range(max(count - 2, 4), count)]:
            at = position + 64 + 32 * index
            anatomy.add("log descriptor", f"{name} descriptor {index}", at, _DESCRIPTOR, anatomy.log)
        for at in range((64 + 32 * count + SECTOR - 1) // SECTOR * SECTOR, entry_length, SECTOR):
            anatomy.add("log data sector", f"{name} data", position + at, _DATA_SECTOR, anatomy.log)


def _signed_positions(store: ByteStore, offset: int, length: int) -> Iterator[int]:
    for extent in store.extents(offset, length):
        if extent.kind is not StoreKind.HOLE:
            start = (extent.file_offset - offset) // SECTOR * SECTOR
            for position in range(start, extent.file_offset + extent.length - offset, SECTOR):
                if pread_zero_extended(store, 4, offset + position) == b"loge":
                    yield position


def _add_metadata(anatomy: Anatomy, store: ByteStore) -> None:
    base = anatomy.metadata[0]
    anatomy.places.append(StructurePlace("metadata table", ((base, 64 * KIB),), False))
    anatomy.add("metadata table", "metadata table", base, _METADATA)
    table = pread_zero_extended(store, 64 * KIB, base)
    anatomy.item_count = min(int.from_bytes(table[10:12], "little"), 16)
    for index in range(anatomy.item_count + 1):
        start = 32 + 32 * index
        item_id, offset, length = struct.unpack_from("<16sII", table, start)
        anatomy.add("metadata table", f"metadata entry {index}", base + start, _ITEM)
        anatomy.items[item_id] = (base + start, base + offset, length)
        if not offset:
            continue
        name = f"metadata item {index}"
        anatomy.places.append(StructurePlace(name, ((base + offset, length),), False))
        if item_id == PARENT_LOCATOR.bytes_le:
            _add_locator(anatomy, store, base + offset)
        else:
            words = " ".join(f"Word{at}:{at}:4" for at in range(0, min(length, 16), 4))
            whole = f" All:0:{length}" if length in (8, 16) else ""
            anatomy.add("metadata item", name, base + offset, words + whole)


def _add_locator(anatomy: Anatomy, store: ByteStore, at: int) -> None:
    anatomy.add("parent locator", "parent locator", at, _LOCATOR)
    count = int.from_bytes(pread_zero_extended(store, 2, at + 18), "little")
    for index in range(count):
        entry = at + 20 + 12 * index
        key, value, key_length, value_length = struct.unpack("<IIHH", pread_zero_extended(store, 12, entry))
        layout = f"{_PAIR} "
        anatomy.add("parent locator", f"parent locator entry {index}", entry, layout)
        for name, start, length in (("Key", key, key_length), ("Value", value, value_length)):
            units = f"{name}:0:2 {name}:{length // 4 * 2}:2 {name}:{length - 2}:2"
            anatomy.add("locator string", f"parent locator entry {index}", at + start, units)


def _add_bat(anatomy: Anatomy, store: ByteStore) -> None:
    base, length = anatomy.bat
    anatomy.places.append(StructurePlace("BAT", ((base, length),), False))
    used = [0, 1]
    table = pread_zero_extended(store, min(length, 64 * KIB), base)
    for index in range(len(table) // 8):
        entry = int.from_bytes(table[8 * index : 8 * index + 8], "little")
        if not entry:
            continue
        used += [index, index + 1]
        if entry & 7 in (6, 7) and len(anatomy.places) < 64:
            anatomy.places.append(
                StructurePlace(f"block of entry {index}", ((entry >> 20 << 20, MIB),), False)
            )
            if index > 15:  # Sector bitmaps: a chunk has 16 blocks at the least.
                words = " ".join(f"Bits:{at}:8" for at in range(0, 520, 8))
                anatomy.add("bitmap bits", f"bitmap of entry {index}", entry >> 20 << 20, words)
    for index in sorted(set(used))[:64]:
        anatomy.add("BAT", f"BAT entry {index}", base + 8 * index, "Entry:0:8")
