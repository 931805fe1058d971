"""How a description of an image becomes bytes."""

import struct

from vhdx.format.checksum import seal
from vhdx.format.constants import HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.format.header import HEADER_SIZE
from vhdx.format.region_table import REGION_TABLE_SIZE
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing.image.description import ImageDescription
from vhdx.testing.image.structures import MetadataFields

_Pieces = list[tuple[int, int]]
"""Where a checksummed structure lies: (file offset, length) in order."""


def render(image: ImageDescription) -> MemoryStore:
    """Make the file that a description describes."""
    store = MemoryStore()
    sealed = _write_head(image, store)
    _write_metadata(image, store)
    for index, entry in image.bat.items():
        store.pwrite(struct.pack("<Q", entry), image.bat_offset + 8 * index)
    for file_offset, data in image.content:
        store.pwrite(data, file_offset)
    for file_offset, bits in image.bitmaps.values():
        store.pwrite(bits, file_offset)
    sealed += _write_log(image, store)
    for file_offset, data, reseal in image.patches:
        store.pwrite(data, file_offset)
        if reseal:
            _reseal(store, sealed, file_offset, file_offset + len(data))
    store.truncate(image.length() - len(image.trailing))
    store.pwrite(image.trailing, store.size())
    return store


def _write_head(image: ImageDescription, store: MemoryStore) -> list[_Pieces]:
    store.pwrite(image.identifier(), 0)
    sealed: list[_Pieces] = []
    for header, file_offset in zip(image.headers, HEADER_FILE_OFFSETS, strict=True):
        store.pwrite(header.encode(), file_offset)
        sealed += [] if header.bad_checksum else [[(file_offset, HEADER_SIZE)]]
    for table, file_offset in zip(image.region_tables, REGION_TABLE_FILE_OFFSETS, strict=True):
        store.pwrite(table.encode(), file_offset)
        sealed += [] if table.bad_checksum else [[(file_offset, REGION_TABLE_SIZE)]]
    return sealed


def _write_metadata(image: ImageDescription, store: MemoryStore) -> None:
    fields = image.metadata
    complete = MetadataFields(
        image.metadata_items(), fields.signature, fields.count, fields.reserved, fields.reserved2
    )
    for offset, data in complete.encode():
        store.pwrite(data, image.metadata_offset + offset)


def _write_log(image: ImageDescription, store: MemoryStore) -> list[_Pieces]:
    sealed: list[_Pieces] = []
    for entry in image.log_entries:
        data = entry.encode(image.length())
        pieces = _ring_pieces(image, entry.position, len(data))
        done = 0
        for file_offset, length in pieces:
            store.pwrite(data[done : done + length], file_offset)
            done += length
        sealed += [] if entry.bad_checksum else [pieces]
    return sealed


def _ring_pieces(image: ImageDescription, position: int, length: int) -> _Pieces:
    first = min(length, image.log_length - position)
    pieces = [(image.log_offset + position, first)]
    return pieces if first == length else [*pieces, (image.log_offset, length - first)]


def _reseal(store: MemoryStore, sealed: list[_Pieces], start: int, end: int) -> None:
    for pieces in sealed:
        if not any(offset < end and start < offset + length for offset, length in pieces):
            continue
        data = b"".join(pread_zero_extended(store, length, offset) for offset, length in pieces)
        data = seal(bytearray(data))
        done = 0
        for offset, length in pieces:
            store.pwrite(data[done : done + length], offset)
            done += length
