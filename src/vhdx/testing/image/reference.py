"""A reader of chains that is slow and plain, to compare the real one with.

It was written from the format alone and shares no code with `vhdx.format` or `vhdx.engine`: it reads the
structures itself, replays the log into a dictionary of 4-KiB sectors, and decides sector by sector. It is
meant for sound images and those whose faults are tolerated, and raises ValueError or KeyError for others.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Protocol, cast
from uuid import UUID

BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08").bytes_le
METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le
FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8").bytes_le
LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F").bytes_le

SECTOR = 4096
MAX_ZERO_LENGTH = 1 << 30


class _Readable(Protocol):
    def size(self) -> int: ...
    def pread_into(self, buffer: bytearray, file_offset: int) -> int: ...


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self) -> int:
        return len(self.data)

    def pread_into(self, buffer: bytearray, file_offset: int) -> int:
        piece = self.data[file_offset : file_offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit from its polynomial, a byte at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class ReferenceImage:
    """One file of a chain."""

    crc32c: Callable[[bytes], int] = staticmethod(crc32c)

    def __init__(self, source: object) -> None:
        """Read the structures of `source`: bytes, or anything with `size` and `pread_into`."""
        if isinstance(source, bytes | bytearray | memoryview):
            self.file: _Readable = _Bytes(bytes(source))
        else:
            self.file = cast(_Readable, source)
        self.sectors: dict[int, bytes] = {}
        """Sectors that the log replaces, by file offset // 4096."""
        self.file_size = self.file.size()
        header = self._current_header()
        self.log_guid = header[48:64]
        self.log_length, self.log_offset = struct.unpack_from("<IQ", header, 68)
        if any(self.log_guid):
            self._replay()
        self._read_metadata()

    def read_file(self, length: int, offset: int) -> bytes:
        """Bytes of the file as they are after replay."""
        if offset + length > self.file_size:
            raise ValueError("read past the end of the file")
        result = bytearray(length)
        self.file.pread_into(result, offset)
        for number in range(offset // SECTOR, (offset + length - 1) // SECTOR + 1):
            if number in self.sectors:
                start = max(offset, number * SECTOR)
                end = min(offset + length, (number + 1) * SECTOR)
                piece = self.sectors[number][start - number * SECTOR : end - number * SECTOR]
                result[start - offset : end - offset] = piece
        return bytes(result)

    def _current_header(self) -> bytes:
        headers = [self.read_file(4096, offset) for offset in (0x10000, 0x20000)]
        valid = [data for data in headers if data[:4] == b"head" and self._checksum_is_right(data)]
        return max(valid, key=lambda data: int.from_bytes(data[8:16], "little"))

    def _checksum_is_right(self, data: bytes) -> bool:
        stored: int = struct.unpack_from("<I", data, 4)[0]
        return self.crc32c(data[:4] + bytes(4) + data[8:]) == stored

    def _ring(self, position: int, length: int) -> bytes:
        """Bytes of the log, going on at its start where it ends."""
        result = b""
        while len(result) < length:
            at = (position + len(result)) % self.log_length
            piece = min(length - len(result), self.log_length - at)
            data = bytearray(piece)
            self.file.pread_into(data, self.log_offset + at)
            result += data
        return result

    def _entry(self, position: int) -> bytes | None:
        """The valid log entry at a position."""
        head = self._ring(position, 64)
        length, tail, sequence, count = struct.unpack_from("<IIQI", head, 8)
        if head[:4] != b"loge" or head[32:48] != self.log_guid or sequence == 0:
            return None
        if length == 0 or length % SECTOR or length > self.log_length:
            return None
        if tail % SECTOR or tail >= self.log_length or 64 + 32 * count > length:
            return None
        entry = self._ring(position, length)
        if not self._checksum_is_right(entry):
            return None
        data_at = -(-(64 + 32 * count) // SECTOR) * SECTOR
        for index in range(count):
            descriptor = entry[64 + 32 * index : 96 + 32 * index]
            size, offset, own_sequence = struct.unpack_from("<QQQ", descriptor, 8)
            if descriptor[:4] == b"zero":
                if size % SECTOR:
                    return None
            elif descriptor[:4] == b"desc":
                size = SECTOR
                sector = entry[data_at : data_at + SECTOR]
                if sector[:4] != b"data" or sector[-4:] + sector[4:8] != head[16:24]:
                    return None
                data_at += SECTOR
            else:
                return None
            hits_log = offset < self.log_offset + self.log_length and self.log_offset < offset + size
            misplaced = offset % SECTOR or offset < 0x30000 or offset + size >= 1 << 63
            if own_sequence != sequence or misplaced or hits_log:
                return None
        return entry if data_at == length else None

    def _run(self, start: int, entries: dict[int, bytes]) -> list[tuple[int, bytes]]:
        """Adjacent entries with rising sequence numbers, as many as there are from a position on."""
        run: list[tuple[int, bytes]] = []
        used, position = 0, start
        while position in entries:
            entry = entries[position]
            sequence = int.from_bytes(entry[16:24], "little")
            expected = int.from_bytes(run[-1][1][16:24], "little") + 1 if run else sequence
            if sequence != expected or used + len(entry) > self.log_length:
                break
            run.append((position, entry))
            used += len(entry)
            position = (position + len(entry)) % self.log_length
        return run

    def _replay(self) -> None:
        """Find the active sequence and put its changes into `sectors`."""
        found = {position: self._entry(position) for position in range(0, self.log_length, SECTOR)}
        entries = {position: entry for position, entry in found.items() if entry is not None}
        best_sequence, best = 0, None
        for start in entries:
            run = self._run(start, entries)
            positions = [position for position, _ in run]
            _, head = run[-1]
            tail, sequence = struct.unpack_from("<IQ", head, 12)
            if tail in positions and sequence > best_sequence:
                best_sequence, best = sequence, run[positions.index(tail) :]
        if best is None:
            raise ValueError("no complete sequence in the log")
        for _, entry in best:
            self._apply(entry)
        self.file_size = max(self.file_size, int.from_bytes(best[-1][1][56:64], "little"))

    def _apply(self, entry: bytes) -> None:
        count: int = struct.unpack_from("<I", entry, 24)[0]
        data_at = -(-(64 + 32 * count) // SECTOR) * SECTOR
        for index in range(count):
            descriptor = entry[64 + 32 * index : 96 + 32 * index]
            size, offset = struct.unpack_from("<QQ", descriptor, 8)
            if descriptor[:4] == b"zero":
                if size > MAX_ZERO_LENGTH:
                    raise ValueError("a zero descriptor too long for this reader")
                for number in range(offset // SECTOR, (offset + size) // SECTOR):
                    self.sectors[number] = bytes(SECTOR)
            else:
                data = entry[data_at : data_at + SECTOR]
                self.sectors[offset // SECTOR] = descriptor[8:16] + data[8:4092] + descriptor[4:8]
                data_at += SECTOR
                size = SECTOR
            self.file_size = max(self.file_size, offset + size)

    def _read_metadata(self) -> None:
        tables = [self.read_file(0x10000, offset) for offset in (0x30000, 0x40000)]
        table = next(data for data in tables if data[:4] == b"regi" and self._checksum_is_right(data))
        regions: dict[bytes, int] = {}
        for index in range(int.from_bytes(table[8:12], "little")):
            entry = table[16 + 32 * index : 48 + 32 * index]
            regions[entry[:16]] = int.from_bytes(entry[16:24], "little")
        self.bat_offset = regions[BAT_REGION]
        base = regions[METADATA_REGION]
        table = self.read_file(0x10000, base)
        items: dict[bytes, bytes] = {}
        for index in range(int.from_bytes(table[10:12], "little")):
            entry = table[32 + 32 * index : 64 + 32 * index]
            offset, length, flags = struct.unpack_from("<III", entry, 16)
            if not flags & 1 and length:
                items[entry[:16]] = self.read_file(length, base + offset)
        self.block_size, parameters = struct.unpack("<II", items[FILE_PARAMETERS])
        self.has_parent = bool(parameters & 2)
        self.size = int.from_bytes(items[VIRTUAL_DISK_SIZE], "little")
        self.sector_size = int.from_bytes(items[LOGICAL_SECTOR_SIZE], "little")
        self.ratio = (1 << 23) * self.sector_size // self.block_size

    def entry(self, index: int) -> tuple[int, int]:
        """State and file offset of a BAT entry."""
        value = int.from_bytes(self.read_file(8, self.bat_offset + 8 * index), "little")
        return value & 7, value >> 20 << 20

    def sector_bit(self, sector: int) -> bool:
        """Whether the sector bitmap says that a sector is in this file."""
        chunk, bit = divmod(sector, 1 << 23)
        state, offset = self.entry(chunk * (self.ratio + 1) + self.ratio)
        if state not in (6, 7):
            raise ValueError("partially present block without sector bitmap")
        return bool(self.read_file(1, offset + bit // 8)[0] >> bit % 8 & 1)


class ReferenceDisk:
    """A chain of files as one disk."""

    def __init__(self, files: Sequence[object]) -> None:
        """Read the structures of all files, leaf first: bytes, or stores."""
        self.images = [ReferenceImage(file) for file in files]
        self.size = self.images[0].size
        self.sector_size = self.images[0].sector_size

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes of the disk."""
        first, last = offset // self.sector_size, -(-(offset + length) // self.sector_size)
        data = b"".join(self.read_sector(0, sector) for sector in range(first, last))
        start = offset - first * self.sector_size
        return data[start : start + length]

    def read_sector(self, depth: int, sector: int) -> bytes:
        """Read one sector as the image at `depth` and those below it hold it."""
        zeroes = bytes(self.sector_size)
        if depth == len(self.images):
            raise ValueError("the parent is missing")
        image = self.images[depth]
        at = sector * self.sector_size
        if at >= image.size:
            return zeroes
        block = at // image.block_size
        state, file_offset = image.entry(block + block // image.ratio)
        if state == 0:
            return self.read_sector(depth + 1, sector) if image.has_parent else zeroes
        if state in (1, 2, 3, 5):
            return zeroes
        if state == 4:
            raise ValueError("reserved state")
        if state == 7 and image.has_parent and not image.sector_bit(sector):
            return self.read_sector(depth + 1, sector)
        return image.read_file(self.sector_size, file_offset + at % image.block_size)
