"""One partition of a disk, and the rules that any table's entries must keep."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.errors import VhdxError

if TYPE_CHECKING:
    from vhdx.blockdev.device import BlockDevice

MAX_WARNINGS: Final = 64
"""Warnings that are kept of one table; the rest is counted."""


class Partition(NamedTuple):
    """A range of a disk, as a table names it. `offset` and `length` in bytes; all of it lies on the disk."""

    number: int
    """As Linux counts: MBR 1 to 4, logical ones from 5; GPT by the entry's place, from 1."""
    offset: int
    length: int
    type: str
    """What the table says it is for: 0x83 (MBR), or a GUID (GPT)."""
    name: str = ""
    """The label that a GPT gives it."""

    @property
    def end(self) -> int:
        """Byte offset just past the partition."""
        return self.offset + self.length


class Entries:
    """Collects what a table lists: admits what can be used, and says why of what cannot."""

    def __init__(self, device: BlockDevice, sector_size: int) -> None:
        self.size_sectors = device.size // sector_size
        self.sector_size = sector_size
        self.partitions: list[Partition] = []
        self.warnings: list[str] = []
        self.unlisted_warnings = 0
        self._by_offset: list[tuple[int, Partition]] = []

    def warn(self, text: str) -> None:
        """Keep a warning, or count it if there are too many."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)
        else:
            self.unlisted_warnings += 1

    def admit(self, number: int, first_sector: int, length_sectors: int, kind: str, name: str = "") -> None:
        """Take an entry, or warn that it is left out. Its sectors are those of the table."""
        offset, length = first_sector * self.sector_size, length_sectors * self.sector_size
        partition = Partition(number, offset, length, kind, name)
        reason = self._fault(partition, first_sector, length_sectors)
        if reason is not None:
            place = f"{length_sectors} sectors from sector {first_sector}"
            self.warn(f"partition {number} ({place}) is left out: {reason}")
            return
        self.partitions.append(partition)
        self._by_offset.insert(bisect(self._by_offset, (offset, partition)), (offset, partition))

    def _fault(self, partition: Partition, first_sector: int, length_sectors: int) -> str | None:
        if length_sectors <= 0:
            return "it ends before it begins"
        if first_sector + length_sectors > self.size_sectors:
            return f"the disk has only {self.size_sectors} sectors of {self.sector_size} bytes"
        index = bisect(self._by_offset, (partition.offset, partition))
        for _, other in self._by_offset[max(index - 1, 0) : index + 1]:
            if partition.offset < other.end and other.offset < partition.end:
                return f"it overlaps partition {other.number}; what it names can be read from disk.raw"
        return None


def read_some(device: BlockDevice, length: int, offset: int) -> bytes:
    """Read what of a range is on the disk; empty if that cannot be read."""
    inside = min(length, device.size - offset)
    if inside <= 0 or offset < 0:
        return b""
    try:
        return device.pread(inside, offset)
    except (VhdxError, OSError):
        return b""
