"""Stores for tests: one that counts what is read, one that refuses to be changed."""

from collections.abc import Iterator

from vhdx._buffer import Buffer
from vhdx.storage.base import StoreExtent
from vhdx.storage.memory import MemoryStore


class CountingStore:
    """Passes everything on and counts bytes read; any attempt to write fails the test."""

    def __init__(self, base: MemoryStore) -> None:
        self.base = base
        self.name = base.name
        self.bytes_read = 0
        self.largest_read = 0

    def size(self) -> int:
        return self.base.size()

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        count = self.base.pread_into(buffer, file_offset)
        with memoryview(buffer) as view:
            self.largest_read = max(self.largest_read, view.nbytes)
        self.bytes_read += count
        return count

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        raise AssertionError("an image open for reading was written")

    def truncate(self, size: int) -> None:
        raise AssertionError("an image open for reading was truncated")

    def write_zeroes(self, length: int, file_offset: int) -> None:
        raise AssertionError("an image open for reading was zeroed")

    def flush(self) -> None:
        raise AssertionError("an image open for reading was flushed")

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        return self.base.extents(file_offset, length)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self.base.close()
