"""Stores that stand before another store: one that passes everything on, one that is watched, one that counts.

    store = WatchedStore(image.build_store())
    store.before = fail_on("flush", OSError("the disk is gone"))     # a flush fails, and all that follow

Whoever needs a store that does one call differently inherits from `PassingStore` and writes that call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vhdx._buffer import Buffer
from vhdx.storage.base import ByteStore, StoreExtent


class PassingStore:
    """Passes every call on to another store, but for `fileno` and `close`."""

    def __init__(self, base: ByteStore) -> None:
        self.base = base
        self.name = base.name

    def size(self) -> int:
        return self.base.size()

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        return self.base.pread_into(buffer, file_offset)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        self.base.pwrite(data, file_offset)

    def truncate(self, size: int) -> None:
        self.base.truncate(size)

    def write_zeroes(self, length: int, file_offset: int) -> None:
        self.base.write_zeroes(length, file_offset)

    def flush(self) -> None:
        self.base.flush()

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        return self.base.extents(file_offset, length)

    def fileno(self) -> int | None:
        """None: nobody goes past this store to the descriptor."""
        return None

    def close(self) -> None:
        """Leave the base open: it is the caller's."""


class StoreCall(NamedTuple):
    """A call of a store: its name, and the bytes of the file that it is about (of "truncate", the new size)."""

    name: str
    file_offset: int
    length: int


class WatchedStore(PassingStore):
    """Remembers in `calls` what changed and flushed the base.

    `before` is called ahead of every change and flush, `before_read` ahead of every read. Either may raise, and the
    call fails; or wait, and the call is held up.
    """

    def __init__(self, base: ByteStore) -> None:
        super().__init__(base)
        self.calls: list[StoreCall] = []
        self.before: Callable[[StoreCall], None] = lambda _: None
        self.before_read: Callable[[StoreCall], None] = lambda _: None

    @property
    def flushes(self) -> int:
        """How often the store was flushed."""
        return sum(call.name == "flush" for call in self.calls)

    def count_flushes(self, action: Callable[[], object]) -> int:
        """How often an action flushes the store."""
        before = self.flushes
        action()
        return self.flushes - before

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        self.before_read(StoreCall("pread", file_offset, _length_of(buffer)))
        return super().pread_into(buffer, file_offset)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        self._note("pwrite", file_offset, _length_of(data))
        super().pwrite(data, file_offset)

    def truncate(self, size: int) -> None:
        self._note("truncate", size, 0)
        super().truncate(size)

    def write_zeroes(self, length: int, file_offset: int) -> None:
        self._note("write_zeroes", file_offset, length)
        super().write_zeroes(length, file_offset)

    def flush(self) -> None:
        self._note("flush", 0, 0)
        super().flush()

    def _note(self, name: str, file_offset: int, length: int) -> None:
        call = StoreCall(name, file_offset, length)
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

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:  # noqa: ARG002
        return False


def fail_on(name: str, error: BaseException, *, nth: int = 1, above: int = 0) -> Callable[[StoreCall], None]:
    """A value for `WatchedStore.before`: the nth call of this name at or above an offset raises, and all after it."""
    count = 0

    def before(call: StoreCall) -> None:
        nonlocal count
        if call.name == name and call.file_offset >= above:
            count += 1
            if count >= nth:
                raise error

    return before


class StoreChangedError(AssertionError):
    """A store that was only to be read has been asked to change."""


@dataclass(slots=True)
class Work:
    """What was read. Bytes, but for the counts."""

    bytes_read: int = 0
    reads: int = 0
    largest_read: int = 0
    extent_calls: int = 0

    def clear(self) -> None:
        """Begin anew."""
        self.bytes_read = self.reads = self.largest_read = self.extent_calls = 0


class CountingStore(PassingStore):
    """Counts what is read, so that a test can bound it by numbers instead of seconds; refuses every change."""

    def __init__(self, base: ByteStore, work: Work | None = None) -> None:
        """`work`: where to count, if several stores are to be counted together."""
        super().__init__(base)
        self.work = Work() if work is None else work

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        # The length that was asked for, not the length that was there: it is never less, and it costs memory.
        length = _length_of(buffer)
        self.work.bytes_read += length
        self.work.reads += 1
        self.work.largest_read = max(self.work.largest_read, length)
        return super().pread_into(buffer, file_offset)

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        self.work.extent_calls += 1
        return super().extents(file_offset, length)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        """Raises: StoreChangedError."""
        raise StoreChangedError(f"write of {_length_of(data)} bytes at {file_offset:#x}")

    def truncate(self, size: int) -> None:
        """Raises: StoreChangedError."""
        raise StoreChangedError(f"truncation to {size:#x}")

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """Raises: StoreChangedError."""
        raise StoreChangedError(f"{length} zeroes at {file_offset:#x}")

    def flush(self) -> None:
        """Raises: StoreChangedError: who only reads has nothing to flush."""
        raise StoreChangedError("flush")


def _length_of(buffer: Buffer) -> int:
    return len(buffer) if type(buffer) is bytearray else memoryview(buffer).nbytes
