"""A raw file or a block device as a BlockDevice: what it holds is the disk, byte for byte."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from vhdx import _host
from vhdx.blockdev.device import MAX_READ_AHEAD, Ability, Limits, Place, Range, check_range, clip_length
from vhdx.blockdev.extent import Extent, coalesce
from vhdx.blockdev.span import Span, SpanKind
from vhdx.errors import ImageClosedError, ImagePoisonedError, ReadOnlyImageError
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind, read_ahead, space_control
from vhdx.storage.file import FileStore
from vhdx.storage.zeroes import write_zeroes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx._buffer import Buffer

_SECTOR_SIZE: Final = 512
_PAGE_SIZE: Final = 4096


class RawDevice:
    """A disk stored as it is. See `DirectDevice` for the contract of the methods.

    The size, in bytes, is what it was when the device was opened, never changes, and need not be a multiple of
    anything. Safe for many threads. `close` must not run while another thread is inside a call.

    After a flush that failed, the system may have dropped what was written and call a second flush a success:
    every later call raises ImagePoisonedError.
    """

    def __init__(self, store: ByteStore, *, writable: bool = False) -> None:
        """Take over a store, which is closed with the device, and written to if `writable`. Raises: OSError."""
        self._store = store
        self._space = space_control(store)
        self._size = store.size()
        self._writable = writable
        self._is_closed = False
        self._failure: BaseException | None = None
        # One flush at a time: the system tells of a lost write to one of two that are under way at once.
        self._flush_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        source: str | bytes | os.PathLike[str] | os.PathLike[bytes] | ByteStore,
        *,
        writable: bool = False,
        lock: bool = True,
        no_lock_ok: bool = False,
    ) -> RawDevice:
        """Open a file or a block device by path, or use a store.

        `lock=False` takes no lock and minds nobody's; `no_lock_ok` writes where the file system has no locks.

        Raises: ImageLockedError if another process writes to it, or, for writing, has it open; OSError.
        """
        if isinstance(source, str | bytes | os.PathLike):
            store: ByteStore = FileStore.open(source, writable=writable, lock=lock, no_lock_ok=no_lock_ok)
        else:
            store = source
        try:
            return cls(store, writable=writable)
        except BaseException:
            store.close()
            raise

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
    def limits(self) -> Limits:
        """Abilities and preferred sizes. What the file system lacks shows when it is first asked for it."""
        sector_size = 1 if self._size % _SECTOR_SIZE else _SECTOR_SIZE
        limits = Limits(
            sector_size, _PAGE_SIZE, _PAGE_SIZE, ranges=Ability.NATIVE, block_status=Ability.NATIVE
        )
        if not self._writable:
            return limits
        zeroes_fast = self._space.can_zero_unwritten
        return limits._replace(
            writable=True,
            fua=Ability.EMULATED,
            trim=Ability.NATIVE if self._space.can_punch else Ability.NONE,
            write_zeroes=Ability.NATIVE if zeroes_fast else Ability.EMULATED,
            fast_zero=Ability.NATIVE if zeroes_fast else Ability.NONE,
        )

    # -- reading -----------------------------------------------------------------------------------------------

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at a virtual offset. Raises: RequestError, ImageStateError, OSError."""
        self._check_sound()
        check_range(self._size, offset, length)
        buffer = bytearray(length)
        self._fill(buffer, offset, length)
        return bytes(buffer)

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a buffer from a virtual offset. Raises: as `pread`."""
        self._check_sound()
        with memoryview(buffer) as view:
            length = view.nbytes
        check_range(self._size, offset, length)
        self._fill(buffer, offset, length)

    def _fill(self, buffer: Buffer, offset: int, length: int) -> None:
        if length and self._store.pread_into(buffer, offset) != length:
            raise self._shrunk()

    def cache(self, length: int, offset: int) -> None:
        """Say that a range will be read soon; of a long one the beginning counts.

        Raises: RequestError, ImageClosedError.
        """
        self._check_sound()
        check_range(self._size, offset, length)
        read_ahead(self._store, min(length, MAX_READ_AHEAD), offset)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Tell data from holes as the file system knows them.

        Raises: RequestError, ImageStateError; while iterating OSError.
        """
        self._check_sound()
        return coalesce(self._extents(offset, clip_length(self._size, offset, length)))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for start, count, kind in self._store_extents(offset, length):
            is_hole = kind is StoreKind.HOLE
            place = start if kind is StoreKind.DATA else None
            yield Extent(start, count, zero=is_hole, hole=is_hole, present=True, depth=0, file_offset=place)

    def _store_extents(self, offset: int, length: int) -> Iterator[StoreExtent]:
        if self._store.size() < offset + length:  # to the store, what lies past its end is a hole
            raise self._shrunk()
        return self._store.extents(offset, length)

    @contextmanager
    def ranges(self, offset: int, length: int) -> Iterator[Iterator[Range]]:
        """Tell where the content lies: in the store, at the same offset.

        Raises: RequestError, ImageStateError.
        """
        self._check_sound()
        check_range(self._size, offset, length)
        yield iter((Range(self._store, offset, length),) if length else ())

    # -- changing ----------------------------------------------------------------------------------------------

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write bytes at a virtual offset.

        Raises: RequestError, ReadOnlyImageError, ImageStateError, OSError.
        """
        with memoryview(data) as view:
            self._check_change(offset, view.nbytes)
            if view.nbytes:
                self._store.pwrite(view, offset)
        self._after(fua=fua)

    def write_zeroes(
        self,
        length: int,
        offset: int,
        *,
        may_unmap: bool = True,
        fua: bool = False,
        fast_only: bool = False,
    ) -> None:
        """Make a range read as zeroes; it keeps its host space unless `may_unmap`.

        `fast_only` raises OSError (EOPNOTSUPP), with nothing done, where the file system can only be written
        to. Raises: as `pwrite`.
        """
        self._check_change(offset, length)
        if length and not self._space.zero_unwritten(length, offset, may_punch=may_unmap):
            if fast_only:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), self.name)
            write_zeroes(self._store.pwrite, length, offset)
        self._after(fua=fua)

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Say that a range's content is not needed: it reads as zeroes where the file system takes it back.

        Elsewhere, and on a block device, which need not read as zeroes after it, nothing happens.
        Raises: as `pwrite`.
        """
        self._check_change(offset, length)
        self._space.punch_hole(length, offset)
        self._after(fua=fua)

    def flush(self) -> None:
        """Make everything durable whose call has returned. Raises: ImageStateError, OSError."""
        with self._flush_lock:
            self._check_sound()
            try:
                self._store.flush()
            except BaseException as error:
                self._failure = error
                raise

    def _after(self, *, fua: bool) -> None:
        if fua:
            self.flush()

    def _check_change(self, offset: int, length: int) -> None:
        self._check_sound()
        if not self._writable:
            raise ReadOnlyImageError(f"{self.name}: the device is open for reading")
        check_range(self._size, offset, length)

    # -- direct access -----------------------------------------------------------------------------------------

    def pin(self) -> int:
        """Nothing to do: a place is the same for ever. Raises: ImageStateError."""
        self._check_sound()
        return 0

    def unpin(self, pin: int) -> None:
        """Nothing to do."""

    def place(self, offset: int, length: int) -> Place | None:
        """Where a range stands: at the same offset of the file.

        None if it is no range, if there is no descriptor, or if the system reads from none at an offset.
        """
        if not _host.HAVE_PREADV or self._is_closed or self._failure:
            return None
        if offset < 0 or length <= 0 or offset + length > self._size:
            return None
        fd = self._store.fileno()
        return None if fd is None else Place(fd, offset)

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether writing a range only overwrites what is there: always, if it is a range."""
        is_usable = self._writable and not self._is_closed and self._failure is None
        return is_usable and min(offset, length) >= 0 and offset + length <= self._size

    # -- as the lowest layer of a chain ------------------------------------------------------------------------

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Split a range by where its content comes from. Raises: OSError."""
        for start, count, kind in self._store_extents(offset, length):
            yield Span(SpanKind.ZERO if kind is StoreKind.HOLE else SpanKind.DATA, start, count, start)

    def plain_file_offset(self, offset: int, length: int) -> int:  # noqa: ARG002 - every range is plain
        """File offset of a range."""
        return offset

    def close(self) -> None:
        """Make everything durable and close the store; calling it twice does nothing. Raises: OSError."""
        if self._is_closed:
            return
        try:
            if self._writable and self._failure is None:
                self.flush()
        finally:
            self._is_closed = True
            self._store.close()

    def __enter__(self) -> RawDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_sound(self) -> None:
        if self._is_closed:
            raise ImageClosedError(f"{self.name}: the device is closed")
        if self._failure is not None:
            raise ImagePoisonedError(
                f"{self.name}: an earlier flush failed ({self._failure!r}), and what was written before it may"
                " be lost; close the device and look at what it holds"
            ) from self._failure

    def _shrunk(self) -> OSError:
        return OSError(errno.EIO, "the file has become shorter while it was open", self.name)
