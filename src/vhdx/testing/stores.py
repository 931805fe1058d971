"""Counts the work that the library does, so that tests can bound it by numbers instead of seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vhdx._buffer import Buffer
from vhdx.format import checksum
from vhdx.storage.base import ByteStore, StoreExtent


class StoreChangedError(AssertionError):
    """A store that was only to be read has been asked to change."""


@dataclass(slots=True)
class Work:
    """What was done. Bytes, but for the counts."""

    bytes_read: int = 0
    reads: int = 0
    largest_read: int = 0
    extent_calls: int = 0
    bytes_checksummed: int = 0

    def clear(self) -> None:
        """Begin anew."""
        self.bytes_read = self.reads = self.largest_read = 0
        self.extent_calls = self.bytes_checksummed = 0


class CountingStore:
    """Passes reads on and counts them in `work`; every attempt to change the store is an error."""

    def __init__(self, base: ByteStore, work: Work | None = None) -> None:
        self.base = base
        self.name = base.name
        self.work = Work() if work is None else work

    def size(self) -> int:
        """As the base."""
        return self.base.size()

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """As the base, counted. Raises: OSError."""
        count = self.base.pread_into(buffer, file_offset)
        wanted = len(buffer) if type(buffer) is bytearray else memoryview(buffer).nbytes
        # What was asked for costs memory, what was there costs time: the former is never less.
        self.work.bytes_read += wanted
        self.work.reads += 1
        self.work.largest_read = max(self.work.largest_read, wanted)
        return count

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """As the base, counted. Raises: OSError."""
        self.work.extent_calls += 1
        return self.base.extents(file_offset, length)

    def fileno(self) -> int | None:
        """None, so that nothing passes by the counter."""
        return None

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        """Refuse. Raises: StoreChangedError."""
        raise StoreChangedError(f"write of {memoryview(data).nbytes} bytes at {file_offset:#x}")

    def truncate(self, size: int) -> None:
        """Refuse. Raises: StoreChangedError."""
        raise StoreChangedError(f"truncation to {size:#x}")

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """Refuse. Raises: StoreChangedError."""
        raise StoreChangedError(f"{length} zeroes at {file_offset:#x}")

    def flush(self) -> None:
        """Refuse: who only reads has nothing to flush. Raises: StoreChangedError."""
        raise StoreChangedError("flush")

    def close(self) -> None:
        """Leave the base open: it is the caller's."""


@contextmanager
def counted_checksums(work: Work) -> Iterator[None]:
    """Count the bytes that go through CRC-32C, in the whole process."""
    module: Any = checksum
    plain = module.iscsi

    def counting(data: Buffer, *initial: int) -> int:
        work.bytes_checksummed += memoryview(data).nbytes
        result: int = plain(data, *initial)
        return result

    module.iscsi = counting
    try:
        yield
    finally:
        module.iscsi = plain
