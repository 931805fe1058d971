"""A faster reference reader: it decides for runs of sectors at a time, and fetches no byte twice.

`ReferenceDisk` takes seconds for a disk of a few MiB whose log is dirty. This one remembers BAT entries, reads
bitmaps a page at a time, and has checksums computed by C code. It finds and parses every structure as
`ReferenceDisk` does, and shares nothing else with the library.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from fastcrc.crc32 import iscsi

from vhdx.testing.image.reference import SECTOR, ReferenceDisk, ReferenceImage

_PAGE = 4096


@lru_cache(maxsize=64)
def quick_image(source: object) -> "QuickImage":
    """The image in a store; remembered, because the parents of mutants are always the same few."""
    return QuickImage(source)


class QuickImage(ReferenceImage):
    """One file of a chain. Its store must not change."""

    crc32c: Callable[[bytes], int] = staticmethod(iscsi)

    def __init__(self, source: object) -> None:
        """Read the structures. Raises: ValueError, KeyError, StopIteration for an image that is not sound."""
        self._entries: dict[int, tuple[int, int]] = {}
        self._pages: dict[int, bytes] = {}
        super().__init__(source)

    def read_file(self, length: int, offset: int) -> bytes:
        if offset + length > self.file_size:
            raise ValueError("read past the end of the file")
        result = bytearray(length)
        self.file.pread_into(result, offset)
        last = (offset + length - 1) // SECTOR
        if len(self.sectors) < last - offset // SECTOR:
            numbers = [number for number in self.sectors if offset // SECTOR <= number <= last]
        else:
            numbers = [number for number in range(offset // SECTOR, last + 1) if number in self.sectors]
        for number in numbers:
            start, stop = max(number * SECTOR, offset), min((number + 1) * SECTOR, offset + length)
            within = start - number * SECTOR
            result[start - offset : stop - offset] = self.sectors[number][within : within + stop - start]
        return bytes(result)

    def entry(self, index: int) -> tuple[int, int]:
        found = self._entries.get(index)
        if found is None:
            found = self._entries[index] = super().entry(index)
        return found

    def sector_bit(self, sector: int) -> bool:
        chunk, bit = divmod(sector, 1 << 23)
        state, offset = self.entry(chunk * (self.ratio + 1) + self.ratio)
        if state not in (6, 7):
            raise ValueError("partially present block without sector bitmap")
        number, within = divmod(offset + bit // 8, _PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self.read_file(_PAGE, number * _PAGE)
        return bool(page[within] >> bit % 8 & 1)


class _Run(NamedTuple):
    """Neighbouring sectors that lie together in one file; depth None stands for zeroes. Bytes."""

    depth: int | None
    file_offset: int
    length: int


class QuickDisk(ReferenceDisk):
    """A chain of files as one disk."""

    def __init__(self, files: Sequence[object]) -> None:
        """Read the structures of all files, leaf first. Raises: as QuickImage."""
        self.images: list[ReferenceImage] = [quick_image(file) for file in files]
        self.size = self.images[0].size
        self.sector_size = self.images[0].sector_size

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes of the disk. Raises: ValueError where the disk is not sound."""
        position = offset // self.sector_size * self.sector_size
        end = -(-(offset + length) // self.sector_size) * self.sector_size
        start = offset - position
        pieces: list[bytes] = []
        while position < end:
            depth, file_offset, size = self._run(position, end - position)
            if depth is None:
                pieces.append(bytes(size))
            else:
                pieces.append(self.images[depth].read_file(size, file_offset))
            position += size
        return b"".join(pieces)[start : start + length]

    def _run(self, at: int, length: int) -> _Run:
        """Which file holds the sectors from `at` on, and up to where. As `ReferenceDisk.read_sector`."""
        for depth, image in enumerate(self.images):
            if at >= image.size:
                return _Run(None, 0, length)
            block, within = divmod(at, image.block_size)
            length = min(length, image.block_size - within, image.size - at)
            state, file_offset = image.entry(block + block // image.ratio)
            if state == 7 and image.has_parent:
                first = at // self.sector_size
                count = length // self.sector_size
                bit = image.sector_bit(first)
                same = (number for number in range(1, count) if image.sector_bit(first + number) != bit)
                length = next(same, count) * self.sector_size
                state = 6 if bit else 0
            if state == 4:
                raise ValueError("reserved state")
            if state in (6, 7):
                return _Run(depth, file_offset + within, length)
            if state != 0 or not image.has_parent:
                return _Run(None, 0, length)
        raise ValueError("the parent is missing")
