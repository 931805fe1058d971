"""Stores for tests of writing: one that tells what was asked of it and fails when told to, and a frozen view."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from vhdx._buffer import Buffer
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind, pread_zero_extended


class Call(NamedTuple):
    """A call that changes a store, or flushes it. Bytes of the file."""

    name: str
    file_offset: int
    length: int


class WatchedStore:
    """Passes everything on and remembers what changed it.

    `before` is called ahead of every change and flush, and may raise; `before_read` ahead of every read.
    """

    def __init__(self, base: ByteStore) -> None:
        self.base = base
        self.name = base.name
        self.calls: list[Call] = []
        self.before: Callable[[Call], None] = lambda _: None
        self.before_read: Callable[[int], None] = lambda _: None

    @property
    def flushes(self) -> int:
        """How often the store was flushed."""
        return sum(call.name == "flush" for call in self.calls)

    def count_flushes(self, action: Callable[[], object]) -> int:
        """How often an action flushes the store."""
        before = self.flushes
        action()
        return self.flushes - before

    def size(self) -> int:
        return self.base.size()

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        self.before_read(file_offset)
        return self.base.pread_into(buffer, file_offset)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        with memoryview(data) as view:
            self._note("pwrite", file_offset, view.nbytes)
        self.base.pwrite(data, file_offset)

    def truncate(self, size: int) -> None:
        self._note("truncate", size, 0)
        self.base.truncate(size)

    def write_zeroes(self, length: int, file_offset: int) -> None:
        self._note("write_zeroes", file_offset, length)
        self.base.write_zeroes(length, file_offset)

    def flush(self) -> None:
        self._note("flush", 0, 0)
        self.base.flush()

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        return self.base.extents(file_offset, length)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    def host_calls(self) -> list[str]:
        """Names of the calls that took host space or gave it back, in order."""
        return [call.name for call in self.calls if call.name in ("reserve", "punch_hole", "write_zeroes")]

    def _note(self, name: str, file_offset: int, length: int) -> None:
        call = Call(name, file_offset, length)
        self.before(call)
        self.calls.append(call)


class HostStore(WatchedStore):
    """A watched store on a host whose space can be reserved and given back."""

    can_punch = True
    can_zero_unwritten = False

    def reserve(self, length: int, file_offset: int) -> bool:
        self._note("reserve", file_offset, length)
        if file_offset + length > self.base.size():
            self.base.truncate(file_offset + length)
        return True

    def punch_hole(self, length: int, file_offset: int) -> None:
        self._note("punch_hole", file_offset, length)
        self.base.write_zeroes(length, file_offset)

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:
        return False


class View:
    """Read access to a store for readers that remember what they were given: every view is another object."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store

    def size(self) -> int:
        return self._store.size()

    def pread_into(self, buffer: bytearray, file_offset: int) -> int:
        return self._store.pread_into(buffer, file_offset)


def file_bytes(store: ByteStore) -> dict[int, bytes]:
    """What a file holds, to compare: pages that are not zero by their file offset, and the size as -1."""
    size = store.size()
    found = {-1: size.to_bytes(8, "little")}
    for extent in store.extents(0, size):
        if extent.kind is not StoreKind.HOLE:
            for at in range(extent.file_offset, extent.file_offset + extent.length, 65536):
                length = min(65536, extent.file_offset + extent.length - at)
                page = pread_zero_extended(store, length, at)
                if page.count(0) != length:
                    found[at] = page
    return found
