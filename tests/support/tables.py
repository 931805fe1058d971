"""Partition tables made from nothing, sound ones and others, on disks in memory."""

import struct
import uuid
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vhdx.blockdev.device import Limits
from vhdx.disks.raw import RawDevice
from vhdx.storage.memory import MemoryStore

LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


class MemoryDisk(RawDevice):
    """Bytes as a disk with sectors of a given size."""

    def __init__(self, content: bytes, sector_size: int = 512) -> None:
        super().__init__(MemoryStore(content))
        self._sector_size = sector_size

    @property
    def limits(self) -> Limits:
        return super().limits._replace(minimum_io_size=self._sector_size)


class Slot(NamedTuple):
    """One entry of a boot record."""

    type: int
    first: int
    length: int
    status: int = 0


def boot_record(slots: Mapping[int, Slot], signature: bytes = b"\x55\xaa") -> bytes:
    """A sector with entries at places 0 to 3."""
    sector = bytearray(512)
    for index, slot in slots.items():
        entry = struct.pack("<B3xB3xII", slot.status, slot.type, slot.first, slot.length)
        sector[446 + 16 * index : 462 + 16 * index] = entry
    sector[510:512] = signature
    return bytes(sector)


def disk_of(sectors: Mapping[int, bytes], count: int = 4096, sector_size: int = 512) -> MemoryDisk:
    """A disk with content at some of its sectors, zeroes elsewhere."""
    content = bytearray(count * sector_size)
    for number, data in sectors.items():
        content[number * sector_size : number * sector_size + len(data)] = data
    return MemoryDisk(bytes(content), sector_size)


class GptSlot(NamedTuple):
    """One entry of a GPT; `last` is its last sector, as on disk."""

    first: int
    last: int
    name: str = ""
    type: uuid.UUID = LINUX

    def encode(self, entry_size: int) -> bytes:
        name = self.name.encode("utf-16-le").ljust(72, b"\0")
        fields = struct.pack("<16s16sQQQ", self.type.bytes_le, uuid.uuid4().bytes, self.first, self.last, 0)
        return (fields + name).ljust(entry_size, b"\0")


class Gpt:
    """A GPT whose every field can be made wrong before it gets its checksums."""

    def __init__(
        self,
        slots: Mapping[int, GptSlot],
        *,
        sectors: int = 4096,
        sector_size: int = 512,
        entry_size: int = 128,
    ) -> None:
        self.sectors = sectors
        self.sector_size = sector_size
        self.entry_size = entry_size
        self.count = 128
        self.header_size = 92
        array = bytearray(self.count * entry_size)
        for index, slot in slots.items():
            array[index * entry_size : (index + 1) * entry_size] = slot.encode(entry_size)
        self.array = bytes(array)
        self.array_sectors = -(-len(array) // sector_size)

    def header(self, own: int, other: int, array_sector: int) -> bytes:
        """A header with its checksum."""
        fields = struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            self.header_size,
            0,
            0,
            own,
            other,
            2 + self.array_sectors,
            self.sectors - 2 - self.array_sectors,
            uuid.uuid4().bytes,
            array_sector,
            self.count,
            self.entry_size,
            zlib.crc32(self.array),
        )
        checked = fields.ljust(self.header_size, b"\0")[: self.header_size]
        return fields[:16] + struct.pack("<I", zlib.crc32(checked)) + fields[20:]

    def sectors_of(self, *, protective: bool = True) -> dict[int, bytes]:
        """What stands where on the disk: both copies."""
        last = self.sectors - 1
        first_copy = {1: self.header(1, last, 2), 2: self.array}
        place = last - self.array_sectors
        backup = {place: self.array, last: self.header(last, 1, place)}
        length = min(self.sectors - 1, 0xFFFFFFFF)
        mbr = {0: boot_record({0: Slot(0xEE, 1, length)})} if protective else {}
        return {**mbr, **first_copy, **backup}

    def disk(self, damaged: Iterable[int] = (), *, protective: bool = True) -> MemoryDisk:
        """The disk, with the first bytes of some sectors turned over."""
        found = self.sectors_of(protective=protective)
        for number in damaged:
            data = found[number]
            found[number] = bytes(byte ^ 0xFF for byte in data[:200]) + data[200:]
        return disk_of(found, self.sectors, self.sector_size)
