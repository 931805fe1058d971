"""A file's bytes as pages that copies share: what thousands of crash states of one file are made of.

A page that is absent reads as zeroes, a page of zeroes is never kept, and nothing is kept past the end: two
contents are equal if and only if their pages and sizes are. Copying costs one dict of references.
"""

from collections.abc import Iterator
from typing import Final, Self

from vhdx._buffer import Buffer
from vhdx._units import div_ceil
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended

PAGE_SIZE: Final = 4096
SECTOR_SIZE: Final = 512
"""What a medium writes as one piece or not at all."""
ZERO_SECTOR: Final = bytes(SECTOR_SIZE)

_ZERO_PAGE: Final = bytes(PAGE_SIZE)
_PIECE: Final = 1 << 20


class Content:
    """See the module. Offsets and sizes in bytes of the file. Not safe for several threads at once."""

    __slots__ = ("pages", "size")

    def __init__(self, pages: dict[int, bytes] | None = None, size: int = 0) -> None:
        """`pages`: 4096 bytes each by page number; they are taken over, not copied."""
        self.pages = {} if pages is None else pages
        self.size = size

    @classmethod
    def of(cls, source: ByteStore | Buffer) -> Self:
        """Copy what a store or a buffer holds. Raises: OSError."""
        content = cls()
        if isinstance(source, bytes | bytearray | memoryview):
            content.write(source, 0)
            return content
        store: ByteStore = source  # type: ignore[assignment]  # a Buffer of another kind is none of ours
        content.size = store.size()
        for extent in store.extents(0, content.size):
            if extent.kind is not StoreKind.HOLE:
                for at in range(extent.file_offset, extent.file_offset + extent.length, _PIECE):
                    length = min(_PIECE, extent.file_offset + extent.length - at)
                    content.write(pread_zero_extended(store, length, at), at)
        return content

    def copy(self) -> "Content":
        """An independent content that shares the pages."""
        return Content(dict(self.pages), self.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content):
            return NotImplemented
        return self.size == other.size and self.pages == other.pages

    __hash__ = None  # type: ignore[assignment]  # it changes

    def read(self, length: int, file_offset: int) -> bytes:
        """`length` bytes, zeroes past the end."""
        number, start = divmod(file_offset, PAGE_SIZE)
        if start + length <= PAGE_SIZE:
            return self.pages.get(number, _ZERO_PAGE)[start : start + length]
        last = (file_offset + length - 1) // PAGE_SIZE
        get = self.pages.get
        joined = b"".join([get(page, _ZERO_PAGE) for page in range(number, last + 1)])
        return joined if len(joined) == length else joined[start : start + length]

    def read_into(self, view: memoryview, file_offset: int) -> int:
        """Fill a view with what lies before the end; return how many bytes that were."""
        count = max(0, min(len(view), self.size - file_offset))
        if count:
            view[:count] = self.read(count, file_offset)
        return count

    def write(self, data: Buffer, file_offset: int) -> None:
        """Put bytes in place, extending the file if need be."""
        with memoryview(data) as whole, whole.cast("B") as view:
            done, length = 0, len(view)
            while done < length:
                number, start = divmod(file_offset + done, PAGE_SIZE)
                count = min(length - done, PAGE_SIZE - start)
                piece = bytes(view[done : done + count])
                if count != PAGE_SIZE:
                    old = self.pages.get(number, _ZERO_PAGE)
                    piece = old[:start] + piece + old[start + count :]
                self._put(number, piece)
                done += count
            if done:
                self.size = max(self.size, file_offset + done)

    def clear(self, start: int, end: int) -> None:
        """Make a range read as zeroes; the size stays."""
        for number in self.numbers(start, end):
            low = max(start - number * PAGE_SIZE, 0)
            high = min(end - number * PAGE_SIZE, PAGE_SIZE)
            if high - low == PAGE_SIZE:
                del self.pages[number]
            else:
                old = self.pages[number]
                self._put(number, old[:low] + bytes(high - low) + old[high:])

    def truncate(self, size: int) -> None:
        """Set the size, up or down."""
        if size < self.size:
            self.clear(size, self.size)
        self.size = size

    def _put(self, number: int, page: bytes) -> None:
        if page == _ZERO_PAGE:
            self.pages.pop(number, None)
        else:
            self.pages[number] = page

    def numbers(self, start: int, end: int) -> list[int]:
        """Pages that exist and meet [start, end), in order."""
        first, last = start // PAGE_SIZE, div_ceil(end, PAGE_SIZE)
        if last - first <= len(self.pages):
            return [number for number in range(first, last) if number in self.pages]
        return sorted(number for number in self.pages if first <= number < last)

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the stretches of [start, end) that are backed by pages."""
        run_start, run_end = 0, -1
        for number in self.numbers(start, end):
            if number * PAGE_SIZE != run_end:
                if run_end >= 0:
                    yield max(run_start, start), run_end
                run_start = number * PAGE_SIZE
            run_end = (number + 1) * PAGE_SIZE
        if run_end >= 0:
            yield max(run_start, start), min(run_end, end)

    def windows(self, length: int) -> set[int]:
        """Offsets of the stretches, of a length that is a multiple of the page's, that hold anything but zeroes."""
        return {number * PAGE_SIZE // length * length for number in self.pages}

    def sectors(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every 512-byte sector that is not zero."""
        for number, page in self.pages.items():
            for index in range(PAGE_SIZE // SECTOR_SIZE):
                sector = page[index * SECTOR_SIZE : (index + 1) * SECTOR_SIZE]
                if sector != ZERO_SECTOR:
                    yield number * (PAGE_SIZE // SECTOR_SIZE) + index, sector
