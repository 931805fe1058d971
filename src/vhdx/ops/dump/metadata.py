"""The metadata region of a file: its table, and what the items say."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from vhdx.format import metadata
from vhdx.format.guids import (
    FILE_PARAMETERS,
    LOGICAL_SECTOR_SIZE,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
)
from vhdx.format.metadata import MetadataEntry, MetadataTable, check_table
from vhdx.format.parent_locator import MAX_ENTRIES as MAX_LOCATOR_ENTRIES
from vhdx.format.parent_locator import ParentLocator
from vhdx.ops.dump.structure import Structure, collect, guard
from vhdx.storage.base import pread, pread_zero_extended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.findings import Finding
    from vhdx.format.region_table import Region
    from vhdx.storage.base import ByteStore

    _Entries = tuple[dict[str, Any], ...]

_CONTENT_SHOWN: Final = 64
_FILE_PARAMETERS: Final = struct.Struct("<II")
_LOCATOR_HEADER: Final = struct.Struct("<16sHH")
_LOCATOR_ENTRY: Final = struct.Struct("<IIHH")


def dump_metadata(
    store: ByteStore, region: Region, suffix: str, items: dict[UUID, bytes]
) -> Iterator[Structure]:
    """Dump table and items; what the first item of each known kind holds is put into `items`."""
    entries: list[MetadataEntry] = []
    yield from guard(
        f"metadata table{suffix}", region.file_offset, partial(_table, store, region, suffix, entries)
    )
    for entry in entries:
        name = f"metadata item {entry.name}{suffix}"
        place = region.file_offset + entry.offset
        yield from guard(name, place, partial(_item, store, entry, name, place, items))


def _table(
    store: ByteStore, region: Region, suffix: str, entries: list[MetadataEntry]
) -> Iterator[Structure]:
    """The table; its entries are added to `entries`, unless it does not even begin like a table."""
    raw = pread_zero_extended(store, metadata.METADATA_TABLE_SIZE, region.file_offset)
    count = int.from_bytes(raw[10:12], "little")
    if raw.startswith(metadata.SIGNATURE):
        entries += MetadataTable.decode_unchecked(raw).entries
    place, length = region.file_offset, region.length
    _, findings = collect(
        lambda report: check_table(
            MetadataTable.decode(raw, place, report.breach), place, length, report.breach
        )
    )
    yield Structure(
        f"metadata table{suffix}",
        place,
        len(raw),
        {"signature": raw[:8].decode("latin-1"), "entry-count": count},
        tuple(_described(entry, region) for entry in entries),
        findings,
        "lies past the end of the file" if place >= store.size() else None,
    )


def _described(entry: MetadataEntry, region: Region) -> dict[str, Any]:
    return {
        "name": entry.name,
        "id": str(entry.item_id),
        "offset": entry.offset,
        "file-offset": region.file_offset + entry.offset,
        "length": entry.length,
        "user": entry.is_user,
        "virtual-disk": entry.is_virtual_disk,
        "required": entry.is_required,
    }


def _item(
    store: ByteStore, entry: MetadataEntry, name: str, file_offset: int, items: dict[UUID, bytes]
) -> Iterator[Structure]:
    is_first = entry.known is not None and entry.item_id not in items
    # A table may list one large item two thousand times, so only what is looked at is read.
    is_locator = is_first and entry.item_id == PARENT_LOCATOR
    limit = metadata.MAX_ITEM_LENGTH if is_locator else _CONTENT_SHOWN
    content = pread(store, min(entry.length, limit), file_offset)
    if is_first:
        items[entry.item_id] = content
    findings: tuple[Finding, ...] = ()
    if is_locator:
        _, findings = collect(lambda report: ParentLocator.decode(content, file_offset, report.breach))
    fields, parts = _meaning(entry, content)
    yield Structure(name, file_offset, entry.length, fields, parts, findings)


def _meaning(entry: MetadataEntry, content: bytes) -> tuple[dict[str, Any], _Entries]:
    """What an item says, as far as it is known and has the right length."""
    known = entry.known
    number = int.from_bytes(content[:8], "little")
    if known is not None and known.length in {None, len(content)}:
        if entry.item_id == FILE_PARAMETERS:
            block_size, flags = _FILE_PARAMETERS.unpack(content)
            leave, has_parent = bool(flags & 1), bool(flags & 2)
            return {
                "block-size": block_size,
                "leave-block-allocated": leave,
                "has-parent": has_parent,
            }, ()
        if entry.item_id == VIRTUAL_DISK_SIZE:
            return {"virtual-size": number}, ()
        if entry.item_id in {LOGICAL_SECTOR_SIZE, PHYSICAL_SECTOR_SIZE}:
            return {"sector-size": number}, ()
        if entry.item_id == VIRTUAL_DISK_ID:
            return {"disk-id": str(UUID(bytes_le=content))}, ()
        if entry.item_id == PARENT_LOCATOR and len(content) >= _LOCATOR_HEADER.size:
            locator_type, _, count = _LOCATOR_HEADER.unpack_from(content)
            fields = {"locator-type": str(UUID(bytes_le=locator_type)), "key-value-count": count}
            return fields, tuple(_pairs(content, count))
    return {"content": content[:_CONTENT_SHOWN].hex()}, ()


def _pairs(content: bytes, count: int) -> Iterator[dict[str, Any]]:
    """Keys and values of a locator as they stand there, None for what lies outside the item."""
    available = (len(content) - _LOCATOR_HEADER.size) // _LOCATOR_ENTRY.size
    for index in range(min(count, MAX_LOCATOR_ENTRIES, available)):
        at = _LOCATOR_HEADER.size + index * _LOCATOR_ENTRY.size
        key_at, value_at, key_length, value_length = _LOCATOR_ENTRY.unpack_from(content, at)
        yield {
            "key": _text(content, key_at, key_length),
            "value": _text(content, value_at, value_length),
        }


def _text(content: bytes, offset: int, length: int) -> str | None:
    if offset + length > len(content):
        return None
    return content[offset : offset + length].decode("utf-16-le", "replace")
