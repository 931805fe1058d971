"""How much work opening, checking and reading may take: formulas of what a file holds, not of what it says.

A hole costs nothing to look at and a hostile file can claim anything, so every limit counts only bytes that
are really there: the data in the log's place, the MiBs of the file that have any data, the bytes asked for.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from vhdx._units import MIB, div_ceil
from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended
from vhdx.testing.stores import Work

_FIXED_BYTES: Final = 3 * MIB // 2
"""Identifier, headers, region tables, metadata table, items; the locator may take 1 MiB."""
_FIXED_READS: Final = 40
_FIXED_CHECKSUMS: Final = 140 * 1024
_LOG_PASSES: Final = 8
_SLICE_PASSES: Final = 14
"""A check walks the BAT at most six times, and a MiB of file touches two slices of it."""


@dataclass(slots=True)
class WorkWithChecksums(Work):
    """What was read, and how many bytes were checksummed."""

    bytes_checksummed: int = 0

    def clear(self) -> None:
        Work.clear(self)
        self.bytes_checksummed = 0


class FileFigures(NamedTuple):
    """What a file really holds. Bytes, but for the counts."""

    size: int
    data: int
    log_data: int
    """In the places that the headers call the log, if the log is in use."""
    data_units: int
    """MiBs of the file with any data."""


def facts_of(store: ByteStore) -> FileFigures:
    """Look at a file. Raises: OSError."""
    units: set[int] = set()
    data = 0
    for extent in store.extents(0, store.size()):
        if extent.kind is not StoreKind.HOLE:
            data += extent.length
            last = extent.file_offset + extent.length - 1
            units.update(range(extent.file_offset // MIB, last // MIB + 1))
    log_data = max(_log_data(store, at) for at in HEADER_FILE_OFFSETS)
    return FileFigures(store.size(), data, log_data, len(units))


def _log_data(store: ByteStore, header_at: int) -> int:
    header = pread_zero_extended(store, 80, header_at)
    length, offset = int.from_bytes(header[68:72], "little"), int.from_bytes(header[72:80], "little")
    if not any(header[48:64]) or offset > store.size():
        return 0
    extents = store.extents(offset, min(length, store.size() - offset))
    return sum(extent.length for extent in extents if extent.kind is not StoreKind.HOLE)


def patched_sectors(facts: FileFigures) -> int:
    """How many sectors a log of this size can replace, at the most."""
    return facts.log_data // 4096


class Limit(NamedTuple):
    """The most that a step may do. Bytes, but for `reads`."""

    bytes_read: int
    reads: int
    bytes_checksummed: int
    largest_read: int

    def breach(self, work: WorkWithChecksums) -> str | None:
        """Which limit some work exceeds, in words."""
        pairs = (
            ("bytes read", work.bytes_read, self.bytes_read),
            ("reads", work.reads, self.reads),
            ("bytes checksummed", work.bytes_checksummed, self.bytes_checksummed),
            ("bytes in one read", work.largest_read, self.largest_read),
        )
        for name, done, allowed in pairs:
            if done > allowed:
                return f"{done} {name}, at most {allowed} allowed"
        return None


def open_limit(facts: FileFigures) -> Limit:
    """To open one file, not strictly."""
    log_sectors = div_ceil(facts.log_data, 4096)
    overlaid = 2 if facts.log_data else 1
    return Limit(
        overlaid * _FIXED_BYTES + _LOG_PASSES * facts.log_data,
        _FIXED_READS + 4 * log_sectors + (1024 if facts.log_data else 0),
        _FIXED_CHECKSUMS + _LOG_PASSES * facts.log_data,
        MIB,
    )


def check_limit(facts: FileFigures, patched_sectors: int) -> Limit:
    """To check one file, or to open it strictly; a dirty log patches sectors, which count as data."""
    opening = open_limit(facts)
    units = facts.data_units + patched_sectors
    return Limit(
        opening.bytes_read + _SLICE_PASSES * MIB * units,
        opening.reads + 4 * _SLICE_PASSES * units + facts.data // 1024,
        opening.bytes_checksummed,
        MIB,
    )


def metadata_limit(length: int, block_size: int, sector_size: int, files: int) -> Limit:
    """To resolve a range of a disk through some files, without its content."""
    blocks = length // block_size + 2
    # A BAT page and a bitmap page for each block, twice for fragments that alternate between them.
    pages = files * (8 + 4 * blocks + length // sector_size // 8 // 4096)
    return Limit(2 * 4096 * pages, 3 * pages, 0, 4096)


def read_limit(length: int, block_size: int, sector_size: int, files: int) -> Limit:
    """To read a range of a disk; what lies under a replay is put together from sectors of the log."""
    resolving = metadata_limit(length, block_size, sector_size, files)
    fragments = length // sector_size + 2
    return Limit(
        resolving.bytes_read + 2 * length + 3 * 4096,
        resolving.reads + 3 * fragments,
        0,
        max(length, 4096),
    )


def walk_limit(length: int, extents: int, block_size: int, sector_size: int, files: int) -> Limit:
    """To walk the extents of a disk: BAT pages one after the other, and bitmap pages where there are parents."""
    pages = files * (64 + 2 * (length // block_size // 512))
    if files > 1:
        pages += files * (4 * extents + length // sector_size // 8 // 4096)
    return Limit(2 * 4096 * pages, 3 * pages, 0, MIB)
