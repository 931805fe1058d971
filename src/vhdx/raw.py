"""A raw file or a block device as a BlockDevice: what it holds is the disk, byte for byte."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vhdx._buffer import Buffer
from vhdx.blockdev.device import MAX_READ_AHEAD, Ability, Limits, Range, check_range, clip_length
from vhdx.blockdev.extent import Extent, coalesce
from vhdx.errors import ImageClosedError
from vhdx.storage.base import ByteStore, StoreKind, read_ahead
from vhdx.storage.file import FileStore

_SECTOR_SIZE = 512
_PAGE_SIZE = 4096


class RawDevice:
    """A disk stored as it is. Reading only; see `BlockDevice` for the contract of the methods.

    The size, in bytes, is what it was when the device was opened, and need not be a multiple of anything.
    Safe for many threads. `close` must not run while another thread is inside a call.
    """

    def __init__(self, store: ByteStore) -> None:
        """Take over a store, which is closed with the device. Raises: OSError."""
        self._store = store
        self._size = store.size()
        self._is_closed = False

    @classmethod
    def open(
        cls, source: str | bytes | os.PathLike[str] | os.PathLike[bytes] | ByteStore, *, lock: bool = True
    ) -> "RawDevice":
        """Open a file or a block device by path, or use a store. `lock=False` minds nobody's locks.

        Raises: ImageLockedError if another process writes to it; OSError.
        """
        if isinstance(source, str | bytes | os.PathLike):
            store: ByteStore = FileStore.open(source, lock=lock)
        else:
            store = source
        try:
            return cls(store)
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
        """Abilities and preferred sizes."""
        return Limits(
            _SECTOR_SIZE, _PAGE_SIZE, _PAGE_SIZE, ranges=Ability.NATIVE, block_status=Ability.NATIVE
        )

    def pread(self, length: int, offset: int) -> bytes:
        """Read `length` bytes at a virtual offset. Raises: RequestError, ImageClosedError, OSError."""
        self._check_open()
        check_range(self._size, offset, length)
        buffer = bytearray(length)
        self._fill(buffer, offset, length)
        return bytes(buffer)

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a buffer from a virtual offset. Raises: RequestError, ImageClosedError, OSError."""
        self._check_open()
        with memoryview(buffer) as view:
            length = view.nbytes
        check_range(self._size, offset, length)
        self._fill(buffer, offset, length)

    def _fill(self, buffer: Buffer, offset: int, length: int) -> None:
        if length and self._store.pread_into(buffer, offset) != length:
            raise OSError(errno.EIO, "the file has become shorter while it was read", self.name)

    def cache(self, length: int, offset: int) -> None:
        """Say that a range will be read soon; of a long one the beginning counts.

        Raises: RequestError, ImageClosedError.
        """
        self._check_open()
        check_range(self._size, offset, length)
        read_ahead(self._store, min(length, MAX_READ_AHEAD), offset)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Tell data from holes as the file system knows them.

        Raises: RequestError, ImageClosedError; while iterating OSError.
        """
        self._check_open()
        return coalesce(self._extents(offset, clip_length(self._size, offset, length)))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for start, count, kind in self._store.extents(offset, length):
            is_hole = kind is StoreKind.HOLE
            place = start if kind is StoreKind.DATA else None
            yield Extent(start, count, zero=is_hole, hole=is_hole, present=True, depth=0, file_offset=place)

    @contextmanager
    def ranges(self, offset: int, length: int) -> Iterator[Iterator[Range]]:
        """Tell where the content lies: in the store, at the same offset.

        Raises: RequestError, ImageClosedError.
        """
        self._check_open()
        check_range(self._size, offset, length)
        yield iter((Range(self._store, offset, length),) if length else ())

    def close(self) -> None:
        """Close the store; calling it twice does nothing. Raises: OSError."""
        self._is_closed = True
        self._store.close()

    def __enter__(self) -> "RawDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ImageClosedError(f"{self.name}: the device is closed")
