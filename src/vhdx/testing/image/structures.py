"""The structures of an image as mutable descriptions: every field can be given any value, legal or not.

Each has `encode`, which makes checksums right unless the description says otherwise.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from vhdx.format.checksum import seal
from vhdx.format.guids import VHDX_LOCATOR_TYPE, ZERO_GUID
from vhdx.format.header import Header
from vhdx.format.metadata import MetadataEntry, MetadataTable
from vhdx.format.region_table import Region, RegionTable


def overwrite(data: bytearray, offset: int, new: bytes) -> None:
    """Replace bytes inside `data`, keeping its length."""
    data[offset : offset + len(new)] = new


def sealed(data: bytearray, bad_checksum: bool) -> bytes:
    """Put the right checksum in, or one that is surely wrong."""
    result = bytearray(seal(data))
    if bad_checksum:
        result[4] ^= 0xFF
    return bytes(result)


@dataclass(slots=True)
class HeaderFields:
    """One header."""

    sequence_number: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID = ZERO_GUID
    log_version: int = 0
    version: int = 1
    log_length: int = 1 << 20
    log_offset: int = 1 << 20
    signature: bytes = b"head"
    reserved: bytes = b""
    """What stands at byte 80 and after, instead of zeroes."""
    bad_checksum: bool = False

    def encode(self) -> bytes:
        """Write the 4096 bytes."""
        header = Header(
            self.sequence_number,
            self.file_write_guid,
            self.data_write_guid,
            self.log_guid,
            self.log_version,
            self.version,
            self.log_length,
            self.log_offset,
        )
        data = bytearray(header.encode())
        overwrite(data, 0, self.signature)
        overwrite(data, 80, self.reserved)
        return sealed(data, self.bad_checksum)


@dataclass(slots=True)
class RegionFields:
    """One entry of a region table."""

    guid: UUID
    file_offset: int
    length: int
    flags: int = 1


@dataclass(slots=True)
class RegionTableFields:
    """One copy of the region table."""

    regions: list[RegionFields]
    signature: bytes = b"regi"
    count: int | None = None
    """EntryCount, if it is to differ from the number of entries."""
    reserved: int = 0
    bad_checksum: bool = False

    def encode(self) -> bytes:
        """Write the 64 KiB."""
        table = RegionTable(tuple(Region(r.guid, r.file_offset, r.length, r.flags) for r in self.regions))
        data = bytearray(table.encode())
        count = len(self.regions) if self.count is None else self.count
        overwrite(data, 0, self.signature)
        struct.pack_into("<II", data, 8, count, self.reserved)
        return sealed(data, self.bad_checksum)


@dataclass(slots=True)
class MetadataItem:
    """One metadata item: its table entry and its content."""

    item_id: UUID
    data: bytes
    flags: int = 0
    offset: int | None = None
    """From the start of the region; None: after the items before it."""
    length: int | None = None
    """Length in the table, if it is to differ from that of `data`."""
    reserved: int = 0


@dataclass(slots=True)
class MetadataFields:
    """The metadata region."""

    items: list[MetadataItem]
    signature: bytes = b"metadata"
    count: int | None = None
    """EntryCount, if it is to differ from the number of items."""
    reserved: int = 0
    reserved2: bytes = bytes(20)

    def entries(self) -> list[MetadataEntry]:
        """The table's entries, every offset filled in."""
        result: list[MetadataEntry] = []
        free = 1 << 16
        for item in self.items:
            length = len(item.data) if item.length is None else item.length
            offset = item.offset
            if offset is None:
                offset = free if item.data else 0
                free += len(item.data)
            result.append(MetadataEntry(item.item_id, offset, length, item.flags, item.reserved))
        return result

    def encode(self) -> list[tuple[int, bytes]]:
        """Write the pieces of the region, each with its offset in it: items first, the table last."""
        entries = self.entries()
        table = bytearray(MetadataTable(tuple(entries)).encode())
        count = len(entries) if self.count is None else self.count
        overwrite(table, 0, struct.pack("<8sHH20s", self.signature, self.reserved, count, self.reserved2))
        pieces = [(entry.offset, item.data) for entry, item in zip(entries, self.items, strict=True)]
        return [*pieces, (0, bytes(table))]


@dataclass(slots=True)
class LocatorPair:
    """One key and its value. Text is written as UTF-16LE, bytes as they are; None: the true number."""

    key: str | bytes
    value: str | bytes
    key_offset: int | None = None
    value_offset: int | None = None
    key_length: int | None = None
    value_length: int | None = None


@dataclass(slots=True)
class LocatorFields:
    """A parent locator."""

    pairs: list[LocatorPair]
    locator_type: UUID = VHDX_LOCATOR_TYPE
    count: int | None = None
    """KeyValueCount, if it is to differ from the number of pairs."""
    trailing: bytes = field(default=b"")

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> "LocatorFields":
        """Describe a sound locator of these keys and values."""
        return cls([LocatorPair(key, value) for key, value in pairs])

    def pair(self, key: str) -> LocatorPair:
        """The first pair with this key."""
        return next(pair for pair in self.pairs if pair.key == key)

    def drop(self, key: str) -> None:
        """Take out every pair with this key."""
        self.pairs = [pair for pair in self.pairs if pair.key != key]

    def encode(self) -> bytes:
        """Write the item."""
        count = len(self.pairs) if self.count is None else self.count
        head = struct.pack("<16sHH", self.locator_type.bytes_le, 0, count)
        entries, heap = b"", b""
        heap_offset = 20 + 12 * len(self.pairs)
        for pair in self.pairs:
            key, value = _utf16(pair.key), _utf16(pair.value)
            key_at = heap_offset + len(heap)
            entries += struct.pack(
                "<IIHH",
                _given(pair.key_offset, key_at),
                _given(pair.value_offset, key_at + len(key)),
                _given(pair.key_length, len(key)),
                _given(pair.value_length, len(value)),
            )
            heap += key + value
        return head + entries + heap + self.trailing


def _utf16(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-16-le", "surrogatepass")


def _given(value: int | None, default: int) -> int:
    return default if value is None else value
