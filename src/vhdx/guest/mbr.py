"""The partition table of the master boot record, and the chain of logical partitions in an extended one.

A sector of the chain lists a logical partition, relative to itself, and the next sector of the chain,
relative to the extended partition. Entries count as Linux counts them (block/partitions/msdos.c): by their
size, not by their type.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.guest.partition import read_some

if TYPE_CHECKING:
    from vhdx.blockdev.device import BlockDevice
    from vhdx.guest.partition import Entries

MBR_SIZE: Final = 512
PROTECTIVE: Final = 0xEE
FIRST_LOGICAL: Final = 5
MAX_LINKS: Final = 256
"""Sectors of a chain that are followed; Linux gives a disk no more than 256 partitions."""

_ENTRY: Final = Struct("<B3xB3xII")
_TABLE_OFFSET: Final = 446
_EXTENDED: Final = (0x05, 0x0F, 0x85)


class MbrEntry(NamedTuple):
    """One of the four entries of a boot record; sectors are relative to what the record's place says."""

    status: int
    type: int
    first_sector: int
    length_sectors: int

    @property
    def is_extended(self) -> bool:
        """Whether it names a chain, not a partition."""
        return self.type in _EXTENDED


def parse_record(sector: bytes) -> list[MbrEntry] | None:
    """The four entries of a boot record; None if it is none."""
    if len(sector) < MBR_SIZE or sector[510:512] != b"\x55\xaa":
        return None
    return [MbrEntry(*_ENTRY.unpack_from(sector, _TABLE_OFFSET + 16 * index)) for index in range(4)]


def is_plausible(entries: list[MbrEntry]) -> bool:
    """Whether four entries are a table, and not the code of a boot sector that ends with the same signature."""
    return all(entry.status in {0, 0x80} for entry in entries)


def collect_mbr(device: BlockDevice, entries: list[MbrEntry], found: Entries) -> None:
    """Admit the primary partitions, then the logical ones of each extended partition."""
    for number, entry in enumerate(entries, 1):
        if entry.length_sectors and not entry.is_extended:
            found.admit(number, entry.first_sector, entry.length_sectors, _type(entry))
    following = FIRST_LOGICAL
    for entry in entries:
        if entry.length_sectors and entry.is_extended:
            following = _collect_logical(device, entry, found, following)


def _collect_logical(device: BlockDevice, extended: MbrEntry, found: Entries, number: int) -> int:
    """Follow a chain; return the number that the next logical partition has."""
    base = here = extended.first_sector
    seen: set[int] = set()
    for _ in range(MAX_LINKS):
        if here in seen:
            found.warn(f"the chain of logical partitions comes back to sector {here}: the rest is left out")
            return number
        seen.add(here)
        entries = parse_record(read_some(device, MBR_SIZE, here * found.sector_size))
        if entries is None:
            found.warn(
                f"the chain of logical partitions breaks at sector {here}, which has no boot signature or cannot"
                " be read: the rest is left out"
            )
            return number
        for index, entry in enumerate(entries):
            if entry.length_sectors and not entry.is_extended and _counts(index, entry, here, extended):
                found.admit(number, here + entry.first_sector, entry.length_sectors, _type(entry))
                number += 1
        links = [entry for entry in entries if entry.length_sectors and entry.is_extended]
        if not links:
            return number
        here = base + links[0].first_sector
    found.warn(f"the chain of logical partitions has more than {MAX_LINKS} links: the rest is left out")
    return number


def _counts(index: int, entry: MbrEntry, here: int, extended: MbrEntry) -> bool:
    """Whether Linux gives an entry of the chain a number: the last two hold remains of other systems."""
    start = here + entry.first_sector
    inside = extended.first_sector <= start
    ends_inside = start + entry.length_sectors <= extended.first_sector + extended.length_sectors
    return index < 2 or (inside and ends_inside)


def _type(entry: MbrEntry) -> str:
    return f"{entry.type:#04x}"
