"""Which partitions a disk has. The table is taken for hostile: nothing in it raises, sizes a loop or a read.

What cannot be used is left out, and a warning says why. A disk without a table is looked at once more: it may
be a file system itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from vhdx.errors import VhdxError
from vhdx.guest.file_systems import BOOT_SECTOR_MARKS, recognise
from vhdx.guest.gpt import DamagedTableError, collect_gpt, has_header, read_gpt
from vhdx.guest.mbr import MBR_SIZE, PROTECTIVE, MbrEntry, collect_mbr, is_plausible, parse_record
from vhdx.guest.partition import Entries, Partition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx.blockdev.device import BlockDevice

_SECTOR_SIZES: Final = (512, 4096)


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """What was found on a disk. `sector_size` in bytes: the unit that the table counts in."""

    kind: Literal["mbr", "gpt"] | None
    """None: there is no table."""
    sector_size: int
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...]
    """A sentence for everything that is wrong with the table, and for every entry that was left out."""
    content: str | None = None
    """Without a table: what the disk itself is ("an ext4 file system"), if that can be told."""


def read_partitions(device: BlockDevice) -> PartitionTable:
    """Read the partition table of a disk. Raises nothing that the disk's content or its medium can cause."""
    found = Entries(device, _sector_size(device))
    try:
        first = device.pread(min(MBR_SIZE, device.size), 0)
    except (VhdxError, OSError) as error:
        found.warn(f"the partition table cannot be read: {error}")
        return _table(None, found)
    entries = parse_record(first)
    if entries is not None and not is_plausible(entries):
        entries = None
    is_protected = entries is not None and any(entry.type == PROTECTIVE for entry in entries)
    # Without a protective MBR the copy at the end may be what a file system made over the disk has left of it.
    if is_protected or (entries is None and recognise(device) is None):
        table = _read_gpt(device, is_protected=is_protected)
        if table is not None:
            return table
    if entries is None or _is_boot_sector(first, entries):
        return _table(None, found, recognise(device))
    collect_mbr(device, entries, found)
    if not any(entry.length_sectors for entry in entries):
        return _table(None, found, recognise(device))
    return _table("mbr", found)


def _sector_size(device: BlockDevice) -> int:
    """The device's sectors; a raw file of an odd length has none."""
    size = device.limits.minimum_io_size
    return size if size in _SECTOR_SIZES else _SECTOR_SIZES[0]


def _is_boot_sector(first: bytes, entries: list[MbrEntry]) -> bool:
    """Whether the first sector is that of a file system, and what looks like an empty table is not one."""
    is_marked = any(first.startswith(mark, offset) for offset, mark, _ in BOOT_SECTOR_MARKS)
    return is_marked and not any(entry.length_sectors for entry in entries)


def _read_gpt(device: BlockDevice, *, is_protected: bool) -> PartitionTable | None:
    """The GPT; None if there is no trace of one, or if nothing but its remains is there."""
    own = _sector_size(device)
    sizes = [own, *(size for size in _SECTOR_SIZES if size != own)]
    sector_size = next((size for size in sizes if has_header(device, size)), own)
    found = Entries(device, sector_size)
    try:
        array, header, faults = read_gpt(device, sector_size)
    except DamagedTableError as error:
        if not is_protected:
            return None
        found.warn(f"{error}; no partition can be told")
        return _table("gpt", found)
    if not is_protected:
        found.warn("the disk has a GPT, but no protective MBR: other systems will not see its partitions")
    if sector_size != own:
        found.warn(
            f"the GPT counts in sectors of {sector_size} bytes, but the disk's have {own}: Linux sees these"
            f" partitions only through 'losetup --sector-size {sector_size}'"
        )
    for fault in faults:
        found.warn(f"{fault}; the backup at the disk's end is used")
    collect_gpt(array, header, found)
    return _table("gpt", found)


def _table(kind: Literal["mbr", "gpt"] | None, found: Entries, content: str | None = None) -> PartitionTable:
    warnings: Iterable[str] = found.warnings
    if found.unlisted_warnings:
        warnings = (*warnings, f"{found.unlisted_warnings} further warnings of this table are not listed")
    partitions = tuple(sorted(found.partitions))
    return PartitionTable(kind, found.sector_size, partitions, tuple(warnings), content)
