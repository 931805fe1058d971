"""A store in memory, sparse: what was never written takes no space."""

import errno
import io
import os
import threading
from collections.abc import Iterator
from typing import Final

from vhdx._buffer import Buffer
from vhdx._units import MAX_FILE_OFFSET, div_ceil
from vhdx.storage.base import StoreExtent, StoreKind

PAGE_SIZE: Final = 1 << 16

_ZERO_PAGE: Final = bytes(PAGE_SIZE)


class MemoryStore:
    """Bytes in memory, in pages of 64 KiB of which only those written exist. Safe for many threads.

    Its extents are DATA for pages that exist, although the store has no descriptor, and HOLE for the others.
    With `writable=False` every change raises io.UnsupportedOperation.
    """

    def __init__(self, data: Buffer = b"", name: str = "memory", *, writable: bool = True) -> None:
        self.name = name
        self.writable = True
        self._pages: dict[int, bytearray] = {}
        self._size = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self.pwrite(data, 0)
        self.writable = writable

    def size(self) -> int:
        self._check_open()
        return self._size

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        self._check_open()
        with memoryview(buffer) as whole, whole.cast("B") as view, self._lock:
            self._check_offset(file_offset, 0)
            count = max(0, min(len(view), self._size - file_offset))
            done = 0
            while done < count:
                number, start = divmod(file_offset + done, PAGE_SIZE)
                length = min(count - done, PAGE_SIZE - start)
                page = self._pages.get(number, _ZERO_PAGE)
                view[done : done + length] = memoryview(page)[start : start + length]
                done += length
            return count

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        self._check_writable()
        with memoryview(data) as whole, whole.cast("B") as view, self._lock:
            self._check_offset(file_offset, len(view))
            done = 0
            while done < len(view):
                number, start = divmod(file_offset + done, PAGE_SIZE)
                length = min(len(view) - done, PAGE_SIZE - start)
                page = self._pages.get(number)
                if page is None:
                    page = self._pages[number] = bytearray(PAGE_SIZE)
                page[start : start + length] = view[done : done + length]
                done += length
            if done:
                self._size = max(self._size, file_offset + done)

    def truncate(self, size: int) -> None:
        self._check_writable()
        with self._lock:
            self._check_offset(0, size)
            if size < self._size:
                self._clear(size, self._size)
            self._size = size

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """As every store; pages that lie in the range as a whole are given up."""
        self._check_writable()
        with self._lock:
            self._check_offset(file_offset, length)
            if length:
                self._clear(file_offset, file_offset + length)
                self._size = max(self._size, file_offset + length)

    def _clear(self, start: int, end: int) -> None:
        first, last = div_ceil(start, PAGE_SIZE), end // PAGE_SIZE
        if end >= self._size:
            last = div_ceil(end, PAGE_SIZE)
        for number in self._numbers(first, last):
            del self._pages[number]
        # Pages that the range covers only in part: those of its two ends, which may be one page.
        for number in {start // PAGE_SIZE, end // PAGE_SIZE}:
            page = self._pages.get(number)
            if page is not None:
                low = max(start - number * PAGE_SIZE, 0)
                high = min(end - number * PAGE_SIZE, PAGE_SIZE)
                page[low:high] = bytes(high - low)

    def _numbers(self, first: int, last: int) -> list[int]:
        """Numbers of the pages that exist in [first, last), in order.

        The cost is bounded by the pages that exist, whatever the length of the range.
        """
        if last - first <= len(self._pages):
            return [number for number in range(first, last) if number in self._pages]
        return sorted(number for number in self._pages if first <= number < last)

    def flush(self) -> None:
        """Nothing to write: memory is all there is. Raises: ValueError if the store is closed."""
        self._check_open()

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """As every store: pages that exist are data."""
        self._check_open()
        self._check_offset(file_offset, 0)
        end = file_offset + length
        with self._lock:
            inside = min(end, self._size)
            last = div_ceil(inside, PAGE_SIZE) if inside > file_offset else 0
            numbers = self._numbers(file_offset // PAGE_SIZE, last)
        return _runs(numbers, file_offset, inside, end)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        """Give the memory up, and with it the content."""
        with self._lock:
            self._is_closed = True
            self._pages = {}
            self._size = 0

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(f"{self.name}: the store is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if not self.writable:
            raise io.UnsupportedOperation(f"{self.name}: not open for writing")

    def _check_offset(self, file_offset: int, length: int) -> None:
        if file_offset < 0 or length < 0:
            raise OSError(errno.EINVAL, "negative offset or length", self.name)
        if length and file_offset + length > MAX_FILE_OFFSET:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.name)


def _runs(numbers: list[int], position: int, inside: int, end: int) -> Iterator[StoreExtent]:
    """Extents of [position, end), of which [position, inside) is backed by the pages of these numbers."""
    index = 0
    while index < len(numbers):
        last = index
        while last + 1 < len(numbers) and numbers[last + 1] == numbers[last] + 1:
            last += 1
        start = max(position, numbers[index] * PAGE_SIZE)
        stop = min(inside, (numbers[last] + 1) * PAGE_SIZE)
        if start > position:
            yield StoreExtent(position, start - position, StoreKind.HOLE)
        yield StoreExtent(start, stop - start, StoreKind.DATA)
        position, index = stop, last + 1
    if position < end:
        yield StoreExtent(position, end - position, StoreKind.HOLE)
