"""A raw file or a block device as a disk: what it holds is the disk, byte for byte."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Final

from vhdx._handles import close_at_exit
from vhdx.blockdev.device import Ability, Limits, Range
from vhdx.blockdev.span import Span, SpanKind
from vhdx.disks.layered_device import LayeredDevice
from vhdx.errors import ImagePoisonedError
from vhdx.storage.base import ByteStore, StoreKind, shrunk, space_control
from vhdx.storage.source import open_store
from vhdx.storage.zeroes import write_zeroes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.blockdev.device import DiskReader
    from vhdx.findings import Finding
    from vhdx.storage.source import Owned, Source

_SECTOR_SIZE: Final = 512
_PAGE_SIZE: Final = 4096


class RawDevice(LayeredDevice):
    """A disk stored as it is.

    The size, in bytes, is what it was when the device was opened, never changes, and need not be a multiple of
    anything. Safe for many threads. `close` must not run while another thread is inside a call.

    After a flush that failed, the system may have dropped what was written and call a second flush a success:
    every later call raises ImagePoisonedError.
    """

    _how_to_write = "open it with writable=True"
    _writer: RawWriter | None

    def __init__(self, store: ByteStore, *, writable: bool = False) -> None:
        """Take over a store, which is closed with the device, and written to if `writable`. Raises: OSError."""
        self._store = store
        self._size = store.size()
        super().__init__((self,), RawWriter(store) if writable else None)
        # Also beside a writer: bytes keep their places, and `plain_file_offset` tells of a flush that failed.
        self._end = self._size

    @classmethod
    def open(
        cls,
        source: Source | Owned | bytes,
        *,
        writable: bool = False,
        lock: bool = True,
        no_lock_ok: bool = False,
    ) -> RawDevice:
        """Open a file or a block device by path, or use a binary file object, or take over a store.

        `lock=False` takes no lock and minds nobody's; `no_lock_ok` writes where the file system has no locks.

        Raises: ImageLockedError if another process writes to it, or, for writing, has it open; OSError.
        """
        if isinstance(source, bytes):
            source = os.fsdecode(source)
        store, _ = open_store(source, writable=writable, lock=lock, no_lock_ok=no_lock_ok)
        try:
            device = cls(store, writable=writable)
        except BaseException:
            store.close()
            raise
        if writable:
            close_at_exit(device)
        return device

    def __repr__(self) -> str:
        return f"<RawDevice {self.name} {self.size} bytes, {self._state}>"

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self._store.name

    @property
    def store(self) -> ByteStore:
        """Where the bytes live."""
        return self._store

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    @property
    def findings(self) -> list[Finding]:
        """None: every content is a sound disk."""
        return []

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes. What the file system lacks shows when it is first asked for it."""
        sector_size = 1 if self._size % _SECTOR_SIZE else _SECTOR_SIZE
        limits = Limits(
            sector_size, _PAGE_SIZE, _PAGE_SIZE, ranges=Ability.NATIVE, block_status=Ability.NATIVE
        )
        if self._writer is None:
            return limits
        space = space_control(self._store)
        zeroes_fast = space.can_zero_unwritten
        return limits._replace(
            writable=True,
            fua=Ability.EMULATED,
            trim=Ability.NATIVE if space.can_punch else Ability.NONE,
            write_zeroes=Ability.NATIVE if zeroes_fast else Ability.EMULATED,
            fast_zero=Ability.NATIVE if zeroes_fast else Ability.NONE,
        )

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Tell data from holes as the file system knows them. Raises: OSError."""
        if self._store.size() < offset + length:  # to the store, what lies past its end is a hole
            raise shrunk(self.name)
        for start, count, kind in self._store.extents(offset, length):
            yield Span(SpanKind.ZERO if kind is StoreKind.HOLE else SpanKind.DATA, start, count, start)

    def plain_file_offset(self, offset: int, length: int) -> int:  # noqa: ARG002 - every range is plain
        """The same offset; -1 once a flush has failed, so that nothing is read past the refusal."""
        return offset if self._writer is None or self._writer.failure is None else -1

    def _ranges(self, offset: int, length: int) -> Iterator[Range]:
        # Not by spans: whoever copies asks for the holes of a file only once, for all of it.
        if length:
            yield Range(self._store, offset, length)

    def _close_layers(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._store.close()


class RawWriter:
    """Changes a raw disk: every byte is written where it stands, and nothing has to be kept in order."""

    def __init__(self, store: ByteStore) -> None:
        self.in_flight: Final = _NothingMoves()
        self.failure: BaseException | None = None
        """What a flush raised."""
        self._store = store
        self._space = space_control(store)
        # One flush at a time: the system tells of a lost write to one of two that are under way at once.
        self._flush_lock = threading.Lock()

    def check_sound(self) -> None:
        """Raises: ImagePoisonedError."""
        if self.failure is not None:
            raise ImagePoisonedError(
                f"{self._store.name}: an earlier flush failed ({self.failure!r}), and what was written before it"
                " may be lost; close the device and look at what it holds"
            ) from self.failure

    def write(self, data: memoryview, offset: int, read: DiskReader) -> None:  # noqa: ARG002 - bytes need no company
        """Write bytes."""
        self.check_sound()
        if data:
            self._store.pwrite(data, offset)

    def write_zeroes(
        self,
        offset: int,
        length: int,
        read: DiskReader,  # noqa: ARG002
        *,
        may_unmap: bool,
        fast_only: bool,
    ) -> None:
        """Zero without writing where the file system can, else write zeroes."""
        self.check_sound()
        if not length or self._space.zero_unwritten(length, offset, may_punch=may_unmap):
            return
        if fast_only:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), self._store.name)
        write_zeroes(self._store.pwrite, length, offset)

    def trim(self, offset: int, length: int) -> None:
        """Punch a hole where the file system takes space back; a block device is left alone.

        A block device that has been told to discard need not read as zeroes.
        """
        self.check_sound()
        self._space.punch_hole(length, offset)

    def writes_in_place(self, offset: int, length: int) -> bool:  # noqa: ARG002 - every write does
        """Whether writing is possible at all."""
        return self.failure is None

    def flush(self) -> None:
        """Flush the store."""
        with self._flush_lock:
            self.check_sound()
            try:
                self._store.flush()
            except BaseException as error:
                self.failure = error
                raise

    def close(self) -> None:
        """Flush, unless a flush has failed."""
        if self.failure is None:
            self.flush()


class _NothingMoves:
    """Tickets of a file whose bytes keep their places."""

    def begin(self) -> int:
        return 0

    def pin(self) -> int:
        return 0

    def end(self, ticket: int, /) -> None:
        pass
